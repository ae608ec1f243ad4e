/* worker.js - the library in a thread of its own: one request at a time, answered by its number. What fails is answered in the
 * library's words; what the module cannot survive (a trap) is said as fatal, and the page starts another worker. */
import { load, MaskinvError } from "./maskinv.mjs"

let maskinv, model, picture, session
let words = { texts: [], units: null }

const about = () => ({ name: model.name, embed: model.embedSize, side: model.side(), patch: model.patchSide, own: model.imageSide,
    layers: model.layerCount, methods: maskinv.methods, version: maskinv.version, memory: maskinv.memory })
const rank = embedding => words.units ? model.compare(embedding, words.texts, words.units) : []
const drop = () => { session?.close(); session = null }

const answers = {
    async open({ files }) {
        maskinv ??= await load()
        drop()
        model?.close()
        model = await maskinv.open(files)
        return about()
    },
    /* A file's bytes, read as the command line reads it. */
    picture({ bytes }) {
        const read = maskinv.picture(bytes)
        drop()
        picture = read
        return { width: read.width, height: read.height, rgb: read.data.slice() }
    },
    words({ texts }) {
        words = { texts, units: texts.length ? model.embedQueries(texts) : null }
        return {}
    },
    session({ options }) {
        drop()
        session = model.session(picture, options)
        return {}
    },
    mask({ mask }) { return session.mask(mask), {} },
    rates({ rates }) { return session?.rates(rates), {} },
    step() {
        const start = performance.now(), step = session.step(), took = performance.now() - start
        return { step, took, words: rank(step.embedding), whole: rank(step.image), memory: maskinv.memory }
    },
    rank({ embedding, image }) { return { words: rank(embedding), whole: rank(image) } },
    layers() { return { layers: session.layers() } },
    explain({ method, side, embedding, text }) {
        return { map: model.explain(picture, { method, size: side, ...(text === undefined ? { embeddings: [embedding] } : { texts: [text] }) })[0] }
    },
    side({ asked }) { return { side: model.side(asked) } },
}

onmessage = async ({ data }) => {
    try {
        postMessage({ id: data.id, ...await answers[data.ask](data) })
    } catch (e) {
        const said = e instanceof MaskinvError
        postMessage({ id: data.id, error: said ? e.message : `the worker failed: ${e.message || e}`, fatal: !said })
    }
}
