/* os.h - the operating system: all that is asked of it stands here; a file a system beside it answers (posix.c).
 *
 *     size_t n;
 *     const void *p = os_map("model.bin", &n);         // NULL: no mapping to be had, os_reason() says why
 *     double start = os_seconds();
 *     if (os_terminal(stderr)) fprintf(stderr, "%zu cores, %zu bytes\n", os_cores(), os_memory());
 *
 * Nothing here knows our errors, allocates or prints. A function that fails says false or NULL (or 0), and os_reason()
 * tells in words why the last one did. Paths are UTF-8 with '/' between names, whatever the system likes.
 */
#ifndef OS_H
#define OS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#if defined(_WIN32)
#define getc_unlocked _getc_nolock
#endif

/* ---- paths ------------------------------------------------------------------------------------ */
typedef enum { OS_NOTHING, OS_FILE, OS_FOLDER, OS_OTHER } os_kind; /* OTHER: a device, a pipe */
os_kind os_path_kind(const char *path, uint64_t *bytes);           /* bytes of a file; NULL where not wanted */
bool os_path_real(const char *path, char *out, size_t room);       /* links followed */
bool os_folder_make(const char *path);                             /* one level; false also where it is there already */
bool os_rename(const char *from, const char *to);                  /* what stood at `to` is replaced at once */
bool os_remove(const char *path);
bool os_cut(const char *path, uint64_t bytes);                     /* a file made as short as that */
FILE *os_open(const char *path, const char *mode);                 /* fopen; bytes, never lines, and over 2 GB */
bool os_hold(FILE *f);                                             /* ours alone until it is closed; false: somebody else's */
bool os_seek(FILE *f, uint64_t at);                                /* from the beginning, also past 2 GB */
bool os_tell(FILE *f, uint64_t *at);                               /* where it stands */
/* visit(arg, name) for every name in a folder but "." and "..", in no order, until it says false. False: not read, or
 * visit said false. */
typedef bool os_visit(void *arg, const char *name);
bool os_folder_each(const char *path, os_visit *visit, void *arg);
const char *os_last_slash(const char *path); /* what stands before the last name; NULL: it is a name alone */
const char *os_reason(void);
long os_process(void); /* a number that no other running process has */

/* ---- memory ----------------------------------------------------------------------------------- */
/* A file mapped for reading; NULL for an empty one, and where the system cannot map. */
const void *os_map(const char *path, size_t *bytes);
void os_unmap(const void *p, size_t bytes);
/* These bytes of a mapping are not wanted for now: their pages may go, and come from the file again when they are. */
void os_unwanted(const void *p, size_t bytes);
/* Address space whose pages are taken as they are touched, zeroed; NULL: not to be had. */
void *os_reserve(size_t bytes);
void os_release(void *p, size_t bytes);
uint64_t os_memory(void);      /* bytes of the machine; 0: unknown */
size_t os_memory_peak(void);   /* the most that this process has held; 0: unknown */

/* ---- time, console ---------------------------------------------------------------------------- */
double os_seconds(void); /* since some moment, never backwards */
bool os_terminal(FILE *stream);
/* First thing in main: the arguments as UTF-8, and standard output takes bytes. */
char **os_arguments(int *count, char **given);

/* ---- threads ---------------------------------------------------------------------------------- */
#if defined(_WIN32)
typedef struct { void *own; } os_lock, os_event;
typedef void *os_thread_id;
#else
#include <pthread.h>
typedef pthread_mutex_t os_lock;
typedef pthread_cond_t os_event;
typedef pthread_t os_thread_id;
#endif
typedef struct { os_thread_id id; void (*work)(void *arg); void *arg; } os_thread;
size_t os_cores(void); /* at least 1 */
bool os_thread_start(os_thread *t, void (*work)(void *arg), void *arg); /* *t stays where it is until joined */
void os_thread_join(os_thread *t);
void os_lock_make(os_lock *l);
void os_lock_free(os_lock *l);
void os_lock_take(os_lock *l);
void os_lock_give(os_lock *l);
void os_event_make(os_event *v);
void os_event_free(os_event *v);
void os_event_wait(os_event *v, os_lock *l); /* gives the lock while it waits; may return early */
void os_event_one(os_event *v);              /* wakes one that waits */
void os_event_all(os_event *v);
#endif
