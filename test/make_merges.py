#!/usr/bin/env python3
"""Writes test/data/merges.json: small texts and the merges that plain byte-pair encoding learns from them, counting every
pair of every word anew at each step.
    python3 test/make_merges.py >test/data/merges.json"""
import collections, html, json, random
from make_tokens import CHARACTER, base, split


def segment(word, merges, made):
    """As CLIP encodes: the pair of least rank, everywhere from left to right, then the next."""
    s = [CHARACTER[b] for b in word.encode()]
    s[-1] += '</w>'
    while True:
        ranks = [merges[p] for p in zip(s, s[1:]) if p in merges]
        if not ranks:
            return s
        pair, out, i = made[min(ranks)], [], 0
        while i < len(s):
            n = 2 if tuple(s[i:i + 2]) == pair else 1
            out.append(''.join(s[i:i + n]))
            i += n
        s = out


def train(texts, most):
    words = collections.Counter(w for t in texts for w in split(html.unescape(html.unescape(t)).strip().lower())
                                if w not in ('<|startoftext|>', '<|endoftext|>'))
    order = {s: i for i, s in enumerate(base + [s + '</w>' for s in base])}
    merges, made = {}, []
    while len(made) < most:
        counts = collections.Counter()
        for w, times in words.items():
            s = segment(w, merges, made)
            for p in zip(s, s[1:]):
                counts[p] += times
        if not counts:
            break
        best = min(counts, key=lambda p: (-counts[p], order[p[0]], order[p[1]]))
        merges[best] = len(made)
        made.append(best)
        order.setdefault(best[0] + best[1], len(order))
    return made


rng = random.Random(5)
names = 'cat dog tricycle elephant blue red green striped small large circle triangle star house on under the a of and'
captions = [' '.join(rng.choices(names.split(), k=rng.randrange(3, 9))) for _ in range(300)]
corpora = [
    (captions, 200),                                                        # as training does
    ([''.join(rng.choices('ab', k=rng.randrange(1, 12))) for _ in range(60)], 400),  # all that there is: overlaps, ties
    ([''.join(rng.choices('abc', k=rng.randrange(1, 40))) for _ in range(40)], 600),
    (['aaaaaaaaaaaaaaaaaaaaaaa', 'aaaaaaa aaaa', 'aaa'], 30),
    (['ΟΔΟΣ ΟΔΟΥ όσος', "it's don't &amp;amp; we'll 2024!!!", '日本語 日本', '🐶🐱🐶🐶 naïve <|endoftext|> <|endoftext|>'], 60),
    (['a', 'b 1', '   ', ''], 9),                                           # nothing to merge
    (['ab cd', 'ef', 'ÿz {}'], 3),                                          # ties alone
]
print('[')
for i, (texts, most) in enumerate(corpora):
    lines = [' '.join(m) for m in train(texts, most)]
    print(json.dumps({'texts': texts, 'most': most, 'merges': lines}) + (',' if i + 1 < len(corpora) else ''))
print(']')
