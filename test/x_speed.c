/* x_speed.c - the rate of matrix products (see x_speed.h). */
#include "x_speed.h"
#include "sys/err.h"
#include "sys/threads.h"

double sgemm_rate(pool *cores, size_t n, size_t D) {
    size_t F = 4 * D, count = 1 + (size_t)(4e9 / (2.0 * (double)n * (double)F * (double)D));
    real *x = mem_alloc(n * D, sizeof *x), *w = mem_alloc(F * D, sizeof *w), *y = mem_alloc(n * F, sizeof *y);
    double start = 0, seconds = 0;
    for (size_t i = 0; x && w && y && i <= count; i++) {
        if (i == 1) start = seconds_now(); /* the first one warms up */
        gemm_spread(cores, NO_T, T, n, F, D, 1, x, D, w, D, 0, y, F);
        seconds = seconds_now() - start;
    }
    mem_free(x), mem_free(w), mem_free(y);
    return x && w && y ? 2.0 * (double)(n * F) * (double)D * (double)count / seconds : 0;
}
