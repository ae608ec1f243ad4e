/* fuzz_tokens.c - the first half of the bytes as a tokenizer's file (merges, sentencepiece, tokenizer.json, vocab.txt), the
 * second as text; the whole as a file; and the whole as text. */
#include "text/kinds.h"
#include <string.h>

static void encode(const char *merges, size_t length, const char *text) {
    err e = {0};
    uint32_t ids[77];
    size_t n;
    char *exact = mem_alloc(length ? length : 1, 1); /* nothing stands behind a mapped file */
    if (!exact) return;
    memcpy(exact, merges, length);
    tokenizer *tok = tokenizer_parse(exact, length, "fuzz", 0, &e);
    mem_free(exact);
    if (!tok) return;
    if (tokenizer_encode(tok, text, ids, 77, &n, &e)) {
        bool clips = tok->kind == &clip_bpe_kind;
        if (n > 77) __builtin_trap();
        if (clips && (n < 2 || ids[0] != tokenizer_vocab(tok) - 2 || ids[n - 1] != tokenizer_vocab(tok) - 1)) __builtin_trap();
        for (size_t i = 0; clips && i < n; i++)
            if (ids[i] >= tokenizer_vocab(tok)) __builtin_trap();
        mem_free(tokenizer_decode(tok, ids, n, &e));
    }
    tokenizer_free(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const char merges[] = "#version\na b\nab c</w>\nt h\nth e</w>\n";
    char *text = mem_alloc(1, length + 1);
    mem_hook_cjson();
    if (!text) return 0;
    memcpy(text, bytes, length);
    encode(merges, sizeof merges - 1, text);
    encode(text, length / 2, text + length / 2);
    encode(text, length, "a photo of a cat");
    mem_free(text);
    return 0;
}
