/* cmd_merge.c - maskinv merge: the shards of an evaluation as one. */
#include "cli/cli.h"
#include "eval/survey.h"

typedef struct {
    const char *out;
    text_list folders;
} options;

static const flag flags[] = {
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "OUT", .required = true, .help = "folder for the whole evaluation"},
};

const command merge_command = {
    "merge",
    "the shards of an evaluation as one",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    "DIR...",
    offsetof(options, folders),
    "Each DIR is the --out of one `eval --shard i/n`; all n are needed. OUT gets what one run would have written: the "
    "same\n"
    "bytes in results.jsonl, table.csv, names.csv, table.json and report.html.",
    cmd_merge,
};

int cmd_merge(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &merge_command, argc, argv, &o)) return c.code;
    bool ok = o.folders.count ? true : cli_usage(&c, "no folders given, the shards' are needed");
    if (ok && survey_is_result(o.folders.item[0]))
        ok = survey_merge(o.folders.item, o.folders.count, o.out, &c.e) && survey_finish(o.out, stdout, &c.e);
    else
        ok = ok && eval_merge(o.folders.item, o.folders.count, o.out, &c.e) && eval_finish(o.out, stdout, &c.e);
    return cli_end(&c, &o, ok);
}
