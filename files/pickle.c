/* pickle.c - the opcode machine (see pickle.h). The opcodes are those of Python's pickletools; the table at the end says
 * of each what follows it, where it is allowed and what it does. */
#include "files/pickle.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "files/utf8.h"

enum { VALUES = 1024, LETTERS = 1 << 16 };
typedef struct value_block value_block;
struct value_block {
    value_block *next;
    size_t used;
    pickle_value values[VALUES];
};
typedef struct text_block text_block;
struct text_block {
    text_block *next;
    char text[];
};

struct pickle {
    value_block *values;
    text_block *texts;
    size_t count;
    pickle_value *root;
};

typedef struct opcode opcode;
typedef struct { /* what follows an opcode */
    int64_t whole;
    const char *text, *second; /* second: GLOBAL's second line */
    size_t length, second_length;
} operand;

typedef struct {
    pickle *p;
    const unsigned char *bytes;
    size_t length, at, op; /* op: where the opcode stands */
    const char *name;
    pickle_rules rules;
    const opcode *row;
    pickle_value **stack; /* NULL: a mark */
    size_t depth, stack_room;
    pickle_value **memo;
    size_t memo_count, memo_room, puts;
    bool stopped;
    err *e;
} machine;

struct opcode {
    unsigned char code;
    char name[18];
    unsigned rules; /* where it is allowed */
    enum { NOTHING, U1, U2, I4, U8, F8, LINE, TWO_LINES, COUNTED1, COUNTED4, COUNTED8 } operand;
    bool (*run)(machine *m, const operand *o);
};

static const char *row_name(const machine *m) { return m->row ? m->row->name : "opcode"; }

/* "NAME: byte 12, BINGET: " and the rest. */
static bool at_fault(const machine *m) { return err_prefix(m->e, "%s: byte %zu, %s", m->name, m->op, row_name(m)); }
#define FAULT(m, ...) (err_set((m)->e, __VA_ARGS__), at_fault(m))

/* ---- memory ------------------------------------------------------------------------------------------- */
static pickle_value *new_value(machine *m, pickle_kind kind) {
    pickle *p = m->p;
    if (p->count >= PICKLE_MOST) return FAULT(m, "more than %d values", PICKLE_MOST), NULL;
    if (!p->values || p->values->used == VALUES) {
        value_block *b = mem_alloc(1, sizeof *b);
        if (!b) return FAULT(m, "not enough memory"), NULL;
        b->next = p->values;
        p->values = b;
    }
    pickle_value *v = &p->values->values[p->values->used++];
    v->kind = (unsigned char)kind;
    p->count++;
    return v;
}

static char *new_text(machine *m, size_t length) {
    text_block *b = mem_alloc(1, sizeof *b + length);
    if (!b) return FAULT(m, "not enough memory"), NULL;
    b->next = m->p->texts;
    m->p->texts = b;
    return b->text;
}

static bool has_items(const pickle_value *v) {
    return v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE || v->kind == PICKLE_DICT || v->kind == PICKLE_OBJECT ||
           v->kind == PICKLE_PERSISTENT;
}

void pickle_free(pickle *p) {
    if (!p) return;
    for (value_block *b = p->values, *next; b; b = next) {
        next = b->next;
        for (size_t i = 0; i < b->used; i++)
            if (has_items(&b->values[i])) mem_free(b->values[i].items);
        mem_free(b);
    }
    for (text_block *b = p->texts, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    mem_free(p);
}

static bool add_items(machine *m, pickle_value *to, pickle_value *const *from, size_t count) {
    size_t need = to->count + count;
    if (need > PICKLE_MOST) return FAULT(m, "more than %d values in one", PICKLE_MOST);
    if (need > to->room) {
        size_t room = to->count ? 2 * (size_t)to->room : count;
        if (room < need) room = need;
        pickle_value **more = mem_resize(to->items, room * sizeof *more);
        if (!more) return FAULT(m, "not enough memory");
        to->items = more;
        to->room = (unsigned)room;
    }
    if (count) memcpy(to->items + to->count, from, count * sizeof *from);
    to->count = (unsigned)need;
    return true;
}

/* ---- the stack -------------------------------------------------------------------------------------------- */
static bool push(machine *m, pickle_value *v) {
    if (!v) return false;
    if (m->depth >= PICKLE_MOST || !mem_grow(&m->stack, &m->stack_room, m->depth + 1, sizeof *m->stack))
        return FAULT(m, "not enough memory for a stack of %zu", m->depth + 1);
    m->stack[m->depth++] = v;
    return true;
}

/* The top `count` values, none of them a mark. */
static pickle_value **top(machine *m, size_t count) {
    if (m->depth < count) return FAULT(m, "the stack holds %zu, expected %zu values", m->depth, count), NULL;
    for (size_t i = 0; i < count; i++)
        if (!m->stack[m->depth - 1 - i]) return FAULT(m, "the stack holds a mark where a value was expected"), NULL;
    return m->stack + m->depth - count;
}

/* The number of values above the highest mark. */
static bool above_mark(machine *m, size_t *count) {
    for (*count = 0; *count < m->depth; ++*count)
        if (!m->stack[m->depth - 1 - *count]) return true;
    return FAULT(m, "the stack holds no mark, expected one");
}

/* ---- numbers ------------------------------------------------------------------------------------------------ */
static bool put_whole(machine *m, pickle_kind kind, int64_t whole) {
    pickle_value *v = new_value(m, kind);
    if (v) v->whole = whole;
    return push(m, v);
}

static bool run_none(machine *m, const operand *o) { return (void)o, push(m, new_value(m, PICKLE_NONE)); }
static bool run_true(machine *m, const operand *o) { return (void)o, put_whole(m, PICKLE_BOOL, 1); }
static bool run_false(machine *m, const operand *o) { return (void)o, put_whole(m, PICKLE_BOOL, 0); }
static bool run_int(machine *m, const operand *o) { return put_whole(m, PICKLE_INT, o->whole); }

static bool run_float(machine *m, const operand *o) { /* big-endian */
    uint64_t u = 0;
    pickle_value *v = new_value(m, PICKLE_FLOAT);
    for (int i = 0; i < 8; i++) u = u << 8 | (unsigned char)o->text[i];
    if (v) memcpy(&v->number, &u, sizeof u);
    return push(m, v);
}

static bool run_long(machine *m, const operand *o) { /* little-endian two's complement */
    if (o->length > 8) {
        pickle_value *v = new_value(m, PICKLE_LONG);
        if (v) v->text = o->text, v->length = o->length;
        return push(m, v);
    }
    uint64_t u = o->length && (o->text[o->length - 1] & 0x80) ? UINT64_MAX : 0;
    for (size_t i = o->length; i-- > 0;) u = u << 8 | (unsigned char)o->text[i];
    return put_whole(m, PICKLE_INT, (int64_t)u);
}

/* Decimal digits with a sign; nothing after them. */
static bool decimal(const char *s, size_t n, int64_t *out) {
    bool minus = n && *s == '-';
    uint64_t u = 0, most = (uint64_t)INT64_MAX + minus;
    if (minus || (n && *s == '+')) s++, n--;
    if (!n) return false;
    for (; n; s++, n--) {
        unsigned digit = (unsigned)(unsigned char)*s - '0';
        if (digit > 9 || u > (most - digit) / 10) return false;
        u = u * 10 + digit;
    }
    *out = minus ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}

static bool run_int_line(machine *m, const operand *o) {
    int64_t whole;
    if (o->length == 2 && o->text[0] == '0' && (o->text[1] == '0' || o->text[1] == '1'))
        return put_whole(m, PICKLE_BOOL, o->text[1] - '0');
    if (decimal(o->text, o->length, &whole)) return put_whole(m, PICKLE_INT, whole);
    return FAULT(m, "\"%.*s\" found, expected a whole number of 64 bits", (int)(o->length < 40 ? o->length : 40), o->text);
}

static bool run_long_line(machine *m, const operand *o) {
    operand digits = *o;
    if (digits.length && digits.text[digits.length - 1] == 'L') digits.length--;
    return run_int_line(m, &digits);
}

static bool run_float_line(machine *m, const operand *o) {
    char text[64], *end;
    pickle_value *v = new_value(m, PICKLE_FLOAT);
    if (!v) return false;
    snprintf(text, sizeof text, "%.*s", (int)(o->length < 63 ? o->length : 63), o->text);
    v->number = strtod(text, &end);
    if (o->length == 0 || (size_t)(end - text) != o->length)
        return FAULT(m, "\"%.40s\" found, expected a number", text);
    return push(m, v);
}

/* ---- texts ---------------------------------------------------------------------------------------------------- */
static bool put_text(machine *m, pickle_kind kind, const char *text, size_t length) {
    pickle_value *v = new_value(m, kind);
    if (v) v->text = text, v->length = length;
    return push(m, v);
}

static bool run_text(machine *m, const operand *o) { return put_text(m, PICKLE_TEXT, o->text, o->length); }
static bool run_bytes(machine *m, const operand *o) { return put_text(m, PICKLE_BYTES, o->text, o->length); }

/* `count` hexadecimal digits; UINT32_MAX: they are none. */
static uint32_t hexadecimal(const char *s, const char *end, int count) {
    uint32_t u = 0;
    if (end - s < count) return UINT32_MAX;
    for (; count > 0; count--, s++) {
        const char *digits = "0123456789abcdef", *d = *s ? strchr(digits, *s | (*s >= 'A' && *s <= 'F' ? 32 : 0)) : NULL;
        if (!d) return UINT32_MAX;
        u = u << 4 | (uint32_t)(d - digits);
    }
    return u;
}

/* S: a Python repr, in either quote, with \n \r \t \\ \' \" \xHH. */
static bool run_repr(machine *m, const operand *o) {
    const char *s = o->text, *end = s + o->length;
    while (s < end && (end[-1] == ' ' || end[-1] == '\r')) end--;
    if (end - s < 2 || (*s != '\'' && *s != '"') || end[-1] != *s) return FAULT(m, "expected a text in quotes");
    char *text = new_text(m, o->length), *to = text;
    if (!text) return false;
    for (s++, end--; s < end; s++) {
        static const char letters[] = "nrt\\'\"abfv0", means[] = "\n\r\t\\'\"\a\b\f\v";
        if (*s != '\\') {
            *to++ = *s;
            continue;
        }
        const char *l = ++s < end && *s ? strchr(letters, *s) : NULL;
        uint32_t byte = s < end && *s == 'x' ? hexadecimal(s + 1, end, 2) : UINT32_MAX;
        if (!l && byte == UINT32_MAX)
            return FAULT(m, "an escape that is none of \\n \\r \\t \\\\ \\' \\\" \\xHH, at letter %zu", (size_t)(s - o->text));
        *to++ = l ? means[l - letters] : (char)byte;
        if (!l) s += 2;
    }
    return put_text(m, PICKLE_BYTES, text, (size_t)(to - text));
}

/* V: raw-unicode-escape: \uHHHH and \UHHHHHHHH, every other byte a Latin-1 letter. */
static bool run_escaped(machine *m, const operand *o) {
    const char *s = o->text, *end = s + o->length;
    char *text = new_text(m, 2 * o->length), *to = text;
    if (!text) return false;
    while (s < end) {
        uint32_t c = (unsigned char)*s++;
        if (c == '\\' && s < end && (*s == 'u' || *s == 'U')) {
            int digits = *s == 'u' ? 4 : 8;
            c = hexadecimal(s + 1, end, digits);
            if (c > 0x10ffff) return FAULT(m, "\\%c without its %d digits, at letter %zu", *s, digits, (size_t)(s - o->text));
            s += 1 + digits;
            if (c - 0xd800 < 0x400 && end - s >= 6 && s[0] == '\\' && s[1] == 'u') { /* a pair of halves */
                uint32_t low = hexadecimal(s + 2, end, 4);
                if (low - 0xdc00 < 0x400) c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00), s += 6;
            }
        }
        unsigned char bytes[4];
        size_t n = utf8_encode(c, bytes);
        memcpy(to, bytes, n);
        to += n;
    }
    return put_text(m, PICKLE_TEXT, text, (size_t)(to - text));
}

/* ---- lists, tuples, dicts ---------------------------------------------------------------------------------------- */
static bool run_mark(machine *m, const operand *o) {
    (void)o;
    if (m->depth >= PICKLE_MOST || !mem_grow(&m->stack, &m->stack_room, m->depth + 1, sizeof *m->stack))
        return FAULT(m, "not enough memory for a stack of %zu", m->depth + 1);
    m->stack[m->depth++] = NULL;
    return true;
}

/* `count` values of the stack, and the mark below them where `marked`, become one. */
static bool gather(machine *m, pickle_kind kind, size_t count, bool marked) {
    pickle_value *v = new_value(m, kind);
    if (!v || !add_items(m, v, m->stack + m->depth - count, count)) return false;
    m->depth -= count + marked;
    return push(m, v);
}

static bool run_empty_list(machine *m, const operand *o) { return (void)o, push(m, new_value(m, PICKLE_LIST)); }
static bool run_empty_dict(machine *m, const operand *o) { return (void)o, push(m, new_value(m, PICKLE_DICT)); }
static bool run_empty_tuple(machine *m, const operand *o) { return (void)o, push(m, new_value(m, PICKLE_TUPLE)); }

static bool run_tuple(machine *m, const operand *o) {
    size_t n;
    return (void)o, above_mark(m, &n) && gather(m, PICKLE_TUPLE, n, true);
}
static bool run_tuple1(machine *m, const operand *o) { return (void)o, top(m, 1) && gather(m, PICKLE_TUPLE, 1, false); }
static bool run_tuple2(machine *m, const operand *o) { return (void)o, top(m, 2) && gather(m, PICKLE_TUPLE, 2, false); }
static bool run_tuple3(machine *m, const operand *o) { return (void)o, top(m, 3) && gather(m, PICKLE_TUPLE, 3, false); }

static bool run_list(machine *m, const operand *o) {
    size_t n;
    return (void)o, above_mark(m, &n) && gather(m, PICKLE_LIST, n, true);
}

static bool run_dict(machine *m, const operand *o) {
    size_t n;
    (void)o;
    if (!above_mark(m, &n)) return false;
    if (n % 2) return FAULT(m, "%zu values found, expected pairs", n);
    return gather(m, PICKLE_DICT, n, true);
}

/* Puts the top `count` values into the list or dict below them; an object swallows them. */
static bool put_into(machine *m, pickle_kind kind, size_t count, bool marked) {
    size_t below = count + marked;
    if (m->depth <= below || !m->stack[m->depth - 1 - below])
        return FAULT(m, "the stack holds nothing to put the values into");
    pickle_value *to = m->stack[m->depth - 1 - below];
    if (to->kind != kind && to->kind != PICKLE_OBJECT)
        return FAULT(m, "values are put into %s, expected %s", pickle_describe(to).text,
                     kind == PICKLE_LIST ? "a list" : "a dict");
    if (to->kind == kind && !add_items(m, to, m->stack + m->depth - count, count)) return false;
    m->depth -= below;
    return true;
}

static bool run_append(machine *m, const operand *o) { return (void)o, top(m, 1) && put_into(m, PICKLE_LIST, 1, false); }
static bool run_setitem(machine *m, const operand *o) {
    return (void)o, top(m, 2) && put_into(m, PICKLE_DICT, 2, false);
}
static bool run_appends(machine *m, const operand *o) {
    size_t n;
    return (void)o, above_mark(m, &n) && put_into(m, PICKLE_LIST, n, true);
}
static bool run_setitems(machine *m, const operand *o) {
    size_t n;
    (void)o;
    if (!above_mark(m, &n)) return false;
    if (n % 2) return FAULT(m, "%zu values found, expected pairs", n);
    return put_into(m, PICKLE_DICT, n, true);
}

static bool run_pop(machine *m, const operand *o) {
    (void)o;
    if (!m->depth) return FAULT(m, "the stack is empty");
    m->depth--;
    return true;
}
static bool run_pop_mark(machine *m, const operand *o) {
    size_t n;
    (void)o;
    if (!above_mark(m, &n)) return false;
    m->depth -= n + 1;
    return true;
}
static bool run_dup(machine *m, const operand *o) {
    pickle_value **v = top(m, 1);
    return (void)o, v && push(m, *v);
}

/* ---- the memo ------------------------------------------------------------------------------------------------------ */
/* Writers count their slots from 0 or 1 on; one far beyond what was put so far is none of theirs. */
static bool put_memo(machine *m, int64_t slot) {
    pickle_value **v = top(m, 1);
    if (!v) return false;
    if (slot < 0 || (uint64_t)slot > 4 * (uint64_t)m->puts + 1024)
        return FAULT(m, "memo slot %" PRId64 " after %zu others", slot, m->puts);
    size_t need = (size_t)slot + 1;
    if (!mem_grow(&m->memo, &m->memo_room, need, sizeof *m->memo)) return FAULT(m, "not enough memory for the memo");
    while (m->memo_count < need) m->memo[m->memo_count++] = NULL;
    m->memo[slot] = *v;
    m->puts++;
    return true;
}

static bool get_memo(machine *m, int64_t slot) {
    if (slot < 0 || (uint64_t)slot >= m->memo_count || !m->memo[slot])
        return FAULT(m, "memo slot %" PRId64 " was never set", slot);
    return push(m, m->memo[slot]);
}

static bool run_put(machine *m, const operand *o) { return put_memo(m, o->whole); }
static bool run_get(machine *m, const operand *o) { return get_memo(m, o->whole); }
static bool run_memoize(machine *m, const operand *o) { return (void)o, put_memo(m, (int64_t)m->puts); }

static bool slot_line(machine *m, const operand *o, int64_t *slot) {
    return decimal(o->text, o->length, slot) || FAULT(m, "expected a memo slot's number");
}
static bool run_put_line(machine *m, const operand *o) {
    int64_t slot = 0;
    return slot_line(m, o, &slot) && put_memo(m, slot);
}
static bool run_get_line(machine *m, const operand *o) {
    int64_t slot = 0;
    return slot_line(m, o, &slot) && get_memo(m, slot);
}

/* ---- globals and calls, none of which is followed ------------------------------------------------------------------ */
static bool put_global(machine *m, const char *module, size_t a, const char *name, size_t b) {
    char *text = new_text(m, a + b + 2);
    if (!text) return false;
    memcpy(text, module, a);
    text[a] = ' ';
    memcpy(text + a + 1, name, b);
    return put_text(m, PICKLE_GLOBAL, text, a + b + 1);
}

static bool run_global(machine *m, const operand *o) {
    return put_global(m, o->text, o->length, o->second, o->second_length);
}

static bool run_stack_global(machine *m, const operand *o) {
    pickle_value **v = top(m, 2);
    (void)o;
    if (!v) return false;
    if (v[0]->kind != PICKLE_TEXT || v[1]->kind != PICKLE_TEXT)
        return FAULT(m, "%s and %s found, expected a module's and a name's text", pickle_describe(v[0]).text,
                     pickle_describe(v[1]).text);
    m->depth -= 2;
    return put_global(m, v[0]->text, v[0]->length, v[1]->text, v[1]->length);
}

/* OrderedDict(), or Python 2's OrderedDict([[key, value], ...]), is a dict. */
static bool put_ordered_dict(machine *m, const pickle_value *arguments) {
    pickle_value *v = new_value(m, PICKLE_DICT);
    if (!v) return false;
    const pickle_value *pairs = arguments->count ? arguments->items[0] : arguments;
    for (size_t i = 0; i < pairs->count && has_items(pairs); i++) {
        const pickle_value *pair = pairs->items[i];
        if (!pair || (pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) || pair->count != 2)
            return FAULT(m, "OrderedDict of %s, expected pairs", pair ? pickle_describe(pair).text : "nothing");
        if (!add_items(m, v, pair->items, 2)) return false;
    }
    return push(m, v);
}

static bool run_reduce(machine *m, const operand *o) {
    pickle_value **v = top(m, 2);
    (void)o;
    if (!v) return false;
    if (v[1]->kind != PICKLE_TUPLE)
        return FAULT(m, "arguments are %s, expected a tuple", pickle_describe(v[1]).text);
    pickle_value *parts[3] = {v[0], v[1], NULL};
    m->depth -= 2;
    if (v[0]->kind == PICKLE_GLOBAL && pickle_is(v[0], "collections OrderedDict")) return put_ordered_dict(m, v[1]);
    pickle_value *object = new_value(m, PICKLE_OBJECT);
    return object && add_items(m, object, parts, 3) && push(m, object);
}

static bool run_build(machine *m, const operand *o) {
    pickle_value **v = top(m, 2);
    (void)o;
    if (!v) return false;
    m->depth--;
    if (v[0]->kind == PICKLE_DICT) return true; /* an OrderedDict's attributes: _metadata */
    if (v[0]->kind != PICKLE_OBJECT)
        return FAULT(m, "state is given to %s, expected an object", pickle_describe(v[0]).text);
    v[0]->items[2] = v[1];
    return true;
}

static bool run_persistent(machine *m, const operand *o) {
    return (void)o, top(m, 1) && gather(m, PICKLE_PERSISTENT, 1, false);
}

/* ---- frame ---------------------------------------------------------------------------------------------------------- */
static bool run_proto(machine *m, const operand *o) {
    return o->whole <= 5 || FAULT(m, "protocol %" PRId64 " found, expected at most 5", o->whole);
}
static bool run_frame(machine *m, const operand *o) {
    return (uint64_t)o->whole <= m->length - m->at ||
           FAULT(m, "%" PRIu64 " bytes announced, %zu are there", (uint64_t)o->whole, m->length - m->at);
}
static bool run_stop(machine *m, const operand *o) {
    pickle_value **v = top(m, 1);
    (void)o;
    if (!v) return false;
    if (m->depth != 1) return FAULT(m, "the stack holds %zu, expected one value", m->depth);
    m->p->root = *v;
    m->stopped = true;
    return true;
}

/* ---- the table ------------------------------------------------------------------------------------------------------- */
enum { NO = 0, D = PICKLE_DATA, C = PICKLE_CHECKPOINT, BOTH = D | C };
static const opcode OPCODES[] = {
    {'(', "MARK", BOTH, NOTHING, run_mark},
    {'.', "STOP", BOTH, NOTHING, run_stop},
    {'0', "POP", D, NOTHING, run_pop},
    {'1', "POP_MARK", D, NOTHING, run_pop_mark},
    {'2', "DUP", D, NOTHING, run_dup},
    {'F', "FLOAT", D, LINE, run_float_line},
    {'I', "INT", D, LINE, run_int_line},
    {'J', "BININT", BOTH, I4, run_int},
    {'K', "BININT1", BOTH, U1, run_int},
    {'L', "LONG", D, LINE, run_long_line},
    {'M', "BININT2", BOTH, U2, run_int},
    {'N', "NONE", BOTH, NOTHING, run_none},
    {'P', "PERSID", NO, LINE, NULL},
    {'Q', "BINPERSID", C, NOTHING, run_persistent},
    {'R', "REDUCE", C, NOTHING, run_reduce},
    {'S', "STRING", D, LINE, run_repr},
    {'T', "BINSTRING", BOTH, COUNTED4, run_bytes},
    {'U', "SHORT_BINSTRING", BOTH, COUNTED1, run_bytes},
    {'V', "UNICODE", D, LINE, run_escaped},
    {'X', "BINUNICODE", BOTH, COUNTED4, run_text},
    {'B', "BINBYTES", D, COUNTED4, run_bytes},
    {'C', "SHORT_BINBYTES", D, COUNTED1, run_bytes},
    {'G', "BINFLOAT", BOTH, F8, run_float},
    {'a', "APPEND", BOTH, NOTHING, run_append},
    {'b', "BUILD", C, NOTHING, run_build},
    {'c', "GLOBAL", C, TWO_LINES, run_global},
    {'d', "DICT", D, NOTHING, run_dict},
    {'e', "APPENDS", BOTH, NOTHING, run_appends},
    {'g', "GET", D, LINE, run_get_line},
    {'h', "BINGET", BOTH, U1, run_get},
    {'i', "INST", NO, TWO_LINES, NULL},
    {'j', "LONG_BINGET", BOTH, I4, run_get},
    {'l', "LIST", D, NOTHING, run_list},
    {'o', "OBJ", NO, NOTHING, NULL},
    {'p', "PUT", D, LINE, run_put_line},
    {'q', "BINPUT", BOTH, U1, run_put},
    {'r', "LONG_BINPUT", BOTH, I4, run_put},
    {'s', "SETITEM", BOTH, NOTHING, run_setitem},
    {'t', "TUPLE", BOTH, NOTHING, run_tuple},
    {'u', "SETITEMS", BOTH, NOTHING, run_setitems},
    {']', "EMPTY_LIST", BOTH, NOTHING, run_empty_list},
    {'}', "EMPTY_DICT", BOTH, NOTHING, run_empty_dict},
    {')', "EMPTY_TUPLE", BOTH, NOTHING, run_empty_tuple},
    {0x80, "PROTO", BOTH, U1, run_proto},
    {0x81, "NEWOBJ", C, NOTHING, run_reduce},
    {0x82, "EXT1", NO, U1, NULL},
    {0x83, "EXT2", NO, U2, NULL},
    {0x84, "EXT4", NO, I4, NULL},
    {0x85, "TUPLE1", BOTH, NOTHING, run_tuple1},
    {0x86, "TUPLE2", BOTH, NOTHING, run_tuple2},
    {0x87, "TUPLE3", BOTH, NOTHING, run_tuple3},
    {0x88, "NEWTRUE", BOTH, NOTHING, run_true},
    {0x89, "NEWFALSE", BOTH, NOTHING, run_false},
    {0x8a, "LONG1", BOTH, COUNTED1, run_long},
    {0x8b, "LONG4", D, COUNTED4, run_long},
    {0x8c, "SHORT_BINUNICODE", BOTH, COUNTED1, run_text},
    {0x8d, "BINUNICODE8", D, COUNTED8, run_text},
    {0x8e, "BINBYTES8", NO, COUNTED8, NULL},
    {0x8f, "EMPTY_SET", NO, NOTHING, NULL},
    {0x90, "ADDITEMS", NO, NOTHING, NULL},
    {0x91, "FROZENSET", NO, NOTHING, NULL},
    {0x92, "NEWOBJ_EX", NO, NOTHING, NULL},
    {0x93, "STACK_GLOBAL", C, NOTHING, run_stack_global},
    {0x94, "MEMOIZE", BOTH, NOTHING, run_memoize},
    {0x95, "FRAME", BOTH, U8, run_frame},
    {0x96, "BYTEARRAY8", NO, COUNTED8, NULL},
    {0x97, "NEXT_BUFFER", NO, NOTHING, NULL},
    {0x98, "READONLY_BUFFER", NO, NOTHING, NULL},
};

static const opcode *row_of(unsigned char code) {
    for (size_t i = 0; i < sizeof OPCODES / sizeof *OPCODES; i++)
        if (OPCODES[i].code == code) return &OPCODES[i];
    return NULL;
}

/* ---- what follows an opcode ------------------------------------------------------------------------------------------- */
static const unsigned char *take(machine *m, size_t n) {
    if (n > m->length - m->at)
        return FAULT(m, "%zu bytes expected after it, %zu are there", n, m->length - m->at), NULL;
    m->at += n;
    return m->bytes + m->at - n;
}

static bool take_number(machine *m, size_t n, uint64_t *u) { /* little-endian */
    const unsigned char *p = take(m, n);
    if (!p) return false;
    for (*u = 0; n-- > 0;) *u = *u << 8 | p[n];
    return true;
}

static bool take_counted(machine *m, size_t width, operand *o) {
    uint64_t n = 0;
    if (!take_number(m, width, &n)) return false;
    if (n > m->length - m->at)
        return FAULT(m, "a text of %" PRIu64 " bytes, %zu are there", n, m->length - m->at);
    o->text = (const char *)m->bytes + m->at;
    o->length = (size_t)n;
    m->at += (size_t)n;
    return true;
}

static bool take_line(machine *m, const char **text, size_t *length) {
    const unsigned char *start = m->bytes + m->at, *end = memchr(start, '\n', m->length - m->at);
    if (!end) return FAULT(m, "its line has no end");
    *text = (const char *)start;
    *length = (size_t)(end - start);
    m->at += *length + 1;
    return true;
}

static bool take_operand(machine *m, operand *o) {
    uint64_t u = 0;
    bool ok = true;
    switch (m->row->operand) {
    case NOTHING:
        return true;
    case U1:
    case U2:
    case I4:
    case U8:
        ok = take_number(m, m->row->operand == U1 ? 1 : m->row->operand == U2 ? 2 : m->row->operand == I4 ? 4 : 8, &u);
        o->whole = m->row->operand == I4 ? (int64_t)(int32_t)(uint32_t)u : (int64_t)u;
        return ok;
    case F8:
        o->text = (const char *)take(m, 8);
        return o->text != NULL;
    case LINE:
        return take_line(m, &o->text, &o->length);
    case TWO_LINES:
        return take_line(m, &o->text, &o->length) && take_line(m, &o->second, &o->second_length);
    case COUNTED1:
        return take_counted(m, 1, o);
    case COUNTED4:
        return take_counted(m, 4, o);
    case COUNTED8:
        break;
    }
    return take_counted(m, 8, o);
}

static bool step(machine *m) {
    m->op = m->at;
    m->row = NULL;
    if (m->at == m->length) return FAULT(m, "the end found, expected STOP");
    unsigned char code = m->bytes[m->at++];
    m->row = row_of(code);
    if (!m->row) return FAULT(m, "0x%02x found, which is none", (unsigned)code);
    if (!(m->row->rules & (unsigned)m->rules))
        return FAULT(m, "is refused: it is not among the opcodes that hold %s",
                     m->rules == PICKLE_DATA ? "data" : "a checkpoint's tensors");
    operand o = {0};
    return take_operand(m, &o) && m->row->run(m, &o);
}

/* ---- what was made: no circles, no towers, no key twice ------------------------------------------------------------- */
/* mark: 0 not seen, 255 being looked into, else its depth + 1. */
enum { LOOKING = 255 };

static int by_text(const void *a, const void *b) {
    const pickle_value *x = *(pickle_value *const *)a, *y = *(pickle_value *const *)b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static bool check_keys(const machine *m, const pickle_value *dict) {
    size_t n = 0;
    pickle_value **keys = mem_alloc(dict->count / 2, sizeof *keys);
    if (!keys) return err_set(m->e, "%s: not enough memory", m->name);
    for (size_t i = 0; i < dict->count; i += 2)
        if (dict->items[i]->kind == PICKLE_TEXT || dict->items[i]->kind == PICKLE_BYTES) keys[n++] = dict->items[i];
    qsort(keys, n, sizeof *keys, by_text);
    bool ok = true;
    for (size_t i = 1; ok && i < n; i++)
        if (by_text(&keys[i - 1], &keys[i]) == 0)
            ok = err_set(m->e, "%s: a dict has the key %s twice", m->name, pickle_describe(keys[i]).text);
    mem_free(keys);
    return ok;
}

static bool check(const machine *m, pickle_value *v, unsigned level, unsigned *depth) {
    *depth = 0;
    if (v->mark == LOOKING) return err_set(m->e, "%s: %s contains itself, expected none that does", m->name, pickle_describe(v).text);
    if (v->mark) *depth = v->mark - 1u;
    if (level + *depth > PICKLE_DEPTH)
        return err_set(m->e, "%s: values are nested deeper than %d, %u levels found", m->name, PICKLE_DEPTH, level + *depth);
    if (v->mark || !has_items(v)) return true;
    v->mark = LOOKING;
    for (size_t i = 0; i < v->count; i++) {
        unsigned inner;
        if (!v->items[i]) continue;
        if (!check(m, v->items[i], level + 1, &inner)) return false;
        if (inner + 1 > *depth) *depth = inner + 1;
    }
    v->mark = (unsigned char)(*depth + 1);
    return v->kind != PICKLE_DICT || v->count < 4 || check_keys(m, v);
}

/* ---- one pickle -------------------------------------------------------------------------------------------------------- */
pickle *pickle_parse(const unsigned char *bytes, size_t length, const char *name, pickle_rules rules, size_t *used,
                     err *e) {
    machine m = {.bytes = bytes, .length = length, .name = name, .rules = rules, .e = e};
    unsigned depth;
    m.p = mem_alloc(1, sizeof *m.p);
    if (!m.p) return err_set(e, "%s: not enough memory", name), NULL;
    bool ok = true;
    while (ok && !m.stopped) ok = step(&m);
    ok = ok && check(&m, m.p->root, 0, &depth);
    if (ok && !used && m.at != length)
        ok = err_set(e, "%s: %zu bytes follow the pickle's STOP, expected none", name, length - m.at);
    if (ok && used) *used = m.at;
    mem_free(m.stack);
    mem_free(m.memo);
    if (ok) return m.p;
    pickle_free(m.p);
    return NULL;
}

const pickle_value *pickle_root(const pickle *p) { return p->root; }

/* ---- looking at values ---------------------------------------------------------------------------------------------------- */
static bool has_text(const pickle_value *v) {
    return v->kind == PICKLE_TEXT || v->kind == PICKLE_BYTES || v->kind == PICKLE_GLOBAL;
}

bool pickle_is(const pickle_value *v, const char *word) {
    return v && has_text(v) && v->length == strlen(word) && memcmp(v->text, word, v->length) == 0;
}

const pickle_value *pickle_get(const pickle_value *dict, const char *key) {
    if (!dict || dict->kind != PICKLE_DICT) return NULL;
    for (size_t i = 0; i + 1 < dict->count; i += 2)
        if (pickle_is(dict->items[i], key)) return dict->items[i + 1];
    return NULL;
}

bool pickle_calls(const pickle_value *v, const char *global) {
    return v && v->kind == PICKLE_OBJECT && v->items[0]->kind == PICKLE_GLOBAL && pickle_is(v->items[0], global);
}

bool pickle_each(const pickle *p, bool (*visit)(void *arg, const pickle_value *v), void *arg) {
    for (const value_block *b = p->values; b; b = b->next)
        for (size_t i = 0; i < b->used; i++)
            if (!visit(arg, &b->values[i])) return false;
    return true;
}

pickle_words pickle_describe(const pickle_value *v) {
    static const char *const names[] = {"None", "a boolean", "a number", "a number of many digits", "a number",
                                        "a text", "bytes", "a list", "a tuple", "a dict", "a global", "an object",
                                        "a persistent id"};
    pickle_words w;
    const pickle_value *what = v->kind == PICKLE_OBJECT ? v->items[0] : v;
    int letters = has_text(what) ? (int)(what->length < 80 ? what->length : 80) : 0;
    if (v->kind == PICKLE_INT)
        snprintf(w.text, sizeof w.text, "%" PRId64, v->whole);
    else if (v->kind == PICKLE_TEXT || v->kind == PICKLE_BYTES)
        snprintf(w.text, sizeof w.text, "\"%.*s\"", letters, v->text);
    else if (what->kind == PICKLE_GLOBAL)
        snprintf(w.text, sizeof w.text, "%s %.*s", v == what ? "the global" : "an object of", letters, what->text);
    else
        snprintf(w.text, sizeof w.text, "%s", names[v->kind]);
    for (char *p = strchr(w.text, ' '); what->kind == PICKLE_GLOBAL && p; p = NULL) {
        char *last = strrchr(w.text, ' '); /* "module name" as module.name */
        *last = '.';
    }
    return w;
}
