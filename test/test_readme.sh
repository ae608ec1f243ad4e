#!/bin/sh
# test_readme.sh - every command of README.md, docs/*.md, the folders' README.md and the manual pages' examples, run as it is
# printed; and that the manual pages are those of the flag tables.
#
# A command is an indented block that begins with a known program, or a `span` that does (`./maskinv …`, `make demo`, `train
# caption`, `eval --task anomaly`). A document's commands run in order in a folder of its own, in which the files that
# documents speak of lie (photo.jpg, cat.png, weights/ViT-B-16, voc …). readme_shim.sh stands in for the programs: scenes are
# two, CLIP is trained for two steps, the systems beside it are not, downloads and make's targets are looked up, and what holds a placeholder is only parsed. An
# indented block under a paragraph that ends in "prints" is compared with what the command before it printed.
cd "$(dirname "$0")/.." || exit 1
TREE=$(pwd)
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 1' INT TERM
SAID=$out/said
export TREE SAID
status=0
# The Python that can do most of what documents ask of one.
python=
for needs in torch,numpy numpy; do
    for p in python3 /usr/bin/python3; do
        [ -n "$python" ] || ! "$p" -c "import $needs" 2>/dev/null || python=$("$p" -c 'import sys; print(sys.executable)')
    done
done
MASKINV_LIBRARY=$TREE/libmaskinv.so.1
export MASKINV_LIBRARY

# ---- the commands of a document: $2/NNN.sh, .py or .txt (what the one before prints); the first line of list names them ----
commands_of() { # folder, file
    awk -v folder="$1" -v subcommands="$(./maskinv --help | sed -n 's/^  \([a-z]*\)  .*/\1/p' | tr '\n' ' ')" '
        BEGIN {
            n = split(subcommands, s, " ")
            for (i = 1; i <= n; i++) sub_of[s[i]] = 1
            program = "^([A-Z_]+=[^ ]* )*((\\./)?(maskinv|train)|make|weights/get|data/get|apt-get|npm|parallel|sbatch|man|sh|python3|for)( |$)"
        }
        function put(kind, text, at, name) {
            if (kind != "txt" && (text in seen)) return
            seen[text] = 1
            name = sprintf("%s/%03d.%s", folder, ++count, kind)
            print text >name
            close(name)
            print at, name >(folder "/list")
        }
        function block_ends() {
            if (block == "") return
            if (block ~ program) put("sh", block, block_at)
            else if (block ~ /^import [a-z]/) put("py", block, block_at)
            else if (prints) put("txt", block, block_at)
            else if (("\n" block) ~ /\n(\.\/)?(maskinv|train) /) put("bad", "a block that holds a command begins otherwise", block_at)
            block = ""
        }
        # Spans of a paragraph; they may be broken across lines. "…" leaves something out, which nobody can run.
        function paragraph_ends(parts, i, span, first, n) {
            if (paragraph == "") return
            n = split(paragraph, parts, "`")
            for (i = 2; i <= n; i += 2) {
                span = parts[i]
                gsub(/\\\|/, "|", span)
                split(span, first, " ")
                if ((first[1] in sub_of) && first[2] ~ /^-/) span = "maskinv " span # a mention, as `maskinv segment` is
                if (span !~ program || span ~ /^(\.\/)?(maskinv|train|sh|man|for|PYTHONPATH=python python3)$/) continue
                if (span ~ /…/) put("bad", span ": written out, it could be run", paragraph_at)
                else put(span ~ /^(maskinv|train) / ? "mention" : "sh", span, paragraph_at)
            }
            prints = paragraph ~ /prints:?$/
            paragraph = ""
        }
        /^    / { paragraph_ends(); if (block == "") block_at = FNR; block = block (block == "" ? "" : "\n") substr($0, 5); next }
        { if (block != "") { block_ends(); prints = 0 } }
        /^(\||#|- |$)/ || /^$/ { paragraph_ends() }
        # In a table under "command (after `X`)" each span is the end of such a command.
        /^\|.*command \(after `/ { after = $0; sub(/.*command \(after `/, "", after); sub(/`.*/, "", after); gsub(/`/, "") }
        !/^\|/ { after = "" }
        after != "" { gsub(/`-/, "`" after " -") }
        NF { if (paragraph == "") paragraph_at = FNR; paragraph = paragraph (paragraph == "" ? "" : " ") $0 }
        END { block_ends(); paragraph_ends() }' "$2"
}
# A manual page's examples, as a document has them.
as_document() {
    case $1 in
    *.1) awk '/^\.nf/ { inside = 1; next } /^\.fi/ { inside = 0 } { gsub(/\\-/, "-"); print inside ? "    " $0 : "" }' "$1" ;;
    *) cat "$1" ;;
    esac
}

# ---- what a reader has: pictures, masks, models, sets, programs -------------------------------------------------------------
lay_out() {
    d=$TREE/test/data
    mkdir -p "$1/weights" "$1/data" "$1/bin" "$1/build/node" "$1/cfg"
    for name in photo.jpg other.jpg cat.jpg; do ln -s "$d/pictures/exif1.jpg" "$1/$name"; done
    for name in photo.png bottle.png; do ln -s "$d/image.png" "$1/$name"; done
    for name in cat.png mask.png; do ln -s "$d/mask0.png" "$1/$name"; done
    ln -s "$d/mask1.png" "$1/dog.png"
    ln -s "$TREE/weights/default" "$1/weights/ViT-B-16"
    ln -s "$TREE/weights/default" "$1/weights/default"
    ln -s "$d/checkpoints/longclip-pt/"*.pt "$1/model.pt"
    ln -s "$d/datasets/voc2012/root" "$1/voc"
    ln -s "$d/datasets/mvtec_ad/root" "$1/mvtec"
    ln -s "$TREE/python" "$1/python"
    ln -s "$TREE/test" "$1/test"
    for name in maskinv train; do ln -s "$TREE/test/readme_shim.sh" "$1/$name"; done
    for name in maskinv train make parallel sbatch apt-get npm man; do ln -s "$TREE/test/readme_shim.sh" "$1/bin/$name"; done
    ln -s "${python:-$TREE/test/readme_shim.sh}" "$1/bin/python3"
    ln -s "$TREE/weights/systems" "$1/weights/systems"
    for name in weights data; do ln -s "$TREE/test/readme_shim.sh" "$1/$name/get"; done
}

# ---- one document -----------------------------------------------------------------------------------------------------------
# Numbers may differ in the last digits that another BLAS rounds, and times altogether; words may not.
same_output() { # expected, found
    awk '
        function number(x) { return x ~ /^[-+~]?[0-9.]+[%,;:)]?$/ }
        NR == FNR { if (NF) want[++n] = $0; next }
        NF { got[++m] = $0 }
        END {
            if (n != m) { print "lines:", n, "expected,", m, "printed"; exit 1 }
            for (i = 1; i <= n; i++) {
                a = split(want[i], x, " "); b = split(got[i], y, " ")
                for (j = 1; j <= a || j <= b; j++) {
                    if (x[j] == y[j]) continue
                    if (number(x[j]) && number(y[j]) && (x[j+1] ~ /^(s|MB|ms)/ || (x[j] - y[j]) ^ 2 <= .0004 * (1 + x[j] ^ 2))) continue
                    print "\"" y[j] "\" printed, \"" x[j] "\" expected in: " want[i]
                    exit 1
                }
            }
        }' "$1" "$2"
}

run_command() { # file: its first line of complaint, or nothing
    case $1 in
    *.bad) cat "$1" ;;
    *.txt) same_output "$1" "$out/printed" ;;
    *.py)
        if [ -z "$python" ] || [ ! -e "$MASKINV_LIBRARY" ]; then echo "named numpy" >>"$SAID"; return; fi
        PYTHONPATH=$TREE/python "$python" "$1" >"$out/printed" 2>"$out/err" && echo ran >>"$SAID" || tail -n 1 "$out/err" ;;
    *)
        MENTION=${1##*.} timeout 120 sh -e "$1" >"$out/printed" 2>"$out/err" </dev/null || { grep . "$out/err" || echo "exit $?"; } | tail -n 1
        grep '^failed' "$SAID" | head -n 1 ;;
    esac
}

document() {
    here=$out/$(echo "$1" | tr / _)
    mkdir -p "$here" "$out/commands"
    rm -rf "$out/commands" "$SAID.untrained" && mkdir "$out/commands"
    lay_out "$here"
    printf 'weights/clipcap-coco\nweights/coca-B-32\n' >"$SAID.untrained" # of which nothing small lies here
    as_document "$1" >"$out/document"
    commands_of "$out/commands" "$out/document" || { echo "$1: its commands cannot be read"; return 1; }
    [ -s "$out/commands/list" ] || return 0
    name="$1: its commands run as they stand"
    echo "[ RUN      ] $name"
    wrong=0
    : >"$out/all"
    while read -r at file; do
        : >"$SAID"
        began=$(date +%s)
        complaint=$(cd "$here" && PATH=$here/bin:$PATH && export PATH && run_command "$file")
        cat "$SAID" >>"$out/all"
        [ -z "${V:-}" ] || echo "$1:$at: $(($(date +%s) - began)) s: $(head -n 1 "$file")"
        [ -z "$complaint" ] && continue
        wrong=1
        echo "$1:$at: $(head -n 1 "$file"): $complaint" | head -n 1
    done <"$out/commands/list"
    if [ $wrong -eq 0 ]; then echo "[       OK ] $name"; else echo "[  FAILED  ] $name"; status=1; fi
    cat "$out/all" >>"$out/total"
    rm -rf "$here"
}

[ $# -gt 0 ] || set -- README.md docs/*.md */README.md docs/*.1
: >"$out/total"
for one in "$@"; do document "$one" || status=1; done

# The test itself: each of these is wrong, and is said to be.
name="a misspelt flag, command, target, name, file or figure is found"
echo "[ RUN      ] $name"
cat >"$out/wrong.md" <<'END'
`./maskinv invert -i photo.jpg --itters 3`, `segment --classses voc20`, `maskinv segmnt`, `make demos`, `make BLASS=none`,
`weights/get ViT-B-17`, `./maskinv embed -i nothere.jpg -o x.npy`, `train align --maskss 1`, `./maskinv embed -o x.npy …`

    ./maskinv tokenize "a cat"

prints:

    320 1125
END
found=$(cp "$out/total" "$out/kept"; document "$out/wrong.md" | grep -c "wrong.md:[0-9]"; mv "$out/kept" "$out/total")
if [ "$found" -eq 10 ]; then echo "[       OK ] $name"; else echo "[  FAILED  ] $name: $found of 10"; status=1; fi

for program in maskinv train; do
    name="docs/$program.1 is what its flag tables say (make man)"
    echo "[ RUN      ] $name"
    if ./$program --man | cmp -s - docs/$program.1; then echo "[       OK ] $name"; else echo "[  FAILED  ] $name"; status=1; fi
done
name="manual pages are as mandoc likes them"
echo "[ RUN      ] $name"
if ! command -v mandoc >/dev/null; then echo "[  SKIPPED ] $name: no mandoc here"
elif mandoc -T lint -W warning docs/*.1; then echo "[       OK ] $name"
else echo "[  FAILED  ] $name"; status=1; fi

# What was not run whole is said, with its number.
name="what of the documents takes hours, the network, or other programs"
echo "[ RUN      ] $name"
count() { grep -c "$1" "$out/total"; }
programs=$(sed -n 's/^named //p' "$out/total" | sort | uniq -c | awk '{ n = $1; $1 = ""; printf "%s%s %d", (NR > 1 ? "," : ""), $0, n }')
echo "[  SKIPPED ] $name: $(count '^ran') calls ran as they stand, $(count '^small') with two scenes or steps in place of thousands," \
    "$(count '^parsed') were parsed alone, $(count '^named') looked up ($(echo $programs))"
exit $status
