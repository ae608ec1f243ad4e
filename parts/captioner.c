/* captioner.c - from an embedding to the rows that a decoder continues (see captioner.h). */
#include "parts/captioner.h"
#include <math.h>
#include <string.h>

/* ---- the two maps ------------------------------------------------------------------------------------------ */
static void perceptron_weights(captioner_net *n, part_list *l) {
    size_t D = n->d.shape.width, kD = n->prefix * D, E = n->embed;
    for (size_t i = 0; i < 2; i++) {
        size_t out = i ? kD : kD / 2, in = i ? kD / 2 : E;
        part_linear(l, n->map[i], out, in, false, pow((double)in, -0.5), "%s%zu", n->d.shape.gpt2 ? "model." : "map.",
                    n->d.shape.gpt2 ? 2 * i : i);
    }
}

static void transformer_weights(captioner_net *n, part_list *l) {
    size_t D = n->d.shape.width;
    double s = pow((double)D, -0.5);
    part_linear(l, n->linear, n->tokens * D, n->embed, false, pow((double)n->embed, -0.5), "linear");
    part_add(l, &n->constant, n->prefix, D, 1, 0, "prefix_const");
    for (size_t i = 0; i < n->layers; i++) {
        map_block *b = &n->block[i];
        part_norm(l, b->norm1, D, "transformer.layers.%zu.norm1", i);
        part_add(l, &b->queries, D, D, s, 0, "transformer.layers.%zu.attn.to_queries.weight", i);
        part_add(l, &b->keys_values, 2 * D, D, s, 0, "transformer.layers.%zu.attn.to_keys_values.weight", i);
        part_linear(l, b->project, D, D, false, s, "transformer.layers.%zu.attn.project", i);
        part_norm(l, b->norm2, D, "transformer.layers.%zu.norm2", i);
        part_linear(l, b->fc1, 2 * D, D, false, s, "transformer.layers.%zu.mlp.fc1", i);
        part_linear(l, b->fc2, D, 2 * D, false, s, "transformer.layers.%zu.mlp.fc2", i);
    }
}

void captioner_map_weights(captioner_net *n, part_list *l) {
    if (n->transformer) transformer_weights(n, l);
    else perceptron_weights(n, l);
}

void captioner_weights(captioner_net *n, part_list *l) {
    captioner_map_weights(n, l);
    decoder_weights(&n->d, l);
}

/* x += W_p attention(LN x); x += W_2 relu(W_1 LN x): 8 heads, keys and values from one matrix, no bias on them, no mask */
static ag_tensor *map_layer(ag_tape *t, const map_block *b, ag_tensor *x) {
    enum { HEADS = 8 };
    size_t D = x ? x->cols : 0;
    ag_tensor *y = part_use_norm(t, b->norm1, x);
    ag_tensor *q = ag_linear(t, y, b->queries, NULL), *kv = ag_linear(t, y, b->keys_values, NULL);
    ag_tensor *s = ag_scores(t, q, ag_columns(t, kv, 0, D), HEADS, (real)(1 / sqrt((double)D / (double)HEADS)));
    y = ag_mix(t, ag_softmax(t, s, false), NO_T, ag_columns(t, kv, D, D), HEADS, 1);
    x = ag_add(t, x, part_use_linear(t, b->project, false, y));
    y = ag_relu(t, part_use_linear(t, b->fc1, false, part_use_norm(t, b->norm2, x)));
    return ag_add(t, x, part_use_linear(t, b->fc2, false, y));
}

/* (12.1)  W_2 tanh(W_1 z + b_1) + b_2 as k rows; or c rows of z with k learned ones behind, of which the last k come out */
ag_tensor *captioner_prefix(ag_tape *t, const captioner_net *n, ag_tensor *z) {
    size_t D = n->d.shape.width;
    if (!z) return NULL;
    if (!n->transformer) {
        ag_tensor *h = ag_tanh(t, part_use_linear(t, n->map[0], false, z));
        return ag_reshape(t, part_use_linear(t, n->map[1], false, h), z->batch, n->prefix, D);
    }
    ag_tensor *x = ag_reshape(t, part_use_linear(t, n->linear, false, z), z->batch, n->tokens, D);
    x = ag_join(t, x, ag_fit(t, n->constant, z->batch, n->prefix, D));
    for (size_t i = 0; i < n->layers; i++) x = map_layer(t, &n->block[i], x);
    return ag_some_rows(t, x, n->tokens, n->prefix);
}

/* ---- what is learned ------------------------------------------------------------------------------------------ */
ag_tensor *captioner_logits(ag_tape *t, const captioner_net *n, ag_tensor *prefix, const uint32_t *ids, size_t length) {
    if (!prefix) return NULL;
    size_t B = prefix->batch, n_said = length - 1;
    ag_tensor *x = prefix;
    if (n_said > 0) {
        uint32_t *said = arena_alloc(t->memory, B * n_said, sizeof *said);
        if (!said) return fault_memory(&t->fault, "words", t->memory, B * n_said * sizeof *said), NULL;
        for (size_t b = 0; b < B; b++) memcpy(said + b * n_said, ids + b * length, n_said * sizeof *said);
        x = ag_join(t, prefix, decoder_tokens(t, &n->d, said, B, n_said));
    }
    return decoder_logits(t, &n->d, ag_some_rows(t, decoder_run(t, &n->d, x), n->prefix - 1, length));
}

ag_tensor *captioner_loss(ag_tape *t, ag_tensor *logits, const uint32_t *ids, uint32_t ignored, real weight) {
    return part_cross_entropy(t, logits, ids, ignored, weight);
}
