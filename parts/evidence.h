/* evidence.h - evidence for classes instead of probabilities: Dirichlet losses and the fusion of two opinions (MODEL.md 16).
 *
 *     ag_tensor *alpha = evidence_alpha(&tape, logits);                       // softplus + 1
 *     ag_tensor *both = evidence_fuse(&tape, alpha1, alpha2);                 // Dempster's rule
 *     ag_tensor *loss = evidence_loss(&tape, both, labels, EVIDENCE_DIGAMMA, 0.1, 1.0 / batch);
 *
 * Sensoy et al. 2018 (losses), Han et al. 2021 (fusion), Amini et al. 2020 (regression).
 */
#ifndef EVIDENCE_H
#define EVIDENCE_H
#include "autograd.h"

typedef enum { EVIDENCE_SQUARES, EVIDENCE_LOG, EVIDENCE_DIGAMMA } evidence_kind;
/* All alpha [1,B,K]; labels [B]; the terms are [1,B,1], one a sample. */
ag_tensor *evidence_alpha(ag_tape *t, ag_tensor *logits);
ag_tensor *evidence_term(ag_tape *t, ag_tensor *alpha, const uint32_t *labels, evidence_kind kind); /* (16.2) to (16.4) */
ag_tensor *evidence_kl(ag_tape *t, ag_tensor *alpha, const uint32_t *labels);                       /* (16.5) */
ag_tensor *evidence_fuse(ag_tape *t, ag_tensor *alpha1, ag_tensor *alpha2);                         /* (16.6) */
ag_tensor *evidence_doubt(ag_tape *t, ag_tensor *alpha);                                            /* u = K/S */
/* Term + lambda KL, summed over the samples, times `weight`. */
ag_tensor *evidence_loss(ag_tape *t, ag_tensor *alpha, const uint32_t *labels, evidence_kind kind, real lambda, real weight);
/* (16.7) Normal inverse gamma: rows of raw [1,B,4] (gamma, nu, alpha, beta before softplus), targets [B]: nll + lambda reg, summed,
 * times `weight`. */
ag_tensor *evidence_regression(ag_tape *t, ag_tensor *raw, const real *targets, real lambda, real weight);
#endif
