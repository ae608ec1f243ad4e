/* trace.h - every named intermediate of an inversion, kept and written as one safetensors file.
 *
 *     trace t = {0};
 *     explain_watch w = trace_watch(&t);       // give it to explain_open and maskinv_invert
 *     t.prefix = "cat.";                       // before what follows: "cat.map.step3", "cat.u.layer11.step0"
 *     trace_add(&t, "pixels", pixels, (size_t[]){3, 448, 448}, 3);
 *     if (!trace_write(&t, "out.safetensors", metadata, &e)) ...
 *     trace_free(&t);
 */
#ifndef TRACE_H
#define TRACE_H
#include "models/checkpoint.h"
#include "explain.h"

typedef struct {
    st_tensor *tensors;
    size_t count, room;
    const char *prefix; /* NULL: none */
    bool failed;        /* a copy could not be had: trace_write says so */
} trace;

explain_watch trace_watch(trace *t);
/* Copies the data. */
void trace_add(trace *t, const char *name, const real *data, const size_t *shape, size_t rank);
/* metadata: key, value, ..., NULL. */
bool trace_write(const trace *t, const char *path, const char *const *metadata, err *e);
void trace_free(trace *t);
#endif
