/* rle.h - COCO's run lengths: pixels counted down the columns, runs of 0 and 1 in turn, the first of 0.
 *
 *     unsigned char mask[h * w];                                      // row-major, 0 or 1
 *     if (!rle_decode("PP4", 3, 64, 64, mask, &e)) ...                // compressed counts, as text
 *     rle_painter p = rle_begin(mask, 64, 64);                        // counts as a list
 *     for (...) if (!rle_run(&p, n, &e)) ...
 *     if (!rle_end(&p, &e)) ...                                       // they must fill the picture exactly
 *     rle_encode(mask, 64, 64, &text);                                // back, onto a longtext
 *
 * Compressed: for i > 2 the difference to the run two before, 5 bits a character, low ones first, bit 5 while more
 * follow, the sign in bit 4 of the last, plus 48 (COCO's maskApi).
 */
#ifndef RLE_H
#define RLE_H
#include "files/longtext.h"

typedef struct {
    unsigned char *mask;
    size_t height, width, at; /* at: pixels painted, down the columns */
    unsigned char value;
} rle_painter;
rle_painter rle_begin(unsigned char *mask, size_t height, size_t width);
bool rle_run(rle_painter *p, double n, err *e); /* n as JSON has it: a whole number is expected */
bool rle_end(const rle_painter *p, err *e);

bool rle_decode(const char *counts, size_t length, size_t height, size_t width, unsigned char *mask, err *e);
void rle_encode(const unsigned char *mask, size_t height, size_t width, longtext *out);

/* Pixels inside, and the smallest box x, y, w, h around them; all 0 of an empty mask. */
size_t mask_extent(const unsigned char *mask, size_t height, size_t width, size_t box[4]);
#endif
