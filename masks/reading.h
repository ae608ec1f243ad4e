/* reading.h - what the numbers of a plane mean as a region, and what there is to say about it (MODEL.md 2).
 *
 *     mask_image m;
 *     char said[MASK_SAYS] = "";
 *     if (!mask_of_plane(&plane, "cat.png", &m, said, &e)) ...    // grey/255, soft values kept; takes plane.value over
 *     if (!mask_of_label(&plane, 7, "cat.png", &m, &e)) ...       // 1 where the number is 7
 *
 * Shown: m = value/255; 0/1 where the largest value is 1, booleans and floats as they are, value/65535 where a 16-bit
 * value is beyond 255. All 0 is an error. Where that hardly can be meant (labels, colours, a region in the alpha
 * channel, nothing left out) `said` tells what was seen, how it was read, and what to ask for instead.
 */
#ifndef READING_H
#define READING_H
#include "masks/formats.h"

enum { MASK_SAYS = 600 };
bool mask_of_plane(mask_plane *p, const char *name, mask_image *m, char said[MASK_SAYS], err *e);
bool mask_of_label(mask_plane *p, unsigned label, const char *name, mask_image *m, err *e);
/* The different labels in a plane, ascending, *count of them; mem_free them. More than `most` is an error. */
bool mask_labels(const mask_plane *p, const char *name, size_t most, unsigned **labels, size_t *count, err *e);
/* A label as -k has it: "7", "#ff8000". */
void mask_label_text(const mask_plane *p, unsigned label, char text[16]);
/* A file's first mask as the plain rule has it, nothing said. mask_free it. */
bool mask_read(const char *path, mask_image *m, err *e);
#endif
