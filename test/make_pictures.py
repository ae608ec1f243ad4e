#!/usr/bin/env python3
"""Writes test/data/pictures: what Pillow, numpy and PyTorch make of small pictures, masks, arrays and maps.

    python3 test/make_pictures.py        (Debian: python3-pil python3-numpy python3-torch)

resize.bin, crop.bin: records of little-endian u32 width, height, out width, out height, then both pictures' rgb bytes.
"""
import io
import os
import struct
import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "pictures")
os.makedirs(here, exist_ok=True)
rng = np.random.RandomState(3)


def path(name):
    return os.path.join(here, name)


def noise(w, h):
    """Half noise, half smooth with hard edges: over- and undershoot both occur."""
    a = rng.randint(0, 256, (h, w, 3))
    y, x = np.mgrid[0:h, 0:w]
    a[:, : w // 2] = np.stack([(x * 37 + y * 11) % 256, (x // 3 % 2) * 255, (y // 2 % 2) * 255], -1)[:, : w // 2]
    return Image.fromarray(a.astype(np.uint8))


def record(f, image, out):
    f.write(struct.pack("<4I", *image.size, *out.size) + image.tobytes() + out.tobytes())


# ---- resize: up and down, odd sizes, one axis kept, single pixels, extreme aspects ----
sizes = [((37, 23), (14, 14)), ((14, 14), (37, 23)), ((64, 48), (64, 16)), ((64, 48), (16, 48)), ((31, 17), (31, 17)),
         ((1, 1), (9, 5)), ((9, 5), (1, 1)), ((2, 2), (7, 7)), ((3, 50), (20, 20)), ((300, 2), (11, 13)), ((2, 300), (13, 11)),
         ((5000, 1), (3, 2)), ((1, 3000), (2, 1)), ((51, 37), (50, 36)), ((50, 36), (51, 37)), ((90, 60), (28, 28)),
         ((17, 31), (64, 5))]
with open(path("resize.bin"), "wb") as f:
    for size, to in sizes:
        image = noise(*size)
        record(f, image, image.resize(to, Image.BICUBIC))


# ---- the standard CLIP transform: shorter side, then the centre, half to even ----
def clip_crop(image, side):
    w, h = image.size
    to = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
    left, top = int(round((to[0] - side) / 2.0)), int(round((to[1] - side) / 2.0))
    return image.resize(to, Image.BICUBIC).crop((left, top, left + side, top + side))


with open(path("crop.bin"), "wb") as f:
    for (w, h), side in [((40, 30), 16), ((30, 40), 16), ((33, 33), 16), ((35, 32), 32), ((37, 32), 32), ((32, 39), 32),
                         ((32, 41), 32), ((90, 11), 14), ((5, 4), 20), ((1, 3), 8)]:
        image = noise(w, h)
        record(f, image, clip_crop(image, side))

# ---- EXIF: eight stored pictures, one upright ----
upright = np.zeros((16, 24, 3), np.uint8)
upright[:8, :16], upright[:8, 16:], upright[8:, :16], upright[8:, 16:] = (200, 40, 40), (40, 180, 60), (50, 60, 210), (230, 220, 60)
upright[0:8, 0:8] = (128, 128, 128)
upright = Image.fromarray(upright)
upright.save(path("upright.png"))
back = [None, None, Image.FLIP_LEFT_RIGHT, Image.ROTATE_180, Image.FLIP_TOP_BOTTOM, Image.TRANSPOSE, Image.ROTATE_90,
        Image.TRANSVERSE, Image.ROTATE_270]


def exif(orientation, order):
    pack = lambda form, *v: struct.pack(order + form, *v)
    head = b"II*\0" if order == "<" else b"MM\0*"
    entry = lambda tag, kind, value: pack("HHI", tag, kind, 1) + pack("H", value) + b"\0\0"
    return b"Exif\0\0" + head + pack("I", 8) + pack("H", 2) + entry(0x0100, 3, 7) + entry(0x0112, 3, orientation) + pack("I", 0)


for k in range(1, 9):
    stored = upright.transpose(back[k]) if back[k] is not None else upright
    stored.save(path("exif%d.jpg" % k), quality=100, subsampling=0, exif=exif(k, "<>"[k % 2]))
    turned = ImageOps.exif_transpose(Image.open(path("exif%d.jpg" % k)))
    assert turned.size == upright.size and np.abs(np.asarray(turned).astype(int) - np.asarray(upright)).max() < 8
upright.transpose(Image.ROTATE_90).save(path("exif6.png"), exif=exif(6, ">"))

# ---- formats ----
small = noise(21, 13)
small.save(path("small.png"))
small.save(path("small.bmp"))
small.quantize(16).save(path("palette.png"))
small.quantize(16).convert("RGB").save(path("palette_rgb.png"))
rgba = small.convert("RGBA")
rgba.putalpha(Image.fromarray(rng.randint(0, 256, (13, 21)).astype(np.uint8)))
rgba.save(path("alpha.png"))
small.resize((40, 40), Image.BICUBIC).save(path("progressive.jpg"), progressive=True, quality=60)
small.convert("L").save(path("grey.jpg"), quality=95)
small.save(path("unread.gif"))

# ---- masks: what Pillow's convert("L") sees, as grey png ----
grey = rng.randint(0, 256, (9, 14)).astype(np.uint8)
bits = (rng.rand(9, 14) < .4).astype(np.uint8)
Image.fromarray(grey).save(path("mask_grey.png"))
Image.fromarray(bits).save(path("mask_01.png"))
Image.fromarray(bits * 255).convert("1").save(path("mask_1bit.png"))
Image.fromarray(bits * 255).save(path("mask_1bit_l.png"))
Image.fromarray(grey.astype(np.uint16) * 257).save(path("mask_16bit.png"))
Image.merge("LA", (Image.fromarray(grey), Image.fromarray(255 - grey))).save(path("mask_alpha.png"))
Image.fromarray(bits * 0).save(path("mask_empty.png"))
Image.fromarray(bits * 0 + 255).save(path("mask_full.png"))
rgb = noise(14, 9)
rgb.save(path("mask_rgb.png"))
rgb.convert("L").save(path("mask_rgb_l.png"))
indexed = rgb.quantize(8)
indexed.save(path("mask_palette.png"))
indexed.convert("L").save(path("mask_palette_l.png"))

# ---- a map, enlarged and shrunk by PyTorch ----
def npy(name, a, version=(1, 0)):
    with open(path(name), "wb") as f:
        np.lib.format.write_array(f, np.asarray(a), version=version)


grid = rng.rand(7, 5).astype(np.float32)
npy("map.npy", grid)
for h, w in [(33, 40), (7, 5), (3, 2), (1, 1), (14, 300)]:
    big = torch.nn.functional.interpolate(torch.from_numpy(grid)[None, None].double(), (h, w), mode="bilinear", align_corners=False)
    npy("map_%dx%d.npy" % (h, w), big[0, 0].numpy().astype(np.float32))

# ---- arrays ----
values = np.array([0, -0.0, 1, -1.5, 65504, 6e-8, 2 ** -14, 6.1e-5, np.inf, -np.inf, np.nan, 1 / 3], np.float16)
npy("f2.npy", values)
npy("f4.npy", values.astype(np.float32), (2, 0))
npy("f8.npy", values.astype(np.float64), (3, 0))
npy("rank0.npy", np.float32(2.5))
npy("rank4.npy", np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4))
npy("none.npy", np.zeros((3, 0), np.float32))
npy("complex.npy", np.zeros(3, np.complex64))
os.makedirs(path("npy"), exist_ok=True)
for kind in "b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8".split():
    n = np.arange(12).reshape(2, 3, 2)
    n = n % 2 if kind == "b1" else n - 5 if kind[0] == "i" else n - 2.5 if kind[0] == "f" else n
    for k in range(4):
        a = n.astype((">" if k & 1 else "<") + kind)
        npy("npy/%s%s%s.npy" % (kind, "-big" * (k & 1), "-columns" * (k >> 1)), np.asfortranarray(a) if k & 2 else a)
npy("rank5.npy", np.zeros((1, 1, 1, 1, 1), np.float32))
