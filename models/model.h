/* model.h - the default model's files, linked into the binary (the folder is MODEL_DIR of the build).
 *
 *     builtin_model b;
 *     if (builtin_model_get(&b)) ...       // false in a build with -DNO_BUILTIN_MODEL
 */
#ifndef MODEL_H
#define MODEL_H
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const unsigned char *weights, *config, *merges; /* open_clip_model.safetensors, open_clip_config.json, merges.txt */
    size_t weights_length, config_length, merges_length;
} builtin_model;
bool builtin_model_get(builtin_model *b);
/* The captioner's file beside it; NULL in a build without (-DNO_BUILTIN_CAPTIONER). */
const unsigned char *builtin_captioner(size_t *length);
/* The generator's; NULL in a build without (-DNO_BUILTIN_GENERATOR). */
const unsigned char *builtin_generator(size_t *length);
#endif
