/* x_part.h - small networks against fixtures: inputs, weights as leaves, results and gradients by name.
 *
 *     part_bench b;
 *     part_bench_open(&b, "flow_mlp");
 *     generator_weights(&net, &list), part_bench_leaves(&b, &list, "w.");
 *     part_bench_check(&b, "out.loss", loss->data);
 *     part_bench_gradients(&b, &list, "");                  // grad.NAME of each weight
 *     part_bench_close(&b);
 */
#ifndef X_PART_H
#define X_PART_H
#include "parts/part.h"

typedef struct {
    tensors *file;
    void *room;
    arena memory;
    ag_tape t;
} part_bench;

void *part_must(void *p, const err *e); /* fails the test when NULL */
void part_bench_open(part_bench *b, const char *name); /* test/data/training/NAME.safetensors */
void part_bench_close(part_bench *b);
real *part_bench_numbers(part_bench *b, const char *name, size_t *count); /* any type; in the bench's memory */
uint32_t *part_bench_ids(part_bench *b, const char *name, size_t *count);
/* A constant of these numbers, [batch, rows, cols]. */
ag_tensor *part_bench_input(part_bench *b, const char *name, size_t batch, size_t rows, size_t cols);
/* Weights that learn, with a sum each. */
void part_bench_leaves(part_bench *b, part_list *l, const char *prefix);
/* Within 1e-9 in double (1e-7 where the fixture stores float32), 2e-4 in float, of the largest. */
void part_bench_check(part_bench *b, const char *name, const real *x);
/* The same of n numbers expected, in whatever order they were brought. */
void part_bench_close_to(part_bench *b, const char *name, const real *x, const real *expected, size_t n);
/* "grad." prefix NAME of every weight; `without` may be missing (NULL: none). */
void part_bench_gradients(part_bench *b, const part_list *l, const char *prefix, const char *without);
/* Two files of the same bytes. */
void part_same_file(const char *a, const char *b);
#endif
