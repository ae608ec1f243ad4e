#!/usr/bin/env python3
"""Audits a trace of `maskinv invert --trace FILE`: recomputes every number in it with PyTorch in float64, by the
definitions (LeGrad through autograd, no closed form), and compares.

    ./maskinv invert -m MODEL -i photo.jpg -k cat.png --layers 2 --trace trace.safetensors
    python3 test/check_trace.py MODEL trace.safetensors

Each step starts from the embedding that the trace has for it, so that errors do not add up. Needs python3-torch and
python3-numpy. Exit code 1 when a number is further away than allowed.
"""
import json
import math
import os
import re
import sys

import numpy as np
import torch
import torch.nn.functional as F

F64 = torch.float64


# ---- files ------------------------------------------------------------------------------------------------------------
def read_safetensors(path):
    """Tensors as float64, and the metadata."""
    blob = open(path, 'rb').read()
    n = int.from_bytes(blob[:8], 'little')
    head, data = json.loads(blob[8:8 + n]), blob[8 + n:]
    meta, out = head.pop('__metadata__', {}), {}
    for name, t in head.items():
        raw = data[slice(*t['data_offsets'])]
        if t['dtype'] == 'BF16':
            a = (np.frombuffer(raw, '<u2').astype('<u4') << 16).view('<f4')
        elif t['dtype'] in ('F32', 'F16', 'F64'):
            a = np.frombuffer(raw, {'F32': '<f4', 'F16': '<f2', 'F64': '<f8'}[t['dtype']])
        else:
            continue
        out[name] = torch.from_numpy(a.astype(np.float64).reshape(t['shape']))
    return out, meta


class Vision:
    """The image side under one set of names, whichever layout it is stored in."""

    def __init__(self, folder):
        has = lambda name: os.path.exists(os.path.join(folder, name))
        self.own = has('open_clip_config.json')
        config = json.load(open(os.path.join(folder, 'open_clip_config.json' if self.own else 'config.json')))
        files = [f for f in os.listdir(folder) if f.endswith('.safetensors') and (f.startswith('open_clip') or not self.own)]
        self.w = {}
        for f in files:
            self.w.update(read_safetensors(os.path.join(folder, f))[0])
        if self.own:
            model, v = config['model_cfg'], config['model_cfg']['vision_cfg']
            self.depth, self.patch, self.heads = v['layers'], v['patch_size'], v['width'] // v.get('head_width', 64)
            self.gelu, self.eps, self.mean_pool = not model.get('quick_gelu', False), 1e-5, v.get('pool_type') == 'tokens_mean'
        else:
            v = config.get('vision_config', {})
            self.depth, self.patch, self.heads = v.get('num_hidden_layers', 12), v.get('patch_size', 32), v.get('num_attention_heads', 12)
            self.gelu, self.eps, self.mean_pool = v.get('hidden_act', 'quick_gelu') == 'gelu', v.get('layer_norm_eps', 1e-5), False

    def get(self, own, hugging):
        return self.w['visual.' + own if self.own else hugging]

    def projection(self):
        return self.get('proj', 'visual_projection.weight') if self.own else self.w['visual_projection.weight'].T

    def norm(self, x, own, hugging):
        return F.layer_norm(x, x.shape[-1:], self.get(own + '.weight', hugging + '.weight'), self.get(own + '.bias', hugging + '.bias'), self.eps)

    def block(self, i):
        """Functions and weights of block i."""
        own, hug = f'transformer.resblocks.{i}.', f'vision_model.encoder.layers.{i}.'
        if self.own:
            qkv = list(zip(self.get(own + 'attn.in_proj_weight', '').chunk(3), self.get(own + 'attn.in_proj_bias', '').chunk(3)))
        else:
            qkv = [(self.w[f'{hug}self_attn.{k}_proj.weight'], self.w[f'{hug}self_attn.{k}_proj.bias']) for k in 'qkv']
        pair = lambda a, b: (self.get(own + a + '.weight', hug + b + '.weight'), self.get(own + a + '.bias', hug + b + '.bias'))
        return dict(qkv=qkv, out=pair('attn.out_proj', 'self_attn.out_proj'), fc1=pair('mlp.c_fc', 'mlp.fc1'), fc2=pair('mlp.c_proj', 'mlp.fc2'),
                    ln1=lambda x: self.norm(x, own + 'ln_1', hug + 'layer_norm1'), ln2=lambda x: self.norm(x, own + 'ln_2', hug + 'layer_norm2'))

    def act(self, h):
        return F.gelu(h) if self.gelu else h * torch.sigmoid(1.702 * h)

    def tokens(self, pixels):
        """Tokens after ln_pre, and the grid's sides."""
        x = F.conv2d(pixels[None], self.get('conv1.weight', 'vision_model.embeddings.patch_embedding.weight'), stride=self.patch)
        gh, gw = x.shape[2:]
        x = torch.cat([self.get('class_embedding', 'vision_model.embeddings.class_embedding').reshape(1, -1), x[0].flatten(1).T])
        p = self.get('positional_embedding', 'vision_model.embeddings.position_embedding.weight')
        if len(p) != len(x):
            side = math.isqrt(len(p) - 1)
            grid = F.interpolate(p[1:].T.reshape(1, -1, side, side), size=(gh, gw), mode='bicubic', antialias=True)
            p = torch.cat([p[:1], grid[0].flatten(1).T])
        return self.norm(x + p, 'ln_pre', 'vision_model.pre_layrnorm'), gh, gw

    def run_block(self, i, x):
        """Output, attention (where gradients can start) and h."""
        b, n = self.block(i), len(x)
        q, k, v = [F.linear(b['ln1'](x), w, bias).reshape(n, self.heads, -1).transpose(0, 1) for w, bias in b['qkv']]
        A = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1).detach().requires_grad_()
        x1 = x + F.linear((A @ v).transpose(0, 1).reshape(n, -1), *b['out'])
        h = F.linear(b['ln2'](x1), *b['fc1'])
        return x1 + F.linear(self.act(h), *b['fc2']), A, h

    def head(self, pooled):
        return self.norm(pooled, 'ln_post', 'vision_model.post_layernorm') @ self.projection()


# ---- comparing ------------------------------------------------------------------------------------------------------------
worst, failed = {}, []


def compare(name, found, expected, allowed):
    error = float((found.reshape(-1) - expected.detach().reshape(-1)).abs().max() / expected.abs().max().clamp_min(1e-12))
    kind = re.sub(r'^.*?\.(?=(z|u|a|map|loss|gradient|embedding)(\.|$))', '', re.sub(r'\.(layer|step)\d+', '', name))
    worst[kind] = max(worst.get(kind, 0), error)
    if not error <= allowed:
        failed.append(f'{name}: {error:.2e} away, {allowed:.0e} allowed')


# ---- the audit ---------------------------------------------------------------------------------------------------------------
def forward(v, t, explained):
    """Checks tokens, attention, h; returns the state of the explained layers, the grid, and the image embedding."""
    x, gh, gw = v.tokens(t['pixels'])
    state = {}
    for i in range(v.depth):
        x, A, h = v.run_block(i, x.detach())
        compare(f'tokens.layer{i}', t[f'tokens.layer{i}'], x, 2e-4)
        if i < v.depth - explained:
            continue
        state[i] = (x, A)
        inner = h.detach().requires_grad_()
        slope, = torch.autograd.grad(v.act(inner).sum(), inner)
        compare(f'attention.layer{i}', t[f'attention.layer{i}'], A, 2e-4)
        compare(f'h.layer{i}', t[f'h.layer{i}'], h, 2e-4)
        compare(f"act'(h).layer{i}", t[f"act'(h).layer{i}"], slope, 2e-4)
    c = v.head(x.mean(0) if v.mean_pool else x[0]).detach()
    compare('embedding', t['embedding'], c, 2e-4)
    return state, gh, gw, c


def legrad(v, t, name, step, state, gh, gw, unit):
    """The map at pixel size, differentiable in `unit`; checks z, u, a on the way."""
    total = 0
    for i, (x, A) in state.items():
        z = v.head(x.mean(0))
        cosine = unit @ (z / z.norm())
        G, = torch.autograd.grad(cosine, A, create_graph=True)
        rows = x.detach().requires_grad_()
        again = v.head(rows.mean(0))
        u, = torch.autograd.grad(unit.detach() @ (again / again.norm()), rows)
        compare(f'{name}.z.layer{i}', t[f'{name}.z.layer{i}.step{step}'], z, 2e-4)
        if f'{name}.u.layer{i}.step{step}' in t:
            compare(f'{name}.u.layer{i}', t[f'{name}.u.layer{i}.step{step}'], u[0], 1e-3)
            compare(f'{name}.a.layer{i}', t[f'{name}.a.layer{i}.step{step}'], u[0] @ v.block(i)['fc2'][0], 1e-3)
        total = total + G.clamp_min(0).mean((0, 1))[1:].reshape(1, 1, gh, gw)
    big = F.interpolate(total, scale_factor=v.patch, mode='bilinear')
    return (big - big.min()) / (big.max() - big.min())


def audit_mask(v, t, meta, name, state, gh, gw, c):
    mask = t[f'{name}.mask']
    lr, alpha, decay, steps = float(meta['lr']), float(meta['alpha']), float(meta['decay']), int(meta['iters'])
    m1 = m2 = torch.zeros_like(c)
    compare(f'{name}.embedding', t[f'{name}.embedding.step0'], c, 2e-4)
    for k in range(steps):
        e = t[f'{name}.embedding.step{k}'].clone().requires_grad_()
        unit = e / e.norm()
        M = F.interpolate(legrad(v, t, name, k, state, gh, gw, unit), size=mask.shape, mode='bilinear')[0, 0]
        dice = 1 - (2 * (M * mask).sum() + 1) / (M.sum() + mask.sum() + 1)
        loss = dice + alpha * (1 - unit @ (c / c.norm()))
        g, = torch.autograd.grad(loss, e)
        compare(f'{name}.map', t[f'{name}.map.step{k}'], M, 5e-4)
        compare(f'{name}.loss', t[f'{name}.loss.step{k}'], loss, 5e-4)
        compare(f'{name}.gradient', t[f'{name}.gradient.step{k}'], g, 5e-3)
        g = t[f'{name}.gradient.step{k}']  # AdamW from the gradient that was used
        m1, m2 = .9 * m1 + .1 * g, .999 * m2 + .001 * g * g
        step = (m1 / (1 - .9 ** (k + 1))) / ((m2 / (1 - .999 ** (k + 1))).sqrt() + 1e-8)
        after = (1 - lr * decay) * t[f'{name}.embedding.step{k}'] - lr * step
        compare(f'{name}.embedding', t[f'{name}.embedding.step{k + 1}' if k + 1 < steps else f'{name}.embedding'], after, 1e-4)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    v, (t, meta) = Vision(sys.argv[1]), read_safetensors(sys.argv[2])
    state, gh, gw, c = forward(v, t, int(meta['layers']))
    masks = [k[:-len('.mask')] for k in t if k.endswith('.mask')]
    for name in masks:
        audit_mask(v, t, meta, name, state, gh, gw, c)
    for kind, error in worst.items():
        print(f'{kind:12} {error:.1e}')
    print(f'{len(masks)} masks, {meta["iters"]} steps: ' + (f'{len(failed)} numbers are off' if failed else 'all numbers agree'))
    print('\n'.join(failed[:20]))
    sys.exit(1 if failed else 0)


main()
