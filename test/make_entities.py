#!/usr/bin/env python3
"""Writes entities.h, HTML5's named character references, from Python's html.entities.html5:
    python3 test/make_entities.py >text/entities.h"""
from html.entities import html5

names = sorted({n.rstrip(';') for n in html5})
for n in names:
    assert n.isascii() and n.isalnum() and n + ';' in html5 and len(html5[n + ';']) <= 2
    assert n not in html5 or html5[n] == html5[n + ';']
legacy = [n for n in names if n in html5]
count, longest, legacy_longest = len(names), max(map(len, names)), max(map(len, legacy))

print(f'''/* entities.h - HTML5's {len(html5)} named character references. Made by test/make_entities.py: do not edit.
 *
 * {count} names, in the order of their bytes, stand one after another in entity_names; entity i is its bytes from
 * entities[i].at to entities[i + 1].at. {len(legacy)} of them also count without their semicolon. Included by words.c alone.
 */
#ifndef ENTITIES_H
#define ENTITIES_H
#include <stdint.h>

enum {{ ENTITY_COUNT = {count}, ENTITY_LONGEST = {longest}, ENTITY_BARE_LONGEST = {legacy_longest} }};

typedef struct {{
    uint16_t at;           /* where its name starts */
    uint16_t second;       /* second code point, 0 if none */
    uint32_t first : 31;   /* first code point */
    uint32_t bare : 1;     /* also without semicolon */
}} entity;

#if defined(__GNUC__) /* C promises strings of 4,095 characters only; every compiler takes more */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#endif
static const char entity_names[] =''')
line = ''
for n in names:
    if len(line) + len(n) > 112:
        print(f'    "{line}"')
        line = ''
    line += n
print(f'''    "{line}";
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

static const entity entities[ENTITY_COUNT + 1] = {{''')
at, line = 0, '   '
for n in names:
    v = [ord(c) for c in html5[n + ';']] + [0]
    cell = f' {{{at}, {v[1]:#x}, {v[0]:#x}, {int(n in html5)}}},'
    if len(line) + len(cell) > 120:
        print(line)
        line = '   '
    line += cell
    at += len(n)
cell = f' {{{at}, 0, 0, 0}},'
if len(line) + len(cell) > 120:
    print(line)
    line = '   '
print(line + cell)
print('''};
#endif''')
assert at < 65536
