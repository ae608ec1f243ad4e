/* loop.h - the loop of every training: step, log, schedule, checkpoint, and going on to the same bytes.
 *
 *     loop l = {.plan = {.lr = 1e-3, .batch = 128, ...}, .best = &optimiser, .gradient = g, .system = me, .step = my_step};
 *     if (!loop_paths(&l, "run", &e)) ...                // run/checkpoint.safetensors, run/curve.png
 *     if (!loop_from(&l, resume, room, size, &from, &e)) // the checkpoint to go on from
 *     if (!loop_begin(&l, from, &e)) ...                 // from: NULL, or the checkpoint whose state was loaded; else one of step 0
 *     if (!loop_run(&l, &e)) ...                         // until the samples are all seen; else the message says why
 *
 * The loop knows no network: a system's `step` fills the gradient for step number n, and everything that it does may depend
 * on n and the settings alone. That is what makes an interrupted run end in the bytes of one that was not.
 */
#ifndef LOOP_H
#define LOOP_H
#include "training/optimiser.h"
#include "training/trainlog.h"

enum { LOOP_PATH = 4096 };
/* "HELD": the seed of the scenes that `valid` asks about and no training sees; mix64 keys the seeds of training apart from it. */
enum { HELD_OUT = 0x48454C44 };
typedef struct {
    double lr, lr_end, warmup; /* (9.2) */
    double batch;              /* samples a step */
    double hours;              /* > 0: as many samples as the first steps promise */
    uint64_t checkpoint_every, valid_every, stop_after; /* steps; 0: never */
} loop_plan;

typedef struct {
    loop_plan plan;
    optimiser *best;
    real *gradient; /* [numbers] */
    const setting *settings;
    size_t setting_count;
    bool quiet;
    /* the system */
    void *system;
    /* Gradient, loss and accuracy of step n; progress 0..1. A loss that is not finite: true, with line->loss = NAN. */
    bool (*step)(void *system, uint64_t n, double progress, real *gradient, log_line *line, err *e);
    bool (*valid)(void *system, log_line *line, err *e); /* what is asked of held-out things; may be NULL */
    bool (*write)(void *system, err *e);                 /* the result as a file, after each checkpoint */
    /* the loop's own */
    train_log log;
    double began;   /* seconds_now() less what earlier rows took */
    uint64_t saved; /* step of the last checkpoint */
    char checkpoint[LOOP_PATH], curve[LOOP_PATH], folder[LOOP_PATH];
} loop;

bool loop_paths(loop *l, const char *folder, err *e);
/* The checkpoint to go on from, NULL: a new run, whose folder is made. One that is there without `resume` is an error, and so is
 * none with it. */
bool loop_from(loop *l, bool resume, char *room, size_t size, const char **from, err *e);
bool loop_begin(loop *l, const char *from, err *e);
/* One step, without log or checkpoint. */
bool loop_step(loop *l, uint64_t n, double progress, log_line *line, err *e);
bool loop_run(loop *l, err *e);
void loop_end(loop *l);
/* Asks a run to save and to stop after its step; may be called by a signal handler. */
void loop_stop(void);
#endif
