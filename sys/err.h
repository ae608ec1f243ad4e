/* err.h - errors as text, for everything above the core; and the one hook for all of our memory.
 *
 *     err e = {0};
 *     if (!picture_read("cat.jpg", &p, &e)) fprintf(stderr, "maskinv: %s\n", e.text);
 *
 * Every function that takes an err returns false (or NULL) when it failed, having written a message that names the
 * file, tensor or flag, what was found and what was expected.
 */
#ifndef ERR_H
#define ERR_H
#include "base.h"

typedef struct { char text[1024]; } err;

#if defined(__MINGW32__) /* C's own printf, not Microsoft's: __USE_MINGW_ANSI_STDIO */
#define PRINTF_LIKE(f, a) __attribute__((format(gnu_printf, f, a)))
#elif defined(__GNUC__)
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#else
#define PRINTF_LIKE(f, a)
#endif
/* Writes the message; always returns false. */
bool err_set(err *e, const char *format, ...) PRINTF_LIKE(2, 3);
/* Puts "prefix: " before the message; always returns false. */
bool err_prefix(err *e, const char *format, ...) PRINTF_LIKE(2, 3);
/* The core's fault in words; always returns false. */
bool err_fault(err *e, const fault *f);

/* ---- memory: one hook for ours, stb's and cJSON's ------------------------------------------- */
/* malloc, zeroed. NULL on failure. mem_fail_after(n): the n-th allocation from now (from 1) and all later ones fail;
 * 0 switches that off. mem_count(): allocations made so far; mem_held(): those not yet given back. For tests. */
void *mem_alloc(size_t count, size_t each);
void *mem_resize(void *p, size_t bytes);
/* Room for `need` items of `each` bytes in the array whose pointer is at `array`, doubled when full. False: no memory,
 * and all stays as it was. */
bool mem_grow(void *array, size_t *room, size_t need, size_t each);
/* A copy of text, or of its first n bytes. NULL: no memory; or text is NULL. */
char *mem_text(const char *text);
char *mem_text_of(const char *text, size_t n);
void mem_free(void *p);
void mem_fail_after(size_t n);
size_t mem_count(void);
size_t mem_held(void);
/* Lends cJSON the hook; call once at start. */
void mem_hook_cjson(void);
/* Address space for an arena: pages are the system's until they are touched. */
void *mem_reserve(size_t bytes);
void mem_release(void *p, size_t bytes);
#endif
