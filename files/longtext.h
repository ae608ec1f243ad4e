/* longtext.h - text that grows as it is said: lines of JSON, pages.
 *
 *     longtext t = {0};
 *     say(&t, "{\"image\":");
 *     say_quoted(&t, path);                 // as a JSON string, in UTF-8 whatever the bytes are
 *     say(&t, "}\n");
 *     if (t.failed) ...                      // no memory, at some point
 *     mem_free(t.text);
 */
#ifndef LONGTEXT_H
#define LONGTEXT_H
#include "sys/err.h"

typedef struct {
    char *text; /* zero-terminated once something was said */
    size_t length, room;
    bool failed;
} longtext;
void say(longtext *t, const char *format, ...) PRINTF_LIKE(2, 3);
void say_bytes(longtext *t, const char *bytes, size_t n);
void say_quoted(longtext *t, const char *text);
void say_html(longtext *t, const char *text); /* for HTML: <, >, & and quotes escaped */
#endif
