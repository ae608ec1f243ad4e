/* methods.h - the explainers, side by side: which patches of a picture speak for a text.
 *
 *     const method *how = method_find("surgery");
 *     explainer x;
 *     if (!method_open(&x, how, &model, pixels, side, side, &(method_options){0}, &memory, cores, &f)) ...
 *     method_grids(&x, texts, 3, empty, grids, &f);             // [3, gh, gw] raw relevance
 *     method_map(&x, grids, map, &f);                           // [side, side] in 0..1
 *
 * Three families (MODEL.md, "Explainers"):
 *   attention   how the pooled token attends; no text in it
 *   gradient    how the score's gradient weighs the attention
 *   features    a cosine of patch and text, after the last blocks' attention was changed: one row of RECIPES each
 */
#ifndef METHODS_H
#define METHODS_H
#include "explain.h"

typedef enum { FAMILY_LEGRAD, FAMILY_ATTENTION, FAMILY_GRADIENT, FAMILY_FEATURES } method_family;
typedef struct {
    const char *name, *what, *source;
    method_family family;
    size_t blocks; /* features: last blocks changed unless told (0: none are); others: layers looked at (0: all) */
} method;

size_t method_count(void);
const method *method_at(size_t i);
const method *method_find(const char *name); /* NULL: no such method */

typedef struct { size_t blocks; } method_options; /* 0: the method's own number */

typedef struct {
    const method *how;
    const clip_model *model;
    arena *memory;
    pool *cores;
    size_t height, width, gh, gw, n, blocks;
    ag_tape tape;
    real *tokens;      /* features: [n,E] projected, not normalised; the class token is the plain path's */
    ag_tensor **A;     /* attention, gradient: [H,n,n] of each layer looked at, lowest first */
    ag_tensor *z_unit; /* gradient: [1,1,E] */
    explained legrad;
} explainer;

/* One forward pass over pixels [3,height,width]. Keeps what it needs in memory. Faults: RANGE (blocks), MEMORY, TAPE. */
bool method_open(explainer *x, const method *how, const clip_model *m, const real *pixels, size_t height, size_t width,
                 const method_options *o, arena *memory, pool *cores, fault *f);
/* texts [count,E] of unit length -> grids [count,gh,gw], relevance as the method defines it, not normalised.
 * empty [E]: the unit embedding of the empty text; only Surgery with one text needs it (RANGE when it is missing). */
bool method_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids, fault *f);
/* One grid -> map [height,width] in 0..1, in the order the method's code does it. Fault: FLAT. */
bool method_map(explainer *x, const real *grid, real *map, fault *f);

/* The gradient family on a tape, differentiable in e_unit [1,1,E] when flags say so: R as [1,gh,gw]. rollout is its
 * gradient-weighted form here, since the plain one does not know e. */
ag_tensor *method_tape_grid(explainer *x, const char *name, ag_tensor *e_unit, int flags);
#endif
