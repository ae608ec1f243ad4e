/* room.h - what the face's files share: the model, what a call works with, this thread's error.
 *
 *     call c;
 *     bool ok = call_begin(&c, m) && embed(&c, ...);      // a pool and an arena of its own
 *     call_end(&c, m);
 */
#ifndef FACE_ROOM_H
#define FACE_ROOM_H
#include "face/face.h"
#include "maskinv.h"
#include "methods.h"
#include "models/checkpoint.h"
#include "os/os.h"
#include "pictures/image.h"
#include "sys/threads.h"

enum { POOLS_KEPT = 64 };

struct mi_model {
    checkpoint *weights;
    const clip_model *model;
    size_t threads, memory;
    os_lock lock; /* of all below */
    pool *idle[POOLS_KEPT];
    size_t idle_count;
    const tokenizer *words; /* read when first asked for */
    float *usual; /* call_usual's, made when first asked for */
};

typedef struct {
    pool *cores;
    arena memory;
    void *room;
    size_t bytes;
    err *e;
} call;

err *error_of_thread(void); /* emptied */
bool call_begin(call *c, mi_model *m);
void call_end(call *c, mi_model *m);
/* The model's tokenizer; NULL and an error where it has none. */
const tokenizer *call_words(call *c, mi_model *m);
/* texts_usual's embedding in *out: NULL where there is none; it stays the model's. */
bool call_usual(call *c, mi_model *m, const float **out);
/* The picture for the readers, NULL data and sizes refused. */
bool call_picture(const mi_image *image, picture *p, err *e);
/* Pixels [3,side,side] of the squashed picture; mem_free them. */
float *call_pixels(const mi_model *m, const mi_image *image, size_t side, err *e);
/* As asked or twice the model's own; an error where it is no multiple of the patch. */
bool call_side(const mi_model *m, size_t asked, size_t times, size_t *side, err *e);
bool call_fault(call *c, const fault *f);
bool all_finite(const float *v, size_t n);

/* ---- one picture to be inverted (invert.c, session.c) ---------------------------------------------- */
typedef struct {
    call c;
    mi_model *m;
    const mi_invert_options *o;
    size_t side, layers;
    gradient_kind gradient;
    invert_options invert;
    explained x; /* after invert_forward */
    explainer method;
    explain_other other;
} invert_job;
/* What is asked, looked at and completed from the model's config: after call_begin. */
bool invert_choose(invert_job *j);
/* One forward pass. */
bool invert_forward(invert_job *j, const mi_image *image);
/* Some pixels, all within 0..1, not all 0. */
bool invert_check_mask(const mi_mask *m, size_t index, err *e);
#endif
