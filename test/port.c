/* port.c - the core alone, as an embedded target has it: no file, no thread, no BLAS, one static buffer. Inverts two
 * masks on a seeded model and prints the losses and where the embedding ended; test/test_port.sh compares machines. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "maskinv.h"
#include "x_seeded.h"

enum { SIDE = 48, ITERS = 6, EMBED = 48 };
static unsigned char room[12 << 20];

static void paint(real *mask, int kind) {
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) mask[y * SIDE + x] = kind ? x > y : (y - 20) * (y - 20) + (x - 30) * (x - 30) < 150;
}

int main(void) {
    static real pixels[3 * SIDE * SIDE], mask[SIDE * SIDE];
    seeded_model s;
    arena memory;
    fault f = {0};
    explained x;
    explain_options o = {.layers = 2, .gradient = GRADIENT_FACTORED, .steps = ITERS};
    invert_options how = invert_defaults();
    how.iters = ITERS;
    if (!seeded_make(&s, seeded_config(32, 8, 64, 3, 4, EMBED), CLIP_F16, 7)) return 1;
    for (int i = 0; i < 3 * SIDE * SIDE; i++) pixels[i] = (real)((i * 7919 % 2003) - 1001) / 500;
    arena_init(&memory, room, sizeof room);
    bool ok = explain_open(&x, &s.model, pixels, SIDE, SIDE, &o, &memory, NULL, &f);
    for (int k = 0; ok && k < 2; k++) {
        real e[EMBED], losses[ITERS];
        invert_result r = {.embedding = e, .losses = losses};
        paint(mask, k);
        ok = maskinv_invert(&x, mask, SIDE, SIDE, &how, &r, &f);
        for (int i = 0; ok && i < ITERS; i++) printf("%.5f ", (double)losses[i]);
        for (int i = 0; ok && i < 4; i++) printf("%.4f ", (double)e[i]);
        printf("\n");
    }
    fprintf(stderr, "peak %zu bytes, fault %d %s\n", memory.peak, (int)f.code, f.where ? f.where : "");
    seeded_free(&s);
    return ok ? 0 : 1;
}
