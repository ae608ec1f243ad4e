/* containers.c - whose file is it: the table (see containers.h). */
#include "models/containers.h"
#include <string.h>
#include "models/safetensors.h"

/* The last row is taken where no other knows the bytes: its reader then says what it expected. */
static const container CONTAINERS[] = {
    {.name = "safetensors", .read = safetensors_read},
};

const container *container_of(const file_bytes *f) {
    size_t n = sizeof CONTAINERS / sizeof *CONTAINERS;
    for (size_t i = 0; i < n; i++)
        if (CONTAINERS[i].is && CONTAINERS[i].is(f)) return &CONTAINERS[i];
    return &CONTAINERS[n - 1];
}

/* ---- safetensors ------------------------------------------------------------------------------------ */
static void release(void *s) { st_free(s); }

bool safetensors_read(tensors *t, const file_bytes *f, err *e) {
    safetensors *s = st_parse(f->data, f->length, f->name, e);
    if (!s || !tensors_keep(t, s, release, e)) return false;
    for (size_t i = 0; i < st_count(s); i++) {
        const st_tensor *from = st_at(s, i);
        file_tensor w = {.name = from->name, .type = from->type, .rank = from->rank, .data = from->data};
        w.bytes = from->bytes;
        memcpy(w.shape, from->shape, sizeof w.shape);
        if (!tensors_add(t, &w, e)) return false;
    }
    return true;
}
