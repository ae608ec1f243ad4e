/* fuzz_tables.c - any bytes as a CSV table and as a large JSON file, read to the end or to a message. */
#define _POSIX_C_SOURCE 200809L
#include "files/csv.h"
#include "files/json_stream.h"
#include <string.h>

static FILE *stream_of(const uint8_t *bytes, size_t length) { return fmemopen((void *)(uintptr_t)bytes, length, "rb"); }

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    csv t = {.path = "fuzz"};
    json_stream s = {.path = "fuzz"};
    err e = {0};
    size_t letters = 0;
    mem_hook_cjson();
    if (!length || !(t.stream = stream_of(bytes, length))) return 0;
    while (csv_next(&t, &e))
        for (size_t i = 0; i < t.count; i++) letters += strlen(t.field[i]);
    if (!t.ended && !e.text[0]) __builtin_trap();
    csv_close(&t);
    e.text[0] = 0;
    if (!(s.stream = stream_of(bytes, length))) return 0;
    while (json_stream_next(&s, &e)) letters += (size_t)s.at;
    if (!s.ended && !e.text[0]) __builtin_trap();
    json_stream_close(&s);
    return letters == SIZE_MAX; /* never; but every field has been read */
}
