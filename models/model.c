/* model.c - the default model's files as they are, by the assembler's .incbin (see model.h). */
#include "models/model.h"

#if defined(NO_BUILTIN_MODEL) || defined(NO_BUILTIN_CAPTIONER)

const unsigned char *builtin_captioner(size_t *length) {
    *length = 0;
    return NULL;
}

#endif
#if defined(NO_BUILTIN_MODEL) || defined(NO_BUILTIN_GENERATOR)

const unsigned char *builtin_generator(size_t *length) {
    *length = 0;
    return NULL;
}

#endif
#ifdef NO_BUILTIN_MODEL

bool builtin_model_get(builtin_model *b) {
    *b = (builtin_model){0};
    return false;
}

#else

#ifndef MODEL_DIR
#define MODEL_DIR "weights/default"
#endif
/* How each object format wants a constant announced, and what goes behind it. */
#if defined(__APPLE__) || (defined(_WIN32) && defined(__i386__))
#define SYMBOL(name) "_" #name
#else
#define SYMBOL(name) #name
#endif
#if defined(__APPLE__)
#define BLOB_BEFORE(name) ".section __DATA,__const\n"
#define BLOB_AFTER(name) ".text\n"
#elif defined(_WIN32)
#define BLOB_BEFORE(name) ".section .rdata,\"dr\"\n"
#define BLOB_AFTER(name) ".text\n"
#elif defined(__wasm__) /* a segment a symbol, whose size is told */
#define BLOB_BEFORE(name) ".section .rodata." #name ",\"\",@\n.type " #name ",@object\n.type " #name "_end,@object\n"
#define BLOB_AFTER(name) ".size " #name ", " #name "_end-" #name "\n.size " #name "_end, 1\n.section .text,\"\",@\n"
#else
#define BLOB_BEFORE(name) ".pushsection .rodata\n"
#define BLOB_AFTER(name) ".popsection\n"
#endif
/* 64-byte alignment: the writer pads headers so that the tensors then begin at a multiple of 64 too. */
#define BLOB(name, file)                                                                                               \
    __asm__(BLOB_BEFORE(name) ".globl " SYMBOL(name) "\n.balign 64\n" SYMBOL(                                          \
        name) ":\n.incbin \"" MODEL_DIR "/" file                                                                       \
              "\"\n.globl " SYMBOL(name##_end) "\n" SYMBOL(name##_end) ":\n.byte 0\n" BLOB_AFTER(name));              \
    extern const unsigned char name[], name##_end[]

BLOB(maskinv_model_weights, "open_clip_model.safetensors");
BLOB(maskinv_model_config, "open_clip_config.json");
BLOB(maskinv_model_merges, "merges.txt");

bool builtin_model_get(builtin_model *b) {
    *b = (builtin_model){
        .weights = maskinv_model_weights,
        .config = maskinv_model_config,
        .merges = maskinv_model_merges,
        .weights_length = (size_t)(maskinv_model_weights_end - maskinv_model_weights),
        .config_length = (size_t)(maskinv_model_config_end - maskinv_model_config),
        .merges_length = (size_t)(maskinv_model_merges_end - maskinv_model_merges),
    };
    return true;
}

#ifndef NO_BUILTIN_CAPTIONER
BLOB(maskinv_captioner, "captioner.safetensors");

const unsigned char *builtin_captioner(size_t *length) {
    *length = (size_t)(maskinv_captioner_end - maskinv_captioner);
    return maskinv_captioner;
}
#endif

#ifndef NO_BUILTIN_GENERATOR
BLOB(maskinv_generator, "generator.safetensors");

const unsigned char *builtin_generator(size_t *length) {
    *length = (size_t)(maskinv_generator_end - maskinv_generator);
    return maskinv_generator;
}
#endif

#endif
