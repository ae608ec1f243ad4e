/* loop.c - step, log, schedule, checkpoint (see loop.h). */
#include "training/loop.h"
#include "files/files.h"
#include "sys/threads.h"
#include <math.h>
#include <signal.h>
#include <string.h>

enum { MEASURED_STEPS = 30 }; /* --hours: so many, before their speed is believed */

static volatile sig_atomic_t stopping;
void loop_stop(void) { stopping = 1; }

/* ---- where a run lives ------------------------------------------------------------------------------- */
bool loop_paths(loop *l, const char *folder, err *e) {
    stopping = 0;
    if (strlen(folder) > LOOP_PATH - 64) return err_set(e, "-o: a path of %zu bytes is too long", strlen(folder));
    snprintf(l->folder, LOOP_PATH, "%s", folder);
    snprintf(l->checkpoint, LOOP_PATH, "%s/checkpoint.safetensors", folder);
    snprintf(l->curve, LOOP_PATH, "%s/curve.png", folder);
    return true;
}

bool loop_from(loop *l, bool resume, char *room, size_t size, const char **from, err *e) {
    *from = checkpoint_latest(l->checkpoint, room, size);
    if (*from && !resume) return err_set(e, "%s: a run's checkpoint is here already; --resume goes on with it, another -o begins anew", *from);
    if (!*from && resume) return err_set(e, "%s: no checkpoint to go on from; without --resume a run begins there", l->folder);
    return *from || folder_make(l->folder, e);
}

bool loop_begin(loop *l, const char *from, err *e) {
    l->saved = from ? l->best->step : 0;
    if (!log_open(&l->log, l->folder, l->best->step, e)) return false;
    /* the settings are kept from the beginning on, so that a run killed at any moment goes on with them */
    if (!from && !optimiser_save(l->best, l->checkpoint, l->settings, l->setting_count, e)) return false;
    l->began = seconds_now() - log_seconds(&l->log);
    return true;
}

void loop_end(loop *l) { log_close(&l->log); }

static bool write_result(loop *l, err *e) { return l->write(l->system, e) && log_curve(&l->log, l->curve, e); }

static bool save(loop *l, err *e) {
    if (!optimiser_save(l->best, l->checkpoint, l->settings, l->setting_count, e)) return false;
    l->saved = l->best->step;
    return write_result(l, e);
}

/* ---- one step ------------------------------------------------------------------------------------------ */
static double progress_of(const loop *l) {
    return l->best->pictures > 0 ? (double)l->best->step * l->plan.batch / l->best->pictures : 0;
}

bool loop_step(loop *l, uint64_t n, double progress, log_line *line, err *e) {
    line->lr = schedule_lr(l->plan.lr, l->plan.lr_end, l->best->step, (uint64_t)l->plan.warmup, progress);
    line->scale = optimiser_scale(l->best);
    if (!l->step(l->system, n, progress, l->gradient, line, e)) return false;
    bool good = isfinite(line->loss);
    line->norm = good ? optimiser_norm(l->best, l->gradient) : NAN;
    if (!isfinite(line->norm))
        return err_set(e, "step %llu: the %s is not finite (learning rate %g); the last checkpoint is of step %llu",
                       (unsigned long long)l->best->step + 1, good ? "gradient" : "loss", line->lr,
                       (unsigned long long)l->saved);
    optimiser_step(l->best, l->gradient, line->norm, line->lr);
    line->step = (double)l->best->step;
    line->images = line->step * l->plan.batch;
    return true;
}

/* ---- the loop ------------------------------------------------------------------------------------------- */
/* Samples a second, by the last rows. */
static double rate_of(const train_log *l) {
    if (l->count < 2) return 0;
    const log_line *last = &l->lines[l->count - 1], *early = &l->lines[l->count > 50 ? l->count - 50 : 0];
    return last->seconds > early->seconds ? (last->images - early->images) / (last->seconds - early->seconds) : 0;
}

/* --hours: the first steps' speed fixes the number of samples, once and for all. */
static void fix_length(loop *l, double rate) {
    double batch = l->plan.batch;
    l->best->pictures = ceil(fmax(rate * l->plan.hours * 3600 / batch, MEASURED_STEPS)) * batch;
    if (!l->quiet)
        printf("%s%.0f pictures in %g hours\n", l->log.terminal ? "\r\033[K" : "", l->best->pictures, l->plan.hours);
}

static bool due(const loop *l, uint64_t every) { return every > 0 && l->best->step % every == 0; }

/* One step and what is due after it. */
static bool turn(loop *l, err *e) {
    log_line line = {0};
    if (!loop_step(l, l->best->step, progress_of(l), &line, e)) return false;
    line.seconds = seconds_now() - l->began;
    if (!log_row(&l->log, &line, e)) return false;
    double rate = rate_of(&l->log);
    if (l->best->pictures == 0 && l->best->step >= MEASURED_STEPS) fix_length(l, rate);
    bool last = l->best->pictures > 0 && line.images >= l->best->pictures;
    if (!l->quiet) log_progress(&l->log, &line, rate, l->best->pictures - line.images, last || l->best->step % 50 == 1);
    if ((due(l, l->plan.valid_every) || last) && l->valid && !l->valid(l->system, &line, e)) return false;
    if (l->best->step == l->plan.stop_after) stopping = 1;
    return (due(l, l->plan.checkpoint_every) || last || stopping) ? save(l, e) : true;
}

static bool over(const loop *l) { return l->best->pictures > 0 && (double)l->best->step * l->plan.batch >= l->best->pictures; }

bool loop_run(loop *l, err *e) {
    if (over(l)) return write_result(l, e); /* its end may have come between the last checkpoint and the result */
    while (!over(l)) {
        if (!turn(l, e)) return false;
        if (stopping) return err_set(e, "stopped after step %llu; --resume goes on", (unsigned long long)l->best->step);
    }
    if (!l->quiet && l->log.terminal) printf("\n");
    return true;
}
