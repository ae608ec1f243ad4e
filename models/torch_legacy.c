/* torch_legacy.c - what torch.save wrote before 1.6: pickles one after another, then the storages.
 *
 *     0x1950a86a20f9469cfc6c | 1001 | {protocol_version, little_endian, type_sizes} | the object | [storage keys]
 *     for each key: int64 count, count numbers
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "models/containers.h"
#include "models/torch_values.h"

static const unsigned char MAGIC[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

bool torch_legacy_is(const file_bytes *f) { /* PROTO 2, LONG1 of ten bytes */
    static const unsigned char start[4] = {0x80, 2, 0x8a, 10};
    return f->length > 14 && memcmp(f->data, start, 4) == 0 && memcmp(f->data + 4, MAGIC, 10) == 0;
}

typedef struct {
    const file_bytes *f;
    size_t at;
    pickle *object, *keys; /* the two that are kept until the end */
    torch_storages storages;
    err *e;
} stream;

static pickle *next_pickle(stream *s, const char *what) {
    char name[600];
    size_t used;
    snprintf(name, sizeof name, "%.400s: %s from byte %zu", s->f->name, what, s->at);
    pickle *p = pickle_parse(s->f->data + s->at, s->f->length - s->at, name, PICKLE_CHECKPOINT, &used, s->e);
    if (p) s->at += used;
    return p;
}

static bool read_version(stream *s) {
    pickle *p = next_pickle(s, "the version");
    if (!p) return false;
    const pickle_value *v = pickle_root(p);
    bool ok = v->kind == PICKLE_INT && v->whole == 1001;
    if (!ok) err_set(s->e, "%s: its version is %s, expected 1001", s->f->name, pickle_describe(v).text);
    pickle_free(p);
    return ok;
}

static bool read_system(stream *s) {
    pickle *p = next_pickle(s, "the writer's machine");
    if (!p) return false;
    const pickle_value *little = pickle_get(pickle_root(p), "little_endian");
    bool ok = little && little->kind == PICKLE_BOOL && little->whole;
    if (!ok) err_set(s->e, "%s: its numbers are not little-endian, expected little_endian True", s->f->name);
    pickle_free(p);
    return ok;
}

static bool read_count(stream *s, uint64_t *count) {
    if (s->f->length - s->at < 8) return false;
    *count = 0;
    for (int i = 7; i >= 0; i--) *count = *count << 8 | s->f->data[s->at + (size_t)i];
    s->at += 8;
    return true;
}

static bool place_storage(stream *s, const pickle_value *key) {
    uint64_t count = 0;
    if (key->kind != PICKLE_TEXT && key->kind != PICKLE_BYTES)
        return err_set(s->e, "%s: a storage's key is %s, expected a text", s->f->name, pickle_describe(key).text);
    torch_storage *t = torch_storage_find(&s->storages, key->text, key->length);
    if (!t || !t->type || t->data)
        return err_set(s->e, "%s: the list of storages has %s, %s", s->f->name, pickle_describe(key).text,
                       !t ? "which no tensor uses" : t->data ? "twice" : "whose numbers are of an unknown kind");
    if (!read_count(s, &count))
        return err_set(s->e, "%s: ends before storage %s: file cut short?", s->f->name, pickle_describe(key).text);
    size_t each = number_bytes(t->type), left = s->f->length - s->at;
    if (count != t->count)
        return err_set(s->e, "%s: storage %s counts %" PRIu64 " numbers, expected %zu", s->f->name,
                       pickle_describe(key).text, count, t->count);
    if (t->count > left / each)
        return err_set(s->e, "%s: storage %s has %zu numbers of %s, %zu bytes are there: file cut short?", s->f->name,
                       pickle_describe(key).text, t->count, t->type, left);
    t->data = s->f->data + s->at;
    t->bytes = t->count * each;
    s->at += t->bytes;
    return true;
}

static bool place_storages(stream *s) {
    const pickle_value *keys = pickle_root(s->keys);
    if (keys->kind != PICKLE_LIST)
        return err_set(s->e, "%s: %s found, expected the list of storages", s->f->name, pickle_describe(keys).text);
    for (size_t i = 0; i < keys->count; i++)
        if (!place_storage(s, keys->items[i])) return false;
    return s->at == s->f->length ||
           err_set(s->e, "%s: %zu bytes follow the last storage, expected none", s->f->name, s->f->length - s->at);
}

static bool read_stream(tensors *t, stream *s) {
    s->at = 15; /* PROTO 2, LONG1 of the magic number, STOP */
    if (s->f->length < 15 || s->f->data[14] != '.')
        return err_set(s->e, "%s: the magic number's pickle has no end", s->f->name);
    if (!read_version(s) || !read_system(s) || !(s->object = next_pickle(s, "the object")) ||
        !(s->keys = next_pickle(s, "the list of storages")))
        return false;
    return torch_storages_collect(&s->storages, s->object, s->f->name, s->e) && place_storages(s) &&
           torch_tensors_add(t, &s->storages, pickle_root(s->object), s->f->name, s->e);
}

bool torch_legacy_read(tensors *t, const file_bytes *f, err *e) {
    stream s = {.f = f, .e = e};
    bool ok = read_stream(t, &s);
    torch_storages_free(&s.storages);
    pickle_free(s.object);
    pickle_free(s.keys);
    return ok;
}
