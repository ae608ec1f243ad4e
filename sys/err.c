/* err.c - messages, the core's faults in words, and the memory hook. */
#include "sys/err.h"
#include "os/os.h"
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- messages ------------------------------------------------------------------------------ */
/* vsnprintf into e->text from `at` on; a message that is cut ends in "..." */
static void put(err *e, size_t at, const char *format, va_list args) {
    size_t room = sizeof e->text - at;
    int n = vsnprintf(e->text + at, room, format, args);
    if (n < 0)
        e->text[at] = 0;
    else if ((size_t)n >= room)
        memcpy(e->text + sizeof e->text - 4, "...", 4);
}

bool err_set(err *e, const char *format, ...) {
    va_list args;
    if (!e) return false;
    va_start(args, format);
    put(e, 0, format, args);
    va_end(args);
    return false;
}

bool err_prefix(err *e, const char *format, ...) {
    va_list args;
    char rest[sizeof e->text];
    if (!e) return false;
    memcpy(rest, e->text, sizeof rest);
    rest[sizeof rest - 1] = 0;
    va_start(args, format);
    put(e, 0, format, args);
    va_end(args);
    size_t used = strlen(e->text);
    size_t room = sizeof e->text - used;
    if ((size_t)snprintf(e->text + used, room, ": %s", rest) >= room) memcpy(e->text + sizeof e->text - 4, "...", 4);
    return false;
}

/* ---- faults in words ----------------------------------------------------------------------- */
typedef struct {
    char text[32];
} amount;

static amount bytes_text(size_t n) {
    amount a;
    if (n < 10000)
        snprintf(a.text, sizeof a.text, "%zu bytes", n);
    else if (n < 10000000)
        snprintf(a.text, sizeof a.text, "%.1f kB", (double)n / 1e3);
    else if (n < (size_t)1000000000)
        snprintf(a.text, sizeof a.text, "%.1f MB", (double)n / 1e6);
    else
        snprintf(a.text, sizeof a.text, "%.2f GB", (double)n / 1e9);
    return a;
}

bool err_fault(err *e, const fault *f) {
    const char *where = f->where ? f->where : "the core";
    const size_t *n = f->n;
    switch (f->code) {
    case FAULT_NONE:
        return err_set(e, "%s: no fault was reported", where);
    case FAULT_MEMORY:
        return err_set(e, "%s: working memory is full: %s asked, %s free of %s", where, bytes_text(n[0]).text,
                       bytes_text(n[1]).text, bytes_text(n[2]).text);
    case FAULT_TAPE:
        return err_set(e, "%s: the autograd tape is full: it holds %zu nodes", where, n[0]);
    case FAULT_SHAPE:
        return err_set(e, "%s: shapes [%zu,%zu,%zu] and [%zu,%zu,%zu] do not fit together", where, n[0], n[1], n[2],
                       n[3], n[4], n[5]);
    case FAULT_RANGE:
        return err_set(e, "%s: %zu found, %zu to %zu allowed", where, n[0], n[1], n[2]);
    case FAULT_ORDER:
        return err_set(e, "%s: has no derivative of order %zu; it was asked for one", where, n[0]);
    case FAULT_FLAT:
        return err_set(e,
                       "%s: the map of %zu layer%s is flat (its smallest and largest value are the same), so it cannot "
                       "be scaled to 0..1; more layers may have one",
                       where, n[0], n[0] == 1 ? "" : "s");
    case FAULT_FAMILY:
        return err_set(e, "%s: %s", where, f->why ? f->why : "not for this family of models");
    case FAULT_NAN:
        return err_set(e, "%s: a value that is not finite, at %zu", where, n[0]);
    }
    return err_set(e, "%s: unknown fault %d", where, (int)f->code);
}

/* ---- memory -------------------------------------------------------------------------------- */
static atomic_size_t allocations, held, fail_from; /* fail_from 0: none fails */

static bool may_allocate(void) {
    size_t mine = atomic_fetch_add(&allocations, 1) + 1;
    size_t from = atomic_load(&fail_from);
    return from == 0 || mine < from;
}

void mem_fail_after(size_t n) { atomic_store(&fail_from, n ? atomic_load(&allocations) + n : 0); }

size_t mem_count(void) { return atomic_load(&allocations); }
size_t mem_held(void) { return atomic_load(&held); }

static void *holding(void *p) {
    if (p) atomic_fetch_add(&held, 1);
    return p;
}

/* Never NULL for want of size: no bytes are one byte. */
void *mem_alloc(size_t count, size_t each) {
    size_t bytes;
    if (!size_mul(count, each, &bytes) || !may_allocate()) return NULL;
    return holding(calloc(bytes ? bytes : 1, 1));
}

char *mem_text_of(const char *text, size_t n) {
    char *copy = text ? mem_alloc(n + 1, 1) : NULL;
    if (copy) memcpy(copy, text, n);
    return copy;
}

char *mem_text(const char *text) { return mem_text_of(text, text ? strlen(text) : 0); }

void *mem_resize(void *p, size_t bytes) {
    if (!may_allocate()) return NULL;
    void *moved = realloc(p, bytes ? bytes : 1);
    return p ? moved : holding(moved);
}

bool mem_grow(void *array, size_t *room, size_t need, size_t each) {
    size_t more = *room ? *room : 64, bytes;
    void *p;
    if (need <= *room) return true;
    while (more < need && more <= SIZE_MAX / 2) more *= 2;
    if (more < need) more = need;
    memcpy(&p, array, sizeof p); /* whatever its type */
    p = size_mul(more, each, &bytes) ? mem_resize(p, bytes) : NULL;
    if (!p) return false;
    memcpy(array, &p, sizeof p);
    *room = more;
    return true;
}

void mem_free(void *p) {
    if (p) atomic_fetch_sub(&held, 1);
    free(p);
}

static void *cjson_alloc(size_t bytes) { return mem_alloc(bytes, 1); }

void mem_hook_cjson(void) {
    cJSON_Hooks hooks = {cjson_alloc, mem_free};
    cJSON_InitHooks(&hooks);
}

void *mem_reserve(size_t bytes) { return may_allocate() ? os_reserve(bytes) : NULL; }

void mem_release(void *p, size_t bytes) {
    if (p) os_release(p, bytes);
}
