/* segment.h - open-vocabulary segmentation: a picture and lists of names in, a class for every pixel out (MODEL.md 6.7).
 *
 *     segment_classes classes;
 *     if (!segment_classes_read("voc21", &classes, &e)) ...             // or a file: a class a line, names between commas
 *     segmenter s = {.model = m, .classes = &classes, .queries = embeddings, .settings = segment_defaults(m, how, classes.list)};
 *     segmentation out;
 *     if (!segment_picture(&s, &photo, &out, &memory, cores, &e)) ...   // out.label [photo.height, photo.width]
 *
 * The protocol that SCLIP, NACLIP, ResCLIP and SC-CLIP share, in the order of the files: settings.c what each of them sets
 * for each dataset; input.c the picture as their network sees it; windows.c cosines of all windows, averaged where they
 * overlap; decide.c cosines to classes at the photograph's own size. clusters.c: CLIPtrase's way instead of the last.
 */
#ifndef SEGMENT_H
#define SEGMENT_H
#include "methods.h"
#include "pictures/image.h"

/* ---- classes: names that are asked for ---------------------------------------------------------------- */
typedef struct segment_list segment_list; /* settings.c: a published list, with what its dataset sets */
typedef struct {
    const char **queries;      /* [query_count] every name of every class */
    uint32_t *owner;           /* [query_count] whose name it is */
    const char **titles;       /* [count] what a class is called: its first name, or "background" */
    size_t query_count, count;
    const segment_list *list;  /* NULL: from a file */
    void *block, *under;       /* theirs */
} segment_classes;
enum { SEGMENT_CLASSES = 65535 };
/* what: the name of a published list, else a file, a class a line, names between commas. */
bool segment_classes_read(const char *what, segment_classes *c, err *e);
void segment_classes_free(segment_classes *c);

/* ---- settings ------------------------------------------------------------------------------------------ */
typedef struct {
    const method *how;
    size_t blocks;                /* 0: the method's own number */
    method_settings method;       /* ResCLIP's */
    size_t shorter;               /* the picture's shorter side, as the network sees it */
    size_t window, stride;        /* window 0: the whole picture at once */
    double scale, prob_thd, area_thd; /* area_thd < 0: off */
    size_t pamr;                  /* steps; 0: off */
    size_t dilations[PAMR_DILATIONS], dilation_count;
    double eps;                   /* CLIPtrase's clusters: how near neighbours are */
    size_t least;                 /* ... and how many make a core, itself counted */
    bool image_level;             /* CLIPtrase: cosines times the class token's own */
} segment_settings;
/* As published for this method and list; list NULL: no background, for any names. */
segment_settings segment_defaults(const clip_model *m, const method *how, const segment_list *list);
/* Can it? Its grids must be cosines. */
bool segment_knows(const method *how);

/* A published list and its dataset. */
struct segment_list {
    const char *name, *title, *data; /* "voc21", "PASCAL VOC 2012, with background", "voc2012" of data.h (NULL: none) */
    const char *const *lines;
    size_t count;
    const char *const *words; /* CLIPtrase's background words, all of one more class; NULL: none */
    size_t word_count;
    const char *first;     /* what class 0 is called where its names are not it; NULL: its first name */
    bool background;       /* class 0 is all that is unsure; with words: it is the last class */
    size_t shorter;        /* at windows of 224 */
    bool whole;            /* NACLIP and ResCLIP take the whole picture at once */
    double sclip_scale, scclip_scale, prob_thd, scclip_thd, area_thd;
    double lambda_r, tau_s, lambda_s, temp_thd; /* ResCLIP's */
};
size_t segment_list_count(void);
const segment_list *segment_list_at(size_t i);
const segment_list *segment_list_find(const char *name);

/* ---- one picture --------------------------------------------------------------------------------------- */
typedef struct {
    const clip_model *model;
    const segment_classes *classes;
    const real *queries; /* [query_count, E] unit */
    const real *empty;   /* [E] the empty text's, for Surgery of one query; else NULL */
    segment_settings settings;
    bool sure;            /* wanted: how sure each pixel is. It costs an exponential a pixel and query */
} segmenter;

typedef struct {
    size_t width, height, input_width, input_height, windows;
    uint16_t *label; /* [height,width] */
    real *sure;      /* [height,width] the label's probability; NULL where neither asked for nor needed */
} segmentation;
/* What is in out lies in memory. */
bool segment_picture(const segmenter *s, const picture *photo, segmentation *out, arena *memory, pool *cores, err *e);

/* Its steps, one by one. */
/* 8-bit bilinear without antialiasing, as OpenCV's INTER_LINEAR has it, to the byte. rgb [h,w,3] -> out [oh,ow,3] */
void segment_resize(const unsigned char *rgb, size_t h, size_t w, unsigned char *out, size_t oh, size_t ow);
/* The shorter side to `shorter`, the longer at most 2048. */
void segment_sides(size_t width, size_t height, size_t shorter, size_t *w, size_t *h);
/* [3,h,w] of the picture, normalised. In memory. */
real *segment_input(const clip_model *m, const picture *photo, size_t h, size_t w, arena *memory, err *e);
/* Places of windows along a side. */
size_t segment_window_count(size_t side, size_t window, size_t stride);
size_t segment_window_start(size_t side, size_t window, size_t stride, size_t i);
/* Cosines [query_count,h,w] of pixels [3,h,w], in memory; *windows of them were run. */
real *segment_cosines(const segmenter *s, const real *pixels, size_t h, size_t w, size_t *windows, arena *memory, pool *cores,
                      fault *f);
/* Cosines and pixels at h x w -> labels at out->height x out->width. */
bool segment_decide(const segmenter *s, const real *cosines, const real *pixels, size_t h, size_t w, segmentation *out,
                    arena *memory, pool *cores, fault *f);

/* CLIPtrase's way (clusters.c): pixels [3,h,w] -> labels at out->height x out->width, nearest. What is between, for who asks;
 * each may be NULL. */
typedef struct {
    int32_t *clusters; /* [gh gw], -1: none */
    uint16_t *before;  /* [h,w] without clusters */
    uint16_t *label;   /* [h,w] */
} cluster_steps;
bool segment_by_clusters(const segmenter *s, const real *pixels, size_t h, size_t w, segmentation *out, cluster_steps *steps,
                         arena *memory, pool *cores, fault *f);
/* DBSCAN of x [P,n], Euclidean: clusters in the order of their first core point, a border point in the first that reaches it,
 * -1: noise. Their number; SIZE_MAX: no memory. */
size_t cluster_points(const real *x, size_t P, size_t n, double eps, size_t least, int32_t *cluster, arena *memory, pool *cores,
                      fault *f);
/* 7 x 7 median, borders mirrored with the edge repeated. */
void cluster_median(const real *in, size_t h, size_t w, real *out);

/* Bilinear, half-pixel centres: what map_fit does, row by row and ready for many. */
typedef struct {
    size_t h, w, oh, ow;
    uint32_t *row, *column; /* [oh], [ow]: the first of two cells */
    real *down, *across;    /* [oh], [ow]: the second one's share */
} enlarging;
bool enlarging_make(enlarging *g, size_t h, size_t w, size_t oh, size_t ow, arena *memory, fault *f);
/* in [h,w] -> wide [h,ow]; then any row of the result, out [ow] = or += */
void enlarge_across(const enlarging *g, const real *in, real *wide);
void enlarge_row(const enlarging *g, const real *wide, size_t y, real *out, bool add);
#endif
