/* config_write.c - a config in open_clip's form, whatever form it was read from (see config.h). */
#include "models/config.h"
#include "files/longtext.h"
#include <string.h>
#include "models/names.h"
#include "models/pixels.h"

/* int(width*mlp_ratio) is taken by its readers: half a unit above keeps rounding harmless. */
static void write_ratio(FILE *f, const clip_tower *t) {
    if (t->mlp == 4 * t->width) return;
    if (t->mlp % t->width == 0)
        fprintf(f, "      \"mlp_ratio\": %zu.0,\n", t->mlp / t->width);
    else
        fprintf(f, "      \"mlp_ratio\": %.17g,\n", ((double)t->mlp + .5) / (double)t->width);
}

static void write_tower(FILE *f, const clip_tower *t, act_kind act) {
    write_ratio(f, t);
    if (t->eps != (real)1e-5) fprintf(f, "      \"norm_kwargs\": {\"eps\": %.*g},\n", REAL_DIGITS, (double)t->eps);
    if (act == ACT_GELU_TANH) fprintf(f, "      \"act_kwargs\": {\"approximate\": \"tanh\"},\n");
    if (t->layer_scale) fprintf(f, "      \"ls_init_value\": 1e-5,\n");
}

/* ---- image side ------------------------------------------------------------------------------------------- */
/* A timm name that says the switches; its sizes are replaced by kwargs. NULL: no name says them. */
static const char *timm_name(const clip_config *c) {
    if (c->pool == CLIP_POOL_PROBE && c->rope.side)
        return c->no_class_token         ? "vit_pe_core_gigantic_patch14_448"
               : c->rope.side == 14      ? "vit_pe_core_base_patch16_224"
               : c->rope.side == 24      ? "vit_pe_core_large_patch14_336"
                                         : NULL;
    if (c->pool == CLIP_POOL_PROBE)
        return c->act_vision == ACT_GELU_TANH ? "vit_so400m_patch16_siglip_256" : "vit_base_patch16_siglip_224";
    if (c->rope.side) return c->rope.side == 16 ? "eva02_base_patch16_clip_224" : NULL;
    if (c->patch_bias) return c->vision.post_norm ? "eva02_enormous_patch14_clip_224" : "eva_giant_patch14_clip_224";
    return c->act_vision == ACT_QUICK_GELU ? "vit_base_patch16_clip_quickgelu_224" : "vit_base_patch16_clip_224";
}

static void write_timm(FILE *f, const clip_config *c) {
    const clip_tower *t = &c->vision;
    fprintf(f,
            "      \"timm_model_name\": \"%s\",\n      \"timm_model_pretrained\": false,\n      \"timm_pool\": \"%s\",\n"
            "      \"timm_proj\": %s,\n      \"timm_model_kwargs\": {\"img_size\": %zu, \"patch_size\": %zu, "
            "\"embed_dim\": %zu, \"depth\": %zu, \"num_heads\": %zu, \"mlp_ratio\": %.17g},\n      \"image_size\": %zu\n",
            timm_name(c), c->pool == CLIP_POOL_PROBE ? "map" : "token", c->no_proj ? "\"none\"" : "null", c->image,
            c->patch, t->width, t->layers, t->heads, ((double)t->mlp + .5) / (double)t->width, c->image);
}

static void write_resnet(FILE *f, const clip_config *c) {
    fprintf(f,
            "      \"image_size\": %zu,\n      \"layers\": [%zu, %zu, %zu, %zu],\n      \"width\": %zu,\n"
            "      \"head_width\": %zu,\n      \"patch_size\": null\n",
            c->image, c->resnet[0], c->resnet[1], c->resnet[2], c->resnet[3], c->vision.width / 32,
            c->vision.width / c->vision.heads);
}

static void write_vit(FILE *f, const clip_config *c) {
    write_tower(f, &c->vision, c->act_vision);
    if (c->no_ln_pre) fprintf(f, "      \"no_ln_pre\": true,\n");
    if (c->pool == CLIP_POOL_MEAN) fprintf(f, "      \"pool_type\": \"tokens_mean\",\n");
    if (c->pool == CLIP_POOL_PATCHES) fprintf(f, "      \"pool_type\": \"avg\",\n");
    if (c->ln_after_pool) fprintf(f, "      \"final_ln_after_pool\": true,\n");
    if (c->pool == CLIP_POOL_QUERIES)
        fprintf(f,
                "      \"attentional_pool\": true,\n      \"attn_pooler_queries\": %zu,\n"
                "      \"attn_pooler_heads\": %zu,\n      \"output_tokens\": true,\n",
                c->queries, c->pooler.heads);
    fprintf(f,
            "      \"image_size\": %zu,\n      \"patch_size\": %zu,\n      \"width\": %zu,\n      \"layers\": %zu,\n"
            "      \"head_width\": %zu\n",
            c->image, c->patch, c->vision.width, c->vision.layers, c->vision.width / c->vision.heads);
}

/* ---- text side ---------------------------------------------------------------------------------------------- */
/* What open_clip does to texts before its tokenizer; of SigLIP from other layouts it is what they call canonicalize. */
static void write_cleaning(FILE *f, const clip_config *c, const token_settings *texts) {
    const char *clean = *texts->clean ? texts->clean : *texts->layout && c->text_unmasked ? "canonicalize" : "";
    if (clean[strspn(clean, "abcdefghijklmnopqrstuvwxyz_")]) clean = ""; /* not open_clip's: refused where texts are read */
    if (!*clean && !texts->strip_sep) return;
    fprintf(f, "      \"tokenizer_kwargs\": {");
    if (*clean) fprintf(f, "\"clean\": \"%s\"%s", clean, texts->strip_sep ? ", " : "");
    if (texts->strip_sep) fprintf(f, "\"strip_sep_token\": true");
    fprintf(f, "},\n");
}

static void write_text(FILE *f, const clip_config *c, const token_settings *texts) {
    static const char *const reads[] = {[CLIP_READ_EOS] = "eos", [CLIP_READ_LAST] = "last", [CLIP_READ_FIRST] = "first"};
    write_tower(f, &c->text, c->act_text);
    if (texts) write_cleaning(f, c, texts);
    if (c->text_unmasked) fprintf(f, "      \"no_causal_mask\": true,\n");
    if (c->text_class) fprintf(f, "      \"embed_cls\": true,\n      \"output_tokens\": true,\n");
    if (c->read != CLIP_READ_LARGEST) fprintf(f, "      \"pool_type\": \"%s\",\n", reads[c->read]);
    if (c->read == CLIP_READ_EOS) fprintf(f, "      \"eos_id\": %zu,\n", c->eos);
    if (c->pad) fprintf(f, "      \"pad_id\": %zu,\n", c->pad);
    if (c->no_text_proj) fprintf(f, "      \"proj_type\": \"none\",\n");
    if (c->text_proj_bias) fprintf(f, "      \"proj_bias\": true,\n");
    fprintf(f,
            "      \"context_length\": %zu,\n      \"vocab_size\": %zu,\n      \"width\": %zu,\n      \"heads\": %zu,\n"
            "      \"layers\": %zu\n    }",
            c->context, c->vocab, c->text.width, c->text.heads, c->text.layers);
}

static void write_decoder(FILE *f, const clip_config *c) {
    if (!c->decoder.layers) return;
    fprintf(f, ",\n    \"multimodal_cfg\": {\n");
    write_tower(f, &c->decoder, ACT_GELU);
    fprintf(f,
            "      \"context_length\": %zu,\n      \"vocab_size\": %zu,\n      \"width\": %zu,\n      \"heads\": %zu,\n"
            "      \"layers\": %zu\n    }",
            c->context, c->vocab, c->decoder.width, c->decoder.heads, c->decoder.layers);
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */
/* open_clip has one quick_gelu for both sides; timm's towers have theirs by name, a ResNet none. */
static bool own_act(const clip_config *c) { return names_with_timm(c) || clip_is_resnet(c); }

static bool check_words(const clip_config *c, const token_settings *texts, err *e) {
    static const char *const names[] = {[ACT_QUICK_GELU] = "quick_gelu", [ACT_GELU] = "gelu", [ACT_GELU_TANH] = "tanh gelu"};
    bool quick = c->act_vision == ACT_QUICK_GELU;
    if (!c->text.layers) return err_set(e, "its text side was not read, so that the whole model cannot be written");
    if (texts && *texts->other) return err_set(e, "%s is not obeyed, so that the whole model cannot be written", texts->other);
    if (!own_act(c) && quick != (c->act_text == ACT_QUICK_GELU))
        return err_set(
            e, "the image tower uses %s and the text tower %s: open_clip's config has one activation for both",
            names[c->act_vision], names[c->act_text]);
    if (names_with_timm(c) && !timm_name(c))
        return err_set(e, "rotary positions over %zu cells: open_clip's config has no words for them", c->rope.side);
    return true;
}

/* Our own: what the model likes for MaskInversion, and whose way with texts it was published with. */
static void write_own(FILE *f, const clip_config *c, const char *layout) {
    const char *comma = "";
    bool settings = c->invert.lr > 0 || c->invert.alpha > 0 || c->invert.iters || c->invert.layers || c->invert.size;
    if (!settings && !*layout) return;
    fprintf(f, ",\n  \"maskinv_cfg\": {");
    if (settings)
        fprintf(f, "\"lr\": %.*g, \"alpha\": %.*g, \"iters\": %zu, \"layers\": %zu, \"size\": %zu", REAL_DIGITS,
                (double)c->invert.lr, REAL_DIGITS, (double)c->invert.alpha, c->invert.iters, c->invert.layers, c->invert.size), comma = ", ";
    if (*layout) fprintf(f, "%s\"texts\": \"%s\"", comma, layout);
    fprintf(f, "}");
}

bool config_write(FILE *f, const clip_config *c, const token_settings *texts, err *e) {
    if (!check_words(c, texts, e)) return false;
    bool quick = (own_act(c) ? c->act_text : c->act_vision) == ACT_QUICK_GELU;
    fprintf(f, "{\n  \"model_cfg\": {\n    \"embed_dim\": %zu,\n    \"quick_gelu\": %s,\n", c->embed, quick ? "true" : "false");
    if (names_custom_text(c)) fprintf(f, "    \"custom_text\": true,\n");
    if (c->logit_bias) fprintf(f, "    \"init_logit_bias\": -10,\n");
    fprintf(f, "    \"vision_cfg\": {\n");
    (clip_is_resnet(c) ? write_resnet : names_with_timm(c) ? write_timm : write_vit)(f, c);
    fprintf(f, "    },\n    \"text_cfg\": {\n");
    write_text(f, c, texts);
    write_decoder(f, c);
    fprintf(f, "\n  },\n");
    if (!pixels_write(f, c, e)) return false;
    write_own(f, c, texts ? texts->layout : "");
    fprintf(f, "\n}\n");
    return true;
}
