/* x_seeded.c - see x_seeded.h. */
#include "x_seeded.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double uniform(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static float normal(uint64_t *state) { /* twelve uniforms: near enough, and the same everywhere */
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform(state);
    return (float)sum;
}

void seeded_normal(uint64_t *state, real *out, size_t count) {
    for (size_t i = 0; i < count; i++) out[i] = (real)normal(state);
}

static uint16_t to_half(float x) { /* truncated; small ones become 0 */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, exponent = bits >> 23 & 0xff, fraction = bits >> 13 & 0x3ff;
    if (exponent < 113) return (uint16_t)sign;
    return (uint16_t)(sign | (exponent - 112) << 10 | fraction);
}

static uint16_t to_bfloat(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static size_t bytes_each(clip_type type) {
    return type == CLIP_REAL ? sizeof(real) : type == CLIP_F64 ? sizeof(double) : type == CLIP_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Mean and deviation of a weight by its place; matrices by the width they read. */
static void scale_of(clip_kind kind, size_t cols, double *mean, double *deviation) {
    int field = kind >= W_TEXT_BLOCK ? (int)kind - W_TEXT_BLOCK : kind >= W_BLOCK ? (int)kind - W_BLOCK : kind >= W_POOLER ? (int)kind - W_POOLER : -1;
    if (kind > W_CONV && kind < W_POOLER) { /* a batch norm: gamma, beta, mean, variance */
        bool one = kind == W_CONV + 1 || kind == W_CONV + 4;
        *mean = one, *deviation = one ? 0.1 : 0.05;
        return;
    }
    bool gamma = field == 0 || field == 10 || kind == W_PRE_GAMMA || kind == W_POST_GAMMA || kind == W_FINAL_GAMMA;
    bool bias = field == 1 || field == 11 || kind == W_PRE_BETA || kind == W_POST_BETA || kind == W_FINAL_BETA ||
                field == 3 || field == 5 || field == 7 || field == 9 || field == 13 || field == 15;
    *mean = gamma ? 1 : kind == W_LOGIT_SCALE ? 4.6 : 0;
    *deviation = gamma ? 0.1 : bias ? 0.05 : kind == W_LOGIT_SCALE ? 0 : 1 / sqrt((double)cols);
    if (field == 2 || field == 4) *deviation *= 1.5; /* attention that prefers something */
    if (field == 14) *deviation *= 0.5 * 2;          /* fc2 reads 4 widths */
}

static bool make_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    seeded_model *s = arg;
    double mean, deviation;
    (void)layer;
    scale_of(kind, cols, &mean, &deviation);
    *w = (clip_weight){.data = s->room ? s->room + s->used : NULL, .type = s->type, .rows = rows, .cols = cols};
    unsigned char *p = s->room ? s->room + s->used : NULL;
    s->used += (rows * cols * bytes_each(s->type) + 63) / 64 * 64;
    for (size_t i = 0; p && i < rows * cols; i++, p += bytes_each(s->type)) {
        float x = (float)(mean + deviation * (double)normal(&s->state));
        real r = (real)x;
        double d = (double)x;
        uint16_t h = s->type == CLIP_F16 ? to_half(x) : to_bfloat(x);
        memcpy(p,
               s->type == CLIP_REAL  ? (void *)&r
               : s->type == CLIP_F64 ? (void *)&d
               : s->type == CLIP_F32 ? (void *)&x
                                     : (void *)&h,
               bytes_each(s->type));
    }
    return true;
}

clip_config seeded_config(size_t image, size_t patch, size_t width, size_t layers, size_t heads, size_t embed) {
    return (clip_config){.vision = {.width = width, .layers = layers, .heads = heads, .mlp = 4 * width, .eps = (real)1e-5},
                         .text = {.width = 32, .layers = 2, .heads = 2, .mlp = 128, .eps = (real)1e-5},
                         .image = image,
                         .patch = patch,
                         .embed = embed,
                         .vocab = 600,
                         .context = 77,
                         .mean = {(real)0.5, (real)0.5, (real)0.5},
                         .std = {(real)0.25, (real)0.25, (real)0.25}};
}

bool seeded_make(seeded_model *s, clip_config config, clip_type type, uint64_t seed) {
    *s = (seeded_model){.type = type, .state = seed, .model = {.config = config}};
    s->model.blocks = calloc(config.vision.layers + 1, sizeof *s->model.blocks);
    s->model.text_blocks = calloc(config.text.layers, sizeof *s->model.text_blocks);
    s->model.pooler = calloc(1, sizeof *s->model.pooler);
    s->model.convs = calloc(clip_convs(&config) + 1, sizeof *s->model.convs);
    if (!s->model.blocks || !s->model.text_blocks || !s->model.pooler || !s->model.convs) return false;
    clip_each_weight(&s->model, make_weight, s); /* counts */
    s->size = s->used;
    s->used = 0;
    if (!(s->room = malloc(s->size))) return false;
    return clip_each_weight(&s->model, make_weight, s);
}

void seeded_free(seeded_model *s) {
    free(s->model.blocks);
    free(s->model.text_blocks);
    free(s->model.pooler);
    free(s->model.convs);
    free(s->room);
}
