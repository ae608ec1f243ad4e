/* system_probe.c - ./train probe: what do a frozen model's patches tell of their place? (Covert et al. 2024, patch probes; MODEL.md 15.4)
 *
 * Model. Tokens after the last block, normed without gains; a linear map, or a perceptron of one hidden layer, or (global) a linear map of
 *       their mean. Nothing of the CLIP learns: --model says which.
 * Loss. Per patch cross entropy with the class that most of its cell shows; global: binary cross entropy with the names in the picture.
 * Asked. The share of object patches (their class is not the background) that are named right; global: of pictures, the share of their
 *       objects that are among as many best names. On scenes of a seed that training does not see. Said beside it: the same for the
 *       names that `train heads` leaves without labels, every --unseen-th, and for the others.
 */
#include "training/systems.h"
#include "training/looked.h"
#include "sys/random.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { P_SCENES = T_OWN, P_KIND, P_HIDDEN, P_OBJECTS, P_UNSEEN, P_COUNT };
enum { LINEAR, PERCEPTRON, GLOBAL };
static const setting recipe[P_COUNT] = {
    SYSTEM_SETTINGS(600, 16, 2e-3, 20, 0.01, 0.98, 4),
    [P_SCENES] = {"scenes", 1200, 2, 1e6, SET_DATA, "that are looked at, once", false, false},
    [P_KIND] = {"kind", 0, 0, 2, SET_SHAPE, "0: linear, 1: a perceptron, 2: global", false, false},
    [P_HIDDEN] = {"width", 256, 1, 65536, SET_SHAPE, "hidden numbers of the perceptron", false, false},
    [P_OBJECTS] = {"objects", 3, 1, 8, SET_DATA, "in a scene", false, false},
    [P_UNSEEN] = {"unseen", 4, 0, 1000, SET_RUN, "every so many-th name is counted apart (0: none)", false, false},
};
static const uint64_t HELD_OUT = 0x48454C44;

typedef struct {
    size_t in, hidden, out;
    ag_tensor *fc[2][2];
} probe_net;

typedef struct {
    scene_source *source;
    word_list names;
    looked seen, held;
    uint32_t *pick; /* [batch] */
} data;

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    if (!tower_fits(&j->model->config)) return err_set(e, "probe: the model is no vision transformer without a pooler");
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) || !words_names(d->source, &d->names, e)) return false;
    size_t objects = (size_t)j->s[P_OBJECTS].value;
    looked_plan plan = {j->model, d->source, &d->names, mix64((uint64_t)j->s[T_SEED].value, 61), (size_t)j->s[P_SCENES].value, objects, objects};
    if (!(d->pick = mem_alloc((size_t)j->s[T_BATCH].value, sizeof *d->pick))) return err_set(e, "no memory for a batch");
    if (!j->options->quiet) printf("probe: looking at %zu scenes\n", plan.count), fflush(stdout);
    if (!looked_make(&d->seen, &plan, j->cores, e)) return false;
    plan.seed = HELD_OUT, plan.count = (size_t)j->s[T_VALID].value;
    return !plan.count || looked_make(&d->held, &plan, j->cores, e);
}

static void close_data(system_job *j) {
    data *d = j->own;
    looked_free(&d->seen), looked_free(&d->held), words_free(&d->names), mem_free(d->pick);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    rng r = rng_start(mix64((uint64_t)j->s[T_SEED].value, 62), step);
    (void)e;
    for (size_t b = 0; b < (size_t)j->s[T_BATCH].value; b++) d->pick[b] = (uint32_t)rng_below(&r, d->seen.count);
    return true;
}

static void list_weights(const system_job *j, void *net, part_list *l) {
    probe_net *n = net;
    const data *d = j->own;
    bool deep = j->s[P_KIND].value == (double)PERCEPTRON;
    n->in = j->model->config.vision.width, n->hidden = (size_t)j->s[P_HIDDEN].value, n->out = d->names.count + 1;
    if (deep) part_linear(l, n->fc[0], n->hidden, n->in, false, pow((double)n->in, -0.5), "fc.0");
    part_linear(l, n->fc[1], n->out, deep ? n->hidden : n->in, false, 0.01, "fc.1");
}

/* Scores of picture i: [1,cells,classes], or of the whole [1,1,classes]. */
static ag_tensor *scores(const system_job *j, const probe_net *n, ag_tape *t, const looked *l, size_t i) {
    size_t first = l->tokens_each - l->cells;
    ag_tensor *x = ag_constant(t, l->tokens + (i * l->tokens_each + first) * l->width, 1, l->cells, l->width);
    x = ag_layernorm(t, x, NULL, NULL, (real)1e-5);
    if (j->s[P_KIND].value == (double)GLOBAL) x = ag_scale(t, ag_fit(t, x, 1, 1, l->width), 1 / (real)l->cells, 0);
    if (j->s[P_KIND].value == (double)PERCEPTRON) x = ag_act(t, part_use_linear(t, n->fc[0], false, x), ACT_GELU, 0);
    return part_use_linear(t, n->fc[1], false, x);
}

static uint32_t majority(const looked *l, size_t i, size_t cell) {
    const real *s = l->share + (i * l->cells + cell) * l->classes;
    size_t best = 0;
    for (size_t k = 1; k < l->classes; k++)
        if (s[k] > s[best]) best = k;
    return (uint32_t)best;
}

static bool in_picture(const looked *l, size_t i, const char *name) {
    for (size_t k = 0; k < l->told[i].count; k++)
        if (!strcmp(l->told[i].object[k].name, name)) return true;
    return false;
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const looked *l = &d->seen;
    ag_tensor *sum = NULL;
    real each = 1 / (real)j->s[T_BATCH].value;
    (void)out;
    for (size_t b = first; b < last; b++) {
        size_t i = d->pick[b];
        ag_tensor *s = scores(j, net, t, l, i), *one;
        if (j->s[P_KIND].value == (double)GLOBAL) {
            ag_tensor *y = ag_new(t, 1, 1, l->classes);
            for (size_t k = 0; y && k < l->classes; k++) y->data[k] = k < d->names.count && in_picture(l, i, d->names.word[k]);
            one = ag_scale(t, ag_sum(t, ag_sub(t, ag_softplus(t, s), ag_mul(t, s, y))), each, 0);
        } else {
            uint32_t *labels = arena_alloc(t->memory, l->cells, sizeof *labels);
            for (size_t k = 0; labels && k < l->cells; k++) labels[k] = majority(l, i, k);
            one = labels ? part_cross_entropy(t, s, labels, UINT32_MAX, each / (real)l->cells) : NULL;
        }
        sum = sum ? ag_add(t, sum, one) : one;
    }
    return sum;
}

/* Of the best `count` of a row of scores, is k one? */
static bool among(const real *s, size_t classes, size_t k, size_t count) {
    size_t above = 0;
    for (size_t i = 0; i < classes; i++) above += s[i] > s[k];
    return above < count;
}

typedef struct {
    size_t asked[2], right[2]; /* [0]: of names that are unseen elsewhere; [1]: of the others */
} answers;

static void count(const system_job *j, answers *a, size_t name, bool right) {
    size_t every = (size_t)j->s[P_UNSEEN].value, which = !every || name % every != 1;
    a->asked[which]++, a->right[which] += right;
}

static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    const looked *l = &d->held;
    size_t mark = arena_mark(memory), names = d->names.count;
    answers a = {0};
    bool global = j->s[P_KIND].value == (double)GLOBAL;
    for (size_t i = 0; i < l->count; i++, arena_reset(memory, mark)) {
        ag_tape t;
        if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *s = scores(j, net, &t, l, i);
        if (!s) return err_fault(e, &t.fault);
        for (size_t k = 0; k < l->told[i].count && global; k++) {
            size_t name = word_find(&d->names, l->told[i].object[k].name);
            count(j, &a, name, among(s->data, names, name, l->told[i].count));
        }
        for (size_t cell = 0; cell < l->cells && !global; cell++) {
            uint32_t label = majority(l, i, cell);
            if (label < names) count(j, &a, label, among(s->data + cell * l->classes, l->classes, label, 1));
        }
    }
    *share = (double)(a.right[0] + a.right[1]) / fmax(1, (double)(a.asked[0] + a.asked[1]));
    if (!j->options->quiet && a.asked[0])
        printf("of names unseen elsewhere %.3f of %zu, of the others %.3f of %zu\n", (double)a.right[0] / (double)a.asked[0], a.asked[0],
               (double)a.right[1] / fmax(1, (double)a.asked[1]), a.asked[1]);
    return true;
}

static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    (void)j, (void)net;
    return part_write(l, path, "F32", NULL, 0, e);
}

const training_system probe_system = {
    "probe", "patch probes of a frozen model", recipe, P_COUNT, sizeof(data), sizeof(probe_net),
    open_data, list_weights, next_batch, loss, valid, write_part, close_data, 0,
};
