/* captioner.h - sentences from an embedding: ClipCap's network (Mokady et al. 2021), and the small one of the built-in model.
 *
 *     captioner *c = captioner_open("run/caption.safetensors", 128, &e);      // or captioner_builtin
 *     captioner_said said;
 *     if (!captioner_say(c, embedding, &(captioner_way){.beams = 1}, &memory, cores, &said, &e)) ...  // "a red fish and a blue car"
 *
 * A map makes k rows of the embedding, the decoder continues them with words (MODEL.md 12). The file, as `train caption` writes
 * it: map.0, map.1, token, position, blocks.i, ln_f, heads, and words, parted by newlines: padding first, then the end.
 * ClipCap's own files: clipcap.h.
 */
#ifndef CAPTIONER_H
#define CAPTIONER_H
#include "parts/decoder.h"

enum { CAPTIONER_MOST_LAYERS = 16 };
typedef struct {
    ag_tensor *norm1[2], *queries, *keys_values, *project[2], *norm2[2], *fc1[2], *fc2[2];
} map_block;
typedef struct {
    decoder d;
    size_t embed, prefix;
    bool transformer; /* the map: ClipCap's second kind, else a two-layer perceptron */
    size_t tokens, layers;                   /* of the transformer map: rows made of the embedding, blocks */
    ag_tensor *map[2][2];                    /* perceptron: [kD/2,E], [kD,kD/2] with their biases */
    ag_tensor *linear[2], *constant;         /* transformer: [cD,E], the k learned rows */
    map_block block[CAPTIONER_MOST_LAYERS];
} captioner_net;

/* The list of a network whose shape fields are set. */
void captioner_weights(captioner_net *n, part_list *l);
void captioner_map_weights(captioner_net *n, part_list *l); /* the map's part of it */
/* z [B,1,E] as the map takes it -> prefix [B,k,D]. */
ag_tensor *captioner_prefix(ag_tape *t, const captioner_net *n, ag_tensor *z);
/* Logits [B,T,V] of words 0..T-1 given those before them: prefix [B,k,D], ids [B,T] (the last of a row is not read). */
ag_tensor *captioner_logits(ag_tape *t, const captioner_net *n, ag_tensor *prefix, const uint32_t *ids, size_t length);
/* (12.3) Cross entropy of logits [B,T,V] at ids, those of `ignored` left out, summed, times `weight`. */
ag_tensor *captioner_loss(ag_tape *t, ag_tensor *logits, const uint32_t *ids, uint32_t ignored, real weight);

/* ---- ready to use ---- */
typedef struct captioner captioner;
/* path: train caption's file, or ClipCap's (clipcap.h), or a folder with one of them. embed: the model's; another is an error
 * that names both. */
captioner *captioner_open(const char *path, size_t embed, err *e);
/* The one inside the binary; an error in a build without. */
captioner *captioner_builtin(size_t embed, err *e);
captioner *captioner_of(tensors *file, const char *name, size_t embed, err *e); /* file becomes its own; NULL in, NULL out */
void captioner_free(captioner *c);
const captioner_net *captioner_network(const captioner *c);
const char *captioner_name(const captioner *c);
/* Does what is said depend on the embedding's length? ClipCap's perceptron saw whole pictures' alone, as CLIP gives them. */
bool captioner_reads_length(const captioner *c);
typedef struct {
    size_t beams; /* 1: the likeliest word each time */
    size_t most;  /* words; 0: 67, as ClipCap */
} captioner_way;
enum { CAPTIONER_MOST_WORDS = 67, CAPTIONER_TEXT = 2048 };
typedef struct {
    uint32_t ids[CAPTIONER_MOST_WORDS];
    size_t count;
    char text[CAPTIONER_TEXT]; /* one line, cut where it does not fit */
} captioner_said;
/* embedding [E] */
bool captioner_say(const captioner *c, const real *embedding, const captioner_way *way, arena *memory, pool *cores, captioner_said *said,
                   err *e);
/* said as one line into text[room]: what breaks it is a space, none at the ends. */
void captioner_line(const char *said, char *text, size_t room);
#endif
