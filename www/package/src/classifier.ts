/// <reference lib="esnext.disposable" preserve="true" />
import { Alarm, orAbort } from './abort.js';
import { concat } from './concat.js';
import { DirectEngine } from './direct-engine.js';
import type { Engine } from './engine.js';
import { AimError, type AimErrorCode, disposed, lazy, messageOf, notify, throwIfAborted } from './errors.js';
import { type ImageInput, capture } from './frames/capture.js';
import { fetchBlob } from './frames/fetch-blob.js';
import { type Frame, release } from './frames/frame.js';
import { SMALL } from './frames/limits.js';
import type { View } from './frames/view.js';
import type { Classification } from './glue.js';
import type { AimInfo } from './info.js';
import type { Measurement } from './measure.js';
import {
  type ClassifyOptions,
  type EngineOptions,
  type FeatureOptions,
  type LoadOptions,
  type MeasureOptions,
  type Model,
  type TeachOptions,
  type ViewOptions,
  classifyOptions,
  featureOptions,
  loadOptions,
  viewOptions,
  bad,
} from './options.js';
import type { Lesson } from './lesson.js';
import { Progress } from './progress.js';
import { type Teacher, loadTeach, teach } from './teacher.js';
import { tools } from './tools.js';
import { Turns } from './turns.js';
import { WorkerEngine, hasWorker } from './worker-engine.js';

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

/** So many pictures of an array run as one: more would take memory, and bring little. */
const BATCH = SMALL ? 1 : 4;

/** Codes of errors that are one picture's fault, not the engine's. */
const OF_A_PICTURE: readonly AimErrorCode[] = ['image', 'network', 'not_found'];

/** One picture or several. */
type Images = ImageInput | readonly ImageInput[];

/** Ends engines whose classifier nobody holds any more. workerd may lack it. */
const forgotten = typeof FinalizationRegistry === 'function' ? new FinalizationRegistry<Engine>((engine) => engine.dispose()) : undefined;

/** Of the class below; a symbol of its own would be one too many for engines without it. */
export interface AimClassifier extends AsyncDisposable {}

/** A model that is ready to name pictures. */
export class AimClassifier {
  readonly #engine: Engine;
  readonly #note: string;
  /** What the classifier of a lesson's head stands on: kept for as long as it is. */
  readonly #below: AimClassifier | undefined;
  /** What of the load is asked for later: the trunk's name in files of heads, how long a server may be silent. */
  readonly #asked: Teacher['trunk'] & Pick<EngineOptions, 'timeouts'>;
  readonly #video = new Turns();
  /** The frame of a video that waits: fires when a newer one takes its place. */
  #waiting: AbortController | undefined;
  readonly #over = new Alarm();

  private constructor(engine: Engine, note: string, trunk: Teacher['trunk'] & Pick<EngineOptions, 'timeouts'>, below?: AimClassifier) {
    this.#engine = engine;
    this.#note = note;
    this.#asked = trunk;
    this.#below = below;
    forgotten?.register(this, engine);
  }

  /**
   * Loads a model and makes it ready: the device is open, the weights are on it, and it has run once.
   *
   * @param model - Nothing for the model that ships with this package, a hub name (`user/repo`), the URL
   * of a folder that holds `config.json` and the weights, an object of files in memory, or the Blob of a lesson.
   * @throws AimError, or the signal's reason if it was aborted.
   */
  static async fromPretrained(model?: Model | null, options?: LoadOptions): Promise<AimClassifier> {
    // A head brings the name of its trunk.
    const taught = typeof (model as Blob | undefined)?.stream === 'function' ? await (await loadTeach()).taught(model as Blob, options) : { model, options, head: undefined };
    const { engine, worker, signal, report } = loadOptions(taught.model, taught.options);
    engine.head = taught.head;
    throwIfAborted(signal);
    const progress = new Progress(engine.model.name, (event) => notify(report, event));
    const take = progress.take.bind(progress);
    if (worker === true && typeof Worker !== 'function') {
      throw new AimError('option', 'worker: true: this runtime has no Worker. Leave it out');
    }
    let note = '';
    let started: WorkerEngine | undefined;
    if (worker ?? hasWorker()) {
      try {
        started = await WorkerEngine.start(engine.timeouts.stall, signal);
      } catch (error) {
        if (worker || signal?.aborted) throw error;
        note = `; in the page's own thread, because ${messageOf(error)}`;
      }
    }
    const ready = await (started ? started.load(engine, take, signal) : DirectEngine.load(engine, take, signal));
    progress.ready();
    // Not the model's files, which are its engine's.
    const { arch, revision, timeouts } = engine;
    return new AimClassifier(ready, note, { arch, revision, timeouts, name: (engine.trunk ?? engine.model).name });
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
    const { info } = this.#engine;
    return { ...info, reason: info.reason + this.#note };
  }

  /** The names of the classes, by their index. */
  get labels(): string[] {
    return [...this.#engine.labels];
  }

  /**
   * Names a picture: the `top_k` best labels, best first. An array of pictures gives an array of results,
   * and runs in batches.
   *
   * A JPEG file of up to 4 million pixels that is not turned by its EXIF orientation is decoded as natively; other
   * files are decoded by the browser, which turns them.
   */
  classify(image: ImageInput, options?: ClassifyOptions): Promise<Classification[]>;
  classify(images: readonly ImageInput[], options: ClassifyOptions & { onerror: 'null' }): Promise<(Classification[] | null)[]>;
  classify(images: readonly ImageInput[], options?: ClassifyOptions): Promise<Classification[][]>;
  classify(images: Images, options?: ClassifyOptions): Promise<Classification[] | Classification[][]>;
  async classify(images: Images, options?: ClassifyOptions): Promise<Classification[] | (Classification[] | null)[]> {
    const checked = classifyOptions(options);
    const work = (images: Images) => this.#each(images, checked, (frames) => this.#name(frames, checked));
    if (!checked.nulls || !Array.isArray(images)) return work(images);
    const results: (Classification[] | null)[] = [];
    for (const image of images as readonly ImageInput[]) {
      results.push(
        await (work(image) as Promise<Classification[]>).catch((error: unknown) => {
          if (error instanceof AimError && OF_A_PICTURE.includes(error.code)) return null;
          throw error;
        }),
      );
    }
    return results;
  }

  /** The raw scores of all classes, before the softmax. */
  logits(image: ImageInput, options?: ViewOptions): Promise<Float32Array>;
  logits(images: readonly ImageInput[], options?: ViewOptions): Promise<Float32Array[]>;
  logits(images: Images, options?: ViewOptions): Promise<Float32Array | Float32Array[]>;
  async logits(images: Images, options?: ViewOptions): Promise<Float32Array | Float32Array[]> {
    const checked = viewOptions(options);
    return this.#each(images, checked, (frames) => this.#engine.logits(frames, undefined, checked.signal));
  }

  /** The outputs of blocks: `{ data, dims: [layers, patches, channels] }`. */
  features(image: ImageInput, options?: FeatureOptions): Promise<Features>;
  features(images: readonly ImageInput[], options?: FeatureOptions): Promise<Features[]>;
  features(images: Images, options?: FeatureOptions): Promise<Features | Features[]>;
  async features(images: Images, options?: FeatureOptions): Promise<Features | Features[]> {
    const checked = featureOptions(options, this.#engine.info.blocks);
    return this.#each(images, checked, async (frames) => join(await this.#engine.features(frames, checked.layers, checked.signal)));
  }

  /** One vector for a picture: the mean of its `features` over layers and patches. See `cosineSimilarity`. */
  embed(image: ImageInput, options?: FeatureOptions): Promise<Float32Array>;
  embed(images: readonly ImageInput[], options?: FeatureOptions): Promise<Float32Array[]>;
  embed(images: Images, options?: FeatureOptions): Promise<Float32Array | Float32Array[]>;
  async embed(images: Images, options?: FeatureOptions): Promise<Float32Array | Float32Array[]> {
    const features = await this.features(images, options);
    return Array.isArray(features) ? features.map(pool) : pool(features);
  }

  /**
   * Names the frame that a video shows now. Call it as often as frames come: one is at work at a time,
   * one waits, and a newer one takes the waiting one's place, which resolves to null.
   *
   * @param timestamp - Comes back with the result; the clock's time by default.
   */
  async classifyForVideo(video: ImageInput, timestamp = performance.now(), options?: ClassifyOptions): Promise<VideoClassification | null> {
    throwIfAborted(this.#over);
    if (!Number.isFinite(timestamp)) bad('timestamp', timestamp, 'a number');
    const checked = classifyOptions(options);
    throwIfAborted(checked.signal);
    const frame = this.#capture(video, checked);
    // Whoever takes the frame sees the error; until then it is not "unhandled".
    frame.catch(() => undefined);
    this.#waiting?.abort();
    const mine = (this.#waiting = new AbortController());
    let taken = false;
    const turn = this.#video.take(mine.signal, async () => {
      taken = true;
      if (this.#waiting === mine) this.#waiting = undefined;
      const start = performance.now();
      const [labels] = await this.#name([await frame], checked);
      return Object.assign(labels!, { timestamp, ms: performance.now() - start });
    });
    try {
      return await orAbort(this.#over, orAbort(checked.signal, turn));
    } catch (error) {
      if (!taken) void frame.then(release, () => undefined);
      if (mine.signal.aborted && error === mine.signal.reason) return null;
      // One that nobody waits for is never begun.
      mine.abort();
      throw error;
    }
  }

  /**
   * Measures how fast batches run here: from small to large, as what each takes of the memory is what it adds. It keeps the
   * device busy for some seconds.
   */
  async measure(options?: MeasureOptions): Promise<Measurement[]> {
    throwIfAborted(this.#over);
    // Hardly a page needs it.
    const { measure } = await lazy(import('./measure.js'));
    const rows = await measure(this.#engine, options, this.#over, tools);
    // Holds this classifier for so long: an engine whose classifier nobody holds is ended.
    throwIfAborted(this.#over);
    return rows;
  }

  /**
   * Begins a lesson: classes of one's own on the trunk of this model, from a few pictures each.
   *
   * ```ts
   * const lesson = aim.teach();
   * await lesson.add('thumb up', image);
   * const { accuracy } = await lesson.train();
   * const [best] = await lesson.classifier.classify(another);
   * ```
   */
  teach(options?: TeachOptions): Lesson {
    throwIfAborted(this.#over);
    return teach(
      {
        engine: this.#engine,
        trunk: this.#asked,
        adopt: (engine) => new AimClassifier(engine, this.#note, this.#asked, this.#below ?? this),
        each: async (images, options, work) => {
          const checked = viewOptions(options);
          return this.#each(images, checked, (frames) => work(frames, checked.signal));
        },
      },
      options,
    );
  }

  /** Frees the device and the memory. What is under way rejects with code `disposed`. */
  async dispose(): Promise<void> {
    this.#over.ring(disposed());
    this.#engine.dispose();
  }

  async #name(frames: Frame[], { topK, keep, signal }: ReturnType<typeof classifyOptions>): Promise<Classification[][]> {
    const all = await this.#engine.classify(frames, keep ? this.#engine.labels.length : topK, undefined, signal);
    return keep ? all.map((labels) => labels.filter(keep).slice(0, topK)) : all;
  }

  async #capture(input: unknown, { view, signal }: { view: View | undefined; signal: AbortSignal | undefined }): Promise<Frame> {
    const stop = new AbortController();
    try {
      const frame = await orAbort(this.#over, orAbort(signal, capture(input, (url) => fetchBlob(url, stop, this.#asked.timeouts.stall), stop.signal), release), release);
      return view ? { ...frame, view } : frame;
    } finally {
      // What may still come is for nobody.
      stop.abort();
    }
  }

  async #each<T>(images: Images, checked: { view: View | undefined; signal: AbortSignal | undefined }, work: (frames: Frame[]) => Promise<T[]>): Promise<T | T[]> {
    const list: readonly unknown[] = Array.isArray(images) ? images : [images];
    const results: T[] = [];
    for (let at = 0; at < list.length; at += BATCH) {
      throwIfAborted(this.#over);
      throwIfAborted(checked.signal);
      const taken = await Promise.allSettled(list.slice(at, at + BATCH).map((input) => this.#capture(input, checked)));
      const frames = taken.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
      const bad = taken.find((one) => one.status === 'rejected');
      if (bad) {
        frames.forEach(release);
        throw bad.reason;
      }
      results.push(...(await work(frames)));
    }
    return Array.isArray(images) ? results : results[0]!;
  }
}

// `await using aim = await AimClassifier.fromPretrained()`, where the engine knows it.
if (Symbol.asyncDispose) {
  AimClassifier.prototype[Symbol.asyncDispose] = AimClassifier.prototype.dispose;
}

/** Layers of a batch, as the features of each of its pictures. */
function join(layers: { data: Float32Array; dims: number[] }[]): Features[] {
  const [pictures, ...rows] = layers[0]!.dims as [number, number, number];
  const size = layers[0]!.data.length / pictures;
  return Array.from({ length: pictures }, (_, i) => ({
    // Copies: who passes one on to a worker still has the others.
    data: concat(layers.map(({ data }) => data.slice(i * size, (i + 1) * size))),
    dims: [layers.length, ...rows],
  }));
}

/** The mean row. */
function pool({ data, dims }: Features): Float32Array {
  const channels = dims[2]!;
  const sums = new Float64Array(channels);
  data.forEach((value, i) => (sums[i % channels]! += value));
  return Float32Array.from(sums, (sum) => (sum * channels) / data.length);
}

/** How alike two vectors of `embed` are: 1 for the same direction, 0 for nothing in common. */
export function cosineSimilarity(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length || a.length === 0) throw new AimError('option', `vectors of ${a.length} and ${b.length} numbers can't be compared`);
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}
