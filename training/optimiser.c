/* optimiser.c - AdamW, its schedule, and its state on disk (see optimiser.h). */
#include "training/optimiser.h"
#include "models/checkpoint.h"
#include "sys/random.h"
#include "os/os.h"
#include <stdio.h>
#include <string.h>
#include <tgmath.h> /* the sqrt of a real */

/* ---- weights and moments ---------------------------------------------------------------------------- */

bool optimiser_new(optimiser *o, const parameters *params, pool *cores, err *e) {
    memset(o, 0, sizeof *o);
    o->params = params;
    o->cores = cores;
    real **each[] = {&o->weights, &o->average, &o->first, &o->second};
    for (size_t i = 0; i < 4; i++)
        if (!(*each[i] = mem_reserve(params->numbers * sizeof(real))))
            return err_set(e, "no memory for %zu weights", params->numbers);
    for (size_t i = 0; i < 4; i++) memset(*each[i], 0, params->numbers * sizeof(real));
    o->square = mem_alloc(params->count, sizeof *o->square);
    return o->square || err_set(e, "no memory for %zu weights", params->count);
}

void optimiser_free(optimiser *o) {
    real *each[] = {o->weights, o->average, o->first, o->second};
    for (size_t i = 0; i < 4; i++)
        if (each[i]) mem_release(each[i], o->params->numbers * sizeof(real));
    mem_free(o->square);
    memset(o, 0, sizeof *o);
}

static double block_deviation(int field, double width, double layers) {
    switch (field) {
    case B_Q:
    case B_K:
    case B_V:
        return pow(width, -0.5);
    case B_OUT:
    case B_FC2:
        return pow(width, -0.5) * pow(2 * layers, -0.5);
    case B_FC1:
        return pow(2 * width, -0.5);
    default:
        return 0;
    }
}

/* CLIP's initial standard deviations (Radford et al. 2021, 2.4, after GPT-2): by width, the residual branches'
 * last products also by depth. The patch convolution's is that of a uniform one within 1/sqrt(fan-in). */
static double deviation(const clip_config *c, const parameter *p) {
    double d = (double)c->vision.width, w = (double)c->text.width;
    if (p->kind >= W_TEXT_BLOCK) return block_deviation((int)p->kind - W_TEXT_BLOCK, w, (double)c->text.layers);
    if (p->kind >= W_BLOCK) return block_deviation((int)p->kind - W_BLOCK, d, (double)c->vision.layers);
    switch (p->kind) {
    case W_PATCH:
        return pow(3.0 * (double)p->cols, -0.5);
    case W_CLASS:
    case W_POSITION:
    case W_PROJ:
        return pow(d, -0.5);
    case W_TOKEN:
        return 0.02;
    case W_TEXT_POSITION:
        return 0.01;
    case W_TEXT_PROJ:
        return pow(w, -0.5);
    default:
        return 0;
    }
}

static bool is_gain(clip_kind k) {
    if (k >= W_TEXT_BLOCK) k = (clip_kind)(k - W_TEXT_BLOCK + W_BLOCK);
    return k == W_PRE_GAMMA || k == W_POST_GAMMA || k == W_FINAL_GAMMA || k == (clip_kind)(W_BLOCK + B_LN1_GAMMA) ||
           k == (clip_kind)(W_BLOCK + B_LN2_GAMMA);
}

/* ---- a patch projection that need not be learned: MODEL.md (9.4) ------------------------------------------- */

/* The q-th of p*p pairs of frequencies, in order of u^2 + v^2, then of u. */
static void nth_frequency(size_t q, size_t p, size_t *u, size_t *v) {
    for (size_t square = 0;; square++)
        for (size_t a = 0; a < p && a * a <= square; a++)
            for (size_t b = 0; b < p && a * a + b * b <= square; b++)
                if (a * a + b * b == square && q-- == 0) {
                    *u = a, *v = b;
                    return;
                }
}
/* Entry x of the u-th of p orthonormal cosines. */
static double cosine(size_t u, size_t x, size_t p) {
    return sqrt((u ? 2.0 : 1.0) / (double)p) * cos(3.141592653589793 * ((double)x + 0.5) * (double)u / (double)p);
}
/* Each row is one frequency of one channel, over the deviation that pictures have there: patches of neighbouring pixels are
 * nearly of one colour, and unweighted that is all that tokens would begin with. Rows beyond p*p frequencies stay random. */
static void cosine_rows(real *w, size_t rows, size_t p) {
    static const double channel[3][3] = {{0.57735, 0.57735, 0.57735}, {0.70711, -0.70711, 0}, {0.40825, 0.40825, -0.81650}};
    static const double deviates[3] = {1.6, 0.5, 0.45}; /* light, red against green, yellow against blue */
    size_t colours = rows * 5 / 16, share[3] = {rows - 2 * colours, colours, colours};
    for (size_t c = 0; c < 3; c++)
        for (size_t q = 0; q < share[c]; q++, w += 3 * p * p) {
            size_t u, v;
            if (q >= p * p) continue;
            nth_frequency(q, p, &u, &v);
            double f = sqrt((double)(u * u + v * v)), d = deviates[c] * (q == 0 ? (double)p - 1 : 3 / f);
            for (size_t i = 0; i < 3 * p * p; i++)
                w[i] = (real)(0.6 / fmax(d, 0.3) * channel[c][i / (p * p)] * cosine(u, i / p % p, p) * cosine(v, i % p, p));
        }
}

void optimiser_begin(optimiser *o, const clip_config *config, uint64_t seed) {
    for (size_t i = 0; i < o->params->count; i++) {
        const parameter *p = &o->params->list[i];
        double s = deviation(config, p), fixed = is_gain(p->kind) ? 1 : p->kind == W_LOGIT_SCALE ? log(1 / 0.07) : 0;
        for (size_t k = 0; k < p->rows * p->cols; k++)
            o->weights[p->offset + k] = (real)(s > 0 ? s * mix_normal(mix64(seed, i), k) : fixed);
        if (p->kind == W_PATCH && o->cosine_patch) cosine_rows(o->weights + p->offset, p->rows, config->patch);
    }
    memcpy(o->average, o->weights, o->params->numbers * sizeof(real));
    o->step = 0;
}

/* ---- the step ----------------------------------------------------------------------------------------- */

typedef struct {
    optimiser *o;
    const real *gradient;
    real shrink, lr, bias1, bias2, keep;
} step_job;

static void square_task(void *arg, size_t index) {
    step_job *j = arg;
    const parameter *p = &j->o->params->list[index];
    const real *g = j->gradient + p->offset;
    double sum = 0;
    for (size_t i = 0; i < p->rows * p->cols; i++) sum += (double)g[i] * (double)g[i];
    j->o->square[index] = sum;
}

double optimiser_norm(optimiser *o, const real *gradient) {
    step_job j = {.o = o, .gradient = gradient};
    double sum = 0;
    spread(o->cores, o->params->count, square_task, &j);
    for (size_t i = 0; i < o->params->count; i++) sum += o->square[i];
    return sqrt(sum);
}

/* (9.2)  AdamW (Loshchilov & Hutter 2019, algorithm 2), decay first, eps after the bias correction; then the average. */
static void adamw_task(void *arg, size_t index) {
    const step_job *j = arg;
    optimiser *o = j->o;
    const parameter *p = &o->params->list[index];
    const optimiser_rates *r = &o->rates;
    real lr = p->rate > 0 ? j->lr * p->rate : j->lr, decay = p->rows > 1 && p->cols > 1 ? 1 - lr * r->decay : 1;
    const real *restrict g = j->gradient + p->offset;
    real *restrict w = o->weights + p->offset, *restrict a = o->average + p->offset;
    real *restrict m = o->first + p->offset, *restrict v = o->second + p->offset;
    real b1 = r->beta1, b2 = r->beta2, eps = r->eps, c1 = 1 / j->bias1, c2 = 1 / j->bias2;
    real shrink = j->shrink, keep = j->keep;
    if (p->kind == W_PATCH && o->cosine_patch) return;
    for (size_t i = 0; i < p->rows * p->cols; i++) {
        real gi = g[i] * shrink;
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        w[i] = decay * w[i] - lr * (m[i] * c1) / (sqrt(v[i] * c2) + eps);
        a[i] += (1 - keep) * (w[i] - a[i]);
    }
}

double optimiser_scale(const optimiser *o) {
    size_t at = parameters_scale(o->params);
    return at == SIZE_MAX ? 1 : exp((double)o->weights[at]);
}

void optimiser_step(optimiser *o, const real *gradient, double norm, double lr) {
    const optimiser_rates *r = &o->rates;
    double t = (double)++o->step;
    step_job j = {o, gradient, 1, (real)lr, (real)(1 - pow((double)r->beta1, t)), (real)(1 - pow((double)r->beta2, t)),
                  0};
    if (r->clip > 0 && norm > (double)r->clip) j.shrink = (real)((double)r->clip / norm);
    /* (9.3)  a young average forgets faster: it would carry the initial weights along */
    j.keep = (real)fmin((double)r->average, (1 + t) / (10 + t));
    spread(o->cores, o->params->count, adamw_task, &j);
    size_t at = parameters_scale(o->params);
    real most = (real)log(100);
    if (at != SIZE_MAX && o->weights[at] > most) o->weights[at] = most; /* Radford et al. 2021, 2.5: logits are never scaled by more than 100 */
}

double schedule_lr(double peak, double end, uint64_t step, uint64_t warmup, double progress) {
    if (step < warmup) return peak * (double)(step + 1) / (double)warmup;
    double half = 0.5 * (1 + cos(3.141592653589793 * fmin(progress, 1)));
    return peak * (end + (1 - end) * half);
}

/* ---- state on disk: a safetensors file, its settings as tensors of one number --------------------------- */

enum { STATE_ARRAYS = 4, STATE_COUNTERS = 3, MOST_SETTINGS = 64 };
static const char *const array_name[STATE_ARRAYS] = {"weights", "average", "first_moment", "second_moment"};
static const char *const counter_name[STATE_COUNTERS] = {"step", "pictures", "model"};

bool optimiser_save(const optimiser *o, const char *path, const setting *settings, size_t count, err *e) {
    st_tensor t[STATE_ARRAYS + STATE_COUNTERS + MOST_SETTINGS] = {0};
    char names[MOST_SETTINGS][48], fresh[4096], previous[4096];
    const real *array[STATE_ARRAYS] = {o->weights, o->average, o->first, o->second};
    double counters[STATE_COUNTERS] = {(double)o->step, o->pictures, o->beside};
    size_t n = 0;
    for (size_t i = 0; i < STATE_ARRAYS; i++)
        t[n++] = (st_tensor){array_name[i],
                             sizeof(real) == sizeof(float) ? "F32" : "F64", /* a run that goes on makes the same bytes */
                             {o->params->numbers},
                             1,
                             (const unsigned char *)array[i],
                             o->params->numbers * sizeof(real)};
    for (size_t i = 0; i < STATE_COUNTERS; i++)
        t[n++] = (st_tensor){counter_name[i], "F64", {0}, 0, (const unsigned char *)&counters[i], sizeof(double)};
    for (size_t i = 0; i < count && i < MOST_SETTINGS; i++) {
        if (settings[i].part == SET_RUN) continue;
        snprintf(names[i], sizeof names[i], "setting.%s", settings[i].flag);
        t[n++] = (st_tensor){names[i], "F64", {0}, 0, (const unsigned char *)&settings[i].value, sizeof(double)};
    }
    snprintf(fresh, sizeof fresh, "%s.new", path);
    snprintf(previous, sizeof previous, "%s.previous", path);
    if (!st_write(fresh, t, n, NULL, e)) {
        os_remove(fresh);
        return false;
    }
    if (file_exists(path) && !os_rename(path, previous))
        return err_set(e, "%s: cannot be renamed to %s: %s", path, previous, os_reason());
    return os_rename(fresh, path) || err_set(e, "%s: cannot be renamed to %s: %s", fresh, path, os_reason());
}

const char *checkpoint_latest(const char *path, char *room, size_t size) {
    if (file_exists(path)) return path;
    snprintf(room, size, "%s.previous", path);
    return file_exists(room) ? room : NULL;
}

static bool read_number(const safetensors *s, const char *path, const char *name, double *out, err *e) {
    const st_tensor *t = st_find(s, name);
    if (!t) return err_set(e, "%s: \"%s\" is missing: no checkpoint, or one of an older version", path, name);
    if (t->bytes != sizeof *out || strcmp(t->type, "F64") != 0)
        return err_set(e, "%s: \"%s\" is %s of %zu bytes, expected one F64", path, name, t->type, t->bytes);
    memcpy(out, t->data, sizeof *out);
    order_bytes(out, 1, sizeof *out);
    return true;
}

bool settings_load(const char *path, setting *settings, size_t count, err *e) {
    safetensors *s = st_open(path, e);
    bool good = s != NULL;
    for (size_t i = 0; good && i < count; i++) {
        setting *f = &settings[i];
        char name[48];
        double there = 0;
        if (f->part == SET_RUN) continue;
        snprintf(name, sizeof name, "setting.%s", f->flag);
        if (f->part == SET_FREE && !st_find(s, name)) continue; /* younger than the checkpoint */
        good = read_number(s, path, name, &there, e);
        if (good && f->given && f->value != there && f->part != SET_FREE)
            good =
                err_set(e, "%s: its %s is %g, but --%s %g was asked; leave the flag out to go on, or begin a new run",
                        path, f->flag, there, f->flag, f->value);
        if (good && !f->given) f->value = there;
    }
    st_free(s);
    return good;
}

bool beside_check(const char *path, double beside, err *e) {
    double there = beside;
    safetensors *s = st_open(path, e);
    bool good = s && (!st_find(s, "model") || read_number(s, path, "model", &there, e)); /* older ones do not say it */
    st_free(s);
    return good && (there == beside || err_set(e, "%s: it was begun beside another CLIP: the same --model is expected", path));
}

bool optimiser_load(optimiser *o, const char *path, err *e) {
    real *array[STATE_ARRAYS] = {o->weights, o->average, o->first, o->second};
    double step = 0;
    safetensors *s = st_open(path, e);
    bool good = s && read_number(s, path, "step", &step, e) && read_number(s, path, "pictures", &o->pictures, e);
    for (size_t i = 0; good && i < STATE_ARRAYS; i++) {
        const st_tensor *t = st_find(s, array_name[i]);
        if (!t)
            good = err_set(e, "%s: \"%s\" is missing", path, array_name[i]);
        else if (t->rank != 1 || t->shape[0] != o->params->numbers)
            good = err_set(e, "%s: \"%s\" holds %zu numbers, this model has %zu", path, array_name[i], t->shape[0],
                           o->params->numbers);
        else
            good = st_floats(t, array[i], o->params->numbers, e);
    }
    if (good && !(step >= 0 && step < 0x1p53)) good = err_set(e, "%s: \"step\" is %g, expected a count", path, step);
    if (good) o->step = (uint64_t)step;
    st_free(s);
    return good;
}
