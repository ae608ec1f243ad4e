/* identity.h - which model it is: its family in words, and a hash of its weights.
 *
 *     printf("%s, weights %016" PRIx64, model_family(&m->config), model_hash(m));
 */
#ifndef IDENTITY_H
#define IDENTITY_H
#include "clip.h"

/* "CLIP", "SigLIP", "CoCa, with its caption decoder"... */
const char *model_family(const clip_config *c);
/* FNV-1a over every weight as it is stored, its name and shape: the same file gives the same number everywhere. */
uint64_t model_hash(const clip_model *m);
/* FNV-1a, eight bytes at a time; begin with HASH_START. */
#define HASH_START 0xCBF29CE484222325u
uint64_t fnv_bytes(uint64_t hash, const void *data, size_t n);
#endif
