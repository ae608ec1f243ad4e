/* x_plot.h - curves on two logarithmic axes, drawn with the program's own pictures.
 *
 *     plot_series s[] = {{"factored", points, count}};
 *     plot_draw(&sheet, &(plot_frame){0, 0, 480, 240, "seconds", "masks"}, s, 1);
 *
 * Measured points are full squares, extrapolated ones hollow; a point's bound is joined by a grey line.
 */
#ifndef X_PLOT_H
#define X_PLOT_H
#include "pictures/image.h"

typedef struct {
    double x, y, bound; /* all > 0; bound 0: none */
    bool guessed;
} plot_point;
typedef struct {
    const char *name;
    const plot_point *points;
    size_t count;
} plot_series;
typedef struct {
    long x, y, width, height; /* where, in pixels */
    const char *what, *over;  /* of y and of x */
} plot_frame;
void plot_draw(picture *p, const plot_frame *f, const plot_series *s, size_t count);
#endif
