/* survey_run.c - all pictures of a dataset: collected from its reader, measured a batch at a time, their lines written
 * in order; resumed where a run stopped; shards merged (see survey.h).
 *
 * Picture k is shard k % shards's. What was left out between pictures stands in the next picture's line; the last line
 * holds the number of pictures and what was left out at the end, so that a run that is not over is known.
 */
#include "eval/survey.h"
#include "files/files.h"
#include "masks/rle.h"
#include "os/os.h"
#include <errno.h>
#include <string.h>

enum { BATCH = 64, PER_CORE = 4 };
typedef struct {
    survey_picture picture;
    longtext line;
    bool ok;
    err e;
} job;
typedef struct {
    const survey *s;
    pool *cores;
    workers workers;
    job jobs[BATCH];
    size_t filled, most;
    bool open;             /* the last job takes regions still */
    size_t pictures, done; /* seen; of this shard: those of an earlier run */
    size_t mine, fresh;
    os_lock watching;
    size_t measured; /* of those in hand, for who watches */
    longtext between; /* left out since the last picture */
    bool stopped;     /* by --limit */
    FILE *out;
    const char *path;
} batch;

/* ---- from the reader ------------------------------------------------------------------------------------ */
static bool no_memory(err *e) { return err_set(e, "no memory for a picture's regions"); }

static void measure(void *arg, size_t i) {
    batch *b = arg;
    job *j = &b->jobs[i];
    size_t worker = worker_take(&b->workers);
    j->ok = survey_measure(b->s, &j->picture, &b->workers.memory[worker], &j->line, &j->e);
    worker_give(&b->workers, worker);
    if (!b->s->watch.progress) return;
    os_lock_take(&b->watching);
    b->measured++;
    b->s->watch.progress(b->s->watch.arg, "pictures", b->done + b->fresh + b->measured, b->s->limit / b->s->head.shards);
    os_lock_give(&b->watching);
}

static bool write_out(batch *b, const longtext *line, err *e) {
    if (line->failed) return err_set(e, "no memory for a line of results");
    return fwrite(line->text, 1, line->length, b->out) == line->length ||
           err_set(e, "%s: cannot be written: %s", b->path, strerror(errno));
}

static bool flush(batch *b, err *e) {
    bool ok = true;
    b->measured = 0;
    if (b->filled) spread(b->cores, b->filled, measure, b);
    for (size_t i = 0; i < b->filled; i++) {
        job *j = &b->jobs[i];
        if (ok && !j->ok) *e = j->e, ok = err_prefix(e, "picture %s", j->picture.id);
        ok = ok && write_out(b, &j->line, e);
        b->fresh += ok;
        survey_picture_free(&j->picture);
    }
    b->filled = 0, b->open = false;
    if (ok && fflush(b->out) != 0) ok = err_set(e, "%s: cannot be written: %s", b->path, strerror(errno));
    return ok;
}

static bool copy_points(survey_picture *to, const data_picture *from) {
    if (!from->point_count || !(to->points = mem_alloc(from->point_count, sizeof *to->points)))
        return !from->point_count;
    for (size_t i = 0; i < from->point_count; i++) {
        data_point *q = &to->points[to->point_count++];
        *q = from->points[i];
        q->label = mem_text(q->label), q->name = mem_text(q->name), q->answer = mem_text(q->answer);
        if (!q->label || !q->name || !q->answer) return false;
    }
    return true;
}

static bool take_picture(void *arg, const data_picture *p, bool *wanted, err *e) {
    batch *b = arg;
    const eval_head *h = &b->s->head;
    b->open = false;
    if (b->s->limit && b->pictures == b->s->limit) return b->stopped = true, false;
    bool mine = b->pictures % h->shards == h->shard;
    b->pictures++;
    *wanted = mine && b->mine >= b->done;
    b->mine += mine;
    if (!*wanted) return b->between.length = 0, true;
    if (b->filled == b->most && !flush(b, e)) return false;
    job *j = &b->jobs[b->filled++];
    j->ok = false, j->e.text[0] = 0;
    j->picture = (survey_picture){.index = p->index,
                                  .width = p->width,
                                  .height = p->height,
                                  .class_index = p->class_index,
                                  .id = mem_text(p->id),
                                  .file = mem_text(p->file),
                                  .left = b->between};
    b->between = (longtext){0}, b->open = true;
    return (j->picture.id && j->picture.file && copy_points(&j->picture, p)) || no_memory(e);
}

static void say_left(longtext *t, const char *id, const char *why) {
    say(t, t->length ? ",{\"id\":" : "{\"id\":");
    say_quoted(t, id);
    say(t, ",\"why\":");
    say_quoted(t, why);
    say(t, "}");
}

static bool take_left(void *arg, const char *id, const char *why, bool inside, err *e) {
    batch *b = arg;
    longtext *t = inside && b->open ? &b->jobs[b->filled - 1].picture.left : &b->between;
    say_left(t, id, why);
    return !t->failed || no_memory(e);
}

/* *unit: what the region is to the tasks; false: nothing. Crowds are no objects; anomalies have their own command. */
static bool unit_of(const data_region *r, survey_unit *unit) {
    static const struct {
        const char *kind;
        survey_unit unit;
    } units[] = {{"semantic", UNIT_AREA}, {"stuff", UNIT_AREA}, {"instance", UNIT_OBJECT}, {"thing", UNIT_OBJECT},
                 {"phrase", UNIT_PHRASE}, {"box", UNIT_PHRASE}, {"object", UNIT_UNSAID}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(r->kind, units[i].kind)) return *unit = units[i].unit, true;
    return false;
}

/* Expressions without the blanks around them. */
static bool copy_phrases(survey_region *to, const data_region *from) {
    if (!from->phrase_count || !(to->said = mem_alloc(from->phrase_count, sizeof *to->said)))
        return !from->phrase_count;
    for (size_t i = 0; i < from->phrase_count; i++) {
        const char *text = from->phrases[i].raw;
        text += strspn(text, " \t\r\n");
        char *copy = mem_text(text);
        if (!copy) return false;
        for (size_t n = strlen(copy); n && strchr(" \t\r\n", copy[n - 1]); n--) copy[n - 1] = 0;
        to->said[to->said_count++] = copy;
    }
    return true;
}

static bool take_region(void *arg, const data_region *r, err *e) {
    batch *b = arg;
    survey_unit unit = UNIT_AREA;
    survey_picture *p = &b->jobs[b->filled - 1].picture;
    if (!b->open || (!unit_of(r, &unit) && !b->s->anomalies)) return true;
    if (b->s->anomalies) {
        unit = UNIT_AREA, p->anomalous = r->more && strstr(r->more, "\"anomalous\":true");
        p->judged = r->area > 0 || !p->anomalous;
        if (!p->anomalous) return true;
    }
    if (unit == UNIT_PHRASE && !r->phrase_count) return take_left(arg, r->id, "no expression", true, e);
    if (!r->area) return take_left(arg, r->id, "empty mask", true, e);
    if (!mem_grow(&p->regions, &p->room, p->count + 1, sizeof *p->regions)) return no_memory(e);
    survey_region *to = &p->regions[p->count++];
    longtext rle = {0};
    rle_encode(r->mask, r->height, r->width, &rle);
    *to = (survey_region){
        .id = mem_text(r->id), .rle = rle.text, .class_index = r->class_index, .object = r->object, .unit = unit};
    return (to->id && rle.text && !rle.failed && copy_phrases(to, r)) || no_memory(e);
}

/* The label picture of the picture before. */
static bool take_labels(void *arg, const uint32_t *value, size_t height, size_t width, err *e) {
    batch *b = arg;
    survey_picture *p = &b->jobs[b->filled - 1].picture;
    if (!b->open || width != p->width || height != p->height) return true;
    if (!(p->labels = mem_alloc(width * height, sizeof *p->labels))) return no_memory(e);
    memcpy(p->labels, value, width * height * sizeof *p->labels);
    return true;
}

static bool take_classes(void *arg, const data_class *list, size_t count, err *e) {
    const batch *b = arg;
    (void)list;
    return count == b->s->class_count || err_set(e, "the classes have changed since the run began");
}

/* ---- where an earlier run stopped -------------------------------------------------------------------------- */
static bool next_line(FILE *f, longtext *line) {
    line->length = 0;
    for (int c; (c = getc(f)) != EOF;) {
        char byte = (char)c;
        say_bytes(line, &byte, 1);
        if (c == '\n' || line->failed) return !line->failed;
    }
    return false;
}

static bool result_path(const char *folder, char path[4096], err *e) {
    return (size_t)snprintf(path, 4096, "%s/results.jsonl", folder) < 4096 ||
           err_set(e, "%.200s...: the path is too long", folder);
}

bool survey_is_result(const char *folder) {
    char path[4096], start[32] = "";
    err e = {0};
    FILE *f = result_path(folder, path, &e) ? os_open(path, "rb") : NULL;
    if (!f) return false;
    bool ok = fread(start, 1, sizeof start - 1, f) > 0 && !strncmp(start, "{\"maskinv survey\":", 18);
    fclose(f);
    return ok;
}

/* Whole lines after the head, in *done; what a kill left half written is cut off. *over: the last line is there. */
static bool resume(const survey *s, const char *path, size_t *done, bool *over, err *e) {
    longtext head = {0}, line = {0};
    uint64_t whole = 0;
    survey_head(s, &head);
    FILE *f = os_open(path, "rb");
    bool ok = f != NULL || err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    if (ok)
        ok =
            (next_line(f, &line) && !strcmp(line.text, head.text)) ||
            err_set(
                e,
                "%s: an earlier run is there, of another model, dataset, shard or methods; another --out, or remove it",
                path);
    for (*done = 0, *over = false; ok && !*over; ++*done) {
        if (!os_tell(f, &whole)) ok = err_set(e, "%s: cannot be read: %s", path, os_reason());
        if (!ok || !next_line(f, &line)) break;
        if (!strncmp(line.text, "{\"end\":", 7)) *over = true;
    }
    if (*over) --*done;
    if (f) fclose(f);
    if (ok && !*over)
        ok = os_cut(path, whole) || err_set(e, "%s: cannot be written: %s", path, strerror(errno));
    mem_free(head.text), mem_free(line.text);
    return ok;
}

static bool start(const survey *s, const char *path, err *e) {
    longtext head = {0};
    survey_head(s, &head);
    bool ok = head.failed ? no_memory(e) : file_write(path, head.text, head.length, e);
    mem_free(head.text);
    return ok;
}

/* ---- the run -------------------------------------------------------------------------------------------------- */
static bool read_all(batch *b, err *e) {
    data_sink sink = {take_classes, take_picture, take_region, take_left, b};
    data_wish wish = {.root = b->s->root, .split = b->s->split, .by = *b->s->by ? b->s->by : NULL, .objects = true,
                      .labels = b->s->dense ? take_labels : NULL};
    longtext end = {0};
    bool ok = (data_read(b->s->set, &wish, &sink, e) || b->stopped) && flush(b, e);
    if (ok) {
        if (b->stopped) b->between.length = 0;
        say(&end, "{\"end\":%zu,\"left\":[%s]}\n", b->pictures, b->between.length ? b->between.text : "");
        ok = write_out(b, &end, e);
    }
    mem_free(end.text);
    return ok;
}

bool survey_run(const survey *s, const char *folder, pool *cores, arena *memory, err *e) {
    char path[4096];
    size_t done = 0, mark = arena_mark(memory);
    bool over = false;
    if (!result_path(folder, path, e) || !folder_make(folder, e)) return false;
    if (!(file_exists(path) ? resume(s, path, &done, &over, e) : start(s, path, e))) return false;
    if (over) return true;
    batch *b = mem_alloc(1, sizeof *b);
    if (!b) return no_memory(e);
    os_lock_make(&b->watching);
    size_t width = cores ? cores->width : 1;
    b->s = s, b->cores = cores, b->done = done, b->path = path;
    b->most = width * PER_CORE < BATCH ? width * PER_CORE : BATCH;
    bool ok = (b->out = os_open(path, "ab")) != NULL || err_set(e, "%s: cannot be written: %s", path, strerror(errno));
    ok = ok && workers_make(&b->workers, cores, memory, e) && read_all(b, e);
    if (b->out && fclose(b->out) != 0 && ok) ok = err_set(e, "%s: cannot be written: %s", path, strerror(errno));
    for (size_t i = 0; i < BATCH; i++) survey_picture_free(&b->jobs[i].picture), mem_free(b->jobs[i].line.text);
    mem_free(b->between.text);
    os_lock_free(&b->watching);
    mem_free(b);
    arena_reset(memory, mark);
    return ok;
}

/* ---- shards as one --------------------------------------------------------------------------------------------- */
/* The head as one run would have it, and whose shard it is. */
static bool take_head(const char *line, size_t *shard, size_t *shards, longtext *whole) {
    const char *at = strstr(line, ",\"shard\":"), *rest = at ? strstr(at, ",\"many\":") : NULL;
    if (!rest || sscanf(at, ",\"shard\":%zu,\"shards\":%zu", shard, shards) != 2) return false;
    say_bytes(whole, line, (size_t)(at - line));
    say(whole, ",\"shard\":0,\"shards\":1%s", rest);
    return !whole->failed;
}

typedef struct {
    FILE **part; /* by shard */
    size_t shards;
    longtext head, line;
} merger;

static bool open_part(merger *m, const char *folder, err *e) {
    char path[4096];
    size_t shard = 0, shards = 0;
    longtext head = {0};
    FILE *f = NULL;
    bool ok = result_path(folder, path, e) &&
              ((f = os_open(path, "rb")) != NULL || err_set(e, "%s: cannot be read: %s", path, strerror(errno)));
    if (ok)
        ok = (next_line(f, &m->line) && take_head(m->line.text, &shard, &shards, &head)) ||
             err_set(e, "%s: no head of a run found", path);
    if (ok && !m->part) {
        m->shards = shards, m->head = head, head = (longtext){0};
        ok = (shards && shards < 1000000 && (m->part = mem_alloc(shards, sizeof(FILE *)))) ||
             err_set(e, "%s: %zu shards", path, shards);
    } else if (ok && strcmp(head.text, m->head.text) != 0) {
        ok = err_set(e, "%s: is of another run than the first folder's", path);
    }
    if (ok && (shard >= m->shards || m->part[shard]))
        ok = err_set(e, "%s: shard %zu/%zu is there twice", path, shard, m->shards);
    if (ok) m->part[shard] = f, f = NULL;
    if (f) fclose(f);
    mem_free(head.text);
    return ok;
}

static bool copy_lines(merger *m, FILE *out, err *e) {
    for (size_t k = 0;; k++) {
        if (!next_line(m->part[k % m->shards], &m->line))
            return err_set(e, "shard %zu/%zu is not finished: start it again", k % m->shards, m->shards);
        bool end = !strncmp(m->line.text, "{\"end\":", 7);
        fwrite(m->line.text, 1, m->line.length, out);
        if (!end) continue;
        for (size_t i = 1; i < m->shards; i++)
            if (!next_line(m->part[(k + i) % m->shards], &m->line) || strncmp(m->line.text, "{\"end\":", 7) != 0)
                return err_set(e, "shard %zu/%zu is not finished: start it again", (k + i) % m->shards, m->shards);
        return true;
    }
}

bool survey_merge(const char *const *folders, size_t count, const char *folder, err *e) {
    merger m = {0};
    char path[4096];
    out_file f;
    bool ok = result_path(folder, path, e);
    for (size_t i = 0; ok && i < count; i++)
        ok = strcmp(folders[i], folder) ? open_part(&m, folders[i], e)
                                        : err_set(e, "%s: is a shard's own folder, another --out expected", folder);
    for (size_t i = 0; ok && i < m.shards; i++)
        if (!m.part[i]) ok = err_set(e, "shard %zu/%zu is missing", i, m.shards);
    if (ok && (ok = folder_make(folder, e) && out_open(&f, path, e))) {
        fwrite(m.head.text, 1, m.head.length, f.stream);
        ok = copy_lines(&m, f.stream, e);
        if (ok)
            ok = out_close(&f, e);
        else
            out_abandon(&f);
    }
    for (size_t i = 0; m.part && i < m.shards; i++)
        if (m.part[i]) fclose(m.part[i]);
    mem_free(m.part), mem_free(m.head.text), mem_free(m.line.text);
    return ok;
}
