"""Makes test/data/methods.safetensors: what the explainers of methods.c must give on the small checkpoints.

    python3 test/make_methods.py            # from the tree's top; needs PyTorch

In float64, from the definitions in MODEL.md, section 6, written as the methods' authors have them in their PyTorch
programs (one forward pass a method, gradients by torch.autograd), and sharing nothing with the C. Names:
    MODEL.texts [3,E], MODEL.empty [E]              unit vectors, from a fixed seed
    MODEL.SIZE.METHOD[.N].grids [3,gh,gw]           raw relevance of the texts; N blocks where not the method's own
    MODEL.SIZE.METHOD[.N].tokens [n,E]              features' projected tokens (native size)
    MODEL.native.METHOD.map [side,side]             of text 0
    MODEL.double.points [k,3]                       Surgery's x, y, label for text 0 on a 150 x 100 photograph
    MODEL.native.invert.EXPLAINER[.N].{loss,gradient}  MaskInversion's first step on mask 0
    MODEL.mean.METHOD.grids                         the same checkpoint pooled by the mean of its tokens
"""
import json, math, struct, sys
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

torch.set_default_dtype(torch.float64)
DATA = 'test/data/'
SHAPES = {'nano-hf-f32': (8, 2, 3, True), 'nano-openclip-f16': (8, 2, 3, True), 'nanogelu-openclip-bf16': (16, 3, 4, False)}
PHOTO = (100, 150)  # height, width


# ---- files ---------------------------------------------------------------------------------------------------
def read(path):
    raw = open(path, 'rb').read()
    size = struct.unpack('<Q', raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + size]).items():
        if name == '__metadata__' or t['dtype'] == 'I64': continue
        a, b = t['data_offsets']
        b = raw[8 + size + a:8 + size + b]
        if t['dtype'] == 'BF16': v = (np.frombuffer(b, '<u2').astype(np.uint32) << 16).view(np.float32)
        else: v = np.frombuffer(b, {'F16': '<f2', 'F32': '<f4'}[t['dtype']])
        out[name] = torch.from_numpy(v.astype(np.float64)).reshape(t['shape'])
    return out


def write(path, tensors):
    head, off, body = {}, 0, b''
    for name, v in tensors.items():
        v = np.ascontiguousarray(v.detach().numpy(), '<f4')
        head[name] = dict(dtype='F32', shape=list(v.shape), data_offsets=[off, off + v.nbytes])
        off += v.nbytes
        body += v.tobytes()
    h = json.dumps(head, separators=(',', ':')).encode()
    h += b' ' * (-len(h) % 8)
    open(path, 'wb').write(struct.pack('<Q', len(h)) + h + body)


# ---- the network ---------------------------------------------------------------------------------------------
class Block: pass


class Vit:
    def __init__(s, name):
        s.patch, s.heads, layers, quick = SHAPES[name]
        s.act = (lambda x: x * torch.sigmoid(1.702 * x)) if quick else F.gelu
        hf = 'hf' in name
        w = read(DATA + name + ('/model.safetensors' if hf else '/open_clip_model.safetensors'))
        g = lambda a, b: w[a] if hf else w[b]
        v = 'vision_model.'
        s.conv = g(v + 'embeddings.patch_embedding.weight', 'visual.conv1.weight')
        s.cls = g(v + 'embeddings.class_embedding', 'visual.class_embedding')
        s.pos = g(v + 'embeddings.position_embedding.weight', 'visual.positional_embedding')
        s.pre = [g(v + 'pre_layrnorm.' + k, 'visual.ln_pre.' + k) for k in ('weight', 'bias')]
        s.post = [g(v + 'post_layernorm.' + k, 'visual.ln_post.' + k) for k in ('weight', 'bias')]
        s.proj = w['visual_projection.weight'].t() if hf else w['visual.proj']
        s.scale = float(torch.exp(w['logit_scale']))
        s.blocks = []
        for i in range(layers):
            b = Block()
            h, o = f'{v}encoder.layers.{i}.', f'visual.transformer.resblocks.{i}.'
            pair = lambda x, y: [g(h + x + '.' + k, o + y + '.' + k) for k in ('weight', 'bias')]
            b.ln1, b.ln2 = pair('layer_norm1', 'ln_1'), pair('layer_norm2', 'ln_2')
            b.out, b.fc1, b.fc2 = pair('self_attn.out_proj', 'attn.out_proj'), pair('mlp.fc1', 'mlp.c_fc'), pair('mlp.fc2', 'mlp.c_proj')
            if hf: b.qkv = [[w[h + f'self_attn.{x}_proj.{k}'] for k in ('weight', 'bias')] for x in 'qkv']
            else: b.qkv = list(zip(w[o + 'attn.in_proj_weight'].chunk(3), w[o + 'attn.in_proj_bias'].chunk(3)))
            s.blocks.append(b)

    def ln(s, x, p): return F.layer_norm(x, x.shape[-1:], p[0], p[1], 1e-5)

    def embed(s, pixels, mode='bicubic'):
        x = F.conv2d(pixels[None], s.conv, stride=s.patch)
        s.grid = gh, gw = x.shape[2:]
        pos, side = s.pos, math.isqrt(len(s.pos) - 1)
        if side != gh:
            p = pos[1:].t().reshape(1, -1, side, side)
            if mode in ('clamped', 'cubic'):  # torch's bicubic, a = -3/4; a tenth of a cell too much by NACLIP's, SCLIP's, ClearCLIP's code
                more = .1 if mode == 'clamped' else 0
                p = F.interpolate(p, scale_factor=((gh + more) / p.shape[2], (gw + more) / p.shape[3]), mode='bicubic')
                assert p.shape[2:] == (gh, gw)
            else:
                p = F.interpolate(p, (gh, gw), mode=mode, antialias=mode == 'bicubic')
            pos = torch.cat([pos[:1], p[0].flatten(1).t()])
        return s.ln(torch.cat([s.cls[None], x[0].flatten(1).t()]) + pos, s.pre)

    def split(s, x): return x.view(len(x), s.heads, -1).transpose(0, 1)
    def qkv(s, b, x): return [s.split(F.linear(s.ln(x, b.ln1), *p)) for p in b.qkv]
    def merge(s, b, A, v): return F.linear((A @ v).transpose(0, 1).flatten(1), *b.out)
    def mlp(s, b, x): return F.linear(s.act(F.linear(s.ln(x, b.ln2), *b.fc1)), *b.fc2)

    def attention(s, b, x):
        q, k, v = s.qkv(b, x)
        return (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1), v

    def block(s, b, x, kept=None):
        A, v = s.attention(b, x)
        if kept is not None:
            if not A.requires_grad: A.requires_grad_(True)
            kept.append(A)
        x = x + s.merge(b, A, v)
        return x + s.mlp(b, x)

    def project(s, x): return s.ln(x, s.post) @ s.proj


# ---- attention, gradient -------------------------------------------------------------------------------------
def forward(m, pixels, mean):
    """All layers' attentions and the unit image embedding, in one graph."""
    x, kept = m.embed(pixels), []
    for b in m.blocks: x = m.block(b, x, kept)
    z = m.project(x.mean(0) if mean else x[0])
    return kept, z


def row(R, mean): return (R.mean(-2) if mean else R[..., 0, :])[..., 1:]


def attention(m, pixels, mean, blocks=None):
    A, _ = forward(m, pixels, mean)
    return row(A[-1].mean(0), mean)


def rollout(m, pixels, mean, blocks=None):
    A, _ = forward(m, pixels, mean)
    A = A[len(A) - (blocks or len(A)):]
    joint = None
    for a in A:
        a = a.mean(0) + torch.eye(a.shape[-1])
        a = a / a.sum(-1, keepdim=True)
        joint = a if joint is None else a @ joint
    return row(joint, mean)


def gradcam(A, G, mean, n):
    a, g = row(A[-1], mean), row(G[-1], mean)
    return (a * g.mean(-1, keepdim=True)).mean(0).clamp(min=0)


def chefer(A, G, mean, n):
    R = torch.eye(A[0].shape[-1])
    for a, g in list(zip(A, G))[len(A) - n:]:
        R = R + (g * a).clamp(min=0).mean(0) @ R
    return row(R, mean)


def grad_rollout(A, G, mean, n):
    R = torch.eye(A[0].shape[-1])
    for a, g in list(zip(A, G))[len(A) - n:]:
        C = torch.eye(a.shape[-1]) + (g * a).clamp(min=0).mean(0)
        R = (C / C.sum(-1, keepdim=True)) @ R
    return row(R, mean)


GRADIENT = {'gradcam': (gradcam, 1), 'chefer': (chefer, 1), 'rollout': (grad_rollout, 0)}


def by_gradient(m, state, e, how, mean, blocks=None, create=False):
    """create: in an inversion, differentiable in e, and with |z| held constant."""
    f, own = GRADIENT[how]
    A, z = state
    score = m.scale * (e @ (z / z.norm().detach() if create else F.normalize(z, dim=-1)))
    G = torch.autograd.grad(score, A, retain_graph=True, create_graph=create)
    return f([a.detach() for a in A], G, mean, blocks or own or len(A))


def legrad(m, pixels, e, blocks):
    x, total = m.embed(pixels), 0
    for i, b in enumerate(m.blocks):
        kept = []
        x = m.block(b, x.detach(), kept)
        if i < len(m.blocks) - blocks: continue
        z = F.normalize(m.project(x.mean(0)), dim=-1)
        total = total + torch.autograd.grad(e @ z, kept)[0].clamp(min=0).mean((0, 1))[1:]
    return total


# ---- features ------------------------------------------------------------------------------------------------
def softmax_self(a): return (a @ a.transpose(1, 2) / math.sqrt(a.shape[-1])).softmax(-1)


def omega(gh, gw, std=5.):
    y, x = torch.meshgrid(torch.arange(gh) * 1., torch.arange(gw) * 1., indexing='ij')
    y, x = y.flatten(), x.flatten()
    w = torch.exp(-((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (2 * std ** 2))
    return F.pad(w, (1, 0, 1, 0))


def gem_attention(m, b, x, q, k, v):
    tau = m.ln(x, b.ln1).norm(dim=-1).mean() / math.sqrt(q.shape[-1])
    out = []
    for a in (q, k, v):
        a = F.normalize(a, dim=-1)
        a = F.normalize((a @ a.transpose(1, 2) * tau).softmax(-1) @ a, dim=-1)
        out.append((a @ a.transpose(1, 2) * tau).softmax(-1))
    return sum(out) / 3


def naclip_attention(m, b, x, q, k, v):
    return (k @ k.transpose(1, 2) / math.sqrt(k.shape[-1]) + omega(*m.grid)).softmax(-1)


FEATURES = {  # attention of the changed blocks; second path from the plain one; residual and MLP in it; blocks
    'similarity': (None, True, False, 0),
    'maskclip': (lambda m, b, x, q, k, v: torch.eye(len(x)).expand(m.heads, -1, -1), False, True, 1),
    'surgery': (lambda m, b, x, q, k, v: softmax_self(v), True, False, 6),
    'sclip': (lambda m, b, x, q, k, v: softmax_self(q) + softmax_self(k), False, True, 1),
    'clearclip': (lambda m, b, x, q, k, v: softmax_self(q), False, False, 1),
    'gem': (gem_attention, True, False, 6),
    'naclip': (naclip_attention, False, False, 1),
}


def tokens(m, pixels, how, blocks, mean):
    attend, chain, whole, own = FEATURES[how]
    n = min(blocks or own, len(m.blocks)) if own else 0
    x = m.embed(pixels, {'surgery': 'bilinear', 'sclip': 'clamped', 'clearclip': 'clamped', 'naclip': 'clamped', 'maskclip': 'cubic'}.get(how, 'bicubic'))
    start = len(m.blocks) - n
    for b in m.blocks[:start]: x = m.block(b, x)
    second = x.clone() if chain else torch.zeros_like(x)
    for b in m.blocks[start:]:
        q, k, v = m.qkv(b, x)
        y = m.merge(b, attend(m, b, x, q, k, v), v)
        if whole:
            y = x + y
            y = y + m.mlp(b, y)
        second = second + y
        x = m.block(b, x)
    pooled = x.mean(0, keepdim=True) if mean else x[:1]
    return m.project(torch.cat([pooled, second[1:]]))


def similarity(f, texts, empty, how):
    f = F.normalize(f, dim=-1)
    if how != 'surgery': return (f @ texts.t())[1:].t()
    if len(texts) == 1: return (f @ (texts - empty).t())[1:].t()
    w = (2 * f[:1] @ texts.t()).softmax(-1)
    w = w / w.mean(-1, keepdim=True)
    feats = f[:, None, :] * texts[None] * w[0][None, :, None]
    feats = feats - feats.mean(1, keepdim=True)
    return feats.sum(-1)[1:].t()


# ---- maps, points, the inversion's first step ----------------------------------------------------------------
def unit(x): return (x - x.min()) / (x.max() - x.min())


def to_map(grid, side, how):
    grid = grid[None, None]
    if how in ('surgery', 'similarity', 'gradcam'): return F.interpolate(unit(grid), (side, side), mode='bilinear')[0, 0]
    return unit(F.interpolate(grid, (side, side), mode='bilinear'))[0, 0]


def points(grid, shape, t=.8):
    side = len(grid) // 2
    sm = unit(F.interpolate(grid[None, None], (side, side), mode='bilinear').flatten())
    rank, n, out = sm.sort(stable=True)[1].tolist(), min(int((sm >= t).sum()), len(sm) // 2), []
    for label, cells in ((1, rank[-n:]), (0, rank[:n])):
        for i in cells:
            out.append([int(min((i % side + .5) * shape[1] / side, shape[1] - 1)),
                        int(min((i // side + .5) * shape[0] / side, shape[0] - 1)), label])
    return torch.tensor(out) * 1.


def first_step(m, pixels, mask, how, blocks=None):
    state = forward(m, pixels, False)
    e = state[1].detach().clone().requires_grad_(True)
    grid = by_gradient(m, state, F.normalize(e, dim=-1), how, False, blocks, create=True).view(1, 1, *m.grid)
    big = unit(F.interpolate(grid, tuple(pixels.shape[1:]), mode='bilinear'))
    M = F.interpolate(big, mask.shape, mode='bilinear')[0, 0]
    loss = 1 - (2 * (M * mask).sum() + 1) / (M.sum() + mask.sum() + 1)
    return loss.detach().reshape(1), torch.autograd.grad(loss, e)[0]


def main():
    out, r = {}, np.random.Generator(np.random.PCG64(11))
    mask = torch.from_numpy(np.asarray(Image.open(DATA + 'mask0.png').convert('L'), np.float64) / 255)
    for name in SHAPES:
        m, expected = Vit(name), read(DATA + name + '/expected.safetensors')
        draw = F.normalize(torch.from_numpy(r.standard_normal((4, m.proj.shape[1]))), dim=-1).float().double()
        texts, empty = draw[:3], draw[3]
        out[name + '.texts'], out[name + '.empty'] = texts, empty
        for size in ('native', 'double'):
            pixels = expected[size + '.pixels']
            put = lambda key, grids: out.__setitem__(f'{name}.{size}.{key}.grids', grids.reshape(-1, *m.grid))
            put('legrad', torch.stack([legrad(m, pixels, t, 2) for t in texts]))
            put('legrad.1', torch.stack([legrad(m, pixels, t, 1) for t in texts]))
            put('attention', attention(m, pixels, False))
            put('rollout', rollout(m, pixels, False))
            put('rollout.2', rollout(m, pixels, False, 2))
            state, depth = forward(m, pixels, False), len(m.blocks)
            put('gradcam', torch.stack([by_gradient(m, state, t, 'gradcam', False) for t in texts]))
            for key, n in (('chefer', 1), ('chefer.2', 2), (f'chefer.{depth}', depth)):
                put(key, torch.stack([by_gradient(m, state, t, 'chefer', False, n) for t in texts]))
            for how, recipe in FEATURES.items():
                for n in ([None] if not recipe[3] else [None, 2]):
                    f = tokens(m, pixels, how, n, False)
                    key = how + (f'.{n}' if n else '')
                    put(key, similarity(f, texts, empty, how))
                    if how == 'surgery': put(key + '.one', similarity(f, texts[:1], empty, how))
                    if size == 'native': out[f'{name}.{size}.{key}.tokens'] = f
            if size == 'native':
                for how in ('surgery', 'sclip', 'chefer'):
                    out[f'{name}.native.{how}.map'] = to_map(out[f'{name}.native.{how}.grids'][0], pixels.shape[1], how)
                for how, n in (('gradcam', None), ('chefer', None), ('chefer', depth), ('rollout', None)):
                    key = f'{name}.native.invert.{how}' + (f'.{n}' if n else '')
                    out[key + '.loss'], out[key + '.gradient'] = first_step(m, pixels, mask, how, n)
                pooled = forward(m, pixels, True)
                keep = lambda key, grids: out.__setitem__(f'{name}.mean.{key}.grids', grids.reshape(-1, *m.grid))
                keep('attention', attention(m, pixels, True))
                keep('rollout', rollout(m, pixels, True))
                for how, n in (('gradcam', None), ('chefer', 2)):
                    keep(how, torch.stack([by_gradient(m, pooled, t, how, True, n) for t in texts]))
                keep('surgery', similarity(tokens(m, pixels, 'surgery', None, True), texts, empty, 'surgery'))
            else: out[f'{name}.double.points'] = points(out[f'{name}.double.surgery.grids'][0], PHOTO)
        agreed = tokens(m, expected['native.pixels'], 'surgery', 2, False) - expected['native.surgery.depth2.tokens']
        assert float(agreed.detach().abs().max()) < 1e-5
    write(DATA + 'methods.safetensors', out)


if __name__ == '__main__': sys.exit(main())
