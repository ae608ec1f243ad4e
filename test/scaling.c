/* scaling.c - make scaling: seconds and memory as the work grows, each curve beside its bound.
 *
 *     build/openblas/test/scaling PICTURE.png [seconds]
 *
 * Whole processes as a user runs them, on seeded F16 models in build/bench. Seconds are the processor's, of all cores
 * together, since a shared machine's clock says little; the bound is the time of the run's matrix products at the sgemm
 * rate of one core, measured right before and after it. Memory is what is resident; its bound the weights that must be read. What
 * would take more than `seconds` (35) is extrapolated by its bound, marked ~, and drawn hollow. Tables go to standard output as Markdown.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "files/files.h"
#include "models/checkpoint.h"
#include "sys/threads.h"
#include "x_plot.h"
#include "x_seeded.h"
#include "x_speed.h"

enum { MOST = 10, STEPS = 10, WIDE = 640, HIGH = 480, ROW = 250, LINE = 16, OWN_LAYERS = 4 };

typedef struct { const char *name, *folder; size_t patch, width, layers, heads, embed, mlp; } shape;
static const shape SHAPES[] = {{"B/32", "build/bench/ViT-B-32", 32, 768, 12, 12, 512, 3072},
                               {"B/16", "build/bench/ViT-B-16", 16, 768, 12, 12, 512, 3072},
                               {"L/14", "build/bench/ViT-L-14", 14, 1024, 24, 16, 768, 4096},
                               {"H/14", "build/bench/ViT-H-14", 14, 1280, 32, 16, 1024, 5120},
                               {"bigG/14", "build/bench/ViT-bigG-14", 14, 1664, 48, 16, 1280, 8192}};
enum { B16 = 1, SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };

static pool *one; /* core */
static double patience = 35;
static int sheet_row;
static picture sheet_picture;

static void stop(const char *what) {
    fprintf(stderr, "scaling: %s\n", what);
    exit(1);
}

/* ---- what the products cost (MODEL.md 4) ----------------------------------------------------------------------------- */
static double tokens(const shape *s, size_t side) { return 1 + (double)(side / s->patch) * (double)(side / s->patch); }

static double forward_flop(const shape *s, size_t side) {
    double n = tokens(s, side), D = (double)s->width, F = (double)s->mlp, p = (double)s->patch;
    return (double)s->layers * (8 * n * D * D + 4 * n * D * F + 4 * n * n * D) + 2 * n * D * 3 * p * p;
}

/* masks' steps over some layers: by the closed form, and by the Jacobian, its making with it */
static double factored_flop(const shape *s, size_t side, double steps, double layers) {
    double n = tokens(s, side), D = (double)s->width, F = (double)s->mlp;
    return steps * layers * (4 * n * F * D + 4 * n * n * D);
}
static double jacobian_flop(const shape *s, size_t side, double steps, double layers) {
    double n = tokens(s, side), D = (double)s->width, F = (double)s->mlp, E = (double)s->embed;
    return layers * (2 * n * E * F * D + steps * (4 * n * D * E + 4 * n * n * D));
}

static double weight_bytes(const shape *s) {
    double D = (double)s->width, p = (double)s->patch;
    return 2 * ((double)s->layers * (4 * D * D + 2 * D * (double)s->mlp) + 3 * p * p * D + D * (double)s->embed + 50 * D);
}

/* ---- inputs ------------------------------------------------------------------------------------------------------------- */
static void make_photo(void) {
    err e = {0};
    picture p;
    if (!picture_new(WIDE, HIGH, &p, &e)) stop(e.text);
    for (size_t i = 0; i < p.width * p.height * 3; i++)
        p.rgb[i] = (unsigned char)(128 + 100 * sin((double)(i % 1920) / 90) * cos((double)(i / 1920) / 40));
    if (!picture_write_png("build/bench/photo.png", &p, &e)) stop(e.text);
    picture_free(&p);
}

/* Of a deep model OWN_LAYERS blocks are seeded, and written as often as it has layers: its file is as large, its work the same. */
static void make_model(const shape *s) {
    err e = {0};
    seeded_model made;
    if (folder_exists(s->folder)) return;
    size_t layers = s->layers < 25 ? s->layers : OWN_LAYERS;
    clip_config c = seeded_config(224, s->patch, s->width, layers, s->heads, s->embed);
    c.vision.mlp = s->mlp;
    if (!seeded_make(&made, c, CLIP_F16, 7)) stop("no memory");
    clip_model whole = made.model;
    whole.config.vision.layers = s->layers;
    whole.blocks = mem_alloc(s->layers, sizeof *whole.blocks);
    for (size_t i = 0; whole.blocks && i < s->layers; i++) whole.blocks[i] = made.model.blocks[i % layers];
    if (!whole.blocks || !folder_make(s->folder, &e) || !checkpoint_write(s->folder, &whole, "F16", &e)) stop(e.text);
    mem_free(whole.blocks);
    seeded_free(&made);
}

/* ---- one run of ./maskinv ------------------------------------------------------------------------------------------------- */
enum { WORDS = 2100 };
typedef struct { char *word[WORDS], text[WORDS][64]; size_t count; } line;

static line *begin(const char *command, const shape *s) {
    static line l;
    const char *first[] = {"./maskinv", command, "-m", s->folder};
    l.count = 0;
    for (size_t i = 0; i < 4; i++) l.word[l.count++] = (char *)(uintptr_t)first[i];
    return &l;
}
static void word(line *l, const char *text) { l->word[l->count++] = (char *)(uintptr_t)text; }
static void number(line *l, const char *flag, size_t value) {
    word(l, flag);
    snprintf(l->text[l->count], sizeof l->text[0], "%zu", value);
    word(l, l->text[l->count]);
}

typedef struct { double seconds, bytes, rate; } sample;

static sample run(line *l) {
    struct rusage use;
    int status;
    double rate = sgemm_rate(one, 197, 768);
    l->word[l->count] = NULL;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("build/bench/scaling.log", "w", stderr)) _exit(127);
        execv(l->word[0], l->word);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &use) != child || status != 0) stop("./maskinv failed: build/bench/scaling.log");
    double seconds = (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + 1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
    return (sample){seconds, 1e3 * (double)use.ru_maxrss, (rate + sgemm_rate(one, 197, 768)) / 2};
}

/* ---- a curve ---------------------------------------------------------------------------------------------------------------- */
typedef struct { plot_point time[MOST], memory[MOST]; size_t count, seen; double rate; } curve;

/* flop: of the run's products; weights: bytes that it must read. */
static void point(curve *c, const char *name, double x, line *l, double flop, double weights) {
    const plot_point *last = c->count ? &c->time[c->count - 1] : NULL;
    double guess = last ? last->y / last->bound * flop / c->rate : 0;
    plot_point t = {x, guess, flop / (c->rate > 0 ? c->rate : 1), guess > patience};
    sample s = {0, 0, 0};
    if (!t.guessed) {
        s = run(l);
        c->rate = s.rate, t.y = s.seconds, t.bound = flop / s.rate;
        c->memory[c->seen++] = (plot_point){x, s.bytes / 1e6, weights / 1e6, false};
    }
    c->time[c->count++] = t;
    printf("| %s | %g | %s%.2f | %.2f | %.2f |", name, x, t.guessed ? "~" : "", t.y, t.bound, t.y / t.bound);
    if (s.bytes > 0) printf(" %.0f |\n", s.bytes / 1e6);
    else printf(" |\n");
    fflush(stdout);
}

static void draw(const char *over, const char *const *names, const curve *c, size_t count) {
    plot_series time[2], memory[2];
    for (size_t i = 0; i < count; i++) {
        time[i] = (plot_series){names[i], c[i].time, c[i].count};
        memory[i] = (plot_series){names[i], c[i].memory, c[i].seen};
    }
    long y = LINE + sheet_row++ * ROW;
    plot_draw(&sheet_picture, &(plot_frame){0, y, 480, ROW, "processor seconds", over}, time, count);
    plot_draw(&sheet_picture, &(plot_frame){490, y, 480, ROW, "MB resident", over}, memory, count);
}

/* ---- the curves ------------------------------------------------------------------------------------------------------------- */
static line *invert_line(const shape *s, size_t side, size_t masks, size_t steps, size_t layers, const char *gradient) {
    line *l = begin("invert", s);
    word(l, "-i"), word(l, "build/bench/photo.png"), word(l, "-o"), word(l, "build/bench/out");
    word(l, "--gradient"), word(l, gradient);
    number(l, "--size", side), number(l, "--iters", steps), number(l, "--layers", layers);
    for (size_t i = 0; i < masks; i++) {
        word(l, "--box");
        snprintf(l->text[l->count], sizeof l->text[0], "%zu,%zu,%zu,%zu", 100 * (i % 5), 60 * (i % 7) / 2, 200 + i / 35, 200 + i / 35);
        word(l, l->text[l->count]);
    }
    return l;
}

static void masks_curve(void) {
    static const size_t at[] = {1, 3, 10, 30, 100, 300, 1000};
    static const char *const names[] = {"factored", "auto"};
    static curve c[2];
    const shape *s = &SHAPES[B16];
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < 7; i++) {
            double steps = (double)(at[i] * STEPS), own = factored_flop(s, 224, steps, 1), other = jacobian_flop(s, 224, steps, 1);
            point(&c[k], k ? "masks, auto" : "masks, factored", (double)at[i], invert_line(s, 224, at[i], STEPS, 1, names[k]),
                  forward_flop(s, 224) + (k && other < own ? other : own), weight_bytes(s));
        }
    draw("masks of one picture, 224, ten steps", names, c, 2);
}

static void steps_curve(void) {
    static const size_t at[] = {1, 3, 10, 30, 100, 300};
    static const char *const names[] = {""};
    static curve c;
    for (size_t i = 0; i < 6; i++)
        point(&c, "steps", (double)at[i], invert_line(&SHAPES[B16], 224, 1, at[i], 1, "factored"),
              forward_flop(&SHAPES[B16], 224) + factored_flop(&SHAPES[B16], 224, (double)at[i], 1), weight_bytes(&SHAPES[B16]));
    draw("steps, one mask, 224", names, &c, 1);
}

static void sides_curve(void) {
    static const size_t at[] = {224, 320, 448, 640, 896};
    static const char *const names[] = {""};
    static curve c;
    for (size_t i = 0; i < 5; i++)
        point(&c, "side", (double)at[i], invert_line(&SHAPES[B16], at[i], 1, STEPS, 1, "factored"),
              forward_flop(&SHAPES[B16], at[i]) + factored_flop(&SHAPES[B16], at[i], STEPS, 1), weight_bytes(&SHAPES[B16]));
    draw("side in pixels, one mask, ten steps", names, &c, 1);
}

static void layers_curve(void) {
    static const size_t at[] = {1, 2, 4, 8, 12};
    static const char *const names[] = {""};
    static curve c;
    for (size_t i = 0; i < 5; i++)
        point(&c, "layers", (double)at[i], invert_line(&SHAPES[B16], 224, 1, STEPS, at[i], "factored"),
              forward_flop(&SHAPES[B16], 224) + factored_flop(&SHAPES[B16], 224, STEPS, (double)at[i]), weight_bytes(&SHAPES[B16]));
    draw("layers explained, one mask, 224, ten steps", names, &c, 1);
}

static void pictures_curve(void) {
    static const size_t at[] = {1, 3, 10, 30, 100, 300, 1000};
    static const char *const names[] = {""};
    static curve c;
    for (size_t i = 0; i < 7; i++) {
        err e = {0};
        out_file f;
        if (!out_open(&f, "build/bench/pictures.txt", &e)) stop(e.text);
        for (size_t k = 0; k < at[i]; k++) fputs("build/bench/photo.png\n", f.stream);
        if (!out_close(&f, &e)) stop(e.text);
        line *l = begin("embed", &SHAPES[B16]);
        word(l, "--list"), word(l, "build/bench/pictures.txt"), word(l, "-o"), word(l, "build/bench/pictures.npy");
        point(&c, "pictures", (double)at[i], l, (double)at[i] * (forward_flop(&SHAPES[B16], 224) - spared_flop(197, 768)), weight_bytes(&SHAPES[B16]));
    }
    draw("pictures embedded, 224", names, &c, 1);
}

static void models_curve(void) {
    static const char *const names[] = {""};
    static curve c;
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        char name[32];
        make_model(&SHAPES[i]);
        snprintf(name, sizeof name, "%s, GFLOP", SHAPES[i].name);
        double flop = forward_flop(&SHAPES[i], 224) + factored_flop(&SHAPES[i], 224, STEPS, 1);
        point(&c, name, round(flop / 1e9), invert_line(&SHAPES[i], 224, 1, STEPS, 1, "factored"), flop, weight_bytes(&SHAPES[i]));
    }
    draw("GFLOP of B/32, B/16, L/14, H/14, bigG/14: one mask, 224, ten steps", names, &c, 1);
}

int main(int argc, char **argv) {
    err e = {0};
    if (argc > 2) patience = strtod(argv[2], NULL);
    if (argc < 2 || !(patience > 0)) stop("usage: scaling PICTURE.png [seconds that one entry may take]");
    mem_hook_cjson();
    one = pool_start(1);
    if (!one || !folder_make("build/bench", &e)) stop(one ? e.text : "no threads");
    if (!picture_new(980, LINE + 6 * ROW, &sheet_picture, &e)) stop(e.text);
    picture_fill(&sheet_picture, 0, 0, sheet_picture.width, sheet_picture.height, (const unsigned char[]){255, 255, 255});
    make_photo();
    make_model(&SHAPES[B16]);
    printf("%s %s\n\n| what | at | processor seconds | its products at the sgemm rate | x | MB |\n|---|---|---|---|---|---|\n", gemm_backend(),
           gemm_core_name());
    masks_curve(), steps_curve(), sides_curve(), layers_curve(), pictures_curve(), models_curve();
    bool ok = picture_write_png(argv[1], &sheet_picture, &e);
    picture_free(&sheet_picture);
    pool_stop(one);
    if (!ok) stop(e.text);
    return 0;
}
