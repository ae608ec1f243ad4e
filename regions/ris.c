/* ris.c - RIS's region embedding, also Global-Local CLIP (arXiv 2303.18046): see regions.h; MODEL.md 10.6. */
#include "regions/regions.h"
#include <string.h>

enum { MASKED_BLOCKS = 3 }; /* the last ones */
static const real global_share = (real).95;
static const double fill = .485; /* outside the mask in the crop, in normalised units, as the code has it */

/* The class token's embedding where the patches' tokens are multiplied by their share of the mask before each of the last
 * three blocks. out [E] */
static bool masked_tokens(const clip_model *m, const real *pixels, size_t side, const double *share, arena *memory,
                          pool *cores, real *out, fault *f) {
    ag_tape t;
    size_t mark = arena_mark(memory), layers = m->config.vision.layers, gh, gw, first = layers > MASKED_BLOCKS ? layers - MASKED_BLOCKS : 0;
    ag_tensor *z = NULL;
    memset(&t, 0, sizeof t);
    if (ag_tape_init(&t, memory, cores, 1) && clip_grid(&m->config, side, side, &gh, &gw)) {
        t.recording = false;
        clip_run run = clip_image_run(&t, m, gh, gw);
        ag_tensor *x = clip_embed(&t, m, clip_patches(&t, m, pixels, side, side), gh, gw, POSITION_BICUBIC);
        x = clip_blocks(&t, &run, m->blocks, x, 0, first);
        for (size_t i = first; x && i < layers; i++) {
            size_t still = x->rows - gh * gw; /* class token and registers */
            for (size_t k = 0; k < gh * gw * x->cols; k++) x->data[still * x->cols + k] *= (real)share[k / x->cols];
            x = clip_blocks(&t, &run, m->blocks, x, i, i + 1);
        }
        z = x ? clip_head(&t, m, x) : NULL;
    }
    if (z) memcpy(out, z->data, m->config.embed * sizeof *out);
    *f = t.fault;
    arena_reset(memory, mark);
    return z != NULL;
}

/* (10.6)  v = .95 z(masked tokens) + .05 z(masked crop) */
bool region_ris(const region_settings *o, const clip_model *m, const picture *photo, const mask_image *mask, arena *memory,
                pool *cores, real *out, err *e) {
    const clip_config *c = &m->config;
    size_t E = c->embed, cells = (o->side / c->patch) * (o->side / c->patch), mark = arena_mark(memory);
    double *share = arena_alloc(memory, cells, sizeof *share), colour[3];
    real *crop = arena_alloc(memory, E, sizeof *crop);
    picture seen;
    fault f = {0};
    if (clip_is_resnet(c)) return err_set(e, "ris: not for a ResNet: it has no blocks whose tokens could be masked");
    if (!share || !crop) return err_set(e, "--memory: %zu bytes are too little for a mask's tokens", memory->size);
    for (size_t k = 0; k < 3; k++) colour[k] = 255 * ((double)c->mean[k] + fill * (double)c->std[k]);
    mask_cells(mask, o->side / c->patch, o->side / c->patch, share);
    real *pixels = pixels_squash(photo, o->side, c->mean, c->std, e);
    bool ok = pixels && (masked_tokens(m, pixels, o->side, share, memory, cores, out, &f) || err_fault(e, &f));
    mem_free(pixels);
    ok = ok && region_crop(photo, mask, o->side, colour, &seen, e);
    if (ok) {
        pixels = pixels_squash(&seen, o->side, c->mean, c->std, e);
        picture_free(&seen);
        for (size_t i = 0; i < cells; i++) share[i] = 1;
        ok = pixels && (masked_tokens(m, pixels, o->side, share, memory, cores, crop, &f) || err_fault(e, &f));
        mem_free(pixels);
    }
    for (size_t k = 0; ok && k < E; k++) out[k] = global_share * out[k] + (1 - global_share) * crop[k];
    arena_reset(memory, mark);
    return ok;
}
