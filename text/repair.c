/* repair.c - ftfy's repairs (see repair.h): curly quotes, ligatures, widths, controls, NFC. */
#include "text/repair.h"
#include "files/utf8.h"
#include "text/words.h"
#include <string.h>
#include <utf8proc.h>

/* windows-1252 for 0x80 to 0x9F; what it leaves open stays. */
static const uint16_t windows[32] = {0x20AC, 0x81,   0x201A, 0x192,  0x201E, 0x2026, 0x2020, 0x2021, 0x2C6,  0x2030, 0x160,
                                     0x2039, 0x152,  0x8D,   0x17D,  0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
                                     0x2013, 0x2014, 0x2DC,  0x2122, 0x161,  0x203A, 0x153,  0x9D,   0x17E,  0x178};

/* A ligature or double letter, and the letters it is taken apart into. */
static const struct { uint16_t from, to[3]; } ligatures[] = {
    {0x132, {'I', 'J'}}, {0x133, {'i', 'j'}}, {0x149, {0x2BC, 'n'}}, {0x1C4, {'D', 0x17D}}, {0x1C5, {'D', 0x17E}},
    {0x1C6, {'d', 0x17E}}, {0x1C7, {'L', 'J'}}, {0x1C8, {'L', 'j'}}, {0x1C9, {'l', 'j'}}, {0x1CA, {'N', 'J'}},
    {0x1CB, {'N', 'j'}}, {0x1CC, {'n', 'j'}}, {0x1F1, {'D', 'Z'}}, {0x1F2, {'D', 'z'}}, {0x1F3, {'d', 'z'}},
    {0xFB00, {'f', 'f'}}, {0xFB01, {'f', 'i'}}, {0xFB02, {'f', 'l'}}, {0xFB03, {'f', 'f', 'i'}},
    {0xFB04, {'f', 'f', 'l'}}, {0xFB05, {0x17F, 't'}}, {0xFB06, {'s', 't'}}};

static size_t one(uint32_t c, uint32_t out[4]) { return out[0] = c, 1; }

static size_t fix_c1(uint32_t c, uint32_t out[4]) { return one(c >= 0x80 && c <= 0x9F ? windows[c - 0x80] : c, out); }

static size_t fix_ligature(uint32_t c, uint32_t out[4]) {
    for (size_t i = 0; c >= 0x132 && i < sizeof ligatures / sizeof *ligatures; i++) {
        if (ligatures[i].from != c) continue;
        size_t n = 0;
        for (; n < 3 && ligatures[i].to[n]; n++) out[n] = ligatures[i].to[n];
        return n;
    }
    return one(c, out);
}

/* Full- and half-width forms become what they are compatible with (NFKC). */
static size_t fix_width(uint32_t c, uint32_t out[4]) {
    utf8proc_int32_t plain[8];
    int last = 0;
    if (c == 0x3000) return one(' ', out);
    if (c < 0xFF01 || c > 0xFFEF) return one(c, out);
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, plain, 8,
                                                 UTF8PROC_COMPAT | UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    if (n > 0 && n <= 8) n = utf8proc_normalize_utf32(plain, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (n < 1 || n > 3) return one(c, out);
    for (utf8proc_ssize_t i = 0; i < n; i++) out[i] = (uint32_t)plain[i];
    return (size_t)n;
}

static size_t fix_quote(uint32_t c, uint32_t out[4]) {
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) return one('\'', out);
    return one(c >= 0x201C && c <= 0x201F ? '"' : c, out);
}

static size_t fix_control(uint32_t c, uint32_t out[4]) {
    bool control = c < 9 || c == 0xB || (c >= 0xE && c < 0x20) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF ||
                   (c >= 0xFFF9 && c <= 0xFFFC);
    return control ? 0 : one(c, out);
}

/* A character's repair over a line, in place: what is taken apart had as many bytes as it has letters now, so that the
 * reading place is never overtaken; but a line that was unescaped may be tight, so room says how far it may grow. */
typedef size_t repair(uint32_t c, uint32_t out[4]);
static size_t each(uint32_t *p, size_t n, size_t room, repair *fix) {
    uint32_t out[4];
    size_t grown = 0, to = 0;
    for (size_t i = 0; i < n; i++) grown += fix(p[i], out);
    if (grown > room) return n;
    size_t shift = grown > n ? grown - n : 0;
    memmove(p + shift, p, n * sizeof *p);
    for (size_t i = 0; i < n; i++) {
        size_t made = fix(p[shift + i], out);
        for (size_t k = 0; k < made; k++) p[to++] = out[k];
    }
    return to;
}

/* "\r\n", "\r", the line and paragraph separators and NEL are newlines. */
static size_t fix_line_breaks(uint32_t *p, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n') continue;
        p[to++] = p[i] == '\r' || p[i] == 0x2028 || p[i] == 0x2029 || p[i] == 0x85 ? '\n' : p[i];
    }
    return to;
}

/* ESC [ numbers ; letter */
static size_t drop_escapes(uint32_t *p, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        size_t k = i + 2;
        if (p[i] == 0x1B && i + 1 < n && p[i + 1] == '[') {
            while (k < n && (p[k] == ';' || (p[k] >= '0' && p[k] <= '9'))) k++;
            if (k < n && ((p[k] | 32) >= 'a' && (p[k] | 32) <= 'z')) {
                i = k;
                continue;
            }
        }
        p[to++] = p[i];
    }
    return to;
}

/* Canonical composition. Below U+0300 all is composed. */
static bool compose(uint32_t *p, size_t *n, size_t room, err *e) {
    size_t i = 0;
    while (i < *n && p[i] < 0x300) i++;
    if (i == *n) return true;
    /* no character's canonical decomposition is longer than four */
    utf8proc_int32_t *work = mem_alloc(*n, 4 * sizeof *work);
    utf8proc_ssize_t used = 0;
    int last = 0;
    if (!work) return err_set(e, "no memory for a text of %zu characters", *n);
    for (i = 0; i < *n; i++) {
        utf8proc_ssize_t made = utf8proc_decompose_char((utf8proc_int32_t)p[i], work + used, 4,
                                                        UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
        if (made < 1 || made > 4) work[used] = (utf8proc_int32_t)p[i], made = 1;
        used += made;
    }
    /* marks in their canonical order, then composed */
    for (utf8proc_ssize_t at = 1; at < used; at++)
        for (utf8proc_ssize_t k = at; k > 0; k--) {
            int b = utf8proc_get_property(work[k])->combining_class, a = utf8proc_get_property(work[k - 1])->combining_class;
            if (b == 0 || a <= b) break;
            utf8proc_int32_t swap = work[k];
            work[k] = work[k - 1];
            work[k - 1] = swap;
        }
    utf8proc_ssize_t count = utf8proc_normalize_utf32(work, used, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (count >= 0 && (size_t)count <= room) {
        for (utf8proc_ssize_t k = 0; k < count; k++) p[k] = (uint32_t)work[k];
        *n = (size_t)count;
    }
    mem_free(work);
    return true;
}

static bool has(const uint32_t *p, size_t n, uint32_t c) {
    for (size_t i = 0; i < n; i++)
        if (p[i] == c) return true;
    return false;
}

/* References that end in ";" alone, as ftfy takes them. */
static size_t unescape_whole(uint32_t *p, size_t n) {
    size_t to = 0;
    for (size_t i = 0; i < n;) {
        size_t k = i + 1, used;
        if (p[i] == '&') {
            if (k < n && p[k] == '#') k++;
            size_t start = k;
            while (k < n && k - start < 24 && p[k] < 0x80 && ((p[k] >= '0' && p[k] <= '9') || ((p[k] | 32) >= 'a' && (p[k] | 32) <= 'z'))) k++;
            if (k > start && k < n && p[k] == ';') {
                uint32_t part[32];
                used = k + 1 - i;
                memcpy(part, p + i, used * sizeof *part);
                size_t made = points_unescape(part, used);
                if (!has(part, made, ';')) {
                    memcpy(p + to, part, made * sizeof *part);
                    to += made, i += used;
                    continue;
                }
            }
        }
        p[to++] = p[i++];
    }
    return to;
}

/* One line, until nothing changes: each round may bring about what the next one repairs. */
static bool repair_line(uint32_t *p, size_t *n, size_t room, bool html, err *e) {
    for (int round = 0; round < 16; round++) {
        size_t before = *n;
        uint64_t hash = 0, after = 0;
        for (size_t i = 0; i < *n; i++) hash = (hash ^ p[i]) * 0x100000001B3u;
        if (html) *n = unescape_whole(p, *n);
        *n = each(p, *n, room, fix_c1);
        *n = each(p, *n, room, fix_ligature);
        *n = each(p, *n, room, fix_width);
        *n = each(p, *n, room, fix_quote);
        *n = fix_line_breaks(p, *n);
        *n = drop_escapes(p, *n);
        *n = each(p, *n, room, fix_control);
        if (!compose(p, n, room, e)) return false;
        for (size_t i = 0; i < *n; i++) after = (after ^ p[i]) * 0x100000001B3u;
        if (*n == before && after == hash) break;
    }
    return true;
}

static bool needs_repair(const uint32_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] > 126 || p[i] == '&' || (p[i] < 32 && p[i] != '\n' && p[i] != '\t')) return true;
    return false;
}

bool points_repair(uint32_t *points, size_t *n, err *e) {
    bool html = true;
    if (!needs_repair(points, *n)) return true;
    uint32_t *line = mem_alloc(*n + 1, 3 * sizeof *line);
    size_t to = 0;
    bool ok = line != NULL || err_set(e, "no memory for a text of %zu characters", *n);
    for (size_t at = 0, next; ok && at < *n; at = next) {
        next = at;
        while (next < *n && points[next++] != '\n') {}
        size_t count = next - at;
        memcpy(line, points + at, count * sizeof *line);
        if (has(line, count, '<')) html = false; /* and for the lines to come, as ftfy has it */
        ok = repair_line(line, &count, 3 * (*n + 1), html, e);
        /* what is read lies behind what is written, unless letters were taken apart: then the rest moves up */
        if (ok && to + count > next) {
            memmove(points + to + count, points + next, (*n - next) * sizeof *points);
            *n += to + count - next;
            next = to + count;
        }
        if (ok) memcpy(points + to, line, count * sizeof *line), to += count;
    }
    if (ok) *n = to;
    mem_free(line);
    return ok;
}

/* A lead byte's letter (Â Ã, â, ð...) followed by what a continuation byte looks like in Latin-1 or windows-1252. */
bool text_misread(const char *text) {
    size_t n = strlen(text), used;
    for (size_t i = 0; i < n; i += used) {
        uint32_t c = utf8_decode(text + i, n - i, &used), next;
        size_t more;
        if (c < 0xC2 || c > 0xF4 || i + used >= n) continue;
        next = utf8_decode(text + i + used, n - i - used, &more);
        bool continues = next >= 0x80 && next <= 0xBF;
        for (size_t k = 0; k < 32; k++) continues = continues || next == windows[k];
        if (continues && (c == 0xC2 || c == 0xC3 || c == 0xE2 || c == 0xF0 || (c >= 0xD0 && c <= 0xD1))) return true;
    }
    return false;
}
