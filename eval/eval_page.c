/* eval_page.c - report.html: one page that needs nothing else (see eval_page.h). Tables, charts, curves, twenty examples. */
#include "eval/eval_page.h"
#include "maskinv.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- tables ------------------------------------------------------------------------------------------------- */
static double share(size_t hits, size_t n) { return n ? (double)hits / (double)n : 0; }

static void say_share(longtext *t, estimate v) {
    say(t, "<td><b>%.1f</b> <small>%.1f–%.1f</small></td>", 100 * v.value, 100 * v.low, 100 * v.high);
}

static void region_table(longtext *t, const eval_head *h, const eval_totals *all) {
    size_t best = 0;
    for (size_t i = 1; i < h->row_count; i++)
        if (share(all->rows[i].hits1, all->rows[i].n) > share(all->rows[best].hits1, all->rows[best].n)) best = i;
    say(t, "<h2>Region embeddings</h2>\n<div class=wide><table><tr><th>region by</th><th>n</th><th>Acc@1</th><th>Acc@5</th>"
           "<th>mean per class</th><th>another object</th><th>referring</th><th>loss</th></tr>\n");
    for (size_t i = 0; i < h->row_count; i++) {
        const row_totals *r = &all->rows[i];
        double n = r->n ? (double)r->n : 1;
        say(t, "<tr%s><td>", i == best ? " class=best" : "");
        say_html(t, h->rows[i].name);
        say(t, "%s</td><td>%zu</td>", i == best ? " ★" : "", r->n);
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
        "table></div>\n",
        100 * all->chance1 / (all->rows[0].n ? (double)all->rows[0].n : 1),
        100 * all->chance_phrase / (all->rows[0].phrases ? (double)all->rows[0].phrases : 1));
}

static void map_table(longtext *t, const eval_head *h, const eval_totals *all) {
    size_t best_map = 0;
    for (size_t i = 1; i < h->map_count; i++)
        if (share(all->maps[i].hits, all->maps[i].n) > share(all->maps[best_map].hits, all->maps[best_map].n)) best_map = i;
    say(t,
        "<h2>Maps</h2>\n<div class=wide><table><tr><th>map by</th><th>n</th><th>pointing</th><th>IoU</th><th>at</th><th>pixel AP</th>"
        "<th>mIoU</th></tr>\n");
    for (size_t i = 0; i < h->map_count; i++) {
        const map_totals *m = &all->maps[i];
        size_t best = best_threshold(m);
        say(t, "<tr%s><td>", i == best_map ? " class=best" : "");
        say_html(t, h->maps[i].name);
        say(t, "%s</td><td>%zu</td>", i == best_map ? " ★" : "", m->n);
        say_share(t, wilson(m->hits, m->n));
        say_share(t, mean_of(m->iou[best], m->iou2[best], m->n));
        say(t, "<td>%.2f</td>", threshold_at(best));
        say_share(t, mean_of(m->ap, m->ap2, m->n));
        say(t, "<td>%.1f</td></tr>\n", 100 * class_iou(h, m));
    }
    say(t, "</table></div>\n");
}

/* ---- head and foot --------------------------------------------------------------------------------------- */
const char eval_style[] =
    ":root{color-scheme:light dark;--ink:#1c1e21;--dim:#5d646d;--paper:#fff;--line:#dcdfe3;--soft:#f3f5f7;--bar:#9db8d2;"
    "--best:#0072b2}@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--dim:#a2a9b1;--paper:#16181b;--line:#363b41;"
    "--soft:#22262a;--bar:#4a6580;--best:#56b4e9}polyline,circle,.charts line:not(.grid){filter:brightness(1.5)}}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1160px;padding:1em;color:var(--ink);"
    "background:var(--paper)}h1{font-size:1.6em;line-height:1.2}h2{margin:2em 0 .6em}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "td,th{padding:.25em .5em;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left;position:sticky;left:0;background:var(--paper);max-width:46vw;"
    "min-width:7em;white-space:normal;overflow-wrap:break-word;line-height:1.25}tr.best td{background:var(--soft);font-weight:600}"
    "small,.quiet,figcaption,.foot{color:var(--dim)}.charts{display:grid;gap:1.5em;"
    "grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr))}figure{margin:0}figcaption{font-size:.9em}"
    "svg{width:100%;max-width:560px;height:auto;font-size:12px;fill:var(--ink)}svg text{fill:var(--ink)}"
    "text.best{font-weight:700}.bar{fill:var(--bar)}.bar.best{fill:var(--best)}.whisker{stroke:var(--ink);fill:none}"
    ".grid{stroke:var(--line)}.legend{font-size:.85em;margin:0}.key{white-space:nowrap;margin-right:1em}"
    ".sample{width:32px;height:8px}summary{cursor:pointer;padding:.4em 0;color:var(--best)}"
    ".example{border-bottom:1px solid var(--line);padding:1em 0;display:grid;gap:1em;"
    "grid-template-columns:minmax(0,250px) minmax(0,1fr)}.object{margin-bottom:.8em}"
    ".swatch{display:inline-block;min-width:1.3em;text-align:center;color:#000;border:1px solid var(--ink)}"
    ".thumbs{display:flex;flex-wrap:wrap;gap:.5em}.thumb img{display:block;max-width:100%}.thumbs .thumb{width:112px}"
    ".thumb figcaption{font-size:.75em;line-height:1.2;overflow-wrap:anywhere}"
    ".foot{margin-top:3em;border-top:1px solid var(--line);padding-top:.6em;font-size:.9em}"
    "code{overflow-wrap:anywhere;background:var(--soft);padding:.1em .3em}"
    "@media(max-width:640px){.example{grid-template-columns:1fr}svg{font-size:14.5px}}";

/* Of tables with a bar a row, 0 to 100, and the published number on it. */
const char eval_bar_style[] =
    "td svg{width:200px;vertical-align:middle}.known{stroke:var(--ink);stroke-width:2;stroke-dasharray:3 2}th.scale{text-align:left;"
    "color:var(--dim);font-weight:400}th.scale span{float:right}th.group{text-align:center;border-left:1px solid var(--line)}"
    "@media(max-width:640px){td svg{width:80px}td,th{padding:.25em .35em}}";

/* The sides the pictures were squashed to: "96" or "96, 128". */
static void say_sides(longtext *t, const eval_row *rows, size_t count) {
    for (size_t i = 0, said = 0; i < count; i++) {
        bool known = !rows[i].side;
        for (size_t k = 0; k < i; k++) known = known || rows[k].side == rows[i].side;
        if (!known) say(t, "%s%zu", said++ ? ", " : "", rows[i].side);
    }
}

/* Methods and explainers as the command was given them: each once. */
static void say_methods(longtext *t, const char *flag, const eval_row *rows, size_t count) {
    for (size_t i = 0, said = 0; i < count; i++) {
        bool known = false;
        for (size_t k = 0; k < i; k++) known = known || !strcmp(rows[k].method, rows[i].method);
        if (known) continue;
        say(t, said++ ? "," : " %s ", flag);
        say_html(t, rows[i].method);
    }
}

/* The day it was made: SOURCE_DATE_EPOCH's where that is set, so that a page can be made again to the byte. */
static void say_day(longtext *t) {
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t now = fixed ? (time_t)strtoll(fixed, NULL, 10) : time(NULL);
    char day[32];
    struct tm *utc = gmtime(&now);
    if (utc && strftime(day, sizeof day, "%Y-%m-%d", utc)) say(t, "%s", day);
}

static void say_head(longtext *t, const eval_head *h, const eval_totals *all) {
    say(t,
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport "
        "content=\"width=device-width,initial-scale=1\"><title>maskinv eval</title>\n<style>%s</style>\n",
        eval_style);
    say(t, "<h1>Region embeddings and maps, compared</h1>\n<p>%zu scenes of ", all->scenes - all->broken);
    say_html(t, h->set);
    say(t, "%s, model ", all->broken ? " (broken ones left out)" : "");
    say_html(t, h->model);
    say(t, ", pictures of ");
    say_sides(t, h->row_count ? h->rows : h->maps, h->row_count ? h->row_count : h->map_count);
    say(t,
        " pixels a side. Names asked for: %zu drawn, %zu photographic. Numbers in per cent, with 95 %% intervals; ★ marks "
        "the best row.</p>\n",
        h->name_count[0], h->name_count[1]);
}

static void say_foot(longtext *t, const eval_head *h) {
    say(t, "<p class=foot>Made by maskinv " MASKINV_VERSION " on ");
    say_day(t);
    say(t, " from the weights with the hash %016" PRIx64 ":<br><code>maskinv eval -d ", h->weights);
    say_html(t, h->set);
    say_methods(t, "--methods", h->rows, h->row_count);
    say_methods(t, "--explainers", h->maps, h->map_count);
    say(t, "</code><br>Settings that differ from row to row stand in the rows' names. The numbers as data: table.csv, "
           "table.json; every scene's: results.jsonl.</p>\n</html>\n");
}

bool page_write(const char *folder, const eval_head *h, const eval_totals *all, err *e) {
    longtext t = {0};
    say_head(&t, h, all);
    say_method_charts(&t, h, all);
    if (h->row_count) region_table(&t, h, all);
    if (h->map_count) map_table(&t, h, all);
    say_curves(&t, h, all);
    bool ok = say_examples(&t, folder, h, e);
    say_foot(&t, h);
    if (ok) return say_into(&t, folder, "report.html", e);
    mem_free(t.text);
    return false;
}
