/* threads.c - four threads on one model at once, each inverting, embedding, explaining and failing: the same bytes as
 * alone. Run under ThreadSanitizer by test_library.sh.
 *     threads MODEL
 */
#include "face/face.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, W = 40, H = 30, MOST = 4096 };
static mi_model *model;
static unsigned char rgb[W * H * 3];
static float soft[W * H];

typedef struct {
    float embedding[MOST], image[MOST], text[MOST], *map;
    const char *fault;
    char said[256];
} work;

static void *run(void *arg) {
    work *w = arg;
    mi_image photo = {rgb, W, H};
    mi_mask mask = {soft, W, H};
    mi_invert_result r = {.embeddings = w->embedding};
    const char *text = "a fish";
    mi_invert_options o = mi_invert_defaults();
    mi_explain_options x = {.side = mi_image_side(model)};
    o.side = x.side, o.iters = 2;
    w->map = malloc(x.side * x.side * sizeof(float));
    if (!w->map || !mi_embed_texts(model, &text, 1, w->text)) w->fault = "text"; /* first, all four: merges are read */
    if (!w->fault && !mi_invert(model, &photo, &mask, 1, &o, &r)) w->fault = "invert";
    if (!w->fault && !mi_embed_image(model, &photo, false, 0, w->image)) w->fault = "image";
    if (!w->fault && !mi_explain(model, &photo, w->text, 1, &x, w->map)) w->fault = "explain";
    if (w->fault) return snprintf(w->said, sizeof w->said, "%.200s", mi_error()), NULL;
    o.gradient = "none";
    if (mi_invert(model, &photo, &mask, 1, &o, &r) || !strstr(mi_error(), "'none'")) w->fault = "no error";
    return NULL;
}

int main(int argc, char **argv) {
    static work alone, each[THREADS];
    pthread_t id[THREADS];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (unsigned char)(i * 31 % 253);
    for (size_t i = 0; i < W * H / 3; i++) soft[i] = 1;
    if (argc < 2 || !(model = mi_open(argv[1]))) return fprintf(stderr, "%s\n", mi_error()), 1;
    mi_set_threads(model, 2);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&id[i], NULL, run, &each[i]) != 0) return 1;
    for (int i = 0; i < THREADS; i++) pthread_join(id[i], NULL);
    run(&alone);
    size_t n = mi_embed_size(model) * sizeof(float), map = mi_image_side(model) * mi_image_side(model) * sizeof(float);
    for (int i = 0; i < THREADS; i++) {
        if (each[i].fault) return fprintf(stderr, "thread %d: %s: %s\n", i, each[i].fault, each[i].said), 1;
        if (memcmp(each[i].embedding, alone.embedding, n) || memcmp(each[i].image, alone.image, n) ||
            memcmp(each[i].text, alone.text, n) || memcmp(each[i].map, alone.map, map))
            return fprintf(stderr, "thread %d: other bytes than alone\n", i), 1;
        free(each[i].map);
    }
    free(alone.map);
    mi_close(model);
    puts("four threads, the same bytes");
    return 0;
}
