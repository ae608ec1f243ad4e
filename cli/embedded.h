/* embedded.h - what `maskinv embed` has done so far: a row for each name, kept on disk until all are there.
 *
 *     embedded out;
 *     if (!embedded_open(&out, &list, path, resume, &e)) ...          // out.state[i]: what an earlier run did
 *     ...                                                            // out.rows + i * E is filled in
 *     if (!embedded_put(&out, i, EMBED_GOOD, &e)) ...                // into PATH.part, with resume
 *     bool ok = embedded_write(&out, &e);                            // npy or jsonl, by the name; PATH.part goes
 *     embedded_free(&out);
 */
#ifndef EMBEDDED_H
#define EMBEDDED_H
#include <stdio.h>
#include "sys/err.h"

typedef enum { EMBED_OPEN, EMBED_GOOD, EMBED_LEFT_OUT } embed_state;
typedef struct {
    const char *kind;         /* "image", "text" or "ids": how jsonl calls a name */
    const char *const *names;
    size_t count, embed;      /* E */
    uint64_t key;             /* of all that the rows depend on; names are added to it */
} embed_list;
typedef struct {
    const embed_list *list;
    const char *path;
    real *rows;              /* [count, E]; of a name that was left out NaN */
    unsigned char *state;     /* [count] of embed_state */
    FILE *part;               /* NULL: nothing is kept */
    char part_path[4096];
} embedded;

uint64_t embed_key(uint64_t key, const void *bytes, size_t n); /* begin with 0 */
bool embedded_open(embedded *out, const embed_list *list, const char *path, bool resume, err *e);
bool embedded_put(embedded *out, size_t i, embed_state state, err *e);
bool embedded_write(embedded *out, err *e);
void embedded_free(embedded *out);
#endif
