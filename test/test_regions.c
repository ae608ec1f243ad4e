/* test_regions.c - what each method shows to the network, and the vectors that come out. */
#include "regions/regions.h"
#include "masks/reading.h"
#include "methods.h"
#include "x_cli.h"
#include "x_fixture.h"
#include "x_seeded.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

static const real MEAN[3] = {(real)0.25, (real)0.5, (real)0.75};

/* ---- masks ------------------------------------------------------------------------------------------ */
static void boxes(void **state) {
    (void)state;
    real soft[4 * 5] = {0};
    mask_image m = {5, 4, soft};
    double box[4];
    soft[1 * 5 + 2] = 1, soft[2 * 5 + 3] = 0.5f, soft[3 * 5 + 0] = 0.49f;
    mask_box(&m, box);
    double expected[4] = {2 / 5.0, 1 / 4.0, 4 / 5.0, 3 / 4.0};
    for (size_t i = 0; i < 4; i++) assert_true(fabs(box[i] - expected[i]) < 1e-12);
    memset(soft, 0, sizeof soft);
    soft[3 * 5 + 4] = 0.1f; /* nothing reaches one half */
    mask_box(&m, box);
    double corner[4] = {4 / 5.0, 3 / 4.0, 1, 1};
    for (size_t i = 0; i < 4; i++) assert_true(fabs(box[i] - corner[i]) < 1e-12);
}

static void cells_are_means(void **state) {
    (void)state;
    /* 3 pixels wide into 2 cells: the middle pixel belongs half to each */
    real soft[3] = {1, 0.5f, 0};
    mask_image m = {3, 1, soft};
    double cells[4];
    mask_cells(&m, 1, 2, cells);
    assert_true(fabs(cells[0] - (1 + 0.25) / 1.5) < 1e-12 && fabs(cells[1] - 0.25 / 1.5) < 1e-12);
    mask_cells(&m, 2, 1, cells); /* larger than the mask's one row */
    assert_true(fabs(cells[0] - 0.5) < 1e-12 && fabs(cells[1] - 0.5) < 1e-12);
    real noise[7 * 11];
    uint64_t s = 3;
    real normal[7 * 11];
    seeded_normal(&s, normal, 7 * 11);
    double all = 0, again = 0, grid[3 * 4];
    for (size_t i = 0; i < 77; i++) noise[i] = (real)fabs((double)normal[i]), all += (double)noise[i];
    mask_image n = {11, 7, noise};
    mask_cells(&n, 3, 4, grid);
    for (size_t i = 0; i < 12; i++) again += grid[i] * 77 / 12;
    assert_true(fabs(all - again) < 1e-9 * all);
}

/* ---- what the network sees ---------------------------------------------------------------------------- */
enum { SIDE = 32 };
static picture noise_picture(size_t side) {
    picture p;
    err e;
    assert_true(picture_new(side, side, &p, &e));
    for (size_t i = 0; i < side * side * 3; i++) p.rgb[i] = (unsigned char)((i * 2654435761u) >> 13);
    return p;
}

/* A mask that is 1 in the box [8,20) x [4,28). */
static mask_image box_mask(real *soft) {
    memset(soft, 0, SIDE * SIDE * sizeof *soft);
    for (size_t y = 4; y < 28; y++)
        for (size_t x = 8; x < 20; x++) soft[y * SIDE + x] = 1;
    return (mask_image){SIDE, SIDE, soft};
}
static bool inside(size_t i) { return i % SIDE >= 8 && i % SIDE < 20 && i / SIDE >= 4 && i / SIDE < 28; }

static picture seen_by(const char *name, const picture *photo, const mask_image *m, size_t side) {
    picture out;
    err e = {0};
    if (!region_picture(region_method_find(name), photo, m, side, MEAN, &out, &e)) fail_msg("%s", e.text);
    assert_int_equal(out.width, side);
    assert_int_equal(out.height, side);
    return out;
}

static void cls_and_crop(void **state) {
    (void)state;
    real soft[SIDE * SIDE];
    mask_image m = box_mask(soft);
    picture photo = noise_picture(SIDE), whole = seen_by("cls", &photo, &m, SIDE);
    assert_memory_equal(whole.rgb, photo.rgb, SIDE * SIDE * 3);
    /* the box by itself, resized as any picture is */
    picture part, expected;
    err e;
    assert_true(picture_new(12, 24, &part, &e));
    for (size_t y = 0; y < 24; y++) memcpy(part.rgb + y * 36, photo.rgb + ((y + 4) * SIDE + 8) * 3, 36);
    assert_true(picture_resize(&part, 16, 16, &expected, &e));
    picture crop = seen_by("crop", &photo, &m, 16);
    assert_memory_equal(crop.rgb, expected.rgb, 16 * 16 * 3);
    picture_free(&photo), picture_free(&whole), picture_free(&part), picture_free(&expected), picture_free(&crop);
}

static void masked_crop(void **state) {
    (void)state;
    real soft[SIDE * SIDE];
    mask_image m = box_mask(soft);
    picture photo = noise_picture(SIDE);
    m.soft[10 * SIDE + 10] = 0;              /* a hole */
    for (size_t i = 0; i < SIDE * SIDE; i++) /* all of the photograph is black */
        memset(photo.rgb + 3 * i, 0, 3);
    picture seen = seen_by("maskedcrop", &photo, &m, 24);
    /* the hole at (2, 6) of 12 x 24 lies at (4..5, 6) of 24 x 24 and shows the mean colour */
    size_t most = 0;
    for (size_t i = 0; i < 24 * 24; i++)
        if (seen.rgb[3 * i + 2] > seen.rgb[3 * most + 2]) most = i;
    assert_int_equal(most / 24, 6);
    assert_true(most % 24 == 4 || most % 24 == 5);
    double ratio = (double)seen.rgb[3 * most] / (double)seen.rgb[3 * most + 2];
    assert_true(fabs(ratio - 1.0 / 3) < 0.02); /* .25 to .75 */
    picture_free(&photo), picture_free(&seen);
}

static void red_circle(void **state) {
    (void)state;
    real soft[SIDE * SIDE];
    mask_image m = box_mask(soft);
    picture photo = noise_picture(SIDE), seen = seen_by("redcircle", &photo, &m, SIDE);
    /* the ellipse's four ends: centre (14, 16), axes 6 and 12 */
    size_t ends[4] = {16 * SIDE + 8, 16 * SIDE + 19, 4 * SIDE + 14, 27 * SIDE + 13};
    for (size_t i = 0; i < 4; i++) {
        const unsigned char *v = seen.rgb + 3 * ends[i], *was = photo.rgb + 3 * ends[i];
        assert_true(v[0] >= was[0] && 2 * v[1] <= was[1] + 2 && 2 * v[2] <= was[2] + 2);
    }
    size_t changed = 0;
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        double x = ((double)(i % SIDE) + .5 - 14) / 6, y = ((double)(i / SIDE) + .5 - 16) / 12, f = hypot(x, y);
        bool same = !memcmp(photo.rgb + 3 * i, seen.rgb + 3 * i, 3);
        if (f < 0.7 || f > 1.35) assert_true(same);
        changed += !same;
    }
    assert_in_range(changed, 40, 140); /* the circumference is 58, the line 1 wide with soft edges */
    picture_free(&photo), picture_free(&seen);
}

static void surroundings(void **state) {
    (void)state;
    real soft[SIDE * SIDE];
    mask_image m = box_mask(soft);
    picture photo = noise_picture(SIDE), blur = seen_by("blur", &photo, &m, SIDE),
            grey = seen_by("greyscale", &photo, &m, SIDE);
    double spread[2] = {0, 0};
    for (size_t i = 0; i < SIDE * SIDE; i++) {
        const unsigned char *p = photo.rgb + 3 * i, *b = blur.rgb + 3 * i, *g = grey.rgb + 3 * i;
        if (inside(i)) {
            assert_memory_equal(p, b, 3);
            assert_memory_equal(p, g, 3);
            continue;
        }
        assert_true(g[0] == g[1] && g[1] == g[2]);
        assert_true(fabs(g[0] - (0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2])) <= 0.5001);
        spread[0] += fabs(p[0] - 127.5), spread[1] += fabs(b[0] - 127.5);
    }
    assert_true(spread[1] < 0.2 * spread[0]);
    picture_free(&photo), picture_free(&blur), picture_free(&grey);
}

/* A white line in the middle of black becomes a bell with the deviation asked for. */
static void blur_has_its_deviation(void **state) {
    (void)state;
    const double deviations[] = {1.5, 4, 9.3};
    for (size_t d = 0; d < 3; d++) {
        picture p;
        err e;
        double sum = 0, square = 0;
        assert_true(picture_new(121, 1, &p, &e));
        for (size_t c = 0; c < 3; c++) p.rgb[3 * 60 + c] = 255;
        for (size_t i = 58; i < 63; i++) memset(p.rgb + 3 * i, 255, 3); /* 5 wide: rounding weighs less */
        assert_true(picture_blur(&p, deviations[d], &e));
        for (size_t i = 0; i < 121; i++) {
            double x = (double)i - 60;
            sum += p.rgb[3 * i], square += p.rgb[3 * i] * x * x;
        }
        double found = sqrt(square / sum - 2); /* less the line's own: (25 - 1)/12 */
        if (!(fabs(found - deviations[d]) < 0.06 * deviations[d] + 0.05))
            fail_msg("deviation %g, found %g", deviations[d], found);
        memset(p.rgb, 77, 3 * 121); /* a plain picture stays as it is */
        assert_true(picture_blur(&p, 36, &e));
        for (size_t i = 0; i < 3 * 121; i++) assert_int_equal(p.rgb[i], 77);
        picture_free(&p);
    }
}

/* ---- vectors -------------------------------------------------------------------------------------------- */
typedef struct {
    seeded_model s;
    arena memory;
    void *room;
} model;
enum { ROOM = 1 << 26, E = 24 };

static void model_open(model *m) {
    assert_true(seeded_make(&m->s, seeded_config(SIDE, 8, 32, 3, 4, E), CLIP_F32, 11));
    m->room = mem_reserve(ROOM);
    assert_non_null(m->room);
    arena_init(&m->memory, m->room, ROOM);
}
static void model_close(model *m) {
    seeded_free(&m->s);
    mem_release(m->room, ROOM);
}

static void embed(model *m, const char *name, size_t side, const picture *photo, const mask_image *masks, size_t count,
                  real *out) {
    err e = {0};
    region_settings o = {.side = side};
    size_t before = arena_mark(&m->memory);
    if (!regions_embed(region_method_find(name), &o, &m->s.model, photo, masks, count, &m->memory, NULL, out, &e))
        fail_msg("%s: %s", name, e.text);
    assert_int_equal(arena_mark(&m->memory), before);
}

/* Each picture method: the vector is the network's of the picture that it shows; many at once are as one by one. */
static void pictures_embedded(void **state) {
    (void)state;
    model m;
    enum { MASKS = 11 }; /* more than a batch */
    static real soft[MASKS][SIDE * SIDE];
    mask_image masks[MASKS];
    picture photo = noise_picture(SIDE);
    model_open(&m);
    for (size_t i = 0; i < MASKS; i++) {
        masks[i] = box_mask(soft[i]);
        for (size_t x = 0; x < SIDE; x++) soft[i][(2 * i + 3) * SIDE + x] = 1;
    }
    for (size_t k = 0; k < region_method_count(); k++) {
        const region_method *how = region_method_at(k);
        if (how->alpha) continue; /* not this model's */
        real all[MASKS * E], one[E], direct[E];
        if (how->family != REGION_PICTURE || how->alpha) continue;
        embed(&m, how->name, SIDE, &photo, masks, MASKS, all);
        for (size_t i = 0; i < MASKS; i++) {
            embed(&m, how->name, SIDE, &photo, &masks[i], 1, one);
            assert_close(all + i * E, one, E, BY_BUILD(1e-5, 1e-12));
        }
        picture seen = seen_by(how->name, &photo, &masks[3], SIDE);
        if (!strcmp(how->name, "maskedcrop")) {
            picture_free(&seen);
            continue;
        } /* MEAN is not the model's */
        embed(&m, "cls", SIDE, &seen, &masks[0], 1, direct);
        assert_close(all + 3 * E, direct, E, BY_BUILD(1e-5, 1e-12));
        assert_true((worst(all, all + 3 * E, E) > 1e-3) == how->masked);
        picture_free(&seen);
    }
    picture_free(&photo);
    model_close(&m);
}

/* RIS: a mask of everything leaves every token as it is, and its crop is the picture; another mask changes it. */
static void ris_of_everything(void **state) {
    (void)state;
    model m;
    real soft[SIDE * SIDE], part[SIDE * SIDE], whole[E], all[E], some[E];
    mask_image mask = {SIDE, SIDE, soft}, box = box_mask(part);
    picture photo = noise_picture(SIDE);
    model_open(&m);
    for (size_t i = 0; i < SIDE * SIDE; i++) soft[i] = 1;
    embed(&m, "cls", SIDE, &photo, &mask, 1, whole);
    embed(&m, "ris", SIDE, &photo, &mask, 1, all);
    assert_close(all, whole, E, BY_BUILD(1e-5, 1e-12));
    embed(&m, "ris", SIDE, &photo, &box, 1, some);
    assert_far(some, whole, E, 1e-2);
    picture_free(&photo);
    model_close(&m);
}

/* A pooled vector times a text is the mean of the explainer's own cosines in the mask. */
static void tokens_averaged(void **state) {
    (void)state;
    model m;
    real soft[SIDE * SIDE], v[E];
    mask_image mask = box_mask(soft);
    picture photo = noise_picture(SIDE);
    err e = {0};
    fault f = {0};
    explainer x;
    real text[E], grid[16];
    double cells[16], mean = 0, all = 0, product = 0, length = 0;
    uint64_t seed = 5;
    model_open(&m);
    const clip_config *c = &m.s.model.config;
    seeded_normal(&seed, text, E);
    for (size_t i = 0; i < E; i++) length += (double)text[i] * (double)text[i];
    for (size_t i = 0; i < E; i++) text[i] = (real)((double)text[i] / sqrt(length));
    real *pixels = pixels_squash(&photo, SIDE, c->mean, c->std, &e);
    assert_true(method_open(&x, method_find("maskclip"), &m.s.model, pixels, SIDE, SIDE, NULL, &m.memory, NULL, &f));
    assert_true(method_grids(&x, text, 1, NULL, grid, &f));
    mask_cells(&mask, 4, 4, cells);
    for (size_t i = 0; i < 16; i++) mean += cells[i] * (double)grid[i], all += cells[i];
    embed(&m, "pool", SIDE, &photo, &mask, 1, v);
    for (size_t i = 0; i < E; i++) product += (double)v[i] * (double)text[i];
    if (!(fabs(product - mean / all) < 1e-5)) fail_msg("%g found, %g expected", product, mean / all);
    real surgery[E];
    embed(&m, "surgery", SIDE, &photo, &mask, 1, surgery);
    assert_true(worst(surgery, v, E) > 1e-3);
    mem_free(pixels);
    picture_free(&photo);
    model_close(&m);
}

/* ---- the command ------------------------------------------------------------------------------------------ */
/* Against the numbers of a program of its own, in PyTorch: mask0 and mask1 on image.png by the smallest checkpoint. */
static void ris_of_another_program(void **state) {
    (void)state;
    static const real expected[2][24] = {
#include "data/ris.h"
    };
    err e = {0};
    checkpoint *c = checkpoint_open(DATA "nano-hf-f32", &e);
    picture photo;
    arena memory;
    void *room = mem_reserve(ROOM);
    assert_true(c && room && picture_read(IMAGE, &photo, &e));
    arena_init(&memory, room, ROOM);
    for (size_t i = 0; i < 2; i++) {
        mask_image mask;
        real out[24];
        region_settings o = {.side = 2 * checkpoint_model(c)->config.image};
        assert_true(mask_read(i ? MASK1 : MASK0, &mask, &e));
        assert_true(regions_embed(region_method_find("ris"), &o, checkpoint_model(c), &photo, &mask, 1, &memory, NULL, out, &e));
        assert_close(out, expected[i], 24, BY_BUILD(1e-5, 5e-7));
        mask_free(&mask);
    }
    picture_free(&photo);
    checkpoint_free(c);
    mem_release(room, ROOM);
}

static void command_writes(void **state) {
    (void)state;
    const char *path = model_with_merges("nano-openclip-f16");
    for (size_t k = 0; k < region_method_count(); k++) {
        const region_method *how = region_method_at(k);
        if (how->alpha) continue; /* not this model's */
        char out[256], file[300];
        snprintf(out, sizeof out, "%s", scratch("regions-%s", how->name));
        if (run("regions", "--method", how->name, "-m", path, "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-t", "a cat",
                "-t", "keys", "-o", out, NULL))
            fail_msg("%s: %s", how->name, said.err);
        assert_non_null(strstr(said.out, "a cat"));
        snprintf(file, sizeof file, "%s/embeddings.npy", out);
        npy_array a = array_at(file);
        assert_int_equal(a.rank, 2);
        assert_int_equal(a.shape[0], 2);
        for (size_t i = 0; i < a.shape[0] * a.shape[1]; i++) assert_true(isfinite(a.data[i]));
        assert_true((worst(a.data, a.data + a.shape[1], a.shape[1]) > 1e-4) == how->masked);
        npy_free(&a);
        assert_int_equal(count_files(out, ".seen.png"), how->family == REGION_PICTURE && how->masked ? 2 : 0);
        assert_int_equal(count_files(out, ".map.npy"), how->family == REGION_INVERT ? 2 : 0);
        snprintf(file, sizeof file, "%s/result.json", out);
        assert_true(file_exists(file));
    }
    char inverted[256];
    snprintf(inverted, sizeof inverted, "%s", scratch("inverted"));
    assert_int_equal(run("invert", "-m", path, "-i", IMAGE, "-k", MASK0, "-k", MASK1, "-o", inverted, NULL), 0);
    char a[300], b[300];
    snprintf(a, sizeof a, "%s/embeddings.npy", inverted);
    snprintf(b, sizeof b, "%s", scratch("regions-maskinv/embeddings.npy"));
    assert_true(same_files(a, b));
}

static void command_refuses(void **state) {
    (void)state;
    const char *path = model_with_merges("nano-openclip-f16");
    assert_int_equal(run("regions", "--method", "guess", "-m", path, "-i", IMAGE, "-k", MASK0, NULL), 2);
    assert_non_null(strstr(said.err, "'guess'"));
    assert_int_equal(run("regions", "-m", path, "-i", IMAGE, "-k", MASK0, NULL), 2);
    assert_non_null(strstr(said.err, "--method"));
    assert_int_equal(
        run("regions", "--method", "surgery", "--blocks", "99", "-m", path, "-i", IMAGE, "-k", MASK0, NULL), 1);
    assert_non_null(strstr(said.err, "--blocks: 99"));
    assert_int_equal(run("regions", "--method", "crop", "-m", path, "-i", IMAGE, "-k", "missing.png", NULL), 1);
    assert_non_null(strstr(said.err, "missing.png"));
    assert_int_equal(run("regions", "--method", "crop", "--size", "33", "-m", path, "-i", IMAGE, "-k", MASK0, NULL), 1);
    assert_non_null(strstr(said.err, "--size"));
}

static int cleanup(void **state) {
    (void)state;
    scratch_remove();
    return 0;
}

int main(void) {
    mem_hook_cjson();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes),
        cmocka_unit_test(cells_are_means),
        cmocka_unit_test(cls_and_crop),
        cmocka_unit_test(masked_crop),
        cmocka_unit_test(red_circle),
        cmocka_unit_test(surroundings),
        cmocka_unit_test(blur_has_its_deviation),
        cmocka_unit_test(pictures_embedded),
        cmocka_unit_test(tokens_averaged),
        cmocka_unit_test(ris_of_everything),
        cmocka_unit_test(ris_of_another_program),
        cmocka_unit_test(command_writes),
        cmocka_unit_test(command_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, cleanup);
}
