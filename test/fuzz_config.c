/* fuzz_config.c - any bytes as a config, and as an open_clip or Hugging Face model without weights. */
#include "checkpoint.h"
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    clip_config c;
    mem_hook_cjson();
    if (checkpoint_parse_config((const char *)bytes, length, "fuzz", &c, &e)) {
        /* what is let through can be computed with */
        if (!c.patch || !c.image || c.image % c.patch || !c.vision.heads || c.vision.width % c.vision.heads) __builtin_trap();
        if (!c.text.heads || c.text.width % c.text.heads || !c.vision.layers || !c.embed || !c.context) __builtin_trap();
    } else if (!e.text[0]) {
        __builtin_trap();
    }
    (void)config_parse_preprocessor((const char *)bytes, length, "fuzz", &c, &e);
    return 0;
}
