/* generator.c - the network of a flow over coefficients, and a walk along it (see generator.h). */
#include "parts/generator.h"
#include <math.h>
#include <string.h>

void generator_weights(generator_net *n, part_list *l) {
    size_t W = n->width, Q = 2 * n->frequencies;
    double s = pow((double)W, -0.5);
    part_linear(l, n->in, W, n->coefficients, false, pow((double)n->coefficients, -0.5), "in");
    part_linear(l, n->time[0], W, Q, false, pow((double)Q, -0.5), "time.0");
    part_linear(l, n->time[1], W, W, false, s, "time.1");
    part_linear(l, n->condition, W, n->embed, false, pow((double)n->embed, -0.5), "condition");
    part_add(l, &n->null, 1, n->embed, 0.5, 0, "null");
    for (size_t i = 0; i < n->blocks; i++) {
        generator_block *b = &n->block[i];
        part_linear(l, b->first, W, W, false, s, "blocks.%zu.0", i);
        part_linear(l, b->second, W, W, false, s, "blocks.%zu.1", i);
        part_linear(l, b->ada, 3 * W, W, false, 0, "blocks.%zu.ada", i);
    }
    part_linear(l, n->out, n->coefficients, W, false, 0, "out");
}

/* cos and sin of 1000 t 10^(-4 i/F), i < F, for each time: [1,B,2F] */
static ag_tensor *clock_rows(ag_tape *t, size_t frequencies, const real *times, size_t count) {
    ag_tensor *x = ag_new(t, 1, count, 2 * frequencies);
    for (size_t i = 0; x && i < count * frequencies; i++) {
        size_t b = i / frequencies, k = i % frequencies;
        double a = 1000 * (double)times[b] * pow(10, -4 * (double)k / (double)frequencies);
        x->data[b * 2 * frequencies + k] = (real)cos(a);
        x->data[b * 2 * frequencies + frequencies + k] = (real)sin(a);
    }
    return x;
}

/* (h - mean)/deviation, without gains. */
static ag_tensor *plain_norm(ag_tape *t, ag_tensor *h) { return ag_layernorm(t, h, NULL, NULL, (real)1e-5); }

/* (13.2)  h += g * W_1 silu(W_0 (norm(h) (1 + s) + b)),  (b, s, g) = A c */
static ag_tensor *block_run(ag_tape *t, const generator_block *b, ag_tensor *h, ag_tensor *c) {
    size_t W = h ? h->cols : 0;
    ag_tensor *ada = part_use_linear(t, b->ada, false, c);
    ag_tensor *shift = ag_columns(t, ada, 0, W), *scale = ag_columns(t, ada, W, W), *gate = ag_columns(t, ada, 2 * W, W);
    ag_tensor *y = ag_add(t, ag_mul(t, plain_norm(t, h), ag_scale(t, scale, 1, 1)), shift);
    y = part_use_linear(t, b->second, false, ag_silu(t, part_use_linear(t, b->first, false, y)));
    return ag_add(t, h, ag_mul(t, gate, y));
}

ag_tensor *generator_end(ag_tape *t, const generator_net *n, ag_tensor *x, const real *times, ag_tensor *condition) {
    if (!x || !condition) return NULL;
    ag_tensor *c = part_use_linear(t, n->time[0], false, clock_rows(t, n->frequencies, times, x->rows));
    c = part_use_linear(t, n->time[1], false, ag_silu(t, c));
    c = ag_silu(t, ag_add(t, c, part_use_linear(t, n->condition, false, condition)));
    ag_tensor *h = part_use_linear(t, n->in, false, x);
    for (size_t i = 0; i < n->blocks; i++) h = block_run(t, &n->block[i], h, c);
    return part_use_linear(t, n->out, false, plain_norm(t, h));
}

/* (13.3)  x_t = (1-t) x_0 + t x_1;  |(end - x_1)/max(1-t, .05)|^2 */
ag_tensor *generator_loss(ag_tape *t, const generator_net *n, ag_tensor *x1, ag_tensor *x0, const real *times, ag_tensor *condition,
                          const real *dropped, real weight) {
    size_t B = x1 ? x1->rows : 0;
    ag_tensor *late = ag_new(t, 1, B, 1), *early = ag_new(t, 1, B, 1), *with = ag_new(t, 1, B, 1), *without = ag_new(t, 1, B, 1);
    ag_tensor *rate = ag_new(t, 1, B, 1);
    if (!x1 || !x0 || !condition || !late || !early || !with || !without || !rate) return NULL;
    for (size_t b = 0; b < B; b++) {
        late->data[b] = times[b], early->data[b] = 1 - times[b];
        without->data[b] = dropped[b], with->data[b] = 1 - dropped[b];
        rate->data[b] = 1 / (1 - times[b] > (real)0.05 ? 1 - times[b] : (real)0.05);
    }
    ag_tensor *null = ag_mul(t, ag_fit(t, n->null, 1, B, n->embed), without);
    ag_tensor *x = ag_add(t, ag_mul(t, x0, early), ag_mul(t, x1, late));
    ag_tensor *end = generator_end(t, n, x, times, ag_add(t, ag_mul(t, condition, with), null));
    ag_tensor *off = ag_mul(t, ag_sub(t, end, x1), rate);
    return ag_scale(t, ag_dot(t, off, off), weight, 0);
}

/* (13.4)  end = end_null + w (end_condition - end_null);  x += (end - x) / max(1 - t, .02) / steps */
ag_tensor *generator_sample(ag_tape *t, const generator_net *n, ag_tensor *x0, ag_tensor *condition, const generator_way *how) {
    if (!x0 || !condition) return NULL;
    size_t B = x0->rows;
    ag_tensor *x = ag_new(t, 1, B, x0->cols);
    real *times = arena_alloc(t->memory, B, sizeof *times);
    if (!x || !times) return NULL;
    memcpy(x->data, x0->data, ag_size(x0) * sizeof(real));
    ag_mark mark = ag_tape_mark(t);
    for (size_t i = 0; i < how->steps; i++, ag_tape_reset(t, mark)) {
        double at = (double)i / (double)how->steps, rate = 1 / fmax(1 - at, 0.02) / (double)how->steps;
        for (size_t b = 0; b < B; b++) times[b] = (real)at;
        ag_tensor *with = generator_end(t, n, x, times, condition);
        ag_tensor *without = generator_end(t, n, x, times, ag_fit(t, n->null, 1, B, n->embed));
        if (!with || !without) return NULL;
        for (size_t k = 0; k < ag_size(x); k++) {
            double end = (double)without->data[k] + how->guidance * ((double)with->data[k] - (double)without->data[k]);
            x->data[k] += (real)((end - (double)x->data[k]) * rate);
        }
    }
    return x;
}
