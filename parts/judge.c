/* judge.c - names and colours of small pictures (see judge.h). */
#include "parts/judge.h"
#include <math.h>
#include <string.h>

void judge_weights(judge_net *n, part_list *l) {
    part_linear(l, n->fc[0], n->hidden, n->coefficients, false, pow((double)n->coefficients, -0.5), "fc.0");
    part_linear(l, n->fc[1], n->names + n->colours, n->hidden, false, pow((double)n->hidden, -0.5), "fc.1");
}

ag_tensor *judge_scores(ag_tape *t, const judge_net *n, ag_tensor *a, ag_tensor *keep) {
    ag_tensor *h = ag_relu(t, part_use_linear(t, n->fc[0], false, a));
    return part_use_linear(t, n->fc[1], false, keep ? ag_mul(t, h, keep) : h);
}

struct judge {
    judge_net net;
    linear_space space;
    part_home home;
    char *names, *colours;
};

void judge_free(judge *j) {
    if (!j) return;
    part_leave(&j->home);
    mem_free(j->names), mem_free(j->colours), mem_free(j);
}

static bool open_file(judge *j, const char *path, err *e) {
    part_list l = {0};
    size_t rows;
    if (!(j->home.file = tensors_open(path, e)) || !space_shape(&j->space, j->home.file, e)) return false;
    if (!(j->names = part_words(j->home.file, "names", &j->net.names, e)) ||
        !(j->colours = part_words(j->home.file, "colours", &j->net.colours, e)))
        return err_set(e, "%s: it is no judge, as train judge makes them", path);
    if (!part_shape(j->home.file, "fc.0.weight", &j->net.hidden, &rows)) return err_set(e, "%s: \"fc.0.weight\" is missing", path);
    j->net.coefficients = j->space.count;
    judge_weights(&j->net, &l);
    space_weights(&j->space, &l);
    bool good = part_listed(&l, e) && part_move_in(&j->home, &l, e);
    part_list_free(&l);
    return good;
}

judge *judge_open(const char *path, err *e) {
    judge *j = mem_alloc(1, sizeof *j);
    if (!j) return err_set(e, "%s: no memory", path), NULL;
    if (open_file(j, path, e)) return j;
    judge_free(j);
    return NULL;
}

size_t judge_numbers(const judge *j) { return j->space.numbers; }

static const char *best(const char *words, const real *score, size_t count) {
    size_t k = 0;
    for (size_t i = 1; i < count; i++)
        if (score[i] > score[k]) k = i;
    for (; k > 0; k--) words += strlen(words) + 1;
    return words;
}

bool judge_read(const judge *j, const unsigned char *pixels, arena *memory, judge_reading *out, err *e) {
    size_t N = j->space.numbers, mark = arena_mark(memory);
    ag_tape t;
    if (!ag_tape_init(&t, memory, NULL, 1)) return err_fault(e, &t.fault);
    t.recording = false;
    ag_tensor *x = ag_new(&t, 1, 1, N);
    for (size_t i = 0; x && i < N; i++) x->data[i] = (real)pixels[i] / (real)127.5 - 1;
    ag_tensor *s = judge_scores(&t, &j->net, space_into(&t, &j->space, x), NULL);
    if (s) *out = (judge_reading){best(j->names, s->data, j->net.names), best(j->colours, s->data + j->net.names, j->net.colours)};
    arena_reset(memory, mark);
    return s ? true : err_fault(e, &t.fault);
}
