/* x_cli.c - the command line, called from tests (see x_cli.h). */
#include "x_cli.h"
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

/* ---- running ------------------------------------------------------------------------------------- */
sayings said;

static int redirect(FILE *stream, FILE *to) {
    fflush(stream);
    int kept = dup(fileno(stream));
    assert_true(kept >= 0 && dup2(fileno(to), fileno(stream)) >= 0);
    return kept;
}

static void restore(FILE *stream, int kept, FILE *from, char *text, size_t room) {
    fflush(stream);
    clearerr(stream);
    dup2(kept, fileno(stream));
    close(kept);
    rewind(from);
    text[fread(text, 1, room - 1, from)] = 0;
    fclose(from);
}

int run_v(int argc, char **argv) {
    FILE *out = tmpfile(), *error = tmpfile();
    assert_non_null(out);
    assert_non_null(error);
    int kept_out = redirect(stdout, out), kept_err = redirect(stderr, error);
    int code = cli_main(argc, argv);
    restore(stdout, kept_out, out, said.out, sizeof said.out);
    restore(stderr, kept_err, error, said.err, sizeof said.err);
    return code;
}

int run(const char *first, ...) {
    char *argv[64] = {(char *)(uintptr_t) "maskinv", (char *)(uintptr_t)first};
    int argc = first ? 2 : 1;
    va_list args;
    va_start(args, first);
    while (first && argc < 63 && (argv[argc] = va_arg(args, char *))) argc++;
    va_end(args);
    argv[argc] = NULL;
    return run_v(argc, argv);
}

/* ---- files ------------------------------------------------------------------------------------------- */
static char folder[64];

const char *scratch(const char *format, ...) {
    static char paths[4][512];
    static size_t next;
    char *path = paths[next++ % 4];
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "/tmp/maskinv-test-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    int n = snprintf(path, sizeof paths[0], "%s/", folder);
    va_list args;
    va_start(args, format);
    vsnprintf(path + n, sizeof paths[0] - (size_t)n, format, args);
    va_end(args);
    return path;
}

static void remove_tree(const char *path) {
    struct stat s;
    if (lstat(path, &s) == 0 && S_ISDIR(s.st_mode)) {
        DIR *d = opendir(path);
        for (struct dirent *f; d && (f = readdir(d));) {
            char inner[1024];
            if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, "..")) continue;
            snprintf(inner, sizeof inner, "%s/%s", path, f->d_name);
            remove_tree(inner);
        }
        if (d) closedir(d);
    }
    remove(path);
}

void scratch_remove(void) {
    if (folder[0]) remove_tree(folder);
    folder[0] = 0;
}

int scratch_clean(void **state) {
    (void)state;
    mem_fail_after(0);
    scratch_remove();
    return 0;
}

char *bytes_at(const char *path, size_t *length) {
    err e = {0};
    char *bytes = file_read(path, (size_t)1 << 30, length, &e);
    if (!bytes) fail_msg("%s", e.text);
    return bytes;
}

void put_bytes(const char *path, const void *bytes, size_t length) {
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("%s cannot be written", path);
    assert_int_equal(fwrite(bytes, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

npy_array array_at(const char *path) {
    err e = {0};
    npy_array a;
    if (!npy_read(path, &a, &e)) fail_msg("%s", e.text);
    return a;
}

bool same_files(const char *a, const char *b) {
    size_t n, m;
    char *x = bytes_at(a, &n), *y = bytes_at(b, &m);
    bool same = n == m && !memcmp(x, y, n);
    mem_free(x);
    mem_free(y);
    return same;
}

size_t count_files(const char *path, const char *with) {
    size_t count = 0;
    DIR *d = opendir(path);
    for (struct dirent *f; d && (f = readdir(d));) count += strstr(f->d_name, with) != NULL;
    if (d) closedir(d);
    return count;
}

/* ---- models ------------------------------------------------------------------------------------------- */
static void copy_file(const char *from_folder, const char *name, const char *to_folder) {
    char from[1024], to[1024];
    size_t n;
    snprintf(from, sizeof from, "%s/%s", from_folder, name);
    snprintf(to, sizeof to, "%s/%s", to_folder, name);
    if (!file_exists(from)) return;
    char *bytes = bytes_at(from, &n);
    put_bytes(to, bytes, n);
    mem_free(bytes);
}

const char *model_with_merges(const char *name) {
    static const char *const files[] = {"config.json", "model.safetensors", "open_clip_config.json",
                                        "open_clip_model.safetensors"};
    static const char *const words[] = {"a photo of a red fish and the small blue house left of a striped umbrella",
                                        "seventeen yellow mushrooms under grey clouds, purple birds sail over water",
                                        "an old green clock beside white cups with black keys, two orange cats asleep"};
    char from[256], to[512], merges[600];
    err e = {0};
    size_t n;
    snprintf(from, sizeof from, DATA "%s", name);
    snprintf(to, sizeof to, "%s", scratch("%s", name));
    if (!folder_make(to, &e)) fail_msg("%s", e.text);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) copy_file(from, files[i], to);
    char *text = tokenizer_train(words, 3, 600 - 514, &n, &e);
    if (!text) fail_msg("%s", e.text);
    snprintf(merges, sizeof merges, "%s/merges.txt", to);
    put_bytes(merges, text, n);
    mem_free(text);
    static char kept[512]; /* scratch's paths are soon used again */
    snprintf(kept, sizeof kept, "%s", scratch("%s", name));
    return kept;
}
