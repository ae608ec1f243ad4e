/* stamps.c - cut-outs: found in a folder, named from their descriptions, kept small, painted at any size (see stamps.h). */
#include "scenes/stamps.h"
#include "files/files.h"
#include "os/os.h"
#include <math.h>
#include <stb_image.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = 6, LARGEST = 128, LEAST_SIDE = 40, SMEAR_SIDE = 14, MOST_FILE = 32 << 20 };

typedef struct {
    char name[48], colour[16];
    size_t class;
    bool flips;
    size_t levels, width[LEVELS], height[LEVELS];
    unsigned char *rgba[LEVELS]; /* premultiplied; one block, the first's */
} stamp;

struct stamp_book {
    stamp *stamps;
    size_t count, room;
    size_t *first; /* where each name's cut-outs begin; one more than names */
    size_t names;
};

/* ---- names ---------------------------------------------------------------------------------------- */
static bool among(const char *word, const char *const *list) {
    for (; *list != NULL; list++)
        if (strcmp(word, *list) == 0) return true;
    return false;
}
static const char *const articles[] = {"a", "an", "the", "some", "our", "two", "another", NULL};
static const char *const colours[] = {"red",  "orange", "yellow", "green", "blue",   "purple", "pink",
                                      "brown", "black",  "white",  NULL};
/* Words that say how a thing is, not what it is. */
static const char *const adjectives[] = {
    "happy",   "big",     "little", "large",    "huge",       "small",      "very",     "ripe",      "sitting",
    "eared",   "singing", "great",  "colorful", "sleeping",   "european",   "lit",      "toy",       "floppy-eared",
    "modern",  "spiny",   "metal",  "poisonous", "freshwater", "adhesive",  "closed",   "adjustable", "plumber's",
    "open",    "male",    "sweet",  "wooden",   "medieval",   "round",      "square",   "old-fashioned", "swiss",
    "bolted",  "stripey", "common", "chinese",  "dream",      "plastic",    "full",     "magellanic", "albino",
    "headed",  "home",    "folded", "edward",   "uk",         "vw",         "checkered", "adelaide", "helmeted",
    "crowned", "old",     "granny", "smith",    "fuji",       "sierra",     "beauty",   "seville",   "sumatran",
    "tamworth", "silver", "garden", "indian",   "tough",      "seasonal",   "emperor",  "mandarin",  "pattypan", NULL};
/* Measures, dropped with the "of" that follows. */
static const char *const measures[] = {"pair",   "bunch", "cluster", "head",  "string", "quarter",
                                       "couple", "plant", "piece",   NULL};
/* Where the name ends and the story begins. */
static const char *const endings[] = {"with",   "at",    "in",     "and",  "from",  "playing", "dancing",   "used",
                                      "called", "named", "covered", "for", "on",    "is",      "that",      "lets",
                                      "making", "inside", "hatched", "are", "means", "carry",  "resembles", "as",
                                      "ahead",  "or",    "carries", NULL};
/* Descriptions that name nothing. */
static const char *const nothing[] = {
    "remember", "this",   "these",   "we",    "eat",     "enter",  "no",   "down", "because", "shin",    "nun",  "hei",
    "gimel",    "boom",   "give",    "dead",  "school",  "police", "tux",  "mars", "mercury", "jupiter", "it's", "fast",
    "venus",    "uranus", "neptune", "pluto", "penguins", "alien", "tankers", "flowers", "voyager-2", "f-22", NULL};

/* Two names for what looks the same: the first is called the second. */
static const char *const aliases[][2] = {
    {"headstone", "gravestone"},     {"tombstone", "gravestone"},  {"grave marker", "gravestone"}, {"bunny", "rabbit"},
    {"cemetery marker", "gravestone"}, {"monument stone", "gravestone"}, {"garlic bulb", "garlic"}, {"gull", "seagull"},
    {"hibiscus flower", "hibiscus"}, {"cep", "mushroom"},          {"doe", "deer"},                {"dromedary", "camel"},
    {"t shirt", "shirt"},            {"polo shirt", "shirt"},      {"star petunia", "petunia"},    {"drake", "duck"}};

enum { MOST_WORDS = 16, WORD_ROOM = 24 };

/* The first sentence's words in lower case, quotes dropped; a comma is a word of its own. */
static size_t words_of(const char *line, char words[MOST_WORDS][WORD_ROOM]) {
    size_t count = 0, length = 0;
    for (const char *s = line;; s++) {
        unsigned char ch = (unsigned char)*s;
        bool curly = ch == 0xE2 && (unsigned char)s[1] == 0x80 && s[2] != 0;
        bool dash = curly && ((unsigned char)s[2] == 0x94 || (unsigned char)s[2] == 0x93);
        bool apostrophe = ch == '\'' || (curly && (unsigned char)s[2] == 0x99);
        bool possessive = apostrophe && (curly ? s[3] : s[1]) == 's';
        bool stop = ch == 0 || strchr(".!:;(\n\r", ch) != NULL || dash;
        if (stop || ch == ' ' || ch == ',') {
            if (length > 0) words[count++][length] = 0;
            length = 0;
            if (stop || count + 2 > MOST_WORDS) return count;
            if (ch == ',') strcpy(words[count++], ",");
            if (count + 1 > MOST_WORDS) return count;
            continue;
        }
        if (curly) s += 2;
        if (possessive) ch = '\'';
        else if (curly || apostrophe || ch == '"') continue;
        else if (ch >= 'A' && ch <= 'Z') ch = (unsigned char)(ch - 'A' + 'a');
        if (length + 1 < WORD_ROOM) words[count][length++] = (char)ch;
    }
}

bool stamp_describe(const char *line, char name[48], char colour[16]) {
    char words[MOST_WORDS][WORD_ROOM];
    size_t n = words_of(line, words), from = 0, to = 0;
    name[0] = colour[0] = 0;
    if (n == 0 || words[0][0] == ',' || strncmp(line, "\xE2\x80\x9C", 3) == 0) return false;
    bool article = among(words[0], articles);
    if (article) from = 1;
    for (to = from; to < n && !among(words[to], endings); to++)
        if (strcmp(words[to], ",") == 0 && !among(words[to - 1], adjectives)) break;
    if (to < n && strcmp(words[to], ",") != 0) article = true; /* a sentence about it: its subject comes first */
    if (from + 2 < to && among(words[from], measures) && strcmp(words[from + 1], "of") == 0) from += 2;
    while (from + 1 < to) {
        bool hue = among(words[from], colours);
        if (hue) strcpy(colour, words[from]);
        if (!hue && strcmp(words[from], ",") != 0 && !among(words[from], adjectives) && !among(words[from], articles)) break;
        from++;
    }
    if (from >= to || to - from > (article ? 3u : 2u) || among(words[from], nothing)) return false;
    bool bare = among(words[from], adjectives) || (among(words[from], colours) && strcmp(words[from], "orange") != 0);
    if (to - from == 1 && bare) return false;
    for (size_t i = from; i < to; i++) {
        if (strlen(name) + strlen(words[i]) + 2 > 40 || strcmp(words[i], "of") == 0) return false;
        if (i > from) strcat(name, " ");
        strcat(name, words[i]);
    }
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcmp(name, aliases[i][0]) == 0) strcpy(name, aliases[i][1]);
    return true;
}

/* ---- the colour that prevails ------------------------------------------------------------------- */
static size_t hue_name(float r, float g, float b) {
    enum { RED, ORANGE, YELLOW, GREEN, BLUE, PURPLE, PINK, BROWN, BLACK, WHITE, GREY };
    float most = r > g ? (r > b ? r : b) : (g > b ? g : b), least = r < g ? (r < b ? r : b) : (g < b ? g : b);
    float d = most - least;
    if (most < 60) return BLACK;
    if (d < 0.18f * most) return most > 205 ? WHITE : GREY;
    float h = most == r ? 60 * (g - b) / d : most == g ? 120 + 60 * (b - r) / d : 240 + 60 * (r - g) / d;
    if (h < 0) h += 360;
    if (h < 12 || h > 345) return most > 200 && d < 0.5f * most ? PINK : RED;
    if (h < 42) return most < 185 || d < 0.4f * most ? BROWN : ORANGE;
    if (h < 68) return most < 140 ? BROWN : YELLOW;
    return h < 168 ? GREEN : h < 258 ? BLUE : h < 295 ? PURPLE : PINK;
}
static void prevailing(stamp *s) {
    size_t level = s->levels > 1 ? 1 : 0;
    float sum[11] = {0}, all = 0;
    for (size_t i = 0; i < s->width[level] * s->height[level]; i++) {
        const unsigned char *p = s->rgba[level] + 4 * i;
        if (p[3] < 64) continue;
        float k = 255.0f / (float)p[3];
        sum[hue_name((float)p[0] * k, (float)p[1] * k, (float)p[2] * k)] += (float)p[3];
        all += (float)p[3];
    }
    for (size_t i = 0; i < 10; i++)
        if (sum[i] > 0.7f * all) strcpy(s->colour, colours[i]);
}

/* ---- pixels ---------------------------------------------------------------------------------------- */
/* Area average of the box (x0, y0, w, h) of in, straight RGBA, to [oh, ow] premultiplied. */
static void shrink(const unsigned char *in, size_t stride, size_t x0, size_t y0, size_t w, size_t h, unsigned char *out,
                   size_t ow, size_t oh) {
    for (size_t y = 0; y < oh; y++)
        for (size_t x = 0; x < ow; x++) {
            size_t ya = y * h / oh, yb = (y + 1) * h / oh, xa = x * w / ow, xb = (x + 1) * w / ow;
            float sum[4] = {0, 0, 0, 0};
            if (yb <= ya) yb = ya + 1;
            if (xb <= xa) xb = xa + 1;
            for (size_t j = ya; j < yb; j++)
                for (size_t i = xa; i < xb; i++) {
                    const unsigned char *p = in + 4 * ((y0 + j) * stride + x0 + i);
                    float a = (float)p[3] * (1.0f / 255);
                    sum[0] += (float)p[0] * a, sum[1] += (float)p[1] * a, sum[2] += (float)p[2] * a, sum[3] += (float)p[3];
                }
            float k = 1 / (float)((yb - ya) * (xb - xa));
            for (size_t c = 0; c < 4; c++) out[4 * (y * ow + x) + c] = (unsigned char)(sum[c] * k + 0.5f);
        }
}
static void halve(const unsigned char *in, size_t w, size_t h, unsigned char *out, size_t ow, size_t oh) {
    for (size_t y = 0; y < oh; y++)
        for (size_t x = 0; x < ow; x++)
            for (size_t c = 0; c < 4; c++) {
                size_t xa = 2 * x, ya = 2 * y, xb = xa + 1 < w ? xa + 1 : xa, yb = ya + 1 < h ? ya + 1 : ya;
                int sum = in[4 * (ya * w + xa) + c] + in[4 * (ya * w + xb) + c] + in[4 * (yb * w + xa) + c] +
                               in[4 * (yb * w + xb) + c];
                out[4 * (y * ow + x) + c] = (unsigned char)((sum + 2) / 4);
            }
}
static size_t half(size_t n) { return n > 1 ? (n + 1) / 2 : 1; }

/* Cuts the picture to what is opaque, and makes its levels. False: too small, or out of memory (*memory). */
static bool levels_make(stamp *s, const unsigned char *rgba, size_t width, size_t height, bool *memory) {
    size_t x0 = width, y0 = height, x1 = 0, y1 = 0, total = 0;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++) {
            if (rgba[4 * (y * width + x) + 3] < 24) continue;
            x0 = x < x0 ? x : x0, x1 = x + 1 > x1 ? x + 1 : x1, y0 = y < y0 ? y : y0, y1 = y + 1;
        }
    if (x1 <= x0) return false;
    size_t w = x1 - x0, h = y1 - y0, longer = w > h ? w : h, shorter = w < h ? w : h;
    if (longer < LEAST_SIDE || shorter * 8 < longer) return false;
    s->width[0] = longer > LARGEST ? w * LARGEST / longer : w, s->height[0] = longer > LARGEST ? h * LARGEST / longer : h;
    for (s->levels = 1; s->levels < LEVELS; s->levels++) {
        size_t k = s->levels;
        s->width[k] = half(s->width[k - 1]), s->height[k] = half(s->height[k - 1]);
        if (s->width[k] < 6 && s->height[k] < 6) break;
    }
    for (size_t k = 0; k < s->levels; k++) total += 4 * s->width[k] * s->height[k];
    unsigned char *block = mem_alloc(total, 1);
    if (block == NULL) return *memory = false;
    for (size_t k = 0; k < s->levels; block += 4 * s->width[k] * s->height[k], k++) s->rgba[k] = block;
    shrink(rgba, width, x0, y0, w, h, s->rgba[0], s->width[0], s->height[0]);
    for (size_t k = 1; k < s->levels; k++)
        halve(s->rgba[k - 1], s->width[k - 1], s->height[k - 1], s->rgba[k], s->width[k], s->height[k]);
    return true;
}

/* ---- the folder -------------------------------------------------------------------------------------- */
typedef struct { char **paths; size_t count, room; } path_list;

static bool path_add(path_list *l, const char *path) {
    if (!mem_grow(&l->paths, &l->room, l->count + 1, sizeof *l->paths)) return false;
    char *copy = mem_text(path);
    if (copy) l->paths[l->count++] = copy;
    return copy != NULL;
}
static void paths_free(path_list *l) {
    for (size_t i = 0; i < l->count; i++) mem_free(l->paths[i]);
    mem_free(l->paths);
}
/* Every picture below the folder; symbols and mirrored twins apart. */
typedef struct {
    const char *folder;
    path_list *list;
    int depth;
    bool ok; /* false: out of memory */
} walk;
static bool walk_into(void *arg, const char *name) {
    walk *w = arg;
    char path[4096];
    if (name[0] == '.' || strlen(w->folder) + strlen(name) + 2 > sizeof path) return true;
    strcat(strcat(strcpy(path, w->folder), "/"), name);
    if (ends_with(name, ".png")) {
        if (!ends_with(name, "_mirror.png") && !ends_with(name, "_flip.png")) w->ok = path_add(w->list, path);
    } else if (w->depth < 8 && strchr(name, '.') == NULL && strcmp(name, "symbols") != 0) {
        walk below = {path, w->list, w->depth + 1, true};
        os_folder_each(path, walk_into, &below); /* what cannot be read is passed over */
        w->ok = below.ok;
    }
    return w->ok;
}
static int by_path(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static int by_name(const void *a, const void *b) {
    const stamp *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : x->class < y->class ? -1 : x->class > y->class; /* class: still the path's order */
}

/* The companion file's text (path.txt, path.dat); *text is NULL where there is none. */
static bool companion(const char *path, const char *ending, char **text, err *e) {
    char other[4096];
    size_t length;
    *text = NULL;
    strcpy(other, path);
    strcpy(other + strlen(other) - 4, ending);
    return !file_exists(other) || (*text = file_read(other, 1 << 16, &length, e)) != NULL;
}

/* The picture as RGBA; *rgba is NULL where it is none that we can use: passed over. False: no memory, or unreadable. */
static bool pixels_read(const char *path, unsigned char **rgba, int *w, int *h, err *e) {
    size_t length;
    int n = 0;
    *rgba = NULL;
    char *bytes = file_read(path, MOST_FILE, &length, e);
    if (bytes == NULL) return false;
    const unsigned char *data = (const unsigned char *)bytes;
    bool fits = stbi_info_from_memory(data, (int)length, w, h, &n) && *w > 0 && *h > 0 && *w <= 4096 && *h <= 4096;
    bool wanted = fits && (n == 2 || n == 4); /* with alpha */
    if (wanted) *rgba = stbi_load_from_memory(data, (int)length, w, h, &n, 4);
    mem_free(bytes);
    if (!wanted || *rgba != NULL || strcmp(stbi_failure_reason(), "outofmem") != 0) return true;
    return err_set(e, "%s: out of memory", path);
}

/* Reads one cut-out. *used: it is one that we can name and see. */
static bool stamp_read(stamp *s, const char *path, bool *used, err *e) {
    char *text;
    unsigned char *rgba;
    int w = 0, h = 0;
    bool memory = true;
    *used = false;
    if (!companion(path, ".txt", &text, e)) return false;
    bool named = text != NULL && stamp_describe(text, s->name, s->colour);
    mem_free(text);
    if (!named) return true;
    if (!companion(path, ".dat", &text, e)) return false;
    s->flips = text == NULL || strstr(text, "nomirror") == NULL;
    mem_free(text);
    if (!pixels_read(path, &rgba, &w, &h, e)) return false;
    if (rgba != NULL) *used = levels_make(s, rgba, (size_t)w, (size_t)h, &memory);
    stbi_image_free(rgba);
    if (*used && s->colour[0] == 0) prevailing(s);
    return memory ? true : err_set(e, "%s: out of memory", path);
}

static bool book_fill(stamp_book *b, const path_list *l, err *e) {
    b->stamps = mem_alloc(l->count, sizeof *b->stamps), b->first = mem_alloc(l->count + 1, sizeof *b->first);
    if (b->stamps == NULL || b->first == NULL) return err_set(e, "out of memory for %zu cut-outs", l->count);
    for (size_t i = 0; i < l->count; i++) {
        bool used;
        stamp *s = &b->stamps[b->count];
        if (!stamp_read(s, l->paths[i], &used, e)) return false;
        s->class = i;
        if (used) b->count++;
        else memset(s, 0, sizeof *s);
    }
    qsort(b->stamps, b->count, sizeof *b->stamps, by_name);
    for (size_t i = 0; i < b->count; i++) {
        if (i == 0 || strcmp(b->stamps[i].name, b->stamps[i - 1].name) != 0) b->first[b->names++] = i;
        b->stamps[i].class = b->names - 1;
    }
    b->first[b->names] = b->count;
    return true;
}

stamp_book *stamps_open(const char *folder, err *e) {
    path_list l = {0};
    if (folder == NULL) folder = STAMPS_FOLDER;
    if (!folder_exists(folder)) {
        err_set(e, "%s: no such folder; photographic scenes need Debian's package " STAMPS_PACKAGE
                   " (or --stamps DIR with PNG cut-outs, each named by the first line of a .txt beside it)", folder);
        return NULL;
    }
    stamp_book *b = mem_alloc(1, sizeof *b);
    walk all = {folder, &l, 0, true};
    if (b != NULL) os_folder_each(folder, walk_into, &all);
    bool ok = b != NULL && all.ok;
    if (!ok) err_set(e, "%s: out of memory", folder);
    if (ok && l.count > 0) {
        qsort(l.paths, l.count, sizeof *l.paths, by_path);
        ok = book_fill(b, &l, e);
    }
    if (ok && b->names < 2)
        ok = err_set(e, "%s: found %zu cut-outs with a name, expected at least 2 (PNG with alpha and a .txt, as in Debian's "
                        "package " STAMPS_PACKAGE ")", folder, b->names);
    paths_free(&l);
    if (ok) return b;
    stamps_free(b);
    return NULL;
}
void stamps_free(stamp_book *b) {
    if (b == NULL) return;
    for (size_t i = 0; b->stamps != NULL && i < b->count; i++) mem_free(b->stamps[i].rgba[0]);
    mem_free(b->stamps), mem_free(b->first), mem_free(b);
}
size_t stamp_names(const stamp_book *b) { return b->names; }
const char *stamp_name(const stamp_book *b, size_t name) { return b->stamps[b->first[name]].name; }
size_t stamps_of(const stamp_book *b, size_t name) { return b->first[name + 1] - b->first[name]; }
size_t stamp_of(const stamp_book *b, size_t name, size_t n) { return b->first[name] + n; }
const char *stamp_colour(const stamp_book *b, size_t i) { return b->stamps[i].colour; }
bool stamp_flips(const stamp_book *b, size_t i) { return b->stamps[i].flips; }

/* ---- painting ----------------------------------------------------------------------------------- */
static float longer_side(const stamp *s, size_t level) {
    return (float)(s->width[level] > s->height[level] ? s->width[level] : s->height[level]);
}

void stamp_bounds(const stamp_book *b, size_t i, const stamp_pose *p, float box[4]) {
    const stamp *s = &b->stamps[i];
    float sn, cs, k = 0.5f * p->scale / longer_side(s, 0), w = (float)s->width[0] * k, h = (float)s->height[0] * k;
    sine(p->degrees, &sn, &cs);
    float hx = fabsf(w * cs) + fabsf(h * sn), hy = fabsf(w * sn) + fabsf(h * cs);
    box[0] = p->cx - hx, box[1] = p->cy - hy, box[2] = p->cx + hx, box[3] = p->cy + hy;
}

/* Bilinear; beyond the edge lies nothing. out: r, g, b, a in 0..255, premultiplied. */
static void sample(const unsigned char *rgba, long w, long h, float x, float y, float out[4]) {
    out[0] = out[1] = out[2] = out[3] = 0;
    if (!(x > -1 && y > -1 && x < (float)w && y < (float)h)) return;
    long x0 = (long)(x + 1) - 1, y0 = (long)(y + 1) - 1;
    float fx = x - (float)x0, fy = y - (float)y0;
    for (long j = 0; j < 2; j++)
        for (long i = 0; i < 2; i++) {
            if (x0 + i < 0 || x0 + i >= w || y0 + j < 0 || y0 + j >= h) continue;
            float k = (i == 1 ? fx : 1 - fx) * (j == 1 ? fy : 1 - fy);
            const unsigned char *p = rgba + 4 * ((y0 + j) * w + x0 + i);
            out[0] += k * (float)p[0], out[1] += k * (float)p[1], out[2] += k * (float)p[2], out[3] += k * (float)p[3];
        }
}

void stamp_paint(const stamp_book *b, size_t i, const stamp_pose *p, float gain, tile *t) {
    const stamp *s = &b->stamps[i];
    size_t level = 0;
    while (level + 1 < s->levels && longer_side(s, level + 1) >= p->scale) level++;
    float sn, cs, k = longer_side(s, level) / p->scale, q[4];
    float w = (float)s->width[level], h = (float)s->height[level];
    sine(p->degrees, &sn, &cs);
    for (size_t y = 0; y < t->height; y++)
        for (size_t x = 0; x < t->width; x++) {
            float dx = (float)(t->x0 + (long)x) + 0.5f - p->cx, dy = (float)(t->y0 + (long)y) + 0.5f - p->cy;
            float u = (dx * cs + dy * sn) * k, v = (dy * cs - dx * sn) * k;
            size_t at = y * t->width + x;
            sample(s->rgba[level], (long)s->width[level], (long)s->height[level], (p->flip ? -u : u) + w * 0.5f - 0.5f,
                   v + h * 0.5f - 0.5f, q);
            float most = q[3];
            for (int c = 0; c < 3; c++) q[c] = q[c] * gain < most ? q[c] * gain : most;
            t->r[at] = q[0], t->g[at] = q[1], t->b[at] = q[2], t->a[at] = q[3] * (1.0f / 255);
        }
}

void stamp_smear(const stamp_book *b, rng *r, canvas *c, float opacity) {
    const stamp *s = &b->stamps[rng_below(r, b->count)];
    size_t level = 0;
    while (level + 1 < s->levels && longer_side(s, level) > (float)SMEAR_SIDE) level++;
    float w = (float)s->width[level], h = (float)s->height[level], q[4], k = rng_range(r, 0.5f, 0.8f) / (float)c->side;
    for (size_t y = 0; y < c->side; y++)
        for (size_t x = 0; x < c->side; x++) {
            size_t at = y * c->side + x;
            sample(s->rgba[level], (long)s->width[level], (long)s->height[level],
                   ((float)(int)x - 0.5f * (float)c->side) * k * w + 0.5f * w - 0.5f,
                   ((float)(int)y - 0.5f * (float)c->side) * k * h + 0.5f * h - 0.5f, q);
            float keep = 1 - q[3] * (1.0f / 255) * opacity;
            c->r[at] = c->r[at] * keep + q[0] * opacity, c->g[at] = c->g[at] * keep + q[1] * opacity;
            c->b[at] = c->b[at] * keep + q[2] * opacity;
        }
}
