/* feed.c - scenes made into batches (see feed.h). */
#include "training/feed.h"
#include "training/loop.h"
#include "files/files.h"
#include "scenes/grammar.h"
#include "sys/random.h"
#include <stdio.h>
#include <string.h>

enum { KINDS = 2, CAPTION = sizeof(((scene *)0)->caption) };

/* What is to be remembered of a scene once its pixels are patches. */
typedef struct {
    size_t count;
    scene_object object[SCENE_MOST_OBJECTS]; /* without their masks */
} told;

struct feed {
    feed_plan plan;
    pool *cores;
    scene_source *source[KINDS];
    tokenizer *words;
    size_t numbers; /* of one picture's patches */
    /* the batch */
    real *patches, *truth; /* [pairs, numbers], [pairs, captions] */
    size_t captions;      /* pairs (1 + more); picture i's are i, i + pairs, i + 2 pairs, ... */
    uint32_t *ids, *wide; /* [captions, context]; wide: before they are cut to the longest */
    char (*caption)[CAPTION];
    scene_claim *claim; /* [captions] */
    told *told;         /* [pairs] */
    /* what the tasks are asked */
    uint64_t first, seed;
    double single;
    err *errors; /* one a picture */
};

/* ---- one picture --------------------------------------------------------------------------------- */

/* uint8 [side,side,3] to normalised patches [grid*grid, 3*p*p], each channel by channel as clip_patches has them. */
void feed_patches(const clip_config *c, const picture *p, real *out) {
    size_t side = c->image, patch = c->patch, grid = side / patch;
    for (size_t k = 0; k < 3; k++) {
        real scale = 1 / (255 * c->std[k]), shift = -c->mean[k] / c->std[k];
        for (size_t y = 0; y < side; y++)
            for (size_t x = 0; x < side; x++) {
                size_t cell = y / patch * grid + x / patch, at = (k * patch + y % patch) * patch + x % patch;
                out[cell * 3 * patch * patch + at] = scale * (real)p->rgb[(y * side + x) * 3 + k] + shift;
            }
    }
}

/* The kind and number of objects of the n-th picture, by chance that depends on the seed and n alone. */
static bool make_scene(const feed *f, uint64_t n, size_t side, scene *out, err *e) {
    const feed_plan *p = &f->plan;
    uint64_t key = mix64(f->seed, 1);
    scene_kind kind = mix_unit(key, 2 * n) < p->photographic ? SCENE_PHOTOGRAPHIC : SCENE_DRAWN;
    size_t low = p->least, high = p->most;
    if (low == 1 && high > 1) {
        if (mix_unit(key, 2 * n + 1) < f->single)
            high = 1;
        else
            low = 2;
    }
    return scene_make(f->source[kind], mix64(f->seed, 2), n, side, low, high, out, e);
}

/* Further captions, each naming one object: all in turn, from one that chance picks. */
static void tell_more(feed *f, size_t i, const scene *sc) {
    rng r = rng_start(mix64(f->seed, 3), f->first + i);
    size_t from = rng_below(&r, sc->count);
    for (size_t k = 0; k < f->plan.more; k++) {
        size_t at = i + (k + 1) * f->plan.pairs;
        grammar_one(sc, (from + k) % sc->count, &r, f->caption[at], CAPTION, &f->claim[at]);
    }
}

static void picture_task(void *arg, size_t i) {
    feed *f = arg;
    scene sc;
    if (!make_scene(f, f->first + i, f->plan.config.image, &sc, &f->errors[i])) return;
    f->errors[i].text[0] = 0;
    feed_patches(&f->plan.config, &sc.image, f->patches + i * f->numbers);
    memcpy(f->caption[i], sc.caption, CAPTION);
    f->claim[i] = sc.claim, f->told[i].count = sc.count;
    tell_more(f, i, &sc);
    memcpy(f->told[i].object, sc.object, sizeof sc.object);
    for (size_t k = 0; k < SCENE_MOST_OBJECTS; k++) f->told[i].object[k].mask = NULL;
    scene_free(&sc);
}

static bool run_tasks(feed *f, pool_task *task, void *arg, size_t count, err *e) {
    for (size_t i = 0; i < count; i++) snprintf(f->errors[i].text, sizeof f->errors[i].text, "not made");
    spread(f->cores, count, task, arg);
    for (size_t i = 0; i < count; i++)
        if (f->errors[i].text[0]) return err_set(e, "%s", f->errors[i].text);
    return true;
}

/* ---- opening -------------------------------------------------------------------------------------- */

feed *feed_open(const feed_plan *plan, pool *cores, err *e) {
    feed *f = mem_alloc(1, sizeof *f);
    size_t n = plan->pairs, grid = plan->config.image / plan->config.patch, p = plan->config.patch;
    if (!f) return (void)err_set(e, "no memory for the feed"), NULL;
    size_t m = n * (1 + plan->more);
    *f = (feed){.plan = *plan, .cores = cores, .numbers = grid * grid * 3 * p * p, .captions = m, .seed = plan->seed};
    f->patches = mem_alloc(n, f->numbers * sizeof *f->patches);
    f->truth = mem_alloc(n, m * sizeof *f->truth);
    f->ids = mem_alloc(m, plan->config.context * sizeof *f->ids);
    f->wide = mem_alloc(m, plan->config.context * sizeof *f->wide);
    f->claim = mem_alloc(m, sizeof *f->claim);
    f->told = mem_alloc(n, sizeof *f->told);
    f->caption = mem_alloc(m, sizeof *f->caption);
    f->errors = mem_alloc(n, sizeof *f->errors);
    bool good = f->patches && f->truth && f->ids && f->wide && f->claim && f->told && f->caption && f->errors;
    if (!good) err_set(e, "no memory for a batch of %zu pictures", n);
    if (good && plan->photographic < 1) good = (f->source[0] = scene_source_open(SCENE_DRAWN, NULL, e)) != NULL;
    if (good && plan->photographic > 0)
        good = (f->source[1] = scene_source_open(SCENE_PHOTOGRAPHIC, plan->stamps, e)) != NULL;
    if (good) return f;
    feed_free(f);
    return NULL;
}

void feed_free(feed *f) {
    if (!f) return;
    for (size_t i = 0; i < KINDS; i++)
        if (f->source[i]) scene_source_free(f->source[i]);
    if (f->words) tokenizer_free(f->words);
    mem_free(f->patches), mem_free(f->truth), mem_free(f->ids), mem_free(f->wide);
    mem_free(f->claim), mem_free(f->told), mem_free(f->caption), mem_free(f->errors), mem_free(f);
}

bool feed_has(const feed *f, scene_kind kind) { return f->source[kind] != NULL; }

/* ---- words ------------------------------------------------------------------------------------------ */

static void prompt(char *out, size_t size, const char *name) {
    snprintf(out, size, "a photo of %s %s", name[0] && strchr("aeiouAEIOU", name[0]) ? "an" : "a", name);
}

/* Captions are learned from small pictures: their words are what counts. */
enum { LEARN_SIDE = 32, LEARN_PIECE = 100 };
typedef struct {
    feed *f;
    char (*text)[CAPTION];
    size_t count;
} learn_job;

static void learn_task(void *arg, size_t piece) {
    learn_job *j = arg;
    err e = {{0}};
    for (size_t i = piece * LEARN_PIECE; i < (piece + 1) * LEARN_PIECE && i < j->count; i++) {
        scene sc;
        if (!make_scene(j->f, i, LEARN_SIDE, &sc, &e)) return;
        memcpy(j->text[i], sc.caption, CAPTION);
        scene_free(&sc);
    }
}

bool feed_learn(feed *f, size_t n, size_t merges, const char *path, err *e) {
    size_t names = 0, length = 0;
    for (size_t k = 0; k < KINDS; k++) names += f->source[k] ? scene_names(f->source[k]) : 0;
    learn_job j = {f, mem_alloc(n + names, sizeof *j.text), n};
    const char **texts = mem_alloc(n + names, sizeof *texts);
    if (!j.text || !texts) {
        mem_free(j.text), mem_free(texts);
        return err_set(e, "no memory for %zu captions", n);
    }
    f->single = f->plan.single.to;
    spread(f->cores, (n + LEARN_PIECE - 1) / LEARN_PIECE, learn_task, &j);
    for (size_t k = 0, at = n; k < KINDS; k++)
        for (size_t i = 0; f->source[k] && i < scene_names(f->source[k]); i++)
            prompt(j.text[at++], CAPTION, scene_name(f->source[k], i));
    for (size_t i = 0; i < n + names; i++) texts[i] = j.text[i];
    char *file = tokenizer_train(texts, n + names, merges, &length, e);
    bool good = file && (!path || file_write(path, file, length, e));
    if (good) good = (f->words = tokenizer_parse(file, length, path ? path : "merges", 0, e)) != NULL;
    mem_free(file), mem_free(texts), mem_free(j.text);
    return good;
}

bool feed_tokens(feed *f, const char *path, err *e) {
    f->words = tokenizer_open(path, 0, e);
    return f->words != NULL;
}

size_t feed_vocab(const feed *f) { return tokenizer_vocab(f->words); }

/* ids [count, context] of texts, zero-padded; *longest of them. */
static bool encode(const feed *f, const char (*text)[CAPTION], size_t count, uint32_t *ids, size_t *longest, err *e) {
    size_t context = f->plan.config.context;
    memset(ids, 0, count * context * sizeof *ids);
    *longest = 0;
    for (size_t i = 0; i < count; i++) {
        size_t n;
        if (!tokenizer_encode(f->words, text[i], ids + i * context, context, &n, e)) return false;
        if (n > *longest) *longest = n;
    }
    return true;
}

/* Rows [count, from] cut to [count, to]; out may be in. */
static void narrow(const uint32_t *in, size_t count, size_t from, size_t to, uint32_t *out) {
    for (size_t i = 0; i < count; i++) memmove(out + i * to, in + i * from, to * sizeof *out);
}

/* ---- batches ---------------------------------------------------------------------------------------- */

/* truth_ij: caption j is one of picture i's own, or says the same as its first, or claims nothing that picture i has not. */
static void truth_task(void *arg, size_t i) {
    feed *f = arg;
    size_t n = f->plan.pairs;
    const told *b = &f->told[i];
    for (size_t j = 0; j < f->captions; j++)
        f->truth[i * f->captions + j] = j % n == i || strcmp(f->caption[i], f->caption[j]) == 0 ||
                                        grammar_true(&f->claim[j], f->told[j % n].object, b->object, b->count);
}

bool feed_batch(feed *f, uint64_t first, double progress, contrastive_batch *out, err *e) {
    const feed_plan *p = &f->plan;
    double way = p->single.over > 0 && progress < p->single.over ? progress / p->single.over : 1;
    size_t n = p->pairs, longest;
    f->first = first, f->seed = p->seed;
    f->single = p->single.from + (p->single.to - p->single.from) * way;
    if (!run_tasks(f, picture_task, f, n, e)) return false;
    if (!encode(f, (const char(*)[CAPTION])f->caption, f->captions, f->wide, &longest, e)) return false;
    narrow(f->wide, f->captions, p->config.context, longest, f->ids);
    spread(f->cores, n, truth_task, f);
    *out = (contrastive_batch){f->patches, f->ids, f->truth, n, f->captions, longest};
    return true;
}

/* ---- held-out pictures -------------------------------------------------------------------------------- */

typedef struct {
    const feed *f;
    held_out *h;
    err *e;
} held_job;

static void held_task(void *arg, size_t i) {
    held_job *j = arg;
    const feed *f = j->f;
    const scene_source *s = f->source[j->h->kind];
    scene sc;
    if (!scene_make(s, HELD_OUT, i, f->plan.config.image, 1, 1, &sc, &j->e[i])) return;
    j->e[i].text[0] = 0;
    feed_patches(&f->plan.config, &sc.image, j->h->patches + i * f->numbers);
    for (size_t k = 0; k < j->h->names; k++)
        if (strcmp(scene_name(s, k), sc.object[0].name) == 0) j->h->right[i] = (uint32_t)k;
    scene_free(&sc);
}

static bool held_pictures(feed *f, held_out *h, err *e) {
    err *errors = mem_alloc(h->count, sizeof *errors);
    if (!errors) return err_set(e, "no memory for %zu held-out pictures", h->count);
    for (size_t i = 0; i < h->count; i++) h->right[i] = UINT32_MAX;
    held_job j = {f, h, errors};
    spread(f->cores, h->count, held_task, &j);
    bool good = true;
    for (size_t i = 0; good && i < h->count; i++)
        if (errors[i].text[0]) good = err_set(e, "%s", errors[i].text);
    mem_free(errors);
    return good;
}

bool feed_held_out(feed *f, scene_kind kind, size_t count, held_out *h, err *e) {
    size_t names = scene_names(f->source[kind]);
    char(*text)[CAPTION] = mem_alloc(names, sizeof *text);
    *h = (held_out){.kind = kind, .count = count, .names = names};
    h->patches = mem_alloc(count * f->numbers, sizeof *h->patches);
    h->ids = mem_alloc(names * f->plan.config.context, sizeof *h->ids);
    h->right = mem_alloc(count, sizeof *h->right);
    bool good = text && h->patches && h->ids && h->right;
    if (!good) err_set(e, "no memory for %zu held-out pictures", count);
    for (size_t i = 0; good && i < names; i++) prompt(text[i], CAPTION, scene_name(f->source[kind], i));
    good = good && encode(f, (const char(*)[CAPTION])text, names, h->ids, &h->length, e);
    if (good) narrow(h->ids, names, f->plan.config.context, h->length, h->ids);
    good = good && held_pictures(f, h, e);
    mem_free(text);
    if (!good) held_out_free(h);
    return good;
}

void held_out_free(held_out *h) {
    mem_free(h->patches), mem_free(h->ids), mem_free(h->right);
    memset(h, 0, sizeof *h);
}
