/* cmd_segment.c - maskinv segment: a class for every pixel of a photograph, by the shared open-vocabulary protocol.
 *
 * Model, settings, classes, photograph and folder are looked at first; then the names are embedded, the windows run, and
 * labels, picture and figures written.
 */
#include "cli/dense_flags.h"
#include "files/files.h"
#include "files/longtext.h"
#include "pictures/sheet.h"
#include "segment/segment.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    common_options common;
    const char *image, *classes, *embeddings, *method, *out, *window, *dilations;
    text_options text; /* its texts are not asked for */
    size_t shorter, stride, blocks, pamr, least;
    double scale, prob_thd, area_thd, eps;
    method_flags method_flags;
    bool no_orient;
} options;

/* Methods whose grids are cosines, each behind a bar. */
#define BAR_FEATURES(name) "|" name
#define BAR_LEGRAD(name) ""
#define BAR_ATTENTION(name) ""
#define BAR_GRADIENT(name) ""
#define CHOICE(name, what, source, family, blocks, free, ...) BAR_##family(name)

static const flag flags[] = {
    {"image", 'i', FLAG_TEXT, offsetof(options, image), "IMAGE", .required = true, .help = "the photograph"},
    {"classes", 0, FLAG_TEXT, offsetof(options, classes), "FILE", .required = true,
     .help = "a class a line, its names between commas; or a published list: voc21, voc20, context60, context59, coco_object, "
             "coco_stuff164k, cityscapes, ade20k"},
    {"embeddings", 'e', FLAG_TEXT, offsetof(options, embeddings), "FILE.npy",
     .help = "embeddings [names, E] in the names' place, in their order"},
    {"method", 0, FLAG_CHOICE, offsetof(options, method), &(METHOD_LIST(CHOICE))[1], .standard = "naclip",
     .help = "whose cosines of patches and names (explain --help tells of each)"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .required = true, .help = "folder for labels, picture and figures"},
    {"short", 0, FLAG_COUNT, offsetof(options, shorter), "N", 1, 2048,
     .help = "the photograph's shorter side as the network sees it; not given: the list's, else one and a half of the model's image"},
    {"window", 0, FLAG_TEXT, offsetof(options, window), "N",
     .help = "side of the windows; 0: the whole picture at once; not given: the method's, else the model's image"},
    {"stride", 0, FLAG_COUNT, offsetof(options, stride), "N", 1, 2048,
     .help = "from window to window; not given: half a window"},
    {"scale", 0, FLAG_NUMBER, offsetof(options, scale), "X", 1e-3, 1e4,
     .help = "cosines are multiplied by it before the softmax; not given: the list's, else 40"},
    {"prob-thd", 0, FLAG_NUMBER, offsetof(options, prob_thd), "X", 0, 1,
     .help = "pixels less sure than this are the first class's, the background; not given: the list's, else 0"},
    {"area-thd", 0, FLAG_NUMBER, offsetof(options, area_thd), "X", 0, 1,
     .help = "classes with less than this share of the foreground are left out; not given: the list's, else none is"},
    {"blocks", 0, FLAG_COUNT, offsetof(options, blocks), "N", 1, 1e6,
     .help = "last blocks that the method changes; not given: as its authors have it"},
    {"no-orient", 0, FLAG_SWITCH, offsetof(options, no_orient), NULL,
     .help = "take the picture as it is stored; otherwise its EXIF orientation turns it upright"},
    {"template", 0, FLAG_LIST, offsetof(options, text.templates), "TEMPLATE",
     .help = "a sentence with {} where a name goes; not given: the method's own, else the 80 published for ImageNet"},
    {"templates", 0, FLAG_TEXT, offsetof(options, text.file), "FILE", .help = "a file of templates, one a line; or builtin"},
    {"eps", 0, FLAG_NUMBER, offsetof(options, eps), "X", 0, 1e3,
     .help = "cliptrase: patches this near are one cluster's; not given: 0.7 (its authors at 336 pixels: 1.1)"},
    {"least", 0, FLAG_COUNT, offsetof(options, least), "N", 1, 1e6,
     .help = "cliptrase: so many near ones, itself counted, make a core; not given: 3 (at 336: 7)"},
    CLI_PAMR_FLAGS(options, pamr, dilations),
    CLI_METHOD_FLAGS(options),
    CLI_COMMON_FLAGS(options),
};

const command segment_command = {
    "segment",
    "a class for every pixel, among names given",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "DIR gets labels.png, a palette picture of the classes' numbers at the photograph's size; classes.png, their colours over\n"
    "the photograph with names and shares; and segment.json, all settings and each class's pixels.\n\n"
    "The photograph's shorter side goes to --short, windows of --window pixels run through the network every --stride, their\n"
    "cosines are enlarged and averaged where windows overlap, and at the photograph's own size the softmax over all names\n"
    "decides. A published list brings the settings with which its dataset was measured; cityscapes and the like name no\n"
    "background, voc21, context60 and coco_object do. Smaller windows and --pamr 10 help on pictures of one's own.",
    cmd_segment,
};

typedef struct {
    cli c;
    options o;
    segment_classes classes;
    segmenter s;
    size_t templates;
    picture photo;
    real *queries, *empty;
    segmentation out;
    size_t *pixels;   /* [count] */
    double *sure;     /* [count] sums */
    double seconds;
} job;

/* ---- settings: published ones, then the flags' ---------------------------------------------------------------- */
static bool read_window(job *j) {
    segment_settings *s = &j->s.settings;
    const char *text = j->o.window;
    size_t patch = j->c.model->config.patch;
    if (text) {
        if (!*text || strlen(text) > 5 || strspn(text, "0123456789") != strlen(text))
            return cli_usage(&j->c, "--window: '%s' found, a whole number expected", text);
        s->window = (size_t)strtoul(text, NULL, 10), s->stride = s->window / 2;
    }
    if (j->o.stride) s->stride = j->o.stride;
    if (s->window && s->window < patch)
        return err_set(&j->c.e, "--window: %zu found, at least the model's patch, %zu, expected", s->window, patch);
    if (s->window && s->stride > s->window)
        return err_set(&j->c.e, "--stride: %zu found, at most the window, %zu, expected: pixels between would be seen by none",
                       s->stride, s->window);
    if (s->shorter < patch)
        return err_set(&j->c.e, "--short: %zu found, at least the model's patch, %zu, expected", s->shorter, patch);
    return true;
}

static bool settle(job *j) {
    const options *o = &j->o;
    segment_settings *s = &j->s.settings;
    const method *how = method_find(o->method);
    const clip_config *m = &j->c.model->config;
    *s = segment_defaults(j->c.model, how, j->classes.list);
    if (!cli_method_fits(&j->c, &o->method_flags, how->name)) return false;
    if (o->blocks && !how->free) return cli_usage(&j->c, "--blocks: %s leaves no choice of them", how->name);
    if (o->blocks > m->vision.layers)
        return err_set(&j->c.e, "--blocks: %zu found, 1 to %zu allowed, the model's depth", o->blocks, m->vision.layers);
    s->blocks = o->blocks;
    if (o->shorter) s->shorter = o->shorter;
    if (!isnan(o->scale)) s->scale = o->scale;
    if (!isnan(o->prob_thd)) s->prob_thd = o->prob_thd;
    if (!isnan(o->area_thd)) s->area_thd = o->area_thd;
    cli_method_settings(&o->method_flags, &s->method);
    s->pamr = o->pamr;
    if (!isnan(o->eps)) s->eps = o->eps;
    if (o->least) s->least = o->least;
    if (how->clusters && (o->window || o->stride || o->pamr || !isnan(o->prob_thd) || !isnan(o->area_thd) || !isnan(o->scale)))
        return cli_usage(&j->c, "--method %s names its clusters by vote: it takes --short, --eps and --least, no window, scale, "
                         "threshold or PAMR", how->name);
    return cli_dilations(&j->c, o->dilations, s->dilations, &s->dilation_count) && read_window(j);
}

/* ---- inputs --------------------------------------------------------------------------------------------------- */
static bool embed_names(job *j) {
    const method *how = j->s.settings.how;
    template_set t = {0};
    j->s.queries = j->queries, j->s.empty = j->empty;
    if (j->queries) return true;
    bool ok = cli_templates(&j->c, &j->o.text, how->templates ? how->templates : 80, &t);
    j->templates = ok ? t.count : 0;
    ok = ok && cli_embed(&j->c, &t, j->classes.queries, j->classes.query_count, &j->queries);
    if (ok && how->together && j->classes.query_count == 1) ok = cli_embed(&j->c, &t, (const char *const[]){""}, 1, &j->empty);
    mem_free(t.kept);
    j->s.queries = j->queries, j->s.empty = j->empty;
    return ok;
}

/* --embeddings: a row a name, to unit length. */
static bool read_rows(job *j) {
    size_t E = j->c.model->config.embed, count = j->classes.query_count, cols = 0, rows = 1;
    const char *path = j->o.embeddings;
    npy_array a;
    if (!path) return true;
    if (j->s.settings.how->together && count == 1)
        return cli_usage(&j->c, "--embeddings: surgery of one name compares with the empty text; --classes alone expected");
    if (!npy_read(path, &a, &j->c.e)) return false;
    if (a.rank) cols = a.shape[a.rank - 1];
    for (size_t i = 0; i + 1 < a.rank; i++) rows *= a.shape[i];
    bool ok = a.rank && cols == E && rows == count ? true
              : err_set(&j->c.e, "%s: %zu rows of %zu found, %zu names' embeddings of %zu expected by %s and this model", path, rows,
                        cols, count, E, j->o.classes);
    if (ok && !(j->queries = mem_alloc(count, E * sizeof *j->queries))) ok = err_set(&j->c.e, "%s: no memory for %zu rows", path, count);
    if (ok) memcpy(j->queries, a.data, count * E * sizeof *j->queries);
    npy_free(&a);
    for (size_t i = 0; ok && i < count; i++) {
        real length = unit(j->queries + i * E, E);
        if (!(isfinite(length) && length > 0))
            ok = err_set(&j->c.e, "%s: row %zu is of length %g, a direction expected", path, i, (double)length);
    }
    return ok;
}

static bool read_inputs(job *j) {
    if (!segment_classes_read(j->o.classes, &j->classes, &j->c.e)) return false;
    if (j->classes.count > CLASS_MOST)
        return err_set(&j->c.e, "%s: %zu classes found, a palette picture holds %d", j->o.classes, j->classes.count, CLASS_MOST);
    if (!cli_open_model(&j->c, &j->o.common)) return false;
    j->s.model = j->c.model, j->s.classes = &j->classes, j->s.sure = true;
    if (!settle(j) || !read_rows(j)) return false;
    if (!(j->o.no_orient ? picture_read_stored : picture_read)(j->o.image, &j->photo, &j->c.e)) return false;
    if (!cli_look(&j->c, j->o.image, &j->photo)) return false;
    return cli_folder(&j->c, j->o.out, "labels.png") && embed_names(j);
}

/* ---- outputs ---------------------------------------------------------------------------------------------------- */
static bool count_pixels(job *j) {
    j->pixels = mem_alloc(j->classes.count, sizeof *j->pixels);
    j->sure = mem_alloc(j->classes.count, sizeof *j->sure);
    if (!j->pixels || !j->sure) return err_set(&j->c.e, "no memory for %zu classes", j->classes.count);
    for (size_t i = 0; i < j->out.width * j->out.height; i++) {
        j->pixels[j->out.label[i]]++;
        j->sure[j->out.label[i]] += j->out.sure ? (double)j->out.sure[i] : 0;
    }
    return true;
}

static bool path_of(job *j, char *path, size_t room, const char *name) {
    if ((size_t)snprintf(path, room, "%s/%s", j->o.out, name) < room) return true;
    return err_set(&j->c.e, "%s: the path is too long", j->o.out);
}

static bool write_pictures(job *j) {
    char path[4096];
    size_t n = j->out.width * j->out.height;
    unsigned char palette[CLASS_MOST][3], *index = mem_alloc(n, 1);
    bool last = j->classes.list && j->classes.list->words; /* CLIPtrase's background is the last class */
    bool background = !last && ((j->classes.list && j->classes.list->background) || j->s.settings.prob_thd > 0);
    if (!index) return err_set(&j->c.e, "no memory for a picture of %zu pixels", n);
    for (size_t i = 0; i < n; i++) index[i] = (unsigned char)j->out.label[i];
    for (size_t i = 0; i < j->classes.count; i++) class_colour(i, palette[i]);
    if (background) memset(palette[0], 0, 3);
    bool ok = path_of(j, path, sizeof path, "labels.png") &&
              palette_write_png(path, index, j->out.width, j->out.height, (const unsigned char(*)[3])palette, j->classes.count,
                                &j->c.e) &&
              path_of(j, path, sizeof path, "classes.png") &&
              legend_write(path, &j->photo, index, j->classes.titles, j->classes.count, background, j->c.line, &j->c.e);
    mem_free(index);
    return ok;
}

static void say_settings(longtext *t, const job *j) {
    const segment_settings *s = &j->s.settings;
    say(t, " \"method\": \"%s\", \"templates\": %zu,\n \"input\": {\"width\": %zu, \"height\": %zu},\n", s->how->name, j->templates,
        j->out.input_width, j->out.input_height);
    say(t, " \"window\": %zu, \"stride\": %zu, \"windows\": %zu,\n", s->window, s->window ? s->stride : 0, j->out.windows);
    if (s->how->clusters) {
        say(t, " \"eps\": %.9g, \"least\": %zu, \"image_level\": %s,\n", s->eps, s->least, s->image_level ? "true" : "false");
        return;
    }
    say(t, " \"scale\": %.9g, \"prob_thd\": %.9g, \"area_thd\": ", s->scale, s->prob_thd);
    if (s->area_thd < 0) say(t, "null");
    else say(t, "%.9g", s->area_thd);
    say(t, ",\n \"pamr\": {\"steps\": %zu, \"dilations\": [", s->pamr);
    for (size_t i = 0; s->pamr && i < s->dilation_count; i++) say(t, i ? ", %zu" : "%zu", s->dilations[i]);
    say(t, "]},\n");
    if (!strcmp(s->how->name, "resclip"))
        say(t, " \"resclip\": {\"tau_r\": %.9g, \"lambda_r\": %.9g, \"tau_s\": %.9g, \"lambda_s\": %.9g, \"temp_thd\": %.9g},\n",
            (double)s->method.tau_r, (double)s->method.lambda_r, (double)s->method.tau_s, (double)s->method.lambda_s,
            (double)s->method.temp_thd);
}

static void say_classes(longtext *t, const job *j) {
    const segment_classes *c = &j->classes;
    size_t q = 0, all = j->out.width * j->out.height;
    say(t, " \"classes\": [");
    for (size_t i = 0; i < c->count; i++) {
        say(t, i ? ",\n  {\"class\": %zu, \"name\": " : "\n  {\"class\": %zu, \"name\": ", i);
        say_quoted(t, c->titles[i]);
        say(t, ", \"names\": [");
        for (bool first = true; q < c->query_count && c->owner[q] == i; q++, first = false) {
            if (!first) say(t, ", ");
            say_quoted(t, c->queries[q]);
        }
        say(t, "], \"pixels\": %zu, \"share\": %.6f, \"probability\": ", j->pixels[i], (double)j->pixels[i] / (double)all);
        if (j->pixels[i] && j->out.sure) say(t, "%.6f}", j->sure[i] / (double)j->pixels[i]);
        else say(t, "null}");
    }
    say(t, "\n ]\n}\n");
}

static bool write_json(job *j) {
    char path[4096];
    longtext t = {0};
    if (!path_of(j, path, sizeof path, "segment.json")) return false;
    say(&t, "{\n \"image\": ");
    say_quoted(&t, j->o.image);
    say(&t, ", \"width\": %zu, \"height\": %zu,\n \"model\": ", j->out.width, j->out.height);
    say_quoted(&t, checkpoint_name(j->c.weights));
    say(&t, ", \"list\": ");
    say_quoted(&t, j->o.classes);
    say(&t, ",\n");
    say_settings(&t, j);
    say_classes(&t, j);
    bool ok = t.failed ? err_set(&j->c.e, "no memory for %s", path) : file_write(path, t.text, t.length, &j->c.e);
    mem_free(t.text);
    return ok;
}

/* The classes that are there, largest first, on standard output. */
static void print_classes(const job *j) {
    const segment_settings *s = &j->s.settings;
    double all = (double)(j->out.width * j->out.height);
    printf("%s, %zu of %zu names, input %zu x %zu, %zu window%s%s", s->how->name, j->classes.count,
           j->classes.query_count, j->out.input_width, j->out.input_height, j->out.windows, j->out.windows == 1 ? "" : "s",
           s->pamr ? ", PAMR" : "");
    printf(s->how->clusters ? "; clusters of %g and %g\n" : "; scale %g, threshold %g\n", s->how->clusters ? s->eps : s->scale,
           s->how->clusters ? (double)s->least : s->prob_thd);
    for (size_t after = SIZE_MAX, last = 0;;) { /* by pixels, equal ones by number */
        size_t best = SIZE_MAX;
        for (size_t i = 0; i < j->classes.count; i++) {
            bool next = j->pixels[i] < after || (j->pixels[i] == after && i > last);
            if (j->pixels[i] && next && (best == SIZE_MAX || j->pixels[i] > j->pixels[best])) best = i;
        }
        if (best == SIZE_MAX) return;
        printf("%6.1f%%  %s\n", 100 * (double)j->pixels[best] / all, j->classes.titles[best]);
        after = j->pixels[best], last = best;
    }
}

static bool segment(void *arg) {
    job *j = arg;
    if (!read_inputs(j)) return false;
    cli_progress(&j->c, j->o.method, 0, 1);
    if (!segment_picture(&j->s, &j->photo, &j->out, &j->c.memory, j->c.cores, &j->c.e)) return false;
    if (!count_pixels(j) || !write_pictures(j) || !write_json(j)) return false;
    cli_progress_end(&j->c);
    print_classes(j);
    return true;
}

static void give_back(void *arg) {
    job *j = arg;
    mem_free(j->queries), mem_free(j->empty), mem_free(j->pixels), mem_free(j->sure);
    segment_classes_free(&j->classes);
    picture_free(&j->photo);
}

int cmd_segment(int argc, char **argv) {
    return cli_run(&segment_command, argc, argv, sizeof(job), offsetof(job, o), segment, give_back);
}
