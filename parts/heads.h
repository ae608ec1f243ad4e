/* heads.h - light heads on patch tokens, fed by experts' labels (CLIPTeX, arXiv 2310.14108, without published code; MODEL.md 19).
 *
 *     label_heads h = {.width = 128, .classes = 55};
 *     heads_weights(&h, &list);
 *     ag_tensor *loss = heads_loss(&tape, &h, normed, &labels, (real[]){1, .5, .25}, 1.0 / cells);
 */
#ifndef HEADS_H
#define HEADS_H
#include "parts/part.h"

typedef struct {
    size_t width, classes;
    ag_tensor *class_[2], *edge[2], *depth[2];
} label_heads;
void heads_weights(label_heads *h, part_list *l);

typedef struct {
    const real *share, *edge, *depth; /* [B,n,classes], [B,n], [B,n]: a cell's share of each class, of boundary; order back to front */
} cell_labels;
/* (19.1) on normed tokens [B,n,D]: cross entropy, binary cross entropy, distance of depths whose mean and spread are taken out;
 * each a mean over the cells of all pictures of `of` (of: pictures of the whole batch). parts: NULL, or receives the three. */
ag_tensor *heads_loss(ag_tape *t, const label_heads *h, ag_tensor *normed, const cell_labels *labels, const real weight[3], size_t of,
                      ag_tensor *parts[3]);
#endif
