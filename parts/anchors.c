/* anchors.c - patches ask the class embeddings (see anchors.h). */
#include "parts/anchors.h"
#include <math.h>
#include <string.h>

void anchors_weights(anchors_net *n, part_list *l) {
    size_t D = n->width;
    double s = pow((double)D, -0.5);
    part_linear(l, n->text, D, 2 * n->embed, false, pow(2 * (double)n->embed, -0.5), "text");
    part_linear(l, n->visual, D, n->embed, false, pow((double)n->embed, -0.5), "visual");
    for (size_t i = 0; i < 4; i++) part_add(l, &n->own[i], D, D, s, 0, "self.%c", "qkvo"[i]);
    for (size_t i = 0; i < 4; i++) part_add(l, &n->cross[i], D, D, s, 0, "cross.%c", "qkvo"[i]);
    part_norm(l, n->ln1, D, "ln_1");
    part_norm(l, n->ln2, D, "ln_2");
    part_norm(l, n->ln3, D, "ln_3");
    part_linear(l, n->fc, 4 * D, D, false, s, "fc");
    part_linear(l, n->proj, D, 4 * D, false, s / 2, "proj");
    part_add(l, &n->scale, 1, 1, 0, 2, "scale");
    part_add(l, &n->bias, 1, 1, 0, -2, "bias");
}

/* ---- (18.1) routing: a window sees those whose mean key suits its mean query best ------------------------------- */
static size_t window_of(const anchors_net *n, size_t cell) {
    return cell / n->grid / n->window * (n->grid / n->window) + cell % n->grid / n->window;
}

static void window_means(const anchors_net *n, const real *x, double *mean) {
    size_t cells = n->grid * n->grid, W = cells / (n->window * n->window), D = n->width;
    memset(mean, 0, W * D * sizeof *mean);
    for (size_t i = 0; i < cells; i++)
        for (size_t k = 0; k < D; k++) mean[window_of(n, i) * D + k] += (double)x[i * D + k] / (double)(n->window * n->window);
}

/* mean: room for the windows' means, [2, windows, D] */
static void route(const anchors_net *n, const real *q, const real *k, double *mean, uint32_t *best) {
    size_t W = n->grid * n->grid / (n->window * n->window), D = n->width;
    double *mq = mean, *mk = mean + W * D;
    window_means(n, q, mq), window_means(n, k, mk);
    for (size_t a = 0; a < W; a++) {
        for (size_t rank = 0; rank < n->top; rank++) {
            double most = -INFINITY;
            size_t at = 0;
            for (size_t b = 0; b < W; b++) {
                double s = 0;
                bool taken = false;
                for (size_t i = 0; i < rank; i++) taken = taken || best[a * n->top + i] == b;
                for (size_t i = 0; i < D && !taken; i++) s += mq[a * D + i] * mk[b * D + i];
                if (!taken && s > most) most = s, at = b;
            }
            best[a * n->top + rank] = (uint32_t)at;
        }
    }
}

/* 0 where a cell may look, far below elsewhere: [B*heads, cells, cells] */
static ag_tensor *allowed(ag_tape *t, const anchors_net *n, const ag_tensor *q, const ag_tensor *k) {
    size_t cells = n->grid * n->grid, W = cells / (n->window * n->window), B = q->batch;
    ag_tensor *mask = ag_new(t, B * n->heads, cells, cells);
    double *mean = arena_alloc(t->memory, 2 * W * n->width, sizeof *mean);
    uint32_t *best = arena_alloc(t->memory, W * n->top, sizeof *best);
    if (!mask || !mean || !best) return NULL;
    for (size_t b = 0; b < B; b++) {
        real *own = mask->data + b * n->heads * cells * cells;
        route(n, q->data + b * cells * n->width, k->data + b * cells * n->width, mean, best);
        for (size_t i = 0; i < cells * cells; i++) {
            own[i] = (real)-1e30;
            for (size_t r = 0; r < n->top; r++)
                if (best[window_of(n, i / cells) * n->top + r] == window_of(n, i % cells)) own[i] = 0;
        }
        for (size_t h = 1; h < n->heads; h++) memcpy(own + h * cells * cells, own, cells * cells * sizeof *own);
    }
    return mask;
}

/* ---- (18.2) ------------------------------------------------------------------------------------------------------ */
static ag_tensor *attend(ag_tape *t, const anchors_net *n, ag_tensor *const w[4], ag_tensor *x, ag_tensor *asked, bool routed) {
    ag_tensor *q = ag_linear(t, x, w[0], NULL), *k = ag_linear(t, asked, w[1], NULL), *v = ag_linear(t, asked, w[2], NULL);
    ag_tensor *s = ag_scores(t, q, k, n->heads, (real)(1 / sqrt((double)n->width / (double)n->heads)));
    if (routed && q && k) s = ag_add(t, s, allowed(t, n, q, k));
    return ag_linear(t, ag_mix(t, ag_softmax(t, s, false), NO_T, v, n->heads, 1), w[3], NULL);
}

/* A = W [image * text; text] */
static ag_tensor *anchors(ag_tape *t, const anchors_net *n, ag_tensor *image, const real *texts, size_t C) {
    size_t B = image->batch, E = n->embed;
    ag_tensor *x = ag_new(t, B, C, 2 * E);
    for (size_t i = 0; x && i < B * C * E; i++) {
        size_t b = i / (C * E), c = i / E % C, k = i % E;
        x->data[(b * C + c) * 2 * E + k] = image->data[b * E + k] * texts[c * E + k];
        x->data[(b * C + c) * 2 * E + E + k] = texts[c * E + k];
    }
    return part_use_linear(t, n->text, false, x);
}

ag_tensor *anchors_logits(ag_tape *t, const anchors_net *n, ag_tensor *tokens, ag_tensor *image, const real *texts, size_t C) {
    if (!tokens || !image) return NULL;
    size_t B = tokens->batch, cells = tokens->rows;
    ag_tensor *A = anchors(t, n, image, texts, C), *v = part_use_linear(t, n->visual, false, tokens);
    ag_tensor *y = part_use_norm(t, n->ln1, v);
    v = ag_add(t, v, attend(t, n, n->own, y, y, n->top > 0));
    v = ag_add(t, v, attend(t, n, n->cross, part_use_norm(t, n->ln2, v), A, false));
    y = ag_act(t, part_use_linear(t, n->fc, false, part_use_norm(t, n->ln3, v)), ACT_GELU, 0);
    v = ag_add(t, v, part_use_linear(t, n->proj, false, y));
    ag_tensor *cosines = ag_scores(t, ag_normalize(t, A), ag_normalize(t, v), 1, 1); /* [B,C,cells] */
    ag_tensor *scale = ag_fit(t, ag_exp(t, n->scale), B, C, cells), *bias = ag_fit(t, n->bias, B, C, cells);
    return ag_add(t, ag_mul(t, cosines, scale), bias);
}

/* ---- (18.3) focal and dice ------------------------------------------------------------------------------------------ */
static ag_tensor *as_given(ag_tape *t, const ag_tensor *like, const real *x) {
    return like ? ag_constant(t, x, like->batch, like->rows, like->cols) : NULL;
}

/* (.25 y + .75 (1-y)) (1 - p_t)^2 BCE; p_t = y p + (1-y)(1-p), BCE = softplus(x) - y x */
ag_tensor *anchors_focal(ag_tape *t, ag_tensor *logits, const real *masks, const real *counted) {
    size_t n = logits ? ag_size(logits) : 0;
    ag_tensor *y = as_given(t, logits, masks), *w = logits ? ag_new(t, logits->batch, logits->rows, logits->cols) : NULL;
    if (!y || !w) return NULL;
    double all = 0;
    for (size_t i = 0; i < n; i++) all += counted ? (double)counted[i] : 1;
    for (size_t i = 0; i < n; i++) w->data[i] = ((real)0.75 - (real)0.5 * masks[i]) * (counted ? counted[i] : 1) / (real)(all > 0 ? all : 1);
    ag_tensor *p = ag_sigmoid(t, logits), *sign = ag_scale(t, y, -2, 1); /* 1 - p_t = y + p (1 - 2y) */
    ag_tensor *off = ag_add(t, ag_mul(t, p, sign), y);
    ag_tensor *bce = ag_sub(t, ag_softplus(t, logits), ag_mul(t, logits, y));
    return ag_dot(t, ag_mul(t, ag_mul(t, off, off), bce), w);
}

/* 1 - (2 sum pm + 1)/(sum p + sum m + 1), mean over classes */
ag_tensor *anchors_dice(ag_tape *t, ag_tensor *logits, const real *masks, const real *counted) {
    if (!logits) return NULL;
    size_t B = logits->batch, C = logits->rows;
    ag_tensor *y = as_given(t, logits, masks), *p = ag_sigmoid(t, logits);
    if (counted) p = ag_mul(t, p, as_given(t, logits, counted)), y = ag_mul(t, y, as_given(t, logits, counted));
    if (!y || !p) return NULL;
    ag_tensor *both = ag_scale(t, ag_fit(t, ag_mul(t, p, y), B, C, 1), 2, 1);
    ag_tensor *all = ag_scale(t, ag_add(t, ag_fit(t, p, B, C, 1), ag_fit(t, y, B, C, 1)), 1, 1);
    ag_tensor *mean = ag_scale(t, ag_sum(t, ag_mul(t, both, ag_pow(t, all, -1))), -1 / (real)(B * C), 1);
    return mean;
}
