/* embedded.c - rows of embed, kept in FILE.part, written as npy or jsonl (see embedded.h).
 *
 * FILE.part: 8 bytes "MIPART1\n", the key, then records of name's number, EMBED_GOOD, E numbers, as this machine writes them.
 * What was cut off by the end is dropped.
 */
#include "cli/embedded.h"
#include <math.h>
#include <string.h>
#include "data/reader.h"
#include "files/files.h"
#include "files/longtext.h"
#include "os/os.h"

static const char MAGIC[] = "MIPART1\n";
enum { HEAD = 16 };

uint64_t embed_key(uint64_t key, const void *bytes, size_t n) { /* FNV-1a */
    const unsigned char *p = bytes;
    if (!key) key = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) key = (key ^ p[i]) * 0x100000001b3u;
    return key;
}

static uint64_t key_of(const embed_list *l) {
    uint64_t key = embed_key(l->key, &l->embed, sizeof l->embed);
    for (size_t i = 0; i < l->count; i++) key = embed_key(key, l->names[i], strlen(l->names[i]) + 1);
    return key;
}

/* ---- FILE.part ------------------------------------------------------------------------------------------------------ */
/* A name that was left out is tried again: its file may have been mended, and if not, that is said again. */
static bool take_record(embedded *out, const unsigned char *p) {
    uint32_t head[2];
    memcpy(head, p, sizeof head);
    if (head[0] >= out->list->count || head[1] != EMBED_GOOD) return false;
    memcpy(out->rows + head[0] * out->list->embed, p + sizeof head, out->list->embed * sizeof *out->rows);
    out->state[head[0]] = EMBED_GOOD;
    return true;
}

/* What an earlier run kept; *whole: bytes of it that are good, 0 where it ended before its head was written. */
static bool take_part(embedded *out, const unsigned char head[HEAD], uint64_t *whole, err *e) {
    file_map m;
    size_t each = 8 + out->list->embed * sizeof *out->rows;
    if (!file_map_open(out->part_path, &m, e)) return false;
    bool ok = !memcmp(m.data, head, m.length < HEAD ? m.length : HEAD);
    *whole = m.length < HEAD ? 0 : HEAD;
    for (; ok && *whole && m.length - *whole >= each; *whole += each) ok = take_record(out, m.data + *whole);
    file_map_close(&m);
    return ok || err_set(e, "%s: is of another model, size, list of names or masks; without it, --resume begins anew", out->part_path);
}

static bool open_part(embedded *out, err *e) {
    uint64_t key = key_of(out->list), whole = 0;
    unsigned char head[HEAD];
    memcpy(head, MAGIC, 8), memcpy(head + 8, &key, 8);
    int n = snprintf(out->part_path, sizeof out->part_path, "%s.part", out->path);
    if (n < 0 || (size_t)n >= sizeof out->part_path) return err_set(e, "--out: the path is too long");
    if (!(out->part = os_open(out->part_path, "ab"))) return err_set(e, "%s: cannot be written: %s", out->part_path, os_reason());
    if (!os_hold(out->part)) return err_set(e, "%s: another run writes there, one at a time is expected", out->part_path);
    if (!take_part(out, head, &whole, e)) return false;
    if (!os_cut(out->part_path, whole) || (!whole && (fwrite(head, HEAD, 1, out->part) != 1 || fflush(out->part) != 0)))
        return err_set(e, "%s: writing failed: %s", out->part_path, os_reason());
    return true;
}

bool embedded_open(embedded *out, const embed_list *list, const char *path, bool resume, err *e) {
    memset(out, 0, sizeof *out);
    out->list = list, out->path = path;
    out->rows = mem_alloc(list->count, list->embed * sizeof *out->rows);
    out->state = mem_alloc(list->count, sizeof *out->state);
    if (!out->rows || !out->state) return err_set(e, "no memory for %zu embeddings", list->count);
    return !resume || open_part(out, e);
}

bool embedded_put(embedded *out, size_t i, embed_state state, err *e) {
    real *row = out->rows + i * out->list->embed;
    uint32_t head[2] = {(uint32_t)i, state};
    out->state[i] = (unsigned char)state;
    for (size_t d = 0; state == EMBED_LEFT_OUT && d < out->list->embed; d++) row[d] = NAN;
    if (!out->part || state != EMBED_GOOD) return true;
    bool ok = fwrite(head, sizeof head, 1, out->part) == 1 &&
              fwrite(row, sizeof *row, out->list->embed, out->part) == out->list->embed && fflush(out->part) == 0;
    return ok || err_set(e, "%s: writing failed: %s", out->part_path, os_reason());
}

/* ---- the end ----------------------------------------------------------------------------------------------------------- */
static bool write_jsonl(const embedded *out, err *e) {
    out_file f;
    longtext line = {0};
    const embed_list *l = out->list;
    if (!out_open(&f, out->path, e)) return false;
    for (size_t i = 0; i < l->count && !line.failed; i++) {
        if (out->state[i] != EMBED_GOOD) continue;
        line.length = 0;
        say(&line, "{\"%s\": ", l->kind);
        say_quoted(&line, l->names[i]);
        for (size_t d = 0; d < l->embed; d++) say(&line, "%s%.*g", d ? ", " : ", \"embedding\": [", REAL_DIGITS, (double)out->rows[i * l->embed + d]);
        say(&line, "]}\n");
        if (!line.failed) fwrite(line.text, 1, line.length, f.stream);
    }
    bool failed = line.failed;
    mem_free(line.text);
    if (!failed) return out_close(&f, e);
    out_abandon(&f);
    return err_set(e, "%s: no memory for a line", out->path);
}

bool embedded_write(embedded *out, err *e) {
    const size_t shape[] = {out->list->count, out->list->embed};
    bool ok = ends_like(out->path, ".jsonl") ? write_jsonl(out, e)
                                             : (strcmp(out->path, "-") ? npy_write : npy_print)(out->path, out->rows, shape, 2, e);
    if (ok && out->part) {
        fclose(out->part);
        out->part = NULL;
        (void)os_remove(out->part_path);
    }
    return ok;
}

void embedded_free(embedded *out) {
    if (out->part) fclose(out->part);
    mem_free(out->rows);
    mem_free(out->state);
}
