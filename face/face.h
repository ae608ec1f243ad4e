/* maskinv.h - MaskInversion as a library: a picture and its regions in, an embedding for each region out.
 *
 *     mi_model *m = mi_open("weights/ViT-B-16");                 // a folder or file; NULL: the model inside the library
 *     mi_image photo;
 *     mi_mask mask;
 *     if (!m || !mi_image_read("cat.jpg", &photo) || !mi_mask_read("mask.png", &mask)) return puts(mi_error()), 1;
 *     float *e = malloc(mi_embed_size(m) * sizeof *e);
 *     mi_invert_result r = {.embeddings = e};
 *     if (!mi_invert(m, &photo, &mask, 1, NULL, &r)) return puts(mi_error()), 1;
 *     mi_image_free(&photo), mi_mask_free(&mask), mi_close(m);
 *
 * Results are those of the command line, byte for byte. Whatever fails returns false or NULL, never stops or prints, and
 * mi_error() tells in words what was found and what was expected. One model may be used by any number of threads at
 * the same time, and any number of models side by side. The core below, which allocates nothing, is in core/.
 */
#ifndef MASKINV_FACE_H
#define MASKINV_FACE_H
#include <stdbool.h>
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

#define MASKINV_VERSION "1.0.0"
const char *mi_version(void); /* of the library that runs; MASKINV_VERSION is the header's */
/* What failed last in this thread, in words; "" when nothing did. Valid until this thread's next call. */
const char *mi_error(void);

/* ---- models ----------------------------------------------------------------------------------- */
typedef struct mi_model mi_model;
mi_model *mi_open(const char *path);
/* The same from the bytes of a safetensors file, its config and its merges (NULL: no texts), which must outlive it. */
mi_model *mi_open_bytes(const void *weights, size_t weights_size, const void *config, size_t config_size,
                        const void *merges, size_t merges_size);
void mi_close(mi_model *m); /* NULL is nothing */
/* Cores that each call uses (0: all; the last bits of results depend on it) and the most memory that it works in (0:
 * three quarters of the machine's; pages are taken as they are touched). Before the model is in use. */
void mi_set_threads(mi_model *m, size_t threads);
void mi_set_memory(mi_model *m, size_t bytes);

const char *mi_name(const mi_model *m);    /* the path it was opened by */
size_t mi_embed_size(const mi_model *m);   /* E, numbers of an embedding */
size_t mi_image_side(const mi_model *m);   /* pixels of the squares that it was trained on */
size_t mi_patch_side(const mi_model *m);
size_t mi_layer_count(const mi_model *m);  /* of the image side */
/* Pixels of the square that invert and explain work on: asked, or (0) twice the model's own. 0: not a multiple of the
 * patch, or too large. */
size_t mi_side(const mi_model *m, size_t asked);

/* ---- pictures, masks -------------------------------------------------------------------------- */
typedef struct { const unsigned char *rgb; size_t width, height; } mi_image; /* [height, width, 3] */
typedef struct { const float *soft; size_t width, height; } mi_mask;         /* [height, width] in 0..1; any size */
/* Files as the command line reads them. What was read is given back by the _free functions; what the caller filled in
 * is the caller's. */
bool mi_image_read(const char *path, mi_image *image);
bool mi_image_parse(const void *bytes, size_t size, mi_image *image);
void mi_image_free(mi_image *image);
bool mi_mask_read(const char *path, mi_mask *mask);
void mi_mask_free(mi_mask *mask);
/* All the masks that one -k of the command line names: FILE, FILE:7, FILE.npy:2, FILE.json (COCO's or SAM's regions),
 * FILE.json:dog, a folder, a pattern. image: the photograph, for JSON's polygons without sides; photo: its file's name,
 * for tables of many pictures; both may be NULL. */
bool mi_masks_read(const char *name, const char *photo, const mi_image *image, mi_mask **masks, size_t *count);
void mi_masks_free(mi_mask *masks, size_t count);

/* ---- embeddings ------------------------------------------------------------------------------- */
/* As the model gives them, not normalised. squash: the whole picture in a square, as invert sees it, instead of the
 * model's own transform; side 0: the model's own. out [E]. */
bool mi_embed_image(mi_model *m, const mi_image *image, bool squash, size_t side, float *out);
/* out [count, E] */
bool mi_embed_texts(mi_model *m, const char *const *texts, size_t count, float *out);
/* Unit embeddings [count, E], what invert and explain compare with. With templates ("a photo of a {}.") each is the
 * normalised mean of its sentences'. */
bool mi_embed_queries(mi_model *m, const char *const *texts, size_t count, const char *const *templates,
                      size_t template_count, float *out);
/* Of an embedding [E] with unit rows [count, E]: cosines, and their softmax by the model's scale; both [count], NULL
 * where not wanted. */
bool mi_compare(const mi_model *m, const float *embedding, const float *units, size_t count, double *similarity,
                double *probability);

/* ---- MaskInversion ----------------------------------------------------------------------------- */
typedef struct {
    size_t side, iters, layers;          /* 0: twice the model's image; what the model's config likes, else 10 and 1 */
    double lr, alpha, decay;             /* negative: what the model's config likes, else 0.5, 0 and 0 */
    const char *gradient;                /* NULL or "factored", "decomposed", "autograd", "jacobian", "compact" */
    const char *explainer;               /* NULL or "legrad", "gradcam", "chefer", "rollout" */
    bool (*progress)(void *arg, size_t mask, size_t step); /* NULL; after each step; false: stop after this mask */
    void *progress_arg;
} mi_invert_options;
mi_invert_options mi_invert_defaults(void);
size_t mi_invert_steps(const mi_model *m, const mi_invert_options *o); /* iters as it will be */

typedef struct {          /* the caller's room; NULL where not wanted */
    float *embeddings;    /* [count, E] as optimised, not normalised */
    float *losses;        /* [count, steps] before each update */
    float *const *maps;   /* [count] of [mask height, mask width]: the last step's map in 0..1 */
    float *image;         /* [E] the whole picture's embedding, where every inversion starts */
} mi_invert_result;
/* SigLIP's maps are corrected by the text "a photo of a" (MODEL.md 4.20) where the model has its tokenizer. */
bool mi_invert(mi_model *m, const mi_image *image, const mi_mask *masks, size_t count, const mi_invert_options *o,
               mi_invert_result *r);

/* ---- the same, step by step: for those who want to watch ------------------------------------------ */
/* A picture opened once, whose regions are then inverted one after another, a step a call, with every number at hand:
 *     mi_session *s = mi_session_open(m, &photo, NULL);
 *     mi_session_mask(s, &mask);
 *     for (mi_step step; mi_session_step(s, &step) && step.count < 10;) draw(step.map, step.loss);
 * Steps give mi_invert's numbers to the byte. One thread at a time. */
typedef struct mi_session mi_session;
typedef struct {                  /* equations: MODEL.md 4 and 5. Rows belong to the session until its next call */
    size_t count;                 /* steps made, this one included */
    size_t rows, columns, layers; /* of the grid; of explained layers */
    double loss, dice;            /* L (5.3) and Dice (5.2), both before the update */
    double inside, all, region;   /* Dice's sums: of M m, of M, of m */
    double low, high;             /* of R enlarged: M is (R - low)/(high - low) (4.4) */
    double cosine;                /* of e and c, before the update */
    double length, slope, moved;  /* |e| before, |dL/de|, |e after - e before| */
    const float *embedding;       /* [E] e after the update */
    const float *before;          /* [E] e that map and loss are of */
    const float *slopes;          /* [E] dL/de */
    const float *image;           /* [E] c, the whole picture's, where e starts */
    const float *map;             /* [mask height, mask width] M (5.1) */
    const float *grid;            /* [rows, columns] R (4.3) */
    const float *pull;            /* [rows, columns] dDice/dR (5.6): what is negative is asked to grow */
    const float *share;           /* [rows, columns] of the region in each patch, 0..1 */
} mi_step;
mi_session *mi_session_open(mi_model *m, const mi_image *image, const mi_invert_options *o);
bool mi_session_mask(mi_session *s, const mi_mask *mask); /* begins again, with this region; it is copied */
void mi_session_rates(mi_session *s, double lr, double alpha, double decay); /* from the next step on; negative: as it is */
bool mi_session_step(mi_session *s, mi_step *step);
/* R of each explained layer by itself, for the last step's e: [layers, rows, columns], whose sum is step.grid. False and an
 * error for other explainers than legrad with a closed form. */
bool mi_session_layers(mi_session *s, float *grids);
void mi_session_close(mi_session *s); /* NULL is nothing; before its model */

/* ---- explanations ------------------------------------------------------------------------------- */
typedef struct {
    const char *method;           /* NULL: "legrad"; mi_method_name */
    size_t side, blocks;          /* 0: twice the model's image; the method's own number of last layers or blocks */
    const char *const *templates; /* of texts; none: as they are (surgery: its own 85) */
    size_t template_count;
} mi_explain_options;
size_t mi_method_count(void);
const char *mi_method_name(size_t i);
/* Maps [count, side, side] in 0..1 of texts, or of embeddings [count, E] of any length. */
bool mi_explain_texts(mi_model *m, const mi_image *image, const char *const *texts, size_t count,
                      const mi_explain_options *o, float *maps);
bool mi_explain(mi_model *m, const mi_image *image, const float *embeddings, size_t count, const mi_explain_options *o,
                float *maps);

#ifdef __cplusplus
}
#endif
#endif
