/* test_segment.c - the segmentation protocol against float64 (test/make_dense.py): 8-bit resizing, cosines of all windows,
 * labels with and without thresholds and PAMR, intersection over union; classes files; the command. */
#include "x_cli.h"
#include "x_fixture.h"
#include "files/files.h"
#include "pictures/labels.h"
#include "segment/score.h"
#include "segment/segment.h"
#include "sys/threads.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const models[] = {"nano-hf-f32", "nano12-openclip-f16", "nanogelu-openclip-bf16"};
enum { MODELS = 3, QUERIES = 6, CLASSES = 3 };

static void open_expected(fixture *x, const char *name) {
    char path[300];
    err e = {{0}};
    memset(x, 0, sizeof *x);
    snprintf(path, sizeof path, DATA "dense/%s.safetensors", name);
    if (!(x->expected = st_open(path, &e))) fail_msg("%s", e.text);
    x->room = mem_reserve((size_t)1 << 30);
    assert_non_null(x->room);
    arena_init(&x->memory, x->room, (size_t)1 << 28);
}

static void open_model(fixture *x, const char *name) {
    err e = {{0}};
    char path[300];
    open_expected(x, name);
    snprintf(path, sizeof path, DATA "%s", name);
    if (!(x->c = checkpoint_open(path, &e))) fail_msg("%s", e.text);
    x->model = checkpoint_model(x->c);
}

static void close_all(fixture *x) {
    while (x->count) free(x->kept[--x->count]);
    st_free(x->expected);
    if (x->c) checkpoint_free(x->c);
    mem_release(x->room, (size_t)1 << 30);
}

/* ---- pieces ------------------------------------------------------------------------------------------------- */
static void bytes_are_resized_as_opencv_does(void **state) {
    static const size_t sides[][2] = {{34, 24}, {70, 49}, {26, 18}};
    unsigned char in[37 * 53 * 3], out[70 * 49 * 3];
    fixture x;
    size_t n;
    (void)state;
    open_expected(&x, "pieces");
    const real *bytes = fixture_get(&x, &n, "resize.u8");
    for (size_t i = 0; i < n; i++) in[i] = (unsigned char)bytes[i];
    for (int s = 0; s < 3; s++) {
        const real *expected = fixture_get(&x, &n, "resize.%zux%zu", sides[s][0], sides[s][1]);
        segment_resize(in, 37, 53, out, sides[s][1], sides[s][0]);
        for (size_t i = 0; i < n; i++) assert_int_equal(out[i], (int)expected[i]);
    }
    close_all(&x);
}

static void windows_cover_every_pixel(void **state) {
    (void)state;
    assert_int_equal(segment_window_count(336, 224, 112), 2);
    assert_int_equal(segment_window_count(337, 224, 112), 3);
    assert_int_equal(segment_window_start(337, 224, 112, 2), 113);
    assert_int_equal(segment_window_count(200, 224, 112), 1);
    assert_int_equal(segment_window_count(500, 0, 0), 1);
    assert_int_equal(segment_window_start(200, 224, 112, 0), 0);
    for (size_t side = 1; side < 60; side++)
        for (size_t window = 1; window < 20; window++)
            for (size_t stride = 1; stride <= window; stride++) {
                size_t to = 0, count = segment_window_count(side, window, stride);
                for (size_t i = 0; i < count; i++) {
                    size_t at = segment_window_start(side, window, stride, i);
                    assert_true(at <= to);
                    to = at + window < side ? at + window : side;
                }
                assert_int_equal(to, side);
            }
}

static void scores_are_mmsegmentations(void **state) {
    uint64_t hit[8] = {0}, predicted[8] = {0}, truth[8] = {0};
    segment_score s = {8, hit, predicted, truth};
    uint16_t label[297], right[297];
    fixture x;
    size_t n;
    (void)state;
    open_expected(&x, "pieces");
    const real *p = fixture_get(&x, &n, "miou.pred"), *t = fixture_get(&x, &n, "miou.truth");
    for (size_t i = 0; i < n; i++) label[i] = (uint16_t)p[i], right[i] = (uint16_t)t[i];
    for (size_t i = 0; i < 3; i++) segment_score_add(&s, label + i * n / 3, right + i * n / 3, n / 3);
    const real *scores = fixture_get(&x, &n, "miou.scores"), *iou = fixture_get(&x, &n, "miou.iou");
    segment_means m = segment_score_means(&s); /* the truth is stored as float32 */
    assert_true((float)(100 * m.aacc) == scores[0] && (float)(100 * m.miou) == scores[1] && (float)(100 * m.macc) == scores[2]);
    for (size_t c = 0; c < 8; c++) {
        double mine = segment_iou(&s, c);
        assert_true(isnan(iou[c]) ? isnan(mine) : (float)(100 * mine) == iou[c]);
    }
    close_all(&x);
}

/* Another definition: .01 in the denominators, and every pixel of the truth's classes counts. */
static void cliptrases_scores_are_its_own(void **state) {
    uint64_t hit[8] = {0}, predicted[8] = {0}, truth[8] = {0};
    segment_score s = {8, hit, predicted, truth};
    fixture x;
    size_t n;
    (void)state;
    open_expected(&x, "pieces");
    const real *p = fixture_get(&x, &n, "miou.pred"), *t = fixture_get(&x, &n, "miou.truth");
    for (size_t i = 0; i < n; i++) {
        uint16_t label = (uint16_t)p[i], right = (uint16_t)t[i];
        segment_score_add(&s, &label, &right, 1);
    }
    const real *expected = fixture_get(&x, &n, "miou.cliptrase");
    segment_cliptrase_means m = segment_score_cliptrase(&s);
    assert_true((float)(100 * m.pacc) == expected[0] && (float)(100 * m.macc) == expected[1]);
    assert_true((float)(100 * m.fwiou) == expected[2] && (float)(100 * m.miou) == expected[3]);
    close_all(&x);
}

static void clusters_are_cliptrases(void **state) {
    fixture x;
    size_t n;
    fault f = {0};
    int32_t cluster[70];
    real median[12 * 17];
    (void)state;
    open_expected(&x, "pieces");
    const real *points = fixture_get(&x, &n, "dbscan.x"), *labels = fixture_get(&x, &n, "dbscan.labels.0.6-4");
    size_t count = cluster_points(points, 70, 2, .6, 4, cluster, &x.memory, NULL, &f), most = 0;
    for (size_t i = 0; i < 70; i++) {
        assert_int_equal(cluster[i], (int)labels[i]);
        if (labels[i] >= 0 && (size_t)labels[i] + 1 > most) most = (size_t)labels[i] + 1;
    }
    assert_int_equal(count, most);
    cluster_median(fixture_get(&x, &n, "median.x"), 12, 17, median);
    assert_memory_equal(median, fixture_get(&x, &n, "median.7"), sizeof median);
    close_all(&x);
}

static void outliers_are_the_authors(void **state) {
    fixture x;
    size_t n;
    fault f = {0};
    double scores[60];
    bool outlier[60];
    real found[60];
    (void)state;
    open_expected(&x, "pieces");
    assert_true(method_outliers(fixture_get(&x, &n, "lof.x"), 60, 8, scores, outlier, &x.memory, &f));
    for (size_t i = 0; i < 60; i++) found[i] = (real)scores[i];
    assert_close(found, fixture_get(&x, &n, "lof.scores"), 60, BY_BUILD(1e-5, 5e-7));
    const real *expected = fixture_get(&x, &n, "lof.outliers");
    for (size_t i = 0; i < 60; i++) assert_int_equal(outlier[i], (int)expected[i]);
    close_all(&x);
}

/* ---- the protocol --------------------------------------------------------------------------------------------- */
typedef struct {
    fixture x;
    picture photo;
    uint32_t owner[QUERIES];
    segment_classes classes;
    pool *cores;
    real threshold[4]; /* prob, pamr, area, resclip's */
} protocol;

static void open_protocol(protocol *p, const char *model) {
    static const char *const names[] = {"prob.threshold", "pamr.threshold", "area.threshold", "protocol.resclip.threshold"};
    err e = {{0}};
    size_t n;
    memset(p, 0, sizeof *p);
    open_model(&p->x, model);
    assert_true(picture_read(DATA "dense/picture.png", &p->photo, &e));
    memcpy(p->owner, (const uint32_t[]){0, 0, 0, 1, 2, 2}, sizeof p->owner);
    p->classes = (segment_classes){.owner = p->owner, .query_count = QUERIES, .count = CLASSES};
    for (int i = 0; i < 4; i++) p->threshold[i] = *fixture_get(&p->x, &n, "%s", names[i]);
    p->cores = pool_start(2);
}

static void close_protocol(protocol *p) {
    pool_stop(p->cores);
    picture_free(&p->photo);
    close_all(&p->x);
}

static segmenter segmenter_of(protocol *p, const char *name, bool whole) {
    size_t n, side = p->x.model->config.image;
    const method *how = method_find(name);
    segmenter s = {.model = p->x.model, .classes = &p->classes, .settings = segment_defaults(p->x.model, how, NULL)};
    assert_int_equal(s.settings.shorter, side * 3 / 2);
    assert_int_equal(s.settings.window, side);
    assert_int_equal(s.settings.stride, side / 2);
    s.queries = fixture_get(&p->x, &n, strcmp(name, "scclip") ? "queries" : "scclip.queries");
    assert_int_equal(n, QUERIES * p->x.model->config.embed);
    s.settings.method = (method_settings){2, (real).4, (real)1.8, (real).7, p->threshold[3], BASE_NACLIP};
    if (whole) s.settings.window = 0;
    return s;
}

static void labels_are(protocol *p, const segmenter *s, const char *name, const char *variant) {
    uint64_t hit[CLASSES] = {0}, predicted[CLASSES] = {0}, truth[CLASSES] = {0};
    segment_score score = {CLASSES, hit, predicted, truth};
    segmentation out;
    err e = {{0}};
    size_t n, mark = arena_mark(&p->x.memory);
    if (!segment_picture(s, &p->photo, &out, &p->x.memory, p->cores, &e)) fail_msg("%s %s: %s", name, variant, e.text);
    const real *expected = fixture_get(&p->x, &n, "protocol.%s.%s.labels", name, variant), *gt = fixture_get(&p->x, &n, "protocol.truth");
    assert_int_equal(n, out.width * out.height);
    for (size_t i = 0; i < n; i++) {
        uint16_t right = (uint16_t)gt[i];
        if (out.label[i] != (uint16_t)expected[i])
            fail_msg("%s %s: pixel %zu is %u, %g expected", name, variant, i, out.label[i], (double)expected[i]);
        segment_score_add(&score, &out.label[i], &right, 1);
    }
    const real *scores = fixture_get(&p->x, &n, "protocol.%s.%s.scores", name, variant);
    segment_means m = segment_score_means(&score);
    assert_true((float)(100 * m.aacc) == scores[0] && (float)(100 * m.miou) == scores[1] && (float)(100 * m.macc) == scores[2]);
    for (size_t c = 0; c < CLASSES; c++) assert_true((float)(100 * segment_iou(&score, c)) == scores[3 + c]);
    arena_reset(&p->x.memory, mark);
}

/* Every fifth row and column of the cosines, before they are enlarged to the photograph. */
static void cosines_are(protocol *p, const segmenter *s, const char *name) {
    size_t w, h, n, windows, mark = arena_mark(&p->x.memory);
    err e = {{0}};
    fault f = {0};
    segment_sides(p->photo.width, p->photo.height, s->settings.shorter, &w, &h);
    real *pixels = segment_input(p->x.model, &p->photo, h, w, &p->x.memory, &e);
    assert_non_null(pixels);
    real *all = segment_cosines(s, pixels, h, w, &windows, &p->x.memory, p->cores, &f), *some = all;
    if (!all) fail_msg("%s: fault %d %s", name, f.code, f.where);
    for (size_t q = 0; q < QUERIES; q++)
        for (size_t y = 0; y < h; y += 5)
            for (size_t x = 0; x < w; x += 5) *some++ = all[(q * h + y) * w + x];
    const real *expected = fixture_get(&p->x, &n, "protocol.%s.logits.every5", name);
    assert_int_equal(n, some - all);
    double off = worst(all, expected, n);
    if (!(off <= BY_BUILD(1e-5, 1e-6))) fail_msg("%s: %g from float64", name, off);
    arena_reset(&p->x.memory, mark);
}

static void the_protocol_is_the_authors(void **state) {
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        protocol p;
        open_protocol(&p, models[i]);
        for (int m = 0; m < 3; m++) {
            const char *name = ((const char *[]){"naclip", "resclip", "scclip"})[m];
            segmenter s = segmenter_of(&p, name, false);
            cosines_are(&p, &s, name);
            labels_are(&p, &s, name, "plain");
            s.sure = true; /* changes nothing */
            labels_are(&p, &s, name, "plain");
        }
        segmenter s = segmenter_of(&p, "naclip", false), whole = segmenter_of(&p, "naclip", true);
        labels_are(&p, &whole, "naclip", "whole");
        s.settings.prob_thd = (double)p.threshold[0];
        labels_are(&p, &s, "naclip", "background");
        s.settings.area_thd = (double)p.threshold[2];
        labels_are(&p, &s, "naclip", "area");
        s.settings.area_thd = -1, s.settings.pamr = 10, s.settings.prob_thd = (double)p.threshold[1];
        labels_are(&p, &s, "naclip", "pamr");
        close_protocol(&p);
    }
}

/* CLIPtrase's names before its clusters, clusters and labels, on a square, a wide grid and one that is no whole number of patches. */
static void cliptrase_labels(protocol *p, const char *input, const char *tag) {
    fault f = {0};
    size_t n, cells, h, w, mark = arena_mark(&p->x.memory);
    uint32_t one_each[QUERIES] = {0, 1, 2, 3, 4, 5}, four[QUERIES] = {0, 1, 2, 3, 4, 4};
    segment_classes classes = {.owner = one_each, .query_count = QUERIES, .count = QUERIES};
    const clip_config *c = &p->x.model->config;
    real *bytes = fixture_get(&p->x, &n, "%s.u8", input);
    char name[60];
    snprintf(name, sizeof name, "%s.u8", input);
    const st_tensor *t = st_find(p->x.expected, name);
    h = t->shape[0], w = t->shape[1];
    real *pixels = arena_alloc(&p->x.memory, n, sizeof *pixels);
    bool odd = !strcmp(input, "odd");
    static const double mean[3] = {122.771, 116.746, 104.094}, deviation[3] = {68.501, 66.632, 70.323};
    for (size_t i = 0; i < h * w; i++)
        for (size_t k = 0; k < 3; k++) {
            double m = odd ? mean[k] : 255 * (double)c->mean[k], s = odd ? deviation[k] : 255 * (double)c->std[k];
            pixels[k * h * w + i] = (real)(((double)bytes[3 * i + k] - m) / s);
        }
    segmenter s = {.model = p->x.model, .classes = &classes, .queries = fixture_get(&p->x, &n, "cliptrase.queries")};
    s.settings = segment_defaults(p->x.model, method_find("cliptrase"), NULL);
    s.settings.eps = (double)*fixture_get(&p->x, &n, "%s.eps", tag);
    segmentation out = {.width = w, .height = h};
    cluster_steps k = {arena_alloc(&p->x.memory, h * w, sizeof(int32_t)), arena_alloc(&p->x.memory, h * w, 2), NULL};
    if (!segment_by_clusters(&s, pixels, h, w, &out, &k, &p->x.memory, p->cores, &f)) fail_msg("%s: fault %d %s", tag, f.code, f.where);
    const real *clusters = fixture_get(&p->x, &cells, "%s.cliptrase.clusters", tag);
    const real *before = fixture_get(&p->x, &n, "%s.cliptrase.before", tag), *labels = fixture_get(&p->x, &n, "%s.cliptrase.labels", tag);
    for (size_t i = 0; i < cells; i++) assert_int_equal(k.clusters[i], (int)clusters[i]);
    for (size_t i = 0; i < n; i++)
        if (k.before[i] != (uint16_t)before[i] || out.label[i] != (uint16_t)labels[i]) fail_msg("%s: pixel %zu differs", tag, i);
    if (!strcmp(tag, "square")) {
        classes.owner = four, classes.count = 5, s.settings.image_level = true;
        assert_true(segment_by_clusters(&s, pixels, h, w, &out, NULL, &p->x.memory, NULL, &f));
        labels = fixture_get(&p->x, &n, "square.cliptrase.imagelevel.labels");
        for (size_t i = 0; i < n; i++) assert_int_equal(out.label[i], (int)labels[i]);
    }
    arena_reset(&p->x.memory, mark);
}

static void cliptrase_names_clusters(void **state) {
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        protocol p;
        open_protocol(&p, models[i]);
        cliptrase_labels(&p, "square", "square");
        cliptrase_labels(&p, "wide", "wide.authors");
        cliptrase_labels(&p, "odd", "odd.authors");
        close_protocol(&p);
    }
}

/* Windows that run together give what each gives alone, by every method that has cosines. */
static void windows_do_not_see_one_another(void **state) {
    protocol p;
    size_t h, w, n;
    (void)state;
    open_protocol(&p, "nano12-openclip-f16");
    const real *bytes = fixture_get(&p.x, &n, "square.u8"), *texts = fixture_get(&p.x, &n, "queries");
    h = w = p.x.model->config.image;
    real *pixels = malloc(3 * 3 * h * w * sizeof *pixels);
    for (size_t i = 0; i < 9 * h * w; i++) pixels[i] = bytes[(i * 7) % (3 * h * w)] / 70 - (real)(i / (3 * h * w));
    for (size_t k = 0; k < method_count(); k++) {
        const method *how = method_at(k);
        fault f = {0};
        explainer x;
        if (!segment_knows(how)) continue;
        size_t mark = arena_mark(&p.x.memory), cells = 64;
        real *all = arena_alloc(&p.x.memory, 3 * QUERIES * cells, sizeof *all), *one = arena_alloc(&p.x.memory, QUERIES * cells, sizeof *one);
        assert_true(method_open(&x, how, p.x.model, pixels, h, w, &(method_options){.batch = 3}, &p.x.memory, NULL, &f));
        assert_true(method_grids(&x, texts, QUERIES, NULL, all, &f));
        for (size_t b = 0; b < 3; b++) {
            assert_true(method_open(&x, how, p.x.model, pixels + b * 3 * h * w, h, w, NULL, &p.x.memory, NULL, &f));
            assert_true(method_grids(&x, texts, QUERIES, NULL, one, &f));
            double off = worst(all + b * QUERIES * cells, one, QUERIES * cells);
            if (!(off <= BY_BUILD(1e-5, 1e-6))) fail_msg("%s: window %zu is %g from what it gives alone", how->name, b, off);
        }
        arena_reset(&p.x.memory, mark);
    }
    fault f = {0};
    explainer x;
    assert_false(method_open(&x, method_find("chefer"), p.x.model, pixels, h, w, &(method_options){.batch = 2}, &p.x.memory, NULL, &f));
    assert_int_equal(f.code, FAULT_RANGE);
    free(pixels);
    close_protocol(&p);
}

static void little_memory(void **state) {
    protocol p;
    bool done = false;
    (void)state;
    open_protocol(&p, "nano-hf-f32");
    for (size_t room = 50000; !done; room += room / 2) {
        segmenter s = segmenter_of(&p, "naclip", false);
        segmentation out;
        arena small;
        err e = {{0}};
        s.settings.pamr = 10;
        arena_init(&small, (unsigned char *)p.x.room + ((size_t)1 << 29), room);
        done = segment_picture(&s, &p.photo, &out, &small, NULL, &e);
        if (!done && !strstr(e.text, "memory")) fail_msg("%s", e.text);
    }
    close_protocol(&p);
}

/* ---- classes ---------------------------------------------------------------------------------------------------- */
static void names_have_owners(void **state) {
    static const char text[] = "\xEF\xBB\xBF" "sky , wall,  tree\r\n cat\n\tdog, puppy ,\n\n  \n";
    segment_classes c;
    err e = {{0}};
    (void)state;
    put_bytes(scratch("classes.txt"), text, sizeof text - 1);
    if (!segment_classes_read(scratch("classes.txt"), &c, &e)) fail_msg("%s", e.text);
    assert_int_equal(c.count, 3);
    assert_int_equal(c.query_count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(c.queries[i], ((const char *[]){"sky", "wall", "tree", "cat", "dog", "puppy"})[i]);
        assert_int_equal(c.owner[i], ((const uint32_t[]){0, 0, 0, 1, 2, 2})[i]);
    }
    assert_string_equal(c.titles[2], "dog");
    segment_classes_free(&c);
    put_bytes(scratch("gap.txt"), "cat\n , \ndog\n", 12);
    assert_false(segment_classes_read(scratch("gap.txt"), &c, &e));
    assert_non_null(strstr(e.text, "line 2 has no name"));
    put_bytes(scratch("none.txt"), "\n\n", 2);
    assert_false(segment_classes_read(scratch("none.txt"), &c, &e));
    assert_false(segment_classes_read(scratch("nowhere.txt"), &c, &e));
    assert_non_null(strstr(e.text, "voc21, voc20"));
}

static void published_lists_have_their_sizes(void **state) {
    static const struct { const char *name; size_t classes, queries; } sizes[] = {
        {"voc21", 21, 56}, {"voc20", 20, 30}, {"context60", 60, 60}, {"context59", 59, 59}, {"coco_object", 81, 113},
        {"coco_stuff164k", 171, 171}, {"cityscapes", 19, 19}, {"ade20k", 150, 150}};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        segment_classes c;
        err e = {{0}};
        if (!segment_classes_read(sizes[i].name, &c, &e)) fail_msg("%s", e.text);
        assert_int_equal(c.count, sizes[i].classes);
        assert_int_equal(c.query_count, sizes[i].queries);
        assert_string_equal(c.titles[0], c.list->background ? "background" : c.queries[0]);
        segment_classes_free(&c);
    }
}

/* ---- the command ------------------------------------------------------------------------------------------------- */
static void the_command_gives_the_protocols_labels(void **state) {
    protocol p;
    size_t n;
    char out[600], rows[600], list[600], thd[40];
    err e = {{0}};
    (void)state;
    open_protocol(&p, "nano12-openclip-f16");
    snprintf(out, sizeof out, "%s", scratch("out"));
    snprintf(rows, sizeof rows, "%s", scratch("queries.npy"));
    snprintf(list, sizeof list, "%s", scratch("list.txt"));
    put_bytes(list, "a,b,c\nd\ne,f\n", 12);
    assert_true(npy_write(rows, fixture_get(&p.x, &n, "queries"), (size_t[]){QUERIES, p.x.model->config.embed}, 2, &e));
    snprintf(thd, sizeof thd, "%.9g", (double)p.threshold[1]);
    if (run("segment", "-i", DATA "dense/picture.png", "-m", DATA "nano12-openclip-f16", "--classes", list, "-e", rows, "--pamr", "10",
            "--prob-thd", thd, "-o", out, NULL))
        fail_msg("%s", said.err);
    label_image l;
    snprintf(rows, sizeof rows, "%s", scratch("out/labels.png"));
    assert_true(labels_read(rows, &l, &e));
    const real *expected = fixture_get(&p.x, &n, "protocol.naclip.pamr.labels");
    assert_int_equal(l.width * l.height, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(l.value[i], (uint32_t)expected[i]);
    labels_free(&l);
    size_t length;
    char *json = bytes_at(scratch("out/segment.json"), &length);
    assert_non_null(strstr(json, "\"windows\": 6"));
    mem_free(json);
    close_protocol(&p);
}

static void wrong_wishes_are_refused(void **state) {
    (void)state;
    put_bytes(scratch("two.txt"), "cat\ndog\n", 8);
    char list[600], out[600];
    snprintf(list, sizeof list, "%s", scratch("two.txt"));
    snprintf(out, sizeof out, "%s", scratch("never"));
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", list, "-o", out, "--method", "legrad", NULL), 2);
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", list, "-o", out, "--window", "wide", NULL), 2);
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", list, "-o", out, "--window", "32", "--stride", "33", NULL), 1);
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", list, "-o", out, "--window", "3", NULL), 1);
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", list, "-o", out, "--pamr", "2", "--dilations", "8,,2", NULL), 2);
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", list, "-o", out, "--method", "naclip", "--blocks", "99", NULL), 1);
    assert_int_equal(run("segment", "-i", IMAGE, "--classes", "nowhere.txt", "-o", out, NULL), 1);
    assert_false(folder_exists(out));
}

static int tidy(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_are_resized_as_opencv_does),
                                       cmocka_unit_test(windows_cover_every_pixel),
                                       cmocka_unit_test(scores_are_mmsegmentations),
                                       cmocka_unit_test(cliptrases_scores_are_its_own),
                                       cmocka_unit_test(clusters_are_cliptrases),
                                       cmocka_unit_test(outliers_are_the_authors),
                                       cmocka_unit_test(the_protocol_is_the_authors),
                                       cmocka_unit_test(cliptrase_names_clusters),
                                       cmocka_unit_test(windows_do_not_see_one_another),
                                       cmocka_unit_test(little_memory),
                                       cmocka_unit_test(names_have_owners),
                                       cmocka_unit_test(published_lists_have_their_sizes),
                                       cmocka_unit_test(the_command_gives_the_protocols_labels),
                                       cmocka_unit_test(wrong_wishes_are_refused)};
    return cmocka_run_group_tests(tests, NULL, tidy);
}
