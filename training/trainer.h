/* trainer.h - a training run from its settings to a model folder.
 *
 *     setting s[S_COUNT];
 *     memcpy(s, train_settings, sizeof s);                       // the defaults
 *     s[S_WIDTH].value = 128; s[S_WIDTH].given = true;
 *     train_options o = {.folder = "run", .resume = true};
 *     if (!trainer_run(s, &o, &e)) ...
 *
 * The folder then holds model/ (open_clip_model.safetensors, open_clip_config.json, merges.txt), checkpoint.safetensors
 * and the one before it, loss.csv, valid.csv and curve.png.
 */
#ifndef TRAINER_H
#define TRAINER_H
#include "training/optimiser.h"

enum {
    /* the network */
    S_WIDTH,
    S_LAYERS,
    S_HEADS,
    S_PATCH,
    S_IMAGE,
    S_EMBED,
    S_TEXT_WIDTH,
    S_TEXT_LAYERS,
    S_TEXT_HEADS,
    S_CONTEXT,
    S_MERGES,
    S_POOL,
    /* the pictures */
    S_PHOTOGRAPHIC,
    S_LEAST,
    S_MOST,
    S_SINGLE_FROM,
    S_SINGLE_TO,
    S_SINGLE_OVER,
    S_BATCH,
    S_SEED,
    S_MORE,
    S_CAPTIONS,
    /* the way there */
    S_IMAGES,
    S_HOURS,
    S_LR,
    S_LR_END,
    S_WARMUP,
    S_DECAY,
    S_COSINE_PATCH,
    S_CLIP,
    S_EMA,
    S_THREADS,
    S_SHARES,
    S_CHUNK,
    S_TEXT_CHUNK,
    /* on the way */
    S_CHECKPOINT_EVERY,
    S_VALID_EVERY,
    S_VALID,
    S_STOP,
    S_COUNT
};
extern const setting train_settings[S_COUNT];

typedef struct {
    const char *folder;
    const char *stamps; /* NULL: where the package puts them */
    const char *from;   /* a model's folder whose weights and words the run begins with; NULL: none */
    double steps;       /* instead of S_IMAGES, of whatever batch; 0: not given */
    bool resume;
    bool quiet;
} train_options;

/* True when the run's pictures are all seen. Else the message says why, and the last checkpoint stands. */
bool trainer_run(setting *s, const train_options *o, err *e);
/* One batch of drawn pictures again and again: true once every one of them is right within `seconds`. */
bool trainer_overfit(setting *s, const train_options *o, double seconds, err *e);
#endif
