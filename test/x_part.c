/* x_part.c - small networks against fixtures (see x_part.h). */
#include "x_part.h"
#include "x_fixture.h"
#include "files/files.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { ROOM = 256 << 20 };

void *part_must(void *p, const err *e) {
    if (!p) fail_msg("%s", e->text);
    return p;
}

void part_bench_open(part_bench *b, const char *name) {
    char path[512];
    const char *folder = getenv("TEST_DATA");
    err e = {{0}};
    memset(b, 0, sizeof *b);
    snprintf(path, sizeof path, "%s/training/%s.safetensors", folder ? folder : "test/data", name);
    b->file = part_must(tensors_open(path, &e), &e);
    b->room = mem_reserve(ROOM);
    arena_init(&b->memory, b->room, ROOM);
    assert_true(ag_tape_init(&b->t, &b->memory, NULL, 20000));
}

void part_bench_close(part_bench *b) {
    tensors_free(b->file);
    mem_release(b->room, ROOM);
}

real *part_bench_numbers(part_bench *b, const char *name, size_t *count) {
    err e = {{0}};
    const file_tensor *w = tensors_find(b->file, name);
    if (!w) fail_msg("no tensor %s", name);
    const unsigned char *bytes = part_must((void *)(uintptr_t)tensor_bytes(w, &e), &e);
    size_t n = tensor_size(w);
    real *out = arena_alloc(&b->memory, n, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < n; i++) {
        float f;
        double d;
        int64_t k;
        if (!strcmp(w->type, "I64")) memcpy(&k, bytes + 8 * i, 8), out[i] = (real)k;
        else if (!strcmp(w->type, "F64")) memcpy(&d, bytes + 8 * i, 8), out[i] = (real)d;
        else memcpy(&f, bytes + 4 * i, 4), out[i] = (real)f;
    }
    if (count) *count = n;
    return out;
}

uint32_t *part_bench_ids(part_bench *b, const char *name, size_t *count) {
    size_t n;
    real *x = part_bench_numbers(b, name, &n);
    uint32_t *ids = arena_alloc(&b->memory, n, sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)x[i];
    if (count) *count = n;
    return ids;
}

ag_tensor *part_bench_input(part_bench *b, const char *name, size_t batch, size_t rows, size_t cols) {
    size_t n;
    real *x = part_bench_numbers(b, name, &n);
    assert_int_equal(n, batch * rows * cols);
    return ag_constant(&b->t, x, batch, rows, cols);
}

void part_bench_leaves(part_bench *b, part_list *l, const char *prefix) {
    err e = {{0}};
    for (size_t i = 0; i < l->count; i++) {
        part_weight *p = &l->list[i];
        char name[160];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        real *sum = arena_alloc(&b->memory, p->rows * p->cols, sizeof *sum);
        if (!part_shape(b->file, name, &(size_t){0}, &(size_t){0})) fail_msg("no weight %s: %s", name, e.text);
        memset(sum, 0, p->rows * p->cols * sizeof *sum);
        size_t n;
        real *x = part_bench_numbers(b, name, &n);
        assert_int_equal(n, p->rows * p->cols);
        *p->at = ag_leaf(&b->t, x, sum, 1, p->rows, p->cols);
    }
}

/* The largest difference over the largest expected; where only rounding is expected, the largest found. */
static double part_worst(const real *x, const real *expected, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!(expected[i] < (real)1e-12 && expected[i] > (real)-1e-12)) return worst(x, expected, n);
    double most = 0; /* a derivative that is 0 but for rounding */
    for (size_t i = 0; i < n; i++) most = x[i] < 0 ? (most > -(double)x[i] ? most : -(double)x[i]) : (most > (double)x[i] ? most : (double)x[i]);
    return n && x[0] == x[0] ? most : 1;
}

void part_bench_close_to(part_bench *b, const char *name, const real *x, const real *expected, size_t n) {
    bool wide = !strcmp(tensors_find(b->file, name)->type, "F64");
    double off = part_worst(x, expected, n), allowed = BY_BUILD(2e-4, wide ? 1e-9 : 1e-7);
    if (!(off <= allowed)) fail_msg("%s: off by %g, allowed %g", name, off, allowed);
}

void part_bench_check(part_bench *b, const char *name, const real *x) {
    size_t n;
    const real *expected = part_bench_numbers(b, name, &n);
    part_bench_close_to(b, name, x, expected, n);
}

void part_bench_gradients(part_bench *b, const part_list *l, const char *prefix, const char *without) {
    for (size_t i = 0; i < l->count; i++) {
        char name[160];
        snprintf(name, sizeof name, "grad.%s%s", prefix, l->list[i].name);
        if (tensors_find(b->file, name)) part_bench_check(b, name, (*l->list[i].at)->sum);
        else if (!without || !strstr(name, without)) fail_msg("no %s", name);
    }
}

void part_same_file(const char *a, const char *b) {
    size_t n, m;
    err e = {{0}};
    char *x = part_must(file_read(a, SIZE_MAX / 4, &n, &e), &e), *y = part_must(file_read(b, SIZE_MAX / 4, &m, &e), &e);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    mem_free(x), mem_free(y);
}
