/* face.c - models, errors, pictures and embeddings of the library's face (see face.h). */
#include "face/room.h"
#include "masks/masks.h"
#include "models/texts.h"
#include <math.h>

/* ---- errors, version ----------------------------------------------------------------------------- */
static _Thread_local err last;

err *error_of_thread(void) {
    last.text[0] = 0;
    return &last;
}

const char *mi_error(void) { return last.text; }
const char *mi_version(void) { return MASKINV_VERSION; }

bool call_fault(call *c, const fault *f) { return err_fault(c->e, f); }

bool all_finite(const float *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i])) return false;
    return true;
}

/* ---- models --------------------------------------------------------------------------------------- */
static mi_model *face_on(checkpoint *weights, err *e) {
    mi_model *m = weights && checkpoint_check_finite(weights, e) ? mem_alloc(1, sizeof *m) : NULL;
    if (!m) {
        if (weights && !e->text[0]) err_set(e, "%s: no memory for the model", checkpoint_name(weights));
        checkpoint_free(weights);
        return NULL;
    }
    m->weights = weights;
    m->model = checkpoint_model(weights);
    os_lock_make(&m->lock);
    return m;
}

mi_model *mi_open(const char *path) {
    err *e = error_of_thread();
    return face_on(path ? checkpoint_open(path, e) : checkpoint_builtin(e), e);
}

mi_model *mi_open_bytes(const void *weights, size_t weights_size, const void *config, size_t config_size,
                        const void *merges, size_t merges_size) {
    err *e = error_of_thread();
    if (!weights || !config) return err_set(e, "bytes of weights and config are needed, none found"), NULL;
    return face_on(checkpoint_parse("bytes", (checkpoint_bytes){weights, weights_size},
                                    (checkpoint_bytes){config, config_size}, (checkpoint_bytes){merges, merges_size}, e),
                   e);
}

void mi_close(mi_model *m) {
    if (!m) return;
    while (m->idle_count) pool_stop(m->idle[--m->idle_count]);
    os_lock_free(&m->lock);
    checkpoint_free(m->weights);
    mem_free(m->usual);
    mem_free(m);
}

void mi_set_memory(mi_model *m, size_t bytes) { m->memory = bytes; }
void mi_set_threads(mi_model *m, size_t threads) {
    while (m->idle_count) pool_stop(m->idle[--m->idle_count]); /* of the old width */
    m->threads = threads;
}

const char *mi_name(const mi_model *m) { return checkpoint_name(m->weights); }
size_t mi_embed_size(const mi_model *m) { return m->model->config.embed; }
size_t mi_image_side(const mi_model *m) { return m->model->config.image; }
size_t mi_patch_side(const mi_model *m) { return m->model->config.patch; }
size_t mi_layer_count(const mi_model *m) { return clip_depth(&m->model->config); }

size_t mi_side(const mi_model *m, size_t asked) {
    size_t side;
    return call_side(m, asked, 2, &side, error_of_thread()) ? side : 0;
}

/* ---- a call: a pool that is free, an arena --------------------------------------------------------- */
static size_t standard_memory(void) {
    uint64_t bytes = os_memory() / 4 * 3;
    if (bytes == 0) bytes = (uint64_t)1 << 30;
    return bytes < SIZE_MAX / 4 ? (size_t)bytes : SIZE_MAX / 4;
}

bool call_begin(call *c, mi_model *m) {
    *c = (call){.e = error_of_thread()};
    os_lock_take(&m->lock);
    if (m->idle_count) c->cores = m->idle[--m->idle_count];
    os_lock_give(&m->lock);
    if (!c->cores && !(c->cores = pool_start(m->threads))) return err_set(c->e, "threads could not be started");
    c->bytes = m->memory ? m->memory : standard_memory();
    if (!(c->room = mem_reserve(c->bytes))) return err_set(c->e, "%zu bytes of memory cannot be had", c->bytes);
    arena_init(&c->memory, c->room, c->bytes);
    return true;
}

void call_end(call *c, mi_model *m) {
    if (c->room) mem_release(c->room, c->bytes);
    if (!c->cores) return;
    os_lock_take(&m->lock);
    if (m->idle_count < POOLS_KEPT) m->idle[m->idle_count++] = c->cores, c->cores = NULL;
    os_lock_give(&m->lock);
    pool_stop(c->cores);
}

const tokenizer *call_words(call *c, mi_model *m) {
    os_lock_take(&m->lock);
    if (!m->words) m->words = checkpoint_tokenizer(m->weights, c->e);
    const tokenizer *words = m->words;
    os_lock_give(&m->lock);
    return words;
}

bool call_usual(call *c, mi_model *m, const float **out) {
    if (!clip_is_siglip(&m->model->config)) return *out = NULL, true;
    os_lock_take(&m->lock);
    bool ok = m->usual || texts_usual(m->weights, &c->memory, c->cores, &m->usual, c->e);
    *out = m->usual;
    os_lock_give(&m->lock);
    if (ok) c->e->text[0] = 0; /* a model without a tokenizer has no correction */
    return ok;
}

bool call_side(const mi_model *m, size_t asked, size_t times, size_t *side, err *e) {
    size_t patch = m->model->config.patch, gh, gw;
    *side = asked ? asked : config_side(&m->model->config, times);
    if (*side <= 16384 && clip_grid(&m->model->config, *side, *side, &gh, &gw)) return true;
    return err_set(e, "side: %zu found, a multiple of the model's patch, %zu, of at most 16384 expected", *side, patch);
}

/* ---- pictures, masks ---------------------------------------------------------------------------------- */
static bool face_image(bool ok, const picture *p, mi_image *image) {
    *image = ok ? (mi_image){p->rgb, p->width, p->height} : (mi_image){0};
    return ok;
}

bool mi_image_read(const char *path, mi_image *image) {
    picture p = {0};
    return face_image(picture_read(path, &p, error_of_thread()), &p, image);
}

bool mi_image_parse(const void *bytes, size_t size, mi_image *image) {
    picture p = {0};
    return face_image(picture_parse(bytes, size, "the picture", &p, error_of_thread()), &p, image);
}

void mi_image_free(mi_image *image) {
    mem_free((void *)(uintptr_t)image->rgb);
    *image = (mi_image){0};
}

bool mi_mask_read(const char *path, mi_mask *mask) {
    mask_image m = {0};
    bool ok = mask_read(path, &m, error_of_thread());
    *mask = ok ? (mi_mask){m.soft, m.width, m.height} : (mi_mask){0};
    return ok;
}

void mi_mask_free(mi_mask *mask) {
    mem_free((void *)(uintptr_t)mask->soft);
    *mask = (mi_mask){0};
}

/* The masks one by one; what is held goes over to the caller. */
static bool take_masks(masks *m, mi_mask **out, err *e) {
    if (!(*out = mem_alloc(m->count, sizeof **out))) return err_set(e, "no memory for %zu masks", m->count);
    for (size_t i = 0; i < m->count; i++) {
        const mask_image *one = masks_at(m, i, e);
        if (!one) return mi_masks_free(*out, i), *out = NULL, false;
        (*out)[i] = (mi_mask){one->soft, one->width, one->height};
        m->now = (mask_image){0}, m->current = SIZE_MAX;
    }
    return true;
}

bool mi_masks_read(const char *name, const char *photo, const mi_image *image, mi_mask **out, size_t *count) {
    masks m;
    mask_wishes w = {.files = &name, .count = 1, .photo = photo};
    if (image) w.width = image->width, w.height = image->height;
    *out = NULL, *count = 0;
    bool ok = masks_open(&m, &w, error_of_thread()) && take_masks(&m, out, &last);
    if (ok) *count = m.count;
    masks_close(&m);
    return ok;
}

void mi_masks_free(mi_mask *out, size_t count) {
    for (size_t i = 0; i < count; i++) mi_mask_free(&out[i]);
    mem_free(out);
}

bool call_picture(const mi_image *image, picture *p, err *e) {
    size_t area;
    if (!image || !image->rgb || !image->width || !image->height || !size_mul(image->width, image->height, &area) ||
        area > SIZE_MAX / 3)
        return err_set(e, "a picture of %zu x %zu pixels found, some expected", image ? image->width : 0,
                       image ? image->height : 0);
    *p = (picture){image->width, image->height, (unsigned char *)(uintptr_t)image->rgb};
    return true;
}

float *call_pixels(const mi_model *m, const mi_image *image, size_t side, err *e) {
    picture p;
    return call_picture(image, &p, e) ? pixels_squash(&p, side, m->model->config.mean, m->model->config.std, e) : NULL;
}

/* ---- embeddings ------------------------------------------------------------------------------------------ */
static bool embed_pixels(call *c, const clip_model *model, const float *pixels, size_t side, float *out) {
    fault f = {0};
    if (!clip_image_embed(model, pixels, NULL, side, side, &c->memory, c->cores, out, &f)) return call_fault(c, &f);
    return all_finite(out, model->config.embed) || err_set(c->e, "the picture's embedding is not finite");
}

bool mi_embed_image(mi_model *m, const mi_image *image, bool squash, size_t side, float *out) {
    const clip_config *config = &m->model->config;
    picture p;
    call c;
    bool ok = call_begin(&c, m) && call_picture(image, &p, c.e) && call_side(m, side, 1, &side, c.e);
    float *pixels = !ok      ? NULL
                    : squash ? pixels_squash(&p, side, config->mean, config->std, c.e)
                             : pixels_own(&p, side, config, c.e);
    ok = pixels && embed_pixels(&c, m->model, pixels, side, out);
    mem_free(pixels);
    call_end(&c, m);
    return ok;
}

static bool embed_text(call *c, const clip_model *model, const tokenizer *words, const char *text, float *out) {
    size_t most = model->config.context, n;
    uint32_t *ids = mem_alloc(most, sizeof *ids);
    if (!ids) return err_set(c->e, "no memory for %zu ids", most);
    bool ok = tokenizer_encode(words, text, ids, most, &n, c->e) &&
              ids_embed(model, ids, 1, n, &c->memory, c->cores, out, c->e);
    mem_free(ids);
    return ok && (all_finite(out, model->config.embed) || err_set(c->e, "'%s': its embedding is not finite", text));
}

bool mi_embed_texts(mi_model *m, const char *const *texts, size_t count, float *out) {
    call c;
    const tokenizer *words = call_begin(&c, m) ? call_words(&c, m) : NULL;
    bool ok = words != NULL;
    for (size_t i = 0; ok && i < count; i++)
        ok = embed_text(&c, m->model, words, texts[i], out + i * m->model->config.embed);
    call_end(&c, m);
    return ok;
}

bool mi_embed_queries(mi_model *m, const char *const *texts, size_t count, const char *const *templates,
                      size_t template_count, float *out) {
    call c;
    bool ok = call_begin(&c, m) && call_words(&c, m) &&
              texts_embed(m->weights, texts, count, templates, template_count, &c.memory, c.cores, out, c.e);
    call_end(&c, m);
    return ok;
}

bool mi_compare(const mi_model *m, const float *embedding, const float *units, size_t count, double *similarity,
                double *probability) {
    size_t n = m->model->config.embed;
    double length = sqrt(dot(embedding, embedding, n)), scale = (double)clip_logit_scale(m->model), sum = 0, most = -2;
    if (!(isfinite(length) && length > 0))
        return err_set(error_of_thread(), "an embedding of length %g found, a direction expected", length);
    for (size_t i = 0; i < count; i++) {
        double cosine = dot(embedding, units + i * n, n) / length;
        if (similarity) similarity[i] = cosine;
        if (probability) probability[i] = cosine;
        if (cosine > most) most = cosine;
    }
    for (size_t i = 0; probability && i < count; i++) sum += probability[i] = exp(scale * (probability[i] - most));
    for (size_t i = 0; probability && i < count; i++) probability[i] /= sum;
    return true;
}
