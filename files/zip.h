/* zip.h - the entries of a zip archive in memory: where they lie, stored or deflated, zip64 too.
 *
 *     zip *z = zip_parse(bytes, length, "model.pt", &e);
 *     const zip_entry *d = zip_find(z, "archive/data.pkl");
 *     const unsigned char *p = zip_stored(z, d, &e);            // d->size bytes as they lie in the archive
 *     unsigned char *q = zip_unpack(z, d, &e);                  // the same, or inflated: mem_free it
 *     zip_free(z);
 *
 * Nothing is written to disk, so no name is a path. Refused: directories and entries beyond the file, encrypted ones,
 * parts of several disks, names that stand twice; entries that would inflate to more than ZIP_MOST bytes or ZIP_RATIO
 * to 1. An entry's checksum is looked at when it is inflated.
 */
#ifndef ZIP_H
#define ZIP_H
#include "sys/err.h"

enum { ZIP_MOST = 1 << 30, ZIP_RATIO = 200 };
typedef struct {
    const char *name;
    bool deflated;
    size_t size, packed; /* bytes: the content's, in the archive */
    size_t header;       /* where its local header stands */
    uint32_t checksum;
} zip_entry;
typedef struct zip zip;

/* bytes must outlive it; name is what messages call it. */
zip *zip_parse(const unsigned char *bytes, size_t length, const char *name, err *e);
void zip_free(zip *z);
size_t zip_count(const zip *z);
const zip_entry *zip_at(const zip *z, size_t i); /* in the directory's order */
const zip_entry *zip_find(const zip *z, const char *name);

/* A stored entry's bytes; deflated ones are an error. */
const unsigned char *zip_stored(const zip *z, const zip_entry *entry, err *e);
/* The content in memory of mem_alloc. */
unsigned char *zip_unpack(const zip *z, const zip_entry *entry, err *e);
/* The content's first `room` bytes, or as many as it has: *got. */
bool zip_begin(const zip *z, const zip_entry *entry, unsigned char *to, size_t room, size_t *got, err *e);
#endif
