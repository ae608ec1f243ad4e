/* config_write.c - a config in open_clip's form (see config.h). */
#include "models/config.h"
#include "models/config_parts.h"
#include "models/pixels.h"

/* open_clip takes int(width*mlp_ratio): half a unit above keeps rounding harmless. */
static void write_ratio(FILE *f, const clip_tower *t) {
    if (t->mlp == 4 * t->width) return;
    if (t->mlp % t->width == 0)
        fprintf(f, "      \"mlp_ratio\": %zu.0,\n", t->mlp / t->width);
    else
        fprintf(f, "      \"mlp_ratio\": %.17g,\n", ((double)t->mlp + .5) / (double)t->width);
}

static void write_eps(FILE *f, const clip_tower *t) {
    if (t->eps != (real)1e-5) fprintf(f, "      \"norm_kwargs\": {\"eps\": %.9g},\n", (double)t->eps);
}

static void write_model(FILE *f, const clip_config *c) {
    fprintf(f, "{\n  \"model_cfg\": {\n    \"embed_dim\": %zu,\n    \"quick_gelu\": %s,\n    \"vision_cfg\": {\n",
            c->embed, c->act_vision == ACT_QUICK_GELU ? "true" : "false");
    write_ratio(f, &c->vision);
    write_eps(f, &c->vision);
    if (c->pool == CLIP_POOL_MEAN) fprintf(f, "      \"pool_type\": \"tokens_mean\",\n");
    fprintf(f,
            "      \"image_size\": %zu,\n      \"patch_size\": %zu,\n      \"width\": %zu,\n      \"layers\": %zu,\n"
            "      \"head_width\": %zu\n    },\n    \"text_cfg\": {\n",
            c->image, c->patch, c->vision.width, c->vision.layers, c->vision.width / c->vision.heads);
    write_ratio(f, &c->text);
    write_eps(f, &c->text);
    fprintf(f,
            "      \"context_length\": %zu,\n      \"vocab_size\": %zu,\n      \"width\": %zu,\n      \"heads\": %zu,\n"
            "      \"layers\": %zu\n    }\n  },\n",
            c->context, c->vocab, c->text.width, c->text.heads, c->text.layers);
}

static bool is_plain(const clip_config *c) {
    return !clip_has_pooler(c) && c->pool != CLIP_POOL_PATCHES && !c->no_class_token && !c->no_ln_pre && !c->patch_bias &&
           !c->no_proj && !c->proj_bias && !c->alpha && !c->rope.side && !c->vision.layer_scale && !c->vision.post_norm &&
           !c->vision.sub_norm && !c->vision.swiglu && !c->vision.no_key_bias && !c->text_unmasked && !c->read &&
           !c->no_text_proj && !c->text_proj_bias && !c->text_class && !c->text_long && !c->logit_bias &&
           !c->text.layer_scale && !c->decoder.layers && c->text.layers && c->act_vision <= ACT_GELU &&
           c->act_text <= ACT_GELU;
}

bool config_write(FILE *f, const clip_config *c, err *e) {
    if (!is_plain(c)) return err_set(e, "only CLIP's own ViT can be written");
    if (c->act_vision != c->act_text)
        return err_set(
            e, "the image tower uses %s and the text tower %s: open_clip's config has one activation for both",
            c->act_vision == ACT_GELU ? "gelu" : "quick_gelu", c->act_text == ACT_GELU ? "gelu" : "quick_gelu");
    write_model(f, c);
    if (!pixels_write(f, c, e)) return false;
    if (c->invert.lr > 0 || c->invert.alpha > 0 || c->invert.iters || c->invert.layers || c->invert.size)
        fprintf(f,
                ",\n  \"maskinv_cfg\": {\"lr\": %.9g, \"alpha\": %.9g, \"iters\": %zu, \"layers\": %zu, \"size\": %zu}",
                (double)c->invert.lr, (double)c->invert.alpha, c->invert.iters, c->invert.layers, c->invert.size);
    fprintf(f, "\n}\n");
    return true;
}
