/* test_bad.c - bad input through the command line: each gives a message naming what was wrong and exit code 1, and
 * leaves what was written before as it was; each allocation may fail. */
#include "x_cli.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>
#include "x_skip.h"

#define MODEL DATA "nano-hf-f32"

/* invert of good input but for what is given; must fail with 1 and say each of the words, and nothing on stdout. */
static void refused(const char *model, const char *image, const char *mask, const char *says) {
    int code = run("invert", "-m", model, "-i", image, "-k", MASK0, "-k", mask, "-o", scratch("refused"), NULL);
    if (code != 1 || !strstr(said.err, says) || said.out[0])
        fail_msg("%s, %s, %s: exit %d, '%s' expected, said: %s", model, image, mask, code, says, said.err);
    assert_int_equal(count_files(scratch("refused"), ".tmp"), 0);
    assert_int_equal(count_files(scratch("refused"), ".npy"), 0);
}

/* ---- pictures and masks ------------------------------------------------------------------------------ */
static const char *part_of(const char *path, double share, const char *name) {
    size_t n;
    char *bytes = bytes_at(path, &n);
    put_bytes(scratch("%s", name), bytes, (size_t)((double)n * share));
    mem_free(bytes);
    return scratch("%s", name);
}

static void bad_pictures(void **state) {
    (void)state;
    put_bytes(scratch("text.png"), "this is no picture\n", 19);
    put_bytes(scratch("empty.png"), "", 0);
    refused(MODEL, scratch("text.png"), MASK1, "text.png");
    refused(MODEL, scratch("empty.png"), MASK1, "empty.png");
    refused(MODEL, scratch("missing.png"), MASK1, "missing.png");
    refused(MODEL, DATA, MASK1, DATA);
    refused(MODEL, part_of(IMAGE, .5, "half.png"), MASK1, "half.png");
    refused(MODEL, part_of(IMAGE, .01, "head.png"), MASK1, "head.png");
    /* a PNG that claims 200000 x 200000: its header, with another size */
    size_t n;
    char *bytes = bytes_at(IMAGE, &n);
    memcpy(bytes + 16, "\0\3\x0d\x40\0\3\x0d\x40", 8);
    put_bytes(scratch("huge.png"), bytes, n);
    mem_free(bytes);
    refused(MODEL, scratch("huge.png"), MASK1, "huge.png");
    refused(MODEL, scratch("huge.png"), MASK1, "200000");
}

static void bad_masks(void **state) {
    static const unsigned char alpha[] = { /* a PNG of 2x1 pixels: black, one opaque */
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x02,
        0x00, 0x00, 0x00, 0x01, 0x08, 0x04, 0x00, 0x00, 0x00, 0x5e, 0x2b, 0xb7, 0x01, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x44, 0x41,
        0x54, 0x78, 0xda, 0x63, 0x60, 0xf8, 0xcf, 0xc0, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00, 0x46, 0xc5, 0x29, 0x84, 0x00, 0x00,
        0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
    (void)state;
    err e = {0};
    picture black;
    assert_true(picture_new(20, 10, &black, &e) && picture_write_png(scratch("black.png"), &black, &e));
    picture_free(&black);
    put_bytes(scratch("empty.png"), "", 0);
    refused(MODEL, IMAGE, scratch("black.png"), "black.png");
    refused(MODEL, IMAGE, scratch("black.png"), "empty");
    refused(MODEL, IMAGE, scratch("empty.png"), "empty.png");
    put_bytes(scratch("alpha.png"), (const char *)alpha, sizeof alpha);
    refused(MODEL, IMAGE, scratch("alpha.png"), "its alpha is not looked at");
    refused(MODEL, IMAGE, scratch("missing.png"), "missing.png");
    refused(MODEL, IMAGE, "test/corpus", "no mask in this folder");
    refused(MODEL, IMAGE, part_of(MASK1, .6, "half.png"), "half.png");
}

/* Another aspect ratio than the photograph's is warned of, another size is not; both work. */
static void masks_of_other_shapes(void **state) {
    (void)state;
    picture photo;
    err e = {0};
    static real white[400 * 400];
    for (size_t i = 0; i < sizeof white / sizeof *white; i++) white[i] = i % 7 > 2;
    assert_true(picture_read(IMAGE, &photo, &e));
    size_t w = photo.width, h = photo.height;
    picture_free(&photo);
    assert_true(2 * w <= 400 && 2 * h <= 400);
    for (int stretched = 0; stretched < 2; stretched++) {
        const char *mask = scratch("shape.png");
        assert_true(mask_write_png(mask, white, 2 * w, stretched ? h : 2 * h, &e));
        assert_int_equal(run("invert", "-m", DATA "nano-hf-f32", "-i", IMAGE, "-k", mask, NULL), 0);
        assert_int_equal(strstr(said.err, "shape.png is") && strstr(said.err, "aspect ratio"), stretched);
        assert_int_equal(run("regions", "--method", "crop", "-m", DATA "nano-hf-f32", "-i", IMAGE, "-k", mask, NULL), 0);
        assert_int_equal(strstr(said.err, "shape.png is") && strstr(said.err, "aspect ratio"), stretched);
    }
}

static void unreadable(void **state) {
    (void)state;
    if (geteuid() == 0) SKIP("root reads everything");
    size_t n;
    char *bytes = bytes_at(MASK0, &n);
    put_bytes(scratch("secret.png"), bytes, n);
    mem_free(bytes);
    assert_int_equal(chmod(scratch("secret.png"), 0), 0);
    refused(MODEL, IMAGE, scratch("secret.png"), "secret.png");
    refused(MODEL, scratch("secret.png"), MASK0, "secret.png");
}

/* ---- models ----------------------------------------------------------------------------------------- */
/* A model folder whose file `name` is the original with `from` replaced by `to` (same length in a safetensors header).
 */
static const char *model_with(const char *name, const char *from, const char *to) {
    static char folder[512];
    size_t n, a = strlen(from), b = strlen(to);
    snprintf(folder, sizeof folder, "%s", model_with_merges("nano-hf-f32"));
    char path[600], *end;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *bytes = bytes_at(path, &n), *changed = mem_alloc(1, n + b + 1);
    for (end = bytes; (size_t)(end - bytes) + a <= n && memcmp(end, from, a) != 0;) end++;
    if ((size_t)(end - bytes) + a > n) fail_msg("%s has no %s", name, from);
    size_t before = (size_t)(end - bytes);
    memcpy(changed, bytes, before);
    memcpy(changed + before, to, b);
    memcpy(changed + before + b, end + a, n - before - a);
    put_bytes(path, changed, n - a + b);
    mem_free(bytes);
    mem_free(changed);
    return folder;
}

static void bad_configs(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"\"patch_size\": 8", "\"patch_size\": 0", "patch_size"},
        {"\"patch_size\": 8", "\"patch_size\": -8", "patch_size"},
        {"\"patch_size\": 8", "\"patch_size\": 1e30", "patch_size"},
        {"\"patch_size\": 8", "\"patch_size\": \"8\"", "patch_size"},
        {"\"patch_size\": 8", "\"patch_size\": 7", "7"},
        {"\"hidden_size\": 32", "\"hidden_size\": 31", "31"},
        {"\"num_hidden_layers\": 3", "\"num_hidden_layers\": 999999999", "num_hidden_layers"},
        {"\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "layers.3"},
        {"\"num_attention_heads\": 2", "\"num_attention_heads\": 5", "heads"},
        {"\"quick_gelu\"", "\"swish\"", "swish"},
        {"\"vision_config\": {", "\"vision_config\": 7, \"x\": {", "vision_config"},
        {"\"projection_dim\": 24", "\"projection_dim\": 25", "25"},
        {"{", "", "config.json"},
        {"\"model_type\"", "\"model_type", "config.json"},
        {"\"layer_norm_eps\": 1e-05", "\"layer_norm_eps\": -1", "layer_norm_eps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(model_with("config.json", cases[i].from, cases[i].to), IMAGE, MASK1, cases[i].says);
}

static void bad_tensors(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *says;
    } cases[] = {
        {"\"logit_scale\"", "\"logit_scalf\"", "logit_scale"},
        {"vision_model.pre_layrnorm.bias", "vision_model.pre_layrnorm.bios", "vision_model.pre_layrnorm.bias"},
        {"\"F32\"", "\"F33\"", "F33"},
        {"[24, 32]", "[32, 24]", "[24, 32]"},
        {"[24, 32]", "[24, 33]", "model.safetensors"},
        {"data_offsets", "data_offseta", "data_offsets"},
        {"{", "[", "model.safetensors"},
        {"\"dtype\"", "\"dtypo\"", "dtype"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(model_with("model.safetensors", cases[i].from, cases[i].to), IMAGE, MASK1, cases[i].says);
}

static void bad_model_files(void **state) {
    (void)state;
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", model_with_merges("nano-hf-f32"));
    size_t n;
    char *bytes = bytes_at(path, &n);
    refused(scratch("nowhere"), IMAGE, MASK1, "nowhere");
    refused(IMAGE, IMAGE, MASK1, "image.png");
    put_bytes(path, bytes, n - 4);
    refused(path, IMAGE, MASK1, "model.safetensors");
    put_bytes(path, bytes, 5);
    refused(path, IMAGE, MASK1, "model.safetensors");
    put_bytes(path, bytes, 0);
    refused(path, IMAGE, MASK1, "model.safetensors");
    bytes[7] = 1; /* a header of 2^56 bytes */
    put_bytes(path, bytes, n);
    refused(path, IMAGE, MASK1, "model.safetensors");
    mem_free(bytes);
}

static void weights_not_finite(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const char *const names[] = {"visual_projection.weight", "vision_model.post_layernorm.bias",
                                        "text_projection.weight"};
    char path[600];
    err e = {0};
    size_t n;
    snprintf(path, sizeof path, "%s/model.safetensors", model_with_merges("nano-hf-f32"));
    for (size_t i = 0; i < 3; i++) {
        char *bytes = bytes_at(MODEL "/model.safetensors", &n);
        safetensors *s = st_parse((unsigned char *)bytes, n, path, &e);
        if (!s) fail_msg("%s", e.text);
        const st_tensor *t = st_find(s, names[i]);
        assert_non_null(t);
        memcpy(bytes + (t->data - (unsigned char *)bytes) + t->bytes - 4, &bad[i], 4); /* its last number */
        st_free(s);
        put_bytes(path, bytes, n);
        mem_free(bytes);
        if (i < 2) {
            refused(path, IMAGE, MASK1, names[i]);
            continue;
        }
        /* the text side is looked at where texts are used, and there alone */
        assert_int_equal(run("invert", "-m", path, "-i", IMAGE, "-k", MASK1, NULL), 0);
        assert_int_equal(run("invert", "-m", path, "-i", IMAGE, "-k", MASK1, "-t", "a cat", NULL), 1);
        assert_non_null(strstr(said.err, names[i]));
    }
}

/* ---- places to write ------------------------------------------------------------------------------------ */
static void bad_folders(void **state) {
    (void)state;
    put_bytes(scratch("file"), "x", 1);
    static const char *const inside[] = {"file", "file/deeper"};
    for (size_t i = 0; i < 2; i++) {
        const char *out = scratch("%s", inside[i]);
        assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "-o", out, NULL), 1);
        assert_non_null(strstr(said.err, "file"));
        assert_int_equal(run("explain", "-m", MODEL, "-i", IMAGE, "-e", scratch("none.npy"), "-o", out, NULL), 1);
        assert_int_equal(run("embed", "-m", MODEL, "-i", IMAGE, "-o", scratch("%s/e.npy", inside[i]), NULL), 1);
    }
    assert_int_equal(
        run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "--trace", scratch("no/such/folder.st"), NULL), 1);
    assert_non_null(strstr(said.err, "folder.st"));
    /* found before the work */
    assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "--trace", scratch("no/such/folder.st"), "-o",
                         scratch("early"), NULL),
                     1);
    assert_int_equal(count_files(scratch("early"), "mask0"), 0);
    assert_true(file_exists(scratch("file")));
}

static void empty_names(void **state) {
    (void)state;
    static const char *const flags[] = {"-m", "-i", "-k", "-o", "--trace", "--templates"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "-t", "a", flags[i], "", NULL), 1);
        if (!strstr(said.err, "is empty")) fail_msg("%s '': %s", flags[i], said.err);
    }
}

/* What was written before a failure stays, byte for byte. */
static void nothing_lost(void **state) {
    (void)state;
    static const char *const files[] = {"embeddings.npy", "mask0.map.npy", "mask0.map.png", "regions.png",
                                        "result.json"};
    assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "-o", scratch("kept"), NULL), 0);
    char *kept[5];
    size_t n[5];
    for (size_t i = 0; i < 5; i++) kept[i] = bytes_at(scratch("kept/%s", files[i]), &n[i]);
    put_bytes(scratch("text.png"), "this is no picture\n", 19);
    assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "-k", scratch("text.png"), "--lr", "0.1",
                         "-o", scratch("kept"), NULL),
                     1);
    assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "--size", "33", "-o", scratch("kept"), NULL),
                     1);
    assert_int_equal(
        run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "-t", "no merges", "-o", scratch("kept"), NULL), 1);
    for (size_t i = 0; i < 5; i++) {
        size_t now;
        char *bytes = bytes_at(scratch("kept/%s", files[i]), &now);
        assert_int_equal(now, n[i]);
        assert_memory_equal(bytes, kept[i], now);
        mem_free(bytes);
        mem_free(kept[i]);
    }
    assert_int_equal(count_files(scratch("kept"), ".tmp"), 0);
}

static void full_disk(void **state) {
    (void)state;
    if (!file_exists("/dev/full")) SKIP("no /dev/full here");
    /* a result on a full disk: standard output here */
    assert_int_equal(
        system("test -x ./maskinv || exit 0; ./maskinv info -m " MODEL " >/dev/full 2>/dev/null; test $? = 1"), 0);
    assert_int_equal(system("test -x ./maskinv || exit 0; ./maskinv invert --help >/dev/full 2>/dev/null; test $? = 1"),
                     0);
}

/* ---- memory ----------------------------------------------------------------------------------------------- */
static void small_memory(void **state) {
    (void)state;
    static const char *const sizes[] = {"1M", "1100k", "1300k", "1600k", "2M", "3M", "5M"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int code = run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "--size", "256", "--memory", sizes[i], NULL);
        assert_true(code == 0 || (code == 1 && strstr(said.err, "--memory")));
        if (i == 0) assert_int_equal(code, 1);
    }
    /* dz/dA at 256: 24 x 2 x 1025 x 1025 numbers, 202 MB of floats */
    char size[32];
    snprintf(size, sizeof size, "%.1f MB", 24.0 * 2 * 1025 * 1025 * sizeof(real) / 1e6);
    assert_int_equal(run("invert", "-m", MODEL, "-i", IMAGE, "-k", MASK0, "--size", "256", "--gradient", "decomposed",
                         "--memory", "100M", NULL),
                     1);
    assert_non_null(strstr(said.err, size));
}

/* Every allocation after the n-th fails, for each n: an error each time, never a crash, and no temporary file left. */
static void each_fails(int argc, char **argv, size_t stride) {
    size_t failures = 0;
    for (size_t n = 1;; n += stride) {
        mem_fail_after(n);
        int code = run_v(argc, argv);
        mem_fail_after(0);
        if (code == 0) break;
        if (code > 2 || !said.err[0]) fail_msg("allocation %zu failed: exit %d, said '%s'", n, code, said.err);
        failures++;
    }
    assert_true(failures > 10);
    assert_int_equal(count_files(scratch("memory"), ".tmp"), 0);
}
#define ARGS(...)                                                                                                      \
    const char *const words[] = {"maskinv", __VA_ARGS__};                                                              \
    char *argv[sizeof words / sizeof *words + 1];                                                                      \
    int argc = (int)(sizeof words / sizeof *words);                                                                    \
    for (int i = 0; i < argc; i++) argv[i] = (char *)(uintptr_t)words[i];                                              \
    argv[argc] = NULL

static void allocations_invert(void **state) {
    (void)state;
    char model[512], out[512], trace[512];
    snprintf(model, sizeof model, "%s", model_with_merges("nano-openclip-f16"));
    snprintf(out, sizeof out, "%s", scratch("memory"));
    snprintf(trace, sizeof trace, "%s", scratch("memory.trace"));
    ARGS("invert", "-m", model, "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-t", "a fish", "-t", "a cat", "--template",
         "the {}", "--iters", "2", "-o", out, "--trace", trace, "--json");
    each_fails(argc, argv, 3);
}

static void allocations_explain(void **state) {
    (void)state;
    char model[512], out[512];
    snprintf(model, sizeof model, "%s", model_with_merges("nano-hf-f32"));
    snprintf(out, sizeof out, "%s", scratch("memory"));
    ARGS("explain", "-m", model, "-i", IMAGE, "-t", "a fish", "-o", out);
    each_fails(argc, argv, 5);
}

static void allocations_embed(void **state) {
    (void)state;
    char model[512], out[512];
    snprintf(model, sizeof model, "%s", model_with_merges("nanogelu-openclip-bf16"));
    snprintf(out, sizeof out, "%s", scratch("memory.npy"));
    ARGS("embed", "-m", model, "-i", IMAGE, "-o", out);
    each_fails(argc, argv, 1);
}

static void allocations_tokenize(void **state) {
    (void)state;
    char merges[600];
    snprintf(merges, sizeof merges, "%s/merges.txt", model_with_merges("nano-hf-f32"));
    ARGS("tokenize", "--merges", merges, "a red fish &amp; two cats");
    each_fails(argc, argv, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_pictures),
        cmocka_unit_test(bad_masks),
        cmocka_unit_test(masks_of_other_shapes), cmocka_unit_test(unreadable),
        cmocka_unit_test(bad_configs),
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(bad_model_files),
        cmocka_unit_test(weights_not_finite),
        cmocka_unit_test(bad_folders),
        cmocka_unit_test(empty_names),
        cmocka_unit_test(nothing_lost),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(small_memory),
        cmocka_unit_test_teardown(allocations_invert, scratch_clean),
        cmocka_unit_test_teardown(allocations_explain, scratch_clean),
        cmocka_unit_test_teardown(allocations_embed, scratch_clean),
        cmocka_unit_test_teardown(allocations_tokenize, scratch_clean),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
