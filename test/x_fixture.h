/* x_fixture.h - the small checkpoints in test/data with what they must give (computed in float64).
 *
 *     fixture x;
 *     fixture_open(&x, fixture_names[0]);
 *     size_t n;
 *     real *e = fixture_get(&x, &n, "%s.image.embedding", "native");   // freed by fixture_close
 */
#ifndef X_FIXTURE_H
#define X_FIXTURE_H
#include "models/checkpoint.h"

enum { FIXTURES = 3, FIXTURE_SIZES = 2, FIXTURE_MASKS = 2 };
extern const char *const fixture_names[FIXTURES];
extern const char *const fixture_sizes[FIXTURE_SIZES]; /* "native", "double" */

typedef struct {
    checkpoint *c;
    const clip_model *model;
    safetensors *expected;
    void *kept[256];
    size_t count;
    arena memory; /* for what is computed with it */
    void *room;
} fixture;

void fixture_open(fixture *x, const char *name); /* fails the test when it cannot */
void fixture_close(fixture *x);
real *fixture_get(fixture *x, size_t *count, const char *format, ...) PRINTF_LIKE(3, 4);
/* Mask i [h,w] in 0..1. */
real *fixture_mask(fixture *x, size_t i, size_t *h, size_t *w);

/* ---- comparing: all of them false on NaN ---- */
/* largest |a - b| over largest |b| */
double worst(const real *a, const real *b, size_t n);
double cosine(const real *a, const real *b, size_t n);
/* Fails the test, saying what and by how much. */
#define assert_close(a, b, n, tolerance) assert_below(worst(a, b, n), tolerance, #a " against " #b, __FILE__, __LINE__)
#define assert_far(a, b, n, tolerance) assert_above(worst(a, b, n), tolerance, #a " against " #b, __FILE__, __LINE__)
void assert_below(double found, double most, const char *what, const char *file, int line);
void assert_above(double found, double least, const char *what, const char *file, int line);
/* Derivatives go through relus. Where a term lies within rounding of 0, two correct programs in float may take
 * different sides, and part by that one term's share. So in float every derivative must be within KINK, and all but
 * one in eight within the tolerance; in double all are within the tolerance. */
#define KINK 5e-3
typedef struct {
    size_t asked, off;
} derivatives;
#define assert_derivative(d, a, b, n, tolerance)                                                                       \
    check_derivative(d, worst(a, b, n), tolerance, #a " against " #b, __FILE__, __LINE__)
void check_derivative(derivatives *d, double found, double tolerance, const char *what, const char *file, int line);
#define assert_few_kinks(d) assert_below((double)(d)->off, (double)(d)->asked / 8, "kinks", __FILE__, __LINE__)
/* float's tolerance or double's */
#define BY_BUILD(in_float, in_double) (sizeof(real) == sizeof(float) ? (in_float) : (in_double))
#endif
