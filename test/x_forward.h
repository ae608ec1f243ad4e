/* x_forward.h - forward passes of the image side by every way there is, in turns: ours by both products and from weights of
 * 16 and of 32 bits, and a peer's (x_peer.h).
 *
 *     forward_job job = {.m = &model, .cores = cores, .side = 224, .batch = 1, .runs = 5, .base = "build/bench/ViT-B-16"};
 *     forward_times t;
 *     forward_measure(&job, &t);
 *     printf("%s: %.3f s\n", forward_name(&t, FORWARD_OWN_16), t.way[FORWARD_OWN_16].best);
 */
#ifndef X_FORWARD_H
#define X_FORWARD_H
#include "x_peer.h"

enum { FORWARD_PEER, FORWARD_BLAS_16, FORWARD_OWN_16, FORWARD_BLAS_32, FORWARD_OWN_32, FORWARD_WAYS };
typedef struct {
    const clip_model *m; /* weights as stored */
    clip_model *wide;    /* the same in float32 (forward_widen); NULL: those ways are left out */
    pool *cores;
    size_t side, batch;
    int runs;
    const char *base; /* of the peer's files; NULL: no peer */
    size_t rows, width; /* of the products that sgemm's rate is measured by: rows x 4 width x width */
} forward_job;
typedef struct {
    bool ran;
    double best, times_peer; /* seconds; the median, over the rounds, of its seconds over the peer's of the same round */
    double apart;            /* how far its embeddings are from those of our first way, over their length */
} forward_way;
typedef struct {
    forward_way way[FORWARD_WAYS];
    char peer[64], why[256]; /* its name; or why there is none */
    double sgemm, peak;      /* FLOP/s, the best of the rounds */
    size_t memory;           /* bytes of the arena */
} forward_times;
bool forward_measure(const forward_job *job, forward_times *t, err *e);
const char *forward_name(const forward_times *t, int way);

/* A copy of the image side with float32 weights; forward_narrow frees it. */
bool forward_widen(const clip_model *m, clip_model *wide);
void forward_narrow(clip_model *wide);
#endif
