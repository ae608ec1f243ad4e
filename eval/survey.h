/* survey.h - the papers' tasks on a published dataset: each region is embedded once and scored in every way.
 *
 *     survey s;
 *     if (!survey_open(&s, &wishes, "voc2012:/data/voc", weights, &memory, cores, &usage, &e)) ...   // the classes'
 * texts if (!survey_run(&s, "out", cores, &memory, &e)) ...     // out/results.jsonl, a line a picture if
 * (!survey_finish("out", stdout, &e)) ...                      // table.csv, table.json, report.html from it alone
 *     survey_free(&s);
 *
 * Downwards: survey.c what is asked; survey_picture.c one picture; survey_run.c all of them, resumed, and shards
 * merged; survey_totals.c adds up; survey_table.c what comes out; published.c what the papers print. Lines stand in the
 * dataset's order, so shards and runs that were killed give the same bytes.
 */
#ifndef SURVEY_H
#define SURVEY_H
#include "data/data.h"
#include "anomaly/anovl.h"
#include "eval/eval.h"

/* How far a run is: `what` (texts, pictures), so many done of so many (0: not known). Called by one thread at a time. */
typedef struct {
    void (*progress)(void *arg, const char *what, size_t done, size_t of);
    void *arg;
} survey_watch;

typedef struct {
    eval_head head; /* rows, maps, model, templates, shard; `set` is NAME:ROOT */
    const data_set *set;
    const char *root;
    char *split, *by;
    size_t limit;
    bool zero_shot; /* pictures have classes of their own */
    checkpoint *weights;
    const clip_model *model;
    data_class *classes; /* with their texts; copies */
    size_t class_count;
    real *names[2]; /* [classes, E] unit: in one template; in many (NULL: more classes than it is worth) */
    real *empty;    /* [E] the empty text's */
    real *usual;    /* [E] texts_usual's; NULL: none */
    bool anomalies;  /* --task anomaly: in place of all rows (survey_anomaly.c) */
    anovl_options anovl;
    anovl_texts *states; /* [classes] */
    struct dense *dense; /* --task segmentation: in place of all rows (dense.h) */
    survey_watch watch;
} survey;
typedef struct {
    const char *split, *by;
    bool segmentation;      /* its methods are compared.methods */
    const char *lists;      /* segmentation: published lists of names; NULL: all of the dataset's */
    bool anomalies;
    anovl_options anovl; /* side 0: the model's image */
    eval_wishes compared; /* its methods and so on */
    survey_watch watch;
} survey_wishes;
/* NAME:ROOT of a dataset? */
bool survey_is_dataset(const char *data);
bool survey_open(survey *s, const survey_wishes *w, const char *data, checkpoint *weights, arena *memory, pool *cores,
                 bool *usage, err *e);
void survey_free(survey *s);
/* Unit embeddings [count,E] in *out (mem_free it), on all cores. */
bool survey_embed(survey *s, const char *const *texts, size_t count, const char *const *templates, size_t template_count,
                  arena *memory, pool *cores, real **out, err *e);
void survey_head(const survey *s, longtext *out); /* the first line; what differs in it is another run */

/* ---- one picture, with what is needed of its regions --------------------------------------------------- */
typedef enum { UNIT_AREA, UNIT_OBJECT, UNIT_PHRASE, UNIT_UNSAID } survey_unit; /* unsaid: nobody refers to it */
typedef struct {
    char *id, *rle;
    long class_index;
    uint64_t object; /* see data_region */
    survey_unit unit;
    char **said; /* its expressions */
    size_t said_count;
} survey_region;
typedef struct {
    size_t index, width, height;
    char *id, *file;
    long class_index;
    bool judged, anomalous; /* --task anomaly: its table tells, and what */
    survey_region *regions;
    size_t count, room;
    data_point *points;
    size_t point_count;
    uint32_t *labels; /* [height,width] its label picture; segmentation alone, NULL: none */
    longtext left; /* what was left out of it, and before it, as JSON */
} survey_picture;
void survey_picture_free(survey_picture *p);
/* Its line, on this core alone. What cannot be read is said in the line; false: no memory, or the network failed. */
bool survey_measure(const survey *s, const survey_picture *p, arena *memory, longtext *line, err *e);

/* ---- segmentation (dense.h) ------------------------------------------------------------------------------ */
bool dense_is_result(const char *folder);
bool dense_finish(const char *folder, FILE *out, err *e);

/* ---- anomalies (survey_anomaly.c) --------------------------------------------------------------------- */
bool survey_anomaly_open(survey *s, arena *memory, pool *cores, err *e); /* every class's sentences */
/* The picture's grid and score, and the true mask at the map's size, onto its line. */
bool survey_anomaly_measure(const survey *s, const survey_picture *p, const picture *photo, arena *memory, longtext *line, err *e);
bool survey_is_anomaly(const char *folder);
/* Writes table.csv, table.json and report.html of image and pixel measures, class by class; the table to `out`. */
bool survey_anomaly_finish(const char *folder, FILE *out, err *e);

/* ---- all pictures ------------------------------------------------------------------------------------------ */
bool survey_run(const survey *s, const char *folder, pool *cores, arena *memory, err *e);
/* Is what lies in this folder a survey's? */
bool survey_is_result(const char *folder);
bool survey_merge(const char *const *folders, size_t count, const char *folder, err *e);

/* ---- what comes out ------------------------------------------------------------------------------------------ */
typedef enum {
    CLASS_AREA_1,
    CLASS_AREA_80,
    CLASS_OBJECT_1,
    CLASS_OBJECT_80, /* a mask is given, its class is sought */
    EXPRESSION_ANY,
    EXPRESSION_VERY, /* a mask is given, its expression is sought among the picture's */
    OBJECT_REFERRED,
    OBJECT_ALL, /* an expression is given, its object is sought */
    OBJECT_IOU,
    OBJECT_HALF, /* of the chosen among all with the right one: mean IoU, share above 1/2 */
    PICTURE_CLASS,
    PICTURE_CLASS_80, /* zero-shot classification */
    POINTING,
    MAP_AREA,
    MAP_PIXELS,
    MAP_AP,
    MAP_BEST,
    POINTS_IOU,
    MEASURES
} survey_measure_kind;
typedef struct {
    size_t n, hits, hits5; /* hits5: among the first five */
    double sum, squares, chance;
    bool mean; /* of numbers in 0..1; else hits of n */
} survey_cell;
/* Reads OUT/results.jsonl, writes the tables beside it, and the table to `out`. */
bool survey_finish(const char *folder, FILE *out, err *e);
/* Each line of OUT/results.jsonl, the head first, as JSON. */
struct cJSON;
bool survey_each_line(const char *folder, bool (*see)(void *arg, const struct cJSON *line, const char *path, err *e), void *arg, err *e);

/* ---- what the papers print ----------------------------------------------------------------------------------- */
/* Per cent, of this method on this dataset by ViT-B/16 or ViT-H/14; NAN: not known. */
double published_share(const char *set, const char *method, mask_quality quality, bool huge);
/* What the paper leaves open, and what is taken here, a line each. */
extern const char *const published_choices[];
extern const size_t published_choice_count;
#endif
