/* zip.c - directories and entries (see zip.h). Names of fields and signatures: PKWARE's APPNOTE. */
#include "files/zip.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { END = 22, END64 = 56, LOCATOR = 20, CENTRAL = 46, LOCAL = 30, COMMENT_MOST = 65535 };

struct zip {
    const unsigned char *bytes;
    size_t length, directory; /* directory: where it begins; entries lie before it */
    const char *name;
    zip_entry *entries;
    const zip_entry **sorted;
    char *names;
    size_t count;
};

static uint64_t little(const unsigned char *p, int bytes) {
    uint64_t u = 0;
    while (bytes-- > 0) u = u << 8 | p[bytes];
    return u;
}

static bool is_signed(const unsigned char *p, unsigned third, unsigned fourth) {
    return p[0] == 'P' && p[1] == 'K' && p[2] == third && p[3] == fourth;
}

/* ---- the end of the archive -------------------------------------------------------------------------- */
static bool find_end(const zip *z, size_t *at, err *e) {
    size_t last = z->length >= END ? z->length - END : 0, first = last > COMMENT_MOST ? last - COMMENT_MOST : 0;
    for (*at = last; z->length >= END; --*at) {
        if (is_signed(z->bytes + *at, 5, 6) && little(z->bytes + *at + 20, 2) <= z->length - *at - END) return true;
        if (*at == first) break;
    }
    return err_set(e, "%s: no end record in its last %zu bytes, expected a zip archive's: file cut short?", z->name,
                   z->length - first);
}

typedef struct {
    uint64_t entries, size, offset;
} directory;

/* zip64: a locator stands before the end record and names the place of a larger one. */
static bool read_end64(const zip *z, size_t end, directory *d, err *e) {
    if (end < LOCATOR || !is_signed(z->bytes + end - LOCATOR, 6, 7)) return true;
    uint64_t at = little(z->bytes + end - LOCATOR + 8, 8);
    if (z->length < END64 || at > z->length - END64 || !is_signed(z->bytes + at, 6, 6))
        return err_set(e, "%s: its zip64 end record is not at byte %" PRIu64, z->name, at);
    const unsigned char *p = z->bytes + at;
    d->entries = little(p + 32, 8);
    d->size = little(p + 40, 8);
    d->offset = little(p + 48, 8);
    return true;
}

static bool read_end(const zip *z, directory *d, err *e) {
    size_t end;
    if (!find_end(z, &end, e)) return false;
    const unsigned char *p = z->bytes + end;
    if (little(p + 4, 2) != little(p + 6, 2) || little(p + 8, 2) != little(p + 10, 2))
        return err_set(e, "%s: a part of a zip archive of several disks, expected a whole one", z->name);
    *d = (directory){little(p + 10, 2), little(p + 12, 4), little(p + 16, 4)};
    if (!read_end64(z, end, d, e)) return false;
    if (d->offset > end || d->size > end - d->offset)
        return err_set(e, "%s: its directory of %" PRIu64 " bytes at %" PRIu64 " lies beyond its end record at %zu",
                       z->name, d->size, d->offset, end);
    if (d->entries > d->size / CENTRAL)
        return err_set(e, "%s: a directory of %" PRIu64 " bytes cannot name %" PRIu64 " entries", z->name, d->size,
                       d->entries);
    return true;
}

/* ---- one entry of the directory ------------------------------------------------------------------------- */
/* Sizes and places of 32 ones stand in the extra field of kind 1, in this order. */
static bool read_extra64(const unsigned char *p, size_t length, uint64_t *fields[3]) {
    while (length >= 4) {
        size_t kind = (size_t)little(p, 2), n = (size_t)little(p + 2, 2);
        if (n > length - 4) return false;
        size_t at = 0;
        for (int i = 0; kind == 1 && i < 3; i++) {
            if (*fields[i] != UINT32_MAX) continue;
            if (n - at < 8) return false;
            *fields[i] = little(p + 4 + at, 8);
            at += 8;
        }
        if (kind == 1) return true;
        p += 4 + n;
        length -= 4 + n;
    }
    return true;
}

static bool check_entry(const zip *z, const zip_entry *t, unsigned flags, unsigned method, uint64_t header, err *e) {
    if (flags & 1) return err_set(e, "%s: entry %.200s is encrypted", z->name, t->name);
    if (method != 0 && method != 8)
        return err_set(e, "%s: entry %.200s is packed by method %u, expected stored (0) or deflated (8)", z->name,
                       t->name, method);
    if (header > z->directory || z->directory - header < LOCAL)
        return err_set(e, "%s: entry %.200s lies at %" PRIu64 ", expected before the directory at %zu", z->name, t->name,
                       header, z->directory);
    if (t->packed > z->directory - header - LOCAL)
        return err_set(e, "%s: entry %.200s has %zu bytes at %" PRIu64 ", the directory begins at %zu", z->name,
                       t->name, t->packed, header, z->directory);
    if (!t->deflated && t->size != t->packed)
        return err_set(e, "%s: entry %.200s is stored, but has %zu bytes of %zu", z->name, t->name, t->packed, t->size);
    if (t->deflated && (t->size > ZIP_MOST || t->size / ZIP_RATIO > t->packed))
        return err_set(e, "%s: entry %.200s would inflate from %zu bytes to %zu, more than %d or %d to 1", z->name,
                       t->name, t->packed, t->size, ZIP_MOST, ZIP_RATIO);
    return true;
}

/* The entry at *p, which moves behind it; its name goes to *names. */
static bool read_entry(zip *z, zip_entry *t, const unsigned char **p, size_t *left, char **names, err *e) {
    const unsigned char *h = *p;
    if (*left < CENTRAL || !is_signed(h, 1, 2))
        return err_set(e, "%s: its directory is damaged at entry %zu", z->name, z->count);
    size_t n = (size_t)little(h + 28, 2), extra = (size_t)little(h + 30, 2), comment = (size_t)little(h + 32, 2);
    if (n + extra + comment > *left - CENTRAL)
        return err_set(e, "%s: entry %zu of its directory runs beyond it", z->name, z->count);
    t->name = memcpy(*names, h + CENTRAL, n);
    *names += n + 1; /* zeroed */
    if (strlen(t->name) != n) return err_set(e, "%s: the name of entry %zu holds a zero byte", z->name, z->count);
    uint64_t packed = little(h + 20, 4), size = little(h + 24, 4), header = little(h + 42, 4);
    if (!read_extra64(h + CENTRAL + n, extra, (uint64_t *[3]){&size, &packed, &header}))
        return err_set(e, "%s: entry %.200s: its extra field is damaged", z->name, t->name);
    if (packed > z->length || size > SIZE_MAX)
        return err_set(e, "%s: entry %.200s has %" PRIu64 " bytes, more than the file", z->name, t->name, packed);
    t->deflated = little(h + 10, 2) == 8;
    t->packed = (size_t)packed;
    t->size = (size_t)size;
    t->checksum = (uint32_t)little(h + 16, 4);
    if (!check_entry(z, t, (unsigned)little(h + 8, 2), (unsigned)little(h + 10, 2), header, e)) return false;
    t->header = (size_t)header;
    *p += CENTRAL + n + extra + comment;
    *left -= CENTRAL + n + extra + comment;
    return true;
}

/* ---- the directory ---------------------------------------------------------------------------------------- */
static int by_name(const void *a, const void *b) {
    return strcmp((*(const zip_entry *const *)a)->name, (*(const zip_entry *const *)b)->name);
}

static bool read_directory(zip *z, err *e) {
    directory d = {0};
    if (!read_end(z, &d, e)) return false;
    z->directory = (size_t)d.offset;
    size_t count = (size_t)d.entries, left = (size_t)d.size;
    z->entries = mem_alloc(count, sizeof *z->entries);
    z->sorted = mem_alloc(count, sizeof *z->sorted);
    z->names = mem_alloc(left + 1, 1); /* each name is shorter than its entry */
    if (!z->entries || !z->sorted || !z->names)
        return err_set(e, "%s: not enough memory for a directory of %zu entries", z->name, count);
    const unsigned char *p = z->bytes + z->directory;
    char *names = z->names;
    for (; z->count < count; z->count++) {
        if (!read_entry(z, &z->entries[z->count], &p, &left, &names, e)) return false;
        z->sorted[z->count] = &z->entries[z->count];
    }
    qsort(z->sorted, count, sizeof *z->sorted, by_name);
    for (size_t i = 1; i < count; i++)
        if (by_name(&z->sorted[i - 1], &z->sorted[i]) == 0)
            return err_set(e, "%s: entry %.200s stands twice in its directory", z->name, z->sorted[i]->name);
    return true;
}

zip *zip_parse(const unsigned char *bytes, size_t length, const char *name, err *e) {
    zip *z = mem_alloc(1, sizeof *z);
    if (!z) return err_set(e, "%s: not enough memory", name), NULL;
    z->bytes = bytes;
    z->length = length;
    z->name = name;
    if (read_directory(z, e)) return z;
    zip_free(z);
    return NULL;
}

void zip_free(zip *z) {
    if (!z) return;
    mem_free(z->entries);
    mem_free(z->sorted);
    mem_free(z->names);
    mem_free(z);
}

size_t zip_count(const zip *z) { return z->count; }
const zip_entry *zip_at(const zip *z, size_t i) { return &z->entries[i]; }

const zip_entry *zip_find(const zip *z, const char *name) {
    zip_entry key = {.name = name};
    const zip_entry *wanted = &key, **found = bsearch(&wanted, z->sorted, z->count, sizeof *z->sorted, by_name);
    return found ? *found : NULL;
}

/* ---- an entry's bytes ----------------------------------------------------------------------------------------- */
/* As they lie in the archive: behind the local header, whose name and extra field have lengths of their own. */
static const unsigned char *packed_bytes(const zip *z, const zip_entry *t, err *e) {
    const unsigned char *h = z->bytes + t->header;
    if (!is_signed(h, 3, 4))
        return err_set(e, "%s: entry %.200s: no local header at %zu", z->name, t->name, t->header), NULL;
    size_t before = LOCAL + (size_t)little(h + 26, 2) + (size_t)little(h + 28, 2), room = z->directory - t->header;
    if (before > room || t->packed > room - before)
        return err_set(e, "%s: entry %.200s has %zu bytes at %zu, the directory begins at %zu", z->name, t->name,
                       t->packed, t->header + before, z->directory),
               NULL;
    return h + before;
}

const unsigned char *zip_stored(const zip *z, const zip_entry *t, err *e) {
    if (!t->deflated) return packed_bytes(z, t, e);
    err_set(e, "%s: entry %.200s is deflated, expected a stored one", z->name, t->name);
    return NULL;
}

/* The first `room` bytes of what p inflates to: exactly as many are there, and the stream's end where `whole`. */
static bool inflate_to(const zip *z, const zip_entry *t, const unsigned char *p, unsigned char *to, size_t room,
                       bool whole, err *e) {
    z_stream s = {0};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) return err_set(e, "%s: not enough memory to inflate", z->name);
    union {
        const unsigned char *in;
        unsigned char *out;
    } from = {.in = p}; /* zlib's next_in is not const everywhere */
    s.next_in = from.out;
    s.avail_in = t->packed < UINT32_MAX ? (uInt)t->packed : UINT32_MAX;
    s.next_out = to;
    s.avail_out = (uInt)room; /* at most ZIP_MOST */
    int state = inflate(&s, whole ? Z_FINISH : Z_SYNC_FLUSH);
    inflateEnd(&s);
    bool good = s.avail_out == 0 && (whole ? state == Z_STREAM_END : state == Z_OK || state == Z_STREAM_END);
    if (room == 0 && !whole) good = true;
    if (good && whole && crc32(crc32(0, NULL, 0), to, (uInt)room) != t->checksum)
        return err_set(e, "%s: entry %.200s: its checksum is another than the directory's", z->name, t->name);
    return good || err_set(e, "%s: entry %.200s does not inflate to the %zu bytes that its directory says: damaged",
                           z->name, t->name, t->size);
}

unsigned char *zip_unpack(const zip *z, const zip_entry *t, err *e) {
    const unsigned char *p = packed_bytes(z, t, e);
    unsigned char *to = p ? mem_alloc(t->size, 1) : NULL;
    if (p && !to) err_set(e, "%s: no memory for the %zu bytes of entry %.200s", z->name, t->size, t->name);
    if (to && !t->deflated && t->size) memcpy(to, p, t->size);
    if (!to || !t->deflated || inflate_to(z, t, p, to, t->size, true, e)) return to;
    mem_free(to);
    return NULL;
}

bool zip_begin(const zip *z, const zip_entry *t, unsigned char *to, size_t room, size_t *got, err *e) {
    const unsigned char *p = packed_bytes(z, t, e);
    *got = room < t->size ? room : t->size;
    if (!p) return false;
    if (t->deflated) return inflate_to(z, t, p, to, *got, false, e);
    if (*got) memcpy(to, p, *got);
    return true;
}
