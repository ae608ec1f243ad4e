/* cmd_anomaly.c - maskinv anomaly: which pixels of a picture are not as they should be, told by texts alone (AnoVL).
 *
 * For datasets: `maskinv eval --data mvtec_ad:ROOT --task anomaly`.
 */
#include "anomaly/anovl.h"
#include "cli/cli.h"
#include "files/files.h"
#include "files/longtext.h"
#include "os/os.h"
#include "pictures/sheet.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    text_list images;
    const char *name, *out;
    size_t size, steps, seed;
    bool plain, one_view, tiles, json;
} options;

static const flag flags[] = {
    {"image", 'i', FLAG_LIST, offsetof(options, images), "IMAGE", .required = true, .many = true, .help = "a picture"},
    {"class", 'c', FLAG_TEXT, offsetof(options, name), "NAME", .required = true,
     .help = "what it shows, in a word: bottle, metal_nut, wood. Surfaces (carpet, leather, grid, tile, wood) have sentences of "
             "their own"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .help = "folder for maps and anomaly.json; not given: only the table"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: the model's image"},
    {"steps", 0, FLAG_COUNT, offsetof(options, steps), "N", 1, 1000, .help = "of the adapter; not given: 5"},
    {"no-adapter", 0, FLAG_SWITCH, offsetof(options, plain), NULL, .help = "the map as the texts give it, no adapter fitted"},
    {"seed", 0, FLAG_COUNT, offsetof(options, seed), "N", 0, 4e9, .help = "of the adapter's start and noise; not given: 0"},
    {"one-view", 0, FLAG_SWITCH, offsetof(options, one_view), NULL,
     .help = "the score from the picture alone, not the mean of 22 views"},
    {"tiles", 0, FLAG_SWITCH, offsetof(options, tiles), NULL,
     .help = "two squares, left and right, as VisA's pictures are judged; with the other adapter and no views"},
    {"json", 0, FLAG_SWITCH, offsetof(options, json), NULL, .help = "print anomaly.json instead of the table"},
    CLI_COMMON_FLAGS(options),
};

const command anomaly_command = {
    "anomaly",
    "maps and scores of what is not as it should be (AnoVL)",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "No picture is learnt from: the class's name in 924 sentences, of normal and of damaged things, is all there is. DIR gets\n"
    "NAME.anomaly.npy, each pixel's probability, NAME.anomaly.png, that over the picture from its lowest value to its highest,\n"
    "and anomaly.json. The score is the class token's (the map plays no part in it); both are probabilities without a\n"
    "temperature, near 1/2: they rank, they do not decide.",
    cmd_anomaly,
};

typedef struct {
    cli c;
    options o;
    anovl_texts texts;
    anovl_options how;
    longtext json;
} job;

/* ---- one picture -------------------------------------------------------------------------------------- */
/* DIR/NAME.anomaly.ENDING; a name that an earlier picture has gets its number. */
static bool path_for(job *j, size_t i, const char *ending, char path[4096]) {
    const char *file = j->o.images.item[i], *slash = os_last_slash(file), *base = slash ? slash + 1 : file, *dot = strrchr(base, '.');
    size_t n = dot && dot > base ? (size_t)(dot - base) : strlen(base), same = 1;
    for (size_t k = 0; k < i; k++) {
        const char *other = os_last_slash(j->o.images.item[k]);
        other = other ? other + 1 : j->o.images.item[k];
        same += !strncmp(other, base, n) && (other[n] == '.' || !other[n]);
    }
    char number[24] = "";
    if (same > 1) snprintf(number, sizeof number, "_%zu", same);
    return (size_t)snprintf(path, 4096, "%s/%.*s%s.anomaly.%s", j->o.out, (int)n, base, number, ending) < 4096 ||
           err_set(&j->c.e, "%s: the path is too long", j->o.out);
}

/* The map as it is, and over the picture from its lowest value to its highest. */
static bool write_map(job *j, size_t i, const picture *photo, real *map, size_t h, size_t w) {
    char path[4096];
    real low = map[0], high = map[0];
    if (!path_for(j, i, "npy", path) || !npy_write(path, map, (size_t[]){h, w}, 2, &j->c.e) || !path_for(j, i, "png", path)) return false;
    for (size_t k = 0; k < h * w; k++) low = (real)fmin((double)low, (double)map[k]), high = (real)fmax((double)high, (double)map[k]);
    for (size_t k = 0; k < h * w; k++) map[k] = high > low ? (map[k] - low) / (high - low) : 0;
    return overlay_write(path, photo, map, h, w, NULL, &j->c.e);
}

static void say_picture(job *j, size_t i, const anovl_result *r, const real *map, size_t h, size_t w) {
    size_t peak = 0;
    double sum = 0;
    for (size_t k = 0; k < h * w; k++) peak = map[k] > map[peak] ? k : peak, sum += (double)map[k];
    say(&j->json, i ? ",\n    {\"image\": " : "\n    {\"image\": ");
    say_quoted(&j->json, j->o.images.item[i]);
    say(&j->json, ", \"score\": %.9g, \"map\": {\"width\": %zu, \"height\": %zu, \"mean\": %.9g, \"largest\": %.9g, \"at\": [%.6g, %.6g]}}",
        r->score, w, h, sum / (double)(h * w), (double)map[peak], ((double)(peak % w) + .5) / (double)w,
        ((double)(peak / w) + .5) / (double)h);
    if (!j->o.json)
        printf("%-40s score %.6f, map up to %.6f\n", j->o.images.item[i], r->score, (double)map[peak]);
}

static bool judge(job *j, size_t i) {
    picture photo = {0};
    anovl_result r = {0};
    size_t h, w;
    bool ok = picture_read(j->o.images.item[i], &photo, &j->c.e) &&
              anovl_measure(j->c.model, &j->texts, &photo, &j->how, &j->c.memory, j->c.cores, &r, &j->c.e);
    anovl_sides(&r, &h, &w);
    real *map = ok ? mem_alloc(h * w, sizeof *map) : NULL;
    if (ok && !(map && anovl_whole_map(&r, map))) ok = err_set(&j->c.e, "%s: no memory for its map", j->o.images.item[i]);
    if (ok) say_picture(j, i, &r, map, h, w);
    ok = ok && (!j->o.out || write_map(j, i, &photo, map, h, w));
    mem_free(map);
    anovl_free(&r);
    picture_free(&photo);
    return ok;
}

/* ---- all -------------------------------------------------------------------------------------------------- */
static bool write_json(job *j) {
    char path[4096];
    if (j->json.failed) return err_set(&j->c.e, "no memory for anomaly.json");
    if (j->o.json) fwrite(j->json.text, 1, j->json.length, stdout);
    if (!j->o.out) return true;
    if ((size_t)snprintf(path, sizeof path, "%s/anomaly.json", j->o.out) >= sizeof path)
        return err_set(&j->c.e, "%s: the path is too long", j->o.out);
    return file_write(path, j->json.text, j->json.length, &j->c.e);
}

static bool anomaly(void *arg) {
    job *j = arg;
    if (!cli_open_model(&j->c, &j->o.common) || !cli_side(&j->c, j->o.size, 1, &j->how.side)) return false;
    if (j->o.out && !cli_folder(&j->c, j->o.out, "anomaly.json")) return false;
    for (size_t i = 0, w, h; i < j->o.images.count; i++)
        if (!picture_sides(j->o.images.item[i], &w, &h, &j->c.e)) return false;
    j->how.steps = j->o.plain ? 0 : j->o.steps ? j->o.steps : 5;
    j->how.seed = j->o.seed, j->how.views = !j->o.one_view, j->how.tiled = j->o.tiles;
    if (!anovl_texts_make(j->c.weights, j->o.name, &j->c.memory, j->c.cores, &j->texts, &j->c.e)) return false;
    say(&j->json, "{\"class\": ");
    say_quoted(&j->json, j->o.name);
    say(&j->json, ", \"model\": ");
    say_quoted(&j->json, checkpoint_name(j->c.weights));
    say(&j->json, ", \"size\": %zu, \"steps\": %zu, \"seed\": %zu, \"views\": %d, \"tiles\": %d, \"sentences\": %zu, \"pictures\": [",
        j->how.side, j->how.steps, j->o.seed, j->how.views && !j->how.tiled ? ANOVL_VIEWS : 1, j->how.tiled ? 2 : 1, j->texts.count);
    for (size_t i = 0; i < j->o.images.count; i++) {
        cli_progress(&j->c, "picture", i, j->o.images.count);
        if (!judge(j, i)) return false;
    }
    cli_progress_end(&j->c);
    say(&j->json, "]}\n");
    return write_json(j);
}

static void give_back(void *arg) {
    job *j = arg;
    anovl_texts_free(&j->texts);
    mem_free(j->json.text);
}

int cmd_anomaly(int argc, char **argv) {
    return cli_run(&anomaly_command, argc, argv, sizeof(job), offsetof(job, o), anomaly, give_back);
}
