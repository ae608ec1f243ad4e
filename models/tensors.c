/* tensors.c - sets of tensors: a mapped file and its container, or several by an index (see tensors.h). */
#include "models/tensors.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "files/files.h"
#include "files/json.h"
#include "models/containers.h"

enum { INDEX_BYTES = 256 << 20, SHARDS_MOST = 1000, PATH_BYTES = 4096, NOTES_MOST = 64 };

typedef struct {
    void *p;
    void (*release)(void *);
} kept;

struct tensors {
    char *name;
    const char *container;
    file_tensor *items;
    file_tensor **sorted; /* by name */
    size_t count, room;
    kept *kept;
    size_t kept_count, kept_room;
    const char *notes[NOTES_MOST];
    size_t note_count;
    const char *config, *pixels, *merges;
    file_map map; /* tensors_open's, of one file */
    bool mapped;
    file_bytes file;
    tensors_unpack *unpack;
    void *unpack_state;
    tensors **parts; /* an index's shards */
    size_t part_count;
};

/* ---- number types --------------------------------------------------------------------------------- */
static const struct {
    char name[8];
    unsigned numbers, bytes; /* of one block */
} TYPES[] = {{"F32", 1, 4},    {"F16", 1, 2},    {"BF16", 1, 2},   {"F64", 1, 8},    {"I64", 1, 8},
             {"I32", 1, 4},    {"I16", 1, 2},    {"I8", 1, 1},     {"U8", 1, 1},     {"BOOL", 1, 1},
             {"Q4_0", 32, 18}, {"Q4_1", 32, 20}, {"Q5_0", 32, 22}, {"Q5_1", 32, 24}, {"Q8_0", 32, 34}};

bool tensor_count_bytes(const char *type, const size_t *shape, size_t rank, size_t *bytes) {
    size_t n = 1;
    for (size_t i = 0; i < rank; i++)
        if (!size_mul(n, shape[i], &n)) return false;
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        if (strcmp(TYPES[i].name, type) != 0) continue;
        size_t row = rank ? shape[rank - 1] : 1;
        return row % TYPES[i].numbers == 0 && size_mul(n / TYPES[i].numbers, TYPES[i].bytes, bytes);
    }
    return false;
}

size_t number_bytes(const char *type) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (strcmp(TYPES[i].name, type) == 0) return TYPES[i].numbers == 1 ? TYPES[i].bytes : 0;
    return 0;
}

size_t tensor_size(const file_tensor *w) {
    size_t n = 1;
    for (size_t i = 0; i < w->rank; i++) n *= w->shape[i];
    return n;
}

/* ---- what readers add ------------------------------------------------------------------------------- */
bool tensors_keep(tensors *t, void *p, void (*release)(void *), err *e) {
    if (mem_grow(&t->kept, &t->kept_room, t->kept_count + 1, sizeof *t->kept)) {
        t->kept[t->kept_count++] = (kept){p, release};
        return true;
    }
    release(p);
    return err_set(e, "%s: not enough memory", t->name);
}

char *tensors_text(tensors *t, const char *text, size_t length) {
    char *copy = mem_alloc(length + 1, 1);
    if (!copy) return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return tensors_keep(t, copy, mem_free, NULL) ? copy : NULL;
}

bool tensors_add_note(tensors *t, err *e, const char *format, ...) {
    char text[300];
    va_list args;
    if (t->note_count == NOTES_MOST) return true; /* notes are for people */
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *copy = tensors_text(t, text, strlen(text));
    if (!copy) return err_set(e, "%s: not enough memory", t->name);
    t->notes[t->note_count++] = copy;
    return true;
}

void tensors_set_config(tensors *t, const char *json) { t->config = json; }
void tensors_set_pixels(tensors *t, const char *json) { t->pixels = json; }
void tensors_set_merges(tensors *t, const char *merges) { t->merges = merges; }
void tensors_set_container(tensors *t, const char *name) { t->container = name; }

void tensors_set_unpack(tensors *t, tensors_unpack *how, void *state) {
    t->unpack = how;
    t->unpack_state = state;
}

bool tensors_add_strided(tensors *t, const file_tensor *w, err *e) {
    file_tensor copy = *w;
    if (!copy.bytes && !tensor_count_bytes(w->type, w->shape, w->rank, &copy.bytes))
        return err_set(e, "%s: tensor \"%.200s\": its shape as %s is not a countable number of bytes", t->name, w->name,
                       w->type);
    copy.name = tensors_text(t, w->name, strlen(w->name));
    if (!copy.name || !mem_grow(&t->items, &t->room, t->count + 1, sizeof *t->items))
        return err_set(e, "%s: not enough memory for %zu tensors", t->name, t->count + 1);
    copy.file = t->name;
    copy.owner = t;
    t->items[t->count++] = copy;
    return true;
}

bool tensors_add(tensors *t, const file_tensor *w, err *e) {
    file_tensor copy = *w;
    size_t n = 1;
    for (size_t i = w->rank; i-- > 0;) {
        copy.stride[i] = n;
        if (!size_mul(n, w->shape[i], &n)) n = 0; /* said by tensors_add_strided */
    }
    return tensors_add_strided(t, &copy, e);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(file_tensor *const *)a)->name, (*(file_tensor *const *)b)->name);
}

static bool sort(tensors *t, const char *what, err *e) {
    t->sorted = mem_alloc(t->count, sizeof *t->sorted);
    if (!t->sorted) return err_set(e, "%s: not enough memory for %zu tensors", t->name, t->count);
    for (size_t i = 0; i < t->count; i++) t->sorted[i] = &t->items[i];
    qsort(t->sorted, t->count, sizeof *t->sorted, by_name);
    for (size_t i = 1; i < t->count; i++)
        if (strcmp(t->sorted[i - 1]->name, t->sorted[i]->name) == 0)
            return err_set(e, "%s: %s has tensor \"%.200s\" twice", t->name, what, t->sorted[i]->name);
    return true;
}

/* ---- one file ------------------------------------------------------------------------------------------ */
static tensors *make(const char *name, err *e) {
    tensors *t = mem_alloc(1, sizeof *t);
    if (t) t->name = mem_alloc(strlen(name) + 1, 1);
    if (t && t->name) {
        memcpy(t->name, name, strlen(name) + 1);
        return t;
    }
    mem_free(t);
    err_set(e, "%s: not enough memory", name);
    return NULL;
}

void tensors_free(tensors *t) {
    if (!t) return;
    for (size_t i = 0; i < t->part_count; i++) tensors_free(t->parts[i]);
    for (size_t i = t->kept_count; i-- > 0;) t->kept[i].release(t->kept[i].p);
    if (t->mapped) file_map_close(&t->map);
    mem_free(t->parts);
    mem_free(t->kept);
    mem_free(t->items);
    mem_free(t->sorted);
    mem_free(t->name);
    mem_free(t);
}

static bool read_bytes(tensors *t, const unsigned char *bytes, size_t length, err *e) {
    t->file = (file_bytes){bytes, length, t->name};
    const container *row = container_of(&t->file);
    t->container = row->name;
    if (!row->read) return err_set(e, "%s: is %s, which is not read: %s", t->name, row->name, row->why);
    return row->read(t, &t->file, e) && sort(t, "it", e);
}

tensors *tensors_parse(const unsigned char *bytes, size_t length, const char *name, err *e) {
    tensors *t = make(name, e);
    if (!t || read_bytes(t, bytes, length, e)) return t;
    tensors_free(t);
    return NULL;
}

static tensors *open_one(const char *path, err *e) {
    tensors *t = make(path, e);
    if (!t) return NULL;
    t->mapped = file_map_open(path, &t->map, e);
    if (t->mapped && read_bytes(t, t->map.data, t->map.length, e)) return t;
    tensors_free(t);
    return NULL;
}

/* A tensor of another set, which lives as long as this one. */
static bool take_over(tensors *t, const file_tensor *w, const char *name, err *e) {
    if (!mem_grow(&t->items, &t->room, t->count + 1, sizeof *t->items))
        return err_set(e, "%s: not enough memory", t->name);
    t->items[t->count] = *w;
    t->items[t->count].name = name;
    t->items[t->count++].origin = w->origin ? w->origin : w;
    return true;
}

/* ---- AlphaCLIP's overlay ------------------------------------------------------------------------------- */
/* transformer.resblocks.0.attn.in_proj.weight is visual.transformer.resblocks.0.attn.in_proj_weight in the base. */
static const char *name_in_base(tensors *t, const char *name, err *e) {
    char text[600];
    const char *prefix = strncmp(name, "visual.", 7) == 0 ? "" : "visual.";
    snprintf(text, sizeof text, "%s%.500s", prefix, name);
    char *joined = strstr(text, ".in_proj.");
    if (joined) joined[8] = '_';
    const char *copy = tensors_text(t, text, strlen(text));
    if (!copy) err_set(e, "%s: not enough memory", t->name);
    return copy;
}

static bool put_over(tensors *t, const tensors *base, const tensors *over, err *e) {
    if (!mem_grow(&t->items, &t->room, over->count + base->count, sizeof *t->items)) /* so that none moves below */
        return err_set(e, "%s: not enough memory", t->name);
    for (size_t i = 0; i < over->count; i++) {
        const char *name = name_in_base(t, over->items[i].name, e);
        if (!name || !take_over(t, &over->items[i], name, e)) return false;
        if (strstr(name, "lora_"))
            return err_set(e, "%s: tensor \"%.200s\" is a LoRA's, which is not supported: merge it into the weights first",
                           over->name, over->items[i].name);
    }
    if (!sort(t, "the overlay", e)) return false;
    size_t replaced = t->count;
    for (size_t i = 0; i < base->count; i++) {
        const file_tensor *w = &base->items[i];
        bool there = false; /* among the overlay's, which are sorted */
        for (size_t low = 0, high = replaced; low < high && !there;) {
            size_t middle = low + (high - low) / 2;
            int order = strcmp(t->sorted[middle]->name, w->name);
            there = order == 0;
            if (order < 0) low = middle + 1;
            else high = middle;
        }
        if (!there && !take_over(t, w, w->name, e)) return false;
    }
    mem_free(t->sorted);
    t->sorted = NULL;
    return sort(t, "it", e);
}

tensors *tensors_overlay(const char *path, const char *overlay, err *e) {
    tensors *t = make(path, e), *base = t ? open_one(path, e) : NULL, *over = base ? open_one(overlay, e) : NULL;
    tensors **parts = over ? mem_alloc(2, sizeof *parts) : NULL;
    if (!parts) {
        if (over) err_set(e, "%s: not enough memory", path);
        tensors_free(over);
        tensors_free(base);
        tensors_free(t);
        return NULL;
    }
    parts[0] = base;
    parts[1] = over;
    t->parts = parts;
    t->part_count = 2;
    t->container = base->container;
    if (put_over(t, base, over, e)) return t;
    tensors_free(t);
    return NULL;
}

/* ---- shards ---------------------------------------------------------------------------------------------- */
/* The shard of this name, opened when it is new. A name must not lead out of the folder. */
static tensors *open_shard(tensors *t, const char *file, err *e) {
    char path[PATH_BYTES];
    const char *slash = strrchr(t->name, '/');
    int folder = slash ? (int)(slash - t->name) + 1 : 0;
    if (!*file || strpbrk(file, "/\\") || strstr(file, ".."))
        return err_set(e, "%s: weight_map names the file \"%.200s\", expected one in the same folder", t->name, file),
               NULL;
    if ((size_t)snprintf(path, sizeof path, "%.*s%s", folder, t->name, file) >= sizeof path)
        return err_set(e, "%.200s...: path is longer than %d bytes", t->name, PATH_BYTES - 1), NULL;
    for (size_t i = 0; i < t->part_count; i++)
        if (strcmp(t->parts[i]->name, path) == 0) return t->parts[i];
    if (t->part_count == SHARDS_MOST) return err_set(e, "%s: more than %d shards", t->name, SHARDS_MOST), NULL;
    tensors *shard = open_one(path, e);
    if (!shard) return err_prefix(e, "%s", t->name), NULL;
    t->container = shard->container;
    return t->parts[t->part_count++] = shard;
}

static bool read_map(tensors *t, const cJSON *map, err *e) {
    const tensors *shard = NULL; /* neighbours are mostly in one */
    const char *last = NULL;
    for (const cJSON *v = map->child; v; v = v->next) {
        if (!cJSON_IsString(v)) {
            char found[64];
            json_describe(v, found, sizeof found);
            return err_set(e, "%s: weight_map.%.80s is %s, expected a file's name", t->name, v->string, found);
        }
        if (!last || strcmp(last, v->valuestring) != 0) shard = open_shard(t, last = v->valuestring, e);
        if (!shard) return false;
        const file_tensor *w = tensors_find(shard, v->string);
        if (!w)
            return err_set(e, "%s: tensor \"%.200s\" is missing, weight_map of %s says that it is there", shard->name,
                           v->string, t->name);
        if (!take_over(t, w, w->name, e)) return false;
    }
    return sort(t, "weight_map", e);
}

static bool read_index(tensors *t, const cJSON *index, err *e) {
    json_scope root = {.object = index, .file = t->name, .e = e}, map;
    if (!cJSON_IsObject(index)) return err_set(e, "%s: expected an object with weight_map", t->name);
    if (!json_object(&root, "weight_map", &map)) return false;
    if (!map.object || !map.object->child)
        return json_wrong(&root, "weight_map", map.object, "an object that is not empty");
    t->parts = mem_alloc(SHARDS_MOST, sizeof(tensors *));
    return t->parts ? read_map(t, map.object, e) : err_set(e, "%s: not enough memory", t->name);
}

static tensors *open_shards(const char *path, err *e) {
    size_t length;
    tensors *t = make(path, e);
    char *text = t ? file_read(path, INDEX_BYTES, &length, e) : NULL;
    cJSON *index = text ? json_parse(text, length, path, e) : NULL;
    mem_free(text);
    bool ok = index && read_index(t, index, e);
    json_free(index);
    if (ok) return t;
    tensors_free(t);
    return NULL;
}

tensors *tensors_open(const char *path, err *e) {
    static const char ending[] = ".index.json";
    size_t n = strlen(path), m = sizeof ending - 1;
    return n >= m && strcmp(path + n - m, ending) == 0 ? open_shards(path, e) : open_one(path, e);
}

/* ---- what was read ---------------------------------------------------------------------------------------- */
size_t tensors_count(const tensors *t) { return t->count; }
const file_tensor *tensors_at(const tensors *t, size_t i) { return &t->items[i]; }
const char *tensors_name(const tensors *t) { return t->name; }
const char *tensors_container(const tensors *t) { return t->container; }
size_t tensors_files(const tensors *t) { return t->part_count ? t->part_count : 1; }
const char *tensors_config(const tensors *t) { return t->config; }
const char *tensors_pixels(const tensors *t) { return t->pixels; }
const char *tensors_merges(const tensors *t) { return t->merges; }
size_t tensors_notes(const tensors *t) { return t->note_count; }
const char *tensors_note(const tensors *t, size_t i) { return t->notes[i]; }

const file_tensor *tensors_find(const tensors *t, const char *name) {
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(t->sorted[middle]->name, name);
        if (order == 0) return t->sorted[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* ---- numbers in order --------------------------------------------------------------------------------------- */
/* Whether the numbers lie without gaps with dimensions `first`..rank-1 outermost and 0..first-1 within: first 0 is
 * row-major order. The stride of a dimension of one number says nothing. */
static bool lies_in_order(const file_tensor *w, size_t first) {
    size_t n = 1;
    for (size_t i = w->rank; i-- > 0;) {
        size_t d = (i + first) % w->rank;
        if (w->shape[d] != 1 && w->stride[d] != n) return tensor_size(w) == 0;
        n *= w->shape[d];
    }
    return true;
}

void tensor_put_in_order(const file_tensor *w, unsigned char *to) {
    size_t at[TENSOR_RANK] = {0}, from = 0, count = tensor_size(w), each = number_bytes(w->type);
    for (size_t i = 0; i < count; i++, to += each) {
        memcpy(to, w->data + from * each, each);
        for (size_t d = w->rank; d-- > 0;) {
            from += w->stride[d];
            if (++at[d] < w->shape[d]) break;
            from -= w->stride[d] * w->shape[d];
            at[d] = 0;
        }
    }
}

/* Takes over p, the numbers of w in row-major order. */
static bool replace(file_tensor *w, unsigned char *p, err *e) {
    if (!p || !tensors_keep(w->owner, p, mem_free, e)) return false;
    w->data = p;
    for (size_t i = w->rank, n = 1; i-- > 0; n *= w->shape[i]) w->stride[i] = n;
    return true;
}

static bool unpack(file_tensor *w, err *e) {
    tensors *t = w->owner;
    if (!w->data) w->data = t->unpack(t, t->unpack_state, w, e);
    return w->data != NULL;
}

/* Where what was unpacked is remembered. Sets hand out const tensors; their own they may change. */
static file_tensor *original(const file_tensor *w) {
    const file_tensor *from = w->origin ? w->origin : w;
    return &from->owner->items[from - from->owner->items];
}

const unsigned char *tensor_bytes(const file_tensor *w, err *e) {
    file_tensor *own = original(w);
    if (!unpack(own, e)) return NULL;
    if (lies_in_order(own, 0)) return own->data;
    unsigned char *p = mem_alloc(own->bytes, 1);
    if (!p) return err_set(e, "%s: no memory for the %zu bytes of tensor \"%.200s\"", w->file, w->bytes, w->name), NULL;
    tensor_put_in_order(own, p);
    return replace(own, p, e) ? p : NULL;
}

const unsigned char *tensor_matrix(const file_tensor *w, size_t rows, size_t cols, bool *transposed, err *e) {
    file_tensor *own = original(w);
    size_t first = 0, n = 1;
    *transposed = false;
    if (!unpack(own, e)) return NULL;
    while (first < own->rank && n < rows) n *= own->shape[first++];
    if (lies_in_order(own, 0) || n != rows || tensor_size(own) / rows != cols || !lies_in_order(own, first))
        return tensor_bytes(own, e);
    *transposed = true;
    return own->data;
}
