/* base.h - what every file of the core shares: the number type, faults, the arena.
 *
 *     unsigned char room[1 << 20];
 *     arena a;
 *     arena_init(&a, room, sizeof room);
 *     real *x = arena_alloc(&a, 100, sizeof *x);   // 64-byte aligned, NULL when full
 *     size_t mark = arena_mark(&a);
 *     ...                                          // scratch
 *     arena_reset(&a, mark);                       // a.peak tells how much was ever used
 *
 * The core (arena, gemm, kernels, autograd, clip, explain, maskinv) touches no file, prints nothing
 * and allocates nothing: it works in the caller's arena and reports a `fault`, a code with its
 * operands. The text for a fault is made above, in err.c.
 */
#ifndef BASE_H
#define BASE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef MASKINV_DOUBLE
typedef double real; /* make DOUBLE=1: the same sources, built in double */
#else
typedef float real;
#endif

/* Files hold their numbers little-endian, and so do CLIP_F32, CLIP_F16, CLIP_BF16 and CLIP_F64 weights, which are used where the
 * file lies. A machine of the other order turns them as it reads and writes them. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
enum { BIG_ENDIAN_HERE = 1 };
#else
enum { BIG_ENDIAN_HERE = 0 };
#endif
/* count numbers of `each` bytes at p, from a file's order to this machine's or back. */
static inline void order_bytes(void *p, size_t count, size_t each) {
    unsigned char *b = (unsigned char *)p; /* C++ asks for it */
    for (size_t i = 0; BIG_ENDIAN_HERE && i < count; i++, b += each)
        for (size_t k = 0; k < each / 2; k++) {
            unsigned char t = b[k];
            b[k] = b[each - 1 - k], b[each - 1 - k] = t;
        }
}

/* ---- faults: what went wrong in the core, and with which operands ------------------------- */
typedef enum {
    FAULT_NONE,
    FAULT_MEMORY, /* n[0] bytes asked, n[1] bytes free, n[2] bytes in all */
    FAULT_TAPE,   /* n[0] nodes: the tape is full */
    FAULT_SHAPE,  /* where: the op; n[0..2] one operand's shape, n[3..5] the other's */
    FAULT_RANGE,  /* where: the argument; n[0] found, n[1]..n[2] allowed */
    FAULT_ORDER,  /* where: the op whose next derivative does not exist; n[0] the order asked */
    FAULT_FLAT,   /* where: a map whose smallest and largest value are the same; n[0] its layers */
    FAULT_FAMILY, /* where: what has no meaning for this family of models; why: the family, and the reason */
    FAULT_NAN     /* where: the quantity that is not finite; n[0] the step or index */
} fault_code;

typedef struct {
    fault_code code;
    const char *where; /* static string */
    size_t n[6];
    const char *why; /* static string, FAULT_FAMILY alone */
} fault;

/* Keeps the first fault only, and returns false, so that `return fault_set(...)` reads well. */
bool fault_set(fault *f, fault_code code, const char *where, const size_t *n, size_t count);
bool fault_family(fault *f, const char *where, const char *why);

/* ---- arena: bump allocation in a buffer that the caller owns ------------------------------ */
typedef struct {
    unsigned char *base;
    size_t size, used, peak;
} arena;

enum { ARENA_ALIGN = 64 };

void arena_init(arena *a, void *buffer, size_t size);
/* count * each bytes, 64-byte aligned, uninitialised. NULL when full or when the product overflows. */
void *arena_alloc(arena *a, size_t count, size_t each);
/* Bytes that are still free. */
size_t arena_left(const arena *a);
size_t arena_mark(const arena *a);
/* Gives back everything allocated since the mark. */
void arena_reset(arena *a, size_t mark);
/* FAULT_MEMORY: `bytes` were asked of this arena in vain. Returns false. */
bool fault_memory(fault *f, const char *where, const arena *a, size_t bytes);
/* Room for rows * cols numbers. NULL, and that fault, when it is full; NULL also when there is a fault already, so that
 * several may be taken and the fault looked at once. */
real *arena_numbers(arena *a, size_t rows, size_t cols, const char *where, fault *f);

/* ---- sizes -------------------------------------------------------------------------------- */
/* a * b in *out; false when it does not fit in size_t. */
bool size_mul(size_t a, size_t b, size_t *out);
static inline size_t at_most(size_t a, size_t b) { return a < b ? a : b; }
#endif
