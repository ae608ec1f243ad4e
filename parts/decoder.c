/* decoder.c - words one after the other (see decoder.h). */
#include "parts/decoder.h"
#include <math.h>
#include <string.h>

/* ---- weights -------------------------------------------------------------------------------------------- */
/* Radford et al. 2019, 2.3: products begin by width, those that end a branch also by depth. */
void decoder_weights(decoder *d, part_list *l) {
    const decoder_shape *s = &d->shape;
    size_t D = s->width;
    bool g = s->gpt2;
    double by_width = pow((double)D, -0.5), by_depth = by_width * pow(2 * (double)s->layers, -0.5);
    part_add(l, &d->token, s->vocab, D, 0.02, 0, "%s", g ? "wte.weight" : "token.weight");
    part_add(l, &d->position, s->length, D, 0.01, 0, "%s", g ? "wpe.weight" : "position.weight");
    for (size_t i = 0; i < s->layers; i++) {
        decoder_block *b = &d->block[i];
        const char *at = g ? "h" : "blocks";
        part_norm(l, b->ln1, D, "%s.%zu.ln_1", at, i);
        part_linear(l, b->qkv, 3 * D, D, g, by_width, "%s.%zu.%s", at, i, g ? "attn.c_attn" : "qkv");
        part_linear(l, b->out, D, D, g, by_depth, "%s.%zu.%s", at, i, g ? "attn.c_proj" : "out");
        part_norm(l, b->ln2, D, "%s.%zu.ln_2", at, i);
        part_linear(l, b->fc, 4 * D, D, g, by_width, "%s.%zu.%s", at, i, g ? "mlp.c_fc" : "fc");
        part_linear(l, b->proj, D, 4 * D, g, by_depth / 2, "%s.%zu.%s", at, i, g ? "mlp.c_proj" : "proj");
    }
    part_norm(l, d->last, D, "ln_f");
}

/* ---- the block: x += W_o attention(LN x); x += W_2 gelu(W_1 LN x)  (12.2) ----------------------------------- */
static ag_tensor *feed_forward(ag_tape *t, const decoder *d, const decoder_block *b, ag_tensor *x) {
    ag_tensor *h = part_use_linear(t, b->fc, d->shape.gpt2, part_use_norm(t, b->ln2, x));
    h = ag_act(t, h, d->shape.gpt2 ? ACT_GELU_TANH : ACT_GELU, 0);
    return ag_add(t, x, part_use_linear(t, b->proj, d->shape.gpt2, h));
}

static real logit_factor(const decoder *d) { return (real)(1 / sqrt((double)(d->shape.width / d->shape.heads))); }

static ag_tensor *attend(ag_tape *t, const decoder *d, const decoder_block *b, ag_tensor *x) {
    size_t D = d->shape.width, H = d->shape.heads;
    ag_tensor *y = part_use_linear(t, b->qkv, d->shape.gpt2, part_use_norm(t, b->ln1, x));
    ag_tensor *q = ag_columns(t, y, 0, D), *k = ag_columns(t, y, D, D), *v = ag_columns(t, y, 2 * D, D);
    ag_tensor *A = ag_softmax(t, ag_scores(t, q, k, H, logit_factor(d)), true);
    return ag_add(t, x, part_use_linear(t, b->out, d->shape.gpt2, ag_mix(t, A, NO_T, v, H, 1)));
}

/* Positions first..first+rows-1 added. */
static ag_tensor *placed(ag_tape *t, const decoder *d, ag_tensor *x, size_t first) {
    if (!x) return NULL;
    if (first + x->rows > d->shape.length) {
        fault_set(&t->fault, FAULT_RANGE, "place in a sentence", (size_t[]){first + x->rows, 1, d->shape.length}, 3);
        return NULL;
    }
    uint32_t *at = arena_alloc(t->memory, x->rows, sizeof *at);
    if (!at) return fault_memory(&t->fault, "places", t->memory, x->rows * sizeof *at), NULL;
    for (size_t i = 0; i < x->rows; i++) at[i] = (uint32_t)(first + i);
    return ag_add(t, x, ag_rows(t, d->position, at, x->rows));
}

ag_tensor *decoder_tokens(ag_tape *t, const decoder *d, const uint32_t *ids, size_t batch, size_t n) {
    return ag_reshape(t, ag_rows(t, d->token, ids, batch * n), batch, n, d->shape.width);
}

ag_tensor *decoder_run(ag_tape *t, const decoder *d, ag_tensor *rows) {
    ag_tensor *x = placed(t, d, rows, 0);
    for (size_t i = 0; i < d->shape.layers; i++) x = feed_forward(t, d, &d->block[i], attend(t, d, &d->block[i], x));
    return part_use_norm(t, d->last, x);
}

ag_tensor *decoder_logits(ag_tape *t, const decoder *d, ag_tensor *h) {
    return part_use_linear(t, (ag_tensor *[2]){d->token, NULL}, false, h);
}

/* ---- keys and values kept --------------------------------------------------------------------------------- */
struct decoder_kept {
    size_t sentences, most, rows, layers, width;
    real *k, *v, *spare; /* [layers, sentences, most, D]; spare: one layer */
};

decoder_kept *decoder_keep(const decoder *d, size_t sentences, size_t most, err *e) {
    decoder_kept *k = mem_alloc(1, sizeof *k);
    size_t layer = 0, all = 0;
    bool good = k && size_mul(sentences * most, d->shape.width, &layer) && size_mul(layer, d->shape.layers, &all);
    if (k) *k = (decoder_kept){sentences, most, 0, d->shape.layers, d->shape.width, NULL, NULL, NULL};
    if (good) k->k = mem_alloc(all, sizeof *k->k), k->v = mem_alloc(all, sizeof *k->v), k->spare = mem_alloc(layer, sizeof *k->spare);
    if (good && k->k && k->v && k->spare) return k;
    decoder_kept_free(k);
    err_set(e, "no memory to keep %zu sentences of %zu words", sentences, most);
    return NULL;
}

void decoder_kept_free(decoder_kept *k) {
    if (k) mem_free(k->k), mem_free(k->v), mem_free(k->spare);
    mem_free(k);
}

void decoder_pick(decoder_kept *k, const size_t *from) {
    size_t one = k->most * k->width, used = k->rows * k->width;
    for (size_t i = 0; i < 2 * k->layers; i++) {
        real *layer = (i % 2 ? k->v : k->k) + i / 2 * k->sentences * one;
        for (size_t s = 0; s < k->sentences; s++) memcpy(k->spare + s * one, layer + from[s] * one, used * sizeof(real));
        for (size_t s = 0; s < k->sentences; s++) memcpy(layer + s * one, k->spare + s * one, used * sizeof(real));
    }
}

typedef struct {
    const decoder *d;
    const decoder_kept *kept;
    const real *k, *v; /* this layer's, [sentences, most, D] */
    const ag_tensor *qkv; /* [sentences, n, 3D] */
    ag_tensor *out; /* [sentences, n, D] */
    real *scores; /* [sentences, heads, most] */
} looking;

/* One head of one sentence: each new row looks at the rows up to itself. */
static void look_task(void *arg, size_t index) {
    const looking *l = arg;
    size_t D = l->d->shape.width, H = l->d->shape.heads, w = D / H, s = index / H, h = index % H, n = l->out->rows;
    real *a = l->scores + index * l->kept->most;
    for (size_t r = 0; r < n; r++) {
        const real *q = l->qkv->data + (s * n + r) * 3 * D + h * w;
        real *y = l->out->data + (s * n + r) * D + h * w;
        size_t seen = l->kept->rows + r + 1, at = s * l->kept->most * D + h * w;
        for (size_t i = 0; i < seen; i++) a[i] = logit_factor(l->d) * k_dot(q, l->k + at + i * D, w);
        k_softmax(a, a, 1, seen, false);
        memset(y, 0, w * sizeof *y);
        for (size_t i = 0; i < seen; i++) k_axpy(a[i], l->v + at + i * D, y, w);
    }
}

static ag_tensor *attend_kept(ag_tape *t, const decoder *d, decoder_kept *k, size_t layer, ag_tensor *x) {
    size_t D = d->shape.width, S = k->sentences, n = x->rows, one = k->most * D;
    const decoder_block *b = &d->block[layer];
    real *keys = k->k + layer * S * one, *values = k->v + layer * S * one;
    ag_tensor *y = part_use_linear(t, b->qkv, d->shape.gpt2, part_use_norm(t, b->ln1, x));
    ag_tensor *out = ag_new(t, S, n, D), *scores = ag_new(t, S, d->shape.heads, k->most);
    if (!y || !out || !scores) return NULL;
    for (size_t s = 0; s < S; s++)
        for (size_t r = 0; r < n; r++) {
            const real *row = y->data + (s * n + r) * 3 * D;
            memcpy(keys + s * one + (k->rows + r) * D, row + D, D * sizeof(real));
            memcpy(values + s * one + (k->rows + r) * D, row + 2 * D, D * sizeof(real));
        }
    looking l = {d, k, keys, values, y, out, scores->data};
    spread(t->cores, S * d->shape.heads, look_task, &l);
    return ag_add(t, x, part_use_linear(t, b->out, d->shape.gpt2, out));
}

ag_tensor *decoder_next(ag_tape *t, const decoder *d, decoder_kept *k, ag_tensor *rows) {
    if (!rows || rows->batch != k->sentences || k->rows + rows->rows > k->most) {
        if (rows) fault_set(&t->fault, FAULT_RANGE, "words of a sentence", (size_t[]){k->rows + rows->rows, 1, k->most}, 3);
        return NULL;
    }
    ag_tensor *x = placed(t, d, rows, k->rows);
    for (size_t i = 0; x && i < d->shape.layers; i++) x = feed_forward(t, d, &d->block[i], attend_kept(t, d, k, i, x));
    k->rows += rows->rows;
    return part_use_norm(t, d->last, x);
}

/* ---- saying a sentence --------------------------------------------------------------------------------------- */
enum { BEAMS_MOST = 64 };
typedef struct {
    ag_tape *t;
    const decoder *d;
    const decoder_saying *how;
    decoder_kept *kept;
    ag_mark mark;
    uint32_t *said, *other; /* [beams, most]; other: while beams change places */
    double *sum, *mean;     /* [beams] of log-probabilities, and what the search compares */
    size_t *length, *from;
    bool *done;
} saying;

static size_t largest(const real *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Log-probabilities [beams, V] of the word after rows [beams,n,D]. */
static const real *after(saying *s, ag_tensor *rows) {
    ag_tensor *h = decoder_next(s->t, s->d, s->kept, rows);
    if (!h) return NULL;
    ag_tensor *y = ag_logsoftmax(s->t, decoder_logits(s->t, s->d, ag_some_rows(s->t, h, h->rows - 1, 1)));
    return y ? y->data : NULL;
}

static const real *after_words(saying *s, const uint32_t *ids, size_t beams) {
    return after(s, decoder_tokens(s->t, s->d, ids, beams, 1));
}

static bool say_likeliest(saying *s, ag_tensor *prefix, uint32_t *ids, size_t *count) {
    const real *score = after(s, prefix);
    *count = 0;
    while (score) {
        ids[*count] = (uint32_t)largest(score, s->d->shape.vocab);
        if (ids[(*count)++] == s->how->stop || *count == s->how->most) return true;
        ag_tape_reset(s->t, s->mark);
        score = after_words(s, &ids[*count - 1], 1);
    }
    return false;
}

/* (12.5)  The `beams` best of [beams, V] by mean log-probability; a finished sentence goes on with word 0 at no cost. Equal ones: the
 * first. s->from, the words into word, and sum, mean, length of what comes out. */
static void choose(saying *s, const real *score, size_t beams, bool first, uint32_t *word) {
    size_t V = s->d->shape.vocab, length[BEAMS_MOST];
    double sum[BEAMS_MOST], mean[BEAMS_MOST];
    for (size_t b = 0; b < beams; b++) mean[b] = -INFINITY, s->from[b] = 0, word[b] = 0;
    for (size_t b = 0; b < (first ? 1 : beams); b++) {
        size_t len = first ? 1 : s->length[b] + !s->done[b];
        for (size_t v = 0; v < (s->done[b] && !first ? 1 : V); v++) {
            double total = first ? (double)score[v] : s->sum[b] + (s->done[b] ? 0 : (double)score[b * V + v]);
            double m = total / (double)len;
            size_t at = beams;
            while (at > 0 && m > mean[at - 1]) at--;
            if (at == beams) continue;
            for (size_t i = beams - 1; i > at; i--)
                mean[i] = mean[i - 1], sum[i] = sum[i - 1], s->from[i] = s->from[i - 1], word[i] = word[i - 1], length[i] = length[i - 1];
            mean[at] = m, sum[at] = total, s->from[at] = b, word[at] = (uint32_t)v, length[at] = len;
        }
    }
    for (size_t b = 0; b < beams; b++) s->mean[b] = mean[b], s->sum[b] = sum[b], s->length[b] = length[b];
}

/* The chosen words behind the sentences that they continue. */
static void continue_with(saying *s, const uint32_t *word, size_t beams, size_t at) {
    size_t most = s->how->most;
    bool done[BEAMS_MOST];
    for (size_t b = 0; b < beams; b++) {
        memcpy(s->other + b * most, s->said + s->from[b] * most, at * sizeof *s->said);
        s->other[b * most + at] = word[b];
        done[b] = (at > 0 && s->done[s->from[b]]) || word[b] == s->how->stop;
    }
    uint32_t *swap = s->said;
    s->said = s->other, s->other = swap;
    memcpy(s->done, done, beams * sizeof *done);
}

static bool say_best(saying *s, ag_tensor *prefix, size_t beams, uint32_t *ids, size_t *count) {
    uint32_t word[BEAMS_MOST];
    ag_tensor *all = ag_fit(s->t, prefix, beams, prefix->rows, prefix->cols);
    const real *score = all ? after(s, all) : NULL;
    size_t at = 0;
    for (bool busy = true; score && busy; at++) {
        choose(s, score, beams, at == 0, word);
        continue_with(s, word, beams, at);
        busy = false;
        for (size_t b = 0; b < beams; b++) busy = busy || !s->done[b];
        if (!busy || at + 1 == s->how->most) { score = NULL; at++; break; }
        decoder_pick(s->kept, s->from);
        ag_tape_reset(s->t, s->mark);
        score = after_words(s, word, beams);
    }
    if (s->t->fault.code) return false;
    *count = s->length[0] < at ? s->length[0] : at;
    memcpy(ids, s->said, *count * sizeof *ids);
    return true;
}

bool decoder_say(ag_tape *t, const decoder *d, ag_tensor *prefix, const decoder_saying *how, uint32_t *ids, size_t *count,
                 double *means, err *e) {
    size_t beams = how->beams > 1 ? how->beams : 1, most = how->most;
    if (!prefix) return err_fault(e, &t->fault);
    if (beams > BEAMS_MOST || beams > d->shape.vocab || most < 1 || prefix->rows + most > d->shape.length)
        return err_set(e, "%zu beams of %zu words: at most %d, and %zu words behind a prefix of %zu", beams, most,
                       BEAMS_MOST, d->shape.length - prefix->rows, prefix->rows);
    saying s = {.t = t, .d = d, .how = how, .mark = ag_tape_mark(t)};
    s.kept = decoder_keep(d, beams, prefix->rows + most, e);
    s.said = mem_alloc(2 * beams * most, sizeof *s.said);
    s.sum = mem_alloc(4 * beams, sizeof *s.sum);
    s.done = mem_alloc(beams, sizeof *s.done);
    s.length = mem_alloc(2 * beams, sizeof *s.length);
    uint32_t *room = s.said;
    bool good = s.kept != NULL;
    if (good && !(s.said && s.sum && s.done && s.length)) good = err_set(e, "no memory for %zu sentences", beams);
    if (good) {
        s.other = s.said + beams * most, s.mean = s.sum + beams, s.from = s.length + beams;
        good = beams == 1 ? say_likeliest(&s, prefix, ids, count) : say_best(&s, prefix, beams, ids, count);
        if (!good) err_fault(e, &t->fault);
    }
    for (size_t b = 0; good && means && beams > 1 && b < beams; b++) means[b] = s.mean[b];
    ag_tape_reset(t, s.mark);
    decoder_kept_free(s.kept);
    mem_free(room), mem_free(s.sum), mem_free(s.done), mem_free(s.length);
    return good;
}
