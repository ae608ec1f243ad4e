/* captioner_file.c - a captioner from its file, and the sentence for an embedding (see captioner.h). */
#include "files/files.h"
#include "files/utf8.h"
#include "models/model.h"
#include "parts/clipcap.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PAD, END };
struct captioner {
    captioner_net net;
    tensors *file;
    arena memory; /* weights that had to be converted */
    void *room;
    size_t room_size;
    char *words, **word; /* [vocab]; of ours */
    clipcap published;   /* ClipCap's own, else empty */
    char name[4096];
};

void captioner_free(captioner *c) {
    if (!c) return;
    if (c->room) mem_release(c->room, c->room_size);
    tensors_free(c->file);
    clipcap_close(&c->published);
    mem_free(c->words), mem_free(c->word), mem_free(c);
}

const captioner_net *captioner_network(const captioner *c) { return &c->net; }
const char *captioner_name(const captioner *c) { return c->name; }
bool captioner_reads_length(const captioner *c) { return c->published.map && !c->net.transformer; }

/* ---- sizes, which the tensors tell -------------------------------------------------------------------------- */
static bool size_of(const captioner *c, const char *name, size_t *rows, size_t *cols, err *e) {
    return part_shape(c->file, name, rows, cols) || err_set(e, "%s: \"%s\" is missing: it is no captioner", c->name, name);
}

static bool read_sizes(captioner *c, size_t embed, err *e) {
    captioner_net *n = &c->net;
    decoder_shape *s = &n->d.shape;
    size_t hidden, rows, cols;
    char name[64];
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
    if (at) memcpy(&count, at, sizeof count), order_bytes(&count, 1, sizeof count);
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
static captioner *begun(const char *name, err *e) {
    captioner *c = mem_alloc(1, sizeof *c);
    if (c) snprintf(c->name, sizeof c->name, "%s", name);
    else err_set(e, "%s: no memory", name);
    return c;
}

static bool read_list(captioner *c, part_list *l, const tensors *file, const char *before, err *e) {
    if (!part_read(l, file, before, &c->memory, e)) return false;
    for (size_t i = 0; i < l->count; i++)
        if (!k_finite((*l->list[i].at)->data, ag_size(*l->list[i].at)))
            return err_set(e, "%s: \"%s%s\" holds a number that is not finite", tensors_name(file), before, l->list[i].name);
    return true;
}

/* Weights as they lie in the file; memory for those that must be converted. */
static bool read_weights(captioner *c, err *e) {
    part_list map = {0}, words = {0};
    const clipcap *p = &c->published;
    captioner_map_weights(&c->net, &map);
    decoder_weights(&c->net.d, &words);
    size_t count = part_numbers(&map) + part_numbers(&words);
    c->room_size = 2 * count * sizeof(real) + ((size_t)1 << 20);
    c->room = mem_reserve(c->room_size);
    bool good = c->room || err_set(e, "%s: no memory for %zu numbers", c->name, count);
    if (good) arena_init(&c->memory, c->room, c->room_size);
    good = good && read_list(c, &map, p->map ? p->map : c->file, p->map ? "clip_project." : "", e) &&
           read_list(c, &words, p->map ? p->gpt : c->file, p->map ? p->before : "", e);
    part_list_free(&map), part_list_free(&words);
    return good;
}

static captioner *finished(captioner *c, bool good, err *e) {
    if (good && read_weights(c, e)) return c;
    captioner_free(c);
    return NULL;
}

captioner *captioner_of(tensors *file, const char *name, size_t embed, err *e) {
    captioner *c = file ? begun(name, e) : NULL;
    if (!c) return tensors_free(file), NULL;
    c->file = file;
    return finished(c, read_sizes(c, embed, e) && read_words(c, e), e);
}

captioner *captioner_open(const char *path, size_t embed, err *e) {
    char file[4096];
    if (folder_exists(path)) {
        if (!clipcap_find(path, file, e)) return NULL;
        path = file;
    }
    tensors *t = tensors_open(path, e);
    if (!t || !clipcap_is(t)) return captioner_of(t, path, embed, e);
    tensors_free(t);
    captioner *c = begun(path, e);
    return c ? finished(c, clipcap_open(&c->published, path, e) && clipcap_sizes(&c->published, embed, &c->net, e), e) : NULL;
}

captioner *captioner_builtin(size_t embed, err *e) {
    size_t length;
    const unsigned char *bytes = builtin_captioner(&length);
    if (!bytes) return (void)err_set(e, "this program was built without a captioner; --captioner FILE"), NULL;
    return captioner_of(tensors_parse(bytes, length, "the built-in captioner", e), "the built-in captioner", embed, e);
}

void captioner_line(const char *said, char *text, size_t room) {
    size_t at = 0, used;
    for (size_t i = 0, n = strlen(said); i < n; i += used) {
        bool blank = utf8_decode(said + i, n - i, &used) <= ' ';
        if (at + used >= room) break;
        if (blank && (!at || text[at - 1] == ' ')) continue;
        memcpy(text + at, blank ? " " : said + i, used);
        at += used;
    }
    text[at && text[at - 1] == ' ' ? at - 1 : at] = 0;
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

/* One line of what GPT-2's pieces make. */
static bool join_pieces(const captioner *c, const uint32_t *ids, size_t count, char *text, size_t room, err *e) {
    char *said = tokenizer_decode(c->published.words, ids, count, e);
    if (said) captioner_line(said, text, room);
    mem_free(said);
    return said != NULL;
}

/* The embedding as the map saw embeddings in training: ours of components of about 1, ClipCap's transformer unit ones, its
 * perceptron as CLIP gives them. */
static ag_tensor *seen(ag_tape *t, const captioner *c, const real *embedding) {
    size_t E = c->net.embed;
    ag_tensor *z = ag_new(t, 1, 1, E);
    for (size_t i = 0; z && i < E; i++) z->data[i] = (real)embedding[i];
    if (captioner_reads_length(c)) return z;
    z = ag_normalize(t, z);
    return c->published.map ? z : ag_scale(t, z, (real)sqrt((double)E), 0);
}

bool captioner_say(const captioner *c, const real *embedding, const captioner_way *way, arena *memory, pool *cores, captioner_said *said,
                   err *e) {
    const captioner_net *n = &c->net;
    size_t mark = arena_mark(memory), most = n->d.shape.length - n->prefix, room = sizeof said->text;
    ag_tape t;
    if (!ag_tape_init(&t, memory, cores, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    if (most > CAPTIONER_MOST_WORDS) most = CAPTIONER_MOST_WORDS;
    if (way->most && way->most < most) most = way->most;
    decoder_saying how = {.stop = c->published.map ? c->published.stop : END, .most = most, .beams = way->beams};
    bool good = decoder_say(&t, &n->d, captioner_prefix(&t, n, seen(&t, c, embedding)), &how, said->ids, &said->count, NULL, e);
    if (good && c->published.map) good = join_pieces(c, said->ids, said->count, said->text, room, e);
    else if (good) join_words(c, said->ids, said->count, said->text, room);
    arena_reset(memory, mark);
    return good;
}
