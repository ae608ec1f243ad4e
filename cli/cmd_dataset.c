/* cmd_dataset.c - maskinv dataset: what a published dataset holds, without any model. */
#include "cli/cli.h"
#include "data/data.h"
#include "files/files.h"
#include "files/longtext.h"
#include "masks/rle.h"
#include "pictures/png.h"
#include <string.h>

typedef struct {
    text_list where; /* NAME ROOT */
    const char *split, *by, *masks;
    bool list;
} options;

static const flag flags[] = {
    {"split", 0, FLAG_TEXT, offsetof(options, split), "S",
     .help = "train, val, testA...; not given: the one that papers evaluate"},
    {"by", 0, FLAG_TEXT, offsetof(options, by), "WHO",
     .help = "whose division: unc, google or umd of RefCOCO, + and g; refcoco, refcoco+ or refcocog of reclip"},
    {"list", 0, FLAG_SWITCH, offsetof(options, list), NULL,
     .help = "a line of JSON for each picture, region and thing left out"},
    {"masks", 0, FLAG_TEXT, offsetof(options, masks), "DIR",
     .help = "folder for the regions' masks, PNGs in the order of the list"},
};

const command dataset_command = {
    "dataset",
    "lists the regions of a published dataset",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    "NAME ROOT",
    offsetof(options, where),
    "NAME is one of voc2012, pascal_context, pascal_context_mat, coco2017, coco_panoptic, coco_stuff, refcoco, "
    "refcocoplus,\n"
    "refcocog, reclip, phrasecut, openimages_v7, ade20k, cityscapes, imagenet_s, imagenet, mvtec_ad, visa, flickr30k; "
    "ROOT is\n"
    "the folder in which it lies as it was downloaded. A region is a line with id and kind: its picture, class, "
    "phrases, area,\n"
    "bbox (x, y, w, h) and rle (COCO's compressed run lengths), counted from the mask's pixels. Before its regions "
    "stands the\n"
    "picture's line, with image and file; lines with why, at the end, tell what was left out. The counts are said on "
    "standard\n"
    "error. No picture is decoded and EXIF rotation is not honoured: masks belong to the stored pixels.",
    cmd_dataset,
};

typedef struct {
    cli *c;
    const options *o;
    longtext line;
    FILE *left; /* lines of what was left out, kept for the end */
    char image[512];
    bool whole;
    size_t pictures, regions, left_out;
} listing;

/* ---- lines -------------------------------------------------------------------------------------------- */
static void say_id(longtext *t, const char *key, const char *id, bool whole) {
    say(t, "\"%s\":", key);
    if (whole)
        say(t, "%s", id);
    else
        say_quoted(t, id);
}

static void say_text(longtext *t, const char *key, const char *text) {
    say(t, ",\"%s\":", key);
    say_quoted(t, text);
}

static bool put_line(listing *l, FILE *to, err *e) {
    say(&l->line, "}\n");
    if (l->line.failed) return err_set(e, "no memory for a line");
    if (fwrite(l->line.text, 1, l->line.length, to) != l->line.length) return err_set(e, "a line could not be written");
    return true;
}

static void say_points(longtext *t, const data_picture *p) {
    say(t, ",\"points\":[");
    for (size_t i = 0; i < p->point_count; i++) {
        const data_point *q = &p->points[i];
        say(t, "%s{\"label\":", i ? "," : "");
        say_quoted(t, q->label);
        say_text(t, "name", q->name);
        say_text(t, "answer", q->answer);
        say(t, ",\"x\":%zu,\"y\":%zu}", q->x, q->y);
    }
    say(t, "]");
}

static bool list_picture(void *arg, const data_picture *p, bool *wanted, err *e) {
    listing *l = arg;
    longtext *t = &l->line;
    (void)wanted;
    l->pictures++;
    l->whole = p->whole;
    snprintf(l->image, sizeof l->image, "%s", p->id);
    if (!l->o->list) return true;
    t->length = 0;
    say(t, "{");
    say_id(t, "image", p->id, p->whole);
    say_text(t, "file", p->file);
    say_text(t, "split", p->split);
    say(t, ",\"width\":%zu,\"height\":%zu", p->width, p->height);
    if (p->class_index >= 0) say(t, ",\"class_id\":%ld", p->class_index);
    for (size_t i = 0; i < p->caption_count; i++) {
        say(t, i ? "," : ",\"captions\":[");
        say_quoted(t, p->captions[i]);
        if (i + 1 == p->caption_count) say(t, "]");
    }
    if (p->point_count) say_points(t, p);
    if (p->more) say(t, "%s", p->more);
    return put_line(l, stdout, e);
}

static void say_phrases(longtext *t, const data_region *r) {
    say(t, ",\"phrases\":[");
    for (size_t i = 0; i < r->phrase_count; i++) {
        const data_phrase *p = &r->phrases[i];
        say(t, i ? ",{" : "{");
        if (p->sent) say(t, "\"id\":%llu,", (unsigned long long)p->id);
        say(t, "\"raw\":");
        say_quoted(t, p->raw);
        if (p->sent) say_text(t, "sent", p->sent);
        say(t, "}");
    }
    say(t, "]");
}

static void say_candidates(longtext *t, const data_region *r) {
    say(t, ",\"candidates\":[");
    for (size_t i = 0; i < r->candidate_count; i++) {
        const data_candidate *c = &r->candidates[i];
        say(t, r->candidate_boxes ? "%s[%llu" : "%s%llu", i ? "," : "", (unsigned long long)c->id);
        if (r->candidate_boxes) say(t, ",[%.17g,%.17g,%.17g,%.17g]]", c->box[0], c->box[1], c->box[2], c->box[3]);
    }
    say(t, "]");
}

static bool write_mask(listing *l, const data_region *r, char *path, size_t size, err *e) {
    size_t n = r->width * r->height;
    unsigned char *grey = mem_alloc(n, 1);
    if (!grey) return err_set(e, "no memory for a mask of %zux%zu pixels", r->width, r->height);
    for (size_t i = 0; i < n; i++) grey[i] = r->mask[i] ? 255 : 0;
    snprintf(path, size, "%s/%03zu.png", l->o->masks, l->regions);
    bool ok = png_write(path, &(png_image){.width = r->width, .height = r->height, .channels = 1, .pixels = grey}, e);
    mem_free(grey);
    return ok;
}

static bool list_region(void *arg, const data_region *r, err *e) {
    listing *l = arg;
    longtext *t = &l->line;
    char path[4096];
    if (l->o->masks && !write_mask(l, r, path, sizeof path, e)) return false;
    l->regions++;
    if (!l->o->list) return true;
    t->length = 0;
    say(t, "{");
    say_id(t, "id", r->id, false);
    say(t, ",");
    say_id(t, "image", l->image, l->whole);
    say_text(t, "split", r->split);
    say_text(t, "kind", r->kind);
    if (r->class_id) {
        say(t, ",");
        say_id(t, "class_id", r->class_id, r->class_whole);
        say_text(t, "class", r->class_name);
    }
    if (r->phrases) say_phrases(t, r);
    if (r->candidates) say_candidates(t, r);
    if (r->more) say(t, "%s", r->more);
    say(t, ",\"area\":%zu,\"bbox\":[%zu,%zu,%zu,%zu],\"size\":[%zu,%zu],\"rle\":\"", r->area, r->box[0], r->box[1],
        r->box[2], r->box[3], r->height, r->width);
    size_t from = t->length;
    rle_encode(r->mask, r->height, r->width, t);
    for (size_t i = from; t->text && i < t->length; i++) /* of its letters, 0 to o, JSON escapes the backslash alone */
        if (t->text[i] == '\\') {
            say_bytes(t, "\\", 1);
            memmove(t->text + i + 1, t->text + i, t->length - i - 1);
            t->text[i++] = '\\';
        }
    say(t, "\"");
    if (l->o->masks) say_text(t, "mask", path);
    return put_line(l, stdout, e);
}

static bool list_left_out(void *arg, const char *id, const char *why, bool inside, err *e) {
    listing *l = arg;
    (void)inside;
    l->left_out++;
    if (!l->o->list) return true;
    l->line.length = 0;
    say(&l->line, "{");
    say_id(&l->line, "id", id, false);
    say_text(&l->line, "why", why);
    return put_line(l, l->left, e);
}

static bool list_classes(void *arg, const data_class *list, size_t count, err *e) {
    (void)arg, (void)list, (void)count, (void)e;
    return true;
}

/* ---- the command ------------------------------------------------------------------------------------------ */
static bool copy_left_out(listing *l) {
    char block[4096];
    size_t n;
    if (!l->left) return true;
    rewind(l->left);
    while ((n = fread(block, 1, sizeof block, l->left)) > 0) fwrite(block, 1, n, stdout);
    return !ferror(l->left) || err_set(&l->c->e, "a temporary file could not be read");
}

static bool list_dataset(cli *c, const options *o) {
    listing l = {.c = c, .o = o};
    data_sink sink = {list_classes, list_picture, list_region, list_left_out, &l};
    if (o->where.count != 2) return cli_usage(c, "NAME and ROOT expected, %zu operands found", o->where.count);
    const data_set *set = data_set_find(o->where.item[0]);
    if (!set) return cli_usage(c, "'%s' is no dataset; maskinv dataset --help lists them", o->where.item[0]);
    if (o->masks && !folder_make(o->masks, &c->e)) return false;
    if (o->list && !(l.left = tmpfile())) return err_set(&c->e, "a temporary file could not be made");
    data_wish wish = {.root = o->where.item[1], .split = o->split, .by = o->by};
    bool ok = data_read(set, &wish, &sink, &c->e) && copy_left_out(&l);
    if (l.left) fclose(l.left);
    mem_free(l.line.text);
    if (ok)
        fprintf(stderr, "%s: %zu pictures, %zu regions, %zu left out\n", set->title, l.pictures, l.regions, l.left_out);
    return ok;
}

int cmd_dataset(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &dataset_command, argc, argv, &o)) return c.code;
    return cli_end(&c, &o, list_dataset(&c, &o));
}
