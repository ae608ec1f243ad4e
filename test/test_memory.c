/* test_memory.c - the formulas of docs/PORTING.md for the arena against its real peak: never below it, and near it. They are
 * of the core as a chip has it, without a BLAS: `make test` runs this in the BLAS=none build, and skips it in others. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "explain.h"
#include "gemm.h"
#include "x_seeded.h"

typedef struct { size_t side, patch, width, heads, embed, layers; } shape;
static const shape SHAPES[] = {{48, 8, 128, 4, 128, 3}, {96, 8, 128, 4, 128, 1}, {96, 8, 128, 4, 128, 3}, {192, 8, 128, 4, 128, 2},
                               {96, 16, 384, 6, 256, 1}, {224, 16, 384, 6, 256, 2}};
enum { COUNT = sizeof SHAPES / sizeof *SHAPES, ROOM = 64 << 20 };

static double peak(const shape *s, gradient_kind gradient, clip_type type) {
    seeded_model m;
    arena memory;
    explained x;
    fault f = {0};
    explain_options o = {.layers = s->layers, .gradient = gradient, .steps = 10};
    size_t numbers = 3 * s->side * s->side;
    unsigned char *room = malloc(ROOM);
    real *pixels = malloc(numbers * sizeof *pixels);
    assert_true(room && pixels && seeded_make(&m, seeded_config(s->side, s->patch, s->width, 4, s->heads, s->embed), type, 7));
    for (size_t i = 0; i < numbers; i++) pixels[i] = (real)((int)(i * 7919 % 2003) - 1001) / 500;
    arena_init(&memory, room, ROOM);
    assert_true(explain_open(&x, &m.model, pixels, s->side, s->side, &o, &memory, NULL, &f));
    seeded_free(&m);
    free(pixels);
    free(room);
    return (double)memory.peak;
}

static double by_formula(const shape *s, gradient_kind gradient, clip_type type) {
    double p = (double)s->patch, g = (double)(s->side / s->patch), n = g * g + 1, D = (double)s->width, F = 4 * D,
           H = (double)s->heads, E = (double)s->embed, L = (double)s->layers;
    double signs = L * H * n * (n - 1) / 2;
    if (gradient == GRADIENT_COMPACT)
        return 4 * (L * (2 * n * D + 2 * n + 2 * E + D) + signs + 4 * n * D + 192 * n + 128 * D + n * (n < 256 ? n : 256) +
                    n * (6 * p * p + 7 * D) + 24 * D + (type == CLIP_F16 ? n * D + E * D + 4 * D : 0));
    return 4 * (L * (2 * n * F + F * D + 2 * n * D) + signs + 37 * n * D + 2 * H * n * n + 4 * D * D +
                (type == CLIP_F16 ? (5 * L + 6) * D * D : 0));
}

static void check(const char *test, gradient_kind gradient, clip_type type, double least) {
    if (strcmp(gemm_backend(), "portable") != 0) {
        print_message("[  SKIPPED ] %s: its formula is of the build without a BLAS, where it is run\n", test);
        skip();
    }
    for (size_t i = 0; i < COUNT; i++) {
        double is = peak(&SHAPES[i], gradient, type), said = by_formula(&SHAPES[i], gradient, type);
        if (!(is <= said && is >= least * said)) fail_msg("shape %zu: %.0f bytes, the formula says %.0f", i, is, said);
    }
}

static void compact_float32(void **state) { (void)state, check(__func__, GRADIENT_COMPACT, CLIP_F32, 0.85); }
static void compact_float16(void **state) { (void)state, check(__func__, GRADIENT_COMPACT, CLIP_F16, 0.85); }
static void factored_float32(void **state) { (void)state, check(__func__, GRADIENT_FACTORED, CLIP_F32, 0.6); }
static void factored_float16(void **state) { (void)state, check(__func__, GRADIENT_FACTORED, CLIP_F16, 0.6); }

int main(void) {
    static const struct CMUnitTest tests[] = {cmocka_unit_test(compact_float32), cmocka_unit_test(compact_float16),
                                              cmocka_unit_test(factored_float32), cmocka_unit_test(factored_float16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
