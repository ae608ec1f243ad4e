/* shapes.c - drawn things as lists of parts, painted row by row from distances (see shapes.h). */
#include "scenes/shapes.h"
#include <math.h>
#include <string.h>

/* ---- parts ------------------------------------------------------------------------------------ */
enum { FORM_OVAL, FORM_BOX, FORM_POLY, FORM_LINE, FORM_RING, FORM_ARC };
enum {
    MAIN, DARK, LIGHT, HOLE, /* shades of the thing's own colour; nothing at all */
    INK, PAPER, CREAM, METAL, STEEL, GLASS, GOLD, WOOD, TAN, CLAY, LEAF, ROSE, RED
};
enum { PART_NUMBERS = 32, MOST_POINTS = PART_NUMBERS / 2 };

typedef struct {
    uint8_t form, role, round, count; /* round: corner radius, outset or half the stroke */
    int8_t v[PART_NUMBERS];
} part;
typedef struct { const char *name; size_t count; const part *parts; } thing;

#define NUMBERS(...) sizeof((int8_t[]){__VA_ARGS__}), {__VA_ARGS__}
#define OVAL(role, ...) {FORM_OVAL, role, 0, NUMBERS(__VA_ARGS__)}       /* centre, radii, angle */
#define BOX(role, round, ...) {FORM_BOX, role, round, NUMBERS(__VA_ARGS__)} /* centre, half sides */
#define POLY(role, round, ...) {FORM_POLY, role, round, NUMBERS(__VA_ARGS__)}
#define LINE(role, round, ...) {FORM_LINE, role, round, NUMBERS(__VA_ARGS__)}
#define RING(role, round, ...) {FORM_RING, role, round, NUMBERS(__VA_ARGS__)} /* centre, radius */
#define ARC(role, round, ...) {FORM_ARC, role, round, NUMBERS(__VA_ARGS__)}   /* centre, radius, from, to in 5 degrees */
#define THING(name, ...) {name, sizeof((part[]){__VA_ARGS__}) / sizeof(part), (const part[]){__VA_ARGS__}},
#include "scenes/things.h"

enum { THINGS = sizeof things / sizeof *things, MARKS = sizeof marks / sizeof *marks };
size_t shape_count(void) { return THINGS; }
size_t mark_count(void) { return MARKS; }
static const thing *thing_at(size_t i) { return i < THINGS ? &things[i] : &marks[(i - THINGS) % MARKS]; }
const char *shape_name(size_t i) { return thing_at(i)->name; }

static rgb role_colour(const shape_look *look, int role) {
    static const rgb fixed[] = {
        [INK] = {34, 32, 40},    [PAPER] = {250, 250, 248}, [CREAM] = {240, 226, 190}, [METAL] = {150, 156, 164},
        [STEEL] = {182, 190, 198}, [GLASS] = {160, 208, 234}, [GOLD] = {246, 200, 60},  [WOOD] = {128, 84, 48},
        [TAN] = {222, 176, 112}, [CLAY] = {190, 96, 60},    [LEAF] = {72, 150, 66},    [ROSE] = {240, 150, 170},
        [RED] = {216, 50, 50}};
    static const rgb white = {255, 255, 255}, black = {0, 0, 0};
    bool dim = luminance(look->colour) < 60;
    switch (role) {
    case MAIN: return look->colour;
    case DARK: return dim ? mix(look->colour, white, 0.22f) : mix(look->colour, black, 0.32f);
    case LIGHT: return mix(look->colour, white, dim ? 0.4f : 0.5f);
    default: return fixed[role];
    }
}

/* ---- from units to pixels --------------------------------------------------------------------- */
/* A part in pixels: for strokes and polygons its points; for ovals and boxes a centre, an axis and two radii. */
typedef struct {
    int form;
    size_t points;
    float x[MOST_POINTS], y[MOST_POINTS];
    float cx, cy, ax, ay, rx, ry, round;
    float x0, y0, x1, y1;
} traced;

typedef struct { float s, c; const shape_pose *pose; } frame;

static frame frame_of(const shape_pose *pose) {
    frame f = {0, 0, pose};
    sine(pose->degrees, &f.s, &f.c);
    return f;
}
static void to_pixels(const frame *f, float x, float y, float *px, float *py) {
    const shape_pose *p = f->pose;
    float u = x * 0.01f * p->wide * p->scale, v = y * 0.01f * p->tall * p->scale;
    *px = p->cx + u * f->c - v * f->s;
    *py = p->cy + u * f->s + v * f->c;
}

static void trace_points(const frame *f, const part *p, traced *t) {
    if (p->form == FORM_ARC) {
        t->points = 11;
        for (size_t i = 0; i < t->points; i++) {
            float s, c, k = (float)i / 10;
            sine(5 * ((float)p->v[3] + k * (float)(p->v[4] - p->v[3])), &s, &c);
            to_pixels(f, (float)p->v[0] + (float)p->v[2] * c, (float)p->v[1] + (float)p->v[2] * s, &t->x[i], &t->y[i]);
        }
        return;
    }
    t->points = p->count / 2;
    for (size_t i = 0; i < t->points; i++) to_pixels(f, p->v[2 * i], p->v[2 * i + 1], &t->x[i], &t->y[i]);
}

static void trace_axes(const frame *f, const part *p, traced *t) {
    const shape_pose *pose = f->pose;
    float s, c, wide = fabsf(pose->wide), unit = 0.01f * pose->scale;
    sine(p->form == FORM_OVAL && p->count > 4 ? p->v[4] : 0, &s, &c);
    if (pose->wide < 0) s = -s;
    to_pixels(f, p->v[0], p->v[1], &t->cx, &t->cy);
    t->ax = c * f->c - s * f->s, t->ay = c * f->s + s * f->c;
    float ry = p->form == FORM_RING ? p->v[2] : p->v[3];
    t->rx = (float)p->v[2] * unit * sqrtf(wide * wide * c * c + pose->tall * pose->tall * s * s);
    t->ry = ry * unit * sqrtf(wide * wide * s * s + pose->tall * pose->tall * c * c);
}

/* Where the part lies, in pixels, its box included. */
static void trace(const frame *f, const part *p, traced *t) {
    float grow = (float)p->round * 0.01f * f->pose->scale;
    t->form = p->form == FORM_ARC ? FORM_LINE : p->form, t->round = grow, t->points = 0;
    if (p->form == FORM_POLY || p->form == FORM_LINE || p->form == FORM_ARC) {
        trace_points(f, p, t);
        t->x0 = t->x1 = t->x[0], t->y0 = t->y1 = t->y[0];
        for (size_t i = 1; i < t->points; i++) {
            t->x0 = t->x[i] < t->x0 ? t->x[i] : t->x0, t->x1 = t->x[i] > t->x1 ? t->x[i] : t->x1;
            t->y0 = t->y[i] < t->y0 ? t->y[i] : t->y0, t->y1 = t->y[i] > t->y1 ? t->y[i] : t->y1;
        }
    } else {
        trace_axes(f, p, t);
        float a = t->rx * t->ax, b = t->ry * t->ay, c = t->rx * t->ay, d = t->ry * t->ax;
        bool oval = p->form != FORM_BOX; /* an ellipse reaches less far than its box does */
        float hx = oval ? sqrtf(a * a + b * b) : fabsf(a) + fabsf(b), hy = oval ? sqrtf(c * c + d * d) : fabsf(c) + fabsf(d);
        t->x0 = t->cx - hx, t->x1 = t->cx + hx, t->y0 = t->cy - hy, t->y1 = t->cy + hy;
        if (p->form == FORM_BOX) grow = 0;
    }
    t->x0 -= grow, t->y0 -= grow, t->x1 += grow, t->y1 += grow;
}

void shape_bounds(const shape_pose *pose, float box[4]) {
    const thing *th = thing_at(pose->thing);
    frame f = frame_of(pose);
    traced t;
    box[0] = box[1] = 1e9f, box[2] = box[3] = -1e9f;
    for (size_t i = 0; i < th->count; i++) {
        if (th->parts[i].role == HOLE) continue;
        trace(&f, &th->parts[i], &t);
        box[0] = t.x0 < box[0] ? t.x0 : box[0], box[1] = t.y0 < box[1] ? t.y0 : box[1];
        box[2] = t.x1 > box[2] ? t.x1 : box[2], box[3] = t.y1 > box[3] ? t.y1 : box[3];
    }
}

/* ---- distances of one row of pixels: d[i] for the pixel centred at (x + i, y) -------------------- */
static void row_oval(const traced *t, float x, float y, float *restrict d, size_t n) {
    float rx = t->rx > 0.3f ? t->rx : 0.3f, ry = t->ry > 0.3f ? t->ry : 0.3f, ix = 1 / rx, iy = 1 / ry;
    for (size_t i = 0; i < n; i++) {
        float dx = x + (float)(int)i - t->cx, dy = y - t->cy;
        float u = (dx * t->ax + dy * t->ay) * ix, v = (dy * t->ax - dx * t->ay) * iy;
        /* |p/r| (|p/r| - 1) / |p/r^2|: the distance to first order, from the gradient of the implicit form. */
        float k = sqrtf(u * u + v * v), g = sqrtf(u * u * ix * ix + v * v * iy * iy) + 1e-6f;
        d[i] = k * (k - 1) / g - (k < 1e-3f ? (rx < ry ? rx : ry) : 0);
    }
}
static void row_ring(const traced *t, float x, float y, float *restrict d, size_t n) {
    row_oval(t, x, y, d, n);
    for (size_t i = 0; i < n; i++) d[i] = fabsf(d[i]) - t->round;
}
static void row_box(const traced *t, float x, float y, float *restrict d, size_t n) {
    float least = t->rx < t->ry ? t->rx : t->ry, r = t->round < least ? t->round : least;
    for (size_t i = 0; i < n; i++) {
        float dx = x + (float)(int)i - t->cx, dy = y - t->cy;
        float u = fabsf(dx * t->ax + dy * t->ay) - t->rx + r, v = fabsf(dy * t->ax - dx * t->ay) - t->ry + r;
        float pu = u > 0 ? u : 0, pv = v > 0 ? v : 0, in = u > v ? u : v;
        d[i] = sqrtf(pu * pu + pv * pv) + (in < 0 ? in : 0) - r;
    }
}
/* Squared distance to the segment a-b, where nearer than what d holds. */
static void row_segment(float ax, float ay, float bx, float by, float x, float y, float *restrict d, size_t n) {
    float ex = bx - ax, ey = by - ay, inverse = 1 / (ex * ex + ey * ey + 1e-9f), py = y - ay;
    for (size_t i = 0; i < n; i++) {
        float px = x + (float)(int)i - ax, h = (px * ex + py * ey) * inverse;
        h = h < 0 ? 0 : h > 1 ? 1 : h;
        float qx = px - ex * h, qy = py - ey * h, q = qx * qx + qy * qy;
        d[i] = q < d[i] ? q : d[i];
    }
}
static void row_line(const traced *t, float x, float y, float *restrict d, size_t n) {
    for (size_t i = 0; i < n; i++) d[i] = 1e9f;
    for (size_t k = 0; k + 1 < t->points; k++) row_segment(t->x[k], t->y[k], t->x[k + 1], t->y[k + 1], x, y, d, n);
    for (size_t i = 0; i < n; i++) d[i] = sqrtf(d[i]) - t->round;
}
static void row_poly(const traced *t, float x, float y, float *restrict d, float *restrict sign, size_t n) {
    for (size_t i = 0; i < n; i++) d[i] = 1e9f, sign[i] = 1;
    for (size_t k = 0, j = t->points - 1; k < t->points; j = k++) {
        float ax = t->x[j], ay = t->y[j], bx = t->x[k], by = t->y[k];
        row_segment(ax, ay, bx, by, x, y, d, n);
        if ((ay > y) == (by > y)) continue;
        float cross = ax + (bx - ax) * (y - ay) / (by - ay); /* even-odd: what lies left of the edge changes sides */
        for (size_t i = 0; i < n; i++) sign[i] = x + (float)(int)i < cross ? -sign[i] : sign[i];
    }
    for (size_t i = 0; i < n; i++) d[i] = sqrtf(d[i]) * sign[i] - t->round;
}
static void row_distance(const traced *t, float x, float y, float *d, float *scratch, size_t n) {
    switch (t->form) {
    case FORM_OVAL: row_oval(t, x, y, d, n); break;
    case FORM_RING: row_ring(t, x, y, d, n); break;
    case FORM_BOX: row_box(t, x, y, d, n); break;
    case FORM_POLY: row_poly(t, x, y, d, scratch, n); break;
    default: row_line(t, x, y, d, n); break;
    }
}

/* ---- textures ----------------------------------------------------------------------------------- */
/* 0..1 wave of period 1, its edges as soft as one pixel; pixels: how many a period is. */
static float square_wave(float x, float pixels) {
    float f = x + 256;
    f -= (float)(int)f;
    float tri = fabsf(f - 0.5f) * 2;
    return clamp01(0.5f + (tri - 0.5f) * pixels * 0.5f);
}
static float dots(float u, float v, float pixels) {
    float a = u + 256, b = v + 256;
    a = a - (float)(int)a - 0.5f, b = b - (float)(int)b - 0.5f;
    return clamp01(0.5f + (0.31f - sqrtf(a * a + b * b)) * pixels);
}
static void texture_paint(const shape_pose *pose, const shape_look *look, tile *t) {
    float s, c, pixels = look->period * pose->scale, k = 1 / pixels;
    sine(pose->degrees + look->turn, &s, &c);
    for (size_t y = 0; y < t->height; y++) {
        float dy = (float)t->y0 + (float)y + 0.5f - pose->cy, *row = t->t + y * t->width;
        for (size_t x = 0; x < t->width; x++) {
            float dx = (float)t->x0 + (float)(int)x + 0.5f - pose->cx;
            float u = (dx * c + dy * s) * k + look->phase, v = (dy * c - dx * s) * k + look->phase;
            float p = square_wave(u, pixels), q = square_wave(v, pixels);
            row[x] = look->texture == TEXTURE_STRIPED   ? q
                     : look->texture == TEXTURE_CHECKED ? p * (1 - q) + q * (1 - p)
                                                        : dots(u, v, pixels);
        }
    }
}

/* ---- painting ----------------------------------------------------------------------------------- */
static void row_cut(tile *t, size_t at, const float *restrict d, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float keep = 1 - clamp01(0.5f - d[i]);
        t->r[at + i] *= keep, t->g[at + i] *= keep, t->b[at + i] *= keep, t->a[at + i] *= keep;
        t->u[at + i] = -d[i] > t->u[at + i] ? -d[i] : t->u[at + i];
    }
}
static void row_cover(float *restrict to, const float *restrict d, float colour, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += (colour - to[i]) * clamp01(0.5f - d[i]);
}
static void row_textured(float *restrict to, const float *restrict d, const float *restrict w, float a, float b, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += (a + (b - a) * w[i] - to[i]) * clamp01(0.5f - d[i]);
}
static void row_nearest(float *restrict u, const float *restrict d, size_t n) {
    for (size_t i = 0; i < n; i++) u[i] = d[i] < u[i] ? d[i] : u[i];
}

static void part_paint(const frame *f, const part *p, const shape_look *look, tile *t) {
    traced tr;
    trace(f, p, &tr);
    float margin = 1.5f + look->outline, left = tr.x0 - margin - (float)t->x0, top = tr.y0 - margin - (float)t->y0;
    float right = tr.x1 + margin - (float)t->x0, bottom = tr.y1 + margin - (float)t->y0;
    size_t x0 = left > 0 ? (size_t)left : 0, y0 = top > 0 ? (size_t)top : 0;
    size_t x1 = right < 0 ? 0 : right < (float)t->width ? (size_t)right : t->width;
    size_t y1 = bottom < 0 ? 0 : bottom < (float)t->height ? (size_t)bottom : t->height;
    if (x1 <= x0) return;
    rgb c = role_colour(look, p->role), s = look->second;
    bool textured = p->role == MAIN && look->texture != TEXTURE_PLAIN;
    float *d = t->row;
    for (size_t y = y0; y < y1; y++) {
        size_t at = y * t->width + x0, n = x1 - x0;
        row_distance(&tr, (float)t->x0 + (float)x0 + 0.5f, (float)t->y0 + (float)y + 0.5f, d, t->row + t->width, n);
        if (p->role == HOLE) {
            row_cut(t, at, d, n);
            continue;
        }
        if (textured) {
            row_textured(t->r + at, d, t->t + at, c.r, s.r, n);
            row_textured(t->g + at, d, t->t + at, c.g, s.g, n);
            row_textured(t->b + at, d, t->t + at, c.b, s.b, n);
        } else {
            row_cover(t->r + at, d, c.r, n), row_cover(t->g + at, d, c.g, n), row_cover(t->b + at, d, c.b, n);
        }
        row_cover(t->a + at, d, 1, n);
        row_nearest(t->u + at, d, n);
    }
}

static void outline_paint(const shape_look *look, tile *t) {
    for (size_t i = 0; i < t->width * t->height; i++) {
        float cover = clamp01(0.5f + look->outline - t->u[i]) * (1 - t->a[i]);
        t->r[i] += look->edge.r * cover, t->g[i] += look->edge.g * cover, t->b[i] += look->edge.b * cover;
        t->a[i] += cover;
    }
}

void shape_paint(const shape_pose *pose, const shape_look *look, tile *t) {
    const thing *th = thing_at(pose->thing);
    frame f = frame_of(pose);
    if (look->texture != TEXTURE_PLAIN) texture_paint(pose, look, t);
    for (size_t i = 0; i < th->count; i++) part_paint(&f, &th->parts[i], look, t);
    if (look->outline > 0) outline_paint(look, t);
}
