/* stored.c - scenes embedded once (see stored.h). */
#include "training/stored.h"
#include "training/feed.h"
#include <stdatomic.h>
#include <string.h>

/* ---- pieces ------------------------------------------------------------------------------------------------ */
enum { TOGETHER = 8 }; /* scenes that go through the network at once */
typedef struct {
    stored_piece *piece;
    void *arg;
    size_t count, room;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err *e;
} pieces;

static void piece_task(void *arg, size_t i) {
    pieces *p = arg;
    size_t first = i * TOGETHER, n = at_most(TOGETHER, p->count - first);
    err e = {{0}};
    arena memory;
    if (atomic_load(&p->failed)) return;
    void *room = mem_reserve(p->room);
    bool good = room || err_set(&e, "no memory for %zu pictures", n);
    if (good) arena_init(&memory, room, p->room);
    good = good && p->piece(p->arg, first, n, &memory, &e);
    if (room) mem_release(room, p->room);
    if (!good && !atomic_exchange(&p->failed, true)) *p->e = e;
}

bool stored_spread(pool *cores, size_t count, size_t room, stored_piece *piece, void *arg, err *e) {
    pieces p = {piece, arg, count, room, false, e};
    spread(cores, (count + TOGETHER - 1) / TOGETHER, piece_task, &p);
    return !atomic_load(&p.failed);
}

void stored_tell(stored_scene *t, const scene *sc) {
    t->count = sc->count;
    memcpy(t->object, sc->object, sizeof t->object);
    for (size_t k = 0; k < SCENE_MOST_OBJECTS; k++) t->object[k].mask = NULL; /* they go with the scene */
}

/* ---- scenes embedded ----------------------------------------------------------------------------------------- */
typedef struct {
    stored *s;
    const stored_plan *plan;
} making;

static bool one_scene(const making *j, size_t i, real *patches, err *e) {
    const clip_config *c = &j->plan->model->config;
    scene sc;
    if (!scene_make(j->plan->source, j->plan->seed, i, c->image, j->plan->least, j->plan->most, &sc, e)) return false;
    feed_patches(c, &sc.image, patches);
    if (j->plan->keep) j->plan->keep(j->plan->arg, i, &sc);
    stored_tell(&j->s->told[i], &sc);
    scene_free(&sc);
    return true;
}

/* Scenes first..first+n-1, embedded together, their rows of unit length. */
static bool some_scenes(void *arg, size_t first, size_t n, arena *memory, err *e) {
    const making *j = arg;
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

bool stored_make(stored *s, const stored_plan *plan, pool *cores, err *e) {
    const clip_config *c = &plan->model->config;
    size_t n = (c->image / c->patch) * (c->image / c->patch) + 1;
    *s = (stored){.count = plan->count, .embed = c->embed};
    s->z = mem_alloc(s->count, s->embed * sizeof *s->z);
    s->told = mem_alloc(s->count, sizeof *s->told);
    if (!s->z || !s->told) return err_set(e, "no memory for %zu embedded scenes", s->count);
    size_t weights = 4 * (c->vision.width * (c->vision.width + c->vision.mlp) + c->vision.width * c->embed);
    size_t numbers = TOGETHER * n * (12 * c->vision.width + 3 * c->vision.mlp + 6 * c->patch * c->patch) + weights + n * n * 8;
    return stored_spread(cores, s->count, 2 * numbers * sizeof(real) + ((size_t)8 << 20), some_scenes, &(making){s, plan}, e);
}

void stored_free(stored *s) {
    mem_free(s->z), mem_free(s->told);
    *s = (stored){0};
}
