/* roff.c - the manual pages' language (see roff.h). */
#include "files/roff.h"
#include <ctype.h>
#include <stdbool.h>

/* The day on which the pages' own words last changed; the day of a build would make the same sources another page. */
#define PAGES_OF "2026-11-25"

void roff_text(FILE *out, const char *text) {
    for (const char *p = text; *p; p++) {
        bool line_start = p == text || p[-1] == '\n';
        if (line_start && (*p == '.' || *p == '\'')) fputs("\\&", out);
        if (*p == '-')
            fputs("\\-", out);
        else if (*p == '\\')
            fputs("\\e", out);
        else if (*p == '\n' && p[1] == '\n')
            fputs("\n.PP", out);
        else
            fputc(*p, out);
    }
}

void roff_begin(FILE *out, const char *program, const char *version, const char *summary) {
    fprintf(out, ".\\\" Made by `make man` from the flag tables.\n.TH ");
    for (const char *p = program; *p; p++) fputc(toupper((unsigned char)*p), out);
    fprintf(out, " 1 \"%s\" \"maskinv %s\" \"User Commands\"\n", PAGES_OF, version);
    roff_section(out, "NAME");
    fprintf(out, "%s \\- ", program);
    roff_text(out, summary);
    fprintf(out, "\n");
}

void roff_section(FILE *out, const char *heading) { fprintf(out, ".SH %s\n", heading); }

void roff_flag(FILE *out, char letter, const char *name, const char *argument) {
    fprintf(out, ".TP\n");
    if (letter) fprintf(out, "\\fB\\-%c\\fR%s", letter, name ? ", " : "");
    if (name) {
        fprintf(out, "\\fB\\-\\-");
        roff_text(out, name);
        fprintf(out, "\\fR");
    }
    if (argument) fprintf(out, " \\fI%s\\fR", argument);
    fprintf(out, "\n");
}

void roff_examples(FILE *out, const roff_row *rows, size_t count) {
    roff_section(out, "EXAMPLES");
    for (size_t i = 0; i < count; i++) {
        if (i) fprintf(out, ".PP\n");
        roff_text(out, rows[i].what);
        fprintf(out, ":\n.PP\n.RS 4\n.nf\n");
        roff_text(out, rows[i].text);
        fprintf(out, "\n.fi\n.RE\n");
    }
}

void roff_names(FILE *out, const char *heading, const roff_row *rows, size_t count) {
    roff_section(out, heading);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, ".TP\n\\fI");
        roff_text(out, rows[i].what);
        fprintf(out, "\\fR\n");
        roff_text(out, rows[i].text);
        fprintf(out, ".\n");
    }
}

void roff_end(FILE *out) {
    roff_section(out, "EXIT STATUS");
    roff_text(out, "0 when all went well, 1 when something failed (the message names it), 2 for a usage error.\n"
                   "A file gets its name when it is whole: nothing is left half written.\n");
}
