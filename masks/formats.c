/* formats.c - the table of files that hold masks, and two of its formats: pictures and npy (see formats.h). */
#include "masks/formats.h"
#include "masks/mask_json.h"
#include "pictures/png.h"
#include <math.h>
#include <string.h>
#include <strings.h>

/* ---- pictures ---------------------------------------------------------------------------------------------- */
/* Anything that is no other format is a picture, or refused as one. */
static bool picture_is(const unsigned char *bytes, size_t length) {
    (void)bytes, (void)length;
    return true;
}

static bool picture_open(mask_file *f, err *e) {
    (void)e;
    f->planes = 1;
    return true;
}

enum { PNG_DEPTH = 24, PNG_COLOUR = 25 };
static bool is_png(const mask_file *f) { return f->bytes.length > 33 && !memcmp(f->bytes.data, "\x89PNG", 4); }
static bool is_palette(const mask_file *f) { return is_png(f) && f->bytes.data[PNG_COLOUR] == 3; }
/* Grey and palette samples of 1, 2 and 4 bits are spread over 0..255 when they are decoded. */
static real spacing(const mask_file *f) {
    unsigned depth = is_png(f) ? f->bytes.data[PNG_DEPTH] : 8;
    return depth < 8 && (f->bytes.data[PNG_COLOUR] == 0 || f->bytes.data[PNG_COLOUR] == 3)
               ? 255 / (real)((1u << depth) - 1)
               : 1;
}

static size_t big32(const unsigned char *p) {
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* The checksum of the chunk at p, whose length n was checked. */
static void seal(unsigned char *p, size_t n) {
    uint32_t crc = png_crc(0, p + 4, n + 4);
    for (int k = 0; k < 4; k++) p[8 + n + (size_t)k] = (unsigned char)(crc >> (24 - 8 * k));
}

/* A palette picture's indices: the same file, said to be grey. Its transparency would mean something else then. */
static bool read_indices(const mask_file *f, raster *r, err *e) {
    size_t n = f->bytes.length, length;
    unsigned char *copy = mem_alloc(n, 1);
    if (!copy) return err_set(e, "%s: no memory for %zu bytes", f->path, n);
    bool ok = raster_parse_as(f->bytes.data, n, f->path, f->frame.stored, r, e); /* a damaged file says so before it is sealed anew */
    if (ok) mem_free(r->data);
    memcpy(copy, f->bytes.data, n);
    copy[PNG_COLOUR] = 0;
    for (size_t at = 8; n - at >= 12 && (length = big32(copy + at)) <= n - at - 12; at += 12 + length) {
        if (!memcmp(copy + at + 4, "tRNS", 4)) memcpy(copy + at + 4, "prVt", 4), seal(copy + at, length);
        if (!memcmp(copy + at + 4, "IHDR", 4)) seal(copy + at, length);
    }
    ok = ok && raster_parse_as(copy, n, f->path, f->frame.stored, r, e);
    mem_free(copy);
    return ok;
}

/* Luma as Pillow's convert("L"): ITU-R 601 weights in 16-bit fixed point. */
static unsigned luma(const unsigned char *rgb) {
    return (rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16;
}

static unsigned sample(const raster *r, size_t i, size_t channel) {
    size_t at = i * r->channels + channel;
    uint16_t wide;
    if (!r->wide) return r->data[at];
    memcpy(&wide, r->data + at * 2, 2);
    return wide;
}

enum { COLOUR_LEAST = 16 }; /* channels further apart than a JPEG's noise */
static bool is_coloured(const raster *r) {
    if (r->channels < 3) return false;
    for (size_t i = 0; i < r->width * r->height; i++) {
        const unsigned char *p = r->data + i * r->channels;
        for (int a = 0; a < 3; a++)
            if (p[a] - p[(a + 1) % 3] > COLOUR_LEAST || p[(a + 1) % 3] - p[a] > COLOUR_LEAST) return true;
    }
    return false;
}

static void fill_values(const raster *r, mask_view view, bool colours, real divide, mask_plane *p) {
    for (size_t i = 0; i < p->width * p->height; i++) {
        const unsigned char *rgb = r->data + i * r->channels;
        if (view == MASK_ALPHA)
            p->value[i] = (real)sample(r, i, r->channels - 1);
        else if (colours)
            p->value[i] = (real)((unsigned)rgb[0] << 16 | (unsigned)rgb[1] << 8 | rgb[2]);
        else if (r->channels >= 3)
            p->value[i] = (real)luma(rgb);
        else
            p->value[i] = (real)sample(r, i, 0) / divide;
    }
}

static void look_at_alpha(const raster *r, mask_plane *p) {
    size_t n = p->width * p->height, opaque = 0;
    if (r->channels % 2) return;
    unsigned full = r->wide ? 65535 : 255;
    for (size_t i = 0; i < n; i++) opaque += sample(r, i, r->channels - 1) == full;
    p->opaque = (double)opaque / (double)n;
    p->see_through = 1 - p->opaque;
}

static bool picture_read_plane(mask_file *f, size_t plane, mask_view view, mask_plane *p, err *e) {
    raster r;
    bool palette = is_palette(f), labels = view == MASK_LABELS;
    (void)plane;
    *p = (mask_plane){0};
    if (labels && palette) {
        if (!read_indices(f, &r, e)) return false;
    } else if (!raster_parse_as(f->bytes.data, f->bytes.length, f->path, f->frame.stored, &r, e)) {
        return false;
    }
    bool coloured = is_coloured(&r), ok = true;
    if (view == MASK_ALPHA && r.channels % 2) ok = err_set(e, "%s: has no alpha channel", f->path);
    ok = ok && mask_plane_new(p, r.width, r.height, f->path, e);
    if (ok) {
        p->whole = true;
        p->palette = palette && (coloured || labels);
        p->coloured = coloured;
        p->colours = labels && coloured && !palette;
        look_at_alpha(&r, p);
        fill_values(&r, view, p->colours, labels ? spacing(f) : 1, p);
        if (view == MASK_ALPHA) p->full = r.wide ? 65535 : 255;
    }
    mem_free(r.data);
    return ok;
}

/* ---- npy: [h,w], [N,h,w], [N,1,h,w] ---------------------------------------------------------------------------- */
static bool npy_is(const unsigned char *bytes, size_t length) { return length > 6 && !memcmp(bytes, "\x93NUMPY", 6); }

static bool npy_open(mask_file *f, err *e) {
    npy_header *h = mem_alloc(1, sizeof *h);
    size_t count;
    f->own = h;
    if (!h) return err_set(e, "%s: no memory", f->path);
    if (!npy_parse_header(f->bytes.data, f->bytes.length, f->path, h, e) ||
        !npy_check(h, f->bytes.length, f->path, &count, e))
        return false;
    bool four = h->rank == 4 && h->shape[1] == 1;
    if (h->rank != 2 && h->rank != 3 && !four)
        return err_set(e, "%s: npy of %zu dimensions, [height, width] or [masks, height, width] expected", f->path, h->rank);
    f->planes = h->rank == 2 ? 1 : h->shape[0];
    return count > 0 || err_set(e, "%s: npy without numbers", f->path);
}

static bool npy_read_plane(mask_file *f, size_t plane, mask_view view, mask_plane *p, err *e) {
    enum { PIECE = 512 };
    const npy_header *h = f->own;
    double piece[PIECE];
    size_t w = h->shape[h->rank - 1], height = h->shape[h->rank - 2], n = w * height;
    *p = (mask_plane){0};
    if (view == MASK_ALPHA) return err_set(e, "%s: an npy has no alpha channel", f->path);
    if (!mask_plane_new(p, w, height, f->path, e)) return false;
    p->whole = true;
    for (size_t i = 0; i < n; i += PIECE) {
        size_t many = n - i < PIECE ? n - i : PIECE;
        npy_numbers(h, f->bytes.data, plane * n + i, many, piece);
        for (size_t k = 0; k < many; k++) {
            double v = piece[k];
            if (!(v >= 0 && v < 1 << 24)) {
                mask_plane_free(p);
                return err_set(e, "%s: number %zu is %g, 0 to 1 or whole numbers below 2^24 expected", f->path,
                               plane * n + i + k, v);
            }
            if (v != floor(v)) p->whole = false;
            p->value[i + k] = (real)v;
        }
    }
    if (npy_holds_booleans(h) || !p->whole) p->full = 1;
    for (size_t i = 0; !p->whole && i < n; i++)
        if (p->value[i] > 1) p->full = 0;
    return true;
}

static void npy_close(mask_file *f) { mem_free(f->own); }

/* ---- the table: the first row that says yes ------------------------------------------------------------------------ */
static const mask_format FORMATS[] = {
    {"npy", npy_is, npy_open, npy_read_plane, NULL, npy_close},
    {"JSON", mask_json_is, mask_json_open, mask_json_read, mask_json_name, mask_json_close},
    {"picture", picture_is, picture_open, picture_read_plane, NULL, NULL},
};
static const char *const ENDINGS[] = {".png", ".jpg", ".jpeg", ".bmp", ".npy"};

bool mask_file_open(const char *path, const mask_frame *frame, mask_file *f, err *e) {
    *f = (mask_file){.path = path, .frame = *frame};
    if (!file_map_open(path, &f->bytes, e)) return false;
    for (f->how = FORMATS; !f->how->is(f->bytes.data, f->bytes.length);) f->how++;
    if (f->how->open(f, e)) return true;
    mask_file_close(f);
    return false;
}

void mask_file_close(mask_file *f) {
    if (f->how && f->how->close) f->how->close(f);
    file_map_close(&f->bytes);
    *f = (mask_file){0};
}

bool mask_file_name(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++) {
        size_t m = strlen(ENDINGS[i]);
        if (n > m && !strcasecmp(name + n - m, ENDINGS[i])) return true;
    }
    return false;
}
