/* stored.c - scenes embedded once (see stored.h). */
#include "training/stored.h"
#include "training/feed.h"
#include <stdatomic.h>
#include <string.h>

enum { TOGETHER = 8 }; /* scenes that go through the network at once */
typedef struct {
    stored *s;
    const stored_plan *plan;
    size_t room;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err *e;
} making;

static bool one_scene(making *j, size_t i, real *patches, err *e) {
    const clip_config *c = &j->plan->model->config;
    scene sc;
    if (!scene_make(j->plan->source, j->plan->seed, i, c->image, j->plan->least, j->plan->most, &sc, e)) return false;
    stored_scene *t = &j->s->told[i];
    feed_patches(c, &sc.image, patches);
    if (j->plan->keep) j->plan->keep(j->plan->arg, i, &sc);
    t->count = sc.count;
    memcpy(t->object, sc.object, sizeof t->object);
    for (size_t k = 0; k < SCENE_MOST_OBJECTS; k++) t->object[k].mask = NULL;
    scene_free(&sc);
    return true;
}

/* Scenes first..first+n-1, embedded together, their rows of unit length. */
static bool some_scenes(making *j, size_t first, size_t n, arena *memory, err *e) {
    const clip_model *m = j->plan->model;
    size_t grid = m->config.image / m->config.patch, each = grid * grid * 3 * m->config.patch * m->config.patch, E = j->s->embed;
    ag_tape t;
    if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *patches = ag_new(&t, n, grid * grid, 3 * m->config.patch * m->config.patch);
    for (size_t i = 0; patches && i < n; i++)
        if (!one_scene(j, first + i, patches->data + i * each, e)) return false;
    ag_tensor *z = ag_normalize(&t, clip_image(&t, m, patches, grid, grid));
    if (!z) return err_fault(e, &t.fault);
    memcpy(j->s->z + first * E, z->data, n * E * sizeof(real));
    return true;
}

static void make_task(void *arg, size_t piece) {
    making *j = arg;
    size_t first = piece * TOGETHER, n = j->s->count - first < TOGETHER ? j->s->count - first : TOGETHER;
    err e = {{0}};
    arena memory;
    if (atomic_load(&j->failed)) return;
    void *room = mem_reserve(j->room);
    bool good = room || err_set(&e, "no memory for %zu pictures", n);
    if (good) arena_init(&memory, room, j->room);
    good = good && some_scenes(j, first, n, &memory, &e);
    if (room) mem_release(room, j->room);
    if (!good && !atomic_exchange(&j->failed, true)) *j->e = e;
}

bool stored_make(stored *s, const stored_plan *plan, pool *cores, err *e) {
    const clip_config *c = &plan->model->config;
    size_t n = (c->image / c->patch) * (c->image / c->patch) + 1;
    *s = (stored){.count = plan->count, .embed = c->embed};
    s->z = mem_alloc(s->count, s->embed * sizeof *s->z);
    s->told = mem_alloc(s->count, sizeof *s->told);
    if (!s->z || !s->told) return err_set(e, "no memory for %zu embedded scenes", s->count);
    size_t weights = 4 * (c->vision.width * (c->vision.width + c->vision.mlp) + c->vision.width * c->embed);
    size_t numbers = TOGETHER * n * (12 * c->vision.width + 3 * c->vision.mlp + 6 * c->patch * c->patch) + weights + n * n * 8;
    making j = {s, plan, 2 * numbers * sizeof(real) + ((size_t)8 << 20), false, e};
    spread(cores, (s->count + TOGETHER - 1) / TOGETHER, make_task, &j);
    return !atomic_load(&j.failed);
}

void stored_free(stored *s) {
    mem_free(s->z), mem_free(s->told);
    *s = (stored){0};
}
