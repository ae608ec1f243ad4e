/* data_refs.c - referring expressions: RefCOCO, RefCOCO+, RefCOCOg as their authors give them, and ReCLIP's copies. */
#include "data/coco.h"
#include "files/files.h"
#include "files/pickle.h"
#include "files/utf8.h"
#include "os/os.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts out of pickles: UTF-8, else Latin-1 ----------------------------------------------------- */
static bool is_utf8(const char *text, size_t n) {
    for (size_t used; n; text += used, n -= used)
        if (utf8_decode(text, n, &used) == 0xFFFD && !(used == 3 && !memcmp(text, "\xEF\xBF\xBD", 3))) return false;
    return true;
}

static bool put_text(longtext *out, const pickle_value *v) {
    out->length = 0;
    say_bytes(out, "", 0);
    if (!v || (v->kind != PICKLE_TEXT && v->kind != PICKLE_BYTES)) return false;
    if (is_utf8(v->text, v->length)) {
        say_bytes(out, v->text, v->length);
    } else {
        for (size_t i = 0; i < v->length; i++) {
            unsigned char bytes[4];
            say_bytes(out, (const char *)bytes, utf8_encode((unsigned char)v->text[i], bytes));
        }
    }
    return !memchr(out->text, 0, out->length) && !out->failed;
}

static bool whole_of(const pickle_value *dict, const char *key, uint64_t *out) {
    const pickle_value *v = pickle_get(dict, key);
    if (!v || v->kind != PICKLE_INT || v->whole < 0) return false;
    *out = (uint64_t)v->whole;
    return true;
}

/* ---- RefCOCO ------------------------------------------------------------------------------------------ */
enum { SENTENCES_MOST = 256 };
typedef struct {
    coco_table t;
    char *bytes; /* the pickle's */
    pickle *refs;
    places of_picture, groups,
        images; /* refs of the split by picture; pictures as they stand; instances.json's pictures */
    segment_room room;
    data_candidate *candidate;
    size_t candidate_count, candidate_room;
    longtext raw[SENTENCES_MOST], sent[SENTENCES_MOST], split;
} refcoco;

/* testA, testB: splits of "test..." with that letter in them; test: all that hold "test"; else the very name. */
static bool in_split(const char *wanted, const char *split) {
    bool lettered = strlen(wanted) == 5 && !strncmp(wanted, "test", 4) && strchr("ABC", wanted[4]);
    if (lettered) return !strncmp(split, "test", 4) && strchr(split, wanted[4]);
    return !strcmp(wanted, "test") ? strstr(split, "test") != NULL : !strcmp(wanted, split);
}

static bool index_refs(data_reader *r, refcoco *c, const char *path) {
    size_t length;
    if (!reader_needs(r, path)) return false;
    if (!(c->bytes = file_read(path, (size_t)1 << 30, &length, r->e))) return false;
    if (!(c->refs = pickle_parse((const unsigned char *)c->bytes, length, path, PICKLE_DATA, NULL, r->e))) return false;
    const pickle_value *list = pickle_root(c->refs);
    if (list->kind != PICKLE_LIST)
        return err_set(r->e, "%s: %s found, a list of refs expected", path, pickle_describe(list).text);
    for (size_t i = 0; i < list->count; i++) {
        uint64_t image = UINT64_MAX;
        if (!put_text(&c->split, pickle_get(list->items[i], "split")) || !in_split(r->split, c->split.text)) continue;
        (void)whole_of(list->items[i], "image_id", &image);
        if (!places_add(r, &c->of_picture, image, i)) return false;
    }
    places_sort(&c->of_picture);
    for (size_t i = 0; i < c->t.images.count; i++)
        if (!places_add(r, &c->images, c->t.images.item[i].key, c->t.images.item[i].at)) return false;
    places_sort(&c->images);
    return places_groups(r, &c->of_picture, &c->groups);
}

/* Where train2014's pictures may lie: as the authors have them, or train2017's folder, which holds all of them. */
static path_text picture_file(const data_reader *r, uint64_t id, const char *name) {
    path_text all[] = {path_of("images/mscoco/images/train2014/%s", name), path_of("images/train2014/%s", name),
                       path_of("train2014/%s", name), path_of("images/train2017/%012llu.jpg", (unsigned long long)id),
                       path_of("train2017/%012llu.jpg", (unsigned long long)id)};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        if (file_exists(reader_path(r, "%s", all[k].text).text)) return all[k];
    return all[0];
}

static bool find_candidates(data_reader *r, refcoco *c, uint64_t image) {
    const places *p = &c->t.annotations;
    c->candidate_count = 0;
    for (size_t k = places_find(p, image); k < p->count && p->item[k].key == image; k++) {
        cJSON *item = json_stream_at(&c->t.file, p->item[k].at, r->e);
        data_candidate one = {0};
        if (!item) return false;
        bool known = item_whole(item, "id", &one.id);
        json_free(item);
        if (!known) continue;
        if (!mem_grow(&c->candidate, &c->candidate_room, c->candidate_count + 1, sizeof one))
            return err_set(r->e, "no memory for a picture's objects");
        c->candidate[c->candidate_count++] = one;
    }
    return true;
}

static size_t find_phrases(refcoco *c, const pickle_value *ref, data_phrase *out) {
    const pickle_value *list = pickle_get(ref, "sentences");
    size_t n = 0;
    for (size_t i = 0; list && list->kind == PICKLE_LIST && i < list->count && n < SENTENCES_MOST; i++) {
        bool raw = put_text(&c->raw[n], pickle_get(list->items[i], "raw")),
             sent = put_text(&c->sent[n], pickle_get(list->items[i], "sent"));
        if (!raw) continue;
        out[n] = (data_phrase){.raw = c->raw[n].text, .sent = sent ? c->sent[n].text : ""};
        (void)whole_of(list->items[i], "sent_id", &out[n].id);
        n++;
    }
    return n;
}

/* The pixels of an annotation into r->mask; *once: those that a single part covers. */
static bool draw(data_reader *r, refcoco *c, const cJSON *annotation, size_t *once, err *why) {
    if (!segment_draw(cJSON_GetObjectItemCaseSensitive(annotation, "segmentation"), r->height, r->width, &c->room, why))
        return false;
    *once = 0;
    for (size_t i = 0; i < r->width * r->height; i++) {
        r->mask[i] = c->room.cover[i] > 0;
        *once += c->room.cover[i] == 1;
    }
    return true;
}

static bool ref_region(data_reader *r, refcoco *c, const pickle_value *ref, const char *id, const cJSON *annotation,
                       uint64_t ann_id) {
    data_phrase phrases[SENTENCES_MOST];
    long index;
    size_t once = 0;
    err why = {0};
    const coco_category *category = coco_category_of(&c->t, annotation, &index);
    if (!reader_mask(r)) return false;
    if (!draw(r, c, annotation, &once, &why))
        return reader_skip(r, true, path_of("segmentation: %s", why.text).text, "%s", id);
    path_text more = path_of(",\"ann_id\":%llu,\"once\":%zu", (unsigned long long)ann_id, once);
    (void)put_text(&c->split, pickle_get(ref, "split"));
    data_region region = {.id = id,
                          .object = ann_id,
                          .kind = "phrase",
                          .split = c->split.text,
                          .class_id = category ? category->text : NULL,
                          .class_whole = true,
                          .class_name = category ? category->name : NULL,
                          .class_index = index,
                          .phrases = phrases,
                          .phrase_count = find_phrases(c, ref, phrases),
                          .candidates = c->candidate,
                          .candidate_count = c->candidate_count,
                          .more = more.text};
    return reader_region(r, &region);
}

/* gone: the picture is not there, and that is why. */
static bool one_ref(data_reader *r, refcoco *c, size_t k, const char *gone) {
    const pickle_value *ref = pickle_root(c->refs)->items[c->of_picture.item[k].at];
    uint64_t number = 0, ann_id = UINT64_MAX;
    (void)whole_of(ref, "ref_id", &number), (void)whole_of(ref, "ann_id", &ann_id);
    path_text id = path_of("ref%llu", (unsigned long long)number);
    size_t at = places_find(&c->t.ids, ann_id);
    bool inside = !gone;
    if (at == c->t.ids.count) gone = "its picture or annotation is not in instances.json";
    if (gone) return reader_skip(r, inside, gone, "%s", id.text);
    cJSON *annotation = json_stream_at(&c->t.file, c->t.ids.item[at].at, r->e);
    bool ok = annotation && ref_region(r, c, ref, id.text, annotation, ann_id);
    json_free(annotation);
    return ok;
}

static bool is_referred(const refcoco *c, size_t first, uint64_t ann_id) {
    const places *p = &c->of_picture;
    for (size_t k = first; k < p->count && p->item[k].key == p->item[first].key; k++) {
        uint64_t id;
        if (whole_of(pickle_root(c->refs)->items[p->item[k].at], "ann_id", &id) && id == ann_id) return true;
    }
    return false;
}

/* The objects that nobody refers to: comprehension chooses among them, too. */
static bool other_objects(data_reader *r, refcoco *c, size_t first) {
    bool ok = true;
    for (size_t i = 0; ok && i < c->candidate_count; i++) {
        size_t at = places_find(&c->t.ids, c->candidate[i].id), once;
        if (is_referred(c, first, c->candidate[i].id) || at == c->t.ids.count) continue;
        cJSON *annotation = json_stream_at(&c->t.file, c->t.ids.item[at].at, r->e);
        err why = {0};
        long index;
        if (!annotation || !reader_mask(r)) return json_free(annotation), false;
        const coco_category *category = coco_category_of(&c->t, annotation, &index);
        path_text id = path_of("ann%llu", (unsigned long long)c->candidate[i].id),
                  more = path_of(",\"ann_id\":%llu", (unsigned long long)c->candidate[i].id);
        data_region region = {.id = id.text,
                              .object = c->candidate[i].id,
                              .kind = "object",
                              .class_id = category ? category->text : NULL,
                              .class_whole = true,
                              .class_name = category ? category->name : NULL,
                              .class_index = index,
                              .more = more.text};
        ok = draw(r, c, annotation, &once, &why)
                 ? reader_region(r, &region)
                 : reader_skip(r, true, path_of("segmentation: %s", why.text).text, "%s", id.text);
        json_free(annotation);
    }
    return ok;
}

static picture_state refs_picture(data_reader *r, refcoco *c, uint64_t image, const char **why) {
    size_t k = places_find(&c->images, image);
    *why = "its picture or annotation is not in instances.json";
    if (k == c->images.count) return PICTURE_GONE;
    cJSON *item = json_stream_at(&c->t.file, c->images.item[k].at, r->e);
    if (!item) return PICTURE_STOP;
    const char *name = item_text(item, "file_name");
    path_text id = path_of("%llu", (unsigned long long)image), file = picture_file(r, image, name ? name : "");
    json_free(item);
    data_picture p = {.id = id.text, .whole = true, .file = file.text, .class_index = -1};
    *why = "picture missing";
    picture_state state = reader_picture(r, &p);
    if (state != PICTURE_GONE) *why = NULL;
    return state;
}

static bool refs_of_picture(data_reader *r, refcoco *c, size_t first) {
    const places *p = &c->of_picture;
    uint64_t image = p->item[first].key;
    const char *why;
    picture_state state = refs_picture(r, c, image, &why);
    if (state == PICTURE_STOP || state == PICTURE_OTHER) return state == PICTURE_OTHER;
    if (!why && !find_candidates(r, c, image)) return false;
    for (size_t k = first; k < p->count && p->item[k].key == image; k++)
        if (!one_ref(r, c, k, why)) return false;
    return why || !r->objects || other_objects(r, c, first);
}

static void refcoco_close(refcoco *c) {
    coco_close(&c->t);
    pickle_free(c->refs);
    mem_free(c->bytes), mem_free(c->candidate), mem_free(c->split.text);
    places_free(&c->of_picture), places_free(&c->groups), places_free(&c->images);
    segment_free(&c->room);
    for (size_t i = 0; i < SENTENCES_MOST; i++) mem_free(c->raw[i].text), mem_free(c->sent[i].text);
    mem_free(c);
}

bool read_refcoco(void *reader) {
    data_reader *r = reader;
    refcoco *c = mem_alloc(1, sizeof *c);
    const char *folder = !strcmp(r->set->name, "refcocoplus") ? "refcoco+" : r->set->name;
    if (!c) return err_set(r->e, "no memory to read %s", r->set->title);
    bool ok = coco_open(r, &c->t, reader_path(r, "%s/instances.json", folder).text, COCO_IDS) &&
              index_refs(r, c, reader_path(r, "%s/refs(%s).p", folder, r->by).text);
    for (size_t i = 0; ok && i < c->groups.count; i++) ok = refs_of_picture(r, c, (size_t)c->groups.item[i].key);
    refcoco_close(c);
    return ok;
}

/* ---- ReCLIP's copies: a JSON object a line, boxes only --------------------------------------------------- */
typedef struct {
    FILE *lines;
    char path[4096];
    longtext line;
    json_stream detections;
    bool detected;
    places of_picture, groups, numbers, boxes; /* lines by picture; numbers: line by place */
} reclip;

/* The next line that is not blank; *at: where it begins. false: none is left. */
static bool next_line(reclip *c, uint64_t *at) {
    for (;;) {
        int ch;
        bool blank = true;
        long from = ftell(c->lines);
        c->line.length = 0;
        say_bytes(&c->line, "", 0);
        while ((ch = getc(c->lines)) != EOF && ch != '\n') {
            char byte = (char)ch;
            blank = blank && (byte == ' ' || byte == '\t' || byte == '\r');
            say_bytes(&c->line, &byte, 1);
        }
        if (ch == EOF && blank) return false;
        if (from < 0 || c->line.failed) return false;
        *at = (uint64_t)from;
        if (!blank) return true;
    }
}

static cJSON *parse_line(reclip *c, data_reader *r, uint64_t number) {
    char name[4200];
    snprintf(name, sizeof name, "%s (line %llu)", c->path, (unsigned long long)number + 1);
    return json_parse(c->line.text, c->line.length, name, r->e);
}

static bool index_lines(data_reader *r, reclip *c) {
    uint64_t at, number = 0;
    char split[64];
    snprintf(split, sizeof split, "%.60s", r->split);
    for (char *s = split; *s; s++) *s = *s >= 'A' && *s <= 'Z' ? (char)(*s + 32) : *s;
    snprintf(c->path, sizeof c->path, "%s", reader_path(r, "reclip_data/%s_%s.jsonl", r->by, split).text);
    if (!reader_needs(r, c->path)) return false;
    if (!(c->lines = os_open(c->path, "rb"))) return err_set(r->e, "%s: cannot be read: %s", c->path, strerror(errno));
    while (next_line(c, &at)) {
        uint64_t image = UINT64_MAX;
        cJSON *item = parse_line(c, r, number);
        if (!item) return false;
        (void)item_whole(item, "image_id", &image);
        json_free(item);
        if (!places_add(r, &c->of_picture, image, at) || !places_add(r, &c->numbers, at, number++)) return false;
    }
    places_sort(&c->of_picture);
    return places_groups(r, &c->of_picture, &c->groups);
}

/* Detections: {"image": [box, ...]}, or [{image_id, box}, ...]; there need be none. */
static bool index_boxes(data_reader *r, reclip *c) {
    path_text path = reader_path(r, "reclip_data/%s_dets_dict.json", r->by);
    if (!file_exists(path.text)) return true;
    if (!json_stream_open(&c->detections, path.text, r->e)) return false;
    while (json_stream_next(&c->detections, r->e)) {
        uint64_t image = UINT64_MAX;
        if (*c->detections.section)
            image = strtoull(c->detections.section, NULL, 10);
        else
            (void)item_whole(c->detections.item, "image_id", &image);
        if (!places_add(r, &c->boxes, image, c->detections.at)) return false;
    }
    places_sort(&c->boxes);
    return c->detected = c->detections.ended;
}

static bool box_of(const cJSON *list, double box[4]) {
    for (int k = 0; k < 4; k++) {
        const cJSON *n = cJSON_GetArrayItem(list, k);
        if (!cJSON_IsNumber(n) || !(fabs(n->valuedouble) < 1e9)) return false;
        box[k] = n->valuedouble;
    }
    return cJSON_GetArraySize(list) == 4;
}

static void say_box(longtext *t, const double box[4]) {
    say(t, "[%.17g,%.17g,%.17g,%.17g]", box[0], box[1], box[2], box[3]);
}

static bool say_detections(data_reader *r, reclip *c, uint64_t image) {
    const char *comma = "";
    r->other.length = 0;
    say(&r->other, ",\"detections\":[");
    for (size_t k = places_find(&c->boxes, image); c->detected && k < c->boxes.count && c->boxes.item[k].key == image;
         k++) {
        double box[4];
        cJSON *item = json_stream_at(&c->detections, c->boxes.item[k].at, r->e);
        if (!item) return false;
        if (box_of(cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "box") : item, box)) {
            say(&r->other, "%s", comma), comma = ",";
            say_box(&r->other, box);
        }
        json_free(item);
    }
    say(&r->other, "]");
    return true;
}

/* Corners rounded, half to even, and cut to the picture. */
static void fill_box(data_reader *r, const double box[4]) {
    double x0 = fmax(0, rint(box[0])), y0 = fmax(0, rint(box[1])), x1 = fmin((double)r->width, rint(box[0] + box[2])),
           y1 = fmin((double)r->height, rint(box[1] + box[3]));
    for (double y = y0; y < y1; y++)
        for (double x = x0; x < x1; x++) r->mask[(size_t)y * r->width + (size_t)x] = 1;
}

static bool is_right(const cJSON *answer, uint64_t id) {
    const cJSON *one;
    if (cJSON_IsNumber(answer)) return answer->valuedouble == (double)id;
    cJSON_ArrayForEach(one, answer) if (cJSON_IsNumber(one) && one->valuedouble == (double)id) return true;
    return false;
}

static bool reclip_line(data_reader *r, const cJSON *item, uint64_t number) {
    const cJSON *anns = cJSON_GetObjectItemCaseSensitive(item, "anns"),
                *answer = cJSON_GetObjectItemCaseSensitive(item, "ann_id"), *ann, *sentence;
    data_phrase phrases[SENTENCES_MOST];
    size_t n = 0, count = 0, most = (size_t)cJSON_GetArraySize(anns);
    cJSON_ArrayForEach(sentence, cJSON_GetObjectItemCaseSensitive(item, "sentences")) if (n < SENTENCES_MOST &&
                                                                                          item_text(sentence, "raw"))
        phrases[n++] = (data_phrase){.raw = item_text(sentence, "raw")};
    data_candidate *candidates = mem_alloc(most, sizeof *candidates);
    if (!candidates) return err_set(r->e, "no memory for %zu boxes", most);
    cJSON_ArrayForEach(ann, anns) if (item_whole(ann, "id", &candidates[count].id) &&
                                      box_of(cJSON_GetObjectItemCaseSensitive(ann, "bbox"), candidates[count].box))
        count++;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        if (!is_right(answer, candidates[i].id)) continue;
        path_text id = path_of("line%llu/ann%llu", (unsigned long long)number, (unsigned long long)candidates[i].id);
        r->more.length = 0;
        say(&r->more, ",\"box\":");
        say_box(&r->more, candidates[i].box);
        say_bytes(&r->more, r->other.text, r->other.length);
        if (!(ok = reader_mask(r))) break;
        fill_box(r, candidates[i].box);
        data_region region = {.id = id.text,
                              .object = candidates[i].id,
                              .kind = "box",
                              .class_index = -1,
                              .phrases = phrases,
                              .phrase_count = n,
                              .candidates = candidates,
                              .candidate_count = count,
                              .candidate_boxes = true,
                              .more = r->more.text};
        ok = reader_region(r, &region);
    }
    mem_free(candidates);
    return ok;
}

/* The picture's name has _ANN before .jpg, which is no part of the file's. */
static path_text reclip_file(const char *name) {
    size_t coco = strspn(name, "COCOcoco") >= 4,
           cut = coco && strrchr(name, '_') ? (size_t)(strrchr(name, '_') - name) : 0;
    return cut ? path_of("train2014/%.*s.jpg", (int)cut, name) : path_of("train2014/%s", name);
}

static bool reclip_picture(data_reader *r, reclip *c, size_t first) {
    const places *p = &c->of_picture;
    picture_state state = PICTURE_STOP;
    bool ok = true;
    for (size_t k = first; ok && k < p->count && p->item[k].key == p->item[first].key; k++) {
        uint64_t at;
        if (fseek(c->lines, (long)p->item[k].at, SEEK_SET) != 0 || !next_line(c, &at))
            return err_set(r->e, "%s: cannot be read", c->path);
        uint64_t number = c->numbers.item[places_find(&c->numbers, p->item[k].at)].at;
        cJSON *item = parse_line(c, r, number);
        if (!item) return false;
        const char *name = item_text(item, "file_name");
        if (k == first) {
            path_text id = path_of("%llu", (unsigned long long)p->item[k].key), file = reclip_file(name ? name : "");
            data_picture picture = {.id = id.text, .whole = true, .file = file.text, .class_index = -1};
            state = reader_picture(r, &picture);
            ok = state != PICTURE_STOP && say_detections(r, c, p->item[k].key);
        }
        if (ok && state == PICTURE_HERE) ok = reclip_line(r, item, number);
        json_free(item);
    }
    return ok;
}

bool read_reclip(void *reader) {
    data_reader *r = reader;
    reclip *c = mem_alloc(1, sizeof *c);
    if (!c) return err_set(r->e, "no memory to read %s", r->set->title);
    bool ok = index_lines(r, c) && index_boxes(r, c) && r->sink->classes(r->sink->arg, NULL, 0, r->e);
    for (size_t i = 0; ok && i < c->groups.count; i++) ok = reclip_picture(r, c, (size_t)c->groups.item[i].key);
    if (c->lines) fclose(c->lines);
    json_stream_close(&c->detections);
    places_free(&c->of_picture), places_free(&c->groups), places_free(&c->numbers), places_free(&c->boxes);
    mem_free(c->line.text), mem_free(c);
    return ok;
}
