/* evalstat.h - what a comparison counts: ranks, intervals, and how well a map points at a mask.
 *
 *     size_t r = rank_of(scores, names, right);              // 1: the right name comes first
 *     estimate e = wilson(hits, n);                          // e.low .. e.high hold the share with 95 %
 *     double ap = average_precision(map, inside, n, room);
 *
 * Formulas: MODEL.md 10.
 */
#ifndef EVALSTAT_H
#define EVALSTAT_H
#include "base.h"

typedef struct {
    double value, low, high;
} estimate;
/* hits of n, with Wilson's 95 % interval; n 0: 0 in 0..1. */
estimate wilson(size_t hits, size_t n);
/* The mean of n values in 0..1 by their sum and sum of squares, with the normal 95 % interval, clipped to 0..1. */
estimate mean_of(double sum, double squares, size_t n);

/* The right one's place, from 1: every other that does not score below it comes first. A NaN is last. */
size_t rank_of(const real *scores, size_t count, size_t right);
/* The largest score's index, the first of equals; NaN is never chosen (count: all are). */
size_t best_of(const real *scores, size_t count);

/* ---- a map against a mask, [n] each; inside: 0 or 1 ------------------------------------------------ */
/* Whether the highest pixel (the first of equals) is inside. */
bool points_inside(const real *map, const unsigned char *inside, size_t n);
enum { THRESHOLDS = 19 }; /* 0.05, 0.10 ... 0.95 */
double threshold_at(size_t i);
/* Intersection over union of {map >= threshold} with the mask, for each threshold. map in 0..1. */
void iou_sweep(const real *map, const unsigned char *inside, size_t n, double iou[THRESHOLDS]);
/* Area under precision by recall as pixels are taken from the highest down, equals together: sum (R_k - R_k-1) P_k.
 * room [n]. 0 where the mask is empty. */
typedef struct {
    real value;
    unsigned char inside;
} ranked_pixel;
double average_precision(const real *map, const unsigned char *inside, size_t n, ranked_pixel *room);
#endif
