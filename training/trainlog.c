/* trainlog.c - what a training run tells (see trainlog.h). */
#include "training/trainlog.h"
#include "files/files.h"
#include "os/os.h"
#include "pictures/image.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- csv: rows of numbers under a header ------------------------------------------------------------ */

static const char loss_header[] = "step,images,seconds,loss,accuracy,lr,scale,norm\n";
static const char valid_header[] = "step,images,drawn,photographic\n";
enum { LOSS_FIELDS = 8, VALID_FIELDS = 4 };

/* One line of `fields` numbers; false at an incomplete one, as a killed run leaves it. */
static bool read_row(const char *text, double *row, size_t fields) {
    for (size_t i = 0; i < fields; i++) {
        char *end;
        row[i] = strtod(text, &end);
        if (end == text || *end != (i + 1 < fields ? ',' : '\n')) return false;
        text = end + 1;
    }
    return true;
}

typedef bool take_row(train_log *l, const double *row, err *e);

static bool take_loss(train_log *l, const double *r, err *e) {
    if (!mem_grow(&l->lines, &l->room, l->count + 1, sizeof *l->lines))
        return err_set(e, "no memory for %zu rows", l->count + 1);
    l->lines[l->count++] = (log_line){r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]};
    return true;
}

static bool take_valid(train_log *l, const double *r, err *e) {
    if (!mem_grow(&l->marks, &l->mark_room, l->marked + 1, sizeof *l->marks))
        return err_set(e, "no memory for %zu rows", l->marked + 1);
    l->marks[l->marked++] = (valid_line){r[0], r[1], r[2], r[3]};
    return true;
}

/* Two runs that write into one folder would each replace what the other made. */
static bool alone(FILE *f, const char *path, err *e) {
    return !f || os_hold(f) || err_set(e, "%s: another run writes there, one at a time is expected", path);
}

/* Keeps the file's rows up to `step`, drops what comes later, and opens it at its end. */
static FILE *csv_open(train_log *l, const char *path, const char *header, size_t fields, uint64_t step, take_row *take,
                      err *e) {
    size_t length = 0;
    FILE *before = file_exists(path) ? os_open(path, "ab") : NULL;
    bool ours = alone(before, path, e);
    if (before) fclose(before);
    if (!ours) return NULL;
    char *text = step > 0 && file_exists(path) ? file_read(path, SIZE_MAX / 4, &length, e) : NULL;
    out_file f;
    if ((step > 0 && file_exists(path) && !text) || !out_open(&f, path, e)) return mem_free(text), NULL;
    fputs(header, f.stream);
    bool good = true;
    for (const char *at = text ? strchr(text, '\n') : NULL; good && at && at[1]; at = strchr(at + 1, '\n')) {
        double row[LOSS_FIELDS];
        if (!read_row(at + 1, row, fields) || row[0] > (double)step) break;
        good = take(l, row, e);
        fwrite(at + 1, 1, strcspn(at + 1, "\n") + 1, f.stream);
    }
    mem_free(text);
    if (!good) return out_abandon(&f), NULL;
    if (!out_close(&f, e)) return NULL;
    FILE *out = os_open(path, "ab");
    if (!out) return (void)err_set(e, "%s: %s", path, os_reason()), NULL;
    if (alone(out, path, e)) return out;
    fclose(out);
    return NULL;
}

bool log_open(train_log *l, const char *folder, uint64_t step, err *e) {
    memset(l, 0, sizeof *l);
    l->terminal = os_terminal(stdout);
    snprintf(l->loss_path, sizeof l->loss_path, "%s/loss.csv", folder);
    snprintf(l->valid_path, sizeof l->valid_path, "%s/valid.csv", folder);
    l->loss = csv_open(l, l->loss_path, loss_header, LOSS_FIELDS, step, take_loss, e);
    if (l->loss) l->valid = csv_open(l, l->valid_path, valid_header, VALID_FIELDS, step, take_valid, e);
    if (l->loss && l->valid) return true;
    log_close(l);
    return false;
}

void log_close(train_log *l) {
    if (l->loss) fclose(l->loss);
    if (l->valid) fclose(l->valid);
    mem_free(l->lines), mem_free(l->marks);
    memset(l, 0, sizeof *l);
}

static bool flushed(FILE *f, int written, const char *path, err *e) {
    return (written > 0 && fflush(f) == 0) || err_set(e, "%s: %s", path, os_reason());
}

bool log_row(train_log *l, const log_line *r, err *e) {
    const double row[] = {r->step, r->images, r->seconds, r->loss, r->accuracy, r->lr, r->scale, r->norm};
    int n = fprintf(l->loss, "%.0f,%.0f,%.2f,%.5f,%.4f,%.4g,%.4g,%.4g\n", row[0], row[1], row[2], row[3], row[4],
                    row[5], row[6], row[7]);
    return take_loss(l, row, e) && flushed(l->loss, n, l->loss_path, e);
}

bool log_valid(train_log *l, const valid_line *r, err *e) {
    const double row[] = {r->step, r->images, r->drawn, r->photographic};
    int n = fprintf(l->valid, "%.0f,%.0f,%.4f,%.4f\n", row[0], row[1], row[2], row[3]);
    return take_valid(l, row, e) && flushed(l->valid, n, l->valid_path, e);
}

double log_seconds(const train_log *l) { return l->count ? l->lines[l->count - 1].seconds : 0; }

void log_progress(const train_log *l, const log_line *now, double rate, double images_left, bool line) {
    char left[32] = "";
    if (!l->terminal && !line) return;
    if (images_left > 0 && rate > 0) {
        long minutes = lround(images_left / rate / 60);
        snprintf(left, sizeof left, "  %ld:%02ld left", minutes / 60, minutes % 60);
    }
    printf("%sstep %.0f  %.0f images  %.0f images/s  loss %.3f  accuracy %.3f%s%s", l->terminal ? "\r" : "", now->step,
           now->images, rate, now->loss, now->accuracy, left, l->terminal ? "\033[K" : "\n");
    fflush(stdout);
}

/* ---- the curve -------------------------------------------------------------------------------------- */

enum { CURVE_WIDTH = 960, CURVE_HEIGHT = 540, LEFT = 60, RIGHT = 60, TOP = 40, BOTTOM = 50 };
static const unsigned char ink[3] = {60, 60, 60}, pale[3] = {225, 225, 225}, paper[3] = {255, 255, 255},
                           red[3] = {200, 60, 40}, blue[3] = {40, 90, 200}, green[3] = {30, 140, 60},
                           orange[3] = {225, 140, 20};

typedef struct {
    picture p;
    double images, top;
} plot; /* top: the largest loss shown */

static long plot_x(const plot *c, double images) {
    return LEFT + lround(images / c->images * (CURVE_WIDTH - LEFT - RIGHT));
}
static long plot_y(double share) { return CURVE_HEIGHT - BOTTOM - lround(share * (CURVE_HEIGHT - TOP - BOTTOM)); }

static void plot_axes(plot *c) {
    char text[32];
    picture_fill(&c->p, 0, 0, CURVE_WIDTH, CURVE_HEIGHT, paper);
    for (int i = 0; i <= 5; i++) {
        long y = plot_y(i / 5.0), x = plot_x(c, c->images * i / 5.0);
        picture_fill(&c->p, LEFT, y, CURVE_WIDTH - LEFT - RIGHT, 1, i ? pale : ink);
        snprintf(text, sizeof text, "%.1f", c->top * i / 5);
        picture_text(&c->p, LEFT - 10 - (long)text_width(text, 2), y - 7, text, 2, red);
        snprintf(text, sizeof text, "%.1f", i / 5.0);
        picture_text(&c->p, CURVE_WIDTH - RIGHT + 10, y - 7, text, 2, blue);
        snprintf(text, sizeof text, "%.0fk", c->images * i / 5000);
        picture_text(&c->p, x - (long)text_width(text, 2) / 2, CURVE_HEIGHT - BOTTOM + 10, text, 2, ink);
    }
    picture_text(&c->p, LEFT, 12, "loss", 2, red);
    picture_text(&c->p, LEFT + 80, 12, "accuracy in the batch", 2, blue);
    picture_text(&c->p, LEFT + 370, 12, "drawn named", 2, green);
    picture_text(&c->p, LEFT + 540, 12, "cut-outs named", 2, orange);
    picture_text(&c->p, CURVE_WIDTH / 2 - 40, CURVE_HEIGHT - 20, "pictures", 2, ink);
}

/* One value a column: the mean of the rows that fall there, joined by upright strokes. */
static void plot_series(plot *c, const train_log *l, bool loss, const unsigned char colour[3]) {
    double sum = 0, n = 0;
    long last_y = -1, column = -1;
    for (size_t i = 0; i <= l->count; i++) {
        long x = i < l->count ? plot_x(c, l->lines[i].images) : -1;
        if (x != column && n > 0) {
            long y = plot_y(fmin(sum / n, 1)), from = last_y < 0 || y < last_y ? y : last_y;
            long to = last_y < 0 || y > last_y ? y : last_y;
            picture_fill(&c->p, column, from, 2, (size_t)(to - from) + 2, colour);
            last_y = y, sum = n = 0;
        }
        if (i == l->count) break;
        column = x;
        sum += loss ? l->lines[i].loss / c->top : l->lines[i].accuracy;
        n++;
    }
}

static void plot_mark(plot *c, double images, double share, const unsigned char colour[3]) {
    if (!(share >= 0 && share <= 1)) return;
    picture_fill(&c->p, plot_x(c, images) - 3, plot_y(share) - 3, 7, 7, colour);
}

bool log_curve(const train_log *l, const char *path, err *e) {
    plot c = {.images = 1, .top = 1};
    if (l->count == 0) return true;
    if (!picture_new(CURVE_WIDTH, CURVE_HEIGHT, &c.p, e)) return false;
    c.images = l->lines[l->count - 1].images;
    for (size_t i = 0; i < l->count; i++)
        if (l->lines[i].loss > c.top) c.top = ceil(l->lines[i].loss);
    plot_axes(&c);
    plot_series(&c, l, true, red);
    plot_series(&c, l, false, blue);
    for (size_t i = 0; i < l->marked; i++) {
        plot_mark(&c, l->marks[i].images, l->marks[i].drawn, green);
        plot_mark(&c, l->marks[i].images, l->marks[i].photographic, orange);
    }
    bool good = picture_write_png(path, &c.p, e);
    picture_free(&c.p);
    return good;
}
