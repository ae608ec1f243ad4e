/* draw.c - drawing on pictures: heat over a photograph, outlines of masks, text, fields. Everything is clipped. */
#include "pictures/image.h"
#include <limits.h>
#include <string.h>

/* ---- fields ------------------------------------------------------------------------------------- */
/* Cuts [*at, *at + *n) to [0, limit); false when nothing is left. *skip: how much was cut at the front. */
static bool clip(long *at, size_t *n, size_t limit, size_t *skip) {
    *skip = *at < 0 ? (size_t) - (*at + 1) + 1 : 0;
    if (*skip >= *n || (*at >= 0 && (size_t)*at >= limit)) return false;
    *n -= *skip;
    if (*at < 0) *at = 0;
    if (*n > limit - (size_t)*at) *n = limit - (size_t)*at;
    return *n > 0;
}

void picture_fill(picture *p, long x, long y, size_t w, size_t h, const unsigned char colour[3]) {
    size_t skip;
    if (!clip(&x, &w, p->width, &skip) || !clip(&y, &h, p->height, &skip)) return;
    for (size_t j = 0; j < h; j++) {
        unsigned char *row = p->rgb + (((size_t)y + j) * p->width + (size_t)x) * 3;
        for (size_t i = 0; i < w; i++) memcpy(row + 3 * i, colour, 3);
    }
}

void picture_paste(picture *dst, const picture *src, long x, long y) {
    size_t w = src->width, h = src->height, left, top;
    if (!clip(&x, &w, dst->width, &left) || !clip(&y, &h, dst->height, &top)) return;
    for (size_t j = 0; j < h; j++)
        memcpy(dst->rgb + (((size_t)y + j) * dst->width + (size_t)x) * 3,
               src->rgb + ((top + j) * src->width + left) * 3, w * 3);
}

/* ---- heat ------------------------------------------------------------------------------------------ */
/* From a cold violet over red and orange to a pale yellow: lightness grows evenly, so that the order of values
 * survives printing in grey and the common colour blindnesses. */
static const unsigned char heat_stops[6][3] = {{48, 18, 120},  {126, 28, 128}, {204, 44, 92},
                                               {244, 108, 40}, {252, 184, 44}, {253, 250, 168}};
static const float heat_most = 0.8f; /* opacity of the hottest; the coldest has none */

/* level 0..255 -> colour, opacity 0..256 */
static void heat_colour(unsigned level, unsigned colour[3], unsigned *opacity) {
    unsigned stop = level * 5 / 256, part = level * 5 % 256;
    for (int c = 0; c < 3; c++) colour[c] = (heat_stops[stop][c] * (256 - part) + heat_stops[stop + 1][c] * part) / 256;
    float h = (float)level / 255.0f;
    *opacity = (unsigned)(256.0f * heat_most * h * (1.6f - 0.6f * h) + 0.5f);
}

/* The photograph behind is taken half of its colours, and some of its light where it is cold: heat stands out. */
static unsigned char blend(const unsigned char *photo, int c, unsigned colour, unsigned opacity) {
    unsigned grey = (photo[0] * 5u + photo[1] * 9u + photo[2] * 2u) / 16;
    unsigned behind = (photo[c] + grey) / 2 * 220 / 256;
    return (unsigned char)((behind * (256 - opacity) + colour * opacity) / 256);
}

bool picture_heat(const picture *p, const float *map, size_t mh, size_t mw, picture *out, err *e) {
    size_t n = p->width * p->height;
    unsigned colours[256][3], opacity[256];
    if (!picture_new(p->width, p->height, out, e)) return false;
    float *heat = mem_alloc(n, sizeof *heat);
    if (!heat) {
        picture_free(out);
        return err_set(e, "no memory for a heat map of %zux%zu pixels", p->width, p->height);
    }
    for (unsigned level = 0; level < 256; level++) heat_colour(level, colours[level], &opacity[level]);
    map_resize(map, mh, mw, heat, p->height, p->width);
    for (size_t i = 0; i < n; i++) {
        float h = heat[i] > 0 ? heat[i] < 1 ? heat[i] : 1 : 0; /* NaN is cold */
        unsigned level = (unsigned)(h * 255.0f + 0.5f);
        for (int c = 0; c < 3; c++)
            out->rgb[3 * i + (size_t)c] = blend(p->rgb + 3 * i, c, colours[level][c], opacity[level]);
    }
    mem_free(heat);
    return true;
}

/* ---- outlines --------------------------------------------------------------------------------------- */
/* The mask's value under the picture's pixel x, y is at least 1/2 (bilinear, as map_resize). */
static bool inside(const mask_image *m, const picture *p, size_t x, size_t y) {
    if (m->width == p->width && m->height == p->height) return m->soft[y * m->width + x] >= 0.5f;
    double sx = ((double)x + 0.5) * (double)m->width / (double)p->width - 0.5;
    double sy = ((double)y + 0.5) * (double)m->height / (double)p->height - 0.5;
    if (sx < 0) sx = 0;
    if (sy < 0) sy = 0;
    size_t x0 = (size_t)sx, y0 = (size_t)sy, x1 = x0 + 1 < m->width ? x0 + 1 : x0,
           y1 = y0 + 1 < m->height ? y0 + 1 : y0;
    double fx = sx - (double)x0, fy = sy - (double)y0;
    const float *a = m->soft + y0 * m->width, *b = m->soft + y1 * m->width;
    return (a[x0] * (1 - fx) + a[x1] * fx) * (1 - fy) + (b[x0] * (1 - fx) + b[x1] * fx) * fy >= 0.5;
}

/* A round dot of `size` half pixels across, its centre x, y in half pixels too. */
static void dot_at(picture *p, long x, long y, long size, const unsigned char colour[3]) {
    long reach = size / 2 + 1;
    for (long j = (y - reach) / 2; j <= (y + reach) / 2; j++)
        for (long i = (x - reach) / 2; i <= (x + reach) / 2; i++) {
            long dx = 2 * i + 1 - x, dy = 2 * j + 1 - y;
            if (i < 0 || j < 0 || (size_t)i >= p->width || (size_t)j >= p->height) continue;
            if (4 * (dx * dx + dy * dy) <= size * size + 4)
                memcpy(p->rgb + ((size_t)j * p->width + (size_t)i) * 3, colour, 3);
        }
}

/* A dot on every edge between a pixel inside and one outside. */
static void trace(picture *p, const mask_image *m, long size, const unsigned char colour[3]) {
    for (size_t y = 0; y < p->height; y++) {
        bool here = inside(m, p, 0, y), right = here;
        for (size_t x = 0; x < p->width; x++, here = right) {
            long cx = (long)(2 * x) + 1, cy = (long)(2 * y) + 1;
            if (x + 1 < p->width && (right = inside(m, p, x + 1, y)) != here) dot_at(p, cx + 1, cy, size, colour);
            if (y + 1 < p->height && inside(m, p, x, y + 1) != here) dot_at(p, cx, cy + 1, size, colour);
        }
    }
}

/* Two pixels wide (more on large pictures), with a halo as wide again of the opposite lightness: seen on any ground. */
void picture_outline(picture *p, const mask_image *m, const unsigned char colour[3]) {
    static const unsigned char black[3] = {0, 0, 0}, white[3] = {255, 255, 255};
    size_t side = p->width < p->height ? p->width : p->height;
    long width = side < 750 ? 2 : (long)(side / 500) * 2;
    bool light = colour[0] * 5 + colour[1] * 9 + colour[2] * 2 > 100 * 16;
    trace(p, m, 4 * width, light ? black : white);
    trace(p, m, 2 * width, colour);
}

/* ---- text ---------------------------------------------------------------------------------------------- */
/* ' ' to '~': seven rows of five bits each, top left the highest bit. */
static const uint64_t font[95] = {
    0x000000000, 0x108421004, 0x294A00000, 0x295F57D4A, 0x11F4717C4, 0x672222273, 0x32544564D, 0x108000000, 0x088842082,
    0x208210888, 0x009575480, 0x0084F9080, 0x000001888, 0x0000F8000, 0x00000018C, 0x002222200, 0x3A33AE62E, 0x11842108E,
    0x3A211111F, 0x78217043E, 0x08CA97C42, 0x7E1E0862E, 0x1910F462E, 0x7C2221084, 0x3A317462E, 0x3A317844C, 0x018C03180,
    0x018C03088, 0x088882082, 0x001F07C00, 0x208208888, 0x3A2111004, 0x3A37ADE0F, 0x3A31FC631, 0x7A31F463E, 0x3A308422E,
    0x7A318C63E, 0x7E10F421F, 0x7E10F4210, 0x3A30BC62F, 0x4631FC631, 0x38842108E, 0x1C4210A4C, 0x4654C5251, 0x42108421F,
    0x4775AC631, 0x47359C631, 0x3A318C62E, 0x7A31F4210, 0x3A318D64D, 0x7A31F5251, 0x3E107043E, 0x7C8421084, 0x46318C62E,
    0x46318A944, 0x4631AD771, 0x462A22A31, 0x462A21084, 0x7C222221F, 0x39084210E, 0x020820820, 0x38421084E, 0x115100000,
    0x00000001F, 0x208000000, 0x000E0BE2F, 0x421E8C63E, 0x000E8422E, 0x042F8C62F, 0x000E8FE0E, 0x1928F2108, 0x000F8BC2E,
    0x421E8C631, 0x100C2108E, 0x080610A4C, 0x4212A6292, 0x30842108E, 0x001AAD6B5, 0x001E8C631, 0x000E8C62E, 0x001E8FA10,
    0x000F8BC21, 0x0016CC210, 0x000F8383E, 0x211E42126, 0x00118C66D, 0x00118C544, 0x00118D6AA, 0x001151151, 0x00118BC2E,
    0x001F1111F, 0x088441082, 0x108421084, 0x208411088, 0x0009AC800};

/* The next glyph of a text; what is not ASCII shows as one question mark a character. */
static uint64_t next_glyph(const char **text) {
    unsigned char c = (unsigned char)*(*text)++;
    while (((unsigned char)**text & 0xC0) == 0x80) (*text)++; /* UTF-8 continues */
    return font[(c >= ' ' && c <= '~' ? c : '?') - ' '];
}

void picture_text(picture *p, long x, long y, const char *text, int scale, const unsigned char colour[3]) {
    if (scale < 1 || scale > SHRT_MAX || y > LONG_MAX - 7L * scale) return;
    for (; *text && (x < 0 || (size_t)x < p->width) && x < LONG_MAX - 6L * scale; x += 6L * scale) {
        uint64_t glyph = next_glyph(&text);
        for (int bit = 0; bit < 35; bit++)
            if (glyph >> (34 - bit) & 1)
                picture_fill(p, x + (long)(bit % 5) * scale, y + (long)(bit / 5) * scale, (size_t)scale, (size_t)scale,
                             colour);
    }
}

size_t text_width(const char *text, int scale) {
    size_t n = 0;
    for (; *text; n++) next_glyph(&text);
    return n && scale > 0 ? (6 * n - 1) * (size_t)scale : 0;
}
