/* world.c - whose world a picture, or a word, is of (see world.h). Equations: MODEL.md 20. */
#include "regions/world.h"
#include "os/os.h"
#include "regions/world_data.h"
#include "regions/world_words.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- detail: the mixed second difference d = x - x_right - x_below + x_diagonal, which ramps and flat ground do not have --------- */
typedef struct {
    size_t width, height;
    float *rgb; /* [height,width,3] */
} plane;

enum { BLOCK = 8 };

static int rises(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* One block's energy of d over the colours, and of their mean. */
static void block_energy(const plane *p, size_t x0, size_t y0, float *all, float *grey) {
    double sum = 0, mean = 0;
    for (size_t y = y0; y < y0 + BLOCK; y++)
        for (size_t x = x0; x < x0 + BLOCK; x++) {
            const float *a = p->rgb + (y * p->width + x) * 3, *b = a + p->width * 3;
            double d[3];
            for (int c = 0; c < 3; c++) d[c] = (double)(a[c] - a[c + 3] - b[c] + b[c + 3]);
            double m = (d[0] + d[1] + d[2]) / 3;
            sum += d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            mean += m * m;
        }
    *all = (float)(sum / (3 * BLOCK * BLOCK));
    *grey = (float)(mean / (BLOCK * BLOCK));
}

/* (20.1)  quantiles of the blocks' energies, how alike the colours are in the calmer half (1: the same, 1/3: independent), the
 * share of flat blocks, the mean */
static bool scale_features(const plane *p, double out[WORLD_DETAILS], err *e) {
    size_t cols = p->width ? (p->width - 1) / BLOCK : 0, rows = p->height ? (p->height - 1) / BLOCK : 0, n = cols * rows;
    memset(out, 0, WORLD_DETAILS * sizeof *out);
    if (!n) return true;
    float *all = mem_alloc(n, 3 * sizeof *all), *sorted = all + n, *grey = all + 2 * n;
    if (!all) return err_set(e, "no memory for %zu blocks", n);
    double sum = 0, flat = 0, half = 0, half_grey = 0;
    for (size_t i = 0; i < n; i++) {
        block_energy(p, i % cols * BLOCK, i / cols * BLOCK, &all[i], &grey[i]);
        sum += (double)all[i], flat += all[i] < 0.02f;
    }
    memcpy(sorted, all, n * sizeof *all);
    qsort(sorted, n, sizeof *sorted, rises);
    static const double quantile[4] = {0.1, 0.25, 0.5, 0.75};
    for (int q = 0; q < 4; q++) out[q] = log10((double)sorted[(size_t)(quantile[q] * (double)(n - 1) + 0.5)] + 0.1);
    for (size_t i = 0; i < n; i++)
        if (all[i] <= sorted[(n - 1) / 2]) half += (double)all[i], half_grey += (double)grey[i];
    out[4] = half_grey / (half + 1e-9);
    out[5] = flat / (double)n;
    out[6] = log10(sum / (double)n + 0.1);
    mem_free(all);
    return true;
}

static void halve(plane *p) {
    size_t w = p->width / 2, h = p->height / 2;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            for (size_t c = 0; c < 3; c++) {
                const float *a = p->rgb + (2 * y * p->width + 2 * x) * 3 + c, *b = a + p->width * 3;
                p->rgb[(y * w + x) * 3 + c] = (a[0] + a[3] + b[0] + b[3]) / 4;
            }
    p->width = w, p->height = h;
}

/* At the picture's own scale, at 1/2 and 1/4; of large pictures the middle 1024 x 1024. */
static bool detail_features(const picture *photo, double *out, err *e) {
    enum { MOST = 1024 };
    plane p = {photo->width < MOST ? photo->width : MOST, photo->height < MOST ? photo->height : MOST, NULL};
    size_t left = (photo->width - p.width) / 2, top = (photo->height - p.height) / 2;
    if (!(p.rgb = mem_alloc(p.width * p.height, 3 * sizeof *p.rgb))) return err_set(e, "no memory for a picture's detail");
    for (size_t y = 0; y < p.height; y++)
        for (size_t i = 0; i < 3 * p.width; i++)
            p.rgb[y * p.width * 3 + i] = (float)photo->rgb[((top + y) * photo->width + left) * 3 + i];
    bool ok = true;
    for (size_t s = 0; ok && s < WORLD_SCALES; s++) {
        if (s) halve(&p);
        ok = scale_features(&p, out + s * WORLD_DETAILS, e);
    }
    mem_free(p.rgb);
    return ok;
}

/* ---- patches: mean and deviation of each component over the patches after blocks 3 and 6 ---------------------------------- */
static void patch_spread(const ag_tensor *x, size_t first, double *mean, double *deviation) {
    size_t n = x->rows - first;
    for (size_t c = 0; c < WORLD_WIDTH; c++) {
        double sum = 0, squares = 0;
        for (size_t i = first; i < x->rows; i++) {
            double v = (double)x->data[i * x->cols + c];
            sum += v, squares += v * v;
        }
        mean[c] = sum / (double)n;
        deviation[c] = sqrt(fmax(0, squares / (double)n - mean[c] * mean[c]));
    }
}

static bool patch_features(const clip_model *m, const real *pixels, arena *memory, pool *cores, double *out, err *e) {
    const clip_config *c = &m->config;
    size_t grid = c->image / c->patch, half = c->vision.layers / 2, mark = arena_mark(memory);
    ag_tape t;
    memset(&t, 0, sizeof t);
    if (!ag_tape_init(&t, memory, cores, 64)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *x = clip_embed(&t, m, clip_patches(&t, m, pixels, c->image, c->image), grid, grid, POSITION_BICUBIC);
    clip_run run = clip_image_run(&t, m, grid, grid);
    if (x) x = clip_blocks(&t, &run, m->blocks, x, 0, half);
    if (x) patch_spread(x, clip_first(c), out, out + WORLD_WIDTH);
    if (x) x = clip_blocks(&t, &run, m->blocks, x, half, c->vision.layers);
    if (x) patch_spread(x, clip_first(c), out + 2 * WORLD_WIDTH, out + 3 * WORLD_WIDTH);
    arena_reset(memory, mark);
    return x ? true : err_fault(e, &t.fault);
}

bool world_features(const clip_model *m, const picture *photo, arena *memory, pool *cores, double out[WORLD_FEATURES], err *e) {
    const clip_config *c = &m->config;
    if (c->vision.width != WORLD_WIDTH) return err_set(e, "the built-in model is %zu wide, %d expected", c->vision.width, WORLD_WIDTH);
    real *pixels = pixels_squash(photo, c->image, c->mean, c->std, e);
    bool ok = pixels && patch_features(m, pixels, memory, cores, out, e) && detail_features(photo, out + 4 * WORLD_WIDTH, e);
    mem_free(pixels);
    return ok;
}

/* ---- the decision --------------------------------------------------------------------------------------------------- */
/* (20.2)  w · (f - mean)/deviation + b, the scaling inside w and b */
double world_score(const double f[WORLD_FEATURES]) {
    double score = (double)world_bias;
    for (size_t i = 0; i < WORLD_FEATURES; i++) score += (double)world_weight[i] * f[i];
    return score;
}

/* Of 2,012 scenes none scored above -1.4, of held-out ones none above 1.1; of photographs, cut, scaled and compressed, 99 in 100
 * held-out ones above -0.9 and 9 in 10 above 3.8. */
static const double LIMIT_SQUARE = 2, LIMIT = -1;

static bool is_jpeg(const char *path) {
    unsigned char head[3] = {0};
    FILE *f = os_open(path, "rb");
    bool jpeg = f && fread(head, 1, 3, f) == 3 && head[0] == 0xFF && head[1] == 0xD8;
    if (f) fclose(f);
    return jpeg;
}

bool world_is_other(const clip_model *m, const char *path, const picture *photo, arena *memory, pool *cores, bool *other, err *e) {
    enum { LEAST_SIDE = 32 }; /* below that there is nothing to be seen */
    double f[WORLD_FEATURES];
    *other = false;
    if (photo->width < LEAST_SIDE || photo->height < LEAST_SIDE) return true;
    if (!world_features(m, photo, memory, cores, f, e)) return false;
    bool scene = photo->width == photo->height && !is_jpeg(path);
    *other = world_score(f) > (scene ? LIMIT_SQUARE : LIMIT);
    return true;
}

/* ---- words ----------------------------------------------------------------------------------------------------------- */
const char *const *world_words(size_t *count) {
    *count = sizeof known_words / sizeof *known_words;
    return known_words;
}

static bool is_known(const char *word, size_t n) {
    for (size_t i = 0; i < sizeof known_words / sizeof *known_words; i++) {
        const char *k = known_words[i];
        size_t at = 0;
        while (at < n && k[at] && (k[at] | 32) == (word[at] | 32)) at++;
        if (at == n && !k[at]) return true;
    }
    return false;
}

/* Letters of ASCII, and whatever is above it, make words. */
static bool of_word(unsigned char c) { return (unsigned)((c | 32) - 97) < 26u || c >= 0x80; }

const char *world_unknown_word(const char *text, size_t *length) {
    for (const char *p = text; *p;) {
        size_t n = 0;
        while (of_word((unsigned char)p[n])) n++;
        if (n > 1 && !is_known(p, n)) return *length = n, p; /* a letter alone is what follows an apostrophe, or "a" */
        p += n ? n : 1;
    }
    return NULL;
}
