/* embedding.c - embeddings of regions (see embedding.h). */
#include "cli/embedding.h"
#include <math.h>

bool embedder_open(region_embedder *how, cli *c, const char *method, size_t side) {
    const clip_config *m = &c->model->config;
    how->c = c;
    how->method = region_method_find(method);
    how->invert = cli_invert(m, 0, NAN, NAN);
    how->layers = config_layers(m);
    return cli_side(c, side, 1, &how->side);
}

static bool inverted(const region_embedder *how, const picture *photo, region_mask *mask, void *arg, size_t count, real *vectors) {
    cli *c = how->c;
    const clip_config *m = &c->model->config;
    explained x;
    fault f = {0};
    explain_options eo = {.layers = how->layers, .steps = how->invert.iters};
    real *pixels = pixels_squash(photo, how->side, m->mean, m->std, &c->e);
    bool ok = pixels && cli_usual(c, &eo.usual) &&
              (explain_open(&x, c->model, pixels, how->side, how->side, &eo, &c->memory, c->cores, &f) || cli_fault(c, &f));
    mem_free(pixels);
    real *losses = ok ? arena_alloc(&c->memory, how->invert.iters, sizeof *losses) : NULL;
    for (size_t i = 0; ok && i < count; i++) {
        size_t mark = arena_mark(&c->memory);
        const mask_image *k = mask(arg, i, &c->e);
        invert_result r = {.embedding = vectors + i * m->embed, .losses = losses};
        ok = k && (maskinv_invert(&x, k->soft, k->height, k->width, &how->invert, &r, &f) || cli_fault(c, &f));
        arena_reset(&c->memory, mark);
    }
    return ok;
}

bool embed_regions(const region_embedder *how, const picture *photo, region_mask *mask, void *arg, size_t count, real *vectors) {
    cli *c = how->c;
    region_settings o = {.side = how->side};
    size_t mark = arena_mark(&c->memory);
    bool ok = how->method->family == REGION_INVERT
                  ? inverted(how, photo, mask, arg, count, vectors)
                  : regions_embed_each(how->method, &o, c->model, photo, mask, arg, count, &c->memory, c->cores, vectors, &c->e);
    arena_reset(&c->memory, mark);
    return ok;
}

const mask_image *embed_mask_of_file(void *arg, size_t i, err *e) { return masks_at(arg, i, e); }
const mask_image *embed_mask_of_list(void *arg, size_t i, err *e) { return (void)e, (const mask_image *)arg + i; }

bool embed_scene(cli *c, const scene_record *s, picture *photo, mask_image *mask, size_t *read) {
    bool ok = picture_read(s->image, photo, &c->e);
    for (*read = 0; ok && *read < s->objects; *read += ok) ok = mask_read(s->object[*read].mask, &mask[*read], &c->e);
    return ok;
}

void print_share(const char *what, size_t hits, size_t n) {
    estimate w = wilson(hits, n);
    printf("  %-28s %5.1f [%.1f, %.1f] of %zu\n", what, n ? 100 * (double)hits / (double)n : NAN, 100 * w.low, 100 * w.high, n);
}
