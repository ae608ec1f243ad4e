/* cmd_scenes.c - maskinv scenes: a set of pictures with masks, captions and referring phrases, by seed. */
#include "cli/cli.h"
#include "scenes/scenes.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *kind, *objects, *stamps, *out;
    size_t count, seed, size, threads;
} options;

static const flag flags[] = {
    {"kind", 0, FLAG_CHOICE, offsetof(options, kind), "drawn|photographic|mixed", .standard = "drawn",
     .help = "things drawn, cut-outs of photographs, or both in turn"},
    {"objects", 0, FLAG_TEXT, offsetof(options, objects), "N or A-B", .standard = "1-4", .help = "objects in a picture, 1 to 8"},
    {"count", 0, FLAG_COUNT, offsetof(options, count), "N", 1, 1e9, .required = true, .help = "pictures to make"},
    {"seed", 0, FLAG_COUNT, offsetof(options, seed), "N", 0, 9007199254740991.0, .standard = "0",
     .help = "another seed, other pictures"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", SCENE_LEAST_SIDE, SCENE_MOST_SIDE, .standard = "96",
     .help = "side of the pictures, in pixels"},
    {"stamps", 0, FLAG_TEXT, offsetof(options, stamps), "DIR",
     .help = "folder of cut-outs; not given: where Debian's tuxpaint-stamps-default puts them"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .required = true, .help = "folder for images, masks and scenes.jsonl"},
    {"threads", 0, FLAG_COUNT, offsetof(options, threads), "N", 1, 1024, .help = "cores to use; not given: all"},
};

const command scenes_command = {
    "scenes", "a set of pictures with masks, captions and phrases", flags, sizeof flags / sizeof *flags, sizeof(options), NULL, 0,
    "DIR gets images/NNNNNN.png, masks/NNNNNN_K.png (white where object K is seen) and scenes.jsonl, one line a picture:\n"
    "image, side, kind, seed, index, captions; objects, each with name, colour, texture, size, place, mask, box, visible,\n"
    "phrase; referring: phrases that are true of one object alone, with the mask that they mean. The same kind, objects,\n"
    "seed and size give the same pictures, on any number of cores.",
    cmd_scenes,
};

/* "3" or "1-4". */
static bool parse_objects(cli *c, const char *text, scene_set *set) {
    char *end = NULL;
    bool digits = text[strspn(text, "0123456789-")] == 0 && text[0] != '-' && text[0] != 0;
    unsigned long a = digits ? strtoul(text, &end, 10) : 0, b = a;
    if (digits && *end == '-' && end[1] != '-' && end[1] != 0) b = strtoul(end + 1, &end, 10);
    if (!digits || *end != 0 || a < 1 || b < a || b > SCENE_MOST_OBJECTS)
        return cli_usage(c, "--objects: \"%s\" found, N or A-B from 1 to %d expected", text, SCENE_MOST_OBJECTS);
    set->least = a, set->most = b;
    return true;
}

static void show(void *arg, size_t done) {
    cli *c = ((void **)arg)[0];
    const scene_set *set = ((void **)arg)[1];
    cli_progress(c, "scenes", done, set->count);
}

static bool open_sources(cli *c, const options *o, scene_set *set, scene_source *sources[2]) {
    bool drawn = strcmp(o->kind, "photographic") != 0, photographic = strcmp(o->kind, "drawn") != 0;
    if (drawn && (sources[set->sources] = scene_source_open(SCENE_DRAWN, NULL, &c->e)) == NULL) return false;
    set->sources += drawn;
    if (photographic && (sources[set->sources] = scene_source_open(SCENE_PHOTOGRAPHIC, o->stamps, &c->e)) == NULL) return false;
    set->sources += photographic;
    set->source[0] = sources[0], set->source[1] = sources[1];
    return true;
}

static bool scenes(cli *c, const options *o) {
    scene_set set = {.count = o->count, .side = o->size, .seed = o->seed};
    scene_source *sources[2] = {NULL, NULL};
    void *shown[2] = {c, &set};
    bool ok = parse_objects(c, o->objects, &set) && open_sources(c, o, &set, sources);
    if (ok && (c->cores = pool_start(o->threads)) == NULL) ok = err_set(&c->e, "--threads: threads could not be started");
    if (ok) ok = scene_set_write(&set, o->out, c->cores, show, shown, &c->e);
    scene_source_free(sources[0]), scene_source_free(sources[1]);
    return ok;
}

int cmd_scenes(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &scenes_command, argc, argv, &o)) return c.code;
    return cli_end(&c, &o, scenes(&c, &o));
}
