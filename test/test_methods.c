/* test_methods.c - every explainer against PyTorch (test/make_methods.py, float64), on the three small checkpoints. */
#include "maskinv.h"
#include "methods.h"
#include "x_fixture.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TOLERANCE BY_BUILD(5e-4, 1e-6)
enum { TEXTS = 3, MOST_CELLS = 64 * 64 };

/* What make_methods.py computed: "name" with its own blocks, "name.N" with N. DEPTH: all the model has. */
enum { DEPTH = 99 };
static const struct {
    const char *name;
    size_t blocks;
} CASES[] = {
    {"legrad", 0},  {"legrad", 1},  {"attention", 0}, {"rollout", 0},    {"rollout", 2},   {"gradcam", 0}, {"chefer", 1},
    {"chefer", 2},  {"chefer", DEPTH}, {"similarity", 0}, {"maskclip", 0}, {"maskclip", 2}, {"surgery", 0}, {"surgery", 2},
    {"sclip", 0},   {"sclip", 2},   {"clearclip", 0}, {"clearclip", 2},  {"gem", 0},       {"gem", 2},     {"naclip", 0},
    {"naclip", 2},
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

/* ---- a checkpoint and what it must give ----------------------------------------------------------------- */
typedef struct {
    fixture x;
    const char *name;
    safetensors *methods;
    clip_model model; /* the fixture's; tests may change it */
    real *texts, *empty;
} bench;

static real *expected(bench *b, size_t *n, const char *format, ...) {
    char name[200];
    safetensors *own = b->x.expected;
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    b->x.expected = b->methods;
    real *out = fixture_get(&b->x, n, "%s.%s", b->name, name);
    b->x.expected = own;
    return out;
}

static bench *bench_open(const char *name) {
    char path[512];
    const char *folder = getenv("TEST_DATA");
    err e = {{0}};
    size_t n;
    bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    fixture_open(&b->x, name);
    b->name = name;
    b->model = *b->x.model;
    snprintf(path, sizeof path, "%s/methods.safetensors", folder ? folder : "test/data");
    if (!(b->methods = st_open(path, &e))) fail_msg("%s", e.text);
    b->texts = expected(b, &n, "texts");
    assert_int_equal(n, TEXTS * b->model.config.embed);
    b->empty = expected(b, &n, "empty");
    return b;
}

static void bench_close(bench *b) {
    st_free(b->methods);
    fixture_close(&b->x);
    free(b);
}

static bool opens(bench *b, explainer *x, const char *name, size_t blocks, const char *size, fault *f) {
    size_t n, side = b->model.config.image * (strcmp(size, "double") ? 1 : 2);
    const method *how = method_find(name);
    real *pixels = fixture_get(&b->x, &n, "%s.pixels", size);
    assert_non_null(how);
    assert_int_equal(n, 3 * side * side);
    return method_open(x, how, &b->model, pixels, side, side, &(method_options){.blocks = blocks}, &b->x.memory, NULL, f);
}

/* The grids of a method; how many of them have a meaning (methods without text: one). */
static size_t grids_of(bench *b, const char *name, size_t blocks, const char *size, size_t texts, real *grids) {
    size_t mark = arena_mark(&b->x.memory);
    fault f = {0};
    explainer x;
    assert_true(opens(b, &x, name, blocks == DEPTH ? b->model.config.vision.layers : blocks, size, &f));
    assert_true(x.gh * x.gw <= MOST_CELLS);
    assert_true(method_grids(&x, b->texts, texts, b->empty, grids, &f));
    size_t cells = x.gh * x.gw;
    arena_reset(&b->x.memory, mark);
    return (method_find(name)->family == FAMILY_ATTENTION ? 1 : texts) * cells;
}

static void case_key(const bench *b, size_t i, char *out, size_t room) {
    size_t blocks = CASES[i].blocks == DEPTH ? b->model.config.vision.layers : CASES[i].blocks;
    if (!strcmp(CASES[i].name, "chefer") && blocks == 1) blocks = 0;
    snprintf(out, room, blocks ? "%s.%zu" : "%s", CASES[i].name, blocks);
}

/* ---- the numbers ------------------------------------------------------------------------------------------- */
static void grids_are_pytorchs(void **state) {
    (void)state;
    static real grids[TEXTS * MOST_CELLS];
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        for (size_t s = 0; s < FIXTURE_SIZES; s++)
            for (size_t i = 0; i < CASE_COUNT; i++) {
                char key[60];
                size_t n;
                case_key(b, i, key, sizeof key);
                real *want = expected(b, &n, "%s.%s.grids", fixture_sizes[s], key);
                size_t have = grids_of(b, CASES[i].name, CASES[i].blocks, fixture_sizes[s], TEXTS, grids);
                assert_int_equal(have, n);
                if (!(worst(grids, want, n) <= TOLERANCE)) print_error("%s %s %s\n", b->name, fixture_sizes[s], key);
                assert_close(grids, want, n, TOLERANCE);
            }
        bench_close(b);
    }
}

static void every_method_is_among_them(void **state) {
    (void)state;
    for (size_t i = 0; i < method_count(); i++) {
        bool found = false;
        for (size_t k = 0; k < CASE_COUNT; k++) found = found || !strcmp(CASES[k].name, method_at(i)->name);
        if (method_at(i)->open || !strcmp(method_at(i)->name, "cliptrase")) continue; /* test_dense.c's */
        if (!found) fail_msg("%s is compared with nothing", method_at(i)->name);
    }
    assert_null(method_at(method_count()));
    assert_null(method_find("legra"));
}

static void tokens_are_pytorchs(void **state) {
    (void)state;
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        for (size_t i = 0; i < CASE_COUNT; i++) {
            char key[60];
            size_t n, mark = arena_mark(&b->x.memory);
            explainer x;
            fault f = {0};
            if (method_find(CASES[i].name)->family != FAMILY_FEATURES) continue;
            case_key(b, i, key, sizeof key);
            assert_true(opens(b, &x, CASES[i].name, CASES[i].blocks, "native", &f));
            real *want = expected(b, &n, "native.%s.tokens", key);
            assert_int_equal(n, x.n * b->model.config.embed);
            assert_close(x.tokens, want, n, TOLERANCE);
            arena_reset(&b->x.memory, mark);
        }
        for (size_t s = 0; s < FIXTURE_SIZES; s++) { /* and those of another program than make_methods.py */
            explainer x;
            fault f = {0};
            size_t n;
            assert_true(opens(b, &x, "surgery", 2, fixture_sizes[s], &f));
            real *want = fixture_get(&b->x, &n, "%s.surgery.depth2.tokens", fixture_sizes[s]);
            assert_close(x.tokens, want, n, TOLERANCE);
        }
        bench_close(b);
    }
}

static void one_text_is_compared_with_the_empty_one(void **state) {
    (void)state;
    static real grids[MOST_CELLS];
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        for (size_t s = 0; s < FIXTURE_SIZES; s++) {
            size_t n;
            real *want = expected(b, &n, "%s.surgery.one.grids", fixture_sizes[s]);
            assert_int_equal(grids_of(b, "surgery", 0, fixture_sizes[s], 1, grids), n);
            assert_close(grids, want, n, TOLERANCE);
        }
        explainer x;
        fault f = {0};
        assert_true(opens(b, &x, "surgery", 0, "native", &f));
        assert_false(method_grids(&x, b->texts, 1, NULL, grids, &f));
        assert_int_equal(f.code, FAULT_RANGE);
        f = (fault){0};
        assert_true(method_grids(&x, b->texts, 2, NULL, grids, &f)); /* and it goes on after the fault */
        bench_close(b);
    }
}

static void maps_are_pytorchs(void **state) {
    (void)state;
    static const char *const names[] = {"surgery", "sclip", "chefer"};
    static real grids[TEXTS * MOST_CELLS], map[MOST_CELLS * 4];
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        for (size_t i = 0; i < 3; i++) {
            explainer x;
            fault f = {0};
            size_t n;
            assert_true(opens(b, &x, names[i], 0, "native", &f));
            assert_true(method_grids(&x, b->texts, TEXTS, NULL, grids, &f) && method_map(&x, grids, map, &f));
            real *want = expected(b, &n, "native.%s.map", names[i]);
            assert_int_equal(n, x.height * x.width);
            assert_close(map, want, n, TOLERANCE);
            for (size_t c = 0; c < x.gh * x.gw; c++) grids[c] = 1;
            assert_false(method_map(&x, grids, map, &f));
            assert_int_equal(f.code, FAULT_FLAT);
            f = (fault){0};
            grids[1] = (real)NAN;
            assert_false(method_map(&x, grids, map, &f));
            assert_int_equal(f.code, FAULT_NAN);
        }
        bench_close(b);
    }
}

static void points_are_pytorchs(void **state) {
    (void)state;
    static real grids[TEXTS * MOST_CELLS];
    static map_point points[MOST_CELLS];
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        explainer x;
        fault f = {0};
        size_t n, count;
        assert_true(opens(b, &x, "surgery", 0, "double", &f));
        assert_true(method_grids(&x, b->texts, TEXTS, NULL, grids, &f));
        assert_true(method_points(&x, grids, 100, 150, points, &count, &f));
        real *want = expected(b, &n, "double.points");
        assert_int_equal(n, 3 * count);
        assert_true(count >= 2);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(points[i].x, (size_t)want[3 * i]);
            assert_int_equal(points[i].y, (size_t)want[3 * i + 1]);
            assert_int_equal(points[i].positive, (size_t)want[3 * i + 2]);
        }
        bench_close(b);
    }
}

static void models_that_pool_the_mean(void **state) {
    (void)state;
    static const struct { const char *name; size_t blocks; } mean[] = {
        {"attention", 0}, {"rollout", 0}, {"gradcam", 0}, {"chefer", 2}, {"surgery", 0}};
    static real grids[TEXTS * MOST_CELLS];
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        for (size_t i = 0; i < 5; i++) {
            size_t n;
            real *want = expected(b, &n, "mean.%s.grids", mean[i].name);
            b->model.config.pool = CLIP_POOL_MEAN;
            assert_int_equal(grids_of(b, mean[i].name, mean[i].blocks, "native", TEXTS, grids), n);
            assert_close(grids, want, n, TOLERANCE);
            b->model.config.pool = CLIP_POOL_CLASS;
            (void)grids_of(b, mean[i].name, mean[i].blocks, "native", TEXTS, grids);
            assert_far(grids, want, n, 1e-2);
        }
        bench_close(b);
    }
}

/* ---- and that they would notice ---------------------------------------------------------------------------------- */
static ag_tensor *as_reals(bench *b, const clip_weight *w) {
    ag_tape t = {.memory = &b->x.memory};
    ag_tensor *used = clip_use(&t, w), *own = used ? ag_new(&t, 1, used->rows, used->cols) : NULL;
    assert_non_null(own);
    memcpy(own->data, used->data, ag_size(own) * sizeof(real));
    return own;
}

static clip_weight of_reals(const clip_weight *w, const ag_tensor *own) {
    clip_weight out = *w;
    out.data = own->data;
    out.type = CLIP_REAL;
    return out;
}

static void all_are_far(bench *b) {
    static real grids[TEXTS * MOST_CELLS];
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char key[60];
        size_t n;
        case_key(b, i, key, sizeof key);
        real *want = expected(b, &n, "native.%s.grids", key);
        (void)grids_of(b, CASES[i].name, CASES[i].blocks, "native", TEXTS, grids);
        if (!(worst(grids, want, n) > 2e-3)) print_error("%s %s\n", b->name, key);
        assert_far(grids, want, n, 2e-3);
    }
}

static void a_changed_weight_is_seen(void **state) {
    (void)state;
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        size_t layers = b->model.config.vision.layers;
        clip_block_weights blocks[16];
        memcpy(blocks, b->model.blocks, layers * sizeof *blocks);
        ag_tensor *gamma = as_reals(b, &blocks[layers - 1].ln1_gamma);
        gamma->data[3] += 1;
        blocks[layers - 1].ln1_gamma = of_reals(&blocks[layers - 1].ln1_gamma, gamma);
        b->model.blocks = blocks;
        all_are_far(b);
        bench_close(b);
    }
}

static void swapped_heads_are_seen(void **state) {
    (void)state;
    for (size_t k = 0; k < FIXTURES; k++) {
        bench *b = bench_open(fixture_names[k]);
        size_t layers = b->model.config.vision.layers, D = b->model.config.vision.width;
        size_t head = D / b->model.config.vision.heads * D;
        clip_block_weights blocks[16];
        memcpy(blocks, b->model.blocks, layers * sizeof *blocks);
        ag_tensor *q = as_reals(b, &blocks[0].q);
        for (size_t i = 0; i < head; i++) {
            real first = q->data[i];
            q->data[i] = q->data[head + i];
            q->data[head + i] = first;
        }
        blocks[0].q = of_reals(&blocks[0].q, q);
        b->model.blocks = blocks;
        all_are_far(b);
        bench_close(b);
    }
}

/* ---- bad requests, little memory ---------------------------------------------------------------------------------- */
static void blocks_beyond_the_depth(void **state) {
    (void)state;
    bench *b = bench_open(fixture_names[0]);
    size_t layers = b->model.config.vision.layers;
    for (size_t i = 0; i < method_count(); i++) {
        explainer x;
        fault f = {0};
        assert_false(opens(b, &x, method_at(i)->name, layers + 1, "native", &f));
        assert_int_equal(f.code, FAULT_RANGE);
        assert_int_equal(f.n[0], layers + 1);
        assert_int_equal(f.n[2], layers);
    }
    bench_close(b);
}

static void the_images_own_direction_has_no_gradient(void **state) {
    (void)state;
    real grids[100], map[48 * 48], e[64];
    for (size_t k = 0; k < FIXTURES; k++)
        for (size_t i = 0; i < 2; i++) {
            bench *b = bench_open(fixture_names[k]);
            explainer x;
            fault f = {0};
            assert_true(opens(b, &x, i ? "chefer" : "gradcam", 0, "native", &f));
            memcpy(e, x.z_unit->data, b->model.config.embed * sizeof *e);
            assert_true(method_grids(&x, e, 1, NULL, grids, &f));
            assert_false(method_map(&x, grids, map, &f));
            assert_int_equal(f.code, FAULT_FLAT);
            bench_close(b);
        }
}

static void little_memory_is_a_fault(void **state) {
    (void)state;
    static real grids[TEXTS * MOST_CELLS], map[MOST_CELLS * 4];
    bench *b = bench_open(fixture_names[1]);
    size_t n, side = b->model.config.image;
    real *pixels = fixture_get(&b->x, &n, "native.pixels");
    for (size_t i = 0; i < method_count(); i++) {
        size_t refused = 0, bytes = 256;
        for (bool done = false; !done; bytes += bytes / 5) {
            arena small;
            explainer x;
            fault f = {0};
            assert_true(bytes < (size_t)64 << 20);
            arena_init(&small, b->x.room, bytes);
            done = method_open(&x, method_at(i), &b->model, pixels, side, side, NULL, &small, NULL, &f) &&
                   method_grids(&x, b->texts, TEXTS, NULL, grids, &f) && method_map(&x, grids, map, &f);
            assert_int_equal(done, f.code == FAULT_NONE);
            if (!done && f.code != FAULT_MEMORY) fail_msg("%s with %zu bytes: fault %d", method_at(i)->name, bytes, (int)f.code);
            refused += !done;
        }
        assert_true(refused > 5);
    }
    bench_close(b);
}

/* ---- as the explainer of an inversion -------------------------------------------------------------------------------- */
static const struct { const char *name; size_t blocks; } OTHERS[] = {
    {"gradcam", 0}, {"chefer", 0}, {"chefer", DEPTH}, {"rollout", 0}};
enum { OTHER_COUNT = sizeof OTHERS / sizeof *OTHERS };

static void open_other(bench *b, size_t i, explained *x, explainer *m, explain_other *o, target *t) {
    size_t n, h, w, side = b->model.config.image, blocks = OTHERS[i].blocks;
    fault f = {0};
    real *pixels = fixture_get(&b->x, &n, "native.pixels"), *mask = fixture_mask(&b->x, 0, &h, &w);
    explain_options eo = {.layers = blocks == DEPTH ? b->model.config.vision.layers : blocks,
                          .other = method_other(m, OTHERS[i].name, o)};
    assert_non_null(eo.other);
    assert_true(explain_open(x, &b->model, pixels, side, side, &eo, &b->x.memory, NULL, &f));
    real *c = fixture_get(&b->x, &n, "native.image.embedding");
    assert_close(x->embedding, c, n, TOLERANCE);
    assert_true(target_make(t, x, mask, h, w, &f));
}

static void inversions_start_as_pytorchs(void **state) {
    (void)state;
    derivatives d = {0, 0};
    for (size_t k = 0; k < FIXTURES; k++)
        for (size_t i = 0; i < OTHER_COUNT; i++) {
            bench *b = bench_open(fixture_names[k]);
            char key[60];
            explained x;
            explainer m;
            explain_other o;
            target t;
            fault f = {0};
            size_t n, E = b->model.config.embed;
            real grid[100], gradient[64];
            double loss;
            open_other(b, i, &x, &m, &o, &t);
            assert_true(maskinv_gradient(&x, &t, x.embedding, true, 0, &loss, grid, gradient, &f));
            snprintf(key, sizeof key, OTHERS[i].blocks ? "%s.%zu" : "%s", OTHERS[i].name, b->model.config.vision.layers);
            real found = (real)loss, *want = expected(b, &n, "native.invert.%s.loss", key);
            assert_close(&found, want, 1, TOLERANCE);
            want = expected(b, &n, "native.invert.%s.gradient", key);
            assert_int_equal(n, E);
            assert_derivative(&d, gradient, want, n, TOLERANCE);
            bench_close(b);
        }
    assert_few_kinks(&d);
}

static void their_gradients_are_differences(void **state) {
    (void)state;
    for (size_t i = 0; i < OTHER_COUNT; i++) {
        bench *b = bench_open(fixture_names[2]);
        explained x;
        explainer m;
        explain_other o;
        target t;
        fault f = {0};
        size_t E = b->model.config.embed;
        real grid[100], gradient[64], numeric[64], unused[64], e[64], step = (real)BY_BUILD(2e-3, 1e-6);
        double loss, up, down;
        open_other(b, i, &x, &m, &o, &t);
        memcpy(e, x.embedding, E * sizeof *e);
        for (size_t k = 0; k < E; k++) e[k] += (real)0.1 * b->texts[k];
        assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &loss, grid, gradient, &f));
        for (size_t k = 0; k < E; k++) {
            real at = e[k];
            e[k] = at + step;
            assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &up, grid, unused, &f));
            e[k] = at - step;
            assert_true(maskinv_gradient(&x, &t, e, false, (real)0.3, &down, grid, unused, &f));
            e[k] = at;
            numeric[k] = (real)((up - down) / (2 * (double)step));
        }
        assert_close(gradient, numeric, E, BY_BUILD(5e-2, 1e-6));
        gradient[0] += (real)0.3 * (real)fabs((double)gradient[1]) + (real)0.1;
        assert_far(gradient, numeric, E, BY_BUILD(5e-2, 1e-6));
        bench_close(b);
    }
}

static void inversions_fill_the_mask(void **state) {
    (void)state;
    for (size_t i = 0; i < OTHER_COUNT; i++) {
        bench *b = bench_open(fixture_names[2]);
        explained x;
        explainer m;
        explain_other o;
        target t;
        fault f = {0};
        real e[64], losses[10], again[64];
        open_other(b, i, &x, &m, &o, &t);
        invert_options io = invert_defaults();
        io.lr = (real)0.05;
        invert_result r = {.embedding = e, .losses = losses};
        assert_true(maskinv_invert(&x, t.mask, t.mh, t.mw, &io, &r, &f));
        assert_true(losses[9] < losses[0]);
        r.embedding = again;
        assert_true(maskinv_invert(&x, t.mask, t.mh, t.mw, &io, &r, &f)); /* the record below is whole */
        assert_memory_equal(e, again, b->model.config.embed * sizeof *e);
        bench_close(b);
    }
    explainer m;
    explain_other o;
    assert_null(method_other(&m, "surgery", &o));
    assert_null(method_other(&m, "legrad", &o));
    assert_null(method_other(&m, "nothing", &o));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grids_are_pytorchs), cmocka_unit_test(every_method_is_among_them),
        cmocka_unit_test(tokens_are_pytorchs), cmocka_unit_test(one_text_is_compared_with_the_empty_one),
        cmocka_unit_test(maps_are_pytorchs), cmocka_unit_test(points_are_pytorchs),
        cmocka_unit_test(models_that_pool_the_mean), cmocka_unit_test(a_changed_weight_is_seen),
        cmocka_unit_test(swapped_heads_are_seen), cmocka_unit_test(blocks_beyond_the_depth),
        cmocka_unit_test(little_memory_is_a_fault),
        cmocka_unit_test(the_images_own_direction_has_no_gradient), cmocka_unit_test(inversions_start_as_pytorchs),
        cmocka_unit_test(their_gradients_are_differences), cmocka_unit_test(inversions_fill_the_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
