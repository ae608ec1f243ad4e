/* score.c - see score.h. */
#include "segment/score.h"
#include <math.h>

void segment_score_add(segment_score *s, const uint16_t *label, const uint16_t *truth, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (truth[i] == SEGMENT_IGNORED || truth[i] == UINT16_MAX) continue;
        if (truth[i] < s->classes) s->truth[truth[i]]++;
        if (label[i] < s->classes) s->predicted[label[i]]++;
        if (label[i] == truth[i] && truth[i] < s->classes) s->hit[truth[i]]++;
    }
}

double segment_iou(const segment_score *s, size_t c) {
    uint64_t all = s->predicted[c] + s->truth[c] - s->hit[c];
    return all ? (double)s->hit[c] / (double)all : (double)NAN;
}

segment_means segment_score_means(const segment_score *s) {
    uint64_t hits = 0, truths = 0;
    size_t seen = 0, true_ones = 0;
    segment_means m = {0, 0, 0};
    for (size_t c = 0; c < s->classes; c++) {
        double iou = segment_iou(s, c);
        hits += s->hit[c], truths += s->truth[c];
        if (!isnan(iou)) m.miou += iou, seen++;
        if (s->truth[c]) m.macc += (double)s->hit[c] / (double)s->truth[c], true_ones++;
    }
    m.aacc = (double)hits / (double)truths;
    m.miou /= (double)seen, m.macc /= (double)true_ones;
    return m;
}

segment_cliptrase_means segment_score_cliptrase(const segment_score *s) {
    uint64_t hits = 0, all = 0;
    size_t true_ones = 0;
    segment_cliptrase_means m = {0, 0, 0, 0};
    for (size_t c = 0; c < s->classes; c++) hits += s->hit[c], all += s->truth[c];
    for (size_t c = 0; c < s->classes; c++) {
        double hit = (double)s->hit[c], truth = (double)s->truth[c];
        double iou = hit / (truth + (double)s->predicted[c] - hit + .01);
        m.macc += hit / (truth + .01);
        if (!s->truth[c]) continue;
        m.fwiou += truth / (double)all * iou, m.miou += iou, true_ones++;
    }
    m.pacc = (double)hits / (double)all;
    m.macc /= (double)s->classes, m.miou /= (double)true_ones;
    return m;
}
