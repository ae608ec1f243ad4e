/* words.h - text to words, as CLIP cleans and splits it before its byte-pair encoding (MODEL.md 3).
 *
 *     words w;
 *     const uint32_t *word;
 *     size_t length;
 *     if (!words_open(&w, "A dog&#39;s BONE", &e)) ...
 *     while (words_next(&w, &word, &length)) ...   // "a" "dog" "'s" "bone", as code points
 *     words_close(&w);
 *
 * Cleaning is html.unescape twice, str.strip and str.lower of Python. Text is UTF-8; bytes that are not become U+FFFD
 * as by Python's bytes.decode(errors="replace"): one for each longest piece that could have begun a character.
 */
#ifndef WORDS_H
#define WORDS_H
#include "sys/err.h"

typedef struct {
    uint32_t *points; /* the cleaned text */
    size_t count, at; /* code points in all; where the next word is looked for */
} words;

bool words_open(words *w, const char *text, err *e);
/* The next word, in w's memory; false at the end. */
bool words_next(words *w, const uint32_t **word, size_t *length);
void words_close(words *w);

/* The code point at s, U+FFFD where there is none; *used bytes (at least 1) of n >= 1. */
uint32_t utf8_decode(const char *s, size_t n, size_t *used);
/* A code point as 1 to 4 bytes. */
size_t utf8_encode(uint32_t c, unsigned char bytes[4]);
#endif
