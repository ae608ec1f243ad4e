/* make_world.c - fits the question "a scene, or a photograph?" for regions/world_data.h:
 *
 *     cc -I. test/make_world.c build/openblas/libmaskinv.a -lopenblas -lcjson -lutf8proc -lz -lpthread -lm -o make_world
 *     ./make_world SCENES.txt PHOTOS.txt >world_data.h                   (lists of picture files, one a line)
 *
 * Logistic regression with a squared penalty, by gradient steps on standardised features; each kind weighs as much as the other. Every
 * fifth photograph (eight lines in a row are one photograph's variants) and every fifth scene is held out first, and what comes of them is told;
 * then all are fitted. Photographs were Debian's (opencv-doc, scikit-image, wallpapers), which are not shipped here.
 */
#include "models/checkpoint.h"
#include "regions/world.h"
#include "sys/threads.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { double f[WORLD_FEATURES]; double other, weight; size_t fold; } sample;
static sample *all;
static size_t count;

static void read_list(const char *list, double other, size_t variants, const clip_model *m, arena *memory, pool *cores) {
    char line[4096];
    size_t seen = 0;
    FILE *f = fopen(list, "r");
    err e = {0};
    while (f && fgets(line, sizeof line, f)) {
        picture p;
        line[strcspn(line, "\n")] = 0;
        all = realloc(all, (count + 1) * sizeof *all);
        all[count] = (sample){.other = other, .fold = seen++ / variants % 5};
        if (!picture_read(line, &p, &e) || !world_features(m, &p, memory, cores, all[count].f, &e)) {
            fprintf(stderr, "%s\n", e.text);
            exit(1);
        }
        picture_free(&p);
        count++;
    }
    if (f) fclose(f);
}

static double mean[WORLD_FEATURES], deviation[WORLD_FEATURES], w[WORLD_FEATURES + 1];

static void scale(size_t without) {
    double n = 0;
    memset(mean, 0, sizeof mean), memset(deviation, 0, sizeof deviation);
    for (size_t i = 0; i < count; i++)
        if (all[i].fold != without)
            for (size_t k = (n++, 0); k < WORLD_FEATURES; k++) mean[k] += all[i].f[k], deviation[k] += all[i].f[k] * all[i].f[k];
    for (size_t k = 0; k < WORLD_FEATURES; k++)
        mean[k] /= n, deviation[k] = sqrt(fmax(1e-8, deviation[k] / n - mean[k] * mean[k]));
}

static double score(const sample *s) {
    double v = w[WORLD_FEATURES];
    for (size_t k = 0; k < WORLD_FEATURES; k++) v += w[k] * (s->f[k] - mean[k]) / deviation[k];
    return v;
}

/* Adam on the whole set. */
static void fit(size_t without) {
    enum { STEPS = 1500 };
    const double penalty = 5;
    static double g[WORLD_FEATURES + 1], m1[WORLD_FEATURES + 1], m2[WORLD_FEATURES + 1];
    double n[2] = {0};
    memset(w, 0, sizeof w), memset(m1, 0, sizeof m1), memset(m2, 0, sizeof m2);
    scale(without);
    for (size_t i = 0; i < count; i++)
        if (all[i].fold != without) n[all[i].other > 0]++;
    for (size_t step = 1; step <= STEPS; step++) {
        for (size_t k = 0; k < WORLD_FEATURES; k++) g[k] = penalty * w[k];
        g[WORLD_FEATURES] = 0;
        for (size_t i = 0; i < count; i++) {
            if (all[i].fold == without) continue;
            double p = 1 / (1 + exp(-score(&all[i]))), d = (p - all[i].other) * (all[i].other > 0 ? n[0] / n[1] : 1);
            for (size_t k = 0; k < WORLD_FEATURES; k++) g[k] += d * (all[i].f[k] - mean[k]) / deviation[k];
            g[WORLD_FEATURES] += d;
        }
        for (size_t k = 0; k <= WORLD_FEATURES; k++) {
            m1[k] = 0.9 * m1[k] + 0.1 * g[k], m2[k] = 0.999 * m2[k] + 0.001 * g[k] * g[k];
            w[k] -= 0.01 * (step > 1000 ? 0.1 : 1) * (m1[k] / (1 - pow(0.9, (double)step))) /
                    (sqrt(m2[k] / (1 - pow(0.999, (double)step))) + 1e-8);
        }
    }
}

static int rises(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell(const char *what, size_t fold) {
    for (int kind = 0; kind < 2; kind++) {
        double *v = malloc(count * sizeof *v);
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            if ((fold == 9 || all[i].fold == fold) && (all[i].other > 0) == kind) v[n++] = score(&all[i]);
        qsort(v, n, sizeof *v, rises);
        fprintf(stderr, "%s, %s: %zu: least %.2f, 1%% %.2f, 10%% %.2f, half %.2f, 99%% %.2f, 99.9%% %.2f, most %.2f\n", what,
                kind ? "photographs" : "scenes", n, v[0], v[n / 100], v[n / 10], v[n / 2], v[n - 1 - n / 100], v[n - 1 - n / 1000], v[n - 1]);
        free(v);
    }
}

int main(int argc, char **argv) {
    err e = {0};
    if (argc != 3) return fprintf(stderr, "SCENES PHOTOS are needed\n"), 2;
    checkpoint *c = checkpoint_builtin(&e);
    pool *cores = pool_start(1);
    arena memory;
    size_t room = (size_t)1 << 28;
    arena_init(&memory, mem_reserve(room), room);
    read_list(argv[1], 0, 1, checkpoint_model(c), &memory, cores);
    read_list(argv[2], 1, 8, checkpoint_model(c), &memory, cores);
    fprintf(stderr, "%zu pictures\n", count);
    fit(0), tell("held out", 0);
    fit(9), tell("all", 9);
    printf("/* world_data.h - the numbers of world.c, by test/make_world.c. */\n");
    double bias = w[WORLD_FEATURES];
    for (size_t k = 0; k < WORLD_FEATURES; k++) bias -= w[k] * mean[k] / deviation[k];
    printf("static const float world_bias = %.7gf;\nstatic const float world_weight[WORLD_FEATURES] = {", bias);
    for (size_t k = 0; k < WORLD_FEATURES; k++) printf("%s%.5ef,", k % 8 ? " " : "\n    ", w[k] / deviation[k]);
    printf("\n};\n");
    for (size_t i = 0; argc > 2 && i < count; i++)
        if (getenv("WORLD_SCORES")) fprintf(stderr, "score %zu %d %.3f\n", i, all[i].other > 0, score(&all[i]));
    return 0;
}
