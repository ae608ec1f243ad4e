/* json_stream.h - a JSON file of any size, element by element: what datasets keep in one array of hundreds of MB.
 *
 *     json_stream s;
 *     if (!json_stream_open(&s, "instances_val2017.json", &e)) ...
 *     while (json_stream_next(&s, &e)) ...        // s.section "annotations", s.item the element, s.at where it stands
 *     if (!s.ended) ...                           // e says why
 *     cJSON *again = json_stream_at(&s, at, &e);  // one element by its place; yours to json_free
 *     json_stream_close(&s);
 *
 * The elements of an array at the top are items of section ""; those of an array in an object at the top, items of its
 * key; every other value of the object is itself an item of its key. No more than one item is held. This walks over
 * brackets and strings alone and leaves each item to json_parse, so all of it is read as strictly as a small file. (A
 * parser that calls back for each number, such as yajl, would need a state machine a dataset in place of cJSON's
 * trees.)
 */
#ifndef JSON_STREAM_H
#define JSON_STREAM_H
#include <stdio.h>
#include "files/json.h"

enum { JSON_ITEM_MOST = 1 << 26 }; /* bytes of one item */
typedef struct {
    char path[4096], section[256];
    cJSON *item; /* until the next call */
    uint64_t at; /* its first byte */
    bool ended;  /* all was read, and nothing was wrong */
    FILE *stream;
    char *text; /* the item's */
    size_t room, length;
    uint64_t byte; /* the next one's place */
    int state;
} json_stream;
bool json_stream_open(json_stream *s, const char *path, err *e);
bool json_stream_next(json_stream *s, err *e);
cJSON *json_stream_at(json_stream *s, uint64_t at, err *e);
void json_stream_close(json_stream *s);
#endif
