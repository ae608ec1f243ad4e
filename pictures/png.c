/* png.c - a PNG is: rows filtered (each byte minus a guess from its neighbours), deflated (repeats and Huffman codes,
 * RFC 1951, in a zlib frame, RFC 1950), and cut into chunks with checksums. */
#include "pictures/png.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK = 1 << 16,  /* bytes to one Huffman code */
    HASHES = 1 << 15, /* places remembered to find repeats */
    PROBES = 6,       /* repeats looked at before the longest is taken */
    LITERALS = 286,   /* symbols: 256 bytes, end of block, 29 lengths */
    DISTANCES = 30,
    END_OF_BLOCK = 256
};

typedef struct {
    FILE *stream;
    unsigned char raw[BLOCK + 4], out[2 * BLOCK + 1024]; /* a literal is at most 15 bits, so out cannot overflow */
    size_t filled, made, tokens;
    uint32_t token[BLOCK]; /* a byte, or length << 16 | distance */
    int32_t head[HASHES], before[BLOCK];
    uint32_t literals[LITERALS], distances[DISTANCES]; /* counts */
    uint64_t bits;
    unsigned held;
    uint32_t adler_a, adler_b;
} deflater;

typedef struct {
    unsigned char length[LITERALS];
    uint16_t code[LITERALS];
} huffman;

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

/* ---- Huffman codes --------------------------------------------------------------------------- */
static int by_count(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Huffman's tree over count << 9 | symbol, ascending: the two rarest are joined again and again; leaves and joints
 * both come in ascending order, so two queues do. Returns the longest code's length. */
static unsigned tree_lengths(const uint32_t *sorted, size_t n, unsigned char *length) {
    uint32_t weight[2 * LITERALS];
    uint16_t parent[2 * LITERALS];
    unsigned char depth[2 * LITERALS];
    size_t leaf = 0, joint = n, end = n;
    unsigned longest = 0;
    for (size_t i = 0; i < n; i++) weight[i] = sorted[i] >> 9;
    for (; end < 2 * n - 1; end++) {
        weight[end] = 0;
        for (int k = 0; k < 2; k++) {
            size_t pick = leaf < n && (joint == end || weight[leaf] <= weight[joint]) ? leaf++ : joint++;
            weight[end] += weight[pick];
            parent[pick] = (uint16_t)end;
        }
    }
    depth[end - 1] = 0;
    for (size_t i = end - 1; i-- > 0;) depth[i] = (unsigned char)(depth[parent[i]] + 1);
    for (size_t i = 0; i < n; i++) {
        length[sorted[i] & 511] = depth[i];
        if (depth[i] > longest) longest = depth[i];
    }
    return longest;
}

/* Code lengths of at most `limit` bits (flattening the counts until they are), and the canonical codes, their bits
 * reversed as deflate sends them. */
static void huffman_make(huffman *h, const uint32_t *counts, size_t symbols, unsigned limit) {
    uint32_t sorted[LITERALS], code = 0;
    size_t n = 0;
    memset(h, 0, sizeof *h);
    for (size_t s = 0; s < symbols; s++)
        if (counts[s]) sorted[n++] = counts[s] << 9 | (uint32_t)s;
    for (uint32_t s = 0; n < 2; s++) /* a code needs two symbols */
        if (!counts[s]) sorted[n++] = 1u << 9 | s;
    do {
        qsort(sorted, n, sizeof *sorted, by_count);
        if (tree_lengths(sorted, n, h->length) <= limit) break;
        for (size_t i = 0; i < n; i++) sorted[i] = ((sorted[i] >> 9) + 1) / 2 << 9 | (sorted[i] & 511);
    } while (true);
    for (unsigned l = 1; l <= limit; l++) {
        for (size_t s = 0; s < symbols; s++)
            if (h->length[s] == l) h->code[s] = (uint16_t)code++;
        code <<= 1;
    }
    for (size_t s = 0; s < symbols; s++) {
        uint32_t forth = h->code[s], back = 0;
        for (unsigned k = 0; k < h->length[s]; k++) back |= (forth >> k & 1) << (h->length[s] - 1u - k);
        h->code[s] = (uint16_t)back;
    }
}

/* ---- deflate --------------------------------------------------------------------------------- */
static void put_bits(deflater *d, uint32_t value, unsigned n) {
    d->bits |= (uint64_t)value << d->held;
    for (d->held += n; d->held >= 8; d->held -= 8) {
        d->out[d->made++] = (unsigned char)d->bits;
        d->bits >>= 8;
    }
}

static unsigned log2_floor(uint32_t v) {
    unsigned n = 0;
    while (v >>= 1) n++;
    return n;
}

/* RFC 1951, 3.2.5: lengths and distances as a symbol and some extra bits (their number in *extra, taken from `rest`).
 */
static uint32_t length_symbol(uint32_t length, unsigned *extra) {
    uint32_t l = length - 3;
    *extra = 0;
    if (length == 258) return 285;
    if (l < 8) return 257 + l;
    *extra = log2_floor(l) - 2;
    return 257 + 4 * (*extra + 1) + (l >> *extra & 3);
}

static uint32_t distance_symbol(uint32_t distance, unsigned *extra) {
    uint32_t d = distance - 1;
    *extra = 0;
    if (d < 4) return d;
    *extra = log2_floor(d) - 1;
    return 2 * (*extra + 1) + (d >> *extra & 1);
}

static uint32_t low_bits(uint32_t v, unsigned n) { return v & ((1u << n) - 1); }

static size_t hash_at(const unsigned char *p) {
    uint32_t v = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return v * 2654435761u >> 17;
}

/* The longest repeat of what stands at i; 0 when none is worth it. */
static size_t longest_match(const deflater *d, size_t i, size_t *distance) {
    size_t most = d->filled - i < 258 ? d->filled - i : 258, best = 3;
    const unsigned char *here = d->raw + i;
    int32_t p = d->head[hash_at(here)];
    if (most < 4) return 0;
    for (int probe = 0; probe < PROBES && p >= 0 && i - (size_t)p <= 32768; probe++, p = d->before[p]) {
        const unsigned char *there = d->raw + p;
        size_t n = 0;
        if (there[best] != here[best]) continue;
        while (n < most && there[n] == here[n]) n++;
        if (n <= best || (n < 6 && i - (size_t)p > 1024)) continue;
        best = n;
        *distance = i - (size_t)p;
        if (n == most) break;
    }
    return best > 3 ? best : 0;
}

static void remember(deflater *d, size_t i) {
    size_t h = hash_at(d->raw + i); /* raw has 4 bytes to spare */
    d->before[i] = d->head[h];
    d->head[h] = (int32_t)i;
}

static void find_tokens(deflater *d) {
    memset(d->head, 0xFF, sizeof d->head);
    memset(d->literals, 0, sizeof d->literals);
    memset(d->distances, 0, sizeof d->distances);
    d->tokens = 0;
    for (size_t i = 0; i < d->filled;) {
        size_t distance = 0, length = longest_match(d, i, &distance), step = length ? length : 1;
        unsigned extra;
        if (length) {
            d->token[d->tokens++] = (uint32_t)(length << 16 | distance);
            d->literals[length_symbol((uint32_t)length, &extra)]++;
            d->distances[distance_symbol((uint32_t)distance, &extra)]++;
        } else {
            d->token[d->tokens++] = d->raw[i];
            d->literals[d->raw[i]]++;
        }
        for (; step-- > 0; i++) remember(d, i);
    }
    d->literals[END_OF_BLOCK] = 1;
}

/* RFC 1951, 3.2.7; the code lengths go out one by one, without run lengths. */
static void put_codes(deflater *d, const huffman *literal, const huffman *distance) {
    static const unsigned char order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint32_t counts[19] = {0};
    huffman h;
    for (size_t s = 0; s < LITERALS; s++) counts[literal->length[s]]++;
    for (size_t s = 0; s < DISTANCES; s++) counts[distance->length[s]]++;
    huffman_make(&h, counts, 19, 7);
    put_bits(d, LITERALS - 257, 5);
    put_bits(d, DISTANCES - 1, 5);
    put_bits(d, 19 - 4, 4);
    for (size_t s = 0; s < 19; s++) put_bits(d, h.length[order[s]], 3);
    for (size_t s = 0; s < LITERALS; s++) put_bits(d, h.code[literal->length[s]], h.length[literal->length[s]]);
    for (size_t s = 0; s < DISTANCES; s++) put_bits(d, h.code[distance->length[s]], h.length[distance->length[s]]);
}

static void put_block(deflater *d, bool last) {
    huffman literal, distance;
    find_tokens(d);
    huffman_make(&literal, d->literals, LITERALS, 15);
    huffman_make(&distance, d->distances, DISTANCES, 15);
    put_bits(d, last, 1);
    put_bits(d, 2, 2);
    put_codes(d, &literal, &distance);
    for (size_t i = 0; i < d->tokens; i++) {
        uint32_t length = d->token[i] >> 16, far = d->token[i] & 0xFFFF, s;
        unsigned extra;
        if (!length) {
            put_bits(d, literal.code[far], literal.length[far]);
            continue;
        }
        s = length_symbol(length, &extra);
        put_bits(d, literal.code[s], literal.length[s]);
        put_bits(d, low_bits(length - 3, extra), extra);
        s = distance_symbol(far, &extra);
        put_bits(d, distance.code[s], distance.length[s]);
        put_bits(d, low_bits(far - 1, extra), extra);
    }
    put_bits(d, literal.code[END_OF_BLOCK], literal.length[END_OF_BLOCK]);
}

static void flush_block(deflater *d, bool last) {
    for (size_t i = 0; i < d->filled;) { /* Adler-32: the sums fit 32 bits for 5552 bytes */
        size_t stop = i + 5552 < d->filled ? i + 5552 : d->filled;
        for (; i < stop; i++) d->adler_b += d->adler_a += d->raw[i];
        d->adler_a %= 65521;
        d->adler_b %= 65521;
    }
    put_block(d, last);
    if (last) {
        if (d->held) put_bits(d, 0, 8 - d->held);
        put_be32(d->out + d->made, (size_t)d->adler_b << 16 | d->adler_a);
        d->made += 4;
    }
    chunk(d->stream, "IDAT", d->out, d->made);
    d->filled = d->made = 0;
}

static void deflate(deflater *d, const unsigned char *bytes, size_t n) {
    while (n) {
        size_t part = BLOCK - d->filled < n ? BLOCK - d->filled : n;
        memcpy(d->raw + d->filled, bytes, part);
        d->filled += part;
        bytes += part;
        n -= part;
        if (d->filled == BLOCK) flush_block(d, false);
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */
static int paeth(int a, int b, int c) {
    int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* One row under a filter (0 none, 1 left, 2 above, 3 their mean, 4 Paeth's pick) into to[1..]; `above` and what is left
 * of the row are zeros where the picture ends. The result is the sum of the sizes, by which filters are compared. */
static size_t filter_row(int kind, const unsigned char *row, const unsigned char *above, size_t n, size_t step,
                         unsigned char *to) {
    size_t sum = 0;
    to[0] = (unsigned char)kind;
    for (size_t i = 0; i < n; i++) {
        int a = i < step ? 0 : row[i - step], b = above[i], c = i < step ? 0 : above[i - step];
        int guess = kind == 1 ? a : kind == 2 ? b : kind == 3 ? (a + b) / 2 : kind == 4 ? paeth(a, b, c) : 0;
        unsigned char left = (unsigned char)(row[i] - guess);
        to[i + 1] = left;
        sum += left < 128 ? left : 256u - left;
    }
    return sum;
}

static void put_rows(deflater *d, const png_image *image, unsigned char *room) {
    size_t n = image->width * image->channels;
    unsigned char *zeros = room, *best = room + n, *trial = best + n + 1;
    for (size_t y = 0; y < image->height; y++) {
        const unsigned char *row = image->pixels + y * n, *above = y ? row - n : zeros;
        size_t least = filter_row(0, row, above, n, image->channels, best);
        for (int kind = 1; kind <= 4 && !image->palette; kind++) {
            size_t sum = filter_row(kind, row, above, n, image->channels, trial);
            if (sum >= least) continue;
            unsigned char *t = best;
            best = trial, trial = t, least = sum;
        }
        deflate(d, best, n + 1);
    }
}

bool png_write(const char *path, const png_image *image, err *e) {
    unsigned char header[13] = {0}, frame[2] = {0x78, 0x01};
    size_t row;
    out_file f;
    if (!image->width || !image->height || image->width > INT32_MAX / 8 || image->height > INT32_MAX)
        return err_set(e, "%s: a picture of %zux%zu pixels cannot be written", path, image->width, image->height);
    row = image->width * image->channels;
    deflater *d = mem_alloc(1, sizeof *d);
    unsigned char *room = mem_alloc(3, row + 1);
    bool ok = d && room;
    if (!ok) err_set(e, "%s: no memory to write a picture of %zux%zu pixels", path, image->width, image->height);
    if (ok && (ok = out_open(&f, path, e))) {
        fwrite("\x89PNG\r\n\x1a\n", 1, 8, f.stream);
        put_be32(header, image->width);
        put_be32(header + 4, image->height);
        header[8] = 8;
        header[9] = image->palette ? 3 : image->channels == 3 ? 2 : 0;
        chunk(f.stream, "IHDR", header, sizeof header);
        if (image->palette) chunk(f.stream, "PLTE", image->palette[0], 3 * image->colours);
        d->stream = f.stream;
        d->adler_a = 1;
        memcpy(d->out, frame, 2);
        d->made = 2;
        put_rows(d, image, room);
        flush_block(d, true);
        chunk(f.stream, "IEND", header, 0);
        ok = out_close(&f, e);
    }
    mem_free(d);
    mem_free(room);
    return ok;
}
