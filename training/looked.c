/* looked.c - scenes seen once (see looked.h). */
#include "training/looked.h"
#include "training/feed.h"
#include <string.h>

static bool boundary(const unsigned char *mask, size_t side, size_t x, size_t y) {
    if (mask[y * side + x] < 128) return false;
    return x == 0 || y == 0 || x + 1 == side || y + 1 == side || mask[y * side + x - 1] < 128 || mask[y * side + x + 1] < 128 ||
           mask[(y - 1) * side + x] < 128 || mask[(y + 1) * side + x] < 128;
}

void cells_of(const scene *sc, const word_list *names, size_t grid, real *share, real *edge, real *depth) {
    size_t side = sc->side, p = side / grid, K = names->count + 1;
    real pixel = 1 / (real)(p * p);
    memset(share, 0, grid * grid * K * sizeof *share);
    memset(edge, 0, grid * grid * sizeof *edge), memset(depth, 0, grid * grid * sizeof *depth);
    for (size_t y = 0; y < grid * p; y++)
        for (size_t x = 0; x < grid * p; x++) {
            size_t cell = y / p * grid + x / p, class_ = names->count;
            bool border = false;
            for (size_t i = 0; i < sc->count; i++) {
                if (sc->object[i].mask[y * side + x] < 128) continue;
                class_ = word_find(names, sc->object[i].name);
                depth[cell] += pixel * (real)(i + 1);
                border = border || boundary(sc->object[i].mask, side, x, y);
            }
            share[cell * K + (class_ < K ? class_ : names->count)] += pixel;
            edge[cell] += border ? pixel : 0;
        }
}

size_t most_of(const real *share, size_t classes) {
    size_t best = 0;
    for (size_t k = 1; k < classes; k++)
        if (share[k] > share[best]) best = k;
    return best;
}

typedef struct {
    looked *l;
    const looked_plan *plan;
} looking;

static bool one_scene(const looking *j, size_t i, real *patches, err *e) {
    const looked_plan *p = j->plan;
    const clip_config *c = &p->model->config;
    looked *l = j->l;
    size_t grid = c->image / c->patch;
    scene sc;
    if (!scene_make(p->source, p->seed, p->only ? p->only[i] : i, c->image, p->least, p->most, &sc, e)) return false;
    feed_patches(c, &sc.image, patches);
    if (p->names) cells_of(&sc, p->names, grid, l->share + i * l->cells * l->classes, l->edge + i * l->cells, l->depth + i * l->cells);
    stored_tell(&l->told[i], &sc);
    scene_free(&sc);
    return true;
}

static bool some_scenes(void *arg, size_t first, size_t n, arena *memory, err *e) {
    const looking *j = arg;
    const clip_model *m = j->plan->model;
    looked *l = j->l;
    size_t grid = m->config.image / m->config.patch, each = l->cells * 3 * m->config.patch * m->config.patch;
    ag_tape t;
    if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *patches = ag_new(&t, n, l->cells, 3 * m->config.patch * m->config.patch);
    for (size_t i = 0; patches && i < n; i++)
        if (!one_scene(j, first + i, patches->data + i * each, e)) return false;
    ag_tensor *x = tower_tokens(&t, m, patches, grid, grid), *z = ag_normalize(&t, clip_head(&t, m, x));
    if (!x || !z) return err_fault(e, &t.fault);
    memcpy(l->tokens + first * l->tokens_each * l->width, x->data, n * l->tokens_each * l->width * sizeof(real));
    memcpy(l->z + first * l->embed, z->data, n * l->embed * sizeof(real));
    return true;
}

bool looked_make(looked *l, const looked_plan *plan, pool *cores, err *e) {
    const clip_config *c = &plan->model->config;
    size_t grid = c->image / c->patch, N = plan->count;
    *l = (looked){.count = N, .cells = grid * grid, .tokens_each = grid * grid + clip_first(c), .width = c->vision.width,
                  .embed = c->embed, .classes = plan->names ? plan->names->count + 1 : 0};
    l->tokens = mem_alloc(N, l->tokens_each * l->width * sizeof(real)), l->z = mem_alloc(N, l->embed * sizeof(real));
    l->told = mem_alloc(N, sizeof *l->told);
    if (plan->names) {
        l->share = mem_alloc(N, l->cells * l->classes * sizeof(real));
        l->edge = mem_alloc(N, l->cells * sizeof(real)), l->depth = mem_alloc(N, l->cells * sizeof(real));
    }
    if (!l->tokens || !l->z || !l->told || (plan->names && (!l->share || !l->edge || !l->depth))) return err_set(e, "no memory for %zu scenes", N);
    return stored_spread(cores, N, (size_t)1 << 30, some_scenes, &(looking){l, plan}, e);
}

void looked_free(looked *l) {
    mem_free(l->tokens), mem_free(l->z), mem_free(l->share), mem_free(l->edge), mem_free(l->depth), mem_free(l->told);
    *l = (looked){0};
}
