/* segmentation.c - COCO's and PhraseCut's masks out of JSON (see segmentation.h). */
#include "masks/segmentation.h"
#include "masks/polygon.h"
#include "masks/rle.h"
#include <string.h>

static bool make_room(segment_room *r, size_t height, size_t width, err *e) {
    size_t n = height * width;
    if (n > r->pixels || !r->cover) {
        mem_free(r->cover), mem_free(r->scratch);
        r->cover = mem_alloc(n, 1), r->scratch = mem_alloc(n + 1, 1), r->pixels = n;
        if (!r->cover || !r->scratch)
            return r->pixels = 0, err_set(e, "no memory for a mask of %zux%zu pixels", width, height);
    }
    memset(r->cover, 0, n);
    return true;
}

void segment_free(segment_room *r) {
    mem_free(r->cover), mem_free(r->scratch), mem_free(r->xy);
    *r = (segment_room){0};
}

/* ---- run lengths ------------------------------------------------------------------------------------ */
static bool size_is(const cJSON *size, size_t height, size_t width) {
    const cJSON *h = cJSON_GetArrayItem(size, 0), *w = cJSON_GetArrayItem(size, 1);
    return cJSON_IsNumber(h) && cJSON_IsNumber(w) && h->valuedouble == (double)height &&
           w->valuedouble == (double)width;
}

/* Into scratch. */
static bool draw_runs(const cJSON *runs, size_t height, size_t width, segment_room *r, err *e) {
    const cJSON *counts = cJSON_GetObjectItemCaseSensitive(runs, "counts"), *item;
    if (!cJSON_IsArray(counts) && !cJSON_IsString(counts)) return err_set(e, "counts are no list and no text");
    if (!size_is(cJSON_GetObjectItemCaseSensitive(runs, "size"), height, width))
        return err_set(e, "size of the run lengths is not the picture's");
    if (cJSON_IsString(counts))
        return rle_decode(counts->valuestring, strlen(counts->valuestring), height, width, r->scratch, e);
    rle_painter p = rle_begin(r->scratch, height, width);
    cJSON_ArrayForEach(item, counts) {
        if (!cJSON_IsNumber(item)) return err_set(e, "a run length that is no number");
        if (!rle_run(&p, item->valuedouble, e)) return false;
    }
    return rle_end(&p, e);
}

static bool add_runs(const cJSON *runs, size_t height, size_t width, segment_room *r, err *e) {
    if (!draw_runs(runs, height, width, r, e)) return false;
    for (size_t i = 0; i < height * width; i++)
        if (r->scratch[i] && r->cover[i] < 255) r->cover[i]++;
    return true;
}

/* ---- polygons ------------------------------------------------------------------------------------------ */
/* The numbers of a list, in r->xy. */
static bool take_numbers(const cJSON *list, segment_room *r, size_t *count, err *e) {
    const cJSON *item;
    *count = 0;
    if (!cJSON_IsArray(list)) return err_set(e, "a polygon that is no list");
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item)) return err_set(e, "a corner that is no number");
        if (!mem_grow(&r->xy, &r->xy_room, *count + 8, sizeof *r->xy)) return err_set(e, "no memory for a polygon");
        r->xy[(*count)++] = item->valuedouble;
    }
    return true;
}

/* x, y, w, h as its corners, in the order in which COCO's code takes them. */
static bool box_corners(segment_room *r, size_t *count, err *e) {
    if (*count != 4) return err_set(e, "a box of %zu numbers", *count);
    double x = r->xy[0], y = r->xy[1], w = r->xy[2], h = r->xy[3];
    memcpy(r->xy, (double[8]){x, y, x, y + h, x + w, y + h, x + w, y}, 8 * sizeof *r->xy);
    *count = 8;
    return true;
}

static bool add_parts(const cJSON *parts, size_t height, size_t width, segment_room *r, err *e) {
    bool boxes = cJSON_GetArraySize(cJSON_GetArrayItem(parts, 0)) == 4;
    const cJSON *part;
    cJSON_ArrayForEach(part, parts) {
        size_t n;
        if (!take_numbers(part, r, &n, e) || (boxes && !box_corners(r, &n, e))) return false;
        if (n >= 6 && !polygon_coco(r->xy, n / 2, height, width, r->scratch, r->cover, e)) return false;
    }
    return true;
}

bool segment_draw(const cJSON *field, size_t height, size_t width, segment_room *r, err *e) {
    const cJSON *item;
    if (!make_room(r, height, width, e)) return false;
    if (cJSON_IsObject(field)) return add_runs(field, height, width, r, e);
    if (!cJSON_IsArray(field)) return err_set(e, "neither run lengths nor polygons");
    if (!cJSON_IsObject(field->child)) return add_parts(field, height, width, r, e);
    cJSON_ArrayForEach(item, field) if (!add_runs(item, height, width, r, e)) return false;
    return true;
}

/* ---- PhraseCut -------------------------------------------------------------------------------------------- */
static bool add_phrasecut(const cJSON *polygon, size_t height, size_t width, segment_room *r, err *e) {
    const cJSON *corner;
    size_t n = 0;
    if (!cJSON_IsArray(polygon)) return err_set(e, "a polygon that is no list");
    cJSON_ArrayForEach(corner, polygon) {
        const cJSON *x = cJSON_GetArrayItem(corner, 0), *y = cJSON_GetArrayItem(corner, 1);
        if (!cJSON_IsNumber(x) || !cJSON_IsNumber(y)) return err_set(e, "a corner that is no number");
        if (!mem_grow(&r->xy, &r->xy_room, n + 2, sizeof *r->xy)) return err_set(e, "no memory for a polygon");
        r->xy[n++] = x->valuedouble, r->xy[n++] = y->valuedouble;
    }
    float *crossings = mem_alloc(n, sizeof *crossings); /* 2 for each corner, which has 2 numbers */
    if (!crossings) return err_set(e, "no memory for a polygon");
    bool ok = polygon_pillow(r->xy, n / 2, height, width, crossings, r->cover, e);
    mem_free(crossings);
    return ok;
}

bool segment_phrasecut(const cJSON *field, size_t height, size_t width, segment_room *r, err *e) {
    const cJSON *instance, *polygon;
    if (!make_room(r, height, width, e)) return false;
    if (!cJSON_IsArray(field)) return err_set(e, "Polygons are no list");
    cJSON_ArrayForEach(instance, field)
        cJSON_ArrayForEach(polygon, instance) if (!add_phrasecut(polygon, height, width, r, e)) return false;
    return true;
}
