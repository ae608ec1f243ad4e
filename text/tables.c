/* tables.c - growing arrays, maps, heaps, spellings (see tables.h). */
#include "text/tables.h"
#include "sys/random.h"
#include <string.h>

/* ---- growing memory -------------------------------------------------------------------------- */
bool tables_grow(void *array, size_t *room, size_t need, size_t each, err *e) {
    return mem_grow(array, room, need, each) || err_set(e, "no memory for %zu items of %zu bytes", need, each);
}
/* ---- map: 64-bit keys to numbers, open addressing, nothing is ever taken out ----------------- */
void map_free(map *m) {
    mem_free(m->keys);
    mem_free(m->values);
    *m = (map){0};
}

static size_t map_slot(const map *m, uint64_t key) {
    size_t i = (size_t)scramble(key) & (m->room - 1);
    while (m->values[i] != NONE && m->keys[i] != key) i = (i + 1) & (m->room - 1);
    return i;
}

uint32_t map_get(const map *m, uint64_t key) { return m->room ? m->values[map_slot(m, key)] : NONE; }

/* At most two thirds full. */
bool map_set(map *m, uint64_t key, uint32_t value, err *e) {
    if (3 * (m->used + 1) > 2 * m->room) {
        map wide = {.room = m->room ? 2 * m->room : 1024, .used = m->used};
        wide.keys = mem_alloc(wide.room, sizeof *wide.keys);
        wide.values = mem_alloc(wide.room, sizeof *wide.values);
        if (!wide.keys || !wide.values) {
            map_free(&wide);
            return err_set(e, "no memory for a table of %zu entries", m->used);
        }
        memset(wide.values, 0xFF, wide.room * sizeof *wide.values);
        for (size_t i = 0; i < m->room; i++) {
            if (m->values[i] == NONE) continue;
            size_t to = map_slot(&wide, m->keys[i]);
            wide.keys[to] = m->keys[i];
            wide.values[to] = m->values[i];
        }
        map_free(m);
        *m = wide;
    }
    size_t i = map_slot(m, key);
    m->used += m->values[i] == NONE;
    m->keys[i] = key;
    m->values[i] = value;
    return true;
}

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t n) { /* FNV-1a */
    uint64_t h = seed ^ 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001B3u;
    return h;
}

/* ---- heap: least first ----------------------------------------------------------------------- */
static bool less(entry a, entry b) { return a.first != b.first ? a.first < b.first : a.second < b.second; }

void heap_push(entry *h, size_t *n, entry x) { /* the caller has made room */
    size_t i = (*n)++;
    for (; i && less(x, h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

entry heap_pop(entry *h, size_t *n) {
    entry top = h[0], x = h[--*n];
    size_t i = 0;
    for (size_t child = 1; child < *n; child = 2 * i + 1) {
        if (child + 1 < *n && less(h[child + 1], h[child])) child++;
        if (!less(h[child], x)) break;
        h[i] = h[child];
        i = child;
    }
    h[i] = x;
    return top;
}

/* ---- spellings ---------------------------------------------------------------------------------- */
/* Its place in the map, and what is there: two spellings may share a hash, the next key is tried then. */
static uint32_t look(const spellings *s, const char *bytes, size_t n, uint64_t *key) {
    uint32_t found;
    for (*key = hash_bytes(0, bytes, n); (found = map_get(&s->by_hash, *key)) != NONE; ++*key)
        if (s->item[found].length == n && memcmp(s->text + s->item[found].at, bytes, n) == 0) break;
    return found;
}

uint32_t spellings_find(const spellings *s, const char *bytes, size_t n) {
    uint64_t key;
    return look(s, bytes, n, &key);
}

uint32_t spellings_add(spellings *s, const char *bytes, size_t n, err *e) {
    uint64_t key;
    uint32_t found = look(s, bytes, n, &key);
    if (found != NONE) return found;
    if (n >= NONE || s->count >= NONE - 1) return (void)err_set(e, "%zu spellings are too many", s->count), NONE;
    if (!GROW(s->item, s->room, s->count + 1, e) || !GROW(s->text, s->text_room, s->used + n + 1, e)) return NONE;
    if (!map_set(&s->by_hash, key, (uint32_t)s->count, e)) return NONE;
    memcpy(s->text + s->used, bytes, n);
    s->item[s->count] = (spelling){s->used, (uint32_t)n};
    s->used += n;
    if (n > s->longest) s->longest = n;
    return (uint32_t)s->count++;
}

void spellings_free(spellings *s) {
    mem_free(s->item);
    mem_free(s->text);
    map_free(&s->by_hash);
    *s = (spellings){0};
}

/* ---- files of merges ------------------------------------------------------------------------- */
bool merge_lines(const char *bytes, size_t n, const char *name, size_t most, merge_taker *take, void *arg, err *e) {
    size_t blank = 0, line = 1, taken = 0;
    for (size_t at = 0, next; at < n && taken < most; at = next, line++) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t length = end ? (size_t)(end - bytes) - at : n - at;
        next = at + length + 1;
        if (length && bytes[at + length - 1] == '\r') length--;
        if (line == 1) continue;
        if (length && blank) return err_set(e, "%s: line %zu is blank, expected a merge", name, blank);
        if (length && !take(arg, bytes + at, length, e)) return err_prefix(e, "%s: line %zu", name, line);
        if (length) taken++;
        else if (!blank) blank = line;
    }
    return line > 1 || err_set(e, "%s: is empty, expected a first line and then merges", name);
}
