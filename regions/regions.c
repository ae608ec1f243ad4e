/* regions.c - region embeddings (see regions.h; sources: MODEL.md 10). */
#include "regions/regions.h"
#include "methods.h"
#include <math.h>
#include <string.h>

/* ---- masks ------------------------------------------------------------------------------------------- */
static bool box_above(const mask_image *m, float least, size_t box[4]) {
    box[0] = m->width, box[1] = m->height, box[2] = box[3] = 0;
    for (size_t y = 0; y < m->height; y++)
        for (size_t x = 0; x < m->width; x++) {
            if (!(m->soft[y * m->width + x] >= least)) continue;
            box[0] = x < box[0] ? x : box[0], box[2] = x + 1 > box[2] ? x + 1 : box[2];
            box[1] = y < box[1] ? y : box[1], box[3] = y + 1;
        }
    return box[2] > 0;
}

void mask_box(const mask_image *m, double box[4]) {
    size_t b[4];
    if (!box_above(m, 0.5f, b) && !box_above(m, 1e-9f, b)) b[0] = b[1] = 0, b[2] = m->width, b[3] = m->height;
    for (size_t i = 0; i < 4; i++) box[i] = (double)b[i] / (double)(i % 2 ? m->height : m->width);
}

/* How much of pixel i lies in cell c of n over a side of `pixels`. */
static double overlap(size_t i, size_t c, size_t n, size_t pixels) {
    double low = (double)c * (double)pixels / (double)n, high = (double)(c + 1) * (double)pixels / (double)n;
    return fmax(0, fmin((double)(i + 1), high) - fmax((double)i, low));
}

void mask_cells(const mask_image *m, size_t gh, size_t gw, double *cells) {
    double area = (double)m->height / (double)gh * (double)m->width / (double)gw;
    for (size_t r = 0; r < gh; r++)
        for (size_t c = 0; c < gw; c++) {
            double sum = 0;
            for (size_t y = r * m->height / gh; y < m->height && y * gh < (r + 1) * m->height; y++) {
                double row = 0;
                for (size_t x = c * m->width / gw; x < m->width && x * gw < (c + 1) * m->width; x++)
                    row += overlap(x, c, gw, m->width) * (double)m->soft[y * m->width + x];
                sum += overlap(y, r, gh, m->height) * row;
            }
            cells[r * gw + c] = sum / area;
        }
}

/* ---- blur ---------------------------------------------------------------------------------------------- */
/* The box that, used `passes` times, has the Gaussian's deviation: its whole radius, and the weight of its two ends
 * (Gwosdek et al., "extended box filtering"; Pillow's GaussianBlur is this). */
typedef struct {
    long radius;
    double end;
} box_filter;
static box_filter box_of(double deviation, int passes) {
    double variance = deviation * deviation / passes, length = sqrt(12 * variance + 1), l = floor((length - 1) / 2);
    double end = (2 * l + 1) * (l * (l + 1) - 3 * variance) / (6 * (variance - (l + 1) * (l + 1)));
    return (box_filter){(long)l, end};
}

static double at_border(const double *line, long i, long n) { return line[i < 0 ? 0 : i < n ? i : n - 1]; }

static void box_line(const double *in, double *out, long n, box_filter b) {
    double sum = 0, all = (double)(2 * b.radius + 1) + 2 * b.end;
    for (long i = -b.radius; i <= b.radius; i++) sum += at_border(in, i, n);
    for (long i = 0; i < n; i++) {
        out[i] = (sum + b.end * (at_border(in, i - b.radius - 1, n) + at_border(in, i + b.radius + 1, n))) / all;
        sum += at_border(in, i + b.radius + 1, n) - at_border(in, i - b.radius, n);
    }
}

enum { BLUR_PASSES = 3 };
/* One line of one channel, blurred in place; each pass reads one buffer and writes the other. */
static void blur_line(unsigned char *first, size_t step, size_t n, box_filter b, double *a, double *z) {
    for (size_t i = 0; i < n; i++) a[i] = (double)first[i * step];
    for (int pass = 0; pass < BLUR_PASSES; pass++) {
        box_line(a, z, (long)n, b);
        double *other = a;
        a = z, z = other;
    }
    for (size_t i = 0; i < n; i++) first[i * step] = (unsigned char)lrint(fmin(255, fmax(0, a[i])));
}

bool picture_blur(picture *p, double deviation, err *e) {
    size_t longer = p->width > p->height ? p->width : p->height;
    double *room = mem_alloc(longer, 2 * sizeof *room);
    if (!room) return err_set(e, "no memory to blur a picture of %zux%zu pixels", p->width, p->height);
    box_filter b = box_of(deviation, BLUR_PASSES);
    for (size_t c = 0; c < 3; c++) {
        for (size_t y = 0; y < p->height; y++)
            blur_line(p->rgb + y * p->width * 3 + c, 3, p->width, b, room, room + longer);
        for (size_t x = 0; x < p->width; x++)
            blur_line(p->rgb + x * 3 + c, p->width * 3, p->height, b, room, room + longer);
    }
    mem_free(room);
    return true;
}

/* ---- pictures -------------------------------------------------------------------------------------------- */
static unsigned char byte_of(double v) { return (unsigned char)lrint(fmin(255, fmax(0, v))); }

/* inside * mask + outside * (1 - mask), into inside; outside NULL: the colour. */
static bool blend(picture *inside, const picture *outside, const double colour[3], const mask_image *mask, err *e) {
    size_t n = inside->width * inside->height;
    float *soft = mem_alloc(n, sizeof *soft);
    if (!soft) return err_set(e, "no memory for a mask of %zux%zu pixels", inside->width, inside->height);
    map_resize(mask->soft, mask->height, mask->width, soft, inside->height, inside->width);
    for (size_t i = 0; i < 3 * n; i++) {
        double share = (double)soft[i / 3], other = outside ? (double)outside->rgb[i] : colour[i % 3];
        inside->rgb[i] = byte_of(share * (double)inside->rgb[i] + (1 - share) * other);
    }
    mem_free(soft);
    return true;
}

static bool crop_to_box(const picture *photo, const mask_image *mask, picture *out, err *e) {
    double box[4];
    mask_box(mask, box);
    size_t x0 = (size_t)floor(box[0] * (double)photo->width), y0 = (size_t)floor(box[1] * (double)photo->height);
    size_t x1 = (size_t)ceil(box[2] * (double)photo->width), y1 = (size_t)ceil(box[3] * (double)photo->height);
    x1 = x1 > photo->width ? photo->width : x1, y1 = y1 > photo->height ? photo->height : y1;
    if (!picture_new(x1 - x0, y1 - y0, out, e)) return false;
    for (size_t y = y0; y < y1; y++)
        memcpy(out->rgb + (y - y0) * out->width * 3, photo->rgb + (y * photo->width + x0) * 3, out->width * 3);
    return true;
}

static bool copy_of(const picture *p, picture *out, err *e) {
    if (!picture_new(p->width, p->height, out, e)) return false;
    memcpy(out->rgb, p->rgb, p->width * p->height * 3);
    return true;
}

static bool cropped(const picture *photo, const mask_image *mask, size_t side, const double *fill, picture *out,
                    err *e) {
    picture whole = {0}, part = {0};
    bool ok = copy_of(photo, &whole, e) && (!fill || blend(&whole, NULL, fill, mask, e)) &&
              crop_to_box(&whole, mask, &part, e) && picture_resize(&part, side, side, out, e);
    picture_free(&whole);
    picture_free(&part);
    return ok;
}

bool region_masked_crop(const picture *photo, const mask_image *mask, size_t side, const double colour[3], picture *out, err *e) {
    return cropped(photo, mask, side, colour, out, e);
}

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
    return cropped(photo, mask, side, NULL, out, e);
}

static bool see_masked_crop(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out,
                            err *e) {
    return cropped(photo, mask, side, colour, out, e);
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
    ok = ok && blend(p, other, NULL, mask, e);
    picture_free(other);
    if (!ok) picture_free(p);
    return ok;
}

/* Blurred by 100 pixels at a side of 336 (FGVP's code). */
static bool see_blur(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    (void)colour;
    picture other = {0};
    if (!picture_resize(photo, side, side, out, e)) return false;
    bool ok = copy_of(out, &other, e) && picture_blur(&other, 100.0 / 336 * (double)side, e);
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
    ok = ok && picture_resize(photo, FGVP_SIDE, FGVP_SIDE, &square, e) && copy_of(&square, &other, e) &&
         picture_blur(&other, FGVP_DEVIATION, e) && blend(&square, &other, NULL, &hard, e) && picture_resize(&square, side, side, out, e);
    picture_free(&square), picture_free(&other);
    mem_free(hard.soft);
    return ok;
}

static bool see_grey(const picture *photo, const mask_image *mask, size_t side, const double *colour, picture *out, err *e) {
    (void)colour;
    picture other = {0};
    if (!picture_resize(photo, side, side, out, e)) return false;
    bool ok = copy_of(out, &other, e);
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
     true, 1, .see = see_fgvp},
    {"ris", "the picture's tokens masked in the last three blocks, with a twentieth of the masked crop", "RIS, Global-Local CLIP",
     REGION_OWN, true, 1, .embed = region_ris},
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
        float *pixels = pixels_squash(&seen, side, config->mean, config->std, e);
        picture_free(&seen);
        float *plane = pixels && how->alpha ? pixels_alpha(mask, side, e) : NULL;
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
                           const mask_list *masks, size_t count, arena *memory, pool *cores, float *out, err *e) {
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
static bool average_tokens(const explainer *x, const mask_image *mask, double *w, float *v, err *e) {
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
        for (size_t k = 0; share > 0 && k < E; k++) v[k] += (float)(share * (double)F[k]);
    }
    return true;
}

static bool embed_tokens(const region_method *how, const region_settings *o, const clip_model *m, const picture *photo,
                         const mask_list *masks, size_t count, arena *memory, pool *cores, float *out, err *e) {
    explainer x;
    fault f = {0};
    size_t mark = arena_mark(memory), E = m->config.embed;
    float *pixels = pixels_squash(photo, o->side, m->config.mean, m->config.std, e);
    if (!pixels) return false;
    bool ok = method_open(&x, method_find(how->tokens), m, pixels, o->side, o->side,
                          &(method_options){.blocks = o->blocks}, memory, cores, &f);
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
                        region_mask *mask, void *arg, size_t count, arena *memory, pool *cores, float *out, err *e) {
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
                   const mask_image *masks, size_t count, arena *memory, pool *cores, float *out, err *e) {
    return regions_embed_each(how, o, m, photo, from_array, (void *)(uintptr_t)masks, count, memory, cores, out, e);
}
