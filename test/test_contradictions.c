/* test_contradictions.c - models whose files contradict themselves or the network: refused by name, or said. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "x_cli.h"

static err e;

/* ---- weights ------------------------------------------------------------------------------------------ */
/* test/data's open_clip model in scratch, with one tensor more, or in another's place. */
static const char *model_with(const char *name, size_t numbers, float value) {
    static const char folder[] = "more";
    static float data[64];
    st_tensor all[200], *more;
    safetensors *s = st_open(DATA "nano-openclip-f16/open_clip_model.safetensors", &e);
    assert_non_null(s);
    size_t n = 0, length;
    for (size_t i = 0; i < st_count(s); i++)
        if (strcmp(st_at(s, i)->name, name) != 0) all[n++] = *st_at(s, i);
    for (size_t i = 0; i < numbers; i++) data[i] = value;
    more = &all[n];
    *more = (st_tensor){.name = name, .type = "F32", .rank = numbers > 1, .shape = {numbers}, .bytes = 4 * numbers,
                        .data = (const unsigned char *)data};
    assert_true(folder_make(scratch(folder), &e));
    char *config = bytes_at(DATA "nano-openclip-f16/open_clip_config.json", &length);
    put_bytes(scratch("%s/open_clip_config.json", folder), config, length);
    mem_free(config);
    if (!st_write(scratch("%s/open_clip_model.safetensors", folder), all, n + 1, NULL, &e)) fail_msg("%s", e.text);
    st_free(s);
    return scratch(folder);
}

static void test_unread_weights(void **state) {
    (void)state;
    static const char *const inside[] = {
        "visual.transformer.resblocks.3.ln_1.weight", "visual.conv1.bias", "visual.transformer.resblocks.0.ls_1.gamma",
        "transformer.resblocks.2.ln_1.weight",        "visual.head.bias",  "conv1_alpha.weight",
    };
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        assert_int_equal(run("info", "-m", model_with(inside[i], 32, 1), NULL), 1);
        if (!strstr(said.err, inside[i]) || !strstr(said.err, "has no place in the network"))
            fail_msg("%s: %s", inside[i], said.err);
    }
    assert_int_equal(run("info", "-m", model_with("visual.transformer.resblocks.0.attn.out_proj.lora_A", 32, 1), NULL), 1);
    assert_non_null(strstr(said.err, "is a LoRA's, which is not supported: merge it"));
    static const char *const meaningless[] = {"visual.bn1.num_batches_tracked", "text_model.embeddings.position_ids",
                                              "attn_mask", "visual.blocks.0.attn.rope.freqs_cos"};
    for (size_t i = 0; i < sizeof meaningless / sizeof *meaningless; i++) {
        if (run("info", "-m", model_with(meaningless[i], 4, 1), NULL)) fail_msg("%s: %s", meaningless[i], said.err);
        assert_null(strstr(said.out, "not read"));
    }
    if (run("info", "-m", model_with("queue.items", 4, 1), NULL)) fail_msg("%s", said.err);
    assert_non_null(strstr(said.out, "1 tensors of no tower: not read, the first: queue.items"));
}

static void test_logit_scale(void **state) {
    (void)state;
    static const float good[] = {0, 4.6052f, 14, -3}, bad[] = {100, 89, 1000};
    for (size_t i = 0; i < 4; i++)
        if (run("info", "-m", model_with("logit_scale", 1, good[i]), NULL)) fail_msg("%s", said.err);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(run("info", "-m", model_with("logit_scale", 1, bad[i]), NULL), 1);
        assert_non_null(strstr(said.err, "tensor \"logit_scale\" is"));
        assert_non_null(strstr(said.err, "whose exponential no float holds: a logarithm is expected"));
    }
}

/* ---- configs -------------------------------------------------------------------------------------------- */
static bool parse(const char *text, clip_config *c) { return config_parse(text, strlen(text), "c.json", c, &e); }

static void test_sections_that_contradict(void **state) {
    (void)state;
    clip_config c;
    assert_false(parse("{\"model_type\":\"clip\",\"text_config\":{\"hidden_size\":768},\"text_config_dict\":{\"hidden_"
                       "size\":512}}",
                       &c));
    assert_string_equal(e.text, "c.json: text_config.hidden_size is 768, but text_config_dict.hidden_size is 512: they "
                                "contradict each other");
    assert_false(parse("{\"vision_config\":{\"hidden_act\":\"gelu\"},\"vision_config_dict\":{\"hidden_act\":\"quick_gelu\"}}", &c));
    if (!parse("{\"vision_config\":{\"patch_size\":16},\"vision_config_dict\":{\"patch_size\":16,\"image_size\":64,"
               "\"id2label\":null}}",
               &c))
        fail_msg("%s", e.text);
    assert_int_equal(c.patch, 16);
    assert_int_equal(c.image, 64);
}

static void test_size_of_maskinv(void **state) {
    (void)state;
    clip_config c, back;
    char text[2048] = "";
    if (!parse("{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},\"maskinv_cfg\":{\"size\":320}}", &c))
        fail_msg("%s", e.text);
    assert_int_equal(c.invert.size, 320);
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_true(config_write(f, &c, NULL, &e));
    fclose(f);
    assert_true(parse(text, &back));
    assert_int_equal(back.invert.size, 320);
    assert_false(parse("{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},\"maskinv_cfg\":{\"size\":100}}", &c));
    assert_non_null(strstr(e.text, "maskinv_cfg.size is 100, expected a multiple of the patch, 16"));
}

/* Names as training programs leave them: the same model. Other names are told. */
static void test_wrapped_names(void **state) {
    (void)state;
    static const char *const wraps[] = {"module.", "_orig_mod.", "module._orig_mod.", "model."};
    static char names[200][160];
    st_tensor all[200];
    char out[400];
    safetensors *s = st_open(DATA "nano-openclip-f16/open_clip_model.safetensors", &e);
    size_t length;
    assert_non_null(s);
    assert_true(st_count(s) <= 200 && folder_make(scratch("wrapped"), &e));
    char *config = bytes_at(DATA "nano-openclip-f16/open_clip_config.json", &length);
    put_bytes(scratch("wrapped/open_clip_config.json"), config, length);
    mem_free(config);
    assert_int_equal(run("embed", "-m", DATA "nano-openclip-f16", "-i", IMAGE, "-o", scratch("plain.npy"), NULL), 0);
    for (size_t k = 0; k < sizeof wraps / sizeof *wraps; k++) {
        for (size_t i = 0; i < st_count(s); i++) {
            all[i] = *st_at(s, i);
            snprintf(names[i], sizeof names[i], "%s%.120s", wraps[k], all[i].name);
            all[i].name = names[i];
        }
        if (!st_write(scratch("wrapped/open_clip_model.safetensors"), all, st_count(s), NULL, &e)) fail_msg("%s", e.text);
        snprintf(out, sizeof out, "%s", scratch("wrapped.npy"));
        int code = run("embed", "-m", scratch("wrapped"), "-i", IMAGE, "-o", out, NULL);
        if (k < 3 && code) fail_msg("%s", said.err);
        if (k < 3) assert_true(same_files(out, scratch("plain.npy")));
        else assert_non_null(strstr(said.err, "the first \"model."));
    }
    st_free(s);
}

/* A copy of a model in scratch; the first `find` of one of its files is replaced. */
static const char *model_but(const char *name, const char *file, const char *find, const char *replace) {
    static char kept[512];
    size_t n;
    snprintf(kept, sizeof kept, "%s", model_with_merges(name));
    char path[600], text[8192];
    snprintf(path, sizeof path, "%s/%s", kept, file);
    char *bytes = bytes_at(path, &n), *at = strstr(bytes, find);
    if (!at) fail_msg("%s: no %s", path, find);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - bytes), bytes, replace, at + strlen(find));
    put_bytes(path, text, strlen(text));
    mem_free(bytes);
    return kept;
}

/* What a config says of texts and is not obeyed: texts are refused, pictures are not, and no copy is made that has forgotten it. */
static void test_ways_of_texts(void **state) {
    (void)state;
    static const struct { const char *words, *says; } rows[] = {
        {"\"tokenizer_mode\": \"clips\",", "tokenizer_mode \"clips\" is not supported"},
        {"\"tokenizer_kwargs\": {\"reduction_mask\": \"syntax\"},", "tokenizer_kwargs.reduction_mask is not supported"},
        {"\"tokenizer_kwargs\": {\"clean\": \"whitespace\"},", "tokenizer_kwargs.clean: \"whitespace\" found"},
        {"\"tokenizer_kwargs\": {\"clean\": \"lower\", \"reduction_mask\": \"\"}, \"tokenizer_mode\": null,", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char with[200];
        snprintf(with, sizeof with, "\"text_cfg\": { %s", rows[i].words);
        const char *m = model_but("nano-openclip-f16", "open_clip_config.json", "\"text_cfg\": {", with);
        int code = run("embed", "-m", m, "-t", "a cat", "-o", scratch("t.npy"), NULL);
        if (!rows[i].says && code) fail_msg("%s", said.err);
        if (rows[i].says && (!code || !strstr(said.err, rows[i].says))) fail_msg("%s: %s", rows[i].words, said.err);
        if (run("embed", "-m", m, "-i", IMAGE, "-o", scratch("t.npy"), NULL)) fail_msg("%s", said.err);
        if (i < 2) assert_int_equal(run("convert", "-m", m, "-o", scratch("lost"), NULL), 1);
    }
}

static void test_settings_of_pixels(void **state) {
    (void)state;
    char m[512], path[600], processor[600];
    snprintf(m, sizeof m, "%s", model_with_merges("nano-hf-f32"));
    snprintf(path, sizeof path, "%s/preprocessor_config.json", m);
    static const char known[] = "{\"size\": 32, \"do_convert_rgb\": true, \"offset\": false, \"image_mean\": [0.1, 0.2, 0.3]}",
                      unknown[] = "{\"size\": {\"shortest_edge\": 32, \"longest_edge\": 40}, \"crop_pct\": 0.9, \"image_mean\": [0.1, 0.2, 0.3]}";
    put_bytes(path, known, sizeof known - 1);
    if (run("info", "-m", m, NULL)) fail_msg("%s", said.err);
    assert_null(strstr(said.out, "not obeyed"));
    assert_non_null(strstr(said.out, "mean 0.1 0.2 0.3"));
    put_bytes(path, unknown, sizeof unknown - 1);
    if (run("info", "-m", m, NULL)) fail_msg("%s", said.err);
    assert_non_null(strstr(said.out, "preprocessor_config.json: not obeyed, because unknown here: crop_pct, size.longest_edge"));
    assert_int_equal(remove(path), 0);
    /* transformers 5 writes one file for all of a processor */
    snprintf(path, sizeof path, "%s/processor_config.json", m);
    snprintf(processor, sizeof processor, "{\"image_processor\": %s, \"processor_class\": \"CLIPProcessor\"}", known);
    put_bytes(path, processor, strlen(processor));
    if (run("info", "-m", m, NULL)) fail_msg("%s", said.err);
    assert_non_null(strstr(said.out, "mean 0.1 0.2 0.3"));
    put_bytes(path, "{\"processor_class\": \"CLIPProcessor\"}", 36);
    if (run("info", "-m", m, NULL)) fail_msg("%s", said.err);
    assert_non_null(strstr(said.out, "mean 0.4815"));
    put_bytes(path, "{\"image_processor\": {\"resample\": 0}}", 36);
    assert_int_equal(run("info", "-m", m, NULL), 1);
    assert_non_null(strstr(said.err, "processor_config.json"));
    assert_int_equal(remove(path), 0);
    /* other weights in the folder */
    snprintf(path, sizeof path, "%s/pytorch_model.bin", m);
    put_bytes(path, "x", 1);
    if (run("info", "-m", m, NULL)) fail_msg("%s", said.err);
    assert_non_null(strstr(said.out, "beside it, not read: pytorch_model.bin"));
}

/* Of two image sides of AlphaCLIP in a folder the one that is named is taken, none by itself. */
static void test_two_overlays(void **state) {
    (void)state;
    static const char *const files[] = {"ViT.pt", "clip_alpha.pth"};
    char folder[300], path[400];
    size_t n;
    snprintf(folder, sizeof folder, "%s", scratch("overlays"));
    assert_true(folder_make(folder, &e));
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, DATA "checkpoints/alphaclip-pth/%s", files[i > 0]);
        char *bytes = bytes_at(path, &n);
        snprintf(path, sizeof path, "%s/%s", folder, i == 2 ? "second.pth" : files[i]);
        if (i == 2) bytes[n / 2] ^= 1; /* a number of it */
        put_bytes(path, bytes, n);
        mem_free(bytes);
    }
    assert_int_equal(run("info", "-m", folder, NULL), 1);
    assert_non_null(strstr(said.err, "several image sides of AlphaCLIP in this folder, name one of them: clip_alpha.pth, second.pth"));
    char hash[2][2000];
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "second.pth" : "clip_alpha.pth");
        if (run("embed", "-m", path, "-i", IMAGE, "-o", scratch("side%zu.jsonl", i), NULL)) fail_msg("%s", said.err);
        char *text = bytes_at(scratch("side%zu.jsonl", i), &n);
        snprintf(hash[i], sizeof hash[i], "%.1990s", text);
        mem_free(text);
    }
    assert_string_not_equal(hash[0], hash[1]);
}

static int end(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unread_weights),
        cmocka_unit_test(test_logit_scale),
        cmocka_unit_test(test_sections_that_contradict),
        cmocka_unit_test(test_size_of_maskinv),
        cmocka_unit_test(test_wrapped_names),
        cmocka_unit_test(test_ways_of_texts),
        cmocka_unit_test(test_settings_of_pixels),
        cmocka_unit_test(test_two_overlays),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
