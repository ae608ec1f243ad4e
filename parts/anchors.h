/* anchors.h - class embeddings as anchors that patches ask, attention among routed windows before it: LDVC as we read it
 * (arXiv 2403.08426 gives no code; what is ours is marked in MODEL.md 18).
 *
 *     anchors_net n = {.embed = 128, .width = 128, .heads = 4, .grid = 12, .window = 2, .top = 9};
 *     anchors_weights(&n, &list);
 *     ag_tensor *logits = anchors_logits(&tape, &n, tokens, image, texts, C);     // [B,C,n]
 *     ag_tensor *loss = anchors_focal(&tape, logits, masks, counted), *dice = anchors_dice(&tape, logits, masks, counted);
 */
#ifndef ANCHORS_H
#define ANCHORS_H
#include "parts/part.h"

typedef struct {
    size_t embed, width, heads, grid, window, top; /* windows of window x window cells; top 0: attention is not routed */
    ag_tensor *text[2], *visual[2], *own[4], *cross[4], *ln1[2], *ln2[2], *ln3[2], *fc[2], *proj[2], *scale, *bias;
} anchors_net;
void anchors_weights(anchors_net *n, part_list *l);
/* (18.2) tokens [B,n,E] (projected patches), image [B,1,E] unit, texts [C,E] unit -> logits [B,C,n]. */
ag_tensor *anchors_logits(ag_tape *t, const anchors_net *n, ag_tensor *tokens, ag_tensor *image, const real *texts, size_t C);
/* (18.3) focal (mean over counted cells) and dice (mean over classes); masks [B,C,n] 0 or 1, counted [B,C,n] 1: the cell carries loss
 * (NULL: all). Each is [1,1,1], a mean over this batch. */
ag_tensor *anchors_focal(ag_tape *t, ag_tensor *logits, const real *masks, const real *counted);
ag_tensor *anchors_dice(ag_tape *t, ag_tensor *logits, const real *masks, const real *counted);
#endif
