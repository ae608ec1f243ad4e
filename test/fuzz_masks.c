/* fuzz_masks.c - any bytes as COCO's segmentation field, as PhraseCut's polygons, and as compressed run lengths: what
 * is drawn is 0 or counts, and run lengths made of it come back as it was. */
#include "masks/segmentation.h"
#include "masks/rle.h"
#include <string.h>

enum { H = 13, W = 17 };
static void come_back(const unsigned char *mask) {
    unsigned char again[H * W], flat[H * W];
    longtext text = {0};
    err e = {0};
    for (size_t i = 0; i < H * W; i++) flat[i] = mask[i] > 0;
    rle_encode(flat, H, W, &text);
    if (!text.failed && (!rle_decode(text.text, text.length, H, W, again, &e) || memcmp(again, flat, H * W) != 0))
        __builtin_trap();
    mem_free(text.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    err e = {0};
    unsigned char mask[H * W];
    segment_room room = {0};
    mem_hook_cjson();
    if (rle_decode((const char *)bytes, length, H, W, mask, &e)) come_back(mask);
    e.text[0] = 0;
    cJSON *j = json_parse((const char *)bytes, length, "fuzz", &e);
    if (!j) return e.text[0] ? 0 : (__builtin_trap(), 0);
    if (segment_draw(j, H, W, &room, &e)) come_back(room.cover);
    if (segment_phrasecut(j, H, W, &room, &e)) come_back(room.cover);
    segment_free(&room);
    json_free(j);
    return 0;
}
