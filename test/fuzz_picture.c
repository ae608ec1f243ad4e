/* fuzz_picture.c - any bytes as a picture: what is let through has all of its pixels. */
#include "pictures/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    picture p;
    if (!picture_parse(bytes, length, "fuzz", &p, &e)) return e.text[0] ? 0 : (__builtin_trap(), 0);
    volatile unsigned sum = 0;
    for (size_t i = 0; i < 3 * p.width * p.height; i++) sum += p.rgb[i];
    (void)sum;
    picture_free(&p);
    return 0;
}
