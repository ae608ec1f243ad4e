/* paint.c - canvas and tile: cut, blend, measure. */
#include "scenes/paint.h"
#include <string.h>

void sine(float degrees, float *s, float *c) {
    /* Reduced to +-45 degrees around a quarter turn, then Taylor. */
    float quarters = degrees / 90;
    long q = (long)(quarters + (quarters < 0 ? -0.5f : 0.5f));
    float x = (quarters - (float)q) * 1.57079632679f, y = x * x;
    float sn = x * (1 - y * (1.0f / 6) * (1 - y * (1.0f / 20) * (1 - y * (1.0f / 42))));
    float cs = 1 - y * 0.5f * (1 - y * (1.0f / 12) * (1 - y * (1.0f / 30) * (1 - y * (1.0f / 56))));
    switch (((q % 4) + 4) % 4) {
    case 0: *s = sn, *c = cs; break;
    case 1: *s = cs, *c = -sn; break;
    case 2: *s = -sn, *c = -cs; break;
    default: *s = -cs, *c = sn; break;
    }
}

static long clamp_long(float x, long high) { return x < 0 ? 0 : x > (float)high ? high : (long)x; }

tile tile_cut(float *room, size_t side, float x0, float y0, float x1, float y1) {
    tile t = {clamp_long(x0, (long)side), clamp_long(y0, (long)side), 0, 0, 0, 0, 0, 0, 0, 0, 0};
    t.width = (size_t)(clamp_long(x1 + 1, (long)side) - t.x0);
    t.height = (size_t)(clamp_long(y1 + 1, (long)side) - t.y0);
    size_t n = t.width * t.height;
    t.r = room, t.g = t.r + n, t.b = t.g + n, t.a = t.b + n, t.u = t.a + n, t.t = t.u + n, t.row = t.t + n;
    memset(room, 0, 4 * n * sizeof *room);
    for (size_t i = 0; i < n; i++) t.u[i] = 1e9f;
    return t;
}

static void blend_row(float *restrict to, const float *restrict from, const float *restrict a, float opacity, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] = to[i] * (1 - a[i] * opacity) + from[i] * opacity;
}

void canvas_put(canvas *c, const tile *t, float opacity) {
    for (size_t y = 0; y < t->height; y++) {
        size_t to = ((size_t)t->y0 + y) * c->side + (size_t)t->x0, from = y * t->width;
        blend_row(c->r + to, t->r + from, t->a + from, opacity, t->width);
        blend_row(c->g + to, t->g + from, t->a + from, opacity, t->width);
        blend_row(c->b + to, t->b + from, t->a + from, opacity, t->width);
    }
}

rgb canvas_mean(const canvas *c, float x0, float y0, float x1, float y1) {
    rgb sum = {0, 0, 0};
    long last = (long)c->side - 1;
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 8; i++) {
            size_t x = (size_t)clamp_long(x0 + (x1 - x0) * ((float)i + 0.5f) / 8, last);
            size_t y = (size_t)clamp_long(y0 + (y1 - y0) * ((float)j + 0.5f) / 8, last);
            size_t at = y * c->side + x;
            sum.r += c->r[at], sum.g += c->g[at], sum.b += c->b[at];
        }
    rgb mean = {sum.r / 64, sum.g / 64, sum.b / 64};
    return mean;
}
