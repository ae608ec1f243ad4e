/* arena.c - faults and the arena (see base.h). */
#include "base.h"

bool fault_set(fault *f, fault_code code, const char *where, const size_t *n, size_t count) {
    if (f->code != FAULT_NONE) return false;
    f->code = code;
    f->where = where;
    for (size_t i = 0; i < 6; i++) f->n[i] = i < count ? n[i] : 0;
    return false;
}

bool fault_family(fault *f, const char *where, const char *why) {
    if (f->code == FAULT_NONE) f->why = why;
    return fault_set(f, FAULT_FAMILY, where, NULL, 0);
}

bool size_mul(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

void arena_init(arena *a, void *buffer, size_t size) {
    /* The first aligned byte of the buffer is the arena's first. */
    size_t skip = (size_t)(-(uintptr_t)buffer & (ARENA_ALIGN - 1));
    a->base = (unsigned char *)buffer + (skip < size ? skip : size);
    a->size = skip < size ? size - skip : 0;
    a->used = a->peak = 0;
}

size_t arena_left(const arena *a) { return a->size - a->used; }

void *arena_alloc(arena *a, size_t count, size_t each) {
    size_t bytes;
    if (!size_mul(count, each, &bytes) || bytes > SIZE_MAX - ARENA_ALIGN) return NULL;
    bytes = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (bytes > arena_left(a)) return NULL;
    void *p = a->base + a->used;
    a->used += bytes;
    if (a->used > a->peak) a->peak = a->used;
    return p;
}

size_t arena_mark(const arena *a) { return a->used; }

void arena_reset(arena *a, size_t mark) {
    if (mark < a->used) a->used = mark;
}

bool fault_memory(fault *f, const char *where, const arena *a, size_t bytes) {
    return fault_set(f, FAULT_MEMORY, where, (size_t[]){bytes, arena_left(a), a->size}, 3);
}

real *arena_numbers(arena *a, size_t rows, size_t cols, const char *where, fault *f) {
    size_t count, bytes;
    if (f->code) return NULL;
    bool countable = size_mul(rows, cols, &count) && size_mul(count, sizeof(real), &bytes);
    real *p = countable ? arena_alloc(a, count, sizeof(real)) : NULL;
    if (!p) fault_memory(f, where, a, countable ? bytes : SIZE_MAX);
    return p;
}
