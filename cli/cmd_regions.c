/* cmd_regions.c - maskinv regions: an embedding for each mask, by MaskInversion or what it is compared with.
 *
 * The same files as invert writes; where a method makes its own picture, that picture too, as the network saw it.
 */
#include "cli/cli.h"
#include "maskinv.h"
#include "regions/regions.h"
#include "cli/inputs.h"
#include "pictures/sheet.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    region_options region;
    const char *method, *out;
    text_options text;
    size_t size, blocks, iters, layers;
    double lr, alpha;
    bool json;
} options;

static const flag flags[] = {
    {"method", 0, FLAG_CHOICE, offsetof(options, method),
     "cls|crop|maskedcrop|redcircle|blur|greyscale|fgvp|ris|alphaclip|pool|surgery|maskinv", .required = true,
     .help = "how a region is embedded"},
    CLI_REGION_FLAGS(options),
    CLI_TEXT_FLAGS(options),
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .help = "folder for the results; not given: only the table"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: the model's image, twice that for pool, "
             "surgery "
             "and maskinv"},
    {"blocks", 0, FLAG_COUNT, offsetof(options, blocks), "N", 1, 1e6,
     .help = "pool, surgery: last blocks that are changed; not given: 1 and 6"},
    {"iters", 0, FLAG_COUNT, offsetof(options, iters), "K", 1, 1e6, .help = "maskinv: steps, as invert has it"},
    {"lr", 0, FLAG_NUMBER, offsetof(options, lr), "LR", 0, 1e6, .help = "maskinv: AdamW's step, as invert has it"},
    {"alpha", 0, FLAG_NUMBER, offsetof(options, alpha), "A", 0, 1e6,
     .help = "maskinv: hold on the image's embedding, as invert has it"},
    {"layers", 0, FLAG_COUNT, offsetof(options, layers), "N", 1, 1e6,
     .help = "maskinv: last layers explained, as invert has it"},
    {"json", 0, FLAG_SWITCH, offsetof(options, json), NULL, .help = "print result.json instead of the table"},
    CLI_COMMON_FLAGS(options),
};

const command regions_command = {
    "regions",
    "region embeddings by other methods",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "DIR gets embeddings.npy [masks, E] float32, not normalised, and result.json; maskinv: NAME.map.npy and "
    "NAME.map.png;\n"
    "crop, maskedcrop, redcircle, blur, greyscale, fgvp: NAME.seen.png, what the network saw. NAME is the mask's file name.",
    cmd_regions,
};

typedef struct {
    cli c;
    options o;
    const region_method *how;
    picture photo;
    masks masks; /* [r.count] */
    report r;
    real *texts;   /* [texts, E] unit */
    real *vectors; /* [masks, E] */
    real *image;   /* [E] */
    size_t side;
    invert_options invert;
    size_t layers;
} job;

/* ---- inputs ----------------------------------------------------------------------------------------- */
static bool settings(job *j) {
    const clip_config *m = &j->c.model->config;
    j->how = region_method_find(j->o.method);
    j->invert = cli_invert(m, j->o.iters, j->o.lr, j->o.alpha);
    if (!cli_layers(&j->c, j->o.layers, clip_depth(m), &j->layers)) return false;
    if (j->o.blocks > clip_depth(m))
        return err_set(&j->c.e, "--blocks: %zu found, 1 to %zu allowed, the model's depth", j->o.blocks, clip_depth(m));
    return cli_side(&j->c, j->o.size, j->how->sides, &j->side);
}

/* ---- what goes out beside the report ------------------------------------------------------------------- */
static bool path_in(job *j, const char *name, const char *ending, char path[4096]) {
    if ((size_t)snprintf(path, 4096, "%s/%s.%s", j->o.out, name, ending) < 4096) return true;
    return err_set(&j->c.e, "%s/%s.%s: the path is too long", j->o.out, name, ending);
}

static bool write_seen(job *j) {
    for (size_t i = 0; j->o.out && j->how->masked && !j->how->alpha && i < j->r.count; i++) {
        char path[4096];
        picture seen;
        if (!path_in(j, j->r.regions[i].name, "seen.png", path)) return false;
        const mask_image *mask = masks_at(&j->masks, i, &j->c.e);
        if (!mask || !region_picture(j->how, &j->photo, mask, j->side, j->c.model->config.mean, &seen, &j->c.e))
            return false;
        bool ok = picture_write_png(path, &seen, &j->c.e);
        picture_free(&seen);
        if (!ok) return false;
    }
    return true;
}

static bool write_map(job *j, size_t i, const mask_image *m, const real *map) {
    char path[4096];
    const char *name = j->r.regions[i].name;
    if (!path_in(j, name, "map.npy", path) || !npy_write(path, map, (size_t[]){m->height, m->width}, 2, &j->c.e))
        return false;
    return path_in(j, name, "map.png", path) && overlay_write(path, &j->photo, map, m->height, m->width, m, &j->c.e);
}

static const mask_image *mask_at(void *arg, size_t i, err *e) {
    job *j = arg;
    cli_progress(&j->c, "masks", i, j->r.count);
    return masks_at(&j->masks, i, e);
}

/* ---- the methods ------------------------------------------------------------------------------------------ */
static bool embed(job *j) {
    const clip_config *m = &j->c.model->config;
    region_settings o = {.side = j->side, .blocks = j->o.blocks};
    if (!regions_embed_each(j->how, &o, j->c.model, &j->photo, mask_at, j, j->r.count, &j->c.memory, j->c.cores,
                            j->vectors, &j->c.e))
        return false;
    o.side = m->image;
    return (j->how->family != REGION_PICTURE || write_seen(j)) &&
           regions_embed_each(region_method_find("cls"), &o, j->c.model, &j->photo, mask_at, j, 1, &j->c.memory,
                              j->c.cores, j->image, &j->c.e);
}

static bool invert_mask(job *j, explained *x, size_t i) {
    const mask_image *m = masks_at(&j->masks, i, &j->c.e);
    if (!m) return false;
    size_t K = j->invert.iters, pixels = m->width * m->height, mark = arena_mark(&j->c.memory);
    fault f = {0};
    real *losses = arena_alloc(&j->c.memory, K, sizeof *losses), *map = arena_alloc(&j->c.memory, pixels, sizeof *map);
    if (!map)
        return err_set(&j->c.e, "--memory: %zu bytes are too little for a map of %zu pixels", j->c.memory.size, pixels);
    invert_result result = {.embedding = j->vectors + i * j->r.embed, .losses = losses, .map_after = map};
    if (!maskinv_invert(x, m->soft, m->height, m->width, &j->invert, &result, &f))
        return cli_fault(&j->c, &f), err_prefix(&j->c.e, "%s", j->r.regions[i].file);
    for (size_t k = 0; k < K; k++) j->r.regions[i].losses[k] = (double)losses[k];
    bool ok = !j->o.out || write_map(j, i, m, map);
    arena_reset(&j->c.memory, mark);
    return ok;
}

/* region: AlphaCLIP's; NULL: all of the picture. */
static bool open_picture(job *j, const mask_image *region, explained *x) {
    const clip_config *m = &j->c.model->config;
    fault f = {0};
    explain_options eo = {.layers = j->layers, .steps = j->invert.iters};
    real *alpha = region ? pixels_alpha(region, j->side, &j->c.e) : NULL;
    real *pixels = alpha || !region ? pixels_squash(&j->photo, j->side, m->mean, m->std, &j->c.e) : NULL;
    eo.alpha = alpha;
    bool ok = pixels && cli_usual(&j->c, &eo.usual) &&
              (explain_open(x, j->c.model, pixels, j->side, j->side, &eo, &j->c.memory, j->c.cores, &f) || cli_fault(&j->c, &f));
    mem_free(alpha);
    mem_free(pixels);
    if (ok) memcpy(j->image, x->embedding, m->embed * sizeof *j->image);
    return ok;
}

/* AlphaCLIP sees each mask as its region: a pass for each. */
static bool invert(job *j) {
    explained x;
    bool each = j->c.model->config.alpha;
    if (!each && !open_picture(j, NULL, &x)) return false;
    for (size_t i = 0; i < j->r.count; i++) {
        size_t mark = arena_mark(&j->c.memory);
        const mask_image *region = each ? masks_at(&j->masks, i, &j->c.e) : NULL;
        cli_progress(&j->c, "masks", i, j->r.count);
        if ((each && (!region || !open_picture(j, region, &x))) || !invert_mask(j, &x, i)) return false;
        arena_reset(&j->c.memory, mark);
    }
    return true;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */
static bool results(job *j) {
    size_t E = j->r.embed;
    for (size_t i = 0; i < j->r.count; i++) {
        memcpy(j->r.regions[i].embedding, j->vectors + i * E, E * sizeof *j->vectors);
    }
    for (size_t i = 0; i < j->r.count; i++) {
        report_score(&j->r, i, j->image, j->texts, (double)clip_logit_scale(j->c.model));
        if (!isfinite(j->r.regions[i].similarity))
            return err_set(&j->c.e, "%s: its embedding is not finite", j->r.regions[i].file);
    }
    if (j->o.out && !report_write(&j->r, j->o.out, &j->c.e)) return false;
    cli_progress_end(&j->c);
    return report_print(&j->r, j->o.json, &j->c.e);
}

static bool regions(void *arg) {
    job *j = arg;
    j->r.last = j->c.start;
    if (!cli_open_model(&j->c, &j->o.common) || !settings(j)) return false;
    report_about(&j->r, &j->c, j->o.region.image, j->side, &j->o.text.texts);
    j->r.method = j->how->name;
    bool inverts = j->how->family == REGION_INVERT;
    if (inverts) j->r.invert = &j->invert, j->r.layers = j->layers, j->r.gradient = "factored", j->r.explainer = "legrad";
    size_t steps = inverts ? j->invert.iters : 0;
    if (!inputs_open(&j->c, &j->o.region, &j->r, steps, &j->photo, &j->masks)) return false;
    if (j->o.out && !cli_folder(&j->c, j->o.out, "result.json")) return false;
    if (!(j->vectors = mem_alloc(j->r.count + 1, j->r.embed * sizeof *j->vectors)))
        return err_set(&j->c.e, "no memory for %zu embeddings", j->r.count);
    j->image = j->vectors + j->r.count * j->r.embed;
    report_time(&j->r, "reading");
    if (!cli_texts(&j->c, &j->o.text, &j->texts)) return false;
    report_time(&j->r, "texts");
    if (!(inverts ? invert(j) : embed(j))) return false;
    report_time(&j->r, "regions");
    return results(j);
}

static void give_back(void *arg) {
    job *j = arg;
    inputs_close(&j->r, &j->photo, &j->masks);
    mem_free(j->vectors);
    mem_free(j->texts);
}

int cmd_regions(int argc, char **argv) {
    return cli_run(&regions_command, argc, argv, sizeof(job), offsetof(job, o), regions, give_back);
}
