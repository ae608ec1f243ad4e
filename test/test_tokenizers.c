/* test_tokenizers.c - every published kind of tokenizer against published ids: sentencepiece, tokenizer.json, WordPiece, CLIP's
 * packed merges, as they lie beside a checkpoint; what damaged files are told; and back from ids to text.
 *
 * test/data/checkpoints/NAME/texts.json: texts, and the ids that the published tokenizers give them, padded. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "files/files.h"
#include "files/json_cut.h"
#include "files/utf8.h"
#include "models/texts.h"
#include "models/tokens.h"
#include "text/kinds.h"
#include "text/repair.h"
#include "x_fixture.h"
#include "x_speed.h"

static err e;

/* The ids as they are published, padding and all; how many. */
static size_t published(const cJSON *ids, uint32_t *out, size_t most) {
    size_t n = 0;
    const cJSON *v;
    cJSON_ArrayForEach(v, ids) {
        assert_true(n < most);
        out[n++] = (uint32_t)v->valuedouble;
    }
    return n;
}

typedef struct { const char *name, *kind; size_t vocab; bool repaired; } row; /* repaired: ftfy runs first, the ids know none */

static void as_published(const row *r) {
    char path[320], where[300];
    size_t length, most, bad = 0, seen = 0;
    snprintf(where, sizeof where, "test/data/checkpoints/%s", r->name);
    checkpoint *c = checkpoint_open(where, &e);
    if (!c) fail_msg("%s", e.text);
    const tokenizer *t = checkpoint_tokenizer(c, &e);
    if (!t) fail_msg("%s", e.text);
    assert_string_equal(tokenizer_name(t), r->kind);
    assert_int_equal(tokenizer_vocab(t), r->vocab);
    snprintf(path, sizeof path, "%s/texts.json", where);
    char *bytes = file_read(path, 1 << 20, &length, &e);
    assert_non_null(bytes);
    cJSON *all = json_parse(bytes, length, path, &e);
    const cJSON *one;
    cJSON_ArrayForEach(one, all) {
        const char *text = cJSON_GetObjectItem(one, "text")->valuestring;
        uint32_t expected[128], ids[128];
        size_t n, whole;
        if (r->repaired && strstr(text, "\xEF\xAC\x81")) continue; /* a ligature: SPEC's repairs give other ids */
        most = published(cJSON_GetObjectItem(one, "ids"), expected, 128);
        if (!tokenizer_encode(t, text, ids, most, &n, &e)) fail_msg("%s", e.text);
        bool same = n <= most && memcmp(ids, expected, n * sizeof *ids) == 0;
        for (size_t i = n; i < most; i++) same = same && expected[i] == expected[most - 1]; /* padding */
        if (!same) print_error("%s: '%.40s': %zu ids, %u %u %u...\n", r->name, text, n, ids[0], ids[1], ids[2]), bad++;
        assert_true(tokenizer_measure(t, text, &whole, &e));
        assert_true(whole >= n);
        if (strlen(text) > 300) assert_true(whole > most); /* the long one is cut, and measure tells */
        seen++;
    }
    assert_int_equal(bad, 0);
    assert_true(seen >= 9);
    json_free(all);
    mem_free(bytes);
    checkpoint_free(c);
}

static void published_ids(void **state) {
    static const row rows[] = {
        {"siglip-hf", "sentencepiece unigram", 152, false},         {"siglip-openclip", "sentencepiece unigram", 152, false},
        {"siglip-bigvision-npz", "sentencepiece unigram", 152, false}, {"siglip2-hf-sharded", "byte pairs over characters", 520, false},
        {"clipa-openclip", "WordPiece", 148, false},                {"metaclip2-hf", "sentencepiece unigram", 150, false},
        {"eva01-openclip", "CLIP's byte pairs", 600, true}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) as_published(&rows[i]);
}

/* From words to the embedding: padding and all. The file's is the first text's, computed in float64. */
static void texts_embed_as_published(void **state) {
    static const char *const names[] = {"siglip-hf", "siglip-openclip", "siglip2-hf-sharded", "clipa-openclip", "metaclip2-hf"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char where[300], path[330];
        const char *text = "a photo of a red cat";
        real out[64], expected[64];
        arena memory;
        void *room = mem_reserve((size_t)1 << 28);
        arena_init(&memory, room, (size_t)1 << 28);
        snprintf(where, sizeof where, "test/data/checkpoints/%s", names[i]);
        snprintf(path, sizeof path, "%s/expected.safetensors", where);
        checkpoint *c = checkpoint_open(where, &e);
        safetensors *s = st_open(path, &e);
        if (!c || !s) fail_msg("%s", e.text);
        size_t n = checkpoint_model(c)->config.embed;
        assert_true(n <= 64);
        if (!texts_embed(c, &text, 1, NULL, 0, &memory, NULL, out, &e)) fail_msg("%s", e.text);
        assert_true(st_floats(st_find(s, "text.embedding"), expected, n, &e));
        (void)unit(expected, n);
        for (size_t k = 0; k < n; k++)
            if (!(fabs((double)(out[k] - expected[k])) < BY_BUILD(2e-4, 1e-6))) fail_msg("%s: %g, expected %g", names[i], (double)out[k], (double)expected[k]);
        st_free(s);
        checkpoint_free(c);
        mem_release(room, (size_t)1 << 28);
    }
}

/* vocab.txt alone says the same as tokenizer.json beside it. */
static void vocabulary_alone(void **state) {
    (void)state;
    tokenizer *a = tokenizer_open_as("test/data/checkpoints/clipa-openclip/vocab.txt", 0, CLEAN_SPACES, &e);
    tokenizer *b = tokenizer_open_as("test/data/checkpoints/clipa-openclip/tokenizer.json", 0, CLEAN_SPACES, &e);
    assert_non_null(a);
    assert_non_null(b);
    static const char *const texts[] = {"a photo of a red cat", "UN caf\xC3\xA9!", "", "unwriteable \xE7\x8C\xAB"};
    for (size_t i = 0; i < 4; i++) {
        uint32_t x[32], y[32];
        size_t n, m = 0;
        assert_true(tokenizer_encode(a, texts[i], x, 32, &n, &e) && tokenizer_encode(b, texts[i], y, 32, &m, &e));
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n * sizeof *x);
        assert_int_equal(x[0], 2);
        assert_int_equal(x[n - 1], 3);
    }
    tokenizer_free(a);
    tokenizer_free(b);
}

static void decodes(void **state) {
    uint32_t ids[77];
    size_t n;
    (void)state;
    tokenizer *t = tokenizer_open("weights/clip/merges.txt", 0, &e);
    assert_non_null(t);
    assert_true(tokenizer_encode(t, "A photo of the Caf\xC3\xA9, and a dog's bone", ids, 77, &n, &e));
    char *text = tokenizer_decode(t, ids, n, &e);
    assert_string_equal(text, "a photo of the caf\xC3\xA9 , and a dog 's bone");
    mem_free(text);
    text = tokenizer_decode(t, (uint32_t[]){4000000000u, 5}, 2, &e); /* no such id: nothing is written for it */
    assert_non_null(text);
    mem_free(text);
    tokenizer_free(t);
}

static void misread_texts_are_seen(void **state) {
    (void)state;
    assert_true(text_misread("caf\xC3\x83\xC2\xA9"));               /* cafÃ© */
    assert_true(text_misread("it\xC3\xA2\xE2\x82\xAC\xE2\x84\xA2s")); /* itâ€™s */
    static const char *const fine[] = {"caf\xC3\xA9", "\xC3\x82ge", "na\xC3\xAFve", "\xC3\x85ngstr\xC3\xB6m", "", "a cat", "\xD0\xBA\xD0\xBE"};
    for (size_t i = 0; i < 7; i++) assert_false(text_misread(fine[i]));
}

/* ---- ids that an added token could shift: CLIP's merges, a vocabulary beside them, a config that knows both ----------------- */
static const char MERGES[] = "#version: 0.2\nt h\nth e</w>\n";           /* symbols 512 and 513; start 514, end 515 */
static const char CLIPS[] = "\"th\": 512, \"the</w>\": 513, \"<|startoftext|>\": 514, \"<|endoftext|>\": 515";

/* "the" by the tokenizer of a folder with these files (NULL: none), under a config of this vocabulary and eos (0: not said). */
static bool the(const char *vocab_json, const char *tokenizer_json, size_t vocab, size_t eos, uint32_t ids[4]) {
    char folder[] = "/tmp/maskinv-tokens-XXXXXX", path[64];
    clip_config c = {.vocab = vocab, .eos = eos ? eos : 2, .read = eos ? CLIP_READ_EOS : CLIP_READ_LARGEST};
    token_settings s = {.clean = ""};
    const char *const name[] = {"merges.txt", "vocab.json", "tokenizer.json"}, *const text[] = {tokenizer_json ? NULL : MERGES, vocab_json, tokenizer_json};
    size_t n = 0;
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, name[i]);
        FILE *f = text[i] ? fopen(path, "w") : NULL;
        if (f) fputs(text[i], f), fclose(f);
    }
    tokenizer *t = tokens_open(folder, &s, &c, "Hugging Face", "model", &e);
    if (t) assert_true(tokenizer_encode(t, "the", ids, 4, &n, &e) && n == 3);
    tokenizer_free(t);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, name[i]);
        remove(path);
    }
    remove(folder);
    return t != NULL;
}

static void added_tokens_shift_no_ids(void **state) {
    char vocab[300], json[600];
    uint32_t ids[4];
    (void)state;
    snprintf(vocab, sizeof vocab, "{%s, \"<mine>\": 516}", CLIPS);
    snprintf(json, sizeof json, "{\"model\": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\", \"vocab\": {%s}, \"merges\": [\"t h\", \"th e</w>\"]}}", CLIPS);
    /* as published; one more row, which the vocabulary, the config's eos, or tokenizer.json explains */
    assert_true(the(NULL, NULL, 516, 0, ids) && ids[0] == 514 && ids[1] == 513 && ids[2] == 515);
    assert_true(the(vocab, NULL, 517, 0, ids) && ids[0] == 514 && ids[1] == 513 && ids[2] == 515);
    assert_true(the(NULL, NULL, 517, 515, ids) && ids[0] == 514 && ids[2] == 515);
    assert_true(the(NULL, json, 517, 0, ids) && ids[0] == 514 && ids[2] == 515);
    /* nothing says whether a token was added or a merge is missing */
    assert_false(the(NULL, NULL, 517, 0, ids));
    assert_non_null(strstr(e.text, "516, expected the config's 517"));
    /* a token amid the others: every id behind it is another */
    assert_false(the("{\"<mine>\": 512, \"th\": 513, \"the</w>\": 514, \"<|startoftext|>\": 515, \"<|endoftext|>\": 516}", NULL, 517, 0, ids));
    assert_non_null(strstr(e.text, "vocab.json"));
    assert_false(the("{\"th\": 513, \"the</w>\": 512, \"<|startoftext|>\": 514, \"<|endoftext|>\": 515}", NULL, 516, 0, ids));
    assert_non_null(strstr(e.text, "\"th\" is 513, expected 512"));
    assert_false(the("[1, 2]", NULL, 516, 0, ids));
    assert_non_null(strstr(e.text, "object"));
    /* an eos that is no token's end: the text's embedding would be read at a place that is not there */
    assert_false(the(vocab, NULL, 517, 516, ids));
    assert_non_null(strstr(e.text, "eos id is 516, its tokenizer's end is 515"));
}

/* CLIP's file of merges goes on beyond those that CLIP has: a row more in the table is an added token, not one merge more. */
static void a_larger_table_takes_no_further_merges(void **state) {
    size_t n, length;
    uint32_t ids[8];
    (void)state;
    char *bytes = file_read("weights/clip/merges.txt", 1 << 22, &length, &e), *more = mem_alloc(length + 32, 1);
    assert_non_null(bytes);
    memcpy(more, bytes, length);
    memcpy(more + length, "zq zq</w>\n", 10);
    for (size_t vocab = 49408; vocab < 49411; vocab++) {
        clip_config c = {.vocab = vocab};
        tokenizer *t = tokens_parse(more, length + 10, &c, "here", &e);
        if (!t) fail_msg("%s", e.text);
        assert_true(tokenizer_encode(t, "a cat", ids, 8, &n, &e));
        assert_true(n == 4 && ids[0] == 49406 && ids[1] == 320 && ids[2] == 2368 && ids[3] == 49407);
        tokenizer_free(t);
    }
    mem_free(bytes), mem_free(more);
}

static void refuse(const char *bytes, size_t n, const char *says) {
    tokenizer *t = tokenizer_parse(bytes, n, "here", 0, &e);
    if (t) fail_msg("accepted, expected '%s'", says);
    if (!strstr(e.text, "here") || !strstr(e.text, says)) fail_msg("said '%s', expected '%s'", e.text, says);
}

static void damaged_files_are_named(void **state) {
    (void)state;
    refuse("\n\x05\n\x03" "a", 5, "are left");                                       /* a piece that ends too soon */
    refuse("\n\x01\n\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 14, "");          /* a number without end */
    refuse("\n\x05\n\x01" "a\x18\x01\x1A\x06\x12\x04\x00\x00\x10\x00", 15, "");      /* a trie beyond its bytes */
    refuse("[PAD]\n[CLS]\n", sizeof "[PAD]\n[CLS]\n" - 1, "no [UNK] found");
    refuse("[PAD]\n[UNK]\n[UNK]\n", sizeof "[PAD]\n[UNK]\n[UNK]\n" - 1, "line 3");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[],\"unk_id\":0}}", sizeof "{\"model\":{\"type\":\"Unigram\",\"vocab\":[],\"unk_id\":0}}" - 1, "vocab is empty");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":7}}", sizeof "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":7}}" - 1, "unk_id");
    refuse("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}}", sizeof "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":1}}}" - 1, "id of its own");
    refuse("{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", sizeof "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}" - 1, "not in the vocabulary");
    size_t n;
    char *whole = file_read("test/data/checkpoints/siglip-hf/spiece.model", 1 << 20, &n, &e);
    assert_non_null(whole);
    for (size_t cut = 0; cut < n; cut += 1 + cut / 7) { /* cut anywhere: an error, or fewer pieces; never more is read */
        char *part = mem_alloc(cut ? cut : 1, 1);
        memcpy(part, whole, cut);
        tokenizer_free(tokenizer_parse(part, cut, "cut", 0, &e));
        mem_free(part);
    }
    mem_free(whole);
}

/* A published tokenizer.json with the member `key` of its object `of` (NULL: the root) replaced. mem_free it. */
static char *changed(const char *model, const char *of, const char *key, const char *value) {
    char path[200];
    size_t n;
    snprintf(path, sizeof path, "test/data/checkpoints/%s/tokenizer.json", model);
    char *bytes = file_read(path, 1 << 20, &n, &e);
    if (!bytes) fail_msg("%s", e.text);
    cJSON *root = cJSON_Parse(bytes), *object = of ? cJSON_GetObjectItemCaseSensitive(root, of) : root, *item = cJSON_Parse(value);
    assert_true(root && object && item);
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    assert_true(cJSON_AddItemToObject(object, key, item));
    mem_free(bytes);
    bytes = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    assert_non_null(bytes);
    return bytes;
}

/* What a tokenizer.json asks for beside its lists is obeyed or refused by name: no text gets other ids than its makers' program gives. */
static void other_steps_are_refused(void **state) {
    static const struct { const char *model, *of, *key, *value, *says; } rows[] = {
        {"siglip2-hf-sharded", NULL, "normalizer", "{\"type\":\"NFKC\"}", "normalizer is \"NFKC\""},
        {"siglip2-hf-sharded", NULL, "normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"b\"}", "\"content\":\"b\""},
        {"siglip2-hf-sharded", NULL, "pre_tokenizer", "{\"type\":\"Digits\",\"individual_digits\":true}", "pre_tokenizer is \"Digits\""},
        {"siglip2-hf-sharded", "model", "dropout", "0.1", "BPE.dropout is 0.1"},
        {"siglip2-hf-sharded", "model", "ignore_merges", "true", "BPE.ignore_merges is true"},
        {"siglip2-hf-sharded", "model", "type", "\"WordLevel\"", "model.type"},
        {"siglip2-hf-sharded", NULL, "post_processor", "{\"type\":\"BertProcessing\",\"sep\":[\"a\",1],\"cls\":[\"b\",2]}", "post_processor is \"BertProcessing\""},
        {"siglip-openclip", NULL, "normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"},{\"type\":\"NFD\"}]}", "normalizer is \"NFD\""},
        {"siglip-openclip", NULL, "normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a!]\"},\"content\":\"\"}", "\"[a!]\""},
        {"siglip-openclip", NULL, "normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[^!\\\"#$%&'()*+,./:;<=>?@_`{|}~\\\\[\\\\\\\\\\\\]\\\\-]\"},\"content\":\"\"}", "is not supported"}, /* all but these */
        {"siglip-openclip", NULL, "normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[!-~\\\"#$%&'()*+,./:;<=>?@_`{|}\\\\[\\\\\\\\\\\\]\\\\^]\"},\"content\":\"\"}", "is not supported"}, /* a range that has the letters */
        {"siglip-openclip", NULL, "normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\" \"}", "\"String\":\"a\""},
        {"siglip-openclip", NULL, "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}", "Metaspace.replacement is \"_\""},
        {"siglip-openclip", NULL, "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"never\"}", "Metaspace.prepend_scheme is \"never\""},
        {"metaclip2-hf", NULL, "pre_tokenizer", "{\"type\":\"Whitespace\"}", "pre_tokenizer is \"Whitespace\""},
        {"clipa-openclip", NULL, "normalizer", "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":false}", "BertNormalizer.lowercase is false"},
        {"clipa-openclip", NULL, "normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Sequence\",\"normalizers\":[]}]}", "normalizer is \"Sequence\""},
        {"clipa-openclip", "model", "continuing_subword_prefix", "\"@@\"", "WordPiece.continuing_subword_prefix is \"@@\""}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = changed(rows[i].model, rows[i].of, rows[i].key, rows[i].value);
        tokenizer *t = tokenizer_parse(text, strlen(text), "tokenizer.json", 0, &e);
        if (t) fail_msg("%s: %s %s was taken", rows[i].model, rows[i].key, rows[i].value);
        if (!strstr(e.text, rows[i].says) || !strstr(e.text, "tokenizer.json")) fail_msg("'%s' expected in '%s'", rows[i].says, e.text);
        mem_free(text);
    }
}

/* As SigLIP's tokenizer is written by those who publish it in one file: lower case, no punctuation, no blanks at the ends. */
static void cleaning_steps_are_obeyed(void **state) {
    static const char steps[] = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[!\\\"\\\\#\\\\$%\\\\&'\\\\(\\\\)\\\\*\\\\+,\\\\-\\\\./:;<=>\\\\?@\\\\[\\\\\\\\\\\\]\\\\^_`\\\\{\\\\|\\\\}\\\\~]\"},\"content\":\"\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"},{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}]}";
    size_t n = 0, m = 0;
    uint32_t a[64], b[64];
    (void)state;
    char *with = changed("siglip-openclip", NULL, "normalizer", steps), *without = changed("siglip-openclip", NULL, "normalizer", "null");
    tokenizer *t = tokenizer_parse(with, strlen(with), "with", 0, &e), *u = tokenizer_parse(without, strlen(without), "without", 0, &e);
    if (!t || !u) fail_msg("%s", e.text);
    assert_true(tokenizer_encode(t, " A [Photo] of\ta \"Cat\\Dog\"! ", a, 64, &n, &e) && tokenizer_encode(u, "a photo of a catdog", b, 64, &m, &e));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * sizeof *a);
    assert_true(tokenizer_encode(u, " A [Photo] of\ta \"Cat\\Dog\"! ", b, 64, &m, &e));
    assert_true(n != m || memcmp(a, b, n * sizeof *a)); /* it makes a difference */
    tokenizer_free(t), tokenizer_free(u);
    mem_free(with), mem_free(without);
}

/* The compiled normaliser may stand alone, or among others. */
static void a_normaliser_alone_is_obeyed(void **state) {
    static const char text[] = "\xEF\xAC\x81sh \xE2\x91\xA0 \xEF\xBC\xA1"; /* a ligature, a circled 1, a wide A */
    size_t length, n = 0, m = 0;
    uint32_t a[64], b[64];
    (void)state;
    char *bytes = file_read("test/data/checkpoints/metaclip2-hf/tokenizer.json", 1 << 20, &length, &e);
    assert_non_null(bytes);
    cJSON *root = cJSON_Parse(bytes), *steps = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, "normalizer"), "normalizers");
    char *alone = cJSON_PrintUnformatted(cJSON_GetArrayItem(steps, 0)), *text_alone = changed("metaclip2-hf", NULL, "normalizer", alone);
    tokenizer *t = tokenizer_parse(bytes, length, "a", 0, &e), *u = tokenizer_parse(text_alone, strlen(text_alone), "b", 0, &e);
    if (!t || !u) fail_msg("%s", e.text);
    assert_true(tokenizer_encode(t, text, a, 64, &n, &e) && tokenizer_encode(u, text, b, 64, &m, &e));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * sizeof *a);
    tokenizer_free(t), tokenizer_free(u), cJSON_Delete(root);
    mem_free(bytes), mem_free(alone), mem_free(text_alone);
}

/* Every allocation that fails is an error with the file's name. */
static void every_allocation_may_fail(void **state) {
    static const char *const files[] = {"siglip-hf/spiece.model", "siglip2-hf-sharded/tokenizer.json", "clipa-openclip/vocab.txt", "metaclip2-hf/tokenizer.json"};
    (void)state;
    for (size_t f = 0; f < 4; f++) {
        char path[200];
        snprintf(path, sizeof path, "test/data/checkpoints/%s", files[f]);
        for (size_t n = 1;; n += 1 + n / 5) {
            uint32_t ids[40];
            size_t count;
            mem_fail_after(n);
            tokenizer *t = tokenizer_open_as(path, 0, CLEAN_LOWER, &e);
            bool ok = t && tokenizer_encode(t, "a photo of a Zebra", ids, 40, &count, &e);
            mem_fail_after(0);
            tokenizer_free(t);
            if (ok) break;
            assert_non_null(strstr(e.text, "memory"));
        }
    }
}

/* ---- XLM-V's: a tokenizer.json of hundreds of MB ---------------------------------------------------------------- */
/* 150,000 pieces with some 500 bytes of blanks each, as an indenting program writes them: no more than what the pieces
 * themselves take is held, and the ids are those of the small file. */
static void a_large_vocabulary_is_read_where_it_lies(void **state) {
    enum { PIECES = 150000, MOST = 48 << 20 };
    static const char small[] = "test/data/checkpoints/metaclip2-hf/tokenizer.json", text[] = "a photo of a cat, x7 \xC3\xA9t\xC3\xA9";
    char path[] = "/tmp/tokenizer-large-XXXXXX", blanks[251];
    size_t length, before, after, added = 0;
    const char *item_at;
    static const char *const names[] = {"model.vocab"};
    json_cut list;
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    char *bytes = file_read(small, 1 << 20, &length, &e);
    assert_true(f && bytes);
    memset(blanks, ' ', 250), blanks[250] = 0;
    cJSON *rest = json_cut_parse(bytes, length, small, names, 1, &list, &e);
    assert_non_null(rest);
    item_at = list.start;
    size_t own = json_cut_count(&list);
    fwrite(bytes, 1, (size_t)(list.end - bytes), f); /* all of its pieces, then new ones that no text is made of */
    for (; added + own < PIECES; added++) fprintf(f, ",\n%s[%s\"\xE2\x96\x81q%zuq\", -%zu.5]", blanks, blanks, added, 30 + added % 7);
    fwrite(list.end, 1, length - (size_t)(list.end - bytes), f);
    assert_true(item_at && fclose(f) == 0);
    json_cut_close(&list);
    json_free(rest);
    mem_free(bytes);
    before = own_memory("RssAnon:");
    tokenizer *large = tokenizer_open(path, 0, &e), *plain = tokenizer_open(small, 0, &e);
    after = own_memory("RssAnon:");
    unlink(path);
    if (!large || !plain) fail_msg("%s", e.text);
    assert_int_equal(tokenizer_vocab(large), PIECES);
    uint32_t a[77], b[77];
    size_t n = 0, m = 0;
    assert_true(tokenizer_encode(large, text, a, 77, &n, &e) && tokenizer_encode(plain, text, b, 77, &m, &e));
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * sizeof *a);
    tokenizer_free(large);
    tokenizer_free(plain);
    if (before && after > before + MOST) fail_msg("%zu MB held, at most %d expected", (after - before) >> 20, MOST >> 20);
}

/* Lists are cut out of the text as strictly as a whole text is read. */
static void cut_lists(void **state) {
    static const struct { const char *text, *says; } rows[] = {
        {"{\"model\":{\"vocab\":[1, 2 ,3]},\"x\":1}", NULL},
        {" {\"model\" : {\"a\":\"]\", \"vocab\" : [] } } ", NULL},
        {"{\"model\":{\"vocab\":{\"a,]\":1,\"b\\\"\":[2,{\"c\":3}]}}}", NULL},
        {"{\"model\":{\"vocab\":[1,]}}", "an element behind its comma"},
        {"{\"model\":{\"vocab\":[,1]}}", "number 0"},
        {"{\"model\":{\"vocab\":[1 2]}}", "number 0"},
        {"{\"model\":{\"vocab\":[1]2]}}", "line 1"},
        {"{\"model\":{\"vocab\":[1},\"x\":[1]}", "line 1"},
        {"{\"model\":{\"vocab\":[1] \"]\"}}", "line 1"},
        {"{\"model\":{\"vocab\":[\"a]}}", "line 1"},
        {"{\"model\":{\"vocab\":[1],\"vocab\":[2]}}", "twice"},
        {"{\"model\":{\"vocab\":[01]}}", "number 0"},
        {"{\"model\":{\"vocab\":[1]},}", "line 1"},
        {"{\"model\":{\"vocab\":{\"a\":1}, {\"b\":2}}}", "line 1"},
        {"{\"model\":{\"vocab\":{\"a\":1}x}}", "line 1"},
        {"{\"model\":{\"vocab\":{3:1}}}", "number 0"},
    };
    static const char *const names[] = {"model.vocab"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_cut list;
        size_t seen = 0;
        e.text[0] = 0;
        size_t n = strlen(rows[i].text);
        char *exact = malloc(n); /* nothing stands behind a mapped file */
        assert_non_null(exact);
        memcpy(exact, rows[i].text, n);
        cJSON *rest = json_cut_parse(exact, n, "here", names, 1, &list, &e);
        if (rest) assert_non_null(list.start);
        while (rest && json_cut_next(&list, &e)) seen++;
        bool ok = rest && list.ended;
        if (ok != !rows[i].says || (rows[i].says && !strstr(e.text, rows[i].says)))
            fail_msg("%s: '%s' found, '%s' expected", rows[i].text, e.text, rows[i].says ? rows[i].says : "nothing");
        if (ok) assert_int_equal(seen, json_cut_count(&list));
        if (ok) assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetObjectItem(rest, "model"), "vocab")));
        json_cut_close(&list);
        json_free(rest);
        free(exact);
    }
}

/* ---- GPT-2's byte pairs (ids: a second implementation's, by a regular expression engine) ---------------------------------- */
#define SPACE "\xC4\xA0" /* as its files write a space */
static const char gpt2_merges[] =
    "#version: 0.2\n" SPACE " t\n" SPACE " a\nh e\ni n\nr e\n" SPACE "t he\n" SPACE "a n\ne r\nn g\nin g\n" SPACE " w\n" SPACE
    "w a\nv e\n' s\n" SPACE " 1\n1 2\n" SPACE " " SPACE "\n\xC4\x8A \xC4\x8A\n\xC3\x83 \xC2\xA9\n" SPACE " .\no u\n" SPACE "the re\nl l\n";
static const struct {
    const char *text;
    size_t count;
    uint32_t ids[24];
} gpt2_texts[] = {
    {"A man, there and the other thing.", 19, {32, 220, 76, 64, 77, 11, 277, 262, 67, 261, 220, 78, 83, 258, 81, 256, 71, 265, 13}},
    {"  two  spaces\n\n\nnewline \n x", 24,
     {220, 256, 86, 78, 220, 220, 82, 79, 64, 66, 68, 82, 273, 198, 77, 68, 86, 75, 259, 68, 220, 198, 220, 87}},
    {"It's we'll 'S 12 123 a12", 17, {40, 83, 269, 266, 68, 6, 278, 220, 6, 50, 270, 17, 270, 17, 18, 257, 271}},
    {"caf\xC3\xA9 \xE4\xB8\xAD \xF0\x9F\x98\x80<|endoftext|> the end", 19,
     {66, 64, 69, 274, 220, 160, 116, 255, 220, 172, 253, 246, 222, 279, 261, 220, 68, 77, 67}},
    {"trailing  ", 7, {83, 81, 64, 72, 75, 265, 272}},
    {"\xC2\xA0x\xE2\x80\x83 y\tz", 10, {126, 254, 87, 158, 222, 225, 220, 88, 197, 89}},
    {" ", 1, {220}},
    {"", 0, {0}},
};

static void gpt2_agrees(const tokenizer *t) {
    assert_string_equal(tokenizer_name(t), "GPT-2's byte pairs");
    assert_int_equal(tokenizer_vocab(t), 280);
    for (size_t i = 0; i < sizeof gpt2_texts / sizeof *gpt2_texts; i++) {
        uint32_t ids[64];
        size_t n;
        if (!tokenizer_encode(t, gpt2_texts[i].text, ids, 64, &n, &e)) fail_msg("%s", e.text);
        assert_int_equal(n, gpt2_texts[i].count);
        assert_memory_equal(ids, gpt2_texts[i].ids, n * sizeof *ids);
        char *again = tokenizer_decode(t, ids, n, &e);
        assert_string_equal(again, gpt2_texts[i].text);
        mem_free(again);
    }
    char *half = tokenizer_decode(t, (uint32_t[]){160, 116, 64}, 3, &e); /* a character cut short */
    assert_string_equal(half, "\xEF\xBF\xBD" "a");
    mem_free(half);
}

/* {"piece": id} of a tokenizer whose ids the merges gave, as vocab.json has it. */
static char *gpt2_vocab(const tokenizer *t) {
    cJSON *all = cJSON_CreateObject();
    for (uint32_t id = 0; id < tokenizer_vocab(t); id++) {
        char room[16], spelled[64];
        size_t n, used = 0;
        const char *bytes = byte_pairs_kind.piece(t->own, id, &n, room);
        for (size_t k = 0; k < n; k++) used += utf8_encode(byte_character((unsigned char)bytes[k]), (unsigned char *)spelled + used);
        spelled[used] = 0;
        cJSON_AddNumberToObject(all, spelled, id);
    }
    char *text = cJSON_PrintUnformatted(all);
    cJSON_Delete(all);
    return text;
}

static void gpt2_refuses(const char *merges, const char *vocab, const char *says) {
    tokenizer *t = byte_pairs_parse(merges, strlen(merges), "m", vocab, vocab ? strlen(vocab) : 0, "v", &e);
    assert_null(t);
    if (!strstr(e.text, says)) fail_msg("'%s' expected in '%s'", says, e.text);
}

static void gpt2(void **state) {
    (void)state;
    tokenizer *t = tokenizer_parse(gpt2_merges, sizeof gpt2_merges - 1, "merges.txt", 0, &e);
    if (!t) fail_msg("%s", e.text);
    gpt2_agrees(t);
    char *vocab = gpt2_vocab(t), json[16384], list[2048] = "", line[64];
    tokenizer_free(t);
    t = byte_pairs_parse(gpt2_merges, sizeof gpt2_merges - 1, "m", vocab, strlen(vocab), "v", &e);
    if (!t) fail_msg("%s", e.text);
    gpt2_agrees(t);
    tokenizer_free(t);
    for (const char *at = strchr(gpt2_merges, '\n') + 1, *end; (end = strchr(at, '\n')); at = end + 1) {
        snprintf(line, sizeof line, "%s\"%.*s\"", *list ? "," : "", (int)(end - at), at);
        strcat(list, line);
    }
    static const char shape[] = "{\"added_tokens\":[{\"id\":279,\"content\":\"%s\"}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"%s\","
                                "\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\",\"vocab\":%s,\"merges\":[%s]}}";
    snprintf(json, sizeof json, shape, "<|endoftext|>", "ByteLevel", vocab, list);
    if (!(t = tokenizer_parse(json, strlen(json), "tokenizer.json", 0, &e))) fail_msg("%s", e.text);
    gpt2_agrees(t);
    tokenizer_free(t);
    snprintf(json, sizeof json, shape, "<pad>", "ByteLevel", vocab, list);
    refuse(json, strlen(json), "added_tokens");
    snprintf(json, sizeof json, shape, "<|endoftext|>", "Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"}],\"x\":\"", vocab, list);
    refuse(json, strlen(json), "pre_tokenizer");
    cJSON_free(vocab);
    gpt2_refuses("#version\n", NULL, "no merges");
    gpt2_refuses("#version\n" SPACE " t\n" SPACE "t he\n", NULL, "line 3");
    gpt2_refuses("#version\n" SPACE " t\n" SPACE " t\n", NULL, "second time");
    gpt2_refuses("#version\nab c\n", NULL, "\"ab\" is not in the vocabulary");
    gpt2_refuses("#version\na b\n\nb c\n", NULL, "line 3 is blank");
    gpt2_refuses("#version\nab\n", NULL, "two pieces with a space");
    gpt2_refuses("#version\na \xE4\xB8\xAD\n", NULL, "stands for no byte");
    gpt2_refuses("#version\na b\nb c\na bc\nab c\n", NULL, "there already");
    gpt2_refuses("#version\na b\n", "{\"a\":0,\"b\":2}", "an id of its own below 2");
    gpt2_refuses("#version\na b\n", "{\"a\":0,\"b\":1}", "\"ab\" is not in the vocabulary");
    gpt2_refuses("#version\na b\n", "{\"a\":0,\"b\":1,\"ab\":2}", "has no piece");
    gpt2_refuses("#version\na b\n", "[]", "an object of ids expected");
    gpt2_refuses("#version\na b\n", "{", "v: ");
    assert_null(tokenizer_open_gpt2("test/data/training", &e));
    assert_non_null(strstr(e.text, "test/data/training: no tokenizer: expected GPT-2's merges.txt"));
}

int main(void) {
    mem_hook_cjson();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2),
        cmocka_unit_test(published_ids),           cmocka_unit_test(vocabulary_alone),
        cmocka_unit_test(texts_embed_as_published),
        cmocka_unit_test(decodes),                 cmocka_unit_test(misread_texts_are_seen),
        cmocka_unit_test(added_tokens_shift_no_ids), cmocka_unit_test(a_larger_table_takes_no_further_merges),
        cmocka_unit_test(damaged_files_are_named), cmocka_unit_test(other_steps_are_refused), cmocka_unit_test(a_normaliser_alone_is_obeyed), cmocka_unit_test(cleaning_steps_are_obeyed),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(cut_lists),               cmocka_unit_test(a_large_vocabulary_is_read_where_it_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
