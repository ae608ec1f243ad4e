/* reader.h - what the readers of this room share; nobody else includes it.
 *
 *     static bool read_x(void *reader) {
 *         data_reader *r = reader;
 *         data_picture p = {.id = "000139", .file = "val2017/000139.jpg", .class_index = -1};
 *         switch (reader_picture(r, &p)) {          // tells the sink of it
 *         case PICTURE_STOP: return false;          // the sink or the memory said no
 *         case PICTURE_HERE: ... reader_region(r, &region);
 *         default: ...                              // not there (told), or not wanted
 *         }
 */
#ifndef READER_H
#define READER_H
#include "data/data.h"
#include "files/csv.h"
#include "files/json_stream.h"
#include "files/longtext.h"
#include "pictures/labels.h"

typedef struct {
    const data_set *set;
    const char *root, *split, *by;
    bool asked; /* for this split, which is not the dataset's own choice */
    bool objects;
    bool (*labels)(void *arg, const uint32_t *value, size_t height, size_t width, err *e); /* data_wish.labels */
    const data_sink *sink;
    err *e;
    size_t pictures;      /* told so far */
    size_t width, height; /* of the picture before */
    unsigned char *mask;  /* [height, width]; reader_mask */
    size_t mask_room;
    longtext more, other; /* for `more` */
    size_t *counts;       /* [LABEL_VALUES] */
} data_reader;

/* ---- files below root ---- */
typedef struct {
    char text[4096];
} path_text;
path_text reader_path(const data_reader *r, const char *format, ...) PRINTF_LIKE(2, 3);
/* The same below nothing: a file's name for data_picture.file. */
path_text path_of(const char *format, ...) PRINTF_LIKE(1, 2);
/* The table at this path can be opened; else an error that names it and where to get it. */
bool reader_needs(data_reader *r, const char *path);

typedef struct { /* sorted; names_free it */
    char **item;
    size_t count, room;
} name_list;
/* A folder's entries but hidden ones; a missing folder is an error as of reader_needs. */
bool reader_folder(data_reader *r, const char *path, name_list *out);
/* The lines of a text file, trimmed, blank ones left out, in the file's order. */
bool reader_lines(data_reader *r, const char *path, name_list *out);
bool names_add(data_reader *r, name_list *list, const char *text, size_t length);
void names_free(name_list *list);
bool ends_like(const char *text, const char *end); /* whatever the case */

/* ---- pictures, regions, what is left out ---- */
typedef enum { PICTURE_HERE, PICTURE_OTHER, PICTURE_GONE, PICTURE_STOP } picture_state;
picture_state reader_picture(data_reader *r, data_picture *p);
/* Its sides from the file, before it is told (PICTURE_GONE is told at once). */
picture_state reader_look(data_reader *r, const data_picture *p, size_t *width, size_t *height);
picture_state reader_tell(data_reader *r, data_picture *p, size_t width, size_t height);
bool reader_skip(data_reader *r, bool inside, const char *why, const char *id, ...) PRINTF_LIKE(4, 5);
/* Room for the mask of the picture before, zeroed. */
bool reader_mask(data_reader *r);
/* Counts the mask and tells the sink. */
bool reader_region(data_reader *r, data_region *region);

/* ---- label pictures ---- */
enum { LABEL_VALUES = 1 << 16, LABEL_NOTHING = 255 };
/* Reads one; *why: why not (told by the caller), else NULL. */
bool reader_labels(data_reader *r, const char *path, label_image *l, const char **why);
/* r->counts of the values below LABEL_VALUES. */
bool reader_count(data_reader *r, const label_image *l);
bool reader_mask_of(data_reader *r, const label_image *l, uint32_t value);
/* A region of kind "semantic", id PICTURE/classV, for each of the classes that occurs. value[i]: the label of class i,
 * class_id too unless ids differ; more(i): further fields, or NULL. */
typedef struct {
    const char *picture;
    const data_class *classes;
    const uint32_t *value;
    size_t count;
    const char *(*more)(data_reader *r, size_t i);
} label_classes;
bool reader_classes(data_reader *r, const label_image *l, const label_classes *c);
/* Of datasets that are walked by their label pictures: tells of each picture (.jpg) in a folder that has none in the other. */
bool reader_unlabelled(data_reader *r, const char *pictures, const char *labels);

/* ---- tables: where the rows of a picture stand ---- */
typedef struct {
    uint64_t key, at;
} place;
typedef struct {
    place *item;
    size_t count, room;
} places;
bool places_add(data_reader *r, places *p, uint64_t key, uint64_t at);
/* By key, then at. */
void places_sort(places *p);
/* The first place of this key (sorted); count: there is none. */
size_t places_find(const places *p, uint64_t key);
/* Sorted: the groups of equal keys as (index of the first, its at), ordered by that at, so as they stand in the file.
 */
bool places_groups(data_reader *r, const places *p, places *groups);
void places_free(places *p);
uint64_t text_key(const char *text); /* FNV-1a */

/* ---- fields of JSON items ---- */
const char *item_text(const cJSON *item, const char *key); /* NULL: no string there */
bool item_whole(const cJSON *item, const char *key, uint64_t *out);

/* ---- the readers ---- */
bool read_voc2012(void *reader);
bool read_context(void *reader);
bool read_context_mat(void *reader);
bool read_coco(void *reader);
bool read_coco_panoptic(void *reader);
bool read_coco_stuff(void *reader);
bool read_refcoco(void *reader);
bool read_reclip(void *reader);
bool read_phrasecut(void *reader);
bool read_openimages(void *reader);
bool read_ade20k(void *reader);
bool read_cityscapes(void *reader);
bool read_imagenet_s(void *reader);
bool read_imagenet(void *reader);
bool read_mvtec(void *reader);
bool read_visa(void *reader);
bool read_flickr30k(void *reader);
#endif
