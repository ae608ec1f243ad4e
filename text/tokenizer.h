/* tokenizer.h - CLIP's byte-pair encoding: text to ids, and a trainer for new merges.
 *
 *     tokenizer *tok = tokenizer_open("merges.txt", 0, &e);        // or tokenizer_parse(bytes, ...)
 *     uint32_t ids[77]; size_t n;
 *     if (!tokenizer_encode(tok, "a photo of a cat", ids, 77, &n, &e)) ...   // 49406 320 1125 539 320 2368 49407
 */
#ifndef TOKENIZER_H
#define TOKENIZER_H
#include "sys/err.h"

/* Text is cleaned and split as words.h says. A tokenizer is never changed by use: any number of threads may encode with
 * the same one. Errors name the file and the line (or the merge's number), what was found and expected. */
typedef struct tokenizer tokenizer;
/* merges: one "left right" pair a line after a first line that is skipped (a version or header), at most 64 MB; gzip is
 * refused. A Hugging Face tokenizer.json is understood too. most_merges 0: CLIP's rule, at most 48,894; lines beyond are
 * not looked at. The vocabulary is 512 + merges + 2. */
tokenizer *tokenizer_open(const char *path, size_t most_merges, err *e);
tokenizer *tokenizer_parse(const char *bytes, size_t length, const char *name, size_t most_merges, err *e);
void tokenizer_free(tokenizer *tok);
size_t tokenizer_vocab(const tokenizer *tok); /* start is vocab-2, end vocab-1 */
/* ids of the text with start and end, *count <= most (1 or more); too long: truncated, the last is end. Not padded.
 * <|startoftext|> and <|endoftext|> within the text are those ids. */
bool tokenizer_encode(const tokenizer *tok, const char *text, uint32_t *ids, size_t most, size_t *count, err *e);

/* Learns `merges` pairs from texts (each cleaned and split as encode does), most frequent first, ties by symbol order
 * (the vocabulary's, left before right). Returns the merges file's text with its first line, zero-terminated; mem_free
 * it. Fewer when nothing is left to merge. */
char *tokenizer_train(const char *const *texts, size_t count, size_t merges, size_t *length, err *e);
#endif
