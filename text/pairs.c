/* pairs.c - byte-pair encoding over whole texts, MODEL.md 3.2: Gemma's over characters (SigLIP 2), which falls apart into
 * bytes where a character is unknown. The pair of least rank goes first, the leftmost of equals. */
#include "files/utf8.h"
#include "text/kinds.h"
#include <string.h>

typedef struct { uint32_t id, left, right; } link; /* neighbours; NONE at the ends; id NONE when merged away */

typedef struct {
    const pairs *p;
    link *links;
    entry *heap; /* rank, place */
    size_t count, links_room, heap_room, waiting;
    err *e;
} work;

/* What two neighbours become and when: sentencepiece's greatest score first, else the merge's rank. */
static bool joins(const pairs *p, uint32_t a, uint32_t b, uint64_t *rank, uint32_t *made) {
    if (!p->score) {
        uint32_t found = map_get(&p->ranks, pair_key(a, b));
        if (found == NONE) return false;
        return *rank = found, *made = p->made[found], true;
    }
    char both[512];
    const spelling *x = &p->pieces.item[a], *y = &p->pieces.item[b];
    if ((size_t)x->length + y->length > sizeof both || (size_t)x->length + y->length > p->pieces.longest) return false;
    memcpy(both, p->pieces.text + x->at, x->length);
    memcpy(both + x->length, p->pieces.text + y->at, y->length);
    if ((*made = spellings_find(&p->pieces, both, x->length + y->length)) == NONE) return false;
    double score = p->score[*made];
    if (!(score > -1e18)) return false; /* a piece that no text is made of */
    *rank = (uint64_t)((1e6 - (score < 1e6 ? score : 1e6)) * 1e3);
    return true;
}

static bool wait_for(work *w, uint32_t at) {
    uint64_t rank;
    uint32_t made;
    if (at == NONE || w->links[at].right == NONE) return true;
    if (!joins(w->p, w->links[at].id, w->links[w->links[at].right].id, &rank, &made)) return true;
    if (!GROW(w->heap, w->heap_room, w->waiting + 1, w->e)) return false;
    heap_push(w->heap, &w->waiting, (entry){rank, at});
    return true;
}

/* A pair in the heap may have changed since: then its place has another rank, or none. */
static bool merge_all(work *w) {
    for (uint32_t i = 0; i + 1 < w->count; i++)
        if (!wait_for(w, i)) return false;
    while (w->waiting) {
        entry top = heap_pop(w->heap, &w->waiting);
        uint32_t at = (uint32_t)top.second, made;
        uint64_t rank;
        link *l = &w->links[at];
        if (l->id == NONE || l->right == NONE) continue;
        link *r = &w->links[l->right];
        if (!joins(w->p, l->id, r->id, &rank, &made) || rank != top.first) continue;
        l->id = made;
        r->id = NONE;
        l->right = r->right;
        if (l->right != NONE) w->links[l->right].left = at;
        if (!wait_for(w, l->left) || !wait_for(w, at)) return false;
    }
    return true;
}

static bool add_link(work *w, uint32_t id) {
    if (w->count >= NONE - 1) return err_set(w->e, "a text of %zu pieces is too long", w->count);
    if (!GROW(w->links, w->links_room, w->count + 1, w->e)) return false;
    if (w->count) w->links[w->count - 1].right = (uint32_t)w->count;
    w->links[w->count] = (link){id, w->count ? (uint32_t)w->count - 1 : NONE, NONE};
    w->count++;
    return true;
}

/* A character's piece; its bytes' where there is none; the unknown piece where these are missing too. */
static bool add_character(work *w, const char *bytes, size_t n) {
    const pairs *p = w->p;
    uint32_t id = spellings_find(&p->pieces, bytes, n);
    if (id != NONE) return add_link(w, id);
    for (size_t i = 0; i < n; i++)
        if (p->bytes[(unsigned char)bytes[i]] == NONE)
            return (w->count && w->links[w->count - 1].id == p->unknown) || p->unknown == NONE || add_link(w, p->unknown);
    for (size_t i = 0; i < n; i++)
        if (!add_link(w, p->bytes[(unsigned char)bytes[i]])) return false;
    return true;
}

static bool add_text(work *w, const char *text) {
    for (size_t at = 0, n = strlen(text), used; at < n; at += used) {
        const char *to = text + at;
        (void)utf8_decode(text + at, n - at, &used);
        size_t step = charsmap_step(&w->p->map, text + at, n - at, &to), length = step ? strlen(to) : used;
        if (step) used = step;
        for (size_t k = 0, c; k < length; k += c) {
            (void)utf8_decode(to + k, length - k, &c);
            bool space = w->p->block && c == 1 && to[k] == ' ';
            if (!add_character(w, space ? "\xE2\x96\x81" : to + k, space ? 3 : c)) return false;
        }
    }
    return true;
}

/* What was added, merged, as ids. */
static bool take_ids(work *w, bool ok, id_list *out) {
    ok = ok && merge_all(w);
    for (uint32_t i = 0; ok && w->count && i != NONE; i = w->links[i].right) ok = ids_add(out, w->links[i].id, w->e);
    mem_free(w->links);
    mem_free(w->heap);
    return ok;
}

static bool pairs_raw(const void *own, const char *text, id_list *out, err *e) {
    work w = {.p = own, .e = e};
    return take_ids(&w, add_text(&w, text), out);
}

bool pairs_word(const pairs *p, const unsigned char *bytes, size_t n, id_list *out, err *e) {
    work w = {.p = p, .e = e};
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) ok = add_link(&w, p->bytes[bytes[i]]);
    return take_ids(&w, ok, out);
}

bool pairs_merge(pairs *p, const char *a, size_t na, const char *b, size_t nb, err *e) {
    char both[1024];
    uint32_t left = spellings_find(&p->pieces, a, na), right = spellings_find(&p->pieces, b, nb);
    if (left == NONE || right == NONE)
        return err_set(e, "merge %zu: \"%.40s\" is not in the vocabulary", p->merges, left == NONE ? a : b);
    if (na + nb > sizeof both) return err_set(e, "merge %zu: %zu bytes are too long", p->merges, na + nb);
    memcpy(both, a, na);
    memcpy(both + na, b, nb);
    uint32_t made = spellings_find(&p->pieces, both, na + nb);
    if (made == NONE) return err_set(e, "merge %zu: \"%.*s\" is not in the vocabulary", p->merges, (int)(na + nb < 60 ? na + nb : 60), both);
    if (p->merges >= NONE - 1 || !GROW(p->made, p->made_room, p->merges + 1, e)) return false;
    p->made[p->merges] = made;
    if (map_get(&p->ranks, pair_key(left, right)) == NONE && !map_set(&p->ranks, pair_key(left, right), (uint32_t)p->merges, e))
        return false;
    p->merges++;
    return true;
}

void pairs_ready(pairs *p) {
    static const char digits[] = "0123456789ABCDEF";
    for (int b = 0; b < 256; b++) {
        const char name[6] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
        p->bytes[b] = spellings_find(&p->pieces, name, sizeof name);
    }
}

void pairs_free(pairs *p) {
    if (!p) return;
    spellings_free(&p->pieces);
    map_free(&p->ranks);
    mem_free(p->made);
    mem_free(p->score);
    charsmap_free(&p->map);
    mem_free(p);
}

static size_t vocab_of(const void *own) { return ((const pairs *)own)->pieces.count; }
static void free_own(void *own) { pairs_free(own); }
const tokenizer_kind pairs_kind = {"byte pairs over characters", pairs_raw, vocab_of, free_own, NULL, false};
