/* settings.c - what the repositories set for each method and each dataset (see segment.h; MODEL.md 6.7). */
#include "segment/segment.h"
#include "segment/lists.h"
#include <string.h>

#define LINES(list) list##_lines, sizeof list##_lines / sizeof *list##_lines, NULL, 0
#define WORDS(list, words) list##_lines, sizeof list##_lines / sizeof *list##_lines, words##_lines, sizeof words##_lines / sizeof *words##_lines
static const char *const background_lines[] = {"background"};

/* scales 0: 40. Thresholds: SCLIP's, NACLIP's and ResCLIP's; SC-CLIP's; < 0: off. */
static const segment_list LISTS[] = {
    {"voc21", "PASCAL VOC 2012, with background", "voc2012", LINES(voc21), "background", true, 336, true, 65, 50, .1, .15, .1, .3, 2.2, .7, .5},
    {"voc20", "PASCAL VOC 2012", "voc2012", LINES(voc20), NULL, false, 336, true, 40, 40, 0, 0, -1, .6, 2.1, .6, .1},
    {"context60", "PASCAL Context, with background", "pascal_context", LINES(context60), NULL, true, 336, false, 50, 40, .1, .15, -1, .3, 1.8, .7, .3},
    {"context59", "PASCAL Context", "pascal_context", LINES(context59), NULL, false, 336, false, 40, 40, 0, 0, -1, .4, 1.8, .7, .25},
    {"coco_object", "COCO-Object", "coco_stuff", LINES(coco_object), "background", true, 336, false, 50, 55, .1, .35, -1, .4, 1.8, .7, .11},
    {"coco_stuff164k", "COCO-Stuff", "coco_stuff", LINES(coco_stuff164k), NULL, false, 336, false, 40, 40, 0, 0, -1, .4, 1.8, .7, .11},
    {"cityscapes", "Cityscapes", "cityscapes", LINES(cityscapes), NULL, false, 560, false, 40, 40, 0, 0, -1, .2, 2.1, .6, .1},
    {"ade20k", "ADE20K", "ade20k", LINES(ade20k), NULL, false, 336, false, 40, 40, 0, 0, -1, .3, 2.1, .7, .25},
    /* CLIPtrase's own names; its background words are one class, the last */
    {"cliptrase_voc20", "PASCAL VOC 2012, as CLIPtrase names it", "voc2012", LINES(cliptrase_voc20), NULL, false, 336, false, 40, 40, 0, 0, -1, .3, 2.2, .7, .5},
    {"cliptrase_voc21", "PASCAL VOC 2012 with background, as CLIPtrase names it", "voc2012", WORDS(cliptrase_voc20, cliptrase_voc21_background), NULL, true, 336, false, 40, 40, 0, 0, -1, .3, 2.2, .7, .5},
    {"cliptrase_context59", "PASCAL Context, as CLIPtrase names it", "pascal_context", LINES(cliptrase_pc59), NULL, false, 336, false, 40, 40, 0, 0, -1, .3, 1.8, .7, .3},
    {"cliptrase_context60", "PASCAL Context with background, as CLIPtrase names it", "pascal_context", WORDS(cliptrase_pc59, background), NULL, true, 336, false, 40, 40, 0, 0, -1, .3, 1.8, .7, .3},
    {"cliptrase_coco80", "COCO's 80 things with background, as CLIPtrase names them", "coco_stuff", WORDS(cliptrase_coco80, cliptrase_coco80_background), NULL, true, 336, false, 40, 40, 0, 0, -1, .3, 1.8, .7, .3},
    {"cliptrase_coco171", "COCO-Stuff, as CLIPtrase names it", "coco_stuff", LINES(cliptrase_coco171), NULL, false, 336, false, 40, 40, 0, 0, -1, .3, 1.8, .7, .3},
    {"cliptrase_ade150", "ADE20K, as CLIPtrase names it", "ade20k", LINES(cliptrase_ade150), NULL, false, 336, false, 40, 40, 0, 0, -1, .3, 1.8, .7, .3},
};

size_t segment_list_count(void) { return sizeof LISTS / sizeof *LISTS; }
const segment_list *segment_list_at(size_t i) { return i < segment_list_count() ? &LISTS[i] : NULL; }
const segment_list *segment_list_find(const char *name) {
    for (size_t i = 0; i < segment_list_count(); i++)
        if (!strcmp(LISTS[i].name, name)) return &LISTS[i];
    return NULL;
}

bool segment_knows(const method *how) { return how && how->family == FAMILY_FEATURES; }

/* CLIPtrase: the shorter side to S, the whole picture, clusters by eps and least; these are of S = 224 (336: 1.1 and 7). */
static void cliptrase(segment_settings *s, size_t side, const segment_list *list) {
    s->shorter = side, s->window = 0, s->prob_thd = 0, s->area_thd = -1;
    s->eps = .7, s->least = 3, s->image_level = list && strstr(list->name, "voc20");
}

/* The published numbers are of models that see 224 pixels: sides grow with the model's own. */
segment_settings segment_defaults(const clip_model *m, const method *how, const segment_list *list) {
    size_t side = m->config.image, patch = m->config.patch;
    segment_settings s = {.how = how, .method = method_defaults(), .shorter = side * 3 / 2, .window = side, .stride = side / 2,
                          .scale = 40, .prob_thd = 0, .area_thd = -1, .dilations = {8, 16}, .dilation_count = 2};
    const char *name = how->name;
    bool near = !strcmp(name, "naclip") || !strcmp(name, "resclip");
    if (side < 2 * patch) s.window = 0;
    if (!strcmp(name, "cliptrase")) return cliptrase(&s, side, list), s;
    if (!list) return s;
    s.shorter = (list->shorter * side + 112) / 224;
    s.prob_thd = list->prob_thd;
    if (near && list->whole) s.window = 0;
    if (!strcmp(name, "resclip")) {
        s.method.lambda_r = (real)list->lambda_r, s.method.tau_s = (real)list->tau_s;
        s.method.lambda_s = (real)list->lambda_s, s.method.temp_thd = (real)list->temp_thd;
    } else if (!strcmp(name, "sclip")) {
        s.scale = list->sclip_scale, s.area_thd = list->area_thd;
        if (!strcmp(list->name, "coco_stuff164k")) s.shorter = 2 * side;
    } else if (!strcmp(name, "scclip")) {
        s.scale = list->scclip_scale, s.area_thd = list->area_thd, s.prob_thd = list->scclip_thd;
    }
    return s;
}
