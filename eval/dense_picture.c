/* dense_picture.c - one picture of the segmentation task: truth from its label picture, labels of each row, counted (see
 * dense.h; MODEL.md 6.7). */
#include "eval/dense.h"
#include "segment/score.h"
#include <string.h>

/* ---- values of label pictures ------------------------------------------------------------------------------------- */
enum { VOID = 255 };

/* COCO's ids that never occur, among the 80 things and the 91 stuffs. */
static const unsigned char missing[] = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91};
enum { LAST_THING = 90, LAST_ID = 182 };

/* id 1...182 -> its place among those that occur, from 0; UINT16_MAX: none. */
static uint16_t coco_place(uint32_t id) {
    uint32_t below = 0;
    if (id < 1 || id > LAST_ID) return UINT16_MAX;
    for (size_t i = 0; i < sizeof missing; i++) {
        if (missing[i] == id) return UINT16_MAX;
        below += missing[i] < id;
    }
    return (uint16_t)(id - 1 - below);
}

/* reduce_zero_label: 0 is nothing, l is class l - 1 */
static uint16_t reduced(uint32_t value, size_t count) {
    return value >= 1 && value <= count ? (uint16_t)(value - 1) : (uint16_t)SEGMENT_IGNORED;
}

uint16_t dense_truth(const segment_list *list, uint32_t value) {
    bool thing = value < LAST_THING && coco_place(value + 1) != UINT16_MAX; /* label pictures hold id - 1 */
    if (!strcmp(list->data, "coco_stuff")) {
        if (!strcmp(list->name, "coco_object")) return thing ? (uint16_t)(coco_place(value + 1) + 1) : 0; /* stuff and 255 are background */
        if (!strcmp(list->name, "cliptrase_coco80")) return thing ? coco_place(value + 1) : (uint16_t)list->count;
        uint16_t place = coco_place(value + 1);
        return place == UINT16_MAX ? (uint16_t)SEGMENT_IGNORED : place;
    }
    if (!strcmp(list->data, "cityscapes")) return value < list->count ? (uint16_t)value : (uint16_t)SEGMENT_IGNORED;
    if (list->words) return reduced(value, list->count) == SEGMENT_IGNORED ? (uint16_t)list->count : (uint16_t)(value - 1);
    if (list->background) return value < list->count ? (uint16_t)value : (uint16_t)SEGMENT_IGNORED;
    return reduced(value, list->count);
}

/* ---- one picture --------------------------------------------------------------------------------------------------- */
typedef struct {
    picture photo;
    uint16_t *truth;                   /* [height,width] of the row in hand */
    uint64_t *hit, *predicted, *true_; /* [classes] */
} measuring;

/* CLIPtrase looks at the middle S x S of the picture whose shorter side is S, and counts there: labels the same way, nearest. */
static bool cut_middle(const dense_row *r, const survey_picture *p, measuring *m, picture *square, arena *memory, err *e) {
    size_t S = r->s.settings.shorter, least = p->width < p->height ? p->width : p->height;
    size_t w = S * p->width / least, h = S * p->height / least, left = (w - S + 1) / 2, top = (h - S + 1) / 2;
    picture small;
    if (!picture_resize(&m->photo, w, h, &small, e)) return false;
    bool ok = picture_new(S, S, square, e);
    m->truth = arena_alloc(memory, S * S, sizeof *m->truth);
    if (ok && !m->truth) ok = err_set(e, "--memory: too little for the truth of %s", p->id);
    for (size_t y = 0; ok && y < S; y++) {
        memcpy(square->rgb + 3 * y * S, small.rgb + 3 * ((top + y) * w + left), 3 * S);
        for (size_t x = 0; x < S; x++) {
            size_t from = (2 * (top + y) + 1) * p->height / (2 * h) * p->width + (2 * (left + x) + 1) * p->width / (2 * w);
            m->truth[y * S + x] = dense_truth(r->s.classes->list, p->labels[from]);
        }
    }
    picture_free(&small);
    return ok;
}

static void say_counts(const measuring *m, size_t classes, longtext *line) {
    bool first = true;
    say(line, "[");
    for (size_t c = 0; c < classes; c++) {
        if (!m->predicted[c] && !m->true_[c]) continue;
        say(line, "%s[%zu,%llu,%llu,%llu]", first ? "" : ",", c, (unsigned long long)m->hit[c], (unsigned long long)m->predicted[c],
            (unsigned long long)m->true_[c]);
        first = false;
    }
    say(line, "]");
}

static bool measure_row(const dense_row *r, const survey_picture *p, measuring *m, arena *memory, longtext *line, err *e) {
    size_t mark = arena_mark(memory), classes = r->s.classes->count, n = p->width * p->height;
    bool middle = r->s.settings.how->clusters, ok = true;
    picture square = {0};
    segmentation out;
    m->hit = arena_alloc(memory, 3 * classes, sizeof *m->hit);
    if (!middle) m->truth = arena_alloc(memory, n, sizeof *m->truth);
    if (!m->hit || (!middle && !m->truth)) return err_set(e, "--memory: too little for the truth of %s", p->id);
    m->predicted = m->hit + classes, m->true_ = m->predicted + classes;
    memset(m->hit, 0, 3 * classes * sizeof *m->hit);
    for (size_t i = 0; !middle && i < n; i++) m->truth[i] = dense_truth(r->s.classes->list, p->labels[i]);
    if (middle) ok = cut_middle(r, p, m, &square, memory, e);
    ok = ok && segment_picture(&r->s, middle ? &square : &m->photo, &out, memory, NULL, e);
    if (ok) {
        segment_score score = {classes, m->hit, m->predicted, m->true_};
        segment_score_add(&score, out.label, m->truth, out.width * out.height);
        say_counts(m, classes, line);
    }
    picture_free(&square);
    arena_reset(memory, mark);
    return ok ? true : err_prefix(e, "%s of %s", r->name, p->id);
}

bool dense_measure(const survey *s, const survey_picture *p, arena *memory, longtext *line, err *e) {
    measuring m = {0};
    char path[4096];
    err why = {0};
    bool ok = true;
    line->length = 0;
    say(line, "{\"picture\":%zu,\"image\":", p->index);
    say_quoted(line, p->id);
    say(line, ",\"left\":[%s]", p->left.length ? p->left.text : "");
    snprintf(path, sizeof path, "%s/%s", s->root, p->file);
    if (!p->labels) err_set(&why, "no label picture");
    else if (picture_read_stored(path, &m.photo, &why) && (m.photo.width != p->width || m.photo.height != p->height))
        err_set(&why, "the picture has changed");
    if (why.text[0]) {
        say(line, ",\"broken\":");
        say_quoted(line, why.text);
    } else {
        say(line, ",\"rows\":[");
        for (size_t i = 0; ok && i < s->dense->row_count; i++) {
            if (i) say(line, ",");
            ok = measure_row(&s->dense->rows[i], p, &m, memory, line, e);
        }
        say(line, "]");
    }
    say(line, "}\n");
    picture_free(&m.photo);
    return ok && (!line->failed || err_set(e, "no memory for a line of results"));
}
