/* survey_anomaly.c - AnoVL on MVTec AD and VisA: a line a picture, then each class's measures and their means (see survey.h;
 * MODEL.md 11).
 *
 * A line has the patches' probabilities and the true mask's run lengths at the map's size: the map is made of them again
 * when the run is added up, one class at a time, so that no more than a class's maps are held.
 */
#include "eval/survey.h"
#include "eval/measures.h"
#include "eval/survey_totals.h"
#include "files/files.h"
#include "files/json.h"
#include "masks/rle.h"
#include "os/os.h"
#include <math.h>
#include <string.h>

static const double PRO_LIMIT = .3;

/* ---- the classes' sentences ------------------------------------------------------------------------------- */
bool survey_anomaly_open(survey *s, arena *memory, pool *cores, err *e) {
    if (strcmp(s->set->name, "mvtec_ad") != 0 && strcmp(s->set->name, "visa") != 0)
        return err_set(e, "--task anomaly: dataset %s found, mvtec_ad or visa expected", s->set->name);
    if (!s->anovl.side) s->anovl.side = s->model->config.image;
    if (!(s->states = mem_alloc(s->class_count, sizeof *s->states))) return err_set(e, "no memory for %zu classes", s->class_count);
    for (size_t i = 0; i < s->class_count; i++)
        if (!anovl_texts_make(s->weights, s->classes[i].name, memory, cores, &s->states[i], e)) return false;
    return true;
}

/* ---- a picture's line --------------------------------------------------------------------------------------- */
/* The union of its flawed regions, bilinear to [h,w], above 1/2. */
static bool say_mask(const survey_picture *p, size_t h, size_t w, longtext *line, err *e) {
    size_t n = p->width * p->height;
    unsigned char *bits = mem_alloc(n > h * w ? n : h * w, 1);
    real *soft = mem_alloc(n, sizeof *soft), *small = mem_alloc(h * w, sizeof *small);
    bool ok = (bits && soft && small) || err_set(e, "no memory for a mask of %zux%zu pixels", p->width, p->height);
    for (size_t i = 0; ok && i < p->count; i++) {
        const char *rle = p->regions[i].rle;
        ok = rle_decode(rle, strlen(rle), p->height, p->width, bits, e);
        for (size_t k = 0; ok && k < n; k++)
            if (bits[k]) soft[k] = 1;
    }
    if (ok) {
        longtext text = {0};
        map_resize(soft, p->height, p->width, small, h, w);
        for (size_t k = 0; k < h * w; k++) bits[k] = small[k] > (real).5;
        rle_encode(bits, h, w, &text);
        say_quoted(line, text.text ? text.text : "");
        line->failed = line->failed || text.failed;
        mem_free(text.text);
    }
    mem_free(bits), mem_free(soft), mem_free(small);
    return ok;
}

bool survey_anomaly_measure(const survey *s, const survey_picture *p, const picture *photo, arena *memory, longtext *line, err *e) {
    anovl_options o = s->anovl;
    anovl_result r;
    size_t h, w;
    if (p->class_index < 0 || (size_t)p->class_index >= s->class_count || !p->judged) {
        say(line, ",\"broken\":\"%s\",\"lost\":%zu}\n", p->judged ? "no class" : "whether it is flawed, or where, is not told", p->count);
        return true;
    }
    if (!anovl_measure(s->model, &s->states[p->class_index], photo, &o, memory, NULL, &r, e)) return false;
    anovl_sides(&r, &h, &w);
    say(line, ",\"anomalous\":%s,\"score\":%.9g,\"gh\":%zu,\"gw\":%zu,\"side\":%zu,\"shift\":%zu,\"upright\":%d,\"mask\":",
        p->anomalous ? "true" : "false", r.score, r.gh, r.gw, r.side, r.shift, r.upright);
    bool ok = say_mask(p, h, w, line, e);
    say(line, ",\"grid\":[");
    for (size_t i = 0; i < r.gh * r.gw * (o.tiled ? 2 : 1); i++) say(line, "%s%.*g", i ? "," : "", REAL_DIGITS, (double)r.grid[i]);
    say(line, "]}\n");
    anovl_free(&r);
    return ok;
}

/* ---- results.jsonl, held as text -------------------------------------------------------------------------------- */
typedef struct {
    cJSON *head;
    longtext all;   /* the lines */
    size_t *start;  /* [lines] where each begins in it */
    long *of;       /* [lines] its class; -1: none */
    size_t lines, room[2], pictures, broken, left;
    survey_left left_out;
} run_lines;

static const cJSON *field(const cJSON *o, const char *key) { return cJSON_GetObjectItemCaseSensitive(o, key); }
static size_t whole(const cJSON *o, const char *key) {
    size_t n = 0;
    return json_whole(field(o, key), &n) ? n : 0;
}

static cJSON *parse_line(const run_lines *l, size_t i, err *e) {
    const char *text = l->all.text + l->start[i];
    return json_parse(text, strcspn(text, "\n"), "results.jsonl", e);
}

static bool take_line(run_lines *l, size_t start, err *e) {
    if (!mem_grow(&l->start, &l->room[0], l->lines + 1, sizeof *l->start) || !mem_grow(&l->of, &l->room[1], l->lines + 1, sizeof *l->of))
        return err_set(e, "no memory for %zu lines of results", l->lines + 1);
    l->start[l->lines] = start, l->of[l->lines] = -1;
    size_t i = l->lines++;
    cJSON *j = parse_line(l, i, e);
    if (!j) return false;
    if (i == 0) return l->head = j, true;
    l->left += (size_t)cJSON_GetArraySize(field(j, "left"));
    survey_left_add(&l->left_out, j);
    if (!field(j, "end")) l->pictures++;
    l->broken += field(j, "broken") != NULL;
    if (field(j, "score")) l->of[i] = (long)whole(j, "class");
    json_free(j);
    return true;
}

static bool read_run(const char *folder, run_lines *l, err *e) {
    char path[4096];
    file_map f;
    memset(l, 0, sizeof *l);
    if ((size_t)snprintf(path, sizeof path, "%s/results.jsonl", folder) >= sizeof path)
        return err_set(e, "%.200s...: the path is too long", folder);
    if (!file_map_open(path, &f, e)) return false;
    say_bytes(&l->all, (const char *)f.data, f.length);
    file_map_close(&f);
    if (l->all.failed) return err_set(e, "%s: no memory", path);
    for (size_t at = 0; at < l->all.length; at += strcspn(l->all.text + at, "\n") + 1)
        if (!take_line(l, at, e)) return false;
    return l->head || err_set(e, "%s: is empty", path);
}

static void free_run(run_lines *l) {
    json_free(l->head);
    mem_free(l->all.text), mem_free(l->start), mem_free(l->of), mem_free(l->left_out.items.text);
}

bool survey_is_anomaly(const char *folder) {
    char path[4096], line[1 << 13];
    if ((size_t)snprintf(path, sizeof path, "%s/results.jsonl", folder) >= sizeof path) return false;
    FILE *f = os_open(path, "rb");
    bool is = f && fgets(line, sizeof line, f) && strstr(line, ",\"task\":\"anomaly\",");
    if (f) fclose(f);
    return is;
}

/* ---- a class ---------------------------------------------------------------------------------------------------------- */
enum { IMAGE_AUROC, IMAGE_F1, IMAGE_AUPR, PIXEL_AUROC, PIXEL_F1, PIXEL_AP, PRO_CODE, PRO_WHOLE, COLUMNS };
static const char *const columns[COLUMNS] = {"image_auroc", "image_f1_max", "image_aupr", "pixel_auroc",
                                             "pixel_f1_max", "pixel_ap", "pro", "pro_whole"};
static const char *const titles[COLUMNS] = {"image AUROC", "F1-max", "AUPR", "pixel AUROC", "F1-max", "AP", "PRO", "PRO whole"};
typedef struct {
    char name[64];
    size_t pictures, anomalous;
    double value[COLUMNS]; /* NAN: not to be had */
} class_row;

typedef struct {
    double *map, *score;
    unsigned char *mask, *bad;
    size_t *height, *width, count, pixels, room[6];
} class_maps;

static void free_maps(class_maps *c) {
    mem_free(c->map), mem_free(c->score), mem_free(c->mask), mem_free(c->bad), mem_free(c->height), mem_free(c->width);
}

static bool grow_maps(class_maps *c, size_t pixels) {
    size_t n = c->count + 1;
    return mem_grow(&c->map, &c->room[0], c->pixels + pixels, sizeof *c->map) &&
           mem_grow(&c->mask, &c->room[1], c->pixels + pixels, 1) && mem_grow(&c->score, &c->room[2], n, sizeof *c->score) &&
           mem_grow(&c->bad, &c->room[3], n, 1) && mem_grow(&c->height, &c->room[4], n, sizeof *c->height) &&
           mem_grow(&c->width, &c->room[5], n, sizeof *c->width);
}

enum { SIDE_MOST = 16384 };
/* What is read may have been written by another. */
static bool take_map(class_maps *c, const cJSON *line, err *e) {
    anovl_result r = {.gh = whole(line, "gh"), .gw = whole(line, "gw"), .side = whole(line, "side"), .shift = whole(line, "shift"),
                      .upright = whole(line, "upright") == 1};
    const cJSON *v, *grid = field(line, "grid"), *mask = field(line, "mask"), *score = field(line, "score");
    size_t n = (size_t)cJSON_GetArraySize(grid), h, w, i = 0;
    bool fits = r.gh && r.gw && r.side && r.gh <= r.side && r.gw <= r.side && r.side <= SIDE_MOST && r.shift <= r.side &&
                (n == r.gh * r.gw || n == 2 * r.gh * r.gw) && !(r.shift && n == r.gh * r.gw);
    if (!fits || !cJSON_IsString(mask) || !cJSON_IsNumber(score)) return err_set(e, "results.jsonl: a line that is no result");
    anovl_sides(&r, &h, &w);
    real *map = mem_alloc(h * w, sizeof *map);
    bool ok = (map && (r.grid = mem_alloc(n, sizeof *r.grid)) && grow_maps(c, h * w)) || err_set(e, "no memory for a map");
    cJSON_ArrayForEach(v, grid) if (ok) r.grid[i++] = (real)v->valuedouble;
    ok = ok && (anovl_whole_map(&r, map) || err_set(e, "no memory for a map")) &&
         rle_decode(mask->valuestring, strlen(mask->valuestring), h, w, c->mask + c->pixels, e);
    for (size_t k = 0; ok && k < h * w; k++) c->map[c->pixels + k] = (double)map[k];
    if (ok) {
        c->height[c->count] = h, c->width[c->count] = w;
        c->score[c->count] = score->valuedouble, c->bad[c->count] = cJSON_IsTrue(field(line, "anomalous")) ? 1 : 0;
        c->count++, c->pixels += h * w;
    }
    mem_free(map);
    anovl_free(&r);
    return ok;
}

static bool measure_class(const run_lines *l, long which, class_row *row, err *e) {
    class_maps c = {0};
    measured image, pixel;
    bool ok = true;
    for (size_t i = 1; ok && i < l->lines; i++) {
        if (l->of[i] != which) continue;
        cJSON *line = parse_line(l, i, e);
        ok = line && take_map(&c, line, e);
        json_free(line);
    }
    for (size_t i = 0; i < COLUMNS; i++) row->value[i] = NAN;
    if (ok && c.count) {
        region_maps r = {c.map, c.mask, c.height, c.width, c.count};
        ok = measure_scores(c.score, c.bad, c.count, &image, e) && measure_scores(c.map, c.mask, c.pixels, &pixel, e) &&
             measure_pro(&r, PRO_LIMIT, &row->value[PRO_WHOLE], &row->value[PRO_CODE], e);
        if (ok) {
            row->value[IMAGE_AUROC] = image.auroc, row->value[IMAGE_F1] = image.f1, row->value[IMAGE_AUPR] = image.aupr;
            row->value[PIXEL_AUROC] = pixel.auroc, row->value[PIXEL_F1] = pixel.f1, row->value[PIXEL_AP] = pixel.ap;
        }
        row->pictures = c.count;
        for (size_t i = 0; i < c.count; i++) row->anomalous += c.bad[i];
    }
    free_maps(&c);
    return ok;
}

/* ---- tables -------------------------------------------------------------------------------------------------------------- */
typedef struct {
    const run_lines *lines;
    class_row *row; /* [count], the last one the mean */
    size_t count;
} anomaly_table;

/* Means over the classes that have a value. */
static void add_mean(anomaly_table *t) {
    class_row *mean = &t->row[t->count++];
    snprintf(mean->name, sizeof mean->name, "mean");
    for (size_t k = 0; k < COLUMNS; k++) {
        double sum = 0, n = 0;
        for (size_t i = 0; i + 1 < t->count; i++)
            if (!isnan(t->row[i].value[k])) sum += t->row[i].value[k], n++;
        mean->value[k] = sum / n;
    }
    for (size_t i = 0; i + 1 < t->count; i++) mean->pictures += t->row[i].pictures, mean->anomalous += t->row[i].anomalous;
}

static const char *text_in(const cJSON *o, const char *key) {
    const cJSON *v = field(o, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

/* AnoVL with its adapter, by ViT-B-16-plus-240: image's number is the authors' as others cite it, MVTec's pixels and PRO too;
 * VisA's of a re-implementation (BaoIAD). */
static double known_of(const anomaly_table *t, size_t column) {
    static const struct {
        const char *set;
        size_t column;
        double value;
    } known[] = {{"mvtec_ad", IMAGE_AUROC, 92.5}, {"mvtec_ad", PIXEL_AUROC, 90.6}, {"mvtec_ad", PRO_CODE, 77.8},
                 {"visa", IMAGE_AUROC, 79.2},     {"visa", PIXEL_AUROC, 87.8},     {"visa", PIXEL_F1, 14.8}, {"visa", PRO_CODE, 66.9}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].set, text_in(t->lines->head, "dataset")) && known[i].column == column) return known[i].value;
    return (double)NAN;
}

static void say_cell(longtext *out, const char *format, const char *none, double v) {
    if (isnan(v))
        say(out, "%s", none);
    else
        say(out, format, v);
}

static void say_csv(const anomaly_table *t, longtext *out) {
    say(out, "class,pictures,anomalous");
    for (size_t k = 0; k < COLUMNS; k++) say(out, ",%s", columns[k]);
    for (size_t i = 0; i < t->count; i++) {
        say(out, "\n%s,%zu,%zu", t->row[i].name, t->row[i].pictures, t->row[i].anomalous);
        for (size_t k = 0; k < COLUMNS; k++) say(out, ","), say_cell(out, "%.9g", "", t->row[i].value[k]);
    }
    say(out, "\n");
}

static void say_json(const anomaly_table *t, longtext *out) {
    const cJSON *h = t->lines->head;
    say(out, "{\n  \"task\": \"anomaly\",\n  \"dataset\": \"%s\",\n  \"split\": ", text_in(h, "dataset"));
    say_quoted(out, text_in(h, "split"));
    say(out, ",\n  \"model\": ");
    say_quoted(out, text_in(h, "model"));
    say(out, ",\n  \"size\": %zu, \"steps\": %zu, \"seed\": %zu, \"views\": %zu, \"tiles\": %zu,", whole(h, "size"), whole(h, "steps"),
        whole(h, "seed"), whole(h, "views"), whole(h, "tiles"));
    say(out, "\n  \"pictures\": %zu, \"broken\": %zu, \"left_out\": %zu,\n  \"classes\": [", t->lines->pictures, t->lines->broken,
        t->lines->left);
    for (size_t i = 0; i < t->count; i++) {
        say(out, i ? ",\n    {\"class\": " : "\n    {\"class\": ");
        say_quoted(out, t->row[i].name);
        say(out, ", \"pictures\": %zu, \"anomalous\": %zu", t->row[i].pictures, t->row[i].anomalous);
        for (size_t k = 0; k < COLUMNS; k++) say(out, ", \"%s\": ", columns[k]), say_cell(out, "%.17g", "null", t->row[i].value[k]);
        say(out, "}");
    }
    say(out, "\n  ],\n  \"published\": {");
    for (size_t k = 0, n = 0; k < COLUMNS; k++)
        if (!isnan(known_of(t, k))) say(out, "%s\"%s\": %.1f", n++ ? ", " : "", columns[k], known_of(t, k));
    say(out, "}\n}\n");
}

static void say_text(const anomaly_table *t, longtext *out) {
    say(out, "%-14s %8s %9s", "class", "pictures", "anomalous");
    for (size_t k = 0; k < COLUMNS; k++) say(out, " %11s", titles[k]);
    for (size_t i = 0; i <= t->count; i++) {
        bool known = i == t->count;
        if (known)
            say(out, "\n%-14s %8s %9s", "published", "", "");
        else
            say(out, "\n%-14s %8zu %9zu", t->row[i].name, t->row[i].pictures, t->row[i].anomalous);
        for (size_t k = 0; k < COLUMNS; k++)
            say_cell(out, " %11.1f", "           -", known ? known_of(t, k) : 100 * t->row[i].value[k]);
    }
    say(out, "\n%zu pictures; %zu that could not be judged, %zu left out. PRO: the code's 200 thresholds, stretched to 0..1 below %.1f; "
             "PRO whole:\nevery threshold, divided by %.1f.\n",
        t->lines->pictures, t->lines->broken, t->lines->left, PRO_LIMIT, PRO_LIMIT);
}

static void say_page(const anomaly_table *t, longtext *out) {
    const cJSON *h = t->lines->head;
    say(out, "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">"
             "<title>Anomalies</title><style>%s%s</style><h1>",
        eval_style, eval_bar_style);
    say_html(out, text_in(h, "title"));
    say(out, ": anomalies</h1>\n<p>Model ");
    say_html(out, text_in(h, "model"));
    say(out, ", %zu pixels, %zu step%s of the adapter, seed %zu. %zu pictures; %zu could not be judged, %zu left out.</p>\n"
             "<div class=wide><table><tr><th></th><th colspan=%d class=group>image</th><th colspan=%d class=group>pixels</th>"
             "<th colspan=2 class=group>pictures</th></tr>\n<tr><th>class</th>",
        whole(h, "size"), whole(h, "steps"), whole(h, "steps") == 1 ? "" : "s", whole(h, "seed"), t->lines->pictures, t->lines->broken,
        t->lines->left, PIXEL_AUROC, COLUMNS - PIXEL_AUROC);
    for (size_t k = 0; k < COLUMNS; k++) say(out, "<th>%s</th>", strstr(titles[k], " AUROC") ? "AUROC" : titles[k]);
    say(out, "<th>all</th><th>flawed</th>");
    for (size_t i = 0; i <= t->count; i++) {
        bool known = i == t->count;
        say(out, i + 1 == t->count ? "</tr>\n<tr class=best><td>" : "</tr>\n<tr><td>");
        say_html(out, known ? "published" : t->row[i].name);
        say(out, "</td>");
        for (size_t k = 0; k < COLUMNS; k++)
            say(out, "<td>"), say_cell(out, "%.1f", "", known ? known_of(t, k) : 100 * t->row[i].value[k]), say(out, "</td>");
        if (!known) say(out, "<td>%zu</td><td>%zu</td>", t->row[i].pictures, t->row[i].anomalous);
        else say(out, "<td></td><td></td>");
    }
    say(out, "</tr></table></div>\n<p>Per cent. Image: the class token's score, which the map plays no part in. Pixel: the map's. PRO: mean share "
             "found of each flawed region over the false positive rate up to 0.3, by the code's 200 thresholds, stretched; PRO whole: every "
             "threshold. Fitted anew to each picture: the authors' code keeps the optimiser's state of the picture before.</p>\n");
    survey_left_say(&t->lines->left_out, out);
    survey_say_foot(out, h);
    say(out, "</html>\n");
}

typedef void writer(const anomaly_table *t, longtext *out);
static bool write_file(const char *folder, const char *name, writer *write, const anomaly_table *t, err *e) {
    longtext text = {0};
    write(t, &text);
    return say_into(&text, folder, name, e);
}

bool survey_anomaly_finish(const char *folder, FILE *out, err *e) {
    run_lines l;
    anomaly_table t = {&l, NULL, 0};
    longtext text = {0};
    bool ok = read_run(folder, &l, e);
    const cJSON *classes = ok ? field(l.head, "classes") : NULL, *one;
    if (ok && !(t.row = mem_alloc((size_t)cJSON_GetArraySize(classes) + 1, sizeof *t.row))) ok = err_set(e, "no memory for the table");
    cJSON_ArrayForEach(one, classes) {
        class_row *row = &t.row[t.count];
        if (!ok) break;
        snprintf(row->name, sizeof row->name, "%.63s", cJSON_IsString(one) ? one->valuestring : "");
        ok = measure_class(&l, (long)t.count, row, e);
        t.count++;
    }
    if (ok) add_mean(&t);
    ok = ok && write_file(folder, "table.csv", say_csv, &t, e) && write_file(folder, "table.json", say_json, &t, e) &&
         write_file(folder, "report.html", say_page, &t, e);
    if (ok) {
        say_text(&t, &text);
        ok = say_to(&text, out, "the table", e);
    }
    mem_free(t.row);
    free_run(&l);
    return ok;
}
