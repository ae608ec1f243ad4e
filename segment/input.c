/* input.c - the picture as the segmentation repositories' networks see it (see segment.h; MODEL.md 6.7). */
#include "segment/segment.h"
#include <math.h>
#include <string.h>

enum { LONGEST = 2048 };

/* s = min(2048/longer, short/shorter); each side to int(side s + 1/2) */
void segment_sides(size_t width, size_t height, size_t shorter, size_t *w, size_t *h) {
    double least = (double)(width < height ? width : height), most = (double)(width < height ? height : width);
    double s = (double)LONGEST / most < (double)shorter / least ? (double)LONGEST / most : (double)shorter / least;
    *w = (size_t)((double)width * s + .5), *h = (size_t)((double)height * s + .5);
    *w = *w ? *w : 1, *h = *h ? *h : 1;
}

/* ---- OpenCV's INTER_LINEAR of bytes: shares in 1/2048, the sums in integers -------------------------------- */
enum { WHOLE = 2048 };
typedef struct { size_t at[2]; int share[2]; } tap;

/* Output i of `out` from `in`; along x a border pixel stands alone, along y both of its rows keep their shares. */
static tap tap_at(size_t in, size_t out, size_t i, bool along_x) {
    float f = (float)(((double)i + .5) * (1 / ((double)out / (double)in)) - .5);
    long j = (long)floorf(f), last = (long)in - 1;
    f -= (float)j;
    if (along_x && (j < 0 || j >= last)) j = j < 0 ? 0 : last, f = 0;
    long a = j < 0 ? 0 : j > last ? last : j, b = j + 1 < 0 ? 0 : j + 1 > last ? last : j + 1;
    return (tap){{(size_t)a, (size_t)b}, {(int)rintf((1 - f) * (float)WHOLE), (int)rintf(f * (float)WHOLE)}};
}

void segment_resize(const unsigned char *rgb, size_t h, size_t w, unsigned char *out, size_t oh, size_t ow) {
    if (h == oh && w == ow) {
        memcpy(out, rgb, 3 * h * w);
        return;
    }
    for (size_t x = 0; x < ow; x++) {
        tap across = tap_at(w, ow, x, true);
        for (size_t y = 0; y < oh; y++) {
            tap down = tap_at(h, oh, y, false);
            for (size_t c = 0; c < 3; c++) {
                int sum = 2;
                for (int k = 0; k < 2; k++) {
                    const unsigned char *row = rgb + down.at[k] * w * 3 + c;
                    int r = across.share[0] * row[3 * across.at[0]] + across.share[1] * row[3 * across.at[1]];
                    sum += (down.share[k] * (r >> 4)) >> 16;
                }
                out[(y * ow + x) * 3 + c] = (unsigned char)(sum >> 2);
            }
        }
    }
}

/* ---- normalised ----------------------------------------------------------------------------------------------- */
/* Mean and deviation on 0..255: where they are CLIP's, the repositories' own, rounded to three places. */
static void standard(const clip_config *c, double *mean, double *deviation) {
    static const double means[3] = {122.771, 116.746, 104.094}, deviations[3] = {68.501, 66.632, 70.323};
    for (size_t k = 0; k < 3; k++) {
        mean[k] = 255 * (double)c->mean[k], deviation[k] = 255 * (double)c->std[k];
        if (fabs(mean[k] - means[k]) < 2e-3) mean[k] = means[k];
        if (fabs(deviation[k] - deviations[k]) < 2e-3) deviation[k] = deviations[k];
    }
}

real *segment_input(const clip_model *m, const picture *photo, size_t h, size_t w, arena *memory, err *e) {
    double mean[3], deviation[3];
    real *pixels = arena_alloc(memory, 3 * h, w * sizeof *pixels);
    size_t mark = arena_mark(memory);
    unsigned char *small = arena_alloc(memory, 3 * h, w);
    if (!pixels || !small) {
        err_set(e, "--memory: %zu bytes are too little for a picture of %zu x %zu", memory->size, w, h);
        return NULL;
    }
    segment_resize(photo->rgb, photo->height, photo->width, small, h, w);
    standard(&m->config, mean, deviation);
    for (size_t i = 0; i < h * w; i++)
        for (size_t c = 0; c < 3; c++) pixels[c * h * w + i] = (real)(((double)small[3 * i + c] - mean[c]) / deviation[c]);
    arena_reset(memory, mark);
    return pixels;
}
