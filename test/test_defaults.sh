#!/bin/sh
# test_defaults.sh - every command on the built-in model without optional flags: it takes the settings that weights/README.md
# says (side 96, lr 0.1, 10 steps, 3 layers; 2 for maps), says so, and eval's figures are the tuned ones, within their intervals.
# usage: test_defaults.sh [MASKINV]
cd "$(dirname "$0")/.." || exit 1
m=$(realpath "${1:-./maskinv}") cards=$(realpath weights/README.md)
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
cd "$out" || exit 1
status=0
ok() { echo "[       OK ] $1"; }
bad() { echo "[  FAILED  ] $1: $2"; status=1; }

# as_tuned NAME FILE "flags that say the tuned settings" COMMAND...: FILE of both runs has the same bytes
as_tuned() {
    name="$1 takes the tuned settings" file=$2 flags=$3
    echo "[ RUN      ] $name"
    shift 3
    if ! "$m" "$@" -o default >said 2>&1; then bad "$name" "$(head -1 said)"; return; fi
    # shellcheck disable=SC2086
    "$m" "$@" $flags -o tuned >/dev/null 2>&1
    [ -n "$file" ] && a=default/$file b=tuned/$file || a=default b=tuned
    if [ ! -s "$a" ] || ! cmp -s "$a" "$b"; then bad "$name" "$file differs from $flags"
    elif [ "$name" != "embed takes the tuned settings" ] && ! grep -q 'at 96 x 96 pixels (the model' said; then bad "$name" "the side and its origin are not said"
    else ok "$name"; fi
    rm -rf default tuned
}
"$m" scenes --objects 3 --count 60 --seed 20261 --size 160 -o set >/dev/null || exit 1
"$m" scenes --objects 1 --count 60 --seed 20261 --size 160 -o one >/dev/null || exit 1
i=set/images/000000.png k=set/masks/000000_0.png
as_tuned invert embeddings.npy "--size 96 --lr 0.1 --iters 10 --layers 3 --gradient factored --explainer legrad" invert -i $i -k $k
as_tuned explain 0.map.npy "--size 96 --layers 2 --method legrad" explain -i $i -t "a cat"
as_tuned regions embeddings.npy "--size 96" regions --method pool -i $i -k $k
as_tuned embed "" "--size 96" embed -i $i

# within NAME "ROW OF THE CARD" LOW HIGH: the interval measured here meets the card's, of the row's drawn column
within() {
    name="eval: $1 as tuned"
    echo "[ RUN      ] $name"
    card=$(sed -n "s/^| [^|]*$2[^|]*| [0-9.]* \[\([0-9.]*\), \([0-9.]*\)\].*/\1 \2/p" "$cards" | head -n 1)
    if echo "$card" | awk -v l="$3" -v h="$4" '{ exit !(h > 0 && $1 <= 100 * h && $2 >= 100 * l) }'; then ok "$name"
    else bad "$name" "[$card] by the card, [$3, $4] measured"; fi
}
# column FOLDER NAME FIELD: of eval's table.csv
column() { awk -F, -v n="\"$2\"" -v f="$3" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == f) c = i } $2 == n { print $c }' "$1/table.csv"; }
"$m" eval -d set --methods cls,maskinv --explainers legrad -o three >/dev/null 2>&1
"$m" eval -d one --methods cls -o one.table >/dev/null 2>&1
within "the class token's regions" 'named first by the class token' "$(column three cls acc1_low)" "$(column three cls acc1_high)"
within "MaskInversion's regions" 'by MaskInversion' "$(column three maskinv acc1_low)" "$(column three maskinv acc1_high)"
within "phrases" 'a phrase chooses its region' "$(column three maskinv referring_low)" "$(column three maskinv referring_high)"
within "LeGrad's peak" 'peak lies on the named object' "$(column three legrad pointing_low)" "$(column three legrad pointing_high)"
within "whole single objects" 'one object, named from the whole' "$(column one.table cls acc1_low)" "$(column one.table cls acc1_high)"
exit $status
