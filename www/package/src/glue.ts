/** What the wasm build exports: the boundary between this package and its Rust half. */
export interface Glue {
  initSync(input: { module: WebAssembly.Module; memory?: WebAssembly.Memory }): { memory: WebAssembly.Memory };
  /** Of all builds but `pictures`. */
  Classifier: { load(options: GlueLoadOptions): Promise<GlueClassifier> };
  /** Only of the build with threads. Makes the pool, with this thread as its first. */
  startThreads?(count: number): void;
  /** Only of the build with threads. Serves the pool and never returns. */
  serveThread?(): void;
  /** Decodes a JPEG file as natively, and turns it by its orientation; colour profiles are ignored. */
  decodeJpeg?(bytes: Uint8Array): RawPicture;
  /** Only of the build `pictures`. The same for JPEG, PNG, WebP, GIF and BMP. */
  decodePicture?(bytes: Uint8Array): RawPicture;
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
  /** The file of a head that was taught on the model. */
  head?: Uint8Array;
  /** What a model that is a head alone stands on, in place of the trunk that it names. */
  trunk?: string;
  /** Where the files of the package's own model are fetched from, for heads that lie alone. */
  embedded?: string;
}

/** What a head is trained on, and how. */
export interface GlueLesson {
  classes: string[];
  /** Of each picture its class, by number. */
  labels: number[];
  /** Of each picture what `tokens` gave. */
  features: Uint16Array[];
  head: string;
  epochs?: number | undefined;
  rate?: number | undefined;
  seed?: number | undefined;
  heldOut?: number | undefined;
  /** What the trunk is called in the head's file. */
  trunk: string;
  arch?: string | undefined;
}

/** How far a training is, after an epoch with what it gave. */
export interface TrainProgress {
  /** From 0 to 100. */
  progress: number;
  epoch?: number;
  /** The mean loss of the epoch. */
  loss?: number;
  /** The share of held-out pictures that got their class. */
  accuracy?: number;
}

/** A head that was trained. */
export interface GlueTaught {
  file: Uint8Array;
  report: TrainReport;
}

/** How good a head is on the pictures that were held out. */
export interface TrainReport {
  /** The head that was trained: `mean`, `linear` or `attention`. */
  head: 'mean' | 'linear' | 'attention';
  /** How many pictures there were. */
  examples: number;
  /** How many of them were held out. */
  heldOut: number;
  /** The share of those that got their class, 0 to 1; null if none were held out. */
  accuracy: number | null;
  /** Their mean cross-entropy. */
  loss: number | null;
  /** Class by class, in the order of `labels`. */
  perClass: { label: string; examples: number; heldOut: number; right: number; accuracy: number | null }[];
  /** `confusion[shown][named]`: how many held-out pictures of a class got each name. */
  confusion: number[][];
  /** Epoch by epoch. */
  curve: { epoch: number; loss: number; heldOutLoss: number | null; accuracy: number | null }[];
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
  /** What a head reads of each picture, in 16-bit floats. */
  tokens(images: Float32Array): Promise<Uint16Array[]>;
  teach(lesson: GlueLesson & { signal: AbortSignal; onProgress: (event: TrainProgress) => void }): Promise<GlueTaught>;
  /** The same trunk under a head that was taught. */
  withHead(file: Uint8Array): GlueClassifier;
  /** The file of a taught head in fewer numbers, if it has few classes. */
  compactHead(): Uint8Array | undefined;
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
  trunkSha256: string;
  /** What a model that is a head alone names as its trunk, if that was loaded. */
  trunk?: string;
  trunkArch?: string;
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
