/* json.h - JSON by RFC 8259, strictly, and fields read out of it with good messages. On top of cJSON.
 *
 *     cJSON *j = json_parse(text, length, "config.json", &e);          // json_free(j)
 *     json_scope root = {.object = j, .file = "config.json", .e = &e};
 *     json_scope vision;
 *     if (!json_object(&root, "vision_cfg", &vision) ||
 *         !json_size(&vision, "width", 1, 65536, JSON_REQUIRED, &width)) ...
 *     // config.json: vision_cfg.width is -3, expected a whole number from 1 to 65536
 *
 * cJSON alone lets through control characters and invalid UTF-8 in strings, 007, text after the end, and cuts a
 * string at \u0000. json_parse checks the whole text before cJSON sees it, so cJSON can fail for lack of memory only.
 */
#ifndef JSON_H
#define JSON_H
#include <cjson/cJSON.h>
#include "sys/err.h"

enum { JSON_DEPTH = 64, JSON_NUMBER = 60 }; /* deepest nesting, longest number */

/* The text as a tree; it need not be zero-terminated. NULL with line and column, found and expected. */
cJSON *json_parse(const char *text, size_t length, const char *name, err *e);
void json_free(cJSON *j);

/* ---- fields: all return false having written FILE: PATH.KEY is FOUND, expected ... ------------- */
typedef struct {
    const cJSON *object; /* NULL reads as an empty object */
    const char *file;
    char path[96]; /* "model_cfg.vision_cfg"; empty at the root */
    err *e;
} json_scope;

#define JSON_REQUIRED SIZE_MAX
/* The value of key; *out is NULL where it is absent or null. A key that stands twice is an error. */
bool json_field(const json_scope *s, const char *key, const cJSON **out);
/* A whole number; absent (or null) gives `absent`, unless that is JSON_REQUIRED. */
bool json_size(const json_scope *s, const char *key, size_t least, size_t most, size_t absent, size_t *out);
bool json_number(const json_scope *s, const char *key, double least, double most, double absent, double *out);
bool json_bool(const json_scope *s, const char *key, bool absent, bool *out);
/* A string, which stays the tree's; absent gives `absent`. */
bool json_string(const json_scope *s, const char *key, const char *absent, const char **out);
/* An object; absent gives one that is empty. */
bool json_object(const json_scope *s, const char *key, json_scope *inner);
/* "FILE: PATH.KEY is FOUND, expected EXPECTED" (v NULL: is missing); always false. */
bool json_wrong(const json_scope *s, const char *key, const cJSON *v, const char *expected);
/* v in few words: -3, "tok", true, null, a list, an object. Always zero-terminated. */
void json_describe(const cJSON *v, char *out, size_t size);
/* v is a whole number from 0 to 2^53 - 1: exact in a double, and fits size_t. */
bool json_whole(const cJSON *v, size_t *out);

/* ---- writing --------------------------------------------------------------------------------- */
/* A string under key. JSON is UTF-8, paths are any bytes: what is none becomes U+FFFD. false: no memory. */
bool json_add_text(cJSON *to, const char *key, const char *text);
#endif
