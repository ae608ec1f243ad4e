// peer.mjs - onnxruntime's CPU build as make bench measures it (x_peer.c starts this, in turns with our own passes).
//
//     node test/peer.mjs NODE_MODULES CORES MODEL.onnx PIXELS.f32 BATCH SIDE EMBEDDING.f32
//
// Says "onnxruntime VERSION" once the model is open and has run; then, for each line on standard input, runs it once and says
// the seconds.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

const [modules, cores, model, pixels, batch, side, embedding] = process.argv.slice(2);
const require = createRequire(resolve(modules, 'of-modules.js'));
const ort = require(resolve(modules, 'onnxruntime-node'));
const { version } = require(resolve(modules, 'onnxruntime-node/package.json'));

const session = await ort.InferenceSession.create(model, {
  executionProviders: ['cpu'],
  intraOpNumThreads: Number(cores),
  graphOptimizationLevel: 'all',
});
const bytes = readFileSync(pixels);
const numbers = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const input = { [session.inputNames[0]]: new ort.Tensor('float32', numbers, [Number(batch), 3, Number(side), Number(side)]) };
const run = async () => (await session.run(input))[session.outputNames[0]].data;

// of one core its processor time, as x_speed.c measures ours
const spent = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1e6; };
const seconds = Number(cores) > 1 ? () => performance.now() / 1e3 : spent;

const z = await run();
writeFileSync(embedding, Buffer.from(z.buffer, z.byteOffset, z.byteLength));
console.log(`onnxruntime ${version}`);
for await (const _ of createInterface({ input: process.stdin })) {
  const start = seconds();
  await run();
  console.log(seconds() - start);
}
