/* x_speed.c - the rate of matrix products (see x_speed.h). */
#include "x_speed.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sys/err.h"
#include "sys/threads.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

size_t own_memory(const char *kind) {
    char line[200];
    size_t kb = 0;
    if (SANITIZED && !strcmp(kind, "RssAnon:")) return 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, kind, strlen(kind))) kb = strtoul(line + strlen(kind), NULL, 10);
    if (f) fclose(f);
    return kb << 10;
}

double work_seconds(const pool *cores) {
    return cores && cores->width > 1 ? seconds_now() : (double)clock() / CLOCKS_PER_SEC;
}

double sgemm_rate(pool *cores, size_t n, size_t D) {
    size_t F = 4 * D, count = 1 + (size_t)(4e9 / (2.0 * (double)n * (double)F * (double)D));
    real *x = mem_alloc(n * D, sizeof *x), *w = mem_alloc(F * D, sizeof *w), *y = mem_alloc(n * F, sizeof *y);
    double start = 0, seconds = 0;
    for (size_t i = 0; x && w && y && i <= count; i++) {
        if (i == 1) start = work_seconds(cores); /* the first one warms up */
        gemm_spread(cores, NO_T, T, n, F, D, 1, x, D, w, D, 0, y, F);
        seconds = work_seconds(cores) - start;
    }
    mem_free(x), mem_free(w), mem_free(y);
    return x && w && y ? 2.0 * (double)(n * F) * (double)D * (double)count / seconds : 0;
}

double spared_flop(double n, double D) { return (n - 1) * (20 * D * D + 4 * n * D); }

/* ---- the processor's own limit ------------------------------------------------------------------------------------ */
#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif
enum { CHAINS = 12, ROUNDS = 100000, WIDEST = 16 };

/* CHAINS independent sums of w numbers each, in registers. */
static ALWAYS_INLINE void rounds(const size_t w, real *out) {
    real x[CHAINS][WIDEST];
    for (size_t r = 0; r < CHAINS; r++)
        for (size_t j = 0; j < w; j++) x[r][j] = (real)(r + j);
    for (size_t i = 0; i < ROUNDS; i++)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 16
#endif
        for (size_t r = 0; r < CHAINS; r++)
#pragma omp simd
            for (size_t j = 0; j < w; j++) x[r][j] = x[r][j] * (real)0.999 + (real)0.001;
    for (size_t r = 0; r < CHAINS; r++)
        for (size_t j = 0; j < w; j++) out[j] += x[r][j];
}

static void rounds_plain(real *out) { rounds(16 / sizeof(real), out); }
#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx512f"))) static void rounds_v4(real *out) { rounds(64 / sizeof(real), out); }
__attribute__((target("avx2,fma"))) static void rounds_v3(real *out) { rounds(32 / sizeof(real), out); }
static bool has_v4(void) { return __builtin_cpu_supports("avx512f"); }
static bool has_v3(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
static void (*const rounds_v4)(real *) = rounds_plain, (*const rounds_v3)(real *) = rounds_plain;
static bool has_v4(void) { return false; }
static bool has_v3(void) { return false; }
#endif

typedef struct { real sum[WIDEST]; char apart[64]; } spun;
static void spin(void *arg, size_t i) {
    spun *s = (spun *)arg + i;
    (has_v4() ? rounds_v4 : has_v3() ? rounds_v3 : rounds_plain)(s->sum);
}

double fma_rate(pool *cores) {
    size_t width = cores ? cores->width : 1, lanes = (has_v4() ? 64 : has_v3() ? 32 : 16) / sizeof(real);
    spun *s = mem_alloc(width, sizeof *s);
    double best = 0;
    double end = seconds_now() + 0.15;
    while (s && seconds_now() < end) {
        double start = work_seconds(cores);
        spread(cores, width, spin, s);
        double rate = 2.0 * (double)CHAINS * (double)lanes * (double)ROUNDS * (double)width / (work_seconds(cores) - start);
        best = rate > best ? rate : best;
    }
    mem_free(s);
    return best;
}
