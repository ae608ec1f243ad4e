/* measures.h - the papers' measures over many scores: areas under curves, of pictures and pixels, of anomalous regions; and
 * the small ones that a survey adds up.
 *
 *     measured m;
 *     if (!measure_scores(score, truth, n, &m, &e)) ...       // m.auroc, m.ap, m.f1, m.aupr; NAN where one side is empty
 *     region_maps r = {maps, masks, heights, widths, 3};      // all pictures' pixels one after another
 *     if (!measure_pro(&r, .3, &pro, &stretched, &e)) ...
 *
 * Formulas: MODEL.md 11.7. All in double, equal scores together.
 */
#ifndef MEASURES_H
#define MEASURES_H
#include "sys/err.h"

typedef struct {
    double auroc; /* P(a true one scores above a false one), ties by half */
    double ap;    /* sum (R_k - R_k-1) P_k */
    double f1;    /* the largest F1 over all thresholds */
    double aupr;  /* precision over recall by trapezoids, from (0, 1) */
} measured;
/* truth: 0 or not. False: no memory, or a score that is no number. */
bool measure_scores(const double *score, const unsigned char *truth, size_t n, measured *out, err *e);

typedef struct {
    const double *map;         /* the pictures' pixels, one after another */
    const unsigned char *mask; /* 0 or not, alike */
    const size_t *height, *width;
    size_t count;
} region_maps;
/* Mean share found of each 8-connected true region, over the false positive rate up to `limit`. *pro: every threshold,
 * >=, the area divided by the limit; *stretched: AnoVL's code: 200 thresholds, >, those below the limit stretched to 0..1.
 * NAN where there is no region, or nothing normal. */
bool measure_pro(const region_maps *r, double limit, double *pro, double *stretched, err *e);

/* ---- small ones ------------------------------------------------------------------------------------------ */
/* Scores above the right one, plus equal ones at a smaller index: 0 is first. NAN as the right one's: count. */
size_t measure_rank(const real *scores, size_t count, size_t right);
/* Intersection and union of two masks [n], 0 or not. */
void measure_overlap(const unsigned char *a, const unsigned char *b, size_t n, size_t *both, size_t *any);
#endif
