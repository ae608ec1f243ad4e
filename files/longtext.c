/* longtext.c - text that grows (see longtext.h). */
#include "files/longtext.h"
#include "files/files.h"
#include "files/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool make_room(longtext *t, size_t more) {
    size_t room = t->room ? t->room : 4096;
    while (room - t->length <= more && room <= SIZE_MAX / 2) room *= 2;
    if (t->failed || room == t->room) return !t->failed;
    char *grown = mem_resize(t->text, room);
    if (!grown) return !(t->failed = true);
    t->text = grown, t->room = room;
    return true;
}

void say(longtext *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !make_room(t, (size_t)n)) return;
    va_start(args, format);
    vsnprintf(t->text + t->length, t->room - t->length, format, args);
    va_end(args);
    t->length += (size_t)n;
}

void say_bytes(longtext *t, const char *bytes, size_t n) {
    if (!make_room(t, n)) return;
    memcpy(t->text + t->length, bytes, n);
    t->text[t->length += n] = 0;
}

void say_quoted(longtext *t, const char *text) {
    size_t left = strlen(text), used;
    say(t, "\"");
    for (; left > 0; text += used, left -= used) { /* a path may hold any bytes; JSON holds UTF-8 */
        unsigned char bytes[4];
        uint32_t c = utf8_decode(text, left, &used);
        if (c == '"' || c == '\\')
            say(t, "\\%c", (int)c);
        else if (c < 0x20)
            say(t, "\\u%04x", (unsigned)c);
        else
            say_bytes(t, (const char *)bytes, utf8_encode(c, bytes));
    }
    say(t, "\"");
}

void say_html(longtext *t, const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            say(t, "&lt;");
        else if (*text == '>')
            say(t, "&gt;");
        else if (*text == '&')
            say(t, "&amp;");
        else if (*text == '"')
            say(t, "&quot;");
        else
            say(t, "%c", *text);
    }
}

static bool ended(longtext *t, bool ok) {
    mem_free(t->text);
    *t = (longtext){0};
    return ok;
}

bool say_into(longtext *t, const char *folder, const char *name, err *e) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return ended(t, err_set(e, "%.200s...: the path is too long", folder));
    return ended(t, t->failed ? err_set(e, "%s: no memory", path) : file_write(path, t->text, t->length, e));
}

bool say_to(longtext *t, FILE *stream, const char *what, err *e) {
    if (!t->failed) fwrite(t->text, 1, t->length, stream);
    return ended(t, !t->failed || err_set(e, "no memory for %s", what));
}
