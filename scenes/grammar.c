/* grammar.c - captions and referring phrases (see grammar.h). */
#include "scenes/grammar.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- measures ------------------------------------------------------------------------------------ */
void grammar_measure(scene_object *o, size_t side) {
    float w = o->box[2] - o->box[0], h = o->box[3] - o->box[1], s = (float)side;
    float longer = (w > h ? w : h) / s, x = 0.5f * (o->box[0] + o->box[2]) / s, y = 0.5f * (o->box[1] + o->box[3]) / s;
    strcpy(o->size, longer < 0.30f ? "small" : longer > 0.55f ? "large" : "");
    const char *row = y < 0.38f ? "top" : y > 0.62f ? "bottom" : "", *column = x < 0.38f ? "left" : x > 0.62f ? "right" : "";
    snprintf(o->place, sizeof o->place, "%s%s%s", row, *row && *column ? " " : "", column);
    if (o->place[0] == 0) strcpy(o->place, "middle");
}

/* ---- words ---------------------------------------------------------------------------------------- */
typedef struct { char *text; size_t room, length; } sentence;

/* Cut short rather than overrun; the longest sentences stay well inside their room. */
static void say(sentence *s, const char *words) {
    size_t n = strlen(words), left = s->room - 1 - s->length;
    if (n > left) n = left;
    memcpy(s->text + s->length, words, n);
    s->length += n;
    s->text[s->length] = 0;
}
static void say_word(sentence *s, const char *word) {
    if (word[0] == 0) return;
    if (s->length > 0) say(s, " ");
    say(s, word);
}

static bool plural(const char *name) {
    size_t n = strlen(name);
    return n > 2 && name[n - 1] == 's' && strchr("sui", name[n - 2]) == NULL;
}
const char *grammar_article(const char *words, const char *name) {
    if (plural(name)) return "some";
    /* By sound: a uniform, a ukulele; an hour is not among the names. */
    if (strncmp(words, "uni", 3) == 0 || strncmp(words, "uk", 2) == 0) return "a";
    return strchr("aeiou", words[0]) != NULL ? "an" : "a";
}
void grammar_where(const char *place, char out[40]) {
    const char *before = strcmp(place, "middle") == 0                                  ? "in the "
                         : strcmp(place, "left") == 0 || strcmp(place, "right") == 0 ? "on the "
                                                                                      : "at the ";
    snprintf(out, 40, "%s%s", before, place);
}

static bool textured(const scene_object *o) { return o->texture[0] != 0 && strcmp(o->texture, "plain") != 0; }

/* [size] [texture] [colour] name */
static void describe(const scene_object *o, int what, char out[PHRASE_ROOM]) {
    sentence s = {out, PHRASE_ROOM, 0};
    out[0] = 0;
    if (what & SAY_SIZE) say_word(&s, o->size);
    if ((what & SAY_TEXTURE) && textured(o)) say_word(&s, o->texture);
    if (what & SAY_COLOUR) say_word(&s, o->colour);
    say_word(&s, o->name);
}
static void say_noun(sentence *s, const scene_object *o, int what) {
    char words[PHRASE_ROOM];
    describe(o, what, words);
    say_word(s, grammar_article(words, o->name));
    say_word(s, words);
}

/* ---- what fits -------------------------------------------------------------------------------------- */
/* Do the two places have a word in common? */
static bool near_places(const char *a, const char *b) {
    static const char *const words[] = {"left", "right", "top", "bottom", "middle"};
    for (size_t i = 0; i < 5; i++)
        if (strstr(a, words[i]) != NULL && strstr(b, words[i]) != NULL) return true;
    return false;
}
/* Could what is said of a be meant of b? */
static bool fits(const scene_object *a, const scene_object *b, int what) {
    return strcmp(a->name, b->name) == 0 && (!(what & SAY_COLOUR) || strcmp(a->colour, b->colour) == 0) &&
           (!(what & SAY_TEXTURE) || strcmp(a->texture, b->texture) == 0) &&
           (!(what & SAY_SIZE) || strcmp(a->size, b->size) == 0) &&
           (!(what & SAY_PLACE) || near_places(a->place, b->place));
}

/* ---- captions ---------------------------------------------------------------------------------- */
/* A caption on its way: the sentence, what it claims, and the scene in the order in which it is told. */
typedef struct {
    sentence s;
    const scene *sc;
    size_t order[SCENE_MOST_OBJECTS], n;
    rng *r;
    scene_claim claim;
} telling;

/* Of what was chosen, that which is so of this object. */
static int worded(const scene_object *o, int what) {
    if (o->colour[0] == 0) what &= ~SAY_COLOUR;
    if (!textured(o)) what &= ~SAY_TEXTURE;
    if (o->size[0] == 0) what &= ~SAY_SIZE;
    return what;
}
/* Mostly nothing: a caption that names colours can be told from the others without a look at the shape. */
static int choose_words(const telling *t) {
    bool alone = t->sc->count == 1;
    int what = rng_chance(t->r, alone ? 0.25f : 0.2f) ? SAY_COLOUR : 0;
    if (rng_chance(t->r, alone ? 0.12f : 0.08f) && (t->sc->count < 3 || what == 0)) what |= SAY_TEXTURE;
    if (rng_chance(t->r, alone ? 0.08f : 0.06f) && (t->sc->count < 3 || what == 0)) what |= SAY_SIZE;
    return what;
}
static void tell(telling *t, size_t i, int what) {
    const scene_object *o = &t->sc->object[t->order[i]];
    what = worded(o, what);
    say_noun(&t->s, o, what);
    t->claim.of[t->claim.count].object = (unsigned char)t->order[i];
    t->claim.of[t->claim.count++].what = (unsigned char)what;
}
static void tell_and(telling *t, size_t i) {
    if (i > 0) say(&t->s, i + 1 < t->n ? "," : " and");
}
static const char *prefix(telling *t) {
    bool drawn = t->sc->object[0].texture[0] != 0;
    switch (rng_below(t->r, 8)) {
    case 0: case 1: case 2: return "a photo of";
    case 3: return "a picture of";
    case 4: t->claim.drawing = drawn; return drawn ? "a drawing of" : "an image of";
    case 5: return "there is";
    default: return "";
    }
}
/* What lies between two objects, seen from the first; "and" where no direction is clear. */
static const char *relation(const scene_object *a, const scene_object *b, float side) {
    float dx = (b->box[0] + b->box[2] - a->box[0] - a->box[2]) / (2 * side);
    float dy = (b->box[1] + b->box[3] - a->box[1] - a->box[3]) / (2 * side);
    bool across = fabsf(dx) > fabsf(dy);
    if (fabsf(across ? dx : dy) < 0.15f) return "and";
    return across ? (dx > 0 ? "left of" : "right of") : dy > 0 ? "above" : "below";
}
static void tell_list(telling *t) {
    for (size_t i = 0; i < t->n; i++) tell_and(t, i), tell(t, i, choose_words(t));
}
static void tell_places(telling *t) {
    char where[40];
    t->claim.more = true;
    for (size_t i = 0; i < t->n; i++) {
        tell_and(t, i);
        tell(t, i, t->n > 1 ? 0 : choose_words(t));
        grammar_where(t->sc->object[t->order[i]].place, where);
        say_word(&t->s, where);
    }
}
static void tell_relation(telling *t) {
    const scene_object *o = t->sc->object;
    t->claim.more = true;
    tell(t, 0, choose_words(t));
    say_word(&t->s, relation(&o[t->order[0]], &o[t->order[1]], (float)t->sc->side));
    tell(t, 1, choose_words(t));
    for (size_t i = 2; i < t->n; i++) tell_and(t, i), tell(t, i, 0);
}

void grammar_caption(const scene *sc, rng *r, char *out, size_t room, scene_claim *claim) {
    telling t = {.s = {out, room, 0}, .sc = sc, .n = sc->count, .r = r};
    out[0] = 0;
    for (size_t i = 0; i < t.n; i++) t.order[i] = i;
    for (size_t i = t.n; i > 1; i--) {
        size_t j = rng_below(r, i), keep = t.order[j];
        t.order[j] = t.order[i - 1], t.order[i - 1] = keep;
    }
    /* every second time, not all are mentioned, and then mostly one: its name has to be found among the others */
    if (t.n > 1 && rng_chance(r, 0.5f)) t.n = rng_chance(r, 0.7f) ? 1 : 1 + rng_below(r, t.n - 1);
    if (rng_chance(r, 0.8f)) say_word(&t.s, prefix(&t));
    float style = rng_unit(r);
    if (t.n > 1 && style < 0.2f) tell_relation(&t);
    else if (t.n < 4 && style > 0.9f) tell_places(&t);
    else tell_list(&t);
    if (claim != NULL) *claim = t.claim;
}

void grammar_one(const scene *sc, size_t k, rng *r, char *out, size_t room, scene_claim *claim) {
    telling t = {.s = {out, room, 0}, .sc = sc, .order = {k}, .n = 1, .r = r};
    out[0] = 0;
    if (rng_chance(r, 0.8f)) say_word(&t.s, prefix(&t));
    tell_list(&t);
    *claim = t.claim;
}

bool grammar_true(const scene_claim *claim, const scene_object *a, const scene_object *b, size_t count) {
    unsigned met = 0; /* objects of b that something was already said of */
    if (claim->more || (claim->drawing && b[0].texture[0] == 0)) return false;
    for (size_t i = 0; i < claim->count; i++) {
        size_t k = 0;
        while (k < count && (met >> k & 1 || !fits(&a[claim->of[i].object], &b[k], claim->of[i].what))) k++;
        if (k == count) return false;
        met |= 1u << k;
    }
    return true;
}

/* ---- plain lists, there and back ---------------------------------------------------------------------- */
void grammar_list(const scene_object *o, const size_t *order, size_t count, int what, char *out, size_t room) {
    sentence s = {out, room, 0};
    out[0] = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) say(&s, " and");
        say_noun(&s, &o[order[i]], worded(&o[order[i]], what));
    }
}

/* Is the word at text, n long, one of the list? */
static bool among(const char *const *list, const char *text, size_t n) {
    for (; *list; list++)
        if (strlen(*list) == n && strncmp(*list, text, n) == 0) return true;
    return false;
}
static void keep_word(char *out, size_t room, const char *text, size_t n) { snprintf(out, room, "%.*s", (int)n, text); }

bool grammar_first(const char *text, scene_object *out) {
    static const char *const articles[] = {"a", "an", "some", "the", NULL}, *const sizes[] = {"small", "large", NULL},
                             *const textures[] = {"striped", "dotted", "checked", NULL},
                             *const colours[] = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "brown",
                                                 "black", "white", "grey", NULL};
    sentence name = {out->name, sizeof out->name, 0};
    memset(out, 0, sizeof *out);
    while (*text == ' ') text++;
    for (size_t n; (n = strcspn(text, " ,")) > 0; text += n + (text[n] == ' ')) {
        if (n == 3 && strncmp(text, "and", 3) == 0) break;
        bool begun = name.length > 0;
        if (!begun && among(articles, text, n)) continue;
        if (!begun && among(sizes, text, n)) keep_word(out->size, sizeof out->size, text, n);
        else if (!begun && among(textures, text, n)) keep_word(out->texture, sizeof out->texture, text, n);
        else if (!begun && among(colours, text, n)) keep_word(out->colour, sizeof out->colour, text, n);
        else {
            char word[48];
            keep_word(word, sizeof word, text, n);
            say_word(&name, word);
        }
        if (text[n] == ',') break;
    }
    return out->name[0] != 0;
}

/* ---- referring phrases ---------------------------------------------------------------------------- */
/* The one farthest to a side among those of its name; NULL when it is not. */
static const char *extreme(const scene *sc, size_t k) {
    bool left = true, right = true, top = true, bottom = true;
    const scene_object *o = &sc->object[k];
    for (size_t j = 0; j < sc->count; j++) {
        const scene_object *p = &sc->object[j];
        if (j == k || strcmp(o->name, p->name) != 0) continue;
        float dx = p->box[0] + p->box[2] - o->box[0] - o->box[2], dy = p->box[1] + p->box[3] - o->box[1] - o->box[3];
        left &= dx > 0, right &= dx < 0, top &= dy > 0, bottom &= dy < 0;
    }
    return left ? "leftmost" : right ? "rightmost" : top ? "topmost" : bottom ? "lowest" : NULL;
}

size_t grammar_phrases(const scene *sc, size_t k, char out[MOST_PHRASES][PHRASE_ROOM]) {
    static const int ways[] = {0, SAY_COLOUR, SAY_TEXTURE, SAY_SIZE, SAY_PLACE, SAY_TEXTURE | SAY_COLOUR,
                               SAY_SIZE | SAY_COLOUR, SAY_COLOUR | SAY_PLACE, SAY_SIZE | SAY_TEXTURE | SAY_COLOUR};
    const scene_object *o = &sc->object[k];
    size_t n = 0;
    char words[PHRASE_ROOM], where[40];
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool alone = worded(o, ways[i]) == ways[i];
        for (size_t j = 0; j < sc->count; j++) alone = alone && (j == k || !fits(o, &sc->object[j], ways[i]));
        if (!alone) continue;
        describe(o, ways[i], words);
        grammar_where(o->place, where);
        snprintf(out[n++], PHRASE_ROOM, "the %.100s%s%s", words, ways[i] & SAY_PLACE ? " " : "",
                 ways[i] & SAY_PLACE ? where : "");
    }
    if (n == 0) {
        const char *most = extreme(sc, k);
        snprintf(out[n++], PHRASE_ROOM, "the %s %s", most != NULL ? most : o->place, o->name);
    }
    return n;
}
