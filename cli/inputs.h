/* inputs.h - the photograph and its regions, as invert and regions take them.
 *
 *     region_options region;                                         // in the options; CLI_REGION_FLAGS(options)
 *     if (!inputs_open(c, &o->region, &report, steps, &photo, &m)) ... // all looked at, what was seen is said
 *     inputs_close(&report, &photo, &m);
 */
#ifndef INPUTS_H
#define INPUTS_H
#include "cli/report.h"
#include "masks/masks.h"

typedef struct {
    const char *image;
    text_list masks, boxes;
    bool labels, no_orient;
} region_options;
#define CLI_REGION_FLAGS(options)                                                                                     \
    {"image", 'i', FLAG_TEXT, offsetof(options, region.image), "IMAGE", .required = true, .help = "the photograph"},  \
    {"mask", 'k', FLAG_LIST, offsetof(options, region.masks), "MASK", .many = true,                                   \
     .help = "a region: a picture, white on black, any size; an .npy of [h, w] or [masks, h, w]; FILE:7, the pixels " \
             "of one label (FILE:#ff8000 of a colour, FILE.npy:2 one of several); FILE:120,85, what lies under that " \
             "point (its label, or of several masks the smallest); FILE:alpha; a folder of them; a .json of COCO's "  \
             "or SAM's regions (FILE.json:dog, those called so)"},                                                    \
    {"box", 0, FLAG_LIST, offsetof(options, region.boxes), "X,Y,W,H",                                                 \
     .help = "a region: a rectangle, in pixels of the photograph"},                                                   \
    {"labels", 0, FLAG_SWITCH, offsetof(options, region.labels), NULL,                                                \
     .help = "a region of every label in each mask file, but 0 and the border, 255"},                                 \
    {"no-orient", 0, FLAG_SWITCH, offsetof(options, region.no_orient), NULL,                                          \
     .help = "take pictures as they are stored; otherwise EXIF orientation turns them upright"}

/* A region for each mask, in report's order, with room for its result and loss_count losses. False: see c->e; inputs_close
 * all the same. */
bool inputs_open(cli *c, const region_options *o, report *r, size_t loss_count, picture *photo, masks *m);
void inputs_close(report *r, picture *photo, masks *m);
/* AlphaCLIP's region plane [side,side] of one -k, in *plane (mem_free it); a model without one refuses it. */
bool inputs_alpha(cli *c, const char *mask, const char *file, const picture *photo, size_t side, real **plane);
#endif
