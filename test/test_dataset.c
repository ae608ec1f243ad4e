/* test_dataset.c - every layout's listing against its truth (test/data/datasets, made and read by an independent
 * program), and what is said of tables that are missing or broken. */
#include "data/data.h"
#include "files/files.h"
#include "files/json.h"
#include "masks/rle.h"
#include "pictures/labels.h"
#include "x_cli.h"
#include "os/os.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SETS DATA "datasets/"

/* ---- a listing, as JSON lines ------------------------------------------------------------------------ */
typedef struct {
    cJSON *line[512];
    size_t count;
} lines;

static void take_lines(lines *l, const char *text) {
    l->count = 0;
    for (const char *at = text, *end; *at; at = end + 1) {
        err e = {0};
        end = strchr(at, '\n');
        assert_non_null(end);
        assert_true(l->count < 512);
        l->line[l->count] = json_parse(at, (size_t)(end - at), "line", &e);
        if (!l->line[l->count]) fail_msg("%s: %.200s", e.text, at);
        l->count++;
    }
}

static void free_lines(lines *l) {
    for (size_t i = 0; i < l->count; i++) json_free(l->line[i]);
}

static const char *text_of(const cJSON *o, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static bool is_region(const cJSON *o) { return text_of(o, "id") && text_of(o, "kind"); }

static const cJSON *find_region(const lines *l, const char *id) {
    for (size_t i = 0; i < l->count; i++)
        if (is_region(l->line[i]) && !strcmp(text_of(l->line[i], "id"), id)) return l->line[i];
    return NULL;
}

/* ---- against the truth --------------------------------------------------------------------------------- */
static cJSON *truth_of(const char *name) {
    char path[512];
    size_t length;
    err e = {0};
    snprintf(path, sizeof path, SETS "%s/truth.json", name);
    char *text = bytes_at(path, &length);
    cJSON *truth = json_parse(text, length, path, &e);
    if (!truth) fail_msg("%s", e.text);
    mem_free(text);
    return truth;
}

/* All fields but the hash and the file of the mask, which rle tells. */
static void same_region(const cJSON *want, const cJSON *got) {
    const cJSON *field;
    cJSON_ArrayForEach(field, want) {
        if (!strcmp(field->string, "sha256") || !strcmp(field->string, "mask")) continue;
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(got, field->string);
        if (!other || !cJSON_Compare(field, other, true))
            fail_msg("%s: %s is %s, expected %s", text_of(want, "id"), field->string,
                     other ? cJSON_PrintUnformatted(other) : "missing", cJSON_PrintUnformatted(field));
    }
}

static void same_regions(const cJSON *truth, const lines *l) {
    const cJSON *want;
    size_t regions = 0, wanted = 0;
    cJSON_ArrayForEach(want, cJSON_GetObjectItem(truth, "regions")) {
        const cJSON *got = find_region(l, text_of(want, "id"));
        if (!got) fail_msg("%s is missing", text_of(want, "id"));
        same_region(want, got);
        wanted++;
    }
    for (size_t i = 0; i < l->count; i++) regions += is_region(l->line[i]);
    assert_int_equal(regions, wanted);
}

static void same_left_out(const cJSON *truth, const lines *l) {
    const cJSON *want;
    size_t found = 0, wanted = 0;
    cJSON_ArrayForEach(want, cJSON_GetObjectItem(truth, "skipped")) {
        bool there = false;
        for (size_t i = 0; i < l->count && !there; i++)
            there = text_of(l->line[i], "why") && !strcmp(text_of(l->line[i], "why"), text_of(want, "why")) &&
                    !strcmp(text_of(l->line[i], "id"), text_of(want, "id"));
        if (!there) fail_msg("%s: \"%s\" is not said", text_of(want, "id"), text_of(want, "why"));
        wanted++;
    }
    for (size_t i = 0; i < l->count; i++) {
        found += text_of(l->line[i], "why") != NULL;
        if (found) assert_non_null(text_of(l->line[i], "why")); /* they stand last */
    }
    assert_int_equal(found, wanted);
}

/* The pictures' files, sides and ids; and that the colours are those of the stored pixels (stb's and Pillow's decoders
 * differ by some units in a JPEG). */
static void same_pictures(const char *name, const cJSON *truth, const lines *l) {
    const cJSON *want;
    size_t pictures = 0, wanted = 0;
    cJSON_ArrayForEach(want, cJSON_GetObjectItem(truth, "images")) {
        const cJSON *got = NULL, *mean = cJSON_GetObjectItem(want, "mean_rgb");
        picture p;
        err e = {0};
        char path[512];
        for (size_t i = 0; i < l->count; i++)
            if (!text_of(l->line[i], "id") && !strcmp(text_of(l->line[i], "file"), text_of(want, "file")))
                got = l->line[i];
        if (!got) fail_msg("%s is not listed", text_of(want, "file"));
        assert_true(cJSON_Compare(cJSON_GetObjectItem(got, "image"), cJSON_GetObjectItem(want, "id"), true));
        assert_true(cJSON_Compare(cJSON_GetObjectItem(got, "width"), cJSON_GetObjectItem(want, "width"), true));
        assert_true(cJSON_Compare(cJSON_GetObjectItem(got, "height"), cJSON_GetObjectItem(want, "height"), true));
        snprintf(path, sizeof path, SETS "%s/root/%s", name, text_of(want, "file"));
        if (!picture_read_stored(path, &p, &e)) fail_msg("%s", e.text);
        for (int c = 0; c < 3; c++) {
            double sum = 0;
            for (size_t i = 0; i < p.width * p.height; i++) sum += p.rgb[3 * i + (size_t)c];
            double off = sum / (double)(p.width * p.height) - cJSON_GetArrayItem(mean, c)->valuedouble;
            if (!(fabs(off) <= 2)) fail_msg("%s: channel %d is off by %g", path, c, off);
        }
        picture_free(&p);
        wanted++;
    }
    for (size_t i = 0; i < l->count; i++) pictures += !text_of(l->line[i], "id");
    assert_int_equal(pictures, wanted);
}

/* Captions (of all pictures, in order), the classes of ImageNet's pictures, points. */
static void same_rest(const cJSON *truth, const lines *l) {
    const cJSON *want, *caption, *captions = cJSON_GetObjectItem(truth, "captions");
    int at = 0;
    for (size_t i = 0; i < l->count; i++)
        cJSON_ArrayForEach(caption, cJSON_GetObjectItem(l->line[i], "captions"))
            assert_string_equal(caption->valuestring, text_of(cJSON_GetArrayItem(captions, at++), "caption"));
    assert_int_equal(at, captions ? cJSON_GetArraySize(captions) : 0);
    cJSON_ArrayForEach(want, cJSON_GetObjectItem(truth, "samples")) {
        bool there = false;
        for (size_t i = 0; i < l->count; i++)
            there =
                there ||
                (cJSON_Compare(cJSON_GetObjectItem(l->line[i], "image"), cJSON_GetObjectItem(want, "image"), true) &&
                 cJSON_Compare(cJSON_GetObjectItem(l->line[i], "class_id"), cJSON_GetObjectItem(want, "index"), true));
        assert_true(there);
    }
    at = 0;
    for (size_t i = 0; i < l->count; i++) at += cJSON_GetArraySize(cJSON_GetObjectItem(l->line[i], "points"));
    assert_int_equal(at, cJSON_GetArraySize(cJSON_GetObjectItem(truth, "points")));
}

static void check_set(const char *name) {
    char root[512];
    cJSON *truth = truth_of(name);
    const cJSON *reader = cJSON_GetObjectItem(truth, "reader");
    const char *split = text_of(reader, "split");
    if (!split && !strcmp(name, "phrasecut")) split = "test";
    snprintf(root, sizeof root, SETS "%s/root", name);
    if (split ? run("dataset", name, root, "--list", "--split", split, NULL)
              : run("dataset", name, root, "--list", NULL))
        fail_msg("%s", said.err);
    lines *l = mem_alloc(1, sizeof *l);
    assert_non_null(l);
    take_lines(l, said.out);
    same_regions(truth, l);
    same_left_out(truth, l);
    same_pictures(name, truth, l);
    same_rest(truth, l);
    free_lines(l);
    mem_free(l);
    json_free(truth);
}

static void every_layout(void **state) {
    (void)state;
    for (size_t i = 0; i < data_set_count(); i++) check_set(data_set_at(i)->name);
}

/* ---- masks as files --------------------------------------------------------------------------------------- */
static void masks_as_files(void **state) {
    (void)state;
    const char *folder = scratch("masks");
    assert_int_equal(run("dataset", "coco2017", SETS "coco2017/root", "--list", "--masks", folder, NULL), 0);
    lines *l = mem_alloc(1, sizeof *l);
    take_lines(l, said.out);
    size_t regions = 0;
    for (size_t i = 0; i < l->count; i++) {
        label_image m;
        err e = {0};
        size_t area = 0;
        if (!is_region(l->line[i])) continue;
        regions++;
        if (!labels_read(text_of(l->line[i], "mask"), &m, &e)) fail_msg("%s", e.text);
        for (size_t k = 0; k < m.width * m.height; k++) {
            assert_true(m.value[k] == 0 || m.value[k] == 255);
            area += m.value[k] == 255;
        }
        assert_int_equal(area, (size_t)cJSON_GetObjectItem(l->line[i], "area")->valuedouble);
        labels_free(&m);
    }
    assert_int_equal(count_files(folder, ".png"), regions);
    free_lines(l);
    mem_free(l);
}

/* ---- tables that are missing or broken ---------------------------------------------------------------------- */
static void missing_tables(void **state) {
    (void)state;
    static const char *const names[][2] = {
        {"voc2012", "ImageSets/Segmentation/val.txt"},
        {"pascal_context", "ImageSets/SegmentationContext/val.txt"},
        {"pascal_context_mat", "labels.txt"},
        {"coco2017", "annotations/instances_val2017.json"},
        {"coco_panoptic", "panoptic_val2017.json"},
        {"coco_stuff", "labels.txt"},
        {"refcoco", "refcoco/instances.json"},
        {"refcocoplus", "refcoco+/instances.json"},
        {"refcocog", "refcocog/instances.json"},
        {"reclip", "reclip_data/refcoco_val.jsonl"},
        {"phrasecut", "image_data_split"},
        {"openimages_v7", "oidv7-class-descriptions.csv"},
        {"ade20k", "objectInfo150.txt"},
        {"cityscapes", "leftImg8bit/val"},
        {"imagenet_s", "ImageNetS_categories_im919.txt"},
        {"imagenet", "LOC_synset_mapping.txt"},
        {"mvtec_ad", "CATEGORY/test"},
        {"visa", "split_csv/1cls.csv"},
        {"flickr30k", "dataset_flickr30k.json"},
    };
    const char *empty = scratch("empty");
    err e = {0};
    assert_true(folder_make(empty, &e));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(run("dataset", names[i][0], empty, "--list", NULL), 1);
        if (!strstr(said.err, names[i][1]) || !strstr(said.err, "http")) fail_msg("%s: %s", names[i][0], said.err);
        assert_string_equal(said.out, "");
    }
    assert_int_equal(run("dataset", "voc2012", scratch("nowhere"), "--list", NULL), 1);
    assert_non_null(strstr(said.err, "no such folder"));
    assert_int_equal(run("dataset", "voc2013", empty, "--list", NULL), 2);
    assert_int_equal(run("dataset", "voc2012", NULL), 2);
    assert_int_equal(run("dataset", "voc2012", empty, "--by", "unc", NULL), 1);
    assert_int_equal(run("dataset", "voc2012", empty, "--split", "../val", NULL), 1);
}

/* COCO's table with this in its annotations, and one picture, 5 x 4. */
static int list_coco(const char *annotations) {
    char text[4096];
    const char *root = scratch("coco");
    err e = {0};
    picture p;
    char path[4096];
    snprintf(path, sizeof path, "%s/annotations", root);
    assert_true(folder_make(path, &e));
    snprintf(path, sizeof path, "%s/val2017", root);
    assert_true(folder_make(path, &e) && picture_new(5, 4, &p, &e));
    snprintf(path, sizeof path, "%s/val2017/a.jpg", root); /* PNG under a JPEG's name */
    assert_true(picture_write_png(path, &p, &e));
    picture_free(&p);
    snprintf(text, sizeof text,
             "{\"images\":[{\"id\":1,\"file_name\":\"a.jpg\",\"width\":5,\"height\":4}],"
             "\"annotations\":[%s],\"categories\":[{\"id\":1,\"name\":\"cat\"}]}",
             annotations);
    snprintf(path, sizeof path, "%s/annotations/instances_val2017.json", root);
    put_bytes(path, text, strlen(text));
    return run("dataset", "coco2017", root, "--list", NULL);
}

static void broken_masks_are_told(void **state) {
    (void)state;
    static const char *const masks[][2] = {
        {"{\"counts\":[5,5],\"size\":[4,5]}", "do not fill the picture"},
        {"{\"counts\":[21],\"size\":[4,5]}", "exceed the picture"},
        {"{\"counts\":[-1,21],\"size\":[4,5]}", "exceed the picture"},
        {"{\"counts\":[1e300],\"size\":[4,5]}", "a run length of"},
        {"{\"counts\":[0.5],\"size\":[4,5]}", "a run length of"},
        {"{\"counts\":\"~\",\"size\":[4,5]}", "not a run-length character"},
        {"{\"counts\":\"P\",\"size\":[4,5]}", "in the middle of a number"},
        {"{\"counts\":\"oooooooooooooooooooooooo0\",\"size\":[4,5]}", "bits"},
        {"{\"counts\":\"d0\",\"size\":[5,4]}", "not the picture's"},
        {"{\"size\":[5,4]}", "counts"},
        {"[[1,2,3,4],[1,2,3]]", "a box of 3 numbers"},
        {"[[1,1,4,1,1e300,3]]", "a corner at"},
        {"[[\"a\"]]", "no number"},
        {"7", "neither run lengths nor polygons"},
    };
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"id\":9,\"image_id\":1,\"category_id\":1,\"segmentation\":%s}", masks[i][0]);
        if (list_coco(text)) fail_msg("%s", said.err);
        if (!strstr(said.out, masks[i][1]) || !strstr(said.out, "\"annotation 9\""))
            fail_msg("%s: %s", masks[i][0], said.out);
        assert_non_null(strstr(said.err, "1 pictures, 0 regions, 1 left out"));
    }
    assert_int_equal(list_coco("{\"id\":9,\"image_id\":1,"), 1); /* a table that is cut off is an error */
    assert_non_null(strstr(said.err, "instances_val2017.json"));
    assert_int_equal(list_coco("{\"id\":9}, 7, {\"image_id\":1}"), 0); /* rows without what they need */
}

static void damaged_pickles_are_refused(void **state) {
    (void)state;
    const char *root = scratch("refs");
    char path[4096], from[4096];
    size_t length;
    err e = {0};
    snprintf(path, sizeof path, "%s/refcoco", root);
    assert_true(folder_make(path, &e));
    snprintf(from, sizeof from, SETS "refcoco/root/refcoco/instances.json");
    char *text = bytes_at(from, &length);
    snprintf(path, sizeof path, "%s/refcoco/instances.json", root);
    put_bytes(path, text, length);
    mem_free(text);
    snprintf(path, sizeof path, "%s/refcoco/refs(unc).p", root);
    put_bytes(path, "cos\nsystem\n(S'true'\ntR.", 24);
    assert_int_equal(run("dataset", "refcoco", root, "--list", NULL), 1);
    assert_non_null(strstr(said.err, "refs(unc).p"));
    put_bytes(path, "I7\n.", 4);
    assert_int_equal(run("dataset", "refcoco", root, "--list", NULL), 1);
    assert_non_null(strstr(said.err, "a list of refs expected"));
    static const char few[] = "(lp0\nI7\na(dp1\nS'split'\nS'val'\nsa.";
    put_bytes(path, few, sizeof few - 1);
    assert_int_equal(run("dataset", "refcoco", root, "--list", NULL), 0);
    assert_non_null(strstr(said.out, "not in instances.json"));
}

/* A copy of a drawn set's root with one file replaced; the listing's exit code. */
static void copy_tree(const char *from, const char *to);
static bool copy_one(void *arg, const char *name) {
    const char *const *both = arg;
    char from[2048], to[2048];
    snprintf(from, sizeof from, "%s/%s", both[0], name), snprintf(to, sizeof to, "%s/%s", both[1], name);
    copy_tree(from, to);
    return true;
}
static void copy_tree(const char *from, const char *to) {
    err e = {0};
    size_t length;
    if (folder_exists(from)) {
        const char *both[2] = {from, to};
        assert_true(folder_make(to, &e));
        assert_true(os_folder_each(from, copy_one, both));
        return;
    }
    char *bytes = bytes_at(from, &length);
    put_bytes(to, bytes, length);
    mem_free(bytes);
}

/* What no maker would write: each is one line of what was left out, or an error that names the file; what is sound beside it
 * is listed. */
static void hostile_files(void **state) {
    static const char huge[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\0\0\0\0\xbd\xbb\x1b\x1b";
    static const char nested[140] = "MATLAB 5.0 MAT-file";
    static const struct { const char *set, *split, *file, *bytes; size_t length; int code; const char *says; } cases[] = {
        {"ade20k", "validation", "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png", huge, sizeof huge - 1, 0, "label picture unreadable"},
        {"pascal_context_mat", "trainval", "trainval/2008_000002.mat", nested, sizeof nested, 0, "label map unreadable"},
        {"voc2012", "val", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "\0a\n", 3, 1, "a zero byte found"},
        {"coco2017", "val2017", "annotations/instances_val2017.json", "[[[[[[", 6, 1, "instances_val2017.json"},
        {"coco2017", "val2017", "annotations/instances_val2017.json",
         "{\"images\":[{\"id\":1,\"file_name\":\"../../../../../etc/passwd\",\"width\":5,\"height\":4}],\"annotations\":[],\"categories\":[]}", 0, 0,
         "0 pictures, 0 regions, 1 left out"},
        {"openimages_v7", "validation", "validation-annotations-object-segmentation.csv",
         "MaskPath,ImageID,LabelName,BoxID\n\"a\"\"b,c,d\n", 0, 1, "a quote is not closed"},
        {"visa", "test", "split_csv/1cls.csv", "object,split,label,image,mask\n\"candle", 0, 1, "a quote is not closed"},
        {"refcoco", "val", "refcoco/refs(unc).p", "\x80\x02]q\0h\0a.", 9, 1, "a list contains itself"},
        {"refcoco", "val", "refcoco/refs(unc).p", "\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f" "abc.", 15, 1, "are there"},
        {"reclip", "val", "reclip_data/refcoco_val.jsonl", "{\n", 2, 0, "{\"id\":\"line0\",\"why\":\"line 1: "},
        {"phrasecut", "val", "VGPhraseCut_v0/refer_val.json",
         "[{\"task_id\":\"a\",\"image_id\":713545,\"phrase\":\"x\",\"Polygons\":[[[[1e300,-1e300],[1,2]]],7]},{\"task_id\":1}]", 0, 0, "0 regions, 2 left out"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char root[512], from[512], path[1024];
        snprintf(root, sizeof root, "%s", scratch("hostile%zu", i));
        snprintf(from, sizeof from, SETS "%s/root", cases[i].set);
        copy_tree(from, root);
        snprintf(path, sizeof path, "%s/%s", root, cases[i].file);
        put_bytes(path, cases[i].bytes, cases[i].length ? cases[i].length : strlen(cases[i].bytes));
        int code = run("dataset", cases[i].set, root, "--split", cases[i].split, "--list", NULL);
        if (code != cases[i].code || (!strstr(said.out, cases[i].says) && !strstr(said.err, cases[i].says)))
            fail_msg("%s: exit %d, %s", path, code, said.err);
    }
}

static void make_folders(const char *path) {
    char folder[1024];
    err e = {0};
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    assert_true(folder_make(folder, &e));
}

static void replace_all(const char *path, const char *from, const char *to) {
    size_t length, n = strlen(from);
    char *bytes = bytes_at(path, &length);
    assert_int_equal(n, strlen(to));
    size_t found = 0;
    for (size_t i = 0; i + n <= length; i++)
        if (!memcmp(bytes + i, from, n)) memcpy(bytes + i, to, n), found++;
    if (!found) fail_msg("%s: '%s' is not in it", path, from);
    put_bytes(path, bytes, length);
    mem_free(bytes);
}

/* The same size, all of class 30, which there is not. */
static void wrong_labels(const char *path) {
    static const unsigned char palette[31][3];
    label_image l;
    err e = {0};
    if (!labels_read(path, &l, &e)) fail_msg("%s", e.text);
    unsigned char *index = mem_alloc(l.width * l.height, 1);
    memset(index, 30, l.width * l.height);
    assert_true(palette_write_png(path, index, l.width, l.height, palette, 31, &e));
    mem_free(index);
    labels_free(&l);
}

/* One entry that is broken: one line, with its reason, and nothing else is lost. */
static void each_broken_entry_is_one_line(void **state) {
    static const struct { const char *set, *split, *file, *bytes, *line; } cases[] = {
        {"flickr30k", "test", "dataset_flickr30k.json", "{\"images\":[{\"filename\":\"a.jpg\",\"sentences\":[]}]}", "{\"id\":\"a.jpg\",\"why\":\"no split\"}"},
        {"flickr30k", "test", "dataset_flickr30k.json", "{\"images\":[{\"filename\":\"a.jpg\",\"split\":7}]}", "{\"id\":\"a.jpg\",\"why\":\"no split\"}"},
        {"flickr30k", "test", "dataset_flickr30k.json", "{\"images\":[{\"filename\":\"a.jpg\",\"split\":\"tset\"}]}", "{\"id\":\"a.jpg\",\"why\":\"no split\"}"},
        {"flickr30k", "test", "dataset_flickr30k.json", "{\"images\":[7]}", "{\"id\":\"image 0\",\"why\":\"no split\"}"},
        {"flickr30k", "test", "dataset_flickr30k.json", "{\"images\":[{\"split\":\"test\"}]}", "{\"id\":\"image 0\",\"why\":\"no filename\"}"},
        {"visa", "test", "split_csv/1cls.csv", "object,split,label,image,mask\ncandle,tset,normal,a.JPG,\n", "{\"id\":\"a.JPG\",\"why\":\"a row of neither train nor test\"}"},
        {"visa", "test", "split_csv/1cls.csv", "object,split,label,image,mask\ncandle,test,nomal,a.JPG,\n", "{\"id\":\"a.JPG\",\"why\":\"a row of neither normal nor anomaly\"}"},
        {"visa", "test", "split_csv/1cls.csv", "object,split,label,image,mask\ncandle\n", "{\"id\":\"a row without image\",\"why\":\"a row of neither train nor test\"}"},
        {"refcoco", "val", "refcoco/refs(unc).p", "(lp0\n(dp1\nS'ref_id'\nI5\nsa.", "{\"id\":\"ref5\",\"why\":\"no split\"}"},
        {"refcoco", "val", "refcoco/refs(unc).p", "(lp0\nI7\na.", "{\"id\":\"ref 0 of the list\",\"why\":\"no split\"}"},
        {"reclip", "val", "reclip_data/refcoco_val.jsonl", "{\"file_name\":\"a_1.jpg\"}\n", "{\"id\":\"line0\",\"why\":\"no image_id\"}"},
        {"phrasecut", "val", "VGPhraseCut_v0/image_data_split.json", "[{\"width\":5}]", "{\"id\":\"picture 0 of the list\",\"why\":\"no image_id\"}"},
        {"openimages_v7", "validation", "validation-annotations-object-segmentation.csv", "MaskPath,ImageID,LabelName\na.png,,/m/1\n",
         "{\"id\":\"validation-annotations-object-segmentation.csv at byte 27\",\"why\":\"a row without picture\"}"},
        {"coco2017", "val2017", "annotations/instances_val2017.json", "{\"images\":[{\"file_name\":\"000000000139.jpg\"}],\"annotations\":[]}",
         "{\"id\":\"image 0 of the list\",\"why\":\"no id\"}"},
        {"coco2017", "val2017", "annotations/instances_val2017.json", "{\"images\":[{\"id\":1}],\"annotations\":[],\"categories\":[{\"name\":\"cat\"}]}",
         "{\"id\":\"category cat\",\"why\":\"no id or no name\"}"},
        {"imagenet", "val", "val/n99999999/a.JPEG", "", "{\"id\":\"n99999999/a.JPEG\",\"why\":\"class not in LOC_synset_mapping.txt\"}"},
        {"mvtec_ad", "test", "cable/train/good/000.png", "", "{\"id\":\"cable\",\"why\":\"no folder test in it\"}"},
        {"ade20k", "validation", "ADEChallengeData2016/images/validation/a.jpg", "", "{\"id\":\"a\",\"why\":\"label picture missing\"}"},
        {"coco_stuff", "val2017", "images/val2017/a.jpg", "", "{\"id\":\"a\",\"why\":\"label picture missing\"}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char root[512], from[512], path[1024];
        size_t found = 0;
        snprintf(root, sizeof root, "%s", scratch("entry%zu", i));
        snprintf(from, sizeof from, SETS "%s/root", cases[i].set);
        copy_tree(from, root);
        snprintf(path, sizeof path, "%s/%s", root, cases[i].file);
        make_folders(path);
        put_bytes(path, cases[i].bytes, strlen(cases[i].bytes));
        if (run("dataset", cases[i].set, root, "--split", cases[i].split, "--list", NULL) != 0) fail_msg("%s: %s", path, said.err);
        for (const char *at = said.out; (at = strstr(at, cases[i].line)); at++) found++;
        if (found != 1) fail_msg("%s %s: %zu times in %s", cases[i].set, cases[i].line, found, said.out);
    }
}

/* An entry whose picture is sound, with something beside it that is not. */
static void what_is_broken_beside_is_told(void **state) {
    static const struct { const char *set, *split, *file, *from, *to, *line; } cases[] = {
        {"flickr30k", "test", "dataset_flickr30k.json", "\"raw\"", "\"rwa\"", "\"why\":\"sentence without raw\"}"},
        {"coco2017", "val2017", "annotations/captions_val2017.json", "\"caption\":", "\"captoin\":", "\"why\":\"no caption\"}"},
        {"coco_panoptic", "val2017", "annotations/panoptic_val2017.json", "\"segments_info\"", "\"segment_sinfo\"", "\"why\":\"no segments_info\"}"},
        {"reclip", "val", "reclip_data/refcoco_val.jsonl", "\"raw\"", "\"rwa\"", "\"why\":\"sentence without raw\"}"},
        {"reclip", "val", "reclip_data/refcoco_val.jsonl", "\"ann_id\"", "\"ann_di\"", "\"why\":\"ann_id is none of its objects\"}"},
        {"reclip", "val", "reclip_data/refcoco_val.jsonl", "\"bbox\"", "\"bobx\"", "\"why\":\"object without id or box\"}"},
        {"reclip", "val", "reclip_data/refcoco_dets_dict.json", "\"box\"", "\"bxo\"", "\"why\":\"no four numbers\"}"},
        {"refcocog", "test", "refcocog/refs(umd).p", "raw", "rwa", "\"why\":\"sentence without raw\"}"},
        {"openimages_v7", "validation", "oidv7-val-annotations-point-labels.csv", ",yes,", ",yse,", "\"why\":\"answer neither yes, no nor unsure\"}"},
        {"voc2012", "val", "VOCdevkit/VOC2012/SegmentationClass/2007_000042.png", NULL, NULL, "{\"id\":\"2007_000042/labels\",\"why\":\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char root[512], from[512], path[1024];
        snprintf(root, sizeof root, "%s", scratch("beside%zu", i));
        snprintf(from, sizeof from, SETS "%s/root", cases[i].set);
        copy_tree(from, root);
        snprintf(path, sizeof path, "%s/%s", root, cases[i].file);
        if (cases[i].from) replace_all(path, cases[i].from, cases[i].to);
        else wrong_labels(path);
        if (run("dataset", cases[i].set, root, "--split", cases[i].split, "--list", NULL) != 0) fail_msg("%s: %s", path, said.err);
        if (!strstr(said.out, cases[i].line)) fail_msg("%s: %s is not said", path, cases[i].line);
    }
}

/* Context's maps are divided by VOC 2010's lists; where these are, val is read unless told otherwise. */
static void lists_divide_maps(void **state) {
    char root[512], path[1024];
    (void)state;
    snprintf(root, sizeof root, "%s", scratch("lists"));
    copy_tree(SETS "pascal_context_mat/root", root);
    assert_int_equal(run("dataset", "pascal_context_mat", root, "--split", "val", "--list", NULL), 1);
    assert_non_null(strstr(said.err, "ImageSets/Main/val.txt"));
    snprintf(path, sizeof path, "%s/VOCdevkit/VOC2010/ImageSets/Main/val.txt", root);
    make_folders(path);
    put_bytes(path, "2008_000003\n2009_999999\n", 24);
    assert_int_equal(run("dataset", "pascal_context_mat", root, "--list", NULL), 0);
    assert_non_null(strstr(said.err, "1 pictures"));
    assert_non_null(strstr(said.out, "\"split\":\"val\""));
    assert_non_null(strstr(said.out, "picture missing: JPEGImages/2009_999999.jpg"));
    assert_int_equal(run("dataset", "pascal_context_mat", root, "--split", "trainval", "--list", NULL), 0);
    assert_non_null(strstr(said.err, "3 pictures"));
}

int main(void) {
    mem_hook_cjson();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout),
        cmocka_unit_test(masks_as_files),
        cmocka_unit_test(missing_tables),
        cmocka_unit_test(broken_masks_are_told),
        cmocka_unit_test(damaged_pickles_are_refused),
        cmocka_unit_test(hostile_files),
        cmocka_unit_test(each_broken_entry_is_one_line),
        cmocka_unit_test(what_is_broken_beside_is_told),
        cmocka_unit_test(lists_divide_maps),
    };
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
