/* csv.c - tables as text (see csv.h). */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#include "files/csv.h"
#include "os/os.h"
#include <errno.h>
#include <string.h>

static int next(csv *t) {
    int c = getc_unlocked(t->stream);
    if (c != EOF) t->byte++;
    return c;
}

static void back(csv *t, int c) {
    if (c == EOF) return;
    ungetc(c, t->stream);
    t->byte--;
}

static bool keep(csv *t, char c, err *e) {
    if (t->length == CSV_ROW_MOST)
        return err_set(e, "%s: the row at byte %llu is longer than %d bytes", t->path, (unsigned long long)t->at,
                       CSV_ROW_MOST);
    if (t->length == t->room && !mem_grow(&t->text, &t->room, t->length + 1, 1))
        return err_set(e, "%s: no memory for a row", t->path);
    t->text[t->length++] = c;
    return true;
}

/* Up to what ends the field, in *end: ',' '\n' or EOF. */
static bool take_field(csv *t, int *end, err *e) {
    int c = next(t);
    bool quoted = c == '"';
    if (quoted) c = next(t);
    for (;; c = next(t)) {
        if (quoted && c == '"' && (c = next(t)) != '"')
            quoted = false; /* "" is a quote */
        else if (quoted && c == EOF)
            return err_set(e, "%s: the row at byte %llu: a quote is not closed", t->path, (unsigned long long)t->at);
        else if (quoted) {
            if (!keep(t, (char)c, e)) return false;
            continue;
        }
        if (c == '\r') {
            int after = next(t);
            if (after == '\n' || after == EOF)
                c = after;
            else
                back(t, after);
        }
        if (c == ',' || c == '\n' || c == EOF) break;
        if (c == 0) return err_set(e, "%s: the row at byte %llu holds a zero byte", t->path, (unsigned long long)t->at);
        if (!keep(t, (char)c, e)) return false;
    }
    *end = c;
    return keep(t, 0, e);
}

static bool take_row(csv *t, int *end, err *e) {
    t->at = t->byte;
    t->length = t->count = 0;
    do {
        if (t->count == CSV_FIELDS)
            return err_set(e, "%s: the row at byte %llu has more than %d fields", t->path, (unsigned long long)t->at,
                           CSV_FIELDS);
        t->count++;
        if (!take_field(t, end, e)) return false;
    } while (*end == ',');
    const char *at = t->text;
    for (size_t i = 0; i < t->count; i++, at += strlen(at) + 1) t->field[i] = at;
    return true;
}

bool csv_next(csv *t, err *e) {
    int end = '\n';
    if (t->ended) return false;
    do {
        if (end == EOF) return t->ended = true, false;
        if (!take_row(t, &end, e)) return false;
    } while (t->count == 1 && !*t->field[0]); /* blank */
    return true;
}

bool csv_open(csv *t, const char *path, err *e) {
    memset(t, 0, sizeof *t);
    if ((size_t)snprintf(t->path, sizeof t->path, "%s", path) >= sizeof t->path)
        return err_set(e, "%.200s...: the path is too long", path);
    if (!(t->stream = os_open(path, "rb"))) return err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    if (getc(t->stream) == 0xEF && getc(t->stream) == 0xBB && getc(t->stream) == 0xBF)
        t->byte = 3;
    else
        rewind(t->stream);
    return true;
}

bool csv_seek(csv *t, uint64_t at, err *e) {
    if (!os_seek(t->stream, at))
        return err_set(e, "%s: cannot be read: %s", t->path, strerror(errno));
    t->byte = at, t->ended = false;
    return true;
}

void csv_close(csv *t) {
    mem_free(t->text);
    if (t->stream) fclose(t->stream);
    memset(t, 0, sizeof *t);
}

bool csv_column(const csv *t, const char *name, size_t *column, err *e) {
    for (size_t i = 0; i < t->count; i++)
        if (!strcmp(t->field[i], name)) return *column = i, true;
    return err_set(e, "%s: its first row has no column %s", t->path, name);
}
