/* evalstat.c - ranks, intervals, maps against masks (see evalstat.h). */
#include "eval/evalstat.h"
#include <math.h>
#include <stdlib.h>

/* ---- intervals ------------------------------------------------------------------------------------- */
static const double Z95 = 1.959963984540054; /* the normal distribution's 97.5 % point */

/* (10.2), Wilson 1927: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) */
estimate wilson(size_t hits, size_t n) {
    if (n == 0) return (estimate){0, 0, 1};
    double count = (double)n, p = (double)hits / count, z2 = Z95 * Z95 / count;
    double middle = p + z2 / 2, half = Z95 * sqrt(p * (1 - p) / count + z2 / (4 * count));
    return (estimate){p, fmax(0, (middle - half) / (1 + z2)), fmin(1, (middle + half) / (1 + z2))};
}

/* (10.3) */
estimate mean_of(double sum, double squares, size_t n) {
    if (n == 0) return (estimate){0, 0, 1};
    double count = (double)n, mean = sum / count;
    double variance = n > 1 ? fmax(0, squares - sum * mean) / (count - 1) : 0, half = Z95 * sqrt(variance / count);
    return (estimate){mean, fmax(0, mean - half), fmin(1, mean + half)};
}

/* ---- ranks ------------------------------------------------------------------------------------------- */
size_t rank_of(const real *scores, size_t count, size_t right) {
    size_t rank = 1;
    for (size_t i = 0; i < count; i++) rank += i != right && !(scores[i] < scores[right]);
    return rank;
}

size_t best_of(const real *scores, size_t count) {
    size_t best = count;
    for (size_t i = 0; i < count; i++)
        if (!isnan(scores[i]) && (best == count || scores[i] > scores[best])) best = i;
    return best;
}

/* ---- maps ---------------------------------------------------------------------------------------------- */
bool points_inside(const real *map, const unsigned char *inside, size_t n) {
    size_t best = best_of(map, n);
    return best < n && inside[best];
}

double threshold_at(size_t i) { return (double)(i + 1) / (THRESHOLDS + 1); }

/* (10.5) */
void iou_sweep(const real *map, const unsigned char *inside, size_t n, double iou[THRESHOLDS]) {
    size_t both[THRESHOLDS + 1] = {0}, any[THRESHOLDS + 1] = {0}, mask = 0;
    for (size_t i = 0; i < n; i++) { /* in how many of the thresholds' regions the pixel is */
        size_t k = 0;
        while (k < THRESHOLDS && (double)map[i] >= threshold_at(k)) k++;
        (inside[i] ? both : any)[k]++;
        mask += inside[i];
    }
    size_t shared = 0, outside = 0;
    for (size_t k = THRESHOLDS; k > 0; k--) {
        shared += both[k], outside += any[k];
        iou[k - 1] = mask + outside > 0 ? (double)shared / (double)(mask + outside) : 0;
    }
}

static int higher_first(const void *a, const void *b) {
    real x = ((const ranked_pixel *)a)->value, y = ((const ranked_pixel *)b)->value;
    return (x < y) - (x > y);
}

/* (10.4) */
double average_precision(const real *map, const unsigned char *inside, size_t n, ranked_pixel *room) {
    size_t mask = 0, found = 0;
    double area = 0;
    for (size_t i = 0; i < n; i++) {
        room[i] = (ranked_pixel){map[i], inside[i]};
        mask += inside[i];
    }
    if (mask == 0) return 0;
    qsort(room, n, sizeof *room, higher_first);
    for (size_t i = 0, next; i < n; i = next) {
        size_t more = 0;
        for (next = i; next < n && room[next].value == room[i].value; next++) more += room[next].inside;
        if (next == i) break; /* NaN */
        found += more;
        area += (double)more / (double)mask * ((double)found / (double)next);
    }
    return area;
}
