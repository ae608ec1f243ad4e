/* eval_examples.c - report.html's scenes: the worst and typical ones, with what was found and the maps. */
#include "masks/reading.h"
#include "eval/eval_page.h"
#include "os/os.h"
#include "pictures/sheet.h"
#include <math.h>
#include <string.h>

/* ---- pictures --------------------------------------------------------------------------------------------- */
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

/* A picture under which its title stands; it passes through a file of the folder, since that is what PNGs are written to. */
static bool say_picture(longtext *t, const char *folder, const picture *p, const char *title, err *e) {
    char path[4096];
    size_t length;
    if ((size_t)snprintf(path, sizeof path, "%s/report.part.png", folder) >= sizeof path)
        return err_set(e, "%.200s...: the path is too long", folder);
    if (!picture_write_png(path, p, e)) return false;
    char *bytes = file_read(path, (size_t)1 << 28, &length, e);
    os_remove(path);
    if (!bytes) return false;
    say(t, "<figure class=thumb><img alt=\"");
    say_html(t, title);
    say(t, "\" src=\"data:image/png;base64,");
    say_base64(t, (const unsigned char *)bytes, length);
    say(t, "\"><figcaption>");
    say_html(t, title);
    say(t, "</figcaption></figure>");
    mem_free(bytes);
    return true;
}

/* ---- examples: which -------------------------------------------------------------------------------------------- */
enum { WORST = 10, TYPICAL = 10, EXAMPLES = WORST + TYPICAL, EXAMPLE_SIDE = 112, PAGE = 5 };
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
static const unsigned char colours[SCENE_MOST_OBJECTS][3] = {{230, 159, 0}, {86, 180, 233}, {0, 158, 115},
                                                             {240, 228, 66}, {0, 114, 178}, {213, 94, 0},
                                                             {204, 121, 167}, {140, 109, 49}};

static const char *name_at(const eval_head *h, const eval_result *r, uint32_t i) {
    return i < h->name_count[r->kind] ? h->names[r->kind][i] : "-";
}

static bool show_photo(longtext *t, const char *folder, const scene_record *s, picture *small, err *e) {
    picture photo, outlined;
    if (!picture_read(s->image, &photo, e)) return false;
    bool ok = picture_within(&photo, EXAMPLE_SIDE, true, small, e);
    picture_free(&photo);
    if (!ok || !picture_within(small, 240, true, &outlined, e))
        return ok ? picture_free(small), false : false;
    for (size_t k = 0; k < s->objects; k++) {
        mask_image m;
        if (!file_exists(s->object[k].mask)) continue; /* it was there when the scene was evaluated */
        if (!(ok = mask_read(s->object[k].mask, &m, e))) break;
        picture_outline(&outlined, &m, colours[k]);
        mask_free(&m);
    }
    ok = ok && say_picture(t, folder, &outlined, "the picture, its objects outlined", e);
    picture_free(&outlined);
    if (!ok) picture_free(small);
    return ok;
}

static bool show_map(longtext *t, const char *folder, const picture *small, const unsigned char *thumb,
                     const char *title, err *e) {
    real map[THUMB * THUMB];
    picture heat;
    for (size_t i = 0; i < THUMB * THUMB; i++) map[i] = (real)thumb[i] / 255;
    if (!picture_heat(small, map, THUMB, THUMB, &heat, e)) return false;
    bool ok = say_picture(t, folder, &heat, title, e);
    picture_free(&heat);
    return ok;
}

static bool show_object(longtext *t, const char *folder, const eval_head *h, const eval_result *r, const picture *small,
                        size_t k, err *e) {
    size_t best = main_row(h);
    bool ok = true;
    say(t, "<div class=object><b class=swatch style=\"background:rgb(%d,%d,%d)\">%zu</b> ", colours[k][0], colours[k][1],
        colours[k][2], k + 1);
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
    say(t, "<div class=thumbs>");
    if (small->rgb && h->row_count && r->rows[best].has_thumb)
        ok = show_map(t, folder, small, r->rows[best].thumb[k], h->rows[best].name, e);
    for (size_t i = 0; ok && small->rgb && i < h->map_count; i++)
        if (r->maps[i].has_thumb) ok = show_map(t, folder, small, r->maps[i].thumb[k], h->maps[i].name, e);
    say(t, "</div></div>");
    return ok;
}

static bool show_example(longtext *t, const char *folder, const eval_head *h, const eval_result *r,
                         const scene_record *s, err *e) {
    picture small = {0};
    bool ok = true;
    say(t, "<div class=example><div>scene %zu<br>", r->scene);
    if (r->broken)
        say(t, "broken: "), say_html(t, r->error);
    else if (!file_exists(s->image))
        say(t, "(the picture is not there any more)");
    else
        ok = show_photo(t, folder, s, &small, e);
    say(t, "</div><div>");
    for (size_t k = 0; ok && k < r->objects; k++) ok = show_object(t, folder, h, r, &small, k, e);
    say(t, "</div></div>\n");
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

/* Five a page: the first is open. */
static void say_pages(longtext *t, const char *title, const example *x, size_t count) {
    size_t shown = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        all += x[i].text.text != NULL;
        t->failed = t->failed || x[i].text.failed;
    }
    if (!all) return;
    say(t, "<h3>%s</h3>\n", title);
    for (size_t i = 0; i < count; i++) {
        if (!x[i].text.text) continue;
        if (shown % PAGE == 0)
            say(t, "<details%s><summary>%zu to %zu of %zu</summary>\n", shown ? "" : " open", shown + 1,
                shown + PAGE < all ? shown + PAGE : all, all);
        say(t, "%s", x[i].text.text);
        if (++shown % PAGE == 0 || shown == all) say(t, "</details>\n");
    }
}

bool say_examples(longtext *t, const char *folder, const eval_head *h, err *e) {
    example x[EXAMPLES] = {0};
    err unheard;
    scene_reader *reader = NULL;
    scene_record *s = mem_alloc(1, sizeof *s);
    bool ok = s != NULL || err_set(e, "no memory for a scene");
    ok = ok && choose(folder, x, e);
    if (ok) reader = scene_reader_open(h->set, &unheard); /* the set may have gone: then without pictures */
    ok = ok && fill_examples(folder, h, x, reader, s, e);
    scene_reader_free(reader);
    say(t, "<h2>Examples</h2>\n<p>Each object with its name, the names that were found first, and maps");
    if (h->row_count && !strcmp(h->rows[main_row(h)].method, "maskinv"))
        say(t, " (that of "), say_html(t, h->rows[main_row(h)].name), say(t, " is its last step's, the others the name's)");
    say(t, ".</p>\n");
    say_pages(t, "The worst", x, WORST);
    say_pages(t, "At even distances through the set", x + WORST, TYPICAL);
    for (size_t i = 0; i < EXAMPLES; i++) mem_free(x[i].text.text);
    mem_free(s);
    return ok;
}
