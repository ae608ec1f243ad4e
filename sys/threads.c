/* threads.c - a pool of threads that wait for work (see threads.h).
 *
 * One job at a time: each thread has a part of its tasks, the caller too; who is done goes on with the others' parts.
 * Threads sleep between jobs, after looking out for some 50 microseconds, since the next job usually follows sooner.
 */
#include "sys/threads.h"
#include "os/os.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "sys/err.h"

enum { MOST_THREADS = 256, LOOK_OUT = 100000 };

typedef struct {
    pool face; /* first, so that a pool * is a team * */
    os_lock lock;
    os_event work, rest;
    os_thread thread[MOST_THREADS];
    size_t started;
    /* the job */
    pool_task *task;
    void *arg;
    size_t count;
    atomic_size_t next[MOST_THREADS]; /* the first task left of each thread's part */
    atomic_size_t busy;
    atomic_size_t named; /* threads that have their number */
    atomic_uint job; /* its number; a thread that sees a new one joins in */
    bool stopping;
} team;

static _Thread_local bool inside; /* a task that spreads again works alone */

static size_t first_of(const team *t, size_t thread) { return thread * t->count / (t->started + 1); }

/* A thread's own part first, which is the same in every job: what it wrote lies in its caches. Then what the others have left. */
static void do_tasks(team *t, size_t own) {
    inside = true;
    for (size_t k = 0; k <= t->started; k++) {
        size_t part = (own + k) % (t->started + 1), end = first_of(t, part + 1);
        for (size_t i; (i = atomic_fetch_add(&t->next[part], 1)) < end;) t->task(t->arg, i);
    }
    inside = false;
}

/* Waits until the job's number differs from `seen`: first looking, then sleeping. */
static unsigned wait_job(team *t, unsigned seen) {
    for (int i = 0; i < LOOK_OUT; i++)
        if (atomic_load_explicit(&t->job, memory_order_acquire) != seen) return seen + 1;
    os_lock_take(&t->lock);
    while (atomic_load(&t->job) == seen) os_event_wait(&t->work, &t->lock);
    os_lock_give(&t->lock);
    return seen + 1;
}

static void worker(void *arg) {
    team *t = arg;
    size_t own = atomic_fetch_add(&t->named, 1) + 1; /* the caller is 0 */
    for (unsigned seen = 0;;) {
        seen = wait_job(t, seen);
        if (t->stopping) return;
        do_tasks(t, own);
        if (atomic_fetch_sub(&t->busy, 1) == 1) { /* the last one wakes the caller */
            os_lock_take(&t->lock);
            os_event_one(&t->rest);
            os_lock_give(&t->lock);
        }
    }
}

static void announce(team *t) {
    os_lock_take(&t->lock);
    atomic_fetch_add_explicit(&t->job, 1, memory_order_release);
    os_event_all(&t->work);
    os_lock_give(&t->lock);
}

static void run(pool *p, size_t count, pool_task *task, void *arg) {
    team *t = (team *)(void *)p;
    if (inside || count < 2) {
        for (size_t i = 0; i < count; i++) task(arg, i);
        return;
    }
    t->task = task;
    t->arg = arg;
    t->count = count;
    for (size_t i = 0; i <= t->started; i++) atomic_store(&t->next[i], first_of(t, i));
    atomic_store(&t->busy, t->started);
    announce(t);
    do_tasks(t, 0);
    for (int i = 0; i < LOOK_OUT; i++)
        if (atomic_load_explicit(&t->busy, memory_order_acquire) == 0) return;
    os_lock_take(&t->lock);
    while (atomic_load(&t->busy) != 0) os_event_wait(&t->rest, &t->lock);
    os_lock_give(&t->lock);
}

size_t cores_available(void) {
    size_t n = os_cores();
    return n > MOST_THREADS ? MOST_THREADS : n;
}

bool pool_products(err *e) {
    const char *which = getenv("MASKINV_GEMM");
    if (!which) return true;
    if (!strcmp(which, "own")) return gemm_choose(GEMM_OWN);
    if (strcmp(which, "blas") != 0) return err_set(e, "MASKINV_GEMM: '%s' found, own or blas expected", which);
    return gemm_choose(GEMM_BLAS) || err_set(e, "MASKINV_GEMM: blas found, but this build has none: own expected");
}

pool *pool_start(size_t width) {
    if (width == 0) width = cores_available();
    if (width > MOST_THREADS) width = MOST_THREADS;
    team *t = mem_alloc(1, sizeof *t);
    if (!t) return NULL;
    gemm_one_core();
    (void)pool_products(&(err){0}); /* programs have asked already, and said what they did not understand */
    t->face.run = run;
    os_lock_make(&t->lock);
    os_event_make(&t->work);
    os_event_make(&t->rest);
    while (t->started + 1 < width && os_thread_start(&t->thread[t->started], worker, t)) t->started++;
    t->face.width = width; /* the split of work, fewer threads or not: the bytes depend on it */
    return &t->face;
}

void pool_stop(pool *p) {
    if (!p) return;
    team *t = (team *)(void *)p;
    t->stopping = true;
    announce(t);
    for (size_t i = 0; i < t->started; i++) os_thread_join(&t->thread[i]);
    os_event_free(&t->rest);
    os_event_free(&t->work);
    os_lock_free(&t->lock);
    mem_free(t);
}

double seconds_now(void) { return os_seconds(); }
