/* system_safe.c - ./train safe: an attention pool tuned on a few pictures of each class (after SAFE, arXiv 2311.04464; MODEL.md 17).
 *
 * Model. The mean over tokens becomes an attention pool that begins as that mean; it alone learns. f = unit(LN_post(pool(x)) P).
 * Loss. Cross entropy of exp(tau) f T^T over the classes' texts (17.2).
 * Asked. The share of held-out pictures whose class has the nearest text to unit(a f + (1 - a) f_0), f_0 the model's own (17.3).
 * --share 0 is zero-shot, 1 the tuned feature alone; both are told beside it. --probe 1 is the control: a linear map of f_0, the pool as it
 * was. --ask 1 asks for names, whatever was learned: what a pool tuned on textures forgets. --cutouts 1: cut-outs of photographs in the
 * place of drawn things.
 * The paper's ratio and rates could not be read: those here are ours.
 */
#include "training/systems.h"
#include "models/texts.h"
#include "parts/pool.h"
#include "scenes/grammar.h"
#include "sys/random.h"
#include "training/looked.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { F_TASK = T_OWN, F_SHOTS, F_SCENES, F_SHARE, F_PROBE, F_CUTOUTS, F_ASK, F_COUNT };
enum { TEXTURE, PLACE, NAME, TASKS };
static const setting recipe[F_COUNT] = {
    SYSTEM_SETTINGS(60, 64, 1e-3, 0, 0, 0, 4),
    [F_TASK] = {"task", TEXTURE, 0, TASKS - 1, SET_DATA, "0: texture, 1: place, 2: name", false, false},
    [F_SHOTS] = {"shots", 16, 1, 1000, SET_DATA, "pictures of each class", false, false},
    [F_SCENES] = {"scenes", 1200, 2, 1e6, SET_DATA, "among which the shots are", false, false},
    [F_SHARE] = {"share", 0.5, 0, 1, SET_RUN, "a: of the tuned feature when asked; 1: it alone, 0: zero-shot", false, true},
    [F_PROBE] = {"probe", 0, 0, 1, SET_SHAPE, "1: a linear map of the pooled feature instead, the control", false, false},
    [F_CUTOUTS] = {"cutouts", 0, 0, 1, SET_DATA, "1: pictures of cut-outs, which have no texture", false, false},
    [F_ASK] = {"ask", 0, 0, 1, SET_RUN, "0: the task's classes; 1: names, whatever the task", false, false},
};
static const char *const places[] = {"top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right"};
enum { PLACES = sizeof places / sizeof *places, SENTENCE = 80 };

typedef struct {
    attention_pool pool;
    ag_tensor *fc[2]; /* the probe's */
} safe_net;

typedef struct {
    size_t task, count;
    real *texts; /* [count, E] unit */
} classes;

typedef struct {
    scene_source *source;
    word_list names;
    looked seen, held;
    classes learned, asked; /* asked: the same texts, or the names' */
    size_t shots;           /* pictures chosen */
    uint32_t *shot;         /* [classes * --shots] numbers of the scenes that `seen` has */
    uint32_t *pick, *label; /* the batch */
} data;

static size_t class_count(const data *d, size_t task) { return task == TEXTURE ? scene_textures() : task == PLACE ? PLACES : d->names.count; }
static const char *class_name(const data *d, size_t task, size_t k) {
    return task == TEXTURE ? scene_texture(k) : task == PLACE ? places[k] : d->names.word[k];
}
static const char *said(const scene_object *o, size_t task) { return task == TEXTURE ? o->texture : task == PLACE ? o->place : o->name; }

static size_t label_of(const data *d, const classes *c, const scene_object *o) {
    for (size_t k = 0; k < c->count; k++)
        if (!strcmp(said(o, c->task), class_name(d, c->task, k))) return k;
    return c->count;
}

static void class_sentence(const data *d, size_t task, size_t k, char out[SENTENCE]) {
    char where[40];
    grammar_where(task == PLACE ? places[k] : "middle", where);
    if (task == TEXTURE) snprintf(out, SENTENCE, "a %s thing", scene_texture(k));
    else if (task == PLACE) snprintf(out, SENTENCE, "a thing %s", where);
    else snprintf(out, SENTENCE, "a photo of a %.48s", d->names.word[k]);
}

static bool embed_classes(system_job *j, const data *d, size_t task, classes *c, err *e) {
    size_t E = j->model->config.embed, count = class_count(d, task);
    char(*sentence)[SENTENCE] = mem_alloc(count, sizeof *sentence);
    const char **texts = mem_alloc(count, sizeof *texts);
    *c = (classes){task, count, mem_alloc(count, E * sizeof *c->texts)};
    bool good = (sentence && texts && c->texts) || err_set(e, "no memory for %zu texts", count);
    for (size_t k = 0; good && k < count; k++) class_sentence(d, task, k, sentence[k]), texts[k] = sentence[k];
    good = good && system_texts(j, texts, count, NULL, c->texts, e);
    mem_free(sentence), mem_free(texts);
    return good;
}

/* The first --shots pictures of each class among --scenes: their numbers in d->shot. */
static bool choose(system_job *j, data *d, uint64_t seed, err *e) {
    const classes *c = &d->learned;
    size_t each = (size_t)j->s[F_SHOTS].value, fewest = 0, all = (size_t)j->s[F_SCENES].value;
    size_t *have = mem_alloc(c->count, sizeof *have);
    d->shot = mem_alloc(c->count, each * sizeof *d->shot);
    if (!have || !d->shot) return mem_free(have), err_set(e, "no memory for %zu shots", each);
    bool good = true;
    for (size_t i = 0; good && i < all; i++) {
        scene sc;
        good = scene_make(d->source, seed, i, j->model->config.image, 1, 1, &sc, e);
        size_t k = good ? label_of(d, c, &sc.object[0]) : c->count;
        if (k < c->count && have[k] < each) have[k]++, d->shot[d->shots++] = (uint32_t)i;
        if (good) scene_free(&sc);
    }
    for (size_t k = 1; k < c->count; k++) fewest = have[k] < have[fewest] ? k : fewest;
    good = good && (have[fewest] > 0 || err_set(e, "--scenes %zu: none shows the class %s", all, class_name(d, c->task, fewest)));
    if (good && !j->options->quiet)
        printf("safe: %zu pictures of %zu classes, of %s the fewest, %zu\n", d->shots, c->count, class_name(d, c->task, fewest), have[fewest]);
    mem_free(have);
    return good;
}

static bool fits(const system_job *j, err *e) {
    const setting *s = j->s;
    if (!tower_fits(&j->model->config) || j->model->config.pool != CLIP_POOL_MEAN)
        return err_set(e, "safe: the model does not pool by the mean of its tokens, whose place the attention pool takes");
    if (s[F_CUTOUTS].value > 0 && s[F_TASK].value == (double)TEXTURE)
        return err_set(e, "--cutouts 1 with --task 0: cut-outs have no texture; 1 (place) or 2 (name) expected");
    if (s[F_ASK].value > 0 && s[F_PROBE].value > 0)
        return err_set(e, "--ask 1 with --probe 1: a probe knows the task's classes alone");
    return true;
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    size_t task = (size_t)j->s[F_TASK].value, B = (size_t)j->s[T_BATCH].value;
    scene_kind kind = j->s[F_CUTOUTS].value > 0 ? SCENE_PHOTOGRAPHIC : SCENE_DRAWN;
    if (!fits(j, e) || !(d->source = scene_source_open(kind, j->options->stamps, e)) || !words_names(d->source, &d->names, e)) return false;
    d->pick = mem_alloc(B, sizeof *d->pick), d->label = mem_alloc(B, sizeof *d->label);
    if (!d->pick || !d->label) return err_set(e, "no memory for a batch of %zu", B);
    looked_plan plan = {.model = j->model, .source = d->source, .seed = mix64((uint64_t)j->s[T_SEED].value, 71), .least = 1, .most = 1};
    if (!embed_classes(j, d, task, &d->learned, e) || !embed_classes(j, d, j->s[F_ASK].value > 0 ? NAME : task, &d->asked, e)) return false;
    if (!choose(j, d, plan.seed, e)) return false;
    plan.only = d->shot, plan.count = d->shots;
    if (!looked_make(&d->seen, &plan, j->cores, e)) return false;
    plan.only = NULL, plan.seed = HELD_OUT, plan.count = (size_t)j->s[T_VALID].value;
    return !plan.count || looked_make(&d->held, &plan, j->cores, e);
}

static void close_data(system_job *j) {
    data *d = j->own;
    looked_free(&d->seen), looked_free(&d->held), words_free(&d->names);
    mem_free(d->learned.texts), mem_free(d->asked.texts), mem_free(d->shot), mem_free(d->pick), mem_free(d->label);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    (void)e;
    system_pick(j, 72, step, d->shots, d->pick);
    for (size_t b = 0; b < (size_t)j->s[T_BATCH].value; b++)
        d->label[b] = (uint32_t)label_of(d, &d->learned, &d->seen.told[d->pick[b]].object[0]);
    return true;
}

/* ---- the network, and its loss -------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    safe_net *n = net;
    const data *d = j->own;
    n->pool = (attention_pool){.width = j->model->config.vision.width, .heads = j->model->config.vision.heads};
    if (j->s[F_PROBE].value > 0) part_linear(l, n->fc, d->learned.count, j->model->config.embed, false, 0, "fc");
    else pool_weights(&n->pool, l);
}

/* Features of a picture: tuned (or pooled, for the probe) and the model's own, unit [1,1,E]. */
static ag_tensor *feature(const system_job *j, const safe_net *n, ag_tape *t, const looked *l, size_t i) {
    ag_tensor *x = ag_constant(t, l->tokens + i * l->tokens_each * l->width, 1, l->tokens_each, l->width);
    if (j->s[F_PROBE].value > 0) return ag_constant(t, l->z + i * l->embed, 1, 1, l->embed);
    return ag_normalize(t, clip_project(t, j->model, pool_run(t, &n->pool, x)));
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const safe_net *n = net;
    ag_tensor *sum = NULL;
    real each = 1 / (real)j->s[T_BATCH].value;
    (void)out;
    for (size_t b = first; b < last; b++) {
        ag_tensor *f = feature(j, n, t, &d->seen, d->pick[b]);
        ag_tensor *one = j->s[F_PROBE].value > 0
                             ? part_cross_entropy(t, ag_scale(t, part_use_linear(t, n->fc, false, f), clip_logit_scale(j->model), 0), d->label + b, UINT32_MAX, each)
                             : pool_loss(t, f, d->learned.texts, d->learned.count, d->label + b, clip_logit_scale(j->model), each);
        sum = sum ? ag_add(t, sum, one) : one;
    }
    return sum;
}

/* The share of the class that most of the held-out pictures show: what always saying it would get right. */
static double commonest(const data *d) {
    size_t most = 0;
    for (size_t k = 0; k < d->asked.count; k++) {
        size_t n = 0;
        for (size_t i = 0; i < d->held.count; i++) n += label_of(d, &d->asked, &d->held.told[i].object[0]) == k;
        most = n > most ? n : most;
    }
    return (double)most / (double)d->held.count;
}

/* Is the best of a row of scores picture i's class? */
static bool right(const data *d, size_t i, const real *s) {
    size_t best = 0;
    for (size_t k = 1; k < d->asked.count; k++) best = s[k] > s[best] ? k : best;
    return best == label_of(d, &d->asked, &d->held.told[i].object[0]);
}

enum { ZERO_SHOT, TUNED, BLENDED, WAYS };
static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    const safe_net *n = net;
    const real shares[WAYS] = {0, 1, (real)j->s[F_SHARE].value};
    size_t hits[WAYS] = {0}, mark = arena_mark(memory), E = d->held.embed, N = d->held.count;
    bool probe = j->s[F_PROBE].value > 0;
    for (size_t i = 0; i < N; i++, arena_reset(memory, mark)) {
        ag_tape t;
        if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *f = feature(j, n, &t, &d->held, i), *own = ag_constant(&t, d->held.z + i * E, 1, 1, E);
        ag_tensor *texts = ag_constant(&t, d->asked.texts, 1, d->asked.count, E);
        for (size_t w = probe ? BLENDED : 0; w < WAYS; w++) {
            ag_tensor *s = probe ? part_use_linear(&t, n->fc, false, f) : ag_matmul(&t, pool_blend(&t, f, own, shares[w]), NO_T, texts, T);
            if (!s) return err_fault(e, &t.fault);
            hits[w] += right(d, i, s->data);
        }
    }
    *share = (double)hits[BLENDED] / (double)N;
    if (!j->options->quiet && !probe)
        printf("zero-shot %.3f, tuned %.3f, blended by --share %g %.3f\n", (double)hits[ZERO_SHOT] / (double)N, (double)hits[TUNED] / (double)N,
               j->s[F_SHARE].value, *share);
    if (!j->options->quiet) printf("always the commonest class: %.3f\n", commonest(d));
    return true;
}

const training_system safe_system = {
    .name = "safe", .what = "an attention pool, tuned on a few pictures (after SAFE)",
    .recipe = recipe, .settings = F_COUNT, .data_size = sizeof(data), .net_size = sizeof(safe_net),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .close = close_data,
};
