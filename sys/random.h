/* random.h - splitmix64 (Steele, Lea, Flood 2014): random numbers that are the same on every machine.
 *
 *     rng r = rng_start(seed, index);              // a stream of its own for each pair
 *     float angle = rng_range(&r, -20, 20);
 *     double u = mix_unit(key, n);                 // no stream: the n-th number of a key
 */
#ifndef RANDOM_H
#define RANDOM_H
#include "base.h"
#include <math.h>

#define RNG_GOLDEN 0x9E3779B97F4A7C15u /* 2^64 over the golden ratio: the step of the stream */
#define RNG_KEYED 0xD1342543DE82EF95u  /* odd, spreads a second key over all bits */

static inline uint64_t scramble(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* ---- streams -------------------------------------------------------------------------------------- */
typedef struct { uint64_t state; } rng;

static inline uint64_t rng_next(rng *r) { return scramble(r->state += RNG_GOLDEN); }
/* A stream for each (a, b): neighbours share nothing. */
static inline rng rng_start(uint64_t a, uint64_t b) {
    rng r = {a};
    uint64_t first = rng_next(&r);
    r.state = first ^ (b * RNG_KEYED + 0x632BE59BD9B4E019u);
    r.state = rng_next(&r);
    return r;
}
static inline float rng_unit(rng *r) { return (float)(rng_next(r) >> 40) * (1.0f / 16777216.0f); }
static inline float rng_range(rng *r, float low, float high) { return low + (high - low) * rng_unit(r); }
static inline size_t rng_below(rng *r, size_t n) { return (size_t)(((rng_next(r) >> 32) * (uint64_t)n) >> 32); }
static inline bool rng_chance(rng *r, float p) { return rng_unit(r) < p; }

/* ---- numbers by key ------------------------------------------------------------------------------- */
/* A number from 0 to 2^64-1 that depends on a and b alone. */
static inline uint64_t mix64(uint64_t a, uint64_t b) { return scramble((scramble(a + RNG_GOLDEN) ^ (b * RNG_KEYED)) + RNG_GOLDEN); }
/* The same in [0,1). */
static inline double mix_unit(uint64_t a, uint64_t b) { return (double)(mix64(a, b) >> 11) * 0x1p-53; }
/* Normally distributed, by Box and Muller. */
static inline double mix_normal(uint64_t a, uint64_t b) {
    double u = 1 - mix_unit(a, 2 * b), v = mix_unit(a, 2 * b + 1);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}
#endif
