/* eval_record.c - results.jsonl: the head's line, then a line a scene (see eval.h).
 *
 *   head    {"maskinv eval": 1, "model": ..., "set": ..., "weights": hash, "scenes_bytes": hash, "scenes": N, "shard":
 * i, "shards": n, "templates": [...], "names": [[drawn], [photographic]], "rows": [{...}], "maps": [{...}]} scene
 * {"scene": k, "kind": 0, "names": [a name's index for each object], "means": [an object for each phrase], "rows":
 * [...], "maps": [...]}, or {"scene": k, "broken": "why"} Numbers are written once, with what digits they keep here;
 * all tables come from these.
 */
#include "eval/eval.h"
#include "files/json.h"
#include "os/os.h"
#include <inttypes.h>
#include <string.h>

/* ---- bytes as text: two digits each ---------------------------------------------------------------------- */
static void say_hex(longtext *t, const unsigned char *bytes, size_t n) {
    say(t, "\"");
    for (size_t i = 0; i < n; i++) say(t, "%02x", bytes[i]);
    say(t, "\"");
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static bool read_hex(const char *text, unsigned char *bytes, size_t n) {
    if (strlen(text) != 2 * n) return false;
    for (size_t i = 0; i < n; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        bytes[i] = (unsigned char)(16 * high + low);
    }
    return true;
}

/* ---- the head, written --------------------------------------------------------------------------------------- */
static void say_rows(longtext *t, const char *key, const eval_row *rows, size_t count) {
    say(t, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        say(t, "%s{\"name\":", i ? "," : "");
        say_quoted(t, rows[i].name);
        say(t,
            ",\"method\":\"%s\",\"explainer\":\"%s\",\"quality\":\"%s\",\"side\":%zu,\"blocks\":%zu,\"layers\":%zu,"
            "\"iters\":%zu,",
            rows[i].method, rows[i].explainer, quality_names[rows[i].quality], rows[i].side, rows[i].blocks,
            rows[i].layers, rows[i].iters);
        say(t, "\"lr\":%.17g,\"alpha\":%.17g}", rows[i].lr, rows[i].alpha);
    }
    say(t, "]");
}

void head_write(const eval_head *h, longtext *t) {
    say(t, "{\"maskinv eval\":1,\"model\":");
    say_quoted(t, h->model);
    say(t, ",\"set\":");
    say_quoted(t, h->set);
    say(t,
        ",\"weights\":\"%016" PRIx64 "\",\"scenes_bytes\":\"%016" PRIx64
        "\",\"scenes\":%zu,\"shard\":%zu,\"shards\":%zu",
        h->weights, h->scenes_bytes, h->scenes, h->shard, h->shards);
    say(t, ",\"templates\":[");
    for (size_t i = 0; i < h->template_count; i++) {
        if (i) say(t, ",");
        say_quoted(t, h->templates[i]);
    }
    say(t, "],\"names\":[");
    for (size_t k = 0; k < EVAL_KINDS; k++) {
        say(t, k ? ",[" : "[");
        for (size_t i = 0; i < h->name_count[k]; i++) {
            if (i) say(t, ",");
            say_quoted(t, h->names[k][i]);
        }
        say(t, "]");
    }
    say(t, "]");
    say_rows(t, "rows", h->rows, h->row_count);
    say_rows(t, "maps", h->maps, h->map_count);
    say(t, "}\n");
}

/* ---- reading: lists ------------------------------------------------------------------------------------------------
 */
/* The list at key, of at most `most`. */
static bool list_at(const json_scope *s, const char *key, size_t most, const cJSON **list, size_t *count) {
    const cJSON *v = NULL;
    *list = NULL, *count = 0;
    if (!json_field(s, key, &v)) return false;
    if (!cJSON_IsArray(v) || (size_t)cJSON_GetArraySize(v) > most) return json_wrong(s, key, v, "a shorter list");
    *list = v;
    *count = (size_t)cJSON_GetArraySize(v);
    return true;
}

static bool text_at(const json_scope *s, const char *key, char *out, size_t room) {
    const char *text = NULL;
    if (!json_string(s, key, "", &text)) return false;
    if (strlen(text) >= room) return err_set(s->e, "%s: %s is too long", s->file, key);
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool copy_at(const json_scope *s, const char *key, char **out) {
    const char *text = NULL;
    if (!json_string(s, key, "", &text)) return false;
    *out = mem_text(text);
    return *out || err_set(s->e, "%s: no memory", s->file);
}

static bool hash_at(const json_scope *s, const char *key, uint64_t *out) {
    char text[32];
    if (!text_at(s, key, text, sizeof text)) return false;
    return sscanf(text, "%16" SCNx64, out) == 1 ? true : err_set(s->e, "%s: %s is no hash", s->file, key);
}

/* ---- the head, read
 * -------------------------------------------------------------------------------------------------- */
static bool read_row(const json_scope *s, eval_row *row) {
    char quality[16];
    if (!text_at(s, "name", row->name, sizeof row->name) || !text_at(s, "method", row->method, sizeof row->method) ||
        !text_at(s, "explainer", row->explainer, sizeof row->explainer) ||
        !text_at(s, "quality", quality, sizeof quality) || !json_size(s, "side", 1, 65536, JSON_REQUIRED, &row->side) ||
        !json_size(s, "blocks", 0, 1 << 20, JSON_REQUIRED, &row->blocks) ||
        !json_size(s, "layers", 0, 1 << 20, JSON_REQUIRED, &row->layers) ||
        !json_size(s, "iters", 0, 1 << 20, JSON_REQUIRED, &row->iters) || !json_number(s, "lr", 0, 1e6, 0, &row->lr) ||
        !json_number(s, "alpha", 0, 1e6, 0, &row->alpha))
        return false;
    for (size_t i = 0; i < QUALITIES; i++)
        if (!strcmp(quality, quality_names[i])) row->quality = (mask_quality)i;
    return true;
}

static bool read_rows(const json_scope *s, const char *key, eval_row **rows, size_t *count) {
    const cJSON *list, *item;
    size_t n, i = 0;
    if (!list_at(s, key, 4096, &list, &n)) return false;
    if (!(*rows = mem_alloc(n, sizeof **rows))) return err_set(s->e, "%s: no memory for %zu rows", s->file, n);
    cJSON_ArrayForEach(item, list) {
        json_scope inner = {.object = item, .file = s->file, .e = s->e};
        if (!cJSON_IsObject(item)) return json_wrong(s, key, item, "rows");
        if (!read_row(&inner, &(*rows)[i++])) return false;
    }
    *count = n;
    return true;
}

static bool read_names(const json_scope *s, eval_head *h) {
    const cJSON *kinds, *list, *item;
    size_t n, k = 0;
    if (!list_at(s, "names", EVAL_KINDS, &kinds, &n)) return false;
    cJSON_ArrayForEach(list, kinds) {
        size_t count = cJSON_IsArray(list) ? (size_t)cJSON_GetArraySize(list) : 0;
        if (!(h->names[k] = mem_alloc(count, sizeof *h->names[k])))
            return err_set(s->e, "%s: no memory for %zu names", s->file, count);
        cJSON_ArrayForEach(item, list) {
            if (!cJSON_IsString(item) || strlen(item->valuestring) >= EVAL_NAME)
                return json_wrong(s, "names", item, "names");
            memcpy(h->names[k][h->name_count[k]++], item->valuestring, strlen(item->valuestring) + 1);
        }
        k++;
    }
    return true;
}

static bool read_templates(const json_scope *s, eval_head *h) {
    const cJSON *list, *item;
    size_t n;
    if (!list_at(s, "templates", 1 << 20, &list, &n)) return false;
    if (!(h->templates = mem_alloc(n + 1, sizeof *h->templates)))
        return err_set(s->e, "%s: no memory for %zu templates", s->file, n);
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsString(item)) return json_wrong(s, "templates", item, "sentences");
        char *copy = mem_text(item->valuestring);
        if (!copy) return err_set(s->e, "%s: no memory for %zu templates", s->file, n);
        h->templates[h->template_count++] = copy;
    }
    return true;
}

bool head_parse(const char *line, size_t length, const char *file, eval_head *h, err *e) {
    size_t version = 0;
    memset(h, 0, sizeof *h);
    cJSON *j = json_parse(line, length, file, e);
    if (!j) return false;
    json_scope s = {.object = j, .file = file, .e = e};
    bool ok = cJSON_IsObject(j) || err_set(e, "%s: what `maskinv eval` wrote is expected", file);
    ok = ok && json_size(&s, "maskinv eval", 1, 1, JSON_REQUIRED, &version) && copy_at(&s, "model", &h->model) &&
         copy_at(&s, "set", &h->set) && hash_at(&s, "weights", &h->weights) &&
         hash_at(&s, "scenes_bytes", &h->scenes_bytes) &&
         json_size(&s, "scenes", 1, SIZE_MAX - 1, JSON_REQUIRED, &h->scenes) &&
         json_size(&s, "shards", 1, SIZE_MAX - 1, JSON_REQUIRED, &h->shards) &&
         json_size(&s, "shard", 0, h->shards - 1, JSON_REQUIRED, &h->shard) && read_templates(&s, h) &&
         read_names(&s, h) && read_rows(&s, "rows", &h->rows, &h->row_count) &&
         read_rows(&s, "maps", &h->maps, &h->map_count);
    json_free(j);
    if (!ok) eval_head_free(h);
    return ok;
}

/* ---- results, written
 * ---------------------------------------------------------------------------------------------------- */
#define SAY_LIST(t, key, count, ...)                                                                                   \
    do {                                                                                                               \
        say(t, ",\"%s\":[", key);                                                                                      \
        for (size_t i = 0; i < (count); i++) {                                                                         \
            if (i) say(t, ",");                                                                                        \
            say(t, __VA_ARGS__);                                                                                       \
        }                                                                                                              \
        say(t, "]");                                                                                                   \
    } while (0)

static void say_thumbs(longtext *t, const unsigned char thumbs[][THUMB * THUMB], size_t count) {
    say(t, ",\"thumbs\":[");
    for (size_t k = 0; k < count; k++) {
        if (k) say(t, ",");
        say_hex(t, thumbs[k], THUMB * THUMB);
    }
    say(t, "]");
}

static void say_row_result(longtext *t, const eval_result *r, const eval_row_result *w, bool inverts) {
    say(t, "{\"v\":1"); /* so that every list may begin with a comma */
    SAY_LIST(t, "rank", r->objects, "%" PRIu32, w->rank[i]);
    SAY_LIST(t, "top", r->objects * EVAL_TOP, "%" PRIu32, w->top[i / EVAL_TOP][i % EVAL_TOP]);
    SAY_LIST(t, "chosen", r->phrases, "%d", w->chosen[i]);
    SAY_LIST(t, "failed", r->objects, "%d", w->failed[i]);
    if (inverts) SAY_LIST(t, "loss", r->objects * 2, "%.7g", w->loss[i / 2][i % 2]);
    if (w->has_thumb) say_thumbs(t, w->thumb, r->objects);
    say(t, "}");
}

static void say_map_result(longtext *t, const eval_result *r, const eval_map_result *w) {
    say(t, "{\"v\":1");
    SAY_LIST(t, "hit", r->objects, "%d", w->hit[i]);
    SAY_LIST(t, "ap", r->objects, "%.7g", w->ap[i]);
    SAY_LIST(t, "iou", r->objects * THRESHOLDS, "%.5g", w->iou[i / THRESHOLDS][i % THRESHOLDS]);
    SAY_LIST(t, "shared", r->objects, "%" PRIu32, w->shared[i]);
    SAY_LIST(t, "joint", r->objects, "%" PRIu32, w->joint[i]);
    if (w->has_thumb) say_thumbs(t, w->thumb, r->objects);
    say(t, "}");
}

void result_write(const eval_head *h, const eval_result *r, longtext *t) {
    say(t, "{\"scene\":%zu", r->scene);
    if (r->broken) {
        say(t, ",\"broken\":");
        say_quoted(t, r->error);
        say(t, "}\n");
        return;
    }
    say(t, ",\"kind\":%d", (int)r->kind);
    SAY_LIST(t, "names", r->objects, "%" PRIu32, r->name[i]);
    SAY_LIST(t, "means", r->phrases, "%d", r->means[i]);
    say(t, ",\"rows\":[");
    for (size_t k = 0; k < h->row_count; k++) {
        if (k) say(t, ",");
        say_row_result(t, r, &r->rows[k], !strcmp(h->rows[k].method, "maskinv"));
    }
    say(t, "],\"maps\":[");
    for (size_t k = 0; k < h->map_count; k++) {
        if (k) say(t, ",");
        say_map_result(t, r, &r->maps[k]);
    }
    say(t, "]}\n");
}

/* ---- results, read
 * ------------------------------------------------------------------------------------------------------- */
bool eval_result_new(eval_result *r, const eval_head *h, err *e) {
    memset(r, 0, sizeof *r);
    r->rows = mem_alloc(h->row_count, sizeof *r->rows);
    r->maps = mem_alloc(h->map_count, sizeof *r->maps);
    if (r->rows && r->maps) return true;
    eval_result_free(r);
    return err_set(e, "no memory for a scene's results");
}

void eval_result_free(eval_result *r) {
    mem_free(r->rows);
    mem_free(r->maps);
    r->rows = NULL, r->maps = NULL;
}

/* Exactly `count` numbers 0..most. */
static bool numbers_at(const json_scope *s, const char *key, size_t count, double most, double *out) {
    const cJSON *list, *item;
    size_t n, i = 0;
    if (!list_at(s, key, count, &list, &n)) return false;
    if (n != count) return err_set(s->e, "%s: %s has %zu entries, %zu expected", s->file, key, n, count);
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= most))
            return json_wrong(s, key, item, "a number in its range");
        out[i++] = item->valuedouble;
    }
    return true;
}

enum {
    MOST_NUMBERS =
        SCENE_MOST_OBJECTS * THRESHOLDS > SCENE_MOST_REFERRING ? SCENE_MOST_OBJECTS *THRESHOLDS : SCENE_MOST_REFERRING
};

static bool thumbs_at(const json_scope *s, size_t count, bool *has, unsigned char thumbs[][THUMB * THUMB]) {
    const cJSON *v = NULL, *item;
    size_t i = 0;
    if (!json_field(s, "thumbs", &v)) return false;
    *has = v != NULL;
    if (!v) return true;
    if (!cJSON_IsArray(v) || (size_t)cJSON_GetArraySize(v) != count)
        return json_wrong(s, "thumbs", v, "one for each object");
    cJSON_ArrayForEach(item, v) if (!cJSON_IsString(item) ||
                                    !read_hex(item->valuestring, thumbs[i++],
                                              THUMB * THUMB)) return json_wrong(s, "thumbs", item, "bytes as digits");
    return true;
}

static bool read_row_result(const json_scope *s, const eval_result *r, size_t names, bool inverts, eval_row_result *w) {
    double v[MOST_NUMBERS];
    size_t n = r->objects;
    if (!numbers_at(s, "rank", n, (double)names, v)) return false;
    for (size_t i = 0; i < n; i++) w->rank[i] = (uint32_t)v[i];
    if (!numbers_at(s, "top", n * EVAL_TOP, (double)names, v)) return false;
    for (size_t i = 0; i < n * EVAL_TOP; i++) w->top[i / EVAL_TOP][i % EVAL_TOP] = (uint32_t)v[i];
    if (!numbers_at(s, "chosen", r->phrases, 255, v)) return false;
    for (size_t i = 0; i < r->phrases; i++) w->chosen[i] = (unsigned char)v[i];
    if (!numbers_at(s, "failed", n, 1, v)) return false;
    for (size_t i = 0; i < n; i++) w->failed[i] = v[i] > 0;
    if (inverts && !numbers_at(s, "loss", 2 * n, 1e30, v)) return false;
    for (size_t i = 0; inverts && i < 2 * n; i++) w->loss[i / 2][i % 2] = v[i];
    return thumbs_at(s, n, &w->has_thumb, w->thumb);
}

static bool read_map_result(const json_scope *s, const eval_result *r, eval_map_result *w) {
    double v[MOST_NUMBERS];
    size_t n = r->objects;
    if (!numbers_at(s, "hit", n, 1, v)) return false;
    for (size_t i = 0; i < n; i++) w->hit[i] = v[i] > 0;
    if (!numbers_at(s, "ap", n, 1, w->ap) || !numbers_at(s, "iou", n * THRESHOLDS, 1, v)) return false;
    for (size_t i = 0; i < n * THRESHOLDS; i++) w->iou[i / THRESHOLDS][i % THRESHOLDS] = v[i];
    if (!numbers_at(s, "shared", n, UINT32_MAX, v)) return false;
    for (size_t i = 0; i < n; i++) w->shared[i] = (uint32_t)v[i];
    if (!numbers_at(s, "joint", n, UINT32_MAX, v)) return false;
    for (size_t i = 0; i < n; i++) w->joint[i] = (uint32_t)v[i];
    return thumbs_at(s, n, &w->has_thumb, w->thumb);
}

static bool read_all(const json_scope *s, const eval_head *h, eval_result *r) {
    const cJSON *list, *item;
    size_t n, i = 0;
    if (!list_at(s, "rows", h->row_count, &list, &n)) return false;
    if (n != h->row_count) return err_set(s->e, "%s: %zu rows found, %zu expected", s->file, n, h->row_count);
    cJSON_ArrayForEach(item, list) {
        json_scope inner = {.object = item, .file = s->file, .e = s->e};
        bool inverts = !strcmp(h->rows[i].method, "maskinv");
        if (!cJSON_IsObject(item) || !read_row_result(&inner, r, h->name_count[r->kind], inverts, &r->rows[i++]))
            return false;
    }
    i = 0;
    if (!list_at(s, "maps", h->map_count, &list, &n)) return false;
    if (n != h->map_count) return err_set(s->e, "%s: %zu maps found, %zu expected", s->file, n, h->map_count);
    cJSON_ArrayForEach(item, list) {
        json_scope inner = {.object = item, .file = s->file, .e = s->e};
        if (!cJSON_IsObject(item) || !read_map_result(&inner, r, &r->maps[i++])) return false;
    }
    return true;
}

static bool read_result(const json_scope *s, const eval_head *h, eval_result *r) {
    double v[MOST_NUMBERS];
    size_t kind = 0;
    const char *broken = NULL;
    const cJSON *list;
    if (!json_size(s, "scene", 0, h->scenes - 1, JSON_REQUIRED, &r->scene) || !json_string(s, "broken", "", &broken))
        return false;
    r->broken = broken[0] != 0;
    r->objects = r->phrases = 0;
    snprintf(r->error, sizeof r->error, "%s", broken);
    if (r->broken) return true;
    if (!json_size(s, "kind", 0, EVAL_KINDS - 1, JSON_REQUIRED, &kind) ||
        !list_at(s, "names", SCENE_MOST_OBJECTS, &list, &r->objects) ||
        !list_at(s, "means", SCENE_MOST_REFERRING, &list, &r->phrases))
        return false;
    r->kind = (scene_kind)kind;
    if (!numbers_at(s, "names", r->objects, (double)h->name_count[kind] - 1, v)) return false;
    for (size_t i = 0; i < r->objects; i++) r->name[i] = (uint32_t)v[i];
    if (!numbers_at(s, "means", r->phrases, (double)r->objects - 1, v)) return false;
    for (size_t i = 0; i < r->phrases; i++) r->means[i] = (unsigned char)v[i];
    return read_all(s, h, r);
}

bool result_parse(const eval_head *h, const char *line, size_t length, const char *file, eval_result *r, err *e) {
    cJSON *j = json_parse(line, length, file, e);
    if (!j) return false;
    json_scope s = {.object = j, .file = file, .e = e};
    bool ok = cJSON_IsObject(j) ? read_result(&s, h, r) : err_set(e, "%s: a scene's results are expected", file);
    json_free(j);
    return ok;
}

/* ---- the file
 * ---------------------------------------------------------------------------------------------------------------- */
/* The next whole line, without its end; false at the end of the file, or where it is cut off. */
static bool next_line(results *r) {
    r->line.length = 0;
    for (int c; (c = getc(r->stream)) != EOF;) {
        if (c == '\n') {
            r->whole += r->line.length + 1;
            return true;
        }
        char byte = (char)c;
        say_bytes(&r->line, &byte, 1);
        if (r->line.failed) return false;
    }
    return false;
}

bool results_open(results *r, const char *folder, err *e) {
    memset(r, 0, sizeof *r);
    if ((size_t)snprintf(r->path, sizeof r->path, "%s/results.jsonl", folder) >= sizeof r->path)
        return err_set(e, "%.200s...: the path is too long", folder);
    if (!(r->stream = os_open(r->path, "rb"))) return err_set(e, "%s: cannot be read: %s", r->path, os_reason());
    bool ok = next_line(r) ? head_parse(r->line.text, r->line.length, r->path, &r->head, e)
                           : err_set(e, "%s: no head found, what `maskinv eval` wrote is expected", r->path);
    if (!ok) results_close(r);
    return ok;
}

bool results_next(results *r, eval_result *out, bool *end, err *e) {
    char where[4128];
    size_t expected = r->head.shard + r->count * r->head.shards;
    *end = !next_line(r);
    if (r->line.failed) return err_set(e, "%s: no memory for a line", r->path);
    if (ferror(r->stream)) return err_set(e, "%s: reading failed", r->path);
    if (*end) return true;
    snprintf(where, sizeof where, "%s:%zu", r->path, r->count + 2);
    if (!result_parse(&r->head, r->line.text, r->line.length, where, out, e)) return false;
    if (out->scene != expected) return err_set(e, "%s: scene %zu found, %zu expected", where, out->scene, expected);
    r->count++;
    return true;
}

void results_close(results *r) {
    if (r->stream) fclose(r->stream);
    mem_free(r->line.text);
    eval_head_free(&r->head);
    r->stream = NULL, r->line.text = NULL;
}
