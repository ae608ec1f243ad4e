/* draw.c - drawing on pictures: heat over a photograph, outlines of masks, fields. Everything is clipped. */
#include "pictures/image.h"
#include <string.h>

/* ---- fields ------------------------------------------------------------------------------------- */
/* Cuts [*at, *at + *n) to [0, limit); false when nothing is left. *skip: how much was cut at the front. */
static bool clip(long *at, size_t *n, size_t limit, size_t *skip) {
    *skip = *at < 0 ? (size_t) - (*at + 1) + 1 : 0;
    if (*skip >= *n || (*at >= 0 && (size_t)*at >= limit)) return false;
    *n -= *skip;
    if (*at < 0) *at = 0;
    if (*n > limit - (size_t)*at) *n = limit - (size_t)*at;
    return *n > 0;
}

void picture_fill(picture *p, long x, long y, size_t w, size_t h, const unsigned char colour[3]) {
    size_t skip;
    if (!clip(&x, &w, p->width, &skip) || !clip(&y, &h, p->height, &skip)) return;
    for (size_t j = 0; j < h; j++) {
        unsigned char *row = p->rgb + (((size_t)y + j) * p->width + (size_t)x) * 3;
        for (size_t i = 0; i < w; i++) memcpy(row + 3 * i, colour, 3);
    }
}

void picture_paste(picture *dst, const picture *src, long x, long y) {
    size_t w = src->width, h = src->height, left, top;
    if (!clip(&x, &w, dst->width, &left) || !clip(&y, &h, dst->height, &top)) return;
    for (size_t j = 0; j < h; j++)
        memcpy(dst->rgb + (((size_t)y + j) * dst->width + (size_t)x) * 3,
               src->rgb + ((top + j) * src->width + left) * 3, w * 3);
}

/* ---- heat ------------------------------------------------------------------------------------------ */
/* From a cold violet over red and orange to a pale yellow: lightness grows evenly, so that the order of values
 * survives printing in grey and the common colour blindnesses. */
static const unsigned char heat_stops[6][3] = {{48, 18, 120},  {126, 28, 128}, {204, 44, 92},
                                               {244, 108, 40}, {252, 184, 44}, {253, 250, 168}};
static const float heat_most = 0.8f; /* opacity of the hottest; the coldest has none */

/* level 0..255 -> colour, opacity 0..256 */
static void heat_colour(unsigned level, unsigned colour[3], unsigned *opacity) {
    unsigned stop = level * 5 / 256, part = level * 5 % 256;
    for (int c = 0; c < 3; c++) colour[c] = (heat_stops[stop][c] * (256 - part) + heat_stops[stop + 1][c] * part) / 256;
    float h = (float)level / 255.0f;
    *opacity = (unsigned)(256.0f * heat_most * h * (1.6f - 0.6f * h) + 0.5f);
}

/* The photograph behind is taken half of its colours, and some of its light where it is cold: heat stands out. */
static unsigned char blend(const unsigned char *photo, int c, unsigned colour, unsigned opacity) {
    unsigned grey = (photo[0] * 5u + photo[1] * 9u + photo[2] * 2u) / 16;
    unsigned behind = (photo[c] + grey) / 2 * 220 / 256;
    return (unsigned char)((behind * (256 - opacity) + colour * opacity) / 256);
}

bool picture_heat(const picture *p, const real *map, size_t mh, size_t mw, picture *out, err *e) {
    size_t n = p->width * p->height;
    unsigned colours[256][3], opacity[256];
    if (!picture_new(p->width, p->height, out, e)) return false;
    real *heat = mem_alloc(n, sizeof *heat);
    if (!heat) {
        picture_free(out);
        return err_set(e, "no memory for a heat map of %zux%zu pixels", p->width, p->height);
    }
    for (unsigned level = 0; level < 256; level++) heat_colour(level, colours[level], &opacity[level]);
    map_resize(map, mh, mw, heat, p->height, p->width);
    for (size_t i = 0; i < n; i++) {
        real h = heat[i] > 0 ? heat[i] < 1 ? heat[i] : 1 : 0; /* NaN is cold */
        unsigned level = (unsigned)(h * 255 + (real).5);
        for (int c = 0; c < 3; c++)
            out->rgb[3 * i + (size_t)c] = blend(p->rgb + 3 * i, c, colours[level][c], opacity[level]);
    }
    mem_free(heat);
    return true;
}

/* ---- outlines --------------------------------------------------------------------------------------- */
/* The mask's value under the picture's pixel x, y is at least 1/2 (bilinear, as map_resize). */
static bool inside(const mask_image *m, const picture *p, size_t x, size_t y) {
    if (m->width == p->width && m->height == p->height) return m->soft[y * m->width + x] >= (real).5;
    double sx = ((double)x + 0.5) * (double)m->width / (double)p->width - 0.5;
    double sy = ((double)y + 0.5) * (double)m->height / (double)p->height - 0.5;
    if (sx < 0) sx = 0;
    if (sy < 0) sy = 0;
    size_t x0 = (size_t)sx, y0 = (size_t)sy, x1 = x0 + 1 < m->width ? x0 + 1 : x0,
           y1 = y0 + 1 < m->height ? y0 + 1 : y0;
    double fx = sx - (double)x0, fy = sy - (double)y0;
    const real *a = m->soft + y0 * m->width, *b = m->soft + y1 * m->width;
    return (a[x0] * (1 - fx) + a[x1] * fx) * (1 - fy) + (b[x0] * (1 - fx) + b[x1] * fx) * fy >= 0.5;
}

/* A round dot of `size` half pixels across, its centre x, y in half pixels too. */
static void dot_at(picture *p, long x, long y, long size, const unsigned char colour[3]) {
    long reach = size / 2 + 1;
    for (long j = (y - reach) / 2; j <= (y + reach) / 2; j++)
        for (long i = (x - reach) / 2; i <= (x + reach) / 2; i++) {
            long dx = 2 * i + 1 - x, dy = 2 * j + 1 - y;
            if (i < 0 || j < 0 || (size_t)i >= p->width || (size_t)j >= p->height) continue;
            if (4 * (dx * dx + dy * dy) <= size * size + 4)
                memcpy(p->rgb + ((size_t)j * p->width + (size_t)i) * 3, colour, 3);
        }
}

/* A dot on every edge between a pixel inside and one outside. */
static void trace(picture *p, const mask_image *m, long size, const unsigned char colour[3]) {
    for (size_t y = 0; y < p->height; y++) {
        bool here = inside(m, p, 0, y), right = here;
        for (size_t x = 0; x < p->width; x++, here = right) {
            long cx = (long)(2 * x) + 1, cy = (long)(2 * y) + 1;
            if (x + 1 < p->width && (right = inside(m, p, x + 1, y)) != here) dot_at(p, cx + 1, cy, size, colour);
            if (y + 1 < p->height && inside(m, p, x, y + 1) != here) dot_at(p, cx, cy + 1, size, colour);
        }
    }
}

/* Two pixels wide (more on large pictures), with a halo as wide again of the opposite lightness: seen on any ground. */
void picture_outline(picture *p, const mask_image *m, const unsigned char colour[3]) {
    static const unsigned char black[3] = {0, 0, 0}, white[3] = {255, 255, 255};
    size_t side = p->width < p->height ? p->width : p->height;
    long width = side < 750 ? 2 : (long)(side / 500) * 2;
    bool light = colour[0] * 5 + colour[1] * 9 + colour[2] * 2 > 100 * 16;
    trace(p, m, 4 * width, light ? black : white);
    trace(p, m, 2 * width, colour);
}
