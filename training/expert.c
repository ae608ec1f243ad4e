/* expert.c - labels of cells from CLIP Surgery's maps (see expert.h). */
#include "training/expert.h"
#include "methods.h"
#include <string.h>

/* Surgery's grids [names,cells] of the scene's picture, in the arena. */
static real *grids_of(const expert *x, const scene *sc, arena *memory, err *e) {
    const clip_config *c = &x->model->config;
    size_t grid = c->image / c->patch;
    explainer how;
    fault f = {0};
    real *grids = arena_alloc(memory, x->names->count, grid * grid * sizeof *grids);
    real *pixels = pixels_squash(&sc->image, c->image, c->mean, c->std, e);
    bool good = pixels != NULL && (grids || err_set(e, "no memory for maps of %zu names", x->names->count));
    if (good && !(method_open(&how, method_find("surgery"), x->model, pixels, c->image, c->image, &(method_options){.patches_only = true}, memory, NULL, &f) &&
                  method_grids(&how, x->texts, x->names->count, NULL, grids, &f)))
        good = err_fault(e, &f);
    mem_free(pixels);
    return good ? grids : NULL;
}

/* (19.2)  The name whose map is highest in the cell, each map between its own ends; none reaches half: the background. */
static void label_cells(const expert *x, const scene *sc, const real *grids, size_t cells, uint32_t *label, real *best) {
    for (size_t i = 0; i < cells; i++) label[i] = (uint32_t)x->names->count, best[i] = (real)0.5;
    for (size_t o = 0; o < sc->count; o++) {
        size_t name = word_find(x->names, sc->object[o].name);
        if (name == SIZE_MAX) continue;
        const real *g = grids + name * cells;
        real low = g[0], high = g[0];
        for (size_t i = 1; i < cells; i++) low = g[i] < low ? g[i] : low, high = g[i] > high ? g[i] : high;
        for (size_t i = 0; i < cells && high > low; i++)
            if ((g[i] - low) / (high - low) >= best[i]) best[i] = (g[i] - low) / (high - low), label[i] = (uint32_t)name;
    }
}

/* (19.3)  A cell of a thing beside a cell of anything else, or at the picture's border. */
static bool at_edge(const uint32_t *label, size_t grid, size_t i, uint32_t background) {
    size_t x = i % grid, y = i / grid;
    if (label[i] == background) return false;
    if (x == 0 || y == 0 || x + 1 == grid || y + 1 == grid) return true;
    return label[i - 1] != label[i] || label[i + 1] != label[i] || label[i - grid] != label[i] || label[i + grid] != label[i];
}

bool expert_cells(const expert *x, const scene *sc, real *share, real *edge, arena *memory, err *e) {
    size_t grid = x->model->config.image / x->model->config.patch, cells = grid * grid, K = x->names->count + 1, mark = arena_mark(memory);
    uint32_t *label = arena_alloc(memory, cells, sizeof *label);
    real *best = arena_alloc(memory, cells, sizeof *best), *grids = grids_of(x, sc, memory, e);
    bool good = grids && ((label && best) || err_set(e, "no memory for %zu cells", cells));
    if (good) {
        label_cells(x, sc, grids, cells, label, best);
        memset(share, 0, cells * K * sizeof *share);
        for (size_t i = 0; i < cells; i++) share[i * K + label[i]] = 1, edge[i] = at_edge(label, grid, i, (uint32_t)(K - 1));
    }
    arena_reset(memory, mark);
    return good;
}
