/* reading.c - from numbers to a region (see reading.h). */
#include "masks/reading.h"
#include <string.h>

/* ---- labels ------------------------------------------------------------------------------------------------ */
enum { LABELS_ALL = 1 << 24, LABELS_SHOWN = 6 };

bool mask_labels(const mask_plane *p, const char *name, size_t most, unsigned **labels, size_t *count, err *e) {
    size_t found = 0, n = p->width * p->height;
    unsigned char *seen = mem_alloc(LABELS_ALL / 8, 1);
    *labels = NULL, *count = 0;
    if (!seen) return err_set(e, "%s: no memory for its labels", name);
    for (size_t i = 0; i < n; i++) {
        size_t v = (size_t)p->value[i];
        found += !(seen[v / 8] >> v % 8 & 1);
        seen[v / 8] |= (unsigned char)(1u << v % 8);
    }
    bool ok = p->whole || err_set(e, "%s: holds other than whole numbers: no labels", name);
    if (ok && found > most)
        ok = err_set(e, "%s: holds %zu different values, at most %zu labels are read from a file", name, found, most);
    if (ok && !(*labels = mem_alloc(found, sizeof **labels))) ok = err_set(e, "%s: no memory for its labels", name);
    for (size_t v = 0; ok && v < LABELS_ALL; v++)
        if (seen[v / 8] >> v % 8 & 1) (*labels)[(*count)++] = (unsigned)v;
    mem_free(seen);
    return ok;
}

void mask_label_text(const mask_plane *p, unsigned label, char text[16]) {
    snprintf(text, 16, p->colours ? "#%06x" : "%u", label);
}

/* "0, 1, 7 and 12 more" */
static void list_labels(const mask_plane *p, const char *name, char *out, size_t size) {
    unsigned *labels;
    size_t count, n = 0;
    err quiet;
    *out = 0;
    if (!mask_labels(p, name, LABELS_ALL, &labels, &count, &quiet)) return;
    for (size_t i = 0; i < count && i < LABELS_SHOWN; i++) {
        char text[16];
        mask_label_text(p, labels[i], text);
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", text);
    }
    if (count > LABELS_SHOWN) snprintf(out + n, size - n, " and %zu more", count - LABELS_SHOWN);
    mem_free(labels);
}

bool mask_of_label(mask_plane *p, unsigned label, const char *name, mask_image *m, err *e) {
    size_t n = p->width * p->height, inside = 0;
    char all[128], text[16];
    for (size_t i = 0; i < n; i++) inside += p->value[i] == (real)label;
    if (!inside) {
        list_labels(p, name, all, sizeof all);
        mask_label_text(p, label, text);
        return err_set(e, "%s: none of its pixels is %s; it holds %s", name, text, all);
    }
    for (size_t i = 0; i < n; i++) p->value[i] = p->value[i] == (real)label ? 1 : 0;
    *m = (mask_image){p->width, p->height, p->value};
    p->value = NULL;
    return true;
}

/* ---- what was seen ---------------------------------------------------------------------------------------------- */
typedef struct {
    real largest, below_full; /* below_full: the largest but for `full` itself; 0: none */
    size_t zeros;
    double mean;
} plane_facts;

static plane_facts look(const mask_plane *p, real full) {
    plane_facts f = {0};
    size_t n = p->width * p->height;
    for (size_t i = 0; i < n; i++) {
        real v = p->value[i];
        if (v > f.largest) f.largest = v;
        if (v < full && v > f.below_full) f.below_full = v;
        f.zeros += v == 0;
    }
    return f;
}

/* Whatever is no 0 is either full or a small number: labels with a border that is left out, as VOC has it. */
static bool labels_and_border(const plane_facts *f, real full) {
    return f->largest == full && full == 255 && f->below_full > 0 && f->below_full <= 64;
}

static void say_more(char said[MASK_SAYS], const char *text) {
    size_t n = strlen(said);
    snprintf(said + n, MASK_SAYS - n, "%s%s", n ? "; " : "", text);
}

static void say_what_was_seen(const mask_plane *p, const char *name, const plane_facts *f, real full,
                              char said[MASK_SAYS]) {
    char line[512], values[128];
    if (p->see_through > 0) {
        snprintf(line, sizeof line, "its alpha channel, which %.0f %% of the pixels fill, was not looked at (-k '%.200s:alpha' takes it)",
                 100 * p->opaque, name);
        say_more(said, line);
    }
    bool faint = f->largest < (real).9 * full, border = p->whole && labels_and_border(f, full);
    if (p->coloured) {
        snprintf(line, sizeof line, "it is %s, read by its brightness (-k '%.200s:%s' takes one %s, --labels each)",
                 p->palette ? "a picture with a palette" : "coloured", name, p->palette ? "NUMBER" : "#RRGGBB",
                 p->palette ? "label" : "colour");
        say_more(said, line);
    } else if (p->whole && (faint || border)) {
        list_labels(p, name, values, sizeof values);
        snprintf(line, sizeof line,
                 "its values are %s, read as shares of %g: %s (if they are labels, -k '%.200s:NUMBER' takes one, --labels each)",
                 values, (double)full, border ? "the small ones are nearly nothing" : "nowhere full", name);
        say_more(said, line);
    } else if (faint) {
        snprintf(line, sizeof line, "its largest value is %.3g of %g: nowhere full", (double)f->largest, (double)full);
        say_more(said, line);
    }
    if (!f->zeros) say_more(said, "none of its pixels is 0: the whole picture is in the region");
}

bool mask_of_plane(mask_plane *p, const char *name, mask_image *m, char said[MASK_SAYS], err *e) {
    size_t n = p->width * p->height;
    real full = p->full;
    plane_facts f = look(p, 255);
    if (f.largest == 0)
        return err_set(e, "%s: the mask is empty: all of its %zux%zu pixels are 0%s", name, p->width, p->height,
                       p->see_through > 0 ? "; its alpha is not looked at: -k FILE:alpha takes it" : "");
    if (full == 0) full = f.largest == 1 ? 1 : f.largest <= 255 ? 255 : 65535;
    if (f.largest > full)
        return err_set(e, "%s: its largest value is %g, at most 65535 expected; if these are labels, '%s:NUMBER' takes one", name,
                       (double)f.largest, name);
    say_what_was_seen(p, name, &f, full, said);
    for (size_t i = 0; i < n; i++) p->value[i] /= full;
    *m = (mask_image){p->width, p->height, p->value};
    p->value = NULL;
    return true;
}

bool mask_read(const char *path, mask_image *m, err *e) {
    char said[MASK_SAYS] = "";
    mask_file f;
    mask_plane p;
    *m = (mask_image){0};
    if (!mask_file_open(path, &(mask_frame){0}, &f, e)) return false;
    bool ok = f.how->read(&f, 0, MASK_SHOWN, &p, e) && mask_of_plane(&p, path, m, said, e);
    if (ok || p.value) mask_plane_free(&p);
    mask_file_close(&f);
    return ok;
}
