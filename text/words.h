/* words.h - text to words, as CLIP cleans and splits it before its byte-pair encoding (MODEL.md 3).
 *
 *     words w;
 *     const uint32_t *word;
 *     size_t length;
 *     if (!words_open(&w, "A dog&#39;s BONE", &e)) ...
 *     while (words_next(&w, &word, &length)) ...   // "a" "dog" "'s" "bone", as code points
 *     words_close(&w);
 *
 * Cleaning is ftfy's repairs (repair.h), then html.unescape twice, str.strip and str.lower of Python. Text is UTF-8; bytes that are not become U+FFFD
 * as by Python's bytes.decode(errors="replace"): one for each longest piece that could have begun a character.
 */
#ifndef WORDS_H
#define WORDS_H
#include "files/utf8.h"
#include "sys/err.h"

typedef struct {
    uint32_t *points; /* the cleaned text */
    size_t count, at; /* code points in all; where the next word is looked for */
} words;

bool words_open(words *w, const char *text, err *e);
/* The next word, in w's memory; false at the end. */
bool words_next(words *w, const uint32_t **word, size_t *length);
void words_close(words *w);

/* ---- pieces of the cleaning, on code points in place ---- */
bool point_is_white(uint32_t c);                      /* what str.strip takes off */
bool point_is_space(uint32_t c);                      /* \s, \p{L} and \p{N} of the regex module */
bool point_is_letter(uint32_t c);
bool point_is_number(uint32_t c);
size_t points_unescape(uint32_t *points, size_t n);   /* html.unescape; the new length */
/* str.lower; the new length, which is above n where U+0130 stands (its two bytes of text left room for two). */
size_t points_lower(uint32_t *points, size_t n);
#endif
