/* kernels.h - the loops that are no matrix products: element by element or row by row.
 *
 *     k_layernorm(x, gamma, beta, 1e-5f, y, NULL, NULL, rows, cols);
 *     k_act(ACT_GELU, 0, y, y, rows * cols);
 *     k_softmax(s, s, rows, cols, false);
 *
 * Plain C that compilers vectorise (`#pragma omp simd`, no -ffast-math). On x86-64 with glibc each
 * kernel is compiled for several instruction sets and the loader picks one; elsewhere there is one.
 * All work on one core, on contiguous rows; callers spread rows over cores (kernels never know the pool).
 */
#ifndef KERNELS_H
#define KERNELS_H
#include "base.h"

typedef enum { ACT_QUICK_GELU, ACT_GELU, ACT_GELU_TANH, ACT_SILU, ACT_KINDS } act_kind;

/* y[i] = act^(order)(x[i]); order 0, 1 or 2.  quick: x*sigmoid(1.702x); gelu: x*Phi(x), by erf;
 * tanh: gelu by tanh; silu: x*sigmoid(x). y may be x. */
void k_act(act_kind kind, int order, const real *x, real *y, size_t n);
/* y = act(x), d = act'(x) in one pass. */
void k_act_both(act_kind kind, const real *x, real *y, real *d, size_t n);
void k_exp(const real *x, real *y, size_t n); /* float: x is held within -87..88, where e^x is a normal number */
/* Rows of s [rows, cols] become softmax(s), in place or into y. When causal, row r has its first r + 1 columns alone
 * and the rest becomes 0. */
void k_softmax(const real *s, real *y, size_t rows, size_t cols, bool causal);
/* d = y * (g - sum(g*y)) per row: the softmax's transposed Jacobian. d may be g. */
void k_softmax_grad(const real *y, const real *g, real *d, size_t rows, size_t cols);
/* (1.3)  y = (x - mean)/sqrt(var + eps) * gamma + beta per row. gamma/beta may be NULL. mean, rstd [rows] may be NULL. */
void k_layernorm(const real *x, const real *gamma, const real *beta, real eps, real *y, real *mean, real *rstd,
                 size_t rows, size_t cols);
/* dx = LN^T(g): (gamma*g - mean(gamma*g) - xhat*mean(gamma*g*xhat))*rstd; when dgamma/dbeta are not NULL they are
 * ADDED to. */
void k_layernorm_grad(const real *x, const real *mean, const real *rstd, const real *gamma, const real *g, real *dx,
                      real *dgamma, real *dbeta, size_t rows, size_t cols);
real k_sqrt(real x); /* without a detour by double, which small FPUs lack */
real k_dot(const real *a, const real *b, size_t n);
real k_sum(const real *a, size_t n);
bool k_finite(const real *a, size_t n); /* all of them: no NaN, no infinity */
void k_axpy(real alpha, const real *x, real *y, size_t n);        /* y += alpha x */
/* y[j] += sum_i x[i] w[i,j] over `rows` rows of w, `stride` apart */
void k_axpy_rows(const real *x, const real *w, size_t rows, size_t stride, real *y, size_t n);
void k_mul(const real *a, const real *b, real *y, size_t n);      /* y = a*b, y may be either */
void k_fill_rows(const real *row, real *y, size_t rows, size_t cols); /* y[r,:] = row */
void k_sum_rows(const real *x, real *sum, size_t rows, size_t cols);  /* sum[c] += sum_r x[r,c] */
void k_from_half(const uint16_t *h, real *y, size_t n);
void k_from_bfloat(const uint16_t *h, real *y, size_t n);
void k_from_float(const float *h, real *y, size_t n);
#endif
