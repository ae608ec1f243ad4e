/* test_tokenizer.c - text to ids against independent ids, bad merges files, and the trainer.
 *
 * test/data/tokens.json and tokens_more.json (test/make_tokens.py) hold texts and CLIP's ids; merges.json
 * (test/make_merges.py) texts and the merges that plain byte-pair encoding learns. Tried mutations are listed at each
 * test: every one of them made that test fail.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "files/files.h"
#include "files/json.h"
#include "text/tokenizer.h"
#include "text/words.h"

static const char MERGES[] = "weights/clip/merges.txt";
enum { CONTEXT = 77 };

/* ---- helpers --------------------------------------------------------------------------------- */
static tokenizer *clip(void) {
    err e = {0};
    tokenizer *t = tokenizer_open(MERGES, 0, &e);
    if (!t) fail_msg("%s", e.text);
    return t;
}

static tokenizer *parsed(const char *text) {
    err e = {0};
    tokenizer *t = tokenizer_parse(text, strlen(text), "here", 0, &e);
    if (!t) fail_msg("%s", e.text);
    return t;
}

static cJSON *data(const char *path) {
    err e = {0};
    size_t n;
    char *text = file_read(path, (size_t)1 << 24, &n, &e);
    cJSON *j = text ? json_parse(text, n, path, &e) : NULL;
    if (!j) fail_msg("%s", e.text);
    mem_free(text);
    return j;
}

static size_t list_length(const cJSON *list) { return (size_t)cJSON_GetArraySize(list); }

/* A case's text: "text", or "bytes" in hexadecimal. */
static char *case_text(const cJSON *c) {
    const cJSON *text = cJSON_GetObjectItem(c, "text"), *bytes = cJSON_GetObjectItem(c, "bytes");
    const char *s = text ? text->valuestring : bytes->valuestring;
    size_t n = strlen(s);
    char *out = mem_alloc(n + 1, 1);
    if (text) memcpy(out, s, n);
    else
        for (size_t i = 0; i < n / 2; i++) out[i] = (char)strtoul((char[3]){s[2 * i], s[2 * i + 1], 0}, NULL, 16);
    return out;
}

/* Whether the case's ids are those the tokenizer gives. */
static bool agrees(const tokenizer *t, const cJSON *c) {
    uint32_t ids[CONTEXT];
    size_t n, i = 0;
    err e = {0};
    char *text = case_text(c);
    const cJSON *want = cJSON_GetObjectItem(c, "ids"), *id = want->child;
    bool same = tokenizer_encode(t, text, ids, CONTEXT, &n, &e) && n == list_length(want);
    for (; same && id; id = id->next) same = ids[i++] == (uint32_t)id->valuedouble;
    mem_free(text);
    return same;
}

static size_t disagreements(const tokenizer *t, const char *path, size_t least, bool aloud) {
    cJSON *cases = data(path);
    size_t bad = 0;
    assert_true(list_length(cases) >= least);
    for (const cJSON *c = cases->child; c; c = c->next) {
        if (agrees(t, c)) continue;
        if (bad++ < 5 && aloud) print_message("differs: %s\n", c->child->valuestring);
    }
    json_free(cases);
    return bad;
}

static void expect_ids(const tokenizer *t, const char *text, size_t most, const uint32_t *want, size_t count) {
    uint32_t ids[64];
    size_t n;
    err e = {0};
    if (!tokenizer_encode(t, text, ids, most, &n, &e)) fail_msg("%s", e.text);
    if (n != count) fail_msg("\"%s\": %zu ids, expected %zu", text, n, count);
    for (size_t i = 0; i < n; i++)
        if (ids[i] != want[i]) fail_msg("\"%s\": id %zu is %u, expected %u", text, i, ids[i], want[i]);
}
#define EXPECT(t, text, most, ...) \
    expect_ids(t, text, most, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static void expect_refused(const char *bytes, size_t length, const char *message) {
    err e = {0};
    tokenizer *t = tokenizer_parse(bytes, length, "here", 0, &e);
    if (t) fail_msg("read, expected: %s", message);
    if (!strstr(e.text, message)) fail_msg("said: %s\nexpected: %s", e.text, message);
}

/* ---- ids ------------------------------------------------------------------------------------- */
/* Mutations: 48,893 merges; ids of the symbols with and without </w> swapped; the last symbol not ending its word; no
 * second html.unescape; no truncation. */
static void published_ids(void **state) {
    tokenizer *t = clip();
    (void)state;
    assert_int_equal(disagreements(t, "test/data/tokens.json", 21, true), 0);
    assert_int_equal(disagreements(t, "test/data/tokens-ftfy.json", 20, true), 0);
    tokenizer_free(t);
}

/* Mutations: one unescape only; the longest bare name not taken; "windows" off by one; &#x1FFFF; kept; sigma never
 * final, always final, or ignoring nothing; U+0130 to i alone; U+0345 kept; long s no s; several digits at once; the
 * separators U+001C to U+001F as white space everywhere; U+0085 not white; one U+FFFD for each bad byte; surrogates and
 * overlong forms let through. */
static void more_ids(void **state) {
    tokenizer *t = clip();
    (void)state;
    assert_int_equal(disagreements(t, "test/data/tokens_more.json", 500, true), 0);
    tokenizer_free(t);
}

/* The data tells when the merges are not right: two neighbouring lines swapped, and ids differ. */
static void swapped_merges_are_found(void **state) {
    err e = {0};
    size_t n;
    char *text = file_read(MERGES, (size_t)1 << 24, &n, &e), line[64];
    assert_non_null(text);
    char *a = strstr(text, "\nc at</w>\n"), *b = a ? strchr(a + 1, '\n') : NULL, *c = b ? strchr(b + 1, '\n') : NULL;
    (void)state;
    assert_true(c && (size_t)(b - a) < sizeof line);
    memcpy(line, a, (size_t)(b - a));
    memmove(a, b, (size_t)(c - b));
    memcpy(a + (c - b), line, (size_t)(b - a));
    tokenizer *t = tokenizer_parse(text, n, "swapped", 0, &e);
    assert_non_null(t);
    assert_true(disagreements(t, "test/data/tokens.json", 21, false) > 0);
    tokenizer_free(t);
    mem_free(text);
}

static void truncated_at_every_length(void **state) {
    static const char text[] = "a photo of the tricycle wheel, supercalifragilistic <|endoftext|> xyz";
    tokenizer *t = clip();
    uint32_t all[64], some[64];
    size_t n, k;
    err e = {0};
    (void)state;
    assert_true(tokenizer_encode(t, text, all, 64, &n, &e));
    assert_true(n > 16 && n < 64);
    for (size_t most = 1; most <= n + 1; most++) {
        memset(some, 0xEE, sizeof some);
        assert_true(tokenizer_encode(t, text, some, most, &k, &e));
        assert_int_equal(k, most < n ? most : n);
        assert_memory_equal(some, all, (k - 1) * sizeof *some);
        assert_int_equal(some[k - 1], 49407);
        assert_int_equal(some[k], 0xEEEEEEEE);
    }
    assert_false(tokenizer_encode(t, text, some, 0, &k, &e));
    assert_non_null(strstr(e.text, "0 ids"));
    tokenizer_free(t);
}

static void vocabulary_follows_the_merges(void **state) {
    err e = {0};
    (void)state;
    tokenizer *t = clip();
    assert_int_equal(tokenizer_vocab(t), 49408);
    tokenizer_free(t);
    t = tokenizer_open(MERGES, 86, &e); /* a model of 600 ids */
    assert_non_null(t);
    assert_int_equal(tokenizer_vocab(t), 600);
    EXPECT(t, "in cat", 9, 598, 530, 66, 536, 599); /* "at</w>" is among the first 86, "cat</w>" is not */
    tokenizer_free(t);
    t = parsed("#version: 0.2\n"); /* bytes alone */
    assert_int_equal(tokenizer_vocab(t), 514);
    EXPECT(t, "ab ~\xc3\xbf", 9, 512, 64, 65 + 256, 93 + 256, 127, 123 + 256, 513);
    tokenizer_free(t);
}

/* ---- the order of merging -------------------------------------------------------------------- */
/* Merges (512 on): bc, ab, abc (of ab c), abca, abc (of a bc). In "a bc a bc x" only the last one applies: at both
 * places before abca, though abca ranks above it. "abc" was spelled twice: its id is the later. Mutations: one place
 * at a time; the id of the first spelling. */
static void a_rank_merges_everywhere_first(void **state) {
    tokenizer *t = parsed("#\nb c\na b\nab c\nabc a\na bc\n");
    (void)state;
    assert_int_equal(tokenizer_vocab(t), 519);
    EXPECT(t, "abcabcx", 9, 517, 516, 516, 87 + 256, 518);
    tokenizer_free(t);
}

/* Mutation: ties of rank from right to left. */
static void overlaps_merge_from_the_left(void **state) {
    tokenizer *t = parsed("#\na a\na a</w>\naa aa</w>\n");
    (void)state;
    EXPECT(t, "aa", 9, 515, 513, 516);
    EXPECT(t, "aaa", 9, 515, 512, 320, 516);
    EXPECT(t, "aaaa", 9, 515, 514, 516);
    EXPECT(t, "aaaaa", 9, 515, 512, 512, 320, 516);
    tokenizer_free(t);
}

/* A word of a megabyte: it must not cost its square. */
static void long_words_are_quick(void **state) {
    enum { N = 1 << 20 };
    tokenizer *t = clip();
    char *text = mem_alloc(N + 1, 1);
    uint32_t *ids = mem_alloc(N, sizeof *ids);
    size_t n;
    err e = {0};
    (void)state;
    memset(text, 'x', N);
    assert_true(tokenizer_encode(t, text, ids, CONTEXT, &n, &e));
    assert_int_equal(n, CONTEXT);
    for (size_t i = 1; i + 1 < n; i++) assert_int_equal(ids[i], 32035); /* as in tokens.json: xxxxxxxx */
    for (size_t i = 0, r = 1; i < N; i++, r = r * 1103515245 + 12345) text[i] = "etaoinshrdlu"[r / 65536 % 12];
    assert_true(tokenizer_encode(t, text, ids, N, &n, &e));
    assert_true(n > N / 8 && n < N);
    mem_free(ids);
    mem_free(text);
    tokenizer_free(t);
}

typedef struct { const tokenizer *t; const cJSON *cases; size_t bad; } worker;

static void *encode_all(void *argument) {
    worker *w = argument;
    for (const cJSON *c = w->cases->child; c; c = c->next) w->bad += !agrees(w->t, c);
    return NULL;
}

static void threads_share_a_tokenizer(void **state) {
    pthread_t threads[4];
    worker workers[4];
    tokenizer *t = clip();
    cJSON *cases = data("test/data/tokens_more.json");
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (worker){t, cases, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_all, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 4; i++) assert_int_equal(workers[i].bad, 0);
    json_free(cases);
    tokenizer_free(t);
}

/* ---- words ----------------------------------------------------------------------------------- */
/* Every Unicode scalar value is written and read back; every other four bytes are read as something, never beyond. */
static void utf8_round_trip(void **state) {
    unsigned char b[4];
    size_t used;
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        size_t n = utf8_encode(c, b);
        if (utf8_decode((const char *)b, n, &used) != c || used != n) fail_msg("U+%04X", c);
        if (n > 1 && (utf8_decode((const char *)b, n - 1, &used) != 0xFFFD || used != n - 1)) fail_msg("U+%04X cut", c);
    }
}

static void words_stand_where_they_should(void **state) {
    static const struct { uint32_t first; size_t length; } want[] = {{'a', 1}, {'d', 3}, {'\'', 2}, {'b', 4},
                                                                     {'1', 1}, {'2', 1}, {'!', 2}};
    words w;
    const uint32_t *word;
    size_t length, i = 0;
    err e = {0};
    (void)state;
    assert_true(words_open(&w, " A dog&#39;s BONE12!! ", &e));
    for (; words_next(&w, &word, &length); i++) {
        assert_true(i < sizeof want / sizeof want[0]);
        assert_int_equal(word[0], want[i].first);
        assert_int_equal(length, want[i].length);
    }
    assert_int_equal(i, sizeof want / sizeof want[0]);
    words_close(&w);
}

/* ---- files ----------------------------------------------------------------------------------- */
static void malformed_merges_are_named(void **state) {
    static const struct { const char *text, *message; } cases[] = {
        {"", "here: is empty"},
        {"#\na b\nab\n", "here: line 3: found \"ab\", expected two symbols"},
        {"#\na b c\n", "here: line 2: found \"a b c\""},
        {"#\n a b\n", "here: line 2: found \" a b\""},
        {"#\na \n", "here: line 2: found \"a \""},
        {"#\na  b\n", "here: line 2: found \"a  b\""},
        {"#\na\tb\n", "here: line 2: found \"a?b\""},
        {"#\na b\n\nc d\n", "here: line 3 is blank"},
        {"#\na b\nb c\na b\n", "here: line 4: \"a b\" is merge 1 again"},
        {"#\na b\nabc d\n", "here: line 3: \"abc\" is unknown"},
        {"#\na </w>\n", "here: line 2: \"</w>\" is unknown"},
        {"#\na b</w>\nab</w> c\n", "here: line 3: \"ab</w>\" ends a word"},
        {"#\na\xe2\x82\xac b\n", "\"a\xe2\x82\xac\" has a character that stands for no byte at its byte 2"},
        {"#\na b\xff\n", "stands for no byte at its byte 2"},
        {"#\na \xc2\xad\n", "stands for no byte at its byte 1"}, /* the soft hyphen is written as U+0143 */
        {"#\na \xc5\x84\n", "stands for no byte at its byte 1"}, /* U+0144: one beyond the last */
        {"#\na \x01\n", "\"?\" has a character"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_refused(cases[i].text, strlen(cases[i].text), cases[i].message);
    expect_refused("\x1f\x8b\x08\0\0\0", 6, "damaged or larger data");
    expect_refused("#\na\0b\n", 7, "here: line 2: found \"a?b\"");
}

static void small_differences_are_allowed(void **state) {
    err e = {0};
    (void)state;
    static const char *const texts[] = {"#version\r\na b\r\nab c</w>\r\n\r\n", "\na b\nab c</w>",
                                        "#\na b\nab c</w>\n\n\n", "x\na b\nab c</w>\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        tokenizer *t = parsed(texts[i]);
        EXPECT(t, "abc", 9, 514, 513, 515);
        tokenizer_free(t);
    }
    static const char beyond[] = "#\na b\nab c</w>\nthis is no merge\n"; /* not looked at */
    tokenizer *t = tokenizer_parse(beyond, sizeof beyond - 1, "here", 2, &e);
    assert_non_null(t);
    assert_int_equal(tokenizer_vocab(t), 516);
    tokenizer_free(t);
    assert_null(tokenizer_parse(beyond, sizeof beyond - 1, "here", 3, &e));
}

static void hugging_face_json(void **state) {
    static const char *const good[] = {
        "{\"model\":{\"merges\":[\"a b\",\"ab c</w>\"]}}",
        " \n{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"merges\":[[\"a\",\"b\"],[\"ab\",\"c</w>\"]]}}",
        "{\"model\":{\"vocab\":{\"!\":0,\"ab\":512,\"<|startoftext|>\":514},\"merges\":[\"a b\",\"ab c</w>\"]}}",
        "{\"model\":{\"merges\":[\"a b\",\"ab c</w>\"],\"vocab\":{\"abc</w>\":513,\"<|endoftext|>\":515}}}",
    };
    static const struct { const char *text, *message; } bad[] = {
        {"{\"model\":{}}", "here: model.merges is missing"},
        {"{}", "model.merges is missing"},
        {"{\"model\":[]}", "here: model is a list"},
        {"{\"model\":{\"merges\":\"a b\"}}", "here: model.merges is \"a b\""},
        {"{\"model\":{\"merges\":[\"a b\",\"ab\"]}}", "here: model.merges, number 2: found \"ab\""},
        {"{\"model\":{\"merges\":[[\"a\"]]}}", "here: model.merges, number 1: found"},
        {"{\"model\":{\"merges\":[[\"a\",\"b\",\"c\"]]}}", "number 1: found"},
        {"{\"model\":{\"merges\":[[\"a\",1]]}}", "number 1: found"},
        {"{\"model\":{\"merges\":[7]}}", "number 1: found 7"},
        {"{\"model\":{\"merges\":[[\"\",\"a\"]]}}", "number 1: \"\" is unknown"},
        {"{\"model\":{\"merges\":[[\"a b\",\"c\"]]}}", "number 1: \"a b\" has a character"},
        {"{\"model\":{\"vocab\":{\"ab\":700},\"merges\":[\"a b\"]}}", "here: model.vocab: \"ab\" is 700, expected 512"},
        {"{\"model\":{\"vocab\":{\"<|endoftext|>\":512},\"merges\":[\"a b\"]}}", "endoftext|>\" is 512, expected 514"},
        {"{\"model\":{\"vocab\":{\"ab\":\"512\"},\"merges\":[\"a b\"]}}", "\"ab\" is \"512\", expected 512"},
        {"{\"model\":{\"vocab\":{\"xyz\":512},\"merges\":[\"a b\"]}}", "here: model.vocab: \"xyz\" is unknown"},
        {"{\"model\":{\"vocab\":[],\"merges\":[\"a b\"]}}", "here: model.vocab is a list"},
        {"{\"model\":{\"merges\":[\"a b\"]}", "here: "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        tokenizer *t = parsed(good[i]);
        EXPECT(t, "abc", 9, 514, 513, 515);
        tokenizer_free(t);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_refused(bad[i].text, strlen(bad[i].text), bad[i].message);
}

/* CLIP's merges through JSON give what they give as lines. */
static void clip_merges_as_json(void **state) {
    err e = {0};
    size_t n;
    char *text = file_read(MERGES, (size_t)1 << 24, &n, &e), *line = strchr(text, '\n');
    cJSON *root = cJSON_CreateObject(), *model = cJSON_AddObjectToObject(root, "model");
    cJSON *merges = cJSON_AddArrayToObject(model, "merges");
    (void)state;
    for (char *end; (end = strchr(line + 1, '\n')); line = end) {
        *end = 0;
        cJSON_AddItemToArray(merges, cJSON_CreateString(line + 1));
    }
    assert_int_equal(list_length(merges), 48894);
    char *json = cJSON_PrintUnformatted(root);
    tokenizer *t = tokenizer_parse(json, strlen(json), "tokenizer.json", 0, &e);
    if (!t) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(t), 49408);
    assert_int_equal(disagreements(t, "test/data/tokens.json", 21, true), 0);
    assert_int_equal(disagreements(t, "test/data/tokens-ftfy.json", 20, true), 0);
    tokenizer_free(t);
    cJSON_free(json);
    cJSON_Delete(root);
    mem_free(text);
}

static void files_missing_or_too_large(void **state) {
    char path[] = "/tmp/tokenizer-test-XXXXXX";
    int fd = mkstemp(path);
    err e = {0};
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (64 << 20) + 1), 0); /* a hole: takes no room */
    close(fd);
    assert_null(tokenizer_open(path, 0, &e));
    assert_non_null(strstr(e.text, path));
    unlink(path);
    e.text[0] = 0;
    assert_null(tokenizer_open(path, 0, &e));
    assert_non_null(strstr(e.text, path));
    assert_null(tokenizer_open("test", 0, &e)); /* a folder */
}

/* ---- the trainer ----------------------------------------------------------------------------- */
static void learned(const char *const *texts, size_t count, size_t most, const char *want) {
    err e = {0};
    size_t n;
    char *text = tokenizer_train(texts, count, most, &n, &e);
    if (!text) fail_msg("%s", e.text);
    assert_string_equal(text, want);
    assert_int_equal(n, strlen(want));
    mem_free(text);
}
#define LEARNED(most, want, ...) \
    learned((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), most, want)

/* By hand. "aab" twice and "ab": a b</w> stands 3 times, a a twice; then a ab</w> twice; then nothing is left. */
static void tiny_corpora(void **state) {
    (void)state;
    LEARNED(9, "#version: 0.2\na b</w>\na ab</w>\n", "aab AB", "aab");
    LEARNED(1, "#version: 0.2\na b</w>\n", "aab ab", "aab");
    LEARNED(0, "#version: 0.2\n", "aab ab");
    LEARNED(9, "#version: 0.2\n", "a b c 1 2 3", "", "  ", "<|endoftext|>");
    LEARNED(1, "#version: 0.2\na d</w>\n", "bc", "ad"); /* ties: by the left symbol ... */
    LEARNED(1, "#version: 0.2\na b\n", "ac", "abd");    /* ... and b is before c</w>, which ends a word */
    LEARNED(2, "#version: 0.2\n\xc3\x83 \xc2\xa9</w>\nc \xc3\x83\xc2\xa9</w>\n", "c\xc3\xa9 \xc3\xa9 \xc3\xa9");
}

/* Mutations: words not weighted by their count; ties by hash order; stale heap entries taken for true, or dropped;
 * pairs of a changed word not taken out of the counts. */
static void merges_as_counted_anew(void **state) {
    cJSON *corpora = data("test/data/merges.json");
    (void)state;
    assert_true(list_length(corpora) >= 7);
    for (const cJSON *c = corpora->child; c; c = c->next) {
        const cJSON *texts = cJSON_GetObjectItem(c, "texts"), *merges = cJSON_GetObjectItem(c, "merges"), *x;
        const char **list = mem_alloc(list_length(texts), sizeof *list);
        size_t count = 0, room = 15;
        for (x = texts->child; x; x = x->next) list[count++] = x->valuestring;
        for (x = merges->child; x; x = x->next) room += strlen(x->valuestring) + 1;
        char *want = mem_alloc(room, 1), *to = want + sprintf(want, "#version: 0.2\n");
        for (x = merges->child; x; x = x->next) to += sprintf(to, "%s\n", x->valuestring);
        learned(list, count, (size_t)cJSON_GetObjectItem(c, "most")->valuedouble, want);
        mem_free(want);
        mem_free(list);
    }
    json_free(corpora);
}

/* What was learned is read back, and every word that was seen becomes one id when nothing was left to merge. */
static void trained_merges_read_back(void **state) {
    static const char *const texts[] = {"a striped cat on a red house", "two cats under the bridge",
                                        "na\xc3\xafve \xf0\x9f\x90\xb6 42"};
    err e = {0};
    size_t n, count;
    uint32_t ids[32];
    char *text = tokenizer_train(texts, 3, 5000, &n, &e);
    (void)state;
    assert_non_null(text);
    tokenizer *t = tokenizer_parse(text, n, "learned", 0, &e);
    if (!t) fail_msg("%s", e.text);
    static const size_t words_in[] = {7, 5, 4};
    for (size_t i = 0; i < 3; i++) {
        assert_true(tokenizer_encode(t, texts[i], ids, 32, &count, &e));
        assert_int_equal(count, words_in[i] + 2);
    }
    tokenizer_free(t);
    mem_free(text);
}

/* ---- memory ---------------------------------------------------------------------------------- */
static char *read_train_encode(err *e) {
    static const char json[] = "{\"model\":{\"vocab\":{\"ab\":512},\"merges\":[[\"a\",\"b\"]]}}";
    static const char *const texts[] = {"the cat sat on the mat", "it's &amp; 5 <|endoftext|>", "\xce\x9f\xce\xa3"};
    uint32_t ids[32];
    size_t n, count;
    tokenizer *t = tokenizer_parse(json, sizeof json - 1, "json", 0, e);
    bool good = t && tokenizer_encode(t, texts[1], ids, 32, &count, e);
    tokenizer_free(t);
    char *text = good ? tokenizer_train(texts, 3, 50, &n, e) : NULL;
    t = text ? tokenizer_parse(text, n, "learned", 0, e) : NULL;
    good = t && tokenizer_encode(t, texts[0], ids, 32, &count, e);
    tokenizer_free(t);
    if (good) return text;
    mem_free(text);
    return NULL;
}

/* Each allocation in turn fails, and all after it: an error every time, nothing lost, nothing crashes. */
static void every_allocation_may_fail(void **state) {
    char *text = NULL;
    size_t n = 1;
    (void)state;
    for (; n < 2000; n++) {
        err e = {0};
        mem_fail_after(n);
        text = read_train_encode(&e);
        mem_fail_after(0);
        if (text) break;
        if (!e.text[0]) fail_msg("allocation %zu failed without a message", n);
    }
    assert_non_null(text);
    assert_true(n > 40);
    mem_free(text);
    for (n = 1;; n++) {
        err e = {0};
        mem_fail_after(n);
        tokenizer *t = tokenizer_open(MERGES, 2000, &e);
        mem_fail_after(0);
        if (!t && !strstr(e.text, MERGES)) fail_msg("allocation %zu: %s", n, e.text);
        tokenizer_free(t);
        if (t) break;
    }
    assert_true(n > 20);
}

static int hook(void **state) {
    (void)state;
    mem_hook_cjson();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_ids),
        cmocka_unit_test(more_ids),
        cmocka_unit_test(swapped_merges_are_found),
        cmocka_unit_test(truncated_at_every_length),
        cmocka_unit_test(vocabulary_follows_the_merges),
        cmocka_unit_test(a_rank_merges_everywhere_first),
        cmocka_unit_test(overlaps_merge_from_the_left),
        cmocka_unit_test(long_words_are_quick),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(utf8_round_trip),
        cmocka_unit_test(words_stand_where_they_should),
        cmocka_unit_test(malformed_merges_are_named),
        cmocka_unit_test(small_differences_are_allowed),
        cmocka_unit_test(hugging_face_json),
        cmocka_unit_test(clip_merges_as_json),
        cmocka_unit_test(files_missing_or_too_large),
        cmocka_unit_test(tiny_corpora),
        cmocka_unit_test(merges_as_counted_anew),
        cmocka_unit_test(trained_merges_read_back),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, hook, NULL);
}
