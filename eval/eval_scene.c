/* eval_scene.c - all methods on one scene (see eval.h). */
#include "models/texts.h"
#include "masks/reading.h"
#include "eval/eval.h"
#include "scenes/grammar.h"
#include "maskinv.h"
#include "methods.h"
#include <math.h>
#include <string.h>

/* ---- an arena for each core ------------------------------------------------------------------------------ */
bool workers_make(workers *w, const pool *cores, arena *memory, err *e) {
    size_t width = cores ? cores->width : 1;
    w->count = width < MOST_WORKERS ? width : MOST_WORKERS;
    size_t each = arena_left(memory) / w->count / ARENA_ALIGN * ARENA_ALIGN;
    for (size_t i = 0; i < w->count; i++) {
        void *room = arena_alloc(memory, each, 1);
        if (!room) return err_set(e, "--memory: %zu bytes are too little for %zu workers", memory->size, w->count);
        arena_init(&w->memory[i], room, each);
        atomic_flag_clear(&w->taken[i]);
    }
    return true;
}

/* With more tasks at once than arenas, one waits here. */
size_t worker_take(workers *w) {
    for (size_t i = 0;; i = (i + 1) % w->count)
        if (!atomic_flag_test_and_set(&w->taken[i])) return i;
}

void worker_give(workers *w, size_t worker) { atomic_flag_clear(&w->taken[worker]); }

/* ---- texts ------------------------------------------------------------------------------------------- */
enum { TOGETHER = 16 }; /* texts in a task */
typedef struct {
    const eval_bench *b;
    workers workers;
    const char *const *texts, *const *templates;
    size_t count, template_count;
    real *out;
    atomic_int failed; /* a word: RISC-V has no exchange of one byte */
    err e; /* of the task that set failed */
} speech;

static void embed_group(void *arg, size_t i) {
    speech *s = arg;
    size_t first = i * TOGETHER, n = s->count - first < TOGETHER ? s->count - first : TOGETHER,
           worker = worker_take(&s->workers);
    err e = {0};
    bool ok = texts_embed(s->b->weights, s->texts + first, n, s->templates, s->template_count,
                          &s->workers.memory[worker], NULL, s->out + first * s->b->model->config.embed, &e);
    if (!ok && !atomic_exchange(&s->failed, true)) s->e = e;
    worker_give(&s->workers, worker);
}

/* Unit embeddings of texts, [count, E] in *out, which is allocated. */
static bool embed_texts(const eval_bench *b, const char *const *texts, size_t count, const char *const *templates,
                        size_t template_count, arena *memory, pool *cores, real **out, err *e) {
    size_t mark = arena_mark(memory);
    speech *s = mem_alloc(1, sizeof *s);
    *out = mem_alloc(count, b->model->config.embed * sizeof **out);
    bool ok = (s && *out) || err_set(e, "no memory for %zu texts", count);
    ok = ok && checkpoint_tokenizer(b->weights, e) && workers_make(&s->workers, cores, memory, e);
    if (ok) {
        s->b = b, s->texts = texts, s->count = count, s->templates = templates, s->template_count = template_count,
        s->out = *out;
        spread(cores, (count + TOGETHER - 1) / TOGETHER, embed_group, s);
        if (atomic_load(&s->failed)) *e = s->e, ok = false;
    }
    mem_free(s);
    arena_reset(memory, mark);
    return ok;
}

/* "a photo of a NAME", with the article that fits, or the templates. */
static bool embed_names(eval_bench *b, size_t kind, arena *memory, pool *cores, err *e) {
    const eval_head *h = b->head;
    size_t n = h->name_count[kind];
    char(*plain)[EVAL_NAME + 32] = mem_alloc(n, sizeof *plain);
    const char **texts = mem_alloc(n, sizeof *texts);
    bool ok = (plain && texts) || err_set(e, "no memory for %zu names", n);
    for (size_t i = 0; ok && i < n; i++) {
        const char *name = h->names[kind][i];
        snprintf(plain[i], sizeof plain[i], "a photo of %s %s", grammar_article(name, name), name);
        texts[i] = h->template_count ? name : plain[i];
    }
    ok = ok && embed_texts(b, texts, n, (const char *const *)h->templates, h->template_count, memory, cores,
                           &b->names[kind], e);
    mem_free(plain);
    mem_free(texts);
    return ok;
}

bool eval_bench_open(eval_bench *b, const eval_head *h, checkpoint *weights, arena *memory, pool *cores, err *e) {
    static const char *const empty[] = {""}, *const photo[] = {"a photo of {}"};
    memset(b, 0, sizeof *b);
    b->head = h, b->weights = weights, b->model = checkpoint_model(weights);
    for (size_t k = 0; k < EVAL_KINDS; k++)
        if (h->name_count[k] && !embed_names(b, k, memory, cores, e)) return false;
    return texts_usual(weights, memory, cores, &b->usual, e) &&
           embed_texts(b, empty, 1, h->template_count ? (const char *const *)h->templates : photo,
                       h->template_count ? h->template_count : 1, memory, cores, &b->empty, e);
}

void eval_bench_free(eval_bench *b) {
    for (size_t k = 0; k < EVAL_KINDS; k++) mem_free(b->names[k]);
    mem_free(b->empty), mem_free(b->usual);
}

/* ---- masks made worse ----------------------------------------------------------------------------------- */
/* Smallest (or largest) value within `radius` along lines of n pixels, `step` apart. */
static void window_line(const real *in, real *out, size_t n, size_t step, size_t radius, bool smallest) {
    for (size_t i = 0; i < n; i++) {
        size_t from = i > radius ? i - radius : 0, to = i + radius < n ? i + radius : n - 1;
        real v = in[from * step];
        for (size_t k = from + 1; k <= to; k++) {
            real other = in[k * step];
            if (smallest ? other < v : other > v) v = other;
        }
        out[i * step] = v;
    }
}

static void window_image(real *soft, real *scratch, size_t h, size_t w, size_t radius, bool smallest) {
    for (size_t y = 0; y < h; y++) window_line(soft + y * w, scratch + y * w, w, 1, radius, smallest);
    for (size_t x = 0; x < w; x++) window_line(scratch + x, soft + x, h, w, radius, smallest);
}

static void fill_box(mask_image *m) {
    double box[4];
    mask_box(m, box);
    for (size_t i = 0; i < m->width * m->height; i++) {
        double x = ((double)(i % m->width) + 0.5) / (double)m->width,
               y = ((double)(i / m->width) + 0.5) / (double)m->height;
        m->soft[i] = x > box[0] && x < box[2] && y > box[1] && y < box[3];
    }
}

static bool holds_something(const mask_image *m) {
    for (size_t i = 0; i < m->width * m->height; i++)
        if (m->soft[i] >= (real).5) return true;
    return false;
}

/* Where erosion would leave nothing, a smaller one is taken, at last none. */
bool mask_degrade(mask_image *m, mask_quality q, err *e) {
    size_t n = m->width * m->height, shorter = m->width < m->height ? m->width : m->height;
    size_t radius = (shorter + 16) / 32 ? (shorter + 16) / 32 : 1;
    if (q == QUALITY_EXACT) return true;
    if (q == QUALITY_BOX) return fill_box(m), true;
    real *room = mem_alloc(n, 2 * sizeof *room);
    if (!room) return err_set(e, "no memory for a mask of %zu pixels", n);
    real *kept = room + n;
    memcpy(kept, m->soft, n * sizeof *kept);
    window_image(m->soft, room, m->height, m->width, radius, q == QUALITY_ERODED);
    while (q == QUALITY_ERODED && radius > 0 && !holds_something(m)) {
        memcpy(m->soft, kept, n * sizeof *kept);
        if (--radius > 0) window_image(m->soft, room, m->height, m->width, radius, true);
    }
    mem_free(room);
    return true;
}

/* ---- a scene in memory --------------------------------------------------------------------------------------- */
typedef struct {
    const eval_bench *b;
    const scene_record *record;
    arena *memory;
    err *e;
    eval_result *r;
    size_t count, E;
    picture photo;
    mask_image exact[SCENE_MOST_OBJECTS], worse[SCENE_MOST_OBJECTS];
    mask_quality quality; /* of worse */
    real *phrases;       /* [phrases, E] unit */
    real *vectors;       /* [objects, E] */
    real *scores;        /* [most names] */
    explained x;          /* of x_side, x_layers and x_explainer */
    explainer other_room;
    explain_other other;
    bool open;
    size_t x_mark, x_side, x_layers;
    const char *x_explainer;
} work;

static bool fail_memory(work *w) {
    return err_set(w->e, "--memory: %zu bytes are too little for a scene", w->memory->size);
}

static bool read_mask(work *w, size_t k) {
    mask_image *m = &w->exact[k];
    if (!mask_read(w->record->object[k].mask, m, w->e)) return false;
    if (m->width == w->photo.width && m->height == w->photo.height) return true;
    real *fitted = mem_alloc(w->photo.width * w->photo.height, sizeof *fitted);
    if (!fitted) return err_set(w->e, "%s: no memory", w->record->object[k].mask);
    map_resize(m->soft, m->height, m->width, fitted, w->photo.height, w->photo.width);
    mask_free(m);
    *m = (mask_image){w->photo.width, w->photo.height, fitted};
    return true;
}

static bool name_index(work *w, size_t k) {
    const eval_head *h = w->b->head;
    for (uint32_t i = 0; i < h->name_count[w->r->kind]; i++)
        if (!strcmp(h->names[w->r->kind][i], w->record->object[k].name)) return w->r->name[k] = i, true;
    return err_set(w->e, "%s: '%s' is not among the names", w->record->image, w->record->object[k].name);
}

static bool read_scene(work *w) {
    const scene_record *s = w->record;
    eval_result *r = w->r;
    r->kind = s->kind, r->objects = w->count = s->objects, r->phrases = s->objects > 1 ? s->referring : 0;
    if (!picture_read(s->image, &w->photo, w->e)) return false;
    for (size_t k = 0; k < w->count; k++)
        if (!read_mask(w, k) || !name_index(w, k)) return false;
    for (size_t i = 0; i < r->phrases; i++) r->means[i] = (unsigned char)s->refers[i].object;
    size_t most = w->b->head->name_count[r->kind];
    w->vectors = arena_alloc(w->memory, w->count * w->E, sizeof *w->vectors);
    w->phrases = arena_alloc(w->memory, r->phrases * w->E, sizeof *w->phrases);
    w->scores = arena_alloc(w->memory, most > SCENE_MOST_OBJECTS ? most : SCENE_MOST_OBJECTS, sizeof *w->scores);
    return w->vectors && w->phrases && w->scores ? true : fail_memory(w);
}

/* Phrases stand as they are: templates are made for names. */
static bool embed_phrases(work *w) {
    const char *texts[SCENE_MOST_REFERRING];
    if (!w->r->phrases || !w->b->head->row_count) return true;
    for (size_t i = 0; i < w->r->phrases; i++) texts[i] = w->record->refers[i].phrase;
    return texts_embed(w->b->weights, texts, w->r->phrases, NULL, 0, w->memory, NULL, w->phrases, w->e);
}

/* The masks of this quality. */
static const mask_image *masks_of(work *w, mask_quality q) {
    if (q == QUALITY_EXACT) return w->exact;
    size_t n = w->photo.width * w->photo.height;
    if (w->quality == q) return w->worse;
    for (size_t k = 0; k < w->count; k++) {
        mask_image *m = &w->worse[k];
        if (!m->soft && !(m->soft = mem_alloc(n, sizeof *m->soft))) return err_set(w->e, "no memory for a mask"), NULL;
        m->width = w->photo.width, m->height = w->photo.height;
        memcpy(m->soft, w->exact[k].soft, n * sizeof *m->soft);
        if (!mask_degrade(m, q, w->e)) return NULL;
    }
    w->quality = q;
    return w->worse;
}

/* ---- vectors to ranks and choices ------------------------------------------------------------------------------ */
static void rank_names(work *w, const real *v, size_t k, eval_row_result *out) {
    size_t n = w->b->head->name_count[w->r->kind];
    for (size_t i = 0; i < n; i++) w->scores[i] = (real)dot(v, w->b->names[w->r->kind] + i * w->E, w->E);
    out->rank[k] = (uint32_t)rank_of(w->scores, n, w->r->name[k]);
    for (size_t t = 0; t < EVAL_TOP; t++) {
        size_t best = best_of(w->scores, n);
        out->top[k][t] = (uint32_t)best; /* n: there is none */
        if (best < n) w->scores[best] = NAN;
    }
}

/* vectors [objects, E] of one row. */
static void judge(work *w, real *vectors, eval_row_result *out) {
    for (size_t k = 0; k < w->count; k++) {
        if (!isfinite(unit(vectors + k * w->E, w->E))) out->failed[k] = true;
        if (out->failed[k])
            for (size_t i = 0; i < w->E; i++) vectors[k * w->E + i] = NAN;
        rank_names(w, vectors + k * w->E, k, out);
    }
    for (size_t p = 0; p < w->r->phrases; p++) {
        for (size_t k = 0; k < w->count; k++) w->scores[k] = (real)dot(vectors + k * w->E, w->phrases + p * w->E, w->E);
        size_t best = best_of(w->scores, w->count);
        out->chosen[p] = best < w->count ? (unsigned char)best : 255;
    }
}

/* ---- maskinv: one descent serves all rows that differ in their steps alone ------------------------------------------
 */
typedef struct {
    const eval_row *rows;
    size_t count, E, object, objects;
    const real *now; /* [E] the descent's embedding */
    real *kept;      /* [rows, objects, E] */
} snapshots;

static void keep_step(void *arg, size_t step) {
    snapshots *s = arg;
    for (size_t i = 0; i < s->count; i++)
        if (s->rows[i].iters == step + 1)
            memcpy(s->kept + (i * s->objects + s->object) * s->E, s->now, s->E * sizeof *s->now);
}

static bool same_descent(const eval_row *a, const eval_row *b) {
    return !strcmp(a->method, b->method) && !strcmp(a->explainer, b->explainer) && a->quality == b->quality &&
           a->side == b->side && a->layers == b->layers && !(fabs(a->lr - b->lr) > 0) &&
           !(fabs(a->alpha - b->alpha) > 0);
}

static void make_thumb(const real *map, size_t h, size_t w, unsigned char thumb[THUMB * THUMB]) {
    double cells[THUMB * THUMB];
    mask_image m = {w, h, (real *)(uintptr_t)map};
    mask_cells(&m, THUMB, THUMB, cells);
    for (size_t i = 0; i < THUMB * THUMB; i++) thumb[i] = (unsigned char)lrint(fmin(255, fmax(0, 255 * cells[i])));
}

static bool open_explained(work *w, const eval_row *row, size_t steps) {
    const clip_config *m = &w->b->model->config;
    fault f = {0};
    if (w->open && w->x_side == row->side && w->x_layers == row->layers && !strcmp(w->x_explainer, row->explainer))
        return true;
    if (w->open) arena_reset(w->memory, w->x_mark);
    w->x_mark = arena_mark(w->memory), w->x_side = row->side, w->x_layers = row->layers,
    w->x_explainer = row->explainer;
    explain_options o = {.layers = row->layers, .steps = steps, .usual = w->b->usual};
    o.other = method_other(&w->other_room, row->explainer, &w->other); /* NULL: LeGrad */
    real *pixels = pixels_squash(&w->photo, row->side, m->mean, m->std, w->e);
    if (!pixels) return false;
    w->open = explain_open(&w->x, w->b->model, pixels, row->side, row->side, &o, w->memory, NULL, &f);
    mem_free(pixels);
    return w->open ? true : err_fault(w->e, &f);
}

/* One object's descent; a map that is flat or not finite fails this object alone. */
static bool descend(work *w, const eval_row *row, size_t steps, const mask_image *mask, snapshots *s,
                    eval_row_result *out) {
    fault f = {0};
    size_t mark = arena_mark(w->memory), k = s->object;
    real *e = arena_alloc(w->memory, w->E, sizeof *e), *losses = arena_alloc(w->memory, steps, sizeof *losses);
    real *map = arena_alloc(w->memory, mask->width * mask->height, sizeof *map);
    if (!e || !losses || !map) return fail_memory(w);
    s->now = e;
    invert_options o = {
        .iters = steps, .lr = (real)row->lr, .alpha = (real)row->alpha, .progress = keep_step, .progress_arg = s};
    invert_result result = {.embedding = e, .losses = losses, .map_after = out->has_thumb ? map : NULL};
    bool ok = maskinv_invert(&w->x, mask->soft, mask->height, mask->width, &o, &result, &f);
    if (!ok && f.code != FAULT_FLAT && f.code != FAULT_NAN) return err_fault(w->e, &f);
    for (size_t i = 0; i < s->count; i++) {
        out[i].failed[k] = !ok;
        out[i].loss[k][0] = ok ? (double)losses[0] : 1;
        out[i].loss[k][1] = ok ? (double)losses[s->rows[i].iters - 1] : 1;
    }
    if (ok && out->has_thumb) make_thumb(map, mask->height, mask->width, out->thumb[k]);
    arena_reset(w->memory, mark);
    return true;
}

static bool run_descent(work *w, const eval_row *rows, size_t count, eval_row_result *out) {
    size_t steps = 0;
    const mask_image *masks = masks_of(w, rows->quality);
    for (size_t i = 0; i < count; i++) steps = rows[i].iters > steps ? rows[i].iters : steps;
    if (!masks || !open_explained(w, rows, steps * w->count)) return false;
    size_t mark = arena_mark(w->memory);
    snapshots s = {.rows = rows, .count = count, .E = w->E, .objects = w->count};
    s.kept = arena_alloc(w->memory, count * w->count * w->E, sizeof *s.kept);
    if (!s.kept) return fail_memory(w);
    for (s.object = 0; s.object < w->count; s.object++)
        if (!descend(w, rows, steps, &masks[s.object], &s, out)) return false;
    for (size_t i = 0; i < count; i++) judge(w, s.kept + i * w->count * w->E, &out[i]);
    arena_reset(w->memory, mark);
    return true;
}

/* ---- all rows
 * ---------------------------------------------------------------------------------------------------------- */
static bool run_row(work *w, const eval_row *row, eval_row_result *out) {
    const mask_image *masks = masks_of(w, row->quality);
    region_settings o = {.side = row->side, .blocks = row->blocks};
    if (!masks || !regions_embed(region_method_find(row->method), &o, w->b->model, &w->photo, masks, w->count,
                                 w->memory, NULL, w->vectors, w->e))
        return false;
    judge(w, w->vectors, out);
    return true;
}

static bool run_rows(work *w) {
    const eval_head *h = w->b->head;
    bool thumbs = true;
    for (size_t i = 0, n; i < h->row_count; i += n) {
        bool inverts = region_method_find(h->rows[i].method)->family == REGION_INVERT;
        for (n = 1; inverts && i + n < h->row_count && same_descent(&h->rows[i], &h->rows[i + n]);) n++;
        memset(&w->r->rows[i], 0, n * sizeof *w->r->rows);
        w->r->rows[i].has_thumb = inverts && thumbs;
        thumbs = thumbs && !inverts;
        if (inverts ? !run_descent(w, &h->rows[i], n, &w->r->rows[i]) : !run_row(w, &h->rows[i], &w->r->rows[i]))
            return false;
    }
    if (w->open) arena_reset(w->memory, w->x_mark);
    w->open = false;
    return true;
}

/* ---- maps
 * ---------------------------------------------------------------------------------------------------------------- */
typedef struct {
    explainer x;
    size_t cells, texts, classes;
    uint32_t class_of[SCENE_MOST_OBJECTS]; /* object -> its name among the scene's different ones */
    size_t first_of[SCENE_MOST_OBJECTS];   /* class -> the first object of that name */
    real *grids;                           /* [texts, cells] */
    real *map;                             /* [side, side] */
    real *fitted, *best;                  /* [pixels] */
    unsigned char *inside, *truth, *guess; /* [pixels]; truth, guess: class, 255: none */
    ranked_pixel *ranked;
} mapping;

static void scene_classes(const work *w, mapping *m) {
    for (size_t k = 0; k < w->count; k++) {
        size_t c = 0;
        while (c < m->classes && w->r->name[m->first_of[c]] != w->r->name[k]) c++;
        if (c == m->classes) m->first_of[m->classes++] = k;
        m->class_of[k] = (uint32_t)c;
    }
}

/* Grids of the scene's names. Surgery takes out what all names of the kind share, as its authors evaluate it. */
static bool make_grids(work *w, mapping *m) {
    bool all = m->x.how->together;
    const real *names = w->b->names[w->r->kind];
    fault f = {0};
    m->texts = all ? w->b->head->name_count[w->r->kind] : m->classes;
    m->grids = arena_alloc(w->memory, m->texts * m->cells, sizeof *m->grids);
    real *texts = arena_alloc(w->memory, m->texts * w->E, sizeof *texts);
    if (!m->grids || !texts) return fail_memory(w);
    for (size_t c = 0; c < m->texts; c++)
        memcpy(texts + c * w->E, names + (all ? c : w->r->name[m->first_of[c]]) * w->E, w->E * sizeof *texts);
    return method_grids(&m->x, texts, m->texts, w->b->empty, m->grids, &f) ? true : err_fault(w->e, &f);
}

static const real *grid_of(const work *w, const mapping *m, size_t c) {
    bool all = m->x.how->together;
    return m->grids + (all ? w->r->name[m->first_of[c]] : c) * m->cells;
}

/* One object's map against its mask. A flat map points nowhere. */
static bool judge_map(work *w, mapping *m, size_t k, eval_map_result *out) {
    size_t n = w->photo.width * w->photo.height, side = m->x.width;
    fault f = {0};
    bool flat = false;
    if (!method_map(&m->x, grid_of(w, m, m->class_of[k]), m->map, &f)) {
        if (f.code != FAULT_FLAT && f.code != FAULT_NAN) return err_fault(w->e, &f);
        flat = true;
        memset(m->map, 0, side * side * sizeof *m->map);
    }
    map_resize(m->map, side, side, m->fitted, w->photo.height, w->photo.width);
    for (size_t i = 0; i < n; i++) m->inside[i] = w->exact[k].soft[i] >= (real).5;
    out->hit[k] = !flat && points_inside(m->fitted, m->inside, n);
    out->ap[k] = average_precision(m->fitted, m->inside, n, m->ranked);
    iou_sweep(m->fitted, m->inside, n, out->iou[k]);
    if (out->has_thumb) make_thumb(m->fitted, w->photo.height, w->photo.width, out->thumb[k]);
    return true;
}

/* --argmax among the scene's names, on the pixels of its objects: the background has no name. */
static void judge_argmax(work *w, mapping *m, eval_map_result *out) {
    size_t n = w->photo.width * w->photo.height;
    memset(m->truth, 255, n);
    for (size_t k = 0; k < w->count; k++)
        for (size_t i = 0; i < n; i++)
            if (w->exact[k].soft[i] >= (real).5) m->truth[i] = (unsigned char)m->class_of[k];
    for (size_t c = 0; c < m->classes; c++) {
        map_resize(grid_of(w, m, c), m->x.gh, m->x.gw, m->fitted, w->photo.height, w->photo.width);
        for (size_t i = 0; i < n; i++)
            if (c == 0 || m->fitted[i] > m->best[i]) m->best[i] = m->fitted[i], m->guess[i] = (unsigned char)c;
    }
    for (size_t i = 0; i < n; i++) {
        if (m->truth[i] == 255) continue;
        size_t right = m->first_of[m->truth[i]], said = m->first_of[m->guess[i]];
        out->joint[right]++;
        if (right == said)
            out->shared[right]++;
        else
            out->joint[said]++;
    }
}

static bool mapping_room(work *w, mapping *m, size_t side) {
    size_t n = w->photo.width * w->photo.height;
    m->map = arena_alloc(w->memory, side * side, sizeof *m->map);
    m->fitted = arena_alloc(w->memory, n, sizeof *m->fitted);
    m->best = arena_alloc(w->memory, n, sizeof *m->best);
    m->inside = arena_alloc(w->memory, n, 3);
    m->ranked = arena_alloc(w->memory, n, sizeof *m->ranked);
    if (!m->map || !m->fitted || !m->best || !m->inside || !m->ranked) return fail_memory(w);
    m->truth = m->inside + n, m->guess = m->truth + n;
    return true;
}

enum { THUMB_MAPS = 3 }; /* explainers whose maps are kept for the report */
static bool run_map(work *w, const eval_row *row, eval_map_result *out) {
    const clip_config *config = &w->b->model->config;
    size_t mark = arena_mark(w->memory);
    mapping m = {0};
    fault f = {0};
    real *pixels = pixels_squash(&w->photo, row->side, config->mean, config->std, w->e);
    if (!pixels) return false;
    bool ok = method_open(&m.x, method_find(row->method), w->b->model, pixels, row->side, row->side,
                          &(method_options){.blocks = row->blocks, .usual = w->b->usual}, w->memory, NULL, &f);
    mem_free(pixels);
    if (!ok) return err_fault(w->e, &f);
    m.cells = m.x.gh * m.x.gw;
    scene_classes(w, &m);
    ok = make_grids(w, &m) && mapping_room(w, &m, row->side);
    for (size_t k = 0; ok && k < w->count; k++) ok = judge_map(w, &m, k, out);
    if (ok && m.classes > 1) judge_argmax(w, &m, out);
    arena_reset(w->memory, mark);
    return ok;
}

static bool run_maps(work *w) {
    const eval_head *h = w->b->head;
    for (size_t i = 0; i < h->map_count; i++) {
        memset(&w->r->maps[i], 0, sizeof *w->r->maps);
        w->r->maps[i].has_thumb = i < THUMB_MAPS;
        if (!run_map(w, &h->maps[i], &w->r->maps[i])) return false;
    }
    return true;
}

bool eval_scene(const eval_bench *b, const scene_record *s, arena *memory, eval_result *r, err *e) {
    work *w = mem_alloc(1, sizeof *w);
    size_t mark = arena_mark(memory);
    if (!w) return err_set(e, "no memory for a scene");
    w->b = b, w->record = s, w->memory = memory, w->e = e, w->r = r, w->E = b->model->config.embed;
    r->broken = false;
    bool ok = read_scene(w) && embed_phrases(w) && run_rows(w) && run_maps(w);
    for (size_t k = 0; k < SCENE_MOST_OBJECTS; k++) {
        mask_free(&w->exact[k]);
        mask_free(&w->worse[k]);
    }
    picture_free(&w->photo);
    mem_free(w);
    arena_reset(memory, mark);
    return ok;
}
