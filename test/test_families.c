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

#define EMBEDDING 2e-4 /* of the largest value */

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
static float *squashed(const family *x, size_t side) {
    picture p;
    err e = {{0}};
    char path[300];
    snprintf(path, sizeof path, "%s/image.png", data_folder());
    if (!picture_read(path, &p, &e)) fail_msg("%s", e.text);
    float *out = pixels_squash(&p, side, x->m->config.mean, x->m->config.std, &e);
    if (!out) fail_msg("%s", e.text);
    picture_free(&p);
    return out;
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
        float *pixels = squashed(&x, x.side);
        if (has(&x, "native.pixels")) {
            real *want = wanted(&x, "native.pixels", &n);
            assert_close(pixels, want, n, 1e-6);
        }
        check_image(&x, "native.image.embedding", pixels, alpha_of(&x), x.side);
        free(pixels);
        if (has(&x, "double.image.embedding")) {
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
        float *pixels = squashed(&x, x.side);
        ag_tensor *z = image_of(&x, pixels, alpha_of(&x), x.side);
        real logit = clip_logit_scale(x.m) * (real)cosine(e->data, z->data, E) + clip_logit_bias(x.m);
        assert_close(&logit, logit_want, 1, 2e-3);
        free(pixels);
        free(ids);
        close_family(&x);
    }
    (void)state;
}

/* ---- maps and inversions: the family's own LeGrad, by each of the three gradients -------------------- */
static const gradient_kind GRADIENTS[] = {GRADIENT_FACTORED, GRADIENT_DECOMPOSED, GRADIENT_AUTOGRAD};

static void open_map(family *x, explained *e, const float *pixels, size_t layers, gradient_kind how, const real *usual) {
    fault f = {0};
    explain_options o = {.layers = layers, .gradient = how, .steps = 10, .usual = usual, .alpha = alpha_of(x)};
    if (!explain_open(e, x->m, pixels, x->side, x->side, &o, &x->f.memory, NULL, &f))
        fail_msg("fault %d in %s: %zu %zu", (int)f.code, f.where, f.n[0], f.n[1]);
}

static void check_map(family *x, const char *name, const float *pixels, size_t layers, bool corrected) {
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
        assert_close(map, want, n, 5e-4);
        arena_reset(&x->f.memory, mark);
    }
}

static void test_maps(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        open_family(&x, i);
        float *pixels = squashed(&x, x.side);
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
static void check_inversion(family *x, const float *pixels, const char *tag, bool corrected) {
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
        assert_close(first, gradient, E, KINK);
        assert_close(each, losses, 10, 1e-3);
        assert_above(cosine(found, want, E), 0.9995, "inversion", __FILE__, __LINE__);
        arena_reset(&x->f.memory, mark);
    }
}

static void test_inversions(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        open_family(&x, i);
        float *pixels = squashed(&x, x.side);
        check_inversion(&x, pixels, "", true);
        check_inversion(&x, pixels, ".uncorrected", false);
        free(pixels);
        close_family(&x);
    }
    (void)state;
}

/* ---- captions (CoCa) ------------------------------------------------------------------------------------ */
static void test_captions(void **state) {
    family x;
    size_t n, length, count, gh, gw;
    open_family(&x, 4);
    float *pixels = squashed(&x, x.side);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),     cmocka_unit_test(test_texts),    cmocka_unit_test(test_maps),
        cmocka_unit_test(test_inversions), cmocka_unit_test(test_captions),
    };
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
