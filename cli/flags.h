/* flags.h - a command's flags as one table: parsing, --help and the manual page all come from it.
 *
 *     typedef struct { const char *image; size_t iters; double lr; bool json; text_list masks; } options;
 *     static const flag flags[] = {
 *         {"image", 'i', FLAG_TEXT, offsetof(options, image), "IMAGE", .required = true, .help = "the photograph"},
 *         {"iters", 0, FLAG_COUNT, offsetof(options, iters), "N", 1, 1e6, .standard = "10", .help = "steps"},
 *     };
 *     const command cmd = {"invert", "region embeddings", flags, 2, sizeof(options), .run = run};
 *     if (!flags_parse(&cmd, argc, argv, &o, &e)) ...       // e names the flag, what was found, what is allowed
 *     flags_free(&cmd, &o);
 *
 * Understood: --name value, --name=value, -n value, -nvalue; repeated flags make lists; "--" ends the flags. Numbers
 * are read strictly: nothing after them, no NaN, no infinity, within the range.
 */
#ifndef FLAGS_H
#define FLAGS_H
#include <stdio.h>
#include "sys/err.h"

typedef enum {
    FLAG_SWITCH, /* bool */
    FLAG_TEXT,   /* const char *; not given: NULL */
    FLAG_CHOICE, /* const char *; its argument is the list: "legrad|gradcam" */
    FLAG_LIST,   /* text_list: may be given again and again */
    FLAG_COUNT,  /* size_t, least..most; not given: 0 */
    FLAG_NUMBER, /* double, least..most; not given: NAN */
    FLAG_BYTES   /* size_t: 900M, 2G, 1048576; not given: 0 */
} flag_kind;

typedef struct {
    const char **item;
    size_t count;
} text_list; /* the items are argv's */

typedef struct {
    const char *name; /* without its dashes */
    char letter;      /* 0: none */
    flag_kind kind;
    size_t at;            /* offset of its value in the options */
    const char *argument; /* "N", "FILE"; NULL for switches */
    double least, most;
    bool required;
    bool many;            /* lists: what follows a value without a dash are further values (a shell's -k *.png) */
    const char *standard; /* the value when not given, as text; NULL: none */
    const char *help;
} flag;

typedef struct {
    const char *name, *summary;
    const flag *flags;
    size_t count;
    size_t options;       /* sizeof the options */
    const char *operands; /* "TEXT..."; NULL: it takes none */
    size_t operands_at;   /* their text_list's offset */
    const char *notes;    /* paragraphs for --help and the manual page; NULL: none */
    int (*run)(int argc, char **argv);
} command;

/* argv[0] is the command's name. The options are zeroed, then filled. --help is the caller's to look for. */
bool flags_parse(const command *c, int argc, char **argv, void *options, err *e);
void flags_free(const command *c, void *options);
/* Whether --help (or -h) is among the flags. */
bool flags_want_help(int argc, char **argv);
void flags_help(const command *c, FILE *out);
/* The command's part of the manual page, in roff. */
void flags_manual(const command *c, FILE *out);
#endif
