/* eval_charts.c - report.html's drawings, as inline SVG: methods with their intervals, curves of what was swept. */
#include "eval/eval_page.h"
#include <math.h>
#include <string.h>

/* ---- methods ---------------------------------------------------------------------------------------------- */
enum { NAME_WIDE = 216, BAR_WIDE = 220, BAR_LINE = 22, BARS_MOST = 60, NAME_SHOWN = 28 };

/* One bar a method: its value, and a whisker from the interval's low to its high end. */
static void say_bar(longtext *t, size_t line, const char *name, estimate v, bool best) {
    double y = (double)(line * BAR_LINE) + 4, x = NAME_WIDE + 8;
    say(t, "<text x=%d y=%.0f text-anchor=end%s>", NAME_WIDE, y + 12, best ? " class=best" : "");
    char shown[4 * NAME_SHOWN + 8];
    size_t n = 0, characters = 0; /* cut between characters */
    while (name[n] && n + 8 < sizeof shown && (characters < NAME_SHOWN || ((unsigned char)name[n] & 0xC0) == 0x80))
        characters += ((unsigned char)name[n++] & 0xC0) != 0x80;
    snprintf(shown, sizeof shown, "%.*s%s", (int)n, name, name[n] ? "…" : "");
    say_html(t, shown);
    say(t, "</text><rect class=\"bar%s\" x=%.0f y=%.0f width=%.1f height=15 />", best ? " best" : "", x, y,
        v.value * (double)BAR_WIDE);
    say(t, "<path class=whisker d=\"M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6\" />", x + v.low * (double)BAR_WIDE, y + 7.5,
        x + v.high * (double)BAR_WIDE, x + v.low * (double)BAR_WIDE, y + 4.5, x + v.high * (double)BAR_WIDE, y + 4.5);
    say(t, "<text x=%.1f y=%.0f>%.1f</text>", x + v.high * (double)BAR_WIDE + 6, y + 12, 100 * v.value);
}

typedef struct {
    const char *name;
    estimate v;
} bar;

static void say_bars(longtext *t, const char *title, const bar *bars, size_t count) {
    size_t shown = count < BARS_MOST ? count : BARS_MOST, best = 0;
    for (size_t i = 1; i < count; i++)
        if (bars[i].v.value > bars[best].v.value) best = i;
    say(t, "<figure><figcaption>%s, %% with 95 %% intervals</figcaption><svg viewBox=\"0 0 %d %zu\" role=img "
           "aria-label=\"%s by method; the numbers stand in the table\">", title, NAME_WIDE + BAR_WIDE + 56,
        shown * BAR_LINE + 6, title);
    for (size_t i = 0; i < shown; i++) say_bar(t, i, bars[i].name, bars[i].v, i == best);
    say(t, "</svg>");
    if (shown < count) say(t, "<p class=quiet>and %zu more in the table</p>", count - shown);
    say(t, "</figure>\n");
}

void say_method_charts(longtext *t, const eval_head *h, const eval_totals *all) {
    size_t most = h->row_count > h->map_count ? h->row_count : h->map_count;
    bar *bars = mem_alloc(most ? most : 1, sizeof *bars);
    if (!bars) {
        t->failed = true;
        return;
    }
    say(t, "<div class=charts>\n");
    for (size_t i = 0; i < h->row_count; i++)
        bars[i] = (bar){h->rows[i].name, wilson(all->rows[i].hits1, all->rows[i].n)};
    if (h->row_count) say_bars(t, "Acc@1 of region embeddings", bars, h->row_count);
    for (size_t i = 0; i < h->map_count; i++) bars[i] = (bar){h->maps[i].name, wilson(all->maps[i].hits, all->maps[i].n)};
    if (h->map_count) say_bars(t, "Pointing of maps", bars, h->map_count);
    say(t, "</div>\n");
    mem_free(bars);
}

/* ---- curves ------------------------------------------------------------------------------------------------ */
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
    double top, step; /* the y axis ends here, and has a line at each step */
} plot;

static double plot_x(const plot *p, double value) {
    size_t i = 0;
    while (i + 1 < p->ticks && fabs(p->tick[i] - value) > 0) i++;
    return (double)LEFT + ((double)i + 0.5) * (double)(WIDE - LEFT - RIGHT) / (double)p->ticks;
}
static double plot_y(const plot *p, double share) { return (double)TOP + (1 - share / p->top) * (double)(HIGH - TOP - BOTTOM); }

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
    p->step = p->top > .5 ? .2 : p->top > .25 ? .1 : .05;
    p->top = fmin(1, ceil(p->top / p->step) * p->step);
}

static void plot_frame(longtext *t, const plot *p) {
    say(t, "<svg viewBox=\"0 0 %d %d\" role=img aria-label=\"Acc@1 against %s\">", WIDE, HIGH, axis_names[p->axis]);
    for (int i = 0; i * p->step <= p->top + 1e-9; i++) {
        double share = p->step * i, y = plot_y(p, share);
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
static void plot_line(longtext *t, const plot *p, size_t first, const char *colour, const char *dashes) {
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
    if (path.text) say(t, "<polyline points=\"%s\" fill=none stroke=\"%s\" stroke-width=1.5 stroke-dasharray=\"%s\" />", path.text,
            colour, dashes);
    t->failed = t->failed || path.failed;
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
    /* told apart under red-green blindness too; each line also has dashes of its own */
    static const struct { const char *colour, *dashes; } lines[MOST_LINES] = {
        {"#0072b2", "none"}, {"#d55e00", "6 3"}, {"#009e73", "2 3"}, {"#cc79a7", "8 3 2 3"},
        {"#e69f00", "12 4"}, {"#56b4e9", "4 2"}, {"#8c6d31", "1 4"}, {"#777777", "10 2 2 2"}};
    longtext legend = {0};
    plot_scale(p);
    if (p->ticks < 2) return;
    say(t, "<figure><figcaption>Acc@1 against %s</figcaption>", axis_names[p->axis]);
    plot_frame(t, p);
    p->lines = 0;
    for (size_t i = 0; i < p->h->row_count; i++) {
        if (!starts_line(p, i) || p->lines++ >= MOST_LINES) continue;
        plot_line(t, p, i, lines[p->lines - 1].colour, lines[p->lines - 1].dashes);
        say(&legend,
            "<span class=key><svg viewBox=\"0 0 32 8\" class=sample><line x1=0 x2=32 y1=4 y2=4 stroke=\"%s\" "
            "stroke-width=2 stroke-dasharray=\"%s\" /></svg> ",
            lines[p->lines - 1].colour, lines[p->lines - 1].dashes);
        say_line_name(&legend, &p->h->rows[i], p->axis);
        say(&legend, "</span> ");
    }
    say(t, "</svg><p class=legend>%s", legend.text ? legend.text : "");
    if (p->lines > MOST_LINES) say(t, "and %zu more in the table", p->lines - MOST_LINES);
    say(t, "</p></figure>\n");
    t->failed = t->failed || legend.failed;
    mem_free(legend.text);
}

void say_curves(longtext *t, const eval_head *h, const eval_totals *all) {
    longtext plots = {0};
    for (int axis = 0; axis < AXES; axis++) {
        plot p = {.h = h, .all = all, .axis = axis};
        say_plot(&plots, &p);
    }
    if (plots.length) say(t, "<h2>Curves</h2>\n<div class=charts>%s</div>\n", plots.text);
    t->failed = t->failed || plots.failed;
    mem_free(plots.text);
}
