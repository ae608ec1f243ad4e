/* expert.h - an expert with errors: what CLIP Surgery's maps say that the cells of a scene show (MODEL.md 19.2, 19.3).
 *
 *     expert x = {model, &names, texts};                            // texts [names,E] unit, one a name
 *     if (!expert_cells(&x, &scene, share, edge, &memory, &e)) ...  // as cells_of (looked.h) has them, but guessed
 *
 * The scene's own names alone are looked for, as its caption tells them; where they lie, nobody says.
 */
#ifndef EXPERT_H
#define EXPERT_H
#include "clip.h"
#include "training/cutouts.h"

typedef struct {
    const clip_model *model;
    const word_list *names;
    const real *texts;
} expert;
/* share [cells,names+1] 1 for the cell's one class, else 0; edge [cells] 1 or 0. The arena is scratch. */
bool expert_cells(const expert *x, const scene *sc, real *share, real *edge, arena *memory, err *e);
#endif
