/* regions.c - region embeddings (see regions.h; sources: MODEL.md 10). */
#include "regions/regions.h"
#include "methods.h"
#include <math.h>
#include <string.h>

/* The ellipse that the box holds, its line 2 pixels at a side of 336 (FGVP's code), never under 1; distances to first
 * order: (f - 1)/|grad f| with f = sqrt((x/a)^2 + (y/b)^2). */
static void red_circle(picture *p, const mask_image *mask) {
    double box[4], side = (double)p->width, line = fmax(1, 2 * side / 336);
    mask_box(mask, box);
    double cx = (box[0] + box[2]) / 2 * side, cy = (box[1] + box[3]) / 2 * side;
    double a = fmax(1, (box[2] - box[0]) / 2 * side), b = fmax(1, (box[3] - box[1]) / 2 * side);
    for (size_t i = 0; i < p->width * p->height; i++) {
        double x = (double)(i % p->width) + 0.5 - cx, y = (double)(i / p->width) + 0.5 - cy;
        double f = hypot(x / a, y / b), slope = hypot(x / (a * a), y / (b * b)) / (f > 0 ? f : 1);
        double away = slope > 0 ? fabs(f - 1) / slope : fmin(a, b);
        double cover = fmin(1, fmax(0, line / 2 + 0.5 - away));
        static const double red[3] = {255, 0, 0};
        for (size_t c = 0; c < 3; c++)
            p->rgb[3 * i + c] = byte_of((1 - cover) * (double)p->rgb[3 * i + c] + cover * red[c]);
    }
}

static void make_grey(picture *p) { /* ITU-R 601 luma */
    for (size_t i = 0; i < p->width * p->height; i++) {
        unsigned char *v = p->rgb + 3 * i;
        v[0] = v[1] = v[2] = byte_of(0.299 * v[0] + 0.587 * v[1] + 0.114 * v[2]);
    }
}

/* ---- what the network sees --------------------------------------------------------------------------------- */
static bool see_whole(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    (void)mask, (void)colour;
    return picture_resize(photo, side, side, out, e);
}

static bool see_crop(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    (void)colour;
    return region_crop(photo, mask, side, NULL, out, e);
}

static bool see_masked_crop(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out,
                            err *e) {
    return region_crop(photo, mask, side, colour, out, e);
}

static bool see_red_circle(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out,
                           err *e) {
    (void)colour;
    if (!picture_resize(photo, side, side, out, e)) return false;
    red_circle(out, mask);
    return true;
}

/* The whole picture, outside the mask what `other` is: both are freed where that fails. */
static bool surrounded(picture *p, picture *other, bool ok, const mask_image *mask, err *e) {
    ok = ok && picture_blend(p, other, NULL, mask, e);
    picture_free(other);
    if (!ok) picture_free(p);
    return ok;
}

/* Blurred by 100 pixels at a side of 336 (FGVP's code). */
static bool see_blur(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    (void)colour;
    picture other = {0};
    if (!picture_resize(photo, side, side, out, e)) return false;
    bool ok = picture_copy(out, &other, e) && picture_blur(&other, 100.0 / 336 * (double)side, e);
    return surrounded(out, &other, ok, mask, e);
}

/* FGVP's code: a square of 384, a Gaussian of 100 pixels outside the mask, which is all that is above 0. */
static bool see_fgvp(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    enum { FGVP_SIDE = 384, FGVP_DEVIATION = 100 };
    (void)colour;
    picture square = {0}, other = {0};
    mask_image hard = {mask->width, mask->height, mem_alloc(mask->width * mask->height, sizeof *hard.soft)};
    bool ok = hard.soft || err_set(e, "no memory for a mask of %zux%zu pixels", mask->width, mask->height);
    for (size_t i = 0; ok && i < mask->width * mask->height; i++) hard.soft[i] = mask->soft[i] > 0;
    ok = ok && picture_resize(photo, FGVP_SIDE, FGVP_SIDE, &square, e) && picture_copy(&square, &other, e) &&
         picture_blur(&other, FGVP_DEVIATION, e) && picture_blend(&square, &other, NULL, &hard, e) && picture_resize(&square, side, side, out, e);
    picture_free(&square), picture_free(&other);
    mem_free(hard.soft);
    return ok;
}

static bool see_grey(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    (void)colour;
    picture other = {0};
    if (!picture_resize(photo, side, side, out, e)) return false;
    bool ok = picture_copy(out, &other, e);
    if (ok) make_grey(&other);
    return surrounded(out, &other, ok, mask, e);
}

/* ---- the list: a new method is a row and a function ------------------------------------------------------------ */
static const region_method METHODS[] = {
    {"cls", "the whole picture, the mask unused", "CLIP", REGION_PICTURE, false, false, 1, .see = see_whole},
    {"crop", "the mask's box", "R-CNN style", REGION_PICTURE, true, false, 1, .see = see_crop},
    {"maskedcrop", "the mask's box, the model's mean colour outside the mask", "OVSeg, FGVP's ov_seg", REGION_PICTURE,
     true, false, 1, .see = see_masked_crop},
    {"redcircle", "a red ellipse in the mask's box, on the whole picture", "Shtedritski et al. 2023", REGION_PICTURE,
     true, false, 1, .see = see_red_circle},
    {"blur", "blurred outside the mask", "FGVP, blur reverse mask", REGION_PICTURE, true, false, 1, .see = see_blur},
    {"greyscale", "grey outside the mask", "FGVP, grayscale reverse mask", REGION_PICTURE, true, false, 1, .see = see_grey},
    {"alphaclip", "the whole picture, the mask as the plane that AlphaCLIP sees beside it", "AlphaCLIP, sec. 3.2",
     REGION_PICTURE, true, true, 1, .see = see_whole},
    {"fgvp", "blurred outside the mask, as the published code has it: 384 pixels, deviation 100", "FGVP, blur_mask", REGION_PICTURE,
     true, false, 1, .see = see_fgvp},
    {"ris", "the picture's tokens masked in the last three blocks, with a twentieth of the masked crop", "RIS, Global-Local CLIP",
     REGION_OWN, true, false, 1, .embed = region_ris},
    {"pool", "MaskCLIP's patches averaged in the mask", "MaskCLIP, sec. 3.2", REGION_TOKENS, true, false, 2, .tokens = "maskclip"},
    {"surgery", "CLIP Surgery's patches averaged in the mask", "CLIP Surgery, eq. 3-6", REGION_TOKENS, true, false, 2,
     .tokens = "surgery"},
    {"maskinv", "the embedding whose map fills the mask", "MaskInversion", REGION_INVERT, true, false, 2, .tokens = NULL},
};

size_t region_method_count(void) { return sizeof METHODS / sizeof *METHODS; }
const region_method *region_method_at(size_t i) { return i < region_method_count() ? &METHODS[i] : NULL; }
const region_method *region_method_find(const char *name) {
    for (size_t i = 0; i < region_method_count(); i++)
        if (!strcmp(METHODS[i].name, name)) return &METHODS[i];
    return NULL;
}

bool region_picture(const region_method *how, const picture *photo, const mask_image *mask, size_t side,
                    const real mean[3], picture *out, err *e) {
    double colour[3] = {255 * (double)mean[0], 255 * (double)mean[1], 255 * (double)mean[2]};
    return how->see(photo, mask, side, colour, out, e);
}

/* ---- embeddings: pictures, in batches ----------------------------------------------------------------------- */
enum { TOGETHER = 8 };
typedef struct {
    region_mask *at;
    void *arg;
} mask_list;

/* The pictures of masks first..first+n-1 as patches [n, cells, 3pp]. */
static ag_tensor *batch_patches(ag_tape *t, const region_method *how, size_t side, const clip_model *m,
                                const picture *photo, const mask_list *masks, size_t first, size_t n, err *e) {
    const clip_config *config = &m->config;
    size_t cells = (side / config->patch) * (side / config->patch), each = (config->alpha ? 4 : 3) * config->patch * config->patch;
    ag_tensor *all = ag_new(t, n, cells, each);
    for (size_t i = 0; all && i < n; i++) {
        picture seen;
        ag_mark mark = ag_tape_mark(t);
        const mask_image *mask = how->masked ? masks->at(masks->arg, first + i, e) : NULL;
        if (how->masked && !mask) return NULL;
        if (!region_picture(how, photo, mask, side, config->mean, &seen, e)) return NULL;
        real *pixels = pixels_squash(&seen, side, config->mean, config->std, e);
        picture_free(&seen);
        real *plane = pixels && how->alpha ? pixels_alpha(mask, side, e) : NULL;
        ag_tensor *one = pixels && (plane || !how->alpha) ? clip_patches_alpha(t, m, pixels, plane, side, side) : NULL;
        mem_free(plane);
        mem_free(pixels);
        if (!one) return NULL;
        memcpy(all->data + i * cells * each, one->data, cells * each * sizeof(real));
        ag_tape_reset(t, mark);
    }
    return all;
}

static bool embed_pictures(const region_method *how, size_t side, const clip_model *m, const picture *photo,
                           const mask_list *masks, size_t count, arena *memory, pool *cores, real *out, err *e) {
    size_t grid = side / m->config.patch, E = m->config.embed, seen = how->masked ? count : 1;
    for (size_t i = 0, n; i < seen; i += n) {
        ag_tape t;
        size_t mark = arena_mark(memory);
        n = seen - i < TOGETHER ? seen - i : TOGETHER;
        e->text[0] = 0;
        ag_tensor *z = NULL;
        if (ag_tape_init(&t, memory, cores, 1)) {
            t.recording = false;
            ag_tensor *patches = batch_patches(&t, how, side, m, photo, masks, i, n, e);
            if (patches) z = clip_image(&t, m, patches, grid, grid);
        }
        if (z) memcpy(out + i * E, z->data, n * E * sizeof *out);
        arena_reset(memory, mark);
        if (!z) return e->text[0] ? false : err_fault(e, &t.fault);
    }
    for (size_t i = seen; i < count; i++) memcpy(out + i * E, out, E * sizeof *out);
    return true;
}

/* ---- embeddings: tokens, averaged in the mask ------------------------------------------------------------------ */
/* (10.1)  v = sum_i w_i F_i/|F_i| / sum w: its product with a unit text is the mean of the patches' cosines in the
 * mask. */
static bool average_tokens(const explainer *x, const mask_image *mask, double *w, real *v, err *e) {
    size_t E = x->model->config.embed, cells = x->gh * x->gw;
    double all = 0;
    mask_cells(mask, x->gh, x->gw, w);
    memset(v, 0, E * sizeof *v);
    for (size_t i = 0; i < cells; i++) all += w[i];
    if (!(all > 0)) return err_set(e, "an empty mask has no tokens to average");
    for (size_t i = 0; i < cells; i++) {
        const real *F = x->tokens + (1 + i) * E;
        double length = 0;
        for (size_t k = 0; k < E; k++) length += (double)F[k] * (double)F[k];
        double share = length > 0 ? w[i] / all / sqrt(length) : 0;
        for (size_t k = 0; share > 0 && k < E; k++) v[k] += (real)(share * (double)F[k]);
    }
    return true;
}

static bool embed_tokens(const region_method *how, const region_settings *o, const clip_model *m, const picture *photo,
                         const mask_list *masks, size_t count, arena *memory, pool *cores, real *out, err *e) {
    explainer x;
    fault f = {0};
    size_t mark = arena_mark(memory), E = m->config.embed;
    real *pixels = pixels_squash(photo, o->side, m->config.mean, m->config.std, e);
    if (!pixels) return false;
    bool ok = method_open(&x, method_find(how->tokens), m, pixels, o->side, o->side,
                          &(method_options){.blocks = o->blocks, .patches_only = true}, memory, cores, &f);
    mem_free(pixels);
    if (!ok) return err_fault(e, &f);
    double *w = mem_alloc(x.gh * x.gw, sizeof *w);
    if (!w) ok = err_set(e, "no memory for %zu cells", x.gh * x.gw);
    for (size_t i = 0; ok && i < count; i++) {
        const mask_image *mask = masks->at(masks->arg, i, e);
        ok = mask && average_tokens(&x, mask, w, out + i * E, e);
    }
    mem_free(w);
    arena_reset(memory, mark);
    return ok;
}

bool regions_embed_each(const region_method *how, const region_settings *o, const clip_model *m, const picture *photo,
                        region_mask *mask, void *arg, size_t count, arena *memory, pool *cores, real *out, err *e) {
    mask_list masks = {mask, arg};
    if (how->alpha && !m->config.alpha)
        return err_set(e, "%s: the model sees no region beside the pixels, expected AlphaCLIP's weights", how->name);
    if (how->family == REGION_TOKENS) return embed_tokens(how, o, m, photo, &masks, count, memory, cores, out, e);
    if (how->family == REGION_PICTURE)
        return embed_pictures(how, o->side, m, photo, &masks, count, memory, cores, out, e);
    if (how->family == REGION_INVERT) return err_set(e, "%s is not computed here", how->name);
    for (size_t i = 0; i < count; i++) {
        const mask_image *one = mask(arg, i, e);
        if (!one || !how->embed(o, m, photo, one, memory, cores, out + i * m->config.embed, e)) return false;
    }
    return true;
}

static const mask_image *from_array(void *arg, size_t i, err *e) {
    (void)e;
    return (const mask_image *)arg + i;
}

bool regions_embed(const region_method *how, const region_settings *o, const clip_model *m, const picture *photo,
                   const mask_image *masks, size_t count, arena *memory, pool *cores, real *out, err *e) {
    return regions_embed_each(how, o, m, photo, from_array, (void *)(uintptr_t)masks, count, memory, cores, out, e);
}
