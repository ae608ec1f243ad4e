/* clip_text.c - from ids to an embedding, and captions (see clip.h): the image side's blocks with a mask. Equations: MODEL.md 1. */
#include "clip.h"
#include <string.h>

enum { LONG_CLIP_KEPT = 20 }; /* Long-CLIP: positions of the first table that are used (1.23) */

static bool ids_valid(ag_tape *t, const clip_config *c, const uint32_t *ids, size_t texts, size_t length) {
    if (!c->text.layers) return fault_set(&t->fault, FAULT_RANGE, "text side's layers", (size_t[]){0, 1, SIZE_MAX}, 3);
    if (length == 0 || length > c->context)
        return fault_set(&t->fault, FAULT_RANGE, "text length", (size_t[]){length, 1, c->context}, 3);
    for (size_t i = 0; i < texts * length; i++)
        if (ids[i] >= c->vocab)
            return fault_set(&t->fault, FAULT_RANGE, "token id", (size_t[]){ids[i], 0, c->vocab - 1}, 3);
    return true;
}

/* (1.24)  the row that is the text's: ids as padded */
static size_t read_at(const clip_config *c, const uint32_t *ids, size_t length) {
    size_t best = 0;
    if (c->read == CLIP_READ_LAST) return length - 1;
    for (size_t i = 0; i < length && c->read == CLIP_READ_EOS; i++)
        if (ids[i] == c->eos) return i;
    for (size_t i = 1; i < length && c->read == CLIP_READ_LARGEST; i++)
        if (ids[i] > ids[best]) best = i;
    return best;
}

/* A causal text reads at its end and never sees its padding; any other must have it. */
static size_t padded_length(const clip_config *c, size_t length) {
    return c->text_unmasked || c->text_class || c->read == CLIP_READ_LAST ? c->context : length;
}

/* ids [texts,length] -> [texts,n] padded, and each one's row in `ends` */
static uint32_t *pad_ids(ag_tape *t, const clip_config *c, const uint32_t *ids, size_t texts, size_t length, size_t n,
                         uint32_t *ends) {
    uint32_t *padded = clip_index(t, texts * n);
    for (size_t b = 0; padded && b < texts; b++) {
        for (size_t i = 0; i < n; i++) padded[b * n + i] = i < length ? ids[b * length + i] : (uint32_t)c->pad;
        ends[b] = (uint32_t)(b * n + read_at(c, padded + b * n, n));
    }
    return padded;
}

/* Rows 0..n-1 of the position table; from row LONG_CLIP_KEPT on, of the second one (1.23). */
static ag_tensor *positions(ag_tape *t, const clip_model *m, size_t n) {
    const clip_config *c = &m->config;
    uint32_t *rows = clip_index(t, n);
    if (!rows) return NULL;
    for (size_t i = 0; i < n; i++) rows[i] = (uint32_t)i;
    ag_tensor *x = clip_use_rows(t, &m->text_position, rows, n);
    if (!c->text_long || n <= LONG_CLIP_KEPT || !x) return x;
    ag_tensor *rest = clip_use_rows(t, &m->text_position_long, rows + LONG_CLIP_KEPT, n - LONG_CLIP_KEPT);
    if (rest) memcpy(x->data + LONG_CLIP_KEPT * x->cols, rest->data, ag_size(rest) * sizeof(real));
    return rest ? x : NULL;
}

/* ids -> token + position */
static ag_tensor *embed_ids(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t texts, size_t n) {
    ag_tensor *x = clip_use_rows(t, &m->token, ids, texts * n);
    return ag_add(t, ag_reshape(t, x, texts, n, m->config.text.width), positions(t, m, n));
}

/* (1.25)  CoCa's class row, the last, sees column 0 and those right of an id that is not padding. */
static ag_tensor *class_mask(ag_tape *t, const clip_config *c, const uint32_t *ids, size_t n) {
    ag_tensor *mask = ag_new(t, 1, n + 1, n + 1);
    if (!mask) return NULL;
    memset(mask->data, 0, ag_size(mask) * sizeof(real));
    for (size_t j = 0; j < n; j++)
        if (ids[j] == c->pad) mask->data[n * (n + 1) + j + 1] = (real)-1e30;
    return mask;
}

/* One text of a model with a class token: its row after the blocks, [1,1,W]. */
static ag_tensor *class_row(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t n) {
    const clip_config *c = &m->config;
    size_t W = c->text.width;
    ag_tensor *x = ag_new(t, 1, n + 1, W), *tokens = clip_use_rows(t, &m->token, ids, n);
    ag_tensor *own = clip_use(t, &m->text_class);
    if (!x || !tokens || !own) return NULL;
    memcpy(x->data, tokens->data, n * W * sizeof(real));
    memcpy(x->data + n * W, own->data, W * sizeof(real));
    clip_run run = {.tower = &c->text, .act = c->act_text, .causal = true, .mask = class_mask(t, c, ids, n)};
    if (!run.mask) return NULL;
    x = clip_blocks(t, &run, m->text_blocks, ag_add(t, x, positions(t, m, n + 1)), 0, c->text.layers);
    return ag_some_rows(t, x, n, 1);
}

/* Of several texts, one after the other, since each has a mask of its own: [texts,1,W]. */
static ag_tensor *class_rows(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t texts, size_t n) {
    size_t W = m->config.text.width;
    ag_tensor *out = ag_new(t, texts, 1, W);
    for (size_t b = 0; out && b < texts; b++) {
        ag_mark mark = ag_tape_mark(t);
        ag_tensor *row = class_row(t, m, ids + b * n, n);
        if (!row) return NULL;
        memcpy(out->data + b * W, row->data, W * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return out;
}

ag_tensor *clip_text(ag_tape *t, const clip_model *m, const uint32_t *ids, size_t texts, size_t length) {
    const clip_config *c = &m->config;
    size_t n = padded_length(c, length);
    uint32_t *ends = clip_index(t, texts);
    if (!ends || !ids_valid(t, c, ids, texts, length)) return NULL;
    uint32_t *padded = pad_ids(t, c, ids, texts, length, n, ends);
    if (!padded) return NULL;
    clip_run run = {.tower = &c->text, .act = c->act_text, .causal = !c->text_unmasked};
    ag_tensor *x = c->text_class ? class_rows(t, m, padded, texts, n)
                                 : clip_blocks_read(t, &run, m->text_blocks, embed_ids(t, m, padded, texts, n), ends);
    x = clip_norm(t, &m->final_gamma, &m->final_beta, c->text.eps, x);
    return c->no_text_proj ? x : clip_linear(t, &m->text_proj, &m->text_proj_bias, x);
}

/* ---- captions: the decoder (1.26) ------------------------------------------------------------------------ */
ag_tensor *clip_caption_image(ag_tape *t, const clip_model *m, ag_tensor *x) {
    const clip_config *c = &m->config;
    size_t rows = c->queries;
    if (!c->decoder.layers || rows < 2) {
        fault_set(&t->fault, FAULT_RANGE, "caption decoder's layers", (size_t[]){0, 1, SIZE_MAX}, 3);
        return NULL;
    }
    ag_tensor *y = clip_pooled(t, m, x, rows, NULL, false);
    y = clip_norm(t, &m->post_gamma, &m->post_beta, c->pooler.eps, y);
    return ag_some_rows(t, y, 1, rows - 1);
}

/* x + MHA(LN x, LN_kv image, LN_kv image), then the MLP */
static ag_tensor *cross_block(ag_tape *t, const clip_run *run, const clip_block_weights *w, ag_tensor *x,
                              ag_tensor *image) {
    ag_tensor *asks = clip_norm(t, &w->ln1_gamma, &w->ln1_beta, run->tower->eps, x);
    ag_tensor *seen = clip_norm(t, &w->other_gamma, &w->other_beta, run->tower->eps, image);
    ag_tensor *q = clip_linear(t, &w->q, &w->q_bias, asks), *k = clip_linear(t, &w->k, &w->k_bias, seen);
    ag_tensor *v = clip_linear(t, &w->v, &w->v_bias, seen);
    ag_tensor *mixed = ag_mix(t, clip_attention(t, run, q, k), NO_T, v, run->tower->heads, 1);
    x = ag_add(t, x, clip_merge(t, run, w, mixed, NULL));
    return ag_add(t, x, clip_mlp(t, run, w, x, NULL));
}

ag_tensor *clip_caption_logits(ag_tape *t, const clip_model *m, ag_tensor *image, const uint32_t *ids, size_t length,
                               bool last) {
    const clip_config *c = &m->config;
    if (!image || !ids_valid(t, c, ids, 1, length)) return NULL;
    clip_run text = {.tower = &c->text, .act = c->act_text, .causal = true};
    clip_run own = {.tower = &c->decoder, .act = ACT_GELU, .causal = true}, cross = {.tower = &c->decoder, .act = ACT_GELU};
    ag_tensor *x = clip_blocks(t, &text, m->text_blocks, embed_ids(t, m, ids, 1, length), 0, c->text.layers);
    for (size_t i = 0; i < c->decoder.layers; i++) {
        x = clip_block(t, &own, &m->decoder_blocks[i], x, NULL, false);
        x = cross_block(t, &cross, &m->cross_blocks[i], x, image);
    }
    if (last) x = ag_some_rows(t, x, length - 1, 1);
    x = clip_norm(t, &m->decoder_gamma, &m->decoder_beta, c->decoder.eps, x);
    return clip_linear(t, &m->decoder_proj, NULL, x);
}

/* ==== the search for a caption: greedy, or by beams ================================================================== */
enum { BEAMS_MOST = 16, CAPTION_MOST = 256 };

clip_caption_options clip_caption_defaults(const clip_config *c) {
    return (clip_caption_options){.start = c->vocab - 2, .end = c->vocab - 1, .most = 30, .least = 5, .beams = 1};
}

typedef struct {
    uint32_t ids[CAPTION_MOST];
    size_t count;
    double score; /* sum of its ids' log probabilities */
    bool ended;
} beam;

/* Log probabilities of the id after b's; the end is forbidden while b is too short. */
static ag_tensor *next_ids(ag_tape *t, const clip_model *m, ag_tensor *image, const clip_caption_options *o,
                           const beam *b) {
    ag_tensor *logits = clip_caption_logits(t, m, image, b->ids, b->count, true);
    if (logits && b->count < o->least) logits->data[o->end] = (real)-1e30;
    return ag_logsoftmax(t, logits);
}

/* A beam's mean log probability: what a longer one is measured by. */
static double worth(const beam *b) { return b->score / (double)(b->count > 1 ? b->count - 1 : 1); }

/* A candidate into the best `most` found, in falling order of its sum; equal ones as they came. */
static void place(beam *best, size_t *count, size_t most, const beam *parent, uint32_t id, double score, size_t end) {
    size_t at = *count;
    while (at > 0 && score > best[at - 1].score) at--;
    if (at == most) return;
    if (*count < most) ++*count;
    memmove(&best[at + 1], &best[at], (*count - 1 - at) * sizeof *best);
    best[at] = *parent;
    best[at].ids[best[at].count++] = id;
    best[at].score = score;
    best[at].ended = id == end;
}

static void place_whole(beam *best, size_t *count, size_t most, const beam *whole) {
    size_t at = *count;
    while (at > 0 && whole->score > best[at - 1].score) at--;
    if (at == most) return;
    if (*count < most) ++*count;
    memmove(&best[at + 1], &best[at], (*count - 1 - at) * sizeof *best);
    best[at] = *whole;
}

/* Every live beam one id longer; what has ended stays as it is. */
static bool grow(ag_tape *t, const clip_model *m, ag_tensor *image, const clip_caption_options *o, const beam *now,
                 size_t live, beam *best, size_t *count) {
    *count = 0;
    for (size_t i = 0; i < live; i++) {
        if (now[i].ended) {
            place_whole(best, count, o->beams, &now[i]);
            continue;
        }
        ag_mark mark = ag_tape_mark(t);
        ag_tensor *next = next_ids(t, m, image, o, &now[i]);
        if (!next) return false;
        for (size_t id = 0; id < m->config.vocab; id++)
            place(best, count, o->beams, &now[i], (uint32_t)id, now[i].score + (double)next->data[id], o->end);
        ag_tape_reset(t, mark);
    }
    return true;
}

bool clip_caption(ag_tape *t, const clip_model *m, ag_tensor *image, const clip_caption_options *o, uint32_t *ids,
                  size_t *count) {
    size_t most = m->config.context < CAPTION_MOST ? m->config.context : CAPTION_MOST;
    if (o->most < 1 || o->most > most)
        return fault_set(&t->fault, FAULT_RANGE, "caption's length", (size_t[]){o->most, 1, most}, 3);
    if (o->beams < 1 || o->beams > BEAMS_MOST)
        return fault_set(&t->fault, FAULT_RANGE, "beams", (size_t[]){o->beams, 1, BEAMS_MOST}, 3);
    beam *room = arena_alloc(t->memory, 2 * (BEAMS_MOST + 1), sizeof *room), *now = room;
    if (!image || !room) return room ? false : fault_memory(&t->fault, "beams", t->memory, sizeof *room);
    beam *next = room + BEAMS_MOST + 1;
    size_t live = 1, left = 1, best = 0;
    now[0] = (beam){.ids = {(uint32_t)o->start}, .count = 1};
    for (size_t step = 1; step < o->most && left; step++) {
        if (!grow(t, m, image, o, now, live, next, &live)) return false;
        beam *swap = now;
        now = next, next = swap, left = 0;
        for (size_t i = 0; i < live; i++) left += !now[i].ended;
    }
    for (size_t i = 1; i < live; i++)
        if (worth(&now[i]) > worth(&now[best])) best = i;
    memcpy(ids, now[best].ids, now[best].count * sizeof *ids);
    *count = now[best].count;
    return true;
}
