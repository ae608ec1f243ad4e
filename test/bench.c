/* bench.c - make bench: how near the machine's own limit the program comes.
 *
 *     build/openblas/test/bench [one-core] [B/32] [B/16] [L/14] [SO400M/14-384] [RN50] [captioner] [texts] [training]
 *
 * Seeded models of published shapes, F16 files in build/bench. Every figure stands beside the time that its matrix
 * products alone would take at the sgemm rate (n x 4D x D products, all cores) measured right before and after it,
 * because a shared machine changes from one minute to the next. Whole processes are run as a user would. onnxruntime's CPU
 * build runs in turns with our forward passes where PEER names a folder node_modules that has it (x_peer.h). one-core: on one,
 * in its processor time, which other programs hardly change; forward passes, texts and training alone.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "models/checkpoint.h"
#include "models/texts.h"
#include "files/json.h"
#include "files/utf8.h"
#include "models/safetensors.h"
#include "parts/captioner.h"
#include "pictures/image.h"
#include "sys/threads.h"
#include "text/kinds.h"
#include "training/optimiser.h"
#include "x_forward.h"
#include "x_seeded.h"
#include "x_speed.h"

typedef struct { const char *name; size_t patch, width, layers, heads, embed; } shape;
static const shape SHAPES[] = {{"B/32", 32, 768, 12, 12, 512}, {"B/16", 16, 768, 12, 12, 512}, {"L/14", 14, 1024, 24, 16, 768}};
enum { RUNS = 5, TOGETHER = 8, MASKS = 10, STEPS = 10, WIDE = 640, HIGH = 480 };

/* Whose pooler is a network of its own, or which are none of blocks: the forward pass alone, at their own side. */
static clip_config so400m(void) { /* SigLIP */
    clip_config c = seeded_config(384, 14, 1152, 27, 16, 1152);
    c.vision.mlp = 4304, c.vision.eps = (real)1e-6, c.act_vision = c.act_pooler = ACT_GELU_TANH;
    c.pooler = c.vision, c.pooler.layers = 0;
    c.pool = CLIP_POOL_PROBE, c.queries = 1;
    c.no_class_token = c.no_ln_pre = c.patch_bias = c.no_proj = true;
    return c;
}

static clip_config resnet50(void) {
    clip_config c = seeded_config(224, 32, 2048, 0, 32, 1024);
    c.resnet[0] = 3, c.resnet[1] = 4, c.resnet[2] = 6, c.resnet[3] = 3;
    c.pool = CLIP_POOL_CELLS, c.no_ln_pre = true;
    c.pooler = (clip_tower){.width = 2048, .heads = 32, .eps = (real)1e-5};
    return c;
}

static const struct { const char *name; clip_config (*config)(void); } OTHERS[] = {{"SO400M/14-384", so400m}, {"RN50", resnet50}};

static pool *cores;
static bool one_core;

static void stop(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
    exit(1);
}

/* ---- what the products cost --------------------------------------------------------------------------- */
static double forward_flop(const shape *s, size_t side) {
    double n = 1 + (double)(side / s->patch * (side / s->patch)), D = (double)s->width, p = (double)s->patch;
    return (double)s->layers * (24 * n * D * D + 4 * n * n * D) + 2 * n * D * 3 * p * p;
}

/* Convolutions, by the side of what each gives; blocks; the pooler's k and v of all tokens. */
static double other_flop(const clip_config *c) {
    double g = (double)(c->image / c->patch), n = (double)clip_first(c) + g * g, D = (double)c->vision.width, p = (double)c->patch;
    double F = (double)c->vision.mlp, sum = (double)c->vision.layers * (8 * n * D * D + 4 * n * D * F + 4 * n * n * D) + 4 * n * D * D;
    if (!clip_is_resnet(c)) return sum + 2 * g * g * D * 3 * p * p;
    for (size_t i = 0; i < clip_convs(c); i++) {
        clip_conv at = clip_conv_at(c, i);
        bool shrinks = at.stage > 1 && at.block == 0; /* its first two read the larger cells */
        double side = (double)c->image / (at.stage ? (double)(2 << at.stage) : 2);
        if (shrinks && at.part < 2) side *= 2;
        sum += 2 * side * side * (double)(at.out * at.in * at.side * at.side);
    }
    return sum;
}

static double step_flop(const shape *s, size_t side) { /* one mask, one layer: map and derivative (MODEL.md 4) */
    double n = 1 + (double)(side / s->patch * (side / s->patch)), D = (double)s->width;
    return 16 * n * D * D + 4 * n * n * D;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n) {
    qsort(v, n, sizeof *v, by_size);
    return v[n / 2];
}

/* ---- the forward pass alone, by every way in turns ------------------------------------------------------------ */
/* flop: of a picture's products; spared: those of them that we need not make and the peer does */
static void bench_forward(const clip_model *m, clip_model *wide, const char *base, size_t side, size_t batch, double flop, double spared,
                          size_t rows, size_t width) {
    forward_job job = {m, wide, cores, side, batch, flop * (double)batch > 1e11 ? 3 : RUNS, base, rows * batch, width};
    forward_times t;
    err e = {0};
    if (!forward_measure(&job, &t, &e)) stop(e.text);
    flop *= (double)batch, spared *= (double)batch;
    printf("  forward at %zu, %zu picture%s: %.3f s at the sgemm rate, %.3f s at the peak (%.0f GFLOP/s); %.0f MB working memory\n", side, batch,
           batch == 1 ? "" : "s together", (flop - spared) / t.sgemm, (flop - spared) / t.peak, t.peak / 1e9, (double)t.memory / 1e6);
    if (spared > 0) printf("    of %.1f GFLOP, %.1f are not made: the last block's, but for the token that is read; the peer makes them\n", flop / 1e9, spared / 1e9);
    for (int w = 0; w < FORWARD_WAYS; w++) {
        const forward_way *way = &t.way[w];
        if (!way->ran) continue;
        double made = w == FORWARD_PEER ? flop : flop - spared;
        printf("    %-30s %7.3f s  %6.2f pictures/s  %5.2f x its products  %3.0f %% of the peak", forward_name(&t, w), way->best,
               (double)batch / way->best, way->best * t.sgemm / made, 100 * made / way->best / t.peak);
        if (t.way[FORWARD_PEER].ran) printf("  %5.2f x the peer's time", way->times_peer);
        printf("\n");
        if (!(way->apart <= 1e-4)) stop("two ways to the same embedding do not agree");
    }
    if (base && !t.way[FORWARD_PEER].ran) printf("    onnxruntime: %s\n", t.why);
    fflush(stdout);
}

/* ---- whole processes --------------------------------------------------------------------------------------- */
static double seconds_of(const char *json, const char *name) { /* "name": number, within "seconds" of our own result.json */
    char key[64];
    snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(json, "\"seconds\":");
    at = at ? strstr(at, key) : NULL;
    return at ? strtod(at + strlen(key), NULL) : NAN;
}

static void bench_process(const shape *s, const char *folder, size_t side, int masks) {
    char size[16], mask[MASKS][64], *argv[16 + 2 * MASKS] = {"./maskinv", "invert", "-i", "build/bench/photo.png", "-m"};
    int argc = 5;
    argv[argc++] = (char *)(uintptr_t)folder;
    argv[argc++] = "-o";
    argv[argc++] = "build/bench/out";
    argv[argc++] = "--size";
    snprintf(size, sizeof size, "%zu", side);
    argv[argc++] = size;
    for (int i = 0; i < masks; i++) {
        snprintf(mask[i], sizeof mask[i], "build/bench/mask%d.png", i);
        argv[argc++] = "-k";
        argv[argc++] = mask[i];
    }
    double n = 1 + (double)(side / s->patch * (side / s->patch)), took[RUNS], ratio[RUNS], flop;
    flop = forward_flop(s, side) + masks * STEPS * step_flop(s, side);
    long peak = 0;
    err e = {0};
    char *json = NULL;
    int runs = flop > 5e11 ? 3 : RUNS;
    for (int i = -1; i < runs; i++) {
        double rate = sgemm_rate(cores, (size_t)n, s->width), start = seconds_now();
        struct rusage use;
        int status;
        fflush(stdout); /* or the child would write it again */
        pid_t child = fork();
        if (child == 0) {
            if (!freopen("/dev/null", "w", stdout)) _exit(127);
            execv(argv[0], argv);
            _exit(127);
        }
        if (child < 0 || wait4(child, &status, 0, &use) != child || status != 0) stop("./maskinv invert failed");
        double seconds = seconds_now() - start;
        rate = (rate + sgemm_rate(cores, (size_t)n, s->width)) / 2;
        if (i < 0) continue; /* files are warm from here on */
        took[i] = seconds;
        ratio[i] = seconds * rate / flop;
        peak = use.ru_maxrss > peak ? use.ru_maxrss : peak;
    }
    size_t length;
    json = file_read("build/bench/out/result.json", 1 << 20, &length, &e);
    if (!json) stop(e.text);
    remove("build/bench/out/result.json"); /* else the next one warns of it */
    printf("  invert, %2d mask%s at %zu   %7.2f s   %5.2f x its products   %.0f MB resident\n", masks,
           masks == 1 ? " " : "s", side, median(took, (size_t)runs), median(ratio, (size_t)runs), (double)peak / 1e3);
    const char *parts[] = {"model", "reading", "pixels", "forward", "steps", "writing"};
    printf("     of that");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) printf("  %s %.3f", parts[i], seconds_of(json, parts[i]));
    printf("  (a step %.4f)\n", seconds_of(json, "steps") / (masks * STEPS));
    mem_free(json);
}

/* ---- inputs: a photograph of waves, discs as masks, a checkpoint ------------------------------------------------ */
static void make_pictures(void) {
    err e = {0};
    picture p;
    static float soft[WIDE * HIGH];
    if (!picture_new(WIDE, HIGH, &p, &e)) stop(e.text);
    for (size_t i = 0; i < p.width * p.height * 3; i++)
        p.rgb[i] = (unsigned char)(128 + 100 * sin((double)(i % 1920) / 90) * cos((double)(i / 1920) / 40));
    if (!picture_write_png("build/bench/photo.png", &p, &e)) stop(e.text);
    picture_free(&p);
    for (int k = 0; k < MASKS; k++) {
        char name[64];
        for (int y = 0; y < HIGH; y++)
            for (int x = 0; x < WIDE; x++)
                soft[y * WIDE + x] = hypot(x - 60 - 40 * k, y - 240 + 15 * k) < 60 + 8 * k;
        snprintf(name, sizeof name, "build/bench/mask%d.png", k);
        if (!mask_write_png(name, soft, WIDE, HIGH, &e)) stop(e.text);
    }
}

static void bench(const shape *s) {
    char folder[64];
    err e = {0};
    seeded_model made;
    clip_model wide;
    snprintf(folder, sizeof folder, "build/bench/ViT-%c-%s", s->name[0], s->name + 2);
    checkpoint *c = folder_exists(folder) ? checkpoint_open(folder, &e) : NULL;
    if (!c) {
        if (!seeded_make(&made, seeded_config(224, s->patch, s->width, s->layers, s->heads, s->embed), CLIP_F16, 7))
            stop("no memory");
        if (!folder_make(folder, &e) || !checkpoint_write(folder, &made.model, "F16", &e)) stop(e.text);
        seeded_free(&made);
        c = checkpoint_open(folder, &e);
    }
    if (!c) stop(e.text);
    double rate = sgemm_rate(cores, 785, s->width);
    printf("\nViT-%s, sgemm %.0f GFLOP/s on %zu cores\n", s->name, rate / 1e9, cores->width);
    if (!one_core) bench_process(s, folder, 224, 1), bench_process(s, folder, 448, MASKS); /* first, for they begin with our memory as their most */
    if (!forward_widen(checkpoint_model(c), &wide)) stop("no memory");
    for (size_t side = 224; side <= 448; side += 224) {
        size_t g = side / s->patch;
        double flop = forward_flop(s, side), spared = spared_flop((double)(1 + g * g), (double)s->width);
        bench_forward(checkpoint_model(c), &wide, folder, side, 1, flop, spared, 1 + g * g, s->width);
        if (side == 224 && s->width < 1000) bench_forward(checkpoint_model(c), &wide, folder, side, TOGETHER, flop, spared, 1 + g * g, s->width);
    }
    forward_narrow(&wide);
    checkpoint_free(c);
}

/* The rate beside them is that of ViT-B/16's products at 448, none of their own small ones. */
static void bench_other(size_t i) {
    seeded_model made;
    clip_config c = OTHERS[i].config();
    if (!seeded_make(&made, c, CLIP_F16, 7)) stop("no memory");
    printf("\n%s, %.2f GFLOP, sgemm %.0f GFLOP/s on %zu cores\n", OTHERS[i].name, other_flop(&c) / 1e9, sgemm_rate(cores, 785, 768) / 1e9,
           cores->width);
    bench_forward(&made.model, NULL, NULL, c.image, 1, other_flop(&c), 0, 785, 768);
    seeded_free(&made);
}

static bool asked(int argc, char **argv, const char *name) {
    bool wanted = argc < 2 + (one_core ? 1 : 0);
    for (int k = 1; k < argc; k++) wanted = wanted || strcmp(argv[k], name) == 0;
    return wanted;
}

/* ---- ClipCap's size: GPT-2 small, a perceptron from 512 numbers to ten rows ----------------------------------- */
enum { WORDS = 67 };
static const captioner_net CLIPCAP = {.embed = 512, .prefix = 10,
                                      .d = {.shape = {.vocab = 50257, .length = 1024, .width = 768, .heads = 12, .layers = 12, .gpt2 = true}}};

/* Tensor i of the file, which is the list's row i: seeded, so that the words are many and none of them ends it soon. */
static bool captioner_tensor(void *arg, size_t i, unsigned char *to, err *e) {
    const part_weight *w = &((const part_list *)arg)->list[i];
    float *x = (float *)(void *)to;
    uint64_t state = 11 + i;
    double by = w->deviation > 0 ? w->deviation : 0.02;
    (void)e;
    seeded_normal(&state, x, w->rows * w->cols);
    for (size_t k = 0; k < w->rows * w->cols; k++) x[k] = (float)(w->fill + by * (double)x[k]);
    return true;
}

/* Pairs of bytes, as many as the table of words has rows. */
static void write_merges(const char *folder) {
    char path[128];
    snprintf(path, sizeof path, "%s/merges.txt", folder);
    FILE *f = fopen(path, "wb");
    if (!f) stop(path);
    fputs("#version: 0.2\n", f);
    for (uint32_t i = 0; i < 50000; i++) {
        unsigned char a[5] = {0}, b[5] = {0};
        utf8_encode(byte_character(i / 256), a), utf8_encode(byte_character(i % 256), b);
        fprintf(f, "%s %s\n", (char *)a, (char *)b);
    }
    fclose(f);
}

static void make_captioner(const char *folder) {
    captioner_net net = CLIPCAP;
    part_list l = {0}, words = {0};
    char path[128], names[256][96];
    st_tensor t[256];
    err e = {0};
    snprintf(path, sizeof path, "%s/coco_weights.safetensors", folder);
    if (file_exists(path)) return;
    captioner_map_weights(&net, &l);
    size_t of_map = l.count;
    decoder_weights(&net.d, &words), part_append(&l, &words);
    for (size_t i = 0; i < l.count; i++) {
        const part_weight *w = &l.list[i];
        size_t rank = w->rows == 1 ? 1 : 2;
        snprintf(names[i], sizeof names[i], "%s%s", i < of_map ? "clip_project." : "gpt.transformer.", w->name);
        t[i] = (st_tensor){names[i], "F32", {rank == 2 ? w->rows : w->cols, w->cols}, rank, NULL, w->rows * w->cols * sizeof(float)};
    }
    if (!st_write_made(path, t, l.count, NULL, captioner_tensor, &l, &e)) stop(e.text);
    part_list_free(&l), part_list_free(&words);
    write_merges(folder);
}

/* What no program passes: all weights through the processor once. */
static void read_task(void *arg, size_t i) {
    static real sums[256];
    const captioner_net *n = arg;
    part_list l = {0};
    captioner_net copy = *n;
    real sum = 0;
    decoder_weights(&copy.d, &l);
    for (size_t k = 0; k < l.count; k++) { /* the copy's pointers are the network's, in the order of the list */
        const ag_tensor *w = *l.list[k].at;
        size_t half = ag_size(w) / cores->width;
        sum += k_sum(w->data + i * half, half);
    }
    sums[i % 256] = sum;
    if (!(sums[i % 256] >= -1e30)) stop("weights that are no numbers");
    part_list_free(&l);
}

static void bench_captioner(void) {
    static const char folder[] = "build/bench/clipcap";
    err e = {0};
    size_t room = (size_t)1 << 28;
    void *memory = mem_reserve(room);
    arena a;
    captioner_said said;
    captioner_way way = {1, WORDS};
    float z[512];
    if (!memory || !folder_make(folder, &e)) stop(memory ? e.text : "no memory");
    make_captioner(folder);
    captioner *c = captioner_open(folder, 512, &e);
    if (!c) stop(e.text);
    arena_init(&a, memory, room);
    for (size_t i = 0; i < 512; i++) z[i] = (float)sin(1.7 * (double)i);
    double best = INFINITY, once = INFINITY;
    for (int i = -1; i < RUNS; i++) {
        double start = seconds_now();
        spread(cores, cores->width, read_task, (void *)(uintptr_t)captioner_network(c));
        double read = seconds_now();
        if (!captioner_say(c, z, &way, &a, cores, &said, &e)) stop(e.text);
        double took = (seconds_now() - read) / (double)said.count;
        if (i >= 0) best = fmin(best, took), once = fmin(once, read - start);
    }
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf("\nClipCap's shape, float32: %.1f ms a word of %zu, %.2f x the time that reading its 498 MB once takes (%.1f ms)\n", 1e3 * best, said.count,
           best / once, 1e3 * once);
    printf("  %.1f MB working memory, %.0f MB resident, the file's 624 MB and what was measured before with it\n", (double)a.peak / 1e6, (double)use.ru_maxrss / 1e3);
    captioner_free(c);
    mem_release(memory, room);
}

/* ---- texts: B/16's text side, prompts of a few words, sorted by length and together as texts.c takes them -------- */
enum { PROMPTS = 512, SHORTEST = 8, LENGTHS = 8, PROMPT_GROUP = 64 };
static void bench_texts(void) {
    static uint32_t ids[PROMPT_GROUP * (SHORTEST + LENGTHS)];
    clip_config c = seeded_config(32, 16, 64, 1, 1, 512);
    seeded_model made;
    arena a;
    err e = {0};
    size_t room = (size_t)1 << 30, W = 512;
    void *memory = mem_reserve(room);
    float *z = mem_alloc(PROMPT_GROUP, 512 * sizeof *z);
    c.text = (clip_tower){.width = W, .layers = 12, .heads = 8, .mlp = 4 * W, .eps = (real)1e-5};
    c.vocab = 49408;
    if (!memory || !z || !seeded_make(&made, c, CLIP_F16, 7)) stop("no memory");
    arena_init(&a, memory, room);
    double best = INFINITY, rate = 0, flop = 0;
    for (int i = -1; i < RUNS; i++) {
        rate = fmax(rate, sgemm_rate(cores, PROMPT_GROUP * SHORTEST, W));
        double start = work_seconds(cores);
        flop = 0;
        for (size_t n = SHORTEST; n < SHORTEST + LENGTHS; n++) {
            for (size_t k = 0; k < PROMPT_GROUP * n; k++) ids[k] = (uint32_t)(k * 7919 % 49406);
            if (!ids_embed(&made.model, ids, PROMPT_GROUP, n, &a, cores, z, &e)) stop(e.text);
            flop += (double)PROMPT_GROUP * (12 * (24 * (double)n * (double)(W * W) + 4 * (double)(n * n * W)) + 2 * (double)(W * W) -
                                            spared_flop((double)n, (double)W));
        }
        if (i >= 0) best = fmin(best, work_seconds(cores) - start);
    }
    printf("\ntexts, B/16's text side: %d prompts of %d to %d ids in %.3f s, %.2f x their products at the sgemm rate (%.0f GFLOP/s); 80,000 in %.0f s\n",
           PROMPTS, SHORTEST, SHORTEST + LENGTHS - 1, best, best * rate / flop, rate / 1e9, best * 80000 / PROMPTS);
    seeded_free(&made);
    mem_free(z);
    mem_release(memory, room);
}

/* ---- training: a step at the default model's shape, its loss, gradients and AdamW; scenes are not counted -------------------- */
enum { BATCH = 192, CAPTION_IDS = 16 };
static const contrastive_plan PLAN = {12, BATCH, BATCH, 8, 48}; /* train's own */

static clip_config trained_config(void) {
    clip_config c = seeded_config(80, 8, 128, 6, 4, 128);
    c.pool = CLIP_POOL_MEAN;
    c.text = (clip_tower){.width = 96, .layers = 3, .heads = 4, .mlp = 384, .eps = (real)1e-5};
    c.vocab = 1514, c.context = 24;
    return c;
}

static double tower_flop(const clip_tower *t, double n) { /* forward, of one picture or text */
    double D = (double)t->width, F = (double)t->mlp;
    return (double)t->layers * (8 * n * D * D + 4 * n * D * F + 4 * n * n * D);
}

/* Backward makes two products of each of forward's; of the patches', one: pixels want no gradient. */
static double training_flop(const clip_config *c) {
    double g = (double)(c->image / c->patch), p = (double)c->patch, B = BATCH, E = (double)c->embed;
    double patches = 2 * g * g * (double)c->vision.width * 3 * p * p;
    double heads = 2 * E * (double)(c->vision.width + c->text.width);
    return B * (3 * (tower_flop(&c->vision, g * g + 1) + tower_flop(&c->text, CAPTION_IDS) + heads) + 2 * patches) + 2 * 3 * 2 * B * B * E;
}

/* Pictures [BATCH, cells], ids [BATCH, CAPTION_IDS]: any. */
static contrastive_batch training_batch(const clip_config *c) {
    size_t g = c->image / c->patch, count = BATCH * g * g * 3 * c->patch * c->patch;
    real *patches = mem_alloc(count, sizeof *patches);
    uint32_t *ids = mem_alloc(BATCH * CAPTION_IDS, sizeof *ids);
    uint64_t state = 5;
    if (!patches || !ids) stop("no memory");
    seeded_normal(&state, patches, count);
    for (size_t i = 0; i < BATCH * CAPTION_IDS; i++) ids[i] = (uint32_t)(i * 7919 % c->vocab);
    return (contrastive_batch){patches, ids, NULL, BATCH, BATCH, CAPTION_IDS};
}

static void bench_training(void) {
    clip_config c = trained_config();
    contrastive_batch b = training_batch(&c);
    contrastive_result r;
    parameters params;
    optimiser o;
    arena a;
    err e = {0};
    fault why = {0};
    size_t room = contrastive_room(&c, &PLAN);
    void *memory = mem_reserve(room);
    if (!memory) stop("no memory");
    arena_init(&a, memory, room);
    if (!parameters_of(&c, &a, &params, &why) || !optimiser_new(&o, &params, cores, &e)) stop("no memory");
    o.rates = (optimiser_rates){(real)0.9, (real)0.98, (real)1e-6, (real)0.1, 1, (real)0.999};
    optimiser_begin(&o, &c, 1);
    real *gradient = arena_alloc(&a, params.numbers, sizeof *gradient);
    contrastive *step = gradient ? contrastive_new(&c, o.weights, cores, &PLAN, &a, &why) : NULL;
    if (!step) stop("no memory");
    double best = INFINITY, at_home = 0, wide = 0, flop = training_flop(&c);
    for (int i = -1; i < 2 * RUNS; i++) {
        at_home = fmax(at_home, sgemm_rate(cores, PLAN.images_chunk * 101, c.vision.width));
        wide = fmax(wide, sgemm_rate(cores, 785, 768));
        double start = work_seconds(cores);
        if (!contrastive_step(step, &b, gradient, &r, &why)) stop("the step failed");
        optimiser_step(&o, gradient, optimiser_norm(&o, gradient), 1e-3);
        if (i >= 0) best = fmin(best, work_seconds(cores) - start);
    }
    printf("\ntraining, the default model's shape, %d pictures and captions a step: %.3f s, %.1f GFLOP, %.0f GFLOP/s, %.2f of sgemm's %.0f at its shape (808 x 512 x 128), "
           "%.2f of %.0f at ViT-B/16's; %.0f pictures/s, %.0f MB\n",
           BATCH, best, flop / 1e9, flop / best / 1e9, flop / best / at_home, at_home / 1e9, flop / best / wide, wide / 1e9, BATCH / best,
           (double)contrastive_peak(step) / 1e6);
    optimiser_free(&o);
    mem_free((void *)(uintptr_t)b.patches), mem_free((void *)(uintptr_t)b.ids);
    mem_release(memory, room);
}

int main(int argc, char **argv) {
    err e = {0};
    mem_hook_cjson();
    one_core = argc > 1 && !strcmp(argv[1], "one-core");
    cores = pool_start(one_core ? 1 : 0);
    if (!cores) stop("no threads");
    if (!folder_make("build/bench", &e)) stop(e.text);
    make_pictures();
    printf("peak %.0f GFLOP/s on %zu cores (multiply-adds in registers); own product: %s\n", fma_rate(cores) / 1e9, cores->width,
           gemm_own_name());
    printf("%s %s\nforward: the best of %d runs (of 3 where one takes seconds), all ways by turns, their ratios to the peer's time medians of "
           "the rounds'; processes: medians; the first, which warms up, is not counted%s\n",
           gemm_backend(), gemm_core_name(), RUNS, one_core ? "; one core, in its processor time" : "");
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
        if (asked(argc, argv, SHAPES[i].name)) bench(&SHAPES[i]);
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (asked(argc, argv, OTHERS[i].name)) bench_other(i);
    if (asked(argc, argv, "captioner")) bench_captioner();
    if (asked(argc, argv, "texts")) bench_texts();
    if (asked(argc, argv, "training")) bench_training();
    pool_stop(cores);
    return 0;
}
