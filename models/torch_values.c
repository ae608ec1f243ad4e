/* torch_values.c - pickled values to tensors (see torch_values.h). Layouts: torch/_utils.py, torch/serialization.py. */
#include "models/torch_values.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MOST = 512, TENSORS_MOST = 1 << 20, SPREAD_MOST = 1 << 24, KEY_MOST = 255 };

/* ---- storages -------------------------------------------------------------------------------------------- */
static const char *class_type(const pickle_value *v) {
    static const char *const classes[][2] = {
        {"torch FloatStorage", "F32"}, {"torch HalfStorage", "F16"}, {"torch BFloat16Storage", "BF16"},
        {"torch DoubleStorage", "F64"}, {"torch LongStorage", "I64"}, {"torch IntStorage", "I32"},
        {"torch ShortStorage", "I16"}, {"torch CharStorage", "I8"},  {"torch ByteStorage", "U8"},
        {"torch BoolStorage", "BOOL"},
    };
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (pickle_is(v, classes[i][0])) return classes[i][1];
    return NULL;
}

/* ('storage', class, key, location, count), in legacy streams with None behind it. */
static bool read_storage(const pickle_value *id, torch_storage *s, const char *name, err *e) {
    const pickle_value *tuple = id->items[0], *const *v = (const pickle_value *const *)tuple->items;
    if (tuple->kind != PICKLE_TUPLE || tuple->count < 5 || tuple->count > 6 || !pickle_is(v[0], "storage") ||
        v[1]->kind != PICKLE_GLOBAL || v[4]->kind != PICKLE_INT || (tuple->count == 6 && v[5]->kind != PICKLE_NONE))
        return err_set(e, "%s: a persistent id is %s, expected ('storage', class, key, location, count)", name,
                       pickle_describe(tuple).text);
    if (v[2]->kind != PICKLE_TEXT && v[2]->kind != PICKLE_BYTES)
        return err_set(e, "%s: a storage's key is %s, expected a text", name, pickle_describe(v[2]).text);
    *s = (torch_storage){.key = v[2]->text, .key_length = v[2]->length, .type = class_type(v[1])};
    bool path = s->key_length == 0 || s->key_length > KEY_MOST || (s->key_length == 2 && memcmp(s->key, "..", 2) == 0);
    for (size_t i = 0; i < s->key_length && !path; i++)
        path = s->key[i] == '/' || s->key[i] == '\\' || s->key[i] == 0 || (i && s->key[i] == '.' && s->key[i - 1] == '.');
    if (path)
        return err_set(e, "%s: a storage's key is %s, expected a name of at most %d letters that is no path", name,
                       pickle_describe(v[2]).text, KEY_MOST);
    if (v[4]->whole < 0 || (uint64_t)v[4]->whole > SIZE_MAX / 16)
        return err_set(e, "%s: storage %.*s has %" PRId64 " numbers", name, (int)s->key_length, s->key, v[4]->whole);
    s->count = (size_t)v[4]->whole;
    return true;
}

static int by_key(const void *a, const void *b) {
    const torch_storage *x = a, *y = b;
    if (x->key_length != y->key_length) return x->key_length < y->key_length ? -1 : 1;
    return memcmp(x->key, y->key, x->key_length);
}

typedef struct {
    torch_storages *s;
    const char *name;
    err *e;
} collection;

static bool collect(void *arg, const pickle_value *v) {
    const collection *c = arg;
    if (v->kind != PICKLE_PERSISTENT) return true;
    if (!mem_grow(&c->s->item, &c->s->room, c->s->count + 1, sizeof *c->s->item))
        return err_set(c->e, "%s: not enough memory", c->name);
    return read_storage(v, &c->s->item[c->s->count++], c->name, c->e);
}

/* Sorted, each key once: tensors that share a storage agree on what it is. */
bool torch_storages_collect(torch_storages *s, const pickle *p, const char *name, err *e) {
    collection c = {s, name, e};
    if (!pickle_each(p, collect, &c)) return false;
    if (s->count) qsort(s->item, s->count, sizeof *s->item, by_key);
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        if (kept == 0 || by_key(&s->item[kept - 1], &s->item[i]) != 0) {
            s->item[kept++] = s->item[i];
            continue;
        }
        const torch_storage *a = &s->item[kept - 1], *b = &s->item[i];
        if (a->type != b->type || a->count != b->count)
            return err_set(e, "%s: storage %.*s is %zu %s numbers and %zu %s numbers", name, (int)a->key_length, a->key,
                           a->count, a->type ? a->type : "unknown", b->count, b->type ? b->type : "unknown");
    }
    s->count = kept;
    return true;
}

torch_storage *torch_storage_find(const torch_storages *s, const char *key, size_t length) {
    torch_storage wanted = {.key = key, .key_length = length};
    return s->count ? bsearch(&wanted, s->item, s->count, sizeof *s->item, by_key) : NULL;
}

void torch_storages_free(torch_storages *s) {
    mem_free(s->item);
    *s = (torch_storages){0};
}

/* ---- one tensor ----------------------------------------------------------------------------------------------- */
typedef struct {
    tensors *t;
    const torch_storages *s;
    const char *name;
    size_t visits;
    err *e;
} reader;

static bool read_sizes(const pickle_value *v, const char *what, size_t *out, size_t *rank, err *e) {
    if (v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST)
        return err_set(e, "its %s is %s, expected a tuple", what, pickle_describe(v).text);
    if (v->count > TENSOR_RANK) return err_set(e, "its %s has %u dimensions, expected at most %d", what, v->count, TENSOR_RANK);
    *rank = v->count;
    for (size_t i = 0; i < v->count; i++) {
        if (v->items[i]->kind != PICKLE_INT || v->items[i]->whole < 0 || (uint64_t)v->items[i]->whole > SIZE_MAX)
            return err_set(e, "its %s has %s, expected whole numbers from 0 on", what, pickle_describe(v->items[i]).text);
        out[i] = (size_t)v->items[i]->whole;
    }
    return true;
}

static bool add_times(size_t a, size_t b, size_t *sum) { /* *sum += a * b */
    size_t product;
    if (!size_mul(a, b, &product) || product > SIZE_MAX - *sum) return false;
    *sum += product;
    return true;
}

/* (7.1)  The last number, at offset + sum (size - 1) stride, must be the storage's. */
static bool check_range(const file_tensor *w, const torch_storage *s, size_t offset, err *e) {
    size_t last = offset, numbers = 1;
    bool countable = true;
    for (size_t i = 0; i < w->rank; i++) countable = countable && size_mul(numbers, w->shape[i], &numbers);
    for (size_t i = 0; i < w->rank; i++)
        countable = countable && (numbers == 0 || add_times(w->shape[i] - 1, w->stride[i], &last));
    if (!countable) return err_set(e, "its shape or strides lead beyond every memory");
    if (numbers > 0 && last >= s->count)
        return err_set(e, "its last number is %zu of storage %.*s, which has %zu", last, (int)s->key_length, s->key,
                       s->count);
    if (numbers > s->count && numbers > SPREAD_MOST)
        return err_set(e, "its shape has %zu numbers, expected at most its storage's %zu (or one repeated)", numbers, s->count);
    return true;
}

/* arguments: (storage, offset, size, stride, ...) */
static bool read_rebuilt(const reader *r, const pickle_value *a, file_tensor *w) {
    size_t rank;
    if (a->kind != PICKLE_TUPLE || a->count < 4 || a->items[0]->kind != PICKLE_PERSISTENT ||
        a->items[1]->kind != PICKLE_INT)
        return err_set(r->e, "is rebuilt from %s, expected (storage, offset, size, stride, ...)", pickle_describe(a).text);
    torch_storage s;
    if (!read_storage(a->items[0], &s, r->name, r->e)) return false;
    const torch_storage *known = torch_storage_find(r->s, s.key, s.key_length);
    if (!known || !known->type)
        return err_set(r->e, "its numbers are of %s, expected Float, Half, BFloat16, Double, Long, Int, Short, Char, Byte "
                             "or Bool",
                       pickle_describe(a->items[0]->items[0]->items[1]).text);
    if (a->items[1]->whole < 0) return err_set(r->e, "its offset is %" PRId64 ", expected 0 or more", a->items[1]->whole);
    if (!read_sizes(a->items[2], "size", w->shape, &w->rank, r->e) ||
        !read_sizes(a->items[3], "stride", w->stride, &rank, r->e))
        return false;
    if (rank != w->rank) return err_set(r->e, "its size has %zu dimensions, its stride %zu", w->rank, rank);
    size_t offset = (size_t)a->items[1]->whole, each = number_bytes(known->type);
    if (!check_range(w, known, offset, r->e)) return false;
    if (!known->data)
        return err_set(r->e, "its storage is not in the file, expected one of key %.*s", (int)s.key_length, s.key);
    if (known->bytes / each < known->count || known->bytes != known->count * each)
        return err_set(r->e, "its storage %.*s has %zu bytes, expected %zu for %zu numbers of %s", (int)s.key_length, s.key,
                       known->bytes, known->count * each, known->count, known->type);
    w->type = known->type;
    w->data = known->data + (offset < known->count ? offset : 0) * each;
    return true;
}

/* What a tensor is rebuilt from: through parameters to their tensor; NULL: v is none. */
static const pickle_value *rebuilt(const pickle_value *v) {
    while (pickle_calls(v, "torch._utils _rebuild_parameter") && v->items[1]->count >= 1) v = v->items[1]->items[0];
    bool is = pickle_calls(v, "torch._utils _rebuild_tensor_v2") || pickle_calls(v, "torch._utils _rebuild_tensor");
    return is ? v->items[1] : NULL;
}

static bool add_tensor(reader *r, const pickle_value *arguments, const char *path) {
    file_tensor w = {.name = path};
    if (!read_rebuilt(r, arguments, &w)) return err_prefix(r->e, "%s: tensor \"%.200s\"", r->name, path);
    if (tensors_count(r->t) >= TENSORS_MOST) return err_set(r->e, "%s: more than %d tensors", r->name, TENSORS_MOST);
    return tensors_add_strided(r->t, &w, r->e);
}

/* ---- state dicts ------------------------------------------------------------------------------------------------ */
static const char *const WRAPPERS[] = {"state_dict", "model_ema", "model", "module", "model_state_dict"};

static const pickle_value *inner_dict(const pickle_value *v, const char **key) {
    for (size_t i = 0; i < sizeof WRAPPERS / sizeof *WRAPPERS; i++) {
        const pickle_value *inner = pickle_get(v, WRAPPERS[i]);
        if (!inner || inner->kind != PICKLE_DICT) continue;
        *key = WRAPPERS[i];
        return inner;
    }
    return NULL;
}

/* The dict inside its wrappers; what stands beside it is noted. */
static const pickle_value *unwrap(reader *r, const pickle_value *v) {
    const char *key;
    for (const pickle_value *inner; (inner = inner_dict(v, &key)); v = inner)
        for (size_t i = 0; i < v->count; i += 2)
            if (!pickle_is(v->items[i], key) &&
                !tensors_add_note(r->t, r->e, "%s beside %s: not the weights", pickle_describe(v->items[i]).text, key))
                return NULL;
    return v;
}

static bool read_name(const reader *r, const pickle_value *key, char path[NAME_MOST]) {
    size_t wrapping = tensor_wrapping(key->text, key->length), n = key->length - wrapping;
    const char *text = key->text + wrapping;
    if (n == 0 || n >= NAME_MOST || memchr(text, 0, n))
        return err_set(r->e, "%s: a tensor's name of %zu letters, expected 1 to %d, none of them zero", r->name, n,
                       NAME_MOST - 1);
    memcpy(path, text, n);
    path[n] = 0;
    return true;
}

/* A value that is no tensor: an error where a weight would stand (its name is a path), else a note. */
static bool skip_value(const reader *r, const char *path, const pickle_value *v) {
    if (v->kind == PICKLE_OBJECT && strchr(path, '.'))
        return err_set(r->e, "%s: tensor \"%.200s\" is %s, expected a tensor; nothing of it was run", r->name, path,
                       pickle_describe(v).text);
    return tensors_add_note(r->t, r->e, "%.200s: %s, no tensor", path, pickle_describe(v).text);
}

static bool add_state_dict(reader *r, const pickle_value *dict) {
    char path[NAME_MOST];
    for (size_t i = 0; i < dict->count; i += 2) {
        const pickle_value *key = dict->items[i], *v = dict->items[i + 1], *arguments = rebuilt(v);
        if (key->kind != PICKLE_TEXT && key->kind != PICKLE_BYTES) continue;
        if (!read_name(r, key, path)) return false;
        if (!(arguments ? add_tensor(r, arguments, path) : skip_value(r, path, v))) return false;
    }
    return true;
}

/* ---- TorchScript: a tree of modules, whose attributes' paths are the state dict's names --------------------------- */
static bool is_module(const pickle_value *v) {
    static const char start[] = "__torch__.";
    const pickle_value *of = v->kind == PICKLE_OBJECT ? v->items[0] : NULL;
    return of && of->kind == PICKLE_GLOBAL && of->length > sizeof start && memcmp(of->text, start, sizeof start - 1) == 0;
}

static bool add_module(reader *r, const pickle_value *module, const char *path) {
    const pickle_value *state = module->items[2];
    char inner[NAME_MOST];
    if (!state || state->kind != PICKLE_DICT) return true; /* a module without attributes */
    for (size_t i = 0; i < state->count; i += 2) {
        const pickle_value *key = state->items[i], *v = state->items[i + 1], *arguments = rebuilt(v);
        if (++r->visits > TENSORS_MOST) return err_set(r->e, "%s: more than %d attributes", r->name, TENSORS_MOST);
        if (key->kind != PICKLE_TEXT || memchr(key->text, 0, key->length))
            return err_set(r->e, "%s: an attribute of \"%.200s\" is called %s, expected a text", r->name, path,
                           pickle_describe(key).text);
        if (!arguments && !is_module(v)) continue; /* switches, and None for what a layer lacks */
        int n = snprintf(inner, sizeof inner, "%s%s%.*s", path, *path ? "." : "",
                         (int)(key->length < NAME_MOST ? key->length : NAME_MOST), key->text);
        if (n < 0 || n >= NAME_MOST) return err_set(r->e, "%s: the name %.200s... is too long", r->name, inner);
        if (!(arguments ? add_tensor(r, arguments, inner) : add_module(r, v, inner))) return false;
    }
    return true;
}

bool torch_tensors_add(tensors *t, const torch_storages *s, const pickle_value *root, const char *name, err *e) {
    reader r = {.t = t, .s = s, .name = name, .e = e};
    if (is_module(root)) return add_module(&r, root, "");
    if (root->kind != PICKLE_DICT)
        return err_set(e, "%s: holds %s, expected a dict of tensors (what torch.save(model.state_dict()) writes)", name,
                       pickle_describe(root).text);
    root = unwrap(&r, root);
    return root && add_state_dict(&r, root);
}
