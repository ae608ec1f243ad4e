/* image.c - pictures and masks read and written (see image.h; resize.c makes of them what the network sees).
 *
 * bytes -> probe (kind, size, orientation, is it whole?) -> stb -> upright -> picture or mask
 */
#include "pictures/image.h"
#include "files/files.h"
#include "pictures/png.h"
#include <limits.h>
#include <math.h>
#include <string.h>

/* stb's code is not written for our warnings. */
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wcast-qual"
#endif
#define STBI_MALLOC(n) mem_alloc(n, 1)
#define STBI_REALLOC(p, n) mem_resize(p, n)
#define STBI_FREE(p) mem_free(p)
#define STBI_ASSERT(x) ((void)0)
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_MAX_DIMENSIONS (1 << 20)
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

enum { MOST_PIXELS = 100000000, MOST_SIDE = STBI_MAX_DIMENSIONS };
static const size_t most_file = (size_t)1 << 30;

/* ---- probing: what a file claims, before anything is allocated for it ------------------------- */
typedef struct {
    const unsigned char *bytes;
    size_t length;
    const char *name;
    bool stored; /* EXIF orientation is not honoured */
} source;
typedef struct {
    const char *kind;
    size_t width, height;
    int orientation;
} claim;

static size_t be16(const unsigned char *p) { return (size_t)p[0] << 8 | p[1]; }
static size_t le16(const unsigned char *p) { return (size_t)p[1] << 8 | p[0]; }
static size_t be32(const unsigned char *p) { return be16(p) << 16 | be16(p + 2); }
static size_t le32(const unsigned char *p) { return le16(p + 2) << 16 | le16(p); }

static bool truncated(const source *s, const char *kind, err *e) {
    return err_set(e, "%s: the %s picture is truncated: it ends after %zu bytes", s->name, kind, s->length);
}

/* Tag 0x0112 of the first directory of a TIFF block: 1 to 8, 1 when there is none or the block is damaged. */
static int exif_orientation(const unsigned char *t, size_t n) {
    if (n < 8) return 1;
    bool little = memcmp(t, "II*\0", 4) == 0;
    if (!little && memcmp(t, "MM\0*", 4) != 0) return 1;
    size_t (*two)(const unsigned char *) = little ? le16 : be16;
    size_t at = little ? le32(t + 4) : be32(t + 4);
    if (at > n - 2) return 1;
    size_t entries = two(t + at);
    for (at += 2; entries-- > 0 && at <= n && n - at >= 12; at += 12) {
        if (two(t + at) != 0x0112) continue;
        size_t value = two(t + at + 8);
        return two(t + at + 2) == 3 && value >= 1 && value <= 8 ? (int)value : 1; /* type 3: a short */
    }
    return 1;
}

/* Past the next marker of a JPEG, entropy-coded data skipped; 0 at the file's end. */
static int jpeg_marker(const source *s, size_t *at) {
    for (size_t i = *at; i + 1 < s->length; i++) {
        unsigned char m = s->bytes[i + 1];
        if (s->bytes[i] != 0xFF || m == 0 || m == 0xFF || (m >= 0xD0 && m <= 0xD7)) continue; /* stuffing, restarts */
        *at = i + 2;
        return m;
    }
    return 0;
}

/* A Huffman segment: tables of a class byte, 16 counts and their symbols. stb trusts that no table has over 256 symbols
 * (its table is that long) and that the codes of the lengths up to 16 bits fit. */
static bool jpeg_tables_fit(const unsigned char *segment, size_t n) {
    for (size_t at = 2; at < n;) {
        size_t symbols = 0, codes = 0;
        if (n - at < 17) return false;
        for (size_t length = 1; length <= 16; length++) {
            symbols += segment[at + length];
            codes = 2 * codes + segment[at + length];
            if (codes > (size_t)1 << length) return false;
        }
        if (symbols > 256 || symbols > n - at - 17) return false;
        at += 17 + symbols;
    }
    return true;
}

/* Decoders fill what a truncated JPEG lacks with grey: the end-of-image marker must be there. */
static bool jpeg_probe(const source *s, claim *c, err *e) {
    size_t at = 2;
    int marker;
    bool four = false, adobe = false; /* four channels are CMYK, inverted or not: Adobe's marker says which */
    while ((marker = jpeg_marker(s, &at)) != 0xD9) {
        if (marker == 0 || s->length - at < 2) return truncated(s, c->kind, e);
        if (marker == 0xD8 || marker == 0x01) continue;
        const unsigned char *segment = s->bytes + at;
        size_t n = be16(segment);
        if (n < 2) return err_set(e, "%s: the JPEG picture is damaged: a segment of %zu bytes", s->name, n);
        if (n > s->length - at) return truncated(s, c->kind, e);
        if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC && n >= 8) {
            c->height = be16(segment + 3);
            c->width = be16(segment + 5);
            four = segment[7] == 4;
        } else if (marker == 0xC4 && !jpeg_tables_fit(segment, n)) {
            return err_set(e, "%s: the JPEG picture is damaged: impossible Huffman table", s->name);
        } else if (marker == 0xEE && n >= 14 && memcmp(segment + 2, "Adobe", 5) == 0) {
            adobe = true;
        } else if (marker == 0xE1 && n >= 8 && memcmp(segment + 2, "Exif\0\0", 6) == 0) {
            c->orientation = exif_orientation(segment + 8, n - 8);
        }
        at += n;
    }
    if (four && !adobe)
        return err_set(e, "%s: the JPEG picture has four channels and no Adobe marker to say what they are: save it as RGB",
                       s->name);
    return c->width || err_set(e, "%s: the JPEG picture has no frame", s->name);
}

static bool png_intact(const unsigned char *chunk, size_t n) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* a fuzzer cannot guess checksums */
    return (void)chunk, (void)n, true;
#else
    return png_crc(0, chunk + 4, n + 4) == be32(chunk + 8 + n);
#endif
}

static bool png_probe(const source *s, claim *c, err *e) {
    const unsigned char *chunk = s->bytes + 8;
    if (s->length < 33) return truncated(s, c->kind, e);
    if (memcmp(chunk + 4, "IHDR", 4) != 0) return err_set(e, "%s: the PNG picture does not begin with IHDR", s->name);
    c->width = be32(chunk + 8);
    c->height = be32(chunk + 12);
    for (;;) {
        size_t left = s->length - (size_t)(chunk - s->bytes);
        if (left < 12) return truncated(s, c->kind, e);
        size_t n = be32(chunk);
        if (n > left - 12) return truncated(s, c->kind, e);
        if (!png_intact(chunk, n))
            return err_set(e, "%s: the PNG picture is damaged: wrong checksum of chunk %.4s", s->name,
                           (const char *)chunk + 4);
        if (memcmp(chunk + 4, "eXIf", 4) == 0) c->orientation = exif_orientation(chunk + 8, n);
        if (memcmp(chunk + 4, "IEND", 4) == 0) return true;
        chunk += 12 + n;
    }
}

static bool bmp_probe(const source *s, claim *c, err *e) {
    const unsigned char *b = s->bytes;
    size_t row, whole, start;
    if (s->length < 54) return truncated(s, c->kind, e);
    bool old = le32(b + 14) == 12;
    size_t height = old ? le16(b + 20) : le32(b + 22), depth = old ? le16(b + 24) : le16(b + 28);
    c->width = old ? le16(b + 18) : le32(b + 18);
    c->height = !old && height > INT32_MAX ? (size_t)UINT32_MAX - height + 1 : height; /* negative: top row first */
    start = le32(b + 10);
    if (depth > 32) return err_set(e, "%s: the BMP picture is damaged: %zu bits a pixel", s->name, depth);
    if (!size_mul(c->width, depth, &row) || !size_mul((row + 31) / 32 * 4, c->height, &whole))
        return false;                                             /* probe says so */
    whole -= c->height ? (row + 31) / 32 * 4 - (row + 7) / 8 : 0; /* the last row's padding may be left out */
    return (start <= s->length && whole <= s->length - start) || truncated(s, c->kind, e);
}

/* What the file is instead, by its first bytes. "ftyp" boxes name their kind behind it. */
static const char *other_kind(const source *s) {
    static const struct {
        size_t at, length;
        const char *magic, *kind;
    } known[] = {
        {0, 4, "GIF8", "a GIF picture"},
        {8, 4, "WEBP", "a WebP picture"},
        {4, 8, "ftypavif", "an AVIF picture"},
        {4, 8, "ftypavis", "an AVIF picture"},
        {4, 8, "ftypheic", "a HEIC picture"},
        {4, 8, "ftypheix", "a HEIC picture"},
        {4, 8, "ftyphevc", "a HEIC picture"},
        {4, 8, "ftypmif1", "a HEIC or AVIF picture"},
        {4, 8, "ftypmsf1", "a HEIC or AVIF picture"},
        {0, 12, "\0\0\0\014JXL \r\n\207\n", "a JPEG XL picture"},
        {0, 2, "\377\012", "a JPEG XL picture"},
        {0, 8, "\0\0\0\014jP  ", "a JPEG 2000 picture"},
        {0, 4, "\377\117\377\121", "a JPEG 2000 picture"},
        {0, 4, "8BPS", "a Photoshop picture"},
        {0, 4, "II*\0", "a TIFF picture"},
        {0, 4, "MM\0*", "a TIFF picture"},
        {0, 4, "II+\0", "a TIFF picture"},
        {0, 4, "v/1\001", "an OpenEXR picture"},
        {0, 4, "\0\0\1\0", "an icon"},
        {0, 4, "%PDF", "a PDF document"},
        {0, 6, "\223NUMPY", "a numpy array"},
        {0, 4, "PK\3\4", "a zip archive"},
        {0, 2, "\037\213", "a file packed by gzip"},
        {0, 23, "version https://git-lfs", "a Git LFS pointer: git lfs pull fetches the file itself"},
        {0, 4, "<svg", "an SVG drawing"},
        {0, 5, "<?xml", "an XML document (an SVG drawing?)"},
        {0, 9, "<!DOCTYPE", "a web page"},
        {0, 9, "<!doctype", "a web page"},
        {0, 5, "<html", "a web page"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (s->length >= known[i].at + known[i].length &&
            !memcmp(s->bytes + known[i].at, known[i].magic, known[i].length))
            return known[i].kind;
    if (s->length > 2 && s->bytes[0] == 'P' && s->bytes[1] >= '1' && s->bytes[1] <= '7') return "a PPM or PGM picture";
    return "not a picture";
}

static bool probe(const source *s, claim *c, err *e) {
    const unsigned char *b = s->bytes;
    bool ok = false;
    *c = (claim){.orientation = 1};
    if (s->length == 0) return err_set(e, "%s: the file is empty, a picture was expected", s->name);
    if (s->length > 3 && memcmp(b, "\xFF\xD8\xFF", 3) == 0)
        c->kind = "JPEG", ok = jpeg_probe(s, c, e);
    else if (s->length > 8 && memcmp(b, "\x89PNG\r\n\x1a\n", 8) == 0)
        c->kind = "PNG", ok = png_probe(s, c, e);
    else if (s->length > 2 && memcmp(b, "BM", 2) == 0)
        c->kind = "BMP", ok = bmp_probe(s, c, e);
    else
        return err_set(e, "%s: is %s; PNG, JPEG and BMP are read", s->name, other_kind(s));
    size_t area;
    if (c->width && c->height && /* truncated or not: absurd claims are the better message */
        (c->width > MOST_SIDE || c->height > MOST_SIDE || !size_mul(c->width, c->height, &area) || area > MOST_PIXELS))
        return err_set(e, "%s: the %s picture claims %zux%zu pixels; at most %d megapixels and %d a side are read",
                       s->name, c->kind, c->width, c->height, MOST_PIXELS / 1000000, MOST_SIDE);
    if (ok && (!c->width || !c->height))
        return err_set(e, "%s: the %s picture claims %zux%zu pixels", s->name, c->kind, c->width, c->height);
    return ok;
}

/* ---- decoding ---------------------------------------------------------------------------------- */
/* EXIF's eight orientations: where the upright picture's pixel x, y stands in the stored one. */
static size_t stored_index(int orientation, size_t x, size_t y, size_t w, size_t h) {
    switch (orientation) {
    case 2:
        return y * w + (w - 1 - x);
    case 3:
        return (h - 1 - y) * w + (w - 1 - x);
    case 4:
        return (h - 1 - y) * w + x;
    case 5:
        return x * w + y;
    case 6:
        return (h - 1 - x) * w + y;
    case 7:
        return (h - 1 - x) * w + (w - 1 - y);
    case 8:
        return x * w + (w - 1 - y);
    default:
        return y * w + x;
    }
}

static bool turn_upright(raster *r, int orientation, const char *name, err *e) {
    size_t each = r->channels * (r->wide ? 2 : 1), w = r->width, h = r->height;
    if (orientation == 1) return true;
    unsigned char *turned = mem_alloc(w * h, each);
    if (!turned) return err_set(e, "%s: no memory to turn a picture of %zux%zu pixels", name, w, h);
    if (orientation >= 5) r->width = h, r->height = w;
    for (size_t y = 0; y < r->height; y++)
        for (size_t x = 0; x < r->width; x++)
            memcpy(turned + (y * r->width + x) * each, r->data + stored_index(orientation, x, y, w, h) * each, each);
    mem_free(r->data);
    r->data = turned;
    return true;
}

/* channels 0: as many as the file has; then 16-bit grey keeps its 16 bits. */
static bool decode(const source *s, int channels, raster *r, err *e) {
    claim c;
    int w = 0, h = 0, n = 0, length = (int)s->length;
    memset(r, 0, sizeof *r);
    if (s->length > most_file) return err_set(e, "%s: a picture file of %zu bytes is too large", s->name, s->length);
    if (!probe(s, &c, e)) return false;
    if (channels == 0 && stbi_info_from_memory(s->bytes, length, &w, &h, &n))
        r->wide = n <= 2 && stbi_is_16_bit_from_memory(s->bytes, length);
    r->data = r->wide ? (void *)stbi_load_16_from_memory(s->bytes, length, &w, &h, &n, channels)
                      : (void *)stbi_load_from_memory(s->bytes, length, &w, &h, &n, channels);
    if (!r->data) {
        const char *why = stbi_failure_reason();
        if (why && strcmp(why, "outofmem") == 0)
            return err_set(e, "%s: no memory for a picture of %zux%zu pixels", s->name, c.width, c.height);
        return err_set(e, "%s: the %s picture cannot be decoded: %s", s->name, c.kind, why ? why : "unknown reason");
    }
    r->width = (size_t)w;
    r->height = (size_t)h;
    r->channels = (size_t)(channels ? channels : n);
    if (s->stored || turn_upright(r, c.orientation, s->name, e)) return true;
    mem_free(r->data);
    r->data = NULL;
    return false;
}

bool raster_parse_as(const unsigned char *bytes, size_t length, const char *name, bool stored, raster *r, err *e) {
    return decode(&(source){bytes, length, name, stored}, 0, r, e);
}

bool raster_parse(const unsigned char *bytes, size_t length, const char *name, raster *r, err *e) {
    return raster_parse_as(bytes, length, name, true, r, e);
}

/* ---- pictures ---------------------------------------------------------------------------------- */
static bool parse_picture(const source *s, picture *p, err *e) {
    raster r;
    memset(p, 0, sizeof *p);
    if (!decode(s, 3, &r, e)) return false;
    *p = (picture){r.width, r.height, r.data};
    return true;
}

bool picture_parse(const unsigned char *bytes, size_t length, const char *name, picture *p, err *e) {
    return parse_picture(&(source){bytes, length, name, false}, p, e);
}

static bool read_picture(const char *path, bool stored, picture *p, err *e) {
    file_map m;
    memset(p, 0, sizeof *p);
    if (!file_map_open(path, &m, e)) return false;
    bool ok = parse_picture(&(source){m.data, m.length, path, stored}, p, e);
    file_map_close(&m);
    return ok;
}

bool picture_read(const char *path, picture *p, err *e) { return read_picture(path, false, p, e); }
bool picture_read_stored(const char *path, picture *p, err *e) { return read_picture(path, true, p, e); }

static bool read_claim(const char *path, claim *c, err *e) {
    file_map m;
    *c = (claim){.orientation = 1};
    if (!file_map_open(path, &m, e)) return false;
    bool ok = probe(&(source){m.data, m.length, path, true}, c, e);
    file_map_close(&m);
    return ok;
}

bool picture_sides(const char *path, size_t *width, size_t *height, err *e) {
    claim c;
    bool ok = read_claim(path, &c, e);
    *width = c.width, *height = c.height;
    return ok;
}

bool picture_orientation(const char *path, int *orientation, err *e) {
    claim c;
    bool ok = read_claim(path, &c, e);
    *orientation = c.orientation;
    return ok;
}

bool picture_new(size_t width, size_t height, picture *p, err *e) {
    size_t area;
    *p = (picture){0};
    if (!width || !height || !size_mul(width, height, &area) || area > 4 * (size_t)MOST_PIXELS)
        return err_set(e, "a picture of %zux%zu pixels cannot be made", width, height);
    unsigned char *rgb = mem_alloc(area, 3);
    if (!rgb) return err_set(e, "no memory for a picture of %zux%zu pixels", width, height);
    *p = (picture){width, height, rgb};
    return true;
}

void picture_free(picture *p) {
    mem_free(p->rgb);
    *p = (picture){0};
}

bool picture_write_png(const char *path, const picture *p, err *e) {
    return png_write(path, &(png_image){.width = p->width, .height = p->height, .channels = 3, .pixels = p->rgb}, e);
}

bool palette_write_png(const char *path, const unsigned char *index, size_t width, size_t height,
                       const unsigned char (*palette)[3], size_t colours, err *e) {
    if (colours < 1 || colours > 256)
        return err_set(e, "%s: a palette of %zu colours, 1 to 256 expected", path, colours);
    return png_write(path, &(png_image){width, height, 1, index, palette, colours}, e);
}

/* ---- masks --------------------------------------------------------------------------------------- */
bool mask_write_png(const char *path, const real *soft, size_t width, size_t height, err *e) {
    size_t n;
    unsigned char *grey = size_mul(width, height, &n) ? mem_alloc(n, 1) : NULL;
    if (!grey) return err_set(e, "%s: no memory for a mask of %zux%zu pixels", path, width, height);
    for (size_t i = 0; i < n; i++) {
        real v = soft[i] > 0 ? soft[i] < 1 ? soft[i] : 1 : 0; /* NaN is 0 */
        grey[i] = (unsigned char)(v * 255 + (real).5);
    }
    bool ok = png_write(path, &(png_image){.width = width, .height = height, .channels = 1, .pixels = grey}, e);
    mem_free(grey);
    return ok;
}

void mask_free(mask_image *m) {
    mem_free(m->soft);
    *m = (mask_image){0};
}
