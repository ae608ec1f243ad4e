/* utf8.c - characters and their bytes (see utf8.h). */
#include "files/utf8.h"

uint32_t utf8_decode(const char *s, size_t n, size_t *used) {
    const unsigned char *b = (const unsigned char *)s;
    uint32_t c = b[0];
    *used = 1;
    if (c < 0x80) return c;
    size_t length = c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (length == 0) return UTF8_REPLACEMENT;
    /* Only the second byte has bounds of its own: no overlong forms, no surrogates, none above U+10FFFF. */
    unsigned low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    c &= 0x7Fu >> length;
    for (; *used < length; ++*used, low = 0x80, high = 0xBF) {
        if (*used == n || b[*used] < low || b[*used] > high) return UTF8_REPLACEMENT;
        c = c << 6 | (b[*used] & 0x3Fu);
    }
    return c;
}

size_t utf8_encode(uint32_t c, unsigned char bytes[4]) {
    static const unsigned char mark[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) bytes[i] = (unsigned char)(0x80 | (c & 0x3F));
    bytes[0] = (unsigned char)(mark[n == 1 ? 0 : n] | c);
    return n;
}

