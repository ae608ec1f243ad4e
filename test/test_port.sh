#!/bin/sh
# test_port.sh - the core on other machines: test/port.c built by each cross compiler that is there, without BLAS, run
# under qemu, and compared with this machine's numbers, within 2e-3 (other vector lengths sum in another order, and
# AdamW's first steps are signs). What is absent is skipped, and said so.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
core=$(sed -e :a -e '/\\$/N; s/\\\n//; ta' Makefile | sed -n 's/^CORE *= *//p')
sources="test/port.c test/x_seeded.c $(printf '%s.c ' $core)"
flags="-std=c11 -D_DEFAULT_SOURCE -O2 -fopenmp-simd -Wall -Wextra -Wshadow -Wconversion -Werror -I."
status=0

close_enough() { # two files of numbers, two lines each
    paste -d ' ' "$1" "$2" | awk '{ n = NF / 2; for (i = 1; i <= n; i++) { d = $i - $(i + n); if (d < 0) d = -d
        if (!(d <= 2e-3)) bad = 1 } lines++ } END { exit (lines != 2 || bad) }'
}

echo "[ RUN      ] core alone, without BLAS"
# shellcheck disable=SC2086
if ${CC:-cc} $flags $sources -o "$out/here" -lm && "$out/here" >"$out/here.txt" && close_enough "$out/here.txt" "$out/here.txt"
then echo "[       OK ] core alone, without BLAS"
else exit 1
fi

for target in aarch64-linux-gnu:qemu-aarch64 arm-linux-gnueabihf:qemu-arm riscv64-linux-gnu:qemu-riscv64; do
    name=${target%%:*} qemu=${target##*:}
    command -v "$qemu" >/dev/null || qemu=$qemu-static # Debian's qemu-user-static
    echo "[ RUN      ] $name"
    if ! command -v "$name-gcc" >/dev/null || ! command -v "$qemu" >/dev/null; then
        echo "[  SKIPPED ] $name: needs $name-gcc and ${qemu%-static}"
    elif ! echo '#include <stdio.h>' | "$name-gcc" -x c -E -o /dev/null - 2>/dev/null; then # Debian only recommends it
        echo "[  SKIPPED ] $name: $name-gcc has no C library"
    elif "$name-gcc" $flags -static $sources -o "$out/$name" -lm && "$qemu" "$out/$name" >"$out/$name.txt" &&
        close_enough "$out/here.txt" "$out/$name.txt"; then
        echo "[       OK ] $name"
    else
        echo "[  FAILED  ] $name"
        status=1
    fi
done
exit $status
