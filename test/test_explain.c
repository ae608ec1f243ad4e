/* test_explain.c - LeGrad against PyTorch in float64, its three gradients against each other, interpolation against its
 * definition. Also built in double and with our own products. */
#include "gradient.h"
#include "sys/threads.h"
#include "x_fixture.h"
#include "x_seeded.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "x_skip.h"

enum { GRADIENTS = 5 };
static const gradient_kind KINDS[GRADIENTS] = {GRADIENT_FACTORED, GRADIENT_DECOMPOSED, GRADIENT_AUTOGRAD, GRADIENT_JACOBIAN,
                                               GRADIENT_COMPACT};
static pool *cores;

static void check(bool ok, const fault *f) {
    if (!ok) fail_msg("fault %d %s %zu %zu", f->code, f->where, f->n[0], f->n[1]);
}

static void open_fixture(explained *x, fixture *fx, const char *size, explain_options o, fault *f) {
    size_t count;
    real *pixels = fixture_get(fx, &count, "%s.pixels", size);
    size_t side = (size_t)(sqrt((double)count / 3) + 0.5);
    explain_open(x, fx->model, pixels, side, side, &o, &fx->memory, cores, f);
}

/* ---- against PyTorch ------------------------------------------------------------------------------------ */
static void image_embedding_is_pytorchs(void **state) {
    (void)state;
    for (size_t i = 0; i < FIXTURES * FIXTURE_SIZES; i++) {
        fixture fx;
        explained x;
        fault f = {0};
        size_t E;
        const char *size = fixture_sizes[i / FIXTURES];
        fixture_open(&fx, fixture_names[i % FIXTURES]);
        open_fixture(&x, &fx, size, (explain_options){.layers = 1}, &f);
        real *expected = fixture_get(&fx, &E, "%s.image.embedding", size);
        assert_int_equal(E, fx.model->config.embed);
        assert_close(x.embedding, expected, E, BY_BUILD(2e-5, 1e-6));
        fixture_close(&fx);
    }
}

static void text_maps(gradient_kind kind) {
    for (size_t i = 0; i < FIXTURES * FIXTURE_SIZES; i++)
        for (size_t layers = 1; layers <= 2; layers++) {
            fixture fx;
            explained x;
            fault f = {0};
            size_t E, pixels;
            const char *size = fixture_sizes[i / FIXTURES];
            fixture_open(&fx, fixture_names[i % FIXTURES]);
            open_fixture(&x, &fx, size, (explain_options){.layers = layers, .gradient = kind}, &f);
            real *text = fixture_get(&fx, &E, "text.embedding"); /* of any length: explain_grid makes it unit */
            real *expected = fixture_get(&fx, &pixels, "%s.legrad.last%zu.text", size, layers);
            assert_int_equal(pixels, x.height * x.width);
            real *map = malloc(pixels * sizeof *map);
            check(explain_legrad(&x, text, map, &f), &f);
            assert_close(map, expected, pixels, BY_BUILD(5e-5, 1e-6));
            free(map);
            fixture_close(&fx);
        }
}
static void factored_maps_are_pytorchs(void **state) { (void)state, text_maps(GRADIENT_FACTORED); }
static void decomposed_maps_are_pytorchs(void **state) { (void)state, text_maps(GRADIENT_DECOMPOSED); }
static void autograd_maps_are_pytorchs(void **state) { (void)state, text_maps(GRADIENT_AUTOGRAD); }
static void jacobian_maps_are_pytorchs(void **state) { (void)state, text_maps(GRADIENT_JACOBIAN); }
static void compact_maps_are_pytorchs(void **state) { (void)state, text_maps(GRADIENT_COMPACT); }

/* ---- the three gradients, on models of several shapes --------------------------------------------------------- */
enum { ROOM = 512 << 20 };
typedef struct {
    seeded_model s;
    explained x;
    arena a;
    void *room;
    real *pixels;
} bench;

static void bench_open(bench *b, clip_config c, uint64_t weights, size_t height, size_t width, explain_options o,
                       pool *p) {
    fault f = {0};
    uint64_t seed = 11;
    assert_true(seeded_make(&b->s, c, CLIP_REAL, weights));
    assert_non_null(b->room = mem_reserve(ROOM));
    arena_init(&b->a, b->room, ROOM);
    assert_non_null(b->pixels = malloc(3 * height * width * sizeof *b->pixels));
    seeded_normal(&seed, b->pixels, 3 * height * width);
    check(explain_open(&b->x, &b->s.model, b->pixels, height, width, &o, &b->a, p, &f), &f);
}

static void bench_close(bench *b) {
    free(b->pixels);
    mem_release(b->room, ROOM);
    seeded_free(&b->s);
}

/* R and its derivative along w, for a seeded embedding. */
static void map_and_derivative(explained *x, real *grid, real *de) {
    fault f = {0};
    uint64_t seed = 3;
    real e[64], w[256];
    size_t E = x->model->config.embed, cells = x->gh * x->gw;
    assert_true(E <= 64 && cells <= 256);
    seeded_normal(&seed, e, E);
    seeded_normal(&seed, w, cells);
    if (x->options.gradient != GRADIENT_AUTOGRAD) {
        check(explain_grid(x, e, grid, &f), &f);
        check(explain_transpose(x, e, false, w, de, &f), &f);
        return;
    }
    ag_tape *t = &x->tape;
    ag_tensor *leaf = ag_leaf(t, e, NULL, 1, 1, E), *r = explain_tape_grid(x, ag_normalize(t, leaf));
    check(ag_grad(t, r, ag_constant(t, w, 1, x->gh, x->gw), &leaf, 1, 0), &t->fault);
    memcpy(grid, r->data, cells * sizeof(real));
    memcpy(de, leaf->grad->data, E * sizeof(real));
}

static void all_gradients_agree(void **state) {
    (void)state;
    static const struct {
        size_t image, patch, width, layers, heads, embed, height, w, last, steps;
        act_kind act;
    } SHAPES[] = {
        {32, 8, 32, 3, 2, 24, 32, 32, 1, 10, ACT_QUICK_GELU}, /* joined: 20 passes of 17 tokens > 128 */
        {32, 8, 32, 3, 2, 24, 32, 32, 1, 1, ACT_QUICK_GELU},  /* not joined */
        {32, 8, 64, 3, 4, 32, 88, 16, 3, 10, ACT_GELU},       /* all layers, no square */
        {64, 4, 32, 2, 1, 16, 64, 64, 2, 1, ACT_GELU},        /* one head, more than one piece of rows */
        {16, 16, 48, 2, 3, 40, 16, 32, 1, 1, ACT_QUICK_GELU}, /* two patches */
    };
    derivatives d = {0, 0};
    for (size_t j = 0; j < 3 * sizeof SHAPES / sizeof *SHAPES; j++) {
        real grid[GRADIENTS][256], de[GRADIENTS][64];
        size_t cells = 0, i = j / 3;
        for (size_t k = 0; k < GRADIENTS; k++) {
            bench b;
            clip_config c = seeded_config(SHAPES[i].image, SHAPES[i].patch, SHAPES[i].width, SHAPES[i].layers,
                                          SHAPES[i].heads, SHAPES[i].embed);
            c.act_vision = SHAPES[i].act;
            explain_options o = {.layers = SHAPES[i].last, .gradient = KINDS[k], .steps = SHAPES[i].steps};
            bench_open(&b, c, j, SHAPES[i].height, SHAPES[i].w, o, cores);
            map_and_derivative(&b.x, grid[k], de[k]);
            cells = b.x.gh * b.x.gw;
            bench_close(&b);
        }
        for (size_t k = 1; k < GRADIENTS; k++) {
            assert_close(grid[0], grid[k], cells, BY_BUILD(1e-5, 1e-9));
            assert_derivative(&d, de[0], de[k], SHAPES[i].embed, BY_BUILD(1e-5, 1e-9));
        }
    }
    assert_few_kinks(&d);
}

/* Weights of every stored type are explained like their own values in `real`. */
static void stored_types_make_no_difference(void **state) {
    (void)state;
    static const clip_type TYPES[] = {CLIP_F32, CLIP_F16, CLIP_BF16, CLIP_F64};
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        seeded_model s;
        arena a;
        void *room = mem_reserve(ROOM);
        real pixels[3 * 32 * 32], grids[2][16], e[24];
        uint64_t seed = 8;
        seeded_normal(&seed, pixels, 3 * 32 * 32);
        seeded_normal(&seed, e, 24);
        assert_true(seeded_make(&s, seeded_config(32, 8, 32, 2, 2, 24), TYPES[i], 5));
        arena_init(&a, room, ROOM);
        for (size_t k = 0; k < 2; k++) { /* autograd takes every weight through the tape */
            explained x;
            fault f = {0};
            explain_options o = {.layers = 2, .gradient = k ? GRADIENT_AUTOGRAD : GRADIENT_FACTORED};
            check(explain_open(&x, &s.model, pixels, 32, 32, &o, &a, cores, &f) && explain_grid(&x, e, grids[k], &f),
                  &f);
        }
        assert_close(grids[0], grids[1], 16, BY_BUILD(1e-5, 1e-9));
        seeded_free(&s);
        mem_release(room, ROOM);
    }
}

static void derivative_is_the_maps_slope(void **state) {
    (void)state;
    if (sizeof(real) == sizeof(float)) SKIP("float has too few digits for differences; the double build does it");
    for (size_t k = 0; k < 2; k++) {
        bench b;
        explain_options o = {.layers = 2, .gradient = KINDS[k], .steps = 1};
        bench_open(&b, seeded_config(32, 8, 32, 3, 2, 24), 5, 32, 32, o, cores);
        fault f = {0};
        uint64_t seed = 9;
        real e[24], w[16], grid[16], de[24], slope[24];
        seeded_normal(&seed, e, 24);
        seeded_normal(&seed, w, 16);
        check(explain_grid(&b.x, e, grid, &f) && explain_transpose(&b.x, e, false, w, de, &f), &f);
        for (size_t i = 0; i < 24; i++) {
            double up, down;
            real at = e[i];
            e[i] = at + (real)1e-6;
            check(explain_grid(&b.x, e, grid, &f), &f);
            up = (double)k_dot(grid, w, 16);
            e[i] = at - (real)1e-6;
            check(explain_grid(&b.x, e, grid, &f), &f);
            down = (double)k_dot(grid, w, 16);
            e[i] = at;
            slope[i] = (real)((up - down) / 2e-6);
        }
        assert_close(de, slope, 24, 1e-6);
        bench_close(&b);
    }
}

/* ---- the same bytes -----------------------------------------------------------------------------------------------
 */
static void every_run_gives_the_same_bytes(void **state) {
    (void)state;
    for (size_t k = 0; k < GRADIENTS; k++) {
        real grid[2][256], de[2][64];
        for (size_t run = 0; run < 2; run++) {
            bench b;
            explain_options o = {.layers = 2, .gradient = KINDS[k], .steps = 10};
            bench_open(&b, seeded_config(64, 4, 32, 2, 4, 24), 5, 64, 64, o, cores);
            map_and_derivative(&b.x, grid[run], de[run]);
            if (run && k < 2) map_and_derivative(&b.x, grid[run], de[run]); /* asked again */
            bench_close(&b);
        }
        assert_memory_equal(grid[0], grid[1], sizeof grid[0]);
        assert_memory_equal(de[0], de[1], 24 * sizeof(real));
    }
}

static void any_number_of_threads_agrees(void **state) {
    (void)state;
    real grid[4][256], de[4][64];
    for (size_t width = 1; width <= 4; width++) {
        bench b;
        pool *p = width > 1 ? pool_start(width) : NULL;
        explain_options o = {.layers = 2, .gradient = GRADIENT_FACTORED, .steps = 10};
        bench_open(&b, seeded_config(64, 4, 32, 2, 4, 24), 5, 64, 64, o, p);
        map_and_derivative(&b.x, grid[width - 1], de[width - 1]);
        bench_close(&b);
        pool_stop(p);
        assert_close(grid[width - 1], grid[0], 256, BY_BUILD(1e-5, 1e-12));
        assert_close(de[width - 1], de[0], 24, BY_BUILD(KINK, 1e-12));
    }
}

static void the_first_grid_is_kept(void **state) {
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        bench b;
        explain_options o = {.layers = 1, .gradient = KINDS[k], .steps = 10};
        bench_open(&b, seeded_config(32, 8, 32, 2, 2, 24), 5, 32, 32, o, cores);
        fault f = {0};
        real first[16], again[16], other[16], e[24], w[16], de[2][24];
        uint64_t seed = 4;
        seeded_normal(&seed, e, 24);
        seeded_normal(&seed, w, 16);
        check(explain_grid_first(&b.x, first, &f) && explain_transpose(&b.x, b.x.embedding, true, w, de[0], &f), &f);
        check(explain_grid(&b.x, e, other, &f) && explain_grid_first(&b.x, again, &f), &f);
        check(explain_transpose(&b.x, b.x.embedding, true, w, de[1], &f), &f);
        assert_memory_equal(first, again, sizeof first);
        assert_memory_equal(de[0], de[1], sizeof de[0]);
        assert_far(other, first, 16, 1e-3);
        check(explain_grid(&b.x, b.x.embedding, again, &f), &f);
        assert_memory_equal(first, again, sizeof first);
        bench_close(&b);
    }
}

/* ---- what cannot be done is said -----------------------------------------------------------------------------------
 */
static void faults_name_what_was_wrong(void **state) {
    (void)state;
    fixture fx;
    explained x;
    real e[64] = {0};
    fixture_open(&fx, fixture_names[0]);
    fault f = {0};
    open_fixture(&x, &fx, "native", (explain_options){.layers = 4}, &f); /* it has three */
    assert_int_equal(f.code, FAULT_RANGE);
    assert_true(f.n[0] == 4 && f.n[1] == 1 && f.n[2] == 3);
    f = (fault){0};
    open_fixture(&x, &fx, "native", (explain_options){.layers = 1, .gradient = GRADIENT_DECOMPOSED, .memory = 1000},
                 &f);
    assert_int_equal(f.code, FAULT_MEMORY);
    assert_int_equal(f.n[0], 24 * 2 * 17 * 17 * sizeof(real)); /* E H n n */
    assert_int_equal(f.n[1], 1000);
    f = (fault){0};
    open_fixture(&x, &fx, "native", (explain_options){.layers = 1}, &f);
    real map[32 * 32];
    assert_false(explain_legrad(&x, e, map, &f)); /* of no direction */
    assert_int_equal(f.code, FAULT_NAN);
    e[3] = (real)NAN, f = (fault){0};
    assert_false(explain_legrad(&x, e, map, &f));
    assert_int_equal(f.code, FAULT_NAN);
    e[3] = 1, f = (fault){0};
    assert_true(explain_legrad(&x, e, map, &f));
    ((factored_layer *)x.layers[0].own)->v[fx.model->config.vision.width + 1] = (real)NAN; /* relu must not take it for a 0 */
    assert_false(explain_legrad(&x, e, map, &f));
    assert_int_equal(f.code, FAULT_NAN);
    real *pixels = calloc(3 * 33 * 32, sizeof *pixels);
    explain_options o = {.layers = 1};
    f = (fault){0};
    assert_false(explain_open(&x, fx.model, pixels, 33, 32, &o, &fx.memory, cores, &f));
    assert_int_equal(f.code, FAULT_SHAPE);
    f = (fault){0};
    pixels[5] = (real)INFINITY;
    assert_false(explain_open(&x, fx.model, pixels, 32, 32, &o, &fx.memory, cores, &f));
    assert_int_equal(f.code, FAULT_NAN);
    free(pixels);
    fixture_close(&fx);
}

/* Whatever the arena's size, too little is a fault and no more. */
static void little_memory_is_a_fault(void **state) {
    (void)state;
    seeded_model s;
    assert_true(seeded_make(&s, seeded_config(32, 8, 32, 2, 2, 24), CLIP_F16, 3));
    real pixels[3 * 32 * 32], e[24], map[32 * 32];
    uint64_t seed = 1;
    seeded_normal(&seed, pixels, 3 * 32 * 32);
    seeded_normal(&seed, e, 24);
    for (size_t k = 0; k < GRADIENTS; k++) {
        bool enough = false;
        for (size_t size = 64; !enough; size += size / 16 + 64) {
            void *room = malloc(size);
            arena a;
            explained x;
            fault f = {0};
            explain_options o = {.layers = 2, .gradient = KINDS[k], .steps = 1};
            arena_init(&a, room, size);
            enough = explain_open(&x, &s.model, pixels, 32, 32, &o, &a, cores, &f) && explain_legrad(&x, e, map, &f);
            if (!enough) assert_int_equal(f.code, FAULT_MEMORY);
            free(room);
            assert_true(size < (size_t)1 << 26);
        }
    }
    seeded_free(&s);
}

/* ---- watching
 * ---------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t tokens, attention, h, derivative;
    double row_sum;
} seen;

static void see(void *arg, const explain_value *v) {
    seen *s = arg;
    if (!strcmp(v->name, "tokens")) assert_int_equal(v->layer, s->tokens++);
    if (!strcmp(v->name, "h")) s->h++;
    if (!strcmp(v->name, "act'(h)")) s->derivative++;
    if (!strcmp(v->name, "attention")) {
        s->attention++;
        for (size_t i = 0; i < v->shape[0] * v->shape[1] * v->shape[2]; i++) s->row_sum += (double)v->data[i];
        s->row_sum -= (double)(v->shape[0] * v->shape[1]); /* rows of a softmax */
    }
}

static void a_watch_sees_the_forward_pass(void **state) {
    (void)state;
    seen s = {0};
    explain_watch watch = {see, &s};
    bench b;
    bench_open(&b, seeded_config(32, 8, 32, 3, 2, 24), 5, 32, 32, (explain_options){.layers = 2, .watch = &watch},
               cores);
    assert_true(s.tokens == 3 && s.attention == 2 && s.h == 2 && s.derivative == 2);
    assert_true(fabs(s.row_sum) < 1e-4);
    bench_close(&b);
}

/* ---- interpolation
 * ---------------------------------------------------------------------------------------------------------- */
/* (4.4) word for word: half-pixel centres, edges repeated. */
static double bilinear(const real *in, size_t h, size_t w, size_t oh, size_t ow, size_t i, size_t j) {
    double y = ((double)i + 0.5) * (double)h / (double)oh - 0.5, x = ((double)j + 0.5) * (double)w / (double)ow - 0.5;
    y = y < 0 ? 0 : y, x = x < 0 ? 0 : x;
    size_t y0 = (size_t)y, x0 = (size_t)x, y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
    double ty = y - (double)y0, tx = x - (double)x0;
    return (1 - ty) * ((1 - tx) * (double)in[y0 * w + x0] + tx * (double)in[y0 * w + x1]) +
           ty * ((1 - tx) * (double)in[y1 * w + x0] + tx * (double)in[y1 * w + x1]);
}

static const size_t SIDES[][5] = {/* gh, gw, patch, oh, ow */
                                  {4, 4, 8, 32, 32}, {4, 6, 8, 111, 156}, {7, 5, 3, 9, 100},     {1, 1, 16, 5, 3},
                                  {2, 3, 1, 2, 2},   {14, 14, 16, 1, 1},  {28, 28, 16, 480, 64}, {3, 1, 2, 7, 7}};
enum { SIDES_COUNT = sizeof SIDES / sizeof *SIDES, CELLS = 28 * 28 };

static void two_interpolations_are_one(void **state) {
    (void)state;
    void *room = mem_reserve(ROOM);
    uint64_t seed = 2;
    for (size_t s = 0; s < SIDES_COUNT; s++) {
        size_t gh = SIDES[s][0], gw = SIDES[s][1], p = SIDES[s][2], oh = SIDES[s][3], ow = SIDES[s][4];
        arena a;
        fault f = {0};
        lerp y, x;
        arena_init(&a, room, ROOM);
        real grid[CELLS], back[CELLS], *big = malloc(gh * p * gw * p * sizeof *big);
        real *out = malloc(oh * ow * sizeof *out), *g = malloc(oh * ow * sizeof *g),
             *plain = malloc(oh * ow * sizeof *g);
        seeded_normal(&seed, grid, gh * gw);
        for (size_t i = 0; i < gh * p * gw * p; i++)
            big[i] = (real)bilinear(grid, gh, gw, gh * p, gw * p, i / (gw * p), i % (gw * p));
        for (size_t i = 0; i < oh * ow; i++) plain[i] = (real)bilinear(big, gh * p, gw * p, oh, ow, i / ow, i % ow);
        assert_true(lerp_make_twice(&y, gh, p, oh, &a, &f) && lerp_make_twice(&x, gw, p, ow, &a, &f));
        lerp_apply(&y, &x, grid, out);
        assert_close(out, plain, oh * ow, BY_BUILD(2e-6, 1e-12));
        assert_true(map_fit(big, gh * p, gw * p, out, oh, ow, &a, &f));
        assert_close(out, plain, oh * ow, BY_BUILD(2e-6, 1e-12));
        lerp_apply(&y, &x, grid, out); /* <C r, g> = <r, C^T g> */
        seeded_normal(&seed, g, oh * ow);
        lerp_transpose(&y, &x, g, back);
        double there = 0, here = 0, size = 0;
        for (size_t i = 0; i < oh * ow; i++)
            there += (double)out[i] * (double)g[i], size += fabs((double)out[i] * (double)g[i]);
        for (size_t i = 0; i < gh * gw; i++) here += (double)grid[i] * (double)back[i];
        assert_below(fabs(there - here) / size, BY_BUILD(1e-5, 1e-12), "transpose", __FILE__, __LINE__);
        free(big), free(out), free(g), free(plain);
    }
    mem_release(room, ROOM);
}

static void extremes_are_those_of_all_pixels(void **state) {
    (void)state;
    uint64_t seed = 6;
    for (size_t s = 0; s < SIDES_COUNT * 8; s++) {
        size_t gh = SIDES[s / 8][0], gw = SIDES[s / 8][1], p = SIDES[s / 8][2];
        real grid[CELLS];
        seeded_normal(&seed, grid, gh * gw);
        double low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < gh * p; i++)
            for (size_t j = 0; j < gw * p; j++) {
                double v = bilinear(grid, gh, gw, gh * p, gw * p, i, j);
                low = v < low ? v : low;
                high = v > high ? v : high;
            }
        extremes e = map_extremes(grid, gh, gw, p);
        assert_below(fabs((double)e.low - low), BY_BUILD(1e-6, 1e-14), "low", __FILE__, __LINE__);
        assert_below(fabs((double)e.high - high), BY_BUILD(1e-6, 1e-14), "high", __FILE__, __LINE__);
        double at = bilinear(grid, gh, gw, gh * p, gw * p, e.high_at[0], e.high_at[1]);
        assert_below(fabs((double)e.high - at), BY_BUILD(1e-6, 1e-14), "high_at", __FILE__, __LINE__);
        real back[CELLS] = {0}; /* the pixel's shares of its cells sum to 1 and give its value */
        map_extremes_transpose(back, gh, gw, p, e.low_at, 1);
        double sum = 0, value = 0;
        for (size_t i = 0; i < gh * gw; i++) sum += (double)back[i], value += (double)back[i] * (double)grid[i];
        assert_below(fabs(sum - 1), BY_BUILD(1e-6, 1e-14), "shares", __FILE__, __LINE__);
        assert_below(fabs(value - (double)e.low), BY_BUILD(1e-6, 1e-14), "low's cells", __FILE__, __LINE__);
    }
}

static void maps_fill_zero_to_one_and_flat_ones_fault(void **state) {
    (void)state;
    void *room = mem_reserve(ROOM);
    arena a;
    fault f = {0};
    real grid[4] = {3, 3, 3, 3}, map[16];
    arena_init(&a, room, ROOM);
    assert_false(map_from_grid(grid, 2, 2, 2, 5, map, &a, &f));
    assert_int_equal(f.code, FAULT_FLAT);
    assert_int_equal(f.n[0], 5);
    f = (fault){0};
    grid[1] = (real)NAN;
    assert_false(map_from_grid(grid, 2, 2, 2, 5, map, &a, &f));
    assert_int_equal(f.code, FAULT_NAN);
    f = (fault){0};
    grid[1] = 7;
    assert_true(map_from_grid(grid, 2, 2, 2, 1, map, &a, &f));
    assert_true(map[3] == 1 && map[12] == 0 && map[5] > 0 && map[5] < 1);
    assert_int_equal(a.used, 0);
    mem_release(room, ROOM);
}

/* ---- a ResNet's convolutions against their definition, in double ----------------------------------------------- */
typedef struct { double *x; size_t h, w, C; } grid_of;

static double weight_at(const clip_weight *w, size_t i) { return (double)clip_number(w, i); }

/* (1.21) as it stands; frees what it reads unless it is kept. */
static grid_of convolved(const clip_model *m, size_t index, grid_of in, size_t stride, bool keep, const grid_of *beside, bool relu) {
    clip_conv at = clip_conv_at(&m->config, index);
    const clip_conv_weights *w = &m->convs[index];
    size_t k = at.side;
    grid_of out = {NULL, (in.h - 1) / stride + 1, (in.w - 1) / stride + 1, at.out};
    out.x = malloc(out.h * out.w * out.C * sizeof *out.x);
    double *kernel = malloc(at.out * at.in * k * k * sizeof *kernel);
    for (size_t i = 0; i < at.out * at.in * k * k; i++) kernel[i] = weight_at(&w->kernel, i);
    for (size_t i = 0; i < out.h * out.w * out.C; i++) {
        size_t y = i / out.C / out.w * stride + 1, x = i / out.C % out.w * stride + 1, o = i % out.C;
        double sum = 0, factor = weight_at(&w->gamma, o) / sqrt(weight_at(&w->variance, o) + 1e-5);
        for (size_t c = 0; c < in.C; c++)
            for (size_t t = 0; t < k * k; t++) {
                size_t iy = y + t / k - k / 2, ix = x + t % k - k / 2; /* from 1 */
                if (iy >= 1 && iy <= in.h && ix >= 1 && ix <= in.w)
                    sum += in.x[((iy - 1) * in.w + ix - 1) * in.C + c] * kernel[(o * in.C + c) * k * k + t];
            }
        sum = (sum - weight_at(&w->mean, o)) * factor + weight_at(&w->beta, o) + (beside ? beside->x[i] : 0);
        out.x[i] = relu && sum < 0 ? 0 : sum;
    }
    free(kernel);
    if (!keep) free(in.x);
    return out;
}

static grid_of halved(grid_of in, bool keep) {
    grid_of out = {malloc(in.h * in.w * in.C * sizeof *out.x), in.h / 2, in.w / 2, in.C};
    for (size_t i = 0; i < out.h * out.w * out.C; i++) {
        const double *a = in.x + (i / out.C / out.w * 2 * in.w + i / out.C % out.w * 2) * in.C + i % out.C, *b = a + in.w * in.C;
        out.x[i] = (a[0] + a[in.C] + b[0] + b[in.C]) / 4;
    }
    if (!keep) free(in.x);
    return out;
}

static grid_of network(const clip_model *m, const real *pixels, size_t h, size_t w) {
    grid_of x = {malloc(3 * h * w * sizeof *x.x), h, w, 3};
    size_t index = 3;
    for (size_t i = 0; i < 3 * h * w; i++) x.x[i % (h * w) * 3 + i / (h * w)] = (double)pixels[i];
    for (size_t i = 0; i < 3; i++) x = convolved(m, i, x, i ? 1 : 2, false, NULL, true);
    x = halved(x, false);
    for (size_t s = 0; s < 4; s++)
        for (size_t b = 0; b < m->config.resnet[s]; index += b ? 3 : 4, b++) {
            bool shrinks = s && !b;
            grid_of y = convolved(m, index, x, 1, true, NULL, true), side = shrinks ? halved(x, false) : x;
            y = convolved(m, index + 1, y, 1, false, NULL, true);
            if (shrinks) y = halved(y, false);
            if (!b) side = convolved(m, index + 3, side, 1, false, NULL, false);
            x = convolved(m, index + 2, y, 1, false, &side, true);
            free(side.x);
        }
    return x;
}

/* Sides that are odd in the last stages, outputs that are no multiple of a panel, several blocks; any number of cores. */
static void convolutions_are_their_definition(void **state) {
    (void)state;
    enum { H = 96, W = 160, CELLS_OF = H / 32 * (W / 32), D = 768 };
    clip_config c = seeded_config(96, 32, D, 0, 24, 32);
    seeded_model s;
    void *room = mem_reserve(ROOM);
    real *pixels = malloc(3 * H * W * sizeof *pixels), *first = malloc(CELLS_OF * D * sizeof *first);
    real *expected = malloc(CELLS_OF * D * sizeof *expected);
    uint64_t seed = 4;
    c.resnet[0] = c.resnet[1] = c.resnet[2] = 1, c.resnet[3] = 2;
    c.pool = CLIP_POOL_CELLS, c.no_ln_pre = true, c.pooler = (clip_tower){.width = D, .heads = 24, .eps = (real)1e-5};
    assert_true(room && seeded_make(&s, c, CLIP_REAL, 11));
    seeded_normal(&seed, pixels, 3 * H * W);
    grid_of x = network(&s.model, pixels, H, W);
    for (size_t i = 0; i < CELLS_OF * D; i++) expected[i] = (real)x.x[i];
    for (size_t width = 1; width <= 3; width++) {
        arena a;
        ag_tape t;
        pool *some = pool_start(width);
        arena_init(&a, room, ROOM);
        assert_true(ag_tape_init(&t, &a, some, 64));
        t.recording = false;
        ag_tensor *y = clip_resnet(&t, &s.model, clip_patches(&t, &s.model, pixels, H, W), H / 32, W / 32);
        check(y != NULL, &t.fault);
        if (width == 1) memcpy(first, y->data, CELLS_OF * D * sizeof *first);
        assert_close(y->data, expected, CELLS_OF * D, BY_BUILD(1e-5, 1e-12));
        assert_memory_equal(y->data, first, CELLS_OF * D * sizeof *first);
        pool_stop(some);
    }
    free(x.x), free(pixels), free(first), free(expected);
    seeded_free(&s), mem_release(room, ROOM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image_embedding_is_pytorchs),
        cmocka_unit_test(factored_maps_are_pytorchs),
        cmocka_unit_test(decomposed_maps_are_pytorchs),
        cmocka_unit_test(autograd_maps_are_pytorchs),
        cmocka_unit_test(jacobian_maps_are_pytorchs),
        cmocka_unit_test(compact_maps_are_pytorchs),
        cmocka_unit_test(all_gradients_agree),
        cmocka_unit_test(stored_types_make_no_difference),
        cmocka_unit_test(derivative_is_the_maps_slope),
        cmocka_unit_test(every_run_gives_the_same_bytes),
        cmocka_unit_test(any_number_of_threads_agrees),
        cmocka_unit_test(the_first_grid_is_kept),
        cmocka_unit_test(faults_name_what_was_wrong),
        cmocka_unit_test(little_memory_is_a_fault),
        cmocka_unit_test(a_watch_sees_the_forward_pass),
        cmocka_unit_test(two_interpolations_are_one),
        cmocka_unit_test(extremes_are_those_of_all_pixels),
        cmocka_unit_test(maps_fill_zero_to_one_and_flat_ones_fault),
        cmocka_unit_test(convolutions_are_their_definition),
    };
    cores = pool_start(2);
    int failed = cmocka_run_group_tests_name("explain", tests, NULL, NULL);
    pool_stop(cores);
    return failed;
}
