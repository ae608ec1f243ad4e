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

static path_text name_of_ref(const pickle_value *ref, size_t nth) {
    uint64_t id;
    return whole_of(ref, "ref_id", &id) ? path_of("ref%llu", (unsigned long long)id) : path_of("ref %zu of the list", nth);
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
        if (!put_text(&c->split, pickle_get(list->items[i], "split"))) {
            if (!reader_skip(r, false, "no split", "%s", name_of_ref(list->items[i], i).text)) return false;
            continue;
        }
        if (!in_split(r->split, c->split.text)) continue;
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
        if (!known) {
            if (!reader_skip(r, true, "no id", "annotation of %llu", (unsigned long long)image)) return false;
            continue;
        }
        if (!mem_grow(&c->candidate, &c->candidate_room, c->candidate_count + 1, sizeof one))
            return err_set(r->e, "no memory for a picture's objects");
        c->candidate[c->candidate_count++] = one;
    }
    return true;
}

static bool find_phrases(data_reader *r, refcoco *c, const pickle_value *ref, const char *id, data_phrase *out, size_t *count) {
    const pickle_value *list = pickle_get(ref, "sentences");
    size_t n = *count = 0;
    if (!list || list->kind != PICKLE_LIST) return reader_skip(r, true, "no list of sentences", "%s", id);
    for (size_t i = 0; i < list->count; i++) {
        if (n == SENTENCES_MOST || !put_text(&c->raw[n], pickle_get(list->items[i], "raw"))) {
            if (!reader_skip(r, true, n == SENTENCES_MOST ? "more sentences than are read" : "sentence without raw", "%s", id)) return false;
            continue;
        }
        bool sent = put_text(&c->sent[n], pickle_get(list->items[i], "sent"));
        out[n] = (data_phrase){.raw = c->raw[n].text, .sent = sent ? c->sent[n].text : ""};
        (void)whole_of(list->items[i], "sent_id", &out[n].id);
        n++;
    }
    *count = n;
    return true;
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
    size_t once = 0, phrase_count;
    err why = {0};
    const coco_category *category = coco_category_of(&c->t, annotation, &index);
    if (!reader_mask(r)) return false;
    if (!draw(r, c, annotation, &once, &why))
        return reader_skip(r, true, path_of("segmentation: %s", why.text).text, "%s", id);
    path_text more = path_of(",\"ann_id\":%llu,\"once\":%zu", (unsigned long long)ann_id, once);
    if (!find_phrases(r, c, ref, id, phrases, &phrase_count)) return false;
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
                          .phrase_count = phrase_count,
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
        bool known = os_tell(c->lines, at);
        c->line.length = 0;
        say_bytes(&c->line, "", 0);
        while ((ch = getc(c->lines)) != EOF && ch != '\n') {
            char byte = (char)ch;
            blank = blank && (byte == ' ' || byte == '\t' || byte == '\r');
            say_bytes(&c->line, &byte, 1);
        }
        if (ch == EOF && blank) return false;
        if (!known || c->line.failed) return false;
        if (!blank) return true;
    }
}

static cJSON *parse_line(reclip *c, uint64_t number, err *e) {
    char name[40];
    snprintf(name, sizeof name, "line %llu", (unsigned long long)number + 1);
    return json_parse(c->line.text, c->line.length, name, e);
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
        uint64_t image = 0;
        err why = {0};
        cJSON *item = parse_line(c, number, &why);
        const char *left = !item ? why.text : item_whole(item, "image_id", &image) ? NULL : "no image_id";
        bool ok = left ? reader_skip(r, false, left, "line%llu", (unsigned long long)number) : places_add(r, &c->of_picture, image, at);
        json_free(item);
        if (!ok || !places_add(r, &c->numbers, at, number++)) return false;
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
        const char *section = c->detections.section;
        bool known = *section ? strspn(section, "0123456789") == strlen(section) : item_whole(c->detections.item, "image_id", &image);
        if (*section && known) image = strtoull(section, NULL, 10);
        if (known ? !places_add(r, &c->boxes, image, c->detections.at)
                  : !reader_skip(r, false, "of no picture's number", "detection at byte %llu", (unsigned long long)c->detections.at))
            return false;
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
        bool four = box_of(cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "box") : item, box);
        if (four) say(&r->other, "%s", comma), comma = ",", say_box(&r->other, box);
        json_free(item);
        if (!four && !reader_skip(r, true, "no four numbers", "detection of %llu", (unsigned long long)image)) return false;
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

/* What a line says: its sentences, and the objects that are chosen among. */
typedef struct {
    data_phrase phrases[SENTENCES_MOST];
    data_candidate *candidates;
    size_t n, count;
} reclip_said;

static bool take_sentences(data_reader *r, const cJSON *item, const char *line, reclip_said *s) {
    const cJSON *sentence;
    cJSON_ArrayForEach(sentence, cJSON_GetObjectItemCaseSensitive(item, "sentences")) {
        const char *raw = item_text(sentence, "raw"), *why = !raw ? "sentence without raw" : "more sentences than are read";
        if (raw && s->n < SENTENCES_MOST) s->phrases[s->n++] = (data_phrase){.raw = raw};
        else if (!reader_skip(r, true, why, "%s", line)) return false;
    }
    return true;
}

static bool take_objects(data_reader *r, const cJSON *item, const char *line, reclip_said *s) {
    const cJSON *anns = cJSON_GetObjectItemCaseSensitive(item, "anns"), *ann;
    size_t most = (size_t)cJSON_GetArraySize(anns);
    if (!(s->candidates = mem_alloc(most, sizeof *s->candidates))) return err_set(r->e, "no memory for %zu boxes", most);
    cJSON_ArrayForEach(ann, anns) {
        data_candidate *c = &s->candidates[s->count];
        if (item_whole(ann, "id", &c->id) && box_of(cJSON_GetObjectItemCaseSensitive(ann, "bbox"), c->box)) s->count++;
        else if (!reader_skip(r, true, "object without id or box", "%s", line)) return false;
    }
    return true;
}

static bool reclip_region(data_reader *r, const reclip_said *s, const char *line, const data_candidate *c) {
    path_text id = path_of("%s/ann%llu", line, (unsigned long long)c->id);
    r->more.length = 0;
    say(&r->more, ",\"box\":");
    say_box(&r->more, c->box);
    say_bytes(&r->more, r->other.text, r->other.length);
    if (!reader_mask(r)) return false;
    fill_box(r, c->box);
    data_region region = {.id = id.text,
                          .object = c->id,
                          .kind = "box",
                          .class_index = -1,
                          .phrases = s->phrases,
                          .phrase_count = s->n,
                          .candidates = s->candidates,
                          .candidate_count = s->count,
                          .candidate_boxes = true,
                          .more = r->more.text};
    return reader_region(r, &region);
}

static bool reclip_line(data_reader *r, const cJSON *item, uint64_t number) {
    const cJSON *answer = cJSON_GetObjectItemCaseSensitive(item, "ann_id");
    size_t found = 0;
    reclip_said *s = mem_alloc(1, sizeof *s);
    path_text line = path_of("line%llu", (unsigned long long)number);
    if (!s) return err_set(r->e, "no memory for a line");
    bool ok = take_sentences(r, item, line.text, s) && take_objects(r, item, line.text, s);
    for (size_t i = 0; ok && i < s->count; i++)
        if (is_right(answer, s->candidates[i].id)) ok = reclip_region(r, s, line.text, &s->candidates[i]), found++;
    if (ok && !found) ok = reader_skip(r, true, "ann_id is none of its objects", "%s", line.text);
    mem_free(s->candidates), mem_free(s);
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
        if (!os_seek(c->lines, p->item[k].at) || !next_line(c, &at))
            return err_set(r->e, "%s: cannot be read", c->path);
        uint64_t number = c->numbers.item[places_find(&c->numbers, p->item[k].at)].at;
        cJSON *item = parse_line(c, number, r->e);
        if (!item) return err_prefix(r->e, "%s", c->path);
        const char *name = item_text(item, "file_name");
        if (k == first) {
            path_text id = path_of("%llu", (unsigned long long)p->item[k].key), file = reclip_file(name ? name : "");
            data_picture picture = {.id = id.text, .whole = true, .file = file.text, .class_index = -1};
            state = reader_picture(r, &picture);
            ok = state != PICTURE_STOP && (state != PICTURE_HERE || say_detections(r, c, p->item[k].key));
        }
        if (ok && state == PICTURE_HERE) ok = reclip_line(r, item, number);
        if (ok && state == PICTURE_GONE) ok = reader_skip(r, false, "picture missing", "line%llu", (unsigned long long)number);
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
