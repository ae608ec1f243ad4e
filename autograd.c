/* autograd.c - a reverse-mode tape: how a network is differentiated, and its gradient again.
 *
 * Forward, every op computes its result at once and leaves a note on the tape: who I am (op), what I
 * came from (in). Backward, ag_grad walks the notes from last to first. Each op then knows the gradient g
 * of the result y and owes each input x the product J^T g, J = dy/dx; tape_give adds it to what x has got so far.
 *
 * The one idea beyond the textbook: a backward is itself made of ops. So the ops form families closed
 * under differentiation (a product's gradient is two products, a sum's is a broadcast), and a gradient that
 * is recorded while it is computed can be differentiated like any other result: AG_DIFFERENTIABLE.
 * Where nobody asks for that, recording is off, the same lines run as plain loops, and gradients are
 * accumulated in place: the training path.
 *
 * Here: the tape, ag_grad. The ops: ops_products.c, ops_rows.c, ops_each.c; what they share: tape.h. Formulas: MODEL.md 8.
 */
#include "tape.h"

#include <string.h>

/* ---- tape ----------------------------------------------------------------------------------- */

bool ag_tape_init(ag_tape *t, arena *memory, pool *cores, size_t capacity) {
    *t = (ag_tape){.memory = memory, .cores = cores, .capacity = capacity, .recording = true};
    t->nodes = arena_alloc(memory, capacity, sizeof(ag_tensor *));
    return t->nodes || fault_memory(&t->fault, "tape", memory, capacity * sizeof(ag_tensor *));
}

ag_mark ag_tape_mark(const ag_tape *t) { return (ag_mark){arena_mark(t->memory), t->count}; }

void ag_tape_reset(ag_tape *t, ag_mark mark) {
    arena_reset(t->memory, mark.arena);
    t->count = mark.count;
}

ag_tensor *tape_bad_shape(ag_tape *t, const char *op, const ag_tensor *a, const ag_tensor *b) {
    size_t n[6] = {a->batch, a->rows, a->cols, b->batch, b->rows, b->cols};
    fault_set(&t->fault, FAULT_SHAPE, op, n, 6);
    return NULL;
}

void *tape_take(ag_tape *t, size_t count, size_t each) {
    void *p = arena_alloc(t->memory, count, each);
    size_t asked = SIZE_MAX;
    if (p) return p;
    size_mul(count, each, &asked);
    fault_memory(&t->fault, "tensor", t->memory, asked);
    return NULL;
}

ag_tensor *tape_make(ag_tape *t, size_t batch, size_t rows, size_t cols, real *data) {
    size_t size = 0;
    if (t->fault.code) return NULL;
    if (!size_mul(batch, rows, &size) || !size_mul(size, cols, &size) || size == 0) {
        fault_set(&t->fault, FAULT_SHAPE, "tensor", (size_t[]){batch, rows, cols, 1, 1, 1}, 6);
        return NULL;
    }
    ag_tensor *x = tape_take(t, 1, sizeof *x);
    if (x && !data) data = tape_take(t, size, sizeof *data);
    if (!x || !data) return NULL;
    *x = (ag_tensor){.data = data, .batch = batch, .rows = rows, .cols = cols};
    return x;
}

ag_tensor *tape_record(ag_tape *t, const struct ag_op *op, ag_tensor *y, ag_tensor *a, ag_tensor *b, ag_tensor *c) {
    if (!y) return NULL;
    y->in[0] = a, y->in[1] = b, y->in[2] = c;
    if (!t->recording || !((a && a->needs) || (b && b->needs) || (c && c->needs))) return y;
    if (t->count == t->capacity) {
        fault_set(&t->fault, FAULT_TAPE, op->name, &t->capacity, 1);
        return NULL;
    }
    y->op = op;
    y->needs = true;
    y->index = t->count;
    t->nodes[t->count++] = y;
    return y;
}

ag_tensor *tape_like(ag_tape *t, const struct ag_op *op, ag_tensor *x, ag_tensor *b, ag_tensor *c) {
    return x ? tape_record(t, op, tape_make(t, x->batch, x->rows, x->cols, NULL), x, b, c) : NULL;
}

ag_tensor *ag_new(ag_tape *t, size_t batch, size_t rows, size_t cols) { return tape_make(t, batch, rows, cols, NULL); }

ag_tensor *ag_constant(ag_tape *t, const real *data, size_t batch, size_t rows, size_t cols) {
    return data ? tape_make(t, batch, rows, cols, (real *)(uintptr_t)data) : NULL; /* never written through */
}

ag_tensor *ag_leaf(ag_tape *t, real *data, real *sum, size_t batch, size_t rows, size_t cols) {
    ag_tensor *x = ag_constant(t, data, batch, rows, cols);
    if (x) {
        x->sum = sum;
        x->needs = true;
    }
    return x;
}

ag_tensor *ag_detach(ag_tape *t, ag_tensor *x) {
    return x ? ag_constant(t, x->data, x->batch, x->rows, x->cols) : NULL;
}

ag_tensor *ag_cut(ag_tape *t, ag_tensor *x) { return x ? ag_leaf(t, x->data, NULL, x->batch, x->rows, x->cols) : NULL; }

size_t ag_size(const ag_tensor *x) { return x->batch * x->rows * x->cols; }

real ag_item(const ag_tensor *x) { return x->data[0]; }

/* ---- loops over cores: blocks of rows, cut by shape alone so that bytes do not depend on the cores -------- */

typedef struct {
    ag_tensor *y;
    row_loop *loop;
    size_t rows, block;
} row_job;

enum { BLOCK = 16384 }; /* elements: enough to pay for waking a core */

static void row_task(void *arg, size_t i) {
    const row_job *job = arg;
    size_t first = i * job->block, left = job->rows - first;
    job->loop(job->y, first, first + (left < job->block ? left : job->block));
}

ag_tensor *tape_run(ag_tape *t, ag_tensor *y, size_t rows, size_t cols, row_loop *loop) {
    if (!y) return NULL;
    size_t block = cols < BLOCK ? BLOCK / cols : 1;
    if (!t->cores || rows <= block)
        loop(y, 0, rows);
    else
        spread(t->cores, (rows + block - 1) / block, row_task, &(row_job){y, loop, rows, block});
    return y;
}

/* ---- ag_grad -------------------------------------------------------------------------------- */

/* Differentiable: by an op. Otherwise in place, in whichever of
 * the two buffers is nobody else's: a backward gives each tensor it makes once, and g, which it may hand on to
 * several inputs, is `shared`. */
void tape_give(ag_tape *t, ag_tensor *x, ag_tensor *c) {
    c = c ? ag_reshape(t, c, x->batch, x->rows, x->cols) : NULL;
    if (!c) return;
    if (x->sum) {
        k_axpy(1, c->data, x->sum, ag_size(x));
        if (!t->recording) return;
    }
    if (!x->grad) {
        x->grad = c;
    } else if (t->recording || (x->grad->shared && c->shared)) {
        x->grad = ag_add(t, x->grad, c);
    } else if (c->shared) {
        k_axpy(1, c->data, x->grad->data, ag_size(x));
    } else {
        k_axpy(1, x->grad->data, c->data, ag_size(x));
        x->grad = c;
    }
}

bool tape_wants(const ag_tensor *x) { return x && x->marked; }

real *tape_straight(const ag_tape *t, const ag_tensor *x) { return tape_wants(x) && !t->recording ? x->sum : NULL; }

void tape_give_row_sum(ag_tape *t, ag_tensor *x, ag_tensor *g) {
    real *sum = tape_straight(t, x);
    if (!g) return;
    if (sum)
        k_sum_rows(g->data, sum, all_rows(g), g->cols);
    else
        tape_give(t, x, ag_fit(t, g, 1, 1, g->cols));
}

static void forget(ag_tensor *x) {
    if (x) {
        x->grad = NULL;
        x->marked = false;
    }
}

/* Marks the nodes 0..nodes-1 that lie between wrt and the end, and wrt itself. */
static void mark_paths(ag_tape *t, size_t nodes, ag_tensor *y, ag_tensor **wrt, size_t count) {
    forget(y);
    for (size_t i = 0; i < nodes; i++) {
        forget(t->nodes[i]);
        for (int j = 0; j < 3; j++) forget(t->nodes[i]->in[j]);
    }
    for (size_t i = 0; wrt && i < count; i++) forget(wrt[i]);
    for (size_t i = 0; wrt && i < count; i++) wrt[i]->marked = true;
    if (!wrt && y->sum) y->marked = true;
    for (size_t i = 0; i < nodes; i++) {
        ag_tensor *x = t->nodes[i];
        for (int j = 0; j < 3; j++) {
            if (!wrt && x->in[j] && x->in[j]->sum) x->in[j]->marked = true;
            if (tape_wants(x->in[j])) x->marked = true;
        }
    }
}

bool ag_grad(ag_tape *t, ag_tensor *y, ag_tensor *seed, ag_tensor **wrt, size_t count, int flags) {
    bool was_recording = t->recording;
    if (!y || t->fault.code) return false;
    for (size_t i = 0; wrt && i < count; i++)
        if (!wrt[i]) return false;
    if (seed && !same_shape(y, seed)) return tape_bad_shape(t, "grad", y, seed);
    size_t nodes = y->op ? y->index + 1 : 0;
    mark_paths(t, nodes, y, wrt, count);
    if (!y->marked) return true; /* y does not depend on wrt */
    if (!seed && (seed = ag_new(t, y->batch, y->rows, y->cols)))
        for (size_t i = 0; i < ag_size(seed); i++) seed->data[i] = 1;
    t->recording = flags & AG_DIFFERENTIABLE;
    tape_give(t, y, seed);
    for (size_t i = nodes; i-- > 0 && !t->fault.code;) {
        ag_tensor *x = t->nodes[i];
        if (!x->grad || !(tape_wants(x->in[0]) || tape_wants(x->in[1]) || tape_wants(x->in[2]))) continue;
        x->grad->shared = true; /* complete: read from here on, never written */
        x->op->backward(t, x, x->grad);
    }
    t->recording = was_recording;
    return !t->fault.code;
}

