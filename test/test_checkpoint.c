/* test_checkpoint.c - safetensors, configs, weights by both families' names, shards, writing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <dirent.h>
#include <cmocka.h>
#include "models/checkpoint.h"
#include "files/json.h"
#include "models/model.h"

#define HF "test/data/nano-hf-f32"
#define OC "test/data/nano-openclip-f16"
#define BF "test/data/nanogelu-openclip-bf16"
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* ---- helpers --------------------------------------------------------------------------------- */
static char folder[256]; /* this test's own */

static const char *in_folder(const char *file) {
    static char room[4][512];
    static unsigned turn;
    char *path = room[turn++ % 4];
    snprintf(path, sizeof room[0], "%s/%s", folder, file);
    return path;
}

static void empty_folder(void) {
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *f = readdir(d); f; f = readdir(d))
        if (f->d_name[0] != '.') remove(in_folder(f->d_name));
    closedir(d);
}

static int folder_begin(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/maskinv-test-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_end(void **state) {
    (void)state;
    empty_folder();
    return rmdir(folder);
}

static int each_begin(void **state) {
    (void)state;
    mem_fail_after(0);
    empty_folder();
    return 0;
}

static void put(const char *file, const void *bytes, size_t length) {
    FILE *f = fopen(in_folder(file), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    fclose(f);
}

static void put_text(const char *file, const char *text) { put(file, text, strlen(text)); }

static char *slurp(const char *path, size_t *length) {
    err e = {0};
    char *data = file_read(path, (size_t)64 << 20, length, &e);
    if (!data) fail_msg("%s", e.text);
    return data;
}

static void copy(const char *from, const char *to) {
    size_t n;
    char *data = slurp(from, &n);
    put(to, data, n);
    mem_free(data);
}

/* Every piece of `wanted` between bars must be in the text. */
static void assert_says(const char *text, const char *wanted) {
    char copy_of[512];
    snprintf(copy_of, sizeof copy_of, "%s", wanted);
    for (char *p = copy_of, *bar; p; p = bar) {
        bar = strchr(p, '|');
        if (bar) *bar++ = 0;
        if (!strstr(text, p)) fail_msg("\"%s\" does not say \"%s\"", text, p);
    }
}

static checkpoint *opened(const char *path) {
    err e = {0};
    checkpoint *c = checkpoint_open(path, &e);
    if (!c) fail_msg("%s", e.text);
    return c;
}

static void assert_refused(const char *path, const char *wanted) {
    err e = {0};
    checkpoint *c = checkpoint_open(path, &e);
    if (c) fail_msg("%s was opened, expected: %s", path, wanted);
    assert_says(e.text, wanted);
}

/* ---- safetensors: headers ---------------------------------------------------------------------- */
/* u64 length, header, `data` bytes of 1, 2, 3... */
static unsigned char *file_of(const char *header, size_t letters, size_t data, size_t *length) {
    *length = 8 + letters + data;
    unsigned char *bytes = malloc(*length); /* exactly as long: a sanitizer sees every byte read beyond */
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)letters >> 8 * i);
    memcpy(bytes + 8, header, letters);
    for (size_t i = 0; i < data; i++) bytes[8 + letters + i] = (unsigned char)(i + 1);
    return bytes;
}

#define A8 "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define ENTRY(dtype, shape, offsets) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
static const struct {
    const char *header;
    size_t data;
    const char *wanted;
} broken[] = {
    {"", 0, "X: header length is 0|at least 2"},
    {" {" A8 "}", 8, "X: header begins with byte 0x20, expected {"},
    {"[" A8 "]", 8, "X: header begins with byte 0x5b"},
    {"{" A8 "}\n", 8, "X: header ends with byte 0x0a, expected }"},
    {"{" A8 "} x", 8, "X: header ends with byte 0x78"},
    {"{" A8 "}{}", 8, "X: header|not JSON|found {, expected the end"},
    {"{" A8 ",}", 8, "X: header|not JSON|found }, expected a string"},
    {"{" A8, 8, "X: header|not JSON|found the end, expected a comma or }"},
    {"{" A8 "}", 7, "tensor \"a\"|data_offsets [0, 8] end beyond the data, which has 7 bytes"},
    {"{" A8 "}", 9, "the last tensor ends at 8, but 9 bytes of data follow"},
    {"{}", 1, "the last tensor ends at 0, but 1 bytes"},
    {"{" A8 "," A8 "}", 8, "tensor \"a\" stands twice"},
    {"{" A8 ",\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, "tensor \"a\" stands twice"},
    {"{" A8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[12,16]}}", 16,
     "tensor \"b\" begins at 12, expected 8, where \"a\" ends: a hole"},
    {"{" A8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}", 8,
     "tensor \"b\" begins at 4, expected 8, where \"a\" ends: they overlap"},
    {"{" A8 ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "they overlap"},
    {ENTRY("\"U8\"", "[4]", "[4,8]"), 8, "tensor \"a\" begins at 4, expected 0, where the header ends: a hole"},
    {ENTRY("\"F99\"", "[2]", "[0,8]"), 8, "tensor \"a\"|dtype is \"F99\", expected one of"},
    {ENTRY("\"f32\"", "[2]", "[0,8]"), 8, "dtype is \"f32\""},
    {ENTRY("32", "[2]", "[0,8]"), 8, "dtype is 32"},
    {ENTRY("\"F32\"", "[3]", "[0,8]"), 8, "hold 8 bytes, expected 12 for shape [3] of F32"},
    {ENTRY("\"F32\"", "[]", "[0,8]"), 8, "hold 8 bytes, expected 4 for shape [] of F32"},
    {ENTRY("\"F32\"", "2", "[0,8]"), 8, "shape is 2, expected a list"},
    {ENTRY("\"F32\"", "[-2]", "[0,8]"), 8, "shape[0] is -2, expected a whole number"},
    {ENTRY("\"F32\"", "[2,1.5]", "[0,8]"), 8, "shape[1] is 1.5"},
    {ENTRY("\"F32\"", "[\"2\"]", "[0,8]"), 8, "shape[0] is \"2\""},
    {ENTRY("\"F32\"", "[2.0]", "[0,8]"), 8, "a number with \".\", expected digits alone"},
    {ENTRY("\"F32\"", "[2]", "[-0,8]"), 8, "a number with \"-\""},
    {ENTRY("\"F32\"", "[2]", "[0,8e0]"), 8, "a number with \"e\""},
    {ENTRY("\"F32\"", "[2]", "[0,08]"), 8, "not JSON|no digits after a leading 0"},
    {ENTRY("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8,
     "shape [4294967296, 4294967296] of F32 is not a countable"},
    {ENTRY("\"F32\"", "[4611686018427387904]", "[0,8]"), 8, "shape[0] is 4.611686018e+18"},
    {ENTRY("\"F32\"", "[9007199254740993]", "[0,8]"), 8, "shape[0] is 9.00719925"},
    {ENTRY("\"F64\"", "[4503599627370496,512]", "[0,8]"), 8, "is not a countable number of bytes"},
    {ENTRY("\"F4\"", "[3]", "[0,8]"), 8, "is not a countable number of bytes"},
    {ENTRY("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "more than 8 dimensions"},
    {ENTRY("\"F32\"", "[2]", "[8,0]"), 8, "data_offsets [8, 0] run backwards"},
    {ENTRY("\"F32\"", "[2]", "[0,8,8]"), 8, "data_offsets is a list of another length"},
    {ENTRY("\"F32\"", "[2]", "[0]"), 8, "data_offsets is a list of another length"},
    {ENTRY("\"F32\"", "[2]", "{}"), 8, "data_offsets is an object"},
    {ENTRY("\"F32\"", "[2]", "[0,\"8\"]"), 8, "data_offsets[1] is \"8\""},
    {ENTRY("\"F32\"", "[2]", "[0,1e400]"), 8, "data_offsets[1] is inf"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "tensor \"a\"|dtype is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "shape is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     "tensor \"a\"|dtype|twice"},
    {"{\"a\":null}", 0, "tensor \"a\": entry is null"},
    {"{\"a\":[]}", 0, "tensor \"a\": entry is a list"},
    {"{\"__metadata__\":\"pt\"," A8 "}", 8, "__metadata__ is \"pt\", expected an object"},
    {"{\"__metadata__\":{\"n\":1}," A8 "}", 8, "__metadata__.n is 1, expected a string"},
    {"{\"__metadata__\":{},\"__metadata__\":{}," A8 "}", 8, "__metadata__ stands twice"},
    {"{\"a\xff\":{}}", 0, "X: header|found byte 0xff, expected valid UTF-8"},
    {"{\"a\xc0\x80\":{}}", 0, "expected valid UTF-8"},
    {"{\"a\xed\xa0\x80\":{}}", 0, "expected valid UTF-8"},
    {"{\"a\\u0000b\":{}}", 0, "no \\u0000"},
    {"{\"a\\ud800\":{}}", 0, "a low surrogate"},
    {"{\"a\\udc00\":{}}", 0, "a high surrogate"},
    {"{\"a\\x\":{}}", 0, "after a backslash"},
    {"{\"a\nb\":{}}", 0, "an escape for this control character"},
    {"{'a':{}}", 0, "found ', expected a string"},
    {"{\"a\":tru}", 0, "expected a value"},
    {"{\"a\" {}}", 0, "expected a colon"},
};

static void test_broken_headers(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        size_t length;
        unsigned char *bytes = file_of(broken[i].header, strlen(broken[i].header), broken[i].data, &length);
        err e = {0};
        safetensors *s = st_parse(bytes, length, "X", &e);
        if (s) fail_msg("read: %s", broken[i].header);
        assert_says(e.text, broken[i].wanted);
        assert_memory_equal(e.text, "X: ", 3);
        free(bytes);
    }
}

static void test_broken_lengths(void **state) {
    (void)state;
    err e = {0};
    unsigned char *bytes = calloc(16, 1);
    bytes[8] = '{';
    bytes[9] = '}';
    assert_null(st_parse(bytes, 0, "X", &e));
    assert_says(e.text, "X: the file has 0 bytes, expected at least 8");
    assert_null(st_parse(bytes, 7, "X", &e));
    assert_says(e.text, "has 7 bytes");
    bytes[0] = 9;
    assert_null(st_parse(bytes, 16, "X", &e));
    assert_says(e.text, "header length is 9, but only 8 bytes follow");
    memset(bytes, 0xff, 8);
    assert_null(st_parse(bytes, 16, "X", &e));
    assert_says(e.text, "header length is 18446744073709551615, expected at most 100000000");
    memcpy(bytes, "\x01\xe1\xf5\x05\0\0\0\0", 8); /* 100,000,001 */
    assert_null(st_parse(bytes, 16, "X", &e));
    assert_says(e.text, "header length is 100000001, expected at most 100000000");
    memcpy(bytes, "\0\xe1\xf5\x05\0\0\0\0", 8); /* allowed, but longer than the file */
    assert_null(st_parse(bytes, 16, "X", &e));
    assert_says(e.text, "header length is 100000000, but only 8 bytes follow");
    free(bytes);
    char nul[] = "{\"a\0b\":{}}"; /* a zero byte in a name */
    size_t length;
    bytes = file_of(nul, sizeof nul - 1, 0, &length);
    assert_null(st_parse(bytes, length, "X", &e));
    assert_says(e.text, "found byte 0x00");
    free(bytes);
}

static void test_valid_headers(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data, count;
    } valid[] = {
        {"{}", 0, 0},
        {"{}      ", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{" A8 "}   ", 8, 1},
        {"{\"__metadata__\":{\"format\":\"pt\",\"x\":\"1.5e3\"}," A8 "}", 8, 1},
        {ENTRY("\"F32\"", "[]", "[0,4]"), 4, 1},
        {ENTRY("\"F32\"", "[0]", "[0,0]"), 0, 1},
        {ENTRY("\"F32\"", "[7,0,3]", "[0,0]"), 0, 1},
        {ENTRY("\"F4\"", "[4]", "[0,2]"), 2, 1},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}," A8 "}", 11, 2}, /* not in offsets' order */
        {"{" A8 ",\"z\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[8,8]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}}",
         9, 3}, /* an empty one in between */
        {"{\"m\\u00e9\\ud83d\\ude00\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":1}}", 1, 1},
        {"{\"a\":{ \"data_offsets\" : [0 ,1],\r\n\t\"shape\":[ 1 ] ,\"dtype\":\"BOOL\"}}", 1, 1},
    };
    for (size_t i = 0; i < COUNT(valid); i++) {
        size_t length;
        unsigned char *bytes = file_of(valid[i].header, strlen(valid[i].header), valid[i].data, &length);
        err e = {0};
        safetensors *s = st_parse(bytes, length, "X", &e);
        if (!s) fail_msg("%s: %s", valid[i].header, e.text);
        assert_int_equal(st_count(s), valid[i].count);
        for (size_t j = 0; j < st_count(s); j++) assert_ptr_equal(st_find(s, st_at(s, j)->name), st_at(s, j));
        assert_null(st_find(s, "nothing"));
        assert_null(st_find(s, "__metadata__"));
        st_free(s);
        free(bytes);
    }
}

/* Cut anywhere, a file is refused; with any header byte changed it is read or refused, but nothing worse. */
static void test_cut_and_changed_files(void **state) {
    (void)state;
    size_t length;
    unsigned char *bytes =
        file_of("{" A8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}",
                strlen("{" A8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}}"), 11, &length);
    for (size_t n = 0; n < length; n++) {
        unsigned char *cut = malloc(n ? n : 1);
        err e = {0};
        memcpy(cut, bytes, n);
        assert_null(st_parse(cut, n, "X", &e));
        assert_says(e.text, "X: ");
        free(cut);
    }
    for (size_t i = 0; i < length - 11; i++) {
        unsigned char old = bytes[i];
        for (unsigned v = 0; v < 256; v++) {
            err e = {0};
            bytes[i] = (unsigned char)v;
            safetensors *s = st_parse(bytes, length, "X", &e);
            assert_true((s != NULL) == (e.text[0] == 0));
            st_free(s);
        }
        bytes[i] = old;
    }
    free(bytes);
}

/* ---- safetensors: numbers ------------------------------------------------------------------------ */
static void test_half_exact_both_ways(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = half_to_float((uint16_t)h);
        if (isnan(x))
            assert_true((h & 0x7c00) == 0x7c00 && (h & 0x3ff));
        else
            assert_int_equal(st_to_half(x), h);
        double want = (h >> 10 & 31) == 31  ? INFINITY
                      : (h >> 10 & 31) == 0 ? ldexp(h & 1023, -24)
                                            : ldexp(1024 + (h & 1023), (int)(h >> 10 & 31) - 25);
        if (!isnan(x)) assert_true((double)x == (h & 0x8000 ? -want : want));
    }
    assert_true(isnan(half_to_float(st_to_half(NAN))));
}

/* Nearest, ties to even: against both neighbours of the result. */
static void test_half_rounds_to_nearest_even(void **state) {
    (void)state;
    uint32_t seed = 1;
    for (int i = 0; i < 400000; i++) {
        float x;
        seed = seed * 1664525u + 1013904223u;
        uint32_t bits = (seed & 0x80000000u) | (0x32000000u + (seed >> 1) % 0x15700000u); /* 2^-27 to beyond 65504 */
        if (i % 3 == 0) bits = (bits & ~0x1fffu) | 0x1000u;                               /* ties */
        memcpy(&x, &bits, sizeof x);
        uint16_t h = st_to_half(x);
        if (fabsf(x) >= 65520) {
            assert_int_equal(h & 0x7fff, 0x7c00);
            continue;
        }
        double error = fabs((double)half_to_float(h) - (double)x), below = INFINITY, above = INFINITY;
        if (h & 0x7fff) below = fabs((double)half_to_float((uint16_t)(h - 1)) - (double)x);
        if ((h & 0x7fff) < 0x7bff) above = fabs((double)half_to_float((uint16_t)(h + 1)) - (double)x);
        assert_true(error <= below && error <= above);
        if (error == below || error == above) assert_int_equal(h & 1, 0);
    }
    assert_int_equal(st_to_half(65519.996f), 0x7bff);
    assert_int_equal(st_to_half(-65520), 0xfc00);
}

static void test_write_and_read_back(void **state) {
    (void)state;
    static const float f[6] = {1, -2, 3.5f, 1e-30f, 65504, -0.0f};
    static const double d[2] = {0.1, -1e10};
    static const uint16_t h[2] = {0x3c00, 0xc000}, b[2] = {0x3f80, 0xc040};
    const st_tensor t[] = {
        {"f\"\\\n\x01/é", "F32", {2, 3}, 2, (const unsigned char *)f, sizeof f},
        {"h", "F16", {2}, 1, (const unsigned char *)h, sizeof h},
        {"none", "F32", {0, 5}, 2, NULL, 0},
        {"b", "BF16", {1, 2}, 2, (const unsigned char *)b, sizeof b},
        {"d", "F64", {2}, 1, (const unsigned char *)d, sizeof d},
        {"scalar", "F32", {0}, 0, (const unsigned char *)f, 4},
        {"odd", "U8", {3}, 1, (const unsigned char *)"abc", 3},
    };
    err e = {0};
    static const char *const metadata[] = {"format", "pt", "quote\"", "tab\t", NULL};
    for (int with = 0; with < 2; with++) {
        assert_true(st_write(in_folder("x.safetensors"), t, COUNT(t), with ? metadata : NULL, &e));
        safetensors *s = st_open(in_folder("x.safetensors"), &e);
        if (!s) fail_msg("%s", e.text);
        assert_int_equal(st_count(s), COUNT(t));
        for (size_t i = 0; i < COUNT(t); i++) {
            const st_tensor *r = st_at(s, i);
            assert_string_equal(r->name, t[i].name);
            assert_string_equal(r->type, t[i].type);
            assert_int_equal(r->rank, t[i].rank);
            assert_memory_equal(r->shape, t[i].shape, t[i].rank * sizeof *t[i].shape);
            assert_int_equal(r->bytes, t[i].bytes);
            if (r->bytes) assert_memory_equal(r->data, t[i].data, r->bytes);
        }
        real out[6];
        assert_true(st_floats(st_find(s, t[0].name), out, 6, &e));
        for (size_t i = 0; i < 6; i++) assert_true(out[i] == f[i] && !signbit(out[i]) == !signbit(f[i]));
        assert_true(st_floats(st_find(s, "h"), out, 2, &e));
        assert_true(out[0] == 1 && out[1] == -2);
        assert_true(st_floats(st_find(s, "b"), out, 2, &e));
        assert_true(out[0] == 1 && out[1] == -3);
        assert_true(st_floats(st_find(s, "d"), out, 2, &e));
        assert_true(out[0] == (real)0.1 && out[1] == -(real)1e10);
        assert_true(st_floats(st_find(s, "scalar"), out, 1, &e));
        assert_true(out[0] == 1);
        assert_true(st_floats(st_find(s, "none"), out, 0, &e));
        assert_false(st_floats(st_find(s, "h"), out, 3, &e));
        assert_says(e.text, "tensor \"h\" has shape [2], expected 3 numbers");
        assert_false(st_floats(st_find(s, "odd"), out, 3, &e));
        assert_says(e.text, "tensor \"odd\" has dtype U8, expected F32, F16, BF16 or F64");
        st_free(s);
    }
    size_t length;
    char *file = slurp(in_folder("x.safetensors"), &length);
    assert_int_equal(((unsigned char)file[0] + 256 * (unsigned char)file[1] + 8) % 64, 0); /* data is aligned */
    mem_free(file);
}

static void test_write_refuses(void **state) {
    (void)state;
    err e = {0};
    st_tensor t = {"a", "F32", {2}, 1, (const unsigned char *)"12345678", 8};
    const char *path = in_folder("x.safetensors");
    assert_true(st_write(path, &t, 1, NULL, &e));
    t.bytes = 7;
    assert_false(st_write(path, &t, 1, NULL, &e));
    assert_says(e.text, "tensor \"a\": 7 bytes given, expected 8 for shape [2] of F32");
    t.bytes = 8;
    t.type = "F31";
    assert_false(st_write(path, &t, 1, NULL, &e));
    assert_says(e.text, "no such dtype: \"F31\"");
    t.type = "F32";
    assert_false(st_write(in_folder("no/such/x"), &t, 1, NULL, &e));
    assert_says(e.text, "no/such/x");
    safetensors *s = st_open(path, &e); /* what was there still is */
    assert_non_null(s);
    st_free(s);
    assert_null(st_open(in_folder("missing"), &e));
    assert_says(e.text, "missing");
    assert_null(st_open(folder, &e));
    assert_says(e.text, folder);
}

/* ---- JSON -------------------------------------------------------------------------------------------- */
static void test_json(void **state) {
    (void)state;
    static const struct {
        const char *text, *wanted;
    } bad[] = {
        {"", "x.json: not JSON: line 1, column 1: found the end, expected a value"},
        {"{\n  \"a\": 1\n  \"b\": 2\n}", "line 3, column 3: found \", expected a comma or }"},
        {"[1,]", "column 4: found ], expected a value"},
        {"[01]", "no digits after a leading 0"},
        {"[-]", "expected a digit"},
        {"[1.]", "expected a digit"},
        {"[1e]", "expected a digit"},
        {"[+1]", "expected a value"},
        {"[.5]", "expected a value"},
        {"[NaN]", "expected a value"},
        {"[nul]", "expected a value"},
        {"[1 2]", "a comma or ]"},
        {"[\"a]", "closing quote"},
        {"[\"\\u12g4\"]", "four hexadecimal digits"},
        {"{\"a\":1]", "a comma or }"},
        {"[1}", "a comma or ]"},
        {"{1:2}", "a string"},
        {"[\"\t\"]", "an escape for this control character"},
        {"null null", "the end of the text"},
        {"\xef\xbb\xbf{}", "found byte 0xef"},
        {"[1111111111111111111111111111111111111111111111111111111111111]", "at most 60 characters"},
    };
    err e = {0};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_null(json_parse(bad[i].text, strlen(bad[i].text), "x.json", &e));
        assert_says(e.text, bad[i].wanted);
    }
    static const char *const good[] = {"0",
                                       "-0.5e+10",
                                       "[]",
                                       "{}",
                                       " [ ] ",
                                       "[[],{},[{}]]",
                                       "{\"a\":[1,2,{\"b\":null}],\"c\":true}",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9 \xf0\x9f\x98\x80\"",
                                       "[false,1E5]\n"};
    for (size_t i = 0; i < COUNT(good); i++) {
        size_t n = strlen(good[i]);
        char *exact = malloc(n); /* not terminated */
        memcpy(exact, good[i], n);
        cJSON *j = json_parse(exact, n, "x.json", &e);
        if (!j) fail_msg("%s: %s", good[i], e.text);
        json_free(j);
        free(exact);
    }
    char deep[JSON_DEPTH * 2 + 4];
    for (size_t depth = JSON_DEPTH; depth <= JSON_DEPTH + 1; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        cJSON *j = json_parse(deep, 2 * depth, "x.json", &e);
        assert_int_equal(j != NULL, depth == JSON_DEPTH);
        json_free(j);
    }
    assert_says(e.text, "at most 64 levels of nesting");
}

/* ---- configs ------------------------------------------------------------------------------------------- */
#define OPEN_CLIP(vision, text, more)                                                                                  \
    "{\"model_cfg\":{\"embed_dim\":24,\"vision_cfg\":{" vision "},\"text_cfg\":{" text "}" more "}}"

static bool parse(const char *text, clip_config *c, err *e) {
    *e = (err){0};
    return config_parse(text, strlen(text), "x.json", c, e);
}

static void test_config_defaults(void **state) {
    (void)state;
    clip_config c;
    err e;
    if (!parse(OPEN_CLIP("", "", ""), &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.vision.width, 768);
    assert_int_equal(c.vision.layers, 12);
    assert_int_equal(c.vision.heads, 12);
    assert_int_equal(c.vision.mlp, 3072);
    assert_int_equal(c.patch, 16);
    assert_int_equal(c.image, 224);
    assert_int_equal(c.text.width, 512);
    assert_int_equal(c.text.heads, 8);
    assert_int_equal(c.text.mlp, 2048);
    assert_int_equal(c.vocab, 49408);
    assert_int_equal(c.context, 77);
    assert_int_equal(c.embed, 24);
    assert_int_equal(c.act_vision, ACT_GELU); /* open_clip: absent = false */
    assert_int_equal(c.act_text, ACT_GELU);
    assert_int_equal(c.pool, CLIP_POOL_CLASS);
    assert_true(c.vision.eps == (real)1e-5 && c.text.eps == (real)1e-5);
    assert_true(c.mean[0] == (real).48145466 && c.std[2] == (real).27577711);
    assert_true(c.invert.lr == 0 && c.invert.iters == 0);
    if (!parse("{\"model_type\":\"clip\"}", &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.vision.width, 768);
    assert_int_equal(c.vision.heads, 12);
    assert_int_equal(c.vision.mlp, 3072);
    assert_int_equal(c.patch, 32);
    assert_int_equal(c.text.heads, 8);
    assert_int_equal(c.text.mlp, 2048);
    assert_int_equal(c.embed, 512);
    assert_int_equal(c.act_vision, ACT_QUICK_GELU); /* Hugging Face: absent = quick_gelu */
    assert_int_equal(c.context, 77);
}

static void test_config_published_forms(void **state) {
    (void)state;
    clip_config c;
    err e;
    /* ViT-g/14 and bigG/14: int(width*mlp_ratio), head_width */
    if (!parse(OPEN_CLIP("\"image_size\":224,\"layers\":40,\"width\":1408,\"head_width\":88,\"mlp_ratio\":4.3637,"
                         "\"patch_size\":14",
                         "\"width\":1024,\"heads\":16,\"layers\":24", ""),
               &c, &e))
        fail_msg("%s", e.text);
    assert_int_equal(c.vision.mlp, 6144);
    assert_int_equal(c.vision.heads, 16);
    assert_int_equal(c.text.mlp, 4096);
    if (!parse(
            OPEN_CLIP("\"layers\":48,\"width\":1664,\"head_width\":104,\"mlp_ratio\":4.9231,\"patch_size\":14", "", ""),
            &c, &e))
        fail_msg("%s", e.text);
    assert_int_equal(c.vision.mlp, 8192);
    /* switches that are off, and fields that change nothing */
    if (!parse("{\"model_cfg\":{\"embed_dim\":8,\"quick_gelu\":true,\"custom_text\":true,\"multimodal_cfg\":null,"
               "\"vision_cfg\":{"
               "\"ls_init_value\":null,\"attentional_pool\":false,\"timm_model_name\":null,\"timm_drop\":0.0,\"patch_"
               "dropout\":0.5,"
               "\"no_ln_pre\":false,\"act_kwargs\":{},\"pool_type\":\"tok\",\"pos_embed_type\":\"learnable\",\"norm_"
               "kwargs\":{\"eps\":1e-6}},"
               "\"text_cfg\":{\"hf_model_name\":null,\"pool_type\":\"argmax\",\"proj_bias\":false,\"pad_id\":0}},"
               "\"preprocess_cfg\":{\"mean\":[0.5,0.25,0],\"std\":[0.5,0.5,1],\"interpolation\":\"bicubic\",\"resize_"
               "mode\":\"shortest\",\"size\":[224,224]},"
               "\"maskinv_cfg\":{\"lr\":0.1,\"alpha\":0.05,\"iters\":20,\"layers\":2},\"anything\":[1]}",
               &c, &e))
        fail_msg("%s", e.text);
    assert_int_equal(c.act_text, ACT_QUICK_GELU);
    assert_true(c.vision.eps == (real)1e-6 && c.text.eps == (real)1e-5);
    assert_true(c.mean[0] == (real).5 && c.mean[1] == (real).25 && c.mean[2] == 0 && c.std[2] == 1);
    assert_true(c.invert.lr == (real).1 && c.invert.alpha == (real).05);
    assert_int_equal(c.invert.iters, 20);
    assert_int_equal(c.invert.layers, 2);
    if (!parse(OPEN_CLIP("\"pool_type\":\"tokens_mean\"", "", ""), &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.pool, CLIP_POOL_MEAN);
    /* Hugging Face: old copies beside the sections, gelu by tower */
    if (!parse("{\"model_type\":\"clip\",\"projection_dim\":768,\"text_config\":{\"hidden_size\":768,\"num_attention_"
               "heads\":12,"
               "\"intermediate_size\":3072,\"hidden_act\":\"gelu\"},\"text_config_dict\":{\"hidden_size\":768},\"vision_"
               "config_dict\":null,"
               "\"vision_config\":{\"hidden_size\":1024,\"num_attention_heads\":16,\"num_hidden_layers\":24,\"patch_"
               "size\":14,"
               "\"layer_norm_eps\":1e-6}}",
               &c, &e))
        fail_msg("%s", e.text);
    assert_int_equal(c.vision.width, 1024);
    assert_int_equal(c.text.width, 768);
    assert_int_equal(c.act_text, ACT_GELU);
    assert_int_equal(c.act_vision, ACT_QUICK_GELU);
    assert_true(c.vision.eps == (real)1e-6);
    if (!parse("{\"vision_config_dict\":{\"patch_size\":16}}", &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.patch, 16);
}

static const struct {
    const char *text, *wanted;
} bad_configs[] = {
    {"", "x.json: not JSON"},
    {"[]", "x.json: the document is a list, expected an object"},
    {"{}", "x.json: no CLIP config"},
    {"{\"architecture\":\"vit_base_patch16_clip_224\"}", "a timm config, of an image tower alone"},
    {"{\"model_cfg\":3}", "x.json: model_cfg is 3, expected an object"},
    {"{\"model_cfg\":{}}", "model_cfg.vision_cfg is missing"},
    {"{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{}}}", "model_cfg.text_cfg is missing"},
    {"{\"model_cfg\":{\"vision_cfg\":{},\"text_cfg\":{}}}",
     "model_cfg.embed_dim is missing, expected a whole number from 1"},
    {"{\"model_cfg\":{\"embed_dim\":\"8\",\"vision_cfg\":{},\"text_cfg\":{}}}", "model_cfg.embed_dim is \"8\""},
    {"{\"model_cfg\":{\"embed_dim\":8,\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}}}",
     "model_cfg.embed_dim|stands twice"},
    {OPEN_CLIP("\"width\":0", "", ""), "model_cfg.vision_cfg.width is 0, expected a whole number from 1 to 65536"},
    {OPEN_CLIP("\"width\":-64", "", ""), "width is -64"},
    {OPEN_CLIP("\"width\":64.5", "", ""), "width is 64.5"},
    {OPEN_CLIP("\"width\":1e300", "", ""), "width is 1e+300"},
    {OPEN_CLIP("\"width\":65600", "", ""), "width is 65600"},
    {OPEN_CLIP("\"width\":true", "", ""), "width is true"},
    {OPEN_CLIP("\"width\":[64]", "", ""), "width is a list"},
    {OPEN_CLIP("\"layers\":0", "", ""), "model_cfg.vision_cfg.layers is 0"},
    {OPEN_CLIP("\"layers\":1025", "", ""), "layers is 1025, expected a whole number from 1 to 1024"},
    {OPEN_CLIP("\"layers\":[3,4,6]", "", ""), "layers is a list, expected the number of blocks of four stages"},
    {OPEN_CLIP("\"layers\":[3,4,6,0]", "", ""), "layers is 0, expected four numbers of blocks"},
    {OPEN_CLIP("\"layers\":[3,4,6,3],\"width\":64,\"image_size\":230", "", ""), "image_size 230, expected an even one and a multiple of 32"},
    {OPEN_CLIP("\"image_size\":0", "", ""), "image_size is 0"},
    {OPEN_CLIP("\"image_size\":200000", "", ""), "image_size is 200000, expected a whole number from 1 to 16384"},
    {OPEN_CLIP("\"image_size\":[224,224]", "", ""), "image_size is a list"},
    {OPEN_CLIP("\"patch_size\":0", "", ""), "patch_size is 0"},
    {OPEN_CLIP("\"patch_size\":448", "", ""), "patch_size is 448, expected a whole number from 1 to 224"},
    {OPEN_CLIP("\"head_width\":80", "", ""), "model_cfg.vision_cfg.head_width is 80, expected a divisor of width, 768"},
    {OPEN_CLIP("\"mlp_ratio\":0", "", ""), "mlp_ratio is 0"},
    {OPEN_CLIP("\"width\":64,\"mlp_ratio\":0.01", "", ""), "mlp_ratio is 0.01, expected one that makes width 64"},
    {OPEN_CLIP("\"width\":65536,\"mlp_ratio\":256", "", ""), "mlp_ratio is 256, expected one that"},
    {OPEN_CLIP("\"attentional_pool\":\"parallel\"", "", ""), "attentional_pool is \"parallel\", which is not supported"},
    {OPEN_CLIP("\"attentional_pool\":true,\"attn_pooler_heads\":7", "", ""), "attn_pooler_heads is 7, expected a divisor"},
    {OPEN_CLIP("\"qk_norm\":true", "", ""), "qk_norm is true, which is not supported"},
    {OPEN_CLIP("\"timm_model_name\":\"convnext_base\"", "", ""), "timm_model_name is \"convnext_base\", a ConvNeXt, which is not"},
    {OPEN_CLIP("\"timm_model_name\":\"vitamin_large\"", "", ""), "a ViTamin, which is not supported"},
    {OPEN_CLIP("\"timm_model_name\":\"vit_base_patch16_siglip_gap_224\"", "", ""), "which is not supported"},
    {OPEN_CLIP("\"timm_model_name\":\"vit_base_patch16_siglip_224\",\"timm_pool\":\"abs_attn\"", "", ""), "timm_pool is \"abs_attn\""},
    {OPEN_CLIP("\"timm_model_name\":\"vit_base_patch16_clip_224\",\"timm_pool\":\"token\",\"timm_model_kwargs\":{\"init_values\":1}", "", ""), "timm_model_kwargs.init_values is 1"},
    {OPEN_CLIP("\"timm_model_name\":\"vit_x\"", "", ""), "timm_model_name is \"vit_x\", which is not supported"},
    {OPEN_CLIP("\"act_kwargs\":{\"approximate\":\"sinh\"}", "", ""), "act_kwargs.approximate is \"sinh\", which is not supported"},
    {OPEN_CLIP("\"norm_kwargs\":{\"bias\":1}", "", ""), "model_cfg.vision_cfg.norm_kwargs.bias is 1"},
    {OPEN_CLIP("\"norm_kwargs\":{\"eps\":0}", "", ""), "model_cfg.vision_cfg.norm_kwargs.eps is 0"},
    {OPEN_CLIP("\"pool_type\":\"none\"", "", ""), "pool_type is \"none\", which is not supported, expected \"tok\""},
    {OPEN_CLIP("\"pool_type\":1", "", ""), "pool_type is 1, expected a string"},
    {OPEN_CLIP("\"pos_embed_type\":\"sin_cos_2d\"", "", ""),
     "pos_embed_type is \"sin_cos_2d\", which is not supported, expected learnable"},
    {OPEN_CLIP("\"some_new_switch\":2", "", ""), "some_new_switch is 2, which is not supported"},
    {OPEN_CLIP("", "\"pool_type\":\"none\"", ""), "model_cfg.text_cfg.pool_type is \"none\", which is not supported, expected"},
    {OPEN_CLIP("", "\"proj_type\":\"mlp\"", ""), "model_cfg.text_cfg.proj_type is \"mlp\""},
    {OPEN_CLIP("", "\"heads\":7", ""), "model_cfg.text_cfg.heads is 7, expected a divisor of width, 512"},
    {OPEN_CLIP("", "\"vocab_size\":0", ""), "model_cfg.text_cfg.vocab_size is 0"},
    {OPEN_CLIP("", "\"vocab_size\":1e9", ""), "vocab_size is 1000000000"},
    {OPEN_CLIP("", "\"context_length\":null,\"layers\":-1", ""), "model_cfg.text_cfg.layers is -1"},
    {OPEN_CLIP("", "", ",\"quick_gelu\":1"), "model_cfg.quick_gelu is 1, expected true or false"},
    {OPEN_CLIP("", "", ",\"multimodal_cfg\":{\"width\":1}"),
     "model_cfg.multimodal_cfg.heads is 8, expected a divisor of width, 1"},
    {OPEN_CLIP("", "", "},\"preprocess_cfg\":{\"mean\":[1,2]"),
     "preprocess_cfg.mean is a list, expected three numbers"},
    {OPEN_CLIP("", "", "},\"preprocess_cfg\":{\"std\":[1,0,1]"), "preprocess_cfg.std is 0, expected three numbers"},
    {OPEN_CLIP("", "", "},\"preprocess_cfg\":{\"std\":[1,1,\"1\"]"), "preprocess_cfg.std is \"1\""},
    {OPEN_CLIP("", "", "},\"maskinv_cfg\":{\"lr\":-1"), "maskinv_cfg.lr is -1"},
    {OPEN_CLIP("", "", "},\"maskinv_cfg\":{\"iters\":1.5"), "maskinv_cfg.iters is 1.5"},
    {OPEN_CLIP("", "", "},\"maskinv_cfg\":{\"layers\":13"),
     "maskinv_cfg.layers is 13, expected a whole number from 0 to 12"},
    {"{\"model_type\":\"siglip2\",\"vision_config\":{}}",
     "model_type is \"siglip2\" (NaFlex, pictures of any shape), which is not supported, expected \"clip\""},
    {"{\"model_type\":\"siglip\",\"text_config\":{\"projection_size\":24}}", "projection_size is 24, expected the image side's width"},
    {"{\"vision_config\":{\"hidden_act\":\"gelu_fast\"}}",
     "vision_config.hidden_act is \"gelu_fast\", which is not supported"},
    {"{\"text_config\":{\"hidden_act\":\"relu\"}}", "text_config.hidden_act is \"relu\""},
    {"{\"vision_config\":[]}", "vision_config is a list, expected an object"},
    {"{\"vision_config\":{\"num_channels\":4}}",
     "vision_config.num_channels is 4, expected a whole number from 3 to 3"},
    {"{\"vision_config\":{\"num_attention_heads\":5}}",
     "vision_config.num_attention_heads is 5, expected a divisor of hidden_size, 768"},
    {"{\"vision_config\":{\"num_attention_heads\":0}}", "vision_config.num_attention_heads is 0"},
    {"{\"vision_config\":{\"layer_norm_eps\":0}}", "vision_config.layer_norm_eps is 0"},
    {"{\"text_config\":{\"hidden_size\":\"512\"}}", "text_config.hidden_size is \"512\""},
    {"{\"vision_config\":{},\"projection_dim\":-1}", "x.json: projection_dim is -1"},
};

static void test_bad_configs(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(bad_configs); i++) {
        clip_config c;
        err e;
        if (parse(bad_configs[i].text, &c, &e)) fail_msg("read: %s", bad_configs[i].text);
        assert_says(e.text, bad_configs[i].wanted);
        assert_memory_equal(e.text, "x.json: ", 8);
    }
}

static bool preprocess(const char *text, clip_config *c, err *e) {
    assert_true(parse("{\"model_type\":\"clip\"}", c, e));
    return config_parse_preprocessor(text, strlen(text), "p.json", c, e);
}

static void test_preprocessor(void **state) {
    (void)state;
    clip_config c;
    err e;
    static const char *const good[] = {
        "{\"crop_size\":224,\"size\":224,\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.25,0.5,0.5]}",
        "{\"crop_size\":{\"height\":224,\"width\":224},\"size\":{\"shortest_edge\":256},\"image_mean\":[0.5,0,0],"
        "\"image_std\":[0.25,1,1]}",
        "{\"size\":{\"height\":224,\"width\":224},\"image_mean\":[0.5,0,0],\"image_std\":[0.25,1,1],\"do_rescale\":"
        "true}"};
    for (size_t i = 0; i < COUNT(good); i++) {
        if (!preprocess(good[i], &c, &e)) fail_msg("%s", e.text);
        assert_true(c.mean[0] == (real).5 && c.std[0] == (real).25);
    }
    static const struct {
        const char *text, *wanted;
    } bad[] = {
        {"{\"size\":336}", "p.json: size is 336, expected the model's image size, 224"},
        {"{\"size\":{\"shortest_edge\":224},\"crop_size\":{\"height\":336,\"width\":336}}", "crop_size is 336"},
        {"{\"size\":{\"height\":224,\"width\":336}}", "p.json: size.width is 336, expected the height"},
        {"{\"size\":{\"height\":224}}", "size.width is missing"},
        {"{\"size\":\"224\"}", "size is \"224\""},
        {"{\"image_mean\":0.5}", "image_mean is 0.5, expected three numbers"},
        {"{\"image_std\":[0,0,0]}", "image_std is 0"},
        {"3", "the document is 3"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(preprocess(bad[i].text, &c, &e));
        assert_says(e.text, bad[i].wanted);
    }
}

/* What config_write writes reads back as the same config, also where int(width*mlp_ratio) is delicate. */
static void test_config_written_and_read(void **state) {
    (void)state;
    static const size_t mlp[] = {4 * 48, 48, 6 * 48, 209, 1, 10000, 191};
    for (size_t i = 0; i < COUNT(mlp) * 2; i++) {
        clip_config c, back;
        err e;
        assert_true(parse(OPEN_CLIP("\"width\":48,\"head_width\":12,\"layers\":3,\"image_size\":32,\"patch_size\":8",
                                    "\"width\":48", ""),
                          &c, &e));
        c.vision.mlp = mlp[i % COUNT(mlp)];
        c.text.mlp = mlp[(i + 1) % COUNT(mlp)];
        c.act_vision = c.act_text = i % 2 ? ACT_QUICK_GELU : ACT_GELU;
        c.pool = i % 3 ? CLIP_POOL_MEAN : CLIP_POOL_CLASS;
        c.text.eps = i % 4 == 1 ? (real)1e-6f : (real)1e-5;
        c.mean[1] = (real)0.1f;
        if (i > 2) c.invert.lr = (real)0.3f, c.invert.alpha = (real)0.7f, c.invert.iters = 30, c.invert.layers = 2;
        FILE *f = fopen(in_folder("c.json"), "wb");
        assert_true(config_write(f, &c, NULL, &e));
        fclose(f);
        size_t length;
        char *text = slurp(in_folder("c.json"), &length);
        if (!config_parse(text, length, "c.json", &back, &e)) fail_msg("%s\n%s", e.text, text);
        mem_free(text);
        assert_int_equal(back.vision.mlp, c.vision.mlp);
        assert_int_equal(back.text.mlp, c.text.mlp);
        assert_int_equal(back.vision.heads, c.vision.heads);
        assert_int_equal(back.text.heads, c.text.heads);
        assert_int_equal(back.vision.layers, c.vision.layers);
        assert_int_equal(back.text.layers, c.text.layers);
        assert_int_equal(back.act_text, c.act_text);
        assert_int_equal(back.pool, c.pool);
        assert_int_equal(back.invert.iters, c.invert.iters);
        assert_int_equal(back.invert.layers, c.invert.layers);
        assert_true((float)back.invert.lr == (float)c.invert.lr && (float)back.invert.alpha == (float)c.invert.alpha);
        assert_true((float)back.text.eps == (float)c.text.eps && (float)back.vision.eps == (float)c.vision.eps);
        for (int k = 0; k < 3; k++)
            assert_true((float)back.mean[k] == (float)c.mean[k] && (float)back.std[k] == (float)c.std[k]);
    }
}

/* ---- weights --------------------------------------------------------------------------------------------- */
static float number(const clip_weight *w, size_t row, size_t col) {
    size_t i = w->transposed ? col * w->rows + row : row * w->cols + col;
    const unsigned char *p = w->data;
    uint16_t h;
    float x;
    if (w->type == CLIP_F32) return memcpy(&x, p + 4 * i, 4), x;
    memcpy(&h, p + 2 * i, 2);
    return w->type == CLIP_F16 ? half_to_float(h) : st_from_bfloat(h);
}

typedef struct {
    clip_weight w[256];
    size_t rows[256], cols[256], count;
} weight_list;

static bool collect(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    weight_list *l = arg;
    (void)kind, (void)layer;
    assert_true(l->count < 256);
    assert_non_null(w->data);
    assert_int_equal(w->rows, rows);
    assert_int_equal(w->cols, cols);
    l->w[l->count++] = *w;
    return true;
}

static weight_list *weights_of(const checkpoint *c) {
    weight_list *l = calloc(1, sizeof *l);
    clip_model m = *checkpoint_model(c);
    assert_true(clip_each_weight(&m, collect, l));
    return l;
}

/* The same numbers, `round` applied to the first model's. Not one may differ. */
static void assert_same_weights(const checkpoint *a, const checkpoint *b, bool round) {
    weight_list *x = weights_of(a), *y = weights_of(b);
    assert_int_equal(x->count, y->count);
    for (size_t i = 0; i < x->count; i++) {
        assert_int_equal(x->w[i].rows, y->w[i].rows);
        assert_int_equal(x->w[i].cols, y->w[i].cols);
        for (size_t r = 0; r < x->w[i].rows; r++)
            for (size_t c = 0; c < x->w[i].cols; c++) {
                float p = number(&x->w[i], r, c), q = number(&y->w[i], r, c);
                if (round) p = half_to_float(st_to_half(p));
                if (!(p == q)) fail_msg("weight %zu at %zu, %zu: %g and %g", i, r, c, (double)p, (double)q);
            }
    }
    free(x);
    free(y);
}

static void test_fixtures_open(void **state) {
    (void)state;
    static const struct {
        const char *path, *layout;
        size_t width, layers, heads, embed, image, patch;
        act_kind act;
        clip_type type;
    } want[] = {
        {HF, "Hugging Face", 32, 3, 2, 24, 32, 8, ACT_QUICK_GELU, CLIP_F32},
        {OC, "open_clip", 32, 3, 2, 24, 32, 8, ACT_QUICK_GELU, CLIP_F16},
        {BF, "open_clip", 48, 4, 3, 32, 48, 16, ACT_GELU, CLIP_BF16},
    };
    for (size_t i = 0; i < COUNT(want); i++) {
        checkpoint *c = opened(want[i].path);
        const clip_model *m = checkpoint_model(c);
        err e = {0};
        assert_string_equal(checkpoint_layout(c), want[i].layout);
        assert_string_equal(checkpoint_name(c), want[i].path);
        assert_int_equal(m->config.vision.width, want[i].width);
        assert_int_equal(m->config.vision.layers, want[i].layers);
        assert_int_equal(m->config.vision.heads, want[i].heads);
        assert_int_equal(m->config.embed, want[i].embed);
        assert_int_equal(m->config.image, want[i].image);
        assert_int_equal(m->config.patch, want[i].patch);
        assert_int_equal(m->config.act_vision, want[i].act);
        assert_int_equal(m->blocks[1].v.type, want[i].type);
        assert_int_equal(m->config.vocab, 600);
        assert_true(fabs((double)number(&m->logit_scale, 0, 0) - log(100)) < 0.02);
        assert_true(checkpoint_check_finite(c, &e));
        checkpoint_free(c);
    }
}

/* nano-hf-f32 and nano-openclip-f16 are one model under two families' names: q, k, v apart or together, projections
 * one way or the other. Every weight must agree to the last bit of F16. */
static void test_both_layouts_are_one_model(void **state) {
    (void)state;
    checkpoint *a = opened(HF), *b = opened(OC);
    assert_same_weights(a, b, true);
    char name[CHECKPOINT_NAME];
    checkpoint_weight_name(a, (clip_kind)(W_TEXT_BLOCK + 4), 1, name);
    assert_string_equal(name, "text_model.encoder.layers.1.self_attn.k_proj.weight");
    checkpoint_weight_name(b, (clip_kind)(W_BLOCK + 7), 2, name);
    assert_string_equal(name, "visual.transformer.resblocks.2.attn.in_proj_bias");
    checkpoint_free(a);
    checkpoint_free(b);
}

/* A copy of a checkpoint's tensors into the folder, each as `change` likes it; false leaves it out. */
typedef bool change(st_tensor *t, const void *how);

static void rewrite(const char *from, const char *file, change *how, const void *arg) {
    err e = {0};
    safetensors *s = st_open(from, &e);
    assert_non_null(s);
    st_tensor *t = calloc(st_count(s), sizeof *t);
    char(*names)[128] = calloc(st_count(s), sizeof *names);
    size_t n = 0;
    for (size_t i = 0; i < st_count(s); i++) {
        t[n] = *st_at(s, i);
        snprintf(names[n], sizeof *names, "%s", t[n].name);
        t[n].name = names[n];
        if (how(&t[n], arg)) n++;
    }
    if (!st_write(in_folder(file), t, n, NULL, &e)) fail_msg("%s", e.text);
    st_free(s);
    free(t);
    free(names);
}

static bool leave_out(st_tensor *t, const void *name) { return strcmp(t->name, name) != 0; }

static bool flatten(st_tensor *t, const void *name) {
    if (strcmp(t->name, name) == 0) t->shape[0] = st_size(t), t->rank = 1;
    return true;
}

static bool as_integers(st_tensor *t, const void *name) {
    if (strcmp(t->name, name) == 0) t->type = strcmp(t->type, "F16") == 0 ? "I16" : "U32";
    return true;
}

static void test_missing_and_wrong_tensors(void **state) {
    (void)state;
    static const struct {
        const char *from, *config, *weights, *name, *shape, *flat;
    } cases[] = {
        {OC, "open_clip_config.json", "open_clip_model.safetensors", "visual.proj", "[32, 24]", "[768]"},
        {OC, "open_clip_config.json", "open_clip_model.safetensors",
         "visual.transformer.resblocks.1.attn.in_proj_weight", "[96, 32]", "[3072]"},
        {OC, "open_clip_config.json", "open_clip_model.safetensors", "transformer.resblocks.0.mlp.c_fc.weight",
         "[64, 16]", "[1024]"},
        {OC, "open_clip_config.json", "open_clip_model.safetensors", "text_projection", "[16, 24]", "[384]"},
        {OC, "open_clip_config.json", "open_clip_model.safetensors", "logit_scale", "[]", NULL},
        {HF, "config.json", "model.safetensors", "vision_model.encoder.layers.2.self_attn.v_proj.weight", "[32, 32]",
         "[1024]"},
        {HF, "config.json", "model.safetensors", "vision_model.pre_layrnorm.bias", "[32]", NULL},
        {HF, "config.json", "model.safetensors", "visual_projection.weight", "[24, 32]", "[768]"},
        {HF, "config.json", "model.safetensors", "text_model.embeddings.token_embedding.weight", "[600, 16]", "[9600]"},
        {HF, "config.json", "model.safetensors", "vision_model.embeddings.position_embedding.weight", "[17, 32]",
         "[544]"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char from[256], wanted[400];
        empty_folder();
        snprintf(from, sizeof from, "%s/%s", cases[i].from, cases[i].config);
        copy(from, cases[i].config);
        snprintf(from, sizeof from, "%s/%s", cases[i].from, cases[i].weights);
        rewrite(from, cases[i].weights, leave_out, cases[i].name);
        snprintf(wanted, sizeof wanted, "%s: |tensor \"%s\" is missing, expected one of shape %s", cases[i].weights,
                 cases[i].name, cases[i].shape);
        assert_refused(folder, wanted);
        rewrite(from, cases[i].weights, as_integers, cases[i].name);
        snprintf(wanted, sizeof wanted, "tensor \"%s\" has dtype |expected F32, F16, BF16 or F64", cases[i].name);
        assert_refused(folder, wanted);
        rewrite(from, cases[i].weights, flatten, cases[i].name);
        snprintf(wanted, sizeof wanted, "tensor \"%s\" has shape %s, expected %s", cases[i].name,
                 cases[i].flat ? cases[i].flat : "", cases[i].shape);
        if (cases[i].flat)
            assert_refused(folder, wanted);
        else
            checkpoint_free(opened(folder)); /* a scalar as [1], a vector: still the same */
    }
    empty_folder();
    copy(HF "/config.json", "config.json");
    rewrite(HF "/model.safetensors", "model.safetensors", leave_out, "vision_model.embeddings.patch_embedding.weight");
    assert_refused(folder, "no CLIP ViT|visual.conv1.weight|vision_model.embeddings.patch_embedding.weight");
}

/* The config says another shape than the tensors have. */
static void test_config_and_tensors_disagree(void **state) {
    (void)state;
    copy(OC "/open_clip_model.safetensors", "open_clip_model.safetensors");
    put_text("open_clip_config.json",
             OPEN_CLIP("\"image_size\":32,\"layers\":4,\"width\":32,\"patch_size\":8,\"head_width\":16",
                       "\"vocab_size\":600,\"width\":16,\"heads\":2,\"layers\":2", ""));
    assert_refused(folder,
                   "tensor \"visual.transformer.resblocks.3.ln_1.weight\" is missing, expected one of shape [32]");
    put_text("open_clip_config.json",
             OPEN_CLIP("\"image_size\":48,\"layers\":3,\"width\":32,\"patch_size\":8,\"head_width\":16",
                       "\"vocab_size\":600,\"width\":16,\"heads\":2,\"layers\":2", ""));
    assert_refused(folder, "tensor \"visual.positional_embedding\" has shape [17, 32], expected [37, 32]");
    put_text("open_clip_config.json",
             OPEN_CLIP("\"image_size\":32,\"layers\":3,\"width\":32,\"patch_size\":8,\"head_width\":16,\"mlp_ratio\":3",
                       "\"vocab_size\":600,\"width\":16,\"heads\":2,\"layers\":2", ""));
    assert_refused(folder,
                   "tensor \"visual.transformer.resblocks.0.mlp.c_fc.weight\" has shape [128, 32], expected [96, 32]");
}

static bool under_text(st_tensor *t, const void *unused) {
    (void)unused;
    static char room[512][128];
    static size_t turn;
    if (strncmp(t->name, "visual.", 7) == 0 || strcmp(t->name, "logit_scale") == 0) return true;
    char *name = room[turn++ % 512];
    snprintf(name, sizeof room[0], "text.%.100s", t->name);
    t->name = name;
    return true;
}

static void test_text_prefix(void **state) {
    (void)state;
    copy(OC "/open_clip_config.json", "open_clip_config.json");
    rewrite(OC "/open_clip_model.safetensors", "open_clip_model.safetensors", under_text, NULL);
    checkpoint *a = opened(OC), *b = opened(folder);
    assert_same_weights(a, b, false);
    char name[CHECKPOINT_NAME];
    checkpoint_weight_name(b, W_TEXT_PROJ, 0, name);
    assert_string_equal(name, "text.text_projection");
    checkpoint_weight_name(b, W_LOGIT_SCALE, 0, name);
    assert_string_equal(name, "logit_scale");
    checkpoint_free(a);
    checkpoint_free(b);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */
static void test_which_files_are_taken(void **state) {
    (void)state;
    assert_refused(in_folder("nothing"), "nothing: no such file or folder");
    assert_refused(folder, "no model in this folder|open_clip_config.json|found none of them");
    copy(HF "/config.json", "config.json");
    assert_refused(folder, "no model in this folder|found config.json");
    remove(in_folder("config.json"));
    copy(HF "/model.safetensors", "model.safetensors");
    assert_refused(folder, "model.safetensors: its config is missing: expected open_clip_config.json or config.json");
    assert_refused(in_folder("model.safetensors"),
                   "model.safetensors: its config is missing: expected open_clip_config.json or config.json");
    copy(HF "/config.json", "config.json");
    checkpoint_free(opened(folder));
    checkpoint_free(opened(in_folder("model.safetensors")));
    /* open_clip's pair goes first; a file finds the config of its own layout */
    copy(BF "/open_clip_config.json", "open_clip_config.json");
    copy(BF "/open_clip_model.safetensors", "open_clip_model.safetensors");
    checkpoint *c = opened(folder);
    assert_int_equal(checkpoint_model(c)->config.vision.width, 48);
    checkpoint_free(c);
    c = opened(in_folder("model.safetensors"));
    assert_string_equal(checkpoint_layout(c), "Hugging Face");
    assert_int_equal(checkpoint_model(c)->config.vision.width, 32);
    checkpoint_free(c);
    put_text("open_clip_config.json", "{");
    assert_refused(folder, "open_clip_config.json: not JSON");
    put_text("open_clip_config.json", "");
    assert_refused(in_folder("open_clip_model.safetensors"),
                   "open_clip_config.json: not JSON: line 1, column 1: found the end");
    copy(HF "/config.json", "open_clip_config.json"); /* the form counts, not the file's name */
    remove(in_folder("open_clip_model.safetensors"));
    remove(in_folder("config.json"));
    checkpoint_free(opened(folder));
}

static void test_preprocessor_is_read(void **state) {
    (void)state;
    copy(HF "/config.json", "config.json");
    copy(HF "/model.safetensors", "model.safetensors");
    put_text("preprocessor_config.json", "{\"image_mean\":[0.5,0.5,0.5],\"size\":32}");
    checkpoint *c = opened(folder);
    assert_true(checkpoint_model(c)->config.mean[1] == (real)0.5);
    checkpoint_free(c);
    put_text("preprocessor_config.json", "{\"crop_size\":224}");
    assert_refused(folder, "preprocessor_config.json: crop_size is 224, expected the model's image size, 32");
}

/* ---- shards ------------------------------------------------------------------------------------------------------ */
static bool half_of(st_tensor *t, const void *which) {
    return (strncmp(t->name, "vision", 6) == 0) == *(const bool *)which;
}

static void put_index(const char *replace, const char *by) {
    err e = {0};
    safetensors *s = st_open(HF "/model.safetensors", &e);
    FILE *f = fopen(in_folder("model.safetensors.index.json"), "wb");
    fprintf(f, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (size_t i = 0; i < st_count(s); i++) {
        const char *name = st_at(s, i)->name,
                   *file = strncmp(name, "vision", 6) == 0 ? "one.safetensors" : "two.safetensors";
        fprintf(f, "%s\"%s\":\"%s\"", i ? "," : "", name, replace && strcmp(name, replace) == 0 ? by : file);
    }
    fprintf(f, "}}");
    fclose(f);
    st_free(s);
}

static void test_shards(void **state) {
    (void)state;
    bool vision = true, rest = false;
    copy(HF "/config.json", "config.json");
    rewrite(HF "/model.safetensors", "one.safetensors", half_of, &vision);
    rewrite(HF "/model.safetensors", "two.safetensors", half_of, &rest);
    put_index(NULL, NULL);
    checkpoint *a = opened(HF), *b = opened(folder), *c = opened(in_folder("model.safetensors.index.json"));
    assert_int_equal(tensors_files(checkpoint_tensors(b)), 2);
    assert_int_equal(tensors_count(checkpoint_tensors(b)), tensors_count(checkpoint_tensors(a)));
    assert_same_weights(a, b, false);
    assert_same_weights(a, c, false);
    checkpoint_free(a);
    checkpoint_free(b);
    checkpoint_free(c);
    static const struct {
        const char *by, *wanted;
    } bad[] = {
        {"../two.safetensors", "weight_map names the file \"../two.safetensors\", expected one in the same folder"},
        {"/etc/passwd", "\"/etc/passwd\", expected one in the same folder"},
        {"..", "expected one in the same folder"},
        {"a\\\\b", "expected one in the same folder"},
        {"", "expected one in the same folder"},
        {"three.safetensors", "model.safetensors.index.json|three.safetensors"},
        {"two.safetensors", "two.safetensors: tensor \"visual_projection.weight2\" is missing|weight_map"},
    };
    for (size_t i = 0; i + 1 < COUNT(bad); i++) {
        put_index("visual_projection.weight", bad[i].by);
        assert_refused(folder, bad[i].wanted);
    }
    put_index("visual_projection.weight", "one.safetensors");
    assert_refused(folder, "one.safetensors: tensor \"visual_projection.weight\" is missing, weight_map of");
    static const struct {
        const char *text, *wanted;
    } index[] = {
        {"[]", "index.json: expected an object with weight_map"},
        {"{}", "index.json: weight_map is missing"},
        {"{\"weight_map\":{}}", "weight_map is an object, expected an object that is not empty"},
        {"{\"weight_map\":[]}", "weight_map is a list"},
        {"{\"weight_map\":{\"logit_scale\":1}}", "weight_map.logit_scale is 1, expected a file's name"},
        {"{\"weight_map\":{\"logit_scale\":\"two.safetensors\",\"logit_scale\":\"two.safetensors\"}}",
         "weight_map has tensor \"logit_scale\" twice"},
        {"{\"weight_map\":{\"logit_scale\":\"two.safetensors\"}}", "no CLIP ViT"},
        {"{", "not JSON"},
    };
    for (size_t i = 0; i < COUNT(index); i++) {
        put_text("model.safetensors.index.json", index[i].text);
        assert_refused(folder, index[i].wanted);
    }
}

/* ---- numbers that are none ------------------------------------------------------------------------------------------
 */
typedef struct {
    const char *name;
    size_t at;
    uint32_t bits;
} spoiling;

static bool spoil(st_tensor *t, const void *arg) {
    static unsigned char room[1 << 18];
    const spoiling *s = arg;
    if (strcmp(t->name, s->name) != 0) return true;
    size_t each = strcmp(t->type, "F32") == 0 ? 4 : 2;
    assert_true(t->bytes <= sizeof room);
    memcpy(room, t->data, t->bytes);
    memcpy(room + s->at * each, &s->bits, each);
    t->data = room;
    return true;
}

static void test_finite(void **state) {
    (void)state;
    static const struct {
        const char *from, *config, *weights;
        spoiling s;
        const char *wanted;
    } cases[] = {
        {HF,
         "config.json",
         "model.safetensors",
         {"text_model.embeddings.token_embedding.weight", 9599, 0x7fc00000},
         "number 9599 is NaN"},
        {HF, "config.json", "model.safetensors", {"visual_projection.weight", 0, 0xff800000}, "number 0 is infinite"},
        {HF,
         "config.json",
         "model.safetensors",
         {"text_model.embeddings.token_embedding.weight", 4097, 0x7f7fffff},
         NULL},
        {OC,
         "open_clip_config.json",
         "open_clip_model.safetensors",
         {"visual.transformer.resblocks.0.attn.in_proj_weight", 2500, 0x7c01},
         "number 2500 is NaN"},
        {OC,
         "open_clip_config.json",
         "open_clip_model.safetensors",
         {"logit_scale", 0, 0xfc00},
         "number 0 is infinite"},
        {OC, "open_clip_config.json", "open_clip_model.safetensors", {"visual.proj", 767, 0x7bff}, NULL},
        {BF,
         "open_clip_config.json",
         "open_clip_model.safetensors",
         {"ln_final.bias", 31, 0x7f80},
         "number 31 is infinite"},
        {BF,
         "open_clip_config.json",
         "open_clip_model.safetensors",
         {"visual.conv1.weight", 3333, 0xffff},
         "number 3333 is NaN"},
        {BF,
         "open_clip_config.json",
         "open_clip_model.safetensors",
         {"visual.conv1.weight", 3333, 0x7c00},
         NULL}, /* F16's infinity */
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char from[256];
        err e = {0};
        empty_folder();
        snprintf(from, sizeof from, "%s/%s", cases[i].from, cases[i].config);
        copy(from, cases[i].config);
        snprintf(from, sizeof from, "%s/%s", cases[i].from, cases[i].weights);
        rewrite(from, cases[i].weights, spoil, &cases[i].s);
        checkpoint *c = opened(folder);
        assert_int_equal(checkpoint_check_finite(c, &e), cases[i].wanted == NULL);
        if (cases[i].wanted) {
            assert_says(e.text, cases[i].s.name);
            assert_says(e.text, cases[i].wanted);
        }
        checkpoint_free(c);
    }
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------------ */
/* The Hugging Face F32 model written in open_clip's layout as F16 is the open_clip F16 fixture, byte for byte. */
static void test_write_f16_is_the_fixture(void **state) {
    (void)state;
    checkpoint *c = opened(HF);
    clip_model m = *checkpoint_model(c);
    err e = {0};
    if (!checkpoint_write(folder, &m, "F16", &e)) fail_msg("%s", e.text);
    safetensors *a = st_open(OC "/open_clip_model.safetensors", &e),
                *b = st_open(in_folder("open_clip_model.safetensors"), &e);
    assert_non_null(b);
    assert_int_equal(st_count(a), st_count(b));
    for (size_t i = 0; i < st_count(a); i++) {
        const st_tensor *x = st_at(a, i), *y = st_find(b, x->name);
        if (!y) fail_msg("%s is missing", x->name);
        assert_string_equal(x->type, y->type);
        assert_int_equal(x->rank, y->rank);
        assert_memory_equal(x->shape, y->shape, x->rank * sizeof *x->shape);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    st_free(a);
    st_free(b);
    checkpoint *back = opened(folder);
    assert_string_equal(checkpoint_layout(back), "open_clip");
    assert_int_equal(checkpoint_model(back)->config.act_vision, ACT_QUICK_GELU);
    assert_same_weights(c, back, true);
    checkpoint_free(back);
    checkpoint_free(c);
}

static void test_write_f32_of_all(void **state) {
    (void)state;
    static const char *const all[] = {HF, OC, BF};
    for (size_t i = 0; i < COUNT(all); i++) {
        checkpoint *c = opened(all[i]);
        clip_model m = *checkpoint_model(c);
        err e = {0};
        m.config.pool = CLIP_POOL_MEAN;
        m.config.invert.layers = 2;
        m.config.invert.lr = (real)0.25;
        if (!checkpoint_write(in_folder("deep/er"), &m, "F32", &e)) fail_msg("%s", e.text);
        checkpoint *back = opened(in_folder("deep/er"));
        assert_same_weights(c, back, false);
        assert_int_equal(checkpoint_model(back)->config.pool, CLIP_POOL_MEAN);
        assert_int_equal(checkpoint_model(back)->config.invert.layers, 2);
        assert_true(checkpoint_model(back)->config.invert.lr == (real)0.25);
        checkpoint_free(back);
        checkpoint_free(c);
        remove(in_folder("deep/er/open_clip_model.safetensors"));
        remove(in_folder("deep/er/open_clip_config.json"));
        rmdir(in_folder("deep/er"));
        rmdir(in_folder("deep"));
    }
}

/* A weight in training is its leaf: those numbers are written, not the stored ones. */
static void test_write_leaf_and_refusals(void **state) {
    (void)state;
    checkpoint *c = opened(OC);
    clip_model m = *checkpoint_model(c);
    err e = {0};
    real *numbers = calloc(m.proj.rows * m.proj.cols, sizeof *numbers);
    ag_tensor leaf = {.data = numbers, .batch = 1, .rows = m.proj.cols, .cols = m.proj.rows}; /* as stored: [D,E] */
    for (size_t i = 0; i < m.proj.rows * m.proj.cols; i++) numbers[i] = (real)i;
    m.proj.leaf = &leaf;
    if (!checkpoint_write(folder, &m, "F16", &e)) fail_msg("%s", e.text);
    checkpoint *back = opened(folder);
    const clip_weight *w = &checkpoint_model(back)->proj;
    for (size_t r = 0; r < w->rows; r++)
        for (size_t k = 0; k < w->cols; k++) assert_true(number(w, r, k) == (float)numbers[k * w->rows + r]);
    checkpoint_free(back);

    numbers[5] = 65519; /* rounds to 65504 */
    assert_true(checkpoint_write(folder, &m, "F16", &e));
    size_t before, after;
    char *first = slurp(in_folder("open_clip_model.safetensors"), &before);
    numbers[5] = 65520;
    assert_false(checkpoint_write(folder, &m, "F16", &e));
    assert_says(e.text, "open_clip_model.safetensors: tensor \"visual.proj\": number 5 is 65520, beyond F16's largest");
    numbers[5] = NAN;
    assert_false(checkpoint_write(folder, &m, "F32", &e));
    assert_says(e.text, "tensor \"visual.proj\": number 5 is |nan, expected finite");
    m.config.act_text = ACT_GELU;
    numbers[5] = 0;
    assert_false(checkpoint_write(folder, &m, "F16", &e));
    assert_says(e.text, "image tower uses quick_gelu and the text tower gelu");
    m.config.act_text = m.config.act_vision;
    assert_false(checkpoint_write(folder, &m, "F64", &e));
    assert_says(e.text, "F16, F32 or BF16, not \"F64\"");
    m.logit_scale = (clip_weight){0};
    assert_false(checkpoint_write(folder, &m, "F16", &e));
    assert_says(e.text, "has no weight \"logit_scale\"");
    put_text("file", "x");
    assert_false(checkpoint_write(in_folder("file"), checkpoint_model(c) == NULL ? NULL : &m, "F16", &e));
    assert_says(e.text, "file");
    /* after every refusal the model that was there is there, and nothing besides */
    char *second = slurp(in_folder("open_clip_model.safetensors"), &after);
    assert_int_equal(before, after);
    assert_memory_equal(first, second, before);
    mem_free(first);
    mem_free(second);
    checkpoint_free(opened(folder));
    DIR *d = opendir(folder);
    for (struct dirent *f = readdir(d); f; f = readdir(d)) assert_null(strstr(f->d_name, "tmp"));
    closedir(d);
    free(numbers);
    checkpoint_free(c);
}

/* ---- merges, memory, the model inside
 * ------------------------------------------------------------------------------------ */
static void put_merges(size_t count) {
    FILE *f = fopen(in_folder("merges.txt"), "wb");
    fprintf(f, "#version: 0.2\n");
    for (size_t i = 0; i < count; i++) fprintf(f, "%c %c</w>\n", (char)('a' + i / 26), (char)('a' + i % 26));
    fclose(f);
}

static void test_merges(void **state) {
    (void)state;
    err e = {0};
    copy(OC "/open_clip_config.json", "open_clip_config.json");
    copy(OC "/open_clip_model.safetensors", "open_clip_model.safetensors");
    checkpoint *c = opened(folder);
    assert_null(checkpoint_tokenizer(c, &e));
    assert_says(e.text, "merges are missing: expected merges.txt, bpe_simple_vocab_16e6.txt (or .gz), tokenizer.json");
    put("bpe_simple_vocab_16e6.txt.gz", "\x1f\x8b", 2);
    assert_null(checkpoint_tokenizer(c, &e));
    assert_says(e.text, "damaged");
    put_merges(20);
    assert_null(checkpoint_tokenizer(c, &e)); /* 600 - 514 = 86 are needed */
    assert_true(e.text[0] != 0);
    put_merges(90); /* CLIP's own file holds more than are used, too */
    const tokenizer *words = checkpoint_tokenizer(c, &e);
    if (!words) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(words), 600);
    assert_ptr_equal(checkpoint_tokenizer(c, &e), words);
    checkpoint_free(c);
    put_text("open_clip_config.json",
             OPEN_CLIP("\"image_size\":32,\"layers\":3,\"width\":32,\"patch_size\":8,\"head_width\":16",
                       "\"vocab_size\":514,\"width\":16,\"heads\":2,\"layers\":2", ""));
    assert_refused(folder, "tensor \"token_embedding.weight\" has shape [600, 16], expected [514, 16]");
}

static void test_model_from_memory(void **state) {
    (void)state;
    size_t weights, config;
    char *w = slurp(OC "/open_clip_model.safetensors", &weights), *j = slurp(OC "/open_clip_config.json", &config);
    err e = {0};
    checkpoint *c = checkpoint_parse("inside", (checkpoint_bytes){w, weights}, (checkpoint_bytes){j, config},
                                     (checkpoint_bytes){0}, &e);
    if (!c) fail_msg("%s", e.text);
    checkpoint *same = opened(OC);
    assert_same_weights(c, same, false);
    assert_string_equal(checkpoint_name(c), "inside");
    assert_null(checkpoint_tokenizer(c, &e));
    assert_says(e.text, "inside: the tokenizer's merges are missing");
    checkpoint_free(same);
    checkpoint_free(c);
    assert_null(checkpoint_parse("inside", (checkpoint_bytes){w, weights - 1}, (checkpoint_bytes){j, config},
                                 (checkpoint_bytes){0}, &e));
    assert_says(e.text, "inside: ");
    assert_null(checkpoint_parse("inside", (checkpoint_bytes){w, weights}, (checkpoint_bytes){j, config / 2},
                                 (checkpoint_bytes){0}, &e));
    assert_says(e.text, "inside: not JSON");
    mem_free(w);
    mem_free(j);
    builtin_model b;
    c = checkpoint_builtin(&e);
    assert_int_equal(builtin_model_get(&b), c != NULL);
    if (!c) assert_says(e.text, "this build has no model inside");
    if (c && !checkpoint_tokenizer(c, &e)) fail_msg("%s", e.text);
    if (c && !checkpoint_check_finite(c, &e)) fail_msg("%s", e.text);
    checkpoint_free(c);
}

/* Every allocation fails once, one after another: an error each time, and in the end a model. */
static void test_no_memory(void **state) {
    (void)state;
    bool vision = true, rest = false;
    copy(HF "/config.json", "config.json");
    put_text("preprocessor_config.json", "{\"image_mean\":[0.5,0.5,0.5],\"size\":32}");
    rewrite(HF "/model.safetensors", "one.safetensors", half_of, &vision);
    rewrite(HF "/model.safetensors", "two.safetensors", half_of, &rest);
    put_index(NULL, NULL);
    checkpoint *c = NULL;
    size_t n = 1;
    for (; !c && n < 100000; n += n < 64 ? 1 : 7) {
        err e = {0};
        mem_fail_after(n);
        c = checkpoint_open(folder, &e);
        mem_fail_after(0);
        if (!c) assert_says(e.text, "memory");
    }
    assert_true(c != NULL && n > 20);
    clip_model m = *checkpoint_model(c);
    bool written = false;
    for (n = 1; !written && n < 100; n++) {
        err e = {0};
        mem_fail_after(n);
        written = checkpoint_write(folder, &m, "F16", &e);
        mem_fail_after(0);
        if (!written) assert_says(e.text, "memory");
    }
    assert_true(written && n > 2);
    checkpoint_free(c);
}

int main(void) {
    mem_hook_cjson();
#define TEST(f) cmocka_unit_test_setup(f, each_begin)
    const struct CMUnitTest tests[] = {
        TEST(test_broken_headers),
        TEST(test_broken_lengths),
        TEST(test_valid_headers),
        TEST(test_cut_and_changed_files),
        TEST(test_half_exact_both_ways),
        TEST(test_half_rounds_to_nearest_even),
        TEST(test_write_and_read_back),
        TEST(test_write_refuses),
        TEST(test_json),
        TEST(test_config_defaults),
        TEST(test_config_published_forms),
        TEST(test_bad_configs),
        TEST(test_preprocessor),
        TEST(test_config_written_and_read),
        TEST(test_fixtures_open),
        TEST(test_both_layouts_are_one_model),
        TEST(test_missing_and_wrong_tensors),
        TEST(test_config_and_tensors_disagree),
        TEST(test_text_prefix),
        TEST(test_which_files_are_taken),
        TEST(test_preprocessor_is_read),
        TEST(test_shards),
        TEST(test_finite),
        TEST(test_write_f16_is_the_fixture),
        TEST(test_write_f32_of_all),
        TEST(test_write_leaf_and_refusals),
        TEST(test_merges),
        TEST(test_model_from_memory),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, folder_begin, folder_end);
}
