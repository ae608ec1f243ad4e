/* implied.h - the config that OpenAI's names and shapes imply, as open_clip would write it.
 *
 *     char json[IMPLIED_ROOM];
 *     if (implied_config(t, json, &e)) ...      // {"model_cfg": {"embed_dim": 512, ...}}
 *
 * Names and shapes do not say the activation: OpenAI's TorchScript archives, Long-CLIP's and AlphaCLIP's weights have
 * quick_gelu; for any other state dict the error asks, and gives the config to be completed.
 */
#ifndef IMPLIED_H
#define IMPLIED_H
#include "models/tensors.h"

enum { IMPLIED_ROOM = 800 };
bool implied_config(const tensors *t, char json[IMPLIED_ROOM], err *e);
#endif
