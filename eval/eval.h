/* eval.h - the comparison of region embeddings and of maps, on a set of scenes.
 *
 *     eval_head h;                                                     // what is compared, on what: eval_head_make
 *     eval_bench b;
 *     if (!eval_bench_open(&b, &h, weights, &memory, cores, &e)) ...   // the names' embeddings
 *     if (!eval_run(&b, "out", &options, cores, &memory, &e)) ...      // out/results.jsonl, a line a scene
 *     if (!eval_finish("out", stdout, &e)) ...                         // table.csv, names.csv, table.json, report.html from it
 *
 * Downwards: eval_head.c what is compared; eval_scene.c one scene; eval_record.c its line in results.jsonl; eval.c the
 * run over all scenes; eval_totals.c adds up; eval_page.c and eval_table.c what comes out. The tables are made from results.jsonl alone, line
 * by line in the scenes' order, so a run in shards, or one that was killed and started again, gives the same bytes.
 */
#ifndef EVAL_H
#define EVAL_H
#include <stdatomic.h>
#include <stdio.h>
#include "files/longtext.h"
#include "models/checkpoint.h"
#include "eval/evalstat.h"
#include "regions/regions.h"
#include "scenes/scenes.h"

/* ---- what is compared ------------------------------------------------------------------------------- */
typedef enum { QUALITY_EXACT, QUALITY_ERODED, QUALITY_DILATED, QUALITY_BOX, QUALITIES } mask_quality;
extern const char *const quality_names[QUALITIES];

typedef struct { /* one row of the table: a method with its settings; those it does not know are 0 */
    char name[128], method[16], explainer[32]; /* explainer: whose map maskinv inverts */
    mask_quality quality;
    size_t side, blocks, layers, iters;
    double lr, alpha;
} eval_row;

enum { EVAL_KINDS = 2, EVAL_NAME = 48 };
typedef struct {
    char *model, *set;              /* where they were found: for the reader, not compared */
    uint64_t weights, scenes_bytes; /* hashes of what counts: the weights, scenes.jsonl */
    size_t scenes, shard, shards;   /* scenes in all; this run does those with index % shards == shard */
    char **templates;
    size_t template_count;                /* 0: "a photo of a NAME", with the article that fits */
    char (*names[EVAL_KINDS])[EVAL_NAME]; /* a kind's names: all are asked for each object of it */
    size_t name_count[EVAL_KINDS];
    eval_row *rows, *maps; /* region embeddings; explainers */
    size_t row_count, map_count;
} eval_head;

/* As flags give it. Lists are comma-separated; NULL: the default alone. */
typedef struct {
    const char *methods, *explainers, *sizes, *qualities, *layers, *iters, *lr, *alpha, *blocks, *inverted;
    size_t limit, shard, shards;
    const char *const *templates;
    size_t template_count;
} eval_wishes;
/* Reads the set once for its names. Messages name the flag. *usage: the flags are at fault. */
bool eval_head_make(eval_head *h, const eval_wishes *w, const char *set, checkpoint *weights, bool *usage, err *e);
/* The part of it that is asked by flags: rows, maps, templates, model and its hash; `set` is for the reader. */
bool eval_head_rows(eval_head *h, const eval_wishes *w, const char *set, checkpoint *weights, bool *usage, err *e);
void eval_head_free(eval_head *h);
/* What differs between two heads (apart from where things were found, and the shard), in words; NULL: nothing. */
const char *eval_head_differs(const eval_head *a, const eval_head *b);
/* This shard's scenes. */
size_t eval_share(const eval_head *h);

/* ---- one scene --------------------------------------------------------------------------------------- */
enum { EVAL_TOP = 3, THUMB = 16 };
typedef struct {                                                          /* one row's, by object */
    uint32_t rank[SCENE_MOST_OBJECTS], top[SCENE_MOST_OBJECTS][EVAL_TOP]; /* top: names */
    double loss[SCENE_MOST_OBJECTS][2];         /* maskinv: before the first and the last step */
    unsigned char chosen[SCENE_MOST_REFERRING]; /* the object that each phrase chose; 255: none */
    bool failed[SCENE_MOST_OBJECTS];            /* no map could be had: counted as wrong */
    bool has_thumb;
    unsigned char thumb[SCENE_MOST_OBJECTS][THUMB * THUMB];
} eval_row_result;
typedef struct { /* one explainer's, by object */
    bool hit[SCENE_MOST_OBJECTS];
    double ap[SCENE_MOST_OBJECTS], iou[SCENE_MOST_OBJECTS][THRESHOLDS];
    uint32_t shared[SCENE_MOST_OBJECTS],
        joint[SCENE_MOST_OBJECTS]; /* pixels of --argmax, for the first object of a name */
    bool has_thumb;
    unsigned char thumb[SCENE_MOST_OBJECTS][THUMB * THUMB];
} eval_map_result;
typedef struct {
    size_t scene, objects, phrases;
    scene_kind kind;
    bool broken;
    char error[512];                           /* why */
    uint32_t name[SCENE_MOST_OBJECTS];         /* index among its kind's */
    unsigned char means[SCENE_MOST_REFERRING]; /* the object that each phrase means */
    eval_row_result *rows;                     /* [row_count] */
    eval_map_result *maps;                     /* [map_count] */
} eval_result;
bool eval_result_new(eval_result *r, const eval_head *h, err *e);
void eval_result_free(eval_result *r);

typedef struct { /* what scenes are measured with; shared by all workers, changed by none */
    const eval_head *head;
    checkpoint *weights;
    const clip_model *model;
    real *names[EVAL_KINDS]; /* [names, E] unit */
    real *empty;             /* [E] the empty text's */
    real *usual;             /* [E] texts_usual's; NULL: none */
} eval_bench;
/* Texts are embedded in groups, a task each, so that nothing depends on the number of cores. */
bool eval_bench_open(eval_bench *b, const eval_head *h, checkpoint *weights, arena *memory, pool *cores, err *e);
void eval_bench_free(eval_bench *b);
/* All methods on one scene; works on this core alone. */
bool eval_scene(const eval_bench *b, const scene_record *s, arena *memory, eval_result *r, err *e);
/* The mask made worse, in place: eroded or dilated by 1/32 of its shorter side, or its box. */
bool mask_degrade(mask_image *m, mask_quality q, err *e);

/* ---- an arena for each core: tasks that run at once take one each ------------------------------------ */
enum { MOST_WORKERS = 64 };
typedef struct {
    arena memory[MOST_WORKERS];
    atomic_flag taken[MOST_WORKERS];
    size_t count;
} workers;
bool workers_make(workers *w, const pool *cores, arena *memory, err *e); /* all of the memory */
size_t worker_take(workers *w);
void worker_give(workers *w, size_t worker);

/* ---- results.jsonl ------------------------------------------------------------------------------------- */
void head_write(const eval_head *h, longtext *out); /* one line */
bool head_parse(const char *line, size_t length, const char *file, eval_head *h, err *e);
void result_write(const eval_head *h, const eval_result *r, longtext *out);
bool result_parse(const eval_head *h, const char *line, size_t length, const char *file, eval_result *r, err *e);

/* Reads results.jsonl: its head, then a result a call. A line that is cut off at the end of the file is no line. */
typedef struct {
    FILE *stream;
    char path[4096];
    longtext line;
    eval_head head;
    size_t count; /* results read */
    size_t whole; /* bytes of the file up to the last whole line */
} results;
bool results_open(results *r, const char *folder, err *e);
/* *end: no more lines. */
bool results_next(results *r, eval_result *out, bool *end, err *e);
void results_close(results *r);

/* ---- the run --------------------------------------------------------------------------------------------- */
typedef struct {
    bool keep_going; /* broken scenes are noted, not the end */
    void (*progress)(void *arg, size_t done, size_t of, size_t new_ones);
    void (*broken)(void *arg, const char *message);
    void *arg;
} eval_options;
/* Goes on where an earlier run in this folder stopped. */
bool eval_run(const eval_bench *b, const char *folder, const eval_options *o, pool *cores, arena *memory, err *e);
/* The shards' results as one file in `folder`. */
bool eval_merge(const char *const *folders, size_t count, const char *folder, err *e);

/* ---- what comes out ---------------------------------------------------------------------------------------- */
typedef struct { /* a row of the table */
    size_t n, hits1, hits5, failed;
    size_t others;                /* the first name was another object's of the scene */
    size_t *class_n, *class_hits; /* [names of both kinds] */
    size_t phrases, right_phrases;
    double loss[2]; /* sums */
} row_totals;
typedef struct {
    size_t n, hits, classes;
    double ap, ap2, iou[THRESHOLDS], iou2[THRESHOLDS];
    uint64_t *shared, *joint; /* [names of both kinds] */
} map_totals;
typedef struct {
    row_totals *rows;
    map_totals *maps;
    size_t scenes, broken;
    double chance1, chance_phrase; /* what guessing would reach, summed over objects and phrases */
} eval_totals;
/* Reads folder's results.jsonl whole: adds it up, with the file still open for its head. Free both, also on failure. */
bool eval_count_all(const char *folder, results *file, eval_totals *t, err *e);
void eval_totals_free(const eval_head *h, eval_totals *t);
double class_mean(const eval_head *h, const row_totals *t); /* of the classes that occur */
double class_iou(const eval_head *h, const map_totals *t);
size_t best_threshold(const map_totals *t);

/* Reads folder/results.jsonl, writes table.csv, names.csv, table.json and report.html beside it, and the table to `out`. */
bool eval_finish(const char *folder, FILE *out, err *e);
extern const char eval_style[], eval_bar_style[]; /* the pages' style sheet; of tables with a bar a row */
bool page_write(const char *folder, const eval_head *h, const eval_totals *t, err *e);
#endif
