/* figures.c - the core's numbers, one line each: name, hash of the bytes, first number, sum. test/test_figures.sh builds it
 * in plain C (no BLAS, no vectors, no fused multiply-add) and compares with what version 1.0.0 gave. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "maskinv.h"
#include "methods.h"
#include "x_seeded.h"

enum { SIDE = 48, CELLS = 36, TEXTS = 3, EMBED = 24, ITERS = 4, ROOM = 48 << 20 };
static unsigned char *room;
static real pixels[3 * SIDE * SIDE], mask[SIDE * SIDE], texts[TEXTS * EMBED], empty[EMBED];

static void tell(const char *what, const char *which, const real *v, size_t n) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    const unsigned char *bytes = (const unsigned char *)v;
    double sum = 0;
    for (size_t i = 0; i < n * sizeof *v; i++) hash = (hash ^ bytes[i]) * 1099511628211u;
    for (size_t i = 0; i < n; i++) sum += fabs((double)v[i]);
    printf("%s %s %016llx %.6g %.6g\n", what, which, (unsigned long long)hash, (double)v[0], sum);
}

static void check(bool ok, const fault *f) {
    if (ok) return;
    fprintf(stderr, "fault %d %s\n", (int)f->code, f->where);
    exit(1);
}

static void invert(const clip_model *m, gradient_kind gradient, const char *name, const char *other) {
    real e[EMBED], losses[ITERS], after[SIDE * SIDE], map[SIDE * SIDE];
    arena a;
    fault f = {0};
    explained x;
    explainer room_of_other;
    explain_other its;
    explain_options o = {.layers = 2, .gradient = gradient, .steps = ITERS};
    arena_init(&a, room, ROOM);
    if (other) o.other = method_other(&room_of_other, other, &its);
    check(explain_open(&x, m, pixels, SIDE, SIDE, &o, &a, NULL, &f), &f);
    invert_options how = invert_defaults();
    how.iters = ITERS, how.alpha = (real)0.25, how.decay = (real)0.01;
    invert_result r = {.embedding = e, .losses = losses, .map_after = after};
    check(maskinv_invert(&x, mask, SIDE, SIDE, &how, &r, &f), &f);
    tell("image", name, x.embedding, EMBED);
    tell("inverted", name, e, EMBED);
    tell("losses", name, losses, ITERS);
    tell("map-after", name, after, SIDE * SIDE);
    if (other) return;
    check(explain_legrad(&x, texts, map, &f), &f);
    tell("map", name, map, SIDE * SIDE);
}

static void explain(const clip_model *m, const char *name) {
    real grids[TEXTS * CELLS], map[SIDE * SIDE];
    arena a;
    fault f = {0};
    explainer x;
    arena_init(&a, room, ROOM);
    check(method_open(&x, method_find(name), m, pixels, SIDE, SIDE, &(method_options){0}, &a, NULL, &f), &f);
    check(method_grids(&x, texts, TEXTS, empty, grids, &f), &f);
    tell("grids", name, grids, TEXTS * CELLS);
    check(method_map(&x, grids, map, &f), &f);
    tell("method-map", name, map, SIDE * SIDE);
    check(method_grids(&x, texts, 1, empty, grids, &f), &f);
    tell("one-text", name, grids, CELLS);
}

static void embed_text(const clip_model *m) {
    arena a;
    ag_tape t;
    static const uint32_t ids[] = {3, 17, 9, 25, 5, 30};
    arena_init(&a, room, ROOM);
    if (!ag_tape_init(&t, &a, NULL, 1)) exit(1);
    t.recording = false;
    ag_tensor *z = clip_text(&t, m, ids, 1, sizeof ids / sizeof *ids);
    check(z != NULL, &t.fault);
    tell("text", "six-ids", z->data, EMBED);
}

int main(void) {
    static const char *const EXPLAINERS[] = {"legrad",   "attention", "rollout", "gradcam",   "chefer", "similarity",
                                             "maskclip", "surgery",   "sclip",   "clearclip", "gem",    "naclip"};
    seeded_model s;
    uint64_t seed = 5;
    if (!(room = malloc(ROOM)) || !seeded_make(&s, seeded_config(32, 8, 32, 3, 2, EMBED), CLIP_F16, 7)) return 1;
    for (int i = 0; i < 3 * SIDE * SIDE; i++) pixels[i] = (real)((i * 7919 % 2003) - 1001) / 500;
    for (int i = 0; i < SIDE * SIDE; i++) mask[i] = (i % SIDE - 20) * (i % SIDE - 20) + (i / SIDE - 30) * (i / SIDE - 30) < 150;
    seeded_normal(&seed, texts, TEXTS * EMBED);
    seeded_normal(&seed, empty, EMBED);
    for (size_t t = 0; t <= TEXTS; t++) {
        real *e = t < TEXTS ? texts + t * EMBED : empty, length = (real)sqrt((double)k_dot(e, e, EMBED));
        for (size_t i = 0; i < EMBED; i++) e[i] /= length;
    }
    embed_text(&s.model);
    invert(&s.model, GRADIENT_FACTORED, "factored", NULL);
    invert(&s.model, GRADIENT_DECOMPOSED, "decomposed", NULL);
    invert(&s.model, GRADIENT_AUTOGRAD, "autograd", NULL);
    invert(&s.model, GRADIENT_AUTOGRAD, "gradcam", "gradcam");
    invert(&s.model, GRADIENT_AUTOGRAD, "chefer", "chefer");
    invert(&s.model, GRADIENT_AUTOGRAD, "rollout", "rollout");
    for (size_t i = 0; i < sizeof EXPLAINERS / sizeof *EXPLAINERS; i++) explain(&s.model, EXPLAINERS[i]);
    seeded_free(&s);
    free(room);
    return 0;
}
