/* opened.c - from files to sets of tensors: a mapped file and its container, an overlay, an index of shards (see tensors.h). */
#include <stdio.h>
#include <string.h>
#include "files/json.h"
#include "models/containers.h"

enum { INDEX_BYTES = 256 << 20, SHARDS_MOST = 1000, PATH_BYTES = 4096 };

/* ---- one file ------------------------------------------------------------------------------------------ */
static bool read_bytes(tensors *t, const unsigned char *bytes, size_t length, err *e) {
    t->file = (file_bytes){bytes, length, t->name};
    const container *row = container_of(&t->file);
    t->container = row->name;
    if (!row->read) return err_set(e, "%s: is %s, which is not read: %s", t->name, row->name, row->why);
    return row->read(t, &t->file, e) && tensors_sort(t, "it", e);
}

tensors *tensors_parse(const unsigned char *bytes, size_t length, const char *name, err *e) {
    tensors *t = tensors_make(name, e);
    if (!t || read_bytes(t, bytes, length, e)) return t;
    tensors_free(t);
    return NULL;
}

static tensors *open_one(const char *path, err *e) {
    tensors *t = tensors_make(path, e);
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
    if (!tensors_sort(t, "the overlay", e)) return false;
    size_t replaced = t->count; /* the overlay's, sorted; the base's come behind them */
    for (size_t i = 0; i < base->count; i++) {
        const file_tensor *w = &base->items[i];
        if (!tensors_find_among(t, replaced, w->name) && !take_over(t, w, w->name, e)) return false;
    }
    mem_free(t->sorted);
    t->sorted = NULL;
    return tensors_sort(t, "it", e);
}

tensors *tensors_overlay(const char *path, const char *overlay, err *e) {
    tensors *t = tensors_make(path, e), *base = t ? open_one(path, e) : NULL, *over = base ? open_one(overlay, e) : NULL;
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
        const file_tensor *w = tensors_find(shard, v->string + tensor_wrapping(v->string, strlen(v->string)));
        if (!w)
            return err_set(e, "%s: tensor \"%.200s\" is missing, weight_map of %s says that it is there", shard->name,
                           v->string, t->name);
        if (!take_over(t, w, w->name, e)) return false;
    }
    return tensors_sort(t, "weight_map", e);
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
    tensors *t = tensors_make(path, e);
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
