/* system.h - what is trained on top of a CLIP: a system is its weights, its loss and its recipe.
 *
 *     const training_system safe_system = {
 *         .name = "safe", .what = "...", .recipe = recipe, .settings = F_COUNT, .data_size = sizeof(data), .net_size = sizeof(safe_net),
 *         .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
 *         .valid = valid, .close = close_data};
 *     if (!system_run(&caption_system, settings, &options, &e)) ...
 *
 * A new system is a file system_NAME.c of that shape and a row in train.c's table. Its loss is written for some rows of the
 * batch, as that share of the batch's mean; shares run on all cores, each with a tape and a gradient of its own, and are summed
 * in their order: the same bytes on however many cores.
 */
#ifndef SYSTEM_H
#define SYSTEM_H
#include "models/checkpoint.h"
#include "parts/part.h"
#include "training/loop.h"

/* Every system's settings begin with these. */
enum {
    T_STEPS,
    T_BATCH,
    T_LR,
    T_LR_END,
    T_WARMUP,
    T_DECAY,
    T_CLIP,
    T_EMA,
    T_SEED,
    T_THREADS,
    T_SHARES,
    T_CHECKPOINT_EVERY,
    T_VALID_EVERY,
    T_VALID,
    T_STOP,
    T_OWN
};
#define SYSTEM_SETTINGS(steps, batch, lr, warmup, decay, ema, shares)                                                    \
    [T_STEPS] = {"steps", steps, 1, 1e9, SET_FREE, "in all", false, false},                                              \
    [T_BATCH] = {"batch", batch, 1, 65536, SET_DATA, "samples a step", false, false},                                    \
    [T_LR] = {"lr", lr, 0, 1e30, SET_FREE, "peak learning rate", false, true},                                           \
    [T_LR_END] = {"lr-end", 0, 0, 1, SET_FREE, "share of it left at the end of the cosine", false, true},                \
    [T_WARMUP] = {"warmup", warmup, 0, 1e9, SET_FREE, "steps until the peak", false, false},                             \
    [T_DECAY] = {"decay", decay, 0, 10, SET_FREE, "weight decay, on matrices only", false, true},                        \
    [T_CLIP] = {"clip", 1, 0, 1e9, SET_FREE, "largest norm of a gradient (0: any)", false, true},                        \
    [T_EMA] = {"ema", ema, 0, 0.999999, SET_FREE, "decay of the averaged weights, which are kept (0: no average)", false, true}, \
    [T_SEED] = {"seed", 1, 0, 9007199254740992.0, SET_DATA, "of weights, scenes and noise", false, false},               \
    [T_THREADS] = {"threads", 0, 0, 256, SET_RUN, "cores (0: all; their number does not change the bytes)", false, false}, \
    [T_SHARES] = {"shares", shares, 1, 256, SET_FREE, "parts of a batch that cores take one after another", false, false}, \
    [T_CHECKPOINT_EVERY] = {"checkpoint-every", 200, 1, 1e9, SET_RUN, "steps from one checkpoint to the next", false, false}, \
    [T_VALID_EVERY] = {"valid-every", 250, 1, 1e9, SET_RUN, "steps from one look at held-out scenes to the next", false, false}, \
    [T_VALID] = {"valid", 200, 0, 100000, SET_RUN, "held-out scenes", false, false},                                     \
    [T_STOP] = {"stop-after", 0, 0, 1e12, SET_RUN, "stop as if interrupted after this step (0: never)", false, false}

typedef struct {
    const char *folder, *model; /* model NULL: the one inside the binary */
    const char *stamps;         /* NULL: where the package puts them */
    bool resume, quiet;
} system_options;

/* What a system's functions are given. */
typedef struct {
    const setting *s; /* by the system's own enum */
    const system_options *options;
    checkpoint *weights;
    const clip_model *model;
    pool *cores;
    void *own; /* [data_size], zeroed: the system's data */
} system_job;

typedef struct {
    double loss;  /* filled by the runner */
    double right; /* share of the batch that these rows got right; where there is no such thing, 0 */
} system_share;

typedef struct {
    const char *name, *what;
    const setting *recipe;
    size_t settings, data_size, net_size;
    bool (*open)(system_job *j, err *e);                                /* data, sizes */
    void (*weights)(const system_job *j, void *net, part_list *l);      /* net is zeroed */
    bool (*batch)(system_job *j, uint64_t step, err *e);                /* makes the step's batch, of (settings, step) alone */
    ag_tensor *(*loss)(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out);
    bool (*valid)(system_job *j, void *net, arena *memory, double *share, err *e); /* one share; NULL: nothing is asked */
    /* FOLDER/NAME.safetensors; NULL: the weights as float32, nothing else */
    bool (*write)(const system_job *j, void *net, const part_list *l, const char *path, err *e);
    void (*close)(system_job *j);
    int keep; /* the setting that says which share of the first weights stays in what is asked and written; 0: there is none */
} training_system;

/* Unit embeddings [count,E] of texts, each in the template (NULL: as it is), by this core alone: products that are split over cores
 * round by their number, and a run's bytes must not depend on it. */
enum { TEXT_ROOM = 256 << 20 }; /* bytes of address space in which it works */
bool system_texts(const system_job *j, const char *const *texts, size_t count, const char *template, real *out, err *e);
/* A batch drawn with repeats, of (seed, key, step) alone: pick [batch], each below count. */
void system_pick(const system_job *j, uint64_t key, uint64_t step, size_t count, uint32_t *pick);

/* True when all steps are made. The folder then holds NAME.safetensors, checkpoint.safetensors and the one before it, loss.csv,
 * valid.csv and curve.png. */
bool system_run(const training_system *system, setting *s, const system_options *o, err *e);
#endif
