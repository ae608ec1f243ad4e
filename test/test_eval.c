/* test_eval.c - the comparison: its numbers by hand, its bytes in shards, killed and resumed, its refusals. */
#include "eval/eval.h"
#include "files/json.h"
#include "x_cli.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>
#include "x_skip.h"

#define assert_near(a, b, tolerance)                                                                                   \
    do {                                                                                                               \
        if (!(fabs((a) - (b)) <= (tolerance))) fail_msg("%.9g found, %.9g expected", (double)(a), (double)(b));        \
    } while (0)

/* ---- numbers by hand ------------------------------------------------------------------------------------ */
static void intervals(void **state) {
    (void)state;
    estimate half = wilson(50, 100), none = wilson(0, 10), all = wilson(10, 10), nothing = wilson(0, 0);
    assert_near(half.value, 0.5, 0);
    assert_near(half.low, 0.403832, 1e-6); /* (p + z2/2n -+ z sqrt(p q/n + z2/4n2)) / (1 + z2/n), z = 1.959964 */
    assert_near(half.high, 0.596168, 1e-6);
    assert_near(none.low, 0, 1e-12);
    assert_near(none.high, 0.277533, 1e-6);
    assert_near(all.low, 1 - 0.277533, 1e-6);
    assert_near(all.high, 1, 1e-12);
    assert_near(nothing.low, 0, 0);
    assert_near(nothing.high, 1, 0);
    estimate m = mean_of(0.2 + 0.4 + 0.9, 0.04 + 0.16 + 0.81, 3);
    assert_near(m.value, 0.5, 1e-12);
    assert_near(m.high, 0.5 + 1.959964 * sqrt(0.13 / 3), 1e-6); /* variance (.09 + .01 + .16)/2 */
    assert_near(m.low, 0.5 - 1.959964 * sqrt(0.13 / 3), 1e-6);
}

static void ranks(void **state) {
    (void)state;
    const real s[5] = {0.1f, 0.9f, 0.5f, 0.5f, NAN};
    assert_int_equal(rank_of(s, 4, 1), 1);
    assert_int_equal(rank_of(s, 4, 2), 3); /* its equal comes first: no gain from ties */
    assert_int_equal(rank_of(s, 4, 0), 4);
    assert_int_equal(rank_of(s, 5, 1), 2); /* what is not a number is not below it */
    assert_int_equal(rank_of(s, 5, 4), 5);
    assert_int_equal(best_of(s, 5), 1);
    assert_int_equal(best_of(s + 2, 3), 0);
    assert_int_equal(best_of(s + 4, 1), 1);
    assert_int_equal(best_of(s, 0), 0);
}

static void precision(void **state) {
    (void)state;
    ranked_pixel room[8];
    const real map[4] = {0.2f, 0.9f, 0.6f, 0.4f};
    const unsigned char first[4] = {0, 1, 0, 0}, two[4] = {0, 1, 0, 1}, last[4] = {1, 0, 0, 0}, none[4] = {0, 0, 0, 0};
    assert_near(average_precision(map, first, 4, room), 1, 1e-12);
    assert_near(average_precision(map, two, 4, room), (1 + 2.0 / 3) / 2, 1e-12);
    assert_near(average_precision(map, last, 4, room), 0.25, 1e-12);
    assert_near(average_precision(map, none, 4, room), 0, 0);
    const real flat[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    assert_near(average_precision(flat, two, 4, room), 0.5,
                1e-12);                               /* equals are taken together: the share of the mask */
    const real partly[4] = {0.5f, 0.5f, 0.9f, 0.1f}; /* {2}, {0, 1}, {3}: 0 + 1/2 (1/3) + 1/2 (2/4) */
    assert_near(average_precision(partly, two, 4, room), (1.0 / 3 + 0.5) / 2, 1e-12);
}

static void thresholds(void **state) {
    (void)state;
    double iou[THRESHOLDS];
    const real map[4] = {0.95f, 0.5f, 0.32f, 0};
    const unsigned char in[4] = {1, 0, 1, 0};
    iou_sweep(map, in, 4, iou);
    for (size_t i = 0; i < THRESHOLDS; i++) {
        double t = threshold_at(i), expected = t <= 0.301 ? 2.0 / 3 : t <= 0.501 ? 1.0 / 3 : 0.5;
        assert_near(t, 0.05 * (double)(i + 1), 1e-12);
        assert_near(iou[i], (i == THRESHOLDS - 1 && !((double)map[0] >= t)) ? 0 : expected, 1e-12);
    }
    assert_true(points_inside(map, in, 4));
    assert_false(points_inside(map + 1, in + 1, 3));
}

static void masks_made_worse(void **state) {
    (void)state;
    enum { N = 64 };
    static real soft[N * N];
    err e;
    size_t area[QUALITIES] = {0};
    for (int q = 0; q < QUALITIES; q++) {
        mask_image m = {N, N, soft};
        memset(soft, 0, sizeof soft);
        for (size_t y = 20; y < 40; y++)
            for (size_t x = 10; x < 40; x++) soft[y * N + x] = y < 30 || x < 20; /* an L */
        assert_true(mask_degrade(&m, (mask_quality)q, &e));
        for (size_t i = 0; i < N * N; i++) area[q] += soft[i] >= 0.5f;
    }
    assert_int_equal(area[QUALITY_EXACT], 300 + 100);
    assert_int_equal(area[QUALITY_BOX], 600);
    assert_int_equal(area[QUALITY_ERODED], 26 * 6 + 10 * 6); /* 2 pixels off each side */
    assert_int_equal(area[QUALITY_DILATED], 34 * 14 + 14 * 10);
    memset(soft, 0, sizeof soft);
    soft[5 * N + 5] = 1; /* too small to be eroded: stays */
    mask_image m = {N, N, soft};
    assert_true(mask_degrade(&m, QUALITY_ERODED, &e));
    assert_near(soft[5 * N + 5], 1, 0);
}

static void results_survive_a_line(void **state) {
    (void)state;
    eval_row row = {.name = "maskinv lr=0.1",
                    .method = "maskinv",
                    .explainer = "legrad",
                    .side = 64,
                    .layers = 2,
                    .iters = 7,
                    .lr = 0.1},
             map = {.name = "surgery", .method = "surgery", .side = 64};
    char name[2][EVAL_NAME] = {"fish", "\"quoted\" \\ cup"}, *template = (char *)(uintptr_t) "a {} \xc3\xa9\n";
    eval_head h = {.model = (char *)(uintptr_t) "m",
                   .set = (char *)(uintptr_t) "s",
                   .weights = UINT64_MAX - 3,
                   .scenes_bytes = 7,
                   .scenes = 9,
                   .shard = 1,
                   .shards = 2,
                   .templates = &template,
                   .template_count = 1,
                   .names = {name, NULL},
                   .name_count = {2, 0},
                   .rows = &row,
                   .maps = &map,
                   .row_count = 1,
                   .map_count = 1};
    longtext t = {0};
    eval_head back;
    err e;
    head_write(&h, &t);
    if (!head_parse(t.text, t.length - 1, "head", &back, &e)) fail_msg("%s", e.text);
    assert_null(eval_head_differs(&h, &back));
    assert_int_equal(back.shard, 1);
    back.rows[0].lr = 0.2;
    assert_string_equal(eval_head_differs(&h, &back), "the methods or their settings");
    back.rows[0].lr = 0.1;
    eval_result r, again;
    assert_true(eval_result_new(&r, &h, &e) && eval_result_new(&again, &back, &e));
    r.scene = 3, r.objects = 2, r.phrases = 3, r.name[1] = 1, r.means[2] = 1;
    r.rows[0] = (eval_row_result){.rank = {1, 2},
                                  .top = {{0, 1, 2}, {1, 0, 2}},
                                  .chosen = {0, 255, 1},
                                  .failed = {false, true},
                                  .loss = {{0.75, 1.0 / 3}, {1, 1}},
                                  .has_thumb = true};
    for (size_t i = 0; i < THUMB * THUMB; i++) r.rows[0].thumb[1][i] = (unsigned char)i;
    r.maps[0] =
        (eval_map_result){.hit = {true, false}, .ap = {0.125, 2.0 / 3}, .shared = {5, 6}, .joint = {7, 4000000000u}};
    r.maps[0].iou[1][18] = 0.25;
    t.length = 0;
    result_write(&h, &r, &t);
    if (!result_parse(&back, t.text, t.length - 1, "line", &again, &e)) fail_msg("%s", e.text);
    longtext twice = {0};
    result_write(&back, &again, &twice);
    assert_int_equal(t.length, twice.length);
    assert_memory_equal(t.text, twice.text, t.length);
    assert_int_equal(again.maps[0].joint[1], 4000000000u);
    assert_int_equal(again.rows[0].thumb[1][200], 200);
    r.broken = true, t.length = 0; /* any bytes may stand in a message */
    snprintf(r.error, sizeof r.error, "caf\xe9/\"x\" \xc3\xa9 \x01\n");
    result_write(&h, &r, &t);
    if (!result_parse(&back, t.text, t.length - 1, "line", &again, &e)) fail_msg("%s", e.text);
    assert_true(again.broken);
    assert_string_equal(again.error, "caf\xef\xbf\xbd/\"x\" \xc3\xa9 \x01\n");
    for (size_t cut = 0; cut + 1 < t.length; cut += 7)
        assert_false(result_parse(&back, t.text, cut, "line", &again, &e));
    mem_free(t.text), mem_free(twice.text);
    eval_result_free(&r), eval_result_free(&again);
    eval_head_free(&back);
}

/* ---- a set and a model --------------------------------------------------------------------------------------- */
enum { SCENES = 9 };
static char set[300], model[300];

static int setup(void **state) {
    (void)state;
    err e;
    snprintf(model, sizeof model, "%s", model_with_merges("nano-openclip-f16"));
    snprintf(set, sizeof set, "%s", scratch("set"));
    scene_source *source = scene_source_open(SCENE_DRAWN, NULL, &e);
    assert_non_null(source);
    scene_set s = {
        .source = {source, NULL}, .sources = 1, .count = SCENES, .side = 48, .least = 1, .most = 3, .seed = 99};
    assert_true(scene_set_write(&s, set, NULL, NULL, NULL, &e));
    scene_source_free(source);
    return 0;
}
static int cleanup(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

static const char *in(const char *folder, const char *file) {
    static char paths[4][600];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, file);
    return path;
}
static const char *out_folder(const char *name) {
    static char kept[6][300];
    static size_t next;
    char *path = kept[next++ % 6];
    snprintf(path, sizeof kept[0], "%s", scratch("%s", name));
    return path;
}

#define METHODS "cls,crop,pool,maskinv"
#define SWEEP "--methods", METHODS, "--explainers", "legrad,surgery", "--iters", "2,4", "--lr", "0.1"
static int eval_to(const char *out) { return run("eval", "-m", model, "-d", set, SWEEP, "-o", out, NULL); }
static int eval_shard(const char *out, const char *shard) {
    return run("eval", "-m", model, "-d", set, SWEEP, "--shard", shard, "-o", out, NULL);
}

static const char *const outputs[] = {"table.csv", "names.csv", "table.json", "results.jsonl", "report.html"};
enum { OUTPUTS = sizeof outputs / sizeof *outputs };
static void same_outputs(const char *a, const char *b) {
    for (size_t i = 0; i < OUTPUTS; i++)
        if (!same_files(in(a, outputs[i]), in(b, outputs[i])))
            fail_msg("%s differs between %s and %s", outputs[i], a, b);
    assert_int_equal(count_files(a, ""), OUTPUTS + 2); /* nothing else, . and .. aside */
}

/* The one run that the others must equal. */
static const char *whole(void) {
    static char kept[300];
    if (!kept[0]) {
        snprintf(kept, sizeof kept, "%s", scratch("whole"));
        if (eval_to(kept)) fail_msg("%s", said.err);
    }
    return kept;
}

/* ---- one run -------------------------------------------------------------------------------------------------- */
static cJSON *table_of(const char *folder) {
    size_t n;
    err e;
    char *text = bytes_at(in(folder, "table.json"), &n);
    cJSON *j = json_parse(text, n, "table.json", &e);
    if (!j) fail_msg("%s", e.text);
    mem_free(text);
    return j;
}
static double number_at(const cJSON *j, const char *part, const char *row, const char *key) {
    const cJSON *v = cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(j, part), row), key);
    if (!cJSON_IsNumber(v)) fail_msg("%s.%s.%s is not there", part, row, key);
    return v->valuedouble;
}

static void table_has_its_shape(void **state) {
    (void)state;
    static const char *const rows[] = {"cls", "crop", "pool", "maskinv iters=2", "maskinv iters=4"};
    cJSON *j = table_of(whole());
    for (size_t i = 0; i < 5; i++) {
        double low = number_at(j, "methods", rows[i], "acc1_low"), v = number_at(j, "methods", rows[i], "acc1");
        assert_true(low <= v && v <= number_at(j, "methods", rows[i], "acc1_high"));
        assert_true(v <= number_at(j, "methods", rows[i], "acc5") && number_at(j, "methods", rows[i], "n") >= (double)SCENES);
        assert_true(number_at(j, "referring", rows[i], "acc_low") <= number_at(j, "referring", rows[i], "acc_high"));
    }
    for (size_t i = 0; i < 2; i++) {
        const char *map = i ? "surgery" : "legrad";
        assert_in_range((int)(1000 * number_at(j, "maps", map, "pointing")), 0, 1000);
        assert_true(number_at(j, "maps", map, "iou") > 0 && number_at(j, "maps", map, "map") > 0);
        assert_true(number_at(j, "maps", map, "miou") > 0);
    }
    double one = number_at(j, "methods", "crop", "n"), scenes = cJSON_GetObjectItem(j, "scenes")->valuedouble;
    assert_true(one > scenes); /* so that another object could be named at all */
    assert_true(number_at(j, "methods", "crop", "other_object") + number_at(j, "methods", "crop", "acc1") <= 1);
    json_free(j);
    for (size_t i = 0; i < 5; i++) assert_non_null(strstr(said.out, rows[i]));
    /* table.csv: as many fields in each line as in the first */
    size_t n, lines = 0, fields = 0, first = 0;
    char *csv = bytes_at(in(whole(), "table.csv"), &n);
    for (size_t i = 0; i < n; i++) {
        fields += csv[i] == ',' || csv[i] == '\n';
        if (csv[i] != '\n') continue;
        if (!lines++) first = fields;
        assert_int_equal(fields, first);
        fields = 0;
    }
    assert_int_equal(lines, 1 + 5 + 2);
    mem_free(csv);
}

/* names.csv: every name once, sorted by bytes; its columns add up to the table's. */
static void names_add_up(void **state) {
    (void)state;
    enum { ROWS = 5 };
    static const char *const rows[ROWS] = {"cls", "crop", "pool", "maskinv iters=2", "maskinv iters=4"};
    size_t length, regions = 0, hits[ROWS] = {0}, lines = 0;
    char *csv = bytes_at(in(whole(), "names.csv"), &length), *at = csv, last[64] = "";
    assert_true(!strncmp(csv, "kind,name,n,\"cls\",\"crop\",\"pool\",\"maskinv iters=2\",\"maskinv iters=4\"\n", 67));
    while ((at = strchr(at, '\n')) && at[1]) {
        char name[64];
        size_t n, h[ROWS];
        int read = sscanf(++at, "drawn,\"%63[^\"]\",%zu,%zu,%zu,%zu,%zu,%zu", name, &n, &h[0], &h[1], &h[2], &h[3], &h[4]);
        assert_int_equal(read, 2 + ROWS);
        assert_true(strcmp(name, last) > 0);
        snprintf(last, sizeof last, "%s", name);
        regions += n, lines++;
        for (size_t i = 0; i < ROWS; i++) assert_true(h[i] <= n), hits[i] += h[i];
    }
    mem_free(csv);
    err e;
    scene_source *source = scene_source_open(SCENE_DRAWN, NULL, &e);
    assert_int_equal(lines, scene_names(source));
    scene_source_free(source);
    cJSON *j = table_of(whole());
    assert_int_equal(regions, (size_t)number_at(j, "methods", "cls", "n"));
    for (size_t i = 0; i < ROWS; i++)
        assert_true(fabs(number_at(j, "methods", rows[i], "acc1") - (double)hits[i] / (double)regions) < 1e-6);
    json_free(j);
}

/* cls by hand, through other commands: each picture and each name embedded, the right ones counted. */
static void cls_counted_by_hand(void **state) {
    (void)state;
    scene_record *s = mem_alloc(1, sizeof *s);
    err e;
    scene_reader *reader = scene_reader_open(set, &e);
    scene_source *source = scene_source_open(SCENE_DRAWN, NULL, &e);
    size_t names = scene_names(source), hits = 0, n = 0;
    char texts[256], image[256];
    snprintf(texts, sizeof texts, "%s", scratch("names.npy"));
    snprintf(image, sizeof image, "%s", scratch("image.npy"));
    char **argv = mem_alloc(2 * names + 16, sizeof *argv), (*sentence)[64] = mem_alloc(names, sizeof *sentence);
    const char *fixed[] = {"maskinv", "embed", "-m", model, "-o", texts};
    int argc = 0;
    for (size_t i = 0; i < 6; i++) argv[argc++] = (char *)(uintptr_t)fixed[i];
    for (size_t i = 0; i < names; i++) { /* templates: so that articles are not this test's matter */
        snprintf(sentence[i], sizeof sentence[i], "one %s here", scene_name(source, i));
        argv[argc++] = (char *)(uintptr_t) "-t", argv[argc++] = sentence[i];
    }
    if (run_v(argc, argv)) fail_msg("%s", said.err);
    npy_array t = array_at(texts);
    while (scene_reader_next(reader, s, &e) == SCENE_READ) {
        if (run("embed", "-m", model, "--squash", "-i", s->image, "-o", image, NULL)) fail_msg("%s", said.err);
        npy_array v = array_at(image);
        size_t best = 0;
        double most = -2;
        for (size_t i = 0; i < names; i++) {
            double dot = 0, length = 0;
            for (size_t k = 0; k < t.shape[1]; k++) {
                dot += (double)v.data[k] * (double)t.data[i * t.shape[1] + k];
                length += (double)t.data[i * t.shape[1] + k] * (double)t.data[i * t.shape[1] + k];
            }
            if (dot / sqrt(length) > most) most = dot / sqrt(length), best = i;
        }
        for (size_t k = 0; k < s->objects; k++, n++) hits += !strcmp(s->object[k].name, scene_name(source, best));
        npy_free(&v);
    }
    const char *out = out_folder("by-hand");
    if (run("eval", "-m", model, "-d", set, "--methods", "cls", "--template", "one {} here", "-o", out, NULL))
        fail_msg("%s", said.err);
    cJSON *j = table_of(out);
    assert_near(number_at(j, "methods", "cls", "acc1"), (double)hits / (double)n, 1e-6);
    assert_near(number_at(j, "methods", "cls", "n"), (double)n, 0);
    json_free(j);
    npy_free(&t);
    mem_free(argv), mem_free(sentence), mem_free(s);
    scene_reader_free(reader);
    scene_source_free(source);
}

/* A row of a sweep is the row that a run of its own gives. */
static void sweeps_change_nothing(void **state) {
    (void)state;
    const char *alone = out_folder("alone");
    assert_int_equal(
        run("eval", "-m", model, "-d", set, "--methods", "maskinv", "--iters", "2", "--lr", "0.1", "-o", alone, NULL),
        0);
    cJSON *a = table_of(alone), *b = table_of(whole());
    static const char *const keys[] = {"acc1", "acc5", "class_acc1", "loss_first", "loss_last"};
    for (size_t i = 0; i < 5; i++)
        assert_near(number_at(a, "methods", "maskinv", keys[i]), number_at(b, "methods", "maskinv iters=2", keys[i]),
                    0);
    assert_true(number_at(b, "methods", "maskinv iters=4", "loss_last") <
                number_at(b, "methods", "maskinv iters=2", "loss_last"));
    json_free(a), json_free(b);
    const char *worse = out_folder("worse");
    assert_int_equal(run("eval", "-m", model, "-d", set, "--methods", "cls,crop,maskinv", "--quality",
                         "exact,eroded,dilated,box", "--size", "32,64", "--iters", "1", "--layers", "1,2", "--alpha",
                         "0,0.5", "-o", worse, NULL),
                     0);
    a = table_of(worse);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(a, "methods")), 2 * (1 + 4 + 4 * 2 * 2));
    assert_true(number_at(a, "methods", "maskinv size=64 quality=box layers=2 alpha=0.5", "n") > 0);
    json_free(a);
    size_t n;
    char *page = bytes_at(in(worse, "report.html"), &n);
    assert_non_null(strstr(page, "Acc@1 against mask quality"));
    assert_non_null(strstr(page, "<svg"));
    assert_non_null(strstr(page, "data:image/png;base64,iVBOR"));
    assert_null(strstr(page, "src=\"http"));
    mem_free(page);
}

static size_t occurrences(const char *from, const char *to, const char *what) {
    size_t n = 0;
    for (const char *p = from; (p = strstr(p, what)) && p < to; p++) n++;
    return n;
}

/* A table's head has as many cells as each of its rows. */
static void every_column_has_its_head(void **state) {
    (void)state;
    size_t n, tables = 0;
    char *page = bytes_at(in(whole(), "report.html"), &n);
    for (char *table = page; (table = strstr(table, "<table>")); table++, tables++) {
        char *row = strstr(table, "</tr>"), *end = strstr(table, "</table>");
        size_t heads = occurrences(table, row, "<th>");
        for (char *next; (row = strstr(row + 1, "<tr")) && row < end; row = next) {
            next = strstr(row, "</tr>");
            assert_int_equal(occurrences(row, next, "<td"), heads);
        }
    }
    assert_true(tables >= 1);
    mem_free(page);
}

/* ---- shards --------------------------------------------------------------------------------------------------- */
static void shards_merge_to_the_same_bytes(void **state) {
    (void)state;
    const size_t counts[] = {1, 2, 4, 12}; /* the last: more than scenes */
    for (size_t c = 0; c < 4; c++) {
        char folders[12][300], merged[300], *argv[32];
        int argc = 0;
        snprintf(merged, sizeof merged, "%s", scratch("merged%zu", counts[c]));
        const char *fixed[] = {"maskinv", "merge", "-o", merged};
        for (size_t i = 0; i < 4; i++) argv[argc++] = (char *)(uintptr_t)fixed[i];
        for (size_t i = counts[c]; i-- > 0;) { /* in any order */
            char shard[48];
            snprintf(folders[i], sizeof folders[i], "%s", scratch("shard%zu-%zu", counts[c], i));
            snprintf(shard, sizeof shard, "%zu/%zu", i, counts[c]);
            if (eval_shard(folders[i], shard)) fail_msg("%s", said.err);
            argv[argc++] = folders[i];
        }
        if (run_v(argc, argv)) fail_msg("%s", said.err);
        same_outputs(merged, whole());
    }
}

static void shards_refused(void **state) {
    (void)state;
    const char *a = out_folder("s0"), *b = out_folder("s1"), *other = out_folder("s1-other"),
               *m = out_folder("refused");
    assert_int_equal(eval_shard(a, "0/2"), 0);
    assert_int_equal(eval_shard(b, "1/2"), 0);
    assert_int_equal(run("merge", "-o", m, a, NULL), 1);
    assert_non_null(strstr(said.err, "one of 2 shards, 1 given"));
    assert_int_equal(run("merge", "-o", m, a, a, NULL), 1);
    assert_non_null(strstr(said.err, "are both shard 0/2"));
    assert_int_equal(run("merge", "-o", a, a, b, NULL), 1);
    assert_non_null(strstr(said.err, "own folder"));
    assert_int_equal(run("merge", "-o", m, a, "missing", NULL), 1);
    assert_non_null(strstr(said.err, "missing/results.jsonl"));
    assert_int_equal(run("merge", "-o", m, NULL), 2);
    assert_int_equal(
        run("eval", "-m", model, "-d", set, "--methods", METHODS, "--iters", "3", "--shard", "1/2", "-o", other, NULL),
        0);
    assert_int_equal(run("merge", "-o", m, a, other, NULL), 1);
    assert_non_null(strstr(said.err, "do not fit together: the methods or their settings differs"));
    /* a shard that was killed is named */
    size_t n;
    char *bytes = bytes_at(in(b, "results.jsonl"), &n);
    put_bytes(in(b, "results.jsonl"), bytes, n - 5);
    mem_free(bytes);
    assert_int_equal(run("merge", "-o", m, a, b, NULL), 1);
    assert_non_null(strstr(said.err, "shard 1/2 is not finished"));
    assert_false(file_exists(in(m, "results.jsonl")));
    /* another run's folder is not written over */
    assert_int_equal(run("eval", "-m", model, "-d", set, "--methods", "cls", "-o", a, NULL), 1);
    assert_non_null(strstr(said.err, "an earlier run is there"));
    static const char *const wrong[] = {"2/2", "-1/2", "1", "1/0", "1/2/3", "a/b", "/2", ""};
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(eval_shard(m, wrong[i]), 2);
        assert_non_null(strstr(said.err, "--shard"));
    }
}

/* The same by ./maskinv, which may be another build than this test. */
static const char *whole_by_program(void) {
    static char kept[300];
    char line[2000];
    if (kept[0]) return kept;
    snprintf(kept, sizeof kept, "%s", scratch("whole-by-program"));
    snprintf(line, sizeof line,
             "./maskinv eval -m %s -d %s --methods " METHODS " --explainers legrad,surgery --iters 2,4 --lr 0.1 -o %s "
             ">/dev/null",
             model, set, kept);
    if (system(line) != 0) fail_msg("failed: %s", line);
    return kept;
}

static void under_gnu_parallel(void **state) {
    (void)state;
    char line[2000];
    if (system("parallel --version 2>/dev/null | grep -q GNU") != 0 || !file_exists("./maskinv")) {
        SKIP("GNU parallel or ./maskinv is not here");
    }
    const char *folder = out_folder("parallel"), *merged = out_folder("parallel-merged");
    snprintf(
        line, sizeof line,
        "parallel --will-cite -j 2 ./maskinv eval -m %s -d %s --methods " METHODS
        " --explainers legrad,surgery --iters 2,4 --lr 0.1 "
        "--threads 1 --shard {}/3 -o %s/{} ::: 0 1 2 >/dev/null && ./maskinv merge -o %s %s/0 %s/1 %s/2 >/dev/null",
        model, set, folder, merged, folder, folder, folder);
    if (system(line) != 0) fail_msg("failed: %s", line);
    same_outputs(merged, whole_by_program());
}

/* ---- stopped and started again ---------------------------------------------------------------------------------- */
static void cut_anywhere(void **state) {
    (void)state;
    size_t n;
    char *bytes = bytes_at(in(whole(), "results.jsonl"), &n);
    size_t head = (size_t)(strchr(bytes, '\n') - bytes) + 1;
    const size_t cuts[] = {head, head + 1, head + (n - head) / 3, n / 2 + 3, n - 1, n};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        char out[300];
        err e;
        snprintf(out, sizeof out, "%s", scratch("cut%zu", i));
        assert_true(folder_make(out, &e));
        put_bytes(in(out, "results.jsonl"), bytes, cuts[i]);
        if (eval_to(out)) fail_msg("cut at %zu: %s", cuts[i], said.err);
        same_outputs(out, whole());
    }
    /* what is no result in the middle is not taken for the end */
    const char *out = out_folder("broken-middle");
    err e;
    bytes[head + 20] = '\n';
    assert_true(folder_make(out, &e));
    put_bytes(in(out, "results.jsonl"), bytes, n);
    assert_int_equal(eval_to(out), 1);
    assert_non_null(strstr(said.err, "results.jsonl:2"));
    put_bytes(in(out, "results.jsonl"), bytes, head / 2); /* not even a head */
    assert_int_equal(eval_to(out), 1);
    assert_non_null(strstr(said.err, "no head"));
    mem_free(bytes);
}

static size_t lines_of(const char *path) {
    size_t n, lines = 0;
    if (!file_exists(path)) return 0;
    char *bytes = bytes_at(path, &n);
    for (size_t i = 0; i < n; i++) lines += bytes[i] == '\n';
    mem_free(bytes);
    return lines;
}

static pid_t start(char **argv) {
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout)) _exit(1);
        execv(argv[0], argv);
        _exit(127);
    }
    assert_true(child > 0);
    return child;
}

static void killed(void **state) {
    (void)state;
    if (!file_exists("./maskinv")) {
        SKIP("./maskinv is not here");
    }
    const char *out = out_folder("killed");
    char *argv[] = {(char *)(uintptr_t) "./maskinv",
                    (char *)(uintptr_t) "eval",
                    (char *)(uintptr_t) "-m",
                    model,
                    (char *)(uintptr_t) "-d",
                    set,
                    (char *)(uintptr_t) "--threads",
                    (char *)(uintptr_t) "1",
                    (char *)(uintptr_t) "--methods",
                    (char *)(uintptr_t)METHODS,
                    (char *)(uintptr_t) "--explainers",
                    (char *)(uintptr_t) "legrad,surgery",
                    (char *)(uintptr_t) "--iters",
                    (char *)(uintptr_t) "2,4",
                    (char *)(uintptr_t) "--lr",
                    (char *)(uintptr_t) "0.1",
                    (char *)(uintptr_t) "-o",
                    (char *)(uintptr_t)out,
                    NULL};
    int status = 0;
    pid_t child = start(argv);
    for (size_t i = 0; i < 100000 && lines_of(in(out, "results.jsonl")) < 2; i++) {
        if (waitpid(child, &status, WNOHANG) == child) break; /* it was faster */
        usleep(100);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    child = start(argv);
    assert_true(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    same_outputs(out, whole_by_program());
}

/* ---- broken sets, wrong flags ---------------------------------------------------------------------------------------
 */
static void copy_set(const char *to) {
    static const char *const folders[] = {"images", "masks"};
    err e;
    char line[1300];
    assert_true(folder_make(to, &e));
    for (size_t i = 0; i < 2; i++) {
        snprintf(line, sizeof line, "cp -r %s/%s %s/", set, folders[i], to);
        assert_int_equal(system(line), 0);
    }
    snprintf(line, sizeof line, "cp %s/scenes.jsonl %s/", set, to);
    assert_int_equal(system(line), 0);
}

static void broken_scenes(void **state) {
    (void)state;
    const char *bad = out_folder("bad-set"), *out = out_folder("bad-out"), *going = out_folder("bad-going"),
               *alone = out_folder("bad-alone");
    size_t n;
    copy_set(bad);
    assert_int_equal(remove(in(bad, "images/000002.png")), 0);
    put_bytes(in(bad, "masks/000004_0.png"), "no picture", 10);
    char *lines = bytes_at(in(bad, "scenes.jsonl"), &n), *sixth = lines;
    for (size_t i = 0; i < 6; i++) sixth = strchr(sixth, '\n') + 1;
    sixth[1] = '!';
    put_bytes(in(bad, "scenes.jsonl"), lines, n);
    mem_free(lines);
    assert_int_equal(run("eval", "-m", model, "-d", bad, "--methods", "cls", "-o", out, NULL), 1);
    assert_non_null(strstr(said.err, "scene 2: "));
    assert_non_null(strstr(said.err, "images/000002.png"));
    assert_int_equal(lines_of(in(out, "results.jsonl")), 1 + 2); /* what came before is kept */
    assert_int_equal(run("eval", "-m", model, "-d", bad, "--methods", "cls", "--keep-going", "-o", out, NULL), 0);
    static const char *const named[] = {"images/000002.png", "masks/000004_0.png", "scenes.jsonl:7"};
    for (size_t i = 0; i < 3; i++) assert_non_null(strstr(said.err, named[i]));
    assert_non_null(strstr(said.out, "3 broken scenes were left out"));
    cJSON *j = table_of(out);
    assert_near(cJSON_GetObjectItem(j, "broken")->valuedouble, 3, 0);
    assert_near(cJSON_GetObjectItem(j, "scenes")->valuedouble, SCENES - 3, 0);
    json_free(j);
    assert_int_equal(run("eval", "-m", model, "-d", bad, "--methods", "cls", "--keep-going", "-o", going, NULL), 0);
    same_outputs(going, out);
    (void)alone;
}

static void sets_refused(void **state) {
    (void)state;
    const char *empty = out_folder("empty-set"), *out = out_folder("sets-refused");
    err e;
    assert_int_equal(run("eval", "-m", model, "-d", "missing-folder", "--methods", "cls", "-o", out, NULL), 1);
    assert_non_null(strstr(said.err, "missing-folder/scenes.jsonl"));
    assert_true(folder_make(empty, &e));
    put_bytes(in(empty, "scenes.jsonl"), "\n\n", 2);
    assert_int_equal(run("eval", "-m", model, "-d", empty, "--methods", "cls", "-o", out, NULL), 1);
    assert_non_null(strstr(said.err, "no scenes"));
    put_bytes(out_folder("a-file"), "x", 1);
    assert_int_equal(run("eval", "-m", model, "-d", set, "--methods", "cls", "-o", scratch("a-file"), NULL), 1);
    assert_non_null(strstr(said.err, "a-file"));
}

static void flags_refused(void **state) {
    (void)state;
    static const struct {
        const char *flag, *value, *says;
        int code;
    } cases[] = {
        {"--methods", "cls,crp", "--methods: 'crp' found (meant: crop?)", 2},
        {"--methods", "", "--methods", 2},
        {"--methods", "cls,", "--methods", 2},
        {"--methods", "cls,cls", "twice", 2},
        {"--explainers", "surgry", "--explainers: 'surgry' found (meant: surgery?)", 2},
        {"--iters", "0", "--iters: 0 found", 2},
        {"--iters", "5,x", "--iters: 'x'", 2},
        {"--lr", "nan", "--lr: 'nan'", 2},
        {"--layers", "99", "--layers: 99 found", 2},
        {"--blocks", "99", "--blocks: 99 found", 2},
        {"--quality", "good", "--quality: 'good' found, expected of exact, eroded", 2},
        {"--size", "33", "--size: 33 found", 2},
        {"--limit", "0", "--limit", 2},
        {"--explainer", "gradcm", "--explainer: 'gradcm' found (meant: gradcam?)", 2},
        {"--template", "a photo", "{}", 1},
        {"--templates", "missing.txt", "missing.txt", 1},
    };
    const char *out = out_folder("flags-refused");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool explains = !strcmp(cases[i].flag, "--methods");
        int code = run("eval", "-m", model, "-d", set, "-o", out, explains ? "--explainers" : "--methods",
                       explains ? "legrad" : "cls", cases[i].flag, cases[i].value, NULL);
        if (code != cases[i].code || !strstr(said.err, cases[i].says))
            fail_msg("%s %s: exit %d, said: %s", cases[i].flag, cases[i].value, code, said.err);
        assert_false(file_exists(in(out, "results.jsonl")));
    }
    assert_int_equal(run("eval", "-m", model, "-d", set, "-o", out, NULL), 2);
    assert_non_null(strstr(said.err, "--methods or --explainers"));
    assert_int_equal(run("eval", "-m", model, "--methods", "cls", "-o", out, NULL), 2);
    assert_non_null(strstr(said.err, "--data"));
}

static void limit_and_threads(void **state) {
    (void)state;
    const char *one = out_folder("one-thread"), *three = out_folder("three-threads");
    assert_int_equal(run("eval", "-m", model, "-d", set, SWEEP, "--threads", "1", "-o", one, NULL), 0);
    same_outputs(one, whole());
    assert_int_equal(run("eval", "-m", model, "-d", set, SWEEP, "--threads", "3", "--limit", "4", "-o", three, NULL),
                     0);
    assert_int_equal(lines_of(in(three, "results.jsonl")), 1 + 4);
}

/* Every allocation that fails, one after another, is an error with a message, and what was written stays whole. */
static void no_memory(void **state) {
    (void)state;
    const char *out = out_folder("no-memory");
    size_t before = mem_count();
    assert_int_equal(run("eval", "-m", model, "-d", set, "--limit", "1", "--methods", "crop,maskinv", "--explainers",
                         "surgery", "--threads", "1", "-o", out, NULL),
                     0);
    size_t all = mem_count() - before;
    assert_true(all > 50);
    for (size_t i = 1; i <= all; i += 1 + i / 40) {
        char again[300];
        snprintf(again, sizeof again, "%s", scratch("no-memory-%zu", i));
        mem_fail_after(i);
        int code = run("eval", "-m", model, "-d", set, "--limit", "1", "--methods", "crop,maskinv", "--explainers",
                       "surgery", "--threads", "1", "-o", again, NULL);
        mem_fail_after(0);
        if (code == 0)
            same_outputs(again, out); /* a picture of the report was left out, at most */
        else if (code != 1 || !said.err[0])
            fail_msg("allocation %zu: exit %d, said '%s'", i, code, said.err);
    }
}

int main(void) {
    mem_hook_cjson();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals),
        cmocka_unit_test(ranks),
        cmocka_unit_test(precision),
        cmocka_unit_test(thresholds),
        cmocka_unit_test(masks_made_worse),
        cmocka_unit_test(results_survive_a_line),
        cmocka_unit_test(table_has_its_shape),
        cmocka_unit_test(names_add_up),
        cmocka_unit_test(cls_counted_by_hand),
        cmocka_unit_test(sweeps_change_nothing),
        cmocka_unit_test(every_column_has_its_head),
        cmocka_unit_test(shards_merge_to_the_same_bytes),
        cmocka_unit_test(shards_refused),
        cmocka_unit_test(under_gnu_parallel),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(killed),
        cmocka_unit_test(broken_scenes),
        cmocka_unit_test(sets_refused),
        cmocka_unit_test(flags_refused),
        cmocka_unit_test(limit_and_threads),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, setup, cleanup);
}
