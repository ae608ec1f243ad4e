/* tensors.h - the named tensors of a checkpoint, in whatever files they lie.
 *
 *     tensors *t = tensors_open("model.safetensors", &e);      // any row of containers.h's table, or an index of shards
 *     const file_tensor *w = tensors_find(t, "visual.proj");        // NULL: there is none
 *     const unsigned char *p = tensor_bytes(w, &e);            // row-major; mapped where it lies so in the file
 *     tensors_free(t);
 *
 * Opening reads names, types, shapes and places; numbers are touched when they are used. Files whose tensors have
 * names of their own (clip.cpp's GGUF, big_vision's npz) show Hugging Face's here, so that checkpoint.c knows published
 * layouts and not containers; a file that says or implies its settings gives them as the JSON of one of the two
 * families' configs.
 */
#ifndef TENSORS_H
#define TENSORS_H
#include "sys/err.h"

enum { TENSOR_RANK = 8 };
typedef struct tensors tensors;
typedef struct {
    const char *name;
    const char *type;                                     /* safetensors' dtype, or GGUF's: "Q4_0" */
    const char *file;                                     /* for messages */
    size_t shape[TENSOR_RANK], stride[TENSOR_RANK], rank; /* strides in numbers; 0 repeats one number */
    const unsigned char *data; /* the first number, any alignment; NULL: packed in the file, tensor_bytes unpacks it */
    size_t bytes;              /* of all its numbers, row-major */
    size_t place;              /* the container's own: where a packed one lies */
    tensors *owner;
    const void *origin; /* the file_tensor in the set that it was taken over from; NULL: this one */
} file_tensor;

/* path: a file of any container, or an index of shards (.index.json). The message names the file at fault. */
tensors *tensors_open(const char *path, err *e);
/* The same from a file in memory, which must outlive the result; name is what messages call it. */
tensors *tensors_parse(const unsigned char *bytes, size_t length, const char *name, err *e);
/* AlphaCLIP: the tensors of path, those of `overlay` (an image side without its prefix) in place of its visual.*. */
tensors *tensors_overlay(const char *path, const char *overlay, err *e);
void tensors_free(tensors *t);

size_t tensors_count(const tensors *t);
const file_tensor *tensors_at(const tensors *t, size_t i); /* in the file's order */
const file_tensor *tensors_find(const tensors *t, const char *name);
const char *tensors_name(const tensors *t);           /* the path it was opened by */
const char *tensors_container(const tensors *t);      /* "safetensors", "PyTorch zip"... */
size_t tensors_files(const tensors *t);               /* more than one when sharded */
/* The settings that the file says or implies, as a config's JSON; NULL: it says nothing. */
const char *tensors_config(const tensors *t);
/* The pixels' part of those, as a preprocessor_config.json; NULL: it says nothing. */
const char *tensors_pixels(const tensors *t);
/* The merges that the file holds, as merges.txt has them; NULL: none. */
const char *tensors_merges(const tensors *t);
/* What was left unread and why, a line each ("optimizer: not needed"). */
size_t tensors_notes(const tensors *t);
const char *tensors_note(const tensors *t, size_t i);

/* Letters in front of a name by which training programs wrap a model: "module." and "_orig_mod.", none or several. */
size_t tensor_wrapping(const char *name, size_t length);
/* Numbers in the tensor: the product of its shape. */
size_t tensor_size(const file_tensor *w);
/* Numbers row-major, as their type stores them: the mapped file's where they lie so, else put in order once, in memory
 * of the set. NULL: no memory, or a packed record that is damaged. Not for two threads at once. */
const unsigned char *tensor_bytes(const file_tensor *w, err *e);
/* The same where a matrix [rows, cols] of all its numbers is wanted, and column order will do: *transposed says that the
 * bytes are [cols, rows]. */
const unsigned char *tensor_matrix(const file_tensor *w, size_t rows, size_t cols, bool *transposed, err *e);
#endif
