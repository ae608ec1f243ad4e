/* ops_turn.c - rotary positions: pairs of columns turned by their row's angles (see autograd.h; MODEL.md 1.20). */
#include "tape.h"
#include <string.h>

static void turn_backward(ag_tape *t, ag_tensor *y, ag_tensor *g);
static const struct ag_op op_turn = {"turn", turn_backward};

/* Rows [first, last) of y: (a, b) -> (a cos - b sin, b cos + a sin), backwards with -sin; the first k[1] stay. */
static void turn_rows(ag_tensor *y, size_t first, size_t last) {
    const ag_tensor *x = y->in[0], *angle = y->in[1];
    size_t d = angle->cols, D = y->cols;
    for (size_t r = first; r < last; r++) {
        const real *from = x->data + r * D, *turn = angle->data;
        real *to = y->data + r * D;
        if (r % y->rows < y->k[1]) {
            memcpy(to, from, D * sizeof *to);
            continue;
        }
        turn += (r % y->rows - y->k[1]) * d;
        for (size_t c = 0; c < D; c += 2) {
            real cosine = turn[c % d], sine = y->f[0] * turn[c % d + 1];
            to[c] = from[c] * cosine - from[c + 1] * sine;
            to[c + 1] = from[c + 1] * cosine + from[c] * sine;
        }
    }
}

static ag_tensor *turn(ag_tape *t, ag_tensor *x, ag_tensor *angle, size_t still, real way) {
    if (!x || !angle) return NULL;
    if (angle->cols % 2 || x->cols % angle->cols || still + angle->rows != x->rows)
        return tape_bad_shape(t, "turn", x, angle);
    ag_tensor *y = tape_like(t, &op_turn, x, angle, NULL);
    if (!y) return NULL;
    y->k[1] = still;
    y->f[0] = way;
    return tape_run(t, y, all_rows(y), y->cols, turn_rows);
}

/* A rotation's transpose turns back. The angles are constants. */
static void turn_backward(ag_tape *t, ag_tensor *y, ag_tensor *g) {
    if (tape_wants(y->in[0])) tape_give(t, y->in[0], turn(t, g, y->in[1], y->k[1], -y->f[0]));
}

ag_tensor *ag_turn(ag_tape *t, ag_tensor *x, ag_tensor *angle, size_t still) { return turn(t, x, angle, still, 1); }
