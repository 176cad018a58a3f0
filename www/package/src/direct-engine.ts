import { Alarm, orAbort } from './abort.js';
import { concat } from './concat.js';
import { settled, unlessTrap } from './crash.js';
import { type Build, type Choice, choose, chooseCpu } from './device.js';
import type { AddedHead, Engine } from './engine.js';
import { AimError, type AimErrorCode, abortReason, codeOf, disposed, isTrap, messageOf, throwIfAborted, toError } from './errors.js';
import { fetchBlob } from './frames/fetch-blob.js';
import { type Frame, type LocalFrame, release } from './frames/frame.js';
import { type Decoder, pixels } from './frames/pixels.js';
import type { Classification, GlueClassifier, GlueLesson, GlueLoadOptions, GlueTaught, RawProgress, TrainProgress } from './glue.js';
import type { AimInfo } from './info.js';
import { EMBEDDED_ADDRESS, type Source, source } from './model.js';
import type { Device, EngineOptions, ModelFiles } from './options.js';
import { type Instance, MODEL_LIMIT, hasBundledGlue, instance } from './runtime.js';
import { Turns } from './turns.js';

/** Something of the machine gave out, not of the model or the network: another device may do. */
const DEVICE_CODES = new Set<unknown>(['unsupported', 'device_lost', 'out_of_memory']);

interface Loaded {
  choice: Choice;
  instance: Instance;
  classifier: GlueClassifier;
  /** The same trunk under heads that were added. */
  heads: Map<number, GlueClassifier>;
  /** Rings when the GPU goes. */
  lost: Alarm;
  /** Its last words, once its classifier is freed. */
  gone?: AimInfo;
}

/** The model in this thread. */
export class DirectEngine implements Engine {
  readonly #options: EngineOptions;
  /** Where the model is; nothing once it is on the processor, which is never lost. */
  #source: Source | undefined;
  readonly #turns = new Turns();
  /** The files of heads that were added, for a device that is rebuilt. */
  readonly #heads = new Map<number, Uint8Array>();
  /** Rings when it is over, for whatever reason: what waits then ends in that. */
  readonly #over = new Alarm();
  readonly #changed: ((info: AimInfo) => void) | undefined;
  #loaded!: Loaded;
  #recovery: Promise<void> | undefined;
  #rebuilt = false;
  #labels: string[] = [];

  private constructor(options: EngineOptions, changed?: (info: AimInfo) => void) {
    this.#options = options;
    this.#source = source(options);
    this.#changed = changed;
  }

  /** Opens the device, loads the model, warms it up. `changed` is called when another device took over. */
  static async load(options: EngineOptions, report: (event: RawProgress) => void, signal?: AbortSignal, changed?: (info: AimInfo) => void): Promise<DirectEngine> {
    const engine = new DirectEngine(options, changed);
    try {
      throwIfAborted(signal);
      await orAbort(signal, engine.#begin(report));
      return engine;
    } catch (error) {
      // What still goes on ends too.
      engine.#over.ring(error);
      throw error;
    }
  }

  async #begin(report: (event: RawProgress) => void): Promise<void> {
    const { device, threads } = this.#options;
    const choice = hasBundledGlue() ? bundledChoice(device) : await choose(device, threads);
    try {
      await this.#open(choice, report);
    } catch (error) {
      if (this.#over.aborted || device !== 'auto' || choice.build !== 'webgpu' || !DEVICE_CODES.has(codeOf(error))) throw error;
      await this.#open(chooseCpu(`WebGPU failed: ${messageOf(error)}`, threads), report);
    }
    this.#labels = this.#loaded.classifier.labels();
  }

  /** The instance of the wanted build, or of the next best where that one is not served. */
  async #start(wanted: Choice): Promise<{ choice: Choice; running: Instance }> {
    const { device, threads } = this.#options;
    for (let choice = wanted; ; ) {
      try {
        return { choice, running: await instance(choice.build, this.#options, this.#over) };
      } catch (error) {
        // Threads may fail in many ways: a page forbids the workers, an address space has no room for shared memory.
        if (codeOf(error) !== 'not_found' && choice.build !== 'cpu-threads') throw toError(error, 'unsupported');
        if (choice.build === 'webgpu' && device === 'auto') choice = chooseCpu('the WebGPU build is not served here', threads);
        else if (choice.build === 'cpu-threads') choice = { ...choice, build: 'cpu-relaxed' };
        else if (choice.build === 'cpu-relaxed') choice = { ...choice, build: 'cpu' };
        else throw error;
      }
    }
  }

  async #open(wanted: Choice, report?: (event: RawProgress) => void): Promise<void> {
    const over = this.#over;
    const { device, cache, warmup, ...rest } = this.#options;
    const from = this.#source!;
    const { choice, running } = await this.#start(wanted);
    // An abort of its own, so that a model over the runtime's limit ends before its bytes arrive.
    const stop = new AbortController();
    const options: GlueLoadOptions = {
      model: from.address,
      dtype: rest.dtype,
      cache: cache && from.cacheable,
      warmup,
      allowSoftware: device === 'webgpu',
      signal: stop.signal,
      ...rest.timeouts,
      fetch: from.fetch,
      embedded: EMBEDDED_ADDRESS,
      onProgress: (event) => {
        const { status, total = 0 } = event;
        if (status === 'progress_total' && total > MODEL_LIMIT) {
          stop.abort(new AimError('out_of_memory', `${Math.ceil(total / 2 ** 20)} MiB of weights don't fit this runtime's 128 MB: at most ${MODEL_LIMIT / 2 ** 20} do`));
        }
        report?.(event);
      },
    };
    const given = { ...rest, trunk: from.trunk };
    for (const key of ['head', 'trunk', 'probeLayers', 'arch', 'revision', 'endpoint', 'token'] as const) {
      if (given[key] !== undefined) Object.assign(options, { [key]: given[key] });
    }
    let classifier: GlueClassifier;
    // A load that was past its last check still ends in a model, which nobody wants then.
    const free = (late: GlueClassifier) => late.free();
    try {
      classifier = await orAbort(over, orAbort(stop.signal, unlessTrap(running.glue.Classifier.load(options)), free), free);
    } catch (error) {
      if (over.aborted) stop.abort(abortReason(over));
      if (stop.signal.aborted) throw abortReason(stop.signal);
      // A trap, now or before: whoever loads next gets a fresh instance.
      if (isTrap(error) || codeOf(error) === 'device_lost') running.poison();
      throw toError(error, isTrap(error) ? running.trapCode() : 'device_lost');
    }
    const loaded: Loaded = { choice, instance: running, classifier, heads: new Map(), lost: new Alarm() };
    this.#loaded = loaded;
    if (choice.build !== 'webgpu') {
      const { model, trunk } = this.#options as Partial<Record<'model' | 'trunk', { files?: ModelFiles }>>;
      delete model?.files;
      delete trunk?.files;
      this.#source = undefined;
      return;
    }
    const gone = (reason: unknown) => {
      const error = toError(reason, 'device_lost');
      loaded.lost.ring(error);
      if (!over.aborted) this.#recover(loaded, error).catch(() => undefined);
    };
    classifier.lost().then(gone, gone);
  }

  get info(): AimInfo {
    const { choice, instance, classifier, gone } = this.#loaded;
    if (gone) return gone;
    const { imgSize, device: _, adapter, ...info } = classifier.info();
    return {
      ...info,
      adapter: adapter || (choice.adapter ?? ''),
      model: this.#options.model.name,
      device: choice.build === 'webgpu' ? 'webgpu' : 'wasm',
      build: choice.build,
      threads: instance.threads,
      reason: choice.reason,
      imageSize: imgSize,
      worker: false,
    };
  }

  get labels(): string[] {
    return this.#labels;
  }

  classify(frames: Frame[], topK: number, head?: number, signal?: AbortSignal): Promise<Classification[][]> {
    return this.#run(frames, signal, (model, images) => model.classify(images, topK), head);
  }

  logits(frames: Frame[], head?: number, signal?: AbortSignal): Promise<Float32Array[]> {
    return this.#run(frames, signal, (model, images) => model.logits(images), head);
  }

  tokens(frames: Frame[], signal?: AbortSignal): Promise<Uint16Array[]> {
    return this.#run(frames, signal, (model, images) => model.tokens(images));
  }

  /** Out of turn: it leaves the thread free now and then, and pictures go on being named. */
  async teach(lesson: GlueLesson, onProgress: (event: TrainProgress) => void, signal: AbortSignal): Promise<GlueTaught> {
    return orAbort(this.#over, this.#onDevice(signal, ({ classifier }) => classifier.teach({ ...lesson, signal, onProgress })));
  }

  async addHead(head: number, file: Uint8Array): Promise<AddedHead> {
    this.#heads.set(head, file);
    return this.#onDevice(undefined, async (loaded) => {
      const taught = this.#headed(loaded, head);
      return { labels: taught.labels(), compact: taught.compactHead() };
    });
  }

  removeHead(head: number): void {
    this.#heads.delete(head);
    const { heads } = this.#loaded;
    // What a trap ended is not touched any more.
    if (!this.#over.aborted) heads.get(head)?.free();
    heads.delete(head);
  }

  /** The trunk of a device under a head; without a head, its own. */
  #headed({ classifier, heads }: Loaded, head: number | undefined): GlueClassifier {
    if (head === undefined) return classifier;
    let there = heads.get(head);
    const file = this.#heads.get(head);
    if (!file) throw disposed();
    if (!there) heads.set(head, (there = classifier.withHead(file)));
    return there;
  }

  features(frames: Frame[], layers: number[], signal?: AbortSignal): Promise<{ data: Float32Array; dims: number[] }[]> {
    return this.#run(frames, signal, (model, images) => model.features(images, Uint32Array.from(layers)));
  }

  async peak(signal?: AbortSignal): Promise<number> {
    return this.#run([], signal, (model) => model.peak());
  }

  dispose(): void {
    if (this.#over.aborted) return;
    this.#over.ring(disposed());
    this.#free(this.#loaded, this.#over.reason);
  }

  /** One request after the other: the model has one device. */
  async #run<T>(frames: Frame[], signal: AbortSignal | undefined, work: (model: GlueClassifier, images: Float32Array) => Promise<T>, head?: number): Promise<T> {
    const answer = async () => {
      const here = await Promise.all(frames.map((frame) => (frame.kind === 'url' ? this.#fetch(frame, signal) : frame)));
      return this.#turns.take(signal, async () => {
        const images: Float32Array[] = [];
        return this.#onDevice(signal, async (loaded) => {
          const { classifier } = loaded;
          // One picture at a time is in memory as a whole.
          while (images.length < here.length) {
            const { data, width, height } = await pixels(here[images.length]!, this.#decoder);
            images.push(classifier.prepare(data, width, height));
          }
          return work(this.#headed(loaded, head), concat(images));
        });
      });
    };
    try {
      return await orAbort(this.#over, answer());
    } finally {
      frames.forEach(release);
    }
  }

  /** Work on the device, and once more on the next one if that is lost. */
  async #onDevice<T>(signal: AbortSignal | undefined, work: (loaded: Loaded) => Promise<T>): Promise<T> {
    for (;;) {
      await this.#recovery;
      throwIfAborted(this.#over);
      throwIfAborted(signal);
      const loaded = this.#loaded;
      try {
        return await unlessTrap(orAbort(loaded.lost, work(loaded)));
      } catch (error) {
        const stopped = isTrap(error) || codeOf(error) === 'device_lost';
        if (!stopped || this.#over.aborted) throw signal?.aborted ? abortReason(signal) : toError(error, 'unsupported');
        // A processor is not lost: there it is the wasm module that stopped.
        if (loaded.choice.build !== 'webgpu') throw this.#trap(loaded.instance, error);
        await this.#recover(loaded, error);
      }
    }
  }

  /** The picture at a URL. Outside the turns: whose picture is here does not wait for a network. */
  async #fetch(frame: Frame & { kind: 'url' }, signal: AbortSignal | undefined): Promise<LocalFrame> {
    const stop = new AbortController();
    try {
      // Errors name the address, not megabytes of data.
      return { ...frame, kind: 'blob', url: frame.url.slice(0, 300), blob: await orAbort(signal, orAbort(this.#over, fetchBlob(frame.url, stop, this.#options.timeouts.stall))) };
    } finally {
      // What may still come is for nobody.
      stop.abort();
    }
  }

  #decoder: Decoder = async (bytes, isJpeg) => {
    const { instance: own } = this.#loaded;
    const where = isJpeg ? own : await instance('pictures', this.#options, this.#over);
    try {
      return isJpeg ? where.glue.decodeJpeg!(bytes) : where.glue.decodePicture!(bytes);
    } catch (error) {
      if (isTrap(error)) {
        if (isJpeg) throw this.#trap(where, error);
        where.poison();
      }
      throw toError(error, 'image');
    }
  };

  #free(loaded: Loaded, why: unknown): void {
    loaded.lost.ring(why);
    if (loaded.gone) return;
    try {
      loaded.gone = this.info;
      for (const taught of loaded.heads.values()) taught.free();
      loaded.classifier.free();
    } catch {
      // A read of a dead device may still hold it; the memory goes with the instance.
    } finally {
      // Who takes one away later finds none to free.
      loaded.heads.clear();
    }
  }

  /** After a trap nothing in the instance can be trusted: this classifier ends, the next one gets a fresh instance. */
  #trap(where: Instance, cause: unknown): unknown {
    where.poison();
    const code: AimErrorCode = isTrap(cause) ? where.trapCode() : 'device_lost';
    this.#over.ring(new AimError(code, `the engine stopped ${code === 'out_of_memory' ? 'for want of memory' : 'after an internal error'} (${messageOf(cause)}): make a new classifier by AimClassifier.fromPretrained()`, { cause }));
    return this.#over.reason;
  }

  /** Builds the device again: once on the GPU, then on the CPU. */
  #recover(from: Loaded, cause: unknown): Promise<void> {
    if (this.#loaded !== from) return Promise.resolve();
    this.#recovery ??= (async () => {
      const again: Choice[] = [chooseCpu(`the GPU was lost: ${messageOf(cause)}`, this.#options.threads)];
      if (!this.#rebuilt) again.unshift({ ...from.choice, reason: 'rebuilt after the GPU was lost' });
      this.#rebuilt = true;
      // A read that was pending may have trapped, now or in a moment: the next device gets an instance of its own.
      from.instance.poison();
      this.#free(from, cause);
      await settled();
      let last: unknown = cause;
      for (const choice of again) {
        try {
          await this.#open(choice);
          this.#changed?.(this.info);
          return;
        } catch (error) {
          throwIfAborted(this.#over);
          last = error;
        }
      }
      this.#over.ring(new AimError('device_lost', `the GPU was lost and nothing could take over: ${messageOf(last)}`, { cause: last }));
      throw this.#over.reason;
    })().finally(() => {
      this.#recovery = undefined;
    });
    return this.#recovery;
  }
}

function bundledChoice(device: Device): Choice {
  if (device === 'webgpu') throw new AimError('unsupported', "device 'webgpu': this runtime runs the CPU build only");
  const build: Build = 'cpu';
  return { build, reason: 'the build for this runtime' };
}
