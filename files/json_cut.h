/* json_cut.h - a JSON text whose long lists are read element by element, while the rest is a small tree: a vocabulary of
 * hundreds of MB takes no memory of its own.
 *
 *     static const char *const names[] = {"model.vocab", "model.merges"};
 *     json_cut list[2];
 *     cJSON *rest = json_cut_parse(text, length, "tokenizer.json", names, 2, list, &e); // there they stand as null
 *     if (!rest) ...
 *     while ((item = json_cut_next(&list[0], &e))) ...       // list[0].count, at; the list's until the next call
 *     if (!list[0].ended) ...                                 // e says why
 *     json_cut_close(&list[0]), json_cut_close(&list[1]), json_free(rest);
 *
 * Of an array the elements, of an object its members, each as an object of one. The text is the caller's and outlives all of
 * it (a mapped file, say). Every byte goes through json_parse, so all of it is read as strictly as a small text.
 */
#ifndef JSON_CUT_H
#define JSON_CUT_H
#include "files/json.h"

enum { JSON_REST_MOST = 1 << 26 }; /* bytes of all but the lists, and of one element */
typedef struct {
    const char *name, *file;           /* "model.vocab", "tokenizer.json" */
    const char *text, *start, *end;    /* of the file; between its brackets; NULL: it is not there, or no list */
    bool object;
    const char *at;                    /* the next element; after json_cut_next, behind this one */
    size_t count;                      /* elements given so far */
    bool ended;                        /* all were given, and nothing was wrong */
    cJSON *item;
    char *room;
    size_t size;
} json_cut;

/* names: KEY or KEY.KEY in objects. NULL with a message in e; else every list is to be closed. */
cJSON *json_cut_parse(const char *text, size_t length, const char *file, const char *const *names, size_t count,
                      json_cut *lists, err *e);
cJSON *json_cut_next(json_cut *l, err *e);
/* Elements in all, by their commas alone: what json_cut_next gives, where nothing is wrong. */
size_t json_cut_count(const json_cut *l);
/* From the beginning once more, or from where `at` stood before a call of json_cut_next (element number `count`). */
void json_cut_seek(json_cut *l, const char *at, size_t count);
void json_cut_close(json_cut *l);
#endif
