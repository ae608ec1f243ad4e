#!/usr/bin/python3
"""test/data/train_step.safetensors: one training step of a tiny CLIP, loss and gradients, by PyTorch in float64.

Weights are listed in the order in which clip_each_weight calls them, flat. Both poolings. Captions 1 and 3 are the
same, so that they are right for each other's picture; caption 2 is true of pictures 0 and 4 too, not the reverse.
"more": two further captions of each picture, with tokens_mean.
"""
import json, os, struct
import numpy as np
import torch
import torch.nn.functional as F

IMAGE, PATCH, D, LAYERS, HEADS, E = 8, 4, 12, 2, 3, 10
W, TEXT_LAYERS, TEXT_HEADS, VOCAB, CONTEXT = 8, 1, 2, 20, 7
PAIRS, LENGTH, GRID = 5, 6, IMAGE // PATCH
rng = np.random.Generator(np.random.PCG64(11))


def block_shapes(d):
    square = [(d, d), (1, d)]
    return [(1, d), (1, d)] + square * 4 + [(1, d), (1, d), (4 * d, d), (1, 4 * d), (d, 4 * d), (1, d)]


SHAPES = ([(D, 3 * PATCH * PATCH), (1, D), (GRID * GRID + 1, D), (1, D), (1, D)] + block_shapes(D) * LAYERS +
          [(1, D), (1, D), (E, D), (VOCAB, W), (CONTEXT, W)] + block_shapes(W) * TEXT_LAYERS +
          [(1, W), (1, W), (E, W), (1, 1)])


def block(x, w, heads, causal):
    g1, b1, q, qb, k, kb, v, vb, o, ob, g2, b2, f1, f1b, f2, f2b = w
    n, width = x.shape[1], x.shape[2]
    y = F.layer_norm(x, (width,), g1[0], b1[0], 1e-5)
    split = lambda m, b: (y @ m.T + b[0]).reshape(x.shape[0], n, heads, -1).transpose(1, 2)
    s = split(q, qb) @ split(k, kb).transpose(2, 3) * (width // heads) ** -0.5
    if causal:
        s = s + torch.full((n, n), -torch.inf, dtype=s.dtype).triu(1)
    y = (s.softmax(-1) @ split(v, vb)).transpose(1, 2).reshape(x.shape)
    x = x + y @ o.T + ob[0]
    h = F.layer_norm(x, (width,), g2[0], b2[0], 1e-5) @ f1.T + f1b[0]
    return x + (h * torch.sigmoid(1.702 * h)) @ f2.T + f2b[0]


def step(weights, patches, ids, truth, mean_pool):
    w = iter(weights)
    take = lambda count: [next(w) for _ in range(count)]
    patch, class_token, position, g, b = take(5)
    x = torch.cat([class_token.expand(PAIRS, 1, D), patches @ patch.T], 1) + position
    x = F.layer_norm(x, (D,), g[0], b[0], 1e-5)
    for _ in range(LAYERS):
        x = block(x, take(16), HEADS, False)
    g, b, proj, token, text_position = take(5)
    x = x.mean(1) if mean_pool else x[:, 0]
    image = F.normalize(F.layer_norm(x, (D,), g[0], b[0], 1e-5) @ proj.T, dim=-1)
    t = token[ids] + text_position[:LENGTH]
    for _ in range(TEXT_LAYERS):
        t = block(t, take(16), TEXT_HEADS, True)
    g, b, proj, scale = take(4)
    t = F.layer_norm(t, (W,), g[0], b[0], 1e-5)[torch.arange(len(ids)), ids.argmax(1)]
    text = F.normalize(t @ proj.T, dim=-1)
    logits = scale[0, 0].exp() * image @ text.T
    rows, columns = truth / truth.sum(1, keepdim=True), truth.T / truth.T.sum(1, keepdim=True)
    of_pictures = (rows * logits.log_softmax(1)).sum() / PAIRS
    of_captions = (columns * logits.T.log_softmax(1)).sum() / len(ids)
    return -(of_pictures + of_captions) / 2


weights = [rng.standard_normal(s) * (0.3 if s[0] > 1 else 0.1) for s in SHAPES]
weights[-1][:] = np.log(1 / 0.07)
for i in [3, 5, 15, 21, 31, 37, 42, 52, 58]:  # gains
    weights[i] += 1
patches = rng.standard_normal((PAIRS, GRID * GRID, 3 * PATCH * PATCH))


def captions(count):
    ids = np.zeros((count, LENGTH), np.int64)
    for i in range(count):
        words = 1 + i % 4
        ids[i, :words + 2] = [VOCAB - 2] + list(rng.integers(0, VOCAB - 2, words)) + [VOCAB - 1]
    return ids


ids = captions(PAIRS)
ids[3] = ids[1]
truth = np.eye(PAIRS)
truth[1, 3] = truth[3, 1] = truth[0, 2] = truth[4, 2] = 1
more = np.concatenate([ids, captions(2 * PAIRS)])
more_truth = np.concatenate([truth, np.eye(PAIRS), np.eye(PAIRS)], 1)
more_truth[0, 7] = more_truth[3, 7] = more_truth[1, 14] = 1

as_float = lambda a: np.ascontiguousarray(a, np.float32)
out = {'weights': as_float(np.concatenate([w.ravel() for w in weights])), 'patches': as_float(patches),
       'ids': as_float(ids), 'truth': as_float(truth), 'more.ids': as_float(more), 'more.truth': as_float(more_truth)}
exact = lambda a: torch.tensor(as_float(a), dtype=torch.float64)  # what the C program reads, in double
for name, mean_pool, words, right in (('class', False, ids, truth), ('tokens_mean', True, ids, truth),
                                      ('more', True, more, more_truth)):
    ws = [exact(w).requires_grad_() for w in weights]
    loss = step(ws, exact(patches), torch.tensor(words), exact(right), mean_pool)
    loss.backward()
    out[name + '.loss'] = as_float([loss.item()])
    out[name + '.gradient'] = as_float(np.concatenate([w.grad.numpy().ravel() for w in ws]))

header, at = {}, 0
for name, a in out.items():
    header[name] = {'dtype': 'F32', 'shape': list(a.shape), 'data_offsets': [at, at + a.nbytes]}
    at += a.nbytes
text = json.dumps(header, separators=(',', ':')).encode()
text += b' ' * (-len(text) % 8)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data', 'train_step.safetensors')
with open(path, 'wb') as f:
    f.write(struct.pack('<Q', len(text)) + text + b''.join(a.tobytes() for a in out.values()))
print(path, os.path.getsize(path))
