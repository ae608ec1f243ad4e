/* test_embed.c - maskinv embed of many: folders, lists, texts of a file; batches change no byte; what is kept and resumed. */
#include "x_cli.h"
#include "cli/embedded.h"
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
    assert_true(embedded_put(&out, 1, EMBED_GOOD, &e) && embedded_put(&out, 2, EMBED_LEFT_OUT, &e));
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
        cmocka_unit_test(usage),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
