/* containers.h - the table of files that hold tensors, and what the reader of one is given.
 *
 *     static bool read_mine(tensors *t, const file_bytes *f, err *e) {
 *         file_tensor w = {.name = "visual.proj", .type = "F32", .rank = 2, .shape = {4, 6}, .data = f->data + 64};
 *         return tensors_add(t, &w, e);             // row-major; bytes are filled in, the name is copied
 *     }
 *
 * A new container is a file with such a function and a row in containers.c. Bytes decide whose it is, never its name.
 * A reader believes nothing: every number of the file is checked against the file before it is used.
 */
#ifndef CONTAINERS_H
#define CONTAINERS_H
#include "files/files.h"
#include "models/tensors.h"

typedef struct {
    const unsigned char *data;
    size_t length;
    const char *name;
} file_bytes;

typedef bool container_is(const file_bytes *f);
typedef bool container_read(tensors *t, const file_bytes *f, err *e);
typedef struct {
    const char *name;
    container_is *is;
    container_read *read; /* NULL: known and not read, for the reason in `why` */
    const char *why;
} container;
/* The row whose file it is; NULL: none. */
const container *container_of(const file_bytes *f);

/* ---- the set, for those that fill it (opened.c, tensors.c) ------------------------------------- */
enum { NOTES_MOST = 64 };
typedef const unsigned char *tensors_unpack(tensors *t, void *state, const file_tensor *w, err *e);
typedef struct {
    void *p;
    void (*release)(void *);
} tensors_kept;

struct tensors {
    char *name;
    const char *container;
    file_tensor *items;
    file_tensor **sorted; /* by name */
    size_t count, room;
    tensors_kept *kept;
    size_t kept_count, kept_room;
    const char *notes[NOTES_MOST];
    size_t note_count;
    const char *config, *pixels, *merges;
    file_map map; /* tensors_open's, of one file */
    bool mapped;
    file_bytes file;
    tensors_unpack *unpack;
    void *unpack_state;
    tensors **parts; /* an index's shards */
    size_t part_count;
};
/* An empty set; NULL: no memory. */
tensors *tensors_make(const char *name, err *e);
/* By name, once all are there; what: whose fault it is when a name stands twice. */
bool tensors_sort(tensors *t, const char *what, err *e);
/* Among the `count` that were there when they were sorted. NULL: there is none. */
const file_tensor *tensors_find_among(const tensors *t, size_t count, const char *name);

/* ---- for readers ------------------------------------------------------------------------------ */
/* Copies *w, its name too; .type is a string that lasts. Where .bytes is 0 the shape and type give it. The caller has
 * checked that the numbers lie within the file. */
bool tensors_add(tensors *t, const file_tensor *w, err *e); /* row-major: strides are filled in */
bool tensors_add_strided(tensors *t, const file_tensor *w, err *e);
/* w's numbers row-major to `to`, whatever its strides; it has data, and a type whose numbers stand alone. */
void tensor_put_in_order(const file_tensor *w, unsigned char *to);
/* A copy of text that lives as long as the set; NULL: no memory. */
char *tensors_text(tensors *t, const char *text, size_t length);
/* Memory that the set releases at its end; at once, with false, where it cannot. */
bool tensors_keep(tensors *t, void *p, void (*release)(void *), err *e);
bool tensors_add_note(tensors *t, err *e, const char *format, ...) PRINTF_LIKE(3, 4);
void tensors_set_container(tensors *t, const char *name); /* more exactly than its row */
void tensors_set_config(tensors *t, const char *json);    /* a text that the set keeps */
void tensors_set_pixels(tensors *t, const char *json);
void tensors_set_merges(tensors *t, const char *merges);
/* For containers that pack: where the first number of a tensor without data is, once unpacked into memory that the set
 * keeps (tensors_keep); its strides hold there. state is handed back. */
void tensors_set_unpack(tensors *t, tensors_unpack *unpack, void *state);
/* A tensor of this type and shape: false where its bytes cannot be counted or its rows are no whole blocks. */
bool tensor_count_bytes(const char *type, const size_t *shape, size_t rank, size_t *bytes);
/* Bytes of one number; 0: no such type, or one that is stored in blocks. */
size_t number_bytes(const char *type);

/* ---- the readers ------------------------------------------------------------------------------- */
container_read safetensors_read, zip_read, torch_legacy_read, gguf_read;
container_is zip_is, torch_legacy_is, gguf_is;
struct zip;
bool npz_read(tensors *t, const struct zip *z, const file_bytes *f, err *e); /* z: zip_read's, which the set keeps */
#endif
