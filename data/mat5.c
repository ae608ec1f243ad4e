/* mat5.c - MATLAB 5 files (see mat5.h). Little-endian ones: who wrote the other kind is long gone. */
#include "data/mat5.h"
#include "files/files.h"
#include <string.h>
#include <zlib.h>

enum { HEADER = 128, MOST_BYTES = 1 << 28, MI_COMPRESSED = 15, MI_MATRIX = 14 };

typedef struct { /* an element, and what follows it */
    uint32_t type;
    const unsigned char *data;
    size_t bytes;
} element;
typedef struct {
    const unsigned char *at, *end;
} span;

static uint32_t le32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The next element of the span; false: it is damaged or there is none. Small ones have their size in the upper half of
 * the first word. A compressed element is not padded. */
static bool next(span *s, element *out) {
    size_t left = (size_t)(s->end - s->at);
    if (left < 8) return false;
    uint32_t first = le32(s->at);
    bool small = first >> 16 != 0;
    *out = (element){small ? first & 0xFFFF : first, s->at + (small ? 4 : 8), small ? first >> 16 : le32(s->at + 4)};
    if (out->bytes > (small ? 4 : left - 8)) return false;
    size_t padded = small ? 8 : 8 + (out->type == MI_COMPRESSED ? out->bytes : (out->bytes + 7) / 8 * 8);
    s->at += padded < left ? padded : left;
    return true;
}

/* Bytes a number of this type takes, where it is whole: int8, uint8, int16, uint16, int32, uint32. */
static size_t width_of(uint32_t type) {
    return type == 1 || type == 2 ? 1 : type == 3 || type == 4 ? 2 : type == 5 || type == 6 ? 4 : 0;
}

static bool take_numbers(const element *data, size_t height, size_t width, const char *file, label_image *l, err *e) {
    size_t each = width_of(data->type), n;
    if (!each) return err_set(e, "%s: numbers of type %u, whole ones expected", file, (unsigned)data->type);
    if (!height || !width || height > 1 << 20 || width > 1 << 20 || !size_mul(height, width, &n) ||
        n > data->bytes / each || n * each != data->bytes)
        return err_set(e, "%s: a matrix of %zux%zu in %zu bytes", file, height, width, data->bytes);
    uint32_t *value = mem_alloc(n, sizeof *value);
    if (!value) return err_set(e, "%s: no memory for a matrix of %zux%zu", file, height, width);
    for (size_t x = 0; x < width; x++)
        for (size_t y = 0; y < height; y++) {
            const unsigned char *p = data->data + (x * height + y) * each;
            value[y * width + x] = each == 1 ? p[0] : each == 2 ? (uint32_t)p[0] | (uint32_t)p[1] << 8 : le32(p);
        }
    *l = (label_image){width, height, false, value};
    return true;
}

/* *found: it is the matrix of this name. */
static bool take_matrix(span s, const char *file, const char *name, label_image *l, bool *found, err *e) {
    element flags, dims, title, data;
    *found = false;
    if (!next(&s, &flags) || !next(&s, &dims) || !next(&s, &title)) return err_set(e, "%s: a damaged matrix", file);
    if (title.bytes != strlen(name) || memcmp(title.data, name, title.bytes) != 0) return true;
    if (dims.bytes != 8 || !next(&s, &data)) return err_set(e, "%s: %s is no matrix of two dimensions", file, name);
    *found = true;
    return take_numbers(&data, le32(dims.data), le32(dims.data + 4), file, l, e);
}

/* The element that a zlib stream holds; mem_free it. */
static unsigned char *unpack(const element *packed, size_t *length, const char *file, err *e) {
    size_t room = 0;
    unsigned char *out = NULL;
    z_stream z = {0};
    int state = Z_OK;
    if (inflateInit(&z) != Z_OK) return err_set(e, "%s: no memory to unpack", file), NULL;
    z.next_in = (z_const Bytef *)packed->data, z.avail_in = (uInt)packed->bytes;
    for (*length = 0; state == Z_OK && *length < MOST_BYTES; *length = room - z.avail_out) {
        if (!mem_grow(&out, &room, *length + 4096, 1)) break;
        z.next_out = out + *length, z.avail_out = (uInt)(room - *length);
        state = inflate(&z, Z_NO_FLUSH);
    }
    inflateEnd(&z);
    if (state == Z_STREAM_END) return out;
    mem_free(out);
    return err_set(e, "%s: the compressed matrix is damaged or too large", file), NULL;
}

static bool take_element(const element *x, const char *file, const char *name, label_image *l, bool *found, err *e) {
    if (x->type == MI_MATRIX) return take_matrix((span){x->data, x->data + x->bytes}, file, name, l, found, e);
    *found = false;
    if (x->type != MI_COMPRESSED) return true;
    size_t length;
    element inner;
    unsigned char *room = unpack(x, &length, file, e);
    if (!room) return false;
    span s = {room, room + length};
    bool ok =
        (next(&s, &inner) && inner.type == MI_MATRIX) || err_set(e, "%s: the compressed element is no matrix", file);
    if (ok) ok = take_matrix((span){inner.data, inner.data + inner.bytes}, file, name, l, found, e);
    mem_free(room);
    return ok;
}

bool mat5_parse(const unsigned char *bytes, size_t length, const char *file, const char *name, label_image *l, err *e) {
    memset(l, 0, sizeof *l);
    if (length < HEADER) return err_set(e, "%s: is no MATLAB 5 file", file);
    if (memcmp(bytes + 126, "IM", 2) != 0)
        return err_set(e, "%s: is no little-endian MATLAB 5 file (version 7.3 files are another format)", file);
    span s = {bytes + HEADER, bytes + length};
    element x;
    bool found = false;
    while (!found && next(&s, &x))
        if (!take_element(&x, file, name, l, &found, e)) return false;
    return found || err_set(e, "%s: holds no matrix %s", file, name);
}

bool mat5_read(const char *path, const char *name, label_image *l, err *e) {
    file_map m;
    memset(l, 0, sizeof *l);
    if (!file_map_open(path, &m, e)) return false;
    bool ok = mat5_parse(m.data, m.length, path, name, l, e);
    file_map_close(&m);
    return ok;
}
