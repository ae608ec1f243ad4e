/* classes.c - lists of names: a published one, or a file (see segment.h). */
#include "segment/segment.h"
#include "files/files.h"
#include <string.h>

enum { FILE_MOST = 1 << 22 };

/* One line's names, trimmed, each given to `use`; returns their number. */
typedef void use_name(void *arg, const char *name, size_t length);
static size_t each_name(const char *line, size_t length, use_name *use, void *arg) {
    static const char blank[] = " \t";
    size_t count = 0;
    for (size_t at = 0; at <= length;) {
        size_t end = at;
        while (end < length && line[end] != ',') end++;
        size_t from = at, to = end;
        while (from < to && strchr(blank, line[from])) from++;
        while (to > from && strchr(blank, line[to - 1])) to--;
        if (to > from) {
            if (use) use(arg, line + from, to - from);
            count++;
        }
        at = end + 1;
    }
    return count;
}

typedef struct { segment_classes *c; char *text; } filling;
static void keep_name(void *arg, const char *name, size_t length) {
    filling *f = arg;
    segment_classes *c = f->c;
    memcpy(f->text, name, length);
    f->text[length] = 0;
    c->queries[c->query_count] = f->text;
    c->owner[c->query_count++] = (uint32_t)c->count;
    f->text += length + 1;
}

/* line(arg, i, &length): the i-th line; NULL after the last. */
typedef const char *a_line(const void *arg, size_t i, size_t *length);
static bool fill(segment_classes *c, const char *what, a_line *line, const void *arg, err *e) {
    size_t queries = 0, count = 0, bytes = 0, n;
    for (const char *l; (l = line(arg, count, &n)); count++, bytes += n + 1) {
        size_t names = each_name(l, n, NULL, NULL);
        if (!names) return err_set(e, "%s: line %zu has no name", what, count + 1);
        queries += names;
    }
    if (!count) return err_set(e, "%s: no classes found, one a line expected", what);
    if (count > SEGMENT_CLASSES) return err_set(e, "%s: %zu classes found, at most %d expected", what, count, SEGMENT_CLASSES);
    size_t each = sizeof *c->queries + sizeof *c->owner;
    c->block = mem_alloc(1, queries * each + count * sizeof *c->titles + bytes + queries);
    if (!c->block) return err_set(e, "%s: no memory for %zu names", what, queries);
    c->queries = c->block, c->titles = c->queries + queries, c->owner = (uint32_t *)(void *)(c->titles + count);
    filling f = {c, (char *)(c->owner + queries)};
    for (const char *l; (l = line(arg, c->count, &n)); c->count++) {
        c->titles[c->count] = f.text;
        each_name(l, n, keep_name, &f);
    }
    return true;
}

/* ---- from a published list ------------------------------------------------------------------------------------- */
static const char *list_line(const void *arg, size_t i, size_t *length) {
    const segment_list *list = arg;
    if (i >= list->count) return NULL;
    *length = strlen(list->lines[i]);
    return list->lines[i];
}

/* Background words: queries of one more class. */
static bool add_words(segment_classes *c, err *e) {
    const segment_list *list = c->list;
    segment_classes more = {.list = list, .query_count = c->query_count + list->word_count, .count = c->count + 1, .under = c->block};
    size_t each = sizeof *c->queries + sizeof *c->owner;
    more.block = mem_alloc(1, more.query_count * each + more.count * sizeof *c->titles);
    if (!more.block) return err_set(e, "%s: no memory for %zu names", list->name, more.query_count);
    more.queries = more.block, more.titles = more.queries + more.query_count;
    more.owner = (uint32_t *)(void *)(more.titles + more.count);
    memcpy(more.queries, c->queries, c->query_count * sizeof *c->queries);
    memcpy(more.owner, c->owner, c->query_count * sizeof *c->owner);
    memcpy(more.titles, c->titles, c->count * sizeof *c->titles);
    more.titles[c->count] = "background";
    for (size_t i = 0; i < list->word_count; i++)
        more.queries[c->query_count + i] = list->words[i], more.owner[c->query_count + i] = (uint32_t)c->count;
    *c = more;
    return true;
}

/* ---- from a file: empty lines at its end are none ------------------------------------------------------------------ */
typedef struct { const char *text; size_t length; } content;

static const char *file_line(const void *arg, size_t i, size_t *length) {
    const content *c = arg;
    const char *at = c->text, *end = c->text + c->length;
    while (end > at && strchr(" \t\r\n", end[-1])) end--;
    for (; at < end; i--) {
        size_t n = strcspn(at, "\n");
        if (at + n > end) n = (size_t)(end - at);
        if (!i) {
            while (n && at[n - 1] == '\r') n--;
            return *length = n, at;
        }
        at += n + 1;
    }
    return NULL;
}

bool segment_classes_read(const char *what, segment_classes *c, err *e) {
    memset(c, 0, sizeof *c);
    if ((c->list = segment_list_find(what))) {
        if (!fill(c, what, list_line, c->list, e)) return false;
        if (c->list->words && !add_words(c, e)) return false;
        if (c->list->first) c->titles[0] = c->list->first;
        return true;
    }
    content file = {NULL, 0};
    char *text = file_read(what, FILE_MOST, &file.length, e);
    if (!text) {
        char lists[1024] = "";
        for (size_t i = 0; i < segment_list_count() && strlen(lists) < 900; i++) {
            strcat(lists, i ? ", " : "");
            strcat(lists, segment_list_at(i)->name);
        }
        return err_prefix(e, "--classes: no published list (%s), and no file", lists);
    }
    file.text = text;
    if (file.length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) file.text += 3, file.length -= 3;
    bool ok = strlen(file.text) == file.length ? true : err_set(e, "%s: a zero byte found, lines of text expected", what);
    ok = ok && fill(c, what, file_line, &file, e);
    mem_free(text);
    return ok;
}

void segment_classes_free(segment_classes *c) {
    mem_free(c->block), mem_free(c->under);
    memset(c, 0, sizeof *c);
}
