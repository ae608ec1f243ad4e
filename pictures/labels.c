/* labels.c - label pictures. stb turns palette indices into colours; told that the picture is grey, it leaves them be.
 *
 * PNG bytes -> a copy whose header says grey -> raster -> integers
 */
#include "pictures/labels.h"
#include "files/files.h"
#include "pictures/image.h"
#include "pictures/png.h"
#include <string.h>

static size_t be32(const unsigned char *p) {
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

static void chunk_seal(unsigned char *chunk, size_t n) {
    uint32_t crc = png_crc(0, chunk + 4, n + 4);
    for (int k = 0; k < 4; k++) chunk[8 + n + (size_t)k] = (unsigned char)(crc >> (24 - 8 * k));
}

/* Colour type 3 becomes 0 (grey): the samples stay as they are. tRNS would then mean something else: it gets a name
 * that every reader passes over. What is damaged is left to the reader to say. */
static void palette_to_grey(unsigned char *b, size_t length) {
    b[25] = 0;
    chunk_seal(b + 8, 13);
    for (size_t at = 8; length - at >= 12;) {
        size_t n = be32(b + at);
        if (n > length - at - 12) return;
        if (memcmp(b + at + 4, "tRNS", 4) == 0) memcpy(b + at + 4, "tRNs", 4), chunk_seal(b + at, n);
        at += 12 + n;
    }
}

/* Grey of fewer bits comes enlarged to 8: by 255, 85, 17. */
static uint32_t grey_step(const unsigned char *bytes, size_t length, bool png) {
    if (!png || length < 26 || bytes[25] & 2) return 1; /* colours */
    return bytes[24] == 1 ? 255 : bytes[24] == 2 ? 85 : bytes[24] == 4 ? 17 : 1;
}

static uint32_t label_at(const raster *r, size_t i, uint32_t step) {
    const unsigned char *p = r->data + i * r->channels * (r->wide ? 2 : 1);
    uint16_t wide;
    if (r->channels >= 3) return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    if (!r->wide) return p[0] / step;
    memcpy(&wide, p, 2);
    return wide;
}

static bool from_raster(const raster *r, uint32_t step, const char *name, label_image *l, err *e) {
    size_t n = r->width * r->height;
    uint32_t *value = mem_alloc(n, sizeof *value);
    if (!value) return err_set(e, "%s: no memory for labels of %zux%zu pixels", name, r->width, r->height);
    for (size_t i = 0; i < n; i++) value[i] = label_at(r, i, step);
    *l = (label_image){r->width, r->height, r->channels >= 3, value};
    return true;
}

bool labels_parse(const unsigned char *bytes, size_t length, const char *name, label_image *l, err *e) {
    unsigned char *copy = NULL;
    raster r;
    memset(l, 0, sizeof *l);
    bool png = length >= 33 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
    bool palette = png && memcmp(bytes + 12, "IHDR", 4) == 0 && bytes[25] == 3;
    if (palette) {
        if (!(copy = mem_alloc(length, 1))) return err_set(e, "%s: no memory for %zu bytes", name, length);
        memcpy(copy, bytes, length);
        palette_to_grey(copy, length);
    }
    bool ok = raster_parse(copy ? copy : bytes, length, name, &r, e);
    if (ok) {
        ok = from_raster(&r, grey_step(copy ? copy : bytes, length, png), name, l, e);
        mem_free(r.data);
    }
    mem_free(copy);
    return ok;
}

bool labels_read(const char *path, label_image *l, err *e) {
    file_map m;
    memset(l, 0, sizeof *l);
    if (!file_map_open(path, &m, e)) return false;
    bool ok = labels_parse(m.data, m.length, path, l, e);
    file_map_close(&m);
    return ok;
}

void labels_free(label_image *l) {
    mem_free(l->value);
    *l = (label_image){0};
}
