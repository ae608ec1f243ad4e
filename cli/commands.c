/* commands.c - the choice among the commands: a row each, usage and manual made from their flag tables. */
#include "cli/cli.h"
#include "cli/completions.h"
#include "files/nearest.h"
#include <string.h>

extern const command invert_command, explain_command, embed_command, tokenize_command, info_command, scenes_command,
    regions_command, eval_command, merge_command, dataset_command, convert_command, caption_command, segment_command,
    imagine_command, anomaly_command;
static const command *const commands[] = {
    &invert_command, &explain_command, &embed_command, &tokenize_command, &info_command,
    &scenes_command, &regions_command, &eval_command,  &merge_command,    &dataset_command,
    &convert_command, &caption_command, &segment_command, &imagine_command, &anomaly_command,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *out) {
    fprintf(out, "maskinv - MaskInversion in plain C: a photograph and the masks of regions in, an embedding for each "
                 "region out\n\nusage: maskinv COMMAND [flags]\n\n");
    for (size_t i = 0; i < COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\n  maskinv COMMAND --help    the command's flags\n"
                 "  maskinv --version         version and matrix products\n"
                 "  maskinv --man             the manual page (| man -l -)\n"
                 "  maskinv --completions bash|zsh    what the shell offers behind Tab (make install puts it in place)\n");
}

int cli_main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return 2;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i]->name)) return commands[i]->run(argc - 1, argv + 1);
    for (size_t i = 0; argc > 2 && !strcmp(argv[1], "help") && i < COMMANDS; i++)
        if (!strcmp(argv[2], commands[i]->name)) return flags_help(commands[i], stdout), cli_flush();
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        usage(stdout);
        return cli_flush();
    }
    if (!strcmp(argv[1], "--version")) {
        printf("maskinv %s (%s; %s; weights are multiplied by %s%s)\n", MASKINV_VERSION,
               sizeof(real) == sizeof(float) ? "float" : "double", gemm_backend(), gemm_is_own() ? "our own product, " : "it",
               gemm_is_own() ? gemm_own_name() : "");
        return cli_flush();
    }
    if (!strcmp(argv[1], "--man")) {
        cli_manual(stdout, commands, COMMANDS);
        return cli_flush();
    }
    if (!strcmp(argv[1], "--completions")) {
        bool zsh = argc == 3 && !strcmp(argv[2], "zsh");
        if (argc != 3 || (!zsh && strcmp(argv[2], "bash") != 0))
            return fprintf(stderr, "maskinv --completions: '%s' found, bash or zsh expected\n", argc > 2 ? argv[2] : ""), 2;
        (zsh ? completions_zsh : completions_bash)(commands, COMMANDS, stdout);
        return cli_flush();
    }
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++) names[i] = commands[i]->name;
    const char *meant = nearest_word(argv[1], names, COMMANDS);
    fprintf(stderr, "maskinv: unknown %s '%s'%s%s%s (maskinv --help lists the commands)\n",
            argv[1][0] == '-' ? "flag" : "command", argv[1], meant ? ": " : "", meant ? meant : "", meant ? "?" : "");
    return 2;
}
