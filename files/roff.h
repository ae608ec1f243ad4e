/* roff.h - the few words of roff that the manual pages are written with.
 *
 *     roff_begin(out, "train", "1.0.0", "trains a small CLIP");   // .TH, NAME
 *     roff_section(out, "EXAMPLES");
 *     roff_examples(out, rows, 3);                            // {"a CLIP of one's own", "train -o run"}...
 *     roff_text(out, "a text with - and \\ in it");          // escaped
 *     roff_end(out);                                         // EXIT STATUS, the same for every program
 */
#ifndef ROFF_H
#define ROFF_H
#include <stdio.h>

typedef struct {
    const char *what, *text;
} roff_row; /* a row of EXAMPLES, FILES, ENVIRONMENT: what it is for and the command; or the name and what it is */

/* program as it is typed, in lower case; summary without a full stop. */
void roff_begin(FILE *out, const char *program, const char *version, const char *summary);
void roff_section(FILE *out, const char *heading);
/* Dashes and backslashes are escaped, no line begins with a dot or an apostrophe; an empty line parts paragraphs. */
void roff_text(FILE *out, const char *text);
/* The words of a flag's entry follow, to the next one. letter 0: it has none; argument NULL: it takes none. */
void roff_flag(FILE *out, char letter, const char *name, const char *argument);
/* A section of commands, each under the words that say what it is for. */
void roff_examples(FILE *out, const roff_row *rows, size_t count);
/* A section of names and their meaning. */
void roff_names(FILE *out, const char *heading, const roff_row *rows, size_t count);
void roff_end(FILE *out);
#endif
