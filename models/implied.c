/* implied.c - OpenAI's rules (clip/model.py, build_model), as shapes allow them (see implied.h). */
#include "models/implied.h"
#include <stdio.h>
#include <string.h>

enum { LAYERS_MOST = 1024, SIDE_MOST = 16384 };

/* A tensor of this rank with no empty side; its shape, or NULL with a message. */
static const size_t *shape_of(const tensors *t, const char *name, size_t rank, err *e) {
    const file_tensor *w = tensors_find(t, name);
    bool good = w && w->rank == rank;
    for (size_t i = 0; good && i < rank; i++) good = w->shape[i] > 0;
    if (good) return w->shape;
    err_set(e, "%s: no config stands beside it, and tensor \"%s\" is %s, so its sizes cannot be known", tensors_name(t), name,
            w ? "of another rank than OpenAI's" : "missing");
    return NULL;
}

static size_t count_blocks(const tensors *t, const char *form) {
    char name[128];
    size_t n = 0;
    for (; n < LAYERS_MOST; n++) {
        const char *place = strstr(form, "%");
        snprintf(name, sizeof name, "%.*s%zu%s", (int)(place - form), form, n, place + 1);
        if (!tensors_find(t, name)) break;
    }
    return n;
}

/* The side of the grid that `rows` positions are of, the first for the class. */
static size_t grid_of(size_t rows) {
    size_t side = 0;
    while (side < SIDE_MOST && (side + 1) * (side + 1) <= rows - 1) side++;
    return side;
}

static bool imply_vit(const tensors *t, char *out, size_t room, err *e) {
    const size_t *conv = shape_of(t, "visual.conv1.weight", 4, e);
    const size_t *position = conv ? shape_of(t, "visual.positional_embedding", 2, e) : NULL;
    if (!position) return false;
    snprintf(out, room, "\"image_size\": %zu, \"layers\": %zu, \"width\": %zu, \"patch_size\": %zu",
             grid_of(position[0]) * conv[2], count_blocks(t, "visual.transformer.resblocks.%.ln_1.weight"), conv[0], conv[2]);
    return true;
}

static bool imply_resnet(const tensors *t, char *out, size_t room, err *e) {
    const size_t *conv = shape_of(t, "visual.layer1.0.conv1.weight", 4, e);
    const size_t *position = conv ? shape_of(t, "visual.attnpool.positional_embedding", 2, e) : NULL;
    size_t blocks[4];
    static const char *const stages[4] = {"visual.layer1.%.conv1.weight", "visual.layer2.%.conv1.weight",
                                          "visual.layer3.%.conv1.weight", "visual.layer4.%.conv1.weight"};
    if (!position) return false;
    for (int i = 0; i < 4; i++) blocks[i] = count_blocks(t, stages[i]);
    snprintf(out, room, "\"image_size\": %zu, \"layers\": [%zu, %zu, %zu, %zu], \"width\": %zu, \"patch_size\": null",
             grid_of(position[0]) * 32, blocks[0], blocks[1], blocks[2], blocks[3], conv[0]);
    return true;
}

/* Weights that are OpenAI's, or were trained on from them: quick_gelu. */
static bool is_openai(const tensors *t) {
    return strcmp(tensors_container(t), "TorchScript archive") == 0 || tensors_find(t, "input_resolution") ||
           tensors_find(t, "positional_embedding_res") || tensors_find(t, "visual.conv1_alpha.weight");
}

bool implied_config(const tensors *t, char json[IMPLIED_ROOM], err *e) {
    char vision[200];
    const size_t *projection, *norm = NULL, *position = NULL, *token = NULL;
    if (!(tensors_find(t, "visual.proj") ? imply_vit : imply_resnet)(t, vision, sizeof vision, e)) return false;
    if (!(projection = shape_of(t, "text_projection", 2, e)) || !(norm = shape_of(t, "ln_final.weight", 1, e)) ||
        !(position = shape_of(t, "positional_embedding", 2, e)) || !(token = shape_of(t, "token_embedding.weight", 2, e)))
        return false;
    snprintf(json, IMPLIED_ROOM,
             "{\"model_cfg\": {\"embed_dim\": %zu, \"quick_gelu\": %s, \"vision_cfg\": {%s}, \"text_cfg\": "
             "{\"context_length\": %zu, \"vocab_size\": %zu, \"width\": %zu, \"heads\": %zu, \"layers\": %zu}}}",
             projection[1], is_openai(t) ? "true" : "?", vision, position[0], token[0], norm[0],
             norm[0] / 64 ? norm[0] / 64 : 1, count_blocks(t, "transformer.resblocks.%.ln_1.weight"));
    return is_openai(t) ||
           err_set(e,
                   "%s: no config stands beside it, and weights do not say their activation. Put this beside it as "
                   "open_clip_config.json, with true for ? where they are OpenAI's (quick_gelu), false where they are "
                   "not: %s",
                   tensors_name(t), json);
}
