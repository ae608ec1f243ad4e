/* mask_json.c - from JSON to planes of 0 and 1 (see mask_json.h): the file is walked once for where its regions stand, and
 * for names and sides; each region is then read from its place. */
#include "masks/mask_json.h"
#include "files/json_stream.h"
#include "masks/segmentation.h"
#include <string.h>

enum { WHOLE_FILE = -1, MOST_PIXELS = 100000000 };

typedef struct {
    int64_t at; /* its first byte, or WHOLE_FILE */
    uint64_t picture, category;
    bool has_picture, has_category;
    char *name; /* its own */
} json_region;
typedef struct {
    uint64_t id;
    size_t width, height;
    bool shown; /* it has the photograph's name */
} json_picture;
typedef struct {
    uint64_t id;
    char *name;
} json_category;

typedef struct {
    json_stream file;
    json_region *region;
    json_picture *picture;
    json_category *category;
    size_t regions, pictures, categories, region_room, picture_room, category_room;
    segment_room room;
} mask_json;

bool mask_json_is(const unsigned char *bytes, size_t length) {
    size_t i = length >= 3 && !memcmp(bytes, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (i < length && (bytes[i] == ' ' || bytes[i] == '\t' || bytes[i] == '\n' || bytes[i] == '\r')) i++;
    return i < length && (bytes[i] == '{' || bytes[i] == '[');
}

/* ---- fields -------------------------------------------------------------------------------------------- */
static const cJSON *field(const cJSON *item, const char *key) { return cJSON_GetObjectItemCaseSensitive(item, key); }

/* A number, or a text by its hash (FNV-1a): what tables tell each other by. */
static bool id_of(const cJSON *v, uint64_t *out) {
    size_t n;
    if (json_whole(v, &n)) return *out = n, true;
    if (!cJSON_IsString(v)) return false;
    *out = 14695981039346656037u;
    for (const char *p = v->valuestring; *p; p++) *out = (*out ^ (unsigned char)*p) * 1099511628211u;
    return true;
}

/* The first of the keys that holds a text. */
static const char *text_of(const cJSON *item, const char *const *keys) {
    for (; *keys; keys++) {
        const cJSON *v = field(item, *keys);
        if (cJSON_IsString(v) && v->valuestring[0]) return v->valuestring;
    }
    return NULL;
}

/* Sides under two keys, both or none. */
static void sides_of(const cJSON *item, const char *width, const char *height, json_picture *p) {
    size_t w, h;
    if (json_whole(field(item, width), &w) && json_whole(field(item, height), &h)) p->width = w, p->height = h;
}

/* ---- which picture ----------------------------------------------------------------------------------------- */
static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/'), *back = strrchr(path, '\\');
    return slash && slash > back ? slash + 1 : back ? back + 1 : path;
}

static size_t stem_length(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && dot > name ? (size_t)(dot - name) : strlen(name);
}

/* The same file but for folder and ending: photographs are converted. */
static bool same_file(const char *a, const char *b) {
    a = last_part(a), b = last_part(b);
    size_t n = stem_length(a);
    return n && n == stem_length(b) && !memcmp(a, b, n);
}

/* The number at the end of the file's name, which is COCO's picture id. */
static bool number_of(const char *photo, uint64_t *out) {
    const char *name = last_part(photo);
    size_t end = stem_length(name), first = end;
    while (first && name[first - 1] >= '0' && name[first - 1] <= '9') first--;
    *out = 0;
    if (first == end || end - first > 18) return false;
    for (; first < end; first++) *out = *out * 10 + (uint64_t)(name[first] - '0');
    return true;
}

/* ---- the walk ------------------------------------------------------------------------------------------------ */
static bool add_region(mask_json *j, const cJSON *item, int64_t at, err *e) {
    static const char *const keys[] = {"category_name", "class_name", "label", "name", "phrase", NULL};
    if (!mem_grow(&j->region, &j->region_room, j->regions + 1, sizeof *j->region))
        return err_set(e, "%s: no memory for %zu regions", j->file.path, j->regions + 1);
    json_region *r = &j->region[j->regions++];
    *r = (json_region){.at = at};
    r->has_picture = id_of(field(item, "image_id"), &r->picture);
    r->has_category = id_of(field(item, "category_id"), &r->category);
    const char *name = text_of(item, keys);
    return !name || (r->name = mem_text(name)) || err_set(e, "%s: no memory for a name", j->file.path);
}

static bool add_picture(mask_json *j, const cJSON *item, const char *photo, err *e) {
    static const char *const keys[] = {"file_name", "image_path", "coco_url", NULL};
    json_picture p = {0};
    const char *name = text_of(item, keys);
    if (!id_of(field(item, "id"), &p.id) && !id_of(field(item, "image_id"), &p.id)) p.id = UINT64_MAX;
    sides_of(item, "width", "height", &p);
    p.shown = name && photo && same_file(name, photo);
    if (!mem_grow(&j->picture, &j->picture_room, j->pictures + 1, sizeof *j->picture))
        return err_set(e, "%s: no memory for %zu pictures", j->file.path, j->pictures + 1);
    j->picture[j->pictures++] = p;
    return true;
}

static bool add_category(mask_json *j, const cJSON *item, err *e) {
    json_category c = {0};
    const cJSON *name = field(item, "name");
    if (!cJSON_IsString(name) || !id_of(field(item, "id"), &c.id)) return true; /* its regions stay without a name */
    if (!mem_grow(&j->category, &j->category_room, j->categories + 1, sizeof *j->category) ||
        !(c.name = mem_text(name->valuestring)))
        return err_set(e, "%s: no memory for %zu categories", j->file.path, j->categories + 1);
    j->category[j->categories++] = c;
    return true;
}

static bool is_region(const cJSON *item) { return field(item, "segmentation") || field(item, "counts"); }

static bool walk(mask_json *j, const mask_file *f, bool *lone, err *e) {
    json_stream *s = &j->file;
    json_picture top = {.id = UINT64_MAX};
    while (json_stream_next(s, e)) {
        const cJSON *item = s->item;
        size_t n;
        bool ok = true;
        *lone = *lone || !strcmp(s->section, "segmentation") || !strcmp(s->section, "counts");
        if (!strcmp(s->section, "annotations") || !*s->section) {
            if (!is_region(item))
                return err_set(e, "%s: element %zu has neither segmentation nor counts: COCO's annotations or SAM's masks expected",
                               f->path, j->regions);
            ok = add_region(j, item, (int64_t)s->at, e);
        } else if (!strcmp(s->section, "images") || !strcmp(s->section, "image")) {
            ok = add_picture(j, item, f->frame.photo, e);
        } else if (!strcmp(s->section, "categories")) {
            ok = add_category(j, item, e);
        } else if (!strcmp(s->section, "img_width") && json_whole(item, &n)) {
            top.width = n;
        } else if (!strcmp(s->section, "img_height") && json_whole(item, &n)) {
            top.height = n;
        }
        if (!ok) return false;
    }
    if (s->ended && !j->pictures && top.width && top.height) {
        if (!mem_grow(&j->picture, &j->picture_room, 1, sizeof *j->picture))
            return err_set(e, "%s: no memory", f->path);
        j->picture[j->pictures++] = top;
    }
    return s->ended;
}

/* One annotation alone: the whole file. */
static cJSON *parse_whole(const mask_file *f, err *e) {
    size_t bom = f->bytes.length >= 3 && !memcmp(f->bytes.data, "\xEF\xBB\xBF", 3) ? 3 : 0;
    return json_parse((const char *)f->bytes.data + bom, f->bytes.length - bom, f->path, e);
}

/* ---- the photograph's regions ---------------------------------------------------------------------------------- */
static const json_picture *picture_of(const mask_json *j, const json_region *r) {
    for (size_t i = 0; r->has_picture && i < j->pictures; i++)
        if (j->picture[i].id == r->picture) return &j->picture[i];
    return j->pictures == 1 ? j->picture : NULL;
}

/* *id: the photograph's; *all: there is no choice. */
static bool which_picture(const mask_json *j, const mask_file *f, uint64_t *id, bool *all, err *e) {
    const json_region *first = NULL;
    uint64_t number = 0;
    bool several = false, numbered = f->frame.photo && number_of(f->frame.photo, &number), found = false;
    for (size_t i = 0; i < j->regions; i++) {
        const json_region *r = &j->region[i];
        if (!r->has_picture) continue;
        if (!first) first = r;
        several = several || r->picture != first->picture;
        found = found || (numbered && r->picture == number);
    }
    *all = !several && j->pictures < 2;
    for (size_t i = 0; !*all && i < j->pictures; i++)
        if (j->picture[i].shown) return *id = j->picture[i].id, true;
    if (*all || found) return *id = number, true;
    return err_set(e, "%s: holds regions of several pictures, none of them is %s: neither a file_name nor an image_id says so",
                   f->path, f->frame.photo ? last_part(f->frame.photo) : "named");
}

static bool keep_photographs(mask_json *j, const mask_file *f, err *e) {
    uint64_t id = 0;
    size_t kept = 0;
    bool all;
    if (!which_picture(j, f, &id, &all, e)) return false;
    for (size_t i = 0; i < j->regions; i++) {
        if (all || !j->region[i].has_picture || j->region[i].picture == id)
            j->region[kept++] = j->region[i];
        else
            mem_free(j->region[i].name);
    }
    j->regions = kept;
    return kept > 0 || err_set(e, "%s: holds no region of %s", f->path, f->frame.photo ? last_part(f->frame.photo) : "the picture");
}

bool mask_json_open(mask_file *f, err *e) {
    mask_json *j = mem_alloc(1, sizeof *j);
    bool lone = false;
    if (!(f->own = j)) return err_set(e, "%s: no memory", f->path);
    if (!json_stream_open(&j->file, f->path, e) || !walk(j, f, &lone, e)) return false;
    if (!j->regions && lone) {
        cJSON *item = parse_whole(f, e);
        bool ok = item && add_region(j, item, WHOLE_FILE, e);
        json_free(item);
        if (!ok) return false;
    }
    if (!j->regions)
        return err_set(e, "%s: holds no region: annotations with a segmentation, as of COCO or SAM, expected", f->path);
    if (!keep_photographs(j, f, e)) return false;
    f->planes = j->regions;
    return true;
}

/* ---- a region ------------------------------------------------------------------------------------------------------ */
/* Run lengths say their sides; polygons have those of the table's picture, or the photograph's. */
static bool sides_for(const mask_json *j, const mask_file *f, const json_region *r, const cJSON *segmentation, size_t *width,
                      size_t *height, err *e) {
    const json_picture *p = picture_of(j, r);
    const cJSON *runs = cJSON_IsObject(segmentation) ? segmentation : segmentation->child, *size = field(runs, "size");
    size_t area;
    *width = p && p->width ? p->width : f->frame.width, *height = p && p->height ? p->height : f->frame.height;
    if (cJSON_IsObject(runs) && !(cJSON_GetArraySize(size) == 2 && json_whole(size->child, height) && json_whole(size->child->next, width)))
        return err_set(e, "run lengths without size: [height, width]");
    if (!*width || !*height) return err_set(e, "polygons of a picture whose width and height the file does not say");
    return (size_mul(*width, *height, &area) && area <= MOST_PIXELS) ||
           err_set(e, "%zu x %zu pixels, at most %d million expected", *width, *height, MOST_PIXELS / 1000000);
}

static bool is_rows(const cJSON *s) { return cJSON_IsArray(s) && cJSON_IsArray(s->child) && cJSON_IsBool(s->child->child); }

/* [[false, true, ...], ...] */
static bool read_rows(const cJSON *rows, const char *path, mask_plane *p, err *e) {
    size_t height = (size_t)cJSON_GetArraySize(rows), width = (size_t)cJSON_GetArraySize(rows->child), y = 0, x = 0;
    const cJSON *row, *v;
    if (!mask_plane_new(p, width, height, path, e)) return false;
    cJSON_ArrayForEach(row, rows) {
        x = 0;
        cJSON_ArrayForEach(v, row) {
            if (x == width || !cJSON_IsBool(v)) return err_set(e, "row %zu: number %zu is not one of %zu times true or false", y, x, width);
            p->value[y * width + x++] = cJSON_IsTrue(v) ? 1 : 0;
        }
        if (x++ != width) return err_set(e, "row %zu has %zu numbers, the first has %zu", y, x - 1, width);
        y++;
    }
    return true;
}

static bool read_region(mask_json *j, const mask_file *f, const json_region *r, const cJSON *item, mask_plane *p, err *e) {
    const cJSON *s = field(item, "segmentation");
    size_t width, height;
    if (!s && field(item, "counts")) s = item;
    if (!s) return err_set(e, "neither segmentation nor counts");
    if (is_rows(s)) return read_rows(s, f->path, p, e);
    if (!cJSON_IsObject(s) && !cJSON_IsArray(s)) return err_set(e, "segmentation is neither run lengths nor polygons");
    if (!sides_for(j, f, r, s, &width, &height, e) || !segment_draw(s, height, width, &j->room, e) ||
        !mask_plane_new(p, width, height, f->path, e))
        return false;
    for (size_t i = 0; i < width * height; i++) p->value[i] = j->room.cover[i] ? 1 : 0;
    return true;
}

bool mask_json_read(mask_file *f, size_t plane, mask_view view, mask_plane *p, err *e) {
    mask_json *j = f->own;
    const json_region *r = &j->region[plane];
    char name[128] = "";
    *p = (mask_plane){0};
    if (view == MASK_ALPHA) return err_set(e, "%s: JSON has no alpha channel", f->path);
    cJSON *item = r->at == WHOLE_FILE ? parse_whole(f, e) : json_stream_at(&j->file, (uint64_t)r->at, e);
    if (!item) return false;
    bool ok = read_region(j, f, r, item, p, e);
    json_free(item);
    if (ok) return p->full = 1, p->whole = true, true;
    mask_plane_free(p);
    bool named = mask_json_name(f, plane, name, sizeof name);
    return err_prefix(e, "%s: region %zu%s%s%s", f->path, plane, named ? " (" : "", name, named ? ")" : "");
}

bool mask_json_name(const mask_file *f, size_t plane, char *name, size_t size) {
    const mask_json *j = f->own;
    const json_region *r = &j->region[plane];
    const char *text = r->name;
    for (size_t i = 0; !text && r->has_category && i < j->categories; i++)
        if (j->category[i].id == r->category) text = j->category[i].name;
    snprintf(name, size, "%s", text ? text : "");
    return *name != 0;
}

void mask_json_close(mask_file *f) {
    mask_json *j = f->own;
    if (!j) return;
    json_stream_close(&j->file);
    for (size_t i = 0; i < j->regions; i++) mem_free(j->region[i].name);
    for (size_t i = 0; i < j->categories; i++) mem_free(j->category[i].name);
    mem_free(j->region), mem_free(j->picture), mem_free(j->category);
    segment_free(&j->room);
    mem_free(j);
}
