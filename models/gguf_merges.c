/* gguf_merges.c - clip.cpp keeps CLIP's tokens and not its merges; they follow from the tokens (see gguf.h).
 *
 * In id order each token is encoded with the merges found so far. Two parts are left, and they are its merge: when it
 * was learned, the pair was the most frequent of a text that all earlier merges had been applied to.
 */
#include "models/gguf.h"
#include <stdio.h>
#include <string.h>

enum { LETTERS = 512, SPECIALS = 2, PARTS = 256, TOKENS_MOST = 1 << 24 };
typedef struct {
    const char *text;
    size_t length;
} token;

typedef struct {
    uint32_t left, right, rank; /* rank + 1; 0: an empty place */
} merge;

typedef struct {
    token *tokens;
    size_t count;
    merge *table; /* open addressing, a power of two of places */
    size_t places;
    uint32_t (*pairs)[2]; /* by rank */
    uint32_t sorted[LETTERS];
} recovery;

/* ---- letters --------------------------------------------------------------------------------------------- */
static int compare(const token *a, const char *text, size_t length) {
    int order = memcmp(a->text, text, a->length < length ? a->length : length);
    return order ? order : (a->length > length) - (a->length < length);
}

static uint32_t letter(const recovery *r, const char *text, size_t length) {
    size_t low = 0, high = LETTERS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare(&r->tokens[r->sorted[middle]], text, length);
        if (order == 0) return r->sorted[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return UINT32_MAX;
}

static void sort_letters(recovery *r) { /* insertion: 512 of them */
    for (uint32_t i = 0; i < LETTERS; i++) {
        uint32_t at = i;
        for (; at > 0 && compare(&r->tokens[r->sorted[at - 1]], r->tokens[i].text, r->tokens[i].length) > 0; at--)
            r->sorted[at] = r->sorted[at - 1];
        r->sorted[at] = i;
    }
}

/* The token's letters, the last with its </w>; 0: some letter is none of the 512, or there are too many. */
static size_t split(const recovery *r, const token *t, uint32_t parts[PARTS]) {
    bool word = t->length > 4 && memcmp(t->text + t->length - 4, "</w>", 4) == 0;
    size_t end = t->length - (word ? 4 : 0), n = 0;
    for (size_t i = 0; i < end;) {
        size_t next = i + 1;
        while (next < end && ((unsigned char)t->text[next] & 0xc0) == 0x80) next++;
        if (n == PARTS) return 0;
        parts[n] = letter(r, t->text + i, (next == end ? t->length : next) - i);
        if (parts[n++] == UINT32_MAX) return 0;
        i = next;
    }
    return n;
}

/* ---- merges ------------------------------------------------------------------------------------------------ */
static merge *place(const recovery *r, uint32_t left, uint32_t right) {
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 32) & (r->places - 1);
    while (r->table[i].rank && (r->table[i].left != left || r->table[i].right != right)) i = (i + 1) & (r->places - 1);
    return &r->table[i];
}

/* The lowest-ranked pair of neighbours becomes one, as long as there is one and more than two parts are left. */
static size_t encode(const recovery *r, uint32_t *parts, size_t n) {
    while (n > 2) {
        uint32_t best = UINT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = place(r, parts[i], parts[i + 1])->rank;
            if (rank && rank < best) best = rank, at = i;
        }
        if (best == UINT32_MAX) break;
        parts[at] = LETTERS + best - 1;
        memmove(parts + at + 1, parts + at + 2, (n - at - 2) * sizeof *parts);
        n--;
    }
    return n;
}

static bool recover(recovery *r, char *why, size_t room) {
    uint32_t parts[PARTS];
    sort_letters(r);
    for (uint32_t rank = 0; rank < r->count - LETTERS - SPECIALS; rank++) {
        const token *t = &r->tokens[LETTERS + rank];
        size_t n = split(r, t, parts);
        if (n) n = encode(r, parts, n);
        if (n != 2) {
            snprintf(why, room, "token %u, \"%.*s\", is no merge of two earlier ones, so text cannot be read",
                     (unsigned)(LETTERS + rank), (int)(t->length < 60 ? t->length : 60), t->text);
            return false;
        }
        merge *m = place(r, parts[0], parts[1]);
        if (!m->rank) *m = (merge){parts[0], parts[1], rank + 1};
        r->pairs[rank][0] = parts[0];
        r->pairs[rank][1] = parts[1];
    }
    return true;
}

static char *write_merges(const recovery *r) {
    size_t merges = r->count - LETTERS - SPECIALS, bytes = 32;
    for (size_t i = 0; i < merges; i++) bytes += r->tokens[LETTERS + i].length + 2;
    char *text = mem_alloc(bytes, 1), *to = text;
    if (!text) return NULL;
    to += sprintf(to, "#version: 0.2\n");
    for (size_t i = 0; i < merges; i++)
        for (size_t k = 0; k < 2; k++) {
            const token *t = &r->tokens[r->pairs[i][k]];
            memcpy(to, t->text, t->length);
            to += t->length;
            *to++ = k ? '\n' : ' ';
        }
    return text;
}

char *gguf_merges(const unsigned char *list, size_t count, char *why, size_t room) {
    recovery r = {.count = count, .places = 1024};
    char *text = NULL;
    if (count <= LETTERS + SPECIALS || count > TOKENS_MOST) {
        snprintf(why, room, "%zu tokens, expected more than %d", count, LETTERS + SPECIALS);
        return NULL;
    }
    while (r.places < 2 * count) r.places *= 2;
    r.tokens = mem_alloc(count, sizeof *r.tokens);
    r.table = mem_alloc(r.places, sizeof *r.table);
    r.pairs = mem_alloc(count, sizeof *r.pairs);
    snprintf(why, room, "not enough memory for %zu tokens", count);
    if (r.tokens && r.table && r.pairs) {
        for (size_t i = 0; i < count; i++) {
            uint64_t n = 0;
            for (int k = 7; k >= 0; k--) n = n << 8 | list[k];
            r.tokens[i] = (token){(const char *)list + 8, (size_t)n};
            list += 8 + n;
        }
        if (recover(&r, why, room)) text = write_merges(&r);
    }
    mem_free(r.tokens);
    mem_free(r.table);
    mem_free(r.pairs);
    return text;
}
