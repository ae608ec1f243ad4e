/* x_cli.h - the command line, called from tests: what it printed, what it wrote.
 *
 *     assert_int_equal(run("embed", "-i", path, "-o", out, NULL), 0);
 *     assert_string_equal(said.err, "");
 *     npy_array a = array_at("out/embeddings.npy");
 */
#ifndef X_CLI_H
#define X_CLI_H
#include "models/checkpoint.h"
#include "cli/cli.h"

#define DATA "test/data/"
#define IMAGE DATA "image.png"
#define MASK0 DATA "mask0.png"
#define MASK1 DATA "mask1.png"

typedef struct {
    char out[1 << 16], err[1 << 16];
} sayings;
extern sayings said;
/* cli_main with these arguments (up to NULL): its exit code; said has what it printed. */
int run(const char *first, ...);
int run_v(int argc, char **argv);

/* A folder of this process under /tmp; scratch("a/b") is a path in it (four of them are good at a time). */
const char *scratch(const char *format, ...) PRINTF_LIKE(1, 2);
void scratch_remove(void);
int scratch_clean(void **state); /* scratch_remove as a group's teardown; memory no longer fails */
/* Files: fail the test when they cannot be read or written. */
char *bytes_at(const char *path, size_t *length); /* mem_free it */
void put_bytes(const char *path, const void *bytes, size_t length);
npy_array array_at(const char *path); /* npy_free it */
bool same_files(const char *a, const char *b);
size_t count_files(const char *folder, const char *with); /* whose names contain `with` */

/* A copy of a model of test/data in scratch, with merges for its vocabulary, so that texts work. */
const char *model_with_merges(const char *name);
#endif
