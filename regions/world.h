/* world.h - whether a picture is of the world that the built-in model was trained on: things drawn, and cut-outs, on made-up
 * backgrounds (scenes/). Photographs are not, and what that model says of them means nothing.
 *
 *     bool other;
 *     if (!world_is_other(m, "photo.jpg", &photo, &memory, cores, &other, &e)) ...
 *     const char *word = world_unknown_word("a zebra", &start, &length);   // "zebra"; NULL: each stood in its captions
 *
 * Decided by a logistic regression (MODEL.md 20) over what the model's own patches look like after two of its blocks, and over
 * the finest detail of the picture. It was fitted by test/make_world.c; world_data.h holds its numbers.
 */
#ifndef WORLD_H
#define WORLD_H
#include "pictures/image.h"

enum {
    WORLD_WIDTH = 128,                                    /* of the built-in model */
    WORLD_SCALES = 3, WORLD_DETAILS = 7,                  /* numbers of each scale */
    WORLD_FEATURES = 4 * WORLD_WIDTH + WORLD_SCALES * WORLD_DETAILS
};
/* What is looked at; the model is the built-in one. */
bool world_features(const clip_model *m, const picture *photo, arena *memory, pool *cores, double out[WORLD_FEATURES], err *e);
/* Log odds that it is of another world. */
double world_score(const double features[WORLD_FEATURES]);
/* path: where the picture was read; a JPEG, or one that is not square, is no scene of `maskinv scenes`, so less is asked of it. */
bool world_is_other(const clip_model *m, const char *path, const picture *photo, arena *memory, pool *cores, bool *other, err *e);

/* The first word of a text from *at on that no caption of the training held; NULL: none. length: its bytes. */
const char *world_unknown_word(const char *text, size_t *length);
/* All the words that captions hold, and how many; for nearest_word. */
const char *const *world_words(size_t *count);
#endif
