/* trainlog.h - what a training run tells: one line while it runs, loss.csv, valid.csv, and their curve.
 *
 *     train_log log;
 *     if (!log_open(&log, "run", step, &e)) ...                // rows after `step` are dropped: they will come again
 *     if (!log_row(&log, &(log_line){step, images, ...}, &e)) ...
 *     log_progress(&log, &line, rate, seconds_left, false);
 *     log_curve(&log, "run/curve.png", &e);
 */
#ifndef TRAINLOG_H
#define TRAINLOG_H
#include <stdio.h>
#include "sys/err.h"

typedef struct {
    double step, images, seconds, loss, accuracy, lr, scale, norm;
} log_line;
typedef struct {
    double step, images, drawn, photographic;
} valid_line; /* share named right; NAN: not asked */

typedef struct {
    FILE *loss, *valid;
    char loss_path[4096], valid_path[4096];
    log_line *lines;
    size_t count, room;
    valid_line *marks;
    size_t marked, mark_room;
    bool terminal; /* progress is rewritten in place */
} train_log;

/* Continues DIR/loss.csv and DIR/valid.csv after `step`, or begins them. */
bool log_open(train_log *l, const char *folder, uint64_t step, err *e);
void log_close(train_log *l);
bool log_row(train_log *l, const log_line *line, err *e);
bool log_valid(train_log *l, const valid_line *line, err *e);
/* Seconds that the rows so far took. */
double log_seconds(const train_log *l);
/* images_left 0: not known. On a terminal every call, otherwise only when `line` is set. */
void log_progress(const train_log *l, const log_line *now, double rate, double images_left, bool line);
/* Loss and accuracy, smoothed, over pictures seen; crosses where names were asked. */
bool log_curve(const train_log *l, const char *path, err *e);
#endif
