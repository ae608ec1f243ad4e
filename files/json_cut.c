/* json_cut.c - long lists inside a JSON text, without a tree of them (see json_cut.h). */
#include "files/json_cut.h"
#include <stdio.h>
#include <string.h>

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

/* Behind the closing quote of the string that begins at p; end where there is none. */
static const char *skip_string(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++) p += *p == '\\';
    return p < end ? p + 1 : end;
}

/* The comma or bracket that ends the value at p, or end. */
static const char *skip_value(const char *p, const char *end) {
    for (size_t depth = 0; p < end;) {
        bool closes = *p == ']' || *p == '}';
        if (depth == 0 && (closes || *p == ',')) return p;
        depth += *p == '[' || *p == '{';
        depth -= closes;
        p = *p == '"' ? skip_string(p, end) : p + 1;
    }
    return end;
}

/* ---- cutting ------------------------------------------------------------------------------------------ */
typedef struct {
    const char *end, *copied; /* of the text; up to where it is in rest */
    json_cut *lists;
    size_t count, length, room;
    char *rest;
    err *e;
} cutter;

static bool copy_to(cutter *c, const char *to) {
    size_t n = (size_t)(to - c->copied);
    const char *file = c->lists->file;
    if (c->length + n > JSON_REST_MOST)
        return err_set(c->e, "%s: more than %d MB of JSON beside its vocabulary", file, JSON_REST_MOST >> 20);
    if (!mem_grow(&c->rest, &c->room, c->length + n + 4, 1)) return err_set(c->e, "%s: no memory for %zu bytes of JSON", file, c->length + n);
    memcpy(c->rest + c->length, c->copied, n);
    c->length += n, c->copied = to;
    return true;
}

/* The list called KEY, or PARENT.KEY; NULL: none is. */
static json_cut *list_called(const cutter *c, const char *parent, size_t parent_length, const char *key, size_t length) {
    for (size_t i = 0; i < c->count; i++) {
        const char *name = c->lists[i].name;
        if (parent_length) {
            if (strncmp(name, parent, parent_length) || name[parent_length] != '.') continue;
            name += parent_length + 1;
        }
        if (strlen(name) == length && !memcmp(name, key, length)) return &c->lists[i];
    }
    return NULL;
}

/* A list stands at p, up to its closing bracket at `last`: it is cut out. */
static bool cut_out(cutter *c, json_cut *l, const char *p, const char *last) {
    if (l->start) return err_set(c->e, "%s: %s stands twice", l->file, l->name);
    l->object = *p == '{', l->start = l->at = p + 1, l->end = last;
    if (!copy_to(c, p)) return false;
    memcpy(c->rest + c->length, "null", 4); /* copy_to leaves room */
    c->length += 4, c->copied = last + 1;
    return true;
}

/* The members of the object that begins at p (its bracket). What is damaged is left to json_parse. */
static bool members(cutter *c, const char *p, const char *parent, size_t parent_length) {
    for (p = skip_space(p + 1, c->end); p < c->end && *p == '"';) {
        const char *key = p + 1;
        p = skip_string(p, c->end);
        size_t length = (size_t)(p - key) - (p > key);
        p = skip_space(p, c->end);
        if (p == c->end || *p != ':') return true;
        p = skip_space(p + 1, c->end);
        if (p == c->end) return true;
        const char *after = skip_value(p, c->end), *last = after;
        while (last > p + 1 && last[-1] != ']' && last[-1] != '}') last--;
        json_cut *l = list_called(c, parent, parent_length, key, length);
        bool open = *p == '[' || *p == '{', whole = open && last > p + 1 && (last[-1] == ']') == (*p == '[');
        if (l && whole && !cut_out(c, l, p, last - 1)) return false;
        if (!l && *p == '{' && !parent_length && !members(c, p, key, length)) return false;
        p = after;
        if (p == c->end || *p != ',') return true;
        p = skip_space(p + 1, c->end);
    }
    return true;
}

cJSON *json_cut_parse(const char *text, size_t length, const char *file, const char *const *names, size_t count,
                      json_cut *lists, err *e) {
    const char *end = text + length, *p = skip_space(text, end);
    cutter c = {.end = end, .copied = text, .lists = lists, .count = count, .e = e};
    for (size_t i = 0; i < count; i++) lists[i] = (json_cut){.name = names[i], .file = file, .text = text};
    bool ok = (p == end || *p != '{' || members(&c, p, "", 0)) && copy_to(&c, end);
    cJSON *rest = ok ? json_parse(c.rest, c.length, file, e) : NULL;
    mem_free(c.rest);
    return rest;
}

/* ---- elements ------------------------------------------------------------------------------------------- */
/* `from` to `to` as a tree; a member of an object in brackets of its own. */
static cJSON *parse_element(json_cut *l, const char *from, const char *to, const char *file, err *e) {
    size_t n = (size_t)(to - from);
    if (!l->object) return json_parse(from, n, file, e);
    if (!mem_grow(&l->room, &l->size, n + 2, 1)) return (void)err_set(e, "%s: no memory for %zu bytes of JSON", file, n), NULL;
    l->room[0] = '{', l->room[n + 1] = '}';
    memcpy(l->room + 1, from, n);
    return json_parse(l->room, n + 2, file, e);
}

cJSON *json_cut_next(json_cut *l, err *e) {
    json_free(l->item);
    l->item = NULL;
    if (l->ended || !l->start) return l->ended = true, NULL;
    const char *from = skip_space(l->at, l->end);
    if (from == l->end) return l->ended = true, NULL;
    const char *to = skip_value(from, l->end);
    if ((size_t)(to - from) > JSON_REST_MOST)
        return (void)err_set(e, "%s: %s, number %zu: an element of more than %d MB", l->file, l->name, l->count, JSON_REST_MOST >> 20), NULL;
    if (!(l->item = parse_element(l, from, to, l->file, e))) {
        char place[4400];
        snprintf(place, sizeof place, "%.4096s: %s, number %zu", l->file, l->name, l->count);
        l->item = parse_element(l, from, to, place, e);
        return json_free(l->item), l->item = NULL;
    }
    if (to < l->end && *to != ',') {
        err_set(e, "%s: %s, number %zu: a comma behind it expected", l->file, l->name, l->count);
        return json_free(l->item), l->item = NULL;
    }
    l->at = to < l->end ? to + 1 : to;
    if (to < l->end && skip_space(l->at, l->end) == l->end) {
        err_set(e, "%s: %s, number %zu: an element behind its comma expected", l->file, l->name, l->count);
        return json_free(l->item), l->item = NULL;
    }
    l->count++;
    return l->item;
}

size_t json_cut_count(const json_cut *l) {
    size_t count = 0;
    const char *p = l->start ? skip_space(l->start, l->end) : l->end;
    if (!l->start || p == l->end) return 0;
    for (; p < l->end; p++, count++) p = skip_value(p, l->end);
    return count;
}

void json_cut_seek(json_cut *l, const char *at, size_t count) {
    l->at = at ? at : l->start;
    l->count = count, l->ended = false;
}

void json_cut_close(json_cut *l) {
    json_free(l->item);
    mem_free(l->room);
    l->item = NULL, l->room = NULL, l->size = 0;
}
