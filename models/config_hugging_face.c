/* config_hugging_face.c - config.json of CLIPModel, MetaClip2Model and SiglipModel (see config.h). */
#include <string.h>
#include "models/config_parts.h"

typedef struct { /* what absent fields are: CLIPConfig's and SiglipConfig's */
    clip_tower vision, text;
    double eps;
    const char *act;
    size_t patch, vocab, context, eos;
} defaults;

static const defaults CLIP = {.vision = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072},
                              .text = {.width = 512, .layers = 12, .heads = 8, .mlp = 2048},
                              .eps = 1e-5, .act = "quick_gelu", .patch = 32, .vocab = 49408, .context = 77};
static const defaults SIGLIP = {.vision = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072},
                                .text = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072},
                                .eps = 1e-6, .act = "gelu_pytorch_tanh", .patch = 16, .vocab = 32000, .context = 64};

static bool read_act(const json_scope *s, const char *absent, act_kind *act) {
    static const struct { const char *name; act_kind kind; } kinds[] = {
        {"quick_gelu", ACT_QUICK_GELU}, {"gelu", ACT_GELU}, {"gelu_pytorch_tanh", ACT_GELU_TANH}, {"gelu_new", ACT_GELU_TANH}};
    const char *name;
    if (!json_string(s, "hidden_act", absent, &name)) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(name, kinds[i].name) == 0) return *act = kinds[i].kind, true;
    return err_set(s->e,
                   "%s: %s.hidden_act is \"%.40s\", which is not supported, expected \"quick_gelu\", \"gelu\" or "
                   "\"gelu_pytorch_tanh\"",
                   s->file, s->path, name);
}

static bool read_tower(const json_scope *s, const clip_tower *absent, const defaults *d, clip_tower *t, act_kind *act) {
    return json_size(s, "hidden_size", 1, WIDTH_MOST, absent->width, &t->width) &&
           json_size(s, "num_hidden_layers", 1, LAYERS_MOST, absent->layers, &t->layers) &&
           json_size(s, "num_attention_heads", 1, WIDTH_MOST, absent->heads, &t->heads) &&
           json_size(s, "intermediate_size", 1, MLP_MOST, absent->mlp, &t->mlp) &&
           config_eps(s, "layer_norm_eps", d->eps, &t->eps) && read_act(s, d->act, act) &&
           config_divides(s, "num_attention_heads", t->heads, "hidden_size", t->width);
}

/* vision_config, or in the oldest files vision_config_dict alone. Where both stand, a field may stand in either (the
 * library that wrote them lets the older win), but not differ. */
static bool tower_scope(const json_scope *root, const char *key, const char *old, json_scope *s) {
    json_scope older;
    if (!json_object(root, key, s) || !json_object(root, old, &older)) return false;
    if (!s->object) return *s = older, true;
    for (const cJSON *v = older.object ? older.object->child : NULL; v; v = v->next) {
        cJSON *newer = cJSON_GetObjectItemCaseSensitive(s->object, v->string), *copy;
        if (newer && !cJSON_IsNull(v) && !cJSON_IsNull(newer) && !cJSON_Compare(newer, v, true)) {
            char a[64], b[64];
            json_describe(newer, a, sizeof a);
            json_describe(v, b, sizeof b);
            return err_set(root->e, "%s: %s.%.60s is %s, but %s.%.60s is %s: they contradict each other", root->file, key,
                           v->string, a, old, v->string, b);
        }
        if (newer) continue;
        cJSON *tower = cJSON_GetObjectItemCaseSensitive(root->object, key);
        if (!(copy = cJSON_Duplicate(v, true)) || !cJSON_AddItemToObject(tower, v->string, copy))
            return cJSON_Delete(copy), err_set(root->e, "%s: no memory for %s", root->file, old);
    }
    return true;
}

static bool read_towers(const json_scope *v, const json_scope *t, const defaults *d, clip_config *c) {
    size_t channels;
    return read_tower(v, &d->vision, d, &c->vision, &c->act_vision) && read_tower(t, &d->text, d, &c->text, &c->act_text) &&
           json_size(v, "num_channels", 3, 3, 3, &channels) && json_size(v, "image_size", 1, IMAGE_MOST, 224, &c->image) &&
           json_size(v, "patch_size", 1, c->image, d->patch, &c->patch) &&
           json_size(t, "vocab_size", 1, VOCAB_MOST, d->vocab, &c->vocab) &&
           json_size(t, "max_position_embeddings", 1, WIDTH_MOST, d->context, &c->context);
}

/* (1.24)  eos_token_id 2 stands in old files of CLIP and means the largest id; MetaCLIP 2 means it as it says. */
static bool read_clip(const json_scope *root, const json_scope *v, const json_scope *t, bool second, clip_config *c) {
    if (!json_size(root, "projection_dim", 1, WIDTH_MOST, 512, &c->embed) || !read_towers(v, t, &CLIP, c) ||
        !json_size(t, "eos_token_id", 0, VOCAB_MOST, second ? 49407 : 2, &c->eos))
        return false;
    if (second || c->eos != 2) c->read = CLIP_READ_EOS;
    return true;
}

/* CLIPVisionModelWithProjection: the document itself is vision_config. No text side: text.layers is 0. */
static bool read_vision_alone(const json_scope *root, clip_config *c) {
    json_scope none = *root;
    none.object = NULL;
    if (!json_size(root, "projection_dim", 1, WIDTH_MOST, 512, &c->embed) || !read_towers(root, &none, &CLIP, c)) return false;
    c->text = (clip_tower){0};
    c->vocab = c->context = 0;
    return true;
}

static bool read_siglip(const json_scope *v, const json_scope *t, clip_config *c) {
    if (!read_towers(v, t, &SIGLIP, c) || !json_size(t, "projection_size", 1, WIDTH_MOST, c->text.width, &c->embed) ||
        !json_size(t, "pad_token_id", 0, VOCAB_MOST, 1, &c->pad))
        return false;
    if (c->embed != c->vision.width)
        return err_set(t->e, "%s: %s.projection_size is %zu, expected the image side's width, %zu", t->file, t->path,
                       c->embed, c->vision.width);
    static const real half[3] = {(real)0.5, (real)0.5, (real)0.5};
    memcpy(c->mean, half, sizeof half);
    memcpy(c->std, half, sizeof half);
    c->pixels.resize = RESIZE_SQUASH;
    c->pool = CLIP_POOL_PROBE;
    c->no_class_token = c->no_ln_pre = c->patch_bias = c->no_proj = true;
    c->pooler = c->vision;
    c->text_unmasked = c->text_proj_bias = c->logit_bias = true;
    c->read = CLIP_READ_LAST;
    return true;
}

bool config_hugging_face(const json_scope *root, clip_config *c) {
    json_scope v, t;
    const char *type;
    if (!json_string(root, "model_type", "clip", &type) ||
        !tower_scope(root, "vision_config", "vision_config_dict", &v) ||
        !tower_scope(root, "text_config", "text_config_dict", &t))
        return false;
    bool ok;
    if (strcmp(type, "clip") == 0) ok = read_clip(root, &v, &t, false, c);
    else if (strcmp(type, "metaclip_2") == 0) ok = read_clip(root, &v, &t, true, c);
    else if (strcmp(type, "siglip") == 0) ok = read_siglip(&v, &t, c);
    else if (strcmp(type, "clip_vision_model") == 0) ok = read_vision_alone(root, c);
    else
        return err_set(root->e, "%s: model_type is \"%.40s\"%s, which is not supported, expected \"clip\", \"siglip\" or \"metaclip_2\"",
                       root->file, type, strcmp(type, "siglip2") == 0 ? " (NaFlex, pictures of any shape)" : "");
    config_finish(c);
    return ok;
}
