/* trace.c - intermediates kept for an audit (see trace.h). */
#include "cli/trace.h"
#include <stdio.h>
#include <string.h>

void trace_add(trace *t, const char *name, const real *data, const size_t *shape, size_t rank) {
    const char *prefix = t->prefix ? t->prefix : "";
    size_t numbers = 1, names = strlen(prefix) + strlen(name) + 1;
    for (size_t i = 0; i < rank; i++) numbers *= shape[i];
    /* one block: the numbers, then the name */
    float *copy = t->failed ? NULL : mem_alloc(1, numbers * sizeof *copy + names);
    if (!copy || !mem_grow(&t->tensors, &t->room, t->count + 1, sizeof *t->tensors)) {
        mem_free(copy);
        t->failed = true;
        return;
    }
    for (size_t i = 0; i < numbers; i++) copy[i] = (float)data[i];
    char *text = (char *)(copy + numbers);
    snprintf(text, names, "%s%s", prefix, name);
    st_tensor *tensor = &t->tensors[t->count++];
    memset(tensor, 0, sizeof *tensor);
    *tensor = (st_tensor){.name = text,
                          .type = "F32",
                          .rank = rank,
                          .data = (const unsigned char *)copy,
                          .bytes = numbers * sizeof *copy};
    memcpy(tensor->shape, shape, rank * sizeof *shape);
}

static void see(void *arg, const explain_value *v) {
    char name[128];
    int n = snprintf(name, sizeof name, "%s", v->name);
    if (v->in_layer) n += snprintf(name + n, sizeof name - (size_t)n, ".layer%zu", v->layer);
    if (v->in_step) snprintf(name + n, sizeof name - (size_t)n, ".step%zu", v->step);
    trace_add(arg, name, v->data, v->shape, v->rank);
}

explain_watch trace_watch(trace *t) { return (explain_watch){.see = see, .arg = t}; }

bool trace_write(const trace *t, const char *path, const char *const *metadata, err *e) {
    if (t->failed) return err_set(e, "%s: no memory to keep every intermediate", path);
    return st_write(path, t->tensors, t->count, metadata, e);
}

void trace_free(trace *t) {
    for (size_t i = 0; i < t->count; i++) mem_free((void *)(uintptr_t)t->tensors[i].data);
    mem_free(t->tensors);
    memset(t, 0, sizeof *t);
}
