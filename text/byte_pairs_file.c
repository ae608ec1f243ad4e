/* byte_pairs_file.c - GPT-2's vocabulary and merges from merges.txt, vocab.json or tokenizer.json (see kinds.h). */
#include "files/json.h"
#include "files/utf8.h"
#include "text/kinds.h"
#include <string.h>

static const char END[] = "<|endoftext|>";
static const cJSON *get(const cJSON *o, const char *name) { return cJSON_GetObjectItemCaseSensitive(o, name); }
static bool is(const cJSON *o, const char *text) { return cJSON_IsString(o) && !strcmp(o->valuestring, text); }

/* ---- pieces: files write them in characters, here they are bytes ------------------------------------------------------ */
enum { PIECE_MOST = 512 };
/* The bytes that s[0..n) stands for. */
static bool unspell(const char *s, size_t n, char bytes[PIECE_MOST], size_t *count, err *e) {
    size_t used, k = 0;
    for (size_t i = 0; i < n; i += used) {
        int byte = character_byte(utf8_decode(s + i, n - i, &used));
        if (byte < 0)
            return err_set(e, "\"%.*s\" has a character that stands for no byte at its byte %zu", (int)(n < 60 ? n : 60), s, i + 1);
        if (k == PIECE_MOST) return err_set(e, "\"%.40s...\" is longer than %d bytes", s, PIECE_MOST);
        bytes[k++] = (char)byte;
    }
    *count = k;
    return true;
}

static bool add_piece(byte_pairs *b, const char *bytes, size_t n, err *e) {
    size_t before = b->p.pieces.count;
    if (spellings_add(&b->p.pieces, bytes, n, e) == NONE) return false;
    return b->p.pieces.count > before || err_set(e, "piece %zu is one that was there already: its number cannot be told", before);
}

/* The 256 bytes in the order of their characters: all that there is before the first merge. */
static bool add_bytes(byte_pairs *b, err *e) {
    char byte[256];
    for (uint32_t i = 0; i < 256; i++) byte[byte_symbol(i)] = (char)i;
    for (size_t i = 0; i < 256; i++)
        if (!add_piece(b, &byte[i], 1, e)) return false;
    return true;
}

/* {"piece": id} in the order of the ids, which must be 0, 1, 2... */
static bool pieces_read(const cJSON *vocab, spellings *s, const char *name, err *e) {
    size_t count = 0, id;
    const cJSON *v;
    if (!cJSON_IsObject(vocab)) return err_set(e, "%s: the vocabulary: an object of ids expected", name);
    cJSON_ArrayForEach(v, vocab) count++;
    const char **in_order = mem_alloc(count + 1, sizeof *in_order);
    bool ok = in_order != NULL || err_set(e, "%s: no memory for %zu pieces", name, count);
    if (ok) memset(in_order, 0, (count + 1) * sizeof *in_order);
    cJSON_ArrayForEach(v, vocab) {
        if (!ok) break;
        if (!json_whole(v, &id) || id >= count || in_order[id])
            ok = err_set(e, "%s: the vocabulary: \"%.40s\": an id of its own below %zu expected", name, v->string, count);
        else
            in_order[id] = v->string;
    }
    for (size_t i = 0; ok && i < count; i++) ok = spellings_add(s, in_order[i], strlen(in_order[i]), e) != NONE;
    if (ok && s->count != count) ok = err_set(e, "%s: the vocabulary: a piece stands there twice", name);
    mem_free(in_order);
    return ok && (count || err_set(e, "%s: the vocabulary is empty", name));
}

static bool add_vocab(byte_pairs *b, const cJSON *vocab, const char *name, err *e) {
    spellings spelled = {0};
    char bytes[PIECE_MOST];
    size_t n;
    bool ok = pieces_read(vocab, &spelled, name, e);
    for (size_t i = 0; ok && i < spelled.count; i++) {
        const spelling *s = &spelled.item[i];
        ok = (unspell(spelled.text + s->at, s->length, bytes, &n, e) && add_piece(b, bytes, n, e)) || err_prefix(e, "%s", name);
    }
    spellings_free(&spelled);
    return ok;
}

/* ---- merges ---------------------------------------------------------------------------------------------------------------- */
/* own: the vocabulary is what the merges make, in their order. */
static bool add_merge(byte_pairs *b, const char *left, size_t nl, const char *right, size_t nr, bool own, err *e) {
    char bytes[2 * PIECE_MOST];
    size_t na, nb;
    if (!unspell(left, nl, bytes, &na, e)) return false;
    char *second = bytes + na; /* behind the first: both are the piece that they make */
    char spare[PIECE_MOST];
    if (!unspell(right, nr, spare, &nb, e)) return false;
    memcpy(second, spare, nb);
    uint32_t x = spellings_find(&b->p.pieces, bytes, na), y = spellings_find(&b->p.pieces, second, nb);
    if (x == NONE || y == NONE)
        return err_set(e, "\"%.*s\" is not in the vocabulary", (int)((x == NONE ? nl : nr) < 60 ? (x == NONE ? nl : nr) : 60), x == NONE ? left : right);
    if (map_get(&b->p.ranks, pair_key(x, y)) != NONE)
        return err_set(e, "\"%.*s %.*s\" is merged a second time", (int)(nl < 60 ? nl : 60), left, (int)(nr < 60 ? nr : 60), right);
    if (own && !add_piece(b, bytes, na + nb, e)) return false;
    return pairs_merge(&b->p, bytes, na, second, nb, e);
}

/* "left right" */
static bool add_line(byte_pairs *b, const char *s, size_t n, bool own, err *e) {
    const char *space = memchr(s, ' ', n);
    size_t left = space ? (size_t)(space - s) : 0, right = space ? n - left - 1 : 0;
    if (!left || !right || memchr(space + 1, ' ', right))
        return err_set(e, "found \"%.*s\", expected two pieces with a space between them", (int)(n < 60 ? n : 60), s);
    return add_merge(b, s, left, space + 1, right, own, e);
}

static bool has_merges(const byte_pairs *b, const char *name, err *e) {
    return b->p.merges > 0 || err_set(e, "%s: no merges, expected a first line and then \"left right\" a line", name);
}

typedef struct { byte_pairs *b; bool own; } reading;
static bool take_line(void *arg, const char *s, size_t n, err *e) {
    const reading *r = arg;
    return add_line(r->b, s, n, r->own, e);
}

/* ---- a whole vocabulary ------------------------------------------------------------------------------------------------------ */
static tokenizer *finished(byte_pairs *b, bool ok, const char *name, err *e) {
    char byte;
    for (uint32_t i = 0; ok && i < 256; i++) {
        byte = (char)i;
        b->p.bytes[i] = spellings_find(&b->p.pieces, &byte, 1);
        if (b->p.bytes[i] == NONE) ok = err_set(e, "%s: byte %u has no piece: it is no byte-level vocabulary", name, (unsigned)i);
    }
    if (!ok) return byte_pairs_free(b), NULL;
    b->p.unknown = NONE;
    b->end = spellings_find(&b->p.pieces, END, sizeof END - 1);
    return tokenizer_make(&byte_pairs_kind, b, 0, NONE, NONE, name, e);
}

static byte_pairs *begun(const char *name, err *e) {
    byte_pairs *b = mem_alloc(1, sizeof *b);
    if (!b) err_set(e, "%s: no memory for a vocabulary", name);
    return b;
}

bool byte_pairs_is(const char *merges, size_t n) {
    static const char space[] = "\n\xC4\xA0"; /* a line that begins with U+0120, as a space is written */
    for (const char *at = merges, *end = merges + n; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        if (end - at >= 3 && !memcmp(at, space, 3)) return true;
    return false;
}

tokenizer *byte_pairs_parse(const char *merges, size_t n, const char *name, const char *vocab, size_t vocab_n, const char *vocab_name,
                            err *e) {
    byte_pairs *b = begun(name, e);
    cJSON *root = vocab ? json_parse(vocab, vocab_n, vocab_name, e) : NULL;
    bool ok = b && (!vocab || root);
    if (ok) ok = vocab ? add_vocab(b, root, vocab_name, e) : add_bytes(b, e);
    ok = ok && merge_lines(merges, n, name, SIZE_MAX, take_line, &(reading){b, !vocab}, e) && has_merges(b, name, e) && (vocab || add_piece(b, END, sizeof END - 1, e));
    json_free(root);
    return finished(b, ok, vocab ? vocab_name : name, e);
}

/* ---- tokenizer.json ------------------------------------------------------------------------------------------------------------ */
bool byte_pairs_is_json(const cJSON *root) {
    const cJSON *pre = get(root, "pre_tokenizer"), *part;
    if (is(get(pre, "type"), "ByteLevel")) return true;
    cJSON_ArrayForEach(part, get(pre, "pretokenizers"))
        if (is(get(part, "type"), "ByteLevel")) return true;
    return false;
}

/* What a file may ask for beyond GPT-2's scheme is refused by name. */
static bool is_gpt2(const cJSON *root, const char *name, err *e) {
    const cJSON *model = get(root, "model"), *pre = get(root, "pre_tokenizer"), *added;
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!is(get(pre, "type"), "ByteLevel") || cJSON_IsFalse(get(pre, "use_regex")))
        return err_set(e, "%s: pre_tokenizer: GPT-2's ByteLevel alone expected, with its own way to part words", name);
    if (get(root, "normalizer") && !cJSON_IsNull(get(root, "normalizer")))
        return err_set(e, "%s: normalizer: none expected beside ByteLevel", name);
    for (size_t i = 0; i < 2; i++)
        if (cJSON_IsString(get(model, empty[i])) && !is(get(model, empty[i]), ""))
            return err_set(e, "%s: model.%s is \"%.20s\", none expected", name, empty[i], get(model, empty[i])->valuestring);
    if (cJSON_IsTrue(get(model, "ignore_merges"))) return err_set(e, "%s: model.ignore_merges is true, expected false", name);
    cJSON_ArrayForEach(added, get(root, "added_tokens"))
        if (!is(get(added, "content"), END))
            return err_set(e, "%s: added_tokens: %s alone expected", name, END);
    return true;
}

static bool json_merge(byte_pairs *b, const cJSON *m, err *e) {
    const cJSON *left = m->child, *right = left ? left->next : NULL;
    if (cJSON_IsString(m)) return add_line(b, m->valuestring, strlen(m->valuestring), false, e);
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next) return err_set(e, "\"left right\" or [\"left\", \"right\"] expected");
    return add_merge(b, left->valuestring, strlen(left->valuestring), right->valuestring, strlen(right->valuestring), false, e);
}

tokenizer *byte_pairs_json(const char *bytes, size_t n, const char *name, err *e) {
    cJSON *root = json_parse(bytes, n, name, e);
    if (!root) return NULL;
    const cJSON *model = get(root, "model"), *merges = get(model, "merges"), *m;
    byte_pairs *b = begun(name, e);
    bool ok = b && is_gpt2(root, name, e);
    if (ok && !cJSON_IsArray(merges)) ok = err_set(e, "%s: model.merges: a list of merges expected", name);
    ok = ok && add_vocab(b, get(model, "vocab"), name, e);
    size_t number = 0;
    cJSON_ArrayForEach(m, merges) {
        if (!ok) break;
        ok = json_merge(b, m, e) || err_prefix(e, "%s: model.merges, number %zu", name, number);
        number++;
    }
    if (ok && get(root, "added_tokens") && spellings_find(&b->p.pieces, END, sizeof END - 1) == NONE) {
        m = get(root, "added_tokens")->child; /* beyond the vocabulary: the next number */
        size_t id;
        if (m && (!json_whole(get(m, "id"), &id) || id != b->p.pieces.count))
            ok = err_set(e, "%s: added_tokens: %s has not the number %zu, which comes after the vocabulary's", name, END, b->p.pieces.count);
        ok = ok && (!m || add_piece(b, END, sizeof END - 1, e));
    }
    if (ok) b->space_first = cJSON_IsTrue(get(get(root, "pre_tokenizer"), "add_prefix_space"));
    json_free(root);
    return finished(b, ok, name, e);
}
