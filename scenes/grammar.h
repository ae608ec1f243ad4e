/* grammar.h - what is said of a scene: places, sizes, captions, referring phrases. All of it is true of the picture.
 *
 *     grammar_measure(&object, side);                 // its size and place, from its box
 *     grammar_caption(&scene, &r, text, room, NULL);  // "a blue house and a striped umbrella"
 *     grammar_phrases(&scene, k, phrases);            // "the fish", "the red fish", "the fish on the left", ...
 *
 * caption  := [prefix] list | relation | places          (prefix: "a photo of", "a picture of", ...)
 * list     := noun {", " noun} " and " noun
 * relation := noun ("left of" | "right of" | "above" | "below") noun [" and " noun]
 * places   := noun where {", " noun where}                (where: "on the left", "at the top right", "in the middle")
 * noun     := ("a" | "an" | "some") [size] [texture] [colour] name
 */
#ifndef GRAMMAR_H
#define GRAMMAR_H
#include "sys/random.h"
#include "scenes/scenes.h"

enum { PHRASE_ROOM = 160, MOST_PHRASES = 12 };
/* What can be said of an object beside its name. */
enum { SAY_COLOUR = 1, SAY_TEXTURE = 2, SAY_SIZE = 4, SAY_PLACE = 8 };

/* small: the box's longer side under 0.30 of the picture's; large: over 0.55. Places: centre before 0.38, beyond 0.62. */
void grammar_measure(scene_object *o, size_t side);
/* "a", "an"; "some" before a plural. */
const char *grammar_article(const char *words, const char *name);
/* "on the left", "at the top", "in the middle", ... for a place. */
void grammar_where(const char *place, char out[40]);
/* One caption of the scene into out[room], cut short where it does not fit; what it claims into claim, which may be NULL. */
void grammar_caption(const scene *sc, rng *r, char *out, size_t room, scene_claim *claim);
/* The same of object k alone: "a photo of a red fish". claim is not NULL. */
void grammar_one(const scene *sc, size_t k, rng *r, char *out, size_t room, scene_claim *claim);
/* Is what is claimed of a's objects true of b's picture too? Yes only where it is; no also where that is not judged: of
 * places and relations, and for some captions with two things of one name. */
bool grammar_true(const scene_claim *claim, const scene_object *a, const scene_object *b, size_t count);
/* "a striped red fish and a blue car": count objects in this order, saying of each what is so of it (SAY_...; not places). */
void grammar_list(const scene_object *o, const size_t *order, size_t count, int what, char *out, size_t room);
/* The first noun of such a sentence: name, and colour, texture and size where they are said ("" where not). False: none. */
bool grammar_first(const char *text, scene_object *out);
/* Phrases that are true of object k and of no other, plainest first; at least one. Returns how many. */
size_t grammar_phrases(const scene *sc, size_t k, char out[MOST_PHRASES][PHRASE_ROOM]);
#endif
