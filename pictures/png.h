/* png.h - PNG files written: chunks, checksums, palettes. image.c reads PNGs (through stb) and writes through this.
 *
 *     png_image i = {.width = w, .height = h, .channels = 3, .pixels = rgb};
 *     if (!png_write("out.png", &i, &e)) ...
 *
 * stb_image_write deflates; its memory comes from mem_alloc, and where it would stop the program the picture
 * is refused with an error. The whole file is made in memory first: it takes up to twice the picture's bytes.
 */
#ifndef PNG_H
#define PNG_H
#include "sys/err.h"

typedef struct {
    size_t width, height, channels;      /* 1 grey (or index, with a palette), 3 rgb */
    const unsigned char *pixels;         /* [height, width, channels] */
    const unsigned char (*palette)[3];   /* NULL: none */
    size_t colours;                      /* of the palette, 1 to 256 */
} png_image;

/* Atomic, as every file here (files.h). */
bool png_write(const char *path, const png_image *image, err *e);
/* CRC-32 of PNG chunks; start with 0, continue with the last result. */
uint32_t png_crc(uint32_t crc, const unsigned char *bytes, size_t n);
#endif
