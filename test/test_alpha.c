/* test_alpha.c - AlphaCLIP's region on the command line: -k MASK of embed, explain, invert and regions, against float64. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "x_cli.h"
#include "x_fixture.h"

#define ALPHA DATA "checkpoints/alphaclip-pth"
#define PLAIN DATA "nano-hf-f32"


static fixture x; /* expected numbers alone */

static int begin(void **state) {
    err e = {{0}};
    (void)state;
    x.expected = st_open(ALPHA "/expected.safetensors", &e);
    return x.expected ? 0 : -1;
}

static int end(void **state) {
    (void)state;
    while (x.count) free(x.kept[--x.count]);
    st_free(x.expected);
    scratch_remove();
    return 0;
}

static real *wanted(const char *name, size_t *n) { return fixture_get(&x, n, "%s", name); }

/* The row of what a command wrote. */
static npy_array row(const char *path) {
    npy_array a = array_at(path);
    assert_int_equal(a.shape[0], 1);
    return a;
}

static void the_plane(void **state) {
    (void)state;
    size_t n, h, w;
    err e = {{0}};
    real *want = wanted("native.alpha", &n), *soft = fixture_mask(&x, 0, &h, &w);
    size_t side = (size_t)lround(sqrt((double)n));
    mask_image m = {w, h, soft};
    real *plane = pixels_alpha(&m, side, &e);
    assert_non_null(plane);
    assert_close(plane, want, n, BY_BUILD(1e-6, 1e-7));
    mem_free(plane);
    for (size_t i = 0; i < h * w; i++) soft[i] = 1; /* all of the picture: 1.923 (MODEL.md 1.15) */
    plane = pixels_alpha(&m, side, &e);
    for (size_t i = 0; i < n; i++) assert_true(fabs((double)plane[i] - .5 / .26) < 1e-5);
    mem_free(plane);
}

static void embeds_regions(void **state) {
    (void)state;
    size_t n;
    real *want = wanted("native.image.embedding", &n);
    assert_int_equal(run("embed", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "-o", scratch("e.npy"), NULL), 0);
    npy_array a = row(scratch("e.npy"));
    assert_close(a.data, want, n, BY_BUILD(2e-4, 1e-6));
    assert_int_equal(run("regions", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "--method", "alphaclip", "-o", scratch("r"), NULL), 0);
    npy_array b = row(scratch("r/embeddings.npy"));
    assert_close(b.data, want, n, BY_BUILD(2e-4, 1e-6));
    npy_free(&b);
    /* several: each picture its own, one for all of them */
    assert_int_equal(run("embed", "-m", ALPHA, "-i", IMAGE, "-i", IMAGE, "-k", MASK1, "-k", MASK0, "-o", scratch("e.npy"), NULL), 0);
    b = array_at(scratch("e.npy"));
    assert_close(b.data + n, a.data, n, BY_BUILD(1e-6, 1e-7));
    assert_far(b.data, a.data, n, 1e-3);
    npy_free(&b);
    assert_int_equal(run("embed", "-m", ALPHA, "-i", IMAGE, "-i", IMAGE, "-k", MASK0, "-o", scratch("e.npy"), NULL), 0);
    b = array_at(scratch("e.npy"));
    assert_close(b.data, a.data, n, BY_BUILD(1e-6, 1e-7));
    assert_close(b.data + n, a.data, n, 1e-6);
    npy_free(&b);
    npy_free(&a);
}

static void inverts_regions(void **state) {
    (void)state;
    size_t n, count;
    real *want = wanted("native.invert.embedding", &n), *alpha = wanted("native.alpha", &count);
    char side[20];
    (void)alpha;
    snprintf(side, sizeof side, "%ld", lround(sqrt((double)count)));
    static const char *const gradients[] = {"factored", "decomposed", "autograd", "jacobian"};
    for (size_t g = 0; g < 4; g++) {
        if (run("invert", "-m", ALPHA, "-i", IMAGE, "-k", MASK1, "-k", MASK0, "--size", side, "--layers", "1", "--lr", "0.5", "--iters", "10",
                "--gradient", gradients[g], "-o", scratch("i"), NULL) != 0)
            fail_msg("%s", said.err);
        npy_array a = array_at(scratch("i/embeddings.npy"));
        assert_above(cosine(a.data + n, want, n), BY_BUILD(0.9995, 1 - 1e-9), gradients[g], __FILE__, __LINE__);
        npy_free(&a);
    }
    assert_int_equal(run("regions", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "--method", "maskinv", "--size", side, "--layers", "1", "--lr", "0.5",
                         "--iters", "10", "-o", scratch("r"), NULL), 0);
    npy_array a = row(scratch("r/embeddings.npy"));
    assert_above(cosine(a.data, want, n), BY_BUILD(0.9995, 1 - 1e-9), "regions --method maskinv", __FILE__, __LINE__);
    npy_free(&a);
    assert_int_equal(run("invert", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "--size", side, "--layers", "1", "--lr", "0.5", "--iters", "10",
                         "--alpha-all", "-o", scratch("i"), NULL), 0);
    a = row(scratch("i/embeddings.npy"));
    assert_far(a.data, want, n, 1e-3);
    npy_free(&a);
}

/* The map of an embedding in the file's place of a text: that of the text of the fixture. */
static void explains_regions(void **state) {
    (void)state;
    size_t n, count, size;
    real *text = wanted("text.embedding", &n), *want = wanted("native.legrad.last1.text", &count);
    char side[20];
    real rows[512];
    err e = {{0}};
    size = (size_t)lround(sqrt((double)count));
    snprintf(side, sizeof side, "%zu", size);
    for (size_t i = 0; i < n; i++) rows[i] = (real)text[i];
    assert_true(npy_write(scratch("t.npy"), rows, (size_t[]){1, n}, 2, &e));
    char path[300];
    snprintf(path, sizeof path, "%s", scratch("t.npy"));
    if (run("explain", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "-e", path, "--layers", "1", "--size", side, "-o", scratch("x"), NULL) != 0)
        fail_msg("%s", said.err);
    npy_array a = array_at(scratch("x/0.map.npy"));
    assert_close(a.data, want, count, BY_BUILD(5e-4, 1e-6));
    npy_free(&a);
    /* every other explainer sees it too: its map is another than without */
    assert_int_equal(run("explain", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "-e", path, "--method", "maskclip", "--size", side, "-o", scratch("x"), NULL), 0);
    assert_int_equal(run("explain", "-m", ALPHA, "-i", IMAGE, "-e", path, "--method", "maskclip", "--size", side, "-o", scratch("y"), NULL), 0);
    assert_false(same_files(scratch("x/0.map.npy"), scratch("y/0.map.npy")));
}

static void others_refuse(void **state) {
    (void)state;
    static const char words[] = "the model sees no region beside the pixels, expected AlphaCLIP's weights";
    assert_int_equal(run("embed", "-m", PLAIN, "-i", IMAGE, "-k", MASK0, "-o", scratch("e.npy"), NULL), 1);
    assert_non_null(strstr(said.err, words));
    assert_int_equal(run("regions", "-m", PLAIN, "-i", IMAGE, "-k", MASK0, "--method", "alphaclip", NULL), 1);
    assert_non_null(strstr(said.err, words));
    assert_int_equal(run("embed", "-m", ALPHA, "-t", "a", "-k", MASK0, "-o", scratch("e.npy"), NULL), 2);
    assert_int_equal(run("embed", "-m", ALPHA, "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-o", scratch("e.npy"), NULL), 2);
    assert_int_equal(run("embed", "-m", ALPHA, "-i", IMAGE, "-k", DATA "nowhere.png", "-o", scratch("e.npy"), NULL), 1);
    assert_non_null(strstr(said.err, "nowhere.png"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plane),        cmocka_unit_test(embeds_regions), cmocka_unit_test(inverts_regions),
        cmocka_unit_test(explains_regions), cmocka_unit_test(others_refuse),
    };
    return cmocka_run_group_tests_name("alpha", tests, begin, end);
}
