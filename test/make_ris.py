"""Makes test/data/ris.h: RIS's embeddings of mask0 and mask1 on image.png by nano-hf-f32 at twice its side (MODEL.md 10.6).

    python3 test/make_ris.py > test/data/ris.h      # from the tree's top; needs PyTorch and Pillow

In float64, from the definition: v = .95 z(patch tokens times each cell's share of the mask, before each of the last three
blocks) + .05 z(the masked crop); pixels by Pillow's bicubic.
"""
import math, os, sys
import numpy as np
import torch
from PIL import Image
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_methods import DATA, Vit

SIDE, SHARE, FILL, MASKED = 64, .95, .485, 3
MEAN, STD = np.array([.48145466, .4578275, .40821073]), np.array([.26862954, .26130258, .27577711])  # CLIP's; the model names none


def pixels_of(photo):
    small = np.asarray(photo.resize((SIDE, SIDE), Image.BICUBIC), float) / 255
    return torch.from_numpy(((small - MEAN) / STD).transpose(2, 0, 1).copy())


def shares(mask, g):
    """Mean of the mask [h,w] over each of g x g cells, pixels at their borders by the part that lies inside."""
    def parts(n):
        w = np.zeros((g, n))
        for c in range(g):
            for i in range(n): w[c, i] = max(0, min(i + 1, (c + 1) * n / g) - max(i, c * n / g))
        return w / w.sum(1, keepdims=True)
    return torch.from_numpy((parts(mask.shape[0]) @ mask @ parts(mask.shape[1]).T).reshape(-1, 1))


def embed(m, photo, share):
    x = m.embed(pixels_of(photo))
    for i, b in enumerate(m.blocks):
        if i >= len(m.blocks) - MASKED: x = torch.cat([x[:1], x[1:] * share])
        x = m.block(b, x)
    return m.project(x)[0]


def masked_crop(photo, mask):
    rgb = np.asarray(photo, float)
    rgb = mask[..., None] * rgb + (1 - mask[..., None]) * 255 * (MEAN + FILL * STD)
    ys, xs = np.nonzero(mask > 0)
    rgb = rgb[ys.min():ys.max() + 1, xs.min():xs.max() + 1]
    return Image.fromarray(np.floor(np.clip(rgb, 0, 255) + .5).astype(np.uint8))


def main():
    torch.set_grad_enabled(False)
    m, photo = Vit('nano-hf-f32'), Image.open(DATA + 'image.png').convert('RGB')
    g = SIDE // m.patch
    for name in ('mask0.png', 'mask1.png'):
        mask = np.asarray(Image.open(DATA + name).convert('L').resize(photo.size, Image.NEAREST), float) / 255
        z = SHARE * embed(m, photo, shares(mask, g)) + (1 - SHARE) * embed(m, masked_crop(photo, mask), torch.ones(g * g, 1))
        print('    {' + ', '.join('%.8gf' % v if '.' in '%.8g' % v or 'e' in '%.8g' % v else '%.8g.f' % v for v in z.tolist()) + '},')


if __name__ == '__main__': sys.exit(main())
