/* test_said.c - what commands say of what they used and found: result.json, folders of other runs, sizes.
 *
 * Mutations: embeddings of another region (result_holds_all fails); a second run that does not look (other_runs fails); a
 * side that is not said (sides_are_said fails).
 */
#include "x_cli.h"
#include "files/json.h"
#include "scenes/scenes.h"
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
/* `auto` is one of two, by its rule: on this model 19 mask-steps are cheaper by factored, 20 by the Jacobian (2nEFD against 16nD^2 -
 * 8nDE a step, with E 24, D 32, F 128). What it took stands in the result, whose bytes are that gradient's; a family that has no
 * Jacobian is inverted all the same. */
static void auto_is_one_of_two(void **state) {
    static const struct { const char *model, *steps, *taken; bool two; } rows[] = {
        {DATA "nano-hf-f32", "19", "factored", false}, {DATA "nano-hf-f32", "20", "jacobian", false},
        {DATA "nano-hf-f32", "10", "jacobian", true}, {DATA "checkpoints/siglip-hf", "60", "factored", true},
        {DATA "checkpoints/eva02-openclip", "60", "factored", true}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *second = rows[i].two ? MASK1 : MASK0;
        must(run("invert", "-m", rows[i].model, "-i", IMAGE, "-k", MASK0, "--iters", rows[i].steps, "--gradient", "auto", "-o",
                 scratch("auto%zu", i), rows[i].two ? "-k" : NULL, second, NULL));
        must(run("invert", "-m", rows[i].model, "-i", IMAGE, "-k", MASK0, "--iters", rows[i].steps, "--gradient", rows[i].taken, "-o",
                 scratch("as%zu", i), rows[i].two ? "-k" : NULL, second, NULL));
        cJSON *r = result_at(scratch("auto%zu/result.json", i));
        assert_string_equal(text_in(r, "gradient"), rows[i].taken);
        json_free(r);
        assert_true(same_files(scratch("auto%zu/embeddings.npy", i), scratch("as%zu/embeddings.npy", i)));
    }
}

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
    assert_string_equal(text_in(r, "layers_from"), "--layers");
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
            assert_true((float)n->valuedouble == a.data[(size_t)k * a.shape[1] + i]); /* to the bit, which a file's float has */
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
    assert_non_null(strstr(said.out, "at 96 x 96 pixels (the model's config)\nthe last 3 layers explained (the model's config)\n"));
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "--layers", "2", NULL));
    assert_non_null(strstr(said.out, "the last 2 layers explained (--layers)\n"));
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "--explainer", "chefer", NULL));
    assert_null(strstr(said.out, "explained"));
    must(run("regions", "--method", "cls", "-i", IMAGE, "-k", MASK0, NULL));
    assert_non_null(strstr(said.out, "at 96 x 96 pixels (the model's image)\n"));
    must(run("explain", "-i", IMAGE, "-t", "cat", "--size", "64", "-o", scratch("sides"), NULL));
    assert_string_equal(said.out, "at 64 x 64 pixels (--size)\nthe last 2 layers explained (LeGrad's)\n");
    must(run("explain", "-i", IMAGE, "-t", "cat", "--method", "gem", "-o", scratch("gem"), NULL));
    assert_string_equal(said.out, "at 96 x 96 pixels (the model's config)\n");
    must(run("scenes", "--count", "2", "--size", "48", "-o", scratch("set"), NULL));
    must(run("eval", "-d", scratch("set"), "--methods", "cls,maskinv", "--explainers", "legrad", "-o", scratch("eval"), NULL));
    assert_non_null(strstr(said.out, "cls: at 96 x 96 pixels (the model's image)\n"));
    assert_non_null(strstr(said.out, "maskinv, legrad: at 96 x 96 pixels (the model's config)\nmaskinv: the last 3 layers explained (the model's config)\n"));
    for (const char *line = said.out; *line;) { /* tables fit a terminal; the set's path is as long as it is */
        size_t n = strcspn(line, "\n");
        if (n > 80 && !strstr(line, "scenes of")) fail_msg("%zu columns: %.*s", n, (int)n, line);
        line += n + (line[n] == '\n');
    }
}

/* ---- the built-in model's world -------------------------------------------------------------------------------- */
static const char other_world[] = "looks like a photograph";

/* Scenes of every kind, size and number of things: never. */
static void scenes_are_of_its_world(void **state) {
    (void)state;
    static const struct {
        const char *kind, *objects, *size, *seed;
    } sets[] = {{"drawn", "1", "96", "31"}, {"drawn", "1-4", "160", "32"}, {"drawn", "8", "64", "33"}, {"drawn", "3", "320", "34"},
                {"photographic", "1", "96", "35"}, {"photographic", "1-4", "128", "36"}, {"photographic", "8", "224", "37"},
                {"photographic", "2", "48", "38"}, {"mixed", "1-4", "96", "39"}, {"mixed", "6", "512", "40"}};
    char path[512];
    size_t seen = 0;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char dir[256];
        snprintf(dir, sizeof dir, "%s", scratch("world%zu", i));
        if (run("scenes", "--kind", sets[i].kind, "--objects", sets[i].objects, "--size", sets[i].size, "--seed", sets[i].seed,
                "--count", "8", "-o", dir, NULL))
            continue; /* no cut-outs here */
        for (int k = 0; k < 8; k++, seen++) {
            snprintf(path, sizeof path, "%s/images/%06d.png", dir, k);
            must(run("embed", "-i", path, "-o", scratch("world.npy"), NULL));
            if (*said.err) fail_msg("seed %s: %s", sets[i].seed, said.err);
        }
    }
    assert_true(seen >= 32);
}

/* A picture with the statistics of natural ones, and no photograph: discs of all sizes that hide each other (dead leaves), each
 * with its own shade, slope and texture, seen through a lens that is not perfect. */
static void natural(picture *p, size_t width, size_t height, uint64_t seed) {
    err e = {0};
    assert_true(picture_new(width, height, p, &e));
    float *v = mem_alloc(width * height, 3 * sizeof *v);
    assert_non_null(v);
    uint64_t s = seed;
#define UNIT ((double)((s = s * 6364136223846793005u + 1442695040888963407u) >> 40) / 16777216.0)
    for (int disc = 0; disc < 4000; disc++) {
        double u = UNIT, r = 2 / sqrt(u + 4e-4), cx = UNIT * (double)width, cy = UNIT * (double)height, light = 30 + 190 * UNIT;
        double hue[3], slope[2], grain = UNIT * 14;
        for (int c = 0; c < 2; c++) slope[c] = (UNIT - 0.5) * 60 / r;
        for (int c = 0; c < 3; c++) hue[c] = (UNIT - 0.5) * 50;
        for (long y = (long)(cy - r); y <= (long)(cy + r); y++)
            for (long x = (long)(cx - r); x <= (long)(cx + r); x++) {
                double dx = (double)x - cx, dy = (double)y - cy;
                if (x < 0 || y < 0 || x >= (long)width || y >= (long)height || dx * dx + dy * dy > r * r) continue;
                double shade = light + slope[0] * dx + slope[1] * dy + grain * (UNIT - 0.5) * 2;
                for (int c = 0; c < 3; c++) v[((size_t)y * width + (size_t)x) * 3 + (size_t)c] = (float)(shade + hue[c]);
            }
    }
#undef UNIT
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++) {
                double sum = 0;
                for (int k = 0; k < 9; k++) {
                    size_t yy = y + (size_t)(k / 3), xx = x + (size_t)(k % 3);
                    yy = yy ? yy - 1 : 0, xx = xx ? xx - 1 : 0;
                    sum += (double)v[((yy < height ? yy : height - 1) * width + (xx < width ? xx : width - 1)) * 3 + c];
                }
                p->rgb[(y * width + x) * 3 + c] = (unsigned char)fmin(255, fmax(0, sum / 9));
            }
    mem_free(v);
}

static void photographs_are_not(void **state) {
    (void)state;
    err e = {0};
    static const size_t sides[][2] = {{320, 240}, {256, 256}, {500, 640}, {120, 90}};
    for (size_t i = 0; i < 4; i++) {
        picture p;
        natural(&p, sides[i][0], sides[i][1], i + 1);
        char path[512];
        snprintf(path, sizeof path, "%s", scratch("natural%zu.png", i));
        assert_true(picture_write_png(path, &p, &e));
        picture_free(&p);
        must(run("embed", "-i", path, "-o", scratch("natural.npy"), NULL));
        if (!strstr(said.err, other_world)) fail_msg("natural picture %zu: nothing was said", i);
        assert_ptr_equal(strchr(said.err, '\n'), said.err + strlen(said.err) - 1); /* one line */
        must(run("regions", "--method", "cls", "-i", path, "--box", "10,10,40,40", NULL));
        assert_non_null(strstr(said.err, other_world));
        must(run("explain", "-i", path, "-t", "cat", "-o", scratch("natural-maps"), NULL));
        assert_non_null(strstr(said.err, other_world));
        must(run("caption", "-i", path, NULL));
        assert_non_null(strstr(said.err, other_world));
    }
    /* it does not stand in for what is missing, and other models have other worlds */
    assert_int_equal(run("invert", "-i", scratch("natural0.png"), NULL), 2);
    assert_non_null(strstr(said.err, "--mask"));
    assert_int_equal(run("explain", "-i", scratch("natural0.png"), "-o", scratch("maps"), NULL), 2);
    assert_non_null(strstr(said.err, "--text"));
    must(run("embed", "-m", DATA "nano-hf-f32", "-i", scratch("natural0.png"), "-o", scratch("natural.npy"), NULL));
    assert_null(strstr(said.err, other_world));
}

static void unknown_words(void **state) {
    (void)state;
    must(run("embed", "-t", "a photo of a red cat", "-o", scratch("words.npy"), NULL));
    assert_string_equal(said.err, "");
    must(run("embed", "-t", "a Photo of a zebrra", "-o", scratch("words.npy"), NULL));
    assert_non_null(strstr(said.err, "'zebrra' (meant: zebra?): in no caption"));
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "-t", "a motorway", "-t", "a cat", "-t", "ein motorway, Motor", NULL));
    assert_non_null(strstr(said.err, "'motorway', 'ein', 'Motor': in no caption"));
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "-t", "a cat", "--template", "an unheard {}", NULL));
    assert_null(strstr(said.err, "unheard")); /* the template's words are the user's own */
}

/* Of one text there is no share to be told. */
static void one_text_alone(void **state) {
    (void)state;
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "-t", "a cat", NULL));
    assert_null(strchr(said.out, '%'));
    must(run("invert", "-i", IMAGE, "-k", MASK0, "--iters", "1", "-t", "a cat", "-t", "a fish", NULL));
    assert_non_null(strchr(said.out, '%'));
}

/* What always saying the commonest texture would get, beside what is got: counted here from the set itself. */
static void captions_beside_the_commonest(void **state) {
    (void)state;
    err e = {0};
    const char *set = scratch("told");
    static scene_record s;
    size_t plain = 0, all = 0, most = 0, texture[8] = {0};
    char line[96];
    must(run("scenes", "--count", "6", "--objects", "3", "--seed", "77", "-o", set, NULL));
    scene_reader *r = scene_reader_open(set, &e);
    assert_non_null(r);
    while (scene_reader_next(r, &s, &e) == SCENE_READ)
        for (size_t k = 0; k < s.objects; k++, all++)
            for (size_t t = 0; t < scene_textures(); t++) texture[t] += !strcmp(s.object[k].texture, scene_texture(t));
    scene_reader_free(r);
    for (size_t t = 0; t < scene_textures(); t++) plain += texture[t], most = texture[t] > most ? texture[t] : most;
    assert_int_equal(plain, all);
    must(run("caption", "--scenes", scratch("told"), "--method", "cls", NULL));
    const char *at = strstr(said.out, "  texture ");
    assert_non_null(at);
    snprintf(line, sizeof line, "  %-28s %5.1f [", "... always the commonest", 100 * (double)most / (double)all);
    const char *next = strchr(at, '\n') + 1;
    if (strncmp(next, line, strlen(line))) fail_msg("%zu of %zu expected: %s", most, all, next);
    assert_non_null(strstr(next, "not to be parsed"));
}

/* CoCa tells a picture by its own decoder (the fixture's greedy caption), regions by none. */
static void coca_captions(void **state) {
    (void)state;
    static const char coca[] = DATA "checkpoints/coca-openclip-bin";
    must(run("caption", "-m", coca, "-i", IMAGE, "--squash", "--ids", "--most", "12", NULL));
    assert_string_equal(said.out, IMAGE "\t598 433 433 271 433 433 201 521 544 508 567 508\n");
    must(run("caption", "-m", coca, "-i", IMAGE, "--ids", "--beams", "4", NULL));
    assert_non_null(strstr(said.out, IMAGE "\t598 "));
    assert_int_equal(run("caption", "-m", coca, "-i", IMAGE, "-k", MASK0, NULL), 1);
    assert_non_null(strstr(said.err, "its own decoder reads 8 tokens of the whole picture"));
    assert_int_equal(run("caption", "-m", coca, "-i", IMAGE, "--ids", "--beams", "20", NULL), 1);
    assert_non_null(strstr(said.err, "beams"));
    assert_int_equal(run("caption", "-m", coca, "-i", IMAGE, "--ids", "--method", "crop", NULL), 2); /* not dropped in silence */
    assert_non_null(strstr(said.err, "--method: it is for regions, and the whole picture is told"));
    assert_int_equal(run("caption", "-m", coca, "-i", IMAGE, "--ids", "--length", "own", NULL), 2);
    assert_non_null(strstr(said.err, "--length: it is for regions"));
    assert_int_equal(run("caption", "-i", IMAGE, "--method", "crop", NULL), 2);
    assert_non_null(strstr(said.err, "--method: it is for regions"));
    assert_int_equal(run("caption", "-i", IMAGE, "--squash", NULL), 2);
    assert_non_null(strstr(said.err, "--squash: it is for CoCa's own decoder"));
    assert_int_equal(run("caption", "-m", DATA "nano-hf-f32", "-i", IMAGE, NULL), 1); /* a model that nobody taught to speak */
    assert_non_null(strstr(said.err, "the built-in captioner: it was trained for embeddings of 128 numbers, the model's have"));
}

/* A flag that would not be obeyed is refused by name. */
static void flags_of_other_uses(void **state) {
    (void)state;
    static const struct { const char *command, *flag[8], *says; } rows[] = {
        {"caption", {"--scenes", "none", "-k", MASK0}, "--mask: it is for --image"},
        {"caption", {"--scenes", "none", "--box", "1,1,4,4"}, "--box: it is for --image"},
        {"caption", {"--scenes", "none", "--ids"}, "--ids: it is for --image"},
        {"caption", {"-i", IMAGE, "--count", "3"}, "--count: it is for --scenes"},
        {"caption", {"-i", IMAGE, "--labels"}, "--labels: it is of --mask's files"},
        {"caption", {"-i", IMAGE, "-k", MASK0, "--length", "own"}, "--length: it is for ClipCap's perceptron"},
        {"imagine", {"--scenes", "none", "--judge", "none", "-o", "none"}, "--out: it is for --image"},
        {"imagine", {"--scenes", "none", "--judge", "none", "-k", MASK0}, "--mask: it is for --image"},
        {"imagine", {"-i", IMAGE, "-o", "none", "--judge", "none"}, "--judge: it is for --scenes"},
        {"imagine", {"-i", IMAGE, "-o", "none", "--count", "3"}, "--count: it is for --scenes"},
        {"imagine", {"-i", IMAGE, "-o", "none", "--method", "cls"}, "--method: it is for regions"},
        {"imagine", {"-i", IMAGE, "--export", "none", "--nearest", "none"}, "--nearest: it is for pictures"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *const *f = rows[i].flag;
        int code = run(rows[i].command, f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], NULL);
        if (code != 2 || !strstr(said.err, rows[i].says)) fail_msg("%s: %d, '%s' expected in '%s'", rows[i].command, code, rows[i].says, said.err);
    }
    assert_false(folder_exists("none"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(result_holds_all),  cmocka_unit_test(auto_is_one_of_two),
        cmocka_unit_test(result_of_other_methods),
        cmocka_unit_test(other_runs),
        cmocka_unit_test(flags_of_other_uses),
        cmocka_unit_test(sides_are_said),
        cmocka_unit_test(scenes_are_of_its_world),
        cmocka_unit_test(photographs_are_not),
        cmocka_unit_test(unknown_words),
        cmocka_unit_test(one_text_alone),
        cmocka_unit_test(coca_captions), cmocka_unit_test(captions_beside_the_commonest),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
