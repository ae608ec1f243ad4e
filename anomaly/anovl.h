/* anovl.h - which pixels of a picture are not as they should be, told by texts alone: AnoVL, also AnoCLIP (arXiv 2308.15939).
 *
 *     anovl_texts t;
 *     if (!anovl_texts_make(weights, "metal_nut", &memory, cores, &t, &e)) ...      // 924 sentences; anovl_texts_free(&t)
 *     anovl_options o = {.side = 240, .steps = 5, .seed = 1, .views = true};
 *     anovl_result r;
 *     if (!anovl_measure(&model, &t, &photo, &o, &memory, cores, &r, &e)) ...       // r.grid, r.score; anovl_free(&r)
 *     anovl_map(r.grid, r.gh, r.gw, map, r.side, r.side);                           // [side, side]
 *
 * Formulas: MODEL.md 11. Patches come from a second path of v-v attention (CLIP Surgery's, eq. 11.1), an adapter of one
 * layer is fitted to each picture in five steps (11.4) through autograd.h; its start and its noise are drawn from the seed.
 */
#ifndef ANOVL_H
#define ANOVL_H
#include "clip.h"
#include "models/checkpoint.h"
#include "pictures/image.h"

/* ---- texts --------------------------------------------------------------------------------------------- */
enum { ANOVL_STATES = 7, ANOVL_SENTENCES = 462 }; /* of each of the two: 7 states in 66 templates */
typedef struct {
    real *pair;  /* [2,E] unit: normal, anomalous */
    real *all;   /* [count,E] unit, the normal ones first */
    size_t count;
} anovl_texts;
/* Sentence i of 2 ANOVL_SENTENCES, normal ones first, for a class as the dataset spells it; macaroni1 is "macaroni". */
void anovl_sentence(const char *name, size_t i, char *out, size_t size);
bool anovl_texts_make(checkpoint *weights, const char *name, arena *memory, pool *cores, anovl_texts *t, err *e);
/* Of raw embeddings [count,E], the normal half first: eq. 11.2. */
bool anovl_texts_of(const real *raw, size_t count, size_t embed, anovl_texts *t, err *e);
void anovl_texts_free(anovl_texts *t);

/* ---- a picture ------------------------------------------------------------------------------------------ */
/* pixels [3,side,side] -> class_token [E] of the plain path, patches [gh gw,E] of the v-v path over the last 12 blocks. */
bool anovl_tokens(const clip_model *m, const real *pixels, size_t side, arena *memory, pool *cores, real *class_token,
                  real *patches, err *e);
/* P(anomalous) of each of n rows, no temperature (11.3). */
void anovl_shares(const real *rows, size_t n, size_t embed, const real *pair, real *out);
/* 3 x 3 mean, border repeated, then bilinear with corners aligned: grid [gh,gw] -> map [h,w] (11.3). */
void anovl_map(const real *grid, size_t gh, size_t gw, real *map, size_t h, size_t w);
enum { ANOVL_VIEWS = 22 };
/* View k of pixels [3,side,side]; 0 is the picture itself. */
void anovl_view(const real *pixels, size_t side, size_t k, real *out);

/* ---- the adapter (11.4): texts NULL: VisA's ------------------------------------------------------------------ */
typedef struct {
    size_t tiles, patches, embed, gh, gw; /* patches = gh gw of each of one or two tiles */
    const real *x;                       /* [tiles,patches,E] */
    const real *pair;                    /* [2,E] */
    const real *texts;                   /* [rows,E], or NULL: rows is E */
    size_t rows;
    size_t side, shift;                   /* two tiles: a map of [side, side + shift] is judged, not the patches */
} anovl_problem;
/* W [rows,E] and b [rows] in place; noise [steps,tiles,patches,E]; losses [steps] or NULL. */
bool anovl_adapt(const anovl_problem *p, real *W, real *b, const real *noise, size_t steps, arena *memory, pool *cores,
                 real *losses, err *e);
/* out [tiles,patches,E] */
bool anovl_adapted(const anovl_problem *p, const real *W, const real *b, arena *memory, pool *cores, real *out, err *e);

/* ---- all of it -------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t side;   /* of the square, a multiple of the patch */
    size_t steps;  /* of the adapter; 0: none */
    uint64_t seed; /* of its start and noise */
    bool views;    /* the score is the mean of 22 views; else of the picture alone */
    bool tiled;    /* VisA's: two tiles, left and right (upper and lower), the other adapter, no views */
} anovl_options;
typedef struct {
    size_t gh, gw, side, shift; /* shift: between two tiles; 0: one square */
    bool upright;               /* the tiles lie one below the other */
    real *grid;                /* [tiles,gh,gw] P(anomalous) */
    double score;
} anovl_result;
bool anovl_measure(const clip_model *m, const anovl_texts *t, const picture *photo, const anovl_options *o, arena *memory,
                   pool *cores, anovl_result *r, err *e);
void anovl_sides(const anovl_result *r, size_t *h, size_t *w); /* of its map */
/* The map, tiles put together, into out [h,w] of anovl_sides. False: no memory. */
bool anovl_whole_map(const anovl_result *r, real *out);
void anovl_free(anovl_result *r);
#endif
