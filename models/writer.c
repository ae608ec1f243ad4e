/* writer.c - a model's weights in open_clip's layout (see checkpoint.h). */
#include "models/checkpoint.h"
#include <math.h>
#include <string.h>
#include <stdio.h>

enum { PATH_BYTES = 4096 };
typedef struct {
    st_tensor *tensors;
    char (*names)[WEIGHT_NAME];
    size_t count, most;
    unsigned char *data;
    size_t used, bytes; /* of data */
    size_t each;        /* bytes a number: 2 or 4 */
    const clip_config *config;
    name_set layout;
    const char *type, *path;
    err *e;
} writer;

static bool measure(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    writer *o = arg;
    if (!clip_there(w))
        return err_set(o->e, "%s: the model to write has no weight \"%s\"", o->path,
                       names_find(&o->layout, o->config, NULL, kind, layer).name);
    o->most++;
    o->bytes += rows * cols * o->each;
    return true;
}

static bool put_numbers(writer *o, unsigned char *to, const clip_weight *w, const char *name, bool flip) {
    size_t outer = flip ? w->cols : w->rows, inner = flip ? w->rows : w->cols;
    for (size_t i = 0; i < outer; i++)
        for (size_t j = 0; j < inner; j++, to += o->each) {
            /* of the weight [rows, cols]: (i, j), or (j, i) where it is written [cols, rows] */
            size_t at = w->transposed == flip ? i * inner + j : j * outer + i;
            float x = (float)clip_number(w, at);
            uint16_t h = st_to_half(x);
            if (!isfinite(x))
                return err_set(o->e, "%s: tensor \"%s\": number %zu is %g, expected finite ones", o->path, name,
                               i * inner + j, (double)x);
            if (o->each == 2 && (h & 0x7c00) == 0x7c00)
                return err_set(o->e, "%s: tensor \"%s\": number %zu is %g, beyond F16's largest, 65504: write F32",
                               o->path, name, i * inner + j, (double)x);
            if (o->each == 2)
                memcpy(to, &h, sizeof h);
            else
                memcpy(to, &x, sizeof x);
        }
    return true;
}

/* The tensor of this name: begun by another part of it, or new. */
static st_tensor *tensor_of(writer *o, const weight_name *n, const size_t shape[4], size_t rank, size_t bytes) {
    for (size_t i = o->count; i-- > 0 && n->parts > 1;)
        if (strcmp(o->names[i], n->name) == 0) return &o->tensors[i];
    st_tensor *t = &o->tensors[o->count];
    memcpy(o->names[o->count], n->name, sizeof n->name);
    *t = (st_tensor){.name = o->names[o->count],
                     .type = o->type,
                     .rank = rank,
                     .data = o->data + o->used,
                     .shape = {shape[0], shape[1], shape[2], shape[3]},
                     .bytes = bytes * n->parts};
    o->used += t->bytes;
    o->count++;
    return t;
}

static bool put_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    writer *o = arg;
    weight_name n = names_find(&o->layout, o->config, NULL, kind, layer);
    clip_weight shaped = *w;
    shaped.rows = rows, shaped.cols = cols;
    size_t shape[4] = {0}, rank = names_shape(&n, rows, cols, o->config, kind, layer, shape);
    const st_tensor *t = tensor_of(o, &n, shape, rank, rows * cols * o->each);
    unsigned char *to = o->data + (t->data - o->data) + n.part * rows * cols * o->each;
    return put_numbers(o, to, &shaped, t->name, n.form == FORM_PROJECTION);
}

static bool write_weights(const char *path, clip_model *m, const char *type, err *e) {
    static const char *const metadata[] = {"format", "pt", NULL};
    writer o = {.type = type, .path = path, .e = e, .each = strcmp(type, "F16") == 0 ? 2 : 4, .config = &m->config,
                .layout = names_open_clip(&m->config)};
    if (!clip_each_weight(m, measure, &o)) return false;
    o.tensors = mem_alloc(o.most, sizeof *o.tensors);
    o.names = mem_alloc(o.most, sizeof *o.names);
    o.data = mem_alloc(o.bytes, 1);
    bool ok = o.tensors && o.names && o.data;
    if (!ok) err_set(e, "%s: not enough memory to write %zu bytes of weights", path, o.bytes);
    ok = ok && clip_each_weight(m, put_weight, &o) && st_write(path, o.tensors, o.count, metadata, e);
    mem_free(o.tensors);
    mem_free(o.names);
    mem_free(o.data);
    return ok;
}

static bool join(char *out, const char *folder, const char *file, err *e) {
    size_t n = strlen(folder);
    const char *slash = n == 0 || folder[n - 1] == '/' ? "" : "/";
    if ((size_t)snprintf(out, PATH_BYTES, "%s%s%s", folder, slash, file) < PATH_BYTES) return true;
    return err_set(e, "%.200s...: path is longer than %d bytes", folder, PATH_BYTES - 1);
}

bool checkpoint_write(const char *folder, clip_model *m, const char *type, err *e) {
    char weights[PATH_BYTES], config[PATH_BYTES];
    if (strcmp(type, "F16") != 0 && strcmp(type, "F32") != 0)
        return err_set(e, "%s: weights are written as F16 or F32, not \"%s\"", folder, type);
    if (!join(weights, folder, "open_clip_model.safetensors", e) || !join(config, folder, "open_clip_config.json", e) ||
        !folder_make(folder, e))
        return false;
    out_file f;
    if (!out_open(&f, config, e)) return false;
    /* The config goes into place last, and only when the weights have. */
    if (config_write(f.stream, &m->config, e) && write_weights(weights, m, type, e)) return out_close(&f, e);
    out_abandon(&f);
    return false;
}
