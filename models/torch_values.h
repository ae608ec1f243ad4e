/* torch_values.h - what torch.save pickled, as tensors: storages, _rebuild_tensor_v2, wrappers and prefixes.
 *
 *     torch_storages s = {0};
 *     torch_storages_collect(&s, pickle, "model.pt", &e);          // every storage that the pickle speaks of
 *     for (size_t i = 0; i < s.count; i++) s.item[i].data = ...;   // where its bytes are, checked against the file
 *     torch_tensors_add(t, &s, pickle_root(pickle), "model.pt", &e);
 *     torch_storages_free(&s);
 *
 * Nothing is called: a call means a tensor where its global is one of torch's three, and nothing otherwise.
 */
#ifndef TORCH_VALUES_H
#define TORCH_VALUES_H
#include "files/pickle.h"
#include "models/containers.h"

typedef struct {
    const char *key; /* of key_length letters, none of them a path's */
    size_t key_length;
    const char *type; /* NULL: a class of numbers that is not known */
    size_t count;     /* numbers */
    const unsigned char *data; /* NULL: not in the file */
    size_t bytes;              /* that are there */
} torch_storage;
typedef struct {
    torch_storage *item; /* by key */
    size_t count, room;
} torch_storages;

bool torch_storages_collect(torch_storages *s, const pickle *p, const char *name, err *e);
torch_storage *torch_storage_find(const torch_storages *s, const char *key, size_t length);
void torch_storages_free(torch_storages *s);

/* The tensors of a state dict, of a training checkpoint that wraps one, or of a TorchScript archive's module tree. */
bool torch_tensors_add(tensors *t, const torch_storages *s, const pickle_value *root, const char *name, err *e);
#endif
