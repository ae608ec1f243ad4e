/* invert.c - MaskInversion of the library's face (see face.h): what cmd_invert.c does, on arrays. */
#include "face/room.h"
#include <string.h>

mi_invert_options mi_invert_defaults(void) { return (mi_invert_options){.lr = -1, .alpha = -1, .decay = -1}; }

typedef struct {
    invert_job j;
    mi_invert_result *r;
    size_t mask;
    bool stopped;
} job;

/* ---- settings ---------------------------------------------------------------------------------- */
static invert_options settings(const clip_config *m, const mi_invert_options *o) {
    invert_options i = invert_defaults_of(m);
    if (o->iters) i.iters = o->iters;
    if (!(o->lr < 0)) i.lr = (real)o->lr;
    if (!(o->alpha < 0)) i.alpha = (real)o->alpha;
    if (!(o->decay < 0)) i.decay = (real)o->decay;
    return i;
}

size_t mi_invert_steps(const mi_model *m, const mi_invert_options *o) {
    mi_invert_options standard = mi_invert_defaults();
    return settings(&m->model->config, o ? o : &standard).iters;
}

static bool is_legrad(const mi_invert_options *o) { return !o->explainer || !strcmp(o->explainer, "legrad"); }

static bool choose_gradient(invert_job *j) {
    return explain_gradient_find(j->o->gradient, &j->gradient) ||
           err_set(j->c.e, "gradient: '%s' found, factored, decomposed, autograd, jacobian or compact expected", j->o->gradient);
}

static bool choose_explainer(invert_job *j) {
    const mi_invert_options *o = j->o;
    if (is_legrad(o)) return true;
    const method *how = method_find(o->explainer);
    if (!how || !method_other(&j->method, o->explainer, &j->other))
        return err_set(j->c.e, "explainer: '%s' found, legrad, gradcam, chefer or rollout expected", o->explainer);
    if (j->gradient != GRADIENT_FACTORED && j->gradient != GRADIENT_AUTOGRAD)
        return err_set(j->c.e, "gradient: %s has autograd only, %s found", how->name, o->gradient);
    return !(o->layers && !how->free) || err_set(j->c.e, "layers: %s leaves no choice of them", how->name);
}

bool invert_choose(invert_job *j) {
    const clip_config *m = &j->m->model->config;
    const mi_invert_options *o = j->o;
    if (!(o->lr <= 1e6 && o->alpha <= 1e6 && o->decay <= 1e6) || o->iters > 1000000)
        return err_set(j->c.e, "lr %g, alpha %g, decay %g, %zu steps found, at most 1e6 expected", o->lr, o->alpha,
                       o->decay, o->iters);
    if (!choose_gradient(j) || !choose_explainer(j)) return false;
    j->layers = o->layers ? o->layers : is_legrad(o) ? config_layers(m) : 0;
    const method *how = is_legrad(o) ? NULL : method_find(o->explainer);
    size_t depth = how ? method_depth(how, m) : clip_depth(m);
    if (j->layers > depth)
        return err_set(j->c.e, "layers: %zu found, 1 to %zu allowed, the model's depth", j->layers, depth);
    j->invert = settings(m, o);
    return call_side(j->m, o->side, 2, &j->side, j->c.e);
}

bool invert_check_mask(const mi_mask *m, size_t index, err *e) {
    size_t pixels;
    bool some = false;
    if (!m->soft || !m->width || !m->height || !size_mul(m->width, m->height, &pixels))
        return err_set(e, "mask %zu: %zu x %zu pixels found, some expected", index, m->width, m->height);
    for (size_t i = 0; i < pixels; i++) {
        float v = m->soft[i];
        if (!(v >= 0 && v <= 1))
            return err_set(e, "mask %zu: %g found in row %zu, column %zu, 0 to 1 expected", index, (double)v, i / m->width,
                           i % m->width);
        some = some || v > 0;
    }
    return some || err_set(e, "mask %zu: is empty, 0 everywhere", index);
}

/* ---- the work ------------------------------------------------------------------------------------- */
bool invert_forward(invert_job *j, const mi_image *image) {
    fault f = {0};
    explain_options eo = {.layers = j->layers, .gradient = j->gradient, .steps = j->invert.iters};
    if (!is_legrad(j->o)) eo.other = &j->other;
    float *pixels = call_pixels(j->m, image, j->side, j->c.e);
    bool ok = pixels && call_usual(&j->c, j->m, &eo.usual) &&
              (explain_open(&j->x, j->m->model, pixels, j->side, j->side, &eo, &j->c.memory, j->c.cores, &f) || call_fault(&j->c, &f));
    mem_free(pixels);
    return ok;
}

static void step_done(void *arg, size_t step) {
    job *j = arg;
    if (!j->j.o->progress(j->j.o->progress_arg, j->mask, step)) j->stopped = true;
}

static bool invert_mask(job *i, const mi_mask *mask, size_t index) {
    invert_job *j = &i->j;
    size_t embed = j->m->model->config.embed, mark = arena_mark(&j->c.memory);
    mi_invert_result *r = i->r;
    fault f = {0};
    real *e = r->embeddings ? r->embeddings + index * embed : arena_alloc(&j->c.memory, embed, sizeof *e);
    real *losses = r->losses ? r->losses + index * j->invert.iters : arena_alloc(&j->c.memory, j->invert.iters, sizeof *e);
    if (!e || !losses) return err_set(j->c.e, "%zu bytes of memory are too little for the losses", j->c.bytes);
    invert_result result = {.embedding = e, .losses = losses, .map_after = r->maps ? r->maps[index] : NULL};
    i->mask = index;
    if (!maskinv_invert(&j->x, mask->soft, mask->height, mask->width, &j->invert, &result, &f))
        return call_fault(&j->c, &f), err_prefix(j->c.e, "mask %zu", index);
    if (!all_finite(e, embed)) return err_set(j->c.e, "mask %zu: its embedding is not finite; a smaller lr may help", index);
    arena_reset(&j->c.memory, mark);
    return true;
}

bool mi_invert(mi_model *m, const mi_image *image, const mi_mask *masks, size_t count, const mi_invert_options *o,
               mi_invert_result *r) {
    mi_invert_options standard = mi_invert_defaults();
    job *i = mem_alloc(1, sizeof *i);
    if (!i) return err_set(error_of_thread(), "no memory to invert");
    invert_job *j = &i->j;
    j->m = m, j->o = o ? o : &standard, i->r = r;
    bool ok = call_begin(&j->c, m) && invert_choose(j);
    for (size_t k = 0; ok && k < count; k++) ok = invert_check_mask(&masks[k], k, j->c.e);
    if (ok && j->o->progress) j->invert.progress = step_done, j->invert.progress_arg = i;
    ok = ok && invert_forward(j, image);
    if (ok && r->image) memcpy(r->image, j->x.embedding, m->model->config.embed * sizeof(float));
    for (size_t k = 0; ok && k < count; k++)
        ok = invert_mask(i, &masks[k], k) && (!i->stopped || err_set(j->c.e, "stopped after mask %zu", k));
    call_end(&j->c, m);
    mem_free(i);
    return ok;
}
