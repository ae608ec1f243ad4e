/* explain.c - explanations of the library's face (see face.h): what cmd_explain.c does, on arrays. */
#include "face/room.h"
#include "methods.h"
#include "models/texts.h"
#include <math.h>
#include <string.h>

size_t mi_method_count(void) { return method_count(); }
const char *mi_method_name(size_t i) { return i < method_count() ? method_at(i)->name : NULL; }

typedef struct {
    call c;
    mi_model *m;
    const mi_explain_options *o;
    const method *how;
    size_t side, count;
    float *rows, *empty; /* [count,E], [E] unit; empty: of the empty text, for surgery of one */
} job;

static bool is_surgery(const job *j) { return !strcmp(j->how->name, "surgery"); }

static bool choose(job *j) {
    const char *name = j->o->method ? j->o->method : "legrad";
    if (!(j->how = method_find(name))) return err_set(j->c.e, "method: '%s' is none of the known", name);
    if (j->o->blocks && !j->how->free) return err_set(j->c.e, "blocks: %s leaves no choice of them", name);
    size_t depth = method_depth(j->how, &j->m->model->config);
    if (j->o->blocks > depth)
        return err_set(j->c.e, "blocks: %zu found, 1 to %zu allowed, the model's depth", j->o->blocks, depth);
    if (!j->count) return err_set(j->c.e, "texts or embeddings are needed, none found");
    if (!call_side(j->m, j->o->side, 2, &j->side, j->c.e)) return false;
    j->rows = mem_alloc(j->count + 1, j->m->model->config.embed * sizeof *j->rows);
    return j->rows || err_set(j->c.e, "no memory for %zu rows", j->count);
}

/* ---- texts, embeddings ---------------------------------------------------------------------------- */
/* Unit rows of the texts in their templates; the method's own where none are given. */
static bool embed(job *j, const char *const *texts, size_t count, float *out) {
    const char *const *templates = j->o->templates, **own = NULL;
    size_t template_count = j->o->template_count;
    if (!call_words(&j->c, j->m)) return false;
    if (j->how->templates && !template_count) {
        if (!templates_read("builtin", &own, &template_count, j->c.e)) return false;
        templates = own, template_count = j->how->templates;
    }
    bool ok = texts_embed(j->m->weights, texts, count, templates, template_count, &j->c.memory, j->c.cores, out, j->c.e);
    mem_free(own);
    return ok;
}

static bool embed_empty(job *j) {
    if (!is_surgery(j) || j->count != 1) return true;
    j->empty = j->rows + j->count * j->m->model->config.embed;
    return embed(j, (const char *const[]){""}, 1, j->empty) || err_prefix(j->c.e, "the empty text, for surgery of one");
}

static bool take_embeddings(job *j, const float *embeddings) {
    size_t n = j->m->model->config.embed;
    memcpy(j->rows, embeddings, j->count * n * sizeof *j->rows);
    for (size_t i = 0; i < j->count; i++) {
        float length = unit(j->rows + i * n, n);
        if (!(isfinite(length) && length > 0))
            return err_set(j->c.e, "embedding %zu is of length %g, a direction expected", i, (double)length);
    }
    return true;
}

/* ---- maps ------------------------------------------------------------------------------------------- */
static bool maps(job *j, const mi_image *image, float *out) {
    explainer *x = arena_alloc(&j->c.memory, 1, sizeof *x);
    float *pixels = x ? call_pixels(j->m, image, j->side, j->c.e) : NULL;
    fault f = {0};
    if (!pixels) return x ? false : err_set(j->c.e, "%zu bytes of memory are too little", j->c.bytes);
    memset(x, 0, sizeof *x);
    method_options with = {.blocks = j->o->blocks};
    if (!call_usual(&j->c, j->m, &with.usual)) return mem_free(pixels), false;
    bool ok = method_open(x, j->how, j->m->model, pixels, j->side, j->side, &with, &j->c.memory, j->c.cores, &f);
    size_t cells = x->gh * x->gw;
    real *grids = ok ? arena_alloc(&j->c.memory, j->count, cells * sizeof *grids) : NULL;
    if (ok && !grids) ok = fault_memory(&f, "grids", &j->c.memory, j->count * cells * sizeof *grids);
    ok = ok && method_grids(x, j->rows, j->count, j->empty, grids, &f);
    for (size_t i = 0; ok && i < j->count; i++) ok = method_map(x, grids + i * cells, out + i * j->side * j->side, &f);
    mem_free(pixels);
    return ok || (call_fault(&j->c, &f), err_prefix(j->c.e, "%s", j->how->name));
}

static bool explain(mi_model *m, const mi_image *image, const char *const *texts, const float *embeddings, size_t count,
                    const mi_explain_options *o, float *out) {
    static const mi_explain_options standard;
    job j = {.m = m, .o = o ? o : &standard, .count = count};
    bool ok = call_begin(&j.c, m) && choose(&j) &&
              (texts ? embed(&j, texts, count, j.rows) : take_embeddings(&j, embeddings)) && embed_empty(&j) &&
              maps(&j, image, out);
    call_end(&j.c, m);
    mem_free(j.rows);
    return ok;
}

bool mi_explain_texts(mi_model *m, const mi_image *image, const char *const *texts, size_t count,
                      const mi_explain_options *o, float *out) {
    return explain(m, image, texts, NULL, count, o, out);
}

bool mi_explain(mi_model *m, const mi_image *image, const float *embeddings, size_t count, const mi_explain_options *o,
                float *out) {
    return explain(m, image, NULL, embeddings, count, o, out);
}
