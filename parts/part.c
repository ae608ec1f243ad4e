/* part.c - the weights of a small network beside a CLIP (see part.h). */
#include "parts/part.h"
#include "models/safetensors.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the list -------------------------------------------------------------------------------------- */
static void add(part_list *l, ag_tensor **at, size_t rows, size_t cols, double deviation, double fill, const char *ending,
                const char *name, va_list args) {
    part_weight w = {.rows = rows, .cols = cols, .deviation = deviation, .fill = fill, .at = at};
    if (l->full || !mem_grow(&l->list, &l->room, l->count + 1, sizeof *l->list)) {
        l->full = true;
        return;
    }
    int n = vsnprintf(w.name, sizeof w.name, name, args);
    if (n > 0 && (size_t)n < sizeof w.name) snprintf(w.name + n, sizeof w.name - (size_t)n, "%s", ending);
    l->list[l->count++] = w;
}

void part_add(part_list *l, ag_tensor **at, size_t rows, size_t cols, double deviation, double fill, const char *name, ...) {
    va_list args;
    va_start(args, name);
    add(l, at, rows, cols, deviation, fill, "", name, args);
    va_end(args);
}

/* Two rows NAME.weight and NAME.bias from one name. */
static void add_pair(part_list *l, ag_tensor *at[2], size_t rows, size_t cols, size_t out, double deviation, double fill,
                     const char *name, va_list args) {
    va_list again;
    va_copy(again, args);
    add(l, &at[0], rows, cols, deviation, fill, ".weight", name, args);
    add(l, &at[1], 1, out, 0, 0, ".bias", name, again);
    va_end(again);
}

void part_linear(part_list *l, ag_tensor *at[2], size_t out, size_t in, bool in_out, double deviation, const char *name, ...) {
    va_list args;
    va_start(args, name);
    add_pair(l, at, in_out ? in : out, in_out ? out : in, out, deviation, 0, name, args);
    va_end(args);
}

void part_norm(part_list *l, ag_tensor *at[2], size_t cols, const char *name, ...) {
    va_list args;
    va_start(args, name);
    add_pair(l, at, 1, cols, cols, 0, 1, name, args);
    va_end(args);
}

void part_append(part_list *l, const part_list *more) {
    l->full = l->full || more->full || !mem_grow(&l->list, &l->room, l->count + more->count, sizeof *l->list);
    if (l->full) return;
    memcpy(l->list + l->count, more->list, more->count * sizeof *l->list);
    l->count += more->count;
}

bool part_listed(const part_list *l, err *e) { return !l->full || err_set(e, "no memory for a list of weights"); }

void part_list_free(part_list *l) {
    mem_free(l->list);
    *l = (part_list){0};
}

size_t part_numbers(const part_list *l) {
    size_t n = 0;
    for (size_t i = 0; i < l->count; i++) n += l->list[i].rows * l->list[i].cols;
    return n;
}

/* ---- reading ----------------------------------------------------------------------------------------- */
bool part_shape(const tensors *file, const char *name, size_t *rows, size_t *cols) {
    const file_tensor *w = tensors_find(file, name);
    if (!w || w->rank < 1 || w->rank > 2) return false;
    *rows = w->rank == 2 ? w->shape[0] : 1;
    *cols = w->shape[w->rank - 1];
    return true;
}

static bool type_of(const file_tensor *w, clip_type *type, err *e) {
    if (clip_type_find(w->type, type) && !clip_block_bytes(*type)) return true;
    return err_set(e, "%s: %s is %s, expected F32, F16, BF16 or F64", w->file, w->name, w->type);
}

static bool read_weight(part_weight *p, const tensors *file, const char *prefix, ag_tape *t, err *e) {
    char name[160];
    size_t rows, cols;
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    const file_tensor *w = tensors_find(file, name);
    if (!w) return err_set(e, "%s: \"%s\" is missing", tensors_name(file), name);
    if (!part_shape(file, name, &rows, &cols) || rows != p->rows || cols != p->cols)
        return err_set(e, "%s: \"%s\" holds %zu numbers%s, [%zu, %zu] expected", tensors_name(file), name, tensor_size(w),
                       tensor_size(w) == p->rows * p->cols ? " in another shape" : "", p->rows, p->cols);
    clip_weight c = {.rows = rows, .cols = cols};
    if (!type_of(w, &c.type, e) || !(c.data = tensor_bytes(w, e))) return false;
    *p->at = clip_use(t, &c);
    return *p->at ? true : err_fault(e, &t->fault);
}

bool part_read(part_list *l, const tensors *file, const char *prefix, arena *memory, err *e) {
    ag_tape t;
    if (!part_listed(l, e)) return false;
    if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    for (size_t i = 0; i < l->count; i++)
        if (!read_weight(&l->list[i], file, prefix, &t, e)) return false;
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------ */
/* The numbers of x as they are to be stored; the first that does not fit the type is an error. */
static bool store(const part_weight *p, bool half, unsigned char *out, err *e) {
    const real *x = (*p->at)->data;
    for (size_t i = 0; i < p->rows * p->cols; i++) {
        float v = (float)x[i];
        uint16_t h = half ? st_to_half(v) : 0;
        if (!isfinite(v) || (half && (h & 0x7C00) == 0x7C00))
            return err_set(e, "%s: its %zu-th number is %g, which %s", p->name, i, (double)v,
                           isfinite(v) ? "float16 does not hold" : "is not finite");
        if (half) memcpy(out + 2 * i, &h, 2);
        else memcpy(out + 4 * i, &v, 4);
    }
    return true;
}

bool part_write(const part_list *l, const char *path, const char *type, const part_extra *extra, size_t extras, err *e) {
    bool half = !strcmp(type, "F16");
    size_t each = half ? 2 : 4, used = 0;
    st_tensor *t = mem_alloc(l->count + extras, sizeof *t);
    unsigned char *bytes = mem_alloc(part_numbers(l), each);
    bool good = (t && bytes) || err_set(e, "%s: no memory for %zu numbers", path, part_numbers(l));
    for (size_t i = 0; good && i < l->count; i++) {
        const part_weight *p = &l->list[i];
        size_t n = p->rows * p->cols, rank = p->rows == 1 ? 1 : 2;
        t[i] = (st_tensor){p->name, type, {rank == 2 ? p->rows : p->cols, p->cols}, rank, bytes + used, n * each};
        good = store(p, half, bytes + used, e);
        used += n * each;
    }
    for (size_t i = 0; good && i < extras; i++)
        t[l->count + i] = (st_tensor){extra[i].name, extra[i].type, {extra[i].shape[0], extra[i].shape[1]}, extra[i].rank,
                                      extra[i].data, extra[i].bytes};
    good = good && st_write(path, t, l->count + extras, NULL, e);
    mem_free(t), mem_free(bytes);
    return good;
}

/* ---- a part at rest --------------------------------------------------------------------------------------- */
bool part_move_in(part_home *h, part_list *l, err *e) {
    h->size = 2 * part_numbers(l) * sizeof(real) + ((size_t)1 << 20);
    h->room = mem_reserve(h->size);
    if (!h->room) return err_set(e, "%s: no memory for %zu numbers", tensors_name(h->file), part_numbers(l));
    arena_init(&h->memory, h->room, h->size);
    if (!part_read(l, h->file, "", &h->memory, e)) return false;
    for (size_t i = 0; i < l->count; i++)
        if (!k_finite((*l->list[i].at)->data, ag_size(*l->list[i].at)))
            return err_set(e, "%s: \"%s\" holds a number that is not finite", tensors_name(h->file), l->list[i].name);
    return true;
}

void part_leave(part_home *h) {
    if (h->room) mem_release(h->room, h->size);
    tensors_free(h->file);
    *h = (part_home){0};
}

char *part_words(const tensors *file, const char *name, size_t *count, err *e) {
    const file_tensor *w = tensors_find(file, name);
    const unsigned char *bytes = w && !strcmp(w->type, "U8") ? tensor_bytes(w, e) : NULL;
    char *text = bytes ? mem_alloc(w->bytes + 1, 1) : NULL;
    if (!bytes) return err_set(e, "%s: \"%s\" is missing", tensors_name(file), name), NULL;
    if (!text) return err_set(e, "%s: no memory for words", tensors_name(file)), NULL;
    memcpy(text, bytes, w->bytes);
    *count = 0;
    for (char *at = text; (at = strchr(at, '\n')); at++) *at = 0, ++*count;
    return text;
}

/* ---- shared by the networks ------------------------------------------------------------------------------ */
/* A product of few rows is as fast as its weight is read: once here, by all cores, for all rows. Each number of y is one sum
 * in one order, however many rows and cores there are. */
enum { FEW = 16, BAND = 768 };
typedef struct {
    const ag_tensor *x, *w, *bias;
    ag_tensor *y;
    bool in_out;
    size_t rows, bands;
} few;

static void few_task(void *arg, size_t band) {
    const few *f = arg;
    size_t in = f->x->cols, out = f->y->cols, from = out * band / f->bands, to = out * (band + 1) / f->bands;
    for (size_t r = 0; r < f->rows; r++) {
        real *y = f->y->data + r * out + from;
        if (f->bias) memcpy(y, f->bias->data + from, (to - from) * sizeof *y);
        else for (size_t o = from; o < to; o++) y[o - from] = 0;
    }
    for (size_t i = 0; f->in_out && i < in; i += FEW)
        for (size_t r = 0; r < f->rows; r++)
            k_axpy_rows(f->x->data + r * in + i, f->w->data + i * out + from, in - i < FEW ? in - i : FEW, out,
                        f->y->data + r * out + from, to - from);
    for (size_t o = from; !f->in_out && o < to; o++)
        for (size_t r = 0; r < f->rows; r++) f->y->data[r * out + o] += k_dot(f->x->data + r * in, f->w->data + o * in, in);
}

static ag_tensor *few_rows(ag_tape *t, ag_tensor *const w[2], bool in_out, ag_tensor *x) {
    size_t out = in_out ? w[0]->cols : w[0]->rows, width = t->cores ? t->cores->width : 1;
    few f = {x, w[0], w[1], ag_new(t, x->batch, x->rows, out), in_out, x->batch * x->rows, 0};
    f.bands = width * ((out + width * BAND - 1) / (width * BAND));
    if (f.y) spread(t->cores, f.bands, few_task, &f);
    return f.y;
}

ag_tensor *part_use_linear(ag_tape *t, ag_tensor *const w[2], bool in_out, ag_tensor *x) {
    if (x && w[0] && !t->recording && x->batch * x->rows <= FEW && x->cols == (in_out ? w[0]->rows : w[0]->cols))
        return few_rows(t, w, in_out, x);
    if (!in_out) return ag_linear(t, x, w[0], w[1]);
    ag_tensor *y = ag_matmul(t, x, NO_T, w[0], NO_T);
    return y && x ? ag_add(t, ag_reshape(t, y, x->batch, x->rows, y->cols), w[1]) : NULL;
}

ag_tensor *part_cross_entropy(ag_tape *t, ag_tensor *logits, const uint32_t *ids, uint32_t ignored, real weight) {
    if (!logits) return NULL;
    size_t rows = logits->batch * logits->rows, V = logits->cols;
    ag_tensor *right = ag_new(t, 1, rows, 1), *y = ag_logsoftmax(t, logits);
    uint32_t *at = arena_alloc(t->memory, rows, sizeof *at);
    if (!right || !y || !at) return NULL;
    for (size_t i = 0; i < rows; i++) {
        if (ids[i] >= V) return fault_set(&t->fault, FAULT_RANGE, "label", (size_t[]){ids[i], 0, V - 1}, 3), NULL;
        at[i] = (uint32_t)(i * V + ids[i]);
        right->data[i] = ids[i] == ignored ? 0 : -weight;
    }
    return ag_dot(t, ag_rows(t, ag_reshape(t, y, 1, rows * V, 1), at, rows), right);
}
