/* safetensors.c - the reader that believes nothing, and the writer (see safetensors.h). */
#include "models/safetensors.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "files/files.h"
#include "files/json.h"
#include "files/utf8.h"

enum { HEADER_MOST = 100000000 }; /* MODEL.md 7 */

struct safetensors {
    char *name;
    file_map map; /* st_open's */
    bool mapped;
    const unsigned char *data; /* after the header */
    size_t data_bytes;
    st_tensor *tensors;       /* in the header's order */
    const st_tensor **sorted; /* by name */
    size_t count;
    char *names; /* all names, one after another */
};

/* ---- number types ----------------------------------------------------------------------------- */
typedef struct {
    char name[12];
    unsigned bits;
} st_type;
static const st_type types[] = {{"BOOL", 8}, {"F4", 4},         {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
                                {"I8", 8},   {"F8_E5M2", 8},    {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
                                {"I16", 16}, {"U16", 16},       {"F16", 16},    {"BF16", 16},   {"I32", 32},
                                {"U32", 32}, {"F32", 32},       {"C64", 64},    {"F64", 64},    {"I64", 64},
                                {"U64", 64}, {"F8_E5M2FNUZ", 8}};

static const st_type *type_named(const char *name) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) return &types[i];
    return NULL;
}

static float float_of_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint32_t bits_of_float(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

float st_from_bfloat(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

uint16_t st_to_bfloat(float x) {
    uint32_t u = bits_of_float(x);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40); /* NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

uint16_t st_to_half(float x) {
    uint32_t u = bits_of_float(x), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00);  /* NaN */
    if (u >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and more */
    if (u < 0x38800000)                                    /* below 2^-14: adding 0.5 rounds to multiples of 2^-24 */
        return (uint16_t)(sign | (bits_of_float(float_of_bits(u) + 0.5f) - 0x3f000000));
    u += 0xfffu + (u >> 13 & 1); /* half of the last kept bit, less one where that bit is even */
    return (uint16_t)(sign | ((u >> 13) - (112u << 10)));
}

/* ---- shapes ------------------------------------------------------------------------------------ */
size_t st_size(const st_tensor *t) {
    size_t n = 1;
    for (size_t i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

st_shape_text st_shape(const size_t *shape, size_t rank) {
    st_shape_text s;
    int n = snprintf(s.text, sizeof s.text, "[");
    for (size_t i = 0; i < rank && n < (int)sizeof s.text - 24; i++)
        n += snprintf(s.text + n, sizeof s.text - (size_t)n, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(s.text + n, sizeof s.text - (size_t)n, "]");
    return s;
}

/* Bytes of a tensor of this type and shape; false where they are not countable or not whole. */
static bool count_bytes(const st_type *type, const size_t *shape, size_t rank, size_t *bytes) {
    size_t n = 1, bits;
    for (size_t i = 0; i < rank; i++)
        if (!size_mul(n, shape[i], &n)) return false;
    if (type->bits >= 8) return size_mul(n, type->bits / 8, bytes);
    if (!size_mul(n, type->bits, &bits) || bits % 8 != 0) return false;
    *bytes = bits / 8;
    return true;
}

/* ---- reading: the header's bounds ---------------------------------------------------------------- */
static bool header_bounds(const unsigned char *bytes, size_t length, const char *name, size_t *header, err *e) {
    if (length < 8)
        return err_set(e, "%s: the file has %zu bytes, expected at least 8 (the header's length)", name, length);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | bytes[i];
    if (n > HEADER_MOST)
        return err_set(e, "%s: header length is %" PRIu64 ", expected at most %d: not a safetensors file?", name, n,
                       HEADER_MOST);
    if (n > length - 8)
        return err_set(e, "%s: header length is %" PRIu64 ", but only %zu bytes follow: file cut short?", name, n,
                       length - 8);
    if (n == 0) return err_set(e, "%s: header length is 0, expected at least 2 ({})", name);
    if (bytes[8] != '{') return err_set(e, "%s: header begins with byte 0x%02x, expected {", name, (unsigned)bytes[8]);
    *header = (size_t)n;
    while (n > 0 && bytes[8 + n - 1] == ' ') n--; /* padding */
    if (bytes[8 + n - 1] != '}')
        return err_set(e, "%s: header ends with byte 0x%02x, expected }, then at most spaces", name,
                       (unsigned)bytes[8 + n - 1]);
    return true;
}

/* ---- reading: one tensor's entry -------------------------------------------------------------------- */
static bool bad(const safetensors *s, const char *tensor, err *e) {
    return err_prefix(e, "%s: tensor \"%.200s\"", s->name, tensor);
}

static bool read_shape(const cJSON *shape, st_tensor *t, err *e) {
    char found[64];
    json_describe(shape, found, sizeof found);
    if (!cJSON_IsArray(shape)) return err_set(e, "shape is %s, expected a list of whole numbers", found);
    t->rank = 0;
    for (const cJSON *v = shape->child; v; v = v->next) {
        if (t->rank == ST_RANK) return err_set(e, "shape has more than %d dimensions", ST_RANK);
        json_describe(v, found, sizeof found);
        if (!json_whole(v, &t->shape[t->rank]))
            return err_set(e, "shape[%zu] is %s, expected a whole number from 0 to 2^53-1", t->rank, found);
        t->rank++;
    }
    return true;
}

static bool read_offsets(const cJSON *offsets, size_t *range, err *e) {
    char found[64];
    json_describe(offsets, found, sizeof found);
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2)
        return err_set(e, "data_offsets is %s, expected a list of two numbers, [begin, end]",
                       cJSON_IsArray(offsets) ? "a list of another length" : found);
    const cJSON *v = offsets->child;
    for (int i = 0; i < 2; i++, v = v->next) {
        json_describe(v, found, sizeof found);
        if (!json_whole(v, &range[i]))
            return err_set(e, "data_offsets[%d] is %s, expected a whole number from 0 to 2^53-1", i, found);
    }
    return true;
}

/* The three fields against each other and against the bytes there are. */
static bool check_entry(const safetensors *s, const st_type *type, st_tensor *t, const size_t *range, err *e) {
    if (range[0] > range[1]) return err_set(e, "data_offsets [%zu, %zu] run backwards", range[0], range[1]);
    if (range[1] > s->data_bytes)
        return err_set(e, "data_offsets [%zu, %zu] end beyond the data, which has %zu bytes: file cut short?", range[0],
                       range[1], s->data_bytes);
    t->bytes = range[1] - range[0];
    t->data = s->data + range[0];
    size_t bytes;
    if (!count_bytes(type, t->shape, t->rank, &bytes))
        return err_set(e, "shape %s of %s is not a countable number of bytes", st_shape(t->shape, t->rank).text,
                       t->type);
    if (bytes != t->bytes)
        return err_set(e, "data_offsets [%zu, %zu] hold %zu bytes, expected %zu for shape %s of %s", range[0], range[1],
                       t->bytes, bytes, st_shape(t->shape, t->rank).text, t->type);
    return true;
}

static bool read_entry(const safetensors *s, const cJSON *entry, st_tensor *t, err *e) {
    char found[64];
    json_describe(entry, found, sizeof found);
    if (!cJSON_IsObject(entry)) return err_set(e, "entry is %s, expected {dtype, shape, data_offsets}", found);
    json_scope fields = {.object = entry, .file = s->name, .e = e};
    const cJSON *dtype, *shape, *offsets;
    snprintf(fields.path, sizeof fields.path, "%.90s", t->name);
    if (!json_field(&fields, "dtype", &dtype) || !json_field(&fields, "shape", &shape) ||
        !json_field(&fields, "data_offsets", &offsets))
        return false;
    json_describe(dtype, found, sizeof found);
    const st_type *type = cJSON_IsString(dtype) ? type_named(dtype->valuestring) : NULL;
    if (!type) return err_set(e, "dtype is %s, expected one of BOOL, U8, F16, BF16, F32, F64, I64 and the like", found);
    t->type = type->name;
    size_t range[2];
    return read_shape(shape, t, e) && read_offsets(offsets, range, e) && check_entry(s, type, t, range, e);
}

static bool check_metadata(const safetensors *s, const cJSON *metadata, err *e) {
    char found[64];
    json_describe(metadata, found, sizeof found);
    if (!cJSON_IsObject(metadata)) return err_set(e, "%s: __metadata__ is %s, expected an object", s->name, found);
    for (const cJSON *v = metadata->child; v; v = v->next) {
        json_describe(v, found, sizeof found);
        if (!cJSON_IsString(v))
            return err_set(e, "%s: __metadata__.%.60s is %s, expected a string", s->name, v->string, found);
    }
    return true;
}

/* ---- reading: the tensors against each other ---------------------------------------------------------- */
static int by_name(const void *a, const void *b) {
    const st_tensor *x = *(const st_tensor *const *)a, *y = *(const st_tensor *const *)b;
    return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b) {
    const st_tensor *x = *(const st_tensor *const *)a, *y = *(const st_tensor *const *)b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static bool check_names(safetensors *s, err *e) {
    qsort(s->sorted, s->count, sizeof *s->sorted, by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->sorted[i - 1]->name, s->sorted[i]->name) == 0)
            return err_set(e, "%s: tensor \"%.200s\" stands twice in the header", s->name, s->sorted[i]->name);
    return true;
}

/* Sorted by offset the tensors start at 0, without hole or overlap, and end where the file ends. */
static bool check_places(safetensors *s, err *e) {
    qsort(s->sorted, s->count, sizeof *s->sorted, by_place);
    size_t end = 0;
    for (size_t i = 0; i < s->count; i++) {
        const st_tensor *t = s->sorted[i];
        size_t begin = (size_t)(t->data - s->data);
        if (begin != end)
            return err_set(e, "%s: tensor \"%.200s\" begins at %zu, expected %zu, where %s%.200s%s ends: %s", s->name,
                           t->name, begin, end, i ? "\"" : "", i ? s->sorted[i - 1]->name : "the header", i ? "\"" : "",
                           begin > end ? "a hole" : "they overlap");
        end = begin + t->bytes;
    }
    if (end != s->data_bytes)
        return err_set(e, "%s: the last tensor ends at %zu, but %zu bytes of data follow the header", s->name, end,
                       s->data_bytes);
    return true;
}

/* ---- reading: the whole header ---------------------------------------------------------------------------- */
/* Whole numbers could be spelled 1.0 or 1e2 or -0, and cJSON would not tell: digits alone are allowed here. */
static bool check_spelling(const safetensors *s, const unsigned char *header, size_t length, err *e) {
    bool inside = false;
    for (size_t i = 0; i < length; i++) {
        if (inside && header[i] == '\\')
            i++;
        else if (header[i] == '"')
            inside = !inside;
        else if (!inside && header[i] && strchr(".-+E", header[i]))
            return err_set(e, "%s: header, byte %zu: a number with \"%c\", expected digits alone", s->name, i,
                           header[i]);
        else if (!inside && header[i] == 'e' && i > 0 && header[i - 1] >= '0' && header[i - 1] <= '9')
            return err_set(e, "%s: header, byte %zu: a number with \"e\", expected digits alone", s->name, i);
    }
    return true;
}

static bool make_room(safetensors *s, const cJSON *root, err *e) {
    size_t entries = 0, letters = 0;
    for (const cJSON *v = root->child; v; v = v->next, entries++) letters += strlen(v->string) + 1;
    s->tensors = mem_alloc(entries + 1, sizeof *s->tensors);
    s->sorted = mem_alloc(entries + 1, sizeof *s->sorted);
    s->names = mem_alloc(letters + 1, 1);
    if (s->tensors && s->sorted && s->names) return true;
    return err_set(e, "%s: not enough memory for a header of %zu tensors", s->name, entries);
}

static bool read_entries(safetensors *s, const cJSON *root, err *e) {
    if (!make_room(s, root, e)) return false;
    char *names = s->names;
    bool metadata = false;
    for (const cJSON *v = root->child; v; v = v->next) {
        if (strcmp(v->string, "__metadata__") == 0) {
            if (metadata) return err_set(e, "%s: __metadata__ stands twice in the header", s->name);
            metadata = true;
            if (!check_metadata(s, v, e)) return false;
            continue;
        }
        st_tensor *t = &s->tensors[s->count];
        size_t letters = strlen(v->string) + 1;
        t->name = memcpy(names, v->string, letters);
        names += letters;
        if (!read_entry(s, v, t, e)) return bad(s, t->name, e);
        s->sorted[s->count++] = t;
    }
    return true;
}

static bool read_header(safetensors *s, const unsigned char *header, size_t length, err *e) {
    char name[300];
    snprintf(name, sizeof name, "%.280s: header", s->name);
    cJSON *root = json_parse((const char *)header, length, name, e);
    if (!root) return false;
    bool ok =
        read_entries(s, root, e) && check_spelling(s, header, length, e) && check_names(s, e) && check_places(s, e);
    json_free(root);
    if (ok) qsort(s->sorted, s->count, sizeof *s->sorted, by_name); /* for st_find */
    return ok;
}

safetensors *st_parse(const unsigned char *bytes, size_t length, const char *name, err *e) {
    size_t header = 0, letters = strlen(name) + 1;
    if (!header_bounds(bytes, length, name, &header, e)) return NULL;
    safetensors *s = mem_alloc(1, sizeof *s);
    char *copy = mem_alloc(letters, 1);
    if (!s || !copy) {
        mem_free(s);
        mem_free(copy);
        err_set(e, "%s: not enough memory", name);
        return NULL;
    }
    s->name = memcpy(copy, name, letters);
    s->data = bytes + 8 + header;
    s->data_bytes = length - 8 - header;
    if (read_header(s, bytes + 8, header, e)) return s;
    st_free(s);
    return NULL;
}

safetensors *st_open(const char *path, err *e) {
    file_map map;
    if (!file_map_open(path, &map, e)) return NULL;
    safetensors *s = st_parse(map.data, map.length, path, e);
    if (!s) {
        file_map_close(&map);
        return NULL;
    }
    s->map = map;
    s->mapped = true;
    return s;
}

void st_free(safetensors *s) {
    if (!s) return;
    if (s->mapped) file_map_close(&s->map);
    mem_free(s->tensors);
    mem_free(s->sorted);
    mem_free(s->names);
    mem_free(s->name);
    mem_free(s);
}

/* ---- what was read ------------------------------------------------------------------------------------------ */
const char *st_name(const safetensors *s) { return s->name; }
size_t st_count(const safetensors *s) { return s->count; }
const st_tensor *st_at(const safetensors *s, size_t i) { return &s->tensors[i]; }

const st_tensor *st_find(const safetensors *s, const char *name) {
    st_tensor key = {.name = name};
    const st_tensor *wanted = &key;
    const st_tensor **found = bsearch(&wanted, s->sorted, s->count, sizeof *s->sorted, by_name);
    return found ? *found : NULL;
}

bool st_floats(const st_tensor *t, real *out, size_t count, err *e) {
    if (count != st_size(t))
        return err_set(e, "tensor \"%.200s\" has shape %s, expected %zu numbers", t->name,
                       st_shape(t->shape, t->rank).text, count);
    if (strcmp(t->type, "F32") == 0) {
        for (size_t i = 0; i < count; i++) {
            float x;
            memcpy(&x, t->data + 4 * i, sizeof x);
            order_bytes(&x, 1, sizeof x);
            out[i] = x;
        }
    } else if (strcmp(t->type, "F64") == 0) {
        for (size_t i = 0; i < count; i++) {
            double x;
            memcpy(&x, t->data + 8 * i, sizeof x);
            order_bytes(&x, 1, sizeof x);
            out[i] = (real)x;
        }
    } else if (strcmp(t->type, "F16") == 0 || strcmp(t->type, "BF16") == 0) {
        bool half = t->type[0] == 'F';
        for (size_t i = 0; i < count; i++) {
            uint16_t h;
            memcpy(&h, t->data + 2 * i, sizeof h);
            order_bytes(&h, 1, sizeof h);
            out[i] = half ? half_to_float(h) : st_from_bfloat(h);
        }
    } else {
        return err_set(e, "tensor \"%.200s\" has dtype %s, expected F32, F16, BF16 or F64", t->name, t->type);
    }
    return true;
}

/* ---- writing -------------------------------------------------------------------------------------------------- */
/* A JSON string; to holds 6 bytes for each of the text's, and 2. Bytes that are no UTF-8 become U+FFFD. */
static char *put_string(char *to, const char *text) {
    size_t left = strlen(text), used;
    *to++ = '"';
    for (; left > 0; text += used, left -= used) {
        unsigned char bytes[4];
        uint32_t c = utf8_decode(text, left, &used);
        if (c < 0x20) {
            to += sprintf(to, "\\u%04x", (unsigned)c);
            continue;
        }
        if (c == '"' || c == '\\') *to++ = '\\';
        size_t n = utf8_encode(c, bytes);
        memcpy(to, bytes, n);
        to += n;
    }
    *to++ = '"';
    return to;
}

/* An upper bound on the header's length, or false with what is wrong with a tensor. */
static bool header_room(const char *path, const st_tensor *tensors, size_t count, const char *const *metadata,
                        size_t *room, err *e) {
    *room = 128;
    for (; metadata && *metadata; metadata++) *room += 6 * strlen(*metadata) + 8;
    for (size_t i = 0; i < count; i++) {
        const st_tensor *t = &tensors[i];
        const st_type *type = type_named(t->type);
        size_t bytes = 0;
        if (!type) return err_set(e, "%s: tensor \"%.200s\": no such dtype: \"%s\"", path, t->name, t->type);
        if (t->rank > ST_RANK || !count_bytes(type, t->shape, t->rank, &bytes) || bytes != t->bytes)
            return err_set(e, "%s: tensor \"%.200s\": %zu bytes given, expected %zu for shape %s of %s", path, t->name,
                           t->bytes, bytes, st_shape(t->shape, t->rank <= ST_RANK ? t->rank : ST_RANK).text, t->type);
        *room += 6 * strlen(t->name) + 128 + 24 * t->rank;
    }
    return true;
}

static char *put_metadata(char *to, const char *const *metadata) {
    to += sprintf(to, "\"__metadata__\":{");
    for (size_t i = 0; metadata[i]; i += 2) {
        if (i) *to++ = ',';
        to = put_string(to, metadata[i]);
        *to++ = ':';
        to = put_string(to, metadata[i + 1]);
    }
    *to++ = '}';
    return to;
}

static size_t put_header(char *header, const st_tensor *tensors, size_t count, const char *const *metadata) {
    char *to = header;
    *to++ = '{';
    if (metadata) to = put_metadata(to, metadata);
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        const st_tensor *t = &tensors[i];
        if (i || metadata) *to++ = ',';
        to = put_string(to, t->name);
        to += sprintf(to, ":{\"dtype\":\"%s\",\"shape\":[", t->type);
        for (size_t d = 0; d < t->rank; d++) to += sprintf(to, "%s%zu", d ? "," : "", t->shape[d]);
        to += sprintf(to, "],\"data_offsets\":[%zu,%zu]}", offset, offset + t->bytes);
        offset += t->bytes;
    }
    *to++ = '}';
    while ((8 + (to - header)) % 64 != 0) *to++ = ' ';
    return (size_t)(to - header);
}

static bool put_made(FILE *stream, const st_tensor *tensors, size_t count, st_make *make, void *arg, err *e) {
    size_t most = 0;
    for (size_t i = 0; i < count; i++)
        if (tensors[i].bytes > most) most = tensors[i].bytes;
    unsigned char *room = mem_alloc(most, 1);
    bool ok = room || err_set(e, "not enough memory for a tensor of %zu bytes", most);
    for (size_t i = 0; ok && i < count; i++) {
        ok = make(arg, i, room, e);
        const st_type *type = type_named(tensors[i].type);
        if (ok && type && type->bits >= 16) order_bytes(room, tensors[i].bytes / (type->bits / 8), type->bits / 8);
        if (ok && tensors[i].bytes > 0) fwrite(room, 1, tensors[i].bytes, stream);
    }
    mem_free(room);
    return ok;
}

static bool take_data(void *arg, size_t i, unsigned char *to, err *e) {
    const st_tensor *tensors = arg;
    (void)e;
    if (tensors[i].bytes > 0) memcpy(to, tensors[i].data, tensors[i].bytes);
    return true;
}

bool st_write_made(const char *path, const st_tensor *tensors, size_t count, const char *const *metadata, st_make *make,
                   void *arg, err *e) {
    size_t room;
    if (!header_room(path, tensors, count, metadata, &room, e)) return false;
    char *header = mem_alloc(room, 1);
    if (!header) return err_set(e, "%s: not enough memory for a header of %zu bytes", path, room);
    size_t length = put_header(header, tensors, count, metadata);
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (unsigned char)((uint64_t)length >> 8 * i);
    out_file f;
    bool ok = out_open(&f, path, e);
    if (ok) {
        /* out_close sees the stream's error flag, so short writes need no check here. */
        fwrite(prefix, 1, sizeof prefix, f.stream);
        fwrite(header, 1, length, f.stream);
        ok = put_made(f.stream, tensors, count, make, arg, e);
        if (ok) ok = out_close(&f, e);
        else out_abandon(&f);
    }
    mem_free(header);
    return ok;
}

bool st_write(const char *path, const st_tensor *tensors, size_t count, const char *const *metadata, err *e) {
    st_tensor *copy = mem_alloc(count, sizeof *copy); /* the callback's argument is not const */
    if (!copy) return err_set(e, "%s: not enough memory for %zu tensors", path, count);
    if (count) memcpy(copy, tensors, count * sizeof *copy);
    bool ok = st_write_made(path, tensors, count, metadata, take_data, copy, e);
    mem_free(copy);
    return ok;
}
