/* pictures.c - pictures in batches (see pictures.h). While BATCH of them go through the tower, a thread reads the next. */
#include "cli/pictures.h"
#include <string.h>
#include "os/os.h"

enum { BATCH = 8 };

/* ---- reading ----------------------------------------------------------------------------------------------------------- */
typedef struct {
    const picture_job *job;
    const embed_list *list;
    const clip_config *config;
    size_t at[BATCH], count; /* names' numbers */
    real *pixels[BATCH];    /* [3,side,side]; NULL: see e */
    err e[BATCH];
    os_thread thread;
    bool running;
} shelf;

static real *read_one(const shelf *s, const char *path, err *e) {
    picture p;
    if (!picture_read(path, &p, e)) return NULL;
    real *pixels = s->job->squash ? pixels_squash(&p, s->job->side, s->config->mean, s->config->std, e)
                                   : pixels_own(&p, s->job->side, s->config, e);
    picture_free(&p);
    return pixels;
}

static void read_shelf(void *arg) {
    shelf *s = arg;
    for (size_t i = 0; i < s->count; i++) {
        s->e[i].text[0] = 0;
        s->pixels[i] = read_one(s, s->list->names[s->at[i]], &s->e[i]);
    }
}

/* The names from *next on that are open yet, at most `most`, are being read. */
static void fill_shelf(shelf *s, const embedded *out, size_t most, size_t *next) {
    for (s->count = 0; *next < s->list->count && s->count < most; ++*next)
        if (out->state[*next] == EMBED_OPEN) s->at[s->count++] = *next;
    s->running = s->count && os_thread_start(&s->thread, read_shelf, s);
    if (!s->running) read_shelf(s);
}

static void wait_shelf(shelf *s) {
    if (s->running) os_thread_join(&s->thread);
    s->running = false;
}

static void empty_shelf(shelf *s) {
    for (size_t i = 0; i < s->count; i++) mem_free(s->pixels[i]), s->pixels[i] = NULL;
    s->count = 0;
}

/* ---- embedding --------------------------------------------------------------------------------------------------------- */
/* Pictures [count] of [3,side,side] through the tower together: the embeddings, on the tape. */
static ag_tensor *through_tower(ag_tape *t, const clip_model *m, real *const *pixels, size_t count, size_t side) {
    size_t gh, gw, planes = m->config.alpha ? 4 : 3, p = m->config.patch;
    if (count == 1 || !clip_grid(&m->config, side, side, &gh, &gw))
        return clip_image(t, m, clip_patches(t, m, pixels[0], side, side), side / p, side / p);
    ag_tensor *all = ag_new(t, count, gh * gw, planes * p * p);
    for (size_t i = 0; all && i < count; i++) {
        ag_mark mark = ag_tape_mark(t);
        ag_tensor *one = clip_patches(t, m, pixels[i], side, side);
        if (!one) return NULL;
        memcpy(all->data + i * ag_size(one), one->data, ag_size(one) * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return clip_image(t, m, all, gh, gw);
}

/* Where memory ends, fewer at a time: the bytes stay the same. */
static bool embed_together(cli *c, real *const *pixels, size_t count, size_t side, real *rows) {
    size_t mark = arena_mark(&c->memory), E = c->model->config.embed, half = count / 2;
    ag_tape t;
    ag_tensor *z = NULL;
    memset(&t, 0, sizeof t);
    if (ag_tape_init(&t, &c->memory, c->cores, 64)) {
        t.recording = false;
        t.alike = true;
        z = through_tower(&t, c->model, pixels, count, side);
    }
    if (z) memcpy(rows, z->data, count * E * sizeof *rows);
    arena_reset(&c->memory, mark);
    if (z) return true;
    if (t.fault.code != FAULT_MEMORY || !half) return cli_fault(c, &t.fault);
    return embed_together(c, pixels, half, side, rows) &&
           embed_together(c, pixels + half, count - half, side, rows + half * E);
}

static bool leave_out(cli *c, const picture_job *job, embedded *out, size_t at, const char *why) {
    if (!job->keep_going) return err_set(&c->e, "%s", why);
    cli_warn(c, "left out: %s", why);
    return embedded_put(out, at, EMBED_LEFT_OUT, &c->e);
}

static bool embed_shelf(cli *c, const picture_job *job, shelf *s, embedded *out, real *rows) {
    real *good[BATCH];
    size_t at[BATCH], count = 0, E = c->model->config.embed;
    for (size_t i = 0; i < s->count; i++) {
        if (s->pixels[i]) good[count] = s->pixels[i], at[count++] = s->at[i];
        else if (!leave_out(c, job, out, s->at[i], s->e[i].text)) return false;
    }
    if (count && !embed_together(c, good, count, job->side, rows)) return false;
    for (size_t i = 0; i < count; i++) {
        char why[1024];
        bool finite = k_finite(rows + i * E, E);
        snprintf(why, sizeof why, "%.900s: its embedding is not finite", out->list->names[at[i]]);
        if (!finite && !leave_out(c, job, out, at[i], why)) return false;
        if (!finite) continue;
        memcpy(out->rows + at[i] * E, rows + i * E, E * sizeof *rows);
        if (!embedded_put(out, at[i], EMBED_GOOD, &c->e)) return false;
    }
    return true;
}

bool embed_pictures(cli *c, const picture_job *job, embedded *out) {
    const clip_config *config = &c->model->config;
    shelf *pair = mem_alloc(2, sizeof *pair);
    real *rows = mem_alloc(BATCH, config->embed * sizeof *rows);
    /* convolutions, and the product with an alpha plane beside the patches, take one picture at a time */
    size_t most = clip_is_resnet(config) || config->alpha ? 1 : BATCH, next = 0;
    bool ok = pair && rows ? true : err_set(&c->e, "no memory for pictures");
    for (int i = 0; ok && i < 2; i++) pair[i].job = job, pair[i].list = out->list, pair[i].config = config;
    if (ok) fill_shelf(&pair[0], out, most, &next);
    for (size_t turn = 0; ok && pair[turn % 2].count; turn++) {
        shelf *s = &pair[turn % 2];
        wait_shelf(s);
        fill_shelf(&pair[(turn + 1) % 2], out, most, &next);
        cli_progress(c, "embedding", s->at[0], out->list->count);
        ok = embed_shelf(c, job, s, out, rows);
        empty_shelf(s);
    }
    for (int i = 0; pair && i < 2; i++) wait_shelf(&pair[i]), empty_shelf(&pair[i]);
    mem_free(pair);
    mem_free(rows);
    return ok;
}
