/* labels.h - label pictures: the integers that are stored, never the colours that a palette would make of them.
 *
 *     label_image l;
 *     if (!labels_read("SegmentationClass/2007_000033.png", &l, &e)) ...
 *     l.value[y * l.width + x]           // palette index, grey value of 1 to 16 bits; of RGB: R + 256 G + 65536 B
 *     labels_free(&l);
 */
#ifndef LABELS_H
#define LABELS_H
#include "sys/err.h"

typedef struct {
    size_t width, height;
    bool colours;    /* the file holds RGB */
    uint32_t *value; /* [height, width] */
} label_image;
bool labels_read(const char *path, label_image *l, err *e);
bool labels_parse(const unsigned char *bytes, size_t length, const char *name, label_image *l, err *e);
void labels_free(label_image *l);
#endif
