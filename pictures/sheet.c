/* sheet.c - overlays, and the sheet of all regions (see sheet.h). */
#include "pictures/sheet.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const unsigned char WHITE[3] = {255, 255, 255}, INK[3] = {32, 32, 32}, DIM[3] = {110, 110, 110}, GREY[3] = {225, 225, 225},
                           BAR[3] = {70, 130, 180};

/* ---- overlays ------------------------------------------------------------------------------------- */
bool picture_within(const picture *photo, size_t most, bool enlarge, picture *out, err *e) {
    size_t longer = photo->width > photo->height ? photo->width : photo->height;
    double scale = longer > most || enlarge ? (double)most / (double)longer : 1;
    size_t w = (size_t)((double)photo->width * scale + .5), h = (size_t)((double)photo->height * scale + .5);
    return picture_resize(photo, w ? w : 1, h ? h : 1, out, e);
}

bool overlay_write(const char *path, const picture *photo, const real *map, size_t mh, size_t mw,
                   const mask_image *mask, err *e) {
    picture small = {0}, heat = {0};
    bool ok = picture_within(photo, OVERLAY_SIDE, false, &small, e) && picture_heat(&small, map, mh, mw, &heat, e);
    if (ok && mask) picture_outline(&heat, mask, WHITE);
    ok = ok && picture_write_png(path, &heat, e);
    picture_free(&small);
    picture_free(&heat);
    return ok;
}

/* ---- the sheet: a title, the photograph, and a row of tiles for each region, a foot ------------------- */
enum { TILE = 216, TILE_SMALL = 144, GAP = 14, LINE = 22, TITLE = 44, TEXTS = 316, COLUMNS = 4, GRID_COLUMNS = 5, FOOT_LINES = 2, BAR_HIGH = 10 };
enum { FOOT = GAP + FOOT_LINES * TEXT_LINE_SMALL };

static long column(const sheet *s, size_t i) { return (long)(GAP + i * (s->photo.width + GAP)); }
static long row_top(const sheet *s, size_t row) { return (long)(TITLE + row * (s->photo.height + LINE + GAP)); }

/* Text that is no wider than the room for it. */
static void label(sheet *s, long x, long y, const char *text, text_size size, const unsigned char *ink, size_t room) {
    char cut[512];
    text_cut(text, size, room, cut, sizeof cut);
    picture_text(&s->page, x, y, cut, size, ink);
}

static void tile(sheet *s, size_t row, size_t col, const char *name, const picture *p) {
    label(s, column(s, col), row_top(s, row), name, TEXT_PLAIN, INK, s->photo.width);
    picture_paste(&s->page, p, column(s, col), row_top(s, row) + LINE);
}

/* A page with room for rows of `columns` tiles and `more` pixels beside them. */
static bool open_page(sheet *s, const picture *photo, size_t side, size_t rows, size_t columns, size_t more,
                      const char *title, err *e) {
    memset(s, 0, sizeof *s);
    if (!picture_within(photo, side, true, &s->photo, e)) return false;
    s->rows = rows;
    size_t width = (size_t)column(s, columns) + more, height = (size_t)row_top(s, rows) + FOOT;
    if (rows == 1) height += LINE + BAR_HIGH; /* for the meaning of the colours, which stands under the first row */
    if (!picture_new(width, height, &s->page, e)) {
        sheet_free(s);
        return false;
    }
    picture_fill(&s->page, 0, 0, width, height, WHITE);
    label(s, GAP, GAP, title, TEXT_PLAIN, INK, width - (columns > 1 ? s->photo.width + GAP : 0) - 2 * GAP);
    return true;
}

/* What the colours mean: a map's least and largest value. */
static bool colour_bar(sheet *s, long x, long y, err *e) {
    real ramp[256];
    picture grey, bar = {0};
    for (int i = 0; i < 256; i++) ramp[i] = (real)i / 255;
    if (!picture_new(s->photo.width, BAR_HIGH, &grey, e)) return false;
    picture_fill(&grey, 0, 0, grey.width, grey.height, GREY);
    bool ok = picture_heat(&grey, ramp, 1, 256, &bar, e);
    if (ok) {
        picture_paste(&s->page, &bar, x, y);
        y += BAR_HIGH + 2;
        picture_text(&s->page, x, y, "0", TEXT_SMALL, DIM);
        picture_text(&s->page, x + (long)(bar.width - text_width("map's value", TEXT_SMALL)) / 2, y, "map's value",
                     TEXT_SMALL, DIM);
        picture_text(&s->page, x + (long)(bar.width - text_width("1", TEXT_SMALL)), y, "1", TEXT_SMALL, DIM);
    }
    picture_free(&grey);
    picture_free(&bar);
    return ok;
}

bool sheet_open(sheet *s, const picture *photo, size_t rows, bool many, bool texts, const char *title, err *e) {
    if (!open_page(s, photo, many ? TILE_SMALL : TILE, rows, COLUMNS, texts ? TEXTS : 0, title, e)) return false;
    if (picture_new(s->photo.width, s->photo.height, &s->marked, e) &&
        colour_bar(s, column(s, 0), row_top(s, 0) + LINE + (long)s->photo.height + 6, e)) {
        picture_paste(&s->marked, &s->photo, 0, 0);
        tile(s, 0, 0, "photograph", &s->photo);
        return true;
    }
    sheet_free(s);
    return false;
}

/* Eight colours that those who do not tell red from green tell apart (Okabe and Ito), so that outlines that cross can be
 * followed; the number says which region it is. */
static const unsigned char *region_colour(size_t i) {
    static const unsigned char colours[8][3] = {{230, 159, 0}, {86, 180, 233}, {0, 158, 115},  {240, 228, 66},
                                                {0, 114, 178}, {213, 94, 0},   {204, 121, 167}, {255, 255, 255}};
    return colours[i % 8];
}

/* The mask's pixel nearest to its middle, in the photograph's pixels: where its number stands. */
static void mask_middle(const mask_image *m, const picture *photo, long *x, long *y) {
    double sx = 0, sy = 0, n = 0, best = INFINITY;
    size_t at = 0;
    for (size_t i = 0; i < m->width * m->height; i++) {
        sx += (double)m->soft[i] * (double)(i % m->width);
        sy += (double)m->soft[i] * (double)(i / m->width);
        n += (double)m->soft[i];
    }
    for (size_t i = 0; i < m->width * m->height; i++) {
        double dx = (double)(i % m->width) - sx / n, dy = (double)(i / m->width) - sy / n;
        if (m->soft[i] < (real).5 || !(dx * dx + dy * dy < best)) continue;
        best = dx * dx + dy * dy;
        at = i;
    }
    *x = (long)((double)(at % m->width) * (double)photo->width / (double)m->width);
    *y = (long)((double)(at / m->width) * (double)photo->height / (double)m->height);
}

/* The region's number in a box of its colour, its middle at x, y. */
static void number_at(picture *p, long x, long y, size_t region) {
    char text[24];
    const unsigned char *c = region_colour(region);
    bool light = c[0] * 5 + c[1] * 9 + c[2] * 2 > 110 * 16;
    snprintf(text, sizeof text, "%zu", region + 1);
    size_t w = text_width(text, TEXT_SMALL);
    picture_fill(p, x - (long)w / 2 - 4, y - 8, w + 8, 16, INK);
    picture_fill(p, x - (long)w / 2 - 3, y - 7, w + 6, 14, c);
    picture_text(p, x - (long)w / 2, y - 8, text, TEXT_SMALL, light ? INK : WHITE);
}

static bool heat_tile(sheet *s, size_t row, size_t col, const char *name, const real *map, size_t mh, size_t mw,
                      const mask_image *mask, err *e) {
    picture heat = {0};
    if (!picture_heat(&s->photo, map, mh, mw, &heat, e)) return false;
    picture_outline(&heat, mask, WHITE);
    tile(s, row, col, name, &heat);
    picture_free(&heat);
    return true;
}

bool sheet_region(sheet *s, size_t row, const char *name, const mask_image *mask, const real *before,
                  const real *after, size_t mh, size_t mw, const double *loss, err *e) {
    char label_before[48] = "before", label_after[48] = "after";
    size_t region = s->first + row;
    long x, y;
    if (loss) {
        snprintf(label_before, sizeof label_before, "before: loss %.3f", loss[0]);
        snprintf(label_after, sizeof label_after, "after: loss %.3f", loss[1]);
    }
    mask_middle(mask, &s->photo, &x, &y);
    picture_outline(&s->marked, mask, region_colour(region));
    number_at(&s->marked, x, y, region);
    picture_paste(&s->page, &s->marked, column(s, 0), row_top(s, 0) + LINE);
    if (!heat_tile(s, row, 1, "", mask->soft, mask->height, mask->width, mask, e)) return false;
    number_at(&s->page, column(s, 1) + 8, row_top(s, row) + 9, region);
    label(s, column(s, 1) + 26, row_top(s, row), name, TEXT_PLAIN, INK, s->photo.width - 26);
    return heat_tile(s, row, 2, label_before, before, mh, mw, mask, e) &&
           heat_tile(s, row, 3, label_after, after, mh, mw, mask, e);
}

void sheet_text(sheet *s, size_t row, size_t line, const char *text, double share) {
    long x = column(s, COLUMNS), y = row_top(s, row) + LINE + (long)(line * (LINE + 5));
    if ((line + 1) * (LINE + 5) > s->photo.height) return;
    size_t room = TEXTS - GAP;
    double length = share > 0 ? share < 1 ? share : 1 : 0;
    picture_fill(&s->page, x, y + LINE - 4, room, 3, GREY);
    picture_fill(&s->page, x, y + LINE - 4, (size_t)(length * (double)room), 3, BAR);
    label(s, x, y - 1, text, TEXT_PLAIN, INK, room);
}

bool sheet_open_grid(sheet *s, const picture *photo, size_t maps, const char *title, err *e) {
    size_t columns = maps + 1 < GRID_COLUMNS ? maps + 1 : GRID_COLUMNS;
    if (!open_page(s, photo, TILE, (maps + columns) / columns, columns, 0, title, e)) return false;
    s->columns = columns;
    tile(s, 0, 0, "photograph", &s->photo);
    if (columns == 1 || colour_bar(s, column(s, columns - 1), GAP, e)) return true;
    sheet_free(s);
    return false;
}

bool sheet_map(sheet *s, size_t i, const char *name, const real *map, size_t mh, size_t mw, err *e) {
    picture heat = {0};
    size_t row = (i + 1) / s->columns, col = (i + 1) % s->columns;
    if (!map) {
        label(s, column(s, col), row_top(s, row), name, TEXT_PLAIN, INK, s->photo.width);
        return true;
    }
    if (!picture_heat(&s->photo, map, mh, mw, &heat, e)) return false;
    tile(s, row, col, name, &heat);
    picture_free(&heat);
    return true;
}

/* Cuts after the last space that still fits. */
static size_t line_length(const char *text, size_t width) {
    char part[512];
    size_t fits = 0, n = strlen(text);
    for (size_t i = 1; i <= n && i < sizeof part; i++) {
        if (i < n && text[i] != ' ') continue;
        memcpy(part, text, i);
        part[i] = 0;
        if (text_width(part, TEXT_SMALL) > width) break;
        fits = i;
    }
    return fits;
}

void sheet_foot(sheet *s, const char *text) {
    size_t width = s->page.width - 2 * GAP;
    long y = (long)s->page.height - (long)(FOOT_LINES * TEXT_LINE_SMALL + 6);
    picture_fill(&s->page, GAP, y - 4, width, 1, GREY);
    for (int line = 0; line < FOOT_LINES && *text; line++, y += TEXT_LINE_SMALL) {
        size_t n = line + 1 < FOOT_LINES ? line_length(text, width) : 0;
        char part[512];
        if (n) {
            memcpy(part, text, n);
            part[n] = 0;
        }
        label(s, GAP, y, n ? part : text, TEXT_SMALL, DIM, width);
        if (!n) break;
        text += n + (text[n] == ' ');
    }
}

void sheet_free(sheet *s) {
    picture_free(&s->page);
    picture_free(&s->photo);
    picture_free(&s->marked);
    memset(s, 0, sizeof *s);
}

/* ---- classes ------------------------------------------------------------------------------------------- */
enum { LEGEND = 320, SWATCH = 16, LEGEND_PICTURE = 480 };

void class_colour(size_t i, unsigned char rgb[3]) {
    static const double value[3] = {0.95, 0.65, 0.8}, strength[3] = {0.85, 0.9, 0.45};
    double hue = 6 * fmod((double)i * 0.61803398875, 1); /* the golden ratio never comes back near where it was */
    for (int c = 0; c < 3; c++) {
        double far = fabs(fmod(hue + 2.0 * c, 6) - 3) - 1, full = far < 0 ? 0 : far > 1 ? 1 : far;
        rgb[c] = (unsigned char)(255 * value[i % 3] * (1 - strength[i % 3] * (1 - full)) + 0.5);
    }
}

/* Half photograph, half the class's colour; counts the pixels of each class. */
static void blend_classes(picture *small, const picture *photo, const unsigned char *index, bool background, size_t *seen) {
    for (size_t y = 0; y < small->height; y++)
        for (size_t x = 0; x < small->width; x++) {
            size_t from = y * photo->height / small->height * photo->width + x * photo->width / small->width;
            unsigned char colour[3], *p = small->rgb + 3 * (y * small->width + x);
            class_colour(index[from], colour);
            if (background && index[from] == 0) memcpy(colour, GREY, 3);
            for (int c = 0; c < 3; c++) p[c] = (unsigned char)((p[c] + colour[c]) / 2);
            seen[index[from]]++;
        }
}

static void legend_line(sheet *s, long x, size_t line, const unsigned char colour[3], const char *name, double share) {
    char text[256];
    long y = (long)(GAP + line * LINE);
    picture_fill(&s->page, x, y, SWATCH, SWATCH, colour);
    snprintf(text, sizeof text, "%5.1f%% %.200s", 100 * share, name);
    label(s, x + SWATCH + 8, y, text, TEXT_PLAIN, INK, LEGEND - SWATCH - 8 - GAP);
}

/* The classes that get a line, in its order; returns their number. */
static size_t legend_order(const size_t *seen, size_t count, size_t *order) {
    size_t lines = 0;
    for (size_t i = 0; i < count; i++) {
        if (count > LEGEND_ALL && !seen[i]) continue;
        size_t at = lines++;
        for (; count > LEGEND_ALL && at && seen[order[at - 1]] < seen[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    return lines;
}

bool legend_write(const char *path, const picture *photo, const unsigned char *index, const char *const *names,
                  size_t count, bool background, const char *foot, err *e) {
    size_t seen[CLASS_MOST] = {0}, order[CLASS_MOST], feet = foot ? FOOT_LINES * TEXT_LINE_SMALL + 12 : 0;
    bool small = photo->width < LEGEND_PICTURE && photo->height < LEGEND_PICTURE;
    sheet s = {0};
    if (!picture_within(photo, small ? LEGEND_PICTURE : OVERLAY_SIDE, small, &s.photo, e)) return false;
    blend_classes(&s.photo, photo, index, background, seen);
    size_t width = s.photo.width, lines = legend_order(seen, count, order), high = 2 * GAP + lines * LINE;
    size_t height = (s.photo.height > high ? s.photo.height : high) + feet;
    bool ok = picture_new(width + GAP + LEGEND, height, &s.page, e);
    if (ok) {
        picture_fill(&s.page, 0, 0, s.page.width, height, WHITE);
        picture_paste(&s.page, &s.photo, 0, 0);
        for (size_t i = 0; i < lines; i++) {
            unsigned char colour[3];
            class_colour(order[i], colour);
            if (background && order[i] == 0) memcpy(colour, GREY, 3);
            legend_line(&s, (long)(width + GAP), i, colour, names[order[i]],
                        (double)seen[order[i]] / (double)(width * s.photo.height));
        }
        if (foot) sheet_foot(&s, foot);
        ok = picture_write_png(path, &s.page, e);
    }
    sheet_free(&s);
    return ok;
}
