/* segmentation.h - what COCO's "segmentation" field may hold, as pixels.
 *
 *     segment_room room = {0};
 *     if (!segment_draw(field, h, w, &room, &e)) ...     // run lengths, a list of them, polygons, boxes
 *     room.cover[i]                                       // by how many parts pixel i is covered, up to 255
 *     segment_free(&room);
 */
#ifndef SEGMENTATION_H
#define SEGMENTATION_H
#include "files/json.h"

typedef struct {
    unsigned char *cover, *scratch; /* [h, w], [h * w + 1] */
    size_t pixels;
    double *xy;
    size_t xy_room;
} segment_room;
bool segment_draw(const cJSON *field, size_t height, size_t width, segment_room *room, err *e);
/* PhraseCut's: instances -> polygons -> [x, y], each filled by Pillow's rule. */
bool segment_phrasecut(const cJSON *field, size_t height, size_t width, segment_room *room, err *e);
void segment_free(segment_room *room);
#endif
