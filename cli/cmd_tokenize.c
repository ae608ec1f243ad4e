/* cmd_tokenize.c - maskinv tokenize: texts to the ids that the text tower reads. */
#include "cli/cli.h"

typedef struct {
    common_options common;
    const char *merges;
    text_list texts;
} options;

static const flag flags[] = {
    {"merges", 0, FLAG_TEXT, offsetof(options, merges), "FILE",
     .help = "merges.txt, tokenizer.json, .model or vocab.txt instead of the model's"},
    CLI_MODEL_FLAG(options),
};

const command tokenize_command = {
    "tokenize",
    "texts to token ids, one line a text, start and end included",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    "TEXT...",
    offsetof(options, texts),
    "A text that is too long is truncated, its last id is the end.",
    cmd_tokenize,
};

static bool tokenize(cli *c, const options *o, const tokenizer *tokens, size_t context) {
    uint32_t *ids = mem_alloc(context, sizeof *ids);
    bool ok = ids ? true : err_set(&c->e, "no memory for %zu ids", context);
    for (size_t i = 0, n = 0; ok && i < o->texts.count; i++) {
        ok = cli_say_text(c, tokens, o->texts.item[i], NULL, context) &&
             tokenizer_encode(tokens, o->texts.item[i], ids, context, &n, &c->e);
        for (size_t k = 0; ok && k < n; k++) printf(k ? " %lu" : "%lu", (unsigned long)ids[k]);
        if (ok) putchar('\n');
    }
    mem_free(ids);
    return ok;
}

/* From --merges alone: no model is opened. */
static bool from_merges(cli *c, const options *o) {
    tokenizer *tokens = tokenizer_open(o->merges, 0, &c->e);
    bool ok = tokens && tokenize(c, o, tokens, 77);
    tokenizer_free(tokens);
    return ok;
}

static bool from_model(cli *c, const options *o) {
    c->weights = o->common.model ? checkpoint_open(o->common.model, &c->e) : checkpoint_builtin(&c->e);
    const tokenizer *tokens = c->weights ? checkpoint_tokenizer(c->weights, &c->e) : NULL;
    return tokens && tokenize(c, o, tokens, checkpoint_model(c->weights)->config.context);
}

int cmd_tokenize(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &tokenize_command, argc, argv, &o)) return c.code;
    if (!o.texts.count) return cli_end(&c, &o, cli_usage(&c, "nothing found, TEXT... expected"));
    return cli_end(&c, &o, o.merges ? from_merges(&c, &o) : from_model(&c, &o));
}
