/* test_scenes.c - scenes: masks against pixels, captions and phrases against the picture, sets on disk, bad input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "x_skip.h"
#include "cli/cli.h"
#include "files/files.h"
#include "scenes/grammar.h"
#include "masks/reading.h"
#include "scenes/scenes.h"
#include "scenes/shapes.h"
#include "scenes/stamps.h"
#include "sys/threads.h"

static err e;
static scene_source *sources[2]; /* the second is NULL where the stamps are not installed */
static char folder[64];

#define must(condition) \
    do { \
        if (!(condition)) fail_msg("%s: %s", #condition, e.text); \
    } while (0)
/* Every kind that can be made here. */
#define each_source(s) \
    for (size_t which_ = 0; which_ < 2; which_++) \
        for (scene_source *s = sources[which_]; s != NULL; s = NULL)

static int begin(void **state) {
    (void)state;
    sources[0] = scene_source_open(SCENE_DRAWN, NULL, &e);
    sources[1] = folder_exists(STAMPS_FOLDER) ? scene_source_open(SCENE_PHOTOGRAPHIC, NULL, &e) : NULL;
    strcpy(folder, "/tmp/test_scenes-XXXXXX");
    return sources[0] != NULL && mkdtemp(folder) != NULL ? 0 : -1;
}
static int end(void **state) {
    (void)state;
    char shell[128];
    scene_source_free(sources[0]), scene_source_free(sources[1]);
    snprintf(shell, sizeof shell, "rm -rf '%s'", folder);
    return system(shell);
}
static scene make(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most) {
    scene sc;
    must(scene_make(s, seed, index, side, least, most, &sc, &e));
    return sc;
}
static bool same(const scene *a, const scene *b) {
    size_t n = a->side * a->side;
    return a->count == b->count && memcmp(a->image.rgb, b->image.rgb, 3 * n) == 0 &&
           memcmp(a->object[0].mask, b->object[0].mask, n * a->count) == 0 && strcmp(a->caption, b->caption) == 0 &&
           strcmp(a->object[0].phrase, b->object[0].phrase) == 0;
}
/* The word stands in the text, between spaces, commas and ends. */
static bool has_word(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *s = text; (s = strstr(s, word)) != NULL; s++)
        if ((s == text || s[-1] == ' ') && strchr(" ,", s[n]) != NULL) return true;
    return false;
}

/* ---- pixels ------------------------------------------------------------------------------------- */
/* Painted without object k, the picture changes where mask k says, and there only; and what its mask claims goes. */
static void masks_match_pixels(void **state) {
    (void)state;
    each_source(s) for (uint64_t index = 0; index < 40; index++) {
        scene all = make(s, 3, index, 80, 1, 4), less;
        size_t n = 80 * 80;
        for (size_t k = 0; k < all.count; k++) {
            size_t inside = 0, changed = 0;
            must(scene_make_hiding(s, 3, index, 80, 1, 4, 1u << k, &less, &e));
            assert_string_equal(all.caption, less.caption);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(less.object[k].mask[i], 0);
                int most = 0;
                for (size_t c = 0; c < 3; c++) {
                    int d = abs(all.image.rgb[3 * i + c] - less.image.rgb[3 * i + c]);
                    most = d > most ? d : most;
                }
                /* Alpha a moves a pixel by at most 255 a, and by half a level's rounding on both sides. An outline may be
                 * chosen by what lies behind: only objects painted later could change with it. */
                bool later = false;
                for (size_t j = k + 1; j < all.count; j++) later = later || all.object[j].mask[i] > 0 || less.object[j].mask[i] > 0;
                if (!later && most > all.object[k].mask[i] + 2)
                    fail_msg("scene %d, object %zu, pixel %zu: changed by %d under a mask of %d", (int)index, k, i, most,
                             all.object[k].mask[i]);
                if (all.object[k].mask[i] > 230) inside++, changed += most > 6;
            }
            /* Few pixels inside may chance to have the background's colour; a mask of the wrong place has many. */
            if (inside > 60 && changed * 2 < inside)
                fail_msg("scene %d, %s: %zu of %zu mask pixels differ from the background", (int)index, all.object[k].name,
                         changed, inside);
            scene_free(&less);
        }
        scene_free(&all);
    }
}
/* Masks of one scene never add up to more than everything. */
static void masks_share_pixels(void **state) {
    (void)state;
    each_source(s) for (uint64_t index = 0; index < 60; index++) {
        scene sc = make(s, 4, index, 72, 2, 6);
        for (size_t i = 0; i < 72 * 72; i++) {
            int sum = 0;
            for (size_t k = 0; k < sc.count; k++) sum += sc.object[k].mask[i];
            assert_true(sum <= 255 + 3);
        }
        scene_free(&sc);
    }
}
/* The box is the mask's, the visible share is the mask's sum over that of the object painted alone. */
static void boxes_and_shares(void **state) {
    (void)state;
    each_source(s) for (uint64_t index = 0; index < 60; index++) {
        scene sc = make(s, 5, index, 64, 1, 5), alone;
        for (size_t k = 0; k < sc.count; k++) {
            const scene_object *o = &sc.object[k];
            double seen = 0, own = 0;
            size_t x0 = 64, y0 = 64, x1 = 0, y1 = 0;
            must(scene_make_hiding(s, 5, index, 64, 1, 5, 0xFFu & ~(1u << k), &alone, &e));
            for (size_t i = 0; i < 64 * 64; i++) {
                size_t x = i % 64, y = i / 64;
                seen += o->mask[i], own += alone.object[k].mask[i];
                if (o->mask[i] < 128) continue;
                x0 = x < x0 ? x : x0, x1 = x >= x1 ? x + 1 : x1, y0 = y < y0 ? y : y0, y1 = y + 1;
            }
            assert_true(o->box[0] == (float)x0 && o->box[1] == (float)y0 && o->box[2] == (float)x1 && o->box[3] == (float)y1);
            assert_true(o->visible > 0.3f && o->visible <= 1);
            /* The outline that an object gets may depend on what is behind it, so alone it may be one pixel thinner. */
            if (s == sources[1]) assert_true(o->visible > (float)(seen / own) - 0.01f && o->visible < (float)(seen / own) + 0.01f);
            else assert_true(seen / own < 1.6 && seen / own > (double)o->visible * 0.6);
            scene_free(&alone);
        }
        scene_free(&sc);
    }
}
/* A whole drawn thing on its own: its pixels have its colour's name, so that "a red fish" is red. */
static void colours_are_true(void **state) {
    (void)state;
    size_t checked = 0;
    for (uint64_t index = 0; index < 400; index++) {
        scene sc = make(sources[0], 6, index, 96, 1, 1);
        const scene_object *o = &sc.object[0];
        double sum[3] = {0}, weight = 0;
        bool shades = strcmp(o->colour, "white") == 0 || strcmp(o->colour, "black") == 0 || strcmp(o->colour, "brown") == 0;
        bool plain = strcmp(o->texture, "plain") == 0 && (strcmp(o->name, "star") == 0 || strcmp(o->name, "heart") == 0);
        for (size_t i = 0; plain && i < 96 * 96; i++)
            for (size_t c = 0; c < 3 && o->mask[i] > 250; c++) sum[c] += sc.image.rgb[3 * i + c], weight += c == 0;
        if (!plain || shades || weight == 0) {
            scene_free(&sc);
            continue;
        }
        double r = sum[0] / weight, g = sum[1] / weight, b = sum[2] / weight;
        const char *name = r > 150 && g < 90 && b < 90                ? "red"
                           : r > 200 && g > 180 && b < 120            ? "yellow"
                           : r > 200 && g > 90 && g < 170 && b < 100  ? "orange"
                           : r > 190 && b > 130 && g > 90             ? "pink"
                           : g > r && g > b                           ? "green"
                           : b > 120 && r < 90                        ? "blue"
                                                                      : "purple";
        assert_string_equal(name, o->colour);
        scene_free(&sc);
        checked++;
    }
    assert_true(checked >= 4);
}

/* Every thing, at the size it has in scenes, differs from every other by a good part of its pixels. */
static void things_differ(void **state) {
    (void)state;
    enum { SIDE = 48, N = SIDE * SIDE };
    size_t count = shape_count();
    float *planes = calloc(count * N, sizeof *planes), *room = calloc(tile_room(SIDE), sizeof *room);
    assert_true(count >= 30 && planes != NULL && room != NULL);
    for (size_t i = 0; i < count; i++) {
        canvas c = {SIDE, planes + i * N, planes + i * N, planes + i * N};
        shape_pose p = {i, 22, 24, 24, 0, 1, 1};
        shape_look look = {.colour = {200, 200, 200}, .texture = TEXTURE_PLAIN};
        tile t = tile_cut(room, SIDE, 0, 0, SIDE, SIDE);
        shape_paint(&p, &look, &t);
        memset(c.r, 0, N * sizeof *c.r);
        for (size_t k = 0; k < N; k++) c.r[k] = t.a[k];
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            float apart = 0, either = 0;
            for (size_t k = 0; k < N; k++) {
                float a = planes[i * N + k], b = planes[j * N + k];
                apart += a > b ? a - b : b - a, either += a > b ? a : b;
            }
            if (!(apart > 0.12f * either)) fail_msg("%s and %s: outlines alike", shape_name(i), shape_name(j));
        }
    free(planes), free(room);
}

/* ---- words ----------------------------------------------------------------------------------------- */
/* A reader of captions that knows nothing of how they are made. It finds each mention "(a|an|some) ... NAME" and returns
 * the mention's object candidates as a bit set: those whose name, and every adjective before it, are true. NOT_SO: a
 * mention has none. */
typedef struct { unsigned could; const char *after; } mention;

enum { NOT_SO = -1 };
static const char *const placing[] = {" left of ", " right of ", " above ", " below ", " on the ", " at the ", " in the "};
/* Does a mention end here? ("an orange" does not, in "an orange crab") */
static bool ends(const char *after) {
    bool end = after[0] == 0 || after[0] == ',' || strncmp(after, " and ", 5) == 0;
    for (size_t i = 0; i < sizeof placing / sizeof *placing; i++)
        end = end || strncmp(after, placing[i], strlen(placing[i])) == 0;
    return end;
}
static int read_mentions(const scene *sc, const char *text, mention *out, int most) {
    int n = 0;
    for (const char *at = text; *at != 0;) {
        const char *start = at == text || at[-1] == ' ' ? at : NULL, *rest = NULL;
        if (start && strncmp(start, "a ", 2) == 0) rest = start + 2;
        if (start && strncmp(start, "an ", 3) == 0) rest = start + 3;
        if (start && strncmp(start, "some ", 5) == 0) rest = start + 5;
        at++;
        if (rest == NULL) continue;
        static const char *const pictures[] = {"photo of", "picture of", "drawing of", "image of"};
        bool prefix = false;
        for (size_t i = 0; i < 4; i++) prefix = prefix || strncmp(rest, pictures[i], strlen(pictures[i])) == 0;
        if (prefix) continue;
        /* The right article: "some" for what ends in a plural, else by the next letter. */
        bool vowel = strchr("aeiou", rest[0]) != NULL, a = rest == start + 2, an = rest == start + 3;
        if (strncmp(rest, "uni", 3) != 0 && (a || an)) assert_true(an == vowel);
        assert_true(n < most);
        size_t longest = 0;
        out[n].could = 0;
        for (size_t k = 0; k < sc->count; k++) {
            const scene_object *o = &sc->object[k];
            const char *const truths[] = {o->size, o->texture, o->colour};
            for (unsigned said = 0; said < 8; said++) { /* every choice of adjectives: an orange may be an orange orange */
                char words[PHRASE_ROOM] = "";
                for (size_t i = 0; i < 3; i++)
                    if ((said >> i & 1) && truths[i][0] != 0) strcat(strcat(words, truths[i]), " ");
                strcat(words, o->name);
                size_t reach = strlen(words);
                if (strncmp(rest, words, reach) != 0 || !ends(rest + reach)) continue;
                if (reach < longest) continue; /* "lemon" in "lemon slice" */
                if (reach > longest) out[n].could = 0;
                longest = reach, out[n].could |= 1u << k, out[n].after = rest + reach;
            }
        }
        if (out[n].could == 0) return NOT_SO;
        n++;
    }
    return n;
}
static float centre_x(const scene_object *o) { return 0.5f * (o->box[0] + o->box[2]); }
static float centre_y(const scene_object *o) { return 0.5f * (o->box[1] + o->box[3]); }

/* The place and relation words after a mention, checked against boxes: by thirds, and by centres. */
static bool place_true(const scene_object *o, const char *words, float side) {
    float x = centre_x(o) / side, y = centre_y(o) / side;
    size_t n = strcspn(words, ",");
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(n < 63 ? n : 63), words);
    char *and_ = strstr(text, " and ");
    if (and_ != NULL) *and_ = 0;
    if (has_word(text, "left") && !strstr(text, "left of") && x > 0.40f) return false;
    if (has_word(text, "right") && !strstr(text, "right of") && x < 0.60f) return false;
    if (has_word(text, "top") && y > 0.40f) return false;
    if (has_word(text, "bottom") && y < 0.60f) return false;
    return !has_word(text, "middle") || (x > 0.36f && x < 0.64f && y > 0.36f && y < 0.64f);
}
static bool relation_true(const scene_object *a, const scene_object *b, const char *words) {
    if (strncmp(words, " left of", 8) == 0) return centre_x(a) < centre_x(b);
    if (strncmp(words, " right of", 9) == 0) return centre_x(a) > centre_x(b);
    if (strncmp(words, " above", 6) == 0) return centre_y(a) < centre_y(b);
    return strncmp(words, " below", 6) != 0 || centre_y(a) > centre_y(b);
}
static void captions_are_true(void **state) {
    (void)state;
    size_t mentioned = 0, complete = 0, related = 0, placed = 0, total = 0, alone = 0;
    each_source(s) for (uint64_t index = 0; index < 1500; index++) {
        scene sc = make(s, 8, index, 48, 1, 4);
        mention m[16];
        assert_true(strlen(sc.caption) < 200);
        int mentions = read_mentions(&sc, sc.caption, m, 16);
        if (mentions == NOT_SO) fail_msg("\"%s\": of scene %d of seed 8 that is not so", sc.caption, (int)index);
        size_t n = (size_t)mentions;
        assert_true(n >= 1 && n <= sc.count);
        unsigned any = 0;
        for (size_t i = 0; i < n; i++) {
            bool placeable = false, fits = i + 1 == n;
            any |= m[i].could;
            for (size_t k = 0; k < sc.count; k++) {
                if (!(m[i].could >> k & 1)) continue;
                placeable = placeable || place_true(&sc.object[k], m[i].after, (float)sc.side);
                for (size_t j = 0; i + 1 < n && j < sc.count; j++)
                    fits = fits || ((m[i + 1].could >> j & 1) && j != k && relation_true(&sc.object[k], &sc.object[j], m[i].after));
            }
            if (!placeable || !fits) fail_msg("\"%s\" is not so (scene %d of seed 8)", sc.caption, (int)index);
            related += strncmp(m[i].after, " left of", 8) == 0 || strncmp(m[i].after, " above", 6) == 0;
            placed += strstr(m[i].after, " on the ") == m[i].after || strstr(m[i].after, " at the ") == m[i].after;
        }
        mentioned += n, total++, complete += n == sc.count, alone += sc.count == 1;
        assert_true(any != 0);
        scene_free(&sc);
    }
    /* Every way of saying comes up; many captions name everything, many do not. */
    assert_true(related > total / 50 && placed > total / 20);
    assert_true((double)complete / (double)total > 0.55 && (double)complete / (double)total < 0.75);
    assert_true(mentioned > total && alone > 0);
}

/* Can mentions i.. be told of objects that are each another one? */
static bool told_apart(const mention *m, int i, int n, unsigned taken) {
    if (i == n) return true;
    for (unsigned k = 0; k < SCENE_MOST_OBJECTS; k++)
        if ((m[i].could & ~taken) >> k & 1 && told_apart(m, i + 1, n, taken | 1u << k)) return true;
    return false;
}
/* grammar_true() against that reader: whatever it grants of another picture can be read there; and but for the few that it
 * says it misses, whatever can be read there, no place being spoken of, it grants. */
static void claims_are_true(void **state) {
    (void)state;
    enum { SCENES = 500 };
    scene *all = test_malloc(2 * SCENES * sizeof *all);
    size_t granted = 0, missed = 0, places = 0, count = 0;
    each_source(s) for (uint64_t i = 0; i < SCENES; i++) all[count++] = make(s, 18, i, 48, 1, 4);
    assert_true(count >= SCENES);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++) {
            const scene *a = &all[i], *b = &all[j];
            mention m[16];
            bool place = false, drawing = strstr(a->caption, "a drawing of") != NULL;
            for (size_t k = 0; k < 7; k++) place = place || strstr(a->caption, placing[k]) != NULL;
            int n = read_mentions(b, a->caption, m, 16);
            bool so = n != NOT_SO && told_apart(m, 0, n, 0) && !place && !(drawing && b->object[0].texture[0] == 0);
            bool claim = grammar_true(&a->claim, a->object, b->object, b->count);
            granted += claim && i != j, places += place;
            missed += so && !claim;
            if (claim && !so) fail_msg("\"%s\" is not so of the picture \"%s\"", a->caption, b->caption);
        }
    assert_true(granted > count && places > count && missed * 200 < granted);
    for (size_t i = 0; i < count; i++) scene_free(&all[i]);
    test_free(all);
}
/* Whoever knows the objects only by what is written of them must find exactly the one that is meant. */
static void phrases_mean_one(void **state) {
    (void)state;
    size_t twins = 0;
    each_source(s) for (uint64_t index = 0; index < 1500; index++) {
        scene sc = make(s, 9, index, 48, 2, 5);
        for (size_t k = 0; k < sc.count; k++) {
            char phrases[MOST_PHRASES][PHRASE_ROOM];
            size_t n = grammar_phrases(&sc, k, phrases);
            bool own = false;
            assert_true(n >= 1);
            for (size_t i = 0; i < n; i++) {
                own = own || strcmp(phrases[i], sc.object[k].phrase) == 0;
                assert_true(strncmp(phrases[i], "the ", 4) == 0);
                for (size_t j = 0; j < sc.count; j++) {
                    const scene_object *o = &sc.object[j], *meant = &sc.object[k];
                    char words[PHRASE_ROOM], where[40];
                    bool fits = strcmp(o->name, meant->name) == 0;
                    twins += fits && j != k;
                    strcpy(words, phrases[i] + 3);
                    grammar_where(meant->place, where);
                    char *place = strlen(where) < strlen(words) ? words + strlen(words) - strlen(where) : words;
                    if (strcmp(place, where) == 0) fits = fits && strcmp(o->place, meant->place) == 0, *place = 0;
                    size_t name = strlen(words) >= strlen(meant->name) ? strlen(words) - strlen(meant->name) : 0;
                    if (place != words && *place == 0 && words[strlen(words) - 1] == ' ') name--;
                    words[name] = 0;
                    for (char *w = strtok(words, " "); w != NULL; w = strtok(NULL, " ")) {
                        bool most = strcmp(w, "leftmost") == 0 || strcmp(w, "rightmost") == 0 || strcmp(w, "topmost") == 0 ||
                                    strcmp(w, "lowest") == 0;
                        float dx = centre_x(meant) - centre_x(o), dy = centre_y(meant) - centre_y(o);
                        if (most) fits = fits && (j == k || !(w[0] == 'l' && w[1] == 'e' ? dx < 0 : w[0] == 'r' ? dx > 0
                                                              : w[0] == 't' ? dy < 0 : dy > 0));
                        else fits = fits && (strcmp(w, o->size) == 0 || strcmp(w, o->colour) == 0 || strcmp(w, o->texture) == 0);
                    }
                    if (fits != (j == k)) fail_msg("\"%s\" for %s %zu of scene %d", phrases[i], o->name, j, (int)index);
                }
            }
            assert_true(own);
        }
        scene_free(&sc);
    }
    assert_true(twins > 20); /* or the test has seen nothing */
}
static void sizes_and_places(void **state) {
    (void)state;
    static const struct { float box[4]; const char *size, *place; } cases[] = {
        {{0, 0, 20, 20}, "small", "top left"},   {{80, 80, 100, 100}, "small", "bottom right"},
        {{10, 10, 90, 90}, "large", "middle"},   {{0, 30, 40, 70}, "", "left"},
        {{30, 0, 70, 40}, "", "top"},            {{60, 30, 100, 70}, "", "right"},
        {{30, 60, 70, 100}, "", "bottom"},       {{0, 60, 56, 100}, "large", "bottom left"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scene_object o = {0};
        memcpy(o.box, cases[i].box, sizeof o.box);
        grammar_measure(&o, 100);
        assert_string_equal(o.size, cases[i].size);
        assert_string_equal(o.place, cases[i].place);
    }
}
static void articles(void **state) {
    (void)state;
    assert_string_equal(grammar_article("apple", "apple"), "an");
    assert_string_equal(grammar_article("orange fish", "fish"), "an");
    assert_string_equal(grammar_article("red apple", "apple"), "a");
    assert_string_equal(grammar_article("university", "university"), "a");
    assert_string_equal(grammar_article("umbrella", "umbrella"), "an");
    assert_string_equal(grammar_article("scissors", "scissors"), "some");
    assert_string_equal(grammar_article("orange trousers", "trousers"), "some");
    assert_string_equal(grammar_article("octopus", "octopus"), "an");
    assert_string_equal(grammar_article("iris", "iris"), "an");
    assert_string_equal(grammar_article("glass", "glass"), "a");
}
static void descriptions(void **state) {
    (void)state;
    static const struct { const char *line, *name, *colour; } cases[] = {
        {"A red apple.", "apple", "red"},       {"A \xE2\x80\x9C" "Granny Smith\xE2\x80\x9D apple.", "apple", ""},
        {"A ripe, red tomato!", "tomato", "red"}, {"An orange.", "orange", ""},
        {"A pair of open scissors.", "scissors", ""}, {"A fire truck.", "fire truck", ""},
        {"A knight\xE2\x80\x99s helmet.", "knight's helmet", ""}, {"Saturn\xE2\x80\x94the second largest planet.", "saturn", ""},
        {"A baby sheep (a lamb).", "baby sheep", ""}, {"A tower with a red flag.", "tower", ""},
        {"A great blue heron.", "heron", "blue"},
    };
    static const char *const refused[] = {"", "Boom!!!", "Remember to flush the toilet!", "A blue and yellow flag.", ",", "A", "Minus the letter of four words"};
    char name[48], colour[16];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(stamp_describe(cases[i].line, name, colour));
        assert_string_equal(name, cases[i].name);
        assert_string_equal(colour, cases[i].colour);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (stamp_describe(refused[i], name, colour)) fail_msg("\"%s\" was called \"%s\"", refused[i], name);
    char longest[4000];
    memset(longest, 'x', sizeof longest), longest[sizeof longest - 1] = 0;
    (void)stamp_describe(longest, name, colour);
    for (size_t i = 1; i + 1 < sizeof longest; i += 2) longest[i] = i % 4 == 1 ? ' ' : ',';
    if (stamp_describe(longest, name, colour)) assert_true(strlen(name) <= 40);
}
static void names_are_told_apart(void **state) {
    (void)state;
    each_source(s) {
        assert_true(scene_names(s) >= 30);
        for (size_t i = 0; i < scene_names(s); i++) {
            assert_in_range(strlen(scene_name(s, i)), 2, 40);
            for (size_t j = 0; j < i; j++) assert_string_not_equal(scene_name(s, i), scene_name(s, j));
        }
    }
}

/* ---- the same again ------------------------------------------------------------------------------- */
typedef struct { const scene_source *s; scene *to; size_t count; } many;
static void make_one(void *arg, size_t i) {
    many *m = arg;
    err own;
    size_t index = m->count - 1 - i; /* last first */
    if (!scene_make(m->s, 11, index, 64, 1, 4, &m->to[index], &own)) m->to[index].count = 0;
}
static void same_on_any_core(void **state) {
    (void)state;
    enum { COUNT = 48 };
    pool *p = pool_start(4);
    assert_non_null(p);
    each_source(s) {
        static scene together[COUNT];
        many m = {s, together, COUNT};
        spread(p, COUNT, make_one, &m);
        for (size_t i = 0; i < COUNT; i++) {
            scene sc = make(s, 11, i, 64, 1, 4);
            assert_true(same(&sc, &together[i]));
            scene_free(&sc), scene_free(&together[i]);
        }
        scene a = make(s, 11, 0, 64, 1, 4), b = make(s, 12, 0, 64, 1, 4), c = make(s, 11, 1, 64, 1, 4);
        assert_false(same(&a, &b)), assert_false(same(&a, &c)), assert_false(same(&b, &c));
        scene_free(&a), scene_free(&b), scene_free(&c);
    }
    pool_stop(p);
}
static void any_side_any_count(void **state) {
    (void)state;
    each_source(s) for (size_t n = 1; n <= SCENE_MOST_OBJECTS; n++) {
        for (size_t side = SCENE_LEAST_SIDE; side < 150; side += 33) {
            scene sc = make(s, 13, n * 1000 + side, side, n, n);
            assert_int_equal(sc.count, n);
            assert_int_equal(sc.image.width, side);
            scene_free(&sc);
        }
    }
    scene sc;
    assert_false(scene_make(sources[0], 1, 1, 15, 1, 1, &sc, &e));
    assert_non_null(strstr(e.text, "15"));
    assert_false(scene_make(sources[0], 1, 1, 64, 0, 1, &sc, &e));
    assert_false(scene_make(sources[0], 1, 1, 64, 3, 2, &sc, &e));
    assert_false(scene_make(sources[0], 1, 1, 64, 1, 9, &sc, &e));
    assert_non_null(strstr(e.text, "9"));
}
static void without_memory(void **state) {
    (void)state;
    each_source(s) for (size_t n = 1; n <= 3; n++) {
        scene sc;
        mem_fail_after(n);
        bool ok = scene_make(s, 1, 1, 64, 1, 4, &sc, &e);
        mem_fail_after(0);
        assert_false(ok);
        assert_non_null(strstr(e.text, "memory"));
        assert_null(sc.image.rgb);
    }
    if (sources[1] == NULL) SKIP("no cut-outs: " STAMPS_PACKAGE " is not installed");
    for (size_t n = 1; n < 3000; n = n * 2 + 1) { /* cut-outs whose pixels or names find no room */
        mem_fail_after(n);
        scene_source *s = scene_source_open(SCENE_PHOTOGRAPHIC, NULL, &e);
        mem_fail_after(0);
        assert_null(s);
    }
}

/* ---- sets on disk ------------------------------------------------------------------------------------ */
static const char *in_folder(const char *name) {
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
static void check_record(const scene_record *r, const scene *sc) {
    picture p;
    must(picture_read(r->image, &p, &e));
    assert_memory_equal(p.rgb, sc->image.rgb, 3 * sc->side * sc->side);
    picture_free(&p);
    assert_int_equal(r->objects, sc->count);
    assert_string_equal(r->caption[0], sc->caption);
    for (size_t k = 0; k < sc->count; k++) {
        const scene_object *o = &sc->object[k];
        mask_image m;
        assert_string_equal(r->object[k].name, o->name), assert_string_equal(r->object[k].colour, o->colour);
        assert_string_equal(r->object[k].texture, o->texture), assert_string_equal(r->object[k].size, o->size);
        assert_string_equal(r->object[k].place, o->place), assert_string_equal(r->object[k].phrase, o->phrase);
        assert_memory_equal(r->object[k].box, o->box, sizeof o->box);
        assert_true(r->object[k].visible > o->visible - 1e-4f && r->object[k].visible < o->visible + 1e-4f);
        must(mask_read(r->object[k].mask, &m, &e));
        for (size_t i = 0; i < sc->side * sc->side; i++) assert_int_equal((int)(m.soft[i] * 255 + 0.5f), o->mask[i]);
        mask_free(&m);
        bool refers = false;
        for (size_t i = 0; i < r->referring; i++)
            refers = refers || (r->refers[i].object == k && strcmp(r->refers[i].phrase, o->phrase) == 0);
        assert_true(refers);
    }
}
static void sets_come_back(void **state) {
    (void)state;
    const char *dir = in_folder("set");
    char path[4096];
    strcpy(path, dir);
    scene_set set = {{sources[0], sources[1]}, sources[1] != NULL ? 2 : 1, 45, 48, 1, SCENE_MOST_OBJECTS, 21};
    pool *p = pool_start(2);
    must(scene_set_write(&set, path, p, NULL, NULL, &e));
    must(scene_set_write(&set, path, NULL, NULL, NULL, &e)); /* over the first, on one core: the same */
    pool_stop(p);
    scene_reader *r = scene_reader_open(path, &e);
    must(r);
    static scene_record record;
    for (size_t i = 0; i < set.count; i++) {
        must(scene_reader_next(r, &record, &e) == SCENE_READ);
        scene sc = make(set.source[i % set.sources], 21, i, 48, 1, SCENE_MOST_OBJECTS);
        assert_int_equal(record.kind, (int)(i % set.sources));
        assert_int_equal(record.seed, 21);
        assert_int_equal(record.index, i);
        assert_int_equal(record.side, 48);
        check_record(&record, &sc);
        scene_free(&sc);
    }
    assert_int_equal(scene_reader_next(r, &record, &e), SCENE_END);
    assert_int_equal(scene_reader_next(r, &record, &e), SCENE_END);
    scene_reader_free(r);
}

static void write_text(const char *path, const char *text, size_t length) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}
#define GOOD_OBJECT \
    "{\"name\":\"fish\",\"colour\":\"red\",\"texture\":\"\",\"size\":\"\",\"place\":\"left\",\"mask\":\"masks/m.png\"," \
    "\"box\":[1,2,30,40],\"visible\":0.5,\"phrase\":\"the fish\"}"
#define LINE_OF(captions, objects, referring) \
    "{\"image\":\"images/i.png\",\"side\":48,\"kind\":\"drawn\",\"seed\":1,\"index\":2,\"captions\":" captions \
    ",\"objects\":" objects ",\"referring\":" referring "}"
#define GOOD_LINE LINE_OF("[\"a fish\"]", "[" GOOD_OBJECT "]", "[{\"phrase\":\"the fish\",\"mask\":\"masks/m.png\"}]")

/* A good line, then the line; expects an error that names line 2 (or none). */
static void expect_error(const char *line, size_t length, const char *names) {
    char path[4096], *text = malloc(length + 4096);
    static scene_record record;
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "%s\n", GOOD_LINE);
    memcpy(text + n, line, length);
    strcpy(path, in_folder("broken/scenes.jsonl"));
    write_text(path, text, n + length);
    free(text);
    scene_reader *r = scene_reader_open(in_folder("broken"), &e);
    must(r);
    must(scene_reader_next(r, &record, &e) == SCENE_READ);
    assert_string_equal(record.object[0].name, "fish");
    scene_reading got = scene_reader_next(r, &record, &e);
    scene_reader_free(r);
    assert_int_equal(got, names != NULL ? SCENE_FAILED : SCENE_READ);
    if (names == NULL) return;
    if (strstr(e.text, "broken/scenes.jsonl:2") == NULL || strstr(e.text, names) == NULL)
        fail_msg("\"%s\" does not name line 2 and %s", e.text, names);
}
static void broken_sets(void **state) {
    (void)state;
    /* Each: what to replace in a good line, by what, and what the message must name. */
    static const char *const faults[][3] = {
        {"\"side\":48,", "", "side"},           {"\"side\":48", "\"side\":-1", "side"},     {"\"kind\":\"drawn\"", "\"kind\":\"oil\"", "kind"},
        {"images/i.png", "", "image"},          {"\"seed\":1", "\"seed\":0.5", "seed"},     {"\"index\":2", "\"index\":\"2\"", "index"},
        {"[\"a fish\"]", "[]", "captions"},     {"[\"a fish\"]", "[7]", "captions[0]"},     {"[\"a fish\"]", "null", "captions"},
        {"\"name\":\"fish\"", "\"name\":\"\"", "objects[0].name"}, {"\"colour\":\"red\",", "", "objects[0].colour"},
        {"[1,2,30,40]", "[1,2,30]", "objects[0].box"}, {"[1,2,30,40]", "[1,2,30,49]", "objects[0].box"},
        {"[1,2,30,40]", "[30,2,30,40]", "objects[0].box"}, {"0.5,\"phrase", "1.5,\"phrase", "objects[0].visible"},
        {"\"visible\":0.5,", "", "objects[0].visible"}, {"\"place\":\"left\"", "\"place\":3", "objects[0].place"},
        {"\"name\":\"fish\"", "\"name\":\"a name that is far longer than forty-seven bytes can hold\"", "objects[0].name"},
        {"the fish\",\"mask\":\"masks/m.png", "the fish\",\"mask\":\"masks/n.png", "referring[0].mask"},
        {"[{\"phrase\":\"the fish\"", "[{\"phrase\":\"\"", "referring[0].phrase"}, {"[{\"phrase\"", "[3,{\"phrase\"", "referring[0]"},
        {"}]}", "}]", "line 1"},
    };
    must(folder_make(in_folder("broken"), &e));
    expect_error(GOOD_LINE, strlen(GOOD_LINE), NULL); /* no newline at the end */
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char text[2048], *at;
        strcpy(text, GOOD_LINE);
        at = strstr(text, faults[i][0]);
        assert_non_null(at);
        char rest[2048];
        strcpy(rest, at + strlen(faults[i][0]));
        strcat(strcpy(at, faults[i][1]), rest);
        expect_error(text, strlen(text), i == sizeof faults / sizeof *faults - 1 ? "scenes.jsonl:2" : faults[i][2]);
    }
    expect_error("[1]", 3, "object");
    expect_error("{\0}", 3, "scenes.jsonl:2");
    expect_error("{\"image\":\"\xff\"}", 12, "UTF-8");
    size_t longest = (size_t)40 << 20; /* a line that never ends */
    char *text = malloc(longest);
    assert_non_null(text);
    memset(text, ' ', longest);
    expect_error(text, longest, "line");
    free(text);
    assert_null(scene_reader_open(in_folder("nothing"), &e));
    assert_non_null(strstr(e.text, "nothing/scenes.jsonl"));
    must(folder_make(in_folder("hollow/scenes.jsonl"), &e));
    assert_null(scene_reader_open(in_folder("hollow"), &e));
}
/* Objects of any line order, long lines across the reader's chunks, empty lines between. */
static void long_sets(void **state) {
    (void)state;
    must(folder_make(in_folder("long"), &e));
    FILE *f = fopen(in_folder("long/scenes.jsonl"), "wb");
    assert_non_null(f);
    for (int i = 0; i < 700; i++) fprintf(f, "%*s%s\n%s", i * 7, "", GOOD_LINE, i % 5 == 0 ? "\n" : "");
    assert_int_equal(fclose(f), 0);
    scene_reader *r = scene_reader_open(in_folder("long"), &e);
    must(r);
    static scene_record record;
    for (int i = 0; i < 700; i++) must(scene_reader_next(r, &record, &e) == SCENE_READ);
    assert_int_equal(scene_reader_next(r, &record, &e), SCENE_END);
    scene_reader_free(r);
}
static void bad_places(void **state) {
    (void)state;
    scene_set set = {{sources[0], NULL}, 1, 2, 48, 1, 2, 1};
    write_text(in_folder("a-file"), "x", 1);
    assert_false(scene_set_write(&set, in_folder("a-file"), NULL, NULL, NULL, &e));
    assert_non_null(strstr(e.text, "a-file"));
    assert_false(scene_set_write(&set, in_folder("a-file/below"), NULL, NULL, NULL, &e));
    assert_null(scene_source_open(SCENE_PHOTOGRAPHIC, in_folder("no-stamps"), &e));
    assert_non_null(strstr(e.text, STAMPS_PACKAGE)), assert_non_null(strstr(e.text, "no-stamps"));
    must(folder_make(in_folder("no-pictures"), &e));
    assert_null(scene_source_open(SCENE_PHOTOGRAPHIC, in_folder("no-pictures"), &e));
    assert_non_null(strstr(e.text, STAMPS_PACKAGE));
    /* Pictures that are none are passed over. */
    write_text(in_folder("no-pictures/cat.png"), "\x89PNG\r\n", 6), write_text(in_folder("no-pictures/cat.txt"), "A cat.\n", 7);
    write_text(in_folder("no-pictures/dog.png"), "", 0), write_text(in_folder("no-pictures/dog.txt"), "A dog.\n", 7);
    assert_null(scene_source_open(SCENE_PHOTOGRAPHIC, in_folder("no-pictures"), &e));
    if (getuid() == 0) return; /* root writes everywhere */
    must(folder_make(in_folder("closed"), &e));
    assert_int_equal(chmod(in_folder("closed"), 0500), 0);
    assert_false(scene_set_write(&set, in_folder("closed"), NULL, NULL, NULL, &e));
}
/* When pictures cannot be written, no scenes.jsonl speaks of them, and no temporary file stays. */
static void interrupted_set(void **state) {
    (void)state;
    scene_set set = {{sources[0], NULL}, 1, 40, 48, 1, 2, 1};
    char shell[4200];
    must(folder_make(in_folder("torn/images/000033.png"), &e)); /* a folder in a picture's place */
    assert_false(scene_set_write(&set, in_folder("torn"), NULL, NULL, NULL, &e));
    assert_non_null(strstr(e.text, "000033.png"));
    assert_false(file_exists(in_folder("torn/scenes.jsonl")));
    snprintf(shell, sizeof shell, "test -z \"$(find '%s' -name '*tmp*')\"", folder);
    assert_int_equal(system(shell), 0);
}

/* ---- the command ---------------------------------------------------------------------------------- */
static int scenes_of(const char *flags) {
    static char text[512], *argv[24];
    int argc = 0;
    snprintf(text, sizeof text, "scenes %s", flags);
    for (char *w = strtok(text, " "); w != NULL; w = strtok(NULL, " ")) argv[argc++] = w;
    argv[argc] = NULL;
    return cmd_scenes(argc, argv);
}
static void command_line(void **state) {
    (void)state;
    char flags[256];
    snprintf(flags, sizeof flags, "--count 5 --seed 7 --objects 2 --size 32 --threads 2 -o %s", in_folder("made"));
    assert_int_equal(scenes_of(flags), 0);
    scene_reader *r = scene_reader_open(in_folder("made"), &e);
    must(r);
    static scene_record record;
    for (int i = 0; i < 5; i++) {
        must(scene_reader_next(r, &record, &e) == SCENE_READ);
        assert_int_equal(record.objects, 2), assert_int_equal(record.side, 32), assert_int_equal(record.seed, 7);
    }
    assert_int_equal(scene_reader_next(r, &record, &e), SCENE_END);
    scene_reader_free(r);
    static const char *const wrong[] = {"0", "9", "3-2", "1-", "-3", "1-2-3", "two", "1.5", "1--2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(flags, sizeof flags, "--count 5 --objects=%s -o %s", wrong[i], in_folder("not-made"));
        assert_int_equal(scenes_of(flags), 2);
    }
    snprintf(flags, sizeof flags, "--count 5 --kind photographic --stamps /nowhere -o %s", in_folder("not-made"));
    assert_int_equal(scenes_of(flags), 1);
    assert_int_equal(scenes_of("--count 5"), 2);
    assert_int_equal(scenes_of("--kind oil --count 5 -o x"), 2);
    assert_false(folder_exists(in_folder("not-made")));
}

int main(void) {
    mem_hook_cjson();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_match_pixels), cmocka_unit_test(masks_share_pixels), cmocka_unit_test(boxes_and_shares),
        cmocka_unit_test(colours_are_true),   cmocka_unit_test(things_differ),      cmocka_unit_test(captions_are_true),
        cmocka_unit_test(claims_are_true),
        cmocka_unit_test(phrases_mean_one),   cmocka_unit_test(sizes_and_places),   cmocka_unit_test(articles),
        cmocka_unit_test(descriptions),       cmocka_unit_test(names_are_told_apart), cmocka_unit_test(same_on_any_core),
        cmocka_unit_test(any_side_any_count), cmocka_unit_test(without_memory),     cmocka_unit_test(sets_come_back),
        cmocka_unit_test(broken_sets),        cmocka_unit_test(long_sets),          cmocka_unit_test(bad_places),
        cmocka_unit_test(interrupted_set),    cmocka_unit_test(command_line),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
