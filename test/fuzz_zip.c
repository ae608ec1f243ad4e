/* fuzz_zip.c - any bytes as a zip archive: every entry of a directory that is let through can be asked for. */
#include "files/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    zip *z = zip_parse(bytes, length, "fuzz", &e);
    if ((z == NULL) != (e.text[0] != 0)) __builtin_trap();
    for (size_t i = 0; z && i < zip_count(z) && i < 100; i++) {
        const zip_entry *t = zip_at(z, i);
        unsigned char first[32];
        size_t got = 0;
        volatile unsigned sum = 0;
        if (zip_find(z, t->name) != t) __builtin_trap();
        const unsigned char *p = zip_stored(z, t, &e);
        for (size_t k = 0; p && k < t->size; k++) sum += p[k];
        if (zip_begin(z, t, first, sizeof first, &got, &e))
            for (size_t k = 0; k < got; k++) sum += first[k];
        if (t->size > 1 << 20) continue; /* slow, and nothing new */
        unsigned char *q = zip_unpack(z, t, &e);
        for (size_t k = 0; q && k < t->size; k++) sum += q[k];
        mem_free(q);
        (void)sum;
    }
    zip_free(z);
    return 0;
}
