/* utf8.h - characters and their bytes.
 *
 *     for (size_t i = 0, used; i < n; i += used) c = utf8_decode(s + i, n - i, &used);
 */
#ifndef UTF8_H
#define UTF8_H
#include <stddef.h>
#include <stdint.h>

enum { UTF8_REPLACEMENT = 0xFFFD };
/* The code point at s, U+FFFD where there is none; *used bytes (at least 1) of n >= 1. */
uint32_t utf8_decode(const char *s, size_t n, size_t *used);
/* A code point as 1 to 4 bytes. */
size_t utf8_encode(uint32_t c, unsigned char bytes[4]);
#endif
