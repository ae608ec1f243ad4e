/* pictures.h - many pictures to embeddings: read ahead on a thread of their own, several through the tower at once.
 *
 *     picture_job job = {.side = 224, .keep_going = true};
 *     if (!embed_pictures(c, &job, &out)) ...       // every name of out.list that is open yet
 */
#ifndef CLI_PICTURES_H
#define CLI_PICTURES_H
#include "cli/cli.h"
#include "cli/embedded.h"

typedef struct {
    size_t side;
    bool squash;
    bool keep_going; /* a picture that cannot be read is told and left out */
} picture_job;
/* A picture's bytes do not depend on the others. */
bool embed_pictures(cli *c, const picture_job *job, embedded *out);
#endif
