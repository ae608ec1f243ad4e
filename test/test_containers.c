/* test_containers.c - every container, good, hostile and damaged, under the sanitizers (`make test` builds this one with
 * them): a hostile file is refused, by the program and by each of its readers, with one line that names the file, the
 * place, what was found and what was expected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "x_cli.h"
#include "text/tokenizer.h"

#define HOSTILE DATA "containers/hostile/"

/* The file, and pieces that its message must have, in this order: place, found, expected. */
static const char *const ROWS[][4] = {
    {"global-system.pt", "visual.conv1.weight", "object of posix.system", "expected a tensor; nothing of it was run"},
    {"global-eval.pt", "visual.conv1.weight", "object of builtins.eval", "expected a tensor; nothing of it was run"},
    {"stack-global.pt", "visual.conv1.weight", "object of os.system", "expected a tensor; nothing of it was run"},
    {"inst.pt", "a/data.pkl: byte 38", "INST", "not among the opcodes"},
    {"storage-short.pt", "visual.conv1.weight", "storage 0 has 4 bytes", "expected 16 for 4 numbers of F32"},
    {"stride-outside.pt", "visual.conv1.weight", "last number is 1073741825", "which has 4"},
    {"negative-offset.pt", "visual.conv1.weight", "offset is -4", "expected 0 or more"},
    {"shape-overflow.pt", "visual.conv1.weight", "1152921504606846976 numbers", "expected at most its storage's 4"},
    {"missing-record.pt", "visual.conv1.weight", "not in the file", "expected one of key 7"},
    {"path-record.pt", "storage's key", "../../b", "expected a name"},
    {"deep.pt", "a/data.pkl", "nested deeper than 100", "101 levels found"},
    {"memo-missing.pt", "a/data.pkl: byte 28", "BINGET", "slot 99 was never set"},
    {"underflow.pt", "a/data.pkl: byte 28", "POP", "not among the opcodes"},
    {"long-string.pt", "a/data.pkl: byte 28", "2147483647 bytes", "3 are there"},
    {"self-list.pt", "a/data.pkl", "contains itself", "expected"},
    {"bomb.pt", "entry a/data/0", "to 1048576", "200 to 1"},
    {"big-endian.pt", "a/byteorder", "\"big\"", "expected little"},
    {"no-directory.pt", "last 477 bytes", "no end record|", "expected a zip archive's"},
    {"directory-outside.pt", "directory of 165 bytes", "at 2147483647", "beyond its end record at 477"},
    {"legacy-short.pt", "storage \"416724848\"", "48 numbers of F32", "152 bytes are there"},
    {"legacy-count.pt", "storage \"416724848\"", "1152921504606846976 numbers", "expected 48"},
    {"object.npz", "array b", "'|O'", "expected '<f4'"},
    {"shape.npz", "array b", "more numbers than can be counted", "0 bytes of them are there"},
    {"header.npz", "array b: npy: descr, byte 10", "no simple type", "expected one such as '<f4'"},
    {"dims.gguf", "v.class_embd", "5 dimensions", "expected at most 4"},
    {"overflow.gguf", "v.class_embd", "8589934592", "whole blocks of Q4_0"},
    {"type.gguf", "v.class_embd", "number type 99", "expected 0 F32"},
    {"offset.gguf", "v.class_embd", "128 bytes at 1099511627776", "the data have 128"},
    {"row.gguf", "v.class_embd", "rows of 33", "whole blocks of Q4_0"},
    {"count.gguf", "byte 8", "1152921504606846976 tensors", "256 bytes can hold"},
    {"string.gguf", "byte 24", "4611686018427387904 bytes", "224 are left"},
    {"align.gguf", "general.alignment", "is 0", "expected a power of two"},
    {"trie.model", "normaliser's trie", "bytes", "expected a multiple of 4"},
    {"varint.model", "at byte", "more than 10 bytes", ""},
};
enum { FILES = sizeof ROWS / sizeof *ROWS, TOKENIZERS = FILES - 2 };

static void assert_row(size_t row, const char *message) {
    if (!strstr(message, ROWS[row][0])) fail_msg("\"%s\" does not name %s", message, ROWS[row][0]);
    for (size_t i = 1; i < 4; i++) {
        char piece[100];
        snprintf(piece, sizeof piece, "%s", ROWS[row][i]);
        piece[strcspn(piece, "|")] = 0;
        if (!strstr(message, piece)) fail_msg("%s: \"%s\" does not say \"%s\"", ROWS[row][0], message, piece);
    }
}

/* One line on standard error, exit code 1, nothing on standard output. */
static void assert_refused(size_t row, int code) {
    assert_int_equal(code, 1);
    assert_string_equal(said.out, "");
    assert_ptr_equal(strchr(said.err, '\n'), said.err + strlen(said.err) - 1);
    assert_row(row, said.err);
}

static void hostile_files_are_refused(void **state) {
    for (size_t i = 0; i < TOKENIZERS; i++) {
        char path[200];
        snprintf(path, sizeof path, HOSTILE "%s", ROWS[i][0]);
        assert_refused(i, run("info", "-m", path, NULL));
        assert_refused(i, run("embed", "-m", path, "-i", IMAGE, "-o", scratch("e"), NULL));
        assert_refused(i, run("convert", "-m", path, "-o", scratch("c"), NULL));
    }
    assert_false(file_exists(scratch("c/open_clip_model.safetensors")));
    (void)state;
}

/* The same beside a config, as the only weights of a folder: no reader takes it for something else. */
static void hostile_files_are_refused_in_folders(void **state) {
    size_t n, length;
    char *config = bytes_at(DATA "checkpoints/clip-hf-bin/config.json", &n);
    for (size_t i = 0; i < TOKENIZERS; i++) {
        char path[200], name[40];
        snprintf(path, sizeof path, HOSTILE "%s", ROWS[i][0]);
        snprintf(name, sizeof name, "folder%zu", i);
        err e = {0};
        assert_true(folder_make(scratch("%s", name), &e));
        char *bytes = bytes_at(path, &length);
        put_bytes(scratch("%s/%s", name, ROWS[i][0]), bytes, length);
        put_bytes(scratch("%s/config.json", name), config, n);
        mem_free(bytes);
        assert_refused(i, run("info", "-m", scratch("%s", name), NULL));
    }
    mem_free(config);
    (void)state;
}

/* sentencepiece's: beside a good model, whose pictures can still be used. */
static void hostile_tokenizers_are_refused(void **state) {
    static const char *const files[] = {"config.json", "preprocessor_config.json", "model.safetensors"};
    for (size_t i = TOKENIZERS; i < FILES; i++) {
        err e = {0};
        char name[40], path[200];
        size_t n;
        snprintf(name, sizeof name, "speech%zu", i);
        assert_true(folder_make(scratch("%s", name), &e));
        for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
            snprintf(path, sizeof path, DATA "checkpoints/siglip-hf/%s", files[k]);
            char *bytes = bytes_at(path, &n);
            put_bytes(scratch("%s/%s", name, files[k]), bytes, n);
            mem_free(bytes);
        }
        snprintf(path, sizeof path, HOSTILE "%s", ROWS[i][0]);
        char *bytes = bytes_at(path, &n);
        tokenizer *t = tokenizer_parse(bytes, n, ROWS[i][0], 0, &e);
        assert_null(t);
        assert_row(i, e.text);
        put_bytes(scratch("%s/spiece.model", name), bytes, n);
        mem_free(bytes);
        int code = run("embed", "-m", scratch("%s", name), "-t", "a cat", "-o", scratch("%s/out", name), NULL);
        assert_int_equal(code, 1);
        if (!strstr(said.err, ROWS[i][1])) fail_msg("%s", said.err);
        assert_int_equal(run("embed", "-m", scratch("%s", name), "-i", IMAGE, "-o", scratch("%s/out", name), NULL), 0);
    }
    (void)state;
}

/* ---- good files, whole and damaged ----------------------------------------------------------------------- */
static const char *const GOOD[] = {
    "siglip-hf/model.safetensors", "siglip2-hf-sharded/model-00001-of-00002.safetensors", "siglip-bigvision-npz/siglip.npz",
    "coca-openclip-bin/open_clip_pytorch_model.bin", "eva02-original-pt/EVA02_CLIP_tiny.pt",
    "resnet-openai-torchscript/RN.pt", "vit-openai-torchscript/ViT.pt", "longclip-pt/longclip.pt",
    "alphaclip-pth/clip_alpha.pth", "openclip-train-pt/epoch_32.pt", "clip-hf-bin/pytorch_model.bin",
    "clip-gguf/tiny_ggml-model-f16.gguf", "clip-gguf/tiny_ggml-model-q4_0.gguf", "clip-gguf/tiny_ggml-model-q4_1.gguf",
    "clip-gguf/tiny_ggml-model-q5_0.gguf", "clip-gguf/tiny_ggml-model-q5_1.gguf", "clip-gguf/tiny_ggml-model-q8_0.gguf",
};

/* In a block of exactly its length, so that the sanitizer sees one byte too many; every number of what is let through. */
static bool read_all(const char *from, size_t length) {
    err e = {0};
    unsigned char *bytes = malloc(length ? length : 1);
    assert_non_null(bytes);
    memcpy(bytes, from, length);
    tensors *t = tensors_parse(bytes, length, "X", &e);
    if ((t == NULL) != (e.text[0] != 0)) fail_msg("an error without a message, or the reverse: \"%s\"", e.text);
    if (!t && strncmp(e.text, "X: ", 3) != 0) fail_msg("\"%s\" does not begin with the file's name", e.text);
    volatile unsigned sum = 0;
    bool good = t != NULL;
    for (size_t i = 0; t && i < tensors_count(t); i++) {
        const file_tensor *w = tensors_at(t, i);
        if (w->bytes > 1 << 20) continue;
        const unsigned char *p = tensor_bytes(w, &e);
        good = good && p;
        for (size_t k = 0; p && k < w->bytes; k++) sum += p[k];
    }
    (void)sum;
    tensors_free(t);
    free(bytes);
    return good;
}

static uint32_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void good_files_are_read(void **state) {
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        char path[200];
        size_t n;
        snprintf(path, sizeof path, DATA "checkpoints/%s", GOOD[i]);
        char *bytes = bytes_at(path, &n);
        if (!read_all(bytes, n)) fail_msg("%s is not read", GOOD[i]);
        mem_free(bytes);
    }
    (void)state;
}

/* Cut short: never read as a whole one. GGUF's last bytes may be padding of 32, zip's end record is its last. */
static void cut_files_are_refused(void **state) {
    enum { CUTS = 24 };
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        char path[200];
        size_t n;
        snprintf(path, sizeof path, DATA "checkpoints/%s", GOOD[i]);
        char *bytes = bytes_at(path, &n);
        for (size_t k = 0; k < CUTS; k++)
            if (read_all(bytes, n * k / CUTS)) fail_msg("%s is read when cut at %zu of %zu", GOOD[i], n * k / CUTS, n);
        if (read_all(bytes, n - 33)) fail_msg("%s is read without its last 33 bytes", GOOD[i]);
        mem_free(bytes);
    }
    (void)state;
}

/* Bytes changed, where the names and sizes stand (both ends): refused with a message, or read within bounds. */
static void changed_files_harm_nothing(void **state) {
    enum { CHANGES = 60, ENDS = 4096 };
    for (size_t i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        char path[200];
        size_t n;
        uint64_t seed = i;
        snprintf(path, sizeof path, DATA "checkpoints/%s", GOOD[i]);
        char *bytes = bytes_at(path, &n);
        for (size_t k = 0; k < CHANGES; k++) {
            size_t at = next(&seed) % ENDS;
            if (k % 2) at = n - 1 - at;
            char kept = bytes[at];
            bytes[at] = (char)(k % 3 ? next(&seed) & 255 : (unsigned char)kept ^ (1u << next(&seed) % 8));
            (void)read_all(bytes, n);
            bytes[at] = kept;
        }
        mem_free(bytes);
    }
    (void)state;
}

/* ---- indices of shards ------------------------------------------------------------------------------------- */
static void shards_outside_are_refused(void **state) {
    static const char *const names[] = {"../model.safetensors", "/etc/passwd", "a/b.safetensors", "a\\\\b", "", ".."};
    err e = {0};
    assert_true(folder_make(scratch("shards"), &e));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char json[200];
        int n = snprintf(json, sizeof json, "{\"weight_map\": {\"a\": \"%s\"}}", names[i]);
        put_bytes(scratch("shards/model.safetensors.index.json"), json, (size_t)n);
        assert_null(tensors_open(scratch("shards/model.safetensors.index.json"), &e));
        if (!strstr(e.text, "index.json: weight_map names") || !strstr(e.text, "expected one in the same folder"))
            fail_msg("%s", e.text);
    }
    (void)state;
}

static int end(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(hostile_files_are_refused_in_folders),
        cmocka_unit_test(hostile_tokenizers_are_refused),
        cmocka_unit_test(good_files_are_read),
        cmocka_unit_test(cut_files_are_refused),
        cmocka_unit_test(changed_files_harm_nothing),
        cmocka_unit_test(shards_outside_are_refused),
    };
    return cmocka_run_group_tests_name("containers", tests, NULL, end);
}
