/* tuned.h - a fine-tuned CLIP as a model folder, for -m of every command.
 *
 *     if (!tuned_write(job, &tower, list, "F16", "run/alpha.safetensors", &e)) ...   // and run/alpha: weights, config, merges
 */
#ifndef TUNED_H
#define TUNED_H
#include "parts/tower.h"
#include "training/system.h"

/* The weights that were trained, as a part of this type (part_write), and the model of w in a folder of the same name beside it. */
bool tuned_write(const system_job *j, tower *w, const part_list *l, const char *type, const char *path, err *e);
#endif
