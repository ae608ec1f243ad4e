/* config_timm.c - what the names of timm's image towers say: SigLIP, EVA, PE-Core and plain ViTs (see config.h).
 *
 * A name is FAMILY_patchP_KIND_SIZE; timm_model_kwargs may replace its dimensions, which is also how small models of
 * these families are described.
 */
#include <stdlib.h>
#include <string.h>
#include "models/config_parts.h"

typedef enum { KIND_CLIP, KIND_SIGLIP, KIND_EVA, KIND_PE } timm_kind;
typedef struct {
    const char *head; /* of the name, before _patch */
    timm_kind kind;
    size_t width, layers, heads;
    double ratio;        /* MLP's width / width */
    bool plain_swiglu;   /* EVA02's base and large: swiglu, sub-LN, rotary positions */
    bool post_norm;      /* EVA02's enormous */
    size_t rope;         /* PE-Core: cells that rotary positions run over */
} timm_row;

static const timm_row ROWS[] = {
    {"vit_pe_core_tiny", KIND_PE, 192, 12, 3, 4, false, false, 24},
    {"vit_pe_core_small", KIND_PE, 384, 12, 6, 4, false, false, 24},
    {"vit_pe_core_base", KIND_PE, 768, 12, 12, 4, false, false, 14},
    {"vit_pe_core_large", KIND_PE, 1024, 24, 16, 4, false, false, 24},
    {"vit_pe_core_gigantic", KIND_PE, 1536, 50, 16, 8960.0 / 1536, false, false, 32},
    {"eva02_base", KIND_EVA, 768, 12, 12, 4.0 * 2 / 3, true, false, 0},
    {"eva02_large", KIND_EVA, 1024, 24, 16, 4.0 * 2 / 3, true, false, 0},
    {"eva_giant", KIND_EVA, 1408, 40, 16, 6144.0 / 1408, false, false, 0},
    {"eva02_enormous", KIND_EVA, 1792, 64, 16, 15360.0 / 1792, false, true, 0},
    {"vit_tiny", KIND_CLIP, 192, 12, 3, 4, false, false, 0},
    {"vit_small", KIND_CLIP, 384, 12, 6, 4, false, false, 0},
    {"vit_medium", KIND_CLIP, 512, 12, 8, 4, false, false, 0},
    {"vit_base", KIND_CLIP, 768, 12, 12, 4, false, false, 0},
    {"vit_large", KIND_CLIP, 1024, 24, 16, 4, false, false, 0},
    {"vit_huge", KIND_CLIP, 1280, 32, 16, 4, false, false, 0},
    {"vit_giant", KIND_CLIP, 1408, 40, 16, 48.0 / 11, false, false, 0},
    {"vit_gigantic", KIND_CLIP, 1664, 48, 16, 64.0 / 13, false, false, 0},
    {"vit_so400m", KIND_SIGLIP, 1152, 27, 16, 3.7362, false, false, 0},
    {"vit_giantopt", KIND_SIGLIP, 1536, 40, 16, 4, false, false, 0},
};

/* Networks that are no plain ViT, by the beginning of their name. */
static const struct { const char *head, *what; } OTHERS[] = {
    {"convnext", "a ConvNeXt"}, {"vitamin", "a ViTamin"}, {"fastvit", "a MobileCLIP (FastViT)"},
    {"vit_base_mci", "a MobileCLIP"}, {"mobileclip", "a MobileCLIP"}, {"swin", "a Swin transformer"},
    {"naflexvit", "a NaFlex ViT, of pictures of any shape"}, {"resnet", "a timm ResNet"},
};

/* SigLIP's activation by name: tanh in these, erf in the others (timm 1.0.15 and later). */
static bool is_tanh(const char *name) {
    static const char *const names[] = {"vit_base_patch32_siglip_256", "vit_large_patch16_siglip_512",
                                        "vit_so400m_patch16_siglip_", "vit_giantopt_patch16_siglip_"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strncmp(name, names[i], strlen(names[i])) == 0) return true;
    return false;
}

static const timm_row *row_of(const char *name) {
    const char *end = strstr(name, "_patch");
    for (size_t i = 0; end && i < sizeof ROWS / sizeof *ROWS; i++)
        if (strlen(ROWS[i].head) == (size_t)(end - name) && strncmp(ROWS[i].head, name, (size_t)(end - name)) == 0)
            return &ROWS[i];
    return NULL;
}

static bool unknown(const json_scope *s, const char *name) {
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (strncmp(name, OTHERS[i].head, strlen(OTHERS[i].head)) == 0)
            return err_set(s->e, "%s: %s.timm_model_name is \"%.80s\", %s, which is not supported", s->file, s->path, name,
                           OTHERS[i].what);
    return err_set(s->e,
                   "%s: %s.timm_model_name is \"%.80s\", which is not supported, expected a ViT's: vit_*_patch*_siglip_*, "
                   "vit_*_patch*_clip_*, vit_pe_core_*, eva02_* or eva_giant_*",
                   s->file, s->path, name);
}

/* "16_siglip_224" -> patch 16, kind siglip, size 224. False: neither clip nor siglip, nor PE's bare size. */
static bool read_tail(const char *name, const timm_row *row, timm_kind *kind, size_t *patch, size_t *size, bool *quick) {
    const char *p = strstr(name, "_patch") + 6;
    char *end;
    *patch = strtoul(p, &end, 10);
    *kind = row->kind;
    *quick = strncmp(end, "_clip_quickgelu_", 16) == 0;
    const char *last = strrchr(name, '_');
    *size = strtoul(last + 1, NULL, 10);
    bool siglip = strncmp(end, "_siglip_", 8) == 0, clip = strncmp(end, "_clip_", 6) == 0;
    if (strstr(name, "_gap_")) return false;
    if (siglip && (row->kind == KIND_CLIP || row->kind == KIND_SIGLIP)) return *kind = KIND_SIGLIP, true;
    if (row->kind == KIND_CLIP) return clip;
    return row->kind == KIND_PE || (row->kind == KIND_EVA && (clip || end == last));
}

static void set_clip(clip_config *c, bool quick) {
    c->vision.eps = (real)1e-5;
    c->act_vision = quick ? ACT_QUICK_GELU : ACT_GELU;
    c->proj_bias = true;
}

static void set_siglip(clip_config *c, const char *name) {
    c->vision.eps = (real)1e-6;
    c->act_vision = is_tanh(name) ? ACT_GELU_TANH : ACT_GELU;
    c->no_class_token = c->no_ln_pre = c->patch_bias = true;
    c->pool = CLIP_POOL_PROBE;
}

static void set_eva(clip_config *c, const timm_row *row) {
    c->vision.eps = (real)1e-6;
    c->act_vision = ACT_GELU;
    c->no_ln_pre = c->patch_bias = c->proj_bias = c->vision.no_key_bias = true;
    c->vision.swiglu = c->vision.sub_norm = row->plain_swiglu;
    c->vision.post_norm = row->post_norm;
    if (row->plain_swiglu) c->rope.side = 16;
}

static void set_pe(clip_config *c, const timm_row *row) {
    bool gigantic = strstr(row->head, "gigantic") != NULL;
    c->vision.eps = (real)1e-5;
    c->act_vision = ACT_GELU;
    c->no_class_token = gigantic;
    c->rope.side = row->rope;
    c->rope.offset = gigantic ? 0 : 1;
    c->rope.x_first = true;
    c->pool = CLIP_POOL_PROBE;
    c->proj_bias = true;
}

/* timm_pool and timm_proj must be what the family has. */
static bool check_pool(const json_scope *s, clip_config *c) {
    const char *pooling, *proj, *own = c->pool == CLIP_POOL_PROBE ? "map" : "token";
    if (!json_string(s, "timm_pool", "avg", &pooling) || !json_string(s, "timm_proj", "", &proj)) return false;
    if (*pooling && strcmp(pooling, own) != 0)
        return err_set(s->e, "%s: %s.timm_pool is \"%.40s\", which is not supported, expected \"%s\"", s->file, s->path, pooling,
                       own);
    if (*proj && strcmp(proj, "none") != 0)
        return err_set(s->e, "%s: %s.timm_proj is \"%.40s\", which is not supported, expected \"none\" or null", s->file,
                       s->path, proj);
    c->no_proj = strcmp(proj, "none") == 0;
    if (c->no_proj) c->proj_bias = false;
    if (c->no_proj && c->embed != c->vision.width)
        return err_set(s->e, "%s: embed_dim is %zu, expected the image side's width, %zu, which has no projection", s->file,
                       c->embed, c->vision.width);
    return true;
}

static bool read_sizes(const json_scope *s, const timm_row *row, size_t patch, size_t size, clip_config *c) {
    json_scope k;
    size_t asked;
    double ratio;
    clip_tower *t = &c->vision;
    return json_object(s, "timm_model_kwargs", &k) &&
           config_check_switches(&k, " img_size patch_size embed_dim depth num_heads mlp_ratio ") &&
           json_size(s, "image_size", 1, IMAGE_MOST, size ? size : 224, &asked) &&
           json_size(&k, "img_size", 1, IMAGE_MOST, asked, &c->image) &&
           json_size(&k, "patch_size", 1, c->image, patch, &c->patch) &&
           json_size(&k, "embed_dim", 1, WIDTH_MOST, row->width, &t->width) &&
           json_size(&k, "depth", 1, LAYERS_MOST, row->layers, &t->layers) &&
           json_size(&k, "num_heads", 1, WIDTH_MOST, row->heads, &t->heads) &&
           json_number(&k, "mlp_ratio", 1e-5, 1e6, row->ratio, &ratio) && config_mlp(&k, ratio, t) &&
           config_divides(&k, "num_heads", t->heads, "embed_dim", t->width);
}

bool config_timm(const json_scope *s, const char *name, clip_config *c) {
    const timm_row *row = row_of(name);
    timm_kind kind;
    size_t patch, size;
    bool quick;
    if (!row || !read_tail(name, row, &kind, &patch, &size, &quick)) return unknown(s, name);
    if (!read_sizes(s, row, patch, size, c)) return false;
    if (kind == KIND_SIGLIP) set_siglip(c, name);
    else if (kind == KIND_EVA) set_eva(c, row);
    else if (kind == KIND_PE) set_pe(c, row);
    else set_clip(c, quick);
    c->pooler = c->vision;
    if (kind == KIND_PE) {
        c->pooler.heads = 8;
        c->pooler.mlp = 4 * c->vision.width;
    }
    if (c->rope.side && c->vision.width / c->vision.heads % 4)
        return err_set(s->e, "%s: %s: heads of %zu, expected a multiple of 4 for rotary positions", s->file, s->path,
                       c->vision.width / c->vision.heads);
    return check_pool(s, c);
}
