/* mat5.h - one matrix of whole numbers out of a MATLAB 5 file, compressed or not.
 *
 *     label_image l;
 *     if (!mat5_read("trainval/2008_000002.mat", "LabelMap", &l, &e)) ...     // labels_free(&l)
 *
 * The file is 128 bytes of header and elements of (type, bytes), padded to 8, small ones packed into 8 bytes; type 15
 * is a zlib stream that holds an element, type 14 a matrix: flags, dimensions, name, data. Data may be stored narrower
 * than the matrix's class, and stands column by column.
 */
#ifndef MAT5_H
#define MAT5_H
#include "pictures/labels.h"

bool mat5_read(const char *path, const char *name, label_image *l, err *e);
bool mat5_parse(const unsigned char *bytes, size_t length, const char *file, const char *name, label_image *l, err *e);
#endif
