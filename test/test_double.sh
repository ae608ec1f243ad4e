#!/bin/sh
# test_double.sh - the program in double (make DOUBLE=1) says so, and gives the built-in model's embeddings, losses and regions as
# the one in use does, within 1e-5 of the largest number.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
double=
for f in build/*-double/maskinv; do [ -x "$f" ] && double=$f; done
picture=test/data/image.png mask=test/data/mask0.png
status=0 name=

begin() { name=$1; echo "[ RUN      ] $name"; }
end() { if [ "$1" -eq 0 ]; then echo "[       OK ] $name"; else echo "[  FAILED  ] $name"; status=1; fi; }

# All numbers of the lists called so, one a line.
numbers() { sed -n "s/.*\"$1\":[^[]*\[\([^]]*\)\].*/\1/p" "$2" | tr -d ' ' | tr , '\n'; }
# The lists called so in both files agree; the double one's digits are others.
agree() {
    numbers "$1" "$2" >"$out/a"
    numbers "$1" "$3" >"$out/b"
    paste "$out/a" "$out/b" | awk -v list="$1" '
        { d = $1 - $2; d = d < 0 ? -d : d; m = $1 < 0 ? -$1 : $1; if (!(d <= worst)) worst = d; if (m > largest) largest = m }
        NF != 2 { bad = 1 }
        END { if (!(largest > 0)) exit 1; print list ": " NR " numbers, " worst / largest " of the largest apart"; exit bad || !(worst <= 1e-5 * largest) }' &&
        ! cmp -s "$out/a" "$out/b"
}

for what in "double says which numbers it computes with" "double embeds as float does" "double inverts as float does"; do
    begin "$what"
    if [ -z "$double" ] || [ ! -x ./maskinv ]; then
        echo "[  SKIPPED ] $name: both programs are needed (make; make DOUBLE=1)"
        continue
    fi
    case $what in
    *says*) ./maskinv --version | grep -q '(float; ' && "$double" --version | grep -q '(double; ' ;;
    *embeds*)
        ./maskinv embed -i $picture -o "$out/f.jsonl" && "$double" embed -i $picture -o "$out/d.jsonl" &&
            agree embedding "$out/f.jsonl" "$out/d.jsonl"
        ;;
    *inverts*)
        ./maskinv invert -i $picture -k $mask --json >"$out/f.json" && "$double" invert -i $picture -k $mask --json >"$out/d.json" &&
            agree embedding "$out/f.json" "$out/d.json" && agree loss "$out/f.json" "$out/d.json"
        ;;
    esac
    end $?
done
exit $status
