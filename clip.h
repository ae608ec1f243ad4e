/* clip.h - a CLIP ViT and its text side.
 *
 *     clip_model m;                                     // config and weights: filled by checkpoint.c
 *     ag_tape t; ag_tape_init(&t, &memory, cores, 64); t.recording = false;
 *     ag_tensor *patches = clip_patches(&t, &m, pixels, side, side);
 *     ag_tensor *z = clip_image(&t, &m, patches, side / m.config.patch, side / m.config.patch);   // [1,1,E]
 *
 * The network is written once: with the tape recording these functions train, without it they infer,
 * and the explainers cut into them with clip_qkv, clip_attention... Weights stay as they are stored
 * (float16 in a mapped file, say) and are converted where they are used, a block at a time.
 */
#ifndef CLIP_H
#define CLIP_H
#include "autograd.h"

/* ---- config --------------------------------------------------------------------------------- */
typedef struct { size_t width, layers, heads, mlp; real eps; } clip_tower;
typedef enum { CLIP_POOL_CLASS, CLIP_POOL_MEAN } clip_pool; /* MEAN: mean over all tokens before LN_post (1.10) */

typedef struct {
    clip_tower vision, text;
    size_t image, patch;      /* pixels; image is a multiple of patch */
    size_t embed;             /* E */
    size_t vocab, context;
    act_kind act_vision, act_text;
    clip_pool pool;
    real mean[3], std[3];     /* of pixels in [0,1] */
    /* what this model likes for MaskInversion, from its config; 0: not said */
    struct { real lr, alpha; size_t iters, layers; } invert;
} clip_config;

/* ---- weights: where they lie, as stored ------------------------------------------------------- */
typedef enum { CLIP_F32, CLIP_F16, CLIP_BF16, CLIP_REAL } clip_type;
typedef struct {
    const void *data;         /* [rows, cols]; NULL: not there. Any alignment. */
    clip_type type;
    bool transposed;          /* stored [cols, rows]: open_clip's projections */
    size_t rows, cols;
    ag_tensor *leaf;          /* in training: the parameter itself; NULL otherwise */
} clip_weight;

typedef struct {
    clip_weight ln1_gamma, ln1_beta;              /* [1,D] */
    clip_weight q, q_bias, k, k_bias, v, v_bias;  /* [D,D], [1,D] */
    clip_weight out, out_bias;                    /* [D,D], [1,D] */
    clip_weight ln2_gamma, ln2_beta;              /* [1,D] */
    clip_weight fc1, fc1_bias, fc2, fc2_bias;     /* [F,D], [1,F], [D,F], [1,D] */
} clip_block_weights;

typedef struct {
    clip_config config;
    /* image side */
    clip_weight patch, class_token, position;     /* [D,3*p*p], [1,D], [1+grid^2,D] */
    clip_weight pre_gamma, pre_beta, post_gamma, post_beta, proj; /* [1,D].., [E,D] */
    clip_block_weights *blocks;                   /* vision.layers of them */
    /* text side */
    clip_weight token, text_position;             /* [vocab,W], [context,W] */
    clip_block_weights *text_blocks;
    clip_weight final_gamma, final_beta, text_proj; /* [1,W], [1,W], [E,W] */
    clip_weight logit_scale;                      /* [1,1], a logarithm */
} clip_model;

/* One line per weight: its field, its shape by the config. The reader, the writer, the trainer and `info` walk this
 * list instead of each knowing the layers. Calls visit(arg, weight, kind, layer, rows, cols) for every weight in a
 * fixed order; layer counts blocks, 0 elsewhere. False as soon as visit says false. */
typedef enum {
    W_PATCH, W_CLASS, W_POSITION, W_PRE_GAMMA, W_PRE_BETA, W_POST_GAMMA, W_POST_BETA, W_PROJ,
    W_TOKEN, W_TEXT_POSITION, W_FINAL_GAMMA, W_FINAL_BETA, W_TEXT_PROJ, W_LOGIT_SCALE,
    W_BLOCK, W_TEXT_BLOCK = W_BLOCK + 16, W_KINDS = W_TEXT_BLOCK + 16
} clip_kind; /* W_BLOCK + i: the i-th field of clip_block_weights */
typedef bool clip_visit(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols);
bool clip_each_weight(clip_model *m, clip_visit *visit, void *arg);

/* The weight as a tensor [1,rows,cols] (transposed ones [1,cols,rows]): its leaf in training, itself where its type
 * is `real` and its data aligned for it, converted into the arena otherwise. */
ag_tensor *clip_use(ag_tape *t, const clip_weight *w);
/* exp(logit_scale) */
real clip_logit_scale(const clip_model *m);

/* ---- image side ------------------------------------------------------------------------------- */
/* Pixels [3,height,width], already normalised -> [1, grid, 3*p*p], patches row-major. */
ag_tensor *clip_patches(ag_tape *t, const clip_model *m, const real *pixels, size_t height, size_t width);
typedef enum { POSITION_BICUBIC, POSITION_BILINEAR } position_resize; /* antialiased; CLIP Surgery's */
/* Position embedding for a grid: the model's own, or its patches' part resized (1.2), [1,1+gh*gw,D]. */
ag_tensor *clip_position(ag_tape *t, const clip_model *m, size_t gh, size_t gw, position_resize how);
/* patches [B,gh*gw,3pp] -> tokens after ln_pre, [B,1+gh*gw,D]. */
ag_tensor *clip_embed(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw, position_resize how);

typedef struct { /* what one block computes, in order; all on the tape's arena */
    ag_tensor *x0;        /* [B,n,D] input */
    ag_tensor *q, *k, *v; /* [B,n,D] */
    ag_tensor *A;         /* [B*H,n,n] after the softmax */
    ag_tensor *x1;        /* [B,n,D] after attention */
    ag_tensor *h;         /* [B,n,F] = W1 LN2(x1) + b1 */
    ag_tensor *x2;        /* [B,n,D] output */
} clip_taps;

/* The block's pieces; tower says heads and eps. */
void clip_qkv(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, ag_tensor *x, ag_tensor **q,
              ag_tensor **k, ag_tensor **v);
ag_tensor *clip_attention(ag_tape *t, const clip_tower *tower, ag_tensor *q, ag_tensor *k, bool causal); /* A */
ag_tensor *clip_out(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, ag_tensor *A, ag_tensor *v);
/* W2 act(h) + b2 with h = W1 LN2(x1) + b1; *h receives h where not NULL. */
ag_tensor *clip_mlp(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, act_kind act, ag_tensor *x1,
                    ag_tensor **h);
/* One block. taps NULL: no intermediate is kept (and, when not recording, attention runs head by head in little
 * memory). cut: A becomes a leaf of its own, x a constant: LeGrad's gradient starts there. */
ag_tensor *clip_block(ag_tape *t, const clip_tower *tower, const clip_block_weights *w, act_kind act, bool causal,
                      ag_tensor *x, clip_taps *taps, bool cut);
/* Blocks first..last-1. Not recording: memory of one block, whatever the depth. */
ag_tensor *clip_blocks(ag_tape *t, const clip_model *m, ag_tensor *x, size_t first, size_t last);
/* LN_post(x)·P of every row: x [B,r,D] -> [B,r,E]. */
ag_tensor *clip_project(ag_tape *t, const clip_model *m, ag_tensor *x);
/* tokens after the last block [B,n,D] -> image embeddings [B,1,E], pooled as the config says. */
ag_tensor *clip_head(ag_tape *t, const clip_model *m, ag_tensor *x);
/* All of it: patches [B,gh*gw,3pp] -> [B,1,E]. */
ag_tensor *clip_image(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw);

/* ---- text side ---------------------------------------------------------------------------------- */
/* ids [texts, length] (length <= context; shorter than context is exact: attention is causal) -> [texts,1,E], read
 * at each text's end-of-text, its first largest id. ids are checked against vocab. */
ag_tensor *clip_text(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t texts, size_t length);
#endif
