/* library.c - a user's program: invert two masks, compare with texts, explain one, and show an error.
 *     library MODEL PICTURE MASK0 MASK1 OUT        writes OUT: the embeddings, then the map, as float32
 */
#include <maskinv/maskinv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool show(void *arg, size_t mask, size_t step) {
    (void)mask, (void)step;
    return ++*(int *)arg > 0;
}

/* Step by step: the same bytes, and layers that add up. */
static bool by_steps(mi_model *m, const mi_image *photo, const mi_mask *mask, const float *e, const float *losses) {
    mi_session *s = mi_session_open(m, photo, &(mi_invert_options){.layers = 2, .lr = -1, .alpha = -1, .decay = -1});
    mi_step step;
    if (!s || mi_session_step(s, &step) || !strstr(mi_error(), "no mask") || !mi_session_mask(s, mask)) return false;
    for (size_t i = 0; i < 10; i++)
        if (!mi_session_step(s, &step) || step.count != i + 1 || (float)step.loss != losses[i]) return false;
    float *layers = malloc(2 * step.rows * step.columns * sizeof *layers);
    bool ok = memcmp(step.embedding, e, mi_embed_size(m) * sizeof *e) == 0 && step.layers == 2 && mi_session_layers(s, layers);
    for (size_t i = 0, n = step.rows * step.columns; ok && i < n; i++) {
        float gap = layers[i] + layers[n + i] - step.grid[i];
        ok = gap <= 1e-5f * step.grid[i] && -gap <= 1e-5f * step.grid[i] && step.share[i] >= 0;
    }
    free(layers);
    mi_session_close(s);
    return ok;
}

int main(int argc, char **argv) {
    const char *texts[] = {"a fish", "a cat"};
    mi_image photo;
    mi_mask masks[2];
    int steps = 0;
    mi_model *m = argc == 6 ? mi_open(argv[1]) : NULL;
    if (!m || !mi_image_read(argv[2], &photo)) return fprintf(stderr, "%s\n", mi_error()), 1;
    for (int i = 0; i < 2; i++)
        if (!mi_mask_read(argv[3 + i], &masks[i])) return fprintf(stderr, "%s\n", mi_error()), 1;
    size_t n = mi_embed_size(m), side = mi_side(m, 0);
    float *e = malloc(2 * n * sizeof *e), *units = malloc(2 * n * sizeof *e), *map = malloc(side * side * sizeof *e);
    double share[2];
    mi_invert_result r = {.embeddings = e};
    mi_invert_options o = mi_invert_defaults();
    o.progress = show, o.progress_arg = &steps;
    if (!mi_invert(m, &photo, masks, 2, &o, &r)) return fprintf(stderr, "%s\n", mi_error()), 1;
    if (!mi_explain(m, &photo, e, 1, NULL, map)) return fprintf(stderr, "%s\n", mi_error()), 1;
    float losses[10], *two = malloc(n * sizeof *two);
    mi_invert_options o2 = {.layers = 2, .lr = -1, .alpha = -1, .decay = -1};
    mi_invert_result r2 = {.embeddings = two, .losses = losses};
    if (!mi_invert(m, &photo, masks, 1, &o2, &r2) || !by_steps(m, &photo, &masks[0], two, losses))
        return fprintf(stderr, "step by step: other numbers: %s\n", mi_error()), 1;
    free(two);
    if (mi_embed_queries(m, texts, 2, NULL, 0, units) && mi_compare(m, e, units, 2, NULL, share))
        printf("%s %.4f, %s %.4f\n", texts[0], share[0], texts[1], share[1]);
    FILE *out = fopen(argv[5], "wb");
    if (!out || fwrite(e, sizeof *e, 2 * n, out) != 2 * n || fwrite(map, sizeof *e, side * side, out) != side * side) return 1;
    fclose(out);
    if (mi_open("no/such/model")) return 1;
    printf("%s, %zu numbers, %d steps of %zu: %s\n", mi_version(), n, steps, mi_invert_steps(m, &o), mi_error());
    for (int i = 0; i < 2; i++) mi_mask_free(&masks[i]);
    mi_image_free(&photo);
    free(e), free(units), free(map);
    mi_close(m);
    return 0;
}
