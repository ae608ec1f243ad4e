/* clip.h - CLIP and its family: image side and text side, written once, with a switch where families differ.
 *
 *     clip_model m;                                     // config and weights: filled by checkpoint.c
 *     ag_tape t; ag_tape_init(&t, &memory, cores, 64); t.recording = false;
 *     size_t gh, gw; clip_grid(&m.config, side, side, &gh, &gw);
 *     ag_tensor *patches = clip_patches(&t, &m, pixels, side, side);
 *     ag_tensor *z = clip_image(&t, &m, patches, gh, gw);                                          // [1,1,E]
 *
 * With the tape recording these functions train, without it they infer, and the explainers cut into them with
 * clip_qkv, clip_attention... Weights stay as they are stored (float16 in a mapped file, say) and are converted where
 * they are used, a block at a time. clip.c: weights; clip_image.c: pixels to embeddings; clip_block.c: the block;
 * clip_resnet.c: convolutions; clip_text.c: ids to embeddings, and captions.
 */
#ifndef CLIP_H
#define CLIP_H
#include "autograd.h"

/* ---- config: sizes, and the switches by which families differ (MODEL.md 1). All switches 0: OpenAI's ViT ---------- */
typedef struct {
    size_t width, layers, heads, mlp;
    real eps;
    bool layer_scale; /* ls_1, ls_2 multiply what a block adds (1.16) */
    bool post_norm;   /* LN of what a block adds, instead of what it reads (1.17) */
    bool sub_norm;    /* LN of the merged heads before W_o, and of the MLP before W2 (1.18) */
    bool swiglu;      /* MLP silu(gate)*h (1.19) */
    bool no_key_bias; /* k = W_k x */
} clip_tower;

typedef enum {
    CLIP_POOL_CLASS,   /* the class token (1.9) */
    CLIP_POOL_MEAN,    /* mean over all tokens before LN_post (1.10) */
    CLIP_POOL_PATCHES, /* mean over the patches (1.11) */
    CLIP_POOL_PROBE,   /* SigLIP, PE-Core: a learned query attends, then an MLP (1.12) */
    CLIP_POOL_QUERIES, /* CoCa: learned queries attend; the first is the image (1.13) */
    CLIP_POOL_CELLS,   /* ResNet: the mean of the cells attends (1.14) */
    CLIP_POOLS
} clip_pool;
typedef enum { CLIP_READ_LARGEST, CLIP_READ_EOS, CLIP_READ_LAST, CLIP_READ_FIRST } clip_read; /* (1.24) */

/* How a picture comes to image x image pixels, by the checkpoint's own files (MODEL.md 2). All 0: the standard CLIP
 * transform. */
typedef enum { RESIZE_SHORTEST, RESIZE_SQUASH, RESIZE_LONGEST, RESIZE_NONE } clip_resize;
typedef struct {
    clip_resize resize;
    size_t side;              /* resized to this before the centre crop; 0: to image */
    bool bilinear;            /* else bicubic */
    bool crop_down;           /* the crop begins at (side - image) / 2 rounded down, else half to even */
    unsigned char fill[3];    /* LONGEST: around the picture */
} clip_pixels;

typedef struct {
    clip_tower vision, text;
    size_t image, patch; /* pixels; image need be no multiple of patch: grid = image/patch, the last pixels unused */
    size_t embed;        /* E */
    size_t vocab, context;
    act_kind act_vision, act_text;
    clip_pool pool;
    real mean[3], std[3]; /* of pixels in [0,1] */
    clip_pixels pixels;
    /* what this model likes for MaskInversion, from its config; 0: not said */
    struct { real lr, alpha; size_t iters, layers, size; } invert;
    /* image side */
    clip_tower pooler;       /* of PROBE, QUERIES and CELLS: width of its queries, heads, mlp (0: none), eps */
    act_kind act_pooler;
    size_t queries;          /* of the pooler */
    bool no_class_token;     /* patches alone */
    bool no_ln_pre;          /* no LN before the first block */
    bool ln_after_pool;      /* PATCHES: LN_post of the mean, instead of before */
    bool patch_bias;         /* the patch convolution has a bias */
    bool no_proj, proj_bias; /* no projection P; P has a bias */
    bool unit_output;        /* CoCa: MaskInversion starts at the unit embedding */
    bool alpha;              /* AlphaCLIP: a fourth plane, the region, beside the pixels (1.15) */
    size_t resnet[4];        /* bottlenecks of the four stages; vision.width is 32w, vision.layers 0 */
    struct { size_t side; real offset; bool x_first; } rope; /* rotary positions; side 0: none (1.20) */
    /* text side */
    bool text_unmasked;      /* every token sees every other, padding included */
    clip_read read;          /* which row is the text's */
    size_t eos, pad;         /* ids: READ_EOS's; of the padding */
    bool no_text_proj, text_proj_bias;
    bool text_class;         /* CoCa: a class token after the ids (1.25) */
    bool text_long;          /* Long-CLIP: positions from 20 on in a second table */
    bool logit_bias;         /* SigLIP: logits are exp(scale) cos + bias, probabilities their sigmoid */
    clip_tower decoder;      /* CoCa's caption decoder; layers 0: none (1.26) */
} clip_config;

/* A ResNet's side must be a multiple of 32; a ViT's of the patch, but for its own side. False: it is not. */
bool clip_grid(const clip_config *c, size_t height, size_t width, size_t *gh, size_t *gw);
/* Tokens that stand before the patches: 1 or 0. */
static inline size_t clip_first(const clip_config *c) { return c->no_class_token ? 0 : 1; }
static inline bool clip_is_resnet(const clip_config *c) { return c->resnet[0] > 0; }
/* Is the embedding made by an attention of its own, after the blocks? */
static inline bool clip_has_pooler(const clip_config *c) { return c->pool >= CLIP_POOL_PROBE; }
/* SigLIP: a probe, and no projection. */
static inline bool clip_is_siglip(const clip_config *c) { return c->pool == CLIP_POOL_PROBE && c->no_proj; }
/* Layers that LeGrad can look at: the blocks; a ResNet has its pooler alone. */
static inline size_t clip_depth(const clip_config *c) { return c->vision.layers ? c->vision.layers : 1; }

/* ---- weights: where they lie, as stored ------------------------------------------------------- */
typedef enum {
    CLIP_F32, CLIP_F16, CLIP_BF16, CLIP_F64, CLIP_REAL,
    /* 32 numbers of a row in one block, as clip.cpp quantises them */
    CLIP_Q4_0, CLIP_Q4_1, CLIP_Q5_0, CLIP_Q5_1, CLIP_Q8_0,
    CLIP_TYPES
} clip_type;
/* As files call it: "F32", "Q4_0"...; "real" for CLIP_REAL, which lies in memory alone. */
const char *clip_type_name(clip_type type);
/* The type that files call so. False: weights have no such type. */
bool clip_type_find(const char *name, clip_type *type);
/* Bytes that `count` numbers take as stored; of blocked types a multiple of 32. */
size_t clip_bytes(clip_type type, size_t count);
/* Of one block; 0: the type has none. Its CLIP_BLOCK numbers as real. */
enum { CLIP_BLOCK = 32 };
size_t clip_block_bytes(clip_type type);
void clip_block_unpack(clip_type type, const unsigned char *p, real *x);
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
    /* where their switch is on */
    clip_weight gate, gate_bias;                  /* [F,D], [1,F] swiglu */
    clip_weight heads_gamma, heads_beta;          /* [1,D] sub_norm */
    clip_weight mlp_gamma, mlp_beta;              /* [1,F] sub_norm */
    clip_weight scale1, scale2;                   /* [1,D] layer_scale */
    clip_weight other_gamma, other_beta;          /* [1,K] LN of what a pooler or a cross attention looks at */
} clip_block_weights;
enum { /* its fields, as clip_each_weight counts them */
    B_LN1_GAMMA, B_LN1_BETA, B_Q, B_Q_BIAS, B_K, B_K_BIAS, B_V, B_V_BIAS, B_OUT, B_OUT_BIAS, B_LN2_GAMMA, B_LN2_BETA,
    B_FC1, B_FC1_BIAS, B_FC2, B_FC2_BIAS, B_GATE, B_GATE_BIAS, B_HEADS_GAMMA, B_HEADS_BETA, B_MLP_GAMMA, B_MLP_BETA,
    B_SCALE1, B_SCALE2, B_OTHER_GAMMA, B_OTHER_BETA, CLIP_BLOCK_FIELDS
};

typedef struct { clip_weight kernel, gamma, beta, mean, variance; } clip_conv_weights; /* [O,C*k*k], [1,O].. */
enum { CLIP_CONV_FIELDS = 5 };

typedef struct {
    clip_config config;
    /* image side */
    clip_weight patch, class_token, position;     /* [D,3*p*p], [1,D], [first+grid^2,D] */
    clip_weight pre_gamma, pre_beta, post_gamma, post_beta, proj; /* [1,D].., [E,D] */
    clip_weight patch_bias, patch_alpha, proj_bias, query; /* [1,D], [D,p*p], [1,E], [queries,width] */
    clip_block_weights *blocks;                   /* vision.layers of them */
    clip_block_weights *pooler;                   /* one, or none */
    clip_conv_weights *convs;                     /* clip_convs(config) of them */
    /* text side */
    clip_weight token, text_position;             /* [vocab,W], [context,W] */
    clip_weight text_position_long, text_class, text_proj_bias; /* [context,W], [1,W], [1,E] */
    clip_block_weights *text_blocks;
    clip_weight final_gamma, final_beta, text_proj; /* [1,W], [1,W], [E,W] */
    clip_weight logit_scale, logit_bias;          /* [1,1], a logarithm; [1,1] */
    /* caption decoder: each block of the text, then one that looks at the image's tokens */
    clip_block_weights *decoder_blocks, *cross_blocks;
    clip_weight decoder_gamma, decoder_beta, decoder_proj; /* [1,W], [1,W], [vocab,W] */
} clip_model;

/* One line per weight: its field, its shape by the config. The reader, the writer, the trainer and `info` walk this
 * list instead of each knowing the layers. Calls visit(arg, weight, kind, layer, rows, cols) for every weight that the
 * config's switches call for, in a fixed order; layer counts blocks (or convolutions), 0 elsewhere. False as soon as
 * visit says false. */
typedef enum {
    W_PATCH, W_CLASS, W_POSITION, W_PRE_GAMMA, W_PRE_BETA, W_POST_GAMMA, W_POST_BETA, W_PROJ,
    W_PATCH_BIAS, W_PATCH_ALPHA, W_PROJ_BIAS, W_QUERY,
    W_TOKEN, W_TEXT_POSITION, W_FINAL_GAMMA, W_FINAL_BETA, W_TEXT_PROJ,
    W_TEXT_POSITION_LONG, W_TEXT_CLASS, W_TEXT_PROJ_BIAS,
    W_DECODER_GAMMA, W_DECODER_BETA, W_DECODER_PROJ, W_LOGIT_SCALE, W_LOGIT_BIAS,
    W_CONV, W_POOLER = W_CONV + CLIP_CONV_FIELDS,
    W_BLOCK = W_POOLER + CLIP_BLOCK_FIELDS, W_TEXT_BLOCK = W_BLOCK + CLIP_BLOCK_FIELDS,
    W_DECODER_BLOCK = W_TEXT_BLOCK + CLIP_BLOCK_FIELDS, W_CROSS_BLOCK = W_DECODER_BLOCK + CLIP_BLOCK_FIELDS,
    W_KINDS = W_CROSS_BLOCK + CLIP_BLOCK_FIELDS
} clip_kind; /* W_BLOCK + i: the i-th field of clip_block_weights */
typedef bool clip_visit(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols);
bool clip_each_weight(clip_model *m, clip_visit *visit, void *arg);
/* Of the text side, and of the decoder with it? */
bool clip_of_text(clip_kind kind);

/* Convolutions of a ResNet, in order: the stem's three, then each bottleneck's conv1, conv2, conv3 and, in the first of
 * a stage, the one beside them. */
typedef struct { size_t stage, block, part, in, out, side; } clip_conv; /* stage 0: stem; part 3: beside; side 1 or 3 */
size_t clip_convs(const clip_config *c);
clip_conv clip_conv_at(const clip_config *c, size_t index);

static inline bool clip_there(const clip_weight *w) { return w->data || w->leaf; }
/* The weight as a tensor [1,rows,cols] (transposed ones [1,cols,rows]): its leaf in training, itself where its type
 * is `real` and its data aligned for it, converted into the arena otherwise. NULL without a fault: it is not there. */
ag_tensor *clip_use(ag_tape *t, const clip_weight *w);
/* Some rows of a table: in inference only they are converted, not the whole (a vocabulary is large). [1,count,cols] */
ag_tensor *clip_use_rows(ag_tape *t, const clip_weight *w, const uint32_t *index, size_t count);
/* Its numbers where they lie, if they can be used so, aligned and of type `real`; else NULL. */
const real *clip_in_place(const clip_weight *w);
/* Number i of a weight, in the order in which they are stored. */
real clip_number(const clip_weight *w, size_t i);
/* Stored numbers from..from+count-1 in a row; from is a multiple of 32, count too unless the weight ends there. */
void clip_numbers(const clip_weight *w, size_t from, size_t count, real *out);
/* x W^T + b, however W is stored; bias may be NULL or not there. */
ag_tensor *clip_linear(ag_tape *t, const clip_weight *W, const clip_weight *bias, ag_tensor *x);
/* The same, and its function in one go: act(x W^T + b). */
ag_tensor *clip_linear_act(ag_tape *t, const clip_weight *W, const clip_weight *bias, ag_tensor *x, act_kind kind);
/* LN(x), or x where the norm is not there. */
ag_tensor *clip_norm(ag_tape *t, const clip_weight *gamma, const clip_weight *beta, real eps, ag_tensor *x);
uint32_t *clip_index(ag_tape *t, size_t count); /* room for a table of rows */
/* exp(logit_scale); logit_bias or 0 */
real clip_logit_scale(const clip_model *m);
real clip_logit_bias(const clip_model *m);

/* ---- image side ------------------------------------------------------------------------------- */
/* Pixels [3,height,width], already normalised -> [1, grid, 3*p*p], patches row-major. A model with an alpha plane gets
 * patches of 4*p*p: alpha [height,width] is the region (mask - 0.5)/0.26; NULL: all of the picture. */
ag_tensor *clip_patches(ag_tape *t, const clip_model *m, const real *pixels, size_t height, size_t width);
ag_tensor *clip_patches_alpha(ag_tape *t, const clip_model *m, const real *pixels, const real *alpha, size_t height,
                              size_t width);
/* antialiased; CLIP Surgery's; a = -3/4 (MaskCLIP); the same, a tenth of a cell more asked for than there is (NACLIP, SCLIP...) */
typedef enum { POSITION_BICUBIC, POSITION_BILINEAR, POSITION_CUBIC, POSITION_CLAMPED } position_resize;
/* [mean; cells] of a ResNet, [B,1+gh*gw,D], as its pooler reads them but for their positions. */
ag_tensor *clip_cells(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw);
/* Position embedding for a grid: the model's own, or its patches' part resized (1.2), [1,first+gh*gw,D]. */
ag_tensor *clip_position(ag_tape *t, const clip_model *m, size_t gh, size_t gw, position_resize how);
/* patches [B,gh*gw,3pp] -> tokens before the first block, [B,first+gh*gw,D]. */
ag_tensor *clip_embed(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw, position_resize how);

typedef struct {         /* a tower at work: what its blocks need beside their weights */
    const clip_tower *tower;
    act_kind act;
    bool causal;
    ag_tensor *mask;     /* [1,n,n] added to the logits; NULL: none */
    ag_tensor *turn;     /* [1,gh*gw,d] rotary positions: cos, sin a pair; NULL: none */
    size_t first;        /* rows that do not turn */
} clip_run;
/* The image side's on a grid. Where memory ends, the tape has the fault. */
clip_run clip_image_run(ag_tape *t, const clip_model *m, size_t gh, size_t gw);

typedef struct { /* what one block computes, in order; all on the tape's arena */
    ag_tensor *x0;        /* [B,n,D] input */
    ag_tensor *q, *k, *v; /* [B,n,D] */
    ag_tensor *A;         /* [B*H,n,n] after the softmax */
    ag_tensor *mixed;     /* [B,n,D] concat_h A^h v^h */
    ag_tensor *attended;  /* [B,n,D] W_o of it (of its LN) + b_o */
    ag_tensor *x1;        /* [B,n,D] after attention */
    ag_tensor *h;         /* [B,n,F] = W1 LN2(x1) + b1 */
    ag_tensor *gate;      /* [B,n,F] swiglu's, else NULL */
    ag_tensor *inner;     /* [B,n,F] what W2 reads, before its LN */
    ag_tensor *deep;      /* [B,n,D] what W2 gives, with its bias */
    ag_tensor *x2;        /* [B,n,D] output */
} clip_taps;

/* The block's pieces. taps may be NULL where it is not asked for more than it returns. */
void clip_qkv(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, ag_tensor **q, ag_tensor **k,
              ag_tensor **v);
real clip_attention_factor(const clip_tower *tower); /* 1/sqrt(d) */
ag_tensor *clip_attention(ag_tape *t, const clip_run *run, ag_tensor *q, ag_tensor *k); /* A */
/* What attention adds to x0, from the merged heads [B,n,D]. */
ag_tensor *clip_merge(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *mixed, clip_taps *taps);
/* What the MLP adds to x1. */
ag_tensor *clip_mlp(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x1, clip_taps *taps);
/* One block. taps NULL: no intermediate is kept (and, when not recording, attention runs head by head in little
 * memory). cut: A becomes a leaf of its own, x a constant: LeGrad's gradient starts there. */
ag_tensor *clip_block(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, clip_taps *taps,
                      bool cut);
/* Blocks w[first..last-1]. Not recording: memory of one block, whatever the depth. */
ag_tensor *clip_blocks(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, size_t first,
                       size_t last);
/* All blocks, of each picture or text the one row that is read afterwards: x [B,n,D], rows [B] of its B*n -> [B,1,D]. Not
 * recording, the last block computes no other row further than k and v. */
ag_tensor *clip_blocks_read(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x, const uint32_t *rows);
/* The pooler: tokens [B,n,D] -> pooled [B,rows,width], rows 1 or (QUERIES) all of them. In taps: v, A [B*H,rows,n],
 * mixed, x1, h, inner. cut as in clip_block. */
ag_tensor *clip_pooled(ag_tape *t, const clip_model *m, ag_tensor *x, size_t rows, clip_taps *taps, bool cut);
/* Pooled or normed rows to embeddings: x P + b; x itself where the model has no P. */
ag_tensor *clip_proj(ag_tape *t, const clip_model *m, ag_tensor *x);
/* clip_proj of LN_post(x), row by row: x [B,r,D] -> [B,r,E]. For models without a pooler. */
ag_tensor *clip_project(ag_tape *t, const clip_model *m, ag_tensor *x);
/* tokens after the last block [B,n,D] -> image embeddings [B,1,E], pooled as the config says. */
ag_tensor *clip_head(ag_tape *t, const clip_model *m, ag_tensor *x);
/* The same, with what the pooler of a model that has one computes; cut as in clip_block. */
ag_tensor *clip_head_taps(ag_tape *t, const clip_model *m, ag_tensor *x, clip_taps *taps, bool cut);
/* All of it: patches [B,gh*gw,3pp] -> [B,1,E]. */
ag_tensor *clip_image(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw);
/* The same of one picture, on a tape of its own: pixels [3,height,width] -> out [E]. */
bool clip_image_embed(const clip_model *m, const real *pixels, const real *alpha, size_t height, size_t width, arena *memory, pool *cores,
                      real *out, fault *f);
/* The ResNet's convolutions: patches as clip_patches has them (of 32) -> cells [B,gh*gw,D]. Inference alone. */
ag_tensor *clip_resnet(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw);

/* ---- text side ---------------------------------------------------------------------------------- */
/* ids [texts, length] (length <= context; where every token sees every other, or the last is read, the rest is padded
 * here) -> [texts,1,E], read at the row that the config names. ids are checked against vocab. */
ag_tensor *clip_text(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t texts, size_t length);

/* ---- captions (CoCa) ------------------------------------------------------------------------------ */
/* The image's tokens for the decoder: tokens after the last block [1,n,D] -> [1,queries-1,E]. */
ag_tensor *clip_caption_image(ag_tape *t, const clip_model *m, ag_tensor *x);
/* Logits of the next id at every place: ids [length] -> [1,length,vocab]; last: of the last place alone, [1,1,vocab]. */
ag_tensor *clip_caption_logits(ag_tape *t, const clip_model *m, ag_tensor *image, const uint32_t *ids, size_t length,
                               bool last);
typedef struct {
    size_t start, end;  /* ids */
    size_t most, least; /* ids in all, start included; the end cannot come before `least` are there */
    size_t beams;       /* 1: greedy */
} clip_caption_options;
/* The decoder's own: start and end the last two of the vocabulary, 30, 5, greedy. */
clip_caption_options clip_caption_defaults(const clip_config *c);
/* ids [most] of the likeliest caption found, start and (where it came) end included; *count of them. */
bool clip_caption(ag_tape *t, const clip_model *m, ag_tensor *image, const clip_caption_options *o, uint32_t *ids,
                  size_t *count);
#endif
