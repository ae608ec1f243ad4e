/* system_probe.c - ./train probe: what do a frozen model's patches tell of their place? (Covert et al. 2024, patch probes; MODEL.md 15.4)
 *
 * Model. Tokens after the last block, normed without gains; a linear map, or a perceptron of one hidden layer, or (global) a linear map of
 *       their mean. Nothing of the CLIP learns: --model says which. A kind is a row of `kinds`.
 * Loss. Per patch cross entropy with the class that most of its cell shows; global: binary cross entropy with the names in the picture;
 *       edges: the same with the cell's share of boundary pixels; depth: squared distance from its order back to front (15.5).
 * Asked. The share of object patches (their class is not the background) that are named right; global: of pictures, the share of their
 *       objects that are among as many best names; edges: of pairs of cells of a picture, with a boundary and without, those in the right
 *       order; depth: so of pairs of things, those with one of them covered told apart. On scenes of a seed that training does not see.
 *       Of names it says beside it the same for those that `train heads` leaves without labels, every --unseen-th, and for the others.
 */
#include "training/systems.h"
#include "training/looked.h"
#include "sys/random.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { P_SCENES = T_OWN, P_KIND, P_HIDDEN, P_OBJECTS, P_UNSEEN, P_COUNT };
enum { LINEAR, PERCEPTRON, GLOBAL, EDGES, DEPTH, KINDS };
static const setting recipe[P_COUNT] = {
    SYSTEM_SETTINGS(600, 16, 2e-3, 20, 0.01, 0.98, 4),
    [P_SCENES] = {"scenes", 1200, 2, 1e6, SET_DATA, "that are looked at, once", false, false},
    [P_KIND] = {"kind", 0, 0, KINDS - 1, SET_SHAPE, "0: linear, 1: a perceptron, 2: global, 3: edges, 4: depth", false, false},
    [P_HIDDEN] = {"width", 256, 1, 65536, SET_SHAPE, "hidden numbers of the perceptron", false, false},
    [P_OBJECTS] = {"objects", 3, 1, 8, SET_DATA, "in a scene", false, false},
    [P_UNSEEN] = {"unseen", 4, 0, 1000, SET_RUN, "every so many-th name is counted apart (0: none)", false, false},
};

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
    looked_plan plan = {j->model, d->source, &d->names, mix64((uint64_t)j->s[T_SEED].value, 61), (size_t)j->s[P_SCENES].value, objects, objects, NULL};
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
    (void)e;
    system_pick(j, 62, step, d->seen.count, d->pick);
    return true;
}

/* ---- the kinds ------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t asked[2], right[2]; /* [0]: of names that are unseen elsewhere, of pairs one of which is covered; [1]: of the others */
} answers;

typedef struct {
    bool deep, whole, single; /* a hidden layer; of the mean of the patches; one number, not one a class */
    ag_tensor *(*loss)(ag_tape *t, const data *d, size_t i, ag_tensor *s); /* of picture i's scores; of cells their mean */
    void (*ask)(const system_job *j, size_t i, const real *s, answers *a); /* of held-out picture i */
} probe_kind;

static uint32_t majority(const looked *l, size_t i, size_t cell) {
    return (uint32_t)most_of(l->share + (i * l->cells + cell) * l->classes, l->classes);
}

static bool in_picture(const looked *l, size_t i, const char *name) {
    for (size_t k = 0; k < l->told[i].count; k++)
        if (!strcmp(l->told[i].object[k].name, name)) return true;
    return false;
}

/* Of the best `count` of a row of scores, is k one? */
static bool among(const real *s, size_t classes, size_t k, size_t count) {
    size_t above = 0;
    for (size_t i = 0; i < classes; i++) above += s[i] > s[k];
    return above < count;
}

static void count(const system_job *j, answers *a, size_t name, bool right) {
    size_t every = (size_t)j->s[P_UNSEEN].value, which = !every || name % every != 1;
    a->asked[which]++, a->right[which] += right;
}

static ag_tensor *binary(ag_tape *t, ag_tensor *s, ag_tensor *y) { return ag_sum(t, ag_sub(t, ag_softplus(t, s), ag_mul(t, s, y))); }

static ag_tensor *name_loss(ag_tape *t, const data *d, size_t i, ag_tensor *s) {
    const looked *l = &d->seen;
    uint32_t *labels = arena_alloc(t->memory, l->cells, sizeof *labels);
    for (size_t k = 0; labels && k < l->cells; k++) labels[k] = majority(l, i, k);
    return labels ? part_cross_entropy(t, s, labels, UINT32_MAX, 1 / (real)l->cells) : NULL;
}

static void ask_names(const system_job *j, size_t i, const real *s, answers *a) {
    const data *d = j->own;
    const looked *l = &d->held;
    for (size_t cell = 0; cell < l->cells; cell++) {
        uint32_t label = majority(l, i, cell);
        if (label < d->names.count) count(j, a, label, among(s + cell * l->classes, l->classes, label, 1));
    }
}

static ag_tensor *global_loss(ag_tape *t, const data *d, size_t i, ag_tensor *s) {
    const looked *l = &d->seen;
    ag_tensor *y = ag_new(t, 1, 1, l->classes);
    for (size_t k = 0; y && k < l->classes; k++) y->data[k] = k < d->names.count && in_picture(l, i, d->names.word[k]);
    return binary(t, s, y);
}

static void ask_global(const system_job *j, size_t i, const real *s, answers *a) {
    const data *d = j->own;
    const looked *l = &d->held;
    for (size_t k = 0; k < l->told[i].count; k++) {
        size_t name = word_find(&d->names, l->told[i].object[k].name);
        count(j, a, name, among(s, d->names.count, name, l->told[i].count));
    }
}

static ag_tensor *edge_loss(ag_tape *t, const data *d, size_t i, ag_tensor *s) {
    const looked *l = &d->seen;
    return ag_scale(t, binary(t, s, ag_constant(t, l->edge + i * l->cells, 1, l->cells, 1)), 1 / (real)l->cells, 0);
}

static void ask_edges(const system_job *j, size_t i, const real *s, answers *a) {
    const looked *l = &((const data *)j->own)->held;
    const real *edge = l->edge + i * l->cells;
    for (size_t x = 0; x < l->cells; x++)
        for (size_t y = 0; y < l->cells && edge[x] > 0; y++)
            if (edge[y] == 0) a->asked[1]++, a->right[1] += s[x] > s[y];
}

static ag_tensor *depth_loss(ag_tape *t, const data *d, size_t i, ag_tensor *s) {
    const looked *l = &d->seen;
    ag_tensor *off = ag_sub(t, s, ag_constant(t, l->depth + i * l->cells, 1, l->cells, 1));
    return ag_scale(t, ag_dot(t, off, off), 1 / (real)l->cells, 0);
}

/* The mean of s over what is seen of object k. */
static double depth_of(const data *d, size_t i, size_t k, const real *s) {
    const looked *l = &d->held;
    const real *share = l->share + i * l->cells * l->classes + word_find(&d->names, l->told[i].object[k].name);
    double sum = 0, all = 0;
    for (size_t cell = 0; cell < l->cells; cell++) sum += (double)(share[cell * l->classes] * s[cell]), all += (double)share[cell * l->classes];
    return all > 0 ? sum / all : NAN;
}

static bool covered(const scene_object *o) { return o->visible < 0.99f; }

/* Objects stand back to front. Two of one name share their cells: not asked. Where neither or both are covered, nothing need show which
 * is nearer, so that the pairs with one covered are counted apart. */
static void ask_depth(const system_job *j, size_t i, const real *s, answers *a) {
    const data *d = j->own;
    const stored_scene *told = &d->held.told[i];
    for (size_t k = 1; k < told->count; k++)
        for (size_t m = 0; m < k; m++) {
            const scene_object *near = &told->object[k], *far = &told->object[m];
            size_t which = covered(near) == covered(far);
            if (strcmp(near->name, far->name)) a->asked[which]++, a->right[which] += depth_of(d, i, k, s) > depth_of(d, i, m, s);
        }
}

static const probe_kind kinds[KINDS] = {
    [LINEAR] = {false, false, false, name_loss, ask_names}, [PERCEPTRON] = {true, false, false, name_loss, ask_names},
    [GLOBAL] = {false, true, false, global_loss, ask_global}, [EDGES] = {false, false, true, edge_loss, ask_edges},
    [DEPTH] = {false, false, true, depth_loss, ask_depth},
};
static const probe_kind *kind_of(const system_job *j) { return &kinds[(size_t)j->s[P_KIND].value]; }

/* ---- the network, and its loss --------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    probe_net *n = net;
    const data *d = j->own;
    const probe_kind *kind = kind_of(j);
    n->in = j->model->config.vision.width, n->hidden = (size_t)j->s[P_HIDDEN].value, n->out = kind->single ? 1 : d->names.count + 1;
    if (kind->deep) part_linear(l, n->fc[0], n->hidden, n->in, false, pow((double)n->in, -0.5), "fc.0");
    part_linear(l, n->fc[1], n->out, kind->deep ? n->hidden : n->in, false, 0.01, "fc.1");
}

/* Scores of picture i: [1,cells,out], or of the whole [1,1,out]. */
static ag_tensor *scores(const probe_kind *kind, const probe_net *n, ag_tape *t, const looked *l, size_t i) {
    size_t first = l->tokens_each - l->cells;
    ag_tensor *x = ag_constant(t, l->tokens + (i * l->tokens_each + first) * l->width, 1, l->cells, l->width);
    x = ag_layernorm(t, x, NULL, NULL, (real)1e-5);
    if (kind->whole) x = ag_scale(t, ag_fit(t, x, 1, 1, l->width), 1 / (real)l->cells, 0);
    if (kind->deep) x = ag_act(t, part_use_linear(t, n->fc[0], false, x), ACT_GELU, 0);
    return part_use_linear(t, n->fc[1], false, x);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const probe_kind *kind = kind_of(j);
    ag_tensor *sum = NULL;
    real each = 1 / (real)j->s[T_BATCH].value;
    (void)out;
    for (size_t b = first; b < last; b++) {
        ag_tensor *s = scores(kind, net, t, &d->seen, d->pick[b]);
        ag_tensor *one = s ? ag_scale(t, kind->loss(t, d, d->pick[b], s), each, 0) : NULL;
        sum = sum ? ag_add(t, sum, one) : one;
    }
    return sum;
}

static double of(size_t right, size_t asked) { return (double)right / fmax(1, (double)asked); }

static void say(const answers *a, const probe_kind *kind) {
    if (kind->single) printf("pairs in the right order: %.3f of %zu", of(a->right[0] + a->right[1], a->asked[0] + a->asked[1]), a->asked[0] + a->asked[1]);
    if (kind->single && a->asked[0]) printf(", where one thing is covered %.3f of %zu", of(a->right[0], a->asked[0]), a->asked[0]);
    if (!kind->single && a->asked[0])
        printf("of names unseen elsewhere %.3f of %zu, of the others %.3f of %zu", of(a->right[0], a->asked[0]), a->asked[0], of(a->right[1], a->asked[1]), a->asked[1]);
    if (kind->single || a->asked[0]) printf("\n");
}

static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const looked *l = &((const data *)j->own)->held;
    size_t mark = arena_mark(memory);
    answers a = {0};
    for (size_t i = 0; i < l->count; i++, arena_reset(memory, mark)) {
        ag_tape t;
        if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *s = scores(kind_of(j), net, &t, l, i);
        if (!s) return err_fault(e, &t.fault);
        kind_of(j)->ask(j, i, s->data, &a);
    }
    *share = of(a.right[0] + a.right[1], a.asked[0] + a.asked[1]);
    if (!j->options->quiet) say(&a, kind_of(j));
    return true;
}

const training_system probe_system = {
    .name = "probe", .what = "patch probes of a frozen model",
    .recipe = recipe, .settings = P_COUNT, .data_size = sizeof(data), .net_size = sizeof(probe_net),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .close = close_data,
};
