/* bench_papers.c - make bench-papers: what the papers' tables cost, for docs/PAPER.md and docs/SPEED.md.
 *
 *     build/openblas/test/bench_papers [B/16] [H/14] [plus-240] [METHOD|METHOD+pamr...|regions]   // of these shapes, these alone
 *
 * Seeded weights of published shapes in build/bench. On one core, in processor time, since `eval` gives each picture one core
 * and a shared machine's clock says little:
 * - the segmentation protocol on a photograph of 500 x 375, beside the forward passes of the same windows (H/14: NACLIP alone);
 * - `maskinv eval` over ten regions a picture, beside `maskinv invert` of the same masks, from whole processes;
 * - `maskinv anomaly`, a picture more (ViT-B-16-plus-240).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "files/files.h"
#include "files/longtext.h"
#include "models/checkpoint.h"
#include "models/texts.h"
#include "segment/segment.h"
#include "sys/threads.h"
#include "x_seeded.h"
#include "x_speed.h"

typedef struct { const char *name, *folder; size_t image, patch, width, layers, heads, embed; int runs; } shape;
static const shape SHAPES[] = {{"B/16", "build/bench/ViT-B-16", 224, 16, 768, 12, 12, 512, 3},
                               {"H/14", "build/bench/ViT-H-14", 224, 14, 1280, 32, 16, 1024, 1},
                               {"plus-240", "build/bench/ViT-B-16-plus-240", 240, 16, 896, 12, 14, 640, 2}};
static bool is(const shape *s, const char *name) { return !strcmp(s->name, name); }
enum { WIDE = 500, HIGH = 375, DISCS = 5, PICTURES = 3 };
#define ROOT "build/bench/voc"
#define VOC ROOT "/VOCdevkit/VOC2012"

static void stop(const char *what) {
    fprintf(stderr, "bench_papers: %s\n", what);
    exit(1);
}

static double processor(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* ---- segmentation --------------------------------------------------------------------------------------------------- */
typedef struct { const char *list, *method; size_t pamr; } system_row;
static const system_row rows[] = {
    {"coco_stuff164k", "similarity", 0}, {"coco_stuff164k", "maskclip", 0}, {"coco_stuff164k", "clearclip", 0}, {"coco_stuff164k", "naclip", 0},
    {"coco_stuff164k", "sclip", 0}, {"coco_stuff164k", "gem", 0}, {"coco_stuff164k", "surgery", 0}, {"coco_stuff164k", "scclip", 0},
    {"coco_stuff164k", "resclip", 0}, {"coco_stuff164k", "naclip", 10}, {"cityscapes", "naclip", 0}, {"voc21", "naclip", 0},
    {"voc21", "naclip", 10}, {"voc21", "resclip", 0}, {"cliptrase_voc20", "cliptrase", 0}};

enum { STANDARD = 3 }; /* NACLIP's: of H/14 alone */

/* Seconds of clip_image over `count` windows of h x w, side by side. */
static double forward(const clip_model *m, size_t count, size_t h, size_t w, arena *memory) {
    ag_tape t = {.recording = false};
    size_t gh, gw, mark = arena_mark(memory), p = m->config.patch;
    real *pixels = arena_alloc(memory, 3 * h, w * sizeof *pixels);
    if (!pixels || !ag_tape_init(&t, memory, NULL, 64) || !clip_grid(&m->config, h / p * p, w / p * p, &gh, &gw)) stop("no memory");
    t.recording = false;
    for (size_t i = 0; i < 3 * h * w; i++) pixels[i] = (real)sin((double)i);
    double start = processor();
    ag_tensor *all = ag_new(&t, count, gh * gw, 3 * p * p);
    for (size_t i = 0; all && i < count; i++) {
        ag_mark at = ag_tape_mark(&t);
        const ag_tensor *one = clip_patches(&t, m, pixels, h / p * p, w / p * p);
        if (!one) stop("no memory for a window");
        memcpy(all->data + i * gh * gw * 3 * p * p, one->data, gh * gw * 3 * p * p * sizeof(real));
        ag_tape_reset(&t, at);
    }
    if (!clip_image(&t, m, all, gh, gw)) stop("the forward pass failed");
    double seconds = processor() - start;
    arena_reset(memory, mark);
    return seconds;
}

static void bench_row(const shape *s, const clip_model *m, const system_row *r, const picture *photo, arena *memory) {
    segment_classes classes;
    err e = {0};
    if (!segment_classes_read(r->list, &classes, &e)) stop(e.text);
    size_t E = m->config.embed;
    uint64_t state = 11;
    real *queries = mem_alloc(classes.query_count, E * sizeof *queries);
    if (!queries) stop("no memory");
    seeded_normal(&state, queries, classes.query_count * E);
    for (size_t q = 0; q < classes.query_count; q++) (void)unit(queries + q * E, E);
    segmenter g = {.model = m, .classes = &classes, .queries = queries, .settings = segment_defaults(m, method_find(r->method), classes.list)};
    g.settings.pamr = r->pamr;
    double best = INFINITY, passes = INFINITY;
    segmentation out = {0};
    size_t window = g.settings.window;
    for (int i = 0; i < s->runs; i++) {
        size_t mark = arena_mark(memory);
        double start = processor();
        if (!segment_picture(&g, photo, &out, memory, NULL, &e)) stop(e.text);
        best = fmin(best, processor() - start);
        arena_reset(memory, mark);
        size_t h = window && window < out.input_height ? window : out.input_height, w = window && window < out.input_width ? window : out.input_width;
        passes = fmin(passes, forward(m, out.windows ? out.windows : 1, h, w, memory));
    }
    printf("  %-16s %-10s%s  %4zu names  %2zu windows of %3zu  %7.2f s  %5.2f x the forward passes (%.2f s)\n", r->list, r->method,
           r->pamr ? "+pamr" : "     ", classes.query_count, out.windows, window, best, best / passes, passes);
    fflush(stdout);
    mem_free(queries);
    segment_classes_free(&classes);
}

/* ---- regions ----------------------------------------------------------------------------------------------------------- */
static double process_seconds(char *const *argv) {
    struct rusage use;
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(127);
        execv(argv[0], argv);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &use) != child || status != 0) stop("./maskinv failed");
    return (double)use.ru_utime.tv_sec + (double)use.ru_utime.tv_usec / 1e6 + (double)use.ru_stime.tv_sec + (double)use.ru_stime.tv_usec / 1e6;
}

/* A picture's seconds: of a run over so many less one of one, over those between. */
static double eval_seconds(const shape *s, const char *side, const char *methods) {
    char folder[80], limit[8];
    double took[2];
    snprintf(folder, sizeof folder, "%s", s->folder);
    for (int k = 0; k < 2; k++) {
        char out[64], *run[] = {"./maskinv", "eval", "-d", "voc2012:" ROOT, "-m", folder, "--methods", (char *)(uintptr_t)methods, "--size",
                                (char *)(uintptr_t)side, "--template", "{}", "--iters", "10", "--threads", "1", "--limit", limit, "-o", out, NULL};
        snprintf(limit, sizeof limit, "%d", k ? PICTURES : 1);
        snprintf(out, sizeof out, "build/bench/eval%d", k);
        char old[80];
        snprintf(old, sizeof old, "%s/results.jsonl", out);
        (void)remove(old);
        took[k] = process_seconds(run);
    }
    return (took[1] - took[0]) / (PICTURES - 1);
}

static double invert_seconds(const shape *s, const char *side, int masks) {
    char folder[80], mask[DISCS][64], *run[32] = {"./maskinv", "invert", "-i", VOC "/JPEGImages/0.jpg", "-m", folder, "--size", (char *)(uintptr_t)side,
                                                  "--threads", "1", "--iters", "10", "-o", "build/bench/out"};
    int n = 14;
    snprintf(folder, sizeof folder, "%s", s->folder);
    for (int i = 0; i < masks; i++) {
        snprintf(mask[i % DISCS], sizeof mask[0], ROOT "/disc%d.png", i % DISCS);
        run[n++] = "-k", run[n++] = mask[i % DISCS];
    }
    return process_seconds(run);
}

/* eval a picture, of ten regions, beside invert of as many masks: what it takes for one, and for each mask more. */
static void bench_regions(const shape *s, const char *side) {
    double one = INFINITY, more = INFINITY, all = INFINITY;
    for (int i = 0; i < (s->runs > 1 ? 2 : 1); i++) {
        one = fmin(one, invert_seconds(s, side, 1));
        more = fmin(more, (invert_seconds(s, side, DISCS) - one) / (DISCS - 1));
        if (s->runs > 1) all = fmin(all, eval_seconds(s, side, "maskinv"));
    }
    double ten = one + (2 * DISCS - 1) * more;
    printf("  invert at %s: %.2f s for one mask, %.2f s for each more, so %.2f s for ten\n", side, one, more, ten);
    if (all < INFINITY) printf("  eval at %s, ten regions a picture: %.2f s a picture, %.0f %% of that rate\n", side, all, 100 * ten / all);
    fflush(stdout);
}

/* ---- inputs ------------------------------------------------------------------------------------------------------------- */
static void write_all(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) stop(path);
}

static void make_voc(picture *photo) {
    static const char *const folders[] = {VOC "/JPEGImages", VOC "/SegmentationClass", VOC "/SegmentationObject", VOC "/ImageSets/Segmentation"};
    static unsigned char index[WIDE * HIGH], palette[DISCS + 1][3];
    static float soft[WIDE * HIGH];
    err e = {0};
    if (!picture_new(WIDE, HIGH, photo, &e)) stop(e.text);
    for (size_t i = 0; i < photo->width * photo->height * 3; i++)
        photo->rgb[i] = (unsigned char)(128 + 100 * sin((double)(i % 1500) / 90) * cos((double)(i / 1500) / 40));
    for (size_t i = 0; i < 4; i++)
        if (!folder_make(folders[i], &e)) stop(e.text);
    for (int y = 0; y < HIGH; y++)
        for (int x = 0; x < WIDE; x++)
            for (int k = 0; k < DISCS; k++)
                if (hypot(x - 60 - 90 * k, y - 190 + 20 * k) < 30 + 4 * k) index[y * WIDE + x] = (unsigned char)(k + 1);
    for (int k = 0; k < PICTURES; k++) {
        char path[120];
        snprintf(path, sizeof path, VOC "/JPEGImages/%d.jpg", k);
        if (!picture_write_png(path, photo, &e)) stop(e.text);
        for (int i = 1; i < 3; i++) {
            snprintf(path, sizeof path, "%s/%d.png", folders[i], k);
            if (!palette_write_png(path, index, WIDE, HIGH, (const unsigned char(*)[3])palette, DISCS + 1, &e)) stop(e.text);
        }
    }
    for (int k = 0; k < DISCS; k++) {
        char path[64];
        for (size_t i = 0; i < WIDE * HIGH; i++) soft[i] = index[i] == k + 1;
        snprintf(path, sizeof path, ROOT "/disc%d.png", k);
        if (!mask_write_png(path, soft, WIDE, HIGH, &e)) stop(e.text);
    }
    write_all(VOC "/ImageSets/Segmentation/val.txt", "0\n1\n2\n");
}

static checkpoint *open_shape(const shape *s) {
    err e = {0};
    seeded_model made;
    if (!folder_exists(s->folder)) {
        if (!seeded_make(&made, seeded_config(s->image, s->patch, s->width, s->layers, s->heads, s->embed), CLIP_F16, 7)) stop("no memory");
        if (!folder_make(s->folder, &e) || !checkpoint_write(s->folder, &made.model, "F16", &e)) stop(e.text);
        seeded_free(&made);
    }
    char merges[120];
    snprintf(merges, sizeof merges, "%s/merges.txt", s->folder);
    if (!file_exists(merges)) { /* 600 - 514 merges of letters: words need not mean anything here */
        longtext t = {0};
        say(&t, "#version: 0.2\n");
        for (int a = 0; a < 86; a++) say(&t, "%c %c\n", 'a' + a / 26, 'a' + a % 26);
        write_all(merges, t.text);
        mem_free(t.text);
    }
    checkpoint *c = checkpoint_open(s->folder, &e);
    if (!c) stop(e.text);
    return c;
}

static bool has(int argc, char **argv, const char *word) {
    for (int k = 1; k < argc; k++)
        if (!strcmp(argv[k], word)) return true;
    return false;
}

typedef struct { char text[32]; } row_text;
static row_text row_name(const system_row *r) {
    row_text name;
    snprintf(name.text, sizeof name.text, "%s%s", r->method, r->pamr ? "+pamr" : "");
    return name;
}

/* Seconds that a picture more takes: of three less of one. */
static double anomaly_seconds(const shape *s, const char *how) {
    char folder[80];
    double took[2];
    snprintf(folder, sizeof folder, "%s", s->folder);
    for (int k = 0; k < 2; k++) {
        char *run[24] = {"./maskinv", "anomaly", "-c", "bottle", "-m", folder, "--threads", "1"};
        int n = 8;
        for (int i = 0; i < (k ? PICTURES : 1); i++) run[n++] = "-i", run[n++] = VOC "/JPEGImages/0.jpg";
        if (how) run[n++] = (char *)(uintptr_t)how;
        took[k] = process_seconds(run);
    }
    return (took[1] - took[0]) / (PICTURES - 1);
}

static void bench_anomaly(const shape *s, const clip_model *m, arena *memory) {
    static const char *const how[] = {NULL, "--one-view", "--tiles"};
    double pass = INFINITY;
    for (int i = 0; i < s->runs; i++) pass = fmin(pass, forward(m, 1, s->image, s->image, memory));
    printf("  a forward pass of %zu: %.3f s\n", s->image, pass);
    for (size_t k = 0; k < 3; k++) {
        double best = INFINITY;
        for (int i = 0; i < s->runs; i++) best = fmin(best, anomaly_seconds(s, how[k]));
        printf("  anomaly%s%s: %.2f s a picture\n", how[k] ? " " : ", 22 views, five steps", how[k] ? how[k] : "", best);
        fflush(stdout);
    }
}

static void bench(const shape *s, const picture *photo, int argc, char **argv) {
    size_t room = (size_t)6 << 30;
    arena memory;
    void *block = mem_reserve(room);
    checkpoint *c = open_shape(s);
    if (!block) stop("no memory");
    arena_init(&memory, block, room);
    printf("\nViT-%s, sgemm %.0f GFLOP/s on one core\n", s->name, sgemm_rate(NULL, 197, s->width) / 1e9);
    fflush(stdout);
    int named = 0;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) named += has(argc, argv, SHAPES[i].name);
    bool chosen = argc > 1 + named, regions = !chosen || has(argc, argv, "regions");
    if (is(s, "plus-240")) bench_anomaly(s, checkpoint_model(c), &memory);
    for (size_t i = 0; !is(s, "plus-240") && i < sizeof rows / sizeof *rows; i++)
        if (chosen ? has(argc, argv, row_name(&rows[i]).text) : is(s, "B/16") || i == STANDARD)
            bench_row(s, checkpoint_model(c), &rows[i], photo, &memory);
    for (int i = 0; regions && !is(s, "plus-240") && i < 2; i++) bench_regions(s, i ? "224" : "448");
    checkpoint_free(c);
    mem_release(block, room);
}

int main(int argc, char **argv) {
    err e = {0};
    picture photo;
    mem_hook_cjson();
    gemm_one_core();
    if (!folder_make("build/bench", &e)) stop(e.text);
    make_voc(&photo);
    bool every = true;
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) every = every && !has(argc, argv, SHAPES[i].name);
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (every || has(argc, argv, SHAPES[i].name)) bench(&SHAPES[i], &photo, argc, argv);
    picture_free(&photo);
    return 0;
}
