/* nearest.h - the word that was probably meant.
 *
 *     const char *word = nearest_word("surgry", words, 12);      // "surgery"; NULL: none is near
 */
#ifndef NEAREST_H
#define NEAREST_H
#include <stddef.h>

/* The word with the fewest letters put in, left out, changed or swapped, if these are at most a third of it (and 1 of 3). */
const char *nearest_word(const char *word, const char *const *words, size_t count);
#endif
