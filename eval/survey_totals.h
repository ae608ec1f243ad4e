/* survey_totals.h - a survey's results.jsonl added up; for survey_table.c. */
#ifndef SURVEY_TOTALS_H
#define SURVEY_TOTALS_H
#include "eval/survey.h"
#include "files/json.h"
#include "files/longtext.h"

enum { CLASSES_MOST = 65536 };
typedef struct {
    survey_cell cell[MEASURES];
    size_t *class_n[2], *class_hits[2]; /* [classes] of areas, of objects; one template */
    double inside, joint;               /* of the objects chosen among all: intersections and unions */
    double best[99];                    /* sums of IoU at .01 ... .99 */
    size_t best_n, failed;
    struct {
        char label[64];
        double yes, wrong, missed;
    } * labels; /* of points */
    size_t label_count, label_room;
} survey_row;
/* What was left out, a line each, for the page. */
enum { LEFT_SHOWN = 1000 };
typedef struct {
    longtext items;
    size_t count; /* all of them */
} survey_left;
void survey_left_add(survey_left *l, const cJSON *line); /* those of a line of results, and a picture that was broken */
void survey_left_say(const survey_left *l, longtext *page);
typedef struct {
    cJSON *head;
    survey_left left_out;
    size_t row_count, map_count, class_count, pictures, broken, lost, left, measured;
    bool many;        /* a second set of templates */
    survey_row *rows; /* rows, then maps */
} survey_totals;
bool survey_add_up(const char *folder, survey_totals *t, err *e); /* survey_totals_free it, also on failure */
void survey_totals_free(survey_totals *t);
const char *head_text(const survey_totals *t, const char *key);
const cJSON *survey_row_at(const survey_totals *t, size_t i); /* its settings; maps come after the rows */
/* The page's last lines: of which weights, by which command. */
void survey_say_foot(longtext *out, const struct cJSON *head);
#endif
