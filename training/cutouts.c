/* cutouts.c - things cut out of scenes, and their linear space (see cutouts.h). */
#include "training/cutouts.h"
#include "kernels.h"
#include "sys/random.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool cutouts_room(cutouts *c, size_t count, err *e) {
    *c = (cutouts){.count = count, .pixels = mem_alloc(count, CUTOUT_NUMBERS), .object = mem_alloc(count, sizeof(scene_object))};
    if (c->pixels && c->object) return true;
    cutouts_free(c);
    return err_set(e, "no memory for %zu cut-out pictures", count);
}

void cutouts_free(cutouts *c) {
    mem_free(c->pixels), mem_free(c->object);
    *c = (cutouts){0};
}

/* ---- one of them ---------------------------------------------------------------------------------------- */
/* Channel k at (x, y), bilinear: the object where its mask is, else grey. */
static double sample(const scene *sc, const unsigned char *mask, double x, double y, size_t k) {
    double fx = floor(x), fy = floor(y), sum = 0;
    for (int i = 0; i < 4; i++) {
        double px = fx + (i & 1), py = fy + (i >> 1), v = CUTOUT_GREY;
        double weight = (1 - fabs(x - px)) * (1 - fabs(y - py));
        if (px >= 0 && py >= 0 && px < (double)sc->side && py < (double)sc->side) {
            size_t at = (size_t)py * sc->side + (size_t)px;
            v += mask[at] / 255.0 * (sc->image.rgb[at * 3 + k] - v);
        }
        sum += weight * v;
    }
    return sum;
}

void cutout_pixels(const scene *sc, size_t k, unsigned char out[CUTOUT_NUMBERS]) {
    const scene_object *o = &sc->object[k];
    double w = (double)o->box[2] - (double)o->box[0], h = (double)o->box[3] - (double)o->box[1], side = 1.08 * fmax(w, h);
    double left = ((double)o->box[0] + (double)o->box[2] - side) / 2, top = ((double)o->box[1] + (double)o->box[3] - side) / 2;
    for (size_t i = 0; i < CUTOUT_NUMBERS; i++) {
        size_t px = i / 3 % CUTOUT_SIDE, py = i / 3 / CUTOUT_SIDE;
        double sum = 0;
        for (int part = 0; part < 4; part++) /* four points of each pixel */
            sum += sample(sc, o->mask, left + side * ((double)px + 0.25 + 0.5 * (part & 1)) / (double)CUTOUT_SIDE - 0.5,
                          top + side * ((double)py + 0.25 + 0.5 * (part >> 1)) / (double)CUTOUT_SIDE - 0.5, i % 3);
        out[i] = (unsigned char)floor(sum / 4 + 0.5);
    }
}

void cutout_take(cutouts *c, size_t i, const scene *sc, size_t k) {
    cutout_pixels(sc, k, c->pixels + i * CUTOUT_NUMBERS);
    c->object[i] = sc->object[k];
    c->object[i].mask = NULL;
}

void cutout_numbers(const unsigned char *pixels, real *out) {
    for (size_t i = 0; i < CUTOUT_NUMBERS; i++) out[i] = (real)pixels[i] / (real)127.5 - 1;
}

/* ---- many ------------------------------------------------------------------------------------------------- */
typedef struct {
    cutouts *c;
    const scene_source *source;
    uint64_t seed;
    size_t side;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err *e;
} making;

static void make_task(void *arg, size_t i) {
    making *m = arg;
    scene sc;
    err e = {{0}};
    if (atomic_load(&m->failed)) return;
    if (scene_make(m->source, m->seed, i, m->side, 1, 1, &sc, &e)) cutout_take(m->c, i, &sc, 0), scene_free(&sc);
    else if (!atomic_exchange(&m->failed, true)) *m->e = e;
}

bool cutouts_make(cutouts *c, const scene_source *source, uint64_t seed, size_t count, size_t side, pool *cores, err *e) {
    making m = {c, source, seed, side, false, e};
    if (!cutouts_room(c, count, e)) return false;
    spread(cores, count, make_task, &m);
    return !atomic_load(&m.failed);
}

/* ---- directions in which they differ ----------------------------------------------------------------------- */
enum { PIECES = 16, ROUNDS = 24 }; /* fixed, so that the bytes do not depend on the number of cores */
typedef struct {
    size_t n, rows; /* pictures, directions */
    const real *x;  /* [n,N] less the mean */
    real *spread, *q, *z; /* [N,N], [rows,N], [rows,N] */
} fitting;

static void spread_task(void *arg, size_t i) { /* rows of x^T x / n */
    fitting *f = arg;
    size_t N = CUTOUT_NUMBERS, first = N * i / PIECES, m = N * (i + 1) / PIECES - first;
    gemm(T, NO_T, m, N, f->n, 1 / (real)f->n, f->x + first, N, f->x, N, 0, f->spread + first * N, N);
}

static void turn_task(void *arg, size_t i) { /* rows of q spread */
    fitting *f = arg;
    size_t N = CUTOUT_NUMBERS, first = f->rows * i / PIECES, m = f->rows * (i + 1) / PIECES - first;
    if (m) gemm(NO_T, NO_T, m, N, N, 1, f->q + first * N, N, f->spread, N, 0, f->z + first * N, N);
}

/* Gram and Schmidt, each row twice. */
static void orthonormal(real *q, size_t rows) {
    size_t N = CUTOUT_NUMBERS;
    for (size_t i = 0; i < rows; i++) {
        for (size_t k = 0; k < 2 * i; k++) k_axpy(-k_dot(q + i * N, q + k % i * N, N), q + k % i * N, q + i * N, N);
        real length = (real)sqrt((double)k_dot(q + i * N, q + i * N, N)), inverse = length > 0 ? 1 / length : 0;
        for (size_t k = 0; k < N; k++) q[i * N + k] *= inverse;
    }
}

/* Orthogonal iteration: q <- orthonormal(q spread), until its rows are the leading eigenvectors; then (13.1). */
static void fit(fitting *f, size_t K, uint64_t seed, pool *cores, real *basis, real *scale) {
    size_t N = CUTOUT_NUMBERS;
    double c = 0;
    for (size_t i = 0; i < f->rows * N; i++) f->q[i] = (real)mix_normal(seed, i);
    spread(cores, PIECES, spread_task, f);
    for (size_t round = 0; round < ROUNDS; round++) {
        orthonormal(f->q, f->rows);
        spread(cores, PIECES, turn_task, f);
        if (round + 1 < ROUNDS) memcpy(f->q, f->z, f->rows * N * sizeof(real));
    }
    for (size_t k = 0; k < K; k++) {
        double lambda = (double)k_dot(f->q + k * N, f->z + k * N, N);
        scale[k] = (real)pow(fmax(lambda, 1e-12), 0.25);
        c += (double)scale[k] / (double)K;
        for (size_t i = 0; i < N; i++) basis[i * K + k] = f->q[k * N + i];
    }
    for (size_t k = 0; k < K; k++) scale[k] *= (real)c;
}

bool cutout_space_fit(cutout_space *s, const cutouts *c, const uint32_t *allowed, size_t n, size_t K, uint64_t seed, pool *cores,
                      err *e) {
    size_t N = CUTOUT_NUMBERS, rows = K + 16;
    *s = (cutout_space){K, mem_alloc(N, K * sizeof(real)), mem_alloc(N, sizeof(real)), mem_alloc(K, sizeof(real)), {0}, {{0}}};
    real *x = mem_alloc(n, N * sizeof *x), *room = mem_alloc(N + 2 * rows, N * sizeof *room);
    fitting f = {n, rows, x, room, NULL, NULL};
    bool good = (x && room && s->basis && s->mean && s->scale) || err_set(e, "no memory for the linear space of %zu pictures", n);
    if (good) {
        f.q = room + N * N, f.z = f.q + rows * N;
        for (size_t i = 0; i < n; i++) cutout_numbers(c->pixels + (allowed ? allowed[i] : i) * N, x + i * N);
        for (size_t i = 0; i < n; i++) k_axpy(1 / (real)n, x + i * N, s->mean, N);
        for (size_t i = 0; i < n; i++) k_axpy(-1, s->mean, x + i * N, N);
        fit(&f, K, seed, cores, s->basis, s->scale);
    }
    mem_free(x), mem_free(room);
    return good;
}

void cutout_space_free(cutout_space *s) {
    mem_free(s->basis), mem_free(s->mean), mem_free(s->scale);
    *s = (cutout_space){0};
}

real *cutout_space_into(const cutout_space *s, const cutouts *c, err *e) {
    size_t N = CUTOUT_NUMBERS, K = s->count;
    real *x = mem_alloc(1, N * sizeof *x), *a = mem_alloc(c->count, K * sizeof *a);
    if (!x || !a) return mem_free(x), mem_free(a), (void)err_set(e, "no memory for coefficients of %zu pictures", c->count), NULL;
    for (size_t i = 0; i < c->count; i++) {
        cutout_numbers(c->pixels + i * N, x);
        k_axpy(-1, s->mean, x, N);
        gemm(NO_T, NO_T, 1, K, N, 1, x, N, s->basis, K, 0, a + i * K, K);
        for (size_t k = 0; k < K; k++) a[i * K + k] /= s->scale[k];
    }
    mem_free(x);
    return a;
}

void cutout_space_list(cutout_space *s, part_list *l) {
    real *const data[] = {s->basis, s->mean, s->scale};
    for (size_t i = 0; i < 3; i++) s->tensor[i].data = data[i];
    s->as = (linear_space){CUTOUT_NUMBERS, s->count, &s->tensor[0], &s->tensor[1], &s->tensor[2]};
    space_weights(&s->as, l);
}

/* ---- the words for them ---------------------------------------------------------------------------------------- */
static int by_bytes(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

bool words_names(const scene_source *source, word_list *out, err *e) {
    *out = (word_list){mem_alloc(scene_names(source), sizeof *out->word), scene_names(source)};
    if (!out->word) return err_set(e, "no memory for words");
    for (size_t i = 0; i < out->count; i++) out->word[i] = scene_name(source, i);
    qsort(out->word, out->count, sizeof *out->word, by_bytes);
    return true;
}

bool words_colours(word_list *out, err *e) {
    *out = (word_list){mem_alloc(scene_colours(), sizeof *out->word), scene_colours()};
    if (!out->word) return err_set(e, "no memory for words");
    for (size_t i = 0; i < out->count; i++) out->word[i] = scene_colour(i);
    qsort(out->word, out->count, sizeof *out->word, by_bytes);
    return true;
}

size_t word_find(const word_list *w, const char *word) {
    for (size_t i = 0; i < w->count; i++)
        if (!strcmp(w->word[i], word)) return i;
    return SIZE_MAX;
}

void words_free(word_list *w) {
    mem_free(w->word);
    *w = (word_list){0};
}

char *words_lines(const word_list *w, size_t *bytes, err *e) {
    size_t at = 0;
    *bytes = 0;
    for (size_t i = 0; i < w->count; i++) *bytes += strlen(w->word[i]) + 1;
    char *text = mem_alloc(*bytes + 1, 1);
    if (!text) return (void)err_set(e, "no memory for words"), NULL;
    for (size_t i = 0; i < w->count; i++) at += (size_t)sprintf(text + at, "%s\n", w->word[i]);
    return text;
}
