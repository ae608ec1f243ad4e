/* unigram.c - sentencepiece's unigram model, MODEL.md 3.1: a text's pieces are those whose scores sum to the most. */
#include "files/utf8.h"
#include "text/kinds.h"
#include <string.h>

/* ---- charsmap: sentencepiece's compiled normaliser ------------------------------------------------ */
/* A cell: bits 0-7 a byte and bit 31 (its label), bit 8 an entry ends here, bits 10-30 the offset to the next cells,
 * times 256 where bit 9 is set. */
static size_t offset_of(uint32_t u) { return (size_t)(u >> 10) << ((u & 512) >> 6); }

static uint32_t u32_at(const unsigned char *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

bool charsmap_make(charsmap *m, const unsigned char *bytes, size_t n, const char *name, err *e) {
    *m = (charsmap){0};
    if (n < 4) return err_set(e, "%s: the normaliser has %zu bytes, expected 4 or more", name, n);
    size_t trie = u32_at(bytes);
    if (trie % 4 || trie < 4 || trie > n - 4)
        return err_set(e, "%s: the normaliser's trie has %zu bytes, expected a multiple of 4 up to %zu", name, trie, n - 4);
    m->cells = trie / 4;
    m->length = n - 4 - trie;
    m->trie = mem_alloc(m->cells, sizeof *m->trie);
    m->text = mem_alloc(m->length + 1, 1); /* its last byte is 0, whatever the file says */
    if (!m->trie || !m->text) {
        charsmap_free(m);
        return err_set(e, "%s: no memory for a normaliser of %zu bytes", name, n);
    }
    for (size_t i = 0; i < m->cells; i++) m->trie[i] = u32_at(bytes + 4 + 4 * i);
    memcpy(m->text, bytes + 4 + trie, m->length);
    return true;
}

void charsmap_free(charsmap *m) {
    mem_free(m->trie);
    mem_free(m->text);
    *m = (charsmap){0};
}

size_t charsmap_step(const charsmap *m, const char *text, size_t n, const char **replacement) {
    size_t best = 0, at = m->cells ? offset_of(m->trie[0]) : 0;
    for (size_t i = 0; m->cells && i < n; i++) {
        at ^= (unsigned char)text[i];
        if (at >= m->cells || (m->trie[at] & 0x800000FFu) != (unsigned char)text[i]) break;
        uint32_t cell = m->trie[at];
        at ^= offset_of(cell);
        if (!(cell & 256)) continue;
        uint32_t where = at < m->cells ? m->trie[at] & 0x7FFFFFFFu : NONE;
        if (where >= m->length) break; /* a damaged entry says nothing */
        best = i + 1;
        *replacement = m->text + where;
    }
    return best;
}

/* ---- normalising ----------------------------------------------------------------------------------- */
static const char BLOCK[] = "\xE2\x96\x81"; /* U+2581 for a space */
enum { BLOCK_BYTES = 3 };

typedef struct { char *bytes; size_t count, room; } buffer;
static bool put(buffer *b, const char *bytes, size_t n, err *e) {
    if (!tables_grow(&b->bytes, &b->room, b->count + n + 1, 1, e)) return false;
    memcpy(b->bytes + b->count, bytes, n);
    b->count += n;
    return true;
}

/* The map over the text; a character without an entry stays. */
static bool mapped(const charsmap *m, const char *text, buffer *out, err *e) {
    for (size_t at = 0, n = strlen(text), used; at < n; at += used) {
        const char *to = text + at;
        size_t length = 0;
        used = charsmap_step(m, text + at, n - at, &to);
        if (used) length = strlen(to);
        else {
            (void)utf8_decode(text + at, n - at, &used);
            length = used;
        }
        if (!put(out, to, length, e)) return false;
    }
    return put(out, "", 0, e);
}

/* Blanks as sentencepiece has them: collapsed and off the ends where it says so, one in front, all of them U+2581. */
static bool blocks(const unigram *u, const buffer *in, buffer *out, err *e) {
    size_t from = 0, to = in->count;
    while (u->collapse && to && in->bytes[to - 1] == ' ') to--;
    while (u->trim_left && from < to && in->bytes[from] == ' ') from++;
    if (from == to) return true;
    bool begun = in->bytes[from] == ' ' || (to - from >= BLOCK_BYTES && !memcmp(in->bytes + from, BLOCK, BLOCK_BYTES));
    if (u->prefix && (u->trim_left || !begun) && !put(out, BLOCK, BLOCK_BYTES, e)) return false;
    for (size_t i = from; i < to; i++) {
        bool blank = in->bytes[i] == ' ';
        if (blank && u->collapse && i > from && in->bytes[i - 1] == ' ') continue;
        if (!put(out, blank ? BLOCK : in->bytes + i, blank ? BLOCK_BYTES : 1, e)) return false;
    }
    return true;
}

/* ---- the best path ----------------------------------------------------------------------------------- */
typedef struct { double score; size_t from; uint32_t id; } step; /* the best way to come here */

/* Viterbi over places between characters. What no piece covers costs the least score less 10. */
static void walk(const unigram *u, const char *text, size_t n, step *best) {
    for (size_t i = 0; i <= n; i++) best[i] = (step){i ? -1e300 : 0, 0, NONE};
    for (size_t i = 0, used; i < n; i += used) {
        (void)utf8_decode(text + i, n - i, &used);
        size_t most = n - i < u->pieces.longest ? n - i : u->pieces.longest, length = 0, character;
        while (length < most) {
            (void)utf8_decode(text + i + length, n - i - length, &character);
            length += character;
            uint32_t id = spellings_find(&u->pieces, text + i, length);
            if (id == NONE || !u->use[id] || !(best[i].score + u->score[id] > best[i + length].score)) continue;
            best[i + length] = (step){best[i].score + u->score[id], i, id};
        }
        if (best[i].score + u->least - 10 > best[i + used].score)
            best[i + used] = (step){best[i].score + u->least - 10, i, u->unknown};
    }
}

static bool unigram_raw(const void *own, const char *text, id_list *out, err *e) {
    const unigram *u = own;
    buffer plain = {0}, b = {0};
    step *best = NULL;
    bool ok = mapped(&u->map, text, &plain, e) && blocks(u, &plain, &b, e);
    if (ok && b.count) {
        best = mem_alloc(b.count + 1, sizeof *best);
        ok = best != NULL || err_set(e, "no memory for a text of %zu bytes", b.count);
    }
    if (best) {
        size_t first = out->count;
        walk(u, b.bytes, b.count, best);
        for (size_t at = b.count; ok && at; at = best[at].from)
            if (best[at].id != u->unknown || out->count == first || out->id[out->count - 1] != u->unknown)
                ok = ids_add(out, best[at].id, e); /* unknown neighbours are one */
        for (size_t i = first, k = out->count; ok && i + 1 < k; i++) { /* the way was walked backwards */
            uint32_t last = out->id[--k];
            out->id[k] = out->id[i];
            out->id[i] = last;
        }
    }
    mem_free(best);
    mem_free(plain.bytes);
    mem_free(b.bytes);
    return ok;
}

bool unigram_add(unigram *u, const char *piece, size_t n, double score, bool use, err *e) {
    size_t count = u->pieces.count;
    uint32_t id = spellings_add(&u->pieces, piece, n, e);
    if (id == NONE || !GROW(u->score, u->score_room, u->pieces.count, e) || !GROW(u->use, u->use_room, u->pieces.count, e))
        return false;
    if (id != count) return err_set(e, "piece %zu is piece %u again", count, (unsigned)id);
    u->score[id] = score;
    u->use[id] = use;
    if (use && score < u->least) u->least = score;
    return true;
}

void unigram_free(unigram *u) {
    if (!u) return;
    spellings_free(&u->pieces);
    mem_free(u->score);
    mem_free(u->use);
    charsmap_free(&u->map);
    mem_free(u);
}

static size_t vocab_of(const void *own) { return ((const unigram *)own)->pieces.count; }
static void free_own(void *own) { unigram_free(own); }
const tokenizer_kind unigram_kind = {"sentencepiece unigram", unigram_raw, vocab_of, free_own, NULL, false};
