/* json.c - strict JSON (see json.h): one pass over the text that follows RFC 8259's grammar, then cJSON. */
#include "files/json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include "files/utf8.h"

/* ---- the grammar -------------------------------------------------------------------------------- */
typedef struct {
    const unsigned char *start, *at, *end;
    const char *expected; /* what should have stood at `at`, once a rule has failed */
} scanner;

static bool expect(scanner *s, const char *what) {
    s->expected = what;
    return false;
}

static int peek(const scanner *s) { return s->at < s->end ? *s->at : -1; }

static bool digit(int c) { return c >= '0' && c <= '9'; }

static void skip_space(scanner *s) {
    for (int c = peek(s); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = peek(s)) s->at++;
}

static bool take(scanner *s, int c, const char *what) {
    if (peek(s) != c) return expect(s, what);
    s->at++;
    return true;
}

static bool scan_hex4(scanner *s, unsigned *value) {
    *value = 0;
    for (int i = 0; i < 4; i++) {
        int c = peek(s);
        int d = digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return expect(s, "four hexadecimal digits after \\u");
        *value = *value << 4 | (unsigned)d;
        s->at++;
    }
    return true;
}

/* After a backslash. \u0000 would cut cJSON's string short; half a surrogate pair is no character. */
static bool scan_escape(scanner *s) {
    int c = peek(s);
    if (c < 0 || !strchr("\"\\/bfnrtu", c)) return expect(s, "one of \"\\/bfnrtu after a backslash");
    s->at++;
    if (c != 'u') return true;
    unsigned high, low;
    if (!scan_hex4(s, &high)) return false;
    if (high == 0) return expect(s, "no \\u0000 before here");
    if (high >= 0xDC00 && high <= 0xDFFF) return expect(s, "a high surrogate before this low one");
    if (high < 0xD800 || high > 0xDBFF) return true;
    if (!take(s, '\\', "a low surrogate") || !take(s, 'u', "a low surrogate") || !scan_hex4(s, &low)) return false;
    return (low >= 0xDC00 && low <= 0xDFFF) || expect(s, "a low surrogate");
}

static bool scan_string(scanner *s) {
    if (!take(s, '"', "a string")) return false;
    for (;;) {
        int c = peek(s);
        if (c < 0) return expect(s, "the string's closing quote");
        if (c < 0x20) return expect(s, "an escape for this control character");
        if (c < 0x80) {
            s->at++;
            if (c == '"') return true;
            if (c == '\\' && !scan_escape(s)) return false;
            continue;
        }
        utf8proc_int32_t point;
        utf8proc_ssize_t n = utf8proc_iterate(s->at, (utf8proc_ssize_t)(s->end - s->at), &point);
        if (n <= 0) return expect(s, "valid UTF-8");
        s->at += n;
    }
}

static bool scan_digits(scanner *s) {
    if (!digit(peek(s))) return expect(s, "a digit");
    while (digit(peek(s))) s->at++;
    return true;
}

static bool scan_number(scanner *s) {
    const unsigned char *begin = s->at;
    if (peek(s) == '-') s->at++;
    const unsigned char *digits = s->at;
    if (!scan_digits(s)) return false;
    if (*digits == '0' && s->at - digits > 1) return expect(s, "no digits after a leading 0");
    if (peek(s) == '.') {
        s->at++;
        if (!scan_digits(s)) return false;
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') s->at++;
        if (!scan_digits(s)) return false;
    }
    return s->at - begin <= JSON_NUMBER || expect(s, "a number of at most 60 characters");
}

static bool scan_word(scanner *s, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0) return expect(s, "a value");
    s->at += n;
    return true;
}

static bool scan_scalar(scanner *s) {
    int c = peek(s);
    if (c == '"') return scan_string(s);
    if (c == '-' || digit(c)) return scan_number(s);
    return scan_word(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

static bool scan_key(scanner *s) {
    skip_space(s);
    if (!scan_string(s)) return false;
    skip_space(s);
    return take(s, ':', "a colon");
}

/* Opens a list or an object: *closed when it is empty, else what stands next is its first value. */
static bool scan_open(scanner *s, char *stack, size_t *depth, bool *closed) {
    if (*depth == JSON_DEPTH) return expect(s, "at most 64 levels of nesting");
    char close = peek(s) == '{' ? '}' : ']';
    s->at++;
    skip_space(s);
    *closed = peek(s) == close;
    if (*closed) {
        s->at++;
        return true;
    }
    stack[(*depth)++] = close;
    return close == ']' || scan_key(s);
}

/* After a value: closes what ends here, or goes past a comma to the next value. */
static bool scan_next(scanner *s, const char *stack, size_t *depth) {
    while (*depth > 0) {
        char close = stack[*depth - 1];
        skip_space(s);
        if (peek(s) == ',') {
            s->at++;
            return close == ']' || scan_key(s);
        }
        if (peek(s) != close) return expect(s, close == '}' ? "a comma or }" : "a comma or ]");
        s->at++;
        (*depth)--;
    }
    return true;
}

static bool scan_text(scanner *s) {
    char stack[JSON_DEPTH];
    size_t depth = 0;
    do {
        skip_space(s);
        bool closed = true;
        if (peek(s) == '{' || peek(s) == '[') {
            if (!scan_open(s, stack, &depth, &closed)) return false;
        } else if (!scan_scalar(s)) {
            return false;
        }
        if (closed && !scan_next(s, stack, &depth)) return false;
    } while (depth > 0);
    skip_space(s);
    return s->at == s->end || expect(s, "the end of the text");
}

static bool scan_failed(const scanner *s, const char *name, err *e) {
    size_t line = 1, column = 1;
    for (const unsigned char *p = s->start; p < s->at; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    int c = peek(s);
    char found[16] = "the end";
    if (c >= 0) snprintf(found, sizeof found, c > 0x20 && c < 0x7f ? "%c" : "byte 0x%02x", (unsigned)c);
    return err_set(e, "%s: not JSON: line %zu, column %zu: found %s, expected %s", name, line, column, found,
                   s->expected);
}

cJSON *json_parse(const char *text, size_t length, const char *name, err *e) {
    const unsigned char *bytes = (const unsigned char *)(length ? text : ""); /* nothing may be NULL */
    scanner s = {bytes, bytes, bytes + length, NULL};
    if (!scan_text(&s)) {
        scan_failed(&s, name, e);
        return NULL;
    }
    cJSON *j = cJSON_ParseWithLengthOpts(text, length, NULL, 0);
    if (!j) err_set(e, "%s: not enough memory for %zu bytes of JSON", name, length);
    return j;
}

void json_free(cJSON *j) { cJSON_Delete(j); }

/* ---- fields ------------------------------------------------------------------------------------- */
void json_describe(const cJSON *v, char *out, size_t size) {
    if (!v)
        snprintf(out, size, "missing");
    else if (cJSON_IsNumber(v))
        snprintf(out, size, "%.10g", v->valuedouble);
    else if (cJSON_IsString(v))
        snprintf(out, size, "\"%.40s\"", v->valuestring);
    else if (cJSON_IsArray(v))
        snprintf(out, size, "a list");
    else if (cJSON_IsObject(v))
        snprintf(out, size, "an object");
    else
        snprintf(out, size, "%s", cJSON_IsNull(v) ? "null" : cJSON_IsTrue(v) ? "true" : "false");
}

bool json_wrong(const json_scope *s, const char *key, const cJSON *v, const char *expected) {
    char found[64];
    json_describe(v, found, sizeof found);
    return err_set(s->e, "%s: %s%s%s is %s, expected %s", s->file, s->path, *s->path ? "." : "", key, found, expected);
}

bool json_field(const json_scope *s, const char *key, const cJSON **out) {
    *out = NULL;
    for (const cJSON *v = s->object ? s->object->child : NULL; v; v = v->next) {
        if (strcmp(v->string, key) != 0) continue;
        if (*out) return json_wrong(s, key, v, "to be given once; it stands twice");
        *out = v;
    }
    if (*out && cJSON_IsNull(*out)) *out = NULL;
    return true;
}

bool json_whole(const cJSON *v, size_t *out) {
    if (!cJSON_IsNumber(v)) return false;
    double d = v->valuedouble, most = 9007199254740991.0; /* 2^53 - 1 */
    if (!(d >= 0 && d <= most) || d != floor(d) || d > (double)SIZE_MAX) return false;
    *out = (size_t)d;
    return true;
}

bool json_size(const json_scope *s, const char *key, size_t least, size_t most, size_t absent, size_t *out) {
    const cJSON *v;
    if (!json_field(s, key, &v)) return false;
    if (!v && absent != JSON_REQUIRED) {
        *out = absent;
        return true;
    }
    if (v && json_whole(v, out) && *out >= least && *out <= most) return true;
    char expected[80];
    snprintf(expected, sizeof expected, "a whole number from %zu to %zu", least, most);
    return json_wrong(s, key, v, expected);
}

bool json_number(const json_scope *s, const char *key, double least, double most, double absent, double *out) {
    const cJSON *v;
    if (!json_field(s, key, &v)) return false;
    *out = v ? v->valuedouble : absent;
    if (!v || (cJSON_IsNumber(v) && *out >= least && *out <= most)) return true;
    char expected[80];
    snprintf(expected, sizeof expected, "a number from %g to %g", least, most);
    return json_wrong(s, key, v, expected);
}

bool json_bool(const json_scope *s, const char *key, bool absent, bool *out) {
    const cJSON *v;
    if (!json_field(s, key, &v)) return false;
    *out = v ? cJSON_IsTrue(v) : absent;
    return !v || cJSON_IsBool(v) || json_wrong(s, key, v, "true or false");
}

bool json_string(const json_scope *s, const char *key, const char *absent, const char **out) {
    const cJSON *v;
    if (!json_field(s, key, &v)) return false;
    *out = v ? v->valuestring : absent;
    return !v || cJSON_IsString(v) || json_wrong(s, key, v, "a string");
}

bool json_object(const json_scope *s, const char *key, json_scope *inner) {
    const cJSON *v;
    if (!json_field(s, key, &v)) return false;
    if (v && !cJSON_IsObject(v)) return json_wrong(s, key, v, "an object");
    *inner = (json_scope){.object = v, .file = s->file, .e = s->e};
    snprintf(inner->path, sizeof inner->path, "%.60s%s%.30s", s->path, *s->path ? "." : "", key);
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------ */
bool json_add_text(cJSON *to, const char *key, const char *text) {
    size_t left = strlen(text), n = 0, used;
    char *clean = left < SIZE_MAX / 3 ? mem_alloc(3 * left + 1, 1) : NULL; /* a byte becomes three at most */
    for (; clean && left > 0; text += used, left -= used) {
        unsigned char bytes[4];
        size_t many = utf8_encode(utf8_decode(text, left, &used), bytes);
        memcpy(clean + n, bytes, many);
        n += many;
    }
    bool ok = clean && cJSON_AddStringToObject(to, key, clean);
    mem_free(clean);
    return ok;
}
