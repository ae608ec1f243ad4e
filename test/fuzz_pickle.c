/* fuzz_pickle.c - any bytes as a pickle, by both rules: what is let through can be walked to its end. */
#include "files/pickle.h"

static size_t walk(const pickle_value *v, size_t level, size_t left) {
    if (level > PICKLE_DEPTH) __builtin_trap();
    if (v->kind == PICKLE_TEXT || v->kind == PICKLE_BYTES || v->kind == PICKLE_LONG || v->kind == PICKLE_GLOBAL) {
        volatile unsigned sum = 0;
        for (size_t i = 0; i < v->length; i++) sum += (unsigned char)v->text[i];
        (void)sum;
    } else if (v->kind >= PICKLE_LIST) {
        for (size_t i = 0; i < v->count && left > 0; i++)
            if (v->items[i]) left = walk(v->items[i], level + 1, left - 1); /* shared values may be many */
    }
    return left;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const pickle_rules rules[] = {PICKLE_DATA, PICKLE_CHECKPOINT};
    for (int i = 0; i < 2; i++) {
        err e = {0};
        size_t used = 0;
        pickle *p = pickle_parse(bytes, length, "fuzz", rules[i], &used, &e);
        if ((p == NULL) != (e.text[0] != 0)) __builtin_trap();
        if (p && used > length) __builtin_trap();
        if (p) (void)walk(pickle_root(p), 0, 1 << 16);
        pickle_free(p);
    }
    return 0;
}
