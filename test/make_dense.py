#!/usr/bin/env python3
"""Keeps of a folder of dense fixtures (grids of NACLIP, ResCLIP, SC-CLIP, CLIPtrase, PAMR's masks, CLIPtrase's clusters, the
segmentation protocol in float64, stored as float32) what test_dense.c and test_segment.c read:
    python3 test/make_dense.py FIXTURES/dense        # writes test/data/dense/*.safetensors and picture.png"""
import json, os, shutil, struct, sys

def read(path):
    raw = open(path, 'rb').read(); n = struct.unpack('<Q', raw[:8])[0]; head = json.loads(raw[8:8 + n]); meta = head.pop('__metadata__', {})
    return {k: (t['dtype'], t['shape'], raw[8 + n + t['data_offsets'][0]:8 + n + t['data_offsets'][1]]) for k, t in head.items()}, meta

def write(path, tensors, meta):
    head, body = ({'__metadata__': meta} if meta else {}), b''
    for k, (dtype, shape, b) in tensors.items():
        head[k] = dict(dtype=dtype, shape=shape, data_offsets=[len(body), len(body) + len(b)]); body += b
    h = json.dumps(head).encode(); h += b' ' * (-len(h) % 8)
    open(path, 'wb').write(struct.pack('<Q', len(h)) + h + body)

def wanted(k):
    if k in ('square.u8', 'wide.u8', 'odd.u8', 'queries', 'scclip.queries', 'cliptrase.queries') or k.startswith('protocol.'): return True
    if not k.startswith(('square.', 'wide.authors.', 'odd.authors.')): return False
    return k.endswith(('.grid', '.lof', '.outliers')) or '.cliptrase.' in k and not k.endswith('.grid')

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data', 'dense')
for name in ('nano-hf-f32', 'nano12-openclip-f16', 'nanogelu-openclip-bf16'):
    t, meta = read(f'{sys.argv[1]}/{name}.safetensors'); p = json.loads(meta['parameters'])
    numbers = {k: ('F32', [1], struct.pack('<f', v)) for k, v in p.items() if k.endswith(('threshold', '.eps'))}
    write(f'{here}/{name}.safetensors', {**{k: v for k, v in t.items() if wanted(k)}, **numbers}, {})
t, _ = read(f'{sys.argv[1]}/pieces.safetensors')
write(f'{here}/pieces.safetensors', {k: v for k, v in t.items() if not k.startswith(('anomaly', 'sfr'))}, {})
shutil.copy(f'{sys.argv[1]}/picture.png', here)
for name in ('nano-hf-f32', 'nanogelu-openclip-bf16'):  # AnoVL, for test_anomaly.c
    t, meta = read(f'{sys.argv[1]}/{name}.safetensors')
    keep = {k: v for k, v in t.items() if ('anovl.' in k and 'carried' not in k) or k in ('square.u8', 'double.u8', 'tiles.u8')}
    ids = keep['anovl.ids']; keep['anovl.ids'] = ('F32', ids[1], struct.pack(f'<{len(ids[2]) // 8}f', *struct.unpack(f'<{len(ids[2]) // 8}q', ids[2])))
    write(f'{here}/anovl-{name}.safetensors', keep, {})
write(f'{here}/anomaly.safetensors', {k: v for k, v in read(f'{sys.argv[1]}/pieces.safetensors')[0].items() if k.startswith('anomaly')}, {})
