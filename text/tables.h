/* tables.h - what tokenizers look things up in: growing arrays, a map from 64-bit keys, a heap, spellings by number.
 *
 *     spellings v = {0};
 *     uint32_t i = spellings_add(&v, "cat", 3, &e);     // NONE without memory
 *     if (spellings_find(&v, "cat", 3) == i) ...
 *     spellings_free(&v);
 */
#ifndef TABLES_H
#define TABLES_H
#include "sys/err.h"

#define NONE UINT32_MAX

/* Room for `need` items in a growing array. */
bool tables_grow(void *array, size_t *room, size_t need, size_t each, err *e);
#define GROW(array, room, need, e) tables_grow(&(array), &(room), (need), sizeof *(array), e)

/* ---- map: 64-bit keys to numbers, open addressing, nothing is ever taken out ------------------ */
typedef struct { uint64_t *keys; uint32_t *values; size_t room, used; } map; /* values NONE: free; room 2^k */
void map_free(map *m);
uint32_t map_get(const map *m, uint64_t key); /* NONE: not there */
bool map_set(map *m, uint64_t key, uint32_t value, err *e);
uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t n);
static inline uint64_t pair_key(uint32_t left, uint32_t right) { return (uint64_t)left << 32 | right; }

/* ---- heap: least first ------------------------------------------------------------------------- */
typedef struct { uint64_t first, second; } entry; /* ordered by first, then by second */
void heap_push(entry *h, size_t *n, entry x);     /* the caller has made room */
entry heap_pop(entry *h, size_t *n);

/* ---- spellings: byte strings numbered in the order in which they came --------------------------- */
typedef struct { size_t at; uint32_t length; } spelling;
typedef struct {
    spelling *item; /* [count] where each lies in text */
    char *text;
    size_t count, room, used, text_room, longest; /* longest: of all, in bytes */
    map by_hash;
} spellings;
/* Its number; the first one's where it stands already, so count tells whether it is new. NONE: no memory. */
uint32_t spellings_add(spellings *s, const char *bytes, size_t n, err *e);
uint32_t spellings_find(const spellings *s, const char *bytes, size_t n); /* NONE: not there */
void spellings_free(spellings *s);

/* ---- files of merges: a first line that is skipped, then a merge a line; blank ones may stand at the end alone --------- */
typedef bool merge_taker(void *arg, const char *line, size_t n, err *e);
/* The first `most` of them; none is no error. Errors name the file and the line. */
bool merge_lines(const char *bytes, size_t n, const char *name, size_t most, merge_taker *take, void *arg, err *e);
#endif
