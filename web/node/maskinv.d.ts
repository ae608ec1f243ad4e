/** The library (face/face.h) as WebAssembly; see maskinv.mjs for its use in five lines. */

/** What the library said: what was found, and what was expected. */
export class MaskinvError extends Error {}

/** A path (node), a file's bytes, or pixels of 3 or 4 bytes, as ImageData has them. */
export type Picture = string | Uint8Array | { data: Uint8Array | Uint8ClampedArray; width: number; height: number }
/** A path, or [height, width] of booleans, of bytes (255 is inside; 0 and 1 too) or of floats in 0..1. */
export type Mask = string | { data: ArrayLike<number>; width: number; height: number }
/** A text beside an embedding, as the model compares them. */
export interface Near { text: string; similarity: number; probability: number }

/** What is not given is as `maskinv invert` has it. */
export interface InvertOptions {
    size?: number
    iters?: number
    layers?: number
    lr?: number
    alpha?: number
    decay?: number
    gradient?: "factored" | "decomposed" | "autograd"
    explainer?: "legrad" | "gradcam" | "chefer" | "rollout"
}
/** An item for each mask. */
export interface InvertResult {
    /** [E] as optimised, not normalised */
    embeddings: Float32Array[]
    /** [mask height * mask width] in 0..1, the last step's */
    maps: Float32Array[]
    /** [steps] before each update */
    losses: Float32Array[]
    /** [E] the whole picture's, where every inversion starts */
    image: Float32Array
    /** the nearest first; none without texts */
    texts: Near[][]
}
/** Every number of one step (mi_step in face/face.h; equations: MODEL.md 4 and 5). */
export interface Step {
    count: number; rows: number; columns: number; layers: number
    loss: number; dice: number; inside: number; all: number; region: number
    low: number; high: number; cosine: number; length: number; slope: number; moved: number
    embedding: Float32Array; before: Float32Array; slopes: Float32Array; image: Float32Array
    map: Float32Array; grid: Float32Array; pull: Float32Array; share: Float32Array
}

/** wasm: bytes, a URL or a path; not given: maskinv.wasm beside this file. */
export function load(wasm?: Uint8Array | URL | string): Promise<Maskinv>

export class Maskinv {
    readonly version: string
    /** The explainers that `explain` knows by name. */
    readonly methods: string[]
    /** Bytes that the module holds. It never gives any back: leave the worker to be rid of them. */
    readonly memory: number
    /** A path (node), a model's files by name, or nothing: the model in model/ beside this file. */
    open(source?: string | Record<string, Uint8Array | File>): Promise<Model>
    /** A PNG, JPEG or BMP file's pixels, 3 bytes each. */
    picture(bytes: Uint8Array): { data: Uint8Array; width: number; height: number }
}

export class Model {
    readonly name: string
    /** E, numbers of an embedding */
    readonly embedSize: number
    /** pixels of the squares that it was trained on */
    readonly imageSide: number
    readonly patchSide: number
    readonly layerCount: number
    /** Pixels of the square that invert and explain work on. */
    side(asked?: number): number
    embedImage(image: Picture, options?: { squash?: boolean; size?: number }): Float32Array
    embedTexts(texts: string[]): Float32Array[]
    /** Unit rows [texts * E], for compare. */
    embedQueries(texts: string[], templates?: string[]): Float32Array
    compare(embedding: Float32Array, texts: string[], units: Float32Array): Near[]
    /** Maps [size * size] in 0..1, of texts or of embeddings. */
    explain(image: Picture, what: { texts?: string[]; embeddings?: Float32Array[]; method?: string; size?: number; blocks?: number; templates?: string[] }): Float32Array[]
    invert(image: Picture, masks: Mask[], options?: InvertOptions & { texts?: string[]; templates?: string[]; progress?: (mask: number, step: number) => boolean | void }): InvertResult
    session(image: Picture, options?: InvertOptions): Session
    close(): void
}

/** A picture opened once, its regions inverted one after another, a step a call. */
export class Session {
    mask(mask: Mask): void
    /** From the next step on. */
    rates(rates: { lr?: number; alpha?: number; decay?: number }): void
    step(): Step
    /** R of each explained layer by itself, for the last step. */
    layers(): Float32Array[]
    close(): void
}
