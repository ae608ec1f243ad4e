/* sentencepiece.c - reads .model files: protobuf with the pieces, what kind they are, and how a text is normalised. Every
 * read is checked against the bytes that are there. Fields: sentencepiece_model.proto. */
#include "text/kinds.h"
#include <math.h>
#include <string.h>

enum { NORMAL = 1, UNKNOWN = 2, USER = 4, BYTE = 6, UNIGRAM = 1, BPE = 2 };

typedef struct { const unsigned char *at, *end, *start; const char *name; } proto;
typedef struct { uint32_t number, kind; uint64_t value; const unsigned char *bytes; size_t n; } field;

static bool varint(proto *p, uint64_t *out, err *e) {
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (p->at == p->end) return err_set(e, "%s: ends within a number at byte %zu", p->name, (size_t)(p->at - p->start));
        unsigned char c = *p->at++;
        *out |= (uint64_t)(c & 127) << shift;
        if (c < 128) return true;
    }
    return err_set(e, "%s: a number of more than 10 bytes at byte %zu", p->name, (size_t)(p->at - p->start));
}

/* The next field; *got false at the end. */
static bool next_field(proto *p, field *f, bool *got, err *e) {
    uint64_t tag, n;
    *f = (field){0};
    if (!(*got = p->at < p->end)) return true;
    if (!varint(p, &tag, e)) return false;
    f->number = (uint32_t)(tag >> 3), f->kind = (uint32_t)(tag & 7);
    if (f->kind == 0) return varint(p, &f->value, e);
    n = f->kind == 1 ? 8 : 4;
    if (f->kind == 2 && !varint(p, &n, e)) return false;
    if (f->kind != 1 && f->kind != 2 && f->kind != 5)
        return err_set(e, "%s: a field of type %u at byte %zu, expected 0, 1, 2 or 5", p->name, (unsigned)f->kind,
                       (size_t)(p->at - p->start));
    if (n > (size_t)(p->end - p->at))
        return err_set(e, "%s: %llu bytes at byte %zu, %zu are left", p->name, (unsigned long long)n,
                       (size_t)(p->at - p->start), (size_t)(p->end - p->at));
    f->bytes = p->at, f->n = (size_t)n;
    p->at += n;
    return true;
}

static proto inside(const proto *p, const field *f) { return (proto){f->bytes, f->bytes + f->n, p->start, p->name}; }

static double float_at(const field *f) {
    uint32_t u = (uint32_t)f->bytes[0] | (uint32_t)f->bytes[1] << 8 | (uint32_t)f->bytes[2] << 16 | (uint32_t)f->bytes[3] << 24;
    float v;
    memcpy(&v, &u, sizeof v);
    return (double)v;
}

typedef struct {
    unigram *u;
    int type; /* of the model: UNIGRAM, BPE */
    bool prefix, collapse;
    uint32_t end;
    err *e;
} reading;

/* SentencePiece: piece 1, score 2, type 3 */
static bool read_piece(reading *r, proto p) {
    field f;
    bool got;
    const unsigned char *text = NULL;
    size_t n = 0, count = r->u->pieces.count;
    double score = 0;
    uint64_t type = NORMAL;
    while (next_field(&p, &f, &got, r->e) && got) {
        if (f.number == 1 && f.kind == 2) text = f.bytes, n = f.n;
        if (f.number == 2 && f.kind == 5) score = float_at(&f);
        if (f.number == 3 && f.kind == 0) type = f.value;
    }
    if (got) return false;
    if (!text || !n) return err_set(r->e, "%s: piece %zu has no text", p.name, count);
    if (!isfinite(score)) return err_set(r->e, "%s: piece %zu: its score is not finite", p.name, count);
    if (type == UNKNOWN) r->u->unknown = (uint32_t)count;
    if (n == 4 && !memcmp(text, "</s>", 4)) r->end = (uint32_t)count;
    if (n == 5 && !memcmp(text, "<eos>", 5)) r->end = (uint32_t)count;
    if (!unigram_add(r->u, (const char *)text, n, score, type == NORMAL || type == USER, r->e))
        return err_prefix(r->e, "%s", p.name);
    return true;
}

/* TrainerSpec: model_type 3. NormalizerSpec: charsmap 2, add_dummy_prefix 3, remove_extra_whitespaces 4. */
static bool read_spec(reading *r, proto p, bool trainer) {
    field f;
    bool got;
    while (next_field(&p, &f, &got, r->e) && got) {
        if (trainer && f.number == 3 && f.kind == 0) r->type = f.value == BPE ? BPE : f.value == UNIGRAM ? UNIGRAM : 0;
        if (trainer) continue;
        if (f.number == 3 && f.kind == 0) r->prefix = f.value;
        if (f.number == 4 && f.kind == 0) r->collapse = f.value;
        if (f.number != 2 || f.kind != 2 || !f.n) continue;
        charsmap_free(&r->u->map);
        if (!charsmap_make(&r->u->map, f.bytes, f.n, p.name, r->e)) return false;
    }
    return !got;
}

static bool read_model(reading *r, proto p) {
    field f;
    bool got;
    while (next_field(&p, &f, &got, r->e) && got) {
        if (f.kind != 2) continue;
        if (f.number == 1 && !read_piece(r, inside(&p, &f))) return false;
        if ((f.number == 2 || f.number == 3) && !read_spec(r, inside(&p, &f), f.number == 2)) return false;
    }
    if (got) return false;
    if (!r->u->pieces.count) return err_set(r->e, "%s: no pieces found", p.name);
    return r->type || err_set(r->e, "%s: neither a unigram nor a BPE model", p.name);
}

/* The same pieces, joined by their scores. */
static pairs *as_pairs(unigram *u, err *e) {
    pairs *p = mem_alloc(1, sizeof *p);
    if (!p) return (void)err_set(e, "no memory for a vocabulary"), NULL;
    p->pieces = u->pieces, p->score = u->score, p->map = u->map, p->unknown = u->unknown, p->block = true;
    for (size_t i = 0; i < u->pieces.count; i++)
        if (!u->use[i]) p->score[i] = -1e30; /* control pieces and bytes: nothing is joined to them */
    u->pieces = (spellings){0}, u->score = NULL, u->map = (charsmap){0};
    pairs_ready(p);
    return p;
}

tokenizer *sentencepiece_parse(const char *bytes, size_t n, const char *name, unsigned clean, err *e) {
    const unsigned char *b = (const unsigned char *)bytes;
    reading r = {.type = UNIGRAM, .prefix = true, .collapse = true, .end = NONE, .e = e};
    if (!(r.u = mem_alloc(1, sizeof *r.u))) return (void)err_set(e, "%s: no memory for a vocabulary", name), NULL;
    r.u->unknown = 0;
    if (!read_model(&r, (proto){b, b + n, b, name})) {
        unigram_free(r.u);
        return NULL;
    }
    r.u->prefix = r.prefix, r.u->collapse = r.u->trim_left = r.collapse;
    if (r.type == UNIGRAM) return tokenizer_make(&unigram_kind, r.u, clean, NONE, r.end, name, e);
    pairs *p = as_pairs(r.u, e);
    unigram_free(r.u);
    return tokenizer_make(&pairs_kind, p, clean, NONE, r.end, name, e);
}
