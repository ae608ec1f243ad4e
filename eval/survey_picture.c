/* survey_picture.c - one picture of a dataset: its regions embedded once by each row, and scored in every way
 * (survey.h).
 *
 * run lengths -> masks, one at a time -> vectors -> ranks among classes, among expressions, among objects -> a line
 */
#include "eval/dense.h"
#include "files/files.h"
#include "masks/rle.h"
#include "maskinv.h"
#include "methods.h"
#include "models/texts.h"
#include <math.h>
#include <string.h>

void survey_picture_free(survey_picture *p) {
    for (size_t i = 0; i < p->count; i++) {
        survey_region *r = &p->regions[i];
        for (size_t k = 0; k < r->said_count; k++) mem_free(r->said[k]);
        mem_free(r->said), mem_free(r->id), mem_free(r->rle);
    }
    for (size_t i = 0; i < p->point_count; i++) {
        const data_point *q = &p->points[i];
        mem_free((void *)(uintptr_t)q->label), mem_free((void *)(uintptr_t)q->name),
            mem_free((void *)(uintptr_t)q->answer);
    }
    mem_free(p->labels), mem_free(p->regions), mem_free(p->points), mem_free(p->id), mem_free(p->file), mem_free(p->left.text);
    *p = (survey_picture){0};
}

typedef struct {
    const survey *s;
    const survey_picture *p;
    arena *memory;
    longtext *line;
    err *e;
    size_t E, said; /* expressions of the picture */
    picture photo;
    unsigned char *bits, *other; /* [pixels] masks */
    real *soft;                 /* [pixels] */
    real *phrases;              /* [said, E] */
    size_t *phrase_of;           /* [said] its region */
    real *vectors;              /* [regions, E], or [1, E] */
    real *scores;               /* [classes, said, regions at most] */
    bool *failed;                /* [regions] */
} work;

static bool no_room(work *w) {
    return err_set(w->e, "--memory: %zu bytes are too little for %s", w->memory->size, w->p->file);
}

/* ---- masks ------------------------------------------------------------------------------------------- */
/* Largest (or smallest) value in a disk of five pixels: what the paper's eroded and dilated masks are taken to be. */
enum { DISK = 5 };
static void disk(const unsigned char *in, unsigned char *out, size_t h, size_t w, bool smallest) {
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            unsigned char v = in[y * w + x];
            for (long dy = -DISK; dy <= DISK && v == smallest; dy++)
                for (long dx = -DISK; dx <= DISK; dx++) {
                    long yy = (long)y + dy, xx = (long)x + dx;
                    if (dx * dx + dy * dy > DISK * DISK || yy < 0 || xx < 0 || yy >= (long)h || xx >= (long)w) continue;
                    if (in[(size_t)yy * w + (size_t)xx] != smallest) v = !smallest;
                }
            out[y * w + x] = v;
        }
}

/* A mask that erosion empties stays as it was. */
static void worsen(work *w, mask_quality q) {
    size_t n = w->p->width * w->p->height, box[4];
    if (q == QUALITY_BOX) {
        (void)mask_extent(w->bits, w->p->height, w->p->width, box);
        for (size_t y = box[1]; y < box[1] + box[3]; y++) memset(w->bits + y * w->p->width + box[0], 1, box[2]);
        return;
    }
    disk(w->bits, w->other, w->p->height, w->p->width, q == QUALITY_ERODED);
    if (memchr(w->other, 1, n)) memcpy(w->bits, w->other, n);
}

static bool draw(work *w, size_t i, mask_quality q, real *soft) {
    const char *rle = w->p->regions[i].rle;
    if (!rle_decode(rle, strlen(rle), w->p->height, w->p->width, w->bits, w->e)) return false;
    if (q != QUALITY_EXACT) worsen(w, q);
    for (size_t k = 0; soft && k < w->p->width * w->p->height; k++) soft[k] = w->bits[k];
    return true;
}

/* ---- vectors -------------------------------------------------------------------------------------------- */
enum { MASKS_AT_ONCE = 32 };
static bool embed_pictures(work *w, const eval_row *row) {
    size_t n = w->p->width * w->p->height, count = w->p->count ? w->p->count : 1, mark = arena_mark(w->memory);
    size_t most = count < MASKS_AT_ONCE ? count : MASKS_AT_ONCE;
    const region_method *how = region_method_find(row->method);
    region_settings o = {.side = row->side, .blocks = row->blocks};
    mask_image masks[MASKS_AT_ONCE];
    bool ok = true;
    for (size_t k = 0; k < most; k++) {
        masks[k] = (mask_image){w->p->width, w->p->height, arena_alloc(w->memory, n, sizeof(real))};
        if (!masks[k].soft) return no_room(w);
        for (size_t i = 0; i < n; i++) masks[k].soft[i] = 1; /* a picture without regions is one region */
    }
    for (size_t i = 0, m; ok && i < count; i += m) {
        m = count - i < most ? count - i : most;
        for (size_t k = 0; ok && w->p->count && k < m; k++)
            ok = draw(w, i + k, how->masked ? row->quality : QUALITY_EXACT, masks[k].soft);
        ok = ok &&
             regions_embed(how, &o, w->s->model, &w->photo, masks, m, w->memory, NULL, w->vectors + i * w->E, w->e);
    }
    arena_reset(w->memory, mark);
    return ok;
}

/* MaskInversion: the network runs once, the masks are inverted one after another. */
static bool invert_masks(work *w, const eval_row *row) {
    const clip_config *c = &w->s->model->config;
    size_t mark = arena_mark(w->memory);
    explained x;
    explainer room;
    explain_other other;
    fault f = {0};
    explain_options o = {.layers = row->layers, .steps = row->iters * w->p->count, .usual = w->s->usual};
    o.other = method_other(&room, row->explainer, &other);
    real *pixels = pixels_squash(&w->photo, row->side, c->mean, c->std, w->e);
    if (!pixels) return false;
    bool ok = explain_open(&x, w->s->model, pixels, row->side, row->side, &o, w->memory, NULL, &f);
    mem_free(pixels);
    real *e = ok ? arena_alloc(w->memory, w->E, sizeof *e) : NULL,
         *losses = ok ? arena_alloc(w->memory, row->iters, sizeof *losses) : NULL;
    if (ok && (!e || !losses)) return no_room(w);
    invert_options how = {.iters = row->iters, .lr = (real)row->lr, .alpha = (real)row->alpha};
    invert_result result = {.embedding = e, .losses = losses};
    for (size_t i = 0; ok && i < w->p->count; i++) {
        size_t inner = arena_mark(w->memory);
        if (!draw(w, i, row->quality, w->soft)) return false;
        ok = maskinv_invert(&x, w->soft, w->p->height, w->p->width, &how, &result, &f);
        if (!ok && (f.code == FAULT_FLAT || f.code == FAULT_NAN)) ok = w->failed[i] = true, f = (fault){0};
        for (size_t k = 0; ok && k < w->E; k++) w->vectors[i * w->E + k] = (real)e[k];
        arena_reset(w->memory, inner);
    }
    arena_reset(w->memory, mark);
    return ok ? true : err_fault(w->e, &f);
}

/* ---- scores ----------------------------------------------------------------------------------------------- */
static size_t class_rank(work *w, const real *v, long right, size_t which) {
    for (size_t c = 0; c < w->s->class_count; c++) w->scores[c] = (real)dot(v, w->s->names[which] + c * w->E, w->E);
    size_t before = 0; /* those above it, and equals with a smaller index */
    for (size_t c = 0; c < w->s->class_count; c++)
        before += w->scores[c] > w->scores[right] || (c < (size_t)right && !(w->scores[c] < w->scores[right]));
    return isnan(w->scores[right]) ? w->s->class_count : before + 1;
}

static void say_ranks(work *w, const real *v, long right, const char *comma) {
    say(w->line, "%s[%zu", comma, class_rank(w, v, right, 0));
    if (w->s->names[1]) say(w->line, ",%zu", class_rank(w, v, right, 1));
    say(w->line, "]");
}

static bool of_class(const survey_region *r) { return r->unit <= UNIT_OBJECT && r->class_index >= 0; }

static void say_classes(work *w) {
    const char *comma = "";
    say(w->line, "\"names\":[");
    for (size_t i = 0; i < w->p->count; i++)
        if (of_class(&w->p->regions[i]))
            say_ranks(w, w->vectors + i * w->E, w->p->regions[i].class_index, comma), comma = ",";
    say(w->line, "]");
}

static bool same_object(const survey_picture *p, size_t a, size_t b) {
    return a == b || (p->regions[a].object && p->regions[a].object == p->regions[b].object);
}

/* A mask is given: is the best of the picture's expressions one of its object's; for each of its own, is it that one.
 */
static void say_expressions(work *w) {
    longtext any = {0}, very = {0};
    size_t at = 0;
    for (size_t i = 0; i < w->p->count; i++) {
        const survey_region *r = &w->p->regions[i];
        if (r->unit != UNIT_PHRASE) continue;
        for (size_t k = 0; k < w->said; k++) w->scores[k] = (real)dot(w->vectors + i * w->E, w->phrases + k * w->E, w->E);
        size_t best = best_of(w->scores, w->said);
        say(&any, "%s%d", any.length ? "," : "", best < w->said && same_object(w->p, i, w->phrase_of[best]));
        for (size_t k = 0; k < r->said_count; k++, at++) say(&very, "%s%d", very.length ? "," : "", best == at);
    }
    say(w->line, ",\"any\":[%s],\"very\":[%s]", any.text ? any.text : "", very.text ? very.text : "");
    w->line->failed = w->line->failed || any.failed || very.failed;
    mem_free(any.text), mem_free(very.text);
}

/* The object that expression k chooses among the picture's regions; count: none. */
static size_t choose(work *w, size_t k, bool all) {
    for (size_t i = 0; i < w->p->count; i++)
        w->scores[i] =
            all || w->p->regions[i].unit == UNIT_PHRASE ? (real)dot(w->vectors + i * w->E, w->phrases + k * w->E, w->E) : (real)NAN;
    return best_of(w->scores, w->p->count);
}

static bool overlap(work *w, size_t a, size_t b, size_t out[2]) {
    size_t n = w->p->width * w->p->height;
    out[0] = out[1] = 0;
    if (!draw(w, a, QUALITY_EXACT, NULL)) return false;
    memcpy(w->other, w->bits, n);
    if (!draw(w, b, QUALITY_EXACT, NULL)) return false;
    for (size_t i = 0; i < n; i++) out[0] += w->bits[i] & w->other[i], out[1] += w->bits[i] | w->other[i];
    return true;
}

static bool say_objects(work *w) {
    longtext referred = {0}, all = {0}, areas = {0};
    bool ok = true;
    for (size_t k = 0; ok && k < w->said; k++) {
        size_t right = w->phrase_of[k], few = choose(w, k, false), best = choose(w, k, true), areas_of[2] = {0, 0};
        const char *comma = k ? "," : "";
        say(&referred, "%s%d", comma, few < w->p->count && same_object(w->p, few, right));
        say(&all, "%s%d", comma, best < w->p->count && same_object(w->p, best, right));
        ok = overlap(w, best < w->p->count ? best : right, right, areas_of);
        if (best == w->p->count) areas_of[0] = 0;
        say(&areas, "%s[%zu,%zu]", comma, areas_of[0], areas_of[1]);
    }
    say(w->line, ",\"referred\":[%s],\"all\":[%s],\"areas\":[%s]", referred.text ? referred.text : "",
        all.text ? all.text : "", areas.text ? areas.text : "");
    w->line->failed = w->line->failed || referred.failed || all.failed || areas.failed;
    mem_free(referred.text), mem_free(all.text), mem_free(areas.text);
    return ok;
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */
static bool run_row(work *w, const eval_row *row, const char *comma) {
    const region_method *how = region_method_find(row->method);
    size_t failed = 0, count = w->p->count ? w->p->count : 1;
    bool zero = w->s->zero_shot && w->p->class_index >= 0 && !how->masked;
    memset(w->failed, 0, count * sizeof *w->failed);
    say(w->line, "%s{", comma);
    if (w->p->count || zero) {
        if (!(how->family == REGION_INVERT ? invert_masks(w, row) : embed_pictures(w, row))) return false;
        for (size_t i = 0; i < count; i++) {
            if (!isfinite(unit(w->vectors + i * w->E, w->E))) w->failed[i] = true;
            failed += w->failed[i];
            for (size_t k = 0; w->failed[i] && k < w->E; k++) w->vectors[i * w->E + k] = NAN;
        }
    }
    say_classes(w);
    if (w->said) {
        say_expressions(w);
        if (!say_objects(w)) return false;
    }
    if (zero) say_ranks(w, w->vectors, w->p->class_index, ",\"zero\":");
    say(w->line, ",\"failed\":%zu}", failed);
    return true;
}

/* ---- maps -------------------------------------------------------------------------------------------------------- */
typedef struct {
    explainer x;
    real *map, *fitted;
    real *grid, *texts, *grids;
    ranked_pixel *ranked;
    size_t text_count;
    double best[99];
} mapping;

/* The union of the class's regions: of its area where the dataset has areas, else of its objects. */
static bool draw_class(work *w, long class_index, unsigned char *inside) {
    size_t n = w->p->width * w->p->height;
    bool areas = false;
    memset(inside, 0, n);
    for (size_t i = 0; i < w->p->count; i++) areas = areas || w->p->regions[i].unit == UNIT_AREA;
    for (size_t i = 0; i < w->p->count; i++) {
        const survey_region *r = &w->p->regions[i];
        if (r->class_index != class_index || r->unit != (areas ? UNIT_AREA : UNIT_OBJECT)) continue;
        if (!draw(w, i, QUALITY_EXACT, NULL)) return false;
        for (size_t k = 0; k < n; k++) inside[k] |= w->bits[k];
    }
    return true;
}

/* The map of text `which`, fitted to the picture. A flat one points nowhere: all 0. */
static bool draw_map(work *w, mapping *m, const real *grid, bool *flat) {
    size_t side = m->x.width;
    fault f = {0};
    *flat = !method_map(&m->x, grid, m->map, &f);
    if (*flat && f.code != FAULT_FLAT && f.code != FAULT_NAN) return err_fault(w->e, &f);
    if (*flat) memset(m->map, 0, side * side * sizeof *m->map);
    map_resize(m->map, side, side, m->fitted, w->p->height, w->p->width);
    return true;
}

/* Foreground's and background's IoU at 1/2, the share of pixels that agree; IoU at .01 ... .99 added to m->best. */
static void compare_map(work *w, mapping *m, const unsigned char *inside, double out[3]) {
    size_t n = w->p->width * w->p->height, at[101][2] = {{0}}, area = 0, hit[2] = {0, 0};
    for (size_t i = 0; i < n; i++) {
        size_t step = 0; /* thresholds that the pixel reaches, as the number compares with t/100 */
        double v = (double)m->fitted[i];
        step = v >= 1 ? 100 : v > 0 ? (size_t)(v * 100) : 0;
        while (step < 100 && v >= (double)(step + 1) / 100) step++;
        while (step > 0 && v < (double)step / 100) step--;
        at[step][inside[i]]++;
        area += inside[i];
        hit[inside[i]] += v >= .5;
    }
    size_t in = 0, over = 0; /* at least t, from above */
    for (size_t t = 100; t > 0; t--) {
        in += at[t][1], over += at[t][0];
        if (t < 100) m->best[t - 1] += area + over ? (double)in / (double)(area + over) : 0;
    }
    size_t background = n - area, right = background - hit[0];
    out[0] = area + hit[0] ? (double)hit[1] / (double)(area + hit[0]) : 0;
    out[1] = background + area - hit[1] ? (double)right / (double)(background + area - hit[1]) : 0;
    out[2] = (double)(hit[1] + right) / (double)n;
}

static bool open_map(work *w, mapping *m, const eval_row *row) {
    const clip_config *c = &w->s->model->config;
    size_t n = w->p->width * w->p->height;
    fault f = {0};
    real *pixels = pixels_squash(&w->photo, row->side, c->mean, c->std, w->e);
    if (!pixels) return false;
    bool ok = method_open(&m->x, method_find(row->method), w->s->model, pixels, row->side, row->side,
                          &(method_options){.blocks = row->blocks, .usual = w->s->usual}, w->memory, NULL, &f);
    mem_free(pixels);
    if (!ok) return err_fault(w->e, &f);
    m->map = arena_alloc(w->memory, row->side * row->side, sizeof *m->map);
    m->fitted = arena_alloc(w->memory, n, sizeof *m->fitted);
    m->ranked = arena_alloc(w->memory, n, sizeof *m->ranked);
    return (m->map && m->fitted && m->ranked) || no_room(w);
}

/* Grids of texts [count, E]. */
static bool make_grids(work *w, mapping *m, const real *texts, size_t count) {
    fault f = {0};
    m->text_count = count;
    m->grids = arena_alloc(w->memory, count * m->x.gh * m->x.gw, sizeof *m->grids);
    m->texts = arena_alloc(w->memory, count * w->E, sizeof *m->texts);
    if (!m->grids || !m->texts) return no_room(w);
    for (size_t i = 0; i < count * w->E; i++) m->texts[i] = texts[i];
    return method_grids(&m->x, m->texts, count, w->s->empty, m->grids, &f) ? true : err_fault(w->e, &f);
}

/* Each class of the picture: its map against its pixels. Surgery takes out what all the dataset's classes share. */
static bool map_classes(work *w, mapping *m) {
    bool all = !strcmp(m->x.how->name, "surgery");
    size_t cells = m->x.gh * m->x.gw, n = w->p->width * w->p->height, told = 0;
    if (all && w->s->class_count && !make_grids(w, m, w->s->names[0], w->s->class_count)) return false;
    say(w->line, "\"classes\":[");
    for (size_t i = 0; i < w->p->count; i++) {
        long c = w->p->regions[i].class_index;
        bool known = !of_class(&w->p->regions[i]), flat;
        double out[3];
        for (size_t k = 0; k < i; k++)
            known = known || (of_class(&w->p->regions[k]) && w->p->regions[k].class_index == c);
        if (known) continue;
        size_t mark = arena_mark(w->memory);
        if (!all && !make_grids(w, m, w->s->names[0] + (size_t)c * w->E, 1)) return false;
        if (!draw_map(w, m, m->grids + (all ? (size_t)c * cells : 0), &flat) || !draw_class(w, c, w->other))
            return false;
        compare_map(w, m, w->other, out);
        say(w->line, "%s[%ld,%d,%.17g,%.17g,%.17g,%.17g]", told++ ? "," : "", c,
            !flat && points_inside(m->fitted, w->other, n), out[0], out[1], out[2],
            average_precision(m->fitted, w->other, n, m->ranked));
        if (!all) arena_reset(w->memory, mark);
    }
    say(w->line, "],\"best\":[");
    for (size_t t = 0; told && t < 99; t++) say(w->line, "%s%.9g", t ? "," : "", m->best[t]);
    say(w->line, "]");
    return true;
}

/* Points of a label: yes and no against its map at 1/2; unsure ones are dropped. */
static bool map_label(work *w, mapping *m, const char *label, const char *name, const char *comma) {
    static const char *const photo[] = {"a photo of a {}"};
    const eval_head *h = &w->s->head;
    size_t mark = arena_mark(w->memory), count[2][2] = {{0}};
    bool flat;
    real *text = arena_alloc(w->memory, w->E, sizeof *text);
    if (!text) return no_room(w);
    if (!texts_embed(w->s->weights, &name, 1, h->template_count ? (const char *const *)h->templates : photo,
                     h->template_count ? h->template_count : 1, w->memory, NULL, text, w->e) ||
        !make_grids(w, m, text, 1) || !draw_map(w, m, m->grids, &flat))
        return false;
    for (size_t i = 0; i < w->p->point_count; i++) {
        const data_point *q = &w->p->points[i];
        bool yes = !strcmp(q->answer, "yes");
        if (strcmp(q->label, label) != 0 || (!yes && strcmp(q->answer, "no") != 0)) continue;
        count[yes][m->fitted[q->y * w->p->width + q->x] >= (real).5]++;
    }
    say(w->line, "%s[", comma);
    say_quoted(w->line, label);
    say(w->line, ",%zu,%zu,%zu]", count[1][1], count[0][1], count[1][0]); /* tp, fp, fn */
    arena_reset(w->memory, mark);
    return true;
}

static bool map_points(work *w, mapping *m) {
    const char *comma = "";
    say(w->line, ",\"points\":[");
    for (size_t i = 0; i < w->p->point_count; i++) {
        const data_point *q = &w->p->points[i];
        bool known = !*q->name, present = false;
        for (size_t k = 0; k < i; k++) known = known || !strcmp(w->p->points[k].label, q->label);
        for (size_t k = i; k < w->p->point_count; k++)
            present = present || (!strcmp(w->p->points[k].label, q->label) && !strcmp(w->p->points[k].answer, "yes"));
        if (known || !present) continue; /* labels that are in the picture */
        if (!map_label(w, m, q->label, q->name, comma)) return false;
        comma = ",";
    }
    say(w->line, "]");
    return true;
}

static bool run_map(work *w, const eval_row *row, const char *comma) {
    size_t mark = arena_mark(w->memory);
    mapping *m = mem_alloc(1, sizeof *m);
    if (!m) return err_set(w->e, "no memory for maps");
    say(w->line, "%s{", comma);
    bool ok = open_map(w, m, row) && map_classes(w, m) && map_points(w, m);
    say(w->line, "}");
    mem_free(m);
    arena_reset(w->memory, mark);
    return ok;
}

/* ---- the picture --------------------------------------------------------------------------------------------------
 */
static bool take_room(work *w) {
    const survey_picture *p = w->p;
    size_t n = p->width * p->height, most = w->s->class_count, count = p->count ? p->count : 1;
    for (size_t i = 0; i < p->count; i++) w->said += p->regions[i].unit == UNIT_PHRASE ? p->regions[i].said_count : 0;
    most = w->said > most ? w->said : most, most = count > most ? count : most;
    w->bits = arena_alloc(w->memory, n, 1), w->other = arena_alloc(w->memory, n, 1),
    w->soft = arena_alloc(w->memory, n, sizeof *w->soft);
    w->phrases = arena_alloc(w->memory, w->said * w->E, sizeof *w->phrases);
    w->phrase_of = arena_alloc(w->memory, w->said, sizeof *w->phrase_of);
    w->vectors = arena_alloc(w->memory, count * w->E, sizeof *w->vectors);
    w->scores = arena_alloc(w->memory, most, sizeof *w->scores);
    w->failed = arena_alloc(w->memory, count, sizeof *w->failed);
    return (w->bits && w->other && w->soft && w->phrases && w->phrase_of && w->vectors && w->scores && w->failed) ||
           no_room(w);
}

/* Expressions stand as they are: templates are made for names. */
static bool embed_phrases(work *w) {
    size_t at = 0;
    if (!w->said || !w->s->head.row_count) return true;
    const char **texts = mem_alloc(w->said, sizeof *texts);
    if (!texts) return err_set(w->e, "no memory for %zu expressions", w->said);
    for (size_t i = 0; i < w->p->count; i++)
        for (size_t k = 0; w->p->regions[i].unit == UNIT_PHRASE && k < w->p->regions[i].said_count; k++, at++)
            texts[at] = w->p->regions[i].said[k], w->phrase_of[at] = i;
    bool ok = texts_embed(w->s->weights, texts, w->said, NULL, 0, w->memory, NULL, w->phrases, w->e);
    mem_free(texts);
    return ok;
}

static void say_regions(work *w) {
    static const char letters[] = "aopx";
    say(w->line, ",\"regions\":[");
    for (size_t i = 0; i < w->p->count; i++) {
        const survey_region *r = &w->p->regions[i];
        say(w->line, i ? ",[" : "[");
        say_quoted(w->line, r->id);
        say(w->line, ",\"%c\",%ld,%zu]", letters[r->unit], r->class_index, r->unit == UNIT_PHRASE ? r->said_count : 0);
    }
    say(w->line, "]");
}

bool survey_measure(const survey *s, const survey_picture *p, arena *memory, longtext *line, err *e) {
    if (s->dense) return dense_measure(s, p, memory, line, e);
    work w = {.s = s, .p = p, .memory = memory, .line = line, .e = e, .E = s->model->config.embed};
    size_t mark = arena_mark(memory);
    char path[4096];
    err why = {0};
    line->length = 0;
    say(line, "{\"picture\":%zu,\"image\":", p->index);
    say_quoted(line, p->id);
    say(line, ",\"class\":%ld,\"left\":[%s]", p->class_index, p->left.length ? p->left.text : "");
    snprintf(path, sizeof path, "%s/%s", s->root, p->file);
    if (!picture_read_stored(path, &w.photo, &why) || w.photo.width != p->width || w.photo.height != p->height) {
        say(line, ",\"broken\":");
        say_quoted(line, why.text[0] ? why.text : "the picture has changed");
        say(line, ",\"lost\":%zu}\n", p->count);
        picture_free(&w.photo);
        return true;
    }
    if (s->anomalies) {
        bool judged = survey_anomaly_measure(s, p, &w.photo, memory, line, e);
        picture_free(&w.photo);
        return judged && (!line->failed || err_set(e, "no memory for a line of results"));
    }
    bool ok = take_room(&w) && embed_phrases(&w);
    say_regions(&w);
    say(line, ",\"rows\":[");
    for (size_t i = 0; ok && i < s->head.row_count; i++) ok = run_row(&w, &s->head.rows[i], i ? "," : "");
    say(line, "],\"maps\":[");
    for (size_t i = 0; ok && i < s->head.map_count; i++) ok = run_map(&w, &s->head.maps[i], i ? "," : "");
    say(line, "]}\n");
    picture_free(&w.photo);
    arena_reset(memory, mark);
    return ok && (!line->failed || err_set(e, "no memory for a line of results"));
}
