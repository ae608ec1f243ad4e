/* cmd_info.c - maskinv info: what a model is, its tensors, its memory. */
#include "cli/cli.h"
#include "models/identity.h"
#include "models/pixels.h"
#include <math.h>
#include <string.h>

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
typedef struct {
    bool list;
    const checkpoint *weights;
    size_t tensors, numbers, bytes, vision;
    unsigned types; /* a bit for each that occurs */
} tally;

static bool count_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    tally *t = arg;
    size_t numbers = rows * cols;
    t->tensors++;
    t->numbers += numbers;
    t->bytes += clip_bytes(w->type, numbers);
    t->types |= 1u << w->type;
    if (!clip_of_text(kind) && kind != W_LOGIT_SCALE && kind != W_LOGIT_BIAS) t->vision += numbers;
    if (!t->list) return true;
    char name[CHECKPOINT_NAME];
    checkpoint_weight_name(t->weights, kind, layer, name);
    printf("  %-28s [%zu, %zu] %s%s\n", name, rows, cols, clip_type_name(w->type),
           w->transposed ? ", stored transposed" : "");
    return true;
}

/* ---- the text ---------------------------------------------------------------------------------------- */
static void print_tower(const char *name, const clip_tower *t, act_kind act) {
    static const char *const acts[] = {[ACT_QUICK_GELU] = "quick_gelu", [ACT_GELU] = "gelu", [ACT_GELU_TANH] = "gelu (tanh)"};
    printf("%-10s %zu blocks, width %zu, %zu heads, mlp %zu, %s, eps %g", name, t->layers, t->width, t->heads, t->mlp,
           t->swiglu ? "swiglu" : acts[act], (double)t->eps);
    if (t->sub_norm) printf(", inner norms");
    if (t->post_norm) printf(", norms after");
    if (t->layer_scale) printf(", layer scale");
    printf("\n");
}

static void print_pooling(const clip_config *c) {
    static const char *const pools[CLIP_POOLS] = {
        [CLIP_POOL_CLASS] = "class token", [CLIP_POOL_MEAN] = "mean of all tokens", [CLIP_POOL_PATCHES] = "mean of patches",
        [CLIP_POOL_PROBE] = "attention pool, asked by a learned query", [CLIP_POOL_QUERIES] = "attention pool, asked by learned queries",
        [CLIP_POOL_CELLS] = "attention pool, asked by the mean of the cells"};
    printf("pooling    %s", pools[c->pool]);
    if (c->pool == CLIP_POOL_QUERIES) printf(" (%zu, the first is the image)", c->queries);
    if (clip_has_pooler(c)) printf(", %zu heads", c->pooler.heads);
    if (clip_has_pooler(c) && c->pooler.mlp) printf(", mlp %zu", c->pooler.mlp);
    printf("%s\n", c->rope.side ? "; rotary positions" : "");
}

static void print_image(const clip_config *c) {
    size_t grid = c->image / c->patch;
    printf("image      %zu x %zu, patch %zu, %zu tokens; embeddings of %zu\n", c->image, c->image, c->patch,
           clip_first(c) + grid * grid, c->embed);
    if (clip_is_resnet(c))
        printf("vision     ResNet of %zu blocks (%zu, %zu, %zu, %zu), width %zu\n",
               c->resnet[0] + c->resnet[1] + c->resnet[2] + c->resnet[3], c->resnet[0], c->resnet[1], c->resnet[2], c->resnet[3],
               c->vision.width / 32);
    else
        print_tower("vision", &c->vision, c->act_vision);
    print_pooling(c);
}

static void print_text(const clip_config *c) {
    static const char *const reads[] = {[CLIP_READ_LARGEST] = "the largest id", [CLIP_READ_EOS] = "the end mark",
                                        [CLIP_READ_LAST] = "the last place", [CLIP_READ_FIRST] = "the first place"};
    if (!c->text.layers) {
        printf("text       none, or another network's that is not read: pictures only\n");
        return;
    }
    print_tower("text", &c->text, c->act_text);
    printf("vocabulary %zu tokens, %zu a text, read at %s%s\n", c->vocab, c->context,
           c->text_class ? "a class token" : reads[c->read], c->text_unmasked ? ", every token sees all" : "");
}

static void print_logits(const clip_model *m) {
    printf("logits     similarity times %.4g", (double)clip_logit_scale(m));
    if (m->config.logit_bias) printf(", %+.4g; their sigmoid is a probability", (double)clip_logit_bias(m));
    printf("\n");
}

/* What the file is, how it is stored, and what in it was not read. */
static void print_container(const checkpoint *w, const tally *t) {
    const tensors *s = checkpoint_tensors(w);
    char types[80] = "";
    for (int i = 0; i < CLIP_TYPES; i++)
        if (t->types >> i & 1)
            snprintf(types + strlen(types), sizeof types - strlen(types), "%s%s", *types ? ", " : "", clip_type_name((clip_type)i));
    printf("container  %s, %zu file%s, %s layout, %s\n", tensors_container(s), tensors_files(s),
           tensors_files(s) == 1 ? "" : "s", checkpoint_layout(w), types);
}

/* What one explained layer keeps, at most (explain.h): factored n(2F + 2D) and its products' [H,n,n] signs, or of a pooler,
 * whose A has one row, v [n,D] and H n signs; decomposed dz/dA [E,H,rows,n]. */
static void print_memory(const clip_config *c, size_t side) {
    const clip_tower *t = clip_has_pooler(c) ? &c->pooler : &c->vision;
    double n = (double)(clip_first(c) + side / c->patch * (side / c->patch)), rows = clip_has_pooler(c) ? 1 : n;
    double heads = (double)t->heads, width = (double)t->width, mlp = (double)t->mlp;
    double each = sizeof(real), own = clip_has_pooler(c) ? n * width + 2 * mlp : n * (2 * mlp + 2 * width);
    printf("at %zu     %.0f tokens; an explained layer keeps %.1f MB factored, %.1f MB decomposed (dz/dA)\n", side, n,
           (each * own + 2 * heads * rows * n) / 1e6, each * (double)c->embed * heads * rows * n / 1e6);
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
    printf("family     %s\n", model_family(m));
    print_container(c->weights, &t);
    print_image(m);
    char pixels[128];
    pixels_describe(m, pixels, sizeof pixels);
    printf("pixels     %s; mean %.4g %.4g %.4g, std %.4g %.4g %.4g\n", pixels, (double)m->mean[0], (double)m->mean[1],
           (double)m->mean[2], (double)m->std[0], (double)m->std[1], (double)m->std[2]);
    print_text(m);
    if (m->text.layers) print_logits(c->model);
    printf("weights    %zu tensors, %.2f million numbers (%.2f in the image side), %.2f MB as stored\n", t.tensors,
           (double)t.numbers / 1e6, (double)t.vision / 1e6, (double)t.bytes / 1e6);
    for (size_t i = 0; i < tensors_notes(checkpoint_tensors(c->weights)); i++)
        printf("note       %s\n", tensors_note(checkpoint_tensors(c->weights), i));
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
    return cli_end(&c, &o, cli_open_model_for(&c, &o.common, CHECK_ALL) && info(&c, &o));
}
