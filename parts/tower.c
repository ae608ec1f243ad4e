/* tower.c - a CLIP's image side as leaves (see tower.h). */
#include "parts/tower.h"
#include "models/names.h"

bool tower_fits(const clip_config *c) {
    return !clip_is_resnet(c) && !clip_has_pooler(c) && c->vision.layers > 0 && c->vision.layers <= TOWER_MOST_LAYERS;
}

typedef struct {
    clip_model *from; /* read alone: the list points into it */
    part_list *list;
    double rate;
    name_set names;
    /* the model's weight of this kind and layer */
    clip_kind kind;
    size_t layer;
    const clip_weight *found;
} walk;

static bool find(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    walk *v = arg;
    (void)rows, (void)cols;
    if (kind == v->kind && layer == v->layer) v->found = w;
    return true;
}

static bool list(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    walk *v = arg;
    if (clip_of_text(kind) || kind == W_LOGIT_SCALE || kind == W_LOGIT_BIAS) return true;
    *w = (clip_weight){.rows = rows, .cols = cols, .type = CLIP_REAL};
    weight_name n = names_find(&v->names, &v->from->config, NULL, kind, layer);
    part_add(v->list, &w->leaf, rows, cols, 0, 0, n.parts > 1 ? "%s.%c" : "%s", n.name, "qkv"[n.part % 3]);
    v->kind = kind, v->layer = layer, v->found = NULL;
    clip_each_weight(v->from, find, v);
    if (v->list->full) return true;
    part_weight *p = &v->list->list[v->list->count - 1];
    p->from = v->found, p->rate = kind == W_PATCH_ALPHA ? 1 : v->rate;
    return true;
}

/* (14.1)  The plane's kernel, which the model has not, begins as zeros. */
void tower_weights(tower *w, const clip_model *from, bool alpha, double rate, part_list *l) {
    walk v = {.from = (clip_model *)(uintptr_t)from, .list = l, .rate = rate, .names = names_open_clip(&from->config)};
    w->model = *from; /* the text side's weights with it */
    w->model.config.alpha = alpha;
    w->model.blocks = w->blocks;
    clip_each_weight(&w->model, list, &v);
}

ag_tensor *tower_tokens(ag_tape *t, const clip_model *m, ag_tensor *patches, size_t gh, size_t gw) {
    clip_run run = clip_image_run(t, m, gh, gw);
    return clip_blocks(t, &run, m->blocks, clip_embed(t, m, patches, gh, gw, POSITION_BICUBIC), 0, m->config.vision.layers);
}
