/* wasm.c - WebAssembly in a page or in node: what os.h asks, by four functions of the host (web/maskinv.mjs).
 *
 * Files are read only, through the host, which has them from a visitor's disk or from node's. Nothing is mapped: file_map
 * then reads the whole. One core. Memory is the module's own, grown as it is asked for.
 */
#define _GNU_SOURCE 1 /* fopencookie */
#include "os/os.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOST(name) __attribute__((import_module("host"), import_name(#name)))
HOST(size) double host_size(const char *path);             /* bytes of a file; -1: nothing there, -2: a folder */
HOST(name) int host_name(const char *path, int index, char *out, int room); /* of a folder's index-th name: its length; -1: no more */
HOST(read) int host_read(const char *path, double from, void *out, int bytes); /* bytes read; -1: cannot be read */
HOST(now) double host_now(void);                           /* seconds */

/* ---- paths ------------------------------------------------------------------------------------ */
os_kind os_path_kind(const char *path, uint64_t *bytes) {
    double size = host_size(path);
    if (bytes) *bytes = size > 0 ? (uint64_t)size : 0;
    return size >= 0 ? OS_FILE : size < -1 ? OS_FOLDER : OS_NOTHING;
}

bool os_path_real(const char *path, char *out, size_t room) {
    bool fits = strlen(path) < room;
    if (fits) strcpy(out, path);
    return fits;
}

static bool nothing_is_written(void) {
    errno = EROFS;
    return false;
}
bool os_folder_make(const char *path) { return (void)path, nothing_is_written(); }
bool os_rename(const char *from, const char *to) { return (void)from, (void)to, nothing_is_written(); }
bool os_remove(const char *path) { return (void)path, nothing_is_written(); }
bool os_hold(FILE *f) { return (void)f, true; }
bool os_cut(const char *path, uint64_t bytes) { return (void)path, (void)bytes, nothing_is_written(); }

/* ---- a file of the host as a stream -------------------------------------------------------------- */
typedef struct {
    double at, size;
    char path[];
} stream;

static ssize_t stream_read(void *cookie, char *out, size_t bytes) {
    stream *s = cookie;
    int got = host_read(s->path, s->at, out, bytes > 1 << 30 ? 1 << 30 : (int)bytes);
    if (got < 0) return errno = EIO, -1;
    s->at += got;
    return got;
}

static int stream_seek(void *cookie, off_t *to, int whence) {
    stream *s = cookie;
    double at = (double)*to + (whence == SEEK_CUR ? s->at : whence == SEEK_END ? s->size : 0);
    if (!(at >= 0)) return errno = EINVAL, -1;
    s->at = at;
    *to = (off_t)at;
    return 0;
}

static int stream_close(void *cookie) { return free(cookie), 0; }

FILE *os_open(const char *path, const char *mode) {
    double size = host_size(path);
    if (*mode != 'r' || strchr(mode, '+')) return nothing_is_written(), NULL;
    if (size < 0) return errno = size < -1 ? EISDIR : ENOENT, NULL;
    stream *s = malloc(sizeof *s + strlen(path) + 1);
    if (!s) return NULL;
    *s = (stream){0, size};
    strcpy(s->path, path);
    FILE *f = fopencookie(s, "r", (cookie_io_functions_t){.read = stream_read, .seek = stream_seek, .close = stream_close});
    if (!f) free(s);
    return f;
}

bool os_seek(FILE *f, uint64_t at) { return fseeko(f, (off_t)at, SEEK_SET) == 0; }
bool os_tell(FILE *f, uint64_t *at) {
    off_t here = ftello(f);
    if (here < 0) return false;
    *at = (uint64_t)here;
    return true;
}

bool os_folder_each(const char *path, os_visit *visit, void *arg) {
    char name[1024];
    if (host_size(path) > -2) return errno = ENOENT, false;
    for (int i = 0, n; (n = host_name(path, i, name, sizeof name)) >= 0; i++)
        if (n < (int)sizeof name && !visit(arg, name)) return false;
    return true;
}

const char *os_last_slash(const char *path) { return strrchr(path, '/'); }
const char *os_reason(void) { return strerror(errno); }
long os_process(void) { return 1; }

/* ---- memory ----------------------------------------------------------------------------------- */
const void *os_map(const char *path, size_t *bytes) { return (void)path, (void)bytes, NULL; }
void os_unmap(const void *p, size_t bytes) { (void)p, (void)bytes; }
void os_unwanted(const void *p, size_t bytes) { (void)p, (void)bytes; }
void *os_reserve(size_t bytes) { return bytes ? calloc(bytes, 1) : NULL; }
void os_release(void *p, size_t bytes) { (void)bytes, free(p); }
uint64_t os_memory(void) { return 0; }
size_t os_memory_peak(void) { return (size_t)__builtin_wasm_memory_size(0) * 65536; }

/* musl's go word by word; these are one instruction of the module (bulk memory: web.mk says so for this file alone). */
void *memset(void *to, int value, size_t n) { return __builtin_memset(to, value, n); }
void *memcpy(void *restrict to, const void *restrict from, size_t n) { return __builtin_memcpy(to, from, n); }
void *memmove(void *to, const void *from, size_t n) { return __builtin_memmove(to, from, n); }

/* ---- time, console ---------------------------------------------------------------------------- */
double os_seconds(void) { return host_now(); }
bool os_terminal(FILE *f) { return (void)f, false; }
char **os_arguments(int *count, char **given) { return (void)count, given; }

/* ---- threads: none, so that every lock is free -------------------------------------------------- */
size_t os_cores(void) { return 1; }
bool os_thread_start(os_thread *t, void (*work)(void *arg), void *arg) { return (void)t, (void)work, (void)arg, false; }
void os_thread_join(os_thread *t) { (void)t; }
void os_lock_make(os_lock *l) { (void)l; }
void os_lock_free(os_lock *l) { (void)l; }
void os_lock_take(os_lock *l) { (void)l; }
void os_lock_give(os_lock *l) { (void)l; }
void os_event_make(os_event *v) { (void)v; }
void os_event_free(os_event *v) { (void)v; }
void os_event_wait(os_event *v, os_lock *l) { (void)v, (void)l; }
void os_event_one(os_event *v) { (void)v; }
void os_event_all(os_event *v) { (void)v; }
