/* config.c - what all configs share: pixels, bounds, which form it is (see config.h). Defaults are CLIPConfig's and
 * open_clip's own. */
#include "models/config.h"
#include <string.h>
#include "models/config_parts.h"

/* ---- what the forms share -------------------------------------------------------------------- */
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
bool config_eps(const json_scope *s, const char *key, double absent, real *eps) {
    double x;
    if (!json_number(s, key, 0x1p-40, 0.125, absent, &x)) return false;
    *eps = (real)x;
    return true;
}

bool config_pixels(const json_scope *s, const char *mean, const char *std, clip_config *c) {
    return read_three(s, mean, -1000, c->mean) && read_three(s, std, 0x1p-20, c->std);
}

bool config_divides(const json_scope *s, const char *key, size_t part, const char *of, size_t whole) {
    if (whole % part == 0) return true;
    return err_set(s->e, "%s: %s.%s is %zu, expected a divisor of %s, %zu", s->file, s->path, key, part, of, whole);
}

static bool read_invert(const json_scope *root, clip_config *c) {
    json_scope s;
    double lr, alpha;
    if (!json_object(root, "maskinv_cfg", &s) || !json_number(&s, "lr", 0, 1e6, 0, &lr) ||
        !json_number(&s, "alpha", 0, 1e6, 0, &alpha) || !json_size(&s, "iters", 0, 1000000, 0, &c->invert.iters) ||
        !json_size(&s, "layers", 0, clip_depth(c), 0, &c->invert.layers))
        return false;
    c->invert.lr = (real)lr;
    c->invert.alpha = (real)alpha;
    return true;
}

bool config_is_off(const cJSON *v) {
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

bool config_check_switches(const json_scope *s, const char *fields) {
    for (const cJSON *v = s->object ? s->object->child : NULL; v; v = v->next) {
        char room[32], found[64];
        const char *only = allowed_value(fields, v->string, room);
        if (only ? !*only || cJSON_IsNull(v) || (cJSON_IsString(v) && strcmp(v->valuestring, only) == 0) : config_is_off(v))
            continue;
        json_describe(v, found, sizeof found);
        return err_set(s->e, "%s: %s.%.60s is %s, which is not supported%s%s", s->file, s->path, v->string, found,
                       only ? ", expected " : "", only ? only : "");
    }
    return true;
}

void config_finish(clip_config *c) {
    if (c->pool == CLIP_POOL_PROBE || c->pool == CLIP_POOL_CELLS) c->queries = 1;
    if (!clip_has_pooler(c)) c->pooler = (clip_tower){0};
    c->pooler.layers = 0; /* it is no block */
    c->pooler.layer_scale = c->pooler.post_norm = c->pooler.sub_norm = c->pooler.swiglu = c->pooler.no_key_bias = false;
    c->act_pooler = c->act_vision;
}

bool config_mlp(const json_scope *s, double ratio, clip_tower *t) {
    double mlp = (double)t->width * ratio;
    if (!(mlp >= 1 && mlp <= MLP_MOST))
        return err_set(s->e, "%s: %s.mlp_ratio is %g, expected one that makes width %zu a whole number from 1 to %d",
                       s->file, s->path, ratio, t->width, MLP_MOST);
    t->mlp = (size_t)mlp;
    return true;
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
    if (cJSON_GetObjectItemCaseSensitive(root->object, "model_cfg") ||
        cJSON_GetObjectItemCaseSensitive(root->object, "vision_cfg"))
        return config_open_clip(root, c) && read_invert(root, c);
    if (hugging_face) return config_hugging_face(root, c) && read_invert(root, c);
    if (cJSON_GetObjectItemCaseSensitive(root->object, "architecture"))
        return err_set(root->e,
                       "%s: a timm config, of an image tower alone: expected open_clip_config.json, or Hugging Face's "
                       "config.json with vision_config and text_config",
                       root->file);
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
    bool ok = config_pixels(&root, "image_mean", "image_std", out) && read_side(&root, "size", &side) &&
              read_side(&root, "crop_size", &crop);
    /* What reaches the network is the crop, where there is one. */
    const char *key = crop ? "crop_size" : "size";
    size_t found = crop ? crop : side;
    if (ok && found && found != out->image)
        ok = err_set(e, "%s: %s is %zu, expected the model's image size, %zu", name, key, found, out->image);
    json_free(j);
    return ok;
}
