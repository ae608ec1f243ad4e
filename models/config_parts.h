/* config_parts.h - what the readers of configs share. Not for others: config.h is the face.
 *
 *     json_scope s = ...;                                     // model_cfg.vision_cfg
 *     if (!config_check_switches(&s, " width layers pool_type=tok ") || !config_eps(&s, "eps", 1e-5, &t->eps)) ...
 */
#ifndef CONFIG_PARTS_H
#define CONFIG_PARTS_H
#include "clip.h"
#include "files/json.h"

/* Beyond these a config is taken for broken: no published CLIP comes near. */
enum { WIDTH_MOST = 65536, LAYERS_MOST = 1024, IMAGE_MOST = 16384, MLP_MOST = 1 << 20, VOCAB_MOST = 10000000 };

/* fields, " a b=only c ": those that are read elsewhere or change nothing here, and those that may have one value only.
 * Whatever stands in no list must be null, false or empty: open_clip itself stops at fields that it does not know. */
bool config_check_switches(const json_scope *s, const char *fields);
bool config_is_off(const cJSON *v);
bool config_eps(const json_scope *s, const char *key, double absent, real *eps);
bool config_divides(const json_scope *s, const char *key, size_t part, const char *of, size_t whole);
/* int(width * ratio), as Python has it. */
bool config_mlp(const json_scope *s, double ratio, clip_tower *t);
/* Any network: what a pooler, a ResNet or the text's class token imply. */
void config_finish(clip_config *c);

/* root: a document with model_cfg, or model_cfg itself (EVA-CLIP's files). */
bool config_open_clip(const json_scope *root, clip_config *c);
bool config_hugging_face(const json_scope *root, clip_config *c);
/* vision_cfg with a timm_model_name: everything that the name says, and timm_model_kwargs. */
bool config_timm(const json_scope *vision, const char *name, clip_config *c);
#endif
