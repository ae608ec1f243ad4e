/* gradients.c - make gradients: what each of LeGrad's five gradients costs, over masks and steps.
 *
 *     build/openblas/test/gradients [seconds [gradient...]]
 *
 * A seeded ViT-B/16, F16 weights, 224 and 448 pixels, one explained layer. For each gradient: opening (the forward pass
 * and what is precomputed), a step of one mask, the arena's peak (weights are mapped and not in it). Then the whole of
 * M masks and K steps, opening included: run where that takes fewer than `seconds` (8), else opening + M K steps,
 * marked with ~. jacobian takes its masks in groups, and its step is a group's, over its masks. The tables are Markdown; MODEL.md, section 4, has them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sys/err.h"
#include "maskinv.h"
#include "sys/threads.h"
#include "x_seeded.h"
#include "x_speed.h"

static const char *const NAMES[] = {"factored", "decomposed", "autograd", "jacobian", "compact"};
static const size_t MASKS[] = {1, 10, 100, 500}, STEPS[] = {10, 100}, SIDES[] = {224, 448};
enum { KINDS = 5, COUNTS = 4, TRIALS = 5, MASK_SIDE = 224, PATCH = 16, EMBED = 512 };

static pool *cores;
static double patience = 8; /* seconds that one entry of a table may take */

static void stop(const char *what) {
    fprintf(stderr, "gradients: %s\n", what);
    exit(1);
}

static void stop_at(const fault *f) {
    err e = {0};
    err_fault(&e, f);
    stop(e.text);
}

/* ---- one gradient of one picture ------------------------------------------------------------------ */
typedef struct {
    explained x;
    arena memory;
    void *room;
    size_t size, kind;
    real *pixels, *mask; /* [3,side,side]; [MASK_SIDE, MASK_SIDE] */
} subject;

static void subject_new(subject *s, size_t side) {
    s->size = (size_t)5 << 30;
    s->room = mem_reserve(s->size);
    s->pixels = mem_alloc(3 * side * side, sizeof *s->pixels);
    s->mask = mem_alloc(MASK_SIDE * MASK_SIDE, sizeof *s->mask);
    if (!s->room || !s->pixels || !s->mask) stop("no memory");
    arena_init(&s->memory, s->room, s->size);
    for (size_t i = 0; i < 3 * side * side; i++) s->pixels[i] = (real)sin((double)i);
}

static void subject_free(subject *s) {
    mem_free(s->pixels);
    mem_free(s->mask);
    mem_release(s->room, s->size);
}

static double open_once(subject *s, const clip_model *m, size_t side, size_t kind, fault *f) { /* seconds */
    explain_options o = {.layers = 1, .gradient = (gradient_kind)kind, .steps = STEPS[0]};
    double start = seconds_now();
    s->kind = kind;
    arena_reset(&s->memory, 0);
    explain_open(&s->x, m, s->pixels, side, side, &o, &s->memory, cores, f);
    return seconds_now() - start;
}

/* A disc, somewhere else for each mask. */
static void draw_mask(subject *s, size_t which) {
    double x0 = 40 + 37.0 * (double)(which % 5), y0 = 50 + 29.0 * (double)(which % 7);
    for (size_t i = 0; i < MASK_SIDE * MASK_SIDE; i++)
        s->mask[i] = hypot((double)(i % MASK_SIDE) - x0, (double)(i / MASK_SIDE) - y0) < 45;
}

/* A group of masks side by side, EXPLAIN_GROUP at most. */
static void invert_group(subject *s, size_t first, size_t count, const invert_options *o, double *last_loss) {
    static real e[EXPLAIN_GROUP][EMBED], losses[EXPLAIN_GROUP][100];
    invert_region r[EXPLAIN_GROUP];
    fault f = {0};
    size_t mark = arena_mark(&s->memory), cells = s->x.gh * s->x.gw;
    for (size_t i = 0; i < count; i++) {
        real *grids = arena_alloc(&s->memory, cells, 2 * sizeof *grids);
        if (!grids) stop("no memory");
        r[i] = (invert_region){.embedding = e[i], .losses = losses[i], .grid_before = grids, .grid_after = grids + cells};
        draw_mask(s, first + i);
        if (!target_make(&r[i].mask, &s->x, s->mask, MASK_SIDE, MASK_SIDE, &f)) stop_at(&f);
    }
    if (!maskinv_invert_group(&s->x, r, count, o, &f)) stop_at(&f);
    for (size_t i = 0; i < count; i++)
        if (r[i].fault.code) stop_at(&r[i].fault);
    *last_loss = (double)losses[count - 1][o->iters - 1];
    arena_reset(&s->memory, mark);
}

static void invert_one(subject *s, size_t which, const invert_options *o, double *last_loss) {
    static real e[EMBED], losses[100];
    invert_result r = {.embedding = e, .losses = losses};
    fault f = {0};
    draw_mask(s, which);
    if (!maskinv_invert(&s->x, s->mask, MASK_SIDE, MASK_SIDE, o, &r, &f)) stop_at(&f);
    *last_loss = (double)losses[o->iters - 1];
}

static double invert(subject *s, size_t masks, size_t steps, double *last_loss) { /* seconds */
    invert_options o = invert_defaults();
    double start = seconds_now();
    size_t at_once = s->kind == GRADIENT_JACOBIAN ? EXPLAIN_GROUP : 1;
    o.iters = steps;
    s->x.first_ready = false; /* every run pays for its own start */
    for (size_t i = 0; i < masks; i += at_once) {
        if (at_once > 1) invert_group(s, i, masks - i < at_once ? masks - i : at_once, &o, last_loss);
        else invert_one(s, i, &o, last_loss);
    }
    return seconds_now() - start;
}

/* ---- what it costs ---------------------------------------------------------------------------------- */
typedef struct {
    double opening, step, loss; /* seconds, seconds; the first loss */
    size_t peak, refused;       /* bytes; dz/dA's, where it does not fit */
    double total[COUNTS][2];    /* [MASKS][STEPS] seconds */
    bool run[COUNTS][2];
} cost;

/* Opening and step: the shortest of several, for a shared machine only ever adds; once memory has been touched. */
static bool measure(subject *s, const clip_model *m, size_t side, size_t kind, cost *c) {
    fault f = {0};
    double loss;
    c->opening = open_once(s, m, side, kind, &f);
    if (f.code == FAULT_MEMORY) return c->refused = f.n[0], false;
    for (size_t i = 1; i < TRIALS && c->opening * (double)TRIALS < patience; i++) /* a long one is measured once */
        c->opening = fmin(c->opening, open_once(s, m, side, kind, &f));
    if (f.code) stop_at(&f);
    invert(s, 1, 1, &c->loss);
    c->step = INFINITY;
    size_t group = kind == GRADIENT_JACOBIAN ? EXPLAIN_GROUP : 1;
    for (size_t i = 0; i < TRIALS; i++) c->step = fmin(c->step, invert(s, group, STEPS[0], &loss) / (double)(STEPS[0] * group));
    return true;
}

static void fill(subject *s, cost *c) {
    for (size_t i = 0; i < COUNTS; i++)
        for (size_t j = 0; j < 2; j++) {
            double loss, guess = (double)(MASKS[i] * STEPS[j]) * c->step;
            c->run[i][j] = guess <= patience;
            c->total[i][j] = c->opening + (c->run[i][j] ? invert(s, MASKS[i], STEPS[j], &loss) : guess);
        }
}

/* ---- the table --------------------------------------------------------------------------------------------- */
static void print_row(const char *name, const cost *c) {
    if (c->refused) {
        printf("| %s | refused: it keeps %.1f GB |", name, (double)c->refused / 1e9);
        for (size_t i = 0; i < 2 + COUNTS * 2; i++) printf(" |");
        printf("\n");
        return;
    }
    printf("| %s | %.2f s | %.1f ms | %.0f MB |", name, c->opening, 1e3 * c->step, (double)c->peak / 1e6);
    for (size_t i = 0; i < COUNTS; i++)
        for (size_t j = 0; j < 2; j++) printf(" %s%.*f |", c->run[i][j] ? "" : "~", c->total[i][j] < 10 ? 2 : 0, c->total[i][j]);
    printf("\n");
}

/* wanted: names of gradients, none: all of them. */
static bool is_wanted(const char *name, char **wanted) {
    for (size_t i = 0; wanted[i]; i++)
        if (!strcmp(wanted[i], name)) return true;
    return !wanted[0];
}

static void table(const clip_model *m, size_t side, char **wanted) {
    size_t n = 1 + (side / PATCH) * (side / PATCH);
    double rate = sgemm_rate(cores, n, m->config.vision.width), loss = NAN;
    printf("\nViT-B/16 at %zu (n = %zu), %zu cores, sgemm %.0f GFLOP/s before", side, n, cores->width, rate / 1e9);
    cost all[KINDS] = {0};
    for (size_t kind = 0; kind < KINDS; kind++) {
        if (!is_wanted(NAMES[kind], wanted)) continue;
        subject s;
        subject_new(&s, side);
        if (measure(&s, m, side, kind, &all[kind])) {
            fill(&s, &all[kind]);
            loss = isnan(loss) ? all[kind].loss : loss;
            if (!(fabs(all[kind].loss - loss) <= 1e-5)) stop("the gradients do not agree");
        }
        all[kind].peak = s.memory.peak;
        subject_free(&s);
    }
    printf(", %.0f after\n\n| gradient | opening | a step of a mask | memory |", sgemm_rate(cores, n, m->config.vision.width) / 1e9);
    for (size_t i = 0; i < COUNTS; i++)
        for (size_t j = 0; j < 2; j++) printf(" %zu x %zu |", MASKS[i], STEPS[j]);
    printf("\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (size_t kind = 0; kind < KINDS; kind++)
        if (is_wanted(NAMES[kind], wanted)) print_row(NAMES[kind], &all[kind]);
    fflush(stdout);
}

int main(int argc, char **argv) {
    seeded_model made;
    if (argc > 1) patience = strtod(argv[1], NULL);
    if (!(patience > 0)) stop("usage: gradients [seconds that one entry may take [gradient...]]");
    cores = pool_start(0);
    if (!cores) stop("no threads");
    if (!seeded_make(&made, seeded_config(224, PATCH, 768, 12, 12, EMBED), CLIP_F16, 7)) stop("no memory");
    printf("%s %s\nmasks x steps: seconds, opening included; ~ is opening + masks x steps x a step\n", gemm_backend(), gemm_core_name());
    for (size_t i = 0; i < sizeof SIDES / sizeof *SIDES; i++) table(&made.model, SIDES[i], argc > 2 ? argv + 2 : argv + argc);
    seeded_free(&made);
    pool_stop(cores);
    return 0;
}
