/* evidence.c - Dirichlet evidence (see evidence.h). */
#include "parts/evidence.h"
#include <math.h>

/* (16.1)  alpha = softplus(logits) + 1 */
ag_tensor *evidence_alpha(ag_tape *t, ag_tensor *logits) { return ag_scale(t, ag_softplus(t, logits), 1, 1); }

static ag_tensor *total(ag_tape *t, ag_tensor *x) { return x ? ag_fit(t, x, 1, x->rows, 1) : NULL; }
/* [1,B,1] as wide as x */
static ag_tensor *wide(ag_tape *t, ag_tensor *column, const ag_tensor *x) { return column && x ? ag_fit(t, column, 1, x->rows, x->cols) : NULL; }
static ag_tensor *inverse(ag_tape *t, ag_tensor *x) { return ag_pow(t, x, -1); }

static ag_tensor *one_hot(ag_tape *t, const ag_tensor *like, const uint32_t *labels, bool others) {
    ag_tensor *y = like ? ag_new(t, 1, like->rows, like->cols) : NULL;
    for (size_t i = 0; y && i < like->rows * like->cols; i++) y->data[i] = (labels[i / like->cols] == i % like->cols) != others;
    return y;
}

ag_tensor *evidence_doubt(ag_tape *t, ag_tensor *alpha) {
    return alpha ? ag_scale(t, inverse(t, total(t, alpha)), (real)alpha->cols, 0) : NULL;
}

ag_tensor *evidence_term(ag_tape *t, ag_tensor *alpha, const uint32_t *labels, evidence_kind kind) {
    ag_tensor *S = total(t, alpha), *y = one_hot(t, alpha, labels, false);
    if (!S || !y) return NULL;
    if (kind == EVIDENCE_LOG) /* (16.3)  sum y (ln S - ln alpha) */
        return total(t, ag_mul(t, y, ag_sub(t, wide(t, ag_log(t, S), alpha), ag_log(t, alpha))));
    if (kind == EVIDENCE_DIGAMMA) /* (16.4)  sum y (psi(S) - psi(alpha)) */
        return total(t, ag_mul(t, y, ag_sub(t, wide(t, ag_polygamma(t, S, 0), alpha), ag_polygamma(t, alpha, 0))));
    ag_tensor *p = ag_mul(t, alpha, inverse(t, S)), *off = ag_sub(t, y, p); /* (16.2)  sum (y - p)^2 + p (1 - p)/(S + 1) */
    ag_tensor *spread_ = ag_mul(t, ag_mul(t, p, ag_scale(t, p, -1, 1)), inverse(t, ag_scale(t, S, 1, 1)));
    return total(t, ag_add(t, ag_mul(t, off, off), spread_));
}

/* (16.5)  of what speaks for other classes: a = y + (1-y) alpha;
 *         ln G(S) - ln G(K) - sum ln G(a) + sum (a - 1)(psi(a) - psi(S)), S = sum a */
ag_tensor *evidence_kl(ag_tape *t, ag_tensor *alpha, const uint32_t *labels) {
    ag_tensor *y = one_hot(t, alpha, labels, false), *not = one_hot(t, alpha, labels, true);
    if (!y || !not) return NULL;
    ag_tensor *a = ag_add(t, ag_mul(t, alpha, not), y), *S = total(t, a);
    ag_tensor *gammas = ag_sub(t, ag_polygamma(t, S, -1), total(t, ag_polygamma(t, a, -1)));
    ag_tensor *pull = ag_sub(t, ag_polygamma(t, a, 0), wide(t, ag_polygamma(t, S, 0), a));
    return ag_add(t, ag_scale(t, gammas, 1, (real)-lgamma((double)alpha->cols)), total(t, ag_mul(t, ag_scale(t, a, 1, -1), pull)));
}

ag_tensor *evidence_loss(ag_tape *t, ag_tensor *alpha, const uint32_t *labels, evidence_kind kind, real lambda, real weight) {
    ag_tensor *sum = ag_sum(t, evidence_term(t, alpha, labels, kind));
    return ag_scale(t, ag_add(t, sum, ag_scale(t, ag_sum(t, evidence_kl(t, alpha, labels)), lambda, 0)), weight, 0);
}

/* (16.6)  b = (alpha - 1)/S, u = K/S; C = sum_{i != j} b1_i b2_j;
 *         b = (b1 b2 + b1 u2 + b2 u1)/(1 - C), u = u1 u2/(1 - C); alpha = b K/u + 1 = K (b1 b2 + b1 u2 + b2 u1)/(u1 u2) + 1 */
ag_tensor *evidence_fuse(ag_tape *t, ag_tensor *alpha1, ag_tensor *alpha2) {
    if (!alpha1 || !alpha2) return NULL;
    ag_tensor *u1 = evidence_doubt(t, alpha1), *u2 = evidence_doubt(t, alpha2);
    ag_tensor *b1 = ag_mul(t, ag_scale(t, alpha1, 1, -1), inverse(t, total(t, alpha1)));
    ag_tensor *b2 = ag_mul(t, ag_scale(t, alpha2, 1, -1), inverse(t, total(t, alpha2)));
    ag_tensor *b = ag_add(t, ag_mul(t, b1, b2), ag_add(t, ag_mul(t, b1, u2), ag_mul(t, b2, u1)));
    return ag_scale(t, ag_mul(t, b, inverse(t, ag_mul(t, u1, u2))), (real)alpha1->cols, 1);
}

/* (16.7)  omega = 2 beta (1 + nu);  nll = ln(pi/nu)/2 - alpha ln omega + (alpha + 1/2) ln((y - gamma)^2 nu + omega)
 *         + ln G(alpha) - ln G(alpha + 1/2);  reg = |y - gamma| (2 nu + alpha) */
ag_tensor *evidence_regression(ag_tape *t, ag_tensor *raw, const real *targets, real lambda, real weight) {
    if (!raw) return NULL;
    enum { TINY = 1000000 };
    size_t B = raw->rows;
    ag_tensor *nu = ag_scale(t, ag_softplus(t, ag_columns(t, raw, 1, 1)), 1, (real)(1.0 / (double)TINY));
    ag_tensor *alpha = ag_scale(t, ag_softplus(t, ag_columns(t, raw, 2, 1)), 1, (real)(1 + 1.0 / (double)TINY));
    ag_tensor *beta = ag_scale(t, ag_softplus(t, ag_columns(t, raw, 3, 1)), 1, (real)(1.0 / (double)TINY));
    ag_tensor *off = ag_sub(t, ag_columns(t, raw, 0, 1), ag_constant(t, targets, 1, B, 1));
    ag_tensor *omega = ag_scale(t, ag_mul(t, beta, ag_scale(t, nu, 1, 1)), 2, 0);
    ag_tensor *fit = ag_log(t, ag_add(t, ag_mul(t, ag_mul(t, off, off), nu), omega));
    ag_tensor *nll = ag_scale(t, ag_log(t, nu), (real)-0.5, (real)(0.5 * log(3.14159265358979323846)));
    nll = ag_sub(t, nll, ag_mul(t, alpha, ag_log(t, omega)));
    nll = ag_add(t, nll, ag_mul(t, ag_scale(t, alpha, 1, (real)0.5), fit));
    nll = ag_add(t, nll, ag_sub(t, ag_polygamma(t, alpha, -1), ag_polygamma(t, ag_scale(t, alpha, 1, (real)0.5), -1)));
    ag_tensor *away = ag_add(t, ag_relu(t, off), ag_relu(t, ag_scale(t, off, -1, 0))); /* |off| */
    ag_tensor *reg = ag_mul(t, away, ag_add(t, ag_scale(t, nu, 2, 0), alpha));
    return ag_scale(t, ag_sum(t, ag_add(t, nll, ag_scale(t, reg, lambda, 0))), weight, 0);
}
