#!/usr/bin/env python3
"""Writes test/data/tokens_more.json: texts and what CLIP's tokenizer makes of them, truncated to 77 ids. By Python's own
html.unescape, str.lower, str.strip and unicodedata, and the plainest byte-pair encoding there is; nothing of the C code.
Where the `regex` module (the one CLIP splits with) is installed, every split is also held against it.
    python3 test/make_tokens.py >test/data/tokens_more.json
A case has "text", or "bytes" (hexadecimal, not valid UTF-8). Characters are ones that Unicode 3.2 had already, so that the
numbers do not hang on the version of Python or utf8proc."""
import html, json, os, random, re, sys, unicodedata
try:
    import regex
    CLIP = regex.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
                         regex.IGNORECASE)
except ImportError:
    CLIP = None

HERE = os.path.dirname(os.path.abspath(__file__))
MOST, MERGES = 77, 48894
with open(os.path.join(HERE, '../weights/clip/merges.txt'), encoding='utf-8') as f:
    merges = [tuple(line.split()) for line in f.read().split('\n')[1:MERGES + 1]]
assert len(merges) == MERGES

printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 255 and b != 173]
others = [b for b in range(256) if b not in printable]
CHARACTER = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
base = [CHARACTER[b] for b in printable + others]
ID = {s: i for i, s in enumerate(base + [s + '</w>' for s in base] + [a + b for a, b in merges])}
RANK = {m: i for i, m in enumerate(merges)}
START, END = len(ID), len(ID) + 1
assert END == 49407

SPACE = set('\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000') | {chr(c) for c in range(0x2000, 0x200b)}
WHOLE = ['<|startoftext|>', '<|endoftext|>', "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
IOTA_BELOW = '\u0345'  # ignoring case it counts as a letter for the negated set, and as none for \p{L}


def kind(c):
    if c in SPACE or c == IOTA_BELOW:
        return None
    k = unicodedata.category(c)[0]
    return k if k in 'LN' else 'other'


def split(text):
    out, i = [], 0
    while i < len(text):
        whole = [w for w in WHOLE if text[i:i + len(w)].replace('\u017f', 's').lower() == w]
        k = kind(text[i])
        n = len(whole[0]) if whole else 1
        if not whole and k in ('L', 'other'):
            while i + n < len(text) and kind(text[i + n]) == k:
                n += 1
        if k or whole:
            out.append(text[i:i + n])
        i += n
    assert CLIP is None or out == CLIP.findall(text), (text, out, CLIP.findall(text))
    return out


LIGATURES = {'Ĳ': 'IJ', 'ĳ': 'ij', 'ŉ': '\u02bcn', 'Ǳ': 'DZ', 'ǲ': 'Dz', 'ǳ': 'dz', 'Ǆ': 'DŽ', 'ǅ': 'Dž', 'ǆ': 'dž', 'Ǉ': 'LJ', 'ǈ': 'Lj',
             'ǉ': 'lj', 'Ǌ': 'NJ', 'ǋ': 'Nj', 'ǌ': 'nj', 'ﬀ': 'ff', 'ﬁ': 'fi', 'ﬂ': 'fl', 'ﬃ': 'ffi', 'ﬄ': 'ffl', 'ﬅ': '\u017ft', 'ﬆ': 'st'}
WIDTHS = {0x3000: ' '} | {c: unicodedata.normalize('NFKC', chr(c)) for c in range(0xff01, 0xfff0)}
CONTROLS = {c: None for c in [*range(9), 0xb, *range(0xe, 0x20), 0x7f, *range(0x206a, 0x2070), 0xfeff, *range(0xfff9, 0xfffd)]}


def repair(text):
    """ftfy.fix_text's steps that MODEL.md 3 lists, line by line until nothing changes"""
    out, references = [], True
    for line in re.findall(r'[^\n]*\n|[^\n]+', text):
        references = references and '<' not in line
        while True:
            old = line
            if references:
                line = re.sub(r'&#?[0-9A-Za-z]{1,24};', lambda m: m[0] if ';' in html.unescape(m[0]) else html.unescape(m[0]), line)
            line = re.sub('[\x80-\x9f]', lambda m: m[0].encode('latin-1').decode('windows-1252', 'ignore') or m[0], line)
            line = line.translate(str.maketrans(LIGATURES)).translate(WIDTHS)
            line = re.sub('[\u02bc\u2018-\u201b]', "'", line)
            line = re.sub('[\u201c-\u201f]', '"', line)
            line = re.sub('\r\n|[\r\u2028\u2029\x85]', '\n', line)
            line = re.sub('\x1b\\[[0-9;]*[A-Za-z]', '', line).translate(CONTROLS)
            line = unicodedata.normalize('NFC', line)
            if line == old:
                break
        out.append(line)
    return ''.join(out)


def encode_word(word):
    if word in ('<|startoftext|>', '<|endoftext|>'):
        return [START + (word == '<|endoftext|>')]
    s = [CHARACTER[b] for b in word.encode()]
    s[-1] += '</w>'
    while True:
        ranks = [RANK[p] for p in zip(s, s[1:]) if p in RANK]
        if not ranks:
            return [ID[x] for x in s]
        pair, out, i = merges[min(ranks)], [], 0
        while i < len(s):
            n = 2 if tuple(s[i:i + 2]) == pair else 1
            out.append(''.join(s[i:i + n]))
            i += n
        s = out


def encode(text):
    text = html.unescape(html.unescape(repair(text))).strip().lower()
    ids = [START] + [i for w in split(text) for i in encode_word(w)] + [END]
    return ids if len(ids) <= MOST else ids[:MOST - 1] + [END]


TEXTS = r"""
ΟΔΟΣ¦ΣΟΦΟΣ ΣΙΣΥΦΟΣ¦Σ¦ΑΣ¦ΑΣΑ¦ΑΣ.¦ΑΣ.Α¦ΑΣ'Α¦ΑΣ’¦ΑΣ·Α¦Α.Σ¦.Σ¦1Σ¦aΣ1¦ΑΣ\u00ad¦ΑΣ\u00adΒ¦Α\u0301Σ¦ΑΣ\u0301¦ΑΣ\u0301Β¦\u02b0Σ¦A\u02b0Σ
ªΣ¦ºΣb¦ⅣΣ¦ⅳΣⅳ¦ⓐΣ¦ⒶΣⒷ¦\U0001f170Σ¦ΑΣΣ¦ΣΣΣ¦ΑΣ^Α¦ΑΣ:¦A\u2024Σ¦A\uff0eΣ¦A\uff07Σx¦ǅΣ¦ΑΣ\u200b¦ΑΣ\u200bΑ¦\u0345Σ¦Α\u0345Σ¦ΑΣ\u0345Α¦ᾼΣ ᾳς¦ΑΣ ΑΣ¦ΑΣ\u00a0Α
ΌΣΟΝ ΖΗΣ ΦΑΊΝΟΥ¦Ὀδυσσεύς ΟΔΥΣΣΕΥΣ¦ΣAΣ-ΣAΣ¦&Sigma;&Sigma;¦A&#931;¦A&#931;B¦ΑΣ&shy;Α
İ¦İİİ¦İSTANBUL İzmir ıI iI¦DİYARBAKIR¦&Idot;¦&#304;x¦&#x130;&#x130;¦aİΣ¦İΣ¦Σİ¦ΑΣİ¦I\u0307¦ı¦ŞĞÜÇÖ
ﬁ ﬂ ﬀ ﬃ ﬅ ﬆ¦ŉ ǰ ẖ ẞ ß¦ẞTRASSE¦ſ¦it'ſ¦'ſt¦ſs 'S 'ſ''s¦<|ſtartoftext|>¦<|STARTOFTEXT|> x¦K Å Ω¦\u212a\u212b\u2126¦Ⱥ Ⱦ ⱥ¦Ǆ ǅ ǆ¦ʰ ʷ ˠ¦ÀÉÎÕÜ¦ÿ Ÿ¦\u1c80\u1c81
e\u0301 é¦n\u0303 ñ¦o\u0302\u0301¦\u0301¦a\u0345b¦\u0345¦\u0345\u0345!¦!\u0345!¦\u0345's¦x\u20dd¦क्षि¦ก็¦ห้อง¦\u0e33¦한국어¦한국어¦ᄀ¦が が¦カ\u3099
&notit;¦&notin;¦&not¦&notx¦&amp;lt;¦&amp;amp;lt;¦&amp;amp;amp;lt;¦&lt¦&LT;¦&ltx¦&gt;&GT¦&quot;¦&apos;¦&apos¦&#39;¦&#39¦&#x27;s¦dog&#39;s¦dog&#8217;s¦&nbsp¦a&nbsp;b¦a&nbspb
&#128;¦&#x80¦&#129;¦&#130;&#131;¦&#150;¦&#159;¦&#160;¦&#x110000;¦&#1114111;¦&#1114112;¦&#99999999999999999999;¦&#x0;¦&#0¦&#00000065;¦&#55296;¦&#xDFFF;¦&#xD7FF;¦&#xFFFE;¦&#xfdd0;¦&#xfdef;¦&#xfdf0;¦&#x1FFFF;¦a&#1;b¦a&#11;b¦a&#12;b¦a&#13;b¦a&#127;b¦a&#27;b¦a&#28;b
&¦&&¦&;¦&#¦&#;¦&#x¦&#x;¦&#xg;¦&#X41;¦&#x4G¦& amp;¦&am¦&ampamp;¦&AMP¦&Amp;¦&aMP;¦&copy2024¦&copy;&COPY&reg&REG;¦&eacute¦&Eacute;¦&EACUTE;¦&CounterClockwiseContourIntegral;¦&CounterClockwiseContourIntegralx;¦&counterclockwisecontourintegral;
&NotEqualTilde;¦&nvlt;¦&fjlig;¦&ThickSpace;¦&bne;¦&race;¦&acE;¦&zwnj;¦&zwj;¦&ZeroWidthSpace;¦&InvisibleTimes;¦&Afr;¦&zopf;¦&Tab;a¦&NewLine;¦&sup2;¦&frac12¦&frac12x¦&frac13;¦&frac1¦&there4;¦&there4¦&thetasym;¦&hellip¦&hellip;¦&mdash;&ndash;¦&euro;¦&euro¦&yen¦&pi;&Pi;
&abcdefghijklmnopqrstuvwxyzabcdefghijklmnop;¦&ltabcdefghijklmnopqrstuvwxyzabcdefghijklmnop;¦&amp<b¦&amp&lt¦&lt;é¦&lté;¦&eacuteé¦&gt=1¦a&lt=b¦&amp;#60;¦&amp;#38;lt;¦&#38;#38;#60;¦&#x26;eacute;¦&#x26¦&#38lt;¦&#38;lt¦&amp;lt&¦AT&T¦R&D &c.¦?a=1&copy=2&lang=en&reg
x² y³ ½ ¾ ⅔ ①②③ ⑩ ㊿¦१२३ ١٢٣ ۴۵۶ ০১¦𝟏𝟐𝟑 Ⅻ ⅻ ↁ¦〇一二三¦1234567890¦1,000.50¦v2.0b3¦3D 2x4¦½cup¦四十二¦12a34¦٣٫١٤¦\u0bf0\u0bf1¦\u3007\u3021
日本語 ひらがな カタカナ ｶﾅ¦你好，世界！¦«quoted» „low“ ‚x‘¦نص عربي¦العَرَبِيَّة¦עִבְרִית¦हिन्दी में¦ภาษาไทย¦Việt Nam¦Ærøskøbing Þór¦Łódź Žižkov¦Ψάρι¦Այբուբեն ԱՅԲ¦ႠႡႢ ა¦ჭიქა¦ᏣᎳᎩ¦ᚠᚢᚦ¦𐐀𐐁𐐨¦𝒜𝓑𝔸¦ⰀⰁ
😀¦👨‍👩‍👧‍👦¦👍🏽¦🇩🇪🇫🇷¦❤️¦☕️ tea¦🏳️‍🌈¦1️⃣¦#️⃣ *️⃣¦a😀b¦😀😀😀¦©®™¦♠♣♥♦¦→←↑↓¦∑∫√∞¦\U000e0041¦\U0001f3f4\U000e0067\U000e007f¦⒜⒝¦€£¥₽¦°C ℃ №
a\u00a0b¦a\u2003b¦a\u3000b¦a\u200bb¦a\ufeffb¦\ufeffstart¦a\u2060b¦a\u200db¦a\u180eb¦a\u0085b¦a\u001cb¦\u001ca\u001f¦\u001c \u001d\u001ea¦a\u001c\u001d!¦a\u2028b\u2029c¦a\u202fb¦a\u205fb¦a\u1680b¦\u0085¦\u001c¦!\u001c!¦a\u0000b¦\u000b a\u000c¦\u007f¦a\u007fb¦\u0080\u009f¦\u2800
don't¦DON'T¦we'll we've we're I'm I'd he's can't¦'tis 'twas¦'s¦''s¦'''¦'re're¦'rest¦'very¦'llama¦'dog¦'more¦'team¦it’s don’t¦rock'n'roll¦!'s¦a's's¦'S'T'RE¦l'été d'or¦'m'¦O'Reilly's
<|endoftext|>¦<|startoftext|><|endoftext|>¦<|EndOfText|>¦<|endoftext|> <|endoftext|>¦<|endoftext|>s¦x<|startoftext|>y¦!<|endoftext|>¦!!! <|endoftext|>¦<|endoftext|>!¦<|endoftext¦<|endoftext>¦<|end|>¦&lt;|endoftext|&gt;¦&lt;&#124;startoftext&#124;&gt;¦</w>¦a</w>¦cat</w> dog
...¦!!!???¦--- ___ ***¦:-) ;-) :D¦http://example.com/a?b=1&c=2#d¦user@example.com¦#hashtag @name¦C++ C# .NET¦a/b\\c¦[x](y){z}¦"quoted" 'single'¦$5.00 50% 10°¦~`^¦snake_case camelCase¦e=mc²¦¿Qué? ¡Sí!¦…¦–—―¦tab\there¦"¦\\¦\u005c\u0022
a photo of a cat¦A PHOTO OF A DOG¦a bad photo of the tricycle.¦itap of a large car¦a rendering of many golden retrievers in a video game.¦pneumonoultramicroscopicsilicovolcanoconiosis¦Donaudampfschifffahrtsgesellschaft¦aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa¦hahahahahahahahahahahaha¦nananananananana batman¦mississippi¦banana bandana¦onomatopoeia¦asdfghjkl qwertyuiop¦xyzzy¦zzzzzzz¦ththththth inininin
"""
BYTES = ['61ff62', 'c3', 'c328', 'e28282', 'e282', 'e2', 'f09f9880', 'f09f98', 'f09f', 'f0', 'f0808080', 'eda080', 'edbfbf',
         'ed9fbf', 'ee8080', 'c080', 'c1bf', 'c280', 'e08080', 'e09fbf', 'e0a080', 'f08fbfbf', 'f0908080', 'f48fbfbf', 'f4908080',
         'f5808080', 'ff', 'fe80', '80', '8080', 'bf61', '61e28261', 'f09f9861', 'f09ff09f9880', 'c3c3a9', 'e2e282ac',
         '666f6f80626172', 'cea3ff', 'cea3ce', '41cea3e2', '26c3616d703b', '26616d70c3', '3cc3a93e', '27f3', 'fbbfbfbfbf', 'fc']


def alphabet():
    """Characters to throw together: old ones, of every kind, and pieces that mean something."""
    plain = [c for c in map(chr, range(1, 0x20000)) if unicodedata.ucd_3_2_0.category(c) not in ('Cn', 'Cs', 'Co')]
    pieces = list('aAeEsStTzZ ΣΣΣσςİıſ\u0345\u0301\u00ad.\'’&#;<|>0123') + ['&amp;', '&lt', '&#931;', '&#304;', '&not', '&nbsp;', 'Σ.',
             "'s", "'ſ", '<|endoftext|>', '<|startoftext|>', 'the', 'ing', 'ΑΣ', '&#x', '&Eacute', '&#13', '\u001c', '\u00a0']
    return plain, pieces


def texts():
    for line in TEXTS.strip('\n').split('\n'):
        for p in line.split('¦'):
            t = p.encode('latin-1', 'backslashreplace').decode('unicode_escape') if '\\' in p else p
            yield t.replace('\0', '')  # a C string ends there
    rng, (plain, pieces) = random.Random(20240607), alphabet()
    for i in range(150):
        yield ''.join(rng.choice(plain if rng.random() < .25 else pieces) for _ in range(rng.randrange(2, 24)))
    yield 'ab ' * 37 + 'ab'   # 40 ids
    yield 'a ' * 75           # just fits
    yield 'a ' * 76           # one too many
    yield 'a ' * 74 + 'tricycles <|endoftext|>'


def main():
    cases = [{'text': t, 'ids': encode(t)} for t in dict.fromkeys(texts())]
    cases += [{'bytes': b, 'ids': encode(bytes.fromhex(b).decode('utf-8', 'replace'))} for b in BYTES]
    print('[\n' + ',\n'.join(json.dumps(c) for c in cases) + '\n]')
    print(len(cases), 'cases,', 'regex agrees' if CLIP else 'without regex', file=sys.stderr)


if __name__ == '__main__':
    main()
