/* test_masks.c - how regions are named and read: labels, alpha, arrays, boxes, folders, patterns; what is said of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "x_cli.h"
#include "masks/masks.h"
#include "pictures/png.h"

static err e;
static char heard[4096];

static void hear(void *arg, const char *file, const char *text) {
    (void)arg;
    size_t n = strlen(heard);
    snprintf(heard + n, sizeof heard - n, "%s: %s\n", file, text);
}

/* ---- files, all 4 x 2 ----------------------------------------------------------------------------------- */
enum { W = 4, H = 2 };

static const char *grey(const char *name, const unsigned char *values) {
    const char *path = scratch("%s", name);
    assert_true(png_write(path, &(png_image){.width = W, .height = H, .channels = 1, .pixels = values}, &e));
    return path;
}

static const char *coloured(const char *name, const unsigned char *rgb) {
    const char *path = scratch("%s", name);
    assert_true(png_write(path, &(png_image){.width = W, .height = H, .channels = 3, .pixels = rgb}, &e));
    return path;
}

/* VOC's first colours: index 1 is 128,0,0. */
static const char *palette(const char *name, const unsigned char *index) {
    static unsigned char colours[256][3];
    for (int i = 0; i < 256; i++) {
        for (int bit = 0; bit < 8; bit++)
            for (int c = 0; c < 3; c++) colours[i][c] |= (unsigned char)((i >> (3 * bit + c) & 1) << (7 - bit));
    }
    const char *path = scratch("%s", name);
    assert_true(palette_write_png(path, index, W, H, (const unsigned char(*)[3])colours, 256, &e));
    return path;
}

static const char *npy(const char *name, const char *type, const char *order, const char *shape, const void *data, size_t n) {
    char header[128];
    unsigned char bytes[1024] = "\x93NUMPY\1";
    int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }\n", type, order, shape);
    bytes[8] = (unsigned char)length;
    memcpy(bytes + 10, header, (size_t)length);
    memcpy(bytes + 10 + length, data, n);
    const char *path = scratch("%s", name);
    put_bytes(path, bytes, 10 + (size_t)length + n);
    return path;
}

/* ---- opening ---------------------------------------------------------------------------------------------- */
static bool open_as(masks *m, const char *name, bool labels, size_t keep) {
    static const char *names[1];
    names[0] = name;
    heard[0] = 0;
    e.text[0] = 0;
    return masks_open(m, &(mask_wishes){.files = names, .count = 1, .labels = labels, .width = 8, .height = 4, .keep = keep,
                                        .say = hear},
                      &e);
}

/* The mask's values as digits: 0, 9 for 1, 4 for a half. Read from what was kept, and from the file again. */
static void assert_mask(const char *name, bool labels, size_t index, const char *digits) {
    for (size_t keep = 0; keep <= 1 << 20; keep += 1 << 20) {
        masks m;
        if (!open_as(&m, name, labels, keep)) fail_msg("%s: %s", name, e.text);
        assert_true(index < m.count);
        const mask_image *one = masks_at(&m, index, &e);
        if (!one) fail_msg("%s: %s", name, e.text);
        assert_true(one->width * one->height == strlen(digits));
        for (size_t i = 0; digits[i]; i++)
            if (lrint((double)one->soft[i] * 9) != digits[i] - '0') fail_msg("%s: pixel %zu is %g", name, i, (double)one->soft[i]);
        masks_close(&m);
    }
}

static void assert_not(const char *name, bool labels, const char *why) {
    masks m;
    if (open_as(&m, name, labels, 0)) fail_msg("%s was read", name);
    if (!strstr(e.text, why)) fail_msg("%s: %s", name, e.text);
    masks_close(&m);
}

static const unsigned char labels[W * H] = {0, 0, 1, 1, 2, 2, 7, 255};

static void test_labels(void **state) {
    (void)state;
    char path[512], part[600];
    snprintf(path, sizeof path, "%s", grey("labels.png", labels));
    assert_mask(path, true, 0, "00990000");
    assert_mask(path, true, 2, "00000090");
    assert_non_null(strstr(heard, "labels.png: --labels: 3 regions; 0 and 255 left out"));
    snprintf(part, sizeof part, "%s:2", path);
    assert_mask(part, false, 0, "00009900");
    snprintf(part, sizeof part, "%s:0", path);
    assert_mask(part, false, 0, "99000000");
    snprintf(part, sizeof part, "%s:3", path);
    assert_not(part, false, "none of its pixels is 3; it holds 0, 1, 2, 7, 255");
    snprintf(part, sizeof part, "%s:4.9,3", path); /* of the photograph's 8 x 4 pixels: the label under it */
    assert_mask(part, false, 0, "00000090");
    snprintf(part, sizeof part, "%s:1,2", path);
    assert_mask(part, false, 0, "00009900");
    snprintf(part, sizeof part, "%s:7,3", path);
    assert_not(part, false, "nothing lies under that point: its label is 255");
    snprintf(part, sizeof part, "%s:8,0", path);
    assert_not(part, false, "that point lies beyond the picture");
    snprintf(part, sizeof part, "%s:1,2,3", path);
    assert_not(part, false, "a point x,y or alpha expected");
    snprintf(part, sizeof part, "%s:seven", path);
    assert_not(part, false, "'seven' found after the file's name, a label's number, a colour #RRGGBB, a point x,y or alpha expected");
    put_bytes(part, "", 0); /* a file of the whole name wins */
    assert_not(part, false, "is empty");
    static const unsigned char only[W * H] = {0, 255, 255, 0, 0, 0, 0, 0};
    assert_not(grey("only.png", only), true, "--labels: it holds nothing but 0 and 255");
}

static void test_palettes(void **state) {
    (void)state;
    char path[512], part[600];
    snprintf(path, sizeof path, "%s", palette("voc.png", labels));
    assert_mask(path, true, 0, "00990000");
    assert_mask(path, true, 2, "00000090");
    snprintf(part, sizeof part, "%s:255", path);
    assert_mask(part, false, 0, "00000009");
    masks m;
    assert_true(open_as(&m, path, false, 0));
    assert_non_null(strstr(heard, "it is a picture with a palette, read by its brightness"));
    masks_close(&m);
}

static void test_colours(void **state) {
    (void)state;
    static const unsigned char rgb[W * H * 3] = {0, 0, 0, 255, 0, 0, 255, 0, 0, 0, 0, 255, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 255, 255};
    char path[512], part[600];
    snprintf(path, sizeof path, "%s", coloured("rgb.png", rgb));
    assert_mask(path, true, 0, "00099000");
    assert_mask(path, true, 1, "09900000");
    snprintf(part, sizeof part, "%s:#ff0000", path);
    assert_mask(part, false, 0, "09900000");
    masks m;
    assert_true(open_as(&m, path, false, 0));
    assert_non_null(strstr(heard, "it is coloured, read by its brightness"));
    masks_close(&m);
}

/* What is read as it always was, and what is said beside it; "" : nothing. */
static void test_what_is_said(void **state) {
    (void)state;
    static const struct {
        unsigned char values[W * H];
        const char *digits, *said;
    } cases[] = {
        {{0, 255, 255, 0, 0, 0, 0, 0}, "09900000", ""},
        {{0, 1, 1, 0, 0, 0, 0, 0}, "09900000", ""},
        {{0, 255, 128, 64, 3, 0, 0, 0}, "09520000", ""},
        {{0, 2, 2, 0, 0, 0, 0, 0}, "00000000", "its values are 0, 2, read as shares of 255: nowhere full (if they are labels"},
        {{0, 1, 2, 3, 3, 0, 0, 0}, "00000000", "its values are 0, 1, 2, 3, read as shares of 255"},
        {{0, 1, 1, 255, 0, 0, 0, 0}, "00090000", "its values are 0, 1, 255, read as shares of 255: the small ones are nearly"},
        {{255, 255, 255, 255, 255, 255, 255, 255}, "99999999", "none of its pixels is 0: the whole picture is in the region"},
        {{0, 200, 0, 0, 0, 0, 0, 0}, "07000000", "nowhere full"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = grey("said.png", cases[i].values);
        assert_mask(path, false, 0, cases[i].digits);
        if (*cases[i].said ? !strstr(heard, cases[i].said) : *heard != 0) fail_msg("case %zu: %s", i, heard);
    }
}

static void test_sixteen_bits_and_alpha(void **state) {
    (void)state;
    char part[300];
    masks m;
    assert_true(open_as(&m, DATA "pictures/mask_alpha.png", false, 0));
    assert_non_null(strstr(heard, "its alpha channel"));
    masks_close(&m);
    snprintf(part, sizeof part, DATA "pictures/mask_alpha.png:alpha");
    if (!open_as(&m, part, false, 0)) fail_msg("%s", e.text);
    assert_null(strstr(heard, "its alpha channel"));
    assert_string_equal(m.item[0].name, "mask_alpha_alpha");
    masks_close(&m);
    assert_not(DATA "mask0.png:alpha", false, "has no alpha channel");
}

static void test_arrays(void **state) {
    (void)state;
    static const unsigned char bits[W * H] = {0, 1, 1, 0, 0, 0, 0, 1}, columns[W * H] = {0, 0, 1, 0, 1, 0, 0, 1};
    static const unsigned char big[2 * W * H] = {0, 0, 1, 44, 1, 44, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0};
    float soft[2 * W * H] = {0, .5f, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0};
    char path[512], part[600];
    assert_mask(npy("bool.npy", "|b1", "False", "2, 4", bits, 8), false, 0, "09900009");
    assert_string_equal(heard, "");
    assert_mask(npy("columns.npy", "|u1", "True", "2, 4", columns, 8), false, 0, "09900009");
    snprintf(path, sizeof path, "%s", npy("ids.npy", ">i2", "False", "2, 4", big, 16));
    assert_mask(path, true, 0, "00000900");
    assert_mask(path, true, 1, "09900000");
    snprintf(part, sizeof part, "%s:300", path);
    assert_mask(part, false, 0, "09900000");
    snprintf(path, sizeof path, "%s", npy("two.npy", "<f4", "False", "2, 2, 4", soft, sizeof soft));
    assert_mask(path, false, 0, "04900000");
    assert_mask(path, false, 1, "90000000");
    snprintf(part, sizeof part, "%s:1", path);
    assert_mask(part, false, 0, "90000000");
    snprintf(part, sizeof part, "%s:0,0", path);
    assert_mask(part, false, 0, "90000000");
    snprintf(part, sizeof part, "%s:7,3", path);
    assert_not(part, false, "none of its 2 masks covers that point");
    snprintf(part, sizeof part, "%s:2", path);
    assert_not(part, false, "masks 0 to 1 are in it");
    soft[3] = -1;
    assert_not(npy("minus.npy", "<f4", "False", "2, 2, 4", soft, sizeof soft), false, "number 3 is -1");
    soft[3] = NAN;
    assert_not(npy("nan.npy", "<f4", "False", "2, 2, 4", soft, sizeof soft), false, "number 3 is");
    assert_not(npy("line.npy", "<f4", "False", "8,", soft, 32), false, "npy of 1 dimensions");
}

/* ---- names --------------------------------------------------------------------------------------------------- */
static void test_folders_patterns_and_names(void **state) {
    (void)state;
    static const unsigned char plain[W * H] = {0, 255, 0, 0, 0, 0, 0, 0};
    masks m;
    char path[512];
    assert_true(folder_make(scratch("set/deeper"), &e));
    (void)grey("set/b.png", plain);
    (void)grey("set/a.png", plain);
    (void)grey("set/deeper/c.png", plain);
    put_bytes(scratch("set/notes.txt"), "no mask", 7);
    put_bytes(scratch("set/.hidden.png"), "no mask", 7);
    snprintf(path, sizeof path, "%s", scratch("set"));
    if (!open_as(&m, path, false, 0)) fail_msg("%s", e.text);
    assert_int_equal(m.count, 2);
    assert_string_equal(m.item[0].name, "a");
    assert_string_equal(m.item[1].name, "b");
    masks_close(&m);
    if (!open_as(&m, scratch("set/*.png"), false, 0)) fail_msg("%s", e.text);
    assert_int_equal(m.count, 2);
    masks_close(&m);
    assert_not(scratch("set/*.jpg"), false, "no file is named so");
    assert_not(scratch("nowhere.png"), false, "no such file: a mask is FILE, FILE:LABEL, FILE:alpha, a folder of them");
    assert_true(folder_make(scratch("bare"), &e));
    assert_not(scratch("bare"), false, "no mask in this folder");
}

/* 3,000 masks of one name: each gets its own, in no time that grows with the square. */
static void test_three_thousand(void **state) {
    (void)state;
    enum { MANY = 3000 };
    static const char *names[MANY];
    masks m;
    for (size_t i = 0; i < MANY; i++) names[i] = MASK0;
    if (!masks_open(&m, &(mask_wishes){.files = names, .count = MANY, .keep = 1 << 16}, &e)) fail_msg("%s", e.text);
    assert_int_equal(m.count, MANY);
    assert_true(m.kept <= 1 << 16);
    assert_string_equal(m.item[0].name, "mask0");
    assert_string_equal(m.item[1].name, "mask0_2");
    assert_string_equal(m.item[MANY - 1].name, "mask0_3000");
    const mask_image *one = masks_at(&m, MANY - 1, &e);
    assert_non_null(one);
    masks_close(&m);
}

static void test_boxes(void **state) {
    (void)state;
    static const char *const good[] = {"1,1,2,2", "0.5,0,1,1", "-1,-1,3,2"};
    static const char *const bad[] = {"", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1,1,0,4", "4,0,1,1", "1,1,nan,1", "1,,1,1"};
    masks m;
    if (!masks_open(&m, &(mask_wishes){.boxes = good, .box_count = 3, .width = 4, .height = 2}, &e)) fail_msg("%s", e.text);
    assert_string_equal(m.item[0].name, "box_1_1_2_2");
    const mask_image *one = masks_at(&m, 0, &e);
    static const real first[8] = {0, 0, 0, 0, 0, 1, 1, 0}, second[8] = {.5f, .5f}, third[8] = {1, 1};
    assert_memory_equal(one->soft, first, sizeof first);
    one = masks_at(&m, 1, &e);
    assert_memory_equal(one->soft, second, sizeof second);
    one = masks_at(&m, 2, &e);
    assert_memory_equal(one->soft, third, sizeof third);
    masks_close(&m);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (masks_open(&m, &(mask_wishes){.boxes = &bad[i], .box_count = 1, .width = 4, .height = 2}, &e))
            fail_msg("--box '%s' was read", bad[i]);
        assert_non_null(strstr(e.text, "--box"));
        masks_close(&m);
    }
}

/* ---- by the command ------------------------------------------------------------------------------------------- */
static void test_commands(void **state) {
    (void)state;
    char path[512];
    /* a shell's *.png leaves operands behind -k */
    assert_int_equal(run("invert", "-i", IMAGE, "-k", MASK0, MASK1, "--iters", "1", NULL), 0);
    assert_non_null(strstr(said.out, "mask1"));
    assert_int_equal(run("invert", MASK1, "-i", IMAGE, "-k", MASK0, NULL), 2);
    assert_non_null(strstr(said.err, "each mask is given with -k (-k '" MASK1 "')"));
    assert_int_equal(run("regions", "--method", "pool", "-i", IMAGE, "--box", "2,2,20,20", NULL), 0);
    assert_non_null(strstr(said.out, "box_2_2_20_20"));
    snprintf(path, sizeof path, "%s", grey("many.png", labels));
    assert_int_equal(run("invert", "-i", IMAGE, "-k", path, path, path, path, path, path, path, "--iters", "1", NULL), 0);
    assert_non_null(strstr(said.err, "of which something is to be said"));
    assert_int_equal(run("invert", "-i", DATA "pictures/exif6.jpg", "-k", MASK0, "--iters", "1", NULL), 0);
    assert_non_null(strstr(said.err, "its EXIF orientation is 6: it is turned upright"));
    assert_int_equal(run("invert", "-i", DATA "pictures/exif6.jpg", "-k", MASK0, "--iters", "1", "--no-orient", NULL), 0);
    assert_null(strstr(said.err, "EXIF"));
}

/* What was meant is asked; help, defaults and their source; a bad picture is found before the work. */
static void test_words(void **state) {
    (void)state;
    static const char heic[] = "\0\0\0\030ftypheic........";
    assert_int_equal(run("invrt", NULL), 2);
    assert_non_null(strstr(said.err, "unknown command 'invrt': invert?"));
    assert_int_equal(run("invert", "--itres", "3", NULL), 2);
    assert_non_null(strstr(said.err, "unknown flag --itres: --iters?"));
    assert_int_equal(run("explain", "-i", IMAGE, "-t", "a", "--method", "surgry", "-o", scratch("x"), NULL), 2);
    assert_non_null(strstr(said.err, "(meant: surgery?)"));
    assert_int_equal(run("help", "invert", NULL), 0);
    assert_non_null(strstr(said.out, "--mask"));
    assert_int_equal(run("invert", "-i", IMAGE, "-k", MASK0, "-o", "-", NULL), 2);
    assert_int_equal(run("invert", "-i", IMAGE, "-k", MASK0, "-t", "a red ball", "--iters", "1", NULL), 0);
    assert_non_null(strstr(said.out, "at 96 x 96 pixels (the model's config)"));
    assert_null(strstr(said.out, "100.0 %"));
    put_bytes(scratch("photo.heic"), heic, sizeof heic);
    assert_int_equal(run("embed", "-i", IMAGE, "-i", scratch("photo.heic"), "-o", scratch("e.npy"), NULL), 1);
    assert_non_null(strstr(said.err, "photo.heic: is a HEIC picture; PNG, JPEG and BMP are read"));
}

/* regions.png goes on in pages. */
static void test_pages(void **state) {
    (void)state;
    char out[512];
    char *argv[80] = {(char *)(uintptr_t) "maskinv", (char *)(uintptr_t) "invert", (char *)(uintptr_t) "-i",
                      (char *)(uintptr_t)IMAGE, (char *)(uintptr_t) "--iters", (char *)(uintptr_t) "1",
                      (char *)(uintptr_t) "-o", out, (char *)(uintptr_t) "-k"};
    int argc = 9;
    snprintf(out, sizeof out, "%s", scratch("pages"));
    while (argc < 9 + 25) argv[argc++] = (char *)(uintptr_t)MASK0;
    assert_int_equal(run_v(argc, argv), 0);
    assert_true(file_exists(scratch("pages/regions.png")));
    assert_true(file_exists(scratch("pages/regions-2.png")));
    assert_false(file_exists(scratch("pages/regions-3.png")));
    assert_true(file_exists(scratch("pages/mask0_25.map.npy")));
}

static int end(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_palettes),
        cmocka_unit_test(test_colours),
        cmocka_unit_test(test_what_is_said),
        cmocka_unit_test(test_sixteen_bits_and_alpha),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_folders_patterns_and_names),
        cmocka_unit_test(test_three_thousand),
        cmocka_unit_test(test_boxes),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
