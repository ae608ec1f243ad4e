/* repair.h - what ftfy.fix_text repairs before CLIP's tokenizers clean a text (MODEL.md 3).
 *
 *     points_repair(points, &n, &e);           // "it’s a ﬁsh" -> "it's a fish", in place
 *     if (text_misread(text)) ...              // "cafÃ©": UTF-8 that was read as Latin-1; it is left as it is
 *
 * In its order, again and again until nothing changes, line by line: HTML references (unless a "<" stands in the line or
 * before), C1 controls as windows-1252, Latin ligatures and double letters, full- and half-width forms, quotes, line
 * breaks, terminal escapes, control characters, NFC. Not followed: its repair of wrongly decoded text.
 */
#ifndef REPAIR_H
#define REPAIR_H
#include "sys/err.h"

/* points [*n] in place; it never grows beyond one place for each byte of the text's UTF-8. Error: no memory. */
bool points_repair(uint32_t *points, size_t *n, err *e);
/* Does it look as if UTF-8 had been read as Latin-1 or windows-1252? */
bool text_misread(const char *text);
#endif
