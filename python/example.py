"""A drawn picture, two of its regions, and what they are like: PYTHONPATH=python python3 python/example.py"""
import numpy as np

import maskinv

picture = np.full((96, 96, 3), 235, np.uint8)
y, x = np.mgrid[:96, :96]
disc = (x - 28) ** 2 + (y - 30) ** 2 < 18 ** 2
square = (abs(x - 68) < 16) & (abs(y - 64) < 16)
picture[disc] = (210, 40, 40)
picture[square] = (40, 70, 200)

with maskinv.open() as m:  # the model inside the library
    r = m.invert(picture, [disc, square], texts=["a red circle", "a blue square"],
                 progress=lambda mask, step: print(end=".", flush=True))
    print()
    for losses, texts in zip(r.losses, r.texts):
        print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}:", ", ".join(f"{t} {100 * p:.0f} %" for t, _, p in texts))
    maps = m.explain(picture, embeddings=r.embeddings)
    where = [tuple(int(i) for i in np.unravel_index(a.argmax(), a.shape)) for a in r.maps]
    print("maps", maps.shape, "of explain; brightest in those of the inversion:", where)
