/* letters.c - text on pictures, from glyphs that were rasterised once (see image.h; glyphs.h, its licence beside it). */
#include "pictures/image.h"
#include "pictures/glyphs.h"
#include <limits.h>
#include <string.h>

enum { BOX = 0x25A1, ELLIPSIS = 0x2026 };

typedef struct {
    const glyph *glyphs;
    size_t count;
    long base; /* of a line, from its top */
} face;

static face face_of(text_size size) {
    if (size == TEXT_SMALL) return (face){glyphs_small, sizeof glyphs_small / sizeof *glyphs_small, 12};
    return (face){glyphs_plain, sizeof glyphs_plain / sizeof *glyphs_plain, 15};
}

/* The next character of UTF-8 text; a byte that begins none is a box of its own. */
static uint32_t next_character(const char **text) {
    const unsigned char *s = (const unsigned char *)*text;
    size_t more = s[0] < 0x80 ? 0 : (s[0] & 0xE0) == 0xC0 ? 1 : (s[0] & 0xF0) == 0xE0 ? 2 : (s[0] & 0xF8) == 0xF0 ? 3 : 4;
    uint32_t c = more == 4 ? BOX : more ? s[0] & (0x3Fu >> more) : s[0];
    size_t used = 1;
    for (; more < 4 && used <= more; used++) {
        if ((s[used] & 0xC0) != 0x80) { /* cut off in the middle */
            c = BOX;
            break;
        }
        c = c << 6 | (s[used] & 0x3F);
    }
    *text += used;
    return c;
}

/* Sorted by character: halved until it is found. */
static const glyph *find(const face *f, uint32_t c) {
    size_t low = 0, high = f->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (f->glyphs[middle].character < c)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < f->count && f->glyphs[low].character == c) return &f->glyphs[low];
    return c == BOX ? NULL : find(f, BOX);
}

/* Marks that stand on the letter before (what NFC could not compose) and what is not seen at all take no room. */
static bool unseen(uint32_t c) {
    return (c >= 0x300 && c <= 0x36F) || (c >= 0x200B && c <= 0x200F) || c == 0xFEFF || c < ' ';
}

static void stamp(picture *p, long x, long y, const glyph *g, const unsigned char colour[3]) {
    for (long j = 0; j < g->height; j++)
        for (long i = 0; i < g->width; i++) {
            unsigned ink = (unsigned)(g->pixels[j * g->width + i] - 'A');
            if (!ink || x + i < 0 || y + j < 0 || (size_t)(x + i) >= p->width || (size_t)(y + j) >= p->height) continue;
            unsigned char *at = p->rgb + ((size_t)(y + j) * p->width + (size_t)(x + i)) * 3;
            for (int c = 0; c < 3; c++) at[c] = (unsigned char)((at[c] * (15 - ink) + colour[c] * ink + 7) / 15);
        }
}

void picture_text(picture *p, long x, long y, const char *text, text_size size, const unsigned char colour[3]) {
    const face f = face_of(size);
    long pen = 0; /* in 64ths of a pixel */
    if (y > LONG_MAX - 64 || y < LONG_MIN + 64 || x > LONG_MAX / 64 - (1L << 20) || x < LONG_MIN / 64) return;
    while (*text && (x < 0 || (size_t)x + (size_t)(pen / 64) < p->width) && pen < LONG_MAX - (1L << 16)) {
        uint32_t c = next_character(&text);
        const glyph *g = unseen(c) ? NULL : find(&f, c);
        if (!g) continue;
        stamp(p, x + (pen + 32) / 64 + g->left, y + f.base + g->top, g, colour);
        pen += g->advance;
    }
}

size_t text_width(const char *text, text_size size) {
    const face f = face_of(size);
    size_t pen = 0;
    while (*text) {
        uint32_t c = next_character(&text);
        const glyph *g = unseen(c) ? NULL : find(&f, c);
        if (g) pen += (uint16_t)g->advance; /* never below 0 */
    }
    return (pen + 63) / 64;
}

void text_cut(const char *text, text_size size, size_t width, char *out, size_t room) {
    static const char dots[] = "\xE2\x80\xA6"; /* ... */
    size_t whole = strlen(text), kept = 0;
    if (whole < room && text_width(text, size) <= width) {
        memcpy(out, text, whole + 1);
        return;
    }
    *out = 0;
    for (const char *at = text; *at;) {
        (void)next_character(&at);
        size_t n = (size_t)(at - text);
        if (n + sizeof dots > room) break;
        memcpy(out, text, n);
        memcpy(out + n, dots, sizeof dots);
        if (text_width(out, size) > width) break;
        kept = n;
    }
    while (kept && text[kept - 1] == ' ') kept--;
    if (sizeof dots > room) return;
    memcpy(out, text, kept);
    memcpy(out + kept, dots, sizeof dots);
}
