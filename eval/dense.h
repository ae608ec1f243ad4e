/* dense.h - the segmentation task of a survey: each method labels every picture, pixels are counted, mIoU comes last.
 *
 *     if (!dense_open(&s, "naclip,naclip+pamr,cliptrase", NULL, &memory, cores, &usage, &e)) ...   // s.dense; names embedded
 *     survey_run(&s, "out", ...)           // as every survey: resumed, in shards; a line a picture, of whole numbers
 *     dense_finish("out", stdout, &e)      // table.csv, table.json, report.html from results.jsonl alone
 *
 * Upwards: segment/ labels and scores; data/ gives the label pictures; survey_run.c runs. A row is a method and a published
 * list of names, whose values in the label pictures dense_truth.c knows.
 */
#ifndef DENSE_H
#define DENSE_H
#include "eval/survey.h"
#include "segment/segment.h"

enum { DENSE_ROWS = 64, DENSE_LISTS = 16 };
typedef struct {
    char name[32]; /* "naclip+pamr", "resclip-sclip" */
    segmenter s;   /* its classes and queries are one of dense's lists' */
    size_t list;
} dense_row;
typedef struct { /* a published list, embedded in 80, 85 or the flags' templates */
    segment_classes classes;
    size_t templates;
    real *queries;
} dense_list;
struct dense {
    dense_row rows[DENSE_ROWS];
    size_t row_count;
    dense_list lists[DENSE_LISTS];
    size_t list_count;
};

/* methods: NULL, all; each may end in +pamr; resclip-sclip and resclip-clearclip are its other bases. lists: NULL, all of the
 * dataset's. *usage: the flags are at fault. */
bool dense_open(survey *s, const char *methods, const char *lists, arena *memory, pool *cores, bool *usage, err *e);
void dense_free(survey *s);
void dense_say_head(const survey *s, longtext *out);
/* A picture's line; its truth is in p->labels. */
bool dense_measure(const survey *s, const survey_picture *p, arena *memory, longtext *line, err *e);
/* Values of a label picture -> classes of a list, SEGMENT_IGNORED (or UINT16_MAX) where they are none. */
uint16_t dense_truth(const segment_list *list, uint32_t value);
/* Per cent that the papers print for ViT-B/16 or ViT-L/14; NAN: none. side: CLIPtrase's 224 or 336. */
double dense_published(const char *list, const char *row, size_t width, size_t patch, size_t side);
#endif
