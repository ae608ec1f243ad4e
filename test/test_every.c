/* test_every.c - every family through the command line: `info` says what it is, and embed, explain, invert and regions work on
 * it, or say by name what they have not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "face/face.h"
#include "files/json.h"
#include "methods.h"
#include "x_cli.h"
#include "x_seeded.h"
#include "x_speed.h"

#define LEARNED "attention pool, asked by a learned query, "
#define CELLS "attention pool, asked by the mean of the cells, 2 heads"

/* Its folder or file in test/data/checkpoints; what `info` says of its family, blocks, pooling and what was not read (NULL:
 * nothing is left out); and why methods have no map of it. */
static const struct { const char *model, *family, *vision, *pooling, *note, *none; } ROWS[] = {
    {"siglip-hf", "SigLIP", "2 blocks", LEARNED "2 heads, mlp 72", NULL, "no map of SigLIP"},
    {"siglip2-hf-sharded", "SigLIP", "2 blocks", LEARNED "2 heads, mlp 72", NULL, "no map of SigLIP"},
    {"siglip-openclip", "SigLIP", "2 blocks", LEARNED "2 heads, mlp 128", NULL, "no map of SigLIP"},
    {"siglip-bigvision-npz", "SigLIP", "2 blocks", LEARNED "2 heads, mlp 72", NULL, "no map of SigLIP"},
    {"coca-openclip-bin", "CoCa, with its caption decoder", "2 blocks",
     "attention pool, asked by learned queries (9, the first is the image), 4 heads", NULL, "no map of CoCa"},
    {"eva02-openclip", "EVA02-CLIP", "3 blocks", "class token; rotary positions", NULL, NULL},
    {"eva02-original-pt", "EVA02-CLIP", "3 blocks", "class token; rotary positions", NULL, NULL},
    {"eva01-openclip", "EVA-CLIP", "2 blocks", "class token", NULL, NULL},
    {"eva02e-openclip", "EVA02-CLIP enormous", "2 blocks", "class token", NULL, NULL},
    {"clipa-openclip", "CLIPA", "3 blocks", "mean of patches", NULL, NULL},
    {"resnet-openclip", "CLIP with a ResNet", "ResNet of 5 blocks (2, 1, 1, 1)", CELLS, NULL, "no map of a ResNet"},
    {"resnet-openai-torchscript", "CLIP with a ResNet", "ResNet of 5 blocks (2, 1, 1, 1)", CELLS, NULL, "no map of a ResNet"},
    {"vit-openai-torchscript", "CLIP", "1 blocks", "class token", NULL, "no map of a model of one block"},
    {"longclip-pt", "Long-CLIP", "1 blocks", "class token", NULL, "no map of a model of one block"},
    {"alphaclip-pth", "AlphaCLIP", "1 blocks", "class token", NULL, "no map of a model of one block"},
    {"openclip-train-pt", "CLIP", "3 blocks", "class token", "\"optimizer\" beside state_dict: not the weights", NULL},
    {"clip-hf-bin", "CLIP", "3 blocks", "class token", NULL, NULL},
    {"metaclip2-hf", "CLIP, text read at its end mark", "3 blocks", "class token", NULL, NULL},
    {"layerscale-openclip", "CLIP", "3 blocks", "class token", NULL, NULL},
    {"timm-vit-openclip", "CLIP with timm's ViT", "3 blocks", "class token", NULL, NULL},
    {"pe-core-openclip", "PE-Core", "3 blocks", LEARNED "8 heads, mlp 128; rotary positions", NULL, "no map of PE-Core"},
    {"clip-gguf/tiny_ggml-model-q8_0.gguf", "CLIP", "1 blocks", "class token", "logit_scale: not in the file",
     "no map of a model of one block"},
};
enum { MODELS = sizeof ROWS / sizeof *ROWS };

static const char *model_of(size_t row) {
    static char path[300];
    snprintf(path, sizeof path, DATA "checkpoints/%s", ROWS[row].model);
    return path;
}

/* The line of `info` that begins so holds `what`, to its end where `all`. */
static void says(size_t row, const char *key, const char *what, bool all) {
    char line[300];
    snprintf(line, sizeof line, "\n%-10s %s%s", key, what, all ? "\n" : "");
    if (!strstr(said.out, line)) fail_msg("%s: no line '%s' in\n%s", ROWS[row].model, line + 1, said.out);
}

static void info_names_everything(void **state) {
    for (size_t i = 0; i < MODELS; i++) {
        assert_int_equal(run("info", "-m", model_of(i), NULL), 0);
        says(i, "family", ROWS[i].family, true);
        says(i, "vision", ROWS[i].vision, false);
        says(i, "pooling", ROWS[i].pooling, true);
        if (ROWS[i].note) assert_non_null(strstr(said.out, ROWS[i].note));
        static const char beside[] = "\nnote       beside it, not read: expected.safetensors\n";
        const char *note = strstr(said.out, "\nnote");
        if (!ROWS[i].note && note && (strncmp(note, beside, sizeof beside - 1) || strstr(note + 1, "\nnote"))) fail_msg("%s: %s", ROWS[i].model, note);
    }
    (void)state;
}

/* Two rows, so that Surgery needs no empty text: the picture's embedding, and it backwards. */
static const char *two_rows(size_t row) {
    static char path[300];
    if (run("embed", "-m", model_of(row), "-i", IMAGE, "-o", scratch("z.npy"), NULL)) fail_msg("%s", said.err);
    npy_array z = array_at(scratch("z.npy"));
    size_t E = z.shape[z.rank - 1];
    real *rows = malloc(2 * E * sizeof *rows);
    err e = {0};
    assert_non_null(rows);
    for (size_t k = 0; k < E; k++) rows[k] = z.data[k] + (k % 3 ? 0.01f : -0.02f), rows[E + k] = z.data[E - 1 - k];
    snprintf(path, sizeof path, "%s", scratch("rows.npy"));
    if (!npy_write(path, rows, (size_t[]){2, E}, 2, &e)) fail_msg("%s", e.text);
    free(rows);
    npy_free(&z);
    return path;
}

/* --method all ends well, says which methods have no map and why, and each of these alone is refused in the same words. */
static void explainers_work_or_say_why(void **state) {
    for (size_t i = 0; i < MODELS; i++) {
        const char *rows = two_rows(i);
        if (run("explain", "-m", model_of(i), "-i", IMAGE, "-e", rows, "--method", "all", "-o", scratch("all"), NULL))
            fail_msg("%s: %s", ROWS[i].model, said.err);
        const char *none = strstr(said.err, "no map of");
        assert_true((none != NULL) == (ROWS[i].none != NULL));
        if (none && strncmp(none, ROWS[i].none, strlen(ROWS[i].none))) fail_msg("%s: %s", ROWS[i].model, said.err);
        char all[1 << 12];
        snprintf(all, sizeof all, "%.4000s", said.err);
        for (size_t k = 0; k < method_count(); k++) {
            const char *name = method_at(k)->name;
            char map[60];
            snprintf(map, sizeof map, "%s.0.map.npy", name);
            if (count_files(scratch("all"), map)) {
                npy_array a = array_at(scratch("all/%s", map));
                assert_true(a.rank == 2 && a.shape[0] == a.shape[1]);
                for (size_t p = 0; p < a.shape[0] * a.shape[0]; p++) assert_true(a.data[p] >= 0 && a.data[p] <= 1);
                npy_free(&a);
            } else if (!strstr(all, name)) {
                fail_msg("%s: %s has no map, and nothing said so: %s", ROWS[i].model, name, all);
            } else if (none && k % 3 == 0) { /* some of them, alone */
                int code = run("explain", "-m", model_of(i), "-i", IMAGE, "-e", rows, "--method", name, "-o", scratch("one"), NULL);
                assert_int_equal(code, 1);
                assert_true(strstr(said.err, name) && (strstr(said.err, ROWS[i].none) || strstr(said.err, "the same everywhere")));
            }
        }
        scratch_remove();
    }
    (void)state;
}

static void inversions_work(void **state) {
    for (size_t i = 0; i < MODELS; i++)
        for (size_t k = 0; k < 2; k++) {
            const char *how = k ? "chefer" : "legrad";
            if (run("invert", "-m", model_of(i), "-i", IMAGE, "-k", MASK0, "--iters", "2", "--explainer", how, "-o", scratch("inverted"), NULL))
                fail_msg("%s, %s: %s", ROWS[i].model, how, said.err);
            assert_int_equal(count_files(scratch("inverted"), "embeddings.npy"), 1);
            scratch_remove();
        }
    (void)state;
}

/* Region methods that read tokens, pictures, or the map. */
static void regions_work_or_say_why(void **state) {
    static const char *const names[] = {"pool", "surgery", "crop", "ris", "maskinv"};
    for (size_t i = 0; i < MODELS; i++)
        for (size_t k = 0; k < 5; k++) {
            bool resnet = strstr(ROWS[i].family, "ResNet") != NULL, pooler = strstr(ROWS[i].pooling, "attention pool") && !resnet;
            bool none = k < 2 ? pooler : k == 3 ? resnet : false;
            int code = run("regions", "-m", model_of(i), "-i", IMAGE, "-k", MASK0, "--method", names[k], "-o", scratch("region"), NULL);
            if (code != (none ? 1 : 0)) fail_msg("%s, %s: %d, %s", ROWS[i].model, names[k], code, said.err);
            if (none && !strstr(said.err, resnet ? "a ResNet" : "no map of")) fail_msg("%s", said.err);
            scratch_remove();
        }
    (void)state;
}

/* SigLIP's inversion as the library gives it: E numbers, which free() gives back. */
static float *face_inverts(const char *model, size_t *E) {
    mi_model *m = mi_open(model);
    mi_image photo = {0};
    mi_mask mask = {0};
    if (!m || !mi_image_read(IMAGE, &photo) || !mi_mask_read(MASK0, &mask)) fail_msg("%s", mi_error());
    *E = mi_embed_size(m);
    float *e = malloc(*E * sizeof *e);
    if (!mi_invert(m, &photo, &mask, 1, NULL, &(mi_invert_result){.embeddings = e})) fail_msg("%s", mi_error());
    mi_mask_free(&mask), mi_image_free(&photo), mi_close(m);
    return e;
}

/* SigLIP's correction by "a photo of a" (MODEL.md 4.20) is in every door: invert, regions and the library give the
 * same bytes; and it is what makes them: without the tokenizer, which a warning names, they are others. */
static void siglip_is_corrected_everywhere(void **state) {
    static const char *const kept[] = {"config.json", "model.safetensors", "preprocessor_config.json"};
    const char *from = DATA "checkpoints/siglip-hf";
    size_t E;
    err e = {0};
    assert_int_equal(run("invert", "-m", from, "-i", IMAGE, "-k", MASK0, "-o", scratch("i"), NULL), 0);
    assert_int_equal(run("regions", "-m", from, "-i", IMAGE, "-k", MASK0, "--method", "maskinv", "-o", scratch("r"), NULL), 0);
    npy_array i = array_at(scratch("i/embeddings.npy")), r = array_at(scratch("r/embeddings.npy"));
    float *library = face_inverts(from, &E);
    assert_int_equal(i.shape[1], E);
    assert_memory_equal(i.data, r.data, E * sizeof *library);
    assert_memory_equal(i.data, library, E * sizeof *library);
    assert_true(folder_make(scratch("wordless"), &e));
    for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
        char path[400];
        size_t length;
        snprintf(path, sizeof path, "%s/%s", from, kept[k]);
        char *bytes = bytes_at(path, &length);
        put_bytes(scratch("wordless/%s", kept[k]), bytes, length);
        mem_free(bytes);
    }
    assert_int_equal(run("invert", "-m", scratch("wordless"), "-i", IMAGE, "-k", MASK0, "-o", scratch("w"), NULL), 0);
    assert_non_null(strstr(said.err, "correction"));
    npy_array w = array_at(scratch("w/embeddings.npy"));
    assert_memory_not_equal(w.data, library, E * sizeof *library);
    float *plain = face_inverts(scratch("wordless"), &E);
    assert_memory_equal(w.data, plain, E * sizeof *plain);
    free(library), free(plain);
    npy_free(&i), npy_free(&r), npy_free(&w);
    scratch_remove();
    (void)state;
}

/* A text tower that is not read (XLM-RoBERTa, NLLB...), as its configs are published: pictures work, texts are refused by name. */
static void another_text_tower_leaves_pictures(void **state) {
    static const char *const towers[] = {
        "{\"hf_model_name\":\"xlm-roberta-base\",\"hf_tokenizer_name\":\"xlm-roberta-base\",\"proj\":\"mlp\",\"pooler_type\":\"mean_pooler\"}",
        "{\"hf_model_name\":\"facebook/nllb-200-distilled-600M\",\"hf_tokenizer_name\":\"facebook/nllb-200-distilled-600M\","
        "\"hf_proj_type\":\"linear\",\"hf_pooler_type\":\"cls_pooler\"}"};
    const char *from = DATA "checkpoints/timm-vit-openclip";
    for (size_t i = 0; i < 2; i++) {
        char path[400], rows[300];
        size_t length;
        err e = {0};
        assert_true(folder_make(scratch("tower"), &e));
        snprintf(path, sizeof path, "%s/open_clip_model.safetensors", from);
        char *bytes = bytes_at(path, &length);
        put_bytes(scratch("tower/open_clip_model.safetensors"), bytes, length);
        mem_free(bytes);
        snprintf(path, sizeof path, "%s/open_clip_config.json", from);
        bytes = bytes_at(path, &length);
        cJSON *config = json_parse(bytes, length, path, &e);
        mem_free(bytes);
        assert_non_null(config);
        cJSON_ReplaceItemInObject(cJSON_GetObjectItem(config, "model_cfg"), "text_cfg", cJSON_Parse(towers[i]));
        char *text = cJSON_PrintUnformatted(config);
        put_bytes(scratch("tower/open_clip_config.json"), text, strlen(text));
        cJSON_free(text);
        json_free(config);
        assert_int_equal(run("info", "-m", scratch("tower"), NULL), 0);
        assert_non_null(strstr(said.out, "pictures only"));
        assert_non_null(strstr(said.out, "of the text side: not read"));
        assert_null(strstr(said.out, "logits"));
        assert_int_equal(run("embed", "-m", from, "-i", IMAGE, "-o", scratch("whole.npy"), NULL), 0);
        assert_int_equal(run("embed", "-m", scratch("tower"), "-i", IMAGE, "-o", scratch("alone.npy"), NULL), 0);
        assert_true(same_files(scratch("whole.npy"), scratch("alone.npy")));
        snprintf(rows, sizeof rows, "%s", scratch("alone.npy"));
        assert_int_equal(run("invert", "-m", scratch("tower"), "-i", IMAGE, "-k", MASK0, "--iters", "2", "-o", scratch("out"), NULL), 0);
        assert_int_equal(run("explain", "-m", scratch("tower"), "-i", IMAGE, "-e", rows, "--method", "naclip", "-o", scratch("out"), NULL), 0);
        assert_int_equal(run("explain", "-m", scratch("tower"), "-i", IMAGE, "-t", "a fish", "-o", scratch("out"), NULL), 1);
        assert_non_null(strstr(said.err, "no text side, or another network's that is not read: pictures only"));
        assert_int_equal(run("embed", "-m", scratch("tower"), "--ids", "1", "-o", scratch("ids.npy"), NULL), 1);
        assert_non_null(strstr(said.err, "--ids: the model has no text side"));
        scratch_remove();
    }
    (void)state;
}

/* A large vocabulary beside a small image side: a picture's embedding leaves it in the file, a text's does not. */
static void pictures_leave_the_text_side_alone(void **state) {
    enum { SIDE = 32, PICTURE_MOST = 12 << 20, TEXT_LEAST = 30 << 20 };
    clip_config config = seeded_config(SIDE, 8, 64, 2, 2, 32);
    config.vocab = 40000, config.text.width = 256, config.text.heads = 4, config.text.mlp = 1024; /* 40 MB of F32 */
    seeded_model made;
    err e = {0};
    fault f = {0};
    real pixels[3 * SIDE * SIDE], z[32];
    size_t before = own_memory("RssFile:");
    arena memory;
    void *room = mem_reserve((size_t)32 << 20);
    (void)state;
    if (!before) {
        mem_release(room, (size_t)32 << 20);
        return; /* no /proc */
    }
    arena_init(&memory, room, (size_t)32 << 20);
    for (size_t i = 0; i < 3 * SIDE * SIDE; i++) pixels[i] = (real)sin((double)i);
    assert_true(seeded_make(&made, config, CLIP_F32, 3));
    if (!folder_make(scratch("large"), &e) || !checkpoint_write(scratch("large"), &made.model, "F32", &e)) fail_msg("%s", e.text);
    seeded_free(&made);
    before = own_memory("RssFile:");
    checkpoint *c = checkpoint_open(scratch("large"), &e);
    if (!c) fail_msg("%s", e.text);
    assert_true(checkpoint_check_side(c, CHECK_IMAGE, &e));
    assert_true(clip_image_embed(checkpoint_model(c), pixels, NULL, SIDE, SIDE, &memory, NULL, z, &f));
    size_t pictured = own_memory("RssFile:");
    assert_true(checkpoint_check_side(c, CHECK_TEXT, &e));
    size_t text = own_memory("RssFile:");
    checkpoint_free(c);
    scratch_remove();
    mem_release(room, (size_t)32 << 20);
    if (pictured > before + PICTURE_MOST || text < before + TEXT_LEAST)
        fail_msg("%zu KB of the file read for a picture, %zu KB with texts", (pictured - before) >> 10, (text - before) >> 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_names_everything),
        cmocka_unit_test(explainers_work_or_say_why),
        cmocka_unit_test(inversions_work),
        cmocka_unit_test(regions_work_or_say_why),
        cmocka_unit_test(siglip_is_corrected_everywhere),
        cmocka_unit_test(another_text_tower_leaves_pictures),
        cmocka_unit_test(pictures_leave_the_text_side_alone),
    };
    return cmocka_run_group_tests_name("every family", tests, NULL, NULL);
}
