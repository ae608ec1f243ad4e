/* survey_table.c - what a survey comes to: aligned text, CSV, JSON and a page, all from the same cells (see survey.h).
 */
#include "eval/survey_totals.h"
#include "files/files.h"
#include <math.h>
#include <string.h>

/* key in the files; what is asked, in words. */
static const struct {
    const char *key, *text;
} measures[MEASURES] = {
    [CLASS_AREA_1] = {"class_areas", "class of a mask, one mask a picture and class: Acc@1, one template"},
    [CLASS_AREA_80] = {"class_areas_80", "the same, 80 templates"},
    [CLASS_OBJECT_1] = {"class_objects", "class of a mask, one mask an object: Acc@1, one template"},
    [CLASS_OBJECT_80] = {"class_objects_80", "the same, 80 templates"},
    [EXPRESSION_ANY] = {"expression_any", "expression of a mask among the picture's: any of its object's comes first"},
    [EXPRESSION_VERY] = {"expression_very", "the very expression comes first"},
    [OBJECT_REFERRED] = {"object_referred", "object of an expression, among the picture's referred objects"},
    [OBJECT_ALL] = {"object_all", "object of an expression, among all annotated objects of the picture"},
    [OBJECT_IOU] = {"object_miou", "IoU of the object chosen among all with the right one, mean"},
    [OBJECT_HALF] = {"object_half", "the same, share above 1/2"},
    [PICTURE_CLASS] = {"zero_shot", "class of a picture: Acc@1, one template"},
    [PICTURE_CLASS_80] = {"zero_shot_80", "the same, 80 templates"},
    [POINTING] = {"pointing", "the map's peak lies in the class"},
    [MAP_AREA] = {"map_miou", "map against the class at 1/2: mean of foreground's and background's IoU"},
    [MAP_PIXELS] = {"map_pixels", "the same, share of pixels"},
    [MAP_AP] = {"map_ap", "average precision over pixels"},
    [MAP_BEST] = {"map_best_iou", "foreground's IoU at the threshold that is best over the dataset"},
    [POINTS_IOU] = {"points_miou", "points: IoU of a label over the dataset, the labels' mean"},
};

static estimate estimate_of(const survey_cell *c) {
    if (!c->mean) return wilson(c->hits, c->n);
    if (c->squares < 0) return (estimate){c->sum / (double)c->n, NAN, NAN};
    return mean_of(c->sum, c->squares, c->n);
}

/* ---- beside what the paper printed ---------------------------------------------------------------------- */
static size_t head_number(const survey_totals *t, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(t->head, key);
    return cJSON_IsNumber(v) ? (size_t)v->valuedouble : 0;
}

/* The model of the paper's rows that this is: "ViT-B/16", "ViT-H/14", or none of them. */
static const char *family_of(const survey_totals *t) {
    size_t width = head_number(t, "width"), patch = head_number(t, "patch");
    return width == 768 && patch == 16 ? "ViT-B/16" : width == 1280 && patch == 14 ? "ViT-H/14" : NULL;
}

/* The measure that the paper's table holds. */
static bool is_published(const survey_totals *t, size_t m) {
    const char *set = head_text(t, "dataset");
    if (!strcmp(set, "voc2012") || !strncmp(set, "pascal_context", 14)) return m == CLASS_AREA_1;
    if (!strcmp(set, "coco2017") || !strcmp(set, "openimages_v7")) return m == CLASS_OBJECT_1;
    return m == EXPRESSION_ANY;
}

static double published(const survey_totals *t, size_t m, size_t row) {
    const cJSON *r = survey_row_at(t, row), *method = cJSON_GetObjectItem(r, "method"),
                *quality = cJSON_GetObjectItem(r, "quality");
    mask_quality q = QUALITY_EXACT;
    const char *family = family_of(t);
    if (row >= t->row_count || !is_published(t, m) || !cJSON_IsString(method)) return NAN;
    for (size_t i = 0; i < QUALITIES; i++)
        if (cJSON_IsString(quality) && !strcmp(quality->valuestring, quality_names[i])) q = (mask_quality)i;
    return published_share(head_text(t, "dataset"), method->valuestring, q, family && !strcmp(family, "ViT-H/14"));
}

/* CLIP's token is the same for every mask of a picture, so its row depends on the protocol, hardly on the weights. */
static void say_protocol(const survey_totals *t, longtext *out) {
    const char *family = family_of(t);
    for (size_t i = 0; i < t->row_count; i++) {
        const cJSON *method = cJSON_GetObjectItem(survey_row_at(t, i), "method");
        if (!cJSON_IsString(method) || strcmp(method->valuestring, "cls") != 0) continue;
        for (size_t m = 0; m < MEASURES; m++) {
            const survey_cell *c = &t->rows[i].cell[m];
            double known = published(t, m, i);
            if (!c->n || isnan(known)) continue;
            estimate v = estimate_of(c);
            bool fits = known >= 100 * v.low && known <= 100 * v.high;
            say(out, "CLIP's row: %.1f here, %.1f published: %s\n", 100 * v.value, known,
                !family ? "this model is none of the paper's, so they need not agree"
                : fits  ? "within the interval, the protocol may be the paper's"
                        : "beyond the interval, the protocol differs from the paper's, or the checkpoint does");
        }
    }
}

/* ---- text -------------------------------------------------------------------------------------------------- */
static const char *row_name(const survey_totals *t, size_t i) {
    const cJSON *v = cJSON_GetObjectItem(survey_row_at(t, i), "name");
    return cJSON_IsString(v) ? v->valuestring : "";
}

static double side_of(const survey_totals *t, size_t i) {
    const cJSON *v = cJSON_GetObjectItem(survey_row_at(t, i), "size");
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static bool any(const survey_totals *t, size_t m) {
    for (size_t i = 0; i < t->row_count + t->map_count; i++)
        if (t->rows[i].cell[m].n) return true;
    return false;
}

/* The mean over the classes that occur; kind 0: areas, 1: objects. */
static double class_mean_of(const survey_totals *t, const survey_row *r, size_t kind) {
    double sum = 0, n = 0;
    for (size_t c = 0; r->class_n[kind] && c < t->class_count; c++)
        if (r->class_n[kind][c]) sum += (double)r->class_hits[kind][c] / (double)r->class_n[kind][c], n++;
    return n > 0 ? sum / n : (double)NAN;
}

static void say_cell(const survey_totals *t, size_t m, size_t i, longtext *out) {
    const survey_row *r = &t->rows[i];
    const survey_cell *c = &r->cell[m];
    estimate v = estimate_of(c);
    double known = published(t, m, i);
    say(out, "  %-15s %4.0f %7zu  %5.1f", row_name(t, i), side_of(t, i), c->n, 100 * v.value);
    if (isnan(v.low))
        say(out, "%15s", "");
    else
        say(out, " [%5.1f,%6.1f]", 100 * v.low, 100 * v.high);
    if (c->chance > 0) say(out, "  chance %4.1f", 100 * c->chance / (double)c->n);
    if (!isnan(known)) say(out, "  paper %4.1f", known);
    say(out, "\n");
}

static void say_text(const survey_totals *t, longtext *out) {
    const char *family = family_of(t);
    say(out, "%s (%s), split %s%s%s, model %s\n", head_text(t, "title"), head_text(t, "root"), head_text(t, "split"),
        *head_text(t, "by") ? " by " : "", head_text(t, "by"), head_text(t, "model"));
    say(out,
        "%zu pictures, %zu regions measured; left out: %zu, and %zu pictures that could not be read with %zu regions\n",
        t->pictures - t->broken, t->measured, t->left, t->broken, t->lost);
    say(out, "per cent, with 95 %% intervals; paper: MaskInversion, arXiv 2407.20034, by %s\n",
        family ? family : "ViT-B/16");
    for (size_t m = 0; m < MEASURES; m++) {
        if (!any(t, m)) continue;
        say(out, "\n%s\n  %-15s size       n\n", measures[m].text, "by");
        for (size_t i = 0; i < t->row_count + t->map_count; i++)
            if (t->rows[i].cell[m].n) say_cell(t, m, i, out);
        for (size_t i = 0; m == OBJECT_IOU && i < t->row_count; i++)
            if (t->rows[i].joint > 0)
                say(out, "  %-15s oIoU %.1f\n", row_name(t, i), 100 * t->rows[i].inside / t->rows[i].joint);
        for (size_t i = 0; (m == CLASS_AREA_1 || m == CLASS_OBJECT_1) && i < t->row_count; i++)
            if (t->rows[i].cell[m].n)
                say(out, "  %-15s mean per class %.1f\n", row_name(t, i),
                    100 * class_mean_of(t, &t->rows[i], m == CLASS_OBJECT_1));
    }
    for (size_t i = 0; i < t->row_count; i++)
        if (t->rows[i].failed)
            say(out, "\n%s: %zu regions gave no vector and count as wrong\n", row_name(t, i), t->rows[i].failed);
    say(out, "\n");
    say_protocol(t, out);
    say(out, "\nWhat the paper leaves open, and what was taken here:\n");
    for (size_t i = 0; i < published_choice_count; i++) say(out, "- %s\n", published_choices[i]);
}

/* ---- files --------------------------------------------------------------------------------------------------- */
static void say_number(longtext *out, const char *before, double v, const char *none) {
    say(out, "%s", before);
    if (isnan(v))
        say(out, "%s", none);
    else
        say(out, "%.9f", v);
}

static void say_csv(const survey_totals *t, longtext *out) {
    say(out, "measure,row,size,n,value,low,high,top5,chance,published\n");
    for (size_t m = 0; m < MEASURES; m++)
        for (size_t i = 0; i < t->row_count + t->map_count; i++) {
            const survey_cell *c = &t->rows[i].cell[m];
            if (!c->n) continue;
            estimate v = estimate_of(c);
            say(out, "%s,\"%s\",%.0f,%zu,%.9f", measures[m].key, row_name(t, i), side_of(t, i), c->n, v.value);
            say_number(out, ",", v.low, ""), say_number(out, ",", v.high, "");
            say_number(out, ",", c->hits5 ? (double)c->hits5 / (double)c->n : (double)NAN, "");
            say_number(out, ",", c->chance > 0 ? c->chance / (double)c->n : (double)NAN, "");
            say_number(out, ",", published(t, m, i) / 100, "");
            say(out, "\n");
        }
}

static void say_json_row(const survey_totals *t, size_t i, longtext *out) {
    const survey_row *r = &t->rows[i];
    const char *comma = "";
    say(out, "%s\n    {\"name\": ", i ? "," : "");
    say_quoted(out, row_name(t, i));
    say(out, ", \"kind\": \"%s\", \"size\": %.0f, \"failed\": %zu, \"measures\": {",
        i < t->row_count ? "region" : "map", side_of(t, i), r->failed);
    for (size_t m = 0; m < MEASURES; m++) {
        const survey_cell *c = &r->cell[m];
        if (!c->n) continue;
        estimate v = estimate_of(c);
        say(out, "%s\n      \"%s\": {\"n\": %zu, \"value\": %.9f", comma, measures[m].key, c->n, v.value), comma = ",";
        say_number(out, ", \"low\": ", v.low, "null"), say_number(out, ", \"high\": ", v.high, "null");
        if (c->hits5) say(out, ", \"top5\": %.9f", (double)c->hits5 / (double)c->n);
        if (c->chance > 0) say(out, ", \"chance\": %.9f", c->chance / (double)c->n);
        if (!isnan(published(t, m, i))) say(out, ", \"published\": %.3f", published(t, m, i) / 100);
        say(out, "}");
    }
    say(out, "}");
    if (r->joint > 0) say(out, ", \"object_oiou\": %.9f", r->inside / r->joint);
    for (size_t k = 0; k < 2; k++)
        if (!isnan(class_mean_of(t, r, k)))
            say(out, ", \"class_mean_%s\": %.9f", k ? "objects" : "areas", class_mean_of(t, r, k));
    say(out, "}");
}

static void say_json(const survey_totals *t, longtext *out) {
    static const char *const keys[] = {"model", "dataset", "root", "split", "by"};
    say(out, "{");
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        say(out, "%s\n  \"%s\": ", k ? "," : "", keys[k]);
        say_quoted(out, head_text(t, keys[k]));
    }
    say(out,
        ",\n  \"pictures\": %zu, \"regions\": %zu, \"left_out\": %zu, \"broken_pictures\": %zu, \"lost_regions\": "
        "%zu,\n  \"rows\": [",
        t->pictures - t->broken, t->measured, t->left, t->broken, t->lost);
    for (size_t i = 0; i < t->row_count + t->map_count; i++) say_json_row(t, i, out);
    say(out, "\n  ],\n  \"choices\": [");
    for (size_t i = 0; i < published_choice_count; i++) {
        say(out, i ? ",\n    " : "\n    ");
        say_quoted(out, published_choices[i]);
    }
    say(out, "\n  ]\n}\n");
}

/* ---- the page: the same cells, a bar for each ------------------------------------------------------------------ */
typedef struct {
    double best;           /* what the best rows reach; NAN where all are alike */
    bool chance, known;    /* columns that some row fills */
} page_columns;

static page_columns columns_of(const survey_totals *t, size_t m) {
    page_columns p = {.best = -1};
    double worst = 2;
    for (size_t i = 0; i < t->row_count + t->map_count; i++) {
        const survey_cell *c = &t->rows[i].cell[m];
        if (!c->n) continue;
        double v = estimate_of(c).value;
        p.best = v > p.best ? v : p.best, worst = v < worst ? v : worst;
        p.chance = p.chance || c->chance > 0, p.known = p.known || !isnan(published(t, m, i));
    }
    if (p.best >= 0 && !(p.best > worst)) p.best = (double)NAN;
    return p;
}

static void say_page_cell(const survey_totals *t, size_t m, size_t i, const page_columns *p, longtext *out) {
    const survey_cell *c = &t->rows[i].cell[m];
    estimate v = estimate_of(c);
    double known = published(t, m, i);
    bool best = v.value >= p->best;
    say(out, "<tr%s><td>", best ? " class=best" : "");
    say_html(out, row_name(t, i));
    say(out, "</td><td><b>%.1f</b> <small>", 100 * v.value);
    if (!isnan(v.low)) say(out, "%.1f–%.1f", 100 * v.low, 100 * v.high);
    say(out,
        "</small></td><td><svg viewBox=\"0 0 200 14\" role=img aria-label=\"%.1f per cent\"><rect class=\"bar%s\" y=2 "
        "height=10 width=%.1f />",
        100 * v.value, best ? " best" : "", 200 * v.value);
    if (!isnan(v.low)) say(out, "<path class=whisker d=\"M%.1f 7H%.1f\"/>", 200 * v.low, 200 * v.high);
    if (!isnan(known)) say(out, "<path class=known d=\"M%.1f 0V14\"/>", 2 * known);
    say(out, "</svg></td>");
    if (p->known) say(out, isnan(known) ? "<td></td>" : "<td>%.1f</td>", known);
    if (p->chance) say(out, c->chance > 0 ? "<td>%.1f</td>" : "<td></td>", 100 * c->chance / (double)c->n);
    say(out, "<td>%.0f</td><td>%zu</td></tr>\n", side_of(t, i), c->n);
}

static void say_page_measure(const survey_totals *t, size_t m, longtext *out) {
    page_columns p = columns_of(t, m);
    if (p.best < 0) return;
    say(out, "<h2>");
    say_html(out, measures[m].text);
    say(out, "</h2>\n<div class=wide><table><tr><th>by</th><th>per cent</th><th class=scale>0<span>100</span></th>%s%s<th>size</th>"
             "<th>n</th></tr>\n",
        p.known ? "<th>published</th>" : "", p.chance ? "<th>chance</th>" : "");
    for (size_t i = 0; i < t->row_count + t->map_count; i++)
        if (t->rows[i].cell[m].n) say_page_cell(t, m, i, &p, out);
    say(out, "</table></div>\n");
}

static void say_page(const survey_totals *t, longtext *out) {
    longtext protocol = {0};
    say(out, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
             "content=\"width=device-width,initial-scale=1\"><title>");
    say_html(out, head_text(t, "title"));
    say(out, "</title><style>%s%s</style><h1>", eval_style, eval_bar_style);
    say_html(out, head_text(t, "title"));
    say(out, ", split ");
    say_html(out, head_text(t, "split"));
    say(out, "</h1>\n<p>Model ");
    say_html(out, head_text(t, "model"));
    say(out,
        ". %zu pictures, %zu regions; left out: %zu, and %zu pictures that could not be read, with %zu regions. The "
        "best row of each "
        "table is marked, the dashed line is the published number, the thin one the 95 %% interval.</p>\n",
        t->pictures - t->broken, t->measured, t->left, t->broken, t->lost);
    say_protocol(t, &protocol);
    say(out, "<p><b>");
    if (protocol.text) say_html(out, protocol.text);
    say(out, "</b></p>\n");
    for (size_t m = 0; m < MEASURES; m++) say_page_measure(t, m, out);
    say(out, "<h2>What the paper leaves open, and what was taken here</h2><ul>\n");
    for (size_t i = 0; i < published_choice_count; i++) {
        say(out, "<li>");
        say_html(out, published_choices[i]);
        say(out, "</li>\n");
    }
    say(out, "</ul>\n");
    survey_left_say(&t->left_out, out);
    survey_say_foot(out, t->head);
    say(out, "</html>\n");
    mem_free(protocol.text);
}

typedef void writer(const survey_totals *t, longtext *out);
static bool write_file(const char *folder, const char *name, writer *write, const survey_totals *t, err *e) {
    longtext text = {0};
    write(t, &text);
    return say_into(&text, folder, name, e);
}

bool survey_finish(const char *folder, FILE *out, err *e) {
    survey_totals t;
    longtext text = {0};
    if (dense_is_result(folder)) return dense_finish(folder, out, e);
    if (survey_is_anomaly(folder)) return survey_anomaly_finish(folder, out, e);
    bool ok = survey_add_up(folder, &t, e) && write_file(folder, "table.csv", say_csv, &t, e) &&
              write_file(folder, "table.json", say_json, &t, e) && write_file(folder, "report.html", say_page, &t, e);
    if (ok) {
        say_text(&t, &text);
        ok = say_to(&text, out, "the table", e);
    }
    survey_totals_free(&t);
    return ok;
}
