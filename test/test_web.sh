#!/bin/sh
# test_web.sh - the page of docs/demo in headless Chromium and the module under node, against the command line (test/web.mjs);
# whether they are of these sources; WebAssembly's speed beside the native portable build's. SHOTS=folder keeps pictures of the page.
# Alone, it is `make web-bench`.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
status=0
run() { echo "[ RUN      ] $1"; }
ok() { echo "[       OK ] $1"; }
skip() { echo "[  SKIPPED ] $1: $2"; }
failed() { echo "[  FAILED  ] $1: $2"; status=1; }

# Strict where warnings are errors (CI); elsewhere it is said, so that nobody needs emscripten to change a line of C.
name="web the page is of these sources"
run "$name"
changed=$(sha256sum -c docs/demo/sources.txt 2>/dev/null | sed -n 's/: FAILED.*//p' | tr '\n' ' ')
if [ -z "$changed" ]; then ok "$name"
elif [ -n "$WERROR" ] || [ "$CI" = true ]; then failed "$name" "make web; changed since: $changed"
else skip "$name" "make web; changed since: $changed"; fi

name="web size"
run "$name"
bytes=$(cat docs/demo/*.* docs/demo/model/* | gzip -9 | wc -c)
if [ "$bytes" -le 5000000 ]; then ok "$name" && echo "$bytes bytes compressed"; else failed "$name" "$bytes bytes compressed"; fi

name="web module and page"
run "$name"
command -v node >/dev/null || { skip "$name" "no node here"; exit $status; }
[ -x ./maskinv ] || { skip "$name" "./maskinv is not built"; exit $status; }
ok "$name"
node test/web.mjs node "$out" || status=1

name="web npm package"
run "$name"
if ! command -v npm >/dev/null; then skip "$name" "no npm here"
elif ! make -s node >"$out/log" 2>&1 || ! npm pack --silent --pack-destination "$out" ./build/node >>"$out/log" 2>&1 || ! mkdir "$out/user" ||
    ! npm install --offline --no-audit --no-fund --prefix "$out/user" "$out"/maskinv-*.tgz >>"$out/log" 2>&1
then failed "$name" "$(tail -n 3 "$out/log" | tr '\n' ' ')"
else ok "$name" && { node test/web.mjs package "$out" || status=1; }; fi

name="web speed beside the native portable build"
run "$name"
if [ ! -x build/portable/maskinv ]; then skip "$name" "make portable"
else node test/web.mjs speed "$out" || status=1; fi

name="web browser"
run "$name"
BROWSER=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { skip "$name" "no Chromium here"; exit $status; }
ok "$name"
export BROWSER
node test/web.mjs page "$out" || status=1
exit $status
