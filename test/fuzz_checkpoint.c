/* fuzz_checkpoint.c - any bytes as the weights of a very small model: every weight that is bound can be read. */
#include "models/checkpoint.h"

static const char CONFIG[] =
    "{\"model_cfg\":{\"embed_dim\":4,\"vision_cfg\":{\"image_size\":8,\"patch_size\":4,\"width\":8,\"layers\":1,"
    "\"head_width\":4},\"text_cfg\":{\"width\":8,\"heads\":2,\"layers\":1,\"vocab_size\":20,\"context_length\":6}}}";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    mem_hook_cjson();
    checkpoint *c = checkpoint_parse("fuzz", (checkpoint_bytes){bytes, length},
                                     (checkpoint_bytes){CONFIG, sizeof CONFIG - 1}, (checkpoint_bytes){0}, &e);
    if ((c == NULL) != (e.text[0] != 0)) __builtin_trap(); /* an error without a message, or the reverse */
    if (c) (void)checkpoint_check_finite(c, &e);
    checkpoint_free(c);
    return 0;
}
