/* image.h - pictures: read, resized as Pillow does it, normalised, written, drawn upon.
 *
 *     picture p;
 *     if (!picture_read("cat.jpg", &p, &e)) ...
 *     real *x = pixels_squash(&p, 448, mean, std, &e);       // [3,448,448], what the network sees
 */
#ifndef IMAGE_H
#define IMAGE_H
#include "clip.h"
#include "sys/err.h"

typedef struct { size_t width, height; unsigned char *rgb; } picture;  /* rgb [height,width,3]; picture_free it */
typedef struct { size_t width, height; real *soft; } mask_image;      /* soft [height,width] in 0..1 */

/* PNG, JPEG and BMP (stb's other readers have a history of faults); truncated files are errors. Alpha is dropped, as
 * Pillow's convert("RGB") does. EXIF orientation is honoured. Claims over 100 megapixels are refused. */
bool picture_read(const char *path, picture *p, err *e);
bool picture_parse(const unsigned char *bytes, size_t length, const char *name, picture *p, err *e);
bool picture_new(size_t width, size_t height, picture *p, err *e); /* black */
void picture_free(picture *p);
/* The pixels as they are stored, EXIF orientation not honoured: the masks of datasets belong to these. */
bool picture_read_stored(const char *path, picture *p, err *e);
/* The EXIF orientation, 1 to 8; 1 where nothing is said. */
bool picture_orientation(const char *path, int *orientation, err *e);
/* The stored sides, from a look at the file's structure: it is whole, nothing is decoded. */
bool picture_sides(const char *path, size_t *width, size_t *height, err *e);
/* Samples as stb gives them: `channels` of one byte, or of two where `wide` (grey only). mem_free data. */
typedef struct {
    size_t width, height, channels;
    bool wide;
    unsigned char *data;
} raster;
bool raster_parse(const unsigned char *bytes, size_t length, const char *name, raster *r, err *e);
/* The same; stored false: EXIF orientation is honoured. */
bool raster_parse_as(const unsigned char *bytes, size_t length, const char *name, bool stored, raster *r, err *e);
bool picture_write_png(const char *path, const picture *p, err *e);
bool palette_write_png(const char *path, const unsigned char *index, size_t width, size_t height,
                       const unsigned char (*palette)[3], size_t colours, err *e);
bool mask_write_png(const char *path, const real *soft, size_t width, size_t height, err *e);
void mask_free(mask_image *m);

/* Pillow's resize(BICUBIC), byte for byte. */
bool picture_resize(const picture *p, size_t width, size_t height, picture *out, err *e);
/* [3,side,side] normalised; mem_free it. Squashed bicubically (MaskInversion), by the standard CLIP transform (shorter
 * side, centre crop), and as the model's own files have it (c->pixels, for `side` in place of the model's image). */
real *pixels_squash(const picture *p, size_t side, const real *mean, const real *std, err *e);
/* Pillow's resize(BILINEAR) to these sides, for codes that ask for it: [3,height,width]. */
real *pixels_bilinear(const picture *p, size_t width, size_t height, const real *mean, const real *std, err *e);
real *pixels_crop(const picture *p, size_t side, const real *mean, const real *std, err *e);
real *pixels_own(const picture *p, size_t side, const clip_config *c, err *e);
/* AlphaCLIP's region plane [side,side]: the mask stretched bilinearly, with antialiasing, then (mask - 0.5)/0.26 (MODEL.md
 * 1.15); mem_free it. */
real *pixels_alpha(const mask_image *mask, size_t side, err *e);
/* Bilinear, half-pixel centres, no antialiasing (torch's interpolate, align_corners false). out [oh,ow]. */
void map_resize(const real *in, size_t height, size_t width, real *out, size_t oh, size_t ow);

/* ---- drawing ---- */
/* Heat colours over the photograph, resized to fit it; opacity grows with heat. */
bool picture_heat(const picture *p, const real *map, size_t mh, size_t mw, picture *out, err *e);
/* Outlines where the mask crosses 1/2, in place; the mask is resized to the picture. */
void picture_outline(picture *p, const mask_image *m, const unsigned char colour[3]);
/* Text, antialiased, its line's top left corner at x, y: Latin with accents, Greek, Cyrillic (letters.c); a character that
 * the font lacks is a box. UTF-8, composed (NFC); bytes that are none are boxes too. */
typedef enum { TEXT_SMALL = 1, TEXT_PLAIN = 2 } text_size;
enum { TEXT_LINE_SMALL = 15, TEXT_LINE = 19 }; /* pixels from line to line */
void picture_text(picture *p, long x, long y, const char *text, text_size size, const unsigned char colour[3]);
size_t text_width(const char *text, text_size size);
/* The text as it fits into `width` pixels and `room` bytes: whole, or cut between characters and ended by an ellipsis. */
void text_cut(const char *text, text_size size, size_t width, char *out, size_t room);
/* Copies src into dst with its corner at x, y, clipped. */
void picture_paste(picture *dst, const picture *src, long x, long y);
void picture_fill(picture *p, long x, long y, size_t w, size_t h, const unsigned char colour[3]);
#endif
