/* gradient.h - the gradients of LeGrad side by side: a row of a table each, a file a row, all of one shape.
 *
 *     static void take(explained *x, fault *f);                        // room, before the forward pass
 *     static void keep(explained *x, explain_layer *l, ...);           // what a layer that has just run leaves behind
 *     static void forward(explain_pass *p);                            // e -> one layer's relevance
 *     static void transposed(explain_pass *p);                         // dL/dR -> dL/de
 *     const struct explain_gradient explain_mine = {
 *         .name = "mine", .take = take, .keep = keep, .forward = forward, .transposed = transposed};
 *
 * A new gradient is such a file, a word in explain.h's gradient_kind and a line of explain.c's GRADIENTS. What a
 * gradient keeps is its own, behind explain_layer.own and explained.scratch; the rest of this header they share.
 */
#ifndef GRADIENT_H
#define GRADIENT_H
#include "explain.h"

/* One layer, forward or transposed: tasks are lanes, one for each core and each with its own scratch for G; a lane
 * works on every lanes-th piece. */
typedef struct {
    explained *x;
    explain_layer *l;
    int set; /* whose relu: SET_LAST, SET_FIRST */
    size_t lanes;
} explain_pass;
enum {
    SET_LAST = 0, /* explain_layer.positive of the last map */
    SET_FIRST = 1 /* and of the image embedding's */
};

struct explain_gradient {
    const char *name;
    bool records;                            /* the tape records an explained layer from its A on */
    const struct explain_gradient *instead;  /* for blocks that are not CLIP's own and for poolers; NULL: the same */
    bool own;                                /* there is none for those */
    void (*take)(explained *x, fault *f);    /* x->layers, x->work are there */
    /* z: on the tape where it records, as s takes it; taps->A is then a leaf. Both are gone after the call, unless the
     * grid is `record`ed */
    void (*keep)(explained *x, explain_layer *l, const clip_taps *taps, ag_tensor *z, fault *f);
    /* or: runs a block itself, tokens [n,D] in place, and keeps what it needs where l is not NULL */
    void (*block)(explained *x, size_t index, explain_layer *l, real *tokens);
    void (*forward)(explain_pass *p);        /* work.e_unit -> work.parts: R's summands, before 1/(H rows) */
    void (*transposed)(explain_pass *p);     /* work.w = dL/dR/(H rows) -> work.ez [E] */
    /* all at once, or NULL: see explain_group; count <= EXPLAIN_GROUP */
    void (*group)(explained *x, const real *e, size_t count, explain_each *each, void *arg, real *de);
    ag_tensor *(*record)(explained *x, ag_tensor *e_unit); /* or: R itself as a node of x->tape [1,gh,gw] */
};
extern const struct explain_gradient explain_factored, explain_chained, explain_decomposed, explain_jacobian,
    explain_compact, explain_taped;

/* ---- sizes --------------------------------------------------------------------------------------------------- */
enum { BLOCK_ROWS = 64 }; /* rows of [n,F] that one task works on */
static inline size_t pieces_of(size_t n, size_t most) { return (n + most - 1) / most; }
static inline size_t explain_cores(const explained *x) { return x->cores ? x->cores->width : 1; }
static inline size_t explain_columns(const explained *x) { return x->n - x->first; } /* of A, but for the class token's */

/* ---- room ------------------------------------------------------------------------------------------------------ */
/* Of rows * cols numbers: arena_numbers of x's memory. */
real *explain_take(explained *x, size_t rows, size_t cols, fault *f);
/* The same for each layer's own struct, zeroed; *own for all to see. */
void *explain_own(explained *x, size_t bytes, fault *f);
/* And the struct that all layers share: x->scratch, not zeroed. NULL when memory is full, or when there is a fault already. */
void *explain_scratch(explained *x, size_t bytes, fault *f);
/* A weight's numbers as `real` [rows,cols], kept in the arena where they are not stored so. NULL: not there. */
const real *explain_weight(explained *x, const clip_weight *w, fault *f);
/* Room for pieces of G: heads and tokens of x, at least `least` numbers of parts. */
void explain_take_pieces(explained *x, size_t least, fault *f);

/* ---- vectors --------------------------------------------------------------------------------------------------- */
/* unit = v / |v|; the length. */
real explain_unit(const real *v, real *unit, size_t n);
/* g (the derivative by v/|v|) becomes the derivative by v (4.6): (g - (g.unit) unit) / |v|. Its own transpose. */
void explain_unit_transpose(real *g, const real *unit, real length, size_t n);
/* out[cols] = v[rows] m[rows,cols];  out[rows] += m[rows,cols] v[cols] */
void explain_vec_mat(pool *cores, const real *v, const real *m, size_t rows, size_t cols, real *out);
void explain_mat_vec_add(pool *cores, const real *m, const real *v, size_t rows, size_t cols, real *out);
/* Does the layer agree with e already (MODEL.md 5)? Then it has no map to give. */
bool explain_agrees(const explained *x, const explain_layer *l, const real *e_unit);

/* (4.6), (4.7)  work.e_unit -> work.u: the derivative by what is pooled, the same for every token; and back: work.u =
 * dL/du -> work.ez = dL/d(e unit). */
void explain_pooled(explained *x, const explain_layer *l);
void explain_pooled_transpose(explained *x, const explain_layer *l);
/* Numbers of u. */
size_t explain_pooled_width(const explained *x);

/* ---- g -> G -> R: heads spread over cores ---------------------------------------------------------------------- */
typedef struct { /* some rows of one head's G */
    size_t head, first, rows, index;
    real *G;           /* [rows, n] scratch */
    uint8_t *positive; /* [rows, columns] */
} explain_piece;
size_t explain_piece_count(const explained *x);
explain_piece explain_piece_at(const explain_pass *p, size_t lane, size_t index);
/* sum[c] = sum over rows of max(s[r,c], 0), where NaN stays NaN; positive[r,c] = s[r,c] > 0 (where not NULL). */
void explain_relu(const real *restrict s, size_t stride, size_t rows, size_t cols, real *restrict sum,
                  uint8_t *restrict positive);
/* The transpose: d[r,c] = positive ? w[c] : 0. */
void explain_relu_transpose(const uint8_t *restrict positive, const real *restrict w, real *restrict d, size_t stride,
                            size_t rows, size_t cols);
/* (4.11), (4.3)  g [rows,D], v [n,D] -> work.parts */
void explain_relevance(explain_pass *p, const real *g, const real *v);
/* (4.14), (4.15)  work.w -> g = dL/dg */
void explain_relevance_transpose(explain_pass *p, real *g, const real *v);

/* ---- what the closed form keeps of a layer (factored.c); the Jacobian is made of it (jacobian.c) ---------------- */
typedef struct {      /* n tokens, D width, F mlp */
    real *act;        /* [n,F] act'(h)/sigma of LN2 */
    real *h;          /* [n,F] W1 (gamma . xhat) = h - b1 - W1 beta */
    bool joined;
    real *up;         /* [F,D] W1 diag(gamma) (I - 11^T/D), times W_o when joined */
    const real *out;  /* [D,D] W_o */
    const real *fc2;  /* [D,F] W2 */
    real *v;          /* [n,D] values */
    real *xo;         /* [n,D] xhat of LN2, times W_o */
} factored_layer;

/* Room for one layer (counted from the model's first), and what is put there once it has run. */
void explain_factored_take(explained *x, size_t layer, factored_layer *own, bool joined, fault *f);
void explain_factored_keep(explained *x, size_t layer, factored_layer *own, const clip_taps *taps, fault *f);
#endif
