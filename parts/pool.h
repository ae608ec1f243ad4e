/* pool.h - an attention pool that begins as the mean, and few-shot tuning of it (SAFE's idea on a mean-pooled ViT; MODEL.md 17).
 *
 *     attention_pool p = {.width = 128, .heads = 4};
 *     pool_weights(&p, &list);
 *     ag_tensor *x = pool_run(&tape, &p, tokens);                              // [B,n,D] -> [B,1,D]
 *     ag_tensor *loss = pool_loss(&tape, f, texts, K, labels, scale, 1.0 / batch);     // f unit [B,1,E]
 */
#ifndef POOL_H
#define POOL_H
#include "parts/part.h"

typedef struct {
    size_t width, heads;
    ag_tensor *q, *k, *v, *c; /* [D,D] each: W_q = 0, the others the identity: the mean */
} attention_pool;
void pool_weights(attention_pool *p, part_list *l);
/* (17.1)  W_c concat_h(softmax(q_h k_h^T/sqrt d) v_h), q = W_q mean(x) */
ag_tensor *pool_run(ag_tape *t, const attention_pool *p, ag_tensor *tokens);
/* (17.2)  Cross entropy of exp(tau) f T^T over K texts [K,E] unit, summed, times weight; f [B,1,E] unit. */
ag_tensor *pool_loss(ag_tape *t, ag_tensor *f, const real *texts, size_t K, const uint32_t *labels, real scale, real weight);
/* (17.3)  unit(a tuned + (1-a) original) */
ag_tensor *pool_blend(ag_tape *t, ag_tensor *tuned, ag_tensor *original, real share);
#endif
