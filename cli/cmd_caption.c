/* cmd_caption.c - maskinv caption: each region in a sentence; or, over a set of scenes, how often the sentence is right.
 *
 * A region's embedding, by MaskInversion or what it is compared with, goes to the captioner as a picture's would.
 */
#include "cli/embedding.h"
#include "parts/captioner.h"
#include "scenes/grammar.h"
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
     REGION_EMBEDDERS, .standard = "maskinv",
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
    region_embedder how;
    captioner *says;
    float *vectors; /* [SCENE_MOST_OBJECTS or masks, E] */
} job;

/* The sentences [count] for the regions of a photograph. */
static bool sentences(job *j, const picture *photo, region_mask *mask, void *arg, size_t count, char (*text)[SENTENCE]) {
    size_t mark = arena_mark(&j->c.memory), E = j->c.model->config.embed;
    bool ok = embed_regions(&j->how, photo, mask, arg, count, j->vectors);
    for (size_t i = 0; ok && i < count; i++)
        ok = captioner_say(j->says, j->vectors + i * E, j->o.beams, &j->c.memory, j->c.cores, text[i], SENTENCE, &j->c.e);
    arena_reset(&j->c.memory, mark);
    return ok;
}

/* ---- one photograph -------------------------------------------------------------------------------------- */
static bool tell_whole(job *j) {
    picture photo = {0};
    mask_image none = {0};
    char text[1][SENTENCE];
    j->how.method = region_method_find("cls");
    j->vectors = mem_alloc(1, j->c.model->config.embed * sizeof *j->vectors);
    bool ok = (j->vectors || err_set(&j->c.e, "no memory for an embedding")) &&
              picture_read(j->o.region.image, &photo, &j->c.e) && cli_look(&j->c, j->o.region.image, &photo) &&
              sentences(j, &photo, embed_mask_of_list, &none, 1, text);
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
    ok = ok && sentences(j, &photo, embed_mask_of_file, &m, r.count, text);
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
    size_t read;
    bool ok = embed_scene(&j->c, s, &photo, exact, &read);
    ok = ok && sentences(j, &photo, embed_mask_of_list, exact, s->objects, text);
    for (size_t k = 0; ok && k < s->objects; k++) judge(t, s, k, text[k]);
    for (size_t i = 0; i < read; i++) mask_free(&exact[i]);
    picture_free(&photo);
    return ok;
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
    printf("%s: first noun, per cent with 95 %% intervals\n", j->how.method->name);
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
    j->says = j->o.captioner ? captioner_open(j->o.captioner, m->embed, &j->c.e) : captioner_builtin(m->embed, &j->c.e);
    return j->says && embedder_open(&j->how, &j->c, j->o.method, j->o.size) &&
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
