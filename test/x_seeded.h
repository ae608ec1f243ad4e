/* x_seeded.h - a CLIP of any shape with seeded random weights, for tests and measurements.
 *
 *     seeded_model s;
 *     if (!seeded_make(&s, seeded_config(64, 16, 64, 3, 4, 48), CLIP_F16, 7)) ...
 *     clip_model *m = &s.model;
 *     seeded_free(&s);
 *
 * Image side and text side alike; well scaled, as trained ones are (activations of order 1).
 */
#ifndef X_SEEDED_H
#define X_SEEDED_H
#include "clip.h"

typedef struct {
    clip_model model;
    unsigned char *room; /* every weight */
    size_t size, used;
    clip_type type;
    uint64_t state;
} seeded_model;

/* Image side given; F = 4 width; a small text side. */
clip_config seeded_config(size_t image, size_t patch, size_t width, size_t layers, size_t heads, size_t embed);
bool seeded_make(seeded_model *s, clip_config config, clip_type type, uint64_t seed);
void seeded_free(seeded_model *s);
/* Normal numbers, mean 0, deviation 1; state is any number and moves on. */
void seeded_normal(uint64_t *state, real *out, size_t count);
#endif
