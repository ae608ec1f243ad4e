/* polygon.h - polygons filled as COCO's code and as PhraseCut's do it.
 *
 *     unsigned char cover[h * w] = {0};
 *     if (!polygon_coco(xy, 12, h, w, room, cover, &e)) ...     // adds 1 inside; room [h * w + 1] is scratch
 *     if (!polygon_pillow(xy, 12, h, w, crossings, mask, &e)) ... // sets 1 inside; crossings [2 * points] is scratch
 */
#ifndef POLYGON_H
#define POLYGON_H
#include "sys/err.h"

/* One part, xy [2 * count] = x0, y0, x1, y1, ...: the outline on a grid five times finer, a toggle for each column of
 * pixels that it crosses, odd parity down the columns inside. cover [height, width] counts up to 255. Equal to COCO's
 * maskApi in every pixel. */
bool polygon_coco(const double *xy, size_t count, size_t height, size_t width, unsigned char *room,
                  unsigned char *cover, err *e);
/* Corners cut to whole numbers, rows filled as Pillow 9.4 fills them, both ends included. */
bool polygon_pillow(const double *xy, size_t count, size_t height, size_t width, float *crossings, unsigned char *mask,
                    err *e);
#endif
