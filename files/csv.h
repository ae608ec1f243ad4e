/* csv.h - tables as text by RFC 4180, row by row: quotes, "" inside them, commas and line ends inside them, CR LF.
 *
 *     csv t;
 *     if (!csv_open(&t, "oidv7-class-descriptions.csv", &e)) ...
 *     while (csv_next(&t, &e)) puts(t.field[0]);      // t.count fields; t.at where the row begins; blank rows left out
 *     if (!t.ended) ...                                // e says why
 *     csv_seek(&t, at, &e), csv_next(&t, &e);          // that row again
 *     csv_close(&t);
 */
#ifndef CSV_H
#define CSV_H
#include <stdio.h>
#include "sys/err.h"

enum { CSV_FIELDS = 64, CSV_ROW_MOST = 1 << 20 };
typedef struct {
    char path[4096];
    const char *field[CSV_FIELDS]; /* until the next call */
    size_t count;
    uint64_t at;
    bool ended;
    FILE *stream;
    char *text;
    size_t room, length;
    uint64_t byte;
} csv;
bool csv_open(csv *t, const char *path, err *e);
bool csv_next(csv *t, err *e);
bool csv_seek(csv *t, uint64_t at, err *e);
void csv_close(csv *t);
/* The row's field of this content, as a header has them; false names the file and the column. */
bool csv_column(const csv *t, const char *name, size_t *column, err *e);
#endif
