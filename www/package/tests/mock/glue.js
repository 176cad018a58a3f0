// Stands in for the wasm-bindgen output in unit tests, which need faults on demand: a device that goes, a
// trap, a slow load. What it does is written in the model's config.json under "mock".
const build = (import.meta.url ?? 'wasm/cpu/aim_web.js').split('/').at(-2);
let running = false;
let poisoned = false;

export function initSync({ module }) {
  if (!(module instanceof WebAssembly.Module)) throw new Error('initSync wants a WebAssembly.Module');
  (counts().modules ??= []).push([build, module]);
  if (globalThis.__mockRefuse === build) throw globalThis.__mockError ?? new RangeError('could not allocate memory');
  running = true;
  return { memory: new WebAssembly.Memory(globalThis.__mockHeap ?? { initial: 1 }) };
}

function aimError(code, message) {
  return Object.assign(new Error(message), { name: 'AimError', code });
}

/** Of a file whose fifth byte says what becomes of it. */
export function decodePicture(bytes) {
  if (poisoned) throw aimError('device_lost', 'this instance is poisoned');
  if (bytes[4] === 0x39) return { rgb: Uint8Array.of(10, 20, 30), width: 1, height: 1 };
  if (bytes[4] === 0x37) throw aimError('image', 'this GIF is broken');
  poisoned = true;
  throw new WebAssembly.RuntimeError('unreachable');
}

const sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(resolve, ms);
    // What is for ever keeps no test waiting.
    if (ms >= 1e6) timer.unref?.();
    signal?.addEventListener('abort', () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

// Loads are counted over all builds and instances, so that "only the first load fails" can be said.
const counts = () => (globalThis.__mockCounts ??= { loads: [], frees: 0 });

export class Classifier {
  static async load(options) {
    if (!running) throw new Error('not initialised');
    if (poisoned) throw aimError('device_lost', 'this instance is poisoned');
    counts().loads.push({ build, options: { ...options, signal: undefined, onProgress: undefined, fetch: undefined } });
    const get = async (name, init) => {
      // With a trunk beside it the model is a head alone.
      const response = await (options.fetch ?? fetch)(new URL(name, options.trunk ?? options.model).href, { signal: options.signal, ...init });
      if (!response.ok) throw aimError(response.status === 404 ? 'not_found' : 'network', `${name}: ${response.status}`);
      return response;
    };
    const report = options.onProgress ?? (() => {});
    const { mock = {} } = await (await get('config.json')).json();
    const labels = await (await get('labels.json')).json();
    report({ status: 'initiate', file: 'model.safetensors' });
    report({ status: 'download', file: 'model.safetensors' });
    const total = mock.claims ?? 1000;
    for (const loaded of mock.steps ?? [0, 400, 300, 1200]) {
      report({ status: 'progress', file: 'model.safetensors', loaded, total });
      report({ status: 'progress_total', loaded, total });
      await sleep(counts().loads.length > (mock.stallAfter ?? Infinity) ? 1e6 : (mock.loadMs ?? 0), options.signal);
    }
    const weights = await get('model.safetensors', { headers: { range: 'bytes=1-2' } });
    const bytes = new Uint8Array(await weights.arrayBuffer());
    if (weights.status !== 206 || bytes.length !== 2) throw aimError('format', 'no ranges');
    if (mock.failOn?.includes(build)) throw aimError(mock.failWith ?? 'unsupported', `${build} fails here`);
    if (counts().loads.length > (mock.failAfter ?? Infinity)) throw aimError('unsupported', 'no further load');
    report({ status: 'done', file: 'model.safetensors' });
    if (options.warmup) report({ status: 'warmup' });
    report({ status: 'ready' });
    const model = new Classifier(mock, labels, bytes);
    return options.head ? model.withHead(options.head) : model;
  }

  #mock;
  #labels;
  #calls = 0;
  #lose;
  #lost = new Promise((resolve) => (this.#lose = resolve));
  #freed = false;
  #bytes;

  constructor(mock, labels, bytes) {
    this.#mock = mock;
    this.#labels = labels;
    this.#bytes = bytes;
    // For tests that take the device away between requests.
    counts().destroy = () => this.#destroy();
  }

  prepare(rgba, width, height) {
    if (this.#freed) throw new Error('null pointer passed to rust');
    if (rgba.length !== width * height * 4) throw aimError('image', 'wrong length');
    counts().seen = { rgba: [...rgba], width, height };
    // Colours only: alpha is dropped.
    return Float32Array.from(this.#labels, (_, index) => rgba[(index + Math.floor(index / 3)) % rgba.length] / 255);
  }

  /** The scores of each picture of a batch. */
  async #pass(images) {
    if (this.#freed) throw new Error('null pointer passed to rust');
    const call = ++this.#calls;
    const size = this.#mock.size ?? this.#labels.length;
    const pictures = Array.from({ length: images.length / size }, (_, i) => this.#mock.scores ?? [...images.subarray(i * size, (i + 1) * size)]);
    (counts().batches ??= []).push(pictures.length);
    await sleep(this.#mock.ms ?? 0);
    if (this.#mock.panicOn?.[build] === call) {
      poisoned = true;
      if (this.#mock.panicAs === 'error') throw aimError('device_lost', 'a defect stopped this classifier');
      throw new WebAssembly.RuntimeError('unreachable');
    }
    if (this.#mock.strayOn?.[build] === call) {
      // As a stack that ran over in a future: no promise hears of it.
      queueMicrotask(() => {
        throw new WebAssembly.RuntimeError('unreachable');
      });
      await new Promise(() => {});
    }
    if (this.#mock.loseOn?.[build] === call) {
      this.#destroy();
      // A read of a lost device may never settle.
      await new Promise(() => {});
    }
    return pictures;
  }

  async logits(images) {
    return (await this.#pass(images)).map((scores) => Float32Array.from(scores));
  }

  async classify(images, topK) {
    return (await this.#pass(images)).map((scores) =>
      scores
        .slice(0, this.#labels.length)
        .map((score, index) => ({ label: this.#labels[index], score, index }))
        .sort((a, b) => b.score - a.score)
        .slice(0, topK),
    );
  }

  async features(images, layers) {
    const { length } = await this.#pass(images);
    return Array.from(layers, (layer) => ({ data: Float32Array.from({ length: 6 * length }, (_, i) => layer + Math.floor(i / 6) / 8), dims: [length, 3, 2] }));
  }

  async peak() {
    if (this.#freed) throw new Error('null pointer passed to rust');
    if (this.#mock.peakless) throw aimError('device_lost', 'no product could be measured');
    return 4e12;
  }

  async tokens(images) {
    // What is seen of each picture, so that tests can tell pictures apart.
    return (await this.#pass(images)).map((scores) => Uint16Array.from(scores, (score) => Math.round(score * 255)));
  }

  async teach({ classes, labels, features, trunk, arch, signal, onProgress, ...options }) {
    if (this.#freed) throw new Error('null pointer passed to rust');
    (counts().lessons ??= []).push({ classes, labels, features: features.map((list) => [...list]), trunk, arch, build, ...options });
    counts().training = signal;
    if (classes.length < 2) throw aimError('option', 'there is one class, and nothing to tell apart');
    for (const progress of [30, 60, 100]) {
      onProgress({ progress, epoch: progress / 10 });
      await sleep(this.#mock.trainMs ?? 0, signal);
      if (this.#mock.loseIn?.[build]) {
        this.#destroy();
        await new Promise(() => {});
      }
    }
    const metadata = { 'aim.config': JSON.stringify({ trunk: { name: trunk, arch, sha256: this.#mock.sha256 ?? 'mock' } }), 'aim.labels': JSON.stringify(classes) };
    const header = JSON.stringify({ __metadata__: metadata, 'head.linear.weight': { dtype: 'U8', shape: [2], data_offsets: [0, 2] } });
    const file = new Uint8Array(8 + header.length + 2);
    new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
    file.set(new TextEncoder().encode(header), 8);
    return { file, report: { head: 'mean', accuracy: 1, loss: 0.1, examples: labels.length, heldOut: classes.length, perClass: classes.map((label) => ({ label, heldOut: 1, right: 1 })), confusion: classes.map((_, i) => classes.map((_, j) => Number(i === j))), curve: [] } };
  }

  withHead(file) {
    if (this.#freed) throw new Error('null pointer passed to rust');
    const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
    const { __metadata__: metadata } = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
    if (metadata['aim.refuse']) throw aimError('integrity', 'the head was trained on another trunk');
    (counts().heads ??= []).push(build);
    counts().onHead?.();
    const { destroy } = counts();
    const headed = new Classifier({ size: this.#labels.length, ...this.#mock, file }, JSON.parse(metadata['aim.labels']), this.#bytes);
    // The device is that of the trunk.
    counts().destroy = destroy;
    return headed;
  }

  compactHead() {
    return this.#mock.file;
  }

  info() {
    const gpu = build === 'webgpu' ? { deviceBytes: 1e6 } : {};
    return { trunkSha256: this.#mock.sha256 ?? 'mock', device: build, adapter: 'mock', kernels: 'mock', dtype: 'q8', blocks: 4, bytesFetched: this.#bytes.length, bytesCached: 0, loadMs: 1, warmupMs: 1, imgSize: 224, wasmBytes: 65536, flops: 2e9, ...gpu };
  }

  labels() {
    return this.#labels;
  }

  lost() {
    return this.#lost;
  }

  #destroy() {
    this.#lose(aimError('device_lost', 'the device went away'));
  }

  free() {
    if (this.#freed) throw new Error('null pointer passed to rust');
    this.#freed = true;
    counts().frees += 1;
    counts().freed = this.#mock;
  }
}
