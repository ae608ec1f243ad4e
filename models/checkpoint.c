/* checkpoint.c - from files to a clip_model, and back (see checkpoint.h). */
#include "models/checkpoint.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "files/json.h"
#include "models/model.h"

enum { CONFIG_BYTES = 16 << 20, PATH_BYTES = 4096 };
typedef enum { OPEN_CLIP, HUGGING_FACE } family;

struct checkpoint {
    clip_model model;
    char *name;              /* as asked for */
    char folder[PATH_BYTES]; /* where merges are looked for; empty: nowhere */
    checkpoint_bytes merges; /* built in */
    family layout;
    bool text_prefix; /* open_clip's text tower stands under "text." */
    tensors *weights;
    tokenizer *words;
};

/* ---- what the weights are called (MODEL.md 1) ------------------------------------------------------ */
/* How a weight [rows, cols] is stored. PROJECTION: open_clip keeps [cols, rows]. CONVOLUTION: [rows, 3, p, p]. */
typedef enum { MATRIX, VECTOR, SCALAR, PROJECTION, CONVOLUTION } form;
typedef struct {
    const char *name[2]; /* by family */
    form stored;
    char third; /* open_clip: 'q', 'k' or 'v' in the tensor of all three; 0: whole */
} naming;

static const naming WEIGHTS[W_BLOCK] = {
    [W_PATCH] = {{"visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"}, CONVOLUTION, 0},
    [W_CLASS] = {{"visual.class_embedding", "vision_model.embeddings.class_embedding"}, VECTOR, 0},
    [W_POSITION] = {{"visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"}, MATRIX, 0},
    [W_PRE_GAMMA] = {{"visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"}, VECTOR, 0},
    [W_PRE_BETA] = {{"visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"}, VECTOR, 0},
    [W_POST_GAMMA] = {{"visual.ln_post.weight", "vision_model.post_layernorm.weight"}, VECTOR, 0},
    [W_POST_BETA] = {{"visual.ln_post.bias", "vision_model.post_layernorm.bias"}, VECTOR, 0},
    [W_PROJ] = {{"visual.proj", "visual_projection.weight"}, PROJECTION, 0},
    [W_TOKEN] = {{"token_embedding.weight", "text_model.embeddings.token_embedding.weight"}, MATRIX, 0},
    [W_TEXT_POSITION] = {{"positional_embedding", "text_model.embeddings.position_embedding.weight"}, MATRIX, 0},
    [W_FINAL_GAMMA] = {{"ln_final.weight", "text_model.final_layer_norm.weight"}, VECTOR, 0},
    [W_FINAL_BETA] = {{"ln_final.bias", "text_model.final_layer_norm.bias"}, VECTOR, 0},
    [W_TEXT_PROJ] = {{"text_projection", "text_projection.weight"}, PROJECTION, 0},
    [W_LOGIT_SCALE] = {{"logit_scale", "logit_scale"}, SCALAR, 0},
};

enum { BLOCK_WEIGHTS = W_TEXT_BLOCK - W_BLOCK };
static const naming BLOCK[BLOCK_WEIGHTS] = {
    /* in clip_block_weights' order */
    {{"ln_1.weight", "layer_norm1.weight"}, VECTOR, 0},
    {{"ln_1.bias", "layer_norm1.bias"}, VECTOR, 0},
    {{"attn.in_proj_weight", "self_attn.q_proj.weight"}, MATRIX, 'q'},
    {{"attn.in_proj_bias", "self_attn.q_proj.bias"}, VECTOR, 'q'},
    {{"attn.in_proj_weight", "self_attn.k_proj.weight"}, MATRIX, 'k'},
    {{"attn.in_proj_bias", "self_attn.k_proj.bias"}, VECTOR, 'k'},
    {{"attn.in_proj_weight", "self_attn.v_proj.weight"}, MATRIX, 'v'},
    {{"attn.in_proj_bias", "self_attn.v_proj.bias"}, VECTOR, 'v'},
    {{"attn.out_proj.weight", "self_attn.out_proj.weight"}, MATRIX, 0},
    {{"attn.out_proj.bias", "self_attn.out_proj.bias"}, VECTOR, 0},
    {{"ln_2.weight", "layer_norm2.weight"}, VECTOR, 0},
    {{"ln_2.bias", "layer_norm2.bias"}, VECTOR, 0},
    {{"mlp.c_fc.weight", "mlp.fc1.weight"}, MATRIX, 0},
    {{"mlp.c_fc.bias", "mlp.fc1.bias"}, VECTOR, 0},
    {{"mlp.c_proj.weight", "mlp.fc2.weight"}, MATRIX, 0},
    {{"mlp.c_proj.bias", "mlp.fc2.bias"}, VECTOR, 0},
};

static const naming *naming_of(clip_kind kind) {
    if (kind < W_BLOCK) return &WEIGHTS[kind];
    return &BLOCK[(kind - W_BLOCK) % BLOCK_WEIGHTS];
}

static bool in_text_tower(clip_kind kind) { return kind >= W_TEXT_BLOCK || (kind >= W_TOKEN && kind <= W_TEXT_PROJ); }

static void weight_name(family layout, bool text_prefix, clip_kind kind, size_t layer, char out[CHECKPOINT_NAME]) {
    bool text = in_text_tower(kind);
    const char *name = naming_of(kind)->name[layout];
    const char *prefix = text_prefix && text ? "text." : "";
    if (kind < W_BLOCK)
        snprintf(out, CHECKPOINT_NAME, "%s%s", prefix, name);
    else if (layout == OPEN_CLIP)
        snprintf(out, CHECKPOINT_NAME, "%s%stransformer.resblocks.%zu.%s", prefix, text ? "" : "visual.", layer, name);
    else
        snprintf(out, CHECKPOINT_NAME, "%s_model.encoder.layers.%zu.%s", text ? "text" : "vision", layer, name);
}

void checkpoint_weight_name(const checkpoint *c, clip_kind kind, size_t layer, char out[CHECKPOINT_NAME]) {
    weight_name(c->layout, c->text_prefix, kind, layer, out);
}

/* The tensor's shape in the file; returns its rank. */
static size_t stored_shape(family layout, const naming *n, size_t rows, size_t cols, size_t patch, size_t shape[4]) {
    size_t times = layout == OPEN_CLIP && n->third ? 3 : 1;
    switch (n->stored) {
    case SCALAR:
        return 0;
    case VECTOR:
        shape[0] = times * cols;
        return 1;
    case CONVOLUTION:
        shape[0] = rows, shape[1] = 3, shape[2] = shape[3] = patch;
        return 4;
    case PROJECTION:
        shape[0] = layout == OPEN_CLIP ? cols : rows;
        shape[1] = layout == OPEN_CLIP ? rows : cols;
        return 2;
    case MATRIX:
        break;
    }
    shape[0] = times * rows, shape[1] = cols;
    return 2;
}

/* ---- tensors to weights -------------------------------------------------------------------------------- */
static const file_tensor *find(const checkpoint *c, const char *name) { return tensors_find(c->weights, name); }

static const char *weights_file(const checkpoint *c) { return tensors_name(c->weights); }

static bool number_type(const file_tensor *t, clip_type *type, size_t *bytes) {
    *type = strcmp(t->type, "F32") == 0 ? CLIP_F32 : strcmp(t->type, "F16") == 0 ? CLIP_F16 : CLIP_BF16;
    *bytes = *type == CLIP_F32 ? 4 : 2;
    return *type != CLIP_BF16 || strcmp(t->type, "BF16") == 0;
}

static bool same_shape(const file_tensor *t, const size_t *shape, size_t rank) {
    if (rank == 0 && t->rank == 1 && t->shape[0] == 1) return true; /* a scalar as [1] */
    return t->rank == rank && (rank == 0 || memcmp(t->shape, shape, rank * sizeof *shape) == 0);
}

typedef struct {
    checkpoint *c;
    err *e;
} binding;

static bool bind(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    const binding *b = arg;
    const checkpoint *c = b->c;
    const naming *n = naming_of(kind);
    char name[CHECKPOINT_NAME];
    size_t shape[4], bytes, rank = stored_shape(c->layout, n, rows, cols, c->model.config.patch, shape);
    checkpoint_weight_name(c, kind, layer, name);
    const file_tensor *t = find(c, name);
    if (!t)
        return err_set(b->e, "%s: tensor \"%s\" is missing, expected one of shape %s", weights_file(c), name,
                       st_shape(shape, rank).text);
    if (!same_shape(t, shape, rank))
        return err_set(b->e, "%s: tensor \"%s\" has shape %s, expected %s by the config", weights_file(c), name,
                       st_shape(t->shape, t->rank).text, st_shape(shape, rank).text);
    *w = (clip_weight){.rows = rows, .cols = cols, .transposed = n->stored == PROJECTION && c->layout == OPEN_CLIP};
    if (!number_type(t, &w->type, &bytes))
        return err_set(b->e, "%s: tensor \"%s\" has dtype %s, expected F32, F16 or BF16", weights_file(c), name,
                       t->type);
    size_t third = c->layout == OPEN_CLIP && n->third ? (size_t)(strchr("qkv", n->third) - "qkv") : 0;
    const unsigned char *data = tensor_bytes(t, b->e);
    w->data = data ? data + third * rows * cols * bytes : NULL;
    return data != NULL;
}

static bool bind_all(checkpoint *c, err *e) {
    clip_model *m = &c->model;
    bool open_clip = find(c, WEIGHTS[W_PATCH].name[OPEN_CLIP]), other = find(c, WEIGHTS[W_PATCH].name[HUGGING_FACE]);
    if (!open_clip && !other)
        return err_set(e, "%s: no CLIP ViT: expected a tensor \"%s\" (open_clip) or \"%s\" (Hugging Face)",
                       weights_file(c), WEIGHTS[W_PATCH].name[OPEN_CLIP], WEIGHTS[W_PATCH].name[HUGGING_FACE]);
    c->layout = open_clip ? OPEN_CLIP : HUGGING_FACE;
    c->text_prefix = open_clip && find(c, "text.token_embedding.weight");
    m->blocks = mem_alloc(m->config.vision.layers, sizeof *m->blocks);
    m->text_blocks = mem_alloc(m->config.text.layers, sizeof *m->text_blocks);
    if (!m->blocks || !m->text_blocks) return err_set(e, "%s: not enough memory for its layers", c->name);
    binding b = {c, e};
    return clip_each_weight(m, bind, &b);
}

/* ---- files ------------------------------------------------------------------------------------------------- */
static bool join(char *out, const char *folder, const char *file, err *e) {
    size_t n = strlen(folder);
    const char *slash = n == 0 || folder[n - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(out, PATH_BYTES, "%s%s%s", folder, slash, file) < PATH_BYTES) return true;
    return err_set(e, "%.200s...: path is longer than %d bytes", folder, PATH_BYTES - 1);
}

static bool beside(const char *folder, const char *file) {
    char path[PATH_BYTES];
    return join(path, folder, file, NULL) && file_exists(path);
}

static checkpoint *make(const char *name, err *e) {
    checkpoint *c = mem_alloc(1, sizeof *c);
    if (c) c->name = mem_alloc(strlen(name) + 1, 1);
    if (c && c->name) {
        memcpy(c->name, name, strlen(name) + 1);
        return c;
    }
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
    mem_free(c->name);
    mem_free(c);
}

static bool open_weights(checkpoint *c, const char *path, err *e) {
    c->weights = tensors_open(path, e);
    return c->weights != NULL;
}

/* ---- opening: which files belong together ------------------------------------------------------------------------ */
typedef bool parse_fields(const char *json, size_t length, const char *name, clip_config *out, err *e);

static bool read_config(const char *folder, const char *file, parse_fields *parse, clip_config *out, err *e) {
    char path[PATH_BYTES];
    size_t length;
    if (!join(path, folder, file, e)) return false;
    char *text = file_read(path, CONFIG_BYTES, &length, e);
    bool ok = text && parse(text, length, path, out, e);
    mem_free(text);
    return ok;
}

static const char OPEN_CLIP_CONFIG[] = "open_clip_config.json", HUGGING_FACE_CONFIG[] = "config.json",
                  OPEN_CLIP_WEIGHTS[] = "open_clip_model.safetensors", PREPROCESSOR[] = "preprocessor_config.json";

/* config.json's pixels stand in a file of their own. */
static bool read_configs(checkpoint *c, const char *folder, const char *config, err *e) {
    clip_config *out = &c->model.config;
    if (!read_config(folder, config, config_parse, out, e)) return false;
    if (config == OPEN_CLIP_CONFIG || !beside(folder, PREPROCESSOR)) return true;
    return read_config(folder, PREPROCESSOR, config_parse_preprocessor, out, e);
}

static bool open_pair(checkpoint *c, const char *folder, const char *config, const char *weights, err *e) {
    char path[PATH_BYTES];
    memcpy(c->folder, folder, strlen(folder) + 1);
    if (!join(path, folder, weights, e) || !read_configs(c, folder, config, e)) return false;
    return open_weights(c, path, e) && bind_all(c, e);
}

static bool open_folder(checkpoint *c, const char *folder, err *e) {
    static const char *const pairs[][2] = {{OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS},
                                           {HUGGING_FACE_CONFIG, "model.safetensors"},
                                           {HUGGING_FACE_CONFIG, "model.safetensors.index.json"},
                                           {OPEN_CLIP_CONFIG, "model.safetensors"},
                                           {HUGGING_FACE_CONFIG, OPEN_CLIP_WEIGHTS}};
    if (strlen(folder) >= PATH_BYTES) return err_set(e, "%.200s...: path is too long", folder);
    char found[256] = "";
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        bool config = beside(folder, pairs[i][0]), weights = beside(folder, pairs[i][1]);
        if (config && weights) return open_pair(c, folder, pairs[i][0], pairs[i][1], e);
        for (int j = 0; j < 2 && (config || weights); j++)
            if ((j ? weights : config) && !strstr(found, pairs[i][j]))
                snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", *found ? ", " : "", pairs[i][j]);
    }
    return err_set(e,
                   "%s: no model in this folder: expected %s and %s, or %s and model.safetensors (or "
                   "model.safetensors.index.json); found %s",
                   folder, OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, HUGGING_FACE_CONFIG, *found ? found : "none of them");
}

/* A weights file: its config stands beside it; with both there, the one whose names the weights have. */
static bool open_file(checkpoint *c, const char *path, err *e) {
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    if (strlen(path) >= PATH_BYTES) return err_set(e, "%.200s...: path is too long", path);
    if (n)
        memcpy(c->folder, path, n);
    else
        memcpy(c->folder, "./", 3);
    if (!open_weights(c, path, e)) return false;
    bool a = beside(c->folder, OPEN_CLIP_CONFIG), b = beside(c->folder, HUGGING_FACE_CONFIG);
    if (!a && !b)
        return err_set(e, "%s: its config is missing: expected %s or %s beside it", path, OPEN_CLIP_CONFIG,
                       HUGGING_FACE_CONFIG);
    bool second = b && (!a || !find(c, WEIGHTS[W_PATCH].name[OPEN_CLIP]));
    return read_configs(c, c->folder, second ? HUGGING_FACE_CONFIG : OPEN_CLIP_CONFIG, e) && bind_all(c, e);
}

checkpoint *checkpoint_open(const char *path, err *e) {
    checkpoint *c = make(path, e);
    if (!c) return NULL;
    bool ok;
    if (!*path)
        ok = err_set(e, "the name of a model is empty");
    else if (folder_exists(path))
        ok = open_folder(c, path, e);
    else if (file_exists(path))
        ok = open_file(c, path, e);
    else
        ok = err_set(e, "%s: no such file or folder: expected a model", path);
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
const char *checkpoint_layout(const checkpoint *c) { return c->layout == OPEN_CLIP ? "open_clip" : "Hugging Face"; }
const tensors *checkpoint_tensors(const checkpoint *c) { return c->weights; }

static tokenizer *open_merges(const checkpoint *c, size_t merges, err *e) {
    static const char *const names[] = {"merges.txt", "bpe_simple_vocab_16e6.txt", "tokenizer.json"};
    char path[PATH_BYTES];
    if (c->merges.data) return tokenizer_parse(c->merges.data, c->merges.length, c->name, merges, e);
    for (size_t i = 0; i < sizeof names / sizeof *names && *c->folder; i++)
        if (beside(c->folder, names[i]))
            return join(path, c->folder, names[i], e) ? tokenizer_open(path, merges, e) : NULL;
    bool packed = *c->folder && beside(c->folder, "bpe_simple_vocab_16e6.txt.gz");
    err_set(e, "%s: the tokenizer's merges are missing: expected %s, %s or %s in %s: %s", c->name, names[0], names[1],
            names[2], *c->folder ? c->folder : "memory",
            packed ? "unpack bpe_simple_vocab_16e6.txt.gz there with gunzip"
                   : "put the file that the model was published with there (or give token ids instead of text)");
    return NULL;
}

const tokenizer *checkpoint_tokenizer(checkpoint *c, err *e) {
    size_t vocab = c->model.config.vocab;
    if (c->words) return c->words;
    if (vocab <= 514) { /* MODEL.md 3: 512 byte symbols, start, end */
        err_set(e, "%s: the vocabulary has %zu entries, expected more than 514 for byte-pair merges", c->name, vocab);
        return NULL;
    }
    tokenizer *words = open_merges(c, vocab - 514, e);
    if (words && tokenizer_vocab(words) != vocab) {
        err_set(e, "%s: its merges give a vocabulary of %zu, expected the config's %zu", c->name,
                tokenizer_vocab(words), vocab);
        tokenizer_free(words);
        words = NULL;
    }
    return c->words = words;
}

/* ---- numbers that are none
 * ------------------------------------------------------------------------------------------------ */
enum { PIECE = 2048 };

/* Exponent bits all set: NaN or infinity. How many of n <= PIECE numbers are. */
static size_t count_odd(const unsigned char *p, clip_type type, size_t n) {
    uint32_t odd = 0;
    if (type == CLIP_F32) {
        uint32_t x[PIECE];
        memcpy(x, p, n * sizeof *x);
        for (size_t i = 0; i < n; i++) odd += (x[i] & 0x7f800000u) == 0x7f800000u;
    } else {
        uint16_t x[PIECE], mask = type == CLIP_F16 ? 0x7c00 : 0x7f80;
        memcpy(x, p, n * sizeof *x);
        for (size_t i = 0; i < n; i++) odd += (x[i] & mask) == mask;
    }
    return odd;
}

static bool find_odd(const clip_weight *w, size_t *at) {
    const unsigned char *p = w->data;
    size_t each = w->type == CLIP_F32 ? 4 : 2, count = w->rows * w->cols;
    for (size_t i = 0; i < count; i += PIECE) {
        size_t n = count - i < PIECE ? count - i : PIECE;
        if (!count_odd(p + i * each, w->type, n)) continue;
        for (*at = i; !count_odd(p + *at * each, w->type, 1);) ++*at;
        return true;
    }
    return false;
}

static float stored_number(clip_type type, const unsigned char *p, size_t i) {
    float x;
    real r;
    uint16_t h;
    if (type == CLIP_REAL) return memcpy(&r, p + i * sizeof r, sizeof r), (float)r;
    if (type == CLIP_F32) return memcpy(&x, p + i * sizeof x, sizeof x), x;
    memcpy(&h, p + i * sizeof h, sizeof h);
    return type == CLIP_F16 ? half_to_float(h) : st_from_bfloat(h);
}

static bool check_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    const binding *b = arg;
    size_t at, third = 0;
    if (!find_odd(w, &at)) return true;
    char name[CHECKPOINT_NAME];
    checkpoint_weight_name(b->c, kind, layer, name);
    if (b->c->layout == OPEN_CLIP && naming_of(kind)->third)
        third = (size_t)(strchr("qkv", naming_of(kind)->third) - "qkv");
    return err_set(b->e, "%s: tensor \"%s\": number %zu is %s, expected finite ones", weights_file(b->c), name,
                   at + third * rows * cols, isnan(stored_number(w->type, w->data, at)) ? "NaN" : "infinite");
}

bool checkpoint_check_finite(const checkpoint *c, err *e) {
    checkpoint copy = *c; /* the walk hands out weights that may be changed; these are not */
    binding b = {&copy, e};
    return clip_each_weight(&copy.model, check_weight, &b);
}

/* ---- writing
 * ------------------------------------------------------------------------------------------------------------------ */
typedef struct {
    st_tensor *tensors;
    char (*names)[CHECKPOINT_NAME];
    size_t count, most;
    unsigned char *data;
    size_t used, bytes; /* of data */
    size_t each;        /* bytes a number: 2 or 4 */
    size_t patch;
    size_t in_proj[2]; /* this block's q, k, v: weight and bias */
    const char *type, *path;
    err *e;
} writer;

static bool measure(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    writer *o = arg;
    char name[CHECKPOINT_NAME];
    if (!w->leaf && !w->data) {
        weight_name(OPEN_CLIP, false, kind, layer, name);
        return err_set(o->e, "%s: the model to write has no weight \"%s\"", o->path, name);
    }
    o->most++;
    o->bytes += rows * cols * o->each;
    return true;
}

/* Where the number (row, col) of a weight lies; leaves lie as stored. */
static float number_at(const clip_weight *w, size_t row, size_t col) {
    size_t i = w->transposed ? col * w->rows + row : row * w->cols + col;
    return w->leaf ? (float)w->leaf->data[i] : stored_number(w->type, w->data, i);
}

static bool put_numbers(writer *o, unsigned char *to, const clip_weight *w, const char *name, bool flip) {
    size_t outer = flip ? w->cols : w->rows, inner = flip ? w->rows : w->cols;
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0; j < inner; j++, to += o->each) {
            float x = flip ? number_at(w, j, i) : number_at(w, i, j);
            uint16_t h = st_to_half(x);
            if (!isfinite(x))
                return err_set(o->e, "%s: tensor \"%s\": number %zu is %g, expected finite ones", o->path, name,
                               i * inner + j, (double)x);
            if (o->each == 2 && (h & 0x7c00) == 0x7c00)
                return err_set(o->e, "%s: tensor \"%s\": number %zu is %g, beyond F16's largest, 65504: write F32",
                               o->path, name, i * inner + j, (double)x);
            if (o->each == 2)
                memcpy(to, &h, sizeof h);
            else
                memcpy(to, &x, sizeof x);
        }
    return true;
}

/* One weight into its tensor; q opens the tensor that k and v then follow into. */
static bool put_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    writer *o = arg;
    const naming *n = naming_of(kind);
    clip_weight shaped = *w;
    shaped.rows = rows, shaped.cols = cols;
    size_t bytes = rows * cols * o->each, third = n->third ? (size_t)(strchr("qkv", n->third) - "qkv") : 0;
    if (third == 0) {
        st_tensor *t = &o->tensors[o->count];
        weight_name(OPEN_CLIP, false, kind, layer, o->names[o->count]);
        t->rank = stored_shape(OPEN_CLIP, n, rows, cols, o->patch, t->shape);
        *t = (st_tensor){.name = o->names[o->count],
                         .type = o->type,
                         .rank = t->rank,
                         .data = o->data + o->used,
                         .shape = {t->shape[0], t->shape[1], t->shape[2], t->shape[3]},
                         .bytes = bytes * (n->third ? 3 : 1)};
        o->used += t->bytes;
        if (n->third) o->in_proj[n->stored == VECTOR] = o->count;
        o->count++;
    }
    const st_tensor *t = &o->tensors[n->third ? o->in_proj[n->stored == VECTOR] : o->count - 1];
    unsigned char *to = o->data + (t->data - o->data) + third * bytes;
    return put_numbers(o, to, &shaped, t->name, n->stored == PROJECTION);
}

static bool write_weights(const char *path, clip_model *m, const char *type, err *e) {
    static const char *const metadata[] = {"format", "pt", NULL};
    writer o = {.type = type, .path = path, .e = e, .each = strcmp(type, "F16") == 0 ? 2 : 4, .patch = m->config.patch};
    if (!clip_each_weight(m, measure, &o)) return false;
    o.tensors = mem_alloc(o.most, sizeof *o.tensors);
    o.names = mem_alloc(o.most, sizeof *o.names);
    o.data = mem_alloc(o.bytes, 1);
    bool ok = o.tensors && o.names && o.data;
    if (!ok) err_set(e, "%s: not enough memory to write %zu bytes of weights", path, o.bytes);
    ok = ok && clip_each_weight(m, put_weight, &o) && st_write(path, o.tensors, o.count, metadata, e);
    mem_free(o.tensors);
    mem_free(o.names);
    mem_free(o.data);
    return ok;
}

bool checkpoint_write(const char *folder, clip_model *m, const char *type, err *e) {
    char weights[PATH_BYTES], config[PATH_BYTES];
    if (strcmp(type, "F16") != 0 && strcmp(type, "F32") != 0)
        return err_set(e, "%s: weights are written as F16 or F32, not \"%s\"", folder, type);
    if (!join(weights, folder, OPEN_CLIP_WEIGHTS, e) || !join(config, folder, OPEN_CLIP_CONFIG, e) ||
        !folder_make(folder, e))
        return false;
    out_file f;
    if (!out_open(&f, config, e)) return false;
    /* The config goes into place last, and only when the weights have. */
    if (config_write(f.stream, &m->config, e) && write_weights(weights, m, type, e)) return out_close(&f, e);
    out_abandon(&f);
    return false;
}
