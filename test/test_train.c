/* test_train.c - the training step against PyTorch, and runs that are interrupted, killed, or fed nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "models/checkpoint.h"
#include "training/feed.h"
#include "sys/threads.h"
#include "training/trainer.h"
#include "training/feed.h"
#include "scenes/grammar.h"

/* ---- one step against PyTorch's float64 (test/make_train.py) ------------------------------------------- */

enum { PAIRS = 5, CAPTIONS = 15, LENGTH = 6, ROOM = 64 << 20 };

typedef struct {
    clip_config config;
    safetensors *file;
    real patches[PAIRS * 4 * 48], truth[PAIRS * CAPTIONS];
    uint32_t ids[CAPTIONS * LENGTH];
    contrastive_batch batch;
    void *room;
    arena memory;
    parameters params;
    real *weights, *gradient;
} step_case;

static const st_tensor *tensor(const step_case *c, const char *name) {
    const st_tensor *t = st_find(c->file, name);
    if (!t) fail_msg("test/data/train_step.safetensors: no %s", name);
    return t;
}

static void floats(const step_case *c, const char *name, real *out, size_t count) {
    err e = {{0}};
    if (!st_floats(tensor(c, name), out, count, &e)) fail_msg("%s", e.text);
}

/* Numbers listed one after another to the places of the flat block. */
static void place(const parameters *p, const real *packed, real *flat) {
    memset(flat, 0, p->numbers * sizeof *flat);
    for (size_t i = 0; i < p->count; i++)
        for (size_t k = 0; k < p->list[i].rows * p->list[i].cols; k++) flat[p->list[i].offset + k] = *packed++;
}

/* Captions, their number, and what they are true of: "" or "more.". */
static void captions_open(step_case *c, const char *which, size_t captions) {
    real some[CAPTIONS * LENGTH];
    char key[32];
    snprintf(key, sizeof key, "%sids", which);
    floats(c, key, some, captions * LENGTH);
    for (size_t i = 0; i < captions * LENGTH; i++) c->ids[i] = (uint32_t)some[i];
    snprintf(key, sizeof key, "%struth", which);
    floats(c, key, c->truth, PAIRS * captions);
    c->batch = (contrastive_batch){c->patches, c->ids, c->truth, PAIRS, captions, LENGTH};
}

static void step_open(step_case *c, clip_pool which) {
    err e = {{0}};
    fault why = {0};
    memset(c, 0, sizeof *c);
    c->config = (clip_config){.vision = {.width = 12, .layers = 2, .heads = 3, .mlp = 48, .eps = (real)1e-5},
                              .text = {.width = 8, .layers = 1, .heads = 2, .mlp = 32, .eps = (real)1e-5},
                              .image = 8,
                              .patch = 4,
                              .embed = 10,
                              .vocab = 20,
                              .context = 7,
                              .pool = which};
    c->file = st_open("test/data/train_step.safetensors", &e);
    if (!c->file) fail_msg("%s", e.text);
    floats(c, "patches", c->patches, sizeof c->patches / sizeof *c->patches);
    captions_open(c, "", PAIRS);
    c->room = mem_reserve(ROOM);
    arena_init(&c->memory, c->room, ROOM);
    assert_true(parameters_of(&c->config, &c->memory, &c->params, &why));
    c->weights = arena_alloc(&c->memory, c->params.numbers, sizeof(real));
    c->gradient = arena_alloc(&c->memory, c->params.numbers, sizeof(real));
    real *packed = arena_alloc(&c->memory, c->params.numbers, sizeof(real));
    floats(c, "weights", packed, tensor(c, "weights")->shape[0]);
    place(&c->params, packed, c->weights);
}

static void step_close(step_case *c) {
    st_free(c->file);
    mem_release(c->room, ROOM);
}

/* Loss and gradient with so many shares and so large chunks. */
static real step_run(step_case *c, size_t shares, size_t images, size_t texts) {
    pool *cores = pool_start(2);
    contrastive_plan plan = {shares, PAIRS, CAPTIONS, images, texts};
    contrastive_result out = {0};
    fault why = {0};
    size_t mark = arena_mark(&c->memory);
    contrastive *k = contrastive_new(&c->config, c->weights, cores, &plan, &c->memory, &why);
    err e = {{0}};
    if (!k || !contrastive_step(k, &c->batch, c->gradient, &out, &why)) fail_msg("%s", (err_fault(&e, &why), e.text));
    pool_stop(cores);
    arena_reset(&c->memory, mark);
    return out.loss;
}

/* The worst weight's largest error, as a share of that weight's largest gradient. */
static double gradient_error(const step_case *c, const real *want, const parameter **where) {
    double worst = 0;
    for (size_t i = 0; i < c->params.count; i++) {
        const parameter *p = &c->params.list[i];
        double error = 0, size = 0;
        for (size_t k = p->offset; k < p->offset + p->rows * p->cols; k++) {
            error = fmax(error, fabs((double)(c->gradient[k] - want[k])));
            size = fmax(size, fabs((double)want[k]));
        }
        /* the gradient of k's bias is 0 by rights (softmax does not see it): rounding alone */
        error /= fmax(size, 1e-2);
        if (error <= worst) continue;
        worst = error;
        *where = p;
    }
    return worst;
}

static void against_torch(clip_pool which, const char *name, size_t captions) {
    step_case c;
    char key[64];
    real loss;
    const parameter *at = NULL;
    step_open(&c, which);
    if (captions > PAIRS) captions_open(&c, "more.", captions);
    real *want = arena_alloc(&c.memory, c.params.numbers, sizeof *want);
    real *packed = arena_alloc(&c.memory, c.params.numbers, sizeof *packed);
    snprintf(key, sizeof key, "%s.gradient", name);
    floats(&c, key, packed, tensor(&c, key)->shape[0]);
    place(&c.params, packed, want);
    snprintf(key, sizeof key, "%s.loss", name);
    floats(&c, key, &loss, 1);
    for (size_t shares = 1; shares <= 2; shares++)
        for (size_t chunk = 1; chunk <= 5; chunk += 2) {
            real found = step_run(&c, shares, chunk, 6 - chunk);
            if (!(fabs((double)(found - loss)) <= 2e-6 * fabs((double)loss)))
                fail_msg("loss %.8g, expected %.8g", found, loss);
            double error = gradient_error(&c, want, &at);
            if (!(error <= 1e-4))
                fail_msg("%zu shares, chunks of %zu: kind %d of layer %zu is off by %g", shares, chunk, (int)at->kind,
                         at->layer, error);
        }
    /* every single weight counts: moved, the gradient is another one */
    c.weights[c.params.list[0].offset] += (real)0.05;
    step_run(&c, 1, 5, 5);
    if (gradient_error(&c, want, &at) <= 1e-4) fail_msg("a changed weight went unnoticed");
    step_close(&c);
}

static void test_torch_class(void **state) { (void)state, against_torch(CLIP_POOL_CLASS, "class", PAIRS); }
static void test_torch_mean(void **state) { (void)state, against_torch(CLIP_POOL_MEAN, "tokens_mean", PAIRS); }
static void test_torch_more(void **state) { (void)state, against_torch(CLIP_POOL_MEAN, "more", CAPTIONS); }

static void test_step_repeats(void **state) {
    (void)state;
    step_case c;
    step_open(&c, CLIP_POOL_CLASS);
    real *first = arena_alloc(&c.memory, c.params.numbers, sizeof *first);
    real loss = step_run(&c, 2, 2, 3);
    memcpy(first, c.gradient, c.params.numbers * sizeof *first);
    for (int i = 0; i < 5; i++) {
        assert_true(step_run(&c, 2, 2, 3) == loss);
        assert_memory_equal(first, c.gradient, c.params.numbers * sizeof *first);
    }
    step_close(&c);
}

static void test_step_faults(void **state) {
    (void)state;
    step_case c;
    fault why = {0};
    contrastive_plan plan = {1, PAIRS, PAIRS, 2, 2};
    contrastive_result out;
    step_open(&c, CLIP_POOL_CLASS);
    contrastive *k = contrastive_new(&c.config, c.weights, NULL, &plan, &c.memory, &why);
    assert_non_null(k);
    c.weights[c.params.list[0].offset] = (real)NAN;
    assert_false(contrastive_step(k, &c.batch, c.gradient, &out, &why));
    assert_int_equal(why.code, FAULT_NAN);
    /* and goes on when the weight is good again */
    c.weights[c.params.list[0].offset] = 0;
    assert_true(contrastive_step(k, &c.batch, c.gradient, &out, &why));
    size_t counts[][2] = {{PAIRS + 1, PAIRS + 1}, {PAIRS, PAIRS + 1}, {PAIRS, PAIRS - 1}, {0, PAIRS}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        c.batch.pictures = counts[i][0], c.batch.captions = counts[i][1];
        why.code = FAULT_NONE;
        assert_false(contrastive_step(k, &c.batch, c.gradient, &out, &why));
        assert_int_equal(why.code, FAULT_RANGE);
    }
    step_close(&c);
}

/* Whatever the room, too little of it is a fault. */
static void test_step_memory(void **state) {
    (void)state;
    step_case c;
    contrastive_plan plan = {2, PAIRS, PAIRS, 2, 2};
    contrastive_result out;
    size_t faults = 0, good = 0;
    step_open(&c, CLIP_POOL_MEAN);
    for (size_t size = 1 << 10; size < (size_t)32 << 20; size += size / 8) {
        unsigned char *piece = mem_alloc(size, 1);
        arena a;
        fault why = {0};
        arena_init(&a, piece, size);
        contrastive *k = contrastive_new(&c.config, c.weights, NULL, &plan, &a, &why);
        if (k && contrastive_step(k, &c.batch, c.gradient, &out, &why))
            good++;
        else
            faults += why.code == FAULT_MEMORY || why.code == FAULT_TAPE;
        if (faults == 0 || (good > 0 && why.code != FAULT_NONE)) fail_msg("%zu bytes: fault %d", size, (int)why.code);
        mem_free(piece);
    }
    assert_true(good > 0 && faults > 10);
    step_close(&c);
}

/* ---- the optimiser ---------------------------------------------------------------------------------------- */

/* AdamW on three numbers, written out in double. */
static void test_adamw(void **state) {
    (void)state;
    parameter list[2] = {{W_PROJ, 0, 2, 2, 0, 0}, {W_CLASS, 0, 1, 4, 16, 0}};
    parameters params = {list, 2, 32};
    optimiser o;
    err e = {{0}};
    assert_true(optimiser_new(&o, &params, NULL, &e));
    o.rates = (optimiser_rates){(real)0.9, (real)0.98, (real)1e-6, (real)0.1, 1, (real)0.5};
    double w[2] = {0.5, 0.5}, m = 0, v = 0, average = 0.5;
    real g[32] = {0};
    o.weights[1] = o.weights[17] = o.average[1] = (real)0.5;
    for (int t = 1; t <= 20; t++) {
        double raw = sin(t), norm = sqrt(2) * fabs(raw), cut = norm > 1 ? raw / norm : raw;
        g[1] = g[17] = (real)raw;
        assert_true(fabs(optimiser_norm(&o, g) - norm) < 1e-6);
        optimiser_step(&o, g, norm, 0.01);
        m = 0.9 * m + 0.1 * cut, v = 0.98 * v + 0.02 * cut * cut;
        double move = 0.01 * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.98, t))) + 1e-6);
        w[0] = w[0] * (1 - 0.01 * 0.1) - move; /* a matrix decays */
        w[1] -= move;                          /* a vector does not */
        double keep = fmin(0.5, (1.0 + t) / (10.0 + t));
        average += (1 - keep) * (w[0] - average);
        assert_true(fabs((double)o.weights[1] - w[0]) < 1e-5);
        assert_true(fabs((double)o.weights[17] - w[1]) < 1e-5);
        assert_true(fabs((double)o.average[1] - average) < 1e-5);
    }
    optimiser_free(&o);
}

/* The given patch projection: rows orthogonal, lowest frequencies first, rarer ones weighted more; no step changes it. */
static void test_cosine_patch(void **state) {
    (void)state;
    enum { ROWS = 128, SIDE = 8, COLS = 3 * SIDE * SIDE };
    parameter list[1] = {{W_PATCH, 0, ROWS, COLS, 0, 0}};
    parameters params = {list, 1, ROWS * COLS};
    clip_config config = {.vision = {.width = ROWS, .layers = 1}, .text = {.width = 8, .layers = 1}, .patch = SIDE};
    optimiser o;
    err e = {{0}};
    assert_true(optimiser_new(&o, &params, NULL, &e));
    o.rates = (optimiser_rates){(real)0.9, (real)0.98, (real)1e-6, (real)0.1, 1, (real)0.5};
    o.cosine_patch = true;
    optimiser_begin(&o, &config, 3);
    double length[ROWS], dot;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = i + 1; j-- > 0;) {
            dot = 0;
            for (size_t k = 0; k < COLS; k++) dot += (double)o.weights[i * COLS + k] * (double)o.weights[j * COLS + k];
            if (i == j) length[i] = sqrt(dot);
            else if (!(fabs(dot) < 1e-4 * length[i])) fail_msg("rows %zu and %zu: %g", i, j, dot);
        }
    for (size_t k = 1; k < COLS; k++) assert_true(fabs((double)(o.weights[k] - o.weights[0])) < 1e-7); /* mean grey */
    /* 0.6 over the deviations: grey 1.6 * 7, its lowest wave 1.6 * 3, the fourth 1.6 * 3/sqrt 2 */
    assert_true(fabs(length[0] - 0.6 / 11.2) < 1e-4 && fabs(length[1] - 0.6 / 4.8) < 1e-4);
    assert_true(fabs(length[3] - 0.6 * sqrt(2) / 4.8) < 1e-4);
    real before = o.weights[77], *g = test_malloc(params.numbers * sizeof *g);
    for (size_t i = 0; i < params.numbers; i++) g[i] = 1;
    optimiser_step(&o, g, optimiser_norm(&o, g), 0.01);
    assert_true(o.weights[77] == before && o.average[77] == before);
    o.cosine_patch = false;
    optimiser_step(&o, g, optimiser_norm(&o, g), 0.01);
    assert_true(o.weights[77] != before && o.average[77] != before);
    test_free(g);
    optimiser_free(&o);
}

static void test_schedule(void **state) {
    (void)state;
    assert_true(fabs(schedule_lr(2, 0.1, 0, 10, 0) - 0.2) < 1e-12);
    assert_true(fabs(schedule_lr(2, 0.1, 9, 10, 0) - 2) < 1e-12);
    assert_true(fabs(schedule_lr(2, 0.1, 50, 10, 0.5) - 1.1) < 1e-12);
    assert_true(fabs(schedule_lr(2, 0.1, 99, 10, 1) - 0.2) < 1e-12);
    assert_true(fabs(schedule_lr(2, 0.1, 200, 10, 7) - 0.2) < 1e-12);
}

/* ---- runs ---------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/test_train_XXXXXX";
static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}
static int remove_folder(void **state) {
    char text[128];
    (void)state;
    snprintf(text, sizeof text, "rm -rf '%s'", folder);
    return system(text);
}

static const char *path_of(const char *run, const char *name, char *room) {
    snprintf(room, 256, "%s/%s%s%s", folder, run, name ? "/" : "", name ? name : "");
    return room;
}

enum { TINY_STEPS = 8, TINY_BATCH = 12 };

static void tiny(setting *s) {
    static const struct {
        int which;
        double value;
    } own[] = {{S_WIDTH, 16},
               {S_LAYERS, 2},
               {S_HEADS, 2},
               {S_PATCH, 8},
               {S_IMAGE, 32},
               {S_EMBED, 16},
               {S_TEXT_WIDTH, 16},
               {S_TEXT_LAYERS, 1},
               {S_TEXT_HEADS, 2},
               {S_MERGES, 100},
               {S_PHOTOGRAPHIC, 0},
               {S_BATCH, TINY_BATCH},
               {S_CAPTIONS, 200},
               {S_IMAGES, TINY_STEPS * TINY_BATCH},
               {S_WARMUP, 3},
               {S_SHARES, 3},
               {S_CHUNK, 4},
               {S_TEXT_CHUNK, 4},
               {S_CHECKPOINT_EVERY, 2},
               {S_VALID_EVERY, 4},
               {S_VALID, 10}};
    memcpy(s, train_settings, S_COUNT * sizeof *s);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) s[own[i].which].value = own[i].value;
}

static bool train_tiny(const char *run, bool resume, double threads, double stop, err *e) {
    setting s[S_COUNT];
    char room[256];
    tiny(s);
    s[S_THREADS].value = threads;
    s[S_STOP].value = stop;
    return trainer_run(s, &(train_options){.folder = path_of(run, NULL, room), .resume = resume, .quiet = true}, e);
}

static char *bytes_of(const char *run, const char *name, size_t *length) {
    char room[256];
    err e = {{0}};
    char *bytes = file_read(path_of(run, name, room), (size_t)1 << 30, length, &e);
    if (!bytes) fail_msg("%s", e.text);
    return bytes;
}

static bool same_file(const char *a, const char *b, const char *name) {
    size_t la, lb;
    char *x = bytes_of(a, name, &la), *y = bytes_of(b, name, &lb);
    bool same = la == lb && memcmp(x, y, la) == 0;
    mem_free(x), mem_free(y);
    return same;
}

static void same_run(const char *a, const char *b) {
    static const char *const files[] = {"checkpoint.safetensors", "model/open_clip_model.safetensors",
                                        "model/open_clip_config.json", "model/merges.txt", "valid.csv"};
    for (size_t i = 0; i < 5; i++)
        if (!same_file(a, b, files[i])) fail_msg("%s and %s: %s differs", a, b, files[i]);
}

/* loss.csv holds each step once, in order. */
static void steps_in_order(const char *run, unsigned long count) {
    size_t length;
    char *text = bytes_of(run, "loss.csv", &length), *at = strchr(text, '\n') + 1;
    unsigned long step = 0;
    for (; *at; at = strchr(at, '\n') + 1) assert_int_equal(strtoul(at, NULL, 10), ++step);
    assert_int_equal(step, count);
    mem_free(text);
}

static void test_resume(void **state) {
    (void)state;
    err e = {{0}};
    if (!train_tiny("whole", false, 2, 0, &e)) fail_msg("%s", e.text);
    steps_in_order("whole", TINY_STEPS);
    if (!train_tiny("again", false, 2, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "again");
    assert_false(train_tiny("parts", false, 2, 3, &e));
    assert_non_null(strstr(e.text, "stopped after step 3"));
    assert_false(train_tiny("parts", true, 2, 5, &e));
    assert_non_null(strstr(e.text, "stopped after step 5"));
    if (!train_tiny("parts", true, 2, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "parts");
    steps_in_order("parts", TINY_STEPS);
}

/* --steps counts the run's own batches, which a run that goes on knows from its checkpoint. */
static void test_steps(void **state) {
    (void)state;
    err e = {{0}};
    setting s[S_COUNT];
    char room[256];
    static const int as_before[] = {S_CHECKPOINT_EVERY, S_VALID_EVERY, S_VALID};
    assert_false(train_tiny("steps", false, 2, 3, &e));
    tiny(s);
    double kept[3];
    for (size_t i = 0; i < 3; i++) kept[i] = s[as_before[i]].value;
    memcpy(s, train_settings, sizeof s);
    for (size_t i = 0; i < 3; i++) s[as_before[i]].value = kept[i];
    s[S_THREADS].value = 2;
    train_options o = {.folder = path_of("steps", NULL, room), .steps = TINY_STEPS, .resume = true, .quiet = true};
    if (!trainer_run(s, &o, &e)) fail_msg("%s", e.text);
    same_run("whole", "steps");
    steps_in_order("steps", TINY_STEPS);
}

/* Between the last checkpoint and the model the end may come; a model whose checkpoint is gone is not written over. */
static void test_result(void **state) {
    (void)state;
    err e = {{0}};
    char a[256], b[256];
    assert_int_equal(remove(path_of("steps", "model/open_clip_model.safetensors", a)), 0);
    if (!train_tiny("steps", true, 2, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "steps");
    assert_int_equal(rename(path_of("steps", "checkpoint.safetensors", a), path_of("steps", "kept", b)), 0);
    assert_int_equal(remove(path_of("steps", "checkpoint.safetensors.previous", a)), 0);
    assert_false(train_tiny("steps", false, 2, 0, &e));
    if (!strstr(e.text, "stands here already")) fail_msg("%s", e.text);
}

/* On one core, or on another number of them later: the same bytes. */
static void test_threads(void **state) {
    (void)state;
    err e = {{0}};
    if (!train_tiny("one", false, 1, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "one");
    assert_false(train_tiny("three", false, 1, 4, &e));
    if (!train_tiny("three", true, 3, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "three");
}

static size_t lines_of(const char *run) {
    char room[256];
    size_t lines = 0;
    FILE *f = fopen(path_of(run, "loss.csv", room), "r");
    for (int c; f && (c = getc(f)) != EOF;) lines += c == '\n';
    if (f) fclose(f);
    return lines;
}

/* Killed without warning wherever it happens to be, several times over. */
static void test_killed(void **state) {
    (void)state;
    err e = {{0}};
    for (size_t rows = 2; rows <= 6; rows += 2) {
        pid_t child = fork();
        if (child == 0) _exit(train_tiny("killed", rows > 2, 2, 0, &e) ? 0 : 1);
        for (int i = 0; i < 20000 && lines_of("killed") < rows + 1 && waitpid(child, NULL, WNOHANG) == 0; i++)
            usleep(1000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    if (!train_tiny("killed", true, 2, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "killed");
    steps_in_order("killed", TINY_STEPS);
}

/* Between the two renames of a checkpoint only the previous one is there. */
static void test_previous(void **state) {
    (void)state;
    err e = {{0}};
    char a[256];
    assert_false(train_tiny("previous", false, 2, 4, &e));
    assert_int_equal(remove(path_of("previous", "checkpoint.safetensors", a)), 0);
    if (!train_tiny("previous", true, 2, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "previous");
}

/* ---- bad input ------------------------------------------------------------------------------------------------ */

static bool train_with(const char *run, bool resume, int which, double value, err *e) {
    setting s[S_COUNT];
    char room[256];
    tiny(s);
    s[which].value = value;
    s[which].given = true;
    return trainer_run(s, &(train_options){.folder = path_of(run, NULL, room), .resume = resume, .quiet = true}, e);
}

static void refused(const char *run, bool resume, int which, double value, const char *word) {
    err e = {{0}};
    if (train_with(run, resume, which, value, &e)) fail_msg("%s %g was taken", train_settings[which].flag, value);
    if (!strstr(e.text, word)) fail_msg("\"%s\" does not say \"%s\"", e.text, word);
}

/* A misspelt folder is no run to go on with, and is not made. */
static void test_no_run(void **state) {
    (void)state;
    char room[256];
    refused("misspelt", true, S_LR, 1e-3, "misspelt: no checkpoint to go on from; without --resume a run begins there");
    assert_int_equal(access(path_of("misspelt", NULL, room), F_OK), -1);
}

static void test_other_shape(void **state) {
    (void)state;
    refused("whole", true, S_WIDTH, 32, "its width is 16, but --width 32");
    refused("whole", true, S_POOL, CLIP_POOL_CLASS, "its pool is 1");
    refused("whole", true, S_MERGES, 99, "its merges is 100");
    refused("whole", true, S_SEED, 5, "its seed is 1");
    refused("whole", false, S_LR, 1e-3, "--resume");
    refused("none", false, S_HEADS, 3, "--width 16 is no multiple of --heads 3");
    refused("none", false, S_IMAGE, 36, "--image 36 is no multiple of --patch 8");
}

/* A checkpoint that is cut short, or whose words are another's. */
static void test_broken_checkpoint(void **state) {
    (void)state;
    char a[256], text[600];
    err e = {{0}};
    snprintf(text, sizeof text, "cp -r %s/whole %s/broken", folder, folder);
    assert_int_equal(system(text), 0);
    assert_int_equal(truncate(path_of("broken", "checkpoint.safetensors", a), 5000), 0);
    assert_false(train_tiny("broken", true, 2, 0, &e));
    assert_non_null(strstr(e.text, "checkpoint.safetensors"));
    snprintf(text, sizeof text,
             "cp %s/whole/checkpoint.safetensors %s/broken && printf '#\\na n\\n' >%s/broken/model/merges.txt", folder,
             folder, folder);
    assert_int_equal(system(text), 0);
    assert_false(train_tiny("broken", true, 2, 0, &e));
    assert_non_null(strstr(e.text, "holds"));
}

static void test_nan(void **state) {
    (void)state;
    err e = {{0}};
    size_t before, after;
    assert_false(train_tiny("nan", false, 2, 3, &e));
    char *x = bytes_of("nan", "checkpoint.safetensors", &before);
    setting s[S_COUNT];
    char room[256];
    tiny(s);
    s[S_LR].value = 1e30, s[S_LR].given = true;
    s[S_CHECKPOINT_EVERY].value = 100;
    assert_false(
        trainer_run(s, &(train_options){.folder = path_of("nan", NULL, room), .resume = true, .quiet = true}, &e));
    if (!strstr(e.text, "step 5: the loss is not finite") || !strstr(e.text, "last checkpoint is of step 3"))
        fail_msg("\"%s\"", e.text);
    char *y = bytes_of("nan", "checkpoint.safetensors", &after);
    assert_true(before == after && memcmp(x, y, before) == 0);
    mem_free(x), mem_free(y);
    if (!train_with("nan", true, S_LR, train_settings[S_LR].value, &e)) fail_msg("%s", e.text);
    same_run("whole", "nan");

    /* before any checkpoint was due there is that of step 0, with the run's settings */
    assert_false(train_with("first", false, S_LR, 1e30, &e));
    if (!strstr(e.text, "the last checkpoint is of step 0")) fail_msg("\"%s\"", e.text);
    if (!train_with("first", true, S_LR, train_settings[S_LR].value, &e)) fail_msg("%s", e.text);
    same_run("whole", "first");
}

/* A disk that takes no more: a limit on the size of files does the same to a write. */
static void test_full_disk(void **state) {
    (void)state;
    err e = {{0}};
    assert_false(train_tiny("full", false, 2, 4, &e));
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){20000, 20000});
        bool good = train_tiny("full", true, 2, 0, &e);
        _exit(!good && strstr(e.text, "checkpoint") ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (!train_tiny("full", true, 2, 0, &e)) fail_msg("%s", e.text);
    same_run("whole", "full");
}

static void test_no_stamps(void **state) {
    (void)state;
    setting s[S_COUNT];
    char room[256];
    err e = {{0}};
    tiny(s);
    s[S_PHOTOGRAPHIC].value = 0.5;
    train_options o = {.folder = path_of("stamps", NULL, room), .stamps = "/nonexistent/stamps", .quiet = true};
    assert_false(trainer_run(s, &o, &e));
    assert_non_null(strstr(e.text, "tuxpaint-stamps-default"));
}

/* Begins with the weights of "whole", one step at a rate of 0: the model written is the model read. */
static bool train_from(const char *run, const char *from, int which, double value, err *e) {
    setting s[S_COUNT];
    char room[256], room2[256];
    tiny(s);
    s[S_IMAGES].value = TINY_BATCH, s[S_LR].value = 0, s[S_EMA].value = 0;
    if (which < S_COUNT) s[which].value = value;
    train_options o = {.folder = path_of(run, NULL, room), .from = path_of(from, "model", room2), .quiet = true};
    return trainer_run(s, &o, e);
}

static void test_from(void **state) {
    (void)state;
    err e = {{0}};
    char room[256];
    if (!train_from("from", "whole", S_COUNT, 0, &e)) fail_msg("%s", e.text);
    size_t la, lb;
    char *x = bytes_of("whole", "model/open_clip_model.safetensors", &la), *y = bytes_of("from", "model/open_clip_model.safetensors", &lb);
    assert_int_equal(la, lb);
    for (size_t i = 0; i < la; i++) /* but for a -0 that became 0 */
        if (x[i] != y[i] && (i == 0 || (x[i] ^ y[i]) != (char)0x80 || (x[i] & 0x7f) || x[i - 1])) fail_msg("byte %zu differs", i);
    mem_free(x), mem_free(y);
    assert_true(same_file("whole", "from", "model/merges.txt"));

    /* larger pictures: the positions are resized, nothing else changes */
    if (!train_from("larger", "whole", S_IMAGE, 48, &e)) fail_msg("%s", e.text);
    checkpoint *a = checkpoint_open(path_of("whole", "model", room), &e), *b = checkpoint_open(path_of("larger", "model", room), &e);
    if (!a || !b) fail_msg("%s", e.text);
    const clip_model *m = checkpoint_model(a), *n = checkpoint_model(b);
    assert_int_equal(n->position.rows, 37);
    assert_memory_equal(m->position.data, n->position.data, 16 * 2); /* the class token's, float16 */
    assert_memory_equal(m->token.data, n->token.data, m->token.rows * m->token.cols * 2);
    assert_memory_equal(m->proj.data, n->proj.data, m->proj.rows * m->proj.cols * 2);
    unsigned char *bytes = test_malloc((size_t)1 << 20);
    arena memory;
    ag_tape t;
    arena_init(&memory, bytes, (size_t)1 << 20);
    assert_true(ag_tape_init(&t, &memory, NULL, 64));
    t.recording = false;
    ag_tensor *wide = clip_position(&t, m, 6, 6, POSITION_BICUBIC), *own = clip_use(&t, &n->position);
    for (size_t i = 0; i < 37 * 16; i++) assert_true(fabs((double)(wide->data[i] - own->data[i])) < 1e-3);
    test_free(bytes);
    checkpoint_free(a), checkpoint_free(b);

    /* a projection that was learned is taken, and stays */
    if (!train_with("learned", false, S_COSINE_PATCH, 0, &e)) fail_msg("%s", e.text);
    if (!train_from("kept", "learned", S_COUNT, 0, &e)) fail_msg("%s", e.text);
    checkpoint *c = checkpoint_open(path_of("learned", "model", room), &e), *d = checkpoint_open(path_of("kept", "model", room), &e);
    a = checkpoint_open(path_of("whole", "model", room), &e);
    if (!a || !c || !d) fail_msg("%s", e.text);
    assert_memory_equal(checkpoint_model(c)->patch.data, checkpoint_model(d)->patch.data, 16 * 3 * 64 * 2);
    assert_memory_not_equal(checkpoint_model(a)->patch.data, checkpoint_model(d)->patch.data, 16 * 3 * 64 * 2);
    checkpoint_free(a), checkpoint_free(c), checkpoint_free(d);

    /* bad input: another shape, another number of words, no folder, no weights, words asked for anew */
    assert_false(train_from("wider", "whole", S_WIDTH, 32, &e));
    if (!strstr(e.text, "width is 16") || !strstr(e.text, "--width 32")) fail_msg("%s", e.text);
    assert_false(train_from("longer", "whole", S_CONTEXT, 30, &e));
    if (!strstr(e.text, "--context 30")) fail_msg("%s", e.text);
    assert_false(train_from("pooled", "whole", S_POOL, CLIP_POOL_CLASS, &e));
    if (!strstr(e.text, "pools by tokens_mean, but --pool class")) fail_msg("%s", e.text);
    assert_false(train_from("nowhere", "no-such-run", S_COUNT, 0, &e));
    if (!strstr(e.text, "no-such-run")) fail_msg("%s", e.text);
    char path[256];
    assert_int_equal(mkdir(path_of("words", NULL, room), 0777), 0);
    assert_int_equal(mkdir(path_of("words", "model", room), 0777), 0);
    size_t length;
    char *merges = bytes_of("whole", "model/merges.txt", &length);
    FILE *f = fopen(path_of("words", "model/merges.txt", path), "wb");
    assert_true(f && fwrite(merges, 1, length, f) == length && fclose(f) == 0);
    mem_free(merges);
    assert_false(train_from("weightless", "words", S_COUNT, 0, &e));
    if (!strstr(e.text, "--from") || !strstr(e.text, "words/model")) fail_msg("%s", e.text);
}

/* What feed_batch calls true: a scene's own caption, the same words, and what grammar_true grants. */
static void test_truth(void **state) {
    (void)state;
    enum { MANY = 96 };
    setting s[S_COUNT];
    char room[256];
    err e = {{0}};
    contrastive_batch b;
    tiny(s);
    feed_plan plan = {.config = {.image = 32, .patch = 8, .context = 24, .mean = {0, 0, 0}, .std = {1, 1, 1}}, .pairs = MANY,
                      .seed = 1, .least = 1, .most = 3, .single = {0.5, 0.5, 0}};
    pool *cores = pool_start(1);
    feed *f = feed_open(&plan, cores, &e);
    if (!f || !feed_tokens(f, path_of("whole", "model/merges.txt", room), &e) || !feed_batch(f, 0, 0, &b, &e)) fail_msg("%s", e.text);
    scene_source *source = scene_source_open(SCENE_DRAWN, NULL, &e);
    scene sc[MANY];
    size_t one_way = 0;
    for (uint64_t i = 0; i < MANY; i++) {
        /* the feed's choice of one or several objects shows in the caption alone, so both are made */
        size_t most = mix_unit(mix64(1, 1), 2 * i + 1) < 0.5 ? 1 : 3;
        assert_true(scene_make(source, mix64(1, 2), i, 32, most == 1 ? 1 : 2, most, &sc[i], &e));
    }
    for (size_t i = 0; i < MANY; i++)
        for (size_t j = 0; j < MANY; j++) {
            bool so = i == j || strcmp(sc[i].caption, sc[j].caption) == 0 ||
                      grammar_true(&sc[j].claim, sc[j].object, sc[i].object, sc[i].count);
            if ((b.truth[i * MANY + j] == 1) != so) fail_msg("\"%s\" of \"%s\": %d", sc[j].caption, sc[i].caption, so);
            one_way += b.truth[i * MANY + j] != b.truth[j * MANY + i];
        }
    assert_true(one_way > 10);
    for (size_t i = 0; i < MANY; i++) scene_free(&sc[i]);
    scene_source_free(source), feed_free(f), pool_stop(cores);
}

/* Further captions: each speaks of one object, all objects get theirs, and they are true of whatever has one like it. */
static void test_more_captions(void **state) {
    (void)state;
    enum { MANY = 48, MORE = 3, ALL = MANY * (1 + MORE) };
    char room[256];
    err e = {{0}};
    contrastive_batch b, plain;
    feed_plan plan = {.config = {.image = 32, .patch = 8, .context = 24, .std = {1, 1, 1}}, .pairs = MANY, .more = MORE,
                      .seed = 1, .least = 3, .most = 3};
    pool *cores = pool_start(2);
    feed *f = feed_open(&plan, cores, &e);
    plan.more = 0;
    feed *g = feed_open(&plan, cores, &e);
    path_of("whole", "model/merges.txt", room);
    if (!f || !g || !feed_tokens(f, room, &e) || !feed_tokens(g, room, &e)) fail_msg("%s", e.text);
    if (!feed_batch(f, 0, 0, &b, &e) || !feed_batch(g, 0, 0, &plain, &e)) fail_msg("%s", e.text);
    assert_int_equal(b.captions, ALL);
    assert_int_equal(plain.captions, MANY);
    tokenizer *words = tokenizer_open(room, 0, &e);
    scene_source *source = scene_source_open(SCENE_DRAWN, NULL, &e);
    size_t others = 0, wrong = 0;
    for (size_t i = 0; i < MANY; i++) {
        scene sc;
        assert_true(scene_make(source, mix64(1, 2), i, 32, 3, 3, &sc, &e));
        unsigned named = 0;
        for (size_t k = 0; k < 1 + MORE; k++) assert_true(b.truth[i * ALL + k * MANY + i] == 1);
        rng r = rng_start(mix64(1, 3), i);
        size_t first = rng_below(&r, 3);
        for (size_t k = 0; k < MORE; k++) {
            char text[256];
            uint32_t ids[24] = {0};
            size_t n, o = (first + k) % 3;
            scene_claim claim;
            grammar_one(&sc, o, &r, text, sizeof text, &claim);
            /* its name ends the sentence, no other object is in it, and the feed says the same */
            const char *name = strstr(text, sc.object[o].name);
            if (!name || strlen(name) != strlen(sc.object[o].name) || strstr(text, " and ") || claim.count != 1)
                fail_msg("\"%s\" of \"%s\"", text, sc.object[o].name);
            named |= 1u << claim.of[0].object;
            assert_true(tokenizer_encode(words, text, ids, 24, &n, &e));
            assert_memory_equal(ids, b.ids + ((k + 1) * MANY + i) * b.length, b.length * sizeof *ids);
        }
        assert_int_equal(named, 7);
        for (size_t j = 0; j < MANY; j++) assert_true(b.truth[i * ALL + j] == plain.truth[i * MANY + j]);
        for (size_t j = MANY; j < ALL; j++) others += b.truth[i * ALL + j] == 1 && j % MANY != i, wrong += b.truth[i * ALL + j] == 0;
        scene_free(&sc);
    }
    assert_true(others > MANY && wrong > others);
    scene_source_free(source), tokenizer_free(words), feed_free(f), feed_free(g), pool_stop(cores);
}

/* ---- it learns ----------------------------------------------------------------------------------------------------
 */

static void test_overfit(void **state) {
    (void)state;
    setting s[S_COUNT];
    err e = {{0}};
    tiny(s);
    s[S_WIDTH].value = 32, s[S_LR].value = 3e-3, s[S_EMA].value = 0, s[S_MOST].value = 2;
    if (!trainer_overfit(s, &(train_options){.quiet = true}, 60, &e)) fail_msg("%s", e.text);
    s[S_LR].value = 0; /* and without learning it does not */
    assert_false(trainer_overfit(s, &(train_options){.quiet = true}, 0.5, &e));
    assert_non_null(strstr(e.text, "expected 1"));
}

/* A written model is the average's bytes, rounded to float16: it names as the run did. */
static void test_written_model(void **state) {
    (void)state;
    char room[256];
    err e = {{0}};
    checkpoint *c = checkpoint_open(path_of("whole", "model", room), &e);
    if (!c) fail_msg("%s", e.text);
    assert_true(checkpoint_check_finite(c, &e));
    const clip_model *m = checkpoint_model(c);
    assert_int_equal(m->config.vision.width, 16);
    assert_int_equal(m->config.vision.heads, 2);
    assert_int_equal(m->config.act_vision, ACT_QUICK_GELU);
    const tokenizer *words = checkpoint_tokenizer(c, &e);
    if (!words) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(words), m->config.vocab);
    checkpoint_free(c);
}

int main(void) {
    mem_hook_cjson();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch_class),   cmocka_unit_test(test_torch_mean), cmocka_unit_test(test_torch_more),
        cmocka_unit_test(test_step_repeats),  cmocka_unit_test(test_step_faults),
        cmocka_unit_test(test_step_memory),
        cmocka_unit_test(test_cosine_patch),
        cmocka_unit_test(test_adamw),         cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_resume), cmocka_unit_test(test_steps), cmocka_unit_test(test_result),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_killed),        cmocka_unit_test(test_previous),
        cmocka_unit_test(test_no_run),
        cmocka_unit_test(test_other_shape),   cmocka_unit_test(test_broken_checkpoint),
        cmocka_unit_test(test_from),           cmocka_unit_test(test_truth),           cmocka_unit_test(test_more_captions),
        cmocka_unit_test(test_nan),           cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_no_stamps),     cmocka_unit_test(test_overfit),
        cmocka_unit_test(test_written_model),
    };
    return cmocka_run_group_tests_name("train", tests, make_folder, remove_folder);
}
