/* The packed model, where the linker script puts it. */
    .section .model, "a"
    .balign 64
    .globl flash_model
flash_model:
    .incbin MODEL
