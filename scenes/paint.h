/* paint.h - what every maker of scenes paints with: a canvas, a tile, colours (random numbers: random.h).
 *
 *     tile t = tile_cut(scratch, side, x0, y0, x1, y1);    // the box that one object fills, clipped to the canvas
 *     shape_paint(&pose, &look, &t);                       // shapes.h
 *     canvas_put(&c, &t, 1);
 *
 * Planes are floats, one a channel, 0..255; alpha is 0..1. Everything is + - * / and sqrt, so the same numbers come out
 * wherever IEEE single precision is kept.
 */
#ifndef PAINT_H
#define PAINT_H
#include "sys/random.h"

/* ---- planes ------------------------------------------------------------------------------------ */
typedef struct { float r, g, b; } rgb;
typedef struct { size_t side; float *r, *g, *b; } canvas; /* [side,side] each, 0..255 */

/* One object's picture: r, g, b premultiplied by a; u its distance in pixels (outside > 0), t the weight of its texture. */
typedef struct {
    long x0, y0;
    size_t width, height;
    float *r, *g, *b, *a, *u, *t, *row; /* [height,width] each; row: scratch, 2 rows */
} tile;

enum { TILE_PLANES = 6 };
/* Floats that tile_cut needs for any box on a canvas of this side. */
static inline size_t tile_room(size_t side) { return side * side * TILE_PLANES + 2 * side; }

static inline float clamp01(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static inline rgb mix(rgb a, rgb b, float t) {
    rgb c = {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
    return c;
}
static inline float luminance(rgb c) { return 0.30f * c.r + 0.59f * c.g + 0.11f * c.b; }

/* sin and cos of an angle in degrees, to 2e-6. */
void sine(float degrees, float *s, float *c);
/* The tile of the box [x0,x1) x [y0,y1) clipped to the canvas, empty of paint; room as tile_room says. */
tile tile_cut(float *room, size_t side, float x0, float y0, float x1, float y1);
/* Tile over canvas; everything is scaled by opacity. */
void canvas_put(canvas *c, const tile *t, float opacity);
/* The mean colour of a box of the canvas, from some 64 samples. */
rgb canvas_mean(const canvas *c, float x0, float y0, float x1, float y1);
#endif
