/* tokenizer.h - text to ids: CLIP's byte-pair encoding, sentencepiece, WordPiece; and a trainer for new merges.
 *
 *     tokenizer *tok = tokenizer_open("merges.txt", 0, &e);        // or spiece.model, tokenizer.json, vocab.txt
 *     uint32_t ids[77]; size_t n;
 *     if (!tokenizer_encode(tok, "a photo of a cat", ids, 77, &n, &e)) ...   // 49406 320 1125 539 320 2368 49407
 *     if (!tokenizer_measure(tok, text, &n, &e)) ...                         // how many it would take, uncut
 *     char *text = tokenizer_decode(tok, ids, n, &e);                        // mem_free it
 */
#ifndef TOKENIZER_H
#define TOKENIZER_H
#include "sys/err.h"

/* A tokenizer is never changed by use: any number of threads may encode with the same one. Errors name the file and the
 * line (or the merge's number), what was found and expected. */
typedef struct tokenizer tokenizer;
/* What the file is, its bytes say; gzip is unpacked; at most 64 MB:
 *   merges.txt, bpe_simple_vocab_16e6.txt   CLIP: a "left right" pair a line after a first line that is skipped;
 *                                           most_merges 0: CLIP's rule, at most 48,894, lines beyond are not looked at;
 *                                           the vocabulary is 512 + merges + 2; text is cleaned and split as words.h says
 *                                           GPT-2's, told by lines that begin with its space, U+0120: all merges
 *   tokenizer.json                          CLIP's, Unigram (SigLIP, XLM-V), BPE (Gemma, GPT-2), WordPiece (BERT)
 *   .model                                  sentencepiece, unigram or BPE
 *   vocab.txt                               WordPiece, a piece a line from [PAD] on
 * clean: what is done to texts first (kinds.h); CLIP's own are always cleaned as CLIP does it. */
tokenizer *tokenizer_open(const char *path, size_t most_merges, err *e);
tokenizer *tokenizer_parse(const char *bytes, size_t length, const char *name, size_t most_merges, err *e);
tokenizer *tokenizer_open_as(const char *path, size_t most_merges, unsigned clean, err *e);
tokenizer *tokenizer_parse_as(const char *bytes, size_t length, const char *name, size_t most_merges, unsigned clean,
                              err *e);
/* GPT-2's files in a folder: merges.txt with vocab.json (its ids) or without, or tokenizer.json. */
tokenizer *tokenizer_open_gpt2(const char *folder, err *e);
void tokenizer_free(tokenizer *tok);
size_t tokenizer_vocab(const tokenizer *tok);     /* CLIP: start is vocab-2, end vocab-1 */
const char *tokenizer_name(const tokenizer *tok); /* "CLIP's byte pairs", ... */
/* ids of the text with start and end, *count <= most (1 or more); too long: truncated, the last is end. Not padded.
 * CLIP's <|startoftext|> and <|endoftext|> within the text are those ids. */
bool tokenizer_encode(const tokenizer *tok, const char *text, uint32_t *ids, size_t most, size_t *count, err *e);
/* How many ids the whole text has, start and end included. */
bool tokenizer_measure(const tokenizer *tok, const char *text, size_t *count, err *e);
/* The text of ids, start and end left out; CLIP's word ends are spaces; bytes that are no UTF-8 become U+FFFD. NULL: no
 * memory. mem_free it. */
char *tokenizer_decode(const tokenizer *tok, const uint32_t *ids, size_t count, err *e);

/* Learns `merges` pairs from texts (each cleaned and split as encode does), most frequent first, ties by symbol order
 * (the vocabulary's, left before right). Returns the merges file's text with its first line, zero-terminated; mem_free
 * it. Fewer when nothing is left to merge. */
char *tokenizer_train(const char *const *texts, size_t count, size_t merges, size_t *length, err *e);
#endif
