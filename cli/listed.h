/* listed.h - lists of names: from the flags, from folders, a line each of a file or of standard input.
 *
 *     item_list names = {0};
 *     bool ok = list_pictures(&names, "photos", &e) && list_lines(&names, "list.txt", &e);
 *     list_free(&names);
 */
#ifndef LISTED_H
#define LISTED_H
#include "sys/err.h"

typedef struct {
    char **item;
    size_t count, room;
    size_t others; /* pictures of folders, of kinds that are not read: left out */
} item_list;
bool list_add(item_list *l, const char *name, err *e);
/* The pictures of a folder (by their names, in the order of their bytes), the lines of standard input ("-"), or the name itself. */
bool list_pictures(item_list *l, const char *what, err *e);
/* A line each, empty ones left out; "-" is standard input. */
bool list_lines(item_list *l, const char *path, err *e);
void list_free(item_list *l);
#endif
