/* cmd_caption.c - maskinv caption: each region in a sentence; or, over a set of scenes, how often the sentence is right.
 *
 * A region's embedding, by MaskInversion or what it is compared with, goes to the captioner as a picture's would. CoCa tells whole
 * pictures by its own decoder.
 */
#include "cli/embedding.h"
#include "parts/captioner.h"
#include "scenes/grammar.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    region_options region;
    const char *captioner, *method, *scenes, *length;
    size_t size, beams, most, count;
    bool ids, squash;
} options; /* method and length: NULL until it is known that they are obeyed */

static const flag flags[] = {
    {"image", 'i', FLAG_TEXT, offsetof(options, region.image), "IMAGE", .help = "the photograph"},
    {"mask", 'k', FLAG_LIST, offsetof(options, region.masks), "MASK", .many = true,
     .help = "a region, as invert has it; none and no box: the whole picture is told"},
    {"box", 0, FLAG_LIST, offsetof(options, region.boxes), "X,Y,W,H",
     .help = "a region: a rectangle, in pixels of the photograph"},
    {"labels", 0, FLAG_SWITCH, offsetof(options, region.labels), NULL,
     .help = "a region of every label in each mask file, but 0 and the border, 255"},
    {"captioner", 0, FLAG_TEXT, offsetof(options, captioner), "FOLDER",
     .help = "ClipCap's published weights with GPT-2's tokenizer beside them (weights/get clipcap-coco), or the file that train "
             "caption made; not given: CoCa's own decoder where the model has one, else the captioner inside this binary"},
    {"method", 0, FLAG_CHOICE, offsetof(options, method),
     REGION_EMBEDDERS, .help = "how a region is embedded; not given: maskinv"},
    {"scenes", 0, FLAG_TEXT, offsetof(options, scenes), "DIR",
     .help = "instead of --image: a set made by maskinv scenes; prints how often the first noun is right"},
    {"count", 0, FLAG_COUNT, offsetof(options, count), "N", 1, 1e9, .help = "scenes of the set; not given: all"},
    {"beams", 0, FLAG_COUNT, offsetof(options, beams), "N", 1, 64, .standard = "1",
     .help = "sentences followed at once; 1: the likeliest word each time"},
    {"most", 0, FLAG_COUNT, offsetof(options, most), "N", 1, 256, .help = "words or pieces of a sentence; not given: 67, CoCa's 30"},
    {"length", 0, FLAG_CHOICE, offsetof(options, length), "picture|own|both",
     .help = "of a region's embedding, for ClipCap's perceptron, which saw whole pictures' alone: as long as the whole picture's, "
             "as it is, or a sentence of each; not given: picture"},
    {"squash", 0, FLAG_SWITCH, offsetof(options, squash), NULL,
     .help = "CoCa: squash the picture to a square instead of going the way that the model's files name"},
    {"ids", 0, FLAG_SWITCH, offsetof(options, ids), NULL, .help = "print token ids in place of words"},
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
    "built-in model knows; ClipCap's speaks of photographs and takes the model that it was trained for, OpenAI's ViT-B/32.",
    cmd_caption,
};

typedef struct {
    cli c;
    options o;
    region_embedder how;
    captioner *says;
    real *vectors; /* [SCENE_MOST_OBJECTS or masks, E] */
} job;

/* ---- regions ----------------------------------------------------------------------------------------------- */
static const mask_image *no_mask(void *arg, size_t i, err *e) { return (void)i, (void)e, (const mask_image *)arg; }

/* |c|, the length of the whole picture's embedding */
static bool picture_length(job *j, const picture *photo, double *length) {
    region_embedder whole = j->how;
    mask_image none = {0};
    size_t E = j->c.model->config.embed;
    real *z = mem_alloc(E, sizeof *z);
    whole.method = region_method_find("cls");
    bool ok = (z || err_set(&j->c.e, "no memory for an embedding")) && embed_regions(&whole, photo, no_mask, &none, 1, z);
    *length = ok ? sqrt((double)k_dot(z, z, E)) : 0;
    mem_free(z);
    return ok;
}

/* (12.6)  e |c|/|e|, where the captioner reads lengths and e is no picture's embedding */
static void set_length(real *e, size_t E, double length) {
    double own = sqrt((double)k_dot(e, e, E));
    for (size_t i = 0; own > 0 && i < E; i++) e[i] = (real)((double)e[i] * length / own);
}

static bool tell(job *j, const real *embedding, captioner_said *said) {
    captioner_way way = {j->o.beams, j->o.most};
    return captioner_say(j->says, embedding, &way, &j->c.memory, j->c.cores, said, &j->c.e);
}

/* What is said of the regions of a photograph; with --length both also, into other, of the embeddings as they are. */
static bool sentences(job *j, const picture *photo, region_mask *mask, void *arg, size_t count, captioner_said *said, captioner_said *other) {
    size_t mark = arena_mark(&j->c.memory), E = j->c.model->config.embed;
    bool scaled = captioner_reads_length(j->says) && j->how.method->family != REGION_PICTURE && strcmp(j->o.length, "own");
    double length = 0;
    bool ok = embed_regions(&j->how, photo, mask, arg, count, j->vectors) && (!scaled || picture_length(j, photo, &length));
    for (size_t i = 0; ok && i < count; i++) {
        ok = !other || tell(j, j->vectors + i * E, &other[i]);
        if (scaled) set_length(j->vectors + i * E, E, length);
        ok = ok && tell(j, j->vectors + i * E, &said[i]);
    }
    arena_reset(&j->c.memory, mark);
    return ok;
}

static void print_said(const job *j, const char *before, const uint32_t *ids, size_t count, const char *text) {
    fputs(before, stdout);
    if (!j->o.ids) fputs(text, stdout);
    for (size_t i = 0; j->o.ids && i < count; i++) printf(i ? " %lu" : "%lu", (unsigned long)ids[i]);
}

/* ---- one photograph -------------------------------------------------------------------------------------- */
/* count regions, 0: the whole picture; names from the report. */
static bool tell_each(job *j, const picture *photo, region_mask *mask, void *arg, const report *r, size_t count) {
    bool both = !strcmp(j->o.length, "both");
    size_t n = count ? count : 1;
    captioner_said *said = mem_alloc(n, 2 * sizeof *said);
    j->vectors = mem_alloc(n, j->c.model->config.embed * sizeof *j->vectors);
    bool ok = ((said && j->vectors) || err_set(&j->c.e, "no memory for %zu regions", n)) &&
              sentences(j, photo, mask, arg, n, said, both ? said + n : NULL);
    for (size_t i = 0; ok && i < n; i++) {
        fputs(count ? r->regions[i].name : j->o.region.image, stdout);
        print_said(j, "\t", said[i].ids, said[i].count, said[i].text);
        if (both) print_said(j, "\t", said[n + i].ids, said[n + i].count, said[n + i].text);
        putchar('\n');
    }
    mem_free(said);
    return ok;
}

static bool tell_whole(job *j) {
    picture photo = {0};
    mask_image none = {0};
    j->how.method = region_method_find("cls");
    bool ok = picture_read(j->o.region.image, &photo, &j->c.e) && cli_look(&j->c, j->o.region.image, &photo) &&
              tell_each(j, &photo, no_mask, &none, NULL, 0);
    picture_free(&photo);
    return ok;
}

static bool tell_regions(job *j) {
    picture photo = {0};
    masks m = {0};
    report r = {.embed = j->c.model->config.embed};
    bool ok = inputs_open(&j->c, &j->o.region, &r, 0, &photo, &m) && tell_each(j, &photo, embed_mask_of_file, &m, &r, r.count);
    inputs_close(&r, &photo, &m);
    return ok;
}

/* ---- CoCa: its decoder reads the picture's tokens (MODEL.md 1.26) ------------------------------------------- */
/* The picture as the model's own files say it, through the tower, to what the decoder looks at. */
static ag_tensor *coca_image(ag_tape *t, const clip_model *m, const real *pixels, size_t side) {
    size_t gh, gw;
    if (!clip_grid(&m->config, side, side, &gh, &gw)) return NULL;
    clip_run run = clip_image_run(t, m, gh, gw);
    ag_tensor *x = clip_embed(t, m, clip_patches(t, m, pixels, side, side), gh, gw, POSITION_BICUBIC);
    return clip_caption_image(t, m, clip_blocks(t, &run, m->blocks, x, 0, m->config.vision.layers));
}

static bool coca_say(job *j, const real *pixels, size_t side, uint32_t *ids, size_t *count) {
    const clip_model *m = j->c.model;
    clip_caption_options o = clip_caption_defaults(&m->config);
    ag_tape t;
    if (j->o.most) o.most = j->o.most;
    if (j->o.beams) o.beams = j->o.beams;
    if (!ag_tape_init(&t, &j->c.memory, j->c.cores, 64)) return cli_fault(&j->c, &t.fault);
    t.recording = false;
    ag_tensor *image = coca_image(&t, m, pixels, side);
    return (image && clip_caption(&t, m, image, &o, ids, count)) || cli_fault(&j->c, &t.fault);
}

static bool tell_coca(job *j) {
    cli *c = &j->c;
    const clip_config *m = &c->model->config;
    picture photo = {0};
    uint32_t ids[256];
    size_t count = 0, side;
    char line[CAPTIONER_TEXT] = "", *said = NULL;
    const tokenizer *words = j->o.ids ? NULL : checkpoint_tokenizer(c->weights, &c->e);
    if (!j->o.ids && !words) return false;
    if (!checkpoint_check_side(c->weights, CHECK_TEXT, &c->e) || !cli_side(c, j->o.size, 1, &side) ||
        !picture_read(j->o.region.image, &photo, &c->e))
        return false;
    real *pixels = j->o.squash ? pixels_squash(&photo, side, m->mean, m->std, &c->e) : pixels_own(&photo, side, m, &c->e);
    picture_free(&photo);
    bool ok = pixels && coca_say(j, pixels, side, ids, &count) && (j->o.ids || (said = tokenizer_decode(words, ids, count, &c->e)));
    if (said) captioner_line(said, line, sizeof line);
    if (ok) fputs(j->o.region.image, stdout), print_said(j, "\t", ids, count, line), putchar('\n');
    mem_free(said), mem_free(pixels);
    return ok;
}

/* ---- a set of scenes ---------------------------------------------------------------------------------------- */
typedef struct { /* how often each word was true */
    size_t kinds, count[32];
    char word[32][16];
} word_counts;

typedef struct {
    size_t regions, right, other, unread, coloured, colour_right, textured, texture_right;
    word_counts colours, textures; /* of the regions themselves: what always saying the commonest would get */
} tally;

static void count_word(word_counts *w, const char *word) {
    size_t i = 0;
    while (i < w->kinds && strcmp(w->word[i], word)) i++;
    if (i == sizeof w->count / sizeof *w->count) return;
    if (i == w->kinds) w->kinds++, snprintf(w->word[i], sizeof *w->word, "%s", word);
    w->count[i]++;
}

static size_t commonest(const word_counts *w) {
    size_t most = 0;
    for (size_t i = 0; i < w->kinds; i++) most = w->count[i] > most ? w->count[i] : most;
    return most;
}

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
    if (said.colour[0]) t->coloured++, t->colour_right += !strcmp(said.colour, s->object[k].colour), count_word(&t->colours, s->object[k].colour);
    const char *texture = said.texture[0] ? said.texture : "plain";
    if (s->object[k].texture[0])
        t->textured++, t->texture_right += !strcmp(texture, s->object[k].texture), count_word(&t->textures, s->object[k].texture);
}

static bool tell_scene(job *j, const scene_record *s, tally *t) {
    picture photo = {0};
    mask_image exact[SCENE_MOST_OBJECTS];
    captioner_said said[SCENE_MOST_OBJECTS];
    size_t read;
    bool ok = embed_scene(&j->c, s, &photo, exact, &read);
    ok = ok && sentences(j, &photo, embed_mask_of_list, exact, s->objects, said, NULL);
    for (size_t k = 0; ok && k < s->objects; k++) judge(t, s, k, said[k].text);
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
    print_share("... always the commonest", commonest(&t.colours), t.coloured);
    print_share("texture", t.texture_right, t.textured);
    print_share("... always the commonest", commonest(&t.textures), t.textured);
    print_share("not to be parsed", t.unread, t.regions);
    return true;
}

/* What would not be obeyed is refused; what may be and was not given is as usual. */
static bool settle(job *j, bool whole) {
    options *o = &j->o;
    if (whole && (o->method || o->length))
        return cli_usage(&j->c, "%s: it is for regions, and the whole picture is told; -k or --box gives a region", o->method ? "--method" : "--length");
    const cli_stray photo[] = {{"--mask", o->region.masks.count}, {"--box", o->region.boxes.count}, {"--labels", o->region.labels}, {"--ids", o->ids}},
                    scenes[] = {{"--count", o->count}}, files[] = {{"--labels", o->region.labels && !o->region.masks.count}};
    if (o->scenes && !cli_no_strays(&j->c, photo, 4, "it is for --image; scenes bring their masks, and words are judged")) return false;
    if (!o->scenes && (!cli_no_strays(&j->c, scenes, 1, "it is for --scenes") || !cli_no_strays(&j->c, files, 1, "it is of --mask's files"))) return false;
    if (o->scenes && o->length && !strcmp(o->length, "both")) return cli_usage(&j->c, "--length both: of a scene one sentence is judged");
    if (!o->method) o->method = "maskinv";
    return true;
}

static bool caption(void *arg) {
    job *j = arg;
    bool whole = j->o.region.image && !j->o.region.masks.count && !j->o.region.boxes.count;
    if (!j->o.region.image == !j->o.scenes) return cli_usage(&j->c, "one of --image and --scenes is needed");
    if (!settle(j, whole) || !cli_open_model(&j->c, &j->o.common)) return false;
    const clip_config *m = &j->c.model->config;
    if (m->decoder.layers && !j->o.captioner) {
        if (whole) return tell_coca(j);
        return err_set(&j->c.e, "%s: its own decoder reads %zu tokens of the whole picture, not a region's one embedding: --captioner for regions",
                       j->o.common.model, m->queries - 1);
    }
    if (j->o.squash) return cli_usage(&j->c, "--squash: it is for CoCa's own decoder; other pictures are squashed as it is");
    j->says = j->o.captioner ? captioner_open(j->o.captioner, m->embed, &j->c.e) : captioner_builtin(m->embed, &j->c.e);
    if (j->says && j->o.length && !captioner_reads_length(j->says))
        return cli_usage(&j->c, "--length: it is for ClipCap's perceptron, this captioner hears no embedding's length");
    if (!j->o.length) j->o.length = "picture";
    return j->says && embedder_open(&j->how, &j->c, j->o.method, j->o.size) &&
           (j->o.scenes ? tell_scenes(j) : whole ? tell_whole(j) : tell_regions(j));
}

static void give_back(void *arg) {
    job *j = arg;
    captioner_free(j->says);
    mem_free(j->vectors);
}

int cmd_caption(int argc, char **argv) {
    return cli_run(&caption_command, argc, argv, sizeof(job), offsetof(job, o), caption, give_back);
}
