/* story.js - "what happens here": the equations of MODEL.md with a step's numbers beside them. */
const f = (v, digits = 3) => Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(2).replace("e", " · 10^").replace("^-", "^−").replace(/\^(.*)/, "<sup>$1</sup>").replace("+", "") : v.toFixed(digits)
const eq = (text, number) => `<p class="eq"><small>(${number})</small>${text}</p>`
const at = text => `<p class="at">${text}</p>`

export function equations(s, o, explainer) {
    const low = Math.min(...s.grid), high = Math.max(...s.grid), flat = s.rows * s.columns
    const shareIn = s.grid.reduce((sum, v, i) => sum + v * s.share[i], 0) / s.grid.reduce((a, b) => a + b, 0)
    const how = explainer === "legrad"
        ? `How the attention of each head would have to change for the picture's vector <i>z</i> to come nearer to ours, summed over ${s.layers} layer${s.layers > 1 ? "s" : ""}: a number for each patch.`
        : `A number for each patch, by ${explainer}.`
    return [
        `<div>${how}${eq("<i>s</i> = <i>ê</i> · <i>z</i>/|<i>z</i>|, &nbsp; <i>G</i> = ∂<i>s</i>/∂<i>A</i>, &nbsp; <i>R<sub>j</sub></i> = mean<sub>h,i</sub> relu(<i>G<sup>h</sup><sub>ij</sub></i>)", "4.1 – 4.3")}
         ${at(`${s.rows} × ${s.columns} = ${flat} patches, from <b>${f(low)}</b> to <b>${f(high)}</b>; <b>${(100 * shareIn).toFixed(1)} %</b> of all of it lies in your region`)}</div>`,
        `<div>Enlarged to pixels and taken to 0…1, this is the map.${eq("<i>M</i> = (<i>U R</i> − min)/(max − min)", "4.4")}
         ${at(`min <b>${f(s.low)}</b>, max <b>${f(s.high)}</b>`)}</div>`,
        `<div>How well does it cover the region <i>m</i>? Dice: 0 where they are the same, 1 where they are apart.${eq("Dice = 1 − (2 Σ <i>M m</i> + 1)/(Σ <i>M</i> + Σ <i>m</i> + 1)", "5.2")}
         ${at(`1 − (2 · ${f(s.inside, 0)} + 1)/(${f(s.all, 0)} + ${f(s.region, 0)} + 1) = <b>${f(s.dice, 4)}</b>`)}</div>`,
        `<div>The loss: with α, the vector is also held to where it began, <i>c</i>, the whole picture's.${eq("<i>L</i> = Dice + α (1 − cos(<i>e</i>, <i>c</i>))", "5.3")}
         ${at(`${f(s.dice, 4)} + ${f(o.alpha, 2)} · (1 − ${f(s.cosine, 4)}) = <b>${f(s.loss, 4)}</b>`)}</div>`,
        `<div>Its gradient runs back through the map, that is, through a gradient: which way should <i>e</i> go?${eq("∂<i>L</i>/∂<i>e</i>", "4.14 – 4.18, 5.6")}
         ${at(`${s.embedding.length} numbers, of length <b>${f(s.slope, 4)}</b>; the vector itself has length ${f(s.length, 2)}`)}</div>`,
        `<div>AdamW moves each number by about the step size, and the next step begins.${eq("<i>e</i> ← <i>e</i> − lr · <i>m̂</i>/(√<i>v̂</i> + ε)", "5.4")}
         ${at(`lr <b>${f(o.lr, 3)}</b>: <i>e</i> moved by <b>${f(s.moved, 3)}</b>, at the first step by lr · √${s.embedding.length} = ${f(o.lr * Math.sqrt(s.embedding.length), 3)}`)}</div>`,
    ].map(x => `<li>${x}</li>`).join("")
}

export function patchNumbers(s, patch, layers) {
    const row = Math.floor(patch / s.columns), column = patch % s.columns, total = s.grid.reduce((a, b) => a + b, 0)
    const rank = s.grid.reduce((n, v) => n + (v > s.grid[patch]), 1), pull = s.pull[patch]
    const asked = pull < 0 ? "grow ↑" : pull > 0 ? "shrink ↓" : "stay"
    const each = layers ? layers.map((l, i) => `<dt>… of that, the last layer${but(layers.length - 1 - i)}<dd>${s.grid[patch] > 0 ? (100 * l[patch] / s.grid[patch]).toFixed(0) : 0} %`).join("") : ""
    return `<h2>Patch ${row + 1}, ${column + 1}</h2><dl>
        <dt>R<sub>j</sub>, what it says for the vector<dd><b>${f(s.grid[patch])}</b>
        ${each}
        <dt>its share of all patches<dd><b>${(100 * s.grid[patch] / total).toFixed(2)} %</b>
        <dt>its place among ${s.grid.length}<dd>${rank}
        <dt>how much of it is in your region<dd>${(100 * s.share[patch]).toFixed(0)} %
        <dt>∂Dice/∂R<sub>j</sub> asks it to<dd><b>${asked}</b></dl>
        <p>Row ${row + 1}, column ${column + 1} of ${s.rows} × ${s.columns}. Arrow keys on the map go to its neighbours.</p>`
}
export const patchBrief = (s, patch) => `Patch ${Math.floor(patch / s.columns) + 1}, ${patch % s.columns + 1}: ` +
    `${(100 * s.grid[patch] / s.grid.reduce((a, b) => a + b, 0)).toFixed(2)} % of what speaks, asked to ${s.pull[patch] < 0 ? "grow ↑" : s.pull[patch] > 0 ? "shrink ↓" : "stay"}. More below.`
const but = fromLast => fromLast === 0 ? "" : ` but ${["", "one", "two", "three", "four", "five", "six"][fromLast] ?? fromLast}`
