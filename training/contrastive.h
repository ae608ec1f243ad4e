/* contrastive.h - one training step of CLIP: a batch of pictures and captions in, loss and gradients out.
 *
 *     contrastive *c = contrastive_new(&config, weights, cores, &plan, &memory, &why);  // weights: one flat block
 *     contrastive_batch b = {patches, ids, truth, 192, 192, length};
 *     contrastive_result r;
 *     if (!contrastive_step(c, &b, gradient, &r, &why)) ...        // r.loss, r.accuracy; gradient as flat as weights
 *
 * The batch is cut into equal shares, more of them than cores, so that a core that is held up by other programs does
 * not hold up the others. A share goes chunk by chunk: what one op makes is still in the cache when the next one reads
 * it. Each share has its own arena, tape, and gradient buffer; the weights are everybody's. The loss alone sees the
 * whole batch: it cuts the graph at the embeddings, and its gradient there is the seed with which the shares then walk
 * their chunks backwards. The shares' gradients are summed in their order: the same input gives the same bytes, on
 * however many cores.
 */
#ifndef CONTRASTIVE_H
#define CONTRASTIVE_H
#include "clip.h"

/* ---- weights as one flat block ----------------------------------------------------------------- */
/* Where a weight lies in the block; places are 64-byte aligned, the numbers between them stay zero. */
typedef struct {
    clip_kind kind;
    size_t layer, rows, cols, offset;
    real rate; /* of the learning rate; 0: all of it */
} parameter;
typedef struct {
    parameter *list;
    size_t count, numbers;
} parameters; /* numbers: the block's length */
/* How far the next weight lies from one of this shape. */
static inline size_t parameter_place(size_t rows, size_t cols) {
    size_t line = ARENA_ALIGN / sizeof(real);
    return (rows * cols + line - 1) / line * line;
}
/* The list for a config, in clip_each_weight's order, in the arena. */
bool parameters_of(const clip_config *config, arena *memory, parameters *out, fault *why);
/* Where the logit scale lies in the block; SIZE_MAX: there is none. */
size_t parameters_scale(const parameters *p);
/* A model whose weights lie in a flat block (for inference, for writing), in the arena. NULL when that is full. */
clip_model *contrastive_model(const clip_config *config, const real *flat, arena *memory, fault *why);

/* ---- the step ------------------------------------------------------------------------------------ */
typedef struct {
    size_t shares, pictures, captions, images_chunk, texts_chunk;
} contrastive_plan; /* each at least 1; pictures, captions: of the largest batch, captions not fewer */

typedef struct {
    const real *patches; /* [pictures, grid*grid, 3*p*p], normalised, as clip_patches lays them out */
    const uint32_t *ids; /* [captions, length], zero-padded; length may end where the longest caption does */
    const real *truth;   /* [pictures, captions]: 1 where caption j is true of picture i, else 0; each has one that is.
                            NULL: caption j is picture j % pictures' own, and true of that alone. */
    size_t pictures, captions, length; /* captions: at least as many as pictures */
} contrastive_batch;

typedef struct {
    real loss;     /* (cross entropy of rows + of columns) / 2 */
    real accuracy; /* share of pictures and of captions whose best partner is a right one */
} contrastive_result;

typedef struct contrastive contrastive;
/* Takes its room, and each share's, from what is left in the arena: contrastive_room() says how much is plenty.
 * cores may be NULL. weights stay the caller's and may change between steps. NULL: see why. */
contrastive *contrastive_new(const clip_config *config, real *weights, pool *cores, const contrastive_plan *plan,
                             arena *memory, fault *why);
size_t contrastive_room(const clip_config *config, const contrastive_plan *plan);
const parameters *contrastive_parameters(const contrastive *c);
/* gradient [numbers] is overwritten. A loss that is not finite is FAULT_NAN. */
bool contrastive_step(contrastive *c, const contrastive_batch *b, real *gradient, contrastive_result *out, fault *why);
/* Embeddings without gradients, by any model of the same config: patches [count, grid*grid, 3pp] -> out [count,E],
 * ids [count,length] -> out [count,E], neither normalised. */
bool contrastive_images(contrastive *c, const clip_model *m, const real *patches, size_t count, real *out, fault *why);
bool contrastive_texts(contrastive *c, const clip_model *m, const uint32_t *ids, size_t count, size_t length, real *out,
                       fault *why);
/* Most bytes ever used by all shares together. */
size_t contrastive_peak(const contrastive *c);
#endif
