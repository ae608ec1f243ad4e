/* texts.c - the texts and templates of the flags, embedded (see cli.h). */
#include "cli/cli.h"
#include "files/nearest.h"
#include "regions/world.h"
#include "text/repair.h"
#include <string.h>

bool cli_templates(cli *c, const text_options *o, size_t builtin, template_set *out) {
    const char *file = o->file ? o->file : builtin && !o->templates.count ? "builtin" : NULL;
    *out = (template_set){o->templates.item, o->templates.count, NULL};
    if (o->file && o->templates.count)
        return cli_usage(c, "--template and --templates: one of them expected, both found");
    if (!file) return true;
    if (!templates_read(file, &out->kept, &out->count, &c->e)) return err_prefix(&c->e, "--templates");
    out->item = out->kept;
    if (builtin && !strcmp(file, "builtin")) out->count = builtin;
    return true;
}

bool cli_say_text(cli *c, const tokenizer *tokens, const char *text, const char *within, size_t context) {
    char sentence[4096];
    size_t whole;
    const char *slot = within ? strstr(within, "{}") : NULL;
    int fits = slot ? snprintf(sentence, sizeof sentence, "%.*s%s%s", (int)(slot - within), within, text, slot + 2) : -1;
    const char *said = fits >= 0 && (size_t)fits < sizeof sentence ? sentence : text;
    if (!tokenizer_measure(tokens, said, &whole, &c->e)) return false;
    if (whole > context)
        cli_warn(c, "'%.60s%s' has %zu tokens, the model's context holds %zu: it is cut, the last %zu are not read", said,
                 strlen(said) > 60 ? "..." : "", whole, context, whole - context);
    if (text_misread(text))
        cli_warn(c, "'%.60s': looks like UTF-8 that was read as Latin-1; it is taken as it is", text);
    return true;
}

/* Words that no caption of the built-in model's training had, a few of them in one line. */
void cli_say_words(cli *c, const char *const *texts, size_t count) {
    enum { MOST = 5 };
    char line[256] = "", nearest[80] = "";
    size_t found = 0;
    if (!c->builtin || c->said_words) return;
    for (size_t i = 0; i < count; i++) {
        size_t n, words;
        for (const char *w = texts[i]; (w = world_unknown_word(w, &n)); w += n) {
            char word[40], quoted[48];
            snprintf(word, sizeof word, "%.*s", n < sizeof word ? (int)n : (int)sizeof word - 1, w);
            snprintf(quoted, sizeof quoted, "'%s'", word);
            if (strstr(line, quoted)) continue;
            if (found++ >= MOST) continue;
            snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", *line ? ", " : "", quoted);
            const char *const *known = world_words(&words), *meant = nearest_word(word, known, words);
            if (found == 1 && meant) snprintf(nearest, sizeof nearest, " (meant: %s?)", meant);
        }
    }
    if (!found) return;
    c->said_words = true;
    if (found > 1) nearest[0] = 0;
    cli_warn(c, "%s%s%s: in no caption that the built-in model was trained on, so it knows nothing of %s (drawn things and cut-outs: "
                "weights/README.md)", line, found > MOST ? "..." : "", nearest, found > 1 ? "them" : "it");
}

/* Each text once: within the longest template, where it is cut first. */
static bool say_texts(cli *c, const template_set *t, const char *const *texts, size_t count) {
    const tokenizer *tokens = checkpoint_tokenizer(c->weights, &c->e);
    const char *longest = NULL;
    for (size_t i = 0; i < t->count; i++)
        if (!longest || strlen(t->item[i]) > strlen(longest)) longest = t->item[i];
    for (size_t i = 0; tokens && i < count; i++)
        if (!cli_say_text(c, tokens, texts[i], longest, c->model->config.context)) return false;
    return tokens != NULL;
}

bool cli_embed(cli *c, const template_set *templates, const char *const *texts, size_t count, real **out) {
    enum { AT_ONCE = 64 }; /* sentences between two lines of progress; a text's bytes do not depend on the others */
    size_t each = templates->count && templates->count < AT_ONCE ? AT_ONCE / templates->count : templates->count ? 1 : AT_ONCE;
    size_t E = c->model->config.embed;
    if (!(*out = mem_alloc(count, E * sizeof **out))) return err_set(&c->e, "no memory for %zu texts", count);
    bool ok = say_texts(c, templates, texts, count);
    cli_say_words(c, texts, count);
    for (size_t i = 0, n; ok && i < count; i += n) {
        n = count - i < each ? count - i : each;
        cli_progress(c, "texts", i, count);
        ok = texts_embed(c->weights, texts + i, n, templates->item, templates->count, &c->memory, c->cores, *out + i * E, &c->e);
    }
    if (ok) return true;
    mem_free(*out);
    *out = NULL;
    return false;
}

bool cli_texts(cli *c, const text_options *o, real **out) {
    template_set templates;
    *out = NULL;
    if (!cli_templates(c, o, 0, &templates)) return false;
    mem_free(c->templates);
    c->template_count = templates.count;
    if (!(c->templates = templates.kept)) { /* of the flags: a list of our own, as flags_free comes before the end */
        if (!(c->templates = mem_alloc(templates.count, sizeof *c->templates))) return err_set(&c->e, "no memory for the templates");
        for (size_t i = 0; i < templates.count; i++) c->templates[i] = templates.item[i];
        templates.item = c->templates;
    }
    return !o->texts.count || cli_embed(c, &templates, o->texts.item, o->texts.count, out);
}

bool cli_usual(cli *c, const real **out) {
    err why = {0};
    if (!c->asked_usual && !texts_usual(c->weights, &c->memory, c->cores, &c->usual, &why)) return c->e = why, false;
    if (why.text[0]) cli_warn(c, "SigLIP's correction by \"a photo of a\" is left out: %s", why.text);
    c->asked_usual = true;
    *out = c->usual;
    return true;
}
