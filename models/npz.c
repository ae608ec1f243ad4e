/* npz.c - big_vision's archives of NumPy arrays, shown by Hugging Face's names for SigLIP.
 *
 *     params/img/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel   [in, out]
 *         is vision_model.encoder.layers.0.mlp.fc1.weight               [out, in], the same bytes by other strides
 *     params/img/Transformer/encoderblock/...   [layers, ...]: all blocks' in one
 *
 * Arrays may be stored or deflated; deflated ones are inflated when one of their tensors is first used. The archive has
 * no config: it follows from the shapes.
 */
#include <stdio.h>
#include <string.h>
#include "files/files.h"
#include "files/zip.h"
#include "models/containers.h"

enum { NAME_MOST = 256, HEADER_MOST = 4096, LAYERS_MOST = 1024, JOINED = 2 };
enum { IMAGE, TEXT }; /* the towers */

typedef struct {
    const zip_entry *entry;
    char name[NAME_MOST]; /* without params/ and .npy */
    const char *type;
    npy_header header;
    size_t stride[NPY_RANK];   /* in numbers */
    const unsigned char *data; /* the numbers; NULL: not inflated yet */
} array;

typedef struct {
    const array *from; /* NULL: three joined, by `joined` */
    size_t offset;     /* in numbers */
    int joined;
} view;

typedef struct {
    const zip *z;
    const file_bytes *f;
    tensors *t;
    array *arrays;
    size_t count;
    view *views;
    size_t view_count, view_room;
    size_t layers[2];             /* of the towers: IMAGE, TEXT */
    file_tensor parts[JOINED][3]; /* of the pooler's in_proj: weight, bias; q, k, v */
    err *e;
} npz;

/* ---- arrays ---------------------------------------------------------------------------------------------- */
static const char *type_of(const char *descr) {
    static const char *const types[][2] = {{"<f4", "F32"}, {"<f2", "F16"}, {"|V2", "BF16"},
                                           {"<V2", "BF16"}, {"<f8", "F64"}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i][0], descr) == 0) return types[i][1];
    return NULL;
}

static bool read_layout(const npz *n, array *a) {
    size_t numbers = 1, bytes, each;
    const npy_header *h = &a->header;
    a->type = type_of(h->type);
    if (!a->type)
        return err_set(n->e, "%s: array %s is of type '%s', expected '<f4', '<f2', '|V2' (bfloat16) or '<f8'", n->f->name,
                       a->name, h->type);
    each = number_bytes(a->type);
    for (size_t i = 0; i < h->rank; i++) {
        size_t d = h->columns_first ? i : h->rank - 1 - i;
        a->stride[d] = numbers;
        if (!size_mul(numbers, h->shape[d], &numbers))
            return err_set(n->e, "%s: array %s: its shape has more numbers than can be counted, %zu bytes of them are there", n->f->name,
                           a->name, a->entry->size - h->start);
    }
    if (!size_mul(numbers, each, &bytes) || bytes != a->entry->size - h->start)
        return err_set(n->e, "%s: array %s: its shape asks for %zu numbers of %s, %zu bytes are there", n->f->name, a->name,
                       numbers, a->type, a->entry->size - h->start);
    return true;
}

static bool read_array(npz *n, const zip_entry *entry) {
    array *a = &n->arrays[n->count];
    unsigned char header[HEADER_MOST];
    char name[NAME_MOST + 300];
    size_t got, length = strlen(entry->name), skip = strncmp(entry->name, "params/", 7) == 0 ? 7 : 0;
    if (length <= skip + 4 || strcmp(entry->name + length - 4, ".npy") != 0 || length - skip - 4 >= NAME_MOST)
        return tensors_add_note(n->t, n->e, "%.100s: no array of the model's", entry->name);
    a->entry = entry;
    snprintf(a->name, sizeof a->name, "%.*s", (int)(length - skip - 4), entry->name + skip);
    if (strncmp(a->name, "img/", 4) != 0 && strncmp(a->name, "txt/", 4) != 0 && strcmp(a->name, "t") != 0 &&
        strcmp(a->name, "b") != 0)
        return tensors_add_note(n->t, n->e, "%.100s: not of the two towers", a->name);
    snprintf(name, sizeof name, "%.200s: array %s", n->f->name, a->name);
    if (!zip_begin(n->z, entry, header, sizeof header, &got, n->e) ||
        !npy_parse_header(header, got, name, &a->header, n->e) || !read_layout(n, a))
        return false;
    if (!entry->deflated) {
        const unsigned char *p = zip_stored(n->z, entry, n->e);
        if (!p) return false;
        a->data = p + a->header.start;
    }
    n->count++;
    return true;
}

static const array *find(const npz *n, const char *name) {
    for (size_t i = 0; i < n->count; i++)
        if (strcmp(n->arrays[i].name, name) == 0) return &n->arrays[i];
    return NULL;
}

static bool inflate_array(npz *n, array *a, err *e) {
    if (a->data) return true;
    unsigned char *p = zip_unpack(n->z, a->entry, e);
    if (!p || !tensors_keep(n->t, p, mem_free, e)) return false;
    if (n->t->mapped) file_map_unwanted(&n->t->map, a->entry->header, a->entry->packed);
    a->data = p + a->header.start;
    return true;
}

/* ---- views: an array's numbers by another's name and order ---------------------------------------------------- */
/* order: the wanted dimensions from left to right, each as the array's dimensions that it is made of. "1|0" transposes,
 * "12|0" makes [in, heads, d] to [heads d, in], "*" leaves all as it is. A first dimension that is not named is of one
 * number; `first` dimensions (a stack's layers) are not looked at. */
static bool look(const npz *n, const array *a, size_t first, const char *order, file_tensor *w) {
    size_t rank = a->header.rank - first, named = 0;
    const size_t *shape = a->header.shape + first, *stride = a->stride + first;
    w->rank = 0;
    w->type = a->type;
    if (*order == '*') {
        w->rank = rank;
        memcpy(w->shape, shape, rank * sizeof *shape);
        memcpy(w->stride, stride, rank * sizeof *stride);
        return true;
    }
    for (const char *o = order; *o; o++)
        if (*o != '|' && (size_t)(*o - '0') + 1 > named) named = (size_t)(*o - '0') + 1;
    bool good = rank == named && (strchr(order, '0') || (rank > 0 && shape[0] == 1));
    for (const char *o = order; good && *o; w->rank++) {
        size_t d = (size_t)(*o++ - '0');
        w->shape[w->rank] = shape[d];
        w->stride[w->rank] = stride[d];
        for (; *o && *o != '|'; o++) { /* the next one must lie within this one */
            size_t inner = (size_t)(*o - '0');
            good = good && (stride[inner] * shape[inner] == w->stride[w->rank] || shape[d] == 1);
            w->shape[w->rank] *= shape[inner];
            w->stride[w->rank] = stride[inner];
        }
        o += *o == '|';
    }
    return good || err_set(n->e, "%s: array %s has %zu dimensions%s, expected %zu in rows", n->f->name, a->name,
                           a->header.rank, a->header.columns_first ? " in columns" : "", named + first);
}

static bool add_view(npz *n, const char *name, const file_tensor *looked, view v) {
    file_tensor w = *looked;
    w.name = name;
    if (!mem_grow(&n->views, &n->view_room, n->view_count + 1, sizeof *n->views))
        return err_set(n->e, "%s: not enough memory", n->f->name);
    w.place = n->view_count;
    w.data = v.from && v.from->data ? v.from->data + v.offset * number_bytes(w.type) : NULL;
    n->views[n->view_count++] = v;
    return tensors_add_strided(n->t, &w, n->e);
}

static const unsigned char *unpack_joined(npz *n, const view *v, const file_tensor *w, err *e) {
    unsigned char *p = mem_alloc(w->bytes, 1), *to = p;
    if (!p) return err_set(e, "%s: no memory for the %zu bytes of %s", n->f->name, w->bytes, w->name), NULL;
    if (!tensors_keep(n->t, p, mem_free, e)) return NULL;
    for (int i = 0; i < 3; i++) {
        file_tensor part = n->parts[v->joined][i];
        array *a = &n->arrays[part.place];
        if (!inflate_array(n, a, e)) return NULL;
        part.data = a->data;
        tensor_put_in_order(&part, to);
        to += w->bytes / 3;
    }
    return p;
}

static const unsigned char *unpack(tensors *t, void *state, const file_tensor *w, err *e) {
    npz *n = state;
    (void)t;
    const view *v = &n->views[w->place];
    if (!v->from) return unpack_joined(n, v, w, e);
    if (!inflate_array(n, &n->arrays[v->from - n->arrays], e)) return NULL;
    return v->from->data + v->offset * number_bytes(w->type);
}

/* ---- names: big_vision's, Hugging Face's, and the order of dimensions --------------------------------------------- */
typedef struct {
    const char *from, *to, *order;
} naming;

static const naming WHOLE[] = {
    {"img/embedding/kernel", "vision_model.embeddings.patch_embedding.weight", "3|2|0|1"},
    {"img/embedding/bias", "vision_model.embeddings.patch_embedding.bias", "0"},
    {"img/pos_embedding", "vision_model.embeddings.position_embedding.weight", "1|2"},
    {"img/Transformer/encoder_norm/scale", "vision_model.post_layernorm.weight", "0"},
    {"img/Transformer/encoder_norm/bias", "vision_model.post_layernorm.bias", "0"},
    {"img/MAPHead_0/probe", "vision_model.head.probe", "*"},
    {"img/MAPHead_0/MultiHeadDotProductAttention_0/out/kernel", "vision_model.head.attention.out_proj.weight", "2|01"},
    {"img/MAPHead_0/MultiHeadDotProductAttention_0/out/bias", "vision_model.head.attention.out_proj.bias", "0"},
    {"img/MAPHead_0/LayerNorm_0/scale", "vision_model.head.layernorm.weight", "0"},
    {"img/MAPHead_0/LayerNorm_0/bias", "vision_model.head.layernorm.bias", "0"},
    {"img/MAPHead_0/MlpBlock_0/Dense_0/kernel", "vision_model.head.mlp.fc1.weight", "1|0"},
    {"img/MAPHead_0/MlpBlock_0/Dense_0/bias", "vision_model.head.mlp.fc1.bias", "0"},
    {"img/MAPHead_0/MlpBlock_0/Dense_1/kernel", "vision_model.head.mlp.fc2.weight", "1|0"},
    {"img/MAPHead_0/MlpBlock_0/Dense_1/bias", "vision_model.head.mlp.fc2.bias", "0"},
    {"txt/Embed_0/embedding", "text_model.embeddings.token_embedding.weight", "*"},
    {"txt/pos_embedding", "text_model.embeddings.position_embedding.weight", "1|2"},
    {"txt/Encoder_0/encoder_norm/scale", "text_model.final_layer_norm.weight", "0"},
    {"txt/Encoder_0/encoder_norm/bias", "text_model.final_layer_norm.bias", "0"},
    {"txt/head/kernel", "text_model.head.weight", "1|0"},
    {"txt/head/bias", "text_model.head.bias", "0"},
    {"t", "logit_scale", "*"},
    {"b", "logit_bias", "*"},
};

static const naming BLOCK[] = {
    {"LayerNorm_0/scale", "layer_norm1.weight", "0"},
    {"LayerNorm_0/bias", "layer_norm1.bias", "0"},
    {"MultiHeadDotProductAttention_0/query/kernel", "self_attn.q_proj.weight", "12|0"},
    {"MultiHeadDotProductAttention_0/query/bias", "self_attn.q_proj.bias", "01"},
    {"MultiHeadDotProductAttention_0/key/kernel", "self_attn.k_proj.weight", "12|0"},
    {"MultiHeadDotProductAttention_0/key/bias", "self_attn.k_proj.bias", "01"},
    {"MultiHeadDotProductAttention_0/value/kernel", "self_attn.v_proj.weight", "12|0"},
    {"MultiHeadDotProductAttention_0/value/bias", "self_attn.v_proj.bias", "01"},
    {"MultiHeadDotProductAttention_0/out/kernel", "self_attn.out_proj.weight", "2|01"},
    {"MultiHeadDotProductAttention_0/out/bias", "self_attn.out_proj.bias", "0"},
    {"LayerNorm_1/scale", "layer_norm2.weight", "0"},
    {"LayerNorm_1/bias", "layer_norm2.bias", "0"},
    {"MlpBlock_0/Dense_0/kernel", "mlp.fc1.weight", "1|0"},
    {"MlpBlock_0/Dense_0/bias", "mlp.fc1.bias", "0"},
    {"MlpBlock_0/Dense_1/kernel", "mlp.fc2.weight", "1|0"},
    {"MlpBlock_0/Dense_1/bias", "mlp.fc2.bias", "0"},
};

static const struct {
    const char *from, *to;
} TOWERS[] = {[IMAGE] = {"img/Transformer/encoderblock", "vision_model"}, [TEXT] = {"txt/Encoder_0/encoderblock", "text_model"}};

/* The layer of "_12/...", or SIZE_MAX; *rest is what follows the slash. */
static size_t read_layer(const char *s, const char **rest) {
    size_t layer = 0, digits = 0;
    if (*s++ != '_') return SIZE_MAX;
    for (; *s >= '0' && *s <= '9' && digits < 4; s++, digits++) layer = layer * 10 + (size_t)(*s - '0');
    *rest = s + 1;
    return digits && *s == '/' ? layer : SIZE_MAX;
}

static bool add_layer(npz *n, const array *a, size_t tower, const naming *row, size_t layer, size_t stacked) {
    file_tensor w = {0};
    char name[NAME_MOST];
    snprintf(name, sizeof name, "%s.encoder.layers.%zu.%s", TOWERS[tower].to, layer, row->to);
    if (layer >= n->layers[tower]) n->layers[tower] = layer + 1;
    return look(n, a, stacked, row->order, &w) && add_view(n, name, &w, (view){a, stacked ? layer * a->stride[0] : 0, 0});
}

/* An array of one block, or of all: false with a message; *known says whether it is one. */
static bool add_block_array(npz *n, const array *a, bool *known) {
    for (size_t i = 0; i < 2; i++) {
        size_t m = strlen(TOWERS[i].from);
        if (strncmp(a->name, TOWERS[i].from, m) != 0) continue;
        const char *rest = a->name + m + 1;
        bool stacked = a->name[m] == '/';
        size_t layer = stacked ? 0 : read_layer(a->name + m, &rest), layers = 1;
        const naming *row = NULL;
        for (size_t k = 0; k < sizeof BLOCK / sizeof *BLOCK && layer != SIZE_MAX; k++)
            if (strcmp(BLOCK[k].from, rest) == 0) row = &BLOCK[k];
        if (!row) continue;
        *known = true;
        if (stacked && a->header.rank == 0)
            return err_set(n->e, "%s: array %s has no dimensions, expected a stack of layers", n->f->name, a->name);
        if (stacked) layers = a->header.shape[0];
        if (layers > LAYERS_MOST)
            return err_set(n->e, "%s: array %s stacks %zu layers, expected at most %d", n->f->name, a->name, layers,
                           LAYERS_MOST);
        for (size_t k = 0; k < layers; k++)
            if (!add_layer(n, a, i, row, layer + k, stacked)) return false;
    }
    return true;
}

static bool add_array(npz *n, const array *a) {
    bool known = false;
    file_tensor w = {0};
    for (size_t i = 0; i < sizeof WHOLE / sizeof *WHOLE; i++)
        if (strcmp(WHOLE[i].from, a->name) == 0)
            return look(n, a, 0, WHOLE[i].order, &w) && add_view(n, WHOLE[i].to, &w, (view){a, 0, 0});
    if (!add_block_array(n, a, &known)) return false;
    if (known || strncmp(a->name, "img/MAPHead_0/MultiHeadDotProductAttention_0/", 45) == 0) return true;
    return look(n, a, 0, "*", &w) && add_view(n, a->name, &w, (view){a, 0, 0}); /* unread, by its own name */
}

/* The pooler's query, key and value, which Hugging Face keeps in one. */
static bool add_joined(npz *n, const char *kind, const char *order, const char *name, int joined) {
    static const char *const thirds[] = {"query", "key", "value"};
    file_tensor whole = {0};
    for (int i = 0; i < 3; i++) {
        char from[NAME_MOST];
        snprintf(from, sizeof from, "img/MAPHead_0/MultiHeadDotProductAttention_0/%s/%s", thirds[i], kind);
        const array *a = find(n, from);
        file_tensor *part = &n->parts[joined][i];
        if (!a) return true; /* the tensor is then missing by Hugging Face's name */
        if (!look(n, a, 0, order, part)) return false;
        part->place = (size_t)(a - n->arrays);
        if (i == 0) whole = *part;
        if (part->type != whole.type || part->rank != whole.rank ||
            memcmp(part->shape, whole.shape, whole.rank * sizeof *whole.shape) != 0)
            return err_set(n->e, "%s: array %s has another type or shape than query's", n->f->name, from);
    }
    size_t stride = 1;
    if (!size_mul(whole.shape[0], 3, &whole.shape[0]))
        return err_set(n->e, "%s: the pooler's query is too large", n->f->name);
    for (size_t i = whole.rank; i-- > 0; stride *= whole.shape[i]) whole.stride[i] = stride;
    return add_view(n, name, &whole, (view){.joined = joined});
}

/* ---- the config that the shapes imply ---------------------------------------------------------------------------- */
static size_t side(const npz *n, const char *name, size_t d) {
    const array *a = find(n, name);
    return a && d < a->header.rank ? a->header.shape[d] : 0;
}

/* The second side of an array that all blocks of a tower have: in the first block's own, or behind a stack's layers. */
static size_t block_side(const npz *n, size_t tower, const char *array_name) {
    char name[NAME_MOST];
    snprintf(name, sizeof name, "%s_0/%s", TOWERS[tower].from, array_name);
    if (find(n, name)) return side(n, name, 1);
    snprintf(name, sizeof name, "%s/%s", TOWERS[tower].from, array_name);
    return side(n, name, 2);
}

static size_t heads(const npz *n, size_t tower) { return block_side(n, tower, "MultiHeadDotProductAttention_0/query/kernel"); }

static size_t mlp(const npz *n, size_t tower) { return block_side(n, tower, "MlpBlock_0/Dense_0/kernel"); }

static bool imply_config(npz *n) {
    static const char form[] =
        "{\"model_type\": \"siglip\", \"text_config\": {\"vocab_size\": %zu, \"hidden_size\": %zu, "
        "\"projection_size\": %zu, \"max_position_embeddings\": %zu, \"num_hidden_layers\": %zu, "
        "\"num_attention_heads\": %zu, \"intermediate_size\": %zu, \"hidden_act\": \"gelu_pytorch_tanh\", "
        "\"layer_norm_eps\": 1e-6}, \"vision_config\": {\"hidden_size\": %zu, \"image_size\": %zu, \"patch_size\": %zu, "
        "\"num_hidden_layers\": %zu, \"num_attention_heads\": %zu, \"intermediate_size\": %zu, \"hidden_act\": "
        "\"gelu_pytorch_tanh\", \"layer_norm_eps\": 1e-6}}";
    char text[1200];
    size_t patch = side(n, "img/embedding/kernel", 0), places = side(n, "img/pos_embedding", 1), grid = 0;
    while ((grid + 1) * (grid + 1) <= places && grid < 4096) grid++;
    if (grid == 0 || grid * grid != places || patch == 0 || patch > 4096)
        return err_set(n->e, "%s: img/pos_embedding has %zu places for patches of %zu, expected a square of them",
                       n->f->name, places, patch);
    size_t width = side(n, "txt/Embed_0/embedding", 1), head = side(n, "txt/head/kernel", 1);
    snprintf(text, sizeof text, form, side(n, "txt/Embed_0/embedding", 0), width, head ? head : width,
             side(n, "txt/pos_embedding", 1), n->layers[TEXT], heads(n, TEXT), mlp(n, TEXT), side(n, "img/embedding/kernel", 3),
             grid * patch, patch, n->layers[IMAGE], heads(n, IMAGE), mlp(n, IMAGE));
    const char *kept = tensors_text(n->t, text, strlen(text));
    tensors_set_config(n->t, kept);
    return kept || err_set(n->e, "%s: not enough memory", n->f->name);
}

/* ---- the archive -------------------------------------------------------------------------------------------------- */
static void release(void *p) {
    npz *n = p;
    mem_free(n->arrays);
    mem_free(n->views);
    mem_free(n);
}

static bool read_all(npz *n) {
    n->arrays = mem_alloc(zip_count(n->z) + 1, sizeof *n->arrays);
    if (!n->arrays) return err_set(n->e, "%s: not enough memory for %zu arrays", n->f->name, zip_count(n->z));
    for (size_t i = 0; i < zip_count(n->z); i++)
        if (!read_array(n, zip_at(n->z, i))) return false;
    if (!find(n, "img/embedding/kernel"))
        return err_set(n->e, "%s: a NumPy archive without img/embedding/kernel, expected big_vision's two towers",
                       n->f->name);
    for (size_t i = 0; i < n->count; i++)
        if (!add_array(n, &n->arrays[i])) return false;
    return add_joined(n, "kernel", "12|0", "vision_model.head.attention.in_proj_weight", 0) &&
           add_joined(n, "bias", "01", "vision_model.head.attention.in_proj_bias", 1) && imply_config(n);
}

bool npz_read(tensors *t, const struct zip *z, const file_bytes *f, err *e) {
    npz *n = mem_alloc(1, sizeof *n);
    if (!n) return err_set(e, "%s: not enough memory", f->name);
    *n = (npz){.z = z, .f = f, .t = t, .e = e};
    if (!tensors_keep(t, n, release, e)) return false;
    tensors_set_container(t, "big_vision npz");
    tensors_set_unpack(t, unpack, n);
    bool ok = read_all(n);
    n->e = NULL; /* the caller's, and gone when tensors are unpacked */
    return ok;
}
