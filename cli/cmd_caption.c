/* cmd_caption.c - maskinv caption: each region in a sentence; or, over a set of scenes, how often the sentence is right.
 *
 * A region's embedding, by MaskInversion or what it is compared with, goes to the captioner as a picture's would.
 */
#include "cli/inputs.h"
#include "eval/evalstat.h"
#include "maskinv.h"
#include "parts/captioner.h"
#include "regions/regions.h"
#include "scenes/grammar.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    region_options region;
    const char *captioner, *method, *scenes;
    size_t size, beams, count;
} options;

static const flag flags[] = {
    {"image", 'i', FLAG_TEXT, offsetof(options, region.image), "IMAGE", .help = "the photograph"},
    {"mask", 'k', FLAG_LIST, offsetof(options, region.masks), "MASK", .many = true,
     .help = "a region, as invert has it; none and no box: the whole picture is told"},
    {"box", 0, FLAG_LIST, offsetof(options, region.boxes), "X,Y,W,H",
     .help = "a region: a rectangle, in pixels of the photograph"},
    {"labels", 0, FLAG_SWITCH, offsetof(options, region.labels), NULL,
     .help = "a region of every label in each mask file, but 0 and the border, 255"},
    {"captioner", 0, FLAG_TEXT, offsetof(options, captioner), "FILE",
     .help = "what train caption made; not given: the captioner inside this binary"},
    {"method", 0, FLAG_CHOICE, offsetof(options, method),
     "cls|crop|maskedcrop|redcircle|blur|greyscale|pool|surgery|maskinv", .standard = "maskinv",
     .help = "how a region is embedded"},
    {"scenes", 0, FLAG_TEXT, offsetof(options, scenes), "DIR",
     .help = "instead of --image: a set made by maskinv scenes; prints how often the first noun is right"},
    {"count", 0, FLAG_COUNT, offsetof(options, count), "N", 1, 1e9, .help = "scenes of the set; not given: all"},
    {"beams", 0, FLAG_COUNT, offsetof(options, beams), "N", 1, 64, .standard = "1",
     .help = "sentences followed at once; 1: the likeliest word each time"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: the model's image"},
    CLI_COMMON_FLAGS(options),
};

const command caption_command = {
    "caption",
    "a sentence for each region",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "Prints a line for each region: its name, a tab, the sentence. The built-in captioner speaks of the drawn world that the\n"
    "built-in model knows.",
    cmd_caption,
};

enum { SENTENCE = 400 };
typedef struct {
    cli c;
    options o;
    const region_method *how;
    captioner *says;
    size_t side, layers;
    invert_options invert;
    float *vectors; /* [SCENE_MOST_OBJECTS or masks, E] */
} job;

/* ---- a region's embedding ------------------------------------------------------------------------------ */
static bool inverted(job *j, const picture *photo, region_mask *mask, void *arg, size_t count) {
    const clip_config *m = &j->c.model->config;
    explained x;
    fault f = {0};
    explain_options eo = {.layers = j->layers, .steps = j->invert.iters};
    float *pixels = pixels_squash(photo, j->side, m->mean, m->std, &j->c.e);
    bool ok = pixels && (explain_open(&x, j->c.model, pixels, j->side, j->side, &eo, &j->c.memory, j->c.cores, &f) ||
                         cli_fault(&j->c, &f));
    mem_free(pixels);
    real *losses = ok ? arena_alloc(&j->c.memory, j->invert.iters, sizeof *losses) : NULL;
    for (size_t i = 0; ok && i < count; i++) {
        size_t mark = arena_mark(&j->c.memory);
        const mask_image *k = mask(arg, i, &j->c.e);
        invert_result r = {.embedding = j->vectors + i * m->embed, .losses = losses};
        ok = k && (maskinv_invert(&x, k->soft, k->height, k->width, &j->invert, &r, &f) || cli_fault(&j->c, &f));
        arena_reset(&j->c.memory, mark);
    }
    return ok;
}

/* The sentences [count] for the regions of a photograph. */
static bool sentences(job *j, const picture *photo, region_mask *mask, void *arg, size_t count, char (*text)[SENTENCE]) {
    size_t mark = arena_mark(&j->c.memory), E = j->c.model->config.embed;
    region_settings o = {.side = j->side};
    bool ok = j->how->family == REGION_INVERT ? inverted(j, photo, mask, arg, count)
                                              : regions_embed_each(j->how, &o, j->c.model, photo, mask, arg, count,
                                                                   &j->c.memory, j->c.cores, j->vectors, &j->c.e);
    for (size_t i = 0; ok && i < count; i++)
        ok = captioner_say(j->says, j->vectors + i * E, j->o.beams, &j->c.memory, j->c.cores, text[i], SENTENCE, &j->c.e);
    arena_reset(&j->c.memory, mark);
    return ok;
}

static const mask_image *mask_of_file(void *arg, size_t i, err *e) { return masks_at(arg, i, e); }
static const mask_image *mask_of_list(void *arg, size_t i, err *e) { return (void)e, (const mask_image *)arg + i; }

/* ---- one photograph -------------------------------------------------------------------------------------- */
static bool tell_whole(job *j) {
    picture photo = {0};
    mask_image none = {0};
    char text[1][SENTENCE];
    j->how = region_method_find("cls");
    j->vectors = mem_alloc(1, j->c.model->config.embed * sizeof *j->vectors);
    bool ok = (j->vectors || err_set(&j->c.e, "no memory for an embedding")) &&
              picture_read(j->o.region.image, &photo, &j->c.e) && sentences(j, &photo, mask_of_list, &none, 1, text);
    if (ok) printf("%s\t%s\n", j->o.region.image, text[0]);
    picture_free(&photo);
    return ok;
}

static bool tell_regions(job *j) {
    picture photo = {0};
    masks m = {0};
    report r = {.embed = j->c.model->config.embed};
    char(*text)[SENTENCE] = NULL;
    bool ok = inputs_open(&j->c, &j->o.region, &r, 0, &photo, &m);
    if (ok) text = mem_alloc(r.count, sizeof *text), j->vectors = mem_alloc(r.count, r.embed * sizeof *j->vectors);
    if (ok && !(text && j->vectors)) ok = err_set(&j->c.e, "no memory for %zu regions", r.count);
    ok = ok && sentences(j, &photo, mask_of_file, &m, r.count, text);
    for (size_t i = 0; ok && i < r.count; i++) printf("%s\t%s\n", r.regions[i].name, text[i]);
    inputs_close(&r, &photo, &m);
    mem_free(text);
    return ok;
}

/* ---- a set of scenes ---------------------------------------------------------------------------------------- */
typedef struct {
    size_t regions, right, other, unread, coloured, colour_right, textured, texture_right;
} tally;

/* What the sentence says first, against object k of the scene. */
static void judge(tally *t, const scene_record *s, size_t k, const char *text) {
    scene_object said;
    t->regions++;
    if (!grammar_first(text, &said)) {
        t->unread++;
        return;
    }
    bool right = !strcmp(said.name, s->object[k].name), other = false;
    for (size_t i = 0; i < s->objects; i++) other = other || (i != k && !strcmp(said.name, s->object[i].name));
    t->right += right, t->other += !right && other;
    if (said.colour[0]) t->coloured++, t->colour_right += !strcmp(said.colour, s->object[k].colour);
    const char *texture = said.texture[0] ? said.texture : "plain";
    if (s->object[k].texture[0]) t->textured++, t->texture_right += !strcmp(texture, s->object[k].texture);
}

static bool tell_scene(job *j, const scene_record *s, tally *t) {
    picture photo = {0};
    mask_image exact[SCENE_MOST_OBJECTS];
    char text[SCENE_MOST_OBJECTS][SENTENCE];
    size_t read = 0;
    bool ok = picture_read(s->image, &photo, &j->c.e);
    for (; ok && read < s->objects; read += ok) ok = mask_read(s->object[read].mask, &exact[read], &j->c.e);
    ok = ok && sentences(j, &photo, mask_of_list, exact, s->objects, text);
    for (size_t k = 0; ok && k < s->objects; k++) judge(t, s, k, text[k]);
    for (size_t i = 0; i < read; i++) mask_free(&exact[i]);
    picture_free(&photo);
    return ok;
}

static void print_share(const char *what, size_t hits, size_t n) {
    estimate w = wilson(hits, n);
    printf("  %-22s %5.1f [%.1f, %.1f] of %zu\n", what, n ? 100 * (double)hits / (double)n : NAN, 100 * w.low, 100 * w.high, n);
}

static bool tell_scenes(job *j) {
    scene_reader *r = scene_reader_open(j->o.scenes, &j->c.e);
    scene_record *s = mem_alloc(1, sizeof *s);
    tally t = {0};
    j->vectors = mem_alloc(SCENE_MOST_OBJECTS, j->c.model->config.embed * sizeof *j->vectors);
    bool ok = r && ((s && j->vectors) || err_set(&j->c.e, "no memory for a scene"));
    for (size_t n = 0; ok && (!j->o.count || n < j->o.count); n++) {
        scene_reading got = scene_reader_next(r, s, &j->c.e);
        if (got == SCENE_END) break;
        cli_progress(&j->c, "scenes", n, j->o.count);
        ok = got == SCENE_READ && tell_scene(j, s, &t);
    }
    if (r) scene_reader_free(r);
    mem_free(s);
    cli_progress_end(&j->c);
    if (!ok) return false;
    printf("%s: first noun, per cent with 95 %% intervals\n", j->how->name);
    print_share("the region's", t.right, t.regions);
    print_share("another of the scene", t.other, t.regions);
    print_share("colour, where said", t.colour_right, t.coloured);
    print_share("texture", t.texture_right, t.textured);
    print_share("not to be parsed", t.unread, t.regions);
    return true;
}

static bool caption(job *j) {
    bool whole = !j->o.region.masks.count && !j->o.region.boxes.count;
    if (!j->o.region.image == !j->o.scenes) return cli_usage(&j->c, "one of --image and --scenes is needed");
    if (!cli_open_model(&j->c, &j->o.common)) return false;
    const clip_config *m = &j->c.model->config;
    j->how = region_method_find(j->o.method);
    j->invert = cli_invert(m, 0, NAN, NAN);
    j->layers = m->invert.layers ? m->invert.layers : 1;
    j->says = j->o.captioner ? captioner_open(j->o.captioner, m->embed, &j->c.e) : captioner_builtin(m->embed, &j->c.e);
    return j->says && cli_side(&j->c, j->o.size, 1, &j->side) && 
           (j->o.scenes ? tell_scenes(j) : whole ? tell_whole(j) : tell_regions(j));
}

int cmd_caption(int argc, char **argv) {
    job *j = mem_alloc(1, sizeof *j);
    int code = 1;
    if (!j) return fprintf(stderr, "maskinv caption: no memory\n"), code;
    if (!cli_begin(&j->c, &caption_command, argc, argv, &j->o)) {
        code = j->c.code;
        mem_free(j);
        return code;
    }
    bool ok = caption(j);
    captioner_free(j->says);
    mem_free(j->vectors);
    code = cli_end(&j->c, &j->o, ok);
    mem_free(j);
    return code;
}
