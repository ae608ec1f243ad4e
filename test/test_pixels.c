/* test_pixels.c - how pictures become pixels by the checkpoint's own files: what is obeyed (against Pillow's bytes, by
 * test/make_pixels.py) and what is refused by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "models/config.h"
#include "models/pixels.h"
#include "pictures/image.h"
#include "pictures/png.h"

static err e;

/* ---- against Pillow ------------------------------------------------------------------------------------ */
static const struct {
    size_t width, height;
    clip_pixels how;
    uint32_t crc;
} pillow[] = {
    {13, 9, {RESIZE_SHORTEST, 0, true, false, {0, 0, 0}}, 0x504216d0},
    {13, 9, {RESIZE_SHORTEST, 0, false, true, {0, 0, 0}}, 0x62296ce0},
    {13, 9, {RESIZE_SHORTEST, 11, false, false, {0, 0, 0}}, 0x52103508},
    {13, 9, {RESIZE_SHORTEST, 11, true, true, {0, 0, 0}}, 0x3a08dc32},
    {13, 9, {RESIZE_SQUASH, 0, true, false, {0, 0, 0}}, 0x21a98add},
    {13, 9, {RESIZE_SQUASH, 11, false, true, {0, 0, 0}}, 0xdc4f77f1},
    {13, 9, {RESIZE_LONGEST, 0, false, false, {1, 2, 250}}, 0x19b98c4f},
    {13, 9, {RESIZE_LONGEST, 0, true, false, {0, 0, 0}}, 0xfad6eeea},
    {13, 9, {RESIZE_NONE, 0, false, true, {0, 0, 0}}, 0xc4b24fb5},
    {9, 16, {RESIZE_SHORTEST, 0, true, false, {0, 0, 0}}, 0x1217f622},
    {9, 16, {RESIZE_SHORTEST, 0, false, true, {0, 0, 0}}, 0x33f67e19},
    {9, 16, {RESIZE_SHORTEST, 11, false, false, {0, 0, 0}}, 0xb7a4561a},
    {9, 16, {RESIZE_SHORTEST, 11, true, true, {0, 0, 0}}, 0x08494d80},
    {9, 16, {RESIZE_SQUASH, 0, true, false, {0, 0, 0}}, 0xac8c483f},
    {9, 16, {RESIZE_SQUASH, 11, false, true, {0, 0, 0}}, 0xe7332681},
    {9, 16, {RESIZE_LONGEST, 0, false, false, {1, 2, 250}}, 0x6d2ad5f4},
    {9, 16, {RESIZE_LONGEST, 0, true, false, {0, 0, 0}}, 0xd69967cb},
    {9, 16, {RESIZE_NONE, 0, false, true, {0, 0, 0}}, 0xce38a6c1},
    {40, 23, {RESIZE_SHORTEST, 0, true, false, {0, 0, 0}}, 0xe3395e76},
    {40, 23, {RESIZE_SHORTEST, 0, false, true, {0, 0, 0}}, 0x620569e5},
    {40, 23, {RESIZE_SHORTEST, 11, false, false, {0, 0, 0}}, 0x4ed2c6e5},
    {40, 23, {RESIZE_SHORTEST, 11, true, true, {0, 0, 0}}, 0xc65ae80b},
    {40, 23, {RESIZE_SQUASH, 0, true, false, {0, 0, 0}}, 0xf113fb98},
    {40, 23, {RESIZE_SQUASH, 11, false, true, {0, 0, 0}}, 0x5b34d5ac},
    {40, 23, {RESIZE_LONGEST, 0, false, false, {1, 2, 250}}, 0x24cda56a},
    {40, 23, {RESIZE_LONGEST, 0, true, false, {0, 0, 0}}, 0x1dc7e5be},
    {40, 23, {RESIZE_NONE, 0, false, true, {0, 0, 0}}, 0x43d25ac8},
    {8, 8, {RESIZE_SHORTEST, 0, true, false, {0, 0, 0}}, 0x7edfb72d},
    {8, 8, {RESIZE_SHORTEST, 0, false, true, {0, 0, 0}}, 0x7edfb72d},
    {8, 8, {RESIZE_SHORTEST, 11, false, false, {0, 0, 0}}, 0x229739cc},
    {8, 8, {RESIZE_SHORTEST, 11, true, true, {0, 0, 0}}, 0x1b0ee657},
    {8, 8, {RESIZE_SQUASH, 0, true, false, {0, 0, 0}}, 0x7edfb72d},
    {8, 8, {RESIZE_SQUASH, 11, false, true, {0, 0, 0}}, 0x097da372},
    {8, 8, {RESIZE_LONGEST, 0, false, false, {1, 2, 250}}, 0x7edfb72d},
    {8, 8, {RESIZE_LONGEST, 0, true, false, {0, 0, 0}}, 0x7edfb72d},
    {8, 8, {RESIZE_NONE, 0, false, true, {0, 0, 0}}, 0x7edfb72d},
};

static picture pattern(size_t w, size_t h) {
    picture p;
    assert_true(picture_new(w, h, &p, &e));
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            for (size_t c = 0; c < 3; c++)
                p.rgb[(y * w + x) * 3 + c] = (unsigned char)(x * 37 + y * 59 + c * 83 + x * y * (c + 1));
    return p;
}

/* The bytes that [3,8,8] pixels with mean 0 and std 1 came from, interleaved as a picture's. */
static uint32_t crc_of(const real *pixels) {
    unsigned char bytes[8 * 8 * 3];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)lrint((double)pixels[i % 3 * 64 + i / 3] * 255);
    return png_crc(0, bytes, sizeof bytes);
}

static void test_as_pillow(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof pillow / sizeof *pillow; i++) {
        clip_config c = {.image = 8, .std = {1, 1, 1}, .pixels = pillow[i].how};
        picture p = pattern(pillow[i].width, pillow[i].height);
        real *pixels = pixels_own(&p, 8, &c, &e);
        if (!pixels) fail_msg("row %zu: %s", i, e.text);
        if (crc_of(pixels) != pillow[i].crc)
            fail_msg("row %zu: %zux%zu gives other bytes than Pillow", i, p.width, p.height);
        mem_free(pixels);
        picture_free(&p);
    }
}

static void test_too_small_for_the_crop(void **state) {
    (void)state;
    clip_config c = {.image = 8, .std = {1, 1, 1}, .pixels = {.resize = RESIZE_NONE}};
    picture p = pattern(13, 7);
    assert_null(pixels_own(&p, 8, &c, &e));
    assert_non_null(strstr(e.text, "13x7 pixels cannot be cropped to 8"));
    picture_free(&p);
}

/* ---- the files' words -------------------------------------------------------------------------------------- */
static bool open_clip(const char *fields, clip_config *c) {
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},\"preprocess_cfg\":{%s}}", fields);
    return config_parse(text, strlen(text), "o.json", c, &e);
}

static bool hugging_face(const char *fields, clip_config *c) {
    char text[1024];
    static const char config[] = "{\"model_type\":\"clip\"}";
    if (!config_parse(config, strlen(config), "config.json", c, &e)) return false;
    snprintf(text, sizeof text, "{%s}", fields);
    return config_parse_preprocessor(text, strlen(text), "p.json", c, &e);
}

typedef struct {
    bool (*read)(const char *fields, clip_config *c);
    const char *fields, *says;
} words;

static const words obeyed[] = {
    {open_clip, "", "shorter side to 224, bicubic, centre crop"},
    {open_clip, "\"resize_mode\":\"squash\"", "squashed to 224, bicubic"},
    {open_clip, "\"resize_mode\":\"longest\",\"interpolation\":\"bilinear\",\"fill_color\":7",
     "longer side to 224, bilinear, the rest filled"},
    {open_clip, "\"interpolation\":\"random\",\"size\":224,\"mode\":\"RGB\"", "shorter side to 224, bicubic, centre crop"},
    {open_clip, "\"fill_color\":[1,2,3],\"size\":[224,224]", "shorter side to 224, bicubic, centre crop"},
    {hugging_face, "", "shorter side to 224, bicubic, centre crop"},
    {hugging_face, "\"resample\":2", "shorter side to 224, bilinear, centre crop"},
    {hugging_face, "\"size\":{\"height\":224,\"width\":224}", "squashed to 224, bicubic"},
    {hugging_face, "\"size\":{\"height\":224,\"width\":224},\"do_center_crop\":false", "squashed to 224, bicubic"},
    {hugging_face, "\"size\":224,\"image_processor_type\":\"SiglipImageProcessor\",\"resample\":2",
     "squashed to 224, bilinear"},
    {hugging_face, "\"size\":{\"shortest_edge\":256},\"crop_size\":{\"height\":224,\"width\":224}",
     "shorter side to 256, bicubic, centre crop"},
    {hugging_face, "\"size\":{\"height\":256,\"width\":256},\"crop_size\":224", "squashed to 256, bicubic, centre crop"},
    {hugging_face, "\"do_resize\":false,\"crop_size\":224", "not resized, of 224, centre crop"},
};

static void test_obeyed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof obeyed / sizeof *obeyed; i++) {
        clip_config c;
        char text[128];
        if (!obeyed[i].read(obeyed[i].fields, &c)) fail_msg("%s: %s", obeyed[i].fields, e.text);
        pixels_describe(&c, text, sizeof text);
        assert_string_equal(text, obeyed[i].says);
    }
}

static const words refused[] = {
    {open_clip, "\"resize_mode\":\"stretch\"", "o.json: preprocess_cfg.resize_mode is \"stretch\", which is not supported, "
                                               "expected shortest, squash or longest"},
    {open_clip, "\"interpolation\":\"nearest\"", "preprocess_cfg.interpolation is \"nearest\""},
    {open_clip, "\"mode\":\"L\"", "preprocess_cfg.mode is \"L\""},
    {open_clip, "\"size\":256", "preprocess_cfg.size is 256, expected vision_cfg.image_size, 224"},
    {open_clip, "\"size\":[224,256]", "preprocess_cfg.size is 256, expected vision_cfg.image_size, 224"},
    {open_clip, "\"fill_color\":256", "preprocess_cfg.fill_color is 256, expected 0 to 255, or three of that"},
    {open_clip, "\"some_step\":1", "preprocess_cfg.some_step is 1, which is not supported"},
    {hugging_face, "\"resample\":0", "p.json: resample is 0 (nearest), which is not supported, expected 2"},
    {hugging_face, "\"resample\":1", "resample is 1 (lanczos)"},
    {hugging_face, "\"size\":{\"shortest_edge\":224},\"do_center_crop\":false", "do_center_crop is false"},
    {hugging_face, "\"do_resize\":false,\"do_center_crop\":false", "do_resize and do_center_crop are both false"},
    {hugging_face, "\"size\":200,\"crop_size\":224", "size is 200, less than the 224"},
    {hugging_face, "\"size\":256,\"crop_size\":256", "crop_size is 256, expected the model's image size, 224"},
    {hugging_face, "\"size\":{\"longest_edge\":224}", "size.height is missing"},
    {hugging_face, "\"do_pad\":true", "do_pad is true, which is not supported"},
    {hugging_face, "\"do_normalize\":1", "do_normalize is 1, expected true or false"},
};

static void test_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        clip_config c;
        if (refused[i].read(refused[i].fields, &c)) fail_msg("%s: read", refused[i].fields);
        if (!strstr(e.text, refused[i].says)) fail_msg("%s: %s", refused[i].fields, e.text);
    }
}

/* do_normalize and do_rescale go into mean and std: a byte of 51 is 0.2, or 51 where nothing is rescaled. */
static void test_normalising_switched_off(void **state) {
    (void)state;
    static const struct {
        const char *fields;
        double of51;
    } cases[] = {
        {"\"do_normalize\":false,\"image_mean\":[0.5,0.5,0.5],\"image_std\":[0.5,0.5,0.5]", 0.2},
        {"\"do_normalize\":false,\"do_rescale\":false", 51},
        {"\"do_rescale\":false,\"image_mean\":[1,1,1],\"image_std\":[2,2,2]", 25},
        {"\"rescale_factor\":0.0078125,\"image_mean\":[0,0,0],\"image_std\":[1,1,1]", 51.0 / 128},
        {"\"rescale_factor\":0.00392156862745098,\"image_mean\":[0.2,0.2,0.2],\"image_std\":[1,1,1]", 0},
    };
    picture p;
    assert_true(picture_new(8, 8, &p, &e));
    memset(p.rgb, 51, 8 * 8 * 3);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clip_config c;
        if (!hugging_face(cases[i].fields, &c)) fail_msg("%s: %s", cases[i].fields, e.text);
        real *pixels = pixels_squash(&p, 8, c.mean, c.std, &e);
        assert_non_null(pixels);
        if (!(fabs((double)pixels[70] - cases[i].of51) <= 1e-5 * (1 + cases[i].of51)))
            fail_msg("%s: %g", cases[i].fields, (double)pixels[70]);
        mem_free(pixels);
    }
    picture_free(&p);
}

static void test_written_and_read_back(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof obeyed / sizeof *obeyed; i++) {
        clip_config c, back;
        char text[4096] = "", says[128];
        assert_true(obeyed[i].read(obeyed[i].fields, &c));
        c.act_text = c.act_vision;
        FILE *f = fmemopen(text, sizeof text, "w");
        assert_non_null(f);
        bool written = config_write(f, &c, NULL, &e);
        fclose(f);
        assert_true(written == (c.pixels.resize != RESIZE_NONE));
        if (!written) continue;
        if (!config_parse(text, strlen(text), "back.json", &back, &e)) fail_msg("%s", e.text);
        pixels_describe(&back, says, sizeof says);
        assert_string_equal(says, obeyed[i].says);
        assert_memory_equal(back.pixels.fill, c.pixels.fill, 3);
        assert_true(back.pixels.crop_down == c.pixels.crop_down);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_pillow),
        cmocka_unit_test(test_too_small_for_the_crop),
        cmocka_unit_test(test_obeyed),
        cmocka_unit_test(test_refused_by_name),
        cmocka_unit_test(test_normalising_switched_off),
        cmocka_unit_test(test_written_and_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
