#!/bin/sh
# table.sh - make cross: builds the whole program for each of cross/targets, runs it, compares its numbers with this
# machine's, and says all of it as a table.
#
#     cross/table.sh [TARGET...]       # all; programs and results lie in build/cross/TARGET
#
# "same numbers": a region of a scene inverted by the built-in model, in ten steps; embedding, losses and the texts'
# similarities against this machine's BLAS=none; the largest difference, where the bytes differ. The model's hash is the same
# on every machine. Exits 1 where a target that could be built fails, or its numbers are further than 2e-3 away (a sum in
# another order moves AdamW's first steps).
cd "$(dirname "$0")/.." || exit 1
at=build/cross
failed=0
mkdir -p $at
cache=$(command -v ccache >/dev/null && echo ccache)
has() { command -v "$1" >/dev/null 2>&1; }

emulator() { # qemu's name here: its own, or Debian's static one
    case $1 in
    -) [ "$(uname -sm)" = "Linux x86_64" ] && echo env ;;
    wine) for e in wine wine64 /usr/lib/wine/wine64; do has $e && echo $e && break; done ;; # Debian's wine64 has no name in PATH
    *) for e in "$1" "$1-static"; do has "$e" && echo "$e" && break; done ;;
    esac
}

inverts() { # what runs it, the program, where to: the results of one region
    # shellcheck disable=SC2086
    $1 "$2" invert -i $at/scene/images/000000.png -k $at/scene/masks/000000_0.png -t "a photo of a car" -t "a photo of a fish" \
        --threads 2 -o "$3" >"$3.txt" 2>&1
}

numbers() { # a result: embedding, losses, similarities, one a line
    tr ',[]{}:' '\n\n\n\n\n\n' <"$1/result.json" | grep -E '^ *-?[0-9]+\.[0-9]+([eE][-+][0-9]+)? *$'
}

model() { sed -n 's/.*"model_hash":[[:space:]]*"\([0-9a-f]*\)".*/\1/p' "$1/result.json"; }

same() { # two results: "bytes", or the largest difference
    [ -n "$(model "$1")" ] && [ "$(model "$1")" = "$(model "$2")" ] || { echo "another hash"; return; }
    cmp -s "$1/embeddings.npy" "$2/embeddings.npy" && echo bytes && return
    numbers "$1" >"$2.here" && numbers "$2" >"$2.there" &&
        paste -d ' ' "$2.here" "$2.there" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= most)) most = d; if (NF != 2) bad = 1 }
            END { if (bad || NR < 64) print "no numbers"; else printf "%.1e\n", most }'
}

sh web/libraries build/libraries || { echo "cross: skipped, no sources of the libraries"; exit 0; }
make -s BLAS=none build/none/maskinv >$at/here.log || exit 1
[ -e $at/scene ] || build/none/maskinv scenes --kind drawn --objects 3 --count 1 --seed 10 --size 96 -o $at/scene >/dev/null || exit 1
inverts env build/none/maskinv $at/here || { cat $at/here.txt; exit 1; }

printf '%-8s  %-7s %-7s %-13s %10s %8s\n' target builds runs "same numbers" "size, MB" seconds
row() { printf '%-8s  %-7s %-7s %-13s %10s %8s\n' "$@" | tee "$at/row"; }
while read -r name compiler run system package; do
    case $name in '#'*|'') continue ;; esac
    [ $# -eq 0 ] || case " $* " in *" $name "*) ;; *) continue ;; esac
    has "$compiler" || { row "$name" "skipped: no $compiler ($package)"; continue; }
    # Debian only recommends a compiler's C library
    echo '#include <stdio.h>' | "$compiler" -x c -E -o /dev/null - 2>/dev/null ||
        { row "$name" "skipped: $compiler has no C library (libc6-dev-...-cross, which $package recommends)"; continue; }
    B=$at/$name program=$at/$name/maskinv ending= libs='-lpthread -lm' more=
    [ "$system" = windows ] && ending=.exe libs='-lm' more='-D__USE_MINGW_ANSI_STDIO=1'
    mkdir -p "$B"
    # CI, WERROR: other machines' widths are warned of otherwise
    if ! make -s -j"${JOBS:-2}" CI= WERROR= CROSS="$name" BLAS=none B="$B" CC="$cache $compiler" AR="$(echo "$compiler" | sed 's/gcc$/ar/; s/^musl-//')" \
        SYSTEM="$system" PKG_CONFIG=false CFLAGS=-O2 PIC= CPPFLAGS="-D_FILE_OFFSET_BITS=64 -DUTF8PROC_STATIC $more -isystem build/libraries -isystem build/libraries/utf8proc -isystem build/libraries/zlib" \
        LIBS="$B/libraries.a $libs" LDFLAGS=-static "$program" >"$B/log" 2>&1; then
        row "$name" "NO: see $B/log"
        failed=1
        continue
    fi
    [ -e "$program$ending" ] || program=$B/maskinv
    [ -z "$ending" ] || program=$B/maskinv$ending
    size=$(wc -c <"$program" | awk '{ printf "%.1f", $1 / 1e6 }')
    how=$(emulator "$run")
    [ -n "$how" ] || { row "$name" yes "skipped: no $run" "" "$size"; continue; }
    begun=$(date +%s.%N)
    if ! inverts "$how" "$program" "$B/out"; then
        row "$name" yes "NO: see $B/out.txt"
        failed=1
        continue
    fi
    seconds=$(echo "$begun $(date +%s.%N)" | awk '{ printf "%.1f", $2 - $1 }')
    near=$(same $at/here "$B/out")
    row "$name" yes yes "$near" "$size" "$seconds"
    mv $at/row "$B/row" # test/test_cross.sh looks at it
    [ "$near" = bytes ] || echo "$near" | awk '{ exit !($1 ~ /^[0-9.e+-]+$/ && $1 <= 2e-3) }' || failed=1
done <cross/targets
exit $failed
