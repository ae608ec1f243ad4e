/* test_anomaly.c - AnoVL against float64 (test/make_dense.py): tokens, map, views, the adapter's five steps, VisA's tiles; its
 * sentences; and the measures over many scores. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "anomaly/anovl.h"
#include "eval/measures.h"
#include "models/texts.h"
#include "x_fixture.h"

static const char *const models[] = {"nano-hf-f32", "nanogelu-openclip-bf16"};
static err e;

static void open_fixture(fixture *x, const char *model, const char *file) {
    char path[300];
    memset(x, 0, sizeof *x);
    snprintf(path, sizeof path, "test/data/%s", model);
    if (!(x->c = checkpoint_open(path, &e))) fail_msg("%s", e.text);
    x->model = checkpoint_model(x->c);
    snprintf(path, sizeof path, "test/data/dense/%s.safetensors", file);
    if (!(x->expected = st_open(path, &e))) fail_msg("%s", e.text);
    x->room = mem_reserve((size_t)1 << 28);
    assert_non_null(x->room);
    arena_init(&x->memory, x->room, (size_t)1 << 28);
}

static void close_fixture(fixture *x) {
    while (x->count) free(x->kept[--x->count]);
    st_free(x->expected);
    checkpoint_free(x->c);
    mem_release(x->room, (size_t)1 << 28);
}

static real *room_for(fixture *x, size_t n) {
    real *out = arena_alloc(&x->memory, n, sizeof *out);
    assert_non_null(out);
    return out;
}

/* [3,h,w] of NAME.u8 [h,w,3]. */
static real *pixels_of(fixture *x, const char *name, size_t h, size_t w) {
    size_t n;
    const clip_config *c = &x->model->config;
    const real *bytes = fixture_get(x, &n, "%s.u8", name);
    real *out = room_for(x, n);
    assert_int_equal(n, 3 * h * w);
    for (size_t i = 0; i < h * w; i++)
        for (size_t k = 0; k < 3; k++) out[k * h * w + i] = (bytes[3 * i + k] / 255 - c->mean[k]) / c->std[k];
    return out;
}

/* The texts of anovl.ids, and against anovl.T, anovl.texts. */
static void make_texts(fixture *x, anovl_texts *t) {
    size_t n, many, E = x->model->config.embed;
    const real *ids = fixture_get(x, &many, "anovl.ids"), *two = fixture_get(x, &n, "anovl.T"), *all = fixture_get(x, &n, "anovl.texts");
    size_t count = n / E, length = many / count;
    uint32_t *whole = arena_alloc(&x->memory, many, sizeof *whole);
    real *raw = room_for(x, n), *pair = room_for(x, 2 * E);
    for (size_t i = 0; i < many; i++) whole[i] = (uint32_t)ids[i];
    if (!ids_embed(x->model, whole, count, length, &x->memory, NULL, raw, &e)) fail_msg("%s", e.text);
    if (!anovl_texts_of(raw, count, E, t, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < 2 * E; i++) pair[i] = two[i % E * 2 + i / E];
    assert_close(t->pair, pair, 2 * E, BY_BUILD(1e-5, 5e-7));
    assert_close(t->all, all, n, BY_BUILD(1e-5, 5e-7));
}

/* ---- one square ----------------------------------------------------------------------------------------------- */
static void check_views(fixture *x, const anovl_texts *t, const real *pixels, size_t side) {
    size_t n, patches = (side / x->model->config.patch) * (side / x->model->config.patch), E = x->model->config.embed;
    real *seen = room_for(x, 3 * side * side), *class_token = room_for(x, E), *tokens = room_for(x, patches * E), shares[ANOVL_VIEWS];
    const real *views = fixture_get(x, &n, "square.anovl.views");
    assert_int_equal(n, ANOVL_VIEWS);
    for (size_t k = 0; k < ANOVL_VIEWS; k++) {
        anovl_view(pixels, side, k, seen);
        if (!anovl_tokens(x->model, seen, side, &x->memory, NULL, class_token, tokens, &e)) fail_msg("%s", e.text);
        anovl_shares(class_token, 1, E, t->pair, &shares[k]);
    }
    assert_close(shares, views, ANOVL_VIEWS, BY_BUILD(1e-5, 5e-7));
}

static void check_square(fixture *x, const anovl_texts *t, const char *name, size_t side) {
    size_t n, many, E = x->model->config.embed, g = side / x->model->config.patch, P = g * g, steps = 5;
    real *pixels = pixels_of(x, name, side, side), *class_token = room_for(x, E), *patches = room_for(x, P * E);
    real *share = room_for(x, P), *map = room_for(x, side * side), losses[5];
    if (!anovl_tokens(x->model, pixels, side, &x->memory, NULL, class_token, patches, &e)) fail_msg("%s", e.text);
    assert_close(class_token, fixture_get(x, &n, "%s.anovl.class", name), E, BY_BUILD(2e-5, 5e-7));
    assert_close(patches, fixture_get(x, &n, "%s.anovl.patches", name), P * E, BY_BUILD(2e-5, 5e-7));
    anovl_shares(patches, P, E, t->pair, share);
    anovl_map(share, g, g, map, side, side);
    assert_close(map, fixture_get(x, &n, "%s.anovl.map", name), side * side, BY_BUILD(2e-5, 5e-7));
    real *W = fixture_get(x, &many, "%s.anovl.W0", name), *b = fixture_get(x, &n, "%s.anovl.b0", name);
    const real *noise = fixture_get(x, &n, "%s.anovl.noise", name);
    anovl_problem p = {1, P, E, g, g, patches, t->pair, t->all, many / E, side, 0};
    if (!anovl_adapt(&p, W, b, noise, steps, &x->memory, NULL, losses, &e)) fail_msg("%s", e.text);
    assert_close(losses, fixture_get(x, &n, "%s.anovl.adapted.losses", name), steps, BY_BUILD(1e-5, 5e-7));
    assert_close(W, fixture_get(x, &n, "%s.anovl.adapted.W", name), many, BY_BUILD(5e-4, 1e-6));
    assert_close(b, fixture_get(x, &n, "%s.anovl.adapted.b", name), many / E, BY_BUILD(5e-4, 1e-6));
    real *out = room_for(x, P * E);
    assert_true(anovl_adapted(&p, W, b, &x->memory, NULL, out, &e));
    anovl_shares(out, P, E, t->pair, share);
    anovl_map(share, g, g, map, side, side);
    assert_close(map, fixture_get(x, &n, "%s.anovl.adapted.map", name), side * side, BY_BUILD(1e-4, 5e-7));
    assert_far(map, fixture_get(x, &n, "%s.anovl.map", name), side * side, 1e-4);
    if (!strcmp(name, "square")) check_views(x, t, pixels, side);
}

static void test_squares(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        fixture x;
        anovl_texts t;
        char file[80];
        snprintf(file, sizeof file, "anovl-%s", models[i]);
        open_fixture(&x, models[i], file);
        make_texts(&x, &t);
        check_square(&x, &t, "square", x.model->config.image);
        if (i == 0) check_square(&x, &t, "double", 2 * x.model->config.image);
        anovl_texts_free(&t);
        close_fixture(&x);
    }
}

/* ---- VisA's two tiles ---------------------------------------------------------------------------------------------- */
static void check_tiles(fixture *x, const anovl_texts *t, size_t shift) {
    size_t n, side = x->model->config.image, E = x->model->config.embed, g = side / x->model->config.patch, P = g * g, w = side + shift;
    real *pixels = pixels_of(x, "tiles", side, w), *tile = room_for(x, 3 * side * side), *both = room_for(x, 2 * P * E);
    real *class_token = room_for(x, E), *map = room_for(x, side * w), losses[5], share[2];
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < 3 * side * side; i++) tile[i] = pixels[i / side * w + i % side + k * shift];
        assert_true(anovl_tokens(x->model, tile, side, &x->memory, NULL, class_token, both + k * P * E, &e));
        anovl_shares(class_token, 1, E, t->pair, &share[k]);
    }
    share[0] = (share[0] + share[1]) / 2;
    assert_close(share, fixture_get(x, &n, "tiles.anovl.score"), 1, BY_BUILD(1e-5, 5e-7));
    anovl_result r = {.gh = g, .gw = g, .side = side, .shift = shift, .grid = mem_alloc(2 * P, sizeof(real))};
    anovl_shares(both, 2 * P, E, t->pair, r.grid);
    assert_true(anovl_whole_map(&r, map));
    assert_close(map, fixture_get(x, &n, "tiles.anovl.map"), side * w, BY_BUILD(2e-5, 5e-7));
    real *W = fixture_get(x, &n, "tiles.anovl.W0"), *b = fixture_get(x, &n, "tiles.anovl.b0");
    const real *noise = fixture_get(x, &n, "tiles.anovl.noise");
    anovl_problem p = {2, P, E, g, g, both, t->pair, NULL, E, side, shift};
    if (!anovl_adapt(&p, W, b, noise, 5, &x->memory, NULL, losses, &e)) fail_msg("%s", e.text);
    assert_close(losses, fixture_get(x, &n, "tiles.anovl.adapted.losses"), 5, BY_BUILD(1e-5, 5e-7));
    real *out = room_for(x, 2 * P * E);
    assert_true(anovl_adapted(&p, W, b, &x->memory, NULL, out, &e));
    anovl_shares(out, 2 * P, E, t->pair, r.grid);
    assert_true(anovl_whole_map(&r, map));
    assert_close(map, fixture_get(x, &n, "tiles.anovl.adapted.map"), side * w, BY_BUILD(1e-4, 5e-7));
    anovl_free(&r);
}

static void test_tiles(void **state) {
    (void)state;
    static const size_t shifts[] = {9, 14};
    for (size_t i = 0; i < 2; i++) {
        fixture x;
        anovl_texts t;
        char file[80];
        snprintf(file, sizeof file, "anovl-%s", models[i]);
        open_fixture(&x, models[i], file);
        make_texts(&x, &t);
        check_tiles(&x, &t, shifts[i]);
        anovl_texts_free(&t);
        close_fixture(&x);
    }
}

/* A picture from beginning to end, lying and standing: the standing one's map is the lying one's, turned. */
static void test_pictures(void **state) {
    (void)state;
    fixture x;
    anovl_texts t;
    picture lying = {0}, standing = {0};
    anovl_options o = {.steps = 3, .seed = 4, .views = true};
    anovl_result r, s;
    open_fixture(&x, models[0], "anovl-nano-hf-f32");
    make_texts(&x, &t);
    o.side = x.model->config.image;
    assert_true(picture_new(60, 40, &lying, &e) && picture_new(40, 60, &standing, &e));
    for (size_t i = 0; i < 3 * 60 * 40; i++) lying.rgb[i] = (unsigned char)(i * i % 251);
    for (size_t i = 0; i < 3 * 60 * 40; i++) standing.rgb[i] = lying.rgb[(i / 3 % 40 * 60 + i / 120) * 3 + i % 3];
    for (size_t k = 0; k < 2; k++, o.tiled = true) {
        size_t h, w;
        if (!anovl_measure(x.model, &t, &lying, &o, &x.memory, NULL, &r, &e)) fail_msg("%s", e.text);
        if (!anovl_measure(x.model, &t, &lying, &o, &x.memory, NULL, &s, &e)) fail_msg("%s", e.text);
        anovl_sides(&r, &h, &w);
        assert_int_equal(h, o.side);
        assert_int_equal(w, k ? o.side * 3 / 2 : o.side);
        assert_memory_equal(r.grid, s.grid, r.gh * r.gw * sizeof *r.grid); /* the same seed, the same bytes */
        assert_true(r.score > 0 && r.score < 1 && r.score == s.score);
        anovl_free(&s);
        if (!anovl_measure(x.model, &t, &standing, &o, &x.memory, NULL, &s, &e)) fail_msg("%s", e.text);
        anovl_sides(&s, &h, &w);
        assert_int_equal(w, o.side);
        assert_int_equal(h, k ? o.side * 3 / 2 : o.side);
        real *map = room_for(&x, h * w);
        assert_true(anovl_whole_map(&s, map) && map[0] > 0 && map[h * w - 1] < 1);
        anovl_free(&r), anovl_free(&s);
    }
    o.side++;
    assert_false(anovl_measure(x.model, &t, &lying, &o, &x.memory, NULL, &r, &e));
    assert_non_null(strstr(e.text, "a multiple of the model's patch"));
    picture_free(&lying), picture_free(&standing);
    anovl_texts_free(&t);
    close_fixture(&x);
}

/* ---- sentences ------------------------------------------------------------------------------------------------------- */
static void test_sentences(void **state) {
    (void)state;
    static const struct {
        const char *name;
        size_t i;
        const char *text;
    } some[] = {{"metal_nut", 0, "a cropped industrial photo of the normal metal_nut"},
                {"metal_nut", 12 + 22, "an industrial image of a normal metal_nut"},
                {"pill", 12 + 44, "a manufacturing image of a normal pill"},
                {"wood", 12 + 22, "a textural photo of a normal wood"},
                {"grid", 19 + 44 + 66 * 4, "a surface picture of a grid without flaw for visual inspection"},
                {"macaroni2", ANOVL_SENTENCES, "a cropped industrial photo of the damaged macaroni"},
                {"pcb1", 2 * ANOVL_SENTENCES - 1, "a manufacturing image of a pcb1 with damage for anomaly detection"}};
    char text[400], other[400];
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        anovl_sentence(some[i].name, some[i].i, text, sizeof text);
        assert_string_equal(text, some[i].text);
    }
    for (size_t i = 0; i < 2 * ANOVL_SENTENCES; i += 7)
        for (size_t k = 0; k < i; k++) {
            anovl_sentence("bottle", i, text, sizeof text), anovl_sentence("bottle", k, other, sizeof other);
            assert_string_not_equal(text, other);
        }
}

/* ---- AnoVL's measures ---------------------------------------------------------------------------------------------------- */
static void test_measures_of_anovl(void **state) {
    (void)state;
    fixture x;
    size_t n, m;
    open_fixture(&x, models[0], "anomaly");
    const real *masks = fixture_get(&x, &n, "anomaly.masks"), *maps = fixture_get(&x, &n, "anomaly.maps"),
               *right = fixture_get(&x, &m, "anomaly.auroc-ap-f1-aupr-pro");
    double *map = arena_alloc(&x.memory, n, sizeof *map), pro, stretched;
    unsigned char *mask = arena_alloc(&x.memory, n, 1);
    for (size_t i = 0; i < n; i++) map[i] = (double)maps[i], mask[i] = masks[i] > 0;
    measured s;
    assert_true(measure_scores(map, mask, n, &s, &e));
    assert_true(measure_pro(&(region_maps){map, mask, (size_t[]){24, 24, 24}, (size_t[]){28, 28, 28}, 3}, .3, &pro, &stretched, &e));
    real found[5] = {(real)s.auroc, (real)s.ap, (real)s.f1, (real)s.aupr, (real)stretched};
    for (size_t i = 0; i < 5; i++) assert_close(found + i, right + i, 1, 2e-7);
    close_fixture(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_squares),   cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_pictures),  cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_measures_of_anovl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
