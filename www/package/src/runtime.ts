import { type Alarm, orAbort, within } from './abort.js';
import { listenFor } from './crash.js';
import { dataUrl } from './data-url.js';
import { type Build, buildOf } from './device.js';
import { type Piece, download } from './download.js';
import { AimError, messageOf, nameOf } from './errors.js';
import { readFileUrl } from './files.js';
import { SMALL } from './frames/limits.js';
import type { Glue } from './glue.js';
import type { EngineOptions } from './options.js';
import { startThreads, threadCount } from './threads.js';

/** @internal A build that runs models, or the one that decodes pictures where no browser does. */
export type Module = Build | 'pictures';

/** Where each build lies. Literal `new URL`s, so that bundlers copy the files; only the one that runs is fetched. */
const BUILDS: Record<Module, { glue: () => URL; wasm: () => URL }> = {
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
  pictures: {
    glue: () => new URL('../wasm/pictures/aim_web.js', import.meta.url),
    wasm: () => new URL('../wasm/pictures/aim_web_bg.wasm', import.meta.url),
  },
};

/** Starts the builds that were bundled in, where the runtime can't import by URL (workerd). */
let bundled: ((build: Module, options: Start) => Started) | undefined;

/** @internal */
export function useBundledGlue(start: typeof bundled): void {
  bundled = start;
}

/** @internal True where the only builds are bundled ones. */
export function hasBundledGlue(): boolean {
  return bundled !== undefined;
}

/** A running wasm instance, shared by the classifiers of one thread. */
export interface Instance {
  build: Module;
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
/** Instances that run or start, with what ends the start once none of the loads that wait for it is left. */
const instances = new Map<string, { started: Promise<Instance>; stop: AbortController; waiting: number }>();
let generation = 0;

/** @internal What of the options an instance is started by. */
export type Start = Pick<EngineOptions, 'wasmUrl' | 'wasmModule' | 'picturesModule' | 'threads' | 'timeouts' | 'alarm'>;

/** @internal An instance that began. */
export interface Started {
  glue: Glue;
  memory: WebAssembly.Memory;
  workers: Worker[];
}

/** The wasm instance of a build, started on first use; later calls get what there is. */
export async function instance(build: Module, options: Start, signal: Alarm): Promise<Instance> {
  const key = `${build} ${options.wasmUrl ?? ''}`;
  let entry = instances.get(key);
  if (!entry) {
    const stop = new AbortController();
    const forget = () => instances.get(key) === mine && instances.delete(key);
    const started = start(build, options, stop).then(
      ({ glue, memory, workers }): Instance => {
        // What runs is not ended by who gives up.
        mine.waiting += 1;
        return {
          build,
          glue,
          threads: workers.length + 1,
          poison() {
            if (!forget()) return;
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
        };
      },
    );
    const mine = (entry = { started, stop, waiting: 0 });
    instances.set(key, mine);
    // A failed start is not remembered: the next load tries again.
    started.catch(forget);
    // Nor is one that nobody waits for any more.
    stop.signal.addEventListener('abort', forget);
  }
  const { started, stop } = entry;
  entry.waiting += 1;
  try {
    return await orAbort(signal, started);
  } catch (error) {
    if (entry.waiting === 1) stop.abort();
    throw error;
  } finally {
    entry.waiting -= 1;
  }
}

async function start(build: Module, options: Start, stop: AbortController): Promise<Started> {
  if (bundled) return bundled(build, options);
  const { wasmUrl, wasmModule, threads, timeouts: { stall }, alarm } = options;
  const urls = wasmUrl
    ? { glue: `${wasmUrl}${build}/aim_web.js`, wasm: `${wasmUrl}${build}/aim_web_bg.wasm` }
    : { glue: BUILDS[build].glue().href, wasm: BUILDS[build].wasm().href };
  listenFor(urls.glue);
  listenFor(urls.wasm);
  const loading = importGlue(urls.glue, generation, stall);
  // The error of the wasm file says more than that of an import.
  loading.catch(() => undefined);
  const given = wasmModule && buildOf(wasmModule) === (build === 'cpu-relaxed' ? 'cpu' : build) ? wasmModule : undefined;
  let module = given ?? modules.get(urls.wasm);
  if (!module) modules.set(urls.wasm, (module = await compile(urls.wasm, stop, stall)));
  const glue = await loading;
  const memory = link(glue, module);
  // A GPU may be lost when the network is gone too: the next instance's glue comes now, from the browser's cache.
  if (build === 'webgpu') importGlue(urls.glue, generation + 1, stall).catch(() => undefined);
  const workers = build === 'cpu-threads' ? await startThreads(threadCount(threads), glue, { glue: urls.glue, module, memory, alarm }, stall) : [];
  return { glue, memory, workers };
}

/** @internal Starts a module by its glue. */
export function link(glue: Glue, module: WebAssembly.Module): WebAssembly.Memory {
  try {
    return glue.initSync({ module }).memory;
  } catch (cause) {
    if (nameOf(cause) !== 'LinkError') throw cause;
    throw new AimError('integrity', `aim_web.js and aim_web_bg.wasm are of two versions: reload the page. ${HINT}`, { cause });
  }
}

async function importGlue(url: string, number: number, stall: number): Promise<Glue> {
  // A module is evaluated once an address: another fragment makes another instance, of the same file.
  const fresh = number === 0 ? url : `${url}#${number}`;
  try {
    const loading = import(/* @vite-ignore */ /* webpackIgnore: true */ fresh) as Promise<Glue>;
    return await within(stall, loading, () => new Error(`it did not come within ${stall} seconds`));
  } catch (cause) {
    // What failed or hangs at an address may do so for good.
    if (number === generation) generation += 1;
    throw new AimError('network', `${url} could not be loaded as a module: ${messageOf(cause)}. ${HINT}`, { cause });
  }
}

const HINT = "Serve the package's wasm folder as it is, or set wasmUrl to where it lies";

async function compile(url: string, stop: AbortController, stall: number): Promise<WebAssembly.Module> {
  const whole = (bytes: BufferSource) => check(url, () => WebAssembly.compile(bytes));
  if (url.startsWith('file:')) {
    const bytes = await readFileUrl(url);
    if (!bytes) throw new AimError('not_found', `${url} is not there. ${HINT}`);
    return whole(bytes);
  }
  const inline = dataUrl(url);
  if (inline) return whole(inline.bytes);
  return download(url, stop, stall, HINT, async (response, read) => {
    const type = response.headers.get('content-type') ?? '';
    if (/^application\/wasm\b/i.test(type)) {
      // The copy is read to see that bytes come: a browser keeps compiled code only for an answer of its own.
      read(response.clone(), () => undefined).catch(() => undefined);
      return check(url, () => WebAssembly.compileStreaming(response));
    }
    // A server that does not know the type of .wasm still works, only without compiling while it arrives.
    const pieces: Piece[] = [];
    await read(response, (piece) => pieces.push(piece));
    const bytes = await new Blob(pieces).arrayBuffer();
    const magic = String.fromCharCode(...new Uint8Array(bytes, 0, Math.min(4, bytes.byteLength)));
    if (magic !== '\0asm') {
      const what = magic.startsWith('<') || /html/i.test(type) ? 'an HTML page' : `something else (${type || 'no content type'})`;
      throw new AimError('format', `${url} answers with ${what} in place of WebAssembly. ${HINT}`);
    }
    return whole(bytes);
  });
}

async function check(url: string, compiled: () => Promise<WebAssembly.Module>): Promise<WebAssembly.Module> {
  try {
    return await compiled();
  } catch (cause) {
    const message = messageOf(cause);
    // In turn Chromium's, Safari's and Firefox's words.
    if (/content security policy|unsafe-eval|blocked by csp/i.test(message)) {
      throw new AimError('unsupported', `the page's Content-Security-Policy forbids WebAssembly: add 'wasm-unsafe-eval' to script-src`, { cause });
    }
    if (nameOf(cause) === 'CompileError') throw new AimError('format', `${url} is not the WebAssembly it should be: ${message}. ${HINT}`, { cause });
    throw new AimError('network', `${url} could not be read: ${message}. ${HINT}`, { cause });
  }
}

/** The bytes a model may have in this runtime. */
export const MODEL_LIMIT = SMALL ? 48 * 2 ** 20 : Infinity;
