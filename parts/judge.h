/* judge.h - what is in a small picture: a reader of names and colours that knows pictures alone, no CLIP and no generator.
 *
 *     judge *j = judge_open("run/judge.safetensors", &e);
 *     judge_reading r;
 *     if (!judge_read(j, pixels, &memory, &r, &e)) ...       // r.name "fish", r.colour "red"
 *
 * A perceptron on coefficients of the picture, W_2 relu(W_1 a + b_1) + b_2: names first, then colours. It learned from real
 * cut-outs of scenes of its own (`train judge`), and judges what `imagine` draws. The file: fc.0, fc.1, basis, mean, scale,
 * names, colours.
 */
#ifndef JUDGE_H
#define JUDGE_H
#include "parts/linear_space.h"

typedef struct {
    size_t coefficients, hidden, names, colours;
    ag_tensor *fc[2][2];
} judge_net;
void judge_weights(judge_net *n, part_list *l);
/* a [1,B,K] -> [1,B,names+colours]; keep [1,B,hidden]: dropout's multiples, NULL: none */
ag_tensor *judge_scores(ag_tape *t, const judge_net *n, ag_tensor *a, ag_tensor *keep);

typedef struct judge judge;
typedef struct {
    const char *name, *colour;
} judge_reading;
judge *judge_open(const char *path, err *e);
void judge_free(judge *j);
/* pixels: uint8 of as many numbers as its pictures have. */
bool judge_read(const judge *j, const unsigned char *pixels, arena *memory, judge_reading *out, err *e);
size_t judge_numbers(const judge *j);
#endif
