/* trainer.c - a training run from its settings to a model folder (see trainer.h). */
#include "training/trainer.h"
#include "models/checkpoint.h"
#include "models/pixels.h"
#include "training/feed.h"
#include "training/loop.h"
#include "sys/threads.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- settings ---------------------------------------------------------------------------------------- */

const setting train_settings[S_COUNT] = {
    [S_WIDTH] = {"width", 128, 4, 4096, SET_SHAPE, "of the image tower", false, false},
    [S_LAYERS] = {"layers", 6, 1, 64, SET_SHAPE, "blocks of the image tower", false, false},
    [S_HEADS] = {"heads", 4, 1, 64, SET_SHAPE, "attention heads of the image tower", false, false},
    [S_PATCH] = {"patch", 8, 2, 64, SET_SHAPE, "side of a patch in pixels", false, false},
    [S_IMAGE] = {"image", 80, 16, 512, SET_SHAPE, "side of a picture in pixels", false, false},
    [S_EMBED] = {"embed", 128, 4, 4096, SET_SHAPE, "size of an embedding", false, false},
    [S_TEXT_WIDTH] = {"text-width", 96, 4, 4096, SET_SHAPE, "of the text tower", false, false},
    [S_TEXT_LAYERS] = {"text-layers", 3, 1, 64, SET_SHAPE, "blocks of the text tower", false, false},
    [S_TEXT_HEADS] = {"text-heads", 4, 1, 64, SET_SHAPE, "attention heads of the text tower", false, false},
    [S_CONTEXT] = {"context", 24, 4, 256, SET_SHAPE, "longest caption in tokens", false, false},
    [S_MERGES] = {"merges", 1000, 1, 48894, SET_SHAPE, "byte pairs that the tokenizer learns", false, false},
    [S_POOL] = {"pool", CLIP_POOL_MEAN, 0, 1, SET_SHAPE, "class, or tokens_mean: all tokens' mean before LN_post",
                false, false},
    [S_PHOTOGRAPHIC] = {"photographic", 0.35, 0, 1, SET_DATA, "share of pictures made of cut-outs (0: drawn ones only)",
                        false, true},
    [S_LEAST] = {"least-objects", 1, 1, 8, SET_DATA, "fewest objects in a picture", false, false},
    [S_MOST] = {"most-objects", 4, 1, 8, SET_DATA, "most objects in a picture", false, false},
    [S_SINGLE_FROM] = {"single-from", 0.8, 0, 1, SET_DATA, "share of single-object pictures at the start", false, true},
    [S_SINGLE_TO] = {"single-to", 0.3, 0, 1, SET_DATA, "and later", false, true},
    [S_SINGLE_OVER] = {"curriculum", 0.5, 0, 1, SET_DATA, "share of the run over which it changes", false, true},
    [S_BATCH] = {"batch", 192, 2, 65536, SET_DATA, "pictures a step", false, false},
    [S_SEED] = {"seed", 1, 0, 9007199254740992.0, SET_DATA, "of weights and pictures", false, false},
    [S_MORE] = {"more-captions", 0, 0, 8, SET_DATA, "of each picture, each of one object alone, beside the one of the whole", false, false},
    [S_CAPTIONS] = {"captions", 50000, 1, 10000000, SET_DATA, "captions that the tokenizer learns from", false, false},
    [S_IMAGES] = {"images", 2000000, 1, 1e12, SET_FREE, "pictures in all", false, false},
    [S_HOURS] = {"hours", 0, 0, 10000, SET_FREE, "instead of --images: as many as the first steps promise", false, true},
    [S_LR] = {"lr", 1.5e-3, 0, 1e30, SET_FREE, "peak learning rate", false, true},
    [S_LR_END] = {"lr-end", 0.02, 0, 1, SET_FREE, "share of it left at the end of the cosine", false, true},
    [S_WARMUP] = {"warmup", 300, 0, 1e9, SET_FREE, "steps until the peak", false, false},
    [S_DECAY] = {"decay", 0.1, 0, 10, SET_FREE, "weight decay, on matrices only", false, true},
    [S_COSINE_PATCH] = {"cosine-patch", 1, 0, 1, SET_DATA,
                        "1: the patch projection is a cosine transform (--from: the model's) and stays so; 0: random, and learned", false, false},
    [S_CLIP] = {"clip", 1, 0, 1e9, SET_FREE, "largest norm of a gradient (0: any)", false, true},
    [S_EMA] = {"ema", 0.999, 0, 0.999999, SET_FREE,
               "decay of the averaged weights, which are the model (0: no average)", false, true},
    [S_THREADS] = {"threads", 0, 0, 256, SET_RUN, "cores (0: all; their number does not change the bytes)", false, false},
    [S_SHARES] = {"shares", 12, 1, 256, SET_FREE, "parts of a batch that cores take one after another", false, false},
    [S_CHUNK] = {"chunk", 8, 1, 4096, SET_FREE, "pictures a core takes at once", false, false},
    [S_TEXT_CHUNK] = {"text-chunk", 48, 1, 4096, SET_FREE, "captions a core takes at once", false, false},
    [S_CHECKPOINT_EVERY] = {"checkpoint-every", 500, 1, 1e9, SET_RUN, "steps from one checkpoint to the next", false, false},
    [S_VALID_EVERY] = {"valid-every", 1000, 1, 1e9, SET_RUN, "steps from one naming of held-out pictures to the next",
                       false, false},
    [S_VALID] = {"valid", 200, 0, 100000, SET_RUN, "held-out pictures of each kind", false, false},
    [S_STOP] = {"stop-after", 0, 0, 1e12, SET_RUN, "stop as if interrupted after this step (0: never)", false, false},
};

static size_t count_of(const setting *s, int which) { return (size_t)s[which].value; }

static bool settings_check(const setting *s, err *e) {
    static const int divides[][2] = {{S_HEADS, S_WIDTH}, {S_TEXT_HEADS, S_TEXT_WIDTH}, {S_PATCH, S_IMAGE}};
    for (size_t i = 0; i < 3; i++) {
        const setting *a = &s[divides[i][0]], *b = &s[divides[i][1]];
        if (fmod(b->value, a->value) != 0)
            return err_set(e, "--%s %g is no multiple of --%s %g", b->flag, b->value, a->flag, a->value);
    }
    if (s[S_LEAST].value > s[S_MOST].value)
        return err_set(e, "--objects: from %g to %g", s[S_LEAST].value, s[S_MOST].value);
    if (s[S_BATCH].value < s[S_SHARES].value)
        return err_set(e, "--batch %g: fewer pictures than --shares %g", s[S_BATCH].value, s[S_SHARES].value);
    return true;
}

static clip_config config_of(const setting *s) {
    clip_config c = {
        .vision = {.width = count_of(s, S_WIDTH), .layers = count_of(s, S_LAYERS), .heads = count_of(s, S_HEADS),
                   .mlp = 4 * count_of(s, S_WIDTH), .eps = (real)1e-5},
        .text = {.width = count_of(s, S_TEXT_WIDTH), .layers = count_of(s, S_TEXT_LAYERS), .heads = count_of(s, S_TEXT_HEADS),
                 .mlp = 4 * count_of(s, S_TEXT_WIDTH), .eps = (real)1e-5},
        .image = count_of(s, S_IMAGE),
        .patch = count_of(s, S_PATCH),
        .embed = count_of(s, S_EMBED),
        .context = count_of(s, S_CONTEXT),
        .act_vision = ACT_QUICK_GELU,
        .act_text = ACT_QUICK_GELU,
        .pool = (clip_pool)count_of(s, S_POOL),
    };
    pixels_defaults(&c);
    return c;
}

static feed_plan feed_of(const setting *s, const clip_config *c, const char *stamps) {
    return (feed_plan){.config = *c,
                       .pairs = count_of(s, S_BATCH),
                       .more = count_of(s, S_MORE),
                       .seed = (uint64_t)s[S_SEED].value,
                       .photographic = s[S_PHOTOGRAPHIC].value,
                       .least = count_of(s, S_LEAST),
                       .most = count_of(s, S_MOST),
                       .single = {s[S_SINGLE_FROM].value, s[S_SINGLE_TO].value, s[S_SINGLE_OVER].value},
                       .stamps = stamps};
}

/* ---- a run's parts -------------------------------------------------------------------------------------- */

enum { PATH = 4096, KINDS = 2 };

typedef struct {
    setting *s;
    const train_options *options;
    clip_config config;
    pool *cores;
    feed *feed;
    void *room;
    size_t room_size;
    arena memory;
    contrastive *step;
    optimiser best;
    real *gradient;
    clip_model *average; /* what is written and asked */
    held_out held[KINDS];
    loop loop;
    bool overfit; /* the same pictures in every step */
    char model[PATH], merges[PATH];
} run;

static bool paths_make(run *r, err *e) {
    const char *d = r->options->folder;
    snprintf(r->model, PATH, "%s/model", d);
    snprintf(r->merges, PATH, "%s/model/merges.txt", d);
    return loop_paths(&r->loop, d, e);
}

static bool copy_file(const char *from, const char *to, err *e) {
    file_map in;
    if (!file_map_open(from, &in, e)) return false;
    bool good = file_write(to, in.data, in.length, e);
    file_map_close(&in);
    return good;
}

/* The feed with its words: those of the folder where the run goes on, of the model it begins with, or new ones. */
static bool open_feed(run *r, bool on, err *e) {
    feed_plan plan = feed_of(r->s, &r->config, r->options->stamps);
    r->feed = feed_open(&plan, r->cores, e);
    if (!r->feed) return false;
    if (!on && r->options->from) {
        char path[PATH];
        if ((size_t)snprintf(path, sizeof path, "%s/merges.txt", r->options->from) >= sizeof path)
            return err_set(e, "--from: the path is too long");
        if (!copy_file(path, r->merges, e)) return err_prefix(e, "--from");
        on = true;
    }
    if (r->options->from && (r->s[S_MERGES].given || r->s[S_CAPTIONS].given))
        return err_set(e, "--from: the model brings its own merges, --merges and --captions do not go with it");
    if (on) {
        if (!feed_tokens(r->feed, r->merges, e)) return false;
    } else if (!feed_learn(r->feed, count_of(r->s, S_CAPTIONS), count_of(r->s, S_MERGES),
                           r->options->folder ? r->merges : NULL, e))
        return false;
    r->config.vocab = feed_vocab(r->feed);
    return true;
}

static bool open_step(run *r, err *e) {
    size_t batch = count_of(r->s, S_BATCH);
    contrastive_plan plan = {count_of(r->s, S_SHARES), batch, batch * (1 + count_of(r->s, S_MORE)), count_of(r->s, S_CHUNK),
                             count_of(r->s, S_TEXT_CHUNK)};
    fault why = {0};
    parameters *params;
    r->room_size = contrastive_room(&r->config, &plan);
    r->room = mem_reserve(r->room_size);
    if (!r->room) return err_set(e, "no memory: a step of %zu pictures takes %zu MB", plan.pictures, r->room_size >> 20);
    arena_init(&r->memory, r->room, r->room_size);
    params = arena_alloc(&r->memory, 1, sizeof *params);
    if (!params) fault_memory(&why, "parameters", &r->memory, sizeof *params);
    if (!params || !parameters_of(&r->config, &r->memory, params, &why)) return err_fault(e, &why);
    if (!optimiser_new(&r->best, params, r->cores, e)) return false;
    r->best.rates = (optimiser_rates){(real)0.9,
                                      (real)0.98,
                                      (real)1e-6,
                                      (real)r->s[S_DECAY].value,
                                      (real)r->s[S_CLIP].value,
                                      (real)r->s[S_EMA].value};
    r->best.cosine_patch = r->s[S_COSINE_PATCH].value > 0;
    r->gradient = arena_alloc(&r->memory, params->numbers, sizeof *r->gradient);
    if (!r->gradient) fault_memory(&why, "gradient", &r->memory, params->numbers * sizeof *r->gradient);
    r->average = contrastive_model(&r->config, r->best.average, &r->memory, &why);
    if (r->gradient && r->average)
        r->step = contrastive_new(&r->config, r->best.weights, r->cores, &plan, &r->memory, &why);
    return r->step ? true : err_fault(e, &why);
}

static bool run_open(run *r, bool on, err *e) {
    if (!settings_check(r->s, e)) return false;
    r->config = config_of(r->s);
    r->cores = pool_start(count_of(r->s, S_THREADS));
    if (!r->cores) return err_set(e, "--threads %g: threads cannot be had", r->s[S_THREADS].value);
    return open_feed(r, on, e) && open_step(r, e);
}

static void run_close(run *r) {
    loop_end(&r->loop);
    for (size_t k = 0; k < KINDS; k++) held_out_free(&r->held[k]);
    if (r->best.params) optimiser_free(&r->best);
    if (r->room) mem_release(r->room, r->room_size);
    feed_free(r->feed);
    if (r->cores) pool_stop(r->cores);
}

/* ---- beginning with another model's weights --------------------------------------------------------------- */

typedef struct {
    run *r;
    const clip_model *m;
    size_t index;
    arena memory; /* for one weight at a time */
    fault why;
} taking;

/* The next weight into the flat block; positions are resized to this run's grid. */
static bool take_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    taking *g = arg;
    const parameter *p = &g->r->best.params->list[g->index++];
    size_t grid = g->r->config.image / g->r->config.patch, mark = arena_mark(&g->memory);
    ag_tape t;
    (void)layer, (void)rows, (void)cols;
    bool made = ag_tape_init(&t, &g->memory, g->r->cores, 64);
    t.recording = false;
    ag_tensor *x = !made ? NULL : kind == W_POSITION ? clip_position(&t, g->m, grid, grid, POSITION_BICUBIC) : clip_use(&t, w);
    for (size_t i = 0; x && i < p->rows; i++)
        for (size_t j = 0; j < p->cols; j++)
            g->r->best.weights[p->offset + i * p->cols + j] = x->data[w->transposed ? j * p->rows + i : i * p->cols + j];
    g->why = t.fault;
    arena_reset(&g->memory, mark);
    return x != NULL;
}

/* The model must be what the settings say, picture side excepted. */
static bool same_shape(const clip_config *a, const clip_config *b, const char *folder, err *e) {
    const struct {
        const char *flag;
        size_t there, here;
    } shape[] = {{"width", a->vision.width, b->vision.width},       {"layers", a->vision.layers, b->vision.layers},
                 {"heads", a->vision.heads, b->vision.heads},       {"patch", a->patch, b->patch},
                 {"embed", a->embed, b->embed},                     {"text-width", a->text.width, b->text.width},
                 {"text-layers", a->text.layers, b->text.layers},   {"text-heads", a->text.heads, b->text.heads},
                 {"context", a->context, b->context}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        if (shape[i].there != shape[i].here)
            return err_set(e, "--from %s: its %s is %zu, but --%s %zu is asked", folder, shape[i].flag, shape[i].there,
                           shape[i].flag, shape[i].here);
    static const char *const pools[] = {[CLIP_POOL_CLASS] = "class", [CLIP_POOL_MEAN] = "tokens_mean"};
    if (a->pool != b->pool)
        return err_set(e, "--from %s: it pools by %s, but --pool %s is asked", folder, pools[a->pool], pools[b->pool]);
    if (a->vocab != b->vocab)
        return err_set(e, "--from %s: %zu words in its weights, %zu in its merges", folder, a->vocab, b->vocab);
    bool same = a->vision.mlp == b->vision.mlp && a->text.mlp == b->text.mlp && a->act_vision == b->act_vision &&
                a->act_text == b->act_text;
    for (size_t k = 0; k < 3; k++)
        same = same && fabsf((float)(a->mean[k] - b->mean[k])) < 1e-6f && fabsf((float)(a->std[k] - b->std[k])) < 1e-6f;
    return same || err_set(e, "--from %s: another MLP, activation, mean or deviation of pixels than train makes", folder);
}

static bool take_weights(run *r, const char *folder, err *e) {
    checkpoint *c = checkpoint_open(folder, e);
    if (!c || !checkpoint_check_finite(c, e)) return checkpoint_free(c), err_prefix(e, "--from");
    clip_model m = *checkpoint_model(c); /* clip_each_weight visits what could be changed */
    taking g = {.r = r, .m = &m};
    bool good = same_shape(&m.config, &r->config, folder, e);
    size_t size = 2 * r->best.params->numbers * sizeof(real) + ((size_t)1 << 20);
    void *room = mem_reserve(size);
    if (good && !room) good = err_set(e, "--from: no memory for %zu weights", r->best.params->numbers);
    if (good) arena_init(&g.memory, room, size);
    if (good && !clip_each_weight(&m, take_weight, &g)) good = err_fault(e, &g.why);
    if (room) mem_release(room, size);
    if (good) memcpy(r->best.average, r->best.weights, r->best.params->numbers * sizeof *r->best.average);
    checkpoint_free(c);
    return good;
}

/* Where the run stands: a new one, or one that goes on. */
static bool run_begin(run *r, const char *from, err *e) {
    optimiser_begin(&r->best, &r->config, (uint64_t)r->s[S_SEED].value);
    r->best.pictures = r->s[S_HOURS].value > 0 ? 0 : r->s[S_IMAGES].value;
    if (!from && r->options->from && !take_weights(r, r->options->from, e)) return false;
    if (from) {
        if (!optimiser_load(&r->best, from, e)) return false;
        if (r->s[S_IMAGES].given) r->best.pictures = r->s[S_IMAGES].value;
    }
    if (!loop_begin(&r->loop, from, e)) return false;
    for (size_t k = 0; k < KINDS; k++)
        if (r->s[S_VALID].value > 0 && feed_has(r->feed, (scene_kind)k) &&
            !feed_held_out(r->feed, (scene_kind)k, count_of(r->s, S_VALID), &r->held[k], e))
            return false;
    return true;
}

/* ---- naming held-out pictures ------------------------------------------------------------------------------- */

static void unit_rows(real *x, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows; i++) {
        real length = (real)sqrt((double)k_dot(x + i * cols, x + i * cols, cols));
        for (size_t c = 0; c < cols; c++) x[i * cols + c] /= length;
    }
}

/* Share of pictures that are nearest to the prompt with their own name. */
static bool name_share(run *r, const held_out *h, double *share, err *e) {
    size_t dim = r->config.embed, right = 0;
    fault why = {0};
    real *z = mem_alloc(h->count * dim, sizeof *z), *w = mem_alloc(h->names * dim, sizeof *w);
    bool good = z && w;
    if (!good) err_set(e, "no memory to name %zu pictures", h->count);
    if (good && !(contrastive_images(r->step, r->average, h->patches, h->count, z, &why) &&
                  contrastive_texts(r->step, r->average, h->ids, h->names, h->length, w, &why)))
        good = err_fault(e, &why);
    if (good) unit_rows(w, h->names, dim);
    for (size_t i = 0; good && i < h->count; i++) {
        size_t best = 0;
        real most = -INFINITY;
        for (size_t k = 0; k < h->names; k++) {
            real s = k_dot(z + i * dim, w + k * dim, dim);
            if (s > most) most = s, best = k;
        }
        right += h->right[i] == best;
    }
    *share = (double)right / (double)h->count;
    mem_free(z), mem_free(w);
    return good;
}

static bool run_valid(void *system, log_line *line, err *e) {
    run *r = system;
    valid_line v = {line->step, line->images, NAN, NAN};
    if (r->held[SCENE_DRAWN].count && !name_share(r, &r->held[SCENE_DRAWN], &v.drawn, e)) return false;
    if (r->held[SCENE_PHOTOGRAPHIC].count && !name_share(r, &r->held[SCENE_PHOTOGRAPHIC], &v.photographic, e))
        return false;
    if (!r->options->quiet)
        printf("%sheld-out single objects named: drawn %.3f, photographic %.3f\n", r->loop.log.terminal ? "\r\033[K" : "",
               v.drawn, v.photographic);
    return log_valid(&r->loop.log, &v, e);
}

/* ---- what the loop asks of it ----------------------------------------------------------------------------------- */

static bool run_step(void *system, uint64_t n, double progress, real *gradient, log_line *line, err *e) {
    run *r = system;
    contrastive_batch b;
    contrastive_result out;
    fault why = {0};
    uint64_t first = r->overfit ? 0 : n * (uint64_t)r->s[S_BATCH].value;
    if (!feed_batch(r->feed, first, progress, &b, e)) return false;
    bool good = contrastive_step(r->step, &b, gradient, &out, &why);
    if (!good && why.code != FAULT_NAN) return err_fault(e, &why);
    line->loss = good ? (double)out.loss : NAN, line->accuracy = (double)out.accuracy;
    return true;
}

static bool run_write(void *system, err *e) {
    run *r = system;
    return checkpoint_write(r->model, r->average, "F16", e);
}

static void run_hooks(run *r) {
    const setting *s = r->s;
    loop *l = &r->loop;
    l->plan = (loop_plan){.lr = s[S_LR].value, .lr_end = s[S_LR_END].value, .warmup = s[S_WARMUP].value,
                          .batch = s[S_BATCH].value, .hours = s[S_HOURS].value,
                          .checkpoint_every = (uint64_t)s[S_CHECKPOINT_EVERY].value,
                          .valid_every = (uint64_t)s[S_VALID_EVERY].value, .stop_after = (uint64_t)s[S_STOP].value};
    l->best = &r->best, l->gradient = r->gradient, l->settings = s, l->setting_count = S_COUNT;
    l->quiet = r->options->quiet, l->system = r;
    l->step = run_step, l->valid = run_valid, l->write = run_write;
}

static void run_tell(const run *r) {
    size_t count = 0;
    for (size_t i = 0; i < r->best.params->count; i++)
        count += r->best.params->list[i].rows * r->best.params->list[i].cols;
    if (r->options->quiet) return;
    printf("%zu parameters, vocabulary %zu, %zu threads, %s; step %llu", count, r->config.vocab, r->cores->width,
           gemm_backend(), (unsigned long long)r->best.step);
    if (r->best.pictures > 0) printf(" of %.0f", ceil(r->best.pictures / r->s[S_BATCH].value));
    printf("\n");
}

bool trainer_run(setting *s, const train_options *o, err *e) {
    run *r = mem_alloc(1, sizeof *r);
    char room[PATH + 16], there[PATH + 64];
    const char *from = NULL;
    if (!r) return err_set(e, "no memory for a run");
    r->s = s, r->options = o;
    bool good = paths_make(r, e) && loop_from(&r->loop, o->resume, room, sizeof room, &from, e) && folder_make(r->model, e);
    if (good) snprintf(there, sizeof there, "%.4000s/open_clip_model.safetensors", r->model);
    if (good && !from && file_exists(there))
        good = err_set(e, "%s: stands here already, without a checkpoint to go on from; another -o begins anew", there);
    good = good && (!from || settings_load(from, s, S_COUNT, e));
    if (o->steps > 0) s[S_IMAGES].value = o->steps * s[S_BATCH].value, s[S_IMAGES].given = true; /* the batch is known now */
    good = good && run_open(r, from != NULL, e);
    if (good) run_hooks(r);
    good = good && run_begin(r, from, e);
    if (good) run_tell(r);
    good = good && loop_run(&r->loop, e);
    if (good && !o->quiet)
        printf("%s: %.1f MB of activations and gradients at most\n", r->model, (double)contrastive_peak(r->step) / 1e6);
    run_close(r);
    mem_free(r);
    return good;
}

/* ---- overfit --------------------------------------------------------------------------------------------------- */

bool trainer_overfit(setting *s, const train_options *o, double seconds, err *e) {
    run *r = mem_alloc(1, sizeof *r);
    train_options own = {.folder = NULL, .stamps = o->stamps, .quiet = o->quiet};
    log_line line = {0};
    if (!r) return err_set(e, "no memory for a run");
    r->s = s, r->options = &own, r->overfit = true;
    s[S_PHOTOGRAPHIC].value = 0;
    bool good = run_open(r, false, e);
    if (good) optimiser_begin(&r->best, &r->config, (uint64_t)s[S_SEED].value), run_hooks(r);
    double start = seconds_now();
    while (good && line.accuracy < 1) {
        good = loop_step(&r->loop, r->best.step, 0, &line, e);
        if (good && !o->quiet && (r->best.step % 10 == 0 || line.accuracy >= 1))
            printf("step %.0f  loss %.3f  accuracy %.3f  %.1f s\n", line.step, line.loss, line.accuracy,
                   seconds_now() - start);
        if (good && line.accuracy < 1 && seconds_now() - start > seconds)
            good = err_set(e, "%.0f seconds: accuracy %.3f among %g pictures, expected 1", seconds, line.accuracy,
                           s[S_BATCH].value);
    }
    run_close(r);
    mem_free(r);
    return good;
}
