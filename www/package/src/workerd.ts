// workerd runs no module that was not deployed with the worker, so builds are imported by name and their compiled wasm is
// passed in: `wasmModule`, and `picturesModule` for pictures that are no JPEG. The glue of the second is small enough to be
// in this file.
// @ts-ignore The file is made by the wasm build, which may not have run.
import * as cpu from '../wasm/cpu/aim_web.js';
// @ts-ignore So is this one.
import * as pictures from '../wasm/pictures/aim_web.js';
import { AimError } from './errors.js';
import type { Glue } from './glue.js';
import { link, useBundledGlue } from './runtime.js';

useBundledGlue((build, { wasmModule, picturesModule }) => {
  const isPictures = build === 'pictures';
  const [option, folder, module] = isPictures ? ['picturesModule', build, picturesModule] : ['wasmModule', 'cpu', wasmModule];
  if (!module) throw new AimError('option', `${option}: this runtime needs the compiled module: import it from 'aim-web/wasm/${folder}/aim_web_bg.wasm'`);
  const glue = (isPictures ? pictures : cpu) as unknown as Glue;
  return { glue, memory: link(glue, module as WebAssembly.Module), workers: [] };
});

export * from './index.js';
