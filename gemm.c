/* gemm.c - the BLAS facade, the portable fallback, and the spreading of work over cores (see gemm.h).
 *
 * Backends: -DUSE_OPENBLAS, -DUSE_CBLAS (any cblas.h), -DUSE_ACCELERATE (macOS); none of them: ours.
 */
#include "gemm.h"
#include <limits.h>
#include "simd.h"

#if defined(USE_ACCELERATE)
#include <Accelerate/Accelerate.h>
#elif defined(USE_OPENBLAS) || defined(USE_CBLAS)
#include <cblas.h>
#endif
#if defined(USE_OPENBLAS) || defined(USE_CBLAS) || defined(USE_ACCELERATE)
#define HAVE_CBLAS 1
#endif

#ifdef MASKINV_DOUBLE
#define CBLAS_GEMM cblas_dgemm
#else
#define CBLAS_GEMM cblas_sgemm
#endif

/* ---- cores --------------------------------------------------------------------------------- */
void spread(pool *p, size_t count, pool_task *task, void *arg) {
    if (p && p->width > 1 && count > 1) {
        p->run(p, count, task, arg);
        return;
    }
    for (size_t i = 0; i < count; i++) task(arg, i);
}

void gemm_one_core(void) {
#ifdef USE_OPENBLAS
    openblas_set_num_threads(1);
#endif
}

const char *gemm_backend(void) {
#if defined(USE_OPENBLAS)
    return openblas_get_config();
#elif defined(USE_ACCELERATE)
    return "Accelerate";
#elif defined(USE_CBLAS)
    return "CBLAS";
#else
    return "portable";
#endif
}

const char *gemm_core_name(void) {
#if defined(USE_OPENBLAS)
    return openblas_get_corename();
#else
    return "";
#endif
}

/* ---- the portable product -------------------------------------------------------------------
 * C is cut into tiles of TILE_M x TILE_N that live in registers; op(B) is packed into a strip of
 * TILE_N columns, so that the inner loop reads it straight; op(A) is read in place. */
enum { TILE_M = 4, TILE_N = 16, DEPTH = 256 };

typedef struct {
    const real *a;
    size_t row, step; /* op(A)[i,p] = a[i*row + p*step] */
} operand;

static void pack_strip(real *strip, const real *b, size_t row, size_t step, size_t depth, size_t width) {
    for (size_t p = 0; p < depth; p++) {
        for (size_t j = 0; j < width; j++) strip[p * TILE_N + j] = b[p * row + j * step];
        for (size_t j = width; j < TILE_N; j++) strip[p * TILE_N + j] = 0;
    }
}

/* acc[TILE_M][TILE_N] = op(A)[rows i.., depth] strip[depth, TILE_N]; rows beyond `height` repeat the first one */
SIMD_LOCAL static void tile(real *restrict acc, operand a, size_t height, const real *restrict strip, size_t depth) {
    const real *r0 = a.a, *r1 = a.a + (height > 1 ? a.row : 0);
    const real *r2 = a.a + (height > 2 ? 2 * a.row : 0), *r3 = a.a + (height > 3 ? 3 * a.row : 0);
    real t0[TILE_N] = {0}, t1[TILE_N] = {0}, t2[TILE_N] = {0}, t3[TILE_N] = {0};
    for (size_t p = 0; p < depth; p++) {
        const real *b = strip + p * TILE_N;
        real x0 = r0[p * a.step], x1 = r1[p * a.step], x2 = r2[p * a.step], x3 = r3[p * a.step];
#pragma omp simd
        for (int j = 0; j < TILE_N; j++) {
            t0[j] += x0 * b[j];
            t1[j] += x1 * b[j];
            t2[j] += x2 * b[j];
            t3[j] += x3 * b[j];
        }
    }
    for (int j = 0; j < TILE_N; j++) {
        acc[j] = t0[j];
        acc[TILE_N + j] = t1[j];
        acc[2 * TILE_N + j] = t2[j];
        acc[3 * TILE_N + j] = t3[j];
    }
}

static void add_tile(real *c, size_t ldc, const real *acc, size_t height, size_t width, real alpha, real beta) {
    for (size_t i = 0; i < height; i++)
        for (size_t j = 0; j < width; j++) {
            real old = beta == 0 ? 0 : beta * c[i * ldc + j]; /* beta == 0 never reads C */
            c[i * ldc + j] = old + alpha * acc[i * TILE_N + j];
        }
}

void gemm_portable(transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                   const real *b, size_t ldb, real beta, real *c, size_t ldc) {
    size_t arow = ta ? 1 : lda, astep = ta ? lda : 1, brow = tb ? 1 : ldb, bstep = tb ? ldb : 1;
    real strip[DEPTH * TILE_N], acc[TILE_M * TILE_N];
    for (size_t p = 0; p < k || p == 0; p += DEPTH) {
        size_t depth = k - p < DEPTH ? k - p : DEPTH;
        for (size_t j = 0; j < n; j += TILE_N) {
            size_t width = n - j < TILE_N ? n - j : TILE_N;
            if (depth) pack_strip(strip, b + p * brow + j * bstep, brow, bstep, depth, width);
            for (size_t i = 0; i < m; i += TILE_M) {
                size_t height = m - i < TILE_M ? m - i : TILE_M;
                operand rows = {a + i * arow + p * astep, arow, astep};
                tile(acc, rows, height, strip, depth);
                add_tile(c + i * ldc + j, ldc, acc, height, width, alpha, p == 0 ? beta : 1);
            }
        }
    }
}

/* ---- the facade ------------------------------------------------------------------------------ */
void gemm(transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
          const real *b, size_t ldb, real beta, real *c, size_t ldc) {
    if (m == 0 || n == 0) return;
#ifdef HAVE_CBLAS
    bool fits = (m | n | k | lda | ldb | ldc) <= INT_MAX; /* a BLAS counts in int */
    if (k > 0 && fits) {                                  /* and may leave C alone when k is 0 */
        CBLAS_GEMM(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)m, (int)n,
                   (int)k, alpha, a, (int)lda, b, (int)ldb, beta, c, (int)ldc);
        return;
    }
#endif
    gemm_portable(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

typedef struct {
    transpose ta, tb;
    size_t m, n, k, lda, ldb, ldc, bands;
    real alpha, beta;
    const real *a, *b;
    real *c;
    bool by_rows;
} product;

enum { BAND = 16 }; /* bands start at multiples of this, so that kernels see whole tiles */

static size_t band_start(size_t size, size_t bands, size_t i) {
    size_t tiles = (size + BAND - 1) / BAND, start = tiles * i / bands * BAND;
    return start < size ? start : size;
}

static void gemm_band(void *arg, size_t i) {
    const product *g = arg;
    if (g->by_rows) {
        size_t from = band_start(g->m, g->bands, i), to = band_start(g->m, g->bands, i + 1);
        gemm(g->ta, g->tb, to - from, g->n, g->k, g->alpha, g->a + (g->ta ? from : from * g->lda), g->lda, g->b, g->ldb,
             g->beta, g->c + from * g->ldc, g->ldc);
    } else {
        size_t from = band_start(g->n, g->bands, i), to = band_start(g->n, g->bands, i + 1);
        gemm(g->ta, g->tb, g->m, to - from, g->k, g->alpha, g->a, g->lda, g->b + (g->tb ? from * g->ldb : from), g->ldb,
             g->beta, g->c + from, g->ldc);
    }
}

void gemm_spread(pool *p, transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a,
                 size_t lda, const real *b, size_t ldb, real beta, real *c, size_t ldc) {
    size_t width = p ? p->width : 1, longest = m > n ? m : n;
    size_t bands = width < (longest + BAND - 1) / BAND ? width : (longest + BAND - 1) / BAND;
    product g = {ta, tb, m, n, k, lda, ldb, ldc, bands, alpha, beta, a, b, c, m >= n};
    spread(p, bands, gemm_band, &g);
}
