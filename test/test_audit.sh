#!/bin/sh
# test_audit.sh - traces of `maskinv invert --trace` recomputed by test/audit.py, where PyTorch is installed; and changed
# ones, which it must notice. Speaks as cmocka does (see test/run).
cd "$(dirname "$0")/.." || exit 1
python=
for p in python3 /usr/bin/python3; do
    [ -n "$python" ] || ! "$p" -c 'import torch, numpy' 2>/dev/null || python=$p
done
data=test/data
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0

trace() { # model's folder, flags of invert
    model=$1
    shift
    ./maskinv invert -m "$model" -i $data/image.png -k $data/mask0.png -k $data/mask1.png --trace "$out/trace" "$@" \
        >/dev/null 2>"$out/said"
}

audit() { # a trace, and another model where the trace's own is not meant
    "$python" test/audit.py "$1" --model "${2:-$model}" --image $data/image.png --mask $data/mask0.png $data/mask1.png \
        >"$out/said" 2>&1
}

# In each tensor of the trace, one after another, the middle number is moved by one percent of the largest: audit.py must
# say BAD of that very tensor. All in one process, for PyTorch is slow to start.
audit_changed() {
    "$python" - "$out/trace" "$model" >"$out/said" 2>&1 <<'PYTHON'
import contextlib, io, sys
sys.path.insert(0, 'test')
import audit
trace, meta = audit.read_safetensors(sys.argv[1])
clip, data, missed = audit.Clip(sys.argv[2]), 'test/data/', 0
for name, t in trace.items():
    numbers = t.clone().reshape(-1)
    numbers[len(numbers) // 2] += .01 * numbers.abs().max()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        well = audit.audit_trace({**trace, name: numbers.reshape(t.shape)}, meta, clip, data + 'image.png', [data + 'mask0.png'])
    if well or not any(l.split()[0] == name and l.endswith('BAD') for l in said.getvalue().splitlines()):
        print(name + ': changed, and not noticed')
        missed += 1
sys.exit(1 if missed or len(trace) < 20 else 0)
PYTHON
}

# Names and shapes, as they stand in the header, are the same for each gradient. This needs no Python.
all_gradients_trace_the_same() {
    for gradient in factored decomposed autograd; do
        trace $data/nano-hf-f32 --layers 2 --iters 2 --gradient $gradient || return 1
        LC_ALL=C grep -ao '"[^"]*":{"dtype":"F32","shape":[^]]*]' "$out/trace" >"$out/$gradient"
    done
    cmp "$out/factored" "$out/decomposed" && cmp "$out/factored" "$out/autograd" &&
        [ "$(grep -c '^"mask[01]\.[zua]\.layer[12]\.step[01]"' "$out/factored")" -eq 24 ]
}
hugging_face_f32_factored() { trace $data/nano-hf-f32 --layers 2 --iters 4 && audit "$out/trace"; }
open_clip_f16_decomposed() {
    trace $data/nano-openclip-f16 --layers 2 --iters 3 --alpha 0.3 --size 32 --gradient decomposed && audit "$out/trace"
}
open_clip_bf16_autograd() {
    trace $data/nanogelu-openclip-bf16 --layers 3 --iters 3 --decay 0.1 --lr 0.1 --gradient autograd && audit "$out/trace"
}
pooled_by_mean() { # by the class token the same trace is wrong
    cp -r $data/nano-openclip-f16 "$out/mean" &&
        sed 's/"patch_size"/"pool_type": "tokens_mean", "patch_size"/' $data/nano-openclip-f16/open_clip_config.json \
            >"$out/mean/open_clip_config.json" &&
        trace "$out/mean" --layers 2 --iters 3 && ! audit "$out/trace" $data/nano-openclip-f16 && audit "$out/trace"
}
weights_rounded_to_half_are_noticed() { # the two checkpoints hold the same numbers, but for that
    trace $data/nano-hf-f32 --layers 2 --iters 2 && ! audit "$out/trace" $data/nano-openclip-f16 &&
        grep -q '^tokens.layer0 .*BAD$' "$out/said"
}
every_changed_number_is_noticed() {
    ./maskinv invert -m $data/nano-hf-f32 -i $data/image.png -k $data/mask0.png --layers 2 --iters 2 --trace "$out/trace" \
        >/dev/null && model=$data/nano-hf-f32 && audit_changed
}

for name in all_gradients_trace_the_same hugging_face_f32_factored open_clip_f16_decomposed open_clip_bf16_autograd \
    pooled_by_mean weights_rounded_to_half_are_noticed every_changed_number_is_noticed; do
    echo "[ RUN      ] $name"
    if [ -z "$python" ] && [ $name != all_gradients_trace_the_same ]; then
        echo "[  SKIPPED ] $name: needs python3 with torch"
    elif $name; then
        echo "[       OK ] $name"
    else
        grep -v 'OK$' "$out/said"
        echo "[  FAILED  ] $name"
        status=1
    fi
done
exit $status
