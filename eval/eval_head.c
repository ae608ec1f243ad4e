/* eval_head.c - what is compared, on what (see eval.h): flags to rows, the set's names, hashes. */
#include "eval/eval.h"
#include "files/longtext.h"
#include "files/nearest.h"
#include "methods.h"
#include "models/identity.h"
#include "os/os.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const quality_names[QUALITIES] = {"exact", "eroded", "dilated", "box"};

/* ---- comma-separated lists ---------------------------------------------------------------------------- */
enum { MOST_VALUES = 64, MOST_ROWS = 512 };
typedef struct {
    char item[MOST_VALUES][32];
    size_t count;
} values;
typedef struct {
    double number[MOST_VALUES];
    size_t count;
} numbers;

static bool split(const char *flag, const char *text, values *v, err *e) {
    v->count = 0;
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        if (n == 0 || n >= sizeof v->item[0])
            return err_set(e, "--%s: '%s' found, values between commas expected", flag, text);
        if (v->count == MOST_VALUES) return err_set(e, "--%s: more than %d values", flag, MOST_VALUES);
        memcpy(v->item[v->count], at, n);
        v->item[v->count][n] = 0;
        for (size_t i = 0; i < v->count; i++)
            if (!strcmp(v->item[i], v->item[v->count])) return err_set(e, "--%s: %s stands twice", flag, v->item[i]);
        v->count++;
        at += n;
        if (!*at) return true;
    }
}

static bool read_numbers(const char *flag, const char *text, bool whole, double least, double most, numbers *out,
                         err *e) {
    values v;
    out->count = 0;
    if (!text) return true;
    if (!split(flag, text, &v, e)) return false;
    for (size_t i = 0; i < v.count; i++) {
        char *end;
        bool plain = strspn(v.item[i], whole ? "0123456789" : "0123456789+-.eE") == strlen(v.item[i]);
        double n = strtod(v.item[i], &end);
        if (!plain || *end || !isfinite(n))
            return err_set(e, "--%s: '%s' found, %s expected", flag, v.item[i], whole ? "a whole number" : "a number");
        if (!(n >= least && n <= most))
            return err_set(e, "--%s: %s found, %.15g to %.15g allowed", flag, v.item[i], least, most);
        out->number[out->count++] = n;
    }
    return true;
}

/* ---- rows ------------------------------------------------------------------------------------------------ */
typedef struct {
    numbers sizes, layers, iters, lr, alpha, blocks;
    values methods, explainers, qualities, inverted;
} sweep;

/* The words that a flag's list may hold, one after the other; NULL at the end. */
typedef const char *words_at(size_t i);
static const char *region_words(size_t i) { return i < region_method_count() ? region_method_at(i)->name : NULL; }
static const char *explainer_words(size_t i) { return i < method_count() ? method_at(i)->name : NULL; }
static const char *quality_words(size_t i) { return i < QUALITIES ? quality_names[i] : NULL; }
static const char *inverted_words(size_t i) {
    explainer x;
    explain_other other;
    for (size_t k = 0; k < method_count(); k++) {
        const char *name = method_at(k)->name;
        if ((!strcmp(name, "legrad") || method_other(&x, name, &other)) && i-- == 0) return name;
    }
    return NULL;
}

static bool known(const char *flag, const values *v, words_at *at, err *e) {
    enum { MOST_WORDS = 64 };
    const char *words[MOST_WORDS];
    size_t count = 0;
    for (const char *word; count < MOST_WORDS && (word = at(count)) != NULL;) words[count++] = word;
    for (size_t i = 0; i < v->count; i++) {
        bool found = false;
        for (size_t k = 0; k < count && !found; k++) found = !strcmp(words[k], v->item[i]);
        if (found) continue;
        const char *meant = nearest_word(v->item[i], words, count);
        longtext all = {0};
        for (size_t k = 0; k < count; k++) say(&all, "%s%s", k ? ", " : "", words[k]);
        err_set(e, "--%s: '%s' found%s%s%s, expected of %s", flag, v->item[i], meant ? " (meant: " : "", meant ? meant : "",
                meant ? "?)" : "", all.failed ? "its list" : all.text);
        mem_free(all.text);
        return false;
    }
    return true;
}

static bool read_sweep(const eval_wishes *w, const clip_config *m, sweep *s, err *e) {
    double layers = (double)m->vision.layers;
    memset(s, 0, sizeof *s);
    if (w->methods &&
        (!split("methods", w->methods, &s->methods, e) || !known("methods", &s->methods, region_words, e)))
        return false;
    if (w->explainers && (!split("explainers", w->explainers, &s->explainers, e) ||
                          !known("explainers", &s->explainers, explainer_words, e)))
        return false;
    if (!split("quality", w->qualities ? w->qualities : "exact", &s->qualities, e) ||
        !known("quality", &s->qualities, quality_words, e))
        return false;
    if (!split("explainer", w->inverted ? w->inverted : "legrad", &s->inverted, e) ||
        !known("explainer", &s->inverted, inverted_words, e))
        return false;
    if (!s->methods.count && !s->explainers.count) return err_set(e, "--methods or --explainers is needed, none found");
    return read_numbers("size", w->sizes, true, 1, 16384, &s->sizes, e) &&
           read_numbers("layers", w->layers, true, 1, layers, &s->layers, e) &&
           read_numbers("blocks", w->blocks, true, 1, layers, &s->blocks, e) &&
           read_numbers("iters", w->iters, true, 1, 1e6, &s->iters, e) &&
           read_numbers("lr", w->lr, false, 0, 1e6, &s->lr, e) &&
           read_numbers("alpha", w->alpha, false, 0, 1e6, &s->alpha, e);
}

/* value i of those asked for; none asked for: the default. More than one: it stands in the row's name. */
static double pick(const numbers *n, size_t i, double standard, const char *what, char name[128]) {
    double v = n->count ? n->number[i] : standard;
    size_t used = strlen(name);
    if (n->count > 1) snprintf(name + used, 128 - used, " %s=%g", what, v);
    return v;
}
static size_t ways(size_t count, bool used) { return used && count ? count : 1; }

static bool add_row(eval_row **rows, size_t *count, const eval_row *row, err *e) {
    if (*count == MOST_ROWS) return err_set(e, "the sweep makes more than %d rows", MOST_ROWS);
    (*rows)[(*count)++] = *row;
    return true;
}

/* A row's quality and explainer, with their names. */
static void pick_words(const sweep *s, size_t q, size_t x, eval_row *row) {
    for (size_t i = 0; i < QUALITIES; i++)
        if (!strcmp(s->qualities.item[q], quality_names[i])) row->quality = (mask_quality)i;
    size_t used = strlen(row->name);
    if (s->qualities.count > 1)
        used += (size_t)snprintf(row->name + used, sizeof row->name - used, " quality=%s", s->qualities.item[q]);
    snprintf(row->explainer, sizeof row->explainer, "%s", s->inverted.item[x]);
    if (s->inverted.count > 1)
        snprintf(row->name + used, sizeof row->name - used, " explainer=%s", s->inverted.item[x]);
}

/* Everything that maskinv knows; iters run fastest, so that rows of one descent lie together. */
static bool invert_rows(eval_head *h, const sweep *s, const clip_config *m, const eval_row *base, size_t q, err *e) {
    size_t L = ways(s->layers.count, true), R = ways(s->lr.count, true), A = ways(s->alpha.count, true),
           K = ways(s->iters.count, true), X = s->inverted.count;
    for (size_t i = 0; i < X * L * R * A * K; i++) {
        eval_row row = *base;
        pick_words(s, q, i / (L * R * A * K), &row);
        bool legrad =
            !strcmp(row.explainer, "legrad"); /* the others look at as many layers as they like, unless told */
        row.layers = (size_t)pick(&s->layers, i / (R * A * K) % L, legrad ? (double)config_layers(m) : 0, "layers", row.name);
        row.lr = pick(&s->lr, i / (A * K) % R, m->invert.lr > 0 ? (double)m->invert.lr : 0.5, "lr", row.name);
        row.alpha = pick(&s->alpha, i / K % A, (double)m->invert.alpha, "alpha", row.name);
        row.iters = (size_t)pick(&s->iters, i % K, m->invert.iters ? (double)m->invert.iters : 10, "iters", row.name);
        if (!add_row(&h->rows, &h->row_count, &row, e)) return false;
    }
    return true;
}

static bool side_of(size_t side, const clip_config *m, err *e) {
    size_t gh, gw;
    if (clip_grid(m, side, side, &gh, &gw)) return true;
    return err_set(e, "--size: %zu found, a multiple of the model's patch, %zu, expected", side, m->patch);
}

static bool method_rows(eval_head *h, const sweep *s, const clip_config *m, const region_method *how, err *e) {
    bool tokens = how->family == REGION_TOKENS;
    size_t S = ways(s->sizes.count, true), Q = ways(s->qualities.count, how->masked), B = ways(s->blocks.count, tokens);
    for (size_t i = 0; i < S * Q * B; i++) {
        eval_row row = {0};
        snprintf(row.name, sizeof row.name, "%s", how->name);
        snprintf(row.method, sizeof row.method, "%s", how->name);
        row.side = (size_t)pick(&s->sizes, i / (Q * B), (double)config_side(m, how->sides), "size", row.name);
        if (!side_of(row.side, m, e)) return false;
        if (how->family == REGION_INVERT) {
            if (!invert_rows(h, s, m, &row, i / B % Q, e)) return false;
            continue;
        }
        if (how->masked) pick_words(s, i / B % Q, 0, &row);
        row.explainer[0] = 0;
        if (tokens) row.blocks = (size_t)pick(&s->blocks, i % B, 0, "blocks", row.name);
        if (!add_row(&h->rows, &h->row_count, &row, e)) return false;
    }
    return true;
}

static bool explainer_rows(eval_head *h, const sweep *s, const clip_config *m, const char *name, err *e) {
    size_t S = ways(s->sizes.count, true), B = ways(s->blocks.count, true);
    for (size_t i = 0; i < S * B; i++) {
        eval_row row = {0};
        snprintf(row.name, sizeof row.name, "%s", name);
        snprintf(row.method, sizeof row.method, "%s", name);
        row.side = (size_t)pick(&s->sizes, i / B, (double)config_side(m, 2), "size", row.name);
        row.blocks = (size_t)pick(&s->blocks, i % B, 0, "blocks", row.name);
        if (!side_of(row.side, m, e) || !add_row(&h->maps, &h->map_count, &row, e)) return false;
    }
    return true;
}

static bool make_rows(eval_head *h, const eval_wishes *w, const clip_config *m, err *e) {
    sweep s;
    h->rows = mem_alloc(MOST_ROWS, sizeof *h->rows);
    h->maps = mem_alloc(MOST_ROWS, sizeof *h->maps);
    if (!h->rows || !h->maps) return err_set(e, "no memory for %d rows", 2 * MOST_ROWS);
    if (!read_sweep(w, m, &s, e)) return false;
    for (size_t i = 0; i < s.methods.count; i++)
        if (!method_rows(h, &s, m, region_method_find(s.methods.item[i]), e)) return false;
    for (size_t i = 0; i < s.explainers.count; i++)
        if (!explainer_rows(h, &s, m, s.explainers.item[i], e)) return false;
    return true;
}

/* ---- the set -------------------------------------------------------------------------------------------------- */
/* The bytes of scenes.jsonl, and how many of its lines are not empty. */
static bool hash_scenes(const char *set, uint64_t *hash, size_t *scenes, err *e) {
    char path[4096], block[1 << 14];
    bool in_line = false;
    snprintf(path, sizeof path, "%s/scenes.jsonl", set);
    FILE *f = os_open(path, "rb");
    *hash = HASH_START, *scenes = 0;
    if (!f) return err_set(e, "%s: cannot be read: %s", path, os_reason());
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) {
        *hash = fnv_bytes(*hash, block, n);
        for (size_t i = 0; i < n; i++) {
            *scenes += !in_line && block[i] != '\n';
            in_line = block[i] != '\n';
        }
    }
    bool ok = !ferror(f);
    fclose(f);
    return ok ? true : err_set(e, "%s: reading failed", path);
}

/* ---- names --------------------------------------------------------------------------------------------------------
 */
static bool add_name(eval_head *h, size_t kind, const char *name, err *e) {
    size_t n = h->name_count[kind];
    for (size_t i = 0; i < n; i++)
        if (!strcmp(h->names[kind][i], name)) return true;
    if ((n & (n - 1)) == 0) { /* doubled at 0, 1, 2, 4... */
        void *grown = mem_resize(h->names[kind], (n ? 2 * n : 1) * sizeof *h->names[kind]);
        if (!grown) return err_set(e, "no memory for %zu names", n + 1);
        h->names[kind] = grown;
    }
    snprintf(h->names[kind][n], EVAL_NAME, "%s", name);
    h->name_count[kind]++;
    return true;
}

/* All names that the kind's source knows, where it is to be had; the set's own are added. */
static bool source_names(eval_head *h, scene_kind kind, err *e) {
    err unheard = {0};
    scene_source *source = scene_source_open(kind, NULL, &unheard);
    bool ok = true;
    for (size_t i = 0; ok && source && i < scene_names(source); i++) ok = add_name(h, kind, scene_name(source, i), e);
    scene_source_free(source);
    return ok;
}

static bool set_names(eval_head *h, const char *set, size_t lines, err *e) {
    scene_reader *reader = scene_reader_open(set, e);
    scene_record *record = reader ? mem_alloc(1, sizeof *record) : NULL;
    bool ok = record != NULL || (reader && err_set(e, "no memory for a scene"));
    for (size_t i = 0; ok && i < lines; i++) {
        err broken = {0}; /* said when its turn comes */
        if (scene_reader_next(reader, record, &broken) != SCENE_READ) continue;
        if (!h->name_count[record->kind]) ok = source_names(h, record->kind, e);
        for (size_t k = 0; ok && k < record->objects; k++) ok = add_name(h, record->kind, record->object[k].name, e);
    }
    mem_free(record);
    scene_reader_free(reader);
    return ok;
}

/* ---- the head
 * -------------------------------------------------------------------------------------------------------- */
static bool copy_templates(eval_head *h, const eval_wishes *w) {
    h->templates = mem_alloc(w->template_count + 1, sizeof *h->templates);
    for (size_t i = 0; h->templates && i < w->template_count; i++) {
        if (!(h->templates[i] = mem_text(w->templates[i]))) return false;
        h->template_count++;
    }
    return h->templates != NULL;
}

bool eval_head_rows(eval_head *h, const eval_wishes *w, const char *set, checkpoint *weights, bool *usage, err *e) {
    const clip_model *m = checkpoint_model(weights);
    memset(h, 0, sizeof *h);
    *usage = true;
    if (!make_rows(h, w, &m->config, e)) return false;
    *usage = false;
    h->model = mem_text(checkpoint_name(weights));
    h->set = mem_text(set);
    if (!h->model || !h->set || !copy_templates(h, w)) return err_set(e, "no memory for the settings");
    h->shard = w->shard, h->shards = w->shards ? w->shards : 1;
    h->weights = model_hash(m);
    return true;
}

bool eval_head_make(eval_head *h, const eval_wishes *w, const char *set, checkpoint *weights, bool *usage, err *e) {
    size_t lines = 0;
    if (!eval_head_rows(h, w, set, weights, usage, e)) return false;
    if (!hash_scenes(set, &h->scenes_bytes, &lines, e) || !set_names(h, set, lines, e)) return false;
    h->scenes = w->limit && w->limit < lines ? w->limit : lines;
    return h->scenes || err_set(e, "%s/scenes.jsonl: no scenes found", set);
}

void eval_head_free(eval_head *h) {
    for (size_t i = 0; i < h->template_count; i++) mem_free(h->templates[i]);
    for (size_t i = 0; i < EVAL_KINDS; i++) mem_free(h->names[i]);
    mem_free(h->templates);
    mem_free(h->model);
    mem_free(h->set);
    mem_free(h->rows);
    mem_free(h->maps);
    memset(h, 0, sizeof *h);
}

size_t eval_share(const eval_head *h) {
    return h->shard < h->scenes ? (h->scenes - h->shard + h->shards - 1) / h->shards : 0;
}

static bool same_rows(const eval_row *a, size_t n, const eval_row *b, size_t m) {
    if (n != m) return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(a[i].name, b[i].name) || strcmp(a[i].method, b[i].method) ||
            strcmp(a[i].explainer, b[i].explainer) || a[i].quality != b[i].quality || a[i].side != b[i].side ||
            a[i].blocks != b[i].blocks || a[i].layers != b[i].layers || a[i].iters != b[i].iters ||
            fabs(a[i].lr - b[i].lr) > 0 || fabs(a[i].alpha - b[i].alpha) > 0)
            return false;
    return true;
}

const char *eval_head_differs(const eval_head *a, const eval_head *b) {
    if (a->weights != b->weights) return "the model";
    if (a->scenes_bytes != b->scenes_bytes) return "the set of scenes";
    if (a->scenes != b->scenes) return "the number of scenes (--limit)";
    if (a->shards != b->shards) return "the number of shards";
    if (a->template_count != b->template_count) return "the templates";
    for (size_t i = 0; i < a->template_count; i++)
        if (strcmp(a->templates[i], b->templates[i])) return "the templates";
    for (size_t k = 0; k < EVAL_KINDS; k++) {
        if (a->name_count[k] != b->name_count[k]) return "the names asked for";
        for (size_t i = 0; i < a->name_count[k]; i++)
            if (strcmp(a->names[k][i], b->names[k][i])) return "the names asked for";
    }
    if (!same_rows(a->rows, a->row_count, b->rows, b->row_count)) return "the methods or their settings";
    if (!same_rows(a->maps, a->map_count, b->maps, b->map_count)) return "the explainers or their settings";
    return NULL;
}
