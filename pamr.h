/* pamr.h - PAMR: a mask drawn to the edges of a picture (Araslanov & Roth 2020; MODEL.md 6.4).
 *
 *     const size_t dilations[] = {8, 16};
 *     if (!pamr(picture, 3, h, w, masks, 20, 10, dilations, 2, &memory, cores, &f)) ...   // masks [20,h,w], in place
 */
#ifndef PAMR_H
#define PAMR_H
#include "gemm.h"

enum { PAMR_DILATIONS = 8 };
/* image [channels,h,w] guides masks [count,h,w], in place. Scratch: 8 dilations h w + 2 h w reals. Fault: MEMORY. */
bool explain_pamr(const real *image, size_t channels, size_t h, size_t w, real *masks, size_t count, size_t steps,
                  const size_t *dilations, size_t dilation_count, arena *memory, pool *cores, fault *f);
#endif
