/* cutouts.h - things cut out of scenes: small square pictures on grey, and the linear space that such pictures span.
 *
 *     cutouts c;
 *     if (!cutouts_room(&c, 16000, &e)) ...
 *     cutout_take(&c, i, &scene, 0);                 // object 0 of a scene, into row i; any core
 *     if (!cutouts_make(&c, source, seed, 16000, 96, cores, &e)) ...      // or: single objects of that many scenes
 *     if (!cutout_space_fit(&s, &c, NULL, 6000, 192, 5, cores, &e)) ...
 *     cutouts_free(&c);
 */
#ifndef CUTOUTS_H
#define CUTOUTS_H
#include "parts/linear_space.h"
#include "scenes/scenes.h"

enum { CUTOUT_SIDE = 32, CUTOUT_NUMBERS = CUTOUT_SIDE * CUTOUT_SIDE * 3, CUTOUT_GREY = 128 };
typedef struct {
    size_t count;
    unsigned char *pixels; /* [count, side, side, 3] */
    scene_object *object;  /* [count], without their masks */
} cutouts;

bool cutouts_room(cutouts *c, size_t count, err *e);
void cutouts_free(cutouts *c);
/* Object k of the scene alone on grey: its box, 1.08 times as large, as a square. */
void cutout_pixels(const scene *sc, size_t k, unsigned char out[CUTOUT_NUMBERS]);
void cutout_take(cutouts *c, size_t i, const scene *sc, size_t k);
/* The object of `count` scenes that have one, drawn at `side`. */
bool cutouts_make(cutouts *c, const scene_source *source, uint64_t seed, size_t count, size_t side, pool *cores, err *e);
/* uint8 pixels to -1..1. */
void cutout_numbers(const unsigned char *pixels, real *out);

/* The K directions in which the first n pictures differ most (rows allowed[n]; NULL: the first n); coefficients are divided by
 * `scale` (13.1). */
typedef struct {
    size_t count;               /* K */
    real *basis, *mean, *scale; /* [N,K], [N], [K] */
    linear_space as;            /* the same as tensors, for a part's list */
    ag_tensor tensor[3];
} cutout_space;
bool cutout_space_fit(cutout_space *s, const cutouts *c, const uint32_t *allowed, size_t n, size_t K, uint64_t seed, pool *cores, err *e);
void cutout_space_free(cutout_space *s);
/* Coefficients of all the pictures [count,K]; mem_free them. NULL: no memory. */
real *cutout_space_into(const cutout_space *s, const cutouts *c, err *e);
/* Its rows of a part's list, for writing. s must not move until then. */
void cutout_space_list(cutout_space *s, part_list *l);

/* Words, sorted by bytes. */
typedef struct {
    const char **word;
    size_t count;
} word_list;
bool words_names(const scene_source *source, word_list *out, err *e);
bool words_colours(word_list *out, err *e);
size_t word_find(const word_list *w, const char *word); /* SIZE_MAX: not there */
void words_free(word_list *w);
/* As a part's file keeps them, a line each; mem_free it. NULL: no memory. */
char *words_lines(const word_list *w, size_t *bytes, err *e);
#endif
