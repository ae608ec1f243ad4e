/* test_measures.c - every measure of the papers against numbers made by another program (test/data/datasets/metrics.json), to
 * 1e-9: what the surveys add up is what these functions give. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "eval/evalstat.h"
#include "eval/measures.h"
#include "files/json.h"
#include "x_cli.h"

static cJSON *truth;
static err e;

static const cJSON *at(const cJSON *o, const char *key) { return cJSON_GetObjectItemCaseSensitive(o, key); }
static double number(const cJSON *o, const char *key) { return at(o, key)->valuedouble; }
#define assert_number(found, right) assert_near((found), (right), #found, __LINE__)
static void assert_near(double found, double right, const char *what, int line) {
    if (!(fabs(found - right) <= 1e-9)) fail_msg("line %d: %s is %.12g, %.12g expected", line, what, found, right);
}

/* The numbers of lists within lists, one after another. */
static size_t flatten(const cJSON *list, double *out) {
    const cJSON *one;
    size_t n = 0;
    if (cJSON_IsNumber(list)) return *out = list->valuedouble, 1;
    cJSON_ArrayForEach(one, list) n += flatten(one, out + n);
    return n;
}

enum { MOST = 1024 };
static double a[MOST], b[MOST];
static real f[MOST];
static unsigned char x[MOST], y[MOST];
static size_t bytes_of(const cJSON *list, unsigned char *out) {
    size_t n = flatten(list, a);
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)a[i];
    return n;
}

static void test_retrieval(void **state) {
    (void)state;
    const cJSON *t = at(truth, "retrieval");
    size_t n = flatten(at(t, "gold"), b), each = flatten(at(t, "scores"), a) / n, hits = 0, five = 0;
    double per_class = 0, present = 0, right[16] = {0}, of[16] = {0};
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < each; k++) f[k] = (real)a[i * each + k];
        size_t rank = measure_rank(f, each, (size_t)b[i]);
        assert_int_equal(rank, cJSON_GetArrayItem(at(t, "ranks"), (int)i)->valueint);
        hits += rank < 1, five += rank < 5, right[(size_t)b[i]] += rank < 1, of[(size_t)b[i]]++;
    }
    for (size_t c = 0; c < each; c++)
        if (of[c] > 0) per_class += right[c] / of[c], present++;
    assert_number((double)hits / (double)n, number(t, "acc1"));
    assert_number((double)five / (double)n, number(t, "acc5"));
    assert_number(per_class / present, number(t, "mean_per_class_acc1"));
    f[0] = NAN;
    assert_int_equal(measure_rank(f, each, 0), each);
}

static void test_masks(void **state) {
    (void)state;
    const cJSON *t = at(truth, "masks"), *pair, *limit;
    double sum = 0, n = 0, iou[16];
    size_t in = 0, joint = 0;
    cJSON_ArrayForEach(pair, at(t, "pairs")) {
        size_t pixels = bytes_of(at(pair, "predicted"), x), both, any;
        assert_int_equal(bytes_of(at(pair, "gold"), y), pixels);
        measure_overlap(x, y, pixels, &both, &any);
        iou[(size_t)n] = any ? (double)both / (double)any : 0;
        assert_number(iou[(size_t)n], number(pair, "iou"));
        sum += iou[(size_t)n], in += both, joint += any, n++;
    }
    assert_number(sum / n, number(t, "mIoU"));
    assert_number((double)in / (double)joint, number(t, "oIoU"));
    cJSON_ArrayForEach(limit, at(t, "precision_at")) {
        double above = 0;
        for (size_t i = 0; i < (size_t)n; i++) above += iou[i] > strtod(limit->string, NULL);
        assert_number(above / n, limit->valuedouble);
    }
}

static void test_map(void **state) {
    (void)state;
    const cJSON *t = at(truth, "map");
    size_t n = bytes_of(at(t, "gold"), x), both, any;
    assert_int_equal(flatten(at(t, "map"), a), n);
    double agree = 0, best = 0, where = 0;
    for (size_t step = 1; step < 100; step++) {
        for (size_t i = 0; i < n; i++) y[i] = a[i] >= (double)step / 100;
        measure_overlap(x, y, n, &both, &any);
        if ((double)both / (double)any >= best) best = (double)both / (double)any, where = (double)step / 100;
        if (step != 50) continue;
        assert_number((double)both / (double)any, number(t, "iou_foreground"));
        for (size_t i = 0; i < n; i++) agree += x[i] == y[i];
        assert_number(agree / (double)n, number(t, "pixel_accuracy"));
        size_t out = n - any, outside = n - both; /* of the complements */
        assert_number((double)out / (double)outside, number(t, "iou_background"));
        assert_number(((double)both / (double)any + (double)out / (double)outside) / 2, number(t, "mIoU"));
    }
    assert_number(best, number(t, "best_iou"));
    assert_number(where, number(t, "best_threshold"));
    measured m;
    static ranked_pixel room[MOST];
    assert_true(measure_scores(a, x, n, &m, &e));
    assert_number(m.ap, number(t, "average_precision"));
    for (size_t i = 0; i < n; i++) f[i] = (real)a[i];
    assert_number(average_precision(f, x, n, room), number(t, "average_precision"));
    assert_int_equal(points_inside(f, x, n), cJSON_IsTrue(at(t, "pointing")));
    size_t peak = best_of(f, n), width = (size_t)cJSON_GetArraySize(at(t, "map")->child);
    assert_int_equal(peak / width, at(t, "peak")->child->valueint);
    assert_int_equal(peak % width, at(t, "peak")->child->next->valueint);
}

static void test_points(void **state) {
    (void)state;
    const cJSON *t = at(truth, "points"), *p, *map = at(at(truth, "map"), "map");
    double count[2][2] = {{0}};
    cJSON_ArrayForEach(p, at(t, "points")) {
        double v = cJSON_GetArrayItem(cJSON_GetArrayItem(map, at(p, "y")->valueint), at(p, "x")->valueint)->valuedouble;
        count[at(p, "yes")->valueint][v >= number(t, "threshold")]++;
    }
    assert_number(count[1][1], number(t, "tp"));
    assert_number(count[1][1] / (count[1][1] + count[0][1] + count[1][0]), number(t, "iou_yes"));
    assert_number(count[0][0] / (count[0][0] + count[0][1] + count[1][0]), number(t, "iou_no"));
}

static void test_multilabel(void **state) {
    (void)state;
    const cJSON *t = at(truth, "multilabel"), *ap;
    size_t classes = (size_t)cJSON_GetArraySize(at(t, "ap")), n = flatten(at(t, "scores"), b) / classes, k = 0;
    static unsigned char gold[MOST];
    double sum = 0, some = 0;
    bytes_of(at(t, "gold"), gold);
    cJSON_ArrayForEach(ap, at(t, "ap")) {
        measured m;
        for (size_t i = 0; i < n; i++) a[i] = b[i * classes + k], x[i] = gold[i * classes + k];
        assert_true(measure_scores(a, x, n, &m, &e));
        if (cJSON_IsNull(ap))
            assert_true(isnan(m.ap) && isnan(m.auroc));
        else
            assert_near(m.ap, ap->valuedouble, "a class's AP", __LINE__), sum += m.ap, some++;
        k++;
    }
    assert_number(sum / some, number(t, "mAP"));
}

static void test_anomaly(void **state) {
    (void)state;
    const cJSON *t = at(truth, "anomaly");
    size_t n = bytes_of(at(t, "masks"), x), images = flatten(at(t, "image_scores"), b), side[2][8];
    double pro, stretched;
    measured m;
    assert_int_equal(flatten(at(t, "maps"), a), n);
    assert_true(measure_scores(a, x, n, &m, &e));
    assert_number(m.auroc, number(t, "pixel_auroc"));
    for (size_t i = 0; i < images; i++) side[0][i] = 7, side[1][i] = 9, y[i] = memchr(x + i * 63, 1, 63) != NULL;
    assert_true(measure_pro(&(region_maps){a, x, side[0], side[1], images}, number(t, "pro_limit"), &pro, &stretched, &e));
    assert_number(pro, number(t, "pro"));
    assert_true(measure_scores(b, y, images, &m, &e));
    assert_number(m.auroc, number(t, "image_auroc"));
    a[5] = NAN;
    assert_false(measure_scores(a, x, n, &m, &e));
    assert_non_null(strstr(e.text, "score 5 is not a number"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retrieval), cmocka_unit_test(test_masks),      cmocka_unit_test(test_map),
        cmocka_unit_test(test_points),    cmocka_unit_test(test_multilabel), cmocka_unit_test(test_anomaly),
    };
    size_t length;
    mem_hook_cjson();
    char *text = bytes_at(DATA "datasets/metrics.json", &length);
    truth = json_parse(text, length, "metrics.json", &e);
    int code = truth ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
    json_free(truth);
    mem_free(text);
    return code;
}
