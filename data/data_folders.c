/* data_folders.c - datasets that are folders of pictures: ADE20K, Cityscapes, ImageNet and its segmentation, MVTec AD,
 * VisA, Flickr30k. */
#include "data/reader.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

/* Classes that a file lists. */
typedef struct {
    char id[16], *name, *text;
} own_class;
typedef struct {
    own_class *own;
    data_class *classes;
    uint32_t *value;
    size_t count, room;
} class_table;

/* The text of a class is the first of its synonyms, which commas (or semicolons) divide. */
static bool add_class(data_reader *r, class_table *t, size_t number, const char *name, size_t length) {
    size_t first = 0;
    while (first < length && name[first] != ',' && name[first] != ';') first++;
    if (!mem_grow(&t->own, &t->room, t->count + 1, sizeof *t->own))
        return err_set(r->e, "no memory for %zu classes", t->count + 1);
    own_class *c = &t->own[t->count++];
    *c = (own_class){.name = mem_text_of(name, length), .text = mem_text_of(name, first)};
    snprintf(c->id, sizeof c->id, "%zu", number);
    return (c->name && c->text) || err_set(r->e, "no memory for a class");
}

static bool tell_classes(data_reader *r, class_table *t) {
    t->classes = mem_alloc(t->count, sizeof *t->classes);
    t->value = mem_alloc(t->count, sizeof *t->value);
    if (!t->classes || !t->value) return err_set(r->e, "no memory for %zu classes", t->count);
    for (size_t i = 0; i < t->count; i++) {
        t->classes[i] = (data_class){t->own[i].id, t->own[i].name, t->own[i].text};
        t->value[i] = (uint32_t)strtoul(t->own[i].id, NULL, 10);
    }
    return r->sink->classes(r->sink->arg, t->classes, t->count, r->e);
}

static void free_classes(class_table *t) {
    for (size_t i = 0; i < t->count; i++) mem_free(t->own[i].name), mem_free(t->own[i].text);
    mem_free(t->own), mem_free(t->classes), mem_free(t->value);
}

/* name without its ending. */
static path_text stem_of(const char *name) {
    const char *dot = strrchr(name, '.');
    return path_of("%.*s", (int)(dot ? (size_t)(dot - name) : strlen(name)), name);
}

/* ---- ADE20K ------------------------------------------------------------------------------------------- */
static const char ade_base[] = "ADEChallengeData2016";

/* objectInfo150.txt: Idx, Ratio, Train, Val, Name between tabs. */
static bool ade_classes(data_reader *r, class_table *t) {
    name_list lines;
    path_text path = reader_path(r, "%s/objectInfo150.txt", ade_base);
    if (!reader_lines(r, path.text, &lines)) return false;
    bool ok = true;
    for (size_t i = 1; ok && i < lines.count; i++) {
        const char *name = lines.item[i];
        for (int k = 0; k < 4 && name; k++) name = strchr(name, '\t') ? strchr(name, '\t') + 1 : NULL;
        unsigned long n = strtoul(lines.item[i], NULL, 10);
        if (!name || !n || n >= LABEL_VALUES)
            ok = err_set(r->e, "%s: \"%.80s\" found, a number, three more columns and names between tabs expected", path.text, lines.item[i]);
        else
            ok = add_class(r, t, n, name, strcspn(name, "\t"));
    }
    names_free(&lines);
    return ok && (t->count || err_set(r->e, "%s: lists no class", path.text)) && tell_classes(r, t);
}

static bool ade_picture(data_reader *r, const char *entry, const class_table *t) {
    label_image l;
    const char *why;
    path_text id = stem_of(entry), file = path_of("%s/images/%s/%s.jpg", ade_base, r->split, id.text);
    data_picture p = {.id = id.text, .file = file.text, .class_index = -1};
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_HERE) return state != PICTURE_STOP;
    if (!reader_labels(r, reader_path(r, "%s/annotations/%s/%s", ade_base, r->split, entry).text, &l, &why))
        return reader_skip(r, true, why, "%s", id.text);
    bool ok = reader_classes(r, &l, &(label_classes){id.text, t->classes, t->value, t->count, NULL});
    labels_free(&l);
    return ok;
}

bool read_ade20k(void *reader) {
    data_reader *r = reader;
    class_table t = {0};
    name_list maps = {0};
    bool ok =
        ade_classes(r, &t) && reader_folder(r, reader_path(r, "%s/annotations/%s", ade_base, r->split).text, &maps);
    for (size_t i = 0; ok && i < maps.count; i++)
        if (ends_like(maps.item[i], ".png")) ok = ade_picture(r, maps.item[i], &t);
    ok = ok && reader_unlabelled(r, path_of("%s/images/%s", ade_base, r->split).text, path_of("%s/annotations/%s", ade_base, r->split).text);
    names_free(&maps), free_classes(&t);
    return ok;
}

/* ---- Cityscapes ------------------------------------------------------------------------------------------ */
enum { CITY_CLASSES = 19, CITY_LAST = 33, CITY_UNKNOWN = 254, CITY_NONE = LABEL_NOTHING };
/* id: the number for training; value: the number of labelIds. */
static const data_class city_classes[CITY_CLASSES] = {
    {"0", "road", "road"},
    {"1", "sidewalk", "sidewalk"},
    {"2", "building", "building"},
    {"3", "wall", "wall"},
    {"4", "fence", "fence"},
    {"5", "pole", "pole"},
    {"6", "traffic light", "traffic light"},
    {"7", "traffic sign", "traffic sign"},
    {"8", "vegetation", "vegetation"},
    {"9", "terrain", "terrain"},
    {"10", "sky", "sky"},
    {"11", "person", "person"},
    {"12", "rider", "rider"},
    {"13", "car", "car"},
    {"14", "truck", "truck"},
    {"15", "bus", "bus"},
    {"16", "train", "train"},
    {"17", "motorcycle", "motorcycle"},
    {"18", "bicycle", "bicycle"},
};
static const unsigned char city_ids[CITY_CLASSES] = {7,  8,  11, 12, 13, 17, 19, 20, 21, 22,
                                                     23, 24, 25, 26, 27, 28, 31, 32, 33};

static uint32_t city_class(uint32_t id) {
    for (uint32_t c = 0; c < CITY_CLASSES; c++)
        if (city_ids[c] == id) return c;
    return id <= CITY_LAST || id == CITY_NONE ? CITY_NONE : CITY_UNKNOWN;
}

/* labelTrainIds, or labelIds turned into them. */
static bool city_labels(data_reader *r, const char *stem, label_image *l, const char **why) {
    path_text path = path_of("%slabelTrainIds.png", stem);
    if (file_exists(path.text)) return reader_labels(r, path.text, l, why);
    path = path_of("%slabelIds.png", stem);
    if (!reader_labels(r, path.text, l, why)) return false;
    for (size_t i = 0; i < l->width * l->height; i++) l->value[i] = city_class(l->value[i]);
    return true;
}

/* Numbers from 1000 on are objects: class * 1000 + which. */
static bool city_objects(data_reader *r, const char *id, const label_image *l) {
    if (!reader_count(r, l)) return false;
    for (uint32_t k = 1000; k < LABEL_VALUES; k++) {
        uint32_t c = city_class(k / 1000);
        if (!r->counts[k] || c == CITY_NONE) continue;
        path_text name = path_of("%s/object%u", id, (unsigned)k);
        if (c == CITY_UNKNOWN) {
            if (!reader_skip(r, true, "object without a class", "%s", name.text)) return false;
            continue;
        }
        data_region region = {.id = name.text,
                              .kind = "instance",
                              .class_id = city_classes[c].id,
                              .class_whole = true,
                              .class_name = city_classes[c].name,
                              .class_index = (long)c};
        if (!reader_mask_of(r, l, k) || !reader_region(r, &region)) return false;
    }
    return true;
}

static bool city_picture(data_reader *r, const char *city, const char *entry) {
    static const char ending[] = "_leftImg8bit.png";
    uint32_t value[CITY_CLASSES];
    label_image l;
    const char *why;
    path_text id = path_of("%.*s", (int)(strlen(entry) - strlen(ending)), entry),
              file = path_of("leftImg8bit/%s/%s/%s", r->split, city, entry),
              stem = reader_path(r, "gtFine/%s/%s/%s_gtFine_", r->split, city, id.text);
    data_picture p = {.id = id.text, .file = file.text, .class_index = -1};
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_HERE) return state != PICTURE_STOP;
    for (uint32_t i = 0; i < CITY_CLASSES; i++) value[i] = i;
    if (!city_labels(r, stem.text, &l, &why)) return reader_skip(r, true, why, "%s", id.text);
    bool ok = reader_classes(r, &l, &(label_classes){id.text, city_classes, value, CITY_CLASSES, NULL});
    labels_free(&l);
    if (r->labels) return ok;
    path_text objects = path_of("%sinstanceIds.png", stem.text);
    if (!ok || !file_exists(objects.text)) return ok;
    if (!reader_labels(r, objects.text, &l, &why)) return reader_skip(r, true, why, "%s/objects", id.text);
    ok = city_objects(r, id.text, &l);
    labels_free(&l);
    return ok;
}

bool read_cityscapes(void *reader) {
    data_reader *r = reader;
    name_list cities = {0};
    bool ok = reader_folder(r, reader_path(r, "leftImg8bit/%s", r->split).text, &cities) &&
              r->sink->classes(r->sink->arg, city_classes, CITY_CLASSES, r->e);
    for (size_t i = 0; ok && i < cities.count; i++) {
        name_list files = {0};
        path_text folder = reader_path(r, "leftImg8bit/%s/%s", r->split, cities.item[i]);
        if (!folder_exists(folder.text)) continue;
        ok = reader_folder(r, folder.text, &files);
        for (size_t k = 0; ok && k < files.count; k++)
            if (ends_like(files.item[k], "_leftImg8bit.png")) ok = city_picture(r, cities.item[i], files.item[k]);
        names_free(&files);
    }
    names_free(&cities);
    return ok;
}

/* ---- ImageNet and ImageNet-S --------------------------------------------------------------------------------- */
/* LOC_synset_mapping.txt: "n01440764 tench, Tinca tinca". The words of a synset up to the first comma, in *length. */
static const char *words_of(const char *line, size_t *length) {
    const char *words = line + strcspn(line, " ");
    words += strspn(words, " ");
    *length = strcspn(words, ",");
    while (*length && words[*length - 1] == ' ') --*length;
    return words;
}

/* The line of a synset in the mapping (sorted by it), or NULL. */
static const char *find_line(const name_list *sorted, const char *synset) {
    size_t lo = 0, hi = sorted->count, n = strlen(synset);
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strncmp(sorted->item[mid], synset, n);
        if (order == 0 && sorted->item[mid][n] == ' ') return sorted->item[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

typedef struct {
    name_list lines, synsets; /* the mapping; the synsets of the classes, in their order */
    class_table t;
    const char *base;
} imagenet;

static bool is_picture(const char *name) { return ends_like(name, ".jpeg") || ends_like(name, ".jpg"); }

/* Class i is the i-th of the sorted synsets. */
static bool imagenet_s_classes(data_reader *r, imagenet *n) {
    static const char *const sizes[] = {"919", "300", "50"};
    const char *size = sizes[0];
    for (size_t k = 0; k < 3; k++)
        if (folder_exists(reader_path(r, "ImageNetS%s", sizes[k]).text)) {
            size = sizes[k];
            break;
        }
    n->base = size;
    if (!reader_lines(r, reader_path(r, "ImageNetS_categories_im%s.txt", size).text, &n->synsets) ||
        !reader_lines(r, reader_path(r, "LOC_synset_mapping.txt").text, &n->lines))
        return false;
    if (n->synsets.count) qsort(n->synsets.item, n->synsets.count, sizeof *n->synsets.item, by_text);
    if (n->lines.count) qsort(n->lines.item, n->lines.count, sizeof *n->lines.item, by_text);
    for (size_t i = 0; i < n->synsets.count; i++) {
        const char *line = find_line(&n->lines, n->synsets.item[i]), *words = n->synsets.item[i];
        size_t length = strlen(words);
        if (line) words = words_of(line, &length);
        if (!add_class(r, &n->t, i + 1, words, length)) return false;
    }
    return tell_classes(r, &n->t);
}

static bool imagenet_s_regions(data_reader *r, imagenet *n, const char *id, const label_image *l) {
    enum { IGNORED = 1000 };
    if (!reader_count(r, l)) return false;
    size_t ignored = r->counts[IGNORED], known = r->counts[0] + ignored, all = l->width * l->height;
    for (size_t i = 0; i < n->t.count; i++) known += i + 1 == IGNORED ? 0 : r->counts[i + 1];
    if (known < all && !reader_skip(r, true, path_of("%zu pixels of no class", all - known).text, "%s/labels", id)) return false;
    for (size_t i = 0; i < n->t.count; i++) {
        if (!r->counts[i + 1]) continue;
        path_text name = path_of("%s/class%zu", id, i + 1),
                  more = path_of(",\"synset\":\"%s\",\"ignored\":%zu", n->synsets.item[i], ignored);
        data_region region = {.id = name.text,
                              .kind = "semantic",
                              .class_id = n->t.own[i].id,
                              .class_whole = true,
                              .class_name = n->t.own[i].name,
                              .class_index = (long)i,
                              .more = more.text};
        if (!reader_mask_of(r, l, (uint32_t)i + 1) || !reader_region(r, &region)) return false;
    }
    return true;
}

static bool imagenet_s_picture(data_reader *r, imagenet *n, const char *synset, const char *entry) {
    label_image l;
    const char *why;
    path_text id = stem_of(entry), file = path_of("ImageNetS%s/%s/%s/%s", n->base, r->split, synset, entry);
    data_picture p = {.id = id.text, .file = file.text, .class_index = -1};
    for (size_t i = 0; i < n->synsets.count; i++)
        if (!strcmp(n->synsets.item[i], synset)) p.class_index = (long)i;
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_HERE) return state != PICTURE_STOP;
    path_text path = reader_path(r, "ImageNetS%s/%s-segmentation/%s/%s.png", n->base, r->split, synset, id.text);
    if (!reader_labels(r, path.text, &l, &why)) return reader_skip(r, true, why, "%s", id.text);
    bool ok = imagenet_s_regions(r, n, id.text, &l);
    labels_free(&l);
    return ok;
}

/* The pictures of each synset's folder below `folder`. */
static bool each_synset(data_reader *r, imagenet *n, const char *folder,
                        bool (*read)(data_reader *, imagenet *, const char *, const char *)) {
    name_list synsets = {0};
    bool ok = reader_folder(r, folder, &synsets);
    for (size_t i = 0; ok && i < synsets.count; i++) {
        name_list files = {0};
        path_text below = path_of("%s/%s", folder, synsets.item[i]);
        if (!folder_exists(below.text)) continue;
        ok = reader_folder(r, below.text, &files);
        for (size_t k = 0; ok && k < files.count; k++) ok = read(r, n, synsets.item[i], files.item[k]);
        names_free(&files);
    }
    names_free(&synsets);
    return ok;
}

static bool imagenet_s_file(data_reader *r, imagenet *n, const char *synset, const char *entry) {
    return !is_picture(entry) || imagenet_s_picture(r, n, synset, entry);
}

static void imagenet_free(imagenet *n) { names_free(&n->lines), names_free(&n->synsets), free_classes(&n->t); }

bool read_imagenet_s(void *reader) {
    data_reader *r = reader;
    imagenet n = {0};
    bool ok = imagenet_s_classes(r, &n) &&
              each_synset(r, &n, reader_path(r, "ImageNetS%s/%s", n.base, r->split).text, imagenet_s_file);
    imagenet_free(&n);
    return ok;
}

/* "n01440764"; other folders are not the dataset's. */
static bool is_synset(const char *folder) { return folder[0] == 'n' && strlen(folder) == 9 && strspn(folder + 1, "0123456789") == 8; }

/* A class is a line of the mapping. */
static bool imagenet_file(data_reader *r, imagenet *n, const char *synset, const char *entry) {
    size_t k = 0, length = strlen(synset);
    while (k < n->lines.count && (strncmp(n->lines.item[k], synset, length) != 0 || n->lines.item[k][length] != ' '))
        k++;
    if (!is_picture(entry) && !ends_like(entry, ".png")) return true;
    if (k == n->lines.count) return !is_synset(synset) || reader_skip(r, false, "class not in LOC_synset_mapping.txt", "%s/%s", synset, entry);
    path_text id = stem_of(entry), file = path_of("%s/%s/%s", r->split, synset, entry),
              more = path_of(",\"synset\":\"%s\"", synset);
    data_picture p = {.id = id.text, .file = file.text, .class_index = (long)k, .more = more.text};
    return reader_picture(r, &p) != PICTURE_STOP;
}

bool read_imagenet(void *reader) {
    data_reader *r = reader;
    imagenet n = {0};
    bool ok = reader_lines(r, reader_path(r, "LOC_synset_mapping.txt").text, &n.lines);
    for (size_t i = 0; ok && i < n.lines.count; i++) {
        size_t length;
        const char *words = words_of(n.lines.item[i], &length);
        ok = add_class(r, &n.t, i, words, length);
    }
    path_text flat = reader_path(r, "%s/ILSVRC2012_val_00000001.JPEG", r->split);
    if (ok && file_exists(flat.text))
        ok = err_set(
            r->e,
            "%s: lies among the folders of classes; ILSVRC2012_validation_ground_truth.txt numbers them in another "
            "order than the mapping's, so %s/WNID/NAME.JPEG is expected (valprep.sh makes it)",
            flat.text, r->split);
    ok = ok && tell_classes(r, &n.t) && each_synset(r, &n, reader_path(r, "%s", r->split).text, imagenet_file);
    imagenet_free(&n);
    return ok;
}

/* ---- anomalies: MVTec AD, VisA --------------------------------------------------------------------------------- */
/* mask_file NULL: a good picture. *why: left out. */
static bool anomaly_mask(data_reader *r, const char *mask_file, const char **why) {
    label_image l;
    *why = NULL;
    if (!reader_mask(r)) return false;
    if (!mask_file) return true;
    if (!reader_labels(r, mask_file, &l, why)) {
        static const struct {
            const char *label, *mask;
        } words[] = {{"label picture missing", "mask missing"},
                     {"label picture unreadable", "mask unreadable"},
                     {"label picture of another size", "mask of another size"}};
        for (size_t k = 0; k < 3; k++)
            if (!strcmp(*why, words[k].label)) *why = words[k].mask;
        return true;
    }
    for (size_t i = 0; i < r->width * r->height; i++) r->mask[i] = l.value[i] != 0;
    labels_free(&l);
    return true;
}

static bool anomaly(data_reader *r, const char *id, const char *file, const char *mask_file, const char *category,
                    long index, const char *more) {
    const char *why;
    data_picture p = {.id = id, .file = file, .class_index = index};
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_HERE) return state != PICTURE_STOP;
    if (!anomaly_mask(r, mask_file, &why)) return false;
    if (why) return reader_skip(r, true, why, "%s", id);
    data_region region = {
        .id = id, .kind = "anomaly", .class_id = category, .class_name = category, .class_index = index, .more = more};
    return reader_region(r, &region);
}

static bool tell_names(data_reader *r, const name_list *names) {
    data_class *classes = mem_alloc(names->count, sizeof *classes);
    if (!classes) return err_set(r->e, "no memory for %zu classes", names->count);
    for (size_t i = 0; i < names->count; i++) classes[i] = (data_class){names->item[i], names->item[i], names->item[i]};
    bool ok = r->sink->classes(r->sink->arg, classes, names->count, r->e);
    mem_free(classes);
    return ok;
}

static bool mvtec_file(data_reader *r, const char *category, long index, const char *defect, const char *entry) {
    bool good = !strcmp(defect, "good");
    path_text stem = stem_of(entry), id = path_of("%s/%s/%s/%s", category, r->split, defect, stem.text),
              file = path_of("%s/%s/%s/%s", category, r->split, defect, entry),
              mask = reader_path(r, "%s/ground_truth/%s/%s_mask.png", category, defect, stem.text);
    r->more.length = 0;
    say(&r->more, ",\"defect\":");
    say_quoted(&r->more, defect);
    say(&r->more, ",\"anomalous\":%s", good ? "false" : "true");
    return anomaly(r, id.text, file.text, good ? NULL : mask.text, category, index, r->more.text);
}

static bool mvtec_category(data_reader *r, const char *category, long index) {
    name_list defects = {0};
    bool ok = reader_folder(r, reader_path(r, "%s/%s", category, r->split).text, &defects);
    for (size_t i = 0; ok && i < defects.count; i++) {
        name_list files = {0};
        path_text folder = reader_path(r, "%s/%s/%s", category, r->split, defects.item[i]);
        if (!folder_exists(folder.text)) continue;
        ok = reader_folder(r, folder.text, &files);
        for (size_t k = 0; ok && k < files.count; k++)
            if (ends_like(files.item[k], ".png")) ok = mvtec_file(r, category, index, defects.item[i], files.item[k]);
        names_free(&files);
    }
    names_free(&defects);
    return ok;
}

static bool is_category(const data_reader *r, const char *folder) {
    return folder_exists(reader_path(r, "%s/ground_truth", folder).text) || folder_exists(reader_path(r, "%s/train", folder).text);
}

bool read_mvtec(void *reader) {
    data_reader *r = reader;
    name_list all = {0}, categories = {0};
    bool ok = reader_folder(r, r->root, &all);
    for (size_t i = 0; ok && i < all.count; i++) {
        if (folder_exists(reader_path(r, "%s/%s", all.item[i], r->split).text))
            ok = names_add(r, &categories, all.item[i], strlen(all.item[i]));
        else if (is_category(r, all.item[i]))
            ok = reader_skip(r, false, path_of("no folder %s in it", r->split).text, "%s", all.item[i]);
    }
    if (ok && !categories.count)
        ok = err_set(r->e, "%s: no folder CATEGORY/%s in it. The layout of %s is expected; get it from %s", r->root,
                     r->split, r->set->title, r->set->where);
    ok = ok && tell_names(r, &categories);
    for (size_t i = 0; ok && i < categories.count; i++) ok = mvtec_category(r, categories.item[i], (long)i);
    names_free(&all), names_free(&categories);
    return ok;
}

/* ---- VisA: split_csv/1cls.csv lists object, split, label, image, mask ------------------------------------------- */
typedef struct {
    csv file;
    size_t column[5]; /* object, split, label, image, mask */
    name_list objects;
} visa;

static const char *visa_field(const visa *v, size_t k) {
    return v->column[k] < v->file.count ? v->file.field[v->column[k]] : "";
}

static bool visa_open(data_reader *r, visa *v) {
    static const char *const names[] = {"object", "split", "label", "image", "mask"};
    path_text path = reader_path(r, "split_csv/1cls.csv");
    if (!reader_needs(r, path.text) || !csv_open(&v->file, path.text, r->e)) return false;
    if (!csv_next(&v->file, r->e)) return v->file.ended ? err_set(r->e, "%s: is empty", path.text) : false;
    for (size_t k = 0; k < 5; k++)
        if (!csv_column(&v->file, names[k], &v->column[k], r->e)) return false;
    while (csv_next(&v->file, r->e)) {
        bool known = strcmp(visa_field(v, 1), r->split) != 0;
        for (size_t i = 0; !known && i < v->objects.count; i++) known = !strcmp(v->objects.item[i], visa_field(v, 0));
        if (!known && !names_add(r, &v->objects, visa_field(v, 0), strlen(visa_field(v, 0)))) return false;
    }
    if (v->objects.count) qsort(v->objects.item, v->objects.count, sizeof *v->objects.item, by_text);
    return v->file.ended && tell_names(r, &v->objects) && csv_seek(&v->file, 0, r->e) && csv_next(&v->file, r->e);
}

static bool visa_row(data_reader *r, const visa *v) {
    long index = 0;
    bool normal = !strcmp(visa_field(v, 2), "normal");
    if (!normal && strcmp(visa_field(v, 2), "anomaly") != 0)
        return reader_skip(r, false, "a row of neither normal nor anomaly", "%s", visa_field(v, 3));
    path_text id = path_of("%s", visa_field(v, 3)),
              mask = reader_path(r, "%s", *visa_field(v, 4) ? visa_field(v, 4) : "no mask");
    for (size_t i = 0; i < v->objects.count; i++)
        if (!strcmp(v->objects.item[i], visa_field(v, 0))) index = (long)i;
    return anomaly(r, id.text, id.text, normal ? NULL : mask.text, v->objects.item[index], index,
                   normal ? ",\"anomalous\":false" : ",\"anomalous\":true");
}

bool read_visa(void *reader) {
    data_reader *r = reader;
    visa v = {0};
    bool ok = visa_open(r, &v);
    while (ok && csv_next(&v.file, r->e)) {
        const char *split = visa_field(&v, 1);
        if (!strcmp(split, r->split)) ok = visa_row(r, &v);
        else if (strcmp(split, "train") != 0 && strcmp(split, "test") != 0)
            ok = reader_skip(r, false, "a row of neither train nor test", "%s", *visa_field(&v, 3) ? visa_field(&v, 3) : "a row without image");
    }
    ok = ok && v.file.ended;
    csv_close(&v.file), names_free(&v.objects);
    return ok;
}

/* ---- Flickr30k -----------------------------------------------------------------------------------------------------
 */
enum { SENTENCES_MOST = 64 };
static bool is_split(const char *split) { return !strcmp(split, "train") || !strcmp(split, "val") || !strcmp(split, "test"); }

static bool flickr_picture(data_reader *r, const cJSON *item, size_t nth) {
    const char *name = item_text(item, "filename"), *split = item_text(item, "split"), *captions[SENTENCES_MOST];
    const cJSON *sentence;
    size_t n = 0;
    path_text number = path_of("image %zu", nth);
    if (!split || !is_split(split)) return reader_skip(r, false, "no split", "%s", name ? name : number.text);
    if (strcmp(split, r->split) != 0) return true;
    if (!name) return reader_skip(r, false, "no filename", "%s", number.text);
    cJSON_ArrayForEach(sentence, cJSON_GetObjectItemCaseSensitive(item, "sentences")) {
        const char *raw = item_text(sentence, "raw"), *why = !raw ? "sentence without raw" : "more sentences than are read";
        if (raw && n < SENTENCES_MOST) captions[n++] = raw;
        else if (!reader_skip(r, false, why, "%s", name)) return false;
    }
    path_text file = path_of("flickr30k-images/%s", name);
    data_picture p = {.id = name, .file = file.text, .class_index = -1, .captions = captions, .caption_count = n};
    return reader_picture(r, &p) != PICTURE_STOP;
}

bool read_flickr30k(void *reader) {
    data_reader *r = reader;
    json_stream s = {0};
    size_t nth = 0;
    path_text path = reader_path(r, "dataset_flickr30k.json");
    bool ok = reader_needs(r, path.text) && r->sink->classes(r->sink->arg, NULL, 0, r->e) &&
              json_stream_open(&s, path.text, r->e);
    while (ok && json_stream_next(&s, r->e))
        if (!strcmp(s.section, "images")) ok = flickr_picture(r, s.item, nth++);
    ok = ok && s.ended;
    json_stream_close(&s);
    return ok;
}
