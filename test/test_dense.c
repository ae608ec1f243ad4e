/* test_dense.c - NACLIP, ResCLIP on its three bases, SC-CLIP, CLIPtrase and PAMR against float64 (test/make_dense.py): on a
 * square of the model's side, and on a wider grid, where the position embedding is resized as the authors' code does it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "methods.h"
#include "map.h"
#include "x_fixture.h"
#include "sys/threads.h"

static void dense_open(fixture *x, const char *model) {
    char path[300];
    err e = {{0}};
    memset(x, 0, sizeof *x);
    snprintf(path, sizeof path, "test/data/%s", model);
    if (!(x->c = checkpoint_open(path, &e))) fail_msg("%s", e.text);
    x->model = checkpoint_model(x->c);
    snprintf(path, sizeof path, "test/data/dense/%s.safetensors", model);
    if (!(x->expected = st_open(path, &e))) fail_msg("%s", e.text);
    x->room = mem_reserve((size_t)1 << 30);
    assert_non_null(x->room);
    arena_init(&x->memory, x->room, (size_t)1 << 28);
}

static void dense_close(fixture *x) {
    while (x->count) free(x->kept[--x->count]);
    st_free(x->expected);
    checkpoint_free(x->c);
    mem_release(x->room, (size_t)1 << 30);
}

/* Bytes [h,w,3] of the expected file -> pixels [3,h,w] as CLIP normalises them. */
static real *pixels_of(fixture *x, const char *name, size_t *h, size_t *w) {
    size_t n;
    const clip_config *c = &x->model->config;
    real *bytes = fixture_get(x, &n, "%s.u8", name);
    const st_tensor *t = NULL;
    for (size_t i = 0; i < st_count(x->expected); i++) {
        char full[60];
        snprintf(full, sizeof full, "%s.u8", name);
        t = st_find(x->expected, full);
    }
    *h = t->shape[0], *w = t->shape[1];
    real *out = arena_alloc(&x->memory, n, sizeof *out);
    for (size_t i = 0; i < *h * *w; i++)
        for (size_t k = 0; k < 3; k++) out[k * *h * *w + i] = (bytes[3 * i + k] / 255 - c->mean[k]) / c->std[k];
    return out;
}

typedef struct { const char *method, *expected, *queries; method_base base; } row;
static const row rows[] = {{"naclip", "naclip", "queries", BASE_NACLIP},
                           {"resclip", "resclip.naclip", "queries", BASE_NACLIP},
                           {"resclip", "resclip.clearclip", "queries", BASE_CLEARCLIP},
                           {"resclip", "resclip.sclip", "queries", BASE_SCLIP},
                           {"scclip", "scclip", "scclip.queries", BASE_NACLIP},
                           {"cliptrase", "cliptrase", "cliptrase.queries", BASE_NACLIP}};
enum { ROWS = sizeof rows / sizeof *rows };

static void against_float64(const char *model, const char *pixels, const char *prefix) {
    fixture x;
    size_t h, w, n, count;
    dense_open(&x, model);
    const real *p = pixels_of(&x, pixels, &h, &w), *threshold = fixture_get(&x, &n, "%s.threshold", prefix);
    for (size_t i = 0; i < ROWS; i++) {
        fault f = {0};
        explainer e;
        size_t mark = arena_mark(&x.memory);
        const method_settings settings = {2, (real).4, (real)1.8, (real).7, *threshold, rows[i].base}; /* the fixtures' */
        const real *texts = fixture_get(&x, &n, "%s", rows[i].queries);
        const real *expected = fixture_get(&x, &count, "%s.%s.grid", prefix, rows[i].expected);
        const method *how = method_find(rows[i].method);
        assert_non_null(how);
        if (!method_open(&e, how, x.model, p, h, w, &(method_options){.settings = &settings}, &x.memory, NULL, &f))
            fail_msg("%s: fault %d %s", rows[i].expected, f.code, f.where);
        size_t queries = n / x.model->config.embed;
        assert_int_equal(count, queries * e.gh * e.gw);
        real *grids = arena_alloc(&x.memory, count, sizeof *grids);
        if (!method_grids(&e, texts, queries, NULL, grids, &f)) fail_msg("%s: fault %d %s", rows[i].expected, f.code, f.where);
        double off = worst(grids, expected, count);
        if (!(off <= BY_BUILD(5e-5, 1e-6))) fail_msg("%s %s %s: %g from float64", model, prefix, rows[i].expected, off);
        arena_reset(&x.memory, mark);
    }
    dense_close(&x);
}

static void three_layers(void **state) {
    (void)state;
    against_float64("nano-hf-f32", "square", "square");
    against_float64("nano-hf-f32", "wide", "wide.authors");
}

static void twelve_layers(void **state) {
    (void)state;
    against_float64("nano12-openclip-f16", "square", "square");
    against_float64("nano12-openclip-f16", "wide", "wide.authors");
}

static void pamr_is_the_authors(void **state) {
    static const size_t small[] = {8, 16}, many[] = {1, 2, 4, 8, 12, 24};
    fixture x = {0};
    err e = {{0}};
    size_t n, m;
    (void)state;
    if (!(x.expected = st_open("test/data/dense/pieces.safetensors", &e))) fail_msg("%s", e.text);
    x.room = mem_reserve((size_t)1 << 30);
    arena_init(&x.memory, x.room, (size_t)1 << 26);
    pool *cores = pool_start(2);
    const real *image = fixture_get(&x, &n, "pamr.image");
    for (int which = 0; which < 2; which++) {
        fault f = {0};
        real *masks = fixture_get(&x, &m, "pamr.mask");
        const real *expected = fixture_get(&x, &m, which ? "pamr.50.1-2-4-8-12-24" : "pamr.10.8-16");
        assert_true(explain_pamr(image, 3, 20, 26, masks, 4, which ? 50 : 10, which ? many : small, which ? 6 : 2, &x.memory,
                                 which ? cores : NULL, &f));
        assert_close(masks, expected, m, BY_BUILD(1e-4, 1e-6));
    }
    fault f = {0};
    assert_false(explain_pamr(image, 3, 20, 26, NULL, 0, 1, many, 9, &x.memory, NULL, &f));
    assert_int_equal(f.code, FAULT_RANGE);
    pool_stop(cores);
    dense_close(&x);
}

/* A full arena is a fault that says so, wherever it is met. */
static void little_memory(void **state) {
    (void)state;
    for (size_t i = 1; i < ROWS; i++) {
        fixture x;
        size_t h, w, n;
        dense_open(&x, "nano-hf-f32");
        const real *p = pixels_of(&x, "square", &h, &w);
        const real *texts = fixture_get(&x, &n, "queries");
        bool done = false;
        for (size_t room = 20000; !done; room += room / 3) {
            fault f = {0};
            explainer e;
            arena a;
            real grids[6 * 16];
            arena_init(&a, (unsigned char *)x.room + ((size_t)1 << 29), room);
            const method_settings s = {2, (real).4, (real)1.8, (real).7, (real).5, rows[i].base};
            done = method_open(&e, method_find(rows[i].method), x.model, p, h, w, &(method_options){.settings = &s}, &a, NULL, &f) &&
                   method_grids(&e, texts, 6, NULL, grids, &f);
            if (!done) assert_true(f.code == FAULT_MEMORY || f.code == FAULT_TAPE);
        }
        dense_close(&x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(three_layers), cmocka_unit_test(twelve_layers),
                                       cmocka_unit_test(pamr_is_the_authors), cmocka_unit_test(little_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
