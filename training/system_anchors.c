/* system_anchors.c - ./train anchors: class embeddings as anchors, consensus among routed windows (LDVC, arXiv 2403.08426, as we read it:
 * no code is published; layer, windows, weights and the order of the parts are ours; MODEL.md 18).
 *
 * Model. Patches of the frozen CLIP attend to routed windows of themselves, then ask the class anchors W [image * text; text]; a cell's
 *       logit for a class is exp(s) cos(anchor, patch) + b (18.2). --top 0: attention is not routed, the control.
 * Loss. 20 focal + dice of the seen names that are shown; cells that show an unseen name carry no loss (inductive) (18.3).
 * Asked. mIoU over seen and unseen names, a cell being the background where no class reaches a half; seen classes give way by .1.
 */
#include "training/systems.h"
#include "models/texts.h"
#include "parts/anchors.h"
#include "sys/random.h"
#include "training/looked.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N_SCENES = T_OWN, N_WINDOW, N_TOP, N_WIDTH, N_UNSEEN, N_COUNT };
static const setting recipe[N_COUNT] = {
    SYSTEM_SETTINGS(160, 24, 1e-3, 10, 0.05, 0.9, 4),
    [N_SCENES] = {"scenes", 1200, 2, 1e6, SET_DATA, "that are looked at, once", false, false},
    [N_WINDOW] = {"window", 2, 1, 64, SET_SHAPE, "cells along a window's side", false, false},
    [N_TOP] = {"top", 9, 0, 4096, SET_SHAPE, "windows that a window sees (0: all, the control)", false, false},
    [N_WIDTH] = {"width", 128, 4, 4096, SET_SHAPE, "of the decoder", false, false},
    [N_UNSEEN] = {"unseen", 4, 2, 1000, SET_DATA, "every so many-th name is unseen", false, false},
};

typedef struct {
    scene_source *source;
    word_list names;
    looked seen, held;
    size_t count;    /* seen names */
    uint32_t *is;    /* [seen]: their numbers among all */
    real *texts[2];  /* [seen, E], [names, E] unit */
    uint32_t *pick;  /* [batch] */
} data;

static bool unseen(const system_job *j, size_t name) { return name % (size_t)j->s[N_UNSEEN].value == 1; }

static bool embed_names(system_job *j, data *d, err *e) {
    size_t E = j->model->config.embed, n = d->names.count;
    d->texts[0] = mem_alloc(n, E * sizeof(real)), d->texts[1] = mem_alloc(n, E * sizeof(real)), d->is = mem_alloc(n, sizeof *d->is);
    bool good = (d->texts[0] && d->texts[1] && d->is) || err_set(e, "no memory for names");
    good = good && system_texts(j, d->names.word, n, "a photo of a {}", d->texts[1], e);
    for (size_t i = 0; good && i < n; i++) {
        if (unseen(j, i)) continue;
        memcpy(d->texts[0] + d->count * E, d->texts[1] + i * E, E * sizeof(real));
        d->is[d->count++] = (uint32_t)i;
    }
    return good;
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    const clip_config *c = &j->model->config;
    size_t grid = c->image / c->patch, w = (size_t)j->s[N_WINDOW].value, windows = grid / w * (grid / w);
    if (!tower_fits(c)) return err_set(e, "anchors: the model is no vision transformer without a pooler");
    if (grid % w) return err_set(e, "--window %zu: the grid of %zu cells is no multiple of it", w, grid);
    if (j->s[N_TOP].value > (double)windows) return err_set(e, "--top %g: there are %zu windows", j->s[N_TOP].value, windows);
    if (fmod(j->s[N_WIDTH].value, 4) != 0) return err_set(e, "--width %g: no multiple of its 4 heads", j->s[N_WIDTH].value);
    if (!(d->pick = mem_alloc((size_t)j->s[T_BATCH].value, sizeof *d->pick))) return err_set(e, "no memory for a batch");
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e)) || !words_names(d->source, &d->names, e) || !embed_names(j, d, e)) return false;
    looked_plan plan = {j->model, d->source, &d->names, mix64((uint64_t)j->s[T_SEED].value, 91), (size_t)j->s[N_SCENES].value, 1, 4, NULL};
    if (!looked_make(&d->seen, &plan, j->cores, e)) return false;
    plan.seed = HELD_OUT, plan.count = (size_t)j->s[T_VALID].value;
    return !plan.count || looked_make(&d->held, &plan, j->cores, e);
}

static void close_data(system_job *j) {
    data *d = j->own;
    looked_free(&d->seen), looked_free(&d->held), words_free(&d->names);
    mem_free(d->texts[0]), mem_free(d->texts[1]), mem_free(d->is), mem_free(d->pick);
    if (d->source) scene_source_free(d->source);
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    (void)e;
    system_pick(j, 92, step, d->seen.count, d->pick);
    return true;
}

/* ---- the network, and its loss -------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    anchors_net *n = net;
    const clip_config *c = &j->model->config;
    *n = (anchors_net){.embed = c->embed, .width = (size_t)j->s[N_WIDTH].value, .heads = 4, .grid = c->image / c->patch,
                       .window = (size_t)j->s[N_WINDOW].value, .top = (size_t)j->s[N_TOP].value};
    anchors_weights(n, l);
}

/* Logits [1,C,cells] of picture i for the seen names, or for all. */
static ag_tensor *logits_of(const system_job *j, const anchors_net *n, ag_tape *t, const looked *l, size_t i, bool all) {
    const data *d = j->own;
    size_t first = l->tokens_each - l->cells;
    ag_tensor *x = ag_constant(t, l->tokens + (i * l->tokens_each + first) * l->width, 1, l->cells, l->width);
    x = ag_detach(t, ag_normalize(t, clip_project(t, j->model, x)));
    x = ag_scale(t, x, (real)sqrt((double)l->embed), 0); /* components of about 1 */
    return anchors_logits(t, n, x, ag_constant(t, l->z + i * l->embed, 1, 1, l->embed), d->texts[all], all ? d->names.count : d->count);
}

/* Dice of the classes that the picture shows, as ZegCLIP has it: over all of them, answering nothing anywhere would be right for most. */
static ag_tensor *dice_of_shown(ag_tape *t, ag_tensor *x, const real *masks, const real *counted) {
    size_t cells = x->cols, count = 0;
    uint32_t *shown = arena_alloc(t->memory, x->rows, sizeof *shown);
    ag_tensor *m = ag_new(t, 1, x->rows, cells), *c = ag_new(t, 1, x->rows, cells);
    if (!shown || !m || !c) return NULL;
    for (size_t k = 0; k < x->rows; k++) {
        real any = 0;
        for (size_t i = 0; i < cells; i++) any += masks[k * cells + i];
        if (any == 0) continue;
        memcpy(m->data + count * cells, masks + k * cells, cells * sizeof(real));
        memcpy(c->data + count * cells, counted + k * cells, cells * sizeof(real));
        shown[count++] = (uint32_t)k;
    }
    if (!count) return ag_scale(t, ag_sum(t, x), 0, 0);
    return anchors_dice(t, ag_reshape(t, ag_rows(t, x, shown, count), 1, count, cells), m->data, c->data);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const looked *l = &d->seen;
    ag_tensor *sum = NULL;
    real each = 1 / (real)j->s[T_BATCH].value;
    (void)out;
    for (size_t b = first; b < last; b++) {
        size_t i = d->pick[b], n = d->count * l->cells;
        ag_tensor *x = logits_of(j, net, t, l, i, false), *masks = ag_new(t, 1, d->count, l->cells), *counted = ag_new(t, 1, d->count, l->cells);
        if (!x || !masks || !counted) return NULL;
        for (size_t k = 0; k < n; k++) {
            const real *share = l->share + (i * l->cells + k % l->cells) * l->classes;
            real hidden = 0;
            for (size_t m = 0; m < d->names.count; m++) hidden += unseen(j, m) ? share[m] : 0;
            masks->data[k] = share[d->is[k / l->cells]] >= (real)0.5, counted->data[k] = hidden < (real)0.5;
        }
        ag_tensor *one = ag_add(t, ag_scale(t, anchors_focal(t, x, masks->data, counted->data), 20, 0), dice_of_shown(t, x, masks->data, counted->data));
        one = ag_scale(t, one, each, 0);
        sum = sum ? ag_add(t, sum, one) : one;
    }
    return sum;
}

/* ---- mIoU of cells ------------------------------------------------------------------------------------------------- */
static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    const looked *l = &d->held;
    size_t K = d->names.count, mark = arena_mark(memory), seen = 0, other = 0;
    size_t *both = mem_alloc(3 * K, sizeof *both), *said = both + K, *is = said + K;
    double mean[2] = {0};
    if (!both) return err_set(e, "no memory for %zu classes", K);
    bool good = true;
    for (size_t i = 0; good && i < l->count; i++, arena_reset(memory, mark)) {
        ag_tape t;
        if (!ag_tape_init(&t, memory, j->cores, 1)) return mem_free(both), err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *x = ag_sigmoid(&t, logits_of(j, net, &t, l, i, true));
        if (!x) good = err_fault(e, &t.fault);
        for (size_t cell = 0; good && cell < l->cells; cell++) {
            size_t best = K, truth = K;
            double most = 0.5;
            for (size_t k = 0; k < K; k++) {
                double p = (double)x->data[k * l->cells + cell], bound = unseen(j, k) ? p : p - 0.1;
                if (p >= 0.5 && (best == K || bound > most)) most = bound, best = k;
                if (l->share[(i * l->cells + cell) * l->classes + k] >= (real)0.5) truth = k;
            }
            if (best < K) said[best]++;
            if (truth < K) is[truth]++;
            if (best < K && best == truth) both[best]++;
        }
    }
    for (size_t k = 0; k < K; k++) {
        if (is[k] == 0) continue;
        double iou = (double)both[k] / (double)(said[k] + is[k] - both[k]);
        mean[unseen(j, k)] += iou;
        unseen(j, k) ? other++ : seen++;
    }
    double S = seen ? mean[0] / (double)seen : 0, U = other ? mean[1] / (double)other : 0;
    *share = S + U > 0 ? 2 * S * U / (S + U) : 0;
    if (good && !j->options->quiet) printf("mIoU of cells: seen %.3f (%zu names), unseen %.3f (%zu), harmonic %.3f\n", S, seen, U, other, *share);
    mem_free(both);
    return good;
}

const training_system anchors_system = {
    .name = "anchors", .what = "class anchors and consensus for segmentation (after LDVC)",
    .recipe = recipe, .settings = N_COUNT, .data_size = sizeof(data), .net_size = sizeof(anchors_net),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .close = close_data,
};
