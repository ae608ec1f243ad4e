/* posix.c - Linux, the BSDs, macOS: what os.h asks, by POSIX. */
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS, MAP_NORESERVE */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64 /* checkpoints over 2 GB on 32-bit systems */
#if defined(__APPLE__)
#define _DARWIN_C_SOURCE 1
#endif
#include "os/os.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* ---- paths ------------------------------------------------------------------------------------ */
os_kind os_path_kind(const char *path, uint64_t *bytes) {
    struct stat s;
    if (bytes) *bytes = 0;
    if (stat(path, &s) != 0) return OS_NOTHING;
    if (S_ISDIR(s.st_mode)) return OS_FOLDER;
    if (!S_ISREG(s.st_mode)) return OS_OTHER;
    if (bytes) *bytes = (uint64_t)s.st_size;
    return OS_FILE;
}

bool os_path_real(const char *path, char *out, size_t room) {
    char *real = realpath(path, NULL);
    bool fits = real && strlen(real) < room;
    if (fits) strcpy(out, real);
    free(real);
    return fits;
}

bool os_folder_make(const char *path) { return mkdir(path, 0777) == 0; }
bool os_rename(const char *from, const char *to) { return rename(from, to) == 0; }
bool os_remove(const char *path) { return remove(path) == 0; }
bool os_cut(const char *path, uint64_t bytes) { return truncate(path, (off_t)bytes) == 0; }
FILE *os_open(const char *path, const char *mode) { return fopen(path, mode); }
bool os_hold(FILE *f) { return flock(fileno(f), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }
bool os_seek(FILE *f, uint64_t at) { return fseeko(f, (off_t)at, SEEK_SET) == 0; }
bool os_tell(FILE *f, uint64_t *at) {
    off_t here = ftello(f);
    if (here < 0) return false;
    *at = (uint64_t)here;
    return true;
}

bool os_folder_each(const char *path, os_visit *visit, void *arg) {
    DIR *d = opendir(path);
    bool ok = d != NULL;
    if (!d) return false;
    for (struct dirent *f; ok && (f = readdir(d)) != NULL;)
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0) ok = visit(arg, f->d_name);
    closedir(d);
    return ok;
}

const char *os_last_slash(const char *path) { return strrchr(path, '/'); }
const char *os_reason(void) { return strerror(errno); }
long os_process(void) { return (long)getpid(); }

/* ---- memory ----------------------------------------------------------------------------------- */
const void *os_map(const char *path, size_t *bytes) {
    struct stat s;
    void *p = MAP_FAILED;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return NULL;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size > 0 && (uintmax_t)s.st_size <= SIZE_MAX / 2)
        p = mmap(NULL, *bytes = (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

void os_unmap(const void *p, size_t bytes) { munmap((void *)(uintptr_t)p, bytes); }

void os_unwanted(const void *p, size_t bytes) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)p + page - 1) / page * page, last = ((uintptr_t)p + bytes) / page * page;
    if (first < last) (void)madvise((void *)first, last - first, MADV_DONTNEED);
}

void *os_reserve(size_t bytes) {
    if (bytes == 0) return NULL;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void os_release(void *p, size_t bytes) { munmap(p, bytes); }

uint64_t os_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}

size_t os_memory_peak(void) {
    struct rusage use;
    if (getrusage(RUSAGE_SELF, &use) != 0) return 0;
#ifdef __APPLE__
    return (size_t)use.ru_maxrss;
#else
    return (size_t)use.ru_maxrss * 1024;
#endif
}

/* ---- time, console ---------------------------------------------------------------------------- */
double os_seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

bool os_terminal(FILE *stream) { return isatty(fileno(stream)) != 0; }
char **os_arguments(int *count, char **given) { return (void)count, given; }

/* ---- threads ---------------------------------------------------------------------------------- */
size_t os_cores(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (size_t)n;
}

static void *begin(void *p) {
    os_thread *t = p;
    return t->work(t->arg), NULL;
}

bool os_thread_start(os_thread *t, void (*work)(void *arg), void *arg) {
    t->work = work, t->arg = arg;
    return pthread_create(&t->id, NULL, begin, t) == 0;
}

void os_thread_join(os_thread *t) { pthread_join(t->id, NULL); }
void os_lock_make(os_lock *l) { pthread_mutex_init(l, NULL); }
void os_lock_free(os_lock *l) { pthread_mutex_destroy(l); }
void os_lock_take(os_lock *l) { pthread_mutex_lock(l); }
void os_lock_give(os_lock *l) { pthread_mutex_unlock(l); }
void os_event_make(os_event *v) { pthread_cond_init(v, NULL); }
void os_event_free(os_event *v) { pthread_cond_destroy(v); }
void os_event_wait(os_event *v, os_lock *l) { pthread_cond_wait(v, l); }
void os_event_one(os_event *v) { pthread_cond_signal(v); }
void os_event_all(os_event *v) { pthread_cond_broadcast(v); }
