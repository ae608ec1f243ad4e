/* config.c - which form a config is in (see config.h). Defaults are CLIPConfig's and open_clip's own. */
#include "models/config.h"
#include <string.h>
#include "models/config_parts.h"
#include "models/pixels.h"

static bool read_invert(const json_scope *root, clip_config *c) {
    json_scope s;
    double lr, alpha;
    if (!json_object(root, "maskinv_cfg", &s) || !json_number(&s, "lr", 0, 1e6, 0, &lr) ||
        !json_number(&s, "alpha", 0, 1e6, 0, &alpha) || !json_size(&s, "iters", 0, 1000000, 0, &c->invert.iters) ||
        !json_size(&s, "layers", 0, clip_depth(c), 0, &c->invert.layers) ||
        !json_size(&s, "size", 0, IMAGE_MOST, 0, &c->invert.size))
        return false;
    if (c->invert.size % c->patch)
        return err_set(s.e, "%s: maskinv_cfg.size is %zu, expected a multiple of the patch, %zu", s.file, c->invert.size,
                       c->patch);
    const cJSON *texts = cJSON_GetObjectItemCaseSensitive(s.object, "texts");
    const char *layout = cJSON_IsString(texts) ? texts->valuestring : "";
    if (texts && strcmp(layout, "Hugging Face") && strcmp(layout, "big_vision"))
        return json_wrong(&s, "texts", texts, "\"Hugging Face\" or \"big_vision\"");
    c->invert.lr = (real)lr;
    c->invert.alpha = (real)alpha;
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
    *out = (clip_config){0};
    pixels_defaults(out);
    bool ok = parse_root(&root, out);
    if (ok && out->patch > out->image) /* the family's own patch, where the file names none */
        ok = err_set(e, "%s: image size %zu found, at least the patch, %zu, expected", name, out->image, out->patch);
    json_free(j);
    return ok;
}

/* ---- preprocessor_config.json ------------------------------------------------------------------------------ */
bool config_parse_preprocessor(const char *json, size_t length, const char *name, clip_config *out, err *e) {
    cJSON *j = parse_object(json, length, name, e);
    if (!j) return false;
    bool ok = pixels_read_hugging_face(&(json_scope){.object = j, .file = name, .e = e}, out);
    json_free(j);
    return ok;
}

size_t config_side(const clip_config *c, size_t sides) {
    if (sides == 1) return c->image;
    return c->invert.size ? c->invert.size : sides * (c->image / c->patch) * c->patch;
}

const char *config_side_from(const clip_config *c, size_t sides) {
    return sides == 1 ? "the model's image" : c->invert.size ? "the model's config" : "twice the model's image";
}

size_t config_layers(const clip_config *c) { return c->invert.layers ? c->invert.layers : 1; }

const char *config_layers_from(const clip_config *c) { return c->invert.layers ? "the model's config" : "the paper's"; }
