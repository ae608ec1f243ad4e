/* part.h - a small network beside a CLIP: one list of its weights, which reader, writer and trainer share.
 *
 *     part_list l = {0};
 *     captioner_weights(&net, &shape, &l);                       // rows: "token.weight", [V,D], &net.token, ...
 *     if (!part_read(&l, file, &memory, &e)) ...                 // net.token is now a constant [1,V,D]
 *     part_list_free(&l);
 *
 * A network is a struct of ag_tensor pointers and a function that lists them; the trainer makes the same pointers leaves.
 */
#ifndef PART_H
#define PART_H
#include "clip.h"
#include "models/tensors.h"

typedef struct {
    char name[64];
    size_t rows, cols;      /* a vector is [1, cols] */
    double deviation, fill; /* begins as normal numbers of this deviation; 0: all of them `fill` */
    ag_tensor **at;         /* where the network looks for it: [1, rows, cols] */
    bool identity;          /* begins as the identity */
    const clip_weight *from; /* begins as these numbers, a model's; NULL: as said above */
    double rate;            /* of the learning rate; 0: all of it */
} part_weight;

typedef struct {
    part_weight *list;
    size_t count, room;
    bool full; /* no memory for one of them: part_listed tells */
} part_list;

void part_add(part_list *l, ag_tensor **at, size_t rows, size_t cols, double deviation, double fill, const char *name, ...)
    PRINTF_LIKE(7, 8);
/* y = W x + b as NAME.weight [out, in] with this deviation (in_out: [in, out], as GPT-2 stores them), and NAME.bias. */
void part_linear(part_list *l, ag_tensor *at[2], size_t out, size_t in, bool in_out, double deviation, const char *name, ...)
    PRINTF_LIKE(7, 8);
/* NAME.weight (ones) and NAME.bias (zeros), [1, cols]. */
void part_norm(part_list *l, ag_tensor *at[2], size_t cols, const char *name, ...) PRINTF_LIKE(4, 5);
/* Another list's rows behind these. */
void part_append(part_list *l, const part_list *more);
bool part_listed(const part_list *l, err *e);
void part_list_free(part_list *l);

/* Numbers of all weights together. */
size_t part_numbers(const part_list *l);
/* Each weight from the file's tensor of this name behind `prefix`: mapped where it lies as float32, else converted into
 * memory. The message names the tensor that is missing or has another shape. */
bool part_read(part_list *l, const tensors *file, const char *prefix, arena *memory, err *e);
/* A part at rest: its file, and room for what had to be converted. */
typedef struct {
    tensors *file;
    arena memory;
    void *room;
    size_t size;
} part_home;
/* part_read of all that the list says, into memory of the home's own; every number finite. h->file is set. */
bool part_move_in(part_home *h, part_list *l, err *e);
void part_leave(part_home *h);
/* The file's U8 tensor, words ended by newlines, as *count strings one behind the other (mem_free them). */
char *part_words(const tensors *file, const char *name, size_t *count, err *e);
/* A safetensors file, type "F16" or "F32": the weights' values now, and what else belongs to the part. */
typedef struct {
    const char *name, *type; /* "words", "U8" */
    size_t shape[2], rank;
    const void *data;
    size_t bytes;
} part_extra;
bool part_write(const part_list *l, const char *path, const char *type, const part_extra *extra, size_t extras, err *e);
/* The [rows, cols] of a tensor, a vector being [1, cols]; false: it is not there or has more dimensions. */
bool part_shape(const tensors *file, const char *name, size_t *rows, size_t *cols);

/* ---- shared by the networks ---- */
/* W x + b of rows; in_out: W is [in, out]. */
ag_tensor *part_use_linear(ag_tape *t, ag_tensor *const w[2], bool in_out, ag_tensor *x);
/* Cross entropy of logits [B,n,V] at ids [B*n], those of `ignored` left out, summed, times `weight`. */
ag_tensor *part_cross_entropy(ag_tape *t, ag_tensor *logits, const uint32_t *ids, uint32_t ignored, real weight);
static inline ag_tensor *part_use_norm(ag_tape *t, ag_tensor *const w[2], ag_tensor *x) {
    return ag_layernorm(t, x, w[0], w[1], (real)1e-5);
}
#endif
