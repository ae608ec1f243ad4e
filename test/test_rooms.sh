#!/bin/sh
# test_rooms.sh - the house is what it says: the core needs nothing but <math.h>, <string.h> and a BLAS, so that it moves to
# a machine without an operating system; a room (a folder, in the order of the Makefile's ROOMS) knows the core and the rooms
# before it, so that no two rooms need each other.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
whole=$(sed -e ':a' -e '/\\$/N; s/\\\n//; ta' Makefile) # lines that go on are one
core=$(printf '%s\n' "$whole" | sed -n 's/^CORE *= *//p')
rooms=$(printf '%s\n' "$whole" | sed -n 's/^ROOMS *= *//p')
status=0

verdict() { # name, what was found that should not be there
    if [ -z "$2" ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1: $2"; status=1; fi
}

echo "[ RUN      ] the core's headers"
# immintrin is the compiler's own, for instructions that stand beside their plain twin
allowed='stdbool stddef stdint stdarg math string float limits immintrin cblas Accelerate/Accelerate'
for f in $core; do cat "$f.c" "$f.h" 2>/dev/null; done >"$out/core"
cat base.h simd.h >>"$out/core"
found=$(sed -n 's/^#include <\(.*\)\.h>.*/\1/p; s/^#include "\(.*\/.*\)".*/\1/p' "$out/core" | sort -u)
verdict "the core's headers" "$(for h in $found; do case " $allowed " in *" $h "*) ;; *) echo "$h" ;; esac; done)"

echo "[ RUN      ] the core's symbols"
for f in $core; do ${CC:-cc} -std=c11 -O2 -fopenmp-simd -DNO_CLONES -I. -c "$f.c" -o "$out/$f.o" || exit 1; done
needs=$(nm -u "$out"/*.o | awk '$1 == "U" { print $2 }' | sort -u)
gives=$(nm "$out"/*.o | awk '$2 ~ /[TDRBC]/ { print $3 }' | sort -u)
math='exp log log1p sqrt pow erf tanh cos sin sincos lgamma fabs floor expf logf sqrtf powf erff tanhf cosf sinf fabsf'
strings='memcpy memset memmove memcmp strcmp strlen strncmp strchr __stack_chk_fail _GLOBAL_OFFSET_TABLE_'
verdict "the core's symbols" \
    "$(for s in $needs; do case " $(echo $gives) $math $strings " in *" $s "*) ;; *) echo "$s" ;; esac; done)"

echo "[ RUN      ] the top level is the core"
extra=$(for f in *.c *.h; do
    case " $core base simd " in *" ${f%.*} "*) ;; *) grep -q "\"$f\"" $(for c in $core; do echo "$c.c"; done) || echo "$f" ;; esac
done)
verdict "the top level is the core" "$extra"

echo "[ RUN      ] the top level holds at most 45 files"
count=$(git ls-files 2>/dev/null | grep -vc /)
[ "$count" -gt 0 ] || count=$(find . -maxdepth 1 -type f ! -name '*.a' ! -name '*.so.*' ! -perm -u+x | wc -l) # no git here
verdict "the top level holds at most 45 files" "$([ "$count" -le 45 ] || echo "$count: a room is missing, or a file too many")"

echo "[ RUN      ] every folder of sources is a room"
extra=$(for d in */; do
    d=${d%/}
    case " $rooms build docs test weights " in *" $d "*) ;; *) ls "$d"/*.c >/dev/null 2>&1 && grep -q "^# $d " Makefile || ls "$d"/*.c 2>/dev/null ;; esac
done)
verdict "every folder of sources is a room" "$extra"

# rank of a room; the core's is 0
rank() {
    n=1
    for r in $rooms; do
        [ "$r" = "$1" ] && echo $n && return
        n=$((n + 1))
    done
    echo 0
}

echo "[ RUN      ] no include goes up"
up=$(for room in $rooms; do
    for other in $(cat "$room"/*.[ch] | sed -n 's/^#include "\([a-z_]*\)\/.*/\1/p' | sort -u); do
        [ "$(rank "$other")" -gt "$(rank "$room")" ] && grep -l "^#include \"$other/" "$room"/*.[ch]
    done
done)
verdict "no include goes up" "$up"

# Who needs whose symbol, "room/file room/file", from the objects of a build that is here.
echo "[ RUN      ] no symbol goes up"
objects=$(ls -td build/*/cli/cli.o 2>/dev/null | head -n 1)
if [ -z "$objects" ]; then
    echo "[  SKIPPED ] no symbol goes up: nothing is built here (make)"
else
    cd "${objects%/cli/cli.o}" || exit 1
    for f in $core $(cd ../.. && for r in $rooms; do for s in "$r"/*.c; do echo "${s%.c}"; done; done); do
        [ -f "$f.o" ] && nm -g "$f.o" | awk -v f="$f" 'NF == 3 { print "gives", f, $3 } NF == 2 { print "needs", f, $2 }'
    done >"$out/symbols"
    awk '$1 == "gives" { of[$3] = $2; next } { needs[++n] = $2 " " $3 }
        END { for (i = 1; i <= n; i++) { split(needs[i], p); if (p[2] in of && of[p[2]] != p[1]) print p[1], of[p[2]] } }' \
        "$out/symbols" | sort -u >"$out/edges"
    up=$(while read -r from to; do
        case $from in */*) a=$(rank "${from%%/*}") ;; *) a=0 ;; esac
        case $to in */*) b=$(rank "${to%%/*}") ;; *) b=0 ;; esac
        [ "$b" -gt "$a" ] && echo "$from -> $to;"
    done <"$out/edges")
    [ -s "$out/edges" ] || up="no symbols were found"
    verdict "no symbol goes up" "$up"

    # Within a room: no file needs one that needs it. Two stories of the core are circles by their nature, and each stands
    # as one: a derivative is made of operations, so the tape and they need each other; the table of methods has rows in
    # methods_dense.c, which share its pieces.
    echo "[ RUN      ] no circle within a room"
    sed -e 's/\bops_[a-z]*/autograd/g' -e 's/\bmethods_dense/methods/g' "$out/edges" | awk '$1 != $2' >"$out/stories"
    verdict "no circle within a room" "$(tsort "$out/stories" 2>&1 >/dev/null | sed 's/^tsort: //' | tr '\n' ' ')"
    cd - >/dev/null || exit 1
fi

echo "[ RUN      ] no header includes itself by way of others"
for f in *.h $(for r in $rooms; do ls "$r"/*.h 2>/dev/null; done); do
    sed -n 's/^#include "\(.*\)".*/\1/p' "$f" | while read -r other; do echo "$f $other"; done
done >"$out/headers"
verdict "no header includes itself by way of others" "$(tsort "$out/headers" 2>&1 >/dev/null | sed 's/^tsort: //' | tr '\n' ' ')"

# Names with an underscore, in backticks or at the end of an equation's line. Of others' code: FGVP's function.
echo "[ RUN      ] every function that MODEL.md names is there"
verdict "every function that MODEL.md names is there" "$(
    { grep -oE '`[a-z0-9]+(_[a-z0-9]+)+`' MODEL.md | tr -d '`'; grep -oE '   [a-z0-9]+(_[a-z0-9]+)+( \([a-z_]+\.c\))?$' MODEL.md | sed 's/^ *//; s/ .*//'; } |
        sort -u | while read -r name; do
            case $name in grayscale_mask) continue ;; esac
            grep -qw "$name" *.c *.h $(for r in $rooms; do echo "$r/*.c $r/*.h"; done) || echo "$name"
        done)"
exit $status
