/* eval_totals.c - results.jsonl added up: hits, ranks, intersections of each row (see eval.h). */
#include "eval/eval.h"
#include <string.h>

/* ---- totals ------------------------------------------------------------------------------------------- */
static size_t class_count(const eval_head *h) { return h->name_count[0] + h->name_count[1]; }
static size_t class_of(const eval_head *h, const eval_result *r, size_t k) {
    return (r->kind == SCENE_DRAWN ? 0 : h->name_count[0]) + r->name[k];
}

void eval_totals_free(const eval_head *h, eval_totals *t) {
    for (size_t i = 0; t->rows && i < h->row_count; i++) mem_free(t->rows[i].class_n);
    for (size_t i = 0; t->maps && i < h->map_count; i++) mem_free(t->maps[i].shared);
    mem_free(t->rows);
    mem_free(t->maps);
}

static bool eval_totals_new(const eval_head *h, eval_totals *t, err *e) {
    size_t classes = class_count(h);
    memset(t, 0, sizeof *t);
    t->rows = mem_alloc(h->row_count, sizeof *t->rows);
    t->maps = mem_alloc(h->map_count, sizeof *t->maps);
    bool ok = t->rows && t->maps;
    for (size_t i = 0; ok && i < h->row_count; i++) {
        ok = (t->rows[i].class_n = mem_alloc(classes, 2 * sizeof(size_t))) != NULL;
        if (ok) t->rows[i].class_hits = t->rows[i].class_n + classes;
    }
    for (size_t i = 0; ok && i < h->map_count; i++) {
        ok = (t->maps[i].shared = mem_alloc(classes, 2 * sizeof(uint64_t))) != NULL;
        if (ok) t->maps[i].joint = t->maps[i].shared + classes;
    }
    if (!ok) eval_totals_free(h, t);
    return ok ? true : err_set(e, "no memory for the totals of %zu rows", h->row_count + h->map_count);
}

/* Whether the first name is not this object's, but another's of the scene. */
static bool named_another(const eval_result *r, const eval_row_result *w, size_t k) {
    bool another = false;
    for (size_t i = 0; i < r->objects; i++) another = another || r->name[i] == w->top[k][0];
    return another && w->top[k][0] != r->name[k];
}

static void add_row(const eval_head *h, const eval_result *r, const eval_row_result *w, row_totals *t) {
    for (size_t k = 0; k < r->objects; k++) {
        size_t class = class_of(h, r, k);
        t->n++, t->class_n[class]++;
        t->hits1 += w->rank[k] == 1, t->class_hits[class] += w->rank[k] == 1;
        t->hits5 += w->rank[k] <= 5;
        t->failed += w->failed[k];
        t->others += named_another(r, w, k);
        t->loss[0] += w->loss[k][0], t->loss[1] += w->loss[k][1];
    }
    t->phrases += r->phrases;
    for (size_t p = 0; p < r->phrases; p++) t->right_phrases += w->chosen[p] == r->means[p];
}

static void add_map(const eval_head *h, const eval_result *r, const eval_map_result *w, map_totals *t) {
    for (size_t k = 0; k < r->objects; k++) {
        size_t class = class_of(h, r, k);
        t->n++, t->hits += w->hit[k];
        t->ap += w->ap[k], t->ap2 += w->ap[k] * w->ap[k];
        for (size_t i = 0; i < THRESHOLDS; i++) t->iou[i] += w->iou[k][i], t->iou2[i] += w->iou[k][i] * w->iou[k][i];
        t->shared[class] += w->shared[k], t->joint[class] += w->joint[k];
    }
}

static void add_result(const eval_head *h, const eval_result *r, eval_totals *t) {
    t->scenes++;
    t->broken += r->broken;
    if (r->broken) return;
    for (size_t i = 0; i < h->row_count; i++) add_row(h, r, &r->rows[i], &t->rows[i]);
    for (size_t i = 0; i < h->map_count; i++) add_map(h, r, &r->maps[i], &t->maps[i]);
    t->chance1 += (double)r->objects / (double)h->name_count[r->kind];
    if (r->phrases) t->chance_phrase += (double)r->phrases / (double)r->objects;
}

double class_mean(const eval_head *h, const row_totals *t) {
    double sum = 0;
    size_t seen = 0;
    for (size_t i = 0; i < class_count(h); i++) {
        if (!t->class_n[i]) continue;
        sum += (double)t->class_hits[i] / (double)t->class_n[i];
        seen++;
    }
    return seen ? sum / (double)seen : 0;
}

double class_iou(const eval_head *h, const map_totals *t) {
    double sum = 0;
    size_t seen = 0;
    for (size_t i = 0; i < class_count(h); i++) {
        if (!t->joint[i]) continue;
        sum += (double)t->shared[i] / (double)t->joint[i];
        seen++;
    }
    return seen ? sum / (double)seen : 0;
}

size_t best_threshold(const map_totals *t) {
    size_t best = 0;
    for (size_t i = 1; i < THRESHOLDS; i++)
        if (t->iou[i] > t->iou[best]) best = i;
    return best;
}

bool eval_count_all(const char *folder, results *file, eval_totals *t, err *e) {
    eval_result r;
    bool end = false;
    if (!results_open(file, folder, e)) return false;
    if (!eval_totals_new(&file->head, t, e)) return false;
    bool ok = eval_result_new(&r, &file->head, e);
    while (ok && !end) {
        ok = results_next(file, &r, &end, e);
        if (ok && !end) add_result(&file->head, &r, t);
    }
    eval_result_free(&r);
    return ok;
}
