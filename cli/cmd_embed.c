/* cmd_embed.c - maskinv embed: images, texts or ids to embeddings. */
#include "cli/inputs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    common_options common;
    text_list images, masks, texts, ids;
    bool squash;
    size_t size;
    const char *out;
} options;

static const flag flags[] = {
    {"image", 'i', FLAG_LIST, offsetof(options, images), "IMAGE", .many = true, .help = "a picture to embed"},
    {"mask", 'k', FLAG_LIST, offsetof(options, masks), "MASK", .many = true,
     .help = "AlphaCLIP: the region to look at, one for all pictures or one for each; not given: all of the picture"},
    {"text", 't', FLAG_LIST, offsetof(options, texts), "TEXT", .help = "a text to embed"},
    {"ids", 0, FLAG_LIST, offsetof(options, ids), "IDS", .help = "token ids to embed, 1,2,3; nothing is added to them"},
    {"squash", 0, FLAG_SWITCH, offsetof(options, squash), NULL,
     .help = "squash pictures to a square instead of cropping their centre"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the square, a multiple of the patch; not given: the model's own"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "FILE.npy", .required = true,
     .help = "where to write [count, E], float32, not normalised"},
    CLI_COMMON_FLAGS(options),
};

const command embed_command = {
    "embed",
    "embeddings of pictures or texts",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "Pictures go the way that the model's own files name; where they are silent, through the standard CLIP transform\n"
    "(shorter side to N, centre crop). --squash overrides it.",
    cmd_embed,
};

static bool all_finite(const float *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

/* ---- one image, or one list of ids, into out [E] --------------------------------------------------- */
/* With a region the picture is squashed too: the plane is the mask squashed (MODEL.md 1.15). */
static bool embed_image(cli *c, const options *o, size_t i, size_t side, float *out) {
    const clip_config *config = &c->model->config;
    const char *path = o->images.item[i], *mask = o->masks.count ? o->masks.item[o->masks.count == 1 ? 0 : i] : NULL;
    picture p;
    float *alpha = NULL;
    if (!picture_read(path, &p, &c->e)) return false;
    if (mask && !inputs_alpha(c, mask, path, &p, side, &alpha)) return picture_free(&p), false;
    float *pixels = o->squash || mask ? pixels_squash(&p, side, config->mean, config->std, &c->e)
                              : pixels_own(&p, side, config, &c->e);
    picture_free(&p);
    fault f = {0};
    bool ok = pixels && (clip_image_embed(c->model, pixels, alpha, side, side, &c->memory, c->cores, out, &f) || cli_fault(c, &f));
    mem_free(alpha);
    mem_free(pixels);
    if (ok && !all_finite(out, config->embed)) ok = err_set(&c->e, "%s: its embedding is not finite", path);
    return ok;
}

static bool parse_ids(cli *c, const char *text, uint32_t *ids, size_t most, size_t *count) {
    const char *p = text;
    for (*count = 0;; p++) {
        size_t digits = strspn(p, "0123456789");
        unsigned long id = digits && digits < 10 ? strtoul(p, NULL, 10) : UINT32_MAX;
        p += digits;
        if (!digits || (*p && *p != ','))
            return err_set(&c->e, "--ids: '%s' found, numbers with commas expected", text);
        if (id >= c->model->config.vocab)
            return err_set(&c->e, "--ids: %.*s found, 0 to %zu allowed", (int)digits, p - digits,
                           c->model->config.vocab - 1);
        if (*count == most) return err_set(&c->e, "--ids: more than %zu found, the model's context", most);
        ids[(*count)++] = (uint32_t)id;
        if (!*p) return true;
    }
}

static bool embed_ids(cli *c, const char *text, float *out) {
    size_t most = c->model->config.context, count;
    uint32_t *ids = mem_alloc(most, sizeof *ids);
    if (!ids) return err_set(&c->e, "no memory for %zu ids", most);
    bool ok =
        parse_ids(c, text, ids, most, &count) && ids_embed(c->model, ids, 1, count, &c->memory, c->cores, out, &c->e);
    mem_free(ids);
    if (ok && !all_finite(out, c->model->config.embed))
        ok = err_set(&c->e, "--ids %s: its embedding is not finite", text);
    return ok;
}

static bool embed_text(cli *c, const char *text, float *out) {
    const tokenizer *tokens = checkpoint_tokenizer(c->weights, &c->e);
    size_t most = c->model->config.context, count;
    uint32_t *ids = tokens ? mem_alloc(most, sizeof *ids) : NULL;
    if (!ids) return tokens ? err_set(&c->e, "no memory for %zu ids", most) : false;
    bool ok = cli_say_text(c, tokens, text, NULL, most) && tokenizer_encode(tokens, text, ids, most, &count, &c->e) &&
              ids_embed(c->model, ids, 1, count, &c->memory, c->cores, out, &c->e);
    mem_free(ids);
    if (ok && !all_finite(out, c->model->config.embed)) ok = err_set(&c->e, "'%s': its embedding is not finite", text);
    return ok;
}

/* A picture that is none is found before the work: each is read through, nothing of it kept. */
static bool look_at_pictures(cli *c, const options *o) {
    size_t width, height;
    for (size_t i = 0; i < o->images.count; i++)
        if (!picture_sides(o->images.item[i], &width, &height, &c->e)) return false;
    return true;
}

/* ---- all of them -------------------------------------------------------------------------------------- */
static bool embed(cli *c, const options *o) {
    size_t count = o->images.count + o->texts.count + o->ids.count, embed = c->model->config.embed, side;
    if (!cli_side(c, o->size, 1, &side) || (strcmp(o->out, "-") != 0 && !out_check(o->out, &c->e))) return false;
    float *out = mem_alloc(count, embed * sizeof *out);
    if (!out) return err_set(&c->e, "no memory for %zu embeddings", count);
    bool ok = look_at_pictures(c, o);
    for (size_t i = 0; ok && i < count; i++) {
        float *row = out + i * embed;
        cli_progress(c, "embedding", i, count);
        ok = o->images.count  ? embed_image(c, o, i, side, row)
             : o->texts.count ? embed_text(c, o->texts.item[i], row)
                              : embed_ids(c, o->ids.item[i], row);
    }
    ok = ok && (strcmp(o->out, "-") ? npy_write : npy_print)(o->out, out, (size_t[]){count, embed}, 2, &c->e);
    mem_free(out);
    return ok;
}

int cmd_embed(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &embed_command, argc, argv, &o)) return c.code;
    int kinds = (o.images.count > 0) + (o.texts.count > 0) + (o.ids.count > 0);
    if (kinds != 1)
        return cli_end(&c, &o, cli_usage(&c, "one of --image, --text and --ids is needed, %d found", kinds));
    if (o.masks.count > 1 && o.masks.count != o.images.count)
        return cli_end(&c, &o, cli_usage(&c, "--mask: %zu found for %zu pictures, one or as many expected", o.masks.count, o.images.count));
    if (o.masks.count && !o.images.count) return cli_end(&c, &o, cli_usage(&c, "--mask: a region of a picture, --image is needed"));
    check_side side = o.images.count ? CHECK_IMAGE : CHECK_TEXT;
    return cli_end(&c, &o, cli_open_model_for(&c, &o.common, side) && embed(&c, &o));
}
