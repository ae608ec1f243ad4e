/* test_embed.c - maskinv embed of many: folders, lists, texts of a file; batches change no byte; what is kept and resumed. */
#include "x_cli.h"
#include "cli/embedded.h"
#include "pictures/png.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void must(int code) {
    if (code != 0) fail_msg("exit %d: %s", code, said.err);
}

enum { PICTURES = 11 }; /* more than a batch */

/* Pictures of several sizes, PICTURES of them, as DIR/p00.png.. */
static void make_pictures(const char *dir) {
    err e = {{0}};
    char path[600];
    if (!folder_make(dir, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < PICTURES; i++) {
        picture p;
        assert_true(picture_new(40 + 7 * i, 70 - 3 * i, &p, &e));
        for (size_t k = 0; k < p.width * p.height * 3; k++) p.rgb[k] = (unsigned char)(k * (i + 3) * 37 >> 4);
        snprintf(path, sizeof path, "%s/p%02zu.png", dir, i);
        assert_true(picture_write_png(path, &p, &e));
        picture_free(&p);
    }
}

/* Row i of a against the only row of b. */
static void same_row(const npy_array *a, size_t i, const npy_array *b) {
    assert_int_equal(b->shape[0], 1);
    assert_int_equal(a->shape[1], b->shape[1]);
    assert_memory_equal(a->data + i * a->shape[1], b->data, b->shape[1] * sizeof *b->data);
}

static void many_pictures_are_each_alone(void **state) {
    (void)state;
    static const char *const models[] = {"nano-openclip-f16", "nanogelu-openclip-bf16"};
    char dir[300], path[600], list[PICTURES * 400] = "";
    snprintf(dir, sizeof dir, "%s", scratch("many"));
    make_pictures(dir);
    for (size_t k = 0; k < 2; k++) {
        char m[100];
        snprintf(m, sizeof m, DATA "%s", models[k]);
        must(run("embed", "-m", m, "-i", dir, "-o", scratch("many.npy"), NULL));
        npy_array all = array_at(scratch("many.npy"));
        assert_int_equal(all.shape[0], PICTURES);
        for (size_t i = 0; i < PICTURES; i++) {
            snprintf(path, sizeof path, "%s/p%02zu.png", dir, i);
            must(run("embed", "-m", m, "-i", path, "-o", scratch("one.npy"), "--threads", i % 2 ? "1" : "2", NULL));
            npy_array one = array_at(scratch("one.npy"));
            same_row(&all, i, &one);
            npy_free(&one);
        }
        npy_free(&all);
        list[0] = 0;
        for (size_t i = 0; i < PICTURES; i++) snprintf(list + strlen(list), sizeof list - strlen(list), "%s/p%02zu.png\r\n\n", dir, i);
        put_bytes(scratch("list.txt"), list, strlen(list));
        must(run("embed", "-m", m, "--list", scratch("list.txt"), "-o", scratch("list.npy"), "--memory", "3M", NULL));
        assert_true(same_files(scratch("list.npy"), scratch("many.npy")));
    }
}

static void damaged_pictures_are_left_out(void **state) {
    (void)state;
    const char *m = DATA "nano-openclip-f16";
    char dir[300], path[400];
    size_t length;
    snprintf(dir, sizeof dir, "%s", scratch("hurt"));
    make_pictures(dir);
    snprintf(path, sizeof path, "%s/p03.png", dir);
    put_bytes(path, "no picture", 10);
    must(run("embed", "-m", m, "-i", dir, "--keep-going", "-o", scratch("hurt.npy"), NULL));
    assert_non_null(strstr(said.err, "left out"));
    assert_non_null(strstr(said.err, "p03.png"));
    npy_array all = array_at(scratch("hurt.npy"));
    assert_int_equal(all.shape[0], PICTURES);
    for (size_t i = 0; i < PICTURES; i++) assert_true(i == 3 ? isnan(all.data[i * all.shape[1]]) : isfinite(all.data[i * all.shape[1]]));
    npy_free(&all);
    must(run("embed", "-m", m, "-i", dir, "--keep-going", "-o", scratch("hurt.jsonl"), NULL));
    char *text = bytes_at(scratch("hurt.jsonl"), &length);
    size_t lines = 0;
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    assert_int_equal(lines, PICTURES - 1);
    assert_null(strstr(text, "p03.png"));
    assert_non_null(strstr(text, "p04.png\", \"embedding\": ["));
    mem_free(text);
    assert_int_equal(run("embed", "-m", m, "-i", dir, "-o", scratch("no.npy"), NULL), 1);
    assert_non_null(strstr(said.err, "p03.png"));
    assert_false(file_exists(scratch("no.npy")));
}

static void many_texts_are_each_alone(void **state) {
    (void)state;
    static const char *const words[] = {"a red fish", "cat", "two white cups beside a small blue house", "a dog", "fish",
                                        "an old green clock under grey clouds and purple birds", "a red fish"};
    enum { COUNT = 7 };
    const char *m = model_with_merges("nanogelu-openclip-bf16");
    char text[1000] = "";
    for (size_t i = 0; i < COUNT; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "%s\n", words[i]);
    put_bytes(scratch("texts.txt"), text, strlen(text));
    must(run("embed", "-m", m, "--texts", scratch("texts.txt"), "-o", scratch("texts.npy"), NULL));
    npy_array all = array_at(scratch("texts.npy"));
    assert_int_equal(all.shape[0], COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        must(run("embed", "-m", m, "-t", words[i], "-o", scratch("text.npy"), NULL));
        npy_array one = array_at(scratch("text.npy"));
        same_row(&all, i, &one);
        npy_free(&one);
    }
    npy_free(&all);
}

static void what_is_done_is_kept(void **state) {
    (void)state;
    static const char *const names[] = {"a", "b", "c"};
    embed_list list = {"image", names, 3, 4, 7}, other = {"image", names, 3, 4, 8};
    embedded out;
    err e = {{0}};
    char path[400], part[420];
    size_t n;
    snprintf(path, sizeof path, "%s", scratch("kept.npy"));
    snprintf(part, sizeof part, "%s.part", path);
    assert_true(embedded_open(&out, &list, path, true, &e));
    for (size_t d = 0; d < 4; d++) out.rows[4 + d] = (float)d;
    assert_true(embedded_put(&out, 0, EMBED_LEFT_OUT, &e) && embedded_put(&out, 1, EMBED_GOOD, &e) && embedded_put(&out, 2, EMBED_GOOD, &e));
    embedded_free(&out); /* as if killed; and its last record cut */
    char *bytes = bytes_at(part, &n);
    put_bytes(part, bytes, n - 1);
    mem_free(bytes);
    assert_false(embedded_open(&out, &other, path, true, &e));
    assert_non_null(strstr(e.text, "kept.npy.part"));
    embedded_free(&out);
    assert_true(embedded_open(&out, &list, path, true, &e));
    assert_true(out.state[0] == EMBED_OPEN && out.state[1] == EMBED_GOOD && out.state[2] == EMBED_OPEN);
    assert_true(out.rows[4 + 3] == 3);
    assert_true(embedded_put(&out, 0, EMBED_GOOD, &e) && embedded_put(&out, 2, EMBED_GOOD, &e));
    assert_true(embedded_write(&out, &e));
    embedded_free(&out);
    assert_false(file_exists(part));
    npy_array a = array_at(path);
    assert_int_equal(a.shape[0], 3);
    npy_free(&a);
}

/* However early a run ended: its head may not have been written, or half of it. */
static void a_run_that_ended_early_is_gone_on_with(void **state) {
    (void)state;
    const char *m = DATA "nano-openclip-f16";
    char part[400];
    err e = {{0}};
    static const char *const names[] = {"a"};
    embed_list list = {"image", names, 1, 4, 7};
    embedded out;
    must(run("embed", "-m", m, "-i", IMAGE, "-o", scratch("whole.npy"), NULL));
    snprintf(part, sizeof part, "%s", scratch("early.npy.part"));
    put_bytes(part, "", 0);
    must(run("embed", "-m", m, "-i", IMAGE, "--resume", "-o", scratch("early.npy"), NULL));
    assert_true(same_files(scratch("early.npy"), scratch("whole.npy")));
    assert_true(embedded_open(&out, &list, scratch("early.npy"), true, &e));
    embedded_free(&out);
    size_t n;
    char *bytes = bytes_at(part, &n);
    assert_int_equal(n, 16);
    put_bytes(part, bytes, 11);
    mem_free(bytes);
    assert_true(embedded_open(&out, &list, scratch("early.npy"), true, &e));
    embedded_free(&out);
    put_bytes(part, "a letter", 8);
    assert_false(embedded_open(&out, &list, scratch("early.npy"), true, &e));
    embedded_free(&out);
    bytes = bytes_at(part, &n);
    assert_int_equal(n, 8); /* what is not ours stays as it is */
    mem_free(bytes);
}

static void only_one_run_writes(void **state) {
    (void)state;
    static const char *const names[] = {"a"};
    embed_list list = {"image", names, 1, 4, 7};
    embedded one, two;
    err e = {{0}};
    char path[400];
    snprintf(path, sizeof path, "%s", scratch("one.npy"));
    assert_true(embedded_open(&one, &list, path, true, &e));
    assert_false(embedded_open(&two, &list, path, true, &e));
    assert_non_null(strstr(e.text, "another run"));
    embedded_free(&two);
    embedded_free(&one);
    assert_true(embedded_open(&two, &list, path, true, &e));
    embedded_free(&two);
}

/* A PNG whose chunks are whole and whose pixels are not: it is found out when it is read. */
static void spoil(const char *path) {
    size_t n, at = 8;
    unsigned char *p = (unsigned char *)bytes_at(path, &n);
    for (; memcmp(p + at + 4, "IDAT", 4); at += 12 + ((size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3])) assert_true(at + 12 < n);
    size_t length = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
    p[at + 8] = 0xFF;
    uint32_t crc = png_crc(0, p + at + 4, length + 4);
    for (size_t i = 0; i < 4; i++) p[at + 8 + length + i] = (unsigned char)(crc >> (24 - 8 * i));
    put_bytes(path, p, n);
    mem_free(p);
}

/* Pictures of which the last one cannot be read: a batch is kept in FILE.part, the run ends with 1. */
static void half_a_run(const char *dir, const char *model, const char *mask, const char *out) {
    char last[400];
    make_pictures(dir);
    snprintf(last, sizeof last, "%s/p10.png", dir);
    spoil(last);
    assert_int_equal(run("embed", "-m", model, "-i", dir, "--resume", "-o", out, mask ? "-k" : NULL, mask, NULL), 1);
    assert_non_null(strstr(said.err, "p10.png"));
    make_pictures(dir);
}

/* The same name, other weights; the same model, other masks: what was kept is not of them. */
static void another_model_or_mask_is_seen(void **state) {
    (void)state;
    char dir[300], out[400], folder[300], to[400], from[400];
    err e = {{0}};
    size_t n;
    snprintf(dir, sizeof dir, "%s", scratch("two"));
    snprintf(out, sizeof out, "%s", scratch("two.npy"));
    snprintf(folder, sizeof folder, "%s", scratch("model"));
    assert_true(folder_make(folder, &e));
    static const char *const models[] = {"nano-openclip-f16", "nanogelu-openclip-bf16"}, *const files[] = {"open_clip_model.safetensors", "open_clip_config.json"};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < 2; i++) {
            snprintf(from, sizeof from, DATA "%s/%s", models[k], files[i]);
            snprintf(to, sizeof to, "%s/%s", folder, files[i]);
            char *bytes = bytes_at(from, &n);
            put_bytes(to, bytes, n);
            mem_free(bytes);
        }
        if (k == 0) half_a_run(dir, folder, NULL, out);
    }
    assert_int_equal(run("embed", "-m", folder, "-i", dir, "--resume", "-o", out, NULL), 1);
    assert_non_null(strstr(said.err, "two.npy.part"));
    /* the first one by its own name: gone on with */
    must(run("embed", "-m", DATA "nano-openclip-f16", "-i", dir, "--resume", "-o", out, NULL));
    must(run("embed", "-m", DATA "nano-openclip-f16", "-i", dir, "-o", scratch("one.npy"), NULL));
    assert_true(same_files(out, scratch("one.npy")));
    const char *alpha = DATA "checkpoints/alphaclip-pth";
    half_a_run(dir, alpha, MASK0, out);
    assert_int_equal(run("embed", "-m", alpha, "-i", dir, "-k", MASK1, "--resume", "-o", out, NULL), 1);
    assert_non_null(strstr(said.err, "two.npy.part"));
    must(run("embed", "-m", alpha, "-i", dir, "-k", MASK0, "--resume", "-o", out, NULL));
}

/* What a folder holds and is not embedded is said. */
static void other_kinds_are_said(void **state) {
    (void)state;
    char dir[300], path[400];
    snprintf(dir, sizeof dir, "%s", scratch("kinds"));
    make_pictures(dir);
    must(run("embed", "-m", DATA "nano-openclip-f16", "-i", dir, "-o", scratch("kinds.npy"), NULL));
    assert_string_equal(said.err, "");
    snprintf(path, sizeof path, "%s/a.WebP", dir);
    put_bytes(path, "RIFF", 4);
    snprintf(path, sizeof path, "%s/notes.txt", dir);
    put_bytes(path, "x", 1);
    must(run("embed", "-m", DATA "nano-openclip-f16", "-i", dir, "-o", scratch("kinds.npy"), NULL));
    assert_non_null(strstr(said.err, "1 pictures of kinds that are not read are left out"));
}

static void usage(void **state) {
    (void)state;
    const char *m = DATA "nano-openclip-f16";
    assert_int_equal(run("embed", "-m", m, "--list", "x", "--texts", "y", "-o", scratch("x.npy"), NULL), 2);
    assert_int_equal(run("embed", "-m", m, "-i", IMAGE, "--resume", "-o", "-", NULL), 2);
    put_bytes(scratch("empty.txt"), "\n", 1);
    assert_int_equal(run("embed", "-m", m, "--list", scratch("empty.txt"), "-o", scratch("x.npy"), NULL), 1);
    assert_non_null(strstr(said.err, "no names"));
    must(run("embed", "-m", m, "-i", IMAGE, "--resume", "-o", scratch("r.npy"), NULL));
    must(run("embed", "-m", m, "-i", IMAGE, "-o", scratch("s.npy"), NULL));
    assert_true(same_files(scratch("r.npy"), scratch("s.npy")));
    assert_false(file_exists(scratch("r.npy.part")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_pictures_are_each_alone), cmocka_unit_test(damaged_pictures_are_left_out),
        cmocka_unit_test(many_texts_are_each_alone),    cmocka_unit_test(what_is_done_is_kept),
        cmocka_unit_test(a_run_that_ended_early_is_gone_on_with), cmocka_unit_test(only_one_run_writes),
        cmocka_unit_test(another_model_or_mask_is_seen), cmocka_unit_test(other_kinds_are_said),
        cmocka_unit_test(usage),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
