/* byte_pairs.c - GPT-2's byte-level byte-pair encoding, MODEL.md 3.2: a text's words with the space before them, their bytes
 * merged as pairs.c does. Nothing is cleaned and nothing is lost: decoding gives back every byte. */
#include "text/kinds.h"
#include "text/words.h"
#include <string.h>

static const char END[] = "<|endoftext|>";

/* ---- words: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ --------------------------------- */
static size_t shortened(const uint32_t *p, size_t n) {
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    for (size_t i = 0; n > 1 && p[0] == '\'' && i < sizeof ends / sizeof *ends; i++) {
        size_t k = strlen(ends[i]);
        if (n > k && p[1] == (unsigned char)ends[i][0] && (k == 1 || p[2] == (unsigned char)ends[i][1])) return k + 1;
    }
    return 0;
}

static bool is_other(uint32_t c) { return !point_is_space(c) && !point_is_letter(c) && !point_is_number(c); }

/* The length of the word that p[0..n), n >= 1, begins with. */
static size_t word_length(const uint32_t *p, size_t n) {
    static bool (*const kinds[])(uint32_t) = {point_is_letter, point_is_number, is_other};
    size_t length = shortened(p, n), first = p[0] == ' ';
    if (length) return length;
    for (size_t k = 0; k < 3; k++) {
        size_t i = first;
        while (i < n && kinds[k](p[i])) i++;
        if (i > first) return i;
    }
    while (length < n && point_is_space(p[length])) length++;
    return length == n || length == 1 ? length : length - 1; /* the last space is the next word's */
}

/* A special's length at p, 0: none there. */
static size_t special_at(const byte_pairs *b, const uint32_t *p, size_t n) {
    size_t i = 0;
    if (b->end == NONE) return 0;
    while (END[i] && i < n && p[i] == (unsigned char)END[i]) i++;
    return END[i] ? 0 : i;
}

static bool add_word(const byte_pairs *b, const uint32_t *p, size_t n, unsigned char *room, id_list *out, err *e) {
    size_t used = 0;
    for (size_t i = 0; i < n; i++) used += utf8_encode(p[i], room + used);
    return pairs_word(&b->p, room, used, out, e);
}

/* Words of p[0..n), between two specials. */
static bool add_words(const byte_pairs *b, const uint32_t *p, size_t n, unsigned char *room, id_list *out, err *e) {
    bool ok = true;
    for (size_t at = 0, length; ok && at < n; at += length) {
        length = word_length(p + at, n - at);
        ok = add_word(b, p + at, length, room, out, e);
    }
    return ok;
}

static bool byte_pairs_raw(const void *own, const char *text, id_list *out, err *e) {
    const byte_pairs *b = own;
    size_t bytes = strlen(text), n = 0, from = 0, used;
    uint32_t *p = mem_alloc(bytes + 2, sizeof *p);
    unsigned char *room = mem_alloc(bytes + 2, 4);
    bool ok = (p && room) || err_set(e, "no memory for a text of %zu bytes", bytes);
    if (ok && b->space_first && bytes && *text != ' ') p[n++] = ' ';
    for (size_t i = 0; ok && i < bytes; i += used) p[n++] = utf8_decode(text + i, bytes - i, &used);
    for (size_t at = 0; ok && at <= n; at++) {
        size_t special = at < n ? special_at(b, p + at, n - at) : 0;
        if (at < n && !special) continue;
        ok = add_words(b, p + from, at - from, room, out, e) && (!special || ids_add(out, b->end, e));
        if (special) from = at + special, at = from - 1;
    }
    mem_free(p), mem_free(room);
    return ok;
}

/* ---- the kind --------------------------------------------------------------------------------------------------- */
static const char *byte_pairs_piece(const void *own, uint32_t id, size_t *n, char room[16]) {
    const spellings *s = &((const byte_pairs *)own)->p.pieces;
    (void)room;
    if (id >= s->count) return NULL;
    *n = s->item[id].length;
    return s->text + s->item[id].at;
}

void byte_pairs_free(byte_pairs *b) {
    if (!b) return;
    spellings_free(&b->p.pieces);
    map_free(&b->p.ranks);
    mem_free(b->p.made);
    mem_free(b);
}

static size_t vocab_of(const void *own) { return ((const byte_pairs *)own)->p.pieces.count; }
static void free_own(void *own) { byte_pairs_free(own); }
const tokenizer_kind byte_pairs_kind = {"GPT-2's byte pairs", byte_pairs_raw, vocab_of, free_own, byte_pairs_piece, true};
