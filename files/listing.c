/* listing.c - the files of a folder, or of a pattern, in one order everywhere (see files.h). */
#include "files/files.h"
#include <stdlib.h>
#include <string.h>
#include "os/os.h"

typedef struct {
    char *text; /* names, each with its zero */
    size_t length, room, count;
} name_block;

static bool add_name(name_block *b, const char *folder, const char *name) {
    size_t n = strlen(folder), slash = n && folder[n - 1] != '/', m = strlen(name);
    if (!mem_grow(&b->text, &b->room, b->length + n + slash + m + 1, 1)) return false;
    char *to = b->text + b->length;
    memcpy(to, folder, n);
    if (slash) to[n] = '/';
    memcpy(to + n + slash, name, m + 1);
    b->length += n + slash + m + 1;
    b->count++;
    return true;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool into_list(name_block *b, const char *what, file_list *list, err *e) {
    char **block = mem_alloc(1, b->count * sizeof *block + b->length + 1);
    if (block) {
        char *text = (char *)(block + b->count);
        if (b->length) memcpy(text, b->text, b->length);
        for (size_t i = 0; i < b->count; i++, text += strlen(text) + 1) block[i] = text;
        qsort(block, b->count, sizeof *block, by_bytes);
        *list = (file_list){block, b->count};
    }
    mem_free(b->text);
    return block || err_set(e, "%s: no memory for %zu names", what, b->count);
}

typedef struct {
    name_block names;
    const char *folder, *pattern; /* pattern NULL: every name that `wanted` accepts */
    bool (*wanted)(const char *name);
    bool full; /* no memory */
} search;

/* Does the name match a pattern of * ? and [abc], [a-z], [!abc]? */
static bool matches(const char *pattern, const char *name) {
    for (; *pattern; pattern++, name++) {
        if (*pattern == '*') {
            for (const char *rest = name; !matches(pattern + 1, rest); rest++)
                if (!*rest) return false;
            return true;
        }
        if (!*name) return false;
        const char *end = *pattern == '[' && pattern[1] ? strchr(pattern + 2, ']') : NULL;
        if (end) {
            bool not = pattern[1] == '!', in = false;
            for (const char *p = pattern + 1 + not; p < end; p++) {
                bool range = p[1] == '-' && p + 2 < end;
                in |= range ? *name >= p[0] && *name <= p[2] : *name == *p;
                if (range) p += 2;
            }
            if (in == not) return false;
            pattern = end;
        } else if (*pattern != '?' && *pattern != *name) {
            return false;
        }
    }
    return !*name;
}

static bool found(void *arg, const char *name) {
    search *s = arg;
    if (*name == '.' || (s->pattern ? !matches(s->pattern, name) : s->wanted && !s->wanted(name))) return true;
    size_t before = s->names.length;
    if (!add_name(&s->names, s->folder, name)) return s->full = true, false;
    os_kind kind = os_path_kind(s->names.text + before, NULL); /* NOTHING: a link that leads nowhere, which whoever reads it will say */
    if (kind == OS_FOLDER || kind == OS_OTHER) s->names.length = before, s->names.count--;
    return true;
}

static bool find_all(search *s, const char *folder, const char *what, file_list *list, err *e) {
    *list = (file_list){0};
    if (os_folder_each(folder, found, s)) return into_list(&s->names, what, list, e);
    mem_free(s->names.text);
    return s->full ? err_set(e, "%s: no memory for its names", what)
                   : err_set(e, "%s: the folder cannot be read: %s", what, os_reason());
}

bool folder_list(const char *folder, bool (*wanted)(const char *name), file_list *list, err *e) {
    search s = {.folder = folder, .wanted = wanted};
    return find_all(&s, folder, folder, list, e);
}

bool pattern_list(const char *pattern, file_list *list, err *e) {
    const char *slash = os_last_slash(pattern);
    size_t n = slash ? (size_t)(slash - pattern) + 1 : 0;
    char *folder = mem_text_of(pattern, n);
    if (!folder) return err_set(e, "%s: no memory", pattern);
    search s = {.folder = folder, .pattern = pattern + n};
    bool ok = find_all(&s, n ? folder : ".", pattern, list, e);
    mem_free(folder);
    return ok;
}
