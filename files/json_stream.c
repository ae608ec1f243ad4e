/* json_stream.c - a large JSON file cut into its elements (see json_stream.h). */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#include "files/json_stream.h"
#include "os/os.h"
#include <errno.h>
#include <string.h>

/* Where the walk is. */
enum { START, IN_ARRAY, IN_OBJECT, IN_SECTION, DONE };

static bool damaged(const json_stream *s, const char *expected, err *e) {
    return err_set(e, "%s: at byte %llu: %s expected", s->path, (unsigned long long)s->byte, expected);
}

/* ---- bytes ---------------------------------------------------------------------------------------- */
static int next(json_stream *s) {
    int c = getc_unlocked(s->stream);
    if (c != EOF) s->byte++;
    return c;
}

static void back(json_stream *s, int c) {
    if (c == EOF) return;
    ungetc(c, s->stream);
    s->byte--;
}

static int next_solid(json_stream *s) {
    int c;
    do c = next(s);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r');
    return c;
}

static bool keep(json_stream *s, int c, err *e) {
    if (s->length == JSON_ITEM_MOST)
        return err_set(e, "%s: at byte %llu: an element of more than %d MB", s->path, (unsigned long long)s->byte,
                       JSON_ITEM_MOST >> 20);
    if (s->length == s->room && !mem_grow(&s->text, &s->room, s->length + 1, 1))
        return err_set(e, "%s: no memory for an element of %zu bytes", s->path, s->length);
    s->text[s->length++] = (char)c;
    return true;
}

/* ---- one value, as text: up to the comma or bracket that ends it ------------------------------------- */
static bool take_value(json_stream *s, err *e) {
    size_t depth = 0;
    bool quoted = false;
    s->length = 0;
    for (int c;;) {
        if ((c = next(s)) == EOF) return damaged(s, "the rest of the file", e);
        if (quoted) {
            if (!keep(s, c, e)) return false;
            if (c == '\\') {
                if ((c = next(s)) == EOF) return damaged(s, "the rest of the file", e);
                if (!keep(s, c, e)) return false;
            } else {
                quoted = c != '"';
            }
            continue;
        }
        bool closes = c == ']' || c == '}';
        if (depth == 0 && (closes || c == ',')) return back(s, c), true;
        depth += c == '[' || c == '{';
        depth -= closes;
        quoted = c == '"';
        if (!keep(s, c, e)) return false;
    }
}

static cJSON *parse_value(json_stream *s, uint64_t at, err *e) {
    char name[4200];
    snprintf(name, sizeof name, "%s (element at byte %llu)", s->path, (unsigned long long)at);
    return json_parse(s->text, s->length, name, e);
}

/* The key before a value: its characters stand for themselves in all the datasets there are. */
static bool take_key(json_stream *s, err *e) {
    size_t n = 0;
    for (int c; (c = next(s)) != '"';) {
        if (c == EOF || c == '\\' || n + 1 == sizeof s->section) return damaged(s, "a plain key of fewer letters", e);
        s->section[n++] = (char)c;
    }
    s->section[n] = 0;
    return next_solid(s) == ':' || damaged(s, "':'", e);
}

/* ---- the walk ----------------------------------------------------------------------------------------- */
bool json_stream_open(json_stream *s, const char *path, err *e) {
    memset(s, 0, sizeof *s);
    if ((size_t)snprintf(s->path, sizeof s->path, "%s", path) >= sizeof s->path)
        return err_set(e, "%.200s...: the path is too long", path);
    if (!(s->stream = os_open(path, "rb"))) return err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    if (getc(s->stream) == 0xEF && getc(s->stream) == 0xBB && getc(s->stream) == 0xBF)
        s->byte = 3;
    else
        rewind(s->stream);
    return true;
}

/* Steps over what stands before the next value; *found: there is one. `just`: an opening bracket was passed. */
static bool find_value(json_stream *s, bool *found, err *e) {
    bool just = false;
    *found = false;
    for (;;) {
        int c = next_solid(s);
        if (s->state == START) {
            if (c != '[' && c != '{') return damaged(s, "an array or an object", e);
            s->state = c == '[' ? IN_ARRAY : IN_OBJECT, just = true;
            continue;
        }
        if (s->state == DONE) return c == EOF || damaged(s, "the end of the file", e);
        if (c == (s->state == IN_OBJECT ? '}' : ']')) {
            s->state = s->state == IN_SECTION ? IN_OBJECT : DONE, just = false;
            continue;
        }
        if (!just) {
            if (c != ',') return damaged(s, "',' or the closing bracket", e);
            c = next_solid(s);
        }
        just = false;
        if (s->state == IN_OBJECT) {
            if (c != '"') return damaged(s, "a key", e);
            if (!take_key(s, e)) return false;
            if ((c = next_solid(s)) == '[') {
                s->state = IN_SECTION, just = true;
                continue;
            }
        }
        back(s, c);
        return *found = true;
    }
}

bool json_stream_next(json_stream *s, err *e) {
    bool found;
    json_free(s->item);
    s->item = NULL;
    if (s->ended || !find_value(s, &found, e)) return false;
    if (!found) {
        s->ended = true;
        return false;
    }
    s->at = s->byte;
    return take_value(s, e) && (s->item = parse_value(s, s->at, e)) != NULL;
}

cJSON *json_stream_at(json_stream *s, uint64_t at, err *e) {
    if (!os_seek(s->stream, at))
        return err_set(e, "%s: cannot be read: %s", s->path, strerror(errno)), NULL;
    s->byte = at;
    return take_value(s, e) ? parse_value(s, at, e) : NULL;
}

void json_stream_close(json_stream *s) {
    json_free(s->item);
    mem_free(s->text);
    if (s->stream) fclose(s->stream);
    memset(s, 0, sizeof *s);
}
