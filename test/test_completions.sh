#!/bin/sh
# test_completions.sh - what bash and zsh offer behind Tab: made of the flag tables, sourced and asked.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
verdict() { if [ "$1" -eq 0 ]; then echo "[       OK ] $2"; else echo "[  FAILED  ] $2"; status=1; fi; }
maskinv=${MASKINV:-./maskinv}

echo "[ RUN      ] every command and flag is offered"
bad=0
for shell in bash zsh; do "$maskinv" --completions $shell >"$out/$shell" || bad=1; done
for c in $("$maskinv" --help | sed -n 's/^  \([a-z]*\)  *[^ ].*/\1/p' | grep -v '^maskinv$'); do
    "$maskinv" "$c" --help | sed -nE 's/^ +(-[a-zA-Z], )?(--[a-z0-9-]+)( .*)?$/\2/p' >"$out/flags"
    for shell in bash zsh; do # the command's own part holds each of its flags
        awk -v c="$c" '$1 == c ")" { inside = 1 } inside { print } inside && /;;$/ && !/^        [-]/ { exit }' "$out/$shell" |
            tr -c 'a-z0-9-' '\n' | sort -u >"$out/part"
        sort -u "$out/flags" | comm -23 - "$out/part" | grep . && { echo "missing in $shell: $c"; bad=1; }
    done
    [ -s "$out/flags" ] || bad=1
done
verdict $bad "every command and flag is offered"

echo "[ RUN      ] another shell is refused"
"$maskinv" --completions fish >"$out/fish" 2>"$out/said"
[ $? -eq 2 ] && [ ! -s "$out/fish" ] && grep -q "bash or zsh" "$out/said"
verdict $? "another shell is refused"

echo "[ RUN      ] bash is asked"
if command -v bash >/dev/null; then
    mkdir "$out/files" && : >"$out/files/a cat.png" && : >"$out/files/dog.png"
    cat >"$out/ask" <<'END'
. "$1"
ask() { # the words so far, the last one being written: what is offered
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _maskinv
    printf '%s|' "${COMPREPLY[@]}"
    echo
}
cd "$2"
ask maskinv in
ask maskinv invert --grad
ask maskinv invert --gradient ''
ask maskinv invert --gradient = fac
ask maskinv invert -k ''
ask maskinv invert -k a
ask maskinv invert --size ''
ask maskinv tokenize --gr
END
    cat >"$out/expected" <<'END'
invert|info|
--gradient|
factored|decomposed|autograd|jacobian|compact|auto|
factored|
a cat.png|dog.png|
a cat.png|
|
|
END
    bash "$out/ask" "$out/bash" "$out/files" 2>&1 | diff "$out/expected" -
    verdict $? "bash is asked"
else
    echo "[  SKIPPED ] bash is asked: no bash here"
fi

echo "[ RUN      ] zsh is asked"
if command -v zsh >/dev/null; then
    # a zsh of its own behind a terminal: what is written on Tab is read from it
    cat >"$out/ask.zsh" <<'END'
zmodload zsh/zpty
zpty z zsh -fi
zpty -w z 'autoload -Uz compinit && compinit -u -d '$2'; PROMPT=; setopt no_list_beep; stty -echo 2>/dev/null; source '$1'; echo read''y'
zpty -r z seen '*ready*'
zpty -n -w z $'maskinv invert --gradient fa\t'
zpty -r -t z seen '*' ; sleep 1
zpty -r -m z seen '*factored*' && print -r -- factored
zpty -d z
END
    zsh -n "$out/zsh" && timeout 30 zsh -f "$out/ask.zsh" "$out/zsh" "$out/dump" 2>/dev/null | grep -q factored
    verdict $? "zsh is asked"
else
    echo "[  SKIPPED ] zsh is asked: no zsh here"
fi
exit $status
