/* web.mjs - the page and the Node module against the command line; test_web.sh calls it.
 *     node test/web.mjs page|node|package|speed|bench OUT        lines of "name: what was found" for what is not as it should be */
import { execFileSync } from "node:child_process"
import fs from "node:fs"
import { load } from "../docs/demo/maskinv.mjs"

const [what, out] = process.argv.slice(2)
const begin = name => console.log(`[ RUN      ] ${name}`)
const end = (name, wrong) => { console.log(wrong ? `[  FAILED  ] ${name}: ${wrong}` : `[       OK ] ${name}`); if (wrong) process.exitCode = 1 }
const test = async (name, work) => { begin(name); let wrong; try { wrong = await work() } catch (e) { wrong = String(e.stack ?? e).split("\n").slice(0, 4).join(" | ") } end(name, wrong) }
const maskinv = (...args) => execFileSync("./maskinv", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
const refused = (...args) => { try { maskinv(...args); return "" } catch (e) { return e.stderr.toString() } }
const floats = file => { const b = fs.readFileSync(file); return new Float32Array(b.buffer.slice(b.byteOffset + b.length % 4 + 128 - (b.length % 4), b.byteOffset + b.length)) }
const apart = (a, b) => a.length !== b.length ? Infinity : a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i])), 0)
const npy = (file, data, w, h) => { // booleans [h, w]
    const head = `{'descr': '|b1', 'fortran_order': False, 'shape': (${h}, ${w}), }`.padEnd(117) + "\n"
    fs.writeFileSync(file, Buffer.concat([Buffer.from("\x93NUMPY\x01\x00v\x00", "latin1"), Buffer.from(head), Buffer.from(data)]))
}
const texts = ["a photo of a train", "a photo of a drum", "a photo of a flower", "a photo of a clock"]
const invert = (image, mask, more) => {
    maskinv("invert", "-i", image, "-k", mask, "-o", `${out}/cli`, ...more.flat())
    const result = JSON.parse(fs.readFileSync(`${out}/cli/result.json`, "utf8"))
    return { embedding: floats(`${out}/cli/embeddings.npy`), loss: result.masks[0].loss, texts: result.masks[0].texts }
}

/* ---- the module under node --------------------------------------------------------------------------------------- */
async function node() {
    const m = await load(), scene = "docs/demo/scenes/0.png", mask = "docs/demo/scenes/0-1.png"
    await test("node, embedding, losses and words as the command line has them", async () => {
        const model = await m.open(), r = model.invert(scene, [mask], { texts }), c = invert(scene, mask, texts.map(t => ["-t", t]))
        const wrong = Math.max(apart(r.embeddings[0], c.embedding), apart([...r.losses[0]], c.loss),
            ...r.texts[0].map(t => Math.abs(t.probability - c.texts.find(x => x.text === t.text).probability)))
        if (!(wrong <= 1e-4)) return `${wrong} apart`
        if (r.texts[0][0].text !== [...c.texts].sort((a, b) => b.similarity - a.similarity)[0].text) return `nearest is ${r.texts[0][0].text}`
    })
    await test("node, checkpoints of other families, from the disk and handed over", async () => {
        for (const model of ["nano-hf-f32", "nanogelu-openclip-bf16"]) {
            const path = `test/data/${model}`, c = invert("test/data/image.png", "test/data/mask0.png", ["-m", path, "--layers", "1"])
            const handed = Object.fromEntries(fs.readdirSync(path).map(f => [f, new Uint8Array(fs.readFileSync(`${path}/${f}`))]))
            for (const source of [path, handed]) {
                const opened = await m.open(source), r = opened.invert("test/data/image.png", ["test/data/mask0.png"], { layers: 1 })
                opened.close()
                if (!(apart(r.embeddings[0], c.embedding) <= 1e-3)) return `${model}: ${apart(r.embeddings[0], c.embedding)} apart`
            }
        }
    })
    await test("node, bad input in the command line's words", async () => {
        const model = await m.open(), said = work => { try { work(); return "nothing was said" } catch (e) { return e.message } }
        const picture = said(() => model.invert("Makefile", [mask])), shell = refused("invert", "-i", "Makefile", "-k", mask)
        if (!shell.includes(picture)) return `"${picture}", the command line "${shell}"`
        const empty = said(() => model.invert(scene, [{ data: new Uint8Array(4), width: 2, height: 2 }]))
        if (!/is empty/.test(empty)) return empty
        const side = said(() => model.invert(scene, [mask], { size: 97 }))
        if (!/multiple of the model's patch/.test(side)) return side
        let absent
        try { await m.open("no/such/model") } catch (e) { absent = e.message }
        if (!refused("info", "-m", "no/such/model").includes(absent)) return absent
        const large = said(() => model.session(scene, { size: 16384 }))
        if (!/memory/.test(large)) return large
        if (!(model.invert(scene, [mask]).losses[0][9] < 1)) return "no more use after that"
    })
    await test("node, explainers, text embeddings, maps", async () => {
        const model = await m.open()
        maskinv("explain", "-i", scene, "-t", texts[0], "--method", "surgery", "--size", "96", "-o", `${out}/map`)
        const shell = floats(`${out}/map/${fs.readdirSync(`${out}/map`).find(f => f.endsWith(".npy"))}`)
        const map = model.explain(scene, { texts: [texts[0]], method: "surgery", size: 96 })[0]
        maskinv("embed", "-t", texts[1], "-o", `${out}/text.npy`)
        if (!(apart(model.embedTexts([texts[1]])[0], floats(`${out}/text.npy`)) <= 1e-4)) return "another text embedding"
        if (shell.length === map.length && !(apart(map, shell) <= 1e-3)) return `map ${apart(map, shell)} apart`
        const by = [], one = { iters: 3 }, steps = model.invert(scene, [mask], { ...one, progress: (...at) => { by.push(at) } })
        if (!(apart(steps.embeddings[0], model.invert(scene, [mask], one).embeddings[0]) === 0) || by.length !== 3) return "another embedding step by step"
        let flat = 0
        for (const method of m.methods) try {
            if (!model.explain(scene, { texts: texts.slice(0, 2), method, size: 96 })[0].every(v => v >= 0 && v <= 1)) return method
        } catch (e) { if (!/is flat/.test(e.message) || ++flat > 1) throw e }
    })
}

/* ---- the npm package, packed and installed: in the words of docs/WEB.md ----------------------------------------------- */
async function installed() {
    const folder = `${out}/user/node_modules/maskinv`, types = fs.readFileSync(`${folder}/maskinv.d.ts`, "utf8")
    await test("npm package, installed, gives the command line's embedding", async () => {
        fs.writeFileSync(`${out}/user/use.mjs`, `import { load } from "maskinv"
            const maskinv = await load(), model = await maskinv.open(), [picture, mask, ...texts] = process.argv.slice(2)
            const r = model.invert(picture, [mask], { texts })
            console.log(JSON.stringify([[...r.embeddings[0]], r.texts[0][0].text]))`)
        const scene = "docs/demo/scenes/0.png", mask = "docs/demo/scenes/0-0.png", c = invert(scene, mask, texts.map(t => ["-t", t]))
        const [embedding, nearest] = JSON.parse(execFileSync("node", [`${out}/user/use.mjs`, scene, mask, ...texts], { encoding: "utf8" }))
        if (!(apart(embedding, c.embedding) <= 1e-4)) return `${apart(embedding, c.embedding)} apart`
        if (nearest !== texts[0]) return `nearest is ${nearest}`
    })
    await test("npm package, its types name what is there", async () => {
        const module = await import(`${folder}/maskinv.mjs`), missing = []
        const names = body => [...body.matchAll(/^    (?:readonly )?(\w+)[(:]/gm)].map(m => m[1])
        for (const [, name, body] of types.matchAll(/^export class (\w+) \{\n([^]*?)^\}/gm)) {
            if (!names(body).length) missing.push(`${name} is empty`)
            for (const member of names(body)) if (!module[name] || !(member in module[name].prototype)) missing.push(`${name}.${member}`)
        }
        if (typeof module.load !== "function") missing.push("load")
        return missing.join(", ")
    })
}

/* In the page: nothing wider than the window, letters of 14 pixels and more that stand out from their ground (WCAG AA). */
const legible = `width => {
    const d = document.documentElement, wrong = d.scrollWidth > width ? ["wider than the window: " + d.scrollWidth] : []
    const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
    const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$|transparent/.test(c)) return c } return getComputedStyle(d).backgroundColor }
    for (const e of document.querySelectorAll("h1, h2, p, button, label, th, td, dt, dd, li, output, figcaption")) {
        if (!e.textContent.trim() || !e.offsetParent || e.disabled) continue
        const s = getComputedStyle(e), a = light(s.color), b = light(behind(e)), contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
        if (contrast < 4.5) wrong.push(e.tagName + " " + e.textContent.trim().slice(0, 20) + ": contrast " + contrast.toFixed(1))
        if (parseFloat(s.fontSize) < 14) wrong.push(e.tagName + ": letters of " + s.fontSize)
    }
    return wrong.slice(0, 4).join("; ")
}`

/* ---- the page ----------------------------------------------------------------------------------------------------- */
async function page(browser) {
    const { serve, open } = await import("../web/drive.mjs")
    const site = await serve("docs/demo"), calm = "demo.state.run === 0 && demo.state.steps.length >= 10"
    const p = await open(browser, site.url)
    try {
        await test("page, a map moves by itself, at once", async () => {
            await p.until("document.body.dataset.done", 120)
            const took = await p.value("demo.state.steps.map(s => s.took).sort((a, b) => a - b)")
            console.log(`first map after ${await p.value("document.body.dataset.first")} ms, a step at 96 pixels in ${took[5].toFixed(0)} ms (median of ten)`)
            const losses = await p.value("demo.state.steps.map(s => s.step.loss)")
            if (!(losses[9] < losses[0] - 0.1)) return `losses ${losses}`
            if (await p.value("demo.state.steps[9].words[0].text") !== texts[0]) return "another word is nearest"
        })
        await test("page, speed", async () => {
            let it = { first: Infinity }
            for (let i = 0; i < 3 && it.first > 2000; i++) it = await opened(browser) // another's work may hold one up
            if (it.first > 2000 || it.step > 100) return `first map after ${it.first} ms, a step in ${it.step} ms; 2000 and 100 expected`
        })
        await test("page, a region painted with the mouse gives the command line's embedding and words", async () => {
            const box = await p.value("(b => [b.x, b.y, b.width])(document.querySelector('#picture').getBoundingClientRect())"), at = f => [box[0] + f[0] * box[2], box[1] + f[1] * box[2]]
            await p.value("document.querySelector('#clear').click()")
            await p.mouse("mousePressed", ...at([0.42, 0.72]))
            for (const f of [[0.48, 0.85], [0.55, 0.75], [0.62, 0.88], [0.66, 0.8]]) await p.mouse("mouseMoved", ...at(f))
            await p.mouse("mouseReleased", ...at([0.66, 0.8]))
            await p.until(calm, 60)
            const { w, h, mask } = await p.value("({ w: demo.state.base.width, h: demo.state.base.height, mask: [...demo.state.mask] })")
            npy(`${out}/painted.npy`, mask, w, h)
            if (mask.reduce((a, b) => a + b) < 500) return "hardly anything was painted"
            const c = invert("docs/demo/scenes/0.png", `${out}/painted.npy`, texts.map(t => ["-t", t]))
            const all = await p.value("demo.state.steps[9].words.map(w => w.text)"), shell = invert("docs/demo/scenes/0.png", `${out}/painted.npy`, all.map(t => ["-t", t]))
            const own = await p.value("demo.state.steps[9]"), e = Object.values(own.step.embedding)
            const wrong = [apart(e, c.embedding), ...own.words.map(t => Math.abs(t.probability - shell.texts.find(x => x.text === t.text).probability))]
            if (!(Math.max(...wrong) <= 1e-4)) return `embedding ${wrong[0]}, words ${Math.max(...wrong.slice(1))} apart`
        })
        await test("page, by keyboard alone", async () => {
            await p.value("document.querySelector('#clear').click(); document.querySelector('#picture').focus()")
            await p.key("x", "KeyX")
            await p.key(" ", "Space")
            for (let i = 0; i < 8; i++) await p.key(i % 2 ? "ArrowRight" : "ArrowDown")
            await p.key(" ", "Space")
            await p.until(calm, 60)
            await p.value("document.querySelector('#map').focus()")
            await p.key("ArrowUp")
            await p.until("/layer/.test(document.querySelector('#patch').textContent)", 20)
            if (!/Patch \d+, \d+/.test(await p.value("document.querySelector('#patch').textContent"))) return "no patch"
        })
        await test("page, typed words, settings, explainers", async () => {
            await p.value("document.querySelector('#word').value = 'a steam engine, <b>bold</b>'; document.querySelector('#add').requestSubmit()")
            await p.until(`${calm} && /steam engine/.test(document.querySelector('#words').textContent)`, 60)
            if (await p.value("!!document.querySelector('#words b')")) return "typed words became markup"
            await p.value("document.querySelector('#draw').click()")
            await p.until("!document.querySelector('#draw').disabled && document.querySelectorAll('#gallery figure').length === demo.state.about.methods.length", 120)
            const without = await p.value("document.querySelectorAll('#gallery .no').length")
            if (without > 2) return `${without} explainers drew nothing`
        })
        await test("page, bad input is said in the command line's words, and the page lives on", async () => {
            const said = () => p.value("document.querySelector('#trouble').hidden ? '' : document.querySelector('#trouble').textContent")
            await p.value("demo.openPicture(new File(['no picture'], 'x.png'))")
            fs.writeFileSync(`${out}/x.png`, "no picture")
            const picture = await said()
            if (!refused("invert", "-i", `${out}/x.png`, "-k", `${out}/x.png`).includes(picture)) return picture
            await p.value("demo.openModel([new File(['{}'], 'broken.safetensors')])")
            fs.writeFileSync(`${out}/broken.safetensors`, "{}")
            const model = await said(), shell = refused("info", "-m", `${out}/broken.safetensors`)
            if (!model || !shell.includes(model.replace(/^\/\d+\//, ""))) return `"${model}", the command line "${shell}"`
            await p.value("document.querySelector('#side').append(new Option('16384', '16384')); document.querySelector('#side').value = '16384'; demo.begin()")
            if (!/memory/.test(await said())) return `out of memory: "${await said()}"`
            await p.value("document.querySelector('#side').value = '96'; document.querySelector('#clear').click(); demo.chooseScene(1)")
            await p.until(calm, 60)
            if (await said()) return await said()
        })
        await test("page, a worker that dies is said and replaced", async () => {
            await p.value("demo.ask('mask', {}).catch(() => 0)") // no mask at all: a fault of the worker's own
            await p.until("!document.querySelector('#trouble').hidden && /worker failed/.test(document.querySelector('#trouble').textContent)", 60)
            await p.until("demo.state.about && demo.state.worker.asked.size === 0", 60)
            await p.value("demo.chooseScene(2)")
            await p.until(calm, 60)
        })
        await test("page, a checkpoint of the visitor's own", async () => {
            const files = fs.readdirSync("test/data/nano-hf-f32").map(f => [f, fs.readFileSync(`test/data/nano-hf-f32/${f}`).toString("base64")])
            await p.value(`demo.openModel(${JSON.stringify(files)}.map(([n, b]) => new File([Uint8Array.from(atob(b), c => c.charCodeAt(0))], n)))`)
            await p.until("/nano|Model:/.test(document.querySelector('#which').textContent) || !document.querySelector('#trouble').hidden", 60)
            await p.until(`${calm} || !document.querySelector('#trouble').hidden`, 60)
            if (await p.value("!document.querySelector('#trouble').hidden")) return await p.value("document.querySelector('#trouble').textContent")
        })
        await test("page, nothing was asked of elsewhere, no errors", async () => {
            const wrong = p.said.filter(s => !/worker failed/.test(s))
            return wrong[0] ?? site.asked.find(a => !fs.existsSync(`docs/demo${a === "/" ? "/index.html" : a}`))
        })
        for (const [width, height, dark] of [[1280, 900, false], [1280, 900, true], [390, 844, false], [390, 844, true]])
            await test(`page, ${width} pixels wide, ${dark ? "dark" : "light"}`, async () => {
                await p.look({ width, height, dark, touch: width < 500 })
                if (process.env.SHOTS) await p.shot(`${process.env.SHOTS}/${width}-${dark ? "dark" : "light"}.png`)
                return p.value(`(${legible})(${width})`)
            })
    } finally { p.end() }
    site.end()
}

/* ---- speed: processor time of all, in turns, so that others' work troubles none more ---------------------------------- */
/* The portable build does 4 floats at a time, as WebAssembly does (make portable); build/none what this processor can. */
async function speed() {
    const m = await load(), model = await m.open(), scene = "docs/demo/scenes/0.png", mask = "docs/demo/scenes/0-0.png", few = 10, many = 110
    const native = program => iters => {
        const said = execFileSync("sh", ["-c", `${program} invert -i ${scene} -k ${mask} --threads 1 --iters ${iters} >/dev/null; times`], { encoding: "utf8" })
        return [...said.trim().split("\n")[1].matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, t) => sum + 60 * +t[1] + +t[2], 0)
    }
    const wasm = iters => {
        const start = process.cpuUsage()
        model.invert(scene, [mask], { iters })
        const used = process.cpuUsage(start)
        return (used.user + used.system) / 1e6
    }
    const ways = { wasm, portable: native("build/portable/maskinv"), ...(fs.existsSync("build/none/maskinv") ? { own: native("build/none/maskinv") } : {}) }
    wasm(many) // compiled well by now
    const best = {}
    for (let i = 0; i < 5; i++) for (const name in ways) best[name] = Math.min(best[name] ?? Infinity, ways[name](many) - ways[name](few))
    const ms = name => (1000 * best[name] / (many - few)).toFixed(2), ratio = name => (best[name] / best.wasm).toFixed(2)
    console.log(`a step at 96 pixels, one core: ${ms("wasm")} ms in WebAssembly, ${ms("portable")} ms native and portable: ${ratio("portable")} of its speed`)
    if (ways.own) console.log(`built for this processor, without BLAS: ${ms("own")} ms: ${ratio("own")} of its speed`)
    const wrong = ratio("portable") >= 0.5 ? "" : `${ratio("portable")} of its speed, 0.5 expected`
    if (wrong || what !== "bench") end("web speed beside the native portable build", wrong)
}

/* ---- make web-bench: what the page is asked to reach ------------------------------------------------------------------ */
/* The page opened anew, in a browser that has seen nothing: milliseconds to the first map, and of a step (median of ten). */
async function opened(browser) {
    const { serve, open } = await import("../web/drive.mjs"), site = await serve("docs/demo"), p = await open(browser, site.url)
    try {
        await p.until("document.body.dataset.done", 120)
        return { first: +await p.value("document.body.dataset.first"), step: (await p.value("demo.state.steps.map(s => s.took).sort((a, b) => a - b)"))[5] }
    } finally { p.end(), site.end() }
}

async function bench(browser) {
    await speed()
    if (!browser) return console.log("the page: skipped, no Chromium here")
    const all = []
    for (let i = 0; i < 5; i++) all.push(await opened(browser))
    const middle = name => all.map(o => o[name]).sort((a, b) => a - b)[2]
    console.log(`the page, median of five openings in Chromium: first map after ${middle("first")} ms, a step at 96 pixels in ${middle("step").toFixed(1)} ms`)
    if (middle("first") > 2000 || middle("step") > 100) end("page, speed", "2000 and 100 ms expected")
}

await (what === "bench" ? bench(process.env.BROWSER) : what === "speed" ? speed() : what === "page" ? page(process.env.BROWSER) : what === "package" ? installed() : node())
