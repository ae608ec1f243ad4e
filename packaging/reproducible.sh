#!/bin/sh
# reproducible.sh - make reproducible: builds what stands here twice, in two folders of different names, and compares the
# bytes of programs and libraries. Minutes. It exits 1 where they differ.
cd "$(dirname "$0")/.." || exit 1
cc=${1:-cc} blas=${2:-none}
at=$(mktemp -d) || exit 1
trap 'rm -rf "$at"' EXIT
for folder in "$at/one" "$at/longer-name/two"; do
    mkdir -p "$folder" && tar cf - --exclude=./build --exclude=./.git . | tar xf - -C "$folder" &&
        make -s -C "$folder" -j"$(nproc)" CC="$cc" BLAS="$blas" REPRODUCIBLE=1 all >"$at/log" 2>&1 || { tail "$at/log"; exit 1; }
done
differ=0
for f in maskinv train libmaskinv.a libmaskinv.so.1; do
    [ -e "$at/one/$f" ] || continue
    if cmp -s "$at/one/$f" "$at/longer-name/two/$f"; then echo "$f: the same $(wc -c <"$at/one/$f") bytes"; else echo "$f: differs"; differ=1; fi
done
exit $differ
