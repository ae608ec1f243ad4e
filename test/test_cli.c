/* test_cli.c - what the commands promise: numbers against the fixtures, files, JSON, tables, flags. */
#include "x_cli.h"
#include "x_fixture.h"
#include "files/json.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <setjmp.h>
#include <cmocka.h>

static const char *model_path(const fixture *x) { return checkpoint_name(x->c); }
static const char *number(size_t n) {
    static char text[4][24];
    static size_t next;
    char *t = text[next++ % 4];
    snprintf(t, sizeof text[0], "%zu", n);
    return t;
}

static void must(int code) {
    if (code != 0) fail_msg("exit code %d: %s", code, said.err);
}

/* The npy at path against what the fixture expects under this name. */
static void agrees(fixture *x, const char *path, double tolerance, const char *format, const char *size) {
    size_t n;
    npy_array a = array_at(path);
    real *expected = fixture_get(x, &n, format, size);
    size_t count = 1;
    for (size_t i = 0; i < a.rank; i++) count *= a.shape[i];
    assert_int_equal(count, n);
    assert_close(a.data, expected, n, tolerance);
    npy_free(&a);
}

/* ---- usage --------------------------------------------------------------------------------------- */
static const char *const commands[] = {"invert", "explain", "embed", "tokenize", "info"};

static void no_command(void **state) {
    (void)state;
    assert_int_equal(run(NULL), 2);
    assert_string_equal(said.out, "");
    for (size_t i = 0; i < 5; i++) assert_non_null(strstr(said.err, commands[i]));
    assert_int_equal(run("frobnicate", NULL), 2);
    assert_non_null(strstr(said.err, "frobnicate"));
    assert_int_equal(run("--frobnicate", NULL), 2);
    assert_non_null(strstr(said.err, "--frobnicate"));
}

static void help_and_version(void **state) {
    (void)state;
    must(run("--help", NULL));
    for (size_t i = 0; i < 5; i++) assert_non_null(strstr(said.out, commands[i]));
    must(run("--version", NULL));
    assert_non_null(strstr(said.out, MASKINV_VERSION));
    /* every command that --help lists has a help of its own */
    char list[4096], usage[64];
    size_t listed = 0;
    must(run("--help", NULL));
    memcpy(list, said.out, sizeof list);
    for (char *line = strstr(list, "\n  "); line && line[3] > ' '; line = strstr(line + 3, "\n  ")) {
        line[3 + strcspn(line + 3, " ")] = 0;
        if (!strcmp(line + 3, "maskinv")) break;
        must(run(line + 3, "--help", NULL));
        snprintf(usage, sizeof usage, "usage: maskinv %.32s", line + 3);
        assert_non_null(strstr(said.out, usage));
        assert_string_equal(said.err, "");
        listed++;
        line[3 + strlen(line + 3)] = ' ';
    }
    assert_true(listed >= 5);
    must(run("invert", "-h", NULL));
    static const char *const promised[] = {"-i,",       "-k,",    "-t,",     "-m,",     "-o,",      "--size",
                                           "--iters",   "--lr",   "--alpha", "--decay", "--layers", "--gradient",
                                           "--threads", "--json", "--trace", "--memory"};
    for (size_t i = 0; i < sizeof promised / sizeof *promised; i++) assert_non_null(strstr(said.out, promised[i]));
}

/* docs/maskinv.1 is what the flag tables say. */
static void manual_page(void **state) {
    (void)state;
    size_t n;
    must(run("--man", NULL));
    char *page = bytes_at("docs/maskinv.1", &n);
    size_t same = 0;
    while (page[same] && page[same] == said.out[same]) same++;
    if (page[same] != said.out[same])
        fail_msg("docs/maskinv.1 is old (make man): it says\n%.60s\nnot\n%.60s", page + same, said.out + same);
    mem_free(page);
}

static void flags_refused(void **state) {
    (void)state;
    static const struct {
        const char *flag, *value, *says;
    } cases[] = {
        {"--iters", "0", "--iters: 0 found"},
        {"--iters", "-3", "--iters: -3 found"},
        {"--iters", "1.5", "--iters: '1.5'"},
        {"--iters", "10x", "'10x'"},
        {"--iters", "", "--iters: ''"},
        {"--iters", "99999999999999999999999", "--iters: 9999"},
        {"--lr", "nan", "--lr: 'nan'"},
        {"--lr", "inf", "'inf'"},
        {"--lr", "-1", "--lr: -1 found"},
        {"--lr", "1e999", "1e999"},
        {"--lr", "0x10", "'0x10'"},
        {"--lr", " 1", "' 1'"},
        {"--lr", "1 ", "'1 '"},
        {"--alpha", "-0.1", "--alpha: -0.1"},
        {"--decay", "NaN", "'NaN'"},
        {"--size", "-32", "--size"},
        {"--size", "1e3", "--size"},
        {"--layers", "0", "--layers"},
        {"--threads", "0", "--threads"},
        {"--memory", "12Q", "'12Q'"},
        {"--memory", "-1", "--memory"},
        {"--memory", "99999999999999T", "--memory"},
        {"--gradient", "guessed", "factored|decomposed|autograd"},
        {"--frob", "1", "--frob"},
        {"-q", "1", "-q"},
        {"--json=yes", "", "--json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int code = run("invert", "-i", IMAGE, "-k", MASK0, cases[i].flag, cases[i].value, NULL);
        if (code != 2 || !strstr(said.err, cases[i].says) || said.out[0])
            fail_msg("%s %s: exit %d, said: %s", cases[i].flag, cases[i].value, code, said.err);
    }
}

static void flags_missing(void **state) {
    (void)state;
    assert_int_equal(run("invert", "-k", MASK0, NULL), 2);
    assert_non_null(strstr(said.err, "--image IMAGE is needed"));
    assert_int_equal(run("invert", "-i", IMAGE, NULL), 2);
    assert_non_null(strstr(said.err, "--mask MASK is needed"));
    assert_int_equal(run("invert", "-i", IMAGE, "-k", NULL), 2);
    assert_non_null(strstr(said.err, "--mask: nothing found"));
    assert_int_equal(run("explain", "-i", IMAGE, "-o", scratch("x"), NULL), 2);
    assert_int_equal(run("explain", "-i", IMAGE, "-o", scratch("x"), "-t", "a", "-e", "b.npy", NULL), 2);
    assert_int_equal(run("embed", "-o", scratch("x.npy"), NULL), 2);
    assert_int_equal(run("embed", "-o", scratch("x.npy"), "-t", "a", "-i", IMAGE, NULL), 2);
    assert_int_equal(run("embed", "-i", IMAGE, NULL), 2);
    assert_int_equal(run("tokenize", NULL), 2);
    assert_int_equal(run("embed", "-o", scratch("x.npy"), "stray", NULL), 2);
    assert_non_null(strstr(said.err, "stray"));
}

/* --flag value, --flag=value, -f value, -fvalue. */
static void flag_spellings(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[0]);
    const char *m = model_path(&x);
    char joined[512];
    snprintf(joined, sizeof joined, "-m%s", m);
    must(run("embed", "--model", m, "--image", IMAGE, "--out", scratch("a.npy"), NULL));
    must(run("embed", joined, "--image=" IMAGE, "-o", scratch("b.npy"), NULL));
    assert_true(same_files(scratch("a.npy"), scratch("b.npy")));
    fixture_close(&x);
}

/* ---- embed, tokenize, info ----------------------------------------------------------------------------- */
static void embeds(void **state) {
    (void)state;
    for (size_t f = 0; f < FIXTURES; f++) {
        fixture x;
        fixture_open(&x, fixture_names[f]);
        const char *m = model_path(&x), *out = scratch("e.npy");
        must(run("embed", "-m", m, "-i", IMAGE, "-o", out, NULL));
        agrees(&x, out, BY_BUILD(2e-4, 1e-6), "crop.image.embedding%s", "");
        must(run("embed", "-m", m, "--squash", "-i", IMAGE, "-o", out, NULL));
        agrees(&x, out, BY_BUILD(2e-4, 1e-6), "%s.image.embedding", "native");
        must(run("embed", "-m", m, "--squash", "--size", number(2 * x.model->config.image), "-i", IMAGE, "-o", out,
                 NULL));
        agrees(&x, out, BY_BUILD(2e-4, 1e-6), "%s.image.embedding", "double");
        must(run("embed", "-m", m, "--ids", "598,5,77,301,6,599", "-o", out, NULL));
        agrees(&x, out, BY_BUILD(2e-4, 1e-6), "text.embedding%s", "");
        fixture_close(&x);
    }
}

static void embeds_many(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[1]);
    const char *m = model_path(&x), *out = scratch("many.npy");
    must(run("embed", "-m", m, "-i", IMAGE, "-i", MASK0, "-i", IMAGE, "-o", out, NULL));
    npy_array a = array_at(out);
    size_t embed = x.model->config.embed;
    assert_int_equal(a.rank, 2);
    assert_int_equal(a.shape[0], 3);
    assert_int_equal(a.shape[1], embed);
    assert_memory_equal(a.data, a.data + 2 * embed, embed * sizeof(real));
    assert_far(a.data, a.data + embed, embed, 1e-3);
    npy_free(&a);
    fixture_close(&x);
}

static void ids_refused(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[0]);
    static const char *const bad[] = {"", "1,,2", "1,2,", ",1", "1 2", "600", "-1", "99999999999", "1,x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(run("embed", "-m", model_path(&x), "--ids", bad[i], "-o", scratch("no.npy"), NULL), 1);
        assert_non_null(strstr(said.err, "--ids"));
    }
    assert_false(file_exists(scratch("no.npy")));
    fixture_close(&x);
}

/* embed -t is embed --ids of what tokenize says. */
static void texts_and_ids(void **state) {
    (void)state;
    char ids[1024] = "";
    const char *m = model_with_merges(fixture_names[1]);
    must(run("tokenize", "-m", m, "a red FISH &amp; two  cats", NULL));
    memcpy(ids, said.out, sizeof ids - 1);
    for (char *p = ids; *p; p++) *p = *p == ' ' ? ',' : *p == '\n' ? 0 : *p;
    assert_memory_equal(ids, "598,", 4);
    assert_string_equal(ids + strlen(ids) - 4, ",599");
    must(run("embed", "-m", m, "-t", "a red fish & two cats", "-o", scratch("t.npy"), NULL));
    must(run("embed", "-m", m, "--ids", ids, "-o", scratch("i.npy"), NULL));
    assert_true(same_files(scratch("t.npy"), scratch("i.npy")));
}

static size_t count_of(const char *text, char c) {
    size_t n = 0;
    for (; *text; text++) n += *text == c;
    return n;
}

static void tokenizes(void **state) {
    (void)state;
    char merges[512], first[4096], longer[600];
    const char *m = model_with_merges(fixture_names[0]);
    snprintf(merges, sizeof merges, "%s/merges.txt", m);
    must(run("tokenize", "-m", m, "two", "lines of words", NULL));
    assert_int_equal(count_of(said.out, '\n'), 2);
    memcpy(first, said.out, sizeof first);
    must(run("tokenize", "--merges", merges, "two", "lines of words", NULL));
    assert_string_equal(said.out, first);
    memset(longer, 0, sizeof longer);
    for (size_t i = 0; i + 2 < sizeof longer; i += 2) memcpy(longer + i, "x ", 2);
    must(run("tokenize", "--merges", merges, longer, NULL));
    assert_int_equal(count_of(said.out, ' ') + 1, 77);
    assert_non_null(strstr(said.out, " 599\n"));
    must(run("tokenize", "--merges", merges, "", NULL));
    assert_string_equal(said.out, "598 599\n");
    assert_int_equal(run("tokenize", "--merges", scratch("none.txt"), "x", NULL), 1);
    assert_non_null(strstr(said.err, "none.txt"));
}

static void tells_about_a_model(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[2]);
    must(run("info", "-m", model_path(&x), "--tensors", NULL));
    static const char *const facts[] = {"open_clip",  "48 x 48", "patch 16",     "gelu",
                                        "600 tokens", "BF16",    "resblocks.3.mlp.c_proj.weight", "logit_scale"};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (!strstr(said.out, facts[i])) fail_msg("info does not tell '%s': %s", facts[i], said.out);
    fixture_close(&x);
}

/* ---- explain ------------------------------------------------------------------------------------------------ */
static void explains(void **state) {
    (void)state;
    for (size_t f = 0; f < FIXTURES; f++) {
        fixture x;
        fixture_open(&x, fixture_names[f]);
        const char *m = model_path(&x);
        must(run("embed", "-m", m, "--ids", "598,5,77,301,6,599", "-o", scratch("t.npy"), NULL));
        for (size_t s = 0; s < FIXTURE_SIZES; s++) {
            const char *size = number((s + 1) * x.model->config.image);
            must(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("t.npy"), "--size", size, "--layers", "1", "-o",
                     scratch("out"), NULL));
            agrees(&x, scratch("out/0.map.npy"), BY_BUILD(5e-4, 1e-6), "%s.legrad.last1.text", fixture_sizes[s]);
            must(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("t.npy"), "--size", size, "-o", scratch("out"),
                     NULL));
            agrees(&x, scratch("out/0.map.npy"), BY_BUILD(5e-4, 1e-6), "%s.legrad.last2.text", fixture_sizes[s]);
        }
        fixture_close(&x);
    }
}

/* Rows are normalised first; each row has a map and an overlay of its own. */
static void explains_rows(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[0]);
    const char *m = model_path(&x);
    err e = {0};
    size_t n;
    real *text = fixture_get(&x, &n, "text.embedding");
    real *rows = mem_alloc(2 * n, sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        rows[i] = text[i] * 1000;
        rows[n + i] = -text[i];
    }
    assert_true(npy_write(scratch("rows.npy"), rows, (size_t[]){2, n}, 2, &e));
    must(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("rows.npy"), "-o", scratch("rows"), NULL));
    agrees(&x, scratch("rows/0.map.npy"), BY_BUILD(5e-4, 1e-6), "%s.legrad.last2.text", "double");
    npy_array a = array_at(scratch("rows/0.map.npy")), b = array_at(scratch("rows/1.map.npy"));
    assert_int_equal(a.rank, 2);
    assert_int_equal(a.shape[0], 2 * x.model->config.image);
    assert_far(a.data, b.data, a.shape[0] * a.shape[1], .1);
    npy_free(&a);
    npy_free(&b);
    picture p;
    assert_true(picture_read(scratch("rows/1.map.png"), &p, &e));
    picture_free(&p);
    /* a zero row, a row with NaN, rows of another length */
    memset(rows + n, 0, n * sizeof *rows);
    assert_true(npy_write(scratch("rows.npy"), rows, (size_t[]){2, n}, 2, &e));
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("rows.npy"), "-o", scratch("no"), NULL), 1);
    assert_non_null(strstr(said.err, "row 1"));
    rows[n] = NAN;
    assert_true(npy_write(scratch("rows.npy"), rows, (size_t[]){2, n}, 2, &e));
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("rows.npy"), "-o", scratch("no"), NULL), 1);
    assert_true(npy_write(scratch("rows.npy"), rows, (size_t[]){1, n - 1}, 2, &e));
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-e", scratch("rows.npy"), "-o", scratch("no"), NULL), 1);
    assert_non_null(strstr(said.err, "rows.npy"));
    assert_false(folder_exists(scratch("no")));
    mem_free(rows);
    fixture_close(&x);
}

/* ---- invert ---------------------------------------------------------------------------------------------------- */
typedef struct {
    const char *tag, *flag[3], *value[3];
} setting;
static const setting settings[] = {
    {"plain", {"--iters", "--lr", "--decay"}, {"10", "0.5", "0"}},
    {"alpha", {"--alpha", "--iters", "--lr"}, {"0.3", "10", "0.5"}},
    {"last2", {"--layers", "--iters", "--lr"}, {"2", "10", "0.5"}},
    {"decay", {"--lr", "--decay", "--iters"}, {"0.1", "0.1", "25"}},
};

static cJSON *result_at(const char *path) {
    size_t n;
    char *text = bytes_at(path, &n);
    cJSON *j = cJSON_Parse(text);
    assert_non_null(j);
    mem_free(text);
    return j;
}

static double in(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item)) fail_msg("no number %s", key);
    return item->valuedouble;
}

static const cJSON *region(const cJSON *result, int i) {
    const cJSON *masks = cJSON_GetObjectItemCaseSensitive(result, "masks");
    assert_true(cJSON_IsArray(masks) && i < cJSON_GetArraySize(masks));
    return cJSON_GetArrayItem(masks, i);
}

static void agrees_with_truth(fixture *x, const char *size, const setting *s) {
    char name[64];
    size_t n, losses, pixels;
    npy_array a = array_at(scratch("out/embeddings.npy"));
    snprintf(name, sizeof name, "%s.invert.%s", size, s->tag);
    real *expected = fixture_get(x, &n, "%s.embeddings", name), *loss = fixture_get(x, &losses, "%s.losses", name),
         *maps = fixture_get(x, &pixels, "%s.maps", name);
    assert_int_equal(a.shape[0] * a.shape[1], n);
    cJSON *result = result_at(scratch("out/result.json"));
    for (size_t k = 0; k < FIXTURE_MASKS; k++) {
        assert_true(cosine(a.data + k * a.shape[1], expected + k * a.shape[1], a.shape[1]) >= BY_BUILD(.9995, 1 - 1e-9));
        npy_array map = array_at(k ? scratch("out/mask1.map.npy") : scratch("out/mask0.map.npy"));
        assert_int_equal(map.shape[0] * map.shape[1], pixels / FIXTURE_MASKS);
        assert_close(map.data, maps + k * pixels / FIXTURE_MASKS, pixels / FIXTURE_MASKS, BY_BUILD(.02, 1e-5));
        npy_free(&map);
        const cJSON *found = cJSON_GetObjectItemCaseSensitive(region(result, (int)k), "loss");
        assert_int_equal(cJSON_GetArraySize(found), losses / FIXTURE_MASKS);
        for (size_t i = 0; i < losses / FIXTURE_MASKS; i++) {
            double d =
                fabs(cJSON_GetArrayItem(found, (int)i)->valuedouble - (double)loss[k * losses / FIXTURE_MASKS + i]);
            assert_true(d <= BY_BUILD(5e-4, 1e-6));
        }
    }
    cJSON_Delete(result);
    npy_free(&a);
}

static void inverts(const char *gradient) {
    for (size_t f = 0; f < FIXTURES; f++) {
        fixture x;
        fixture_open(&x, fixture_names[f]);
        for (size_t i = 0; i < 2 * sizeof settings / sizeof *settings; i++) {
            const setting *s = &settings[i / 2];
            must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "-k", MASK1, "--gradient", gradient,
                     "--size", number((i % 2 + 1) * x.model->config.image), s->flag[0], s->value[0], s->flag[1],
                     s->value[1], s->flag[2], s->value[2], "-o", scratch("out"), NULL));
            agrees_with_truth(&x, fixture_sizes[i % 2], s);
        }
        fixture_close(&x);
    }
}
static void inverts_factored(void **state) { (void)state, inverts("factored"); }
static void inverts_decomposed(void **state) { (void)state, inverts("decomposed"); }
static void inverts_autograd(void **state) { (void)state, inverts("autograd"); }

static void standard_settings(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[0]);
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-o", scratch("out"), NULL));
    agrees_with_truth(&x, "double", &settings[0]); /* twice the model's size, 10 steps of 0.5 */
    fixture_close(&x);
}

/* Same bytes with other masks beside it, in any order, and on every run. */
static void same_bytes(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[2]);
    const char *m = model_path(&x);
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "-o", scratch("one"), NULL));
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK1, "-k", MASK0, "-k", IMAGE, "-o", scratch("three"), NULL));
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "-o", scratch("again"), NULL));
    assert_true(same_files(scratch("one/mask0.map.npy"), scratch("three/mask0.map.npy")));
    assert_true(same_files(scratch("one/mask0.map.png"), scratch("three/mask0.map.png")));
    assert_true(same_files(scratch("one/embeddings.npy"), scratch("again/embeddings.npy")));
    assert_true(same_files(scratch("one/regions.png"), scratch("again/regions.png")));
    npy_array a = array_at(scratch("one/embeddings.npy")), b = array_at(scratch("three/embeddings.npy"));
    assert_memory_equal(a.data, b.data + b.shape[1], a.shape[1] * sizeof(real));
    npy_free(&a);
    npy_free(&b);
    fixture_close(&x);
}

static void names_are_unique(void **state) {
    (void)state;
    fixture x;
    err e = {0};
    fixture_open(&x, fixture_names[0]);
    picture p;
    assert_true(picture_read(MASK0, &p, &e));
    assert_true(picture_write_png(scratch("mask0.x.png"), &p, &e) && picture_write_png(scratch("mask0_2.png"), &p, &e));
    picture_free(&p);
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", scratch("mask0_2.png"), "-k", MASK0, "-k", MASK0, "-k",
             scratch("mask0.x.png"), "--iters", "1", "-o", scratch("names"), NULL));
    static const char *const names[] = {"mask0_2", "mask0", "mask0_3", "mask0.x"};
    cJSON *result = result_at(scratch("names/result.json"));
    for (int i = 0; i < 4; i++) {
        assert_string_equal(cJSON_GetObjectItem(region(result, i), "name")->valuestring, names[i]);
        assert_true(file_exists(scratch("names/%s.map.npy", names[i])));
        assert_true(file_exists(scratch("names/%s.map.png", names[i])));
    }
    cJSON_Delete(result);
    fixture_close(&x);
}

static void result_format(void **state) {
    (void)state;
    const char *m = model_with_merges(fixture_names[1]);
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-t", "a red fish", "-t", "a \"cat\"", "-t", "x",
             "-o", scratch("json"), "--json", NULL));
    cJSON *result = result_at(scratch("json/result.json")), *printed = cJSON_Parse(said.out);
    assert_non_null(printed);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(result, "image")->valuestring, IMAGE);
    assert_true(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(result, "model")));
    assert_true(in(result, "size") > 63 && in(result, "size") < 65 && in(result, "peak_bytes") > 1e6);
    assert_true(in(cJSON_GetObjectItemCaseSensitive(result, "seconds"), "total") > 0);
    for (int k = 0; k < 2; k++) {
        const cJSON *texts = cJSON_GetObjectItemCaseSensitive(region(result, k), "texts"), *t;
        assert_string_equal(cJSON_GetObjectItem(region(result, k), "file")->valuestring, k ? MASK1 : MASK0);
        assert_int_equal(cJSON_GetArraySize(texts), 3);
        assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(texts, 1), "text")->valuestring, "a \"cat\"");
        double sum = 0, weights = 0, scale = 100; /* the fixtures' exp(logit_scale) */
        cJSON_ArrayForEach(t, texts) weights += exp(scale * in(t, "similarity"));
        cJSON_ArrayForEach(t, texts) {
            sum += in(t, "probability");
            assert_true(fabs(in(t, "probability") - exp(scale * in(t, "similarity")) / weights) < 1e-3);
        }
        assert_true(fabs(sum - 1) < 1e-9);
        assert_true(cJSON_Compare(region(result, k), region(printed, k), true));
    }
    cJSON_Delete(result);
    cJSON_Delete(printed);
}

/* Paths may hold any bytes, JSON holds UTF-8 only. */
static void result_of_any_path(void **state) {
    (void)state;
    fixture x;
    err e = {0};
    size_t n;
    fixture_open(&x, fixture_names[0]);
    char *bytes = bytes_at(MASK0, &n), want[64];
    put_bytes(scratch("caf\xe9 \xc3\xa9\n\".png"), bytes, n);
    mem_free(bytes);
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", scratch("caf\xe9 \xc3\xa9\n\".png"), "--iters", "1",
             "--json", "--trace", scratch("any.safetensors"), NULL));
    cJSON *result = json_parse(said.out, strlen(said.out), "--json", &e);
    if (!result) fail_msg("%s", e.text);
    snprintf(want, sizeof want, "caf\xef\xbf\xbd \xc3\xa9\n\"");
    assert_string_equal(cJSON_GetObjectItem(region(result, 0), "name")->valuestring, want);
    json_free(result);
    safetensors *s = st_open(scratch("any.safetensors"), &e);
    if (!s) fail_msg("%s", e.text);
    snprintf(want, sizeof want, "caf\xef\xbf\xbd \xc3\xa9\n\".mask");
    assert_non_null(st_find(s, want));
    st_free(s);
    fixture_close(&x);
}

/* The similarities are those of the embeddings that embed -t and invert write. */
static void similarities(void **state) {
    (void)state;
    const char *m = model_with_merges(fixture_names[2]);
    must(run("embed", "-m", m, "-t", "a red fish", "-o", scratch("t.npy"), NULL));
    must(run("embed", "-m", m, "--squash", "--size", "96", "-i", IMAGE, "-o", scratch("i.npy"), NULL));
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK1, "-t", "a red fish", "-o", scratch("sim"), NULL));
    npy_array t = array_at(scratch("t.npy")), i = array_at(scratch("i.npy")),
              r = array_at(scratch("sim/embeddings.npy"));
    cJSON *result = result_at(scratch("sim/result.json"));
    const cJSON *text = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(region(result, 0), "texts"), 0);
    assert_true(fabs(in(text, "similarity") - cosine(r.data, t.data, t.shape[1])) < 1e-5);
    assert_true(fabs(in(region(result, 0), "similarity") - cosine(r.data, i.data, i.shape[1])) < 1e-5);
    cJSON_Delete(result);
    npy_free(&t);
    npy_free(&i);
    npy_free(&r);
}

/* The table ranks the texts of each region, best first. */
static void table_ranks(void **state) {
    (void)state;
    const char *m = model_with_merges(fixture_names[1]);
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-t", "fish", "-t", "blue cats", "-t", "water",
             NULL));
    double last = 101;
    size_t texts = 0, regions = 0;
    for (char *line = strtok(said.out, "\n"); line; line = strtok(NULL, "\n")) {
        double percent;
        if (sscanf(line, " %lf %%", &percent) != 1) {
            last = 101;
            regions++;
            continue;
        }
        assert_true(percent <= last);
        last = percent;
        texts++;
    }
    assert_int_equal(regions, 4); /* and the lines of the size and the layers */
    assert_int_equal(texts, 6);
}

static void templates(void **state) {
    (void)state;
    const char *m = model_with_merges(fixture_names[0]);
    put_bytes(scratch("templates.txt"), "a photo of {}\r\n\nthe {} cat\n", 27);
    put_bytes(scratch("bad.txt"), "a photo of nothing\n", 19);
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "-o", scratch("plain"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--template", "{}", "-o", scratch("same"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--templates", scratch("templates.txt"), "-o",
             scratch("file"), NULL));
    must(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--template", "a photo of {}", "--template", "the {} cat",
             "-o", scratch("flags"), NULL));
    assert_true(same_files(scratch("plain/0.map.npy"), scratch("same/0.map.npy")));
    assert_true(same_files(scratch("file/0.map.npy"), scratch("flags/0.map.npy")));
    assert_false(same_files(scratch("plain/0.map.npy"), scratch("file/0.map.npy")));
    assert_int_equal(run("explain", "-m", m, "-i", IMAGE, "-t", "fish", "--templates", scratch("bad.txt"), "-o",
                         scratch("no"), NULL),
                     1);
    assert_non_null(strstr(said.err, "a photo of nothing"));
}

/* ---- trace ----------------------------------------------------------------------------------------------------------
 */
static void traces(void **state) {
    (void)state;
    fixture x;
    err e = {0};
    fixture_open(&x, fixture_names[0]);
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "-k", MASK1, "--layers", "2", "--iters", "3",
             "--trace", scratch("trace.safetensors"), "-o", scratch("traced"), NULL));
    safetensors *s = st_open(scratch("trace.safetensors"), &e);
    if (!s) fail_msg("%s", e.text);
    static const char *const names[] = {"pixels",
                                        "tokens.layer0",
                                        "tokens.layer2",
                                        "attention.layer1",
                                        "attention.layer2",
                                        "h.layer1",
                                        "act'(h).layer2",
                                        "mask0.mask",
                                        "mask0.z.layer2.step0",
                                        "mask0.u.layer1.step2",
                                        "mask1.a.layer2.step1",
                                        "mask1.map.step0",
                                        "mask0.loss.step2",
                                        "mask0.gradient.step0",
                                        "mask1.embedding.step2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!st_find(s, names[i])) fail_msg("%s is not in the trace", names[i]);
    size_t n;
    real *gradient = fixture_get(&x, &n, "double.invert.gradient.step0.mask0");
    real first[64];
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "--iters", "1", "--trace",
             scratch("one.safetensors"), NULL));
    safetensors *one = st_open(scratch("one.safetensors"), &e);
    assert_non_null(one);
    assert_true(st_floats(st_find(one, "mask0.gradient.step0"), first, n, &e));
    assert_close(first, gradient, n, BY_BUILD(1e-3, 2e-6));
    st_free(one);
    st_free(s);
    fixture_close(&x);
}

/* ---- shapes
 * ----------------------------------------------------------------------------------------------------------- */
static void put_picture(const char *path, size_t w, size_t h, unsigned char grey) {
    err e = {0};
    picture p;
    assert_true(picture_new(w, h, &p, &e));
    memset(p.rgb, grey, 3 * w * h);
    if (w > 1) p.rgb[0] = 255;
    assert_true(picture_write_png(path, &p, &e));
    picture_free(&p);
}

static void odd_sizes(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[0]);
    const char *m = model_path(&x);
    put_picture(scratch("dot.png"), 1, 1, 90);
    put_picture(scratch("full.png"), 7, 5, 255);
    put_picture(scratch("tall.png"), 30, 90, 200);
    must(run("invert", "-m", m, "-i", IMAGE, "-k", scratch("dot.png"), "-k", scratch("full.png"), "-o", scratch("odd"),
             NULL));
    npy_array a = array_at(scratch("odd/dot.map.npy")), b = array_at(scratch("odd/full.map.npy"));
    assert_true(a.shape[0] == 1 && a.shape[1] == 1 && b.shape[0] == 5 && b.shape[1] == 7);
    npy_free(&a);
    npy_free(&b);
    must(run("embed", "-m", m, "-i", scratch("dot.png"), "-o", scratch("dot.npy"), NULL));
    must(run("embed", "-m", m, "--squash", "-i", scratch("dot.png"), "-o", scratch("dot.npy"), NULL));
    must(run("invert", "-m", m, "-i", IMAGE, "-k", MASK0, "-k", scratch("tall.png"), NULL));
    assert_non_null(strstr(said.err, "warning"));
    assert_non_null(strstr(said.err, "tall.png is 30 x 90"));
    assert_null(strstr(said.err, "mask0"));
    fixture_close(&x);
}

static void sizes_off_the_patch(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[0]);
    assert_int_equal(
        run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "--size", "50", "-o", scratch("no"), NULL), 1);
    assert_non_null(strstr(said.err, "50 found"));
    assert_non_null(strstr(said.err, "48 or 56"));
    assert_int_equal(run("embed", "-m", model_path(&x), "-i", IMAGE, "--size", "7", "-o", scratch("no.npy"), NULL), 1);
    assert_non_null(strstr(said.err, "7 found"));
    assert_int_equal(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "--layers", "4", NULL), 1);
    assert_non_null(strstr(said.err, "--layers: 4 found, 1 to 3"));
    fixture_close(&x);
}

static void threads_agree(void **state) {
    (void)state;
    fixture x;
    fixture_open(&x, fixture_names[1]);
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "--threads", "1", "-o", scratch("t1"), NULL));
    must(run("invert", "-m", model_path(&x), "-i", IMAGE, "-k", MASK0, "--threads", "3", "-o", scratch("t3"), NULL));
    npy_array a = array_at(scratch("t1/embeddings.npy")), b = array_at(scratch("t3/embeddings.npy"));
    assert_true(cosine(a.data, b.data, a.shape[1]) >= .9999);
    npy_free(&a);
    npy_free(&b);
    fixture_close(&x);
}

/* Each weight matters: a file with one number changed must not agree any more. */
static void corrupted_weights(void **state) {
    (void)state;
    fixture x;
    err e = {0};
    fixture_open(&x, fixture_names[0]);
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", model_with_merges(fixture_names[0]));
    size_t length, n, tried = 0;
    char *bytes = bytes_at(path, &length);
    safetensors *s = st_parse((unsigned char *)bytes, length, path, &e);
    assert_non_null(s);
    real *image = fixture_get(&x, &n, "native.image.embedding");
    for (size_t i = 0; i < st_count(s); i++) {
        const st_tensor *t = st_at(s, i);
        if (strcmp(t->type, "F32") != 0 || !strstr(t->name, "visi") || strstr(t->name, "k_proj.bias")) continue;
        float kept, changed; /* the bias of k shifts every logit of a row alike: softmax does not see it */
        char *at = bytes + (t->data - (unsigned char *)bytes) + t->bytes / 8 * 4;
        memcpy(&kept, at, sizeof kept);
        changed = kept + 4;
        memcpy(at, &changed, sizeof changed);
        put_bytes(path, bytes, length);
        must(run("embed", "-m", path, "--squash", "-i", IMAGE, "-o", scratch("c.npy"), NULL));
        npy_array a = array_at(scratch("c.npy"));
        if (!(worst(a.data, image, n) > 2e-4)) fail_msg("%s changed, and nothing noticed", t->name);
        npy_free(&a);
        memcpy(at, &kept, sizeof kept);
        tried++;
    }
    assert_true(tried > 40);
    st_free(s);
    mem_free(bytes);
    fixture_close(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_command),       cmocka_unit_test(help_and_version),
        cmocka_unit_test(manual_page),      cmocka_unit_test(flags_refused),
        cmocka_unit_test(flags_missing),    cmocka_unit_test(flag_spellings),
        cmocka_unit_test(embeds),           cmocka_unit_test(embeds_many),
        cmocka_unit_test(ids_refused),      cmocka_unit_test(texts_and_ids),
        cmocka_unit_test(tokenizes),        cmocka_unit_test(tells_about_a_model),
        cmocka_unit_test(explains),         cmocka_unit_test(explains_rows),
        cmocka_unit_test(inverts_factored), cmocka_unit_test(inverts_decomposed),
        cmocka_unit_test(inverts_autograd), cmocka_unit_test(standard_settings),
        cmocka_unit_test(same_bytes),       cmocka_unit_test(names_are_unique),
        cmocka_unit_test(result_format),    cmocka_unit_test(result_of_any_path),
        cmocka_unit_test(similarities),     cmocka_unit_test(table_ranks),
        cmocka_unit_test(templates),        cmocka_unit_test(traces),
        cmocka_unit_test(odd_sizes),        cmocka_unit_test(sizes_off_the_patch),
        cmocka_unit_test(threads_agree),    cmocka_unit_test(corrupted_weights),
    };
    mem_hook_cjson();
    return cmocka_run_group_tests(tests, NULL, scratch_clean);
}
