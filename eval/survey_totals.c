/* survey_totals.c - lines of results to sums (see survey_totals.h). */
#include "eval/survey_totals.h"
#include "maskinv.h"
#include "os/os.h"
#include <errno.h>
#include <string.h>

static const cJSON *field(const cJSON *o, const char *key) { return cJSON_GetObjectItemCaseSensitive(o, key); }
static double number(const cJSON *v) { return cJSON_IsNumber(v) ? v->valuedouble : 0; }

const char *head_text(const survey_totals *t, const char *key) {
    const cJSON *v = field(t->head, key);
    return cJSON_IsString(v) ? v->valuestring : "";
}

const cJSON *survey_row_at(const survey_totals *t, size_t i) {
    return i < t->row_count ? cJSON_GetArrayItem(field(t->head, "rows"), (int)i)
                            : cJSON_GetArrayItem(field(t->head, "maps"), (int)(i - t->row_count));
}

/* ---- regions ------------------------------------------------------------------------------------------- */
static void hit(survey_cell *c, bool right, double chance) { c->n++, c->hits += right, c->chance += chance; }

static void add_value(survey_cell *c, double v) { c->mean = true, c->n++, c->sum += v, c->squares += v * v; }

static void add_ranks(survey_cell *c, const cJSON *ranks, size_t classes, bool many) {
    const cJSON *rank = ranks ? ranks->child : NULL;
    for (size_t k = 0; k < (many ? 2u : 1u) && rank; k++, rank = rank->next) {
        hit(&c[k], rank->valuedouble <= 1, classes ? 1 / (double)classes : 0);
        c[k].hits5 += rank->valuedouble <= 5;
    }
}

static char unit_of(const cJSON *region) {
    const cJSON *unit = cJSON_GetArrayItem(region, 1);
    return cJSON_IsString(unit) ? unit->valuestring[0] : 0;
}

static void add_names(const survey_totals *t, survey_row *r, const cJSON *regions, const cJSON *names) {
    const cJSON *region, *ranks = names ? names->child : NULL;
    cJSON_ArrayForEach(region, regions) {
        char unit = unit_of(region);
        double c = number(cJSON_GetArrayItem(region, 2));
        if ((unit != 'a' && unit != 'o') || c < 0 || !ranks) continue;
        add_ranks(&r->cell[unit == 'a' ? CLASS_AREA_1 : CLASS_OBJECT_1], ranks, t->class_count, t->many);
        if (c < (double)t->class_count) {
            r->class_n[unit == 'o'][(size_t)c]++;
            r->class_hits[unit == 'o'][(size_t)c] += number(ranks->child) <= 1;
        }
        ranks = ranks->next;
    }
}

/* Chances: its own expressions among all; one among all; one object among those that may be chosen. */
static void add_expressions(survey_row *r, const cJSON *regions, const cJSON *row) {
    const cJSON *region, *any = field(row, "any"), *very = field(row, "very"), *referred = field(row, "referred"),
                         *all = field(row, "all"), *areas = field(row, "areas");
    double said = 0, phrases = 0, objects = 0;
    if (!any) return;
    cJSON_ArrayForEach(region, regions) {
        char unit = unit_of(region);
        phrases += unit == 'p', objects += unit == 'p' || unit == 'x';
        said += unit == 'p' ? number(cJSON_GetArrayItem(region, 3)) : 0;
    }
    any = any->child, very = very ? very->child : NULL, referred = referred ? referred->child : NULL,
    all = all ? all->child : NULL, areas = areas ? areas->child : NULL;
    cJSON_ArrayForEach(region, regions) {
        if (unit_of(region) != 'p' || !any) continue;
        hit(&r->cell[EXPRESSION_ANY], any->valuedouble > 0, number(cJSON_GetArrayItem(region, 3)) / said);
        any = any->next;
    }
    for (; very; very = very->next) hit(&r->cell[EXPRESSION_VERY], very->valuedouble > 0, 1 / said);
    for (; referred; referred = referred->next) hit(&r->cell[OBJECT_REFERRED], referred->valuedouble > 0, 1 / phrases);
    for (; all; all = all->next) hit(&r->cell[OBJECT_ALL], all->valuedouble > 0, 1 / objects);
    for (; areas; areas = areas->next) {
        double in = number(areas->child), joint = number(cJSON_GetArrayItem(areas, 1)),
               iou = joint > 0 ? in / joint : 0;
        add_value(&r->cell[OBJECT_IOU], iou);
        hit(&r->cell[OBJECT_HALF], iou > .5, 0);
        r->inside += in, r->joint += joint;
    }
}

/* ---- maps ------------------------------------------------------------------------------------------------ */
static bool add_points(survey_row *r, const cJSON *points, err *e) {
    const cJSON *one;
    cJSON_ArrayForEach(one, points) {
        const char *label = cJSON_IsString(one->child) ? one->child->valuestring : "";
        size_t k = 0;
        while (k < r->label_count && strcmp(r->labels[k].label, label) != 0) k++;
        if (k == r->label_count) {
            if (!mem_grow(&r->labels, &r->label_room, k + 1, sizeof *r->labels))
                return err_set(e, "no memory for %zu labels", k + 1);
            memset(&r->labels[k], 0, sizeof *r->labels);
            snprintf(r->labels[r->label_count++].label, sizeof r->labels->label, "%.63s", label);
        }
        r->labels[k].yes += number(cJSON_GetArrayItem(one, 1));
        r->labels[k].wrong += number(cJSON_GetArrayItem(one, 2));
        r->labels[k].missed += number(cJSON_GetArrayItem(one, 3));
    }
    return true;
}

static bool add_map(survey_row *r, const cJSON *map, err *e) {
    const cJSON *one, *best = field(map, "best");
    cJSON_ArrayForEach(one, field(map, "classes")) {
        double fore = number(cJSON_GetArrayItem(one, 2)), back = number(cJSON_GetArrayItem(one, 3));
        hit(&r->cell[POINTING], number(cJSON_GetArrayItem(one, 1)) > 0, 0);
        add_value(&r->cell[MAP_AREA], (fore + back) / 2);
        add_value(&r->cell[MAP_PIXELS], number(cJSON_GetArrayItem(one, 4)));
        add_value(&r->cell[MAP_AP], number(cJSON_GetArrayItem(one, 5)));
        r->best_n++;
    }
    size_t t = 0;
    for (const cJSON *v = best ? best->child : NULL; v && t < 99; v = v->next) r->best[t++] += v->valuedouble;
    return add_points(r, field(map, "points"), e);
}

/* ---- what was left out ------------------------------------------------------------------------------------- */
static void add_item(survey_left *l, const char *id, const char *why) {
    if (l->count++ >= LEFT_SHOWN) return;
    say(&l->items, "<li><b>");
    say_html(&l->items, id);
    say(&l->items, "</b>: ");
    say_html(&l->items, why);
    say(&l->items, "</li>\n");
}

static const char *words(const cJSON *o, const char *key) { return cJSON_IsString(field(o, key)) ? field(o, key)->valuestring : ""; }

void survey_left_add(survey_left *l, const cJSON *line) {
    const cJSON *one;
    cJSON_ArrayForEach(one, field(line, "left")) add_item(l, words(one, "id"), words(one, "why"));
    if (field(line, "broken")) add_item(l, words(line, "image"), words(line, "broken"));
}

void survey_left_say(const survey_left *l, longtext *page) {
    if (!l->count) return;
    say(page, "<h2>What was left out</h2><ul>\n");
    if (l->items.text) say_bytes(page, l->items.text, l->items.length);
    if (l->count > LEFT_SHOWN) say(page, "<li>and %zu more: results.jsonl has all of them</li>\n", l->count - LEFT_SHOWN);
    say(page, "</ul>\n");
    page->failed = page->failed || l->items.failed;
}

/* ---- lines --------------------------------------------------------------------------------------------------- */
static bool add_line(survey_totals *t, const cJSON *line, err *e) {
    const cJSON *regions = field(line, "regions"), *one;
    t->left += (size_t)cJSON_GetArraySize(field(line, "left"));
    survey_left_add(&t->left_out, line);
    if (field(line, "end")) return true;
    t->pictures++;
    if (field(line, "broken")) return t->broken++, t->lost += (size_t)number(field(line, "lost")), true;
    t->measured += (size_t)cJSON_GetArraySize(regions);
    size_t i = 0;
    cJSON_ArrayForEach(one, field(line, "rows")) {
        if (i == t->row_count) break;
        survey_row *r = &t->rows[i++];
        add_names(t, r, regions, field(one, "names"));
        add_expressions(r, regions, one);
        if (field(one, "zero")) add_ranks(&r->cell[PICTURE_CLASS], field(one, "zero"), t->class_count, t->many);
        r->failed += (size_t)number(field(one, "failed"));
    }
    i = t->row_count;
    cJSON_ArrayForEach(one, field(line, "maps")) {
        if (i == t->row_count + t->map_count) break;
        if (!add_map(&t->rows[i++], one, e)) return false;
    }
    return true;
}

/* What a threshold, or a label, needs of the whole dataset. */
static void finish_row(survey_row *r) {
    double best = 0;
    for (size_t k = 0; k < 99; k++) best = r->best[k] > best ? r->best[k] : best;
    if (r->best_n) r->cell[MAP_BEST] = (survey_cell){.mean = true, .n = r->best_n, .sum = best, .squares = -1};
    for (size_t k = 0; k < r->label_count; k++) {
        double joint = r->labels[k].yes + r->labels[k].wrong + r->labels[k].missed;
        if (joint > 0) add_value(&r->cell[POINTS_IOU], r->labels[k].yes / joint);
    }
}

static bool take_head(survey_totals *t, const cJSON *line, const char *path, err *e) {
    t->head = cJSON_Duplicate(line, true);
    t->row_count = (size_t)cJSON_GetArraySize(field(line, "rows")),
    t->map_count = (size_t)cJSON_GetArraySize(field(line, "maps"));
    t->class_count = (size_t)cJSON_GetArraySize(field(line, "classes"));
    t->many = cJSON_IsTrue(field(line, "many"));
    if (!t->head || !field(line, "maskinv survey"))
        return err_set(e, "%s: is no run of `maskinv eval --data NAME:ROOT`", path);
    if (!(t->rows = mem_alloc(t->row_count + t->map_count + 1, sizeof *t->rows)))
        return err_set(e, "%s: no memory", path);
    for (size_t i = 0; i < 2 * t->row_count; i++) {
        survey_row *r = &t->rows[i / 2];
        r->class_n[i % 2] = mem_alloc(t->class_count, sizeof(size_t)),
                       r->class_hits[i % 2] = mem_alloc(t->class_count, sizeof(size_t));
        if (!r->class_n[i % 2] || !r->class_hits[i % 2]) return err_set(e, "%s: no memory", path);
    }
    return true;
}

bool survey_each_line(const char *folder, bool (*see)(void *arg, const struct cJSON *line, const char *path, err *e), void *arg, err *e) {
    char path[4096];
    longtext line = {0};
    size_t n = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/results.jsonl", folder) >= sizeof path)
        return err_set(e, "%.200s...: the path is too long", folder);
    FILE *f = os_open(path, "rb");
    if (!f) return err_set(e, "%s: cannot be read: %s", path, strerror(errno));
    bool ok = true;
    for (int c; ok && (c = getc(f)) != EOF;) {
        char byte = (char)c, name[4200];
        say_bytes(&line, &byte, 1);
        if (c != '\n') continue;
        snprintf(name, sizeof name, "%s (line %zu)", path, n + 1);
        cJSON *j = line.failed ? NULL : json_parse(line.text, line.length, name, e);
        ok = j && see(arg, j, path, e);
        n++;
        json_free(j);
        line.length = 0;
    }
    fclose(f);
    mem_free(line.text);
    return ok && (n > 0 || err_set(e, "%s: is empty", path));
}

static bool see_line(void *arg, const struct cJSON *line, const char *path, err *e) {
    survey_totals *t = arg;
    return t->head ? add_line(t, line, e) : take_head(t, line, path, e);
}

void survey_say_foot(longtext *out, const struct cJSON *head) {
    static const char *const keys[] = {"weights", "dataset", "root", "split", "task"};
    const char *text[5];
    for (size_t k = 0; k < 5; k++) {
        const cJSON *v = field(head, keys[k]);
        text[k] = cJSON_IsString(v) ? v->valuestring : "";
    }
    say(out, "<p class=foot>Made by maskinv " MASKINV_VERSION " from the weights with the hash %s:<br><code>maskinv eval -d %s:", text[0], text[1]);
    say_html(out, text[2]);
    say(out, " --split ");
    say_html(out, text[3]);
    if (text[4][0]) say(out, " --task %s", text[4]);
    say(out, "</code><br>Each row's settings: the first line of results.jsonl. The numbers as data: table.csv, table.json.</p>\n");
}

bool survey_add_up(const char *folder, survey_totals *t, err *e) {
    memset(t, 0, sizeof *t);
    bool ok = survey_each_line(folder, see_line, t, e);
    for (size_t i = 0; ok && i < t->row_count + t->map_count; i++) finish_row(&t->rows[i]);
    return ok;
}

void survey_totals_free(survey_totals *t) {
    json_free(t->head);
    mem_free(t->left_out.items.text);
    for (size_t i = 0; t->rows && i < t->row_count + t->map_count; i++) {
        survey_row *r = &t->rows[i];
        for (size_t k = 0; k < 2; k++) mem_free(r->class_n[k]), mem_free(r->class_hits[k]);
        mem_free(r->labels);
    }
    mem_free(t->rows);
    *t = (survey_totals){0};
}
