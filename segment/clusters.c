/* clusters.c - CLIPtrase's labels: patches that correlate with the same ones are one thing and get one name (see segment.h;
 * MODEL.md 6.6). */
#include "segment/segment.h"
#include "kernels.h"
#include <math.h>
#include <string.h>

/* ---- DBSCAN ------------------------------------------------------------------------------------------------- */
typedef struct {
    const real *x;
    size_t P, n;
    double eps;
    bool *near; /* [P,P] */
} neighbours;

static void near_of(void *arg, size_t i) {
    const neighbours *g = arg;
    for (size_t j = 0; j < g->P; j++) {
        const real *a = g->x + i * g->n, *b = g->x + j * g->n;
        double sum = 0;
        for (size_t k = 0; k < g->n; k++) sum += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
        g->near[i * g->P + j] = sqrt(sum) <= g->eps;
    }
}

/* All that core point i reaches; stack [P] holds points whose neighbours are still to be asked. */
static void grow(const neighbours *g, const bool *core, size_t i, int32_t number, int32_t *cluster, size_t *stack) {
    size_t open = 0;
    cluster[i] = number, stack[open++] = i;
    while (open) {
        size_t j = stack[--open];
        if (!core[j]) continue;
        for (size_t k = 0; k < g->P; k++)
            if (g->near[j * g->P + k] && cluster[k] < 0) cluster[k] = number, stack[open++] = k; /* each enters once */
    }
}

size_t cluster_points(const real *x, size_t P, size_t n, double eps, size_t least, int32_t *cluster, arena *memory, pool *cores,
                      fault *f) {
    size_t mark = arena_mark(memory), count = 0;
    neighbours g = {x, P, n, eps, arena_alloc(memory, P, P * sizeof(bool))};
    bool *core = arena_alloc(memory, P, sizeof *core);
    size_t *stack = arena_alloc(memory, P, sizeof *stack);
    if (!g.near || !core || !stack) {
        arena_reset(memory, mark);
        return fault_memory(f, "clusters", memory, P * P), SIZE_MAX;
    }
    spread(cores, P, near_of, &g);
    for (size_t i = 0; i < P; i++) {
        size_t around = 0;
        for (size_t j = 0; j < P; j++) around += g.near[i * P + j];
        core[i] = around >= least, cluster[i] = -1;
    }
    for (size_t i = 0; i < P; i++)
        if (core[i] && cluster[i] < 0) grow(&g, core, i, (int32_t)count++, cluster, stack);
    arena_reset(memory, mark);
    return count;
}

/* ---- 7 x 7 median ---------------------------------------------------------------------------------------------- */
enum { REACH = 3, AREA = (2 * REACH + 1) * (2 * REACH + 1) };

static size_t mirrored(size_t at, int step, size_t side) { /* ..1 0 | 0 1 2.. */
    long i = (long)at + step, n = (long)side;
    while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
    return (size_t)i;
}

void cluster_median(const real *in, size_t h, size_t w, real *out) {
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            real sorted[AREA];
            size_t count = 0;
            for (int dy = -REACH; dy <= REACH; dy++)
                for (int dx = -REACH; dx <= REACH; dx++) {
                    real v = in[mirrored(y, dy, h) * w + mirrored(x, dx, w)];
                    size_t at = count++;
                    for (; at && v < sorted[at - 1]; at--) sorted[at] = sorted[at - 1];
                    sorted[at] = v;
                }
            out[y * w + x] = sorted[AREA / 2];
        }
}

/* ---- names before the clusters speak ----------------------------------------------------------------------------- */
static void loudest(const segmenter *s, const real *grids, const enlarging *up, uint16_t *label, real *wide, real *best, real *row) {
    size_t cells = up->h * up->w, h = up->oh, w = up->ow;
    for (size_t i = 0; i < h * w; i++) best[i] = -INFINITY, label[i] = 0;
    for (size_t q = 0; q < s->classes->query_count; q++) {
        enlarge_across(up, grids + q * cells, wide);
        for (size_t y = 0; y < h; y++) {
            enlarge_row(up, wide, y, row, false);
            for (size_t x = 0; x < w; x++)
                if (row[x] > best[y * w + x]) best[y * w + x] = row[x], label[y * w + x] = (uint16_t)s->classes->owner[q];
        }
    }
}

/* VOC20: each name's cosines times the class token's cosine of the same name. tokens [n,E], the class token's first. */
static void weigh_by_image(const segmenter *s, const real *tokens, real *grids, size_t cells) {
    size_t E = s->model->config.embed;
    real length = (real)sqrt((double)k_dot(tokens, tokens, E));
    for (size_t q = 0; q < s->classes->query_count; q++) {
        real image = k_dot(tokens, s->queries + q * E, E) / length;
        for (size_t i = 0; i < cells; i++) grids[q * cells + i] *= image;
    }
}

/* ---- each pixel's cluster, and the clusters' names --------------------------------------------------------------- */
typedef struct {
    real *mean, *four, *clean; /* [P], [4gh,4gw] twice */
    real *wide, *best, *row;   /* [4gh,w], [h,w], [w] */
    uint32_t *counts;          /* [classes] */
    int32_t *region;           /* [h,w] */
} cluster_room;

/* A cluster's mean row of R as a grid, four times as large, its median, at the pixels: where it is larger than the others'. */
static bool claim(const explainer *x, const int32_t *cluster, int32_t g, size_t h, size_t w, cluster_room *r, arena *memory, fault *f) {
    size_t gh = x->gh, gw = x->gw, P = gh * gw, members = 0, mark = arena_mark(memory);
    enlarging four, up;
    if (!enlarging_make(&four, gh, gw, 4 * gh, 4 * gw, memory, f) || !enlarging_make(&up, 4 * gh, 4 * gw, h, w, memory, f)) return false;
    memset(r->mean, 0, P * sizeof *r->mean);
    for (size_t i = 0; i < P; i++)
        if (cluster[i] == g) k_axpy(1, x->clean + i * P, r->mean, P), members++;
    for (size_t i = 0; i < P; i++) r->mean[i] /= (real)members;
    enlarge_across(&four, r->mean, r->wide);
    for (size_t y = 0; y < 4 * gh; y++) enlarge_row(&four, r->wide, y, r->four + y * 4 * gw, false);
    cluster_median(r->four, 4 * gh, 4 * gw, r->clean);
    enlarge_across(&up, r->clean, r->wide);
    for (size_t y = 0; y < h; y++) {
        enlarge_row(&up, r->wide, y, r->row, false);
        for (size_t q = 0; q < w; q++)
            if (r->row[q] > r->best[y * w + q]) r->best[y * w + q] = r->row[q], r->region[y * w + q] = g;
    }
    arena_reset(memory, mark);
    return true;
}

/* The commonest name of the cluster's pixels is that of all of them; equal counts: the first. */
static void vote(size_t pixels, size_t classes, int32_t g, const cluster_room *r, const uint16_t *before, uint16_t *label) {
    size_t best = 0;
    memset(r->counts, 0, classes * sizeof *r->counts);
    for (size_t i = 0; i < pixels; i++)
        if (r->region[i] == g) r->counts[before[i]]++;
    for (size_t c = 1; c < classes; c++)
        if (r->counts[c] > r->counts[best]) best = c;
    for (size_t i = 0; i < pixels; i++)
        if (r->region[i] == g) label[i] = (uint16_t)best;
}

static bool make_room(cluster_room *r, size_t P, size_t gw, size_t h, size_t w, size_t classes, arena *memory, fault *f) {
    size_t wide = w > 4 * gw ? w : 4 * gw, each = sizeof(real);
    *r = (cluster_room){arena_alloc(memory, P, each), arena_alloc(memory, 16 * P, each), arena_alloc(memory, 16 * P, each),
                        arena_alloc(memory, 4 * (P / gw), wide * each), arena_alloc(memory, h * w, each), arena_alloc(memory, wide, each),
                        arena_alloc(memory, classes, sizeof(uint32_t)), arena_alloc(memory, h * w, sizeof(int32_t))};
    if (r->mean && r->four && r->clean && r->wide && r->best && r->row && r->counts && r->region) return true;
    return fault_memory(f, "clusters", memory, (P * 33 + h * w * 2) * each);
}

static bool unite(const segmenter *s, const explainer *x, size_t h, size_t w, cluster_room *r, cluster_steps *steps, arena *memory,
                  pool *cores, fault *f) {
    size_t P = x->gh * x->gw, count;
    memcpy(steps->label, steps->before, h * w * sizeof *steps->label);
    count = cluster_points(x->clean, P, P, s->settings.eps, s->settings.least, steps->clusters, memory, cores, f);
    if (count == SIZE_MAX) return false;
    for (size_t i = 0; i < h * w; i++) r->best[i] = -INFINITY;
    for (size_t g = 0; g < count; g++)
        if (!claim(x, steps->clusters, (int32_t)g, h, w, r, memory, f)) return false;
    for (size_t g = 0; g < count; g++) vote(h * w, s->classes->count, (int32_t)g, r, steps->before, steps->label);
    return true;
}

static bool whole_picture(const segmenter *s, const real *pixels, size_t h, size_t w, explainer *x, real **grids, arena *memory,
                          pool *cores, fault *f) {
    size_t Q = s->classes->query_count;
    if (!method_open(x, s->settings.how, s->model, pixels, h, w, NULL, memory, cores, f)) return false;
    *grids = arena_alloc(memory, Q, x->gh * x->gw * sizeof **grids);
    if (!*grids) return fault_memory(f, "cosines", memory, Q * x->gh * x->gw * sizeof **grids);
    if (!method_grids(x, s->queries, Q, NULL, *grids, f)) return false;
    if (!k_finite(*grids, Q * x->gh * x->gw)) return fault_set(f, FAULT_NAN, "the cosines", NULL, 0);
    if (s->settings.image_level) weigh_by_image(s, x->tokens, *grids, x->gh * x->gw);
    return true;
}

static bool make_steps(cluster_steps *k, size_t pixels, arena *memory, fault *f) {
    if (!k->before) k->before = arena_alloc(memory, pixels, sizeof *k->before);
    if (!k->label) k->label = arena_alloc(memory, pixels, sizeof *k->label);
    return k->before && k->label ? true : fault_memory(f, "clusters", memory, pixels * 2);
}

bool segment_by_clusters(const segmenter *s, const real *pixels, size_t h, size_t w, segmentation *out, cluster_steps *steps,
                         arena *memory, pool *cores, fault *f) {
    cluster_steps own = {NULL, NULL, NULL}, *k = steps ? steps : &own;
    real *grids;
    explainer x;
    enlarging up;
    cluster_room r;
    out->windows = 1;
    out->label = arena_alloc(memory, out->height * out->width, sizeof *out->label);
    if (!out->label) return fault_memory(f, "clusters", memory, out->height * out->width * sizeof *out->label);
    size_t mark = arena_mark(memory);
    bool ok = make_steps(k, h * w, memory, f) && whole_picture(s, pixels, h, w, &x, &grids, memory, cores, f);
    if (ok && !k->clusters && !(k->clusters = arena_alloc(memory, x.n, sizeof *k->clusters)))
        ok = fault_memory(f, "clusters", memory, x.n * sizeof *k->clusters);
    ok = ok && make_room(&r, x.gh * x.gw, x.gw, h, w, s->classes->count, memory, f) &&
         enlarging_make(&up, x.gh, x.gw, h, w, memory, f);
    if (ok) loudest(s, grids, &up, k->before, r.wide, r.best, r.row);
    ok = ok && unite(s, &x, h, w, &r, k, memory, cores, f);
    for (size_t y = 0; ok && y < out->height; y++) /* nearest */
        for (size_t q = 0; q < out->width; q++)
            out->label[y * out->width + q] = k->label[(2 * y + 1) * h / (2 * out->height) * w + (2 * q + 1) * w / (2 * out->width)];
    arena_reset(memory, mark);
    return ok;
}
