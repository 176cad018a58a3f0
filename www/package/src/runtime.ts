import { dataUrl } from './data-url.js';
import { listenFor } from './crash.js';
import type { Build } from './device.js';
import { AimError, messageOf, nameOf } from './errors.js';
import { readFileUrl } from './files.js';
import { SMALL } from './frames/limits.js';
import type { Glue } from './glue.js';
import { startThreads, threadCount } from './threads.js';

/** Where each build lies. Literal `new URL`s, so that bundlers copy the files; only the one that runs is fetched. */
const BUILDS: Record<Build, { glue: () => URL; wasm: () => URL }> = {
  webgpu: {
    glue: () => new URL('../wasm/webgpu/aim_web.js', import.meta.url),
    wasm: () => new URL('../wasm/webgpu/aim_web_bg.wasm', import.meta.url),
  },
  cpu: {
    glue: () => new URL('../wasm/cpu/aim_web.js', import.meta.url),
    wasm: () => new URL('../wasm/cpu/aim_web_bg.wasm', import.meta.url),
  },
  'cpu-relaxed': {
    glue: () => new URL('../wasm/cpu-relaxed/aim_web.js', import.meta.url),
    wasm: () => new URL('../wasm/cpu-relaxed/aim_web_bg.wasm', import.meta.url),
  },
  'cpu-threads': {
    glue: () => new URL('../wasm/cpu-threads/aim_web.js', import.meta.url),
    wasm: () => new URL('../wasm/cpu-threads/aim_web_bg.wasm', import.meta.url),
  },
};

/** A build that was bundled in, where the runtime can't import by URL (workerd). */
let bundled: Glue | undefined;

/** @internal */
export function useBundledGlue(glue: Glue): void {
  bundled = glue;
}

/** @internal True where the only build is the bundled one. */
export function hasBundledGlue(): boolean {
  return bundled !== undefined;
}

/** A running wasm instance, shared by the classifiers of one thread. */
export interface Instance {
  build: Build;
  glue: Glue;
  /** How many threads compute. */
  threads: number;
  /** A trap leaves the instance in an unknown state: the next load gets another one. */
  poison(): void;
  /** The code of a trap in it. A heap that has no room for 64 MB more is what a failed allocation leaves. */
  trapCode(): 'out_of_memory' | 'device_lost';
}

/** Compiled modules by their address: a lost device is rebuilt also where the network is gone. */
const modules = new Map<string, WebAssembly.Module>();
const instances = new Map<string, Promise<Instance>>();
let generation = 0;

/** The wasm instance of a build, started on first use. `threads` is what was asked for; later calls get what there is. */
export function instance(build: Build, wasmUrl?: string, wasmModule?: WebAssembly.Module, threads?: number): Promise<Instance> {
  const key = `${build} ${wasmUrl ?? ''}`;
  const running = instances.get(key);
  if (running) return running;
  const started: Promise<Instance> = start(build, wasmUrl, wasmModule, threads).then(({ glue, memory, workers }) => ({
    build,
    glue,
    threads: workers.length + 1,
    poison() {
      if (instances.get(key) !== started) return;
      instances.delete(key);
      generation += 1;
      for (const worker of workers) worker.terminate();
    },
    trapCode() {
      try {
        memory.grow(1024);
        return 'device_lost';
      } catch {
        return 'out_of_memory';
      }
    },
  }));
  instances.set(key, started);
  // A failed start is not remembered: the next load tries again.
  started.catch(() => instances.delete(key));
  return started;
}

/** @internal An instance that runs already. */
export function anyInstance(): Promise<Instance> | undefined {
  return instances.values().next().value;
}

async function start(build: Build, wasmUrl?: string, wasmModule?: WebAssembly.Module, threads?: number): Promise<{ glue: Glue; memory: WebAssembly.Memory; workers: Worker[] }> {
  if (bundled) {
    if (!wasmModule) throw new AimError('option', "wasmModule: this runtime needs the compiled module: import it from 'aim-web/wasm/cpu/aim_web_bg.wasm'");
    const { memory } = await bundled.default({ module_or_path: wasmModule });
    return { glue: bundled, memory, workers: [] };
  }
  const urls = wasmUrl
    ? { glue: `${wasmUrl}${build}/aim_web.js`, wasm: `${wasmUrl}${build}/aim_web_bg.wasm` }
    : { glue: BUILDS[build].glue().href, wasm: BUILDS[build].wasm().href };
  listenFor(urls.glue);
  listenFor(urls.wasm);
  const loading = importGlue(urls.glue, generation);
  // The error of the wasm file says more than that of an import.
  loading.catch(() => undefined);
  let module = wasmModule ?? modules.get(urls.wasm);
  if (!module) modules.set(urls.wasm, (module = await compile(urls.wasm)));
  const glue = await loading;
  const { memory } = await glue.default({ module_or_path: module });
  // A GPU may be lost when the network is gone too: the next instance's glue comes now, from the browser's cache.
  if (build === 'webgpu' && generation === 0) importGlue(urls.glue, 1).catch(() => undefined);
  const workers = build === 'cpu-threads' ? await startThreads(threadCount(threads), glue, { glue: urls.glue, module, memory }) : [];
  return { glue, memory, workers };
}

async function importGlue(url: string, generation: number): Promise<Glue> {
  // A module is evaluated once an address: another fragment makes another instance, of the same file.
  const fresh = generation === 0 ? url : `${url}#${generation}`;
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ fresh)) as Glue;
  } catch (cause) {
    throw new AimError('network', `${url} could not be loaded as a module: ${messageOf(cause)}. ${HINT}`, { cause });
  }
}

const HINT = "Serve the package's wasm folder as it is, or set wasmUrl to where it lies";

async function compile(url: string): Promise<WebAssembly.Module> {
  if (url.startsWith('file:')) {
    const bytes = await readFileUrl(url);
    if (!bytes) throw new AimError('not_found', `${url} is not there. ${HINT}`);
    return check(url, () => WebAssembly.compile(bytes));
  }
  const inline = dataUrl(url);
  if (inline) return check(url, () => WebAssembly.compile(inline.bytes));
  let response: Response;
  try {
    response = await fetch(url);
  } catch (cause) {
    throw new AimError('network', `${url} could not be fetched: ${messageOf(cause)}. ${HINT}`, { cause });
  }
  if (!response.ok) {
    const missing = response.status === 404 || response.status === 410;
    throw new AimError(missing ? 'not_found' : 'network', `${url}: the server answered ${response.status}. ${HINT}`);
  }
  const type = response.headers.get('content-type') ?? '';
  if (/^application\/wasm\b/i.test(type)) return check(url, () => WebAssembly.compileStreaming(response));
  // A server that does not know the type of .wasm still works, only without compiling while it arrives.
  const bytes = await response.arrayBuffer();
  const magic = new Uint8Array(bytes, 0, Math.min(4, bytes.byteLength));
  if (magic.length < 4 || magic[0] !== 0 || magic[1] !== 0x61 || magic[2] !== 0x73 || magic[3] !== 0x6d) {
    const what = magic[0] === 0x3c || /html/i.test(type) ? 'an HTML page' : `something else (${type || 'no content type'})`;
    throw new AimError('format', `${url} answers with ${what} in place of WebAssembly. ${HINT}`);
  }
  return check(url, () => WebAssembly.compile(bytes));
}

async function check(url: string, compiled: () => Promise<WebAssembly.Module>): Promise<WebAssembly.Module> {
  try {
    return await compiled();
  } catch (cause) {
    const message = messageOf(cause);
    if (/content security policy|unsafe-eval/i.test(message)) {
      throw new AimError('unsupported', `the page's Content-Security-Policy forbids WebAssembly: add 'wasm-unsafe-eval' to script-src`, { cause });
    }
    if (nameOf(cause) === 'CompileError') throw new AimError('format', `${url} is not the WebAssembly it should be: ${message}. ${HINT}`, { cause });
    throw new AimError('network', `${url} could not be read: ${message}. ${HINT}`, { cause });
  }
}

/** The bytes a model may have in this runtime. */
export const MODEL_LIMIT = SMALL ? 48 * 2 ** 20 : Infinity;
