#!/bin/sh
# test_trace.sh - traces recomputed by test/check_trace.py, where PyTorch is installed. Speaks as cmocka does (see test/run).
python=
for p in python3 /usr/bin/python3; do $p -c 'import torch, numpy' 2>/dev/null && python=$p; done
[ -n "$python" ] || { echo "[ RUN      ] traces_recomputed"; echo "[  SKIPPED ] traces_recomputed: no PyTorch here"; exit 0; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

trace() { # model, flags of invert
    m=test/data/$1
    shift
    ./maskinv invert -m "$m" -i test/data/image.png -k test/data/mask0.png -k test/data/mask1.png "$@" --trace "$dir/t" >/dev/null
}
check() { "$python" test/check_trace.py "$m" "$dir/t" >"$dir/said" 2>&1; }
try() {
    echo "[ RUN      ] $1"
    if "$1"; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; cat "$dir/said"; failed=1; fi
}

hugging_face() { trace nano-hf-f32 --layers 2 --iters 4 && check; }
open_clip_half() { trace nano-openclip-f16 --size 32 --alpha 0.3 --decay 0.1 --lr 0.1 --iters 4 && check; }
gelu() { trace nanogelu-openclip-bf16 --layers 3 --iters 4 --gradient autograd && check; }
# one byte of the last gradient changed
a_changed_trace_is_found() {
    trace nano-hf-f32 --iters 3 && size=$(wc -c <"$dir/t") &&
        printf '\077' | dd of="$dir/t" bs=1 seek=$((size - 96 - 1)) conv=notrunc 2>/dev/null && ! check
}

try hugging_face
try open_clip_half
try gelu
try a_changed_trace_is_found
exit $failed
