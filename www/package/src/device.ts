import { within } from './abort.js';
import { AimError, messageOf } from './errors.js';
import type { Device } from './options.js';
import { threadCount } from './threads.js';

/** One of the wasm builds. */
export type Build = 'webgpu' | 'cpu' | 'cpu-relaxed' | 'cpu-threads';

/** What to run, and why: the reason is for a person. */
export interface Choice {
  build: Build;
  reason: string;
  /** What the browser calls the GPU. */
  adapter?: string;
}

// (func (result v128) i32.const 0, i8x16.splat, i8x16.popcnt)
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];
// (func (result v128) i32.const 1, i8x16.splat, i32.const 2, i8x16.splat, i8x16.relaxed_swizzle)
const RELAXED = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11];

/** Adapters that run on the CPU: correct, but slower than the CPU build. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|software/i;

/** The CPU build for this engine and so many threads. */
export function cpuBuild(threads = 1): Build {
  if (WebAssembly.validate(new Uint8Array(RELAXED))) return threads > 1 ? 'cpu-threads' : 'cpu-relaxed';
  if (WebAssembly.validate(new Uint8Array(SIMD))) return 'cpu';
  throw new AimError('unsupported', 'this browser has no SIMD in WebAssembly: Chrome 91, Firefox 89, Safari 16.4 or newer has it');
}

/** The build that a compiled module is of, as far as its imports show it: `cpu` stands for `cpu-relaxed` too. */
export function buildOf(module: WebAssembly.Module): Build {
  const imports = WebAssembly.Module.imports(module);
  if (imports.some(({ kind }) => kind === 'memory')) return 'cpu-threads';
  return imports.some(({ name }) => name.includes('requestAdapter')) ? 'webgpu' : 'cpu';
}

/** The choice of the CPU. `threads` is what was asked for. */
export function chooseCpu(reason: string, threads: number | undefined): Choice {
  return { build: cpuBuild(threadCount(threads)), reason };
}

/** Chooses the build for a device. */
export async function choose(device: Device, threads: number | undefined): Promise<Choice> {
  if (device === 'wasm') return chooseCpu('asked for', threads);
  // Some browsers never answer. Who asked for the GPU has more patience.
  const found = await findAdapter(device === 'auto' ? 5 : 30);
  if (device === 'webgpu') {
    if (typeof found === 'string') throw new AimError('unsupported', `device 'webgpu': ${found}. Use 'auto' to fall back to the CPU`);
    return { build: 'webgpu', reason: 'asked for', adapter: nameOf(found) };
  }
  if (typeof found === 'string') return chooseCpu(found, threads);
  const name = software(found);
  if (name !== undefined) return chooseCpu(`the only WebGPU adapter is software (${name})`, threads);
  return { build: 'webgpu', reason: 'a hardware adapter is there', adapter: nameOf(found) };
}

/** The adapter, or why there is none within so many seconds. */
async function findAdapter(patience: number): Promise<GPUAdapter | string> {
  const gpu = typeof navigator === 'undefined' ? undefined : (navigator as Navigator & { gpu?: GPU }).gpu;
  if (!gpu) {
    const insecure = typeof isSecureContext !== 'undefined' && !isSecureContext;
    return `there is no WebGPU here${insecure ? ' (the page must be served over https or from localhost)' : ''}`;
  }
  try {
    const request = gpu.requestAdapter({ powerPreference: 'high-performance' });
    return (await within(patience, request, () => new Error(`the browser gave no adapter within ${patience} seconds`))) ?? 'WebGPU has no adapter here';
  } catch (error) {
    return `WebGPU failed: ${messageOf(error)}`;
  }
}

/** What the browser tells of an adapter; often little. */
function nameOf(adapter: GPUAdapter): string {
  const info = adapter.info as GPUAdapterInfo | undefined;
  return [info?.vendor, info?.architecture, info?.device, info?.description].filter(Boolean).join(' ');
}

/** The name of a software adapter, undefined for hardware. */
export function software(adapter: GPUAdapter): string | undefined {
  const info = adapter.info as GPUAdapterInfo | undefined;
  const name = nameOf(adapter);
  const fallback = info?.isFallbackAdapter ?? (adapter as GPUAdapter & { isFallbackAdapter?: boolean }).isFallbackAdapter;
  return fallback || SOFTWARE.test(name) ? name || 'fallback adapter' : undefined;
}
