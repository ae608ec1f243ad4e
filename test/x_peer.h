/* x_peer.h - another program that runs the same model, to stand beside in measurements: onnxruntime, under node.
 *
 *     peer p;
 *     if (!peer_open(&p, m, pixels, 1, 224, cores, "build/bench/ViT-B-16", &e)) puts(e.text);     // why there is none
 *     double seconds = peer_run(&p, &e);                  // once; p.z [batch,E] is what it makes of the pixels
 *     peer_close(&p);
 *
 * It needs node on the path, and npm's onnxruntime-node in the folder that PEER names (PEER=/tmp/ort/node_modules), or in
 * NODE_PATH. Nothing of it is fetched or kept here.
 */
#ifndef X_PEER_H
#define X_PEER_H
#include <stdio.h>
#include "clip.h"
#include "sys/err.h"

typedef struct {
    long process;
    FILE *asks, *says;
    char name[64]; /* "onnxruntime 1.2.3" */
    float *z;
} peer;
/* pixels [batch,3,side,side]. Files: BASE-*.onnx, BASE.bin and what goes in and out. */
bool peer_open(peer *p, const clip_model *m, const float *pixels, size_t batch, size_t side, size_t cores, const char *base,
               err *e);
/* Seconds of one run, by its own clock; negative: it ended. */
double peer_run(peer *p, err *e);
void peer_close(peer *p);
#endif
