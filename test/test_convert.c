/* test_convert.c - maskinv convert: every container as safetensors in open_clip's layout, which then gives the same
 * embeddings of the same pictures and texts; and nothing is lost by a bad place to write to. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "x_cli.h"
#include "files/zip.h"
#include "x_fixture.h"

/* Folder or file, what stands before its expected numbers' names, and whether its tokenizer lies beside it. */
static const struct { const char *model, *prefix; bool speaks; } ROWS[] = {
    {"siglip-hf", "", true}, {"siglip2-hf-sharded", "", true}, {"siglip-openclip", "", true},
    {"siglip-bigvision-npz", "", true}, {"coca-openclip-bin", "", false}, {"eva02-openclip", "", false},
    {"eva02-original-pt", "", false}, {"eva01-openclip", "", true}, {"eva02e-openclip", "", false},
    {"clipa-openclip", "", true}, {"resnet-openclip", "", false}, {"resnet-openai-torchscript", "", false},
    {"vit-openai-torchscript", "", false}, {"longclip-pt", "", false}, {"alphaclip-pth", "", false},
    {"openclip-train-pt", "", false}, {"clip-hf-bin", "", false}, {"metaclip2-hf", "", true},
    {"layerscale-openclip", "", false}, {"timm-vit-openclip", "", false}, {"pe-core-openclip", "", false},
    {"clip-gguf/tiny_ggml-model-f16.gguf", "f16.", true}, {"clip-gguf/tiny_ggml-model-q4_0.gguf", "q4_0.", true},
    {"clip-gguf/tiny_ggml-model-q4_1.gguf", "q4_1.", true}, {"clip-gguf/tiny_ggml-model-q5_0.gguf", "q5_0.", true},
    {"clip-gguf/tiny_ggml-model-q5_1.gguf", "q5_1.", true}, {"clip-gguf/tiny_ggml-model-q8_0.gguf", "q8_0.", true},
};
enum { MODELS = sizeof ROWS / sizeof *ROWS };

/* What tokenizers treat differently: case, punctuation, entities, accents, what NFKC folds, blanks. */
static const char TEXT[] = "A photo_of a DOG's  tail & caf&eacute; <b>! \xC3\xA9t\xC3\xA9 \xEF\xAC\x81ne";

static void model_path(size_t row, char path[300]) { snprintf(path, 300, DATA "checkpoints/%s", ROWS[row].model); }

/* The fixture's own ids, "1,2,3". */
static void ids_of(size_t row, char out[2000]) {
    char path[300], name[40];
    err e = {0};
    snprintf(path, sizeof path, DATA "checkpoints/%.*s/expected.safetensors", (int)strcspn(ROWS[row].model, "/"), ROWS[row].model);
    snprintf(name, sizeof name, "%stext.ids", ROWS[row].prefix);
    safetensors *s = st_open(path, &e);
    const st_tensor *t = s ? st_find(s, name) : NULL;
    if (!t) fail_msg("%s: no %s", path, name);
    for (size_t i = 0, at = 0; i < st_size(t); i++) {
        int64_t id;
        memcpy(&id, t->data + 8 * i, sizeof id);
        at += (size_t)snprintf(out + at, 2000 - at, i ? ",%d" : "%d", (int)id);
        assert_true(at < 2000);
    }
    st_free(s);
}

static npy_array embedded(const char *model, const char *how, const char *value) {
    if (run("embed", "-m", model, how, value, "-o", scratch("e.npy"), NULL) != 0) fail_msg("%s", said.err);
    return array_at(scratch("e.npy"));
}

/* Within `most` of the largest number. */
static void assert_same(const char *a, const char *b, const char *how, const char *value, double most) {
    npy_array x = embedded(a, how, value), y = embedded(b, how, value);
    double largest = 0, off = 0;
    assert_int_equal(x.rank, y.rank);
    assert_memory_equal(x.shape, y.shape, x.rank * sizeof *x.shape);
    for (size_t i = 0; i < x.shape[0] * x.shape[1]; i++) {
        largest = fmax(largest, fabs((double)x.data[i]));
        off = fmax(off, fabs((double)x.data[i] - (double)y.data[i]));
    }
    if (!(off <= most * largest)) fail_msg("%s: %s: %g of %g off, expected %g of it", a, how, off, largest, most);
    npy_free(&x);
    npy_free(&y);
}

static void convert_all(const char *type, double most) {
    for (size_t i = 0; i < MODELS; i++) {
        char path[300], ids[2000], out[300];
        model_path(i, path);
        ids_of(i, ids);
        snprintf(out, sizeof out, "%s", scratch("%s%zu", type, i));
        if (run("convert", "-m", path, "-o", out, "--type", type, NULL) != 0) fail_msg("%s", said.err);
        assert_same(path, out, "-i", IMAGE, most);
        assert_same(path, out, "--ids", ids, most);
        if (ROWS[i].speaks) assert_same(path, out, "-t", TEXT, most);
    }
}

static void as_float32(void **state) { (void)state, convert_all("F32", BY_BUILD(1e-6, 2e-7)); }
static void as_float16(void **state) { (void)state, convert_all("F16", 5e-3); }
static void as_bfloat16(void **state) { (void)state, convert_all("BF16", 4e-2); }

/* What was converted converts to itself, and says the same of its family and pixels. */
static void twice_is_once(void **state) {
    for (size_t i = 0; i < MODELS; i++) {
        char path[300], once[300], twice[300];
        model_path(i, path);
        snprintf(once, sizeof once, "%s", scratch("once%zu", i));
        snprintf(twice, sizeof twice, "%s", scratch("twice%zu", i));
        assert_int_equal(run("convert", "-m", path, "-o", once, "--type", "F32", NULL), 0);
        assert_int_equal(run("convert", "-m", once, "-o", twice, "--type", "F32", NULL), 0);
        static const char *const files[] = {"open_clip_model.safetensors", "open_clip_config.json"};
        for (size_t k = 0; k < 2; k++) {
            char a[400], b[400];
            snprintf(a, sizeof a, "%s/%s", once, files[k]);
            snprintf(b, sizeof b, "%s/%s", twice, files[k]);
            if (!same_files(a, b)) fail_msg("%s: %s is another when converted again", ROWS[i].model, files[k]);
        }
    }
    (void)state;
}

/* ---- weights in float64 ---------------------------------------------------------------------------------------- */
/* count numbers of F32 (each 4) or F16 (2) as float64 of a file. */
static void widen(const unsigned char *from, size_t count, size_t each, unsigned char *to) {
    for (size_t i = 0; i < count; i++, from += each, to += sizeof(double)) {
        float x;
        uint16_t h;
        memcpy(each == 4 ? (void *)&x : (void *)&h, from, each);
        order_bytes(each == 4 ? (void *)&x : (void *)&h, 1, each);
        double wide = (double)(each == 4 ? x : half_to_float(h));
        order_bytes(&wide, 1, sizeof wide);
        memcpy(to, &wide, sizeof wide);
    }
}

/* spoiled: the tensor whose number 5 becomes value; NULL: none */
static void safetensors_in_doubles(const char *from, const char *to, const char *spoiled, double value) {
    err e = {0};
    safetensors *s = st_open(from, &e);
    if (!s) fail_msg("%s", e.text);
    size_t n = st_count(s);
    st_tensor *t = calloc(n, sizeof *t);
    for (size_t i = 0; i < n; i++) {
        t[i] = *st_at(s, i);
        unsigned char *wide = malloc(st_size(&t[i]) * sizeof(double));
        widen(t[i].data, st_size(&t[i]), 4, wide);
        order_bytes(&value, 1, sizeof value);
        if (spoiled && strcmp(spoiled, t[i].name) == 0) memcpy(wide + 5 * sizeof value, &value, sizeof value);
        order_bytes(&value, 1, sizeof value);
        t[i].type = "F64", t[i].data = wide, t[i].bytes = st_size(&t[i]) * sizeof(double);
    }
    if (!st_write(to, t, n, NULL, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < n; i++) free((void *)(uintptr_t)t[i].data);
    free(t), st_free(s);
}

typedef struct { unsigned char *p; size_t at; } bytes;
static void put(bytes *b, const void *from, size_t length) { memcpy(b->p + b->at, from, length), b->at += length; }
static void put_little(bytes *b, size_t length, uint64_t value) {
    for (size_t i = 0; i < length; i++) b->p[b->at++] = (unsigned char)(value >> 8 * i);
}

static size_t place_of(const char *word, const unsigned char *p, size_t length) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= length; i++)
        if (memcmp(p + i, word, n) == 0) return i;
    fail_msg("no %s", word);
    return 0;
}

/* What an archive's entry becomes: npy's numbers behind their header, torch's storages whole, the pickle their class. */
static void put_doubles(bytes *b, const char *name, unsigned char *p, size_t size) {
    size_t head = 0, each = 2;
    if (strstr(name, ".npy")) {
        head = 10u + p[8] + 256u * p[9], each = 4;
        p[place_of("<f4", p, head) + 2] = '8';
    } else if (strstr(name, "data.pkl")) {
        head = place_of("HalfStorage", p, size);
        put(b, p, head), put(b, "Double", 6), put(b, p + head + 4, size - head - 4);
        return;
    } else if (!strstr(name, "/data/")) head = size;
    put(b, p, head);
    widen(p + head, (size - head) / each, each, b->p + b->at);
    b->at += (size - head) / each * sizeof(double);
}

/* The fields that an entry's own header and the directory share: stored, its sum not looked at. */
static void put_fields(bytes *b, const char *name, size_t size) {
    put_little(b, 8, 0), put_little(b, 6, 0);
    put_little(b, 4, size), put_little(b, 4, size), put_little(b, 2, strlen(name)), put_little(b, 2, 0);
}

static void zip_in_doubles(const char *from, const char *to) {
    err e = {0};
    size_t length;
    char *file = bytes_at(from, &length);
    zip *z = zip_parse((const unsigned char *)file, length, from, &e);
    if (!z) fail_msg("%s", e.text);
    bytes out = {malloc(5 * length), 0}, list = {malloc(length), 0}, one = {malloc(5 * length), 0};
    for (size_t i = 0; i < zip_count(z); i++) {
        const zip_entry *t = zip_at(z, i);
        unsigned char *p = zip_unpack(z, t, &e);
        if (!p) fail_msg("%s", e.text);
        one.at = 0, put_doubles(&one, t->name, p, t->size);
        put_little(&list, 6, 0x02014b50), put_fields(&list, t->name, one.at), put_little(&list, 10, 0);
        put_little(&list, 4, out.at), put(&list, t->name, strlen(t->name));
        put_little(&out, 4, 0x04034b50), put_fields(&out, t->name, one.at), put(&out, t->name, strlen(t->name));
        put(&out, one.p, one.at);
        mem_free(p);
    }
    size_t start = out.at;
    put(&out, list.p, list.at);
    put_little(&out, 8, 0x06054b50), put_little(&out, 2, zip_count(z)), put_little(&out, 2, zip_count(z));
    put_little(&out, 4, list.at), put_little(&out, 4, start), put_little(&out, 2, 0);
    put_bytes(to, out.p, out.at);
    free(out.p), free(list.p), free(one.p), zip_free(z), mem_free(file);
}

static void copy_of(const char *from, const char *to) {
    size_t n;
    char *p = bytes_at(from, &n);
    put_bytes(to, p, n);
    mem_free(p);
}

/* F64 weights that hold what F32 or F16 ones hold give the same embeddings, from every container that has them. */
static void doubles_are_read(void **state) {
    const char *nano = DATA "nano-hf-f32/model.safetensors", *npz = DATA "checkpoints/siglip-bigvision-npz/siglip.npz";
    const char *torch = DATA "checkpoints/longclip-pt/longclip.pt";
    char path[300];
    err e = {0};
    assert_true(folder_make(scratch("f64"), &e));
    copy_of(DATA "nano-hf-f32/config.json", scratch("f64/config.json"));
    snprintf(path, sizeof path, "%s", scratch("f64/model.safetensors"));
    safetensors_in_doubles(nano, path, NULL, 0);
    assert_same(DATA "nano-hf-f32", scratch("f64"), "-i", IMAGE, 0);
    assert_same(DATA "nano-hf-f32", scratch("f64"), "--ids", "1,2,3", 0);
    assert_int_equal(run("info", "-m", scratch("f64"), "--tensors", NULL), 0);
    assert_non_null(strstr(said.out, "layout, F64\n"));
    assert_int_equal(run("convert", "-m", scratch("f64"), "-o", scratch("f64-16"), "--type", "F16", NULL), 0);
    /* in double the last digits of the mean show, which the two publishers write otherwise */
    assert_same(DATA "nano-openclip-f16", scratch("f64-16"), "-i", IMAGE, BY_BUILD(0, 2e-7));

    snprintf(path, sizeof path, "%s", scratch("f64.npz"));
    zip_in_doubles(npz, path);
    assert_same(npz, path, "-i", IMAGE, 0);
    snprintf(path, sizeof path, "%s", scratch("f64.pt"));
    zip_in_doubles(torch, path);
    assert_same(torch, path, "-i", IMAGE, 0);
    assert_same(torch, path, "--ids", "1,2,3", 0);
    (void)state;
}

static void bad_doubles_are_refused(void **state) {
    static const char weight[] = "vision_model.encoder.layers.1.mlp.fc1.weight";
    static const struct { double value; const char *says; } rows[] = {
        {NAN, "number 5 is NaN"}, {-INFINITY, "number 5 is infinite"}, {1e39, "number 5 is infinite"}};
    char path[300];
    size_t length;
    err e = {0};
    assert_true(folder_make(scratch("bad"), &e));
    copy_of(DATA "nano-hf-f32/config.json", scratch("bad/config.json"));
    snprintf(path, sizeof path, "%s", scratch("bad/model.safetensors"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows - BY_BUILD(0, 1); i++) { /* a double holds the last */
        safetensors_in_doubles(DATA "nano-hf-f32/model.safetensors", path, weight, rows[i].value);
        assert_int_equal(run("embed", "-m", scratch("bad"), "-i", IMAGE, "-o", scratch("e.npy"), NULL), 1);
        if (!strstr(said.err, weight) || !strstr(said.err, rows[i].says)) fail_msg("%s", said.err);
    }
    char *whole = bytes_at(path, &length);
    put_bytes(path, whole, length - 8); /* its last number */
    mem_free(whole);
    assert_int_equal(run("embed", "-m", scratch("bad"), "-i", IMAGE, "-o", scratch("e.npy"), NULL), 1);
    if (!strstr(said.err, "beyond the data")) fail_msg("%s", said.err);
    (void)state;
}

/* ---- bad places ---------------------------------------------------------------------------------------------- */
static char *kept;
static size_t kept_length;
static void keep(const char *path) { kept = bytes_at(path, &kept_length); }
static void assert_kept(const char *path) {
    size_t n;
    char *now = bytes_at(path, &n);
    assert_int_equal(n, kept_length);
    assert_memory_equal(now, kept, n);
    mem_free(now);
    mem_free(kept);
}

static void assert_says(int code, const char *words) {
    assert_int_equal(code, 1);
    if (!strstr(said.err, words)) fail_msg("\"%s\" does not say \"%s\"", said.err, words);
}

static void nothing_is_lost(void **state) {
    const char *model = DATA "checkpoints/openclip-train-pt";
    char out[300], weights[400], link[400];
    err e = {0};
    snprintf(out, sizeof out, "%s", scratch("kept"));
    snprintf(weights, sizeof weights, "%s/open_clip_model.safetensors", out);
    assert_int_equal(run("convert", "-m", model, "-o", out, "--type", "F32", NULL), 0);
    assert_string_equal(said.err, "");
    assert_int_equal(run("convert", "-m", model, "-o", out, "--type", "F32", NULL), 0);
    assert_non_null(strstr(said.err, "is replaced"));

    keep(weights); /* onto itself: by its folder, its file, a link */
    snprintf(link, sizeof link, "%s", scratch("link"));
    assert_int_equal(symlink(out, link), 0);
    assert_says(run("convert", "-m", out, "-o", out, NULL), "is the model that is read, expected another folder");
    assert_says(run("convert", "-m", weights, "-o", out, NULL), "is the model that is read");
    assert_says(run("convert", "-m", out, "-o", link, NULL), "is the model that is read");
    assert_kept(weights);

    keep(weights); /* what cannot be read, or not be written as asked, replaces nothing */
    assert_says(run("convert", "-m", DATA "containers/hostile/row.gguf", "-o", out, NULL), "row.gguf");
    assert_says(run("convert", "-m", scratch("nowhere"), "-o", out, NULL), "no such file");
    assert_kept(weights);

    keep(weights); /* a file where a folder should be; a folder where the file should be */
    assert_says(run("convert", "-m", model, "-o", weights, NULL), "open_clip_model.safetensors");
    assert_kept(weights);
    assert_true(folder_make(scratch("taken/open_clip_model.safetensors/x"), &e));
    assert_says(run("convert", "-m", model, "-o", scratch("taken"), NULL), "open_clip_model.safetensors");
    assert_false(file_exists(scratch("taken/open_clip_config.json")));

    put_bytes(scratch("kept/spiece.model"), "x", 1); /* another's tokenizer would be taken for this one's */
    keep(weights);
    assert_says(run("convert", "-m", model, "-o", out, NULL), "spiece.model is another model's");
    assert_kept(weights);
    (void)state;
}

static int end(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_float32),  cmocka_unit_test(as_float16),    cmocka_unit_test(as_bfloat16),
        cmocka_unit_test(twice_is_once), cmocka_unit_test(nothing_is_lost), cmocka_unit_test(doubles_are_read),
        cmocka_unit_test(bad_doubles_are_refused),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, end);
}
