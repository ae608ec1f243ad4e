#!/usr/bin/env python3
"""Keeps of a folder of dense fixtures (grids of NACLIP, ResCLIP, SC-CLIP, CLIPtrase and PAMR's masks in float64, stored as
float32) what test_dense.c reads:
    python3 test/make_dense.py FIXTURES/dense        # writes test/data/dense/*.safetensors"""
import json, os, struct, sys

def read(path):
    raw = open(path, 'rb').read(); n = struct.unpack('<Q', raw[:8])[0]; head = json.loads(raw[8:8 + n]); meta = head.pop('__metadata__', {})
    return {k: (t['dtype'], t['shape'], raw[8 + n + t['data_offsets'][0]:8 + n + t['data_offsets'][1]]) for k, t in head.items()}, meta

def write(path, tensors, meta):
    head, body = ({'__metadata__': meta} if meta else {}), b''
    for k, (dtype, shape, b) in tensors.items():
        head[k] = dict(dtype=dtype, shape=shape, data_offsets=[len(body), len(body) + len(b)]); body += b
    h = json.dumps(head).encode(); h += b' ' * (-len(h) % 8)
    open(path, 'wb').write(struct.pack('<Q', len(h)) + h + body)

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data', 'dense')
for name in ('nano-hf-f32', 'nano12-openclip-f16'):
    t, meta = read(f'{sys.argv[1]}/{name}.safetensors')
    keep = {k: v for k, v in t.items() if k in ('square.u8', 'wide.u8', 'queries', 'scclip.queries', 'cliptrase.queries') or k.endswith('.grid') and (k.startswith('square.') or k.startswith('wide.authors.'))}
    p = json.loads(meta['parameters'])
    write(f'{here}/{name}.safetensors', keep, {k: str(p[k]) for k in ('square.threshold', 'wide.authors.threshold')})
t, _ = read(f'{sys.argv[1]}/pieces.safetensors')
write(f'{here}/pamr.safetensors', {k: t[k] for k in ('pamr.image', 'pamr.mask', 'pamr.10.8-16', 'pamr.50.1-2-4-8-12-24')}, {})
