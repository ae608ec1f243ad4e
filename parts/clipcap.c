/* clipcap.c - ClipCap's published files (see clipcap.h). */
#include "parts/clipcap.h"
#include "files/files.h"
#include "files/json.h"
#include "os/os.h"
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES = 1 << 20, HEAD_WIDTH = 64, PATH = 4096 };

bool clipcap_is(const tensors *file) {
    return tensors_find(file, "clip_project.model.0.weight") || tensors_find(file, "clip_project.linear.weight");
}

static const char *gpt2_in(const tensors *file) {
    static const char *const before[] = {"gpt.transformer.", "transformer.", ""};
    char name[64];
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        snprintf(name, sizeof name, "%swte.weight", before[i]);
        if (tensors_find(file, name)) return before[i];
    }
    return NULL;
}

/* ---- the files -------------------------------------------------------------------------------------------- */
static bool is_weights(const char *name) {
    static const char *const endings[] = {".pt", ".pth", ".bin", ".ckpt", ".safetensors"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_with(name, endings[i])) return true;
    return false;
}

bool clipcap_find(const char *folder, char path[PATH], err *e) {
    file_list all = {0};
    err refusal = {{0}};
    bool ok = folder_list(folder, is_weights, &all, e);
    *path = 0;
    for (size_t i = 0; ok && i < all.count; i++) {
        tensors *t = tensors_open(all.path[i], refusal.text[0] ? NULL : &refusal);
        bool is = t && (clipcap_is(t) || (tensors_find(t, "token.weight") && tensors_find(t, "words")));
        tensors_free(t);
        if (is && *path) ok = err_set(e, "%s: several captioners, name one of them: %s, %s", folder, path, all.path[i]);
        else if (is && strlen(all.path[i]) >= PATH) ok = err_set(e, "%s: the path is too long", folder);
        else if (is) strcpy(path, all.path[i]);
    }
    if (ok && !*path && refusal.text[0]) *e = refusal, ok = false;
    if (ok && !*path)
        ok = err_set(e, "%s: no captioner among %zu files of weights: expected ClipCap's (clip_project.* in a .pt, .bin or "
                        ".safetensors), or train caption's", folder, all.count);
    mem_free(all.path);
    return ok;
}

/* GPT-2's own file in the folder. */
static bool open_beside(clipcap *c, err *e) {
    static const char *const names[] = {"model.safetensors", "pytorch_model.bin"};
    char path[PATH + 32];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", c->folder, names[i]);
        if (!file_exists(path)) continue;
        if (!(c->beside = tensors_open(path, e))) return false;
        c->gpt = c->beside;
        if ((c->before = gpt2_in(c->gpt))) return true;
        return err_set(e, "%s: \"wte.weight\" is missing: GPT-2's weights expected beside %s", path, tensors_name(c->map));
    }
    return err_set(e, "%s: ClipCap's map alone; GPT-2 is neither in it (gpt.transformer.wte.weight) nor beside it "
                      "(%s/model.safetensors, pytorch_model.bin)", tensors_name(c->map), c->folder);
}

static bool open_words(clipcap *c, err *e) {
    size_t count;
    if (!(c->words = tokenizer_open_gpt2(c->folder, e))) return false;
    if (!tokenizer_encode(c->words, ".", &c->stop, 1, &count, e)) return false;
    return tokenizer_measure(c->words, ".", &count, e) &&
           (count == 1 || err_set(e, "%s: its tokenizer makes %zu pieces of \".\", which ends a sentence; one expected", c->folder, count));
}

bool clipcap_open(clipcap *c, const char *path, err *e) {
    char file[PATH];
    if (strlen(path) >= PATH) return err_set(e, "%.200s...: the path is too long", path);
    strcpy(file, path);
    if (folder_exists(path) && !clipcap_find(path, file, e)) return false;
    const char *slash = os_last_slash(file);
    snprintf(c->folder, sizeof c->folder, "%.*s", slash ? (int)(slash - file) : 1, slash ? file : ".");
    if (!(c->map = tensors_open(file, e))) return false;
    if (!clipcap_is(c->map)) return err_set(e, "%s: \"clip_project.model.0.weight\" is missing: it is no captioner of ClipCap's", file);
    c->gpt = c->map, c->before = gpt2_in(c->map);
    return (c->before || open_beside(c, e)) && open_words(c, e);
}

void clipcap_close(clipcap *c) {
    tensors_free(c->map), tensors_free(c->beside);
    tokenizer_free(c->words);
    *c = (clipcap){0};
}

/* ---- what GPT-2's config says -------------------------------------------------------------------------------- */
static bool read_config(const clipcap *c, decoder_shape *s, err *e) {
    char path[PATH + 32];
    const char *act, *kind;
    size_t length, width, layers;
    double eps;
    s->heads = s->width % HEAD_WIDTH ? 1 : s->width / HEAD_WIDTH;
    snprintf(path, sizeof path, "%s/config.json", c->folder);
    if (!file_exists(path)) return true;
    char *text = file_read(path, CONFIG_BYTES, &length, e);
    cJSON *root = text ? json_parse(text, length, path, e) : NULL;
    json_scope j = {.object = root, .file = path, .e = e};
    bool ok = root && json_string(&j, "model_type", "", &kind);
    if (ok && (!strcmp(kind, "gpt2") || cJSON_HasObjectItem(root, "n_head"))) { /* another's, a CLIP's say, may lie there */
        ok = json_size(&j, "n_head", 1, 1024, s->heads, &s->heads) && json_size(&j, "n_embd", 1, 1 << 20, s->width, &width) &&
             json_size(&j, "n_layer", 1, DECODER_MOST_LAYERS, s->layers, &layers) &&
             json_string(&j, "activation_function", "gelu_new", &act) && json_number(&j, "layer_norm_epsilon", 0, 1, 1e-5, &eps);
        if (ok && (width != s->width || layers != s->layers))
            ok = err_set(e, "%s: n_embd %zu and n_layer %zu; the weights have %zu and %zu", path, width, layers, s->width, s->layers);
        if (ok && strcmp(act, "gelu_new")) ok = err_set(e, "%s: activation_function is \"%.40s\", expected \"gelu_new\"", path, act);
        if (ok && !(eps >= 0.99e-5 && eps <= 1.01e-5)) ok = err_set(e, "%s: layer_norm_epsilon is %g, expected 1e-05", path, eps);
        if (ok && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "scale_attn_by_inverse_layer_idx")))
            ok = err_set(e, "%s: scale_attn_by_inverse_layer_idx is true, expected false", path);
    }
    json_free(root);
    mem_free(text);
    return ok && (s->width % s->heads == 0 || err_set(e, "%s: n_head is %zu, expected a divisor of the width %zu", path, s->heads, s->width));
}

/* ---- sizes, which the tensors tell ---------------------------------------------------------------------------- */
static bool size_of(const tensors *file, const char *before, const char *name, size_t *rows, size_t *cols, err *e) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", before, name);
    return part_shape(file, full, rows, cols) || err_set(e, "%s: \"%s\" is missing, or no matrix", tensors_name(file), full);
}

/* How many of NAME.0.ENDING, NAME.1.ENDING... there are. */
static bool count_layers(const tensors *file, const char *before, const char *name, const char *ending, size_t most, size_t *count, err *e) {
    char full[128];
    for (*count = 0;; ++*count) {
        snprintf(full, sizeof full, "%s%s.%zu.%s", before, name, *count, ending);
        if (!tensors_find(file, full)) break;
        if (*count == most) return err_set(e, "%s: \"%s\": at most %zu blocks expected", tensors_name(file), full, most);
    }
    return *count > 0 || err_set(e, "%s: \"%s\" is missing", tensors_name(file), full);
}

/* The output's weights are the table's (tied), whether the file holds them twice or once. */
static bool is_tied(const clipcap *c, err *e) {
    char name[64];
    const char *head = !strcmp(c->before, "gpt.transformer.") ? "gpt.lm_head.weight" : "lm_head.weight";
    snprintf(name, sizeof name, "%swte.weight", c->before);
    const file_tensor *a = tensors_find(c->gpt, name), *b = tensors_find(c->gpt, head);
    if (!b || a->data == b->data) return true;
    const unsigned char *x = tensor_bytes(a, e), *y = x ? tensor_bytes(b, e) : NULL;
    if (!y) return false;
    return (a->bytes == b->bytes && !memcmp(x, y, a->bytes)) ||
           err_set(e, "%s: \"%s\" is not \"%s\": an output tied to the table of words expected", tensors_name(c->gpt), head, name);
}

static bool map_sizes(const clipcap *c, captioner_net *n, err *e) {
    size_t rows, cols, D = n->d.shape.width;
    n->transformer = tensors_find(c->map, "clip_project.linear.weight") != NULL;
    if (!n->transformer) {
        if (tensors_find(c->map, "clip_project.model.4.weight"))
            return err_set(e, "%s: \"clip_project.model.4.weight\": a perceptron of two layers expected", tensors_name(c->map));
        if (!size_of(c->map, "clip_project.", "model.0.weight", &rows, &n->embed, e) ||
            !size_of(c->map, "clip_project.", "model.2.weight", &rows, &cols, e))
            return false;
        n->prefix = rows / D;
    } else {
        if (!size_of(c->map, "clip_project.", "linear.weight", &rows, &n->embed, e) ||
            !size_of(c->map, "clip_project.", "prefix_const", &n->prefix, &cols, e) ||
            !count_layers(c->map, "clip_project.", "transformer.layers", "norm1.weight", CAPTIONER_MOST_LAYERS, &n->layers, e))
            return false;
        n->tokens = rows / D;
        if (D % 8) return err_set(e, "%s: rows of %zu numbers do not part into the map's 8 heads", tensors_name(c->map), D);
    }
    if (rows % D || rows < D)
        return err_set(e, "%s: a map to %zu numbers, expected a multiple of GPT-2's width %zu (%s)", tensors_name(c->map), rows, D, tensors_name(c->gpt));
    return true;
}

bool clipcap_sizes(const clipcap *c, size_t embed, captioner_net *n, err *e) {
    decoder_shape *s = &n->d.shape;
    size_t cols;
    s->gpt2 = true;
    if (!size_of(c->gpt, c->before, "wte.weight", &s->vocab, &s->width, e) || !size_of(c->gpt, c->before, "wpe.weight", &s->length, &cols, e) ||
        !count_layers(c->gpt, c->before, "h", "ln_1.weight", DECODER_MOST_LAYERS, &s->layers, e) || !read_config(c, s, e) || !map_sizes(c, n, e))
        return false;
    if (n->embed != embed)
        return err_set(e, "%s: its %s map was trained for embeddings of %zu numbers, the model's have %zu%s", tensors_name(c->map),
                       n->transformer ? "transformer" : "perceptron", n->embed, embed,
                       n->embed == 512   ? " (as published: OpenAI's ViT-B/32)"
                       : n->embed == 640 ? " (as published: OpenAI's RN50x4)"
                                         : "");
    if (s->length <= n->prefix)
        return err_set(e, "%s: a prefix of %zu rows, %zu places: places for words expected", tensors_name(c->map), n->prefix, s->length);
    if (tokenizer_vocab(c->words) != s->vocab)
        return err_set(e, "%s: its tokenizer has %zu pieces, %s %zu rows in \"%swte.weight\"", c->folder, tokenizer_vocab(c->words),
                       tensors_name(c->gpt), s->vocab, c->before);
    return is_tied(c, e);
}
