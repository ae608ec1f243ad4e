/* cmd_embed.c - maskinv embed: images, texts or ids to embeddings, one or a hundred thousand. */
#include "cli/inputs.h"
#include "cli/listed.h"
#include "cli/pictures.h"
#include "models/identity.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    common_options common;
    text_list images, masks, texts, ids;
    bool squash, keep_going, resume;
    size_t size;
    const char *list, *lines, *out;
} options;

static const flag flags[] = {
    {"image", 'i', FLAG_LIST, offsetof(options, images), "IMAGE", .many = true,
     .help = "a picture to embed; a folder: all in it, by their names; -: names on standard input"},
    {"list", 0, FLAG_TEXT, offsetof(options, list), "FILE", .help = "pictures to embed: their names, one a line"},
    {"mask", 'k', FLAG_LIST, offsetof(options, masks), "MASK", .many = true,
     .help = "AlphaCLIP: the region to look at, one for all pictures or one for each; not given: all of the picture"},
    {"text", 't', FLAG_LIST, offsetof(options, texts), "TEXT", .help = "a text to embed"},
    {"texts", 0, FLAG_TEXT, offsetof(options, lines), "FILE", .help = "texts to embed, one a line; -: on standard input"},
    {"ids", 0, FLAG_LIST, offsetof(options, ids), "IDS", .help = "token ids to embed, 1,2,3; nothing is added to them"},
    {"squash", 0, FLAG_SWITCH, offsetof(options, squash), NULL,
     .help = "squash pictures to a square instead of cropping their centre"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the square, a multiple of the patch; not given: the model's own"},
    {"keep-going", 0, FLAG_SWITCH, offsetof(options, keep_going), NULL,
     .help = "leave out a picture that cannot be read, and say so; its row in an npy is NaN, jsonl has no line for it"},
    {"resume", 0, FLAG_SWITCH, offsetof(options, resume), NULL,
     .help = "keep what is done in FILE.part, and go on from there when run again"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "FILE.npy", .required = true,
     .help = "where to write [count, E], float32, not normalised; FILE.jsonl: a line with name and numbers for each"},
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
    "(shorter side to N, centre crop). --squash overrides it. Many pictures and many texts are embedded together; a row's\n"
    "bytes do not depend on the others.",
    cmd_embed,
};

/* ---- pictures with regions (AlphaCLIP), one by one ---------------------------------------------------- */
/* With a region the picture is squashed too: the plane is the mask squashed (MODEL.md 1.15). */
static bool embed_region(cli *c, const char *path, const char *mask, size_t side, real *out) {
    const clip_config *config = &c->model->config;
    picture p;
    real *alpha = NULL;
    if (!picture_read(path, &p, &c->e)) return false;
    if (!inputs_alpha(c, mask, path, &p, side, &alpha)) return picture_free(&p), false;
    real *pixels = pixels_squash(&p, side, config->mean, config->std, &c->e);
    picture_free(&p);
    fault f = {0};
    bool ok = pixels && (clip_image_embed(c->model, pixels, alpha, side, side, &c->memory, c->cores, out, &f) || cli_fault(c, &f));
    mem_free(alpha);
    mem_free(pixels);
    return ok && (k_finite(out, config->embed) || err_set(&c->e, "%s: its embedding is not finite", path));
}

static bool embed_regions(cli *c, const text_list *given, size_t side, embedded *out) {
    const embed_list *l = out->list;
    if (given->count > 1 && given->count != l->count)
        return cli_usage(c, "--mask: %zu found for %zu pictures, one or as many expected", given->count, l->count);
    for (size_t i = 0; i < l->count; i++) {
        cli_progress(c, "embedding", i, l->count);
        if (out->state[i] != EMBED_OPEN) continue;
        if (!embed_region(c, l->names[i], given->item[given->count == 1 ? 0 : i], side, out->rows + i * l->embed) ||
            !embedded_put(out, i, EMBED_GOOD, &c->e))
            return false;
    }
    return true;
}

/* ---- ids and texts ---------------------------------------------------------------------------------- */
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

static bool embed_ids(cli *c, const char *text, real *out) {
    size_t most = c->model->config.context, count;
    if (!c->model->config.text.layers) return err_set(&c->e, "--ids: the model has no text side that is read: pictures only");
    uint32_t *ids = mem_alloc(most, sizeof *ids);
    if (!ids) return err_set(&c->e, "no memory for %zu ids", most);
    bool ok =
        parse_ids(c, text, ids, most, &count) && ids_embed(c->model, ids, 1, count, &c->memory, c->cores, out, &c->e);
    mem_free(ids);
    if (ok && !k_finite(out, c->model->config.embed))
        ok = err_set(&c->e, "--ids %s: its embedding is not finite", text);
    return ok;
}

static bool embed_each_ids(cli *c, embedded *out) {
    for (size_t i = 0; i < out->list->count; i++) {
        if (out->state[i] != EMBED_OPEN) continue;
        if (!embed_ids(c, out->list->names[i], out->rows + i * out->list->embed) || !embedded_put(out, i, EMBED_GOOD, &c->e))
            return false;
    }
    return true;
}

/* Texts that are open yet, CHUNK at a time. */
enum { CHUNK = 4096 };
static bool embed_texts(cli *c, embedded *out) {
    const tokenizer *tokens = checkpoint_tokenizer(c->weights, &c->e);
    size_t E = out->list->embed, most = out->list->count < CHUNK ? out->list->count : CHUNK, next = 0;
    const char **texts = tokens ? mem_alloc(most, sizeof *texts) : NULL;
    size_t *at = texts ? mem_alloc(most, sizeof *at) : NULL;
    real *rows = at ? mem_alloc(most, E * sizeof *rows) : NULL;
    bool ok = rows || (tokens && err_set(&c->e, "no memory for %zu texts", most));
    for (size_t count = 1; ok && count;) {
        for (count = 0; next < out->list->count && count < most; next++)
            if (out->state[next] == EMBED_OPEN) texts[count] = out->list->names[next], at[count++] = next;
        for (size_t i = 0; ok && i < count; i++) ok = cli_say_text(c, tokens, texts[i], NULL, c->model->config.context);
        if (ok) cli_say_words(c, texts, count);
        cli_progress(c, "embedding", count ? at[0] : 0, out->list->count);
        ok = ok && (!count || texts_embed_raw(c->weights, texts, count, &c->memory, c->cores, rows, &c->e));
        for (size_t i = 0; ok && i < count; i++) {
            if (!k_finite(rows + i * E, E)) ok = err_set(&c->e, "'%s': its embedding is not finite", texts[i]);
            if (!ok) break;
            memcpy(out->rows + at[i] * E, rows + i * E, E * sizeof *rows);
            ok = embedded_put(out, at[i], EMBED_GOOD, &c->e);
        }
    }
    mem_free(texts), mem_free(at), mem_free(rows);
    return ok;
}

/* ---- all of them -------------------------------------------------------------------------------------- */
/* A picture that is none is found before the work: each is read through, nothing of it kept. */
static bool look_at_pictures(cli *c, const item_list *names) {
    size_t width, height;
    for (size_t i = 0; i < names->count; i++)
        if (!picture_sides(names->item[i], &width, &height, &c->e)) return false;
    return true;
}

static bool gather(cli *c, const options *o, item_list *names, const char **kind) {
    const text_list *given = o->images.count || o->list ? &o->images : o->texts.count || o->lines ? &o->texts : &o->ids;
    bool ok = true, pictures = given == &o->images;
    *kind = pictures ? "image" : given == &o->texts ? "text" : "ids";
    for (size_t i = 0; ok && i < given->count; i++)
        ok = (pictures ? list_pictures : list_add)(names, given->item[i], &c->e);
    if (names->others) cli_warn(c, "%zu pictures of kinds that are not read are left out; PNG, JPEG and BMP are read", names->others);
    if (ok && pictures && o->list) ok = list_lines(names, o->list, &c->e);
    if (ok && !pictures && o->lines) ok = list_lines(names, o->lines, &c->e);
    return ok && (names->count || err_set(&c->e, "no names are listed"));
}

/* Pictures of another world than the built-in model's are said: of a long list the first ones are looked at. */
enum { LOOKED_AT = 16 };
static bool look_at_world(cli *c, const item_list *names) {
    for (size_t i = 0; c->builtin && !c->said_world && i < names->count && i < LOOKED_AT; i++) {
        picture p;
        err ignored = {0}; /* what cannot be read is said where it is embedded */
        if (!picture_read(names->item[i], &p, &ignored)) continue;
        bool ok = cli_look(c, names->item[i], &p);
        picture_free(&p);
        if (!ok) return false;
    }
    return true;
}

/* All that rows depend on but the names: the model and its pixels, whatever it is called, the flags, the masks. */
static uint64_t key_of(const cli *c, const options *o, const char *kind, size_t side) {
    const clip_config *m = &c->model->config;
    const clip_pixels *p = &m->pixels;
    const uint64_t how[] = {model_hash(c->model), side, o->squash, (uint64_t)p->resize, p->side, p->bilinear, p->crop_down,
                            p->fill[0], p->fill[1], p->fill[2], (uint64_t)m->act_vision, (uint64_t)m->act_text};
    const real numbers[] = {m->mean[0], m->mean[1], m->mean[2], m->std[0], m->std[1], m->std[2], m->vision.eps, m->text.eps};
    uint64_t key = embed_key(embed_key(embed_key(0, kind, strlen(kind) + 1), how, sizeof how), numbers, sizeof numbers);
    for (size_t i = 0; i < o->masks.count; i++) key = embed_key(key, o->masks.item[i], strlen(o->masks.item[i]) + 1);
    return key;
}

static bool embed(cli *c, const options *o) {
    item_list names = {0};
    embedded out = {0};
    picture_job job = {.squash = o->squash, .keep_going = o->keep_going};
    embed_list list = {.embed = c->model->config.embed};
    if (!cli_side(c, o->size, 1, &job.side) || (strcmp(o->out, "-") != 0 && !out_check(o->out, &c->e))) return false;
    bool ok = gather(c, o, &names, &list.kind);
    bool pictures = ok && !strcmp(list.kind, "image");
    list.names = (const char *const *)names.item, list.count = names.count;
    if (ok && o->resume) list.key = key_of(c, o, list.kind, job.side);
    ok = ok && (!pictures || o->keep_going || look_at_pictures(c, &names)) && (!pictures || look_at_world(c, &names)) &&
         embedded_open(&out, &list, o->out, o->resume, &c->e) &&
         (pictures && o->masks.count   ? embed_regions(c, &o->masks, job.side, &out)
          : pictures                   ? embed_pictures(c, &job, &out)
          : !strcmp(list.kind, "text") ? embed_texts(c, &out)
                                       : embed_each_ids(c, &out)) &&
         embedded_write(&out, &c->e);
    embedded_free(&out);
    list_free(&names);
    return ok;
}

int cmd_embed(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &embed_command, argc, argv, &o)) return c.code;
    int kinds = (o.images.count > 0 || o.list) + (o.texts.count > 0 || o.lines) + (o.ids.count > 0);
    if (o.resume && !strcmp(o.out, "-"))
        return cli_end(&c, &o, cli_usage(&c, "--resume: --out - found, a file that can be gone on with is expected"));
    if (kinds != 1)
        return cli_end(&c, &o, cli_usage(&c, "one of --image, --text and --ids is needed, %d found", kinds));
    if (o.masks.count && !o.images.count && !o.list)
        return cli_end(&c, &o, cli_usage(&c, "--mask: a region of a picture, --image is needed"));
    bool ok = cli_open_model_for(&c, &o.common, o.images.count || o.list ? CHECK_IMAGE : CHECK_TEXT);
    return cli_end(&c, &o, ok && embed(&c, &o));
}
