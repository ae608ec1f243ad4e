/* test_maskinv.c - the inversion against PyTorch in float64, its gradient against central differences, its pieces
 * against their definitions. Also built in double and with our own products. */
#include "gradient.h"
#include "maskinv.h"
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

static void open_on(explained *x, fixture *fx, const clip_model *m, const char *size, size_t layers,
                    gradient_kind kind) {
    fault f = {0};
    size_t count;
    real *pixels = fixture_get(fx, &count, "%s.pixels", size);
    size_t side = (size_t)(sqrt((double)count / 3) + 0.5);
    explain_options o = {.layers = layers, .gradient = kind, .steps = 10};
    if (!explain_open(x, m, pixels, side, side, &o, &fx->memory, cores, &f)) fail_msg("fault %d %s", f.code, f.where);
}

typedef struct {
    const char *name;
    size_t layers;
    invert_options o;
} setting;
static const setting SETTINGS[] = {
    {"plain", 1, {.iters = 10, .lr = (real)0.5}},
    {"alpha", 1, {.iters = 10, .lr = (real)0.5, .alpha = (real)0.3}},
    {"last2", 2, {.iters = 10, .lr = (real)0.5}},
    {"decay", 1, {.iters = 25, .lr = (real)0.1, .decay = (real)0.1}},
};
enum { SETTINGS_COUNT = sizeof SETTINGS / sizeof *SETTINGS };

/* How far an inversion is from the fixture's: 1 - cosine, map, losses. */
typedef struct {
    double embedding, map, losses;
} distance;

static distance invert_against(fixture *fx, explained *x, const char *size, const setting *s, size_t which) {
    size_t count, h, w, E = x->model->config.embed, K = s->o.iters;
    real *mask = fixture_mask(fx, which, &h, &w), e[64], losses[32], *after = malloc(h * w * sizeof *after);
    real *embeddings = fixture_get(fx, &count, "%s.invert.%s.embeddings", size, s->name);
    assert_int_equal(count, FIXTURE_MASKS * E);
    real *maps = fixture_get(fx, &count, "%s.invert.%s.maps", size, s->name);
    assert_int_equal(count, FIXTURE_MASKS * h * w);
    real *wanted = fixture_get(fx, &count, "%s.invert.%s.losses", size, s->name);
    assert_int_equal(count, FIXTURE_MASKS * K);
    invert_result r = {.embedding = e, .losses = losses, .map_after = after};
    fault f = {0};
    if (!maskinv_invert(x, mask, h, w, &s->o, &r, &f)) fail_msg("fault %d %s", f.code, f.where);
    distance d = {1 - cosine(e, embeddings + which * E, E), 0, worst(losses, wanted + which * K, K)};
    for (size_t i = 0; i < h * w; i++) {
        double off = fabs((double)after[i] - (double)maps[which * h * w + i]);
        if (!(off <= d.map)) d.map = off;
    }
    free(after);
    return d;
}

/* The reference's ends, for every checkpoint, size and setting, by one of the gradients. */
static void against_fixtures(gradient_kind kind) {
    for (size_t i = 0; i < FIXTURES; i++)
        for (size_t z = 0; z < FIXTURE_SIZES; z++)
            for (size_t s = 0; s < SETTINGS_COUNT; s++) {
                fixture fx;
                explained x;
                fixture_open(&fx, fixture_names[i]);
                open_on(&x, &fx, fx.model, fixture_sizes[z], SETTINGS[s].layers, kind);
                for (size_t m = 0; m < FIXTURE_MASKS; m++) {
                    distance d = invert_against(&fx, &x, fixture_sizes[z], &SETTINGS[s], m);
                    assert_below(d.embedding, BY_BUILD(1e-5, 1e-9), SETTINGS[s].name, __FILE__, __LINE__);
                    assert_below(d.map, BY_BUILD(5e-3, 1e-6), SETTINGS[s].name, __FILE__, __LINE__);
                    assert_below(d.losses, BY_BUILD(5e-4, 1e-6), SETTINGS[s].name, __FILE__, __LINE__);
                }
                fixture_close(&fx);
            }
}
static void factored_inverts_as_pytorch(void **state) { (void)state, against_fixtures(GRADIENT_FACTORED); }
static void decomposed_inverts_as_pytorch(void **state) { (void)state, against_fixtures(GRADIENT_DECOMPOSED); }
static void autograd_inverts_as_pytorch(void **state) { (void)state, against_fixtures(GRADIENT_AUTOGRAD); }
static void jacobian_inverts_as_pytorch(void **state) { (void)state, against_fixtures(GRADIENT_JACOBIAN); }
static void compact_inverts_as_pytorch(void **state) { (void)state, against_fixtures(GRADIENT_COMPACT); }

/* A group of 40 masks, and some of them alone or in other places: the same bytes; factored's numbers. */
enum { MANY = 40, GROUP_ITERS = 5, MANY_CELLS = 16, MANY_E = 24 };
static void invert_many(explained *x, const real *masks, const size_t *which, size_t count, real *e, real *losses) {
    static real grids[2 * MANY * MANY_CELLS];
    invert_region r[MANY];
    fault f = {0};
    invert_options o = invert_defaults();
    o.iters = GROUP_ITERS;
    for (size_t i = 0; i < count; i++) {
        r[i] = (invert_region){.embedding = e + i * MANY_E, .losses = losses + i * GROUP_ITERS,
                               .grid_before = grids + 2 * i * MANY_CELLS, .grid_after = grids + (2 * i + 1) * MANY_CELLS};
        assert_true(target_make(&r[i].mask, x, masks + which[i] * 64, 8, 8, &f));
    }
    assert_true(maskinv_invert_group(x, r, count, &o, &f));
    for (size_t i = 0; i < count; i++) assert_int_equal(r[i].fault.code, FAULT_NONE);
}

static void a_group_knows_no_neighbours(void **state) {
    (void)state;
    static real masks[MANY * 64], pixels[3 * 32 * 32], e[2][MANY * MANY_E], losses[2][MANY * GROUP_ITERS];
    static const size_t SOME[] = {33, 4, 39, 0, 17};
    size_t all[MANY], size = (size_t)256 << 20;
    uint64_t seed = 4;
    seeded_model s;
    void *room = mem_reserve(size);
    assert_true(room && seeded_make(&s, seeded_config(32, 8, 32, 3, 2, MANY_E), CLIP_F16, 5));
    seeded_normal(&seed, pixels, 3 * 32 * 32);
    seeded_normal(&seed, masks, MANY * 64);
    for (size_t i = 0; i < MANY * 64; i++) masks[i] = masks[i] > 0;
    for (size_t i = 0; i < MANY; i++) all[i] = i;
    for (int kind = 0; kind < 2; kind++) { /* 0: jacobian, whole, then some; 1: factored */
        arena a;
        explained x;
        fault f = {0};
        explain_options o = {.layers = 2, .gradient = kind ? GRADIENT_FACTORED : GRADIENT_JACOBIAN, .steps = GROUP_ITERS};
        arena_init(&a, room, size);
        assert_true(explain_open(&x, &s.model, pixels, 32, 32, &o, &a, cores, &f));
        invert_many(&x, masks, all, MANY, e[kind], losses[kind]);
        for (size_t i = 0; kind == 0 && i < 5; i++) {
            real *again = e[1] + i * MANY_E;
            invert_many(&x, masks, i ? SOME : &SOME[i], i ? 5 : 1, e[1], losses[1]);
            assert_memory_equal(again, e[0] + SOME[i] * MANY_E, MANY_E * sizeof(real));
            assert_memory_equal(losses[1] + i * GROUP_ITERS, losses[0] + SOME[i] * GROUP_ITERS, GROUP_ITERS * sizeof(real));
        }
    }
    assert_close(losses[0], losses[1], MANY * GROUP_ITERS, BY_BUILD(1e-3, 1e-9));
    seeded_free(&s);
    mem_release(room, size);
}

static void first_gradient_is_pytorchs(void **state) {
    (void)state;
    derivatives d = {0, 0};
    for (size_t i = 0; i < FIXTURES * FIXTURE_SIZES * GRADIENTS; i++) {
        fixture fx;
        explained x;
        fault f = {0};
        size_t h, w, E;
        const char *size = fixture_sizes[i / FIXTURES % FIXTURE_SIZES];
        fixture_open(&fx, fixture_names[i % FIXTURES]);
        open_on(&x, &fx, fx.model, size, 1, KINDS[i / FIXTURES / FIXTURE_SIZES]);
        real *expected = fixture_get(&fx, &E, "%s.invert.gradient.step0.mask0", size),
             *mask = fixture_mask(&fx, 0, &h, &w);
        real e[64], loss, gradient[64];
        invert_options o = {.iters = 1, .lr = (real)0.5};
        invert_result r = {.embedding = e, .losses = &loss, .first_gradient = gradient};
        assert_true(maskinv_invert(&x, mask, h, w, &o, &r, &f));
        assert_derivative(&d, gradient, expected, E, BY_BUILD(1e-4, 1e-6));
        fixture_close(&fx);
    }
    assert_few_kinks(&d);
}

/* ---- gradients of the whole loss ------------------------------------------------------------------------ */
static void all_gradients_agree(void **state) {
    (void)state;
    derivatives d = {0, 0};
    for (size_t i = 0; i < FIXTURES; i++) {
        fixture fx;
        real gradients[GRADIENTS][64], grids[GRADIENTS][256];
        double losses[GRADIENTS];
        size_t h, w, E = 0, cells = 0;
        fixture_open(&fx, fixture_names[i]);
        real *mask = fixture_mask(&fx, 1, &h, &w);
        for (size_t k = 0; k < GRADIENTS; k++) {
            explained x;
            target t;
            fault f = {0};
            size_t mark = arena_mark(&fx.memory);
            open_on(&x, &fx, fx.model, "double", 2, KINDS[k]);
            E = x.model->config.embed, cells = x.gh * x.gw;
            assert_true(target_make(&t, &x, mask, h, w, &f));
            real e[64];
            for (size_t j = 0; j < E; j++) e[j] = x.embedding[j] * (1 + (real)(j % 5) / 10);
            assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &losses[k], grids[k], gradients[k], &f));
            arena_reset(&fx.memory, mark);
        }
        for (size_t k = 1; k < GRADIENTS; k++) {
            assert_close(grids[0], grids[k], cells, BY_BUILD(1e-5, 1e-9));
            assert_derivative(&d, gradients[0], gradients[k], E, BY_BUILD(1e-5, 1e-9));
            assert_below(fabs(losses[0] - losses[k]), BY_BUILD(1e-5, 1e-9), "loss", __FILE__, __LINE__);
        }
        fixture_close(&fx);
    }
    assert_few_kinks(&d);
}

/* Pooled by the mean of tokens, the last layer's z is the image embedding: at the start its G is 0, not rounding. */
static void a_layer_that_agrees_is_silent(void **state) {
    (void)state;
    real gradients[GRADIENTS][64], grids[GRADIENTS][256];
    size_t E = 0, cells = 0;
    for (size_t k = 0; k < GRADIENTS; k++) {
        fixture fx;
        explained x;
        target t;
        double loss;
        size_t h, w;
        fixture_open(&fx, fixture_names[2]);
        clip_model m = *fx.model;
        m.config.pool = CLIP_POOL_MEAN;
        real *mask = fixture_mask(&fx, 0, &h, &w);
        for (size_t layers = 1; layers <= 2; layers++) {
            fault f = {0};
            open_on(&x, &fx, &m, "native", layers, KINDS[k]);
            E = x.model->config.embed, cells = x.gh * x.gw;
            assert_true(target_make(&t, &x, mask, h, w, &f));
            bool ok = maskinv_gradient(&x, &t, x.embedding, true, 0, &loss, grids[k], gradients[k], &f);
            assert_int_equal(ok, layers == 2);
            assert_int_equal(f.code, ok ? FAULT_NONE : FAULT_FLAT);
        }
        fixture_close(&fx);
    }
    for (size_t k = 1; k < GRADIENTS; k++) {
        assert_close(grids[0], grids[k], cells, BY_BUILD(1e-5, 1e-9));
        assert_close(gradients[0], gradients[k], E, BY_BUILD(KINK, 1e-9));
    }
}

/* In double only: float has too few digits for differences. */
static void gradient_is_the_losss_slope(void **state) {
    (void)state;
    if (sizeof(real) == sizeof(float)) SKIP("float has too few digits for differences; the double build does it");
    for (size_t k = 0; k < GRADIENTS; k++) {
        fixture fx;
        explained x;
        target t;
        fault f = {0};
        size_t h, w;
        fixture_open(&fx, fixture_names[k % FIXTURES]);
        open_on(&x, &fx, fx.model, "native", 2, KINDS[k]);
        real *mask = fixture_mask(&fx, 0, &h, &w), e[64], gradient[64], scratch[64], slope[64], grid[256];
        size_t E = x.model->config.embed;
        double loss, up, down;
        assert_true(target_make(&t, &x, mask, h, w, &f));
        for (size_t j = 0; j < E; j++) e[j] = x.embedding[j] * (1 + (real)(j % 7) / 10);
        assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &loss, grid, gradient, &f));
        for (size_t j = 0; j < E; j++) {
            real at = e[j], step = (real)1e-6;
            e[j] = at + step;
            assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &up, grid, scratch, &f));
            e[j] = at - step;
            assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &down, grid, scratch, &f));
            e[j] = at;
            slope[j] = (real)((up - down) / (2 * (double)step));
        }
        assert_close(gradient, slope, E, 1e-5);
        fixture_close(&fx);
    }
}

/* ---- Dice: on the grid as on the pixels ------------------------------------------------------------------- */
static double dice_on_pixels(const explained *x, const real *grid, const real *mask, size_t h, size_t w,
                             arena *memory) {
    fault f = {0};
    size_t mark = arena_mark(memory);
    real *big = arena_alloc(memory, x->height * x->width, sizeof *big), *map = arena_alloc(memory, h * w, sizeof *map);
    assert_true(map_from_grid(grid, x->gh, x->gw, x->model->config.patch, 1, big, memory, &f));
    assert_true(map_fit(big, x->height, x->width, map, h, w, memory, &f));
    double both = 0, all = 0, sum = 0;
    for (size_t i = 0; i < h * w; i++) {
        both += (double)map[i] * (double)mask[i];
        all += (double)map[i];
        sum += (double)mask[i];
    }
    arena_reset(memory, mark);
    return 1 - (2 * both + 1) / (all + sum + 1);
}

static void dice_by_grid_is_dice_by_pixels(void **state) {
    (void)state;
    static const size_t SIZES[][2] = {{1, 1}, {3, 5}, {32, 32}, {64, 64}, {111, 156}, {300, 40}};
    fixture fx;
    explained x;
    fixture_open(&fx, fixture_names[0]);
    open_on(&x, &fx, fx.model, "double", 1, GRADIENT_FACTORED);
    uint64_t seed = 5;
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        size_t h = SIZES[s][0], w = SIZES[s][1], cells = x.gh * x.gw;
        real grid[256], dgrid[256], *mask = malloc(h * w * sizeof *mask);
        fault f = {0};
        target t;
        double loss;
        seeded_normal(&seed, grid, cells);
        seeded_normal(&seed, mask, h * w);
        for (size_t i = 0; i < h * w; i++)
            mask[i] = mask[i] > 0 ? 1 : mask[i] < -1 ? (real)0.5 : 0; /* soft values too */
        assert_true(target_make(&t, &x, mask, h, w, &f));
        assert_true(dice_loss(&x, &t, grid, &loss, dgrid, &f));
        assert_below(fabs(loss - dice_on_pixels(&x, grid, mask, h, w, &fx.memory)), BY_BUILD(1e-5, 1e-12), "Dice",
                     __FILE__, __LINE__);
        for (size_t j = 0; j < cells && sizeof(real) > sizeof(float); j++) { /* its slope, min-max included */
            real at = grid[j];
            grid[j] = at + (real)1e-6;
            double up = dice_on_pixels(&x, grid, mask, h, w, &fx.memory);
            grid[j] = at - (real)1e-6;
            double down = dice_on_pixels(&x, grid, mask, h, w, &fx.memory);
            grid[j] = at;
            assert_below(fabs((up - down) / 2e-6 - (double)dgrid[j]), 1e-7, "dDice", __FILE__, __LINE__);
        }
        free(mask);
    }
    fixture_close(&fx);
}

/* ---- AdamW -------------------------------------------------------------------------------------------------- */
static void adamw_first_step_is_lr_times_sign(void **state) {
    (void)state;
    unsigned char room[4096];
    arena a;
    adamw w;
    fault f = {0};
    arena_init(&a, room, sizeof room);
    real e[3] = {1, -2, 3}, g[3] = {(real)0.25, -4, 0};
    assert_true(adamw_init(&w, 3, &a, &f));
    adamw_step(&w, e, g, (real)0.5, (real)0.1); /* decay first: 0.95 e */
    real expected[3] = {(real)(0.95 - 0.5), (real)(-1.9 + 0.5), (real)2.85};
    assert_close(e, expected, 3, BY_BUILD(1e-6, 1e-7)); /* 1e-8 / |g| is eps' share */
    real before = e[2];
    adamw_step(&w, e, g, (real)0.5, 0);
    assert_true(e[2] == before);                                                 /* no gradient, no decay: stays */
    assert_close(&e[0], (&(real){(real)(0.95 - 1.0)}), 1, BY_BUILD(1e-5, 1e-6)); /* a constant gradient: lr again */
}

/* ---- the same bytes ------------------------------------------------------------------------------------------- */
typedef struct {
    real e[64], losses[10], *map;
} outcome;

static void invert_to(explained *x, const real *mask, size_t h, size_t w, outcome *o) {
    fault f = {0};
    invert_options io = invert_defaults();
    invert_result r = {.embedding = o->e, .losses = o->losses, .map_after = o->map};
    assert_true(maskinv_invert(x, mask, h, w, &io, &r, &f));
}

static void a_mask_knows_no_others(void **state) {
    (void)state;
    for (size_t k = 0; k < GRADIENTS; k++) {
        fixture fx;
        explained x;
        size_t h, w, E;
        fixture_open(&fx, fixture_names[2]);
        real *m0 = fixture_mask(&fx, 0, &h, &w), *m1 = fixture_mask(&fx, 1, &h, &w);
        outcome alone = {.map = malloc(h * w * sizeof(real))}, beside = {.map = malloc(h * w * sizeof(real))};
        size_t mark = arena_mark(&fx.memory);
        open_on(&x, &fx, fx.model, "double", 2, KINDS[k]);
        E = x.model->config.embed;
        invert_to(&x, m1, h, w, &alone);
        arena_reset(&fx.memory, mark);
        open_on(&x, &fx, fx.model, "double", 2, KINDS[k]); /* another run, another mask first, a map in between */
        invert_to(&x, m0, h, w, &beside);
        fault f = {0};
        real grid[256];
        assert_true(explain_grid(&x, beside.e, grid, &f));
        assert_true(memcmp(alone.e, beside.e, E * sizeof(real)) != 0);
        invert_to(&x, m1, h, w, &beside);
        assert_memory_equal(alone.e, beside.e, E * sizeof(real));
        assert_memory_equal(alone.losses, beside.losses, sizeof alone.losses);
        assert_memory_equal(alone.map, beside.map, h * w * sizeof(real));
        free(alone.map);
        free(beside.map);
        fixture_close(&fx);
    }
}

static void memory_is_given_back(void **state) {
    (void)state;
    for (size_t k = 0; k < GRADIENTS; k++) {
        fixture fx;
        explained x;
        size_t h, w;
        fixture_open(&fx, fixture_names[1]);
        open_on(&x, &fx, fx.model, "native", 1, KINDS[k]);
        real *mask = fixture_mask(&fx, 0, &h, &w);
        outcome o = {.map = malloc(h * w * sizeof(real))};
        invert_to(&x, mask, h, w, &o);
        size_t used = fx.memory.used, peak = fx.memory.peak;
        for (int i = 0; i < 3; i++) invert_to(&x, mask, h, w, &o);
        assert_int_equal(fx.memory.used, used);
        assert_int_equal(fx.memory.peak, peak);
        free(o.map);
        fixture_close(&fx);
    }
}

/* ---- watching -----------------------------------------------------------------------------------------------------
 */
typedef struct {
    size_t z, u, a, map, loss, gradient, embedding, steps;
    real last_loss;
} seen;

static void see(void *arg, const explain_value *v) {
    seen *s = arg;
    assert_true(v->rank >= 1 && v->shape[0] > 0);
    if (!strcmp(v->name, "z")) s->z++;
    if (!strcmp(v->name, "u")) s->u++;
    if (!strcmp(v->name, "a")) s->a++;
    if (!strcmp(v->name, "map")) s->map++;
    if (!strcmp(v->name, "gradient")) s->gradient++;
    if (!strcmp(v->name, "embedding")) s->embedding++;
    if (!strcmp(v->name, "loss")) s->loss++, s->last_loss = v->data[0];
}
static void count_step(void *arg, size_t step) { assert_int_equal(((seen *)arg)->steps++, step); }

static void a_watch_sees_every_step_and_changes_none(void **state) {
    (void)state;
    fixture fx;
    explained x;
    size_t h, w;
    fault f = {0};
    fixture_open(&fx, fixture_names[0]);
    open_on(&x, &fx, fx.model, "native", 2, GRADIENT_FACTORED);
    real *mask = fixture_mask(&fx, 0, &h, &w), e[64], losses[10];
    outcome plain = {.map = malloc(h * w * sizeof(real))};
    invert_to(&x, mask, h, w, &plain);
    seen s = {0};
    explain_watch watch = {see, &s};
    invert_options o = invert_defaults();
    o.watch = &watch, o.progress = count_step, o.progress_arg = &s;
    invert_result r = {.embedding = e, .losses = losses};
    assert_true(maskinv_invert(&x, mask, h, w, &o, &r, &f));
    assert_memory_equal(e, plain.e, x.model->config.embed * sizeof(real));
    assert_true(s.z == 20 && s.u == 20 && s.a == 20); /* two layers */
    assert_true(s.map == 10 && s.loss == 10 && s.gradient == 10 && s.embedding == 10 && s.steps == 10);
    assert_true(s.last_loss == losses[9]);
    free(plain.map);
    fixture_close(&fx);
}

/* ---- what cannot be done is said ------------------------------------------------------------------------------------
 */
static void masks_of_any_size_and_filling(void **state) {
    (void)state;
    static const size_t SIZES[][2] = {{1, 1}, {2, 3}, {500, 7}};
    fixture fx;
    explained x;
    fixture_open(&fx, fixture_names[0]);
    open_on(&x, &fx, fx.model, "native", 1, GRADIENT_FACTORED);
    for (size_t s = 0; s < 3; s++)
        for (int full = 0; full < 2; full++) {
            size_t h = SIZES[s][0], w = SIZES[s][1];
            real *mask = calloc(h * w, sizeof *mask);
            outcome o = {.map = malloc(h * w * sizeof(real))};
            for (size_t i = 0; i < h * w; i++) mask[i] = (real)full;
            invert_to(&x, mask, h, w, &o);
            for (size_t i = 0; i < x.model->config.embed; i++) assert_true(isfinite((double)o.e[i]));
            for (size_t i = 0; i < h * w; i++) assert_true(o.map[i] >= 0 && o.map[i] <= 1);
            free(mask);
            free(o.map);
        }
    fixture_close(&fx);
}

static void faults_name_what_was_wrong(void **state) {
    (void)state;
    for (size_t k = 0; k < GRADIENTS; k++) {
        seeded_model s;
        assert_true(seeded_make(&s, seeded_config(32, 8, 32, 2, 2, 24), CLIP_REAL, 3));
        fixture fx;
        fixture_open(&fx, fixture_names[0]);
        real mask[4] = {0, 1, 1, 0}, e[64], losses[10];
        invert_options o = invert_defaults();
        invert_result r = {.embedding = e, .losses = losses};
        explained x;
        fault f = {0};
        open_on(&x, &fx, &s.model, "native", 1, KINDS[k]);
        o.iters = 0;
        assert_false(maskinv_invert(&x, mask, 2, 2, &o, &r, &f));
        assert_int_equal(f.code, FAULT_RANGE);
        o.iters = 3, f = (fault){0};
        assert_false(maskinv_invert(&x, mask, 0, 2, &o, &r, &f));
        assert_int_equal(f.code, FAULT_RANGE);
        for (o.iters = 1; o.iters <= 3; o.iters++) { /* seen in the step in which it arises, be it the last */
            mask[1] = (real)NAN, f = (fault){0};
            assert_false(maskinv_invert(&x, mask, 2, 2, &o, &r, &f));
            assert_int_equal(f.code, FAULT_NAN);
            assert_int_equal(f.n[0], 0);
        }
        mask[1] = 1, f = (fault){0};
        assert_true(maskinv_invert(&x, mask, 2, 2, &o, &r, &f)); /* a fault spoils nothing for the next */
        clip_block_weights *last = &s.model.blocks[1];           /* no values, no map */
        memset((void *)(uintptr_t)last->v.data, 0, 32 * 32 * sizeof(real));
        memset((void *)(uintptr_t)last->v_bias.data, 0, 32 * sizeof(real));
        open_on(&x, &fx, &s.model, "native", 1, KINDS[k]);
        f = (fault){0};
        assert_false(maskinv_invert(&x, mask, 2, 2, &o, &r, &f));
        assert_int_equal(f.code, FAULT_FLAT);
        assert_int_equal(f.n[0], 1);
        fixture_close(&fx);
        seeded_free(&s);
    }
}

/* ---- these tests can fail: small faults in model or formula are seen
 * -------------------------------------------------- */
static void swap_heads(clip_model *m) { /* rows of W_v of head 0 and 1 in the last block; q and k stay */
    size_t D = m->config.vision.width, d = D / m->config.vision.heads;
    real *v = (real *)(uintptr_t)m->blocks[m->config.vision.layers - 1].v.data;
    for (size_t i = 0; i < d * D; i++) {
        real kept = v[i];
        v[i] = v[d * D + i];
        v[d * D + i] = kept;
    }
}

static void sees_small_faults(void **state) {
    (void)state;
    seeded_model s;
    fixture fx;
    fixture_open(&fx, fixture_names[0]);
    real mask[64 * 64], good[64], bad[64], grid[256], bad_grid[256];
    for (size_t i = 0; i < 64 * 64; i++) mask[i] = i % 64 > 20 && i / 64 > 30;
    double loss;
    for (int fault_kind = 0; fault_kind < 4; fault_kind++) {
        assert_true(seeded_make(&s, seeded_config(32, 8, 32, 2, 2, 24), CLIP_REAL, 3));
        explained x;
        target t;
        fault f = {0};
        open_on(&x, &fx, &s.model, "double", 1, GRADIENT_AUTOGRAD);
        assert_true(target_make(&t, &x, mask, 64, 64, &f));
        assert_true(maskinv_gradient(&x, &t, x.embedding, false, 0, &loss, grid, good, &f));
        if (fault_kind == 0) swap_heads(&s.model);
        if (fault_kind == 1) ((real *)(uintptr_t)s.model.blocks[1].fc1.data)[77] += 1; /* one corrupted weight */
        open_on(&x, &fx, &s.model, "double", 1, GRADIENT_FACTORED);
        if (fault_kind == 2) x.layers[0].m_rstd *= (real)x.n;  /* u without its 1/n */
        if (fault_kind == 3) x.layers[0].positive[0][17] ^= 1; /* nothing: it is made again by each map */
        assert_true(target_make(&t, &x, mask, 64, 64, &f));
        assert_true(maskinv_gradient(&x, &t, x.embedding, false, 0, &loss, bad_grid, bad, &f));
        if (fault_kind == 3)
            assert_close(bad, good, 24, BY_BUILD(KINK, 1e-9));
        else
            assert_far(bad_grid, grid, x.gh * x.gw, 1e-4);
        if (fault_kind < 2) assert_far(bad, good, 24, 2 * KINK);
        seeded_free(&s);
    }
    fixture_close(&fx);
}

static void a_corrupted_fixture_disagrees(void **state) {
    (void)state;
    fixture fx;
    explained x;
    fixture_open(&fx, fixture_names[0]);
    for (int layer_field = 0; layer_field < 3; layer_field++) {
        open_on(&x, &fx, fx.model, "native", 1, GRADIENT_FACTORED);
        explain_layer *layer = &x.layers[0];
        factored_layer *l = layer->own;
        size_t D = 32, d = 16;
        if (layer_field == 0) l->up[5] += (real)0.5;
        if (layer_field == 1) layer->z_unit[0] = -layer->z_unit[0];
        for (size_t i = 0; layer_field == 2 && i < x.n; i++)
            for (size_t j = 0; j < d; j++) {
                real kept = l->v[i * D + j];
                l->v[i * D + j] = l->v[i * D + d + j];
                l->v[i * D + d + j] = kept;
            }
        distance off = invert_against(&fx, &x, "native", &SETTINGS[0], 0);
        assert_above(off.losses, BY_BUILD(1e-3, 1e-6), "losses of a corrupted model", __FILE__, __LINE__);
    }
    fixture_close(&fx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factored_inverts_as_pytorch),
        cmocka_unit_test(decomposed_inverts_as_pytorch),
        cmocka_unit_test(autograd_inverts_as_pytorch),
        cmocka_unit_test(jacobian_inverts_as_pytorch),
        cmocka_unit_test(compact_inverts_as_pytorch),
        cmocka_unit_test(a_group_knows_no_neighbours),
        cmocka_unit_test(first_gradient_is_pytorchs),
        cmocka_unit_test(all_gradients_agree),
        cmocka_unit_test(a_layer_that_agrees_is_silent),
        cmocka_unit_test(gradient_is_the_losss_slope),
        cmocka_unit_test(dice_by_grid_is_dice_by_pixels),
        cmocka_unit_test(adamw_first_step_is_lr_times_sign),
        cmocka_unit_test(a_mask_knows_no_others),
        cmocka_unit_test(memory_is_given_back),
        cmocka_unit_test(a_watch_sees_every_step_and_changes_none),
        cmocka_unit_test(masks_of_any_size_and_filling),
        cmocka_unit_test(faults_name_what_was_wrong),
        cmocka_unit_test(sees_small_faults),
        cmocka_unit_test(a_corrupted_fixture_disagrees),
    };
    cores = pool_start(2);
    int failed = cmocka_run_group_tests_name("maskinv", tests, NULL, NULL);
    pool_stop(cores);
    return failed;
}
