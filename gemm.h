/* gemm.h - matrix products, and how work is spread over cores.
 *
 *     gemm(NO_T, T, m, n, k, 1, a, k, b, k, 0, c, n);          // C[m,n] = A[m,k] B[n,k]^T, this core
 *     gemm_spread(pool, NO_T, T, m, n, k, 1, a, k, b, k, 0, c, n);  // the same, on all of them
 *
 *     gemm_own(pool, m, n, k, x, &weight, room, y);            // y = act(x W^T + b), W as stored
 *
 * Row-major throughout. One BLAS call is always one core's: the cores are fed by `pool`, whose
 * threads start above the core (threads.c). NULL is a pool of one. The split depends on shape and
 * pool width alone, so the same input gives the same bytes.
 */
#ifndef GEMM_H
#define GEMM_H
#include "kernels.h"

typedef void pool_task(void *arg, size_t index);
typedef struct pool pool;
struct pool {
    size_t width; /* cores */
    /* Calls task(arg, i) for i in 0..count-1, on whichever core is free; returns when all are done.
     * Called from inside a task it runs the work on the calling core. */
    void (*run)(pool *p, size_t count, pool_task *task, void *arg);
};
static inline void spread(pool *p, size_t count, pool_task *task, void *arg) {
    if (p && p->width > 1 && count > 1) {
        p->run(p, count, task, arg);
        return;
    }
    for (size_t i = 0; i < count; i++) task(arg, i);
}

typedef enum { NO_T, T } transpose;
/* C[m,n] = alpha * op(A)[m,k] op(B)[k,n] + beta * C; ld* are row strides of the stored matrices.
 * beta == 0 overwrites C without reading it. */
void gemm(transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
          const real *b, size_t ldb, real beta, real *c, size_t ldc);
void gemm_spread(pool *p, transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a,
                 size_t lda, const real *b, size_t ldb, real beta, real *c, size_t ldc);
/* "OpenBLAS 0.3.21 ...", "portable", ...; and the processor that it believes to run on ("Haswell", or ""). */
const char *gemm_backend(void);
const char *gemm_core_name(void);
/* Tells the BLAS to keep each call on one core; pool_start calls it. */
void gemm_one_core(void);

/* ---- our own product (gemm_own.c): always compiled, so that tests can compare ------------------------------------- */
void gemm_portable(transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                   const real *b, size_t ldb, real beta, real *c, size_t ldc);
/* Of GEMM_GROUP columns, which stay in registers while A is read once, where it lies: C[m,GROUP] = A B, or C += A B; A's [i,p]
 * at a[i*row + p*step], B [k,GROUP]. A column's bytes depend on itself alone: not on its place, nor on the others. */
enum { GEMM_GROUP = 32 };
void gemm_group(size_t m, size_t k, const real *a, size_t row, size_t step, const real *b, bool add, real *c);
const char *gemm_own_name(void); /* of the instructions it was compiled for: "x86-64-v4", "aarch64", "plain" */

/* A weight W [n,k] as it is stored, and what is done with a product before it leaves the registers. */
typedef struct {
    void (*read)(const void *source, size_t row, size_t column, size_t count, real *out); /* part of a row, as real */
    void (*expect)(const void *source, size_t row, size_t column, size_t count); /* NULL; or: this part is read soon */
    const void *source;
    const real *bias; /* [n]; NULL: none */
    bool act;         /* kind's function of the sum */
    act_kind kind;
} gemm_weight;
/* y[m,n] = act(x[m,k] W^T + bias), over the pool. W is read once, straight into the order of the tiles. A row's bytes
 * depend on itself alone: not on m, nor on the pool. room: gemm_own_room(m, k) numbers. */
size_t gemm_own_room(size_t m, size_t k);
void gemm_own(pool *p, size_t m, size_t n, size_t k, const real *x, const gemm_weight *w, real *room, real *y);
bool gemm_own_is_faster(void); /* here, with weights as they are stored, than a BLAS */
/* Is it taken for the weights' products of inference? If nothing was chosen, where it is faster or there is no BLAS. False: there
 * is no BLAS to choose. */
typedef enum { GEMM_FASTER, GEMM_OWN, GEMM_BLAS } gemm_choice;
bool gemm_choose(gemm_choice choice);
bool gemm_is_own(void);
#endif
