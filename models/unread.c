/* unread.c - which unread tensors matter (see unread.h). */
#include "models/unread.h"
#include <string.h>
#include "models/containers.h"

/* Made again at every start, counters of training, or sizes that the shapes give too: no numbers of the network. */
static const char *const WITHOUT_MEANING[] = {"num_batches_tracked", "position_ids", "attn_mask", "rope.freqs",
                                              "mask_token", "input_resolution", "context_length", "vocab_size"};
/* Where a tower's names begin, in every layout. */
static const char *const IMAGE_TOWERS[] = {"visual.", "vision_model.", "visual_projection", "conv1_alpha."};
static const char *const TEXT_TOWERS[] = {"transformer.", "text_model.",     "token_embedding.", "positional_embedding",
                                          "ln_final.",    "text_projection", "text.",            "text_decoder."};

static bool begins(const char *name, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!strncmp(name, list[i], strlen(list[i]))) return true;
    return false;
}

static bool without_meaning(const char *name) {
    for (size_t i = 0; i < sizeof WITHOUT_MEANING / sizeof *WITHOUT_MEANING; i++)
        if (strstr(name, WITHOUT_MEANING[i])) return true;
    return false;
}

#define COUNT(list) (sizeof(list) / sizeof *(list))

/* Was any tensor of the text side read? Where none was, the image side was asked for alone. */
static bool reads_text(const tensors *t, const bool *used) {
    for (size_t i = 0; i < tensors_count(t); i++)
        if (used[i] && begins(tensors_at(t, i)->name, TEXT_TOWERS, COUNT(TEXT_TOWERS))) return true;
    return false;
}

bool unread_check(tensors *t, const bool *used, err *e) {
    bool text = reads_text(t, used);
    size_t others = 0, texts = 0;
    const char *first = NULL;
    for (size_t i = 0; i < tensors_count(t); i++) {
        const char *name = tensors_at(t, i)->name;
        if (used[i] || without_meaning(name)) continue;
        if (strstr(name, "lora_"))
            return err_set(e, "%s: tensor \"%.200s\" is a LoRA's, which is not supported: merge it into the weights first",
                           tensors_name(t), name);
        bool of_text = begins(name, TEXT_TOWERS, COUNT(TEXT_TOWERS));
        if (of_text && !text) {
            texts++;
        } else if (of_text || begins(name, IMAGE_TOWERS, COUNT(IMAGE_TOWERS))) {
            return err_set(e,
                           "%s: tensor \"%.200s\" has no place in the network that the config describes: a layer, bias or "
                           "scale too many, or a switch that the config lacks",
                           tensors_name(t), name);
        } else if (!others++) {
            first = name;
        }
    }
    if (texts && !tensors_add_note(t, e, "%zu tensors of the text side: not read", texts)) return false;
    return !others || tensors_add_note(t, e, "%zu tensors of no tower: not read, the first: %.100s", others, first);
}
