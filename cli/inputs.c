/* inputs.c - photograph and regions (see inputs.h). */
#include "cli/inputs.h"
#include <math.h>
#include <string.h>

/* ---- what was seen: a few lines, then how many more ---------------------------------------------------------- */
enum { SAID_MOST = 5, KEPT_SHARE = 8 };
typedef struct {
    cli *c;
    size_t said;
} sayer;

static void say(void *arg, const char *file, const char *text) {
    sayer *s = arg;
    if (s->said++ < SAID_MOST) cli_warn(s->c, "%s: %s", file, text);
}

static void say_rest(const sayer *s) {
    if (s->said > SAID_MOST) cli_warn(s->c, "and %zu more masks of which something is to be said", s->said - SAID_MOST);
}

/* ---- the photograph: turned upright, or not, and that is said where masks lie on it ------------------------------ */
static bool read_photo(cli *c, const region_options *o, picture *photo) {
    int orientation;
    if (!picture_orientation(o->image, &orientation, &c->e)) return false;
    if (!(o->no_orient ? picture_read_stored : picture_read)(o->image, photo, &c->e)) return false;
    if (orientation != 1 && !o->no_orient)
        cli_warn(c,
                 "%s: its EXIF orientation is %d: it is turned upright, to %zu x %zu, and masks are taken to be of the upright "
                 "picture (--no-orient: of the stored pixels)",
                 o->image, orientation, photo->width, photo->height);
    return cli_look(c, o->image, photo);
}

/* Another aspect ratio than the photograph's: stretched, and said. */
static void check_shape(sayer *s, const mask_item *i, const picture *photo) {
    double height = (double)i->width * (double)photo->height / (double)photo->width;
    char text[256];
    if (i->pick == PICK_BOX || fabs(height - (double)i->height) <= 1 + .01 * (double)i->height) return;
    snprintf(text, sizeof text, "is %zu x %zu, its aspect ratio differs from the photograph's %zu x %zu: it is stretched to fit",
             i->width, i->height, photo->width, photo->height);
    if (s->said++ < SAID_MOST) cli_warn(s->c, "%s %s", i->file, text);
}

/* ---- regions ------------------------------------------------------------------------------------------------------ */
/* All in one block, which region->texts heads. */
static bool region_new(region_result *region, const report *r, size_t loss_count, err *e) {
    size_t doubles = loss_count + 2 * r->text_count;
    double *block = mem_alloc(1, doubles * sizeof *block + r->embed * sizeof(real) + 1);
    if (!block) return err_set(e, "no memory for the result of %s", region->name);
    region->texts = (text_score *)(void *)block;
    region->losses = loss_count ? block + 2 * r->text_count : NULL;
    region->embedding = (real *)(void *)(block + doubles);
    region->loss_count = loss_count;
    return true;
}

bool inputs_open(cli *c, const region_options *o, report *r, size_t loss_count, picture *photo, masks *m) {
    sayer s = {c, 0};
    if (!o->masks.count && !o->boxes.count)
        return cli_usage(c, "--mask MASK is needed, or --box X,Y,W,H (maskinv %s --help)", c->command->name);
    if (!read_photo(c, o, photo)) return false;
    mask_wishes w = {.files = o->masks.item,
                     .count = o->masks.count,
                     .boxes = o->boxes.item,
                     .box_count = o->boxes.count,
                     .labels = o->labels,
                     .stored = o->no_orient,
                     .photo = o->image,
                     .width = photo->width,
                     .height = photo->height,
                     .keep = c->room_bytes / KEPT_SHARE,
                     .say = say,
                     .arg = &s};
    if (!masks_open(m, &w, &c->e)) return false;
    if (!(r->regions = mem_alloc(m->count, sizeof *r->regions))) return err_set(&c->e, "no memory for %zu masks", m->count);
    for (r->count = 0; r->count < m->count;) {
        const mask_item *i = &m->item[r->count];
        region_result *g = &r->regions[r->count++];
        g->file = i->file;
        snprintf(g->name, sizeof g->name, "%s", i->name);
        check_shape(&s, i, photo);
        if (!region_new(g, r, loss_count, &c->e)) return false;
    }
    say_rest(&s);
    return true;
}

void inputs_close(report *r, picture *photo, masks *m) {
    for (size_t i = 0; i < r->count; i++) mem_free(r->regions[i].texts);
    mem_free(r->regions);
    masks_close(m);
    picture_free(photo);
}

bool inputs_alpha(cli *c, const char *mask, const char *file, const picture *photo, size_t side, real **plane) {
    sayer s = {c, 0};
    masks m;
    if (!c->model->config.alpha)
        return err_set(&c->e, "--mask %s: the model sees no region beside the pixels, expected AlphaCLIP's weights", mask);
    mask_wishes w = {.files = &mask, .count = 1, .photo = file, .width = photo->width, .height = photo->height,
                     .keep = c->room_bytes / KEPT_SHARE, .say = say, .arg = &s};
    bool ok = masks_open(&m, &w, &c->e);
    if (ok && m.count != 1) ok = err_set(&c->e, "--mask %s: %zu regions found, one expected", mask, m.count);
    if (ok) check_shape(&s, &m.item[0], photo);
    const mask_image *region = ok ? masks_at(&m, 0, &c->e) : NULL;
    *plane = region ? pixels_alpha(region, side, &c->e) : NULL;
    masks_close(&m);
    return *plane != NULL;
}
