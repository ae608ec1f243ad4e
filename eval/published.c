/* published.c - what the papers print of region embeddings, and what they leave open (see survey.h).
 *
 * MaskInversion (arXiv 2407.20034): top-1 accuracy in per cent. The rows but its own were run by its authors.
 */
#include "eval/survey.h"
#include <math.h>
#include <string.h>

typedef struct {
    const char *set, *method;
    double base, huge; /* ViT-B/16, ViT-H/14; 0: not known */
} figure;
static const figure figures[] = {
    {"phrasecut", "cls", 14.4, 0},
    {"refcoco", "cls", 18.3, 0},
    {"refcocoplus", "cls", 18.4, 0},
    {"voc2012", "cls", 40.1, 0},
    {"pascal_context", "cls", 17.8, 0},
    {"coco2017", "cls", 25.0, 0},
    {"openimages_v7", "cls", 28.9, 0},
    {"phrasecut", "maskedcrop", 48.3, 0},
    {"refcoco", "maskedcrop", 52.3, 0},
    {"refcocoplus", "maskedcrop", 58.7, 0},
    {"voc2012", "maskedcrop", 75.0, 0},
    {"pascal_context", "maskedcrop", 40.4, 0},
    {"coco2017", "maskedcrop", 38.2, 0},
    {"openimages_v7", "maskedcrop", 33.8, 0},
    {"phrasecut", "fgvp", 35.9, 0},
    {"refcoco", "fgvp", 42.6, 0},
    {"refcocoplus", "fgvp", 48.0, 0},
    {"phrasecut", "alphaclip", 34.0, 0},
    {"refcoco", "alphaclip", 43.4, 0},
    {"refcocoplus", "alphaclip", 44.2, 0},
    {"voc2012", "alphaclip", 52.6, 0},
    {"pascal_context", "alphaclip", 27.7, 0},
    {"coco2017", "alphaclip", 30.9, 0},
    {"openimages_v7", "alphaclip", 43.0, 0},
    {"voc2012", "ris", 78.0, 0},
    {"pascal_context", "ris", 38.1, 0},
    {"coco2017", "ris", 43.6, 0},
    {"openimages_v7", "ris", 34.5, 0},
    {"phrasecut", "maskinv", 57.2, 64.0},
    {"refcoco", "maskinv", 56.1, 61.2},
    {"refcocoplus", "maskinv", 58.3, 65.0},
    {"voc2012", "maskinv", 85.4, 93.5},
    {"pascal_context", "maskinv", 58.1, 61.8},
    {"coco2017", "maskinv", 44.7, 63.7},
    {"openimages_v7", "maskinv", 46.3, 51.2},
    {"voc2012", "maskclip", 0, 61.8},
    {"pascal_context", "maskclip", 0, 37.8},
    {"coco2017", "maskclip", 0, 30.9},
    {"voc2012", "surgery", 0, 68.0},
    {"pascal_context", "surgery", 0, 40.8},
    {"coco2017", "surgery", 0, 40.1},
    {"openimages_v7", "surgery", 0, 46.6},
    {"voc2012", "sclip", 0, 38.2},
    {"pascal_context", "sclip", 0, 20.7},
    {"coco2017", "sclip", 0, 19.8},
    {"openimages_v7", "sclip", 0, 24.4},
};

/* The rows' qualities on COCO (ViT-B/16): exact, eroded, dilated, box. */
static const double qualities[QUALITIES] = {44.7, 42.7, 44.3, 42.9};

double published_share(const char *set, const char *method, mask_quality quality, bool huge) {
    const char *known = !strcmp(set, "pascal_context_mat") ? "pascal_context" : set;
    if (quality != QUALITY_EXACT)
        return !strcmp(set, "coco2017") && !strcmp(method, "maskinv") && !huge ? qualities[quality] : (double)NAN;
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        double share = huge ? figures[i].huge : figures[i].base;
        if (!strcmp(figures[i].set, known) && !strcmp(figures[i].method, method) && share > 0) return share;
    }
    return (double)NAN;
}

const char *const published_choices[] = {
    "unit of class retrieval: both are given, one mask a picture and class (areas), one an object (objects); crowds "
    "and empty masks are out",
    "candidates of class retrieval: all class names of the dataset, without background; Open Images: the names that "
    "have masks",
    "prompt: \"a photo of a {}\" alone, and the mean of CLIP's 80 templates beside it; --template takes the first "
    "one's place",
    "direction of referring retrieval: mask to expression (any sentence of the object; the very one) and expression to "
    "mask (among "
    "the referred objects; among all annotated ones)",
    "expressions as people wrote them, without the blanks around them, no template",
    "split: the one named above; --split takes another",
    "input: squashed to the side named in each row; --size takes others (the authors' example: 448 for ViT-B/16; 224 "
    "beside it)",
    "learning rate: --lr (the authors' code: 0.1 by default, its README 0.5); alpha: --alpha (5 on RefCOCO and "
    "RefCOCO+, 0 elsewhere)",
    "eroded, dilated: a disk of 5 pixels on the picture; a mask that erosion empties stays; box: filled",
    "masked crop: outside set to the model's mean, then the box cut out",
    "equal scores: the first wins; maps: min-max, IoU at 1/2, and at the one threshold of .01 ... .99 that is best "
    "over the dataset",
    "points: yes and no of the labels that a picture has, unsure ones dropped; IoU a label over the dataset, then the "
    "labels' mean",
};
const size_t published_choice_count = sizeof published_choices / sizeof *published_choices;
