/* tokens.h - which tokenizer a checkpoint speaks: the files beside it, and what its config says of cleaning.
 *
 *     token_settings s = tokens_settings(json, length);                     // of the config's text
 *     tokenizer *t = tokens_open(folder, &s, &config, "Hugging Face", name, &e);
 */
#ifndef TOKENS_H
#define TOKENS_H
#include "clip.h"
#include "text/tokenizer.h"

typedef struct {
    char clean[24];  /* open_clip's tokenizer_kwargs.clean; "": not said */
    bool strip_sep;  /* its strip_sep_token (CLIPA) */
    char other[64];  /* what else it says of texts, which is not obeyed here: they are refused, pictures are not */
    char layout[16]; /* whose way with texts, where another's than the weights' names (maskinv_cfg.texts); "": theirs */
} token_settings;
token_settings tokens_settings(const char *json, size_t length);

/* The first of the files that tokenizers are published as, in this folder; checked against the config's vocabulary.
 * layout: whose names the weights have (checkpoint_layout). */
tokenizer *tokens_open(const char *folder, const token_settings *s, const clip_config *c, const char *layout,
                       const char *name, err *e);
/* The id that fills a text up to the context where every token sees every other (MODEL.md 3): SigLIP's and XLM-V's end or
 * pad, both 1; Gemma's and BERT's <pad>, 0; CLIP's is the config's. */
size_t tokens_pad(const tokenizer *t, const clip_config *c);
/* CLIP's merges in memory. */
tokenizer *tokens_parse(const char *merges, size_t length, const clip_config *c, const char *name, err *e);
#endif
