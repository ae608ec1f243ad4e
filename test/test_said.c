/* test_said.c - what commands say of what they used and found: result.json, folders of other runs, sizes.
 *
 * Mutations: embeddings of another region (result_holds_all fails); a second run that does not look (other_runs fails); a
 * side that is not said (sides_are_said fails).
 */
#include "x_cli.h"
#include "files/json.h"
#include <math.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

static void must(int code) {
    if (code) fail_msg("exit %d, said: %s", code, said.err);
}

static cJSON *result_at(const char *path) {
    size_t n;
    err e = {0};
    char *text = bytes_at(path, &n);
    cJSON *root = json_parse(text, n, path, &e);
    if (!root) fail_msg("%s", e.text);
    mem_free(text);
    return root;
}

static const char *text_in(const cJSON *o, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsString(v)) fail_msg("%s is no string", key);
    return v->valuestring;
}

static double number_in(const cJSON *o, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsNumber(v)) fail_msg("%s is no number", key);
    return v->valuedouble;
}

static void near(double a, double b) {
    if (!(fabs(a - b) <= 1e-12 * fabs(b))) fail_msg("%.17g found, %.17g expected", a, b);
}

/* ---- result.json ------------------------------------------------------------------------------------------------- */
static void result_holds_all(void **state) {
    (void)state;
    must(run("invert", "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-t", "cat", "--template", "a {}", "--lr", "0.07", "--alpha", "0.25",
             "--iters", "4", "--layers", "2", "--gradient", "autograd", "-o", scratch("all"), NULL));
    cJSON *r = result_at(scratch("all/result.json"));
    assert_string_equal(text_in(r, "version"), MASKINV_VERSION);
    assert_non_null(strstr(text_in(r, "command"), "maskinv invert -i " IMAGE " -k " MASK0));
    assert_string_equal(text_in(r, "model"), "default");
    assert_int_equal(strspn(text_in(r, "model_hash"), "0123456789abcdef"), 16);
    assert_string_equal(text_in(r, "family"), "CLIP");
    assert_string_equal(text_in(r, "method"), "maskinv");
    assert_string_equal(text_in(r, "size_from"), "the model's config");
    assert_string_equal(text_in(r, "gradient"), "autograd");
    assert_string_equal(text_in(r, "explainer"), "legrad");
    near(number_in(r, "size"), 96);
    near(number_in(r, "lr"), 0.07);
    near(number_in(r, "alpha"), 0.25);
    near(number_in(r, "steps"), 4);
    near(number_in(r, "layers"), 2);
    const cJSON *templates = cJSON_GetObjectItem(r, "templates"), *masks = cJSON_GetObjectItem(r, "masks");
    assert_int_equal(cJSON_GetArraySize(templates), 1);
    assert_string_equal(cJSON_GetArrayItem(templates, 0)->valuestring, "a {}");
    npy_array a = array_at(scratch("all/embeddings.npy"));
    for (int k = 0; k < 2; k++) {
        const cJSON *v = cJSON_GetObjectItem(cJSON_GetArrayItem(masks, k), "embedding");
        assert_int_equal(cJSON_GetArraySize(v), a.shape[1]);
        size_t i = 0;
        for (const cJSON *n = v->child; n; n = n->next, i++) {
            float back = (float)n->valuedouble;
            assert_memory_equal(&back, a.data + (size_t)k * a.shape[1] + i, sizeof back); /* to the bit */
        }
    }
    npy_free(&a);
    cJSON_Delete(r);
}

/* A method without steps has no settings of steps. */
static void result_of_other_methods(void **state) {
    (void)state;
    must(run("regions", "--method", "crop", "-i", IMAGE, "-k", MASK0, "-o", scratch("crop"), NULL));
    cJSON *r = result_at(scratch("crop/result.json"));
    assert_string_equal(text_in(r, "method"), "crop");
    assert_string_equal(text_in(r, "size_from"), "the model's image");
    assert_null(cJSON_GetObjectItem(r, "lr"));
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(r, "templates")), 0);
    cJSON_Delete(r);
}

/* ---- a folder that holds another run's results ------------------------------------------------------------------- */
static void other_runs(void **state) {
    (void)state;
    static const char says[] = "holds the results of another run";
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "-o", scratch("runs"), NULL));
    assert_null(strstr(said.err, says));
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "-o", scratch("runs"), NULL));
    assert_null(strstr(said.err, says)); /* the same again */
    must(run("invert", "-i", IMAGE, "-k", MASK1, "--iters", "1", "-o", scratch("runs"), NULL));
    assert_non_null(strstr(said.err, says));
    assert_non_null(strstr(said.err, "maskinv invert -i " IMAGE " -k " MASK0));
    must(run("regions", "--method", "cls", "-i", IMAGE, "-k", MASK1, "-o", scratch("runs"), NULL));
    assert_non_null(strstr(said.err, says));
    must(run("explain", "-i", IMAGE, "-t", "cat", "-o", scratch("maps"), NULL));
    assert_null(strstr(said.err, says));
    must(run("explain", "-i", IMAGE, "-t", "dog", "-o", scratch("maps"), NULL));
    assert_non_null(strstr(said.err, says));
    put_bytes(scratch("maps/result.json"), "no JSON", 7);
    must(run("invert", "-i", IMAGE, "-k", MASK1, "--iters", "1", "-o", scratch("maps"), NULL));
    assert_non_null(strstr(said.err, says));
}

/* ---- the side, and where it came from -------------------------------------------------------------------------- */
static void sides_are_said(void **state) {
    (void)state;
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", NULL));
    assert_non_null(strstr(said.out, "at 96 x 96 pixels (the model's config)\n"));
    must(run("regions", "--method", "cls", "-i", IMAGE, "-k", MASK0, NULL));
    assert_non_null(strstr(said.out, "at 96 x 96 pixels (the model's image)\n"));
    must(run("explain", "-i", IMAGE, "-t", "cat", "--size", "64", "-o", scratch("sides"), NULL));
    assert_string_equal(said.out, "at 64 x 64 pixels (--size)\n");
    must(run("scenes", "--count", "2", "--size", "48", "-o", scratch("set"), NULL));
    must(run("eval", "-d", scratch("set"), "--methods", "cls,maskinv", "--explainers", "legrad", "-o", scratch("eval"), NULL));
    assert_non_null(strstr(said.out, "cls: at 96 x 96 pixels (the model's image)\n"));
    assert_non_null(strstr(said.out, "maskinv, legrad: at 96 x 96 pixels (the model's config)\n"));
    for (const char *line = said.out; *line;) { /* tables fit a terminal; the set's path is as long as it is */
        size_t n = strcspn(line, "\n");
        if (n > 80 && !strstr(line, "scenes of")) fail_msg("%zu columns: %.*s", n, (int)n, line);
        line += n + (line[n] == '\n');
    }
}

static int clean(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(result_holds_all),
        cmocka_unit_test(result_of_other_methods),
        cmocka_unit_test(other_runs),
        cmocka_unit_test(sides_are_said),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, clean);
}
