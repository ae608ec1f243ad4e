#!/bin/sh
# test_data_get.sh - data/get over file://: unpacked, gone on with, checked; what cannot be fetched is said.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
verdict() { if [ "$2" = 0 ]; then echo "[       OK ] $1"; else echo "[  FAILED  ] $1"; status=1; fi; }

echo "[ RUN      ] unpacked and checked"
if command -v curl >/dev/null; then
    mkdir "$out/mirror"
    tar -cf "$out/mirror/VOCtrainval_11-May-2012.tar" -C test/data/datasets/voc2012/root VOCdevkit
    half=$(($(wc -c <"$out/mirror/VOCtrainval_11-May-2012.tar") / 2))
    mkdir "$out/voc" && head -c $half "$out/mirror/VOCtrainval_11-May-2012.tar" >"$out/voc/VOCtrainval_11-May-2012.tar"
    GET_FROM="file://$out/mirror" sh data/get voc2012 "$out/voc" >"$out/log" 2>&1 &&
        cmp -s "$out/voc/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt" \
            test/data/datasets/voc2012/root/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt &&
        [ ! -e "$out/voc/VOCtrainval_11-May-2012.tar" ]
    verdict "unpacked and checked" $?
    echo "[ RUN      ] a damaged archive is refused"
    echo "<html>" >"$out/mirror/VOCtrainval_11-May-2012.tar"
    GET_FROM="file://$out/mirror" sh data/get voc2012 "$out/bad" >"$out/log" 2>&1
    [ $? -eq 1 ] && grep -q "is damaged" "$out/log" && [ ! -e "$out/bad/VOCdevkit" ]
    verdict "a damaged archive is refused" $?
else
    echo "[  SKIPPED ] unpacked and checked: no curl here"
fi

echo "[ RUN      ] what needs an account is said"
sh data/get cityscapes "$out/city" >"$out/log" 2>&1
[ $? -eq 1 ] && grep -q "without asking" "$out/log"
verdict "what needs an account is said" $?
exit $status
