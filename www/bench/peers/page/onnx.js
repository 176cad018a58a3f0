// onnxruntime-web.
import { bytes, inputs } from './inputs.js';

export async function open({ folder, file, device, threads, about }) {
  // The build with WebGPU is another one.
  const ort = await import(`/peers/onnxruntime-web/dist/ort.${device === 'webgpu' ? '' : 'wasm.'}min.mjs`);
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = '/peers/onnxruntime-web/dist/';
  ort.env.logLevel = 'error';
  const model = new Uint8Array(await bytes(`${folder}${file}`));
  // Weights over 2 GB lie in a file of their own.
  const beside = await fetch(`${folder}${file}.data`);
  const externalData = beside.ok ? [{ path: `${file}.data`, data: new Uint8Array(await beside.arrayBuffer()) }] : undefined;
  const session = await ort.InferenceSession.create(model, { executionProviders: [device], graphOptimizationLevel: 'all', externalData });
  const { shape, pictures } = await inputs(folder, about);
  const run = async (i) => (await session.run({ input: new ort.Tensor('float32', pictures[i], shape) })).logits.data;
  return { build: `onnxruntime-web ${ort.env.versions.web}`, run };
}
