/* main.c - MaskInversion on a chip: no operating system, no allocation, one static buffer, a serial port.
 *
 *     make firmware            builds it for two boards and runs it under qemu (needs their compilers and qemu)
 *
 * For each region of the packed picture it prints the loss of every step, the map as a grid of characters and the words
 * nearest to the region's embedding; then the bytes of RAM and the instructions that it took. */
#include "board.h"
#include "flash.h"
#include "maskinv.h"
#include <math.h>
#include <string.h>

#ifndef ROOM
#define ROOM (2 << 20)
#endif
static unsigned char room[ROOM] __attribute__((aligned(64)));
static clip_block_weights blocks[FLASH_LAYERS];
enum { NEAREST = 3, STEPS_SHOWN = 64, PAINT = 0xA5 };

/* ---- printing, without printf: it would bring malloc ----------------------------------------------------------- */
static void say(const char *text) {
    while (*text) board_put(*text++);
}
static void say_count(uint64_t n) {
    char digits[24], *d = digits + sizeof digits;
    *--d = 0;
    do *--d = (char)('0' + n % 10);
    while (n /= 10);
    say(d);
}
static void say_real(real x, int decimals) { /* |x| < 2^31 */
    uint32_t scale = 1;
    for (int i = 0; i < decimals; i++) scale *= 10;
    if (x < 0) say("-"), x = -x;
    uint32_t whole = (uint32_t)x, part = (uint32_t)((x - (real)whole) * (real)scale + (real)0.5);
    if (part >= scale) whole++, part -= scale;
    say_count(whole);
    say(".");
    for (uint32_t s = scale / 10; s; s /= 10) board_put((char)('0' + part / s % 10));
}

/* ---- the picture ------------------------------------------------------------------------------------------------- */
/* Bytes [side,side,3] -> [3,side,side] as the network has them (MODEL.md 2). */
static void normalise(const flash_view *v, real *pixels) {
    size_t count = (size_t)v->head->side * v->head->side;
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            pixels[c * count + i] = ((real)v->pixels[3 * i + c] / 255 - v->head->mean[c]) / v->head->std[c];
}

/* ---- a region's results --------------------------------------------------------------------------------------------- */
static void show_map(const real *grid, size_t gh, size_t gw) {
    static const char shades[] = " .:-=+*#%@";
    real low = grid[0], high = grid[0];
    for (size_t j = 0; j < gh * gw; j++) low = grid[j] < low ? grid[j] : low, high = grid[j] > high ? grid[j] : high;
    for (size_t y = 0; y < gh; y++) {
        say("  |");
        for (size_t x = 0; x < gw; x++) {
            char c = shades[(size_t)((grid[y * gw + x] - low) / (high - low) * (real)9.999)];
            board_put(c), board_put(c);
        }
        say("|\n");
    }
}

static const char *name_at(const flash_view *v, size_t i) {
    const char *name = v->names;
    while (i--) name += strlen(name) + 1;
    return name;
}

static void show_nearest(const flash_view *v, const real *e) {
    size_t E = v->head->embed, best[NEAREST] = {0}, count = 0;
    real cosine[NEAREST] = {0}, length = (real)sqrt((double)k_dot(e, e, E));
    for (size_t i = 0; i < v->head->texts; i++) {
        real c = k_dot(e, v->queries + i * E, E) / length;
        size_t k = count < NEAREST ? count++ : NEAREST;
        for (; k > 0 && c > cosine[k - 1]; k--)
            if (k < NEAREST) cosine[k] = cosine[k - 1], best[k] = best[k - 1];
        if (k < NEAREST) cosine[k] = c, best[k] = i;
    }
    say("  nearest:");
    for (size_t k = 0; k < count; k++) say(k ? ", " : " "), say(name_at(v, best[k])), say(" "), say_real(cosine[k], 4);
    say("\n");
}

/* 1 - cos against what a PC found with the checkpoint's own numbers */
static void show_truth(const flash_view *v, const real *e, size_t region) {
    size_t E = v->head->embed;
    const real *t = v->truths + region * E;
    real apart = 0, le = (real)sqrt((double)k_dot(e, e, E)), lt = (real)sqrt((double)k_dot(t, t, E));
    for (size_t i = 0; i < E; i++) apart += (e[i] / le - t[i] / lt) * (e[i] / le - t[i] / lt);
    say("  1 - cos to the PC's embedding: "), say_real(apart / 2, 8), say("\n");
}

static bool invert(const flash_view *v, explained *x, arena *memory, size_t region, fault *f) {
    const flash_head *h = v->head;
    size_t side = h->side, cells = x->gh * x->gw, mark = arena_mark(memory);
    real *mask = arena_alloc(memory, side * side, sizeof *mask), *e = arena_alloc(memory, h->embed, sizeof *e);
    real *grid = arena_alloc(memory, cells, sizeof *grid), losses[STEPS_SHOWN];
    if (!mask || !e || !grid) return fault_memory(f, "a region", memory, side * side * sizeof *mask);
    for (size_t i = 0; i < side * side; i++) mask[i] = (real)v->masks[region * side * side + i] / 255;
    invert_options o = invert_defaults();
    o.iters = h->iters < STEPS_SHOWN ? h->iters : STEPS_SHOWN;
    o.lr = h->lr;
    o.alpha = h->alpha;
    invert_result r = {.embedding = e, .losses = losses};
    if (!maskinv_invert(x, mask, side, side, &o, &r, f) || !explain_grid(x, e, grid, f)) return false;
    say("region "), say_count(region), say("\n  loss");
    for (size_t i = 0; i < o.iters; i++) say(" "), say_real(losses[i], 4);
    say("\n");
    show_map(grid, x->gh, x->gw);
    show_nearest(v, e);
    show_truth(v, e, region);
    arena_reset(memory, mark);
    return true;
}

/* ---- all of it --------------------------------------------------------------------------------------------------------- */
static size_t stack_used(void) {
    const unsigned char *p = board_stack_low;
    while (p < board_stack_high && *p == PAINT) p++;
    return (size_t)(board_stack_high - p);
}

static const char *type_name(uint32_t type) {
    return type == CLIP_F32 ? "float32" : type == CLIP_F16 ? "float16" : type == CLIP_Q8_0 ? "int8" : "other";
}

static void show_costs(const flash_view *v, const arena *memory, uint64_t opened, uint64_t all) {
    size_t fixed = (size_t)(board_data_high - board_data_low) - sizeof room, stack = stack_used();
    say("RAM ");
    say_count(memory->peak + fixed + stack), say(" bytes: arena "), say_count(memory->peak);
    say(", stack "), say_count(stack), say(", static "), say_count(fixed);
    say("\nflash "), say_count(v->head->bytes + (size_t)(board_code_high - board_code_low)), say(" bytes: model "), say_count(v->head->bytes);
    say(", program "), say_count((size_t)(board_code_high - board_code_low));
    say("\ninstructions "), say_count(all), say(": forward pass "), say_count(opened), say(", a step of a region ");
    say_count((all - opened) / ((uint64_t)v->head->regions * v->head->iters)), say("\n");
}

static bool run(flash_view *v, fault *f) {
    const flash_head *h = v->head;
    arena memory;
    explained x;
    explain_options o = {.layers = h->layers, .gradient = GRADIENT_COMPACT, .steps = h->iters};
    arena_init(&memory, room, sizeof room);
    /* The picture stands at the end of the room: of no more use once it is opened, it leaves its place to the regions. */
    size_t count = 3 * (size_t)h->side * h->side, bytes = (count * sizeof(real) + 63) & ~(size_t)63;
    if (bytes > sizeof room / 2) return fault_memory(f, "the picture", &memory, bytes);
    real *pixels = (real *)(void *)(room + sizeof room - bytes);
    memory.size -= bytes;
    normalise(v, pixels);
    uint64_t start = board_ticks();
    if (!explain_open(&x, &v->model, pixels, h->side, h->side, &o, &memory, NULL, f)) return false;
    memory.size += bytes;
    size_t opening = memory.peak + bytes;
    uint64_t opened = board_ticks() - start;
    for (size_t i = 0; i < h->regions; i++)
        if (!invert(v, &x, &memory, i, f)) return false;
    if (memory.peak < opening) memory.peak = opening;
    show_costs(v, &memory, opened, board_ticks() - start);
    return true;
}

int main(void) {
    flash_view v;
    fault f = {0};
    board_begin();
    say("maskinv " MASKINV_VERSION " on "), say(board_name), say("\n");
    if (!flash_open(&v, flash_model, blocks)) {
        say("the flash holds no model\n");
        return 1;
    }
    say_count(v.head->side), say(" x "), say_count(v.head->side), say(" pixels, "), say_count(v.head->layers), say(" layers, ");
    say_count(v.head->iters), say(" steps, weights "), say(type_name(v.head->type)), say("\n");
    if (run(&v, &f)) return 0;
    say("fault "), say_count((uint64_t)f.code), say(" in "), say(f.where ? f.where : "?"), say(": ");
    say_count(f.n[0]), say(" asked, "), say_count(f.n[1]), say(" left\n");
    return 1;
}
