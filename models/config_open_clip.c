/* config_open_clip.c - open_clip_config.json, and EVA-CLIP's bare JSON of the same words (see config.h). */
#include <string.h>
#include "models/config_parts.h"
#include "models/pixels.h"

static const char MODEL_FIELDS[] = " embed_dim quick_gelu vision_cfg text_cfg custom_text init_logit_scale init_logit_bias "
                                   "nonscalar_logit_scale cast_dtype output_dict multimodal_cfg ";
static const char VISION_FIELDS[] = " image_size layers width patch_size head_width mlp_ratio pool_type norm_kwargs "
                                    "act_kwargs patch_dropout output_tokens attn_pooler_queries n_queries "
                                    "attn_pooler_heads ls_init_value no_ln_pre global_average_pool final_ln_after_pool "
                                    "attentional_pool timm_model_name timm_model_kwargs timm_model_pretrained timm_pool "
                                    "timm_proj timm_proj_bias timm_drop timm_drop_path pos_embed_type=learnable ";
/* EVA-CLIP's own */
static const char EVA_FIELDS[] = " image_size layers width patch_size head_width mlp_ratio eva_model_name drop_path_rate "
                                 "xattn fusedLN rope pt_hw_seq_len intp_freq naiveswiglu subln postnorm qkv_bias "
                                 "patch_dropout ";
static const char TEXT_FIELDS[] = " context_length vocab_size width heads layers mlp_ratio norm_kwargs act_kwargs "
                                  "output_tokens ls_init_value embed_cls no_causal_mask pool_type proj_type proj_bias "
                                  "pad_id eos_id hf_model_name hf_tokenizer_name tokenizer_kwargs tokenizer_mode "
                                  "hf_model_pretrained hf_proj_type hf_pooler_type hf_pooler hf_mask pretrained_hf proj "
                                  "xattn fusedLN ";
static const char DECODER_FIELDS[] = " context_length vocab_size width heads layers mlp_ratio ls_init_value norm_kwargs "
                                     "n_queries attn_pooler_heads dim_head proj ";
static const char NORM_FIELDS[] = " eps ", ACT_FIELDS[] = " approximate=tanh ";

static bool present(const json_scope *s, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(s->object, key);
    return v && !config_is_off(v);
}

/* act_kwargs {approximate: tanh} */
static bool read_act(const json_scope *s, act_kind *act) {
    json_scope kwargs;
    if (!json_object(s, "act_kwargs", &kwargs) || !config_check_switches(&kwargs, ACT_FIELDS)) return false;
    if (present(&kwargs, "approximate")) *act = ACT_GELU_TANH;
    return true;
}

/* Width, layers, the MLP's width int(width*mlp_ratio), eps: the same words in all towers. */
static bool read_tower(const json_scope *s, size_t width, clip_tower *t) {
    json_scope norm;
    double ratio;
    t->layer_scale = present(s, "ls_init_value");
    return json_size(s, "width", 1, WIDTH_MOST, width, &t->width) &&
           json_size(s, "layers", 1, LAYERS_MOST, 12, &t->layers) && json_number(s, "mlp_ratio", 1e-5, 1e6, 4, &ratio) &&
           json_object(s, "norm_kwargs", &norm) && config_check_switches(&norm, NORM_FIELDS) &&
           config_eps(&norm, "eps", 1e-5, &t->eps) && config_mlp(s, ratio, t);
}

/* ---- image side: pooling --------------------------------------------------------------------------------- */
static bool read_queries(const json_scope *s, clip_config *c) {
    size_t older;
    c->pool = CLIP_POOL_QUERIES;
    c->pooler = (clip_tower){.width = c->embed, .eps = (real)1e-5};
    return json_size(s, "n_queries", 1, WIDTH_MOST, 256, &older) &&
           json_size(s, "attn_pooler_queries", 1, WIDTH_MOST, older, &c->queries) &&
           json_size(s, "attn_pooler_heads", 1, WIDTH_MOST, 8, &c->pooler.heads) &&
           config_divides(s, "attn_pooler_heads", c->pooler.heads, "embed_dim", c->embed);
}

static bool read_pool(const json_scope *s, clip_config *c) {
    const char *type;
    const cJSON *attention = cJSON_GetObjectItemCaseSensitive(s->object, "attentional_pool");
    bool all;
    if (cJSON_IsString(attention))
        return err_set(s->e, "%s: %s.attentional_pool is \"%.20s\", which is not supported, expected true or false",
                       s->file, s->path, attention->valuestring);
    if (present(s, "attentional_pool")) return read_queries(s, c);
    if (!json_string(s, "pool_type", "tok", &type) || !json_bool(s, "global_average_pool", false, &all) ||
        !json_bool(s, "final_ln_after_pool", false, &c->ln_after_pool))
        return false;
    if (all || strcmp(type, "tokens_mean") == 0) c->pool = CLIP_POOL_MEAN;
    else if (strcmp(type, "avg") == 0) c->pool = CLIP_POOL_PATCHES;
    else if (strcmp(type, "tok") != 0)
        return err_set(s->e,
                       "%s: %s.pool_type is \"%.40s\", which is not supported, expected \"tok\", \"avg\" or "
                       "\"tokens_mean\"",
                       s->file, s->path, type);
    return true;
}

/* ---- image side: ResNet ------------------------------------------------------------------------------------ */
static bool read_resnet(const json_scope *s, const cJSON *layers, clip_config *c) {
    size_t w, head, i = 0;
    if (!config_check_switches(s, VISION_FIELDS)) return false;
    if (cJSON_GetArraySize(layers) != 4) return json_wrong(s, "layers", layers, "the number of blocks of four stages");
    for (const cJSON *v = layers->child; v; v = v->next)
        if (!json_whole(v, &c->resnet[i]) || c->resnet[i] < 1 || c->resnet[i++] > LAYERS_MOST)
            return json_wrong(s, "layers", v, "four numbers of blocks, of at least 1");
    if (!json_size(s, "width", 2, WIDTH_MOST / 32, 64, &w) || !json_size(s, "head_width", 1, WIDTH_MOST, 64, &head) ||
        !json_size(s, "image_size", 32, IMAGE_MOST, 224, &c->image) || !config_divides(s, "head_width", head, "32 width", 32 * w))
        return false;
    c->patch = 32;
    if (w % 2 || c->image % 32)
        return err_set(s->e, "%s: %s: a ResNet of width %zu and image_size %zu, expected an even one and a multiple of 32",
                       s->file, s->path, w, c->image);
    c->vision = (clip_tower){.width = 32 * w, .heads = 32 * w / head, .eps = (real)1e-5};
    c->pooler = c->vision;
    c->pool = CLIP_POOL_CELLS;
    c->no_ln_pre = c->no_proj = true;
    return true;
}

/* ---- image side: EVA-CLIP's own words ------------------------------------------------------------------------ */
static bool read_eva(const json_scope *s, clip_config *c) {
    clip_tower *t = &c->vision;
    bool rope, stretched;
    if (!config_check_switches(s, EVA_FIELDS) || !read_tower(s, 768, t) || !json_bool(s, "naiveswiglu", false, &t->swiglu) ||
        !json_bool(s, "subln", false, &t->sub_norm) || !json_bool(s, "postnorm", false, &t->post_norm) ||
        !json_bool(s, "rope", false, &rope) || !json_bool(s, "intp_freq", false, &stretched) ||
        !json_size(s, "pt_hw_seq_len", 1, WIDTH_MOST, 16, &c->rope.side))
        return false;
    if (rope && !stretched)
        return err_set(s->e, "%s: %s.intp_freq is false, expected true: rotary positions that stretch", s->file, s->path);
    if (!rope) c->rope.side = 0;
    t->eps = (real)1e-6;
    t->no_key_bias = c->no_ln_pre = c->patch_bias = c->proj_bias = true;
    return true;
}

static bool read_vision(const json_scope *s, clip_config *c) {
    const cJSON *layers;
    const char *timm;
    size_t head;
    if (!json_field(s, "layers", &layers) || !json_string(s, "timm_model_name", NULL, &timm)) return false;
    if (timm) return config_check_switches(s, VISION_FIELDS) && config_timm(s, timm, c);
    if (cJSON_IsArray(layers)) return read_resnet(s, layers, c);
    bool eva = present(s, "eva_model_name");
    if (eva ? !read_eva(s, c) : !config_check_switches(s, VISION_FIELDS) || !read_tower(s, 768, &c->vision)) return false;
    if (!json_size(s, "image_size", 1, IMAGE_MOST, 224, &c->image) ||
        !json_size(s, "patch_size", 1, c->image, 16, &c->patch) || !json_size(s, "head_width", 1, WIDTH_MOST, 64, &head) ||
        !config_divides(s, "head_width", head, "width", c->vision.width))
        return false;
    c->vision.heads = c->vision.width / head;
    return eva || (json_bool(s, "no_ln_pre", false, &c->no_ln_pre) && read_act(s, &c->act_vision) && read_pool(s, c));
}

/* ---- text side ------------------------------------------------------------------------------------------------- */
static bool read_text_pool(const json_scope *s, clip_config *c) {
    static const struct { const char *name; clip_read read; } kinds[] = {{"argmax", CLIP_READ_LARGEST}, {"eos", CLIP_READ_EOS},
                                                                         {"last", CLIP_READ_LAST}, {"first", CLIP_READ_FIRST}};
    const char *type;
    if (!json_string(s, "pool_type", "argmax", &type) ||
        !json_size(s, "eos_id", 0, VOCAB_MOST, 2, &c->eos) || !json_size(s, "pad_id", 0, VOCAB_MOST, 0, &c->pad))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(type, kinds[i].name) == 0) return c->read = kinds[i].read, true;
    return err_set(s->e,
                   "%s: %s.pool_type is \"%.40s\", which is not supported, expected \"argmax\", \"eos\", \"last\" or "
                   "\"first\"",
                   s->file, s->path, type);
}

static bool read_text_proj(const json_scope *s, clip_config *c) {
    const char *type;
    if (!json_string(s, "proj_type", "linear", &type) || !json_bool(s, "proj_bias", false, &c->text_proj_bias)) return false;
    c->no_text_proj = strcmp(type, "none") == 0;
    if (c->no_text_proj) c->text_proj_bias = false;
    return c->no_text_proj || strcmp(type, "linear") == 0 ||
           err_set(s->e, "%s: %s.proj_type is \"%.40s\", which is not supported, expected \"linear\" or \"none\"", s->file,
                   s->path, type);
}

static bool read_text(const json_scope *s, clip_config *c) {
    /* another text tower (text.layers 0), whose words are not ours: the image side only */
    if (present(s, "hf_model_name")) return true;
    if (!config_check_switches(s, TEXT_FIELDS)) return false;
    return read_tower(s, 512, &c->text) && read_act(s, &c->act_text) &&
           json_size(s, "heads", 1, WIDTH_MOST, 8, &c->text.heads) &&
           json_size(s, "vocab_size", 1, VOCAB_MOST, 49408, &c->vocab) &&
           json_size(s, "context_length", 1, WIDTH_MOST, 77, &c->context) &&
           config_divides(s, "heads", c->text.heads, "width", c->text.width) &&
           json_bool(s, "no_causal_mask", false, &c->text_unmasked) && json_bool(s, "embed_cls", false, &c->text_class) &&
           read_text_pool(s, c) && read_text_proj(s, c);
}

static bool read_decoder(const json_scope *model, clip_config *c) {
    json_scope s;
    size_t vocab, context;
    if (!json_object(model, "multimodal_cfg", &s)) return false;
    if (!s.object) return true;
    if (!config_check_switches(&s, DECODER_FIELDS) || !read_tower(&s, 512, &c->decoder) ||
        !json_size(&s, "heads", 1, WIDTH_MOST, 8, &c->decoder.heads) ||
        !config_divides(&s, "heads", c->decoder.heads, "width", c->decoder.width) ||
        !json_size(&s, "vocab_size", 1, VOCAB_MOST, 49408, &vocab) ||
        !json_size(&s, "context_length", 1, WIDTH_MOST, 77, &context))
        return false;
    if (c->decoder.width != c->text.width || c->decoder.width != c->embed || vocab != c->vocab)
        return err_set(s.e, "%s: %s: width %zu and vocabulary %zu, expected the text's, %zu and %zu, and embed_dim, %zu",
                       s.file, s.path, c->decoder.width, vocab, c->text.width, c->vocab, c->embed);
    c->unit_output = true;
    return true;
}

static bool require_object(const json_scope *s, const char *key, json_scope *inner) {
    if (!json_object(s, key, inner)) return false;
    return inner->object || json_wrong(s, key, NULL, "an object");
}

bool config_open_clip(const json_scope *root, clip_config *c) {
    json_scope model = *root, vision, text, pixels;
    bool quick, bare = !cJSON_GetObjectItemCaseSensitive(root->object, "model_cfg");
    if ((!bare && !require_object(root, "model_cfg", &model)) || !require_object(&model, "vision_cfg", &vision) ||
        !require_object(&model, "text_cfg", &text) || !json_object(root, "preprocess_cfg", &pixels) ||
        !config_check_switches(&model, MODEL_FIELDS) ||
        !json_size(&model, "embed_dim", 1, WIDTH_MOST, JSON_REQUIRED, &c->embed) ||
        !json_bool(&model, "quick_gelu", false, &quick))
        return false;
    c->act_vision = c->act_text = quick ? ACT_QUICK_GELU : ACT_GELU;
    const cJSON *bias = cJSON_GetObjectItemCaseSensitive(model.object, "init_logit_bias");
    c->logit_bias = bias && !cJSON_IsNull(bias);
    if (!read_vision(&vision, c) || !read_text(&text, c) || !read_decoder(&model, c)) return false;
    config_finish(c);
    return pixels_read_open_clip(&pixels, c);
}
