/* data_coco.c - COCO 2017's objects, its panoptic segments, and COCO-Stuff's label pictures. */
#include "data/coco.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

/* ---- the table: pictures, annotations and categories of one JSON file ------------------------------- */
static bool add_category(data_reader *r, coco_table *t, const cJSON *item) {
    uint64_t id;
    const char *name = item_text(item, "name");
    if (!item_whole(item, "id", &id) || !name) /* what is of it will be "of a category that is not there" */
        return reader_skip(r, false, "no id or no name", "category %s", name ? name : "without name");
    if (!mem_grow(&t->category, &t->category_room, t->category_count + 1, sizeof *t->category))
        return err_set(r->e, "no memory for %zu categories", t->category_count + 1);
    coco_category *c = &t->category[t->category_count++];
    const cJSON *thing = cJSON_GetObjectItemCaseSensitive(item, "isthing");
    *c = (coco_category){.id = id, .stuff = cJSON_IsNumber(thing) && thing->valuedouble == 0};
    snprintf(c->text, sizeof c->text, "%llu", (unsigned long long)id);
    c->name = mem_text(name);
    return c->name || err_set(r->e, "no memory for a category");
}

static int by_id(const void *a, const void *b) {
    const coco_category *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static bool tell_classes(data_reader *r, coco_table *t) {
    if (t->category_count) qsort(t->category, t->category_count, sizeof *t->category, by_id);
    if (!(t->classes = mem_alloc(t->category_count, sizeof *t->classes)))
        return err_set(r->e, "no memory for categories");
    for (size_t i = 0; i < t->category_count; i++)
        t->classes[i] = (data_class){t->category[i].text, t->category[i].name, t->category[i].name};
    return r->sink->classes(r->sink->arg, t->classes, t->category_count, r->e);
}

bool coco_open(data_reader *r, coco_table *t, const char *path, unsigned how) {
    bool seen[3] = {false, false, false};
    memset(t, 0, sizeof *t);
    if (!reader_needs(r, path) || !json_stream_open(&t->file, path, r->e)) return false;
    while (json_stream_next(&t->file, r->e)) {
        const char *section = t->file.section;
        bool annotation = !strcmp(section, "annotations");
        uint64_t id = UINT64_MAX;
        if (!strcmp(section, "categories")) {
            seen[2] = true;
            if (!add_category(r, t, t->file.item)) return false;
        } else if (annotation || !strcmp(section, "images")) {
            seen[annotation] = true;
            (void)item_whole(t->file.item, annotation ? "image_id" : "id", &id);
            if (!places_add(r, annotation ? &t->annotations : &t->images, id, t->file.at)) return false;
            if (annotation && how & COCO_IDS && item_whole(t->file.item, "id", &id) &&
                !places_add(r, &t->ids, id, t->file.at))
                return false;
        }
    }
    if (!t->file.ended) return false;
    if (!seen[0] && !seen[1])
        return err_set(r->e, "%s: has no images and no annotations, COCO's tables expected", path);
    places_sort(&t->annotations), places_sort(&t->ids);
    return how & COCO_QUIET || tell_classes(r, t);
}

void coco_close(coco_table *t) {
    json_stream_close(&t->file);
    places_free(&t->images), places_free(&t->annotations), places_free(&t->ids);
    for (size_t i = 0; i < t->category_count; i++) mem_free(t->category[i].name);
    mem_free(t->category), mem_free(t->classes);
}

const coco_category *coco_category_of(const coco_table *t, const cJSON *item, long *index) {
    coco_category key = {0};
    const coco_category *found = NULL;
    if (item_whole(item, "category_id", &key.id) && t->category_count)
        found = bsearch(&key, t->category, t->category_count, sizeof key, by_id);
    *index = found ? (long)(found - t->category) : -1;
    return found;
}

void coco_stated(longtext *more, const cJSON *item) {
    const cJSON *area = cJSON_GetObjectItemCaseSensitive(item, "area"),
                *box = cJSON_GetObjectItemCaseSensitive(item, "bbox"), *n;
    const char *comma = "";
    if (cJSON_IsNumber(area)) say(more, ",\"stated_area\":%.17g", area->valuedouble);
    if (!cJSON_IsArray(box)) return;
    say(more, ",\"stated_bbox\":[");
    cJSON_ArrayForEach(n, box) say(more, "%s%.17g", comma, n->valuedouble), comma = ",";
    say(more, "]");
}

/* ---- pictures, in the table's order ------------------------------------------------------------------- */
enum { CAPTIONS_MOST = 64 };
typedef struct {
    cJSON *kept[CAPTIONS_MOST];
    const char *text[CAPTIONS_MOST];
    size_t count;
} caption_list;

typedef struct {
    coco_table t, captions;
    segment_room room;
    bool panoptic, has_captions;
} coco;

/* The captions of a picture; about five. */
static bool find_captions(data_reader *r, coco *c, uint64_t id, caption_list *out) {
    const places *p = &c->captions.annotations;
    memset(out, 0, sizeof *out);
    for (size_t k = places_find(p, id);
         c->has_captions && k < p->count && p->item[k].key == id; k++) {
        cJSON *item = json_stream_at(&c->captions.file, p->item[k].at, r->e);
        if (!item) return false;
        const char *text = item_text(item, "caption");
        bool fits = out->count < CAPTIONS_MOST;
        if (text && fits) {
            out->kept[out->count] = item, out->text[out->count++] = text;
            continue;
        }
        json_free(item);
        if (!reader_skip(r, false, text ? "more captions than are read" : "no caption", "caption of %llu", (unsigned long long)id)) return false;
    }
    return true;
}

static void free_captions(caption_list *c) {
    for (size_t i = 0; i < c->count; i++) json_free(c->kept[i]);
    c->count = 0;
}

static bool coco_region(data_reader *r, coco *c, const cJSON *item) {
    uint64_t id = 0;
    long index;
    (void)item_whole(item, "id", &id);
    path_text name = path_of("%llu", (unsigned long long)id);
    const coco_category *category = coco_category_of(&c->t, item, &index);
    err why = {0};
    if (!category) return reader_skip(r, true, "of a category that is not there", "annotation %s", name.text);
    if (!segment_draw(cJSON_GetObjectItemCaseSensitive(item, "segmentation"), r->height, r->width, &c->room, &why))
        return reader_skip(r, true, path_of("segmentation: %s", why.text).text, "annotation %s", name.text);
    if (!reader_mask(r)) return false;
    for (size_t i = 0; i < r->width * r->height; i++) r->mask[i] = c->room.cover[i] > 0;
    const cJSON *crowd = cJSON_GetObjectItemCaseSensitive(item, "iscrowd");
    r->more.length = 0;
    coco_stated(&r->more, item);
    data_region region = {.id = name.text,
                          .kind = cJSON_IsNumber(crowd) && crowd->valuedouble != 0 ? "crowd" : "instance",
                          .class_id = category->text,
                          .class_whole = true,
                          .class_name = category->name,
                          .class_index = index,
                          .more = r->more.text};
    return reader_region(r, &region);
}

static bool panoptic_segment(data_reader *r, coco *c, const cJSON *item, const char *picture, const label_image *l) {
    uint64_t id = UINT32_MAX;
    long index;
    size_t n = 0;
    bool whole = item_whole(item, "id", &id) && id < UINT32_MAX;
    path_text name = path_of("%s/%llu", picture, (unsigned long long)id);
    const coco_category *category = coco_category_of(&c->t, item, &index);
    if (!category) return reader_skip(r, true, "of a category that is not there", "%s", name.text);
    for (size_t i = 0; whole && i < l->width * l->height && !n; i++) n += l->value[i] == (uint32_t)id;
    if (!n) return reader_skip(r, true, "no pixel", "%s", name.text);
    const cJSON *crowd = cJSON_GetObjectItemCaseSensitive(item, "iscrowd");
    r->more.length = 0;
    coco_stated(&r->more, item);
    data_region region = {.id = name.text,
                          .kind = cJSON_IsNumber(crowd) && crowd->valuedouble != 0 ? "crowd"
                                  : category->stuff                                ? "stuff"
                                                                                   : "thing",
                          .class_id = category->text,
                          .class_whole = true,
                          .class_name = category->name,
                          .class_index = index,
                          .more = r->more.text};
    return reader_mask_of(r, l, (uint32_t)id) && reader_region(r, &region);
}

static bool panoptic_regions(data_reader *r, coco *c, const cJSON *item, const char *picture) {
    const char *file = item_text(item, "file_name"), *why = "label picture missing";
    const cJSON *segment, *segments = cJSON_GetObjectItemCaseSensitive(item, "segments_info");
    label_image l;
    if (!cJSON_IsArray(segments)) return reader_skip(r, true, "no segments_info", "annotation of %s", picture);
    if (!file || !reader_labels(r, reader_path(r, "annotations/panoptic_%s/%s", r->split, file).text, &l, &why))
        return reader_skip(r, true, why, "annotation of %s", picture);
    bool ok = true;
    cJSON_ArrayForEach(segment, segments) if (ok) ok = panoptic_segment(r, c, segment, picture, &l);
    labels_free(&l);
    return ok;
}

static bool coco_regions(data_reader *r, coco *c, uint64_t image, const char *picture) {
    const places *p = &c->t.annotations;
    bool ok = true;
    for (size_t k = places_find(p, image); ok && k < p->count && p->item[k].key == image; k++) {
        cJSON *item = json_stream_at(&c->t.file, p->item[k].at, r->e);
        ok = item && (c->panoptic ? panoptic_regions(r, c, item, picture) : coco_region(r, c, item));
        json_free(item);
    }
    return ok;
}

/* Annotations whose picture is not there, or not as listed. */
static bool skip_annotations(data_reader *r, coco *c, uint64_t image) {
    static const char why[] = "of a picture that is not there";
    const places *p = &c->t.annotations;
    bool ok = true;
    for (size_t k = places_find(p, image); ok && k < p->count && p->item[k].key == image; k++) {
        uint64_t id = 0;
        cJSON *item = json_stream_at(&c->t.file, p->item[k].at, r->e);
        if (!item) return false;
        (void)item_whole(item, c->panoptic ? "image_id" : "id", &id);
        ok = reader_skip(r, false, why, c->panoptic ? "annotation of %llu" : "annotation %llu", (unsigned long long)id);
        json_free(item);
    }
    return ok;
}

static bool coco_picture(data_reader *r, coco *c, uint64_t image, const cJSON *item) {
    uint64_t w = 0, h = 0;
    size_t width, height;
    const char *name = item_text(item, "file_name");
    path_text id = path_of("%llu", (unsigned long long)image), file = path_of("%s/%s", r->split, name ? name : "");
    data_picture p = {.id = id.text, .whole = true, .file = file.text, .class_index = -1};
    picture_state state = reader_look(r, &p, &width, &height);
    if (state == PICTURE_STOP) return false;
    if (state == PICTURE_GONE) return skip_annotations(r, c, image);
    if (!item_whole(item, "width", &w) || !item_whole(item, "height", &h) || w != width || h != height)
        return reader_skip(r, false, "picture of another size than listed", "image %s", id.text) &&
               skip_annotations(r, c, image);
    caption_list captions;
    if (!find_captions(r, c, image, &captions)) return free_captions(&captions), false;
    p.captions = captions.text, p.caption_count = captions.count;
    state = reader_tell(r, &p, width, height);
    free_captions(&captions);
    return state != PICTURE_STOP && (state == PICTURE_OTHER || coco_regions(r, c, image, id.text));
}

/* All pictures as the table lists them; a second entry of the same number is left out. */
static bool coco_pictures(data_reader *r, coco *c) {
    places sorted = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < c->t.images.count; i++)
        ok = places_add(r, &sorted, c->t.images.item[i].key, c->t.images.item[i].at);
    places_sort(&sorted);
    for (size_t i = 0; ok && i < c->t.images.count; i++) {
        place at = c->t.images.item[i];
        if (at.key == UINT64_MAX) {
            ok = reader_skip(r, false, "no id", "image %zu of the list", i);
            continue;
        }
        if (sorted.item[places_find(&sorted, at.key)].at != at.at) {
            ok = reader_skip(r, false, "listed twice", "image %llu", (unsigned long long)at.key);
            continue;
        }
        cJSON *item = json_stream_at(&c->t.file, at.at, r->e);
        ok = item && coco_picture(r, c, at.key, item);
        json_free(item);
    }
    for (size_t i = 0; ok && i < c->t.annotations.count; i++) {
        uint64_t key = c->t.annotations.item[i].key;
        if ((i == 0 || key != c->t.annotations.item[i - 1].key) &&
            (key == UINT64_MAX || places_find(&sorted, key) == sorted.count))
            ok = skip_annotations(r, c, key);
    }
    places_free(&sorted);
    return ok;
}

static bool open_captions(data_reader *r, coco *c) {
    path_text path = reader_path(r, "annotations/captions_%s.json", r->split);
    if (!file_exists(path.text)) return true;
    return c->has_captions = coco_open(r, &c->captions, path.text, COCO_QUIET);
}

static bool read_table(data_reader *r, bool panoptic) {
    coco c = {.panoptic = panoptic};
    path_text path = reader_path(r, "annotations/%s_%s.json", panoptic ? "panoptic" : "instances", r->split);
    bool ok = coco_open(r, &c.t, path.text, 0) && (panoptic || open_captions(r, &c)) && coco_pictures(r, &c);
    coco_close(&c.t), coco_close(&c.captions);
    segment_free(&c.room);
    return ok;
}

bool read_coco(void *reader) { return read_table(reader, false); }
bool read_coco_panoptic(void *reader) { return read_table(reader, true); }

/* ---- COCO-Stuff: grey value = number - 1, 255 nothing ---------------------------------------------------- */
typedef struct {
    name_list lines;
    data_class *classes;
    uint32_t *value;
    char (*id)[16];
    size_t count;
} stuff_table;

static bool stuff_open(data_reader *r, stuff_table *t) {
    memset(t, 0, sizeof *t);
    path_text path = reader_path(r, "labels.txt");
    if (!reader_lines(r, path.text, &t->lines)) return false;
    t->classes = mem_alloc(t->lines.count, sizeof *t->classes);
    t->value = mem_alloc(t->lines.count, sizeof *t->value);
    t->id = mem_alloc(t->lines.count, sizeof *t->id);
    if (!t->classes || !t->value || !t->id) return err_set(r->e, "no memory for %zu classes", t->lines.count);
    for (size_t i = 0; i < t->lines.count; i++) {
        char *end;
        unsigned long n = strtoul(t->lines.item[i], &end, 10);
        if (end == t->lines.item[i] || *end != ':' || n > 255)
            return err_set(r->e, "%s: \"%s\" found, a number, a colon and a name expected", path.text,
                           t->lines.item[i]);
        if (n == 0) continue;
        const char *name = end + 1 + strspn(end + 1, " \t");
        snprintf(t->id[t->count], sizeof t->id[0], "%lu", n - 1);
        t->value[t->count] = (uint32_t)n - 1;
        t->classes[t->count] = (data_class){t->id[t->count], name, name};
        t->count++;
    }
    return r->sink->classes(r->sink->arg, t->classes, t->count, r->e);
}

static bool stuff_picture(data_reader *r, const char *entry, const stuff_table *t) {
    label_image l;
    const char *why;
    path_text id = path_of("%.*s", (int)(strlen(entry) - 4), entry),
              file = path_of("images/%s/%s.jpg", r->split, id.text);
    data_picture p = {.id = id.text, .file = file.text, .class_index = -1};
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_HERE) return state != PICTURE_STOP;
    if (!reader_labels(r, reader_path(r, "annotations/%s/%s", r->split, entry).text, &l, &why))
        return reader_skip(r, true, why, "%s", id.text);
    bool ok = reader_classes(r, &l, &(label_classes){id.text, t->classes, t->value, t->count, NULL});
    labels_free(&l);
    return ok;
}

bool read_coco_stuff(void *reader) {
    data_reader *r = reader;
    stuff_table t;
    name_list maps = {0};
    bool ok = stuff_open(r, &t) && reader_folder(r, reader_path(r, "annotations/%s", r->split).text, &maps);
    for (size_t i = 0; ok && i < maps.count; i++) /* converted copies have _ in their names */
        if (ends_like(maps.item[i], ".png") && !strchr(maps.item[i], '_')) ok = stuff_picture(r, maps.item[i], &t);
    ok = ok && reader_unlabelled(r, path_of("images/%s", r->split).text, path_of("annotations/%s", r->split).text);
    names_free(&maps), names_free(&t.lines);
    mem_free(t.classes), mem_free(t.value), mem_free(t.id);
    return ok;
}
