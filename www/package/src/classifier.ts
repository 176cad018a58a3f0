import type { Engine } from './engine.js';
import { AimError, disposed, throwIfAborted } from './errors.js';
import { type ImageInput, capture } from './frames/capture.js';
import { type Frame, release } from './frames/frame.js';
import type { Classification } from './glue.js';
import type { AimInfo } from './info.js';
import { type ClassifyOptions, type FeatureOptions, type LoadOptions, type Model, classifyOptions, featureOptions, loadOptions } from './options.js';
import { orAbort } from './or-abort.js';
import { Progress } from './progress.js';
import { RemoteEngine, hasWorker } from './remote.js';
import { NewestWins } from './video.js';

/** The outputs of blocks for one picture. */
export interface Features {
  /** Row after row, layer after layer. */
  data: Float32Array;
  /** [layers, patches, channels]. */
  dims: number[];
}

/** The labels of one frame of a video, and which frame it was. */
export type VideoClassification = Classification[] & {
  /** The timestamp that was passed in. */
  timestamp: number;
  /** Milliseconds the frame took, without its wait for the one before. */
  ms: number;
};

interface VideoJob {
  frame: Promise<Frame>;
  timestamp: number;
  options: { topK: number; signal: AbortSignal | undefined };
}

/** A model that is ready to name pictures. */
export class AimClassifier {
  readonly #engine: Engine;
  readonly #video: NewestWins<VideoJob, VideoClassification>;
  #disposed: AimError | undefined;

  private constructor(engine: Engine) {
    this.#engine = engine;
    this.#video = new NewestWins(
      async ({ frame, timestamp, options }) => {
        const start = performance.now();
        const labels = await this.#engine.classify(await frame, options.topK, options.signal);
        return Object.assign(labels, { timestamp, ms: performance.now() - start });
      },
      ({ frame }) => void frame.then(release, () => undefined),
    );
  }

  /**
   * Loads a model and makes it ready: the device is open, the weights are on it, and it has run once.
   *
   * @param model - Nothing for the model that ships with this package, a hub name (`user/repo`), the URL
   * of a folder that holds `config.json` and the weights, or an object of files in memory.
   * @throws AimError, or the signal's reason if it was aborted.
   */
  static async fromPretrained(model?: Model | null, options?: LoadOptions): Promise<AimClassifier> {
    const { engine, worker, signal, report } = loadOptions(model, options);
    throwIfAborted(signal);
    const name = engine.model.kind === 'name' ? engine.model.name : engine.model.kind === 'embedded' ? 'aim-tiny' : 'model in memory';
    const progress = new Progress(name, (event) => {
      try {
        report?.(event);
      } catch (error) {
        // The caller's defect is told, and costs no model.
        (globalThis.reportError ?? console.error)(error);
      }
    });
    const take = progress.take.bind(progress);
    if (worker === true && typeof Worker !== 'function') {
      throw new AimError('option', 'worker: true is not possible here: this runtime has no Worker. Leave it out or pass false');
    }
    const started = (worker ?? hasWorker())
      ? await RemoteEngine.load(engine, take, signal)
      : await (await import('./local.js')).LocalEngine.load(engine, take, signal);
    progress.ready();
    return new AimClassifier(started);
  }

  /** `webgpu`, or `wasm` for the CPU. It changes when a lost GPU is replaced by the CPU. */
  get device(): 'webgpu' | 'wasm' {
    return this.info.device;
  }

  /** How the weights are held. */
  get dtype(): string {
    return this.info.dtype;
  }

  /** What it runs on, why, and what the load took. */
  get info(): AimInfo {
    return { ...this.#engine.info };
  }

  /** The names of the classes, by their index. */
  get labels(): string[] {
    return [...this.#engine.labels];
  }

  /**
   * Names a picture: the `top_k` best labels, best first. An array of pictures gives an array of results.
   *
   * A picture file is decoded by the browser, which turns it as its EXIF orientation says.
   */
  classify(image: ImageInput, options?: ClassifyOptions): Promise<Classification[]>;
  classify(images: readonly ImageInput[], options?: ClassifyOptions): Promise<Classification[][]>;
  async classify(image: ImageInput | readonly ImageInput[], options?: ClassifyOptions): Promise<Classification[] | Classification[][]> {
    const { topK, signal } = classifyOptions(options);
    return this.#each(image, signal, (frame) => this.#engine.classify(frame, topK, signal));
  }

  /** The raw scores of all classes, before the softmax. */
  logits(image: ImageInput, options?: { signal?: AbortSignal | undefined }): Promise<Float32Array>;
  logits(images: readonly ImageInput[], options?: { signal?: AbortSignal | undefined }): Promise<Float32Array[]>;
  async logits(image: ImageInput | readonly ImageInput[], options?: { signal?: AbortSignal | undefined }): Promise<Float32Array | Float32Array[]> {
    const { signal } = classifyOptions(options);
    return this.#each(image, signal, (frame) => this.#engine.logits(frame, signal));
  }

  /** The outputs of blocks: `{ data, dims: [layers, patches, channels] }`. */
  features(image: ImageInput, options?: FeatureOptions): Promise<Features>;
  features(images: readonly ImageInput[], options?: FeatureOptions): Promise<Features[]>;
  async features(image: ImageInput | readonly ImageInput[], options?: FeatureOptions): Promise<Features | Features[]> {
    const { layers, signal } = featureOptions(options, this.#engine.info.blocks);
    return this.#each(image, signal, async (frame) => join(await this.#engine.features(frame, layers, signal)));
  }

  /**
   * Names the frame that a video shows now. Call it as often as frames come: one is at work at a time,
   * one waits, and a newer one takes the waiting one's place, which resolves to null.
   *
   * @param timestamp - Comes back with the result; the clock's time by default.
   */
  async classifyForVideo(video: ImageInput, timestamp?: number, options?: ClassifyOptions): Promise<VideoClassification | null> {
    this.#check();
    if (timestamp !== undefined && !Number.isFinite(timestamp)) throw new AimError('option', `timestamp: ${String(timestamp)} is not valid: it must be a number`);
    const checked = classifyOptions(options);
    throwIfAborted(checked.signal);
    const frame = orAbort(checked.signal, capture(video), release);
    // Whoever takes the frame sees the error; until then it is not "unhandled".
    frame.catch(() => undefined);
    return this.#video.push({ frame, timestamp: timestamp ?? performance.now(), options: checked });
  }

  /** Frees the device and the memory. What is under way rejects with code `disposed`. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = disposed();
    this.#video.clear();
    await this.#engine.dispose();
  }

  /** @internal For tests: as if the GPU went away. */
  async destroyDevice(): Promise<void> {
    this.#check();
    await this.#engine.destroyDevice();
  }

  #check(): void {
    if (this.#disposed) throw this.#disposed;
  }

  async #each<T>(image: ImageInput | readonly ImageInput[], signal: AbortSignal | undefined, work: (frame: Frame) => Promise<T>): Promise<T | T[]> {
    const one = async (input: unknown): Promise<T> => {
      this.#check();
      throwIfAborted(signal);
      const frame = await orAbort(signal, capture(input), release);
      if (!this.#disposed) return work(frame);
      release(frame);
      throw this.#disposed;
    };
    if (!Array.isArray(image)) return one(image);
    // One after the other: a hundred pictures at once would all be in memory together.
    const results: T[] = [];
    for (const input of image) results.push(await one(input));
    return results;
  }
}

function join(layers: { data: Float32Array; dims: number[] }[]): Features {
  const rows = layers[0]!.dims.slice(-2);
  if (layers.length === 1) return { data: layers[0]!.data, dims: [1, ...rows] };
  const data = new Float32Array(layers.reduce((sum, layer) => sum + layer.data.length, 0));
  let at = 0;
  for (const layer of layers) {
    data.set(layer.data, at);
    at += layer.data.length;
  }
  return { data, dims: [layers.length, ...rows] };
}
