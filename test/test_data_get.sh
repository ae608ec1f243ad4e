#!/bin/sh
# test_data_get.sh - data/get over file://: every set that needs no account, from a mirror made of the drawn ones, listed as
# they are; gone on with, checked; what cannot be fetched is said.
cd "$(dirname "$0")/.." || exit 1
maskinv=${MASKINV:-./maskinv}
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
verdict() { if [ "$2" = 0 ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; status=1; fi; }
sets=test/data/datasets mirror=$out/mirror
get() { GET_FROM="file://$mirror" GET_SUMS=${sums:-no} sh data/get "$1" "$2" >"$out/log" 2>&1; }
zipped() { # archive, folder, what
    (cd "$2" && if command -v zip >/dev/null; then zip -qr "$1" "$3"; else python3 -m zipfile -c "$1" "$3"; fi)
}
# The listing of what was fetched is that of the drawn set.
alike() { # set, folder, split; where VOC 2010's pictures lie may differ
    "$maskinv" dataset "$1" "$2" --split "$3" --list >"$out/a" 2>/dev/null && "$maskinv" dataset "$1" "$sets/$1/root" --split "$3" --list >"$out/b" 2>/dev/null &&
        [ -s "$out/a" ] && sed -i 's|VOCdevkit/VOC2010/JPEG|JPEG|' "$out/a" && cmp -s "$out/a" "$out/b"
}

if ! command -v curl >/dev/null || ! command -v unzip >/dev/null || { ! command -v zip >/dev/null && ! command -v python3 >/dev/null; }; then
    echo "[ RUN      ] fetched and listed"
    echo "[  SKIPPED ] fetched and listed: no curl, unzip, or zip here"
else
    mkdir "$mirror"
    tar -cf "$mirror/VOCtrainval_11-May-2012.tar" -C $sets/voc2012/root VOCdevkit
    mkdir -p "$out/2010/VOCdevkit/VOC2010" && cp -r $sets/pascal_context_mat/root/JPEGImages "$out/2010/VOCdevkit/VOC2010"
    tar -cf "$mirror/VOCtrainval_03-May-2010.tar" -C "$out/2010" VOCdevkit
    tar -czf "$mirror/trainval.tar.gz" -C $sets/pascal_context_mat/root trainval
    cp $sets/pascal_context_mat/root/labels.txt $sets/pascal_context_mat/root/59_labels.txt "$mirror"
    mkdir "$out/around" && cp -r $sets/visa/root "$out/around/VisA"
    tar -cf "$mirror/VisA_20220922.tar" -C "$out/around" VisA

    echo "[ RUN      ] a tar, gone on with in its middle"
    half=$(($(wc -c <"$mirror/VOCtrainval_11-May-2012.tar") / 2))
    mkdir "$out/voc" && head -c $half "$mirror/VOCtrainval_11-May-2012.tar" >"$out/voc/VOCtrainval_11-May-2012.tar"
    get voc2012 "$out/voc" && alike voc2012 "$out/voc" val && [ ! -e "$out/voc/VOCtrainval_11-May-2012.tar" ]
    verdict "a tar, gone on with in its middle" $?

    echo "[ RUN      ] another sum is refused"
    sums=yes
    get voc2012 "$out/sum"
    [ $? -eq 1 ] && grep -q "is damaged.*6cd6e144" "$out/log" && [ ! -e "$out/sum/VOCdevkit" ]
    verdict "another sum is refused" $?
    sums=no

    echo "[ RUN      ] lists beside archives"
    get pascal_context_mat "$out/mat" && alike pascal_context_mat "$out/mat" trainval
    verdict "lists beside archives" $?

    echo "[ RUN      ] a folder of its own around"
    get visa "$out/visa" && alike visa "$out/visa" test
    verdict "a folder of its own around" $?

    echo "[ RUN      ] COCO-Stuff from three places"
    root=$PWD/$sets/coco_stuff/root
    zipped "$mirror/val2017.zip" "$root/images" val2017 && zipped "$mirror/stuffthingmaps_trainval2017.zip" "$root/annotations" val2017 &&
        cp "$root/labels.txt" "$mirror/labels.txt" && get coco_stuff "$out/stuff" && alike coco_stuff "$out/stuff" val2017
    verdict "COCO-Stuff from three places" $?

    echo "[ RUN      ] Open Images' validation part"
    root=$PWD/$sets/openimages_v7/root
    cp "$root"/*.csv "$mirror" && mkdir "$out/none" && : >"$out/none/empty.txt"
    for k in 1 2 3 4 5 6 7 8 9 a b c d e f; do zipped "$mirror/validation-masks-$k.zip" "$out/none" empty.txt; done
    zipped "$mirror/validation-masks-0.zip" "$root/validation-masks" . && tar -czf "$mirror/validation.tar.gz" -C "$root" validation &&
        get openimages_v7 "$out/oi" && alike openimages_v7 "$out/oi" validation
    verdict "Open Images' validation part" $?

    echo "[ RUN      ] PhraseCut's pictures one by one, a second time what was missing"
    root=$PWD/$sets/phrasecut/root/VGPhraseCut_v0
    cp "$root"/*.json "$mirror" && cp "$root/image_data_split.json" "$mirror/image_data_split3000.json"
    [ -e "$mirror/refer_miniv.json" ] || echo '[]' >"$mirror/refer_miniv.json"
    tr '{' '\n' <"$root/image_data_split.json" | sed -n 's/.*"image_id": *\([0-9]*\).*"url": *"[^"]*\/\([^"/]*\)".*/\1 \2/p' >"$out/names"
    while read -r id file; do [ -e "$root/images/$id.jpg" ] && cp "$root/images/$id.jpg" "$mirror/$file"; done <"$out/names"
    first=$(head -1 "$out/names" | cut -d' ' -f2)
    mv "$mirror/$first" "$out/kept"
    get phrasecut "$out/pc"
    broken=$?
    mv "$out/kept" "$mirror/$first"
    get phrasecut "$out/pc"
    count=$(find "$out/pc/VGPhraseCut_v0/images" -name '*.jpg' 2>/dev/null | wc -l)
    [ $broken -eq 1 ] && [ "$count" -ge 2 ] && alike phrasecut "$out/pc" test
    verdict "PhraseCut's pictures one by one, a second time what was missing" $?

    echo "[ RUN      ] a damaged archive is refused"
    echo "<html>" >"$mirror/VOCtrainval_11-May-2012.tar" && echo "<html>sorry" >"$mirror/labels.txt"
    get voc2012 "$out/bad"
    [ $? -eq 1 ] && grep -q "is damaged" "$out/log" && [ ! -e "$out/bad/VOCdevkit" ] && ! get pascal_context_mat "$out/bad2" &&
        grep -q "labels.txt: is damaged" "$out/log"
    verdict "a damaged archive is refused" $?
fi

echo "[ RUN      ] every other set says where to ask"
said=0
for name in $(sed -n 's/^    {"\([a-z0-9_]*\)", "[A-Z].*/\1/p' data/data.c); do
    sh data/get 2>/dev/null | grep -q "^  $name\(:\|\$\)" || { echo "$name: not in data/get"; said=1; }
done
sh data/get cityscapes "$out/city" >"$out/log" 2>&1
[ $? -eq 1 ] && grep -q "without asking: https://www.cityscapes" "$out/log" && [ $said = 0 ]
verdict "every other set says where to ask" $?
exit $status
