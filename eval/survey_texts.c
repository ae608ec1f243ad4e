/* survey_texts.c - a survey's texts to embeddings, spread over cores (see survey.h). */
#include "eval/survey.h"
#include "models/texts.h"
#include <stdatomic.h>
#include <string.h>

enum { TOGETHER = 4 }; /* texts that a core takes at once */
typedef struct {
    survey *s;
    const char *const *texts, *const *templates;
    size_t count, template_count, first; /* first: the part that task 0 is */
    real *out;
    workers workers;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err e;
} speech;

static void speak(void *arg, size_t i) {
    speech *t = arg;
    size_t first = (t->first + i) * TOGETHER, n = t->count - first < TOGETHER ? t->count - first : TOGETHER,
           worker = worker_take(&t->workers);
    err e = {0};
    bool ok = texts_embed(t->s->weights, t->texts + first, n, t->templates, t->template_count,
                          &t->workers.memory[worker], NULL, t->out + first * t->s->model->config.embed, &e);
    if (!ok && !atomic_exchange(&t->failed, true)) t->e = e;
    worker_give(&t->workers, worker);
}

bool survey_embed(survey *s, const char *const *texts, size_t count, const char *const *templates,
                  size_t template_count, arena *memory, pool *cores, real **out, err *e) {
    size_t mark = arena_mark(memory);
    speech *t = mem_alloc(1, sizeof *t);
    *out = mem_alloc(count, s->model->config.embed * sizeof **out);
    bool ok = (t && *out) || err_set(e, "no memory for %zu texts", count);
    ok = ok && checkpoint_tokenizer(s->weights, e) && workers_make(&t->workers, cores, memory, e);
    if (ok) {
        t->s = s, t->texts = texts, t->count = count, t->templates = templates, t->template_count = template_count,
        t->out = *out;
        size_t parts = (count + TOGETHER - 1) / TOGETHER, width = cores ? cores->width : 1;
        for (; t->first < parts && !atomic_load(&t->failed); t->first += width) {
            if (s->watch.progress) s->watch.progress(s->watch.arg, "texts", t->first * TOGETHER, count);
            spread(cores, parts - t->first < width ? parts - t->first : width, speak, t);
        }
        if (atomic_load(&t->failed)) *e = t->e, ok = false;
    }
    mem_free(t);
    arena_reset(memory, mark);
    return ok;
}
