/* tensors.c - sets of tensors: what is in them, number types, order (see tensors.h). */
#include "models/tensors.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "clip.h"
#include "models/containers.h"

/* ---- number types --------------------------------------------------------------------------------- */
/* Of one block (a number, where a type has none): the types of weights (clip.h), and those that weights do not have. */
static bool block_of(const char *type, size_t *numbers, size_t *bytes) {
    static const struct {
        char name[8];
        unsigned char bytes;
    } OTHERS[] = {{"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1}, {"U8", 1}, {"BOOL", 1}};
    clip_type of_weights;
    *numbers = 1;
    if (clip_type_find(type, &of_weights)) {
        if (clip_block_bytes(of_weights)) *numbers = CLIP_BLOCK;
        *bytes = clip_bytes(of_weights, *numbers);
        return true;
    }
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (strcmp(OTHERS[i].name, type) == 0) return *bytes = OTHERS[i].bytes, true;
    return false;
}

bool tensor_count_bytes(const char *type, const size_t *shape, size_t rank, size_t *bytes) {
    size_t n = 1, row = rank ? shape[rank - 1] : 1, numbers, each;
    for (size_t i = 0; i < rank; i++)
        if (!size_mul(n, shape[i], &n)) return false;
    return block_of(type, &numbers, &each) && row % numbers == 0 && size_mul(n / numbers, each, bytes);
}

size_t number_bytes(const char *type) {
    size_t numbers, each;
    return block_of(type, &numbers, &each) && numbers == 1 ? each : 0;
}

size_t tensor_size(const file_tensor *w) {
    size_t n = 1;
    for (size_t i = 0; i < w->rank; i++) n *= w->shape[i];
    return n;
}

size_t tensor_wrapping(const char *name, size_t length) {
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    size_t at = 0;
    for (size_t i = 0; i < 2; i++) {
        size_t m = strlen(prefixes[i]);
        if (length - at > m && !memcmp(name + at, prefixes[i], m)) at += m, i = (size_t)-1;
    }
    return at;
}

/* ---- what readers add ------------------------------------------------------------------------------- */
bool tensors_keep(tensors *t, void *p, void (*release)(void *), err *e) {
    if (mem_grow(&t->kept, &t->kept_room, t->kept_count + 1, sizeof *t->kept)) {
        t->kept[t->kept_count++] = (tensors_kept){p, release};
        return true;
    }
    release(p);
    return err_set(e, "%s: not enough memory", t->name);
}

char *tensors_text(tensors *t, const char *text, size_t length) {
    char *copy = mem_text_of(text, length);
    return copy && tensors_keep(t, copy, mem_free, NULL) ? copy : NULL;
}

bool tensors_add_note(tensors *t, err *e, const char *format, ...) {
    char text[300];
    va_list args;
    if (t->note_count == NOTES_MOST) return true; /* notes are for people */
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *copy = tensors_text(t, text, strlen(text));
    if (!copy) return err_set(e, "%s: not enough memory", t->name);
    t->notes[t->note_count++] = copy;
    return true;
}

void tensors_set_config(tensors *t, const char *json) { t->config = json; }
void tensors_set_pixels(tensors *t, const char *json) { t->pixels = json; }
void tensors_set_merges(tensors *t, const char *merges) { t->merges = merges; }
void tensors_set_container(tensors *t, const char *name) { t->container = name; }

void tensors_set_unpack(tensors *t, tensors_unpack *how, void *state) {
    t->unpack = how;
    t->unpack_state = state;
}

bool tensors_add_strided(tensors *t, const file_tensor *w, err *e) {
    file_tensor copy = *w;
    if (!copy.bytes && !tensor_count_bytes(w->type, w->shape, w->rank, &copy.bytes))
        return err_set(e, "%s: tensor \"%.200s\": its shape as %s is not a countable number of bytes", t->name, w->name,
                       w->type);
    copy.name = tensors_text(t, w->name, strlen(w->name));
    if (!copy.name || !mem_grow(&t->items, &t->room, t->count + 1, sizeof *t->items))
        return err_set(e, "%s: not enough memory for %zu tensors", t->name, t->count + 1);
    copy.file = t->name;
    copy.owner = t;
    t->items[t->count++] = copy;
    return true;
}

bool tensors_add(tensors *t, const file_tensor *w, err *e) {
    file_tensor copy = *w;
    size_t n = 1;
    for (size_t i = w->rank; i-- > 0;) {
        copy.stride[i] = n;
        if (!size_mul(n, w->shape[i], &n)) n = 0; /* said by tensors_add_strided */
    }
    return tensors_add_strided(t, &copy, e);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(file_tensor *const *)a)->name, (*(file_tensor *const *)b)->name);
}

bool tensors_sort(tensors *t, const char *what, err *e) {
    t->sorted = mem_alloc(t->count, sizeof *t->sorted);
    if (!t->sorted) return err_set(e, "%s: not enough memory for %zu tensors", t->name, t->count);
    for (size_t i = 0; i < t->count; i++) t->sorted[i] = &t->items[i];
    qsort(t->sorted, t->count, sizeof *t->sorted, by_name);
    for (size_t i = 1; i < t->count; i++)
        if (strcmp(t->sorted[i - 1]->name, t->sorted[i]->name) == 0)
            return err_set(e, "%s: %s has tensor \"%.200s\" twice", t->name, what, t->sorted[i]->name);
    return true;
}

tensors *tensors_make(const char *name, err *e) {
    tensors *t = mem_alloc(1, sizeof *t);
    if (t) t->name = mem_text(name);
    if (t && t->name) return t;
    mem_free(t);
    err_set(e, "%s: not enough memory", name);
    return NULL;
}

void tensors_free(tensors *t) {
    if (!t) return;
    for (size_t i = 0; i < t->part_count; i++) tensors_free(t->parts[i]);
    for (size_t i = t->kept_count; i-- > 0;) t->kept[i].release(t->kept[i].p);
    if (t->mapped) file_map_close(&t->map);
    mem_free(t->parts);
    mem_free(t->kept);
    mem_free(t->items);
    mem_free(t->sorted);
    mem_free(t->name);
    mem_free(t);
}

/* ---- what was read ---------------------------------------------------------------------------------------- */
size_t tensors_count(const tensors *t) { return t->count; }
const file_tensor *tensors_at(const tensors *t, size_t i) { return &t->items[i]; }
const char *tensors_name(const tensors *t) { return t->name; }
const char *tensors_container(const tensors *t) { return t->container; }
size_t tensors_files(const tensors *t) { return t->part_count ? t->part_count : 1; }
const char *tensors_config(const tensors *t) { return t->config; }
const char *tensors_pixels(const tensors *t) { return t->pixels; }
const char *tensors_merges(const tensors *t) { return t->merges; }
size_t tensors_notes(const tensors *t) { return t->note_count; }
const char *tensors_note(const tensors *t, size_t i) { return t->notes[i]; }

const file_tensor *tensors_find(const tensors *t, const char *name) { return tensors_find_among(t, t->count, name); }

const file_tensor *tensors_find_among(const tensors *t, size_t count, const char *name) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(t->sorted[middle]->name, name);
        if (order == 0) return t->sorted[middle];
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

/* ---- numbers in order --------------------------------------------------------------------------------------- */
/* Whether the numbers lie without gaps with dimensions `first`..rank-1 outermost and 0..first-1 within: first 0 is
 * row-major order. The stride of a dimension of one number says nothing. */
static bool lies_in_order(const file_tensor *w, size_t first) {
    size_t n = 1;
    for (size_t i = w->rank; i-- > 0;) {
        size_t d = (i + first) % w->rank;
        if (w->shape[d] != 1 && w->stride[d] != n) return tensor_size(w) == 0;
        n *= w->shape[d];
    }
    return true;
}

void tensor_put_in_order(const file_tensor *w, unsigned char *to) {
    size_t at[TENSOR_RANK] = {0}, from = 0, count = tensor_size(w), each = number_bytes(w->type);
    for (size_t i = 0; i < count; i++, to += each) {
        memcpy(to, w->data + from * each, each);
        for (size_t d = w->rank; d-- > 0;) {
            from += w->stride[d];
            if (++at[d] < w->shape[d]) break;
            from -= w->stride[d] * w->shape[d];
            at[d] = 0;
        }
    }
}

/* Takes over p, the numbers of w in row-major order. */
static bool replace(file_tensor *w, unsigned char *p, err *e) {
    if (!p || !tensors_keep(w->owner, p, mem_free, e)) return false;
    w->data = p;
    for (size_t i = w->rank, n = 1; i-- > 0; n *= w->shape[i]) w->stride[i] = n;
    return true;
}

static bool unpack(file_tensor *w, err *e) {
    tensors *t = w->owner;
    if (!w->data) w->data = t->unpack(t, t->unpack_state, w, e);
    return w->data != NULL;
}

/* Where what was unpacked is remembered. Sets hand out const tensors; their own they may change. */
static file_tensor *original(const file_tensor *w) {
    const file_tensor *from = w->origin ? w->origin : w;
    return &from->owner->items[from - from->owner->items];
}

const unsigned char *tensor_bytes(const file_tensor *w, err *e) {
    file_tensor *own = original(w);
    if (!unpack(own, e)) return NULL;
    if (lies_in_order(own, 0)) return own->data;
    unsigned char *p = mem_alloc(own->bytes, 1);
    if (!p) return err_set(e, "%s: no memory for the %zu bytes of tensor \"%.200s\"", w->file, w->bytes, w->name), NULL;
    tensor_put_in_order(own, p);
    return replace(own, p, e) ? p : NULL;
}

const unsigned char *tensor_matrix(const file_tensor *w, size_t rows, size_t cols, bool *transposed, err *e) {
    file_tensor *own = original(w);
    size_t first = 0, n = 1;
    *transposed = false;
    if (!unpack(own, e)) return NULL;
    while (first < own->rank && n < rows) n *= own->shape[first++];
    if (lies_in_order(own, 0) || n != rows || tensor_size(own) / rows != cols || !lies_in_order(own, first))
        return tensor_bytes(own, e);
    *transposed = true;
    return own->data;
}
