/* x_onnx.h - a model's image side as an ONNX file, for other programs to run beside us.
 *
 *     if (!onnx_write("build/bench/ViT-B-16-224-1.onnx", "ViT-B-16.bin", m, 224, 1, &e)) ...
 *
 * Opset 17, float32: pixels [batch,3,side,side] -> embedding [batch,E], with the shapes written in. The weights lie in a
 * file beside it, which all sides and batches of a model share: one that is there is taken for what it should be. Plain
 * ViTs alone: a class token, LN before the blocks, QuickGELU, a projection.
 */
#ifndef X_ONNX_H
#define X_ONNX_H
#include "clip.h"
#include "sys/err.h"

bool onnx_write(const char *path, const char *weights, const clip_model *m, size_t side, size_t batch, err *e);
#endif
