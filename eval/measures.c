/* measures.c - areas under curves (see measures.h; MODEL.md 11.7). */
#include "eval/measures.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    double value, weight; /* weight: of a true pixel, its share of its region */
    bool right;
} scored;

static int higher_first(const void *a, const void *b) {
    double x = ((const scored *)a)->value, y = ((const scored *)b)->value;
    return (x < y) - (x > y);
}

static scored *sorted(const double *score, const unsigned char *truth, const double *weight, size_t n, err *e) {
    scored *all = mem_alloc(n, sizeof *all);
    if (!all) return err_set(e, "no memory for %zu scores", n), NULL;
    for (size_t i = 0; i < n; i++) {
        all[i] = (scored){score[i], weight ? weight[i] : 0, truth[i] != 0};
        if (isnan(score[i])) return mem_free(all), err_set(e, "score %zu is not a number", i), NULL;
    }
    qsort(all, n, sizeof *all, higher_first);
    return all;
}

/* The first of the next, lower value. */
static size_t next_value(const scored *s, size_t i, size_t n) {
    double v = s[i].value;
    while (i < n && s[i].value == v) i++;
    return i;
}

bool measure_scores(const double *score, const unsigned char *truth, size_t n, measured *m, err *e) {
    scored *s = sorted(score, truth, NULL, n, e);
    double yes = 0, tp = 0, fp = 0, precision = 1;
    if (!s) return false;
    *m = (measured){0};
    for (size_t i = 0; i < n; i++) yes += s[i].right;
    double no = (double)n - yes;
    for (size_t i = 0, next; i < n; i = next) {
        double more = 0, before = precision, up = tp, wrong = fp;
        next = next_value(s, i, n);
        for (size_t k = i; k < next; k++) more += s[k].right;
        tp += more, fp += (double)(next - i) - more;
        precision = tp / (tp + fp);
        m->ap += more / yes * precision;
        m->aupr += more / yes * (before + precision) / 2;
        m->f1 = fmax(m->f1, 2 * tp / (tp + fp + yes));
        m->auroc += (fp - wrong) / no * (tp + up) / 2 / yes;
    }
    mem_free(s);
    if (!(yes > 0)) m->ap = m->aupr = m->f1 = NAN;
    if (!(yes > 0 && no > 0)) m->auroc = NAN;
    return true;
}

/* ---- regions ---------------------------------------------------------------------------------------------- */
/* One 8-connected region from `start` on: its pixels in stack[0..return), marked in seen. */
static size_t flood(const unsigned char *mask, unsigned char *seen, size_t h, size_t w, size_t start, size_t *stack) {
    size_t found = 1;
    stack[0] = start, seen[start] = 1;
    for (size_t k = 0; k < found; k++) {
        size_t y = stack[k] / w, x = stack[k] % w;
        for (size_t r = y ? y - 1 : 0; r < h && r <= y + 1; r++)
            for (size_t c = x ? x - 1 : 0; c < w && c <= x + 1; c++)
                if (mask[r * w + c] && !seen[r * w + c]) seen[r * w + c] = 1, stack[found++] = r * w + c;
    }
    return found;
}

/* Of each true pixel 1/area of its region; how many regions there are. */
static bool weigh(const region_maps *r, double *weight, size_t pixels, size_t *regions, err *e) {
    unsigned char *seen = mem_alloc(pixels, 1);
    size_t *stack = mem_alloc(pixels, sizeof *stack), at = 0;
    bool ok = (seen && stack) || err_set(e, "no memory for %zu pixels", pixels);
    *regions = 0;
    for (size_t i = 0; ok && i < r->count; i++) {
        size_t n = r->height[i] * r->width[i];
        for (size_t k = 0; k < n; k++) {
            if (!r->mask[at + k] || seen[at + k]) continue;
            size_t area = flood(r->mask + at, seen + at, r->height[i], r->width[i], k, stack);
            for (size_t q = 0; q < area; q++) weight[at + stack[q]] = 1 / (double)area;
            ++*regions;
        }
        at += n;
    }
    mem_free(seen), mem_free(stack);
    return ok;
}

/* Every threshold, from (0, 0), cut at the limit. */
static double whole_curve(const scored *s, size_t n, size_t regions, double normal, double limit) {
    double x = 0, y = 0, area = 0;
    for (size_t i = 0, next; i < n && x < limit; i = next) {
        double right = 0, wrong = 0;
        next = next_value(s, i, n);
        for (size_t k = i; k < next; k++) right += s[k].weight, wrong += !s[k].right;
        double x1 = x + wrong / normal, y1 = y + right / (double)regions;
        double end = x1 > limit ? y + (y1 - y) * (limit - x) / (x1 - x) : y1, to = x1 > limit ? limit : x1;
        area += (to - x) * (y + end) / 2;
        x = x1, y = y1;
    }
    return area / limit;
}

enum { STEPS = 200 };
/* Thresholds from the lowest value up in equal steps; hit: above. */
static double stretched_curve(const scored *s, size_t n, size_t regions, double normal, double limit) {
    double low = s[n - 1].value, high = s[0].value, each = (high - low) / (double)STEPS, area = 0, first = NAN, last = NAN, before = NAN;
    size_t count = each > 0 ? (size_t)ceil((high - low) / each) : 0, i = 0;
    double right = 0, wrong = 0;
    for (size_t t = count; t-- > 0;) { /* downwards: rates grow */
        double threshold = low + (double)t * each;
        for (; i < n && s[i].value > threshold; i++) right += s[i].weight, wrong += !s[i].right;
        double x = wrong / normal, y = right / (double)regions;
        if (!(x < limit)) break;
        if (isnan(first))
            first = x;
        else
            area += (x - last) * (y + before) / 2;
        last = x, before = y;
    }
    return area / (last - first);
}

bool measure_pro(const region_maps *r, double limit, double *pro, double *stretched, err *e) {
    size_t pixels = 0, regions, normal = 0;
    *pro = *stretched = NAN;
    for (size_t i = 0; i < r->count; i++) pixels += r->height[i] * r->width[i];
    double *weight = mem_alloc(pixels, sizeof *weight);
    bool ok = (weight || err_set(e, "no memory for %zu pixels", pixels)) && weigh(r, weight, pixels, &regions, e);
    scored *s = ok ? sorted(r->map, r->mask, weight, pixels, e) : NULL;
    mem_free(weight);
    if (!s) return false;
    for (size_t i = 0; i < pixels; i++) normal += !s[i].right;
    if (regions && normal) {
        *pro = whole_curve(s, pixels, regions, (double)normal, limit);
        *stretched = stretched_curve(s, pixels, regions, (double)normal, limit);
    }
    mem_free(s);
    return true;
}

/* ---- small ones --------------------------------------------------------------------------------------------- */
size_t measure_rank(const real *scores, size_t count, size_t right) {
    size_t before = 0;
    if (isnan(scores[right])) return count;
    for (size_t i = 0; i < count; i++) before += scores[i] > scores[right] || (i < right && scores[i] == scores[right]);
    return before;
}

void measure_overlap(const unsigned char *a, const unsigned char *b, size_t n, size_t *both, size_t *any) {
    *both = *any = 0;
    for (size_t i = 0; i < n; i++) *both += a[i] && b[i], *any += a[i] || b[i];
}
