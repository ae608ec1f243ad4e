/* flags.c - one small parser for every command's flag table (see flags.h). */
#include "cli/flags.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "files/nearest.h"
#include "files/roff.h"

/* ---- values --------------------------------------------------------------------------------- */
/* A number and nothing else. strtod alone would take "nan", "0x1p3", " 1" and "1 apple". */
static bool plain_number(const char *text, double *out) {
    char *end;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
    errno = 0;
    *out = strtod(text, &end);
    return !*end && isfinite(*out);
}

static bool read_number(const flag *f, const char *text, double *out, err *e) {
    if (!plain_number(text, out)) return err_set(e, "--%s: '%s' found, a number expected", f->name, text);
    if (!(*out >= f->least && *out <= f->most))
        return err_set(e, "--%s: %s found, %.15g to %.15g allowed", f->name, text, f->least, f->most);
    return true;
}

static bool read_count(const flag *f, const char *text, size_t *out, err *e) {
    double number;
    if (!*text || strspn(text, "0123456789") != strlen(text)) {
        if (plain_number(text, &number) && !(number >= f->least && number <= f->most))
            return err_set(e, "--%s: %s found, %.15g to %.15g allowed", f->name, text, f->least, f->most);
        return err_set(e, "--%s: '%s' found, a whole number expected", f->name, text);
    }
    errno = 0;
    unsigned long long n = strtoull(text, NULL, 10);
    if (errno || n > SIZE_MAX || !((double)n >= f->least && (double)n <= f->most))
        return err_set(e, "--%s: %s found, %.15g to %.15g allowed", f->name, text, f->least, f->most);
    *out = (size_t)n;
    return true;
}

static bool read_bytes(const flag *f, const char *text, size_t *out, err *e) {
    static const char units[] = "kMGT";
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    errno = 0;
    unsigned long long n = digits ? strtoull(text, NULL, 10) : 0;
    const char *which = *unit ? strchr(units, *unit == 'K' ? 'k' : *unit) : NULL;
    if (!digits || errno || (*unit && (!which || unit[1])))
        return err_set(e, "--%s: '%s' found, a size expected (900M, 2G, 1048576)", f->name, text);
    for (ptrdiff_t i = which ? which - units + 1 : 0; i > 0 && n <= SIZE_MAX; i--)
        n = n > SIZE_MAX / 1024 ? ULLONG_MAX : n * 1024;
    if (n > SIZE_MAX / 2 || (double)n < f->least)
        return err_set(e, "--%s: %s found, at least %.15g and less than half the address space allowed", f->name, text,
                       f->least);
    *out = (size_t)n;
    return true;
}

/* The choice of "a|b|c" that was probably meant; NULL: none. */
static const char *nearest_choice(const char *choices, const char *text) {
    enum { MOST = 64, LONG = 32 };
    char words[MOST][LONG];
    const char *list[MOST] = {NULL}, *start[MOST] = {NULL};
    size_t count = 0;
    for (const char *c = choices; c && count < MOST; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL) {
        start[count] = c;
        snprintf(words[count], LONG, "%.*s", (int)strcspn(c, "|"), c);
        list[count] = words[count], count++;
    }
    const char *word = nearest_word(text, list, count);
    for (size_t i = 0; i < count; i++)
        if (list[i] == word) return start[i];
    return NULL;
}

static bool read_choice(const flag *f, const char *text, const char **out, err *e) {
    size_t n = strlen(text);
    for (const char *c = f->argument; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL) {
        if (n && strcspn(c, "|") == n && !memcmp(c, text, n)) {
            *out = text;
            return true;
        }
    }
    const char *meant = nearest_choice(f->argument, text);
    return err_set(e, "--%s: '%s' found%s%.*s%s, expected one of %s", f->name, text, meant ? " (meant: " : "",
                   meant ? (int)strcspn(meant, "|") : 0, meant ? meant : "", meant ? "?)" : "", f->argument);
}

static bool list_add(text_list *list, const char *text, size_t most, const char *name, err *e) {
    if (!list->item && !(list->item = mem_alloc(most, sizeof *list->item)))
        return err_set(e, "%s: no memory for %zu of them", name, most);
    list->item[list->count++] = text;
    return true;
}

/* most: how many there can be at all, which is argc. */
static bool set_value(const flag *f, const char *text, void *options, size_t most, err *e) {
    void *value = (char *)options + f->at;
    switch (f->kind) {
    case FLAG_SWITCH:
        *(bool *)value = true;
        return true;
    case FLAG_TEXT:
        *(const char **)value = text;
        return true;
    case FLAG_CHOICE:
        return read_choice(f, text, value, e);
    case FLAG_LIST:
        return list_add(value, text, most, f->name, e);
    case FLAG_COUNT:
        return read_count(f, text, value, e);
    case FLAG_NUMBER:
        return read_number(f, text, value, e);
    case FLAG_BYTES:
        return read_bytes(f, text, value, e);
    }
    return false;
}

static bool set_standards(const command *c, void *options, err *e) {
    memset(options, 0, c->options);
    for (size_t i = 0; i < c->count; i++) {
        const flag *f = &c->flags[i];
        if (f->kind == FLAG_NUMBER) *(double *)(void *)((char *)options + f->at) = (double)NAN;
        if (f->standard && !set_value(f, f->standard, options, 1, e)) return false;
    }
    return true;
}

/* ---- parsing -------------------------------------------------------------------------------- */
/* The flag that arg spells. *text: its value where it is in the same argument, else NULL. */
static const flag *find(const command *c, const char *arg, const char **text) {
    *text = NULL;
    if (arg[1] != '-') {
        for (size_t i = 0; i < c->count; i++) {
            if (!c->flags[i].letter || c->flags[i].letter != arg[1]) continue;
            if (arg[2]) *text = arg[2] == '=' ? arg + 3 : arg + 2;
            return &c->flags[i];
        }
        return NULL;
    }
    size_t n = strcspn(arg + 2, "=");
    for (size_t i = 0; i < c->count; i++) {
        if (strlen(c->flags[i].name) != n || memcmp(c->flags[i].name, arg + 2, n) != 0) continue;
        if (arg[2 + n] == '=') *text = arg + 3 + n;
        return &c->flags[i];
    }
    return NULL;
}

static bool was_given(const flag *f, const void *options) {
    const void *value = (const char *)options + f->at;
    switch (f->kind) {
    case FLAG_TEXT:
    case FLAG_CHOICE:
        return *(const char *const *)value != NULL;
    case FLAG_LIST:
        return ((const text_list *)value)->count > 0;
    case FLAG_NUMBER:
        return !isnan(*(const double *)value);
    case FLAG_COUNT:
    case FLAG_BYTES:
        return *(const size_t *)value != 0;
    case FLAG_SWITCH:
        return true;
    }
    return true;
}

static bool unknown(const command *c, const char *arg, err *e) {
    enum { MOST = 64 };
    const char *names[MOST];
    char word[64];
    for (size_t i = 0; i < c->count && i < MOST; i++) names[i] = c->flags[i].name;
    snprintf(word, sizeof word, "%.*s", arg[1] == '-' ? (int)strcspn(arg + 2, "=") : 0, arg[1] == '-' ? arg + 2 : arg);
    const char *meant = nearest_word(word, names, c->count < MOST ? c->count : MOST);
    if (meant) return err_set(e, "unknown flag %s: --%s? (maskinv %s --help lists them)", arg, meant, c->name);
    return err_set(e, "unknown flag %s (maskinv %s --help lists them)", arg, c->name);
}

/* An argument that nothing asked for: where a list could have, its flag is named. */
static bool stray(const command *c, const char *arg, err *e) {
    for (size_t i = 0; i < c->count; i++)
        if (c->flags[i].many)
            return err_set(e, "'%s' found, but %s takes flags only: each %s is given with -%c (-%c '%s')", arg, c->name,
                           c->flags[i].name, c->flags[i].letter, c->flags[i].letter, arg);
    return err_set(e, "'%s' found, but %s takes flags only", arg, c->name);
}

bool flags_parse(const command *c, int argc, char **argv, void *options, err *e) {
    bool ended = false;
    const flag *open = NULL; /* the list that takes what follows */
    if (!set_standards(c, options, e)) return false;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *text;
        if (ended || arg[0] != '-' || !arg[1]) {
            if (open && !ended) {
                if (!set_value(open, arg, options, (size_t)argc, e)) return false;
                continue;
            }
            if (!c->operands) return stray(c, arg, e);
            if (!list_add((text_list *)(void *)((char *)options + c->operands_at), arg, (size_t)argc, c->operands, e))
                return false;
            continue;
        }
        if (!strcmp(arg, "--")) {
            ended = true;
            continue;
        }
        const flag *f = find(c, arg, &text);
        if (!f) return unknown(c, arg, e);
        if (f->kind == FLAG_SWITCH && text) return err_set(e, "--%s takes no value, '%s' found", f->name, text);
        if (f->kind != FLAG_SWITCH && !text) {
            if (i + 1 >= argc) return err_set(e, "--%s: nothing found, %s expected", f->name, f->argument);
            text = argv[++i];
        }
        if (!set_value(f, text, options, (size_t)argc, e)) return false;
        open = f->kind == FLAG_LIST && f->many ? f : NULL;
    }
    for (size_t i = 0; i < c->count; i++)
        if (c->flags[i].required && !was_given(&c->flags[i], options))
            return err_set(e, "--%s %s is needed (maskinv %s --help)", c->flags[i].name, c->flags[i].argument, c->name);
    return true;
}

void flags_free(const command *c, void *options) {
    for (size_t i = 0; i < c->count; i++)
        if (c->flags[i].kind == FLAG_LIST) mem_free(((text_list *)(void *)((char *)options + c->flags[i].at))->item);
    if (c->operands) mem_free(((text_list *)(void *)((char *)options + c->operands_at))->item);
}

bool flags_want_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

/* ---- help and manual ---------------------------------------------------------------------------- */
static void write_usage(const command *c, FILE *out) {
    fprintf(out, "maskinv %s", c->name);
    for (size_t i = 0; i < c->count; i++) {
        const flag *f = &c->flags[i];
        if (!f->required) continue;
        if (f->letter)
            fprintf(out, " -%c %s", f->letter, f->argument);
        else
            fprintf(out, " --%s %s", f->name, f->argument);
        if (f->kind == FLAG_LIST) fprintf(out, "...");
    }
    fprintf(out, " [flags]%s%s", c->operands ? " " : "", c->operands ? c->operands : "");
}

void flags_help(const command *c, FILE *out) {
    fprintf(out, "maskinv %s - %s\n\nusage: ", c->name, c->summary);
    write_usage(c, out);
    fprintf(out, "\n\n");
    for (size_t i = 0; i < c->count; i++) {
        const flag *f = &c->flags[i];
        char left[128];
        snprintf(left, sizeof left, "%s%c%s--%s %s", f->letter ? "-" : " ", f->letter ? f->letter : ' ',
                 f->letter ? ", " : "  ", f->name, f->argument ? f->argument : "");
        fprintf(out, strlen(left) > 28 ? "  %s\n%32s" : "  %-29s %s", left, "");
        fprintf(out, "%s%s", f->help, f->kind == FLAG_LIST ? " (again and again)" : "");
        if (f->required) fprintf(out, " (needed)");
        if (f->standard) fprintf(out, " [%s]", f->standard);
        fprintf(out, "\n");
    }
    fprintf(out, "  -h, --help                    this text\n");
    if (c->notes) fprintf(out, "\n%s\n", c->notes);
}

void flags_manual(const command *c, FILE *out) {
    fprintf(out, ".SS ");
    roff_text(out, c->name);
    fprintf(out, "\n");
    roff_text(out, c->summary);
    fprintf(out, ".\n.PP\n");
    write_usage(c, out);
    fprintf(out, "\n");
    for (size_t i = 0; i < c->count; i++) {
        const flag *f = &c->flags[i];
        roff_flag(out, f->letter, f->name, f->argument);
        roff_text(out, f->help);
        fprintf(out, "%s%s", f->kind == FLAG_LIST ? " (again and again)" : "", f->required ? " (needed)" : "");
        if (f->standard) fprintf(out, "; %s when not given", f->standard);
        fprintf(out, ".\n");
    }
    if (!c->notes) return;
    fprintf(out, ".PP\n");
    roff_text(out, c->notes);
    fprintf(out, "\n");
}
