/* picture.c - the protocol as a whole, for one picture (see segment.h; MODEL.md 6.7). */
#include "segment/segment.h"

bool segment_picture(const segmenter *s, const picture *photo, segmentation *out, arena *memory, pool *cores, err *e) {
    fault f = {0};
    *out = (segmentation){.width = photo->width, .height = photo->height};
    segment_sides(photo->width, photo->height, s->settings.shorter, &out->input_width, &out->input_height);
    size_t h = out->input_height, w = out->input_width;
    real *pixels = segment_input(s->model, photo, h, w, memory, e);
    if (!pixels) return false;
    real *cosines = segment_cosines(s, pixels, h, w, &out->windows, memory, cores, &f);
    if (cosines && segment_decide(s, cosines, pixels, h, w, out, memory, cores, &f)) return true;
    return err_fault(e, &f), f.code == FAULT_MEMORY ? err_prefix(e, "--memory") : false;
}
