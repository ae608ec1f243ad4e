/* files.c - whole files in and out, npy arrays, folders. */
#include "files/files.h"
#include "os/os.h"
#include <errno.h>
#include <string.h>

/* ---- writing: a temporary name, then rename -------------------------------------------------- */
bool out_open(out_file *f, const char *path, err *e) {
    memset(f, 0, sizeof *f);
    if (!*path) return err_set(e, "the name of a file to write is empty");
    if (strlen(path) >= sizeof f->path - 1) return err_set(e, "%.200s...: the name is too long", path);
    strcpy(f->path, path);
    os_kind kind = os_path_kind(path, NULL);
    if (kind == OS_FOLDER) return err_set(e, "%s: is a folder, a file to write was expected", path);
    if (kind == OS_OTHER) { /* a device or pipe must not be renamed over */
        f->stream = os_open(path, "wb");
    } else { /* a link stays a link, its target is replaced */
        if (kind == OS_FILE && !os_path_real(path, f->path, sizeof f->path)) strcpy(f->path, path);
        snprintf(f->temporary, sizeof f->temporary, "%s.tmp-%ld", f->path, os_process());
        f->stream = os_open(f->temporary, "wb");
    }
    if (!f->stream) return err_set(e, "%s: cannot be written: %s", path, os_reason());
    return true;
}

void out_abandon(out_file *f) {
    if (f->stream) fclose(f->stream);
    if (f->stream && f->temporary[0]) os_remove(f->temporary);
    f->stream = NULL;
}

bool out_close(out_file *f, err *e) {
    FILE *stream = f->stream;
    if (!stream) return err_set(e, "%s: is not open", f->path);
    f->stream = NULL;
    errno = 0;
    int bad = fflush(stream) != 0 || ferror(stream);
    int why = errno;
    if (bad && !why) { /* an earlier write failed, its reason is gone: one byte more fails for the same */
        clearerr(stream);
        if (fputc(0, stream) == EOF || fflush(stream) != 0) why = errno;
    }
    if (fclose(stream) != 0 && !bad) bad = 1, why = errno;
    if (!bad && f->temporary[0] && !os_rename(f->temporary, f->path)) bad = 1, why = errno;
    if (!bad) return true;
    if (f->temporary[0]) os_remove(f->temporary);
    return err_set(e, "%s: writing failed: %s", f->path, why ? strerror(why) : "input/output error");
}

bool file_write(const char *path, const void *bytes, size_t length, err *e) {
    out_file f;
    if (!out_open(&f, path, e)) return false;
    fwrite(bytes, 1, length, f.stream); /* out_close sees whether all went */
    return out_close(&f, e);
}

bool out_check(const char *path, err *e) {
    out_file f;
    if (os_path_kind(path, NULL) == OS_OTHER) return true; /* opening a pipe would wait */
    if (!out_open(&f, path, e)) return false;
    out_abandon(&f);
    return true;
}

bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* ---- folders --------------------------------------------------------------------------------- */
bool folder_exists(const char *path) { return os_path_kind(path, NULL) == OS_FOLDER; }

bool file_exists(const char *path) {
    os_kind kind = os_path_kind(path, NULL);
    return kind == OS_FILE || kind == OS_OTHER;
}

static bool folder_make_one(const char *path, err *e) {
    if (os_folder_make(path)) return true;
    const char *why = os_reason();
    os_kind kind = os_path_kind(path, NULL);
    if (kind == OS_FOLDER) return true;
    if (kind != OS_NOTHING) return err_set(e, "%s: is a file, a folder was expected", path);
    return err_set(e, "%s: the folder cannot be made: %s", path, why);
}

bool folder_make(const char *path, err *e) {
    char part[4096];
    size_t n = strlen(path);
    if (n == 0) return err_set(e, "the name of a folder to make is empty");
    if (n >= sizeof part) return err_set(e, "%.200s...: the name is too long", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i < n; i++) {
        if (part[i] != '/' || part[i - 1] == '/') continue;
        part[i] = 0;
        if (!folder_make_one(part, e)) return false;
        part[i] = '/';
    }
    return folder_make_one(part, e);
}

/* ---- reading --------------------------------------------------------------------------------- */
/* A file to read from; *size is what it has, 0 where that is not known beforehand (pipes). */
static FILE *open_file(const char *path, uint64_t *size, err *e) {
    if (!*path) return err_set(e, "the name of a file to read is empty"), NULL;
    if (os_path_kind(path, size) == OS_FOLDER) return err_set(e, "%s: is a folder, a file was expected", path), NULL;
    FILE *f = os_open(path, "rb");
    if (!f) err_set(e, "%s: cannot be read: %s", path, os_reason());
    return f;
}

/* Reads until the end, also from pipes, whose size is not known beforehand. */
static char *read_all(FILE *f, const char *path, size_t expected, size_t most, size_t *length, err *e) {
    size_t room = expected + 2, have = 0; /* one byte for the end to show, one for the zero */
    char *data = mem_alloc(room, 1);
    if (!data) return err_set(e, "%s: no memory for its %zu bytes", path, expected), NULL;
    for (;;) {
        have += fread(data + have, 1, room - 1 - have, f);
        if (ferror(f)) {
            err_set(e, "%s: cannot be read: %s", path, os_reason());
            break;
        }
        if (have > most) {
            err_set(e, "%s: is larger than %zu bytes, the most allowed here", path, most);
            break;
        }
        if (have < room - 1) {
            data[have] = 0;
            *length = have;
            return data;
        }
        char *more = room > SIZE_MAX / 4 ? NULL : mem_resize(data, room * 2);
        if (!more) {
            err_set(e, "%s: no memory for more than %zu bytes", path, have);
            break;
        }
        data = more;
        room *= 2;
    }
    mem_free(data);
    return NULL;
}

char *file_read(const char *path, size_t most, size_t *length, err *e) {
    uint64_t size;
    char *data = NULL;
    *length = 0;
    FILE *f = open_file(path, &size, e);
    if (!f) return NULL;
    if (size > most)
        err_set(e, "%s: has %ju bytes, at most %zu are allowed here", path, (uintmax_t)size, most);
    else
        data = read_all(f, path, size < SIZE_MAX - 2 ? (size_t)size : SIZE_MAX - 2, most, length, e);
    fclose(f);
    return data;
}

/* m->handle tells what must be given back: the map itself, or the copy read where there is no mapping. */
bool file_map_open(const char *path, file_map *m, err *e) {
    uint64_t size;
    memset(m, 0, sizeof *m);
    FILE *f = open_file(path, &size, e);
    if (!f) return false;
    if (size > SIZE_MAX / 2) {
        fclose(f);
        return err_set(e, "%s: has %ju bytes, more than this system can address", path, (uintmax_t)size);
    }
    if (!(m->data = os_map(path, &m->length))) {
        m->handle = read_all(f, path, (size_t)size, SIZE_MAX / 2, &m->length, e);
        m->data = m->handle;
    }
    fclose(f);
    return m->data != NULL;
}

void file_map_unwanted(const file_map *m, size_t at, size_t bytes) {
    if (m->data && !m->handle && at < m->length) os_unwanted(m->data + at, bytes < m->length - at ? bytes : m->length - at);
}

void file_map_close(file_map *m) {
    if (m->handle)
        mem_free(m->handle);
    else if (m->data)
        os_unmap(m->data, m->length);
    memset(m, 0, sizeof *m);
}
