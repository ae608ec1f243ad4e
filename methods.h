/* methods.h - the explainers, side by side: which patches of a picture speak for a text.
 *
 *     const method *how = method_find("surgery");
 *     explainer x;
 *     if (!method_open(&x, how, &model, pixels, side, side, &(method_options){0}, &memory, cores, &f)) ...
 *     method_grids(&x, texts, 3, empty, grids, &f);             // [3, gh, gw] raw relevance
 *     method_map(&x, grids, map, &f);                           // [side, side] in 0..1
 *
 * Three families (MODEL.md 6):
 *   attention   how the pooled token attends; no text in it
 *   gradient    how the score's gradient weighs the attention
 *   features    a cosine of patch and text, after the last blocks' attention was changed: one row of METHOD_LIST each
 *
 * Where an attention of its own pools the tokens (SigLIP, PE-Core, CoCa, ResNets), it counts as the last of the layers that
 * the first two look at; of the third a ResNet has surgery and maskclip, and the other three families have none: FAMILY.
 */
#ifndef METHODS_H
#define METHODS_H
#include "explain.h"

typedef enum { FAMILY_LEGRAD, FAMILY_ATTENTION, FAMILY_GRADIENT, FAMILY_FEATURES } method_family;
typedef struct method method;
typedef struct explainer explainer;
typedef struct head_inputs head_inputs; /* a block, for the rows alone: see below */

struct method { /* a row; what a family does not ask for is left out */
    const char *name, *what, *source;
    method_family family;
    size_t blocks; /* features: last blocks changed unless told; others: last layers looked at (0: all) */
    bool free;     /* another number of blocks may be asked for */
    bool together; /* texts are compared with one another, or one with the empty text */
    bool clusters;    /* its authors label by clusters of what correlates: explainer.clean is made */
    size_t templates; /* of the built-in ones in which its authors embed a name, unless told otherwise; 0: the text alone */
    /* features: the second path (MODEL.md 6), and how its tokens meet the texts */
    ag_tensor *(*attend)(const head_inputs *); /* in softmax(q k^T)'s place; NULL: every token attends to itself alone */
    bool chain;    /* the second path starts as the first block's input, and each block adds to it; else: at zero */
    bool residual; /* each block adds its input too */
    bool mlp;      /* ... and its MLP */
    position_resize position;
    enum { CELLS_NONE, CELLS_PLACED, CELLS_BARE } cells; /* has a form for a ResNet's cells, with or without their positions */
    bool (*score)(explainer *x, const real *texts, size_t count, const real *empty, real *grids);
    bool (*open)(explainer *x, ag_tensor *patches, const real *pixels); /* in the second path's place; NULL: that */
    /* attention, gradient: the pooled token's relevance [1,1,n]; steer: in an inversion, where it depends on e */
    ag_tensor *(*row)(explainer *x), *(*steer)(explainer *x);
    bool (*map)(explainer *x, const real *grid, real *map, fault *f); /* a grid becomes a map */
};

/* The one list: the table of methods, the choices of --method and the help are made of it. After the six columns that all
 * read come the row's own functions and switches (methods.c). */
#define METHOD_LIST(ROW)                                                                                          \
    ROW("legrad", "relu of the score's gradient by attention, each layer alone",                                  \
        "LeGrad, eq. 5-8", LEGRAD, 2, true,                                                                       \
        .map = legrad_map)                                                                                        \
    ROW("attention", "how the pooled token attends in the last layer, no text",                                   \
        "DINO, fig. 1", ATTENTION, 1, false,                                                                      \
        .row = last_attention, .map = map_of_grid)                                                                \
    ROW("rollout", "attention multiplied through the layers, no text",                                            \
        "Abnar & Zuidema 2020, sec. 3", ATTENTION, 0, true,                                                       \
        .row = rollout, .steer = rollout_weighted, .map = map_of_grid)                                            \
    ROW("gradcam", "heads weighted by their mean gradient",                                                       \
        "Chefer et al., generate_cam_attn", GRADIENT, 1, false,                                                   \
        .row = gradcam, .steer = gradcam, .map = map_of_unit_grid)                                                \
    ROW("chefer", "relu(gradient x attention) propagated through the layers",                                     \
        "Transformer-MM-Explainability, eq. 5-6", GRADIENT, 1, true,                                              \
        .row = chefer, .steer = chefer, .map = map_of_grid)                                                       \
    ROW("similarity", "cosine of patch and text",                                                                 \
        "raw CLIP", FEATURES, 0, false,                                                                           \
        .chain = true, .score = method_cosine_grids, .map = map_of_unit_grid)                                     \
    ROW("maskclip", "values instead of attention in the last block",                                              \
        "MaskCLIP, sec. 3.2", FEATURES, 1, true,                                                                  \
        .residual = true, .mlp = true, .position = POSITION_CUBIC, .cells = CELLS_BARE,                           \
        .score = method_cosine_grids, .map = map_of_grid)                                                         \
    ROW("surgery", "a second path of v-v attention, redundant features removed",                                  \
        "CLIP Surgery, eq. 3-8", FEATURES, 6, true,                                                               \
        .together = true, .templates = 85, .attend = attend_vv, .chain = true, .position = POSITION_BILINEAR,     \
        .cells = CELLS_PLACED, .score = surgery_grids, .map = map_of_unit_grid)                                   \
    ROW("sclip", "q-q plus k-k attention in the last block",                                                      \
        "SCLIP, eq. 4", FEATURES, 1, true,                                                                        \
        .templates = 80, .attend = attend_qq_kk, .residual = true, .mlp = true, .position = POSITION_CLAMPED,     \
        .score = method_cosine_grids, .map = map_of_grid)                                                         \
    ROW("clearclip", "q-q attention, no residual, no MLP",                                                        \
        "ClearCLIP, eq. 6", FEATURES, 1, true,                                                                    \
        .templates = 80, .attend = attend_qq, .position = POSITION_CLAMPED, .score = method_cosine_grids,         \
        .map = map_of_grid)                                                                                       \
    ROW("gem", "normalised self-self attention of q, k and v, a second path",                                     \
        "GEM, eq. 4-6", FEATURES, 6, true,                                                                        \
        .attend = attend_gem, .chain = true, .score = method_cosine_grids, .map = map_of_grid)                    \
    ROW("naclip", "k-k attention pulled to the neighbourhood, no residual, no MLP",                               \
        "NACLIP, eq. 5-7", FEATURES, 1, true,                                                                     \
        .templates = 80, .attend = attend_kk_near, .position = POSITION_CLAMPED, .score = method_cosine_grids,    \
        .map = map_of_grid)                                                                                       \
    ROW("resclip", "NACLIP's attention with middle blocks' added, and labels that hold together",                 \
        "ResCLIP, eq. 4-9", FEATURES, 1, false,                                                                   \
        .templates = 80, .open = method_open_resclip, .position = POSITION_CLAMPED,                               \
        .score = method_resclip_grids, .map = map_of_grid)                                                        \
    ROW("scclip", "outliers repaired, patches gathered by likeness, two passes",                                  \
        "SC-CLIP, eq. 3-10", FEATURES, 1, false,                                                                  \
        .templates = 80, .open = method_open_scclip, .position = POSITION_CLAMPED,                                \
        .score = method_cosine_grids, .map = map_of_grid)                                                         \
    ROW("cliptrase", "q-q, k-k and v-v attention summed in the last block",                                       \
        "CLIPtrase, eq. 4", FEATURES, 1, false,                                                                   \
        .clusters = true, .open = method_open_cliptrase, .attend = method_attend_qkv, .residual = true,           \
        .mlp = true, .position = POSITION_CLAMPED, .score = method_cosine_grids, .map = map_of_grid)

size_t method_count(void);
const method *method_at(size_t i);
const method *method_find(const char *name); /* NULL: no such method */

typedef enum { BASE_NACLIP, BASE_SCLIP, BASE_CLEARCLIP } method_base; /* ResCLIP's attention */
typedef struct { real tau_r, lambda_r, tau_s, lambda_s, temp_thd; method_base base; } method_settings; /* ResCLIP's (MODEL.md 6.5) */
/* How many of the model's layers it can change or look at. */
size_t method_depth(const method *how, const clip_config *c);
method_settings method_defaults(void); /* those of VOC21: 2, .3, 2.2, .7, .5, NACLIP's base */
typedef struct {
    size_t blocks;                   /* 0: the method's own number */
    const method_settings *settings; /* NULL: the defaults */
    const real *usual;               /* legrad of SigLIP: explain_options.usual */
    const real *alpha;               /* AlphaCLIP: explain_options.alpha */
    size_t batch;                    /* pictures of one size side by side; 0: one. Of the features family */
    bool patches_only;               /* features: nobody asks for explainer.tokens' row 0, so the last plain block is spared */
} method_options;
typedef struct method_kept method_kept; /* methods_dense.c */

struct explainer {
    const method *how;
    bool steered; /* in an inversion: how->steer in how->row's place, with the gradient at hand */
    const clip_model *model;
    arena *memory;
    pool *cores;
    size_t batch, height, width, gh, gw, n, blocks; /* n tokens, the class token (where there is one) the first */
    bool patches_only;
    ag_tape tape;
    clip_run run;
    real *tokens;       /* features: [batch,n,E] projected, not normalised; row 0 is the plain path's: the image embedding (a
                         * ResNet's cells: their mean's) */
    ag_tensor **A;      /* gradient: [H,n,n] of each layer looked at, lowest first; attention: [1,n,n], heads' mean; a
                         * pooler's, the last: [H,1,n], [1,1,n] */
    ag_tensor *z;       /* gradient: [1,1,E] the image embedding */
    ag_tensor *z_unit;  /* and its direction */
    real *clean;        /* cliptrase: [batch,P,P] which patches correlate (6.29); else NULL */
    method_settings settings;
    method_kept *kept; /* resclip: between its passes; the caller's pixels must live as long */
    explained legrad;
};

/* One forward pass over pixels [batch,3,height,width]. Keeps what it needs in memory. Of sides that are no multiples of
 * the patch the rest is not seen (but by ResCLIP's PAMR); LeGrad refuses them. Faults: RANGE (blocks, batch), SHAPE
 * (pixels), FAMILY (it has no meaning for this model), MEMORY, TAPE. */
bool method_open(explainer *x, const method *how, const clip_model *m, const real *pixels, size_t height, size_t width,
                 const method_options *o, arena *memory, pool *cores, fault *f);
/* texts [count,E] of unit length -> grids [batch,count,gh,gw], relevance as the method defines it, not normalised.
 * empty [E]: the unit embedding of the empty text; only Surgery with one text needs it (RANGE when it is missing). */
bool method_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids, fault *f);
/* One grid -> map [height,width] in 0..1, in the order the method's code does it. Fault: FLAT. */
bool method_map(explainer *x, const real *grid, real *map, fault *f);

/* SC-CLIP's local outlier factor (MODEL.md 6.6): patches [P,D] -> which are outliers [P], and their scores [P] (NULL: not
 * asked for). Fault: MEMORY. */
bool method_outliers(const real *patches, size_t P, size_t D, double *scores, bool *outlier, arena *memory, fault *f);

/* CLIP Surgery's points for SAM (MODEL.md 6): the grid taken to half its side, unit, cells of at least 0.8 (half of all
 * at most) and as many of the lowest; in pixels of a photograph [height,width]. points [gh/2 * gw/2 * 2] is the
 * caller's. First the positives, then the negatives, each from low to high. Faults: FLAT, MEMORY. */
typedef struct { size_t x, y; bool positive; } map_point;
bool method_points(explainer *x, const real *grid, size_t height, size_t width, map_point *points, size_t *count,
                   fault *f);

/* The gradient family on x->tape, differentiable in e_unit [1,1,E] when flags say so: R as [1,gh,gw]. */
ag_tensor *method_tape_grid(explainer *x, ag_tensor *e_unit, int flags);
/* A row with a `steer` (gradcam, chefer, rollout) as an inversion's explainer (explain_options.other); NULL: name is none.
 * rollout is its gradient-weighted form, since the plain one does not know e. x is the caller's and outlives the
 * inversion. */
const explain_other *method_other(explainer *x, const char *name, explain_other *other);

/* ---- what the rows of the table share, private to them (methods.c, methods_dense.c): one block, ready for an attention
 * of its own */
struct head_inputs {
    ag_tape *t;
    const clip_tower *tower;
    const clip_block_weights *w;
    ag_tensor *x;       /* [1,n,D] */
    ag_tensor *q, *k, *v;
    size_t gh, gw;
    real factor;        /* 1/sqrt(d) */
};
/* Block w of the model with q, k, v of its input x. */
head_inputs method_inputs(explainer *x, const clip_block_weights *w, ag_tensor *in);
/* What one changed block adds to the second path, from the plain path's x [batch,n,D]. */
ag_tensor *method_second_path(explainer *x, const clip_block_weights *w, ag_tensor *in);
ag_tensor *method_self_attention(const head_inputs *in, ag_tensor *a); /* softmax(a a^T / sqrt d) [H,n,n] */
ag_tensor *method_neighbourhood(const head_inputs *in);                /* NACLIP's omega [1,n,n] */
/* Unit tokens [1,n,E] (x->tokens) against unit texts: grids [count,gh,gw]. */
bool method_cosine_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids);

/* methods_dense.c: sums of three attentions; SC-CLIP; ResCLIP. */
ag_tensor *method_attend_qkv(const head_inputs *in);
bool method_open_cliptrase(explainer *x, ag_tensor *patches, const real *pixels);
bool method_open_scclip(explainer *x, ag_tensor *patches, const real *pixels);
bool method_open_resclip(explainer *x, ag_tensor *patches, const real *pixels);
bool method_resclip_grids(explainer *x, const real *texts, size_t count, const real *empty, real *grids);
#endif
