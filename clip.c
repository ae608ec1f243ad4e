/* clip.c - what a model consists of, and how its stored numbers become tensors (see clip.h). */
#include "clip.h"
#include <math.h>
#include <string.h>

/* ---- sizes --------------------------------------------------------------------------------------- */
bool clip_grid(const clip_config *c, size_t height, size_t width, size_t *gh, size_t *gw) {
    size_t p = c->patch;
    bool own = height == c->image && width == c->image && !clip_is_resnet(c);
    *gh = height / p;
    *gw = width / p;
    return *gh && *gw && (own || (height % p == 0 && width % p == 0));
}

size_t clip_convs(const clip_config *c) {
    size_t count = 3;
    for (size_t s = 0; s < 4; s++) count += 3 * c->resnet[s] + 1;
    return clip_is_resnet(c) ? count : 0;
}

clip_conv clip_conv_at(const clip_config *c, size_t index) {
    size_t w = c->vision.width / 32, in = w;
    if (index < 3)
        return (clip_conv){.part = index, .in = index == 0 ? 3 : w / 2, .out = index == 2 ? w : w / 2, .side = 3};
    index -= 3;
    for (size_t s = 0; s < 4; in = 4 * (w << s), s++) {
        size_t narrow = w << s, wide = 4 * narrow, count = 3 * c->resnet[s] + 1;
        if (index >= count) {
            index -= count;
            continue;
        }
        size_t block = index < 4 ? 0 : (index - 1) / 3, part = index < 4 ? index : (index - 1) % 3;
        size_t reads = part == 0 ? (block ? wide : in) : part == 3 ? in : narrow;
        return (clip_conv){s + 1, block, part, reads, part < 2 ? narrow : wide, part == 1 ? 3 : 1};
    }
    return (clip_conv){0};
}

/* ---- weights ----------------------------------------------------------------------------------- */
/* A block's fields; `in` says where a field occurs: b a block, x a cross attention's, and the poolers p of a probe, q of
 * queries, c of cells; `when` the switch that it hangs on. Shapes: D width, F mlp, K width of what is looked at, O of
 * what comes out. */
static const struct { size_t offset; char rows, cols, when; const char *in; } FIELDS[CLIP_BLOCK_FIELDS] = {
#define FIELD(name, rows, cols, when, in) {offsetof(clip_block_weights, name), rows, cols, when, in}
    FIELD(ln1_gamma, '1', 'D', 0, "bxq"),   FIELD(ln1_beta, '1', 'D', 0, "bxq"),
    FIELD(q, 'D', 'D', 0, "bxpqc"),         FIELD(q_bias, '1', 'D', 0, "bxpqc"),
    FIELD(k, 'D', 'K', 0, "bxpqc"),         FIELD(k_bias, '1', 'D', 'k', "bxpqc"),
    FIELD(v, 'D', 'K', 0, "bxpqc"),         FIELD(v_bias, '1', 'D', 0, "bxpqc"),
    FIELD(out, 'O', 'D', 0, "bxpqc"),       FIELD(out_bias, '1', 'O', 0, "bxpqc"),
    FIELD(ln2_gamma, '1', 'D', 0, "bxp"),   FIELD(ln2_beta, '1', 'D', 0, "bxp"),
    FIELD(fc1, 'F', 'D', 0, "bxp"),         FIELD(fc1_bias, '1', 'F', 0, "bxp"),
    FIELD(fc2, 'D', 'F', 0, "bxp"),         FIELD(fc2_bias, '1', 'D', 0, "bxp"),
    FIELD(gate, 'F', 'D', 'g', "b"),        FIELD(gate_bias, '1', 'F', 'g', "b"),
    FIELD(heads_gamma, '1', 'D', 's', "b"), FIELD(heads_beta, '1', 'D', 's', "b"),
    FIELD(mlp_gamma, '1', 'F', 's', "b"),   FIELD(mlp_beta, '1', 'F', 's', "b"),
    FIELD(scale1, '1', 'D', 'l', "b"),      FIELD(scale2, '1', 'D', 'l', "b"),
    FIELD(other_gamma, '1', 'K', 0, "xq"),  FIELD(other_beta, '1', 'K', 0, "xq"),
#undef FIELD
};

typedef struct {
    clip_block_weights *blocks;
    size_t count, width, mlp, other, out;
    const clip_tower *tower;
    int base;
    char role; /* b, x, p, q or c */
} block_list;

static bool wanted(const clip_tower *t, char when) {
    return when == 'k' ? !t->no_key_bias : when == 'g' ? t->swiglu : when == 's' ? t->sub_norm : when == 'l' ? t->layer_scale : true;
}

static size_t dimension(const block_list *l, char letter) {
    return letter == 'D' ? l->width : letter == 'F' ? l->mlp : letter == 'K' ? l->other : letter == 'O' ? l->out : 1;
}

static bool each_of_blocks(block_list l, clip_visit *visit, void *arg) {
    for (size_t layer = 0; layer < l.count; layer++)
        for (int i = 0; i < CLIP_BLOCK_FIELDS; i++) {
            clip_weight *w = (clip_weight *)(void *)((char *)&l.blocks[layer] + FIELDS[i].offset);
            if (strchr(FIELDS[i].in, l.role) && wanted(l.tower, FIELDS[i].when) &&
                !visit(arg, w, (clip_kind)(l.base + i), layer, dimension(&l, FIELDS[i].rows),
                       dimension(&l, FIELDS[i].cols)))
                return false;
        }
    return true;
}

static bool each_block(const clip_tower *t, clip_block_weights *w, int base, char role, clip_visit *visit, void *arg) {
    return each_of_blocks((block_list){w, t->layers, t->width, t->mlp, t->width, t->width, t, base, role}, visit, arg);
}

static bool each_pooler(clip_model *m, clip_visit *visit, void *arg) {
    const clip_config *c = &m->config;
    if (!clip_has_pooler(c)) return true;
    char role = c->pool == CLIP_POOL_PROBE ? 'p' : c->pool == CLIP_POOL_QUERIES ? 'q' : 'c';
    size_t out = c->pool == CLIP_POOL_CELLS ? c->embed : c->pooler.width;
    return (c->pool == CLIP_POOL_CELLS || visit(arg, &m->query, W_QUERY, 0, c->queries, c->pooler.width)) &&
           each_of_blocks((block_list){m->pooler, 1, c->pooler.width, c->pooler.mlp, c->vision.width, out, &c->pooler,
                                       W_POOLER, role},
                          visit, arg);
}

static bool each_conv(clip_model *m, clip_visit *visit, void *arg) {
    for (size_t i = 0, count = clip_convs(&m->config); i < count; i++) {
        clip_conv at = clip_conv_at(&m->config, i);
        clip_conv_weights *w = &m->convs[i];
        clip_weight *field[CLIP_CONV_FIELDS] = {&w->kernel, &w->gamma, &w->beta, &w->mean, &w->variance};
        for (int f = 0; f < CLIP_CONV_FIELDS; f++)
            if (!visit(arg, field[f], (clip_kind)(W_CONV + f), i, f ? 1 : at.out, f ? at.out : at.in * at.side * at.side))
                return false;
    }
    return true;
}

static bool each_image_weight(clip_model *m, clip_visit *visit, void *arg) {
    const clip_config *c = &m->config;
    size_t D = c->vision.width, grid = c->image / c->patch, pp = c->patch * c->patch;
    bool vit = !clip_is_resnet(c), first = !c->no_class_token;
    /* LN_post is of the pooled queries where they are of another width */
    size_t post = c->pool == CLIP_POOL_QUERIES ? c->pooler.width : D;
#define EACH(when, field, kind, rows, cols) (!(when) || visit(arg, &m->field, kind, 0, rows, cols))
    return EACH(vit, patch, W_PATCH, D, 3 * pp) && EACH(c->patch_bias, patch_bias, W_PATCH_BIAS, 1, D) &&
           EACH(c->alpha, patch_alpha, W_PATCH_ALPHA, D, pp) && each_conv(m, visit, arg) &&
           EACH(vit && first, class_token, W_CLASS, 1, D) &&
           EACH(true, position, W_POSITION, grid * grid + (first ? 1 : 0), D) &&
           EACH(vit && !c->no_ln_pre, pre_gamma, W_PRE_GAMMA, 1, D) &&
           EACH(vit && !c->no_ln_pre, pre_beta, W_PRE_BETA, 1, D) &&
           each_block(&c->vision, m->blocks, W_BLOCK, 'b', visit, arg) && each_pooler(m, visit, arg) &&
           EACH(vit, post_gamma, W_POST_GAMMA, 1, post) && EACH(vit, post_beta, W_POST_BETA, 1, post) &&
           EACH(!c->no_proj, proj, W_PROJ, c->embed, post) && EACH(c->proj_bias, proj_bias, W_PROJ_BIAS, 1, c->embed);
}

static bool each_text_weight(clip_model *m, clip_visit *visit, void *arg) {
    const clip_config *c = &m->config;
    size_t W = c->text.width, E = c->embed, rows = c->context + (c->text_class ? 1 : 0);
    if (!c->text.layers) return true; /* a text side of another kind: the image side alone */
    return EACH(true, token, W_TOKEN, c->vocab, W) && EACH(true, text_position, W_TEXT_POSITION, rows, W) &&
           EACH(c->text_long, text_position_long, W_TEXT_POSITION_LONG, rows, W) &&
           EACH(c->text_class, text_class, W_TEXT_CLASS, 1, W) &&
           each_block(&c->text, m->text_blocks, W_TEXT_BLOCK, 'b', visit, arg) &&
           EACH(true, final_gamma, W_FINAL_GAMMA, 1, W) && EACH(true, final_beta, W_FINAL_BETA, 1, W) &&
           EACH(!c->no_text_proj, text_proj, W_TEXT_PROJ, E, W) &&
           EACH(c->text_proj_bias, text_proj_bias, W_TEXT_PROJ_BIAS, 1, E);
}

static bool each_decoder_weight(clip_model *m, clip_visit *visit, void *arg) {
    const clip_config *c = &m->config;
    size_t W = c->decoder.width;
    if (!c->decoder.layers) return true;
    return each_block(&c->decoder, m->decoder_blocks, W_DECODER_BLOCK, 'b', visit, arg) &&
           each_block(&c->decoder, m->cross_blocks, W_CROSS_BLOCK, 'x', visit, arg) &&
           EACH(true, decoder_gamma, W_DECODER_GAMMA, 1, W) && EACH(true, decoder_beta, W_DECODER_BETA, 1, W) &&
           EACH(true, decoder_proj, W_DECODER_PROJ, c->vocab, W);
}

bool clip_each_weight(clip_model *m, clip_visit *visit, void *arg) {
    return each_image_weight(m, visit, arg) && each_text_weight(m, visit, arg) && each_decoder_weight(m, visit, arg) &&
           EACH(m->config.text.layers > 0, logit_scale, W_LOGIT_SCALE, 1, 1) && /* of texts alone */
           EACH(m->config.logit_bias, logit_bias, W_LOGIT_BIAS, 1, 1);
#undef EACH
}

bool clip_of_text(clip_kind kind) { return kind >= W_TEXT_BLOCK || (kind >= W_TOKEN && kind <= W_DECODER_PROJ); }

/* ---- number types ------------------------------------------------------------------------------
 * Five store 32 numbers at a time (GGML's; MODEL.md (7.2), (7.3)):
 *     Q4_0  d, 16 bytes           x = d (q - 8)      d, m: float16
 *     Q4_1  d, m, 16 bytes        x = d q + m        q: 4 bits; low halves of the bytes are numbers 0 to 15, high ones 16
 *     Q5_0  d, u32, 16 bytes      x = d (q - 16)     to 31; bit i of the u32 is the fifth of number i
 *     Q5_1  d, m, u32, 16 bytes   x = d q + m
 *     Q8_0  d, 32 bytes           x = d q            q: signed
 */
static const struct {
    const char *name;
    unsigned char bytes;        /* of a number, or of a block */
    unsigned char bits, centre; /* of a block's q, and what is subtracted from it; centre 0: there is an m. bits 0: no blocks */
} TYPES[CLIP_TYPES] = {
    [CLIP_F32] = {"F32", 4, 0, 0},     [CLIP_F16] = {"F16", 2, 0, 0},
    [CLIP_BF16] = {"BF16", 2, 0, 0},   [CLIP_F64] = {"F64", 8, 0, 0},
    [CLIP_REAL] = {"real", sizeof(real), 0, 0},
    [CLIP_Q4_0] = {"Q4_0", 18, 4, 8},  [CLIP_Q4_1] = {"Q4_1", 20, 4, 0},
    [CLIP_Q5_0] = {"Q5_0", 22, 5, 16}, [CLIP_Q5_1] = {"Q5_1", 24, 5, 0},
    [CLIP_Q8_0] = {"Q8_0", 34, 8, 0},
};

const char *clip_type_name(clip_type type) { return TYPES[type].name; }

bool clip_type_find(const char *name, clip_type *type) {
    for (int i = 0; i < CLIP_TYPES; i++)
        if (i != CLIP_REAL && strcmp(TYPES[i].name, name) == 0) return *type = (clip_type)i, true;
    return false;
}

size_t clip_block_bytes(clip_type type) { return TYPES[type].bits ? TYPES[type].bytes : 0; }

size_t clip_bytes(clip_type type, size_t count) {
    return TYPES[type].bits ? count / CLIP_BLOCK * TYPES[type].bytes : count * TYPES[type].bytes;
}

static real half_at(const unsigned char *p) {
    uint16_t h = (uint16_t)(p[0] | p[1] << 8);
    real x;
    k_from_half(&h, &x, 1);
    return x;
}

void clip_block_unpack(clip_type type, const unsigned char *p, real *x) {
    real d = half_at(p), m = 0;
    uint32_t fifth = 0;
    p += 2;
    if (TYPES[type].bits == 8) {
        for (size_t i = 0; i < CLIP_BLOCK; i++) x[i] = d * (real)(p[i] < 128 ? p[i] : p[i] - 256);
        return;
    }
    if (TYPES[type].centre) m = -d * (real)TYPES[type].centre;
    else m = half_at(p), p += 2;
    if (TYPES[type].bits == 5) {
        for (unsigned k = 0; k < 4; k++) fifth |= (uint32_t)p[k] << 8 * k;
        p += 4;
    }
    for (unsigned i = 0; i < CLIP_BLOCK; i++) {
        unsigned q = (i < 16 ? p[i] & 15u : p[i - 16] >> 4) | (fifth >> i & 1) << 4;
        x[i] = d * (real)q + m;
    }
}

/* ---- stored numbers -> tensors -------------------------------------------------------------------- */
/* No kernel: chips without doubles have those. */
static void from_double(const double *h, real *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = (real)h[i];
}

static void convert_aligned(clip_type type, const void *p, real *out, size_t count) {
    if (type == CLIP_F16) k_from_half(p, out, count);
    else if (type == CLIP_BF16) k_from_bfloat(p, out, count);
    else if (type == CLIP_F64) from_double(p, out, count);
    else k_from_float(p, out, count);
}

/* `count` stored numbers at p, whatever their alignment, as real. */
static void convert(clip_type type, const unsigned char *p, real *out, size_t count) {
    enum { PIECE = 256 };
    union { uint16_t half[PIECE]; float single[PIECE]; double both[PIECE]; } aligned;
    for (size_t i = 0; clip_block_bytes(type) && i < count; i += CLIP_BLOCK)
        clip_block_unpack(type, p + clip_bytes(type, i), out + i);
    if (clip_block_bytes(type)) return;
    if (!BIG_ENDIAN_HERE && (uintptr_t)p % clip_bytes(type, 1) == 0) {
        convert_aligned(type, p, out, count);
        return;
    }
    for (size_t done = 0; done < count; done += PIECE) {
        size_t n = count - done < PIECE ? count - done : PIECE;
        memcpy(&aligned, p + clip_bytes(type, done), clip_bytes(type, n));
        order_bytes(&aligned, n, clip_bytes(type, 1));
        convert_aligned(type, &aligned, out + done, n);
    }
}

typedef struct { const clip_weight *w; real *out; size_t count, piece; } conversion;

static void convert_piece(void *arg, size_t i) {
    const conversion *c = arg;
    size_t from = i * c->piece, n = c->count - from < c->piece ? c->count - from : c->piece;
    convert(c->w->type, (const unsigned char *)c->w->data + clip_bytes(c->w->type, from), c->out + from, n);
}

const real *clip_in_place(const clip_weight *w) {
    clip_type stored = sizeof(real) == sizeof(float) ? CLIP_F32 : CLIP_F64;
    bool is_real = w->type == CLIP_REAL || (w->type == stored && !BIG_ENDIAN_HERE);
    if (w->leaf) return w->leaf->data;
    return is_real && (uintptr_t)w->data % sizeof(real) == 0 ? w->data : NULL;
}

real clip_number(const clip_weight *w, size_t i) {
    real x;
    const unsigned char *p = w->data;
    if (w->leaf) return w->leaf->data[i];
    if (clip_block_bytes(w->type)) {
        real block[CLIP_BLOCK];
        clip_block_unpack(w->type, p + clip_bytes(w->type, i), block); /* i's block: the division drops the rest */
        return block[i % CLIP_BLOCK];
    }
    if (w->type == CLIP_REAL) memcpy(&x, p + i * sizeof x, sizeof x);
    else convert(w->type, p + clip_bytes(w->type, i), &x, 1);
    return x;
}

void clip_numbers(const clip_weight *w, size_t from, size_t count, real *out) {
    const unsigned char *p = w->data;
    if (w->leaf) memcpy(out, w->leaf->data + from, count * sizeof *out);
    else if (w->type == CLIP_REAL) memcpy(out, p + from * sizeof *out, count * sizeof *out);
    else convert(w->type, p + clip_bytes(w->type, from), out, count);
}

ag_tensor *clip_use(ag_tape *t, const clip_weight *w) {
    if (!clip_there(w)) return NULL;
    size_t rows = w->transposed ? w->cols : w->rows, cols = w->transposed ? w->rows : w->cols;
    if (w->leaf) return w->leaf;
    if (clip_in_place(w)) return ag_constant(t, clip_in_place(w), 1, rows, cols);
    ag_tensor *x = ag_new(t, 1, rows, cols);
    if (!x) return NULL;
    conversion c = {w, x->data, rows * cols, (size_t)1 << 16};
    spread(t->cores, (c.count + c.piece - 1) / c.piece, convert_piece, &c);
    return x;
}

ag_tensor *clip_use_rows(ag_tape *t, const clip_weight *w, const uint32_t *index, size_t count) {
    if (w->leaf) return ag_rows(t, w->leaf, index, count);
    ag_tensor *x = ag_new(t, 1, count, w->cols);
    if (!x) return NULL;
    size_t stride = clip_bytes(w->type, w->cols);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *row = (const unsigned char *)w->data + index[i] * stride;
        if (w->type == CLIP_REAL) memcpy(x->data + i * w->cols, row, stride);
        else convert(w->type, row, x->data + i * w->cols, w->cols);
    }
    return x;
}

real clip_logit_scale(const clip_model *m) {
    return clip_there(&m->logit_scale) ? (real)exp((double)clip_number(&m->logit_scale, 0)) : 1;
}
real clip_logit_bias(const clip_model *m) { return clip_there(&m->logit_bias) ? clip_number(&m->logit_bias, 0) : 0; }

static void read_row(const void *source, size_t row, size_t column, size_t count, real *out) { /* see gemm_weight */
    const clip_weight *w = source;
    clip_numbers(w, row * w->cols + column, count, out);
}

/* Its bytes are asked for: rows lie too far apart for the processor to guess them. */
static void expect_row(const void *source, size_t row, size_t column, size_t count) {
#if defined(__GNUC__)
    const clip_weight *w = source;
    const unsigned char *p = (const unsigned char *)w->data + clip_bytes(w->type, row * w->cols + column);
    for (size_t i = 0, bytes = clip_bytes(w->type, count); i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
#else
    (void)source, (void)row, (void)column, (void)count;
#endif
}

/* In inference a weight that lies row by row goes to our own product as it is stored, where that one is taken. */
static bool takes_own(const ag_tape *t, const clip_weight *W) {
    return !t->recording && !W->leaf && !W->transposed && (t->alike || gemm_is_own()) &&
           (!clip_block_bytes(W->type) || W->cols % CLIP_BLOCK == 0);
}

/* finish: the function that comes after the bias */
static ag_tensor *linear_own(ag_tape *t, const clip_weight *W, const clip_weight *bias, ag_tensor *x, gemm_weight finish) {
    size_t m = x->batch * x->rows;
    ag_tensor *b = bias ? clip_use(t, bias) : NULL, *y = ag_new(t, x->batch, x->rows, W->rows);
    ag_mark mark = ag_tape_mark(t);
    ag_tensor *room = ag_new(t, 1, 1, gemm_own_room(m, W->cols));
    if (!y || !room || t->fault.code) return NULL;
    finish.read = read_row, finish.expect = expect_row, finish.source = W, finish.bias = b ? b->data : NULL;
    gemm_own(t->cores, m, W->rows, W->cols, x->data, &finish, room->data, y->data);
    ag_tape_reset(t, mark); /* the next one finds it in the cache */
    return y;
}

/* x w, by the product to which all rows are alike */
static ag_tensor *rows_alike(ag_tape *t, ag_tensor *x, ag_tensor *w) {
    ag_tensor *y = x->cols == w->rows ? ag_new(t, x->batch, x->rows, w->cols) : ag_matmul(t, x, NO_T, w, NO_T);
    if (y && x->cols == w->rows)
        gemm_portable(NO_T, NO_T, x->batch * x->rows, w->cols, x->cols, 1, x->data, x->cols, w->data, w->cols, 0, y->data,
                      w->cols);
    return y;
}

ag_tensor *clip_linear(ag_tape *t, const clip_weight *W, const clip_weight *bias, ag_tensor *x) {
    if (x && clip_there(W) && x->cols == W->cols && takes_own(t, W)) return linear_own(t, W, bias, x, (gemm_weight){0});
    ag_tensor *w = clip_use(t, W), *b = bias ? clip_use(t, bias) : NULL;
    if (!x || !w || t->fault.code) return NULL;
    if (!W->transposed) return ag_linear(t, x, w, b);
    ag_tensor *y = (t->alike || gemm_is_own()) && !t->recording
                       ? rows_alike(t, x, w)
                       : ag_reshape(t, ag_matmul(t, x, NO_T, w, NO_T), x->batch, x->rows, W->rows);
    return b ? ag_add(t, y, b) : y;
}

ag_tensor *clip_linear_act(ag_tape *t, const clip_weight *W, const clip_weight *bias, ag_tensor *x, act_kind kind) {
    if (x && clip_there(W) && x->cols == W->cols && takes_own(t, W))
        return linear_own(t, W, bias, x, (gemm_weight){.act = true, .kind = kind});
    return ag_act(t, clip_linear(t, W, bias, x), kind, 0);
}

ag_tensor *clip_norm(ag_tape *t, const clip_weight *gamma, const clip_weight *beta, real eps, ag_tensor *x) {
    return clip_there(gamma) ? ag_layernorm(t, x, clip_use(t, gamma), clip_use(t, beta), eps) : x;
}

uint32_t *clip_index(ag_tape *t, size_t count) {
    uint32_t *index = arena_alloc(t->memory, count, sizeof *index);
    if (!index) fault_memory(&t->fault, "index", t->memory, count * sizeof *index);
    return index;
}
