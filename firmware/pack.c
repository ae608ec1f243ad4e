/* pack.c - a checkpoint's image side, a picture, its regions and some texts as one block for a chip's flash (flash.h).
 *
 *     build/openblas/firmware/pack -i cat.png -k cat-mask.png -t "a photo of a cat" --size 48 --type q8_0 -o model.bin
 *
 * Matrices become float32, float16 or int8 (GGUF's Q8_0: 32 numbers and their scale); vectors stay float32. The embedding
 * that this machine finds for each region, with the checkpoint's own numbers, goes along, for the chip to compare with. */
#include "cli/inputs.h"
#include "firmware/flash.h"
#include <math.h>
#include <string.h>

typedef struct {
    common_options common;
    region_options region;
    text_options text;
    size_t size, layers, iters;
    const char *type, *out;
} options;

static const flag flags[] = {
    CLI_REGION_FLAGS(options),
    CLI_TEXT_FLAGS(options),
    {"size", 0, FLAG_COUNT, offsetof(options, size), "N", 8, 4096, .help = "side of the square; not given: the model's own"},
    {"layers", 0, FLAG_COUNT, offsetof(options, layers), "N", 1, FLASH_LAYERS, .help = "explained layers; not given: the model's"},
    {"iters", 0, FLAG_COUNT, offsetof(options, iters), "N", 1, 64, .help = "steps; not given: the model's"},
    {"type", 0, FLAG_CHOICE, offsetof(options, type), "f32|f16|q8_0", .standard = "f16", .help = "of the matrices' numbers"},
    {"out", 'o', FLAG_TEXT, offsetof(options, out), "FILE", .required = true, .help = "the block of bytes"},
    CLI_COMMON_FLAGS(options),
};
static int pack(int argc, char **argv);
static const command pack_command = {
    "pack", "a model, a picture and regions for a chip's flash", flags, sizeof flags / sizeof *flags, sizeof(options), NULL, 0,
    "FILE is what firmware/flash.h describes. CLIP's own blocks alone, image side only.", pack};

/* ---- the block ------------------------------------------------------------------------------------------------- */
typedef struct {
    cli *c;
    unsigned char *bytes;
    size_t length, room;
    flash_weight table[FLASH_WEIGHTS];
    flash_head head;
    clip_type type;
} block;

/* Room for some bytes at the next multiple of FLASH_ALIGN, zeroed; its offset, 0 when there is no memory. */
static size_t append(block *b, const void *data, size_t bytes) {
    size_t at = (b->length + FLASH_ALIGN - 1) & ~(size_t)(FLASH_ALIGN - 1);
    if (bytes > UINT32_MAX / 2 || at > UINT32_MAX / 2) return 0;
    if (at + bytes > b->room) {
        size_t room = 2 * (at + bytes);
        unsigned char *more = mem_alloc(room, 1);
        if (!more) return 0;
        memset(more, 0, room);
        if (b->length) memcpy(more, b->bytes, b->length);
        mem_free(b->bytes);
        b->bytes = more;
        b->room = room;
    }
    if (data && bytes) memcpy(b->bytes + at, data, bytes);
    b->length = at + bytes;
    return at;
}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */
static uint16_t half_of(float x) { /* to nearest, ties to even; what is too large becomes infinity */
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: in steps of 2^-24 */
        float steps = fabsf(x) * 16777216.0f;
        return (uint16_t)(sign | (uint32_t)rintf(steps));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}

/* x = d q, d = max|x|/127 as float16, q whole and signed (clip.h). */
static void quantise(const float *x, unsigned char *out) {
    float most = 0;
    for (int i = 0; i < CLIP_BLOCK; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    uint16_t d = half_of(most / 127);
    real step;
    k_from_half(&d, &step, 1);
    memcpy(out, &d, sizeof d);
    for (int i = 0; i < CLIP_BLOCK; i++) {
        float q = step > 0 ? rintf(x[i] / step) : 0;
        out[2 + i] = (unsigned char)(signed char)(q > 127 ? 127 : q < -127 ? -127 : q);
    }
}

static void store(clip_type type, const float *x, size_t count, unsigned char *out) {
    for (size_t i = 0; i < count; i += type == CLIP_Q8_0 ? CLIP_BLOCK : 1) {
        unsigned char *p = out + clip_bytes(type, i);
        uint16_t h;
        if (type == CLIP_Q8_0) quantise(x + i, p);
        else if (type == CLIP_F32) memcpy(p, x + i, sizeof *x);
        else h = half_of(x[i]), memcpy(p, &h, sizeof h);
    }
}

/* ---- weights: turned upright where they are stored on their side, so that the chip reads rows --------------------------- */
static bool add_weight(void *arg, clip_weight *w, clip_kind kind, size_t layer, size_t rows, size_t cols) {
    block *b = arg;
    (void)layer;
    if (clip_of_text(kind)) return true;
    if (kind == W_LOGIT_SCALE || kind == W_LOGIT_BIAS) return true;
    bool matrix = rows > 1 && kind != W_POSITION;
    clip_type type = !matrix ? CLIP_F32 : cols % CLIP_BLOCK ? (b->type == CLIP_Q8_0 ? CLIP_F16 : b->type) : b->type;
    float *x = mem_alloc(rows * cols, sizeof *x);
    size_t at = append(b, NULL, clip_bytes(type, rows * cols));
    if (!x || !at || b->head.weights == FLASH_WEIGHTS) return mem_free(x), err_set(&b->c->e, "no memory for the block");
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) x[i * cols + j] = clip_number(w, w->transposed ? j * rows + i : i * cols + j);
    store(type, x, rows * cols, b->bytes + at);
    mem_free(x);
    b->table[b->head.weights++] = (flash_weight){type, (uint32_t)rows, (uint32_t)cols, 0, (uint32_t)at};
    return true;
}

static bool packable(cli *c) {
    const clip_config *m = &c->model->config;
    const clip_tower *t = &m->vision;
    bool plain = !clip_has_pooler(m) && !clip_is_resnet(m) && !t->layer_scale && !t->post_norm && !t->sub_norm && !t->swiglu &&
                 !m->no_class_token && !m->no_ln_pre && !m->patch_bias && !m->no_proj && !m->proj_bias && !m->alpha &&
                 !m->rope.side && (m->pool == CLIP_POOL_CLASS || m->pool == CLIP_POOL_MEAN) && t->layers <= FLASH_LAYERS;
    return plain || err_set(&c->e, "%s: of another family than OpenAI's ViT, which is all that the firmware holds",
                            checkpoint_name(c->weights));
}

static void describe(block *b, const options *o) {
    const clip_config *m = &b->c->model->config;
    invert_options how = cli_invert(m, o->iters, NAN, NAN);
    flash_head *h = &b->head;
    *h = (flash_head){.magic = FLASH_MAGIC, .width = (uint32_t)m->vision.width, .depth = (uint32_t)m->vision.layers,
                      .heads = (uint32_t)m->vision.heads, .mlp = (uint32_t)m->vision.mlp, .embed = (uint32_t)m->embed,
                      .image = (uint32_t)m->image, .patch = (uint32_t)m->patch, .act = m->act_vision, .pool = m->pool,
                      .eps = m->vision.eps, .side = (uint32_t)(o->size ? o->size : m->image), .iters = (uint32_t)how.iters,
                      .layers = (uint32_t)(o->layers ? o->layers : config_layers(m)),
                      .lr = how.lr, .alpha = how.alpha, .type = b->type, .texts = (uint32_t)o->text.texts.count};
    for (int i = 0; i < 3; i++) h->mean[i] = m->mean[i], h->std[i] = m->std[i];
}

/* ---- picture, regions, texts ------------------------------------------------------------------------------------------- */
static bool add_regions(block *b, const picture *small, masks *m) {
    size_t side = b->head.side, cells = side * side;
    b->head.pixels = (uint32_t)append(b, small->rgb, 3 * cells);
    b->head.regions = (uint32_t)m->count;
    b->head.masks = (uint32_t)append(b, NULL, m->count * cells);
    float *soft = mem_alloc(cells, sizeof *soft);
    bool ok = soft && b->head.masks;
    for (size_t i = 0; ok && i < m->count; i++) {
        const mask_image *one = masks_at(m, i, &b->c->e);
        if (!(ok = one != NULL)) break;
        map_resize(one->soft, one->height, one->width, soft, side, side);
        for (size_t j = 0; j < cells; j++)
            b->bytes[b->head.masks + i * cells + j] = (unsigned char)(soft[j] * 255 + 0.5f);
    }
    mem_free(soft);
    return ok || (b->c->e.text[0] ? false : err_set(&b->c->e, "no memory for %zu regions", m->count));
}

static bool add_texts(block *b, const options *o) {
    float *units = NULL;
    if (!cli_texts(b->c, &o->text, &units)) return false;
    size_t count = o->text.texts.count, names = 0;
    b->head.queries = (uint32_t)append(b, units, count * b->head.embed * sizeof *units);
    for (size_t i = 0; i < count; i++) names += strlen(o->text.texts.item[i]) + 1;
    b->head.names = (uint32_t)append(b, NULL, names + 1);
    for (size_t i = 0, at = b->head.names; i < count; at += strlen(o->text.texts.item[i++]) + 1)
        strcpy((char *)b->bytes + at, o->text.texts.item[i]);
    mem_free(units);
    return true;
}

/* What this machine finds for the same bytes, with the checkpoint's own weights. */
static bool add_truths(block *b, const float *pixels) {
    cli *c = b->c;
    const flash_head *h = &b->head;
    size_t side = h->side, E = h->embed, at = append(b, NULL, h->regions * E * sizeof(float));
    explained x;
    fault f = {0};
    explain_options o = {.layers = h->layers, .gradient = GRADIENT_FACTORED, .steps = h->iters};
    invert_options how = invert_defaults();
    how.iters = h->iters, how.lr = h->lr, how.alpha = h->alpha;
    real *mask = mem_alloc(side * side, sizeof *mask), *losses = mem_alloc(how.iters, sizeof *losses);
    bool ok = mask && losses && at;
    b->head.truths = (uint32_t)at;
    ok = ok && explain_open(&x, c->model, pixels, side, side, &o, &c->memory, c->cores, &f);
    for (size_t i = 0; ok && i < h->regions; i++) {
        invert_result r = {.embedding = (real *)(void *)(b->bytes + at + i * E * sizeof(float)), .losses = losses};
        for (size_t j = 0; j < side * side; j++) mask[j] = (real)b->bytes[h->masks + i * side * side + j] / 255;
        ok = maskinv_invert(&x, mask, side, side, &how, &r, &f);
    }
    mem_free(mask);
    mem_free(losses);
    return ok || (f.code ? cli_fault(c, &f) : err_set(&c->e, "no memory for the regions"));
}

static bool write_block(block *b, const char *path) {
    out_file f;
    b->head.table = (uint32_t)append(b, b->table, b->head.weights * sizeof *b->table);
    b->head.bytes = (uint32_t)b->length;
    memcpy(b->bytes, &b->head, sizeof b->head);
    if (!out_open(&f, path, &b->c->e)) return false;
    fwrite(b->bytes, 1, b->length, f.stream);
    if (!out_close(&f, &b->c->e)) return false;
    printf("%s: %zu bytes, %u x %u pixels, %u regions, %u texts\n", path, b->length, b->head.side, b->head.side,
           b->head.regions, b->head.texts);
    return true;
}

static bool pack_into(block *b, const options *o, const picture *photo, masks *m) {
    cli *c = b->c;
    picture small = {0};
    float *pixels = NULL;
    clip_model model = *c->model; /* the walk hands out weights that may be changed; these are not */
    b->type = !strcmp(o->type, "f32") ? CLIP_F32 : !strcmp(o->type, "q8_0") ? CLIP_Q8_0 : CLIP_F16;
    describe(b, o);
    append(b, NULL, sizeof b->head);
    bool ok = picture_resize(photo, b->head.side, b->head.side, &small, &c->e) &&
              (pixels = pixels_squash(&small, b->head.side, c->model->config.mean, c->model->config.std, &c->e)) &&
              clip_each_weight(&model, add_weight, b) && add_regions(b, &small, m) && add_texts(b, o) &&
              add_truths(b, pixels) && write_block(b, o->out);
    picture_free(&small);
    mem_free(pixels);
    return ok;
}

static int pack(int argc, char **argv) {
    options o;
    cli c;
    if (!cli_begin(&c, &pack_command, argc, argv, &o)) return c.code;
    report r = {0};
    picture photo = {0};
    masks m = {0};
    block *b = mem_alloc(1, sizeof *b);
    bool ok = b || err_set(&c.e, "no memory");
    if (ok) memset(b, 0, sizeof *b), b->c = &c;
    ok = ok && cli_open_model(&c, &o.common) && packable(&c) && inputs_open(&c, &o.region, &r, 1, &photo, &m) &&
         pack_into(b, &o, &photo, &m);
    inputs_close(&r, &photo, &m);
    if (b) mem_free(b->bytes);
    mem_free(b);
    return cli_end(&c, &o, ok);
}

int main(int argc, char **argv) {
    mem_hook_cjson();
    return pack(argc, argv);
}
