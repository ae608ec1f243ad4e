/* draw.js - what the page draws: picture with region, picture with map, the loss. */

/* Dark to light, so that it reads without colour: #26221f, #8a3a12, #f07c2e, #ffe3b0. */
const RAMP = [[38, 34, 31], [138, 58, 18], [240, 124, 46], [255, 227, 176]]
export function ramp(v) {
    const at = Math.min(Math.max(v, 0), 1) * 3, i = Math.min(Math.floor(at), 2), f = at - i
    return RAMP[i].map((a, k) => a + f * (RAMP[i + 1][k] - a))
}

const scratch = () => document.createElement("canvas").getContext("2d", { willReadFrequently: true })

/* RGB of any size as RGBA of [height, width]. */
export function fit({ rgb, width, height }, w, h) {
    const whole = scratch(), small = scratch()
    whole.canvas.width = width, whole.canvas.height = height
    const image = whole.createImageData(width, height)
    for (let i = 0, k = 0; i < width * height; i++) {
        image.data[k++] = rgb[3 * i], image.data[k++] = rgb[3 * i + 1], image.data[k++] = rgb[3 * i + 2], image.data[k++] = 255
    }
    whole.putImageData(image, 0, 0)
    small.canvas.width = w, small.canvas.height = h
    small.imageSmoothingQuality = "high"
    small.drawImage(whole.canvas, 0, 0, w, h)
    return small.getImageData(0, 0, w, h)
}

const edge = (mask, w, h, i) => {
    const x = i % w, y = (i - x) / w
    return mask[i] && (!x || !y || x === w - 1 || y === h - 1 || !mask[i - 1] || !mask[i + 1] || !mask[i - w] || !mask[i + w])
}
/* Black and white dashes: seen on any ground. */
function outline(out, mask, w, h, thick) {
    for (let i = 0; i < w * h; i++) {
        if (!edge(mask, w, h, i)) continue
        const x = i % w, y = (i - x) / w, v = (x + y >> 2) & 1 ? 255 : 0
        for (let dy = 0; dy < thick; dy++) for (let dx = 0; dx < thick; dx++) {
            const at = 4 * (Math.min(y + dy, h - 1) * w + Math.min(x + dx, w - 1))
            out[at] = out[at + 1] = out[at + 2] = v
        }
    }
}

/* The picture, its region lightened where it is chosen, and the rest dimmed. */
export function drawRegion(canvas, base, mask, pen) {
    const c = canvas.getContext("2d"), w = base.width, h = base.height, image = new ImageData(new Uint8ClampedArray(base.data), w, h)
    const any = mask.some(v => v)
    for (let i = 0; any && i < w * h; i++)
        if (!mask[i]) for (let k = 0; k < 3; k++) image.data[4 * i + k] = 0.55 * image.data[4 * i + k] + 18
    outline(image.data, mask, w, h, Math.max(2, Math.round(w / 190)))
    c.putImageData(image, 0, 0)
    if (pen) {
        c.lineWidth = 2
        for (const [style, r] of [["#000", pen.r + 1], ["#fff", pen.r]]) {
            c.strokeStyle = style
            c.beginPath()
            if (pen.box) c.strokeRect(Math.min(pen.x, pen.box.x), Math.min(pen.y, pen.box.y), Math.abs(pen.x - pen.box.x), Math.abs(pen.y - pen.box.y))
            else c.arc(pen.x, pen.y, r, 0, 7), c.stroke()
        }
    }
}

/* A map in 0..1 [h, w] over the picture in grey. */
export function drawMap(canvas, base, map, mask) {
    const c = canvas.getContext("2d"), w = base.width, h = base.height, image = new ImageData(w, h)
    for (let i = 0; i < w * h; i++) {
        const grey = (0.299 * base.data[4 * i] + 0.587 * base.data[4 * i + 1] + 0.114 * base.data[4 * i + 2]) * 0.55 + 14
        const v = map ? map[i] : 0, heat = ramp(v), share = map ? 0.25 + 0.6 * v : 0
        for (let k = 0; k < 3; k++) image.data[4 * i + k] = (1 - share) * grey + share * heat[k]
        image.data[4 * i + 3] = 255
    }
    if (mask) outline(image.data, mask, w, h, Math.max(2, Math.round(w / 190)))
    c.putImageData(image, 0, 0)
}

export function drawPatch(canvas, patch, rows, columns) {
    const c = canvas.getContext("2d"), w = canvas.width / columns, h = canvas.height / rows
    const x = patch % columns * w, y = Math.floor(patch / columns) * h
    c.lineWidth = 4, c.strokeStyle = "#000", c.strokeRect(x, y, w, h)
    c.lineWidth = 2, c.strokeStyle = "#fff", c.strokeRect(x, y, w, h)
}

/* Losses so far, with room for `steps` of them; `at` is the one shown. */
export function chart(into, losses, steps, at) {
    const width = into.clientWidth || 300, height = 112, left = 40, right = 12, top = 10, bottom = 24
    const most = Math.max(...losses, 0.1), least = Math.min(...losses, most - 0.1), pad = 0.08 * (most - least)
    const x = i => left + (width - left - right) * (steps > 1 ? i / (steps - 1) : 0.5)
    const y = v => top + (height - top - bottom) * (1 - (v - least + pad) / (most - least + 2 * pad))
    const mark = v => `<line x1="${left}" x2="${width - right}" y1="${y(v)}" y2="${y(v)}"/><text x="${left - 6}" y="${y(v) + 5}" text-anchor="end">${v.toFixed(2)}</text>`
    const dots = losses.map((v, i) => i === at || losses.length <= 30 ? `<circle${i === at ? ' class="now"' : ""} cx="${x(i)}" cy="${y(v)}" r="${i === at ? 6 : 3}"/>` : "").join("")
    into.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Loss over ${losses.length} steps: from ${losses[0]?.toFixed(3)} to ${losses.at(-1)?.toFixed(3)}">` +
        (losses.length ? mark(Math.max(...losses)) + (losses.length > 1 ? mark(Math.min(...losses)) : "") : "") +
        `<path d="${losses.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("")}"/>${dots}` +
        `<text x="${x(0)}" y="${height - 4}" text-anchor="middle">1</text><text x="${x(steps - 1)}" y="${height - 4}" text-anchor="${steps > 1 ? "middle" : "start"}">${steps > 1 ? steps : ""}</text></svg>`
}
