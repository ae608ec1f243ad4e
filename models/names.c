/* names.c - the tables of names (see names.h). */
#include "models/names.h"
#include <stdio.h>
#include <string.h>

typedef struct {
    int what; /* a clip_kind, or a field of a block */
    const char *name;
    name_form form;
    unsigned char part, parts; /* 0, 0: whole */
} row;

struct name_layout {
    const char *title, *sign; /* sign: a tensor that this layout alone has */
    const char *root, *block, *pooler;
    const row *single, *blocks, *pool;
};

#define NORM(field, name) {field##_GAMMA, name ".weight", FORM_VECTOR, 0, 0}, {field##_BETA, name ".bias", FORM_VECTOR, 0, 0}
#define LINEAR(field, name) {field, name ".weight", FORM_MATRIX, 0, 0}, {field##_BIAS, name ".bias", FORM_VECTOR, 0, 0}
#define PART(field, weight, bias, i, of) {field, weight, FORM_MATRIX, i, of}, {field##_BIAS, bias, FORM_VECTOR, i, of}
#define VECTOR(field, name) {field, name, FORM_VECTOR, 0, 0}
#define MATRIX(field, name) {field, name, FORM_MATRIX, 0, 0}
#define END {-1, NULL, FORM_MATRIX, 0, 0}

/* ---- OpenAI's and open_clip's own, AlphaCLIP's, CoCa's ------------------------------------------------ */
static const row OPEN_CLIP_BLOCK[] = {
    NORM(B_LN1, "ln_1"),
    PART(B_Q, "attn.in_proj_weight", "attn.in_proj_bias", 0, 3),
    PART(B_K, "attn.in_proj_weight", "attn.in_proj_bias", 1, 3),
    PART(B_V, "attn.in_proj_weight", "attn.in_proj_bias", 2, 3),
    PART(B_Q, "attn.in_proj.weight", "attn.in_proj.bias", 0, 3),
    PART(B_K, "attn.in_proj.weight", "attn.in_proj.bias", 1, 3),
    PART(B_V, "attn.in_proj.weight", "attn.in_proj.bias", 2, 3),
    LINEAR(B_OUT, "attn.out_proj"),
    NORM(B_LN2, "ln_2"),
    LINEAR(B_FC1, "mlp.c_fc"),
    LINEAR(B_FC2, "mlp.c_proj"),
    VECTOR(B_SCALE1, "ls_1.gamma"),
    VECTOR(B_SCALE2, "ls_2.gamma"),
    NORM(B_OTHER, "ln_1_kv"),
    END};

static const row OPEN_CLIP_POOLER[] = {
    NORM(B_LN1, "ln_q"),
    NORM(B_OTHER, "ln_k"),
    MATRIX(B_Q, "attn.q_proj_weight"),
    MATRIX(B_K, "attn.k_proj_weight"),
    MATRIX(B_V, "attn.v_proj_weight"),
    PART(B_Q, "attn.in_proj_weight", "attn.in_proj_bias", 0, 3),
    PART(B_K, "attn.in_proj_weight", "attn.in_proj_bias", 1, 3),
    PART(B_V, "attn.in_proj_weight", "attn.in_proj_bias", 2, 3),
    LINEAR(B_OUT, "attn.out_proj"),
    END};

static const row OPEN_CLIP_IMAGE[] = {
    {W_PATCH, "conv1.weight", FORM_CONVOLUTION, 0, 0},
    {W_PATCH_ALPHA, "conv1_alpha.weight", FORM_CONVOLUTION, 0, 0},
    VECTOR(W_CLASS, "class_embedding"),
    MATRIX(W_POSITION, "positional_embedding"),
    NORM(W_PRE, "ln_pre"),
    NORM(W_POST, "ln_post"),
    {W_PROJ, "proj", FORM_PROJECTION, 0, 0},
    MATRIX(W_QUERY, "attn_pool.query"),
    END};

static const row OPEN_CLIP_TEXT[] = {
    MATRIX(W_TOKEN, "token_embedding.weight"),
    MATRIX(W_TEXT_POSITION, "positional_embedding"),
    MATRIX(W_TEXT_POSITION_LONG, "positional_embedding_res"),
    VECTOR(W_TEXT_CLASS, "cls_emb"),
    NORM(W_FINAL, "ln_final"),
    {W_TEXT_PROJ, "text_projection", FORM_PROJECTION, 0, 0},
    LINEAR(W_TEXT_PROJ, "text_projection"),
    END};

static const row OPEN_CLIP_DECODER[] = {
    NORM(W_DECODER, "ln_final"),
    {W_DECODER_PROJ, "text_projection", FORM_PROJECTION, 0, 0},
    END};

static const row RESNET_IMAGE[] = {MATRIX(W_POSITION, "attnpool.positional_embedding"), END};
static const row RESNET_POOLER[] = {LINEAR(B_Q, "q_proj"), LINEAR(B_K, "k_proj"), LINEAR(B_V, "v_proj"),
                                    LINEAR(B_OUT, "c_proj"), END};

/* ---- Hugging Face's CLIPModel, MetaClip2Model, SiglipModel -------------------------------------------- */
static const row HUGGING_FACE_BLOCK[] = {
    NORM(B_LN1, "layer_norm1"),       LINEAR(B_Q, "self_attn.q_proj"), LINEAR(B_K, "self_attn.k_proj"),
    LINEAR(B_V, "self_attn.v_proj"),  LINEAR(B_OUT, "self_attn.out_proj"), NORM(B_LN2, "layer_norm2"),
    LINEAR(B_FC1, "mlp.fc1"),         LINEAR(B_FC2, "mlp.fc2"),
    END};

static const row HUGGING_FACE_POOLER[] = {
    PART(B_Q, "attention.in_proj_weight", "attention.in_proj_bias", 0, 3),
    PART(B_K, "attention.in_proj_weight", "attention.in_proj_bias", 1, 3),
    PART(B_V, "attention.in_proj_weight", "attention.in_proj_bias", 2, 3),
    LINEAR(B_OUT, "attention.out_proj"),
    NORM(B_LN2, "layernorm"),
    LINEAR(B_FC1, "mlp.fc1"),
    LINEAR(B_FC2, "mlp.fc2"),
    END};

static const row HUGGING_FACE_IMAGE[] = {
    {W_PATCH, "vision_model.embeddings.patch_embedding.weight", FORM_CONVOLUTION, 0, 0},
    VECTOR(W_PATCH_BIAS, "vision_model.embeddings.patch_embedding.bias"),
    VECTOR(W_CLASS, "vision_model.embeddings.class_embedding"),
    MATRIX(W_POSITION, "vision_model.embeddings.position_embedding.weight"),
    NORM(W_PRE, "vision_model.pre_layrnorm"),
    NORM(W_POST, "vision_model.post_layernorm"),
    MATRIX(W_PROJ, "visual_projection.weight"),
    MATRIX(W_QUERY, "vision_model.head.probe"),
    END};

static const row HUGGING_FACE_TEXT[] = {
    MATRIX(W_TOKEN, "text_model.embeddings.token_embedding.weight"),
    MATRIX(W_TEXT_POSITION, "text_model.embeddings.position_embedding.weight"),
    NORM(W_FINAL, "text_model.final_layer_norm"),
    MATRIX(W_TEXT_PROJ, "text_projection.weight"),
    LINEAR(W_TEXT_PROJ, "text_model.head"),
    END};

/* ---- timm's image towers within open_clip: SigLIP, EVA, PE-Core, plain ViT ------------------------------ */
static const row TIMM_BLOCK[] = {
    NORM(B_LN1, "norm1"),
    PART(B_Q, "attn.qkv.weight", "attn.qkv.bias", 0, 3),
    PART(B_K, "attn.qkv.weight", "attn.qkv.bias", 1, 3),
    PART(B_V, "attn.qkv.weight", "attn.qkv.bias", 2, 3),
    VECTOR(B_Q_BIAS, "attn.q_bias"),
    VECTOR(B_V_BIAS, "attn.v_bias"),
    LINEAR(B_Q, "attn.q_proj"),
    LINEAR(B_K, "attn.k_proj"),
    LINEAR(B_V, "attn.v_proj"),
    NORM(B_HEADS, "attn.norm"),
    LINEAR(B_OUT, "attn.proj"),
    NORM(B_LN2, "norm2"),
    LINEAR(B_GATE, "mlp.fc1_g"),
    LINEAR(B_FC1, "mlp.fc1"),
    LINEAR(B_FC1, "mlp.fc1_x"),
    NORM(B_MLP, "mlp.norm"),
    LINEAR(B_FC2, "mlp.fc2"),
    VECTOR(B_SCALE1, "ls1.gamma"),
    VECTOR(B_SCALE2, "ls2.gamma"),
    END};

static const row TIMM_POOLER[] = {
    LINEAR(B_Q, "q"),
    PART(B_K, "kv.weight", "kv.bias", 0, 2),
    PART(B_V, "kv.weight", "kv.bias", 1, 2),
    LINEAR(B_OUT, "proj"),
    NORM(B_LN2, "norm"),
    LINEAR(B_FC1, "mlp.fc1"),
    LINEAR(B_FC2, "mlp.fc2"),
    END};

static const row TIMM_IMAGE[] = {
    {W_PATCH, "patch_embed.proj.weight", FORM_CONVOLUTION, 0, 0},
    VECTOR(W_PATCH_BIAS, "patch_embed.proj.bias"),
    VECTOR(W_CLASS, "cls_token"),
    MATRIX(W_POSITION, "pos_embed"),
    NORM(W_PRE, "norm_pre"),
    NORM(W_POST, "norm"),
    LINEAR(W_PROJ, "head"),
    MATRIX(W_QUERY, "attn_pool.latent"),
    END};

/* ---- EVA-CLIP's own files ------------------------------------------------------------------------------- */
static const row EVA_BLOCK[] = {
    NORM(B_LN1, "norm1"),
    MATRIX(B_Q, "attn.q_proj.weight"),
    MATRIX(B_K, "attn.k_proj.weight"),
    MATRIX(B_V, "attn.v_proj.weight"),
    {B_Q, "attn.qkv.weight", FORM_MATRIX, 0, 3},
    {B_K, "attn.qkv.weight", FORM_MATRIX, 1, 3},
    {B_V, "attn.qkv.weight", FORM_MATRIX, 2, 3},
    VECTOR(B_Q_BIAS, "attn.q_bias"),
    VECTOR(B_V_BIAS, "attn.v_bias"),
    NORM(B_HEADS, "attn.inner_attn_ln"),
    LINEAR(B_OUT, "attn.proj"),
    NORM(B_LN2, "norm2"),
    LINEAR(B_GATE, "mlp.w1"),
    LINEAR(B_FC1, "mlp.fc1"),
    LINEAR(B_FC1, "mlp.w2"),
    NORM(B_MLP, "mlp.ffn_ln"),
    LINEAR(B_FC2, "mlp.fc2"),
    LINEAR(B_FC2, "mlp.w3"),
    END};

/* ---- the layouts ------------------------------------------------------------------------------------------ */
enum { OPEN_CLIP, HUGGING_FACE, WITH_TIMM, EVA_CLIP, IMAGE_LAYOUTS };
static const name_layout IMAGES[IMAGE_LAYOUTS] = {
    [OPEN_CLIP] = {"open_clip", "visual.conv1.weight", "visual.", "visual.transformer.resblocks.%zu.", "visual.attn_pool.",
     OPEN_CLIP_IMAGE, OPEN_CLIP_BLOCK, OPEN_CLIP_POOLER},
    [HUGGING_FACE] = {"Hugging Face", "vision_model.embeddings.patch_embedding.weight", "", "vision_model.encoder.layers.%zu.",
     "vision_model.head.", HUGGING_FACE_IMAGE, HUGGING_FACE_BLOCK, HUGGING_FACE_POOLER},
    [WITH_TIMM] = {"open_clip with timm", "visual.trunk.patch_embed.proj.weight", "visual.trunk.", "visual.trunk.blocks.%zu.",
     "visual.trunk.attn_pool.", TIMM_IMAGE, TIMM_BLOCK, TIMM_POOLER},
    [EVA_CLIP] = {"EVA-CLIP", "visual.patch_embed.proj.weight", "visual.", "visual.blocks.%zu.", "", TIMM_IMAGE, EVA_BLOCK, NULL},
};
static const name_layout RESNET = {"ResNet", "visual.layer1.0.conv1.weight", "visual.", "", "visual.attnpool.",
                                   RESNET_IMAGE, NULL, RESNET_POOLER};
enum { TEXT_OPEN_CLIP, TEXT_CUSTOM, TEXT_HUGGING_FACE, TEXT_LAYOUTS };
static const name_layout TEXTS[TEXT_LAYOUTS] = {
    [TEXT_OPEN_CLIP] = {"open_clip", "token_embedding.weight", "", "transformer.resblocks.%zu.", "", OPEN_CLIP_TEXT, OPEN_CLIP_BLOCK, NULL},
    [TEXT_CUSTOM] = {"open_clip", "text.token_embedding.weight", "text.", "text.transformer.resblocks.%zu.", "", OPEN_CLIP_TEXT,
     OPEN_CLIP_BLOCK, NULL},
    [TEXT_HUGGING_FACE] = {"Hugging Face", "text_model.embeddings.token_embedding.weight", "", "text_model.encoder.layers.%zu.", "",
     HUGGING_FACE_TEXT, HUGGING_FACE_BLOCK, NULL},
};
static const name_layout DECODER = {"open_clip", "", "text_decoder.", "text_decoder.resblocks.%zu.", "",
                                    OPEN_CLIP_DECODER, OPEN_CLIP_BLOCK, NULL};
static const row SCALARS[] = {{W_LOGIT_SCALE, "logit_scale", FORM_SCALAR, 0, 0},
                              {W_LOGIT_BIAS, "logit_bias", FORM_SCALAR, 0, 0}, END};

/* Networks that are known by a tensor, and not supported. */
static const struct { const char *sign, *what; } OTHERS[] = {
    {"visual.trunk.stem.0.weight", "a ConvNeXt, ViTamin or MobileCLIP image tower"},
    {"visual.trunk.stages.0.blocks.0.conv_dw.weight", "a ConvNeXt image tower"},
    {"visual.trunk.patch_embed.backbone.stem.conv1.weight", "a ViTamin image tower"},
    {"visual.trunk.stem.0.conv_kxk.0.conv.weight", "a MobileCLIP image tower"},
    {"visual.trunk.layers.0.blocks.0.attn.relative_position_bias_table", "a Swin image tower"},
    {"vision_model.embeddings.patch_embedding.proj.weight", "a NaFlex image tower"},
    {"mm.0.weight", "a language model's projector (mmproj), without CLIP's projection"},
    {"audio_branch.bn0.weight", "CLAP, an audio model"},
};

static const name_layout *find_layout(const tensors *t, const name_layout *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (tensors_find(t, list[i].sign)) return &list[i];
    return NULL;
}

bool names_recognise(const tensors *t, name_set *n, err *e) {
    n->image = tensors_find(t, RESNET.sign) ? &RESNET : find_layout(t, IMAGES, IMAGE_LAYOUTS);
    n->text = find_layout(t, TEXTS, TEXT_LAYOUTS);
    if (!n->text)
        n->text = &TEXTS[n->image == &IMAGES[HUGGING_FACE]              ? TEXT_HUGGING_FACE
                         : tensors_find(t, "text.ln_final.weight") ? TEXT_CUSTOM
                                                                   : TEXT_OPEN_CLIP];
    if (n->image) return true;
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (tensors_find(t, OTHERS[i].sign))
            return err_set(e, "%s: %s, which is not supported (it has a tensor \"%s\")", tensors_name(t), OTHERS[i].what,
                           OTHERS[i].sign);
    const char *first = tensors_count(t) ? tensors_at(t, 0)->name : "";
    return err_set(e, "%s: no CLIP ViT: expected a tensor \"%s\" (open_clip) or \"%s\" (Hugging Face), found %zu others%s%.100s%s",
                   tensors_name(t), IMAGES[OPEN_CLIP].sign, IMAGES[HUGGING_FACE].sign, tensors_count(t), *first ? ", the first \"" : "", first, *first ? "\"" : "");
}

bool names_with_timm(const clip_config *c) {
    return c->pool == CLIP_POOL_PROBE || c->patch_bias || c->proj_bias || c->rope.side;
}

bool names_custom_text(const clip_config *c) { return names_with_timm(c) || c->text_class || c->text_proj_bias; }

name_set names_open_clip(const clip_config *c) {
    return (name_set){clip_is_resnet(c) ? &RESNET : &IMAGES[names_with_timm(c) ? WITH_TIMM : OPEN_CLIP],
                      &TEXTS[names_custom_text(c) ? TEXT_CUSTOM : TEXT_OPEN_CLIP]};
}

/* Rows that open_clip would not write for this config, though it reads them: the fused and the split form of q, k, v. */
static bool unwritten(const clip_config *c, const char *name) {
    bool eva = c->vision.no_key_bias;
    if (strncmp(name, "attn.qkv.", 9) == 0) return c->vision.sub_norm || (eva && strcmp(name, "attn.qkv.bias") == 0);
    if (strcmp(name, "attn.q_bias") == 0 || strcmp(name, "attn.v_bias") == 0) return c->vision.sub_norm;
    if (strncmp(name, "mlp.fc1.", 8) == 0) return c->vision.swiglu;
    if (strlen(name) == 18 && strcmp(name + 6, "_proj_weight") == 0) return c->pooler.width == c->vision.width;
    return false;
}

bool names_like_open_clip(const tensors *t) {
    return tensors_find(t, RESNET.sign) || (find_layout(t, IMAGES, IMAGE_LAYOUTS) && !tensors_find(t, IMAGES[HUGGING_FACE].sign));
}

const char *names_layout(const name_set *n) { return n->image->title; }

/* ---- a weight's name -------------------------------------------------------------------------------------- */
/* visual.conv1.weight, visual.bn1.running_mean, visual.layer2.0.conv3.weight, visual.layer2.0.downsample.0.weight... field: the
 * kernel, or batch norm's gamma, beta, mean, variance. */
static void conv_name(const clip_config *c, int field, size_t index, char out[WEIGHT_NAME]) {
    static const char *const ends[CLIP_CONV_FIELDS] = {"weight", "weight", "bias", "running_mean", "running_var"};
    clip_conv at = clip_conv_at(c, index);
    char stage[40] = "", part[24];
    if (at.stage) snprintf(stage, sizeof stage, "layer%zu.%zu.", at.stage, at.block);
    if (at.part == 3) snprintf(part, sizeof part, "downsample.%d", field > 0);
    else snprintf(part, sizeof part, "%s%zu", field ? "bn" : "conv", at.part + 1);
    snprintf(out, WEIGHT_NAME, "visual.%s%s.%s", stage, part, ends[field]);
}

static bool fits(const row *rows, int what, const char *prefix, const clip_config *c, const tensors *t,
                 weight_name *out) {
    bool found = false;
    for (; rows && rows->name; rows++) {
        if (rows->what != what || (!t && unwritten(c, rows->name))) continue;
        char name[WEIGHT_NAME];
        snprintf(name, sizeof name, "%s%s", prefix, rows->name);
        bool there = !t || tensors_find(t, name);
        if (found && !there) continue;
        memcpy(out->name, name, sizeof name);
        out->form = rows->form;
        out->part = rows->part;
        out->parts = rows->parts ? rows->parts : 1;
        found = true;
        if (there) break;
    }
    return found;
}

/* The prefix of a block's, or of the pooler's, names; field: the kind within it. */
static const row *in_block(const name_set *n, clip_kind kind, size_t layer, int *field, char prefix[WEIGHT_NAME]) {
    int base = kind >= W_CROSS_BLOCK     ? W_CROSS_BLOCK
               : kind >= W_DECODER_BLOCK ? W_DECODER_BLOCK
               : kind >= W_TEXT_BLOCK    ? W_TEXT_BLOCK
               : kind >= W_BLOCK         ? W_BLOCK
                                         : W_POOLER;
    const name_layout *l = base >= W_DECODER_BLOCK ? &DECODER : base == W_TEXT_BLOCK ? n->text : n->image;
    *field = (int)kind - base;
    if (base == W_POOLER) snprintf(prefix, WEIGHT_NAME, "%s", l->pooler);
    else if (base == W_CROSS_BLOCK) snprintf(prefix, WEIGHT_NAME, "text_decoder.cross_attn.%zu.", layer);
    else {
        const char *place = strstr(l->block, "%zu");
        snprintf(prefix, WEIGHT_NAME, "%.*s%zu%s", place ? (int)(place - l->block) : 0, l->block, layer, place ? place + 3 : "");
    }
    return base == W_POOLER ? l->pool : l->blocks;
}

weight_name names_find(const name_set *n, const clip_config *c, const tensors *t, clip_kind kind, size_t layer) {
    weight_name w = {.form = FORM_VECTOR, .parts = 1};
    char prefix[WEIGHT_NAME] = "";
    int what = (int)kind;
    const row *rows;
    if (kind >= W_CONV && kind < W_POOLER) {
        if (kind == W_CONV) w.form = FORM_CONVOLUTION;
        conv_name(c, (int)kind - W_CONV, layer, w.name);
        return w;
    }
    if (kind >= W_POOLER) {
        rows = in_block(n, kind, layer, &what, prefix);
    } else if (kind == W_LOGIT_SCALE || kind == W_LOGIT_BIAS) {
        rows = SCALARS;
    } else {
        const name_layout *l = kind >= W_DECODER_GAMMA && kind <= W_DECODER_PROJ ? &DECODER
                               : clip_of_text(kind)                              ? n->text
                                                                                 : n->image;
        rows = l->single;
        snprintf(prefix, sizeof prefix, "%s", l->root);
    }
    /* a bias makes a projection a linear layer: [E,W] and not [W,E] */
    if (kind == W_TEXT_PROJ && c->text_proj_bias)
        while (rows->name && (rows->what != W_TEXT_PROJ || rows->form != FORM_MATRIX)) rows++;
    if (!fits(rows, what, prefix, c, t, &w)) snprintf(w.name, sizeof w.name, "(weight %d of no name here)", (int)kind);
    return w;
}

size_t names_shape(const weight_name *w, size_t rows, size_t cols, const clip_config *c, clip_kind kind, size_t layer,
                   size_t shape[4]) {
    size_t side;
    switch (w->form) {
    case FORM_SCALAR:
        return 0;
    case FORM_VECTOR:
        shape[0] = w->parts * cols;
        return 1;
    case FORM_PROJECTION:
        shape[0] = cols, shape[1] = rows;
        return 2;
    case FORM_CONVOLUTION:
        side = kind == W_CONV ? clip_conv_at(c, layer).side : c->patch;
        shape[0] = rows, shape[1] = cols / (side * side), shape[2] = shape[3] = side;
        return 4;
    case FORM_MATRIX:
        break;
    }
    shape[0] = w->parts * rows, shape[1] = cols;
    return 2;
}
