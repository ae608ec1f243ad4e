/* writer.c - a model's weights in open_clip's layout (see checkpoint.h). */
#include "models/checkpoint.h"
#include "models/folder.h"
#include <math.h>
#include <string.h>

enum { PIECE = 4096 };
typedef struct {
    clip_weight weight;
    size_t tensor, offset; /* which tensor's, from which byte on */
    bool flip;             /* written [cols, rows] */
} piece;

typedef struct {
    st_tensor *tensors;
    char (*names)[WEIGHT_NAME];
    piece *pieces;
    size_t count, piece_count, most;
    size_t each; /* bytes a number: 2 or 4 */
    const clip_config *config;
    name_set layout;
    const char *type, *path;
    err *e;
} writer;

static bool measure(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    writer *o = arg;
    (void)rows, (void)cols;
    if (!clip_there(w))
        return err_set(o->e, "%s: the model to write has no weight \"%s\"", o->path,
                       names_find(&o->layout, o->config, NULL, kind, layer).name);
    o->most++;
    return true;
}

/* ---- numbers ---------------------------------------------------------------------------------------------- */
static bool put_number(const writer *o, unsigned char *to, float x, const char *name, size_t index, err *e) {
    uint16_t h = strcmp(o->type, "BF16") == 0 ? st_to_bfloat(x) : st_to_half(x);
    uint16_t infinite = strcmp(o->type, "BF16") == 0 ? 0x7f80 : 0x7c00;
    if (!isfinite(x))
        return err_set(e, "%s: tensor \"%s\": number %zu is %g, expected finite ones", o->path, name, index, (double)x);
    if (o->each == 2 && (h & infinite) == infinite)
        return err_set(e, "%s: tensor \"%s\": number %zu is %g, beyond %s's largest%s: write F32", o->path, name, index,
                       (double)x, o->type, infinite == 0x7c00 ? ", 65504" : "");
    if (o->each == 2) memcpy(to, &h, sizeof h);
    else memcpy(to, &x, sizeof x);
    return true;
}

static bool put_piece(const writer *o, const piece *p, unsigned char *to, const char *name, err *e) {
    const clip_weight *w = &p->weight;
    size_t count = w->rows * w->cols, outer = p->flip ? w->cols : w->rows, inner = p->flip ? w->rows : w->cols;
    real numbers[PIECE];
    if (w->transposed == p->flip) { /* stored as it is written */
        for (size_t i = 0; i < count; i += PIECE) {
            size_t n = count - i < PIECE ? count - i : PIECE;
            clip_numbers(w, i, n, numbers);
            for (size_t k = 0; k < n; k++)
                if (!put_number(o, to + (i + k) * o->each, (float)numbers[k], name, i + k, e)) return false;
        }
        return true;
    }
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0; j < inner; j++)
            if (!put_number(o, to + (i * inner + j) * o->each, (float)clip_number(w, j * outer + i), name, i * inner + j, e))
                return false;
    return true;
}

static bool make_tensor(void *arg, size_t index, unsigned char *to, err *e) {
    const writer *o = arg;
    for (size_t i = 0; i < o->piece_count; i++)
        if (o->pieces[i].tensor == index && !put_piece(o, &o->pieces[i], to + o->pieces[i].offset, o->names[index], e))
            return false;
    return true;
}

/* ---- tensors ---------------------------------------------------------------------------------------------- */
/* timm keeps these with sides of 1 in front. */
static size_t timm_shape(const char *name, size_t shape[4], size_t rank) {
    static const struct { const char *name; size_t rank; } leading[] = {
        {"visual.trunk.pos_embed", 3}, {"visual.trunk.cls_token", 3}, {"visual.trunk.attn_pool.latent", 3}};
    for (size_t i = 0; i < sizeof leading / sizeof *leading; i++)
        for (; strcmp(leading[i].name, name) == 0 && rank < leading[i].rank; rank++) {
            memmove(shape + 1, shape, rank * sizeof *shape);
            shape[0] = 1;
        }
    return rank;
}

/* The tensor of this name: begun by another part of it, or new. */
static size_t tensor_of(writer *o, const weight_name *n, const size_t shape[4], size_t rank, size_t bytes) {
    for (size_t i = o->count; i-- > 0 && n->parts > 1;)
        if (strcmp(o->names[i], n->name) == 0) return i;
    memcpy(o->names[o->count], n->name, sizeof n->name);
    o->tensors[o->count] = (st_tensor){.name = o->names[o->count],
                                       .type = o->type,
                                       .rank = rank,
                                       .shape = {shape[0], shape[1], shape[2], shape[3]},
                                       .bytes = bytes * n->parts};
    return o->count++;
}

static bool add_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    writer *o = arg;
    weight_name n = names_find(&o->layout, o->config, NULL, kind, layer);
    piece *p = &o->pieces[o->piece_count++];
    size_t shape[4] = {0}, rank = names_shape(&n, rows, cols, o->config, kind, layer, shape), bytes = rows * cols * o->each;
    *p = (piece){.weight = *w, .flip = n.form == FORM_PROJECTION, .offset = n.part * bytes};
    p->weight.rows = rows, p->weight.cols = cols;
    p->tensor = tensor_of(o, &n, shape, timm_shape(n.name, shape, rank), bytes);
    return true;
}

static bool write_weights(const char *path, clip_model *m, const char *type, err *e) {
    static const char *const metadata[] = {"format", "pt", NULL};
    writer o = {.type = type, .path = path, .e = e, .each = strcmp(type, "F32") == 0 ? 4 : 2, .config = &m->config,
                .layout = names_open_clip(&m->config)};
    if (!clip_each_weight(m, measure, &o)) return false;
    o.tensors = mem_alloc(o.most, sizeof *o.tensors);
    o.names = mem_alloc(o.most, sizeof *o.names);
    o.pieces = mem_alloc(o.most, sizeof *o.pieces);
    bool ok = o.tensors && o.names && o.pieces;
    if (!ok) err_set(e, "%s: not enough memory to write %zu weights", path, o.most);
    ok = ok && clip_each_weight(m, add_weight, &o) &&
         st_write_made(path, o.tensors, o.count, metadata, make_tensor, &o, e);
    mem_free(o.tensors);
    mem_free(o.names);
    mem_free(o.pieces);
    return ok;
}

static bool write_all(const char *folder, clip_model *m, const token_settings *texts, const char *type, err *e) {
    char weights[PATH_ROOM], config[PATH_ROOM];
    if (strcmp(type, "F16") != 0 && strcmp(type, "F32") != 0 && strcmp(type, "BF16") != 0)
        return err_set(e, "%s: weights are written as F16, F32 or BF16, not \"%s\"", folder, type);
    if (!model_file_path(weights, folder, "open_clip_model.safetensors", e) ||
        !model_file_path(config, folder, "open_clip_config.json", e) || !folder_make(folder, e))
        return false;
    out_file f;
    if (!out_open(&f, config, e)) return false;
    /* The config goes into place last, and only when the weights have. */
    if (config_write(f.stream, &m->config, texts, e) && write_weights(weights, m, type, e)) return out_close(&f, e);
    out_abandon(&f);
    return false;
}

bool checkpoint_write(const char *folder, clip_model *m, const char *type, err *e) {
    return write_all(folder, m, NULL, type, e);
}

bool checkpoint_convert(const checkpoint *c, const char *folder, const char *type, err *e) {
    clip_model m = *checkpoint_model(c); /* the walk hands out weights that may be changed; these are not */
    token_settings texts = checkpoint_texts(c);
    return write_all(folder, &m, &texts, type, e);
}
