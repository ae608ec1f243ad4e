/* drive.mjs - a headless Chromium by its debugging protocol, and a server of a folder's files; for test/web.mjs.
 *
 *     const site = await serve("docs/demo"), page = await open("chromium", site.url, { width: 390, height: 844, dark: true })
 *     await page.until("document.body.dataset.done")
 *     await page.value("1 + 1"); await page.shot("page.png"); page.end(); site.end()
 *
 * Node 22 has a WebSocket; older ones need none: the protocol speaks through a pipe (--remote-debugging-pipe).
 */
import { spawn } from "node:child_process"
import fs from "node:fs"
import http from "node:http"
import os from "node:os"
import path from "node:path"

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".png": "image/png", ".json": "application/json" }

export function serve(folder) {
    const asked = []
    const server = http.createServer((request, response) => {
        const name = decodeURIComponent(new URL(request.url, "http://x").pathname), file = path.join(folder, name === "/" ? "index.html" : name)
        asked.push(name)
        fs.readFile(file, (error, bytes) => {
            response.writeHead(error ? 404 : 200, { "content-type": TYPES[path.extname(file)] ?? "application/octet-stream" })
            response.end(error ? "" : bytes)
        })
    })
    return new Promise(done => server.listen(0, "127.0.0.1", () => done({ url: `http://127.0.0.1:${server.address().port}/`, asked, end: () => server.close() })))
}

/* as: { width, height, dark, touch }, changed later by page.look */
export async function open(browser, url, as) {
    const profile = fs.mkdtempSync(path.join(os.tmpdir(), "page-"))
    const child = spawn(browser, ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--disable-quic", "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] })
    const waiting = new Map(), heard = [], said = []
    let count = 0, rest = ""
    child.stdio[4].setEncoding("utf8")
    child.stdio[4].on("data", text => {
        const parts = (rest + text).split("\0")
        rest = parts.pop()
        for (const part of parts) {
            const m = JSON.parse(part)
            if (m.id) waiting.get(m.id)?.(m), waiting.delete(m.id)
            else heard.push(m)
            if (m.method === "Runtime.exceptionThrown") said.push(m.params.exceptionDetails.exception?.description ?? m.params.exceptionDetails.text)
            if (m.method === "Log.entryAdded" && m.params.entry.level === "error") said.push(m.params.entry.text)
        }
    })
    let session
    const send = (method, params = {}) => new Promise((done, failed) => {
        waiting.set(++count, m => m.error ? failed(new Error(`${method}: ${m.error.message}`)) : done(m.result))
        child.stdio[3].write(JSON.stringify({ id: count, method, params, ...(session ? { sessionId: session } : {}) }) + "\0")
    })
    const { targetInfos } = await send("Target.getTargets")
    session = (await send("Target.attachToTarget", { targetId: targetInfos.find(t => t.type === "page").targetId, flatten: true })).sessionId
    for (const domain of ["Page", "Runtime", "Log"]) await send(`${domain}.enable`)
    let width
    const look = async ({ width: w = 1280, height = 900, dark = false, touch = false } = {}) => {
        await send("Emulation.setDeviceMetricsOverride", { width: width = w, height, deviceScaleFactor: 1, mobile: touch })
        await send("Emulation.setTouchEmulationEnabled", { enabled: touch })
        await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] })
    }
    await look(as)
    const start = performance.now()
    await send("Page.navigate", { url })
    const page = {
        said, send, look, since: () => performance.now() - start,
        async value(expression) {
            const r = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true })
            if (r.exceptionDetails) throw new Error(r.exceptionDetails.exception?.description ?? r.exceptionDetails.text)
            return r.result.value
        },
        async until(expression, seconds = 60) {
            for (const end = performance.now() + 1000 * seconds; ;) {
                if (await page.value(`!!(${expression})`)) return
                if (performance.now() > end) throw new Error(`after ${seconds} s still not: ${expression}`)
                await new Promise(done => setTimeout(done, 25))
            }
        },
        mouse: (type, x, y) => send("Input.dispatchMouseEvent", { type, x, y, button: "left", buttons: type === "mouseReleased" ? 0 : 1, clickCount: 1 }),
        async key(key, code = key) { await send("Input.dispatchKeyEvent", { type: "keyDown", key, code }); await send("Input.dispatchKeyEvent", { type: "keyUp", key, code }) },
        async shot(file, whole = true) {
            const r = await send("Page.captureScreenshot", { format: "png", captureBeyondViewport: whole,
                ...(whole ? { clip: { x: 0, y: 0, width, height: await page.value("document.documentElement.scrollHeight"), scale: 1 } } : {}) })
            fs.writeFileSync(file, Buffer.from(r.data, "base64"))
        },
        end() {
            child.on("exit", () => { try { fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }) } catch { /* its children still write: the system's to clear */ } })
            child.kill()
        },
    }
    await page.until(`document.readyState === "complete" && location.href !== "about:blank"`)
    return page
}
