/* safetensors.h - tensors in a file: a strict reader, and a writer (the rules: MODEL.md 7).
 *
 *     safetensors *s = st_open("model.safetensors", &e);     // maps it; every rule checked here
 *     const st_tensor *t = st_find(s, "visual.proj");        // points into the map; NULL: none
 *     real proj[24]; st_floats(t, proj, 24, &e);
 *
 * A file is u64 header length N, N bytes of JSON, data:
 *     {"__metadata__": {"format": "pt"}, "visual.proj": {"dtype": "F16", "shape": [4, 6], "data_offsets": [0, 48]}}
 */
#ifndef SAFETENSORS_H
#define SAFETENSORS_H
#include "sys/err.h"

enum { ST_RANK = 8 };
typedef struct {
    const char *name, *type; /* "F32", "F16", "BF16", "I64"... */
    size_t shape[ST_RANK], rank;
    const unsigned char *data; /* row-major, any alignment */
    size_t bytes;
} st_tensor;
typedef struct safetensors safetensors;

/* name is what messages call it. bytes must outlive the result. NULL on any breach of the rules. */
safetensors *st_parse(const unsigned char *bytes, size_t length, const char *name, err *e);
safetensors *st_open(const char *path, err *e);
void st_free(safetensors *s);
const char *st_name(const safetensors *s);
size_t st_count(const safetensors *s);
const st_tensor *st_at(const safetensors *s, size_t i); /* in the header's order */
const st_tensor *st_find(const safetensors *s, const char *name);

/* Numbers in the tensor: the product of its shape. */
size_t st_size(const st_tensor *t);
/* "[3, 4]" */
typedef struct {
    char text[200];
} st_shape_text;
st_shape_text st_shape(const size_t *shape, size_t rank);
/* Any of F32, F16, BF16, F64; count must be the tensor's. */
bool st_floats(const st_tensor *t, real *out, size_t count, err *e);

/* Writer: tensors in the order given, metadata pairs (key, value, ..., NULL) or NULL. The header is padded with
 * spaces so that data begins at a multiple of 64. Atomic. data as it is to be stored. */
bool st_write(const char *path, const st_tensor *tensors, size_t count, const char *const *metadata, err *e);

/* The same for tensors whose data is NULL: `make` is asked for the bytes of each in turn, so that one of them is in memory
 * at a time. False from it ends the writing, and nothing is left. */
typedef bool st_make(void *arg, size_t index, unsigned char *to, err *e);
bool st_write_made(const char *path, const st_tensor *tensors, size_t count, const char *const *metadata, st_make *make,
                   void *arg, err *e);

uint16_t st_to_bfloat(float x); /* nearest, ties to even */
float st_from_bfloat(uint16_t h);
uint16_t st_to_half(float x); /* nearest, ties to even; too large: infinity */
#endif
