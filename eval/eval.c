/* eval.c - the run over all scenes, resumed where it stopped, and the merging of shards (see eval.h).
 *
 * Scenes are taken in batches, a task each; a batch's lines are written in the scenes' order and flushed. What a kill
 * leaves half written is cut off at the next start.
 */
#include "eval/eval.h"
#include "os/os.h"
#include <string.h>

enum { BATCH = 64, PER_CORE = 8 };

/* ---- a batch of scenes -------------------------------------------------------------------------------------- */
typedef struct {
    scene_record record;
    bool read; /* else e says why its line could not be */
    size_t scene;
    longtext line;
    bool ok, fatal;
    err e;
} job;

typedef struct {
    const eval_bench *b;
    workers workers;
    job *jobs; /* [BATCH] */
} batch;

static void do_job(void *arg, size_t i) {
    batch *b = arg;
    job *j = &b->jobs[i];
    eval_result r = {0};
    size_t worker = worker_take(&b->workers);
    j->line.length = 0;
    j->fatal = !eval_result_new(&r, b->b->head, &j->e);
    j->ok = !j->fatal && j->read && eval_scene(b->b, &j->record, &b->workers.memory[worker], &r, &j->e);
    r.scene = j->scene, r.broken = !j->ok;
    snprintf(r.error, sizeof r.error, "%.*s", (int)sizeof r.error - 1, j->e.text);
    if (!j->fatal) result_write(b->b->head, &r, &j->line);
    eval_result_free(&r);
    worker_give(&b->workers, worker);
}

/* The next scenes of this shard; *n 0: there are no more. */
static bool fill(batch *b, scene_reader *reader, size_t *next, size_t skip, size_t most, size_t *n, err *e) {
    const eval_head *h = b->b->head;
    *n = 0;
    while (*n < most && *next < h->scenes) {
        job *j = &b->jobs[*n];
        j->e.text[0] = 0;
        scene_reading reading = scene_reader_next(reader, &j->record, &j->e);
        if (reading == SCENE_END)
            return err_set(e, "%s/scenes.jsonl: ends after %zu scenes, %zu expected", h->set, *next, h->scenes);
        j->read = reading == SCENE_READ;
        j->scene = (*next)++;
        *n += j->scene % h->shards == h->shard && j->scene / h->shards >= skip;
    }
    return true;
}

static bool write_batch(batch *b, size_t n, FILE *out, const char *path, const eval_options *o, err *e) {
    for (size_t i = 0; i < n; i++) {
        job *j = &b->jobs[i];
        if (!j->ok && !j->fatal && o->keep_going && o->broken) o->broken(o->arg, j->e.text);
        if (j->fatal || (!j->ok && !o->keep_going)) {
            *e = j->e;
            return err_prefix(e, "scene %zu", j->scene);
        }
        if (j->line.failed) return err_set(e, "scene %zu: no memory for its line", j->scene);
        if (fwrite(j->line.text, 1, j->line.length, out) != j->line.length)
            return err_set(e, "%s: cannot be written: %s", path, os_reason());
    }
    return fflush(out) == 0 ? true : err_set(e, "%s: cannot be written: %s", path, os_reason());
}

static bool run_batches(batch *b, FILE *out, const char *path, size_t done, const eval_options *o, pool *cores,
                        err *e) {
    const eval_head *h = b->b->head;
    size_t width = cores ? cores->width : 1, most = width * PER_CORE < BATCH ? width * PER_CORE : BATCH, next = 0, n,
           fresh = 0;
    scene_reader *reader = scene_reader_open(h->set, e);
    bool ok = reader != NULL;
    while (ok) {
        if (!(ok = fill(b, reader, &next, done, most, &n, e)) || n == 0) break;
        spread(cores, n, do_job, b);
        ok = write_batch(b, n, out, path, o, e);
        fresh += n;
        if (ok && o->progress) o->progress(o->arg, done + fresh, eval_share(h), fresh);
    }
    scene_reader_free(reader);
    return ok;
}

/* ---- where an earlier run stopped ------------------------------------------------------------------------------ */
static bool start_file(const eval_head *h, const char *path, err *e) {
    longtext line = {0};
    head_write(h, &line);
    bool ok = line.failed ? err_set(e, "%s: no memory", path) : file_write(path, line.text, line.length, e);
    mem_free(line.text);
    return ok;
}

/* Counts the whole lines and cuts the file after them. */
static bool resume_file(const eval_head *h, const char *folder, size_t *done, err *e) {
    results r;
    eval_result one;
    bool end = false;
    if (!results_open(&r, folder, e)) return false;
    const char *differs = eval_head_differs(h, &r.head);
    if (!differs && r.head.shard != h->shard) differs = "the shard";
    bool ok = !differs ||
              err_set(e, "%s: an earlier run is there, and %s differs; another --out, or remove it", r.path, differs);
    if (!ok || !(ok = eval_result_new(&one, &r.head, e))) return results_close(&r), false;
    while (ok && !end) ok = results_next(&r, &one, &end, e);
    *done = r.count;
    if (ok && !os_cut(r.path, r.whole))
        ok = err_set(e, "%s: cannot be written: %s", r.path, os_reason());
    eval_result_free(&one);
    results_close(&r);
    return ok;
}

bool eval_run(const eval_bench *b, const char *folder, const eval_options *o, pool *cores, arena *memory, err *e) {
    char path[4096];
    size_t done = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/results.jsonl", folder) >= sizeof path)
        return err_set(e, "%.200s...: the path is too long", folder);
    if (!folder_make(folder, e)) return false;
    if (!(file_exists(path) ? resume_file(b->head, folder, &done, e) : start_file(b->head, path, e))) return false;
    FILE *out = os_open(path, "ab");
    if (!out) return err_set(e, "%s: cannot be written: %s", path, os_reason());
    batch *all = mem_alloc(1, sizeof *all);
    job *jobs = mem_alloc(BATCH, sizeof *jobs);
    bool ok = (all && jobs) || err_set(e, "no memory for %d scenes", BATCH);
    size_t mark = arena_mark(memory);
    if (ok) {
        all->b = b, all->jobs = jobs;
        ok = workers_make(&all->workers, cores, memory, e) && run_batches(all, out, path, done, o, cores, e);
    }
    for (size_t i = 0; jobs && i < BATCH; i++) mem_free(jobs[i].line.text);
    mem_free(jobs);
    mem_free(all);
    arena_reset(memory, mark);
    if (fclose(out) != 0 && ok) ok = err_set(e, "%s: cannot be written: %s", path, os_reason());
    return ok;
}

/* ---- merging -------------------------------------------------------------------------------------------------------
 */
/* The shards in their order, by name where one is missing, there twice, or of another run. */
static bool order_shards(results *parts, size_t count, results **order, err *e) {
    size_t n = parts[0].head.shards;
    for (size_t i = 0; i < count; i++) {
        const char *differs = eval_head_differs(&parts[0].head, &parts[i].head);
        if (differs)
            return err_set(e, "%s and %s do not fit together: %s differs", parts[0].path, parts[i].path, differs);
        results **place = &order[parts[i].head.shard];
        if (*place)
            return err_set(e, "%s and %s are both shard %zu/%zu", (*place)->path, parts[i].path, parts[i].head.shard,
                           n);
        *place = &parts[i];
    }
    for (size_t i = 0; i < n; i++)
        if (!order[i]) return err_set(e, "shard %zu/%zu is missing", i, n);
    return true;
}

static bool copy_lines(results **order, const eval_head *h, FILE *out, err *e) {
    eval_result one;
    bool ok = eval_result_new(&one, h, e), end;
    for (size_t k = 0; ok && k < h->scenes; k++) {
        results *r = order[k % h->shards];
        ok = results_next(r, &one, &end, e);
        if (ok && end)
            ok = err_set(e, "%s: shard %zu/%zu is not finished, %zu scenes of %zu: start it again", r->path,
                         r->head.shard, r->head.shards, r->count, eval_share(&r->head));
        if (ok) fwrite(r->line.text, 1, r->line.length, out), fputc('\n', out);
    }
    eval_result_free(&one);
    return ok;
}

static bool write_merged(results *parts, results **order, const char *path, err *e) {
    eval_head whole = order[0]->head;
    longtext line = {0};
    out_file f;
    whole.shard = 0, whole.shards = 1;
    head_write(&whole, &line);
    bool ok = !line.failed || err_set(e, "%s: no memory", path);
    if (ok && (ok = out_open(&f, path, e))) {
        fwrite(line.text, 1, line.length, f.stream);
        ok = copy_lines(order, &parts[0].head, f.stream, e);
        if (ok)
            ok = out_close(&f, e);
        else
            out_abandon(&f);
    }
    mem_free(line.text);
    return ok;
}

bool eval_merge(const char *const *folders, size_t count, const char *folder, err *e) {
    char path[4096];
    results *parts = mem_alloc(count, sizeof *parts), **order = NULL;
    bool ok = parts != NULL || err_set(e, "no memory for %zu shards", count);
    for (size_t i = 0; ok && i < count; i++) {
        ok = results_open(&parts[i], folders[i], e);
        if (ok && !strcmp(folders[i], folder))
            ok = err_set(e, "%s: is a shard's own folder, another --out expected", folder);
    }
    if (ok && parts[0].head.shards > count)
        ok = err_set(e, "%s: is one of %zu shards, %zu given", parts[0].path, parts[0].head.shards, count);
    if (ok && !(order = mem_alloc(parts[0].head.shards > count ? parts[0].head.shards : count, sizeof(results *))))
        ok = err_set(e, "no memory for %zu shards", count);
    if (ok && (size_t)snprintf(path, sizeof path, "%s/results.jsonl", folder) >= sizeof path)
        ok = err_set(e, "%.200s...: the path is too long", folder);
    ok = ok && order_shards(parts, count, order, e) && folder_make(folder, e) && write_merged(parts, order, path, e);
    for (size_t i = 0; parts && i < count; i++) results_close(&parts[i]);
    mem_free(order);
    mem_free(parts);
    return ok;
}
