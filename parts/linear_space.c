/* linear_space.c - pictures as coefficients and back (see linear_space.h). */
#include "parts/linear_space.h"

void space_weights(linear_space *s, part_list *l) {
    part_add(l, &s->basis, s->numbers, s->count, 0, 0, "basis");
    part_add(l, &s->mean, 1, s->numbers, 0, 0, "mean");
    part_add(l, &s->scale, 1, s->count, 0, 1, "scale");
}

bool space_shape(linear_space *s, const tensors *file, err *e) {
    if (part_shape(file, "basis", &s->numbers, &s->count) && s->numbers > 0 && s->count > 0) return true;
    return err_set(e, "%s: \"basis\" is missing: it holds no linear space of pictures", tensors_name(file));
}

/* (13.1)  a = V^T (x - mean) / scale */
ag_tensor *space_into(ag_tape *t, const linear_space *s, ag_tensor *pictures) {
    ag_tensor *a = ag_matmul(t, ag_sub(t, pictures, s->mean), NO_T, s->basis, NO_T);
    return ag_mul(t, a, ag_pow(t, s->scale, -1));
}

ag_tensor *space_out_of(ag_tape *t, const linear_space *s, ag_tensor *a) {
    return ag_add(t, ag_matmul(t, ag_mul(t, a, s->scale), NO_T, s->basis, T), s->mean);
}
