/* anovl_texts.c - AnoVL's sentences and what becomes of them (see anovl.h; MODEL.md 11, eq. 11.2). */
#include "anomaly/anovl.h"
#include "models/texts.h"
#include <ctype.h>
#include <math.h>
#include <string.h>

static const char *const states[2][ANOVL_STATES] = {
    {"normal {}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage"},
    {"damaged {}", "abnormal {}", "imperfect {}", "blemished {}", "{} with flaw", "{} with defect", "{} with damage"},
};
/* # is what the picture is said to be, @ its article. */
enum { FRAMES = 22, KINDS = 3 };
static const char *const frames[FRAMES] = {
    "a cropped # of the {}", "a cropped # of a {}", "a close-up # of a {}", "a close-up # of the {}",
    "a bright # of a {}", "a bright # of the {}", "a dark # of the {}", "a dark # of a {}",
    "a jpeg corrupted # of a {}", "a jpeg corrupted # of the {}", "a blurry # of the {}", "a blurry # of a {}",
    "@ # of a {}", "@ # of the {}", "@ # of a small {}", "@ # of the small {}", "@ # of a large {}", "@ # of the large {}",
    "@ # of the {} for visual inspection", "@ # of a {} for visual inspection", "@ # of the {} for anomaly detection",
    "@ # of a {} for anomaly detection",
};
static const char *const things[KINDS] = {"industrial photo", "industrial image", "manufacturing image"};
static const char *const surfaces[KINDS] = {"industrial photo", "textural photo", "surface picture"};
static const char *const textures[] = {"carpet", "leather", "grid", "tile", "wood"};

static const char *const *kinds_of(const char *name) {
    for (size_t i = 0; i < sizeof textures / sizeof *textures; i++)
        if (!strcmp(name, textures[i])) return surfaces;
    return things;
}

static void put(char *out, size_t size, const char *text) {
    size_t n = strlen(out);
    snprintf(out + n, size - n, "%s", text);
}

/* The frame with its words put in. */
static void fill(const char *frame, const char *kind, const char *named, char *out, size_t size) {
    *out = 0;
    for (const char *p = frame; *p; p++) {
        char letter[2] = {*p, 0};
        if (*p == '@')
            put(out, size, strchr("aeiou", *kind) ? "an" : "a");
        else if (*p == '#')
            put(out, size, kind);
        else if (*p == '{')
            put(out, size, named), p++;
        else
            put(out, size, letter);
    }
}

void anovl_sentence(const char *name, size_t i, char *out, size_t size) {
    char named[256], spelt[200];
    size_t n = strlen(name), state = i / ANOVL_SENTENCES, k = i % ANOVL_SENTENCES;
    while (n && isdigit((unsigned char)name[n - 1]) && !strncmp(name, "macaroni", 8)) n--;
    snprintf(spelt, sizeof spelt, "%.*s", (int)(n < sizeof spelt ? n : sizeof spelt - 1), name);
    const char *how = states[state != 0][k / (FRAMES * KINDS)], *slot = strstr(how, "{}");
    snprintf(named, sizeof named, "%.*s%s%s", (int)(slot - how), how, spelt, slot + 2);
    size_t frame = k % (FRAMES * KINDS);
    fill(frames[frame % FRAMES], kinds_of(spelt)[frame / FRAMES], named, out, size);
}

bool anovl_texts_of(const real *raw, size_t count, size_t embed, anovl_texts *t, err *e) {
    *t = (anovl_texts){.pair = mem_alloc(2 * embed, sizeof(real)), .all = mem_alloc(count, embed * sizeof(real)), .count = count};
    if (!t->pair || !t->all) return err_set(e, "no memory for %zu texts", count);
    memcpy(t->all, raw, count * embed * sizeof(real));
    for (size_t s = 0; s < 2; s++) { /* (11.2): the mean of the raw ones */
        for (size_t k = 0; k < embed; k++) {
            double sum = 0;
            for (size_t i = 0; i < count / 2; i++) sum += (double)raw[(s * (count / 2) + i) * embed + k];
            t->pair[s * embed + k] = (real)(sum / (double)(count / 2));
        }
        if (!(unit(t->pair + s * embed, embed) > 0)) return err_set(e, "the texts' mean has no direction");
    }
    for (size_t i = 0; i < count; i++)
        if (!isfinite(unit(t->all + i * embed, embed))) return err_set(e, "text %zu: its embedding is not finite", i);
    return true;
}

bool anovl_texts_make(checkpoint *weights, const char *name, arena *memory, pool *cores, anovl_texts *t, err *e) {
    enum { COUNT = 2 * ANOVL_SENTENCES, LONGEST = 400 };
    size_t embed = checkpoint_model(weights)->config.embed;
    char *room = mem_alloc(COUNT, LONGEST);
    const char **texts = mem_alloc(COUNT, sizeof *texts);
    real *raw = mem_alloc(COUNT, embed * sizeof *raw);
    *t = (anovl_texts){0};
    bool ok = (room && texts && raw) || err_set(e, "no memory for the texts");
    for (size_t i = 0; ok && i < COUNT; i++) anovl_sentence(name, i, room + i * LONGEST, LONGEST), texts[i] = room + i * LONGEST;
    ok = ok && texts_embed_raw(weights, texts, COUNT, memory, cores, raw, e) && anovl_texts_of(raw, COUNT, embed, t, e);
    mem_free(room), mem_free(texts), mem_free(raw);
    return ok;
}

void anovl_texts_free(anovl_texts *t) {
    mem_free(t->pair), mem_free(t->all);
    *t = (anovl_texts){0};
}
