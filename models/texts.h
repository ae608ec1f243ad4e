/* texts.h - texts to unit embeddings, each alone or in a set of templates.
 *
 *     const char *texts[] = {"cat", "dog"}, *templates[] = {"a photo of a {}.", "a drawing of a {}."};
 *     if (!texts_embed(weights, texts, 2, templates, 2, &memory, cores, out, &e)) ...   // out [2, E]
 */
#ifndef TEXTS_H
#define TEXTS_H
#include "models/checkpoint.h"

/* Templates hold one {} each, where the text goes. */
bool template_check(const char *text, err *e);
/* One a line, empty lines left out; "builtin" are the 85 of templates.h. *lines is one block with the pointers first:
 * mem_free it. */
bool templates_read(const char *path, const char ***lines, size_t *count, err *e);
/* Unit embeddings of texts, [count, E] into out; with templates each is the normalised mean of its sentences' unit
 * embeddings. templates 0: the text as it is. */
bool texts_embed(checkpoint *weights, const char *const *texts, size_t count, const char *const *templates,
                 size_t template_count, arena *memory, pool *cores, real *out, err *e);
/* Embeddings [count, E] of texts as they are, not normalised. */
bool texts_embed_raw(checkpoint *weights, const char *const *texts, size_t count, arena *memory, pool *cores, real *out,
                     err *e);
/* Embeddings [count, E] of ids [count, length], not normalised. */
bool ids_embed(const clip_model *m, const uint32_t *ids, size_t count, size_t length, arena *memory, pool *cores,
               real *out, err *e);
/* SigLIP's maps are corrected by what "a photo of a" looks at (MODEL.md 4.20): that text's unit embedding [E] in *out (mem_free
 * it). NULL for other families, and where the model has no tokenizer: then `e` says why, and true is returned. */
bool texts_usual(checkpoint *weights, arena *memory, pool *cores, real **out, err *e);
real unit(real *v, size_t n); /* v / |v| in place; returns |v| */
double dot(const real *a, const real *b, size_t n); /* summed in double */
#endif
