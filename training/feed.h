/* feed.h - scenes made into batches: patches, token ids, and which captions are right for which picture.
 *
 *     feed *f = feed_open(&plan, cores, &e);
 *     if (!feed_learn(f, 50000, 1000, "run/model/merges.txt", &e)) ...   // or feed_tokens, what was learned before
 *     contrastive_batch b;
 *     if (!feed_batch(f, step * plan.pairs, progress, &b, &e)) ...     // b points into f, until the next batch
 *
 * The n-th picture of a run is a pure function of (plan, n, progress): nothing has to be kept to go on later.
 */
#ifndef FEED_H
#define FEED_H
#include "training/contrastive.h"
#include "scenes/scenes.h"
#include "text/tokenizer.h"

typedef struct {
    clip_config config; /* image, patch, context, mean, std are used; vocab is known after feed_learn or feed_tokens */
    size_t pairs;       /* the batch: pictures with a caption each */
    size_t more;        /* further captions of each picture, each of one object alone */
    uint64_t seed;
    double photographic; /* share of pictures composed of cut-outs; 0: the stamps are not needed */
    size_t least, most;  /* objects in a picture */
    /* curriculum: the share of single-object pictures goes from `from` to `to` over the first `over` of the run */
    struct {
        double from, to, over;
    } single;
    const char *stamps; /* NULL: where the package puts them */
} feed_plan;

/* uint8 [image,image,3] -> normalised patches [grid*grid, 3*p*p], as clip_patches has them. */
void feed_patches(const clip_config *c, const picture *p, real *out);

typedef struct feed feed;
feed *feed_open(const feed_plan *plan, pool *cores, err *e);
void feed_free(feed *f);
/* Learns merges from that many captions of this feed's own pictures and from all names; writes the merges file where
 * path is not NULL. */
bool feed_learn(feed *f, size_t captions, size_t merges, const char *path, err *e);
/* Reads merges; batches can be made from now on. */
bool feed_tokens(feed *f, const char *path, err *e);
size_t feed_vocab(const feed *f);
/* Pictures first..first+pairs-1. A caption is right for every picture that it is true of. */
bool feed_batch(feed *f, uint64_t first, double progress, contrastive_batch *out, err *e);

/* ---- held-out pictures of one object, to be named among all names of their kind -------------------- */
typedef struct {
    scene_kind kind;
    size_t count, names, length; /* pictures, names, ids in a prompt */
    real *patches;               /* [count, grid*grid, 3pp] */
    uint32_t *ids;               /* [names, length]: "a photo of a NAME" */
    uint32_t *right;             /* [count] the name's index */
} held_out;
bool feed_has(const feed *f, scene_kind kind);
bool feed_held_out(feed *f, scene_kind kind, size_t count, held_out *out, err *e);
void held_out_free(held_out *h);
#endif
