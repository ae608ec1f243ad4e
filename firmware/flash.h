/* flash.h - a model, a picture and its regions as one block of bytes, read where it lies (flash, ROM, a mapped file).
 *
 *     flash_view v;
 *     clip_block_weights blocks[FLASH_LAYERS];
 *     if (!flash_open(&v, bytes, blocks)) ...            // v.model points into the bytes: nothing is copied
 *     explain_open(&x, &v.model, pixels, v.side, v.side, ...);
 *
 * pack.c writes it on a PC. Little-endian words of 32 bits first (flash_head), then a table of weights in the order of
 * clip_each_weight, then everything else at multiples of 16 bytes. CLIP's own blocks alone (MODEL.md 1, all switches
 * off), image side only: texts come as embeddings.
 */
#ifndef FLASH_H
#define FLASH_H
#include "clip.h"

enum { FLASH_MAGIC = 0x31564B4D /* "MKV1" */, FLASH_LAYERS = 32, FLASH_ALIGN = 16, FLASH_WEIGHTS = 8 + 16 * FLASH_LAYERS };

typedef struct {
    uint32_t magic, bytes;
    uint32_t width, depth, heads, mlp, embed, image, patch, act, pool;
    float eps, mean[3], std[3];
    uint32_t side, layers, iters; /* pixels; explained layers; steps */
    float lr, alpha;
    uint32_t type;                /* clip_type of the matrices */
    uint32_t regions, texts, weights;
    uint32_t pixels, masks;       /* offsets: [side,side,3] bytes; [regions,side,side] bytes, 255 is inside */
    uint32_t queries, names;      /* [texts,embed] floats of unit length; their names, each ended by a zero byte */
    uint32_t truths, table;       /* [regions,embed] floats that a PC found; [weights] flash_weight */
} flash_head;
typedef struct { uint32_t type, rows, cols, transposed, at; } flash_weight;

typedef struct {
    const flash_head *head;
    clip_model model;
    const unsigned char *pixels, *masks;
    const float *queries, *truths;
    const char *names;
} flash_view;
/* bytes at a multiple of 16. False: not such a block, or of another version. blocks [FLASH_LAYERS] are v's from now on. */
bool flash_open(flash_view *v, const void *bytes, clip_block_weights *blocks);
#endif
