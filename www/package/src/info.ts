/** What a classifier runs on and what its load took. */
export interface AimInfo {
  /** The model, as it was asked for. */
  model: string;
  /** `webgpu`, or `wasm` for the CPU. */
  device: 'webgpu' | 'wasm';
  /** Why it runs there, for a person. */
  reason: string;
  /** The wasm build in use. */
  build: 'webgpu' | 'cpu' | 'cpu-relaxed' | 'cpu-threads';
  /** How many threads compute. */
  threads: number;
  /** The GPU, or the processor's instruction set. */
  adapter: string;
  /** What products are computed by: the tiles of a GPU, or the instructions for weights of 8 and of 4 bits. */
  kernels: string;
  /** How the weights are held. */
  dtype: string;
  /** How many blocks run: up to the highest probed one. */
  blocks: number;
  /** By what a taught head knows the trunk below it: a hash of the tensors that run. */
  trunkSha256: string;
  /** Of a model that is a head alone: its trunk, as the head or the option `trunk` names it; one in memory has no name. */
  trunk?: string;
  /** Which released model that is, where its name does not say it. */
  trunkArch?: string;
  /** The side of the square that the model sees. */
  imageSize: number;
  /** Bytes of the model that came over the network. */
  bytesFetched: number;
  /** Bytes of the model that came from the cache. */
  bytesCached: number;
  /** The size of the wasm heap. */
  wasmBytes: number;
  /** What is taken of the GPU's memory; not there on the CPU. */
  deviceBytes?: number;
  /** The floating-point operations of one picture, in the products alone. */
  flops: number;
  /** Milliseconds of the load, without the warm-up. */
  loadMs: number;
  /** Milliseconds of the warm-up. */
  warmupMs: number;
  /** True if it runs in a worker. */
  worker: boolean;
}
