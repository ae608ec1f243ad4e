/* gemm.c - the BLAS facade, which product is taken, and the spreading of work over cores (see gemm.h).
 *
 * Backends: -DUSE_OPENBLAS, -DUSE_CBLAS (any cblas.h), -DUSE_ACCELERATE (macOS); none of them: ours.
 */
#include "gemm.h"
#include <limits.h>

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

/* ---- which product --------------------------------------------------------------------------- */
static gemm_choice chosen = GEMM_FASTER;

bool gemm_choose(gemm_choice choice) {
#ifndef HAVE_CBLAS
    if (choice == GEMM_BLAS) return false;
#endif
    chosen = choice;
    return true;
}

bool gemm_is_own(void) {
#ifdef HAVE_CBLAS
    return chosen == GEMM_OWN || (chosen == GEMM_FASTER && gemm_own_is_faster());
#else
    return true;
#endif
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
