/* backdrop.h - what lies behind the objects: gradients, clouds of noise, stripes, horizons, and small clutter.
 *
 *     rng r = rng_start(seed, index);
 *     backdrop_paint(&c, &r, stamps_or_NULL, room);        // room: tile_room(side) floats
 */
#ifndef BACKDROP_H
#define BACKDROP_H
#include "scenes/paint.h"
#include "scenes/stamps.h"

void backdrop_paint(canvas *c, rng *r, const stamp_book *book, float *room);
#endif
