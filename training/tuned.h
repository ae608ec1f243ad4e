/* tuned.h - a fine-tuned CLIP as a model folder, for -m of every command.
 *
 *     if (!tuned_write(job, &tower, "run/alpha", &e)) ...      // weights, config, merges
 */
#ifndef TUNED_H
#define TUNED_H
#include "parts/tower.h"
#include "training/system.h"

bool tuned_write(const system_job *j, tower *w, const char *folder, err *e);
#endif
