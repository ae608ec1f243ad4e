/* test_systems.c - what is trained beside a CLIP, each loss and every gradient of it against formulas in float64; runs that are
 * interrupted; files that do not fit. */
#include "x_part.h"
#include "parts/generator.h"
#ifndef MASKINV_DOUBLE
#include "training/systems.h"
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#ifndef MASKINV_DOUBLE
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
    if (!train(t, a, own, 0, false, 1e-3, 1, &e)) fail_msg("%s: %s", t->name, e.text);
    assert_false(train(t, b, own, 3, false, 1e-3, 2, &e));
    assert_non_null(strstr(e.text, "stopped after step 3"));
    if (!train(t, b, own, 0, true, 1e-3, 2, &e)) fail_msg("%s: %s", t->name, e.text);
    snprintf(x, sizeof x, "%s/%s.safetensors", a, t->name), snprintf(y, sizeof y, "%s/%s.safetensors", b, t->name);
    part_same_file(x, y);
    assert_false(train(t, c, own, 0, false, 1e30, 1, &e));
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
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flow), cmocka_unit_test(test_generator_files),
#ifndef MASKINV_DOUBLE
        cmocka_unit_test(test_imagine), cmocka_unit_test(test_judge),
#endif
    };
    return cmocka_run_group_tests_name("systems", tests, NULL, NULL);
}
