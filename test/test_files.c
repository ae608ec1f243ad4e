/* test_files.c - messages, the memory hook, files written and read, npy arrays against numpy's (test/make_pictures.py).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "x_skip.h"
#include <cjson/cJSON.h>
#include "files/files.h"
#include "x_speed.h"

#define DATA "test/data/pictures/"
static err e;
static char folder[64];

#define must(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) fail_msg("%s: %s", #condition, e.text);                                                      \
    } while (0)
#define says(word)                                                                                                     \
    do {                                                                                                               \
        if (!strstr(e.text, word)) fail_msg("'%s' does not say '%s'", e.text, word);                                   \
    } while (0)

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/test_files.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static const char *in_folder(const char *name) {
    static char path[4][128];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* Everything known is removed; what a test forgot (a temporary file) makes rmdir fail. */
static int teardown(void **state) {
    (void)state;
    static const char *const names[] = {"a", "link", "array.npy", "deep/er/still", "deep/er", "deep"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) remove(in_folder(names[i]));
    return rmdir(folder);
}

static void write_text(const char *path, const char *text) {
    out_file f;
    must(out_open(&f, path, &e));
    fputs(text, f.stream);
    must(out_close(&f, &e));
}

static void holds(const char *path, const char *text) {
    size_t n;
    char *bytes = file_read(path, 1000, &n, &e);
    must(bytes);
    assert_int_equal(n, strlen(text));
    assert_string_equal(bytes, text);
    mem_free(bytes);
}

/* ---- messages ------------------------------------------------------------------------------------ */
static void faults_are_told_with_their_operands(void **state) {
    (void)state;
    static const struct {
        fault f;
        const char *words[4];
    } cases[] = {
        {{.code = FAULT_MEMORY, .where = "forward", .n = {12345678, 100, 2000000000}}, {"forward", "12.3 MB", "100 bytes", "2.00 GB"}},
        {{.code = FAULT_MEMORY, .where = "x", .n = {9999, 10000, 10000000}}, {"9999 bytes", "10.0 kB", "10.0 MB", "full"}},
        {{.code = FAULT_TAPE, .where = "op_add", .n = {64}}, {"op_add", "64", "tape", "full"}},
        {{.code = FAULT_SHAPE, .where = "op_mul", .n = {1, 2, 3, 4, 5, 6}}, {"op_mul", "[1,2,3]", "[4,5,6]", "fit"}},
        {{.code = FAULT_RANGE, .where = "layers", .n = {13, 1, 12}}, {"layers", "13 found", "1 to 12", "allowed"}},
        {{.code = FAULT_ORDER, .where = "op_norm", .n = {3}}, {"op_norm", "3", "derivative", "order"}},
        {{.code = FAULT_FLAT, .where = "legrad", .n = {2}}, {"legrad", "2 layers", "flat", "same"}},
        {{.code = FAULT_NAN, .where = "loss", .n = {7}}, {"loss", "7", "not finite", "at"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(err_fault(&e, &cases[i].f));
        for (size_t k = 0; k < 4; k++) says(cases[i].words[k]);
    }
}

static void messages_are_cut_not_overrun(void **state) {
    (void)state;
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_false(err_set(&e, "%s is %d", "a", 3));
    assert_string_equal(e.text, "a is 3");
    assert_false(err_prefix(&e, "file %s", "b.npy"));
    assert_string_equal(e.text, "file b.npy: a is 3");
    assert_false(err_prefix(&e, "%s", longer));
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_string_equal(e.text + sizeof e.text - 4, "...");
    assert_false(err_set(&e, "%s", longer));
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_false(err_prefix(&e, "start"));
    assert_memory_equal(e.text, "start: xxx", 10);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_false(err_set(NULL, "nobody asked"));
}

/* ---- memory ---------------------------------------------------------------------------------------- */
static void memory_fails_when_told_to(void **state) {
    (void)state;
    size_t before = mem_count();
    unsigned char *p = mem_alloc(100, 3);
    for (size_t i = 0; i < 300; i++) assert_int_equal(p[i], 0);
    assert_int_equal(mem_count(), before + 1);
    mem_fail_after(2);
    p = mem_resize(p, 1000);
    assert_non_null(p);
    assert_null(mem_alloc(1, 1));
    assert_null(mem_resize(p, 2000));
    assert_null(mem_reserve(1));
    mem_fail_after(0);
    mem_free(p);
    assert_null(mem_alloc(SIZE_MAX / 2, 3));
    p = mem_alloc(0, 8);
    assert_non_null(p);
    mem_free(p);
    mem_free(NULL);
}

static void reserved_memory_costs_nothing_untouched(void **state) {
    (void)state;
    size_t n = (size_t)1 << (sizeof(size_t) > 4 ? 36 : 26); /* 64 GB of address space */
    unsigned char *p = mem_reserve(n);
    if (!p) SKIP("no address space of 64 GB");
    p[0] = p[n / 2] = p[n - 1] = 1;
    assert_int_equal(p[n / 2 + 1], 0);
    mem_release(p, n);
    mem_release(NULL, 5);
    assert_null(mem_reserve(0));
}

static void cjson_uses_the_hook(void **state) {
    (void)state;
    mem_hook_cjson();
    size_t before = mem_count();
    cJSON *json = cJSON_Parse("{\"a\": [1, 2, \"three\"]}");
    size_t all = mem_count() - before;
    assert_non_null(json);
    assert_true(all >= 5);
    cJSON_Delete(json);
    for (size_t n = 1; n <= all; n++) {
        mem_fail_after(n);
        json = cJSON_Parse("{\"a\": [1, 2, \"three\"]}");
        mem_fail_after(0);
        assert_null(json);
    }
    cJSON_InitHooks(NULL);
}

/* ---- writing ------------------------------------------------------------------------------------------ */
static void files_appear_when_closed(void **state) {
    (void)state;
    out_file f;
    write_text(in_folder("a"), "old");
    must(out_open(&f, in_folder("a"), &e));
    fputs("new", f.stream);
    fflush(f.stream);
    holds(in_folder("a"), "old");
    must(out_close(&f, &e));
    holds(in_folder("a"), "new");
    assert_false(file_exists(f.temporary));
    must(out_open(&f, in_folder("a"), &e));
    fputs("never", f.stream);
    out_abandon(&f);
    out_abandon(&f);
    assert_false(out_close(&f, &e));
    holds(in_folder("a"), "new");
    assert_false(file_exists(f.temporary));
    must(symlink("a", in_folder("link")) == 0);
    write_text(in_folder("link"), "through");
    holds(in_folder("a"), "through");
}

static void bad_places_to_write_are_errors(void **state) {
    (void)state;
    out_file f;
    char longest[5000];
    memset(longest, 'p', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    write_text(in_folder("a"), "file");
    assert_false(out_open(&f, in_folder("no/such/a"), &e));
    says("no/such/a");
    says("No such file");
    assert_false(out_open(&f, folder, &e));
    says("is a folder");
    assert_false(out_open(&f, in_folder("a/b"), &e));
    says("a/b");
    assert_false(out_open(&f, "", &e));
    says("empty");
    assert_false(out_open(&f, longest, &e));
    says("too long");
    if (geteuid() == 0 && seteuid(65534) == 0) { /* root may write anywhere; nobody may not */
        bool ok = out_open(&f, in_folder("b"), &e);
        must(seteuid(0) == 0);
        assert_false(ok);
        says("Permission denied");
    }
}

/* Opening a pipe would wait for somebody to write; a link that leads nowhere is listed, so that whoever reads it says so. */
static void folders_are_listed(void **state) {
    (void)state;
    file_list list;
    char *bytes;
    size_t n;
    must(folder_make(in_folder("listed/folder"), &e));
    write_text(in_folder("listed/file"), "x");
    must(symlink("nowhere", in_folder("listed/link")) == 0);
    must(mkfifo(in_folder("listed/pipe"), 0600) == 0);
    must(folder_list(in_folder("listed"), NULL, &list, &e));
    assert_int_equal(list.count, 2);
    assert_string_equal(list.path[0], in_folder("listed/file"));
    assert_string_equal(list.path[1], in_folder("listed/link"));
    bytes = file_read(list.path[1], 10, &n, &e);
    assert_null(bytes);
    says("listed/link");
    mem_free(list.path);
    static const char *const made[] = {"listed/file", "listed/link", "listed/pipe", "listed/folder", "listed"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) must(remove(in_folder(made[i])) == 0);
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    struct stat s;
    out_file f;
    if (stat("/dev/full", &s) != 0 || !S_ISCHR(s.st_mode)) SKIP("no /dev/full here");
    must(out_open(&f, "/dev/full", &e));
    fputs("does not fit", f.stream);
    assert_false(out_close(&f, &e));
    says("/dev/full");
    says("No space left");
    real many[5000] = {0};
    assert_false(npy_write("/dev/full", many, (size_t[]){5000}, 1, &e));
    says("No space left");
    write_text("/dev/null", "devices are written, not replaced");
    assert_true(stat("/dev/null", &s) == 0 && S_ISCHR(s.st_mode));
}

/* A write that fails half-way leaves the old file and nothing beside it. */
static void a_failed_write_keeps_the_old_file(void **state) {
    (void)state;
    struct rlimit old, small;
    real many[5000] = {0};
    char temporary[256];
    write_text(in_folder("a"), "old");
    must(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = old;
    small.rlim_cur = 6000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    must(setrlimit(RLIMIT_FSIZE, &small) == 0);
    bool ok = npy_write(in_folder("a"), many, (size_t[]){5000}, 1, &e);
    must(setrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, handler);
    assert_false(ok);
    says("/a: writing failed: File too large");
    holds(in_folder("a"), "old");
    snprintf(temporary, sizeof temporary, "%s.tmp-%ld", in_folder("a"), (long)getpid());
    assert_false(file_exists(temporary));
}

static void folders_are_made(void **state) {
    (void)state;
    write_text(in_folder("a"), "file");
    must(folder_make(in_folder("deep/er//still/"), &e));
    must(folder_make(in_folder("deep/er"), &e));
    assert_true(folder_exists(in_folder("deep/er/still")));
    assert_false(file_exists(in_folder("deep/er/still")));
    assert_true(file_exists(in_folder("a")));
    assert_false(folder_exists(in_folder("a")));
    assert_false(folder_make(in_folder("a"), &e));
    says("is a file");
    assert_false(folder_make(in_folder("a/b"), &e));
    says("/a");
    assert_false(folder_make("", &e));
    must(folder_make("/", &e));
    must(folder_make(".", &e));
}

/* ---- reading ----------------------------------------------------------------------------------------------- */
static void files_are_read_whole(void **state) {
    (void)state;
    file_map m;
    size_t n;
    write_text(in_folder("a"), "twelve bytes");
    char *bytes = file_read(in_folder("a"), 12, &n, &e);
    must(bytes);
    assert_int_equal(n, 12);
    assert_string_equal(bytes, "twelve bytes");
    mem_free(bytes);
    assert_null(file_read(in_folder("a"), 11, &n, &e));
    says("12 bytes");
    says("at most 11");
    must(file_map_open(in_folder("a"), &m, &e));
    assert_int_equal(m.length, 12);
    assert_memory_equal(m.data, "twelve bytes", 12);
    file_map_close(&m);
    file_map_close(&m);
    write_text(in_folder("a"), "");
    holds(in_folder("a"), "");
    must(file_map_open(in_folder("a"), &m, &e));
    assert_int_equal(m.length, 0);
    assert_int_equal(m.data[0], 0);
    file_map_close(&m);
}

/* What was read of a map is given up, and is there again when it is read once more. */
static void what_is_unwanted_needs_no_memory(void **state) {
    enum { BYTES = 16 << 20, SOME = 12 << 20 };
    file_map m;
    out_file f;
    uint64_t before[2] = {0};
    (void)state;
    must(out_open(&f, in_folder("large"), &e));
    for (uint64_t i = 0; i < BYTES / sizeof i; i++) fwrite(&i, sizeof i, 1, f.stream);
    must(out_close(&f, &e));
    must(file_map_open(in_folder("large"), &m, &e));
    for (int round = 0; round < 2; round++) {
        size_t start = own_memory("RssFile:");
        for (size_t i = 0; i < BYTES; i += 512) before[round] += m.data[i] * (i + 1);
        size_t read = own_memory("RssFile:");
        file_map_unwanted(&m, 5, BYTES);
        size_t left = own_memory("RssFile:");
        if (read && !(read >= start + SOME && left + SOME <= read)) fail_msg("%zu bytes before, %zu read, %zu left", start, read, left);
    }
    assert_true(before[0] == before[1]);
    file_map_close(&m);
    file_map_unwanted(&m, 0, 1); /* nothing is mapped */
    unlink(in_folder("large"));
}

static void what_cannot_be_read_is_named(void **state) {
    (void)state;
    file_map m;
    size_t n;
    assert_null(file_read(folder, 100, &n, &e));
    says(folder);
    says("is a folder");
    assert_false(file_map_open(folder, &m, &e));
    says("is a folder");
    assert_null(file_read(in_folder("absent"), 100, &n, &e));
    says("absent");
    says("No such file");
    assert_false(file_map_open(in_folder("absent"), &m, &e));
    says("No such file");
    if (geteuid() == 0) {
        write_text(in_folder("a"), "secret");
        must(chmod(in_folder("a"), 0) == 0 && chmod(folder, 0755) == 0 && seteuid(65534) == 0);
        bool ok = file_map_open(in_folder("a"), &m, &e);
        must(seteuid(0) == 0);
        assert_false(ok);
        says("Permission denied");
    }
}

/* A pipe has no size; more than one round of growing, and a limit. */
static void pipes_are_read(void **state) {
    (void)state;
    static char many[20000];
    for (int limit = 0; limit < 2; limit++) {
        char path[32];
        int ends[2];
        size_t n;
        must(pipe(ends) == 0);
        memset(many, 'z', sizeof many);
        must(write(ends[1], many, sizeof many) == sizeof many);
        close(ends[1]);
        snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
        char *bytes = file_read(path, limit ? sizeof many - 1 : sizeof many, &n, &e);
        close(ends[0]);
        if (!bytes && strstr(e.text, "No such file")) SKIP("no /dev/fd here");
        if (limit) {
            assert_null(bytes);
            says("larger than 19999");
        } else {
            must(bytes);
            assert_int_equal(n, sizeof many);
            assert_memory_equal(bytes, many, sizeof many);
        }
        mem_free(bytes);
    }
}

/* ---- npy ------------------------------------------------------------------------------------------------------ */
static void numpys_arrays_are_read(void **state) {
    (void)state;
    static const real expected[12] = {0,        -0.0f,      1,        -1.5f,     65504, 0x1p-24f,
                                       0x1p-14f, 0x3FFp-24f, INFINITY, -INFINITY, NAN};
    static const char *const names[3] = {DATA "f2.npy", DATA "f4.npy", DATA "f8.npy"};
    npy_array a;
    for (int k = 0; k < 3; k++) {
        must(npy_read(names[k], &a, &e));
        assert_int_equal(a.rank, 1);
        assert_int_equal(a.shape[0], 12);
        for (size_t i = 0; i < 11; i++) {
            if (!(isnan(expected[i]) ? isnan(a.data[i]) : a.data[i] == expected[i]))
                fail_msg("%s: %zu is %g, expected %g", names[k], i, (double)a.data[i], (double)expected[i]);
            if (!isnan(expected[i])) assert_int_equal(!signbit(a.data[i]), !signbit(expected[i]));
        }
        assert_true(fabs((double)a.data[11] - 1.0 / 3) < 1e-4);
        npy_free(&a);
    }
    must(npy_read(DATA "rank0.npy", &a, &e));
    assert_int_equal(a.rank, 0);
    assert_true(a.data[0] == 2.5f);
    npy_free(&a);
    must(npy_read(DATA "none.npy", &a, &e));
    assert_int_equal(a.shape[0], 3);
    assert_int_equal(a.shape[1], 0);
    npy_free(&a);
    must(npy_read(DATA "rank4.npy", &a, &e));
    assert_int_equal(a.rank, 4);
    assert_int_equal(a.shape[3], 4);
    for (size_t i = 0; i < 24; i++) assert_true(a.data[i] == (real)i);
    npy_free(&a);
    npy_free(&a);
}

static void numpys_other_arrays_are_refused(void **state) {
    (void)state;
    npy_array a;
    assert_false(npy_read(DATA "complex.npy", &a, &e));
    says("'<c8' found");
    assert_false(npy_read(DATA "rank5.npy", &a, &e));
    says("more than 4");
    assert_false(npy_read(DATA "small.png", &a, &e));
    says("small.png");
    says("not an npy file");
    assert_false(npy_read(DATA, &a, &e));
    says("folder");
}

/* [2,3,2] of 0..11 (floats: less 2.5; booleans: odd ones), rows or columns first. */
static void every_type_and_order_is_read(void **state) {
    (void)state;
    static const char *const types[] = {"b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"};
    for (size_t k = 0; k < 4 * sizeof types / sizeof *types; k++) {
        char path[128];
        npy_array a;
        const char *type = types[k / 4];
        snprintf(path, sizeof path, DATA "npy/%s%s%s.npy", type, k & 1 ? "-big" : "", k & 2 ? "-columns" : "");
        must(npy_read(path, &a, &e));
        assert_int_equal(a.rank, 3);
        assert_true(a.shape[0] == 2 && a.shape[1] == 3 && a.shape[2] == 2);
        for (size_t i = 0; i < 12; i++) {
            real wanted = type[0] == 'b' ? (real)(i % 2) : type[0] == 'f' ? (real)i - 2.5f : type[0] == 'i' ? (real)i - 5 : (real)i;
            if (!(a.data[i] == wanted)) fail_msg("%s: number %zu is %g", path, i, (double)a.data[i]);
        }
        npy_free(&a);
    }
}

/* header text, bytes of data behind it -> what the message must say; NULL: it is read. */
static void headers_are_read_strictly(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *word;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24, NULL},
        {"{'shape':(2,3),\"descr\":\"<f4\",'fortran_order':False}\n", 24, NULL},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", 24, NULL},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23, "24 bytes of numbers, 23"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 25, "24 bytes of numbers, 25"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } x", 24, "follows"},
        {"{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }", 24, NULL},
        {"{'descr': '|f4', 'fortran_order': False, 'shape': (2, 3), }", 24, "'|f4' found"},
        {"{'descr': '<U1', 'fortran_order': False, 'shape': (2, 3), }", 24, "'<U1' found"},
        {"{'descr': '', 'fortran_order': False, 'shape': (2, 3), }", 24, "'' found"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", 24, "simple type"},
        {"{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3), }", 24, "fortran_order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3), }", 12, "tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 3, }", 12, "tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", 12, "whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3.0,), }", 12, "whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3 3), }", 36, "whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", 12, "whole numbers"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 0, "too large"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2305843009213693952,), }", 0, "too large"},
        {"{'descr': '<f4', 'fortran_order': False, }", 4, "shape is missing"},
        {"{'fortran_order': False, 'shape': (1,), }", 4, "descr is missing"},
        {"{'descr': '<f4', 'shape': (1,), }", 4, "fortran_order is missing"},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4, "twice"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}", 4, "'more' is unknown"},
        {"{'descr': '<f4' 'fortran_order': False, 'shape': (1,), }", 4, "damaged"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,),", 4, "damaged"},
        {"('descr',)", 4, "not a dict"},
        {"", 4, "not a dict"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned char bytes[256] = "\x93NUMPY\1";
        size_t n = strlen(cases[i].header);
        npy_array a;
        bytes[8] = (unsigned char)n;
        memcpy(bytes + 10, cases[i].header, n);
        e.text[0] = 0;
        bool ok = npy_parse(bytes, 10 + n + cases[i].data, "NAMED", &a, &e);
        if (!cases[i].word)
            must(ok);
        else if (ok)
            fail_msg("%s with %zu bytes was read", cases[i].header, cases[i].data);
        if (cases[i].word) {
            says("NAMED");
            if (!(sizeof(size_t) < 8 && strstr(cases[i].word, "too large"))) says(cases[i].word);
        }
        npy_free(&a);
    }
}

static void cut_and_changed_arrays_do_no_harm(void **state) {
    (void)state;
    static const char *const names[3] = {DATA "f2.npy", DATA "f4.npy", DATA "f8.npy"};
    for (int k = 0; k < 3; k++) {
        size_t n;
        npy_array a;
        unsigned char *bytes = (unsigned char *)file_read(names[k], 10000, &n, &e);
        must(bytes);
        for (size_t left = 0; left < n; left++) {
            unsigned char *part = malloc(left ? left : 1);
            memcpy(part, bytes, left);
            e.text[0] = 0;
            assert_false(npy_parse(part, left, "cut", &a, &e));
            says("cut");
            assert_null(a.data);
            free(part);
        }
        for (size_t i = 0; i < 128; i++)
            for (int bit = 0; bit < 8; bit++) {
                bytes[i] ^= (unsigned char)(1 << bit);
                npy_parse(bytes, n, "changed", &a, &e);
                npy_free(&a);
                bytes[i] ^= (unsigned char)(1 << bit);
            }
        bytes[6] = 4;
        assert_false(npy_parse(bytes, n, "changed", &a, &e));
        says("version 4.0");
        mem_free(bytes);
    }
}

static void arrays_read_back_as_written(void **state) {
    (void)state;
    static const size_t shape[4] = {3, 5, 7, 20};
    real data[2100];
    for (size_t i = 0; i < 2100; i++) data[i] = (float)i / 7; /* what a file holds */
    for (size_t rank = 0; rank <= 4; rank++) {
        npy_array a;
        file_map m;
        size_t count = 1;
        for (size_t i = 0; i < rank; i++) count *= shape[i];
        must(npy_write(in_folder("array.npy"), data, shape, rank, &e));
        must(npy_read(in_folder("array.npy"), &a, &e));
        assert_int_equal(a.rank, rank);
        assert_memory_equal(a.shape, shape, rank * sizeof *shape);
        assert_memory_equal(a.data, data, count * sizeof *data);
        npy_free(&a);
        must(file_map_open(in_folder("array.npy"), &m, &e));
        assert_int_equal((m.length - count * 4) % 64, 0); /* the numbers start aligned */
        assert_int_equal(m.data[m.length - count * 4 - 1], '\n');
        file_map_close(&m);
    }
    assert_false(npy_write(in_folder("array.npy"), data, shape, 5, &e));
    assert_false(npy_write(in_folder("no/array.npy"), data, shape, 1, &e));
    says("no/array.npy");
}

static void allocations_that_fail_are_errors(void **state) {
    (void)state;
    npy_array a;
    size_t n;
    mem_fail_after(1);
    assert_false(npy_read(DATA "f4.npy", &a, &e));
    says("f4.npy");
    assert_null(a.data);
    assert_null(file_read(DATA "f4.npy", 1000, &n, &e));
    says("no memory");
    mem_fail_after(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_told_with_their_operands),
        cmocka_unit_test(messages_are_cut_not_overrun),
        cmocka_unit_test(memory_fails_when_told_to),
        cmocka_unit_test(reserved_memory_costs_nothing_untouched),
        cmocka_unit_test(cjson_uses_the_hook),
        cmocka_unit_test(files_appear_when_closed),
        cmocka_unit_test(bad_places_to_write_are_errors),
        cmocka_unit_test(folders_are_listed),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(a_failed_write_keeps_the_old_file),
        cmocka_unit_test(folders_are_made),
        cmocka_unit_test(files_are_read_whole),
        cmocka_unit_test(what_is_unwanted_needs_no_memory), cmocka_unit_test(what_cannot_be_read_is_named),
        cmocka_unit_test(pipes_are_read),
        cmocka_unit_test(numpys_arrays_are_read),
        cmocka_unit_test(numpys_other_arrays_are_refused),
cmocka_unit_test(every_type_and_order_is_read),
        cmocka_unit_test(headers_are_read_strictly),
        cmocka_unit_test(cut_and_changed_arrays_do_no_harm),
        cmocka_unit_test(arrays_read_back_as_written),
        cmocka_unit_test(allocations_that_fail_are_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
