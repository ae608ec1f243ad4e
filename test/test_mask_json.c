/* test_mask_json.c - regions in JSON: COCO's table against the truth of its listing, SAM's lists, one annotation alone,
 * names, which picture is meant, and what is said of broken ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "x_cli.h"
#include "files/json.h"
#include "masks/masks.h"
#include "masks/rle.h"

#define COCO DATA "datasets/coco2017/"
static err e;
static char heard[4096];

static void hear(void *arg, const char *file, const char *text) {
    (void)arg;
    size_t n = strlen(heard);
    snprintf(heard + n, sizeof heard - n, "%s: %s\n", file, text);
}

static bool open_for(masks *m, const char *name, const char *photo, size_t keep) {
    static const char *names[1];
    names[0] = name;
    heard[0] = 0, e.text[0] = 0;
    return masks_open(m, &(mask_wishes){.files = names, .count = 1, .photo = photo, .width = 4, .height = 2, .keep = keep, .say = hear}, &e);
}

static const char *json(const char *name, const char *text) {
    const char *path = scratch("%s", name);
    put_bytes(path, text, strlen(text));
    return path;
}

/* The i-th region is called so and has these pixels, 0 or 1. */
static void assert_region(const char *name, const char *photo, size_t i, const char *called, const char *digits) {
    for (size_t keep = 0; keep <= 1 << 20; keep += 1 << 20) {
        masks m;
        if (!open_for(&m, name, photo, keep)) fail_msg("%s: %s", name, e.text);
        assert_true(i < m.count);
        assert_string_equal(m.item[i].name, called);
        const mask_image *one = masks_at(&m, i, &e);
        if (!one) fail_msg("%s: %s", name, e.text);
        assert_int_equal(one->width * one->height, strlen(digits));
        for (size_t k = 0; digits[k]; k++)
            if (one->soft[k] != (float)(digits[k] - '0')) fail_msg("%s: pixel %zu is %g", name, k, (double)one->soft[k]);
        masks_close(&m);
    }
}

static void assert_not(const char *text, const char *why) {
    masks m;
    const char *path = json("broken.json", text);
    if (open_for(&m, path, "a.jpg", 0)) fail_msg("%s was read", text);
    if (!strstr(e.text, why) || !strstr(e.text, "broken.json")) fail_msg("%s: %s", text, e.text);
    masks_close(&m);
}

/* ---- COCO ------------------------------------------------------------------------------------------------- */
static bool same_rle(const mask_image *m, const cJSON *rle) {
    size_t n = m->width * m->height;
    unsigned char *flat = mem_alloc(n, 1);
    longtext text = {0};
    for (size_t i = 0; i < n; i++) flat[i] = m->soft[i] > 0;
    rle_encode(flat, m->height, m->width, &text);
    bool same = !strcmp(text.text, rle->valuestring);
    mem_free(text.text), mem_free(flat);
    return same;
}

/* Every region of the listing's truth is among those of its picture, under its class's name. */
static void test_coco_table(void **state) {
    (void)state;
    size_t length, checked = 0;
    char *text = bytes_at(COCO "truth.json", &length);
    cJSON *truth = json_parse(text, length, "truth.json", &e);
    const cJSON *region;
    assert_non_null(truth);
    cJSON_ArrayForEach(region, cJSON_GetObjectItem(truth, "regions")) {
        char photo[64];
        masks m;
        bool found = false;
        snprintf(photo, sizeof photo, "%012d.png", cJSON_GetObjectItem(region, "image")->valueint);
        if (!cJSON_GetObjectItem(region, "area")->valueint) continue;
        if (!open_for(&m, COCO "root/annotations/instances_val2017.json", photo, 0)) fail_msg("%s: %s", photo, e.text);
        for (size_t i = 0; i < m.count && !found; i++) {
            const mask_image *one = masks_at(&m, i, &e);
            found = one && m.item[i].called && !strcmp(m.item[i].called, cJSON_GetObjectItem(region, "class")->valuestring) &&
                    same_rle(one, cJSON_GetObjectItem(region, "rle"));
        }
        if (!found) fail_msg("%s: region %d is not there", photo, cJSON_GetObjectItem(region, "id")->valueint);
        masks_close(&m);
        checked++;
    }
    assert_true(checked > 8);
    masks m;
    assert_true(open_for(&m, COCO "root/annotations/instances_val2017.json", "000000000802.jpg", 0));
    assert_non_null(strstr(heard, "cannot be read and are left out: region 10 (person): run lengths do not fill the picture"));
    masks_close(&m);
    json_free(truth);
    mem_free(text);
}

static const char table[] =
    "{\"annotations\": [{\"id\": 1, \"image_id\": 7, \"category_id\": 3, \"segmentation\": [[1,0,3,0,3,1,1,1]]},"
    "{\"id\": 2, \"image_id\": 8, \"category_id\": 3, \"segmentation\": {\"size\": [2,4], \"counts\": [7,1]}},"
    "{\"id\": 3, \"image_id\": 7, \"category_id\": 3, \"segmentation\": {\"size\": [2,4], \"counts\": \"026\"}},"
    "{\"id\": 4, \"image_id\": 7, \"category_id\": 4, \"segmentation\": []}],"
    "\"images\": [{\"id\": 7, \"file_name\": \"dir/a.jpg\", \"width\": 4, \"height\": 2}, {\"id\": 8, \"file_name\": \"b.jpg\"}],"
    "\"categories\": [{\"id\": 3, \"name\": \"hot dog/1\"}, {\"id\": 4, \"name\": \"cat\"}]}";

static void test_which_picture(void **state) {
    (void)state;
    char path[512], part[600];
    masks m;
    snprintf(path, sizeof path, "%s", json("table.json", table));
    assert_region(path, "elsewhere/a.png", 0, "hot_dog_1", "01100000");
    assert_non_null(strstr(heard, "table.json: 1 of 3 regions have no pixel and are left out"));
    assert_region(path, "a.jpg", 1, "hot_dog_1_2", "10001000");
    snprintf(part, sizeof part, "%s:0,1", path); /* what lies under a point */
    assert_region(part, "a.jpg", 0, "hot_dog_1", "10001000");
    assert_region(path, "b.jpg", 0, "hot_dog_1", "00000001");
    assert_region(path, "COCO_000000000008.jpg", 0, "hot_dog_1", "00000001"); /* by its number */
    if (open_for(&m, path, "c.jpg", 0)) fail_msg("another's regions were taken");
    assert_non_null(strstr(e.text, "holds regions of several pictures, none of them is c.jpg"));
    masks_close(&m);
    snprintf(part, sizeof part, "%s:1", path);
    assert_region(part, "a.jpg", 0, "hot_dog_1", "10001000");
    snprintf(part, sizeof part, "%s:hot dog/1", path);
    assert_region(part, "a.jpg", 1, "hot_dog_1_2", "10001000");
    snprintf(part, sizeof part, "%s:dog", path);
    assert_false(open_for(&m, part, "a.jpg", 0));
    assert_non_null(strstr(e.text, "none of its 3 regions is called 'dog': region 0 is called 'hot dog/1'"));
    masks_close(&m);
    snprintf(part, sizeof part, "%s:3", path);
    assert_false(open_for(&m, part, "a.jpg", 0));
    assert_non_null(strstr(e.text, "regions 0 to 2 are in it"));
    masks_close(&m);
}

/* ---- SAM, and one alone ----------------------------------------------------------------------------------------- */
static void test_sam(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s",
             json("sam.json", "\xEF\xBB\xBF [{\"area\": 2, \"segmentation\": {\"size\": [2,4], \"counts\": [2,4,2]}, \"bbox\": [1,0,2,2]},\n"
                              "{\"segmentation\": [[true,false,false,true],[false,false,false,true]], \"label\": \"Zug-\xC3\xA4\"},"
                              "{\"segmentation\": {\"size\": [4,2], \"counts\": [0,8]}}]"));
    assert_region(path, "x.jpg", 0, "sam_0", "01100110");
    assert_region(path, "x.jpg", 1, "Zug-\xC3\xA4", "10010001");
    assert_region(path, "x.jpg", 2, "sam_2", "11111111");
    snprintf(path, sizeof path, "%s",
             json("sa_1.json", "{\"image\": {\"image_id\": 1, \"width\": 4, \"height\": 2, \"file_name\": \"sa_1.jpg\"}, \"annotations\":"
                               "[{\"id\": 500, \"segmentation\": {\"size\": [2,4], \"counts\": \"026\"}, \"point_coords\": [[1,2]]}]}"));
    assert_region(path, "renamed.jpg", 0, "sa_1_0", "10001000");
    snprintf(path, sizeof path, "%s", json("one.json", "{\"segmentation\": [[1,0,3,0,3,1,1,1]], \"name\": \"it\"}"));
    assert_region(path, NULL, 0, "it", "01100000"); /* polygons: of the photograph's size */
    snprintf(path, sizeof path, "%s", json("runs.json", "{\"counts\": [0,2,6], \"size\": [2, 4]}"));
    assert_region(path, NULL, 0, "runs_0", "10001000");
    snprintf(path, sizeof path, "%s",
             json("grounded.json", "{\"image_path\": \"a.jpg\", \"annotations\": [{\"class_name\": \"cat\", \"segmentation\": [[0,0,2,0,2,4,0,4]]}],"
                                   "\"img_width\": 2, \"img_height\": 4}"));
    assert_region(path, "a.jpg", 0, "cat", "11111111");
}

static void test_broken(void **state) {
    (void)state;
    assert_not("[", "expected");
    assert_not("[]", "holds no region: annotations with a segmentation, as of COCO or SAM, expected");
    assert_not("{\"a\": 1}", "holds no region");
    assert_not("[1]", "element 0 has neither segmentation nor counts");
    assert_not("[{\"segmentation\": 5}]", "region 0: segmentation is neither run lengths nor polygons");
    assert_not("[{\"segmentation\": {\"counts\": \"026\"}}]", "region 0: run lengths without size: [height, width]");
    assert_not("[{\"segmentation\": {\"size\": [2,4], \"counts\": [1,2]}, \"label\": \"dog\"}]", "region 0 (dog): run lengths do not fill the picture");
    assert_not("[{\"segmentation\": {\"size\": [2,4], \"counts\": [9]}}]", "region 0: run lengths exceed the picture");
    assert_not("[{\"segmentation\": {\"size\": [2,4], \"counts\": \"\x7f\"}}]", "region 0: not a run-length character");
    assert_not("[{\"segmentation\": {\"size\": [1e9,1e9], \"counts\": [1]}}]", "at most 100 million expected");
    assert_not("[{\"segmentation\": {\"size\": [2,4], \"counts\": [8]}}]", "the mask is empty: none of its 1 regions has a pixel");
    assert_not("[{\"segmentation\": [[1,0,\"x\",0,3,1]]}]", "region 0: a corner that is no number");
    assert_not("[{\"segmentation\": [[true,false],[true]]}]", "region 0: row 1 has 1 numbers, the first has 2");
    assert_not("[{\"segmentation\": [[true,false],[true,false,true]]}]", "region 0: row 1: number 2");
    mask_image one;
    assert_false(mask_read(json("alone.json", "{\"segmentation\": [[1,0,3,0,3,1]]}"), &one, &e));
    assert_non_null(strstr(e.text, "polygons of a picture whose width and height the file does not say"));
    assert_true(mask_read(json("alone.json", "[{\"segmentation\": {\"size\": [2,4], \"counts\": \"026\"}}]"), &one, &e));
    mask_free(&one);
}

static void test_command(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", json("table.json", table));
    assert_int_equal(run("regions", "--method", "pool", "-i", IMAGE, "-k", path, NULL), 1);
    assert_non_null(strstr(said.err, "none of them is image.png"));
    snprintf(path, sizeof path, "%s:cat", json("sam.json", "[{\"segmentation\": {\"size\": [2,4], \"counts\": [2,4,2]}, \"label\": \"cat\"}]"));
    assert_int_equal(run("regions", "--method", "pool", "-i", IMAGE, "-k", path, "-t", "a cat", NULL), 0);
    assert_non_null(strstr(said.out, "cat"));
    assert_int_equal(run("invert", "-i", IMAGE, "-k", path, "--labels", "--iters", "1", "-o", scratch("out"), NULL), 0);
    assert_true(file_exists(scratch("out/cat.map.npy")));
}

static int end(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coco_table), cmocka_unit_test(test_which_picture), cmocka_unit_test(test_sam),
        cmocka_unit_test(test_broken),     cmocka_unit_test(test_command),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, end);
}
