/* checkpoint.h - a model and what belongs to it: from its files, or from inside the binary.
 *
 *     checkpoint *c = checkpoint_open("weights/ViT-B-16", &e);      // folder or file
 *     const clip_model *m = checkpoint_model(c);                    // points into the mapped file
 *     const tokenizer *tok = checkpoint_tokenizer(c, &e);           // its merges, read when first asked for
 *
 * folder.h says which files of a folder are taken, containers.c which kinds of files there are, tokens.h where words come
 * from. The names in the weights decide whose layout it is (names.h).
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H
#include "clip.h"
#include "models/config.h"
#include "models/names.h"
#include "sys/err.h"
#include "files/files.h"
#include "models/safetensors.h"
#include "models/tensors.h"
#include "models/tokens.h"
#include "text/tokenizer.h"

typedef struct checkpoint checkpoint;
/* path: a folder, or a file of weights or index of shards with its config beside it. NULL: e names the file, tensor or
 * field at fault. Numbers are not looked at: checkpoint_check_finite does. */
checkpoint *checkpoint_open(const char *path, err *e);
/* The default model, linked into the binary; an error in a build without one. */
checkpoint *checkpoint_builtin(err *e);
/* The same from bytes, which must outlive it. merges may be NULL. */
typedef struct {
    const void *data;
    size_t length;
} checkpoint_bytes;
checkpoint *checkpoint_parse(const char *name, checkpoint_bytes weights, checkpoint_bytes config,
                             checkpoint_bytes merges, err *e);
void checkpoint_free(checkpoint *c);

const clip_model *checkpoint_model(const checkpoint *c);
const char *checkpoint_name(const checkpoint *c);   /* the path it was opened by; "default" for the built-in one */
const char *checkpoint_folder(const checkpoint *c); /* where its files lie; "" for one in memory */
const char *checkpoint_layout(const checkpoint *c); /* whose names: names_layout */
/* Its weights by name, as they lie in the file or files. */
const tensors *checkpoint_tensors(const checkpoint *c);
/* What a weight is called in this checkpoint: "visual.proj". open_clip's q, k, v are thirds of attn.in_proj. */
enum { CHECKPOINT_NAME = WEIGHT_NAME };
void checkpoint_weight_name(const checkpoint *c, clip_kind kind, size_t layer, char out[CHECKPOINT_NAME]);

const tokenizer *checkpoint_tokenizer(checkpoint *c, err *e); /* owned by c */
token_settings checkpoint_texts(const checkpoint *c);          /* how texts are cleaned for it */
/* Full scan of the weights in use for NaN and infinities; names the first one's tensor and index. */
bool checkpoint_check_finite(const checkpoint *c, err *e);
/* Of one side alone, once: pages that nobody uses are not read. Both have the logit scale. */
typedef enum { CHECK_ALL, CHECK_IMAGE, CHECK_TEXT } check_side;
bool checkpoint_check_side(checkpoint *c, check_side side, err *e);

/* open_clip layout: DIR/open_clip_model.safetensors (type "F16", "F32" or "BF16") + open_clip_config.json, each replaced
 * whole or not at all. Weights may be leaves (training). Numbers that are not finite, or not in F16, are an error
 * naming the tensor. */
bool checkpoint_write(const char *folder, clip_model *m, const char *type, err *e);
/* The same of an opened one, whose config then says how its texts are cleaned, whatever layout it came from. */
bool checkpoint_convert(const checkpoint *c, const char *folder, const char *type, err *e);
#endif
