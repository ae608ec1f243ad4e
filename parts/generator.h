/* generator.h - a small picture from an embedding: flow matching in a linear space of pictures (MODEL.md 13).
 *
 *     generator *g = generator_open("run/imagine.safetensors", 128, &e);      // or generator_builtin
 *     generator_way how = {.steps = 25, .guidance = 2, .seed = 1};
 *     unsigned char rgb[32 * 32 * 3];                                         // [side, side, 3]
 *     if (!generator_draw(g, embedding, &how, &memory, cores, rgb, &e)) ...
 *
 * What it draws is a thing alone on grey, as the pictures were that it learned from. The file, as `train imagine` writes it:
 * in, time.0, time.1, condition, null, blocks.i.{0, 1, ada}, out, basis, mean, scale, and "held": the pairs of colour and name
 * that were kept from it, parted by newlines.
 */
#ifndef GENERATOR_H
#define GENERATOR_H
#include "parts/linear_space.h"

enum { GENERATOR_MOST_BLOCKS = 32 };
typedef struct {
    ag_tensor *first[2], *second[2], *ada[2]; /* [W,W], [W,W], [3W,W] with their biases */
} generator_block;
typedef struct {
    size_t coefficients, width, blocks, embed, frequencies;
    ag_tensor *in[2], *time[2][2], *condition[2], *null, *out[2];
    generator_block block[GENERATOR_MOST_BLOCKS];
} generator_net;

/* The list of a network whose sizes are set. */
void generator_weights(generator_net *n, part_list *l);
/* (13.2) Where the flow ends, as the network believes: x [1,B,K] at times[B], condition [1,B,E] -> [1,B,K]. */
ag_tensor *generator_end(ag_tape *t, const generator_net *n, ag_tensor *x, const real *times, ag_tensor *condition);
/* (13.3) The velocity's squared error, summed, times `weight`: x1, x0 [1,B,K], times [B], condition [1,B,E]; where dropped[b] is
 * 1 the learned `null` stands for it. */
ag_tensor *generator_loss(ag_tape *t, const generator_net *n, ag_tensor *x1, ag_tensor *x0, const real *times, ag_tensor *condition,
                          const real *dropped, real weight);
/* (13.4) Euler from noise x0 [1,B,K] -> [1,B,K]. The tape does not record. */
typedef struct {
    size_t steps;
    double guidance;
    uint64_t seed; /* of the noise */
} generator_way;
ag_tensor *generator_sample(ag_tape *t, const generator_net *n, ag_tensor *x0, ag_tensor *condition, const generator_way *how);

/* ---- ready to use ---- */
typedef struct generator generator;
generator *generator_open(const char *path, size_t embed, err *e); /* embed: the model's; another is an error */
generator *generator_builtin(size_t embed, err *e);                /* the one inside the binary */
generator *generator_of(tensors *file, const char *name, size_t embed, err *e); /* file becomes its own; NULL in, NULL out */
void generator_free(generator *g);
const char *generator_name(const generator *g);
size_t generator_side(const generator *g); /* of the pictures */
/* Was "red fish" kept from it while it learned? */
bool generator_held(const generator *g, const char *colour, const char *name);
/* embedding [E], of any length -> rgb [side, side, 3]. */
bool generator_draw(const generator *g, const real *embedding, const generator_way *how, arena *memory, pool *cores,
                    unsigned char *rgb, err *e);
#endif
