/* fuzz_config.c - any bytes as a config, and as an open_clip or Hugging Face model without weights. */
#include "models/checkpoint.h"
#include "models/config.h"
#include <string.h>

/* What was let through and written in open_clip's form reads back the same. */
static void check_written(const clip_config *c) {
    char text[4096];
    err e = {0};
    clip_config back;
    if (c->act_vision != c->act_text) return; /* open_clip has no words for it */
    FILE *f = fmemopen(text, sizeof text, "w");
    if (!f) return;
    bool ok = config_write(f, c, NULL, &e);
    long length = ftell(f);
    fclose(f);
    if (!ok && strstr(e.text, "can be written")) return;
    if (!ok || length <= 0 || !config_parse(text, (size_t)length, "written", &back, &e)) __builtin_trap();
    if (back.vision.mlp != c->vision.mlp || back.text.mlp != c->text.mlp) __builtin_trap();
    if (back.vision.heads != c->vision.heads || back.patch != c->patch || back.pool != c->pool) __builtin_trap();
    for (int i = 0; i < 3; i++)
        if ((float)back.mean[i] != (float)c->mean[i] || (float)back.std[i] != (float)c->std[i]) __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    clip_config c;
    mem_hook_cjson();
    if (config_parse((const char *)bytes, length, "fuzz", &c, &e)) {
        /* what is let through can be computed with */
        if (!c.patch || !c.image || c.patch > c.image || !c.vision.heads || c.vision.width % c.vision.heads)
            __builtin_trap();
        if (c.text.layers && (!c.text.heads || c.text.width % c.text.heads || !c.context)) __builtin_trap();
        if ((!c.vision.layers && !clip_is_resnet(&c)) || !c.embed)
            __builtin_trap();
        check_written(&c);
    } else if (!e.text[0]) {
        __builtin_trap();
    }
    (void)config_parse_preprocessor((const char *)bytes, length, "fuzz", &c, &e);
    return 0;
}
