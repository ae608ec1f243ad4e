/* checkpoint.h - models on disk: safetensors files and their configs, both families' names.
 *
 *     checkpoint *c = checkpoint_open("weights/ViT-B-16", &e);      // folder or file
 *     const clip_model *m = checkpoint_model(c);                    // points into the mapped file
 *     tokenizer *tok = checkpoint_tokenizer(c, &e);                 // its merges, read when first asked for
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H
#include "clip.h"
#include "err.h"
#include "files.h"
#include "tokenizer.h"

/* ---- safetensors (SPEC 7) ---- */
typedef struct { const char *name, *type; size_t shape[8], rank; const unsigned char *data; size_t bytes; } st_tensor;
typedef struct safetensors safetensors;
safetensors *st_parse(const unsigned char *bytes, size_t length, const char *name, err *e); /* bytes must outlive it */
safetensors *st_open(const char *path, err *e);                                              /* maps the file */
void st_free(safetensors *s);
size_t st_count(const safetensors *s);
const st_tensor *st_at(const safetensors *s, size_t i);
const st_tensor *st_find(const safetensors *s, const char *name); /* NULL: none */
/* Any of F32, F16, BF16, F64 as float32, `count` numbers. */
bool st_floats(const st_tensor *t, float *out, size_t count, err *e);
/* Writer: tensors given in order, metadata pairs (NULL-terminated key, value, ...) or NULL; header padded to 8;
 * atomic. type is F32/F16/I64...; data as stored. */
bool st_write(const char *path, const st_tensor *tensors, size_t count, const char *const *metadata, err *e);

/* ---- a model: folder (open_clip or Hugging Face, sharded too) or .safetensors file with its config beside it ---- */
typedef struct checkpoint checkpoint;
checkpoint *checkpoint_open(const char *path, err *e);
checkpoint *checkpoint_builtin(err *e); /* the default model, linked into the binary */
void checkpoint_free(checkpoint *c);
const clip_model *checkpoint_model(const checkpoint *c);
const char *checkpoint_name(const checkpoint *c);
const char *checkpoint_layout(const checkpoint *c); /* "open_clip" or "Hugging Face" */
const tokenizer *checkpoint_tokenizer(checkpoint *c, err *e); /* owned by c */
/* Full scan of the weights that will be used for NaN and infinities, naming the first. */
bool checkpoint_check_finite(const checkpoint *c, err *e);
/* open_clip layout: DIR/open_clip_model.safetensors (type "F16" or "F32") + open_clip_config.json. Weights of the
 * model may be leaves (training). */
bool checkpoint_write(const char *folder, clip_model *m, const char *type, err *e);
/* An open_clip config from its JSON text. */
bool checkpoint_parse_config(const char *json, size_t length, const char *name, clip_config *out, err *e);
#endif
