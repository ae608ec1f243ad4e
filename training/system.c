/* system.c - a system's run from its settings to a part's file (see system.h). */
#include "training/system.h"
#include "models/texts.h"
#include "files/files.h"
#include "models/identity.h"
#include "sys/random.h"
#include "sys/threads.h"
#include <math.h>
#include <string.h>

enum { NODES = 1 << 15 };
static const size_t SHARE_ROOM = (size_t)2 << 30; /* address space; pages come when they are touched */

typedef struct {
    arena memory;
    void *room;
    ag_tape tape;
    void *net;
    part_list list;
    real *gradient; /* [numbers] */
    ag_mark clear;
    system_share out;
    fault why;
} share;

typedef struct {
    const training_system *system;
    system_job job;
    parameters params;
    optimiser best;
    real *gradient;
    share *shares;
    size_t count;
    real *first, *given; /* [numbers] where the system keeps some of the first weights: those, and what is given */
    share average;       /* a net on the averaged weights, or on `given`: what is asked and written */
    loop loop;
    char out[LOOP_PATH];
} run;

static size_t count_of(const run *r, int which) { return (size_t)r->job.s[which].value; }

/* ---- weights as one flat block --------------------------------------------------------------------------- */
static bool params_make(run *r, err *e) {
    part_list l = {0};
    void *net = mem_alloc(1, r->system->net_size);
    if (!net) return err_set(e, "no memory for a network");
    r->system->weights(&r->job, net, &l);
    bool good = part_listed(&l, e);
    parameter *list = good ? mem_alloc(l.count, sizeof *list) : NULL;
    if (good && !list) good = err_set(e, "no memory for %zu weights", l.count);
    r->params = (parameters){list, l.count, 0};
    for (size_t i = 0; good && i < l.count; i++) {
        list[i] = (parameter){W_KINDS, 0, l.list[i].rows, l.list[i].cols, r->params.numbers, (real)l.list[i].rate};
        r->params.numbers += parameter_place(l.list[i].rows, l.list[i].cols);
    }
    part_list_free(&l);
    mem_free(net);
    return good;
}

/* Number [row, col] of a model's weight, however it is stored. */
static real number_of(const clip_weight *w, size_t row, size_t col) {
    return clip_number(w, w->transposed ? col * w->rows + row : row * w->cols + col);
}

/* Seeded first weights, as the list says, or the model's. */
static void params_begin(run *r) {
    for (size_t i = 0; i < r->params.count; i++) {
        const part_weight *p = &r->average.list.list[i];
        real *w = r->best.weights + r->params.list[i].offset;
        uint64_t key = mix64((uint64_t)r->job.s[T_SEED].value, i);
        for (size_t k = 0; k < p->rows * p->cols; k++) {
            size_t row = k / p->cols, col = k % p->cols;
            if (p->from && clip_there(p->from)) w[k] = number_of(p->from, row, col);
            else if (p->identity) w[k] = row == col;
            else w[k] = (real)(p->deviation > 0 ? p->deviation * mix_normal(key, k) : p->fill);
        }
    }
    memcpy(r->best.average, r->best.weights, r->params.numbers * sizeof(real));
}

/* A network over `weights`: leaves where `train`, else constants. */
static bool share_open(run *r, share *w, real *weights, bool train, err *e) {
    w->room = mem_reserve(SHARE_ROOM);
    w->net = mem_alloc(1, r->system->net_size);
    if (!w->room || !w->net) return err_set(e, "no memory for a share of the batch");
    arena_init(&w->memory, w->room, SHARE_ROOM);
    r->system->weights(&r->job, w->net, &w->list);
    if (!part_listed(&w->list, e) || !ag_tape_init(&w->tape, &w->memory, NULL, NODES)) return false;
    if (train) w->gradient = arena_alloc(&w->memory, r->params.numbers, sizeof *w->gradient);
    for (size_t i = 0; i < w->list.count; i++) {
        part_weight *p = &w->list.list[i];
        size_t at = r->params.list[i].offset;
        *p->at = train ? ag_leaf(&w->tape, weights + at, w->gradient + at, 1, p->rows, p->cols)
                       : ag_constant(&w->tape, weights + at, 1, p->rows, p->cols);
    }
    w->clear = ag_tape_mark(&w->tape);
    return w->tape.fault.code ? err_fault(e, &w->tape.fault) : true;
}

static void share_close(share *w) {
    if (w->room) mem_release(w->room, SHARE_ROOM);
    part_list_free(&w->list);
    mem_free(w->net);
}

bool system_texts(const system_job *j, const char *const *texts, size_t count, const char *template, real *out, err *e) {
    void *room = mem_reserve(TEXT_ROOM);
    arena memory;
    if (!room) return err_set(e, "no memory for %zu texts", count);
    arena_init(&memory, room, TEXT_ROOM);
    bool good = texts_embed(j->weights, texts, count, &template, template ? 1 : 0, &memory, NULL, out, e);
    mem_release(room, TEXT_ROOM);
    return good;
}

void system_pick(const system_job *j, uint64_t key, uint64_t step, size_t count, uint32_t *pick) {
    rng r = rng_start(mix64((uint64_t)j->s[T_SEED].value, key), step);
    for (size_t b = 0; b < (size_t)j->s[T_BATCH].value; b++) pick[b] = (uint32_t)rng_below(&r, count);
}

/* ---- a step ------------------------------------------------------------------------------------------------ */
static void share_task(void *arg, size_t i) {
    run *r = arg;
    share *w = &r->shares[i];
    size_t n = count_of(r, T_BATCH);
    w->out = (system_share){0}, w->why = (fault){0};
    ag_tape_reset(&w->tape, w->clear);
    memset(w->gradient, 0, r->params.numbers * sizeof *w->gradient);
    ag_tensor *loss = r->system->loss(&r->job, w->net, &w->tape, n * i / r->count, n * (i + 1) / r->count, &w->out);
    if (loss) w->out.loss = (double)ag_item(loss);
    if (!loss || !ag_grad(&w->tape, loss, NULL, NULL, 0, 0)) w->why = w->tape.fault;
    w->tape.fault.code = FAULT_NONE;
}

/* One weight's gradient: the shares', always summed in the same order. */
static void sum_task(void *arg, size_t index) {
    run *r = arg;
    const parameter *p = &r->params.list[index];
    real *sum = r->gradient + p->offset;
    memcpy(sum, r->shares[0].gradient + p->offset, p->rows * p->cols * sizeof *sum);
    for (size_t i = 1; i < r->count; i++) k_axpy(1, r->shares[i].gradient + p->offset, sum, p->rows * p->cols);
}

static bool run_step(void *arg, uint64_t n, double progress, real *gradient, log_line *line, err *e) {
    run *r = arg;
    (void)progress;
    if (!r->system->batch(&r->job, n, e)) return false;
    r->gradient = gradient;
    spread(r->job.cores, r->count, share_task, r);
    line->loss = line->accuracy = 0;
    for (size_t i = 0; i < r->count; i++) {
        if (r->shares[i].why.code && r->shares[i].why.code != FAULT_NAN) return err_fault(e, &r->shares[i].why);
        line->loss += r->shares[i].why.code ? (double)NAN : r->shares[i].out.loss;
        line->accuracy += r->shares[i].out.right;
    }
    spread(r->job.cores, r->params.count, sum_task, r);
    return true;
}

/* given = (1 - k) average + k first (14.3) */
static void blend(run *r) {
    real k = r->system->keep ? (real)r->job.s[r->system->keep].value : 0;
    for (size_t i = 0; r->given && i < r->params.numbers; i++) r->given[i] = (1 - k) * r->best.average[i] + k * r->first[i];
}

/* ---- what else the loop asks --------------------------------------------------------------------------------- */
static bool run_valid(void *arg, log_line *line, err *e) {
    run *r = arg;
    valid_line v = {line->step, line->images, NAN, NAN};
    if (!r->system->valid || count_of(r, T_VALID) == 0) return true;
    blend(r);
    r->average.tape.recording = false;
    ag_tape_reset(&r->average.tape, r->average.clear);
    if (!r->system->valid(&r->job, r->average.net, &r->average.memory, &v.drawn, e)) return false;
    if (!r->job.options->quiet)
        printf("%sstep %.0f: held-out scenes right: %.3f\n", r->loop.log.terminal ? "\r\033[K" : "", line->step, v.drawn);
    return log_valid(&r->loop.log, &v, e);
}

static bool run_write(void *arg, err *e) {
    run *r = arg;
    blend(r);
    if (r->system->write) return r->system->write(&r->job, r->average.net, &r->average.list, r->out, e);
    return part_write(&r->average.list, r->out, "F32", NULL, 0, e);
}

/* ---- a run ----------------------------------------------------------------------------------------------------- */
static bool run_open(run *r, const char *from, err *e) {
    system_job *j = &r->job;
    const setting *s = j->s;
    if (s[T_BATCH].value < s[T_SHARES].value)
        return err_set(e, "--batch %g: fewer samples than --shares %g", s[T_BATCH].value, s[T_SHARES].value);
    if (!(j->cores = pool_start(count_of(r, T_THREADS)))) return err_set(e, "--threads %g: threads cannot be had", s[T_THREADS].value);
    if (!(j->weights = j->options->model ? checkpoint_open(j->options->model, e) : checkpoint_builtin(e))) return false;
    if (!checkpoint_check_finite(j->weights, e)) return err_prefix(e, "--model");
    j->model = checkpoint_model(j->weights);
    if (j->model->config.alpha) return err_set(e, "--model: AlphaCLIP sees a region's plane beside the pixels, a CLIP of pixels alone is expected");
    double beside = (double)(model_hash(j->model) >> 11);
    if (from && !beside_check(from, beside, e)) return false;
    if (!(j->own = mem_alloc(1, r->system->data_size))) return err_set(e, "no memory for a run");
    if (!r->system->open(j, e) || !params_make(r, e) || !optimiser_new(&r->best, &r->params, j->cores, e)) return false;
    r->best.beside = beside;
    r->best.rates = (optimiser_rates){(real)0.9, (real)0.98, (real)1e-6, (real)s[T_DECAY].value, (real)s[T_CLIP].value, (real)s[T_EMA].value};
    r->count = count_of(r, T_SHARES);
    r->gradient = mem_alloc(r->params.numbers, sizeof *r->gradient);
    r->shares = mem_alloc(r->count, sizeof *r->shares);
    if (!r->gradient || !r->shares) return err_set(e, "no memory for %zu weights", r->params.numbers);
    for (size_t i = 0; i < r->count; i++)
        if (!share_open(r, &r->shares[i], r->best.weights, true, e)) return false;
    if (r->system->keep) {
        r->first = mem_alloc(r->params.numbers, sizeof *r->first), r->given = mem_alloc(r->params.numbers, sizeof *r->given);
        if (!r->first || !r->given) return err_set(e, "no memory for %zu weights", r->params.numbers);
    }
    return share_open(r, &r->average, r->given ? r->given : r->best.average, false, e);
}

static void run_close(run *r) {
    loop_end(&r->loop);
    for (size_t i = 0; r->shares && i < r->count; i++) share_close(&r->shares[i]);
    share_close(&r->average);
    if (r->best.params) optimiser_free(&r->best);
    if (r->job.own) r->system->close(&r->job);
    mem_free(r->shares), mem_free(r->gradient), mem_free(r->first), mem_free(r->given), mem_free(r->params.list), mem_free(r->job.own);
    checkpoint_free(r->job.weights);
    if (r->job.cores) pool_stop(r->job.cores);
}

static void run_hooks(run *r) {
    const setting *s = r->job.s;
    loop *l = &r->loop;
    l->plan = (loop_plan){.lr = s[T_LR].value, .lr_end = s[T_LR_END].value, .warmup = s[T_WARMUP].value,
                          .batch = s[T_BATCH].value, .checkpoint_every = count_of(r, T_CHECKPOINT_EVERY),
                          .valid_every = count_of(r, T_VALID_EVERY), .stop_after = count_of(r, T_STOP)};
    l->best = &r->best, l->gradient = r->gradient, l->settings = s, l->setting_count = r->system->settings;
    l->quiet = r->job.options->quiet, l->system = r;
    l->step = run_step, l->valid = run_valid, l->write = run_write;
}

static bool run_begin(run *r, const char *from, err *e) {
    params_begin(r);
    if (r->first) memcpy(r->first, r->best.weights, r->params.numbers * sizeof *r->first);
    if (from && !optimiser_load(&r->best, from, e)) return false;
    r->best.pictures = r->job.s[T_STEPS].value * r->job.s[T_BATCH].value;
    if (!r->job.options->quiet)
        printf("%s: %zu numbers in %zu weights, %zu threads; step %llu of %g\n", r->system->name, part_numbers(&r->average.list),
               r->params.count, r->job.cores->width, (unsigned long long)r->best.step, r->job.s[T_STEPS].value);
    return loop_begin(&r->loop, from, e);
}

bool system_run(const training_system *system, setting *s, const system_options *o, err *e) {
    run *r = mem_alloc(1, sizeof *r);
    char room[LOOP_PATH + 16];
    const char *from = NULL;
    if (!r) return err_set(e, "no memory for a run");
    r->system = system, r->job.s = s, r->job.options = o;
    bool good = loop_paths(&r->loop, o->folder, e) && loop_from(&r->loop, o->resume, room, sizeof room, &from, e);
    if (good) snprintf(r->out, sizeof r->out, "%.4000s/%s.safetensors", o->folder, system->name);
    if (good && !from && file_exists(r->out))
        good = err_set(e, "%s: stands here already, without a checkpoint to go on from; another -o begins anew", r->out);
    good = good && (!from || settings_load(from, s, system->settings, e)) && run_open(r, from, e);
    if (good) run_hooks(r);
    good = good && run_begin(r, from, e) && loop_run(&r->loop, e);
    run_close(r);
    mem_free(r);
    return good;
}
