#!/bin/sh
# table.sh FOLDER - RAM, flash and instructions by board, side and type of numbers: the demo's scene, one region, ten
# steps. In the main folder: make firmware-table (some ten minutes).
cd "$(dirname "$0")/.." || exit 1
out=${1:-build/firmware} pack=build/${VARIANT:-openblas}/firmware/pack
mkdir -p "$out"
[ -d "$out/scene" ] || ./maskinv scenes --kind drawn --objects 3 --count 1 --seed 10 --size 96 -o "$out/scene" >/dev/null || exit 1
echo "| board | side | numbers | RAM, KB | flash, KB | forward pass, 10⁶ instructions | a step | last loss | 1 − cos |"
echo "|---|---|---|---|---|---|---|---|---|"
for side in 48 96; do
    for type in f32 f16 q8_0; do
        "$pack" -i "$out/scene/images/000000.png" -k "$out/scene/masks/000000_0.png" -t "a photo of a car" --type $type --size $side -o "$out/model.bin" >/dev/null || exit 1
        for board in mps2 virt; do
            make -s -C firmware $board OUT="../$out" MODEL="../$out/model.bin" ROOM=3000000 || exit 1
            sh firmware/run.sh $board "$out/$board.elf" >"$out/log" || { echo "$board: failed" >&2; tail -n 3 "$out/log" >&2; exit 1; }
            awk -v board=$board -v side=$side -v type=$type '
                $1 == "loss" { loss = $NF } /1 - cos/ { apart = $NF } $1 == "RAM" { ram = $2 } $1 == "flash" { flash = $2 }
                $1 == "instructions" { sub(/:/, "", $2); sub(/,/, "", $5); pass = $5; step = $NF }
                END { printf "| %s | %d | %s | %.0f | %.0f | %.0f | %.0f | %s | %s |\n", board, side, type, ram / 1000, flash / 1000, pass / 1e6, step / 1e6, loss, apart }' "$out/log"
        done
    done
done
