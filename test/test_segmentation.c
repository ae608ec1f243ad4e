/* test_segmentation.c - eval --task segmentation on every set of the protocol: truth from the drawn sets' own lists of regions
 * (another program's), labels from `maskinv segment`, counted here; means from whole numbers; shards, kills and limits. */
#include "files/json.h"
#include "files/files.h"
#include "masks/rle.h"
#include "pictures/labels.h"
#include "x_cli.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SETS DATA "datasets/"
enum { NOTHING = 0xffff, MOST = 256 };
static char model[512];

/* ---- truth, by the spec's words --------------------------------------------------------------------------------- */
/* COCO's ids without those that never occur, counted from 0. */
static unsigned coco_place(long id, long last) {
    static const long never[] = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91};
    unsigned place = 0;
    if (id < 1 || id > last) return NOTHING;
    for (long k = 1; k <= id; k++) {
        bool occurs = true;
        for (size_t i = 0; i < 11; i++) occurs = occurs && never[i] != k;
        if (k == id) return occurs ? place : NOTHING;
        place += occurs;
    }
    return NOTHING;
}
/* Class of a region by its id in the set. */
static unsigned as_it_is(long id) { return (unsigned)id; }
static unsigned one_less(long id) { return (unsigned)id - 1; }
static unsigned of_stuff(long id) { return coco_place(id + 1, 182); }   /* a picture's value is the id less one */
static unsigned of_object(long id) { return coco_place(id + 1, 90) == NOTHING ? 0 : coco_place(id + 1, 90) + 1; }

typedef struct {
    const char *list, *set, *method;
    unsigned (*class_of)(long id);
    unsigned elsewhere;     /* what pixels of no region are */
    const char *void_of;    /* label pictures whose 255 is nothing; NULL: all of elsewhere is alike */
} protocol;
static const protocol protocols[] = {
    {"voc21", "voc2012", "sclip", as_it_is, 0, "VOCdevkit/VOC2012/SegmentationClass"},
    {"voc20", "voc2012", "naclip", one_less, NOTHING, NULL},
    {"context60", "pascal_context", "clearclip", as_it_is, 0, "VOCdevkit/VOC2010/SegmentationClassContext"},
    {"context59", "pascal_context", "naclip+pamr", one_less, NOTHING, NULL},
    {"coco_object", "coco_stuff", "scclip", of_object, 0, NULL},
    {"coco_stuff164k", "coco_stuff", "maskclip", of_stuff, NOTHING, NULL},
    {"cityscapes", "cityscapes", "resclip", as_it_is, NOTHING, NULL},
    {"ade20k", "ade20k", "similarity", one_less, NOTHING, NULL},
};
enum { PROTOCOLS = sizeof protocols / sizeof *protocols };

typedef struct { unsigned *truth; size_t width, height; const char *file; } picture_truth;

static const char *word(const cJSON *o, const char *key) { return cJSON_GetObjectItem(o, key)->valuestring; }
static size_t whole(const cJSON *o, const char *key) { return (size_t)cJSON_GetObjectItem(o, key)->valuedouble; }

static void empty_pixels(const protocol *p, const char *id, picture_truth *t) {
    for (size_t i = 0; i < t->width * t->height; i++) t->truth[i] = p->elsewhere;
    if (!p->void_of) return;
    char path[512];
    label_image l;
    err e = {0};
    snprintf(path, sizeof path, SETS "%s/root/%s/%s.png", p->set, p->void_of, id);
    if (!labels_read(path, &l, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < t->width * t->height; i++)
        if (l.value[i] == (l.colours ? 224 + 256 * 224 + 65536 * 192 : 255)) t->truth[i] = NOTHING;
    labels_free(&l);
}

static picture_truth truth_of(const protocol *p, const cJSON *all, const char *id) {
    picture_truth t = {0};
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(all, "images"))
        if (!strcmp(word(one, "id"), id)) t = (picture_truth){NULL, whole(one, "width"), whole(one, "height"), word(one, "file")};
    if (!t.width) fail_msg("%s: no picture %s in truth.json", p->set, id);
    size_t n = t.width * t.height;
    t.truth = malloc(n * sizeof *t.truth);
    unsigned char *mask = malloc(n);
    assert_true(t.truth && mask);
    empty_pixels(p, id, &t);
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(all, "regions")) {
        err e = {0};
        const char *rle = word(one, "rle");
        if (strcmp(word(one, "image"), id) != 0 || strcmp(word(one, "kind"), "semantic") != 0) continue;
        if (!rle_decode(rle, strlen(rle), t.height, t.width, mask, &e)) fail_msg("%s", e.text);
        for (size_t i = 0; i < n; i++)
            if (mask[i]) t.truth[i] = p->class_of((long)whole(one, "class_id"));
    }
    free(mask);
    return t;
}

/* ---- labels of the other command --------------------------------------------------------------------------------- */
static label_image labels_of(const protocol *p, const char *file) {
    char path[512], method[32];
    label_image l;
    err e = {0};
    snprintf(path, sizeof path, SETS "%s/root/%s", p->set, file);
    snprintf(method, sizeof method, "%s", p->method);
    char *plus = strchr(method, '+');
    if (plus) *plus = 0;
    if (run("segment", "-i", path, "-m", model, "--classes", p->list, "--method", method, "--template", "{}", "--no-orient", "-o",
            scratch("labels"), plus ? "--pamr" : NULL, "10", NULL))
        fail_msg("%s: %s", path, said.err);
    if (!labels_read(scratch("labels/labels.png"), &l, &e)) fail_msg("%s", e.text);
    return l;
}

/* ---- counted here, and there --------------------------------------------------------------------------------------- */
typedef struct { double hit[MOST], predicted[MOST], truth[MOST]; } counts;

static void count_here(const protocol *p, const cJSON *all, const char *id, counts *c) {
    picture_truth t = truth_of(p, all, id);
    label_image l = labels_of(p, t.file);
    assert_true(l.width == t.width && l.height == t.height);
    for (size_t i = 0; i < t.width * t.height; i++) {
        if (t.truth[i] == NOTHING) continue;
        c->truth[t.truth[i]]++, c->predicted[l.value[i]]++, c->hit[l.value[i]] += l.value[i] == t.truth[i];
    }
    labels_free(&l);
    free(t.truth);
}

/* The only row of a line of results: [class, hits, predicted, true]... */
static void count_there(const cJSON *line, counts *c) {
    const cJSON *one;
    cJSON_ArrayForEach(one, cJSON_GetArrayItem(cJSON_GetObjectItem(line, "rows"), 0)) {
        size_t k = (size_t)cJSON_GetArrayItem(one, 0)->valuedouble;
        assert_true(k < MOST);
        c->hit[k] += cJSON_GetArrayItem(one, 1)->valuedouble, c->predicted[k] += cJSON_GetArrayItem(one, 2)->valuedouble;
        c->truth[k] += cJSON_GetArrayItem(one, 3)->valuedouble;
    }
}

static cJSON *json_at(const char *path) {
    size_t length;
    err e = {0};
    char *text = bytes_at(path, &length);
    cJSON *j = json_parse(text, length, path, &e);
    if (!j) fail_msg("%s", e.text);
    mem_free(text);
    return j;
}

/* mmsegmentation's: IoU = i/(p + t - i), classes that are 0/0 left out of the mean. */
static void means_of(const counts *c, double *miou, double *macc, double *aacc) {
    double iou = 0, acc = 0, seen = 0, true_ones = 0, hits = 0, all = 0;
    for (size_t k = 0; k < MOST; k++) {
        double joint = c->predicted[k] + c->truth[k] - c->hit[k];
        if (joint > 0) iou += c->hit[k] / joint, seen++;
        if (c->truth[k] > 0) acc += c->hit[k] / c->truth[k], true_ones++;
        hits += c->hit[k], all += c->truth[k];
    }
    *miou = iou / seen, *macc = acc / true_ones, *aacc = hits / all;
}

static int survey(const char *set, const char *lists, const char *methods, const char *shard, const char *limit, const char *out) {
    char data[512];
    snprintf(data, sizeof data, "%s:" SETS "%s/root", set, set);
    return run("eval", "-d", data, "-m", model, "--task", "segmentation", "--template", "{}", "--lists", lists, "--methods", methods,
               "--shard", shard, "--limit", limit, "-o", out, NULL);
}

static void check_means(const protocol *p, const counts *there, const char *out) {
    double miou, macc, aacc;
    char path[1100];
    snprintf(path, sizeof path, "%s/table.json", out);
    cJSON *table = json_at(path), *row = cJSON_GetArrayItem(cJSON_GetObjectItem(table, "rows"), 0);
    means_of(there, &miou, &macc, &aacc);
    assert_string_equal(word(row, "name"), p->method);
    assert_string_equal(word(row, "list"), p->list);
    double off = fabs(cJSON_GetObjectItem(row, "miou")->valuedouble - miou) + fabs(cJSON_GetObjectItem(row, "macc")->valuedouble - macc) +
                 fabs(cJSON_GetObjectItem(row, "aacc")->valuedouble - aacc);
    if (!(off <= 1e-9)) fail_msg("%s: the table is %g from its own counts", p->list, off);
    json_free(table);
}

/* Every set: truth to the pixel, labels as the other command has them, means from the counts. */
static void counts_are_right(void **state) {
    (void)state;
    for (size_t i = 0; i < PROTOCOLS; i++) {
        const protocol *p = &protocols[i];
        char path[1100], out[512], *text;
        size_t length, pictures = 0;
        counts *here = calloc(2, sizeof *here), *there = here + 1;
        assert_non_null(here);
        snprintf(out, sizeof out, "%s", scratch("%s", p->list));
        if (survey(p->set, p->list, p->method, "0/1", "999", out)) fail_msg("%s: %s", p->list, said.err);
        snprintf(path, sizeof path, SETS "%s/truth.json", p->set);
        cJSON *all = json_at(path);
        snprintf(path, sizeof path, "%s/results.jsonl", out);
        text = bytes_at(path, &length);
        for (char *line = strchr(text, '\n') + 1, *end; (end = strchr(line, '\n')); line = end + 1) {
            err e = {0};
            cJSON *j = json_parse(line, (size_t)(end - line), path, &e);
            assert_non_null(j);
            if (cJSON_GetObjectItem(j, "rows")) {
                count_here(p, all, word(j, "image"), here);
                count_there(j, there);
                pictures++;
            }
            json_free(j);
        }
        double pixels = 0, apart = 0;
        for (size_t k = 0; k < MOST; k++) {
            if (here->truth[k] != there->truth[k])
                fail_msg("%s: %g pixels of class %zu found, %g expected", p->list, there->truth[k], k, here->truth[k]);
            pixels += here->truth[k];
            apart += fabs(here->hit[k] - there->hit[k]) + fabs(here->predicted[k] - there->predicted[k]);
        }
        assert_true(pictures >= 3 && pixels > 1000);
        if (!(apart <= pixels / 500)) fail_msg("%s: %g of %g pixels are labelled otherwise than by segment", p->list, apart, pixels);
        check_means(p, there, out);
        mem_free(text);
        json_free(all);
        free(here);
    }
}

/* ---- in parts ------------------------------------------------------------------------------------------------------ */
static void cut_short(const char *folder) {
    char path[1100];
    size_t length, lines = 0;
    snprintf(path, sizeof path, "%s/results.jsonl", folder);
    char *text = bytes_at(path, &length);
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    put_bytes(path, text, lines > 1 ? length - 7 : length);
    mem_free(text);
}

static void shards_and_kills(void **state) {
    static const char *const sets[] = {"voc2012", "pascal_context", "coco_stuff", "cityscapes", "ade20k"},
                      *const lists[] = {"voc21,cliptrase_voc21", "context60,cliptrase_context59", "coco_object,cliptrase_coco80",
                                        "cityscapes", "ade20k,cliptrase_ade150"},
                      *const files[] = {"results.jsonl", "table.csv", "table.json", "report.html"};
    (void)state;
    for (size_t i = 0; i < 5; i++) {
        char once[512], merged[512], part[2][512], a[600], b[600];
        snprintf(once, sizeof once, "%s", scratch("%s.once", sets[i]));
        snprintf(merged, sizeof merged, "%s", scratch("%s.merged", sets[i]));
        if (survey(sets[i], lists[i], "naclip,resclip-sclip,cliptrase", "0/1", "999", once)) fail_msg("%s: %s", sets[i], said.err);
        for (int k = 0; k < 2; k++) {
            snprintf(part[k], sizeof part[k], "%s", scratch("%s.%d", sets[i], k));
            for (int again = 0; again < 2; again++) {
                if (survey(sets[i], lists[i], "naclip,resclip-sclip,cliptrase", k ? "1/2" : "0/2", "999", part[k]))
                    fail_msg("%s: %s", sets[i], said.err);
                if (!again) cut_short(part[k]);
            }
        }
        if (run("merge", part[1], part[0], "-o", merged, NULL)) fail_msg("%s: %s", sets[i], said.err);
        for (size_t f = 0; f < 4; f++) {
            snprintf(a, sizeof a, "%s/%s", once, files[f]), snprintf(b, sizeof b, "%s/%s", merged, files[f]);
            if (!same_files(a, b)) fail_msg("%s and %s differ", a, b);
        }
    }
}

static void limits_and_faults(void **state) {
    char out[512];
    (void)state;
    snprintf(out, sizeof out, "%s", scratch("limit"));
    assert_int_equal(survey("ade20k", "ade20k", "naclip", "0/1", "1", out), 0);
    cJSON *t = json_at(scratch("limit/table.json"));
    assert_true(whole(t, "pictures") == 1);
    json_free(t);
    assert_int_equal(survey("voc2012", "voc22", "naclip", "0/1", "999", scratch("no")), 2);
    assert_non_null(strstr(said.err, "voc21, voc20"));
    assert_int_equal(survey("voc2012", "voc21", "nacclip", "0/1", "999", scratch("no")), 2);
    assert_int_equal(survey("mvtec_ad", "voc21", "naclip", "0/1", "999", scratch("no")), 2);
    assert_non_null(strstr(said.err, "no label pictures"));
}

int main(void) {
    mem_hook_cjson();
    snprintf(model, sizeof model, "%s", model_with_merges("nano-hf-f32"));
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_are_right), cmocka_unit_test(shards_and_kills),
                                       cmocka_unit_test(limits_and_faults)};
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
