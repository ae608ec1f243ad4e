/* flash.c - see flash.h: the head becomes a config, the table becomes weights that point into the bytes. */
#include "flash.h"
#include <string.h>

static clip_config config_of(const flash_head *h) {
    clip_config c = {
        .vision = {.width = h->width, .layers = h->depth, .heads = h->heads, .mlp = h->mlp, .eps = h->eps},
        .image = h->image, .patch = h->patch, .embed = h->embed,
        .act_vision = (act_kind)h->act, .pool = (clip_pool)h->pool,
    };
    for (int i = 0; i < 3; i++) c.mean[i] = h->mean[i], c.std[i] = h->std[i];
    return c;
}

typedef struct {
    const unsigned char *bytes;
    const flash_head *head;
    size_t next;
} walk;

/* The next entry of the table has to be this weight: the same order, the same shape. */
static bool place(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    walk *k = arg;
    const flash_head *h = k->head;
    (void)kind, (void)layer;
    if (k->next >= h->weights) return false;
    flash_weight e;
    memcpy(&e, k->bytes + h->table + k->next++ * sizeof e, sizeof e);
    size_t bytes = clip_bytes((clip_type)e.type, rows * cols);
    if (e.rows != rows || e.cols != cols || e.at > h->bytes || bytes > h->bytes - e.at) return false;
    *w = (clip_weight){.data = k->bytes + e.at, .type = (clip_type)e.type, .transposed = e.transposed != 0, .rows = rows,
                       .cols = cols};
    return true;
}

bool flash_open(flash_view *v, const void *bytes, clip_block_weights *blocks) {
    const flash_head *h = bytes;
    const unsigned char *at = bytes;
    if (h->magic != FLASH_MAGIC || !h->depth || h->depth > FLASH_LAYERS || h->table > h->bytes ||
        h->weights > (h->bytes - h->table) / sizeof(flash_weight))
        return false;
    *v = (flash_view){.head = h, .model = {.config = config_of(h), .blocks = blocks}, .pixels = at + h->pixels,
                      .masks = at + h->masks, .names = (const char *)at + h->names};
    memset(blocks, 0, FLASH_LAYERS * sizeof *blocks);
    v->queries = (const float *)(const void *)(at + h->queries);
    v->truths = (const float *)(const void *)(at + h->truths);
    walk k = {at, h, 0};
    return clip_each_weight(&v->model, place, &k);
}
