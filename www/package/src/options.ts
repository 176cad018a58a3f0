import { buildOf } from './device.js';
import { AimError } from './errors.js';
import type { View } from './frames/view.js';
import type { TrainProgress } from './glue.js';
import type { Measurement } from './measure.js';
import type { ProgressEvent } from './progress.js';

/** Where to run. `auto` takes WebGPU on a hardware adapter, else the CPU (`wasm`). */
export type Device = (typeof DEVICES)[number];
/** How to hold the weights. `auto` keeps a quantised model as it is and quantises the others as fits the device. */
export type Dtype = (typeof DTYPES)[number];
/** A model of the paper. */
export type Arch = (typeof ARCHS)[number];
/** The blocks whose outputs the classifier averages; `last` is the last six. */
export type ProbeLayers = 'best' | 'last' | number[];
/** A model in memory: file names (`config.json`, `labels.json`, `model.safetensors`) and what is in them. */
export type ModelFiles = Record<string, string | ArrayBuffer | ArrayBufferView>;
/** A hub name (`user/repo`), the URL of a folder, a model in memory, or what `lesson.export()` gave. */
export type Model = string | URL | ModelFiles | Blob;

const DEVICES = ['auto', 'webgpu', 'wasm'] as const;
const DTYPES = ['auto', 'fp32', 'fp16', 'q8', 'q4'] as const;
const ARCHS = ['aim-600M', 'aim-1B', 'aim-3B', 'aim-7B'] as const;
/** What transformers.js calls them. */
const ALIASES = { int8: 'q8', uint8: 'q8', q4f16: 'q4', bnb4: 'q4' } as const;

const LOAD = ['device', 'dtype', 'probeLayers', 'arch', 'revision', 'endpoint', 'token', 'signal', 'progress_callback', 'cache', 'worker', 'threads', 'wasmUrl', 'wasmModule', 'picturesModule', 'warmup', 'timeouts', 'trunk'];
export const VIEW = ['signal', 'regionOfInterest', 'rotationDegrees'];
const CLASSIFY = [...VIEW, 'onerror', 'top_k', 'topk', 'scoreThreshold', 'allowlist', 'denylist'];
/** Options of transformers.js that mean nothing here. */
const FOREIGN = ['config', 'cache_dir', 'local_files_only', 'subfolder', 'model_file_name', 'use_external_data_format', 'session_options', 'quantized', 'function_to_apply'];

/** The options of `AimClassifier.fromPretrained`. */
export interface LoadOptions {
  /** Where to run; `auto` by default. `webgpu` also takes a software adapter. */
  device?: Device | undefined;
  /** How to hold the weights; `auto` by default. transformers.js's `int8` and `uint8` are `q8`, `q4f16` and `bnb4` are `q4`. */
  dtype?: Dtype | keyof typeof ALIASES | undefined;
  /** The probed blocks. By default what the model's configuration says. */
  probeLayers?: ProbeLayers | undefined;
  /** Which released model the files at `model` are of, where its name does not say it: `apple/AIM` holds all four. */
  arch?: Arch | undefined;
  /** A branch, a tag or a commit of the model's repository on the hub; `main` by default. */
  revision?: string | undefined;
  /** The hub; `https://huggingface.co` by default. */
  endpoint?: string | undefined;
  /** A token of the hub, for private repositories. It is sent to `endpoint` alone, never to the server of another folder. */
  token?: string | undefined;
  /** Ends the load: it rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Called with each progress event of the load. */
  progress_callback?: ((event: ProgressEvent) => void) | undefined;
  /** Keep the weights in the browser's cache; `true` by default. */
  cache?: boolean | undefined;
  /**
   * Run in a worker, so that the page never waits; `true` by default where there are workers. Without one, the memory of an engine
   * that stopped, or of a GPU that was lost, is free again when the page ends.
   */
  worker?: boolean | undefined;
  /** How many threads the CPU may use, where they are possible: in a worker of a cross-origin isolated page. By default the processor's, at most 8. */
  threads?: number | undefined;
  /** The folder that holds `webgpu/`, `cpu/`, `cpu-relaxed/`, `cpu-threads/` and `pictures/`, if it is not beside this package. */
  wasmUrl?: string | URL | undefined;
  /** The model below a taught head, if it is not where the head says: a name (`user/repo@revision` for one that is not `main`), a URL or files in memory. */
  trunk?: Exclude<Model, Blob> | undefined;
  /** A compiled `aim_web_bg.wasm`, for runtimes that don't compile from bytes (workerd). Another build than its own is fetched. */
  wasmModule?: WebAssembly.Module | undefined;
  /** The compiled `wasm/pictures/aim_web_bg.wasm`, for the same runtimes: by it PNG, WebP, GIF and BMP are decoded. */
  picturesModule?: WebAssembly.Module | undefined;
  /** Run once on a blank picture, so that the first real one is fast; `true` by default. */
  warmup?: boolean | undefined;
  /** How long is waited for a server. */
  timeouts?: Timeouts | undefined;
}

/** The options of `measure`. */
export interface MeasureOptions {
  /** How many pictures run at once, or a list of that; 1 by default. */
  batch?: number | readonly number[] | undefined;
  /** For how many seconds batches of one size are repeated; 2 by default. */
  seconds?: number | undefined;
  /** Called with each measurement as soon as it is done; its `peak_share` is still null. */
  onmeasurement?: ((measurement: Measurement) => void) | undefined;
  /** Gives up: the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** How long is waited for a server, in seconds. */
export interface Timeouts {
  /** How long a server may send nothing, or hardly anything; 30 by default. */
  stall?: number;
  /** The longest wait before another attempt; 300 by default. */
  longestWait?: number;
}

/** A part of a picture: where its edges are, from 0 (left, top) to 1 (right, bottom). */
export interface Region {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** What of a picture is looked at, and when to give up. */
export interface ViewOptions {
  /** The part that is looked at, before the model's own crop; the whole picture by default. */
  regionOfInterest?: Region | undefined;
  /** By how much that part is turned, clockwise: a multiple of 90. */
  rotationDegrees?: number | undefined;
  /** Gives up: the call rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** The options of `classify`. */
export interface ClassifyOptions extends ViewOptions {
  /** How many labels, best first; 5 by default. */
  top_k?: number | undefined;
  /** Only labels whose score is at least this. */
  scoreThreshold?: number | undefined;
  /** Only these labels. */
  allowlist?: readonly string[] | undefined;
  /** All labels but these. */
  denylist?: readonly string[] | undefined;
  /** What a picture of an array that can't be read becomes: the error of the whole call (`throw`, by default), or null in its place. */
  onerror?: 'throw' | 'null' | undefined;
}

/** The options of `features` and `embed`. */
export interface FeatureOptions extends ViewOptions {
  /** Block numbers from 0; by default the last block that runs. */
  layers?: number[] | undefined;
}

/** Which head is trained; `auto` takes what the number of pictures asks for. */
export type HeadKind = 'auto' | 'attention' | 'linear' | 'mean';

/** The options of `teach`. */
export interface TeachOptions {
  /** The head that is trained; `auto` by default. */
  head?: HeadKind | undefined;
  /** Keep a small JPEG of each picture, for `lesson.examples` and `export({ pictures: true })`; false by default. */
  keepPictures?: boolean | undefined;
}

/** The options of `lesson.train`. */
export interface TrainOptions {
  /** Gives up: the call rejects with the signal's reason, and the lesson stays as it was. */
  signal?: AbortSignal | undefined;
  /** Called with the progress of the training. */
  onprogress?: ((event: TrainProgress) => void) | undefined;
  /** The head, in place of the lesson's. */
  head?: HeadKind | undefined;
  /** How often each picture is seen. */
  epochs?: number | undefined;
  /** The highest rate of learning. */
  rate?: number | undefined;
  /** Another seed gives another order, another start, and other pictures that are held out; 0 by default. */
  seed?: number | undefined;
  /** The share of each class that is held out, 0 to below 1; 0.2 by default. */
  heldOut?: number | undefined;
}

/** Load options as the engine takes them: complete, checked, and free of functions so that a worker can have them. */
export interface EngineOptions {
  /** `name` is what it is called, and for one that is fetched where from. */
  model: { kind: 'embedded' | 'name'; name: string } | { kind: 'files'; name: string; files: ModelFiles };
  /** What the model, a head alone, stands on, if not on what it names. */
  trunk: EngineOptions['model'] | undefined;
  device: Device;
  dtype: Dtype;
  probeLayers: ProbeLayers | undefined;
  arch: Arch | undefined;
  revision: string | undefined;
  endpoint: string | undefined;
  token: string | undefined;
  cache: boolean;
  threads: number | undefined;
  /** The file of a head that was taught on the model. */
  head: Uint8Array | undefined;
  wasmUrl: string | undefined;
  wasmModule: WebAssembly.Module | undefined;
  picturesModule: WebAssembly.Module | undefined;
  warmup: boolean;
  timeouts: { stall: number; longestWait?: number };
  /** The channel on which threads report a trap, if anybody listens. */
  alarm?: string;
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

export function bad(name: string, value: unknown, wanted: string): never {
  throw new AimError('option', `${name}: ${show(value)} is not valid: it must be ${wanted}`);
}

export function oneOf<T extends string>(name: string, value: unknown, allowed: readonly T[], otherwise: T): T {
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

export function count(name: string, value: unknown): number | undefined {
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

export function signal(value: unknown): AbortSignal | undefined {
  if (value === undefined || value === null) return undefined;
  // Not instanceof: a frame's signals have a class of their own.
  if (Object.prototype.toString.call(value) !== '[object AbortSignal]') bad('signal', value, 'an AbortSignal');
  return value as AbortSignal;
}

export function object(name: string, value: unknown, known: readonly string[]): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object') bad(name, value, 'an object');
  const given = value as Record<string, unknown>;
  for (const key of Object.keys(given)) {
    if (given[key] === undefined || known.includes(key)) continue;
    const nearest = [...known].sort((a, b) => distance(a, key) - distance(b, key))[0];
    throw new AimError('option', FOREIGN.includes(key) ? `${name}: '${key}' of transformers.js means nothing here: leave it out` : `${name}: there is no '${key}'. The nearest is '${nearest}'`);
  }
  return given;
}

/** In how many characters two words differ, capitals and underscores aside (Levenshtein). */
function distance(one: string, other: string): number {
  const [a, b] = [one, other].map((word) => word.toLowerCase().replaceAll('_', '')) as [string, string];
  let row = [...Array(b.length + 1).keys()];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

/** A warning for whoever looks at the console. */
function note(text: string): void {
  console.warn(`aim-web: ${text}`);
}

export function number(name: string, value: unknown, least: number, most: number): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !(value >= least && value <= most)) bad(name, value, `a number from ${least} to ${most}`);
  return value;
}

function words(name: string, value: unknown): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || !value.every((word) => typeof word === 'string')) bad(name, value, 'a list of labels');
  return [...value];
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

function model(value: unknown, option = 'model'): EngineOptions['model'] {
  if (value === undefined || value === null) return { kind: 'embedded', name: 'aim-tiny' };
  if (Object.prototype.toString.call(value) === '[object URL]') return { kind: 'name', name: folder(option, value as URL) };
  if (typeof value === 'string') {
    if (/^[a-z][a-z0-9+.-]*:\/\//i.test(value) || /^\.{0,2}\//.test(value) || value.endsWith('/')) {
      return { kind: 'name', name: folder(option, value) };
    }
    // The revision of a trunk goes with its name: the option is the head's.
    if (/^[\w.-]+\/[\w.-]+$/.test(option === 'trunk' ? value.replace(/@.+/, '') : value)) return { kind: 'name', name: value };
  } else if (typeof value === 'object' && !Array.isArray(value) && 'config.json' in value) {
    const files = value as ModelFiles;
    for (const [file, content] of Object.entries(files)) {
      if (typeof content !== 'string' && !ArrayBuffer.isView(content) && !(content instanceof ArrayBuffer)) {
        bad(`${option}['${file}']`, content, 'a string, an ArrayBuffer or a typed array');
      }
    }
    return { kind: 'files', name: 'model in memory', files };
  }
  return bad(
    option,
    value,
    "a hub name such as 'apple/aim-600M', the URL of a folder ('https://host/folder/', './folder/'), or an object of files with 'config.json' in it",
  );
}

/** The name by which the cache knows what the load calls `value`; undefined for nothing. */
export function cacheName(value: unknown): string | undefined {
  const named = model(value === undefined || value === null ? undefined : String(value));
  // A folder is the same one without the slash at its end.
  return named.kind === 'name' ? named.name.replace(/(?<!\/)\/$/, '') : undefined;
}

function compiled(name: string, value: unknown): WebAssembly.Module | undefined {
  if (value === undefined || value === null) return undefined;
  return value instanceof WebAssembly.Module ? value : bad(name, value, 'a WebAssembly.Module');
}

/** Checks the arguments of `fromPretrained`. */
export function loadOptions(name: unknown, value: unknown): { engine: EngineOptions; worker: boolean | undefined; signal: AbortSignal | undefined; report: ((event: ProgressEvent) => void) | undefined } {
  const given = object('options', value, LOAD);
  const waits = object('timeouts', given.timeouts, ['stall', 'longestWait']);
  const longestWait = number('timeouts.longestWait', waits.longestWait, 0, 1e6);
  const { dtype } = given;
  const alias = typeof dtype === 'string' && Object.hasOwn(ALIASES, dtype) ? ALIASES[dtype as keyof typeof ALIASES] : undefined;
  if (alias) note(`dtype '${dtype}' is taken as '${alias}'`);
  const probe = given.probeLayers;
  const report = given.progress_callback ?? undefined;
  if (report !== undefined && typeof report !== 'function') bad('progress_callback', report, 'a function');
  const { wasmUrl } = given;
  const [wasmModule, picturesModule] = ['wasmModule', 'picturesModule'].map((name) => compiled(name, given[name]));
  if (wasmUrl !== undefined && wasmUrl !== null && typeof wasmUrl !== 'string' && !(wasmUrl instanceof URL)) {
    bad('wasmUrl', wasmUrl, 'the URL of a folder');
  }
  const threads = count('threads', given.threads);
  return {
    engine: {
      model: model(name),
      trunk: given.trunk === undefined || given.trunk === null ? undefined : model(given.trunk, 'trunk'),
      device: oneOf('device', given.device, DEVICES, 'auto'),
      dtype: alias ?? oneOf('dtype', dtype, DTYPES, 'auto'),
      probeLayers:
        probe === undefined || probe === null
          ? undefined
          : probe === 'best' || probe === 'last'
            ? probe
            : Array.isArray(probe)
              ? [...layers('probeLayers', probe)]
              : bad('probeLayers', probe, "'best', 'last' or a list of block numbers"),
      arch: given.arch === undefined || given.arch === null ? undefined : oneOf('arch', given.arch, ARCHS, 'aim-600M'),
      revision: text('revision', given.revision),
      endpoint: text('endpoint', given.endpoint),
      token: text('token', given.token),
      cache: boolean('cache', given.cache, true),
      // A module without threads would not be used where they are possible.
      threads: wasmModule && buildOf(wasmModule) === 'cpu' ? 1 : threads,
      head: undefined,
      wasmUrl: wasmUrl === undefined || wasmUrl === null ? undefined : folder('wasmUrl', wasmUrl as string | URL),
      wasmModule,
      picturesModule,
      warmup: boolean('warmup', given.warmup, true),
      timeouts: { stall: number('timeouts.stall', waits.stall, 0.001, 1e6) ?? 30, ...(longestWait === undefined ? {} : { longestWait }) },
    },
    worker: given.worker === undefined || given.worker === null ? undefined : boolean('worker', given.worker, true),
    signal: signal(given.signal),
    report: report as ((event: ProgressEvent) => void) | undefined,
  };
}

/** Checks what of a picture is looked at. */
function view(given: Record<string, unknown>): { view: View | undefined; signal: AbortSignal | undefined } {
  const { regionOfInterest: region, rotationDegrees } = given;
  const turns = (number('rotationDegrees', rotationDegrees, -1e6, 1e6) ?? 0) / 90;
  if (!Number.isInteger(turns)) bad('rotationDegrees', rotationDegrees, 'a multiple of 90');
  const sides = object('regionOfInterest', region, ['left', 'top', 'right', 'bottom']);
  const side = (name: string, otherwise: number) => number(`regionOfInterest.${name}`, sides[name], 0, 1) ?? otherwise;
  const [left, top, right, bottom] = [side('left', 0), side('top', 0), side('right', 1), side('bottom', 1)];
  if (left >= right || top >= bottom) bad('regionOfInterest', region, 'left of its right and above its bottom');
  const quarters = ((turns % 4) + 4) % 4;
  return { view: quarters || (region !== undefined && region !== null) ? { left, top, right, bottom, quarters } : undefined, signal: signal(given.signal) };
}

/** Checks the options of `logits`. */
export function viewOptions(value: unknown): ReturnType<typeof view> {
  return view(object('options', value, VIEW));
}

/** Checks the options of `classify`. `keep` is absent where every label is wanted. */
export function classifyOptions(value: unknown): ReturnType<typeof view> & { topK: number; nulls: boolean; keep: ((label: { label: string; score: number }) => boolean) | undefined } {
  const given = object('options', value, CLASSIFY);
  if (given.topk !== undefined) note("the option is called 'top_k'; 'topk' is its older spelling");
  const least = number('scoreThreshold', given.scoreThreshold, 0, 1) ?? 0;
  const allowed = words('allowlist', given.allowlist);
  const denied = words('denylist', given.denylist);
  const keep = ({ label, score }: { label: string; score: number }) => score >= least && (allowed?.includes(label) ?? true) && !denied?.includes(label);
  return { ...view(given), topK: count('top_k', given.top_k ?? given.topk) ?? 5, nulls: oneOf('onerror', given.onerror, ['throw', 'null'], 'throw') === 'null', keep: least || allowed || denied ? keep : undefined };
}

/** Checks the options of `features` against the blocks that run. */
export function featureOptions(value: unknown, blocks: number): ReturnType<typeof view> & { layers: number[] } {
  const given = object('options', value, [...VIEW, 'layers']);
  if (given.layers === undefined || given.layers === null) return { ...view(given), layers: [blocks - 1] };
  const wanted = layers('layers', given.layers);
  for (const layer of wanted) if (layer >= blocks) bad('layers', layer, `0 to ${blocks - 1}: ${blocks} blocks run`);
  return { ...view(given), layers: [...wanted] };
}
