import { AimError } from './errors.js';
import type { ProgressEvent } from './progress.js';

/** Where to run. `auto` takes WebGPU on a hardware adapter, else the CPU (`wasm`). */
export type Device = (typeof DEVICES)[number];
/** How to hold the weights. `auto` keeps a quantised model as it is and quantises the others as fits the device. */
export type Dtype = (typeof DTYPES)[number];
/** The blocks whose outputs the classifier averages; `last` is the last six. */
export type ProbeLayers = 'best' | 'last' | number[];
/** A model in memory: file names (`config.json`, `labels.json`, `model.safetensors`) and what is in them. */
export type ModelFiles = Record<string, string | ArrayBuffer | ArrayBufferView>;
/** A hub name (`user/repo`), the URL of a folder, or a model in memory. */
export type Model = string | URL | ModelFiles;

const DEVICES = ['auto', 'webgpu', 'wasm'] as const;
const DTYPES = ['auto', 'fp32', 'fp16', 'q8', 'q4'] as const;

/** The options of `AimClassifier.fromPretrained`. */
export interface LoadOptions {
  /** Where to run; `auto` by default. `webgpu` also takes a software adapter. */
  device?: Device | undefined;
  /** How to hold the weights; `auto` by default. */
  dtype?: Dtype | undefined;
  /** The probed blocks. By default what the model's configuration says. */
  probeLayers?: ProbeLayers | undefined;
  /** A branch, a tag or a commit of the hub repository; `main` by default. */
  revision?: string | undefined;
  /** The hub; `https://huggingface.co` by default. */
  endpoint?: string | undefined;
  /** A token of the hub, for private repositories. */
  token?: string | undefined;
  /** Ends the load: it rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Told how the load gets on. */
  progress_callback?: ((event: ProgressEvent) => void) | undefined;
  /** Keep the weights in the browser's cache; `true` by default. */
  cache?: boolean | undefined;
  /** Run in a worker, so that the page never waits; `true` by default where there are workers. */
  worker?: boolean | undefined;
  /** How many threads the CPU may use, where they are possible: in a worker of a cross-origin isolated page. By default the processor's, at most 8. */
  threads?: number | undefined;
  /** The folder that holds `webgpu/`, `cpu/`, `cpu-relaxed/` and `cpu-threads/`, if it is not beside this package. */
  wasmUrl?: string | URL | undefined;
  /** The compiled `aim_web_bg.wasm`, for runtimes that don't compile from bytes (workerd). */
  wasmModule?: WebAssembly.Module | undefined;
  /** Run once on a blank picture, so that the first real one is fast; `true` by default. */
  warmup?: boolean | undefined;
  /** @internal How long is waited for a server; for tests. */
  timeouts?: Timeouts | undefined;
}

/** How long is waited for a server, in seconds. */
export interface Timeouts {
  /** How long a server may send nothing, or hardly anything; 30 by default. */
  stall?: number;
  /** The longest wait before another attempt; 60 by default. */
  longestWait?: number;
}

/** The options of `classify`. */
export interface ClassifyOptions {
  /** How many labels, best first; 5 by default. */
  top_k?: number | undefined;
  /** Gives up: the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** The options of `features`. */
export interface FeatureOptions {
  /** Block numbers from 0; by default the last block that runs. */
  layers?: number[] | undefined;
  /** Gives up: the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** Load options as the engine takes them: complete, checked, and free of functions so that a worker can have them. */
export interface EngineOptions {
  model: { kind: 'embedded' } | { kind: 'name'; name: string } | { kind: 'files'; files: ModelFiles };
  device: Device;
  dtype: Dtype;
  probeLayers: ProbeLayers | undefined;
  revision: string | undefined;
  endpoint: string | undefined;
  token: string | undefined;
  cache: boolean;
  threads: number | undefined;
  wasmUrl: string | undefined;
  wasmModule: WebAssembly.Module | undefined;
  warmup: boolean;
  timeouts: Timeouts;
}

function show(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint' || typeof value === 'symbol') return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}

function bad(name: string, value: unknown, wanted: string): never {
  throw new AimError('option', `${name}: ${show(value)} is not valid: it must be ${wanted}`);
}

function oneOf<T extends string>(name: string, value: unknown, allowed: readonly T[], otherwise: T): T {
  if (value === undefined || value === null) return otherwise;
  if (!allowed.includes(value as T)) bad(name, value, allowed.map((word) => `'${word}'`).join(', ').replace(/, ([^,]*)$/, ' or $1'));
  return value as T;
}

function boolean(name: string, value: unknown, otherwise: boolean): boolean {
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== 'boolean') bad(name, value, 'true or false');
  return value;
}

function text(name: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string' || value === '') bad(name, value, 'a string that is not empty');
  return value;
}

function count(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Number.isInteger(value) || (value as number) < 1) bad(name, value, 'a whole number from 1');
  return value as number;
}

function layers(name: string, value: unknown): number[] {
  if (!Array.isArray(value) || value.length === 0 || !value.every((layer) => Number.isInteger(layer) && layer >= 0)) {
    bad(name, value, 'a list of block numbers, 0 or more');
  }
  return value;
}

function signal(value: unknown): AbortSignal | undefined {
  if (value === undefined || value === null) return undefined;
  // Not instanceof: a frame's signals have a class of their own.
  if (Object.prototype.toString.call(value) !== '[object AbortSignal]') bad('signal', value, 'an AbortSignal');
  return value as AbortSignal;
}

function object(name: string, value: unknown): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') bad(name, value, 'an object');
  return value as Record<string, unknown>;
}

/** The address that relative addresses start from: the page's, never the worker's file. */
function base(): string | undefined {
  if (typeof document !== 'undefined') return document.baseURI;
  return typeof location === 'undefined' ? undefined : location.href;
}

/** An absolute URL of what a page writes as one. */
export function absolute(name: string, value: string | URL): string {
  try {
    return new URL(value, base()).href;
  } catch (cause) {
    throw new AimError('option', `${name}: '${String(value)}' is not a URL`, { cause });
  }
}

function folder(name: string, value: string | URL): string {
  const url = absolute(name, value);
  return url.endsWith('/') ? url : `${url}/`;
}

function model(value: unknown): EngineOptions['model'] {
  if (value === undefined || value === null) return { kind: 'embedded' };
  if (Object.prototype.toString.call(value) === '[object URL]') return { kind: 'name', name: folder('model', value as URL) };
  if (typeof value === 'string') {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(value) || /^\.{0,2}\//.test(value) || value.endsWith('/')) {
      return { kind: 'name', name: folder('model', value) };
    }
    if (/^[\w.-]+\/[\w.-]+$/.test(value)) return { kind: 'name', name: value };
  } else if (typeof value === 'object' && !Array.isArray(value) && 'config.json' in value) {
    const files = value as ModelFiles;
    for (const [file, content] of Object.entries(files)) {
      if (typeof content !== 'string' && !ArrayBuffer.isView(content) && !(content instanceof ArrayBuffer)) {
        bad(`model['${file}']`, content, 'a string, an ArrayBuffer or a typed array');
      }
    }
    return { kind: 'files', files };
  }
  return bad(
    'model',
    value,
    "a hub name such as 'apple/aim-600M', the URL of a folder ('https://host/folder/', './folder/'), or an object of files with 'config.json' in it",
  );
}

/** The name by which the cache knows what the load calls `value`; undefined for nothing. */
export function cacheName(value: unknown): string | undefined {
  const named = model(value === undefined || value === null ? undefined : String(value));
  return named.kind === 'name' ? named.name : undefined;
}

/** Checks the arguments of `fromPretrained`. */
export function loadOptions(name: unknown, value: unknown): { engine: EngineOptions; worker: boolean | undefined; signal: AbortSignal | undefined; report: ((event: ProgressEvent) => void) | undefined } {
  const given = object('options', value);
  const probe = given.probeLayers;
  const report = given.progress_callback ?? undefined;
  if (report !== undefined && typeof report !== 'function') bad('progress_callback', report, 'a function');
  const { wasmUrl, wasmModule } = given;
  if (wasmUrl !== undefined && wasmUrl !== null && typeof wasmUrl !== 'string' && !(wasmUrl instanceof URL)) {
    bad('wasmUrl', wasmUrl, 'the URL of a folder');
  }
  if (wasmModule !== undefined && wasmModule !== null && !(wasmModule instanceof WebAssembly.Module)) {
    bad('wasmModule', wasmModule, 'a WebAssembly.Module');
  }
  const threads = count('threads', given.threads);
  return {
    engine: {
      model: model(name),
      device: oneOf('device', given.device, DEVICES, 'auto'),
      dtype: oneOf('dtype', given.dtype, DTYPES, 'auto'),
      probeLayers:
        probe === undefined || probe === null
          ? undefined
          : probe === 'best' || probe === 'last'
            ? probe
            : Array.isArray(probe)
              ? [...layers('probeLayers', probe)]
              : bad('probeLayers', probe, "'best', 'last' or a list of block numbers"),
      revision: text('revision', given.revision),
      endpoint: text('endpoint', given.endpoint),
      token: text('token', given.token),
      cache: boolean('cache', given.cache, true),
      // A module of the caller's is that of a build without threads.
      threads: wasmModule ? 1 : threads,
      wasmUrl: wasmUrl === undefined || wasmUrl === null ? undefined : folder('wasmUrl', wasmUrl as string | URL),
      wasmModule: (wasmModule as WebAssembly.Module | null | undefined) ?? undefined,
      warmup: boolean('warmup', given.warmup, true),
      timeouts: object('timeouts', given.timeouts) as Timeouts,
    },
    worker: given.worker === undefined || given.worker === null ? undefined : boolean('worker', given.worker, true),
    signal: signal(given.signal),
    report: report as ((event: ProgressEvent) => void) | undefined,
  };
}

/** Checks the options of `classify`. */
export function classifyOptions(value: unknown): { topK: number; signal: AbortSignal | undefined } {
  const given = object('options', value);
  return { topK: count('top_k', given.top_k) ?? 5, signal: signal(given.signal) };
}

/** Checks the options of `features` against the blocks that run. */
export function featureOptions(value: unknown, blocks: number): { layers: number[]; signal: AbortSignal | undefined } {
  const given = object('options', value);
  if (given.layers === undefined || given.layers === null) return { layers: [blocks - 1], signal: signal(given.signal) };
  const wanted = layers('layers', given.layers);
  for (const layer of wanted) if (layer >= blocks) bad('layers', layer, `0 to ${blocks - 1}: ${blocks} blocks run`);
  return { layers: [...wanted], signal: signal(given.signal) };
}
