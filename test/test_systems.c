/* test_systems.c - what is trained beside a CLIP, each loss and every gradient of it against formulas in float64; runs that are
 * interrupted; files that do not fit. */
#include "x_part.h"
#include "x_fixture.h"
#include "os/os.h"
#include "parts/alpha.h"
#include "parts/anchors.h"
#include "parts/evidence.h"
#include "parts/generator.h"
#include "parts/heads.h"
#include "parts/maskembed.h"
#include "parts/pool.h"
#include "parts/tower.h"
#include "models/safetensors.h"
#include "models/texts.h"
#include "training/expert.h"
#include "training/looked.h"
#include "training/systems.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the generator: linear space, flow, guided walk ------------------------------------------------------ */
static void test_flow(void **state) {
    (void)state;
    enum { B = 4, N = 48, K = 10, E = 8 };
    part_bench b;
    part_list space = {0}, list = {0};
    part_bench_open(&b, "flow_mlp");
    linear_space s = {.numbers = N, .count = K};
    generator_net net = {.coefficients = K, .width = 16, .blocks = 2, .embed = E, .frequencies = 4};
    space_weights(&s, &space), generator_weights(&net, &list);
    part_bench_leaves(&b, &space, "in."), part_bench_leaves(&b, &list, "w.");
    real *times = part_bench_numbers(&b, "in.t", NULL), *dropped = part_bench_numbers(&b, "in.dropped", NULL);
    ag_tensor *x1 = space_into(&b.t, &s, part_bench_input(&b, "in.pictures", 1, B, N));
    ag_tensor *x0 = part_bench_input(&b, "in.x0", 1, B, K), *z = part_bench_input(&b, "in.condition", 1, B, E);
    ag_tensor *loss = generator_loss(&b.t, &net, ag_detach(&b.t, x1), x0, times, z, dropped, (real)1 / (B * K));
    assert_non_null(loss);
    part_bench_check(&b, "out.x1", x1->data);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b, &list, "", NULL);
    b.t.recording = false;
    generator_way how = {.steps = 4, .guidance = 2};
    ag_tensor *end = generator_sample(&b.t, &net, x0, z, &how);
    assert_non_null(end);
    part_bench_check(&b, "out.sample", end->data);
    part_bench_check(&b, "out.sample_picture", space_out_of(&b.t, &s, end)->data);
    part_list_free(&space), part_list_free(&list);
    part_bench_close(&b);
}

static void test_generator_files(void **state) {
    (void)state;
    err e = {{0}};
    assert_null(generator_open("test/data/training/captioner.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "basis"));
    assert_null(generator_open("test/data/no-such-file.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "no-such-file"));
}

/* ---- towers from fixtures ---------------------------------------------------------------------------------- */
typedef struct {
    clip_model base;
    clip_block_weights blocks[2];
    tower tower;
    part_list list;
} bench_tower;

static clip_config tower_config(size_t image, size_t patch, size_t D, size_t E) {
    return (clip_config){.image = image, .patch = patch, .embed = E, .act_vision = ACT_QUICK_GELU,
                         .vision = {.width = D, .layers = 2, .heads = 2, .mlp = 4 * D, .eps = (real)1e-5}};
}

/* The fixture's name, and which third of rows, of one of the tower's: in_proj_weight.q -> in_proj_weight, 0; `dot`: AlphaCLIP's files
 * have in_proj.weight. */
static size_t third_of(const char *name, bool dot, char out[160]) {
    size_t n = (size_t)snprintf(out, 160, "%s", name + strlen("visual.")), part = 3;
    for (size_t i = 0; i < 3; i++)
        if (n > 2 && out[n - 2] == '.' && out[n - 1] == "qkv"[i]) part = i;
    if (part < 3) out[n - 2] = 0;
    char *at = strstr(out, "in_proj_");
    if (at && dot) at[strlen("in_proj")] = '.';
    return part;
}

/* The rows [rows, cols] of a weight or gradient of the fixture; proj is stored the other way round. */
static real *tower_numbers(part_bench *b, const part_weight *p, const char *prefix, bool dot) {
    char name[160], whole[240];
    size_t part = third_of(p->name, dot, name), n;
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    real *x = part_bench_numbers(b, whole, &n);
    if (part < 3) x += part * p->rows * p->cols, n /= 3;
    assert_int_equal(n, p->rows * p->cols);
    if (strcmp(name, "proj")) return x;
    real *y = arena_alloc(&b->memory, n, sizeof *y);
    for (size_t i = 0; i < n; i++) y[i] = x[i % p->cols * p->rows + i / p->cols];
    return y;
}

static void tower_open(bench_tower *x, part_bench *b, clip_config c, bool alpha, const char *prefix, bool dot, bool learns) {
    memset(x, 0, sizeof *x);
    x->base.config = c, x->base.blocks = x->blocks;
    tower_weights(&x->tower, &x->base, alpha, 1, &x->list);
    for (size_t i = 0; i < x->list.count; i++) {
        part_weight *p = &x->list.list[i];
        size_t n = p->rows * p->cols;
        real *w = tower_numbers(b, p, prefix, dot), *sum = arena_alloc(&b->memory, n, sizeof *sum);
        memset(sum, 0, n * sizeof *sum);
        *p->at = learns ? ag_leaf(&b->t, w, sum, 1, p->rows, p->cols) : ag_constant(&b->t, w, 1, p->rows, p->cols);
    }
}

static void tower_gradients(bench_tower *x, part_bench *b, const char *prefix, bool dot) {
    for (size_t i = 0; i < x->list.count; i++) {
        const part_weight *p = &x->list.list[i];
        char name[160], whole[240];
        third_of(p->name, dot, name);
        snprintf(whole, sizeof whole, "%s%s", prefix, name);
        if (!tensors_find(b->file, whole)) {
            assert_non_null(strstr("ln_post.weight ln_post.bias proj", name)); /* what the loss does not see */
            continue;
        }
        part_bench_close_to(b, whole, (*p->at)->sum, tower_numbers(b, p, prefix, dot), p->rows * p->cols);
    }
}

/* [pictures,3,side,side] and planes -> patches of `planes` planes. */
static ag_tensor *fixture_patches(part_bench *b, const clip_model *m, const real *pixels, const real *alpha, size_t pictures, size_t side) {
    size_t grid = side / m->config.patch, each = (m->config.alpha ? 4 : 3) * m->config.patch * m->config.patch;
    ag_tensor *all = ag_new(&b->t, pictures, grid * grid, each);
    for (size_t i = 0; i < pictures; i++) {
        ag_tensor *one = clip_patches_alpha(&b->t, m, pixels + i * 3 * side * side, alpha ? alpha + i * side * side : NULL, side, side);
        memcpy(all->data + i * grid * grid * each, one->data, grid * grid * each * sizeof(real));
    }
    return all;
}

/* ---- AlphaCLIP ----------------------------------------------------------------------------------------------- */
static void test_alphaclip(void **state) {
    (void)state;
    enum { B = 2, S = 32, E = 24 };
    part_bench b;
    bench_tower x;
    part_bench_open(&b, "alphaclip");
    tower_open(&x, &b, tower_config(S, 8, 32, E), true, "", true, true);
    real *pixels = part_bench_numbers(&b, "in.pixels", NULL), *plane = part_bench_numbers(&b, "in.mask", NULL);
    for (size_t i = 0; i < B * S * S; i++) plane[i] = (plane[i] - (real)0.5) / (real)0.26;
    ag_tensor *texts = ag_normalize(&b.t, part_bench_input(&b, "in.texts", 1, B, E));
    ag_tensor *z = clip_image(&b.t, &x.tower.model, fixture_patches(&b, &x.tower.model, pixels, plane, B, S), 4, 4);
    const real truth[] = {1, 0, 0, 1};
    ag_tensor *loss = alpha_loss(&b.t, z, texts->data, truth, (real)exp(3), (real)0.1, (real)1 / (real)B);
    assert_non_null(loss);
    part_bench_check(&b, "out.masked", z->data);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    tower_gradients(&x, &b, "grad.", true);
    b.t.recording = false;
    z = clip_image(&b.t, &x.tower.model, fixture_patches(&b, &x.tower.model, pixels, NULL, B, S), 4, 4);
    part_bench_check(&b, "out.everything", z->data);
    part_list_free(&x.list);
    part_bench_close(&b);
}

/* ---- MaskEmbed ------------------------------------------------------------------------------------------------ */
static void test_maskembed(void **state) {
    (void)state;
    enum { B = 2, S = 24, D = 16, CELLS = 9, EACH = 3 };
    part_bench b;
    bench_tower teacher, student;
    part_list list = {0};
    part_bench_open(&b, "maskembed");
    clip_config c = tower_config(S, 8, D, 12);
    c.pool = CLIP_POOL_MEAN;
    tower_open(&teacher, &b, c, false, "w.teacher.", false, false);
    tower_open(&student, &b, c, false, "w.student.", false, true);
    maskembed_net net = {.tokens = CELLS + 1, .width = D, .heads = 2, .mlp = 4 * D, .blocks = 2, .act = ACT_QUICK_GELU};
    maskembed_weights(&net, &list);
    part_bench_leaves(&b, &list, "w.");
    real *masks = part_bench_numbers(&b, "in.masks", NULL), scale = part_bench_numbers(&b, "in.scale", NULL)[0];
    ag_tensor *patches = fixture_patches(&b, &teacher.tower.model, part_bench_numbers(&b, "in.pixels", NULL), NULL, B, S);
    const clip_model *m = &teacher.tower.model;
    ag_tensor *seen = tower_tokens(&b.t, m, maskembed_hide(&b.t, patches, masks, EACH), 3, 3);
    ag_tensor *target = ag_detach(&b.t, ag_scale(&b.t, clip_norm(&b.t, &m->post_gamma, &m->post_beta, c.vision.eps, seen), scale, 0));
    ag_tensor *y = maskembed_reconstruct(&b.t, &net, tower_tokens(&b.t, &student.tower.model, patches, 3, 3), masks, EACH);
    ag_tensor *loss = maskembed_loss(&b.t, y, target, (real)1 / (B * EACH * (CELLS + 1) * D));
    assert_non_null(loss);
    part_bench_check(&b, "out.target", target->data);
    part_bench_check(&b, "out.reconstruction", y->data);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b, &list, "", NULL);
    tower_gradients(&student, &b, "grad.student.", false);
    part_list_free(&list), part_list_free(&teacher.list), part_list_free(&student.list);
    part_bench_close(&b);
}

/* ---- evidence --------------------------------------------------------------------------------------------------- */
static void check_opinion(part_bench *b, const char *view, ag_tensor *alpha, const uint32_t *labels) {
    static const char *const names[] = {"sse", "type2", "digamma"};
    char name[64];
    snprintf(name, sizeof name, "out.%s.alpha", view), part_bench_check(b, name, alpha->data);
    snprintf(name, sizeof name, "out.%s.uncertainty", view), part_bench_check(b, name, evidence_doubt(&b->t, alpha)->data);
    snprintf(name, sizeof name, "out.%s.kl", view), part_bench_check(b, name, evidence_kl(&b->t, alpha, labels)->data);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "out.%s.%s", view, names[i]);
        part_bench_check(b, name, evidence_term(&b->t, alpha, labels, (evidence_kind)i)->data);
    }
}

static void test_evidence(void **state) {
    (void)state;
    enum { B = 5, K = 6 };
    part_bench b;
    part_bench_open(&b, "evidential");
    uint32_t *labels = part_bench_ids(&b, "in.labels", NULL);
    ag_tensor *in[3], *alpha[3], *loss = NULL;
    static const char *const views[] = {"visual", "attribute", "fused"};
    in[0] = ag_leaf(&b.t, part_bench_numbers(&b, "in.logits.visual", NULL), NULL, 1, B, K);
    in[1] = ag_leaf(&b.t, part_bench_numbers(&b, "in.logits.attribute", NULL), NULL, 1, B, K);
    alpha[0] = evidence_alpha(&b.t, in[0]), alpha[1] = evidence_alpha(&b.t, in[1]), alpha[2] = evidence_fuse(&b.t, alpha[0], alpha[1]);
    for (size_t i = 0; i < 3; i++) {
        ag_tensor *one = evidence_loss(&b.t, alpha[i], labels, EVIDENCE_DIGAMMA, (real)0.3, (real)1 / (real)B);
        loss = loss ? ag_add(&b.t, loss, one) : one;
        check_opinion(&b, views[i], alpha[i], labels);
    }
    assert_non_null(loss);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, in, 2, 0));
    part_bench_check(&b, "grad.in.logits.visual", in[0]->grad->data);
    part_bench_check(&b, "grad.in.logits.attribute", in[1]->grad->data);
    ag_tensor *raw = ag_leaf(&b.t, part_bench_numbers(&b, "in.nig", NULL), NULL, 1, B, 4);
    loss = evidence_regression(&b.t, raw, part_bench_numbers(&b, "in.nig.target", NULL), (real)0.01, (real)1 / (real)B);
    part_bench_check(&b, "out.nig.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, &raw, 1, 0));
    part_bench_check(&b, "grad.in.nig", raw->grad->data);
    part_bench_close(&b);
}

/* ---- an attention pool ---------------------------------------------------------------------------------------------- */
static void test_pool(void **state) {
    (void)state;
    enum { B = 6, N = 10, D = 16, E = 12, K = 5 };
    part_bench b;
    part_list list = {0};
    part_bench_open(&b, "safe");
    attention_pool p = {.width = D, .heads = 2};
    pool_weights(&p, &list);
    part_bench_leaves(&b, &list, "w.");
    ag_tensor *tokens = part_bench_input(&b, "in.tokens", B, N, D), *gamma = part_bench_input(&b, "in.ln_post.weight", 1, 1, D);
    ag_tensor *beta = part_bench_input(&b, "in.ln_post.bias", 1, 1, D), *P = part_bench_input(&b, "in.proj", 1, D, E);
    ag_tensor *texts = ag_normalize(&b.t, part_bench_input(&b, "in.texts", 1, K, E)), *f[2];
    ag_tensor *pooled[] = {pool_run(&b.t, &p, tokens), ag_scale(&b.t, ag_fit(&b.t, tokens, B, 1, D), (real)1 / (real)N, 0)};
    for (size_t i = 0; i < 2; i++)
        f[i] = ag_normalize(&b.t, ag_matmul(&b.t, ag_layernorm(&b.t, pooled[i], gamma, beta, (real)1e-5), NO_T, P, NO_T));
    ag_tensor *loss = pool_loss(&b.t, f[0], texts->data, K, part_bench_ids(&b, "in.labels", NULL),
                                (real)exp((double)part_bench_numbers(&b, "in.logit_scale", NULL)[0]), (real)1 / (real)B);
    assert_non_null(loss);
    part_bench_check(&b, "out.tuned", f[0]->data);
    part_bench_check(&b, "out.original", f[1]->data);
    part_bench_check(&b, "out.blended", pool_blend(&b.t, f[0], f[1], (real)0.5)->data);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b, &list, "", NULL);
    /* as it begins it is the mean */
    for (size_t i = 0; i < list.count; i++)
        for (size_t k = 0; k < D * D; k++) (*list.list[i].at)->data[k] = list.list[i].identity && k / D == k % D;
    assert_close(pool_run(&b.t, &p, tokens)->data, pooled[1]->data, B * D, BY_BUILD(1e-6, 1e-14));
    part_list_free(&list);
    part_bench_close(&b);
}

/* ---- anchors ------------------------------------------------------------------------------------------------------------ */
static void test_anchors(void **state) {
    (void)state;
    enum { B = 2, N = 36, E = 12, C = 4 };
    part_bench b;
    part_list list = {0};
    part_bench_open(&b, "ldvc");
    anchors_net n = {.embed = E, .width = 16, .heads = 2, .grid = 6, .window = 2, .top = 3};
    anchors_weights(&n, &list);
    part_bench_leaves(&b, &list, "w.");
    ag_tensor *texts = ag_normalize(&b.t, part_bench_input(&b, "in.classes", 1, C, E));
    ag_tensor *image = ag_normalize(&b.t, part_bench_input(&b, "in.image", B, 1, E));
    real *masks = part_bench_numbers(&b, "in.masks", NULL);
    ag_tensor *M = anchors_logits(&b.t, &n, part_bench_input(&b, "in.tokens", B, N, E), image, texts->data, C);
    ag_tensor *focal = anchors_focal(&b.t, M, masks, NULL), *dice = anchors_dice(&b.t, M, masks, NULL);
    ag_tensor *loss = ag_add(&b.t, ag_scale(&b.t, focal, 20, 0), dice);
    assert_non_null(loss);
    part_bench_check(&b, "out.logits", M->data);
    part_bench_check(&b, "out.focal", focal->data);
    part_bench_check(&b, "out.dice", dice->data);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b, &list, "", NULL);
    part_list_free(&list);
    part_bench_close(&b);
}

/* ---- heads on labels of cells ---------------------------------------------------------------------------------------------- */
static void test_heads(void **state) {
    (void)state;
    enum { B = 3, N = 9, D = 16, K = 5 };
    part_bench b;
    part_list list = {0};
    part_bench_open(&b, "cliptex");
    label_heads h = {.width = D, .classes = K};
    ag_tensor *post[2], *parts[3];
    heads_weights(&h, &list);
    part_norm(&list, post, D, "ln_post");
    part_bench_leaves(&b, &list, "w.");
    real *share = part_bench_numbers(&b, "in.class", NULL);
    for (size_t i = 0; i < B * N; i++) { /* shares of a cell: exactly 1 together */
        real sum = 0;
        for (size_t k = 0; k < K; k++) sum += share[i * K + k];
        for (size_t k = 0; k < K; k++) share[i * K + k] /= sum;
    }
    cell_labels labels = {share, part_bench_numbers(&b, "in.edge", NULL), part_bench_numbers(&b, "in.depth", NULL)};
    ag_tensor *x = ag_leaf(&b.t, part_bench_numbers(&b, "in.tokens", NULL), NULL, B, N, D);
    ag_tensor *loss = heads_loss(&b.t, &h, ag_layernorm(&b.t, x, post[0], post[1], (real)1e-5), &labels, (real[]){1, (real)0.5, (real)0.25}, B, parts);
    assert_non_null(loss);
    part_bench_check(&b, "out.loss.class", parts[0]->data);
    part_bench_check(&b, "out.loss.edge", parts[1]->data);
    part_bench_check(&b, "out.loss.depth", parts[2]->data);
    part_bench_check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b, &list, "", NULL);
    part_list_free(&list);
    part_bench_close(&b);
}

/* ---- an interrupted run ends in the same bytes; a loss that is no number stops it ------------------------- */
typedef struct {
    const char *flag;
    double value;
} own_setting;

static bool train(const training_system *t, const char *folder, const own_setting *own, double stop, bool resume, double lr,
                  double threads, err *e) {
    setting s[64];
    memcpy(s, t->recipe, t->settings * sizeof *s);
    const own_setting common[] = {{"steps", 4}, {"batch", 8}, {"shares", 4}, {"valid", 4}, {"valid-every", 2}, {"checkpoint-every", 2},
                                  {"stop-after", stop}, {"lr", lr}, {"threads", threads}};
    for (size_t i = 0; i < t->settings; i++) {
        for (size_t k = 0; k < sizeof common / sizeof *common; k++)
            if (!strcmp(s[i].flag, common[k].flag)) s[i].value = common[k].value;
        for (size_t k = 0; own[k].flag; k++)
            if (!strcmp(s[i].flag, own[k].flag)) s[i].value = own[k].value;
    }
    system_options o = {.folder = folder, .resume = resume, .quiet = true};
    return system_run(t, s, &o, e);
}

static void resumes(const training_system *t, const own_setting *own) {
    char folder[] = "/tmp/test_systems_XXXXXX", a[128], b[128], c[128], x[256], y[256];
    err e = {{0}};
    assert_non_null(mkdtemp(folder));
    snprintf(a, sizeof a, "%s/a", folder), snprintf(b, sizeof b, "%s/b", folder), snprintf(c, sizeof c, "%s/c", folder);
    assert_false(train(t, a, own, 0, true, 1e-3, 1, &e)); /* no run to go on with: none is begun, no folder made */
    if (!strstr(e.text, "/a: no checkpoint to go on from")) fail_msg("%s: %s", t->name, e.text);
    assert_int_equal(access(a, F_OK), -1);
    if (!train(t, a, own, 0, false, 1e-3, 1, &e)) fail_msg("%s: %s", t->name, e.text);
    assert_false(train(t, b, own, 3, false, 1e-3, 2, &e));
    assert_non_null(strstr(e.text, "stopped after step 3"));
    if (!train(t, b, own, 0, true, 1e-3, 2, &e)) fail_msg("%s: %s", t->name, e.text);
    snprintf(x, sizeof x, "%s/%s.safetensors", a, t->name), snprintf(y, sizeof y, "%s/%s.safetensors", b, t->name);
    part_same_file(x, y);
    assert_int_equal(remove(y), 0); /* as if killed between the last checkpoint and the result */
    if (!train(t, b, own, 0, true, 1e-3, 2, &e)) fail_msg("%s: %s", t->name, e.text);
    part_same_file(x, y);
    assert_false(train(t, c, own, 0, false, BY_BUILD(1e30, 1e200), 1, &e));
    if (!strstr(e.text, "is not finite") || !strstr(e.text, "step")) fail_msg("%s: %s", t->name, e.text);
    snprintf(x, sizeof x, "rm -rf %s", folder);
    assert_int_equal(system(x), 0);
}

static void test_imagine(void **state) {
    (void)state;
    const own_setting own[] = {{"scenes", 24}, {"space", 16}, {"coefficients", 6}, {"width", 16}, {"blocks", 1}, {NULL, 0}};
    resumes(&imagine_system, own);
}

static void test_judge(void **state) {
    (void)state;
    const own_setting own[] = {{"scenes", 24}, {"space", 16}, {"coefficients", 6}, {"width", 16}, {NULL, 0}};
    resumes(&judge_system, own);
}

static void test_alpha(void **state) {
    (void)state;
    const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"valid", 2}, {NULL, 0}};
    resumes(&alpha_system, own);
}

/* What would end in other bytes, or in the loss of some: another CLIP, a second run in the folder, a result without its checkpoint. */
static void test_folder(void **state) {
    (void)state;
    const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"scenes", 6}, {"kind", 1}, {"width", 8}, {NULL, 0}};
    char folder[] = "/tmp/test_systems_XXXXXX", path[256], other[256];
    err e = {{0}};
    setting s[64];
    assert_non_null(mkdtemp(folder));
    assert_false(train(&probe_system, folder, own, 2, false, 1e-3, 1, &e));
    memcpy(s, probe_system.recipe, probe_system.settings * sizeof *s);
    assert_false(system_run(&probe_system, s, &(system_options){.folder = folder, .model = "test/data/nano-openclip-f16", .resume = true, .quiet = true}, &e));
    if (!strstr(e.text, "another CLIP")) fail_msg("%s", e.text);
    assert_false(system_run(&probe_system, s, &(system_options){.folder = folder, .model = "test/data/checkpoints/alphaclip-pth", .resume = true, .quiet = true}, &e));
    if (!strstr(e.text, "AlphaCLIP")) fail_msg("%s", e.text);
    snprintf(path, sizeof path, "%s/loss.csv", folder);
    FILE *held = fopen(path, "ab");
    assert_true(held && os_hold(held));
    assert_false(train(&probe_system, folder, own, 0, true, 1e-3, 1, &e));
    if (!strstr(e.text, "another run")) fail_msg("%s", e.text);
    fclose(held);
    if (!train(&probe_system, folder, own, 0, true, 1e-3, 1, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/checkpoint.safetensors%s", folder, i ? ".previous" : "");
        snprintf(other, sizeof other, "%s/kept%d", folder, i);
        assert_int_equal(rename(path, other), 0);
    }
    assert_false(train(&probe_system, folder, own, 0, false, 1e-3, 1, &e));
    if (!strstr(e.text, "probe.safetensors: stands here already")) fail_msg("%s", e.text);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    assert_int_equal(system(path), 0);
}

/* (14.3)  keep 1: the model as it was, the region's plane 0; keep 0: what was learned. */
static void test_keep(void **state) {
    (void)state;
    char folder[] = "/tmp/test_systems_XXXXXX", run[128], path[256];
    err e = {{0}};
    assert_non_null(mkdtemp(folder));
    for (int keep = 0; keep < 2; keep++) {
        const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"valid", 0}, {"keep", keep}, {NULL, 0}};
        snprintf(run, sizeof run, "%s/%d", folder, keep);
        if (!train(&alpha_system, run, own, 0, false, 1e-3, 1, &e)) fail_msg("%s", e.text);
        snprintf(path, sizeof path, "%s/alpha/open_clip_model.safetensors", run);
        safetensors *a = part_must(st_open(path, &e), &e), *b = part_must(st_open("weights/default/open_clip_model.safetensors", &e), &e);
        const st_tensor *x = st_find(a, "visual.proj"), *y = st_find(b, "visual.proj"), *plane = st_find(a, "visual.conv1_alpha.weight");
        assert_true(x && y && plane && x->bytes == y->bytes);
        assert_int_equal(!memcmp(x->data, y->data, x->bytes), keep);
        bool zero = true;
        for (size_t i = 0; i < plane->bytes; i++) zero = zero && (plane->data[i] & 0x7f) == 0;
        assert_int_equal(zero, keep);
        st_free(a), st_free(b);
    }
    snprintf(path, sizeof path, "rm -rf %s", folder);
    assert_int_equal(system(path), 0);
}

static void test_align(void **state) {
    (void)state;
    const own_setting own[] = {{"batch", 2}, {"shares", 2}, {"valid", 2}, {"measure", 2}, {"blocks", 1}, {NULL, 0}};
    resumes(&align_system, own);
}

/* The share in the last row of a run's valid.csv. */
static double last_share(const char *folder) {
    char path[256], line[128], last[128] = "";
    snprintf(path, sizeof path, "%s/valid.csv", folder);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s is missing", path);
    while (fgets(line, sizeof line, f)) memcpy(last, line, sizeof last);
    fclose(f);
    double step, pictures, share;
    if (sscanf(last, "%lf,%lf,%lf", &step, &pictures, &share) != 3) fail_msg("%s: %s", path, last);
    return share;
}

/* One run in a folder of its own, and what it was asked in the end. */
static double asked(const training_system *t, const own_setting *own) {
    char folder[] = "/tmp/test_systems_XXXXXX", run[128], gone[256];
    err e = {{0}};
    assert_non_null(mkdtemp(folder));
    snprintf(run, sizeof run, "%s/run", folder), snprintf(gone, sizeof gone, "rm -rf %s", folder);
    if (!train(t, run, own, 0, false, 2e-3, 1, &e)) fail_msg("%s: %s", t->name, e.text);
    double share = last_share(run);
    assert_int_equal(system(gone), 0);
    return share;
}

static void test_probe(void **state) {
    (void)state;
    for (double kind = 1; kind < 5; kind += 3) { /* a class a cell; a number a cell */
        const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"scenes", 6}, {"kind", kind}, {"width", 8}, {NULL, 0}};
        resumes(&probe_system, own);
    }
}

/* Patches tell where boundaries are, and whether a thing is there at all; of untrained probes neither is told. */
static void test_probe_edges(void **state) {
    (void)state;
    own_setting own[] = {{"batch", 16}, {"scenes", 60}, {"valid", 10}, {"kind", 3}, {"warmup", 0}, {"ema", 0}, {"steps", 80}, {NULL, 0}};
    double learned = asked(&probe_system, own);
    own[6].value = 1;
    double not_yet = asked(&probe_system, own);
    if (!(learned > 0.7 && not_yet < learned - 0.1)) fail_msg("pairs of cells in order: %g after 80 steps, %g after one", learned, not_yet);
}

static void test_safe(void **state) {
    (void)state;
    const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"scenes", 40}, {"shots", 1}, {NULL, 0}};
    resumes(&safe_system, own);
}

/* Zero-shot, what is asked does not depend on what was learned; tuned on one class's pictures, names are told worse. */
static void test_safe_asks(void **state) {
    (void)state;
    const own_setting names[] = {{"scenes", 500}, {"shots", 1}, {"task", 2}, {"share", 0}, {"valid", 40}, {"steps", 1}, {NULL, 0}};
    own_setting textures[] = {{"scenes", 40}, {"shots", 1}, {"task", 0}, {"share", 0}, {"valid", 40}, {"ask", 1}, {"steps", 1}, {NULL, 0}};
    double zero = asked(&safe_system, textures);
    assert_true(zero > 0.9 && zero == asked(&safe_system, names));
    textures[3].value = 1, textures[6].value = 60;
    double tuned = asked(&safe_system, textures);
    if (!(tuned < zero)) fail_msg("names of %g before, %g after", zero, tuned);
    textures[5].value = 0, textures[3].value = 0;
    if (!(asked(&safe_system, textures) < 0.9)) fail_msg("textures zero-shot: as if names were asked");
}

static void test_safe_refuses(void **state) {
    (void)state;
    static const struct { own_setting own[3]; const char *says; } rows[] = {
        {{{"cutouts", 1}, {NULL, 0}}, "--cutouts 1 with --task 0: cut-outs have no texture"},
        {{{"ask", 1}, {"probe", 1}, {NULL, 0}}, "--ask 1 with --probe 1"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        err e = {{0}};
        assert_false(train(&safe_system, "/tmp/test_systems_none", rows[i].own, 0, false, 1e-3, 1, &e));
        if (!strstr(e.text, rows[i].says)) fail_msg("%s", e.text);
    }
}

static void test_evidential(void **state) {
    (void)state;
    const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"scenes", 12}, {NULL, 0}};
    resumes(&evidence_system, own);
}

static void test_anchors_run(void **state) {
    (void)state;
    const own_setting own[] = {{"batch", 2}, {"shares", 2}, {"scenes", 4}, {"width", 8}, {NULL, 0}};
    resumes(&anchors_system, own);
}

static void test_heads_run(void **state) {
    (void)state;
    for (double which = 0; which < 2; which++) {
        const own_setting own[] = {{"batch", 4}, {"shares", 2}, {"expert", which}, {NULL, 0}};
        resumes(&heads_system, own);
    }
}

/* (19.2, 19.3)  One class a cell, the scene's own names and the background alone, edges where labels meet; and more than half of the
 * cells that show a thing are labelled right. */
static void test_expert(void **state) {
    (void)state;
    enum { SCENES = 8, ROOM = 1 << 30 };
    static const char *const frame = "a photo of a {}";
    err e = {{0}};
    checkpoint *weights = part_must(checkpoint_builtin(&e), &e);
    const clip_model *m = checkpoint_model(weights);
    scene_source *source = part_must(scene_source_open(SCENE_DRAWN, NULL, &e), &e);
    word_list names;
    assert_true(m && words_names(source, &names, &e));
    size_t N = names.count, E = m->config.embed, grid = m->config.image / m->config.patch, cells = grid * grid, things = 0, right = 0;
    void *room = mem_reserve(ROOM);
    arena memory;
    arena_init(&memory, room, ROOM);
    real *texts = arena_alloc(&memory, N, E * sizeof *texts), *truth = arena_alloc(&memory, cells, (N + 1) * sizeof *truth);
    real *share = arena_alloc(&memory, cells, (N + 1) * sizeof *share), *edge = arena_alloc(&memory, cells, sizeof *edge);
    real *exact = arena_alloc(&memory, cells, sizeof *exact), *depth = arena_alloc(&memory, cells, sizeof *depth);
    assert_non_null(depth);
    assert_true(texts_embed(weights, names.word, N, &frame, 1, &memory, NULL, texts, &e));
    expert x = {m, &names, texts};
    for (size_t i = 0; i < SCENES; i++) {
        scene sc;
        assert_true(scene_make(source, 5, i, m->config.image, 3, 3, &sc, &e));
        cells_of(&sc, &names, grid, truth, exact, depth);
        assert_true(expert_cells(&x, &sc, share, edge, &memory, &e));
        for (size_t c = 0; c < cells; c++) {
            size_t k = most_of(share + c * (N + 1), N + 1), is = most_of(truth + c * (N + 1), N + 1);
            real all = 0;
            bool there = k == N, meets = false;
            for (size_t n = 0; n <= N; n++) all += share[c * (N + 1) + n];
            for (size_t o = 0; o < sc.count; o++) there = there || (k < N && !strcmp(names.word[k], sc.object[o].name));
            assert_true(all == 1 && share[c * (N + 1) + k] == 1 && there);
            if (c % grid > 0 && c % grid + 1 < grid && c >= grid && c + grid < cells) {
                const size_t near[] = {c - 1, c + 1, c - grid, c + grid};
                for (size_t n = 0; n < 4; n++) meets = meets || share[near[n] * (N + 1) + k] == 0;
                assert_true(edge[c] == (k < N && meets));
            }
            if (is < N) things++, right += is == k;
        }
        scene_free(&sc);
    }
    if (!(2 * right > things && right < things)) fail_msg("%zu of %zu cells labelled right", right, things);
    words_free(&names), scene_source_free(source), checkpoint_free(weights), mem_release(room, ROOM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flow), cmocka_unit_test(test_generator_files), cmocka_unit_test(test_alphaclip),
        cmocka_unit_test(test_maskembed), cmocka_unit_test(test_evidence), cmocka_unit_test(test_pool), cmocka_unit_test(test_anchors),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_probe), cmocka_unit_test(test_evidential),
    };
    const struct CMUnitTest longer[] = { /* in use, not in double too */
        cmocka_unit_test(test_imagine), cmocka_unit_test(test_judge), cmocka_unit_test(test_alpha), cmocka_unit_test(test_folder), cmocka_unit_test(test_keep), cmocka_unit_test(test_align),
        cmocka_unit_test(test_probe_edges), cmocka_unit_test(test_safe),
        cmocka_unit_test(test_safe_asks), cmocka_unit_test(test_safe_refuses), cmocka_unit_test(test_expert),
        cmocka_unit_test(test_anchors_run), cmocka_unit_test(test_heads_run),
    };
    int failed = cmocka_run_group_tests_name("systems", tests, NULL, NULL);
    return failed + (sizeof(real) == sizeof(float) ? cmocka_run_group_tests_name("systems, at length", longer, NULL, NULL) : 0);
}
