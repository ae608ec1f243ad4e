/* eval_table.c - the totals as tables: aligned text, CSV, JSON; and all that eval leaves in its folder (see eval.h). */
#include "eval/eval.h"
#include <string.h>

static estimate iou_of(const map_totals *t) {
    size_t i = best_threshold(t);
    return mean_of(t->iou[i], t->iou2[i], t->n);
}

/* ---- the aligned table, 80 columns wide; table.csv has every number ------------------------------------------ */
static double part(double sum, size_t n) { return n ? sum / (double)n : 0; }

enum { NAME_COLUMNS = 10 };
/* A name that is too long stands in a line of its own. */
static void print_name(FILE *out, const char *name) {
    if (strlen(name) > NAME_COLUMNS) fprintf(out, "%s\n", name), name = "";
    fprintf(out, "%-*s", NAME_COLUMNS, name);
}

static void print_share(FILE *out, estimate v) {
    fprintf(out, "  %5.1f [%5.1f,%6.1f]", 100 * v.value, 100 * v.low, 100 * v.high);
}

static void print_row(FILE *out, const eval_head *h, const eval_totals *t, size_t i) {
    const row_totals *r = &t->rows[i];
    print_name(out, h->rows[i].name);
    fprintf(out, "%6zu", r->n);
    print_share(out, wilson(r->hits1, r->n));
    fprintf(out, " %5.1f %6.1f %6.1f", 100 * part((double)r->hits5, r->n), 100 * class_mean(h, r), 100 * part((double)r->others, r->n));
    print_share(out, wilson(r->right_phrases, r->phrases));
    fputc('\n', out);
}

/* What holds for some rows only. */
static void print_notes(FILE *out, const eval_head *h, const eval_totals *t) {
    for (size_t i = 0; i < h->row_count; i++) {
        const row_totals *r = &t->rows[i];
        if (h->rows[i].iters) fprintf(out, "%s: loss %.3f -> %.3f\n", h->rows[i].name, part(r->loss[0], r->n), part(r->loss[1], r->n));
        if (r->failed) fprintf(out, "%s: %zu regions failed\n", h->rows[i].name, r->failed);
    }
}

static void print_map(FILE *out, const eval_head *h, const eval_totals *t, size_t i) {
    const map_totals *m = &t->maps[i];
    print_name(out, h->maps[i].name);
    fprintf(out, "%6zu", m->n);
    print_share(out, wilson(m->hits, m->n));
    print_share(out, iou_of(m));
    fprintf(out, "  %.2f  %5.1f  %5.1f\n", threshold_at(best_threshold(m)), 100 * mean_of(m->ap, m->ap2, m->n).value,
            100 * class_iou(h, m));
}

static void print_table(FILE *out, const eval_head *h, const eval_totals *t) {
    fprintf(out, "%zu scenes of %s, model %s\nper cent, with 95 %% intervals\n", t->scenes - t->broken, h->set,
            h->model);
    if (h->row_count) {
        fprintf(out, "\n%-10s%6s  %-20s %5s %6s %6s  %s\n", "region by", "n", "Acc@1", "Acc@5", "class", "other", "referring");
        for (size_t i = 0; i < h->row_count; i++) print_row(out, h, t, i);
        fprintf(out, "(chance)  %6zu  %5.1f%36s%5.1f\n", t->rows[0].n, 100 * part(t->chance1, t->rows[0].n), "",
                100 * part(t->chance_phrase, t->rows[0].phrases));
        print_notes(out, h, t);
    }
    if (h->map_count) 
        fprintf(out, "\n%-10s%6s  %-20s  %-20s  %4s  %5s  %5s\n", "map by", "n", "pointing", "IoU at the best cut", "cut", "AP", "mIoU");
    for (size_t i = 0; i < h->map_count; i++) print_map(out, h, t, i);
    if (t->broken) fprintf(out, "\n%zu broken scenes were left out\n", t->broken);
}

/* ---- table.csv ----------------------------------------------------------------------------------------------------
 */
static void csv_share(longtext *t, estimate v) { say(t, ",%.6f,%.6f,%.6f", v.value, v.low, v.high); }

static void csv_name(longtext *t, const char *kind, const char *name) {
    say(t, "%s,\"%s\"", kind, name); /* a row's name holds no quotes */
}

static void write_csv(longtext *out, const eval_head *h, const eval_totals *t) {
    say(out, "kind,name,n,acc1,acc1_low,acc1_high,acc5,acc5_low,acc5_high,class_acc1,other,failed,loss_first,loss_last,"
             "referring,referring_low,referring_high,phrases,pointing,pointing_low,pointing_high,iou,iou_low,iou_high,"
             "threshold,map,map_low,map_high,miou\n");
    for (size_t i = 0; i < h->row_count; i++) {
        const row_totals *r = &t->rows[i];
        csv_name(out, "region", h->rows[i].name);
        say(out, ",%zu", r->n);
        csv_share(out, wilson(r->hits1, r->n));
        csv_share(out, wilson(r->hits5, r->n));
        say(out, ",%.6f,%.6f,%zu", class_mean(h, r), part((double)r->others, r->n), r->failed);
        if (h->rows[i].iters)
            say(out, ",%.6f,%.6f", part(r->loss[0], r->n), part(r->loss[1], r->n));
        else
            say(out, ",,");
        csv_share(out, wilson(r->right_phrases, r->phrases));
        say(out, ",%zu,,,,,,,,,,,\n", r->phrases);
    }
    for (size_t i = 0; i < h->map_count; i++) {
        const map_totals *m = &t->maps[i];
        csv_name(out, "map", h->maps[i].name);
        say(out, ",%zu,,,,,,,,,,,,,,,", m->n);
        csv_share(out, wilson(m->hits, m->n));
        csv_share(out, iou_of(m));
        say(out, ",%.2f", threshold_at(best_threshold(m)));
        csv_share(out, mean_of(m->ap, m->ap2, m->n));
        say(out, ",%.6f\n", class_iou(h, m));
    }
}

/* ---- names.csv: of each name, sorted by bytes, its regions and how many of them each row names first ---------------- */
static size_t next_name(const eval_head *h, size_t kind, const char *last) {
    size_t best = h->name_count[kind];
    for (size_t i = 0; i < h->name_count[kind]; i++)
        if ((!last || strcmp(h->names[kind][i], last) > 0) && (best == h->name_count[kind] || strcmp(h->names[kind][i], h->names[kind][best]) < 0)) best = i;
    return best;
}

static void write_names(longtext *out, const eval_head *h, const eval_totals *t) {
    say(out, "kind,name,n");
    for (size_t i = 0; i < h->row_count; i++) say(out, ",\"%s\"", h->rows[i].name);
    say(out, "\n");
    for (size_t kind = 0; kind < EVAL_KINDS && h->row_count; kind++) {
        const char *last = NULL;
        for (size_t k; (k = next_name(h, kind, last)) < h->name_count[kind]; last = h->names[kind][k]) {
            size_t class = kind * h->name_count[0] + k;
            say(out, "%s,\"%s\",%zu", kind ? "photographic" : "drawn", h->names[kind][k], t->rows[0].class_n[class]);
            for (size_t i = 0; i < h->row_count; i++) say(out, ",%zu", t->rows[i].class_hits[class]);
            say(out, "\n");
        }
    }
}

/* ---- table.json ---------------------------------------------------------------------------------------------------
 */
static void json_share(longtext *t, const char *key, estimate v) {
    say(t, "\"%s\": %.6f, \"%s_low\": %.6f, \"%s_high\": %.6f", key, v.value, key, v.low, key, v.high);
}

static void json_key(longtext *t, size_t i, const char *name) {
    say(t, i ? ",\n    " : "\n    ");
    say_quoted(t, name);
    say(t, ": {");
}

static void json_settings(longtext *t, const eval_row *r) {
    say(t, ", \"size\": %zu", r->side);
    if (r->blocks) say(t, ", \"blocks\": %zu", r->blocks);
    if (r->quality != QUALITY_EXACT) say(t, ", \"quality\": \"%s\"", quality_names[r->quality]);
    if (r->iters)
        say(t, ", \"layers\": %zu, \"iters\": %zu, \"lr\": %.9g, \"alpha\": %.9g, \"explainer\": \"%s\"", r->layers,
            r->iters, r->lr, r->alpha, r->explainer);
}

static void json_methods(longtext *out, const eval_head *h, const eval_totals *t) {
    for (size_t i = 0; i < h->row_count; i++) {
        const row_totals *r = &t->rows[i];
        json_key(out, i, h->rows[i].name);
        json_share(out, "acc1", wilson(r->hits1, r->n));
        say(out, ", ");
        json_share(out, "acc5", wilson(r->hits5, r->n));
        say(out, ", \"class_acc1\": %.6f, \"other_object\": %.6f, \"n\": %zu, \"failed\": %zu", class_mean(h, r),
            part((double)r->others, r->n), r->n, r->failed);
        if (h->rows[i].iters)
            say(out, ", \"loss_first\": %.6f, \"loss_last\": %.6f", part(r->loss[0], r->n), part(r->loss[1], r->n));
        json_settings(out, &h->rows[i]);
        say(out, "}");
    }
}

static void json_maps(longtext *out, const eval_head *h, const eval_totals *t) {
    for (size_t i = 0; i < h->map_count; i++) {
        const map_totals *m = &t->maps[i];
        json_key(out, i, h->maps[i].name);
        json_share(out, "pointing", wilson(m->hits, m->n));
        say(out, ", ");
        json_share(out, "iou", iou_of(m));
        say(out, ", \"threshold\": %.2f, ", threshold_at(best_threshold(m)));
        json_share(out, "map", mean_of(m->ap, m->ap2, m->n));
        say(out, ", \"miou\": %.6f, \"n\": %zu", class_iou(h, m), m->n);
        json_settings(out, &h->maps[i]);
        say(out, "}");
    }
}

static void write_json(longtext *out, const eval_head *h, const eval_totals *t) {
    say(out, "{\n  \"methods\": {");
    json_methods(out, h, t);
    say(out, "\n  },\n  \"maps\": {");
    json_maps(out, h, t);
    say(out, "\n  },\n  \"referring\": {");
    for (size_t i = 0; i < h->row_count; i++) {
        json_key(out, i, h->rows[i].name);
        json_share(out, "acc", wilson(t->rows[i].right_phrases, t->rows[i].phrases));
        say(out, ", \"n\": %zu}", t->rows[i].phrases);
    }
    say(out, "\n  },\n  \"chance\": {\"acc1\": %.6f, \"referring\": %.6f},\n",
        h->row_count ? part(t->chance1, t->rows[0].n) : 0,
        h->row_count ? part(t->chance_phrase, t->rows[0].phrases) : 0);
    say(out,
        "  \"scenes\": %zu,\n  \"broken\": %zu,\n  \"names\": {\"drawn\": %zu, \"photographic\": %zu},\n  \"set\": ",
        t->scenes - t->broken, t->broken, h->name_count[0], h->name_count[1]);
    say_quoted(out, h->set);
    say(out, ",\n  \"model\": ");
    say_quoted(out, h->model);
    say(out, "\n}\n");
}

/* ---- all of it ------------------------------------------------------------------------------------------------------
 */
typedef void writer(longtext *out, const eval_head *h, const eval_totals *t);
static bool write_file(const char *folder, const char *name, writer *write, const eval_head *h, const eval_totals *t,
                       err *e) {
    longtext text = {0};
    write(&text, h, t);
    return say_into(&text, folder, name, e);
}

bool eval_finish(const char *folder, FILE *out, err *e) {
    results file = {0};
    eval_totals t = {0};
    bool ok = eval_count_all(folder, &file, &t, e);
    if (ok && file.count != eval_share(&file.head))
        ok = err_set(e, "%s: %zu scenes of %zu are there; start the run again", file.path, file.count,
                     eval_share(&file.head));
    ok = ok && write_file(folder, "table.csv", write_csv, &file.head, &t, e) &&
         write_file(folder, "names.csv", write_names, &file.head, &t, e) &&
         write_file(folder, "table.json", write_json, &file.head, &t, e) && page_write(folder, &file.head, &t, e);
    if (ok) print_table(out, &file.head, &t);
    eval_totals_free(&file.head, &t);
    results_close(&file);
    return ok;
}
