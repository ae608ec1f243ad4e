/* names.h - what published checkpoints call their weights: one table a layout, one row a tensor.
 *
 *     name_set n;
 *     if (!names_recognise(t, &n, &e)) ...                       // by the tensors that are there
 *     weight_name w = names_find(&n, &m.config, t, W_BLOCK + B_Q, 3);
 *     // "visual.transformer.resblocks.3.attn.in_proj_weight", part 0 of 3
 *
 * A new family is a layout: a table of rows here and its switches in the config. Where a layout has grown two names for
 * one weight, both have a row, and the tensor that is there decides.
 */
#ifndef NAMES_H
#define NAMES_H
#include "clip.h"
#include "models/tensors.h"

/* How a weight [rows, cols] is stored: PROJECTION as [cols, rows], CONVOLUTION as [rows, planes, k, k]. */
typedef enum { FORM_MATRIX, FORM_VECTOR, FORM_SCALAR, FORM_PROJECTION, FORM_CONVOLUTION } name_form;

typedef struct name_layout name_layout;
typedef struct {
    const name_layout *image, *text;
} name_set;

enum { WEIGHT_NAME = 128 };
typedef struct {
    char name[WEIGHT_NAME];
    name_form form;
    size_t part, parts; /* piece of a tensor that several weights share; parts 1: whole */
} weight_name;

/* An error names what was looked for, or the network that this is and that is not supported. */
bool names_recognise(const tensors *t, name_set *n, err *e);
/* The layouts that open_clip would give a model of this config. */
name_set names_open_clip(const clip_config *c);
bool names_with_timm(const clip_config *c);   /* its image side there is one of timm's */
bool names_custom_text(const clip_config *c); /* its text side's names there begin with text. */
/* t NULL: the first row that fits. */
weight_name names_find(const name_set *n, const clip_config *c, const tensors *t, clip_kind kind, size_t layer);
/* The tensor's shape in the file, *rank of them, for a weight [rows, cols]. */
size_t names_shape(const weight_name *w, size_t rows, size_t cols, const clip_config *c, clip_kind kind, size_t layer,
                   size_t shape[4]);
/* Does the file name its image side as open_clip does, or its text side? */
bool names_like_open_clip(const tensors *t);
const char *names_layout(const name_set *n); /* "open_clip", "Hugging Face", "timm"... */
#endif
