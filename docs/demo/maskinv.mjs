/* maskinv.mjs - the library (face/face.h) as WebAssembly, in a page's worker and in node.
 *
 *     import { load } from "maskinv"
 *     const maskinv = await load()
 *     const model = await maskinv.open()                       // the model beside this file; node: or a path
 *     const r = model.invert("cat.jpg", ["mask.png"], { texts: ["a cat", "a dog"] })
 *     r.embeddings[0]                                          // Float32Array [E], as `maskinv invert` writes it
 *     r.texts[0]                                               // [{ text, similarity, probability }, ...], the nearest first
 *
 * Pictures are paths (node), the bytes of a file (Uint8Array), or { data, width, height } with 3 or 4 bytes a pixel, as
 * canvas gives them. Masks are paths or { data, width, height } of booleans, bytes (255 is inside) or floats in 0..1. What
 * fails throws a MaskinvError in the library's words. Nothing leaves the machine, no file is written.
 */
export class MaskinvError extends Error {}

const node = typeof process === "object" && !!process.versions?.node
const fs = node ? await import("node:fs") : null
const url = node ? await import("node:url") : null
const MODEL_FILES = ["open_clip_config.json", "open_clip_model.safetensors", "merges.txt"]
const MEMORY_FIRST = 48 << 20, MEMORY_MOST = 3.5 * 2 ** 30

/* ---- files: those handed over (File, Uint8Array), by path; in node then the disk's ----------------------------- */
class Files {
    constructor() { this.held = new Map(); this.open = null }
    add(path, content) { this.held.set(path, content) }
    drop(folder) { for (const path of [...this.held.keys()]) if (path.startsWith(folder)) this.held.delete(path) }
    #names(folder) {
        const start = folder.endsWith("/") ? folder : folder + "/"
        return [...new Set([...this.held.keys()].filter(p => p.startsWith(start)).map(p => p.slice(start.length).split("/")[0]))]
    }
    size(path) {
        const f = this.held.get(path)
        if (f) return f.size ?? f.length
        if (this.#names(path).length) return -2
        try {
            const s = fs.statSync(path)
            return s.isDirectory() ? -2 : s.size
        } catch { return -1 }
    }
    name(folder, index) {
        const own = this.#names(folder)
        try { return (own.length ? own : fs.readdirSync(folder))[index] } catch { return undefined }
    }
    /* bytes into `out`; how many */
    read(path, from, out) {
        const f = this.held.get(path)
        if (f instanceof Uint8Array) {
            const part = f.subarray(from, from + out.length)
            out.set(part)
            return part.length
        }
        if (f) { /* a File, in a worker */
            const part = new Uint8Array(new FileReaderSync().readAsArrayBuffer(f.slice(from, from + out.length)))
            out.set(part)
            return part.length
        }
        if (this.open?.path !== path) {
            if (this.open) fs.closeSync(this.open.fd)
            this.open = { path, fd: fs.openSync(path, "r") }
        }
        return fs.readSync(this.open.fd, out, 0, out.length, from)
    }
}

/* ---- the module -------------------------------------------------------------------------------------------------- */
/* wasm: bytes, a URL or a path; not given: maskinv.wasm beside this file. */
export async function load(wasm = new URL("maskinv.wasm", import.meta.url)) {
    const files = new Files(), decoder = new TextDecoder()
    let x // what the module exports
    const bytes = (at, n) => new Uint8Array(x.memory.buffer, at >>> 0, n)
    const text = at => {
        if (!at) return null
        const all = new Uint8Array(x.memory.buffer, at >>> 0)
        return decoder.decode(all.subarray(0, all.indexOf(0)))
    }
    const imports = {
        host: {
            size: path => files.size(text(path)),
            name: (path, index, out, room) => {
                const name = files.name(text(path), index)
                if (name === undefined) return -1
                const b = new TextEncoder().encode(name)
                if (b.length < room) bytes(out, b.length + 1).set([...b, 0])
                return b.length
            },
            read: (path, from, out, n) => { try { return files.read(text(path), from, bytes(out, n)) } catch { return -1 } },
            now: () => performance.now() / 1000,
        },
        env: { setTempRet0() {}, emscripten_notify_memory_growth() {}, __syscall_getdents64: () => -52 },
        wasi_snapshot_preview1: { // no environment, no console
            environ_sizes_get: (count, size) => (new Uint32Array(x.memory.buffer, count, 1)[0] = new Uint32Array(x.memory.buffer, size, 1)[0] = 0),
            environ_get: () => 0, fd_close: () => 0, fd_write: () => 8, fd_seek: () => 8, fd_read: () => 8,
            proc_exit: code => { throw new MaskinvError(`exit ${code}`) },
        },
    }
    let instance
    if (wasm instanceof Uint8Array) ({ instance } = await WebAssembly.instantiate(wasm, imports))
    else if (node) ({ instance } = await WebAssembly.instantiate(fs.readFileSync(wasm), imports))
    else {
        const answer = await fetch(wasm)
        if (!answer.ok) throw new MaskinvError(`${wasm}: ${answer.status} ${answer.statusText}`)
        ;({ instance } = await WebAssembly.instantiate(await answer.arrayBuffer(), imports))
    }
    x = instance.exports
    x._initialize?.()
    return new Maskinv(x, files, text)
}

export class Maskinv {
    constructor(x, files, text) { this.x = x; this.files = files; this.text = text }
    get version() { return this.text(this.x.mi_version()) }
    /* The explainers that model.explain knows by name. */
    get methods() { return Array.from({ length: this.x.mi_method_count() }, (_, i) => this.text(this.x.mi_method_name(i))) }
    /* Bytes of the module's memory. */
    get memory() { return this.x.memory.buffer.byteLength }
    /* source: a path (node), files by name ({ "model.safetensors": File or Uint8Array, ... }: a folder), or nothing: the model
     * in model/ beside this file. */
    async open(source) {
        if (source === undefined) source = await this.#own()
        if (typeof source !== "string") source = this.#hand(source)
        const m = this.with(k => this.x.mi_open(k.text(source)))
        return new Model(this, this.must(m), source)
    }
    async #own() {
        const folder = new URL("model/", import.meta.url)
        if (node) return url.fileURLToPath(folder).replace(/\/$/, "")
        return Object.fromEntries(await Promise.all(MODEL_FILES.map(async name => {
            const answer = await fetch(new URL(name, folder))
            if (!answer.ok) throw new MaskinvError(`${name}: ${answer.status} ${answer.statusText}`)
            return [name, new Uint8Array(await answer.arrayBuffer())]
        })))
    }
    #hand(content) {
        const names = Object.keys(content)
        this.handed = (this.handed ?? 0) + 1
        const folder = `/${this.handed}`
        for (const name of names) this.files.add(`${folder}/${name}`, content[name])
        return names.length === 1 ? `${folder}/${names[0]}` : folder
    }
    /* A file's bytes as a picture: { data [height, width, 3], width, height }, read as the command line reads it. */
    picture(bytes) {
        return this.with(k => {
            const at = k.image(bytes), [rgb, width, height] = new Uint32Array(this.x.memory.buffer, at, 3)
            return { data: new Uint8Array(this.x.memory.buffer, rgb, 3 * width * height).slice(), width, height }
        })
    }
    must(value) {
        if (!value) throw new MaskinvError(this.text(this.x.mi_error()))
        return value
    }
    /* Calls with memory of its own, given back at the end. */
    with(work) {
        const k = new Scratch(this)
        try { return work(k) } finally { k.free() }
    }
}

/* What a call is given, in the module's memory. */
class Scratch {
    constructor(m) { this.m = m; this.x = m.x; this.held = []; this.later = [] }
    room(n) {
        const at = this.x.malloc(Math.max(n, 8)) >>> 0
        if (!at) throw new MaskinvError(`no memory for ${n} bytes, ${this.x.memory.buffer.byteLength} are in use`)
        this.held.push(at)
        return at
    }
    bytes(b) {
        const at = this.room(b.length)
        new Uint8Array(this.x.memory.buffer, at, b.length).set(b)
        return at
    }
    words(values) { return this.bytes(new Uint8Array(Uint32Array.from(values).buffer)) }
    doubles(n) { return this.room(8 * n) }
    text(s) { return this.bytes(new TextEncoder().encode(s + "\0")) }
    textOrNone(s) { return s === undefined || s === null ? 0 : this.text(s) }
    texts(list) { return this.words(list.map(s => this.text(s))) }
    floats(list) { return this.bytes(new Uint8Array(Float32Array.from(list).buffer)) }
    takeFloats(at, n) { return new Float32Array(this.x.memory.buffer, at >>> 0, n).slice() }
    takeDoubles(at, n) { return new Float64Array(this.x.memory.buffer, at >>> 0, n).slice() }
    /* mi_image */
    image(p) {
        if (typeof p === "string" || p instanceof Uint8Array) {
            const at = this.words([0, 0, 0])
            const read = typeof p === "string" ? this.x.mi_image_read(this.text(p), at) : this.x.mi_image_parse(this.bytes(p), p.length, at)
            this.m.must(read)
            this.later.push(() => this.x.mi_image_free(at))
            return at
        }
        const n = p.width * p.height, each = p.data.length / n
        if (each !== 3 && each !== 4) throw new MaskinvError(`a picture of ${p.width} x ${p.height} pixels with ${p.data.length} bytes found, 3 or 4 a pixel expected`)
        const rgb = each === 3 ? p.data : new Uint8Array(3 * n)
        if (each === 4) for (let i = 0; i < n; i++) rgb[3 * i] = p.data[4 * i], rgb[3 * i + 1] = p.data[4 * i + 1], rgb[3 * i + 2] = p.data[4 * i + 2]
        return this.words([this.bytes(rgb), p.width, p.height])
    }
    /* mi_mask; grey / 255 of bytes, as files are read, but where the largest is 1 */
    mask(m) {
        if (typeof m === "string") {
            const at = this.words([0, 0, 0])
            this.m.must(this.x.mi_mask_read(this.text(m), at))
            this.later.push(() => this.x.mi_mask_free(at))
            return at
        }
        if (m.data.length !== m.width * m.height) throw new MaskinvError(`a mask of ${m.width} x ${m.height} pixels with ${m.data.length} numbers found`)
        const soft = m.data instanceof Float32Array ? m.data : Float32Array.from(m.data)
        const whole = !(m.data instanceof Float32Array) && !(m.data instanceof Float64Array) && soft.some(v => v > 1)
        return this.words([this.floats(whole ? soft.map(v => v / 255) : soft), m.width, m.height])
    }
    /* mi_invert_options */
    options(o = {}) {
        const at = this.bytes(new Uint8Array(56)), v = new DataView(this.x.memory.buffer)
        const whole = (name, offset) => {
            const n = o[name] ?? 0
            if (!(Number.isInteger(n) && n >= 0 && n <= 1e9)) throw new MaskinvError(`${name}: ${n} found, a whole number expected`)
            v.setUint32(at + offset, n, true)
        }
        const number = (name, offset) => {
            const n = o[name] ?? -1
            if (o[name] !== undefined && !(n >= 0)) throw new MaskinvError(`${name}: ${n} found, 0 or more expected`)
            v.setFloat64(at + offset, n, true)
        }
        whole("size", 0), whole("iters", 4), whole("layers", 8)
        number("lr", 16), number("alpha", 24), number("decay", 32)
        const gradient = this.textOrNone(o.gradient), explainer = this.textOrNone(o.explainer)
        new DataView(this.x.memory.buffer).setUint32(at + 40, gradient, true)
        new DataView(this.x.memory.buffer).setUint32(at + 44, explainer, true)
        return at
    }
    free() {
        for (const f of this.later) f()
        for (const at of this.held) this.x.free(at)
    }
}

/* ---- models --------------------------------------------------------------------------------------------------------- */
export class Model {
    constructor(maskinv, at, source) {
        this.maskinv = maskinv; this.x = maskinv.x; this.at = at; this.source = source
        this.room = MEMORY_FIRST
        this.x.mi_set_memory(at, this.room)
        this.x.mi_set_threads(at, 1)
    }
    get name() { return this.maskinv.text(this.x.mi_name(this.at)) }
    get embedSize() { return this.x.mi_embed_size(this.at) }
    get imageSide() { return this.x.mi_image_side(this.at) }
    get patchSide() { return this.x.mi_patch_side(this.at) }
    get layerCount() { return this.x.mi_layer_count(this.at) }
    /* Pixels of the square that invert and explain work on. */
    side(asked = 0) { return this.maskinv.must(this.x.mi_side(this.at, asked)) }
    close() {
        if (this.at) this.x.mi_close(this.at)
        if (/^\/\d+/.test(this.source)) this.maskinv.files.drop(/^\/\d+/.exec(this.source)[0] + "/")
        this.at = 0
    }
    /* A call's working memory grows until it does. */
    must(call) {
        for (;;) {
            const value = call()
            if (value) return value
            const error = this.maskinv.text(this.x.mi_error())
            const more = Math.min(this.room * 2, MEMORY_MOST)
            if (!/working memory is full|of memory are too little/.test(error) || more <= this.room) throw new MaskinvError(error)
            this.room = more
            this.x.mi_set_memory(this.at, more)
        }
    }
    #floats(k, count, call) {
        const out = k.room(4 * count)
        this.must(() => call(out))
        return k.takeFloats(out, count)
    }
    #rows(all, each) { return Array.from({ length: all.length / each }, (_, i) => all.slice(i * each, (i + 1) * each)) }
    /* As the model gives it, [E]; squash: the whole picture in a square, as invert sees it. */
    embedImage(image, { squash = false, size = 0 } = {}) {
        return this.maskinv.with(k => {
            const p = k.image(image)
            return this.#floats(k, this.embedSize, out => this.x.mi_embed_image(this.at, p, squash, size, out))
        })
    }
    /* [E] each, not normalised */
    embedTexts(texts) {
        return this.maskinv.with(k => {
            const t = k.texts(texts)
            return this.#rows(this.#floats(k, texts.length * this.embedSize, out => this.x.mi_embed_texts(this.at, t, texts.length, out)), this.embedSize)
        })
    }
    /* Unit rows, joined: what compare takes. */
    embedQueries(texts, templates = []) {
        return this.maskinv.with(k => {
            const t = k.texts(texts), s = k.texts(templates)
            return this.#floats(k, texts.length * this.embedSize, out => this.x.mi_embed_queries(this.at, t, texts.length, s, templates.length, out))
        })
    }
    /* Cosines and probabilities of an embedding with texts' unit rows, the nearest first. */
    compare(embedding, texts, units) {
        if (!texts.length) return []
        return this.maskinv.with(k => {
            const s = k.doubles(texts.length), p = k.doubles(texts.length)
            this.must(() => this.x.mi_compare(this.at, k.floats(embedding), k.floats(units), texts.length, s, p))
            const similarity = k.takeDoubles(s, texts.length), probability = k.takeDoubles(p, texts.length)
            return texts.map((text, i) => ({ text, similarity: similarity[i], probability: probability[i] })).sort((a, b) => b.similarity - a.similarity)
        })
    }
    /* Maps [size * size] in 0..1 of texts, or of embeddings. */
    explain(image, { texts, embeddings, method = "legrad", size = 0, blocks = 0, templates = [] }) {
        const count = (texts ?? embeddings).length, side = this.side(size)
        return this.maskinv.with(k => {
            const p = k.image(image), o = k.words([k.text(method), side, blocks, k.texts(templates), templates.length])
            const of = texts ? k.texts(texts) : k.floats(embeddings.flatMap(e => [...e]))
            const call = texts ? this.x.mi_explain_texts : this.x.mi_explain
            return this.#rows(this.#floats(k, count * side * side, out => call(this.at, p, of, count, o, out)), side * side)
        })
    }
    /* A picture opened once, its regions inverted step by step (mi_session). */
    session(image, options) {
        return this.maskinv.with(k => {
            const p = k.image(image), o = k.options(options)
            return new Session(this, this.must(() => this.x.mi_session_open(this.at, p, o)))
        })
    }
    /* An embedding for each mask. progress(mask, step): false stops, by an error. */
    invert(image, masks, { texts = [], templates = [], progress, ...options } = {}) {
        const steps = this.maskinv.with(k => this.x.mi_invert_steps(this.at, k.options(options)))
        const r = progress ? this.#byStep(image, masks, steps, progress, options) : this.#together(image, masks, steps, options)
        const units = texts.length ? this.embedQueries(texts, templates) : null
        r.texts = units ? r.embeddings.map(e => this.compare(e, texts, units)) : []
        return r
    }
    /* mi_invert */
    #together(image, masks, steps, options) {
        return this.maskinv.with(k => {
            const p = k.image(image), E = this.embedSize, o = k.options(options), each = masks.map(m => k.mask(m))
            const held = k.room(12 * Math.max(each.length, 1)), u = () => new Uint32Array(this.x.memory.buffer)
            each.forEach((at, i) => u().copyWithin(held / 4 + 3 * i, at / 4, at / 4 + 3))
            const pixels = each.map((_, i) => u()[held / 4 + 3 * i + 1] * u()[held / 4 + 3 * i + 2])
            const e = k.room(4 * E * each.length), losses = k.room(4 * steps * each.length), maps = pixels.map(n => k.room(4 * n)), whole = k.room(4 * E)
            const result = k.words([e, losses, k.words(maps), whole])
            this.must(() => this.x.mi_invert(this.at, p, held, each.length, o, result))
            return { embeddings: this.#rows(k.takeFloats(e, E * each.length), E), losses: this.#rows(k.takeFloats(losses, steps * each.length), steps),
                maps: maps.map((at, i) => k.takeFloats(at, pixels[i])), image: k.takeFloats(whole, E) }
        })
    }
    #byStep(image, masks, steps, progress, options) {
        const session = this.session(image, options), r = { embeddings: [], maps: [], losses: [], image: null }
        try {
            masks.forEach((mask, i) => {
                const losses = new Float32Array(steps)
                let step
                try {
                    session.mask(mask)
                    for (let k = 0; k < steps; k++) {
                        losses[k] = (step = session.step(k + 1 === steps)).loss
                        if (progress(i, k) === false) throw new MaskinvError(`stopped after step ${k}`)
                    }
                } catch (e) { throw e instanceof MaskinvError ? new MaskinvError(`mask ${i}: ${e.message.replace(/^mask 0: /, "")}`) : e }
                r.embeddings.push(step.embedding), r.maps.push(step.map), r.losses.push(losses)
                r.image = step.image
            })
        } finally { session.close() }
        return r
    }
}

/* ---- step by step ------------------------------------------------------------------------------------------------------ */
const STEP = { bytes: 136, counts: ["count", "rows", "columns", "layers"],
    numbers: ["loss", "dice", "inside", "all", "region", "low", "high", "cosine", "length", "slope", "moved"],
    rows: ["embedding", "before", "slopes", "image", "map", "grid", "pull", "share"] }

export class Session {
    constructor(model, at) { this.model = model; this.x = model.x; this.at = at }
    /* Begins again, with this region. */
    mask(mask) {
        this.model.maskinv.with(k => {
            const m = k.mask(mask)
            this.model.maskinv.must(this.x.mi_session_mask(this.at, m))
            const [, width, height] = new Uint32Array(this.x.memory.buffer, m, 3)
            this.pixels = width * height
        })
    }
    rates({ lr = -1, alpha = -1, decay = -1 }) { this.x.mi_session_rates(this.at, lr, alpha, decay) }
    /* Every number of one step (mi_step in face/face.h). */
    step(whole = true) {
        return this.model.maskinv.with(k => {
            const at = k.room(STEP.bytes)
            this.model.maskinv.must(this.x.mi_session_step(this.at, at))
            const v = new DataView(this.x.memory.buffer), s = {}
            STEP.counts.forEach((name, i) => s[name] = v.getUint32(at + 4 * i, true))
            STEP.numbers.forEach((name, i) => s[name] = v.getFloat64(at + 16 + 8 * i, true))
            this.cells = s.rows * s.columns, this.layers_ = s.layers
            const E = this.model.embedSize, n = [E, E, E, E, this.pixels, this.cells, this.cells, this.cells]
            if (whole) STEP.rows.forEach((name, i) => s[name] = k.takeFloats(v.getUint32(at + 104 + 4 * i, true), n[i]))
            return s
        })
    }
    /* R of each explained layer by itself for the last step. */
    layers() {
        return this.model.maskinv.with(k => {
            const out = k.room(4 * this.cells * this.layers_)
            this.model.maskinv.must(this.x.mi_session_layers(this.at, out))
            return Array.from({ length: this.layers_ }, (_, i) => k.takeFloats(out + 4 * i * this.cells, this.cells))
        })
    }
    close() {
        if (this.at) this.x.mi_session_close(this.at)
        this.at = 0
    }
}
