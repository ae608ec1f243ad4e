/* gguf.c - clip.cpp's GGUF files, versions 2 and 3, shown by Hugging Face's names for CLIP.
 *
 *     "GGUF" | u32 version | u64 tensors | u64 keys
 *     keys:     text | u32 type | value            (text: u64 length, bytes)
 *     tensors:  text | u32 dimensions | u64 each, the fastest first | u32 number type | u64 offset
 *     data from the next multiple of general.alignment (absent: 32), offsets relative to it
 *
 * Its keys become a config.json's text, its list of tokens merges (gguf_merges.c).
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "models/containers.h"
#include "models/gguf.h"

enum { NAME_MOST = 256, DIMENSIONS = 4, KEY_BYTES = 13, TENSOR_BYTES = 24 };
enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, ARRAY, U64, I64, F64, KINDS };
static const unsigned char KIND_BYTES[KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8}; /* at least */

typedef struct {
    const char *key;
    size_t key_length;
    unsigned kind, item; /* item: an array's */
    const unsigned char *value;
    uint64_t count; /* of an array */
} pair;

typedef struct {
    const file_bytes *f;
    tensors *t;
    size_t at;
    pair *pairs; /* by key */
    size_t pair_count;
    size_t data; /* where the tensors' data begin */
    size_t alignment;
    bool swapped[2]; /* text, vision: ffn_down is the second layer */
    size_t layers[2];
    err *e;
} gguf;

/* ---- numbers and texts ---------------------------------------------------------------------------------- */
static uint64_t little(const unsigned char *p, size_t bytes) {
    uint64_t u = 0;
    while (bytes-- > 0) u = u << 8 | p[bytes];
    return u;
}

static bool take(gguf *g, size_t bytes, const unsigned char **p, const char *what) {
    if (bytes > g->f->length - g->at)
        return err_set(g->e, "%s: byte %zu: %s of %zu bytes expected, %zu are left", g->f->name, g->at, what, bytes,
                       g->f->length - g->at);
    *p = g->f->data + g->at;
    g->at += bytes;
    return true;
}

static bool take_number(gguf *g, size_t bytes, uint64_t *u, const char *what) {
    const unsigned char *p = NULL;
    if (!take(g, bytes, &p, what)) return false;
    *u = little(p, bytes);
    return true;
}

static bool take_text(gguf *g, const char **text, size_t *length, const char *what) {
    uint64_t n = 0;
    const unsigned char *p = NULL;
    if (!take_number(g, 8, &n, what)) return false;
    if (n > g->f->length - g->at)
        return err_set(g->e, "%s: byte %zu: %s of %" PRIu64 " bytes, %zu are left", g->f->name, g->at - 8, what, n,
                       g->f->length - g->at);
    if (!take(g, (size_t)n, &p, what)) return false;
    *text = (const char *)p;
    *length = (size_t)n;
    return true;
}

/* ---- keys ---------------------------------------------------------------------------------------------------- */
static bool skip_array(gguf *g, pair *k) {
    uint64_t item = 0;
    if (!take_number(g, 4, &item, "an array's type") || !take_number(g, 8, &k->count, "an array's count")) return false;
    if (item >= KINDS || item == ARRAY)
        return err_set(g->e, "%s: key %.*s is an array of type %" PRIu64 ", expected plain values", g->f->name,
                       (int)k->key_length, k->key, item);
    if (k->count > (g->f->length - g->at) / KIND_BYTES[item])
        return err_set(g->e, "%s: key %.*s counts %" PRIu64 " values, %zu bytes are left", g->f->name,
                       (int)k->key_length, k->key, k->count, g->f->length - g->at);
    k->item = (unsigned)item;
    k->value = g->f->data + g->at;
    if (item != TEXT) {
        g->at += (size_t)k->count * KIND_BYTES[item];
        return true;
    }
    for (uint64_t i = 0; i < k->count; i++) {
        const char *text;
        size_t length;
        if (!take_text(g, &text, &length, "a text of an array")) return false;
    }
    return true;
}

static bool read_pair(gguf *g, pair *k) {
    uint64_t kind = 0;
    if (!take_text(g, &k->key, &k->key_length, "a key")) return false;
    if (k->key_length == 0 || k->key_length > NAME_MOST || memchr(k->key, 0, k->key_length))
        return err_set(g->e, "%s: byte %zu: a key of %zu letters, expected 1 to %d", g->f->name, g->at, k->key_length,
                       NAME_MOST);
    if (!take_number(g, 4, &kind, "a key's type")) return false;
    if (kind >= KINDS)
        return err_set(g->e, "%s: key %.*s has type %" PRIu64 ", expected 0 to %d", g->f->name, (int)k->key_length,
                       k->key, kind, KINDS - 1);
    k->kind = (unsigned)kind;
    if (kind == ARRAY) return skip_array(g, k);
    k->value = g->f->data + g->at;
    const char *text;
    size_t length;
    if (kind == TEXT) return take_text(g, &text, &length, "a key's text");
    const unsigned char *p;
    return take(g, KIND_BYTES[kind], &p, "a key's value");
}

static int by_key(const void *a, const void *b) {
    const pair *x = a, *y = b;
    int order = memcmp(x->key, y->key, x->key_length < y->key_length ? x->key_length : y->key_length);
    return order ? order : (x->key_length > y->key_length) - (x->key_length < y->key_length);
}

static bool read_pairs(gguf *g, uint64_t count) {
    if (count > (g->f->length - g->at) / KEY_BYTES)
        return err_set(g->e, "%s: byte 16: %" PRIu64 " keys, more than its %zu bytes can hold", g->f->name, count,
                       g->f->length);
    g->pairs = mem_alloc((size_t)count, sizeof *g->pairs);
    if (!g->pairs) return err_set(g->e, "%s: not enough memory for %" PRIu64 " keys", g->f->name, count);
    for (; g->pair_count < count; g->pair_count++)
        if (!read_pair(g, &g->pairs[g->pair_count])) return false;
    qsort(g->pairs, g->pair_count, sizeof *g->pairs, by_key);
    for (size_t i = 1; i < g->pair_count; i++)
        if (by_key(&g->pairs[i - 1], &g->pairs[i]) == 0)
            return err_set(g->e, "%s: key %.*s stands twice in it", g->f->name, (int)g->pairs[i].key_length,
                           g->pairs[i].key);
    return true;
}

static const pair *find(const gguf *g, const char *key) {
    pair wanted = {.key = key, .key_length = strlen(key)};
    return bsearch(&wanted, g->pairs, g->pair_count, sizeof *g->pairs, by_key);
}

static bool find_kind(const gguf *g, const char *key, unsigned kind, const char *expected, const pair **k) {
    *k = find(g, key);
    if (!*k) return err_set(g->e, "%s: key %s is missing, expected %s", g->f->name, key, expected);
    return (*k)->kind == kind ||
           err_set(g->e, "%s: key %s has type %u, expected %s", g->f->name, key, (*k)->kind, expected);
}

static bool get_whole(const gguf *g, const char *tower, const char *name, size_t *out) {
    char key[NAME_MOST];
    const pair *k;
    snprintf(key, sizeof key, "clip.%s.%s", tower, name);
    if (!find_kind(g, key, U32, "a whole number of 32 bits", &k)) return false;
    *out = (size_t)little(k->value, 4);
    return true;
}

static float float_at(const unsigned char *p) {
    uint32_t u = (uint32_t)little(p, 4);
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static bool get_flag(const gguf *g, const char *key, bool absent) {
    const pair *k = find(g, key);
    return k && k->kind == BOOL ? k->value[0] != 0 : absent;
}

/* ---- names ------------------------------------------------------------------------------------------------------ */
static const char *const NAMES[][2] = {
    {"v.class_embd", "vision_model.embeddings.class_embedding"},
    {"v.patch_embd.weight", "vision_model.embeddings.patch_embedding.weight"},
    {"v.position_embd.weight", "vision_model.embeddings.position_embedding.weight"},
    {"v.pre_ln.weight", "vision_model.pre_layrnorm.weight"},
    {"v.pre_ln.bias", "vision_model.pre_layrnorm.bias"},
    {"v.post_ln.weight", "vision_model.post_layernorm.weight"},
    {"v.post_ln.bias", "vision_model.post_layernorm.bias"},
    {"t.token_embd.weight", "text_model.embeddings.token_embedding.weight"},
    {"t.position_embd.weight", "text_model.embeddings.position_embedding.weight"},
    {"t.post_ln.weight", "text_model.final_layer_norm.weight"},
    {"t.post_ln.bias", "text_model.final_layer_norm.bias"},
};
static const char *const LAYER_NAMES[][2] = {
    {"attn_q.", "self_attn.q_proj."}, {"attn_k.", "self_attn.k_proj."}, {"attn_v.", "self_attn.v_proj."},
    {"attn_out.", "self_attn.out_proj."}, {"ln1.", "layer_norm1."}, {"ln2.", "layer_norm2."},
    {"ffn_down.", "mlp.fc1."}, {"ffn_up.", "mlp.fc2."},
};

static void layer_name(gguf *g, const char *from, char to[NAME_MOST]) {
    size_t tower = from[0] == 'v', layer = 0;
    const char *p = from + 6;
    for (; *p >= '0' && *p <= '9' && layer < 1024; p++) layer = layer * 10 + (size_t)(*p - '0');
    if (p == from + 6 || *p++ != '.' || layer >= 1024) return;
    for (size_t i = 0; i < sizeof LAYER_NAMES / sizeof *LAYER_NAMES; i++) {
        size_t m = strlen(LAYER_NAMES[i][0]);
        if (strncmp(p, LAYER_NAMES[i][0], m) != 0) continue;
        size_t as = i >= 6 && g->swapped[tower] ? 13 - i : i; /* the last two change places */
        snprintf(to, NAME_MOST, "%s_model.encoder.layers.%zu.%s%.40s", tower ? "vision" : "text", layer,
                 LAYER_NAMES[as][1], p + m);
        if (layer >= g->layers[tower]) g->layers[tower] = layer + 1;
    }
}

/* Hugging Face's name; one that is not known keeps its own. */
static void hugging_face_name(gguf *g, const char *from, char to[NAME_MOST]) {
    snprintf(to, NAME_MOST, "%s", from);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (strcmp(NAMES[i][0], from) == 0) snprintf(to, NAME_MOST, "%s", NAMES[i][1]);
    if ((from[0] == 't' || from[0] == 'v') && strncmp(from + 1, ".blk.", 5) == 0) layer_name(g, from, to);
}

/* ---- tensors ------------------------------------------------------------------------------------------------------ */
static const char *type_name(uint64_t id) {
    static const struct {
        unsigned id;
        char name[8];
    } types[] = {{0, "F32"}, {1, "F16"}, {30, "BF16"}, {2, "Q4_0"}, {3, "Q4_1"}, {6, "Q5_0"}, {7, "Q5_1"}, {8, "Q8_0"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].id == id) return types[i].name;
    return NULL;
}

/* name has room for NAME_MOST letters. */
static bool read_tensor(gguf *g, file_tensor *w, char *name, uint64_t *offset) {
    const char *text = NULL;
    size_t length = 0;
    uint64_t rank = 0, type = 0, size = 0;
    if (!take_text(g, &text, &length, "a tensor's name")) return false;
    if (length == 0 || length >= NAME_MOST / 2 || memchr(text, 0, length))
        return err_set(g->e, "%s: byte %zu: a tensor's name of %zu letters, expected 1 to %d", g->f->name, g->at, length,
                       NAME_MOST / 2 - 1);
    snprintf(name, NAME_MOST, "%.*s", (int)length, text);
    if (!take_number(g, 4, &rank, "a tensor's dimensions")) return false;
    if (rank > DIMENSIONS)
        return err_set(g->e, "%s: tensor \"%s\" has %" PRIu64 " dimensions, expected at most %d", g->f->name, name, rank,
                       DIMENSIONS);
    w->rank = (size_t)rank;
    for (size_t i = w->rank; i-- > 0; w->shape[i] = (size_t)size) {
        if (!take_number(g, 8, &size, "a tensor's shape")) return false;
        if (size > SIZE_MAX) return err_set(g->e, "%s: tensor \"%s\" has a side of %" PRIu64, g->f->name, name, size);
    }
    if (!take_number(g, 4, &type, "a tensor's type") || !take_number(g, 8, offset, "a tensor's offset")) return false;
    w->type = type_name(type);
    if (!w->type)
        return err_set(g->e, "%s: tensor \"%s\" has number type %" PRIu64
                             ", expected 0 F32, 1 F16, 30 BF16, 2 Q4_0, 3 Q4_1, 6 Q5_0, 7 Q5_1 or 8 Q8_0",
                       g->f->name, name, type);
    if (!tensor_count_bytes(w->type, w->shape, w->rank, &w->bytes))
        return err_set(g->e, "%s: tensor \"%s\": its rows of %zu are no whole blocks of %s, or its shape cannot be counted",
                       g->f->name, name, w->rank ? w->shape[w->rank - 1] : 1, w->type);
    return true;
}

static bool place_tensor(const gguf *g, file_tensor *w, const char *name, uint64_t offset) {
    size_t room = g->f->length - g->data;
    if (offset % g->alignment != 0)
        return err_set(g->e, "%s: tensor \"%s\" lies at %" PRIu64 ", expected a multiple of %zu", g->f->name, name, offset,
                       g->alignment);
    if (offset > room || w->bytes > room - offset)
        return err_set(g->e, "%s: tensor \"%s\" has %zu bytes at %" PRIu64 ", the data have %zu: file cut short?",
                       g->f->name, name, w->bytes, offset, room);
    w->data = g->f->data + g->data + offset;
    return true;
}

/* ffn_down is the first layer in clip.cpp's files: its rows are the tower's width. Files where it is the second one
 * exist: the shape decides. */
static void look_at_mlp(gguf *g, const char *name, const file_tensor *w) {
    for (size_t tower = 0; tower < 2; tower++) {
        const pair *k = find(g, tower ? "clip.vision.embedding_length" : "clip.text.embedding_length");
        if (strcmp(name, tower ? "v.blk.0.ffn_down.weight" : "t.blk.0.ffn_down.weight") != 0 || !k || k->kind != U32)
            continue;
        size_t width = (size_t)little(k->value, 4);
        g->swapped[tower] = w->rank == 2 && w->shape[0] == width && w->shape[1] != width;
    }
}

/* Twice over the list: its end says where the data begin, and how the layers are called. */
static bool read_tensors(gguf *g, uint64_t count) {
    size_t start = g->at;
    char name[NAME_MOST], to[NAME_MOST];
    uint64_t offset = 0;
    if (count > (g->f->length - g->at) / TENSOR_BYTES)
        return err_set(g->e, "%s: byte 8: %" PRIu64 " tensors, more than its %zu bytes can hold", g->f->name, count,
                       g->f->length);
    for (uint64_t i = 0; i < count; i++) {
        file_tensor w = {0};
        if (!read_tensor(g, &w, name, &offset)) return false;
        look_at_mlp(g, name, &w);
        if (strncmp(name, "mm.", 3) == 0)
            return err_set(g->e, "%s: tensor \"%s\": an mmproj file, whose image side leads into a language model; it lacks "
                                 "CLIP's projection",
                           g->f->name, name);
    }
    size_t more = (g->alignment - g->at % g->alignment) % g->alignment;
    g->data = more > g->f->length - g->at ? g->f->length : g->at + more;
    g->at = start;
    for (uint64_t i = 0; i < count; i++) {
        file_tensor w = {.name = to};
        if (!read_tensor(g, &w, name, &offset) || !place_tensor(g, &w, name, offset)) return false;
        hugging_face_name(g, name, to);
        if (!tensors_add(g->t, &w, g->e)) return false;
    }
    return true;
}

/* ---- the config that the keys say ------------------------------------------------------------------------------------ */
typedef struct {
    size_t width, mlp, layers, heads, projection;
    double eps;
} tower_keys;

static bool read_tower(const gguf *g, const char *tower, tower_keys *k) {
    const pair *eps;
    char key[NAME_MOST];
    snprintf(key, sizeof key, "clip.%s.attention.layer_norm_epsilon", tower);
    if (!get_whole(g, tower, "embedding_length", &k->width) || !get_whole(g, tower, "feed_forward_length", &k->mlp) ||
        !get_whole(g, tower, "block_count", &k->layers) || !get_whole(g, tower, "attention.head_count", &k->heads) ||
        !get_whole(g, tower, "projection_dim", &k->projection) || !find_kind(g, key, F32, "a number", &eps))
        return false;
    k->eps = (double)float_at(eps->value);
    if (!isfinite(k->eps)) return err_set(g->e, "%s: key %s is no finite number", g->f->name, key);
    if (strcmp(tower, "vision") == 0 && g->layers[1] == k->layers + 1) k->layers++; /* some files leave out the last */
    return true;
}

static void put_tower(char *out, size_t room, const tower_keys *k, const char *act) {
    snprintf(out, room,
             "\"hidden_size\": %zu, \"intermediate_size\": %zu, \"num_hidden_layers\": %zu, \"num_attention_heads\": %zu, "
             "\"layer_norm_eps\": %.9g, \"hidden_act\": \"%s\"",
             k->width, k->mlp, k->layers, k->heads, k->eps, act);
}

static bool read_three(const gguf *g, const char *key, double out[3]) {
    const pair *k;
    if (!find_kind(g, key, ARRAY, "three numbers", &k)) return false;
    if (k->item != F32 || k->count != 3) return err_set(g->e, "%s: key %s is not three numbers", g->f->name, key);
    for (size_t i = 0; i < 3; i++) {
        out[i] = (double)float_at(k->value + 4 * i);
        if (!isfinite(out[i])) return err_set(g->e, "%s: key %s is no finite number", g->f->name, key);
    }
    return true;
}

static bool keep_text(gguf *g, const char *text, void set(tensors *, const char *)) {
    const char *kept = tensors_text(g->t, text, strlen(text));
    set(g->t, kept);
    return kept || err_set(g->e, "%s: not enough memory", g->f->name);
}

static bool say_config(gguf *g) {
    tower_keys text = {0}, vision = {0};
    size_t context = 0, image = 0, patch = 0;
    double mean[3], std[3];
    const pair *tokens;
    char towers[2][400], out[1200];
    const char *act = get_flag(g, "clip.use_gelu", false) ? "gelu" : "quick_gelu";
    if (!read_tower(g, "text", &text) || !read_tower(g, "vision", &vision) ||
        !get_whole(g, "text", "context_length", &context) || !get_whole(g, "vision", "image_size", &image) ||
        !get_whole(g, "vision", "patch_size", &patch) || !read_three(g, "clip.vision.image_mean", mean) ||
        !read_three(g, "clip.vision.image_std", std) ||
        !find_kind(g, "tokenizer.ggml.tokens", ARRAY, "a list of texts", &tokens))
        return false;
    if (text.projection != vision.projection)
        return err_set(g->e, "%s: its text is projected to %zu, its image to %zu, expected the same", g->f->name,
                       text.projection, vision.projection);
    put_tower(towers[0], sizeof towers[0], &text, act);
    put_tower(towers[1], sizeof towers[1], &vision, act);
    snprintf(out, sizeof out,
             "{\"model_type\": \"clip\", \"projection_dim\": %zu, \"text_config\": {%s, \"max_position_embeddings\": %zu, "
             "\"vocab_size\": %" PRIu64 ", \"eos_token_id\": 2}, \"vision_config\": {%s, \"image_size\": %zu, "
             "\"patch_size\": %zu}}",
             text.projection, towers[0], context, tokens->count, towers[1], image, patch);
    if (!keep_text(g, out, tensors_set_config)) return false;
    snprintf(out, sizeof out,
             "{\"image_mean\": [%.9g, %.9g, %.9g], \"image_std\": [%.9g, %.9g, %.9g], \"size\": {\"shortest_edge\": %zu}, "
             "\"crop_size\": {\"height\": %zu, \"width\": %zu}, \"resample\": 3}",
             mean[0], mean[1], mean[2], std[0], std[1], std[2], image, image, image);
    return keep_text(g, out, tensors_set_pixels);
}

static bool say_merges(gguf *g) {
    const pair *k = find(g, "tokenizer.ggml.tokens");
    char why[200];
    if (!k || k->kind != ARRAY || k->item != TEXT) return true;
    char *merges = gguf_merges(k->value, (size_t)k->count, why, sizeof why);
    if (!merges) return tensors_add_note(g->t, g->e, "tokenizer.ggml.tokens: %s", why);
    tensors_set_merges(g->t, merges);
    return tensors_keep(g->t, merges, mem_free, g->e);
}

/* clip.cpp leaves the logits' scale out; CLIP's is 100 (its training's bound). */
static bool add_scale(gguf *g) {
    static const unsigned char scale[4] = {0x8e, 0x5d, 0x93, 0x40}; /* ln 100, 4.6051702, as files have it */
    file_tensor w = {.name = "logit_scale", .type = "F32", .data = scale};
    return tensors_add(g->t, &w, g->e) &&
           tensors_add_note(g->t, g->e, "logit_scale: not in the file, taken for ln 100, CLIP's own");
}

/* ---- the file ------------------------------------------------------------------------------------------------------------ */
bool gguf_is(const file_bytes *f) { return f->length >= 4 && memcmp(f->data, "GGUF", 4) == 0; }

static bool check_what(const gguf *g) {
    const pair *a = find(g, "general.architecture"), *align = find(g, "general.alignment");
    size_t n = a && a->kind == TEXT ? (size_t)little(a->value, 8) : 0;
    if (n != 4 || memcmp(a->value + 8, "clip", 4) != 0)
        return err_set(g->e, "%s: general.architecture is \"%.*s\", expected clip (clip.cpp's)", g->f->name,
                       (int)(n < 60 ? n : 60), n ? (const char *)a->value + 8 : "");
    if (align && (align->kind != U32 || g->alignment == 0 || (g->alignment & (g->alignment - 1)) != 0))
        return err_set(g->e, "%s: general.alignment is %zu, expected a power of two", g->f->name, g->alignment);
    return true;
}

static bool check_towers(const gguf *g) {
    if (find(g, "clip.projector_type") || get_flag(g, "clip.has_llava_projector", false))
        return err_set(g->e, "%s: an mmproj file, whose image side leads into a language model; it lacks CLIP's projection",
                       g->f->name);
    if (!get_flag(g, "clip.has_text_encoder", false) || !get_flag(g, "clip.has_vision_encoder", false))
        return err_set(g->e, "%s: has no %s encoder, expected both of CLIP's", g->f->name,
                       get_flag(g, "clip.has_text_encoder", false) ? "vision" : "text");
    return true;
}

static bool read_file(gguf *g) {
    uint64_t version = 0, tensor_count = 0, pair_count = 0;
    g->at = 4;
    if (!take_number(g, 4, &version, "its version") || !take_number(g, 8, &tensor_count, "its number of tensors") ||
        !take_number(g, 8, &pair_count, "its number of keys"))
        return false;
    if (version != 2 && version != 3)
        return err_set(g->e, "%s: GGUF version %" PRIu64 "%s, expected 2 or 3", g->f->name, version,
                       (version & 0xffff) == 0 ? " (big-endian?)" : "");
    if (!read_pairs(g, pair_count)) return false;
    const pair *align = find(g, "general.alignment");
    g->alignment = align && align->kind == U32 ? (size_t)little(align->value, 4) : 32;
    return check_what(g) && read_tensors(g, tensor_count) && check_towers(g) && say_config(g) && say_merges(g) &&
           add_scale(g);
}

bool gguf_read(tensors *t, const file_bytes *f, err *e) {
    gguf g = {.f = f, .t = t, .e = e};
    bool ok = read_file(&g);
    mem_free(g.pairs);
    return ok;
}
