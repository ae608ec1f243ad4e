/* x_fixture.c - see x_fixture.h. */
#include "x_fixture.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#pragma GCC diagnostic ignored "-Wunused-function" /* in stb_image.h */
#define STB_IMAGE_STATIC                           /* the double build has no image.c */
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#include <stb_image.h>

const char *const fixture_names[FIXTURES] = {"nano-hf-f32", "nano-openclip-f16", "nanogelu-openclip-bf16"};
const char *const fixture_sizes[FIXTURE_SIZES] = {"native", "double"};
enum { ROOM = 256 << 20 };

/* Tests run from the tree's top, or from anywhere with TEST_DATA set. */
static void data_path(char *out, size_t size, const char *name) {
    const char *folder = getenv("TEST_DATA");
    snprintf(out, size, "%s/%s", folder ? folder : "test/data", name);
}

void fixture_open(fixture *x, const char *name) {
    char path[512], file[600];
    err e = {{0}};
    memset(x, 0, sizeof *x);
    data_path(path, sizeof path, name);
    x->c = checkpoint_open(path, &e);
    if (!x->c) fail_msg("%s", e.text);
    x->model = checkpoint_model(x->c);
    snprintf(file, sizeof file, "%s/expected.safetensors", path);
    x->expected = st_open(file, &e);
    if (!x->expected) fail_msg("%s", e.text);
    x->room = mem_reserve(ROOM);
    assert_non_null(x->room);
    arena_init(&x->memory, x->room, ROOM);
}

void fixture_close(fixture *x) {
    while (x->count) free(x->kept[--x->count]);
    st_free(x->expected);
    checkpoint_free(x->c);
    mem_release(x->room, ROOM);
}

static real *keep(fixture *x, size_t count) {
    assert_true(x->count < sizeof x->kept / sizeof *x->kept);
    real *p = malloc((count ? count : 1) * sizeof *p);
    assert_non_null(p);
    x->kept[x->count++] = p;
    return p;
}

real *fixture_get(fixture *x, size_t *count, const char *format, ...) {
    char name[200];
    err e = {{0}};
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const st_tensor *t = st_find(x->expected, name);
    if (!t) fail_msg("no tensor %s", name);
    *count = 1;
    for (size_t i = 0; i < t->rank; i++) *count *= t->shape[i];
    real *out = keep(x, *count);
    if (!st_floats(t, out, *count, &e)) fail_msg("%s", e.text);
    return out;
}

real *fixture_mask(fixture *x, size_t i, size_t *h, size_t *w) {
    char name[40], path[600];
    int width = 0, height = 0, channels;
    snprintf(name, sizeof name, "mask%zu.png", i);
    data_path(path, sizeof path, name);
    stbi_uc *grey = stbi_load(path, &width, &height, &channels, 1);
    if (!grey) fail_msg("%s cannot be read", path);
    *h = (size_t)height;
    *w = (size_t)width;
    real *mask = keep(x, *h * *w);
    for (size_t k = 0; k < *h * *w; k++) mask[k] = (real)grey[k] / 255;
    stbi_image_free(grey);
    return mask;
}

double worst(const real *a, const real *b, size_t n) {
    double difference = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]), m = fabs((double)b[i]);
        if (!(d <= difference)) difference = d; /* a NaN stays */
        if (difference != difference) return difference;
        if (m > largest) largest = m;
    }
    return difference / (largest > 0 ? largest : 1);
}

double cosine(const real *a, const real *b, size_t n) {
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < n; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

void assert_below(double found, double most, const char *what, const char *file, int line) {
    if (getenv("TEST_SHOW")) printf("%s:%d %s: %.3g (at most %.3g)\n", file, line, what, found, most);
    if (!(found <= most)) {
        print_error("%s: %.3g, at most %.3g expected\n", what, found, most);
        _fail(file, line);
    }
}

void assert_above(double found, double least, const char *what, const char *file, int line) {
    if (getenv("TEST_SHOW")) printf("%s:%d %s: %.3g (at least %.3g)\n", file, line, what, found, least);
    if (!(found >= least)) {
        print_error("%s: %.3g, at least %.3g expected\n", what, found, least);
        _fail(file, line);
    }
}

void check_derivative(derivatives *d, double found, double tolerance, const char *what, const char *file, int line) {
    d->asked++;
    if (!(found <= tolerance)) d->off++;
    assert_below(found, BY_BUILD(KINK, tolerance), what, file, line);
}
