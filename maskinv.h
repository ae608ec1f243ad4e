/* maskinv.h - MaskInversion: the embedding whose LeGrad map fills a mask.
 *
 *     explain_open(&x, &model, pixels, side, side, &eo, &memory, cores, &f);
 *     invert_options o = invert_defaults();
 *     invert_result r = {.embedding = e, .losses = l, .map_before = before, .map_after = after};
 *     maskinv_invert(&x, mask, mask_height, mask_width, &o, &r, &f);
 *
 * Gradient descent on e, from the image embedding c (MODEL.md 5): the map M(e) is compared with the mask by the Dice
 * loss, AdamW moves e, K times. The network itself never changes and is not run again. Masks are inverted one by
 * one, so that none knows of the others.
 */
#ifndef MASKINV_H
#define MASKINV_H
#define MASKINV_VERSION "1.0.0"
#include "explain.h"

typedef struct {
    size_t iters;                             /* K, at least 1 */
    real lr, alpha, decay;                    /* alpha: how strongly e is held to c; decay: AdamW's */
    const explain_watch *watch;               /* NULL; or sees every step's z, u, a, map, loss, gradient, embedding */
    void (*progress)(void *arg, size_t step); /* NULL; or called after each step */
    void *progress_arg;
} invert_options;
/* The paper's: 10 steps, lr 0.5, alpha 0, decay 0. */
invert_options invert_defaults(void);
invert_options invert_defaults_of(const clip_config *c); /* the same, but what the model's maskinv_cfg says */

typedef struct {          /* all the caller's; NULL where not wanted, but for embedding and losses */
    real *embedding;      /* [E] as optimised, not normalised */
    real *losses;         /* [K] before each update */
    real *map_before;     /* [mh,mw] of c */
    real *map_after;      /* [mh,mw] of the last step's start */
    real *first_gradient; /* [E] dL/de at c */
} invert_result;

/* mask [mh,mw] in 0..1. Faults: RANGE (iters, an empty side), FLAT, NAN (n[0] the step), MEMORY, TAPE. */
bool maskinv_invert(explained *x, const real *mask, size_t mh, size_t mw, const invert_options *o, invert_result *r,
                    fault *f);

/* ---- its pieces, public for tests and for those who want another loop ----------------------------- */
/* A mask as the grid sees it. M = (C R - low)/(high - low) with C linear, so the sums that Dice needs are sums over the
 * grid: sum(M m) = (R - low) . C^T m / (high - low), sum(M) likewise with C^T 1 (5.5). */
typedef struct {
    size_t mh, mw;
    lerp y, x;                  /* C: grid -> pixels -> mask */
    real *mask_grid, *one_grid; /* [gh,gw] C^T m, C^T 1 */
    double mask_sum;
    const real *mask; /* [mh,mw] the caller's */
} target;
bool target_make(target *t, const explained *x, const real *mask, size_t mh, size_t mw, fault *f);
/* What Dice is made of: the map's ends, and (5.5) the sums of M m and of M. Fault: FLAT, NAN. */
typedef struct {
    extremes ends;
    double inside, all;
} dice_sums;
bool dice_measure(const explained *x, const target *t, const real *grid, dice_sums *sums, fault *f);
/* Dice of the map of this grid against the mask (5.2), and dgrid [gh,gw] = dDice/dgrid through min-max; dgrid may
 * be NULL. Fault: FLAT, NAN. */
bool dice_loss(const explained *x, const target *t, const real *grid, double *loss, real *dgrid, fault *f);
/* The map at the mask's size. */
bool target_map(const explained *x, const target *t, const real *grid, real *map, fault *f);
/* Several masks of one picture side by side, each by itself: a mask's bytes are those that it has alone with the same
 * gradient (explain_group). With GRADIENT_JACOBIAN that is what makes it fast; not for taped gradients, and unwatched. */
typedef struct {
    target mask;                    /* made by the caller: target_make */
    real *embedding, *losses;       /* [E], [K]: the caller's */
    real *grid_before, *grid_after; /* [gh,gw] the caller's, of c and of the last step's start: target_map makes maps */
    fault fault;                    /* what ended this one, FAULT_NONE at first */
} invert_region;
bool maskinv_invert_group(explained *x, invert_region *regions, size_t count, const invert_options *o, fault *f);
/* Loss at e, and its gradient [E]: one step without the update. first: e is the image embedding. */
bool maskinv_gradient(explained *x, const target *t, const real *e, bool first, real alpha, double *loss, real *grid,
                      real *gradient, fault *f);

typedef struct {
    real *m, *v;            /* [count] */
    size_t count, t;        /* t updates made */
    real beta1, beta2, eps; /* .9 .999 1e-8 */
} adamw;
bool adamw_init(adamw *a, size_t count, arena *memory, fault *f);
void adamw_step(adamw *a, real *e, const real *gradient, real lr, real decay);
#endif
