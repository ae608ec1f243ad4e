/* simd.h - one function, several instruction sets: where compiler and loader can (x86-64, glibc), a
 * SIMD_KERNEL (SIMD_LOCAL where it is static) is compiled for each and the loader picks one at start. No intrinsics, the
 * plain C is the only text. */
#ifndef SIMD_H
#define SIMD_H
#include <string.h> /* defines __GLIBC__ where it is glibc */

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(NO_CLONES) && !defined(__clang__) && defined(__GNUC__) && \
    __GNUC__ >= 12
#define SIMD_KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define SIMD_LOCAL SIMD_KERNEL
#elif defined(__x86_64__) && defined(__GLIBC__) && !defined(NO_CLONES) && defined(__clang__) && __clang_major__ >= 14
/* The processors that the levels were named after: all that clang's loader code knows by name. It gives the clones
 * another name than other files call, so only functions of one file have them. */
#define SIMD_KERNEL
#define SIMD_LOCAL __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define SIMD_KERNEL
#define SIMD_LOCAL
#endif

/* What becomes part of every clone, or its loop would not vectorise; and loops over what lies in registers: unrolled, or kept as they are. */
#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif
#if defined(__GNUC__) && !defined(__clang__)
#define UNROLLED _Pragma("GCC unroll 16")
#define ROLLED
#elif defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)") /* else what it fills stays in memory: thirty times slower */
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define UNROLLED
#define ROLLED
#endif
#endif
