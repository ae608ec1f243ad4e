/* test_families.c - each family of CLIP against numbers computed in float64: a row a fixture. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "maskinv.h"
#include "methods.h"
#include "models/checkpoint.h"
#include "pictures/image.h"
#include "x_fixture.h"
#include "x_skip.h"

/* Of the largest value. In double, where rounding hides nothing, a wrong epsilon or gelu shows. */
#define EMBEDDING BY_BUILD(2e-4, 1e-6)
#define MAP BY_BUILD(5e-4, 2e-6)
#define LOSS BY_BUILD(1e-3, 1e-6)
#define SLOPE BY_BUILD(KINK, 1e-5)

/* The folder, what stands before its expected numbers' names, and the file where there are several. */
static const struct { const char *name, *prefix, *file; } ROWS[] = {
    {"siglip-hf", "", ""},
    {"siglip2-hf-sharded", "", ""},
    {"siglip-openclip", "", ""},
    {"siglip-bigvision-npz", "", ""},
    {"coca-openclip-bin", "", ""},
    {"eva02-openclip", "", ""},
    {"eva02-original-pt", "", ""},
    {"eva01-openclip", "", ""},
    {"eva02e-openclip", "", ""},
    {"clipa-openclip", "", ""},
    {"resnet-openclip", "", ""},
    {"resnet-openai-torchscript", "", ""},
    {"vit-openai-torchscript", "", ""},
    {"longclip-pt", "", ""},
    {"alphaclip-pth", "", ""},
    {"openclip-train-pt", "", ""},
    {"clip-hf-bin", "", ""},
    {"metaclip2-hf", "", ""},
    {"layerscale-openclip", "", ""},
    {"timm-vit-openclip", "", ""},
    {"pe-core-openclip", "", ""},
    {"clip-gguf", "f16.", "/tiny_ggml-model-f16.gguf"},
    {"clip-gguf", "q4_0.", "/tiny_ggml-model-q4_0.gguf"},
    {"clip-gguf", "q4_1.", "/tiny_ggml-model-q4_1.gguf"},
    {"clip-gguf", "q5_0.", "/tiny_ggml-model-q5_0.gguf"},
    {"clip-gguf", "q5_1.", "/tiny_ggml-model-q5_1.gguf"},
    {"clip-gguf", "q8_0.", "/tiny_ggml-model-q8_0.gguf"},
};
enum { FAMILIES = sizeof ROWS / sizeof *ROWS };

/* ---- helpers ------------------------------------------------------------------------------------ */
typedef struct {
    fixture f;
    const clip_model *m;
    size_t side;
    ag_tape t;
    const char *prefix;
    void *room;
} family;
enum { ROOM = 64 << 20 };

static const char *data_folder(void) {
    const char *folder = getenv("TEST_DATA");
    return folder ? folder : "test/data";
}

static void open_family(family *x, size_t row) {
    char path[300];
    err e = {{0}};
    memset(x, 0, sizeof *x);
    x->prefix = ROWS[row].prefix;
    if (getenv("TEST_SHOW")) printf("%s%s\n", ROWS[row].name, ROWS[row].file);
    snprintf(path, sizeof path, "%s/checkpoints/%s%s", data_folder(), ROWS[row].name, ROWS[row].file);
    x->f.c = checkpoint_open(path, &e);
    if (!x->f.c) fail_msg("%s", e.text);
    snprintf(path, sizeof path, "%s/checkpoints/%s/expected.safetensors", data_folder(), ROWS[row].name);
    x->f.expected = st_open(path, &e);
    if (!x->f.expected) fail_msg("%s", e.text);
    x->room = mem_reserve(ROOM);
    assert_non_null(x->room);
    arena_init(&x->f.memory, x->room, ROOM);
    x->m = x->f.model = checkpoint_model(x->f.c);
    x->side = x->m->config.image;
    assert_true(ag_tape_init(&x->t, &x->f.memory, NULL, 64));
    x->t.recording = false;
}

static void close_family(family *x) {
    while (x->f.count) free(x->f.kept[--x->f.count]);
    st_free(x->f.expected);
    checkpoint_free(x->f.c);
    mem_release(x->room, ROOM);
}

static bool has(const family *x, const char *name) {
    char full[200];
    snprintf(full, sizeof full, "%s%s", x->prefix, name);
    return st_find(x->f.expected, full) != NULL;
}

static real *wanted(family *x, const char *name, size_t *count) { return fixture_get(&x->f, count, "%s%s", x->prefix, name); }

/* Pixels [3,side,side] of the picture squashed; freed by the caller. */
static real *squashed(const family *x, size_t side) {
    picture p;
    err e = {{0}};
    char path[300];
    snprintf(path, sizeof path, "%s/image.png", data_folder());
    if (!picture_read(path, &p, &e)) fail_msg("%s", e.text);
    real *pixels = pixels_squash(&p, side, x->m->config.mean, x->m->config.std, &e);
    if (!pixels) fail_msg("%s", e.text);
    picture_free(&p);
    return pixels;
}

static uint32_t *ids_of(const family *x, const char *name, size_t *count) {
    char full[200];
    snprintf(full, sizeof full, "%s%s", x->prefix, name);
    const st_tensor *t = st_find(x->f.expected, full);
    if (!t) fail_msg("no tensor %s", full);
    *count = st_size(t);
    uint32_t *ids = malloc(*count * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *count; i++) {
        int64_t id;
        memcpy(&id, t->data + 8 * i, sizeof id);
        ids[i] = (uint32_t)id;
    }
    return ids;
}

/* AlphaCLIP's region in the native numbers; NULL: all of the picture. */
static const real *alpha_of(family *x) {
    size_t n;
    return has(x, "native.alpha") ? wanted(x, "native.alpha", &n) : NULL;
}

/* In the tape's memory, which the caller resets. */
static ag_tensor *image_of(family *x, const real *pixels, const real *alpha, size_t side) {
    size_t gh, gw;
    assert_true(clip_grid(&x->m->config, side, side, &gh, &gw));
    ag_tensor *z = clip_image(&x->t, x->m, clip_patches_alpha(&x->t, x->m, pixels, alpha, side, side), gh, gw);
    if (!z) fail_msg("fault %d in %s", (int)x->t.fault.code, x->t.fault.where);
    return z;
}

static void check_image(family *x, const char *name, const real *pixels, const real *alpha, size_t side) {
    size_t n;
    ag_mark mark = ag_tape_mark(&x->t);
    real *want = wanted(x, name, &n);
    assert_int_equal(n, x->m->config.embed);
    ag_tensor *z = image_of(x, pixels, alpha, side);
    assert_close(z->data, want, n, EMBEDDING);
    ag_tape_reset(&x->t, mark);
}

/* ---- embeddings ------------------------------------------------------------------------------------ */
static void test_images(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        size_t n;
        open_family(&x, i);
        real *pixels = squashed(&x, x.side);
        if (has(&x, "native.pixels")) {
            real *want = wanted(&x, "native.pixels", &n);
            assert_close(pixels, want, n, 1e-6);
        }
        check_image(&x, "native.image.embedding", pixels, alpha_of(&x), x.side);
        free(pixels);
        if (has(&x, "double.image.embedding") && 2 * x.side % x.m->config.patch == 0) { /* other sides are refused */
            pixels = squashed(&x, 2 * x.side);
            check_image(&x, "double.image.embedding", pixels, NULL, 2 * x.side);
            free(pixels);
        }
        if (has(&x, "own.pixels")) check_image(&x, "own.image.embedding", wanted(&x, "own.pixels", &n), NULL, x.side);
        close_family(&x);
    }
    (void)state;
}

static void test_texts(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        size_t n, length;
        open_family(&x, i);
        size_t E = x.m->config.embed;
        uint32_t *ids = ids_of(&x, "text.ids", &length);
        real *want = wanted(&x, "text.embedding", &n), *logit_want = wanted(&x, "native.logit", &n);
        ag_tensor *e = clip_text(&x.t, x.m, ids, 1, length);
        if (!e) fail_msg("fault %d in %s", (int)x.t.fault.code, x.t.fault.where);
        assert_close(e->data, want, E, EMBEDDING);
        real *pixels = squashed(&x, x.side);
        ag_tensor *z = image_of(&x, pixels, alpha_of(&x), x.side);
        real logit = clip_logit_scale(x.m) * (real)cosine(e->data, z->data, E) + clip_logit_bias(x.m);
        assert_close(&logit, logit_want, 1, BY_BUILD(2e-3, 5e-6));
        free(pixels);
        free(ids);
        close_family(&x);
    }
    (void)state;
}

/* ---- maps and inversions: the family's own LeGrad, by each of the three gradients -------------------- */
static const gradient_kind GRADIENTS[] = {GRADIENT_FACTORED, GRADIENT_DECOMPOSED, GRADIENT_AUTOGRAD};

static void open_map(family *x, explained *e, const real *pixels, size_t layers, gradient_kind how, const real *usual) {
    fault f = {0};
    explain_options o = {.layers = layers, .gradient = how, .steps = 10, .usual = usual, .alpha = alpha_of(x)};
    if (!explain_open(e, x->m, pixels, x->side, x->side, &o, &x->f.memory, NULL, &f))
        fail_msg("fault %d in %s: %zu %zu", (int)f.code, f.where, f.n[0], f.n[1]);
}

static void check_map(family *x, const char *name, const real *pixels, size_t layers, bool corrected) {
    size_t n, E;
    fault f = {0};
    if (!has(x, name)) return;
    real *want = wanted(x, name, &n), *text = wanted(x, "text.embedding", &E);
    real *usual = corrected && has(x, "empty.embedding") ? wanted(x, "empty.embedding", &E) : NULL;
    for (size_t g = 0; g < 3; g++) {
        size_t mark = arena_mark(&x->f.memory);
        explained e;
        open_map(x, &e, pixels, layers, GRADIENTS[g], usual);
        assert_int_equal(n, e.height * e.width);
        real *map = arena_alloc(&x->f.memory, n, sizeof *map);
        assert_non_null(map);
        if (!explain_legrad(&e, text, map, &f)) fail_msg("%s: fault %d in %s", name, (int)f.code, f.where);
        assert_close(map, want, n, MAP);
        arena_reset(&x->f.memory, mark);
    }
}

static void test_maps(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        open_family(&x, i);
        real *pixels = squashed(&x, x.side);
        check_map(&x, "native.legrad.last1.text", pixels, 1, true);
        check_map(&x, "native.legrad.last2.text", pixels, 2, true);
        check_map(&x, "native.legrad.last1.text.uncorrected", pixels, 1, false);
        check_map(&x, "native.legrad.last2.text.uncorrected", pixels, 2, false);
        free(pixels);
        close_family(&x);
    }
    (void)state;
}

/* Where a component of the gradient is near zero, float's noise decides the sign of AdamW's first step: the end point
 * is compared by its cosine, the start by every number. */
static void check_inversion(family *x, const real *pixels, const char *tag, bool corrected) {
    char name[80];
    size_t n, E, mh, mw;
    fault f = {0};
    snprintf(name, sizeof name, "native.invert.embedding%s", tag);
    if (!has(x, name)) return;
    real *want = wanted(x, name, &E), *mask = fixture_mask(&x->f, 0, &mh, &mw);
    snprintf(name, sizeof name, "native.invert.losses%s", tag);
    real *losses = wanted(x, name, &n);
    snprintf(name, sizeof name, "native.invert.gradient0%s", tag);
    real *gradient = wanted(x, name, &n);
    real *usual = corrected && has(x, "empty.embedding") ? wanted(x, "empty.embedding", &n) : NULL;
    for (size_t g = 0; g < 3; g++) {
        size_t mark = arena_mark(&x->f.memory);
        explained e;
        real found[512], first[512], each[10];
        invert_options o = invert_defaults();
        invert_result r = {.embedding = found, .losses = each, .first_gradient = first};
        assert_true(E <= 512);
        open_map(x, &e, pixels, 1, GRADIENTS[g], usual);
        if (!maskinv_invert(&e, mask, mh, mw, &o, &r, &f)) fail_msg("fault %d in %s", (int)f.code, f.where);
        assert_close(first, gradient, E, SLOPE);
        assert_close(each, losses, 10, LOSS);
        assert_above(cosine(found, want, E), BY_BUILD(0.9995, 1 - 1e-9), "inversion", __FILE__, __LINE__);
        arena_reset(&x->f.memory, mark);
    }
}

static void test_inversions(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        open_family(&x, i);
        real *pixels = squashed(&x, x.side);
        check_inversion(&x, pixels, "", true);
        check_inversion(&x, pixels, ".uncorrected", false);
        free(pixels);
        close_family(&x);
    }
    (void)state;
}

/* ---- every gradient x every family ------------------------------------------------------------------------ */
static void check_refusal(const fault *f, const char *name) {
    err e = {{0}};
    assert_int_equal(f->code, FAULT_FAMILY);
    err_fault(&e, f);
    size_t length = strlen(name);
    if (strncmp(e.text, name, length) || strncmp(e.text + length, ": no", 4) || !strstr(e.text, "every model"))
        fail_msg("'%s' found, a message naming %s and the family expected", e.text, name);
    static const char *const families[] = {"SigLIP", "PE-Core", "CoCa", "ResNet", "EVA02", "layer scale", "one block"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strstr(e.text, families[i])) return;
    fail_msg("'%s' names no family", e.text);
}

/* What has only CLIP's own blocks: the closed forms of jacobian and compact are of those. */
static bool own_blocks(const clip_config *c) {
    return !clip_has_pooler(c) && !c->vision.layer_scale && !c->vision.post_norm && !c->vision.sub_norm && !c->vision.swiglu;
}

static void test_gradients(void **state) {
    size_t refused = 0, agree = 0;
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        size_t E;
        open_family(&x, i);
        real *text = wanted(&x, "text.embedding", &E), *first = NULL;
        real *pixels = squashed(&x, x.side);
        for (gradient_kind g = GRADIENT_FACTORED; g <= GRADIENT_COMPACT; g++) {
            fault f = {0};
            explained e;
            explain_options o = {.layers = 1, .gradient = g, .steps = 10, .alpha = alpha_of(&x)};
            bool open = explain_open(&e, x.m, pixels, x.side, x.side, &o, &x.f.memory, NULL, &f);
            if (g >= GRADIENT_JACOBIAN && !own_blocks(&x.m->config)) {
                static const char *const names[] = {"jacobian", "compact"};
                assert_false(open);
                check_refusal(&f, names[g - GRADIENT_JACOBIAN]);
                refused++;
                continue;
            }
            if (!open) fail_msg("gradient %d: fault %d in %s", (int)g, (int)f.code, f.where);
            size_t n = e.height * e.width;
            real *map = arena_alloc(&x.f.memory, n, sizeof *map);
            assert_non_null(map);
            assert_true(explain_legrad(&e, text, map, &f));
            if (!first) first = map;
            assert_close(map, first, n, BY_BUILD(5e-4, 1e-12));
            agree++;
        }
        free(pixels);
        close_family(&x);
    }
    assert_int_equal(agree + refused, 5 * FAMILIES);
    assert_true(refused > 10 && agree > 4 * FAMILIES - 1);
    (void)state;
}

/* ---- every explainer x every family --------------------------------------------------------------------- */
static bool has_meaning(const method *how, const clip_config *c) {
    if (how->family != FAMILY_FEATURES) return true;
    if (clip_is_resnet(c)) return !strcmp(how->name, "surgery") || !strcmp(how->name, "maskclip");
    bool two = how->open != NULL; /* resclip, scclip, cliptrase look at two blocks */
    return !clip_has_pooler(c) && !c->no_class_token && (!two || c->vision.layers > 1);
}

/* Two texts, so that Surgery needs no empty one. */
static void explain_every(family *x, const method *how, size_t side) {
    size_t E, mark = arena_mark(&x->f.memory), cells = side / x->m->config.patch * (side / x->m->config.patch);
    real *text = wanted(x, "text.embedding", &E), texts[1024];
    real *pixels = squashed(x, side);
    explainer e;
    fault f = {0};
    const method_options o = {.alpha = side == x->side ? alpha_of(x) : NULL};
    assert_true(2 * E <= 1024);
    for (size_t k = 0; k < E; k++) texts[k] = text[k], texts[E + k] = text[E - 1 - k];
    for (size_t c = 0; c < 2; c++) {
        real length = (real)sqrt((double)k_dot(texts + c * E, texts + c * E, E));
        for (size_t k = 0; k < E; k++) texts[c * E + k] /= length;
    }
    bool open = method_open(&e, how, x->m, pixels, side, side, &o, &x->f.memory, NULL, &f);
    if (!has_meaning(how, &x->m->config)) {
        assert_false(open);
        check_refusal(&f, how->name);
    } else {
        if (!open) fail_msg("%s: fault %d in %s", how->name, (int)f.code, f.where);
        real *grids = arena_alloc(&x->f.memory, 2 * cells, sizeof *grids), *map = arena_alloc(&x->f.memory, side, side * sizeof *map);
        assert_true(grids && map && e.gh * e.gw == cells);
        if (!method_grids(&e, texts, 2, NULL, grids, &f)) fail_msg("%s: fault %d in %s", how->name, (int)f.code, f.where);
        for (size_t c = 0; c < 2; c++) {
            map[side * side - 1] = -1; /* written to its end */
            if (!method_map(&e, grids + c * cells, map, &f)) {
                /* resclip's labels may be one and the same, chefer's and gradcam's relevance nowhere above 0 */
                assert_int_equal(f.code, FAULT_FLAT);
                f = (fault){0};
                continue;
            }
            for (size_t i = 0; i < side * side; i++) assert_true(map[i] >= 0 && map[i] <= 1);
        }
    }
    free(pixels);
    arena_reset(&x->f.memory, mark);
}

static void test_explainers(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        open_family(&x, i);
        for (size_t k = 0; k < method_count(); k++)
            for (size_t s = 1; s <= 2; s++) explain_every(&x, method_at(k), s * (x.side - x.side % x.m->config.patch));
        close_family(&x);
    }
    (void)state;
}

/* CLIP Surgery's tokens of a ResNet, at its own side and at twice that. */
static void test_resnet_surgery(void **state) {
    size_t seen = 0;
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        open_family(&x, i);
        for (size_t s = 1; clip_is_resnet(&x.m->config) && s <= 2; s++) {
            size_t n;
            fault f = {0};
            explainer e;
            real *want = wanted(&x, s == 1 ? "native.surgery.tokens" : "double.surgery.tokens", &n);
            real *pixels = squashed(&x, s * x.side);
            assert_true(method_open(&e, method_find("surgery"), x.m, pixels, s * x.side, s * x.side, NULL, &x.f.memory, NULL, &f));
            assert_int_equal(n, e.n * x.m->config.embed);
            assert_close(e.tokens, want, n, EMBEDDING);
            free(pixels);
            seen++;
        }
        close_family(&x);
    }
    assert_int_equal(seen, 4);
    (void)state;
}

/* What reads a pooler, against numbers made by autograd in float64 (make_pooled.py): FAMILY.METHOD[.N].grid. */
static void test_poolers(void **state) {
    static const struct { size_t row; } poolers[] = {{0}, {4}, {20}, {10}};
    static const struct { const char *method; size_t layers; } maps[] = {
        {"attention", 0}, {"rollout", 0}, {"gradcam", 0}, {"chefer", 1}, {"chefer", SIZE_MAX}};
    char path[300], name[100];
    err why = {{0}};
    snprintf(path, sizeof path, "%s/pooled.safetensors", data_folder());
    safetensors *truth = st_open(path, &why);
    if (!truth) fail_msg("%s", why.text);
    for (size_t i = 0; i < 4; i++) {
        family x;
        size_t n, E;
        open_family(&x, poolers[i].row);
        safetensors *own = x.f.expected;
        real *text = wanted(&x, "text.embedding", &E), unit[512];
        real length = (real)sqrt((double)k_dot(text, text, E));
        for (size_t k = 0; k < E; k++) unit[k] = text[k] / length;
        real *pixels = squashed(&x, x.side);
        x.f.expected = truth;
        for (size_t k = 0; k < 5; k++) {
            const method *how = method_find(maps[k].method);
            size_t all = method_depth(how, &x.m->config), layers = maps[k].layers == SIZE_MAX ? all : maps[k].layers;
            explainer e;
            fault f = {0};
            real grid[256];
            assert_int_equal(all, x.m->config.vision.layers + 1);
            if (layers > 1) snprintf(name, sizeof name, "%s.%s.%zu.grid", ROWS[poolers[i].row].name, how->name, layers);
            else snprintf(name, sizeof name, "%s.%s.grid", ROWS[poolers[i].row].name, how->name);
            if (!has(&x, name) && layers == 1) continue; /* a ResNet's all is one */
            real *want = wanted(&x, name, &n);
            assert_true(method_open(&e, how, x.m, pixels, x.side, x.side, &(method_options){.blocks = layers}, &x.f.memory, NULL, &f));
            assert_true(n == e.gh * e.gw && n <= 256);
            assert_true(method_grids(&e, unit, 1, NULL, grid, &f));
            assert_close(grid, want, n, MAP);
        }
        for (size_t k = 2; k < 4 && i == 3; k++) { /* a ResNet's cells: MaskCLIP, Surgery */
            const method *how = method_find(k == 2 ? "maskclip" : "surgery");
            explainer e;
            fault f = {0};
            real grid[256];
            snprintf(name, sizeof name, "%s.%s.cosine", ROWS[poolers[i].row].name, how->name);
            real *want = wanted(&x, name, &n);
            assert_true(method_open(&e, how, x.m, pixels, x.side, x.side, NULL, &x.f.memory, NULL, &f));
            assert_true(method_cosine_grids(&e, unit, 1, NULL, grid));
            assert_close(grid, want, n, MAP);
        }
        x.f.expected = own;
        free(pixels);
        close_family(&x);
    }
    st_free(truth);
    (void)state;
}

/* The same in an inversion's place: its first step on mask 0. */
static void test_pooler_inversions(void **state) {
    static const size_t poolers[] = {0, 4, 20, 10};
    static const char *const names[] = {"gradcam", "chefer", "rollout"};
    char path[300], name[100];
    err why = {{0}};
    size_t seen = 0;
    snprintf(path, sizeof path, "%s/pooled.safetensors", data_folder());
    safetensors *truth = st_open(path, &why);
    if (!truth) fail_msg("%s", why.text);
    for (size_t i = 0; i < 12; i++) {
        family x;
        size_t n, mh, mw, row = poolers[i / 3];
        open_family(&x, row);
        safetensors *own = x.f.expected;
        real *pixels = squashed(&x, x.side);
        explainer how;
        explain_other other;
        explained e;
        fault f = {0};
        real found[512], first[512], losses[1];
        invert_options o = invert_defaults();
        invert_result r = {.embedding = found, .losses = losses, .first_gradient = first};
        explain_options eo = {.other = method_other(&how, names[i % 3], &other)};
        real *mask = fixture_mask(&x.f, 0, &mh, &mw);
        x.f.expected = truth;
        snprintf(name, sizeof name, "%s.invert.%s.loss", ROWS[row].name, names[i % 3]);
        if (has(&x, name)) {
            if (!explain_open(&e, x.m, pixels, x.side, x.side, &eo, &x.f.memory, NULL, &f))
                fail_msg("%s: fault %d in %s", name, (int)f.code, f.where);
            o.iters = 1;
            if (!maskinv_invert(&e, mask, mh, mw, &o, &r, &f)) fail_msg("%s: fault %d in %s", name, (int)f.code, f.where);
            assert_close(losses, wanted(&x, name, &n), 1, LOSS);
            snprintf(name, sizeof name, "%s.invert.%s.gradient", ROWS[row].name, names[i % 3]);
            assert_close(first, wanted(&x, name, &n), n, SLOPE);
            seen++;
        }
        x.f.expected = own;
        free(pixels);
        close_family(&x);
    }
    assert_int_equal(seen, 11); /* a ResNet's rollout is its chefer */
    st_free(truth);
    (void)state;
}

/* ---- captions (CoCa) ------------------------------------------------------------------------------------ */
static void test_captions(void **state) {
    family x;
    size_t n, length, count, gh, gw;
    open_family(&x, 4);
    real *pixels = squashed(&x, x.side);
    assert_true(clip_grid(&x.m->config, x.side, x.side, &gh, &gw));
    clip_run run = clip_image_run(&x.t, x.m, gh, gw);
    ag_tensor *tokens = clip_embed(&x.t, x.m, clip_patches(&x.t, x.m, pixels, x.side, x.side), gh, gw, POSITION_BICUBIC);
    tokens = clip_blocks(&x.t, &run, x.m->blocks, tokens, 0, x.m->config.vision.layers);
    ag_tensor *image = clip_caption_image(&x.t, x.m, tokens);
    assert_non_null(image);
    real *want = wanted(&x, "native.image.tokens", &n);
    assert_close(image->data, want, n, EMBEDDING);
    uint32_t *prefix = ids_of(&x, "caption.prefix", &length), *greedy = ids_of(&x, "caption.greedy", &count), found[77];
    ag_tensor *logits = clip_caption_logits(&x.t, x.m, image, prefix, length, false);
    assert_non_null(logits);
    want = wanted(&x, "caption.logits", &n);
    assert_close(logits->data, want, n, EMBEDDING);
    clip_caption_options o = clip_caption_defaults(&x.m->config);
    o.most = 12;
    assert_true(clip_caption(&x.t, x.m, image, &o, found, &n));
    assert_int_equal(n, count);
    assert_memory_equal(found, greedy, n * sizeof *found);
    o.beams = 4; /* no fixed truth; but no worse, and of ids alone */
    assert_true(clip_caption(&x.t, x.m, image, &o, found, &n));
    assert_int_equal(found[0], o.start);
    assert_true(n >= o.least);
    for (size_t i = 0; i < n; i++) assert_true(found[i] < x.m->config.vocab);
    o.beams = 0;
    assert_false(clip_caption(&x.t, x.m, image, &o, found, &n));
    assert_int_equal(x.t.fault.code, FAULT_RANGE);
    free(prefix);
    free(greedy);
    free(pixels);
    close_family(&x);
    (void)state;
}

/* What no flag and no processor would choose here multiplies the weights as well. */
static void test_by_the_other_product(void **state) {
    if (!gemm_choose(gemm_is_own() ? GEMM_BLAS : GEMM_OWN)) SKIP("there is no BLAS in this build");
    test_images(state);
    test_texts(state);
    test_maps(state);
    test_inversions(state);
    assert_true(gemm_choose(GEMM_FASTER));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),     cmocka_unit_test(test_texts),    cmocka_unit_test(test_maps),
        cmocka_unit_test(test_inversions), cmocka_unit_test(test_captions), cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_explainers), cmocka_unit_test(test_resnet_surgery), cmocka_unit_test(test_poolers),
        cmocka_unit_test(test_pooler_inversions), cmocka_unit_test(test_by_the_other_product),
    };
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
