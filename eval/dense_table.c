/* dense_table.c - results of the segmentation task added up, beside what the papers print (see dense.h). */
#include "eval/dense.h"
#include "eval/survey_totals.h"
#include "files/files.h"
#include "segment/score.h"
#include <math.h>
#include <string.h>

/* ---- published ------------------------------------------------------------------------------------------------------ */
enum { BASE = 768, LARGE = 1024 }; /* widths of ViT-B/16 and ViT-L/14 */
typedef struct { size_t width; const char *row; double value[8]; } known_row; /* 0: not known */
static const char *const known_lists[8] = {"voc21", "context60", "coco_object", "voc20", "cityscapes", "context59", "ade20k", "coco_stuff164k"};
static const known_row known[] = {
    {BASE, "similarity", {16.2, 7.7, 5.5, 41.8, 5.5, 9.2, 2.1, 4.4}}, /* CLIP, SCLIP, ClearCLIP, NACLIP: ResCLIP's tables */
    {BASE, "sclip", {59.1, 30.4, 30.5, 80.4, 32.2, 34.2, 16.1, 22.4}},
    {BASE, "clearclip", {51.8, 32.6, 33.0, 80.9, 30.0, 35.9, 16.7, 23.9}},
    {BASE, "naclip", {58.9, 32.2, 33.2, 79.7, 35.5, 35.2, 17.4, 23.3}},
    {BASE, "naclip+pamr", {64.07, 34.99, 36.19, 83.03, 38.27, 38.35, 19.05, 25.69}}, /* from here on: their READMEs */
    {BASE, "resclip", {61.1, 33.5, 35.0, 86.0, 35.9, 36.8, 18.0, 24.7}},
    {BASE, "resclip-sclip", {60.7, 32.9, 34.3, 84.6, 34.4, 35.8, 17.6, 23.9}},
    {BASE, "resclip-clearclip", {59.0, 32.9, 34.0, 87.1, 34.5, 36.4, 17.8, 24.3}},
    {BASE, "scclip", {64.6, 36.8, 37.7, 84.3, 41.0, 40.1, 20.1, 26.6}}, /* as RF-CLIP cites it */
    {LARGE, "resclip", {54.1, 30.9, 32.5, 85.5, 33.7, 34.5, 18.2, 23.4}},
    {LARGE, "scclip", {65.0, 36.9, 0, 0, 41.3, 0, 21.7, 26.9}},
};
static const char *const trase_lists[7] = {"cliptrase_voc21", "cliptrase_context60", "cliptrase_coco80", "cliptrase_voc20",
                                           "cliptrase_context59", "cliptrase_ade150", "cliptrase_coco171"};
static const double trase[2][7] = {{50.88, 29.87, 43.56, 80.95, 33.83, 16.35, 22.84},  /* at 224 */
                                   {53.04, 30.79, 44.84, 81.20, 34.92, 17.04, 24.06}}; /* at 336 */

double dense_published(const char *list, const char *row, size_t width, size_t patch, size_t side) {
    if (patch != (width == BASE ? 16 : 14)) return (double)NAN;
    for (size_t l = 0; l < 7; l++)
        if (!strcmp(list, trase_lists[l]))
            return width == BASE && (side == 224 || side == 336) && !strcmp(row, "cliptrase") ? trase[side == 336][l] : (double)NAN;
    for (size_t r = 0; r < sizeof known / sizeof *known; r++)
        for (size_t l = 0; l < 8 && known[r].width == width && !strcmp(known[r].row, row); l++)
            if (!strcmp(list, known_lists[l])) return known[r].value[l] > 0 ? known[r].value[l] : (double)NAN;
    return (double)NAN;
}

/* ---- adding up ------------------------------------------------------------------------------------------------------ */
typedef struct {
    const cJSON *settings;
    segment_score score;
} table_row;
typedef struct {
    cJSON *head;
    table_row *rows;
    size_t row_count, pictures, broken, left;
    survey_left left_out;
} table;

static const cJSON *field(const cJSON *o, const char *key) { return cJSON_GetObjectItemCaseSensitive(o, key); }
static double number(const cJSON *v) { return cJSON_IsNumber(v) && v->valuedouble >= 0 ? v->valuedouble : 0; }
static const char *text_of(const cJSON *o, const char *key) {
    const cJSON *v = field(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

static bool make_table(table *t, err *e) {
    const cJSON *rows = field(t->head, "segmenters"), *one;
    size_t count = (size_t)cJSON_GetArraySize(rows);
    if (!count || count > DENSE_ROWS) return err_set(e, "results.jsonl: %zu rows found in its head", count);
    if (!(t->rows = mem_alloc(count, sizeof *t->rows))) return err_set(e, "no memory for %zu rows", count);
    cJSON_ArrayForEach(one, rows) {
        table_row *r = &t->rows[t->row_count++];
        size_t classes = (size_t)number(field(one, "classes"));
        r->settings = one;
        if (!classes || classes > SEGMENT_CLASSES) return err_set(e, "results.jsonl: a row of %zu classes", classes);
        if (!(r->score.hit = mem_alloc(3 * classes, sizeof *r->score.hit))) return err_set(e, "no memory for %zu classes", classes);
        r->score.classes = classes, r->score.predicted = r->score.hit + classes, r->score.truth = r->score.predicted + classes;
    }
    return true;
}

static bool add_line(void *arg, const struct cJSON *line, const char *path, err *e) {
    table *t = arg;
    const cJSON *rows = field(line, "rows"), *row, *one;
    size_t i = 0;
    (void)path;
    if (!t->head) return t->head = cJSON_Duplicate(line, true), t->head ? make_table(t, e) : err_set(e, "no memory for the settings");
    t->left += (size_t)cJSON_GetArraySize(field(line, "left"));
    survey_left_add(&t->left_out, line);
    if (field(line, "end")) return true;
    t->pictures++;
    if (!rows) return t->broken++, true;
    cJSON_ArrayForEach(row, rows) {
        if (i == t->row_count) break;
        segment_score *s = &t->rows[i++].score;
        cJSON_ArrayForEach(one, row) {
            size_t c = (size_t)number(one->child);
            if (c >= s->classes) continue;
            s->hit[c] += (uint64_t)number(cJSON_GetArrayItem(one, 1));
            s->predicted[c] += (uint64_t)number(cJSON_GetArrayItem(one, 2));
            s->truth[c] += (uint64_t)number(cJSON_GetArrayItem(one, 3));
        }
    }
    return true;
}

static void free_table(table *t) {
    for (size_t i = 0; i < t->row_count; i++) mem_free(t->rows[i].score.hit);
    mem_free(t->rows), mem_free(t->left_out.items.text);
    cJSON_Delete(t->head);
}

/* ---- one row's figures ------------------------------------------------------------------------------------------------ */
typedef struct { const char *name, *list; double miou, macc, aacc, known; bool own; } figures;

/* CLIPtrase's rows are scored as its code does. */
static figures figures_of(const table *t, size_t i) {
    const table_row *r = &t->rows[i];
    figures f = {.name = text_of(r->settings, "name"), .list = text_of(r->settings, "list")};
    f.own = !strcmp(f.name, "cliptrase");
    segment_means m = segment_score_means(&r->score);
    segment_cliptrase_means c = segment_score_cliptrase(&r->score);
    f.miou = 100 * (f.own ? c.miou : m.miou), f.macc = 100 * (f.own ? c.macc : m.macc), f.aacc = 100 * (f.own ? c.pacc : m.aacc);
    f.known = dense_published(f.list, f.name, (size_t)number(field(t->head, "width")), (size_t)number(field(t->head, "patch")),
                              (size_t)number(field(r->settings, "short")));
    return f;
}

/* Of the rows of one list: is any published, and what do the best reach (NAN: all alike)? */
static bool list_known(const table *t, const char *list, double *best) {
    bool any = false;
    double worst = 101;
    *best = -1;
    for (size_t i = 0; i < t->row_count; i++) {
        figures f = figures_of(t, i);
        if (strcmp(f.list, list) != 0) continue;
        any = any || !isnan(f.known);
        *best = f.miou > *best ? f.miou : *best, worst = f.miou < worst ? f.miou : worst;
    }
    if (!(*best > worst)) *best = (double)NAN;
    return any;
}

static bool any_known(const table *t) {
    for (size_t i = 0; i < t->row_count; i++)
        if (!isnan(figures_of(t, i).known)) return true;
    return false;
}

static void say_number(longtext *out, const char *format, double v, const char *none) {
    char text[64];
    snprintf(text, sizeof text, format, v);
    say(out, "%s", isnan(v) ? none : text);
}

static void say_csv(const table *t, longtext *out) {
    say(out, "list,method,short,window,stride,scale,prob_thd,area_thd,pamr,templates,miou,macc,aacc,published\n");
    for (size_t i = 0; i < t->row_count; i++) {
        figures f = figures_of(t, i);
        const cJSON *s = t->rows[i].settings;
        say(out, "%s,%s,%.0f,%.0f,%.0f,%g,%g,", f.list, f.name, number(field(s, "short")), number(field(s, "window")),
            number(field(s, "stride")), number(field(s, "scale")), number(field(s, "prob_thd")));
        const cJSON *area = field(s, "area_thd");
        if (cJSON_IsNumber(area) && area->valuedouble >= 0) say(out, "%g", area->valuedouble);
        say(out, ",%.0f,%.0f,", number(field(s, "pamr")), number(field(s, "templates")));
        say_number(out, "%.6f", f.miou, ""), say(out, ",");
        say_number(out, "%.6f", f.macc, ""), say(out, ",");
        say_number(out, "%.6f", f.aacc, ""), say(out, ",");
        say_number(out, "%.2f", f.known, ""), say(out, "\n");
    }
}

static void say_json(const table *t, longtext *out) {
    static const char *const keys[] = {"model", "dataset", "root", "split"};
    say(out, "{");
    for (size_t k = 0; k < 4; k++) {
        say(out, "\n  \"%s\": ", keys[k]);
        say_quoted(out, text_of(t->head, keys[k]));
        say(out, ",");
    }
    say(out, "\n  \"pictures\": %zu, \"broken_pictures\": %zu, \"left_out\": %zu,\n  \"rows\": [", t->pictures - t->broken, t->broken, t->left);
    for (size_t i = 0; i < t->row_count; i++) {
        figures f = figures_of(t, i);
        char *settings = cJSON_PrintUnformatted(t->rows[i].settings);
        say(out, "%s\n    {\"name\": \"%s\", \"list\": \"%s\", \"miou\": ", i ? "," : "", f.name, f.list);
        say_number(out, "%.12f", f.miou / 100, "null"), say(out, ", \"macc\": ");
        say_number(out, "%.12f", f.macc / 100, "null"), say(out, ", \"aacc\": ");
        say_number(out, "%.12f", f.aacc / 100, "null"), say(out, ", \"published\": ");
        say_number(out, "%.4f", f.known / 100, "null"), say(out, ",\n     \"settings\": %s,\n     \"iou\": [", settings ? settings : "{}");
        for (size_t c = 0; c < t->rows[i].score.classes; c++) {
            if (c) say(out, ", ");
            say_number(out, "%.9f", segment_iou(&t->rows[i].score, c), "null");
        }
        say(out, "]}");
        cJSON_free(settings);
    }
    say(out, "\n  ]\n}\n");
}

static void say_text(const table *t, longtext *out) {
    say(out, "%s, split %s, %s: %zu pictures, %zu that could not be read or have no label picture, %zu left out\n", text_of(t->head, "title"),
        text_of(t->head, "split"), text_of(t->head, "model"), t->pictures - t->broken, t->broken, t->left);
    for (size_t i = 0; i < t->row_count; i++) {
        figures f = figures_of(t, i);
        double best;
        bool shown = list_known(t, f.list, &best);
        if (!i || strcmp(f.list, text_of(t->rows[i - 1].settings, "list")) != 0)
            say(out, "\n%-24s %8s %8s %8s%s\n", f.list, "mIoU", "mAcc", "aAcc", shown ? "  published" : "");
        say(out, "  %-22s ", f.name);
        say_number(out, "%8.2f", f.miou, "       -"), say(out, " ");
        say_number(out, "%8.2f", f.macc, "       -"), say(out, " ");
        say_number(out, "%8.2f", f.aacc, "       -");
        say_number(out, " %10.2f", f.known, ""), say(out, "\n");
    }
    say(out, any_known(t) ? "\nPublished numbers are of the whole split.\n"
                          : "\nPublished numbers are of ViT-B/16 and ViT-L/14; this model has none.\n");
}

/* ---- the page: a table a list, a bar a row ------------------------------------------------------------------------------ */
static void say_page_row(const table *t, size_t i, longtext *out) {
    figures f = figures_of(t, i);
    const cJSON *s = t->rows[i].settings;
    double window = number(field(s, "window")), top;
    bool shown = list_known(t, f.list, &top), best = f.miou >= top;
    say(out, "<tr%s><td>%s</td><td><b>", best ? " class=best" : "", f.name);
    say_number(out, "%.2f", f.miou, "–");
    say(out, "</b></td><td><svg viewBox=\"0 0 200 14\" role=img aria-label=\"mIoU in per cent\"><rect class=\"bar%s\" y=2 height=10 width=%.1f />",
        best ? " best" : "", isnan(f.miou) ? 0 : 2 * f.miou);
    if (!isnan(f.known)) say(out, "<path class=known d=\"M%.1f 0V14\"/>", 2 * f.known);
    say(out, "</svg></td>");
    if (shown) say(out, "<td>"), say_number(out, "%.2f", f.known, ""), say(out, "</td>");
    say(out, "<td>");
    say_number(out, "%.2f", f.macc, "–"), say(out, "</td><td>");
    say_number(out, "%.2f", f.aacc, "–"), say(out, "</td><td>%.0f</td><td>", number(field(s, "short")));
    if (window > 0) say(out, "%.0f / %.0f", window, number(field(s, "stride")));
    else say(out, "whole");
    if (f.own) say(out, "</td><td>eps %g, min %g</td></tr>\n", number(field(s, "eps")), number(field(s, "least")));
    else say(out, "</td><td>%g, %g</td></tr>\n", number(field(s, "scale")), number(field(s, "prob_thd")));
}

static void say_page_head(const table *t, longtext *out) {
    say(out, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\"><title>");
    say_html(out, text_of(t->head, "title"));
    say(out, ", segmentation</title><style>%s%s</style><h1>", eval_style, eval_bar_style);
    say_html(out, text_of(t->head, "title"));
    say(out, ", split ");
    say_html(out, text_of(t->head, "split"));
    say(out, ": open-vocabulary segmentation</h1>\n<p>Model ");
    say_html(out, text_of(t->head, "model"));
    say(out, ". %zu picture%s; %zu could not be read or ha%s no label picture, %zu left out. Pixels are counted over all pictures in whole "
             "numbers; mIoU is the mean over classes that are predicted or true somewhere (CLIPtrase's rows: as its code counts, on the middle "
             "square).%s</p>\n",
        t->pictures - t->broken, t->pictures - t->broken == 1 ? "" : "s", t->broken, t->broken == 1 ? "s" : "ve", t->left,
        any_known(t) ? " The dashed line is the published number." : "");
}

static void say_page(const table *t, longtext *out) {
    say_page_head(t, out);
    for (size_t i = 0; i < t->row_count; i++) {
        const char *list = text_of(t->rows[i].settings, "list");
        bool first = !i || strcmp(list, text_of(t->rows[i - 1].settings, "list")) != 0;
        const segment_list *known_list = segment_list_find(list);
        double best;
        if (first)
            say(out, "%s<h2>%s: %s</h2>\n<div class=wide><table><tr><th>method</th><th>mIoU</th><th class=scale>0<span>100</span></th>%s"
                     "<th>mAcc</th><th>aAcc</th><th>short side</th><th>window / stride</th><th>scale, threshold</th></tr>\n",
                i ? "</table></div>\n" : "", list, known_list ? known_list->title : "", list_known(t, list, &best) ? "<th>published</th>" : "");
        say_page_row(t, i, out);
    }
    say(out, "</table></div>\n");
    survey_left_say(&t->left_out, out);
    survey_say_foot(out, t->head);
    say(out, "</html>\n");
}

typedef void writer(const table *t, longtext *out);
static bool write_file(const char *folder, const char *name, writer *write, const table *t, err *e) {
    longtext text = {0};
    write(t, &text);
    return say_into(&text, folder, name, e);
}

bool dense_finish(const char *folder, FILE *out, err *e) {
    table t = {0};
    longtext text = {0};
    bool ok = survey_each_line(folder, add_line, &t, e) && (t.head || err_set(e, "%s/results.jsonl: nothing found", folder));
    ok = ok && write_file(folder, "table.csv", say_csv, &t, e) && write_file(folder, "table.json", say_json, &t, e) &&
         write_file(folder, "report.html", say_page, &t, e);
    if (ok) {
        say_text(&t, &text);
        ok = say_to(&text, out, "the table", e);
    }
    free_table(&t);
    return ok;
}
