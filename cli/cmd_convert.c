/* cmd_convert.c - maskinv convert: any checkpoint as safetensors in open_clip's layout. */
#include "cli/cli.h"
#include "os/os.h"
#include <string.h>

typedef struct {
    common_options common;
    const char *out, *type;
} options;

static const flag flags[] = {
    CLI_COMMON_FLAGS(options),
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .required = true, .help = "folder for the model's files"},
    {"type", 0, FLAG_CHOICE, offsetof(options, type), "F16|F32|BF16", .standard = "F16", .help = "how numbers are stored"},
};

const command convert_command = {
    "convert",
    "any checkpoint as safetensors in open_clip's layout",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "DIR gets open_clip_model.safetensors and open_clip_config.json, and the tokenizer's files as they stand beside the\n"
    "model. Nothing of a pickle is run to read it, and whoever opens the result needs none.",
    cmd_convert,
};

/* The tokenizer's files are taken over as they are. */
static bool copy_file(const char *from, const char *to, err *e) {
    file_map m;
    out_file f;
    if (!file_map_open(from, &m, e)) return false;
    bool ok = out_open(&f, to, e);
    if (ok) {
        if (m.length) fwrite(m.data, 1, m.length, f.stream);
        ok = out_close(&f, e);
    }
    file_map_close(&m);
    return ok;
}

static const char *const names[] = {"merges.txt",     "vocab.json",            "bpe_simple_vocab_16e6.txt", "vocab.txt",
                                    "spiece.model",   "sentencepiece.model",   "bpe_simple_vocab_16e6.txt.gz",
                                    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                    "tokenizer.model", "sentencepiece.bpe.model"};

/* Nothing that is there may be lost: neither the weights that are read, nor may another model's tokenizer be taken for
 * this one's. */
static bool check_folder(cli *c, const char *out) {
    const tensors *t = checkpoint_tensors(c->weights);
    const char *folder = checkpoint_folder(c->weights);
    char path[4200], mine[4200], other[4200];
    snprintf(path, sizeof path, "%s/open_clip_model.safetensors", out);
    bool there = os_path_real(path, mine, sizeof mine);
    for (size_t i = 0; there && i < tensors_count(t); i++)
        if (os_path_real(tensors_at(t, i)->file, other, sizeof other) && !strcmp(mine, other))
            return err_set(&c->e, "--out: %s is the model that is read, expected another folder", path);
    if (there) cli_warn(c, "--out: the model in %s is replaced", out);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", out, names[i]);
        snprintf(other, sizeof other, "%s/%s", folder, names[i]);
        if (file_exists(path) && !(*folder && file_exists(other)) && !(!i && tensors_merges(t)))
            return err_set(&c->e, "--out: %s is another model's, expected a folder without tokenizer", path);
    }
    return true;
}

static bool copy_words(cli *c, const char *out) {
    const char *folder = checkpoint_folder(c->weights), *merges = tensors_merges(checkpoint_tensors(c->weights));
    char from[4200], to[4200];
    for (size_t i = 0; *folder && i < sizeof names / sizeof *names; i++) {
        snprintf(from, sizeof from, "%s/%s", folder, names[i]);
        snprintf(to, sizeof to, "%s/%s", out, names[i]);
        if (file_exists(from) && !copy_file(from, to, &c->e)) return false;
    }
    if (!merges) return true;
    out_file f;
    snprintf(to, sizeof to, "%s/merges.txt", out);
    if (!out_open(&f, to, &c->e)) return false;
    fputs(merges, f.stream);
    return out_close(&f, &c->e);
}

static bool convert(cli *c, const options *o) {
    if (!check_folder(c, o->out) || !checkpoint_convert(c->weights, o->out, o->type, &c->e) || !copy_words(c, o->out))
        return false;
    const tensors *t = checkpoint_tensors(c->weights);
    printf("%s: %s (%s) as %s in open_clip's layout\n", o->out, checkpoint_name(c->weights), tensors_container(t), o->type);
    for (size_t i = 0; i < tensors_notes(t); i++) printf("note: %s\n", tensors_note(t, i));
    return true;
}

int cmd_convert(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &convert_command, argc, argv, &o)) return c.code;
    return cli_end(&c, &o, cli_open_model_for(&c, &o.common, CHECK_ALL) && convert(&c, &o));
}
