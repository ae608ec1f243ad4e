/* mask_json.h - regions in JSON: COCO's tables of annotations, SAM's lists of masks, one annotation alone (formats.c's row).
 *
 *     {"images": [...], "annotations": [{"image_id", "category_id", "segmentation"}, ...], "categories": [...]}   COCO
 *     {"image": {"width", "height", ...}, "annotations": [{"segmentation"}, ...]}                       SA-1B
 *     [{"segmentation": {"size": [h, w], "counts": "..."}}, ...]                                 SAM, COCO's results
 *     {"segmentation": ...} or {"size": [h, w], "counts": ...}                                        one of them
 *
 * A segmentation is run lengths (text or list), a list of polygons, or rows of true and false. A region is called what
 * its category is called, or its own category_name, class_name, label, name or phrase. Of a table of several pictures the
 * photograph's alone are taken: its file's name or its number says which. A file of any size is read element by element.
 */
#ifndef MASK_JSON_H
#define MASK_JSON_H
#include "masks/formats.h"

bool mask_json_is(const unsigned char *bytes, size_t length);
bool mask_json_open(mask_file *f, err *e);
bool mask_json_read(mask_file *f, size_t plane, mask_view view, mask_plane *out, err *e);
bool mask_json_name(const mask_file *f, size_t plane, char *name, size_t size);
void mask_json_close(mask_file *f);
#endif
