/* html.c - html.unescape (see words.h): references become the characters that they stand for. */
#include "text/entities.h"
#include "text/words.h"
#include <string.h>

/* The code point that "&#number;" stands for; false where it stands for nothing at all. HTML reads 0x80 to 0x9F as
 * windows-1252. */
static bool numbered(uint32_t number, uint32_t *value) {
    static const uint16_t windows[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021,
                                         0x2C6,  0x2030, 0x160,  0x2039, 0x152,  0x8D,   0x17D,  0x8F,
                                         0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                         0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};
    *value = number;
    if (number >= 0x80 && number <= 0x9F) *value = windows[number - 0x80];
    else if (number == 0 || (number >= 0xD800 && number <= 0xDFFF) || number > 0x10FFFF) *value = UTF8_REPLACEMENT;
    else if (number < 0x20) return number == '\t' || number == '\n' || number == '\f' || number == '\r';
    else return number != 0x7F && !(number >= 0xFDD0 && number <= 0xFDEF) && (number & 0xFFFE) != 0xFFFE;
    return true;
}

static uint32_t digit(uint32_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* "#123;" or "#x7B;" at p, its semicolon optional. Code points used, 0 if it is none; *made 0 or 1 value. */
static size_t numeric_reference(const uint32_t *p, size_t n, uint32_t value[2], size_t *made) {
    size_t i = 1;
    uint32_t base = 10, number = 0;
    if (n > 1 && (p[1] == 'x' || p[1] == 'X')) base = 16, i = 2;
    size_t start = i;
    for (; i < n && digit(p[i]) < base; i++)
        if (number <= 0x10FFFF) number = number * base + digit(p[i]); /* stays above, cannot overflow */
    if (i == start) return 0;
    *made = numbered(number, &value[0]);
    return i < n && p[i] == ';' ? i + 1 : i;
}

static const entity *entity_find(const char *name, size_t length) {
    size_t low = 0, high = ENTITY_COUNT;
    while (low < high) {
        size_t middle = (low + high) / 2, its = (size_t)(entities[middle + 1].at - entities[middle].at);
        int order = memcmp(name, entity_names + entities[middle].at, length < its ? length : its);
        if (order == 0 && length == its) return &entities[middle];
        if (order < 0 || (order == 0 && length < its)) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

/* "name;" at p; or, of the old names that need no semicolon, the longest that p begins with ("notit;" is "not"). */
static size_t named_reference(const uint32_t *p, size_t n, uint32_t value[2], size_t *made) {
    char name[ENTITY_LONGEST];
    size_t length = 0, used = 0;
    const entity *found = NULL;
    for (; length < n && length < ENTITY_LONGEST && p[length] < 0x80; length++) {
        if (digit(p[length]) > 9 && !(p[length] >= 'a' && p[length] <= 'z') && !(p[length] >= 'A' && p[length] <= 'Z')) break;
        name[length] = (char)p[length];
    }
    if (length < n && p[length] == ';' && (found = entity_find(name, length))) used = length + 1;
    if (length > ENTITY_BARE_LONGEST) length = ENTITY_BARE_LONGEST;
    for (; !used && length > 1; length--)
        if ((found = entity_find(name, length)) && found->bare) used = length;
    if (!used) return 0;
    value[0] = found->first;
    value[1] = found->second;
    *made = found->second ? 2 : 1;
    return used;
}

/* In place: no reference is shorter than what it stands for. Returns the new length. */
size_t points_unescape(uint32_t *p, size_t n) {
    size_t to = 0;
    for (size_t at = 0; at < n;) {
        uint32_t value[2] = {0, 0};
        size_t made = 0, used = 0, left = n - at - 1;
        if (p[at] == '&' && left)
            used = p[at + 1] == '#' ? numeric_reference(p + at + 1, left, value, &made)
                                    : named_reference(p + at + 1, left, value, &made);
        if (!used) value[0] = p[at], made = 1;
        at += 1 + used;
        for (size_t i = 0; i < made; i++) p[to++] = value[i];
    }
    return to;
}
