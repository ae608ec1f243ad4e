/* board.h - all that the program asks of a board: somewhere to print, something to count. One file a board. */
#ifndef BOARD_H
#define BOARD_H
#include <stdint.h>

extern const char board_name[];
void board_begin(void);      /* clocks, serial port */
void board_put(char c);      /* on the serial port; waits until it is taken */
uint64_t board_ticks(void);  /* instructions, or what is nearest to them */
void board_end(int status);  /* back to the emulator, or for ever still */

/* The linker script's: the model, and the stack's ends. */
extern const unsigned char flash_model[];
extern unsigned char board_stack_low[], board_stack_high[];
extern unsigned char board_data_low[], board_data_high[]; /* .data and .bss */
extern unsigned char board_code_low[], board_code_high[];
#endif
