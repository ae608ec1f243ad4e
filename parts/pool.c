/* pool.c - an attention pool in place of the mean (see pool.h). */
#include "parts/pool.h"
#include <math.h>

void pool_weights(attention_pool *p, part_list *l) {
    ag_tensor **const at[] = {&p->q, &p->k, &p->v, &p->c};
    for (size_t i = 0; i < 4; i++) {
        part_add(l, at[i], p->width, p->width, 0, 0, "pool.%c", "qkvc"[i]);
        if (i > 0 && !l->full) l->list[l->count - 1].identity = true;
    }
}

ag_tensor *pool_run(ag_tape *t, const attention_pool *p, ag_tensor *tokens) {
    if (!tokens) return NULL;
    ag_tensor *mean = ag_scale(t, ag_fit(t, tokens, tokens->batch, 1, tokens->cols), 1 / (real)tokens->rows, 0);
    ag_tensor *q = ag_linear(t, mean, p->q, NULL), *k = ag_linear(t, tokens, p->k, NULL), *v = ag_linear(t, tokens, p->v, NULL);
    ag_tensor *s = ag_scores(t, q, k, p->heads, (real)(1 / sqrt((double)p->width / (double)p->heads)));
    return ag_linear(t, ag_mix(t, ag_softmax(t, s, false), NO_T, v, p->heads, 1), p->c, NULL);
}

ag_tensor *pool_loss(ag_tape *t, ag_tensor *f, const real *texts, size_t K, const uint32_t *labels, real scale, real weight) {
    if (!f) return NULL;
    ag_tensor *logits = ag_scale(t, ag_matmul(t, f, NO_T, ag_constant(t, texts, 1, K, f->cols), T), scale, 0);
    return part_cross_entropy(t, logits, labels, UINT32_MAX, weight);
}

ag_tensor *pool_blend(ag_tape *t, ag_tensor *tuned, ag_tensor *original, real share) {
    return ag_normalize(t, ag_add(t, ag_scale(t, tuned, share, 0), ag_scale(t, original, 1 - share, 0)));
}
