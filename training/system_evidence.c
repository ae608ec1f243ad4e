/* system_evidence.c - ./train evidence: evidential two-path zero-shot classification (the ingredients that CREST, arXiv 2404.09640, names,
 * by their public definitions; its own losses could not be read; MODEL.md 16).
 *
 * Classes are pairs of colour and name; a fifth of them is unseen. A class's logit is the sum of its two attributes' scores, so that unseen
 * classes have logits too.
 * Paths. Visual: scores = W z, z the picture's embedding. Attributes: scores = U c, c_a the best patch's cosine with attribute a's text.
 * Loss. Digamma loss + lambda KL on the evidence of each path and of both fused by Dempster's rule (16.4 to 16.6); lambda rises from 0.
 * --evidential 0 is the control: cross entropy of each path and of the mean of their logits.
 * Asked. Generalised accuracy on unseen (U) and seen (S) classes among all, H = 2US/(U+S), and how well uncertainty tells wrong answers.
 */
#include "training/systems.h"
#include "models/texts.h"
#include "parts/evidence.h"
#include "sys/random.h"
#include "training/looked.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { E_SCENES = T_OWN, E_EVIDENTIAL, E_LAMBDA, E_RISE, E_UNSEEN, E_COUNT };
static const setting recipe[E_COUNT] = {
    SYSTEM_SETTINGS(1000, 128, 2e-3, 20, 0.01, 0.98, 4),
    [E_SCENES] = {"scenes", 2000, 2, 1e6, SET_DATA, "that are looked at, once", false, false},
    [E_EVIDENTIAL] = {"evidential", 1, 0, 1, SET_FREE, "0: softmax, the control", false, false},
    [E_LAMBDA] = {"lambda", 0.1, 0, 100, SET_FREE, "weight of the divergence", false, true},
    [E_RISE] = {"rise", 300, 1, 1e9, SET_FREE, "steps until it has that weight", false, false},
    [E_UNSEEN] = {"unseen", 5, 2, 1000, SET_DATA, "every so many-th pair is unseen", false, false},
};

typedef struct {
    ag_tensor *visual[2], *attribute[2];
} paths;

typedef struct {
    size_t count;
    real *z, *best;   /* [count, E], [count, attributes] */
    uint32_t *class_; /* [count] */
} samples;

typedef struct {
    scene_source *source;
    word_list names, colours;
    size_t attributes, classes, seen_count;
    real *sums[2];        /* [seen, attributes], [classes, attributes]: which attributes a class has */
    uint32_t *seen, *seen_of; /* [seen]: class; [classes]: its place among the seen, or UINT32_MAX */
    samples train, held;
    uint32_t *allowed, *label; /* [train] of seen classes; [batch] */
    size_t allowed_count;
    real *z, *best; /* the batch */
    double lambda;
} data;

/* ---- data --------------------------------------------------------------------------------------------------- */
static bool unseen(const system_job *j, const data *d, size_t class_) {
    size_t name = class_ / d->colours.count, colour = class_ % d->colours.count;
    return (name + 2 * colour) % (size_t)j->s[E_UNSEEN].value == 0;
}

static bool classes_of(const system_job *j, data *d, err *e) {
    size_t C = d->colours.count, A = d->attributes;
    d->seen = mem_alloc(d->classes, sizeof *d->seen), d->seen_of = mem_alloc(d->classes, sizeof *d->seen_of);
    d->sums[0] = mem_alloc(d->classes, A * sizeof(real)), d->sums[1] = mem_alloc(d->classes, A * sizeof(real));
    if (!d->seen || !d->seen_of || !d->sums[0] || !d->sums[1]) return err_set(e, "no memory for %zu classes", d->classes);
    for (size_t k = 0; k < d->classes; k++) {
        d->seen_of[k] = UINT32_MAX;
        d->sums[1][k * A + k / C] = d->sums[1][k * A + d->names.count + k % C] = 1;
        if (unseen(j, d, k)) continue;
        memcpy(d->sums[0] + d->seen_count * A, d->sums[1] + k * A, A * sizeof(real));
        d->seen_of[k] = (uint32_t)d->seen_count, d->seen[d->seen_count++] = (uint32_t)k;
    }
    return true;
}

/* c_a = max over patches of cos(patch, text a) */
static bool best_patches(const system_job *j, const data *d, const looked *l, const real *texts, samples *s, err *e) {
    size_t A = d->attributes, E = l->embed, first = l->tokens_each - l->cells, room_size = (size_t)256 << 20;
    void *room = mem_reserve(room_size);
    if (!room) return err_set(e, "no memory for patches");
    bool good = true;
    for (size_t i = 0; good && i < l->count; i++) {
        arena memory;
        ag_tape t;
        arena_init(&memory, room, room_size);
        if (!ag_tape_init(&t, &memory, NULL, 1)) return mem_release(room, room_size), err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *x = ag_constant(&t, l->tokens + (i * l->tokens_each + first) * l->width, 1, l->cells, l->width);
        ag_tensor *c = ag_matmul(&t, ag_normalize(&t, clip_project(&t, j->model, x)), NO_T, ag_constant(&t, texts, 1, A, E), T);
        good = c != NULL || err_fault(e, &t.fault);
        for (size_t a = 0; good && a < A; a++) {
            real most = c->data[a];
            for (size_t k = 1; k < l->cells; k++) most = c->data[k * A + a] > most ? c->data[k * A + a] : most;
            s->best[i * A + a] = most;
        }
    }
    mem_release(room, room_size);
    return good;
}

static bool look(const system_job *j, data *d, uint64_t seed, size_t count, const real *texts, samples *s, err *e) {
    looked_plan plan = {j->model, d->source, &d->names, seed, count, 1, 1, NULL};
    looked l = {0};
    *s = (samples){count, mem_alloc(count, j->model->config.embed * sizeof(real)), mem_alloc(count, d->attributes * sizeof(real)),
                   mem_alloc(count, sizeof *s->class_)};
    bool good = (s->z && s->best && s->class_) || err_set(e, "no memory for %zu pictures", count);
    good = good && looked_make(&l, &plan, j->cores, e) && best_patches(j, d, &l, texts, s, e);
    if (good) memcpy(s->z, l.z, count * l.embed * sizeof(real));
    for (size_t i = 0; good && i < count; i++)
        s->class_[i] = (uint32_t)(word_find(&d->names, l.told[i].object[0].name) * d->colours.count +
                                  word_find(&d->colours, l.told[i].object[0].colour));
    looked_free(&l);
    return good;
}

static real *attribute_texts(system_job *j, data *d, err *e) {
    size_t A = d->attributes, E = j->model->config.embed;
    const char **texts = mem_alloc(A, sizeof *texts);
    real *out = mem_alloc(A, E * sizeof *out);
    bool good = (texts && out) || err_set(e, "no memory for texts");
    for (size_t a = 0; good && a < A; a++) texts[a] = a < d->names.count ? d->names.word[a] : d->colours.word[a - d->names.count];
    good = good && system_texts(j, texts, A, "a photo of a {}", out, e);
    mem_free(texts);
    if (!good) mem_free(out);
    return good ? out : NULL;
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    size_t B = (size_t)j->s[T_BATCH].value, n = (size_t)j->s[E_SCENES].value, valid = (size_t)j->s[T_VALID].value;
    if (!tower_fits(&j->model->config)) return err_set(e, "evidence: the model is no vision transformer without a pooler");
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) || !words_names(d->source, &d->names, e) || !words_colours(&d->colours, e))
        return false;
    d->attributes = d->names.count + d->colours.count, d->classes = d->names.count * d->colours.count;
    d->z = mem_alloc(B, j->model->config.embed * sizeof(real)), d->best = mem_alloc(B, d->attributes * sizeof(real));
    d->label = mem_alloc(B, sizeof *d->label), d->allowed = mem_alloc(n, sizeof *d->allowed);
    if (!d->z || !d->best || !d->label || !d->allowed) return err_set(e, "no memory for a batch of %zu", B);
    real *texts = classes_of(j, d, e) ? attribute_texts(j, d, e) : NULL;
    bool good = texts && look(j, d, mix64((uint64_t)j->s[T_SEED].value, 81), n, texts, &d->train, e) &&
                (!valid || look(j, d, HELD_OUT, valid, texts, &d->held, e));
    mem_free(texts);
    for (size_t i = 0; good && i < n; i++)
        if (d->seen_of[d->train.class_[i]] != UINT32_MAX) d->allowed[d->allowed_count++] = (uint32_t)i;
    return good && (d->allowed_count > 0 || err_set(e, "--scenes %zu: none of a seen pair", n));
}

static void samples_free(samples *s) { mem_free(s->z), mem_free(s->best), mem_free(s->class_); }
static void close_data(system_job *j) {
    data *d = j->own;
    samples_free(&d->train), samples_free(&d->held), words_free(&d->names), words_free(&d->colours);
    mem_free(d->sums[0]), mem_free(d->sums[1]), mem_free(d->seen), mem_free(d->seen_of), mem_free(d->allowed), mem_free(d->label);
    mem_free(d->z), mem_free(d->best);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    size_t E = j->model->config.embed, A = d->attributes;
    rng r = rng_start(mix64((uint64_t)j->s[T_SEED].value, 82), step);
    (void)e;
    for (size_t b = 0; b < (size_t)j->s[T_BATCH].value; b++) {
        size_t i = d->allowed[rng_below(&r, d->allowed_count)];
        memcpy(d->z + b * E, d->train.z + i * E, E * sizeof(real)), memcpy(d->best + b * A, d->train.best + i * A, A * sizeof(real));
        d->label[b] = d->seen_of[d->train.class_[i]];
    }
    d->lambda = j->s[E_LAMBDA].value * fmin(1, (double)step / j->s[E_RISE].value);
    return true;
}

/* ---- the two paths, and the loss -------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    paths *p = net;
    const data *d = j->own;
    part_linear(l, p->visual, d->attributes, j->model->config.embed, false, 0.1, "visual");
    part_linear(l, p->attribute, d->attributes, d->attributes, false, 0, "attribute");
    if (!l->full) l->list[l->count - 2].identity = true;
}

/* Logits of both paths [1,B,K] over seen classes or all. */
static void logits_of(const system_job *j, const paths *p, ag_tape *t, const real *z, const real *best, size_t B, bool all, ag_tensor *out[2]) {
    const data *d = j->own;
    size_t K = all ? d->classes : d->seen_count, A = d->attributes, E = j->model->config.embed;
    ag_tensor *sums = ag_constant(t, d->sums[all], 1, K, A);
    ag_tensor *unit = ag_scale(t, ag_constant(t, z, 1, B, E), (real)sqrt((double)E), 0), *c = ag_scale(t, ag_constant(t, best, 1, B, A), 10, 0);
    out[0] = ag_matmul(t, part_use_linear(t, p->visual, false, unit), NO_T, sums, T);
    out[1] = ag_matmul(t, part_use_linear(t, p->attribute, false, c), NO_T, sums, T);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    ag_tensor *l[3], *sum = NULL;
    real each = 1 / (real)j->s[T_BATCH].value;
    (void)out;
    logits_of(j, net, t, d->z + first * j->model->config.embed, d->best + first * d->attributes, last - first, false, l);
    bool evidential = j->s[E_EVIDENTIAL].value > 0;
    if (evidential) l[0] = evidence_alpha(t, l[0]), l[1] = evidence_alpha(t, l[1]), l[2] = evidence_fuse(t, l[0], l[1]);
    else l[2] = ag_scale(t, ag_add(t, l[0], l[1]), (real)0.5, 0);
    for (size_t i = 0; i < 3; i++) {
        ag_tensor *one = evidential ? evidence_loss(t, l[i], d->label + first, EVIDENCE_DIGAMMA, (real)d->lambda, each)
                                    : part_cross_entropy(t, l[i], d->label + first, UINT32_MAX, each);
        sum = sum ? ag_add(t, sum, one) : one;
    }
    return sum;
}

/* ---- what is asked ------------------------------------------------------------------------------------------------- */
typedef struct {
    double doubt;
    bool right, unseen;
} answer;

/* The share of pairs (one with the property, one without) in which the one with it is the more doubtful; ties count half. */
static double auroc(const answer *a, size_t n, bool of_unseen) {
    double won = 0, pairs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) {
            if (!(of_unseen ? a[i].unseen && !a[k].unseen : !a[i].right && a[k].right)) continue;
            won += a[i].doubt > a[k].doubt ? 1 : a[i].doubt == a[k].doubt ? 0.5 : 0, pairs++;
        }
    return pairs > 0 ? won / pairs : NAN;
}

static bool answers(system_job *j, const paths *p, arena *memory, answer *out, err *e) {
    const data *d = j->own;
    bool evidential = j->s[E_EVIDENTIAL].value > 0;
    size_t E = j->model->config.embed, mark = arena_mark(memory);
    for (size_t i = 0; i < d->held.count; i++, arena_reset(memory, mark)) {
        ag_tape t;
        ag_tensor *l[2];
        if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        logits_of(j, p, &t, d->held.z + i * E, d->held.best + i * d->attributes, 1, true, l);
        ag_tensor *s = evidential ? evidence_fuse(&t, evidence_alpha(&t, l[0]), evidence_alpha(&t, l[1]))
                                  : ag_softmax(&t, ag_scale(&t, ag_add(&t, l[0], l[1]), (real)0.5, 0), false);
        ag_tensor *u = evidential ? evidence_doubt(&t, s) : NULL;
        if (!s) return err_fault(e, &t.fault);
        size_t best = 0;
        for (size_t k = 1; k < d->classes; k++)
            if (s->data[k] > s->data[best]) best = k;
        out[i] = (answer){u ? (double)u->data[0] : 1 - (double)s->data[best], best == d->held.class_[i], d->seen_of[d->held.class_[i]] == UINT32_MAX};
    }
    return true;
}

static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    size_t n = d->held.count, right[2] = {0}, of[2] = {0};
    answer *a = mem_alloc(n, sizeof *a);
    if (!a) return err_set(e, "no memory for %zu answers", n);
    bool good = answers(j, net, memory, a, e);
    for (size_t i = 0; good && i < n; i++) of[a[i].unseen]++, right[a[i].unseen] += a[i].right;
    double S = of[0] ? (double)right[0] / (double)of[0] : 0, U = of[1] ? (double)right[1] / (double)of[1] : 0;
    *share = S + U > 0 ? 2 * S * U / (S + U) : 0;
    if (good && !j->options->quiet)
        printf("unseen %.3f of %zu, seen %.3f of %zu, harmonic %.3f; doubt tells wrong answers %.3f, unseen pairs %.3f (AUROC)\n", U, of[1], S,
               of[0], *share, auroc(a, n, false), auroc(a, n, true));
    mem_free(a);
    return good;
}

const training_system evidence_system = {
    .name = "evidence", .what = "evidential two-path zero-shot classification",
    .recipe = recipe, .settings = E_COUNT, .data_size = sizeof(data), .net_size = sizeof(paths),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .close = close_data,
};
