/* pixels.c - both families' words for the way from a picture to the network (see pixels.h). */
#include "models/pixels.h"
#include "files/longtext.h"
#include "models/config_parts.h"
#include <math.h>
#include <string.h>

void pixels_defaults(clip_config *c) {
    static const real mean[3] = {(real).48145466, (real).4578275, (real).40821073}; /* (2.1) */
    static const real std[3] = {(real).26862954, (real).26130258, (real).27577711};
    memcpy(c->mean, mean, sizeof mean);
    memcpy(c->std, std, sizeof std);
    c->pixels = (clip_pixels){0};
}

/* ---- what both families share ------------------------------------------------------------------------- */
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

static bool read_mean_std(const json_scope *s, const char *mean, const char *std, clip_config *c) {
    return read_three(s, mean, -1000, c->mean) && read_three(s, std, 0x1p-20, c->std);
}

/* The word that stands under key is words[*index]; absent: words[0]. */
static bool read_word(const json_scope *s, const char *key, const char *const *words, size_t count, size_t *index) {
    const char *word;
    char expected[128] = "";
    if (!json_string(s, key, words[0], &word)) return false;
    for (*index = 0; *index < count; ++*index)
        if (!strcmp(words[*index], word)) return true;
    for (size_t i = 0; i < count; i++)
        snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%s",
                 i == 0 ? "" : i + 1 < count ? ", " : " or ", words[i]);
    return err_set(s->e, "%s: %s.%s is \"%.40s\", which is not supported, expected %s", s->file, s->path, key, word,
                   expected);
}

/* ---- open_clip: preprocess_cfg ----------------------------------------------------------------------------- */
static const char *const OPEN_CLIP_FIELDS[] = {"mean",        "std",           "size",
                                               "fill_color",  "resize_mode",   "mode",
                                               "interpolation", "resize_side", "crop_rounding"};
static const char *const RESIZE[] = {"shortest", "squash", "longest"}; /* clip_resize's order */

static bool check_fields(const json_scope *s) {
    for (const cJSON *v = s->object ? s->object->child : NULL; v; v = v->next) {
        char found[64];
        bool known = config_is_off(v);
        for (size_t i = 0; !known && i < sizeof OPEN_CLIP_FIELDS / sizeof *OPEN_CLIP_FIELDS; i++)
            known = !strcmp(v->string, OPEN_CLIP_FIELDS[i]);
        if (known) continue;
        json_describe(v, found, sizeof found);
        return err_set(s->e, "%s: %s.%.60s is %s, which is not supported", s->file, s->path, v->string, found);
    }
    return true;
}

/* A number, or three. */
static bool read_fill(const json_scope *s, unsigned char fill[3]) {
    const cJSON *v;
    if (!json_field(s, "fill_color", &v)) return false;
    if (!v) return true;
    bool list = cJSON_IsArray(v) && cJSON_GetArraySize(v) == 3;
    const cJSON *item = list ? v->child : v;
    for (int i = 0; i < 3; i++, item = list ? item->next : v) {
        size_t n;
        if (!json_whole(item, &n) || n > 255) return json_wrong(s, "fill_color", v, "0 to 255, or three of that");
        fill[i] = (unsigned char)n;
    }
    return true;
}

/* A side, or [height, width]; open_clip's is the image's whatever stands here, so another one is a contradiction. */
static bool check_size(const json_scope *s, size_t image) {
    const cJSON *v;
    if (!json_field(s, "size", &v)) return false;
    bool pair = cJSON_IsArray(v) && cJSON_GetArraySize(v) == 2;
    for (const cJSON *item = pair ? v->child : v; item; item = pair ? item->next : NULL) {
        size_t side;
        if (json_whole(item, &side) && side == image) continue;
        char expected[64];
        snprintf(expected, sizeof expected, "vision_cfg.image_size, %zu", image);
        return json_wrong(s, "size", item, expected);
    }
    return true;
}

bool pixels_read_open_clip(const json_scope *s, clip_config *c) {
    static const char *const filters[] = {"bicubic", "bilinear", "random"}; /* random: in training alone */
    static const char *const modes[] = {"RGB"}, *const rounding[] = {"even", "down"};
    size_t resize, filter, mode, round;
    if (!check_fields(s) || !read_mean_std(s, "mean", "std", c) || !check_size(s, c->image) ||
        !read_word(s, "resize_mode", RESIZE, 3, &resize) || !read_word(s, "interpolation", filters, 3, &filter) ||
        !read_word(s, "mode", modes, 1, &mode) || !read_fill(s, c->pixels.fill) ||
        !json_size(s, "resize_side", c->image, IMAGE_MOST, 0, &c->pixels.side) ||
        !read_word(s, "crop_rounding", rounding, 2, &round))
        return false;
    c->pixels.resize = (clip_resize)resize;
    c->pixels.bilinear = filter == 1;
    c->pixels.crop_down = round == 1;
    if (c->pixels.side == c->image) c->pixels.side = 0;
    return true;
}

/* ---- Hugging Face: preprocessor_config.json ------------------------------------------------------------------ */
typedef struct {
    size_t side; /* 0: not said */
    bool square; /* height and width, not the shorter side */
} hf_size;

/* 224, {"shortest_edge": 224} or {"height": 224, "width": 224}. */
static bool read_size(const json_scope *s, const char *key, hf_size *out) {
    const cJSON *v;
    *out = (hf_size){0};
    if (!json_field(s, key, &v)) return false;
    if (!cJSON_IsObject(v)) return json_size(s, key, 1, IMAGE_MOST, 0, &out->side);
    json_scope inner;
    size_t width;
    if (!json_object(s, key, &inner) || !json_size(&inner, "shortest_edge", 1, IMAGE_MOST, 0, &out->side)) return false;
    if (out->side) return true;
    out->square = true;
    if (!json_size(&inner, "height", 1, IMAGE_MOST, JSON_REQUIRED, &out->side) ||
        !json_size(&inner, "width", 1, IMAGE_MOST, JSON_REQUIRED, &width))
        return false;
    return width == out->side ||
           json_wrong(&inner, "width", cJSON_GetObjectItemCaseSensitive(v, "width"), "the height: a square");
}

typedef struct {
    hf_size size, crop;
    bool resizes, crops, crop_said, square;
} hf_plan;

static bool read_plan(const json_scope *s, hf_plan *p) {
    const char *type, *older;
    const cJSON *crops;
    if (!read_size(s, "size", &p->size) || !read_size(s, "crop_size", &p->crop) ||
        !json_field(s, "do_center_crop", &crops) || !json_bool(s, "do_resize", true, &p->resizes) ||
        !json_string(s, "feature_extractor_type", "", &older) || !json_string(s, "image_processor_type", older, &type))
        return false;
    p->crop_said = crops != NULL || p->crop.side;
    p->square = p->size.square || strstr(type, "Siglip"); /* whose `size` is both sides */
    return json_bool(s, "do_center_crop", p->crop.side || !p->square, &p->crops);
}

/* The side that reaches the network must be the model's. */
static bool check_side(const json_scope *s, const hf_plan *p, size_t image) {
    const char *key = p->crops && p->crop.side ? "crop_size" : "size";
    size_t found = p->crops && p->crop.side ? p->crop.side : p->size.side;
    if (!found || found == image || (p->crops && !p->crop.side && p->crop_said && found > image)) return true;
    return err_set(s->e, "%s: %s is %zu, expected the model's image size, %zu", s->file, key, found, image);
}

static bool apply_plan(const json_scope *s, const hf_plan *p, clip_config *c) {
    size_t side = p->size.side ? p->size.side : c->image;
    if (!check_side(s, p, c->image)) return false;
    if (!p->resizes && !p->crops)
        return err_set(s->e, "%s: do_resize and do_center_crop are both false: pictures would keep their sides, %zux%zu "
                             "pixels expected",
                       s->file, c->image, c->image);
    if (!p->crops && !p->square)
        return err_set(s->e, "%s: do_center_crop is false where size is a shorter side: pictures would not be square, %zux%zu "
                             "pixels expected",
                       s->file, c->image, c->image);
    if (p->resizes && side < c->image)
        return err_set(s->e, "%s: size is %zu, less than the %zu that are cropped from it", s->file, side, c->image);
    c->pixels.resize = !p->resizes ? RESIZE_NONE : p->square ? RESIZE_SQUASH : RESIZE_SHORTEST;
    c->pixels.side = !p->resizes || side == c->image ? 0 : side;
    c->pixels.crop_down = p->crop_said;
    return true;
}

/* Filters by Pillow's numbers. */
static bool read_filter(const json_scope *s, clip_config *c) {
    static const char *const names[] = {"nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"};
    size_t filter;
    if (!json_size(s, "resample", 0, 5, 3, &filter)) return false;
    c->pixels.bilinear = filter == 2;
    if (filter == 2 || filter == 3) return true;
    return err_set(s->e, "%s: resample is %zu (%s), which is not supported, expected 2 (bilinear) or 3 (bicubic)", s->file,
                   filter, names[filter]);
}

static bool read_range(const json_scope *s, clip_config *c) {
    bool rescales, normalises;
    double factor, scale;
    if (!json_bool(s, "do_rescale", true, &rescales) || !json_bool(s, "do_normalize", true, &normalises) ||
        !json_number(s, "rescale_factor", 1e-6, 1e6, 1.0 / 255, &factor) ||
        !read_mean_std(s, "image_mean", "image_std", c))
        return false;
    for (size_t i = 0; !normalises && i < 3; i++) c->mean[i] = 0, c->std[i] = 1;
    scale = rescales ? 255 * factor : 255;
    if (fabs(scale - 1) < 1e-5) return true; /* 1/255 in few digits */
    for (size_t i = 0; i < 3; i++) {
        c->mean[i] = (real)((double)c->mean[i] / scale);
        c->std[i] = (real)((double)c->std[i] / scale);
    }
    return true;
}

/* Steps that some processors have, and no CLIP needs. */
static bool check_steps(const json_scope *s) {
    static const char *const others[] = {"do_pad", "do_flip_channel_order", "do_thumbnail", "do_align_long_axis"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        bool on;
        if (!json_bool(s, others[i], false, &on)) return false;
        if (on) return err_set(s->e, "%s: %s is true, which is not supported", s->file, others[i]);
    }
    return true;
}

/* What is read above, and what changes no pixel of an RGB picture. */
static const char *const HUGGING_FACE_FIELDS[] = {
    "size", "crop_size", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "rescale_factor", "image_mean", "image_std",
    "resample", "feature_extractor_type", "image_processor_type", "do_pad", "do_flip_channel_order", "do_thumbnail",
    "do_align_long_axis", "do_convert_rgb", "processor_class", "tokenizer_class", "auto_map", "_valid_processor_keys", "_name_or_path",
    "_commit_hash", "transformers_version", "return_tensors", "data_format", "input_data_format", "device", "use_fast",
    "disable_grouping", "image_seq_length", "num_channels", "shortest_edge", "height", "width"};

static void add_unknown(const cJSON *object, const char *before, char *out, size_t size) {
    const cJSON *v;
    cJSON_ArrayForEach(v, object) {
        bool known = !v->string || config_is_off(v);
        for (size_t i = 0; !known && i < sizeof HUGGING_FACE_FIELDS / sizeof *HUGGING_FACE_FIELDS; i++)
            known = !strcmp(v->string, HUGGING_FACE_FIELDS[i]);
        size_t used = strlen(out);
        if (!known) snprintf(out + used, size - used, "%s%s%.40s", used ? ", " : "", before, v->string);
    }
}

void pixels_unknown(const cJSON *root, char *out, size_t size) {
    *out = 0;
    if (cJSON_IsObject(root)) add_unknown(root, "", out, size);
    if (cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(root, "size"))) add_unknown(cJSON_GetObjectItemCaseSensitive(root, "size"), "size.", out, size);
}

bool pixels_read_hugging_face(const json_scope *s, clip_config *c) {
    hf_plan p;
    return read_range(s, c) && read_filter(s, c) && check_steps(s) && read_plan(s, &p) && apply_plan(s, &p, c);
}

/* ---- writing, and telling ---------------------------------------------------------------------------------------- */
bool pixels_write(FILE *f, const clip_config *c, err *e) {
    const clip_pixels *p = &c->pixels;
    if (p->resize == RESIZE_NONE)
        return err_set(e, "pictures are not resized by this model's settings: open_clip's config has no words for that");
    fprintf(f, "  \"preprocess_cfg\": {\n    \"mean\": [");
    for (int k = 0; k < 3; k++) fprintf(f, "%s%.*g", k ? ", " : "", REAL_DIGITS, (double)c->mean[k]);
    fprintf(f, "],\n    \"std\": [");
    for (int k = 0; k < 3; k++) fprintf(f, "%s%.*g", k ? ", " : "", REAL_DIGITS, (double)c->std[k]);
    fprintf(f, "]");
    if (p->resize != RESIZE_SHORTEST) fprintf(f, ",\n    \"resize_mode\": \"%s\"", RESIZE[p->resize]);
    if (p->bilinear) fprintf(f, ",\n    \"interpolation\": \"bilinear\"");
    if (p->fill[0] || p->fill[1] || p->fill[2])
        fprintf(f, ",\n    \"fill_color\": [%d, %d, %d]", p->fill[0], p->fill[1], p->fill[2]);
    if (p->side) fprintf(f, ",\n    \"resize_side\": %zu", p->side);
    if (p->crop_down) fprintf(f, ",\n    \"crop_rounding\": \"down\"");
    fprintf(f, "\n  }");
    return true;
}

void pixels_describe(const clip_config *c, char *out, size_t size) {
    static const char *const how[] = {"shorter side to", "squashed to", "longer side to", "not resized, of"};
    const clip_pixels *p = &c->pixels;
    const char *filter = p->resize == RESIZE_NONE ? "" : p->bilinear ? ", bilinear" : ", bicubic";
    bool crops = p->resize == RESIZE_SHORTEST || p->resize == RESIZE_NONE || p->side;
    snprintf(out, size, "%s %zu%s%s", how[p->resize], p->side ? p->side : c->image, filter,
             p->resize == RESIZE_LONGEST ? ", the rest filled" : crops ? ", centre crop" : "");
}
