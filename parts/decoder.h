/* decoder.h - a causal transformer that continues rows of numbers with words: GPT-2's blocks (MODEL.md 12).
 *
 *     decoder_weights(&d, &list);                           // its rows of the part's list
 *     ag_tensor *h = decoder_run(&tape, &d, rows);          // [B,n,D] -> [B,n,D], all places at once: training
 *     decoder_kept *kept = decoder_keep(&d, 5, 77, &e);     // keys and values of what was said, for five sentences
 *     h = decoder_next(&tape, &d, kept, rows);              // the same for rows that come after those kept
 */
#ifndef DECODER_H
#define DECODER_H
#include "parts/part.h"

enum { DECODER_MOST_LAYERS = 48 };
typedef struct {
    size_t vocab, length, width, heads, layers; /* length: most places, the prefix's included */
    bool gpt2; /* matrices stored [in, out], GELU by its tanh form, GPT-2's names */
} decoder_shape;
typedef struct {
    ag_tensor *ln1[2], *qkv[2], *out[2], *ln2[2], *fc[2], *proj[2];
} decoder_block;
typedef struct {
    decoder_shape shape;
    ag_tensor *token, *position; /* [V,D], [length,D] */
    decoder_block block[DECODER_MOST_LAYERS];
    ag_tensor *last[2];
} decoder;

void decoder_weights(decoder *d, part_list *l);
/* Token embeddings of ids [batch, n] -> [batch,n,D]. */
ag_tensor *decoder_tokens(ag_tape *t, const decoder *d, const uint32_t *ids, size_t batch, size_t n);
/* Rows [B,n,D] (positions not yet added) -> after the last norm [B,n,D]. */
ag_tensor *decoder_run(ag_tape *t, const decoder *d, ag_tensor *rows);
/* Scores of the words [.., V] after rows of decoder_run. */
ag_tensor *decoder_logits(ag_tape *t, const decoder *d, ag_tensor *h);

/* ---- one word after the other ---- */
typedef struct decoder_kept decoder_kept;
decoder_kept *decoder_keep(const decoder *d, size_t sentences, size_t most, err *e);
void decoder_kept_free(decoder_kept *k);
/* Rows [sentences,n,D] that come after those kept -> [sentences,n,D] after the last norm; they are kept too. The tape
 * does not record. */
ag_tensor *decoder_next(ag_tape *t, const decoder *d, decoder_kept *k, ag_tensor *rows);
/* Sentence i goes on from what is kept of sentence from[i]. */
void decoder_pick(decoder_kept *k, const size_t *from);

typedef struct {
    uint32_t stop; /* the word that ends a sentence, said with it; UINT32_MAX: none */
    size_t most, beams;
} decoder_saying;
/* The sentence that follows the prefix [1,k,D]: the likeliest word each time, or with beams > 1 the best of them by the mean
 * log-probability (ClipCap's search). ids [most], means [beams] (NULL: not wanted; best first). The tape does not record. */
bool decoder_say(ag_tape *t, const decoder *d, ag_tensor *prefix, const decoder_saying *how, uint32_t *ids, size_t *count,
                 double *means, err *e);
#endif
