/* texts.c - the texts and templates of the flags, embedded (see cli.h). */
#include "cli/cli.h"

bool cli_templates(cli *c, const text_options *o, bool builtin, template_set *out) {
    const char *file = o->file ? o->file : builtin && !o->templates.count ? "builtin" : NULL;
    *out = (template_set){o->templates.item, o->templates.count, NULL};
    if (o->file && o->templates.count)
        return cli_usage(c, "--template and --templates: one of them expected, both found");
    if (!file) return true;
    if (!templates_read(file, &out->kept, &out->count, &c->e)) return err_prefix(&c->e, "--templates");
    out->item = out->kept;
    return true;
}

bool cli_embed(cli *c, const template_set *templates, const char *const *texts, size_t count, float **out) {
    if (!(*out = mem_alloc(count, c->model->config.embed * sizeof **out)))
        return err_set(&c->e, "no memory for %zu texts", count);
    if (texts_embed(c->weights, texts, count, templates->item, templates->count, &c->memory, c->cores, *out, &c->e))
        return true;
    mem_free(*out);
    *out = NULL;
    return false;
}

bool cli_texts(cli *c, const text_options *o, float **out) {
    template_set templates;
    *out = NULL;
    bool ok = cli_templates(c, o, false, &templates);
    ok = ok && (!o->texts.count || cli_embed(c, &templates, o->texts.item, o->texts.count, out));
    mem_free(templates.kept);
    return ok;
}
