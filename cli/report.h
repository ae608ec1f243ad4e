/* report.h - what was found for each region: scores against the texts, as a table, as JSON, as embeddings.npy.
 *
 *     report r = {.regions = regions, .count = 2, .last = seconds_now()};
 *     report_about(&r, &c, "photo.jpg", 448, &texts);
 *     report_score(&r, 0, image_embedding, text_units, logit_scale);
 *     report_print(&r, false, &e);
 *     if (!report_write(&r, "out", &e)) ...                  // out/embeddings.npy, out/result.json
 */
#ifndef REPORT_H
#define REPORT_H
#include <stdio.h>
#include "cli/cli.h"

typedef struct {
    double similarity, probability;
} text_score;

typedef struct {
    char name[256];
    const char *file; /* the mask's */
    real *embedding; /* [E] */
    double *losses;   /* [loss_count]; NULL: there were no steps */
    size_t loss_count;
    double similarity; /* cosine to the image's embedding */
    text_score *texts; /* [text_count], in the order given */
} region_result;

enum { REPORT_TIMES = 8 };
typedef struct {
    region_result *regions;
    size_t count, embed;
    const char *const *texts;
    size_t text_count;
    const char *model, *image;
    size_t size;
    const cli *about;             /* model, command, templates, and where the size came from */
    const char *method;           /* "maskinv", "crop"... */
    const invert_options *invert; /* MaskInversion's settings; NULL: it was not used */
    size_t layers;                /* explained ones; 0: the explainer's own choice */
    const char *gradient, *explainer;
    struct {
        const char *what;
        double seconds;
    } times[REPORT_TIMES];
    size_t time_count;
    double last; /* seconds_now() when the last of them ended */
} report;

/* What the report is of; ends the time of "model". about and image must outlive it. */
void report_about(report *r, const cli *about, const char *image, size_t size, const text_list *texts);
/* The time since the last call (or since r->last was set) was spent on this. */
void report_time(report *r, const char *what);
/* Fills region i's similarities and probabilities = softmax(scale * similarity) over the texts. text_units [texts, E]. */
void report_score(report *r, size_t i, const real *image_embedding, const real *text_units, double scale);
void report_table(const report *r, FILE *out);
/* result.json's text, mem_free it. */
char *report_json(const report *r, err *e);
/* The table, or the JSON, on standard output. */
bool report_print(const report *r, bool json, err *e);
bool report_write(const report *r, const char *folder, err *e);
/* The region's texts, best first: order[text_count]. */
void report_rank(const report *r, const region_result *region, size_t *order);
#endif
