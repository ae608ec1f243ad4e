/* pickle.h - Python's pickles as plain values: an opcode machine that imports nothing and calls nothing.
 *
 *     pickle *p = pickle_parse(bytes, length, "refs(unc).p", PICKLE_DATA, NULL, &e);
 *     const pickle_value *refs = pickle_root(p), *id;
 *     for (size_t i = 0; i < refs->count; i++)
 *         if ((id = pickle_get(refs->items[i], "ref_id")) && id->kind == PICKLE_INT) ... id->whole ...
 *     pickle_free(p);
 *
 * PICKLE_DATA holds numbers, texts, lists, tuples and dicts, in protocols 0 to 4; whatever imports or calls is refused.
 * PICKLE_CHECKPOINT is what torch.save writes: there a call becomes a PICKLE_OBJECT, its function and arguments side by
 * side, and means what its reader says it means. In both no value contains itself, nesting ends at PICKLE_DEPTH, and
 * no key stands twice in a dict.
 */
#ifndef PICKLE_H
#define PICKLE_H
#include "sys/err.h"

enum { PICKLE_DEPTH = 100, PICKLE_MOST = 1 << 26 }; /* nesting; values in all */

typedef enum {
    PICKLE_NONE,
    PICKLE_BOOL,   /* whole: 0 or 1 */
    PICKLE_INT,    /* whole */
    PICKLE_LONG,   /* text, length: little-endian two's complement of more than 64 bits */
    PICKLE_FLOAT,  /* number */
    PICKLE_TEXT,   /* text, length: UTF-8 as it stands, not zero-terminated */
    PICKLE_BYTES,  /* the same; Python 2's strings too */
    PICKLE_LIST,   /* items, count */
    PICKLE_TUPLE,  /* items, count */
    PICKLE_DICT,   /* items: key, value, key, value...; count of both. collections.OrderedDict too */
    PICKLE_GLOBAL, /* text: "module name" */
    PICKLE_OBJECT, /* items[0] what was called, items[1] its arguments, items[2] its state or NULL; count 3 */
    PICKLE_PERSISTENT /* items[0]: the id; count 1 */
} pickle_kind;
typedef struct pickle_value pickle_value;
struct pickle_value {
    unsigned char kind, mark; /* a pickle_kind; the machine's own */
    unsigned count, room;
    union {
        int64_t whole;
        double number;
        pickle_value **items;
        const char *text; /* in the pickle's bytes, which must outlive it, or in its own memory */
    };
    size_t length;
};
typedef struct pickle pickle;

typedef enum { PICKLE_DATA = 1, PICKLE_CHECKPOINT = 2 } pickle_rules;
/* One pickle at the start of bytes; *used, where not NULL, receives where it ends, else nothing may follow it. NULL with
 * name, byte, opcode, what was found and expected. */
pickle *pickle_parse(const unsigned char *bytes, size_t length, const char *name, pickle_rules rules, size_t *used,
                     err *e);
void pickle_free(pickle *p);
const pickle_value *pickle_root(const pickle *p);

/* The value under a text key of a dict; NULL: none, or no dict. */
const pickle_value *pickle_get(const pickle_value *dict, const char *key);
/* v is the text (or bytes) "word". */
bool pickle_is(const pickle_value *v, const char *word);
/* v is a call of the global "module name". */
bool pickle_calls(const pickle_value *v, const char *global);
/* Every value that was made, in no order that means anything, until visit says false; whether it never did. */
bool pickle_each(const pickle *p, bool (*visit)(void *arg, const pickle_value *v), void *arg);
/* v in few words, for messages: 3, a list, "tok", an object of argparse.Namespace. */
typedef struct {
    char text[128];
} pickle_words;
pickle_words pickle_describe(const pickle_value *v);
#endif
