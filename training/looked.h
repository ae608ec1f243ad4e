/* looked.h - scenes that a model has looked at once: tokens after its last block, embedding, and what each cell shows.
 *
 *     looked_plan plan = {.model = model, .source = drawn, .names = &names, .seed = 5, .count = 1200, .least = 3, .most = 3};
 *     looked l;
 *     if (!looked_make(&l, &plan, cores, &e)) ...       // l.tokens [count,n,D], l.z [count,E], l.share [count,cells,names+1] ...
 *     looked_free(&l);
 *
 * The renderer is the expert that others ask a network for: its masks, edges and order are exact.
 */
#ifndef LOOKED_H
#define LOOKED_H
#include "parts/tower.h"
#include "training/cutouts.h"
#include "training/stored.h"

typedef struct {
    const clip_model *model;
    const scene_source *source;
    const word_list *names; /* NULL: nobody asks for cells; share, edge and depth stay NULL */
    uint64_t seed;
    size_t count, least, most;
    const uint32_t *only; /* [count] the scenes' numbers; NULL: 0, 1, 2 ... */
} looked_plan;

typedef struct {
    size_t count, cells, tokens_each, width, embed, classes; /* classes: names and, last, the background */
    real *tokens;              /* [count, tokens_each, D] after the last block, LN_post not yet */
    real *z;                   /* [count, E] unit */
    real *share, *edge, *depth; /* [count, cells, classes], [count, cells], [count, cells] */
    stored_scene *told;        /* [count] */
} looked;

bool looked_make(looked *l, const looked_plan *plan, pool *cores, err *e);
void looked_free(looked *l);
/* What the cells of a scene show: share of each class, share of boundary pixels, order back to front (background 0, mean). */
void cells_of(const scene *sc, const word_list *names, size_t grid, real *share, real *edge, real *depth);
/* The class that a cell shows most of. */
size_t most_of(const real *share, size_t classes);
#endif
