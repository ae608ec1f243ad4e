/* dense.c - what the segmentation task compares: rows from the flags, names embedded (see dense.h). */
#include "eval/dense.h"
#include "os/os.h"
#include "text/templates.h"
#include <string.h>

static const char standard_methods[] = "similarity,maskclip,sclip,clearclip,gem,surgery,naclip,naclip+pamr,resclip,"
                                       "resclip-sclip,resclip-clearclip,scclip,cliptrase";

/* The i-th item between commas, into out; false: there is none. */
static bool item_of(const char *list, size_t i, char *out, size_t room) {
    for (; i; i--) {
        list += strcspn(list, ",");
        if (!*list) return false;
        list++;
    }
    size_t n = strcspn(list, ",");
    if (n >= room) n = room - 1;
    memcpy(out, list, n);
    out[n] = 0;
    return true;
}

static bool has_item(const char *list, const char *what) {
    char item[64];
    for (size_t i = 0; item_of(list, i, item, sizeof item); i++)
        if (!strcmp(item, what)) return true;
    return false;
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */
/* "resclip-sclip+pamr" -> method, base, PAMR. */
static const method *method_of(const char *item, method_base *base, bool *refine) {
    char name[64];
    snprintf(name, sizeof name, "%s", item);
    char *plus = strstr(name, "+pamr"), *minus;
    *refine = plus && !plus[5], *base = BASE_NACLIP;
    if (*refine) *plus = 0;
    if (!strncmp(name, "resclip-", 8) && (minus = strchr(name, '-'))) {
        if (!strcmp(minus, "-sclip")) *base = BASE_SCLIP;
        else if (!strcmp(minus, "-clearclip")) *base = BASE_CLEARCLIP;
        else return NULL;
        *minus = 0;
    }
    return method_find(name);
}

/* CLIPtrase has lists of its own, the others share theirs. */
static bool goes_with(const method *how, const segment_list *list) {
    return how->clusters == !strncmp(list->name, "cliptrase_", 10);
}

static bool list_for(survey *s, const segment_list *list, size_t templates, size_t *at, err *e) {
    struct dense *d = s->dense;
    for (*at = 0; *at < d->list_count; ++*at)
        if (d->lists[*at].classes.list == list && d->lists[*at].templates == templates) return true;
    if (d->list_count == DENSE_LISTS) return err_set(e, "--lists: more than %d", DENSE_LISTS);
    d->lists[d->list_count].templates = templates;
    return segment_classes_read(list->name, &d->lists[d->list_count++].classes, e);
}

static bool add_row(survey *s, const char *item, const segment_list *list, err *e) {
    struct dense *d = s->dense;
    method_base base;
    bool refine;
    const method *how = method_of(item, &base, &refine);
    if (d->row_count == DENSE_ROWS) return err_set(e, "--methods: more than %d rows", DENSE_ROWS);
    dense_row *r = &d->rows[d->row_count++];
    snprintf(r->name, sizeof r->name, "%.31s", item);
    r->s.model = s->model, r->s.settings = segment_defaults(s->model, how, list);
    r->s.settings.method.base = base;
    if (refine) r->s.settings.pamr = 10;
    size_t templates = s->head.template_count ? s->head.template_count : how->templates ? how->templates : 80;
    return list_for(s, list, templates, &r->list, e);
}

static bool check_methods(const char *methods, err *e) {
    char item[64];
    method_base base;
    bool refine;
    for (size_t i = 0; item_of(methods, i, item, sizeof item); i++) {
        const method *how = method_of(item, &base, &refine);
        if (!segment_knows(how) || (refine && how->clusters) || strlen(item) > 31)
            return err_set(e, "--methods: '%s' found, %s expected, +pamr behind any but cliptrase", item, standard_methods);
    }
    return true;
}

static bool make_rows(survey *s, const char *methods, const char *lists, err *e) {
    char item[64];
    for (size_t l = 0; l < segment_list_count(); l++) {
        const segment_list *list = segment_list_at(l);
        if (strcmp(list->data, s->set->name) != 0 || (lists && !has_item(lists, list->name))) continue;
        for (size_t i = 0; item_of(methods, i, item, sizeof item); i++) {
            method_base base;
            bool refine;
            if (goes_with(method_of(item, &base, &refine), list) && !add_row(s, item, list, e)) return false;
        }
    }
    if (s->dense->row_count) return true;
    longtext known = {0};
    for (size_t l = 0; l < segment_list_count(); l++)
        if (!strcmp(segment_list_at(l)->data, s->set->name)) say(&known, known.length ? ", %s" : "%s", segment_list_at(l)->name);
    if (known.length) err_set(e, "--lists: '%s' found, of %s expected: %s", lists ? lists : "", s->set->title, known.text);
    else err_set(e, "--task segmentation: %s has no label pictures of this task; voc2012, pascal_context, coco_stuff, cityscapes "
                    "and ade20k have", s->set->title);
    mem_free(known.text);
    return false;
}

/* ---- names -------------------------------------------------------------------------------------------------------- */
/* Names of all lists in so many templates, each once: lists of one dataset share most of theirs. */
typedef struct {
    const char **name;
    size_t count, templates;
    real *embedding; /* [count, E] */
} vocabulary;

static size_t place_in(const vocabulary *v, const char *name) {
    size_t i = 0;
    while (i < v->count && strcmp(v->name[i], name) != 0) i++;
    return i;
}

static bool embed_names(survey *s, vocabulary *v, arena *memory, pool *cores, err *e) {
    struct dense *d = s->dense;
    size_t all = 0, E = s->model->config.embed;
    for (size_t i = 0; i < d->list_count; i++) all += d->lists[i].classes.query_count;
    if (!(v->name = mem_alloc(all, sizeof *v->name))) return err_set(e, "no memory for %zu names", all);
    for (size_t i = 0; i < d->list_count; i++)
        for (size_t q = 0; d->lists[i].templates == v->templates && q < d->lists[i].classes.query_count; q++) {
            const char *name = d->lists[i].classes.queries[q];
            if (place_in(v, name) == v->count) v->name[v->count++] = name;
        }
    if (!survey_embed(s, v->name, v->count, s->head.template_count ? (const char *const *)s->head.templates : builtin_templates,
                      v->templates, memory, cores, &v->embedding, e))
        return false;
    for (size_t i = 0; i < d->list_count; i++) {
        dense_list *l = &d->lists[i];
        if (l->templates != v->templates) continue;
        if (!(l->queries = mem_alloc(l->classes.query_count, E * sizeof *l->queries))) return err_set(e, "no memory for %zu names", all);
        for (size_t q = 0; q < l->classes.query_count; q++)
            memcpy(l->queries + q * E, v->embedding + place_in(v, l->classes.queries[q]) * E, E * sizeof *l->queries);
    }
    return true;
}

static bool embed_lists(survey *s, arena *memory, pool *cores, err *e) {
    struct dense *d = s->dense;
    for (size_t i = 0; i < d->list_count; i++) {
        vocabulary v = {.templates = d->lists[i].templates};
        if (d->lists[i].queries) continue;
        bool ok = embed_names(s, &v, memory, cores, e);
        mem_free(v.name), mem_free(v.embedding);
        if (!ok) return false;
    }
    for (size_t i = 0; i < d->row_count; i++)
        d->rows[i].s.classes = &d->lists[d->rows[i].list].classes, d->rows[i].s.queries = d->lists[d->rows[i].list].queries;
    return true;
}

bool dense_open(survey *s, const char *methods, const char *lists, arena *memory, pool *cores, bool *usage, err *e) {
    if (!(s->dense = mem_alloc(1, sizeof *s->dense))) return err_set(e, "no memory for the rows");
    *usage = true;
    if (!methods) methods = standard_methods;
    if (!check_methods(methods, e) || !make_rows(s, methods, lists, e)) return false;
    *usage = false;
    return embed_lists(s, memory, cores, e);
}

void dense_free(survey *s) {
    for (size_t i = 0; s->dense && i < s->dense->list_count; i++) {
        segment_classes_free(&s->dense->lists[i].classes);
        mem_free(s->dense->lists[i].queries);
    }
    mem_free(s->dense);
    s->dense = NULL;
}

/* ---- the head of results.jsonl --------------------------------------------------------------------------------------- */
void dense_say_head(const survey *s, longtext *t) {
    say(t, ",\"task\":\"segmentation\",\"segmenters\":[");
    for (size_t i = 0; i < s->dense->row_count; i++) {
        const dense_row *r = &s->dense->rows[i];
        const segment_settings *o = &r->s.settings;
        say(t, "%s{\"name\":\"%s\",\"list\":\"%s\",\"classes\":%zu,\"names\":%zu,\"templates\":%zu,\"short\":%zu,\"window\":%zu,"
               "\"stride\":%zu,",
            i ? "," : "", r->name, r->s.classes->list->name, r->s.classes->count, r->s.classes->query_count,
            s->dense->lists[r->list].templates, o->shorter, o->window, o->window ? o->stride : 0);
        say(t, "\"scale\":%.9g,\"prob_thd\":%.9g,\"area_thd\":%.9g,\"pamr\":%zu,\"eps\":%.9g,\"least\":%zu,"
               "\"resclip\":[%.9g,%.9g,%.9g,%.9g,%.9g]}",
            o->scale, o->prob_thd, o->area_thd, o->pamr, o->eps, o->least, (double)o->method.tau_r, (double)o->method.lambda_r,
            (double)o->method.tau_s, (double)o->method.lambda_s, (double)o->method.temp_thd);
    }
    say(t, "]");
}

bool dense_is_result(const char *folder) {
    char path[4096];
    longtext head = {0};
    FILE *f = (size_t)snprintf(path, sizeof path, "%s/results.jsonl", folder) < sizeof path ? os_open(path, "rb") : NULL;
    for (int c; f && (c = getc(f)) != EOF && c != '\n';) say_bytes(&head, &(char){(char)c}, 1);
    bool is = head.text && !head.failed && strstr(head.text, ",\"task\":\"segmentation\",");
    if (f) fclose(f);
    mem_free(head.text);
    return is;
}
