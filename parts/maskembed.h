/* maskembed.h - Locality Alignment's decoder and loss (Covert et al. 2024; MODEL.md 15).
 *
 *     maskembed_net n = {.tokens = 145, .width = 128, .heads = 4, .mlp = 512, .blocks = 2};
 *     maskembed_weights(&n, &list);
 *     ag_tensor *y = maskembed_reconstruct(&tape, &n, student_tokens, masks, 3);       // [3B,n,D]
 *     ag_tensor *loss = maskembed_loss(&tape, y, targets, weight);
 */
#ifndef MASKEMBED_H
#define MASKEMBED_H
#include "kernels.h"
#include "parts/part.h"

enum { MASKEMBED_MOST_BLOCKS = 8 };
typedef struct {
    ag_tensor *ln1[2], *qkv[2], *out[2], *scale1, *ln2[2], *fc[2], *proj[2], *scale2;
} maskembed_block;
typedef struct {
    size_t tokens, width, heads, mlp, blocks; /* tokens: the class token's included */
    act_kind act;
    ag_tensor *norm[2], *head[2], *position, *last_norm[2], *last[2];
    maskembed_block block[MASKEMBED_MOST_BLOCKS];
} maskembed_net;

/* head.ln, head, decoder.position, decoder.blocks.i, decoder.ln, decoder.last. The head is zero at first, LayerScale 1e-6. */
void maskembed_weights(maskembed_net *n, part_list *l);
/* (15.2) What the decoder makes of the student's tokens [B,n,D] (after its last block) where masks [B*each, n-1] (1: seen) leave
 * them -> [B*each,n,D]. The class token is never seen. */
ag_tensor *maskembed_reconstruct(ag_tape *t, const maskembed_net *n, ag_tensor *tokens, const real *masks, size_t each);
/* (15.1) The teacher's pixels under a mask: patches [B,n-1,P] times masks [B*each,n-1] -> [B*each,n-1,P]. */
ag_tensor *maskembed_hide(ag_tape *t, ag_tensor *patches, const real *masks, size_t each);
/* (15.3) Squared error, summed, times `weight`. */
ag_tensor *maskembed_loss(ag_tape *t, ag_tensor *reconstruction, ag_tensor *target, real weight);
#endif
