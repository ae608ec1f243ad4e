/* data.h - published datasets in the layouts in which they are downloaded: their pictures, and the regions of each.
 *
 *     const data_set *set = data_set_find("coco2017");
 *     data_wish wish = {.root = "/data/coco", .split = NULL};     // NULL: the split that papers evaluate
 *     data_sink sink = {classes, picture, region, left_out, arg};
 *     if (!data_read(set, &wish, &sink, &e)) ...                  // a missing table is an error that says where to get
 * it
 *
 * Picture by picture: `picture`, then its regions, with their masks. What is broken is left out and told, with the
 * reason, and the reading goes on. No picture is decoded, one mask is held at a time, tables are read element by
 * element; what stays in memory is a table's index, 16 bytes an annotation.
 *
 * A dataset is a row in data.c's table and a function: data_voc.c, data_coco.c, data_refs.c, data_phrases.c,
 * data_openimages.c, data_folders.c; the formats below them are in files/, pictures/ and masks/.
 */
#ifndef DATA_H
#define DATA_H
#include "sys/err.h"

typedef struct data_set data_set;
size_t data_set_count(void);
const data_set *data_set_at(size_t i);
const data_set *data_set_find(const char *name); /* NULL: no such dataset */

typedef struct { /* `text` is what a prompt says: "dining table" of "diningtable" */
    const char *id, *name, *text;
} data_class;

typedef struct {                       /* a pixel of which people said whether it is of a label */
    const char *label, *name, *answer; /* yes, no, unsure */
    size_t x, y;
} data_point;

typedef struct {
    const char *id, *file, *split; /* file: below root */
    bool whole;                    /* the id is a number in the dataset */
    size_t index;                  /* pictures before it */
    size_t width, height;          /* as stored; EXIF orientation is not honoured: masks belong to the stored pixels */
    long class_index;              /* among the classes, where the picture has one; else -1 */
    const char *const *captions;
    size_t caption_count;
    const data_point *points;
    size_t point_count;
    const char *more; /* further fields of the listing, as JSON */
} data_picture;

typedef struct {
    const char *raw, *sent; /* as people wrote it; as the dataset cleaned it, or NULL */
    uint64_t id;            /* with sent */
} data_phrase;
typedef struct {
    uint64_t id;
    double box[4]; /* x, y, w, h */
} data_candidate;

typedef struct {
    const char *id, *split, *kind;     /* semantic, instance, crowd, thing, stuff, phrase, box, anomaly, object */
    const char *class_id, *class_name; /* NULL: it has none */
    bool class_whole;                  /* class_id is a number in the dataset */
    long class_index;                  /* among the classes, or -1 */
    const data_phrase *phrases;
    size_t phrase_count;
    const data_candidate *candidates; /* the picture's objects */
    size_t candidate_count;
    bool candidate_boxes;               /* candidates have boxes */
    const char *more;                   /* further fields of the listing, as JSON: ",\"ann_id\":3" */
    uint64_t object; /* the number of the annotated object that it is; 0: not told */
    const unsigned char *mask;          /* [height, width], 0 or 1 */
    size_t width, height, area, box[4]; /* counted in the mask */
} data_region;

typedef struct { /* each returns false, having set e, to end the reading */
    bool (*classes)(void *arg, const data_class *list, size_t count, err *e); /* once, before the first picture */
    bool (*picture)(void *arg, const data_picture *p, bool *wanted,
                    err *e); /* *wanted false: its regions are not read */
    bool (*region)(void *arg, const data_region *r, err *e);
    /* inside: it belongs to the picture before, else it stands by itself */
    bool (*left_out)(void *arg, const char *id, const char *why, bool inside, err *e);
    void *arg;
} data_sink;

typedef struct {
    const char *root, *split, *by; /* NULL: the dataset's own */
    /* label pictures, told with the sink's arg in place of the regions that they hold: VOC, Context (PNG), COCO-Stuff, Cityscapes
     * (numbers for training), ADE20K, ImageNet-S; value [height,width] as stored, of VOC's colours their numbers. NULL: regions */
    bool (*labels)(void *arg, const uint32_t *value, size_t height, size_t width, err *e);
    bool objects;                  /* of referring expressions: objects that nobody refers to, too, of kind "object" */
} data_wish;

struct data_set {
    const char *name, *title;
    const char *split;  /* the evaluated one */
    const char *splits; /* all that are read, for messages */
    const char *by;     /* who divided it, "unc"; NULL: one division */
    const char *where;  /* where to get it */
    bool (*read)(void *reader);
};
bool data_read(const data_set *set, const data_wish *wish, const data_sink *sink, err *e);
#endif
