/* shapes.c - what a mask does to a picture: its box, its share of cells, crops, blends, blurs (see regions.h; MODEL.md 10). */
#include "regions/regions.h"
#include <math.h>
#include <string.h>

/* ---- masks ------------------------------------------------------------------------------------------- */
static bool box_above(const mask_image *m, real least, size_t box[4]) {
    box[0] = m->width, box[1] = m->height, box[2] = box[3] = 0;
    for (size_t y = 0; y < m->height; y++)
        for (size_t x = 0; x < m->width; x++) {
            if (!(m->soft[y * m->width + x] >= least)) continue;
            box[0] = x < box[0] ? x : box[0], box[2] = x + 1 > box[2] ? x + 1 : box[2];
            box[1] = y < box[1] ? y : box[1], box[3] = y + 1;
        }
    return box[2] > 0;
}

static void mask_corners(const mask_image *m, size_t b[4]) {
    if (!box_above(m, (real).5, b) && !box_above(m, (real)1e-9, b)) b[0] = b[1] = 0, b[2] = m->width, b[3] = m->height;
}

void mask_box(const mask_image *m, double box[4]) {
    size_t b[4];
    mask_corners(m, b);
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
bool picture_blend(picture *inside, const picture *outside, const double colour[3], const mask_image *mask, err *e) {
    size_t n = inside->width * inside->height;
    real *soft = mem_alloc(n, sizeof *soft);
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
    size_t b[4], W = photo->width, H = photo->height, w = mask->width, h = mask->height;
    mask_corners(mask, b); /* whole pixels that hold it; in whole numbers, since 14/111 * 111 is less than 14 */
    size_t x0 = b[0] * W / w, y0 = b[1] * H / h, x1 = (b[2] * W + w - 1) / w, y1 = (b[3] * H + h - 1) / h;
    if (!picture_new(x1 - x0, y1 - y0, out, e)) return false;
    for (size_t y = y0; y < y1; y++)
        memcpy(out->rgb + (y - y0) * out->width * 3, photo->rgb + (y * photo->width + x0) * 3, out->width * 3);
    return true;
}

bool picture_copy(const picture *p, picture *out, err *e) {
    if (!picture_new(p->width, p->height, out, e)) return false;
    memcpy(out->rgb, p->rgb, p->width * p->height * 3);
    return true;
}

bool region_crop(const picture *photo, const mask_image *mask, size_t side, const double *fill, picture *out, err *e) {
    picture whole = {0}, part = {0};
    bool ok = picture_copy(photo, &whole, e) && (!fill || picture_blend(&whole, NULL, fill, mask, e)) &&
              crop_to_box(&whole, mask, &part, e) && picture_resize(&part, side, side, out, e);
    picture_free(&whole);
    picture_free(&part);
    return ok;
}
