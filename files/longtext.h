/* longtext.h - text that grows as it is said: lines of JSON, pages.
 *
 *     longtext t = {0};
 *     say(&t, "{\"image\":");
 *     say_quoted(&t, path);                 // as a JSON string, in UTF-8 whatever the bytes are
 *     say(&t, "}\n");
 *     if (t.failed) ...                      // no memory, at some point
 *     mem_free(t.text);                      // or say_into(&t, "out", "table.json", &e), which sees to both
 */
#ifndef LONGTEXT_H
#define LONGTEXT_H
#include <stdio.h>
#include "sys/err.h"

/* "%.*g" of so many digits brings a real back as it was. */
enum { REAL_DIGITS = sizeof(real) == sizeof(float) ? 9 : 17 };
typedef struct {
    char *text; /* zero-terminated once something was said */
    size_t length, room;
    bool failed;
} longtext;
void say(longtext *t, const char *format, ...) PRINTF_LIKE(2, 3);
void say_bytes(longtext *t, const char *bytes, size_t n);
void say_quoted(longtext *t, const char *text);
void say_html(longtext *t, const char *text); /* for HTML: <, >, & and quotes escaped */
/* What was said becomes FOLDER/NAME, whole or not at all; or goes to a stream, `what` being what it is called where memory was
 * short. t is empty afterwards. */
bool say_into(longtext *t, const char *folder, const char *name, err *e);
bool say_to(longtext *t, FILE *stream, const char *what, err *e);
#endif
