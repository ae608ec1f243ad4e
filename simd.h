/* simd.h - one function, several instruction sets: where compiler and loader can (x86-64, glibc), a
 * SIMD_KERNEL is compiled for each and the loader picks one at start. No intrinsics, the plain C is the only text. */
#ifndef SIMD_H
#define SIMD_H
#include <string.h> /* defines __GLIBC__ where it is glibc */

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(NO_CLONES) &&                            \
    !defined(__clang__) && __GNUC__ >= 12
#define SIMD_KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIMD_KERNEL
#endif
#endif
