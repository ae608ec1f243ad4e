/* test_image.c - pictures against Pillow's and PyTorch's bytes (test/make_pictures.py), bad files, drawing. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "files/files.h"
#include "masks/reading.h"
#include "pictures/image.h"
#include "pictures/png.h"
#include "x_fixture.h"
#include <stb_image.h>

#define DATA "test/data/pictures/"
static const real mean[3] = {(real).48145466, (real).4578275, (real).40821073};
static const real std[3] = {(real).26862954, (real).26130258, (real).27577711};
static err e;

/* ---- helpers ------------------------------------------------------------------------------------- */
#define must(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) fail_msg("%s: %s", #condition, e.text);                                                      \
    } while (0)

static unsigned char *read_data(const char *path, size_t *n) {
    char *bytes = file_read(path, 1 << 20, n, &e);
    must(bytes);
    return (unsigned char *)bytes;
}

/* The next record of resize.bin or crop.bin: pictures that borrow its bytes. */
static bool next_record(const unsigned char **at, const unsigned char *end, picture *in, picture *out) {
    uint32_t n[4];
    if (*at == end) return false;
    for (int i = 0; i < 4; i++, *at += 4)
        n[i] = (uint32_t)(*at)[0] | (uint32_t)(*at)[1] << 8 | (uint32_t)(*at)[2] << 16 | (uint32_t)(*at)[3] << 24;
    *in = (picture){n[0], n[1], (unsigned char *)(uintptr_t)*at};
    *at += in->width * in->height * 3;
    *out = (picture){n[2], n[3], (unsigned char *)(uintptr_t)*at};
    *at += out->width * out->height * 3;
    assert_true(*at <= end);
    return true;
}

static void assert_same(const picture *a, const picture *b, unsigned most) {
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->height, b->height);
    for (size_t i = 0; i < a->width * a->height * 3; i++)
        if (!((unsigned)abs(a->rgb[i] - b->rgb[i]) <= most))
            fail_msg("%zux%zu: sample %zu is %d, expected %d", a->width, a->height, i, a->rgb[i], b->rgb[i]);
}

static picture get(const char *name) {
    char path[256];
    picture p;
    snprintf(path, sizeof path, DATA "%s", name);
    must(picture_read(path, &p, &e));
    return p;
}

static picture pattern(size_t w, size_t h) {
    picture p;
    if (!picture_new(w, h, &p, &e)) return (picture){0};
    uint32_t s = 1;
    for (size_t i = 0; i < w * h * 3; i++) {
        s = s * 1664525u + 1013904223u;
        p.rgb[i] = (unsigned char)(s >> 24);
    }
    return p;
}

static char folder[64], scratch[128];
static const char *in_folder(const char *name) {
    snprintf(scratch, sizeof scratch, "%s/%s", folder, name);
    return scratch;
}

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/test_image.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    remove(in_folder("out.png"));
    return rmdir(folder); /* fails where a temporary file was left */
}

/* ---- resize -------------------------------------------------------------------------------------- */
static void resize_is_pillows(void **state) {
    (void)state;
    size_t n, cases = 0;
    unsigned char *bytes = read_data(DATA "resize.bin", &n);
    const unsigned char *at = bytes;
    picture in, expected, out;
    for (; next_record(&at, bytes + n, &in, &expected); cases++) {
        must(picture_resize(&in, expected.width, expected.height, &out, &e));
        assert_same(&out, &expected, 0);
        picture_free(&out);
    }
    assert_true(cases > 10);
    mem_free(bytes);
}

static void crop_is_the_clip_transform(void **state) {
    (void)state;
    size_t n, cases = 0;
    unsigned char *bytes = read_data(DATA "crop.bin", &n);
    const unsigned char *at = bytes;
    picture in, expected;
    for (; next_record(&at, bytes + n, &in, &expected); cases++) {
        size_t side = expected.width, area = side * side;
        real *pixels = pixels_crop(&in, side, mean, std, &e);
        must(pixels);
        for (size_t i = 0; i < area; i++)
            for (size_t c = 0; c < 3; c++) {
                double x = (expected.rgb[3 * i + c] / 255.0 - (double)mean[c]) / (double)std[c];
                if (!(fabs((double)pixels[c * area + i] - x) <= 1e-6))
                    fail_msg("case %zu, channel %zu, pixel %zu: %f, expected %f", cases, c, i,
                             (double)pixels[c * area + i], x);
            }
        mem_free(pixels);
    }
    assert_true(cases > 5);
    mem_free(bytes);
}

static void squash_is_resize_normalised(void **state) {
    (void)state;
    picture p = get("small.png"), square;
    must(picture_resize(&p, 16, 16, &square, &e));
    real *pixels = pixels_squash(&p, 16, mean, std, &e);
    must(pixels);
    for (size_t i = 0; i < 256; i++)
        for (size_t c = 0; c < 3; c++) {
            double x = (square.rgb[3 * i + c] / 255.0 - (double)mean[c]) / (double)std[c];
            assert_true(fabs((double)pixels[c * 256 + i] - x) <= 1e-6);
        }
    mem_free(pixels);
    picture_free(&square);
    picture_free(&p);
}

/* Shorter side to 224 makes 22,400,000 columns of this; only the crop may be computed. */
static void crop_of_a_thread_is_cheap(void **state) {
    (void)state;
    picture p = pattern(100000, 1);
    real *pixels = pixels_crop(&p, 224, mean, std, &e);
    must(pixels);
    for (size_t i = 0; i < 3 * 224 * 224; i++) assert_true(isfinite(pixels[i]));
    mem_free(pixels);
    picture_free(&p);
}

/* More taps than one 32-bit block of sums holds: a picture of one colour stays it. */
static void resize_of_many_taps(void **state) {
    (void)state;
    picture p, out;
    must(picture_new(60000, 2, &p, &e));
    memset(p.rgb, 255, 60000 * 2 * 3);
    must(picture_resize(&p, 3, 2, &out, &e));
    for (size_t i = 0; i < 18; i++) assert_in_range(out.rgb[i], 254, 255);
    picture_free(&out);
    picture_free(&p);
}

static void map_resize_is_torchs(void **state) {
    (void)state;
    static const size_t sizes[5][2] = {{33, 40}, {7, 5}, {3, 2}, {1, 1}, {14, 300}};
    npy_array in, expected;
    must(npy_read(DATA "map.npy", &in, &e));
    for (size_t k = 0; k < 5; k++) {
        char path[128];
        size_t h = sizes[k][0], w = sizes[k][1];
        snprintf(path, sizeof path, DATA "map_%zux%zu.npy", h, w);
        must(npy_read(path, &expected, &e));
        real *out = mem_alloc(h * w, sizeof *out);
        map_resize(in.data, 7, 5, out, h, w);
        for (size_t i = 0; i < h * w; i++)
            if (!(fabs((double)(out[i] - expected.data[i])) <= BY_BUILD(3e-7, 1e-7)))
                fail_msg("%s: %zu is %g, expected %g", path, i, (double)out[i], (double)expected.data[i]);
        mem_free(out);
        npy_free(&expected);
    }
    npy_free(&in);
}

/* ---- reading --------------------------------------------------------------------------------------- */
static void orientations_are_honoured(void **state) {
    (void)state;
    picture upright = get("upright.png"), p;
    for (int k = 1; k <= 8; k++) {
        char name[32];
        snprintf(name, sizeof name, "exif%d.jpg", k);
        p = get(name);
        assert_same(&p, &upright, 8);
        picture_free(&p);
    }
    p = get("exif6.png");
    assert_same(&p, &upright, 0);
    picture_free(&p);
    picture_free(&upright);
}

static void formats_agree(void **state) {
    (void)state;
    picture png = get("small.png"), p;
    p = get("small.bmp");
    assert_same(&p, &png, 0);
    picture_free(&p);
    p = get("alpha.png"); /* dropped, not blended */
    assert_same(&p, &png, 0);
    picture_free(&p);
    picture_free(&png);
    p = get("palette.png");
    png = get("palette_rgb.png");
    assert_same(&p, &png, 0);
    picture_free(&p);
    picture_free(&png);
    p = get("progressive.jpg");
    assert_int_equal(p.width, 40);
    picture_free(&p);
    p = get("grey.jpg");
    for (size_t i = 0; i < p.width * p.height; i++) assert_int_equal(p.rgb[3 * i], p.rgb[3 * i + 2]);
    picture_free(&p);
}

static void refused(const unsigned char *bytes, size_t n, const char *word) {
    picture p;
    e.text[0] = 0;
    if (picture_parse(bytes, n, "NAMED", &p, &e)) fail_msg("%zu bytes were read, expected an error with '%s'", n, word);
    if (!strstr(e.text, "NAMED") || !strstr(e.text, word)) fail_msg("'%s' does not say '%s'", e.text, word);
    assert_null(p.rgb);
}

/* No file may be read when any of its end is missing, however little. */
static void truncated_pictures_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"small.png",       "small.bmp", "exif6.jpg",
                                        "progressive.jpg", "grey.jpg",  "palette.png"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[128];
        size_t n;
        snprintf(path, sizeof path, DATA "%s", names[k]);
        unsigned char *bytes = read_data(path, &n);
        for (size_t cut = strstr(path, "bmp") ? 2 : 1; cut <= n; cut++) { /* a BMP's last byte is padding */
            size_t left = n - cut;
            unsigned char *part = malloc(left ? left : 1); /* its own block: valgrind and ASan see every byte too far */
            memcpy(part, bytes, left);
            refused(part, left, left == 0 ? "empty" : left > 60 ? "truncated" : "");
            free(part);
        }
        mem_free(bytes);
    }
}

/* Every byte changed, one at a time: a PNG is refused (checksums), the others must do no harm. */
static void damaged_pictures_do_no_harm(void **state) {
    (void)state;
    static const char *const names[] = {"palette.png", "small.bmp", "exif6.jpg", "progressive.jpg"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[128];
        size_t n;
        picture p;
        snprintf(path, sizeof path, DATA "%s", names[k]);
        unsigned char *bytes = read_data(path, &n);
        for (size_t i = 0; i < n; i++) {
            static const unsigned char masks[3] = {0xFF, 0x80, 0x01};
            for (size_t j = 0; j < 3; j++) {
                bytes[i] ^= masks[j];
                bool ok = picture_parse(bytes, n, "damaged", &p, &e);
                if (ok && k == 0) fail_msg("byte %zu of %s was changed, unnoticed", i, path);
                if (ok) picture_free(&p);
                bytes[i] ^= masks[j];
            }
        }
        mem_free(bytes);
    }
}

static void put32(unsigned char *to, uint32_t v, bool big) {
    for (int k = 0; k < 4; k++) to[k] = (unsigned char)(v >> 8 * (big ? 3 - k : k));
}

/* Refused by what the header says, before anything is allocated. */
static void absurd_sizes_are_refused(void **state) {
    (void)state;
    size_t n, before;
    unsigned char *png = read_data(DATA "small.png", &n);
    put32(png + 16, 200000, true);
    put32(png + 20, 200000, true);
    put32(png + 29, png_crc(0, png + 12, 17), true);
    before = mem_count();
    refused(png, n, "200000x200000");
    assert_non_null(strstr(e.text, "100 megapixels"));
    put32(png + 16, 0xFFFFFFFF, true);
    put32(png + 29, png_crc(0, png + 12, 17), true);
    refused(png, n, "4294967295x200000");
    put32(png + 20, 0, true);
    put32(png + 29, png_crc(0, png + 12, 17), true);
    refused(png, n, "4294967295x0");
    assert_int_equal(mem_count(), before);
    mem_free(png);

    unsigned char *bmp = read_data(DATA "small.bmp", &n);
    put32(bmp + 18, 200000, false);
    put32(bmp + 22, 200000, false);
    refused(bmp, n, "200000x200000");
    put32(bmp + 22, (uint32_t)-200000, false);
    refused(bmp, n, "200000x200000");
    mem_free(bmp);

    unsigned char *jpeg = read_data(DATA "grey.jpg", &n);
    size_t i = 0;
    while (!(jpeg[i] == 0xFF && jpeg[i + 1] == 0xC0)) i++;
    memset(jpeg + i + 5, 0xFF, 4);
    refused(jpeg, n, "65535x65535");
    memset(jpeg + i + 5, 0, 4);
    jpeg[i + 6] = jpeg[i + 8] = 8, jpeg[i + 9] = 4; /* inverted or not, CMYK or YCCK: nothing says it */
    refused(jpeg, n, "four channels and no Adobe marker");
    mem_free(jpeg);
}

static void what_is_no_picture_is_refused(void **state) {
    (void)state;
    picture p;
    mask_image m;
    size_t n;
    refused((const unsigned char *)"", 0, "empty");
    refused((const unsigned char *)"hello, world", 12, "not a picture");
    unsigned char *gif = read_data(DATA "unread.gif", &n);
    refused(gif, n, "GIF");
    mem_free(gif);
    assert_false(picture_read(DATA, &p, &e));
    assert_non_null(strstr(e.text, "folder"));
    assert_false(picture_read(DATA "absent.png", &p, &e));
    assert_non_null(strstr(e.text, "absent.png"));
    assert_false(mask_read(DATA "resize.bin", &m, &e));
    assert_non_null(strstr(e.text, "resize.bin"));
    assert_false(mask_read(DATA, &m, &e));
    assert_non_null(strstr(e.text, "folder"));
}

/* stb would write behind its table of 256 symbols. */
static void impossible_huffman_tables_are_refused(void **state) {
    (void)state;
    size_t n, i = 0;
    unsigned char *jpeg = read_data(DATA "grey.jpg", &n);
    while (!(jpeg[i] == 0xFF && jpeg[i + 1] == 0xC4)) i++;
    jpeg[i + 5 + 15] = 255;
    refused(jpeg, n, "Huffman");
    jpeg[i + 5 + 15] = 0;
    jpeg[i + 5] = 3; /* three codes of one bit */
    refused(jpeg, n, "Huffman");
    mem_free(jpeg);
}

/* ---- masks ------------------------------------------------------------------------------------------- */
static mask_image get_mask(const char *name) {
    char path[256];
    mask_image m;
    snprintf(path, sizeof path, DATA "%s", name);
    must(mask_read(path, &m, &e));
    return m;
}

/* Each mask against the grey picture that Pillow's convert("L") makes of it. */
static void masks_are_read_as_pillow_does(void **state) {
    (void)state;
    static const struct {
        const char *mask, *grey;
    } pairs[] = {{"mask_grey.png", "mask_grey.png"},         {"mask_1bit.png", "mask_1bit_l.png"},
                 {"mask_01.png", "mask_1bit_l.png"},         {"mask_16bit.png", "mask_grey.png"},
                 {"mask_alpha.png", "mask_grey.png"},        {"mask_rgb.png", "mask_rgb_l.png"},
                 {"mask_palette.png", "mask_palette_l.png"}, {"mask_full.png", "mask_full.png"}};
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        mask_image m = get_mask(pairs[k].mask);
        picture grey = get(pairs[k].grey);
        assert_int_equal(m.width, 14);
        assert_int_equal(m.height, 9);
        for (size_t i = 0; i < 14 * 9; i++)
            if (!(fabs((double)m.soft[i] - grey.rgb[3 * i] / 255.0) <= 1e-7))
                fail_msg("%s: pixel %zu is %f, expected %d / 255", pairs[k].mask, i, (double)m.soft[i],
                         grey.rgb[3 * i]);
        picture_free(&grey);
        mask_free(&m);
    }
}

static void empty_masks_are_refused(void **state) {
    (void)state;
    mask_image m;
    assert_false(mask_read(DATA "mask_empty.png", &m, &e));
    assert_non_null(strstr(e.text, "mask_empty.png"));
    assert_non_null(strstr(e.text, "empty"));
}

/* ---- writing -------------------------------------------------------------------------------------------- */
static void written_pictures_read_back(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{1, 1}, {3, 2}, {257, 101}, {200, 200}, {30000, 1}, {1, 3000}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int kind = 0; kind < 3; kind++) {
            picture p = pattern(sizes[k][0], sizes[k][1]), back;
            size_t n = p.width * p.height * 3;
            for (size_t i = 0; kind && i < n; i++) /* ramps, then flat: repeats near and far */
                p.rgb[i] = (unsigned char)(kind == 1 ? i / 3 % p.width + i / 999 : i > n / 2 ? 9 : 250);
            must(picture_write_png(in_folder("out.png"), &p, &e));
            must(picture_read(in_folder("out.png"), &back, &e));
            assert_same(&back, &p, 0);
            picture_free(&back);
            picture_free(&p);
        }
}

/* All 256 indices, in noise that cannot be packed. */
static void palettes_of_256_colours_read_back(void **state) {
    (void)state;
    picture p = pattern(100, 200), back;
    must(palette_write_png(in_folder("out.png"), p.rgb, 300, 200, (const unsigned char(*)[3])p.rgb, 256, &e));
    must(picture_read(in_folder("out.png"), &back, &e));
    for (size_t k = 0; k < 60000; k++) assert_memory_equal(back.rgb + 3 * k, p.rgb + 3 * p.rgb[k], 3);
    picture_free(&back);
    picture_free(&p);
}

/* The zlib frame's own sum; stb's reader does not look at it, others do. */
static void written_checksums_are_right(void **state) {
    (void)state;
    picture p = pattern(300, 150);
    size_t n, at = 8, zipped = 0;
    int length;
    must(picture_write_png(in_folder("out.png"), &p, &e));
    unsigned char *bytes = read_data(in_folder("out.png"), &n), *z = malloc(n);
    while (at < n) {
        size_t part =
            (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 | (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        if (memcmp(bytes + at + 4, "IDAT", 4) == 0) memcpy(z + zipped, bytes + at + 8, part), zipped += part;
        at += part + 12;
    }
    char *rows = stbi_zlib_decode_malloc((char *)z, (int)zipped, &length);
    assert_int_equal(length, 150 * 901);
    uint32_t a = 1, b = 0;
    for (int i = 0; i < length; i++) {
        a = (a + (unsigned char)rows[i]) % 65521;
        b = (b + a) % 65521;
    }
    const unsigned char *sum = z + zipped - 4;
    assert_int_equal(b, sum[0] << 8 | sum[1]);
    assert_int_equal(a, sum[2] << 8 | sum[3]);
    mem_free(rows);
    free(z);
    mem_free(bytes);
    picture_free(&p);
}

static void written_palettes_and_masks_read_back(void **state) {
    (void)state;
    static const unsigned char palette[3][3] = {{1, 2, 3}, {200, 100, 50}, {255, 255, 0}},
                               index[6] = {0, 1, 2, 2, 1, 0};
    static const real soft[6] = {0, 0.5f, 1, 2, -1, 0.25f};
    static const unsigned char grey[6] = {0, 128, 255, 255, 0, 64};
    picture p;
    mask_image m;
    must(palette_write_png(in_folder("out.png"), index, 3, 2, palette, 3, &e));
    must(picture_read(in_folder("out.png"), &p, &e));
    for (size_t i = 0; i < 6; i++) assert_memory_equal(p.rgb + 3 * i, palette[index[i]], 3);
    picture_free(&p);
    must(mask_write_png(in_folder("out.png"), soft, 2, 3, &e));
    must(mask_read(in_folder("out.png"), &m, &e));
    assert_int_equal(m.width, 2);
    for (size_t i = 0; i < 6; i++) assert_true(m.soft[i] == (real)grey[i] / 255.0f);
    mask_free(&m);
    assert_false(palette_write_png(in_folder("out.png"), index, 3, 2, palette, 0, &e));
    assert_false(palette_write_png(in_folder("out.png"), index, 3, 2, palette, 257, &e));
}

static void failed_writes_keep_the_old_picture(void **state) {
    (void)state;
    picture p = pattern(5, 4), other = pattern(200, 200), back;
    must(picture_write_png(in_folder("out.png"), &p, &e));
    mem_fail_after(1);
    assert_false(picture_write_png(in_folder("out.png"), &other, &e));
    mem_fail_after(0);
    assert_non_null(strstr(e.text, "out.png"));
    must(picture_read(in_folder("out.png"), &back, &e));
    assert_same(&back, &p, 0);
    picture_free(&back);
    assert_false(picture_write_png("/dev/full", &other, &e));
    assert_non_null(strstr(e.text, "/dev/full"));
    assert_false(picture_write_png(in_folder("no/such/out.png"), &p, &e));
    assert_non_null(strstr(e.text, "no/such/out.png"));
    picture_free(&p);
    picture_free(&other);
}

/* ---- memory ------------------------------------------------------------------------------------------------ */
static bool everything(void) {
    static const char *const names[] = {"small.png", "exif6.jpg", "progressive.jpg", "small.bmp", "palette.png"};
    static const real map[4] = {0, 1, 0.5f, 0.25f};
    picture p = {0}, small = {0}, heat = {0};
    mask_image m = {0};
    real *a = NULL, *b = NULL;
    bool ok = true;
    for (size_t k = 0; ok && k < sizeof names / sizeof *names; k++) {
        char path[128];
        snprintf(path, sizeof path, DATA "%s", names[k]);
        picture_free(&p);
        ok = picture_read(path, &p, &e);
    }
    ok = ok && mask_read(DATA "mask_16bit.png", &m, &e) && picture_resize(&p, 9, 7, &small, &e);
    ok = ok && (a = pixels_squash(&p, 8, mean, std, &e)) && (b = pixels_crop(&p, 8, mean, std, &e));
    ok = ok && picture_heat(&p, map, 2, 2, &heat, &e) && picture_write_png(in_folder("out.png"), &heat, &e);
    ok = ok && mask_write_png(in_folder("out.png"), m.soft, m.width, m.height, &e);
    if (ok) picture_outline(&p, &m, (const unsigned char[3]){255, 0, 0});
    picture_free(&p);
    picture_free(&small);
    picture_free(&heat);
    mask_free(&m);
    mem_free(a);
    mem_free(b);
    return ok;
}

/* Each allocation fails once, ours and stb's: an error with a text every time, never a crash or a leak. */
static void each_may_fail(bool work(void), size_t least) {
    size_t held = mem_held(), before = mem_count();
    must(work());
    size_t all = mem_count() - before;
    if (!(all >= least)) fail_msg("%zu allocations, %zu expected", all, least);
    for (size_t n = 1; n <= all; n++) {
        e.text[0] = 0;
        mem_fail_after(n);
        bool ok = work();
        mem_fail_after(0);
        if (ok || !e.text[0]) fail_msg("allocation %zu of %zu failed, and nothing was said", n, all);
        if (mem_held() != held) fail_msg("allocation %zu of %zu failed, %zu are kept", n, all, mem_held() - held);
    }
    must(work());
    assert_int_equal(mem_held(), held);
}

/* Two files whose packing asks for rows, hash table, lists, output that grows, and the file. */
static bool packing(void) {
    picture p = pattern(60, 70);
    bool ok = p.rgb && picture_write_png(in_folder("out.png"), &p, &e) &&
              palette_write_png(in_folder("out.png"), p.rgb, 60, 70, (const unsigned char(*)[3])p.rgb, 256, &e);
    picture_free(&p);
    return ok;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    each_may_fail(everything, 40);
    each_may_fail(packing, 20);
}

/* What stb cannot count is refused before it is asked; the pixels are never looked at. */
static void sizes_beyond_the_packer_are_refused(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{0, 1, 3},         {1, 0, 3},         {INT32_MAX, 1, 1},   {INT32_MAX / 3 + 1, 1, 3},
                                      {1400000, 1000, 1}, {30000, 30000, 3}, {SIZE_MAX / 2, 3, 3}, {3, SIZE_MAX, 1}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        png_image huge = {.width = sizes[k][0], .height = sizes[k][1], .channels = sizes[k][2]};
        assert_false(png_write(in_folder("out.png"), &huge, &e));
        assert_non_null(strstr(e.text, "cannot be written"));
    }
}

static void impossible_sizes_are_errors(void **state) {
    (void)state;
    picture p, out;
    assert_false(picture_new(0, 5, &p, &e));
    p = pattern(4, 4);
    assert_false(picture_resize(&p, 0, 5, &out, &e));
    assert_false(picture_resize(&p, SIZE_MAX, SIZE_MAX, &out, &e));
    assert_false(picture_resize(&p, 1 << 20, 1 << 20, &out, &e));
    assert_null(pixels_crop(&p, SIZE_MAX, mean, std, &e));
    assert_null(pixels_crop(&p, 0, mean, std, &e));
    assert_null(pixels_squash(&p, 0, mean, std, &e));
    picture_free(&p);
}

/* ---- drawing --------------------------------------------------------------------------------------------------- */
static const long places[] = {LONG_MIN, -100, -7, -6, -1, 0, 1, 5, 8, 9, 10, 11, 100, LONG_MAX};
enum { PLACES = sizeof places / sizeof *places };

/* Fields and pasted pictures pixel by pixel against the definition, at every corner and beyond. */
static void drawing_is_clipped(void **state) {
    (void)state;
    static const unsigned char red[3] = {255, 0, 0};
    picture stamp = pattern(7, 3), p;
    must(picture_new(10, 9, &p, &e));
    for (size_t i = 0; i < PLACES * PLACES; i++) {
        long x = places[i / PLACES], y = places[i % PLACES];
        for (int paste = 0; paste < 2; paste++) {
            memset(p.rgb, 0, 10 * 9 * 3);
            if (paste)
                picture_paste(&p, &stamp, x, y);
            else
                picture_fill(&p, x, y, 7, 3, red);
            for (long py = 0; py < 9; py++)
                for (long px = 0; px < 10; px++) {
                    static const unsigned char black[3];
                    bool in =
                        px >= x && py >= y && (x < 0 ? px - 7 < x : px - x < 7) && (y < 0 ? py - 3 < y : py - y < 3);
                    const unsigned char *expected = !in ? black : paste ? stamp.rgb + 3 * ((py - y) * 7 + px - x) : red;
                    assert_memory_equal(p.rgb + 3 * (py * 10 + px), expected, 3);
                }
        }
    }
    picture_fill(&p, -5, -5, SIZE_MAX, SIZE_MAX, red);
    for (size_t i = 0; i < 90; i++) assert_memory_equal(p.rgb + 3 * i, red, 3);
    picture_free(&p);
    picture_free(&stamp);
}

/* How dark white paper became, in all. */
static size_t ink(const picture *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->width * p->height * 3; i++) n += 255u - p->rgb[i];
    return n;
}

static void write_on_paper(picture *p, long x, long y, const char *text, text_size size) {
    static const unsigned char black[3] = {0, 0, 0};
    memset(p->rgb, 255, p->width * p->height * 3);
    picture_text(p, x, y, text, size, black);
}

static void text_is_drawn_and_clipped(void **state) {
    (void)state;
    /* Latin, accents, Greek, Cyrillic, signs: each a glyph of its own, inside its line */
    static const char *letters[] = {"!", "0", "A", "Z", "a", "z", "~", "\xC3\xA9", "\xC3\x9F", "\xC5\x82", "\xCE\xA9",
                                    "\xCF\x80", "\xD0\x96", "\xD1\x84", "\xE2\x82\xAC", "\xE2\x80\xA6", "\xE2\x89\xA4"};
    enum { LETTERS = sizeof letters / sizeof *letters };
    picture p, q;
    must(picture_new(40, 24, &p, &e));
    must(picture_new(40, 24, &q, &e));
    for (int size = TEXT_SMALL; size <= TEXT_PLAIN; size++) {
        assert_int_equal(text_width("", (text_size)size), 0);
        for (size_t i = 0; i < LETTERS; i++) {
            write_on_paper(&p, 10, 2, letters[i], (text_size)size);
            assert_true(ink(&p) > 200);
            size_t line = size == TEXT_SMALL ? TEXT_LINE_SMALL : TEXT_LINE;
            for (size_t y = 0; y < 24; y++)
                if (y < 2 || y >= 2 + line) assert_int_equal(p.rgb[3 * (y * 40 + 12)], 255);
            for (size_t k = 0; k <= LETTERS; k++) { /* the last is the box of what is unknown: U+4E00, and a stray byte */
                write_on_paper(&q, 10, 2, k < LETTERS ? letters[k] : "\xE4\xB8\x80", (text_size)size);
                assert_int_equal(memcmp(p.rgb, q.rgb, 40 * 24 * 3) == 0, k == i);
            }
        }
        write_on_paper(&p, 10, 2, "\xE4\xB8\x80", (text_size)size);
        write_on_paper(&q, 10, 2, "\xFF", (text_size)size);
        assert_memory_equal(p.rgb, q.rgb, 40 * 24 * 3);
    }
    assert_true(text_width("iii", TEXT_PLAIN) < text_width("mmm", TEXT_PLAIN));
    assert_true(text_width("a", TEXT_SMALL) < text_width("a", TEXT_PLAIN));
    assert_int_equal(text_width("e\xCC\x81", TEXT_PLAIN), text_width("e", TEXT_PLAIN)); /* a mark alone takes no room */
    for (size_t i = 0; i < PLACES * PLACES; i++)
        for (int size = -1; size < 5; size++)
            write_on_paper(&p, places[i / PLACES], places[i % PLACES], "Any text, long\t\xFF\x80\xC3\xA9\xE2\x82", (text_size)size);
    write_on_paper(&p, -6, -3, "##", TEXT_PLAIN); /* its end shows though its beginning does not */
    assert_true(ink(&p) > 0);
    picture_free(&p);
    picture_free(&q);
}

static void text_is_cut_between_characters(void **state) {
    (void)state;
    char out[64];
    const char *text = "caf\xC3\xA9 cr\xC3\xA8me";
    text_cut(text, TEXT_PLAIN, 500, out, sizeof out);
    assert_string_equal(out, text);
    for (size_t width = 0; width < text_width(text, TEXT_PLAIN); width++) {
        text_cut(text, TEXT_PLAIN, width, out, sizeof out);
        size_t n = strlen(out);
        assert_true(n >= 3 && !strcmp(out + n - 3, "\xE2\x80\xA6"));
        assert_true(n == 3 || text_width(out, TEXT_PLAIN) <= width);
        assert_int_equal(memcmp(out, text, n - 3), 0);
        assert_true(((unsigned char)text[n - 3] & 0xC0) != 0x80); /* never inside a character */
    }
    for (size_t room = 4; room < 14; room++) {
        memset(out, 'x', sizeof out);
        text_cut(text, TEXT_PLAIN, 500, out, room);
        assert_true(strlen(out) < room);
        assert_int_equal(out[room], 'x');
    }
}

static void heat_is_over_the_photograph(void **state) {
    (void)state;
    static const real map[4] = {0, 1, 0, 1}, odd[4] = {NAN, -5, 7, INFINITY};
    picture p = pattern(40, 20), out, again;
    must(picture_heat(&p, map, 2, 2, &out, &e));
    assert_int_equal(out.width, 40);
    assert_int_equal(out.height, 20);
    for (size_t y = 0; y < 20; y++) {
        const unsigned char *cold = p.rgb + y * 120, *shown = out.rgb + y * 120, *hot = shown + 117;
        unsigned grey =
            (cold[0] * 5u + cold[1] * 9u + cold[2] * 2u) / 16; /* the photograph, half of its colours, darker */
        for (size_t c = 0; c < 3; c++) assert_int_equal(shown[c], (cold[c] + grey) / 2 * 220 / 256);
        assert_true(hot[0] > 180 && hot[1] > 180 && hot[0] > hot[2]); /* yellow */
    }
    must(picture_heat(&p, odd, 2, 2, &again, &e));
    picture_free(&again);
    picture_free(&out);
    picture_free(&p);
}

static void outlines_follow_the_mask(void **state) {
    (void)state;
    static const unsigned char red[3] = {255, 0, 0};
    picture p, before = pattern(64, 48);
    mask_image m = {32, 24, mem_alloc(32 * 24, sizeof(real))};
    for (size_t y = 8; y < 16; y++)
        for (size_t x = 8; x < 24; x++) m.soft[y * 32 + x] = 1;
    p = pattern(64, 48);
    picture_outline(&p, &m, red);
    for (size_t x = 20; x < 44; x++) { /* the edge lies between rows 15 and 16 of the picture, two pixels wide */
        assert_memory_equal(p.rgb + 3 * (15 * 64 + x), red, 3);
        assert_memory_equal(p.rgb + 3 * (16 * 64 + x), red, 3);
        assert_memory_equal(p.rgb + 3 * (14 * 64 + x), "\xFF\xFF\xFF", 3); /* the halo */
        assert_memory_equal(p.rgb + 3 * (17 * 64 + x), "\xFF\xFF\xFF", 3);
        assert_memory_equal(p.rgb + 3 * (12 * 64 + x), before.rgb + 3 * (12 * 64 + x), 3);
        assert_memory_equal(p.rgb + 3 * (22 * 64 + x), before.rgb + 3 * (22 * 64 + x), 3);
    }
    for (size_t i = 0; i < 32 * 24; i++) m.soft[i] = 1; /* full: nothing is crossed */
    memcpy(p.rgb, before.rgb, 64 * 48 * 3);
    picture_outline(&p, &m, red);
    assert_same(&p, &before, 0);
    for (size_t i = 0; i < 32 * 24; i++) m.soft[i] = (real)(i * 2654435761u >> 16 & 1); /* noise, up to every border */
    picture_outline(&p, &m, red);
    picture_free(&p);
    p = pattern(1, 1);
    picture_outline(&p, &m, red);
    picture_free(&p);
    picture_free(&before);
    mask_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize_is_pillows),
        cmocka_unit_test(crop_is_the_clip_transform),
        cmocka_unit_test(squash_is_resize_normalised),
        cmocka_unit_test(crop_of_a_thread_is_cheap),
        cmocka_unit_test(resize_of_many_taps),
        cmocka_unit_test(map_resize_is_torchs),
        cmocka_unit_test(orientations_are_honoured),
        cmocka_unit_test(formats_agree),
        cmocka_unit_test(truncated_pictures_are_refused),
        cmocka_unit_test(damaged_pictures_do_no_harm),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(what_is_no_picture_is_refused),
        cmocka_unit_test(impossible_huffman_tables_are_refused),
        cmocka_unit_test(masks_are_read_as_pillow_does),
        cmocka_unit_test(empty_masks_are_refused),
        cmocka_unit_test(written_pictures_read_back),
        cmocka_unit_test(palettes_of_256_colours_read_back),
        cmocka_unit_test(written_checksums_are_right),
        cmocka_unit_test(written_palettes_and_masks_read_back),
        cmocka_unit_test(failed_writes_keep_the_old_picture),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(impossible_sizes_are_errors),
        cmocka_unit_test(sizes_beyond_the_packer_are_refused),
        cmocka_unit_test(drawing_is_clipped),
        cmocka_unit_test(text_is_drawn_and_clipped), cmocka_unit_test(text_is_cut_between_characters),
        cmocka_unit_test(heat_is_over_the_photograph),
        cmocka_unit_test(outlines_follow_the_mask),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
