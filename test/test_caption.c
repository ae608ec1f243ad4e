/* test_caption.c - captioners: GPT-2's blocks, both of ClipCap's maps and ours against formulas in float64 (outputs, loss, every
 * gradient, greedy and beam search with kept keys and values); files that do not fit; a run that is interrupted. */
#include "x_part.h"
#include "x_fixture.h"
#include "x_seeded.h"
#include "files/files.h"
#include "models/safetensors.h"
#include "parts/captioner.h"
#include "training/systems.h"
#include <math.h>
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
    assert_non_null(strstr(e.text, "test/data/training: no tokenizer: expected GPT-2's merges.txt"));
    assert_null(captioner_open("test/data/training/captioner.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "token.weight"));
    assert_null(captioner_open("test/data/no-such-file.safetensors", 16, &e));
    assert_non_null(strstr(e.text, "no-such-file"));
}

/* ---- ClipCap's files as they are published ---------------------------------------------------------------- */
enum { PUBLISHED_EMBED = 16 };
static captioner_net published_net(bool transformer) {
    captioner_net n = gpt2_net(transformer);
    n.d.shape.vocab = 258, n.d.shape.length = 96;
    return n;
}

typedef struct {
    st_tensor all[64];
    char names[64][96];
    size_t count;
    float *numbers; /* of all, one behind the other */
    size_t used;
} written;

/* Seeded numbers of the list's shapes under these names. */
static void add_list(written *w, const part_list *l, const char *before, uint64_t *state) {
    for (size_t i = 0; i < l->count; i++) {
        const part_weight *p = &l->list[i];
        size_t n = p->rows * p->cols, rank = p->rows == 1 ? 1 : 2;
        float *x = w->numbers + w->used;
        real *normal = part_must(calloc(n, sizeof *normal), &(err){{0}});
        seeded_normal(state, normal, n);
        double by = strstr(p->name, "wte") ? 0.3 : p->deviation > 0 ? p->deviation : 0.1;
        for (size_t k = 0; k < n; k++) x[k] = (float)(p->fill + by * (double)normal[k]);
        free(normal);
        snprintf(w->names[w->count], sizeof w->names[0], "%s%s", before, p->name);
        w->all[w->count] = (st_tensor){w->names[w->count], "F32", {rank == 2 ? p->rows : p->cols, p->cols}, rank, (unsigned char *)x, n * sizeof *x};
        w->count++, w->used += n;
    }
}

static void put(const char *folder, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* FOLDER/FILE with the map and, where `gpt` is not NULL, GPT-2 under these names, head and buffer with it. */
static void write_published(const char *folder, const char *file, captioner_net *n, bool map, const char *gpt, bool tied) {
    written w = {.numbers = calloc(1 << 20, sizeof(float))};
    part_list of_map = {0}, of_words = {0};
    uint64_t state = 5;
    char path[256];
    err e = {{0}};
    captioner_map_weights(n, &of_map), decoder_weights(&n->d, &of_words);
    if (map) add_list(&w, &of_map, "clip_project.", &state);
    if (gpt) {
        size_t at = w.count;
        add_list(&w, &of_words, gpt, &state);
        w.all[w.count] = w.all[at]; /* wte again, as the head */
        w.all[w.count].name = !strcmp(gpt, "gpt.transformer.") ? "gpt.lm_head.weight" : "lm_head.weight";
        if (!tied) w.all[w.count].data = (unsigned char *)(w.numbers + 7);
        w.all[w.count + 1] = (st_tensor){"gpt.transformer.h.0.attn.masked_bias", "F32", {1}, 0, (unsigned char *)w.numbers, 4};
        w.count += 2;
    }
    snprintf(path, sizeof path, "%s/%s", folder, file);
    if (!st_write(path, w.all, w.count, NULL, &e)) fail_msg("%s", e.text);
    part_list_free(&of_map), part_list_free(&of_words);
    free(w.numbers);
}

/* Embeddings go in as the map saw them: of any length to the perceptron, unit to the transformer. */
static void says_as_its_network(const char *path, bool transformer) {
    err e = {{0}};
    captioner *c = part_must(captioner_open(path, PUBLISHED_EMBED, &e), &e);
    const captioner_net *n = captioner_network(c);
    real z[PUBLISHED_EMBED];
    size_t room = (size_t)1 << 26;
    void *bytes = mem_reserve(room);
    arena memory;
    arena_init(&memory, bytes, room);
    assert_int_equal(captioner_reads_length(c), !transformer);
    for (size_t beams = 1; beams <= 3; beams += 2)
        for (size_t twice = 0; twice < 2; twice++) {
            captioner_said said;
            captioner_way way = {beams, 9};
            uint32_t ids[9];
            size_t count;
            double length = 0;
            ag_tape t;
            for (size_t i = 0; i < PUBLISHED_EMBED; i++) z[i] = (real)sin((double)i) * (twice ? 2 : 1), length += (double)z[i] * (double)z[i];
            if (!captioner_say(c, z, &way, &memory, NULL, &said, &e)) fail_msg("%s", e.text);
            assert_true(ag_tape_init(&t, &memory, NULL, 1));
            t.recording = false;
            ag_tensor *x = ag_new(&t, 1, 1, PUBLISHED_EMBED);
            for (size_t i = 0; i < PUBLISHED_EMBED; i++) x->data[i] = (real)((double)z[i] / (transformer ? sqrt(length) : 1));
            decoder_saying how = {.stop = 13, .most = 9, .beams = beams};
            assert_true(decoder_say(&t, &n->d, captioner_prefix(&t, n, x), &how, ids, &count, NULL, &e));
            assert_int_equal(count, said.count);
            assert_memory_equal(ids, said.ids, count * sizeof *ids);
        }
    mem_release(bytes, room);
    captioner_free(c);
}

static void refuses(const char *path, size_t embed, const char *a, const char *b) {
    err e = {{0}};
    assert_null(captioner_open(path, embed, &e));
    if (!strstr(e.text, a) || !strstr(e.text, b)) fail_msg("'%s' and '%s' expected in '%s'", a, b, e.text);
}

static void test_published(void **state) {
    (void)state;
    char folder[] = "/tmp/test_caption_XXXXXX", other[64], path[128], command[160];
    assert_non_null(mkdtemp(folder));
    snprintf(other, sizeof other, "%s/other", folder);
    assert_true(folder_make(other, NULL));
    for (int transformer = 0; transformer < 2; transformer++) {
        captioner_net n = published_net(transformer);
        write_published(folder, "coco_weights.safetensors", &n, true, "gpt.transformer.", true);
        if (!transformer) refuses(folder, PUBLISHED_EMBED, folder, "no tokenizer: expected GPT-2's merges.txt");
        put(folder, "merges.txt", "#version: 0.2\n\xC4\xA0 t\n");
        put(folder, "config.json", "{\"model_type\": \"gpt2\", \"n_head\": 3}");
        says_as_its_network(folder, transformer);
        snprintf(path, sizeof path, "%s/coco_weights.safetensors", folder);
        says_as_its_network(path, transformer);
        refuses(folder, 640, "coco_weights.safetensors", "embeddings of 16 numbers, the model's have 640");
        put(folder, "merges.txt", "#version: 0.2\n\xC4\xA0 t\n\xC4\xA0t h\n");
        refuses(folder, PUBLISHED_EMBED, "its tokenizer has 259 pieces", "258 rows");
        put(folder, "merges.txt", "#version: 0.2\nx y z\n");
        refuses(folder, PUBLISHED_EMBED, "merges.txt: line 2", "\"x y z\"");
        put(folder, "merges.txt", "#version: 0.2\n\xC4\xA0 t\n");
        put(folder, "config.json", "{\"model_type\": \"gpt2\", \"n_head\": 5}");
        refuses(folder, PUBLISHED_EMBED, "n_head is 5", "divisor of the width 24");
        put(folder, "config.json", "{\"model_type\": \"gpt2\", \"n_head\": 3, \"n_layer\": 12}");
        refuses(folder, PUBLISHED_EMBED, "n_layer 12", "weights have 24 and 2");
        put(folder, "config.json", "{\"model_type\": \"gpt2\", \"n_head\": 3, \"activation_function\": \"relu\"}");
        refuses(folder, PUBLISHED_EMBED, "\"relu\"", "gelu_new");
        put(folder, "config.json", "{\"model_type\": \"gpt2\", \"n_head\": 3}");
        write_published(folder, "coco_weights.safetensors", &n, true, "gpt.transformer.", false);
        refuses(folder, PUBLISHED_EMBED, "gpt.lm_head.weight", "tied");
        write_published(folder, "coco_weights.safetensors", &n, true, NULL, true); /* GPT-2 beside the map */
        refuses(folder, PUBLISHED_EMBED, "ClipCap's map alone", "model.safetensors");
        write_published(folder, "model.safetensors", &n, false, "", true);
        says_as_its_network(folder, transformer);
        write_published(folder, "conceptual_weights.safetensors", &n, true, NULL, true);
        refuses(folder, PUBLISHED_EMBED, "several captioners", "conceptual_weights.safetensors");
        snprintf(command, sizeof command, "rm -f %s/*.*", folder);
        assert_int_equal(system(command), 0);
    }
    refuses(folder, PUBLISHED_EMBED, folder, "no captioner among 0 files");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

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
    assert_false(train(c, 0, false, BY_BUILD(1e25, 1e200), 1, &e)); /* a loss that is no number: stopped, said where */
    assert_non_null(strstr(e.text, "is not finite")), assert_non_null(strstr(e.text, "step"));
    snprintf(x, sizeof x, "%s/caption.safetensors", a);
    captioner_free(part_must(captioner_open(x, 128, &e), &e));
    snprintf(x, sizeof x, "rm -rf %s", folder);
    assert_int_equal(system(x), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours), cmocka_unit_test(test_clipcap_mlp), cmocka_unit_test(test_clipcap_transformer),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_published), cmocka_unit_test(test_resume),
    };
    return cmocka_run_group_tests_name("caption", tests, NULL, NULL);
}
