/* explain.h - LeGrad: which patches speak for an embedding, over the last layers of the image side.
 *
 *     explained x;
 *     explain_options o = {.layers = 2, .gradient = GRADIENT_FACTORED};
 *     if (!explain_open(&x, &model, pixels, side, side, &o, &memory, cores, &f)) ...  // one forward pass
 *     explain_legrad(&x, text_embedding, map, &f);             // [side, side] in 0..1; any number of times
 *
 * The map of an embedding e is a gradient (MODEL.md 4): for each explained layer, how the attention A of its heads
 * would have to change for the layer's pooled feature z to come nearer to e. Five ways to have it:
 *   autograd    the definition, through the tape; nothing derived by hand
 *   decomposed  the tensor dz/dA once [E, H, n, n], then only a product with e
 *   factored    the closed form of that product: two matrix products and no tensor
 *   jacobian    its linear part once, dg/dg_z [n, D, E], then one product a token for a group of embeddings
 *   compact     the closed form again, for little memory: slices of it made anew in each pass
 * All are linear in e up to a relu, so each also gives the map's derivative with respect to e (explain_transpose).
 * explain.c is what they have in common, gradient.h their common shape, and each is a file of its own.
 */
#ifndef EXPLAIN_H
#define EXPLAIN_H
#include "clip.h"
#include "map.h"

typedef enum { GRADIENT_FACTORED, GRADIENT_DECOMPOSED, GRADIENT_AUTOGRAD, GRADIENT_JACOBIAN, GRADIENT_COMPACT } gradient_kind;

/* By its name above; NULL: the first, factored. False: none is called so. */
bool explain_gradient_find(const char *name, gradient_kind *kind);
/* Is an explained layer one of CLIP's own blocks, pooled by their mean? Then (4.6) to (4.13) hold; jacobian and compact are of those
 * alone. */
bool explain_own_blocks(const clip_config *c);

/* ---- watching: every named intermediate, as it is made (for --trace) ------------------------- */
typedef struct {
    const char *name; /* "tokens", "attention", "h", "act'(h)", "z", "u", "a", "map", "loss", "gradient", "embedding" */
    bool in_layer;    /* layer has a meaning: counted from the model's first */
    size_t layer;
    bool in_step; /* step has a meaning */
    size_t step;
    const real *data; /* [shape...], valid during the call only */
    size_t rank, shape[3];
} explain_value;
typedef struct {
    void (*see)(void *arg, const explain_value *v);
    void *arg;
} explain_watch;

/* ---- one image, ready to be explained --------------------------------------------------------- */
typedef struct explained explained;

/* Another explainer in LeGrad's place, by the tape (methods.h, method_other). */
typedef struct {
    void *arg;
    bool (*open)(void *arg, explained *x, const real *pixels, fault *f); /* x->tape, x->embedding, options.layers */
    ag_tensor *(*grid)(void *arg, explained *x, ag_tensor *e_unit);      /* R [1,gh,gw] on x->tape */
} explain_other;

typedef struct {
    size_t layers; /* the last N; 0 means 1 (with other: its own number) */
    gradient_kind gradient;
    size_t steps;               /* maps with derivative expected of each embedding; 0: maps alone. A hint for speed */
    size_t memory;              /* bytes that dz/dA may take, of all layers together; 0: what the arena has */
    const explain_watch *watch; /* NULL: nobody looks */
    const real *usual;          /* [E] SigLIP: the embedding of "a photo of a", for its correction (4.20); NULL: none */
    const real *alpha;          /* [height,width] AlphaCLIP's region; NULL: all of the picture */
    const explain_other *other; /* NULL: LeGrad. Otherwise its gradient is the tape's, and nothing is watched in it */
} explain_options;

struct explain_gradient; /* gradient.h */

typedef struct {                /* one layer: what every gradient has of it; E embedding, D width */
    size_t index;               /* the layer, from the model's first */
    real *z, *z_unit, z_length; /* [E] z = LN_post(mean of tokens) P, or the pooler's; z/|z|; |z| */
    real *m_unit, m_rstd;       /* [D] LN_post's normalised input and 1/sigma there */
    uint8_t *positive[2];       /* [H,rows,columns] where G > 0: [0] of the last map, [1] of the image embedding's */
    void *own;                  /* the gradient's own */
} explain_layer;

typedef struct {               /* scratch, shared by the layers and by all embeddings */
    real *e_unit, *gz, *ez;    /* [E]; ez: one layer's share of dL/d(e unit) */
    real *p, *u;               /* [D] */
    real *G;                   /* [cores, rows of a piece, n] G of one head's rows */
    real *parts;               /* sums of pieces, added up in a fixed order */
    real *w;                   /* [gh,gw] */
    size_t piece_rows, pieces; /* a head's rows are cut into this many pieces */
} explain_work;

struct explained {
    const clip_model *model;
    explain_options options;
    arena *memory;
    pool *cores;
    size_t height, width, gh, gw, n; /* of the map, in pixels; grid; tokens = first + gh gw */
    const clip_tower *tower;         /* whose attention is explained: the image side's, or its pooler's */
    size_t rows, first;              /* rows of A: n, or a pooler's one; columns before the patches */
    bool unit;                       /* s = e.z/|z|; else e.z */
    size_t unit_scale;               /* min-max after enlarging by this: the patch, or 1 (a probe: on the grid) */
    real *keep;                      /* [gh,gw] 0 where the correction makes the map 0, else 1; NULL: none */
    real *embedding;                 /* [E] c, the image's */
    explain_layer *layers;           /* options.layers of them, lowest first */
    const real *post_gamma, *proj;   /* [D], [E,D] */
    size_t sides[2];                 /* of the pixels */
    clip_run run;                    /* of the image side, on this grid */
    ag_tape tape;                    /* autograd: the forward pass of the explained layers, recorded */
    const struct explain_gradient *how;
    void *scratch; /* the gradient's own */
    explain_work work;
    real *first_grid; /* [gh,gw] LeGrad of the image embedding once it was asked for */
    bool first_ready;
};

/* One forward pass over pixels [3,height,width] (normalised; multiples of the patch). x keeps what it needs in
 * memory, beyond the call; it uses what is left above as scratch, and gives that back.
 * Faults: RANGE (layers, height, width), MEMORY (dz/dA that does not fit: n[0] its bytes), NAN. */
bool explain_open(explained *x, const clip_model *m, const real *pixels, size_t height, size_t width,
                  const explain_options *o, arena *memory, pool *cores, fault *f);

/* LeGrad's R [gh,gw] for an embedding e [E] of any length > 0: summed over the layers, not normalised (4.3). */
bool explain_grid(explained *x, const real *e, real *grid, fault *f);
/* The same for the image embedding, computed once for all who ask: every inversion starts there. */
bool explain_grid_first(explained *x, real *grid, fault *f);
/* The derivative of the grid made last, transposed: w [gh,gw] = dL/dgrid -> de [E] = dL/de for that e.
 * first: of explain_grid_first. Not for GRADIENT_AUTOGRAD, whose tape does it (explain_tape_grid). */
bool explain_transpose(explained *x, const real *e, bool first, const real *w, real *de, fault *f);
/* Grids and derivatives of several embeddings e [count,E], as explain_grid and explain_transpose give them one by one, but
 * for GRADIENT_JACOBIAN, which takes EXPLAIN_GROUP of them at a time. For each, `each` is given the grid and gives w =
 * dL/dgrid; false: this one ends here, and the others go on. de [count,E]. Not for taped gradients. A row's bytes do not
 * depend on the other rows. */
enum { EXPLAIN_GROUP = GEMM_GROUP };
typedef bool explain_each(void *arg, size_t which, const real *grid, real *w);
bool explain_group(explained *x, const real *e, size_t count, explain_each *each, void *arg, real *de, fault *f);
/* Is R made by the tape (GRADIENT_AUTOGRAD, explain_other)? Then R as a node [1,gh,gw] of x->tape, from the node e [1,1,E]
 * of unit length. */
bool explain_is_taped(const explained *x);
ag_tensor *explain_tape_grid(explained *x, ag_tensor *e_unit);
/* The map [height,width] in 0..1 for e: the grid, bilinear by the patch size, then min-max. Fault: FLAT, NAN. */
bool explain_legrad(explained *x, const real *e, real *map, fault *f);
/* Both [n], of unit length. Where e points as z does, e.z is at its largest, so G = 0, and relu's derivative there is 0
 * too (MODEL.md 5): what rounding leaves of G must not pass for a map. */
bool explain_silent(const real *e_unit, const real *z_unit, size_t n);
/* The map [height,width] in 0..1 of a grid, as the family has it: min-max after enlarging, or before (SigLIP). */
bool explain_map(explained *x, const real *grid, real *map, fault *f);
/* z, and for CLIP's own blocks u and a, of each layer for e, to a watch. */
void explain_show(explained *x, const explain_watch *watch, const real *e, size_t step);
#endif
