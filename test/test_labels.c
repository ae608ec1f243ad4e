/* test_labels.c - label pictures keep their integers, whatever palette, depth or channels they are stored with. */
#include "pictures/labels.h"
#include "pictures/image.h"
#include "pictures/png.h"
#include "x_cli.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void palette_is_not_colour(void **state) {
    (void)state;
    static const unsigned char palette[3][3] = {{0, 0, 0}, {0, 0, 0}, {255, 255, 255}}; /* 0 and 1 look alike */
    static const unsigned char index[6] = {0, 1, 2, 2, 1, 0};
    err e = {0};
    label_image l;
    const char *path = scratch("palette.png");
    assert_true(palette_write_png(path, index, 3, 2, palette, 3, &e));
    assert_true(labels_read(path, &l, &e));
    assert_int_equal(l.width, 3);
    assert_false(l.colours);
    for (size_t i = 0; i < 6; i++) assert_int_equal(l.value[i], index[i]);
    labels_free(&l);
}

/* One row of pixels as a stored (not compressed) PNG. */
static const char *row_png(const char *name, int depth, int colour, const unsigned char *row, size_t n, size_t width) {
    unsigned char b[512] = "\x89PNG\r\n\x1a\n", *at = b + 8;
    unsigned char head[13] = {0, 0, 0, (unsigned char)width, 0, 0, 0, 1, (unsigned char)depth, (unsigned char)colour};
    unsigned char data[128] = {0x78, 1, 1, (unsigned char)(n + 1), 0, (unsigned char)~(n + 1), 0xFF, 0};
    uint32_t a = 1, s = 1; /* Adler-32, of the filter byte 0 first */
    for (size_t i = 0; i < n; i++) a += row[i], s += a;
    memcpy(data + 8, row, n);
    unsigned char sum[4] = {(unsigned char)(s >> 8), (unsigned char)s, (unsigned char)(a >> 8), (unsigned char)a};
    memcpy(data + 8 + n, sum, 4);
    const struct {
        const char *type;
        const unsigned char *bytes;
        size_t n;
    } chunks[] = {
        {"IHDR", head, 13}, {"tRNS", (const unsigned char *)"\0\1\2", 3}, {"IDAT", data, 12 + n}, {"IEND", data, 0}};
    for (size_t k = 0; k < 4; k++) {
        if (k == 1 && colour != 3) continue;
        uint32_t crc = png_crc(png_crc(0, (const unsigned char *)chunks[k].type, 4), chunks[k].bytes, chunks[k].n);
        at[3] = (unsigned char)chunks[k].n;
        memcpy(at + 4, chunks[k].type, 4);
        memcpy(at + 8, chunks[k].bytes, chunks[k].n);
        for (int i = 0; i < 4; i++) at[8 + chunks[k].n + (size_t)i] = (unsigned char)(crc >> (24 - 8 * i));
        at += 12 + chunks[k].n;
    }
    const char *path = scratch("%s", name);
    put_bytes(path, b, (size_t)(at - b));
    return path;
}

static void expect(const char *path, const uint32_t *value, size_t n) {
    err e = {0};
    label_image l;
    if (!labels_read(path, &l, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < n; i++) assert_int_equal(l.value[i], value[i]);
    labels_free(&l);
}

static void every_depth(void **state) {
    (void)state;
    expect(row_png("p4.png", 4, 3, (const unsigned char *)"\x0f\x73", 2, 4), (const uint32_t[]){0, 15, 7, 3}, 4);
    expect(row_png("p1.png", 1, 3, (const unsigned char *)"\xa0", 1, 4), (const uint32_t[]){1, 0, 1, 0}, 4);
    expect(row_png("g2.png", 2, 0, (const unsigned char *)"\x1b", 1, 4), (const uint32_t[]){0, 1, 2, 3}, 4);
    expect(row_png("g8.png", 8, 0, (const unsigned char *)"\x01\xff", 2, 2), (const uint32_t[]){1, 255}, 2);
    expect(row_png("g16.png", 16, 0, (const unsigned char *)"\x65\x92\x00\x07", 4, 2), (const uint32_t[]){26002, 7}, 2);
    expect(row_png("rgb.png", 8, 2, (const unsigned char *)"\x01\x02\x03", 3, 1), (const uint32_t[]){197121}, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(palette_is_not_colour), cmocka_unit_test(every_depth)};
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
