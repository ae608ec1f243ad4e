/* reader.c - what the readers share: files below root, pictures told, label pictures, indices of tables. */
#include "data/reader.h"
#include "files/files.h"
#include "masks/rle.h"
#include "os/os.h"
#include "pictures/image.h"
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- files below root ----------------------------------------------------------------------------- */
path_text reader_path(const data_reader *r, const char *format, ...) {
    path_text p;
    va_list args;
    int n = snprintf(p.text, sizeof p.text, "%s/", r->root);
    size_t at = n > 0 && (size_t)n < sizeof p.text ? (size_t)n : sizeof p.text - 1;
    va_start(args, format);
    vsnprintf(p.text + at, sizeof p.text - at, format, args); /* one that is cut is not found */
    va_end(args);
    return p;
}

path_text path_of(const char *format, ...) {
    path_text p;
    va_list args;
    va_start(args, format);
    vsnprintf(p.text, sizeof p.text, format, args);
    va_end(args);
    return p;
}

static bool missing(data_reader *r, const char *path) {
    return err_set(r->e, "%s: %s. The layout of %s is expected; get it from %s", path, os_reason(), r->set->title,
                   r->set->where);
}

bool reader_needs(data_reader *r, const char *path) {
    FILE *f = os_open(path, "rb");
    if (!f) return missing(r, path);
    fclose(f);
    return true;
}

bool names_add(data_reader *r, name_list *list, const char *text, size_t length) {
    char *copy = NULL;
    if (!mem_grow(&list->item, &list->room, list->count + 1, sizeof *list->item) || !(copy = mem_text_of(text, length)))
        return err_set(r->e, "no memory for %zu names", list->count + 1);
    list->item[list->count++] = copy;
    return true;
}

void names_free(name_list *list) {
    for (size_t i = 0; i < list->count; i++) mem_free(list->item[i]);
    mem_free(list->item);
    *list = (name_list){0};
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

typedef struct {
    data_reader *r;
    name_list *out;
    bool failed;
} folder_visit;

static bool add_entry(void *arg, const char *name) {
    folder_visit *v = arg;
    if (name[0] != '.') v->failed = !names_add(v->r, v->out, name, strlen(name));
    return !v->failed;
}

bool reader_folder(data_reader *r, const char *path, name_list *out) {
    folder_visit v = {r, out, false};
    *out = (name_list){0};
    if (!os_folder_each(path, add_entry, &v)) return names_free(out), v.failed ? false : missing(r, path);
    if (out->count) qsort(out->item, out->count, sizeof *out->item, by_bytes);
    return true;
}

enum { LIST_MOST = 1 << 27 };
bool reader_lines(data_reader *r, const char *path, name_list *out) {
    size_t length;
    *out = (name_list){0};
    if (!reader_needs(r, path)) return false;
    char *text = file_read(path, LIST_MOST, &length, r->e);
    if (!text) return false;
    bool ok = strlen(text) == length || err_set(r->e, "%s: a zero byte found, lines of text expected", path);
    const char *at = length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? text + 3 : text;
    for (const char *end; ok && *at; at = *end ? end + 1 : end) {
        const char *from = at, *to = end = at + strcspn(at, "\r\n");
        while (from < to && isspace((unsigned char)*from)) from++;
        while (from < to && isspace((unsigned char)to[-1])) to--;
        if (from < to) ok = names_add(r, out, from, (size_t)(to - from));
    }
    mem_free(text);
    if (!ok) names_free(out);
    return ok;
}

bool ends_like(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcasecmp(text + n - m, end);
}

/* ---- pictures, regions, what is left out ------------------------------------------------------------- */
bool reader_skip(data_reader *r, bool inside, const char *why, const char *id, ...) {
    path_text name;
    va_list args;
    va_start(args, id);
    vsnprintf(name.text, sizeof name.text, id, args);
    va_end(args);
    return r->sink->left_out(r->sink->arg, name.text, why, inside, r->e);
}

picture_state reader_look(data_reader *r, const data_picture *p, size_t *width, size_t *height) {
    path_text path = reader_path(r, "%s", p->file);
    err why = {0};
    bool there = file_exists(path.text);
    if (there && picture_sides(path.text, width, height, &why)) return PICTURE_HERE;
    path_text reason = path_of("picture %s: %s", there ? "unreadable" : "missing", p->file);
    return reader_skip(r, false, reason.text, "%s", p->id) ? PICTURE_GONE : PICTURE_STOP;
}

picture_state reader_tell(data_reader *r, data_picture *p, size_t width, size_t height) {
    bool wanted = true;
    p->width = r->width = width, p->height = r->height = height;
    p->index = r->pictures++;
    if (!p->split) p->split = r->split;
    if (!r->sink->picture(r->sink->arg, p, &wanted, r->e)) return PICTURE_STOP;
    return wanted ? PICTURE_HERE : PICTURE_OTHER;
}

picture_state reader_picture(data_reader *r, data_picture *p) {
    size_t width, height;
    picture_state state = reader_look(r, p, &width, &height);
    return state == PICTURE_HERE ? reader_tell(r, p, width, height) : state;
}

bool reader_mask(data_reader *r) {
    size_t n = r->width * r->height; /* probed: at most 100 megapixels */
    if (n + 1 > r->mask_room) {
        mem_free(r->mask);
        r->mask_room = 0;
        if (!(r->mask = mem_alloc(n + 1, 1)))
            return err_set(r->e, "no memory for a mask of %zux%zu pixels", r->width, r->height);
        r->mask_room = n + 1;
    }
    memset(r->mask, 0, n);
    return true;
}

bool reader_region(data_reader *r, data_region *region) {
    region->mask = r->mask, region->width = r->width, region->height = r->height;
    region->area = mask_extent(r->mask, r->height, r->width, region->box);
    if (!region->split) region->split = r->split;
    if (r->more.failed || r->other.failed) return err_set(r->e, "no memory for the fields of a region");
    return r->sink->region(r->sink->arg, region, r->e);
}

/* ---- label pictures ---------------------------------------------------------------------------------- */
bool reader_labels(data_reader *r, const char *path, label_image *l, const char **why) {
    err e = {0};
    *why = NULL;
    memset(l, 0, sizeof *l);
    if (!file_exists(path))
        *why = "label picture missing";
    else if (!labels_read(path, l, &e))
        *why = "label picture unreadable";
    else if (l->width != r->width || l->height != r->height)
        *why = "label picture of another size", labels_free(l);
    return *why == NULL;
}

bool reader_count(data_reader *r, const label_image *l) {
    if (!r->counts && !(r->counts = mem_alloc(LABEL_VALUES, sizeof *r->counts)))
        return err_set(r->e, "no memory to count labels");
    memset(r->counts, 0, LABEL_VALUES * sizeof *r->counts);
    for (size_t i = 0; i < l->width * l->height; i++)
        if (l->value[i] < LABEL_VALUES) r->counts[l->value[i]]++;
    return true;
}

bool reader_mask_of(data_reader *r, const label_image *l, uint32_t value) {
    if (!reader_mask(r)) return false;
    for (size_t i = 0; i < r->width * r->height; i++) r->mask[i] = l->value[i] == value;
    return true;
}

/* Values that are no class's, nor the two that mean nothing: told once a picture. */
static bool tell_unknown(data_reader *r, const label_image *l, const label_classes *c) {
    size_t known = 0;
    for (uint32_t v = 0; v < LABEL_VALUES; v++) {
        bool is = v == 0 || v == LABEL_NOTHING;
        for (size_t i = 0; !is && r->counts[v] && i < c->count; i++) is = c->value[i] == v;
        if (is) known += r->counts[v];
    }
    size_t all = l->width * l->height;
    return known == all || reader_skip(r, true, path_of("%zu pixels of no class", all - known).text, "%s/labels", c->picture);
}

bool reader_classes(data_reader *r, const label_image *l, const label_classes *c) {
    if (!reader_count(r, l) || !tell_unknown(r, l, c)) return false;
    if (r->labels) return r->labels(r->sink->arg, l->value, l->height, l->width, r->e);
    for (size_t i = 0; i < c->count; i++) {
        uint32_t value = c->value[i];
        if (value >= LABEL_VALUES || !r->counts[value]) continue;
        path_text id = path_of("%s/class%s", c->picture, c->classes[i].id);
        data_region region = {.id = id.text,
                              .kind = "semantic",
                              .class_id = c->classes[i].id,
                              .class_whole = true,
                              .class_name = c->classes[i].name,
                              .class_index = (long)i};
        region.more = c->more ? c->more(r, i) : NULL;
        if (!reader_mask_of(r, l, value) || !reader_region(r, &region)) return false;
    }
    return true;
}

bool reader_unlabelled(data_reader *r, const char *pictures, const char *labels) {
    name_list all = {0};
    path_text folder = reader_path(r, "%s", pictures);
    bool ok = !folder_exists(folder.text) || reader_folder(r, folder.text, &all);
    for (size_t i = 0; ok && i < all.count; i++) {
        const char *dot = strrchr(all.item[i], '.');
        if (!dot || (!ends_like(dot, ".jpg") && !ends_like(dot, ".jpeg"))) continue;
        path_text id = path_of("%.*s", (int)(dot - all.item[i]), all.item[i]);
        ok = file_exists(reader_path(r, "%s/%s.png", labels, id.text).text) || reader_skip(r, false, "label picture missing", "%s", id.text);
    }
    names_free(&all);
    return ok;
}

/* ---- indices of tables ----------------------------------------------------------------------------------- */
bool places_add(data_reader *r, places *p, uint64_t key, uint64_t at) {
    if (!mem_grow(&p->item, &p->room, p->count + 1, sizeof *p->item))
        return err_set(r->e, "no memory for an index of %zu rows", p->count + 1);
    p->item[p->count++] = (place){key, at};
    return true;
}

static int by_key(const void *a, const void *b) {
    const place *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int by_at(const void *a, const void *b) {
    const place *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

void places_sort(places *p) {
    if (p->count) qsort(p->item, p->count, sizeof *p->item, by_key);
}

size_t places_find(const places *p, uint64_t key) {
    size_t lo = 0, hi = p->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->item[mid].key < key)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < p->count && p->item[lo].key == key ? lo : p->count;
}

bool places_groups(data_reader *r, const places *p, places *groups) {
    for (size_t i = 0; i < p->count; i++)
        if ((i == 0 || p->item[i].key != p->item[i - 1].key) && !places_add(r, groups, i, p->item[i].at)) return false;
    if (groups->count) qsort(groups->item, groups->count, sizeof *groups->item, by_at);
    return true;
}

void places_free(places *p) {
    mem_free(p->item);
    *p = (places){0};
}

uint64_t text_key(const char *text) {
    uint64_t h = 14695981039346656037u;
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211u;
    return h;
}

/* ---- fields of JSON items -------------------------------------------------------------------------------- */
const char *item_text(const cJSON *item, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(item, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

bool item_whole(const cJSON *item, const char *key, uint64_t *out) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(item, key);
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 9007199254740991.0)) return false;
    *out = (uint64_t)v->valuedouble;
    return (double)*out == v->valuedouble;
}
