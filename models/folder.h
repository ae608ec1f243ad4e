/* folder.h - which files make a checkpoint: its weights, its config, AlphaCLIP's overlay.
 *
 *     model_files f;
 *     if (!model_files_find("weights/ViT-B-16", &f, &e)) ...    // a folder, or a file of weights
 *     tensors *t = model_files_weights(&f, &e);
 *     char *json = model_files_config(&f, t, name, &length, &e); // mem_free it
 *
 * A folder holds a published pair (open_clip_config.json and open_clip_model.safetensors, config.json and
 * pytorch_model.bin, shards with their index...), or one checkpoint under any name. Its config stands beside it under a
 * published name or as the only other JSON with vision_cfg, or the weights say it themselves (GGUF), or their names and
 * shapes imply it (implied.h). Nothing outside the folder is opened.
 */
#ifndef FOLDER_H
#define FOLDER_H
#include "models/tensors.h"

enum { PATH_ROOM = 4096 };
typedef struct {
    char folder[PATH_ROOM];  /* where its files lie, "./" for a bare name */
    char weights[PATH_ROOM]; /* the file of weights, or an index of shards */
    char overlay[PATH_ROOM]; /* AlphaCLIP's image side, over the weights; empty: none */
    char others[200];        /* files of weights that lie there too and are not read; empty: none */
} model_files;

/* FOLDER/FILE; an error where it is too long. */
bool model_file_path(char out[PATH_ROOM], const char *folder, const char *file, err *e);

bool model_files_find(const char *path, model_files *f, err *e);
/* The weights, with the overlay's in their place where there is one. */
tensors *model_files_weights(const model_files *f, err *e);
/* The config's JSON, from the file that *name then names (for messages). */
char *model_files_config(const model_files *f, const tensors *t, char name[PATH_ROOM], size_t *length, err *e);
/* The same of preprocessor_config.json, or what the weights say of it; NULL with *found false: there is none. */
char *model_files_pixels(const model_files *f, const tensors *t, const char *config, char name[PATH_ROOM], size_t *length,
                         bool *found, err *e);
#endif
