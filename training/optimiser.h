/* optimiser.h - AdamW on one flat block of weights, its schedule, and its state on disk.
 *
 *     optimiser o;
 *     if (!optimiser_new(&o, &params, cores, &e)) ...
 *     optimiser_begin(&o, &config, seed);                       // CLIP's initial weights
 *     o.rates = (optimiser_rates){.beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, ...};
 *     optimiser_step(&o, gradient, optimiser_norm(&o, gradient), 1e-3);  // o.weights and o.average move, o.step counts
 *     optimiser_save(&o, "run/checkpoint.safetensors", settings, count, &e);
 *
 * Everything that the next step depends on is in the state: a run that goes on from a checkpoint makes
 * the bytes it would have made without the pause.
 */
#ifndef OPTIMISER_H
#define OPTIMISER_H
#include "training/contrastive.h"
#include "sys/err.h"

typedef struct {
    real beta1, beta2, eps;
    real decay;   /* decoupled; matrices only */
    real clip;    /* the gradient's global norm is cut to this; 0: it is not */
    real average; /* decay of the weights' moving average; 0: none, the average is the weights */
} optimiser_rates;

typedef struct {
    const parameters *params;
    pool *cores;
    optimiser_rates rates;
    real *weights, *average, *first, *second; /* [numbers] each: weights, their average, Adam's moments */
    double *square;                           /* [count] each weight's share of the squared norm */
    uint64_t step;                            /* steps made */
    double pictures;                          /* the schedule's length; 0: not yet known */
    double beside;                            /* which CLIP a system is trained beside: the weights' hash, as far as it fits; 0: none */
    bool cosine_patch;                        /* the patch projection is given, not learned */
} optimiser;

bool optimiser_new(optimiser *o, const parameters *params, pool *cores, err *e);
void optimiser_free(optimiser *o);
/* Seeded weights as CLIP begins: normal, by width and depth; gains 1, biases 0, logit scale log(1/0.07). With
 * cosine_patch, the patch projection is a cosine transform (MODEL.md 9.4) and no step changes it. */
void optimiser_begin(optimiser *o, const clip_config *config, uint64_t seed);
/* Norm of a gradient. */
double optimiser_norm(optimiser *o, const real *gradient);
/* One step of AdamW; norm is the gradient's. The gradient is not changed. */
void optimiser_step(optimiser *o, const real *gradient, double norm, double lr);
/* exp(s), s the learned logit scale; 1 where there is none. */
double optimiser_scale(const optimiser *o);

/* Learning rate: linear warm-up over `warmup` steps, then half a cosine down to `end` (a share of the peak). */
double schedule_lr(double peak, double end, uint64_t step, uint64_t warmup, double progress);

/* ---- settings and state on disk -------------------------------------------------------------------- */
typedef struct {
    const char *flag; /* "width" */
    double value, least, most;
    enum { SET_SHAPE, SET_DATA, SET_FREE, SET_RUN } part; /* a checkpoint must agree; must; may differ; is not kept */
    const char *help;
    bool given;    /* on the command line */
    bool fraction; /* takes more than whole numbers */
} setting;

/* path.previous keeps the state before. Atomic: whatever happens, one of them is whole. */
bool optimiser_save(const optimiser *o, const char *path, const setting *settings, size_t count, err *e);
/* Reads the settings that a checkpoint keeps. Those given must agree where they make another model or other data,
 * else the field is named; the others are taken over. */
bool settings_load(const char *path, setting *settings, size_t count, err *e);
/* The checkpoint to go on from: path, or path.previous where that is missing. NULL: none. */
const char *checkpoint_latest(const char *path, char *room, size_t size);
/* A run goes on beside the CLIP that it was begun with. */
bool beside_check(const char *path, double beside, err *e);
bool optimiser_load(optimiser *o, const char *path, err *e);
#endif
