/* fuzz_regions.c - any bytes as a JSON file of regions: each is read, or there is a message. */
#define _POSIX_C_SOURCE 200809L
#include "masks/mask_json.h"
#include <string.h>
#include <unistd.h>

enum { MOST_REGIONS = 8, SIDE = 24 };
static const char *file_with(const uint8_t *bytes, size_t length) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/maskinv-fuzz-%ld.json", (long)getpid());
    FILE *f = fopen(path, "wb");
    if (!f) return NULL;
    bool ok = fwrite(bytes, 1, length, f) == length;
    return fclose(f) == 0 && ok ? path : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    mask_frame frame = {.photo = "7.jpg", .width = SIDE, .height = SIDE};
    mask_file f = {.frame = frame};
    mask_plane p;
    err e = {0};
    char name[40];
    mem_hook_cjson();
    if (!length || !(f.path = file_with(bytes, length))) return 0;
    f.bytes.data = bytes, f.bytes.length = length; /* the caller's */
    bool opened = mask_json_is(bytes, length) && mask_json_open(&f, &e);
    if (!opened && mask_json_is(bytes, length) && !e.text[0]) __builtin_trap();
    for (size_t i = 0; opened && i < f.planes && i < MOST_REGIONS; i++) {
        e.text[0] = 0;
        (void)mask_json_name(&f, i, name, sizeof name);
        if (!mask_json_read(&f, i, MASK_SHOWN, &p, &e)) {
            if (!e.text[0]) __builtin_trap();
            continue;
        }
        for (size_t k = 0; k < p.width * p.height; k++)
            if (p.value[k] != 0 && p.value[k] != 1) __builtin_trap();
        mask_plane_free(&p);
    }
    mask_json_close(&f);
    remove(f.path);
    return 0;
}
