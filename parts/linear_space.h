/* linear_space.h - pictures as a few coefficients: a mean, and directions in which pictures differ most.
 *
 *     space_weights(&s, &list);                                  // its rows of a part's list: basis, mean, scale
 *     ag_tensor *a = space_into(&tape, &s, pictures);            // (13.1) [1,B,N] -> [1,B,K]
 *     ag_tensor *x = space_out_of(&tape, &s, a);                 // [1,B,K] -> [1,B,N]
 *
 * Pictures are rows of numbers in -1..1: [side, side, 3] flattened.
 */
#ifndef LINEAR_SPACE_H
#define LINEAR_SPACE_H
#include "parts/part.h"

typedef struct {
    size_t numbers, count; /* N of a picture, K coefficients */
    ag_tensor *basis, *mean, *scale; /* [N,K] orthonormal columns, [1,N], [1,K] */
} linear_space;

void space_weights(linear_space *s, part_list *l);
/* Fills numbers and count from the file's "basis"; the message names the file. */
bool space_shape(linear_space *s, const tensors *file, err *e);
ag_tensor *space_into(ag_tape *t, const linear_space *s, ag_tensor *pictures);
ag_tensor *space_out_of(ag_tape *t, const linear_space *s, ag_tensor *a);
#endif
