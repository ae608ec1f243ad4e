/* alpha.c - AlphaCLIP's loss (see alpha.h). */
#include "parts/alpha.h"

/* Targets: each row of truth (of its transpose) over its sum, mixed with an even share. */
static ag_tensor *targets(ag_tape *t, const real *truth, size_t n, bool transposed, real smoothing, real weight) {
    ag_tensor *y = ag_new(t, 1, n, n);
    for (size_t i = 0; y && i < n; i++) {
        real sum = 0;
        for (size_t k = 0; k < n; k++) sum += transposed ? truth[k * n + i] : truth[i * n + k];
        for (size_t k = 0; k < n; k++)
            y->data[i * n + k] = -weight * ((1 - smoothing) * (transposed ? truth[k * n + i] : truth[i * n + k]) / sum + smoothing / (real)n);
    }
    return y;
}

/* (14.2) */
ag_tensor *alpha_loss(ag_tape *t, ag_tensor *z, const real *texts, const real *truth, real scale, real smoothing, real weight) {
    if (!z) return NULL;
    size_t B = z->batch * z->rows, E = z->cols;
    ag_tensor *unit = ag_normalize(t, ag_reshape(t, z, 1, B, E)), *T_ = ag_constant(t, texts, 1, B, E);
    ag_tensor *rows = ag_logsoftmax(t, ag_scale(t, ag_matmul(t, unit, NO_T, T_, T), scale, 0));
    ag_tensor *cols = ag_logsoftmax(t, ag_scale(t, ag_matmul(t, T_, NO_T, unit, T), scale, 0));
    return ag_add(t, ag_dot(t, rows, targets(t, truth, B, false, smoothing, weight / 2)),
                  ag_dot(t, cols, targets(t, truth, B, true, smoothing, weight / 2)));
}
