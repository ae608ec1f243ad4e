/* test_explain_cli.c - maskinv explain by every method, and invert by other explainers, from the command line. */
#include "x_cli.h"
#include "files/json.h"
#include "methods.h"
#include "pictures/sheet.h"
#include "text/templates.h"
#include "x_fixture.h"
#include "x_skip.h"
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

/* ---- maps --------------------------------------------------------------------------------------------------- */
static void every_method_writes_its_maps(void **state) {
    (void)state;
    const char *m = model_with_merges("nanogelu-openclip-bf16");
    char all[600], one[600], path[700];
    snprintf(all, sizeof all, "%s", scratch("all"));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "a fish", "-t", "a cat", "--method", "all", "--multi", "-o", all, NULL));
    for (size_t i = 0; i < method_count(); i++) {
        const char *name = method_at(i)->name;
        snprintf(one, sizeof one, "%s", scratch("%s", name));
        must(run("explain", "-m", m, "-i", IMAGE, "-t", "a fish", "-t", "a cat", "--method", name, "-o", one, NULL));
        for (int t = 0; t < 2; t++) {
            char other[700];
            real low = 1, high = 0;
            snprintf(path, sizeof path, "%s/%d.map.npy", one, t);
            snprintf(other, sizeof other, "%s/%s.%d.map.npy", all, name, t);
            assert_true(same_files(path, other));
            npy_array a = array_at(path);
            assert_int_equal(a.shape[0], 96);
            assert_int_equal(a.shape[1], 96);
            for (size_t k = 0; k < 96 * 96; k++) {
                assert_true(a.data[k] >= 0 && a.data[k] <= 1);
                if (a.data[k] < low) low = a.data[k];
                if (a.data[k] > high) high = a.data[k];
            }
            assert_true(low < 0.1f && high > 0.9f);
            npy_free(&a);
        }
    }
    assert_int_equal(count_files(all, ".map.npy"), 2 * method_count());
    picture page;
    err e = {{0}};
    snprintf(path, sizeof path, "%s/maps.png", all);
    assert_true(picture_read(path, &page, &e));
    assert_true(page.width > 5 * 216 && page.width <= 1280 && page.height > 5 * 100);
    picture_free(&page);
    snprintf(path, sizeof path, "%s/0.map.npy", scratch("surgery"));
    snprintf(one, sizeof one, "%s/0.map.npy", scratch("similarity"));
    assert_false(same_files(path, one));
}

static void blocks_and_layers_matter(void **state) {
    (void)state;
    const char *m = model_with_merges("nano-hf-f32");
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--method", "surgery", "-o", scratch("s3"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--method", "surgery", "--blocks", "3", "-o", scratch("all3"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--method", "surgery", "--blocks", "1", "-o", scratch("s1"), NULL));
    assert_true(same_files(scratch("s3/0.map.npy"), scratch("all3/0.map.npy"))); /* 6 in a model of 3: all of them */
    assert_false(same_files(scratch("s3/0.map.npy"), scratch("s1/0.map.npy")));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "-o", scratch("l2"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--layers", "2", "-o", scratch("two"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--layers", "1", "-o", scratch("l1"), NULL));
    assert_true(same_files(scratch("l2/0.map.npy"), scratch("two/0.map.npy")));
    assert_false(same_files(scratch("l2/0.map.npy"), scratch("l1/0.map.npy")));
}

/* ---- templates ------------------------------------------------------------------------------------------------ */
static void surgery_has_85_templates(void **state) {
    (void)state;
    const char *m = model_with_merges("nano-hf-f32");
    char text[8192] = "";
    for (size_t i = 0; i < BUILTIN_TEMPLATES; i++) {
        assert_non_null(strstr(builtin_templates[i], "{}"));
        for (size_t k = 0; k < i; k++) assert_string_not_equal(builtin_templates[i], builtin_templates[k]);
        strcat(strcat(text, builtin_templates[i]), "\n");
    }
    put_bytes(scratch("85.txt"), text, strlen(text));
    for (int texts = 1; texts <= 2; texts++) {
        const char *more = texts == 2 ? "-t" : NULL;
        must(run("explain", "-m", m, "-i", IMAGE, "--method", "surgery", "-o", scratch("own"), "-t", "fish", more, "cat", NULL));
        must(run("explain", "-m", m, "-i", IMAGE, "--method", "surgery", "--templates", "builtin", "-o", scratch("builtin"), "-t",
                 "fish", more, "cat", NULL));
        must(run("explain", "-m", m, "-i", IMAGE, "--method", "surgery", "--templates", scratch("85.txt"), "-o", scratch("file"),
                 "-t", "fish", more, "cat", NULL));
        must(run("explain", "-m", m, "-i", IMAGE, "--method", "surgery", "--template", "{}", "-o", scratch("bare"), "-t", "fish",
                 more, "cat", NULL));
        assert_true(same_files(scratch("own/0.map.npy"), scratch("builtin/0.map.npy")));
        assert_true(same_files(scratch("own/0.map.npy"), scratch("file/0.map.npy")));
        assert_false(same_files(scratch("own/0.map.npy"), scratch("bare/0.map.npy")));
    }
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "-o", scratch("own"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--templates", "builtin", "-o", scratch("builtin"), NULL));
    assert_false(same_files(scratch("own/0.map.npy"), scratch("builtin/0.map.npy"))); /* LeGrad has none */
}

/* Those whose code embeds names in the 80 published for ImageNet: Surgery's 5 are not among them. */
static void the_others_have_80(void **state) {
    static const char *const names[] = {"sclip", "clearclip", "naclip", "resclip", "scclip"};
    (void)state;
    const char *m = model_with_merges("nano-hf-f32");
    char text[8192] = "";
    for (size_t i = 0; i < 80; i++) strcat(strcat(text, builtin_templates[i]), "\n");
    put_bytes(scratch("80.txt"), text, strlen(text));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        must(run("explain", "-m", m, "-i", IMAGE, "--method", names[i], "-o", scratch("own"), "-t", "fish", "-t", "cat", NULL));
        must(run("explain", "-m", m, "-i", IMAGE, "--method", names[i], "--templates", scratch("80.txt"), "-o", scratch("file"), "-t",
                 "fish", "-t", "cat", NULL));
        assert_true(same_files(scratch("own/0.map.npy"), scratch("file/0.map.npy")));
        must(run("explain", "-m", m, "-i", IMAGE, "--method", names[i], "--templates", "builtin", "-o", scratch("file"), "-t", "fish",
                 "-t", "cat", NULL));
        assert_true(same_files(scratch("own/1.map.npy"), scratch("file/1.map.npy")));
    }
}

static void embeddings_serve_every_method(void **state) {
    (void)state;
    const char *m = model_with_merges("nano-openclip-f16");
    must(run("embed", "-m", m, "-t", "a fish", "-o", scratch("rows.npy"), NULL));
    for (size_t i = 0; i < method_count(); i++) {
        const char *name = method_at(i)->name;
        must(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("rows.npy"), "--method", name, "--template", "{}", "-o",
                 scratch("row"), NULL));
        must(run("explain", "-m", m, "-i", IMAGE, "-t", "a fish", "--method", name, "--template", "{}", "-o", scratch("text"), NULL));
        npy_array a = array_at(scratch("row/0.map.npy")), b = array_at(scratch("text/0.map.npy"));
        for (size_t k = 0; k < 64 * 64; k++) assert_true(fabs((double)(a.data[k] - b.data[k])) < BY_BUILD(1e-4, 1e-6));
        npy_free(&a);
        npy_free(&b);
    }
}

/* ---- points, classes ---------------------------------------------------------------------------------------------- */
static void points_are_json(void **state) {
    (void)state;
    err e = {{0}};
    must(run("explain", "-m", model_with_merges("nano-hf-f32"), "-i", IMAGE, "-t", "a \"fish\"", "-t", "cat", "--method",
             "surgery", "--points", NULL));
    cJSON *j = json_parse(said.out, strlen(said.out), "points", &e);
    if (!j) fail_msg("%s", e.text);
    double width = cJSON_GetObjectItem(j, "width")->valuedouble, height = cJSON_GetObjectItem(j, "height")->valuedouble;
    picture photo;
    assert_true(picture_read(IMAGE, &photo, &e));
    assert_int_equal((size_t)width, photo.width);
    assert_int_equal((size_t)height, photo.height);
    picture_free(&photo);
    cJSON *texts = cJSON_GetObjectItem(j, "texts");
    assert_int_equal(cJSON_GetArraySize(texts), 2);
    assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(texts, 0), "text")->valuestring, "a \"fish\"");
    for (int t = 0; t < 2; t++) {
        cJSON *coords = cJSON_GetObjectItem(cJSON_GetArrayItem(texts, t), "point_coords");
        cJSON *labels = cJSON_GetObjectItem(cJSON_GetArrayItem(texts, t), "point_labels");
        int n = cJSON_GetArraySize(coords);
        assert_true(n >= 2 && n % 2 == 0 && n == cJSON_GetArraySize(labels));
        for (int i = 0; i < n; i++) {
            cJSON *p = cJSON_GetArrayItem(coords, i);
            assert_int_equal(cJSON_GetArraySize(p), 2);
            assert_true(cJSON_GetArrayItem(p, 0)->valuedouble < width && cJSON_GetArrayItem(p, 1)->valuedouble < height);
            assert_int_equal(cJSON_GetArrayItem(labels, i)->valueint, i < n / 2);
        }
    }
    json_free(j);
}

static void classes_are_the_loudest_text(void **state) {
    (void)state;
    enum { TEXTS = 3, SIDE = 64, CELLS = 64 };
    static const char *const texts[TEXTS] = {"fish", "a red cat", "house"};
    const char *m = model_with_merges("nano-hf-f32");
    err e = {{0}};
    fault f = {0};
    must(run("explain", "-m", m, "-i", IMAGE, "-t", texts[0], "-t", texts[1], "-t", texts[2], "--method", "clearclip", "--argmax",
             "--template", "{}", "-o", scratch("classes"), NULL));
    picture photo, map, legend;
    assert_true(picture_read(IMAGE, &photo, &e) && picture_read(scratch("classes/argmax.png"), &map, &e));
    assert_true(picture_read(scratch("classes/argmax.legend.png"), &legend, &e));
    assert_true(map.width == photo.width && map.height == photo.height && legend.width > photo.width);
    size_t length, n = photo.width * photo.height;
    char *bytes = bytes_at(scratch("classes/argmax.png"), &length);
    assert_int_equal(bytes[25], 3); /* a palette */
    mem_free(bytes);

    checkpoint *c = checkpoint_open(m, &e);
    const clip_config *config = &checkpoint_model(c)->config;
    arena memory;
    void *room = mem_reserve(64 << 20);
    explainer x;
    arena_init(&memory, room, 64 << 20);
    real *rows = calloc(TEXTS, config->embed * sizeof *rows), grids[TEXTS * CELLS], *fit[TEXTS];
    real *pixels = pixels_squash(&photo, SIDE, config->mean, config->std, &e);
    assert_true(texts_embed(c, texts, TEXTS, NULL, 0, &memory, NULL, rows, &e));
    assert_true(method_open(&x, method_find("clearclip"), checkpoint_model(c), pixels, SIDE, SIDE, NULL, &memory, NULL, &f));
    assert_true(method_grids(&x, rows, TEXTS, NULL, grids, &f));
    for (size_t t = 0; t < TEXTS; t++) {
        fit[t] = calloc(n, sizeof **fit);
        map_resize(grids + t * CELLS, 8, 8, fit[t], photo.height, photo.width);
    }
    size_t seen[TEXTS] = {0};
    for (size_t i = 0; i < n; i++) {
        size_t best = 0;
        unsigned char colour[3];
        for (size_t t = 1; t < TEXTS; t++)
            if (fit[t][i] > fit[best][i]) best = t;
        seen[best]++;
        class_colour(best, colour);
        assert_memory_equal(map.rgb + 3 * i, colour, 3);
    }
    assert_true((seen[0] > 0) + (seen[1] > 0) + (seen[2] > 0) >= 2);
    for (size_t t = 0; t < TEXTS; t++) free(fit[t]);
    free(rows);
    mem_free(pixels);
    mem_release(room, 64 << 20);
    checkpoint_free(c);
    picture_free(&photo);
    picture_free(&map);
    picture_free(&legend);
}

static void class_colours_differ(void **state) {
    (void)state;
    unsigned char colours[20][3];
    for (size_t i = 0; i < 20; i++) {
        class_colour(i, colours[i]);
        for (size_t k = 0; k < i; k++) {
            int apart = 0;
            for (int c = 0; c < 3; c++) apart += abs(colours[i][c] - colours[k][c]);
            if (apart < 30) fail_msg("colours %zu and %zu are %d apart", k, i, apart);
        }
    }
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */
static void bad_requests(void **state) {
    (void)state;
    const char *m = model_with_merges("nano-hf-f32");
    static const struct { const char *a, *b, *c, *d; int code; const char *says; } cases[] = {
        {"--method", "legrat", NULL, NULL, 2, "legrad|attention|rollout"},
        {"--method", "surgery", "--blocks", "4", 1, "1 to 3 allowed"},
        {"--method", "all", "--blocks", "99", 1, "--blocks: 99 found"},
        {"--method", "legrad", "--layers", "4", 1, "--layers: 4 found, 1 to 3"},
        {"--method", "legrad", "--blocks", "2", 2, "legrad takes --layers"},
        {"--method", "surgery", "--layers", "2", 2, "--layers is legrad's"},
        {"--method", "naclip", "--tau-r", "3", 2, "--tau-r is resclip's, naclip found"},
        {"--method", "legrad", "--base", "sclip", 2, "--base is resclip's, legrad found"},
        {"--method", "similarity", "--blocks", "1", 2, "similarity leaves no choice"},
        {"--method", "gradcam", "--blocks", "1", 2, "gradcam leaves no choice"},
        {"--method", "attention", "--argmax", NULL, 2, "does not depend on the text"},
        {"--method", "all", "--points", NULL, 2, "--points"},
        {"--method", "gem", "--argmax", NULL, 1, "--argmax: 2 to 256"},
        {"--template", "no slot", NULL, NULL, 1, "no slot"},
        {"--template", "{}", "--templates", "builtin", 2, "--template and --templates"},
        {"--templates", "/nonexistent", NULL, NULL, 1, "/nonexistent"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int code = run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "-o", scratch("no"), cases[i].a, cases[i].b, cases[i].c,
                       cases[i].d, NULL);
        if (code != cases[i].code || !strstr(said.err, cases[i].says) || said.out[0])
            fail_msg("%s %s %s: exit %d, said: %s", cases[i].a, cases[i].b, cases[i].c ? cases[i].c : "", code, said.err);
    }
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", NULL), 2);
    assert_non_null(strstr(said.err, "--out DIR"));
    /* a model without a vocabulary: Surgery of one row asks for the empty text */
    must(run("embed", "-m", m, "-t", "fish", "-o", scratch("row.npy"), NULL));
    assert_int_equal(run("explain", "-m", DATA "nano-hf-f32", "-i", IMAGE, "-e", scratch("row.npy"), "--method", "surgery", "-o",
                         scratch("no"), NULL), 1);
    assert_non_null(strstr(said.err, "the empty text"));
}

/* Is it one of the methods before the reason in "warning: A, B, C: reason"? */
static bool is_named(const char *name) {
    for (const char *at = said.err; (at = strstr(at, "warning: ")); at++) {
        const char *from = at + strlen("warning: "), *end = strstr(from, ": "), *word = from;
        while (end && (word = strstr(word, name)) && word < end) {
            bool begins = word == from || word[-1] == ' ';
            word += strlen(name);
            if (begins && (*word == ',' || *word == ':')) return true;
        }
    }
    return false;
}

/* All methods where some have no map: exit 0, each said by name with its reason, the others' maps as without --method all. One
 * row, on a model without class tokens, on a ResNet, and on one without a vocabulary, which lacks Surgery's empty text. */
static void all_says_which_have_none(void **state) {
    static const struct { const char *model, *none[3], *some; } cases[] = {
        {"checkpoints/siglip-hf", {"similarity", "surgery", "naclip"}, "legrad"},
        {"checkpoints/siglip2-hf-sharded", {"sclip", "scclip", "cliptrase"}, "legrad"},
        {"checkpoints/resnet-openclip", {"similarity", "gem", "surgery"}, "legrad"},
        {"nano-hf-f32", {"surgery", NULL, NULL}, "naclip"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char m[300], out[300], one[300], rows[300], a[400], b[400];
        err e = {{0}};
        snprintf(m, sizeof m, DATA "%s", cases[i].model);
        checkpoint *c = checkpoint_open(m, &e);
        if (!c) fail_msg("%s", e.text);
        size_t E = checkpoint_model(c)->config.embed;
        real row[64] = {1, -2, 3};
        snprintf(rows, sizeof rows, "%s", scratch("row%zu.npy", E));
        assert_true(E <= 64 && npy_write(rows, row, (size_t[]){1, E}, 2, &e));
        checkpoint_free(c);
        snprintf(out, sizeof out, "%s", scratch("none%zu", i));
        snprintf(one, sizeof one, "%s", scratch("one%zu", i));
        must(run("explain", "-m", m, "-i", IMAGE, "-e", rows, "--method", "all", "--multi", "--pamr", "3", "-o", out, NULL));
        size_t said_none = 0;
        for (size_t k = 0; k < method_count(); k++) said_none += is_named(method_at(k)->name);
        for (size_t k = 0; k < 3 && cases[i].none[k]; k++)
            if (!is_named(cases[i].none[k])) fail_msg("%s: %s expected, found: %s", m, cases[i].none[k], said.err);
        if (said_none + count_files(out, ".map.npy") + (strstr(said.err, "are the same everywhere") != NULL) != method_count())
            fail_msg("%s: %zu said, %zu maps: %s", m, said_none, count_files(out, ".map.npy"), said.err);
        must(run("explain", "-m", m, "-i", IMAGE, "-e", rows, "--method", cases[i].some, "--pamr", "3", "-o", one, NULL));
        snprintf(a, sizeof a, "%s/%s.0.map.npy", out, cases[i].some), snprintf(b, sizeof b, "%s/0.map.npy", one);
        assert_true(same_files(a, b));
        must(run("explain", "-m", m, "-i", IMAGE, "-e", rows, "--method", cases[i].some, "-o", one, NULL));
        assert_false(same_files(a, b)); /* PAMR does something */
    }
    const char *m = model_with_merges("nano-hf-f32");
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--method", "all", "--pamr", "2", "--dilations", "1,3", "-o", scratch("text"), NULL));
    assert_null(strstr(said.err, "no map of"));
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--pamr", "2", "--dilations", "0", "-o", scratch("text"), NULL), 2);
}

static void a_flat_map_says_so(void **state) {
    (void)state;
    if (sizeof(real) != sizeof(float)) SKIP("the row is the picture's embedding but for a file's rounding, which double sees");
    const char *m = model_with_merges("nano-hf-f32");
    must(run("embed", "-m", m, "-i", IMAGE, "--squash", "--size", "64", "-o", scratch("image.npy"), NULL));
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("image.npy"), "--method", "gradcam", "-o", scratch("flat"),
                         NULL), 1);
    assert_non_null(strstr(said.err, "gradcam of 'row 0'"));
    assert_int_equal(count_files(scratch("flat"), ".npy"), 0);
    must(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("image.npy"), "--method", "all", "--multi", "-o", scratch("flat"), NULL));
    assert_non_null(strstr(said.err, "warning"));
    assert_int_equal(count_files(scratch("flat"), "map.npy"), method_count() - 2);
}

static void allocations(void **state) {
    (void)state;
    char model[512], out[512];
    size_t failures = 0;
    snprintf(model, sizeof model, "%s", model_with_merges("nano-openclip-f16"));
    snprintf(out, sizeof out, "%s", scratch("memory"));
    const char *const words[] = {"maskinv", "explain", "-m", model, "-i", IMAGE, "-t", "a fish", "-t", "cat", "--method", "surgery",
                                 "--multi", "--argmax", "--points", "-o", out, NULL};
    char *argv[sizeof words / sizeof *words];
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) argv[i] = (char *)(uintptr_t)words[i];
    for (size_t n = 1;; n += 5) {
        mem_fail_after(n);
        int code = run_v((int)(sizeof words / sizeof *words) - 1, argv);
        mem_fail_after(0);
        if (code == 0) break;
        if (code > 2 || !said.err[0]) fail_msg("allocation %zu failed: exit %d, said '%s'", n, code, said.err);
        failures++;
    }
    assert_true(failures > 10);
    assert_int_equal(count_files(out, ".tmp"), 0);
}

/* ---- other explainers in an inversion ---------------------------------------------------------------------------------- */
static void inverts_by_other_explainers(void **state) {
    (void)state;
    static const char *const names[] = {"legrad", "gradcam", "chefer", "rollout"};
    const char *m = DATA "nanogelu-openclip-bf16";
    for (int i = 0; i < 4; i++) {
        must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "--explainer", names[i], "--lr", "0.05", "-o", scratch("%s", names[i]),
                 "--json", NULL));
        err e = {{0}};
        cJSON *j = json_parse(said.out, strlen(said.out), "result", &e);
        if (!j) fail_msg("%s", e.text);
        cJSON *losses = cJSON_GetObjectItem(cJSON_GetArrayItem(cJSON_GetObjectItem(j, "masks"), 0), "loss");
        assert_true(cJSON_GetArrayItem(losses, 9)->valuedouble < cJSON_GetArrayItem(losses, 0)->valuedouble);
        json_free(j);
        for (int k = 0; k < i; k++)
            assert_false(same_files(scratch("%s/embeddings.npy", names[i]), scratch("%s/embeddings.npy", names[k])));
    }
    assert_int_equal(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "--explainer", "surgery", NULL), 2);
    assert_int_equal(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "--explainer", "gradcam", "--layers", "2", NULL), 2);
    assert_int_equal(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "--explainer", "chefer", "--gradient", "decomposed", NULL), 2);
    assert_int_equal(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "--explainer", "chefer", "--layers", "9", NULL), 1);
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "--explainer", "chefer", "--layers", "2", "--trace", scratch("trace"), NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_method_writes_its_maps, scratch_clean),
        cmocka_unit_test_teardown(blocks_and_layers_matter, scratch_clean),
        cmocka_unit_test_teardown(surgery_has_85_templates, scratch_clean),
        cmocka_unit_test_teardown(the_others_have_80, scratch_clean),
        cmocka_unit_test_teardown(embeddings_serve_every_method, scratch_clean),
        cmocka_unit_test_teardown(points_are_json, scratch_clean),
        cmocka_unit_test_teardown(classes_are_the_loudest_text, scratch_clean),
        cmocka_unit_test(class_colours_differ),
        cmocka_unit_test_teardown(bad_requests, scratch_clean),
        cmocka_unit_test_teardown(all_says_which_have_none, scratch_clean),
        cmocka_unit_test_teardown(a_flat_map_says_so, scratch_clean),
        cmocka_unit_test_teardown(allocations, scratch_clean),
        cmocka_unit_test_teardown(inverts_by_other_explainers, scratch_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
