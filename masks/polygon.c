/* polygon.c - two ways from an outline to pixels (see polygon.h). */
#include "masks/polygon.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double farthest = 1e8; /* of a corner: its square is exact in a double */

static bool corners_fit(const double *xy, size_t count, err *e) {
    for (size_t i = 0; i < 2 * count; i++)
        if (!(fabs(xy[i]) <= farthest)) return err_set(e, "a corner at %g", xy[i]);
    return true;
}

/* ---- COCO ------------------------------------------------------------------------------------------ */
typedef struct {
    size_t height, width;
    unsigned char *toggle; /* [height * width + 1], down the columns */
} columns;

/* An edge crosses into or out of a column of pixels where u, on the fine grid, goes from 5x + 2 to 5x + 3: there
 * (u + 1/2)/5 - 1/2 is x. v: the smaller of the two heights beside the crossing. */
static void toggle_at(const columns *c, int64_t x, int64_t v) {
    double y = ((double)v + .5) / 5 - .5;
    y = y < 0 ? 0 : y > (double)c->height ? (double)c->height : y;
    c->toggle[(size_t)x * c->height + (size_t)ceil(y)] ^= 1;
}

/* The walk is along the longer axis, from its smaller end a; the other coordinate is (int)(b + slope d + 1/2). */
typedef struct {
    int64_t a, b, length;
    double slope;
} walk;

static int64_t other(const walk *w, int64_t d) {
    double rise = w->slope * (double)d; /* rounded by itself, as COCO's code does: not fused */
    return (int64_t)((double)w->b + rise + .5);
}

/* The first and last column that fine coordinates from lo to hi cross; false: none. */
static bool crossed(int64_t lo, int64_t hi, size_t width, int64_t *first, int64_t *last) {
    *first = lo <= 2 ? 0 : (lo + 2) / 5; /* the least x with 5x + 2 >= lo */
    *last = hi < 3 ? -1 : (hi - 3) / 5;  /* the largest with 5x + 3 <= hi */
    if (*last >= (int64_t)width) *last = (int64_t)width - 1;
    return *first <= *last;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void edge(const columns *c, const int64_t p[2], const int64_t q[2]) {
    int64_t dx = llabs(q[0] - p[0]), dy = llabs(q[1] - p[1]), first, last;
    bool wide = dx >= dy, swap = wide ? p[0] > q[0] : p[1] > q[1];
    const int64_t *from = swap ? q : p, *to = swap ? p : q;
    if (wide) { /* each step is one column of the fine grid */
        walk w = {from[0], from[1], dx, dx ? (double)(to[1] - from[1]) / (double)dx : 0};
        if (!crossed(from[0], to[0], c->width, &first, &last)) return;
        for (int64_t x = first; x <= last; x++) {
            int64_t d = 5 * x + 2 - w.a;
            toggle_at(c, x, least(other(&w, d), other(&w, d + 1)));
        }
        return;
    }
    walk w = {from[1], from[0], dy, (double)(to[0] - from[0]) / (double)dy};
    int64_t u0 = other(&w, 0), u1 = other(&w, dy);
    bool falls = u1 < u0;
    if (!crossed(falls ? u1 : u0, falls ? u0 : u1, c->width, &first, &last)) return;
    for (int64_t x = first; x <= last; x++) { /* the step over the crossing, halving: u is monotone in d */
        int64_t lo = 0, hi = dy;
        while (hi - lo > 1) {
            int64_t mid = lo + (hi - lo) / 2;
            if ((other(&w, mid) > 5 * x + 2) == falls)
                lo = mid;
            else
                hi = mid;
        }
        toggle_at(c, x, w.a + lo);
    }
}

bool polygon_coco(const double *xy, size_t count, size_t height, size_t width, unsigned char *room,
                  unsigned char *cover, err *e) {
    columns c = {height, width, room};
    if (!corners_fit(xy, count, e)) return false;
    memset(room, 0, height * width + 1);
    for (size_t i = 0; i < count; i++) {
        const double *p = xy + 2 * i, *q = xy + 2 * ((i + 1) % count);
        int64_t a[2] = {(int64_t)(5 * p[0] + .5), (int64_t)(5 * p[1] + .5)};
        int64_t b[2] = {(int64_t)(5 * q[0] + .5), (int64_t)(5 * q[1] + .5)};
        edge(&c, a, b);
    }
    unsigned char inside = 0; /* a toggle below a column is the next one's first */
    for (size_t x = 0, i = 0; x < width; x++)
        for (size_t y = 0; y < height; y++, i++) {
            inside ^= room[i];
            unsigned char *to = &cover[y * width + x];
            if (inside && *to < 255) (*to)++;
        }
    return true;
}

/* ---- Pillow ------------------------------------------------------------------------------------------ */
static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void span(unsigned char *mask, size_t width, double from, double to, size_t y) {
    if (from < 0) from = 0;
    if (to > (double)width - 1) to = (double)width - 1;
    for (double x = from; x <= to; x++) mask[y * width + (size_t)x] = 1;
}

/* Half-way cases go away from zero on the left, towards it on the right. */
static double half_up(float x) { return x >= 0 ? floor((double)(x + .5f)) : -floor((double)(fabsf(x) + .5f)); }
static double half_down(float x) { return x >= 0 ? ceil((double)(x - .5f)) : -ceil((double)(fabsf(x) - .5f)); }

/* Where row y crosses the edges. An edge that ends here counts twice, but in the polygon's last row. */
static size_t crossings_at(const double *xy, size_t count, double y, double last, float *out) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const double *p = xy + 2 * i, *q = xy + 2 * ((i + 1) % count);
        double x0 = trunc(p[0]), y0 = trunc(p[1]), x1 = trunc(q[0]), y1 = trunc(q[1]);
        double top = y0 < y1 ? y0 : y1, bottom = y0 < y1 ? y1 : y0;
        if (y0 == y1 || y < top || y > bottom) continue;
        float dx = (float)(x1 - x0) / (float)(y1 - y0), along = (float)(y - y0) * dx;
        out[n++] = along + (float)x0;
        if (y == bottom && y < last) out[n] = out[n - 1], n++;
    }
    return n;
}

bool polygon_pillow(const double *xy, size_t count, size_t height, size_t width, float *crossings, unsigned char *mask,
                    err *e) {
    double first = (double)height - 1, last = 0;
    if (!corners_fit(xy, count, e)) return false;
    if (count < 2) return true; /* a point is not drawn */
    for (size_t i = 0; i < count; i++) {
        const double *p = xy + 2 * i, *q = xy + 2 * ((i + 1) % count);
        double y = trunc(p[1]), x0 = trunc(p[0]), x1 = trunc(q[0]);
        first = y < first ? y : first, last = y > last ? y : last;
        if (y == trunc(q[1]) && y >= 0 && y < (double)height)
            span(mask, width, x0 < x1 ? x0 : x1, x0 < x1 ? x1 : x0, (size_t)y);
    }
    if (first < 0) first = 0;
    if (last > (double)height) last = (double)height;
    for (double y = first; y <= last && y < (double)height; y++) {
        size_t n = crossings_at(xy, count, y, last, crossings);
        qsort(crossings, n, sizeof *crossings, by_value);
        for (size_t i = 1; i < n; i += 2)
            span(mask, width, half_up(crossings[i - 1]), half_down(crossings[i]), (size_t)y);
    }
    return true;
}
