/* maskembed.c - what a few blocks can tell of masked pictures from the student's tokens (see maskembed.h). */
#include "parts/maskembed.h"
#include <math.h>

void maskembed_weights(maskembed_net *n, part_list *l) {
    size_t D = n->width;
    double s = pow((double)D, -0.5);
    part_norm(l, n->norm, D, "head.ln");
    part_linear(l, n->head, D, D, false, 0, "head");
    part_add(l, &n->position, n->tokens, D, 0.02, 0, "decoder.position");
    for (size_t i = 0; i < n->blocks; i++) {
        maskembed_block *b = &n->block[i];
        part_norm(l, b->ln1, D, "decoder.blocks.%zu.ln_1", i);
        part_linear(l, b->qkv, 3 * D, D, false, s, "decoder.blocks.%zu.qkv", i);
        part_linear(l, b->out, D, D, false, s, "decoder.blocks.%zu.out", i);
        part_add(l, &b->scale1, 1, D, 0, 1e-6, "decoder.blocks.%zu.ls_1", i);
        part_norm(l, b->ln2, D, "decoder.blocks.%zu.ln_2", i);
        part_linear(l, b->fc, n->mlp, D, false, s, "decoder.blocks.%zu.fc", i);
        part_linear(l, b->proj, D, n->mlp, false, pow((double)n->mlp, -0.5), "decoder.blocks.%zu.proj", i);
        part_add(l, &b->scale2, 1, D, 0, 1e-6, "decoder.blocks.%zu.ls_2", i);
    }
    part_norm(l, n->last_norm, D, "decoder.ln");
    part_linear(l, n->last, D, D, false, s, "decoder.last");
}

/* Each picture's rows `each` times in a row. */
static ag_tensor *repeated(ag_tape *t, ag_tensor *x, size_t each) {
    if (!x) return NULL;
    size_t B = x->batch * each;
    uint32_t *at = arena_alloc(t->memory, B * x->rows, sizeof *at);
    if (!at) return fault_memory(&t->fault, "rows", t->memory, B * x->rows * sizeof *at), NULL;
    for (size_t i = 0; i < B * x->rows; i++) at[i] = (uint32_t)(i / x->rows / each * x->rows + i % x->rows);
    return ag_reshape(t, ag_rows(t, x, at, B * x->rows), B, x->rows, x->cols);
}

ag_tensor *maskembed_hide(ag_tape *t, ag_tensor *patches, const real *masks, size_t each) {
    ag_tensor *x = repeated(t, patches, each);
    return x ? ag_mul(t, x, ag_constant(t, masks, x->batch, x->rows, 1)) : NULL;
}

/* x += ls_1 attention(LN x); x += ls_2 MLP(LN x), every token seeing all */
static ag_tensor *block_run(ag_tape *t, const maskembed_net *n, const maskembed_block *b, ag_tensor *x) {
    size_t D = n->width;
    ag_tensor *qkv = part_use_linear(t, b->qkv, false, part_use_norm(t, b->ln1, x));
    ag_tensor *s = ag_scores(t, ag_columns(t, qkv, 0, D), ag_columns(t, qkv, D, D), n->heads, (real)(1 / sqrt((double)D / (double)n->heads)));
    ag_tensor *y = ag_mix(t, ag_softmax(t, s, false), NO_T, ag_columns(t, qkv, 2 * D, D), n->heads, 1);
    x = ag_add(t, x, ag_mul(t, part_use_linear(t, b->out, false, y), b->scale1));
    y = ag_act(t, part_use_linear(t, b->fc, false, part_use_norm(t, b->ln2, x)), n->act, 0);
    return ag_add(t, x, ag_mul(t, part_use_linear(t, b->proj, false, y), b->scale2));
}

/* (15.2)  y = [0; m] * W_h LN(student) + position, through the blocks */
ag_tensor *maskembed_reconstruct(ag_tape *t, const maskembed_net *n, ag_tensor *tokens, const real *masks, size_t each) {
    if (!tokens) return NULL;
    size_t B = tokens->batch * each;
    ag_tensor *seen = ag_new(t, B, n->tokens, 1);
    for (size_t i = 0; seen && i < B * n->tokens; i++)
        seen->data[i] = i % n->tokens ? masks[i / n->tokens * (n->tokens - 1) + i % n->tokens - 1] : 0;
    ag_tensor *y = repeated(t, part_use_linear(t, n->head, false, part_use_norm(t, n->norm, tokens)), each);
    y = seen && y ? ag_add(t, ag_mul(t, y, seen), n->position) : NULL;
    for (size_t i = 0; i < n->blocks; i++) y = block_run(t, n, &n->block[i], y);
    return part_use_linear(t, n->last, false, part_use_norm(t, n->last_norm, y));
}

ag_tensor *maskembed_loss(ag_tape *t, ag_tensor *reconstruction, ag_tensor *target, real weight) {
    ag_tensor *off = ag_sub(t, reconstruction, target);
    return ag_scale(t, ag_dot(t, off, off), weight, 0);
}
