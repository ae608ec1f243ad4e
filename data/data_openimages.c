/* data_openimages.c - Open Images V7: masks, points and boxes, each in a table of its own, joined by picture. */
#include "data/reader.h"
#include "files/files.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct { /* a table, its columns, and its rows by picture */
    csv file;
    bool there;
    size_t column[8];
    places rows, groups;
} table;
typedef struct {
    char label[64], *name;
    bool used;
} described;
typedef struct {
    table masks, points, boxes;
    described *label;
    size_t label_count, label_room;
    data_class *classes;
    uint32_t *class_of; /* of a label among the classes */
    size_t class_count;
    data_point *point;
    size_t point_room;
} images;

/* ---- tables --------------------------------------------------------------------------------------- */
static const char *field(const table *t, size_t column) {
    return t->column[column] < t->file.count ? t->file.field[t->column[column]] : "";
}

/* columns[0] is the picture's. */
static bool index_table(data_reader *r, table *t, const char *path, const char *const *columns, size_t count) {
    if (!csv_open(&t->file, path, r->e)) return false;
    t->there = true;
    if (!csv_next(&t->file, r->e)) return t->file.ended ? err_set(r->e, "%s: is empty", path) : false;
    for (size_t i = 0; i < count; i++)
        if (!csv_column(&t->file, columns[i], &t->column[i], r->e)) return false;
    while (csv_next(&t->file, r->e)) {
        const char *image = field(t, 0);
        if (*image ? !places_add(r, &t->rows, text_key(image), t->file.at)
                   : !reader_skip(r, false, "a row without picture", "%s at byte %llu", strrchr(path, '/') + 1, (unsigned long long)t->file.at))
            return false;
    }
    places_sort(&t->rows);
    return t->file.ended;
}

static bool row_at(data_reader *r, table *t, uint64_t at) {
    return csv_seek(&t->file, at, r->e) && csv_next(&t->file, r->e);
}

static void close_table(table *t) {
    csv_close(&t->file);
    places_free(&t->rows), places_free(&t->groups);
}

/* ---- descriptions: the first that a label has counts ------------------------------------------------- */
static int by_label(const void *a, const void *b) {
    return strcmp(((const described *)a)->label, ((const described *)b)->label);
}

static described *find_label(const images *m, const char *label) {
    described key;
    if (strlen(label) >= sizeof key.label || !m->label_count) return NULL;
    strcpy(key.label, label);
    return bsearch(&key, m->label, m->label_count, sizeof key, by_label);
}

static bool describe(data_reader *r, images *m, const char *path) {
    csv t;
    if (!file_exists(path)) return true;
    if (!csv_open(&t, path, r->e)) return false;
    bool ok = true;
    size_t before = m->label_count;
    while (ok && csv_next(&t, r->e)) { /* some have a header, some have none */
        described one = {.used = false}, *known = NULL;
        if (t.count < 2 || t.field[0][0] != '/' || strlen(t.field[0]) >= sizeof one.label) continue;
        strcpy(one.label, t.field[0]);
        if (before) known = bsearch(&one, m->label, before, sizeof one, by_label);
        if (known) continue;
        ok = mem_grow(&m->label, &m->label_room, m->label_count + 1, sizeof *m->label) &&
             (one.name = mem_text(t.field[1]));
        if (!ok) {
            err_set(r->e, "no memory for %zu labels", m->label_count + 1);
            break;
        }
        m->label[m->label_count++] = one;
    }
    ok = ok && t.ended;
    csv_close(&t);
    if (ok && m->label_count) qsort(m->label, m->label_count, sizeof *m->label, by_label);
    return ok;
}

/* The classes are the names of the labels that masks have, in alphabetical order. */
static int by_name(const void *a, const void *b) {
    const data_class *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    return names ? names : strcmp(x->id, y->id);
}

static bool find_classes(data_reader *r, images *m) {
    for (size_t i = 0; i < m->masks.rows.count; i++) {
        if (!row_at(r, &m->masks, m->masks.rows.item[i].at)) return false;
        described *d = find_label(m, field(&m->masks, 1));
        if (d) d->used = true;
    }
    m->classes = mem_alloc(m->label_count, sizeof *m->classes);
    m->class_of = mem_alloc(m->label_count, sizeof *m->class_of);
    if (!m->classes || !m->class_of) return err_set(r->e, "no memory for %zu labels", m->label_count);
    for (size_t i = 0; i < m->label_count; i++)
        if (m->label[i].used)
            m->classes[m->class_count++] = (data_class){m->label[i].label, m->label[i].name, m->label[i].name};
    if (m->class_count) qsort(m->classes, m->class_count, sizeof *m->classes, by_name);
    for (size_t i = 0; i < m->class_count; i++) m->class_of[find_label(m, m->classes[i].id) - m->label] = (uint32_t)i;
    return r->sink->classes(r->sink->arg, m->classes, m->class_count, r->e);
}

/* ---- one picture ------------------------------------------------------------------------------------------ */
/* Masks lie flat, or in folders named by the first digit of the picture's name. */
static bool mask_path(const data_reader *r, const char *image, const char *name, path_text *out) {
    char digit[2] = {image[0], 0},
         upper[2] = {image[0] >= 'a' && image[0] <= 'z' ? (char)(image[0] - 32) : image[0], 0};
    const char *folders[] = {"", digit, upper};
    for (size_t k = 0; k < 3; k++) {
        *out = reader_path(r, "%s-masks/%s%s%s", r->split, folders[k], k ? "/" : "", name);
        if (file_exists(out->text)) return true;
    }
    return false;
}

/* The nearest pixel of a mask of another size, centres aligned. */
static size_t nearest(size_t i, size_t of, size_t native) {
    size_t at = (size_t)(((double)i + .5) * (double)native / (double)of);
    return at < native ? at : native - 1;
}

static bool mask_region(data_reader *r, images *m, const char *image) {
    path_text path, id = path_of("%s", field(&m->masks, 2));
    label_image l;
    err why = {0};
    described *d = find_label(m, field(&m->masks, 1));
    if (strchr(id.text, '/') || !mask_path(r, image, id.text, &path))
        return reader_skip(r, true, "mask missing", "%s", id.text);
    if (!labels_read(path.text, &l, &why)) return reader_skip(r, true, "mask unreadable", "%s", id.text);
    bool ok = reader_mask(r);
    for (size_t y = 0; ok && y < r->height; y++)
        for (size_t x = 0; x < r->width; x++)
            r->mask[y * r->width + x] =
                l.value[nearest(y, r->height, l.height) * l.width + nearest(x, r->width, l.width)] != 0;
    path_text more = path_of(",\"native\":[%zu,%zu]", l.height, l.width);
    labels_free(&l);
    if (!ok) return false;
    if (!d) return reader_skip(r, true, "label without a description", "%s", id.text);
    data_region region = {.id = id.text,
                          .kind = "instance",
                          .class_id = d->label,
                          .class_name = d->name,
                          .class_index = (long)m->class_of[d - m->label],
                          .more = more.text};
    return reader_region(r, &region);
}

static bool mask_regions(data_reader *r, images *m, const char *image, size_t first, bool gone) {
    const places *p = &m->masks.rows;
    for (size_t k = first; k < p->count && p->item[k].key == p->item[first].key; k++) {
        if (!row_at(r, &m->masks, p->item[k].at)) return false;
        if (!(gone ? reader_skip(r, false, "picture missing", "%s", field(&m->masks, 2)) : mask_region(r, m, image)))
            return false;
    }
    return true;
}

/* A share of the side as a pixel; false: no share. */
static bool pixel_of(const char *text, size_t side, size_t *out) {
    char *end;
    double share = strtod(text, &end);
    if (end == text || !(share >= 0 && share <= 1)) return false;
    *out = (size_t)(share * (double)side);
    if (*out >= side) *out = side - 1;
    return true;
}

static void forget_points(images *m, size_t n) {
    for (size_t i = 0; i < n; i++)
        mem_free((void *)(uintptr_t)m->point[i].label), mem_free((void *)(uintptr_t)m->point[i].name),
            mem_free((void *)(uintptr_t)m->point[i].answer);
}

static bool find_points(data_reader *r, images *m, uint64_t key, size_t width, size_t height, size_t *n) {
    const places *p = &m->points.rows;
    *n = 0;
    for (size_t k = places_find(p, key); k < p->count && p->item[k].key == key; k++) {
        data_point one = {0};
        if (!row_at(r, &m->points, p->item[k].at)) return false;
        const char *answer = field(&m->points, 4), *why = NULL;
        if (!pixel_of(field(&m->points, 1), width, &one.x) || !pixel_of(field(&m->points, 2), height, &one.y))
            why = "point beyond the picture";
        else if (strcmp(answer, "yes") != 0 && strcmp(answer, "no") != 0 && strcmp(answer, "unsure") != 0)
            why = "answer neither yes, no nor unsure";
        if (why) {
            if (!reader_skip(r, false, why, "point of %s", field(&m->points, 0))) return false;
            continue;
        }
        described *d = find_label(m, field(&m->points, 3));
        one.label = mem_text(field(&m->points, 3)), one.answer = mem_text(field(&m->points, 4));
        one.name = mem_text(d && *d->name ? d->name : field(&m->points, 5));
        if (!one.label || !one.answer || !one.name || !mem_grow(&m->point, &m->point_room, *n + 1, sizeof *m->point))
            return err_set(r->e, "no memory for the points of a picture");
        m->point[(*n)++] = one;
    }
    return true;
}

static bool box_of(const table *t, double box[4], long *group) {
    char *end;
    for (size_t i = 0; i < 4; i++) {
        const char *text = field(t, 2 + i);
        box[i] = strtod(text, &end);
        if (end == text || *end || !isfinite(box[i])) return false;
    }
    *group = strtol(field(t, 6), &end, 10);
    return end != field(t, 6) && !*end;
}

static bool say_boxes(data_reader *r, images *m, uint64_t key) {
    const places *p = &m->boxes.rows;
    const char *comma = "";
    size_t first = places_find(p, key);
    r->other.length = 0;
    say(&r->other, "%s", "");
    if (first == p->count) return true;
    say(&r->other, ",\"boxes\":[");
    for (size_t k = first; k < p->count && p->item[k].key == key; k++) {
        double box[4];
        long group;
        if (!row_at(r, &m->boxes, p->item[k].at)) return false;
        if (!box_of(&m->boxes, box, &group)) {
            if (!reader_skip(r, false, "box of no four numbers and group", "box of %s", field(&m->boxes, 0))) return false;
            continue;
        }
        say(&r->other, "%s{\"label\":", comma), comma = ",";
        say_quoted(&r->other, field(&m->boxes, 1));
        say(&r->other, ",\"box\":[%.17g,%.17g,%.17g,%.17g],\"group\":%ld}", box[0], box[1], box[2], box[3], group);
    }
    say(&r->other, "]");
    return true;
}

static bool skip_points(data_reader *r, images *m, uint64_t key) {
    const places *p = &m->points.rows;
    for (size_t k = places_find(p, key); k < p->count && p->item[k].key == key; k++)
        if (!row_at(r, &m->points, p->item[k].at) ||
            !reader_skip(r, false, "picture missing", "point of %s", field(&m->points, 0)))
            return false;
    return true;
}

/* masks: its first row there, or none at all (count). */
static bool one_picture(data_reader *r, images *m, const char *image, size_t masks) {
    uint64_t key = text_key(image);
    path_text file = path_of("%s/%s.jpg", r->split, image);
    data_picture p = {.id = image, .file = file.text, .class_index = -1};
    size_t width, height, points = 0;
    picture_state state = reader_look(r, &p, &width, &height);
    if (state == PICTURE_STOP) return false;
    if (state == PICTURE_GONE)
        return (masks == m->masks.rows.count || mask_regions(r, m, image, masks, true)) && skip_points(r, m, key);
    bool ok = find_points(r, m, key, width, height, &points) && say_boxes(r, m, key);
    if (ok) {
        p.points = m->point, p.point_count = points, p.more = r->other.text;
        state = reader_tell(r, &p, width, height);
    }
    forget_points(m, points);
    if (!ok || state == PICTURE_STOP) return false;
    return state == PICTURE_OTHER || masks == m->masks.rows.count || mask_regions(r, m, image, masks, false);
}

/* ---- all pictures: those with masks, then those with points alone ------------------------------------------ */
static bool pictures_of(data_reader *r, images *m, table *t, const table *but) {
    if (!places_groups(r, &t->rows, &t->groups)) return false;
    for (size_t i = 0; i < t->groups.count; i++) {
        if (but && places_find(&but->rows, t->rows.item[t->groups.item[i].key].key) < but->rows.count) continue;
        if (!row_at(r, t, t->groups.item[i].at)) return false;
        path_text image = path_of("%s", field(t, 0));
        if (!one_picture(r, m, image.text, but ? m->masks.rows.count : (size_t)t->groups.item[i].key)) return false;
    }
    return true;
}

bool read_openimages(void *reader) {
    static const char *const mask_columns[] = {"ImageID", "LabelName", "MaskPath"};
    static const char *const point_columns[] = {"ImageId", "X", "Y", "Label", "EstimatedYesNo", "TextLabel"};
    static const char *const box_columns[] = {"ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax", "IsGroupOf"};
    data_reader *r = reader;
    images m = {0};
    const char *brief = !strcmp(r->split, "validation") ? "val" : r->split;
    path_text masks = reader_path(r, "%s-annotations-object-segmentation.csv", r->split),
              points = reader_path(r, "oidv7-%s-annotations-point-labels.csv", brief),
              boxes = reader_path(r, "%s-annotations-bbox.csv", r->split);
    bool ok = describe(r, &m, reader_path(r, "oidv7-class-descriptions.csv").text) &&
              describe(r, &m, reader_path(r, "oidv7-class-descriptions-boxable.csv").text) &&
              describe(r, &m, reader_path(r, "class-descriptions-boxable.csv").text);
    if (ok && !m.label_count) ok = reader_needs(r, reader_path(r, "oidv7-class-descriptions.csv").text);
    ok = ok && reader_needs(r, masks.text) && index_table(r, &m.masks, masks.text, mask_columns, 3) &&
         (!file_exists(points.text) || index_table(r, &m.points, points.text, point_columns, 6)) &&
         (!file_exists(boxes.text) || index_table(r, &m.boxes, boxes.text, box_columns, 7)) && find_classes(r, &m) &&
         pictures_of(r, &m, &m.masks, NULL) && (!m.points.there || pictures_of(r, &m, &m.points, &m.masks));
    close_table(&m.masks), close_table(&m.points), close_table(&m.boxes);
    for (size_t i = 0; i < m.label_count; i++) mem_free(m.label[i].name);
    mem_free(m.label), mem_free(m.classes), mem_free(m.class_of), mem_free(m.point);
    return ok;
}
