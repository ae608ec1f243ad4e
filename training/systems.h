/* systems.h - the systems that ./train knows beside CLIP itself, a file system_NAME.c each. */
#ifndef SYSTEMS_H
#define SYSTEMS_H
#include "training/system.h"

extern const training_system caption_system, imagine_system, judge_system;
#endif
