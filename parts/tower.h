/* tower.h - a CLIP's image side as a part that is trained: its weights as rows of a list, beginning with the model's numbers.
 *
 *     tower w;                                                 // in a system's net, zeroed
 *     tower_weights(&w, model, true, 0.1, &list);              // with AlphaCLIP's plane; a tenth of the learning rate
 *     ag_tensor *z = clip_image(&tape, &w.model, patches, gh, gw);
 *
 * The text side stays the model's own. The tower must not move once it is listed.
 */
#ifndef TOWER_H
#define TOWER_H
#include "clip.h"
#include "parts/part.h"

enum { TOWER_MOST_LAYERS = 32 };
typedef struct {
    clip_model model;
    clip_block_weights blocks[TOWER_MOST_LAYERS];
} tower;

/* alpha: a region's plane beside the pixels (1.15), of zeros, at the full rate. Vision transformers without a pooler, of at most
 * TOWER_MOST_LAYERS blocks. */
void tower_weights(tower *w, const clip_model *from, bool alpha, double rate, part_list *l);
bool tower_fits(const clip_config *c);
/* Tokens after the last block, before LN_post: patches [B,gh*gw,..] -> [B,first+gh*gw,D]. */
ag_tensor *tower_tokens(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw);
#endif
