/* tape.h - what the files of operations share: a note on the tape, a gradient given on (see autograd.h).
 *
 *     static void exp_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) { tape_give(t, y->in[0], ag_mul(t, g, y)); }
 *     static const struct ag_op op_exp = {"exp", exp_backward};
 *     ag_tensor *y = tape_like(t, &op_exp, x, NULL, NULL);            // of x's shape, on the tape
 *     return tape_run(t, y, ag_size(y), 1, exp_rows);                 // computed in blocks, over the cores
 *
 * A new operation is these four pieces: backward, row of the table, the loop, the function. Nobody else needs this file.
 */
#ifndef TAPE_H
#define TAPE_H
#include "autograd.h"

/* What an op is to the tape. y->in are its inputs; g is the gradient of y, of y's shape. */
struct ag_op {
    const char *name;
    void (*backward)(ag_tape *t, ag_tensor *y, ag_tensor *g);
};

static inline size_t all_rows(const ag_tensor *x) { return x->batch * x->rows; }

static inline bool same_shape(const ag_tensor *a, const ag_tensor *b) {
    return a->batch == b->batch && a->rows == b->rows && a->cols == b->cols;
}

/* FAULT_SHAPE with both shapes; NULL. */
ag_tensor *tape_bad_shape(ag_tape *t, const char *op, const ag_tensor *a, const ag_tensor *b);
/* Memory for an op's own use, which lives as long as its result. */
void *tape_take(ag_tape *t, size_t count, size_t each);
/* A tensor that nothing is known of but its shape; data NULL: taken from the arena. */
ag_tensor *tape_make(ag_tape *t, size_t batch, size_t rows, size_t cols, real *data);
/* The result of an op, on the tape if it depends on a leaf. y->in is set in any case: the loops read it. */
ag_tensor *tape_record(ag_tape *t, const struct ag_op *op, ag_tensor *y, ag_tensor *a, ag_tensor *b, ag_tensor *c);
/* An op's result of x's shape. */
ag_tensor *tape_like(ag_tape *t, const struct ag_op *op, ag_tensor *x, ag_tensor *b, ag_tensor *c);

typedef void row_loop(ag_tensor *y, size_t first, size_t last); /* computes rows first..last-1 of y */
/* Blocks of rows over the cores, cut by shape alone. */
ag_tensor *tape_run(ag_tape *t, ag_tensor *y, size_t rows, size_t cols, row_loop *loop);

/* ---- in a backward ---- */
/* x's gradient grows by c, a tensor of as many elements. */
void tape_give(ag_tape *t, ag_tensor *x, ag_tensor *c);
/* x's gradient is the sum of g's rows, and of its batch. */
void tape_give_row_sum(ag_tape *t, ag_tensor *x, ag_tensor *g);
/* Does the sweep want x's gradient? */
bool tape_wants(const ag_tensor *x);
/* The buffer to which a parameter's gradient may be added without making a tensor of it first, or NULL. */
real *tape_straight(const ag_tape *t, const ag_tensor *x);
/* The sum of each row, [b,r,1]. */
static inline ag_tensor *tape_row_sum(ag_tape *t, ag_tensor *x) {
    return x ? ag_fit(t, x, x->batch, x->rows, 1) : NULL;
}
#endif
