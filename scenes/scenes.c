/* scenes.c - scenes: planned from a random stream, painted, measured, described (see scenes.h).
 *
 * A plan holds everything in shares of the picture's side, so that one scene looks the same at every size. Objects are
 * painted back to front; each one's paint takes away from the masks of those before it.
 */
#include "scenes/scenes.h"
#include "scenes/backdrop.h"
#include "scenes/grammar.h"
#include "scenes/shapes.h"
#include "scenes/stamps.h"
#include <math.h>
#include <string.h>

struct scene_source {
    scene_kind kind;
    stamp_book *book; /* photographic only */
};

/* ---- what can be seen ---------------------------------------------------------------------------- */
typedef struct { const char *name; rgb value; } named_colour;
static const named_colour palette[] = {
    {"red", {214, 40, 38}},    {"orange", {244, 128, 22}}, {"yellow", {247, 217, 40}}, {"green", {50, 156, 60}},
    {"blue", {40, 90, 210}},   {"purple", {130, 54, 168}}, {"pink", {246, 144, 188}},  {"brown", {122, 74, 38}},
    {"black", {30, 30, 34}},   {"white", {246, 246, 246}}};
static const char *const textures[TEXTURE_COUNT] = {"plain", "striped", "dotted", "checked"};
enum { COLOURS = sizeof palette / sizeof *palette };

scene_source *scene_source_open(scene_kind kind, const char *stamps, err *e) {
    scene_source *s = mem_alloc(1, sizeof *s);
    if (s == NULL) {
        err_set(e, "scenes: out of memory");
        return NULL;
    }
    s->kind = kind;
    if (kind == SCENE_PHOTOGRAPHIC && (s->book = stamps_open(stamps, e)) == NULL) {
        mem_free(s);
        return NULL;
    }
    return s;
}
void scene_source_free(scene_source *s) {
    if (s == NULL) return;
    stamps_free(s->book);
    mem_free(s);
}
scene_kind scene_source_kind(const scene_source *s) { return s->kind; }
size_t scene_colours(void) { return COLOURS; }
const char *scene_colour(size_t i) { return palette[i].name; }
size_t scene_textures(void) { return TEXTURE_COUNT; }
const char *scene_texture(size_t i) { return textures[i]; }
size_t scene_names(const scene_source *s) { return s->book != NULL ? stamp_names(s->book) : shape_count(); }
const char *scene_name(const scene_source *s, size_t i) { return s->book != NULL ? stamp_name(s->book, i) : shape_name(i); }

/* ---- the plan ---------------------------------------------------------------------------------------- */
typedef struct {
    size_t name, stamp, colour;
    shape_texture texture;
    rgb value;
    float size, cx, cy, degrees, wide, tall; /* size: the box's longer side; cx, cy: the box's centre */
    float period, phase, turn, outline, gain;
    bool flip, bold;  /* bold: an outline even where the object stands out anyway */
    float box[4];     /* in shares of the side */
} item;
typedef struct {
    size_t count;
    rng backdrop, words;
    item items[SCENE_MOST_OBJECTS];
} plan;

static shape_pose pose_of(const item *it, float side) {
    shape_pose p = {it->name, it->size * side, it->cx * side, it->cy * side, it->degrees, it->flip ? -it->wide : it->wide, it->tall};
    return p;
}
static stamp_pose stamp_pose_of(const item *it, float side) {
    stamp_pose p = {it->size * side, it->cx * side, it->cy * side, it->degrees, it->flip};
    return p;
}
static void bounds(const scene_source *s, const item *it, float side, float box[4]) {
    shape_pose p = pose_of(it, side);
    stamp_pose q = stamp_pose_of(it, side);
    if (s->book != NULL) stamp_bounds(s->book, it->stamp, &q, box);
    else shape_bounds(&p, box);
}

static rgb jitter(rgb c, rng *r, float by) {
    rgb j = {c.r + rng_range(r, -by, by), c.g + rng_range(r, -by, by), c.b + rng_range(r, -by, by)};
    j.r = 255 * clamp01(j.r / 255), j.g = 255 * clamp01(j.g / 255), j.b = 255 * clamp01(j.b / 255);
    return j;
}
/* Mostly names that the scene has not yet; never a third of one name. */
static size_t choose_name(const scene_source *s, const plan *p, rng *r) {
    size_t allowed = rng_chance(r, 0.05f) ? 1 : 0, name = 0;
    for (int tries = 0; tries < 64; tries++) {
        size_t same = 0;
        name = rng_below(r, scene_names(s));
        for (size_t i = 0; i < p->count; i++) same += p->items[i].name == name;
        if (same <= allowed) break;
    }
    return name;
}
static void choose_looks(const scene_source *s, item *it, rng *r) {
    it->colour = rng_below(r, COLOURS);
    it->value = jitter(palette[it->colour].value, r, it->colour >= 8 ? 9 : 16);
    it->texture = rng_chance(r, 0.5f) ? TEXTURE_PLAIN : (shape_texture)(1 + rng_below(r, TEXTURE_COUNT - 1));
    it->period = it->texture == TEXTURE_DOTTED ? rng_range(r, 0.26f, 0.36f) : rng_range(r, 0.30f, 0.44f);
    it->phase = rng_unit(r), it->turn = rng_chance(r, 0.5f) ? 0 : rng_range(r, -60, 90);
    it->degrees = rng_range(r, -20, 20), it->wide = rng_range(r, 0.86f, 1.14f), it->tall = rng_range(r, 0.9f, 1.1f);
    it->flip = rng_chance(r, 0.5f), it->bold = rng_chance(r, 0.6f), it->outline = rng_range(r, 0.007f, 0.016f);
    it->gain = rng_range(r, 0.8f, 1.2f);
    if (s->book == NULL) return;
    it->stamp = stamp_of(s->book, it->name, rng_below(r, stamps_of(s->book, it->name)));
    it->flip = it->flip && stamp_flips(s->book, it->stamp);
}

/* Sets size, centre and box: the longer side of the box is `size` of the picture's, somewhat more for thin things, and the
 * box lies where asked. */
static void place_box(const scene_source *s, item *it, float size, float x, float y) {
    float b[4];
    it->size = 1, it->cx = it->cy = 0;
    bounds(s, it, 1, b);
    float w = b[2] - b[0], h = b[3] - b[1], longer = w > h ? w : h, shorter = w < h ? w : h;
    float thin = sqrtf(sqrtf(longer / shorter)), wanted = size * (thin < 1.35f ? thin : 1.35f);
    float k = (wanted < 0.9f ? wanted : 0.9f) / longer;
    w *= k, h *= k;
    float left = 0.01f + x * (0.98f - w), top = 0.01f + y * (0.98f - h);
    it->size = k, it->cx = left - b[0] * k, it->cy = top - b[1] * k;
    it->box[0] = left, it->box[1] = top, it->box[2] = left + w, it->box[3] = top + h;
}
/* The share of the smaller box that the two boxes have in common. */
static float overlap(const float a[4], const float b[4]) {
    float w = (a[2] < b[2] ? a[2] : b[2]) - (a[0] > b[0] ? a[0] : b[0]);
    float h = (a[3] < b[3] ? a[3] : b[3]) - (a[1] > b[1] ? a[1] : b[1]);
    float p = (a[2] - a[0]) * (a[3] - a[1]), q = (b[2] - b[0]) * (b[3] - b[1]);
    return w > 0 && h > 0 ? w * h / (p < q ? p : q) : 0;
}
/* Tries places until the item hides little of the others; keeps the best. */
static void choose_place(const scene_source *s, plan *p, item *it, float size, float allowed, rng *r) {
    float best = 1e9f, bx = 0.5f, by = 0.5f;
    for (int tries = 0; tries < 24 && best > allowed; tries++) {
        float x = rng_unit(r), y = rng_unit(r), worst = 0;
        place_box(s, it, size, x, y);
        for (size_t i = 0; i < p->count; i++) {
            float o = overlap(it->box, p->items[i].box);
            worst = o > worst ? o : worst;
        }
        if (worst < best) best = worst, bx = x, by = y;
    }
    place_box(s, it, size, bx, by);
}

static plan plan_make(const scene_source *s, uint64_t seed, uint64_t index, size_t least, size_t most, uint64_t attempt) {
    /* Sizes that go with 1, 2, 3, 4 and more objects: least and most. */
    static const float sizes[][2] = {{0.40f, 0.86f}, {0.36f, 0.58f}, {0.30f, 0.48f}, {0.27f, 0.42f}, {0.19f, 0.32f}};
    plan p = {0};
    rng r = rng_start(seed * 2 + (uint64_t)s->kind, index);
    size_t count = least + rng_below(&r, most - least + 1);
    r.state += attempt * 0xA0761D6478BD642Fu;
    float allowed = attempt > 3 || rng_chance(&r, 0.5f) ? 0.02f : 0.3f;
    const float *range = sizes[count < 5 ? count - 1 : 4];
    p.backdrop = rng_start(rng_next(&r), 1), p.words = rng_start(rng_next(&r), 2);
    while (p.count < count) {
        item *it = &p.items[p.count];
        it->name = choose_name(s, &p, &r);
        choose_looks(s, it, &r);
        float size = rng_range(&r, range[0], range[1]);
        choose_place(s, &p, it, attempt > 3 ? range[0] : size, allowed, &r);
        p.count++;
    }
    return p;
}

/* ---- painting ------------------------------------------------------------------------------------ */
static rgb second_colour(rgb c) {
    static const rgb white = {250, 250, 250}, black = {0, 0, 0};
    float l = luminance(c);
    return l > 175 ? mix(c, black, 0.42f) : mix(c, white, l < 60 ? 0.5f : 0.62f);
}
/* An outline always where the object would vanish into what lies behind; its shade is the one that stands out. */
static void look_make(const item *it, const canvas *c, shape_look *look) {
    float side = (float)c->side;
    rgb behind = canvas_mean(c, it->box[0] * side, it->box[1] * side, it->box[2] * side, it->box[3] * side), v = it->value;
    float apart = fabsf(behind.r - v.r) + fabsf(behind.g - v.g) + fabsf(behind.b - v.b);
    bool dark_edge = 0.6f * luminance(behind) + 0.4f * luminance(v) > 95;
    static const rgb white = {248, 248, 244}, black = {16, 14, 20};
    look->colour = v, look->second = second_colour(v), look->texture = it->texture;
    look->period = it->period, look->phase = it->phase, look->turn = it->turn;
    look->outline = it->bold || apart < 190 ? it->outline * side : 0;
    look->edge = mix(dark_edge ? black : white, v, 0.15f);
}

static tile item_paint(const scene_source *s, const item *it, const canvas *c, float *room) {
    float side = (float)c->side, b[4];
    bounds(s, it, side, b);
    if (s->book != NULL) {
        stamp_pose p = stamp_pose_of(it, side);
        tile t = tile_cut(room, c->side, b[0] - 1, b[1] - 1, b[2] + 1, b[3] + 1);
        stamp_paint(s->book, it->stamp, &p, it->gain, &t);
        return t;
    }
    shape_look look;
    shape_pose p = pose_of(it, side);
    look_make(it, c, &look);
    float m = 1 + look.outline;
    tile t = tile_cut(room, c->side, b[0] - m, b[1] - m, b[2] + m, b[3] + m);
    shape_paint(&p, &look, &t);
    return t;
}
/* The tile's alpha into mask k, and out of those before it. Returns mask k's sum. */
static uint64_t masks_cover(scene *out, size_t k, const tile *t) {
    uint64_t sum = 0;
    for (size_t y = 0; y < t->height; y++) {
        size_t to = ((size_t)t->y0 + y) * out->side + (size_t)t->x0;
        const float *a = t->a + y * t->width;
        for (size_t j = 0; j < k; j++)
            for (size_t x = 0; x < t->width; x++) {
                unsigned char *m = &out->object[j].mask[to + x];
                *m = (unsigned char)((float)*m * (1 - a[x]) + 0.5f);
            }
        for (size_t x = 0; x < t->width; x++) {
            unsigned char m = (unsigned char)(a[x] * 255 + 0.5f);
            out->object[k].mask[to + x] = m, sum += m;
        }
    }
    return sum;
}
static void canvas_flatten(const canvas *c, unsigned char *to) {
    for (size_t i = 0; i < c->side * c->side; i++) {
        to[3 * i] = (unsigned char)(c->r[i] + 0.5f), to[3 * i + 1] = (unsigned char)(c->g[i] + 0.5f);
        to[3 * i + 2] = (unsigned char)(c->b[i] + 0.5f);
    }
}

/* Box and visible share of object k from its mask. False: hardly anything is to be seen of it. */
static bool object_measure(scene *out, size_t k, uint64_t own) {
    scene_object *o = &out->object[k];
    size_t side = out->side, x0 = side, y0 = side, x1 = 0, y1 = 0;
    uint64_t seen = 0;
    for (size_t y = 0; y < side; y++)
        for (size_t x = 0; x < side; x++) {
            unsigned char m = o->mask[y * side + x];
            seen += m;
            if (m < 128) continue;
            x0 = x < x0 ? x : x0, x1 = x + 1 > x1 ? x + 1 : x1, y0 = y < y0 ? y : y0, y1 = y + 1;
        }
    if (own == 0 || x1 <= x0) return false;
    o->box[0] = (float)x0, o->box[1] = (float)y0, o->box[2] = (float)x1, o->box[3] = (float)y1;
    o->visible = (float)seen / (float)own;
    grammar_measure(o, side);
    return o->visible > 0.45f;
}

/* Picture, masks and measures of a plan. False: an object is hidden too well. */
static bool plan_paint(const scene_source *s, const plan *p, unsigned hidden, float *room, scene *out) {
    size_t n = out->side * out->side;
    uint64_t own[SCENE_MOST_OBJECTS] = {0};
    canvas c = {out->side, room, room + n, room + 2 * n};
    rng r = p->backdrop;
    out->count = p->count;
    backdrop_paint(&c, &r, s->book, room + 3 * n);
    memset(out->object[0].mask, 0, n * p->count);
    for (size_t k = 0; k < p->count; k++) {
        out->object[k].mask = out->object[0].mask + k * n;
        if (hidden >> k & 1) continue;
        tile t = item_paint(s, &p->items[k], &c, room + 3 * n);
        canvas_put(&c, &t, 1);
        own[k] = masks_cover(out, k, &t);
    }
    canvas_flatten(&c, out->image.rgb);
    bool ok = true;
    for (size_t k = 0; k < p->count; k++)
        if (hidden == 0) ok &= object_measure(out, k, own[k]);
    return ok;
}

static void name_objects(const scene_source *s, const plan *p, scene *out) {
    for (size_t k = 0; k < p->count; k++) {
        const item *it = &p->items[k];
        scene_object *o = &out->object[k];
        const char *name = scene_name(s, it->name);
        memcpy(o->name, name, strlen(name) + 1); /* names are shorter than their field: stamps.c, things.h */
        strcpy(o->colour, s->book != NULL ? stamp_colour(s->book, it->stamp) : palette[it->colour].name);
        strcpy(o->texture, s->book != NULL ? "" : textures[it->texture]);
    }
}
static void describe_scene(scene *out, rng *r) {
    char phrases[MOST_PHRASES][PHRASE_ROOM];
    grammar_caption(out, r, out->caption, sizeof out->caption, &out->claim);
    for (size_t k = 0; k < out->count; k++) {
        size_t n = grammar_phrases(out, k, phrases);
        strcpy(out->object[k].phrase, phrases[rng_chance(r, 0.5f) ? 0 : rng_below(r, n)]);
    }
}

bool scene_make_hiding(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most,
                       unsigned hidden, scene *out, err *e) {
    enum { ATTEMPTS = 12 };
    memset(out, 0, sizeof *out);
    if (side < SCENE_LEAST_SIDE || side > SCENE_MOST_SIDE)
        return err_set(e, "scene: side %zu, expected %d to %d", side, SCENE_LEAST_SIDE, SCENE_MOST_SIDE);
    if (least < 1 || most < least || most > SCENE_MOST_OBJECTS)
        return err_set(e, "scene: %zu to %zu objects, expected 1 to %d", least, most, SCENE_MOST_OBJECTS);
    float *room = mem_alloc(3 * side * side + tile_room(side), sizeof *room);
    out->side = out->image.width = out->image.height = side;
    out->image.rgb = mem_alloc(3 * side * side, 1);
    out->object[0].mask = mem_alloc(most * side * side, 1);
    if (room == NULL || out->image.rgb == NULL || out->object[0].mask == NULL) {
        mem_free(room);
        scene_free(out);
        return err_set(e, "scene: out of memory for %zu x %zu pixels", side, side);
    }
    plan p;
    for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        p = plan_make(s, seed, index, least, most, attempt);
        if (plan_paint(s, &p, 0, room, out)) break;
    }
    name_objects(s, &p, out);
    describe_scene(out, &p.words);
    if (hidden != 0) plan_paint(s, &p, hidden, room, out);
    mem_free(room);
    return true;
}
bool scene_make(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most, scene *out,
                err *e) {
    return scene_make_hiding(s, seed, index, side, least, most, 0, out, e);
}
void scene_free(scene *sc) {
    picture_free(&sc->image);
    mem_free(sc->object[0].mask);
    memset(sc, 0, sizeof *sc);
}
