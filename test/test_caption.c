/* test_caption.c - captioners: GPT-2's blocks, both of ClipCap's maps and ours against formulas in float64 (outputs, loss, every
 * gradient, greedy and beam search with kept keys and values); files that do not fit; a run that is interrupted. */
#include "x_part.h"
#include "parts/captioner.h"
#ifndef MASKINV_DOUBLE
#include "training/systems.h"
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { BEAMS = 4, MOST = 12 };

typedef struct {
    part_bench part;
    captioner_net net;
    part_list map, decoder;
} bench;

static void bench_open(bench *b, const char *name, captioner_net net, const char *map, const char *behind) {
    memset(b, 0, sizeof *b);
    part_bench_open(&b->part, name);
    b->net = net;
    captioner_map_weights(&b->net, &b->map);
    decoder_weights(&b->net.d, &b->decoder);
    part_bench_leaves(&b->part, &b->map, map);
    part_bench_leaves(&b->part, &b->decoder, behind);
}

static void bench_close(bench *b) {
    part_list_free(&b->map), part_list_free(&b->decoder);
    part_bench_close(&b->part);
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
    real *clip = part_bench_numbers(&b.part, "in.clip", NULL);
    uint32_t *ids = part_bench_ids(&b.part, "in.tokens", &n), stop = part_bench_ids(&b.part, "in.stop", NULL)[0];
    real words = 0;
    for (size_t i = 0; i < n; i++) words += ids[i] != 0;
    ag_tensor *z = ag_leaf(&b.part.t, clip, NULL, 3, 1, 16), *prefix = captioner_prefix(&b.part.t, &b.net, z);
    ag_tensor *logits = captioner_logits(&b.part.t, &b.net, prefix, ids, 7);
    ag_tensor *loss = captioner_loss(&b.part.t, logits, ids, 0, 1 / words);
    assert_non_null(loss);
    part_bench_check(&b.part, "out.prefix", prefix->data);
    part_bench_check(&b.part, "out.logits", logits->data);
    part_bench_check(&b.part, "out.loss", loss->data);
    assert_true(ag_grad(&b.part.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b.part, &b.map, "clip_project.", "position");
    part_bench_gradients(&b.part, &b.decoder, "gpt.transformer.", "position");
    assert_true(ag_grad(&b.part.t, captioner_loss(&b.part.t, captioner_logits(&b.part.t, &b.net, captioner_prefix(&b.part.t, &b.net, z), ids, 7),
                                             ids, 0, 1 / words), NULL, &z, 1, 0));
    part_bench_check(&b.part, "grad.in.clip", z->grad->data);
    b.part.t.recording = false;
    for (size_t i = 0; i < 3; i++)
        for (size_t beams = 1; beams <= BEAMS; beams += BEAMS - 1) {
            char what[40];
            uint32_t said[MOST];
            size_t count, expected;
            double means[BEAMS];
            err e = {{0}};
            decoder_saying how = {.stop = stop, .most = MOST, .beams = beams};
            ag_tensor *one = ag_constant(&b.part.t, clip + i * 16, 1, 1, 16);
            if (!decoder_say(&b.part.t, &b.net.d, captioner_prefix(&b.part.t, &b.net, one), &how, said, &count, means, &e)) fail_msg("%s", e.text);
            snprintf(what, sizeof what, beams > 1 ? "out.beam.%zu.best" : "out.greedy.%zu", i);
            uint32_t *right = part_bench_ids(&b.part, what, &expected);
            assert_int_equal(count, expected);
            for (size_t k = 0; k < count; k++) assert_int_equal(said[k], right[k]);
            if (beams == 1) continue;
            snprintf(what, sizeof what, "out.beam.%zu.means", i);
            real found[BEAMS];
            for (size_t k = 0; k < BEAMS; k++) found[k] = (real)means[k];
            part_bench_check(&b.part, what, found);
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
    uint32_t *ids = part_bench_ids(&b.part, "in.tokens", &n);
    real words = 0;
    for (size_t i = 0; i < n; i++) words += ids[i] != 0;
    ag_tensor *e = ag_constant(&b.part.t, part_bench_numbers(&b.part, "in.embedding", NULL), 4, 1, 16);
    ag_tensor *unit = ag_scale(&b.part.t, ag_normalize(&b.part.t, e), 4, 0);
    ag_tensor *prefix = captioner_prefix(&b.part.t, &b.net, ag_add(&b.part.t, unit, ag_constant(&b.part.t, part_bench_numbers(&b.part, "in.noise", NULL), 4, 1, 16)));
    ag_tensor *logits = captioner_logits(&b.part.t, &b.net, prefix, ids, 9), *loss = captioner_loss(&b.part.t, logits, ids, 0, 1 / words);
    assert_non_null(loss);
    part_bench_check(&b.part, "out.prefix", prefix->data);
    part_bench_check(&b.part, "out.logits", logits->data);
    part_bench_check(&b.part, "out.loss", loss->data);
    assert_true(ag_grad(&b.part.t, loss, NULL, NULL, 0, 0));
    part_bench_gradients(&b.part, &b.map, "", "position");
    part_bench_gradients(&b.part, &b.decoder, "", "position");
    b.part.t.recording = false;
    uint32_t *right = part_bench_ids(&b.part, "out.greedy", NULL), said[9];
    for (size_t i = 0; i < 4; i++) {
        size_t count;
        err why = {{0}};
        decoder_saying how = {.stop = UINT32_MAX, .most = 9, .beams = 1};
        ag_tensor *one = ag_constant(&b.part.t, unit->data + i * 16, 1, 1, 16);
        if (!decoder_say(&b.part.t, &b.net.d, captioner_prefix(&b.part.t, &b.net, one), &how, said, &count, NULL, &why)) fail_msg("%s", why.text);
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
    part_same_file(x, y);
    snprintf(x, sizeof x, "%s/valid.csv", a), snprintf(y, sizeof y, "%s/valid.csv", b);
    part_same_file(x, y);
    assert_false(train(c, 0, false, 1e25, 1, &e)); /* a loss that is no number: stopped, said where */
    assert_non_null(strstr(e.text, "is not finite")), assert_non_null(strstr(e.text, "step"));
    snprintf(x, sizeof x, "%s/caption.safetensors", a);
    captioner_free(part_must(captioner_open(x, 128, &e), &e));
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
