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
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
