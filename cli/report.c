/* report.c - results as a table, as JSON, as npy (see report.h). */
#include "cli/report.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "files/json.h"
#include "files/longtext.h"
#include "models/identity.h"

/* ---- making ------------------------------------------------------------------------------------ */
void report_about(report *r, const cli *about, const char *image, size_t size, const text_list *texts) {
    report_time(r, "model");
    r->about = about;
    r->embed = about->model->config.embed;
    r->model = checkpoint_name(about->weights);
    r->image = image;
    r->size = size;
    r->texts = texts->item;
    r->text_count = texts->count;
}

void report_time(report *r, const char *what) {
    double now = seconds_now();
    if (r->time_count < REPORT_TIMES) {
        r->times[r->time_count].what = what;
        r->times[r->time_count++].seconds = now - r->last;
    }
    r->last = now;
}

/* ---- scores ------------------------------------------------------------------------------------- */
static void softmax(text_score *s, size_t n, double scale) {
    double top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) top = fmax(top, s[i].similarity);
    for (size_t i = 0; i < n; i++) sum += s[i].probability = exp(scale * (s[i].similarity - top));
    for (size_t i = 0; i < n; i++) s[i].probability /= sum;
}

void report_score(report *r, size_t i, const real *image_embedding, const real *text_units, double scale) {
    double image = sqrt(dot(image_embedding, image_embedding, r->embed));
    region_result *region = &r->regions[i];
    double length = sqrt(dot(region->embedding, region->embedding, r->embed));
    region->similarity = dot(region->embedding, image_embedding, r->embed) / (length * image);
    for (size_t t = 0; t < r->text_count; t++)
        region->texts[t].similarity = dot(region->embedding, text_units + t * r->embed, r->embed) / length;
    softmax(region->texts, r->text_count, scale);
}

void report_rank(const report *r, const region_result *region, size_t *order) {
    for (size_t i = 0; i < r->text_count; i++) {
        size_t k = i;
        for (; k && region->texts[order[k - 1]].similarity < region->texts[i].similarity; k--) order[k] = order[k - 1];
        order[k] = i;
    }
}

/* ---- table ---------------------------------------------------------------------------------------- */
enum { TABLE_TEXTS = 10 };

static void table_texts(const report *r, const region_result *region, FILE *out) {
    size_t *order = mem_alloc(r->text_count, sizeof *order);
    if (!order) return;
    report_rank(r, region, order);
    for (size_t i = 0; i < r->text_count && i < TABLE_TEXTS; i++) {
        const text_score *s = &region->texts[order[i]];
        if (r->text_count > 1) fprintf(out, "  %5.1f %%", 100 * s->probability);
        fprintf(out, "  %7.4f  %s\n", s->similarity, r->texts[order[i]]);
    }
    if (r->text_count > TABLE_TEXTS) fprintf(out, "  and %zu more\n", r->text_count - TABLE_TEXTS);
    mem_free(order);
}

void report_table(const report *r, FILE *out) {
    enum { NAME_COLUMNS = 9 }; /* 80 with what follows; longer names stand in a line of their own */
    size_t wide = 6;
    for (size_t i = 0; i < r->count; i++) wide = strlen(r->regions[i].name) > wide ? strlen(r->regions[i].name) : wide;
    bool own_line = wide > NAME_COLUMNS;
    for (size_t i = 0; i < r->count; i++) {
        const region_result *g = &r->regions[i];
        if (own_line) fprintf(out, "%s\n", g->name);
        fprintf(out, "%-*s  similarity to the image %7.4f", own_line ? 0 : (int)wide, own_line ? "" : g->name, g->similarity);
        if (g->loss_count)
            fprintf(out, "  loss %.4f -> %.4f in %zu steps", g->losses[0], g->losses[g->loss_count - 1], g->loss_count);
        fputc('\n', out);
        table_texts(r, g, out);
    }
}

/* ---- JSON: every call may fail for want of memory -------------------------------------------------- */
static bool add_text(cJSON *to, const char *text, const text_score *s) {
    return to && json_add_text(to, "text", text) && cJSON_AddNumberToObject(to, "similarity", s->similarity) &&
           cJSON_AddNumberToObject(to, "probability", s->probability);
}

/* A new object at the array's end; NULL when there is no memory. */
static cJSON *append(cJSON *array) {
    cJSON *item = array ? cJSON_CreateObject() : NULL;
    if (!item || cJSON_AddItemToArray(array, item)) return item;
    cJSON_Delete(item);
    return NULL;
}

/* 0.1 for the float 0.1, not its 17 digits. */
static double as_printed(real v) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)v);
    return strtod(text, NULL);
}

static bool add_real(cJSON *array, real v) {
    char text[32];
    snprintf(text, sizeof text, "%.*g", REAL_DIGITS, (double)v);
    cJSON *number = array ? cJSON_CreateRaw(text) : NULL;
    if (number && cJSON_AddItemToArray(array, number)) return true;
    cJSON_Delete(number);
    return false;
}

static bool add_embedding(cJSON *to, const real *v, size_t n) {
    cJSON *array = cJSON_AddArrayToObject(to, "embedding");
    for (size_t i = 0; array && i < n; i++)
        if (!add_real(array, v[i])) return false;
    return array != NULL;
}

static bool add_region(cJSON *to, const report *r, const region_result *g) {
    if (!to || !json_add_text(to, "name", g->name) || !json_add_text(to, "file", g->file)) return false;
    cJSON *losses = cJSON_AddArrayToObject(to, "loss");
    for (size_t i = 0; i < g->loss_count; i++) {
        cJSON *number = losses ? cJSON_CreateNumber(g->losses[i]) : NULL;
        if (!number || !cJSON_AddItemToArray(losses, number)) return cJSON_Delete(number), false;
    }
    if (!losses || !cJSON_AddNumberToObject(to, "similarity", g->similarity)) return false;
    cJSON *texts = cJSON_AddArrayToObject(to, "texts");
    for (size_t i = 0; texts && i < r->text_count; i++)
        if (!add_text(append(texts), r->texts[i], &g->texts[i])) return false;
    return texts && add_embedding(to, g->embedding, r->embed);
}

static bool add_invert(cJSON *to, const report *r) {
    const invert_options *o = r->invert;
    return !o || (cJSON_AddNumberToObject(to, "lr", as_printed(o->lr)) && cJSON_AddNumberToObject(to, "steps", (double)o->iters) &&
                  cJSON_AddNumberToObject(to, "alpha", as_printed(o->alpha)) &&
                  cJSON_AddNumberToObject(to, "decay", as_printed(o->decay)) &&
                  (r->layers ? cJSON_AddNumberToObject(to, "layers", (double)r->layers) : cJSON_AddNullToObject(to, "layers")) &&
                  (!r->layers || json_add_text(to, "layers_from", r->about->layers_from)) &&
                  json_add_text(to, "gradient", r->gradient) && json_add_text(to, "explainer", r->explainer));
}

/* All that the numbers come from: with it a run can be made again. */
static bool add_settings(cJSON *to, const report *r) {
    const cli *c = r->about;
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, model_hash(c->model));
    if (!json_add_text(to, "version", MASKINV_VERSION) || !json_add_text(to, "command", c->command_line) ||
        !json_add_text(to, "model", r->model) || !json_add_text(to, "model_hash", hash) ||
        !json_add_text(to, "family", model_family(&c->model->config)) || !json_add_text(to, "image", r->image) ||
        !json_add_text(to, "method", r->method) || !cJSON_AddNumberToObject(to, "size", (double)r->size) ||
        !json_add_text(to, "size_from", c->side_from) || !add_invert(to, r))
        return false;
    cJSON *templates = cJSON_AddArrayToObject(to, "templates");
    for (size_t i = 0; templates && i < c->template_count; i++) {
        cJSON *text = cJSON_CreateString(c->templates[i]);
        if (!text || !cJSON_AddItemToArray(templates, text)) return cJSON_Delete(text), false;
    }
    return templates != NULL;
}

static bool add_report(cJSON *to, const report *r) {
    cJSON *masks = cJSON_AddArrayToObject(to, "masks");
    for (size_t i = 0; masks && i < r->count; i++)
        if (!add_region(append(masks), r, &r->regions[i])) return false;
    if (!masks || !add_settings(to, r)) return false;
    cJSON *seconds = cJSON_AddObjectToObject(to, "seconds");
    double total = 0;
    for (size_t i = 0; seconds && i < r->time_count; i++) {
        total += r->times[i].seconds;
        if (!cJSON_AddNumberToObject(seconds, r->times[i].what, r->times[i].seconds)) return false;
    }
    return seconds && cJSON_AddNumberToObject(seconds, "total", total) &&
           cJSON_AddNumberToObject(to, "peak_bytes", (double)peak_bytes());
}

char *report_json(const report *r, err *e) {
    cJSON *root = cJSON_CreateObject();
    char *text = root && add_report(root, r) ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text) err_set(e, "no memory for the results as JSON");
    return text;
}

bool report_print(const report *r, bool json, err *e) {
    if (!json) cli_say_side(r->about, r->size), cli_say_layers(r->layers, r->about->layers_from);
    if (!json) return report_table(r, stdout), true;
    char *text = report_json(r, e);
    if (text) puts(text);
    mem_free(text);
    return text != NULL;
}

/* ---- files -------------------------------------------------------------------------------------------- */
static bool write_embeddings(const report *r, const char *path, err *e) {
    real *rows = mem_alloc(r->count, r->embed * sizeof *rows);
    if (!rows) return err_set(e, "%s: no memory for %zu embeddings", path, r->count);
    for (size_t i = 0; i < r->count; i++) memcpy(rows + i * r->embed, r->regions[i].embedding, r->embed * sizeof *rows);
    bool ok = npy_write(path, rows, (size_t[]){r->count, r->embed}, 2, e);
    mem_free(rows);
    return ok;
}

bool report_write(const report *r, const char *folder, err *e) {
    char path[4096];
    out_file f;
    if ((size_t)snprintf(path, sizeof path, "%s/embeddings.npy", folder) >= sizeof path)
        return err_set(e, "%s: the path is too long", folder);
    if (!write_embeddings(r, path, e)) return false;
    char *text = report_json(r, e);
    snprintf(path, sizeof path, "%s/result.json", folder);
    if (!text || !out_open(&f, path, e)) return mem_free(text), false;
    fprintf(f.stream, "%s\n", text);
    mem_free(text);
    return out_close(&f, e);
}
