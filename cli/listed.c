/* listed.c - lists of names (see listed.h). */
#include "cli/listed.h"
#include <stdio.h>
#include <string.h>
#include "data/reader.h"
#include "files/files.h"

bool list_add(item_list *l, const char *name, err *e) {
    size_t n = strlen(name) + 1;
    char *copy = mem_grow(&l->item, &l->room, l->count + 1, sizeof *l->item) ? mem_alloc(n, 1) : NULL;
    if (!copy) return err_set(e, "no memory for %zu names", l->count + 1);
    memcpy(copy, name, n);
    l->item[l->count++] = copy;
    return true;
}

static bool add_each_line(item_list *l, char *text, size_t length, const char *from, err *e) {
    if (strlen(text) != length) return err_set(e, "%s: a zero byte found, a name a line expected", from);
    if (length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3; /* a byte-order mark */
    for (char *line = text; *line;) {
        size_t n = strcspn(line, "\r\n");
        char *next = line + n + strspn(line + n, "\r\n");
        line[n] = 0;
        if (n && !list_add(l, line, e)) return false;
        line = next;
    }
    return true;
}

static char *read_input(size_t *length, err *e) {
    size_t room = 0;
    char *text = NULL;
    for (*length = 0;;) {
        if (!mem_grow(&text, &room, *length + 4096, 1)) break;
        size_t n = fread(text + *length, 1, room - 1 - *length, stdin);
        *length += n;
        text[*length] = 0;
        if (n == 0) return text;
    }
    mem_free(text);
    return err_set(e, "standard input: no memory for its names"), NULL;
}

bool list_lines(item_list *l, const char *path, err *e) {
    size_t length;
    bool input = !strcmp(path, "-");
    char *text = input ? read_input(&length, e) : file_read(path, (size_t)1 << 30, &length, e);
    bool ok = text && add_each_line(l, text, length, input ? "standard input" : path, e);
    mem_free(text);
    return ok;
}

static bool is_picture(const char *name) {
    return ends_like(name, ".png") || ends_like(name, ".jpg") || ends_like(name, ".jpeg") || ends_like(name, ".bmp");
}

static bool is_other_picture(const char *name) {
    static const char *const endings[] = {".webp", ".gif", ".tif", ".tiff", ".heic", ".avif", ".jxl", ".jp2"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_like(name, endings[i])) return true;
    return false;
}

bool list_pictures(item_list *l, const char *what, err *e) {
    if (!strcmp(what, "-")) return list_lines(l, what, e);
    if (!folder_exists(what)) return list_add(l, what, e);
    file_list files;
    if (!folder_list(what, is_picture, &files, e)) return false;
    bool ok = files.count > 0 || err_set(e, "%s: holds no picture (.png, .jpg, .jpeg, .bmp)", what);
    for (size_t i = 0; ok && i < files.count; i++) ok = list_add(l, files.path[i], e);
    mem_free(files.path);
    if (!ok || !folder_list(what, is_other_picture, &files, e)) return false;
    l->others += files.count;
    mem_free(files.path);
    return true;
}

void list_free(item_list *l) {
    for (size_t i = 0; i < l->count; i++) mem_free(l->item[i]);
    mem_free(l->item);
}
