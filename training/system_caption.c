/* system_caption.c - ./train caption: a captioner for the model's own world (ClipCap, Mokady et al. 2021; MODEL.md 12).
 *
 * Model. z = sqrt(E) e/|e| + s noise;  prefix = W_2 tanh(W_1 z + b_1) + b_2, k rows;  a causal transformer continues them.
 * Loss. Cross entropy of each word, the end included, given the prefix and the words before it (12.3).
 * Data. Scenes of one to four objects, embedded once; each time they are seen, another sentence: all their objects in a random
 *       order, "a striped red fish and a blue car". A sentence of several objects leaves it open which comes first, and noise
 *       teaches the map a neighbourhood: together they double what is read of a region's embedding, which is no picture's.
 */
#include "training/systems.h"
#include "parts/captioner.h"
#include "scenes/grammar.h"
#include "sys/random.h"
#include "training/stored.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the recipe -------------------------------------------------------------------------------------------- */
enum { C_SCENES = T_OWN, C_LEAST, C_MOST, C_NOISE, C_PREFIX, C_WIDTH, C_LAYERS, C_HEADS, C_COUNT };
static const setting recipe[C_COUNT] = {
    SYSTEM_SETTINGS(1000, 128, 2e-3, 50, 0.1, 0.99, 8),
    [C_SCENES] = {"scenes", 16000, 8, 1e7, SET_DATA, "that are embedded, once", false, false},
    [C_LEAST] = {"least-objects", 1, 1, 4, SET_DATA, "fewest objects in a scene", false, false},
    [C_MOST] = {"most-objects", 4, 1, 4, SET_DATA, "most objects in a scene", false, false},
    [C_NOISE] = {"noise", 0.5, 0, 10, SET_DATA, "its deviation, beside components of the embedding of about 1", false, true},
    [C_PREFIX] = {"prefix", 4, 1, 64, SET_SHAPE, "rows that the embedding becomes", false, false},
    [C_WIDTH] = {"width", 128, 8, 4096, SET_SHAPE, "of the decoder", false, false},
    [C_LAYERS] = {"layers", 2, 1, DECODER_MOST_LAYERS, SET_SHAPE, "blocks of the decoder", false, false},
    [C_HEADS] = {"heads", 4, 1, 64, SET_SHAPE, "attention heads of the decoder", false, false},
};

/* ---- data --------------------------------------------------------------------------------------------------- */
enum { PAD, END, LONGEST = 36, SENTENCE = 320, SAID = SAY_COLOUR | SAY_TEXTURE };

typedef struct {
    scene_source *source;
    stored seen, held;
    char **words; /* [count], the first two are padding and the end */
    size_t count, room;
    real *z;       /* [batch, E] */
    uint32_t *ids; /* [batch, length] */
    size_t length;
    real weight; /* 1 / words of the batch */
} data;

/* All objects of a scene in a random order. */
static void say_scene(const stored_scene *s, rng *r, char out[SENTENCE]) {
    size_t order[SCENE_MOST_OBJECTS];
    for (size_t i = 0; i < s->count; i++) {
        size_t k = rng_below(r, i + 1);
        order[i] = order[k], order[k] = i;
    }
    grammar_list(s->object, order, s->count, SAID, out, SENTENCE);
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static size_t find_word(const data *d, const char *word, size_t n) {
    size_t low = 2, high = d->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strncmp(d->words[mid], word, n);
        if (c == 0 && d->words[mid][n]) c = 1;
        if (c == 0) return mid;
        if (c < 0) low = mid + 1;
        else high = mid;
    }
    return SIZE_MAX;
}

static bool add_word(data *d, const char *word, size_t n, err *e) {
    char *copy = mem_text_of(word, n);
    if (!copy || !mem_grow(&d->words, &d->room, d->count + 1, sizeof *d->words)) {
        mem_free(copy);
        return err_set(e, "no memory for words");
    }
    d->words[d->count++] = copy;
    return true;
}

/* The words of all the sentences, sorted. */
static bool learn_words(data *d, err *e) {
    if (!add_word(d, "", 0, e) || !add_word(d, ".", 1, e)) return false;
    for (size_t i = 0; i < d->seen.count; i++) {
        char text[SENTENCE];
        rng r = rng_start(0, i);
        say_scene(&d->seen.told[i], &r, text);
        for (const char *at = text, *next; *at; at = next) {
            size_t n = strcspn(at, " ");
            next = at + n + (at[n] == ' ');
            if (find_word(d, at, n) != SIZE_MAX) continue;
            if (!add_word(d, at, n, e)) return false;
            qsort(d->words + 2, d->count - 2, sizeof *d->words, by_bytes);
        }
    }
    return add_word(d, "and", 3, e) ? qsort(d->words + 2, d->count - 2, sizeof *d->words, by_bytes), true : false;
}

static bool open_data(system_job *j, err *e) {
    data *d = j->own;
    size_t batch = (size_t)j->s[T_BATCH].value, E = j->model->config.embed;
    if (fmod(j->s[C_WIDTH].value, j->s[C_HEADS].value) != 0)
        return err_set(e, "--width %g is no multiple of --heads %g", j->s[C_WIDTH].value, j->s[C_HEADS].value);
    if (j->s[C_LEAST].value > j->s[C_MOST].value)
        return err_set(e, "--least-objects %g: more than --most-objects %g", j->s[C_LEAST].value, j->s[C_MOST].value);
    if (!(d->source = scene_source_open(SCENE_DRAWN, NULL, e))) return false;
    stored_plan plan = {.model = j->model, .source = d->source, .seed = mix64((uint64_t)j->s[T_SEED].value, 11),
                        .count = (size_t)j->s[C_SCENES].value, .least = (size_t)j->s[C_LEAST].value, .most = (size_t)j->s[C_MOST].value};
    if (!j->options->quiet) printf("caption: embedding %zu scenes\n", plan.count), fflush(stdout);
    if (!stored_make(&d->seen, &plan, j->cores, e)) return false;
    plan.seed = HELD_OUT, plan.count = (size_t)j->s[T_VALID].value, plan.least = plan.most = 1;
    if (plan.count && !stored_make(&d->held, &plan, j->cores, e)) return false;
    d->z = mem_alloc(batch, E * sizeof *d->z);
    d->ids = mem_alloc(batch, LONGEST * sizeof *d->ids);
    return (d->z && d->ids) ? learn_words(d, e) : err_set(e, "no memory for a batch of %zu", batch);
}

static void close_data(system_job *j) {
    data *d = j->own;
    for (size_t i = 0; i < d->count; i++) mem_free(d->words[i]);
    mem_free(d->words), mem_free(d->z), mem_free(d->ids);
    stored_free(&d->seen), stored_free(&d->held);
    if (d->source) scene_source_free(d->source);
}

/* Words of a sentence and the end, zero-padded to LONGEST; returns how many. */
static size_t word_ids(const data *d, const char *text, uint32_t *ids) {
    size_t n = 0;
    memset(ids, 0, LONGEST * sizeof *ids);
    for (const char *at = text, *next; *at && n + 1 < LONGEST; at = next) {
        size_t length = strcspn(at, " ");
        next = at + length + (at[length] == ' ');
        ids[n++] = (uint32_t)find_word(d, at, length);
    }
    ids[n++] = END;
    return n;
}

static bool next_batch(system_job *j, uint64_t step, err *e) {
    data *d = j->own;
    size_t batch = (size_t)j->s[T_BATCH].value, E = d->seen.embed, words = 0;
    uint64_t key = mix64((uint64_t)j->s[T_SEED].value, 12), noise = mix64((uint64_t)j->s[T_SEED].value, 13);
    (void)e;
    d->length = 0;
    for (size_t b = 0; b < batch; b++) {
        rng r = rng_start(key, step * batch + b);
        size_t i = rng_below(&r, d->seen.count), n;
        char text[SENTENCE];
        say_scene(&d->seen.told[i], &r, text);
        n = word_ids(d, text, d->ids + b * LONGEST);
        words += n, d->length = n > d->length ? n : d->length;
        for (size_t k = 0; k < E; k++) /* (12.4) */
            d->z[b * E + k] = (real)(sqrt((double)E) * (double)d->seen.z[i * E + k] +
                                     j->s[C_NOISE].value * mix_normal(mix64(noise, step * batch + b), k));
    }
    for (size_t b = 1; b < batch; b++) memmove(d->ids + b * d->length, d->ids + b * LONGEST, d->length * sizeof *d->ids);
    d->weight = 1 / (real)words;
    return true;
}

/* ---- the network, and its loss ---------------------------------------------------------------------------------- */
static void list_weights(const system_job *j, void *net, part_list *l) {
    captioner_net *n = net;
    const setting *s = j->s;
    size_t prefix = (size_t)s[C_PREFIX].value;
    n->embed = j->model->config.embed, n->prefix = prefix;
    n->d.shape = (decoder_shape){.vocab = ((const data *)j->own)->count, .length = prefix + LONGEST, .width = (size_t)s[C_WIDTH].value,
                                 .heads = (size_t)s[C_HEADS].value, .layers = (size_t)s[C_LAYERS].value};
    captioner_weights(n, l);
}

static ag_tensor *loss(const system_job *j, void *net, ag_tape *t, size_t first, size_t last, system_share *out) {
    const data *d = j->own;
    const captioner_net *n = net;
    const uint32_t *ids = d->ids + first * d->length;
    size_t B = last - first;
    ag_tensor *prefix = captioner_prefix(t, n, ag_constant(t, d->z + first * n->embed, B, 1, n->embed));
    ag_tensor *logits = captioner_logits(t, n, prefix, ids, d->length);
    for (size_t i = 0; logits && i < B * d->length; i++) {
        const real *row = logits->data + i * logits->cols;
        bool best = ids[i] != PAD;
        for (size_t v = 0; best && v < logits->cols; v++) best = row[v] <= row[ids[i]];
        out->right += best ? (double)d->weight : 0;
    }
    return captioner_loss(t, logits, ids, PAD, d->weight);
}

/* ---- held-out single objects: does the first noun name it? --------------------------------------------------------- */
static void join_words(const data *d, const uint32_t *ids, size_t n, char out[SENTENCE]) {
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < n && ids[i] != END && at + 64 < SENTENCE; i++)
        at += (size_t)snprintf(out + at, SENTENCE - at, "%s%.60s", at ? " " : "", d->words[ids[i]]);
}

static bool valid(system_job *j, void *net, arena *memory, double *share, err *e) {
    const data *d = j->own;
    const captioner_net *n = net;
    size_t E = n->embed, right = 0, mark = arena_mark(memory);
    decoder_saying how = {.stop = END, .most = LONGEST, .beams = 1};
    for (size_t i = 0; i < d->held.count; i++, arena_reset(memory, mark)) {
        ag_tape t;
        uint32_t ids[LONGEST];
        size_t count;
        char text[SENTENCE];
        scene_object said;
        if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
        t.recording = false;
        ag_tensor *z = ag_scale(&t, ag_constant(&t, d->held.z + i * E, 1, 1, E), (real)sqrt((double)E), 0);
        if (!decoder_say(&t, &n->d, captioner_prefix(&t, n, z), &how, ids, &count, NULL, e)) return false;
        join_words(d, ids, count, text);
        right += grammar_first(text, &said) && !strcmp(said.name, d->held.told[i].object[0].name);
    }
    *share = (double)right / (double)d->held.count;
    return true;
}

/* ---- the part's file ------------------------------------------------------------------------------------------------- */
static bool write_part(const system_job *j, void *net, const part_list *l, const char *path, err *e) {
    (void)net;
    const data *d = j->own;
    size_t bytes = 0, at = 0;
    float heads = (float)j->s[C_HEADS].value;
    for (size_t i = 0; i < d->count; i++) bytes += strlen(d->words[i]) + 1;
    char *words = mem_alloc(bytes, 1);
    if (!words) return err_set(e, "no memory for words");
    for (size_t i = 0; i < d->count; i++) {
        size_t n = strlen(d->words[i]);
        memcpy(words + at, d->words[i], n);
        words[at + n] = '\n', at += n + 1;
    }
    part_extra extra[] = {{"heads", "F32", {1, 0}, 1, &heads, sizeof heads}, {"words", "U8", {bytes, 0}, 1, words, bytes}};
    bool good = part_write(l, path, "F16", extra, 2, e);
    mem_free(words);
    return good;
}

const training_system caption_system = {
    .name = "caption", .what = "a captioner: sentences from an embedding",
    .recipe = recipe, .settings = C_COUNT, .data_size = sizeof(data), .net_size = sizeof(captioner_net),
    .open = open_data, .weights = list_weights, .batch = next_batch, .loss = loss,
    .valid = valid, .write = write_part, .close = close_data,
};
