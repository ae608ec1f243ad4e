/* words.c - cleaning and splitting of text (see words.h): bytes -> code points -> repairs -> entities -> lower case
 * -> words. */
#include "text/words.h"
#include "text/repair.h"
#include <string.h>
#include <utf8proc.h>

enum { REPLACEMENT = UTF8_REPLACEMENT, IDOT = 0x130, SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2, IOTA_BELOW = 0x345, LONG_S = 0x17F };

/* ---- kinds of characters --------------------------------------------------------------------- */
static utf8proc_category_t category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }

bool point_is_letter(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool point_is_number(uint32_t c) {
    utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

/* \s of the `regex` module that CLIP uses: Unicode's White_Space. */
bool point_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* What str.strip takes off: the same and the four information separators. */
bool point_is_white(uint32_t c) { return point_is_space(c) || (c >= 0x1C && c <= 0x1F); }

/* Unicode's Case_Ignorable: by category, and the punctuation that stands within words. */
static bool is_case_ignorable(uint32_t c) {
    static const uint16_t within[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
                                      0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: break;
    }
    for (size_t i = 0; i < sizeof within / sizeof within[0]; i++)
        if (c == within[i]) return true;
    return false;
}

/* Unicode's Cased, of those that are not case-ignorable: by category, ordinal signs, Roman numerals, letters in rings
 * and squares. */
static bool is_cased(uint32_t c) {
    utf8proc_category_t k = category(c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT) || c == 0xAA || c == 0xBA ||
           (c >= 0x2160 && c <= 0x217F) || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

/* ---- str.lower ------------------------------------------------------------------------------- */
/* Final: a cased letter before it and none after it, whatever is case-ignorable between them. */
static bool sigma_is_final(const uint32_t *p, size_t n, size_t at) {
    size_t i = at;
    while (i > 0 && is_case_ignorable(p[i - 1])) i--;
    if (i == 0 || !is_cased(p[i - 1])) return false;
    for (i = at + 1; i < n && is_case_ignorable(p[i]);) i++;
    return i == n || !is_cased(p[i]);
}

/* In place; returns the new length. Of all characters only U+0130 becomes two, i and a dot above: there is room, for it
 * was two bytes of the text at least, and points has one place for each byte. */
size_t points_lower(uint32_t *p, size_t n) {
    size_t dotted = 0;
    for (size_t i = 0; i < n; i++) {
        dotted += p[i] == IDOT;
        if (p[i] == SIGMA && sigma_is_final(p, n, i)) p[i] = FINAL_SIGMA;
    }
    size_t total = n + dotted;
    for (size_t i = n, to = total; i-- > 0;) {
        if (p[i] == IDOT) {
            p[--to] = 0x307;
            p[--to] = 'i';
        } else p[--to] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)p[i]);
    }
    return total;
}

/* ---- words ----------------------------------------------------------------------------------- */
bool words_open(words *w, const char *text, err *e) {
    size_t bytes = strlen(text), used;
    *w = (words){mem_alloc(bytes, sizeof *w->points), 0, 0};
    if (!w->points) return err_set(e, "no memory for a text of %zu bytes", bytes);
    for (size_t i = 0; i < bytes; i += used) w->points[w->count++] = utf8_decode(text + i, bytes - i, &used);
    if (!points_repair(w->points, &w->count, e)) {
        words_close(w);
        return false;
    }
    w->count = points_unescape(w->points, w->count);
    w->count = points_unescape(w->points, w->count);
    /* CLIP also makes one space of many, which no word can tell. */
    while (w->count && point_is_white(w->points[w->count - 1])) w->count--;
    while (w->at < w->count && point_is_white(w->points[w->at])) w->at++;
    w->count = w->at + points_lower(w->points + w->at, w->count - w->at);
    return true;
}

void words_close(words *w) {
    mem_free(w->points);
    *w = (words){0};
}

/* Code points of p that match ascii, ignoring case: the long s too is an s, all else is in lower case by now. */
static size_t match(const uint32_t *p, size_t n, const char *ascii) {
    size_t i = 0;
    for (; ascii[i]; i++)
        if (i == n || (p[i] != (uint32_t)ascii[i] && !(p[i] == LONG_S && ascii[i] == 's'))) return 0;
    return i;
}

/* Neither white, letter nor number: [^\s\p{L}\p{N}]. Ignoring case, the iota below is a letter to this set (it folds to
 * iota) but none to \p{L}, so CLIP drops it. */
static bool is_other(uint32_t c) { return c != IOTA_BELOW && !point_is_space(c) && !point_is_letter(c) && !point_is_number(c); }

bool words_next(words *w, const uint32_t **word, size_t *length) {
    static const char *const whole[] = {"<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re",
                                        "'ve",             "'m",            "'ll", "'d"};
    while (w->at < w->count && (point_is_space(w->points[w->at]) || w->points[w->at] == IOTA_BELOW)) w->at++;
    const uint32_t *p = w->points + w->at;
    size_t left = w->count - w->at, n = 0;
    if (left == 0) return false;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0] && !n; i++) n = match(p, left, whole[i]);
    if (!n && point_is_number(p[0])) n = 1;
    if (!n) while (n < left && point_is_letter(p[n])) n++;
    if (!n) while (n < left && is_other(p[n])) n++;
    *word = p;
    *length = n;
    w->at += n;
    return true;
}
