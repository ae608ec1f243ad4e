/* cmd_explain.c - maskinv explain: which parts of a picture speak for a text or an embedding. */
#include "cli.h"
#include "sheet.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    const char *image, *embeddings, *method, *out;
    text_options text;
    size_t size, layers;
} options;

static const flag flags[] = {
    {"image", 'i', FLAG_TEXT, offsetof(options, image), "IMAGE", .required = true, .help = "the photograph"},
    CLI_TEXT_FLAGS(options),
    {"embeddings", 'e', FLAG_TEXT, offsetof(options, embeddings), "FILE.npy",
     .help = "embeddings [count, E] to explain instead of texts: what invert wrote, say"},
    {"method", 0, FLAG_CHOICE, offsetof(options, method), "legrad", .standard = "legrad", .help = "how to explain"},
    {"layers", 0, FLAG_COUNT, offsetof(options, layers), "N", 1, 1e6, .standard = "2", .help = "last layers that are explained"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: twice the model's image"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .required = true, .help = "folder for the maps"},
    CLI_COMMON_FLAGS(options),
};

const command explain_command = {
    "explain", "maps of what speaks for a text or an embedding", flags, sizeof flags / sizeof *flags, sizeof(options),
    NULL, 0,
    "DIR gets 0.map.npy, 1.map.npy... [size, size] in 0..1, and 0.map.png... as heat over the photograph, one for each\n"
    "text or row.",
    cmd_explain,
};

/* ---- what is explained, and the methods ----------------------------------------------------------- */
typedef struct {
    cli c;
    options o;
    picture photo;
    size_t side, count;
    float *pixels;       /* [3,side,side] */
    float *rows;         /* [count,E], unit */
    float *maps;         /* [count,side,side] */
} job;

static bool legrad(job *j) {
    explained x;
    fault f = {0};
    explain_options eo = {.layers = j->o.layers};
    bool ok = explain_open(&x, j->c.model, j->pixels, j->side, j->side, &eo, &j->c.memory, j->c.cores, &f);
    for (size_t i = 0; ok && i < j->count; i++) {
        cli_progress(&j->c, "maps", i, j->count);
        ok = explain_legrad(&x, j->rows + i * j->c.model->config.embed, j->maps + i * j->side * j->side, &f);
    }
    return ok ? true : cli_fault(&j->c, &f);
}

/* A method fills j->maps from j->pixels and j->rows. One row each. */
static const struct { const char *name; bool (*run)(job *j); } methods[] = {
    {"legrad", legrad},
};

static bool run_method(job *j) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(j->o.method, methods[i].name)) return methods[i].run(j);
    return err_set(&j->c.e, "--method: %s is unknown", j->o.method);
}

/* ---- inputs --------------------------------------------------------------------------------------------- */
static bool read_embeddings(job *j) {
    size_t embed = j->c.model->config.embed;
    const char *path = j->o.embeddings;
    npy_array a;
    if (!npy_read(path, &a, &j->c.e)) return false;
    size_t cols = a.rank == 2 ? a.shape[1] : a.rank == 1 ? a.shape[0] : 0;
    j->count = a.rank == 2 ? a.shape[0] : 1;
    if (a.rank == 0 || a.rank > 2 || cols != embed || !j->count) {
        err_set(&j->c.e, "%s: rank %zu with rows of %zu found, [count, %zu] expected by this model", path, a.rank, cols, embed);
        npy_free(&a);
        return false;
    }
    j->rows = mem_alloc(j->count, embed * sizeof *j->rows);
    if (j->rows) memcpy(j->rows, a.data, j->count * embed * sizeof *j->rows);
    npy_free(&a);
    if (!j->rows) return err_set(&j->c.e, "%s: no memory for %zu rows", path, j->count);
    for (size_t i = 0; i < j->count; i++) {
        float length = unit(j->rows + i * embed, embed);
        if (!(isfinite(length) && length > 0))
            return err_set(&j->c.e, "%s: row %zu is of length %g, a direction expected", path, i, (double)length);
    }
    return true;
}

static bool read_inputs(job *j) {
    const clip_config *m = &j->c.model->config;
    if (j->o.layers > m->vision.layers)
        return err_set(&j->c.e, "--layers: %zu found, 1 to %zu allowed, the model's depth", j->o.layers, m->vision.layers);
    if (!cli_side(&j->c, j->o.size, 2, &j->side) || !picture_read(j->o.image, &j->photo, &j->c.e)) return false;
    if (j->o.embeddings && !read_embeddings(j)) return false;
    if (!j->o.embeddings && !cli_texts(&j->c, &j->o.text, &j->rows)) return false;
    if (!j->o.embeddings) j->count = j->o.text.texts.count;
    if (!folder_make(j->o.out, &j->c.e)) return false;
    if (!(j->pixels = pixels_squash(&j->photo, j->side, m->mean, m->std, &j->c.e))) return false;
    j->maps = mem_alloc(j->count, j->side * j->side * sizeof *j->maps);
    return j->maps ? true : err_set(&j->c.e, "no memory for %zu maps of %zu x %zu", j->count, j->side, j->side);
}

/* ---- outputs ---------------------------------------------------------------------------------------------- */
static bool write_map(job *j, size_t i) {
    char path[4096];
    const float *map = j->maps + i * j->side * j->side;
    if ((size_t)snprintf(path, sizeof path, "%s/%zu.map.npy", j->o.out, i) >= sizeof path)
        return err_set(&j->c.e, "%s: the path is too long", j->o.out);
    if (!npy_write(path, map, (size_t[]){j->side, j->side}, 2, &j->c.e)) return false;
    snprintf(path, sizeof path, "%s/%zu.map.png", j->o.out, i);
    return overlay_write(path, &j->photo, map, j->side, j->side, NULL, &j->c.e);
}

static bool explain(job *j) {
    if (!cli_open_model(&j->c, &j->o.common) || !read_inputs(j) || !run_method(j)) return false;
    for (size_t i = 0; i < j->count; i++)
        if (!write_map(j, i)) return false;
    return true;
}

int cmd_explain(int argc, char **argv) {
    job j;
    memset(&j, 0, sizeof j);
    if (!cli_begin(&j.c, &explain_command, argc, argv, &j.o)) return j.c.code;
    bool texts = j.o.text.texts.count > 0, ok;
    if (texts == (j.o.embeddings != NULL))
        ok = cli_usage(&j.c, "one of --text and --embeddings is needed, %s found", texts ? "both" : "none");
    else ok = explain(&j);
    mem_free(j.rows);
    mem_free(j.maps);
    mem_free(j.pixels);
    picture_free(&j.photo);
    return cli_end(&j.c, &j.o, ok);
}
