#!/bin/sh
# test_library.sh - the library as its users have it: names, headers, a C and a C++ program against an installed prefix, the
# command line's bytes, four threads on one model, and an uninstall that leaves nothing.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
cc=${CC:-cc} cxx=${CXX:-c++} status=0
verdict() { # name, what was found that should not be there
    if [ -z "$2" ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1: $2"; status=1; fi
}
skip() { echo "[  SKIPPED ] $1: $2"; }

if [ "$(uname -s)" = Darwin ] || [ ! -f libmaskinv.so.1 ]; then
    echo "[ RUN      ] library" && skip library "no libmaskinv.so.1 here (make)" && exit 0
fi
quiet_make() { MAKEFLAGS= MAKELEVEL= make -s "$@" >"$out/make.log" 2>&1 || { cat "$out/make.log"; exit 1; }; }

echo "[ RUN      ] installed"
quiet_make install DESTDIR="$out/stage" PREFIX=/opt/maskinv
p=$out/stage/opt/maskinv
verdict installed "$(for f in bin/maskinv bin/train lib/libmaskinv.a lib/libmaskinv.so lib/libmaskinv.so.1 \
    include/maskinv/maskinv.h include/maskinv/core/maskinv.h lib/pkgconfig/maskinv.pc share/man/man1/maskinv.1 share/man/man1/train.1 \
    share/bash-completion/completions/maskinv share/zsh/site-functions/_maskinv; do
    [ -f "$p/$f" ] || echo "$f is missing"; done
    find "$out/stage" -path "$p" -prune -o -type f -print
    find "$p/include" -name threads.h -o -name err.h)"

echo "[ RUN      ] one version everywhere"
version=$(sed -n 's/^.define MASKINV_VERSION "\(.*\)"/\1/p' face/face.h)
verdict "one version everywhere" "$(for f in maskinv.h python/setup.py web/node/package.json debian/changelog packaging/maskinv.rb \
    packaging/default.nix docs/maskinv.1 docs/train.1; do grep -q "[ \"(]$version[\")]" "$f" || echo "$f: not $version"; done)"

echo "[ RUN      ] names"
verdict names "$({ nm -D --defined-only "$p/lib/libmaskinv.so.1"; nm -g --defined-only "$p/lib/libmaskinv.a"; } |
    awk 'NF == 3 && $3 !~ /^(maskinv|mi|ag|clip|explain)_/ { print $3 }')"

echo "[ RUN      ] macros"
echo '#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>' >"$out/base.c"
cat "$p"/include/maskinv/*.h "$p"/include/maskinv/core/*.h | sed -n 's/^# *define \([A-Za-z_0-9]*\).*/\1/p' >"$out/macros"
verdict macros "$(grep -v '^\(MASKINV\|AG\|CLIP\|EXPLAIN\)_' "$out/macros")"

echo "[ RUN      ] headers alone and together"
: >"$out/every.c"
bad=$(for h in "$p"/include/maskinv/*.h "$p"/include/maskinv/core/*.h; do
    name=${h#"$p/include/"}
    echo "#include <$name>" >>"$out/every.c"
    echo "#include <$name>" >"$out/one.c"
    for c in "$out/one.c" "$out/every.c"; do
        $cc -std=c11 -Wall -Wextra -Werror -pedantic -I"$p/include" -fsyntax-only "$c" 2>&1 || echo "$name: not in C11"
        $cxx -std=c++11 -x c++ -Wall -Wextra -Werror -I"$p/include" -fsyntax-only "$c" 2>&1 || echo "$name: not in C++"
    done
done)
verdict "headers alone and together" "$bad"

echo "[ RUN      ] ten lines of use"
verdict "ten lines of use" "$(for h in "$p"/include/maskinv/*.h "$p"/include/maskinv/core/*.h; do
    head -n 12 "$h" | grep -q '^ \*     ' || echo "${h##*/} opens with no example"; done)"

model=test/data/nanogelu-openclip-bf16
image=test/data/image.png
export PKG_CONFIG_PATH="$out/usr/lib/pkgconfig"
quiet_make install PREFIX="$out/usr" DESTDIR=
flags=$(pkg-config --cflags --libs maskinv)

echo "[ RUN      ] a C program"
bad=$($cc -std=c11 -Wall -Wextra -Werror test/library.c -o "$out/c" $flags -Wl,-rpath,"$out/usr/lib" 2>&1 &&
    "$out/c" "$model" $image test/data/mask0.png test/data/mask1.png "$out/c.bin" >"$out/c.txt" 2>&1 || cat "$out/c.txt")
./maskinv invert -m $model -i $image -k test/data/mask0.png -k test/data/mask1.png -o "$out/cli" >/dev/null
head -c "$(($(wc -c <"$out/cli/embeddings.npy") - 128))" "$out/c.bin" >"$out/c.e"
tail -c +129 "$out/cli/embeddings.npy" | cmp -s - "$out/c.e" || bad="$bad other embeddings than the command line's"
./maskinv explain -m $model -i $image -e "$out/cli/embeddings.npy" -o "$out/cli" >/dev/null
tail -c +"$(($(wc -c <"$out/c.e") + 1))" "$out/c.bin" >"$out/c.map"
tail -c +129 "$out/cli/0.map.npy" | cmp -s - "$out/c.map" || bad="$bad another map than the command line's"
grep -q 'no/such/model' "$out/c.txt" || bad="$bad no error in words"
verdict "a C program" "$bad"

echo "[ RUN      ] a C program, linked statically with the library"
bad=$($cc -std=c11 test/library.c -o "$out/static" $(pkg-config --cflags maskinv) "$out/usr/lib/libmaskinv.a" \
    $(pkg-config --static --libs maskinv | sed 's/-lmaskinv//') 2>&1 &&
    "$out/static" "$model" $image test/data/mask0.png test/data/mask1.png "$out/s.bin" >/dev/null 2>&1 || echo "does not run")
cmp -s "$out/c.bin" "$out/s.bin" || bad="$bad other bytes"
verdict "a C program, linked statically with the library" "$bad"

echo "[ RUN      ] a C++ program"
bad=$($cxx -std=c++11 -Wall -Wextra -Werror test/library.cpp -o "$out/cpp" $flags -Wl,-rpath,"$out/usr/lib" 2>&1 &&
    "$out/cpp" "$model" >"$out/cpp.txt" 2>&1 || cat "$out/cpp.txt")
grep -q 'mask 0: 2 found in row 0, column 0, 0 to 1 expected' "$out/cpp.txt" || bad="$bad no error in words"
grep -q 'core: [1-9].* an arena' "$out/cpp.txt" || bad="$bad no core"
verdict "a C++ program" "$bad"

echo "[ RUN      ] uninstalled"
quiet_make uninstall DESTDIR="$out/stage" PREFIX=/opt/maskinv
quiet_make uninstall PREFIX="$out/usr" DESTDIR=
verdict uninstalled "$(find "$out/stage" "$out/usr" ! -type d)"

echo "[ RUN      ] four threads on one model, under ThreadSanitizer"
if ! command -v clang >/dev/null || [ ! -f weights/default/merges.txt ]; then
    skip "four threads on one model, under ThreadSanitizer" "no clang or no default model here"
else
    quiet_make -j2 BLAS=none SAN=tsan programs WANTED=build/none-tsan/test/threads
    fixed=$(command -v setarch >/dev/null && echo setarch -R) # ThreadSanitizer wants addresses that do not move
    said=$($fixed build/none-tsan/test/threads weights/default 2>&1) || said="exit $? $said"
    verdict "four threads on one model, under ThreadSanitizer" \
        "$([ "$said" = "four threads, the same bytes" ] || echo "$said" | head -n 40)"
fi
exit $status
