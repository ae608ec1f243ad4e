/* explain.h - LeGrad: which patches speak for an embedding, over the last layers of the image side.
 *
 *     explained x;
 *     explain_options o = {.layers = 2, .gradient = GRADIENT_FACTORED};
 *     if (!explain_open(&x, &model, pixels, side, side, &o, &memory, cores, &f)) ...  // one forward pass
 *     explain_legrad(&x, text_embedding, map, &f);             // [side, side] in 0..1; any number of times
 *
 * The map of an embedding e is a gradient (MODEL.md 4): for each explained layer, how the attention A of its heads
 * would have to change for the layer's pooled feature z to come nearer to e. Three ways to have it:
 *   autograd    the definition, through the tape; nothing derived by hand
 *   decomposed  the tensor dz/dA once [E, H, n, n], then only a product with e
 *   factored    the closed form of that product: two matrix products and no tensor
 * All are linear in e up to a relu, so each also gives the map's derivative with respect to e (explain_transpose).
 */
#ifndef EXPLAIN_H
#define EXPLAIN_H
#include "clip.h"
#include "map.h"

typedef enum { GRADIENT_FACTORED, GRADIENT_DECOMPOSED, GRADIENT_AUTOGRAD } gradient_kind;

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
    const explain_other *other; /* NULL: LeGrad. Otherwise its gradient is the tape's, and nothing is watched in it */
} explain_options;

typedef struct {                /* what one layer's gradient needs; n tokens, D width, F mlp, H heads, E embedding */
    size_t index;               /* the layer, from the model's first */
    real *z, *z_unit, z_length; /* [E] z = LN_post(mean of tokens) P; z/|z|; |z| */
    real *m_unit, m_rstd;       /* [D] LN_post's normalised input and 1/sigma there */
    /* factored */
    real *act; /* [n,F] act'(h)/sigma of LN2 */
    real *h;   /* [n,F] W1 (gamma . xhat) = h - b1 - W1 beta */
    bool joined;
    real *up;             /* [F,D] W1 diag(gamma) (I - 11^T/D), times W_o when joined */
    const real *out;      /* [D,D] W_o */
    const real *fc2;      /* [D,F] W2 */
    real *v;              /* [n,D] values */
    real *xo;             /* [n,D] xhat of LN2, times W_o */
    uint8_t *positive[2]; /* [H,n,n-1] where G > 0: [0] of the last map, [1] of the image embedding's */
    /* decomposed */
    real *dzdA; /* [E, H*n*n] d(z/|z|)/dA */
    /* autograd */
    ag_tensor *A, *z_tensor; /* [H,n,n] a leaf; z/|z| [1,1,E] computed from it */
} explain_layer;

typedef struct {               /* scratch, shared by the layers and by all embeddings */
    real *e_unit, *gz, *ez;    /* [E]; ez: one layer's share of dL/d(e unit) */
    real *p, *u, *out_u;       /* [D] */
    real *a;                   /* [F] */
    real *q;                   /* [n,F] act'(h) . a, and its derivative */
    real *g, *y;               /* [n,D] dz/d(heads' output); before W_o, where not joined */
    real *m2;                  /* [n] */
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
    size_t height, width, gh, gw, n; /* pixels; grid; tokens = 1 + gh gw */
    real *embedding;                 /* [E] c, the image's */
    explain_layer *layers;           /* options.layers of them, lowest first */
    real *post_gamma, *proj;         /* [D], [E,D] */
    clip_run run;                    /* of the image side, on this grid */
    ag_tape tape;                    /* autograd: the forward pass of the explained layers, recorded */
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
/* R as a node [1,gh,gw] of x->tape, from the node e [1,1,E] of unit length (GRADIENT_AUTOGRAD). */
ag_tensor *explain_tape_grid(explained *x, ag_tensor *e_unit);
/* The map [height,width] in 0..1 for e: the grid, bilinear by the patch size, then min-max. Fault: FLAT, NAN. */
bool explain_legrad(explained *x, const real *e, real *map, fault *f);
/* Both [n], of unit length. Where e points as z does, e.z is at its largest, so G = 0, and relu's derivative there is 0
 * too (MODEL.md 5): what rounding leaves of G must not pass for a map. */
bool explain_silent(const real *e_unit, const real *z_unit, size_t n);
/* z, u and a of each layer for e, to a watch. */
void explain_show(explained *x, const explain_watch *watch, const real *e, size_t step);
#endif
