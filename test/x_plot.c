/* x_plot.c - see x_plot.h. */
#include "x_plot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LEFT = 56, RIGHT = 14, TOP = 26, BOTTOM = 40, MOST = 4 };
static const unsigned char ink[3] = {60, 60, 60}, pale[3] = {228, 228, 228}, grey[3] = {150, 150, 150}, white[3] = {255, 255, 255};
static const unsigned char colours[MOST][3] = {{200, 60, 40}, {40, 90, 200}, {30, 140, 60}, {225, 140, 20}};

typedef struct { double low, high; } span;
typedef struct {
    picture *p;
    const plot_frame *f;
    span x, y;
} plot;

static void widen(span *s, double v) {
    if (!(v > 0)) return;
    s->low = fmin(s->low, v), s->high = fmax(s->high, v);
}

static double share(const span *s, double v) { return log(v / s->low) / log(s->high / s->low); }
static long at_x(const plot *c, double v) { return c->f->x + LEFT + lround(share(&c->x, v) * (double)(c->f->width - LEFT - RIGHT)); }
static long at_y(const plot *c, double v) {
    return c->f->y + c->f->height - BOTTOM - lround(share(&c->y, v) * (double)(c->f->height - TOP - BOTTOM));
}

static void line(const plot *c, const plot_point *a, const plot_point *b, bool bound, const unsigned char colour[3]) {
    long x0 = at_x(c, a->x), x1 = at_x(c, b->x), y0 = at_y(c, bound ? a->bound : a->y), y1 = at_y(c, bound ? b->bound : b->y);
    long steps = labs(x1 - x0) > labs(y1 - y0) ? labs(x1 - x0) : labs(y1 - y0);
    for (long i = 0; i <= steps; i++) {
        double along = steps ? (double)i / (double)steps : 0;
        picture_fill(c->p, x0 + lround(along * (double)(x1 - x0)), y0 + lround(along * (double)(y1 - y0)), 1, bound ? 1 : 2, colour);
    }
}

/* Lines at 1, 2, 5 of each decade, every one named where there is room. */
static void grid(const plot *c, const span *s, bool upright) {
    static const double at[] = {1, 2, 5};
    bool wide = log10(s->high / s->low) > 2.2;
    for (int decade = (int)floor(log10(s->low)); decade <= (int)ceil(log10(s->high)); decade++)
        for (int i = 0; i < 3; i++) {
            double v = at[i] * pow(10, decade);
            char text[24];
            if (v < s->low * 0.999 || v > s->high * 1.001 || (wide && i)) continue;
            snprintf(text, sizeof text, "%g", v);
            long w = (long)text_width(text, TEXT_SMALL);
            if (upright) {
                picture_fill(c->p, at_x(c, v), c->f->y + TOP, 1, (size_t)(c->f->height - TOP - BOTTOM), pale);
                picture_text(c->p, at_x(c, v) - w / 2, c->f->y + c->f->height - BOTTOM + 4, text, TEXT_SMALL, ink);
            } else {
                picture_fill(c->p, c->f->x + LEFT, at_y(c, v), (size_t)(c->f->width - LEFT - RIGHT), 1, pale);
                picture_text(c->p, c->f->x + LEFT - 6 - w, at_y(c, v) - 7, text, TEXT_SMALL, ink);
            }
        }
}

static void series(const plot *c, const plot_series *s, const unsigned char colour[3]) {
    for (size_t i = 1; i < s->count; i++)
        if (s->points[i].bound > 0 && s->points[i - 1].bound > 0) line(c, &s->points[i - 1], &s->points[i], true, grey);
    for (size_t i = 1; i < s->count; i++) line(c, &s->points[i - 1], &s->points[i], false, colour);
    for (size_t i = 0; i < s->count; i++) {
        long x = at_x(c, s->points[i].x), y = at_y(c, s->points[i].y);
        picture_fill(c->p, x - 3, y - 3, 7, 7, colour);
        if (s->points[i].guessed) picture_fill(c->p, x - 2, y - 2, 5, 5, white);
    }
}

void plot_draw(picture *p, const plot_frame *f, const plot_series *s, size_t count) {
    plot c = {p, f, {INFINITY, 0}, {INFINITY, 0}};
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < s[k].count; i++) {
            widen(&c.x, s[k].points[i].x), widen(&c.y, s[k].points[i].y), widen(&c.y, s[k].points[i].bound);
        }
    c.y.low *= 0.8, c.y.high *= 1.25, c.x.low *= 0.95, c.x.high *= 1.05;
    grid(&c, &c.x, true), grid(&c, &c.y, false);
    picture_text(p, f->x + 8, f->y + 6, f->what, TEXT_SMALL, ink);
    picture_text(p, f->x + f->width - RIGHT - (long)text_width(f->over, TEXT_SMALL), f->y + f->height - 20, f->over, TEXT_SMALL, ink);
    long at = f->x + f->width - RIGHT;
    for (size_t k = count; k-- > 0 && count > 1;) {
        at -= (long)text_width(s[k].name, TEXT_SMALL);
        picture_text(p, at, f->y + 6, s[k].name, TEXT_SMALL, colours[k % MOST]);
        at -= 16;
    }
    for (size_t k = 0; k < count; k++) series(&c, &s[k], colours[k % MOST]);
}
