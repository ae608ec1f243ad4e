/* scenes.h - an endless, seeded source of pictures with instance masks and captions.
 *
 *     scene_source *s = scene_source_open(SCENE_DRAWN, NULL, &e);
 *     scene sc;
 *     if (!scene_make(s, seed, index, 96, 1, 4, &sc, &e)) ...   // the index-th scene of this seed, 96x96, 1 to 4 objects
 *     scene_free(&sc);
 *
 * A scene depends on (kind, seed, index, size, objects) alone, so that they can be made in any order on any core.
 */
#ifndef SCENES_H
#define SCENES_H
#include "image.h"

typedef enum { SCENE_DRAWN, SCENE_PHOTOGRAPHIC } scene_kind;
enum { SCENE_MOST_OBJECTS = 8, SCENE_LEAST_SIDE = 16, SCENE_MOST_SIDE = 2048 };

typedef struct {
    char name[48];            /* "fish" */
    char colour[16];          /* "red"; empty where it has none to name */
    char texture[16];         /* "striped", "plain", ... */
    char size[8];             /* "small", "", "large" */
    char place[16];           /* "left", "top right", "middle", ... */
    float box[4];             /* x0, y0, x1, y1 in pixels, of its visible part */
    float visible;            /* share of its own pixels that are not covered, > 0.3 */
    unsigned char *mask;      /* [side,side] 0..255, its visible part */
    char phrase[160];         /* a referring phrase true of this object alone */
} scene_object;

typedef struct {
    size_t side, count;
    picture image;
    scene_object object[SCENE_MOST_OBJECTS];
    char caption[256];        /* one caption of the whole, true of the picture */
} scene;

typedef struct scene_source scene_source;
/* stamps: the photographic kind's folder (NULL: /usr/share/tuxpaint/stamps). Missing: an error that names the package. */
scene_source *scene_source_open(scene_kind kind, const char *stamps, err *e);
void scene_source_free(scene_source *s);
size_t scene_names(const scene_source *s);                    /* number of different names */
const char *scene_name(const scene_source *s, size_t i);
/* Thread-safe on one source. Held-out scenes are simply other seeds. */
bool scene_make(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most,
                scene *out, err *e);
/* The same, with the objects whose bits are set in `hidden` left out of image and masks; what is said of them stays. */
bool scene_make_hiding(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most,
                       unsigned hidden, scene *out, err *e);
void scene_free(scene *sc);
#endif
