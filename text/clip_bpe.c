/* clip_bpe.c - CLIP's byte-pair encoding, MODEL.md 3: words -> byte symbols -> merges by rank -> ids; and its trainer.
 *
 * Symbols are the vocabulary in order: 256 bytes, the same 256 ending a word ("a</w>"), then what each merge makes.
 */
#include "text/kinds.h"
#include <string.h>
#include "files/files.h"
#include "files/json.h"
#include "text/words.h"

enum { BYTES = 256, BASE = 2 * BYTES, CLIP_MERGES = 48894 };
static const char START[] = "<|startoftext|>", END[] = "<|endoftext|>", ENDING[] = "</w>";

/* ---- the vocabulary -------------------------------------------------------------------------- */
typedef struct { size_t at, length; bool last; } symbol; /* its bytes in text; last: it ends a word */

struct clip_bpe {
    map ranks;      /* pair of symbols -> rank of their merge */
    uint32_t *made; /* [merges] the symbol each merge makes */
    uint32_t *ids;  /* [count] the id of each symbol */
    size_t merges, made_room, ids_room;
    symbol *symbols; /* [count] their spelling: to read and learn merges, and to decode; to decode */
    size_t count, symbols_room;
    char *text;
    size_t text_used, text_room;
    map spelled; /* spelling -> symbol */
    bool checked; /* a vocabulary said the same end */
};

uint32_t byte_symbol(uint32_t b) {
    if (b >= 33 && b <= 126) return b - 33;
    if (b >= 161 && b <= 172) return b - 161 + 94;
    if (b >= 174) return b - 174 + 106;
    return 188 + (b <= 32 ? b : b <= 160 ? b - 127 + 33 : 67);
}

int character_byte(uint32_t c) {
    if (c < 0x100) return byte_symbol(c) < 188 ? (int)c : -1;
    c -= 0x100;
    return c <= 32 ? (int)c : c <= 66 ? (int)c + 127 - 33 : c == 67 ? 173 : -1;
}

uint32_t byte_character(uint32_t b) {
    uint32_t number = byte_symbol(b);
    return number < 188 ? b : 0x100 + number - 188;
}

static uint64_t spelling_key(const char *bytes, size_t n, bool last) { return hash_bytes(last, bytes, n); }

/* The symbol spelled so, NONE if there is none; *key is its place in the map (two spellings may share a hash). */
static uint32_t symbol_find(const clip_bpe *t, const char *bytes, size_t n, bool last, uint64_t *key) {
    uint32_t found;
    for (*key = spelling_key(bytes, n, last); (found = map_get(&t->spelled, *key)) != NONE; ++*key) {
        const symbol *s = &t->symbols[found];
        if (s->length == n && s->last == last && memcmp(t->text + s->at, bytes, n) == 0) break;
    }
    return found;
}

/* The symbol spelled by the n bytes that were written behind the text, a new one if need be. */
static uint32_t symbol_of_tail(clip_bpe *t, size_t n, bool last, err *e) {
    uint64_t key;
    uint32_t found = symbol_find(t, t->text + t->text_used, n, last, &key);
    if (found != NONE) return found;
    if (!GROW(t->symbols, t->symbols_room, t->count + 1, e) || !GROW(t->ids, t->ids_room, t->count + 1, e)) return NONE;
    found = (uint32_t)t->count;
    if (!map_set(&t->spelled, key, found, e)) return NONE;
    t->symbols[found] = (symbol){t->text_used, n, last};
    t->ids[found] = found;
    t->text_used += n;
    if (last) t->text[t->text_used++] = ' '; /* for decoding: a word's end */
    t->count++;
    return found;
}

/* The next merge: left and right become one symbol. Its id is 512 + rank; where two merges spell the same, the later
 * one's id holds, as in CLIP's dictionary. */
static bool merge_add(clip_bpe *t, uint32_t left, uint32_t right, err *e) {
    symbol a = t->symbols[left], b = t->symbols[right];
    if (!GROW(t->text, t->text_room, t->text_used + a.length + b.length + 1, e)) return false;
    memcpy(t->text + t->text_used, t->text + a.at, a.length);
    memcpy(t->text + t->text_used + a.length, t->text + b.at, b.length);
    if (!GROW(t->made, t->made_room, t->merges + 1, e)) return false;
    uint32_t both = symbol_of_tail(t, a.length + b.length, b.last, e);
    if (both == NONE || !map_set(&t->ranks, pair_key(left, right), (uint32_t)t->merges, e)) return false;
    t->ids[both] = (uint32_t)(BASE + t->merges);
    t->made[t->merges++] = both;
    return true;
}

static clip_bpe *clip_bpe_new(err *e) {
    clip_bpe *t = mem_alloc(1, sizeof *t);
    bool good = t || err_set(e, "no memory for a tokenizer");
    unsigned char byte[BYTES];
    for (uint32_t b = 0; b < BYTES; b++) byte[byte_symbol(b)] = (unsigned char)b;
    for (size_t i = 0; good && i < BASE; i++) {
        good = GROW(t->text, t->text_room, t->text_used + 2, e);
        if (good) t->text[t->text_used] = (char)byte[i % BYTES];
        good = good && symbol_of_tail(t, 1, i >= BYTES, e) != NONE;
    }
    if (good) return t;
    clip_bpe_free(t);
    return NULL;
}

static void spelling_free(clip_bpe *t) {
    mem_free(t->symbols);
    mem_free(t->text);
    map_free(&t->spelled);
    t->symbols = NULL;
    t->text = NULL;
}

void clip_bpe_free(clip_bpe *t) {
    if (!t) return;
    spelling_free(t);
    map_free(&t->ranks);
    mem_free(t->made);
    mem_free(t->ids);
    mem_free(t);
}

size_t clip_bpe_vocab(const clip_bpe *t) { return BASE + t->merges + 2; }

/* ---- merging the symbols of one word --------------------------------------------------------- */
typedef struct { uint32_t symbol, left, right; } link; /* neighbours; NONE at the ends, symbol NONE when merged away */

/* A word being merged, and room for it. Pairs wait in a heap by rank, then place: n log n for a word of n bytes. */
typedef struct {
    link *links;
    entry *heap;     /* [2 n]: one pair for each symbol but the first, one more for each merge */
    uint32_t *batch; /* [n] places of the pairs being merged */
    size_t links_room, heap_room, batch_room, waiting;
} chain;

static void chain_free(chain *c) {
    mem_free(c->links);
    mem_free(c->heap);
    mem_free(c->batch);
    *c = (chain){0};
}

static bool chain_room(chain *c, size_t n, err *e) {
    if (n >= UINT32_MAX / 2) return err_set(e, "a word of %zu bytes is too long", n);
    return GROW(c->links, c->links_room, n, e) && GROW(c->heap, c->heap_room, 2 * n, e) &&
           GROW(c->batch, c->batch_room, n, e);
}

/* The word's bytes as symbols, the last one ending it; *n of them. */
static bool chain_word(chain *c, const uint32_t *word, size_t length, size_t *n, err *e) {
    if (length > UINT32_MAX / 8) return err_set(e, "a word of %zu characters is too long", length);
    if (!chain_room(c, 4 * length, e)) return false;
    *n = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char bytes[4];
        size_t used = utf8_encode(word[i], bytes);
        for (size_t k = 0; k < used; k++) c->links[(*n)++].symbol = byte_symbol(bytes[k]);
    }
    c->links[*n - 1].symbol += BYTES;
    return true;
}

/* The rank of the pair that starts at `at`, NONE if it never merges. */
static uint32_t rank_at(const clip_bpe *t, const chain *c, uint32_t at) {
    const link *l = &c->links[at];
    if (l->symbol == NONE || l->right == NONE) return NONE;
    return map_get(&t->ranks, pair_key(l->symbol, c->links[l->right].symbol));
}

static void pair_wait(const clip_bpe *t, chain *c, uint32_t at) {
    uint32_t rank = at == NONE ? NONE : rank_at(t, c, at);
    if (rank != NONE) heap_push(c->heap, &c->waiting, (entry){rank, at});
}

/* Merges n symbols as far as they go. CLIP's order: of all pairs the one of least rank, everywhere from left to right
 * before any other, even one of lesser rank that it brings about; so all places of a rank are taken out at once. A pair
 * in the heap may have changed since: then its place has another rank. */
static void chain_merge(const clip_bpe *t, chain *c, size_t n) {
    c->waiting = 0;
    for (uint32_t i = 0; i < n; i++) {
        c->links[i].left = i ? i - 1 : NONE;
        c->links[i].right = i + 1 < n ? i + 1 : NONE;
    }
    for (uint32_t i = 0; i + 1 < n; i++) pair_wait(t, c, i);
    while (c->waiting) {
        uint32_t rank = (uint32_t)c->heap[0].first, places = 0;
        while (c->waiting && c->heap[0].first == rank)
            c->batch[places++] = (uint32_t)heap_pop(c->heap, &c->waiting).second;
        for (uint32_t i = 0; i < places; i++) {
            uint32_t at = c->batch[i];
            if (rank_at(t, c, at) != rank) continue;
            link *left = &c->links[at], *right = &c->links[left->right];
            left->symbol = t->made[rank];
            left->right = right->right;
            right->symbol = NONE;
            if (left->right != NONE) c->links[left->right].left = at;
            pair_wait(t, c, left->left);
            pair_wait(t, c, at);
        }
    }
}

/* ---- text to ids ----------------------------------------------------------------------------- */
static bool word_is(const uint32_t *word, size_t length, const char *ascii) {
    if (length != strlen(ascii)) return false;
    for (size_t i = 0; i < length; i++)
        if (word[i] != (uint32_t)ascii[i]) return false;
    return true;
}

static bool word_encode(const clip_bpe *t, chain *c, const uint32_t *word, size_t length, id_list *out, err *e) {
    size_t n, end = clip_bpe_vocab(t) - 1;
    if (word_is(word, length, START)) return ids_add(out, (uint32_t)(end - 1), e);
    if (word_is(word, length, END)) return ids_add(out, (uint32_t)end, e);
    if (!chain_word(c, word, length, &n, e)) return false;
    chain_merge(t, c, n);
    for (uint32_t i = 0; i != NONE; i = c->links[i].right)
        if (!ids_add(out, t->ids[c->links[i].symbol], e)) return false;
    return true;
}

static bool clip_bpe_raw(const void *own, const char *text, id_list *out, err *e) {
    words w;
    chain c = {0};
    const uint32_t *word;
    size_t length;
    bool good = words_open(&w, text, e);
    if (!good) return false;
    while (good && words_next(&w, &word, &length)) good = word_encode(own, &c, word, length, out, e);
    chain_free(&c);
    words_close(&w);
    return good;
}

/* A symbol's bytes; what ends a word is followed by a space. Of symbols that share an id the last one's spelling. */
static const char *clip_bpe_piece(const void *own, uint32_t id, size_t *n, char room[16]) {
    const clip_bpe *t = own;
    uint32_t s = id < BASE ? id : id - BASE < t->merges ? t->made[id - BASE] : NONE;
    (void)room;
    if (s == NONE) return NULL;
    *n = t->symbols[s].length + t->symbols[s].last;
    return t->text + t->symbols[s].at;
}

static size_t vocab_of(const void *own) { return clip_bpe_vocab(own); }
static void free_own(void *own) { clip_bpe_free(own); }
const tokenizer_kind clip_bpe_kind = {"CLIP's byte pairs", clip_bpe_raw, vocab_of, free_own, clip_bpe_piece, false};

/* ---- reading merges -------------------------------------------------------------------------- */
typedef struct { char text[44]; } snippet;

/* The beginning of what was found, fit for a message. */
static snippet shown(const char *bytes, size_t n) {
    snippet s;
    size_t i = 0;
    for (; i < n && i < 40; i++) s.text[i] = (unsigned char)bytes[i] < 32 || bytes[i] == 127 ? '?' : bytes[i];
    memcpy(s.text + i, i < n ? "..." : "", i < n ? 4 : 1);
    return s;
}

/* The symbol written as s, which must be known. */
static bool symbol_read(clip_bpe *t, const char *s, size_t n, uint32_t *out, err *e) {
    size_t suffix = sizeof ENDING - 1, bytes = 0, used;
    bool last = n > suffix && memcmp(s + n - suffix, ENDING, suffix) == 0;
    uint64_t key;
    if (!GROW(t->text, t->text_room, t->text_used + n + 1, e)) return false;
    for (size_t i = 0; i < n - (last ? suffix : 0); i += used) {
        int byte = character_byte(utf8_decode(s + i, n - i, &used));
        if (byte < 0)
            return err_set(e, "\"%s\" has a character that stands for no byte at its byte %zu", shown(s, n).text,
                           i + 1);
        t->text[t->text_used + bytes++] = (char)byte;
    }
    *out = symbol_find(t, t->text + t->text_used, bytes, last, &key);
    if (*out != NONE) return true;
    return err_set(e, "\"%s\" is unknown, expected a byte's symbol or one that was merged before", shown(s, n).text);
}

static bool pair_read(clip_bpe *t, const char *a, size_t na, const char *b, size_t nb, err *e) {
    uint32_t left, right, before;
    if (!symbol_read(t, a, na, &left, e) || !symbol_read(t, b, nb, &right, e)) return false;
    if (t->symbols[left].last)
        return err_set(e, "\"%s\" ends a word, nothing can be merged to its right", shown(a, na).text);
    before = map_get(&t->ranks, pair_key(left, right));
    if (before != NONE)
        return err_set(e, "\"%s %s\" is merge %u again", shown(a, na).text, shown(b, nb).text, (unsigned)before + 1);
    return merge_add(t, left, right, e);
}

/* "left right" */
static bool merge_read(void *arg, const char *s, size_t n, err *e) {
    clip_bpe *t = arg;
    const char *space = memchr(s, ' ', n);
    size_t left = space ? (size_t)(space - s) : 0, right = space ? n - left - 1 : 0;
    if (!left || !right || memchr(space + 1, ' ', right))
        return err_set(e, "found \"%s\", expected two symbols with a space between them", shown(s, n).text);
    return pair_read(t, s, left, space + 1, right, e);
}

/* ---- Hugging Face's tokenizer.json ----------------------------------------------------------- */
static bool json_merge(clip_bpe *t, const cJSON *m, err *e) {
    const cJSON *a = m->child, *b = a ? a->next : NULL;
    char found[64];
    if (cJSON_IsString(m)) return merge_read(t, m->valuestring, strlen(m->valuestring), e);
    if (cJSON_IsArray(m) && cJSON_IsString(a) && cJSON_IsString(b) && !b->next)
        return pair_read(t, a->valuestring, strlen(a->valuestring), b->valuestring, strlen(b->valuestring), e);
    json_describe(m, found, sizeof found);
    return err_set(e, "found %s, expected \"left right\" or [\"left\", \"right\"]", found);
}

/* A piece of the vocabulary: its id must be the one that the merges give, else it is another model's scheme. Pieces that no
 * merge makes, behind the end, are tokens that were added; no text becomes them. */
static bool id_check(clip_bpe *t, const cJSON *v, err *e) {
    char found[64];
    size_t n = strlen(v->string), id = 0, vocab = clip_bpe_vocab(t), expected;
    uint32_t s;
    bool whole = json_whole(v, &id);
    if (strcmp(v->string, START) == 0) expected = vocab - 2;
    else if (strcmp(v->string, END) == 0) expected = vocab - 1;
    else if (symbol_read(t, v->string, n, &s, e)) expected = t->ids[s];
    else return whole && id >= vocab;
    if (whole && id == expected) return true;
    json_describe(v, found, sizeof found);
    return err_set(e, "\"%s\" is %s, expected %zu: this is not CLIP's scheme", shown(v->string, n).text, found, expected);
}

bool clip_bpe_check(clip_bpe *t, const cJSON *vocab, err *e) {
    if (!cJSON_IsObject(vocab)) return err_set(e, "an object of ids expected");
    for (const cJSON *v = vocab->child; v; v = v->next)
        if (!id_check(t, v, e)) return false;
    t->checked = cJSON_GetObjectItemCaseSensitive(vocab, END) != NULL;
    return true;
}

bool clip_bpe_checked(const clip_bpe *t) { return t->checked; }

static bool json_read(clip_bpe *t, const char *bytes, size_t n, const char *name, size_t most, err *e) {
    cJSON *root = json_parse(bytes, n, name, e);
    json_scope s = {.object = root, .file = name, .e = e}, model;
    const cJSON *merges = NULL, *vocab = NULL, *m = NULL;
    size_t number = 1;
    bool good = root && json_object(&s, "model", &model) && json_field(&model, "merges", &merges) &&
                json_field(&model, "vocab", &vocab);
    if (good && !cJSON_IsArray(merges)) good = json_wrong(&model, "merges", merges, "a list of merges");
    if (good && vocab && !cJSON_IsObject(vocab)) good = json_wrong(&model, "vocab", vocab, "an object of ids");
    for (m = good ? merges->child : NULL; good && m && t->merges < most; m = m->next, number++)
        if (!json_merge(t, m, e)) good = err_prefix(e, "%s: model.merges, number %zu", name, number);
    if (good && vocab && !m && !clip_bpe_check(t, vocab, e)) good = err_prefix(e, "%s: model.vocab", name);
    json_free(root);
    return good;
}

clip_bpe *clip_bpe_parse(const char *bytes, size_t length, const char *name, size_t most_merges, err *e) {
    size_t most = most_merges ? most_merges : CLIP_MERGES, at = 0;
    if (most > UINT32_MAX / 2) most = UINT32_MAX / 2;
    clip_bpe *t = clip_bpe_new(e);
    if (!t) {
        err_prefix(e, "%s", name);
        return NULL;
    }
    while (at < length && (bytes[at] == ' ' || (bytes[at] >= '\t' && bytes[at] <= '\r'))) at++;
    if (at < length && bytes[at] == '{' ? json_read(t, bytes, length, name, most, e)
                                        : merge_lines(bytes, length, name, most, merge_read, t, e))
        return t;
    clip_bpe_free(t);
    return NULL;
}

/* ---- learning merges ------------------------------------------------------------------------- */
/* Each word that occurs is kept once, as the symbols that the merges learned so far make of it. */
typedef struct { size_t at; uint32_t length; uint64_t times; } kept; /* its symbols start at symbols[at] */
typedef struct {
    uint64_t key, count; /* the pair; how often it stands in the texts */
    uint64_t before;     /* count before the present merge ... */
    size_t touched;      /* ... which was the last to change it */
    size_t visit;        /* the last visit to a word in which it was seen */
    uint32_t where;      /* the first of its places, NONE at the end */
} pair;
typedef struct { uint32_t word, next; } place;

typedef struct {
    clip_bpe *t; /* grows by a merge at a time; words are merged by it, so encode agrees */
    chain c;
    kept *words;
    uint32_t *symbols, *changed; /* changed: pairs that the present merge touched */
    pair *pairs;
    place *places;
    entry *heap; /* ~count, key: the most frequent first, then the first in symbol order */
    size_t word_count, symbol_count, pair_count, place_count, heap_count, changed_count;
    size_t word_room, symbol_room, pair_room, place_room, heap_room, changed_room;
    size_t step, visit;
    map by_word, by_pair;
    char *out; /* the merges file's text */
    size_t out_used, out_room;
    err *e;
} trainer;

static void trainer_free(trainer *r) {
    clip_bpe_free(r->t);
    chain_free(&r->c);
    mem_free(r->words);
    mem_free(r->symbols);
    mem_free(r->changed);
    mem_free(r->pairs);
    mem_free(r->places);
    mem_free(r->heap);
    mem_free(r->out);
    map_free(&r->by_word);
    map_free(&r->by_pair);
}

/* One more occurrence of the n symbols on the chain. */
static bool word_count(trainer *r, size_t n) {
    if (!GROW(r->symbols, r->symbol_room, r->symbol_count + n, r->e)) return false;
    uint32_t *s = r->symbols + r->symbol_count, found;
    for (size_t i = 0; i < n; i++) s[i] = r->c.links[i].symbol;
    uint64_t key = hash_bytes(0, s, n * sizeof *s);
    for (; (found = map_get(&r->by_word, key)) != NONE; key++) {
        kept *k = &r->words[found];
        if (k->length != n || memcmp(r->symbols + k->at, s, n * sizeof *s) != 0) continue;
        k->times++;
        return true;
    }
    if (r->word_count >= NONE - 1) return err_set(r->e, "more than %zu different words", r->word_count);
    if (!GROW(r->words, r->word_room, r->word_count + 1, r->e)) return false;
    if (!map_set(&r->by_word, key, (uint32_t)r->word_count, r->e)) return false;
    r->words[r->word_count++] = (kept){r->symbol_count, (uint32_t)n, 1};
    r->symbol_count += n;
    return true;
}

static bool text_count(trainer *r, const char *text) {
    words w;
    const uint32_t *word;
    size_t length, n;
    bool good = words_open(&w, text, r->e);
    while (good && words_next(&w, &word, &length)) {
        if (word_is(word, length, START) || word_is(word, length, END)) continue;
        good = chain_word(&r->c, word, length, &n, r->e) && word_count(r, n);
    }
    words_close(&w);
    return good;
}

/* The pair of that key, new if need be, noted as touched by the present merge. NULL without memory. */
static pair *pair_touch(trainer *r, uint64_t key) {
    uint32_t i = map_get(&r->by_pair, key);
    if (i == NONE) {
        i = (uint32_t)r->pair_count;
        if (i >= NONE - 1) return (void)err_set(r->e, "more than %zu different pairs", r->pair_count), NULL;
        if (!GROW(r->pairs, r->pair_room, r->pair_count + 1, r->e) || !map_set(&r->by_pair, key, i, r->e)) return NULL;
        r->pairs[r->pair_count++] = (pair){.key = key, .where = NONE};
    }
    pair *p = &r->pairs[i];
    if (p->touched != r->step) {
        if (!GROW(r->changed, r->changed_room, r->changed_count + 1, r->e)) return NULL;
        r->changed[r->changed_count++] = i;
        p->touched = r->step;
        p->before = p->count;
    }
    return p;
}

/* Takes a word's pairs out of the counts before it changes; what has been seen on this visit knows the word already. */
static bool word_leave(trainer *r, const kept *k) {
    r->visit++;
    for (size_t i = 0; i + 1 < k->length; i++) {
        pair *p = pair_touch(r, pair_key(r->symbols[k->at + i], r->symbols[k->at + i + 1]));
        if (!p) return false;
        p->count -= k->times;
        p->visit = r->visit;
    }
    return true;
}

/* Puts a word's pairs into the counts, and the word into the lists of those pairs that did not know it. */
static bool word_enter(trainer *r, uint32_t word) {
    const kept *k = &r->words[word];
    for (size_t i = 0; i + 1 < k->length; i++) {
        pair *p = pair_touch(r, pair_key(r->symbols[k->at + i], r->symbols[k->at + i + 1]));
        if (!p) return false;
        p->count += k->times;
        if (p->visit == r->visit) continue;
        p->visit = r->visit;
        if (r->place_count >= NONE - 1) return err_set(r->e, "more than %zu places of pairs", r->place_count);
        if (!GROW(r->places, r->place_room, r->place_count + 1, r->e)) return false;
        r->places[r->place_count] = (place){word, p->where};
        p->where = (uint32_t)r->place_count++;
    }
    return true;
}

/* Pairs that have become more frequent go into the heap; the others are found out when they are popped. */
static bool changes_queue(trainer *r) {
    if (!GROW(r->heap, r->heap_room, r->heap_count + r->changed_count + 1, r->e)) return false;
    for (size_t i = 0; i < r->changed_count; i++) {
        const pair *p = &r->pairs[r->changed[i]];
        if (p->count > p->before) heap_push(r->heap, &r->heap_count, (entry){~p->count, p->key});
    }
    r->changed_count = 0;
    return true;
}

/* The most frequent pair, NULL when no pair is left. */
static const pair *pair_best(trainer *r) {
    while (r->heap_count) {
        entry top = heap_pop(r->heap, &r->heap_count);
        const pair *p = &r->pairs[map_get(&r->by_pair, top.second)];
        if (p->count && p->count == ~top.first) return p;
        if (p->count && p->count < ~top.first) heap_push(r->heap, &r->heap_count, (entry){~p->count, p->key});
    }
    return NULL;
}

static bool word_remerge(trainer *r, uint32_t word) {
    kept *k = &r->words[word];
    uint32_t *s = r->symbols + k->at, n = 0;
    if (!word_leave(r, k) || !chain_room(&r->c, k->length, r->e)) return false;
    for (size_t i = 0; i < k->length; i++) r->c.links[i].symbol = s[i];
    chain_merge(r->t, &r->c, k->length);
    for (uint32_t i = 0; i != NONE; i = r->c.links[i].right) s[n++] = r->c.links[i].symbol;
    k->length = n;
    return word_enter(r, word);
}

/* ---- the merges file ------------------------------------------------------------------------- */
static bool out_bytes(trainer *r, const char *bytes, size_t n) {
    if (!GROW(r->out, r->out_room, r->out_used + n + 1, r->e)) return false;
    memcpy(r->out + r->out_used, bytes, n);
    r->out_used += n;
    r->out[r->out_used] = 0;
    return true;
}

static bool out_symbol(trainer *r, uint32_t s, const char *then) {
    symbol its = r->t->symbols[s];
    for (size_t i = 0; i < its.length; i++) {
        unsigned char c[4];
        size_t n = utf8_encode(byte_character((unsigned char)r->t->text[its.at + i]), c);
        if (!out_bytes(r, (const char *)c, n)) return false;
    }
    return (!its.last || out_bytes(r, ENDING, sizeof ENDING - 1)) && out_bytes(r, then, 1);
}

/* One merge: into the file, into the tokenizer, and into every word that has the pair. */
static bool merge_learn(trainer *r, const pair *best) {
    uint32_t left = (uint32_t)(best->key >> 32), right = (uint32_t)best->key, at = best->where;
    if (!out_symbol(r, left, " ") || !out_symbol(r, right, "\n") || !merge_add(r->t, left, right, r->e)) return false;
    r->step++;
    for (; at != NONE; at = r->places[at].next)
        if (!word_remerge(r, r->places[at].word)) return false;
    return changes_queue(r);
}

static bool merges_learn(trainer *r, const char *const *texts, size_t count, size_t merges) {
    const pair *best;
    r->t = clip_bpe_new(r->e);
    if (!r->t || !out_bytes(r, "#version: 0.2\n", 14)) return false;
    for (size_t i = 0; i < count; i++)
        if (!text_count(r, texts[i])) return false;
    r->step = r->visit = 1;
    for (uint32_t i = 0; i < r->word_count; i++, r->visit++)
        if (!word_enter(r, i)) return false;
    if (!changes_queue(r)) return false;
    while (r->t->merges < merges && r->t->merges < UINT32_MAX / 2 && (best = pair_best(r)))
        if (!merge_learn(r, best)) return false;
    return true;
}

char *tokenizer_train(const char *const *texts, size_t count, size_t merges, size_t *length, err *e) {
    trainer r = {.e = e};
    char *out = NULL;
    *length = 0;
    if (merges_learn(&r, texts, count, merges)) {
        out = r.out;
        *length = r.out_used;
        r.out = NULL;
    } else err_prefix(e, "learning merges");
    trainer_free(&r);
    return out;
}
