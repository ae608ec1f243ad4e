/* png.c - a PNG is chunks with checksums: a header, a palette where there is one, the deflated rows, the end. stb deflates. */
#include "pictures/png.h"
#include "files/files.h"
#include <setjmp.h>
#include <string.h>

/* ---- stb's compressor: its memory from our hook, its asserts a way out ------------------------------- */
enum { SMALL = 1024, SLAB = 1 << 16 };
typedef union block block;
union block { /* stands before all that is handed out */
    struct {
        block *before, *after; /* in the ring of blocks */
        size_t bytes;         /* that may be used behind it */
    } is;
    max_align_t aligned;
};
/* One call of the compressor. An assert jumps back to `out`; every block from the hook is in the ring and is given back
 * at the end, if not before. stb asks for some 10,000 short lists: those share slabs and are given back with them. */
typedef struct {
    jmp_buf out;
    block ring;
    unsigned char *slab;
    size_t slab_left;
} job;
static _Thread_local job *current;

static void *stb_alloc(size_t bytes) {
    job *j = current;
    bool small = bytes <= SMALL;
    size_t need = sizeof(block) + (bytes + sizeof(block) - 1) / sizeof(block) * sizeof(block);
    block *h;
    if (small && need <= j->slab_left) {
        h = (block *)(void *)j->slab;
    } else {
        if (bytes > SIZE_MAX / 2 || !(h = mem_alloc(1, small ? sizeof *h + SLAB : need))) return NULL;
        h->is.before = &j->ring, h->is.after = j->ring.is.after;
        h->is.after->is.before = j->ring.is.after = h;
        if (small) j->slab_left = SLAB, h++;
    }
    if (small) j->slab = (unsigned char *)h + need, j->slab_left -= need;
    h->is.bytes = bytes;
    return h + 1;
}

static void give_back(block *h) {
    h->is.before->is.after = h->is.after;
    h->is.after->is.before = h->is.before;
    mem_free(h);
}

static void stb_free(void *p) {
    if (p && ((block *)p - 1)->is.bytes > SMALL) give_back((block *)p - 1);
}

static void *stb_resize(void *p, size_t bytes) {
    size_t had = p ? ((block *)p - 1)->is.bytes : 0;
    void *more = stb_alloc(bytes);
    if (more && p) memcpy(more, p, had < bytes ? had : bytes);
    if (more) stb_free(p);
    return more;
}

static void stb_stop(void) { longjmp(current->out, 1); }

#define STBIW_MALLOC(n) stb_alloc(n)
#define STBIW_REALLOC(p, n) stb_resize(p, n)
#define STBIW_FREE(p) stb_free(p)
#define STBIW_ASSERT(x) ((x) ? (void)0 : stb_stop())
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#if defined(__GNUC__) /* stb's code is not written for our warnings */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif
#include <stb_image_write.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

/* ---- rows ----------------------------------------------------------------------------------------- */
/* Each row is its filter's number and what it adds to the row above. That one filter (Up), with stb's least search, takes
 * two thirds of the time that stb takes to try all five for every row, for files 3 % larger. */
enum { UP = 2, LEAST_SEARCH = 5 };

/* Bytes of all rows. stb counts in int, and its output, at most 9/8 of them, doubles as it grows. */
static bool rows_fit(const png_image *image, size_t *row, size_t *bytes) {
    return image->width && image->height && size_mul(image->width, image->channels, row) && *row < INT32_MAX &&
           size_mul(*row + 1, image->height, bytes) && *bytes <= 1400000000;
}

/* [height, 1 + row] */
static unsigned char *filtered(const png_image *image, size_t row, size_t bytes) {
    unsigned char *rows = mem_alloc(1, bytes), *to = rows;
    for (size_t y = 0; rows && y < image->height; y++) {
        const unsigned char *from = image->pixels + y * row;
        *to++ = UP;
        for (size_t i = 0; i < row; i++) to[i] = (unsigned char)(from[i] - (y ? from[i - row] : 0));
        to += row;
    }
    return rows;
}

/* Kept whole, so that no variable of stb's lives in the function that the jump returns to. */
#if defined(__GNUC__)
__attribute__((noinline))
#endif
static unsigned char *stb_deflated(unsigned char *rows, size_t bytes, int *length) {
    return stbi_zlib_compress(rows, (int)bytes, length, LEAST_SEARCH);
}

/* In memory that is the job's; NULL when there is none for it. */
static unsigned char *deflated(unsigned char *rows, size_t bytes, int *length) {
    return setjmp(current->out) ? NULL : stb_deflated(rows, bytes, length);
}

/* ---- chunks ---------------------------------------------------------------------------------- */
uint32_t png_crc(uint32_t crc, const unsigned char *bytes, size_t n) {
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = (c & 1) ? c >> 1 ^ 0xEDB88320u : c >> 1;
        table[i] = c;
    }
    crc = ~crc;
    for (size_t i = 0; i < n; i++) crc = table[(crc ^ bytes[i]) & 255] ^ crc >> 8;
    return ~crc;
}

static void put_be32(unsigned char *to, size_t v) {
    for (int k = 0; k < 4; k++) to[k] = (unsigned char)(v >> (24 - 8 * k));
}

/* Failing writes are kept by the stream; out_close reports them. */
static void chunk(FILE *stream, const char type[4], const unsigned char *data, size_t n) {
    unsigned char head[8], tail[4];
    put_be32(head, n);
    memcpy(head + 4, type, 4);
    put_be32(tail, png_crc(png_crc(0, head + 4, 4), data, n));
    fwrite(head, 1, 8, stream);
    fwrite(data, 1, n, stream);
    fwrite(tail, 1, 4, stream);
}

/* ---- the file ---------------------------------------------------------------------------------- */
static void put(FILE *stream, const png_image *image, const unsigned char *data, size_t n) {
    static const unsigned char signature[] = {137, 'P', 'N', 'G', '\r', '\n', 26, '\n'};
    unsigned char header[13] = {[8] = 8, [9] = image->palette ? 3 : image->channels == 3 ? 2 : 0}; /* bits; kind */
    put_be32(header, image->width);
    put_be32(header + 4, image->height);
    fwrite(signature, 1, sizeof signature, stream);
    chunk(stream, "IHDR", header, sizeof header);
    if (image->palette) chunk(stream, "PLTE", image->palette[0], 3 * image->colours);
    chunk(stream, "IDAT", data, n);
    chunk(stream, "IEND", header, 0);
}

bool png_write(const char *path, const png_image *image, err *e) {
    job mine = {.ring.is = {&mine.ring, &mine.ring, 0}}, *outer = current;
    size_t row, bytes;
    int n = 0;
    out_file f;
    if (!rows_fit(image, &row, &bytes))
        return err_set(e, "%s: a picture of %zux%zu pixels cannot be written", path, image->width, image->height);
    unsigned char *rows = filtered(image, row, bytes);
    current = &mine;
    unsigned char *data = rows ? deflated(rows, bytes, &n) : NULL;
    mem_free(rows);
    bool ok = data != NULL;
    if (!ok) err_set(e, "%s: no memory to write a picture of %zux%zu pixels", path, image->width, image->height);
    if (ok && (ok = out_open(&f, path, e))) {
        put(f.stream, image, data, (size_t)n);
        ok = out_close(&f, e);
    }
    while (mine.ring.is.after != &mine.ring) give_back(mine.ring.is.after);
    current = outer;
    return ok;
}
