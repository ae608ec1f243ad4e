/* npy.c - numpy's arrays in files (see files.h). Every type and order is read, little-endian float32 is written. */
#include "files/files.h"
#include <string.h>

/* ---- npy: magic, version, header length, a Python dict in text, then the numbers --------------- */
static bool npy_count(const size_t *shape, size_t rank, size_t *count) {
    *count = 1;
    for (size_t i = 0; i < rank; i++)
        if (!size_mul(*count, shape[i], count)) return false;
    return size_mul(*count, 8, &(size_t){0});
}

static void store32(unsigned char *to, float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    for (int k = 0; k < 4; k++) to[k] = (unsigned char)(u >> 8 * k);
}

static bool npy_put(FILE *f, const real *data, const size_t *shape, size_t rank, const char *name, err *e) {
    char dims[128] = "", header[320];
    unsigned char chunk[4096];
    size_t count, at = 0;
    if (rank > 4 || !npy_count(shape, rank, &count))
        return err_set(e, "%s: an array of %zu dimensions cannot be written, at most 4 can", name, rank);
    for (size_t i = 0; i < rank; i++)
        at += (size_t)snprintf(dims + at, sizeof dims - at, i ? ", %zu" : rank == 1 ? "%zu," : "%zu", shape[i]);
    int n = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", dims);
    int whole = (10 + n + 1 + 63) / 64 * 64; /* magic to line feed: a multiple of 64 */
    fwrite("\x93NUMPY\1\0", 1, 8, f);
    fputc((whole - 10) & 255, f);
    fputc((whole - 10) >> 8, f);
    fprintf(f, "%s%*s\n", header, whole - 11 - n, "");
    for (size_t i = 0; i < count;) {
        size_t m = 0;
        for (; m < sizeof chunk && i < count; m += 4) store32(chunk + m, (float)data[i++]);
        if (fwrite(chunk, 1, m, f) != m) break; /* whoever closes the stream says why */
    }
    return true;
}

bool npy_write(const char *path, const real *data, const size_t *shape, size_t rank, err *e) {
    out_file f;
    if (!out_open(&f, path, e)) return false;
    if (npy_put(f.stream, data, shape, rank, path, e)) return out_close(&f, e);
    out_abandon(&f);
    return false;
}

bool npy_print(const char *name, const real *data, const size_t *shape, size_t rank, err *e) {
    return npy_put(stdout, data, shape, rank, name, e);
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
            return err_set(e, "%s: npy: descr, byte %zu of the header, is no simple type, expected one such as '<f4'", name, (size_t)(c.at - text));
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

/* ---- numbers of any type and order -------------------------------------------------------------------- */
static bool types_of(const char *type, char *kind, size_t *each) {
    static const char *const known[] = {"b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strchr("<>|=", type[0]) && type[0] && !strcmp(type + 1, known[i]) && (type[0] != '|' || known[i][1] == '1')) {
            *kind = known[i][0];
            *each = (size_t)(known[i][1] - '0');
            return true;
        }
    return false;
}

static double number_of(char kind, size_t each, uint64_t u) {
    float f;
    double d;
    uint32_t low = (uint32_t)u;
    if (kind == 'f' && each == 2) return (double)half_to_float((uint16_t)u);
    if (kind == 'f' && each == 4) return memcpy(&f, &low, 4), (double)f;
    if (kind == 'f') return memcpy(&d, &u, 8), d;
    if (kind == 'b') return u ? 1 : 0;
    if (kind == 'i' && u >> (8 * each - 1)) return -(double)(each == 8 ? ~u + 1 : ((uint64_t)1 << 8 * each) - u);
    return (double)u;
}

/* How far number i of the rows-first order lies from the first one, counted in numbers. */
static size_t place_of(const npy_header *h, size_t i) {
    size_t place = 0, step = 1;
    if (!h->columns_first) return i;
    size_t index[NPY_RANK];
    for (size_t k = h->rank; k-- > 0; i /= h->shape[k]) index[k] = i % h->shape[k];
    for (size_t k = 0; k < h->rank; step *= h->shape[k++]) place += index[k] * step;
    return place;
}

bool npy_check(const npy_header *h, size_t length, const char *name, size_t *count, err *e) {
    char kind;
    size_t each;
    if (!types_of(h->type, &kind, &each))
        return err_set(e, "%s: npy: type '%s' found, booleans, whole numbers or floats expected", name, h->type);
    if (!npy_count(h->shape, h->rank, count)) return err_set(e, "%s: npy: the shape is too large", name);
    if (*count * each == length - h->start) return true;
    return err_set(e, "%s: npy: the shape asks for %zu bytes of numbers, %zu are there", name, *count * each,
                   length - h->start);
}

void npy_numbers(const npy_header *h, const unsigned char *bytes, size_t first, size_t count, double *out) {
    char kind = 0;
    size_t each = 1;
    (void)types_of(h->type, &kind, &each);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *p = bytes + h->start + place_of(h, first + i) * each;
        uint64_t u = 0;
        for (size_t k = 0; h->type[0] == '>' && k < each; k++) u = u << 8 | p[k];
        if (h->type[0] != '>') u = load(p, each);
        out[i] = number_of(kind, each, u);
    }
}

bool npy_holds_floats(const npy_header *h) { return h->type[1] == 'f'; }
bool npy_holds_booleans(const npy_header *h) { return h->type[1] == 'b'; }

bool npy_parse(const unsigned char *bytes, size_t length, const char *name, npy_array *a, err *e) {
    enum { PIECE = 512 };
    npy_header h;
    double piece[PIECE];
    size_t count;
    memset(a, 0, sizeof *a);
    if (!npy_parse_header(bytes, length, name, &h, e)) return false;
    if (h.rank > 4) return err_set(e, "%s: npy: more than 4 dimensions", name);
    if (!npy_check(&h, length, name, &count, e)) return false;
    a->data = mem_alloc(count, sizeof *a->data);
    if (!a->data) return err_set(e, "%s: npy: no memory for %zu numbers", name, count);
    a->rank = h.rank;
    memcpy(a->shape, h.shape, sizeof a->shape);
    for (size_t i = 0; i < count; i += PIECE) {
        size_t n = count - i < PIECE ? count - i : PIECE;
        npy_numbers(&h, bytes, i, n, piece);
        for (size_t k = 0; k < n; k++) a->data[i + k] = (real)piece[k];
    }
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
