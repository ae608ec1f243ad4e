/* fuzz_npy.c - any bytes as an npy file. */
#include "files/files.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    npy_array a;
    if (!npy_parse(bytes, length, "fuzz", &a, &e)) return e.text[0] ? 0 : (__builtin_trap(), 0);
    size_t count = 1;
    volatile float last = 0;
    for (size_t i = 0; i < a.rank; i++) count *= a.shape[i];
    for (size_t i = 0; i < count; i++) last = a.data[i];
    (void)last;
    npy_free(&a);
    return 0;
}
