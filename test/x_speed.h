/* x_speed.h - this machine's own limit, now: what measurements stand beside.
 *
 *     double rate = sgemm_rate(cores, 785, 768);        // FLOP/s
 */
#ifndef X_SPEED_H
#define X_SPEED_H
#include "gemm.h"

/* Seconds since some moment: of one core its processor time, which other programs hardly change; of several the clock's. */
double work_seconds(const pool *cores);
/* FLOP/s of products n x 4D x D on all cores, for some 4 GFLOP; 0: no memory. */
double sgemm_rate(pool *cores, size_t n, size_t D);
/* FLOP of a forward pass's last block that are spared where one of its n tokens is read: of the others k and v alone are made. */
double spared_flop(double n, double D);
/* FLOP/s of fused multiply-adds (of multiplications and additions where there are none) that never leave the registers, on
 * all cores: what no program passes. The best of several short runs. */
double fma_rate(pool *cores);
/* Bytes of this process in memory: "RssFile:" those of files, "RssAnon:" those that no file stands behind. 0 where that is not
 * known, and of RssAnon under a sanitizer, whose own they mostly are. */
size_t own_memory(const char *kind);
#endif
