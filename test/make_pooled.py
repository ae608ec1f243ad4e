"""Makes test/data/pooled.safetensors: what attention, rollout, GradCAM and Chefer give on the small checkpoints whose tokens are
pooled by an attention of its own, and MaskCLIP's and CLIP Surgery's grids of a ResNet (MODEL.md 6), in float64.

    python3 test/make_pooled.py ORACLE_FOLDER FIXTURES    # needs PyTorch; ORACLE_FOLDER holds checkpoints.py

Names: FAMILY.METHOD[.N].grid [gh,gw] for the fixture's text 0, N layers looked at (the pooler one of them);
FAMILY.invert.METHOD.{loss,gradient}: MaskInversion's first step on mask 0.
"""
import math, os, struct, json, sys, tempfile
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
sys.path.insert(0, sys.argv[1])
import checkpoints as oracle

FIXTURES, OUT = sys.argv[2], os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data', 'pooled.safetensors')
NAMES = ('siglip-hf', 'coca-openclip-bin', 'pe-core-openclip', 'resnet-openclip')


def forward(m, x, below):
    """z, the pooler's attention [H,1,n] and those of the last `below` blocks [H,n,n], lowest first; all on the graph."""
    leaf, seen = [], []
    if m.a.get('resnet'):
        z = m.attnpool(m.trunk(x).detach().requires_grad_(True), leaf)[0]
        return z, leaf, []
    t, grid, turn = m.embed(x)
    t = t.detach().requires_grad_(True)
    for i in range(m.a['L']):
        one = []
        t = m.vblock(i, t, turn, one)
        if i >= m.a['L'] - below: seen += one
    if m.a['pool'] == 'map':
        z = m.mappool(m.ln(t, 'v.post', m.a['eps']), leaf)[0]
        return (m.lin(z, 'v.proj') if 'v.proj.w' in m.w else z), leaf, seen
    z = m.lin(m.ln(m.cocapool(t, leaf), 'v.post', 1e-5)[0], 'v.proj')
    return z, leaf, seen


def row_of(m, x, method, e, below, held=False):
    """The relevance of every token [n], differentiable in e [E] of unit length; held: the image's length does not move."""
    z, (P,), A = forward(m, x, below)
    if method == 'attention': return P.mean(0)[0]
    if method == 'rollout' and not held:
        r = P.mean(0)[0]
        for a in reversed(A): r = r @ (a.mean(0) / 2 + torch.eye(len(r), dtype=r.dtype) / 2)
        return r
    unit = z / z.detach().norm() if held else F.normalize(z, dim=-1)
    G = torch.autograd.grad(math.exp(float(m.w['scale'])) * (e @ unit), [P] + A, create_graph=True)
    if method == 'gradcam':
        first = m.a['npre']
        return (G[0][:, 0, first:].mean(-1) @ P[:, 0]).div(len(P)).clamp(min=0)
    C = [(g * a).clamp(min=0).mean(0) for g, a in zip(G, [P] + A)]
    r = C[0][0]
    for c in reversed(C[1:]):
        if method == 'rollout': r = (r / (c.sum(-1) + 1)) @ (c + torch.eye(len(c), dtype=c.dtype))
        else: r = r + r @ c
    return r


def grid_of(m, r, n):
    first = m.a['npre']
    side = math.isqrt(n)
    return r[first:].view(side, side)


def first_step(m, x, mask, method, below):
    z = m.image(x)
    if m.a['pool'] == 'coca' and not m.a.get('resnet'): z = F.normalize(z, dim=-1)
    e = z.clone().requires_grad_(True)
    r = row_of(m, x, method, F.normalize(e, dim=-1), below, True)
    g = grid_of(m, r, len(r) - m.a['npre'])
    up = F.interpolate(g[None, None], scale_factor=m.a['stride'], mode='bilinear')
    M = F.interpolate(oracle.minmax(up), size=mask.shape, mode='bilinear')
    a, b = M.reshape(-1), mask.reshape(-1)
    loss = 1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1)
    return loss.detach(), torch.autograd.grad(loss, e)[0]


out = {}
image = Image.open(f'{FIXTURES}/image.png').convert('RGB')
mask = torch.from_numpy(np.asarray(Image.open(f'{FIXTURES}/mask0.png').convert('L'), np.float64) / 255)


def seen(case, a, w, ids, px, **_):
    m = oracle.Model(a, w); S = a['image']
    x = oracle.pixels(image, S, 'squash', 'bicubic', px)
    e = F.normalize(m.text(ids), dim=-1); L = a.get('L', 0)
    put = lambda k, v: out.__setitem__(f'{case.name}.{k}', v.detach().numpy())
    for method, below in (('attention', 0), ('gradcam', 0), ('chefer', 0), ('chefer', L), ('rollout', L)):
        r = row_of(m, x, method, e, below)
        put(method + (f'.{L + 1}' if method == 'chefer' and below else '') + '.grid', grid_of(m, r, len(r) - a['npre']))
    for method, below in (('gradcam', 0), ('chefer', 0), ('rollout', L)):
        if a.get('resnet') and method == 'rollout': continue
        loss, g = first_step(m, x, mask, method, below)
        put(f'invert.{method}.loss', loss.view(1)); put(f'invert.{method}.gradient', g)
    if a.get('resnet'):
        cells = m.trunk(x).flatten(2)[0].t()
        for name, tokens in (('maskclip', m.lin(m.lin(cells, 'r.v'), 'r.o')), ('surgery', m.surgery_resnet(x)[1:])):
            put(name + '.cosine', grid_of(m, torch.cat([torch.zeros(1, dtype=e.dtype), F.normalize(tokens, dim=-1) @ e]), len(tokens)))
    raise StopIteration


oracle.Case.finish = seen
with tempfile.TemporaryDirectory() as d:
    for name in NAMES:
        try: oracle.CASES[name](oracle.Case(d, name, 7, 0, image, mask))
        except StopIteration: pass
head, body = {}, b''
for k, v in out.items():
    b = np.ascontiguousarray(v, np.float32).tobytes()
    head[k] = dict(dtype='F32', shape=list(v.shape), data_offsets=[len(body), len(body) + len(b)]); body += b
h = json.dumps(head).encode(); h += b' ' * (-len(h) % 8)
open(OUT, 'wb').write(struct.pack('<Q', len(h)) + h + body)
print(len(out), 'tensors,', len(h) + len(body), 'bytes')
