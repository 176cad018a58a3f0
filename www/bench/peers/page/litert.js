// LiteRT.js on the CPU, which is XNNPACK.
import { Tensor, loadAndCompile, loadLiteRt } from '@litertjs/core';
import { bytes, inputs } from './inputs.js';

export async function open({ folder, file, threads, about }) {
  await loadLiteRt('/peers/@litertjs/core/wasm/', { threads: threads > 1 });
  const model = await loadAndCompile(new Uint8Array(await bytes(`${folder}${file}`)), { accelerator: 'wasm', cpuOptions: { numThreads: threads } });
  const { shape, pictures } = await inputs(folder, about);
  const run = async (i) => {
    const input = new Tensor(pictures[i], shape);
    const [output] = await model.run([input]);
    const logits = Float32Array.from(await output.data());
    input.delete();
    output.delete();
    return logits;
  };
  return { build: 'LiteRT.js', run };
}
