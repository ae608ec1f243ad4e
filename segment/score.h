/* score.h - intersection over union from whole numbers of pixels, as mmsegmentation defines it (MODEL.md 6.7).
 *
 *     segment_score s = {.classes = 21, .hit = hit, .predicted = predicted, .truth = truth};   // [21] each, zeroed
 *     segment_score_add(&s, labels, truths, height * width);       // of as many pictures as there are
 *     segment_means m = segment_score_means(&s);                   // shares in 0..1
 */
#ifndef SEGMENT_SCORE_H
#define SEGMENT_SCORE_H
#include "base.h"

enum { SEGMENT_IGNORED = 255 }; /* truth of pixels that count for nothing; of datasets with more classes: UINT16_MAX too */
typedef struct {
    size_t classes;
    uint64_t *hit, *predicted, *truth; /* [classes] pixels: rightly so called, so called, that are so */
} segment_score;
void segment_score_add(segment_score *s, const uint16_t *label, const uint16_t *truth, size_t n);
/* (6.32)  hit/(predicted + truth - hit); NaN: 0/0, nowhere predicted and nowhere true */
double segment_iou(const segment_score *s, size_t c);
/* Means without the classes that are 0/0: a class predicted and never true counts as 0 in miou, and not in macc. */
typedef struct { double aacc, miou, macc; } segment_means;
segment_means segment_score_means(const segment_score *s);
/* CLIPtrase's: .01 more in every denominator, IoU over the classes that are true somewhere, accuracy over all. */
typedef struct { double pacc, macc, fwiou, miou; } segment_cliptrase_means;
segment_cliptrase_means segment_score_cliptrase(const segment_score *s);
#endif
