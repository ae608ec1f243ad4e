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
#include "gemm.h"
#include "pictures/image.h"

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

/* What a caption claims: so much of each object that it mentions. grammar_true() asks of what pictures that is true. */
typedef struct {
    size_t count;
    bool more;                /* places or relations as well, which grammar_true() cannot judge */
    bool drawing;             /* "a drawing of" */
    struct {
        unsigned char object, what; /* which, and what is said of it beside its name (grammar.h) */
    } of[SCENE_MOST_OBJECTS];
} scene_claim;

typedef struct {
    size_t side, count;
    picture image;
    scene_object object[SCENE_MOST_OBJECTS];
    char caption[256];        /* one caption of the whole, true of the picture */
    scene_claim claim;        /* the caption's */
} scene;

typedef struct scene_source scene_source;
/* stamps: the photographic kind's folder (NULL: /usr/share/tuxpaint/stamps). Missing: an error that names the package. */
scene_source *scene_source_open(scene_kind kind, const char *stamps, err *e);
void scene_source_free(scene_source *s);
scene_kind scene_source_kind(const scene_source *s);
size_t scene_names(const scene_source *s);                    /* number of different names */
const char *scene_name(const scene_source *s, size_t i);
/* Colours and textures of drawn things. */
size_t scene_colours(void);
const char *scene_colour(size_t i);
size_t scene_textures(void);
const char *scene_texture(size_t i);
/* Thread-safe on one source. Held-out scenes are simply other seeds. */
bool scene_make(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most,
                scene *out, err *e);
/* The same, with the objects whose bits are set in `hidden` left out of image and masks; what is said of them stays. */
bool scene_make_hiding(const scene_source *s, uint64_t seed, uint64_t index, size_t side, size_t least, size_t most,
                       unsigned hidden, scene *out, err *e);
void scene_free(scene *sc);

/* ---- sets on disk: DIR/images, DIR/masks, DIR/scenes.jsonl ------------------------------------------- */
/* scenes.jsonl holds one object a line, UTF-8:
 *   image      path of the picture, from DIR              kind   "drawn" or "photographic"
 *   side       of the picture, pixels                     seed, index   which scene it is
 *   captions   sentences true of the whole picture, the first is the scene's own
 *   objects    back to front: name, colour ("" where none prevails), texture ("" for cut-outs), size ("small", "",
 *              "large"), place, mask (path: a grey picture, 255 where the object is seen), box [x0, y0, x1, y1] of what
 *              is seen, visible (share of its own pixels that is seen), phrase (true of this object alone)
 *   referring  every phrase that is true of one object alone, with the mask that it means
 */
typedef struct {
    const scene_source *source[2]; /* scene k comes from source[k % sources] */
    size_t sources, count, side, least, most;
    uint64_t seed;
} scene_set;
/* Writes a set, on all cores. progress may be NULL. An index of an older set in the folder goes before its pictures do;
 * the new one comes last, so that scenes.jsonl never speaks of pictures that are not there. */
bool scene_set_write(const scene_set *set, const char *folder, pool *cores, void (*progress)(void *arg, size_t done),
                     void *arg, err *e);

enum { SCENE_MOST_CAPTIONS = 8, SCENE_MOST_REFERRING = 128, SCENE_PATH = 1024 };
typedef struct {
    char image[SCENE_PATH]; /* as it can be opened: the folder's path is in front */
    scene_kind kind;
    size_t side;
    uint64_t seed, index;
    size_t captions, objects, referring;
    char caption[SCENE_MOST_CAPTIONS][256];
    struct {
        char name[48], colour[16], texture[16], size[8], place[16], phrase[160], mask[SCENE_PATH];
        float box[4], visible;
    } object[SCENE_MOST_OBJECTS];
    struct {
        char phrase[160];
        size_t object; /* whose mask it means */
    } refers[SCENE_MOST_REFERRING];
} scene_record;

/* Reads a set line by line, however long the file is. Errors name file, line and field. */
typedef struct scene_reader scene_reader;
scene_reader *scene_reader_open(const char *folder, err *e);
typedef enum { SCENE_END, SCENE_READ, SCENE_FAILED } scene_reading;
scene_reading scene_reader_next(scene_reader *r, scene_record *out, err *e);
void scene_reader_free(scene_reader *r);
#endif
