/* clipcap.h - ClipCap's weights as they were published (rmokady/CLIP_prefix_caption): its files, sizes and words.
 *
 *     clipcap c = {0};
 *     if (!clipcap_open(&c, "weights/clipcap-coco", &e)) ...       // a folder, or a file of weights with the others beside it
 *     if (!clipcap_sizes(&c, 512, &net, &e)) ...                   // the network's shape fields
 *     clipcap_close(&c);
 *
 * One file holds the map (clip_project.*) and mostly GPT-2 too (gpt.transformer.*); where it does not, GPT-2's own file as
 * Hugging Face has it stands beside. GPT-2's tokenizer (merges.txt and vocab.json, or tokenizer.json) stands in the folder; its
 * config.json, where there is one, says the heads; else they are 64 wide.
 */
#ifndef CLIPCAP_H
#define CLIPCAP_H
#include "parts/captioner.h"
#include "text/tokenizer.h"

typedef struct {
    tensors *map;          /* the file with clip_project.* */
    tensors *beside;       /* GPT-2's own; NULL: it is in the first */
    const tensors *gpt;    /* whichever of the two */
    const char *before;    /* GPT-2's names in it: "gpt.transformer." */
    tokenizer *words;
    uint32_t stop;         /* ".", which ends a sentence */
    char folder[4096];
} clipcap;

/* Does the file hold a map of ClipCap's? */
bool clipcap_is(const tensors *file);
/* path: a folder with one such file, or the file. Nothing of the weights' numbers is looked at. */
bool clipcap_open(clipcap *c, const char *path, err *e);
/* The one file of a folder that is a captioner's, ClipCap's or train caption's. */
bool clipcap_find(const char *folder, char path[4096], err *e);
/* Shapes by the tensors; embed: the model's, another is an error that names both. */
bool clipcap_sizes(const clipcap *c, size_t embed, captioner_net *n, err *e);
void clipcap_close(clipcap *c);
#endif
