#!/bin/sh
# test_python.sh - Python's results are the command line's, byte for byte; whatever is bad is an exception in words.
cd "$(dirname "$0")/.." || exit 1
for python in "${PYTHON:-/usr/bin/python3}" python3; do "$python" -c "import numpy" 2>/dev/null && break; done
if [ ! -f libmaskinv.so.1 ] || ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "[ RUN      ] python"
    echo "[  SKIPPED ] python: no libmaskinv.so.1 (make) or no python3 with numpy (python3-numpy) here"
    exit 0
fi
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
model=test/data/nanogelu-openclip-bf16
./maskinv invert -m $model -i test/data/image.png -k test/data/mask0.png -k test/data/mask1.png -o "$out/cli" >/dev/null &&
    ./maskinv explain -m $model -i test/data/image.png -e "$out/cli/embeddings.npy" -o "$out/cli" >/dev/null &&
    ./maskinv embed -m $model -i test/data/image.png -o "$out/image.npy" || exit 1
[ -f weights/default/merges.txt ] && { ./maskinv embed -t "a red fish" -o "$out/text.npy" &&
    ./maskinv invert -i test/data/image.png -k test/data/mask0.png -t "a red fish" -t "a cat" -o "$out/default" >/dev/null || exit 1; }
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=python "$python" test/python.py "$out"
status=$?
name="what pip installs has the library beside it"
echo "[ RUN      ] $name"
if ! "$python" -c "import setuptools" 2>/dev/null; then echo "[  SKIPPED ] $name: no setuptools here"
elif (cd python && PYTHONDONTWRITEBYTECODE=1 "$python" setup.py -q build -b "$out/pip" --build-lib "$out/site") >"$out/log" 2>&1 &&
    (cd "$out" && PYTHONPATH="$out/site" "$python" -c "import maskinv, sys; sys.exit(maskinv._lib._name != '$out/site/maskinv/libmaskinv.so.1')") >>"$out/log" 2>&1
then echo "[       OK ] $name"
else echo "[  FAILED  ] $name: $(tail -n 3 "$out/log" | tr '\n' ' ')"; status=1; fi
echo "[ RUN      ] the example"
said=$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=python "$python" python/example.py 2>&1)
case $said in
*"maps (2, "*) echo "[       OK ] the example" ;;
*) if [ -f weights/default/merges.txt ]; then echo "[  FAILED  ] the example: $said"; status=1
    else echo "[  SKIPPED ] the example: no default model here"; fi ;;
esac
exit $status
