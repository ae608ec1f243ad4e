/* cmd_eval.c - maskinv eval: region embeddings and maps, compared on a set of scenes. */
#include "cli/cli.h"
#include "eval/survey.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    common_options common;
    const char *set, *split, *by, *methods, *explainers, *out, *shard, *sizes, *qualities, *layers, *iters, *lr, *alpha, *blocks,
        *inverted, *task, *lists;
    text_options text; /* its texts are not asked for */
    size_t limit, seed;
    bool keep_going;
} options;

static const flag flags[] = {
    {"data", 'd', FLAG_TEXT, offsetof(options, set), "DIR", .required = true,
     .help = "a set of scenes, as `maskinv scenes` writes it; or NAME:ROOT, a dataset that `maskinv dataset` knows"},
    {"split", 0, FLAG_TEXT, offsetof(options, split), "S",
     .help = "of a dataset: train, val, testA...; not given: the one that papers evaluate"},
    {"by", 0, FLAG_TEXT, offsetof(options, by), "WHO", .help = "of a dataset: whose division, as `maskinv dataset` has it"},
    {"task", 0, FLAG_CHOICE, offsetof(options, task), "regions|segmentation|anomaly",
     .help = "of a dataset: regions, the methods and explainers below; segmentation, mIoU of similarity, maskclip, sclip, clearclip, gem, surgery, "
             "naclip, naclip+pamr, resclip, resclip-sclip, resclip-clearclip, scclip, cliptrase (--methods; +pamr behind any but "
             "cliptrase); or anomaly, AnoVL on mvtec_ad and visa. Not given: regions"},
    {"lists", 0, FLAG_TEXT, offsetof(options, lists), "LIST,LIST...",
     .help = "segmentation: published lists of names (segment --classes); not given: all of the dataset's"},
    {"seed", 0, FLAG_COUNT, offsetof(options, seed), "N", 0, 4e9, .help = "anomaly: of the adapter's start and noise; not given: 0"},
    {"methods", 0, FLAG_TEXT, offsetof(options, methods), "M,M...",
     .help = "region embeddings to compare: cls, crop, maskedcrop, redcircle, blur, greyscale, fgvp, ris, pool, surgery, maskinv; alphaclip with its models"},
    {"explainers", 0, FLAG_TEXT, offsetof(options, explainers), "M,M...",
     .help = "maps to compare: what explain --method knows"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "OUT", .required = true, .help = "folder for the results"},
    {"limit", 0, FLAG_COUNT, offsetof(options, limit), "N", 1, 1e15, .help = "the first N scenes only"},
    {"shard", 0, FLAG_TEXT, offsetof(options, shard), "I/N",
     .help = "only scenes I, I + N, I + 2 N... (I from 0), to be merged"},
    {"keep-going", 0, FLAG_SWITCH, offsetof(options, keep_going), NULL,
     .help = "leave broken scenes out instead of stopping"},
    {"template", 0, FLAG_LIST, offsetof(options, text.templates), "TEMPLATE",
     .help = "a sentence with {} where a name goes; not given: \"a photo of a NAME\". Phrases stand as they are"},
    {"templates", 0, FLAG_TEXT, offsetof(options, text.file), "FILE",
     .help = "a file of templates, one a line; or builtin: the 80 published for ImageNet and 5 of CLIP Surgery's"},
    {"size", 0, FLAG_TEXT, offsetof(options, sizes), "N,N...",
     .help =
         "sides of the squashed square; not given: the model's image, twice that for pool, surgery, maskinv and maps"},
    {"quality", 0, FLAG_TEXT, offsetof(options, qualities), "Q,Q...", .help = "masks: exact, eroded, dilated, box"},
    {"iters", 0, FLAG_TEXT, offsetof(options, iters), "K,K...",
     .help = "maskinv's steps; not given: the model's, else 10"},
    {"lr", 0, FLAG_TEXT, offsetof(options, lr), "LR,LR...",
     .help = "maskinv's step size; not given: the model's, else 0.5"},
    {"alpha", 0, FLAG_TEXT, offsetof(options, alpha), "A,A...",
     .help = "maskinv's hold on the image; not given: the model's, else 0"},
    {"layers", 0, FLAG_TEXT, offsetof(options, layers), "N,N...",
     .help = "maskinv's last layers; not given: the model's, else 1"},
    {"explainer", 0, FLAG_TEXT, offsetof(options, inverted), "M,M...",
     .help = "whose map maskinv inverts: legrad, gradcam, chefer, rollout"},
    {"blocks", 0, FLAG_TEXT, offsetof(options, blocks), "N,N...",
     .help = "last blocks that pool, surgery and the explainers change"},
    CLI_COMMON_FLAGS(options),
};

const command eval_command = {
    "eval",
    "compares region embeddings and maps on a set",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "Region class retrieval (Acc@1, Acc@5 and the mean per class, among all names of the scene's kind), "
    "referring-expression\n"
    "comprehension (the phrase is given, the mask is chosen), and for maps the pointing game, IoU at the threshold "
    "that is\n"
    "best over all, average precision over pixels, and mIoU of the largest map. Several values of a flag make a row "
    "each.\n"
    "OUT gets results.jsonl, a line a scene; table.csv, names.csv (of scenes: hits of each name), table.json and\n"
    "report.html, made from it. A run that was killed goes on where it was. Shards (GNU parallel, Slurm) are put together\n"
    "by `maskinv merge`, to the same bytes.",
    cmd_eval,
};

typedef struct {
    cli c;
    options o;
    eval_head head;
    eval_bench bench;
    survey survey;
    size_t broken;
} job;

static bool read_shard(job *j, eval_wishes *w) {
    const char *text = j->o.shard;
    char *end = NULL;
    w->shards = 1;
    if (!text) return true;
    bool digits = strspn(text, "0123456789/") == strlen(text) && text[0] != '/' && text[0];
    unsigned long long i = digits ? strtoull(text, &end, 10) : 0, n = 0;
    if (digits && *end == '/' && end[1] != '/' && end[1]) n = strtoull(end + 1, &end, 10);
    if (!digits || *end || n < 1 || i >= n || n > 1000000)
        return cli_usage(&j->c, "--shard: '%s' found, I/N with I from 0 to N - 1 expected", text);
    w->shard = (size_t)i, w->shards = (size_t)n;
    return true;
}

static void show(void *arg, size_t done, size_t of, size_t fresh) {
    job *j = arg;
    (void)fresh;
    cli_progress(&j->c, "scenes", done, of);
}

static void show_broken(void *arg, const char *message) {
    job *j = arg;
    cli_warn(&j->c, "left out: %s", message);
    j->broken++;
}

/* Of a published dataset: see survey.h. */
static void show_survey(void *arg, const char *what, size_t done, size_t of) {
    job *j = arg;
    cli_progress(&j->c, what, done, of);
}

static bool make_survey(job *j, const eval_wishes *w, bool *usage) {
    survey_wishes all = {.split = j->o.split, .by = j->o.by, .compared = *w, .anomalies = j->o.task && !strcmp(j->o.task, "anomaly")};
    const options *o = &j->o;
    all.watch = (survey_watch){show_survey, j};
    all.segmentation = o->task && !strcmp(o->task, "segmentation"), all.lists = o->lists;
    if (o->lists && !all.segmentation) return *usage = true, err_set(&j->c.e, "--lists is --task segmentation's");
    if (all.segmentation && (o->explainers || o->qualities || o->layers || o->lr || o->alpha || o->blocks || o->inverted || o->sizes || o->iters))
        return *usage = true, err_set(&j->c.e, "--task segmentation: each row has its published settings; --methods and --lists choose among them");
    if (all.anomalies) {
        if (o->methods || o->explainers || o->qualities || o->layers || o->lr || o->alpha || o->blocks || o->inverted)
            return *usage = true, err_set(&j->c.e, "--task anomaly has no rows to choose: --size, --iters and --seed alone are its own");
        bool visa = !strncmp(o->set, "visa:", 5);
        double iters = o->iters ? strtod(o->iters, NULL) : 5, size = o->sizes ? strtod(o->sizes, NULL) : 0;
        if (!(iters >= 0 && iters <= 1000) || !(size >= 0 && size <= 16384))
            return *usage = true, err_set(&j->c.e, "--iters %s, --size %s found, one number of each expected", o->iters ? o->iters : "5",
                                          o->sizes ? o->sizes : "of the model");
        all.compared.methods = "cls", all.compared.iters = NULL, all.compared.sizes = NULL;
        all.anovl = (anovl_options){.side = (size_t)size, .steps = (size_t)iters, .seed = o->seed, .views = !visa, .tiled = visa};
    }
    return survey_open(&j->survey, &all, j->o.set, j->c.weights, &j->c.memory, j->c.cores, usage, &j->c.e);
}

static bool run_survey(job *j) {
    if (!survey_run(&j->survey, j->o.out, j->c.cores, &j->c.memory, &j->c.e)) return false;
    cli_progress_end(&j->c);
    return survey_finish(j->o.out, stdout, &j->c.e);
}

static bool make_head(job *j) {
    const options *o = &j->o;
    const char **lines = NULL;
    size_t count = 0;
    bool usage = false;
    eval_wishes w = {o->methods, o->explainers, o->sizes,  o->qualities, o->layers, o->iters,
                     o->lr,      o->alpha,      o->blocks, o->inverted,  o->limit,  0,
                     1,          NULL,          0};
    if (!read_shard(j, &w)) return false;
    if (o->text.file && o->text.templates.count)
        return cli_usage(&j->c, "--template and --templates: one of them expected, both found");
    for (size_t i = 0; i < o->text.templates.count; i++)
        if (!template_check(o->text.templates.item[i], &j->c.e)) return err_prefix(&j->c.e, "--template");
    if (o->text.file && !templates_read(o->text.file, &lines, &count, &j->c.e))
        return err_prefix(&j->c.e, "--templates");
    w.templates = lines ? lines : (const char *const *)o->text.templates.item;
    w.template_count = lines ? count : o->text.templates.count;
    if (o->task && !survey_is_dataset(o->set)) return cli_usage(&j->c, "--task: of a dataset, NAME:ROOT; --data %s found", o->set);
    bool ok = survey_is_dataset(o->set) ? make_survey(j, &w, &usage)
                                        : eval_head_make(&j->head, &w, o->set, j->c.weights, &usage, &j->c.e);
    if (!ok && usage) j->c.code = 2;
    mem_free(lines);
    return ok;
}

static size_t sides_of(const char *name) {
    const region_method *how = region_method_find(name);
    return how ? how->sides : 2; /* maps */
}

/* "cls, crop: at 96 x 96 pixels (the model's image)", for each side that rows run at. */
static void say_sides(const job *j) {
    const eval_head *h = j->survey.set ? &j->survey.head : &j->head;
    const eval_row *row[1024];
    size_t rows = 0;
    for (size_t i = 0; i < h->row_count && rows < 1024; i++) row[rows++] = &h->rows[i];
    for (size_t i = 0; i < h->map_count && rows < 1024; i++) row[rows++] = &h->maps[i];
    for (size_t i = 0; i < rows; i++) {
        if (!row[i]) continue;
        size_t side = row[i]->side, times = sides_of(row[i]->method);
        const char *last = NULL;
        for (size_t k = i; k < rows; k++) {
            if (!row[k] || row[k]->side != side || sides_of(row[k]->method) != times) continue;
            if (!last || strcmp(last, row[k]->method)) printf("%s%s", last ? ", " : "", row[k]->method);
            last = row[k]->method, row[k] = NULL;
        }
        printf(": at %zu x %zu pixels (%s)\n", side, side,
               j->o.sizes ? "--size" : config_side_from(&j->c.model->config, times));
    }
}

/* maskinv's layers, where no flag says them. */
static void say_layers(const job *j) {
    const eval_head *h = j->survey.set ? &j->survey.head : &j->head;
    for (size_t i = 0; i < h->row_count && !j->o.layers; i++) {
        if (strcmp(h->rows[i].method, "maskinv") || !h->rows[i].layers) continue;
        printf("maskinv: ");
        cli_say_layers(h->rows[i].layers, config_layers_from(&j->c.model->config));
        return;
    }
}

static bool eval(void *arg) {
    job *j = arg;
    eval_options o = {.keep_going = j->o.keep_going, .progress = show, .broken = show_broken, .arg = j};
    if (!cli_open_model(&j->c, &j->o.common) || !make_head(j)) return false;
    say_sides(j);
    say_layers(j);
    if (j->survey.set && j->c.builtin)
        cli_warn(&j->c, "%s: photographs; the built-in model knows drawn things and cut-outs alone, so its figures mean nothing here "
                        "(-m MODEL: a published CLIP, see weights/get)", j->o.set);
    if (j->survey.set) return run_survey(j);
    if (!eval_bench_open(&j->bench, &j->head, j->c.weights, &j->c.memory, j->c.cores, &j->c.e)) return false;
    if (!eval_run(&j->bench, j->o.out, &o, j->c.cores, &j->c.memory, &j->c.e)) return false;
    cli_progress_end(&j->c);
    return eval_finish(j->o.out, stdout, &j->c.e);
}

static void give_back(void *arg) {
    job *j = arg;
    eval_bench_free(&j->bench);
    eval_head_free(&j->head);
    survey_free(&j->survey);
}

int cmd_eval(int argc, char **argv) {
    return cli_run(&eval_command, argc, argv, sizeof(job), offsetof(job, o), eval, give_back);
}
