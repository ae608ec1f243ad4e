/* wordpiece.c - BERT's pieces (CLIPA), MODEL.md 3.3: words in lower case without accents, each cut into the longest pieces
 * of the vocabulary, what goes on after the first written "##". */
#include "files/utf8.h"
#include "text/kinds.h"
#include "text/words.h"
#include <string.h>
#include <utf8proc.h>

enum { WORD_MOST = 100 }; /* longer words are unknown */

static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

static bool is_control(uint32_t c) { /* categories C*, but for the white ones of ASCII */
    utf8proc_category_t k = category(c);
    return c != '\t' && c != '\n' && c != '\r' && (k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
                                                   k == UTF8PROC_CATEGORY_CN || k == UTF8PROC_CATEGORY_CS || k == UTF8PROC_CATEGORY_CO);
}

static bool is_chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2CEAF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_punctuation(uint32_t c) {
    utf8proc_category_t k = category(c);
    if ((c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~')) return true;
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* ---- words: cleaned, in lower case, decomposed, marks taken off ------------------------------------- */
typedef struct { uint32_t *point; size_t count, room; } points; /* words with a blank between them */
static bool push(points *p, uint32_t c, err *e) {
    if (!GROW(p->point, p->room, p->count + 1, e)) return false;
    p->point[p->count++] = c;
    return true;
}

static bool push_alone(points *p, uint32_t c, err *e) { return push(p, ' ', e) && push(p, c, e) && push(p, ' ', e); }

static bool push_plain(points *p, uint32_t c, err *e) {
    utf8proc_int32_t parts[8];
    int last = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 8, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    if (n < 1 || n > 8) parts[0] = (utf8proc_int32_t)c, n = 1;
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint32_t part = (uint32_t)parts[i];
        if (category(part) == UTF8PROC_CATEGORY_MN) continue;
        if (!(is_punctuation(part) ? push_alone(p, part, e) : push(p, part, e))) return false;
    }
    return true;
}

static bool words_of(const char *text, points *out, err *e) {
    size_t bytes = strlen(text), n = 0, used;
    uint32_t *p = mem_alloc(bytes + 1, 2 * sizeof *p);
    bool ok = p != NULL || err_set(e, "no memory for a text of %zu bytes", bytes);
    for (size_t i = 0; ok && i < bytes; i += used) p[n++] = utf8_decode(text + i, bytes - i, &used);
    if (ok) n = points_lower(p, n);
    for (size_t i = 0; ok && i < n; i++) {
        if (is_control(p[i])) continue;
        if (point_is_white(p[i])) ok = push(out, ' ', e);
        else ok = is_chinese(p[i]) ? push_alone(out, p[i], e) : push_plain(out, p[i], e);
    }
    mem_free(p);
    return ok;
}

/* ---- pieces ------------------------------------------------------------------------------------------------ */
/* The longest piece at word[from..n); characters used, 0: none. */
static size_t longest(const wordpiece *w, const uint32_t *word, size_t from, size_t n, uint32_t *id) {
    char bytes[2 + 4 * WORD_MOST];
    size_t ends[WORD_MOST + 1], used = 0;
    if (from) bytes[used++] = '#', bytes[used++] = '#';
    for (size_t i = from; i < n; i++) {
        used += utf8_encode(word[i], (unsigned char *)bytes + used);
        ends[i - from] = used;
    }
    for (size_t k = n - from; k > 0; k--)
        if ((*id = spellings_find(&w->pieces, bytes, ends[k - 1])) != NONE) return k;
    return 0;
}

static bool word_pieces(const wordpiece *w, const uint32_t *word, size_t n, id_list *out, err *e) {
    size_t before = out->count;
    for (size_t at = 0, k; at < n; at += k) {
        uint32_t id = NONE;
        k = n <= WORD_MOST ? longest(w, word, at, n, &id) : 0;
        if (k == 0) { /* one part unknown: the whole word is */
            out->count = before;
            return ids_add(out, w->unknown, e);
        }
        if (!ids_add(out, id, e)) return false;
    }
    return true;
}

static bool wordpiece_raw(const void *own, const char *text, id_list *out, err *e) {
    points p = {0};
    bool ok = words_of(text, &p, e);
    for (size_t i = 0, n; ok && i < p.count; i += n) {
        for (n = 0; i + n < p.count && p.point[i + n] != ' ';) n++;
        ok = n == 0 || word_pieces(own, p.point + i, n, out, e);
        if (n == 0) n = 1;
    }
    mem_free(p.point);
    return ok;
}

/* ---- vocab.txt ------------------------------------------------------------------------------------------------ */
wordpiece *wordpiece_parse(const char *bytes, size_t n, const char *name, err *e) {
    wordpiece *w = mem_alloc(1, sizeof *w);
    bool ok = w != NULL || err_set(e, "%s: no memory for a vocabulary", name);
    for (size_t at = 0, line = 1; ok && at < n; line++) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t whole = end ? (size_t)(end - bytes) - at : n - at, length = whole;
        if (length && bytes[at + length - 1] == '\r') length--;
        ok = spellings_add(&w->pieces, bytes + at, length, e) != NONE;
        if (ok && w->pieces.count != line)
            ok = err_set(e, "%s: line %zu: \"%.*s\" stands there already", name, line, (int)(length < 40 ? length : 40), bytes + at);
        at += whole + 1;
    }
    if (ok && (w->unknown = spellings_find(&w->pieces, "[UNK]", 5)) == NONE)
        ok = err_set(e, "%s: no [UNK] found, expected among its %zu pieces", name, w->pieces.count);
    if (ok) return w;
    wordpiece_free(w);
    return NULL;
}

void wordpiece_free(wordpiece *w) {
    if (!w) return;
    spellings_free(&w->pieces);
    mem_free(w);
}

static size_t vocab_of(const void *own) { return ((const wordpiece *)own)->pieces.count; }
static void free_own(void *own) { wordpiece_free(own); }
const tokenizer_kind wordpiece_kind = {"WordPiece", wordpiece_raw, vocab_of, free_own, NULL, false};
