/* factored.h - what the closed form keeps of a layer (factored.c); the Jacobian is made of it (jacobian.c). */
#ifndef FACTORED_H
#define FACTORED_H
#include "gradient.h"

typedef struct {      /* n tokens, D width, F mlp */
    real *act;        /* [n,F] act'(h)/sigma of LN2 */
    real *h;          /* [n,F] W1 (gamma . xhat) = h - b1 - W1 beta */
    bool joined;
    real *up;         /* [F,D] W1 diag(gamma) (I - 11^T/D), times W_o when joined */
    const real *out;  /* [D,D] W_o */
    const real *fc2;  /* [D,F] W2 */
    real *v;          /* [n,D] values */
    real *xo;         /* [n,D] xhat of LN2, times W_o */
} factored_layer;

/* Room for one layer (counted from the model's first), and what is put there once it has run. */
void explain_factored_take(explained *x, size_t layer, factored_layer *own, bool joined, fault *f);
void explain_factored_keep(explained *x, size_t layer, factored_layer *own, const clip_taps *taps, fault *f);
#endif
