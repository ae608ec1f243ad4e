/* test_survey.c - eval --data NAME:ROOT: the same bytes in shards, killed and resumed; scores that are counted by hand;
 * broken pictures; what CLIP's row says. */
#include "data/data.h"
#include "eval/survey.h"
#include "files/files.h"
#include "files/json.h"
#include "x_cli.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SETS DATA "datasets/"
static char model[512];

/* The split that the drawn set has. */
static const char *split_of(const char *name) {
    return !strcmp(name, "refcocoplus")                              ? "testA"
           : !strcmp(name, "refcocog") || !strcmp(name, "phrasecut") ? "test"
                                                                     : data_set_find(name)->split;
}

static bool anomalies; /* --task anomaly, in place of the methods */

static int survey_of(const char *name, const char *shard, const char *out) {
    char data[512];
    snprintf(data, sizeof data, "%s:" SETS "%s/root", name, name);
    if (anomalies)
        return run("eval", "-d", data, "-m", model, "--task", "anomaly", "--iters", "2", "--seed", "3", "--shard", shard, "-o", out, NULL);
    return run("eval", "-d", data, "-m", model, "--split", split_of(name), "--methods", "cls,pool,maskinv",
               "--explainers", "legrad", "--iters", "2", "--template", "{}", "--shard", shard, "-o", out, NULL);
}

static void same_files_in(const char *a, const char *b) {
    static const char *const names[] = {"results.jsonl", "table.csv", "table.json", "report.html"};
    for (size_t i = 0; i < 4; i++) {
        char one[2048], other[2048];
        snprintf(one, sizeof one, "%s/%s", a, names[i]);
        snprintf(other, sizeof other, "%s/%s", b, names[i]);
        if (!same_files(one, other)) fail_msg("%s and %s differ", one, other);
    }
}

/* Killed in the middle of its last whole line. */
static void cut_short(const char *folder) {
    char path[2048];
    size_t length, lines = 0;
    snprintf(path, sizeof path, "%s/results.jsonl", folder);
    char *text = bytes_at(path, &length);
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    put_bytes(path, text, lines > 1 ? length - 7 : length);
    mem_free(text);
}

static void the_same_bytes(const char *name) {
    char whole[512], merged[512], part[3][512];
    const char *task = anomalies ? ".anomaly" : "";
    snprintf(whole, sizeof whole, "%s", scratch("%s%s.whole", name, task));
    snprintf(merged, sizeof merged, "%s", scratch("%s%s.merged", name, task));
    if (survey_of(name, "0/1", whole)) fail_msg("%s: %s", name, said.err);
    for (int k = 0; k < 3; k++) {
        char shard[8];
        snprintf(part[k], sizeof part[k], "%s", scratch("%s%s.%d", name, task, k));
        snprintf(shard, sizeof shard, "%d/3", k);
        if (survey_of(name, shard, part[k])) fail_msg("%s: %s", name, said.err);
        cut_short(part[k]);
        if (k == 1) {
            assert_int_equal(run("merge", part[0], part[1], "-o", merged, NULL),
                             1); /* not finished, and one is missing */
            assert_false(file_exists(merged));
        }
        if (survey_of(name, shard, part[k])) fail_msg("%s: %s", name, said.err);
    }
    if (run("merge", part[2], part[0], part[1], "-o", merged, NULL)) fail_msg("%s: %s", name, said.err);
    same_files_in(whole, merged);
}

static void shards_and_kills(void **state) {
    (void)state;
    for (size_t i = 0; i < data_set_count(); i++) the_same_bytes(data_set_at(i)->name);
}

/* ---- numbers --------------------------------------------------------------------------------------------- */
static cJSON *table_of(const char *folder) {
    char path[512];
    size_t length;
    err e = {0};
    snprintf(path, sizeof path, "%s/table.json", folder);
    char *text = bytes_at(path, &length);
    cJSON *j = json_parse(text, length, path, &e);
    if (!j) fail_msg("%s", e.text);
    mem_free(text);
    return j;
}

static double number_of(const cJSON *table, const char *row, const char *measure, const char *key) {
    const cJSON *r;
    cJSON_ArrayForEach(r, cJSON_GetObjectItem(table, "rows")) {
        if (strcmp(cJSON_GetObjectItem(r, "name")->valuestring, row) != 0) continue;
        const cJSON *v = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(r, "measures"), measure), key);
        if (!cJSON_IsNumber(v)) fail_msg("%s has no %s of %s", row, key, measure);
        return v->valuedouble;
    }
    fail_msg("no row %s", row);
    return NAN;
}

/* CLIP's token is the same for all masks of a picture: of a picture's n expressions exactly one mask takes the first.
 */
static void clip_cannot_see_masks(void **state) {
    (void)state;
    const char *out = scratch("clip");
    assert_int_equal(survey_of("phrasecut", "0/1", out), 0);
    cJSON *t = table_of(out);
    double n = number_of(t, "cls", "expression_very", "n"), pictures = cJSON_GetObjectItem(t, "pictures")->valuedouble;
    assert_true(fabs(number_of(t, "cls", "expression_very", "value") * n - pictures) < 1e-6);
    assert_true(fabs(number_of(t, "cls", "expression_very", "chance") * n - pictures) < 1e-6);
    assert_true(fabs(number_of(t, "cls", "expression_any", "published") - .144) < 1e-9);
    assert_non_null(strstr(said.out, "none of the paper's"));
    json_free(t);
}

/* Regions are counted: 34 in VOC's small set, by kind; nothing is lost between listing and table. */
static void every_region_counts(void **state) {
    (void)state;
    const char *out = scratch("count");
    size_t areas = 0, objects = 0;
    assert_int_equal(run("dataset", "voc2012", SETS "voc2012/root", "--list", NULL), 0);
    for (const char *at = said.out; (at = strstr(at, "\"kind\":\"")); at++)
        areas += at[8] == 's', objects += at[8] == 'i';
    assert_int_equal(survey_of("voc2012", "0/1", out), 0);
    cJSON *t = table_of(out);
    assert_true(areas > 0 && number_of(t, "pool", "class_areas", "n") == (double)areas);
    assert_true(objects > 0 && number_of(t, "pool", "class_objects", "n") == (double)objects);
    assert_true(number_of(t, "legrad", "pointing", "n") == (double)areas);
    assert_true(cJSON_GetObjectItem(t, "left_out")->valuedouble == 1);
    json_free(t);
    size_t length;
    char page[512];
    snprintf(page, sizeof page, "%s/report.html", out);
    char *text = bytes_at(page, &length); /* what was left out is a line of it, with its reason */
    assert_non_null(strstr(text, "<li><b>2007_999999</b>: picture missing: VOCdevkit/VOC2012/JPEGImages/2007_999999.jpg</li>"));
    mem_free(text);
    assert_int_equal(survey_of("voc2012", "0/2", out), 1); /* another run lies there */
    assert_non_null(strstr(said.err, "an earlier run is there"));
}

static void limits_and_faults(void **state) {
    (void)state;
    assert_int_equal(run("eval", "-d", "voc2012:" SETS "voc2012/root", "-m", model, "--methods", "cls", "--limit", "2",
                         "--template", "{}", "-o", scratch("limit"), NULL),
                     0);
    cJSON *t = table_of(scratch("limit"));
    assert_true(cJSON_GetObjectItem(t, "pictures")->valuedouble == 2);
    json_free(t);
    assert_int_equal(run("eval", "-d", "voc2012:" SETS "coco2017/root", "-m", model, "--methods", "cls", "-o",
                         scratch("wrong"), NULL),
                     1);
    assert_non_null(strstr(said.err, "get it from"));
    assert_int_equal(run("eval", "-d", "voc2012:" SETS "voc2012/root", "-m", model, "--methods", "clss", "-o",
                         scratch("wrong"), NULL),
                     2);
}

/* AnoVL on both: the same bytes however it is run; a flawed one without its mask is not counted; each class has its measures. */
static void anomaly_task(void **state) {
    (void)state;
    static const char *const names[] = {"mvtec_ad", "visa"};
    static const int pictures[] = {9, 8}, flawed[] = {5, 4};
    for (size_t i = 0; i < 2; i++) {
        anomalies = true;
        char folder[64];
        snprintf(folder, sizeof folder, "%s.anomaly.whole", names[i]);
        the_same_bytes(names[i]);
        anomalies = false;
        cJSON *t = table_of(scratch("%s", folder)), *mean = NULL, *row;
        cJSON_ArrayForEach(row, cJSON_GetObjectItem(t, "classes")) {
            mean = row;
            double auroc = cJSON_GetObjectItem(row, "pixel_auroc")->valuedouble, image = cJSON_GetObjectItem(row, "image_auroc")->valuedouble;
            assert_true(auroc >= 0 && auroc <= 1 && image >= 0 && image <= 1);
        }
        assert_string_equal(cJSON_GetObjectItem(mean, "class")->valuestring, "mean");
        assert_true(cJSON_GetObjectItem(mean, "pictures")->valuedouble == pictures[i]);
        assert_true(cJSON_GetObjectItem(mean, "anomalous")->valuedouble == flawed[i]);
        json_free(t);
    }
    assert_int_equal(run("eval", "-d", "voc2012:" SETS "voc2012/root", "-m", model, "--task", "anomaly", "-o", scratch("no"), NULL), 1);
    assert_non_null(strstr(said.err, "mvtec_ad or visa expected"));
    assert_int_equal(run("eval", "-d", "visa:" SETS "visa/root", "-m", model, "--task", "anomaly", "--methods", "cls", "-o", scratch("no"), NULL), 2);
    assert_int_equal(run("anomaly", "-m", model, "-i", IMAGE, "-i", IMAGE, "-c", "wood", "--one-view", "-o", scratch("an"), NULL), 0);
    npy_array map = array_at(scratch("an/image_2.anomaly.npy"));
    assert_int_equal(map.rank, 2);
    npy_free(&map);
    assert_true(file_exists(scratch("an/image.anomaly.png")) && file_exists(scratch("an/anomaly.json")));
}

static int clean(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    mem_hook_cjson();
    snprintf(model, sizeof model, "%s", model_with_merges("nano-hf-f32"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_and_kills),
        cmocka_unit_test(clip_cannot_see_masks),
        cmocka_unit_test(every_region_counts),
        cmocka_unit_test(limits_and_faults),
        cmocka_unit_test(anomaly_task),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}
