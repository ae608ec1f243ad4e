/* data_voc.c - PASCAL VOC 2012, and PASCAL Context in both of its forms (converted PNGs, the original MATLAB maps). */
#include "data/mat5.h"
#include "data/reader.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

/* ---- VOC 2012 ------------------------------------------------------------------------------------- */
enum { VOC_CLASSES = 20, VOC_VOID = 255 };
static const data_class voc_classes[VOC_CLASSES] = {
    {"1", "aeroplane", "aeroplane"},
    {"2", "bicycle", "bicycle"},
    {"3", "bird", "bird"},
    {"4", "boat", "boat"},
    {"5", "bottle", "bottle"},
    {"6", "bus", "bus"},
    {"7", "car", "car"},
    {"8", "cat", "cat"},
    {"9", "chair", "chair"},
    {"10", "cow", "cow"},
    {"11", "diningtable", "dining table"},
    {"12", "dog", "dog"},
    {"13", "horse", "horse"},
    {"14", "motorbike", "motorbike"},
    {"15", "person", "person"},
    {"16", "pottedplant", "potted plant"},
    {"17", "sheep", "sheep"},
    {"18", "sofa", "sofa"},
    {"19", "train", "train"},
    {"20", "tvmonitor", "tv monitor"},
};

/* VOC's palette backwards: index bits 0, 3, 6 are red's bits 7, 6, 5, bits 1, 4, 7 green's, 2 and 5 blue's 7 and 6. */
static bool voc_index(uint32_t rgb, uint32_t *index) {
    uint32_t red = rgb & 255, green = rgb >> 8 & 255, blue = rgb >> 16;
    *index = 0;
    for (unsigned k = 0; k < 3; k++) {
        *index |= (red >> (7 - k) & 1) << (3 * k);
        *index |= (green >> (7 - k) & 1) << (3 * k + 1);
        if (k < 2) *index |= (blue >> (7 - k) & 1) << (3 * k + 2);
    }
    return (red & 31) == 0 && (green & 31) == 0 && (blue & 63) == 0;
}

static bool voc_labels(data_reader *r, const char *path, label_image *l, const char **why) {
    if (!reader_labels(r, path, l, why)) return false;
    for (size_t i = 0; l->colours && i < l->width * l->height; i++)
        if (!voc_index(l->value[i], &l->value[i])) {
            labels_free(l);
            *why = "label picture of other colours than the palette's";
            return false;
        }
    return true;
}

/* The commonest class under object k; 0: none. */
static size_t voc_class_under(const label_image *classes, const label_image *objects, uint32_t k) {
    size_t count[VOC_CLASSES + 1] = {0}, best = 0;
    for (size_t i = 0; i < objects->width * objects->height; i++)
        if (objects->value[i] == k && classes->value[i] <= VOC_CLASSES) count[classes->value[i]]++;
    count[0] = 0;
    for (size_t c = 1; c <= VOC_CLASSES; c++)
        if (count[c] > count[best]) best = c;
    return best;
}

static bool voc_objects(data_reader *r, const char *id, const label_image *classes, const label_image *objects) {
    if (!reader_count(r, objects)) return false;
    for (uint32_t k = 1; k < LABEL_VALUES; k++) {
        if (!r->counts[k] || k == VOC_VOID) continue;
        size_t c = voc_class_under(classes, objects, k);
        path_text name = path_of("%s/object%u", id, (unsigned)k);
        if (!c) {
            if (!reader_skip(r, true, "object without a class", "%s", name.text)) return false;
            continue;
        }
        data_region region = {.id = name.text,
                              .kind = "instance",
                              .class_id = voc_classes[c - 1].id,
                              .class_whole = true,
                              .class_name = voc_classes[c - 1].name,
                              .class_index = (long)c - 1};
        if (!reader_mask_of(r, objects, k) || !reader_region(r, &region)) return false;
    }
    return true;
}

static const char voc_base[] = "VOCdevkit/VOC2012";
static bool voc_picture(data_reader *r, const char *id) {
    uint32_t value[VOC_CLASSES];
    label_image classes, objects;
    const char *why;
    path_text path = reader_path(r, "%s/SegmentationClass/%s.png", voc_base, id);
    for (uint32_t i = 0; i < VOC_CLASSES; i++) value[i] = i + 1;
    if (!voc_labels(r, path.text, &classes, &why)) return reader_skip(r, true, why, "%s", id);
    bool ok = reader_classes(r, &classes, &(label_classes){id, voc_classes, value, VOC_CLASSES, NULL});
    if (r->labels) return labels_free(&classes), ok;
    path = reader_path(r, "%s/SegmentationObject/%s.png", voc_base, id);
    if (ok && file_exists(path.text)) {
        if (voc_labels(r, path.text, &objects, &why)) {
            ok = voc_objects(r, id, &classes, &objects);
            labels_free(&objects);
        } else {
            ok = reader_skip(r, true, why, "%s/objects", id);
        }
    }
    labels_free(&classes);
    return ok;
}

/* The pictures of a list, each read by `read`. */
static bool listed_pictures(data_reader *r, const char *list, const char *file_format,
                            bool (*read)(data_reader *r, const char *id)) {
    name_list ids;
    if (!reader_lines(r, list, &ids)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < ids.count; i++) {
        path_text file = path_of("%s/%s.jpg", file_format, ids.item[i]);
        data_picture p = {.id = ids.item[i], .file = file.text, .class_index = -1};
        picture_state state = reader_picture(r, &p);
        ok = state != PICTURE_STOP && (state != PICTURE_HERE || read(r, ids.item[i]));
    }
    names_free(&ids);
    return ok;
}

bool read_voc2012(void *reader) {
    data_reader *r = reader;
    path_text list = reader_path(r, "%s/ImageSets/Segmentation/%s.txt", voc_base, r->split);
    return r->sink->classes(r->sink->arg, voc_classes, VOC_CLASSES, r->e) &&
           listed_pictures(r, list.text, "VOCdevkit/VOC2012/JPEGImages", voc_picture);
}

/* ---- Context ---------------------------------------------------------------------------------------- */
/* The 59 classes in the order of the converted PNGs, which is alphabetical; `id` is the label there. */
enum { CONTEXT_CLASSES = 59 };
static const char context_base[] = "VOCdevkit/VOC2010";
static const data_class context_classes[CONTEXT_CLASSES] = {
    {"1", "aeroplane", "aeroplane"},
    {"2", "bag", "bag"},
    {"3", "bed", "bed"},
    {"4", "bedclothes", "bedclothes"},
    {"5", "bench", "bench"},
    {"6", "bicycle", "bicycle"},
    {"7", "bird", "bird"},
    {"8", "boat", "boat"},
    {"9", "book", "book"},
    {"10", "bottle", "bottle"},
    {"11", "building", "building"},
    {"12", "bus", "bus"},
    {"13", "cabinet", "cabinet"},
    {"14", "car", "car"},
    {"15", "cat", "cat"},
    {"16", "ceiling", "ceiling"},
    {"17", "chair", "chair"},
    {"18", "cloth", "cloth"},
    {"19", "computer", "computer"},
    {"20", "cow", "cow"},
    {"21", "cup", "cup"},
    {"22", "curtain", "curtain"},
    {"23", "dog", "dog"},
    {"24", "door", "door"},
    {"25", "fence", "fence"},
    {"26", "floor", "floor"},
    {"27", "flower", "flower"},
    {"28", "food", "food"},
    {"29", "grass", "grass"},
    {"30", "ground", "ground"},
    {"31", "horse", "horse"},
    {"32", "keyboard", "keyboard"},
    {"33", "light", "light"},
    {"34", "motorbike", "motorbike"},
    {"35", "mountain", "mountain"},
    {"36", "mouse", "mouse"},
    {"37", "person", "person"},
    {"38", "plate", "plate"},
    {"39", "platform", "platform"},
    {"40", "pottedplant", "potted plant"},
    {"41", "road", "road"},
    {"42", "rock", "rock"},
    {"43", "sheep", "sheep"},
    {"44", "shelves", "shelves"},
    {"45", "sidewalk", "sidewalk"},
    {"46", "sign", "sign"},
    {"47", "sky", "sky"},
    {"48", "snow", "snow"},
    {"49", "sofa", "sofa"},
    {"50", "table", "table"},
    {"51", "track", "track"},
    {"52", "train", "train"},
    {"53", "tree", "tree"},
    {"54", "truck", "truck"},
    {"55", "tvmonitor", "tv monitor"},
    {"56", "wall", "wall"},
    {"57", "water", "water"},
    {"58", "window", "window"},
    {"59", "wood", "wood"},
};

static bool context_picture(data_reader *r, const char *id) {
    uint32_t value[CONTEXT_CLASSES];
    label_image l;
    const char *why;
    path_text path = reader_path(r, "%s/SegmentationClassContext/%s.png", context_base, id);
    for (uint32_t i = 0; i < CONTEXT_CLASSES; i++) value[i] = i + 1;
    if (!reader_labels(r, path.text, &l, &why)) return reader_skip(r, true, why, "%s", id);
    bool ok = reader_classes(r, &l, &(label_classes){id, context_classes, value, CONTEXT_CLASSES, NULL});
    labels_free(&l);
    return ok;
}

bool read_context(void *reader) {
    data_reader *r = reader;
    path_text list = reader_path(r, "%s/ImageSets/SegmentationContext/%s.txt", context_base, r->split);
    return r->sink->classes(r->sink->arg, context_classes, CONTEXT_CLASSES, r->e) &&
           listed_pictures(r, list.text, "VOCdevkit/VOC2010/JPEGImages", context_picture);
}

/* ---- Context as MATLAB maps of 459 labels --------------------------------------------------------------- */
typedef struct { /* "N: name" of 59_labels.txt, with name's number in labels.txt */
    char id[16];
    uint32_t label;
} mat_class;
typedef struct {
    name_list few, all;
    data_class *classes;
    mat_class *own;
    uint32_t *value;
} mat_tables;

/* "N: name" -> N, and the name in it. */
static const char *numbered(const char *line, unsigned long *n) {
    char *end;
    *n = strtoul(line, &end, 10);
    if (end == line || *end != ':') return NULL;
    return end + 1 + strspn(end + 1, " \t");
}

/* 59_labels.txt spells three of them otherwise. */
static const char *full_name(const char *few) {
    return !strcmp(few, "diningtable") ? "table"
           : !strcmp(few, "bedcloth")  ? "bedclothes"
           : !strcmp(few, "clothes")   ? "cloth"
                                       : few;
}

static bool mat_class_of(data_reader *r, mat_tables *t, size_t i) {
    unsigned long n, label;
    const char *name = numbered(t->few.item[i], &n);
    if (!name || n > 1000000)
        return err_set(r->e, "%s/59_labels.txt: \"%s\" found, N: name expected", r->root, t->few.item[i]);
    for (size_t k = 0; k < t->all.count; k++) {
        const char *other = numbered(t->all.item[k], &label);
        if (!other) return err_set(r->e, "%s/labels.txt: \"%s\" found, N: name expected", r->root, t->all.item[k]);
        if (strcmp(other, full_name(name)) != 0) continue;
        snprintf(t->own[i].id, sizeof t->own[i].id, "%lu", n);
        t->value[i] = (uint32_t)label;
        t->classes[i] = (data_class){t->own[i].id, name, name};
        return true;
    }
    return err_set(r->e, "%s/labels.txt: %s of 59_labels.txt is not in it", r->root, name);
}

static bool mat_open(data_reader *r, mat_tables *t) {
    memset(t, 0, sizeof *t);
    if (!reader_lines(r, reader_path(r, "labels.txt").text, &t->all) ||
        !reader_lines(r, reader_path(r, "59_labels.txt").text, &t->few))
        return false;
    t->classes = mem_alloc(t->few.count, sizeof *t->classes);
    t->own = mem_alloc(t->few.count, sizeof *t->own);
    t->value = mem_alloc(t->few.count, sizeof *t->value);
    if (!t->classes || !t->own || !t->value) return err_set(r->e, "no memory for %zu classes", t->few.count);
    for (size_t i = 0; i < t->few.count; i++)
        if (!mat_class_of(r, t, i)) return false;
    return true;
}

static void mat_close(mat_tables *t) {
    names_free(&t->few), names_free(&t->all);
    mem_free(t->classes), mem_free(t->own), mem_free(t->value);
}

static const char *why_not_map(data_reader *r, const char *path, label_image *l) {
    err e = {0};
    if (!file_exists(path)) return "label map missing";
    if (!mat5_read(path, "LabelMap", l, &e)) return "label map unreadable";
    if (l->width == r->width && l->height == r->height) return NULL;
    labels_free(l);
    return "label map of another size";
}

static bool mat_regions(data_reader *r, const char *id, const label_image *l, const mat_tables *t) {
    bool ok = reader_count(r, l);
    for (size_t i = 0; ok && i < t->few.count; i++) {
        if (t->value[i] >= LABEL_VALUES || !r->counts[t->value[i]]) continue;
        path_text name = path_of("%s/class%s", id, t->classes[i].id),
                  more = path_of(",\"label459\":%u", (unsigned)t->value[i]);
        data_region region = {.id = name.text,
                              .kind = "semantic",
                              .class_id = t->classes[i].id,
                              .class_whole = true,
                              .class_name = t->classes[i].name,
                              .class_index = (long)i,
                              .more = more.text};
        ok = reader_mask_of(r, l, t->value[i]) && reader_region(r, &region);
    }
    return ok;
}

static bool mat_picture(data_reader *r, const char *id, const mat_tables *t) {
    path_text file = path_of("JPEGImages/%s.jpg", id);
    label_image l;
    if (!file_exists(reader_path(r, "%s", file.text).text)) { /* as VOC 2010 has them */
        path_text other = path_of("%s/JPEGImages/%s.jpg", context_base, id);
        if (file_exists(reader_path(r, "%s", other.text).text)) file = other;
    }
    data_picture p = {.id = id, .file = file.text, .class_index = -1};
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_HERE) return state != PICTURE_STOP;
    const char *why = why_not_map(r, reader_path(r, "trainval/%s.mat", id).text, &l);
    if (why) return reader_skip(r, true, why, "%s", id);
    bool ok = mat_regions(r, id, &l, t);
    labels_free(&l);
    return ok;
}

/* VOC 2010's lists divide the maps, where they are there: val is what papers evaluate. */
static path_text mat_list(const data_reader *r, const char *split) {
    path_text own = reader_path(r, "%s/ImageSets/SegmentationContext/%s.txt", context_base, split);
    return file_exists(own.text) ? own : reader_path(r, "%s/ImageSets/Main/%s.txt", context_base, split);
}

static bool mat_ids(data_reader *r, name_list *ids) {
    name_list maps = {0};
    if (!r->asked && file_exists(mat_list(r, "val").text)) r->split = "val";
    if (strcmp(r->split, "trainval") != 0) return reader_lines(r, mat_list(r, r->split).text, ids);
    bool ok = reader_folder(r, reader_path(r, "trainval").text, &maps);
    for (size_t i = 0; ok && i < maps.count; i++) {
        size_t n = strlen(maps.item[i]);
        if (n > 4 && !strcmp(maps.item[i] + n - 4, ".mat")) ok = names_add(r, ids, maps.item[i], n - 4);
    }
    names_free(&maps);
    return ok;
}

bool read_context_mat(void *reader) {
    data_reader *r = reader;
    mat_tables t;
    name_list ids = {0};
    bool ok = mat_open(r, &t) && mat_ids(r, &ids) && r->sink->classes(r->sink->arg, t.classes, t.few.count, r->e);
    for (size_t i = 0; ok && i < ids.count; i++) ok = mat_picture(r, ids.item[i], &t);
    names_free(&ids);
    mat_close(&t);
    return ok;
}
