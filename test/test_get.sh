#!/bin/sh
# test_get.sh - weights/get over file://: fetched, resumed, checked, refused. Speaks as cmocka does (see test/run).
command -v curl >/dev/null || { echo "[ RUN      ] weights_get"; echo "[  SKIPPED ] weights_get: no curl here"; exit 0; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
repo=$dir/hub/openai/clip-vit-base-patch32/resolve/3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268 # as weights/models pins it
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

# A table of our own, since no published file is small: name, source, revision, MB, licence, sha256, words, purpose.
own_table() {
    sum=$(sha256sum test/data/containers/base.pt | cut -d ' ' -f 1)
    small=test/data/checkpoints
    good=$dir/hub/people/shards/resolve/abc
    mkdir -p "$good" "$dir/hub/people/pickles/resolve/main"
    cp test/data/containers/base.pt "$dir/hub/one.pt"
    cp $small/siglip2-hf-sharded/*.json $small/siglip2-hf-sharded/*.safetensors "$good"
    cp $small/coca-openclip-bin/*.json $small/coca-openclip-bin/*.bin "$dir/hub/people/pickles/resolve/main"
    cat >"$dir/table" <<END
# a comment
one   https://example.org/path/one.pt - 1 MIT $sum clip one file
bad   https://example.org/path/one.pt - 1 MIT 0000000000000000000000000000000000000000000000000000000000000000 clip another's sum
shards people/shards abc 1 card - own in shards, with its own tokenizer
pickles people/pickles main 1 MIT - clip a .bin
says people/says:says.pt main 1 MIT - gpt2 a captioner
END
}
with_table() { MASKINV_MODELS=$dir/table get "$@"; }
checks_sums() {
    own_table && with_table one && says "sha256 as expected" && cmp test/data/containers/base.pt "$dir/out/one/one.pt" &&
        with_table one && says "already there" && echo more >>"$dir/hub/one.pt" && rm "$dir/out/one/one.pt" &&
        { with_table one; [ $? -eq 1 ]; } && says "its sha256 is .*, expected $sum" && [ ! -e "$dir/out/one/one.pt" ] && [ ! -e "$dir/out/one/one.pt.part" ] &&
        { with_table bad; [ $? -eq 1 ]; } && says "expected 00000"
}
finds_a_changed_file() { # of the same length, kept from another day
    own_table && with_table one && { printf x | dd of="$dir/out/one/one.pt" conv=notrunc 2>/dev/null; } &&
        { with_table one; [ $? -eq 1 ]; } && says "remove it to fetch it again"
}
fetches_shards_and_words() {
    own_table && with_table shards && says "stands on its card" && says "is complete" && ./maskinv embed -m "$dir/out/shards" -t "a cat" -o "$dir/e.npy"
}
refuses_shards_elsewhere() {
    sed 's/model-00001-of-00002/..\/model-00001-of-00002/' "$good/model.safetensors.index.json" >"$dir/x" && mv "$dir/x" "$good/model.safetensors.index.json" &&
        rm -r "$dir/out/shards" && { with_table shards; [ $? -eq 1 ]; } && says "expected a file beside it"
}
fetches_gpt2_words() {
    gpt2=$dir/hub/openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e
    mkdir -p "$dir/hub/people/says/resolve/main" "$gpt2" && cp test/data/containers/base.pt "$dir/hub/people/says/resolve/main/says.pt" &&
        echo merges >"$gpt2/merges.txt" && echo '{}' >"$gpt2/vocab.json" && with_table says &&
        cmp "$gpt2/merges.txt" "$dir/out/says/merges.txt" && cmp "$gpt2/vocab.json" "$dir/out/says/vocab.json" && says "is complete"
}
fetches_pickles() { with_table pickles && says "no revision is pinned" && ./maskinv info -m "$dir/out/pickles" >/dev/null; }
lists_forty() { # each with a size or "?", a licence and a purpose; none twice; pins and sums look like such
    rows=$(sed -e '/^#/d' -e '/^ *$/d' weights/models)
    [ "$(printf '%s\n' "$rows" | wc -l)" -ge 40 ] && printf '%s\n' "$rows" | awk '
        seen[$1]++ || NF < 8 || $3 !~ /^([0-9a-f]+|main|-)$/ || ($3 ~ /^[0-9a-f]+$/ && length($3) != 40) ||
        ($6 != "-" && ($6 !~ /^[0-9a-f]+$/ || length($6) != 64)) || $4 !~ /^([0-9]+|-)$/ || $7 !~ /^(clip|own|gpt2)$/ { print "wrong row: " $0; bad = 1 }
        END { exit bad }'
}

try fetches
try is_there_already
try resumes
try finds_a_wrong_start
try begins_again
try refuses_a_cut_file
try takes_the_other_layout
try says_what_is_missing
try refuses_unknown_names
try checks_sums
try finds_a_changed_file
try fetches_shards_and_words
try refuses_shards_elsewhere
try fetches_gpt2_words
try fetches_pickles
try lists_forty
exit $failed
