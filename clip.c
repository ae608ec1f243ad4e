/* clip.c - the network, from pixels and ids to embeddings (see clip.h). Equations: MODEL.md 1.
 *
 * Read it downwards: weights, pixels -> patches -> tokens, the block, the head, and the text side, which is the same
 * blocks with a causal mask.
 */
#include "clip.h"
#include <math.h>
#include <string.h>

/* ---- weights ----------------------------------------------------------------------------------- */
static const struct { size_t offset; char rows, cols; } BLOCK_FIELDS[16] = {
#define FIELD(name, rows, cols) {offsetof(clip_block_weights, name), rows, cols}
    FIELD(ln1_gamma, '1', 'D'), FIELD(ln1_beta, '1', 'D'), FIELD(q, 'D', 'D'),   FIELD(q_bias, '1', 'D'),
    FIELD(k, 'D', 'D'),         FIELD(k_bias, '1', 'D'),   FIELD(v, 'D', 'D'),   FIELD(v_bias, '1', 'D'),
    FIELD(out, 'D', 'D'),       FIELD(out_bias, '1', 'D'), FIELD(ln2_gamma, '1', 'D'), FIELD(ln2_beta, '1', 'D'),
    FIELD(fc1, 'F', 'D'),       FIELD(fc1_bias, '1', 'F'), FIELD(fc2, 'D', 'F'), FIELD(fc2_bias, '1', 'D'),
#undef FIELD
};

static size_t dimension(const clip_tower *tower, char letter) {
    return letter == 'D' ? tower->width : letter == 'F' ? tower->mlp : 1;
}

static bool each_block_weight(const clip_tower *tower, clip_block_weights *blocks, int base, clip_visit *visit,
                              void *arg) {
    for (size_t layer = 0; layer < tower->layers; layer++)
        for (int i = 0; i < 16; i++) {
            clip_weight *w = (clip_weight *)(void *)((char *)&blocks[layer] + BLOCK_FIELDS[i].offset);
            if (!visit(arg, w, (clip_kind)(base + i), layer, dimension(tower, BLOCK_FIELDS[i].rows),
                       dimension(tower, BLOCK_FIELDS[i].cols)))
                return false;
        }
    return true;
}

bool clip_each_weight(clip_model *m, clip_visit *visit, void *arg) {
    const clip_config *c = &m->config;
    size_t D = c->vision.width, W = c->text.width, E = c->embed, grid = c->image / c->patch;
    return visit(arg, &m->patch, W_PATCH, 0, D, 3 * c->patch * c->patch) &&
           visit(arg, &m->class_token, W_CLASS, 0, 1, D) &&
           visit(arg, &m->position, W_POSITION, 0, grid * grid + 1, D) &&
           visit(arg, &m->pre_gamma, W_PRE_GAMMA, 0, 1, D) && visit(arg, &m->pre_beta, W_PRE_BETA, 0, 1, D) &&
           each_block_weight(&c->vision, m->blocks, W_BLOCK, visit, arg) &&
           visit(arg, &m->post_gamma, W_POST_GAMMA, 0, 1, D) && visit(arg, &m->post_beta, W_POST_BETA, 0, 1, D) &&
           visit(arg, &m->proj, W_PROJ, 0, E, D) && visit(arg, &m->token, W_TOKEN, 0, c->vocab, W) &&
           visit(arg, &m->text_position, W_TEXT_POSITION, 0, c->context, W) &&
           each_block_weight(&c->text, m->text_blocks, W_TEXT_BLOCK, visit, arg) &&
           visit(arg, &m->final_gamma, W_FINAL_GAMMA, 0, 1, W) && visit(arg, &m->final_beta, W_FINAL_BETA, 0, 1, W) &&
           visit(arg, &m->text_proj, W_TEXT_PROJ, 0, E, W) && visit(arg, &m->logit_scale, W_LOGIT_SCALE, 0, 1, 1);
}

static size_t type_bytes(clip_type type) {
    return type == CLIP_REAL ? sizeof(real) : type == CLIP_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* `count` stored numbers at p, whatever their alignment, as real. */
static void convert(clip_type type, const unsigned char *p, real *out, size_t count) {
    enum { PIECE = 512 };
    union { uint16_t half[PIECE]; float single[PIECE]; } aligned;
    for (size_t done = 0; done < count; done += PIECE) {
        size_t n = count - done < PIECE ? count - done : PIECE;
        memcpy(&aligned, p + done * type_bytes(type), n * type_bytes(type));
        if (type == CLIP_F16) k_from_half(aligned.half, out + done, n);
        else if (type == CLIP_BF16) k_from_bfloat(aligned.half, out + done, n);
        else k_from_float(aligned.single, out + done, n);
    }
}

typedef struct { const clip_weight *w; real *out; size_t count, piece; } conversion;

static void convert_piece(void *arg, size_t i) {
    const conversion *c = arg;
    size_t from = i * c->piece, n = c->count - from < c->piece ? c->count - from : c->piece;
    convert(c->w->type, (const unsigned char *)c->w->data + from * type_bytes(c->w->type), c->out + from, n);
}

static bool usable_as_is(const clip_weight *w) {
    bool is_real = w->type == CLIP_REAL || (w->type == CLIP_F32 && sizeof(real) == sizeof(float));
    return is_real && (uintptr_t)w->data % sizeof(real) == 0;
}

static real first_real(const clip_weight *w) {
    real x;
    if (w->leaf) return w->leaf->data[0];
    if (w->type == CLIP_REAL) memcpy(&x, w->data, sizeof x);
    else convert(w->type, w->data, &x, 1);
    return x;
}

ag_tensor *clip_use(ag_tape *t, const clip_weight *w) {
    size_t rows = w->transposed ? w->cols : w->rows, cols = w->transposed ? w->rows : w->cols;
    if (w->leaf) return w->leaf;
    if (usable_as_is(w)) return ag_constant(t, w->data, 1, rows, cols);
    ag_tensor *x = ag_new(t, 1, rows, cols);
    if (!x) return NULL;
    conversion c = {w, x->data, rows * cols, (size_t)1 << 16};
    spread(t->cores, (c.count + c.piece - 1) / c.piece, convert_piece, &c);
    return x;
}

/* Some rows of a table: in inference only they are converted, not the whole (a vocabulary is large). */
static ag_tensor *use_rows(ag_tape *t, const clip_weight *w, const uint32_t *index, size_t count) {
    if (w->leaf) return ag_rows(t, w->leaf, index, count);
    ag_tensor *x = ag_new(t, 1, count, w->cols);
    if (!x) return NULL;
    size_t stride = w->cols * type_bytes(w->type);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *row = (const unsigned char *)w->data + index[i] * stride;
        if (w->type == CLIP_REAL) memcpy(x->data + i * w->cols, row, stride);
        else convert(w->type, row, x->data + i * w->cols, w->cols);
    }
    return x;
}

real clip_logit_scale(const clip_model *m) { return (real)exp((double)first_real(&m->logit_scale)); }

/* ---- pixels -> patches --------------------------------------------------------------------------- */
/* The convolution of kernel = stride = patch is a product of these rows with W_patch (1.1). */
ag_tensor *clip_patches(ag_tape *t, const clip_model *m, const real *pixels, size_t height, size_t width) {
    size_t p = m->config.patch, gh = height / p, gw = width / p;
    if (height % p || width % p || gh == 0 || gw == 0) {
        fault_set(&t->fault, FAULT_SHAPE, "patches", (size_t[]){3, height, width, 3, p, p}, 6);
        return NULL;
    }
    ag_tensor *x = ag_new(t, 1, gh * gw, 3 * p * p);
    if (!x) return NULL;
    real *row = x->data;
    for (size_t y = 0; y < gh; y++)
        for (size_t q = 0; q < gw; q++)
            for (size_t c = 0; c < 3; c++)
                for (size_t i = 0; i < p; i++, row += p)
                    memcpy(row, pixels + (c * height + y * p + i) * width + q * p, p * sizeof *row);
    return x;
}

/* ---- position embedding --------------------------------------------------------------------------- */
static double cubic(double x) { /* Keys' kernel, a = -1/2 */
    x = fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
    return 0;
}

/* (1.2)  Output cell i of `out` reads input cells *first.. of `in` with weights w; returns their number (<= in). */
static size_t resize_taps(size_t in, size_t out, size_t i, position_resize how, size_t *first, real *w) {
    double scale = (double)in / (double)out, centre = ((double)i + 0.5) * scale, sum = 0;
    if (how == POSITION_BILINEAR) { /* not antialiased */
        double x = centre - 0.5 < 0 ? 0 : centre - 0.5;
        *first = (size_t)x;
        w[1] = (real)(x - (double)*first);
        w[0] = 1 - w[1];
        if (*first + 1 < in) return 2;
        w[0] = 1; /* the last cell has no neighbour */
        return 1;
    }
    double stretch = scale > 1 ? scale : 1, low = centre - 2 * stretch + 0.5, high = centre + 2 * stretch + 0.5;
    size_t from = low < 0 ? 0 : (size_t)low, to = (size_t)high < in ? (size_t)high : in;
    for (size_t j = from; j < to; j++) sum += cubic(((double)j - centre + 0.5) / stretch);
    for (size_t j = from; j < to; j++) w[j - from] = (real)(cubic(((double)j - centre + 0.5) / stretch) / sum);
    *first = from;
    return to - from;
}

/* in [.., n, stride] -> out [.., m, stride] along the middle dimension, `outer` times */
static void resize_axis(const real *in, real *out, size_t outer, size_t n, size_t m, size_t stride, position_resize how,
                        real *w) {
    for (size_t o = 0; o < outer; o++)
        for (size_t i = 0; i < m; i++) {
            size_t first, taps = resize_taps(n, m, i, how, &first, w);
            real *row = out + (o * m + i) * stride;
            memset(row, 0, stride * sizeof *row);
            for (size_t j = 0; j < taps; j++) k_axpy(w[j], in + (o * n + first + j) * stride, row, stride);
        }
}

ag_tensor *clip_position(ag_tape *t, const clip_model *m, size_t gh, size_t gw, position_resize how) {
    size_t g = m->config.image / m->config.patch, D = m->config.vision.width;
    if (gh == g && gw == g) return clip_use(t, &m->position);
    ag_tensor *out = ag_new(t, 1, 1 + gh * gw, D);
    ag_mark mark = ag_tape_mark(t);
    ag_tensor *own = clip_use(t, &m->position), *wide = ag_new(t, g, gw, D);
    real *w = arena_alloc(t->memory, g + 2, sizeof *w);
    if (!out || !own || !wide || !w) {
        fault_memory(&t->fault, "position", t->memory, (g + 2) * sizeof *w);
        return NULL;
    }
    memcpy(out->data, own->data, D * sizeof(real)); /* the class token's stays */
    resize_axis(own->data + D, wide->data, g, g, gw, D, how, w);
    resize_axis(wide->data, out->data + D, 1, g, gh, gw * D, how, w);
    ag_tape_reset(t, mark);
    return out;
}

/* ---- patches -> tokens ---------------------------------------------------------------------------- */
static uint32_t *index_table(ag_tape *t, size_t count) {
    uint32_t *index = arena_alloc(t->memory, count, sizeof *index);
    if (!index) fault_memory(&t->fault, "index", t->memory, count * sizeof *index);
    return index;
}

/* (1.1)  tokens = LN_pre([class; W_patch patches] + position) */
ag_tensor *clip_embed(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw, position_resize how) {
    if (!patches) return NULL;
    size_t B = patches->batch, g = gh * gw, n = g + 1;
    uint32_t *rows = index_table(t, B * g), *zero = index_table(t, 1);
    if (!rows || !zero) return NULL;
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < g; i++) rows[b * g + i] = (uint32_t)(b * n + 1 + i);
    zero[0] = 0;
    ag_tensor *x = ag_linear(t, patches, clip_use(t, &m->patch), NULL);
    x = ag_scatter_rows(t, x, rows, B, n);
    ag_tensor *start = ag_scatter_rows(t, clip_use(t, &m->class_token), zero, 1, n);
    start = ag_add(t, start, clip_position(t, m, gh, gw, how));
    return ag_layernorm(t, ag_add(t, x, start), clip_use(t, &m->pre_gamma), clip_use(t, &m->pre_beta),
                        m->config.vision.eps);
}

/* ---- the block, in pieces -------------------------------------------------------------------------- */
static ag_tensor *linear(ag_tape *t, const clip_weight *w, const clip_weight *bias, ag_tensor *x) {
    return ag_linear(t, x, clip_use(t, w), clip_use(t, bias));
}

/* (1.4) */
void clip_qkv(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, ag_tensor *x, ag_tensor **q,
              ag_tensor **k, ag_tensor **v) {
    ag_tensor *y = ag_layernorm(t, x, clip_use(t, &w->ln1_gamma), clip_use(t, &w->ln1_beta), tower->eps);
    if (q) *q = linear(t, &w->q, &w->q_bias, y);
    if (k) *k = linear(t, &w->k, &w->k_bias, y);
    if (v) *v = linear(t, &w->v, &w->v_bias, y);
}

static real logit_factor(const clip_tower *tower) { /* 1/sqrt(d) */
    return (real)(1 / sqrt((double)(tower->width / tower->heads)));
}

/* (1.5)  A^h = softmax(q_h k_h^T / sqrt(d)) */
ag_tensor *clip_attention(ag_tape *t, const clip_tower *tower, ag_tensor *q, ag_tensor *k, bool causal) {
    return ag_softmax(t, ag_scores(t, q, k, tower->heads, logit_factor(tower)), causal);
}

/* (1.6)  W_o concat_h(A^h v^h) + b_o */
ag_tensor *clip_out(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, ag_tensor *A, ag_tensor *v) {
    return linear(t, &w->out, &w->out_bias, ag_mix(t, A, NO_T, v, tower->heads, 1));
}

/* (1.7), (1.8) */
ag_tensor *clip_mlp(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, act_kind act, ag_tensor *x1,
                    ag_tensor **h) {
    ag_tensor *y = ag_layernorm(t, x1, clip_use(t, &w->ln2_gamma), clip_use(t, &w->ln2_beta), tower->eps);
    ag_tensor *hidden = linear(t, &w->fc1, &w->fc1_bias, y);
    if (h) *h = hidden;
    return linear(t, &w->fc2, &w->fc2_bias, ag_act(t, hidden, act, 0));
}

/* ---- attention in little memory: what clip_attention and ag_mix compute, some query rows at a time ------------- */
enum { QUERY_ROWS = 256 };

typedef struct {
    const real *q, *k, *v;
    real *out, *scratch;
    size_t batch, n, D, heads, rows, width;
    real factor;
    bool causal;
} lean;

static void lean_head(const lean *l, size_t item, real *s) {
    size_t d = l->D / l->heads, corner = item / l->heads * l->n * l->D + item % l->heads * d;
    for (size_t r = 0; r < l->n; r += l->rows) {
        size_t rows = l->n - r < l->rows ? l->n - r : l->rows, at = corner + r * l->D;
        gemm(NO_T, T, rows, l->n, d, l->factor, l->q + at, l->D, l->k + corner, l->D, 0, s, l->n);
        k_softmax(s, s, rows, l->n, l->causal);
        gemm(NO_T, NO_T, rows, d, l->n, 1, s, l->n, l->v + corner, l->D, 0, l->out + at, l->D);
    }
}

static void lean_task(void *arg, size_t i) { /* every width-th head, in a scratch of its own */
    const lean *l = arg;
    for (size_t item = i; item < l->batch * l->heads; item += l->width)
        lean_head(l, item, l->scratch + i * l->rows * l->n);
}

static ag_tensor *attend_lean(ag_tape *t, const clip_tower *tower, ag_tensor *q, ag_tensor *k, ag_tensor *v,
                              bool causal) {
    if (!q || !k || !v) return NULL;
    size_t n = q->rows, rows = causal || n < QUERY_ROWS ? n : QUERY_ROWS, width = t->cores ? t->cores->width : 1;
    ag_tensor *out = ag_new(t, q->batch, n, q->cols), *scratch = ag_new(t, width, rows, n);
    if (!out || !scratch) return NULL;
    lean l = {q->data, k->data, v->data,     out->data, scratch->data,       q->batch,
              n,       q->cols, tower->heads, rows,      width, logit_factor(tower), causal};
    spread(t->cores, width, lean_task, &l);
    return out;
}

/* ---- the block ------------------------------------------------------------------------------------- */
/* x1 = x0 + W_o concat_h(A^h v^h) + b_o ;  x2 = x1 + W2 act(W1 LN2(x1) + b1) + b2   (1.6)-(1.8) */
ag_tensor *clip_block(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, act_kind act, bool causal,
                      ag_tensor *x, clip_taps *taps, bool cut) {
    clip_taps local, *p = taps ? taps : &local;
    p->x0 = cut ? ag_detach(t, x) : x;
    clip_qkv(t, tower, w, p->x0, &p->q, &p->k, &p->v);
    if (!taps && !t->recording) {
        ag_tensor *o = attend_lean(t, tower, p->q, p->k, p->v, causal);
        p->x1 = ag_add(t, p->x0, linear(t, &w->out, &w->out_bias, o));
    } else {
        p->A = clip_attention(t, tower, p->q, p->k, causal);
        if (cut) p->A = ag_cut(t, p->A);
        p->x1 = ag_add(t, p->x0, clip_out(t, tower, w, p->A, p->v));
    }
    p->x2 = ag_add(t, p->x1, clip_mlp(t, tower, w, act, p->x1, &p->h));
    return p->x2;
}

static ag_tensor *run_blocks(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, act_kind act,
                             bool causal, ag_tensor *x, size_t first, size_t last) {
    if (t->recording) {
        for (size_t i = first; i < last; i++) x = clip_block(t, tower, &w[i], act, causal, x, NULL, false);
        return x;
    }
    if (!x) return NULL;
    ag_tensor *out = ag_new(t, x->batch, x->rows, x->cols);
    if (!out) return NULL;
    memcpy(out->data, x->data, ag_size(x) * sizeof(real));
    for (size_t i = first; i < last; i++) {
        ag_mark mark = ag_tape_mark(t);
        ag_tensor *y = clip_block(t, tower, &w[i], act, causal, out, NULL, false);
        if (!y) return NULL;
        memcpy(out->data, y->data, ag_size(y) * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return out;
}

ag_tensor *clip_blocks(ag_tape *t, const clip_model *m, ag_tensor *x, size_t first, size_t last) {
    return run_blocks(t, &m->config.vision, m->blocks, m->config.act_vision, false, x, first, last);
}

/* ---- the head: tokens -> embedding ------------------------------------------------------------------ */
static ag_tensor *project(ag_tape *t, const clip_weight *P, ag_tensor *x) {
    ag_tensor *p = clip_use(t, P);
    if (!x || !p) return NULL;
    if (!P->transposed) return ag_linear(t, x, p, NULL);
    return ag_reshape(t, ag_matmul(t, x, NO_T, p, NO_T), x->batch, x->rows, P->rows);
}

ag_tensor *clip_project(ag_tape *t, const clip_model *m, ag_tensor *x) {
    x = ag_layernorm(t, x, clip_use(t, &m->post_gamma), clip_use(t, &m->post_beta), m->config.vision.eps);
    return project(t, &m->proj, x);
}

/* (1.9), (1.10) */
ag_tensor *clip_head(ag_tape *t, const clip_model *m, ag_tensor *x) {
    if (!x) return NULL;
    size_t B = x->batch, n = x->rows;
    if (m->config.pool == CLIP_POOL_MEAN)
        return clip_project(t, m, ag_scale(t, ag_fit(t, x, B, 1, x->cols), 1 / (real)n, 0));
    uint32_t *rows = index_table(t, B);
    if (!rows) return NULL;
    for (size_t b = 0; b < B; b++) rows[b] = (uint32_t)(b * n);
    ag_tensor *classes = ag_reshape(t, ag_rows(t, x, rows, B), B, 1, x->cols);
    return clip_project(t, m, classes);
}

ag_tensor *clip_image(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw) {
    ag_tensor *x = clip_embed(t, m, patches, gh, gw, POSITION_BICUBIC);
    return clip_head(t, m, clip_blocks(t, m, x, 0, m->config.vision.layers));
}

/* ---- the text side ---------------------------------------------------------------------------------- */
static bool ids_valid(ag_tape *t, const clip_config *c, const uint32_t *ids, size_t texts, size_t length) {
    if (length == 0 || length > c->context)
        return fault_set(&t->fault, FAULT_RANGE, "text length", (size_t[]){length, 1, c->context}, 3);
    for (size_t i = 0; i < texts * length; i++)
        if (ids[i] >= c->vocab)
            return fault_set(&t->fault, FAULT_RANGE, "token id", (size_t[]){ids[i], 0, c->vocab - 1}, 3);
    return true;
}

static size_t end_of_text(const uint32_t *ids, size_t length) { /* the first largest id */
    size_t best = 0;
    for (size_t i = 1; i < length; i++)
        if (ids[i] > ids[best]) best = i;
    return best;
}

ag_tensor *clip_text(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t texts, size_t length) {
    const clip_config *c = &m->config;
    if (!ids_valid(t, c, ids, texts, length)) return NULL;
    uint32_t *tokens = index_table(t, texts * length), *places = index_table(t, length), *ends = index_table(t, texts);
    if (!tokens || !places || !ends) return NULL;
    memcpy(tokens, ids, texts * length * sizeof *ids);
    for (size_t i = 0; i < length; i++) places[i] = (uint32_t)i;
    for (size_t b = 0; b < texts; b++) ends[b] = (uint32_t)(b * length + end_of_text(ids + b * length, length));

    ag_tensor *x = ag_reshape(t, use_rows(t, &m->token, tokens, texts * length), texts, length, c->text.width);
    x = ag_add(t, x, use_rows(t, &m->text_position, places, length));
    x = run_blocks(t, &c->text, m->text_blocks, c->act_text, true, x, 0, c->text.layers);
    x = ag_reshape(t, ag_rows(t, x, ends, texts), texts, 1, c->text.width);
    x = ag_layernorm(t, x, clip_use(t, &m->final_gamma), clip_use(t, &m->final_beta), c->text.eps);
    return project(t, &m->text_proj, x);
}
