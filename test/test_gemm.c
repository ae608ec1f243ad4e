/* test_gemm.c - products against a sum in long double, for every backend; the pool. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "gemm.h"
#include "sys/threads.h"
#include "x_skip.h"
#include "x_speed.h"

static real noise(size_t i) { return (real)(((i * 2654435761u) >> 8) % 2001) / 1000 - 1; }

static real *numbers(size_t n, size_t seed) {
    real *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) x[i] = noise(i + seed);
    return x;
}

typedef void product(transpose, transpose, size_t, size_t, size_t, real, const real *, size_t, const real *, size_t,
                     real, real *, size_t);

/* One product of a padded A, B into a padded C, which is checked, its padding included. */
static void check(product *f, transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, real beta) {
    size_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
    real *a = numbers((ta ? k : m) * lda, 1), *b = numbers((tb ? n : k) * ldb, 77), *c = numbers(m * ldc, 5);
    real *old = numbers(m * ldc, 5);
    if (beta == 0)
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) c[i * ldc + j] = (real)NAN; /* must not be read */
    f(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < ldc; j++) {
            if (j >= n) {
                assert_true(c[i * ldc + j] == old[i * ldc + j]);
                continue;
            }
            long double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (long double)(ta ? a[p * lda + i] : a[i * lda + p]) * (tb ? b[j * ldb + p] : b[p * ldb + j]);
            long double want = alpha * sum + (beta == 0 ? 0 : beta * old[i * ldc + j]);
            long double most = sizeof(real) == 4 ? 2e-5L : 1e-13L;
            if (!(fabsl(c[i * ldc + j] - want) <= most * (1 + (long double)k / 16)))
                fail_msg("%zux%zux%zu %d%d [%zu,%zu]: %g, expected %Lg", m, n, k, ta, tb, i, j,
                         (double)c[i * ldc + j], want);
        }
    free(a), free(b), free(c), free(old);
}

static void check_all(product *f) {
    static const size_t size[][3] = {{1, 1, 1},    {4, 16, 8},  {5, 17, 3},    {3, 1, 70},  {1, 33, 257},
                                     {64, 64, 64}, {37, 41, 0}, {101, 32, 101}, {20, 50, 600}};
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int t = 0; t < 4; t++) {
            check(f, t & 1 ? T : NO_T, t & 2 ? T : NO_T, size[s][0], size[s][1], size[s][2], 1, 0);
            check(f, t & 1 ? T : NO_T, t & 2 ? T : NO_T, size[s][0], size[s][1], size[s][2], (real)-0.5, (real)2);
        }
}

static void backend(void **state) { (void)state; check_all(gemm); }
static void portable(void **state) { (void)state; check_all(gemm_portable); }

static pool *team;
static void spread_product(transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a,
                           size_t lda, const real *b, size_t ldb, real beta, real *c, size_t ldc) {
    gemm_spread(team, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static void spread_over_cores(void **state) {
    (void)state;
    for (size_t width = 1; width <= 5; width++) {
        team = pool_start(width);
        assert_non_null(team);
        check_all(spread_product);
        pool_stop(team);
    }
    team = NULL;
    check_all(spread_product); /* no pool at all */
}

typedef struct { int done[1000]; pool *p; size_t deep[1000]; } tally;
static void inner(void *arg, size_t i) { ++*(size_t *)arg; (void)i; }
static void count_task(void *arg, size_t i) {
    tally *t = arg;
    t->done[i]++;
    spread(t->p, 3, inner, &t->deep[i]); /* inside a task: runs here, three times */
}

static void pool_runs_each_task_once(void **state) {
    (void)state;
    tally *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->p = pool_start(4);
    for (int round = 0; round < 200; round++) {
        memset(t->done, 0, sizeof t->done);
        memset(t->deep, 0, sizeof t->deep);
        spread(t->p, 1000, count_task, t);
        for (int i = 0; i < 1000; i++) {
            assert_int_equal(t->done[i], 1);
            assert_int_equal(t->deep[i], 3);
        }
    }
    pool_stop(t->p);
    free(t);
}

static void same_bytes_every_time(void **state) {
    (void)state;
    size_t m = 197, n = 96, k = 64;
    real *a = numbers(m * k, 3), *b = numbers(n * k, 4), *c = numbers(m * n, 0), *d = numbers(m * n, 1);
    pool *p = pool_start(2);
    gemm_spread(p, NO_T, T, m, n, k, 1, a, k, b, k, 0, c, n);
    for (int i = 0; i < 20; i++) {
        gemm_spread(p, NO_T, T, m, n, k, 1, a, k, b, k, 0, d, n);
        assert_memory_equal(c, d, m * n * sizeof *c);
    }
    pool_stop(p);
    free(a), free(b), free(c), free(d);
}

/* ---- a group's columns ------------------------------------------------------------------------------- */
static void group(size_t m, size_t k, bool turned, bool add) {
    size_t row = turned ? 1 : k + 2, step = turned ? m + 1 : 1;
    real *a = numbers(m * k + 3 * (m + k), 1), *b = numbers(k * GEMM_GROUP, 77), *c = numbers(m * GEMM_GROUP, 5);
    real *old = numbers(m * GEMM_GROUP, 5), *moved = numbers(k * GEMM_GROUP, 0), *other = numbers(m * GEMM_GROUP, 5);
    gemm_group(m, k, a, row, step, b, add, c);
    for (size_t i = 0; i < m * GEMM_GROUP; i++) {
        long double sum = add ? old[i] : 0;
        for (size_t p = 0; p < k; p++) sum += (long double)a[i / GEMM_GROUP * row + p * step] * b[p * GEMM_GROUP + i % GEMM_GROUP];
        if (!(fabsl(c[i] - sum) <= (sizeof(real) == 4 ? 2e-5L : 1e-13L) * (1 + (long double)k / 16)))
            fail_msg("%zux%zu %d%d, number %zu: %g, expected %Lg", m, k, turned, add, i, (double)c[i], sum);
    }
    /* a column alone, in another place, among zeros: the same bytes */
    memset(moved, 0, k * GEMM_GROUP * sizeof *moved);
    for (size_t p = 0; p < k; p++) moved[p * GEMM_GROUP + 29] = b[p * GEMM_GROUP + 3];
    for (size_t i = 0; i < m; i++) other[i * GEMM_GROUP + 29] = old[i * GEMM_GROUP + 3];
    gemm_group(m, k, a, row, step, moved, add, other);
    for (size_t i = 0; i < m; i++) assert_memory_equal(&other[i * GEMM_GROUP + 29], &c[i * GEMM_GROUP + 3], sizeof *c);
    free(a), free(b), free(c), free(old), free(moved), free(other);
}

static void groups(void **state) {
    static const size_t size[][2] = {{1, 1}, {4, 8}, {5, 17}, {12, 70}, {13, 257}, {64, 3}, {37, 0}};
    (void)state;
    for (size_t s = 0; s < sizeof size / sizeof *size; s++)
        for (int t = 0; t < 4; t++) group(size[s][0], size[s][1], t & 1, t & 2);
}

/* ---- our own product with a weight as it is stored ------------------------------------------------- */
static void read_numbers(const void *source, size_t row, size_t column, size_t count, real *out) {
    const real *w = source; /* [n,k], k before it */
    memcpy(out, w + 1 + row * (size_t)w[0] + column, count * sizeof *out);
}

static void own(size_t m, size_t n, size_t k, bool finish) {
    real *x = numbers(m * k, 1), *w = numbers(1 + n * k, 77), *bias = numbers(n, 5);
    real *y = numbers(m * n + 1, 9), *one = numbers(n, 3), *room = numbers(gemm_own_room(m, k), 0);
    real outside = y[m * n];
    gemm_weight g = {.read = read_numbers, .source = w, .bias = finish ? bias : NULL, .act = finish, .kind = ACT_GELU};
    w[0] = (real)k;
    pool *p = pool_start(3);
    gemm_own(p, m, n, k, x, &g, room, y);
    assert_true(y[m * n] == outside);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            long double sum = finish ? bias[j] : 0;
            for (size_t q = 0; q < k; q++) sum += (long double)x[i * k + q] * w[1 + j * k + q];
            real h = (real)sum;
            if (finish) k_act(ACT_GELU, 0, &h, &h, 1);
            long double most = (sizeof(real) == 4 ? 2e-5L : 1e-13L) * (1 + (long double)k / 16);
            if (!(fabsl(y[i * n + j] - h) <= most))
                fail_msg("%zux%zux%zu [%zu,%zu]: %g, expected %g", m, n, k, i, j, (double)y[i * n + j], (double)h);
        }
    for (size_t i = 0; i < m; i++) { /* a row alone, on one core: the same bytes */
        gemm_own(NULL, 1, n, k, x + i * k, &g, room, one);
        assert_memory_equal(one, y + i * n, n * sizeof *one);
    }
    pool_stop(p);
    free(x), free(w), free(bias), free(y), free(one), free(room);
}

static void stored_weights(void **state) {
    (void)state;
    static const size_t size[][3] = {{1, 1, 1}, {3, 31, 16}, {15, 33, 64}, {29, 65, 256}, {50, 40, 300}, {197, 64, 768}};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        own(size[i][0], size[i][1], size[i][2], false);
        own(size[i][0], size[i][1], size[i][2], true);
    }
}

/* A compiler that keeps the tile's sums in memory computes the same numbers, thirty times more slowly: one try of eight, each
 * beside the multiply-adds that the same compiler makes of plain loops, must reach a sixth of them. */
static void own_tiles_live_in_registers(void **state) {
    enum { M = 197, N = 768, K = 768, TRIES = 8 };
    (void)state;
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a build that is not made for speed");
#else
    pool *one = pool_start(1);
    real *a = calloc(M * K, sizeof *a), *b = calloc(N * K, sizeof *b), *c = calloc(M * N, sizeof *c);
    double best = 0;
    assert_true(one && a && b && c);
    for (int i = 0; i < TRIES && !(best >= 1.0 / 6); i++) {
        double start = seconds_now();
        gemm_portable(NO_T, T, M, N, K, 1, a, K, b, K, 0, c, N);
        double share = 2.0 * M * N * K / (seconds_now() - start) / fma_rate(one);
        if (share > best) best = share;
    }
    pool_stop(one);
    free(a), free(b), free(c);
    if (!(best >= 1.0 / 6)) fail_msg("%s: %.3f of the multiply-adds' rate", gemm_own_name(), best);
#endif
}

static void products_are_chosen_or_refused(void **state) {
    (void)state;
    bool has_blas = strcmp(gemm_backend(), "portable") != 0;
    err e = {0};
    assert_int_equal(setenv("MASKINV_GEMM", "fast", 1), 0);
    assert_false(pool_products(&e));
    assert_string_equal(e.text, "MASKINV_GEMM: 'fast' found, own or blas expected");
    assert_int_equal(setenv("MASKINV_GEMM", "own", 1), 0);
    assert_true(pool_products(&e) && gemm_is_own());
    assert_int_equal(setenv("MASKINV_GEMM", "blas", 1), 0);
    assert_true(pool_products(&e) == has_blas && gemm_is_own() != has_blas);
    assert_int_equal(unsetenv("MASKINV_GEMM"), 0);
    assert_true(pool_products(&e) && gemm_choose(GEMM_FASTER));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backend), cmocka_unit_test(portable), cmocka_unit_test(groups), cmocka_unit_test(spread_over_cores),
        cmocka_unit_test(pool_runs_each_task_once), cmocka_unit_test(same_bytes_every_time),
        cmocka_unit_test(stored_weights),   cmocka_unit_test(products_are_chosen_or_refused), cmocka_unit_test(own_tiles_live_in_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
