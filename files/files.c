/* files.c - whole files in and out, npy arrays, folders. */
#include "files/files.h"
#include "os/os.h"
#include <errno.h>
#include <string.h>

/* ---- writing: a temporary name, then rename -------------------------------------------------- */
bool out_open(out_file *f, const char *path, err *e) {
    memset(f, 0, sizeof *f);
    if (!*path) return err_set(e, "the name of a file to write is empty");
    if (strlen(path) >= sizeof f->path - 1) return err_set(e, "%.200s...: the name is too long", path);
    strcpy(f->path, path);
    os_kind kind = os_path_kind(path, NULL);
    if (kind == OS_FOLDER) return err_set(e, "%s: is a folder, a file to write was expected", path);
    if (kind == OS_OTHER) { /* a device or pipe must not be renamed over */
        f->stream = os_open(path, "wb");
    } else { /* a link stays a link, its target is replaced */
        if (kind == OS_FILE && !os_path_real(path, f->path, sizeof f->path)) strcpy(f->path, path);
        snprintf(f->temporary, sizeof f->temporary, "%s.tmp-%ld", f->path, os_process());
        f->stream = os_open(f->temporary, "wb");
    }
    if (!f->stream) return err_set(e, "%s: cannot be written: %s", path, os_reason());
    return true;
}

void out_abandon(out_file *f) {
    if (f->stream) fclose(f->stream);
    if (f->stream && f->temporary[0]) os_remove(f->temporary);
    f->stream = NULL;
}

bool out_close(out_file *f, err *e) {
    FILE *stream = f->stream;
    if (!stream) return err_set(e, "%s: is not open", f->path);
    f->stream = NULL;
    errno = 0;
    int bad = fflush(stream) != 0 || ferror(stream);
    int why = errno;
    if (bad && !why) { /* an earlier write failed, its reason is gone: one byte more fails for the same */
        clearerr(stream);
        if (fputc(0, stream) == EOF || fflush(stream) != 0) why = errno;
    }
    if (fclose(stream) != 0 && !bad) bad = 1, why = errno;
    if (!bad && f->temporary[0] && !os_rename(f->temporary, f->path)) bad = 1, why = errno;
    if (!bad) return true;
    if (f->temporary[0]) os_remove(f->temporary);
    return err_set(e, "%s: writing failed: %s", f->path, why ? strerror(why) : "input/output error");
}

bool out_check(const char *path, err *e) {
    out_file f;
    if (os_path_kind(path, NULL) == OS_OTHER) return true; /* opening a pipe would wait */
    if (!out_open(&f, path, e)) return false;
    out_abandon(&f);
    return true;
}

/* ---- folders --------------------------------------------------------------------------------- */
bool folder_exists(const char *path) { return os_path_kind(path, NULL) == OS_FOLDER; }

bool file_exists(const char *path) {
    os_kind kind = os_path_kind(path, NULL);
    return kind == OS_FILE || kind == OS_OTHER;
}

static bool folder_make_one(const char *path, err *e) {
    if (os_folder_make(path)) return true;
    const char *why = os_reason();
    os_kind kind = os_path_kind(path, NULL);
    if (kind == OS_FOLDER) return true;
    if (kind != OS_NOTHING) return err_set(e, "%s: is a file, a folder was expected", path);
    return err_set(e, "%s: the folder cannot be made: %s", path, why);
}

bool folder_make(const char *path, err *e) {
    char part[4096];
    size_t n = strlen(path);
    if (n == 0) return err_set(e, "the name of a folder to make is empty");
    if (n >= sizeof part) return err_set(e, "%.200s...: the name is too long", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (part[i] != '/' || part[i - 1] == '/') continue;
        part[i] = 0;
        if (!folder_make_one(part, e)) return false;
        part[i] = '/';
    }
    return folder_make_one(part, e);
}

/* ---- reading --------------------------------------------------------------------------------- */
/* A file to read from; *size is what it has, 0 where that is not known beforehand (pipes). */
static FILE *open_file(const char *path, uint64_t *size, err *e) {
    if (!*path) return err_set(e, "the name of a file to read is empty"), NULL;
    if (os_path_kind(path, size) == OS_FOLDER) return err_set(e, "%s: is a folder, a file was expected", path), NULL;
    FILE *f = os_open(path, "rb");
    if (!f) err_set(e, "%s: cannot be read: %s", path, os_reason());
    return f;
}

/* Reads until the end, also from pipes, whose size is not known beforehand. */
static char *read_all(FILE *f, const char *path, size_t expected, size_t most, size_t *length, err *e) {
    size_t room = expected + 2, have = 0; /* one byte for the end to show, one for the zero */
    char *data = mem_alloc(room, 1);
    if (!data) return err_set(e, "%s: no memory for its %zu bytes", path, expected), NULL;
    for (;;) {
        have += fread(data + have, 1, room - 1 - have, f);
        if (ferror(f)) {
            err_set(e, "%s: cannot be read: %s", path, os_reason());
            break;
        }
        if (have > most) {
            err_set(e, "%s: is larger than %zu bytes, the most allowed here", path, most);
            break;
        }
        if (have < room - 1) {
            data[have] = 0;
            *length = have;
            return data;
        }
        char *more = room > SIZE_MAX / 4 ? NULL : mem_resize(data, room * 2);
        if (!more) {
            err_set(e, "%s: no memory for more than %zu bytes", path, have);
            break;
        }
        data = more;
        room *= 2;
    }
    mem_free(data);
    return NULL;
}

char *file_read(const char *path, size_t most, size_t *length, err *e) {
    uint64_t size;
    char *data = NULL;
    *length = 0;
    FILE *f = open_file(path, &size, e);
    if (!f) return NULL;
    if (size > most)
        err_set(e, "%s: has %ju bytes, at most %zu are allowed here", path, (uintmax_t)size, most);
    else
        data = read_all(f, path, size < SIZE_MAX - 2 ? (size_t)size : SIZE_MAX - 2, most, length, e);
    fclose(f);
    return data;
}

/* m->handle tells what must be given back: the map itself, or the copy read where there is no mapping. */
bool file_map_open(const char *path, file_map *m, err *e) {
    uint64_t size;
    memset(m, 0, sizeof *m);
    FILE *f = open_file(path, &size, e);
    if (!f) return false;
    if (size > SIZE_MAX / 2) {
        fclose(f);
        return err_set(e, "%s: has %ju bytes, more than this system can address", path, (uintmax_t)size);
    }
    if (!(m->data = os_map(path, &m->length))) {
        m->handle = read_all(f, path, (size_t)size, SIZE_MAX / 2, &m->length, e);
        m->data = m->handle;
    }
    fclose(f);
    return m->data != NULL;
}

void file_map_close(file_map *m) {
    if (m->handle)
        mem_free(m->handle);
    else if (m->data)
        os_unmap(m->data, m->length);
    memset(m, 0, sizeof *m);
}

/* ---- npy: magic, version, header length, a Python dict in text, then the numbers --------------- */
static bool npy_count(const size_t *shape, size_t rank, size_t *count) {
    *count = 1;
    for (size_t i = 0; i < rank; i++)
        if (!size_mul(*count, shape[i], count)) return false;
    return size_mul(*count, 8, &(size_t){0});
}

static void store32(unsigned char *to, const float *from) {
    uint32_t u;
    memcpy(&u, from, 4);
    for (int k = 0; k < 4; k++) to[k] = (unsigned char)(u >> 8 * k);
}

bool npy_write(const char *path, const float *data, const size_t *shape, size_t rank, err *e) {
    char dims[128] = "", header[320];
    unsigned char chunk[4096];
    size_t count, at = 0;
    out_file f;
    if (rank > 4 || !npy_count(shape, rank, &count))
        return err_set(e, "%s: an array of %zu dimensions cannot be written, at most 4 can", path, rank);
    for (size_t i = 0; i < rank; i++)
        at += (size_t)snprintf(dims + at, sizeof dims - at, i ? ", %zu" : rank == 1 ? "%zu," : "%zu", shape[i]);
    int n = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", dims);
    int whole = (10 + n + 1 + 63) / 64 * 64; /* magic to line feed: a multiple of 64 */
    if (!out_open(&f, path, e)) return false;
    fwrite("\x93NUMPY\1\0", 1, 8, f.stream);
    fputc((whole - 10) & 255, f.stream);
    fputc((whole - 10) >> 8, f.stream);
    fprintf(f.stream, "%s%*s\n", header, whole - 11 - n, "");
    for (size_t i = 0; i < count;) {
        size_t m = 0;
        for (; m < sizeof chunk && i < count; m += 4) store32(chunk + m, data + i++);
        if (fwrite(chunk, 1, m, f.stream) != m) break; /* out_close says why */
    }
    return out_close(&f, e);
}

typedef struct {
    const char *at, *end;
} cursor;

static void spaces(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n')) c->at++;
}

static bool token(cursor *c, const char *word) {
    size_t n = strlen(word);
    spaces(c);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0) return false;
    c->at += n;
    return true;
}

/* A quoted word into out; no escapes, they have no place here. */
static bool quoted(cursor *c, char *out, size_t room) {
    spaces(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return false;
    char mark = *c->at++;
    size_t n = 0;
    for (; c->at < c->end && *c->at != mark; c->at++) {
        if (n + 1 >= room || *c->at < 32 || *c->at > 126) return false;
        out[n++] = *c->at;
    }
    out[n] = 0;
    if (c->at == c->end) return false;
    c->at++;
    return true;
}

static bool number(cursor *c, size_t *out) {
    spaces(c);
    const char *start = c->at;
    *out = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        size_t digit = (size_t)(*c->at - '0');
        if (!size_mul(*out, 10, out) || *out > SIZE_MAX - digit) return false;
        *out += digit;
    }
    return c->at > start;
}

static uint64_t load(const unsigned char *p, size_t bytes) {
    uint64_t u = 0;
    for (size_t k = bytes; k-- > 0;) u = u << 8 | p[k];
    return u;
}

static bool npy_shape(cursor *c, npy_header *h, const char *name, err *e) {
    bool comma = true;
    if (!token(c, "(")) return err_set(e, "%s: npy: shape is not a tuple", name);
    h->rank = 0;
    while (!token(c, ")")) {
        size_t n;
        if (!comma || !number(c, &n)) return err_set(e, "%s: npy: shape is not a tuple of whole numbers", name);
        if (h->rank == NPY_RANK) return err_set(e, "%s: npy: more than %d dimensions", name, NPY_RANK);
        h->shape[h->rank++] = n;
        comma = token(c, ",");
    }
    if (h->rank == 1 && !comma) return err_set(e, "%s: npy: shape is a number in brackets, not a tuple", name);
    return true;
}

/* The dict, which is read as a literal. Every key must stand there once. */
static bool npy_dict(const char *text, size_t n, npy_header *h, const char *name, err *e) {
    cursor c = {text, text + n};
    unsigned seen = 0;
    bool comma = true;
    if (!token(&c, "{")) return err_set(e, "%s: npy: the header is not a dict", name);
    while (!token(&c, "}")) {
        char key[32];
        if (!comma || !quoted(&c, key, sizeof key) || !token(&c, ":"))
            return err_set(e, "%s: npy: the header is damaged after %zu bytes", name, (size_t)(c.at - text));
        unsigned bit = !strcmp(key, "descr") ? 1 : !strcmp(key, "fortran_order") ? 2 : !strcmp(key, "shape") ? 4 : 0;
        if (!bit || (seen & bit))
            return err_set(e, "%s: npy: key '%s' is %s", name, key, bit ? "there twice" : "unknown");
        seen |= bit;
        if (bit == 1 && !quoted(&c, h->type, sizeof h->type))
            return err_set(e, "%s: npy: descr is not a simple type", name);
        if (bit == 2 && !(h->columns_first = token(&c, "True")) && !token(&c, "False"))
            return err_set(e, "%s: npy: fortran_order True or False expected", name);
        if (bit == 4 && !npy_shape(&c, h, name, e)) return false;
        comma = token(&c, ",");
    }
    spaces(&c);
    if (seen != 7)
        return err_set(e, "%s: npy: %s is missing from the header", name,
                       !(seen & 1)   ? "descr"
                       : !(seen & 2) ? "fortran_order"
                                     : "shape");
    return c.at == c.end || err_set(e, "%s: npy: something follows the dict in the header", name);
}

bool npy_parse_header(const unsigned char *bytes, size_t length, const char *name, npy_header *h, err *e) {
    memset(h, 0, sizeof *h);
    if (length < 10 || memcmp(bytes, "\x93NUMPY", 6) != 0) return err_set(e, "%s: is not an npy file", name);
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0)
        return err_set(e, "%s: npy version %d.%d found, 1.0, 2.0 or 3.0 expected", name, bytes[6], bytes[7]);
    h->start = bytes[6] == 1 ? 10 : 12;
    if (length < h->start) return err_set(e, "%s: npy: the file is truncated", name);
    size_t n = (size_t)load(bytes + 8, h->start - 8);
    if (n > length - h->start)
        return err_set(e, "%s: npy: a header of %zu bytes is announced, %zu are there", name, n, length - h->start);
    const char *text = (const char *)bytes + h->start;
    h->start += n;
    return npy_dict(text, n, h, name, e);
}

float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff, u;
    float f;
    if (exponent == 0) { /* subnormal: a multiple of 2^-24 */
        f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    u = sign | (exponent == 31 ? 0xffu : exponent + 112) << 23 | fraction << 13;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float load_float(const unsigned char *p, size_t each) {
    uint64_t u = load(p, each);
    float f;
    double d;
    if (each == 2) return half_to_float((uint16_t)u);
    if (each == 8) return memcpy(&d, &u, 8), (float)d;
    uint32_t low = (uint32_t)u;
    return memcpy(&f, &low, 4), f;
}

bool npy_parse(const unsigned char *bytes, size_t length, const char *name, npy_array *a, err *e) {
    npy_header h;
    size_t count;
    memset(a, 0, sizeof *a);
    if (!npy_parse_header(bytes, length, name, &h, e)) return false;
    size_t each = !strcmp(h.type, "<f2") ? 2 : !strcmp(h.type, "<f4") ? 4 : !strcmp(h.type, "<f8") ? 8 : 0;
    if (!each) return err_set(e, "%s: npy: type '%s' found, '<f2', '<f4' or '<f8' expected", name, h.type);
    if (h.columns_first) return err_set(e, "%s: npy: fortran_order False expected (rows first)", name);
    if (h.rank > 4) return err_set(e, "%s: npy: more than 4 dimensions", name);
    if (!npy_count(h.shape, h.rank, &count)) return err_set(e, "%s: npy: the shape is too large", name);
    if (count * each != length - h.start)
        return err_set(e, "%s: npy: the shape asks for %zu bytes of numbers, %zu are there", name, count * each,
                       length - h.start);
    a->data = mem_alloc(count, sizeof *a->data);
    if (!a->data) return err_set(e, "%s: npy: no memory for %zu numbers", name, count);
    a->rank = h.rank;
    memcpy(a->shape, h.shape, sizeof a->shape);
    for (size_t i = 0; i < count; i++) a->data[i] = load_float(bytes + h.start + i * each, each);
    return true;
}

bool npy_read(const char *path, npy_array *a, err *e) {
    file_map m;
    memset(a, 0, sizeof *a);
    if (!file_map_open(path, &m, e)) return false;
    bool ok = npy_parse(m.data, m.length, path, a, e);
    file_map_close(&m);
    return ok;
}

void npy_free(npy_array *a) {
    mem_free(a->data);
    memset(a, 0, sizeof *a);
}
