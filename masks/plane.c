/* plane.c - room for a mask's numbers (see formats.h). */
#include "masks/formats.h"

bool mask_plane_new(mask_plane *p, size_t width, size_t height, const char *path, err *e) {
    size_t n;
    *p = (mask_plane){.width = width, .height = height, .opaque = 1};
    if (!width || !height || !size_mul(width, height, &n))
        return err_set(e, "%s: a mask of %zux%zu pixels", path, width, height);
    p->value = mem_alloc(n, sizeof *p->value);
    return p->value || err_set(e, "%s: no memory for a mask of %zux%zu pixels", path, width, height);
}

void mask_plane_free(mask_plane *p) {
    mem_free(p->value);
    *p = (mask_plane){0};
}
