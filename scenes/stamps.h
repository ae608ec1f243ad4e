/* stamps.h - cut-outs from Debian's tuxpaint-stamps-default: PNG pictures with alpha, named by the first line of a .txt.
 *
 *     stamp_book *b = stamps_open(NULL, &e);                  // /usr/share/tuxpaint/stamps
 *     stamp_names(b), stamp_name(b, i)                        // "apple", "fire truck", ... sorted
 *     size_t k = stamp_of(b, i, n);                           // the n-th cut-out of that name
 *     stamp_paint(b, k, &pose, gain, &tile);
 *
 * Pictures are kept at no more than 128 pixels, with halved copies below, so that any size is sampled without aliasing.
 */
#ifndef STAMPS_H
#define STAMPS_H
#include "sys/err.h"
#include "scenes/paint.h"

#define STAMPS_FOLDER "/usr/share/tuxpaint/stamps"
#define STAMPS_PACKAGE "tuxpaint-stamps-default"

typedef struct stamp_book stamp_book;
typedef struct {
    float scale; /* pixels that the longer side takes */
    float cx, cy, degrees;
    bool flip;
} stamp_pose;

stamp_book *stamps_open(const char *folder, err *e);
void stamps_free(stamp_book *b);
size_t stamp_names(const stamp_book *b);
const char *stamp_name(const stamp_book *b, size_t name);
size_t stamps_of(const stamp_book *b, size_t name);            /* cut-outs of that name */
size_t stamp_of(const stamp_book *b, size_t name, size_t n);
const char *stamp_colour(const stamp_book *b, size_t stamp);   /* "" where no colour prevails */
bool stamp_flips(const stamp_book *b, size_t stamp);           /* may be mirrored */
void stamp_bounds(const stamp_book *b, size_t stamp, const stamp_pose *pose, float box[4]);
void stamp_paint(const stamp_book *b, size_t stamp, const stamp_pose *pose, float gain, tile *t);
/* A cut-out chosen by r, enlarged beyond recognition and laid over the whole canvas: an unfocused background. */
void stamp_smear(const stamp_book *b, rng *r, canvas *c, float opacity);
/* The short name in a description: "A red apple." gives "apple" and the colour "red". False: nothing short to call it. */
bool stamp_describe(const char *line, char name[48], char colour[16]);
#endif
