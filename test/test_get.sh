#!/bin/sh
# test_get.sh - weights/get over file://: fetched, resumed, checked, refused. Speaks as cmocka does (see test/run).
command -v curl >/dev/null || { echo "[ RUN      ] weights_get"; echo "[  SKIPPED ] weights_get: no curl here"; exit 0; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
repo=$dir/hub/timm/vit_base_patch32_clip_224.openai/resolve/main
source=test/data/nano-openclip-f16
mkdir -p "$repo"
cp $source/open_clip_config.json $source/open_clip_model.safetensors "$repo"
MASKINV_HUB=file://$dir/hub
export MASKINV_HUB
failed=0

get() { sh weights/get -o "$dir/out" "$@" >"$dir/said" 2>&1; }
says() { grep -q -- "$1" "$dir/said" || { echo "'$1' expected, said:"; cat "$dir/said"; return 1; }; }
fails() { get ViT-B-32; [ $? -eq 1 ]; }
whole() { cmp $source/open_clip_model.safetensors "$dir/out/ViT-B-32/open_clip_model.safetensors" && cmp weights/clip/merges.txt "$dir/out/ViT-B-32/merges.txt"; }
file=$dir/out/ViT-B-32/open_clip_model.safetensors

try() {
    echo "[ RUN      ] $1"
    if "$1"; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; failed=1; fi
}
fetches() { get ViT-B-32 && whole && says "is complete" && [ ! -e "$file.part" ]; }
is_there_already() { get ViT-B-32 && whole && says "already there"; }
resumes() { rm "$file" && head -c 1000 $source/open_clip_model.safetensors >"$file.part" && get ViT-B-32 && whole && says "1000 of .* resumed"; }
# what is resumed is kept as it was: wrong bytes at the start are found by the header
finds_a_wrong_start() { rm "$file" && head -c 1000 /dev/zero >"$file.part" && fails && says "header" && [ ! -e "$file" ] && [ ! -e "$file.part" ]; }
begins_again() { { cat $source/open_clip_model.safetensors; echo more; } >"$file.part" && get ViT-B-32 && says "begun again" && whole; }
refuses_a_cut_file() { rm "$file"; head -c 100000 $source/open_clip_model.safetensors >"$repo/open_clip_model.safetensors"; fails && says "describes" && [ ! -e "$file" ]; }
takes_the_other_layout() {
    rm "$repo"/* && rm -r "$dir/out" && cp test/data/nano-hf-f32/config.json test/data/nano-hf-f32/model.safetensors "$repo" &&
        get ViT-B-32 && cmp test/data/nano-hf-f32/model.safetensors "$dir/out/ViT-B-32/model.safetensors"
}
says_what_is_missing() { get ViT-L-14; [ $? -eq 1 ] && says "offers neither" && [ ! -e "$dir/out/ViT-L-14" ]; }
refuses_unknown_names() { get ViT-Z-99; [ $? -eq 2 ] && says "ViT-Z-99" && { get; [ $? -eq 2 ]; } && says "ViT-H-14-laion2B"; }

try fetches
try is_there_already
try resumes
try finds_a_wrong_start
try begins_again
try refuses_a_cut_file
try takes_the_other_layout
try says_what_is_missing
try refuses_unknown_names
exit $failed
