/* blocks.h - numbers stored 32 at a time: clip.cpp's quantised weights.
 *
 *     size_t bytes = block_bytes(CLIP_Q4_0);                    // 18: a float16 and 32 numbers of 4 bits; 0: no blocks
 *     real x[BLOCK];
 *     block_unpack(CLIP_Q4_0, stored, x);
 */
#ifndef BLOCKS_H
#define BLOCKS_H
#include "clip.h"

enum { BLOCK = 32 };
size_t block_bytes(clip_type type);
void block_unpack(clip_type type, const unsigned char *p, real x[BLOCK]);
#endif
