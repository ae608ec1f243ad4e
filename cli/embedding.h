/* embedding.h - embeddings of a photograph's regions, by MaskInversion or what it is compared with, for caption and imagine.
 *
 *     region_embedder how;
 *     if (!embedder_open(&how, c, "maskinv", 96)) ...                          // or "cls", "crop", ...
 *     if (!embed_regions(&how, &photo, masks_at, &m, count, vectors)) ...      // [count, E], not normalised
 */
#ifndef EMBEDDING_H
#define EMBEDDING_H
#include "cli/inputs.h"
#include "eval/evalstat.h"
#include "regions/regions.h"
#include "scenes/scenes.h"

#define REGION_EMBEDDERS "cls|crop|maskedcrop|redcircle|blur|greyscale|fgvp|ris|pool|surgery|alphaclip|maskinv"
typedef struct {
    cli *c;
    const region_method *method;
    size_t side, layers;
    invert_options invert;
} region_embedder;

/* side: as asked for, 0: the model's own. */
bool embedder_open(region_embedder *how, cli *c, const char *method, size_t side);
bool embed_regions(const region_embedder *how, const picture *photo, region_mask *mask, void *arg, size_t count, real *vectors);
/* Masks for it: those of files (arg: masks), and those of an array of mask_image. */
const mask_image *embed_mask_of_file(void *arg, size_t i, err *e);
const mask_image *embed_mask_of_list(void *arg, size_t i, err *e);
/* A scene's photograph and its objects' masks: mask [SCENE_MOST_OBJECTS]; *read of them to be freed, whatever comes of it. */
bool embed_scene(cli *c, const scene_record *s, picture *photo, mask_image *mask, size_t *read);
/* "  what      72.1 [70.4, 73.6] of 3000" */
void print_share(const char *what, size_t hits, size_t n);
#endif
