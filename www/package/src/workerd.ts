// workerd runs no module that was not deployed with the worker, so the CPU build is imported by name and
// the compiled wasm is passed in as `wasmModule`.
// @ts-ignore The file is made by the wasm build, which may not have run.
import * as glue from '../wasm/cpu/aim_web.js';
import type { Glue } from './glue.js';
import { useBundledGlue } from './runtime.js';

useBundledGlue(glue as unknown as Glue);

export * from './index.js';
