/* kernels.c - loops over elements and rows (see kernels.h). */
#include "kernels.h"
#include <math.h>
#include "simd.h"

static ALWAYS_INLINE float float_of(uint32_t u) { /* the float with these bits */
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- exp, sigmoid, the normal distribution --------------------------------------------------- */
#ifdef MASKINV_DOUBLE
#define R(x) x
static ALWAYS_INLINE real exp_(real x) { return exp(x); }
static ALWAYS_INLINE real cdf_(real x) { return 0.5 * (1 + erf(x * 0.70710678118654752440)); }
#else
#define R(x) x##f
static ALWAYS_INLINE uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* e^x within 2 ulp: x = n ln2 + r, e^x = 2^n P(r). Branch-free so that it vectorises; NaN comes through. */
static ALWAYS_INLINE real exp_(real x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float z = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the low bits of z are round(x / ln2) */
    float n = z - 12582912.0f;
    float r = (x - n * 0.693145752f) - n * 1.42860677e-6f; /* ln2 in two parts */
    float p = 1.9875691e-4f;
    p = p * r + 1.3981999e-3f;
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 5.0000001e-1f;
    p = p * r * r + r + 1;
    return p * float_of((bits_of(z) - 0x4B400000u + 127u) << 23);
}

/* Phi(x) = (1 + erf(x/sqrt2))/2, erf by Abramowitz & Stegun 7.1.26: within 1.5e-7 */
static ALWAYS_INLINE real cdf_(real x) {
    float a = fabsf(x) * 0.70710678f, t = 1 / (1 + 0.3275911f * a);
    float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    float tail = 0.5f * p * exp_(-a * a);
    return x < 0 ? tail : 1 - tail;
}
#endif

static ALWAYS_INLINE real sigmoid_(real x) { return 1 / (1 + exp_(-x)); }
static ALWAYS_INLINE real pdf_(real x) { return R(0.39894228040143268) * exp_(-x * x / 2); }

SIMD_KERNEL void k_exp(const real *x, real *y, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = exp_(x[i]);
}

/* ---- activations: act, act', act'' ----------------------------------------------------------- */
static ALWAYS_INLINE real quick0(real x) { return x * sigmoid_(R(1.702) * x); }
static ALWAYS_INLINE real quick1(real x) {
    real s = sigmoid_(R(1.702) * x);
    return s + R(1.702) * x * s * (1 - s);
}
static ALWAYS_INLINE real quick2(real x) {
    real s = sigmoid_(R(1.702) * x);
    return R(1.702) * s * (1 - s) * (2 + R(1.702) * x * (1 - 2 * s));
}
/* x sigmoid(w(x)) with its derivatives: w = x (silu), and w = 2 sqrt(2/pi)(x + 0.044715 x^3), which is gelu with the tanh in
 * place of erf, since (1 + tanh u)/2 = sigmoid(2u). */
#define SIGMOID_FAMILY(name, W, W1, W2)                                                                                \
    static ALWAYS_INLINE real name##0(real x) { return x * sigmoid_(W); }                                              \
    static ALWAYS_INLINE real name##1(real x) {                                                                        \
        real s = sigmoid_(W);                                                                                          \
        return s + x * s * (1 - s) * (W1);                                                                             \
    }                                                                                                                  \
    static ALWAYS_INLINE real name##2(real x) {                                                                        \
        real s = sigmoid_(W), w1 = W1;                                                                                 \
        return s * (1 - s) * (2 * w1 + x * (W2) + x * w1 * w1 * (1 - 2 * s));                                          \
    }
#define TANH_C R(1.5957691216057308)
SIGMOID_FAMILY(silu, x, 1, 0)
SIGMOID_FAMILY(tanh, TANH_C *(x + R(0.044715) * x * x * x), TANH_C *(1 + R(0.134145) * x * x), TANH_C *R(0.26829) * x)
static ALWAYS_INLINE real gelu0(real x) { return x * cdf_(x); }
static ALWAYS_INLINE real gelu1(real x) { return cdf_(x) + x * pdf_(x); }
static ALWAYS_INLINE real gelu2(real x) { return pdf_(x) * (2 - x * x); }

#define EACH(name, f)                                                                                                  \
    SIMD_LOCAL static void name(const real *x, real *y, size_t n) {                                                   \
        _Pragma("omp simd") for (size_t i = 0; i < n; i++) y[i] = f(x[i]);                                             \
    }
EACH(quick0_each, quick0)
EACH(quick1_each, quick1)
EACH(quick2_each, quick2)
EACH(gelu0_each, gelu0)
EACH(gelu1_each, gelu1)
EACH(gelu2_each, gelu2)
EACH(tanh0_each, tanh0)
EACH(tanh1_each, tanh1)
EACH(tanh2_each, tanh2)
EACH(silu0_each, silu0)
EACH(silu1_each, silu1)
EACH(silu2_each, silu2)

void k_act(act_kind kind, int order, const real *x, real *y, size_t n) {
    static void (*const each[ACT_KINDS][3])(const real *, real *, size_t) = {
        [ACT_QUICK_GELU] = {quick0_each, quick1_each, quick2_each},
        [ACT_GELU] = {gelu0_each, gelu1_each, gelu2_each},
        [ACT_GELU_TANH] = {tanh0_each, tanh1_each, tanh2_each},
        [ACT_SILU] = {silu0_each, silu1_each, silu2_each},
    };
    each[kind][order](x, y, n);
}

SIMD_LOCAL static void quick_both(const real *x, real *y, real *d, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        real v = x[i], s = sigmoid_(R(1.702) * v);
        y[i] = v * s;
        d[i] = s + R(1.702) * v * s * (1 - s);
    }
}

SIMD_LOCAL static void gelu_both(const real *x, real *y, real *d, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        real v = x[i], p = cdf_(v);
        y[i] = v * p;
        d[i] = p + v * pdf_(v);
    }
}

void k_act_both(act_kind kind, const real *x, real *y, real *d, size_t n) {
    if (kind == ACT_GELU) gelu_both(x, y, d, n);
    else if (kind == ACT_QUICK_GELU) quick_both(x, y, d, n);
    else {
        k_act(kind, 1, x, d, n);
        k_act(kind, 0, x, y, n);
    }
}

/* ---- softmax --------------------------------------------------------------------------------- */
static ALWAYS_INLINE real row_max(const real *s, size_t n) {
    real top = s[0];
#pragma omp simd reduction(max : top)
    for (size_t j = 0; j < n; j++) top = s[j] > top ? s[j] : top;
    return top;
}

SIMD_KERNEL void k_softmax(const real *s, real *y, size_t rows, size_t cols, bool causal) {
    for (size_t r = 0; r < rows; r++, s += cols, y += cols) {
        size_t n = causal && r + 1 < cols ? r + 1 : cols;
        real top = row_max(s, n), sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < n; j++) {
            y[j] = exp_(s[j] - top);
            sum += y[j];
        }
        real scale = 1 / sum;
#pragma omp simd
        for (size_t j = 0; j < n; j++) y[j] *= scale;
        for (size_t j = n; j < cols; j++) y[j] = 0;
    }
}

SIMD_KERNEL void k_softmax_grad(const real *y, const real *g, real *d, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++, y += cols, g += cols, d += cols) {
        real dot = 0;
#pragma omp simd reduction(+ : dot)
        for (size_t j = 0; j < cols; j++) dot += g[j] * y[j];
#pragma omp simd
        for (size_t j = 0; j < cols; j++) d[j] = y[j] * (g[j] - dot);
    }
}

real k_sqrt(real x) {
#ifdef MASKINV_DOUBLE
    return sqrt(x);
#else
    return sqrtf(x);
#endif
}

/* ---- layer norm ------------------------------------------------------------------------------ */
SIMD_KERNEL void k_layernorm(const real *x, const real *gamma, const real *beta, real eps, real *y, real *mean,
                             real *rstd, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        real sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t j = 0; j < cols; j++) sum += x[j];
        real mu = sum / (real)cols;
#pragma omp simd reduction(+ : square)
        for (size_t j = 0; j < cols; j++) square += (x[j] - mu) * (x[j] - mu);
        real rs = 1 / k_sqrt(square / (real)cols + eps);
        if (mean) mean[r] = mu;
        if (rstd) rstd[r] = rs;
        if (gamma && beta) {
#pragma omp simd
            for (size_t j = 0; j < cols; j++) y[j] = (x[j] - mu) * rs * gamma[j] + beta[j];
        } else {
#pragma omp simd
            for (size_t j = 0; j < cols; j++) y[j] = (x[j] - mu) * rs * (gamma ? gamma[j] : 1) + (beta ? beta[j] : 0);
        }
    }
}

/* One row of LN^T; c = gamma*g, xhat = (x - mean) rstd:  dx = (c - mean(c) - xhat mean(c xhat)) rstd */
SIMD_LOCAL static void layernorm_grad_row(const real *restrict x, real mu, real rs, const real *restrict gamma,
                                           const real *restrict g, real *dx, size_t cols) {
    real c1 = 0, c2 = 0;
    if (gamma) {
#pragma omp simd reduction(+ : c1, c2)
        for (size_t j = 0; j < cols; j++) {
            real c = gamma[j] * g[j];
            c1 += c;
            c2 += c * ((x[j] - mu) * rs);
        }
    } else {
#pragma omp simd reduction(+ : c1, c2)
        for (size_t j = 0; j < cols; j++) {
            c1 += g[j];
            c2 += g[j] * ((x[j] - mu) * rs);
        }
    }
    c1 /= (real)cols;
    c2 /= (real)cols;
    if (gamma) {
#pragma omp simd
        for (size_t j = 0; j < cols; j++) dx[j] = (gamma[j] * g[j] - c1 - (x[j] - mu) * rs * c2) * rs;
    } else {
#pragma omp simd
        for (size_t j = 0; j < cols; j++) dx[j] = (g[j] - c1 - (x[j] - mu) * rs * c2) * rs;
    }
}

SIMD_LOCAL static void affine_grad_row(const real *restrict x, real mu, real rs, const real *restrict g,
                                        real *restrict dgamma, real *restrict dbeta, size_t cols) {
#pragma omp simd
    for (size_t j = 0; j < cols; j++) {
        dgamma[j] += g[j] * ((x[j] - mu) * rs);
        dbeta[j] += g[j];
    }
}

void k_layernorm_grad(const real *x, const real *mean, const real *rstd, const real *gamma, const real *g, real *dx,
                      real *dgamma, real *dbeta, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++, x += cols, g += cols) {
        if (dgamma && dbeta) affine_grad_row(x, mean[r], rstd[r], g, dgamma, dbeta, cols);
        if (dx) layernorm_grad_row(x, mean[r], rstd[r], gamma, g, dx + r * cols, cols);
    }
}

/* ---- sums and small products ------------------------------------------------------------------ */
SIMD_KERNEL real k_dot(const real *a, const real *b, size_t n) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

SIMD_KERNEL real k_sum(const real *a, size_t n) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += a[i];
    return sum;
}

SIMD_KERNEL bool k_finite(const real *a, size_t n) {
    real zero = 0; /* 0 * inf and 0 * NaN are NaN, and stay in the sum */
#pragma omp simd reduction(+ : zero)
    for (size_t i = 0; i < n; i++) zero += 0 * a[i];
    return zero == 0;
}

SIMD_KERNEL void k_axpy(real alpha, const real *x, real *y, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] += alpha * x[i];
}

/* Eight rows at a time, so that y goes through the registers an eighth as often. */
SIMD_KERNEL void k_axpy_rows(const real *x, const real *w, size_t rows, size_t stride, real *y, size_t n) {
    size_t i = 0;
    for (; i + 8 <= rows; i += 8) {
        const real *a = w + i * stride, *b = a + stride, *c = b + stride, *d = c + stride;
        const real *e = d + stride, *f = e + stride, *g = f + stride, *h = g + stride;
        real p = x[i], q = x[i + 1], r = x[i + 2], s = x[i + 3], t = x[i + 4], u = x[i + 5], v = x[i + 6], z = x[i + 7];
#pragma omp simd
        for (size_t j = 0; j < n; j++)
            y[j] += p * a[j] + q * b[j] + r * c[j] + s * d[j] + (t * e[j] + u * f[j] + v * g[j] + z * h[j]);
    }
    for (; i < rows; i++) {
#pragma omp simd
        for (size_t j = 0; j < n; j++) y[j] += x[i] * w[i * stride + j];
    }
}

SIMD_KERNEL void k_mul(const real *a, const real *b, real *y, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

void k_fill_rows(const real *row, real *y, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++) memcpy(y + r * cols, row, cols * sizeof *row);
}

SIMD_KERNEL void k_sum_rows(const real *x, real *sum, size_t rows, size_t cols) {
    for (size_t r = 0; r < rows; r++, x += cols) {
#pragma omp simd
        for (size_t j = 0; j < cols; j++) sum[j] += x[j];
    }
}

/* ---- stored weights to real -------------------------------------------------------------------- */
/* float16: sign, 5 bits exponent, 10 bits fraction. Subnormals by subtraction, so that no slow denormal is touched. */
static ALWAYS_INLINE float half_(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7FFFu) << 13;
    float tiny = float_of(rest + 0x38800000u) - 6.103515625e-5f; /* (2^-14 + fraction) - 2^-14 */
    float normal = float_of(rest + 0x38000000u);                 /* exponent bias 15 -> 127 */
    float endless = float_of(rest + 0x70000000u);                /* infinities, NaN */
    float size = rest < 0x00800000u ? tiny : normal;
    size = rest >= 0x0F800000u ? endless : size;
    return sign ? -size : size;
}

SIMD_LOCAL static void half_plain(const uint16_t *h, real *y, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = half_(h[i]);
}

/* x86 has an instruction for it, a tenth of the work, which no compiler takes for the loop above; the same numbers. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(NO_CLONES) && !defined(MASKINV_DOUBLE)
#include <immintrin.h>
__attribute__((target("avx512f"))) static void half_v4(const uint16_t *h, real *y, size_t n) {
    for (size_t i = 0; i < n; i += 16) _mm512_storeu_ps(y + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(h + i))));
}
__attribute__((target("f16c"))) static void half_v3(const uint16_t *h, real *y, size_t n) {
    for (size_t i = 0; i < n; i += 8) _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(h + i))));
}
static size_t half_whole(const uint16_t *h, real *y, size_t n) { /* how many of the n it made */
    size_t whole = n / 16 * 16;
    if (__builtin_cpu_supports("avx512f")) half_v4(h, y, whole);
    else if (__builtin_cpu_supports("avx2")) half_v3(h, y, whole); /* x86-64-v3 has both */
    else return 0;
    return whole;
}
#else
static size_t half_whole(const uint16_t *h, real *y, size_t n) { return (void)h, (void)y, (void)n, 0; }
#endif

void k_from_half(const uint16_t *h, real *y, size_t n) {
    size_t whole = half_whole(h, y, n);
    half_plain(h + whole, y + whole, n - whole);
}

SIMD_KERNEL void k_from_bfloat(const uint16_t *h, real *y, size_t n) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = float_of((uint32_t)h[i] << 16);
}

SIMD_KERNEL void k_from_float(const float *h, real *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = h[i];
}
