// The package, by its public interface: what it does to a picture before the model, and its worker, count too.
import { AimClassifier } from '/package/dist/index.js';
import { bytes } from './inputs.js';

export async function open({ folder, device, dtype, threads, about: { side } }) {
  const aim = await AimClassifier.fromPretrained(new URL(`${folder}ours/`, location.href), { device, dtype, threads, cache: false, warmup: false });
  const { info } = aim;
  const expected = info.device === device && info.dtype === dtype && (device === 'webgpu' || info.threads === threads);
  if (!expected) throw new Error(`it runs in ${info.dtype} on ${info.device} and ${info.threads} threads`);
  const all = new Uint8ClampedArray(await bytes(`${folder}pictures.rgba`));
  const size = 4 * side ** 2;
  const pictures = Array.from({ length: all.length / size }, (_, i) => new ImageData(all.subarray(i * size, (i + 1) * size), side, side));
  return { build: info.build, run: (i) => aim.logits(pictures[i]) };
}
