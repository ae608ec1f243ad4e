/* methods_rows.h - what the rows of the table of methods share (methods.c, methods_dense.c): one block, ready for an attention
 * of its own. Private to them. */
#ifndef METHODS_ROWS_H
#define METHODS_ROWS_H
#include "methods.h"

struct head_inputs {
    ag_tape *t;
    const clip_tower *tower;
    const clip_block_weights *w;
    ag_tensor *x;       /* [1,n,D] */
    ag_tensor *q, *k, *v;
    size_t gh, gw;
    real factor;        /* 1/sqrt(d) */
};
/* Block w of the model with q, k, v of its input x. */
head_inputs method_inputs(explainer *x, const clip_block_weights *w, ag_tensor *in);
ag_tensor *method_self_attention(const head_inputs *in, ag_tensor *a); /* softmax(a a^T / sqrt d) [H,n,n] */
ag_tensor *method_neighbourhood(const head_inputs *in);                /* NACLIP's omega [1,n,n] */
/* Unit tokens [1,n,E] (x->tokens) against unit texts: grids [count,gh,gw]. */
bool method_cosine_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids);

/* methods_dense.c: sums of three attentions; SC-CLIP; ResCLIP. */
ag_tensor *method_attend_qkv(const head_inputs *in);
bool method_open_scclip(explainer *x, ag_tensor *patches, const real *pixels);
bool method_open_resclip(explainer *x, ag_tensor *patches, const real *pixels);
bool method_resclip_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids);
#endif
