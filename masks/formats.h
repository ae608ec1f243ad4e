/* formats.h - files that hold masks: one row a format, each giving planes of plain numbers.
 *
 *     mask_file f;
 *     mask_plane p;
 *     if (!mask_file_open("labels.png", &(mask_frame){0}, &f, &e)) ... // f.planes of them
 *     if (!f.how->read(&f, 0, MASK_LABELS, &p, &e)) ...              // p.value [p.height, p.width]
 *     mask_plane_free(&p);
 *     mask_file_close(&f);
 *
 * A new format is a row in formats.c's table and its functions. What a plane's numbers mean is decided in reading.c alone.
 */
#ifndef FORMATS_H
#define FORMATS_H
#include "files/files.h"
#include "pictures/image.h"

/* Shown: grey (through luma). Labels: whole numbers as stored, a palette's index, 0xRRGGBB where a picture is coloured.
 * Alpha: the channel of that name. */
typedef enum { MASK_SHOWN, MASK_LABELS, MASK_ALPHA } mask_view;

typedef struct {
    size_t width, height;
    real *value; /* [height,width] */
    real full;   /* what stands for 1, where the file says it (255, 65535, 1); 0: the largest value decides */
    bool whole;   /* whole numbers, so they may be labels */
    bool palette, coloured;
    bool colours;   /* the labels are 0xRRGGBB */
    double opaque;  /* share of pixels whose alpha is full; 1 where there is none */
    double see_through; /* share whose alpha is not */
} mask_plane;

/* The photograph whose regions are asked for, as far as it is known. */
typedef struct {
    const char *photo;    /* its file's name; NULL: not known */
    size_t width, height; /* 0: not known */
    bool stored;          /* pixels as they are stored, EXIF orientation not honoured */
} mask_frame;

typedef struct mask_format mask_format;
typedef struct {
    const char *path;
    file_map bytes;
    const mask_format *how;
    mask_frame frame;
    size_t planes; /* masks in it */
    void *own;     /* the format's, between open and close */
} mask_file;

struct mask_format {
    const char *name;
    bool (*is)(const unsigned char *bytes, size_t length);
    bool (*open)(mask_file *f, err *e); /* sets planes (and own) */
    bool (*read)(mask_file *f, size_t plane, mask_view view, mask_plane *out, err *e);
    /* NULL: planes are numbered. Else each is a region by itself, called as the file has it (false: it has no name). */
    bool (*name_of)(const mask_file *f, size_t plane, char *name, size_t size);
    void (*close)(mask_file *f);                                                /* NULL: nothing to do */
};

bool mask_file_open(const char *path, const mask_frame *frame, mask_file *f, err *e);
void mask_file_close(mask_file *f);
void mask_plane_free(mask_plane *p);
/* Does the name end as files of masks do? Folders are looked through for these. */
bool mask_file_name(const char *name);
/* Room for a plane's numbers. */
bool mask_plane_new(mask_plane *p, size_t width, size_t height, const char *path, err *e);
#endif
