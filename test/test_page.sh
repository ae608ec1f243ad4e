#!/bin/sh
# test_page.sh - report.html as a reader meets it: opened in headless Chromium, at a phone's and a desk's width, light and
# dark. Nothing is wider than the window, every picture is there and named, text stands out from its ground.
cd "$(dirname "$0")/.." || exit 1
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
name="the report page in a browser"
echo "[ RUN      ] $name"
[ -n "$browser" ] || { echo "[  SKIPPED ] $name: no Chromium here"; exit 0; }
[ -x ./maskinv ] || { echo "[  SKIPPED ] $name: ./maskinv is not built"; exit 0; }

./maskinv scenes --kind drawn --objects 2 --count 6 --seed 5 --size 96 -o "$out/set" >/dev/null &&
    ./maskinv eval -d "$out/set" --methods cls,crop,maskinv --explainers legrad,surgery --size 96 --iters 1,2 -o "$out/table" >/dev/null ||
    { echo "[  FAILED  ] $name: eval"; exit 1; }

# The page measures itself, in frames of several widths, and writes what it finds where --dump-dom shows it.
cat >"$out/table/probe.html" <<'END'
<!doctype html><meta charset=utf-8><body><script>
function bright(c) { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 && m[3] == 0 ? null : .2126 * m[0] + .7152 * m[1] + .0722 * m[2] }
async function look(width) {
    const f = document.createElement("iframe")
    f.style.cssText = `width:${width}px;height:2000px;border:0`; f.src = "report.html"
    document.body.append(f)
    await new Promise(done => f.onload = done)
    const d = f.contentDocument, faults = []
    for (const i of d.images) { if (!i.alt) faults.push("no alt"); if (!i.naturalWidth) faults.push("a broken picture") }
    if (d.documentElement.scrollWidth > width) faults.push("wider than the window: " + d.documentElement.scrollWidth)
    if (!d.images.length) faults.push("no pictures")
    if (!d.querySelector("svg")) faults.push("no chart")
    if (!/maskinv eval/.test(d.querySelector(".foot").textContent)) faults.push("no command in the foot")
    const ink = bright(f.contentWindow.getComputedStyle(d.body).color), paper = bright(f.contentWindow.getComputedStyle(d.body).backgroundColor)
    if (!(Math.abs(ink - paper) > 120)) faults.push("ink " + ink + " on " + paper)
    return width + ": " + (faults.join(", ") || "well") + (paper < 128 ? ", dark" : ", light")
}
(async () => { const said = []; for (const w of [390, 1280]) said.push(await look(w)); document.body.textContent = "found: " + said.join("; ") + " :end" })()
</script>
END
look() { # more flags
    timeout 100 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --allow-file-access-from-files --user-data-dir="$out/profile" "$@" \
        --virtual-time-budget=20000 --dump-dom "file://$out/table/probe.html" 2>/dev/null | sed -n 's/.*found: \(.*\) :end.*/\1/p'
}
light=$(look)
dark=$(look --force-dark-mode --blink-settings=preferredColorScheme=0)
if [ "$light" = "390: well, light; 1280: well, light" ] && [ "$dark" = "390: well, dark; 1280: well, dark" ]; then
    echo "[       OK ] $name"
else
    echo "[  FAILED  ] $name: '$light', '$dark'"
    exit 1
fi
