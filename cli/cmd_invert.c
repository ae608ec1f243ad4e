/* cmd_invert.c - maskinv invert: a photograph and its masks in, an embedding for each mask out.
 *
 * In this order: model, texts, photograph, masks and folder are looked at first; then one forward pass; then each mask
 * is inverted and its map written; the embeddings, result.json and the sheet come last.
 */
#include "cli/cli.h"
#include "maskinv.h"
#include "methods.h"
#include "cli/inputs.h"
#include "files/longtext.h"
#include "os/os.h"
#include "pictures/sheet.h"
#include "cli/trace.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    region_options region;
    const char *out, *trace, *gradient, *explainer;
    text_options text;
    size_t size, iters, layers;
    double lr, alpha, decay;
    bool json, alpha_all;
} options;

static const flag flags[] = {
    CLI_REGION_FLAGS(options),
    CLI_TEXT_FLAGS(options),
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .help = "folder for the results; not given: only the table"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: the model's config, else twice the model's image"},
    {"iters", 0, FLAG_COUNT, offsetof(options, iters), "K", 1, 1e6,
     .help = "steps; not given: what the model's config likes, else 10"},
    {"lr", 0, FLAG_NUMBER, offsetof(options, lr), "LR", 0, 1e6,
     .help = "AdamW's step; not given: what the model's config likes, else 0.5"},
    {"alpha", 0, FLAG_NUMBER, offsetof(options, alpha), "A", 0, 1e6,
     .help = "how strongly the embedding is held to the image's; not given: the model's config, else 0"},
    {"decay", 0, FLAG_NUMBER, offsetof(options, decay), "D", 0, 1e6, .standard = "0", .help = "AdamW's weight decay"},
    {"layers", 0, FLAG_COUNT, offsetof(options, layers), "N", 1, 1e6,
     .help = "last layers that are explained; not given: the model's config, else 1 (chefer 1, rollout all)"},
    {"gradient", 0, FLAG_CHOICE, offsetof(options, gradient), "factored|decomposed|autograd|jacobian|compact|auto", .standard = "factored",
     .help = "how the map's gradient is computed; jacobian: slow to begin, then 32 masks at a time, for hundreds of them; "
             "auto: of factored and jacobian the faster one for this many masks and steps, which changes last digits; factored where a family has no Jacobian. Other explainers than LeGrad have autograd only"},
    {"explainer", 0, FLAG_CHOICE, offsetof(options, explainer), "legrad|gradcam|chefer|rollout", .standard = "legrad",
     .help = "whose map is made to fill the mask"},
    {"alpha-all", 0, FLAG_SWITCH, offsetof(options, alpha_all), NULL,
     .help = "AlphaCLIP: let it see all of the picture, not each mask as its region"},
    {"trace", 0, FLAG_TEXT, offsetof(options, trace), "FILE",
     .help = "write every named intermediate into this safetensors file"},
    {"json", 0, FLAG_SWITCH, offsetof(options, json), NULL, .help = "print result.json instead of the table"},
    CLI_COMMON_FLAGS(options),
};

const command invert_command = {
    "invert",
    "region embeddings by MaskInversion",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "DIR gets embeddings.npy [masks, E] float32 as optimised, for each mask NAME.map.npy [mask height, mask width] "
    "and\n"
    "NAME.map.png, regions.png to look at, and result.json. NAME is the mask's file name without its ending.",
    cmd_invert,
};

/* ---- the job ------------------------------------------------------------------------------------- */
typedef struct {
    cli c;
    options o;
    picture photo;
    masks masks; /* [r.count] */
    report r;
    real *texts; /* [texts, E] unit */
    size_t side;
    invert_options invert;
    size_t layers;
    explained x;
    explainer method; /* where it is not LeGrad's map */
    explain_other other;
    trace trace;
    explain_watch watch;
    sheet sheet;
    char label[64];        /* of the progress line */
    size_t steps_before;   /* of the masks before this */
    real *before, *after; /* [largest mask] */
} job;

/* ---- inputs ----------------------------------------------------------------------------------------- */
static bool is_legrad(const job *j) { return !strcmp(j->o.explainer, "legrad"); }

static bool check_explainer(job *j) {
    const method *how = method_find(j->o.explainer);
    if (is_legrad(j)) return true;
    if (strcmp(j->o.gradient, "factored") && strcmp(j->o.gradient, "autograd") && strcmp(j->o.gradient, "auto"))
        return cli_usage(&j->c, "--gradient: %s has autograd only, %s found", how->name, j->o.gradient);
    if (j->o.layers && !how->free) return cli_usage(&j->c, "--layers: %s leaves no choice of them", how->name);
    return true;
}

static bool settings(job *j) {
    const clip_config *m = &j->c.model->config;
    j->invert = cli_invert(m, j->o.iters, j->o.lr, j->o.alpha);
    j->invert.decay = (real)j->o.decay;
    const method *how = method_find(j->o.explainer);
    if (!cli_layers(&j->c, j->o.layers, how ? method_depth(how, m) : clip_depth(m), &j->layers)) return false;
    if (!j->o.layers && !is_legrad(j)) j->layers = 0; /* as the explainer has it */
    return cli_side(&j->c, j->o.size, 2, &j->side);
}

static bool check_out(job *j) {
    return (!j->o.out || cli_folder(&j->c, j->o.out, "result.json")) && (!j->o.trace || out_check(j->o.trace, &j->c.e));
}

static bool read_inputs(job *j) {
    if (!inputs_open(&j->c, &j->o.region, &j->r, j->invert.iters, &j->photo, &j->masks)) return false;
    size_t largest = j->masks.largest;
    j->before = mem_alloc(largest, 2 * sizeof *j->before);
    if (!j->before) return err_set(&j->c.e, "no memory for two maps of %zu pixels", largest);
    j->after = j->before + largest;
    return check_out(j);
}

/* ---- forward ------------------------------------------------------------------------------------------ */
static gradient_kind gradient_of(const char *name) { /* one of the flag's */
    gradient_kind kind = GRADIENT_FACTORED;
    explain_gradient_find(name, &kind);
    return kind;
}

/* auto: the Jacobian's making, 2nEFD a layer (4.22), is won back when the masks' steps, 16nD^2 each by factored, are 4nDE
 * by it (4.23) and twice that for the numbers' way from memory; and it must fit. */
static const char *cheaper_gradient(const job *j) {
    const clip_config *m = &j->c.model->config;
    double D = (double)m->vision.width, F = (double)m->vision.mlp, E = (double)m->embed;
    double n = 1 + (double)(j->side / m->patch) * (double)(j->side / m->patch);
    double makes = 2 * n * E * F * D, saves = 16 * n * D * D - 8 * n * D * E;
    double bytes = (double)j->layers * n * E * D * sizeof(real), room = (double)j->c.room_bytes / 2;
    bool fits = bytes < room && (sizeof(size_t) > 4 || bytes < 1e9);
    bool pays = (double)j->r.count * (double)j->invert.iters * saves > makes;
    return is_legrad(j) && explain_own_blocks(m) && !j->o.trace && fits && pays ? "jacobian" : "factored";
}

/* region: AlphaCLIP's, whose picture goes through the network once for each; NULL: all of the picture. */
static bool forward(job *j, const mask_image *region) {
    const clip_config *m = &j->c.model->config;
    fault f = {0};
    real *pixels = pixels_squash(&j->photo, j->side, m->mean, m->std, &j->c.e);
    if (!pixels) return false;
    if (!region) report_time(&j->r, "pixels");
    explain_options eo = {.layers = j->layers, .gradient = gradient_of(j->o.gradient), .steps = j->invert.iters};
    if (!is_legrad(j)) eo.other = method_other(&j->method, j->o.explainer, &j->other);
    if (j->o.trace) {
        j->watch = trace_watch(&j->trace);
        eo.watch = &j->watch;
        trace_add(&j->trace, "pixels", pixels, (size_t[]){3, j->side, j->side}, 3);
    }
    real *alpha = region ? pixels_alpha(region, j->side, &j->c.e) : NULL;
    if ((region && !alpha) || !cli_usual(&j->c, &eo.usual)) return mem_free(alpha), mem_free(pixels), false;
    eo.alpha = alpha;
    bool ok = explain_open(&j->x, j->c.model, pixels, j->side, j->side, &eo, &j->c.memory, j->c.cores, &f);
    mem_free(alpha);
    mem_free(pixels);
    if (ok && j->o.trace) trace_add(&j->trace, "embedding", j->x.embedding, &j->r.embed, 1);
    if (!region) report_time(&j->r, "forward"); /* else with the steps */
    return ok ? true : cli_fault(&j->c, &f);
}

/* ---- one mask ------------------------------------------------------------------------------------------- */
static void show_step(void *arg, size_t step) {
    job *j = arg;
    cli_progress(&j->c, j->label, j->steps_before + step, j->r.count * j->invert.iters);
}

static bool write_map(const job *j, const region_result *g, const mask_image *m, err *e) {
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s.map.npy", j->o.out, g->name) >= sizeof path)
        return err_set(e, "%s/%s.map.npy: the path is too long", j->o.out, g->name);
    if (!npy_write(path, j->after, (size_t[]){m->height, m->width}, 2, e)) return false;
    snprintf(path, sizeof path, "%s/%s.map.png", j->o.out, g->name);
    return overlay_write(path, &j->photo, j->after, m->height, m->width, m, e);
}

/* ---- the sheet, a page at a time -------------------------------------------------------------------------- */
enum { PAGE_ROWS = 24 };

static bool open_page(job *j, size_t first, err *e) {
    char title[512];
    const char *image = os_last_slash(j->o.region.image);
    size_t rows = j->r.count - first < PAGE_ROWS ? j->r.count - first : PAGE_ROWS;
    snprintf(title, sizeof title, "MaskInversion of %.200s  %zu x %zu, %zu steps", image ? image + 1 : j->o.region.image,
             j->side, j->side, j->invert.iters);
    if (!sheet_open(&j->sheet, &j->photo, rows, j->r.count > PAGE_ROWS, j->r.text_count > 0, title, e)) return false;
    j->sheet.first = first;
    return true;
}

/* regions.png, regions-2.png... */
static bool write_page(job *j, size_t last, err *e) {
    char path[4096], number[32] = "";
    if (last >= PAGE_ROWS) snprintf(number, sizeof number, "-%zu", last / PAGE_ROWS + 1);
    snprintf(path, sizeof path, "%s/regions%s.png", j->o.out, number);
    sheet_foot(&j->sheet, j->c.line);
    bool ok = picture_write_png(path, &j->sheet.page, e);
    sheet_free(&j->sheet);
    return ok;
}

static bool add_texts(job *j, size_t i, err *e) {
    const region_result *g = &j->r.regions[i];
    char line[256];
    size_t *order = mem_alloc(j->r.text_count, sizeof *order);
    if (!order) return err_set(e, "no memory to rank %zu texts", j->r.text_count);
    report_rank(&j->r, g, order);
    for (size_t k = 0; k < j->r.text_count; k++) {
        const text_score *s = &g->texts[order[k]];
        if (j->r.text_count > 1)
            snprintf(line, sizeof line, "%5.1f%% %s", 100 * s->probability, j->r.texts[order[k]]);
        else
            snprintf(line, sizeof line, "%.4f %s", s->similarity, j->r.texts[0]);
        sheet_text(&j->sheet, i % PAGE_ROWS, k, line, j->r.text_count > 1 ? s->probability : fmax(0, s->similarity));
    }
    mem_free(order);
    return true;
}

static bool add_to_sheet(job *j, size_t i, const mask_image *m, err *e) {
    const region_result *g = &j->r.regions[i];
    const double loss[] = {g->losses[0], g->losses[g->loss_count - 1]};
    if (i % PAGE_ROWS == 0 && !open_page(j, i, e)) return false;
    if (!sheet_region(&j->sheet, i % PAGE_ROWS, g->name, m, j->before, j->after, m->height, m->width, loss, e) ||
        !add_texts(j, i, e))
        return false;
    return (i + 1) % PAGE_ROWS && i + 1 < j->r.count ? true : write_page(j, i, e);
}

/* A mask's map and its row of the sheet: two tasks, since a picture takes as long to pack as many steps do. */
typedef struct {
    job *j;
    size_t i;
    const mask_image *m;
    bool ok[2];
    err e[2];
} leaving;

static void leave(void *arg, size_t task) {
    leaving *l = arg;
    l->ok[task] = task ? add_to_sheet(l->j, l->i, l->m, &l->e[1]) : write_map(l->j, &l->j->r.regions[l->i], l->m, &l->e[0]);
}

static bool leave_files(job *j, size_t i, const mask_image *m) {
    leaving l = {.j = j, .i = i, .m = m};
    spread(j->c.cores, 2, leave, &l);
    if (!l.ok[0] || !l.ok[1]) j->c.e = l.e[l.ok[0]];
    return l.ok[0] && l.ok[1];
}

/* What an inverted mask leaves: scores, and its files. j->before, j->after are its maps. */
static bool finish_mask(job *j, size_t i, const mask_image *m, const real *losses, double *writing) {
    region_result *g = &j->r.regions[i];
    for (size_t k = 0; k < j->invert.iters; k++) g->losses[k] = (double)losses[k];
    report_score(&j->r, i, j->x.embedding, j->texts, (double)clip_logit_scale(j->c.model));
    if (!isfinite(g->similarity))
        return err_set(&j->c.e, "%s: its embedding is not finite; a smaller --lr may help", g->file);
    if (!j->o.out) return true;
    double before = seconds_now();
    bool ok = leave_files(j, i, m);
    *writing += seconds_now() - before;
    return ok;
}

static bool invert_mask(job *j, size_t i, double *writing) {
    region_result *g = &j->r.regions[i];
    const mask_image *m = masks_at(&j->masks, i, &j->c.e);
    if (!m) return false;
    char prefix[sizeof g->name + 2];
    fault f = {0};
    real *losses = arena_alloc(&j->c.memory, j->invert.iters, sizeof *losses);
    if (!losses)
        return err_set(&j->c.e, "--memory: %zu bytes are too little for %zu losses", j->c.memory.size, j->invert.iters);
    snprintf(prefix, sizeof prefix, "%s.", g->name);
    j->trace.prefix = prefix;
    if (j->o.trace) trace_add(&j->trace, "mask", m->soft, (size_t[]){m->height, m->width}, 2);
    invert_result result = {
        .embedding = g->embedding, .losses = losses, .map_before = j->before, .map_after = j->after};
    bool ok = maskinv_invert(&j->x, m->soft, m->height, m->width, &j->invert, &result, &f);
    if (ok && j->o.trace) trace_add(&j->trace, "embedding", g->embedding, &j->r.embed, 1);
    j->trace.prefix = NULL;
    if (!ok) return cli_fault(&j->c, &f), err_prefix(&j->c.e, "%s", g->file);
    return finish_mask(j, i, m, losses, writing);
}

/* ---- many masks at a time (--gradient jacobian) ----------------------------------------------------------------- */
static bool start_group(job *j, size_t first, size_t count, invert_region *r) {
    size_t cells = j->x.gh * j->x.gw;
    fault f = {0};
    for (size_t k = 0; k < count; k++) {
        const mask_image *m = masks_at(&j->masks, first + k, &j->c.e);
        if (!m) return false;
        real *losses = arena_alloc(&j->c.memory, j->invert.iters, sizeof *losses);
        real *grids = arena_alloc(&j->c.memory, cells, 2 * sizeof *grids);
        if (!losses || !grids) return err_set(&j->c.e, "--memory: %zu bytes are too little for %zu masks", j->c.memory.size, count);
        r[k] = (invert_region){.embedding = j->r.regions[first + k].embedding, .losses = losses, .grid_before = grids,
                               .grid_after = grids + cells};
        if (!target_make(&r[k].mask, &j->x, m->soft, m->height, m->width, &f)) return cli_fault(&j->c, &f);
    }
    return true;
}

static bool invert_group(job *j, size_t first, size_t count, double *writing) {
    invert_region r[EXPLAIN_GROUP];
    fault f = {0};
    if (!start_group(j, first, count, r)) return false;
    if (!maskinv_invert_group(&j->x, r, count, &j->invert, &f)) return cli_fault(&j->c, &f);
    for (size_t k = 0; k < count; k++) {
        const mask_image *m = masks_at(&j->masks, first + k, &j->c.e);
        if (!m) return false;
        bool ok = !r[k].fault.code && target_map(&j->x, &r[k].mask, r[k].grid_before, j->before, &r[k].fault) &&
                  target_map(&j->x, &r[k].mask, r[k].grid_after, j->after, &r[k].fault);
        if (!ok) return cli_fault(&j->c, &r[k].fault), err_prefix(&j->c.e, "%s", j->r.regions[first + k].file);
        if (!finish_mask(j, first + k, m, r[k].losses, writing)) return false;
    }
    return true;
}

/* AlphaCLIP sees each mask as its region, so that each has a pass of its own. */
static bool sees_regions(const job *j) { return j->c.model->config.alpha && !j->o.alpha_all; }

static bool see_region(job *j, size_t i) {
    const mask_image *m = masks_at(&j->masks, i, &j->c.e);
    return m && forward(j, m);
}

static bool invert_all(job *j) {
    double writing = 0;
    j->invert.watch = j->o.trace ? &j->watch : NULL;
    j->invert.progress = show_step;
    j->invert.progress_arg = j;
    bool each = sees_regions(j), together = !strcmp(j->o.gradient, "jacobian") && !j->o.trace && !each;
    for (size_t i = 0, n; i < j->r.count; i += n) {
        size_t mark = arena_mark(&j->c.memory), left = j->r.count - i;
        n = !together ? 1 : left < EXPLAIN_GROUP ? left : EXPLAIN_GROUP;
        snprintf(j->label, sizeof j->label, "mask %zu of %zu, step", i + n, j->r.count);
        j->steps_before = i * j->invert.iters;
        if (each && !see_region(j, i)) return false;
        if (!(together ? invert_group(j, i, n, &writing) : invert_mask(j, i, &writing))) return false;
        arena_reset(&j->c.memory, mark);
    }
    report_time(&j->r, "steps");
    j->r.times[j->r.time_count - 1].seconds -= writing;
    j->r.last -= writing; /* counted with what is written next */
    return true;
}

/* ---- results ---------------------------------------------------------------------------------------------- */
static bool write_trace(job *j) {
    char lr[32], alpha[32], decay[32], layers[32], iters[32];
    if (!j->o.trace) return true;
    snprintf(lr, sizeof lr, "%.*g", REAL_DIGITS, (double)j->invert.lr);
    snprintf(alpha, sizeof alpha, "%.*g", REAL_DIGITS, (double)j->invert.alpha);
    snprintf(decay, sizeof decay, "%.*g", REAL_DIGITS, (double)j->invert.decay);
    snprintf(layers, sizeof layers, "%zu", j->layers);
    snprintf(iters, sizeof iters, "%zu", j->invert.iters);
    const char *metadata[] = {"lr", lr, "alpha", alpha, "decay", decay, "layers", layers, "iters", iters, NULL};
    return trace_write(&j->trace, j->o.trace, metadata, &j->c.e);
}

static bool results(job *j) {
    if (!write_trace(j)) return false;
    report_time(&j->r, "writing");
    if (j->o.out && !report_write(&j->r, j->o.out, &j->c.e)) return false;
    cli_progress_end(&j->c);
    return report_print(&j->r, j->o.json, &j->c.e);
}

static bool invert(void *arg) {
    job *j = arg;
    j->r.last = j->c.start;
    if (!check_explainer(j) || !cli_open_model(&j->c, &j->o.common) || !settings(j)) return false;
    report_about(&j->r, &j->c, j->o.region.image, j->side, &j->o.text.texts);
    j->r.method = "maskinv", j->r.invert = &j->invert, j->r.layers = j->layers;
    j->r.gradient = is_legrad(j) ? j->o.gradient : "autograd", j->r.explainer = j->o.explainer;
    if (!read_inputs(j)) return false;
    if (!strcmp(j->o.gradient, "auto")) j->r.gradient = j->o.gradient = cheaper_gradient(j);
    report_time(&j->r, "reading");
    if (!cli_texts(&j->c, &j->o.text, &j->texts)) return false;
    report_time(&j->r, "texts");
    return (sees_regions(j) || forward(j, NULL)) && invert_all(j) && results(j);
}

static void give_back(void *arg) {
    job *j = arg;
    inputs_close(&j->r, &j->photo, &j->masks);
    mem_free(j->before);
    mem_free(j->texts);
    sheet_free(&j->sheet);
    trace_free(&j->trace);
}

int cmd_invert(int argc, char **argv) {
    return cli_run(&invert_command, argc, argv, sizeof(job), offsetof(job, o), invert, give_back);
}
