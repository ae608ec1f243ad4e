/* eval_page.c - report.html: one page that needs nothing else (see eval.h). Tables, curves, twenty examples. */
#include "eval/eval.h"
#include "pictures/sheet.h"
#include "os/os.h"
#include <math.h>
#include <string.h>

/* ---- small things ---------------------------------------------------------------------------------------- */
static void say_html(longtext *t, const char *text) {
    for (; *text; text++) {
        if (*text == '<')
            say(t, "&lt;");
        else if (*text == '>')
            say(t, "&gt;");
        else if (*text == '&')
            say(t, "&amp;");
        else if (*text == '"')
            say(t, "&quot;");
        else
            say(t, "%c", *text);
    }
}

static void say_base64(longtext *t, const unsigned char *bytes, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v =
            (unsigned)bytes[i] << 16 | (i + 1 < n ? (unsigned)bytes[i + 1] << 8 : 0) | (i + 2 < n ? bytes[i + 2] : 0u);
        char four[5] = {digits[v >> 18 & 63], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                        i + 2 < n ? digits[v & 63] : '=', 0};
        say(t, "%s", four);
    }
}

/* A picture as <img>; it passes through a file of the folder, since that is what PNGs are written to. */
static bool say_picture(longtext *t, const char *folder, const picture *p, const char *title, err *e) {
    char path[4096];
    size_t length;
    if ((size_t)snprintf(path, sizeof path, "%s/report.part.png", folder) >= sizeof path)
        return err_set(e, "%.200s...: the path is too long", folder);
    if (!picture_write_png(path, p, e)) return false;
    char *bytes = file_read(path, (size_t)1 << 28, &length, e);
    os_remove(path);
    if (!bytes) return false;
    say(t, "<img title=\"");
    say_html(t, title);
    say(t, "\" alt=\"\" src=\"data:image/png;base64,");
    say_base64(t, (const unsigned char *)bytes, length);
    say(t, "\">");
    mem_free(bytes);
    return true;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */
static void say_share(longtext *t, estimate v) {
    say(t, "<td><b>%.1f</b> <small>%.1f–%.1f</small></td>", 100 * v.value, 100 * v.low, 100 * v.high);
}

static void region_table(longtext *t, const eval_head *h, const eval_totals *all) {
    say(t, "<h2>Region embeddings</h2>\n<table><tr><th>region by</th><th>n</th><th>Acc@1</th><th>Acc@5</th>"
           "<th>mean per class</th><th>another object</th><th>referring</th><th>loss</th></tr>\n");
    for (size_t i = 0; i < h->row_count; i++) {
        const row_totals *r = &all->rows[i];
        double n = r->n ? (double)r->n : 1;
        say(t, "<tr><td>");
        say_html(t, h->rows[i].name);
        say(t, "</td><td>%zu</td>", r->n);
        say_share(t, wilson(r->hits1, r->n));
        say_share(t, wilson(r->hits5, r->n));
        say(t, "<td>%.1f</td><td>%.1f</td>", 100 * class_mean(h, r), 100 * (double)r->others / n);
        say_share(t, wilson(r->right_phrases, r->phrases));
        if (h->rows[i].iters)
            say(t, "<td>%.3f → %.3f</td>", r->loss[0] / n, r->loss[1] / n);
        else
            say(t, "<td></td>");
        say(t, "</tr>\n");
    }
    say(t,
        "<tr "
        "class=quiet><td>chance</td><td></td><td>%.1f</td><td></td><td></td><td></td><td>%.1f</td><td></td></tr>\n</"
        "table>\n",
        100 * all->chance1 / (all->rows[0].n ? (double)all->rows[0].n : 1),
        100 * all->chance_phrase / (all->rows[0].phrases ? (double)all->rows[0].phrases : 1));
}

static void map_table(longtext *t, const eval_head *h, const eval_totals *all) {
    say(t,
        "<h2>Maps</h2>\n<table><tr><th>map by</th><th>n</th><th>pointing</th><th>IoU</th><th>at</th><th>pixel AP</th>"
        "<th>mIoU</th></tr>\n");
    for (size_t i = 0; i < h->map_count; i++) {
        const map_totals *m = &all->maps[i];
        size_t best = best_threshold(m);
        say(t, "<tr><td>");
        say_html(t, h->maps[i].name);
        say(t, "</td><td>%zu</td>", m->n);
        say_share(t, wilson(m->hits, m->n));
        say_share(t, mean_of(m->iou[best], m->iou2[best], m->n));
        say(t, "<td>%.2f</td>", threshold_at(best));
        say_share(t, mean_of(m->ap, m->ap2, m->n));
        say(t, "<td>%.1f</td></tr>\n", 100 * class_iou(h, m));
    }
    say(t, "</table>\n");
}

/* ---- curves --------------------------------------------------------------------------------------------------- */
/* What can be swept: a row's value, and whether two rows are alike but for it. */
enum { BY_ITERS, BY_ALPHA, BY_LR, BY_LAYERS, BY_QUALITY, BY_SIZE, BY_BLOCKS, AXES };
static const char *const axis_names[AXES] = {"steps", "alpha", "lr", "layers", "mask quality", "size", "blocks"};

static double axis_value(const eval_row *r, int axis) {
    switch (axis) {
    case BY_ITERS:
        return (double)r->iters;
    case BY_ALPHA:
        return r->alpha;
    case BY_LR:
        return r->lr;
    case BY_LAYERS:
        return (double)r->layers;
    case BY_QUALITY:
        return (double)r->quality;
    case BY_SIZE:
        return (double)r->side;
    default:
        return (double)r->blocks;
    }
}

static bool alike_but(const eval_row *a, const eval_row *b, int axis) {
    if (strcmp(a->method, b->method) || strcmp(a->explainer, b->explainer)) return false;
    for (int i = 0; i < AXES; i++)
        if (i != axis && fabs(axis_value(a, i) - axis_value(b, i)) > 0) return false;
    return true;
}

enum { MOST_TICKS = 64, MOST_LINES = 8, WIDE = 420, HIGH = 260, LEFT = 44, TOP = 12, RIGHT = 12, BOTTOM = 34 };
typedef struct {
    const eval_head *h;
    const eval_totals *all;
    int axis;
    double tick[MOST_TICKS];
    size_t ticks, lines;
    double top; /* the y axis ends here */
} plot;

static double plot_x(const plot *p, double value) {
    size_t i = 0;
    while (i + 1 < p->ticks && fabs(p->tick[i] - value) > 0) i++;
    return LEFT + ((double)i + 0.5) * (WIDE - LEFT - RIGHT) / (double)p->ticks;
}
static double plot_y(const plot *p, double share) { return TOP + (1 - share / p->top) * (HIGH - TOP - BOTTOM); }

/* The axis' values in the order of their rows, sorted where they are numbers; the highest point. */
static void plot_scale(plot *p) {
    p->ticks = 0, p->top = 0.05;
    for (size_t i = 0; i < p->h->row_count; i++) {
        double v = axis_value(&p->h->rows[i], p->axis);
        bool swept = false, known = false;
        for (size_t k = 0; k < p->h->row_count; k++)
            swept = swept || (k != i && alike_but(&p->h->rows[i], &p->h->rows[k], p->axis));
        for (size_t k = 0; k < p->ticks; k++) known = known || !(fabs(p->tick[k] - v) > 0);
        if (!swept) continue;
        p->top = fmax(p->top, wilson(p->all->rows[i].hits1, p->all->rows[i].n).high);
        if (known || p->ticks == MOST_TICKS) continue;
        size_t at = p->ticks++;
        for (; at && p->tick[at - 1] > v; at--) p->tick[at] = p->tick[at - 1];
        p->tick[at] = v;
    }
    p->top = fmin(1, ceil(p->top * 10) / 10);
}

static void plot_frame(longtext *t, const plot *p) {
    say(t, "<svg viewBox=\"0 0 %d %d\" width=%d height=%d>", WIDE, HIGH, WIDE, HIGH);
    for (int i = 0; i <= 4; i++) {
        double share = p->top * i / 4, y = plot_y(p, share);
        say(t, "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text x=%d y=%.1f text-anchor=end>%.0f %%</text>", LEFT,
            WIDE - RIGHT, y, y, LEFT - 4, y + 4, 100 * share);
    }
    for (size_t i = 0; i < p->ticks; i++) {
        say(t, "<text x=%.1f y=%d text-anchor=middle>", plot_x(p, p->tick[i]), HIGH - BOTTOM + 14);
        if (p->axis == BY_QUALITY)
            say(t, "%s</text>", quality_names[(size_t)p->tick[i]]);
        else
            say(t, "%g</text>", p->tick[i]);
    }
    say(t, "<text x=%d y=%d text-anchor=middle class=axis>%s</text>", (LEFT + WIDE - RIGHT) / 2, HIGH - 4,
        axis_names[p->axis]);
}

/* The line through the rows like `first`, in the axis' order. */
static void plot_line(longtext *t, const plot *p, size_t first, const char *colour) {
    longtext path = {0};
    for (size_t k = 0; k < p->ticks; k++)
        for (size_t i = first; i < p->h->row_count; i++) {
            const eval_row *r = &p->h->rows[i];
            if (fabs(axis_value(r, p->axis) - p->tick[k]) > 0 ||
                (i != first && !alike_but(&p->h->rows[first], r, p->axis)))
                continue;
            estimate v = wilson(p->all->rows[i].hits1, p->all->rows[i].n);
            double x = plot_x(p, p->tick[k]), y = plot_y(p, v.value);
            say(&path, "%s%.1f,%.1f", path.length ? " " : "", x, y);
            say(t,
                "<line x1=%.1f x2=%.1f y1=%.1f y2=%.1f stroke=\"%s\" opacity=.45 /><circle cx=%.1f cy=%.1f r=3 "
                "fill=\"%s\" />",
                x, x, plot_y(p, v.low), plot_y(p, v.high), colour, x, y, colour);
        }
    if (path.text) say(t, "<polyline points=\"%s\" fill=none stroke=\"%s\" stroke-width=1.5 />", path.text, colour);
    mem_free(path.text);
}

/* The row's name without the swept setting. */
static void say_line_name(longtext *t, const eval_row *r, int axis) {
    static const char *const words[AXES] = {
        " iters=", " alpha=", " lr=", " layers=", " quality=", " size=", " blocks="};
    const char *from = strstr(r->name, words[axis]);
    char name[sizeof r->name];
    size_t before = from ? (size_t)(from - r->name) : strlen(r->name), after = 0;
    if (from) after = 1 + strcspn(from + 1, " ");
    snprintf(name, sizeof name, "%.*s%s", (int)before, r->name, from ? from + after : "");
    say_html(t, name);
}

static bool starts_line(const plot *p, size_t i) {
    bool others = false;
    for (size_t k = 0; k < p->h->row_count; k++) {
        if (k == i || !alike_but(&p->h->rows[i], &p->h->rows[k], p->axis)) continue;
        if (k < i) return false;
        others = true;
    }
    return others;
}

static void say_plot(longtext *t, plot *p) {
    static const char *const colours[MOST_LINES] = {"#c0392b", "#2471a3", "#1e8449", "#8e44ad",
                                                    "#d68910", "#17a2b8", "#7b5c3e", "#555"};
    longtext legend = {0};
    plot_scale(p);
    if (p->ticks < 2) return;
    say(t, "<figure><figcaption>Acc@1 against %s</figcaption>", axis_names[p->axis]);
    plot_frame(t, p);
    p->lines = 0;
    for (size_t i = 0; i < p->h->row_count; i++) {
        if (!starts_line(p, i) || p->lines++ >= MOST_LINES) continue;
        plot_line(t, p, i, colours[p->lines - 1]);
        say(&legend, "<span style=\"color:%s\">● ", colours[p->lines - 1]);
        say_line_name(&legend, &p->h->rows[i], p->axis);
        say(&legend, "</span> ");
    }
    say(t, "</svg><p class=legend>%s", legend.text ? legend.text : "");
    if (p->lines > MOST_LINES) say(t, "and %zu more in the table", p->lines - MOST_LINES);
    say(t, "</p></figure>\n");
    mem_free(legend.text);
}

static void say_plots(longtext *t, const eval_head *h, const eval_totals *all) {
    longtext plots = {0};
    for (int axis = 0; axis < AXES; axis++) {
        plot p = {.h = h, .all = all, .axis = axis};
        say_plot(&plots, &p);
    }
    if (plots.length) say(t, "<h2>Curves</h2>\n<div class=plots>%s</div>\n", plots.text);
    t->failed = t->failed || plots.failed;
    mem_free(plots.text);
}

/* ---- examples: which -------------------------------------------------------------------------------------------- */
enum { WORST = 10, TYPICAL = 10, EXAMPLES = WORST + TYPICAL, EXAMPLE_SIDE = 80 };
typedef struct {
    size_t scene;
    double badness;
    bool taken;
    longtext text;
} example;

/* The row whose maps are kept: maskinv's first, else the first of all. */
static size_t main_row(const eval_head *h) {
    for (size_t i = 0; i < h->row_count; i++)
        if (!strcmp(h->rows[i].method, "maskinv")) return i;
    return 0;
}

/* Mean logarithm of the right name's place; without regions, what the first explainer's AP lacks. */
static double badness(const eval_head *h, const eval_result *r) {
    double sum = 0;
    for (size_t k = 0; k < r->objects; k++)
        sum += h->row_count ? log2((double)r->rows[main_row(h)].rank[k]) : 1 - r->maps[0].ap[k];
    return r->objects ? sum / (double)r->objects : 0;
}

static void consider(example *x, size_t which, double bad) {
    size_t at = WORST;
    while (at && (!x[at - 1].taken || bad > x[at - 1].badness)) at--;
    if (at == WORST) return;
    memmove(x + at + 1, x + at, (WORST - 1 - at) * sizeof *x);
    x[at] = (example){.scene = which, .badness = bad, .taken = true};
}

static bool is_worst(const example *x, size_t which) {
    for (size_t i = 0; i < WORST; i++)
        if (x[i].taken && x[i].scene == which) return true;
    return false;
}

/* The worst, and others at even distances. */
static bool choose(const char *folder, example *x, err *e) {
    results file;
    eval_result r;
    bool end = false;
    if (!results_open(&file, folder, e)) return false;
    bool ok = eval_result_new(&r, &file.head, e);
    while (ok && !end) {
        ok = results_next(&file, &r, &end, e);
        if (ok && !end && !r.broken) consider(x, r.scene, badness(&file.head, &r));
    }
    size_t n = file.count;
    for (size_t i = 0; ok && i < TYPICAL; i++) {
        size_t line = i * n / TYPICAL, which = file.head.shard + line * file.head.shards;
        while (line + 1 < (i + 1) * n / TYPICAL && is_worst(x, which)) line++, which += file.head.shards;
        x[WORST + i] = (example){.scene = which, .taken = line < (i + 1) * n / TYPICAL};
    }
    eval_result_free(&r);
    results_close(&file);
    return ok;
}

/* ---- examples: shown -----------------------------------------------------------------------------------------------
 */
static const unsigned char colours[SCENE_MOST_OBJECTS][3] = {{230, 60, 50},   {40, 130, 230}, {40, 180, 80},
                                                             {240, 180, 30},  {170, 80, 220}, {30, 190, 200},
                                                             {240, 120, 190}, {130, 100, 70}};

static const char *name_at(const eval_head *h, const eval_result *r, uint32_t i) {
    return i < h->name_count[r->kind] ? h->names[r->kind][i] : "-";
}

static bool show_photo(longtext *t, const char *folder, const scene_record *s, picture *small, err *e) {
    picture photo, outlined;
    if (!picture_read(s->image, &photo, e)) return false;
    bool ok = picture_within(&photo, EXAMPLE_SIDE, true, small, e);
    picture_free(&photo);
    if (!ok || !picture_within(small, 2 * EXAMPLE_SIDE, true, &outlined, e))
        return ok ? picture_free(small), false : false;
    for (size_t k = 0; k < s->objects; k++) {
        mask_image m;
        if (!mask_read(s->object[k].mask, &m, e)) continue; /* the scene was evaluated: its mask was there */
        picture_outline(&outlined, &m, colours[k]);
        mask_free(&m);
    }
    ok = say_picture(t, folder, &outlined, s->image, e);
    picture_free(&outlined);
    if (!ok) picture_free(small);
    return ok;
}

static bool show_map(longtext *t, const char *folder, const picture *small, const unsigned char *thumb,
                     const char *title, err *e) {
    float map[THUMB * THUMB];
    picture heat;
    for (size_t i = 0; i < THUMB * THUMB; i++) map[i] = (float)thumb[i] / 255;
    if (!picture_heat(small, map, THUMB, THUMB, &heat, e)) return false;
    bool ok = say_picture(t, folder, &heat, title, e);
    picture_free(&heat);
    return ok;
}

static bool show_object(longtext *t, const char *folder, const eval_head *h, const eval_result *r, const picture *small,
                        size_t k, err *e) {
    size_t best = main_row(h);
    bool ok = true;
    say(t, "<div class=object><b style=\"color:rgb(%d,%d,%d)\">■</b> ", colours[k][0], colours[k][1], colours[k][2]);
    say_html(t, name_at(h, r, r->name[k]));
    for (size_t i = 0; i < h->row_count && i <= best; i++) {
        const eval_row_result *w = &r->rows[i];
        if (i && i != best) continue; /* the first row and the main one */
        say(t, "<br><small>");
        say_html(t, h->rows[i].name);
        say(t, ": place %u, ", (unsigned)w->rank[k]);
        for (size_t top = 0; top < EVAL_TOP; top++) {
            if (top) say(t, ", ");
            say_html(t, name_at(h, r, w->top[k][top]));
        }
        say(t, "</small>");
    }
    say(t, "<br>");
    if (small->rgb && h->row_count && r->rows[best].has_thumb)
        ok = show_map(t, folder, small, r->rows[best].thumb[k], h->rows[best].name, e);
    for (size_t i = 0; ok && small->rgb && i < h->map_count; i++)
        if (r->maps[i].has_thumb) ok = show_map(t, folder, small, r->maps[i].thumb[k], h->maps[i].name, e);
    say(t, "</div>");
    return ok;
}

static bool show_example(longtext *t, const char *folder, const eval_head *h, const eval_result *r,
                         const scene_record *s, err *e) {
    picture small = {0};
    err missing = {0};
    bool ok = true;
    say(t, "<div class=example><div>scene %zu<br>", r->scene);
    if (r->broken)
        say(t, "broken: "), say_html(t, r->error);
    else if (!show_photo(t, folder, s, &small, &missing))
        say(t, "(the picture is not there any more)"), small.rgb = NULL;
    say(t, "</div>");
    for (size_t k = 0; ok && k < r->objects; k++) ok = show_object(t, folder, h, r, &small, k, e);
    say(t, "</div>\n");
    picture_free(&small);
    return ok;
}

/* The set's record of a scene that comes after the last one asked for. */
static bool seek_record(scene_reader *reader, size_t *next, size_t which, scene_record *s) {
    err unheard;
    while (reader && *next <= which) {
        scene_reading how = scene_reader_next(reader, s, &unheard);
        if (how == SCENE_END) return false;
        if ((*next)++ == which) return how == SCENE_READ;
    }
    return false;
}

static bool fill_examples(const char *folder, const eval_head *h, example *x, scene_reader *reader, scene_record *s,
                          err *e) {
    results file;
    eval_result r;
    bool end = false;
    size_t next = 0;
    if (!results_open(&file, folder, e)) return false;
    bool ok = eval_result_new(&r, &file.head, e);
    while (ok && !end) {
        ok = results_next(&file, &r, &end, e);
        for (size_t i = 0; ok && !end && i < EXAMPLES; i++) {
            if (!x[i].taken || x[i].scene != r.scene) continue;
            if (!seek_record(reader, &next, r.scene, s) && !r.broken && next <= r.scene) memset(s, 0, sizeof *s);
            ok = show_example(&x[i].text, folder, h, &r, s, e);
        }
    }
    eval_result_free(&r);
    results_close(&file);
    return ok;
}

static bool say_examples(longtext *t, const char *folder, const eval_head *h, err *e) {
    example x[EXAMPLES] = {0};
    err unheard;
    scene_reader *reader = NULL;
    scene_record *s = mem_alloc(1, sizeof *s);
    bool ok = s != NULL || err_set(e, "no memory for a scene");
    ok = ok && choose(folder, x, e);
    if (ok) reader = scene_reader_open(h->set, &unheard); /* the set may have gone: then without pictures */
    ok = ok && fill_examples(folder, h, x, reader, s, e);
    scene_reader_free(reader);
    say(t, "<h2>Examples</h2>\n<p>Maps, in this order: ");
    if (h->row_count && !strcmp(h->rows[main_row(h)].method, "maskinv"))
        say_html(t, h->rows[main_row(h)].name), say(t, "'s last step; ");
    for (size_t i = 0; i < h->map_count && i < 3; i++) say_html(t, h->maps[i].name), say(t, " for the object's name; ");
    say(t, "</p>\n<h3>The worst</h3>\n");
    for (size_t i = 0; i < EXAMPLES; i++) {
        if (i == WORST) say(t, "<h3>At even distances through the set</h3>\n");
        if (x[i].text.text) say(t, "%s", x[i].text.text);
        t->failed = t->failed || x[i].text.failed;
        mem_free(x[i].text.text);
    }
    mem_free(s);
    return ok;
}

/* ---- the page
 * ------------------------------------------------------------------------------------------------------------ */
static const char style[] =
    "body{font:15px/1.4 sans-serif;margin:2em auto;max-width:1100px;padding:0 "
    "1em;color:#222}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid "
    "#ddd}td:first-child,th:first-child{text-align:left}"
    "small{color:#666}.quiet{color:#888}.plots{display:flex;flex-wrap:wrap;gap:1em}figure{margin:0}svg{font-size:11px}"
    ".grid{stroke:#e4e4e4}.legend{max-width:420px;font-size:12px;margin:0}.example{display:flex;gap:1em;flex-wrap:wrap;"
    "border-bottom:1px solid #ddd;padding:.6em 0}.object{max-width:440px}.object img,.example img{margin:2px}";

bool page_write(const char *folder, const eval_head *h, const eval_totals *all, err *e) {
    char path[4096];
    longtext t = {0};
    out_file f;
    if ((size_t)snprintf(path, sizeof path, "%s/report.html", folder) >= sizeof path)
        return err_set(e, "%.200s...: the path is too long", folder);
    say(&t, "<!doctype html>\n<html lang=en><meta charset=utf-8><title>maskinv eval</title>\n<style>%s</style>\n",
        style);
    say(&t, "<h1>Region embeddings and maps, compared</h1>\n<p>%zu scenes of ", all->scenes - all->broken);
    say_html(&t, h->set);
    say(&t, "%s, model ", all->broken ? " (broken ones left out)" : "");
    say_html(&t, h->model);
    say(&t, ". Names asked for: %zu drawn, %zu photographic. Per cent, with 95 %% intervals.</p>\n", h->name_count[0],
        h->name_count[1]);
    if (h->row_count) region_table(&t, h, all);
    if (h->map_count) map_table(&t, h, all);
    say_plots(&t, h, all);
    bool ok = say_examples(&t, folder, h, e);
    say(&t, "</html>\n");
    if (ok && t.failed) ok = err_set(e, "%s: no memory", path);
    if (ok && (ok = out_open(&f, path, e))) {
        fwrite(t.text, 1, t.length, f.stream);
        ok = out_close(&f, e);
    }
    mem_free(t.text);
    return ok;
}
