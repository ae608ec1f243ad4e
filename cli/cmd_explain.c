/* cmd_explain.c - maskinv explain: which parts of a picture speak for a text or an embedding, by any of the methods.
 *
 * In this order: model, settings, photograph, texts or embeddings and folder are looked at first; then each method runs
 * (one forward pass for all texts) and its maps are written; the sheet and the points come last.
 */
#include "cli/dense_flags.h"
#include "cli/inputs.h"
#include "files/json.h"
#include "methods.h"
#include "pictures/sheet.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    const char *image, *mask, *embeddings, *method, *out;
    text_options text;
    size_t size, layers, blocks;
    bool points, argmax, multi, grids;
    method_flags method_flags;
    size_t pamr;
    const char *dilations;
} options;

#define CHOICE(name, what, source, family, blocks, free, ...) name "|"
#define IN_WORDS(name, what, source, family, blocks, free, ...) "  " name ": " what " (" source ")\n"

static const flag flags[] = {
    {"image", 'i', FLAG_TEXT, offsetof(options, image), "IMAGE", .required = true, .help = "the photograph"},
    {"mask", 'k', FLAG_TEXT, offsetof(options, mask), "MASK",
     .help = "AlphaCLIP: the region that it is to look at; not given: all of the picture"},
    CLI_TEXT_FLAGS(options),
    {"embeddings", 'e', FLAG_TEXT, offsetof(options, embeddings), "FILE.npy",
     .help = "embeddings [count, E] to explain instead of texts: what invert wrote, say"},
    {"method", 0, FLAG_CHOICE, offsetof(options, method), METHOD_LIST(CHOICE) "all", .standard = "legrad",
     .help = "how to explain; all: one after the other"},
    {"layers", 0, FLAG_COUNT, offsetof(options, layers), "N", 1, 1e6,
     .help = "last layers that LeGrad explains; not given: 2"},
    {"blocks", 0, FLAG_COUNT, offsetof(options, blocks), "N", 1, 1e6,
     .help = "last blocks that the other methods change or look at; not given: as their authors have it"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: the model's config, else twice the model's image"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .help = "folder for the maps; not needed with --points"},
    {"multi", 0, FLAG_SWITCH, offsetof(options, multi), NULL, .help = "all maps in one sheet, DIR/maps.png"},
    {"argmax", 0, FLAG_SWITCH, offsetof(options, argmax), NULL,
     .help = "which text speaks loudest at each pixel: DIR/argmax.png, a palette picture of the texts' numbers, and "
             "DIR/argmax.legend.png to look at"},
    {"points", 0, FLAG_SWITCH, offsetof(options, points), NULL,
     .help = "print the points that CLIP Surgery hands to SAM, as JSON"},
    {"grids", 0, FLAG_SWITCH, offsetof(options, grids), NULL,
     .help = "DIR/grids.npy too: [texts, gh, gw], what the method says of each patch, before enlarging and min-max"},
    CLI_PAMR_FLAGS(options, pamr, dilations),
    CLI_METHOD_FLAGS(options),
    CLI_COMMON_FLAGS(options),
};

const command explain_command = {
    "explain",
    "maps of what speaks for a text or an embedding",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "DIR gets 0.map.npy, 1.map.npy... [size, size] in 0..1, and 0.map.png... as heat over the photograph, one for "
    "each\n"
    "text or row; with --method all METHOD.0.map.npy... Where no template is given, naclip, sclip, clearclip, resclip "
    "and\n"
    "scclip take the 80 published for ImageNet and Surgery those and its 5, as their code does; with one text it compares "
    "with\n"
    "the empty text.\n\n"
    "Methods:\n" METHOD_LIST(IN_WORDS),
    cmd_explain,
};

/* ---- the job ---------------------------------------------------------------------------------------- */
enum { METHODS_MOST = 32 };

typedef struct {
    cli c;
    options o;
    picture photo;
    size_t side, count;
    const method *methods[METHODS_MOST];
    size_t method_count;
    real *pixels;       /* [3,side,side] */
    real *alpha;        /* [side,side] of --mask; NULL: none */
    real *rows;         /* [count,E] unit: the texts, or the embeddings */
    real *own_rows[2];  /* the same in the 80 or 85 templates of methods that have their own (OWN), unless told otherwise */
    real *empty;        /* [E] the empty text, for Surgery of one text; NULL: not to be had, no_empty says why */
    err no_empty;
    const char **names;  /* [count] */
    char (*numbers)[32]; /* names of embeddings */
    sheet sheet;
    size_t drawn; /* maps on the sheet */
    cJSON *points;
    pamr refine; /* with --pamr: the photograph's edges, for all methods */
    size_t dilations[PAMR_DILATIONS], dilation_count;
    char none_names[240]; /* methods that this model has no map for, why, and how many */
    const char *none_why;
    size_t none, none_here;
    size_t flat; /* maps that are the same everywhere, and the first of them */
    char flat_name[160];
} job;

static bool knows_texts(const method *how) { return how->family != FAMILY_ATTENTION; }
static bool one_method(const job *j) { return j->method_count == 1; }

static bool any_surgery(const job *j) {
    for (size_t i = 0; i < j->method_count; i++)
        if (j->methods[i]->together) return true;
    return false;
}

/* ---- settings ----------------------------------------------------------------------------------------- */
/* What the flag table cannot say; usage errors. */
static bool choose(job *j) {
    const options *o = &j->o;
    const method *how = method_find(o->method);
    bool texts = o->text.texts.count > 0;
    if (texts == (o->embeddings != NULL))
        return cli_usage(&j->c, "one of --text and --embeddings is needed, %s found", texts ? "both" : "none");
    if (!o->out && (!o->points || o->argmax || o->multi))
        return cli_usage(&j->c, "--out DIR is needed (maskinv explain --help)");
    if (!cli_dilations(&j->c, o->dilations, j->dilations, &j->dilation_count)) return false;
    for (size_t i = 0; i < method_count() && i < METHODS_MOST; i++)
        if (!how || how == method_at(i)) j->methods[j->method_count++] = method_at(i);
    if (!how && o->points) return cli_usage(&j->c, "--points: one --method expected, all found");
    if (!how) return true;
    if (o->layers && how->family != FAMILY_LEGRAD)
        return cli_usage(&j->c, "--layers is legrad's, %s found; the others take --blocks", how->name);
    if (!cli_method_fits(&j->c, &o->method_flags, how->name)) return false;
    if (o->blocks && how->family == FAMILY_LEGRAD) return cli_usage(&j->c, "--blocks: legrad takes --layers");
    if (o->blocks && !how->free) return cli_usage(&j->c, "--blocks: %s leaves no choice of them", how->name);
    if (o->argmax && !knows_texts(how)) return cli_usage(&j->c, "--argmax: %s does not depend on the text", how->name);
    return true;
}

static bool check_depth(job *j, const char *name, size_t asked) {
    size_t depth = clip_depth(&j->c.model->config);
    if (one_method(j)) depth = method_depth(j->methods[0], &j->c.model->config);
    if (asked <= depth) return true;
    return err_set(&j->c.e, "--%s: %zu found, 1 to %zu allowed, the model's depth", name, asked, depth);
}

/* ---- inputs --------------------------------------------------------------------------------------------- */
static bool read_embeddings(job *j) {
    size_t embed = j->c.model->config.embed;
    const char *path = j->o.embeddings;
    npy_array a;
    if (!npy_read(path, &a, &j->c.e)) return false;
    size_t cols = a.rank == 2 ? a.shape[1] : a.rank == 1 ? a.shape[0] : 0;
    j->count = a.rank == 2 ? a.shape[0] : 1;
    if (a.rank == 0 || a.rank > 2 || cols != embed || !j->count) {
        err_set(&j->c.e, "%s: rank %zu, %zu rows of %zu found, [count, %zu] expected by this model", path, a.rank,
                a.rank == 1 || a.rank == 2 ? j->count : 0, cols, embed);
        npy_free(&a);
        return false;
    }
    j->rows = mem_alloc(j->count, embed * sizeof *j->rows);
    if (j->rows) memcpy(j->rows, a.data, j->count * embed * sizeof *j->rows);
    npy_free(&a);
    if (!j->rows) return err_set(&j->c.e, "%s: no memory for %zu rows", path, j->count);
    for (size_t i = 0; i < j->count; i++) {
        real length = unit(j->rows + i * embed, embed);
        if (!(isfinite(length) && length > 0))
            return err_set(&j->c.e, "%s: row %zu is of length %g, a direction expected", path, i, (double)length);
    }
    return true;
}

static const size_t OWN[2] = {80, 85};

static bool any_with(const job *j, size_t templates) {
    for (size_t i = 0; i < j->method_count; i++)
        if (j->methods[i]->templates == templates) return true;
    return false;
}

/* The texts as the flags have them, or as the methods' authors do where the flags say nothing; Surgery's empty text. */
static bool embed_texts(job *j) {
    const text_options *o = &j->o.text;
    bool own = !o->templates.count && (!o->file || !strcmp(o->file, "builtin")), ok = true;
    if (!j->o.embeddings && !cli_texts(&j->c, o, &j->rows)) return false;
    for (size_t i = 0; own && ok && !j->o.embeddings && i < 2; i++) {
        template_set t = {0};
        if (!any_with(j, OWN[i])) continue;
        ok = cli_templates(&j->c, o, OWN[i], &t) && cli_embed(&j->c, &t, o->texts.item, j->count, &j->own_rows[i]);
        mem_free(t.kept);
    }
    if (!ok || !any_surgery(j)) return ok;
    template_set surgery = {0};
    ok = cli_templates(&j->c, o, 85, &surgery);
    if (ok && j->count == 1 && !cli_embed(&j->c, &surgery, (const char *const[]){""}, 1, &j->empty))
        ok = err_prefix(&j->c.e, "the empty text, for surgery of one %s", j->o.embeddings ? "row" : "text");
    mem_free(surgery.kept);
    if (ok || one_method(j)) return ok;
    j->no_empty = j->c.e, j->c.e.text[0] = 0; /* the others go on; left_out says why Surgery does not */
    return true;
}

static bool name_rows(job *j) {
    j->names = mem_alloc(j->count, sizeof *j->names);
    j->numbers = mem_alloc(j->count, sizeof *j->numbers);
    if (!j->names || !j->numbers) return err_set(&j->c.e, "no memory for %zu names", j->count);
    for (size_t i = 0; i < j->count; i++) {
        snprintf(j->numbers[i], sizeof j->numbers[i], "row %zu", i);
        j->names[i] = j->o.embeddings ? j->numbers[i] : j->o.text.texts.item[i];
    }
    return true;
}

static bool read_inputs(job *j) {
    const clip_config *m = &j->c.model->config;
    if (!check_depth(j, "layers", j->o.layers) || !check_depth(j, "blocks", j->o.blocks)) return false;
    if (!cli_side(&j->c, j->o.size, 2, &j->side) || !picture_read(j->o.image, &j->photo, &j->c.e)) return false;
    if (!cli_look(&j->c, j->o.image, &j->photo)) return false;
    j->count = j->o.text.texts.count;
    if (j->o.embeddings && !read_embeddings(j)) return false;
    if (j->o.argmax && (j->count < 2 || j->count > CLASS_MOST))
        return err_set(&j->c.e, "--argmax: 2 to %d texts or rows expected, %zu found", CLASS_MOST, j->count);
    if (!name_rows(j) || !embed_texts(j)) return false;
    char first[64];
    snprintf(first, sizeof first, "%s%s0.map.npy", one_method(j) ? "" : j->methods[0]->name, one_method(j) ? "" : ".");
    if (j->o.out && !cli_folder(&j->c, j->o.out, first)) return false;
    if (j->o.mask && !inputs_alpha(&j->c, j->o.mask, j->o.image, &j->photo, j->side, &j->alpha)) return false;
    j->pixels = pixels_squash(&j->photo, j->side, m->mean, m->std, &j->c.e);
    return j->pixels != NULL;
}

/* ---- outputs of one method --------------------------------------------------------------------------------- */
typedef struct {
    explainer x;
    const method *how;
    size_t cells;
    real *grids; /* [count, cells] */
    real *map;   /* [side, side] */
    bool none;
} run;

/* DIR/[METHOD.]what */
static bool path_of(job *j, const run *r, char *path, size_t room, const char *what) {
    const char *name = one_method(j) ? "" : r->how->name, *dot = one_method(j) ? "" : ".";
    if ((size_t)snprintf(path, room, "%s/%s%s%s", j->o.out, name, dot, what) < room) return true;
    return err_set(&j->c.e, "%s: the path is too long", j->o.out);
}

static bool write_map(job *j, const run *r, size_t i) {
    char path[4096], name[40];
    if (!j->o.out) return true;
    snprintf(name, sizeof name, "%zu.map.npy", i);
    if (!path_of(j, r, path, sizeof path, name)) return false;
    if (!npy_write(path, r->map, (size_t[]){j->side, j->side}, 2, &j->c.e)) return false;
    snprintf(name, sizeof name, "%zu.map.png", i);
    return path_of(j, r, path, sizeof path, name) &&
           overlay_write(path, &j->photo, r->map, j->side, j->side, NULL, &j->c.e);
}

static bool add_to_sheet(job *j, const run *r, size_t i, bool flat) {
    char name[200];
    if (!j->o.multi || (i > 0 && !knows_texts(r->how))) return true;
    if (one_method(j) && knows_texts(r->how))
        snprintf(name, sizeof name, "%.180s%s", j->names[i], flat ? ": flat" : "");
    else
        snprintf(name, sizeof name, "%s: %.150s%s", r->how->name, knows_texts(r->how) ? j->names[i] : "any text",
                 flat ? ": flat" : "");
    return sheet_map(&j->sheet, j->drawn++, name, flat ? NULL : r->map, j->side, j->side, &j->c.e);
}

/* PAMR at the photograph's size, guided by what the network sees of it. */
static bool open_pamr_there(job *j, pamr *refine) {
    size_t w = j->photo.width, h = j->photo.height, side = j->side * j->side;
    fault f = {0};
    real *guide = mem_alloc(3 * w, h * sizeof *guide);
    if (!guide) return err_set(&j->c.e, "no memory for PAMR of %zu x %zu pixels", w, h);
    for (size_t c = 0; c < 3; c++) map_resize(j->pixels + c * side, j->side, j->side, guide + c * w * h, h, w);
    bool ok = pamr_open(refine, guide, 3, h, w, j->dilations, j->dilation_count, 1, &j->c.memory, j->c.cores, &f);
    mem_free(guide);
    return ok ? true : cli_fault(&j->c, &f);
}

/* The text whose raw relevance is largest, at the photograph's size; ties go to the first. */
static bool write_argmax(job *j, const run *r) {
    size_t w = j->photo.width, h = j->photo.height, n = w * h;
    unsigned char palette[CLASS_MOST][3], *index = mem_alloc(n, 1);
    real *here = mem_alloc(n, sizeof *here), *best = mem_alloc(n, sizeof *best);
    char path[4096];
    pamr refine;
    bool ok = index && here && best;
    if (!ok) err_set(&j->c.e, "no memory for a class map of %zu x %zu pixels", w, h);
    if (ok && j->o.pamr) ok = open_pamr_there(j, &refine);
    for (size_t c = 0; ok && c < j->count; c++) {
        class_colour(c, palette[c]);
        map_resize(r->grids + c * r->cells, r->x.gh, r->x.gw, here, h, w);
        if (j->o.pamr) pamr_refine(&refine, here, 1, j->o.pamr);
        for (size_t i = 0; i < n; i++)
            if (c == 0 || here[i] > best[i]) best[i] = here[i], index[i] = (unsigned char)c;
    }
    ok = ok && path_of(j, r, path, sizeof path, "argmax.png") &&
         palette_write_png(path, index, w, h, (const unsigned char(*)[3])palette, j->count, &j->c.e) &&
         path_of(j, r, path, sizeof path, "argmax.legend.png") &&
         legend_write(path, &j->photo, index, j->names, j->count, false, j->c.line, &j->c.e);
    mem_free(index);
    mem_free(here);
    mem_free(best);
    return ok;
}

/* ---- points, as SamPredictor.predict takes them: point_coords [k][x, y], point_labels [k] -------------------- */
static bool add_number(cJSON *array, double v) {
    cJSON *number = array ? cJSON_CreateNumber(v) : NULL;
    if (number && cJSON_AddItemToArray(array, number)) return true;
    cJSON_Delete(number);
    return false;
}

static bool add_point(cJSON *coords, cJSON *labels, const map_point *p) {
    cJSON *pair = coords ? cJSON_CreateArray() : NULL;
    if (!pair || !cJSON_AddItemToArray(coords, pair)) return cJSON_Delete(pair), false;
    return add_number(pair, (double)p->x) && add_number(pair, (double)p->y) && add_number(labels, p->positive);
}

static bool points_to_json(cJSON *to, const char *name, const map_point *points, size_t count) {
    cJSON *item = to ? cJSON_CreateObject() : NULL;
    if (!item || !cJSON_AddItemToArray(to, item)) return cJSON_Delete(item), false;
    cJSON *coords = json_add_text(item, "text", name) ? cJSON_AddArrayToObject(item, "point_coords") : NULL;
    cJSON *labels = coords ? cJSON_AddArrayToObject(item, "point_labels") : NULL;
    bool ok = labels != NULL;
    for (size_t k = 0; ok && k < count; k++) ok = add_point(coords, labels, &points[k]);
    return ok;
}

static bool add_points(job *j, run *r, size_t i) {
    size_t count, mark = arena_mark(&j->c.memory);
    fault f = {0};
    if (!j->o.points) return true;
    map_point *points = arena_alloc(&j->c.memory, r->cells + 2, sizeof *points);
    if (!points) return err_set(&j->c.e, "--memory: %zu bytes are too little", j->c.memory.size);
    if (!method_points(&r->x, r->grids + i * r->cells, j->photo.height, j->photo.width, points, &count, &f))
        return cli_fault(&j->c, &f), err_prefix(&j->c.e, "points of '%s'", j->names[i]);
    bool ok = points_to_json(cJSON_GetObjectItem(j->points, "texts"), j->names[i], points, count);
    arena_reset(&j->c.memory, mark);
    return ok ? true : err_set(&j->c.e, "no memory for the points");
}

static bool begin_points(job *j) {
    if (!j->o.points) return true;
    j->points = cJSON_CreateObject();
    if (j->points && cJSON_AddStringToObject(j->points, "method", j->methods[0]->name) &&
        cJSON_AddNumberToObject(j->points, "width", (double)j->photo.width) &&
        cJSON_AddNumberToObject(j->points, "height", (double)j->photo.height) &&
        cJSON_AddArrayToObject(j->points, "texts"))
        return true;
    return err_set(&j->c.e, "no memory for the points");
}

static bool print_points(job *j) {
    if (!j->o.points) return true;
    char *text = cJSON_PrintUnformatted(j->points);
    if (!text) return err_set(&j->c.e, "no memory for the points");
    puts(text);
    cJSON_free(text);
    return true;
}

/* ---- methods -------------------------------------------------------------------------------------------------- */
static bool write_grids(job *j, const run *r) {
    char path[4096];
    if (!j->o.grids || !j->o.out) return true;
    return path_of(j, r, path, sizeof path, "grids.npy") &&
           npy_write(path, r->grids, (size_t[]){j->count, r->x.gh, r->x.gw}, 3, &j->c.e);
}

/* The texts' rows for this method. */
static const real *rows_of(const job *j, const method *how) {
    for (size_t i = 0; i < 2; i++)
        if (how->templates == OWN[i] && j->own_rows[i]) return j->own_rows[i];
    return j->rows;
}

/* Those of one reason in one sentence. */
static void say_left_out(job *j) {
    if (j->none_here) cli_warn(&j->c, "%s: %s", j->none_names, j->none_why);
    j->none_here = 0;
}

/* Has this family of models nothing that the method looks at? With --method all that is said, and the others go on. */
static bool left_out(job *j, const run *r, const fault *f) {
    const char *why = f->code ? f->why : j->no_empty.text;
    if (one_method(j) || (f->code && f->code != FAULT_FAMILY)) return false;
    if (j->none_here && j->none_why != why) say_left_out(j);
    size_t used = j->none_here ? strlen(j->none_names) : 0;
    snprintf(j->none_names + used, sizeof j->none_names - used, "%s%s", used ? ", " : "", r->how->name);
    j->none_why = why, j->none_here++, j->none++;
    return true;
}

/* r->none: there is no map of it, and that was said. */
static bool open_run(job *j, run *r) {
    fault f = {0};
    size_t blocks = r->how->family == FAMILY_LEGRAD ? j->o.layers : r->how->free ? j->o.blocks : 0;
    method_settings settings = method_defaults();
    cli_method_settings(&j->o.method_flags, &settings);
    const real *usual = NULL;
    if (r->how->family == FAMILY_LEGRAD && !cli_usual(&j->c, &usual)) return false;
    const method_options with = {.blocks = blocks, .settings = &settings, .usual = usual, .alpha = j->alpha};
    bool ok = !(r->how->together && j->no_empty.text[0]) &&
              method_open(&r->x, r->how, j->c.model, j->pixels, j->side, j->side, &with, &j->c.memory, j->c.cores, &f);
    if (!ok && (r->none = left_out(j, r, &f))) return true;
    r->cells = r->x.gh * r->x.gw;
    r->grids = ok ? arena_alloc(&j->c.memory, j->count, r->cells * sizeof *r->grids) : NULL;
    r->map = r->grids ? arena_alloc(&j->c.memory, j->side, j->side * sizeof *r->map) : NULL;
    if (ok && !r->map)
        return err_set(&j->c.e, "--memory: %zu bytes are too little for %zu maps", j->c.memory.size, j->count);
    ok = ok && method_grids(&r->x, rows_of(j, r->how), j->count, j->empty, r->grids, &f);
    return ok ? true : (cli_fault(&j->c, &f), f.code == FAULT_FAMILY ? false : err_prefix(&j->c.e, "%s", r->how->name));
}

/* PAMR of the map in 0..1, which is brought to 0..1 again: what is refined is a mean of its neighbours, never beyond them. */
static void refine_map(job *j, real *map) {
    real low = map[0], high = map[0];
    pamr_refine(&j->refine, map, 1, j->o.pamr);
    for (size_t i = 0; i < j->side * j->side; i++) low = map[i] < low ? map[i] : low, high = map[i] > high ? map[i] : high;
    for (size_t i = 0; high > low && i < j->side * j->side; i++) map[i] = (map[i] - low) / (high - low);
}

/* A map that is the same everywhere is no map; the others are still worth having. */
static bool run_text(job *j, run *r, size_t i) {
    fault f = {0};
    bool flat = !method_map(&r->x, r->grids + i * r->cells, r->map, &f);
    if (flat && f.code != FAULT_FLAT)
        return cli_fault(&j->c, &f), err_prefix(&j->c.e, "%s of '%s'", r->how->name, j->names[i]);
    if (!flat && j->o.pamr) refine_map(j, r->map);
    if (flat && !j->flat++) snprintf(j->flat_name, sizeof j->flat_name, "%s of '%.100s'", r->how->name, j->names[i]);
    if (flat) return add_to_sheet(j, r, i, true);
    return write_map(j, r, i) && add_to_sheet(j, r, i, false) && add_points(j, r, i);
}

/* Its tiles stay blank. */
static bool say_none(job *j, const run *r) {
    char name[200];
    for (size_t i = 0; j->o.multi && i < (knows_texts(r->how) ? j->count : 1); i++) {
        snprintf(name, sizeof name, "%s: no map", r->how->name);
        if (!sheet_map(&j->sheet, j->drawn++, name, NULL, j->side, j->side, &j->c.e)) return false;
    }
    return true;
}

static bool run_method(job *j, size_t index) {
    run r = {.how = j->methods[index]};
    size_t mark = arena_mark(&j->c.memory);
    cli_progress(&j->c, r.how->name, index, j->method_count);
    bool ok = open_run(j, &r);
    if (r.none) {
        arena_reset(&j->c.memory, mark);
        return say_none(j, &r);
    }
    ok = ok && write_grids(j, &r);
    for (size_t i = 0; ok && i < j->count; i++) ok = run_text(j, &r, i);
    if (ok && j->o.argmax && knows_texts(r.how)) ok = write_argmax(j, &r);
    arena_reset(&j->c.memory, mark);
    return ok;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */
static bool open_sheet(job *j) {
    size_t maps = 0;
    char title[256];
    if (!j->o.multi) return true;
    for (size_t i = 0; i < j->method_count; i++) maps += knows_texts(j->methods[i]) ? j->count : 1;
    snprintf(title, sizeof title, "%.200s  %zu x %zu", checkpoint_name(j->c.weights), j->side, j->side);
    return sheet_open_grid(&j->sheet, &j->photo, maps, title, &j->c.e);
}

/* --pamr: the edges of the picture as the network sees it. */
static bool open_pamr(job *j) {
    fault f = {0};
    return !j->o.pamr || pamr_open(&j->refine, j->pixels, 3, j->side, j->side, j->dilations, j->dilation_count, 1, &j->c.memory,
                                   j->c.cores, &f) || cli_fault(&j->c, &f);
}

static bool write_sheet(job *j) {
    char path[4096];
    if (!j->o.multi) return true;
    if ((size_t)snprintf(path, sizeof path, "%s/maps.png", j->o.out) >= sizeof path)
        return err_set(&j->c.e, "%s: the path is too long", j->o.out);
    sheet_foot(&j->sheet, j->c.line);
    return picture_write_png(path, &j->sheet.page, &j->c.e);
}

/* The side, and the layers of LeGrad's map. */
static void say_settings(const job *j) {
    const method *legrad = method_find("legrad");
    size_t depth = clip_depth(&j->c.model->config), usual = legrad->blocks < depth ? legrad->blocks : depth;
    cli_say_side(&j->c, j->side);
    for (size_t i = 0; i < j->method_count; i++)
        if (j->methods[i] == legrad) cli_say_layers(j->o.layers ? j->o.layers : usual, j->o.layers ? "--layers" : "LeGrad's");
}

static bool explain(void *arg) {
    job *j = arg;
    if (!choose(j) || !cli_open_model(&j->c, &j->o.common) || !read_inputs(j)) return false;
    if (!open_sheet(j) || !begin_points(j) || !open_pamr(j)) return false;
    for (size_t i = 0; i < j->method_count; i++)
        if (!run_method(j, i)) return false;
    say_left_out(j);
    if (!write_sheet(j) || !print_points(j)) return false;
    if (j->none == j->method_count) return err_set(&j->c.e, "no method has a map of this model");
    if (!j->o.points) say_settings(j);
    if (!j->flat) return true;
    size_t all = j->method_count * j->count;
    static const char flat[] = "%zu of %zu maps are the same everywhere and were not written, the first: %s";
    if (one_method(j)) return err_set(&j->c.e, flat, j->flat, all, j->flat_name);
    cli_warn(&j->c, flat, j->flat, all, j->flat_name);
    return true;
}

static void give_back(void *arg) {
    job *j = arg;
    mem_free(j->rows);
    mem_free(j->own_rows[0]), mem_free(j->own_rows[1]);
    mem_free(j->empty);
    mem_free(j->names);
    mem_free(j->numbers);
    mem_free(j->pixels);
    mem_free(j->alpha);
    cJSON_Delete(j->points);
    picture_free(&j->photo);
    sheet_free(&j->sheet);
}

int cmd_explain(int argc, char **argv) {
    return cli_run(&explain_command, argc, argv, sizeof(job), offsetof(job, o), explain, give_back);
}
