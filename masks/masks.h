/* masks.h - the regions of a photograph, as -k, --box and --labels name them.
 *
 *     masks m;
 *     mask_wishes w = {.files = files, .count = 3, .keep = 64 << 20, .say = warn, .arg = &c};
 *     if (!masks_open(&m, &w, &e)) ...                            // each file read once: a bad one is found here
 *     const mask_image *one = masks_at(&m, 3, &e);                // good until the next call; NULL: an error
 *     printf("%s %s", m.item[3].name, m.item[3].file);
 *     masks_close(&m);
 *
 * A name is, in this order: a file; a folder (its pictures and arrays); FILE:7 or FILE:#ff8000, the pixels of one label
 * or colour; FILE:120,85, what lies under that point of the photograph: the pixels of its label, or of several masks the
 * smallest that covers it; FILE:alpha; FILE.npy:2 or FILE.json:2, one mask of several; FILE.json:dog, those called so; a
 * pattern (of * ? []). Masks are held as bytes while they fit in `keep`, and read again when they are asked for otherwise.
 */
#ifndef MASKS_H
#define MASKS_H
#include "masks/reading.h"

typedef struct {
    const char *const *files; /* names as above */
    size_t count;
    const char *const *boxes; /* "x,y,w,h" in pixels of the photograph */
    size_t box_count;
    bool labels;              /* a region of every label in every file, but 0 and the border, 255 */
    bool stored;              /* pixels as they are stored, EXIF orientation not honoured */
    const char *photo;        /* the photograph's file; NULL: not known */
    size_t width, height;     /* of the photograph */
    size_t keep;              /* most bytes to hold */
    void (*say)(void *arg, const char *file, const char *text); /* what is to be said of a file */
    void *arg;
} mask_wishes;

typedef enum { PICK_WHOLE, PICK_LABEL, PICK_ALPHA, PICK_BOX } mask_pick;
typedef struct {
    char *file; /* as named: "labels.png:7" */
    char *path; /* "labels.png"; boxes: NULL */
    char *name; /* of the region: no two the same, fit for a file's name */
    char *called; /* what its file calls it; NULL: nothing */
    mask_pick pick;
    unsigned label;
    size_t plane; /* of a file with several */
    bool listed;  /* its file is a list of regions */
    double box[4];
    size_t width, height;
    unsigned char *bytes; /* 255ths, where they are held */
} mask_item;

typedef struct {
    mask_item *item;
    size_t count;
    size_t largest; /* pixels of the largest */
    /* its own */
    size_t room, kept, current;
    mask_wishes wishes;
    mask_image now;
    mask_file open;     /* of the item read last */
    const char *opened; /* its path; NULL: none is open */
} masks;

bool masks_open(masks *m, const mask_wishes *w, err *e); /* masks_close it, whatever came out */
const mask_image *masks_at(masks *m, size_t i, err *e);
void masks_close(masks *m);
#endif
