/* pixels.h - how a picture becomes pixels, as the model's own files say it (MODEL.md 2).
 *
 *     if (!pixels_read_open_clip(&preprocess_cfg, &config)) ...        // open_clip_config.json's section
 *     if (!pixels_read_hugging_face(&root, &config)) ...               // preprocessor_config.json
 *     pixels_write(stream, &config);                                   // "preprocess_cfg": {...}, open_clip's words
 *
 * Into config go mean, std and `pixels`; image must have been read. What changes the pixels is obeyed, or refused by
 * name. A rescaling other than 1/255, and none at all, go into mean and std: (v f - mean) / std is
 * (v/255 - mean / 255f) / (std / 255f).
 */
#ifndef PIXELS_H
#define PIXELS_H
#include <stdio.h>
#include "clip.h"
#include "files/json.h"

void pixels_defaults(clip_config *c); /* OpenAI's mean and std, the standard CLIP transform */
bool pixels_read_open_clip(const json_scope *s, clip_config *c);
bool pixels_read_hugging_face(const json_scope *s, clip_config *c);
/* Settings of a preprocessor_config.json that ask for something and are not known here, one after another; "": none. */
void pixels_unknown(const cJSON *root, char *out, size_t size);
/* Two fields are our own where open_clip has no words: resize_side, and crop_rounding "down". */
bool pixels_write(FILE *stream, const clip_config *c, err *e);
/* In few words: "shorter side to 224, bicubic, centre crop". */
void pixels_describe(const clip_config *c, char *out, size_t size);
#endif
