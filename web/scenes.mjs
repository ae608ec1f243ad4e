/* scenes.mjs - the page's scenes out of a set that `maskinv scenes` wrote, and the names of the drawn world.
 *     node web/scenes.mjs SET OUT 15 21 16 */
import fs from "node:fs"
const [set, out, ...chosen] = process.argv.slice(2)
const records = fs.readFileSync(`${set}/scenes.jsonl`, "utf8").trim().split("\n").map(line => JSON.parse(line))
const names = [...fs.readFileSync("scenes/things.h", "utf8").matchAll(/^THING\("([^"]+)"/gm)].map(m => m[1]).sort()
const scenes = chosen.map((index, i) => {
    const r = records[index], copy = (from, to) => (fs.copyFileSync(`${set}/${from}`, `${out}/${to}`), `scenes/${to}`)
    const regions = r.objects.map((o, k) => ({ phrase: o.phrase, name: o.name, mask: copy(o.mask, `${i}-${k}.png`) }))
    return { caption: `A drawn scene: ${r.objects.map(o => o.name).join(", ")}`, image: copy(r.image, `${i}.png`), regions }
})
fs.writeFileSync(`${out}/scenes.json`, JSON.stringify({ names, scenes }, null, 1) + "\n")
