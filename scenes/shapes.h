/* shapes.h - the drawn things: what they are made of, and how they are painted.
 *
 *     shape_look look = {.colour = rgb_of_blue, .second = ..., .texture = TEXTURE_STRIPED, .outline = ..., ...};
 *     shape_pose pose = {thing, scale, cx, cy, degrees, stretch, flip};
 *     shape_bounds(&pose, box);                  // in pixels, before anything is painted
 *     tile t = tile_cut(room, side, box[0], box[1], box[2], box[3]);
 *     shape_paint(&pose, &look, &t);
 *
 * A thing is a list of parts in hundredths of a unit square, x to the right, y down. Coverage comes from the distance to
 * each part's edge: clamp(1/2 - distance), one pixel wide.
 */
#ifndef SHAPES_H
#define SHAPES_H
#include "scenes/paint.h"

typedef enum { TEXTURE_PLAIN, TEXTURE_STRIPED, TEXTURE_DOTTED, TEXTURE_CHECKED, TEXTURE_COUNT } shape_texture;

typedef struct {
    size_t thing;  /* below shape_count(), or a mark: shape_count() + below mark_count() */
    float scale;   /* pixels a unit */
    float cx, cy;  /* where the thing's origin lies, in pixels */
    float degrees; /* clockwise */
    float wide;    /* stretch of x; negative: flipped */
    float tall;    /* stretch of y */
} shape_pose;

typedef struct {
    rgb colour, second; /* main colour; the texture's other colour */
    shape_texture texture;
    float period, phase; /* of the texture, in units */
    float turn;          /* of the texture, degrees */
    float outline;       /* width in pixels, 0: none */
    rgb edge;            /* the outline's colour */
} shape_look;

size_t shape_count(void);
const char *shape_name(size_t thing);
/* Small strokes and specks for backgrounds; they have no names. */
size_t mark_count(void);
void shape_bounds(const shape_pose *pose, float box[4]);
void shape_paint(const shape_pose *pose, const shape_look *look, tile *t);
#endif
