/* checkpoint.c - from files to a clip_model, and back (see checkpoint.h). */
#include "models/checkpoint.h"
#include <math.h>
#include <string.h>
#include "files/json.h"
#include "models/containers.h"
#include "models/folder.h"
#include "models/model.h"
#include "models/pixels.h"
#include "models/tokens.h"
#include "models/unread.h"
#include "os/os.h"

struct checkpoint {
    clip_model model;
    char *name;              /* as asked for */
    char folder[PATH_ROOM];  /* where merges are looked for; empty: nowhere */
    checkpoint_bytes merges; /* built in */
    name_set names; /* whose layout it is */
    tensors *weights;
    token_settings speech;
    bool checked[3]; /* by check_side */
    tokenizer *words;
};

/* ---- tensors to weights -------------------------------------------------------------------------------- */
static const file_tensor *find(const checkpoint *c, const char *name) { return tensors_find(c->weights, name); }

static const char *weights_file(const checkpoint *c) { return tensors_name(c->weights); }

/* A tensor may have sides of 1 in front: [1,1,D] for [D]. */
static bool same_shape(const file_tensor *t, const size_t *shape, size_t rank) {
    const size_t *found = t->shape;
    size_t left = t->rank;
    while (left > rank && *found == 1) found++, left--;
    while (rank > left && *shape == 1) shape++, rank--;
    return left == rank && (rank == 0 || memcmp(found, shape, rank * sizeof *shape) == 0);
}

void checkpoint_weight_name(const checkpoint *c, clip_kind kind, size_t layer, char out[CHECKPOINT_NAME]) {
    weight_name w = names_find(&c->names, &c->model.config, c->weights, kind, layer);
    memcpy(out, w.name, CHECKPOINT_NAME);
}

typedef struct {
    checkpoint *c;
    err *e;
    bool *used; /* [tensors] */
    check_side side;
} binding;

/* Users of these read rows, or walk the matrix themselves: column order will not do. The other matrices are used by
 * clip_linear alone. */
static bool wants_rows(const clip_config *c, clip_kind kind) {
    return kind == W_POSITION || kind == W_TEXT_POSITION || kind == W_TEXT_POSITION_LONG || kind == W_TOKEN ||
           kind == W_QUERY || (!clip_of_text(kind) && c->pool != CLIP_POOL_PROBE);
}

/* Where a weight's numbers lie: a whole matrix in whichever order it has, a part of a joined one by rows. */
static const unsigned char *numbers_of(const clip_config *c, const file_tensor *t, const weight_name *n, clip_weight *w,
                                       clip_kind kind, err *e) {
    bool projection = n->form == FORM_PROJECTION, flipped = false;
    if (n->parts == 1 && !wants_rows(c, kind) && (projection || n->form == FORM_MATRIX)) {
        const unsigned char *p =
            tensor_matrix(t, projection ? w->cols : w->rows, projection ? w->rows : w->cols, &flipped, e);
        w->transposed = projection != flipped;
        return p;
    }
    const unsigned char *p = tensor_bytes(t, e);
    w->transposed = projection;
    return p ? p + clip_bytes(w->type, n->part * w->rows * w->cols) : NULL;
}

static bool bind(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    const binding *b = arg;
    const checkpoint *c = b->c;
    weight_name n = names_find(&c->names, &c->model.config, c->weights, kind, layer);
    size_t shape[4], rank = names_shape(&n, rows, cols, &c->model.config, kind, layer, shape);
    const file_tensor *t = find(c, n.name);
    if (!t)
        return err_set(b->e, "%s: tensor \"%s\" is missing, expected one of shape %s", weights_file(c), n.name,
                       st_shape(shape, rank).text);
    if (!same_shape(t, shape, rank))
        return err_set(b->e, "%s: tensor \"%s\" has shape %s, expected %s by the config", weights_file(c), n.name,
                       st_shape(t->shape, t->rank).text, st_shape(shape, rank).text);
    *w = (clip_weight){.rows = rows, .cols = cols};
    if (!clip_type_find(t->type, &w->type))
        return err_set(b->e, "%s: tensor \"%s\" has dtype %s, expected F32, F16, BF16 or F64 (or clip.cpp's blocks)",
                       weights_file(c), n.name, t->type);
    b->used[t - tensors_at(c->weights, 0)] = true;
    w->data = numbers_of(&c->model.config, t, &n, w, kind, b->e);
    return w->data != NULL;
}

/* Room for the blocks of all towers: one more each, so that none is empty. */
static bool make_room(clip_model *m) {
    const clip_config *c = &m->config;
    m->blocks = mem_alloc(c->vision.layers + 1, sizeof *m->blocks);
    m->text_blocks = mem_alloc(c->text.layers + 1, sizeof *m->text_blocks);
    m->decoder_blocks = mem_alloc(c->decoder.layers + 1, sizeof *m->decoder_blocks);
    m->cross_blocks = mem_alloc(c->decoder.layers + 1, sizeof *m->cross_blocks);
    m->pooler = mem_alloc(1, sizeof *m->pooler);
    m->convs = mem_alloc(clip_convs(c) + 1, sizeof *m->convs);
    return m->blocks && m->text_blocks && m->decoder_blocks && m->cross_blocks && m->pooler && m->convs;
}

static bool bind_all(checkpoint *c, err *e) {
    if (!names_recognise(c->weights, &c->names, e)) return false;
    if (!make_room(&c->model)) return err_set(e, "%s: not enough memory for its layers", c->name);
    binding b = {c, e, mem_alloc(tensors_count(c->weights), sizeof *b.used), CHECK_ALL};
    bool ok = b.used || err_set(e, "%s: not enough memory", c->name);
    ok = ok && clip_each_weight(&c->model, bind, &b) && unread_check(c->weights, b.used, e);
    mem_free(b.used);
    return ok;
}

/* ---- files ------------------------------------------------------------------------------------------------- */
static checkpoint *make(const char *name, err *e) {
    checkpoint *c = mem_alloc(1, sizeof *c);
    if (c) c->name = mem_text(name);
    if (c && c->name) return c;
    mem_free(c);
    err_set(e, "%s: not enough memory", name);
    return NULL;
}

void checkpoint_free(checkpoint *c) {
    if (!c) return;
    tensors_free(c->weights);
    tokenizer_free(c->words);
    mem_free(c->model.blocks);
    mem_free(c->model.text_blocks);
    mem_free(c->model.decoder_blocks);
    mem_free(c->model.cross_blocks);
    mem_free(c->model.pooler);
    mem_free(c->model.convs);
    mem_free(c->name);
    mem_free(c);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */
/* Settings of pixels that no processor of a CLIP has are said, not obeyed. */
static bool note_unknown(checkpoint *c, const char *json, size_t length, const char *name, err *e) {
    char unknown[200];
    const char *slash = os_last_slash(name);
    cJSON *root = json_parse(json, length, name, e);
    pixels_unknown(root, unknown, sizeof unknown);
    bool ok = root && (!*unknown || tensors_add_note(c->weights, e, "%.60s: not obeyed, because unknown here: %s", slash ? slash + 1 : name, unknown));
    json_free(root);
    return ok;
}

static bool read_config(checkpoint *c, const model_files *f, err *e) {
    clip_config *out = &c->model.config;
    char name[PATH_ROOM], pixels_name[PATH_ROOM];
    size_t length;
    bool found;
    char *json = model_files_config(f, c->weights, name, &length, e);
    bool ok = json && config_parse(json, length, name, out, e);
    if (ok) c->speech = tokens_settings(json, length);
    mem_free(json);
    if (!ok) return false;
    char *pixels = model_files_pixels(f, c->weights, name, pixels_name, &length, &found, e);
    ok = !found || (pixels && config_parse_preprocessor(pixels, length, pixels_name, out, e) && note_unknown(c, pixels, length, pixels_name, e));
    mem_free(pixels);
    /* switches that no config has: the tensors say them */
    out->text_long = tensors_find(c->weights, "positional_embedding_res") != NULL;
    out->alpha = tensors_find(c->weights, "visual.conv1_alpha.weight") != NULL;
    if (tensors_find(c->weights, "text_model.final_layer_norm.weight") && out->text_proj_bias &&
        !tensors_find(c->weights, "text_model.head.weight")) /* SigLIP's i18n model: the identity */
        out->no_text_proj = !(out->text_proj_bias = false);
    return ok;
}

checkpoint *checkpoint_open(const char *path, err *e) {
    model_files *f = mem_alloc(1, sizeof *f);
    checkpoint *c = f ? make(path, e) : NULL;
    if (!f) err_set(e, "%s: not enough memory", path);
    bool ok = c && model_files_find(path, f, e) && (c->weights = model_files_weights(f, e)) && read_config(c, f, e) &&
              bind_all(c, e) && (!*f->others || tensors_add_note(c->weights, e, "beside it, not read: %s", f->others));
    if (c) memcpy(c->folder, f->folder, sizeof c->folder);
    if (ok && tensors_merges(c->weights))
        c->merges = (checkpoint_bytes){tensors_merges(c->weights), strlen(tensors_merges(c->weights))};
    mem_free(f);
    if (ok) return c;
    checkpoint_free(c);
    return NULL;
}

checkpoint *checkpoint_parse(const char *name, checkpoint_bytes weights, checkpoint_bytes config,
                             checkpoint_bytes merges, err *e) {
    checkpoint *c = make(name, e);
    if (!c) return NULL;
    c->merges = merges;
    bool ok = config_parse(config.data, config.length, name, &c->model.config, e);
    if (ok) c->weights = tensors_parse(weights.data, weights.length, name, e);
    if (ok && c->weights && bind_all(c, e)) return c;
    checkpoint_free(c);
    return NULL;
}

checkpoint *checkpoint_builtin(err *e) {
    builtin_model b;
    if (builtin_model_get(&b))
        return checkpoint_parse("default", (checkpoint_bytes){b.weights, b.weights_length},
                                (checkpoint_bytes){b.config, b.config_length},
                                (checkpoint_bytes){b.merges, b.merges_length}, e);
    err_set(e, "this build has no model inside: name one (a folder or a .safetensors file)");
    return NULL;
}

/* ---- what was opened ------------------------------------------------------------------------------------------------
 */
const clip_model *checkpoint_model(const checkpoint *c) { return &c->model; }
const char *checkpoint_name(const checkpoint *c) { return c->name; }
const char *checkpoint_folder(const checkpoint *c) { return c->folder; }
const char *checkpoint_layout(const checkpoint *c) { return names_layout(&c->names); }
const tensors *checkpoint_tensors(const checkpoint *c) { return c->weights; }

/* Whose way with texts: big_vision's archives are read by Hugging Face's names, but not tokenized so. */
static const char *speaker(const checkpoint *c) {
    if (*c->speech.layout) return c->speech.layout;
    return strstr(tensors_container(c->weights), "npz") ? "big_vision" : checkpoint_layout(c);
}

token_settings checkpoint_texts(const checkpoint *c) {
    token_settings s = c->speech;
    bool clips = !c->model.config.text_unmasked && c->model.config.read == CLIP_READ_LARGEST; /* cleaned alike everywhere */
    snprintf(s.layout, sizeof s.layout, "%s", clips || !strncmp(speaker(c), "open_clip", 9) ? "" : speaker(c));
    return s;
}

const tokenizer *checkpoint_tokenizer(checkpoint *c, err *e) {
    if (c->words) return c->words;
    if (!c->model.config.text.layers)
        return (void)err_set(e, "%s: it has no text side, or another network's that is not read: pictures only", c->name), NULL;
    c->words = c->merges.data ? tokens_parse(c->merges.data, c->merges.length, &c->model.config, c->name, e)
                              : tokens_open(c->folder, &c->speech, &c->model.config, speaker(c), c->name, e);
    if (c->words) c->model.config.pad = tokens_pad(c->words, &c->model.config);
    return c->words;
}

/* ---- numbers that are none
 * ------------------------------------------------------------------------------------------------ */
enum { PIECE = 2048 };

/* Of blocked types the scale, a float16, and the offset behind it where there is one. */
static size_t count_odd_blocks(const unsigned char *p, clip_type type, size_t n) {
    size_t odd = 0, halves = type == CLIP_Q4_1 || type == CLIP_Q5_1 ? 2 : 1;
    for (size_t i = 0; i < n; i += CLIP_BLOCK, p += clip_block_bytes(type))
        for (size_t k = 0; k < halves; k++) odd += (p[2 * k + 1] & 0x7c) == 0x7c;
    return odd;
}

/* Float64: those that are none in use either, 1e300 in float32. */
static size_t count_odd_doubles(const unsigned char *p, size_t n) {
    size_t odd = 0;
    for (size_t i = 0; i < n; i++, p += sizeof(double)) {
        double x;
        memcpy(&x, p, sizeof x);
        order_bytes(&x, 1, sizeof x);
        odd += isfinite((real)x) ? 0 : 1;
    }
    return odd;
}

/* Exponent bits all set: NaN or infinity. How many of n <= PIECE numbers are. */
static size_t count_odd(const unsigned char *p, clip_type type, size_t n) {
    uint32_t odd = 0;
    if (clip_block_bytes(type)) return count_odd_blocks(p, type, n);
    if (type == CLIP_F64) return count_odd_doubles(p, n);
    if (type == CLIP_F32) {
        uint32_t x[PIECE];
        memcpy(x, p, n * sizeof *x);
        order_bytes(x, n, sizeof *x);
        for (size_t i = 0; i < n; i++) odd += (x[i] & 0x7f800000u) == 0x7f800000u;
    } else {
        uint16_t x[PIECE], mask = type == CLIP_F16 ? 0x7c00 : 0x7f80;
        memcpy(x, p, n * sizeof *x);
        order_bytes(x, n, sizeof *x);
        for (size_t i = 0; i < n; i++) odd += (x[i] & mask) == mask;
    }
    return odd;
}

static bool find_odd(const clip_weight *w, size_t *at) {
    const unsigned char *p = w->data;
    size_t count = w->rows * w->cols, step = clip_block_bytes(w->type) ? CLIP_BLOCK : 1;
    for (size_t i = 0; i < count; i += PIECE) {
        size_t n = count - i < PIECE ? count - i : PIECE;
        if (!count_odd(p + clip_bytes(w->type, i), w->type, n)) continue;
        for (*at = i; !count_odd(p + clip_bytes(w->type, *at), w->type, step);) *at += step;
        return true;
    }
    return false;
}

/* Logits are exp(logit_scale) times a cosine: beyond LOGIT_MOST no float holds them. Published scales end at ln 100. */
enum { LOGIT_MOST = 80 };
static bool check_logit_scale(const binding *b, const char *name, double scale) {
    if (scale <= (double)LOGIT_MOST) return true;
    return err_set(b->e,
                   "%s: tensor \"%s\" is %g, whose exponential no float holds: a logarithm is expected, %.4g if what is "
                   "stored is the scale itself",
                   weights_file(b->c), name, scale, log(scale));
}

static bool check_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    const binding *b = arg;
    size_t at;
    if (b->side == (clip_of_text(kind) ? CHECK_IMAGE : CHECK_TEXT) && kind != W_LOGIT_SCALE) return true;
    weight_name n = names_find(&b->c->names, &b->c->model.config, b->c->weights, kind, layer);
    if (!find_odd(w, &at))
        return kind != W_LOGIT_SCALE || check_logit_scale(b, n.name, (double)clip_number(w, 0));
    const char *what = isnan(clip_number(w, at)) ? "NaN" : w->type == CLIP_F64 ? "infinite, or too large for float32" : "infinite";
    return err_set(b->e, "%s: tensor \"%s\": number %zu is %s, expected finite ones", weights_file(b->c), n.name,
                   at + n.part * rows * cols, what);
}

static bool check_finite(const checkpoint *c, check_side side, err *e) {
    checkpoint copy = *c; /* the walk hands out weights that may be changed; these are not */
    binding b = {&copy, e, NULL, side};
    return clip_each_weight(&copy.model, check_weight, &b);
}

bool checkpoint_check_finite(const checkpoint *c, err *e) { return check_finite(c, CHECK_ALL, e); }

bool checkpoint_check_side(checkpoint *c, check_side side, err *e) {
    if (!c->checked[CHECK_ALL] && !c->checked[side]) c->checked[side] = check_finite(c, side, e);
    return c->checked[CHECK_ALL] || c->checked[side];
}
