/* x_forward.c - see x_forward.h. */
#include "x_forward.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "x_speed.h"

enum { MOST_RUNS = 32 };

/* ---- the same model in float32 ------------------------------------------------------------------------------------------ */
static bool widen_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    (void)arg, (void)layer, (void)rows, (void)cols;
    if (clip_of_text(kind) || !w->data) return *w = (clip_weight){0}, true;
    real *x = mem_alloc(w->rows * w->cols, sizeof *x);
    if (!x) return w->data = NULL, false;
    clip_numbers(w, 0, w->rows * w->cols, x);
    w->data = x, w->type = CLIP_REAL;
    return true;
}

bool forward_widen(const clip_model *m, clip_model *wide) {
    *wide = *m;
    wide->config.text.layers = wide->config.decoder.layers = 0;
    wide->blocks = mem_alloc(m->config.vision.layers, sizeof *m->blocks);
    if (!wide->blocks || clip_has_pooler(&m->config) || clip_is_resnet(&m->config)) return false;
    memcpy(wide->blocks, m->blocks, m->config.vision.layers * sizeof *m->blocks);
    return clip_each_weight(wide, widen_weight, NULL);
}

static bool free_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    (void)arg, (void)kind, (void)layer, (void)rows, (void)cols;
    mem_free((void *)(uintptr_t)w->data);
    return true;
}

void forward_narrow(clip_model *wide) {
    if (wide->blocks) clip_each_weight(wide, free_weight, NULL);
    mem_free(wide->blocks);
    *wide = (clip_model){0};
}

/* ---- one pass ----------------------------------------------------------------------------------------------------------- */
typedef struct {
    const forward_job *job;
    ag_tape tape;
    arena memory;
    real *pixels, *z[FORWARD_WAYS]; /* [batch,3,side,side]; [batch,E] */
    peer other;
    double took[FORWARD_WAYS][MOST_RUNS];
} bout;

static ag_tensor *patches_of(bout *b, const clip_model *m) { /* [batch,g,3pp] */
    const forward_job *j = b->job;
    size_t each = 3 * j->side * j->side, g = j->side / j->m->config.patch, size = 3 * j->m->config.patch * j->m->config.patch;
    if (j->batch == 1) return clip_patches(&b->tape, m, b->pixels, j->side, j->side);
    ag_tensor *all = ag_new(&b->tape, j->batch, g * g, size);
    for (size_t i = 0; all && i < j->batch; i++) {
        ag_mark mark = ag_tape_mark(&b->tape);
        const ag_tensor *one = clip_patches(&b->tape, m, b->pixels + i * each, j->side, j->side);
        if (!one) return NULL;
        memcpy(all->data + i * g * g * size, one->data, g * g * size * sizeof(real));
        ag_tape_reset(&b->tape, mark);
    }
    return all;
}

static bool own_pass(bout *b, int way, double *seconds) {
    const forward_job *j = b->job;
    const clip_model *m = way >= FORWARD_BLAS_32 ? j->wide : j->m;
    bool own = way == FORWARD_OWN_16 || way == FORWARD_OWN_32;
    size_t g = j->side / j->m->config.patch;
    if (!m || !gemm_choose(own ? GEMM_OWN : GEMM_BLAS)) return false;
    ag_mark mark = ag_tape_mark(&b->tape);
    double start = work_seconds(j->cores);
    const ag_tensor *z = clip_image(&b->tape, m, patches_of(b, m), g, g);
    *seconds = work_seconds(j->cores) - start;
    if (z) memcpy(b->z[way], z->data, j->batch * m->config.embed * sizeof(real));
    ag_tape_reset(&b->tape, mark);
    (void)gemm_choose(GEMM_FASTER);
    return z != NULL;
}

static bool pass(bout *b, int way, double *seconds) {
    err ignored = {0};
    if (way != FORWARD_PEER) return own_pass(b, way, seconds);
    if (!b->other.z) return false;
    *seconds = peer_run(&b->other, &ignored);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL); /* its threads look out for more work for a while */
    return *seconds > 0;
}

/* ---- in turns ----------------------------------------------------------------------------------------------------------- */
static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double apart(const real *a, const real *b, size_t count) {
    double difference = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        length += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / length);
}

static void sum_up(bout *b, forward_times *t) {
    const forward_job *j = b->job;
    size_t first = FORWARD_BLAS_16, count = j->batch * j->m->config.embed, runs = (size_t)j->runs;
    if (!t->way[first].ran) first = FORWARD_OWN_16;
    for (size_t w = 0; w < FORWARD_WAYS; w++) {
        double ratio[MOST_RUNS];
        if (!t->way[w].ran) continue;
        for (size_t i = 0; i < runs; i++) t->way[w].best = i && t->way[w].best < b->took[w][i] ? t->way[w].best : b->took[w][i];
        for (size_t i = 0; i < runs; i++) ratio[i] = b->took[w][i] / b->took[FORWARD_PEER][i];
        qsort(ratio, runs, sizeof *ratio, by_size);
        t->way[w].times_peer = t->way[FORWARD_PEER].ran ? ratio[runs / 2] : 0;
        t->way[w].apart = apart(b->z[w], b->z[first], count);
    }
}

static void rounds(bout *b, forward_times *t) {
    double seconds;
    for (int w = 0; w < FORWARD_WAYS; w++) t->way[w].ran = pass(b, w, &seconds); /* files and memory are warm from here on */
    for (int i = 0; i < b->job->runs; i++) {
        t->peak = fmax(t->peak, fma_rate(b->job->cores));
        t->sgemm = fmax(t->sgemm, sgemm_rate(b->job->cores, b->job->rows, b->job->width));
        for (int w = 0; w < FORWARD_WAYS; w++) t->way[w].ran = t->way[w].ran && pass(b, w, &b->took[w][i]);
    }
}

static bool take_room(bout *b, void **memory, size_t room) {
    const forward_job *j = b->job;
    size_t pixels = j->batch * 3 * j->side * j->side;
    *memory = mem_reserve(room);
    b->pixels = mem_alloc(pixels, sizeof *b->pixels);
    for (size_t i = 0; i < FORWARD_WAYS; i++) b->z[i] = mem_alloc(j->batch * j->m->config.embed, sizeof *b->z[i]);
    for (size_t i = 0; b->pixels && i < pixels; i++) b->pixels[i] = (real)sin((double)i);
    return *memory && b->pixels && b->z[FORWARD_WAYS - 1];
}

bool forward_measure(const forward_job *job, forward_times *t, err *e) {
    static bout b; /* large */
    size_t room = (size_t)6 << 30;
    void *memory = NULL;
    err none = {0};
    b = (bout){.job = job};
    *t = (forward_times){.why = "not asked for"};
    bool ok = (job->runs <= MOST_RUNS && take_room(&b, &memory, room)) || err_set(e, "no memory for a forward pass");
    if (ok) {
        arena_init(&b.memory, memory, room);
        ag_tape_init(&b.tape, &b.memory, job->cores, 1);
        b.tape.recording = false;
        if (job->base && peer_open(&b.other, job->m, (const float *)b.pixels, job->batch, job->side, job->cores->width, job->base, &none))
            memcpy(b.z[FORWARD_PEER], b.other.z, job->batch * job->m->config.embed * sizeof(float));
        if (job->base) snprintf(t->why, sizeof t->why, "%.255s", none.text);
        snprintf(t->peer, sizeof t->peer, "%s", b.other.name);
        rounds(&b, t);
        ok = t->way[FORWARD_OWN_16].ran || err_set(e, "the forward pass failed");
        sum_up(&b, t);
        t->memory = b.memory.peak;
        peer_close(&b.other);
    }
    for (size_t i = 0; i < FORWARD_WAYS; i++) mem_free(b.z[i]);
    mem_free(b.pixels);
    if (memory) mem_release(memory, room);
    return ok;
}

const char *forward_name(const forward_times *t, int way) {
    static const char *const names[] = {"", "BLAS, 16-bit weights", "own product, 16-bit weights", "BLAS, float32 weights",
                                        "own product, float32 weights"};
    return way == FORWARD_PEER ? t->peer : names[way];
}
