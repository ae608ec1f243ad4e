#!/bin/sh
# test_figures.sh - the numbers of version 1.0.0, to the byte: embeddings, LeGrad's maps by each gradient, inversions, every
# explainer (test/figures.c on a seeded model). Built without BLAS, vectors and fused multiply-add, so that only IEEE
# arithmetic and libm's exp, erf, pow and sqrt are left. Another libm may differ in a last digit: where the bytes differ, the
# numbers must still agree to six digits, and on this processor's x86-64 with glibc the bytes must too. A change that means to
# change a number changes its line in test/data/figures-1.0.0.txt and says why in docs/CHANGELOG.md.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
core=$(sed -e :a -e '/\\$/N; s/\\\n//; ta' Makefile | sed -n 's/^CORE *= *//p')
known=test/data/figures-1.0.0.txt
status=0

# shellcheck disable=SC2086
${CC:-cc} -std=c11 -D_DEFAULT_SOURCE -O1 -ffp-contract=off -DNO_CLONES -I. test/figures.c test/x_seeded.c \
    $(printf '%s.c ' $core) -o "$out/figures" -lm && "$out/figures" >"$out/now.txt" || { echo "test_figures: no build"; exit 1; }

echo "[ RUN      ] figures agree with version 1.0.0's"
off=$(awk 'NR == FNR { first[$1 " " $2] = $4; sum[$1 " " $2] = $5; count++; next }
    function far(a, b) { d = a - b; if (d < 0) d = -d; m = b < 0 ? -b : b; return !(d <= 2e-5 * (m > 1e-3 ? m : 1e-3)) }
    { seen++; k = $1 " " $2; if (!(k in sum) || far($4, first[k]) || far($5, sum[k])) print k }
    END { if (seen != count) print "lines" }' "$known" "$out/now.txt")
if [ -z "$off" ]; then echo "[       OK ] figures agree with version 1.0.0's"
else echo "[  FAILED  ] figures agree with version 1.0.0's:" $off; status=1; fi

name="figures are version 1.0.0's to the byte"
echo "[ RUN      ] $name"
differ=$(diff "$known" "$out/now.txt" | sed -n 's/^> \([^ ]* [^ ]*\).*/\1/p')
if [ -z "$differ" ]; then echo "[       OK ] $name"
elif [ "$(uname -m)" = x86_64 ] && getconf GNU_LIBC_VERSION >/dev/null 2>&1; then echo "[  FAILED  ] $name:" $differ; status=1
else echo "[  SKIPPED ] $name: another libm, and these differ in a last digit:" $differ; fi
exit $status
