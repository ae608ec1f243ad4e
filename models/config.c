/* config.c - both families' configs (see config.h). Defaults are CLIPConfig's and open_clip's own. */
#include "models/config.h"
#include <string.h>
#include "files/json.h"

/* Beyond these a config is taken for broken: no published CLIP comes near. */
enum { WIDTH_MOST = 65536, LAYERS_MOST = 1024, IMAGE_MOST = 16384, MLP_MOST = 1 << 20, VOCAB_MOST = 10000000 };

/* ---- what both families share -------------------------------------------------------------------- */
static void config_defaults(clip_config *c) {
    static const real mean[3] = {(real).48145466, (real).4578275, (real).40821073}; /* (2.1) */
    static const real std[3] = {(real).26862954, (real).26130258, (real).27577711};
    *c = (clip_config){0};
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->std, std, sizeof std);
}

static bool read_three(const json_scope *s, const char *key, double least, real *out) {
    const cJSON *list;
    if (!json_field(s, key, &list)) return false;
    if (!list) return true;
    char expected[64];
    snprintf(expected, sizeof expected, "three numbers from %g to 1000", least);
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != 3) return json_wrong(s, key, list, expected);
    const cJSON *v = list->child;
    for (int i = 0; i < 3; i++, v = v->next) {
        if (!cJSON_IsNumber(v) || !(v->valuedouble >= least && v->valuedouble <= 1000))
            return json_wrong(s, key, v, expected);
        out[i] = (real)v->valuedouble;
    }
    return true;
}

/* Bounds that are exact in float too: what was accepted is accepted again once written. */
static bool read_eps(const json_scope *s, const char *key, real *eps) {
    double x;
    if (!json_number(s, key, 0x1p-40, 0.125, 1e-5, &x)) return false;
    *eps = (real)x;
    return true;
}

static bool read_pixels(const json_scope *s, const char *mean, const char *std, clip_config *c) {
    return read_three(s, mean, -1000, c->mean) && read_three(s, std, 0x1p-20, c->std);
}

static bool check_divides(const json_scope *s, const char *key, size_t part, const char *of, size_t whole) {
    if (whole % part == 0) return true;
    return err_set(s->e, "%s: %s.%s is %zu, expected a divisor of %s, %zu", s->file, s->path, key, part, of, whole);
}

static bool read_invert(const json_scope *root, clip_config *c) {
    json_scope s;
    double lr, alpha;
    if (!json_object(root, "maskinv_cfg", &s) || !json_number(&s, "lr", 0, 1e6, 0, &lr) ||
        !json_number(&s, "alpha", 0, 1e6, 0, &alpha) || !json_size(&s, "iters", 0, 1000000, 0, &c->invert.iters) ||
        !json_size(&s, "layers", 0, c->vision.layers, 0, &c->invert.layers))
        return false;
    c->invert.lr = (real)lr;
    c->invert.alpha = (real)alpha;
    return true;
}

/* ---- open_clip --------------------------------------------------------------------------------------- */
/* Fields that are read elsewhere or change nothing here, and those that may have one value only. Whatever stands in no
 * list must be null, false or empty: open_clip itself stops at fields that it does not know. */
static const char MODEL_FIELDS[] = " embed_dim quick_gelu vision_cfg text_cfg custom_text init_logit_scale "
                                   "nonscalar_logit_scale cast_dtype output_dict ";
static const char VISION_FIELDS[] = " image_size layers width patch_size head_width mlp_ratio pool_type norm_kwargs "
                                    "patch_dropout output_tokens attn_pooler_queries attn_pooler_heads "
                                    "timm_model_pretrained timm_pool timm_proj timm_proj_bias timm_drop "
                                    "timm_drop_path pos_embed_type=learnable ";
static const char TEXT_FIELDS[] = " context_length vocab_size width heads layers mlp_ratio norm_kwargs output_tokens "
                                  "pad_id eos_id hf_model_pretrained hf_proj_type hf_pooler_type pool_type=argmax "
                                  "proj_type=linear ";
static const char NORM_FIELDS[] = " eps ";
static const char PIXEL_FIELDS[] = " mean std size fill_color resize_mode mode=RGB interpolation=bicubic ";

static bool is_off(const cJSON *v) {
    return cJSON_IsNull(v) || cJSON_IsFalse(v) || ((cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child);
}

/* What a list says of a field: NULL not in it, "" any value will do, else the one value it may have. */
static const char *allowed_value(const char *fields, const char *key, char only[32]) {
    size_t n = strlen(key);
    for (const char *p = fields + 1; *p; p = strchr(p, ' ') + 1) {
        if (strncmp(p, key, n) != 0 || (p[n] != ' ' && p[n] != '=')) continue;
        snprintf(only, 32, "%.*s", p[n] == '=' ? (int)strcspn(p + n + 1, " ") : 0, p + n + 1);
        return only;
    }
    return NULL;
}

static bool check_switches(const json_scope *s, const char *fields) {
    for (const cJSON *v = s->object ? s->object->child : NULL; v; v = v->next) {
        char room[32], found[64];
        const char *only = allowed_value(fields, v->string, room);
        if (only ? !*only || cJSON_IsNull(v) || (cJSON_IsString(v) && strcmp(v->valuestring, only) == 0) : is_off(v))
            continue;
        json_describe(v, found, sizeof found);
        return err_set(s->e, "%s: %s.%.60s is %s, which is not supported%s%s", s->file, s->path, v->string, found,
                       only ? ", expected " : "", only ? only : "");
    }
    return true;
}

/* Width, layers, the MLP's width int(width*mlp_ratio) and eps: the same words in both towers. */
static bool read_open_clip_tower(const json_scope *s, size_t width, clip_tower *t) {
    json_scope norm;
    double ratio;
    if (!json_size(s, "width", 1, WIDTH_MOST, width, &t->width) ||
        !json_size(s, "layers", 1, LAYERS_MOST, 12, &t->layers) || !json_number(s, "mlp_ratio", 1e-5, 1e6, 4, &ratio) ||
        !json_object(s, "norm_kwargs", &norm) || !check_switches(&norm, NORM_FIELDS) ||
        !read_eps(&norm, "eps", &t->eps))
        return false;
    double mlp = (double)t->width * ratio;
    if (!(mlp >= 1 && mlp <= MLP_MOST))
        return err_set(s->e, "%s: %s.mlp_ratio is %g, expected one that makes width %zu a whole number from 1 to %d",
                       s->file, s->path, ratio, t->width, MLP_MOST);
    t->mlp = (size_t)mlp;
    return true;
}

static bool read_pool(const json_scope *s, clip_pool *how) {
    const char *type;
    if (!json_string(s, "pool_type", "tok", &type)) return false;
    *how = strcmp(type, "tokens_mean") == 0 ? CLIP_POOL_MEAN : CLIP_POOL_CLASS;
    if (*how == CLIP_POOL_MEAN || strcmp(type, "tok") == 0) return true;
    return err_set(s->e, "%s: %s.pool_type is \"%.40s\", which is not supported, expected \"tok\" or \"tokens_mean\"",
                   s->file, s->path, type);
}

static bool read_open_clip_vision(const json_scope *s, clip_config *c) {
    const cJSON *layers;
    size_t head;
    if (!json_field(s, "layers", &layers)) return false;
    if (cJSON_IsArray(layers))
        return err_set(s->e,
                       "%s: %s.layers is a list, so this is a ResNet, which is not supported: expected a ViT's "
                       "number of layers",
                       s->file, s->path);
    if (!check_switches(s, VISION_FIELDS) || !read_open_clip_tower(s, 768, &c->vision) || !read_pool(s, &c->pool) ||
        !json_size(s, "image_size", 1, IMAGE_MOST, 224, &c->image) ||
        !json_size(s, "patch_size", 1, IMAGE_MOST, 16, &c->patch) ||
        !json_size(s, "head_width", 1, WIDTH_MOST, 64, &head) ||
        !check_divides(s, "patch_size", c->patch, "image_size", c->image) ||
        !check_divides(s, "head_width", head, "width", c->vision.width))
        return false;
    c->vision.heads = c->vision.width / head;
    return true;
}

static bool read_open_clip_text(const json_scope *s, clip_config *c) {
    return check_switches(s, TEXT_FIELDS) && read_open_clip_tower(s, 512, &c->text) &&
           json_size(s, "heads", 1, WIDTH_MOST, 8, &c->text.heads) &&
           json_size(s, "vocab_size", 1, VOCAB_MOST, 49408, &c->vocab) &&
           json_size(s, "context_length", 1, WIDTH_MOST, 77, &c->context) &&
           check_divides(s, "heads", c->text.heads, "width", c->text.width);
}

static bool require_object(const json_scope *s, const char *key, json_scope *inner) {
    if (!json_object(s, key, inner)) return false;
    return inner->object || json_wrong(s, key, NULL, "an object");
}

static bool parse_open_clip(const json_scope *root, clip_config *c) {
    json_scope model, vision, text, pixels;
    bool quick;
    if (!require_object(root, "model_cfg", &model) || !require_object(&model, "vision_cfg", &vision) ||
        !require_object(&model, "text_cfg", &text) || !json_object(root, "preprocess_cfg", &pixels) ||
        !check_switches(&model, MODEL_FIELDS) ||
        !json_size(&model, "embed_dim", 1, WIDTH_MOST, JSON_REQUIRED, &c->embed) ||
        !json_bool(&model, "quick_gelu", false, &quick))
        return false;
    c->act_vision = c->act_text = quick ? ACT_QUICK_GELU : ACT_GELU;
    return read_open_clip_vision(&vision, c) && read_open_clip_text(&text, c) &&
           check_switches(&pixels, PIXEL_FIELDS) && read_pixels(&pixels, "mean", "std", c);
}

/* ---- Hugging Face --------------------------------------------------------------------------------------- */
static bool read_act(const json_scope *s, act_kind *act) {
    const char *name;
    if (!json_string(s, "hidden_act", "quick_gelu", &name)) return false;
    *act = strcmp(name, "gelu") == 0 ? ACT_GELU : ACT_QUICK_GELU;
    if (*act == ACT_GELU || strcmp(name, "quick_gelu") == 0) return true;
    return err_set(s->e, "%s: %s.hidden_act is \"%.40s\", which is not supported, expected \"quick_gelu\" or \"gelu\"",
                   s->file, s->path, name);
}

static bool read_hugging_face_tower(const json_scope *s, const clip_tower *absent, clip_tower *t, act_kind *act) {
    return json_size(s, "hidden_size", 1, WIDTH_MOST, absent->width, &t->width) &&
           json_size(s, "num_hidden_layers", 1, LAYERS_MOST, absent->layers, &t->layers) &&
           json_size(s, "num_attention_heads", 1, WIDTH_MOST, absent->heads, &t->heads) &&
           json_size(s, "intermediate_size", 1, MLP_MOST, absent->mlp, &t->mlp) &&
           read_eps(s, "layer_norm_eps", &t->eps) && read_act(s, act) &&
           check_divides(s, "num_attention_heads", t->heads, "hidden_size", t->width);
}

/* vision_config, or in the oldest files vision_config_dict alone. */
static bool tower_scope(const json_scope *root, const char *key, const char *old, json_scope *s) {
    if (!json_object(root, key, s)) return false;
    return s->object || json_object(root, old, s);
}

static bool parse_hugging_face(const json_scope *root, clip_config *c) {
    static const clip_tower vision = {.width = 768, .layers = 12, .heads = 12, .mlp = 3072}; /* CLIPConfig's */
    static const clip_tower text = {.width = 512, .layers = 12, .heads = 8, .mlp = 2048};
    json_scope v, t;
    const char *type;
    size_t channels;
    if (!json_string(root, "model_type", "clip", &type)) return false;
    if (strcmp(type, "clip") != 0)
        return err_set(root->e, "%s: model_type is \"%.40s\", which is not supported, expected \"clip\"", root->file,
                       type);
    return tower_scope(root, "vision_config", "vision_config_dict", &v) &&
           tower_scope(root, "text_config", "text_config_dict", &t) &&
           json_size(root, "projection_dim", 1, WIDTH_MOST, 512, &c->embed) &&
           read_hugging_face_tower(&v, &vision, &c->vision, &c->act_vision) &&
           read_hugging_face_tower(&t, &text, &c->text, &c->act_text) &&
           json_size(&v, "num_channels", 3, 3, 3, &channels) &&
           json_size(&v, "image_size", 1, IMAGE_MOST, 224, &c->image) &&
           json_size(&v, "patch_size", 1, IMAGE_MOST, 32, &c->patch) &&
           check_divides(&v, "patch_size", c->patch, "image_size", c->image) &&
           json_size(&t, "vocab_size", 1, VOCAB_MOST, 49408, &c->vocab) &&
           json_size(&t, "max_position_embeddings", 1, WIDTH_MOST, 77, &c->context);
}

/* The tree of a document that must be an object. */
static cJSON *parse_object(const char *json, size_t length, const char *name, err *e) {
    cJSON *j = json_parse(json, length, name, e);
    if (!j || cJSON_IsObject(j)) return j;
    char found[64];
    json_describe(j, found, sizeof found);
    err_set(e, "%s: the document is %s, expected an object", name, found);
    json_free(j);
    return NULL;
}

static bool parse_root(const json_scope *root, clip_config *c) {
    static const char *const signs[] = {"vision_config", "text_config", "vision_config_dict", "model_type"};
    bool hugging_face = false;
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        hugging_face |= cJSON_GetObjectItemCaseSensitive(root->object, signs[i]) != NULL;
    if (cJSON_GetObjectItemCaseSensitive(root->object, "model_cfg"))
        return parse_open_clip(root, c) && read_invert(root, c);
    if (hugging_face) return parse_hugging_face(root, c) && read_invert(root, c);
    return err_set(root->e,
                   "%s: no CLIP config: expected model_cfg (open_clip), or vision_config and text_config "
                   "(Hugging Face)",
                   root->file);
}

bool config_parse(const char *json, size_t length, const char *name, clip_config *out, err *e) {
    cJSON *j = parse_object(json, length, name, e);
    if (!j) return false;
    json_scope root = {.object = j, .file = name, .e = e};
    config_defaults(out);
    bool ok = parse_root(&root, out);
    json_free(j);
    return ok;
}

/* ---- preprocessor_config.json ------------------------------------------------------------------------------ */
/* 224, {"shortest_edge": 224} or {"height": 224, "width": 224}; *side is 0 where it is absent. */
static bool read_side(const json_scope *s, const char *key, size_t *side) {
    const cJSON *v;
    if (!json_field(s, key, &v)) return false;
    if (!cJSON_IsObject(v)) return json_size(s, key, 1, IMAGE_MOST, 0, side);
    json_scope inner;
    size_t width;
    if (!json_object(s, key, &inner) || !json_size(&inner, "shortest_edge", 1, IMAGE_MOST, 0, side)) return false;
    if (*side) return true;
    if (!json_size(&inner, "height", 1, IMAGE_MOST, JSON_REQUIRED, side) ||
        !json_size(&inner, "width", 1, IMAGE_MOST, JSON_REQUIRED, &width))
        return false;
    return width == *side ||
           json_wrong(&inner, "width", cJSON_GetObjectItemCaseSensitive(v, "width"), "the height: a square");
}

bool config_parse_preprocessor(const char *json, size_t length, const char *name, clip_config *out, err *e) {
    cJSON *j = parse_object(json, length, name, e);
    if (!j) return false;
    json_scope root = {.object = j, .file = name, .e = e};
    size_t side = 0, crop = 0;
    bool ok = read_pixels(&root, "image_mean", "image_std", out) && read_side(&root, "size", &side) &&
              read_side(&root, "crop_size", &crop);
    /* What reaches the network is the crop, where there is one. */
    const char *key = crop ? "crop_size" : "size";
    size_t found = crop ? crop : side;
    if (ok && found && found != out->image)
        ok = err_set(e, "%s: %s is %zu, expected the model's image size, %zu", name, key, found, out->image);
    json_free(j);
    return ok;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */
/* open_clip takes int(width*mlp_ratio): half a unit above keeps rounding harmless. */
static void write_ratio(FILE *f, const clip_tower *t) {
    if (t->mlp == 4 * t->width) return;
    if (t->mlp % t->width == 0)
        fprintf(f, "      \"mlp_ratio\": %zu.0,\n", t->mlp / t->width);
    else
        fprintf(f, "      \"mlp_ratio\": %.17g,\n", ((double)t->mlp + .5) / (double)t->width);
}

static void write_eps(FILE *f, const clip_tower *t) {
    if (t->eps != (real)1e-5) fprintf(f, "      \"norm_kwargs\": {\"eps\": %.9g},\n", (double)t->eps);
}

static void write_model(FILE *f, const clip_config *c) {
    fprintf(f, "{\n  \"model_cfg\": {\n    \"embed_dim\": %zu,\n    \"quick_gelu\": %s,\n    \"vision_cfg\": {\n",
            c->embed, c->act_vision == ACT_QUICK_GELU ? "true" : "false");
    write_ratio(f, &c->vision);
    write_eps(f, &c->vision);
    if (c->pool == CLIP_POOL_MEAN) fprintf(f, "      \"pool_type\": \"tokens_mean\",\n");
    fprintf(f,
            "      \"image_size\": %zu,\n      \"patch_size\": %zu,\n      \"width\": %zu,\n      \"layers\": %zu,\n"
            "      \"head_width\": %zu\n    },\n    \"text_cfg\": {\n",
            c->image, c->patch, c->vision.width, c->vision.layers, c->vision.width / c->vision.heads);
    write_ratio(f, &c->text);
    write_eps(f, &c->text);
    fprintf(f,
            "      \"context_length\": %zu,\n      \"vocab_size\": %zu,\n      \"width\": %zu,\n      \"heads\": %zu,\n"
            "      \"layers\": %zu\n    }\n  },\n",
            c->context, c->vocab, c->text.width, c->text.heads, c->text.layers);
}

bool config_write(FILE *f, const clip_config *c, err *e) {
    if (c->act_vision != c->act_text)
        return err_set(
            e, "the image tower uses %s and the text tower %s: open_clip's config has one activation for both",
            c->act_vision == ACT_GELU ? "gelu" : "quick_gelu", c->act_text == ACT_GELU ? "gelu" : "quick_gelu");
    write_model(f, c);
    fprintf(f, "  \"preprocess_cfg\": {\n    \"mean\": [%.9g, %.9g, %.9g],\n    \"std\": [%.9g, %.9g, %.9g]\n  }",
            (double)c->mean[0], (double)c->mean[1], (double)c->mean[2], (double)c->std[0], (double)c->std[1],
            (double)c->std[2]);
    if (c->invert.lr > 0 || c->invert.alpha > 0 || c->invert.iters || c->invert.layers)
        fprintf(f, ",\n  \"maskinv_cfg\": {\"lr\": %.9g, \"alpha\": %.9g, \"iters\": %zu, \"layers\": %zu}",
                (double)c->invert.lr, (double)c->invert.alpha, c->invert.iters, c->invert.layers);
    fprintf(f, "\n}\n");
    return true;
}
