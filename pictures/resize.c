/* resize.c - pictures resized as Pillow does it, and turned into what the network sees (see image.h).
 *
 * picture -> resize_window (horizontal pass, vertical pass) -> normalised pixels
 */
#include "pictures/image.h"
#include <math.h>
#include <string.h>

/* ---- filters, (1.2): Pillow's fixed point, byte for byte -------------------------------------------- */
enum { FIXED_BITS = 22, HALF_BITS = 12, LANES = 8, BLOCK_TAPS = 1024 };

static double bicubic(double x) { /* a = -1/2 */
    x = fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return -0.5 * (((x - 5) * x + 8) * x - 4);
    return 0;
}

static double triangle(double x) { return fabs(x) < 1 ? 1 - fabs(x) : 0; }

typedef struct {
    double (*at)(double);
    double support;
} filter;
static const filter BICUBIC = {bicubic, 2}, BILINEAR = {triangle, 1};

/* Outputs at .. at + count of an axis: output i is the sum over k < many[i] of weight[i * taps + k] * input[first[i] +
 * k]. taps is a multiple of LANES, weights beyond many[i] are 0. */
typedef struct {
    size_t taps, *first, *many;
    int32_t *weight;
} axis;

static void axis_free(axis *a) {
    mem_free(a->first);
    mem_free(a->many);
    mem_free(a->weight);
}

static void axis_output(const axis *a, size_t i, double centre, const filter *f, double scale, size_t in, double *w) {
    double support = f->support * scale, low = centre - support + 0.5, high = centre + support + 0.5, sum = 0;
    size_t first = low > 0 ? (size_t)low : 0, end = high < (double)in ? (size_t)high : in;
    for (size_t k = 0; k < end - first; k++) sum += w[k] = f->at(((double)(k + first) - centre + 0.5) * (1 / scale));
    for (size_t k = 0; k < end - first; k++) {
        double fixed = w[k] / (sum != 0 ? sum : 1) * (1 << FIXED_BITS);
        a->weight[i * a->taps + k] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    a->first[i] = first;
    a->many[i] = end - first;
}

static bool axis_make(axis *a, const filter *f, size_t in, size_t out, size_t at, size_t count) {
    double step = (double)in / (double)out, scale = step > 1 ? step : 1, support = f->support * scale;
    size_t taps = (size_t)ceil(support) * 2 + 1;
    *a = (axis){.taps = (taps + LANES - 1) / LANES * LANES};
    double *w = mem_alloc(a->taps, sizeof *w);
    a->first = mem_alloc(count, sizeof *a->first);
    a->many = mem_alloc(count, sizeof *a->many);
    a->weight = size_mul(count, a->taps, &taps) ? mem_alloc(taps, sizeof *a->weight) : NULL;
    bool ok = w && a->first && a->many && a->weight;
    for (size_t i = 0; ok && i < count; i++) axis_output(a, i, ((double)(at + i) + 0.5) * step, f, scale, in, w);
    mem_free(w);
    if (!ok) axis_free(a);
    return ok;
}

static unsigned char clip8(int32_t v) {
    return v < 0 ? 0 : v >> FIXED_BITS > 255 ? 255 : (unsigned char)(v >> FIXED_BITS);
}

/* The weights split in two 16-bit halves, w = high * 2^12 + low: products of 16-bit numbers summed in 32 bits are what
 * every vector unit does best. The sums of a block of taps fit; blocks are put together modulo 2^32. */
static int32_t dot(const int16_t *pixel, const int16_t *high, const int16_t *low, size_t taps) {
    uint32_t total = 1u << (FIXED_BITS - 1);
    for (size_t at = 0; at < taps; at += BLOCK_TAPS) {
        size_t end = at + BLOCK_TAPS < taps ? at + BLOCK_TAPS : taps;
        int32_t h = 0, l = 0;
        for (size_t k = at; k < end; k++) {
            h += pixel[k] * high[k];
            l += pixel[k] * low[k];
        }
        total += ((uint32_t)h << HALF_BITS) + (uint32_t)l;
    }
    return (int32_t)total;
}

/* [rows, width, 3] from row `top` on -> out [rows, count, 3]; false: no memory. */
static bool pass_across(const picture *p, size_t top, size_t rows, const axis *a, size_t count, unsigned char *out) {
    size_t all = count * a->taps, stride = p->width + a->taps; /* zeros follow each plane of a row */
    int16_t *split = mem_alloc(all, 2 * sizeof *split), *planes = mem_alloc(stride, 3 * sizeof *planes);
    bool ok = split && planes;
    for (size_t i = 0; ok && i < all; i++) {
        int32_t low = a->weight[i] & ((1 << HALF_BITS) - 1);
        split[i] = (int16_t)((a->weight[i] - low) / (1 << HALF_BITS));
        split[all + i] = (int16_t)low;
    }
    for (size_t y = 0; ok && y < rows; y++, out += count * 3) {
        const unsigned char *row = p->rgb + (top + y) * p->width * 3;
        for (size_t x = 0; x < p->width; x++)
            for (size_t c = 0; c < 3; c++) planes[c * stride + x] = row[x * 3 + c];
        for (size_t i = 0; i < count; i++)
            for (size_t c = 0; c < 3; c++)
                out[i * 3 + c] = clip8(
                    dot(planes + c * stride + a->first[i], split + i * a->taps, split + all + i * a->taps, a->taps));
    }
    mem_free(split);
    mem_free(planes);
    return ok;
}

/* in [.., n] from row `top` on -> out [count, n]; false: no memory. */
static bool pass_down(const unsigned char *in, size_t n, size_t top, const axis *a, size_t count, unsigned char *out) {
    int32_t *sum = mem_alloc(n, sizeof *sum);
    bool ok = sum != NULL;
    for (size_t y = 0; ok && y < count; y++, out += n) {
        for (size_t x = 0; x < n; x++) sum[x] = 1 << (FIXED_BITS - 1);
        for (size_t k = 0; k < a->many[y]; k++) {
            const unsigned char *row = in + (a->first[y] + k - top) * n;
            int32_t w = a->weight[y * a->taps + k];
            for (size_t x = 0; x < n; x++) sum[x] += w * row[x];
        }
        for (size_t x = 0; x < n; x++) out[x] = clip8(sum[x]);
    }
    mem_free(sum);
    return ok;
}

typedef struct {
    size_t x, y, width, height;
} window;

/* What `view` shows of p resized to width x height; rows and columns outside cost nothing. An axis that keeps its size
 * has weights 1 and 0, so Pillow's shortcut for it needs none here. */
static bool resize_window(const picture *p, const filter *f, size_t width, size_t height, window view, picture *out, err *e) {
    axis across = {0}, down = {0};
    unsigned char *middle = NULL;
    if (!picture_new(view.width, view.height, out, e)) return false;
    if (width == p->width && height == p->height) {
        for (size_t y = 0; y < view.height; y++)
            memcpy(out->rgb + y * view.width * 3, p->rgb + ((view.y + y) * width + view.x) * 3, view.width * 3);
        return true;
    }
    bool ok = axis_make(&across, f, p->width, width, view.x, view.width);
    if (ok && !(ok = axis_make(&down, f, p->height, height, view.y, view.height))) axis_free(&across);
    if (ok) {
        size_t last = view.height - 1, top = down.first[0], rows = down.first[last] + down.many[last] - top, bytes;
        if (size_mul(rows, view.width * 3, &bytes)) middle = mem_alloc(bytes, 1);
        ok = middle && pass_across(p, top, rows, &across, view.width, middle) &&
             pass_down(middle, view.width * 3, top, &down, view.height, out->rgb);
        axis_free(&across);
        axis_free(&down);
        mem_free(middle);
    }
    if (ok) return true;
    picture_free(out);
    return err_set(e, "no memory to resize a picture of %zux%zu pixels to %zux%zu", p->width, p->height, width, height);
}

bool picture_resize(const picture *p, size_t width, size_t height, picture *out, err *e) {
    return resize_window(p, &BICUBIC, width, height, (window){0, 0, width, height}, out, e);
}

/* ---- what the network sees ----------------------------------------------------------------------------- */
static real *normalised(picture *p, const real *mean, const real *std, err *e) {
    size_t n = p->width * p->height;
    real table[3][256], *pixels = mem_alloc(n, 3 * sizeof *pixels);
    for (size_t c = 0; c < 3; c++)
        for (size_t v = 0; v < 256; v++) table[c][v] = (real)(((real)v / (real)255 - mean[c]) / std[c]);
    for (size_t c = 0; pixels && c < 3; c++)
        for (size_t i = 0; i < n; i++) pixels[c * n + i] = table[c][p->rgb[i * 3 + c]];
    if (!pixels) err_set(e, "no memory for the pixels of %zux%zu", p->width, p->height);
    picture_free(p);
    return pixels;
}

real *pixels_squash(const picture *p, size_t side, const real *mean, const real *std, err *e) {
    picture square;
    return picture_resize(p, side, side, &square, e) ? normalised(&square, mean, std, e) : NULL;
}

real *pixels_bilinear(const picture *p, size_t width, size_t height, const real *mean, const real *std, err *e) {
    picture small;
    return resize_window(p, &BILINEAR, width, height, (window){0, 0, width, height}, &small, e)
               ? normalised(&small, mean, std, e)
               : NULL;
}

/* int(round(difference / 2)), half to even (open_clip), or difference // 2 (Hugging Face). */
static size_t crop_start(size_t difference, bool down) {
    size_t half = difference / 2;
    return half + (!down && difference % 2 && half % 2);
}

/* The sides that p is resized to before the crop; both at least `side`. False: p is too small for it, or too large. */
static bool sides_before_crop(const picture *p, size_t side, const clip_config *c, size_t *width, size_t *height) {
    size_t shorter = p->width < p->height ? p->width : p->height, to = side;
    if (c->pixels.side) to = (size_t)lrint((double)side * (double)c->pixels.side / (double)c->image);
    *width = *height = to;
    if (c->pixels.resize == RESIZE_NONE) *width = p->width, *height = p->height;
    if (c->pixels.resize == RESIZE_SHORTEST) {
        if (!size_mul(to, p->width, width) || !size_mul(to, p->height, height)) return false;
        *width /= shorter; /* `to` for the shorter, int(to * long / short) for the other */
        *height /= shorter;
    }
    return *width >= side && *height >= side;
}

/* The longer side to `side`, centred, the rest filled. */
static bool resize_longest(const picture *p, const filter *f, size_t side, const clip_pixels *how, picture *out, err *e) {
    double ratio = (double)(p->width > p->height ? p->width : p->height) / (double)side;
    size_t w = (size_t)lrint((double)p->width / ratio), h = (size_t)lrint((double)p->height / ratio);
    picture small;
    if (!w) w = 1;
    if (!h) h = 1;
    if (!resize_window(p, f, w, h, (window){0, 0, w, h}, &small, e)) return false;
    bool ok = picture_new(side, side, out, e);
    for (size_t i = 0; ok && i < side * side * 3; i++) out->rgb[i] = how->fill[i % 3];
    for (size_t y = 0; ok && y < h; y++)
        memcpy(out->rgb + (((side - h) / 2 + y) * side + (side - w) / 2) * 3, small.rgb + y * w * 3, w * 3);
    picture_free(&small);
    return ok;
}

real *pixels_own(const picture *p, size_t side, const clip_config *c, err *e) {
    const filter *f = c->pixels.bilinear ? &BILINEAR : &BICUBIC;
    size_t width, height;
    picture square;
    if (c->pixels.resize == RESIZE_LONGEST) {
        if (!resize_longest(p, f, side, &c->pixels, &square, e)) return NULL;
        return normalised(&square, c->mean, c->std, e);
    }
    if (!sides_before_crop(p, side, c, &width, &height)) {
        err_set(e, "a picture of %zux%zu pixels cannot be cropped to %zu", p->width, p->height, side);
        return NULL;
    }
    window centre = {crop_start(width - side, c->pixels.crop_down), crop_start(height - side, c->pixels.crop_down), side,
                     side};
    return resize_window(p, f, width, height, centre, &square, e) ? normalised(&square, c->mean, c->std, e) : NULL;
}

real *pixels_crop(const picture *p, size_t side, const real *mean, const real *std, err *e) {
    clip_config standard = {.image = side};
    memcpy(standard.mean, mean, sizeof standard.mean);
    memcpy(standard.std, std, sizeof standard.std);
    return pixels_own(p, side, &standard, e);
}

/* ---- AlphaCLIP's region, (1.15) --------------------------------------------------------------------------- */
/* Output i of `out` from n numbers that lie `step` apart: Pillow's triangle, its weights not rounded, as torch has it. */
static real weighed(const real *in, size_t n, size_t step, size_t out, size_t i) {
    double ratio = (double)n / (double)out, scale = ratio > 1 ? ratio : 1, centre = ((double)i + 0.5) * ratio, sum = 0, all = 0;
    double low = centre - scale + 0.5, high = centre + scale + 0.5;
    size_t first = low > 0 ? (size_t)low : 0, end = high < (double)n ? (size_t)high : n;
    for (size_t k = first; k < end; k++) {
        double w = triangle(((double)k - centre + 0.5) / scale);
        sum += w * (double)in[k * step], all += w;
    }
    return (real)(sum / (all > 0 ? all : 1));
}

real *pixels_alpha(const mask_image *mask, size_t side, err *e) {
    real *out = mem_alloc(side, side * sizeof *out), *rows = mem_alloc(mask->height, side * sizeof *rows);
    bool ok = out && rows;
    for (size_t i = 0; ok && i < mask->height * side; i++)
        rows[i] = weighed(mask->soft + i / side * mask->width, mask->width, 1, side, i % side);
    for (size_t i = 0; ok && i < side * side; i++)
        out[i] = (weighed(rows + i % side, mask->height, side, side, i / side) - (real).5) / (real).26;
    mem_free(rows);
    if (ok) return out;
    mem_free(out);
    err_set(e, "no memory for a region of %zux%zu pixels", side, side);
    return NULL;
}

/* ---- maps ------------------------------------------------------------------------------------------------ */
enum { STRIP = 256 };

/* Where output i falls between two inputs: half-pixel centres, clamped to the first. */
static real between(size_t i, double step, size_t in, size_t *low, size_t *high) {
    double at = ((double)i + 0.5) * step - 0.5;
    if (at < 0) at = 0;
    *low = (size_t)at < in ? (size_t)at : in - 1;
    *high = *low + 1 < in ? *low + 1 : *low;
    return (real)(at - (double)*low);
}

/* In strips of columns, whose places are worked out once. */
void map_resize(const real *in, size_t height, size_t width, real *out, size_t oh, size_t ow) {
    double across = (double)width / (double)ow, down = (double)height / (double)oh;
    for (size_t left = 0; left < ow; left += STRIP) {
        size_t n = ow - left < STRIP ? ow - left : STRIP, x0[STRIP], x1[STRIP], y0, y1;
        real fx[STRIP];
        for (size_t x = 0; x < n; x++) fx[x] = between(left + x, across, width, &x0[x], &x1[x]);
        for (size_t y = 0; y < oh; y++) {
            real fy = between(y, down, height, &y0, &y1), *to = out + y * ow + left;
            const real *above = in + y0 * width, *below = in + y1 * width;
            for (size_t x = 0; x < n; x++) {
                real top = above[x0[x]] * (1 - fx[x]) + above[x1[x]] * fx[x];
                real bottom = below[x0[x]] * (1 - fx[x]) + below[x1[x]] * fx[x];
                to[x] = top * (1 - fy) + bottom * fy;
            }
        }
    }
}
