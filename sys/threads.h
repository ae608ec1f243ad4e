/* threads.h - the pool's threads. Stands above the core, which only knows `pool`.
 *
 *     pool *cores = pool_start(0);                    // all there are
 *     spread(cores, 100, task, &job);                 // task(&job, 0) .. task(&job, 99), then returns (gemm.h)
 *     pool_stop(cores);
 */
#ifndef THREADS_H
#define THREADS_H
#include "gemm.h"
#include "sys/err.h"

/* width cores, the caller's included; 0: as many as the machine has for us. NULL when threads cannot be had. */
pool *pool_start(size_t width);
/* Whose products inference takes, as MASKINV_GEMM in the environment says (own, blas; nothing: gemm.h's choice). pool_start obeys it
 * too, without a word. False: neither of them, or no BLAS is there. */
bool pool_products(err *e);
void pool_stop(pool *p);
size_t cores_available(void);
double seconds_now(void); /* monotonic */
#endif
