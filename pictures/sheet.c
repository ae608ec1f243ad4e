/* sheet.c - overlays, and the sheet of all regions (see sheet.h). */
#include "pictures/sheet.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const unsigned char WHITE[3] = {255, 255, 255}, INK[3] = {32, 32, 32}, GREY[3] = {225, 225, 225},
                           BAR[3] = {70, 130, 180};

/* ---- overlays ------------------------------------------------------------------------------------- */
bool picture_within(const picture *photo, size_t most, bool enlarge, picture *out, err *e) {
    size_t longer = photo->width > photo->height ? photo->width : photo->height;
    double scale = longer > most || enlarge ? (double)most / (double)longer : 1;
    size_t w = (size_t)((double)photo->width * scale + .5), h = (size_t)((double)photo->height * scale + .5);
    return picture_resize(photo, w ? w : 1, h ? h : 1, out, e);
}

bool overlay_write(const char *path, const picture *photo, const float *map, size_t mh, size_t mw,
                   const mask_image *mask, err *e) {
    picture small = {0}, heat = {0};
    bool ok = picture_within(photo, OVERLAY_SIDE, false, &small, e) && picture_heat(&small, map, mh, mw, &heat, e);
    if (ok && mask) picture_outline(&heat, mask, WHITE);
    ok = ok && picture_write_png(path, &heat, e);
    picture_free(&small);
    picture_free(&heat);
    return ok;
}

/* ---- the sheet: a title, the photograph, and a row of tiles for each region --------------------------- */
enum { TILE = 240, GAP = 14, LINE = 22, TITLE = 40, TEXTS = 420, SCALE = 2, COLUMNS = 4 };

static long column(const sheet *s, size_t i) { return (long)(GAP + i * (s->photo.width + GAP)); }
static long row_top(const sheet *s, size_t row) { return (long)(TITLE + row * (s->photo.height + LINE + GAP)); }

/* Text that is no wider than the room for it. */
static void label(sheet *s, long x, long y, const char *text, size_t room) {
    char cut[256];
    snprintf(cut, sizeof cut, "%s", text);
    for (size_t n = strlen(cut); n > 2 && text_width(cut, SCALE) > room; n--) memcpy(cut + n - 3, "..", 3);
    picture_text(&s->page, x, y, cut, SCALE, INK);
}

static void tile(sheet *s, size_t row, size_t col, const char *name, const picture *p) {
    label(s, column(s, col), row_top(s, row), name, s->photo.width);
    picture_paste(&s->page, p, column(s, col), row_top(s, row) + LINE);
}

/* A page with room for rows of `columns` tiles and `more` pixels beside them. */
static bool open_page(sheet *s, const picture *photo, size_t rows, size_t columns, size_t more, const char *title,
                      err *e) {
    memset(s, 0, sizeof *s);
    if (!picture_within(photo, TILE, true, &s->photo, e)) return false;
    s->rows = rows;
    size_t width = (size_t)column(s, columns) + more, height = (size_t)row_top(s, rows);
    if (!picture_new(width, height, &s->page, e)) {
        sheet_free(s);
        return false;
    }
    picture_fill(&s->page, 0, 0, width, height, WHITE);
    label(s, GAP, GAP, title, width - 2 * GAP);
    return true;
}

bool sheet_open(sheet *s, const picture *photo, size_t rows, bool texts, const char *title, err *e) {
    if (!open_page(s, photo, rows, COLUMNS, texts ? TEXTS : 0, title, e)) return false;
    tile(s, 0, 0, "photograph", &s->photo);
    return true;
}

static bool heat_tile(sheet *s, size_t row, size_t col, const char *name, const float *map, size_t mh, size_t mw,
                      const mask_image *mask, err *e) {
    picture heat = {0};
    if (!picture_heat(&s->photo, map, mh, mw, &heat, e)) return false;
    picture_outline(&heat, mask, WHITE);
    tile(s, row, col, name, &heat);
    picture_free(&heat);
    return true;
}

bool sheet_region(sheet *s, size_t row, const char *name, const mask_image *mask, const float *before,
                  const float *after, size_t mh, size_t mw, const double *loss, err *e) {
    char label_before[32] = "before", label_after[32] = "after";
    if (loss) {
        snprintf(label_before, sizeof label_before, "before: loss %.3f", loss[0]);
        snprintf(label_after, sizeof label_after, "after: loss %.3f", loss[1]);
    }
    picture outlined = {0};
    if (!picture_heat(&s->photo, mask->soft, mask->height, mask->width, &outlined, e)) return false;
    picture_outline(&outlined, mask, WHITE);
    tile(s, row, 1, name, &outlined);
    picture_free(&outlined);
    return heat_tile(s, row, 2, label_before, before, mh, mw, mask, e) &&
           heat_tile(s, row, 3, label_after, after, mh, mw, mask, e);
}

void sheet_text(sheet *s, size_t row, size_t line, const char *text, double share) {
    long x = column(s, COLUMNS), y = row_top(s, row) + LINE + (long)(line * (LINE + 8));
    if ((line + 1) * (LINE + 8) > s->photo.height) return;
    size_t room = TEXTS - GAP;
    picture_fill(&s->page, x, y + LINE - 4, room, 4, GREY);
    picture_fill(&s->page, x, y + LINE - 4, (size_t)(share * (double)room), 4, BAR);
    label(s, x, y, text, room);
}

bool sheet_open_grid(sheet *s, const picture *photo, size_t rows, size_t columns, const char *title, err *e) {
    return open_page(s, photo, rows, columns + 1, 0, title, e);
}

bool sheet_map(sheet *s, size_t row, size_t col, const char *row_name, const char *name, const float *map, size_t mh,
               size_t mw, err *e) {
    picture heat = {0};
    if (col == 0) tile(s, row, 0, row_name, &s->photo);
    if (!map) {
        label(s, column(s, col + 1), row_top(s, row), name, s->photo.width);
        return true;
    }
    if (!picture_heat(&s->photo, map, mh, mw, &heat, e)) return false;
    tile(s, row, col + 1, name, &heat);
    picture_free(&heat);
    return true;
}

void sheet_free(sheet *s) {
    picture_free(&s->page);
    picture_free(&s->photo);
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
static void blend_classes(picture *small, const picture *photo, const unsigned char *index, size_t *seen) {
    for (size_t y = 0; y < small->height; y++)
        for (size_t x = 0; x < small->width; x++) {
            size_t from = y * photo->height / small->height * photo->width + x * photo->width / small->width;
            unsigned char colour[3], *p = small->rgb + 3 * (y * small->width + x);
            class_colour(index[from], colour);
            for (int c = 0; c < 3; c++) p[c] = (unsigned char)((p[c] + colour[c]) / 2);
            seen[index[from]]++;
        }
}

static void legend_line(sheet *s, long x, size_t i, const char *name, double share) {
    char line[256];
    unsigned char colour[3];
    long y = (long)(GAP + i * LINE);
    class_colour(i, colour);
    picture_fill(&s->page, x, y, SWATCH, SWATCH, colour);
    snprintf(line, sizeof line, "%5.1f%% %.200s", 100 * share, name);
    label(s, x + SWATCH + 8, y, line, LEGEND - SWATCH - 8 - GAP);
}

bool legend_write(const char *path, const picture *photo, const unsigned char *index, const char *const *names,
                  size_t count, err *e) {
    size_t seen[CLASS_MOST] = {0}, lines = 2 * GAP + count * LINE;
    bool small = photo->width < LEGEND_PICTURE && photo->height < LEGEND_PICTURE;
    sheet s = {0};
    bool ok = picture_within(photo, small ? LEGEND_PICTURE : OVERLAY_SIDE, small, &s.photo, e);
    size_t width = s.photo.width, height = s.photo.height > lines ? s.photo.height : lines;
    ok = ok && picture_new(width + GAP + LEGEND, height, &s.page, e);
    if (ok) {
        picture_fill(&s.page, 0, 0, s.page.width, height, WHITE);
        blend_classes(&s.photo, photo, index, seen);
        picture_paste(&s.page, &s.photo, 0, 0);
        for (size_t i = 0; i < count; i++)
            legend_line(&s, (long)(width + GAP), i, names[i], (double)seen[i] / (double)(width * s.photo.height));
        ok = picture_write_png(path, &s.page, e);
    }
    sheet_free(&s);
    return ok;
}
