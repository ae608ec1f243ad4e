/* tokens.c - from the files beside a checkpoint to its tokenizer (see tokens.h; MODEL.md 3). */
#include "models/tokens.h"
#include "files/files.h"
#include "files/json.h"
#include "text/kinds.h"
#include <stdio.h>
#include <string.h>

/* The files by which tokenizers are published, in the order in which they are looked for. CLIP's merges say more than the
 * vocabulary beside them; SigLIP's slow tokenizer (spiece.model) is the one that its processor uses. */
static const char *const files[] = {"merges.txt",        "bpe_simple_vocab_16e6.txt", "bpe_simple_vocab_16e6.txt.gz",
                                    "spiece.model",      "sentencepiece.model",       "tokenizer.json",
                                    "tokenizer.model",   "sentencepiece.bpe.model",   "vocab.txt"};

enum {
    CANONICAL = CLEAN_UNESCAPE | CLEAN_UNDERSCORE | CLEAN_PUNCTUATION | CLEAN_LOWER | CLEAN_SPACES, /* big_vision's */
    SIGLIP = CLEAN_LOWER | CLEAN_BLOCK | CLEAN_PUNCTUATION | CLEAN_SPACES                           /* SiglipTokenizer */
};

token_settings tokens_settings(const char *json, size_t length) {
    token_settings s = {.clean = ""};
    err ignored;
    cJSON *root = json_parse(json, length, "config", &ignored); /* it was read before: no error is new */
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(root, "model_cfg");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(model ? model : root, "text_cfg");
    const cJSON *kwargs = cJSON_GetObjectItemCaseSensitive(text, "tokenizer_kwargs");
    const cJSON *clean = cJSON_GetObjectItemCaseSensitive(kwargs, "clean");
    if (cJSON_IsString(clean)) snprintf(s.clean, sizeof s.clean, "%s", clean->valuestring);
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
    if (t->kind == &clip_bpe_kind) return true;
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

static tokenizer *fitting(tokenizer *t, const clip_config *c, const char *name, err *e) {
    if (!t || tokenizer_vocab(t) == c->vocab) return t;
    /* tables of embeddings are padded to round numbers; ids beyond the tokenizer's are never asked for */
    if (t->kind != &clip_bpe_kind && tokenizer_vocab(t) < c->vocab) return t;
    if (t->kind == &clip_bpe_kind)
        err_set(e, "%s: its merges give a vocabulary of %zu, expected the config's %zu", name, tokenizer_vocab(t), c->vocab);
    else
        err_set(e, "%s: its tokenizer has %zu pieces, expected the config's %zu at most", name, tokenizer_vocab(t), c->vocab);
    tokenizer_free(t);
    return NULL;
}

size_t tokens_pad(const tokenizer *t, const clip_config *c) {
    return t->kind == &clip_bpe_kind ? c->pad : t->kind == &unigram_kind ? 1 : 0;
}

/* MODEL.md 3: 512 byte symbols, start, end */
static size_t merges_of(const clip_config *c) { return c->vocab > 514 ? c->vocab - 514 : 1; }

tokenizer *tokens_parse(const char *merges, size_t length, const clip_config *c, const char *name, err *e) {
    if (c->vocab > 514) return fitting(tokenizer_parse(merges, length, name, merges_of(c), e), c, name, e);
    err_set(e, "%s: the vocabulary has %zu entries, expected more than 514 for byte-pair merges", name, c->vocab);
    return NULL;
}

tokenizer *tokens_open(const char *folder, const token_settings *s, const clip_config *c, const char *layout,
                       const char *name, err *e) {
    char path[4096];
    const char *slash = !*folder || folder[strlen(folder) - 1] == '/' ? "" : "/";
    for (size_t i = 0; i < sizeof files / sizeof *files && *folder; i++) {
        if ((size_t)snprintf(path, sizeof path, "%s%s%s", folder, slash, files[i]) >= sizeof path || !file_exists(path)) continue;
        tokenizer *t = tokenizer_open(path, merges_of(c), e);
        unsigned clean = 0;
        if (t && t->kind == &clip_bpe_kind && c->vocab <= 514) {
            tokenizer_free(t);
            return (void)err_set(e, "%s: the vocabulary has %zu entries, expected more than 514 for byte-pair merges", name, c->vocab), NULL;
        }
        if (t && !find_cleaning(t, s, c, layout, &clean, e)) {
            err_prefix(e, "%s", name);
            tokenizer_free(t);
            return NULL;
        }
        if (t) t->clean = clean, t->strip_end = s->strip_sep && t->kind == &wordpiece_kind;
        return fitting(t, c, name, e);
    }
    err_set(e, "%s: the tokenizer's merges are missing: expected merges.txt, bpe_simple_vocab_16e6.txt (or .gz), "
               "tokenizer.json, spiece.model, sentencepiece.model or vocab.txt in %s: put the file that the model was published "
               "with there (CLIP's is weights/clip/merges.txt; or give token ids instead of text)",
            name, *folder ? folder : "memory");
    return NULL;
}
