/* rle.c - run lengths down the columns (see rle.h). */
#include "masks/rle.h"
#include <string.h>

/* ---- painting ---------------------------------------------------------------------------------- */
rle_painter rle_begin(unsigned char *mask, size_t height, size_t width) {
    memset(mask, 0, height * width);
    return (rle_painter){mask, height, width, 0, 0};
}

static bool paint(rle_painter *p, uint64_t n, err *e) {
    if (n > p->height * p->width - p->at) return err_set(e, "run lengths exceed the picture");
    size_t end = p->at + (size_t)n;
    if (p->value == 0) p->at = end;
    while (p->at < end) { /* a column, or what is left of it */
        size_t x = p->at / p->height, y = p->at % p->height, stop = end - p->at;
        if (stop > p->height - y) stop = p->height - y;
        for (size_t k = 0; k < stop; k++) p->mask[(y + k) * p->width + x] = 1;
        p->at += stop;
    }
    p->value ^= 1;
    return true;
}

bool rle_run(rle_painter *p, double n, err *e) {
    if (!(n >= 0)) return err_set(e, "run lengths exceed the picture");
    if (!(n <= 9007199254740992.0) || n != (double)(uint64_t)n) return err_set(e, "a run length of %g", n);
    return paint(p, (uint64_t)n, e);
}

bool rle_end(const rle_painter *p, err *e) {
    return p->at == p->height * p->width || err_set(e, "run lengths do not fill the picture");
}

/* ---- compressed counts --------------------------------------------------------------------------- */
/* The number at counts[*at]; sign-extended from bit 4 of its last character. */
static bool next_number(const char *counts, size_t length, size_t *at, int64_t *out, err *e) {
    uint64_t x = 0;
    for (unsigned shift = 0;; shift += 5) {
        if (*at == length) return err_set(e, "run lengths end in the middle of a number");
        unsigned c = (unsigned)(unsigned char)counts[(*at)++] - 48u;
        if (c >= 64) return err_set(e, "not a run-length character");
        if (shift > 50) return err_set(e, "a run length of more than 55 bits");
        x |= (uint64_t)(c & 31) << shift;
        if (c & 32) continue;
        *out = (int64_t)x - ((c & 16) ? (int64_t)1 << (shift + 5) : 0);
        return true;
    }
}

bool rle_decode(const char *counts, size_t length, size_t height, size_t width, unsigned char *mask, err *e) {
    rle_painter p = rle_begin(mask, height, width);
    int64_t before[2] = {0, 0}; /* the two runs before this one */
    for (size_t at = 0, i = 0; at < length; i++) {
        int64_t n = 0;
        if (!next_number(counts, length, &at, &n, e)) return false;
        if (i > 2) n += before[0]; /* both below 2^56 */
        if (n < 0) return err_set(e, "run lengths exceed the picture");
        if (!paint(&p, (uint64_t)n, e)) return false;
        before[0] = before[1], before[1] = n;
    }
    return rle_end(&p, e);
}

static void put_number(int64_t x, longtext *out) {
    char text[16];
    size_t n = 0;
    for (bool more = true; more;) {
        unsigned c = (unsigned)(x & 31);
        x = x >= 0 ? x >> 5 : ~(~x >> 5); /* rounded down */
        more = x != ((c & 16) ? -1 : 0);
        text[n++] = (char)((more ? c | 32 : c) + 48);
    }
    say_bytes(out, text, n);
}

void rle_encode(const unsigned char *mask, size_t height, size_t width, longtext *out) {
    int64_t before[2] = {0, 0}, run = 0;
    size_t i = 0;
    unsigned char value = 0;
    for (size_t x = 0; x < width; x++)
        for (size_t y = 0; y <= height; y++) {
            bool end = y == height;
            if (end && x + 1 < width) break;
            if (!end && (mask[y * width + x] != 0) == value) {
                run++;
                continue;
            }
            put_number(i > 2 ? run - before[0] : run, out);
            before[0] = before[1], before[1] = run;
            run = 1, value ^= 1, i++;
        }
}

/* ---- area and box ---------------------------------------------------------------------------------- */
size_t mask_extent(const unsigned char *mask, size_t height, size_t width, size_t box[4]) {
    size_t area = 0, x0 = width, y0 = height, x1 = 0, y1 = 0;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            if (!mask[y * width + x]) continue;
            area++;
            if (x < x0) x0 = x;
            if (x >= x1) x1 = x + 1;
            if (y < y0) y0 = y;
            y1 = y + 1;
        }
    if (!area) x0 = y0 = 0;
    box[0] = x0, box[1] = y0, box[2] = x1 - x0, box[3] = y1 - y0;
    return area;
}
