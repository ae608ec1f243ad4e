/* fuzz_tokens.c - the first half of the bytes as a tokenizer's file (merges, sentencepiece, tokenizer.json, vocab.txt), the
 * second as text; the whole as a file; and the whole as text. */
#include "text/kinds.h"
#include <string.h>

static void encode(const tokenizer *tok, const char *text) {
    err e = {0};
    uint32_t ids[77];
    size_t n;
    if (!tokenizer_encode(tok, text, ids, 77, &n, &e)) return;
    bool clips = tok->kind == &clip_bpe_kind;
    if (n > 77) __builtin_trap();
    if (clips && (n < 2 || ids[0] != tokenizer_vocab(tok) - 2 || ids[n - 1] != tokenizer_vocab(tok) - 1)) __builtin_trap();
    for (size_t i = 0; clips && i < n; i++)
        if (ids[i] >= tokenizer_vocab(tok)) __builtin_trap();
    mem_free(tokenizer_decode(tok, ids, n, &e));
}

static void open_and_encode(const char *file, size_t length, const char *text) {
    err e = {0};
    char *exact = mem_alloc(length ? length : 1, 1); /* nothing stands behind a mapped file */
    if (!exact) return;
    memcpy(exact, file, length);
    tokenizer *tok = tokenizer_parse(exact, length, "fuzz", 0, &e);
    mem_free(exact);
    if ((tok == NULL) != (e.text[0] != 0)) __builtin_trap(); /* an error without a message, or the reverse */
    if (tok) encode(tok, text);
    tokenizer_free(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const char merges[] = "#version\na b\nab c</w>\nt h\nth e</w>\n";
    static tokenizer *clips; /* of the first run, for all */
    char *text = mem_alloc(1, length + 1);
    err e = {0};
    mem_hook_cjson();
    if (!text) return 0;
    memcpy(text, bytes, length);
    if (!clips) clips = tokenizer_parse(merges, sizeof merges - 1, "fuzz", 0, &e);
    if (!clips) __builtin_trap();
    encode(clips, text);
    open_and_encode(text, length / 2, text + length / 2);
    open_and_encode(text, length, "a photo of a cat");
    mem_free(text);
    return 0;
}
