/* systems.h - the systems that ./train knows beside CLIP itself, a file system_NAME.c each. */
#ifndef SYSTEMS_H
#define SYSTEMS_H
#include "training/system.h"

extern const training_system caption_system, imagine_system, judge_system, alpha_system, align_system, probe_system, safe_system, evidence_system,
    anchors_system, heads_system;
#endif
