/* gguf.h - what gguf.c and gguf_merges.c share: the merges that a list of tokens was made of.
 *
 *     char why[200], *merges = gguf_merges(list, count, why, sizeof why);    // "h e\nhe l\n...", mem_free it
 */
#ifndef GGUF_H
#define GGUF_H
#include "sys/err.h"

/* list: `count` texts in id order, each u64 length and its bytes, lying within memory: 512 letters, the merges'
 * results, 2 specials. The merges as merges.txt has them; NULL: the list is not made so, or no memory, which `why` says. */
char *gguf_merges(const unsigned char *list, size_t count, char *why, size_t room);
#endif
