/* scene_files.c - sets of scenes on disk: written in parallel, read line by line (see scenes.h). */
#include "files/files.h"
#include "scenes/grammar.h"
#include "files/json.h"
#include "scenes/scenes.h"
#include "os/os.h"
#include <stdarg.h>
#include <string.h>

static const char *const kinds[] = {"drawn", "photographic"};

/* ---- one line ------------------------------------------------------------------------------------------ */
enum { LINE_ROOM = 1 << 16, CAPTIONS = 3 }; /* the longest line, 8 objects with all their phrases, takes half of it */
typedef struct { char *text; size_t length; bool full; } line;

static void put(line *l, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(line *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->length, LINE_ROOM - l->length, format, args);
    va_end(args);
    l->full = l->full || n < 0 || (size_t)n >= LINE_ROOM - l->length;
    if (!l->full) l->length += (size_t)n;
}
/* "key":"value", escaped. */
static void put_string(line *l, const char *key, const char *value, const char *after) {
    if (key != NULL) put(l, "\"%s\":", key);
    put(l, "\"");
    for (const char *s = value; *s != 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') put(l, "\\%c", c);
        else if (c < 0x20) put(l, "\\u%04x", c);
        else put(l, "%c", c);
    }
    put(l, "\"%s", after);
}

static void put_captions(line *l, const scene *sc, uint64_t seed, uint64_t index) {
    rng r = rng_start(seed ^ 0x63617074, index);
    char text[1 + CAPTIONS][256];
    size_t n = 1;
    strcpy(text[0], sc->caption);
    for (size_t tries = 0; tries < 8 && n < CAPTIONS; tries++) {
        bool known = false;
        grammar_caption(sc, &r, text[n], sizeof text[n], NULL);
        for (size_t i = 0; i < n; i++) known = known || strcmp(text[i], text[n]) == 0;
        n += !known;
    }
    put(l, "\"captions\":[");
    for (size_t i = 0; i < n; i++) put_string(l, NULL, text[i], i + 1 < n ? "," : "],");
}
static void put_object(line *l, const scene_object *o, size_t index, size_t k) {
    put(l, "{");
    put_string(l, "name", o->name, ","), put_string(l, "colour", o->colour, ",");
    put_string(l, "texture", o->texture, ","), put_string(l, "size", o->size, ","), put_string(l, "place", o->place, ",");
    put(l, "\"mask\":\"masks/%06zu_%zu.png\",\"box\":[%g,%g,%g,%g],\"visible\":%.4f,", index, k, (double)o->box[0],
        (double)o->box[1], (double)o->box[2], (double)o->box[3], (double)o->visible);
    put_string(l, "phrase", o->phrase, "}");
}
static void put_scene(line *l, const scene *sc, scene_kind kind, uint64_t seed, size_t index) {
    put(l, "{\"image\":\"images/%06zu.png\",\"side\":%zu,\"kind\":\"%s\",\"seed\":%llu,\"index\":%zu,", index, sc->side,
        kinds[kind], (unsigned long long)seed, index);
    put_captions(l, sc, seed, index);
    put(l, "\"objects\":[");
    for (size_t k = 0; k < sc->count; k++) put(l, k > 0 ? "," : ""), put_object(l, &sc->object[k], index, k);
    put(l, "],\"referring\":[");
    for (size_t k = 0, some = 0; k < sc->count; k++) {
        char phrases[MOST_PHRASES][PHRASE_ROOM];
        size_t n = grammar_phrases(sc, k, phrases);
        for (size_t i = 0; i < n; i++, some++) {
            put(l, some > 0 ? ",{" : "{");
            put_string(l, "phrase", phrases[i], ",");
            put(l, "\"mask\":\"masks/%06zu_%zu.png\"}", index, k);
        }
    }
    put(l, "]}\n");
}

/* ---- writing a set --------------------------------------------------------------------------------- */
enum { TOGETHER = 32 }; /* scenes made before their lines are written */
typedef struct {
    const scene_set *set;
    const char *folder;
    size_t first;
    line lines[TOGETHER];
    bool ok[TOGETHER];
    err e[TOGETHER];
} batch;

static bool write_masks(const scene *sc, const char *folder, size_t index, err *e) {
    size_t n = sc->side * sc->side;
    char path[4096];
    real *soft = mem_alloc(n, sizeof *soft);
    bool ok = soft != NULL || err_set(e, "%s: out of memory for a mask of %zu pixels", folder, n);
    for (size_t k = 0; ok && k < sc->count; k++) {
        for (size_t i = 0; i < n; i++) soft[i] = (real)sc->object[k].mask[i] / 255;
        snprintf(path, sizeof path, "%s/masks/%06zu_%zu.png", folder, index, k);
        ok = mask_write_png(path, soft, sc->side, sc->side, e);
    }
    mem_free(soft);
    return ok;
}
static void write_scene(void *arg, size_t i) {
    batch *b = arg;
    const scene_set *set = b->set;
    size_t index = b->first + i, which = index % set->sources;
    char path[4096];
    scene sc;
    if (!(b->ok[i] = scene_make(set->source[which], set->seed, index, set->side, set->least, set->most, &sc, &b->e[i])))
        return;
    snprintf(path, sizeof path, "%s/images/%06zu.png", b->folder, index);
    b->ok[i] = picture_write_png(path, &sc.image, &b->e[i]) && write_masks(&sc, b->folder, index, &b->e[i]);
    b->lines[i].length = 0, b->lines[i].full = false;
    put_scene(&b->lines[i], &sc, scene_source_kind(set->source[which]), set->seed, index);
    if (b->ok[i] && b->lines[i].full) b->ok[i] = err_set(&b->e[i], "%s: scene %zu: its line is too long", b->folder, index);
    scene_free(&sc);
}

static bool write_batches(batch *b, FILE *out, pool *cores, void (*progress)(void *arg, size_t done), void *arg, err *e) {
    for (size_t n; b->first < b->set->count; b->first += n) {
        n = b->set->count - b->first < TOGETHER ? b->set->count - b->first : TOGETHER;
        spread(cores, n, write_scene, b);
        for (size_t i = 0; i < n; i++) {
            if (!b->ok[i]) {
                *e = b->e[i];
                return false;
            }
            fwrite(b->lines[i].text, 1, b->lines[i].length, out); /* out_close looks whether it went well */
        }
        if (progress != NULL) progress(arg, b->first + n);
    }
    return true;
}

static bool make_folders(const char *folder, err *e) {
    char path[4096];
    if (strlen(folder) > sizeof path - 64) return err_set(e, "%.200s...: the name is too long", folder);
    snprintf(path, sizeof path, "%s/images", folder);
    if (!folder_make(folder, e) || !folder_make(path, e)) return false;
    snprintf(path, sizeof path, "%s/masks", folder);
    return folder_make(path, e);
}

bool scene_set_write(const scene_set *set, const char *folder, pool *cores, void (*progress)(void *arg, size_t done),
                     void *arg, err *e) {
    char path[4096];
    out_file f;
    if (!make_folders(folder, e)) return false;
    snprintf(path, sizeof path, "%s/scenes.jsonl", folder);
    if (!out_open(&f, path, e)) return false;
    batch *b = mem_alloc(1, sizeof *b);
    char *room = mem_alloc(TOGETHER, LINE_ROOM);
    bool ok = b != NULL && room != NULL ? true : err_set(e, "%s: out of memory", folder);
    if (ok && file_exists(path) && !os_remove(path)) ok = err_set(e, "%s: cannot be replaced: %s", path, os_reason());
    if (ok) {
        b->set = set, b->folder = folder;
        for (size_t i = 0; i < TOGETHER; i++) b->lines[i].text = room + i * LINE_ROOM;
        ok = write_batches(b, f.stream, cores, progress, arg, e);
    }
    mem_free(room), mem_free(b);
    if (ok) return out_close(&f, e);
    out_abandon(&f);
    return false;
}

/* ---- reading a set --------------------------------------------------------------------------------- */
enum { CHUNK = 1 << 16, LONGEST_LINE = 1 << 24 };
struct scene_reader {
    FILE *stream;
    char folder[SCENE_PATH], path[SCENE_PATH + 16];
    size_t number;              /* the line last read, from 1 */
    char *bytes;                /* what is read and not yet used: bytes[from..to) */
    size_t room, from, to;
};

scene_reader *scene_reader_open(const char *folder, err *e) {
    if (strlen(folder) > SCENE_PATH / 2) {
        err_set(e, "%.200s...: the name is too long", folder);
        return NULL;
    }
    scene_reader *r = mem_alloc(1, sizeof *r);
    if (r == NULL || (r->bytes = mem_alloc(2 * CHUNK, 1)) == NULL) {
        mem_free(r);
        err_set(e, "%s: out of memory", folder);
        return NULL;
    }
    r->room = 2 * CHUNK;
    strcpy(r->folder, folder);
    snprintf(r->path, sizeof r->path, "%s/scenes.jsonl", folder);
    r->stream = os_open(r->path, "rb");
    if (r->stream != NULL && !folder_exists(r->path)) return r;
    err_set(e, "%s: cannot be read: %s; expected what `maskinv scenes -o DIR` writes", r->path,
            r->stream != NULL ? "is a folder" : os_reason());
    scene_reader_free(r);
    return NULL;
}
void scene_reader_free(scene_reader *r) {
    if (r == NULL) return;
    if (r->stream != NULL) fclose(r->stream);
    mem_free(r->bytes), mem_free(r);
}

/* Reads on, making room. *more: there was something. */
static bool read_on(scene_reader *r, bool *more, err *e) {
    if (r->from > 0) {
        memmove(r->bytes, r->bytes + r->from, r->to - r->from);
        r->to -= r->from, r->from = 0;
    }
    if (r->room - r->to < CHUNK) {
        char *grown = r->room < LONGEST_LINE ? mem_resize(r->bytes, 2 * r->room) : NULL;
        if (grown == NULL) return err_set(e, "%s:%zu: a line of over %zu bytes, expected at most %d", r->path, r->number,
                                          r->to, LONGEST_LINE);
        r->bytes = grown, r->room *= 2;
    }
    size_t n = fread(r->bytes + r->to, 1, CHUNK, r->stream);
    if (n == 0 && ferror(r->stream)) return err_set(e, "%s: reading failed", r->path);
    r->to += n, *more = n > 0;
    return true;
}
/* The next line that is not empty; NULL text at the end. */
static bool next_line(scene_reader *r, const char **text, size_t *length, err *e) {
    size_t seen = 0;
    r->number++;
    for (bool more = true; more;) {
        char *end = memchr(r->bytes + r->from + seen, '\n', r->to - r->from - seen);
        if (end != NULL) {
            *text = r->bytes + r->from, *length = (size_t)(end - *text);
            r->from += *length + 1;
            if (*length > 0) return true;
            r->number++, seen = 0;
            continue;
        }
        seen = r->to - r->from;
        if (!read_on(r, &more, e)) return false;
    }
    *text = r->to > r->from ? r->bytes + r->from : NULL, *length = r->to - r->from;
    r->from = r->to;
    return true;
}

/* ---- fields ------------------------------------------------------------------------------------------ */
/* The scope of one element of a list: PATH[i]. */
static bool element(const json_scope *s, const char *key, size_t i, const cJSON *item, json_scope *out) {
    *out = *s;
    snprintf(out->path, sizeof out->path, "%s[%zu]", key, i);
    out->object = item;
    return cJSON_IsObject(item) ? true : json_wrong(s, out->path, item, "an object");
}
static bool text_field(const json_scope *s, const char *key, char *out, size_t room, bool empty) {
    const char *text = NULL;
    const cJSON *v;
    if (!json_field(s, key, &v) || !json_string(s, key, NULL, &text)) return false;
    if (text == NULL || (!empty && text[0] == 0)) return json_wrong(s, key, v, "a string");
    if (strlen(text) >= room) return json_wrong(s, key, v, "a shorter string");
    strcpy(out, text);
    return true;
}
static bool path_field(const scene_reader *r, const json_scope *s, const char *key, char out[SCENE_PATH]) {
    char inner[SCENE_PATH / 2 - 2];
    if (!text_field(s, key, inner, sizeof inner, false)) return false;
    snprintf(out, SCENE_PATH, "%.*s/%s", SCENE_PATH / 2, r->folder, inner);
    return true;
}
/* A list of least..most elements. */
static bool list_field(const json_scope *s, const char *key, size_t least, size_t most, const cJSON **list, size_t *count) {
    char expected[64];
    if (!json_field(s, key, list)) return false;
    *count = cJSON_IsArray(*list) ? (size_t)cJSON_GetArraySize(*list) : 0;
    snprintf(expected, sizeof expected, "a list of %zu to %zu", least, most);
    return cJSON_IsArray(*list) && *count >= least && *count <= most ? true : json_wrong(s, key, *list, expected);
}
static bool captions_field(const json_scope *s, scene_record *out) {
    const cJSON *list, *item;
    size_t i = 0;
    if (!list_field(s, "captions", 1, SCENE_MOST_CAPTIONS, &list, &out->captions)) return false;
    cJSON_ArrayForEach(item, list) {
        char path[32];
        snprintf(path, sizeof path, "captions[%zu]", i);
        if (!cJSON_IsString(item) || item->valuestring[0] == 0 || strlen(item->valuestring) >= sizeof out->caption[i])
            return json_wrong(s, path, item, "a sentence of at most 255 bytes");
        strcpy(out->caption[i++], item->valuestring);
    }
    return true;
}
static bool box_field(const json_scope *s, size_t side, float box[4]) {
    const cJSON *list, *item;
    size_t n, i = 0;
    if (!list_field(s, "box", 4, 4, &list, &n)) return false;
    cJSON_ArrayForEach(item, list) {
        double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
        if (!(v >= 0 && v <= (double)side)) return json_wrong(s, "box", list, "4 numbers from 0 to the side");
        box[i++] = (float)v;
    }
    if (!(box[0] < box[2] && box[1] < box[3])) return json_wrong(s, "box", list, "x0 < x1 and y0 < y1");
    return true;
}
static bool object_fields(const scene_reader *r, const json_scope *s, scene_record *out, size_t i) {
    double visible;
    if (!text_field(s, "name", out->object[i].name, sizeof out->object[i].name, false) ||
        !text_field(s, "colour", out->object[i].colour, sizeof out->object[i].colour, true) ||
        !text_field(s, "texture", out->object[i].texture, sizeof out->object[i].texture, true) ||
        !text_field(s, "size", out->object[i].size, sizeof out->object[i].size, true) ||
        !text_field(s, "place", out->object[i].place, sizeof out->object[i].place, false) ||
        !path_field(r, s, "mask", out->object[i].mask) || !box_field(s, out->side, out->object[i].box) ||
        !json_number(s, "visible", 0, 1, -1, &visible) ||
        !text_field(s, "phrase", out->object[i].phrase, sizeof out->object[i].phrase, false))
        return false;
    const cJSON *v = NULL;
    if (visible < 0) return json_field(s, "visible", &v) && json_wrong(s, "visible", v, "a number from 0 to 1");
    out->object[i].visible = (float)visible;
    return true;
}
static bool objects_field(const scene_reader *r, const json_scope *s, scene_record *out) {
    const cJSON *list, *item;
    json_scope inner;
    size_t i = 0;
    if (!list_field(s, "objects", 1, SCENE_MOST_OBJECTS, &list, &out->objects)) return false;
    cJSON_ArrayForEach(item, list) {
        if (!element(s, "objects", i, item, &inner) || !object_fields(r, &inner, out, i)) return false;
        i++;
    }
    return true;
}
static bool referring_field(const scene_reader *r, const json_scope *s, scene_record *out) {
    const cJSON *list, *item, *v;
    json_scope inner;
    size_t i = 0;
    if (!list_field(s, "referring", 0, SCENE_MOST_REFERRING, &list, &out->referring)) return false;
    cJSON_ArrayForEach(item, list) {
        char mask[SCENE_PATH];
        size_t k = 0;
        if (!element(s, "referring", i, item, &inner) || !path_field(r, &inner, "mask", mask) ||
            !text_field(&inner, "phrase", out->refers[i].phrase, sizeof out->refers[i].phrase, false))
            return false;
        while (k < out->objects && strcmp(out->object[k].mask, mask) != 0) k++;
        if (k == out->objects)
            return json_field(&inner, "mask", &v) && json_wrong(&inner, "mask", v, "the mask of one of the objects");
        out->refers[i++].object = k;
    }
    return true;
}
static bool record_fields(const scene_reader *r, const json_scope *s, scene_record *out) {
    char kind[16];
    size_t seed, index;
    const cJSON *v;
    if (!path_field(r, s, "image", out->image) || !text_field(s, "kind", kind, sizeof kind, false) ||
        !json_size(s, "side", 1, 65536, JSON_REQUIRED, &out->side) ||
        !json_size(s, "seed", 0, SIZE_MAX - 1, JSON_REQUIRED, &seed) ||
        !json_size(s, "index", 0, SIZE_MAX - 1, JSON_REQUIRED, &index))
        return false;
    if (strcmp(kind, kinds[0]) != 0 && strcmp(kind, kinds[1]) != 0)
        return json_field(s, "kind", &v) && json_wrong(s, "kind", v, "\"drawn\" or \"photographic\"");
    out->kind = strcmp(kind, kinds[0]) == 0 ? SCENE_DRAWN : SCENE_PHOTOGRAPHIC;
    out->seed = seed, out->index = index;
    return captions_field(s, out) && objects_field(r, s, out) && referring_field(r, s, out);
}

scene_reading scene_reader_next(scene_reader *r, scene_record *out, err *e) {
    const char *text;
    size_t length;
    char name[SCENE_PATH + 48];
    memset(out, 0, sizeof *out);
    if (!next_line(r, &text, &length, e)) return SCENE_FAILED;
    if (text == NULL) return SCENE_END;
    snprintf(name, sizeof name, "%s:%zu", r->path, r->number);
    cJSON *j = json_parse(text, length, name, e);
    if (j == NULL) return SCENE_FAILED;
    json_scope root = {.object = j, .file = name, .e = e};
    bool ok = cJSON_IsObject(j) ? record_fields(r, &root, out) : err_set(e, "%s: a scene is an object in braces", name);
    json_free(j);
    return ok ? SCENE_READ : SCENE_FAILED;
}
