/* coco.h - COCO's table of images, annotations and categories, which RefCOCO has too (data_coco.c; for data_refs.c).
 *
 *     coco_table t;
 *     if (!coco_open(r, &t, path, 0)) ...       // tells the classes; coco_close(&t), also on failure
 *     t.annotations                             // sorted by picture; json_stream_at(&t.file, ...) is one of them
 */
#ifndef COCO_H
#define COCO_H
#include "data/reader.h"
#include "masks/segmentation.h"

typedef struct {
    uint64_t id;
    bool stuff;
    char text[24], *name;
} coco_category;
typedef struct {
    json_stream file;
    places images, annotations; /* by picture; images in the file's order */
    places ids;                 /* annotations by their own number, as they stand */
    coco_category *category;    /* by id */
    size_t category_count, category_room;
    data_class *classes;
} coco_table;
enum { COCO_IDS = 1, COCO_QUIET = 2 }; /* index annotations by their number, too; tell no classes */
bool coco_open(data_reader *r, coco_table *t, const char *path, unsigned how);
void coco_close(coco_table *t);
const coco_category *coco_category_of(const coco_table *t, const cJSON *item, long *index); /* NULL: not there */
/* ,"stated_area":..,"stated_bbox":[..] of an item. */
void coco_stated(longtext *more, const cJSON *item);
#endif
