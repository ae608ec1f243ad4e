/* test_kernels.c - elementwise and row loops against libm and plain sums. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels.h"

#define TOL(single, twice) (sizeof(real) == 4 ? (single) : (twice))
#define NEAR(got, want, tol)                                                                                           \
    do {                                                                                                               \
        double g_ = (double)(got), w_ = (double)(want);                                                                \
        if (!(fabs(g_ - w_) <= (tol))) fail_msg("%s: %.9g, expected %.9g", #got, g_, w_);                              \
    } while (0)

enum { N = 4001 };
static real x[N], y[N], d[N];

static void line(double from, double to) {
    for (int i = 0; i < N; i++) x[i] = (real)(from + (to - from) * i / (N - 1));
}

static void exponential(void **state) {
    (void)state;
    line(-85, 85);
    k_exp(x, y, N);
    for (int i = 0; i < N; i++) NEAR(y[i] / exp((double)x[i]), 1, TOL(3e-7, 1e-14));
    x[0] = (real)NAN, x[1] = 0, x[2] = -1000;
    k_exp(x, y, 3);
    assert_true(isnan((double)y[0]));
    NEAR(y[1], 1, 0);
    NEAR(y[2], 0, 1e-37);
}

static double quick(double v) { return v / (1 + exp(-1.702 * v)); }
static double gelu(double v) { return v * 0.5 * (1 + erf(v / sqrt(2.0))); }

static void check_act(act_kind kind, double (*f)(double)) {
    const double e = 1e-4;
    line(-9, 9);
    k_act(kind, 0, x, y, N);
    for (int i = 0; i < N; i++) NEAR(y[i], f((double)x[i]), TOL(2e-6, 1e-13));
    k_act(kind, 1, x, y, N);
    for (int i = 0; i < N; i++) NEAR(y[i], (f(x[i] + e) - f(x[i] - e)) / (2 * e), 2e-6);
    k_act(kind, 2, x, y, N);
    for (int i = 0; i < N; i++) NEAR(y[i], (f(x[i] + e) - 2 * f((double)x[i]) + f(x[i] - e)) / (e * e), 2e-6);
    k_act_both(kind, x, y, d, N);
    real *one = malloc(N * sizeof *one);
    k_act(kind, 1, x, one, N);
    for (int i = 0; i < N; i++) {
        NEAR(y[i], f((double)x[i]), TOL(2e-6, 1e-13));
        NEAR(d[i], one[i], TOL(1e-6, 1e-13));
    }
    free(one);
}
static void quick_gelu(void **state) { (void)state; check_act(ACT_QUICK_GELU, quick); }
static void exact_gelu(void **state) { (void)state; check_act(ACT_GELU, gelu); }

static void softmax(void **state) {
    (void)state;
    enum { R = 7, C = 13 };
    for (int causal = 0; causal < 2; causal++) {
        for (int i = 0; i < R * C; i++) x[i] = (real)(sin(i * 1.7) * 40);
        k_softmax(x, y, R, C, causal);
        for (int r = 0; r < R; r++) {
            int n = causal ? r + 1 : C;
            double sum = 0;
            for (int j = 0; j < n; j++) sum += exp((double)x[r * C + j]);
            for (int j = 0; j < C; j++) NEAR(y[r * C + j], j < n ? exp((double)x[r * C + j]) / sum : 0, TOL(2e-6, 1e-13));
        }
    }
    x[3] = (real)NAN;
    k_softmax(x, y, 1, C, false);
    assert_true(isnan((double)y[0])); /* and not hidden */
}

/* J^T g for a row function f by differences */
static void layernorm(void **state) {
    (void)state;
    enum { R = 3, C = 11 };
    real gamma[C], beta[C], g[R * C], mean[R], rstd[R], dx[R * C], dgamma[C], dbeta[C];
    for (int i = 0; i < C; i++) gamma[i] = (real)(1 + 0.1 * i), beta[i] = (real)(0.2 * i - 1);
    for (int i = 0; i < R * C; i++) x[i] = (real)(sin(i * 0.9) * 3 + 1), g[i] = (real)cos(i * 1.3);
    memset(dgamma, 0, sizeof dgamma), memset(dbeta, 0, sizeof dbeta);
    k_layernorm(x, gamma, beta, (real)1e-5, y, mean, rstd, R, C);
    k_layernorm_grad(x, mean, rstd, gamma, g, dx, dgamma, dbeta, R, C);
    double wg[C] = {0}, wb[C] = {0};
    for (int r = 0; r < R; r++) {
        double mu = 0, var = 0, c1 = 0, c2 = 0;
        for (int j = 0; j < C; j++) mu += x[r * C + j] / (double)C;
        for (int j = 0; j < C; j++) var += (x[r * C + j] - mu) * (x[r * C + j] - mu) / (double)C;
        double s = 1 / sqrt(var + 1e-5);
        for (int j = 0; j < C; j++) {
            double xhat = (x[r * C + j] - mu) * s;
            NEAR(y[r * C + j], xhat * gamma[j] + beta[j], TOL(1e-6, 1e-13));
            c1 += gamma[j] * g[r * C + j] / (double)C, c2 += gamma[j] * g[r * C + j] * xhat / (double)C;
            wg[j] += g[r * C + j] * xhat, wb[j] += g[r * C + j];
        }
        for (int j = 0; j < C; j++)
            NEAR(dx[r * C + j], s * (gamma[j] * g[r * C + j] - c1 - (x[r * C + j] - mu) * s * c2), TOL(2e-6, 1e-13));
    }
    for (int j = 0; j < C; j++) {
        NEAR(dgamma[j], wg[j], TOL(2e-6, 1e-13));
        NEAR(dbeta[j], wb[j], TOL(2e-6, 1e-13));
    }
}

static void no_nan_no_infinity(void **state) { /* one number anywhere that is not, in vectors of every length */
    static const double not_finite[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    line(-1e30, 1e30);
    for (size_t n = 1; n < 40; n++) {
        assert_true(k_finite(x, n));
        for (size_t i = 0; i < 3 * n; i++) {
            real kept = x[i / 3];
            x[i / 3] = (real)not_finite[i % 3];
            assert_false(k_finite(x, n));
            x[i / 3] = kept;
        }
    }
}

static double half_value(unsigned h) { /* IEEE 754 binary16, from its definition */
    int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}

static void every_half(void **state) {
    (void)state;
    uint16_t *h = malloc(65536 * sizeof *h);
    real *v = malloc(65536 * sizeof *v);
    for (unsigned i = 0; i < 65536; i++) h[i] = (uint16_t)i;
    for (unsigned at_once = 65536; at_once; at_once = at_once > 15 ? 15 : 0) { /* by the processor's instruction, and by the plain loop */
        for (unsigned i = 0; i < 65536; i += at_once) k_from_half(h + i, v + i, 65536 - i < at_once ? 65536 - i : at_once);
        for (unsigned i = 0; i < 65536; i++) {
            double want = half_value(i);
            assert_true(isnan(want) ? isnan((double)v[i]) : (double)v[i] == want && !signbit(v[i]) == !signbit(want));
        }
    }
    k_from_bfloat(h, v, 65536);
    for (unsigned i = 0; i < 65536; i++) {
        uint32_t u = i << 16;
        float want;
        memcpy(&want, &u, sizeof want);
        assert_true(isnan(want) ? isnan((double)v[i]) : v[i] == (real)want);
    }
    free(h), free(v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponential), cmocka_unit_test(quick_gelu), cmocka_unit_test(exact_gelu),
        cmocka_unit_test(softmax),     cmocka_unit_test(layernorm),  cmocka_unit_test(no_nan_no_infinity),
        cmocka_unit_test(every_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
