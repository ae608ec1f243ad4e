/* mps2.c - Arm's MPS2 board with AN500: a Cortex-M7, single precision. Start, serial port, SysTick. */
#include "board.h"
#include <stddef.h>

const char board_name[] = "mps2-an500 (Cortex-M7, single precision)";

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))
enum { UART_DATA = 0x40004000, UART_STATE = 0x40004004, UART_CTRL = 0x40004008, UART_BAUD = 0x40004010 };
#define SYST_CSR REG(0xE000E010)
#define SYST_RVR REG(0xE000E014)
#define SYST_CVR REG(0xE000E018)
#define CPACR REG(0xE000ED88)
enum { WRAP = 1 << 24, PER_TICK = 40 }; /* of 24 bits; 25 MHz under qemu's one instruction a nanosecond */

extern unsigned char board_data_from[], board_data_to[], board_data_end[], board_bss_low[], board_bss_high[];
int main(void);
static volatile uint32_t wraps;

static void systick(void) { wraps++; }
static void stuck(void) {
    static const char text[] = "hard fault\n";
    for (const char *p = text; *p; p++) board_put(*p);
    board_end(2);
}

void board_start(void) __attribute__((noreturn, used));
void board_start(void) {
    CPACR |= 0xF << 20; /* the FPU */
    __asm__ volatile("dsb; isb");
    for (unsigned char *to = board_data_to, *from = board_data_from; to < board_data_end;) *to++ = *from++;
    for (unsigned char *p = board_bss_low; p < board_bss_high;) *p++ = 0;
    unsigned char *here = __builtin_frame_address(0);
    for (volatile unsigned char *p = board_stack_low; p < here - 64; p++) *p = 0xA5;
    board_end(main());
    for (;;) {}
}

typedef void vector(void);
static vector *const vectors[16] __attribute__((section(".vectors"), used)) = {
    (vector *)(void *)board_stack_high, board_start, stuck, stuck, stuck, stuck, stuck, NULL,
    NULL, NULL, NULL, stuck, stuck, NULL, stuck, systick};

void board_begin(void) {
    REG(UART_BAUD) = 16;
    REG(UART_CTRL) = 1;
    SYST_RVR = WRAP - 1;
    SYST_CVR = 0;
    SYST_CSR = 7; /* the processor's clock, with its interrupt */
}

void board_put(char c) {
    while (REG(UART_STATE) & 1) {}
    REG(UART_DATA) = (uint32_t)(unsigned char)c;
}

uint64_t board_ticks(void) {
    uint32_t before, now;
    do before = wraps, now = SYST_CVR;
    while (before != wraps);
    return ((uint64_t)before * WRAP + (WRAP - 1 - now)) * PER_TICK;
}

void board_end(int status) { /* semihosting's SYS_EXIT_EXTENDED; without a debugger: for ever here */
    uint32_t block[2] = {0x20026, (uint32_t)status};
    register uint32_t r0 __asm__("r0") = 0x20;
    register uint32_t *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xAB" : : "r"(r0), "r"(r1) : "memory");
    for (;;) {}
}
