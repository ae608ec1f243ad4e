/* tokenizer_json.c - Hugging Face's tokenizer.json, into the kind that it describes: Unigram, BPE, WordPiece; and CLIP's own,
 * which is BPE with "</w>". What else a file may ask for is refused by name. Vocabulary and merges, which may be hundreds of MB
 * (XLM-V), are read element by element where they lie. */
#include "files/json_cut.h"
#include "text/kinds.h"
#include <stdio.h>
#include <string.h>

enum { VOCAB, MERGES, LISTS };
static const char *const LONG[LISTS] = {"model.vocab", "model.merges"};
typedef struct {
    cJSON *root; /* all but the lists */
    json_cut list[LISTS];
} parts;

static const cJSON *get(const cJSON *o, const char *name) { return cJSON_GetObjectItemCaseSensitive(o, name); }
static bool is(const cJSON *o, const char *text) { return cJSON_IsString(o) && !strcmp(o->valuestring, text); }

/* ---- what the file asks for beside its lists ---------------------------------------------------------------- */
/* The steps that a kind takes here, whatever their order; and what follows the text's pieces. */
typedef struct { const char *normalizers, *pre_tokenizers, *post_processors; } json_way;
static const json_way CLIPS_WAY = {" NFC Replace Lowercase ", " Split ByteLevel ", " RobertaProcessing TemplateProcessing ByteLevel "},
                      UNIGRAM_WAY = {" Precompiled Strip Replace Lowercase ", " WhitespaceSplit Metaspace ", " TemplateProcessing "},
                      PAIRS_WAY = {" Replace Lowercase ", " Split ", " TemplateProcessing "},
                      WORDPIECE_WAY = {" BertNormalizer ", " BertPreTokenizer ", " TemplateProcessing "};

/* Settings of these steps, and of models, that are obeyed with these values alone. */
static const struct { const char *type, *key, *values; } ONLY[] = {
    {"BertNormalizer", "lowercase", " true "},
    {"BertNormalizer", "strip_accents", " null true "}, {"BertNormalizer", "clean_text", " true "},
    {"BertNormalizer", "handle_chinese_chars", " true "}, {"Metaspace", "replacement", " \"\342\226\201\" "},
    {"Metaspace", "prepend_scheme", " \"always\" \"first\" "}, {"Metaspace", "add_prefix_space", " true "},
    {"BPE", "dropout", " null 0 "}, {"BPE", "ignore_merges", " null false "}, {"WordPiece", "continuing_subword_prefix", " \"##\" "},
    {"WordPiece", "max_input_chars_per_word", " 100 "}};

static bool listed(const char *list, const char *word) {
    char spaced[80];
    return (size_t)snprintf(spaced, sizeof spaced, " %s ", word) < sizeof spaced && strstr(list, spaced);
}

static bool check_values(const cJSON *step, const char *where, const char *name, err *e) {
    const cJSON *type = get(step, "type");
    for (size_t i = 0; cJSON_IsString(type) && i < sizeof ONLY / sizeof *ONLY; i++) {
        const cJSON *v = get(step, ONLY[i].key);
        if (!is(type, ONLY[i].type) || !v) continue;
        char *found = cJSON_PrintUnformatted(v);
        bool good = found && listed(ONLY[i].values, found);
        if (!found) err_set(e, "%s: no memory for %s", name, where);
        else if (!good)
            err_set(e, "%s: %s: %s.%s is %.40s, which is not supported, expected one of%s", name, where, ONLY[i].type, ONLY[i].key,
                    found, ONLY[i].values);
        cJSON_free(found);
        if (!good) return false;
    }
    return true;
}

/* A class of characters, "[...]", of ASCII's punctuation, each once and nothing else. What a class may take as more than itself (a
 * range, a negation, a class within) must have its backslash; the others may. */
static bool is_punctuation(const cJSON *regex) {
    static const char all[] = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";
    bool met[sizeof all] = {false};
    size_t n = cJSON_IsString(regex) ? strlen(regex->valuestring) : 0, count = 0;
    const char *text = n ? regex->valuestring : "";
    if (n < 2 || text[0] != '[' || text[n - 1] != ']') return false;
    for (size_t i = 1; i < n - 1; i++) {
        bool escaped = text[i] == '\\';
        i += escaped;
        const char *at = i < n - 1 ? strchr(all, text[i]) : NULL;
        if (!at || met[at - all] || (!escaped && strchr("[]^-", text[i]))) return false;
        count++, met[at - all] = true;
    }
    return count == sizeof all - 1;
}

/* What a step does that the kinds here do not do of themselves: a cleaning (kinds.h). Blanks they make one, and a piece's mark. */
static bool read_replace(const cJSON *step, unsigned *clean) {
    const cJSON *pattern = get(step, "pattern"), *regex = get(pattern, "Regex"), *with = get(step, "content");
    if (is(with, "")) return *clean |= CLEAN_PUNCTUATION, is_punctuation(regex);
    if (!is(with, " ") && !is(with, "\342\226\201")) return false;
    if (is(regex, "\\s+")) *clean |= CLEAN_SPACES;
    return is(regex, "\\s+") || is(regex, " {2,}") || is(get(pattern, "String"), " ");
}

static bool read_step(const cJSON *step, unsigned *clean) {
    const cJSON *type = get(step, "type");
    if (is(type, "Lowercase")) *clean |= CLEAN_LOWER;
    if (is(type, "Strip") && cJSON_IsTrue(get(step, "strip_left"))) *clean |= CLEAN_SPACES;
    return !is(type, "Replace") || read_replace(step, clean);
}

static bool check_step(const cJSON *step, const char *where, const char *allowed, const char *name, unsigned *clean, err *e) {
    const cJSON *type = get(step, "type");
    if (!read_step(step, clean)) {
        char *found = cJSON_PrintUnformatted(step);
        err_set(e, "%s: %s: %.160s is not supported: blanks made one, or ASCII's punctuation taken out, expected", name, where, found ? found : "");
        cJSON_free(found);
        return false;
    }
    if (cJSON_IsString(type) && listed(allowed, type->valuestring)) return check_values(step, where, name, e);
    return err_set(e, "%s: %s is \"%.40s\", which is not supported here, expected one of%s", name, where,
                   cJSON_IsString(type) ? type->valuestring : "", allowed);
}

/* One step, or a Sequence of them, under `steps`. */
static bool check_steps(const cJSON *root, const char *where, const char *steps, const char *allowed, const char *name, unsigned *clean,
                        err *e) {
    const cJSON *step = get(root, where), *part;
    if (!step || cJSON_IsNull(step)) return true;
    if (!is(get(step, "type"), "Sequence")) return check_step(step, where, allowed, name, clean, e);
    cJSON_ArrayForEach(part, get(step, steps))
        if (!check_step(part, where, allowed, name, clean, e)) return false;
    return true;
}

/* clean: what the file's steps ask for is added. */
static bool check_way(const cJSON *root, const json_way *way, const char *name, unsigned *clean, err *e) {
    return check_steps(root, "normalizer", "normalizers", way->normalizers, name, clean, e) &&
           check_steps(root, "pre_tokenizer", "pretokenizers", way->pre_tokenizers, name, clean, e) &&
           check_steps(root, "post_processor", "processors", way->post_processors, name, clean, e) &&
           check_values(get(root, "model"), "model", name, e);
}

/* ---- start and end ------------------------------------------------------------------------------------- */
/* post_processor.single: special tokens before and behind the text; their ids. */
static void find_marks(const cJSON *root, uint32_t *start, uint32_t *end) {
    const cJSON *post = get(root, "post_processor"), *part, *specials = get(post, "special_tokens");
    bool behind = false;
    *start = *end = NONE;
    cJSON_ArrayForEach(part, get(post, "single")) {
        const cJSON *token = get(get(part, "SpecialToken"), "id");
        if (!token) {
            behind = true;
            continue;
        }
        size_t id;
        const cJSON *ids = cJSON_IsString(token) ? get(get(specials, token->valuestring), "ids") : NULL;
        if (!ids || !ids->child || !json_whole(ids->child, &id) || id >= NONE) continue;
        *(behind ? end : start) = (uint32_t)id;
    }
}

/* ---- base64 (the charsmap) --------------------------------------------------------------------------------- */
static int six_bits(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

static unsigned char *unbase64(const char *text, size_t *n, const char *name, err *e) {
    size_t length = strlen(text);
    unsigned char *out = mem_alloc(length / 4 + 1, 3);
    if (!out) return (void)err_set(e, "%s: no memory for a normaliser of %zu characters", name, length), NULL;
    uint32_t bits = 0;
    int have = 0;
    *n = 0;
    for (size_t i = 0; i < length && text[i] != '='; i++) {
        int v = six_bits(text[i]);
        if (v < 0) {
            mem_free(out);
            return (void)err_set(e, "%s: precompiled_charsmap: character %zu is not base64", name, i), NULL;
        }
        bits = bits << 6 | (uint32_t)v;
        if ((have += 6) >= 8) out[(*n)++] = (unsigned char)(bits >> (have -= 8));
    }
    return out;
}

static bool take_charsmap(const cJSON *step, charsmap *m, const char *name, err *e) {
    const cJSON *packed = get(step, "precompiled_charsmap");
    size_t n;
    if (!cJSON_IsString(packed) || !*packed->valuestring) return true;
    unsigned char *bytes = unbase64(packed->valuestring, &n, name, e);
    charsmap_free(m);
    bool ok = bytes && charsmap_make(m, bytes, n, name, e);
    mem_free(bytes);
    return ok;
}

/* The normalizer's own, or that of one of its steps. */
static bool read_charsmap(const cJSON *normalizer, charsmap *m, const char *name, err *e) {
    const cJSON *part;
    if (!take_charsmap(normalizer, m, name, e)) return false;
    cJSON_ArrayForEach(part, get(normalizer, "normalizers"))
        if (!take_charsmap(part, m, name, e)) return false;
    return true;
}

/* ---- Unigram ------------------------------------------------------------------------------------------------ */
static bool fill_unigram(parts *all, unigram *u, const char *name, err *e) {
    json_cut *list = &all->list[VOCAB];
    const cJSON *root = all->root, *model = get(root, "model"), *item, *special;
    size_t unknown = 0;
    if (!list->start || list->object) return err_set(e, "%s: model.vocab: a list of pieces and scores expected", name);
    while ((item = json_cut_next(list, e))) {
        const cJSON *piece = item->child, *score = piece ? piece->next : NULL;
        if (!cJSON_IsString(piece) || !cJSON_IsNumber(score))
            return err_set(e, "%s: model.vocab, number %zu: [\"piece\", score] expected", name, list->count - 1);
        if (!unigram_add(u, piece->valuestring, strlen(piece->valuestring), score->valuedouble, true, e))
            return err_prefix(e, "%s: model.vocab", name);
    }
    size_t count = list->count;
    if (!list->ended) return false;
    if (!count) return err_set(e, "%s: model.vocab is empty", name);
    if (!json_whole(get(model, "unk_id"), &unknown) || unknown >= count)
        return err_set(e, "%s: model.unk_id: a number below %zu expected", name, count);
    u->unknown = (uint32_t)unknown;
    cJSON_ArrayForEach(special, get(root, "added_tokens")) { /* no text is made of these */
        const cJSON *content = get(special, "content");
        uint32_t id = cJSON_IsString(content) ? spellings_find(&u->pieces, content->valuestring, strlen(content->valuestring)) : NONE;
        if (id != NONE) u->use[id] = 0;
    }
    u->prefix = u->collapse = true;
    return read_charsmap(get(root, "normalizer"), &u->map, name, e);
}

static tokenizer *read_unigram(parts *all, const char *name, unsigned clean, err *e) {
    uint32_t start, end;
    unigram *u = mem_alloc(1, sizeof *u);
    if (!u) return (void)err_set(e, "%s: no memory for a vocabulary", name), NULL;
    if (!fill_unigram(all, u, name, e)) {
        unigram_free(u);
        return NULL;
    }
    find_marks(all->root, &start, &end);
    return tokenizer_make(&unigram_kind, u, clean, start, end, name, e);
}

/* ---- pieces with ids ----------------------------------------------------------------------------------------- */
/* {"piece": id} in the order of the ids, which must be 0, 1, 2... */
static bool fill_pieces(json_cut *vocab, spellings *s, const char *name, err *e) {
    size_t id, count = json_cut_count(vocab);
    const cJSON *v;
    if (!vocab->start || !vocab->object) return err_set(e, "%s: model.vocab: an object of ids expected", name);
    const char **where = mem_alloc(count + 1, sizeof *where); /* by id: the member's place */
    bool ok = where != NULL || err_set(e, "%s: no memory for %zu pieces", name, count);
    if (ok) memset(where, 0, (count + 1) * sizeof *where);
    for (const char *at = vocab->at; ok && (v = json_cut_next(vocab, e)); at = vocab->at) {
        if (!json_whole(v->child, &id) || id >= count || where[id])
            ok = err_set(e, "%s: model.vocab: \"%.40s\": an id of its own below %zu expected", name, v->child->string, count);
        else
            where[id] = at;
    }
    ok = ok && vocab->ended;
    for (size_t i = 0; ok && i < count; i++) {
        json_cut_seek(vocab, where[i], i);
        ok = (v = json_cut_next(vocab, e)) && spellings_add(s, v->child->string, strlen(v->child->string), e) != NONE;
    }
    if (ok && s->count != count) ok = err_set(e, "%s: model.vocab: a piece stands there twice", name);
    mem_free(where);
    return ok && (count || err_set(e, "%s: model.vocab is empty", name));
}

static uint32_t find_piece(const spellings *s, const cJSON *name) {
    return cJSON_IsString(name) ? spellings_find(s, name->valuestring, strlen(name->valuestring)) : NONE;
}

/* ---- BPE over characters ----------------------------------------------------------------------------------------- */
static bool add_merge(pairs *p, const cJSON *m, err *e) {
    const cJSON *a = m->child, *b = a ? a->next : NULL;
    if (cJSON_IsString(m)) {
        const char *space = strchr(m->valuestring + (*m->valuestring == ' '), ' ');
        if (!space) return err_set(e, "merge %zu: two pieces with a space between them expected", p->merges);
        return pairs_merge(p, m->valuestring, (size_t)(space - m->valuestring), space + 1, strlen(space + 1), e);
    }
    if (!cJSON_IsString(a) || !cJSON_IsString(b) || b->next)
        return err_set(e, "merge %zu: \"left right\" or [\"left\", \"right\"] expected", p->merges);
    return pairs_merge(p, a->valuestring, strlen(a->valuestring), b->valuestring, strlen(b->valuestring), e);
}

static bool fill_pairs(parts *all, pairs *p, const char *name, err *e) {
    json_cut *merges = &all->list[MERGES];
    const cJSON *root = all->root, *model = get(root, "model"), *m, *special;
    if (!fill_pieces(&all->list[VOCAB], &p->pieces, name, e)) return false;
    while ((m = json_cut_next(merges, e)))
        if (!add_merge(p, m, e)) return err_prefix(e, "%s", name);
    if (!merges->ended) return false;
    cJSON_ArrayForEach(special, get(root, "added_tokens")) { /* beyond the vocabulary: numbers must go on */
        const cJSON *content = get(special, "content");
        if (cJSON_IsString(content) && find_piece(&p->pieces, content) == NONE &&
            spellings_add(&p->pieces, content->valuestring, strlen(content->valuestring), e) == NONE)
            return false;
    }
    p->unknown = find_piece(&p->pieces, get(model, "unk_token"));
    p->block = true;
    pairs_ready(p);
    return true;
}

static tokenizer *read_pairs(parts *all, const char *name, unsigned clean, err *e) {
    uint32_t start, end;
    if (!cJSON_IsTrue(get(get(all->root, "model"), "byte_fallback"))) {
        err_set(e, "%s: BPE without byte_fallback: CLIP's (\"</w>\"), GPT-2's (ByteLevel) and Gemma's are read, this one is not", name);
        return NULL;
    }
    pairs *p = mem_alloc(1, sizeof *p);
    if (!p) return (void)err_set(e, "%s: no memory for a vocabulary", name), NULL;
    if (!fill_pairs(all, p, name, e)) {
        pairs_free(p);
        return NULL;
    }
    find_marks(all->root, &start, &end);
    return tokenizer_make(&pairs_kind, p, clean, start, end, name, e);
}

/* ---- WordPiece ------------------------------------------------------------------------------------------------------ */
static tokenizer *read_wordpiece(parts *all, const char *name, unsigned clean, err *e) {
    uint32_t start, end;
    const cJSON *model = get(all->root, "model");
    wordpiece *w = mem_alloc(1, sizeof *w);
    if (!w) return (void)err_set(e, "%s: no memory for a vocabulary", name), NULL;
    bool ok = fill_pieces(&all->list[VOCAB], &w->pieces, name, e);
    if (ok && (w->unknown = find_piece(&w->pieces, get(model, "unk_token"))) == NONE)
        ok = err_set(e, "%s: model.unk_token: one of its pieces expected", name);
    if (!ok) {
        wordpiece_free(w);
        return NULL;
    }
    find_marks(all->root, &start, &end);
    return tokenizer_make(&wordpiece_kind, w, clean, start, end, name, e);
}

/* ---- which ---------------------------------------------------------------------------------------------------------- */
static bool is_clips(const cJSON *model) {
    const cJSON *suffix = get(model, "end_of_word_suffix"), *kind = get(model, "type");
    return is(suffix, "</w>") || (!suffix && !kind); /* the shortest form that 1.0 read */
}

static tokenizer *read_clips(const char *bytes, size_t n, const char *name, size_t most_merges, err *e) {
    if (n > JSON_REST_MOST)
        return (void)err_set(e, "%s: CLIP's byte pairs in %zu bytes, at most %d MB expected", name, n, JSON_REST_MOST >> 20), NULL;
    clip_bpe *own = clip_bpe_parse(bytes, n, name, most_merges, e);
    uint32_t vocab = own ? (uint32_t)clip_bpe_vocab(own) : 0;
    return tokenizer_make(&clip_bpe_kind, own, 0, vocab - 2, vocab - 1, name, e);
}

static tokenizer *read_gpt2(const char *bytes, size_t n, const char *name, err *e) {
    if (n > JSON_REST_MOST)
        return (void)err_set(e, "%s: GPT-2's byte pairs in %zu bytes, at most %d MB expected", name, n, JSON_REST_MOST >> 20), NULL;
    return byte_pairs_json(bytes, n, name, e);
}

tokenizer *tokenizer_json_parse(const char *bytes, size_t n, const char *name, size_t most_merges, unsigned clean,
                                err *e) {
    parts all = {.root = NULL};
    tokenizer *t = NULL;
    if ((all.root = json_cut_parse(bytes, n, name, LONG, LISTS, all.list, e))) {
        const cJSON *model = get(all.root, "model"), *kind = get(model, "type");
        if (!is_clips(model) && byte_pairs_is_json(all.root))
            t = read_gpt2(bytes, n, name, e);
        else if (is_clips(model) || (!is(kind, "Unigram") && !is(kind, "WordPiece") && !cJSON_IsTrue(get(model, "byte_fallback"))))
            t = check_way(all.root, &CLIPS_WAY, name, &clean, e) ? read_clips(bytes, n, name, most_merges, e) : NULL;
        else if (is(kind, "Unigram"))
            t = check_way(all.root, &UNIGRAM_WAY, name, &clean, e) ? read_unigram(&all, name, clean, e) : NULL;
        else if (is(kind, "WordPiece"))
            t = check_way(all.root, &WORDPIECE_WAY, name, &clean, e) ? read_wordpiece(&all, name, clean, e) : NULL;
        else if (kind && !is(kind, "BPE"))
            err_set(e, "%s: model.type: BPE, Unigram or WordPiece expected", name);
        else
            t = check_way(all.root, &PAIRS_WAY, name, &clean, e) ? read_pairs(&all, name, clean, e) : NULL;
    }
    for (size_t i = 0; i < LISTS; i++) json_cut_close(&all.list[i]);
    json_free(all.root);
    return t;
}
