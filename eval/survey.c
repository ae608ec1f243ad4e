/* survey.c - what is asked of a dataset: rows from the flags, classes from its tables, their texts (see survey.h). */
#include "eval/dense.h"
#include "models/texts.h"
#include "text/templates.h"
#include <inttypes.h>
#include <string.h>

/* ---- NAME:ROOT ---------------------------------------------------------------------------------------- */
static const data_set *set_of(const char *data, const char **root) {
    char name[64];
    size_t n = strcspn(data, ":");
    if (!data[n] || n >= sizeof name) return NULL;
    memcpy(name, data, n);
    name[n] = 0;
    *root = data + n + 1;
    return data_set_find(name);
}

bool survey_is_dataset(const char *data) {
    const char *root;
    return set_of(data, &root) != NULL;
}

/* ---- the classes, from a first look at the tables ------------------------------------------------------- */
static bool keep_classes(void *arg, const data_class *list, size_t count, err *e) {
    survey *s = arg;
    if (!(s->classes = mem_alloc(count, sizeof *s->classes))) return err_set(e, "no memory for %zu classes", count);
    for (size_t i = 0; i < count; i++, s->class_count++) {
        data_class *c = &s->classes[i];
        *c = (data_class){mem_text(list[i].id), mem_text(list[i].name), mem_text(list[i].text)};
        if (!c->id || !c->name || !c->text) return s->class_count++, err_set(e, "no memory for %zu classes", count);
    }
    return true;
}

static bool keep_split(void *arg, const data_picture *p, bool *wanted, err *e) {
    survey *s = arg;
    *wanted = false;
    if (!s->split) s->split = mem_text(p->split);
    s->zero_shot = s->zero_shot || (p->class_index >= 0 && strstr(s->set->name, "imagenet"));
    e->text[0] = 0; /* one picture is enough: the reading ends, without a message */
    return false;
}

static bool keep_region(void *arg, const data_region *r, err *e) { return (void)arg, (void)r, (void)e, true; }
static bool keep_left(void *arg, const char *id, const char *why, bool inside, err *e) {
    return (void)arg, (void)id, (void)why, (void)inside, (void)e, true;
}

static bool look(survey *s, const survey_wishes *w, err *e) {
    data_sink sink = {keep_classes, keep_split, keep_region, keep_left, s};
    data_wish wish = {.root = s->root, .split = w->split, .by = w->by};
    err why = {0};
    bool all = data_read(s->set, &wish, &sink, &why);
    if (!all && why.text[0]) return *e = why, false;
    if (!s->split)
        return err_set(e, "%s: no picture of split %s is there", s->root, w->split ? w->split : s->set->split);
    s->by = mem_text(w->by ? w->by : s->set->by ? s->set->by : "");
    return s->by || err_set(e, "no memory for the settings");
}

/* ---- texts ------------------------------------------------------------------------------------------------ */
enum { MANY_TEMPLATES = 80, MANY_CLASSES = 400 };
static bool embed_classes(survey *s, arena *memory, pool *cores, err *e) {
    static const char *const photo[] = {"a photo of a {}"}, *const empty[] = {""};
    const eval_head *h = &s->head;
    const char *const *one = h->template_count ? (const char *const *)h->templates : photo;
    size_t ones = h->template_count ? h->template_count : 1;
    const char **texts = mem_alloc(s->class_count, sizeof *texts);
    if (!texts) return err_set(e, "no memory for %zu classes", s->class_count);
    for (size_t i = 0; i < s->class_count; i++) texts[i] = s->classes[i].text;
    bool ok = texts_usual(s->weights, memory, cores, &s->usual, e) && survey_embed(s, empty, 1, one, ones, memory, cores, &s->empty, e);
    if (s->class_count) ok = ok && survey_embed(s, texts, s->class_count, one, ones, memory, cores, &s->names[0], e);
    if (s->class_count && s->class_count <= MANY_CLASSES)
        ok = ok && survey_embed(s, texts, s->class_count, builtin_templates, MANY_TEMPLATES, memory, cores, &s->names[1], e);
    mem_free(texts);
    return ok;
}

/* ---- open, close ------------------------------------------------------------------------------------------- */
bool survey_open(survey *s, const survey_wishes *w, const char *data, checkpoint *weights, arena *memory, pool *cores,
                 bool *usage, err *e) {
    memset(s, 0, sizeof *s);
    *usage = false;
    s->weights = weights, s->model = checkpoint_model(weights), s->watch = w->watch;
    if (!(s->set = set_of(data, &s->root))) return err_set(e, "--data: %s is no NAME:ROOT of a dataset", data);
    eval_wishes rows = w->compared;
    if (w->segmentation) rows.methods = "cls"; /* one row is what eval_head_rows asks for; the methods are dense_open's */
    if (!eval_head_rows(&s->head, &rows, data, weights, usage, e)) return false;
    s->limit = w->compared.limit;
    s->anomalies = w->anomalies, s->anovl = w->anovl;
    if (s->anomalies) s->head.row_count = 0; /* one row is what eval_head_rows asks for */
    if (w->segmentation) s->head.row_count = s->head.map_count = 0;
    if (w->segmentation) return look(s, w, e) && dense_open(s, w->compared.methods, w->lists, memory, cores, usage, e);
    return look(s, w, e) && (s->anomalies ? survey_anomaly_open(s, memory, cores, e) : embed_classes(s, memory, cores, e));
}

void survey_free(survey *s) {
    for (size_t i = 0; i < s->class_count; i++) {
        const data_class *c = &s->classes[i];
        mem_free((void *)(uintptr_t)c->id), mem_free((void *)(uintptr_t)c->name), mem_free((void *)(uintptr_t)c->text);
        if (s->states) anovl_texts_free(&s->states[i]);
    }
    mem_free(s->states);
    mem_free(s->classes), mem_free(s->names[0]), mem_free(s->names[1]), mem_free(s->empty), mem_free(s->usual);
    mem_free(s->split), mem_free(s->by);
    dense_free(s);
    eval_head_free(&s->head);
    memset(s, 0, sizeof *s);
}

static void say_rows(longtext *t, const char *key, const eval_row *rows, size_t count) {
    say(t, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        say(t, i ? ",{\"name\":" : "{\"name\":");
        say_quoted(t, rows[i].name);
        say(t,
            ",\"method\":\"%s\",\"explainer\":\"%s\",\"quality\":\"%s\",\"size\":%zu,\"blocks\":%zu,\"layers\":%zu,"
            "\"iters\":%zu,"
            "\"lr\":%.9g,\"alpha\":%.9g}",
            rows[i].method, rows[i].explainer, quality_names[rows[i].quality], rows[i].side, rows[i].blocks,
            rows[i].layers, rows[i].iters, rows[i].lr, rows[i].alpha);
    }
    say(t, "]");
}

void survey_head(const survey *s, longtext *t) {
    const clip_config *c = &s->model->config;
    say(t, "{\"maskinv survey\":1,\"model\":");
    say_quoted(t, s->head.model);
    say(t, ",\"weights\":\"%016" PRIx64 "\",\"width\":%zu,\"patch\":%zu,\"dataset\":\"%s\",\"title\":\"%s\",\"root\":",
        s->head.weights, c->vision.width, c->patch, s->set->name, s->set->title);
    say_quoted(t, s->root);
    say(t, ",\"split\":");
    say_quoted(t, s->split);
    say(t, ",\"by\":");
    say_quoted(t, s->by);
    say(t, ",\"limit\":%zu,\"shard\":%zu,\"shards\":%zu,\"many\":%s,\"templates\":[", s->limit, s->head.shard,
        s->head.shards, s->names[1] ? "true" : "false");
    for (size_t i = 0; i < s->head.template_count; i++) {
        if (i) say(t, ",");
        say_quoted(t, s->head.templates[i]);
    }
    say(t, "],\"classes\":[");
    for (size_t i = 0; i < s->class_count; i++) {
        if (i) say(t, ",");
        say_quoted(t, s->classes[i].text);
    }
    say(t, "]");
    if (s->dense) dense_say_head(s, t);
    if (s->anomalies)
        say(t, ",\"task\":\"anomaly\",\"size\":%zu,\"steps\":%zu,\"seed\":%" PRIu64 ",\"views\":%d,\"tiles\":%d", s->anovl.side,
            s->anovl.steps, s->anovl.seed, s->anovl.views ? ANOVL_VIEWS : 1, s->anovl.tiled ? 2 : 1);
    say_rows(t, "rows", s->head.rows, s->head.row_count);
    say_rows(t, "maps", s->head.maps, s->head.map_count);
    say(t, "}\n");
}
