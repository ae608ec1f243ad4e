/* gemm_own.c - our own products (see gemm.h), in plain C that compilers turn into the loop one would write by hand.
 *
 * C is cut into tiles of some rows x PANEL columns that live in registers. What a tile reads lies in the order in which it is
 * read: op(A) as blocks [tile][depth/STEP][rows][STEP], op(B) as panels [depth][PANEL]. Every number of C is one sum over
 * the depth in its order, DEPTH numbers at a time, wherever in C it stands: a row's bytes never depend on other rows.
 */
#include "gemm.h"
#include <string.h>
#include "simd.h"

#if defined(__x86_64__)
enum { PANEL = 128 / sizeof(real), PANELS = 3, TALLEST = 14, QUARTER = PANEL / 4 }; /* 96 KB on the stack: musl's threads have 128 */
#else
enum { PANEL = 64 / sizeof(real), PANELS = 1, TALLEST = 6, QUARTER = PANEL / 2 }; /* 16 KB */
#endif
enum { STEP = 16, DEPTH = 256, WIDEST_TURN = 16 };

/* ---- the tile ------------------------------------------------------------------------------------------------------- */
/* out[h][w] = A[h, depth] B[depth, w]; depth is a multiple of STEP. h and w are constants where it is called, so that all
 * of acc is registers. */
static ALWAYS_INLINE void tile(const size_t h, const size_t w, const real *restrict a, const real *restrict b, size_t depth,
                               real *restrict out) {
    real acc[TALLEST][PANEL];
    UNROLLED
    for (size_t r = 0; r < h; r++)
#pragma omp simd
        for (size_t j = 0; j < w; j++) acc[r][j] = 0;
    for (const real *end = a + depth * h; a < end; a += h * STEP) {
        ROLLED
        for (const real *x = a; x < a + STEP; x++, b += PANEL) {
            UNROLLED
            for (size_t r = 0; r < h; r++) {
                real factor = x[r * STEP];
#pragma omp simd
                for (size_t j = 0; j < w; j++) acc[r][j] += factor * b[j];
            }
        }
    }
    UNROLLED
    for (size_t r = 0; r < h; r++)
#pragma omp simd
        for (size_t j = 0; j < w; j++) out[r * PANEL + j] = acc[r][j];
}

/* C[h,w] (+)= A[h,k] B[k,w] of a group's columns, A where it lies (gemm_group) */
static ALWAYS_INLINE void group_tile(const size_t h, const size_t w, size_t k, const real *restrict a, size_t row, size_t step,
                                     const real *restrict b, bool add, real *restrict c) {
    real acc[TALLEST][PANEL];
    UNROLLED
    for (size_t r = 0; r < h; r++)
#pragma omp simd
        for (size_t j = 0; j < w; j++) acc[r][j] = add ? c[r * GEMM_GROUP + j] : 0;
    ROLLED
    for (size_t p = 0; p < k; p++, a += step, b += GEMM_GROUP) {
        UNROLLED
        for (size_t r = 0; r < h; r++) {
            real factor = a[r * row];
#pragma omp simd
            for (size_t j = 0; j < w; j++) acc[r][j] += factor * b[j];
        }
    }
    UNROLLED
    for (size_t r = 0; r < h; r++)
#pragma omp simd
        for (size_t j = 0; j < w; j++) c[r * GEMM_GROUP + j] = acc[r][j];
}

/* y[r,j] = acc[r,j] + old[r,j], of w columns: acc's rows are PANEL apart, old's old_row, y's row. old NULL: zeros */
static ALWAYS_INLINE void sum_rows(size_t h, const size_t w, const real *acc, const real *old, size_t old_row, real *y, size_t row) {
    for (size_t r = 0; r < h; r++, acc += PANEL, y += row) {
        if (old) {
            const real *a = old + r * old_row;
#pragma omp simd
            for (size_t j = 0; j < w; j++) y[j] = acc[j] + a[j];
        } else
#pragma omp simd
            for (size_t j = 0; j < w; j++) y[j] = acc[j];
    }
}

/* ---- turning ----------------------------------------------------------------------------------------------------------- */
/* to[p*PANEL + j] = rows[j*stride + p] for `side` rows j and as many numbers p. Interleaving the first half of the vectors with the
 * second, as often as side doubles from 1, transposes them: after each time a number's place has lost one bit of its column and
 * gained one of its row. In registers, where the compiler has vectors of its own. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLE
#endif
#endif
#if defined(HAS_SHUFFLE)
#define TURN(name, target, side, LOW, HIGH)                                                                                \
    typedef real name##_lanes __attribute__((vector_size((side) * sizeof(real)), aligned(sizeof(real)))); /* as stacks are */ \
    target static void name##_turn(real *restrict to, const real *restrict rows, size_t stride) {                          \
        name##_lanes a[side], b[side];                                                                                     \
        UNROLLED                                                                                                           \
        for (size_t j = 0; j < (side); j++) memcpy(&a[j], rows + j * stride, sizeof a[j]);                                 \
        UNROLLED                                                                                                           \
        for (size_t times = 1; times < (side); times *= 4) {                                                               \
            UNROLLED                                                                                                       \
            for (size_t j = 0; j < (side) / 2; j++)                                                                        \
                b[2 * j] = __builtin_shufflevector(a[j], a[j + (side) / 2], LOW),                                          \
                b[2 * j + 1] = __builtin_shufflevector(a[j], a[j + (side) / 2], HIGH);                                     \
            UNROLLED                                                                                                       \
            for (size_t j = 0; j < (side) / 2; j++)                                                                        \
                a[2 * j] = __builtin_shufflevector(b[j], b[j + (side) / 2], LOW),                                          \
                a[2 * j + 1] = __builtin_shufflevector(b[j], b[j + (side) / 2], HIGH);                                     \
        }                                                                                                                  \
        UNROLLED                                                                                                           \
        for (size_t j = 0; j < (side); j++) memcpy(to + j * PANEL, &a[j], sizeof a[j]);                                    \
    }
#define LOW_4 0, 4, 1, 5
#define HIGH_4 2, 6, 3, 7
#define LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#define TURN(name, target, side, LOW, HIGH)                                                                                \
    static void name##_turn(real *restrict to, const real *restrict rows, size_t stride) {                                 \
        for (size_t p = 0; p < (side); p++)                                                                                \
            for (size_t j = 0; j < (side); j++) to[p * PANEL + j] = rows[j * stride + p];                                  \
    }
#endif

/* ---- what a machine's instructions are good for ---------------------------------------------------------------------- */
typedef void sum_of(size_t h, size_t w, const real *acc, const real *old, size_t old_row, real *y, size_t row);
typedef void tile_of(const real *restrict a, const real *restrict b, size_t depth, real *restrict out);
typedef void turn_of(real *restrict to, const real *restrict rows, size_t stride);
typedef void group_of(size_t m, size_t k, const real *restrict a, size_t row, size_t step, const real *restrict b, bool add,
                      real *restrict c);
typedef struct {
    const char *name;
    size_t rows; /* at most, in a tile */
    tile_of *run[TALLEST + 1]; /* by its rows */
    group_of *group;
    sum_of *sum;
    size_t side; /* of a square that is turned at once */
    turn_of *turn;
    bool faster; /* with weights as they are stored, than the BLAS: as measured (docs/SPEED.md) */
} tiles;

/* name_n: a tile of n rows, w columns of its panel at a time. */
#define TILE(name, target, n, w)                                                                                           \
    target static void name##_##n(const real *restrict a, const real *restrict b, size_t depth, real *restrict out) {     \
        for (size_t j = 0; j < PANEL; j += (w)) tile(n, w, a, b + j, depth, out + j);                                      \
    }
/* name_group: n rows at a time, the last ones one by one. */
#define GROUP(name, target, n, w)                                                                                          \
    target static void name##_group(size_t m, size_t k, const real *restrict a, size_t row, size_t step,                  \
                                    const real *restrict b, bool add, real *restrict c) {                                 \
        size_t i = 0;                                                                                                      \
        for (; i + (n) <= m; i += (n))                                                                                     \
            for (size_t j = 0; j < GEMM_GROUP; j += (w))                                                                   \
                group_tile(n, w, k, a + i * row, row, step, b + j, add, c + i * GEMM_GROUP + j);                           \
        for (; i < m; i++)                                                                                                 \
            for (size_t j = 0; j < GEMM_GROUP; j += (w))                                                                   \
                group_tile(1, w, k, a + i * row, row, step, b + j, add, c + i * GEMM_GROUP + j);                           \
    }
#define SUM(name, target)                                                                                                  \
    target static void name##_sum(size_t h, size_t w, const real *acc, const real *old, size_t old_row, real *y, size_t row) { \
        if (w == PANEL) sum_rows(h, PANEL, acc, old, old_row, y, row);                                                     \
        else sum_rows(h, w, acc, old, old_row, y, row);                                                                    \
    }
#define TILES_4(name, target, w) \
    TILE(name, target, 1, w) TILE(name, target, 2, w) TILE(name, target, 3, w) TILE(name, target, 4, w)
#define TILES_6(name, target, w) TILES_4(name, target, w) TILE(name, target, 5, w) TILE(name, target, 6, w)
#define TILES_14(name, target, w)                                                                                          \
    TILES_6(name, target, w) TILE(name, target, 7, w) TILE(name, target, 8, w) TILE(name, target, 9, w)                    \
    TILE(name, target, 10, w) TILE(name, target, 11, w) TILE(name, target, 12, w) TILE(name, target, 13, w)                \
    TILE(name, target, 14, w)
#define LIST_4(name) NULL, name##_1, name##_2, name##_3, name##_4
#define LIST_6(name) LIST_4(name), name##_5, name##_6
#define LIST_14(name) \
    LIST_6(name), name##_7, name##_8, name##_9, name##_10, name##_11, name##_12, name##_13, name##_14

/* What fits into the registers: 32 of 64 bytes, 16 of 32, 32 of 16 (aarch64), 16 of 16. */
#if defined(__aarch64__)
TILES_6(plain, , PANEL) GROUP(plain, , 5, PANEL) SUM(plain, ) TURN(plain, , 4, LOW_4, HIGH_4)
static const tiles PLAIN = {"aarch64", 5, {LIST_6(plain)}, plain_group, plain_sum, 4, plain_turn, false};
#else
TILES_4(plain, , QUARTER) GROUP(plain, , 4, QUARTER) SUM(plain, ) TURN(plain, , 4, LOW_4, HIGH_4)
static const tiles PLAIN = {"plain", 4, {LIST_4(plain)}, plain_group, plain_sum, 4, plain_turn, false};
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(NO_CLONES)
#define V4 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#define V3 __attribute__((target("avx2,fma")))
TILES_14(v4, V4, PANEL) GROUP(v4, V4, 12, PANEL) SUM(v4, V4) TURN(v4, V4, 16, LOW_16, HIGH_16)
TILES_6(v3, V3, PANEL / 2) GROUP(v3, V3, 6, PANEL / 2) SUM(v3, V3) TURN(v3, V3, 4, LOW_4, HIGH_4)

static const tiles *best(void) {
    static const tiles wide = {"x86-64-v4", 14, {LIST_14(v4)}, v4_group, v4_sum, 16, v4_turn, sizeof(real) == sizeof(float)};
    static const tiles half = {"x86-64-v3", 6, {LIST_6(v3)}, v3_group, v3_sum, 4, v3_turn, false};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw"))
        return &wide;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &half : &PLAIN;
}
#else
static const tiles *best(void) { return &PLAIN; }
#endif

const char *gemm_own_name(void) { return best()->name; }
bool gemm_own_is_faster(void) { return best()->faster; }

/* ---- packing ----------------------------------------------------------------------------------------------------------- */
static size_t whole_steps(size_t depth) { return (depth + STEP - 1) / STEP * STEP; }

/* h rows of op(A), [i,p] at a[i*row + p*step], as [depth/STEP][h][STEP], zeros behind the depth */
static void pack_tile(real *restrict to, const real *restrict a, size_t row, size_t step, size_t h, size_t depth) {
    for (size_t p = 0; p < depth; p += STEP)
        for (size_t r = 0; r < h; r++, to += STEP) {
            const real *from = a + r * row + p * step;
            if (step == 1 && p + STEP <= depth)
                for (size_t i = 0; i < STEP; i++) to[i] = from[i];
            else
                for (size_t i = 0; i < STEP; i++) to[i] = p + i < depth ? from[i * step] : 0;
        }
}

/* op(B)'s [p,j] at b[p*row + j*step] as [depth][PANEL], zeros beside the width and behind the depth */
static void pack_panel(real *restrict to, const real *restrict b, size_t row, size_t step, size_t depth, size_t width) {
    for (size_t p = 0; p < depth; p++, to += PANEL) {
        for (size_t j = 0; j < width; j++) to[j] = b[p * row + j * step];
        for (size_t j = width; j < PANEL; j++) to[j] = 0;
    }
    for (size_t i = 0; i < (whole_steps(depth) - depth) * PANEL; i++) to[i] = 0;
}

/* Rows are cut into tiles as even as can be: tile t begins at.. and has.. rows. */
typedef struct { size_t count, base, more; } cut;
static cut cut_rows(size_t m, size_t most) {
    size_t count = (m + most - 1) / most;
    return (cut){count, count ? m / count : 0, count ? m % count : 0};
}
static size_t tile_start(const cut *c, size_t t) { return t * c->base + (t < c->more ? t : c->more); }
static size_t tile_rows(const cut *c, size_t t) { return c->base + (t < c->more); }

/* ---- any product --------------------------------------------------------------------------------------------------------- */
static void add_tile(real *c, size_t ldc, const real *acc, size_t height, size_t width, real alpha, real beta) {
    for (size_t i = 0; i < height; i++)
        for (size_t j = 0; j < width; j++) {
            real old = beta == 0 ? 0 : beta * c[i * ldc + j]; /* beta == 0 never reads C */
            c[i * ldc + j] = old + alpha * acc[i * PANEL + j];
        }
}

void gemm_portable(transpose ta, transpose tb, size_t m, size_t n, size_t k, real alpha, const real *a, size_t lda,
                   const real *b, size_t ldb, real beta, real *c, size_t ldc) {
    size_t arow = ta ? 1 : lda, astep = ta ? lda : 1, brow = tb ? 1 : ldb, bstep = tb ? ldb : 1;
    const tiles *use = best();
    cut rows = cut_rows(m, use->rows);
    real panel[DEPTH * PANEL], block[TALLEST * DEPTH], acc[TALLEST * PANEL];
    for (size_t p = 0; p < k || p == 0; p += DEPTH) {
        size_t depth = k - p < DEPTH ? k - p : DEPTH;
        for (size_t j = 0; j < n; j += PANEL) {
            size_t width = n - j < PANEL ? n - j : PANEL;
            pack_panel(panel, depth ? b + p * brow + j * bstep : b, brow, bstep, depth, width);
            for (size_t t = 0; t < rows.count; t++) {
                size_t i = tile_start(&rows, t), h = tile_rows(&rows, t);
                pack_tile(block, depth ? a + i * arow + p * astep : a, arow, astep, h, depth);
                use->run[h](block, panel, whole_steps(depth), acc);
                add_tile(c + i * ldc + j, ldc, acc, h, width, alpha, p == 0 ? beta : 1);
            }
        }
    }
}

void gemm_group(size_t m, size_t k, const real *a, size_t row, size_t step, const real *b, bool add, real *c) {
    best()->group(m, k, a, row, step, b, add, c);
}

/* ---- a product with a weight as it is stored ---------------------------------------------------------------------------- */
typedef struct {
    size_t m, n, k, panels, tasks, width; /* panels are cut into tasks, for `width` cores */
    const tiles *use;
    cut rows;
    const real *x;
    const gemm_weight *w;
    real *packed, *y;
} own;

size_t gemm_own_room(size_t m, size_t k) { return m * whole_steps(k); }

/* Where a tile's part of DEPTH numbers a row lies: parts of all tiles side by side. */
static real *packed_at(const own *o, size_t row, size_t p, size_t depth) {
    return o->packed + p * o->m + row * whole_steps(depth);
}

static void own_rows(void *arg, size_t t) {
    const own *o = arg;
    size_t row = tile_start(&o->rows, t), h = tile_rows(&o->rows, t);
    for (size_t p = 0; p < o->k; p += DEPTH) {
        size_t depth = o->k - p < DEPTH ? o->k - p : DEPTH;
        pack_tile(packed_at(o, row, p, depth), o->x + row * o->k + p, o->k, 1, h, depth);
    }
}

/* W[first.., p..p+depth-1]^T as a panel, some rows at a time; zeros beside the width and behind the depth */
static void read_panel(const own *o, size_t first, size_t width, size_t p, size_t depth, real *panel) {
    real rows[WIDEST_TURN * (DEPTH + STEP)]; /* a row more than a power of two apart */
    for (size_t j = 0; j < PANEL; j += o->use->side) {
        for (size_t r = 0; r < o->use->side; r++) {
            real *row = rows + r * (DEPTH + STEP);
            size_t there = j + r < width ? depth : 0;
            if (there) o->w->read(o->w->source, first + j + r, p, depth, row);
            memset(row + there, 0, (whole_steps(depth) - there) * sizeof *row);
        }
        for (size_t i = 0; i < whole_steps(depth); i += o->use->side) o->use->turn(panel + i * PANEL + j, rows + i, DEPTH + STEP);
    }
}

/* A tile's sums are added to what is there (to the bias, the first time); the last time the function comes after. */
static void put_tile(const own *o, size_t row, size_t h, size_t column, size_t width, real *acc, bool first, bool last) {
    real *y = o->y + row * o->n + column;
    const real *old = !first ? y : o->w->bias ? o->w->bias + column : NULL;
    size_t old_row = first ? 0 : o->n;
    if (last && o->w->act) {
        if (old) o->use->sum(h, width, acc, old, old_row, acc, PANEL);
        k_act(o->w->kind, 0, acc, acc, h * PANEL);
        old = NULL;
    }
    o->use->sum(h, width, acc, old, old_row, y, o->n);
}

/* What is read after part p of these columns: the next part, or the first one of the columns that this core takes next. Some of
 * it is asked for with each tile, so that memory works while the tiles are computed. */
static void expect_next(const own *o, size_t column, size_t all, size_t p, size_t t) {
    size_t next = p + DEPTH < o->k ? p + DEPTH : 0, depth = o->k - next < DEPTH ? o->k - next : DEPTH;
    if (!next) column += all * o->width;
    for (size_t r = all * t / o->rows.count; r < all * (t + 1) / o->rows.count; r++)
        if (column + r < o->n) o->w->expect(o->w->source, column + r, next, depth);
}

/* Some panels side by side, so that a tile is read once for all of them. */
static void own_panels(void *arg, size_t i) {
    const own *o = arg;
    size_t column = o->panels * i / o->tasks * PANEL, end = o->panels * (i + 1) / o->tasks * PANEL;
    size_t all = (end < o->n ? end : o->n) - column;
    real panel[PANELS][DEPTH * PANEL], acc[TALLEST * PANEL];
    for (size_t p = 0; p < o->k; p += DEPTH) {
        size_t depth = o->k - p < DEPTH ? o->k - p : DEPTH;
        for (size_t j = 0; j < all; j += PANEL) read_panel(o, column + j, all - j < PANEL ? all - j : PANEL, p, depth, panel[j / PANEL]);
        for (size_t t = 0; t < o->rows.count; t++) {
            size_t row = tile_start(&o->rows, t), h = tile_rows(&o->rows, t);
            if (o->w->expect) expect_next(o, column, all, p, t);
            for (size_t j = 0; j < all; j += PANEL) {
                o->use->run[h](packed_at(o, row, p, depth), panel[j / PANEL], whole_steps(depth), acc);
                put_tile(o, row, h, column + j, all - j < PANEL ? all - j : PANEL, acc, p == 0, p + DEPTH >= o->k);
            }
        }
    }
}

void gemm_own(pool *p, size_t m, size_t n, size_t k, const real *x, const gemm_weight *w, real *room, real *y) {
    size_t panels = (n + PANEL - 1) / PANEL, width = p ? p->width : 1;
    size_t tasks = panels > 2 * width * PANELS ? (panels + PANELS - 1) / PANELS : 2 * width;
    tasks = (tasks + width - 1) / width * width; /* as many for every core */
    own o = {m, n, k, panels, tasks < panels ? tasks : panels, width, best(), {0, 0, 0}, x, w, room, y};
    o.rows = cut_rows(m, o.use->rows);
    spread(p, o.rows.count, own_rows, &o);
    spread(p, o.tasks, own_panels, &o);
}
