#!/bin/sh
# test_core.sh - the core is what it says: its objects need nothing but <math.h>, <string.h> and a BLAS, and its sources
# include nothing else, so that they move to a machine without an operating system.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
core="arena gemm kernels autograd clip map explain methods maskinv"
status=0

verdict() { # name, what was found that should not be there
    if [ -z "$2" ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1: $2"; status=1; fi
}

echo "[ RUN      ] headers"
allowed='stdbool stddef stdint stdarg math string float limits cblas Accelerate/Accelerate'
found=$(for f in $core; do cat "$f.c" "$f.h" 2>/dev/null; done; cat base.h simd.h)
found=$(echo "$found" | sed -n 's/^#include <\(.*\)\.h>.*/\1/p' | sort -u)
verdict headers "$(for h in $found; do case " $allowed " in *" $h "*) ;; *) echo "$h.h" ;; esac; done)"

echo "[ RUN      ] symbols"
for f in $core; do ${CC:-cc} -std=c11 -O2 -fopenmp-simd -DNO_CLONES -c "$f.c" -o "$out/$f.o" || exit 1; done
needs=$(nm -u "$out"/*.o | awk '$1 == "U" { print $2 }' | sort -u)
gives=$(nm "$out"/*.o | awk '$2 ~ /[TDRBC]/ { print $3 }' | sort -u)
math='exp log sqrt pow erf cos sin fabs floor expf logf sqrtf powf erff fabsf'
strings='memcpy memset memmove memcmp strcmp strlen strncmp __stack_chk_fail _GLOBAL_OFFSET_TABLE_'
verdict symbols "$(for s in $needs; do case " $(echo $gives) $math $strings " in *" $s "*) ;; *) echo "$s" ;; esac; done)"
exit $status
