// Who is measured, and who is compared with whom.

/** Ours first. `bits` are those of the weights; `runtime` is the script that runs it; `file` lies in the size's folder. */
const CONTENDERS = {
  Chromium: [
    { name: 'aim-web', runtime: 'ours', dtype: 'fp32', bits: 32, file: 'ours' },
    { name: 'aim-web', runtime: 'ours', dtype: 'q8', bits: 8, file: 'ours' },
    { name: 'aim-web', runtime: 'ours', dtype: 'q4', bits: 4, file: 'ours' },
    { name: 'onnxruntime-web', runtime: 'onnx', dtype: 'f32', bits: 32, file: 'f32.onnx' },
    { name: 'onnxruntime-web', runtime: 'onnx', dtype: 'int8', bits: 8, file: 'int8.onnx' },
    { name: 'onnxruntime-web', runtime: 'onnx', dtype: 'q4', bits: 4, file: 'q4.onnx' },
    { name: 'LiteRT.js', runtime: 'litert', dtype: 'f32', bits: 32, file: 'f32.tflite' },
    { name: 'LiteRT.js', runtime: 'litert', dtype: 'int8', bits: 8, file: 'int8.tflite' },
  ],
  WebGPU: [
    { name: 'aim-web', runtime: 'ours', device: 'webgpu', dtype: 'fp32', bits: 32, file: 'ours' },
    { name: 'aim-web', runtime: 'ours', device: 'webgpu', dtype: 'q8', bits: 8, file: 'ours' },
    { name: 'aim-web', runtime: 'ours', device: 'webgpu', dtype: 'q4', bits: 4, file: 'ours' },
    // Its int8 leaves the GPU for the CPU, its q4 takes minutes a picture on a software adapter.
    { name: 'onnxruntime-web', runtime: 'onnx', device: 'webgpu', dtype: 'f32', bits: 32, file: 'f32.onnx' },
  ],
  native: [
    { name: 'aim-web', runtime: 'ours', dtype: 'fp32', bits: 32, file: 'ours' },
    { name: 'aim-web', runtime: 'ours', dtype: 'q8', bits: 8, file: 'ours' },
    { name: 'aim-web', runtime: 'ours', dtype: 'q4', bits: 4, file: 'ours' },
    { name: 'onnxruntime', runtime: 'peer', dtype: 'f32', bits: 32, file: 'f32.onnx' },
    { name: 'onnxruntime', runtime: 'peer', dtype: 'int8', bits: 8, file: 'int8.onnx' },
    // Without VNNI it overflows unless weights have 7 bits.
    { name: 'onnxruntime', runtime: 'peer', dtype: 'int7', bits: 8, file: 'int7.onnx' },
    { name: 'onnxruntime', runtime: 'peer', dtype: 'q4', bits: 4, file: 'q4.onnx' },
    { name: 'LiteRT', runtime: 'peer', dtype: 'f32', bits: 32, file: 'f32.tflite' },
    { name: 'LiteRT', runtime: 'peer', dtype: 'int8', bits: 8, file: 'int8.tflite' },
    { name: 'PyTorch', runtime: 'peer', dtype: 'f32', bits: 32, file: 'f32' },
  ],
};

/** Where models are measured. */
export const PLACES = Object.keys(CONTENDERS);

/** What can be asked for by its number of bits. */
export const DTYPES = { fp32: 32, q8: 8, q4: 4 };

/**
 * The relative RMS beyond which a result counts as wrong: some runtimes answer zeros where they cannot run a model.
 * Random weights in 4 bits are 0.1 to 0.2 off.
 */
const WRONG = { 32: 1e-4, 8: 0.05, 4: 0.4 };

/** A result that is not a number is wrong too, and JSON has null for it. */
export const isWrong = ({ bits, rms }) => typeof rms !== 'number' || !(rms <= WRONG[bits]);

/** The contenders of a place with weights of such types (`fp32`, `q8`, `q4`), each on so many threads; a GPU has its own. */
export function contenders(place, dtypes, threads) {
  const bits = dtypes.map((dtype) => DTYPES[dtype]);
  const counts = ({ device }) => (device === 'webgpu' ? [1] : threads);
  return CONTENDERS[place].filter((one) => bits.includes(one.bits)).flatMap((one) => counts(one).map((count) => ({ ...one, threads: count })));
}

/** The pairs to compare among measured rows of the same place, model and number of threads. */
export function pairs(rows) {
  const [mine, theirs] = [rows.filter(isOurs), rows.filter((row) => !isOurs(row))];
  const peers = mine.flatMap((row) => theirs.filter(({ bits }) => bits === row.bits).map((peer) => [row, peer]));
  const [q4, q8, fp32] = [4, 8, 32].map((bits) => mine.find((row) => row.bits === bits));
  // On a GPU fewer bits are to cost no time; on a CPU codes of 4 bits are unpacked to 8 first.
  const own = mine.some(({ device }) => device === 'webgpu') ? [[q8, fp32], [q4, fp32]] : [[q4, q8]];
  return [...peers, ...own.filter(([one, other]) => one && other)];
}

export const isOurs = ({ name }) => name === 'aim-web';
