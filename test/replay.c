/* replay.c - a main for fuzz targets without a fuzzer: each file of test/corpus/NAME as it is, cut short at many
 * places, and with bytes changed, always the same ones. Built with sanitizers by `make test`.
 *
 *     build/openblas-asan/test/fuzz_npy [FILE...]
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

/* In a block of exactly its length, so that the sanitizer sees one byte too many. */
static void feed(const uint8_t *bytes, size_t length) {
    uint8_t *copy = malloc(length ? length : 1);
    if (!copy) exit(1);
    memcpy(copy, bytes, length);
    (void)LLVMFuzzerTestOneInput(copy, length);
    free(copy);
}

static uint32_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

enum { CUTS = 100, CHANGES = 400, MOST = 1 << 18 };

static void mutate(uint8_t *bytes, size_t length) {
    uint64_t state = length;
    for (size_t i = 0; i < CUTS && length; i++)
        feed(bytes, i < CUTS / 2 ? length * i / (CUTS / 2) : length - 1 - (i - CUTS / 2) % length);
    for (size_t i = 0; i < CHANGES && length; i++) {
        uint8_t kept[4];
        size_t at[4], count = 1 + i % 4;
        for (size_t k = 0; k < count; k++) {
            at[k] = next(&state) % (i % 2 && length > 64 ? 64 : length); /* half of them in the header */
            kept[k] = bytes[at[k]];
            uint32_t value = i % 3 ? next(&state) : kept[k] ^ (1u << next(&state) % 8);
            bytes[at[k]] = (uint8_t)(value & 255);
        }
        feed(bytes, length);
        for (size_t k = count; k-- > 0;) bytes[at[k]] = kept[k];
    }
}

static void replay(const char *path) {
    static uint8_t bytes[MOST];
    FILE *f = fopen(path, "rb");
    printf("[ RUN      ] %s\n", path);
    fflush(stdout);
    if (!f) return;
    size_t length = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    feed(bytes, length);
    mutate(bytes, length);
    printf("[       OK ] %s\n", path);
}

int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '_');
    char folder[256], path[600];
    for (int i = 1; i < argc; i++) replay(argv[i]);
    if (argc > 1 || !name) return 0;
    snprintf(folder, sizeof folder, "test/corpus/%s", name + 1);
    DIR *d = opendir(folder);
    if (!d) return perror(folder), 1;
    for (struct dirent *file; (file = readdir(d));) {
        if (file->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, file->d_name);
        replay(path);
    }
    closedir(d);
    return 0;
}
