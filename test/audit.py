#!/usr/bin/env python3
"""audit.py - every number that `maskinv invert --trace FILE` wrote, computed once more and compared.

    maskinv invert -m FOLDER -i photo.png -k cat.png -k dog.png --layers 2 --trace trace.safetensors
    python3 test/audit.py trace.safetensors --model FOLDER --image photo.png --mask cat.png dog.png

In float64, from the checkpoint and the pictures, by the definitions: G, u and a are derivatives that PyTorch takes, not
the closed forms that the program uses. Each step begins at the embedding that the trace has for it, and AdamW goes on
from the trace's own gradients (which are compared themselves), because its first steps are nearly signs and two correct
programs may part there. One line for each tensor; ends in 1 when one is off, missing, or nobody's.

Needs PyTorch and numpy. Pictures: 8-bit PNG; of others (JPEG decoders differ) the trace's own pixels are taken, unchecked.
Equations: MODEL.md.
"""
import argparse
import json
import math
import os
import struct
import sys
import zlib

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)  # small matrices: more threads would only wait for each other

# Largest difference allowed, relative to the tensor's largest value: some ten times what float32 does to a ViT-B/16. In
# gradients a relu's kink may fall to either side.
ALLOWED = {'pixels': 1e-6, 'mask': 1e-7, 'tokens': 2e-5, 'attention': 5e-5, 'h': 2e-5, "act'(h)": 5e-5, 'z': 2e-5, 'u': 5e-5,
           'a': 5e-5, 'map': 2e-4, 'loss': 2e-5, 'gradient': 2e-3, 'embedding': 2e-5}

# Where numbers cannot be compared, and why.
UNREAD = 'not an 8-bit PNG: unchecked'
NOISE = 'a silent layer: rounding alone'


# ---- files ---------------------------------------------------------------------------------------------------------
def read_safetensors(path):
    """{name: float64 tensor} in the file's order, and the metadata. MODEL.md 7"""
    with open(path, 'rb') as f:
        blob = f.read()
    length = struct.unpack('<Q', blob[:8])[0]
    head, data, tensors = json.loads(blob[8:8 + length]), memoryview(blob)[8 + length:], {}
    meta = head.pop('__metadata__', {})
    for name, t in head.items():
        raw = data[slice(*t['data_offsets'])]
        if t['dtype'] == 'BF16':  # a float32 whose lower half is missing
            values = (np.frombuffer(raw, '<u2').astype('<u4') << 16).view('<f4')
        elif t['dtype'] in ('F16', 'F32', 'F64'):
            values = np.frombuffer(raw, {'F16': '<f2', 'F32': '<f4', 'F64': '<f8'}[t['dtype']])
        else:
            continue
        tensors[name] = torch.from_numpy(values.astype(np.float64).reshape(t['shape']))
    return tensors, meta


def unfilter(kind, row, above, step):
    """One row of a PNG, from the differences it is stored as."""
    if kind == 2:
        return row + above
    out = np.zeros_like(row)
    for i in range(len(row)):
        left, up, corner = (int(v[j]) if j >= 0 else 0 for v, j in ((out, i - step), (above, i), (above, i - step)))
        guess = left + up - corner
        paeth = min((left, up, corner), key=lambda v: abs(guess - v))
        out[i] = (int(row[i]) + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
    return out


def read_png(path):
    """[height, width, 1 or 3] without alpha; None where it is no 8-bit PNG."""
    with open(path, 'rb') as f:
        blob = f.read()
    if blob[:8] != b'\x89PNG\r\n\x1a\n':
        return None
    at, packed, palette = 8, b'', None
    while at < len(blob):
        length, kind = struct.unpack('>I4s', blob[at:at + 8])
        body, at = blob[at + 8:at + 8 + length], at + 12 + length
        if kind == b'IHDR':
            width, height, depth, colour, _, _, interlaced = struct.unpack('>IIBBBBB', body)
        elif kind == b'PLTE':
            palette = np.frombuffer(body, np.uint8).reshape(-1, 3)
        elif kind == b'IDAT':
            packed += body
    if depth != 8 or interlaced:
        return None
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    stored = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    rows = np.zeros((height + 1, width * channels), np.uint8)
    for y in range(height):
        rows[y + 1] = unfilter(stored[y, 0], stored[y, 1:], rows[y], channels) if stored[y, 0] else stored[y, 1:]
    pixels = rows[1:].reshape(height, width, channels)
    return palette[pixels[..., 0]] if colour == 3 else pixels[..., :3 if channels >= 3 else 1]


# ---- pixels --------------------------------------------------------------------------------------------------------
def keys(x):
    """Keys' cubic, a = -1/2. MODEL.md (1.2)"""
    x = abs(x)
    return (1.5 * x - 2.5) * x * x + 1 if x < 1 else ((-.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.


def resize_rows(pixels, size):
    """Pillow's bicubic along the first axis: weights of 22 bits, sums rounded and clipped to bytes. MODEL.md 2"""
    count = len(pixels)
    if count == size:
        return pixels
    scale, out = count / size, np.empty((size,) + pixels.shape[1:], np.uint8)
    wide = max(scale, 1.)
    for i in range(size):
        centre = (i + .5) * scale
        first, last = max(int(centre - 2 * wide + .5), 0), min(int(centre + 2 * wide + .5), count)
        w = np.array([keys((j + .5 - centre) / wide) for j in range(first, last)])
        w = w / w.sum() * (1 << 22)
        w = np.trunc(w + np.where(w < 0, -.5, .5)).astype(np.int64)
        out[i] = np.clip(np.tensordot(w, pixels[first:last].astype(np.int64), 1) + (1 << 21) >> 22, 0, 255)
    return out


def squashed(path, side, mean, std):
    """What the network sees, [3, side, side]; None where the picture cannot be read here. MODEL.md (2.1)"""
    rgb = read_png(path)
    if rgb is None:
        return None
    rgb = np.broadcast_to(rgb, rgb.shape[:2] + (3,))
    rgb = resize_rows(resize_rows(rgb.transpose(1, 0, 2), side).transpose(1, 0, 2), side)
    return torch.from_numpy(((rgb / 255. - mean) / std).transpose(2, 0, 1).copy())


def read_mask(path):
    """grey/255, colours through luma; 0/1 where the largest value is 1. MODEL.md 2"""
    pixels = read_png(path)
    if pixels is None:
        return None
    grey = pixels.astype(np.int64)
    grey = grey[..., 0] if grey.shape[2] == 1 else (grey @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    return torch.from_numpy(grey / (1. if grey.max() == 1 else 255.))


# ---- the image side of a CLIP ----------------------------------------------------------------------------------------
HUGGING_FACE = {  # open_clip's names in front
    'class_embedding': 'vision_model.embeddings.class_embedding',
    'conv1.weight': 'vision_model.embeddings.patch_embedding.weight',
    'positional_embedding': 'vision_model.embeddings.position_embedding.weight', 'ln_pre': 'vision_model.pre_layrnorm',
    'ln_post': 'vision_model.post_layernorm', 'ln_1': 'layer_norm1', 'ln_2': 'layer_norm2', 'attn.out_proj': 'self_attn.out_proj',
    'mlp.c_fc': 'mlp.fc1', 'mlp.c_proj': 'mlp.fc2'}


class Clip:
    def __init__(s, folder):
        s.folder, s.open_clip = folder, os.path.exists(os.path.join(folder, 'open_clip_config.json'))
        config = s.json('open_clip_config.json' if s.open_clip else 'config.json')
        if s.open_clip:
            model, v, p = config['model_cfg'], config['model_cfg']['vision_cfg'], config.get('preprocess_cfg', {})
            s.patch, s.depth, s.heads, s.eps = v['patch_size'], v['layers'], v['width'] // v.get('head_width', 64), 1e-5
            s.quick, s.mean_pool = model.get('quick_gelu', False), v.get('pool_type') == 'tokens_mean'
            s.mean, s.std, files = p.get('mean'), p.get('std'), ['open_clip_model.safetensors']
        else:
            v, p = config.get('vision_config', {}), s.json('preprocessor_config.json')
            s.patch, s.depth, s.heads = v.get('patch_size', 32), v.get('num_hidden_layers', 12), v.get('num_attention_heads', 12)
            s.eps, s.quick, s.mean_pool = v.get('layer_norm_eps', 1e-5), v.get('hidden_act', 'quick_gelu') == 'quick_gelu', False
            index = s.json('model.safetensors.index.json')
            s.mean, s.std = p.get('image_mean'), p.get('image_std')
            files = sorted(set(index['weight_map'].values())) if index else ['model.safetensors']
        s.mean, s.std = s.mean or [.48145466, .4578275, .40821073], s.std or [.26862954, .26130258, .27577711]
        s.w = {}
        for name in files:
            s.w.update(read_safetensors(os.path.join(folder, name))[0])

    def json(s, name):
        path = os.path.join(s.folder, name)
        return json.load(open(path, encoding='utf-8')) if os.path.exists(path) else {}

    def one(s, name):
        """A weight of the whole tower."""
        return s.w['visual.' + name if s.open_clip else HUGGING_FACE[name]]

    def pair(s, name, block=None):
        """weight and bias, of the tower or of a block"""
        if s.open_clip:
            name = 'visual.' + (name if block is None else f'transformer.resblocks.{block}.{name}')
        else:
            name = HUGGING_FACE[name] if block is None else f'vision_model.encoder.layers.{block}.{HUGGING_FACE[name]}'
        return s.w[name + '.weight'], s.w[name + '.bias']

    def qkv(s, block):
        if s.open_clip:
            name = f'visual.transformer.resblocks.{block}.attn.in_proj_'
            return list(zip(s.w[name + 'weight'].chunk(3), s.w[name + 'bias'].chunk(3)))
        name = f'vision_model.encoder.layers.{block}.self_attn.'
        return [(s.w[f'{name}{k}_proj.weight'], s.w[f'{name}{k}_proj.bias']) for k in 'qkv']

    def norm(s, x, weights):
        return F.layer_norm(x, x.shape[-1:], *weights, s.eps)

    def act(s, h):
        return h * torch.sigmoid(1.702 * h) if s.quick else F.gelu(h)

    def tokens(s, pixels):
        """(1.1), (1.2): tokens before the first block, and the grid's sides"""
        x = F.conv2d(pixels[None], s.one('conv1.weight'), stride=s.patch)[0]
        gh, gw = x.shape[1:]
        x = torch.cat([s.one('class_embedding').reshape(1, -1), x.flatten(1).T])
        p = s.one('positional_embedding')
        if len(p) != len(x):
            side = math.isqrt(len(p) - 1)
            grid = F.interpolate(p[1:].T.reshape(1, -1, side, side), size=(gh, gw), mode='bicubic', antialias=True)
            p = torch.cat([p[:1], grid[0].flatten(1).T])
        return s.norm(x + p, s.pair('ln_pre')), gh, gw

    def block(s, i, x):
        """(1.4) to (1.8): A (gradients may start there), h, act(h), x2"""
        y = s.norm(x, s.pair('ln_1', i))
        q, k, v = (F.linear(y, *wb).reshape(len(x), s.heads, -1).transpose(0, 1) for wb in s.qkv(i))
        A = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1).requires_grad_()
        x1 = x + F.linear((A @ v).transpose(0, 1).reshape(len(x), -1), *s.pair('attn.out_proj', i))
        h = F.linear(s.norm(x1, s.pair('ln_2', i)), *s.pair('mlp.c_fc', i))
        acted = s.act(h)
        return A, h, acted, x1 + F.linear(acted, *s.pair('mlp.c_proj', i))

    def head(s, pooled):
        """LN_post and P: (1.9), (1.10), and z of (4.1)"""
        pooled = s.norm(pooled, s.pair('ln_post'))
        return pooled @ s.w['visual.proj'] if s.open_clip else s.w['visual_projection.weight'] @ pooled


# ---- comparing -------------------------------------------------------------------------------------------------------
class Audit:
    def __init__(s, trace):
        s.trace, s.left, s.bad, s.worst = trace, set(trace), 0, {}

    def say(s, name, verdict, note):
        print(f'{name:<40} {note:<30} {verdict}')
        s.bad += verdict == 'BAD'

    def compare(s, name, expected, layer=None, step=None, mask='', unsure=None):
        """unsure: why the numbers may differ, so that only their presence and shape are looked at"""
        full = mask + name + ('' if layer is None else f'.layer{layer}') + ('' if step is None else f'.step{step}')
        s.left.discard(full)
        found, expected = s.trace.get(full), expected.detach()
        if found is None:
            return s.say(full, 'BAD', 'missing')
        if found.numel() != expected.numel() or (found.dim() > 1 and found.shape != expected.shape):
            return s.say(full, 'BAD', f'{list(found.shape)}, not {list(expected.shape)}')
        if unsure:
            return s.say(full, 'SKIPPED', unsure)
        largest = float(expected.abs().max())
        error = float((found.reshape(-1) - expected.reshape(-1)).abs().max()) / (largest or 1.)
        s.worst[name] = max(s.worst.get(name, 0.), error if error == error else math.inf)
        s.say(full, 'OK' if error <= ALLOWED[name] else 'BAD', f'{error:.1e} of {ALLOWED[name]:.0e}')

    def finish(s):
        for name in sorted(s.left):
            s.say(name, 'BAD', 'not expected in a trace')
        print('largest errors: ' + '  '.join(f'{k} {v:.1e}' for k, v in s.worst.items()))
        print(f'{len(s.trace)} tensors, ' + (f'{s.bad} BAD' if s.bad else 'all OK'))
        return s.bad == 0


# ---- the forward pass --------------------------------------------------------------------------------------------------
def audit_forward(clip, audit, pixels, layers):
    """What the explained layers leave for their gradients; the grid; the image embedding c"""
    x, gh, gw = clip.tokens(pixels)
    kept = {}
    for i in range(clip.depth):
        A, h, acted, x = clip.block(i, x.detach())
        audit.compare('tokens', x, i)
        if i < clip.depth - layers:
            continue
        kept[i] = A, acted, x
        leaf = h.detach().requires_grad_()
        audit.compare('attention', A, i)
        audit.compare('h', h, i)
        audit.compare("act'(h)", torch.autograd.grad(clip.act(leaf).sum(), leaf)[0], i)
    x = x.detach()
    c = clip.head(x.mean(0) if clip.mean_pool else x[0])
    audit.compare('embedding', c)
    return kept, gh, gw, c


# ---- the steps -----------------------------------------------------------------------------------------------------------
def audit_map(clip, audit, kept, gh, gw, unit, step, mask):
    """M at the network's size for the unit embedding (4.1) to (4.4), differentiable in it"""
    grid = torch.zeros(1, 1, gh, gw, dtype=torch.float64)
    for i, (A, acted, x2) in kept.items():
        z = clip.head(x2.mean(0))
        along = z / z.norm()
        silent = bool((unit - along).norm() <= 1e-5)  # G is 0 there; MODEL.md 5, "Where e starts"
        G, by_acted, by_x2 = torch.autograd.grad(unit @ along, (A, acted, x2), create_graph=True)
        audit.compare('z', z, i, step, mask)
        audit.compare('u', by_x2[0], i, step, mask, NOISE if silent else None)  # (4.7): ds/dx2, the same for every token
        audit.compare('a', by_acted[0], i, step, mask, NOISE if silent else None)  # (4.8): ds/dact(h), the same too
        if not silent:
            grid = grid + G.clamp_min(0).mean((0, 1))[1:].reshape(1, 1, gh, gw)
    M = F.interpolate(grid, scale_factor=clip.patch, mode='bilinear')
    return (M - M.min()) / (M.max() - M.min())


def audit_mask(clip, audit, meta, name, m, kept, gh, gw, c):
    """K steps of MODEL.md 5 for one mask"""
    lr, alpha, decay = (float(meta[k]) for k in ('lr', 'alpha', 'decay'))
    steps, first, second = int(meta['iters']), torch.zeros_like(c), torch.zeros_like(c)
    prefix, expected = name + '.', c
    for k in range(steps):
        audit.compare('embedding', expected, step=k, mask=prefix)
        e = audit.trace.get(f'{name}.embedding.step{k}', expected).clone().requires_grad_()
        unit = e / e.norm()
        M = F.interpolate(audit_map(clip, audit, kept, gh, gw, unit, k, prefix), size=m.shape, mode='bilinear')[0, 0]
        dice = 1 - (2 * (M * m).sum() + 1) / (M.sum() + m.sum() + 1)  # (5.2)
        loss = dice + alpha * (1 - unit @ (c / c.norm()))  # (5.3)
        g, = torch.autograd.grad(loss, e)
        audit.compare('map', M, step=k, mask=prefix)
        audit.compare('loss', loss, step=k, mask=prefix)
        audit.compare('gradient', g, step=k, mask=prefix)
        g = audit.trace.get(f'{name}.gradient.step{k}', g)
        first, second = .9 * first + .1 * g, .999 * second + .001 * g * g  # (5.4)
        moved = first / (1 - .9 ** (k + 1)) / ((second / (1 - .999 ** (k + 1))).sqrt() + 1e-8)
        expected = (1 - lr * decay) * e.detach() - lr * moved
    audit.compare('embedding', expected, mask=prefix)


# ---- all of a trace ---------------------------------------------------------------------------------------------------------
def stem(path):
    return os.path.basename(path).rsplit('.', 1)[0]


def audit_trace(trace, meta, clip, image, masks, size=None):
    """trace: {name: tensor}; image, masks: paths. True when all is well."""
    audit = Audit(trace)
    names = [k[:-len('.mask')] for k in trace if k.endswith('.mask')]
    if len(names) != len(masks) or not all(n.startswith(stem(f)) for n, f in zip(names, masks)):
        sys.exit(f'the trace has the masks {", ".join(names)}; found {", ".join(masks)}')
    found = squashed(image, size or trace['pixels'].shape[1], clip.mean, clip.std)
    pixels = trace['pixels'] if found is None else found
    audit.compare('pixels', pixels, unsure=UNREAD if found is None else None)
    kept, gh, gw, c = audit_forward(clip, audit, pixels, int(meta['layers']))
    for name, path in zip(names, masks):
        found = read_mask(path)
        m = trace[name + '.mask'] if found is None else found
        audit.compare('mask', m, mask=name + '.', unsure=UNREAD if found is None else None)
        audit_mask(clip, audit, meta, name, m, kept, gh, gw, c)
    return audit.finish()


def main():
    p = argparse.ArgumentParser(description='Recomputes a trace of `maskinv invert --trace` in float64, number by number.')
    p.add_argument('trace')
    p.add_argument('--model', required=True, metavar='FOLDER')
    p.add_argument('--image', required=True)
    p.add_argument('--mask', required=True, nargs='+', action='extend')
    p.add_argument('--size', type=int, help="side of the squashed square; not given: the trace's")
    o = p.parse_args()
    trace, meta = read_safetensors(o.trace)
    sys.exit(0 if audit_trace(trace, meta, Clip(o.model), o.image, o.mask, o.size) else 1)


if __name__ == '__main__':
    main()
