/* taped.c - LeGrad's gradient by its definition, (4.1)-(4.3) (see gradient.h): G = ds/dA for s = e.z/|z|, on the tape, of
 * which it stays a part, so that the tape differentiates the map again. Nothing is derived by hand. */
#include "gradient.h"
#include <string.h>

/* ---- what is kept: the record of each layer ------------------------------------------------------------------------ */
typedef struct { ag_tensor *A, *z; } kept; /* [H,rows,n] a leaf; z as s takes it [1,1,E], computed from it */

static void take(explained *x, fault *f) { explain_own(x, sizeof(kept), f); }

static void keep(explained *x, explain_layer *l, const clip_taps *taps, ag_tensor *z, fault *f) {
    (void)x, (void)f;
    *(kept *)l->own = (kept){taps->A, z};
}

/* ---- e -> G -> R, as nodes ------------------------------------------------------------------------------------------- */
/* (4.2), (4.3)  of one layer: [1,cells,1] */
static ag_tensor *layer_grid(explained *x, const explain_layer *l, ag_tensor *e_unit) {
    ag_tape *t = &x->tape;
    kept *own = l->own;
    ag_tensor *s = ag_dot(t, e_unit, own->z);
    if (!ag_grad(t, s, NULL, &own->A, 1, AG_DIFFERENTIABLE)) return NULL;
    ag_tensor *sums = ag_fit(t, ag_relu(t, own->A->grad), 1, 1, x->n); /* over heads and rows */
    ag_tensor *r = ag_scale(t, sums, 1 / (real)(x->tower->heads * x->rows), 0);
    return ag_some_rows(t, ag_reshape(t, r, 1, x->n, 1), x->first, explain_columns(x)); /* drops the class token */
}

static ag_tensor *record(explained *x, ag_tensor *e_unit) {
    ag_tape *t = &x->tape;
    size_t cells = explain_columns(x);
    ag_tensor *grid = NULL;
    for (size_t i = 0; i < x->options.layers; i++) {
        const explain_layer *l = &x->layers[i];
        if (explain_agrees(x, l, e_unit->data)) continue;
        ag_tensor *r = layer_grid(x, l, e_unit);
        if (!r) return NULL;
        grid = grid ? ag_add(t, grid, r) : r;
    }
    if (!grid && (grid = ag_new(t, 1, 1, cells))) memset(grid->data, 0, cells * sizeof(real));
    return ag_reshape(t, grid, 1, x->gh, x->gw);
}

const struct explain_gradient explain_taped = {
    .name = "autograd", .records = true, .take = take, .keep = keep, .record = record};
