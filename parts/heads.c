/* heads.c - class, edge and depth from patch tokens (see heads.h). */
#include "parts/heads.h"
#include <math.h>

void heads_weights(label_heads *h, part_list *l) {
    double s = pow((double)h->width, -0.5);
    part_linear(l, h->class_, h->classes, h->width, false, s, "head.class");
    part_linear(l, h->edge, 1, h->width, false, s, "head.edge");
    part_linear(l, h->depth, 1, h->width, false, s, "head.depth");
}

/* (v - mean)/(mean |v - mean| + 1e-6) over each picture's cells: [B,n,1] */
static ag_tensor *aligned(ag_tape *t, ag_tensor *v) {
    if (!v) return NULL;
    size_t B = v->batch, n = v->rows;
    ag_tensor *mean = ag_scale(t, ag_fit(t, v, B, 1, 1), 1 / (real)n, 0), *off = ag_sub(t, v, ag_fit(t, mean, B, n, 1));
    ag_tensor *away = ag_add(t, ag_relu(t, off), ag_relu(t, ag_scale(t, off, -1, 0)));
    ag_tensor *spread_ = ag_scale(t, ag_fit(t, away, B, 1, 1), 1 / (real)n, (real)1e-6);
    return ag_mul(t, off, ag_fit(t, ag_pow(t, spread_, -1), B, n, 1));
}

ag_tensor *heads_loss(ag_tape *t, const label_heads *h, ag_tensor *normed, const cell_labels *labels, const real weight[3], size_t of,
                      ag_tensor *parts[3]) {
    if (!normed) return NULL;
    size_t B = normed->batch, n = normed->rows;
    real each = 1 / (real)(of * n);
    ag_tensor *c = ag_logsoftmax(t, part_use_linear(t, h->class_, false, normed));
    ag_tensor *e = part_use_linear(t, h->edge, false, normed), *d = part_use_linear(t, h->depth, false, normed);
    ag_tensor *ce = ag_scale(t, ag_dot(t, c, ag_constant(t, labels->share, B, n, h->classes)), -each, 0);
    ag_tensor *bce = ag_sub(t, ag_softplus(t, e), ag_mul(t, e, ag_constant(t, labels->edge, B, n, 1)));
    bce = ag_scale(t, ag_sum(t, bce), each, 0);
    ag_tensor *off = ag_sub(t, aligned(t, d), aligned(t, ag_constant(t, labels->depth, B, n, 1)));
    ag_tensor *far = ag_add(t, ag_relu(t, off), ag_relu(t, ag_scale(t, off, -1, 0)));
    far = ag_scale(t, ag_sum(t, far), each, 0);
    if (parts) parts[0] = ce, parts[1] = bce, parts[2] = far;
    return ag_add(t, ag_scale(t, ce, weight[0], 0), ag_add(t, ag_scale(t, bce, weight[1], 0), ag_scale(t, far, weight[2], 0)));
}
