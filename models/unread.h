/* unread.h - weights in the file that the network has no place for.
 *
 *     bool *used = mem_alloc(tensors_count(t), 1);      // set for each tensor that a weight was bound to
 *     if (!unread_check(t, used, &e)) ...
 *
 * One inside a tower is a switch that was not seen, a block too many, a LoRA: the numbers would be wrong, so it is an error by
 * name. What lies outside the towers becomes a note of the tensors, which `maskinv info` lists.
 */
#ifndef UNREAD_H
#define UNREAD_H
#include "models/tensors.h"

bool unread_check(tensors *t, const bool *used, err *e);
#endif
