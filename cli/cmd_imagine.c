/* cmd_imagine.c - maskinv imagine: each region as a small picture, the class token's beside MaskInversion's; or, over a set of
 * scenes, how often a judge finds the region's object in it.
 *
 * What is drawn comes from the embedding alone: 128 numbers of the built-in model, no pixel of the photograph.
 */
#include "cli/embedding.h"
#include "files/files.h"
#include "models/safetensors.h"
#include "parts/generator.h"
#include "parts/judge.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    region_options region;
    const char *generator, *method, *scenes, *judge, *nearest, *out, *export;
    size_t size, count, steps, seed;
    double guidance;
} options;

static const flag flags[] = {
    {"image", 'i', FLAG_TEXT, offsetof(options, region.image), "IMAGE", .help = "the photograph"},
    {"mask", 'k', FLAG_LIST, offsetof(options, region.masks), "MASK", .many = true, .help = "a region, as invert has it"},
    {"box", 0, FLAG_LIST, offsetof(options, region.boxes), "X,Y,W,H",
     .help = "a region: a rectangle, in pixels of the photograph"},
    {"labels", 0, FLAG_SWITCH, offsetof(options, region.labels), NULL,
     .help = "a region of every label in each mask file, but 0 and the border, 255"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "DIR", .help = "receives NAME.imagined.png for each region, and imagined.png"},
    {"export", 0, FLAG_TEXT, offsetof(options, export), "FILE",
     .help = "the embeddings for Kandinsky 2.2's decoder, as lambda-ECLIPSE's users load them: safetensors with image_embeds "
             "and negative_image_embeds; takes the CLIP that it was made for, OpenCLIP's ViT-bigG-14 (E 1280)"},
    {"generator", 0, FLAG_TEXT, offsetof(options, generator), "FILE",
     .help = "what train imagine made; not given: the generator inside this binary"},
    {"method", 0, FLAG_CHOICE, offsetof(options, method), REGION_EMBEDDERS, .help = "how a region is embedded; not given: maskinv"},
    {"steps", 0, FLAG_COUNT, offsetof(options, steps), "N", 1, 1000, .standard = "25",
     .help = "of the walk from noise; 1: the mean of all pictures that fit"},
    {"guidance", 0, FLAG_NUMBER, offsetof(options, guidance), "W", 0, 100, .standard = "2",
     .help = "how far beyond the unconditional picture; 1: not beyond"},
    {"seed", 0, FLAG_COUNT, offsetof(options, seed), "N", 0, 1e15, .standard = "1", .help = "of the noise"},
    {"scenes", 0, FLAG_TEXT, offsetof(options, scenes), "DIR",
     .help = "instead of --image: a set made by maskinv scenes; prints what --judge reads in the pictures"},
    {"judge", 0, FLAG_TEXT, offsetof(options, judge), "FILE", .help = "what train judge made"},
    {"nearest", 0, FLAG_TEXT, offsetof(options, nearest), "FILE",
     .help = "pictures.safetensors of train imagine: the seen picture with the nearest embedding instead of a drawn one"},
    {"count", 0, FLAG_COUNT, offsetof(options, count), "N", 1, 1e9, .help = "scenes of the set; not given: all"},
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 1, 16384,
     .help = "side of the squashed square, a multiple of the patch; not given: the model's image"},
    CLI_COMMON_FLAGS(options),
};

const command imagine_command = {
    "imagine",
    "a small picture for each region",
    flags,
    sizeof flags / sizeof *flags,
    sizeof(options),
    NULL,
    0,
    "The built-in generator draws things of the world that the built-in model knows, alone on grey, 32 pixels a side. No\n"
    "region and no whole: the picture of the whole photograph.",
    cmd_imagine,
};

typedef struct {
    cli c;
    options o;
    region_embedder how;
    generator *draws;
    judge *judges;
    tensors *bank;
    const float *bank_z; /* [bank_count, E] unit */
    const unsigned char *bank_pixels;
    size_t bank_count;
    real *vectors; /* [regions, E] */
} job;

/* ---- a picture for an embedding ------------------------------------------------------------------------------ */
static void nearest(const job *j, const real *embedding, unsigned char *rgb) {
    size_t E = j->c.model->config.embed, side = generator_side(j->draws), best = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < j->bank_count; i++) {
        double dot = 0;
        for (size_t k = 0; k < E; k++) dot += (double)j->bank_z[i * E + k] * (double)embedding[k];
        if (dot > most) most = dot, best = i;
    }
    memcpy(rgb, j->bank_pixels + best * 3 * side * side, 3 * side * side);
}

static bool draw(job *j, const real *embedding, size_t n, picture *out) {
    generator_way how = {j->o.steps, j->o.guidance, j->o.seed + n};
    if (!picture_new(generator_side(j->draws), generator_side(j->draws), out, &j->c.e)) return false;
    if (!j->bank) return generator_draw(j->draws, embedding, &how, &j->c.memory, j->c.cores, out->rgb, &j->c.e);
    nearest(j, embedding, out->rgb);
    return true;
}

static bool open_bank(job *j) {
    size_t E, N, rows, side = generator_side(j->draws);
    if (!(j->bank = tensors_open(j->o.nearest, &j->c.e))) return false;
    if (!part_shape(j->bank, "embeddings", &j->bank_count, &E) || !part_shape(j->bank, "pictures", &rows, &N) ||
        E != j->c.model->config.embed || N != 3 * side * side || rows != j->bank_count || rows < 1)
        return err_set(&j->c.e, "%s: embeddings of %zu numbers and pictures of %zu expected, as train imagine writes them", j->o.nearest,
                       j->c.model->config.embed, 3 * side * side);
    if (BIG_ENDIAN_HERE) return err_set(&j->c.e, "%s: --nearest is not for big-endian machines", j->o.nearest);
    j->bank_z = (const float *)(const void *)tensor_bytes(tensors_find(j->bank, "embeddings"), &j->c.e);
    j->bank_pixels = tensor_bytes(tensors_find(j->bank, "pictures"), &j->c.e);
    return j->bank_z && j->bank_pixels;
}

/* ---- one photograph -------------------------------------------------------------------------------------------- */
enum { TILE = 160, GAP = 8, LINE = 20 };
static const unsigned char white[3] = {255, 255, 255}, black[3] = {20, 20, 20};

static bool tile(picture *page, const picture *p, long x, long y, const char *title, err *e) {
    picture large = {0};
    bool ok = picture_resize(p, TILE, TILE, &large, e);
    if (ok) picture_text(page, x, y, title, TEXT_SMALL, black), picture_paste(page, &large, x, y + LINE);
    picture_free(&large);
    return ok;
}

/* The region's pictures beside each other: by the class token, by the method. */
static bool row_of(job *j, picture *page, long y, const char *name, const real *before, const real *after) {
    picture a = {0}, b = {0};
    char title[300];
    bool ok = draw(j, before, 0, &a) && draw(j, after, 0, &b);
    snprintf(title, sizeof title, "%.200s: %s", name, j->how.method->name);
    ok = ok && tile(page, &a, GAP, y, "class token", &j->c.e) && tile(page, &b, 2 * GAP + TILE, y, title, &j->c.e);
    picture_free(&a), picture_free(&b);
    return ok;
}

static bool new_page(picture *page, size_t rows, err *e) {
    if (!picture_new(2 * TILE + 3 * GAP, rows * (TILE + LINE + GAP), page, e)) return false;
    picture_fill(page, 0, 0, page->width, page->height, white);
    return true;
}

/* The class token's embedding is vectors[count]. */
static bool write_pictures(job *j, const region_result *regions, size_t count) {
    size_t E = j->c.model->config.embed;
    char path[4096];
    picture page = {0};
    bool ok = new_page(&page, count, &j->c.e);
    for (size_t i = 0; ok && i < count; i++) {
        picture one = {0};
        ok = new_page(&one, 1, &j->c.e) && row_of(j, &one, 0, regions[i].name, j->vectors + count * E, j->vectors + i * E);
        snprintf(path, sizeof path, "%s/%s.imagined.png", j->o.out, regions[i].name);
        ok = ok && picture_write_png(path, &one, &j->c.e);
        if (ok) picture_paste(&page, &one, 0, (long)(i * one.height));
        picture_free(&one);
    }
    snprintf(path, sizeof path, "%s/imagined.png", j->o.out);
    ok = ok && picture_write_png(path, &page, &j->c.e);
    picture_free(&page);
    if (ok) printf("%s/imagined.png\n", j->o.out);
    return ok;
}

/* ---- for others' decoders ---------------------------------------------------------------------------------------- */
/* What diffusers' prior gives its decoder: the embedding, and that of a picture whose normalised pixels are 0. */
static bool export_vectors(job *j, size_t count) {
    const clip_config *m = &j->c.model->config;
    size_t E = m->embed, side = j->how.side, gh, gw, mark = arena_mark(&j->c.memory);
    ag_tape t;
    if (!ag_tape_init(&t, &j->c.memory, j->c.cores, 1)) return cli_fault(&j->c, &t.fault);
    t.recording = false;
    real *pixels = arena_alloc(&j->c.memory, 3 * side * side, sizeof *pixels);
    float *rows = arena_alloc(&j->c.memory, count + 1, E * sizeof *rows);
    if (!pixels || !rows || !clip_grid(m, side, side, &gh, &gw)) return err_set(&j->c.e, "no memory for a picture of side %zu", side);
    memset(pixels, 0, 3 * side * side * sizeof *pixels);
    ag_tensor *z = clip_image(&t, j->c.model, clip_patches(&t, j->c.model, pixels, side, side), gh, gw);
    if (!z) return cli_fault(&j->c, &t.fault);
    for (size_t k = 0; k < count * E; k++) rows[k] = (float)j->vectors[k];
    for (size_t k = 0; k < E; k++) rows[count * E + k] = (float)z->data[k];
    st_tensor out[] = {{"image_embeds", "F32", {count, E}, 2, (const unsigned char *)rows, count * E * sizeof *rows},
                       {"negative_image_embeds", "F32", {1, E}, 2, (const unsigned char *)(rows + count * E), E * sizeof *rows}};
    bool ok = st_write(j->o.export, out, 2, NULL, &j->c.e);
    arena_reset(&j->c.memory, mark);
    if (ok && E != 1280)
        cli_warn(&j->c, "%s holds embeddings of %zu numbers; Kandinsky 2.2's decoder takes 1280, those of OpenCLIP's ViT-bigG-14",
                 j->o.export, E);
    return ok;
}

static bool imagine_photo(job *j) {
    picture photo = {0};
    masks m = {0};
    size_t E = j->c.model->config.embed;
    report r = {.embed = E};
    region_result whole = {.name = "whole"};
    region_embedder plain = j->how;
    mask_image none = {0};
    bool regions = j->o.region.masks.count || j->o.region.boxes.count;
    bool ok = regions ? inputs_open(&j->c, &j->o.region, &r, 0, &photo, &m) : picture_read(j->o.region.image, &photo, &j->c.e);
    size_t count = regions ? r.count : 1;
    plain.method = region_method_find("cls");
    ok = ok && ((j->vectors = mem_alloc(count + 1, E * sizeof *j->vectors)) || err_set(&j->c.e, "no memory for %zu regions", count));
    ok = ok && embed_regions(&plain, &photo, embed_mask_of_list, &none, 1, j->vectors + count * E);
    if (ok && regions) ok = embed_regions(&j->how, &photo, embed_mask_of_file, &m, count, j->vectors);
    else if (ok) memcpy(j->vectors, j->vectors + E, E * sizeof *j->vectors);
    ok = ok && (!j->o.export || export_vectors(j, count)) &&
         (!j->o.out || (cli_folder(&j->c, j->o.out, "imagined.png") && write_pictures(j, regions ? r.regions : &whole, count)));
    if (regions) inputs_close(&r, &photo, &m);
    else picture_free(&photo);
    return ok;
}

/* ---- a set of scenes ------------------------------------------------------------------------------------------------ */
typedef struct {
    size_t regions, name, other, colour, both;
} tally;

/* [0]: all regions; [1]: those of a pair of colour and name that the generator never saw. */
static bool judge_one(job *j, const scene_record *s, size_t k, const picture *p, tally t[2]) {
    judge_reading r;
    if (!judge_read(j->judges, p->rgb, &j->c.memory, &r, &j->c.e)) return false;
    bool held = generator_held(j->draws, s->object[k].colour, s->object[k].name);
    bool name = !strcmp(r.name, s->object[k].name), colour = !strcmp(r.colour, s->object[k].colour), other = false;
    for (size_t i = 0; i < s->objects; i++) other = other || (i != k && !strcmp(r.name, s->object[i].name));
    for (size_t i = 0; i <= (size_t)held; i++)
        t[i].regions++, t[i].name += name, t[i].other += !name && other, t[i].colour += colour, t[i].both += name && colour;
    return true;
}

static bool imagine_scene(job *j, const scene_record *s, size_t n, tally t[2]) {
    picture photo = {0};
    mask_image exact[SCENE_MOST_OBJECTS];
    size_t read, E = j->c.model->config.embed;
    bool ok = embed_scene(&j->c, s, &photo, exact, &read) && embed_regions(&j->how, &photo, embed_mask_of_list, exact, s->objects, j->vectors);
    for (size_t k = 0; ok && k < s->objects; k++) {
        picture p = {0};
        ok = draw(j, j->vectors + k * E, n * SCENE_MOST_OBJECTS + k, &p) && judge_one(j, s, k, &p, t);
        picture_free(&p);
    }
    for (size_t i = 0; i < read; i++) mask_free(&exact[i]);
    picture_free(&photo);
    return ok;
}

static void print_tally(const char *title, const tally *t) {
    printf("%s, per cent with 95 %% intervals\n", title);
    print_share("name", t->name, t->regions);
    print_share("another of the scene", t->other, t->regions);
    print_share("colour", t->colour, t->regions);
    print_share("name and colour", t->both, t->regions);
}

static bool imagine_scenes(job *j) {
    scene_reader *r = scene_reader_open(j->o.scenes, &j->c.e);
    scene_record *s = mem_alloc(1, sizeof *s);
    tally t[2] = {{0}};
    j->vectors = mem_alloc(SCENE_MOST_OBJECTS, j->c.model->config.embed * sizeof *j->vectors);
    bool ok = r && ((s && j->vectors) || err_set(&j->c.e, "no memory for a scene"));
    for (size_t n = 0; ok && (!j->o.count || n < j->o.count); n++) {
        scene_reading got = scene_reader_next(r, s, &j->c.e);
        if (got == SCENE_END) break;
        cli_progress(&j->c, "scenes", n, j->o.count);
        ok = got == SCENE_READ && imagine_scene(j, s, n, t);
    }
    if (r) scene_reader_free(r);
    mem_free(s);
    cli_progress_end(&j->c);
    if (!ok) return false;
    printf("%s, %s\n", j->how.method->name, j->bank ? "the nearest seen picture" : generator_name(j->draws));
    print_tally("all", &t[0]);
    print_tally("pairs of colour and name that were held out", &t[1]);
    return true;
}

static bool open_parts(job *j) {
    size_t E = j->c.model->config.embed;
    if (!j->o.out && !j->o.scenes) return true;
    j->draws = j->o.generator ? generator_open(j->o.generator, E, &j->c.e) : generator_builtin(E, &j->c.e);
    if (!j->draws || (j->o.nearest && !open_bank(j))) return false;
    if (!j->o.scenes) return true;
    if (!(j->judges = judge_open(j->o.judge, &j->c.e))) return false;
    size_t side = generator_side(j->draws);
    return judge_numbers(j->judges) == 3 * side * side ||
           err_set(&j->c.e, "%s: it reads pictures of %zu numbers, the generator's have %zu", j->o.judge, judge_numbers(j->judges),
                   3 * side * side);
}

/* What would not be obeyed is refused. */
static bool settle(job *j) {
    options *o = &j->o;
    const region_options *r = &o->region;
    bool whole = !r->masks.count && !r->boxes.count;
    const cli_stray photo[] = {{"--mask", r->masks.count}, {"--box", r->boxes.count}, {"--labels", r->labels}, {"--out", o->out}, {"--export", o->export}},
                    scenes[] = {{"--judge", o->judge}, {"--count", o->count}}, drawn[] = {{"--generator", o->generator}, {"--nearest", o->nearest}},
                    files[] = {{"--labels", r->labels && !r->masks.count}}, regions[] = {{"--method", o->method && whole}};
    bool ok = o->scenes ? cli_no_strays(&j->c, photo, 5, "it is for --image; scenes bring their masks, and pictures are judged")
                        : cli_no_strays(&j->c, scenes, 2, "it is for --scenes") && (o->out || cli_no_strays(&j->c, drawn, 2, "it is for pictures, --out receives them")) &&
                              cli_no_strays(&j->c, files, 1, "it is of --mask's files") &&
                              cli_no_strays(&j->c, regions, 1, "it is for regions, and the whole picture is drawn; -k or --box gives a region");
    if (!o->method) o->method = "maskinv";
    return ok;
}

static bool imagine(void *arg) {
    job *j = arg;
    if (!j->o.region.image == !j->o.scenes) return cli_usage(&j->c, "one of --image and --scenes is needed");
    if (j->o.scenes && !j->o.judge) return cli_usage(&j->c, "--scenes needs --judge, which train judge makes");
    if (!j->o.scenes && !j->o.out && !j->o.export) return cli_usage(&j->c, "-o DIR or --export FILE is needed");
    return settle(j) && cli_open_model(&j->c, &j->o.common) && open_parts(j) && embedder_open(&j->how, &j->c, j->o.method, j->o.size) &&
           (j->o.scenes ? imagine_scenes(j) : imagine_photo(j));
}

static void give_back(void *arg) {
    job *j = arg;
    generator_free(j->draws), judge_free(j->judges), tensors_free(j->bank);
    mem_free(j->vectors);
}

int cmd_imagine(int argc, char **argv) {
    return cli_run(&imagine_command, argc, argv, sizeof(job), offsetof(job, o), imagine, give_back);
}
