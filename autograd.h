/* autograd.h - a reverse-mode tape on an arena.
 *
 *     ag_tape t;
 *     ag_tape_init(&t, &memory, NULL, 1000);
 *     ag_tensor *w = ag_leaf(&t, weights, NULL, 1, 3, 4);      // [1,3,4], wants a gradient
 *     ag_tensor *x = ag_constant(&t, pixels, 1, 2, 4);         // [1,2,4], wants none
 *     ag_tensor *y = ag_sum(&t, ag_act(&t, ag_linear(&t, x, w, NULL), ACT_GELU, 0));
 *     if (!ag_grad(&t, y, NULL, &w, 1, 0)) ...                 // dy/dw is in w->grad, [1,3,4]
 *
 * Every tensor is [batch, rows, cols], row-major and contiguous; a vector is [1,1,cols], a scalar
 * [1,1,1]. An op is its forward and its backward, side by side in ops_*.c. A backward is written
 * with ops too, so with AG_DIFFERENTIABLE it is recorded like any other computation and can be
 * differentiated again: LeGrad is a gradient, and MaskInversion differentiates it.
 *
 * With t.recording off nothing is remembered: the same forward functions then serve inference.
 * A failed op sets t.fault, returns NULL, and every op given NULL returns NULL: check once, at the end.
 */
#ifndef AUTOGRAD_H
#define AUTOGRAD_H
#include "gemm.h"
#include "kernels.h"

typedef struct ag_tensor ag_tensor;
struct ag_op; /* tape.h */

struct ag_tensor {
    real *data;                    /* [batch, rows, cols] */
    size_t batch, rows, cols;
    ag_tensor *grad;               /* after ag_grad: same shape, or NULL where nothing arrived */
    real *sum;                     /* a parameter's own gradient buffer: ag_grad ADDS here (leaves only) */
    /* the record */
    const struct ag_op *op;        /* NULL: a leaf or a constant */
    ag_tensor *in[3];
    real f[2];                     /* the op's numbers */
    size_t k[3];
    const void *aux;               /* the op's table (row indices), in the arena */
    real *keep[2];                 /* what forward keeps for backward (means, rstd...) */
    size_t index;                  /* place on the tape */
    bool needs;                    /* depends on a leaf */
    bool marked;                   /* scratch of ag_grad: its gradient is wanted */
    bool shared;                   /* scratch of ag_grad: a gradient that is no longer written to */
};

typedef struct {
    arena *memory;
    pool *cores;                   /* NULL: this core alone */
    ag_tensor **nodes;             /* in order of making */
    size_t count, capacity;
    bool recording;
    bool alike;                    /* inference: by our own product, to which rows are alike (gemm_own) */
    fault fault;
} ag_tape;

/* The node table (capacity pointers) is taken from memory. Recording is on. */
bool ag_tape_init(ag_tape *t, arena *memory, pool *cores, size_t capacity);
/* Forget all tensors made since the mark, their memory with them. */
typedef struct { size_t arena, count; } ag_mark;
ag_mark ag_tape_mark(const ag_tape *t);
void ag_tape_reset(ag_tape *t, ag_mark mark);

/* ---- where tensors come from (data stays the caller's) ------------------------------------- */
ag_tensor *ag_constant(ag_tape *t, const real *data, size_t batch, size_t rows, size_t cols);
/* sum: NULL, or a buffer of the same shape to which ag_grad adds. */
ag_tensor *ag_leaf(ag_tape *t, real *data, real *sum, size_t batch, size_t rows, size_t cols);
ag_tensor *ag_new(ag_tape *t, size_t batch, size_t rows, size_t cols); /* a constant, in the arena, uninitialised */
ag_tensor *ag_detach(ag_tape *t, ag_tensor *x);   /* the same data, a constant */
ag_tensor *ag_cut(ag_tape *t, ag_tensor *x);      /* the same data, a leaf of its own */
size_t ag_size(const ag_tensor *x);               /* batch*rows*cols */
real ag_item(const ag_tensor *x);                 /* a scalar's value */

/* ---- gradient ------------------------------------------------------------------------------ */
enum { AG_DIFFERENTIABLE = 1 };
/* d(y . seed)/d wrt[i] into wrt[i]->grad; a leaf with a sum buffer has it ADDED to ->sum instead (with
 * AG_DIFFERENTIABLE: both). seed NULL: ones.
 * wrt NULL: every leaf below y that has a sum buffer. Only paths from wrt to y are computed. One backward sweep,
 * no recursion. Gradients of a value used twice accumulate. With AG_DIFFERENTIABLE the gradients are themselves on
 * the tape. False, with t->fault set, when memory or a derivative is missing.
 * Every call forgets the ->grad that earlier ones left below y: take the pointer if you need it longer. */
bool ag_grad(ag_tape *t, ag_tensor *y, ag_tensor *seed, ag_tensor **wrt, size_t count, int flags);

/* ---- ops ------------------------------------------------------------------------------------ */
/* Rows of x times W^T plus b: x [b,r,k], W [1,m,k], bias [1,1,m] or NULL -> [b,r,m]. */
ag_tensor *ag_linear(ag_tape *t, ag_tensor *x, ag_tensor *W, ag_tensor *bias);
/* op(a) op(b), each flattened to its rows [batch*rows, cols] -> [1,m,n]. */
ag_tensor *ag_matmul(ag_tape *t, ag_tensor *a, transpose ta, ag_tensor *b, transpose tb);
/* Per head h of `heads`, alpha a_h b_h^T: a [b,n,D], b [b,m,D] -> [b*heads,n,m]. With q and k: attention logits. */
ag_tensor *ag_scores(ag_tape *t, ag_tensor *a, ag_tensor *b, size_t heads, real alpha);
/* concat_h alpha op(A^h) v^h: A [b*heads,n,m], v [b,m,D] -> [b,n,D] (transposed: v [b,n,D] -> [b,m,D]). */
ag_tensor *ag_mix(ag_tape *t, ag_tensor *A, transpose ta, ag_tensor *v, size_t heads, real alpha);
ag_tensor *ag_softmax(ag_tape *t, ag_tensor *s, bool causal);         /* over cols */
ag_tensor *ag_logsoftmax(ag_tape *t, ag_tensor *s);                   /* over cols */
ag_tensor *ag_layernorm(ag_tape *t, ag_tensor *x, ag_tensor *gamma, ag_tensor *beta, real eps);
ag_tensor *ag_act(ag_tape *t, ag_tensor *x, act_kind kind, int order); /* the order-th derivative of act at x */
ag_tensor *ag_relu(ag_tape *t, ag_tensor *x);
/* Element by element. b has a's shape, or 1 in any dimension: it is then repeated along it. */
ag_tensor *ag_add(ag_tape *t, ag_tensor *a, ag_tensor *b);
ag_tensor *ag_sub(ag_tape *t, ag_tensor *a, ag_tensor *b);
ag_tensor *ag_mul(ag_tape *t, ag_tensor *a, ag_tensor *b);
ag_tensor *ag_scale(ag_tape *t, ag_tensor *x, real factor, real shift); /* factor x + shift */
ag_tensor *ag_pow(ag_tape *t, ag_tensor *x, real p);                    /* x > 0 */
ag_tensor *ag_exp(ag_tape *t, ag_tensor *x);
ag_tensor *ag_log(ag_tape *t, ag_tensor *x);
ag_tensor *ag_sigmoid(ag_tape *t, ag_tensor *x);
ag_tensor *ag_silu(ag_tape *t, ag_tensor *x);                           /* x sigmoid(x) */
ag_tensor *ag_tanh(ag_tape *t, ag_tensor *x);
ag_tensor *ag_softplus(ag_tape *t, ag_tensor *x);                       /* log(1 + e^x) */
ag_tensor *ag_polygamma(ag_tape *t, ag_tensor *x, int m); /* psi^(m)(x), x > 0; m = -1: log Gamma(x), 0: digamma... 8 */
/* x made to fit a shape: summed along dimensions that become 1, repeated along those that were 1. */
ag_tensor *ag_fit(ag_tape *t, ag_tensor *x, size_t batch, size_t rows, size_t cols);
ag_tensor *ag_sum(ag_tape *t, ag_tensor *x);                            /* -> [1,1,1] */
ag_tensor *ag_dot(ag_tape *t, ag_tensor *a, ag_tensor *b);              /* sum(a*b) -> [1,1,1] */
ag_tensor *ag_normalize(ag_tape *t, ag_tensor *x);                      /* each row / its length */
ag_tensor *ag_max(ag_tape *t, ag_tensor *x);                            /* -> [1,1,1]; gradient to the first largest */
ag_tensor *ag_min(ag_tape *t, ag_tensor *x);
ag_tensor *ag_reshape(ag_tape *t, ag_tensor *x, size_t batch, size_t rows, size_t cols); /* no copy */
/* Rows of x flattened [batch*rows, cols] picked by index[count], repeats allowed -> [1,count,cols]. index is copied. */
ag_tensor *ag_rows(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t count);
/* Rows first.. of each of the batch: x [b,r,c] -> [b,count,c]. */
ag_tensor *ag_some_rows(ag_tape *t, ag_tensor *x, size_t first, size_t count);
/* The transpose of ag_rows: rows of x [.., cols] added into a zeroed [batch, rows, cols] at index[]. */
ag_tensor *ag_scatter_rows(ag_tape *t, ag_tensor *x, const uint32_t *index, size_t batch, size_t rows);
/* Columns first.. of x [b,r,c] -> [b,r,cols]; and the transpose, x [b,r,c] between zeros -> [b,r,cols]. */
ag_tensor *ag_columns(ag_tape *t, ag_tensor *x, size_t first, size_t cols);
ag_tensor *ag_between(ag_tape *t, ag_tensor *x, size_t first, size_t cols);
/* [a; b] along the rows: a [b,n,D], b [b,m,D] -> [b,n+m,D]. */
ag_tensor *ag_join(ag_tape *t, ag_tensor *a, ag_tensor *b);
/* Pairs of columns turned: x [b,still+m,heads*d], angle [1,m,d] constants (cos, sin) a pair -> the same shape; the first
 * `still` rows stay as they are. (a, b) becomes (a cos - b sin, b cos + a sin). */
ag_tensor *ag_turn(ag_tape *t, ag_tensor *x, ag_tensor *angle, size_t still);
#endif
