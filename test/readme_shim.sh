#!/bin/sh
# readme_shim.sh - what stands in for a program while test_readme.sh runs a document's command as it is printed: called by the
# program's name (a link), it runs the real one, smaller where that would take hours, and looks for the files that -o, --out,
# --trace and --export promise. A command with a placeholder for a name (MODEL, NAME:ROOT) has its flags parsed alone, by a
# flag at its end that does not exist and must be the one that is complained of. TREE: the checkout; SAID: a line a call.
name=${0##*/}
say() { printf '%s\n' "$1" >>"$SAID"; }
fail() { say "failed $name $line: $1"; echo "$name $line: $1" >&2; exit 1; }
line=$*

# Whether one of the words is a name to be filled in: capitals alone, or behind a colon, an equals sign or a slash.
placeholder() {
    for word in "$@"; do
        case $word in -[A-Z]*) continue ;; esac
        printf '%s\n' "$word" | grep -Eq '(^|[:/=])[A-Z]{2,}(_[A-Z]+)?$' && return 0
    done
    return 1
}

parsed() { # the real program, then its arguments
    "$@" --end-of-flags >"$SAID.out" 2>&1
    [ $? -eq 2 ] && grep -q -e '--end-of-flags' "$SAID.out" || {
        first=$(head -n 1 "$SAID.out")
        # what is mentioned may end in a flag without its value: `eval --data`
        [ "${MENTION:-}" = mention ] && "$@" 2>&1 | grep -q 'nothing found' || fail "$first"
    }
    say parsed
    exit 0
}

files_are_there() {
    while [ $# -gt 1 ]; do
        case $1 in -o | --out | --trace | --export) [ -s "$2" ] || [ -d "$2" ] || fail "$2 was not made" ;; esac
        [ "$1" = -o ] && [ -d "$2" ] && [ -z "$(ls -A "$2")" ] && fail "$2 is empty"
        shift
    done
}

really() { # how, then the command
    how=$1
    shift
    "$@" >"$SAID.out" 2>"$SAID.err"
    code=$?
    cat "$SAID.out" 2>/dev/null
    if [ $code -ne 0 ] && grep -q "no such folder.*package tuxpaint-stamps-default" "$SAID.err"; then # cut-outs: not installed here
        folders_of "$@" >>"$SAID.untrained"
        say "named tuxpaint-stamps-default"
        exit 0
    fi
    [ $code -eq 0 ] || fail "exit $code: $(tail -n 1 "$SAID.err")"
    say "$how"
    files_are_there "$@"
    exit 0
}

# What a training that was only parsed would have made is not there: then what reads it is only parsed too.
folders_of() {
    while [ $# -gt 1 ]; do
        [ "$1" = -o ] && printf '%s\n' "$2"
        shift
    done
}
untrained() {
    [ -s "$SAID.untrained" ] || return 1
    for word in "$@"; do
        while read -r folder; do case $word in "$folder" | "$folder"/*) return 0 ;; esac; done <"$SAID.untrained"
    done
    return 1
}

# CLIP itself is trained for two steps; the systems beside it have a test of their own, which takes minutes.
run_train() {
    case " $* " in *' --help '*) really ran "$TREE/train" "$@" ;; esac
    case " $MENTION $* " in ' sh -'*) ;; *) folders_of "$@" >>"$SAID.untrained"; parsed "$TREE/train" "$@" ;; esac
    case " $* " in *' --overfit '*) parsed "$TREE/train" "$@" ;; esac
    placeholder "$@" && parsed "$TREE/train" "$@"
    # a document begins several runs in one folder, each as if it were the reader's first
    case " $* " in *' --resume '*) untrained "$@" && parsed "$TREE/train" "$@" ;; *) folders_of "$@" | while read -r folder; do rm -rf "./$folder"; done ;; esac
    really small "$TREE/train" "$@" --steps 2 --hours 0 --batch 12 --valid 12 --captions 1000 --quiet
}

run_maskinv() {
    if [ "${1:-}" = COMMAND ]; then shift; set -- invert "$@"; fi
    case " $* " in *' --help '*) really ran "$TREE/maskinv" "$@" ;; esac
    if [ "$MENTION" = mention ] || placeholder "$@" || untrained "$@"; then parsed "$TREE/maskinv" "$@"; fi
    case " $* " in
    ' scenes '*) really small "$TREE/maskinv" "$@" --count 2 ;;
    ' eval '*' --size 448 '*) really small "$TREE/maskinv" "$@" --size 96 ;;
    esac
    really ran "$TREE/maskinv" "$@"
}

# make TARGET: a rule of the Makefile; NAME=value: a variable of it. Nothing is made.
run_make() {
    for word in "$@"; do
        case $word in
        -*) ;;
        *=*) grep -Eq "\\\$[({]${word%%=*}[)}]" "$TREE/Makefile" "$TREE"/*/*.mk || fail "the Makefile knows no ${word%%=*}" ;;
        *) cat "$TREE/Makefile" "$TREE"/*/*.mk | grep -Eq "^([a-z-]+ )*$word( [a-z-]+)*:( |$)" || fail "the Makefile has no $word" ;;
        esac
    done
    say "named make"
}

# The network is not asked: the name must be in the program's own table, and what it would bring is already laid out.
run_get() {
    [ $# -eq 0 ] && { "$TREE/$program" >"$SAID.out" 2>&1; [ -s "$SAID.out" ] || fail "said nothing"; say ran; exit 0; }
    [ "$1" = NAME ] || "$TREE/$program" 2>&1 | grep -Eq "^ *$1( |$)" || fail "knows no $1"
    say "named $program"
}

run_parallel() { # -j N COMMAND... ::: VALUES
    shift 2
    command=
    while [ "$1" != ::: ]; do command="$command $1"; shift; done
    shift
    for value in "$@"; do
        sh -ec "$(printf '%s\n' "$command" | sed "s/{}/$value/g")" || fail "failed for $value"
    done
}

run_sbatch() { # --array=0-7 --wrap COMMAND
    for task in 0 1; do SLURM_ARRAY_TASK_ID=$task sh -ec "$3" || fail "task $task failed"; done
}

case $name in
maskinv) run_maskinv "$@" ;;
train) run_train "$@" ;;
make) run_make "$@" ;;
get)
    program=$(basename "$(dirname "$0")")/get
    run_get "$@" ;;
parallel) run_parallel "$@" ;;
sbatch) run_sbatch "$@" ;;
man) [ -s "$TREE/$1" ] || fail "is not there"; say "named man" ;;
*) say "named $name" ;;
esac
