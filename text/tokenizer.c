/* tokenizer.c - one face for all tokenizers (see tokenizer.h): which file is whose, start and end, what is cut. */
#include "text/tokenizer.h"
#include "files/files.h"
#include "text/kinds.h"
#include "text/words.h"
#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { FILE_MOST = 64 << 20 };

void tokenizer_free(tokenizer *t) {
    if (!t) return;
    t->kind->free(t->own);
    mem_free(t);
}

size_t tokenizer_vocab(const tokenizer *t) { return t->kind->vocab(t->own); }
const char *tokenizer_name(const tokenizer *t) { return t->kind->name; }

static bool raw_ids(const tokenizer *t, const char *text, id_list *l, err *e) {
    if (!t->clean) return t->kind->raw(t->own, text, l, e);
    char *cleaned = text_clean(text, t->clean, e);
    bool ok = cleaned && t->kind->raw(t->own, cleaned, l, e);
    mem_free(cleaned);
    return ok;
}

static size_t marks(const tokenizer *t) { return (size_t)(t->start != NONE) + (t->end != NONE); }

bool tokenizer_encode(const tokenizer *t, const char *text, uint32_t *ids, size_t most, size_t *count, err *e) {
    id_list l = {0};
    *count = 0;
    if (most == 0) return err_set(e, "room for 0 ids, expected 1 or more");
    bool ok = raw_ids(t, text, &l, e);
    size_t room = most - (t->end != NONE);
    if (ok) {
        if (t->start != NONE && *count < room) ids[(*count)++] = t->start;
        for (size_t i = 0; i < l.count && *count < room; i++) ids[(*count)++] = l.id[i];
        if (t->end != NONE && !t->strip_end) ids[(*count)++] = t->end; /* too long: the last place is the end's */
    }
    mem_free(l.id);
    return ok;
}

bool tokenizer_measure(const tokenizer *t, const char *text, size_t *count, err *e) {
    id_list l = {0};
    bool ok = raw_ids(t, text, &l, e);
    *count = l.count + marks(t);
    mem_free(l.id);
    return ok;
}

/* The same text, mem_free'd if need be: bytes that are no character become U+FFFD. */
static char *whole_characters(char *text, size_t n, err *e) {
    size_t used, to = 0, bad = 0;
    for (size_t i = 0; i < n; i += used) bad += utf8_decode(text + i, n - i, &used) == UTF8_REPLACEMENT;
    if (!bad) return text;
    char *out = mem_alloc(n + 1, 3);
    for (size_t i = 0; out && i < n; i += used) to += utf8_encode(utf8_decode(text + i, n - i, &used), (unsigned char *)out + to);
    if (out) out[to] = 0;
    else err_set(e, "no memory for a text of %zu bytes", n);
    mem_free(text);
    return out;
}

char *tokenizer_decode(const tokenizer *t, const uint32_t *ids, size_t count, err *e) {
    char *out = NULL, room[16];
    size_t used = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n = 0;
        const char *piece = t->kind->piece && ids[i] != t->start && ids[i] != t->end ? t->kind->piece(t->own, ids[i], &n, room) : NULL;
        if (!tables_grow(&out, &bytes, used + n + 1, 1, e)) return mem_free(out), NULL;
        if (piece) memcpy(out + used, piece, n), used += n;
    }
    if (!out && !tables_grow(&out, &bytes, 1, 1, e)) return NULL;
    while (!t->kind->exact && used && out[used - 1] == ' ') used--;
    out[used] = 0;
    return whole_characters(out, used, e);
}

/* ---- cleaning ------------------------------------------------------------------------------------------- */
static bool is_punctuation(uint32_t c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

char *text_clean(const char *text, unsigned how, err *e) {
    size_t bytes = strlen(text), n = 0, used, to = 0;
    uint32_t *p = mem_alloc(bytes + 1, 2 * sizeof *p);
    char *out = mem_alloc(bytes + 1, 8);
    bool blank = false;
    if (!p || !out) {
        mem_free(p), mem_free(out);
        err_set(e, "no memory for a text of %zu bytes", bytes);
        return NULL;
    }
    for (size_t i = 0; i < bytes; i += used) p[n++] = utf8_decode(text + i, bytes - i, &used);
    if (how & CLEAN_UNESCAPE) n = points_unescape(p, points_unescape(p, n));
    if (how & CLEAN_LOWER) n = points_lower(p, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t c = p[i];
        if (((how & CLEAN_UNDERSCORE) && c == '_') || ((how & CLEAN_BLOCK) && c == 0x2581)) c = ' ';
        if ((how & CLEAN_PUNCTUATION) && is_punctuation(c)) continue;
        if ((how & CLEAN_SPACES) && point_is_white(c)) {
            blank = true;
            continue;
        }
        if (blank && to) out[to++] = ' ';
        blank = false;
        to += utf8_encode(c, (unsigned char *)out + to);
    }
    out[to] = 0;
    mem_free(p);
    return out;
}

/* ---- files ------------------------------------------------------------------------------------------------ */
bool tokenizer_gunzip(const char *bytes, size_t length, const char *name, char **out, size_t *n, err *e) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)bytes, .avail_in = (uInt)length};
    size_t room = 0;
    int status = length <= FILE_MOST && inflateInit2(&z, 15 + 16) == Z_OK ? Z_OK : Z_MEM_ERROR;
    bool ok = status == Z_OK;
    *out = NULL, *n = 0;
    while (ok && status == Z_OK) {
        if (*n >= FILE_MOST || !tables_grow(out, &room, *n + (1 << 16), 1, e)) break;
        z.next_out = (Bytef *)*out + *n;
        z.avail_out = (uInt)(room - *n);
        status = inflate(&z, Z_NO_FLUSH);
        *n = room - z.avail_out;
        if (status == Z_BUF_ERROR) break;
    }
    if (ok) inflateEnd(&z);
    if (status == Z_STREAM_END) return true;
    mem_free(*out);
    *out = NULL;
    return err_set(e, "%s: a gzip file of at most %d MB expected, damaged or larger data found", name, FILE_MOST >> 20);
}

static bool begins(const char *bytes, size_t length, const char *with) {
    return length >= strlen(with) && !memcmp(bytes, with, strlen(with));
}

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

/* vocab.txt begins with "[PAD]"; a .model mostly with its first piece, a field of protobuf: 0x0A. */
tokenizer *tokenizer_parse_as(const char *bytes, size_t length, const char *name, size_t most_merges, unsigned clean,
                              err *e) {
    size_t at = 0, n;
    char *plain;
    if (begins(bytes, length, "\x1f\x8b")) {
        if (!tokenizer_gunzip(bytes, length, name, &plain, &n, e)) return NULL;
        tokenizer *t = begins(plain, n, "\x1f\x8b")
                           ? ((void)err_set(e, "%s: packed twice by gzip, once expected", name), (tokenizer *)NULL)
                           : tokenizer_parse_as(plain, n, name, most_merges, clean, e);
        mem_free(plain);
        return t;
    }
    if (begins(bytes, length, "[PAD]\n") || begins(bytes, length, "[PAD]\r\n")) {
        wordpiece *w = wordpiece_parse(bytes, length, name, e);
        if (!w) return NULL;
        uint32_t start = spellings_find(&w->pieces, "[CLS]", 5), end = spellings_find(&w->pieces, "[SEP]", 5);
        return tokenizer_make(&wordpiece_kind, w, clean, start, end, name, e);
    }
    bool protobuf = length > 2 && bytes[0] == '\n' && (unsigned char)bytes[1] < 0x80 && bytes[2] == '\n';
    if (protobuf || ends(name, ".model"))
        return sentencepiece_parse(bytes, length, name, clean, e);
    while (at < length && (bytes[at] == ' ' || (bytes[at] >= '\t' && bytes[at] <= '\r'))) at++;
    if (at < length && bytes[at] == '{') return tokenizer_json_parse(bytes, length, name, most_merges, clean, e);
    if (byte_pairs_is(bytes, length)) return byte_pairs_parse(bytes, length, name, NULL, 0, NULL, e);
    clip_bpe *own = clip_bpe_parse(bytes, length, name, most_merges, e);
    uint32_t vocab = own ? (uint32_t)clip_bpe_vocab(own) : 0;
    return tokenizer_make(&clip_bpe_kind, own, 0, vocab - 2, vocab - 1, name, e);
}

tokenizer *tokenizer_parse(const char *bytes, size_t length, const char *name, size_t most_merges, err *e) {
    return tokenizer_parse_as(bytes, length, name, most_merges, 0, e);
}

/* A tokenizer.json may be of any size: what is long in it is read where it lies. */
tokenizer *tokenizer_open_as(const char *path, size_t most_merges, unsigned clean, err *e) {
    file_map m;
    if (!file_map_open(path, &m, e)) return NULL;
    const char *bytes = (const char *)m.data;
    size_t at = 0;
    tokenizer *t = NULL;
    while (at < m.length && at < 64 && strchr(" \t\r\n", bytes[at])) at++;
    if (m.length > FILE_MOST && bytes[at] != '{')
        err_set(e, "%s: %zu bytes found, at most %d expected, unless it is a tokenizer.json", path, m.length, FILE_MOST);
    else
        t = tokenizer_parse_as(bytes, m.length, path, most_merges, clean, e);
    file_map_close(&m);
    return t;
}

tokenizer *tokenizer_open_gpt2(const char *folder, err *e) {
    char path[3][4096];
    static const char *const names[3] = {"merges.txt", "vocab.json", "tokenizer.json"};
    size_t n = 0, vocab_n = 0;
    for (size_t i = 0; i < 3; i++)
        if ((size_t)snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]) >= sizeof path[i])
            return (void)err_set(e, "%.200s...: the path is too long", folder), NULL;
    if (!file_exists(path[0]) && file_exists(path[2])) {
        tokenizer *t = tokenizer_open(path[2], 0, e);
        if (!t || t->kind == &byte_pairs_kind) return t;
        err_set(e, "%s: holds %s, expected GPT-2's byte pairs", path[2], t->kind->name);
        return tokenizer_free(t), NULL;
    }
    if (!file_exists(path[0]))
        return (void)err_set(e, "%s: no tokenizer: expected GPT-2's merges.txt (and vocab.json), or tokenizer.json%s", folder,
                             file_exists(path[1]) ? "; found vocab.json alone" : ""), NULL;
    char *merges = file_read(path[0], FILE_MOST, &n, e), *vocab = NULL;
    bool ok = merges && (!file_exists(path[1]) || (vocab = file_read(path[1], FILE_MOST, &vocab_n, e)));
    tokenizer *t = ok ? byte_pairs_parse(merges, n, path[0], vocab, vocab_n, path[1], e) : NULL;
    mem_free(merges), mem_free(vocab);
    return t;
}

tokenizer *tokenizer_open(const char *path, size_t most_merges, err *e) {
    return tokenizer_open_as(path, most_merges, 0, e);
}
