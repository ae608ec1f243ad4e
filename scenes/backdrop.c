/* backdrop.c - backgrounds, made of two colours and a weight for each pixel, then clouds, clutter and grain. */
#include "scenes/backdrop.h"
#include "scenes/shapes.h"

static rgb any_colour(rng *r, float low, float high, float spread) {
    float l = rng_range(r, low, high);
    rgb c = {255 * clamp01(l + rng_range(r, -spread, spread)), 255 * clamp01(l + rng_range(r, -spread, spread)),
             255 * clamp01(l + rng_range(r, -spread, spread))};
    return c;
}

/* ---- weights: one number in 0..1 a pixel ------------------------------------------------------- */
static void weight_gradient(float *w, size_t side, rng *r) {
    float s, c, k = 1 / (float)side;
    sine(rng_range(r, 0, 360), &s, &c);
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++)
            w[y * side + x] = clamp01(0.5f + (((float)(int)x * k - 0.5f) * c + ((float)(int)y * k - 0.5f) * s) * 0.9f);
}
static void weight_radial(float *w, size_t side, rng *r) {
    float cx = rng_unit(r), cy = rng_unit(r), k = 1 / (float)side, f = rng_range(r, 0.9f, 1.8f);
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++) {
            float dx = (float)(int)x * k - cx, dy = (float)(int)y * k - cy;
            float q = (dx * dx + dy * dy) * f;
            w[y * side + x] = q < 1 ? q : 1;
        }
}
static void weight_stripes(float *w, size_t side, rng *r, bool checks) {
    float s, c, k = rng_range(r, 3, 9) / (float)side, soft = rng_range(r, 2, 12), depth = rng_range(r, 0.3f, 1);
    sine(rng_range(r, 0, 180), &s, &c);
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++) {
            float u = ((float)(int)x * c + (float)(int)y * s) * k + 64, v = ((float)(int)y * c - (float)(int)x * s) * k + 64;
            u -= (float)(int)u, v -= (float)(int)v;
            u = (u < 0.5f ? u : 1 - u) * 4 - 1, v = checks ? (v < 0.5f ? v : 1 - v) * 4 - 1 : 1;
            w[y * side + x] = clamp01(0.5f + u * v * soft) * depth;
        }
}
static void weight_horizon(float *w, size_t side, rng *r) {
    float line = rng_range(r, 0.35f, 0.8f) * (float)side, tilt = rng_range(r, -0.15f, 0.15f), fade = rng_range(r, 0, 0.4f);
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++) {
            float d = (float)(int)y - line - tilt * (float)(int)x;
            w[y * side + x] = clamp01(clamp01(d) - (d > 0 ? fade * d : -fade * d) / (float)side * (d > 0 ? 1.0f : -1.0f));
        }
}
/* Smooth value noise, cells across the picture; added to w with the amplitude. */
static void add_noise(float *w, size_t side, rng *r, size_t cells, float amplitude) {
    enum { MOST = 18 };
    float grid[MOST][MOST], step = (float)cells / (float)side;
    for (size_t j = 0; j < cells + 2; j++)
        for (size_t i = 0; i < cells + 2; i++) grid[j][i] = rng_unit(r) * amplitude;
    for (size_t y = 0; y < side; y++) {
        float fy = (float)(int)y * step, line[MOST];
        size_t j = (size_t)fy;
        fy -= (float)(int)j, fy = fy * fy * (3 - 2 * fy);
        for (size_t i = 0; i < cells + 2; i++) line[i] = grid[j][i] + (grid[j + 1][i] - grid[j][i]) * fy;
        for (size_t x = 0; x < side; x++) {
            float fx = (float)(int)x * step;
            size_t i = (size_t)fx;
            fx -= (float)(int)i, fx = fx * fx * (3 - 2 * fx);
            w[y * side + x] += line[i] + (line[i + 1] - line[i]) * fx;
        }
    }
}

/* ---- layers ------------------------------------------------------------------------------------- */
static void fill(canvas *c, rgb a, rgb b, const float *w) {
    for (size_t i = 0; i < c->side * c->side; i++) {
        c->r[i] = a.r + (b.r - a.r) * w[i], c->g[i] = a.g + (b.g - a.g) * w[i], c->b[i] = a.b + (b.b - a.b) * w[i];
    }
}
/* Clouds of a third colour, where the noise is high. */
static void clouds(canvas *c, rng *r, rgb colour, float *w) {
    size_t n = c->side * c->side;
    for (size_t i = 0; i < n; i++) w[i] = 0;
    add_noise(w, c->side, r, 2 + rng_below(r, 5), 1);
    float edge = rng_range(r, 0.4f, 0.7f), hard = rng_range(r, 1.5f, 8);
    for (size_t i = 0; i < n; i++) {
        float t = clamp01((w[i] - edge) * hard);
        c->r[i] += (colour.r - c->r[i]) * t, c->g[i] += (colour.g - c->g[i]) * t, c->b[i] += (colour.b - c->b[i]) * t;
    }
}
/* Rough ground: fine noise on each channel alike. */
static void rough(canvas *c, rng *r, float *w) {
    size_t n = c->side * c->side;
    float amplitude = rng_range(r, 10, 60);
    for (size_t i = 0; i < n; i++) w[i] = 0;
    add_noise(w, c->side, r, 6 + rng_below(r, 4), amplitude);
    add_noise(w, c->side, r, 12 + rng_below(r, 5), amplitude * 0.6f);
    for (size_t i = 0; i < n; i++) {
        float t = w[i] - amplitude * 0.8f;
        c->r[i] += t, c->g[i] += t, c->b[i] += t;
    }
}
static void clutter(canvas *c, rng *r, float *room) {
    float side = (float)c->side;
    for (size_t k = rng_below(r, 8); k > 0; k--) {
        shape_pose p = {shape_count() + rng_below(r, mark_count()), side * rng_range(r, 0.02f, 0.06f), side * rng_unit(r),
                        side * rng_unit(r), rng_range(r, 0, 360), 1, rng_range(r, 0.5f, 1)};
        shape_look look = {.colour = any_colour(r, 0.1f, 0.95f, 0.3f), .texture = TEXTURE_PLAIN};
        float box[4], opacity = rng_range(r, 0.4f, 0.95f);
        shape_bounds(&p, box);
        tile t = tile_cut(room, c->side, box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1);
        shape_paint(&p, &look, &t);
        canvas_put(c, &t, opacity);
    }
}
static void grain(canvas *c, rng *r) {
    float amplitude = rng_range(r, 0, 12) / 255;
    for (size_t i = 0; i < c->side * c->side; i++) {
        uint64_t bits = rng_next(r);
        c->r[i] += ((float)(int)(bits & 255) - 127.5f) * amplitude;
        c->g[i] += ((float)(int)((bits >> 8) & 255) - 127.5f) * amplitude;
        c->b[i] += ((float)(int)((bits >> 16) & 255) - 127.5f) * amplitude;
    }
}

void backdrop_paint(canvas *c, rng *r, const stamp_book *book, float *room) {
    rgb a = any_colour(r, 0.1f, 0.95f, 0.22f), b = any_colour(r, 0.1f, 0.95f, 0.22f);
    if (rng_chance(r, 0.5f)) b = mix(a, b, rng_range(r, 0.15f, 0.5f)); /* often two near colours */
    float *w = room;
    switch (rng_below(r, 7)) {
    case 0: weight_radial(w, c->side, r); break;
    case 1: weight_stripes(w, c->side, r, false); break;
    case 2: weight_stripes(w, c->side, r, true); break;
    case 3: weight_horizon(w, c->side, r); break;
    default: weight_gradient(w, c->side, r); break;
    }
    fill(c, a, b, w);
    if (book != NULL && rng_chance(r, 0.35f)) stamp_smear(book, r, c, rng_range(r, 0.4f, 1));
    if (rng_chance(r, 0.5f)) clouds(c, r, any_colour(r, 0.1f, 0.95f, 0.3f), w);
    if (rng_chance(r, book != NULL ? 0.6f : 0.25f)) rough(c, r, w);
    if (rng_chance(r, 0.7f)) clutter(c, r, room);
    if (rng_chance(r, 0.6f)) grain(c, r);
    for (size_t i = 0; i < c->side * c->side; i++) {
        c->r[i] = 255 * clamp01(c->r[i] * (1.0f / 255)), c->g[i] = 255 * clamp01(c->g[i] * (1.0f / 255));
        c->b[i] = 255 * clamp01(c->b[i] * (1.0f / 255));
    }
}
