/* cmd_info.c - maskinv info: what a model is, its tensors, its memory. */
#include "cli/cli.h"
#include "models/pixels.h"
#include <math.h>

typedef struct {
    common_options common;
    bool tensors;
    size_t size;
} options;

static const flag flags[] = {
    CLI_COMMON_FLAGS(options),
    {"tensors", 0, FLAG_SWITCH, offsetof(options, tensors), NULL, .help = "list every tensor with its shape and type"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side for the memory figures; not given: twice the model's image"},
};

const command info_command = {
    "info",
    "what a model is, its tensors, its memory",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    NULL,
    cmd_info,
};

/* ---- tensors -------------------------------------------------------------------------------------- */
static const char *const type_names[] = {"F32", "F16", "BF16", "real"};

typedef struct {
    bool list;
    const checkpoint *weights;
    size_t tensors, numbers, bytes, vision;
} tally;

static bool count_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    tally *t = arg;
    size_t numbers = rows * cols, each = w->type == CLIP_F16 || w->type == CLIP_BF16 ? 2 : 4;
    t->tensors++;
    t->numbers += numbers;
    t->bytes += numbers * each;
    if (!clip_of_text(kind) && kind != W_LOGIT_SCALE && kind != W_LOGIT_BIAS) t->vision += numbers;
    if (!t->list) return true;
    char name[CHECKPOINT_NAME];
    checkpoint_weight_name(t->weights, kind, layer, name);
    printf("  %-28s [%zu, %zu] %s%s\n", name, rows, cols, type_names[w->type],
           w->transposed ? ", stored transposed" : "");
    return true;
}

/* ---- the text ---------------------------------------------------------------------------------------- */
static void print_tower(const char *name, const clip_tower *t, act_kind act) {
    printf("%-10s %zu blocks, width %zu, %zu heads, mlp %zu, %s, eps %g\n", name, t->layers, t->width, t->heads, t->mlp,
           act == ACT_GELU ? "gelu" : "quick_gelu", (double)t->eps);
}

/* What one explained layer keeps, at most (explain.h): factored n(2F + 2D) and its products' [H,n,n] signs;
 * decomposed dz/dA [E,H,n,n]. */
static void print_memory(const clip_config *c, size_t side) {
    double n = 1 + (double)(side / c->patch) * (double)(side / c->patch);
    double heads = (double)c->vision.heads, width = (double)c->vision.width, mlp = (double)c->vision.mlp;
    printf("at %zu     %.0f tokens; an explained layer keeps %.1f MB factored, %.1f MB decomposed (dz/dA)\n", side, n,
           (4 * n * (2 * mlp + 2 * width) + 2 * heads * n * n) / 1e6, 4 * (double)c->embed * heads * n * n / 1e6);
}

static void print_invert(const clip_config *c) {
    printf("invert     ");
    if (isfinite((double)c->invert.lr) && c->invert.lr > 0) printf("lr %g, ", (double)c->invert.lr);
    if (c->invert.iters) printf("%zu steps, ", c->invert.iters);
    if (c->invert.layers) printf("%zu layers, ", c->invert.layers);
    if (c->invert.size) printf("at %zu pixels, ", c->invert.size);
    printf("alpha %g: this model's own defaults\n", (double)c->invert.alpha);
}

static bool info(cli *c, const options *o) {
    const clip_config *m = &c->model->config;
    clip_model model = *c->model;
    tally t = {0};
    size_t side;
    if (!cli_side(c, o->size, 2, &side)) return false;
    (void)clip_each_weight(&model, count_weight, &t);
    printf("model      %s (%s layout)\n", checkpoint_name(c->weights), checkpoint_layout(c->weights));
    printf("image      %zu x %zu, patch %zu, %zu tokens; embeddings of %zu\n", m->image, m->image, m->patch,
           1 + (m->image / m->patch) * (m->image / m->patch), m->embed);
    char pixels[128];
    pixels_describe(m, pixels, sizeof pixels);
    printf("pixels     %s; mean %.4g %.4g %.4g, std %.4g %.4g %.4g\n", pixels, (double)m->mean[0], (double)m->mean[1],
           (double)m->mean[2], (double)m->std[0], (double)m->std[1], (double)m->std[2]);
    print_tower("vision", &m->vision, m->act_vision);
    print_tower("text", &m->text, m->act_text);
    printf("vocabulary %zu tokens, %zu a text\n", m->vocab, m->context);
    printf("pooling    %s\n", m->pool == CLIP_POOL_MEAN ? "mean of all tokens" : "class token");
    printf("logits     similarity times %.4g\n", (double)clip_logit_scale(c->model));
    printf("weights    %zu tensors, %.2f million numbers (%.2f in the image side), %.2f MB as stored\n", t.tensors,
           (double)t.numbers / 1e6, (double)t.vision / 1e6, (double)t.bytes / 1e6);
    for (size_t i = 0; i < tensors_notes(checkpoint_tensors(c->weights)); i++)
        printf("           %s\n", tensors_note(checkpoint_tensors(c->weights), i));
    if (m->invert.lr > 0 || m->invert.iters || m->invert.layers || m->invert.size) print_invert(m);
    print_memory(m, side);
    printf("products   %s, %zu cores\n", gemm_backend(), c->cores->width);
    t = (tally){.list = true, .weights = c->weights};
    return !o->tensors || clip_each_weight(&model, count_weight, &t);
}

int cmd_info(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &info_command, argc, argv, &o)) return c.code;
    return cli_end(&c, &o, cli_open_model(&c, &o.common) && info(&c, &o));
}
