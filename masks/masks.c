/* masks.c - from names to regions (see masks.h): names are followed, files looked at, regions named, then read when asked. */
#include "masks/masks.h"
#include "os/os.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS_MOST = 4096, NAME_MOST = 160, LABEL_MOST = 128 };

/* ---- items ------------------------------------------------------------------------------------------------- */
/* A new item, whose strings are copies. NULL: no memory. */
static mask_item *add_item(masks *m, const char *file, const char *path, err *e) {
    if (!mem_grow(&m->item, &m->room, m->count + 1, sizeof *m->item)) return err_set(e, "no memory for the masks"), NULL;
    mask_item *i = &m->item[m->count];
    *i = (mask_item){.file = mem_text(file), .path = mem_text(path)};
    m->count++;
    if (i->file && (i->path || !path)) return i;
    err_set(e, "%s: no memory", file);
    return NULL;
}

static void say(const masks *m, const char *file, const char *text) {
    if (*text && m->wishes.say) m->wishes.say(m->wishes.arg, file, text);
}

/* ---- a region's numbers ---------------------------------------------------------------------------------------- */
/* How much of pixel i lies between low and high. */
static double covered(size_t i, double low, double high) {
    double part = fmin((double)(i + 1), high) - fmax((double)i, low);
    return part > 0 ? part : 0;
}

static bool read_box(const masks *m, const mask_item *i, mask_image *out, err *e) {
    size_t w = m->wishes.width, h = m->wishes.height;
    const double *b = i->box;
    real *soft = mem_alloc(w * h, sizeof *soft);
    if (!soft) return err_set(e, "--box %s: no memory for a mask of %zux%zu pixels", i->file, w, h);
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            soft[y * w + x] = (real)(covered(x, b[0], b[0] + b[2]) * covered(y, b[1], b[1] + b[3]));
    *out = (mask_image){w, h, soft};
    return true;
}

static bool is_empty(const mask_plane *p) {
    for (size_t i = 0; i < p->width * p->height; i++)
        if (p->value[i] != 0) return false;
    return true;
}

/* Of a list, an empty one has no pixels (out->soft NULL) and is no error. */
static bool read_item(const mask_item *i, mask_file *f, mask_image *out, char said[MASK_SAYS], err *e) {
    mask_view view = i->pick == PICK_LABEL ? MASK_LABELS : i->pick == PICK_ALPHA ? MASK_ALPHA : MASK_SHOWN;
    mask_plane p;
    *said = 0;
    if (!f->how->read(f, i->plane, view, &p, e)) return false;
    if (i->pick == PICK_ALPHA) p.see_through = 0;
    if (i->listed && is_empty(&p)) return mask_plane_free(&p), *out = (mask_image){0}, true;
    bool ok = i->pick == PICK_LABEL ? mask_of_label(&p, i->label, i->path, out, e)
                                      : mask_of_plane(&p, i->file, out, said, e);
    mask_plane_free(&p);
    return ok;
}

/* The values as bytes, where 255ths hold them exactly and there is room. */
static void keep(masks *m, mask_item *i, const mask_image *seen) {
    size_t n = seen->width * seen->height;
    if (n > m->wishes.keep || m->kept > m->wishes.keep - n) return;
    for (size_t k = 0; k < n; k++) {
        real v = (real)round((double)seen->soft[k] * 255);
        if (v / 255 != seen->soft[k]) return;
    }
    if (!(i->bytes = mem_alloc(n, 1))) return; /* read again, then */
    for (size_t k = 0; k < n; k++) i->bytes[k] = (unsigned char)round((double)seen->soft[k] * 255);
    m->kept += n;
}

/* What comes of an item is known from here on: its sides, and that it can be read. */
static bool look_at(masks *m, mask_item *i, mask_file *f, err *e) {
    char said[MASK_SAYS] = "";
    mask_image seen = {0};
    if (!(f ? read_item(i, f, &seen, said, e) : read_box(m, i, &seen, e))) return false;
    say(m, i->path, said);
    i->width = seen.width, i->height = seen.height;
    if (!seen.soft) return true;
    if (seen.width * seen.height > m->largest) m->largest = seen.width * seen.height;
    keep(m, i, &seen);
    mask_free(&seen);
    return true;
}

/* ---- a file ------------------------------------------------------------------------------------------------------ */
static bool left_out(const mask_plane *p, unsigned label, unsigned largest) {
    if (label == 0) return true;
    return p->colours ? label == 0xFFFFFF : largest <= 255 ? label == 255 : label == 65535;
}

static bool add_labels(masks *m, const char *path, mask_file *f, err *e) {
    mask_plane p;
    unsigned *labels = NULL;
    size_t count, taken = 0;
    char text[16], out[64] = "", line[160];
    if (!f->how->read(f, 0, MASK_LABELS, &p, e)) return false;
    bool ok = mask_labels(&p, path, LABELS_MOST, &labels, &count, e);
    for (size_t k = 0; ok && k < count; k++) {
        char *named = NULL;
        mask_label_text(&p, labels[k], text);
        if (left_out(&p, labels[k], labels[count - 1])) {
            snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s", *out ? " and " : "", text);
            continue;
        }
        size_t n = strlen(path) + strlen(text) + 2;
        if ((named = mem_alloc(n, 1))) snprintf(named, n, "%s:%s", path, text);
        mask_item *i = named ? add_item(m, named, path, e) : NULL;
        ok = i != NULL || (named ? false : err_set(e, "%s: no memory", path));
        if (i) i->pick = PICK_LABEL, i->label = labels[k], taken++;
        ok = ok && look_at(m, i, f, e);
        mem_free(named);
    }
    mask_plane_free(&p);
    mem_free(labels);
    if (ok && !taken) return err_set(e, "%s: --labels: it holds nothing but %s", path, *out ? out : "one value");
    if (ok) snprintf(line, sizeof line, "--labels: %zu region%s%s%s%s", taken, taken == 1 ? "" : "s", *out ? "; " : "", out,
                     *out ? " left out" : "");
    if (ok) say(m, path, line);
    return ok;
}

/* ---- a list of regions -------------------------------------------------------------------------------------------- */
static void drop_item(masks *m) {
    mask_item *i = &m->item[--m->count];
    mem_free(i->file), mem_free(i->path), mem_free(i->name), mem_free(i->called), mem_free(i->bytes);
}

static bool add_listed(masks *m, const char *path, size_t plane, const char *label, mask_file *f, err *e) {
    char *named = mem_alloc(strlen(path) + 24, 1);
    if (named) sprintf(named, "%s:%zu", path, plane);
    mask_item *i = named ? add_item(m, named, path, e) : NULL;
    if (!named) err_set(e, "%s: no memory", path);
    mem_free(named);
    if (!i) return false;
    i->plane = plane, i->listed = true;
    if (*label && !(i->called = mem_text(label))) return err_set(e, "%s: no memory", path);
    return look_at(m, i, f, e);
}

/* What was left out of a list, in one line. */
static void say_left_out(const masks *m, const char *path, size_t many, size_t all, const char *why) {
    char line[1400];
    snprintf(line, sizeof line, "%zu of %zu regions %s", many, all, why);
    if (many) say(m, path, line);
}

/* All that are called so (NULL: all); the empty and the broken ones are left out, and that is said. */
static bool add_list_of(masks *m, const char *path, const char *wanted, mask_file *f, err *e) {
    size_t taken = 0, empty = 0, broken = 0, n = strlen(path);
    err wrong = {0};
    char label[LABEL_MOST], first[200] = "", why[1100];
    for (size_t k = 0; k < f->planes; k++) {
        bool named = f->how->name_of(f, k, label, sizeof label);
        if (named && !*first) snprintf(first, sizeof first, ": region %zu is called '%.100s'", k, label);
        if (wanted && strcmp(label, wanted) != 0) continue;
        size_t before = m->count;
        bool read = add_listed(m, path, k, label, f, e);
        if (read && m->item[before].width) {
            taken++;
            continue;
        }
        while (m->count > before) drop_item(m);
        if (!read && !broken) wrong = *e;
        *(read ? &empty : &broken) += 1;
    }
    if (!taken && broken) return *e = wrong, false;
    if (!taken && !empty)
        return err_set(e, "%s: none of its %zu regions is called '%s'%s", path, f->planes, wanted ? wanted : "", first);
    if (!taken) return err_set(e, "%s: the mask is empty: none of its %zu regions has a pixel", path, empty);
    snprintf(why, sizeof why, "cannot be read and are left out: %s", wrong.text + (strncmp(wrong.text, path, n) ? 0 : n + 2));
    say_left_out(m, path, empty, taken + empty + broken, "have no pixel and are left out");
    say_left_out(m, path, broken, taken + empty + broken, why);
    *e = (err){0};
    return true;
}

static bool add_planes(masks *m, const char *name, const char *path, mask_file *f, err *e) {
    if (f->how->name_of) return add_list_of(m, path, NULL, f, e);
    for (size_t k = 0; k < f->planes; k++) {
        mask_item *i = add_item(m, name, path, e);
        if (!i) return false;
        i->plane = k;
        if (!look_at(m, i, f, e)) return f->planes > 1 ? err_prefix(e, "mask %zu", k) : false;
    }
    return true;
}

/* A label's number from its text: "7", "#ff8000". */
static bool label_of(const char *text, unsigned *label) {
    bool hex = *text == '#';
    size_t n = strlen(text), digits = strspn(text + hex, hex ? "0123456789abcdefABCDEF" : "0123456789");
    if (n - hex != digits || (hex ? digits != 6 : digits < 1 || digits > 8)) return false;
    *label = (unsigned)strtoul(text + hex, NULL, hex ? 16 : 10);
    return *label < 1u << 24;
}

/* Of a list: one by its number, or all of a name. */
static bool add_of_list(masks *m, const char *name, const char *path, const char *part, mask_file *f, err *e) {
    unsigned plane;
    char label[LABEL_MOST];
    if (*part == '#' || !label_of(part, &plane)) return add_list_of(m, path, part, f, e);
    if (plane >= f->planes) return err_set(e, "%s: regions 0 to %zu are in it", name, f->planes - 1);
    f->how->name_of(f, plane, label, sizeof label);
    if (!add_listed(m, path, plane, label, f, e)) return false;
    return m->item[m->count - 1].width || err_set(e, "%s: the mask is empty", name);
}

/* ---- what lies under a point --------------------------------------------------------------------------------------- */
static bool point_of(const char *text, double point[2]) {
    char *end = NULL;
    if (!*text || strspn(text, "0123456789.,") != strlen(text)) return false;
    point[0] = strtod(text, &end);
    if (end == text || *end != ',') return false;
    const char *second = end + 1;
    point[1] = strtod(second, &end);
    return end != second && !*end;
}

/* The mask's pixel under a point of the photograph, over which it is laid; false: the point lies beyond. */
static bool pixel_under(const masks *m, const mask_plane *p, const double point[2], size_t *pixel) {
    double w = m->wishes.width ? (double)m->wishes.width : (double)p->width, h = m->wishes.height ? (double)m->wishes.height : (double)p->height;
    if (!(point[0] < w && point[1] < h)) return false;
    *pixel = (size_t)(point[1] * (double)p->height / h) * p->width + (size_t)(point[0] * (double)p->width / w);
    return *pixel < p->width * p->height;
}

/* Of several masks the smallest that covers the point; *plane = f->planes: none does. */
static bool plane_under(masks *m, const char *name, const double point[2], mask_file *f, size_t *plane, err *e) {
    size_t smallest = SIZE_MAX, pixel = 0;
    *plane = f->planes;
    for (size_t k = 0; k < f->planes; k++) {
        mask_plane p;
        size_t area = 0;
        if (!f->how->read(f, k, MASK_SHOWN, &p, e)) {
            if (!f->how->name_of) return false;
            *e = (err){0}; /* of a list, a broken one is none */
            continue;
        }
        bool inside = pixel_under(m, &p, point, &pixel);
        for (size_t i = 0; inside && i < p.width * p.height; i++) area += p.value[i] != 0;
        if (inside && p.value[pixel] != 0 && area < smallest) smallest = area, *plane = k;
        mask_plane_free(&p);
    }
    return *plane < f->planes || err_set(e, "%s: none of its %zu masks covers that point", name, f->planes);
}

static bool label_under(masks *m, const char *name, const char *path, const double point[2], mask_file *f, unsigned *label, err *e) {
    mask_plane p;
    unsigned *labels = NULL;
    size_t count, pixel = 0;
    if (!f->how->read(f, 0, MASK_LABELS, &p, e)) return false;
    bool ok = mask_labels(&p, path, LABELS_MOST, &labels, &count, e);
    if (ok && !pixel_under(m, &p, point, &pixel)) ok = err_set(e, "%s: that point lies beyond the picture", name);
    if (ok) *label = (unsigned)p.value[pixel];
    if (ok && left_out(&p, *label, labels[count - 1])) ok = err_set(e, "%s: nothing lies under that point: its label is %u", name, *label);
    mask_plane_free(&p);
    mem_free(labels);
    return ok;
}

static bool add_under(masks *m, const char *name, const char *path, const double point[2], mask_file *f, err *e) {
    size_t plane = 0;
    unsigned label = 0;
    char called[LABEL_MOST] = "";
    bool several = f->planes > 1 || f->how->name_of;
    if (several ? !plane_under(m, name, point, f, &plane, e) : !label_under(m, name, path, point, f, &label, e)) return false;
    if (f->how->name_of) return f->how->name_of(f, plane, called, sizeof called), add_listed(m, path, plane, called, f, e);
    mask_item *i = add_item(m, name, path, e);
    if (!i) return false;
    i->pick = several ? PICK_WHOLE : PICK_LABEL, i->plane = plane, i->label = label;
    return look_at(m, i, f, e);
}

/* One part of a file: what lies under a point, its alpha, a label, or where it holds several masks, one of them. */
static bool add_part(masks *m, const char *name, const char *path, const char *part, mask_file *f, err *e) {
    unsigned label = 0;
    double point[2];
    bool alpha = !strcmp(part, "alpha");
    if (point_of(part, point)) return add_under(m, name, path, point, f, e);
    if (f->how->name_of) return add_of_list(m, name, path, part, f, e);
    if (!alpha && !label_of(part, &label))
        return err_set(e, "%s: '%s' found after the file's name, a label's number, a colour #RRGGBB, a point x,y or alpha expected", name,
                       part);
    mask_item *i = add_item(m, name, path, e);
    if (!i) return false;
    i->pick = alpha ? PICK_ALPHA : f->planes > 1 ? PICK_WHOLE : PICK_LABEL;
    i->label = label;
    if (f->planes > 1 && !alpha && (i->plane = label) >= f->planes)
        return err_set(e, "%s: masks 0 to %zu are in it", name, f->planes - 1);
    return look_at(m, i, f, e);
}

static mask_frame frame_of(const masks *m) {
    return (mask_frame){m->wishes.photo, m->wishes.width, m->wishes.height, m->wishes.stored};
}

static bool add_file(masks *m, const char *name, const char *path, const char *part, err *e) {
    mask_file f;
    mask_frame frame = frame_of(m);
    if (!mask_file_open(path, &frame, &f, e)) return false;
    bool ok = part                ? add_part(m, name, path, part, &f, e)
              : m->wishes.labels && f.planes == 1 && !f.how->name_of ? add_labels(m, path, &f, e)
                                 : add_planes(m, name, path, &f, e);
    mask_file_close(&f);
    return ok;
}

/* ---- a name of -k ---------------------------------------------------------------------------------------------------- */
static bool add_list(masks *m, const char *name, file_list *list, const char *what, err *e) {
    bool ok = list->count > 0 || err_set(e, "%s: %s", name, what);
    for (size_t i = 0; ok && i < list->count; i++) ok = add_file(m, list->path[i], list->path[i], NULL, e);
    mem_free(list->path);
    return ok;
}

static bool add_name(masks *m, const char *name, err *e) {
    const char *colon = strrchr(name, ':');
    file_list list;
    if (!*name) return err_set(e, "the name of a mask is empty");
    if (file_exists(name)) return add_file(m, name, name, NULL, e);
    if (folder_exists(name))
        return folder_list(name, mask_file_name, &list, e) &&
               add_list(m, name, &list, "no mask in this folder: .png, .jpg, .bmp or .npy expected", e);
    char *path = colon ? mem_text_of(name, (size_t)(colon - name)) : NULL;
    if (colon && !path) return err_set(e, "%s: no memory", name);
    bool ok;
    if (path && *path && file_exists(path))
        ok = add_file(m, name, path, colon + 1, e);
    else if (strpbrk(name, "*?["))
        ok = pattern_list(name, &list, e) && add_list(m, name, &list, "no file is named so", e);
    else
        ok = err_set(e, "%s: no such file: a mask is FILE, FILE:LABEL, FILE:alpha, a folder of them, or a pattern", name);
    mem_free(path);
    return ok;
}

static bool add_box(masks *m, const char *text, err *e) {
    double b[4], w = (double)m->wishes.width, h = (double)m->wishes.height;
    char *end = NULL;
    const char *p = text;
    bool good = *text && strspn(text, "0123456789.,-") == strlen(text);
    for (int k = 0; good && k < 4; k++, p = end + 1) {
        b[k] = strtod(p, &end);
        good = end != p && isfinite(b[k]) && *end == (k < 3 ? ',' : 0);
    }
    if (!good) return err_set(e, "--box: '%s' found, x,y,w,h in pixels expected", text);
    if (!(b[2] > 0 && b[3] > 0 && b[0] < w && b[1] < h && b[0] + b[2] > 0 && b[1] + b[3] > 0))
        return err_set(e, "--box: '%s' holds nothing of the picture's %zux%zu pixels", text, m->wishes.width,
                       m->wishes.height);
    mask_item *i = add_item(m, text, NULL, e);
    if (!i) return false;
    i->pick = PICK_BOX;
    memcpy(i->box, b, sizeof b);
    return look_at(m, i, NULL, e);
}

/* ---- naming: each name once; what was taken is looked up in a table of hashes --------------------------------------------- */
typedef struct {
    size_t *slot; /* index + 1 of the item whose name lies here; 0: free */
    size_t *next; /* [slots] the number to try next for this name */
    size_t slots;
} name_table;

static size_t slot_of(const name_table *t, const masks *m, const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *p = name; *p; p++) hash = (hash ^ (unsigned char)*p) * 16777619u;
    size_t at = hash % t->slots;
    while (t->slot[at] && strcmp(m->item[t->slot[at] - 1].name, name) != 0) at = (at + 1) % t->slots;
    return at;
}

/* What the file calls it, as a file can be called: what is no letter, digit, - or . becomes _. */
static void label_name(const char *label, char *out, size_t size) {
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)label; *p && n + 1 < size; p++) {
        bool plain = *p >= 0x80 || (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     *p == '-' || (*p == '.' && n);
        out[n++] = (char)(plain ? *p : '_');
    }
    out[n] = 0;
}

/* The file's name without folder and ending, and what was picked from it; or what the file calls it. */
static void plain_name(const mask_item *i, char out[NAME_MOST + 48]) {
    const char *file = i->path ? i->path : i->file, *slash = os_last_slash(file), *base = slash ? slash + 1 : file;
    const char *dot = i->path ? strrchr(base, '.') : NULL;
    size_t n = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    if (n > NAME_MOST) n = NAME_MOST;
    if (i->called) {
        label_name(i->called, out, NAME_MOST);
        return;
    }
    snprintf(out, NAME_MOST + 48, "%s%.*s", i->path ? "" : "box_", (int)n, base);
    size_t end = strlen(out);
    if (i->pick == PICK_LABEL) snprintf(out + end, 48, strchr(i->file, '#') ? "_%06x" : "_%u", i->label);
    if (i->pick == PICK_ALPHA) snprintf(out + end, 48, "_alpha");
    if (i->plane || i->listed) snprintf(out + end, 48, "_%zu", i->plane);
    for (char *p = out; !i->path && *p; p++)
        if (*p == ',') *p = '_';
}

static bool name_item(masks *m, name_table *t, size_t index, err *e) {
    char plain[NAME_MOST + 48], tried[NAME_MOST + 80];
    mask_item *i = &m->item[index];
    plain_name(i, plain);
    size_t at = slot_of(t, m, plain), first = at;
    snprintf(tried, sizeof tried, "%s", plain);
    while (t->slot[at]) {
        if (!t->next[first]) t->next[first] = 2;
        snprintf(tried, sizeof tried, "%s_%zu", plain, t->next[first]++);
        at = slot_of(t, m, tried);
    }
    t->slot[at] = index + 1;
    i->name = mem_text(tried);
    return i->name || err_set(e, "%s: no memory", i->file);
}

static bool name_all(masks *m, err *e) {
    name_table t = {.slots = 2 * m->count + 1};
    t.slot = mem_alloc(t.slots, sizeof *t.slot);
    t.next = mem_alloc(t.slots, sizeof *t.next);
    bool ok = (t.slot && t.next) || err_set(e, "no memory for %zu names", m->count);
    for (size_t i = 0; ok && i < m->count; i++) ok = name_item(m, &t, i, e);
    mem_free(t.slot);
    mem_free(t.next);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------ */
bool masks_open(masks *m, const mask_wishes *w, err *e) {
    *m = (masks){.wishes = *w, .current = SIZE_MAX};
    for (size_t i = 0; i < w->count; i++)
        if (!add_name(m, w->files[i], e)) return false;
    for (size_t i = 0; i < w->box_count; i++)
        if (!add_box(m, w->boxes[i], e)) return false;
    return name_all(m, e);
}

/* The item's file stays open for the next ones in it. */
static bool open_again(masks *m, const mask_item *i, err *e) {
    mask_frame frame = frame_of(m);
    if (m->opened && !strcmp(m->opened, i->path)) return true;
    if (m->opened) mask_file_close(&m->open);
    m->opened = NULL;
    if (!mask_file_open(i->path, &frame, &m->open, e)) return false;
    m->opened = i->path;
    return true;
}

const mask_image *masks_at(masks *m, size_t index, err *e) {
    const mask_item *i = &m->item[index];
    char said[MASK_SAYS];
    if (m->current == index) return &m->now;
    m->current = SIZE_MAX;
    mask_free(&m->now);
    bool ok = true;
    if (i->bytes) {
        size_t n = i->width * i->height;
        m->now = (mask_image){i->width, i->height, mem_alloc(n, sizeof *m->now.soft)};
        if (!(ok = m->now.soft != NULL)) err_set(e, "%s: no memory for a mask of %zux%zu pixels", i->file, i->width, i->height);
        for (size_t k = 0; ok && k < n; k++) m->now.soft[k] = (real)i->bytes[k] / 255;
    } else if (i->pick == PICK_BOX) {
        ok = read_box(m, i, &m->now, e);
    } else {
        ok = open_again(m, i, e) && read_item(i, &m->open, &m->now, said, e);
        if (ok && (m->now.width != i->width || m->now.height != i->height))
            ok = err_set(e, "%s: has changed since it was looked at", i->file);
    }
    if (!ok) return NULL;
    m->current = index;
    return &m->now;
}

void masks_close(masks *m) {
    if (m->opened) mask_file_close(&m->open);
    while (m->count) drop_item(m);
    mem_free(m->item);
    mask_free(&m->now);
    *m = (masks){0};
}
