/* clip_caption.c - the search for a caption: greedy, or by beams (see clip.h; MODEL.md 1). */
#include "clip.h"
#include <math.h>
#include <string.h>

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

/* Log probabilities of the id after `b`; the end is forbidden while it is too short. */
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
