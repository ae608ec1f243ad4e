/* completions.c - what a shell offers behind Tab, from the commands' flag tables (see completions.h). */
#include "cli/completions.h"
#include <string.h>

/* Arguments that are paths; all others but choices are for the user to know. */
static bool is_path(const flag *f) {
    static const char *const paths[] = {"IMAGE", "MASK", "FILE", "FILE.npy", "DIR", "MODEL", "OUT"};
    for (size_t i = 0; f->argument && i < sizeof paths / sizeof *paths; i++)
        if (strcmp(f->argument, paths[i]) == 0) return true;
    return false;
}

/* ---- bash ------------------------------------------------------------------------------------------- */
/* "-i|--image|-o|--out" of those flags that `is` holds for, with what is done then; nothing where there are none. */
static void bash_case(const command *c, bool (*is)(const flag *), const char *then, FILE *out) {
    const char *between = "        ";
    for (size_t i = 0; i < c->count; i++) {
        const flag *f = &c->flags[i];
        if (!is(f)) continue;
        fputs(between, out);
        if (f->letter) fprintf(out, "-%c|", f->letter);
        fprintf(out, "--%s", f->name);
        between = "|";
    }
    if (*between == '|') fprintf(out, ") %s ;;\n", then);
}

static bool is_other(const flag *f) {
    return f->kind != FLAG_SWITCH && f->kind != FLAG_CHOICE && !is_path(f);
}

static void bash_command(const command *c, FILE *out) {
    fprintf(out, "    %s)\n        flags=\"", c->name);
    for (size_t i = 0; i < c->count; i++) fprintf(out, "--%s ", c->flags[i].name);
    fputs("--help\"\n        case $before in\n", out);
    bash_case(c, is_path, "paths=yes", out);
    bash_case(c, is_other, "return", out);
    for (size_t i = 0; i < c->count; i++) {
        const flag *f = &c->flags[i];
        if (f->kind != FLAG_CHOICE) continue;
        fputs("        ", out);
        if (f->letter) fprintf(out, "-%c|", f->letter);
        fprintf(out, "--%s) choices=\"", f->name);
        for (const char *a = f->argument; *a; a++) fputc(*a == '|' ? ' ' : *a, out);
        fputs("\" ;;\n", out);
    }
    fputs("        esac ;;\n", out);
}

void completions_bash(const command *const *commands, size_t count, FILE *out) {
    fputs("# Completion of maskinv's commands and flags for bash, made from their tables: maskinv --completions bash\n"
          "_maskinv() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} flags= choices= paths=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$word\" = = ]; then word=; elif [ \"$before\" = = ]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        mapfile -t COMPREPLY < <(compgen -W \"", out);
    for (size_t i = 0; i < count; i++) fprintf(out, "%s ", commands[i]->name);
    fputs("help --help --version --man --completions\" -- \"$word\")\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n", out);
    for (size_t i = 0; i < count; i++) bash_command(commands[i], out);
    fputs("    esac\n"
          "    if [ -n \"$choices\" ]; then mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$word\")\n"
          "    elif [ -z \"$paths\" ] && [ \"${word:0:1}\" = - ]; then mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n"
          "    else\n"
          "        compopt -o filenames 2>/dev/null\n"
          "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
          "    fi\n"
          "}\n"
          "complete -F _maskinv maskinv\n", out);
}

/* ---- zsh -------------------------------------------------------------------------------------------- */
/* Within '...[text]': no quotes, brackets or colons, and not more than a line takes. */
static void zsh_text(const char *text, FILE *out) {
    size_t n = 0;
    for (; *text && *text != ';' && n < 100; text++, n++) {
        if (*text == '\'') fputs("'\\''", out);
        else if (strchr("[]:\\", *text)) fprintf(out, "\\%c", *text);
        else fputc(*text, out);
    }
    for (; *text && ((unsigned char)*text & 0xC0) == 0x80; text++) fputc(*text, out); /* a letter is not cut */
}

static void zsh_flag(const flag *f, FILE *out) {
    fputs("            ", out);
    if (f->kind == FLAG_LIST) fputs("'*'", out);
    else if (f->letter) fprintf(out, "'(-%c --%s)'", f->letter, f->name);
    if (f->letter) fprintf(out, "{-%c,--%s}'[", f->letter, f->name);
    else fprintf(out, "'--%s[", f->name);
    zsh_text(f->help, out);
    fputs("]", out);
    if (f->kind == FLAG_CHOICE) {
        fprintf(out, ":%s:(", f->name);
        for (const char *a = f->argument; *a; a++) fputc(*a == '|' ? ' ' : *a, out);
        fputs(")", out);
    } else if (f->kind != FLAG_SWITCH) {
        fputs(":", out);
        zsh_text(f->argument, out);
        fputs(is_path(f) ? ":_files" : ": ", out);
    }
    fputs("' \\\n", out);
}

void completions_zsh(const command *const *commands, size_t count, FILE *out) {
    fputs("#compdef maskinv\n"
          "# Completion of maskinv's commands and flags for zsh, made from their tables: maskinv --completions zsh\n"
          "_maskinv() {\n"
          "    local state line\n"
          "    local -a commands=(\n", out);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "        '%s:", commands[i]->name);
        zsh_text(commands[i]->summary, out);
        fputs("'\n", out);
    }
    fputs("    )\n"
          "    _arguments -C '--help[the commands]' '--version[version and matrix products]' '--man[the manual page]' \\\n"
          "        '1:command:->command' '*::flag:->flags' && return\n"
          "    case $state in\n"
          "    command) _describe command commands ;;\n"
          "    flags)\n"
          "        case $line[1] in\n", out);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "        %s) _arguments -s \\\n", commands[i]->name);
        for (size_t k = 0; k < commands[i]->count; k++) zsh_flag(&commands[i]->flags[k], out);
        fputs("            '--help[its flags]' '*:file:_files' ;;\n", out);
    }
    fputs("        esac ;;\n    esac\n}\n"
          "if [ \"$funcstack[1]\" = _maskinv ]; then _maskinv \"$@\"; else compdef _maskinv maskinv; fi\n", out);
}
