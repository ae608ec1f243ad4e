/* kinds.h - what a kind of tokenizer is, for the table in tokenizer.c: a row each, a file each.
 *
 *     clip_bpe.c     CLIP's byte pairs               wordpiece.c   BERT's pieces (CLIPA)
 *     unigram.c      sentencepiece's best path       pairs.c       merges over characters (Gemma)
 *     byte_pairs.c   merges over bytes (GPT-2)
 *     sentencepiece.c, tokenizer_json.c and byte_pairs_file.c read files into these
 */
#ifndef KINDS_H
#define KINDS_H
#include "files/json.h"
#include "text/tables.h"
#include "text/tokenizer.h"

typedef struct { uint32_t *id; size_t count, room; } id_list;
bool ids_add(id_list *l, uint32_t id, err *e);

/* Every function but own's free may be called by many threads at once. */
typedef struct {
    const char *name;
    /* ids of the whole text, without start, end and padding. */
    bool (*raw)(const void *own, const char *text, id_list *out, err *e);
    size_t (*vocab)(const void *own);
    void (*free)(void *own);
    /* An id's bytes, in *n of them; NULL: none is written (a special token). "" is fine. */
    const char *(*piece)(const void *own, uint32_t id, size_t *n, char room[16]);
    bool exact; /* decoding gives back every blank; else those at the end are none of the text's */
} tokenizer_kind;

/* What is done to a text before a kind sees it, in this order. */
enum {
    CLEAN_UNESCAPE = 1,    /* html.unescape twice */
    CLEAN_LOWER = 2,       /* str.lower */
    CLEAN_UNDERSCORE = 4,  /* '_' becomes a space */
    CLEAN_BLOCK = 8,       /* sentencepiece's U+2581 becomes a space */
    CLEAN_PUNCTUATION = 16, /* ASCII punctuation is taken out */
    CLEAN_SPACES = 32      /* white space is one space, none at the ends */
};
/* The cleaned text, UTF-8, zero-terminated; mem_free it. */
char *text_clean(const char *text, unsigned how, err *e);

struct tokenizer {
    const tokenizer_kind *kind;
    void *own;
    unsigned clean;
    uint32_t start, end; /* NONE: none */
    bool strip_end;      /* CLIPA: the end's place is kept free, nothing is written there */
};
/* Takes own, also when it fails. */
tokenizer *tokenizer_make(const tokenizer_kind *kind, void *own, unsigned clean, uint32_t start, uint32_t end,
                          const char *name, err *e);

/* ---- kinds ------------------------------------------------------------------------------------------ */
typedef struct clip_bpe clip_bpe;
extern const tokenizer_kind clip_bpe_kind, unigram_kind, pairs_kind, byte_pairs_kind, wordpiece_kind;
/* How CLIP's and GPT-2's files write a byte: the printable ones as themselves, numbers 0 to 187 in their order; the other 68
 * after them, as U+0100 and on. */
uint32_t byte_symbol(uint32_t b);    /* the number */
uint32_t byte_character(uint32_t b); /* the character */
int character_byte(uint32_t c);      /* the byte that it stands for; -1: none */
clip_bpe *clip_bpe_parse(const char *bytes, size_t length, const char *name, size_t most_merges, err *e);
size_t clip_bpe_vocab(const clip_bpe *t);
/* vocab: {"piece": id} as published with merges. Its ids must be those that the merges give; ids beyond are added tokens. */
bool clip_bpe_check(clip_bpe *t, const cJSON *vocab, err *e);
bool clip_bpe_checked(const clip_bpe *t); /* a vocabulary said the end's id */
void clip_bpe_free(clip_bpe *t);

/* sentencepiece's compiled normaliser: a double-array trie over bytes, and NUL-ended replacements. */
typedef struct { uint32_t *trie; size_t cells; char *text; size_t length; } charsmap; /* text's last byte is 0 */
bool charsmap_make(charsmap *m, const unsigned char *bytes, size_t n, const char *name, err *e);
void charsmap_free(charsmap *m);
/* The longest entry that text[0..n) begins with: its bytes, its replacement; 0: none. */
size_t charsmap_step(const charsmap *m, const char *text, size_t n, const char **replacement);

typedef struct {
    spellings pieces;   /* their numbers are the ids */
    double *score;      /* [pieces] */
    unsigned char *use; /* [pieces] 1: may stand in a text */
    size_t score_room, use_room;
    uint32_t unknown;
    double least;       /* of the scores */
    charsmap map;
    bool prefix, collapse; /* a blank in front; blanks collapsed and taken off the ends */
    bool trim_left;        /* ...also off the beginning (sentencepiece); tokenizer.json takes them off the end alone */
} unigram;
bool unigram_add(unigram *u, const char *piece, size_t n, double score, bool use, err *e);
void unigram_free(unigram *u);

typedef struct {
    spellings pieces;   /* their numbers are the ids */
    map ranks;          /* pair of ids -> rank; by_score: unused */
    uint32_t *made;     /* [merges] the piece each makes */
    size_t merges, made_room;
    double *score;      /* sentencepiece's BPE: the pair whose join has the greatest score goes first; NULL: by rank */
    size_t score_room;
    uint32_t unknown, bytes[256]; /* <0x00>... where the vocabulary has them, else NONE */
    bool block;         /* a space is U+2581 */
    charsmap map;
} pairs;
bool pairs_merge(pairs *p, const char *a, size_t na, const char *b, size_t nb, err *e);
void pairs_ready(pairs *p); /* finds the bytes' pieces */
void pairs_free(pairs *p);
/* ids of a word's bytes, merged as far as they go; each byte has a piece of its own. */
bool pairs_word(const pairs *p, const unsigned char *bytes, size_t n, id_list *out, err *e);

/* GPT-2's: the same over bytes, word by word; pieces are spelled in bytes. */
typedef struct {
    pairs p;
    bool space_first;   /* a text that begins with no space gets one */
    uint32_t end;       /* <|endoftext|>; NONE: it has none */
} byte_pairs;
void byte_pairs_free(byte_pairs *b);

typedef struct { spellings pieces; uint32_t unknown; } wordpiece;
/* vocab.txt: a piece a line. */
wordpiece *wordpiece_parse(const char *bytes, size_t n, const char *name, err *e);
void wordpiece_free(wordpiece *w);

/* ---- files ------------------------------------------------------------------------------------------ */
/* A sentencepiece .model (protobuf): unigram or BPE. */
tokenizer *sentencepiece_parse(const char *bytes, size_t n, const char *name, unsigned clean, err *e);
/* tokenizer.json of Unigram, BPE (characters or bytes) or WordPiece; CLIP's own goes to clip_bpe_parse. */
tokenizer *tokenizer_json_parse(const char *bytes, size_t n, const char *name, size_t most_merges, unsigned clean,
                                err *e);
/* GPT-2's merges.txt, the ids from vocab.json where there is one (NULL: in the order of the merges). */
tokenizer *byte_pairs_parse(const char *merges, size_t n, const char *name, const char *vocab, size_t vocab_n, const char *vocab_name,
                            err *e);
/* Is this merges.txt GPT-2's? A space is a letter of its words, of CLIP's never. */
bool byte_pairs_is(const char *merges, size_t n);
struct cJSON;
/* The same of a tokenizer.json; is one by its root, the lists in it or not. */
tokenizer *byte_pairs_json(const char *bytes, size_t n, const char *name, err *e);
bool byte_pairs_is_json(const struct cJSON *root);
#endif
