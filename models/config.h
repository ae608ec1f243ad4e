/* config.h - what a model is, read from and written to its JSON: Hugging Face's form and open_clip's.
 *
 *     clip_config c;
 *     if (!config_parse(text, length, "config.json", &c, &e)) ...
 *
 * A document with `model_cfg` is open_clip's, one with `vision_config` or `text_config` Hugging Face's. Two fields are
 * our own: model_cfg.vision_cfg.pool_type "tokens_mean", and maskinv_cfg {lr, alpha, iters, layers, size}, what the model
 * likes for MaskInversion, with `texts` (tokens.h) where the texts' cleaning is not its layout's. A switch that changes the
 * network in a way not supported here is refused by name.
 */
#ifndef CONFIG_H
#define CONFIG_H
#include <stdio.h>
#include "clip.h"
#include "models/tokens.h"
#include "sys/err.h"

bool config_parse(const char *json, size_t length, const char *name, clip_config *out, err *e);
/* Hugging Face's preprocessor_config.json: mean and std into out, its size against out's. */
bool config_parse_preprocessor(const char *json, size_t length, const char *name, clip_config *out, err *e);
/* open_clip's form. False where it has no words for this network: towers with different activations. texts: how its texts
 * are cleaned; NULL: as CLIP's. */
bool config_write(FILE *stream, const clip_config *c, const token_settings *texts, err *e);
/* The side when none is asked for: the model's own; where `sides` is 2, what its maskinv_cfg says, else twice its grid. */
size_t config_side(const clip_config *c, size_t sides);
const char *config_side_from(const clip_config *c, size_t sides); /* where that came from, in words */
/* The layers that LeGrad explains when none are asked for: its maskinv_cfg's, else the paper's one. */
size_t config_layers(const clip_config *c);
const char *config_layers_from(const clip_config *c);
#endif
