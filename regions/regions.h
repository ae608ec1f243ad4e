/* regions.h - one embedding for a region, by the ways that MaskInversion is compared with.
 *
 *     const region_method *how = region_method_find("blur");
 *     region_settings o = {.side = 224};
 *     if (!regions_embed(how, &o, &model, &photo, masks, 3, &memory, cores, vectors, &e)) ...   // [3, E]
 *
 * Four families (MODEL.md 10):
 *   picture   a picture made of photograph and mask goes through the network: crops, visual prompts, and cls, which
 *             does not look at the mask at all
 *   tokens    the network sees the photograph, the patches' vectors are averaged in the mask
 *   own       mask by mask, by the row's own function
 *   invert    MaskInversion (maskinv.h); the caller runs it
 */
#ifndef REGIONS_H
#define REGIONS_H
#include <math.h>
#include "clip.h"
#include "pictures/image.h"

typedef enum { REGION_PICTURE, REGION_TOKENS, REGION_INVERT, REGION_OWN } region_family;
typedef struct {
    size_t side;   /* of the square that the network sees, a multiple of the patch */
    size_t blocks; /* tokens: last blocks changed; 0: the explainer's own number */
} region_settings;

typedef struct {
    const char *name, *what, *source;
    region_family family;
    bool masked;  /* looks at the mask */
    bool alpha;   /* the network takes it as a plane beside the pixels (AlphaCLIP) */
    size_t sides; /* the side when none is asked for, in the model's own */
    /* picture: what the network sees, [side,side]; colour: the model's mean, 0..255 */
    bool (*see)(const picture *photo, const mask_image *mask, size_t side, const double colour[3], picture *out, err *e);
    /* own: the mask's vector [E] */
    bool (*embed)(const region_settings *o, const clip_model *m, const picture *photo, const mask_image *mask, arena *memory,
                  pool *cores, real *out, err *e);
    const char *tokens; /* tokens: the explainer (methods.h) whose patches are averaged */
} region_method;

size_t region_method_count(void);
const region_method *region_method_at(size_t i);
const region_method *region_method_find(const char *name); /* NULL: no such method */

/* out [count, E], not normalised, for all families but invert. Pictures go through the network in batches. */
bool regions_embed(const region_method *how, const region_settings *o, const clip_model *m, const picture *photo,
                   const mask_image *masks, size_t count, arena *memory, pool *cores, real *out, err *e);

/* The same with the masks one by one: `mask` gives the i-th, good until it is asked for the next; NULL: see e. */
typedef const mask_image *region_mask(void *arg, size_t i, err *e);
bool regions_embed_each(const region_method *how, const region_settings *o, const clip_model *m, const picture *photo,
                        region_mask *mask, void *arg, size_t count, arena *memory, pool *cores, real *out, err *e);

/* A row's function: Global-Local CLIP (ris.c). */
bool region_ris(const region_settings *o, const clip_model *m, const picture *photo, const mask_image *mask, arena *memory,
                pool *cores, real *out, err *e);

/* ---- its pieces -------------------------------------------------------------------------------------- */
/* What the network sees, [side,side]: the picture family's whole difference. mean: the model's, of pixels in [0,1]. */
bool region_picture(const region_method *how, const picture *photo, const mask_image *mask, size_t side,
                    const real mean[3], picture *out, err *e);
/* What a mask does to a picture (shapes.c). The mask's box as a square; outside the mask this colour (0..255), NULL: as it is. */
bool region_crop(const picture *photo, const mask_image *mask, size_t side, const double *fill, picture *out, err *e);
/* inside * mask + outside * (1 - mask), into inside; outside NULL: the colour. */
bool picture_blend(picture *inside, const picture *outside, const double colour[3], const mask_image *mask, err *e);
bool picture_copy(const picture *p, picture *out, err *e);
static inline unsigned char byte_of(double v) { return (unsigned char)lrint(fmin(255, fmax(0, v))); }
/* The box of the mask's pixels of 1/2 and more (where there are none: above 0), as shares of its sides: x0 y0 x1 y1. */
void mask_box(const mask_image *m, double box[4]);
/* The mean of the mask in each of gh x gw equal cells. */
void mask_cells(const mask_image *m, size_t gh, size_t gw, double *cells);
/* Three box blurs that together have this standard deviation, in pixels; the border is repeated outwards. */
bool picture_blur(picture *p, double deviation, err *e);
#endif
