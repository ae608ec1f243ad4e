/* fuzz_tensors.c - any bytes as a file of weights, of whichever container they look like: what is let through can be read
 * to its end. Seeds: PyTorch's zip and legacy stream, npz, GGUF. */
#include "models/tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    mem_hook_cjson();
    tensors *t = tensors_parse(bytes, length, "fuzz", &e);
    if ((t == NULL) != (e.text[0] != 0)) __builtin_trap(); /* an error without a message, or the reverse */
    for (size_t i = 0; t && i < tensors_count(t); i++) {
        const file_tensor *w = tensors_at(t, i);
        if (tensors_find(t, w->name) != w) __builtin_trap();
        if (w->bytes > 1 << 20) continue;
        volatile unsigned sum = 0;
        const unsigned char *p = tensor_bytes(w, &e);
        for (size_t k = 0; p && k < w->bytes; k++) sum += p[k];
        (void)sum;
    }
    tensors_free(t);
    return 0;
}
