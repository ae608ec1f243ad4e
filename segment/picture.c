/* picture.c - the protocol as a whole, for one picture (see segment.h; MODEL.md 6.7). */
#include "segment/segment.h"

/* CLIPtrase: the shorter side to S by Pillow's bicubic, the whole picture. Its evaluation cuts the middle S x S out of that. */
static bool picture_by_clusters(const segmenter *s, const picture *photo, segmentation *out, arena *memory, pool *cores, err *e) {
    size_t shorter = s->settings.shorter, least = photo->width < photo->height ? photo->width : photo->height;
    const clip_config *c = &s->model->config;
    picture small;
    fault f = {0};
    size_t w = out->input_width = shorter * photo->width / least, h = out->input_height = shorter * photo->height / least;
    if (!picture_resize(photo, w, h, &small, e)) return false;
    real *pixels = arena_alloc(memory, 3 * h, w * sizeof *pixels);
    for (size_t i = 0; pixels && i < h * w; i++)
        for (size_t k = 0; k < 3; k++) pixels[k * h * w + i] = ((real)small.rgb[3 * i + k] / 255 - c->mean[k]) / c->std[k];
    picture_free(&small);
    if (!pixels) fault_memory(&f, "pixels", memory, 3 * h * w * sizeof *pixels);
    if (pixels && segment_by_clusters(s, pixels, h, w, out, NULL, memory, cores, &f)) return true;
    return err_fault(e, &f), f.code == FAULT_MEMORY ? err_prefix(e, "--memory") : false;
}

bool segment_picture(const segmenter *s, const picture *photo, segmentation *out, arena *memory, pool *cores, err *e) {
    fault f = {0};
    *out = (segmentation){.width = photo->width, .height = photo->height};
    if (s->settings.how->clusters) return picture_by_clusters(s, photo, out, memory, cores, e);
    segment_sides(photo->width, photo->height, s->settings.shorter, &out->input_width, &out->input_height);
    size_t h = out->input_height, w = out->input_width;
    real *pixels = segment_input(s->model, photo, h, w, memory, e);
    if (!pixels) return false;
    real *cosines = segment_cosines(s, pixels, h, w, &out->windows, memory, cores, &f);
    if (cosines && segment_decide(s, cosines, pixels, h, w, out, memory, cores, &f)) return true;
    return err_fault(e, &f), f.code == FAULT_MEMORY ? err_prefix(e, "--memory") : false;
}
