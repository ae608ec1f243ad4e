#!/bin/sh
# test_run.sh - test/run counts right: each begun test has one outcome, whatever its program does.
cd "$(dirname "$0")/.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
status=0

# One program of the given lines (printf's format) and exit status; what test/run must say last, and its own exit status.
check() { # name, lines, program's exit, last line, runner's exit
    echo "[ RUN      ] $1"
    printf '#!/bin/sh\ncat <<"END"\n%b\nEND\n%s\n' "$2" "$3" >"$dir/program"
    chmod +x "$dir/program"
    said=$(TEST_TIMEOUT=1 sh test/run "$dir/program" 2>&1)
    code=$?
    last=$(printf '%s\n' "$said" | tail -n 1)
    if [ "$last" = "$4" ] && [ "$code" -eq "$5" ]; then
        echo "[       OK ] $1"
    else
        echo "[  FAILED  ] $1: '$last', exit $code; expected '$4', exit $5"
        status=1
    fi
}
run='[ RUN      ]' ok='[       OK ]' skip='[  SKIPPED ]' bad='[  FAILED  ]'

check "passes" "$run a\n$ok a\n$run b c\n$ok b c" "exit 0" "2 passed, 0 failed" 0
check "skipped, said once" "$run a\n$ok a\n$run b\n$skip b: no qemu: none" "exit 0" "1 passed, 0 failed, 1 skipped" 0
check "skipped, said three times" \
    "$run a\n$ok a\n$run b\n$skip b: no disk\n$skip b\n$skip 1 test(s), listed below:\n$skip b" "exit 0" \
    "1 passed, 0 failed, 1 skipped" 0
check "nothing but skips" "$run b\n$skip b: why" "exit 0" "0 passed, 0 failed, 1 skipped" 1
check "a failure, said twice" "$run a\n$ok a\n$run b\n$bad b\n$bad 1 test(s), listed below:\n$bad b" "exit 1" \
    "1 passed, 1 failed" 1
check "a failure with its reason" "$run a\n$bad a: 3, expected 4\n$run b\n$ok b" "exit 1" "1 passed, 1 failed" 1
check "a crash in the middle" "$run a\n$ok a\n$run b" 'kill -SEGV $$' "1 passed, 1 failed" 1
check "a timeout" "$run a\n$ok a\n$run b" "sleep 5" "1 passed, 1 failed" 1
check "all well, yet exit 3" "$run a\n$ok a" "exit 3" "1 passed, 1 failed" 1
check "says nothing" "" "exit 0" "0 passed, 1 failed" 1
check "an outcome of what was never begun" "$run a\n$ok a\n$ok ghost\n$skip ghost" "exit 0" "1 passed, 0 failed" 0
check "one name begun twice, once done" "$run a\n$ok a\n$run a" "exit 1" "1 passed, 1 failed" 1

echo "[ RUN      ] cannot be started"
last=$(sh test/run "$dir/not-there" 2>&1 | tail -n 1)
if [ "$last" = "0 passed, 1 failed" ]; then echo "[       OK ] cannot be started"; else
    echo "[  FAILED  ] cannot be started: '$last'"
    status=1
fi
echo "[ RUN      ] sums over programs"
printf '#!/bin/sh\necho "[ RUN      ] x"; echo "[       OK ] x"\n' >"$dir/one"
chmod +x "$dir/one"
last=$(sh test/run "$dir/one" "$dir/not-there" "$dir/one" 2>&1 | tail -n 1)
if [ "$last" = "2 passed, 1 failed" ]; then echo "[       OK ] sums over programs"; else
    echo "[  FAILED  ] sums over programs: '$last'"
    status=1
fi
exit $status
