/* alpha.h - AlphaCLIP's loss (Sun et al. 2024; MODEL.md 14): pictures with their regions against texts of the regions.
 *
 *     ag_tensor *loss = alpha_loss(&tape, z, texts, truth, scale, 0.1, 1.0 / batch);
 */
#ifndef ALPHA_H
#define ALPHA_H
#include "autograd.h"

/* (14.2) z [B,1,E] or [1,B,E] embeddings, texts [B,E] unit, truth [B,B] 1 where text j is true of region i: the cross entropies of
 * rows and of columns, halved, summed over rows and multiplied by `weight`; smoothing: that share of each target is spread evenly. */
ag_tensor *alpha_loss(ag_tape *t, ag_tensor *z, const real *texts, const real *truth, real scale, real smoothing, real weight);
#endif
