/* identity.c - which model it is (see identity.h). */
#include "models/identity.h"
#include <string.h>

/* ---- hashes: FNV-1a, eight bytes at a time, the lowest first whatever the machine's order ---------------------- */
uint64_t fnv_bytes(uint64_t hash, const void *data, size_t n) {
    const unsigned char *p = data;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        order_bytes(&word, 1, 8);
        hash = (hash ^ word) * 0x100000001B3u;
    }
    for (; n; p++, n--) hash = (hash ^ *p) * 0x100000001B3u;
    return hash ^ hash >> 29;
}

static uint64_t fnv_words(uint64_t hash, uint64_t *words, size_t n) {
    order_bytes(words, n, sizeof *words);
    return fnv_bytes(hash, words, n * sizeof *words);
}

static bool hash_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    uint64_t *hash = arg, what[4] = {(uint64_t)kind, layer, rows, cols};
    *hash = fnv_words(*hash, what, 4);
    if (w->data) *hash = fnv_bytes(*hash, w->data, clip_bytes(w->type, w->rows * w->cols));
    return true;
}

uint64_t model_hash(const clip_model *model) {
    clip_model m = *model; /* the visitor may change weights; this one does not */
    uint64_t hash = HASH_START,
             shape[4] = {m.config.vision.heads, m.config.text.heads, (uint64_t)m.config.pool, m.config.image};
    (void)clip_each_weight(&m, hash_weight, &hash);
    return fnv_words(hash, shape, 4);
}

/* ---- the family, by the switches that it alone has ---------------------------------------------------------------- */
const char *model_family(const clip_config *c) {
    if (clip_is_resnet(c)) return "CLIP with a ResNet";
    if (c->alpha) return "AlphaCLIP";
    if (c->text_long) return "Long-CLIP";
    if (c->pool == CLIP_POOL_QUERIES) return c->decoder.layers ? "CoCa, with its caption decoder" : "CoCa";
    if (c->pool == CLIP_POOL_PROBE) return c->rope.side ? "PE-Core" : "SigLIP";
    if (c->vision.sub_norm) return "EVA02-CLIP";
    if (c->vision.post_norm) return "EVA02-CLIP enormous";
    if (c->patch_bias) return "EVA-CLIP";
    if (c->proj_bias) return "CLIP with timm's ViT";
    if (c->pool == CLIP_POOL_PATCHES) return "CLIPA";
    return c->read == CLIP_READ_EOS ? "CLIP, text read at its end mark" : "CLIP";
}
