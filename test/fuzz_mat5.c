/* fuzz_mat5.c - any bytes as a MATLAB file. */
#include "data/mat5.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    label_image l;
    if (!mat5_parse(bytes, length, "fuzz", "LabelMap", &l, &e)) return e.text[0] ? 0 : (__builtin_trap(), 0);
    volatile uint32_t last = 0;
    for (size_t i = 0; i < l.width * l.height; i++) last = l.value[i];
    (void)last;
    labels_free(&l);
    return 0;
}
