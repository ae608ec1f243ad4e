/* files.h - reading and writing whole files: atomically written ones, npy arrays, folders.
 *
 *     out_file f;
 *     if (!out_open(&f, "out/result.json", &e)) ...     // writes out/result.json.tmp-PID
 *     fprintf(f.stream, "{}\n");
 *     if (!out_close(&f, &e)) ...                       // fsync-free rename into place; out_abandon() drops it
 */
#ifndef FILES_H
#define FILES_H
#include <stdio.h>
#include "sys/err.h"

typedef struct { FILE *stream; char path[4096], temporary[4160]; } out_file;
bool out_open(out_file *f, const char *path, err *e);
bool out_close(out_file *f, err *e); /* checks every write: a full disk is an error, the old file stays */
void out_abandon(out_file *f);
/* All of a file at once. */
bool file_write(const char *path, const void *bytes, size_t length, err *e);
bool out_check(const char *path, err *e); /* it can be written, now; for before long work */
/* Makes the folder (and its parents) where missing; a file in its place is an error. */
bool folder_make(const char *path, err *e);
bool folder_exists(const char *path);
bool file_exists(const char *path);
bool ends_with(const char *name, const char *end); /* to the letter */
/* Paths, in one block with the pointers first: mem_free(list->path). */
typedef struct { char **path; size_t count; } file_list;
/* FOLDER/NAME of its files that `wanted` accepts (NULL: all), hidden ones and folders left out, in the order of their bytes. */
bool folder_list(const char *folder, bool (*wanted)(const char *name), file_list *list, err *e);
/* The files that FOLDER/PATTERN names, of * ? [], in the same order; none is no error. */
bool pattern_list(const char *pattern, file_list *list, err *e);

/* A whole file, zero-terminated beyond its length. mem_free it. Larger than `most` bytes is an error. */
char *file_read(const char *path, size_t most, size_t *length, err *e);

/* A file mapped for reading. length 0 files map to an empty string. */
typedef struct { const unsigned char *data; size_t length; void *handle; } file_map;
bool file_map_open(const char *path, file_map *m, err *e);
void file_map_close(file_map *m);
/* These bytes were read and are not wanted again soon: they need no memory until they are. */
void file_map_unwanted(const file_map *m, size_t at, size_t bytes);

/* npy 1.0, C order, little-endian float32 out; booleans, whole numbers and floats of either byte order, rows or columns first,
 * in (rows first), up to 4 dimensions. */
bool npy_write(const char *path, const real *data, const size_t *shape, size_t rank, err *e);
/* The same on standard output; the caller looks whether it could be written. */
bool npy_print(const char *name, const real *data, const size_t *shape, size_t rank, err *e);
typedef struct { real *data; size_t shape[4], rank; } npy_array;
bool npy_read(const char *path, npy_array *a, err *e);
bool npy_parse(const unsigned char *bytes, size_t length, const char *name, npy_array *a, err *e);
void npy_free(npy_array *a);
/* What an npy header says, whatever the type; the numbers begin at byte `start`. */
enum { NPY_RANK = 8 };
typedef struct {
    char type[16];      /* "<f4" */
    bool columns_first; /* fortran_order */
    size_t shape[NPY_RANK], rank, start;
} npy_header;
bool npy_parse_header(const unsigned char *bytes, size_t length, const char *name, npy_header *h, err *e);
/* Is there a number for each place of the shape, of a type that is read? `length`: of the whole file. */
bool npy_check(const npy_header *h, size_t length, const char *name, size_t *count, err *e);
/* Numbers first, first + 1... of the rows-first order, of a header that was checked; bytes: the whole file. */
void npy_numbers(const npy_header *h, const unsigned char *bytes, size_t first, size_t count, double *out);
bool npy_holds_floats(const npy_header *h);
bool npy_holds_booleans(const npy_header *h);
float half_to_float(uint16_t h); /* float16 is exact in float */
#endif
