/** What the wasm build exports: the boundary between this package and its Rust half. */
export interface Glue {
  initSync(input: { module: WebAssembly.Module; memory?: WebAssembly.Memory }): { memory: WebAssembly.Memory };
  Classifier: { load(options: GlueLoadOptions): Promise<GlueClassifier> };
  /** Only of the build with threads. Makes the pool, with this thread as its first. */
  startThreads?(count: number): void;
  /** Only of the build with threads. Serves the pool and never returns. */
  serveThread?(): void;
  /** Decodes a JPEG file as natively, without orientation and colour profile. */
  decodeJpeg?(bytes: Uint8Array): RawPicture;
}

/** A decoded picture: 3 bytes a pixel. */
export interface RawPicture {
  rgb: Uint8Array;
  width: number;
  height: number;
}

/** How the wasm module fetches, if not by the global `fetch`. */
export type GlueFetch = (url: string, init?: RequestInit) => Promise<Response>;

export interface GlueLoadOptions {
  model: string;
  dtype: string;
  probeLayers?: 'best' | 'last' | number[];
  arch?: string;
  revision?: string;
  endpoint?: string;
  token?: string;
  cache: boolean;
  warmup: boolean;
  allowSoftware: boolean;
  signal?: AbortSignal;
  onProgress?: (event: RawProgress) => void;
  fetch?: GlueFetch;
  /** Seconds, as in `Timeouts`. */
  stall?: number;
  longestWait?: number;
}

export interface GlueClassifier {
  /** A picture as the questions below take it; one after the other they are a batch. */
  prepare(rgba: Uint8Array | Uint8ClampedArray, width: number, height: number): Float32Array;
  classify(images: Float32Array, topK: number): Promise<Classification[][]>;
  logits(images: Float32Array): Promise<Float32Array[]>;
  /** Layer by layer; the first of the dimensions are the pictures. */
  features(images: Float32Array, layers: Uint32Array): Promise<{ data: Float32Array; dims: number[] }[]>;
  /** The floating-point operations a second that the fastest products of large matrices reach. */
  peak(): Promise<number>;
  info(): GlueInfo;
  labels(): string[];
  lost(): Promise<Error>;
  free(): void;
}

export interface GlueInfo {
  device: string;
  adapter: string;
  kernels: string;
  dtype: string;
  blocks: number;
  bytesFetched: number;
  bytesCached: number;
  loadMs: number;
  warmupMs: number;
  imgSize: number;
  wasmBytes: number;
  /** Only of a GPU. */
  deviceBytes?: number;
  flops: number;
}

/** An event as the wasm module reports it. */
export interface RawProgress {
  status: string;
  name?: string;
  file?: string;
  loaded?: number;
  total?: number;
  progress?: number;
}

/** One label and how sure the model is of it. */
export interface Classification {
  /** The name of the class. */
  label: string;
  /** Its probability: 0 to 1, all classes together 1. */
  score: number;
  /** Its number in `labels`. */
  index: number;
}
