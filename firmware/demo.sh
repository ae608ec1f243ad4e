#!/bin/sh
# demo.sh - make firmware: the demo's scene at 48 pixels on each board whose compiler and emulator are here.
cd "$(dirname "$0")/.." || exit 1
out=build/firmware pack=build/${VARIANT:-openblas}/firmware/pack
mkdir -p $out
./maskinv scenes --kind drawn --objects 3 --count 1 --seed 10 --size 96 -o $out/scene >/dev/null || exit 1
set --
for name in car cake tree fish house umbrella clock cat key; do set -- "$@" -t "a photo of a $name"; done
"$pack" -i $out/scene/images/000000.png -k $out/scene/masks/000000_0.png -k $out/scene/masks/000000_1.png "$@" \
    --size "${SIZE:-48}" --type "${TYPE:-q8_0}" -o $out/model.bin || exit 1
for board in mps2:arm-none-eabi-gcc virt:riscv64-unknown-elf-gcc; do
    name=${board%%:*} compiler=${board##*:}
    command -v "$compiler" >/dev/null || { echo "$name: skipped, no $compiler here"; continue; }
    make -s -C firmware "$name" OUT=../$out MODEL=../$out/model.bin ROOM="${ROOM:-2600000}" || exit 1
    sh firmware/run.sh "$name" "$out/$name.elf"
    case $? in 0) ;; 77) echo "$name: built, not run, no qemu here" ;; *) exit 1 ;; esac
done
