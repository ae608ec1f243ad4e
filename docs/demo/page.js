/* page.js - the page: what the visitor does, the worker that computes, what is shown. */
import { chart, drawMap, drawPatch, drawRegion, fit, ramp } from "./draw.js"
import { equations, patchBrief, patchNumbers } from "./story.js"

const $ = id => document.getElementById(id)
const MASK_SIDE = 384, PACE = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 130, MODEL_MOST = 3.2e9
const PICTURE = /\.(png|jpe?g|bmp|gif|webp|heic|avif|tiff?)$/i

const state = {
    worker: null, about: null, scenes: [], names: [], own: [], // words: the scenes' names, the visitor's
    picture: null, base: null, mask: null, // { rgb, width, height }; as it is drawn; [height, width] of 0 and 1
    opened: "", steps: [], at: -1, patch: -1, run: 0, // opened: the settings that the session has; run: its number, 0 none
}

/* ---- the worker: requests in, answers out ---------------------------------------------------------------------------- */
class Work {
    constructor() {
        this.asked = new Map()
        this.count = 0
        this.thread = new Worker("worker.js", { type: "module" })
        this.thread.onmessage = ({ data }) => this.answer(data)
        this.thread.onerror = e => this.fail(`the worker could not be started: ${e.message || "module workers are needed (browsers since 2023), and a server: make web-serve"}`)
    }
    ask(ask, more = {}, transfer = []) {
        return new Promise((done, failed) => {
            this.asked.set(++this.count, { done, failed })
            this.thread.postMessage({ id: this.count, ask, ...more }, transfer)
        })
    }
    answer(data) {
        const { done, failed } = this.asked.get(data.id) ?? {}
        this.asked.delete(data.id)
        if (data.fatal) restart(this, data.error)
        if (data.error) failed?.(new Error(data.error))
        else done?.(data)
    }
    fail(error) {
        for (const { failed } of this.asked.values()) failed(new Error(error))
        this.asked.clear()
    }
    end() { this.thread.terminate(); this.fail("ended") }
}
const ask = (...all) => state.worker.ask(...all)

/* A worker that met its end (out of memory, a trap): another, with the model inside. */
async function restart(dead, why) {
    if (dead !== state.worker) return
    trouble(`${why} The page goes on with its own model.`)
    dead.end()
    state.run = 0
    await start(null)
}

const trouble = text => { $("trouble").textContent = text; $("trouble").hidden = !text; if (text) $("trouble").scrollIntoView({ block: "nearest" }) }
const say = text => $("status").textContent = text
/* What the visitor asked for; what fails is told, and the page lives on. */
const doing = work => async (...all) => {
    try { await work(...all) } catch (e) { if (e.message !== "ended") trouble(e.message) }
}

/* ---- models ------------------------------------------------------------------------------------------------------------- */
/* files: { name: File }, or null for the page's own. The old worker ends when the new one has it: its memory goes with it. */
async function start(files) {
    const next = new Work()
    try {
        const about = await next.ask("open", files ? { files } : {})
        if (state.worker !== next) state.worker?.end()
        state.worker = next, state.about = about, state.opened = ""
    } catch (e) { next.end(); throw e }
    const a = state.about, sides = [...new Set([a.side, a.own, 2 * a.own, 3 * a.own])].sort((x, y) => x - y)
    $("layers").max = a.layers
    $("layers").value = files ? 1 : 3
    $("lr").value = Math.log10(files ? 0.5 : 0.1)
    $("side").innerHTML = sides.map(s => `<option value="${s}"${s === a.side ? " selected" : ""}>${s} × ${s} pixels`).join("")
    $("which").textContent = files ? `Model: ${a.name.split("/").pop()} (${a.embed} numbers, ${a.layers} layers)` : ""
    $("version").textContent = `maskinv ${a.version} as WebAssembly, ${files ? Object.keys(files)[0] : "its own model"}. MIT licence; with cJSON, utf8proc, zlib, stb and musl. `
    settingsShown()
    state.worded = false, state.wordless = ""
    if (state.picture) await ask("picture", { bytes: state.picture.bytes })
}

const openModel = doing(async list => {
    const files = Object.fromEntries(list.map(f => [f.name, f])), bytes = list.reduce((n, f) => n + f.size, 0)
    if (bytes > MODEL_MOST) throw new Error(`${list[0].name}: ${(bytes / 1e9).toFixed(2)} GB found, a page holds some ${MODEL_MOST / 1e9} GB (32-bit memory); the program has no such limit`)
    trouble("")
    stop()
    $("which").textContent = `Opening ${list[0].name}…`
    try { await start(files) } catch (e) { $("which").textContent = ""; throw e }
    await begin()
})

/* ---- pictures and regions ---------------------------------------------------------------------------------------------------- */
async function show(bytes) {
    const p = await ask("picture", { bytes })
    stop()
    const scale = Math.min(1, MASK_SIDE / Math.max(p.width, p.height)) || 1
    const w = Math.max(1, Math.round(p.width * scale)), h = Math.max(1, Math.round(p.height * scale))
    state.picture = { ...p, bytes }, state.base = fit(p, w, h), state.mask = new Uint8Array(w * h), state.opened = "", state.patch = -1
    for (const c of [$("picture"), $("map")]) c.width = w, c.height = h
    forget()
}

const openPicture = doing(async file => {
    trouble("")
    try { await show(new Uint8Array(await file.arrayBuffer())) } catch (e) { throw new Error(e.message.replace(/^the picture\b/, file.name)) }
    pressed("scenes", -1)
    $("regions").replaceChildren()
})

async function fetched(path) {
    const answer = await fetch(path)
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`)
    return new Uint8Array(await answer.arrayBuffer())
}

/* A scene's region, from its picture: 255 where the thing is seen. */
async function readMask(path, w, h) {
    const bitmap = await createImageBitmap(new Blob([await fetched(path)]))
    const c = Object.assign(document.createElement("canvas"), { width: w, height: h }).getContext("2d")
    c.drawImage(bitmap, 0, 0, w, h)
    const { data } = c.getImageData(0, 0, w, h)
    return Uint8Array.from({ length: w * h }, (_, i) => data[4 * i] >= 128)
}

function pressed(group, index) { [...$(group).children].forEach((b, i) => b.setAttribute("aria-pressed", i === index)) }

const chooseRegion = doing(async (scene, index) => {
    state.mask = await readMask(scene.regions[index].mask, state.base.width, state.base.height)
    pressed("regions", index)
    await begin()
})

const chooseScene = doing(async (index, region = 0) => {
    const scene = state.scenes[index]
    trouble("")
    pressed("scenes", index)
    await show(await fetched(scene.image))
    $("regions").replaceChildren(...scene.regions.map((r, i) => button(r.phrase, () => chooseRegion(scene, i))))
    await chooseRegion(scene, region)
})

function button(text, action, html) {
    const b = document.createElement("button")
    b.type = "button"
    if (html) b.innerHTML = html, b.setAttribute("aria-label", text)
    else b.textContent = text
    b.onclick = action
    return b
}

/* ---- drawing a region: mouse, finger, keys -------------------------------------------------------------------------------------- */
const pen = { x: 190, y: 190, down: false, from: null, keys: false }
const tool = () => document.querySelector("input[name=tool]:checked").value
const radius = () => Math.max(2, $("width").value / 2 * state.base.width / MASK_SIDE)

function stroke(x0, y0, x1, y1) {
    const { width: w, height: h } = state.base, r = radius(), value = tool() === "brush" ? 1 : 0
    const count = Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(1, r / 3)) || 1
    for (let k = 0; k <= count; k++) {
        const cx = x0 + (x1 - x0) * k / count, cy = y0 + (y1 - y0) * k / count
        for (let y = Math.max(0, Math.floor(cy - r)); y <= Math.min(h - 1, cy + r); y++)
            for (let x = Math.max(0, Math.floor(cx - r)); x <= Math.min(w - 1, cx + r); x++)
                if ((x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 <= r * r) state.mask[y * w + x] = value
    }
}

function fillBox(x0, y0, x1, y1) {
    const { width: w, height: h } = state.base
    for (let y = Math.max(0, Math.round(Math.min(y0, y1))); y < Math.min(h, Math.round(Math.max(y0, y1))); y++)
        for (let x = Math.max(0, Math.round(Math.min(x0, x1))); x < Math.min(w, Math.round(Math.max(x0, x1))); x++) state.mask[y * w + x] = 1
}

function penDown(x, y) {
    stop()
    Object.assign(pen, { x, y, down: true, from: { x, y } })
    pressed("regions", -1)
    if (tool() !== "box") stroke(x, y, x, y)
    redraw()
}

function penMove(x, y) {
    const was = { ...pen }
    Object.assign(pen, { x: Math.min(Math.max(x, 0), state.base.width), y: Math.min(Math.max(y, 0), state.base.height) })
    if (pen.down && tool() !== "box") stroke(was.x, was.y, pen.x, pen.y)
    redraw()
}

function penUp() {
    if (!pen.down) return
    if (tool() === "box") fillBox(pen.from.x, pen.from.y, pen.x, pen.y)
    pen.down = false
    redraw()
    begin()
}

function place(canvas, e) {
    const r = canvas.getBoundingClientRect()
    return [(e.clientX - r.left) * canvas.width / r.width, (e.clientY - r.top) * canvas.height / r.height]
}

function clear() {
    stop()
    state.mask?.fill(0)
    pressed("regions", -1)
    forget()
    say("no region")
}

function keysOnPicture(e) {
    if (!state.base) return
    const step = state.base.width / 48 * (e.shiftKey ? 4 : 1), to = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key]
    const chosen = { b: "brush", x: "box", e: "erase" }[e.key]
    pen.keys = true
    if (to) penMove(pen.x + to[0], pen.y + to[1])
    else if (e.key === " ") pen.down ? penUp() : penDown(pen.x, pen.y)
    else if (chosen) document.querySelector(`input[value=${chosen}]`).checked = true
    else if (e.key === "c") clear()
    else if (e.key === "Enter") pen.down ? penUp() : begin()
    else return
    e.preventDefault()
}

function listenPicture(canvas) {
    canvas.onpointerdown = e => { if (!state.base) return; pen.keys = false; canvas.setPointerCapture(e.pointerId); penDown(...place(canvas, e)) }
    canvas.onpointermove = e => { if (state.base) penMove(...place(canvas, e)) }
    canvas.onpointerup = canvas.onpointercancel = penUp
    canvas.onpointerleave = () => { if (!pen.down) { pen.keys = false; pen.away = true; redraw(); pen.away = false } }
    canvas.onkeydown = keysOnPicture
}

/* ---- an inversion ------------------------------------------------------------------------------------------------------------------ */
const settings = () => ({ size: +$("side").value, layers: $("explainer").value === "legrad" ? +$("layers").value : 0,
    explainer: $("explainer").value === "legrad" ? undefined : $("explainer").value })
const rates = () => ({ lr: 10 ** +$("lr").value, alpha: +$("alpha").value })
const stepsAsked = () => +$("steps").value

function forget() {
    state.steps = [], state.at = -1
    state.drawing = null
    $("gallery").replaceChildren()
    redraw(), showStep()
}
function stop() { state.run = 0; $("run").textContent = "Run" }

/* A session of these settings, with this region, nothing done yet. */
async function prepare() {
    const key = JSON.stringify(settings())
    if (key !== state.opened) await ask("session", { options: { ...settings(), ...rates() } })
    state.opened = key
    await ask("mask", { mask: { data: state.mask.slice(), width: state.base.width, height: state.base.height } })
    await ask("rates", { rates: rates() })
    forget()
}

async function oneStep() {
    const got = { ...await ask("step"), o: rates() }
    state.steps.push(got)
    state.at = state.steps.length - 1
    if (state.worded) return
    redraw(), showStep() // the first map does not wait for the words
    document.body.dataset.first = Math.round(performance.now())
    try { await sendWords() } catch (e) { // a model whose vocabulary is not there, or that has no texts
        if (e.message === "ended") throw e
        await ask("words", { texts: [] })
        state.worded = true, state.wordless = e.message
    }
    Object.assign(got, await ask("rank", { embedding: got.step.embedding, image: got.step.image }))
}

/* From the beginning, in the visitor's sight. */
const begin = doing(async () => {
    if (!state.mask?.some(v => v)) return trouble(state.base ? "Mark a region first: the mask is empty, 0 everywhere." : "")
    trouble("")
    const run = state.run = Date.now() + Math.random()
    $("run").textContent = "Stop"
    try {
        await prepare()
        while (state.run === run && state.steps.length < stepsAsked()) {
            const start = performance.now()
            await oneStep()
            if (state.run !== run) return
            redraw(), showStep()
            await new Promise(done => setTimeout(done, Math.max(0, PACE - (performance.now() - start))))
        }
        if (state.run === run) finished()
    } finally { if (state.run === run) stop() }
})

const single = doing(async () => {
    stop()
    trouble("")
    if (!state.steps.length) {
        if (!state.mask?.some(v => v)) return trouble("Mark a region first: the mask is empty, 0 everywhere.")
        await prepare()
    }
    await ask("rates", { rates: rates() })
    await oneStep()
    redraw(), showStep(), finished()
})

function finished() {
    const last = state.steps.at(-1), best = last.words[0]
    say(`step ${state.steps.length}: loss ${last.step.loss.toFixed(3)}${best ? `, nearest word ${short(best.text)}, ${(100 * best.probability).toFixed(0)} percent` : ""}`)
    document.body.dataset.done = state.steps.length
    fillOf()
    if (state.patch >= 0) layersOfPatch()
}

/* ---- words ---------------------------------------------------------------------------------------------------------------------------- */
const sentence = name => `a photo of ${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`
const short = text => text.replace(/^a photo of an? /, "")
const texts = () => [...state.names.map(sentence), ...state.own]
async function sendWords() {
    await ask("words", { texts: texts() })
    state.worded = true
}

const addWords = doing(async () => {
    const typed = $("word").value.split(",").map(w => w.trim()).filter(w => w && !state.own.includes(w))
    $("word").value = ""
    if (!typed.length) return
    const before = state.own
    state.own = [...typed.map(w => /\s/.test(w) ? w : sentence(w)), ...state.own].filter((w, i, all) => all.indexOf(w) === i && !state.names.map(sentence).includes(w))
    try { await sendWords() } catch (e) { state.own = before; await sendWords(); throw e }
    begin()
})

function showWords(s) {
    $("wordless").textContent = state.wordless ? `No words: ${state.wordless}` : ""
    const whole = new Map(s.whole.map(w => [w.text, w.probability]))
    const shown = s.words.filter((w, i) => i < 5 || (state.own.includes(w.text) && i < 60)).slice(0, 9)
    const percent = p => p >= 0.0995 ? (100 * p).toFixed(0) : (100 * p).toFixed(1)
    $("words").tBodies[0].innerHTML = shown.map(w => `<tr><th scope="row"></th><td><div class="bars" aria-hidden="true"><i></i><i></i></div></td>
        <td class="n">${percent(w.probability)} %<small>${percent(whole.get(w.text))} %</small></td></tr>`).join("")
    shown.forEach((w, i) => {
        const row = $("words").tBodies[0].rows[i], bars = row.querySelectorAll("i")
        row.cells[0].textContent = short(w.text) // typed words are text, never markup
        bars[0].style.width = `${100 * w.probability}%`, bars[1].style.width = `${100 * whole.get(w.text)}%`
    })
}

/* ---- what is shown of a step ------------------------------------------------------------------------------------------------------------- */
function redraw() {
    if (!state.base) return
    const s = state.steps[state.at]?.step
    drawRegion($("picture"), state.base, state.mask, pen.away || (!pen.keys && !matchMedia("(hover: hover)").matches && !pen.down) ? null
        : { x: pen.x, y: pen.y, r: radius(), box: tool() === "box" && pen.down ? pen.from : null })
    drawMap($("map"), state.base, s?.map, state.mask)
    if (s && state.patch >= 0) drawPatch($("map"), state.patch, s.rows, s.columns)
}

function showStep() {
    const shown = state.steps[state.at], n = state.steps.length
    $("scrub").max = Math.max(n, 1), $("scrub").value = state.at + 1, $("scrub").disabled = n < 2
    $("shown").textContent = n ? `${state.at + 1} of ${Math.max(n, state.run ? stepsAsked() : n)}` : "–"
    chart($("chart"), state.steps.map(s => s.step.loss), Math.max(stepsAsked(), n), state.at)
    $("loss").textContent = shown ? `${state.steps[0].step.loss.toFixed(3)} → ${shown.step.loss.toFixed(3)}` : ""
    if (!shown) {
        $("equations").innerHTML = `<li><div class="at">Mark a region, and each step's numbers stand here.</div></li>`
        $("patch").innerHTML = "<h2>A patch</h2><p>Click one on the map, or go there with Tab and the arrow keys: its numbers stand here.</p>"
        return
    }
    showWords(shown)
    $("equations").innerHTML = equations(shown.step, shown.o, $("explainer").value)
    $("story").textContent = `What happens here, in step ${state.at + 1}`
    if (state.patch < 0) return
    $("patch").innerHTML = patchNumbers(shown.step, state.patch, shown.layers)
    $("brief").textContent = patchBrief(shown.step, state.patch)
}

/* The layers' parts are known of the last step made. */
const layersOfPatch = doing(async () => {
    const last = state.steps.at(-1)
    if (last && !last.layers && state.about.layers > 1 && $("explainer").value === "legrad" && !state.run)
        last.layers = (await ask("layers")).layers
    showStep()
})

function choosePatch(patch) {
    state.patch = patch
    redraw(), showStep(), layersOfPatch()
}

function listenMap(canvas) {
    const now = () => state.steps[state.at]?.step
    canvas.onclick = e => {
        const s = now(), [x, y] = place(canvas, e)
        if (s) choosePatch(Math.min(s.rows - 1, Math.floor(y / canvas.height * s.rows)) * s.columns + Math.min(s.columns - 1, Math.floor(x / canvas.width * s.columns)))
    }
    canvas.onkeydown = e => {
        const s = now(), to = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[e.key]
        if (!s || !to) return
        e.preventDefault()
        const from = state.patch < 0 ? Math.floor(s.rows / 2) * s.columns + Math.floor(s.columns / 2) : state.patch
        const row = Math.floor(from / s.columns) + to[0], column = from % s.columns + to[1]
        if (row >= 0 && column >= 0 && row < s.rows && column < s.columns) choosePatch(row * s.columns + column)
    }
}

/* ---- the explainers side by side ------------------------------------------------------------------------------------------------------------- */
function fillOf() {
    const shown = state.steps[state.at]?.words ?? [], was = $("of").value
    const options = [["", "the region's vector"], ...state.own.map(t => [t, short(t)]), ...shown.slice(0, 5).map(w => [w.text, short(w.text)])]
    $("of").replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === was)))
}

const drawAll = doing(async () => {
    const shown = state.steps[state.at], text = $("of").value || undefined
    if (!state.base || (!shown && !text)) return trouble("Mark a region first: its vector is what the explainers are asked about.")
    const mine = state.drawing = {}
    $("draw").disabled = true
    $("gallery").replaceChildren()
    try {
        for (const method of state.about.methods) {
            const figure = document.createElement("figure"), caption = document.createElement("figcaption")
            caption.textContent = method
            let view
            try {
                const side = +$("side").value, { map } = await ask("explain", { method, side, embedding: shown?.step.embedding, text })
                view = Object.assign(document.createElement("canvas"), { width: side, height: side })
                view.setAttribute("role", "img"), view.setAttribute("aria-label", `map of ${method}`)
                drawMap(view, fit(state.picture, side, side), map)
            } catch (e) {
                if (e.message === "ended") throw e
                view = Object.assign(document.createElement("div"), { className: "no", textContent: e.message })
            }
            if (state.drawing !== mine) return // another vector by now
            figure.append(view, caption)
            $("gallery").append(figure)
        }
    } finally { $("draw").disabled = false }
})

/* ---- settings, files dropped ------------------------------------------------------------------------------------------------------------------- */
function settingsShown() {
    const text = { steps: v => v, lr: v => (10 ** v).toPrecision(2).replace(/\.?0+$/, ""), layers: v => v, alpha: v => (+v).toFixed(2) }
    for (const [id, as] of Object.entries(text)) $(id).nextElementSibling.textContent = as($(id).value)
    $("layers").disabled = $("explainer").value !== "legrad"
}

async function filesOf(transfer) {
    const all = [], walk = async entry => {
        if (entry.isFile) all.push(await new Promise((done, failed) => entry.file(done, failed)))
        else for (let reader = entry.createReader(), list; (list = await new Promise((done, failed) => reader.readEntries(done, failed))).length;) for (const e of list) await walk(e)
    }
    const entries = [...transfer.items].map(i => i.webkitGetAsEntry?.()).filter(Boolean)
    if (!entries.length) return [...transfer.files]
    for (const e of entries) await walk(e)
    return all
}

const opened = list => {
    if (!list.length) return
    if (list.length === 1 && PICTURE.test(list[0].name)) return openPicture(list[0]).then(() => {})
    return openModel(list.filter(f => !f.name.startsWith(".")))
}

function listen() {
    listenPicture($("picture"))
    listenMap($("map"))
    $("clear").onclick = clear
    $("run").onclick = () => state.run ? stop() : begin()
    $("one").onclick = single
    $("scrub").oninput = () => { state.at = +$("scrub").value - 1; redraw(), showStep() }
    $("draw").onclick = drawAll
    $("add").onsubmit = e => { e.preventDefault(); addWords() }
    for (const id of ["steps", "lr", "layers", "alpha", "explainer", "side"]) {
        $(id).oninput = settingsShown
        $(id).onchange = () => { settingsShown(); if (state.mask?.some(v => v)) begin() }
    }
    $("file").onchange = e => { if (e.target.files[0]) openPicture(e.target.files[0]); e.target.value = "" }
    $("model").onchange = e => { opened([...e.target.files]); e.target.value = "" }
    for (const label of document.querySelectorAll("label.button")) label.onkeydown = e => { if (e.key === "Enter" || e.key === " ") e.preventDefault(), label.querySelector("input").click() }
    addEventListener("dragover", e => { e.preventDefault(); $("drop").hidden = false })
    addEventListener("dragleave", e => { if (!e.relatedTarget) $("drop").hidden = true })
    addEventListener("drop", doing(async e => { e.preventDefault(); $("drop").hidden = true; await opened(await filesOf(e.dataTransfer)) }))
    addEventListener("resize", showStep)
}

/* ---- the beginning -------------------------------------------------------------------------------------------------------------------------------- */
/* For tests: what is on the page, as numbers. */
window.demo = { state, begin, single, openModel, openPicture, chooseScene, ask, opened }

doing(async () => {
    listen(), settingsShown(), showStep()
    const scenes = fetch("scenes/scenes.json").then(r => r.json())
    const model = start(null)
    const set = await scenes
    state.scenes = set.scenes, state.names = set.names
    $("scenes").replaceChildren(...set.scenes.map((s, i) => button(s.caption, () => chooseScene(i), `<img src="${s.image}" alt="">`)))
    await model
    await chooseScene(0)
})()
