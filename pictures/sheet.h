/* sheet.h - pictures to look at: a map as heat over the photograph, and the sheet of all regions.
 *
 *     overlay_write("out/cat.map.png", &photo, map, h, w, &mask, &e);
 *     sheet s;
 *     if (!sheet_open(&s, &photo, 3, false, true, "cats.jpg", &e)) ...      // rows for three regions, with texts
 *     sheet_region(&s, 0, "cat", &mask, before, after, h, w, (double[]){.73, .58}, &e); // mask, maps, their losses
 *     sheet_text(&s, 0, 0, "71.2% a cat", 0.712);                    // line 0 beside row 0, with its bar
 *     picture_write_png("out/regions.png", &s.page, &e);
 *     if (!sheet_open_grid(&s, &photo, 24, "cats.jpg", &e)) ...      // the photograph and 24 maps
 *     sheet_map(&s, 3, "surgery: dog", map, h, w, &e);
 *     sheet_free(&s);
 */
#ifndef SHEET_H
#define SHEET_H
#include "pictures/image.h"

/* Heat over the photograph (shrunk where its longer side is beyond OVERLAY_SIDE), the mask outlined; mask NULL: none.
 */
enum { OVERLAY_SIDE = 1024 };
bool overlay_write(const char *path, const picture *photo, const real *map, size_t mh, size_t mw,
                   const mask_image *mask, err *e);
/* The photograph, not larger than most x most; smaller ones are enlarged only when `enlarge` is set. */
bool picture_within(const picture *photo, size_t most, bool enlarge, picture *out, err *e);

typedef struct {
    picture page, photo, marked; /* marked: the photograph with every region outlined and numbered */
    size_t rows, columns, first; /* first: the number of row 0's region on this page, from 0 */
} sheet;
/* At most 1280 pixels wide: the photograph once, under it what the colours mean, a row of tiles for each region; smaller
 * tiles where the regions are many, so that a page is quickly made and still seen whole. */
bool sheet_open(sheet *s, const picture *photo, size_t rows, bool many, bool texts, const char *title, err *e);
/* loss: of the map before and of the map after; NULL: not said. */
bool sheet_region(sheet *s, size_t row, const char *name, const mask_image *mask, const real *before,
                  const real *after, size_t mh, size_t mw, const double *loss, err *e);
/* share 0..1 is the length of the bar under the line. Lines that do not fit the row are left out. */
void sheet_text(sheet *s, size_t row, size_t line, const char *text, double share);
/* The photograph, then `maps` maps, five tiles a row, each under its name. map NULL: a blank tile. */
bool sheet_open_grid(sheet *s, const picture *photo, size_t maps, const char *title, err *e);
bool sheet_map(sheet *s, size_t i, const char *name, const real *map, size_t mh, size_t mw, err *e);
/* What made the page (command, version), small, along its lower edge. */
void sheet_foot(sheet *s, const char *text);
void sheet_free(sheet *s);

/* ---- classes --------------------------------------------------------------------------------- */
enum { CLASS_MOST = 256 };
/* Colours that differ, the same for the same number. */
void class_colour(size_t i, unsigned char rgb[3]);
/* index [photo.height, photo.width] over the photograph, and beside it each class's colour, name and share of the
 * pixels; of many classes (LEGEND_ALL) those that are there alone, largest first. background: class 0 is none, its pixels are
 * the photograph, paled. */
enum { LEGEND_ALL = 16 };
bool legend_write(const char *path, const picture *photo, const unsigned char *index, const char *const *names,
                  size_t count, bool background, const char *foot, err *e);
#endif
