/* stored.h - scenes that were embedded once, for systems that learn from embeddings and not from pixels.
 *
 *     stored_plan plan = {.model = model, .source = drawn, .seed = 5, .count = 16000, .least = 1, .most = 4, .keep = cut_out, .arg = me};
 *     stored s;
 *     if (!stored_make(&s, &plan, cores, &e)) ...       // s.z [count,E] unit rows, s.told[i] what is in scene i
 *     stored_free(&s);
 *
 * Scene i is a pure function of (source, seed, i), so that a run that goes on makes the same ones again.
 */
#ifndef STORED_H
#define STORED_H
#include "clip.h"
#include "scenes/scenes.h"

typedef struct {
    size_t count;
    scene_object object[SCENE_MOST_OBJECTS]; /* without their masks */
} stored_scene;

typedef struct {
    const clip_model *model;
    const scene_source *source;
    uint64_t seed;
    size_t count, least, most;                              /* objects in a scene */
    void (*keep)(void *arg, size_t i, const scene *sc);     /* NULL; or sees every scene, on any core */
    void *arg;
} stored_plan;

typedef struct {
    size_t count, embed;
    real *z;            /* [count, E] unit */
    stored_scene *told; /* [count] */
} stored;

/* Pieces of a few scenes over the cores, each with so much memory of its own (bytes of address space); the first failure ends all. */
typedef bool stored_piece(void *arg, size_t first, size_t n, arena *memory, err *e);
bool stored_spread(pool *cores, size_t count, size_t room, stored_piece *piece, void *arg, err *e);
void stored_tell(stored_scene *t, const scene *sc);
bool stored_make(stored *s, const stored_plan *plan, pool *cores, err *e);
void stored_free(stored *s);
#endif
