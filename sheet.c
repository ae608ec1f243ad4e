/* sheet.c - overlays, and the sheet of all regions (see sheet.h). */
#include "sheet.h"
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

bool sheet_open(sheet *s, const picture *photo, size_t rows, bool texts, const char *title, err *e) {
    memset(s, 0, sizeof *s);
    if (!picture_within(photo, TILE, true, &s->photo, e)) return false;
    s->rows = rows;
    size_t width = (size_t)column(s, COLUMNS) + (texts ? TEXTS : 0), height = (size_t)row_top(s, rows);
    if (!picture_new(width, height, &s->page, e)) {
        sheet_free(s);
        return false;
    }
    picture_fill(&s->page, 0, 0, width, height, WHITE);
    label(s, GAP, GAP, title, width - 2 * GAP);
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

void sheet_free(sheet *s) {
    picture_free(&s->page);
    picture_free(&s->photo);
    memset(s, 0, sizeof *s);
}
