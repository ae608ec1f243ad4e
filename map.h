/* map.h - from grid to pixels: interpolation, its transpose, min-max.
 *
 *     lerp y, x;                                       // 14 patches -> 448 pixels -> a mask of 480 x 640
 *     if (!lerp_make_twice(&y, 14, 32, 480, &memory, &f) || !lerp_make_twice(&x, 14, 32, 640, &memory, &f)) ...
 *     lerp_apply(&y, &x, grid, map);                   // [480,640]; lerp_transpose goes back
 *
 * What a patch says is one number; a map has one a pixel. All of it is linear but the min-max.
 */
#ifndef MAP_H
#define MAP_H
#include "gemm.h"

/* Bilinear interpolation along one side, half-pixel centres, edges repeated: out[i] = sum_k w[i][k] in[at[i] + k]. */
enum { LERP_TAPS = 3 };
typedef struct {
    size_t from, to;
    uint32_t *at; /* [to] */
    real *w;      /* [to, LERP_TAPS]; taps beyond the side are 0 */
} lerp;
bool lerp_make(lerp *l, size_t from, size_t to, arena *memory, fault *f);
/* First from `from` to `from * scale`, then to `to`: both steps in one. */
bool lerp_make_twice(lerp *l, size_t from, size_t scale, size_t to, arena *memory, fault *f);
/* out[y->to, x->to] = rows and columns of in[y->from, x->from] interpolated. */
void lerp_apply(const lerp *y, const lerp *x, const real *in, real *out);
/* The same in two parts: columns of in [rows, x->from] to wide [rows, x->to]; then any row i of the result, out [width]. */
void lerp_across(const lerp *x, const real *in, size_t rows, real *wide);
void lerp_row(const lerp *y, const real *wide, size_t width, size_t i, real *out);
/* The transpose: in[y->from, x->from] = what out[y->to, x->to] gives back. */
void lerp_transpose(const lerp *y, const lerp *x, const real *out, real *in);

/* Smallest and largest value of the grid enlarged bilinearly by scale, and the pixels where they are. */
typedef struct {
    real low, high;
    size_t low_at[2], high_at[2]; /* row, column in [gh*scale, gw*scale] */
} extremes;
extremes map_extremes(const real *grid, size_t gh, size_t gw, size_t scale);
/* The same, with faults: NAN, and FLAT where low is high. */
bool map_range(const real *grid, size_t gh, size_t gw, size_t scale, size_t layers, extremes *e, fault *f);
/* grid [gh,gw] += what a derivative g of the enlarged map's pixel gives back. */
void map_extremes_transpose(real *grid, size_t gh, size_t gw, size_t scale, const size_t pixel[2], real g);
/* (v - low)/(high - low), within 0..1 */
real map_unit(real v, const extremes *e);
/* The same of every cell of in [gh,gw], as it stands; out may be in. Faults as map_range's. */
bool map_unit_grid(const real *in, size_t gh, size_t gw, size_t layers, real *out, fault *f);
/* grid [gh,gw] -> map [gh*scale, gw*scale], min-max to 0..1; layers is for the FLAT fault's text. Scratch from memory.
 */
bool map_from_grid(const real *grid, size_t gh, size_t gw, size_t scale, size_t layers, real *map, arena *memory,
                   fault *f);
/* The other order: min-max on the grid, then enlarged to map [height,width]. */
bool map_from_unit_grid(const real *grid, size_t gh, size_t gw, size_t layers, real *map, size_t height, size_t width,
                        arena *memory, fault *f);
/* Bilinear, no antialias: in [h,w] -> out [oh,ow]. (image.h has a map_resize of its own.) */
bool map_fit(const real *in, size_t h, size_t w, real *out, size_t oh, size_t ow, arena *memory, fault *f);

/* PAMR: a mask drawn to the edges of a picture (pamr.c; Araslanov & Roth 2020; MODEL.md 6.4).
 *
 *     const size_t dilations[] = {8, 16};
 *     if (!explain_pamr(picture, 3, h, w, masks, 20, 10, dilations, 2, &memory, cores, &f)) ...   // masks [20,h,w]
 */
enum { PAMR_DILATIONS = 8, PAMR_TOGETHER = 4 };
/* Weights of one picture, for any number of masks, some of them side by side. */
typedef struct {
    size_t h, w, dilations, dilation[PAMR_DILATIONS], together;
    size_t edge, stride; /* a row: w numbers, edge on both sides, and what fills up its last vector */
    real *weights, *planes[2]; /* [h, vectors, 8 dilations, 16]; [together, h, stride] */
    pool *cores;
} pamr;
/* image [channels,h,w]; what is in r lies in memory: room for at most `together` masks side by side. Faults: RANGE (dilations),
 * MEMORY. */
bool pamr_open(pamr *r, const real *image, size_t channels, size_t h, size_t w, const size_t *dilations, size_t dilation_count,
               size_t together, arena *memory, pool *cores, fault *f);
/* masks [count,h,w], in place. */
void pamr_refine(pamr *r, real *masks, size_t count, size_t steps);
/* The same without copies: write masks row by row, run those that are there, read the rows. mask < together */
real *pamr_row(const pamr *r, size_t mask, size_t y);
void pamr_run(pamr *r, size_t masks, size_t steps);
/* image [channels,h,w] guides masks [count,h,w], in place. Scratch: 8 dilations h w + 2 h w reals or more. Fault: MEMORY. */
bool explain_pamr(const real *image, size_t channels, size_t h, size_t w, real *masks, size_t count, size_t steps,
                  const size_t *dilations, size_t dilation_count, arena *memory, pool *cores, fault *f);
#endif
