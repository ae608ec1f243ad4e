#!/bin/sh
# test_recipes.sh - weights/systems has a recipe for every system of train, with flags that there are, and says seed and minutes; train's flags
# are obeyed or refused.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
ok() { echo "[       OK ] $1"; }
bad() { echo "[  FAILED  ] $1: $2"; status=1; }
sh weights/systems >"$out/list" || exit 1

name="every system of train has a recipe"
echo "[ RUN      ] $name"
missing=$(./train --help | sed -n '/^Systems/,$s/^  \([a-z]*\)  .*/\1/p' | while read -r system; do
    [ "$system" = probe ] || grep -q "  \./train $system .*--seed [0-9]" "$out/list" || echo "$system"
done)
if [ "$(wc -l <"$out/list")" -lt 10 ]; then bad "$name" "$(cat "$out/list")"
elif [ -z "$missing" ]; then ok "$name"; else bad "$name" "$missing"; fi

name="every recipe's flags are known, its minutes and seed are said"
echo "[ RUN      ] $name"
wrong=$(sed 1d "$out/list" | while read -r row seed minutes command; do
    case "$seed$minutes" in *[!0-9]*) echo "$row: $seed, $minutes" ;; esac
    case "$command " in *"--seed $seed "*) ;; *) echo "$row: not seed $seed" ;; esac
    $command --end-of-flags 2>&1 | grep -q -e '--end-of-flags' || echo "$row: $command"
done)
if [ -z "$wrong" ]; then ok "$name"; else bad "$name" "$wrong"; fi

name="a recipe that does not exist is named"
echo "[ RUN      ] $name"
if RUN=$out/run sh weights/systems alhpa 2>"$out/err"; then bad "$name" "nothing said"
elif grep -q "no recipe of the name alhpa" "$out/err" && [ ! -e "$out/run" ]; then ok "$name"; else bad "$name" "$(cat "$out/err")"; fi
name="flags of train that would not be obeyed are refused"
echo "[ RUN      ] $name"
taken=$(while read -r flags; do
    # shellcheck disable=SC2086
    ./train $flags >"$out/said" 2>&1
    [ $? = 2 ] || echo "$flags: $(cat "$out/said")"
done <<END
-o $out/run --steps 3 --images 36
-o $out/run --hours 1 --steps 3
--overfit --steps 3
--overfit -o $out/run
--overfit --resume
caption -o $out/run --stamps $out
END
)
if [ -z "$taken" ] && [ ! -e "$out/run" ]; then ok "$name"; else bad "$name" "$taken"; fi
exit $status
