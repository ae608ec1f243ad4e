/* texts.c - texts to embeddings: templates, tokens, the text tower (see texts.h). */
#include "models/texts.h"
#include "text/templates.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- vectors ----------------------------------------------------------------------------------- */
real unit(real *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)v[i] * (double)v[i];
    double length = sqrt(sum);
    for (size_t i = 0; i < n; i++) v[i] = (real)((double)v[i] / length);
    return (real)length;
}

double dot(const real *a, const real *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* ---- templates ---------------------------------------------------------------------------------- */
bool template_check(const char *text, err *e) {
    const char *slot = strstr(text, "{}");
    if (slot && !strstr(slot + 2, "{}")) return true;
    return err_set(e, "template '%s': %s {} where the text goes", text,
                   slot ? "found more than one, expected one" : "has no");
}

/* Cuts text into its lines in place; counts them, and keeps them where lines is given. */
static size_t cut_lines(char *text, const char **lines) {
    size_t count = 0;
    for (char *line = text; *line;) {
        size_t n = strcspn(line, "\r\n");
        char *next = line + n + strspn(line + n, "\r\n");
        if (lines) line[n] = 0;
        if (n && lines) lines[count] = line;
        if (n) count++;
        line = next;
    }
    return count;
}

static bool copy_builtin(const char ***lines, size_t *count, err *e) {
    if (!(*lines = mem_alloc(BUILTIN_TEMPLATES, sizeof **lines))) return err_set(e, "no memory for the templates");
    memcpy(*lines, builtin_templates, sizeof builtin_templates);
    *count = BUILTIN_TEMPLATES;
    return true;
}

bool templates_read(const char *path, const char ***lines, size_t *count, err *e) {
    size_t length;
    if (!strcmp(path, "builtin")) return copy_builtin(lines, count, e);
    char *text = file_read(path, 1 << 20, &length, e);
    if (!text) return false;
    if (length >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) { /* a byte-order mark is no part of the first template */
        memmove(text, text + 3, length - 2);
        length -= 3;
    }
    if (strlen(text) != length) {
        mem_free(text);
        return err_set(e, "%s: a zero byte found, lines of text expected", path);
    }
    *count = cut_lines(text, NULL);
    *lines = *count ? mem_alloc(1, *count * sizeof **lines + length + 1) : NULL;
    if (!*lines) {
        mem_free(text);
        return err_set(e, *count ? "%s: no memory for the templates" : "%s: no templates found", path);
    }
    char *copy = (char *)(*lines + *count);
    memcpy(copy, text, length + 1);
    mem_free(text);
    (void)cut_lines(copy, *lines);
    for (size_t i = 0; i < *count; i++) {
        if (template_check((*lines)[i], e)) continue;
        mem_free(*lines);
        *lines = NULL;
        return err_prefix(e, "%s", path);
    }
    return true;
}

/* ---- embeddings ----------------------------------------------------------------------------------- */
/* alike: a row's bytes do not depend on the others. */
static bool ids_embed_as(const clip_model *m, const uint32_t *ids, size_t count, size_t length, bool alike, arena *memory,
                         pool *cores, real *out, err *e) {
    ag_tape t;
    size_t mark = arena_mark(memory);
    ag_tensor *z = NULL;
    memset(&t, 0, sizeof t);
    if (ag_tape_init(&t, memory, cores, 64)) {
        t.recording = false;
        t.alike = alike;
        z = clip_text(&t, m, ids, count, length);
    }
    if (z) memcpy(out, z->data, count * m->config.embed * sizeof *out);
    arena_reset(memory, mark);
    return z ? true : err_fault(e, &t.fault);
}

bool ids_embed(const clip_model *m, const uint32_t *ids, size_t count, size_t length, arena *memory, pool *cores,
               real *out, err *e) {
    return ids_embed_as(m, ids, count, length, true, memory, cores, out, e);
}

/* Sentences go through the tower GROUP together, of one length each time: its weights are read once for all, and nothing is
 * padded. PART of them are sorted by length together. */
enum { GROUP = 64, PART = 4096 };

typedef struct {
    checkpoint *weights;
    const tokenizer *tokens;
    const char *const *texts;
    size_t text_count;
    const char *const *templates;
    size_t template_count;
    size_t part;                 /* sentences at a time, at most PART */
    uint32_t *ids;               /* [part, context] */
    uint32_t *packed;            /* [GROUP, context] those of one group */
    size_t *length;              /* [part] */
    struct place { size_t length, at; } *order; /* [part] by length */
    real *rows, *group;         /* [part, E], [GROUP, E] */
    bool raw;                    /* whatever the numbers are */
    char *sentence;
    size_t room;
} speech;

/* Ids of sentence i: text i / templates in template i % templates. */
static bool sentence_ids(speech *s, size_t i, uint32_t *ids, size_t context, size_t *n, err *e) {
    const char *text = s->texts[i / s->template_count];
    if (!s->templates) return tokenizer_encode(s->tokens, text, ids, context, n, e);
    const char *template = s->templates[i % s->template_count], *slot = strstr(template, "{}");
    snprintf(s->sentence, s->room, "%.*s%s%s", (int)(slot - template), template, text, slot + 2);
    return tokenizer_encode(s->tokens, s->sentence, ids, context, n, e);
}

static int by_length(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The sentences at order[first..], all of one length, as many as a group holds: *taken. */
static bool group_embed(speech *s, size_t first, size_t count, size_t *taken, arena *memory, pool *cores, err *e) {
    const clip_model *m = checkpoint_model(s->weights);
    size_t context = m->config.context, E = m->config.embed, n = s->order[first].length;
    for (*taken = 0; *taken < GROUP && first + *taken < count && s->order[first + *taken].length == n; ++*taken)
        memcpy(s->packed + *taken * n, s->ids + s->order[first + *taken].at * context, n * sizeof *s->packed);
    if (!ids_embed_as(m, s->packed, *taken, n, s->raw, memory, cores, s->group, e)) return false;
    for (size_t i = 0; i < *taken; i++)
        memcpy(s->rows + s->order[first + i].at * E, s->group + i * E, E * sizeof *s->rows);
    return true;
}

static bool all_finite(const real *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

/* Sentences first..first+count-1 into s->rows, as the model gives them. */
static bool part_embed(speech *s, size_t first, size_t count, arena *memory, pool *cores, err *e) {
    size_t context = checkpoint_model(s->weights)->config.context, E = checkpoint_model(s->weights)->config.embed;
    for (size_t i = 0; i < count; i++) {
        if (!sentence_ids(s, first + i, s->ids + i * context, context, &s->length[i], e)) return false;
        s->order[i] = (struct place){s->length[i], i};
    }
    qsort(s->order, count, sizeof *s->order, by_length);
    for (size_t i = 0, taken; i < count; i += taken)
        if (!group_embed(s, i, count, &taken, memory, cores, e)) return false;
    for (size_t i = 0; i < count; i++)
        if (!s->raw && !all_finite(s->rows + i * E, E))
            return err_set(e, "text '%s': its embedding is not finite", s->texts[(first + i) / s->template_count]);
    return true;
}

static bool speech_open(speech *s, arena *memory, err *e) {
    const clip_config *config = &checkpoint_model(s->weights)->config;
    size_t longest = 0;
    for (size_t i = 0; i < s->text_count; i++) {
        size_t n = strlen(s->texts[i]);
        if (n > longest) longest = n;
    }
    s->room = longest + 1;
    for (size_t i = 0; s->templates && i < s->template_count; i++) {
        if (!template_check(s->templates[i], e)) return false;
        size_t n = strlen(s->templates[i]) + longest + 1;
        if (n > s->room) s->room = n;
    }
    if (!(s->tokens = checkpoint_tokenizer(s->weights, e)) || !checkpoint_check_side(s->weights, CHECK_TEXT, e)) return false;
    s->part = s->text_count < PART / s->template_count ? s->text_count * s->template_count : PART;
    s->ids = arena_alloc(memory, s->part * config->context, sizeof *s->ids);
    s->packed = arena_alloc(memory, GROUP * config->context, sizeof *s->packed);
    s->length = arena_alloc(memory, s->part, sizeof *s->length);
    s->order = arena_alloc(memory, s->part, sizeof *s->order);
    s->rows = arena_alloc(memory, s->part * config->embed, sizeof *s->rows);
    s->group = arena_alloc(memory, GROUP * config->embed, sizeof *s->group);
    s->sentence = arena_alloc(memory, s->room, 1);
    if (s->ids && s->packed && s->length && s->order && s->rows && s->group && s->sentence) return true;
    return err_set(e, "--memory: %zu bytes are too little for the texts", memory->size);
}

bool texts_embed_raw(checkpoint *weights, const char *const *texts, size_t count, arena *memory, pool *cores, real *out,
                     err *e) {
    speech s = {.weights = weights, .texts = texts, .text_count = count, .template_count = 1, .raw = true};
    size_t mark = arena_mark(memory), embed = checkpoint_model(weights)->config.embed;
    bool ok = speech_open(&s, memory, e);
    for (size_t i = 0, n; ok && i < count; i += n) {
        n = count - i < s.part ? count - i : s.part;
        ok = part_embed(&s, i, n, memory, cores, e);
        if (ok) memcpy(out + i * embed, s.rows, n * embed * sizeof *out);
    }
    arena_reset(memory, mark);
    return ok;
}

bool texts_embed(checkpoint *weights, const char *const *texts, size_t count, const char *const *templates,
                 size_t template_count, arena *memory, pool *cores, real *out, err *e) {
    speech s = {.weights = weights, .texts = texts, .text_count = count};
    size_t mark = arena_mark(memory), embed = checkpoint_model(weights)->config.embed;
    s.templates = template_count ? templates : NULL;
    s.template_count = template_count ? template_count : 1;
    bool ok = speech_open(&s, memory, e);
    memset(out, 0, count * embed * sizeof *out);
    for (size_t i = 0, n; ok && i < count * s.template_count; i += n) {
        n = count * s.template_count - i < s.part ? count * s.template_count - i : s.part;
        ok = part_embed(&s, i, n, memory, cores, e);
        for (size_t k = 0; ok && k < n; k++) {
            (void)unit(s.rows + k * embed, embed);
            for (size_t d = 0; d < embed; d++) out[(i + k) / s.template_count * embed + d] += s.rows[k * embed + d];
        }
    }
    for (size_t i = 0; ok && i < count; i++) (void)unit(out + i * embed, embed);
    arena_reset(memory, mark);
    return ok;
}

bool texts_usual(checkpoint *weights, arena *memory, pool *cores, real **out, err *e) {
    static const char *const usual[] = {"a photo of a"};
    const clip_config *m = &checkpoint_model(weights)->config;
    *out = NULL;
    if (!clip_is_siglip(m) || !checkpoint_tokenizer(weights, e)) return true;
    if (!(*out = mem_alloc(m->embed, sizeof **out))) return err_set(e, "no memory for the text \"%s\"", usual[0]);
    if (texts_embed(weights, usual, 1, NULL, 0, memory, cores, *out, e)) return true;
    mem_free(*out);
    *out = NULL;
    return false;
}
