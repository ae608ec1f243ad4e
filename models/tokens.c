/* tokens.c - from the files beside a checkpoint to its tokenizer (see tokens.h; MODEL.md 3). */
#include "models/tokens.h"
#include "files/files.h"
#include "files/json.h"
#include "models/config_parts.h"
#include "text/kinds.h"
#include <stdio.h>
#include <string.h>

/* The files by which tokenizers are published, in the order in which they are looked for. CLIP's merges say more than the
 * vocabulary beside them; SigLIP's slow tokenizer (spiece.model) is the one that its processor uses. */
enum { CLIPS = 3 }; /* the first of them are CLIP's merges, beside which a vocab.json may lie */
static const char *const files[] = {"merges.txt",        "bpe_simple_vocab_16e6.txt", "bpe_simple_vocab_16e6.txt.gz",
                                    "spiece.model",      "sentencepiece.model",       "tokenizer.json",
                                    "tokenizer.model",   "sentencepiece.bpe.model",   "vocab.txt"};

enum {
    CANONICAL = CLEAN_UNESCAPE | CLEAN_UNDERSCORE | CLEAN_PUNCTUATION | CLEAN_LOWER | CLEAN_SPACES, /* big_vision's */
    SIGLIP = CLEAN_LOWER | CLEAN_BLOCK | CLEAN_PUNCTUATION | CLEAN_SPACES                           /* SiglipTokenizer */
};

/* The first member of kwargs that asks for something and is none of ours; open_clip's CLIPS has a tokenizer_mode. */
static void find_other(const cJSON *text, const cJSON *kwargs, char out[64]) {
    const cJSON *mode = cJSON_GetObjectItemCaseSensitive(text, "tokenizer_mode"), *v;
    if (cJSON_IsString(mode)) snprintf(out, 64, "tokenizer_mode \"%.30s\"", mode->valuestring);
    cJSON_ArrayForEach(v, kwargs)
        if (!*out && v->string && strcmp(v->string, "clean") && strcmp(v->string, "strip_sep_token") && !config_is_off(v) &&
            !(cJSON_IsString(v) && !*v->valuestring))
            snprintf(out, 64, "tokenizer_kwargs.%.40s", v->string);
}

token_settings tokens_settings(const char *json, size_t length) {
    token_settings s = {.clean = ""};
    err ignored;
    cJSON *root = json_parse(json, length, "config", &ignored); /* it was read before: no error is new */
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model_cfg");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(model ? model : root, "text_cfg");
    const cJSON *kwargs = cJSON_GetObjectItemCaseSensitive(text, "tokenizer_kwargs");
    const cJSON *clean = cJSON_GetObjectItemCaseSensitive(kwargs, "clean");
    if (cJSON_IsString(clean)) snprintf(s.clean, sizeof s.clean, "%s", clean->valuestring);
    find_other(text, kwargs, s.other);
    const cJSON *layout = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "maskinv_cfg"), "texts");
    if (cJSON_IsString(layout)) snprintf(s.layout, sizeof s.layout, "%s", layout->valuestring);
    s.strip_sep = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(kwargs, "strip_sep_token"));
    json_free(root);
    return s;
}

/* What is done to a text before its pieces are looked up (MODEL.md 3.4). CLIP's own byte pairs clean as words.h has it. */
static bool find_cleaning(const tokenizer *t, const token_settings *s, const clip_config *c, const char *layout,
                          unsigned *clean, err *e) {
    static const struct { const char *name; unsigned clean; } rows[] = {
        {"canonicalize", CANONICAL}, {"lower", CLEAN_UNESCAPE | CLEAN_LOWER | CLEAN_SPACES},
        {"whitespace", CLEAN_UNESCAPE | CLEAN_SPACES}, {"", CLEAN_UNESCAPE | CLEAN_SPACES}};
    *clean = 0;
    if (*s->other) return err_set(e, "%s is not supported: its texts would get other ids than it was trained with", s->other);
    if (t->kind == &clip_bpe_kind)
        return !*s->clean || !strcmp(s->clean, "lower") ||
               err_set(e, "tokenizer_kwargs.clean: \"%s\" found, CLIP's own, lower, expected", s->clean);
    if (!strcmp(layout, "big_vision")) return *clean = CANONICAL, true;
    if (!strcmp(layout, "Hugging Face")) {
        if (t->kind == &pairs_kind) *clean = CLEAN_LOWER;                            /* SigLIP 2 */
        if (t->kind == &unigram_kind && c->text_unmasked) *clean = SIGLIP;           /* XLM-V: as it is */
        return true;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].name, s->clean)) return *clean = rows[i].clean, true;
    return err_set(e, "tokenizer_kwargs.clean: \"%s\" found, expected canonicalize, lower or whitespace", s->clean);
}

/* known: the ids of CLIP's start and end are said somewhere, so that rows of the table beyond them are tokens that were added,
 * not merges that are missing. Of other kinds tables are padded to round numbers. No text becomes such an id. */
static tokenizer *fitting(tokenizer *t, const clip_config *c, bool known, const char *name, err *e) {
    if (!t) return NULL;
    bool clips = t->kind == &clip_bpe_kind;
    size_t vocab = tokenizer_vocab(t);
    if (vocab != c->vocab && !(vocab < c->vocab && (!clips || known || clip_bpe_checked(t->own))))
        err_set(e, clips ? "%s: its merges give a vocabulary of %zu, expected the config's %zu"
                         : "%s: its tokenizer has %zu pieces, expected the config's %zu at most", name, vocab, c->vocab);
    else if (clips && c->read == CLIP_READ_EOS && c->eos != t->end)
        err_set(e, "%s: the config's eos id is %zu, its tokenizer's end is %u", name, c->eos, (unsigned)t->end);
    else
        return t;
    tokenizer_free(t);
    return NULL;
}

size_t tokens_pad(const tokenizer *t, const clip_config *c) {
    return t->kind == &clip_bpe_kind ? c->pad : t->kind == &unigram_kind ? 1 : 0;
}

/* ---- CLIP's merges ----------------------------------------------------------------------------------------- */
enum { SYMBOLS = 512, PUBLISHED = 48894 }; /* MODEL.md 3: byte symbols, then merges, then start and end */

/* How many merges there are: up to the start's id where the published vocabulary or the config says an id; else all of the
 * table but its last two, though no more than CLIP has: its merges' file goes on beyond those, and a token added to the table
 * would move start and end. 0 vocabulary: no text side. *known: an id was said. */
static size_t merges_of(const clip_config *c, const cJSON *vocab, bool *known) {
    size_t start = 0, all = c->vocab > SYMBOLS + 2 ? c->vocab - SYMBOLS - 2 : 1;
    *known = true;
    if (json_whole(cJSON_GetObjectItemCaseSensitive(vocab, "<|startoftext|>"), &start) && start > SYMBOLS && start - SYMBOLS <= all)
        return start - SYMBOLS;
    if (c->read == CLIP_READ_EOS && c->eos > SYMBOLS + 1 && c->eos < c->vocab) return c->eos - SYMBOLS - 1;
    *known = all > PUBLISHED;
    return *known ? PUBLISHED : all;
}

static bool has_merges(const clip_config *c, const char *name, err *e) {
    return c->vocab > SYMBOLS + 2 || err_set(e, "%s: the vocabulary has %zu entries, expected more than %d for byte-pair merges", name,
                                             c->vocab, SYMBOLS + 2);
}

tokenizer *tokens_parse(const char *merges, size_t length, const clip_config *c, const char *name, err *e) {
    bool known;
    size_t most = merges_of(c, NULL, &known);
    return has_merges(c, name, e) ? fitting(tokenizer_parse(merges, length, name, most, e), c, known, name, e) : NULL;
}

/* vocab.json beside the merges, NULL if there is none. */
enum { VOCAB_FILE_MOST = 64 << 20 };
static bool read_vocab(const char *folder, char path[4096], cJSON **vocab, err *e) {
    size_t length;
    *vocab = NULL;
    if ((size_t)snprintf(path, 4096, "%s%s", folder, "vocab.json") >= 4096 || !file_exists(path)) return true;
    char *bytes = file_read(path, VOCAB_FILE_MOST, &length, e);
    *vocab = bytes ? json_parse(bytes, length, path, e) : NULL;
    mem_free(bytes);
    return *vocab != NULL;
}

/* The tokenizer of files[i] in the folder; the vocabulary beside CLIP's merges must agree with them. */
static tokenizer *open_beside(const char *folder, size_t i, const char *path, const clip_config *c, bool *known, err *e) {
    char beside[4096];
    cJSON *vocab = NULL;
    if (i < CLIPS && !read_vocab(folder, beside, &vocab, e)) return NULL;
    tokenizer *t = tokenizer_open(path, merges_of(c, vocab, known), e);
    if (t && t->kind == &clip_bpe_kind && vocab && !clip_bpe_check(t->own, vocab, e)) {
        err_prefix(e, "%s", beside);
        tokenizer_free(t);
        t = NULL;
    }
    json_free(vocab);
    return t;
}

tokenizer *tokens_open(const char *folder, const token_settings *s, const clip_config *c, const char *layout,
                       const char *name, err *e) {
    char path[4096];
    char within[4096];
    const char *slash = !*folder || folder[strlen(folder) - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(within, sizeof within, "%s%s", folder, slash) >= sizeof within)
        return (void)err_set(e, "%s: the path is too long", folder), NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files && *folder; i++) {
        if ((size_t)snprintf(path, sizeof path, "%s%s", within, files[i]) >= sizeof path || !file_exists(path)) continue;
        bool known = false;
        tokenizer *t = open_beside(within, i, path, c, &known, e);
        unsigned clean = 0;
        if (t && t->kind == &clip_bpe_kind && !has_merges(c, name, e)) {
            tokenizer_free(t);
            return NULL;
        }
        if (t && !find_cleaning(t, s, c, layout, &clean, e)) {
            err_prefix(e, "%s", name);
            tokenizer_free(t);
            return NULL;
        }
        if (t) t->clean |= clean, t->strip_end = s->strip_sep && t->kind == &wordpiece_kind;
        return fitting(t, c, known, name, e);
    }
    err_set(e, "%s: the tokenizer's merges are missing: expected merges.txt, bpe_simple_vocab_16e6.txt (or .gz), "
               "tokenizer.json, spiece.model, sentencepiece.model or vocab.txt in %s: put the file that the model was published "
               "with there (CLIP's is weights/clip/merges.txt; or give token ids instead of text)",
            name, *folder ? folder : "memory");
    return NULL;
}
