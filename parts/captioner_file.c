/* captioner_file.c - a captioner from its file, and the sentence for an embedding (see captioner.h). */
#include "models/model.h"
#include "parts/captioner.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PAD, END, MOST_WORDS = 67 };
struct captioner {
    captioner_net net;
    tensors *file;
    arena memory; /* weights that had to be converted */
    void *room;
    size_t room_size;
    char *words, **word; /* [vocab] */
    char name[1024];
};

void captioner_free(captioner *c) {
    if (!c) return;
    if (c->room) mem_release(c->room, c->room_size);
    tensors_free(c->file);
    mem_free(c->words), mem_free(c->word), mem_free(c);
}

const captioner_net *captioner_network(const captioner *c) { return &c->net; }
const char *captioner_name(const captioner *c) { return c->name; }

/* ---- sizes, which the tensors tell -------------------------------------------------------------------------- */
static bool size_of(const captioner *c, const char *name, size_t *rows, size_t *cols, err *e) {
    return part_shape(c->file, name, rows, cols) || err_set(e, "%s: \"%s\" is missing: it is no captioner", c->name, name);
}

static bool read_sizes(captioner *c, size_t embed, err *e) {
    captioner_net *n = &c->net;
    decoder_shape *s = &n->d.shape;
    size_t hidden, rows, cols;
    char name[64];
    if (tensors_find(c->file, "clip_project.model.0.weight") || tensors_find(c->file, "clip_project.linear.weight"))
        return err_set(e, "%s: these are ClipCap's published weights, which this command does not read", c->name);
    if (!size_of(c, "token.weight", &s->vocab, &s->width, e) || !size_of(c, "position.weight", &s->length, &cols, e) ||
        !size_of(c, "map.0.weight", &hidden, &n->embed, e) || !size_of(c, "map.1.weight", &rows, &cols, e))
        return false;
    n->prefix = rows / s->width;
    do snprintf(name, sizeof name, "blocks.%zu.qkv.weight", s->layers);
    while (part_shape(c->file, name, &rows, &cols) && ++s->layers < DECODER_MOST_LAYERS);
    if (n->embed != embed)
        return err_set(e, "%s: it was trained for embeddings of %zu numbers, the model's have %zu", c->name, n->embed, embed);
    const file_tensor *heads = tensors_find(c->file, "heads");
    float count = 0;
    const unsigned char *at = heads && heads->bytes == sizeof count && !strcmp(heads->type, "F32") ? tensor_bytes(heads, e) : NULL;
    if (at) memcpy(&count, at, sizeof count);
    if (!(count >= 1 && count <= 1024) || s->width % (size_t)count || count != floorf(count))
        return err_set(e, "%s: \"heads\" is %g, a divisor of the width %zu expected", c->name, (double)count, s->width);
    s->heads = (size_t)count;
    if (n->prefix < 1 || s->layers < 1 || s->length <= n->prefix)
        return err_set(e, "%s: a prefix of %zu rows, %zu blocks, %zu places: at least one each, and places for words", c->name,
                       n->prefix, s->layers, s->length);
    return true;
}

/* Words parted by newlines, one for each row of the token table. */
static bool read_words(captioner *c, err *e) {
    size_t vocab = c->net.d.shape.vocab, found = 0;
    const file_tensor *w = tensors_find(c->file, "words");
    const unsigned char *bytes = w && !strcmp(w->type, "U8") ? tensor_bytes(w, e) : NULL;
    if (!bytes) return err_set(e, "%s: \"words\" is missing", c->name);
    c->words = mem_alloc(w->bytes + 1, 1);
    c->word = mem_alloc(vocab, sizeof *c->word);
    if (!c->words || !c->word) return err_set(e, "%s: no memory for %zu words", c->name, vocab);
    memcpy(c->words, bytes, w->bytes);
    for (char *at = c->words, *end; (end = memchr(at, '\n', (size_t)(c->words + w->bytes - at))); at = end + 1) {
        if (found < vocab) c->word[found] = at;
        found++, *end = 0;
    }
    return found == vocab || err_set(e, "%s: %zu words for %zu rows of \"token.weight\"", c->name, found, vocab);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */
captioner *captioner_of(tensors *file, const char *name, size_t embed, err *e) {
    captioner *c = file ? mem_alloc(1, sizeof *c) : NULL;
    part_list l = {0};
    if (!c) return tensors_free(file), file ? (void)err_set(e, "%s: no memory", name) : (void)0, NULL;
    c->file = file;
    snprintf(c->name, sizeof c->name, "%s", name);
    bool good = read_sizes(c, embed, e) && read_words(c, e);
    if (good) {
        captioner_weights(&c->net, &l);
        c->room_size = 2 * part_numbers(&l) * sizeof(real) + ((size_t)1 << 20);
        c->room = mem_reserve(c->room_size);
        good = c->room || err_set(e, "%s: no memory for %zu numbers", name, part_numbers(&l));
        if (good) arena_init(&c->memory, c->room, c->room_size);
    }
    good = good && part_read(&l, file, "", &c->memory, e);
    for (size_t i = 0; good && i < l.count; i++)
        if (!k_finite((*l.list[i].at)->data, ag_size(*l.list[i].at)))
            good = err_set(e, "%s: \"%s\" holds a number that is not finite", name, l.list[i].name);
    part_list_free(&l);
    if (good) return c;
    captioner_free(c);
    return NULL;
}

captioner *captioner_open(const char *path, size_t embed, err *e) {
    return captioner_of(tensors_open(path, e), path, embed, e);
}

captioner *captioner_builtin(size_t embed, err *e) {
    size_t length;
    const unsigned char *bytes = builtin_captioner(&length);
    if (!bytes) return (void)err_set(e, "this program was built without a captioner; --captioner FILE"), NULL;
    return captioner_of(tensors_parse(bytes, length, "the built-in captioner", e), "the built-in captioner", embed, e);
}

/* ---- saying ------------------------------------------------------------------------------------------------------- */
static void join_words(const captioner *c, const uint32_t *ids, size_t count, char *text, size_t room) {
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < count && ids[i] != END; i++) {
        int n = snprintf(text + at, room - at, "%s%s", at ? " " : "", c->word[ids[i]]);
        if (n < 0 || (size_t)n >= room - at) return;
        at += (size_t)n;
    }
}

bool captioner_say(const captioner *c, const float *embedding, size_t beams, arena *memory, pool *cores, char *text, size_t room,
                   err *e) {
    const captioner_net *n = &c->net;
    size_t E = n->embed, count, most = n->d.shape.length - n->prefix, mark = arena_mark(memory);
    uint32_t ids[MOST_WORDS];
    ag_tape t;
    if (!ag_tape_init(&t, memory, cores, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *z = ag_new(&t, 1, 1, E);
    for (size_t i = 0; z && i < E; i++) z->data[i] = (real)embedding[i];
    z = ag_scale(&t, ag_normalize(&t, z), (real)sqrt((double)E), 0); /* components of about 1, as in training */
    decoder_saying how = {.stop = END, .most = most < MOST_WORDS ? most : MOST_WORDS, .beams = beams};
    bool good = decoder_say(&t, &n->d, captioner_prefix(&t, n, z), &how, ids, &count, NULL, e);
    if (good) join_words(c, ids, count, text, room);
    arena_reset(memory, mark);
    return good;
}
