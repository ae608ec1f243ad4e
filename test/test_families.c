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

static const char *const NAMES[] = {
    "siglip-hf",      "siglip2-hf-sharded", "siglip-openclip",   "clipa-openclip",  "layerscale-openclip", "eva02-openclip",
    "eva01-openclip", "eva02e-openclip",    "timm-vit-openclip", "pe-core-openclip", "metaclip2-hf",       "resnet-openclip",
};
enum { FAMILIES = sizeof NAMES / sizeof *NAMES };

/* ---- helpers ------------------------------------------------------------------------------------ */
typedef struct {
    fixture f;
    const clip_model *m;
    size_t side;
    ag_tape t;
} family;

static void open_family(family *x, const char *name) {
    char path[200];
    snprintf(path, sizeof path, "checkpoints/%s", name);
    fixture_open(&x->f, path);
    x->m = x->f.model;
    x->side = x->m->config.image;
    assert_true(ag_tape_init(&x->t, &x->f.memory, NULL, 64));
    x->t.recording = false;
}

static bool has(const family *x, const char *name) { return st_find(x->f.expected, name) != NULL; }

/* Pixels [3,side,side] of the picture squashed; freed by the caller. */
static float *squashed(const family *x, size_t side) {
    picture p;
    err e = {{0}};
    const char *folder = getenv("TEST_DATA");
    char path[300];
    snprintf(path, sizeof path, "%s/image.png", folder ? folder : "test/data");
    if (!picture_read(path, &p, &e)) fail_msg("%s", e.text);
    float *out = pixels_squash(&p, side, x->m->config.mean, x->m->config.std, &e);
    if (!out) fail_msg("%s", e.text);
    picture_free(&p);
    return out;
}

static uint32_t *ids_of(const family *x, const char *name, size_t *count) {
    const st_tensor *t = st_find(x->f.expected, name);
    if (!t) fail_msg("no tensor %s", name);
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

/* Computed anew from the tape's memory, which the caller resets. */
static ag_tensor *image_of(family *x, const real *pixels, size_t side) {
    size_t gh, gw;
    assert_true(clip_grid(&x->m->config, side, side, &gh, &gw));
    ag_tensor *z = clip_image(&x->t, x->m, clip_patches(&x->t, x->m, pixels, side, side), gh, gw);
    if (!z) fail_msg("fault %d in %s", (int)x->t.fault.code, x->t.fault.where);
    return z;
}

static void check_image(family *x, const char *what, const real *pixels, size_t side) {
    size_t n;
    ag_mark mark = ag_tape_mark(&x->t);
    real *want = fixture_get(&x->f, &n, "%s.image.embedding", what);
    assert_int_equal(n, x->m->config.embed);
    ag_tensor *z = image_of(x, pixels, side);
    assert_close(z->data, want, n, EMBEDDING);
    ag_tape_reset(&x->t, mark);
}

/* ---- embeddings ------------------------------------------------------------------------------------ */
static void test_images(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        size_t n;
        open_family(&x, NAMES[i]);
        if (getenv("TEST_SHOW")) printf("%s\n", NAMES[i]);
        float *pixels = squashed(&x, x.side);
        if (has(&x, "native.pixels")) {
            real *want = fixture_get(&x.f, &n, "native.pixels");
            assert_close(pixels, want, n, 1e-6);
        }
        check_image(&x, "native", pixels, x.side);
        free(pixels);
        if (has(&x, "double.image.embedding")) {
            pixels = squashed(&x, 2 * x.side);
            check_image(&x, "double", pixels, 2 * x.side);
            free(pixels);
        }
        if (has(&x, "own.pixels")) check_image(&x, "own", fixture_get(&x.f, &n, "own.pixels"), x.side);
        fixture_close(&x.f);
    }
    (void)state;
}

static void test_texts(void **state) {
    for (size_t i = 0; i < FAMILIES; i++) {
        family x;
        size_t n, length, E;
        open_family(&x, NAMES[i]);
        if (getenv("TEST_SHOW")) printf("%s\n", NAMES[i]);
        E = x.m->config.embed;
        uint32_t *ids = ids_of(&x, "text.ids", &length);
        real *want = fixture_get(&x.f, &n, "text.embedding");
        ag_tensor *e = clip_text(&x.t, x.m, ids, 1, length);
        if (!e) fail_msg("fault %d in %s", (int)x.t.fault.code, x.t.fault.where);
        assert_close(e->data, want, E, EMBEDDING);
        float *pixels = squashed(&x, x.side);
        ag_tensor *z = image_of(&x, pixels, x.side);
        real logit = clip_logit_scale(x.m) * (real)cosine(e->data, z->data, E) + clip_logit_bias(x.m);
        real *logit_want = fixture_get(&x.f, &n, "native.logit");
        assert_close(&logit, logit_want, 1, 2e-3);
        free(pixels);
        free(ids);
        fixture_close(&x.f);
    }
    (void)state;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests_name("families", tests, NULL, NULL);
}
