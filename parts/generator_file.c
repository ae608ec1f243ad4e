/* generator_file.c - a generator from its file, and the picture for an embedding (see generator.h). */
#include "models/model.h"
#include "parts/generator.h"
#include "sys/random.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct generator {
    generator_net net;
    linear_space space;
    part_home home;
    size_t side, held_count;
    char *held;
    char name[1024];
};

void generator_free(generator *g) {
    if (!g) return;
    part_leave(&g->home);
    mem_free(g->held), mem_free(g);
}

const char *generator_name(const generator *g) { return g->name; }
size_t generator_side(const generator *g) { return g->side; }

bool generator_held(const generator *g, const char *colour, const char *name) {
    const char *at = g->held;
    for (size_t i = 0; i < g->held_count; i++, at += strlen(at) + 1) {
        size_t n = strlen(colour);
        if (!strncmp(at, colour, n) && at[n] == ' ' && !strcmp(at + n + 1, name)) return true;
    }
    return false;
}

/* ---- opening: sizes are what the tensors tell ------------------------------------------------------------------ */
static bool read_sizes(generator *g, size_t embed, err *e) {
    generator_net *n = &g->net;
    size_t rows, cols;
    char name[64];
    if (!space_shape(&g->space, g->home.file, e)) return false;
    if (!part_shape(g->home.file, "condition.weight", &n->width, &n->embed) ||
        !part_shape(g->home.file, "time.0.weight", &rows, &n->frequencies))
        return err_set(e, "%s: \"condition.weight\" or \"time.0.weight\" is missing: it is no generator", g->name);
    n->frequencies /= 2, n->coefficients = g->space.count;
    do snprintf(name, sizeof name, "blocks.%zu.0.weight", n->blocks);
    while (part_shape(g->home.file, name, &rows, &cols) && ++n->blocks < GENERATOR_MOST_BLOCKS);
    if (n->embed != embed)
        return err_set(e, "%s: it was trained for embeddings of %zu numbers, the model's have %zu", g->name, n->embed, embed);
    while (g->side < 1024 && 3 * g->side * g->side < g->space.numbers) g->side++;
    if (3 * g->side * g->side != g->space.numbers)
        return err_set(e, "%s: pictures of %zu numbers, 3 times a square expected", g->name, g->space.numbers);
    return true;
}

generator *generator_of(tensors *file, const char *name, size_t embed, err *e) {
    generator *g = file ? mem_alloc(1, sizeof *g) : NULL;
    part_list l = {0};
    if (!g) return tensors_free(file), file ? (void)err_set(e, "%s: no memory", name) : (void)0, NULL;
    g->home.file = file;
    snprintf(g->name, sizeof g->name, "%s", name);
    bool good = read_sizes(g, embed, e) && (g->held = part_words(file, "held", &g->held_count, e)) != NULL;
    if (good) generator_weights(&g->net, &l), space_weights(&g->space, &l);
    good = good && part_listed(&l, e) && part_move_in(&g->home, &l, e);
    part_list_free(&l);
    if (good) return g;
    generator_free(g);
    return NULL;
}

generator *generator_open(const char *path, size_t embed, err *e) {
    return generator_of(tensors_open(path, e), path, embed, e);
}

generator *generator_builtin(size_t embed, err *e) {
    size_t length;
    const unsigned char *bytes = builtin_generator(&length);
    if (!bytes) return (void)err_set(e, "this program was built without a generator; --generator FILE"), NULL;
    return generator_of(tensors_parse(bytes, length, "the built-in generator", e), "the built-in generator", embed, e);
}

/* ---- drawing ------------------------------------------------------------------------------------------------------- */
bool generator_draw(const generator *g, const real *embedding, const generator_way *how, arena *memory, pool *cores,
                    unsigned char *rgb, err *e) {
    const generator_net *n = &g->net;
    size_t E = n->embed, mark = arena_mark(memory);
    ag_tape t;
    if (!ag_tape_init(&t, memory, cores, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *z = ag_new(&t, 1, 1, E), *x0 = ag_new(&t, 1, 1, n->coefficients);
    for (size_t i = 0; z && i < E; i++) z->data[i] = (real)embedding[i];
    for (size_t i = 0; x0 && i < n->coefficients; i++) x0->data[i] = (real)mix_normal(mix64(how->seed, 0x494D41), i);
    z = ag_scale(&t, ag_normalize(&t, z), (real)sqrt((double)E), 0); /* components of about 1, as in training */
    ag_tensor *x = space_out_of(&t, &g->space, generator_sample(&t, n, x0, z, how));
    for (size_t i = 0; x && i < g->space.numbers; i++)
        rgb[i] = (unsigned char)floor(fmin(fmax(((double)x->data[i] + 1) * 127.5, 0), 255) + 0.5);
    arena_reset(memory, mark);
    return x ? true : err_fault(e, &t.fault);
}
