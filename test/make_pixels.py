#!/usr/bin/env python3
"""Checksums for test/test_pixels.c: what Pillow makes of a patterned picture, the way that checkpoints' files name.

    python3 test/make_pixels.py        prints the table's rows (Pillow 9.4)
"""
import zlib
from PIL import Image

BILINEAR, BICUBIC = Image.BILINEAR, Image.BICUBIC


def pattern(w, h):
    return Image.frombytes("RGB", (w, h), bytes(
        (x * 37 + y * 59 + c * 83 + x * y * (c + 1)) % 256 for y in range(h) for x in range(w) for c in range(3)))


def half_even(d):
    return int(round(d / 2.0))


def crop(p, side, down):
    start = (lambda d: d // 2) if down else half_even
    x, y = start(p.width - side), start(p.height - side)
    return p.crop((x, y, x + side, y + side))


def shortest(p, side, f):
    w, h = p.size
    return p.resize((side, int(side * h / w)) if w <= h else (int(side * w / h), side), f)


def longest(p, side, f, fill):
    r = max(p.size) / side
    w, h = round(p.width / r), round(p.height / r)
    page = Image.new("RGB", (side, side), fill)
    page.paste(p.resize((w, h), f), ((side - w) // 2, (side - h) // 2))
    return page


def crc(p):
    return "0x%08x" % zlib.crc32(p.tobytes())


for w, h in ((13, 9), (9, 16), (40, 23), (8, 8)):
    p = pattern(w, h)
    rows = (("{RESIZE_SHORTEST, 0, true, false, {0, 0, 0}}", crop(shortest(p, 8, BILINEAR), 8, False)),
            ("{RESIZE_SHORTEST, 0, false, true, {0, 0, 0}}", crop(shortest(p, 8, BICUBIC), 8, True)),
            ("{RESIZE_SHORTEST, 11, false, false, {0, 0, 0}}", crop(shortest(p, 11, BICUBIC), 8, False)),
            ("{RESIZE_SHORTEST, 11, true, true, {0, 0, 0}}", crop(shortest(p, 11, BILINEAR), 8, True)),
            ("{RESIZE_SQUASH, 0, true, false, {0, 0, 0}}", p.resize((8, 8), BILINEAR)),
            ("{RESIZE_SQUASH, 11, false, true, {0, 0, 0}}", crop(p.resize((11, 11), BICUBIC), 8, True)),
            ("{RESIZE_LONGEST, 0, false, false, {1, 2, 250}}", longest(p, 8, BICUBIC, (1, 2, 250))),
            ("{RESIZE_LONGEST, 0, true, false, {0, 0, 0}}", longest(p, 8, BILINEAR, (0, 0, 0))),
            ("{RESIZE_NONE, 0, false, true, {0, 0, 0}}", crop(p, 8, True)))
    for how, out in rows:
        print("    {%d, %d, %s, %s}," % (w, h, how, crc(out)))
