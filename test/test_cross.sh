#!/bin/sh
# test_cross.sh - what `make cross` built for other machines (docs/PORTING.md): its verdict, and a text's embedding asked
# again, against this machine's. Nothing is built here, which would take minutes; what is absent is skipped, and said.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
floats() { od -An -v -t f4 -j 128 "$1" | tr -s ' ' '\n' | grep .; }

while read -r name compiler run _; do
    case $name in '#'*|'') continue ;; esac
    echo "[ RUN      ] $name"
    program=build/cross/$name/maskinv
    [ -e "$program.exe" ] && program=$program.exe
    [ "$run" = - ] && how=env || how=
    for e in "$run" "$run-static" $([ "$run" = wine ] && echo wine64 /usr/lib/wine/wine64); do [ -z "$how" ] && command -v "$e" >/dev/null && how=$e; done
    if [ ! -s "build/cross/$name/row" ] || [ ! -e "$program" ]; then
        echo "[  SKIPPED ] $name: not built here (make cross TARGETS=$name; needs $compiler)"
    elif [ -z "$how" ]; then
        echo "[  SKIPPED ] $name: needs $run to run"
    elif ! ./maskinv embed -t "a red fish" -o "$out/here.npy" >/dev/null 2>&1; then
        echo "[  SKIPPED ] $name: no default model here"
    else
        WINEDEBUG=-all timeout 120 "$how" "$program" embed -t "a red fish" -o "$out/$name.npy" >"$out/said" 2>&1
        floats "$out/here.npy" >"$out/a"
        floats "$out/$name.npy" >"$out/b" 2>/dev/null
        if grep -q "yes  *yes" "build/cross/$name/row" && paste -d ' ' "$out/a" "$out/b" |
            awk '{ d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || !(d <= 1e-4)) bad = 1 } END { exit bad || NR < 64 }'
        then echo "[       OK ] $name"
        else echo "[  FAILED  ] $name: $(cat "build/cross/$name/row" "$out/said" | tr -s ' \n' ' ')"; status=1
        fi
    fi
done <cross/targets
exit $status
