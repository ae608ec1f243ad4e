/* make_glyphs.c - rasterises a font once, for pictures/glyphs.h:
 *
 *     cc -I/usr/include/stb test/make_glyphs.c -o /tmp/make_glyphs -lm        (Debian: libstb-dev fonts-dejavu-core)
 *     /tmp/make_glyphs /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf >pictures/glyphs.h
 *
 * Latin with accents, Greek, Cyrillic, and the signs that texts and tables hold. A glyph is one line: its character, how far
 * it moves on (in 64ths of a pixel), its corner from the base line's start, its sides, its pixels from 'A' (none) to 'P' (full).
 */
#define STB_TRUETYPE_IMPLEMENTATION
#define STBTT_STATIC
#include <stb_truetype.h>
#include <stdio.h>
#include <stdlib.h>

static const struct { int first, last; } ranges[] = {
    {0x20, 0x7E}, {0xA0, 0x17F}, {0x192, 0x192}, {0x218, 0x21B}, {0x2C6, 0x2C7}, {0x2D8, 0x2DD}, {0x384, 0x38A},
    {0x38C, 0x38C}, {0x38E, 0x3A1}, {0x3A3, 0x3CE}, {0x400, 0x45F}, {0x490, 0x491}, {0x1E9E, 0x1E9E}, {0x2010, 0x2015},
    {0x2018, 0x201E}, {0x2020, 0x2022}, {0x2026, 0x2026}, {0x2030, 0x2030}, {0x2032, 0x2033}, {0x2039, 0x203A},
    {0x20AC, 0x20AC}, {0x2116, 0x2116}, {0x2122, 0x2122}, {0x2190, 0x2193}, {0x2202, 0x2202}, {0x2206, 0x2206},
    {0x2211, 0x2212}, {0x221A, 0x221A}, {0x221E, 0x221E}, {0x2248, 0x2248}, {0x2260, 0x2260}, {0x2264, 0x2265},
    {0x25A1, 0x25A1}, {0xFFFD, 0xFFFD}};

int main(int argc, char **argv) {
    static unsigned char file[2 << 20];
    stbtt_fontinfo font;
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (!f || !fread(file, 1, sizeof file, f) || !stbtt_InitFont(&font, file, 0)) {
        fprintf(stderr, "usage: make_glyphs FONT.ttf\n");
        return 1;
    }
    fclose(f);
    printf("/* glyphs.h - DejaVu Sans at two sizes, for the text in pictures (see draw.c). Made by test/make_glyphs.c: do not edit.\n"
           " * The font's licence: GLYPHS-LICENCE beside this file. */\n"
           "#ifndef GLYPHS_H\n#define GLYPHS_H\n"
           "#include <stdint.h>\n\n"
           "/* Of one character: 64ths of a pixel to the next; left, top of its pixels from the pen on the base line; 'A' to 'P' is\n"
           " * nothing to full. */\n"
           "typedef struct { uint32_t character; int16_t advance; signed char left, top; unsigned char width, height; const char *pixels; } glyph;\n");
    for (int size = 0; size < 2; size++) {
        float scale = stbtt_ScaleForMappingEmToPixels(&font, size ? 15 : 12);
        printf("\nstatic const glyph glyphs_%s[] = {\n", size ? "plain" : "small");
        for (size_t r = 0; r < sizeof ranges / sizeof *ranges; r++)
            for (int c = ranges[r].first; c <= ranges[r].last; c++) {
                int advance, bearing, w = 0, h = 0, left = 0, top = 0;
                if (c != 0x25A1 && !stbtt_FindGlyphIndex(&font, c)) continue;
                stbtt_GetCodepointHMetrics(&font, c, &advance, &bearing);
                unsigned char *p = stbtt_GetCodepointBitmap(&font, scale, scale, c, &w, &h, &left, &top);
                printf("    {0x%X, %d, %d, %d, %d, %d, \"", c, (int)((float)advance * scale * 64 + .5f), left, top, w, h);
                for (int i = 0; i < w * h; i++) putchar('A' + (p[i] * 15 + 127) / 255);
                printf("\"},\n");
                stbtt_FreeBitmap(p, NULL);
            }
        printf("};\n");
    }
    printf("#endif\n");
    return 0;
}
