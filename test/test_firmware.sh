#!/bin/sh
# test_firmware.sh - MaskInversion on two boards without an operating system, under qemu: the same losses as here, RAM
# below its bound, no double arithmetic in the loops. Skipped, and said so, where a compiler or an emulator is absent.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
verdict() { if [ "$1" -eq 0 ]; then echo "[       OK ] $2"; else echo "[  FAILED  ] $2"; status=1; fi; }

pack=build/${VARIANT:-openblas}/firmware/pack
[ -x "$pack" ] || make -s "$pack" >/dev/null || exit 1
./maskinv scenes --kind drawn --objects 3 --count 1 --seed 10 --size 48 -o "$out/scene" >/dev/null || exit 1
picture=$out/scene/images/000000.png mask=$out/scene/masks/000000_0.png
"$pack" -i "$picture" -k "$mask" -t "a photo of a car" --size 48 --iters 2 --type f16 -o "$out/model.bin" >/dev/null || exit 1

for board in mps2:arm-none-eabi-gcc:qemu-system-arm virt:riscv64-unknown-elf-gcc:qemu-system-riscv64; do
    name=${board%%:*} tools=${board#*:}
    compiler=${tools%%:*} qemu=${tools##*:}
    echo "[ RUN      ] $name"
    if ! command -v "$compiler" >/dev/null || ! command -v "$qemu" >/dev/null; then
        echo "[  SKIPPED ] $name: needs $compiler and $qemu"
        continue
    fi
    # 1 MB of RAM at 48 pixels is the bound: the room for the arena is what is left of it
    make -s -C firmware "$name" OUT="$out" MODEL="$out/model.bin" ROOM=900000 &&
        sh firmware/run.sh "$name" "$out/$name.elf" >"$out/$name.txt" &&
        awk '$1 == "loss" { seen = NF == 3 && $3 < $2 } /1 - cos/ { near = $NF <= 1e-6 } $1 == "RAM" { small = $2 < 1000000 }
             END { exit !(seen && near && small) }' "$out/$name.txt"
    verdict $? "$name"
    [ $status -eq 0 ] || cat "$out/$name.txt"
done

echo "[ RUN      ] no doubles in the loops"
if command -v arm-none-eabi-gcc >/dev/null; then
    # products, kernels, the gradient: built for a chip whose FPU has no doubles, they call none of the soft ones but where
    # a row's or a call's one square root is taken
    for f in gemm gemm_own kernels compact; do
        arm-none-eabi-gcc -std=c11 -O2 -ffp-contract=fast -fno-math-errno -mcpu=cortex-m7 -mthumb -mfpu=fpv5-sp-d16 -mfloat-abi=hard -I. \
            -c -o "$out/$f.o" $f.c || exit 1
        arm-none-eabi-nm -u "$out/$f.o" | grep -E '__aeabi_d|__aeabi_ul2d' | sed "s/^/$f:/"
    done >"$out/doubles"
    [ ! -s "$out/doubles" ]
    verdict $? "no doubles in the loops"
    cat "$out/doubles"
else
    echo "[  SKIPPED ] no doubles in the loops: needs arm-none-eabi-gcc"
fi

echo "[ RUN      ] another family is refused"
"$pack" -m test/data/checkpoints/siglip-openclip -i "$picture" -k "$mask" -o "$out/no.bin" >"$out/said" 2>&1
[ $? -eq 1 ] && grep -q "another family" "$out/said" && [ ! -e "$out/no.bin" ]
verdict $? "another family is refused"
exit $status
