/* blocks.c - blocks of 32 numbers as real (see blocks.h). The types: GGML's, MODEL.md 7.
 *
 *     Q4_0  d, 16 bytes           x = d (q - 8)      d, m: float16
 *     Q4_1  d, m, 16 bytes        x = d q + m        q: 4 bits; low halves of the bytes are numbers 0 to 15, high ones 16
 *     Q5_0  d, u32, 16 bytes      x = d (q - 16)     to 31; bit i of the u32 is the fifth of number i
 *     Q5_1  d, m, u32, 16 bytes   x = d q + m
 *     Q8_0  d, 32 bytes           x = d q            q: signed
 */
#include "blocks.h"
#include "kernels.h"

static const struct {
    unsigned char bytes, bits, centre; /* centre: subtracted from q; 0: there is an m */
} TYPES[] = {
    [CLIP_Q4_0] = {18, 4, 8}, [CLIP_Q4_1] = {20, 4, 0}, [CLIP_Q5_0] = {22, 5, 16},
    [CLIP_Q5_1] = {24, 5, 0}, [CLIP_Q8_0] = {34, 8, 0},
};

size_t block_bytes(clip_type type) { return TYPES[type].bytes; }

static real half_at(const unsigned char *p) {
    uint16_t h = (uint16_t)(p[0] | p[1] << 8);
    real x;
    k_from_half(&h, &x, 1);
    return x;
}

void block_unpack(clip_type type, const unsigned char *p, real x[BLOCK]) {
    real d = half_at(p), m = 0;
    uint32_t fifth = 0;
    p += 2;
    if (TYPES[type].bits == 8) {
        for (size_t i = 0; i < BLOCK; i++) x[i] = d * (real)(p[i] < 128 ? p[i] : p[i] - 256);
        return;
    }
    if (TYPES[type].centre) m = -d * (real)TYPES[type].centre;
    else m = half_at(p), p += 2;
    if (TYPES[type].bits == 5) {
        for (unsigned k = 0; k < 4; k++) fifth |= (uint32_t)p[k] << 8 * k;
        p += 4;
    }
    for (unsigned i = 0; i < BLOCK; i++) {
        unsigned q = (i < 16 ? p[i] & 15u : p[i - 16] >> 4) | (fifth >> i & 1) << 4;
        x[i] = d * (real)q + m;
    }
}
