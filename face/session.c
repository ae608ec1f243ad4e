/* session.c - one picture held open, its regions inverted a step a call (see face.h): maskinv_invert's loop with every
 * number of a step kept, for a page or a class to look at.
 */
#include "face/room.h"
#include "models/texts.h"
#include <math.h>
#include <string.h>

struct mi_session {
    invert_job j;
    mi_invert_options asked;
    size_t embed, cells, mark; /* mark: the arena before a mask's share of it */
    bool ready;                /* a mask is there */
    mi_mask mask;
    float *soft; /* its copy */
    target region;
    adamw adam;
    size_t count;
    float *e, *before, *slopes;         /* [E] */
    float *grid, *pull, *share, *map;   /* [cells], and [mask height, mask width] */
};

/* ---- opening ------------------------------------------------------------------------------------------- */
/* Another thread than last time may ask: errors go to its own. */
static void here(mi_session *s) { s->j.c.e = error_of_thread(); }

mi_session *mi_session_open(mi_model *m, const mi_image *image, const mi_invert_options *o) {
    mi_session *s = mem_alloc(1, sizeof *s);
    if (!s) return err_set(error_of_thread(), "no memory for a session"), NULL;
    s->asked = o ? *o : mi_invert_defaults();
    s->j.m = m, s->j.o = &s->asked;
    s->embed = m->model->config.embed;
    if (!call_begin(&s->j.c, m) || !invert_choose(&s->j) || !invert_forward(&s->j, image)) return mi_session_close(s), NULL;
    s->cells = s->j.x.gh * s->j.x.gw;
    s->mark = arena_mark(&s->j.c.memory);
    return s;
}

void mi_session_close(mi_session *s) {
    if (!s) return;
    call_end(&s->j.c, s->j.m);
    mem_free(s->soft);
    mem_free(s);
}

void mi_session_rates(mi_session *s, double lr, double alpha, double decay) {
    if (lr >= 0) s->j.invert.lr = (real)lr;
    if (alpha >= 0) s->j.invert.alpha = (real)alpha;
    if (decay >= 0) s->j.invert.decay = (real)decay;
}

/* ---- a region --------------------------------------------------------------------------------------------- */
static bool take_rows(mi_session *s) {
    arena *a = &s->j.c.memory;
    size_t pixels = s->mask.width * s->mask.height;
    float *vectors = arena_alloc(a, s->embed, 3 * sizeof *vectors), *cells = arena_alloc(a, s->cells, 3 * sizeof *cells);
    s->map = arena_alloc(a, pixels, sizeof *s->map);
    if (!vectors || !cells || !s->map)
        return err_set(s->j.c.e, "%zu bytes of memory are too little for a mask of %zu pixels", s->j.c.bytes, pixels);
    s->e = vectors, s->before = vectors + s->embed, s->slopes = vectors + 2 * s->embed;
    s->grid = cells, s->pull = cells + s->cells, s->share = cells + 2 * s->cells;
    return true;
}

bool mi_session_mask(mi_session *s, const mi_mask *mask) {
    here(s);
    s->ready = false;
    if (!invert_check_mask(mask, 0, s->j.c.e)) return false;
    size_t pixels = mask->width * mask->height;
    float *soft = mem_alloc(pixels, sizeof *soft);
    if (!soft) return err_set(s->j.c.e, "no memory for a mask of %zu pixels", pixels);
    memcpy(soft, mask->soft, pixels * sizeof *soft);
    mem_free(s->soft);
    s->soft = soft;
    s->mask = (mi_mask){soft, mask->width, mask->height};
    arena_reset(&s->j.c.memory, s->mark);
    fault f = {0};
    if (!take_rows(s)) return false;
    if (!target_make(&s->region, &s->j.x, soft, mask->height, mask->width, &f) ||
        !adamw_init(&s->adam, s->embed, &s->j.c.memory, &f))
        return call_fault(&s->j.c, &f);
    memcpy(s->e, s->j.x.embedding, s->embed * sizeof *s->e);
    for (size_t i = 0; i < s->cells; i++) s->share[i] = s->region.mask_grid[i] / s->region.one_grid[i];
    s->count = 0;
    return s->ready = true;
}

/* ---- a step ------------------------------------------------------------------------------------------------ */
static double distance(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

static bool sums(mi_session *s, mi_step *t, fault *f) {
    dice_sums d;
    if (!dice_measure(&s->j.x, &s->region, s->grid, &d, f)) return false;
    t->low = (double)d.ends.low, t->high = (double)d.ends.high, t->region = s->region.mask_sum;
    t->inside = d.inside, t->all = d.all;
    return true;
}

static void measure(mi_session *s, mi_step *t) {
    const float *c = s->j.x.embedding;
    size_t E = s->embed;
    t->length = sqrt(dot(s->before, s->before, E));
    t->cosine = dot(s->before, c, E) / (t->length * sqrt(dot(c, c, E)));
    t->slope = sqrt(dot(s->slopes, s->slopes, E));
    t->moved = distance(s->e, s->before, E);
}

static bool make_step(mi_session *s, mi_step *t, fault *f) {
    explained *x = &s->j.x;
    const invert_options *o = &s->j.invert;
    memcpy(s->before, s->e, s->embed * sizeof *s->e);
    if (!maskinv_gradient(x, &s->region, s->e, s->count == 0, o->alpha, &t->loss, s->grid, s->slopes, f)) return false;
    if (!dice_loss(x, &s->region, s->grid, &t->dice, s->pull, f) || !sums(s, t, f)) return false;
    if (!target_map(x, &s->region, s->grid, s->map, f)) return false;
    adamw_step(&s->adam, s->e, s->slopes, o->lr, o->decay);
    return k_finite(s->e, s->embed) || fault_set(f, FAULT_NAN, "the embedding", &s->count, 1);
}

bool mi_session_step(mi_session *s, mi_step *step) {
    fault f = {0};
    here(s);
    *step = (mi_step){0};
    if (!s->ready) return err_set(s->j.c.e, "no mask found, mi_session_mask comes first");
    if (!make_step(s, step, &f)) return s->ready = false, call_fault(&s->j.c, &f);
    measure(s, step);
    step->count = ++s->count;
    step->rows = s->j.x.gh, step->columns = s->j.x.gw, step->layers = s->j.x.options.layers;
    step->embedding = s->e, step->before = s->before, step->slopes = s->slopes, step->image = s->j.x.embedding;
    step->map = s->map, step->grid = s->grid, step->pull = s->pull, step->share = s->share;
    return true;
}

/* The same explained picture, told that it has one layer alone. */
bool mi_session_layers(mi_session *s, float *grids) {
    fault f = {0};
    here(s);
    if (!s->ready || s->count == 0) return err_set(s->j.c.e, "no step was made yet");
    if (explain_is_taped(&s->j.x)) return err_set(s->j.c.e, "layers: legrad by a closed form has them apart, this explainer has not");
    for (size_t i = 0; i < s->j.x.options.layers; i++) {
        explained one = s->j.x;
        one.options.layers = 1;
        one.layers = &s->j.x.layers[i];
        if (!explain_grid(&one, s->before, grids + i * s->cells, &f)) return call_fault(&s->j.c, &f);
    }
    return true;
}
