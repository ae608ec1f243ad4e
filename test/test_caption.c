/* test_caption.c - captioners: GPT-2's blocks, both of ClipCap's maps and ours against formulas in float64 (outputs, loss, every
 * gradient, greedy and beam search with kept keys and values); files that do not fit; a run that is interrupted. */
#include "x_fixture.h"
#include "files/files.h"
#include "parts/captioner.h"
#ifndef MASKINV_DOUBLE
#include "training/systems.h"
#endif
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const double CLOSE = sizeof(real) == sizeof(double) ? 1e-7 : 2e-4; /* what is stored is float32 */
enum { ROOM = 256 << 20, BEAMS = 4, MOST = 12 };

typedef struct {
    tensors *file;
    void *room;
    arena memory;
    ag_tape t;
    captioner_net net;
    part_list map, decoder;
} bench;

static void *must(void *p, const err *e) {
    if (!p) fail_msg("%s", e->text);
    return p;
}

static real *numbers(bench *b, const char *name, size_t *count) {
    err e = {{0}};
    const file_tensor *w = tensors_find(b->file, name);
    if (!w) fail_msg("no tensor %s", name);
    const unsigned char *bytes = must((void *)(uintptr_t)tensor_bytes(w, &e), &e);
    size_t n = tensor_size(w);
    real *out = arena_alloc(&b->memory, n, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < n; i++) {
        float f;
        int64_t k;
        if (!strcmp(w->type, "I64")) memcpy(&k, bytes + 8 * i, 8), out[i] = (real)k;
        else memcpy(&f, bytes + 4 * i, 4), out[i] = (real)f;
    }
    if (count) *count = n;
    return out;
}

static uint32_t *ids_of(bench *b, const char *name, size_t *count) {
    size_t n;
    real *x = numbers(b, name, &n);
    uint32_t *ids = arena_alloc(&b->memory, n, sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)x[i];
    if (count) *count = n;
    return ids;
}

static void leaves(bench *b, part_list *l, const char *prefix) {
    err e = {{0}};
    if (!part_read(l, b->file, prefix, &b->memory, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < l->count; i++) {
        part_weight *p = &l->list[i];
        real *sum = arena_alloc(&b->memory, p->rows * p->cols, sizeof *sum);
        memset(sum, 0, p->rows * p->cols * sizeof *sum);
        *p->at = ag_leaf(&b->t, (*p->at)->data, sum, 1, p->rows, p->cols);
    }
}

static void bench_open(bench *b, const char *name, captioner_net net, const char *map, const char *behind) {
    char path[512];
    const char *folder = getenv("TEST_DATA");
    err e = {{0}};
    memset(b, 0, sizeof *b);
    snprintf(path, sizeof path, "%s/training/%s.safetensors", folder ? folder : "test/data", name);
    b->file = must(tensors_open(path, &e), &e);
    b->room = mem_reserve(ROOM);
    arena_init(&b->memory, b->room, ROOM);
    assert_true(ag_tape_init(&b->t, &b->memory, NULL, 20000));
    b->net = net;
    captioner_map_weights(&b->net, &b->map);
    decoder_weights(&b->net.d, &b->decoder);
    leaves(b, &b->map, map);
    leaves(b, &b->decoder, behind);
}

static void bench_close(bench *b) {
    part_list_free(&b->map), part_list_free(&b->decoder);
    tensors_free(b->file);
    mem_release(b->room, ROOM);
}

static void check(bench *b, const char *name, const real *x) {
    size_t n;
    const real *expected = numbers(b, name, &n);
    double off = worst(x, expected, n);
    if (!(off <= CLOSE)) fail_msg("%s: off by %g, allowed %g", name, off, CLOSE);
}

static void check_gradients(bench *b, const part_list *l, const char *prefix) {
    for (size_t i = 0; i < l->count; i++) {
        char name[160];
        snprintf(name, sizeof name, "grad.%s%s", prefix, l->list[i].name);
        if (tensors_find(b->file, name)) check(b, name, (*l->list[i].at)->sum);
        else if (!strstr(name, "position")) fail_msg("no %s", name);
    }
}

static captioner_net gpt2_net(bool transformer) {
    return (captioner_net){.embed = 16, .prefix = 4, .transformer = transformer, .tokens = 3, .layers = 2,
                           .d = {.shape = {.vocab = 60, .length = 32, .width = 24, .heads = 3, .layers = 2, .gpt2 = true}}};
}

/* Loss and gradients; then what is said for each of the three embeddings. */
static void clipcap(const char *name, bool transformer) {
    bench b;
    bench_open(&b, name, gpt2_net(transformer), "clip_project.", "gpt.transformer.");
    size_t n;
    real *clip = numbers(&b, "in.clip", NULL);
    uint32_t *ids = ids_of(&b, "in.tokens", &n), stop = ids_of(&b, "in.stop", NULL)[0];
    real words = 0;
    for (size_t i = 0; i < n; i++) words += ids[i] != 0;
    ag_tensor *z = ag_leaf(&b.t, clip, NULL, 3, 1, 16), *prefix = captioner_prefix(&b.t, &b.net, z);
    ag_tensor *logits = captioner_logits(&b.t, &b.net, prefix, ids, 7);
    ag_tensor *loss = captioner_loss(&b.t, logits, ids, 0, 1 / words);
    assert_non_null(loss);
    check(&b, "out.prefix", prefix->data);
    check(&b, "out.logits", logits->data);
    check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    check_gradients(&b, &b.map, "clip_project.");
    check_gradients(&b, &b.decoder, "gpt.transformer.");
    assert_true(ag_grad(&b.t, captioner_loss(&b.t, captioner_logits(&b.t, &b.net, captioner_prefix(&b.t, &b.net, z), ids, 7),
                                             ids, 0, 1 / words), NULL, &z, 1, 0));
    check(&b, "grad.in.clip", z->grad->data);
    b.t.recording = false;
    for (size_t i = 0; i < 3; i++)
        for (size_t beams = 1; beams <= BEAMS; beams += BEAMS - 1) {
            char what[40];
            uint32_t said[MOST];
            size_t count, expected;
            double means[BEAMS];
            err e = {{0}};
            decoder_saying how = {.stop = stop, .most = MOST, .beams = beams};
            ag_tensor *one = ag_constant(&b.t, clip + i * 16, 1, 1, 16);
            if (!decoder_say(&b.t, &b.net.d, captioner_prefix(&b.t, &b.net, one), &how, said, &count, means, &e)) fail_msg("%s", e.text);
            snprintf(what, sizeof what, beams > 1 ? "out.beam.%zu.best" : "out.greedy.%zu", i);
            uint32_t *right = ids_of(&b, what, &expected);
            assert_int_equal(count, expected);
            for (size_t k = 0; k < count; k++) assert_int_equal(said[k], right[k]);
            if (beams == 1) continue;
            snprintf(what, sizeof what, "out.beam.%zu.means", i);
            real found[BEAMS];
            for (size_t k = 0; k < BEAMS; k++) found[k] = (real)means[k];
            check(&b, what, found);
        }
    bench_close(&b);
}

static void test_clipcap_mlp(void **state) { (void)state, clipcap("gpt2_mlp", false); }
static void test_clipcap_transformer(void **state) { (void)state, clipcap("gpt2_transformer", true); }

/* Ours: unit embedding times sqrt(E), noise while it learns. */
static void test_ours(void **state) {
    (void)state;
    bench b;
    captioner_net net = {.embed = 16, .prefix = 3, .d = {.shape = {.vocab = 40, .length = 12, .width = 24, .heads = 3, .layers = 2}}};
    bench_open(&b, "captioner", net, "w.", "w.");
    size_t n;
    uint32_t *ids = ids_of(&b, "in.tokens", &n);
    real words = 0;
    for (size_t i = 0; i < n; i++) words += ids[i] != 0;
    ag_tensor *e = ag_constant(&b.t, numbers(&b, "in.embedding", NULL), 4, 1, 16);
    ag_tensor *unit = ag_scale(&b.t, ag_normalize(&b.t, e), 4, 0);
    ag_tensor *prefix = captioner_prefix(&b.t, &b.net, ag_add(&b.t, unit, ag_constant(&b.t, numbers(&b, "in.noise", NULL), 4, 1, 16)));
    ag_tensor *logits = captioner_logits(&b.t, &b.net, prefix, ids, 9), *loss = captioner_loss(&b.t, logits, ids, 0, 1 / words);
    assert_non_null(loss);
    check(&b, "out.prefix", prefix->data);
    check(&b, "out.logits", logits->data);
    check(&b, "out.loss", loss->data);
    assert_true(ag_grad(&b.t, loss, NULL, NULL, 0, 0));
    check_gradients(&b, &b.map, "");
    check_gradients(&b, &b.decoder, "");
    b.t.recording = false;
    uint32_t *right = ids_of(&b, "out.greedy", NULL), said[9];
    for (size_t i = 0; i < 4; i++) {
        size_t count;
        err why = {{0}};
        decoder_saying how = {.stop = UINT32_MAX, .most = 9, .beams = 1};
        ag_tensor *one = ag_constant(&b.t, unit->data + i * 16, 1, 1, 16);
        if (!decoder_say(&b.t, &b.net.d, captioner_prefix(&b.t, &b.net, one), &how, said, &count, NULL, &why)) fail_msg("%s", why.text);
        assert_int_equal(count, 9);
        for (size_t k = 0; k < 9; k++) assert_int_equal(said[k], right[i * 9 + k]);
    }
    bench_close(&b);
}

/* ---- files that do not fit --------------------------------------------------------------------------- */
static void test_bad_files(void **state) {
    (void)state;
    err e = {{0}};
    assert_null(captioner_builtin(512, &e));
    assert_non_null(strstr(e.text, "128")), assert_non_null(strstr(e.text, "512"));
    assert_null(captioner_open("test/data/training/gpt2_transformer.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "ClipCap"));
    assert_null(captioner_open("test/data/training/captioner.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "token.weight"));
    assert_null(captioner_open("test/data/no-such-file.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "no-such-file"));
}

#ifndef MASKINV_DOUBLE
/* ---- an interrupted run ends in the same bytes ---------------------------------------------------------- */
static bool train(const char *folder, double stop, bool resume, double lr, double threads, err *e) {
    const training_system *t = &caption_system;
    setting s[64];
    memcpy(s, t->recipe, t->settings * sizeof *s);
    struct {
        const char *flag;
        double value;
    } own[] = {{"steps", 6}, {"batch", 8}, {"shares", 4}, {"scenes", 16}, {"valid", 4}, {"valid-every", 2}, {"width", 16}, {"layers", 1},
               {"checkpoint-every", 2}, {"stop-after", stop}, {"lr", lr}, {"threads", threads}};
    for (size_t k = 0; k < sizeof own / sizeof *own; k++)
        for (size_t i = 0; i < t->settings; i++)
            if (!strcmp(s[i].flag, own[k].flag)) s[i].value = own[k].value;
    system_options o = {.folder = folder, .resume = resume, .quiet = true};
    return system_run(t, s, &o, e);
}

static void same_file(const char *a, const char *b) {
    size_t n, m;
    err e = {{0}};
    char *x = must(file_read(a, SIZE_MAX / 4, &n, &e), &e), *y = must(file_read(b, SIZE_MAX / 4, &m, &e), &e);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    mem_free(x), mem_free(y);
}

static void test_resume(void **state) {
    (void)state;
    char folder[] = "/tmp/test_caption_XXXXXX", a[128], b[128], c[128], x[160], y[160];
    err e = {{0}};
    assert_non_null(mkdtemp(folder));
    snprintf(a, sizeof a, "%s/a", folder), snprintf(b, sizeof b, "%s/b", folder), snprintf(c, sizeof c, "%s/c", folder);
    if (!train(a, 0, false, 1e-3, 1, &e)) fail_msg("%s", e.text);
    assert_false(train(b, 3, false, 1e-3, 2, &e));
    assert_non_null(strstr(e.text, "stopped after step 3"));
    assert_false(train(b, 0, false, 1e-3, 2, &e)); /* not without being told to */
    assert_non_null(strstr(e.text, "--resume"));
    if (!train(b, 0, true, 1e-3, 2, &e)) fail_msg("%s", e.text);
    snprintf(x, sizeof x, "%s/caption.safetensors", a), snprintf(y, sizeof y, "%s/caption.safetensors", b);
    same_file(x, y);
    snprintf(x, sizeof x, "%s/valid.csv", a), snprintf(y, sizeof y, "%s/valid.csv", b);
    same_file(x, y);
    assert_false(train(c, 0, false, 1e25, 1, &e)); /* a loss that is no number: stopped, said where */
    assert_non_null(strstr(e.text, "is not finite")), assert_non_null(strstr(e.text, "step"));
    snprintf(x, sizeof x, "%s/caption.safetensors", a);
    captioner_free(must(captioner_open(x, 128, &e), &e));
    snprintf(x, sizeof x, "rm -rf %s", folder);
    assert_int_equal(system(x), 0);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours), cmocka_unit_test(test_clipcap_mlp), cmocka_unit_test(test_clipcap_transformer),
        cmocka_unit_test(test_bad_files),
#ifndef MASKINV_DOUBLE
        cmocka_unit_test(test_resume),
#endif
    };
    return cmocka_run_group_tests_name("caption", tests, NULL, NULL);
}
